//! Taking back what was released: its room was not given back yet, and it is needed once more.

use estafet_model::{Durable, Epoch, NodeId, RecordId, Seq, SeqRanges};

use super::Log;
use crate::append::StoredRecord;
use crate::format::{Kind, RecordMeta};
use crate::index::{Share, shares_of};
use crate::recovery::stored_record;

impl Log {
    /// Takes back released records of one origin's epoch with these numbers, as far as their bytes are still there: they
    /// are needed from now on, as if they had never been released. At most so many at once, and which numbers are left
    /// to be looked at.
    ///
    /// This is not logged: after a restart everything whose bytes are there is back in any case.
    pub fn recall(
        &mut self,
        origin: &NodeId,
        epoch: Epoch,
        seqs: &SeqRanges,
        at_most: usize,
    ) -> (Vec<Durable<StoredRecord>>, SeqRanges) {
        let found = self.shelf.index().released(origin, epoch, seqs, at_most);
        let rest = match found.last() {
            Some(last) if found.len() == at_most => seqs.minus(&SeqRanges::up_to(Seq::new(last.seq.get()))),
            _ => SeqRanges::new(),
        };
        (found.iter().filter_map(|id| self.recall_one(id)).collect(), rest)
    }

    fn recall_one(&mut self, id: &RecordId) -> Option<Durable<StoredRecord>> {
        let place = self.shelf.index().find(id)?;
        let meta = self.shelf.meta(place, Kind::Record).and_then(|meta| RecordMeta::decode(&meta).ok());
        let Some(meta) = meta.filter(|meta| meta.header.header().id == *id) else {
            tracing::error!(record = %id, segment = place.generation, "a released record is damaged and not taken back");
            self.segments.mark_damaged(place.generation);
            return None;
        };
        let chunks = shares_of(meta.chunks.as_deref().unwrap_or_default());
        if chunks.iter().any(|share| !self.segments.contains(share.generation)) {
            return None;
        }
        self.shelf.index_mut().insert(id, place, &chunks);
        for share in chunks.into_iter().chain([Share::of(place)]) {
            self.segments.need(share);
        }
        Some(Durable::after_sync(stored_record(&meta, place)))
    }
}
