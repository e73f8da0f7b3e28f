//! The node's disk: the spool, and at a hub the ledger beside it, as the driver sees them.
//!
//! A relay's spool gives room back when receipts have come. A hub's is an archive: the same log, but nothing is ever
//! given back, and what is durable in it is committed. The ledger (SQLite) is fed from the archive, never ahead of it.

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use estafet_admin::v1::Record;
use estafet_model::{ByteCount, ChainId, ChunkHash, Durable, Epoch, NodeId, ReceiptKey, RecordId, UnixMillis};
use estafet_node::Recovered;
use estafet_node::custody::Losses;
use estafet_quic::{PayloadSource, ReadRecord, Unreadable};
use estafet_spool::{
    Append, Damage, Extent, OpenError, Outcome, Poisoned, ReadError, ReadPayload, Spool, SpoolOptions, StoredRecord,
    TransferId, Usage,
};
use estafet_store::{
    Identity, Settled, chain_append, chain_id, losses, lost_record, owner, owner_append, receipts, recovered_transfer,
    stored_record,
};
use rand::RngExt;
use tokio::sync::mpsc;
use tracing::{error, warn};

use crate::durability::{Durability, examine, in_memory};
use crate::ledger::{Commit, Ledger, LedgerError, Suspects};
use crate::pace::Pace;
use crate::recent::Recent;

/// Payload that is kept at hand until it is passed on, and for how long.
const RECENT_BYTES_MAX: usize = 12 << 20;
const RECENT_FOR: Duration = Duration::from_secs(1);

/// What is kept free for receipts and control, so that a full node can always empty itself: a part of the whole, and
/// no more than this.
const CONTROL_PART: u64 = 16;
const CONTROL_BYTES_MAX: ByteCount = ByteCount::mebibytes(256);

/// What is kept free for own captures when neighbors are already asked to wait.
const CAPTURE_PART: u64 = 8;
const CAPTURE_BYTES_MAX: ByteCount = ByteCount::mebibytes(1 << 10);

/// With less than this part free, people are told.
const FILLING_PART: u64 = 4;

/// Transfer ids of intake are below, those of neighbors' payloads from here on; each start has its own, because what
/// was arriving goes on after it.
pub(crate) const FIRST_NEIGHBOR_TRANSFER: u64 = 1 << 62;

/// The store could not be opened.
#[derive(Debug, thiserror::Error, miette::Diagnostic)]
pub(crate) enum StoreError {
    #[error("failed to {0}")]
    #[diagnostic(help(
        "is another estafet-relay running on this folder, or still stopping? is the disk there and writable?"
    ))]
    Spool(#[from] OpenError),
    #[error(transparent)]
    #[diagnostic(help("the ledger is derived: move ledger.sqlite away and it is made again from the archive"))]
    Ledger(#[from] LedgerError),
    #[error("failed to write the first entries of the spool")]
    #[diagnostic(help("the disk refuses writes: see the log above"))]
    NotWritable,
    #[error("failed to open the store: {} is the data folder of node `{owner}`", folder.display())]
    #[diagnostic(help("correct `data` or `node` in relay.toml; two nodes never share or exchange data folders"))]
    OtherNode { folder: PathBuf, owner: NodeId },
    #[error("failed to find a disk that keeps what is synced: {0}")]
    #[diagnostic(help(
        "put `data` on a disk of this machine (ext4, XFS); with --no-durability-i-know the relay runs all the same, \
         and gives no slip, no acceptance and no receipt"
    ))]
    NotDurable(String),
    #[error("failed to look whether the data folder keeps what is synced: {0}")]
    #[diagnostic(help("the folder must be writable, and its disk not full"))]
    Unexamined(std::io::Error),
}

/// What the store has done, for the driver.
#[derive(Debug)]
pub(crate) enum StoreEvent {
    /// These records are durable, in the order they were appended.
    Stored(Vec<Durable<StoredRecord>>),
    /// This receipt is durable.
    ReceiptKept(Durable<ReceiptKey>),
    /// A hub's losses are durable.
    LossesKept,
    /// These records, which were released, are needed again.
    Recalled(Vec<Durable<StoredRecord>>),
    /// The epoch is durable.
    EpochKept,
    /// The disk fails. These records are not durable and never will be.
    Failed(Vec<RecordId>),
    /// This many of the driver's appends do not wait for the disk any more, the oldest first.
    Settled(usize),
}

/// How the store fares, as intake needs to know it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Health {
    /// How much own captures may still bring.
    pub(crate) capture_room: ByteCount,
    /// How much neighbors may still bring. It ends sooner, so that the counter goes on when transit has stopped.
    pub(crate) transit_room: ByteCount,
    /// How full it is, in words.
    pub(crate) level: Level,
    /// The disk failed: nothing is taken in until the process is started anew.
    pub(crate) poisoned: bool,
}

