//! The log without a thread: commits, releases, and the books. Deterministic on a deterministic disk.

mod compaction;
mod recall;

use std::collections::BTreeSet;
use std::io;
use std::ops::{ControlFlow, Range};
use std::sync::Arc;

use bytes::Bytes;
use estafet_model::{Durable, RecordId, UnixMillis};

use crate::append::{Append, Done, Extent, Failed, Item, Outcome, Poisoned, StoredRecord, TransferId};
use crate::disk::{Disk, DiskFile};
use crate::format::{ChunkPlace, HEAD_BYTES, Kind, segment_name, spare_name};
use crate::frame::Frame;
use crate::index::{Share, shares_of};
use crate::options::{Fill, SpoolOptions, Usage};
use crate::prepared::{Prepared, Then};
use crate::recovery::{EachRecord, OpenError, Recovered, Restored, recover, stored_record};
use crate::scrub::Scrubbed;
use crate::segments::{Segments, Spare};
use crate::shelf::{ReadError, ReadRecord, Shelf};
use crate::table::{BeginRow, ChunkRow, Row, TableWriter};
use crate::transfers::Transfers;
use crate::values::Values;

/// So many of the newest segments stay in the system's memory, because what they hold is sent on soon. All others would
/// only push out what somebody else on the machine needs, and new pages cost more than old ones.
const CACHED_SEGMENTS: u64 = 4;

/// More than a row of the table usually takes.
const ROW_BYTES: usize = 256;

/// The log on one disk. [`Spool`](crate::Spool) runs it in a thread; the simulator calls it.
///
/// [`Log::commit`] is the only way in: it returns when everything in the batch is durable or has failed.
#[derive(Debug)]
pub struct Log {
    options: SpoolOptions,
    shelf: Arc<Shelf>,
    segments: Segments,
    /// The segment that is written to; nothing if there is none because the disk failed.
    file: Option<Arc<dyn DiskFile>>,
    frame: Frame,
    /// What the segment holds so far, for its seal.
    table: TableWriter,
    /// Where the file ends, once the seal is in the frame.
    sealed_at: Option<u32>,
    /// A segment was begun, and nothing was tidied since.
    to_tidy: bool,
    /// It is being repaired: nothing is given back.
    keeps_all: bool,
    /// Where the segment's own entries begin, behind the values it repeats.
    floor: u32,
    /// What the frame's entries become once they are durable.
    staged: Vec<Staged>,
    values: Values,
    transfers: Transfers,
    syncs: u64,
    poisoned: Option<Poisoned>,
}

#[derive(Debug)]
enum Staged {
    Record {
        stored: StoredRecord,
        chunks: Vec<Share>,
        begun: Option<Extent>,
    },
    /// A record that has another place from then on; nobody is told.
    Moved {
        stored: StoredRecord,
        chunks: Vec<Share>,
    },
    Begin {
        transfer: TransferId,
    },
    Chunk {
        transfer: TransferId,
        index: u32,
    },
    Put {
        key: Bytes,
    },
    Refused(Failed),
}

impl Log {
    /// Opens the log, and begins a new segment.
    ///
    /// A disk that can be read but not written (full, or read-only) gives a log that is poisoned from the start.
    pub fn open(disk: Arc<dyn Disk>, options: SpoolOptions) -> Result<(Self, Recovered), OpenError> {
        let mut records = Vec::new();
        let (log, recovered) = Self::open_with(disk, options, &mut |record| records.push(record))?;
        Ok((log, Recovered { records, ..recovered }))
    }

    /// The same, but each whole record is told as it is found, in the order of the log, and no list of them is made:
    /// of hundreds of thousands the caller may not want to keep all that is known.
    pub fn open_with(
        disk: Arc<dyn Disk>,
        options: SpoolOptions,
        each: &mut dyn FnMut(Durable<StoredRecord>),
    ) -> Result<(Self, Recovered), OpenError> {
        Self::open_as(disk, options, false, each)
    }

