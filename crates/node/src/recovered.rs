//! What a node finds in its store when it starts.

use std::collections::{BTreeMap, VecDeque};

use estafet_custody::{HeldRecord, HeldRecords, Losses, RecoveredTransfer};
use estafet_model::{Durable, Epoch, Idempotency, NodeId, RecordId, Seq, SeqRanges, SignedReceipt};
use estafet_routing::Captured as Count;

use crate::captures::{Captured, KEYS_MAX};

/// A record as the store has it.
#[derive(Debug)]
pub struct StoredRecord {
    /// The record.
    pub record: Durable<HeldRecord>,
    /// Its counter's idempotency key, hashed.
    pub idempotency: Option<Idempotency>,
}

/// The records that are found in a store, taken in one by one: of each only what is needed stays.
#[derive(Debug, Default)]
pub struct RecoveredRecords {
    pub(crate) held: HeldRecords,
    /// The idempotency keys of own captures, oldest first.
    pub(crate) keys: VecDeque<(Idempotency, Durable<Captured>)>,
    pub(crate) heads: BTreeMap<(NodeId, Epoch), Seq>,
    count: u64,
}

impl RecoveredRecords {
    /// One more, in the order they were stored.
    pub fn add(&mut self, stored: StoredRecord) {
        let StoredRecord { record, idempotency } = stored;
        self.note(record.get().id.clone(), idempotency, || record.clone().map(Captured::from));
        self.held.add(record);
        self.count += 1;
    }

    /// One that is committed at this hub. It is held by nobody's duty, but its number and its key are known.
    pub fn add_committed(&mut self, stored: &StoredRecord) {
        let record = &stored.record;
        self.note(record.get().id.clone(), stored.idempotency, || record.clone().map(Captured::from));
        self.count += 1;
    }

    /// How many were added.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.count
    }

    fn note(&mut self, id: RecordId, key: Option<Idempotency>, captured: impl FnOnce() -> Durable<Captured>) {
        let head = self.heads.entry((id.origin, id.epoch)).or_insert(id.seq);
        *head = (*head).max(id.seq);
        if let Some(key) = key {
            self.keys.push_back((key, captured()));
            if self.keys.len() > KEYS_MAX {
                self.keys.pop_front();
            }
        }
    }
}

/// What was found in the store at start.
#[derive(Debug, Default)]
pub struct Recovered {
    /// The records. At a hub: those whose entries were read, to learn their numbers and keys; what is committed stands
    /// in `committed`.
    pub records: RecoveredRecords,
    /// Records that were in the store and cannot be read any more. At a hub they are not in `committed`.
    pub damaged: Vec<HeldRecord>,
    /// Earlier epochs of this node's spool, each with its known count of captures.
    pub former: BTreeMap<Epoch, Count>,
    /// Own captures that no receipt may release: [`Output::KeepConflicts`](crate::Output::KeepConflicts).
    pub conflicts: BTreeMap<Epoch, SeqRanges>,
    /// Payloads that were arriving.
    pub transfers: Vec<RecoveredTransfer>,
    /// The receipts that were kept.
    pub receipts: Vec<SignedReceipt>,
    /// At a hub: everything committed.
    pub committed: BTreeMap<(NodeId, Epoch), SeqRanges>,
    /// At a hub: what it has kept of its losses.
    pub losses: BTreeMap<(NodeId, Epoch), Losses>,
    /// At a hub: how many records its store has more than once; 0, or a fault.
    pub committed_twice: u64,
}
