//! The node's disk: the spool, and at a hub the ledger beside it, as the driver sees them.
//!
//! A relay's spool gives room back when receipts have come. A hub's is an archive: the same log, but nothing is ever
//! given back, and what is durable in it is committed. The ledger (SQLite) is fed from the archive, never ahead of it.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use estafet_model::{ByteCount, Durable, Epoch, NodeId, ReceiptKey, RecordId, SignedReceipt, UnixMillis, Writer};
use estafet_node::custody::{HeldRecord, StorePayload, StoreRecord};
use estafet_node::{Recovered, StoredRecord};
use estafet_quic::{PayloadSource, ReadRecord, Unreadable};
use estafet_spool::{
    Append, Done, Item, NewRecord, OpenError, Outcome, Payload, ReadPayload, Spool, SpoolOptions, TransferId,
};
use rand::RngExt;
use tokio::sync::{mpsc, oneshot};
use tracing::{error, warn};

use crate::ledger::{Ledger, LedgerError};

/// Keys of small values in the spool.
const EPOCH_KEY: &[u8] = b"epoch";
const STARTS_KEY: &[u8] = b"starts";
const RECEIPT_KEY: &[u8] = b"receipt/";

/// What is left free of a full store, so that receipts can still be kept and what is arriving can end.
const RESERVE_MAX: ByteCount = ByteCount::mebibytes(256);

/// The store could not be opened.
#[derive(Debug, thiserror::Error, miette::Diagnostic)]
pub(crate) enum StoreError {
    #[error("failed to {0}")]
    #[diagnostic(help("is another estafet-relay running on this folder? is the disk there and writable?"))]
    Spool(#[from] OpenError),
    #[error(transparent)]
    #[diagnostic(help("the ledger is derived: move ledger.sqlite away and it is made again from the archive"))]
    Ledger(#[from] LedgerError),
    #[error("failed to write the first entries of the spool")]
    #[diagnostic(help("the disk refuses writes: see the log above"))]
    NotWritable,
}

/// What the store has done, for the driver.
#[derive(Debug)]
pub(crate) enum StoreEvent {
    /// These records are durable, in the order they were appended.
    Stored(Vec<Durable<estafet_spool::StoredRecord>>),
    /// This receipt is durable.
    ReceiptKept(Durable<ReceiptKey>),
    /// These records are not durable and never will be.
    Failed(Vec<RecordId>),
    /// This many of the driver's appends do not wait for the disk any more, the oldest first.
    Settled(usize),
}

/// Whoever waits for a chunk that intake stored itself.
type ChunkWaiters = Arc<Mutex<HashMap<(TransferId, u32), oneshot::Sender<bool>>>>;

/// The store of one node. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Store {
    pub(crate) spool: Spool,
    pub(crate) ledger: Option<Ledger>,
    chunk_waiters: ChunkWaiters,
    reserve: ByteCount,
}

/// A store that was opened, and what was in it.
pub(crate) struct Opened {
    pub(crate) store: Store,
    pub(crate) events: mpsc::UnboundedReceiver<StoreEvent>,
    pub(crate) recovered: Recovered,
    pub(crate) epoch: Epoch,
    /// How often this spool was opened, this time included.
    pub(crate) starts: u64,
}

impl Store {
    /// Opens the store, or makes it.
    pub(crate) fn open(
        folder: &Path,
        hub: Option<&NodeId>,
        bytes_max: ByteCount,
        hold_bytes_max: ByteCount,
    ) -> Result<Opened, StoreError> {
        let ledger = hub.map(|_| Ledger::open(&folder.join("ledger.sqlite"))).transpose()?;
        let options = SpoolOptions {
            bytes_max,
            hold_bytes_max,
            reclaim: hub.is_none(),
            scan_from: ledger.as_ref().map(Ledger::scan_from),
            ..SpoolOptions::default()
        };
        let (sender, mut events) = mpsc::unbounded_channel();
        let chunk_waiters = ChunkWaiters::default();
        let waiters = Arc::clone(&chunk_waiters);
        let mut recovered = Recovered::default();
        let mut for_ledger = Vec::new();
        let mut each = |record: Durable<estafet_spool::StoredRecord>| {
            if ledger.is_some() {
                for_ledger.push(record.get().clone());
            }
            recovered.records.push(stored_record(record, None));
        };
        let report = move |outcomes| report(outcomes, &waiters, &sender);
        let (spool, found) = Spool::open_with(folder, options, &mut each, report)?;
        for damage in &found.damaged {
            error!(?damage, "a part of the spool is damaged; everything else is served");
        }
        if found.torn_bytes > 0 {
            warn!(bytes = found.torn_bytes, "cut an unfinished write off the spool; nothing promised was in it");
        }
        let (epoch, starts) = identity(&found.puts);
        let put = |key: &'static [u8], value: Bytes| Append::Put { key: Bytes::from_static(key), value };
        let first = vec![
            put(EPOCH_KEY, Bytes::copy_from_slice(&epoch.get().to_be_bytes())),
            put(STARTS_KEY, Bytes::copy_from_slice(&starts.to_be_bytes())),
        ];
        let settled = spool.append(first).is_ok() && matches!(events.blocking_recv(), Some(StoreEvent::Settled(_)));
        if !settled || spool.usage().poisoned.is_some() {
            return Err(StoreError::NotWritable);
        }
        let receipts = found.puts.iter().filter(|(key, _)| key.starts_with(RECEIPT_KEY));
        recovered.receipts = receipts.filter_map(|(_, value)| SignedReceipt::decode(value).ok()).collect();
        if let Some(ledger) = &ledger {
            ledger.catch_up(for_ledger);
            (recovered.committed, recovered.committed_twice) = ledger.committed()?;
        }
        let reserve = ByteCount(bytes_max.0 / 16).min(RESERVE_MAX);
        Ok(Opened { store: Self { spool, ledger, chunk_waiters, reserve }, events, recovered, epoch, starts })
    }

