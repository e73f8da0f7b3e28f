//! Moving what is live out of segments that are mostly garbage, so that one record that nobody takes does not hold
//! back a whole segment.
//!
//! What is moved is appended anew and synced like everything else; only then is the old place not needed any more. A
//! crash in between leaves both, and the later copy counts.

use std::collections::BTreeSet;

use bytes::Bytes;

use super::{Log, Staged};
use crate::append::{Extent, Poisoned, TransferId};
use crate::format::{BeginMeta, ChunkMeta, ChunkPlace, HEAD_BYTES, Kind, RecordMeta};
use crate::index::{Share, shares_of};
use crate::recovery::stored_record;
use crate::repair::Repair;
use crate::shelf::Entry;
use crate::survey::Survey;

/// A segment is moved out of if less than one part in this many of it is live: then it costs at most a third of what
/// it gives back.
const PARTS_USUALLY: u64 = 4;
/// The same when there is hardly any room left.
const PARTS_IF_SHORT: u64 = 2;
/// At most about this much is moved at once: it bounds how long an append waits for it.
const ROUND_BYTES: u64 = 4 << 20;

/// Why something was not moved.
enum Stuck {
    Poisoned,
    /// It cannot be read.
    Damaged(Extent),
}

impl From<Poisoned> for Stuck {
    fn from(_: Poisoned) -> Self {
        Self::Poisoned
    }
}

impl Log {
    /// Does some of what can wait until nothing else is to be done: moves live records, at most a few MiB, out of a
    /// segment that is mostly garbage. Returns whether there was anything to do, so that it is worth calling again.
    pub fn tidy(&mut self) -> bool {
        self.move_out_of_sparsest(PARTS_USUALLY, self.options.young_segments)
    }

    /// A part of the same, once per segment: the room comes back even if the writer is never idle.
    pub(super) fn tidy_a_little(&mut self) {
        let (parts, young) =
            if self.room_is_short() { (PARTS_IF_SHORT, 0) } else { (PARTS_USUALLY, self.options.young_segments) };
        self.move_out_of_sparsest(parts, young);
    }

    fn move_out_of_sparsest(&mut self, parts: u64, young: u64) -> bool {
        if self.poisoned.is_some() || !self.options.reclaim || self.keeps_all {
            return false;
        }
        self.note_damage();
        let before = self.frame.generation().saturating_sub(young);
        let Some(generation) = self.segments.sparsest(parts, before) else { return false };
        if !self.has_room_to_move(self.segments.live_bytes_of(generation).min(ROUND_BYTES)) {
            return false;
        }
        let moved = self.move_out(generation);
        if let Err(Stuck::Damaged(extent)) = &moved {
            // It is kept for repair, and so is what could not be moved without it.
            let (offset, segment) = (extent.offset, extent.generation);
            tracing::error!(segment, offset, "damage was found while moving records");
            self.segments.mark_damaged(extent.generation);
            self.segments.mark_damaged(generation);
        }
        self.flush(&mut Vec::new()).is_ok()
    }

    /// Moving must not be what fills the disk.
    fn has_room_to_move(&self, bytes: u64) -> bool {
        let on_disk = || self.shelf.disk().free_bytes().unwrap_or(0);
        self.active_room() >= 2 * bytes || on_disk() >= bytes + 2 * u64::from(self.options.nominal_bytes())
    }

    fn move_out(&mut self, generation: u64) -> Result<(), Stuck> {
        let records = self.shelf.index().live_in(generation);
        let mut moved = 0;
        for id in &records {
            let place = self.shelf.index().find_live(id).filter(|_| moved < ROUND_BYTES);
            if let Some(place) = place {
                moved += self.move_record(place, &|chunk| chunk == generation)?;
            }
        }
        for (transfer, index, entry) in self.transfers.in_segment(generation) {
            if moved < ROUND_BYTES {
                moved += u64::from(entry.length);
                self.move_arriving(transfer, index, entry)?;
            }
        }
        tracing::debug!(segment = generation, bytes = moved, "moved what is live out of a segment");
        Ok(())
    }