/// The watermarks of the store, in the order in which they are reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Level {
    /// There is room.
    Good,
    /// Somebody should look why so much is held.
    Filling,
    /// Neighbors are asked to wait; the counter goes on.
    NoTransit,
    /// Nothing is taken in. What is kept back is for receipts and control: they are what empties it.
    Full,
}

impl Health {
    /// What a spool may still take, by its watermarks. A hub takes no captures worth a reserve, so its records have
    /// all but what control needs.
    fn of(usage: &Usage, is_hub: bool) -> Self {
        let capacity = usage.used_bytes + usage.free_bytes;
        let part = |divisor: u64, most: ByteCount| ByteCount(capacity.0 / divisor).min(most);
        let capture_room = usage.free_bytes - part(CONTROL_PART, CONTROL_BYTES_MAX);
        let for_captures = if is_hub { ByteCount(0) } else { part(CAPTURE_PART, CAPTURE_BYTES_MAX) };
        let transit_room = capture_room - for_captures;
        let level = if capture_room.0 == 0 {
            Level::Full
        } else if transit_room.0 == 0 {
            Level::NoTransit
        } else if usage.free_bytes.0 < capacity.0 / FILLING_PART {
            Level::Filling
        } else {
            Level::Good
        };
        Self { capture_room, transit_room, level, poisoned: usage.poisoned.is_some() }
    }
}

/// The store of one node. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Store {
    pub(crate) spool: Spool,
    pub(crate) ledger: Option<Ledger>,
    recent: Arc<Recent>,
}

/// A store that was opened, and what was in it.
pub(crate) struct Opened {
    pub(crate) store: Store,
    pub(crate) events: mpsc::UnboundedReceiver<StoreEvent>,
    pub(crate) recovered: Recovered,
    pub(crate) identity: Identity,
    /// Of own captures, at a hub of those since its ledger was written.
    pub(crate) pace: Pace,
}

impl Store {
    /// Opens the store, or makes it. If it is to give promises, its disk must be seen to keep what is synced.
    pub(crate) fn open(
        folder: &Path,
        me: &NodeId,
        is_hub: bool,
        bytes_max: ByteCount,
        hold_bytes_max: ByteCount,
        promises: bool,
    ) -> Result<Opened, StoreError> {
        let mut ledger = is_hub.then(|| Ledger::open(&folder.join("ledger.sqlite"))).transpose()?;
        let options = SpoolOptions { bytes_max, hold_bytes_max, reclaim: !is_hub, ..SpoolOptions::default() };
        let mut contents = open_spool(folder, &options, ledger.as_ref())?;
        if let Some(ledger) = &mut ledger
            && contents.is_older_than(ledger)
        {
            error!("the archive is older than its ledger, as a backup is: the ledger is made again from it");
            drop(contents);
            ledger.clear()?;
            contents = open_spool(folder, &options, Some(ledger))?;
        }
        let SpoolContents { spool, mut events, found, mut recovered, for_ledger, pace } = contents;
        if let Some(owner) = owner(&found.puts).filter(|owner| owner != me) {
            return Err(StoreError::OtherNode { folder: folder.to_owned(), owner });
        }
        if promises {
            check_disk(folder)?;
        }
        for damage in &found.damaged {
            error!(?damage, "a part of the spool is damaged; everything else is served");
        }
        if found.torn_bytes > 0 {
            warn!(bytes = found.torn_bytes, "cut an unfinished write off the spool; nothing promised was in it");
        }
        let identity = Identity::at_start(&found.puts, random_epoch);
        let chain = chain_id(&found.puts).unwrap_or_else(random_chain);
        let of_hub = is_hub.then(|| chain_append(chain));
        let appends = identity.appends().into_iter().chain([owner_append(me)]).chain(of_hub);
        let begun = spool.append(appends.collect()).is_ok();
        // The epoch is told to nobody: the node takes it from here.
        let settled =
            begun && std::iter::from_fn(|| events.blocking_recv()).any(|event| matches!(event, StoreEvent::Settled(_)));
        if !settled || spool.usage().poisoned.is_some() {
            return Err(StoreError::NotWritable);
        }
        recovered.receipts = receipts(&found.puts);
        recovered.former = identity.former.clone();
        recovered.conflicts = identity.conflicts.clone();
        if let Some(ledger) = &ledger {
            ledger.set_chain(me.clone(), chain)?;
            recovered.losses = losses(&found.puts);
            let suspects = || suspects(&found, &recovered.losses);
            // What came again is not to stand beside what was lost; and a ledger that is new knows nothing before.
            look_at_losses(ledger, &spool, suspects())?;
            ledger.catch_up(for_ledger);
            let lost = look_at_losses(ledger, &spool, suspects())?;
            (recovered.committed, recovered.committed_twice) = ledger.committed()?;
            recovered.damaged = lost.into_iter().map(Commit::into_held).collect();
        }
        recovered.damaged.extend(found.broken.into_iter().map(lost_record));
        recovered.transfers = found.transfers.into_iter().map(recovered_transfer).collect();
        // A hub passes on copies for another hub at most, and reads these from its archive.
        let recent = Arc::new(Recent::new(if is_hub { 0 } else { RECENT_BYTES_MAX }));
        Ok(Opened { store: Self { spool, ledger, recent }, events, recovered, identity, pace })
    }