    /// How much may still be taken in.
    pub(crate) fn room(&self) -> ByteCount {
        self.spool.free_bytes() - self.reserve
    }

    /// Stores one chunk and waits until it is durable.
    pub(crate) async fn store_chunk(
        &self,
        transfer: TransferId,
        index: u32,
        data: Bytes,
        hash: estafet_model::ChunkHash,
    ) -> bool {
        let (sender, durable) = oneshot::channel();
        self.chunk_waiters.lock().unwrap_or_else(PoisonError::into_inner).insert((transfer, index), sender);
        let queued = self.spool.append(vec![Append::Chunk { transfer, index, data, hash }]).is_ok();
        if !queued {
            self.chunk_waiters.lock().unwrap_or_else(PoisonError::into_inner).remove(&(transfer, index));
        }
        queued && durable.await.unwrap_or(false)
    }
}

/// Sorts what the writer thread has done to whom it concerns.
fn report(outcomes: Vec<Outcome>, waiters: &ChunkWaiters, events: &mpsc::UnboundedSender<StoreEvent>) {
    let mut stored = Vec::new();
    let mut failed = Vec::new();
    let mut kept = Vec::new();
    let mut settled = outcomes.len();
    // Chunks of neighbors have no waiter: their record fails if they did.
    let mut answer = |transfer, index, durable: bool| {
        let waiter = waiters.lock().unwrap_or_else(PoisonError::into_inner).remove(&(transfer, index));
        if let Some(waiter) = waiter {
            settled -= 1;
            let _counter_hung_up = waiter.send(durable);
        }
    };
    for outcome in outcomes {
        match outcome {
            Ok(Done::Record(record)) => stored.push(record),
            Ok(Done::Chunk { transfer, index }) => answer(transfer, index, true),
            Ok(Done::Begin { .. }) => {}
            Ok(Done::Put { key }) => kept.extend(receipt_key(&key)),
            Err(failure) => {
                error!(%failure, "the disk of this node fails; it promises nothing more");
                match failure.item {
                    Item::Record(id) => failed.push(id),
                    Item::Chunk { transfer, index } => answer(transfer, index, false),
                    Item::Begin { .. } | Item::Put { .. } => {}
                }
            }
        }
    }
    let events_in_order = [
        (!stored.is_empty()).then_some(StoreEvent::Stored(stored)),
        (!failed.is_empty()).then_some(StoreEvent::Failed(failed)),
    ];
    for event in events_in_order.into_iter().flatten() {
        let _driver_is_gone = events.send(event);
    }
    for key in kept {
        let _driver_is_gone = events.send(StoreEvent::ReceiptKept(key));
    }
    let _driver_is_gone = events.send(StoreEvent::Settled(settled));
}

/// The epoch and the count of starts; drawn and begun if the spool is new.
fn identity(puts: &BTreeMap<Bytes, Bytes>) -> (Epoch, u64) {
    let number =
        |key: &[u8]| puts.get(key).map(|value| value.iter().fold(0u64, |sum, byte| (sum << 8) | u64::from(*byte)));
    let epoch = number(EPOCH_KEY).and_then(|epoch| u16::try_from(epoch).ok()).and_then(Epoch::new);
    // Drawn at random: a spool that was lost must not give the same numbers again, and offline nobody can be asked.
    let epoch = epoch.or_else(|| Epoch::new(rand::rng().random_range(1..=Epoch::MAX))).expect("the range is valid");
    (epoch, number(STARTS_KEY).unwrap_or(0) + 1)
}

/// The key under which a receipt is kept in the spool.
fn receipt_put_key(key: &ReceiptKey) -> Bytes {
    Writer::new().raw(RECEIPT_KEY).text(key.hub.as_str()).text(key.origin.as_str()).u16(key.epoch.get()).finish()
}

fn receipt_key(put_key: &[u8]) -> Option<Durable<ReceiptKey>> {
    let mut reader = estafet_model::Reader::new(put_key.strip_prefix(RECEIPT_KEY)?);
    let hub = reader.parse("hub").ok()?;
    let origin = reader.parse("origin").ok()?;
    let epoch = Epoch::new(reader.u16("epoch").ok()?)?;
    Some(Durable::after_sync(ReceiptKey { hub, origin, epoch }))
}

/// A receipt as an entry of the spool.
pub(crate) fn receipt_append(receipt: &SignedReceipt) -> Append {
    Append::Put { key: receipt_put_key(receipt.key()), value: receipt.encode() }
}

/// A record as an entry of the spool.
pub(crate) fn record_append(record: StoreRecord) -> Append {
    Append::Record(NewRecord {
        header: record.header,
        received_from: record.received_from,
        stored_at: wall_clock(),
        idempotency: record.idempotency,
        payload: match record.payload {
            StorePayload::Inline(bytes) => Payload::Inline(bytes),
            StorePayload::Transfer(transfer) => Payload::Transfer(TransferId(transfer.0)),
        },
    })
}

/// A record that the spool has synced, as the node knows records.
pub(crate) fn stored_record(
    record: Durable<estafet_spool::StoredRecord>,
    received_from: Option<NodeId>,
) -> StoredRecord {
    let idempotency = record.get().idempotency;
    let record = record.map(|record| HeldRecord {
        id: record.id,
        class: record.class,
        payload_bytes: record.payload_bytes,
        payload_hash: record.payload_hash,
        digest: record.digest,
        received_from,
        stored_at: record.stored_at,
    });
    StoredRecord { record, idempotency }
}

/// The wall clock, for people.
pub(crate) fn wall_clock() -> UnixMillis {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    UnixMillis(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}

impl PayloadSource for Store {
    fn read(&self, id: &RecordId) -> Result<ReadRecord, Unreadable> {
        let unreadable = |error: estafet_spool::ReadError| {
            error!(record = %id, %error, "a record cannot be read from this node's disk");
            Unreadable(error.to_string())
        };
        let record = self.spool.read(id).map_err(unreadable)?;
        let (chunks, first_chunk) = match record.payload {
            ReadPayload::Inline(bytes) => (1, bytes),
            ReadPayload::Chunks(count) => (count, self.spool.read_chunk(id, 0).map_err(unreadable)?),
        };
        Ok(ReadRecord { signed_header: record.header.encode(), chunks, first_chunk })
    }

    fn read_chunk(&self, id: &RecordId, index: u32) -> Result<Bytes, Unreadable> {
        self.spool.read_chunk(id, index).map_err(|error| Unreadable(error.to_string()))
    }
}