    /// Moves everything that the survey found whole out of these segments, however much it is.
    pub(crate) fn move_all_out(&mut self, survey: &Survey, from: &BTreeSet<u64>, repair: &mut Repair) {
        let is_from = |generation: u64| from.contains(&generation);
        for (id, place) in survey.places() {
            let meta = self.shelf.meta(place, Kind::Record).and_then(|meta| RecordMeta::decode(&meta).ok());
            let mut chunks = meta.iter().flat_map(|meta| meta.chunks.iter().flatten());
            if is_from(place.generation) || chunks.any(|chunk| is_from(chunk.extent.generation)) {
                let moved = self.move_record(place, &is_from);
                if moved.is_ok() { &mut repair.saved } else { &mut repair.lost }.insert(id.clone());
            }
        }
        for &generation in from {
            for (transfer, index, entry) in self.transfers.in_segment(generation) {
                // A chunk that cannot be read has not arrived.
                if self.move_arriving(transfer, index, entry).is_ok() {
                    repair.transfers.insert(transfer);
                }
            }
        }
    }

    /// Appends a record anew, with those of its chunks that are where it is to leave. Returns how much that was.
    fn move_record(&mut self, place: Extent, leaves: &dyn Fn(u64) -> bool) -> Result<u64, Stuck> {
        let record = self.entry_to_move(place, Kind::Record)?;
        let mut meta = RecordMeta::decode(&record.meta).map_err(|_| Stuck::Damaged(place))?;
        // Everything is read before anything is appended.
        let mut copies = Vec::new();
        for chunk in meta.chunks.iter().flatten().filter(|chunk| leaves(chunk.extent.generation)) {
            let copy = self.entry_to_move(chunk.extent, Kind::Chunk)?;
            let meta = ChunkMeta::decode(&copy.meta).map_err(|_| Stuck::Damaged(chunk.extent))?;
            copies.push((copy, meta));
        }
        let mut copies = copies.into_iter();
        let mut moved = u64::from(place.length);
        for chunk in meta.chunks.iter_mut().flatten() {
            if !leaves(chunk.extent.generation) {
                self.segments.need(Share::of(chunk.extent));
            } else if let Some((copy, meta)) = copies.next() {
                moved += u64::from(chunk.extent.length);
                chunk.extent = self.append_chunk(&copy, meta)?;
            }
        }
        let extent = self.append_entry(Kind::Record, &meta.encode(), &record.payload)?;
        let stored = stored_record(&meta, extent);
        let chunks = shares_of(meta.chunks.as_deref().unwrap_or_default());
        self.enter_record(&stored, &chunks);
        self.staged.push(Staged::Moved { stored, chunks });
        Ok(moved)
    }

    /// Appends the beginning (no index) or a chunk of a payload that is arriving anew.
    fn move_arriving(&mut self, transfer: TransferId, index: Option<u32>, entry: Extent) -> Result<(), Stuck> {
        let before = match index {
            None => {
                let begin = self.entry_to_move(entry, Kind::Begin)?;
                let meta = BeginMeta::decode(&begin.meta).map_err(|_| Stuck::Damaged(entry))?;
                let extent = self.append_entry(Kind::Begin, &begin.meta, &begin.payload)?;
                self.enter_begin(transfer, meta.header.header().id.clone(), extent);
                self.transfers.begin(transfer, extent, meta.chunks)
            }
            Some(index) => {
                let chunk = self.entry_to_move(entry, Kind::Chunk)?;
                let meta = ChunkMeta::decode(&chunk.meta).map_err(|_| Stuck::Damaged(entry))?;
                let extent = self.append_chunk(&chunk, meta)?;
                let bytes = chunk.head.payload_bytes;
                self.transfers.insert(transfer, index, ChunkPlace { extent, hash: meta.hash }, bytes)
            }
        };
        // Nothing is given back before the new place is durable.
        before.into_iter().for_each(|before| self.segments.unneed(Share::of(before)));
        Ok(())
    }

    fn append_chunk(&mut self, chunk: &Entry, meta: ChunkMeta) -> Result<Extent, Stuck> {
        let extent = self.append_entry(Kind::Chunk, &chunk.meta, &chunk.payload)?;
        self.enter_chunk(meta.transfer, meta.index, extent);
        Ok(extent)
    }

    fn append_entry(&mut self, kind: Kind, meta: &[u8], payload: &Bytes) -> Result<Extent, Poisoned> {
        let length = HEAD_BYTES as usize + meta.len() + payload.len();
        // What is moved has no outcome, and nothing else is staged.
        self.make_room(u32::try_from(length).expect("it was an entry before"), &mut Vec::new())?;
        Ok(self.frame.push(kind, meta, payload))
    }

    fn entry_to_move(&self, place: Extent, kind: Kind) -> Result<Entry, Stuck> {
        let entry = self.shelf.entry(place).map_err(|_| Stuck::Damaged(place))?;
        if entry.head.kind == kind { Ok(entry) } else { Err(Stuck::Damaged(place)) }
    }
}
