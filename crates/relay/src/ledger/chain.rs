//! The hub's chain in its ledger: each commit with its link, what is lost since as well.

use estafet_model::{ChainHead, ChainId, ChainLink, NodeId, RecordReceipt, SigningKey};
use rusqlite::{Connection, OptionalExtension, Transaction, params};

use super::schema::{COLUMNS, TABLES};
use super::{Commit, Ledger, LedgerError, commit_of_row, signed, unsigned};

/// Commits that are read at a time, so that feeding goes on in between.
const PAGE: u32 = 1_000;

impl Ledger {
    /// Says of which chain the archive is, before anything is fed. If the ledger was of another one, its links are made
    /// anew.
    pub(crate) fn set_chain(&self, hub: NodeId, id: ChainId) -> Result<(), LedgerError> {
        let head = self.answer(move |connection| set_chain(connection, &hub, id))?;
        self.head.send_replace(Some(head));
        Ok(())
    }

    /// What was published is not the history of this archive: it is told as another chain from now on.
    pub(crate) fn begin_chain(&self, hub: NodeId, id: ChainId) {
        let head = self.head.clone();
        self.run(move |connection| match set_chain(connection, &hub, id) {
            Ok(newest) => drop(head.send_replace(Some(newest))),
            Err(error) => {
                tracing::error!(%error, "the ledger was not written; it is brought in order at the next start");
            }
        });
    }

    /// How far the chain has come, as it was last written. None before it is known which chain it is.
    pub(crate) fn head(&self) -> Option<ChainHead> {
        *self.head.borrow()
    }

    /// True if this head is on the chain.
    pub(crate) async fn has_head(&self, hub: NodeId, head: ChainHead) -> Result<bool, LedgerError> {
        self.ask(move |connection| Ok(head_at(connection, &hub, head.sequence)? == Some(head))).await
    }

    /// Everything that was ever committed, from a number on, one page of it.
    pub(crate) async fn chained_from(&self, hub_sequence: u64) -> Result<Vec<Commit>, LedgerError> {
        self.ask(move |connection| chained_from(connection, hub_sequence)).await
    }

    /// A receipt for a commit; none if its link is not to be found, which is a fault of the ledger.
    pub(crate) async fn receipt(
        &self,
        commit: Commit,
        hub: NodeId,
        key: SigningKey,
    ) -> Result<Option<RecordReceipt>, LedgerError> {
        self.ask(move |connection| {
            let Some(before) = head_at(connection, &hub, commit.hub_sequence - 1)? else { return Ok(None) };
            // A ledger that was meddled with is found here before anything is signed.
            let is_on_chain = before.with(&commit.chained()).link == commit.link;
            Ok(is_on_chain.then(|| RecordReceipt::sign(hub, before, commit.chained(), &key)))
        })
        .await
    }
}

pub(super) fn head(connection: &Connection) -> rusqlite::Result<Option<ChainHead>> {
    let row = |row: &rusqlite::Row<'_>| {
        Ok(ChainHead {
            chain: ChainId::from_bytes(row.get(0)?),
            sequence: unsigned(row.get(1)?),
            link: ChainLink::from_bytes(row.get(2)?),
        })
    };
    connection.prepare_cached("SELECT id, sequence, link FROM chain")?.query_row([], row).optional()
}

pub(super) fn set_head(connection: &Connection, head: &ChainHead) -> rusqlite::Result<()> {
    let set = "INSERT OR REPLACE INTO chain (only_row, id, sequence, link) VALUES (1, ?1, ?2, ?3)";
    let row = params![head.chain.as_bytes(), signed(head.sequence), head.link.as_bytes()];
    connection.prepare_cached(set)?.execute(row).map(drop)
}

fn set_chain(connection: &mut Connection, hub: &NodeId, id: ChainId) -> rusqlite::Result<ChainHead> {
    if let Some(head) = head(connection)?.filter(|head| head.chain == id) {
        return Ok(head);
    }
    let transaction = connection.transaction()?;
    let head = link_all(&transaction, ChainHead::first(hub, id))?;
    set_head(&transaction, &head)?;
    transaction.commit()?;
    Ok(head)
}

/// Makes all links anew, behind this head. Numbers have no gaps: they are given in one place, and no row is ever dropped.
fn link_all(transaction: &Transaction<'_>, mut head: ChainHead) -> rusqlite::Result<ChainHead> {
    loop {
        let page = chained_from(transaction, head.sequence + 1)?;
        if page.is_empty() {
            return Ok(head);
        }
        for commit in page {
            head = ChainHead {
                sequence: commit.hub_sequence,
                link: head.link.with(commit.hub_sequence, &commit.chained()),
                ..head
            };
            for table in TABLES {
                let update = format!("UPDATE {table} SET link = ?2 WHERE hub_sequence = ?1");
                let row = params![signed(commit.hub_sequence), head.link.as_bytes()];
                transaction.prepare_cached(&update)?.execute(row)?;
            }
        }
    }
}

fn chained_from(connection: &Connection, hub_sequence: u64) -> rusqlite::Result<Vec<Commit>> {
    let parts = TABLES.map(|table| format!("SELECT {COLUMNS} FROM {table} WHERE hub_sequence >= ?1"));
    let all = format!("{} ORDER BY hub_sequence LIMIT ?2", parts.join(" UNION ALL "));
    let mut statement = connection.prepare_cached(&all)?;
    statement.query_map(params![signed(hub_sequence), PAGE], commit_of_row)?.collect()
}

/// How far the chain had come with this number; none if it has not come there.
fn head_at(connection: &Connection, hub: &NodeId, sequence: u64) -> rusqlite::Result<Option<ChainHead>> {
    let Some(ChainHead { chain, .. }) = head(connection)? else { return Ok(None) };
    if sequence == 0 {
        return Ok(Some(ChainHead::first(hub, chain)));
    }
    let parts = TABLES.map(|table| format!("SELECT link FROM {table} WHERE hub_sequence = ?1"));
    let mut statement = connection.prepare_cached(&parts.join(" UNION ALL "))?;
    let link = statement.query_row([signed(sequence)], |row| Ok(ChainLink::from_bytes(row.get(0)?))).optional()?;
    Ok(link.map(|link| ChainHead { chain, sequence, link }))
}
