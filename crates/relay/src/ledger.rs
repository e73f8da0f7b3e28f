//! A hub's ledger: an index in SQLite of what its archive has committed, in order, for people who ask questions.
//!
//! What was committed and cannot be read any more stands aside, in a table of its own, until it comes again.
//!
//! The archive is the truth and the ledger follows it. It may lose its newest rows in a power cut; at start it is
//! told what the archive has beyond it. One thread owns the connection and serves questions in the order of feeding,
//! so that whoever asks about a record that was committed before finds it.
//!
//! Each commit carries its link of the hub's chain (`chain.rs`). The links are derived like all the rest: made anew from the
//! same archive, they are the same.

mod chain;
mod schema;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::thread;

use estafet_model::{
    ChainHead, ChainLink, ChainedRecord, Class, Durable, Epoch, HeaderDigest, NodeId, PayloadHash, RecordId, Seq,
    SeqRanges, UnixMillis,
};
use estafet_node::custody::HeldRecord;
use estafet_spool::{Extent, StoredRecord};
use rusqlite::{Connection, OptionalExtension, params};
use tokio::sync::{broadcast, watch};
use tracing::{error, info};

use self::schema::{COLUMN_COUNT, COLUMNS, TABLES};

/// Commits that a slow `tail` may lag behind before it is told that it missed some.
const TAIL_BACKLOG: usize = 16_384;

/// The ledger cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("failed to use the ledger {}: {source}", path.display())]
pub(crate) struct LedgerError {
    path: PathBuf,
    source: rusqlite::Error,
}

/// One committed record.
#[derive(Debug, Clone)]
pub(crate) struct Commit {
    pub(crate) hub_sequence: u64,
    pub(crate) id: RecordId,
    pub(crate) class: Class,
    pub(crate) payload_bytes: u32,
    pub(crate) payload_hash: PayloadHash,
    pub(crate) digest: HeaderDigest,
    pub(crate) committed_at: UnixMillis,
    pub(crate) extent: Extent,
    /// The neighbor that brought it; none if it was captured here, or if nobody knows any more.
    pub(crate) received_from: Option<NodeId>,
    /// Of the hub's chain, with this commit.
    pub(crate) link: ChainLink,
}

impl Commit {
    /// What the chain says of it.
    pub(crate) fn chained(&self) -> ChainedRecord {
        ChainedRecord {
            id: self.id.clone(),
            digest: self.digest,
            payload_hash: self.payload_hash,
            payload_bytes: self.payload_bytes,
        }
    }

    /// The same as the store tells of what it has synced: the ledger is fed with nothing else.
    pub(crate) fn into_stored(self) -> estafet_node::StoredRecord {
        estafet_node::StoredRecord { record: Durable::after_sync(self.into_held()), idempotency: None }
    }

    /// The same as custody knows records.
    pub(crate) fn into_held(self) -> HeldRecord {
        HeldRecord {
            id: self.id,
            class: self.class,
            payload_bytes: self.payload_bytes,
            payload_hash: self.payload_hash,
            digest: self.digest,
            received_from: None,
            stored_at: self.committed_at,
        }
    }
}

type Job = Box<dyn FnOnce(&mut Connection) + Send>;

/// Per origin and epoch, the numbers that are committed, and how many records are in the ledger more than once.
type Committed = (BTreeMap<(NodeId, Epoch), SeqRanges>, u64);

/// A handle to the ledger's thread. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Ledger {
    path: PathBuf,
    jobs: mpsc::Sender<Job>,
    commits: broadcast::Sender<Commit>,
    newest: Option<(u64, u32)>,
    head: watch::Sender<Option<ChainHead>>,
}

