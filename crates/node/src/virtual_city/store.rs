//! One node's disk: what was appended becomes durable in groups, and what was not is lost with the power.

use std::collections::BTreeMap;

use bytes::{Bytes, BytesMut};
use estafet_custody::{HeldRecord, StorePayload, StoreRecord, TransferId};
use estafet_model::{
    CHUNK_BYTES, ChunkHash, Durable, Epoch, HeaderDigest, NodeId, PayloadHash, ReceiptKey, RecordId, SeqRanges,
    SignedHeader, SignedReceipt, UnixMillis, chunk_count,
};

use super::seeded::Seeded;
use crate::{Input, Recovered, StoredRecord};

/// One entry of the log.
#[derive(Debug, Clone)]
pub(crate) enum Entry {
    Record(Box<StoreRecord>),
    Chunk { transfer: TransferId, data: Bytes },
    Abort(TransferId),
    Receipt(SignedReceipt),
    Release(Vec<RecordId>),
}

/// A record that is durable.
#[derive(Debug, Clone)]
pub(crate) struct OnDisk {
    pub(crate) header: SignedHeader,
    pub(crate) payload: Bytes,
    received_from: Option<NodeId>,
    idempotency: Option<[u8; 16]>,
    order: u64,
}

impl OnDisk {
    pub(crate) fn digest(&self) -> HeaderDigest {
        self.header.header().digest()
    }

    /// Chunk `index` of the payload.
    pub(crate) fn chunk(&self, index: u32) -> Bytes {
        let start = index as usize * CHUNK_BYTES;
        self.payload.slice(start..self.payload.len().min(start + CHUNK_BYTES))
    }

    pub(crate) fn chunk_hashes(&self) -> Vec<ChunkHash> {
        let count = chunk_count(self.header.header().payload_bytes);
        (0..count).map(|index| ChunkHash::of(&self.chunk(index), index, count)).collect()
    }

    fn held(&self) -> HeldRecord {
        let header = self.header.header();
        HeldRecord {
            id: header.id.clone(),
            class: header.class,
            payload_bytes: header.payload_bytes,
            payload_hash: header.payload_hash,
            digest: header.digest(),
            received_from: self.received_from.clone(),
            stored_at: UnixMillis(0),
        }
    }
}

/// The disk. It outlives the node's process.
#[derive(Debug, Default)]
pub(crate) struct VirtualStore {
    is_hub: bool,
    records: BTreeMap<RecordId, OnDisk>,
    receipts: BTreeMap<ReceiptKey, SignedReceipt>,
    chunks: BTreeMap<TransferId, BytesMut>,
    stored_twice: u64,
    next_order: u64,
    pending: Vec<Entry>,
    syncing: Vec<Entry>,
    /// A sync fails from now on, and so does every one after it.
    failing: bool,
    /// One has failed.
    poisoned: bool,
}

impl VirtualStore {
    pub(crate) fn new(is_hub: bool) -> Self {
        Self { is_hub, ..Self::default() }
    }

    pub(crate) fn set_failing(&mut self, failing: bool) {
        self.failing = failing;
        self.poisoned = false;
    }

    pub(crate) fn append(&mut self, entry: Entry) {
        self.pending.push(entry);
    }

    /// Begins a sync of all that waits; false if there is nothing to do, or one is running.
    pub(crate) fn begin_sync(&mut self) -> bool {
        if self.pending.is_empty() || !self.syncing.is_empty() {
            return false;
        }
        self.syncing = std::mem::take(&mut self.pending);
        true
    }

    /// The sync has returned: what the node is to hear, in order.
    pub(crate) fn end_sync(&mut self, seeded: &mut Seeded) -> Vec<Input> {
        if self.failing {
            return vec![Input::StoreFailed(self.fail(seeded))];
        }
        let group = std::mem::take(&mut self.syncing);
        let mut stored = Vec::new();
        let mut kept = Vec::new();
        for entry in group {
            match self.apply(entry) {
                Applied::Record(record) => stored.push(record),
                Applied::Receipt(key) => kept.push(Input::ReceiptKept(after_sync(key))),
                Applied::Nothing => {}
            }
        }
        let stored = (!stored.is_empty()).then_some(Input::Stored(stored));
        stored.into_iter().chain(kept).collect()
    }

