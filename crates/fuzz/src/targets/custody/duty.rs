//! What custody owes, in forty lines: the model that the machine is compared with.

use std::collections::{BTreeMap, BTreeSet};

use estafet_model::{ReceiptKey, RecordId, SignedReceipt};

/// Of every record, how far it is proved.
#[derive(Debug, Default)]
pub(super) struct Duty {
    /// Durable here, and not given back.
    stored: BTreeSet<RecordId>,
    /// Durable here and unreadable since.
    lost: BTreeSet<RecordId>,
    ever_lost: BTreeSet<RecordId>,
    /// Own captures whose numbers were given before, in a life that this node has forgotten: no receipt is for them.
    conflicts: BTreeSet<RecordId>,
    /// Covered by a receipt since the last start.
    let_go: BTreeSet<RecordId>,
    /// Given back, and whole.
    released: BTreeSet<RecordId>,
    /// Was durable here once.
    ever_stored: BTreeSet<RecordId>,
    /// The newest receipt of each hub that is good, and which of them are durable here.
    receipts: BTreeMap<ReceiptKey, SignedReceipt>,
    kept: BTreeMap<ReceiptKey, SignedReceipt>,
    /// Every receipt that was the newest once.
    counted: Vec<SignedReceipt>,
}

impl Duty {
    pub(super) fn store(&mut self, id: RecordId) {
        self.let_go.remove(&id);
        self.lost.remove(&id);
        self.released.remove(&id);
        self.ever_stored.insert(id.clone());
        self.stored.insert(id);
    }

    pub(super) fn lose(&mut self, id: RecordId) {
        self.ever_lost.insert(id.clone());
        self.lost.insert(id);
    }

    pub(super) fn conflict(&mut self, id: RecordId) {
        // Another receipt may have come since, of a hub that has lost it.
        assert!(self.counted.iter().any(|receipt| receipt.covers(&id)), "{id} conflicts with nothing");
        self.conflicts.insert(id);
    }

    /// A receipt with a good signature came. It counts if it is newer. What the last one covered was let go for it, also
    /// if this one covers it no more: the hub has lost it, and only a restart or a recall finds it again.
    pub(super) fn receive(&mut self, receipt: SignedReceipt) {
        let newest = self.receipts.get(receipt.key());
        if newest.is_none_or(|newest| receipt.rank() > newest.rank()) {
            let covered: Vec<RecordId> = self.stored.iter().filter(|id| self.is_covered(id)).cloned().collect();
            self.let_go.extend(covered);
            self.counted.push(receipt.clone());
            self.receipts.insert(receipt.key().clone(), receipt);
        }
    }

    pub(super) fn keep(&mut self, receipt: SignedReceipt) {
        let newest = self.receipts.get(receipt.key());
        let came = newest.is_some_and(|newest| receipt.rank() <= newest.rank());
        assert!(came, "{receipt:?} is kept, and {newest:?} is what came");
        self.kept.insert(receipt.key().clone(), receipt);
    }

    pub(super) fn release(&mut self, id: &RecordId) {
        assert!(self.kept.values().any(|receipt| receipt.covers(id)), "{id} goes without a durable receipt");
        assert!(!self.conflicts.contains(id), "{id} is not what the receipt is for");
        // The damaged copy and the one that came for it may both be let go.
        let was_stored = self.stored.remove(id);
        if was_stored && !self.lost.contains(id) {
            self.released.insert(id.clone());
        }
        let was_here = was_stored || self.ever_lost.contains(id);
        assert!(was_here, "{id} goes twice, or never was here");
        self.lost.remove(id);
    }

    /// What was given back is needed again; false if it was not.
    pub(super) fn recall(&mut self, id: &RecordId) -> bool {
        let recalled = self.released.remove(id);
        if recalled {
            self.let_go.remove(id);
            self.stored.insert(id.clone());
        }
        recalled
    }

    /// The node starts anew: what is not on the disk is forgotten.
    pub(super) fn restart(&mut self) {
        self.receipts = self.kept.clone();
        self.let_go.clear();
    }

    pub(super) fn is_covered(&self, id: &RecordId) -> bool {
        self.receipts.values().any(|receipt| receipt.covers(id))
    }

    /// What has to be held: durable here, and no receipt for it has come.
    pub(super) fn held(&self) -> BTreeSet<RecordId> {
        self.stored.iter().filter(|id| self.is_held(id)).cloned().collect()
    }

    pub(super) fn is_held(&self, id: &RecordId) -> bool {
        let receipted = (self.is_covered(id) || self.let_go.contains(id)) && !self.conflicts.contains(id);
        self.stored.contains(id) && !self.lost.contains(id) && !receipted
    }

    pub(super) fn lost(&self) -> &BTreeSet<RecordId> {
        &self.lost
    }

    pub(super) fn conflicts(&self) -> &BTreeSet<RecordId> {
        &self.conflicts
    }

    pub(super) fn ever_stored(&self) -> &BTreeSet<RecordId> {
        &self.ever_stored
    }

    pub(super) fn stored(&self) -> &BTreeSet<RecordId> {
        &self.stored
    }

    pub(super) fn kept(&self) -> impl Iterator<Item = &SignedReceipt> {
        self.kept.values()
    }
}