impl Ledger {
    /// Opens the ledger, or makes it. One of an earlier form is made anew: all that is in it stands in the archive.
    pub(crate) fn open(path: &Path) -> Result<Self, LedgerError> {
        let fault = |source| LedgerError { path: path.to_owned(), source };
        if let Some(folder) = path.parent() {
            // If this fails, opening says why.
            let _ = std::fs::create_dir_all(folder);
        }
        let mut connection = Connection::open(path).map_err(fault)?;
        if schema::prepare(&mut connection).map_err(fault)? {
            info!("the ledger is of another form: it is made again from the archive");
        }
        let newest = newest_extent(&connection).map_err(fault)?;
        let (jobs, queue) = mpsc::channel::<Job>();
        let worker = move || queue.into_iter().for_each(|job| job(&mut connection));
        thread::Builder::new()
            .name("ledger".to_owned())
            .spawn(worker)
            .map_err(|error| fault(rusqlite::Error::ToSqlConversionFailure(Box::new(error))))?;
        Ok(Self {
            path: path.to_owned(),
            jobs,
            commits: broadcast::Sender::new(TAIL_BACKLOG),
            newest,
            head: watch::Sender::new(None),
        })
    }

    /// The oldest segment that may hold records which the ledger does not know.
    pub(crate) fn scan_from(&self) -> u64 {
        self.newest.map_or(0, |(generation, _)| generation)
    }

    /// Feeds what the archive holds beyond the ledger.
    pub(crate) fn catch_up(&self, records: Vec<StoredRecord>) {
        let newest = self.newest;
        let place = |record: &StoredRecord| (record.record.generation, record.record.offset);
        self.feed(records.into_iter().filter(|record| Some(place(record)) > newest).collect());
    }

    /// The place of the newest record that the ledger knows.
    pub(crate) fn newest(&self) -> Option<(u64, u32)> {
        self.newest
    }

    /// Forgets everything: it is not of this archive, and is to be fed anew.
    pub(crate) fn clear(&mut self) -> Result<(), LedgerError> {
        self.newest = None;
        self.answer(|connection| connection.execute_batch(schema::CLEAR))
    }

    /// The record at this place cannot be read. Says what is known of it, if it was committed there.
    pub(crate) async fn take_out(&self, id: RecordId, extent: Extent) -> Result<Option<Commit>, LedgerError> {
        self.ask(move |connection| take_out(connection, &id, extent)).await
    }

    /// All commits in one segment.
    pub(crate) async fn in_segment(&self, generation: u64) -> Result<Vec<Commit>, LedgerError> {
        let suspects = Suspects { generations: BTreeSet::from([generation]), ..Suspects::default() };
        self.ask(move |connection| committed_among(connection, suspects)).await
    }

    /// At start: looks at these records and at all that are lost, and settles which of them can be read. Then says which
    /// are lost.
    pub(crate) fn look_at_losses(
        &self,
        suspects: Suspects,
        is_whole: impl Fn(Extent) -> bool + Send + 'static,
    ) -> Result<Vec<Commit>, LedgerError> {
        self.answer(move |connection| {
            for commit in committed_among(connection, suspects)?.into_iter().filter(|commit| !is_whole(commit.extent)) {
                take_out(connection, &commit.id, commit.extent)?;
            }
            let (found, lost) = all_lost(connection)?.into_iter().partition(|commit: &Commit| is_whole(commit.extent));
            let found: Vec<Commit> = found;
            found.iter().try_for_each(|commit| take_in(connection, commit))?;
            Ok(lost)
        })
    }

    /// Feeds newly committed records, in the order of the archive.
    pub(crate) fn feed(&self, records: Vec<StoredRecord>) {
        let (commits, head) = (self.commits.clone(), self.head.clone());
        self.run(move |connection| match insert(connection, records) {
            Ok((inserted, newest)) => {
                head.send_replace(newest);
                // Without listeners there is nobody to tell.
                inserted.into_iter().for_each(|commit| drop(commits.send(commit)));
            }
            Err(error) => error!(%error, "the ledger was not written; it is fed again at the next start"),
        });
    }

    fn run(&self, job: impl FnOnce(&mut Connection) + Send + 'static) {
        // The thread ends only with the last handle.
        let _ = self.jobs.send(Box::new(job));
    }