    fn open_as(
        disk: Arc<dyn Disk>,
        options: SpoolOptions,
        keeps_all: bool,
        each: EachRecord<'_>,
    ) -> Result<(Self, Recovered), OpenError> {
        let shelf = Arc::new(Shelf::new(disk));
        let restored = recover(&shelf, &options, each)?;
        let Restored { segments, transfers, next_generation, failed, syncs, recovered } = restored;
        let values = Values::new(recovered.puts.clone(), options.nominal_bytes());
        let mut log = Self {
            options,
            shelf,
            segments,
            file: None,
            frame: Frame::of_new_segment(next_generation),
            table: TableWriter::default(),
            sealed_at: None,
            to_tidy: false,
            keeps_all,
            floor: 0,
            staged: Vec::new(),
            values,
            transfers,
            syncs,
            poisoned: None,
        };
        let started = match failed {
            Some(reason) => Err(log.poison(reason)),
            None => log.begin_segment(next_generation).and_then(|()| log.flush(&mut Vec::new())),
        };
        log.trim_spares();
        if let Err(poisoned) = started {
            tracing::error!(%poisoned, "the spool opens for reading only");
        }
        Ok((log, recovered))
    }

    /// Opens the log to repair it: nothing is given back, and everything whole is in the index.
    pub(crate) fn open_keeping(disk: Arc<dyn Disk>) -> Result<Self, OpenError> {
        let options = SpoolOptions { spare_segments: usize::MAX, ..SpoolOptions::default() };
        Ok(Self::open_as(disk, options, true, &mut |_| ())?.0)
    }

    /// Stores everything in the batch, in order, and says of each what became of it. Usually one write and one sync.
    pub fn commit(&mut self, batch: Vec<Append>) -> Vec<Outcome> {
        let mut outcomes = Vec::with_capacity(batch.len());
        if let Some(poisoned) = &self.poisoned {
            return batch.iter().map(|append| Err(append.failed(poisoned))).collect();
        }
        let mut batch = batch.into_iter();
        let staged = batch.by_ref().try_for_each(|append| self.stage(append, &mut outcomes));
        if let Err(poisoned) = staged.and_then(|()| self.flush(&mut outcomes)) {
            outcomes.extend(batch.map(|append| Err(append.failed(&poisoned))));
        }
        if std::mem::take(&mut self.to_tidy) {
            self.tidy_a_little();
        }
        outcomes
    }