    /// The power goes: of what was being synced, some beginning is on the disk, of the rest nothing.
    pub(crate) fn power_cut(&mut self, seeded: &mut Seeded) {
        self.lose_some(seeded);
        self.pending.clear();
        self.chunks.clear();
    }

    /// The sync has failed: of these records nothing may be promised, and some may be found after a restart.
    fn fail(&mut self, seeded: &mut Seeded) -> Vec<RecordId> {
        let record = |entry: &Entry| match entry {
            Entry::Record(record) => Some(record.header.header().id.clone()),
            _ => None,
        };
        let failed = self.syncing.iter().filter_map(record).collect();
        // After the first failure nothing more is written.
        if std::mem::replace(&mut self.poisoned, true) {
            self.syncing.clear();
        }
        self.lose_some(seeded);
        failed
    }

    fn lose_some(&mut self, seeded: &mut Seeded) {
        let group = std::mem::take(&mut self.syncing);
        let survivors = seeded.below(group.len() + 1);
        for entry in group.into_iter().take(survivors) {
            self.apply(entry);
        }
    }

    fn apply(&mut self, entry: Entry) -> Applied {
        match entry {
            Entry::Record(record) => return Applied::Record(self.put(*record)),
            Entry::Chunk { transfer, data } => self.chunks.entry(transfer).or_default().extend_from_slice(&data),
            Entry::Abort(transfer) => {
                self.chunks.remove(&transfer);
            }
            Entry::Receipt(receipt) => {
                let key = receipt.key().clone();
                self.receipts.insert(key.clone(), receipt);
                return Applied::Receipt(key);
            }
            Entry::Release(ids) => ids.iter().for_each(|id| self.release(id)),
        }
        Applied::Nothing
    }

    fn put(&mut self, record: StoreRecord) -> StoredRecord {
        let payload = match record.payload {
            StorePayload::Inline(bytes) => bytes,
            StorePayload::Transfer(transfer) => {
                self.chunks.remove(&transfer).expect("a record's chunks come before it").freeze()
            }
        };
        let header = record.header.header();
        assert_eq!(PayloadHash::of(&payload), header.payload_hash, "{} was stored with other bytes", header.id);
        let id = header.id.clone();
        let order = self.next_order;
        self.next_order += 1;
        let StoreRecord { header, received_from, idempotency, .. } = record;
        let found = OnDisk { header, payload, received_from, idempotency, order };
        let stored = StoredRecord { record: after_sync(found.held()), idempotency };
        if self.records.insert(id, found).is_some() {
            self.stored_twice += 1;
        }
        stored
    }

    fn release(&mut self, id: &RecordId) {
        assert!(
            self.receipts.values().any(|receipt| receipt.covers(id)),
            "{id} was released without a durable receipt"
        );
        self.records.remove(id);
    }

    pub(crate) fn record(&self, id: &RecordId) -> Option<&OnDisk> {
        self.records.get(id)
    }

    pub(crate) fn record_count(&self) -> usize {
        self.records.len()
    }

    /// How often a record was stored although it was there.
    pub(crate) fn stored_twice(&self) -> u64 {
        self.stored_twice
    }

    /// What a node finds when it starts.
    pub(crate) fn recover(&self) -> Recovered {
        let mut found: Vec<&OnDisk> = self.records.values().collect();
        found.sort_by_key(|record| record.order);
        let mut committed: BTreeMap<(NodeId, Epoch), SeqRanges> = BTreeMap::new();
        for id in self.records.keys().filter(|_| self.is_hub) {
            committed.entry((id.origin.clone(), id.epoch)).or_default().insert(id.seq);
        }
        let known = found.into_iter().filter(|record| !self.is_hub || record.idempotency.is_some());
        let stored =
            |record: &OnDisk| StoredRecord { record: after_sync(record.held()), idempotency: record.idempotency };
        Recovered {
            records: known.map(stored).collect(),
            transfers: Vec::new(),
            receipts: self.receipts.values().cloned().collect(),
            committed,
            committed_twice: if self.is_hub { self.stored_twice } else { 0 },
        }
    }
}

/// What an entry that is now durable means to the node.
enum Applied {
    Nothing,
    Record(StoredRecord),
    Receipt(ReceiptKey),
}

#[expect(clippy::disallowed_methods, reason = "this is a store: its virtual sync has returned")]
fn after_sync<T>(value: T) -> Durable<T> {
    Durable::after_sync(value)
}