    async fn ask<T: Send + 'static>(
        &self,
        question: impl FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, LedgerError> {
        let (sender, answer) = tokio::sync::oneshot::channel();
        self.run(move |connection| drop(sender.send(question(connection))));
        let answer = answer.await.unwrap_or(Err(rusqlite::Error::InvalidQuery));
        answer.map_err(|source| LedgerError { path: self.path.clone(), source })
    }

    /// Everything committed, and how many records more than once.
    pub(crate) fn committed(&self) -> Result<Committed, LedgerError> {
        self.answer(|connection| committed(connection))
    }

    /// The same as `ask`, for a thread that may wait.
    fn answer<T: Send + 'static>(
        &self,
        question: impl FnOnce(&mut Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, LedgerError> {
        let (sender, answer) = mpsc::sync_channel(1);
        self.run(move |connection| drop(sender.send(question(connection))));
        let answer = answer.recv().unwrap_or(Err(rusqlite::Error::InvalidQuery));
        answer.map_err(|source| LedgerError { path: self.path.clone(), source })
    }

    /// The commit of one record.
    pub(crate) async fn find(&self, id: RecordId) -> Result<Option<Commit>, LedgerError> {
        self.ask(move |connection| commit_of(connection, &id)).await
    }

    /// The same, for a thread that may wait.
    pub(crate) fn find_blocking(&self, id: RecordId) -> Result<Option<Commit>, LedgerError> {
        self.answer(move |connection| commit_of(connection, &id))
    }

    /// The commits of one origin's epoch with these numbers.
    pub(crate) async fn commits_of(
        &self,
        origin: NodeId,
        epoch: Epoch,
        seqs: SeqRanges,
    ) -> Result<Vec<Commit>, LedgerError> {
        let ids = seqs.iter().map(|seq| RecordId { origin: origin.clone(), epoch, seq }).collect();
        let suspects = Suspects { ids, ..Suspects::default() };
        self.ask(move |connection| committed_among(connection, suspects)).await
    }

    /// Commits from a hub sequence number on, at most `limit`.
    pub(crate) async fn from(&self, hub_sequence: u64, limit: u32) -> Result<Vec<Commit>, LedgerError> {
        self.ask(move |connection| {
            let mut statement = connection.prepare_cached(&from())?;
            let rows = statement.query_map(params![signed(hub_sequence), limit], commit_of_row)?;
            rows.collect()
        })
        .await
    }

    /// The first number under which anything was committed since, by the hub's clock of then.
    pub(crate) async fn first_since(&self, since: UnixMillis) -> Result<Option<u64>, LedgerError> {
        self.ask(move |connection| {
            let parts = TABLES
                .map(|table| format!("SELECT min(hub_sequence) AS first FROM {table} WHERE committed_unix_ms >= ?1"));
            let all = format!("SELECT min(first) FROM ({})", parts.join(" UNION ALL "));
            let first = connection.query_row(&all, [signed(since.0)], |row| row.get::<_, Option<i64>>(0))?;
            Ok(first.map(unsigned))
        })
        .await
    }

    /// What an origin captured that was committed since, and before this number.
    pub(crate) async fn captured_between(
        &self,
        origin: NodeId,
        since: UnixMillis,
        before: Option<u64>,
    ) -> Result<Vec<Commit>, LedgerError> {
        self.ask(move |connection| {
            let parts = TABLES.map(|table| {
                format!(
                    "SELECT {COLUMNS} FROM {table} \
                     WHERE origin = ?1 AND committed_unix_ms >= ?2 AND hub_sequence < ?3"
                )
            });
            let mut statement = connection.prepare_cached(&parts.join(" UNION ALL "))?;
            let key = params![origin.as_str(), signed(since.0), signed(before.unwrap_or(u64::MAX))];
            statement.query_map(key, commit_of_row)?.collect()
        })
        .await
    }

    /// Each commit as it happens from now on.
    pub(crate) fn subscribe(&self) -> broadcast::Receiver<Commit> {
        self.commits.subscribe()
    }
}

/// What a start doubts: these records, and all that begin in these segments.
#[derive(Debug, Default)]
pub(crate) struct Suspects {
    pub(crate) ids: Vec<RecordId>,
    pub(crate) generations: BTreeSet<u64>,
}

/// The first commit of a record; there is no other.
fn find() -> String {
    format!("SELECT {COLUMNS} FROM commits WHERE origin = ?1 AND epoch = ?2 AND seq = ?3 ORDER BY hub_sequence LIMIT 1")
}

/// Commits in order, from a number on.
fn from() -> String {
    format!("SELECT {COLUMNS} FROM commits WHERE hub_sequence >= ?1 ORDER BY hub_sequence LIMIT ?2")
}

fn commit_of(connection: &Connection, id: &RecordId) -> rusqlite::Result<Option<Commit>> {
    let key = params![id.origin.as_str(), id.epoch.get(), id.seq.get()];
    connection.prepare_cached(&find())?.query_row(key, commit_of_row).optional()
}

fn newest_extent(connection: &Connection) -> rusqlite::Result<Option<(u64, u32)>> {
    let newest = "SELECT generation, offset FROM commits ORDER BY hub_sequence DESC LIMIT 1";
    connection.query_row(newest, [], |row| Ok((unsigned(row.get(0)?), row.get(1)?))).optional()
}

/// Adds what is not lost, and says what was added and how far the chain has come.
fn insert(
    connection: &mut Connection,
    records: Vec<StoredRecord>,
) -> rusqlite::Result<(Vec<Commit>, Option<ChainHead>)> {
    let mut inserted = Vec::with_capacity(records.len());
    let lost: BTreeMap<RecordId, Extent> =
        all_lost(connection)?.into_iter().map(|commit| (commit.id, commit.extent)).collect();
    // The archive still has the entries of what is lost.
    let records = records.into_iter().filter(|record| lost.get(&record.id) != Some(&record.record));
    let transaction = connection.transaction()?;
    // Whoever feeds a ledger has said before of which chain it is.
    let mut head = chain::head(&transaction)?.ok_or(rusqlite::Error::InvalidQuery)?;
    for record in records {
        if lost.contains_key(&record.id) {
            schema::supersede(&transaction, &record.id)?;
        }
        let commit = commit_of_stored(record, &head);
        head = ChainHead { sequence: commit.hub_sequence, link: commit.link, ..head };
        insert_commit(&transaction, &commit)?;
        inserted.push(commit);
    }
    chain::set_head(&transaction, &head)?;
    transaction.commit()?;
    Ok((inserted, Some(head)))
}

/// The commit behind this head of the chain.
fn commit_of_stored(record: StoredRecord, head: &ChainHead) -> Commit {
    let mut commit = Commit {
        hub_sequence: head.sequence + 1,
        id: record.id,
        class: record.class,
        payload_bytes: record.payload_bytes,
        payload_hash: record.payload_hash,
        digest: record.digest,
        committed_at: record.stored_at,
        extent: record.record,
        received_from: record.received_from,
        link: head.link,
    };
    commit.link = head.with(&commit.chained()).link;
    commit
}

fn insert_commit(connection: &Connection, commit: &Commit) -> rusqlite::Result<()> {
    let places: Vec<String> = (1..=COLUMN_COUNT).map(|place| format!("?{place}")).collect();
    let insert = format!("INSERT INTO commits ({COLUMNS}) VALUES ({})", places.join(", "));
    connection.prepare_cached(&insert)?.execute(params![
        signed(commit.hub_sequence),
        commit.id.origin.as_str(),
        commit.id.epoch.get(),
        commit.id.seq.get(),
        commit.class as u8,
        commit.payload_bytes,
        commit.payload_hash.as_bytes(),
        commit.digest.0,
        signed(commit.committed_at.0),
        signed(commit.extent.generation),
        commit.extent.offset,
        commit.extent.length,
        commit.received_from.as_ref().map(NodeId::as_str),
        commit.link.as_bytes(),
    ])?;
    Ok(())
}

fn all_lost(connection: &Connection) -> rusqlite::Result<Vec<Commit>> {
    let mut statement = connection.prepare_cached(&format!("SELECT {COLUMNS} FROM lost ORDER BY hub_sequence"))?;
    statement.query_map([], commit_of_row)?.collect()
}

/// The commits of these records, and of all in these segments.
fn committed_among(connection: &Connection, suspects: Suspects) -> rusqlite::Result<Vec<Commit>> {
    let mut commits = Vec::new();
    for id in suspects.ids {
        commits.extend(commit_of(connection, &id)?);
    }
    for generation in suspects.generations {
        let mut statement = connection.prepare(&format!("SELECT {COLUMNS} FROM commits WHERE generation = ?1"))?;
        let found = statement.query_map([signed(generation)], commit_of_row)?;
        commits.extend(found.collect::<rusqlite::Result<Vec<_>>>()?);
    }
    Ok(commits)
}

/// Puts a commit aside, if it is of this place.
fn take_out(connection: &Connection, id: &RecordId, extent: Extent) -> rusqlite::Result<Option<Commit>> {
    let commit = commit_of(connection, id)?;
    let commit = commit.filter(|commit| commit.extent == extent);
    if let Some(commit) = &commit {
        move_row(connection, commit, "commits", "lost")?;
    }
    Ok(commit)
}

/// What was put aside can be read after all.
fn take_in(connection: &Connection, commit: &Commit) -> rusqlite::Result<()> {
    move_row(connection, commit, "lost", "commits")
}

fn move_row(connection: &Connection, commit: &Commit, from: &str, to: &str) -> rusqlite::Result<()> {
    let row = [signed(commit.hub_sequence)];
    connection.execute("BEGIN", [])?;
    let copied = connection
        .execute(&format!("INSERT INTO {to} ({COLUMNS}) SELECT {COLUMNS} FROM {from} WHERE hub_sequence = ?1"), row);
    let moved = copied.and_then(|_| connection.execute(&format!("DELETE FROM {from} WHERE hub_sequence = ?1"), row));
    connection.execute(if moved.is_ok() { "COMMIT" } else { "ROLLBACK" }, [])?;
    moved.map(drop)
}

fn committed(connection: &Connection) -> rusqlite::Result<Committed> {
    let mut all: BTreeMap<(NodeId, Epoch), SeqRanges> = BTreeMap::new();
    let mut twice = 0;
    let mut statement = connection.prepare("SELECT origin, epoch, seq FROM commits ORDER BY origin, epoch, seq")?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        let id = record_id(row, 0)?;
        if !all.entry((id.origin, id.epoch)).or_default().insert(id.seq) {
            twice += 1;
        }
    }
    Ok((all, twice))
}