    /// These records' payloads may go. Whatever justifies it must be durable.
    pub fn release<'a>(&mut self, ids: impl IntoIterator<Item = &'a RecordId>) {
        for id in ids {
            let needed = self.shelf.index_mut().release(id);
            self.unneed(&needed);
        }
        self.reclaim();
    }

    /// The chunks of this transfer will not become a record. See [`Spool::abort`](crate::Spool::abort).
    pub fn abort(&mut self, transfer: TransferId) {
        for entry in self.transfers.remove(transfer) {
            self.segments.unneed(Share::of(entry));
        }
        self.reclaim();
    }

    /// Gives back the held segments whose captures were all stored before this. See
    /// [`hold_bytes_max`](SpoolOptions::hold_bytes_max).
    pub fn expire_held(&mut self, before: UnixMillis) {
        self.note_damage();
        while self.options.reclaim
            && self.poisoned.is_none()
            && let Some(generation) = self.segments.held_before(before)
        {
            self.give_back_or_poison(generation);
        }
    }

    /// Seals the segment, so that the next start knows that nothing was torn.
    pub fn close(self) {
        // If the disk fails now, the next start finds out where the log ends.
        let _ = self.seal();
    }

    /// The same, and says whether everything is durable.
    pub(crate) fn seal(mut self) -> Result<(), Poisoned> {
        if let Some(poisoned) = &self.poisoned {
            return Err(poisoned.clone());
        }
        self.push_seal();
        self.flush(&mut Vec::new())
    }

    /// Where a record is now: it may have been moved since it was stored.
    #[must_use]
    pub fn find(&self, id: &RecordId) -> Option<Extent> {
        self.shelf.index().find(id)
    }

    /// Reads a record by its id.
    pub fn read(&self, id: &RecordId) -> Result<ReadRecord, ReadError> {
        self.shelf.read(id)
    }

    /// Reads one chunk of a record's payload.
    pub fn read_chunk(&self, id: &RecordId, index: u32) -> Result<Bytes, ReadError> {
        self.shelf.read_chunk(id, index)
    }

    /// Reads a record and a run of its chunks. See [`Spool::read_with_chunks`](crate::Spool::read_with_chunks).
    pub fn read_with_chunks(&self, id: &RecordId, chunks: Range<u32>) -> Result<(ReadRecord, Vec<Bytes>), ReadError> {
        self.shelf.read_with_chunks(id, chunks)
    }

    /// Reads a record by its place.
    pub fn read_extent(&self, extent: Extent) -> Result<ReadRecord, ReadError> {
        self.shelf.read_extent(extent)
    }

    /// Reads one chunk of the payload of the record at this place.
    pub fn read_chunk_of(&self, extent: Extent, index: u32) -> Result<Bytes, ReadError> {
        self.shelf.read_chunk_of(extent, index)
    }

    /// See [`Spool::check`](crate::Spool::check).
    pub fn check(&self, extent: Extent) -> Result<(), ReadError> {
        self.shelf.check(extent)
    }

    /// See [`Spool::scrub`](crate::Spool::scrub).
    #[must_use]
    pub fn scrub(&self, generation: u64) -> Scrubbed {
        self.shelf.scrub(generation, &mut |_| ControlFlow::Continue(()))
    }

    /// See [`Spool::complete_segments`](crate::Spool::complete_segments).
    pub fn complete_segments(&self) -> io::Result<BTreeSet<u64>> {
        self.shelf.complete_segments()
    }

    /// Why nothing is stored any more, if so.
    #[must_use]
    pub fn poisoned(&self) -> Option<&Poisoned> {
        self.poisoned.as_ref()
    }

    /// How full the log is and how it fares.
    #[must_use]
    pub fn usage(&self) -> Usage {
        self.fill().usage(self.shelf.disk())
    }

    pub(crate) fn fill(&self) -> Fill {
        let totals = self.segments.totals();
        let active_room = self.active_room();
        Fill {
            used_bytes: totals.file_bytes - active_room,
            live_bytes: totals.live_bytes,
            held_bytes: totals.held_bytes,
            room_in_files: active_room + self.segments.spare_bytes(),
            bytes_max: self.options.bytes_max.0,
            segments: self.segments.count(),
            spares: self.segments.spares(),
            damaged_segments: totals.damaged,
            syncs: self.syncs,
            poisoned: self.poisoned.clone(),
        }
    }

    pub(crate) fn shelf(&self) -> Arc<Shelf> {
        Arc::clone(&self.shelf)
    }

    fn active_room(&self) -> u64 {
        let active = self.segments.file_bytes_of(self.frame.generation());
        active.saturating_sub(u64::from(self.frame.next()))
    }

    /// Adds one item to the frame. Writes the frame first if the segment is full.
    fn stage(&mut self, append: Append, outcomes: &mut Vec<Outcome>) -> Result<(), Poisoned> {
        let item = append.item();
        let prepared = match Prepared::new(append, &self.transfers, &self.values) {
            Ok(prepared) => prepared,
            Err(refusal) => {
                self.staged.push(Staged::Refused(Failed { item, reason: refusal.into() }));
                return Ok(());
            }
        };
        if let Err(poisoned) = self.make_room(prepared.length(), outcomes) {
            outcomes.push(Err(Failed { item, reason: poisoned.clone().into() }));
            return Err(poisoned);
        }
        let extent = self.frame.push(prepared.kind, &prepared.meta, &prepared.payload);
        let staged = self.enter(prepared.then, extent);
        self.staged.push(staged);
        Ok(())
    }

    /// Makes sure that an entry of this length and a seal fit in the segment. One that fits in no segment gets one
    /// of its own, which is longer.
    fn make_room(&mut self, length: u32, outcomes: &mut Vec<Outcome>) -> Result<(), Poisoned> {
        let table = (self.table.bytes() + ROW_BYTES) as u64;
        let end = u64::from(self.frame.next()) + u64::from(length) + 2 * u64::from(HEAD_BYTES) + table;
        if self.frame.next() == self.floor || end <= u64::from(self.options.nominal_bytes()) {
            return Ok(());
        }
        self.push_seal();
        self.flush(outcomes)?;
        let full = self.frame.generation();
        let next = full.checked_add(1).expect("it began in the lower half, and a segment a nanosecond takes 250 years");
        self.begin_segment(next)?;
        self.segments.seal(full);
        Ok(())
    }

    /// The last entry of the segment, with the table of all others.
    fn push_seal(&mut self) {
        let table = self.table.finish(true, self.frame.next());
        let seal = self.frame.push(Kind::Seal, &[], &table);
        self.sealed_at = Some(seal.offset + seal.length);
    }

    /// Notes what an entry in the frame means. It is not durable yet, and nobody is told.
    fn enter(&mut self, then: Then, extent: Extent) -> Staged {
        match then {
            Then::Record { meta, transfer } => {
                // The chunks are needed from now on because the record is.
                let begun = transfer.and_then(|transfer| self.transfers.complete(transfer));
                let stored = stored_record(&meta, extent);
                let chunks = shares_of(meta.chunks.as_deref().unwrap_or_default());
                self.enter_record(&stored, &chunks);
                Staged::Record { stored, chunks, begun }
            }
            Then::Begin { transfer, record, chunks } => {
                self.enter_begin(transfer, record, extent);
                if let Some(before) = self.transfers.begin(transfer, extent, chunks) {
                    self.segments.unneed(Share::of(before));
                }
                Staged::Begin { transfer }
            }
            Then::Chunk { transfer, index, hash, bytes } => {
                self.enter_chunk(transfer, index, extent);
                let place = ChunkPlace { extent, hash };
                if let Some(before) = self.transfers.insert(transfer, index, place, bytes) {
                    self.segments.unneed(Share::of(before));
                }
                Staged::Chunk { transfer, index }
            }
            Then::Put { key, value } => {
                self.table.push(&Row::Put(extent));
                self.values.insert(key.clone(), value);
                Staged::Put { key }
            }
        }
    }

    fn enter_record(&mut self, stored: &StoredRecord, chunks: &[Share]) {
        let entry = Share::of(stored.record);
        self.segments.need(entry);
        if stored.own {
            let generations = chunks.iter().chain([&entry]).map(|share| share.generation);
            generations.for_each(|generation| self.segments.mark_own(generation, stored.stored_at));
        }
        self.table.push(&Row::Record(stored.clone(), chunks.to_vec()));
    }

    fn enter_begin(&mut self, transfer: TransferId, record: RecordId, entry: Extent) {
        self.segments.need(Share::of(entry));
        self.table.push(&Row::Begin(BeginRow { transfer, record, entry }));
    }

    fn enter_chunk(&mut self, transfer: TransferId, index: u32, entry: Extent) {
        self.segments.need(Share::of(entry));
        self.table.push(&Row::Chunk(ChunkRow { transfer, index, entry }));
    }

    /// Writes and syncs the frame, and tells what became of what is in it.
    fn flush(&mut self, outcomes: &mut Vec<Outcome>) -> Result<(), Poisoned> {
        let written = if self.frame.is_empty() { Ok(()) } else { self.write_frame() };
        let staged = std::mem::take(&mut self.staged);
        if let Err(poisoned) = written {
            outcomes.extend(staged.into_iter().filter_map(|staged| staged.failed(&poisoned)).map(Err));
            return Err(poisoned);
        }
        for staged in staged {
            let outcome = self.publish(staged);
            outcomes.extend(outcome);
        }
        self.reclaim();
        self.poisoned.clone().map_or(Ok(()), Err)
    }

    fn write_frame(&mut self) -> Result<(), Poisoned> {
        let Some(file) = self.file.clone() else { return Err(self.poison("begin a segment".to_owned())) };
        let (generation, start, end) = (self.frame.generation(), self.frame.start(), self.frame.end());
        if let Err(error) = file.write_at(&mut self.frame.slices(), u64::from(start)) {
            return Err(self.poison(format!("write to {}: {error}", segment_name(generation))));
        }
        // The file ends with the seal, so that its table is found.
        let ended = self.sealed_at.map_or(Ok(()), |length| file.set_len(u64::from(length)));
        if let Err(error) = ended {
            return Err(self.poison(format!("end {}: {error}", segment_name(generation))));
        }
        self.syncs += 1;
        if let Err(error) = file.sync_data() {
            return Err(self.poison(format!("sync {}: {error}", segment_name(generation))));
        }
        match self.sealed_at {
            Some(length) => self.segments.resize(generation, u64::from(length)),
            None => self.segments.grow(generation, u64::from(end)),
        }
        self.segments.checkpoint(generation);
        self.frame.advance();
        Ok(())
    }

    /// What is staged is durable now.
    fn publish(&mut self, staged: Staged) -> Option<Outcome> {
        Some(match staged {
            Staged::Record { stored, chunks, begun } => {
                // Not sooner: without the record, the beginning is what finds the chunks again.
                begun.into_iter().for_each(|begun| self.segments.unneed(Share::of(begun)));
                self.find_from_now_on(&stored, &chunks);
                Ok(Done::Record(Durable::after_sync(stored)))
            }
            Staged::Moved { stored, chunks } => {
                self.find_from_now_on(&stored, &chunks);
                return None;
            }
            Staged::Begin { transfer } => Ok(Done::Begin { transfer }),
            Staged::Chunk { transfer, index } => Ok(Done::Chunk { transfer, index }),
            Staged::Put { key } => Ok(Done::Put { key }),
            Staged::Refused(failed) => Err(failed),
        })
    }

    fn find_from_now_on(&mut self, stored: &StoredRecord, chunks: &[Share]) {
        if self.options.reclaim {
            let before = self.shelf.index_mut().insert(&stored.id, stored.record, chunks);
            self.unneed(&before);
        }
    }

    /// Opens the file of a new segment, and puts the header and all values in the frame. Everything before is durable.
    fn begin_segment(&mut self, generation: u64) -> Result<(), Poisoned> {
        let (file, file_bytes) = self.new_file(generation).map_err(|error| {
            let file = segment_name(generation);
            self.poison(format!("create {file}: {error}"))
        })?;
        self.syncs += 1;
        self.segments.insert(generation, file_bytes);
        self.file = Some(file);
        self.uncache(generation.saturating_sub(CACHED_SEGMENTS));
        self.frame.begin(generation);
        self.table.clear();
        self.sealed_at = None;
        self.to_tidy = true;
        for meta in self.values.metas() {
            let entry = self.frame.push(Kind::Put, &meta, &Bytes::new());
            self.table.push(&Row::Put(entry));
        }
        self.floor = self.frame.next();
        Ok(())
    }

    fn uncache(&self, generation: u64) {
        // A segment that was given back is in nobody's way.
        if let Ok(file) = self.shelf.disk().open(&segment_name(generation)) {
            file.uncache();
        }
    }

    fn new_file(&mut self, generation: u64) -> io::Result<(Arc<dyn DiskFile>, u64)> {
        if self.segments.spares() == 0 && !self.keeps_all && self.room_is_short() {
            // Held captures are receipted: they give way to new ones.
            self.note_damage();
            if let Some(held) = self.segments.oldest_held() {
                self.give_back(held, true)?;
            }
        }
        let shelf = Arc::clone(&self.shelf);
        let (disk, name) = (shelf.disk(), segment_name(generation));
        let (file, file_bytes) = match self.segments.take_spare() {
            Some(spare) => {
                disk.rename(&spare_name(spare.generation), &name)?;
                (disk.open(&name)?, spare.file_bytes)
            }
            None => (disk.create(&name)?, 0),
        };
        disk.sync_dir()?;
        Ok((file, file_bytes))
    }

    fn room_is_short(&self) -> bool {
        let segment = u64::from(self.options.nominal_bytes());
        self.segments.totals().file_bytes + segment > self.options.bytes_max.0
            || self.shelf.disk().free_bytes().is_ok_and(|free| free < segment)
    }

    fn unneed(&mut self, shares: &[Share]) {
        for share in shares {
            self.segments.unneed(*share);
        }
    }

    /// Gives back all segments that may go.
    fn reclaim(&mut self) {
        if !self.options.reclaim || self.keeps_all {
            return;
        }
        self.note_damage();
        while self.poisoned.is_none()
            && let Some(generation) = self.segments.next_to_go(self.options.hold_bytes_max.0)
        {
            self.give_back_or_poison(generation);
        }
    }

    /// What readers found damaged is kept.
    fn note_damage(&mut self) {
        self.shelf.take_damaged().into_iter().for_each(|generation| self.segments.mark_damaged(generation));
    }

    fn give_back_or_poison(&mut self, generation: u64) {
        if let Err(error) = self.give_back(generation, false) {
            self.poison(format!("give back {}: {error}", segment_name(generation)));
        }
    }

    /// Deletes spares beyond the bound: an earlier run may have been allowed more.
    fn trim_spares(&mut self) {
        while self.poisoned.is_none() && self.segments.spares() > self.options.spare_segments {
            let Some(spare) = self.segments.take_spare() else { return };
            let name = spare_name(spare.generation);
            if let Err(error) = self.shelf.disk().remove(&name) {
                self.poison(format!("remove {name}: {error}"));
            }
        }
    }

    /// Turns a segment into a spare, or deletes it.
    fn give_back(&mut self, generation: u64, wanted: bool) -> io::Result<()> {
        let Some(spare) = self.segments.take(generation) else { return Ok(()) };
        self.shelf.index_mut().forget_segment(generation);
        self.shelf.close(generation);
        let (disk, name) = (self.shelf.disk(), segment_name(generation));
        if wanted || self.is_good_spare(spare) {
            disk.rename(&name, &spare_name(generation))?;
            self.segments.add_spare(spare);
            Ok(())
        } else {
            disk.remove(&name)
        }
    }

    /// A file much shorter than a segment saves nothing, and a much longer one wastes its end.
    fn is_good_spare(&self, spare: Spare) -> bool {
        let nominal = u64::from(self.options.nominal_bytes());
        self.segments.spares() < self.options.spare_segments && (nominal / 2..=nominal * 2).contains(&spare.file_bytes)
    }

    fn poison(&mut self, reason: String) -> Poisoned {
        let poisoned = self.poisoned.get_or_insert_with(|| {
            tracing::error!(reason, "the spool stores nothing more: its disk failed");
            Poisoned(reason.into())
        });
        poisoned.clone()
    }
}

impl Staged {
    fn failed(self, poisoned: &Poisoned) -> Option<Failed> {
        let item = match self {
            Staged::Record { stored, .. } => Item::Record(stored.id),
            Staged::Begin { transfer } => Item::Begin { transfer },
            Staged::Chunk { transfer, index } => Item::Chunk { transfer, index },
            Staged::Put { key } => Item::Put { key },
            Staged::Moved { .. } => return None,
            Staged::Refused(failed) => return Some(failed),
        };
        Some(Failed { item, reason: poisoned.clone().into() })
    }
}