    /// Adds to a record's description what only the disk knows. Blocks for the disk.
    pub(crate) fn describe(&self, id: &RecordId, record: Record) -> Record {
        let Ok(read) = self.spool.read(id) else { return record };
        let from = read.received_from.map(|neighbor| neighbor.to_string()).unwrap_or_default();
        Record {
            blake3: read.header.header().payload_hash.to_string(),
            class: read.header.header().class.to_string(),
            bytes: read.header.header().payload_bytes.into(),
            stored_unix_ms: Some(read.stored_at.0),
            received_from: if record.received_from.is_empty() { from } else { record.received_from },
            ..record
        }
    }

    /// Queues what is to be stored, and keeps it at hand for a moment: it is passed on soon.
    pub(crate) fn append(&self, batch: Vec<Append>) -> Result<(), Poisoned> {
        self.recent.note(&batch);
        self.spool.append(batch)
    }

    /// The chunks of this transfer will not become a record.
    pub(crate) fn abort(&self, transfer: TransferId) {
        self.recent.abort(transfer);
        self.spool.abort(transfer);
    }

    /// Lets go of what was kept at hand and not passed on.
    pub(crate) fn forget_recent(&self) {
        self.recent.forget(RECENT_FOR);
    }

    /// How the store fares. Asks the file system what it has left.
    pub(crate) fn health(&self) -> Health {
        Health::of(&self.spool.usage(), self.ledger.is_some())
    }
}

/// A spool that was opened.
struct SpoolContents {
    spool: Spool,
    events: mpsc::UnboundedReceiver<StoreEvent>,
    found: estafet_spool::Recovered,
    recovered: Recovered,
    for_ledger: Vec<StoredRecord>,
    pace: Pace,
}

impl SpoolContents {
    /// The ledger knows records that were never in this archive.
    fn is_older_than(&self, ledger: &Ledger) -> bool {
        let Some((generation, offset)) = ledger.newest() else { return false };
        let place = |extent: Extent| (extent.generation, extent.offset);
        let reaches_it = self.for_ledger.iter().any(|record| place(record.record) >= (generation, offset));
        let hit = |damage: &Damage| {
            damage.generation == generation && (damage.offset..=damage.offset + damage.length).contains(&offset)
        };
        let is_damaged = self.found.damaged.iter().any(hit)
            || self.found.broken.iter().any(|broken| place(broken.record.record) >= (generation, offset));
        !reaches_it && !is_damaged
    }
}

fn open_spool(folder: &Path, options: &SpoolOptions, ledger: Option<&Ledger>) -> Result<SpoolContents, OpenError> {
    let options = SpoolOptions { scan_from: ledger.map(Ledger::scan_from), ..options.clone() };
    let (sender, events) = mpsc::unbounded_channel();
    let mut recovered = Recovered::default();
    let mut for_ledger = Vec::new();
    let (mut pace, started) = (Pace::default(), wall_clock());
    let mut each = |record: Durable<StoredRecord>| {
        if record.get().own {
            pace.found(record.get().stored_at, started, record.get().disk_bytes());
        }
        if ledger.is_some() {
            for_ledger.push(record.get().clone());
            recovered.records.add_committed(&stored_record(record, None));
        } else {
            recovered.records.add(stored_record(record, None));
        }
    };
    let report = move |outcomes| report(outcomes, &sender);
    let (spool, found) = Spool::open_with(folder, options, &mut each, report)?;
    Ok(SpoolContents { spool, events, found, recovered, for_ledger, pace })
}

/// What may not be counted as committed before it has been read.
fn suspects(found: &estafet_spool::Recovered, losses: &BTreeMap<(NodeId, Epoch), Losses>) -> Suspects {
    let known = losses.iter().flat_map(|((origin, epoch), losses)| {
        losses.seqs.iter().map(|seq| RecordId { origin: origin.clone(), epoch: *epoch, seq })
    });
    let broken = found.broken.iter().map(|broken| broken.record.id.clone());
    let generations = found.damaged.iter().map(|damage| damage.generation);
    Suspects { ids: known.chain(broken).collect(), generations: generations.collect() }
}