fn commit_of_row(row: &rusqlite::Row<'_>) -> rusqlite::Result<Commit> {
    let class = usize::from(row.get::<_, u8>(4)?);
    Ok(Commit {
        hub_sequence: unsigned(row.get(0)?),
        id: record_id(row, 1)?,
        class: *Class::ALL.get(class).ok_or(rusqlite::Error::InvalidQuery)?,
        payload_bytes: row.get(5)?,
        payload_hash: PayloadHash::from_bytes(row.get(6)?),
        digest: HeaderDigest(row.get(7)?),
        committed_at: UnixMillis(unsigned(row.get(8)?)),
        extent: Extent { generation: unsigned(row.get(9)?), offset: row.get(10)?, length: row.get(11)? },
        received_from: row.get::<_, Option<String>>(12)?.and_then(|sender| sender.parse().ok()),
        link: ChainLink::from_bytes(row.get(13)?),
    })
}

fn record_id(row: &rusqlite::Row<'_>, first: usize) -> rusqlite::Result<RecordId> {
    let parse = || -> Option<RecordId> {
        Some(RecordId {
            origin: row.get::<_, String>(first).ok()?.parse().ok()?,
            epoch: Epoch::new(row.get(first + 1).ok()?)?,
            seq: Seq::new(row.get(first + 2).ok()?)?,
        })
    };
    parse().ok_or(rusqlite::Error::InvalidQuery)
}

/// SQLite's integers are signed; ours stay far below the difference.
fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

fn unsigned(number: i64) -> u64 {
    u64::try_from(number).unwrap_or(0)
}
