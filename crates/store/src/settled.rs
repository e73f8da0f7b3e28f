//! What a commit of the spool means to the node.

use estafet_model::{Durable, ReceiptKey, RecordId};
use estafet_spool::{Done, Failed, Item, Outcome, StoredRecord, TransferId};

use crate::entries::{losses_key, receipt_key};
use crate::identity::is_epoch;

/// The outcomes of a group of appends, sorted by whom they concern; each list in the order of the appends.
#[derive(Debug, Default)]
pub struct Settled {
    /// These records are durable.
    pub stored: Vec<Durable<StoredRecord>>,
    /// These records are not, and nothing may be promised of them.
    pub failed: Vec<RecordId>,
    /// What became of chunks.
    pub chunks: Vec<SettledChunk>,
    /// These receipts are durable. The node hears of them after `stored` and `failed`.
    pub receipts: Vec<Durable<ReceiptKey>>,
    /// So many of a hub's losses are durable, in the order they were to be kept.
    pub losses_kept: usize,
    /// These records, which were released, are needed again.
    pub recalled: Vec<Durable<StoredRecord>>,
    /// So many of the node's epochs are durable, in the order they were to be kept.
    pub epochs_kept: usize,
    /// Everything that failed and why, for people.
    pub failures: Vec<Failed>,
}

/// What became of one chunk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SettledChunk {
    /// Of which payload.
    pub transfer: TransferId,
    /// Which chunk of it.
    pub index: u32,
    /// It is on the disk.
    pub durable: bool,
}

impl Settled {
    /// Sorts outcomes.
    #[must_use]
    pub fn from_outcomes(outcomes: Vec<Outcome>) -> Self {
        let mut settled = Self::default();
        for outcome in outcomes {
            match outcome {
                Ok(Done::Record(record)) => settled.stored.push(record),
                Ok(Done::Chunk { transfer, index }) => settled.chunk(transfer, index, true),
                // The record that the payload becomes fails if this did.
                Ok(Done::Begin { .. }) => {}
                Ok(Done::Put { key }) if is_epoch(&key) => settled.epochs_kept += 1,
                Ok(Done::Put { key }) if losses_key(&key).is_some() => settled.losses_kept += 1,
                Ok(Done::Recalled(record)) => settled.recalled.push(record),
                Ok(Done::Put { key }) => settled.receipts.extend(receipt_key(&key).map(Durable::after_sync)),
                Err(failure) => {
                    match &failure.item {
                        Item::Record(id) => settled.failed.push(id.clone()),
                        Item::Chunk { transfer, index } => settled.chunk(*transfer, *index, false),
                        Item::Begin { .. } | Item::Put { .. } => {}
                    }
                    settled.failures.push(failure);
                }
            }
        }
        settled
    }

    fn chunk(&mut self, transfer: TransferId, index: u32, durable: bool) {
        self.chunks.push(SettledChunk { transfer, index, durable });
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::sync::Arc;

    use bytes::Bytes;
    use estafet_model::{ChunkHash, Epoch, SeqRanges, SignedReceipt, SigningKey};
    use estafet_spool::{Append, Fault, Log, MemoryDisk, SpoolOptions};

    use super::*;
    use crate::entries::receipt_append;
    use crate::identity::epoch_appends;

    #[test]
    fn the_node_hears_of_receipts_and_of_chunks_and_of_nothing_that_failed_as_durable() {
        let key = ReceiptKey {
            hub: "induk".parse().unwrap(),
            origin: "sail".parse().unwrap(),
            epoch: Epoch::new(3).unwrap(),
        };
        let receipt = SignedReceipt::sign(key.clone(), 0, SeqRanges::default(), &SigningKey::from_seed([9; 32]));
        let batch = || {
            let data = Bytes::from_static(b"chunk");
            let hash = ChunkHash::of(&data, 0, 2);
            let epoch = |epoch| epoch_appends(Epoch::new(epoch).unwrap(), &BTreeMap::new());
            let chunk = Append::Chunk { transfer: TransferId(1), index: 0, data, hash };
            [epoch(7), epoch(8), vec![chunk, receipt_append(&receipt)]].concat()
        };
        let chunk = |durable| SettledChunk { transfer: TransferId(1), index: 0, durable };
        let disk = MemoryDisk::new();
        let (mut log, _) = Log::open(Arc::new(disk.clone()), SpoolOptions::default()).unwrap();

        let settled = Settled::from_outcomes(log.commit(batch()));
        assert_eq!(settled.chunks, [chunk(true)]);
        assert_eq!(settled.receipts.iter().map(Durable::get).collect::<Vec<_>>(), [&key]);
        assert_eq!(settled.epochs_kept, 2, "each of two that one sync makes durable");
        assert!(settled.failures.is_empty());

        disk.fail_sync(1, Fault::Broken);
        let settled = Settled::from_outcomes(log.commit(batch()));
        assert_eq!(settled.chunks, [chunk(false)]);
        assert!(settled.receipts.is_empty());
        assert_eq!(settled.epochs_kept, 0);
        assert_eq!(settled.failures.len(), 6);
    }
}