fn look_at_losses(ledger: &Ledger, spool: &Spool, suspects: Suspects) -> Result<Vec<Commit>, LedgerError> {
    let spool = spool.clone();
    ledger.look_at_losses(suspects, move |extent| spool.check(extent).is_ok())
}

/// Fails unless the folder is seen to keep what is synced.
pub(crate) fn check_disk(folder: &Path) -> Result<(), StoreError> {
    match examine(folder).map_err(StoreError::Unexamined)? {
        Durability::Proved => Ok(()),
        Durability::Absent(why) => Err(StoreError::NotDurable(why)),
    }
}

/// Only that the folder lies on no file system in memory; nothing is written.
pub(crate) fn check_file_system(folder: &Path) -> Result<(), StoreError> {
    match in_memory(folder).map_err(StoreError::Unexamined)? {
        None => Ok(()),
        Some(why) => Err(StoreError::NotDurable(why)),
    }
}

/// Sorts what the writer thread has done to whom it concerns.
fn report(outcomes: Vec<Outcome>, events: &mpsc::UnboundedSender<StoreEvent>) {
    let told = outcomes.len();
    let Settled { stored, failed, chunks, receipts, losses_kept, recalled, epochs_kept, failures } =
        Settled::from_outcomes(outcomes);
    let appends = told - recalled.len();
    let broken = !failures.is_empty();
    for failure in failures {
        error!(%failure, "the disk of this node fails; it promises nothing more");
    }
    // Nobody waits for a chunk: the record behind it fails if it did.
    let of_intake = chunks.iter().filter(|chunk| chunk.transfer.0 < FIRST_NEIGHBOR_TRANSFER).count();
    let events_in_order = [
        (!stored.is_empty()).then_some(StoreEvent::Stored(stored)),
        broken.then_some(StoreEvent::Failed(failed)),
        (!recalled.is_empty()).then_some(StoreEvent::Recalled(recalled)),
    ];
    for event in events_in_order.into_iter().flatten() {
        let _driver_is_gone = events.send(event);
    }
    for _ in 0..epochs_kept {
        let _driver_is_gone = events.send(StoreEvent::EpochKept);
    }
    for _ in 0..losses_kept {
        let _driver_is_gone = events.send(StoreEvent::LossesKept);
    }
    for key in receipts {
        let _driver_is_gone = events.send(StoreEvent::ReceiptKept(key));
    }
    let _driver_is_gone = events.send(StoreEvent::Settled(appends - of_intake));
}

/// An epoch: of a new spool, or to look from for another.
pub(crate) fn random_epoch() -> Epoch {
    Epoch::new(rand::rng().random_range(1..=Epoch::MAX)).expect("the range is valid")
}

/// The id of a chain that was never told.
pub(crate) fn random_chain() -> ChainId {
    ChainId::from_bytes(rand::random())
}

/// The wall clock, for people.
pub(crate) fn wall_clock() -> UnixMillis {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    UnixMillis(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}

impl Store {
    /// A record and a run of its chunks. What an archive held before this start is found by the ledger.
    fn read_run(
        &self,
        id: &RecordId,
        chunks: Range<u32>,
    ) -> Result<(estafet_spool::ReadRecord, Vec<Bytes>), ReadError> {
        let read = self.spool.read_with_chunks(id, chunks.clone());
        match (&read, &self.ledger) {
            (Err(ReadError::NotHere), Some(ledger)) => match ledger.find_blocking(id.clone()) {
                Ok(Some(commit)) => self.spool.read_extent_with_chunks(commit.extent, chunks),
                Ok(None) | Err(_) => read,
            },
            _ => read,
        }
    }
}

impl PayloadSource for Store {
    fn recent(&self, id: &RecordId) -> Option<ReadRecord> {
        self.recent.take(id)
    }

    fn read(&self, id: &RecordId, chunks: u32) -> Result<ReadRecord, Unreadable> {
        let (record, chunks) = self.read_run(id, 0..chunks).map_err(|error| {
            error!(record = %id, %error, "a record cannot be read from this node's disk");
            Unreadable(error.to_string())
        })?;
        let chunk_hashes = match record.payload {
            ReadPayload::Inline(_) => vec![ChunkHash::from_bytes(*record.header.header().payload_hash.as_bytes())],
            ReadPayload::Chunks(hashes) => hashes,
        };
        Ok(ReadRecord { signed_header: record.header.encode(), chunk_hashes, chunks })
    }

    fn read_chunks(&self, id: &RecordId, chunks: Range<u32>) -> Result<Vec<Bytes>, Unreadable> {
        let read = self.read_run(id, chunks);
        read.map(|(_, chunks)| chunks).map_err(|error| Unreadable(error.to_string()))
    }
}
