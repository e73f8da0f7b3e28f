//! A hub's ledger: an index in SQLite of what its archive has committed, in order, for people who ask questions.
//!
//! The archive is the truth and the ledger follows it. It may lose its newest rows in a power cut; at start it is
//! told what the archive has beyond it. One thread owns the connection and serves questions in the order of feeding,
//! so that whoever asks about a record that was committed before finds it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::thread;

use estafet_model::{Class, Epoch, HeaderDigest, NodeId, PayloadHash, RecordId, Seq, SeqRanges, UnixMillis};
use estafet_spool::{Extent, StoredRecord};
use rusqlite::{Connection, OptionalExtension, params};
use tokio::sync::broadcast;
use tracing::error;

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
}

impl Ledger {
    /// Opens the ledger, or makes it.
    pub(crate) fn open(path: &Path) -> Result<Self, LedgerError> {
        let fault = |source| LedgerError { path: path.to_owned(), source };
        if let Some(folder) = path.parent() {
            // If this fails, opening says why.
            let _ = std::fs::create_dir_all(folder);
        }
        let mut connection = Connection::open(path).map_err(fault)?;
        connection.execute_batch(SCHEMA).map_err(fault)?;
        let newest = newest_extent(&connection).map_err(fault)?;
        let (jobs, queue) = mpsc::channel::<Job>();
        let worker = move || queue.into_iter().for_each(|job| job(&mut connection));
        thread::Builder::new()
            .name("ledger".to_owned())
            .spawn(worker)
            .map_err(|error| fault(rusqlite::Error::ToSqlConversionFailure(Box::new(error))))?;
        Ok(Self { path: path.to_owned(), jobs, commits: broadcast::Sender::new(TAIL_BACKLOG), newest })
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

    /// Feeds newly committed records, in the order of the archive.
    pub(crate) fn feed(&self, records: Vec<StoredRecord>) {
        let commits = self.commits.clone();
        self.run(move |connection| match insert(connection, records) {
            Ok(inserted) => {
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
        let (sender, answer) = mpsc::sync_channel(1);
        self.run(move |connection| drop(sender.send(committed(connection))));
        let answer = answer.recv().unwrap_or(Err(rusqlite::Error::InvalidQuery));
        answer.map_err(|source| LedgerError { path: self.path.clone(), source })
    }

    /// The commit of one record.
    pub(crate) async fn find(&self, id: RecordId) -> Result<Option<Commit>, LedgerError> {
        self.ask(move |connection| {
            let key = params![id.origin.as_str(), id.epoch.get(), id.seq.get()];
            connection.prepare_cached(&find())?.query_row(key, commit_of_row).optional()
        })
        .await
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

    /// Each commit as it happens from now on.
    pub(crate) fn subscribe(&self) -> broadcast::Receiver<Commit> {
        self.commits.subscribe()
    }
}

const SCHEMA: &str = "
    PRAGMA journal_mode = WAL;
    PRAGMA synchronous = NORMAL;
    CREATE TABLE IF NOT EXISTS commits (
        hub_sequence INTEGER PRIMARY KEY,
        origin TEXT NOT NULL,
        epoch INTEGER NOT NULL,
        seq INTEGER NOT NULL,
        class INTEGER NOT NULL,
        payload_bytes INTEGER NOT NULL,
        blake3 BLOB NOT NULL,
        header_digest BLOB NOT NULL,
        committed_unix_ms INTEGER NOT NULL,
        generation INTEGER NOT NULL,
        offset INTEGER NOT NULL,
        length INTEGER NOT NULL
    ) STRICT;
    -- Not unique: if the archive ever held a record twice, the ledger must show it.
    CREATE INDEX IF NOT EXISTS commits_by_record ON commits (origin, epoch, seq);
";

const COLUMNS: &str = "hub_sequence, origin, epoch, seq, class, payload_bytes, blake3, header_digest, committed_unix_ms, \
                       generation, offset, length";
/// The first commit of a record; there is no other.
fn find() -> String {
    format!("SELECT {COLUMNS} FROM commits WHERE origin = ?1 AND epoch = ?2 AND seq = ?3 ORDER BY hub_sequence LIMIT 1")
}

/// Commits in order, from a number on.
fn from() -> String {
    format!("SELECT {COLUMNS} FROM commits WHERE hub_sequence >= ?1 ORDER BY hub_sequence LIMIT ?2")
}

fn newest_extent(connection: &Connection) -> rusqlite::Result<Option<(u64, u32)>> {
    let newest = "SELECT generation, offset FROM commits ORDER BY hub_sequence DESC LIMIT 1";
    connection.query_row(newest, [], |row| Ok((unsigned(row.get(0)?), row.get(1)?))).optional()
}

fn insert(connection: &mut Connection, records: Vec<StoredRecord>) -> rusqlite::Result<Vec<Commit>> {
    let mut inserted = Vec::with_capacity(records.len());
    let transaction = connection.transaction()?;
    {
        let next = "SELECT coalesce(max(hub_sequence), 0) + 1 FROM commits";
        let next: u64 = unsigned(transaction.prepare_cached(next)?.query_row([], |row| row.get(0))?);
        let insert =
            format!("INSERT INTO commits ({COLUMNS}) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12)");
        let mut statement = transaction.prepare_cached(&insert)?;
        for (hub_sequence, record) in (next..).zip(records) {
            statement.execute(params![
                signed(hub_sequence),
                record.id.origin.as_str(),
                record.id.epoch.get(),
                record.id.seq.get(),
                record.class as u8,
                record.payload_bytes,
                record.payload_hash.as_bytes(),
                record.digest.0,
                signed(record.stored_at.0),
                signed(record.record.generation),
                record.record.offset,
                record.record.length,
            ])?;
            inserted.push(Commit {
                hub_sequence,
                id: record.id,
                class: record.class,
                payload_bytes: record.payload_bytes,
                payload_hash: record.payload_hash,
                digest: record.digest,
                committed_at: record.stored_at,
                extent: record.record,
            });
        }
    }
    transaction.commit()?;
    Ok(inserted)
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
