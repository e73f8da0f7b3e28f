//! Looking at every byte of a spool that nobody runs: what is there, what is damaged, and which records are lost by it.
//!
//! Opening trusts what was sealed in good order, because checking all payloads would take too long. A survey trusts
//! nothing: it checks every checksum, the hash of every chunk and of every payload. It changes nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::Bytes;
use estafet_model::{ChunkHash, Epoch, NodeId, PayloadHash, RecordId, SeqRanges, chunk_count};

use crate::append::{Extent, TransferId};
use crate::contents::{Finding, finding};
use crate::disk::Disk;
use crate::format::{BeginMeta, ChunkMeta, Kind, RecordMeta, SegmentHeader, decode_put, parse_name, segment_name};
use crate::recovery::{Damage, OpenError};
use crate::shelf::{ReadError, ReadRecord, Shelf};
use crate::table::{BeginRow, ChunkRow, Row, Table};
use crate::tail;
use crate::walk::Walk;

/// What is in a spool, and what is not any more.
#[derive(Debug)]
pub struct Survey {
    /// All segments, by generation.
    pub segments: BTreeMap<u64, SegmentSurvey>,
    /// How many files wait to be used again.
    pub spares: usize,
    /// What all files take.
    pub file_bytes: u64,
    /// The numbers of all whole records, by origin and epoch. Released ones whose room was not given back are among
    /// them: the log does not say which are released.
    pub records: BTreeMap<(NodeId, Epoch), SeqRanges>,
    /// The payloads of all whole records together.
    pub payload_bytes: u64,
    /// The newest value under each key.
    pub values: BTreeMap<Bytes, Bytes>,
    /// Payloads that were arriving.
    pub transfers: Vec<SurveyedTransfer>,
    /// How much was begun when the power went and never promised. The next start cuts it.
    pub torn_bytes: u64,
    /// All that is damaged.
    pub damage: Vec<Damage>,
    /// The records that are lost by it: no whole copy is here.
    pub lost: BTreeSet<RecordId>,
    /// Where each whole record is, and how long its payload.
    places: BTreeMap<RecordId, (Extent, u32)>,
    shelf: Shelf,
}

/// What is in one segment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SegmentSurvey {
    /// What the file takes.
    pub file_bytes: u64,
    /// How many record entries are whole.
    pub records: usize,
    /// What whole records, payloads that are arriving and the newest values need of it.
    pub live_bytes: u64,
    /// Earlier copies, chunks that belong to nothing, values that were replaced.
    pub garbage_bytes: u64,
    /// It ends with a seal.
    pub sealed: bool,
    /// How many damages are in it.
    pub damages: usize,
}

/// A payload that was arriving.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SurveyedTransfer {
    /// How its chunks are named.
    pub transfer: TransferId,
    /// The record it belongs to.
    pub record: RecordId,
    /// How many chunks it has.
    pub chunks: usize,
    /// How many of them are here.
    pub arrived: usize,
}

impl Survey {
    /// Looks at every byte.
    pub fn of(disk: Arc<dyn Disk>) -> Result<Self, OpenError> {
        let mut surveyor = Surveyor::list(Shelf::new(disk))?;
        let generations: Vec<u64> = surveyor.survey.segments.keys().copied().collect();
        for generation in &generations {
            surveyor.look_through(*generation, Some(generation) == generations.last())?;
        }
        surveyor.judge_records();
        surveyor.judge_transfers();
        surveyor.count();
        Ok(surveyor.survey)
    }

    /// True if nothing is damaged.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        self.damage.is_empty() && self.lost.is_empty()
    }

    /// All whole records.
    pub fn ids(&self) -> impl Iterator<Item = &RecordId> {
        self.places.keys()
    }

    /// How long the payload of a whole record is, in bytes.
    #[must_use]
    pub fn payload_bytes_of(&self, id: &RecordId) -> Option<u32> {
        self.places.get(id).map(|(_, bytes)| *bytes)
    }

    pub(crate) fn places(&self) -> impl Iterator<Item = (&RecordId, Extent)> {
        self.places.iter().map(|(id, (place, _))| (id, *place))
    }

    /// Reads one of them, and its payload.
    pub fn read(&self, id: &RecordId) -> Result<(ReadRecord, Bytes), ReadError> {
        let (place, _) = *self.places.get(id).ok_or(ReadError::NotHere)?;
        let record = self.shelf.read_extent(place)?;
        let count = chunk_count(record.header.header().payload_bytes);
        let chunks: Vec<Bytes> =
            (0..count).map(|index| self.shelf.read_chunk_of(place, index)).collect::<Result<_, _>>()?;
        let payload = Bytes::from(chunks.concat());
        let whole = PayloadHash::of(&payload) == record.header.header().payload_hash;
        if whole { Ok((record, payload)) } else { Err(ReadError::Damaged(place)) }
    }

    /// The segments in which something is damaged.
    #[must_use]
    pub fn damaged_segments(&self) -> BTreeSet<u64> {
        self.damage.iter().map(|damage| damage.generation).filter(|it| self.segments.contains_key(it)).collect()
    }
}

struct Surveyor {
    survey: Survey,
    /// All entries of each record, oldest first.
    copies: BTreeMap<RecordId, Vec<Extent>>,
    /// Records of which an entry is damaged.
    broken: BTreeSet<RecordId>,
    chunks: Vec<ChunkRow>,
    begun: BTreeMap<TransferId, BeginRow>,
    /// Where the newest value under each key is.
    values: BTreeMap<Bytes, Extent>,
    /// All whole entries but seals.
    entries: BTreeMap<u64, u64>,
    live: BTreeSet<Extent>,
}

/// What one copy of a record is worth.
enum Copy {
    Whole {
        payload_bytes: u32,
        chunks: Vec<Extent>,
    },
    /// It was released, and some of its chunks were given back.
    GivenBack,
    Damaged(Extent, &'static str),
}

impl Surveyor {
    fn list(shelf: Shelf) -> Result<Self, OpenError> {
        let mut survey = Survey {
            segments: BTreeMap::new(),
            spares: 0,
            file_bytes: 0,
            records: BTreeMap::new(),
            payload_bytes: 0,
            values: BTreeMap::new(),
            transfers: Vec::new(),
            torn_bytes: 0,
            damage: Vec::new(),
            lost: BTreeSet::new(),
            places: BTreeMap::new(),
            shelf,
        };
        let files = survey.shelf.disk().list();
        for file in files.map_err(|error| OpenError::Disk { what: "list the files", error })? {
            let Some((generation, spare)) = parse_name(&file.name) else { continue };
            survey.file_bytes += file.bytes;
            if spare {
                survey.spares += 1;
            } else {
                let segment = SegmentSurvey { file_bytes: file.bytes, ..SegmentSurvey::default() };
                survey.segments.insert(generation, segment);
            }
        }
        Ok(Self {
            survey,
            copies: BTreeMap::new(),
            broken: BTreeSet::new(),
            chunks: Vec::new(),
            begun: BTreeMap::new(),
            values: BTreeMap::new(),
            entries: BTreeMap::new(),
            live: BTreeSet::new(),
        })
    }

    fn look_through(&mut self, generation: u64, newest: bool) -> Result<(), OpenError> {
        let name = segment_name(generation);
        let file_bytes = self.survey.segments[&generation].file_bytes;
        let Ok(file) = self.survey.shelf.disk().open(&name) else {
            let length = u32::try_from(file_bytes).unwrap_or(u32::MAX);
            self.damage(generation, 0, length, "the whole segment");
            return Ok(());
        };
        let table = Table::read(&*file, generation, file_bytes);
        let mut walk = Walk::through(&*file, generation, file_bytes);
        if let SegmentHeader::Newer(version) = walk.header {
            return Err(OpenError::Newer { file: name, version });
        }
        let cut = if newest { Some(tail::find_cut(&walk, generation)) } else { None };
        match cut {
            // Its first commit was never finished: the next start puts it aside.
            Some(None) => {
                self.survey.torn_bytes += walk.entries().map(|found| u64::from(found.extent.length)).sum::<u64>();
                return Ok(());
            }
            Some(Some(cut)) => {
                self.survey.torn_bytes += cut.torn_bytes;
                walk.pieces.truncate(cut.pieces);
            }
            None if !walk.sealed => self.damage(generation, walk.end(), 0, "the end of the segment"),
            None if table.is_none() && walk.seal_is_damaged() => {
                self.damage(generation, walk.end(), 0, "the table of the segment");
            }
            None => {}
        }
        if walk.header != SegmentHeader::Good(generation) {
            self.damage(generation, 0, crate::format::SEGMENT_HEADER_BYTES, "the header of the segment");
        }
        self.segment(generation).sealed = walk.sealed;
        let rows: Vec<Row> = table.iter().flat_map(Table::rows).flatten().collect();
        for finding in walk.pieces.iter().filter_map(finding) {
            self.note(generation, finding, &rows);
        }
        Ok(())
    }

    fn note(&mut self, generation: u64, finding: Finding, rows: &[Row]) {
        match finding {
            Finding::Row(row) => self.note_row(generation, row),
            Finding::Broken(meta, entry) => {
                let id = meta.header.header().id.clone();
                self.damage_of(entry, "a payload", Some(id));
            }
            Finding::Damage { offset, length, what } => {
                // The table knows what was there.
                let inside = |entry: &Extent| (offset..offset.saturating_add(length)).contains(&entry.offset);
                let records = rows.iter().filter_map(|row| match row {
                    Row::Record(stored, _) if inside(&stored.record) => Some((stored.record, stored.id.clone())),
                    _ => None,
                });
                let records: Vec<_> = records.collect();
                if records.is_empty() {
                    self.damage(generation, offset, length, what);
                }
                for (entry, id) in records {
                    self.damage_of(entry, "a record", Some(id));
                }
            }
        }
    }

    fn note_row(&mut self, generation: u64, row: Row) {
        let entry = match row {
            Row::Record(stored, _) => {
                self.segment(generation).records += 1;
                self.copies.entry(stored.id).or_default().push(stored.record);
                stored.record
            }
            Row::Chunk(chunk) => {
                self.chunks.push(chunk);
                chunk.entry
            }
            Row::Begin(begin) => {
                let entry = begin.entry;
                self.begun.insert(begin.transfer, begin);
                entry
            }
            Row::Put(entry) => {
                let put = self.survey.shelf.meta(entry, Kind::Put).and_then(|meta| decode_put(&meta).ok());
                if let Some((key, value)) = put {
                    self.survey.values.insert(key.clone(), value);
                    self.values.insert(key, entry);
                }
                entry
            }
        };
        *self.entries.entry(generation).or_default() += u64::from(entry.length);
    }

    /// Finds the newest whole copy of each record.
    fn judge_records(&mut self) {
        for (id, copies) in std::mem::take(&mut self.copies) {
            let mut damaged = None;
            for &copy in copies.iter().rev() {
                match self.judge(&id, copy) {
                    Copy::Whole { payload_bytes, chunks } => {
                        self.survey.payload_bytes += u64::from(payload_bytes);
                        self.live.extend(chunks.into_iter().chain([copy]));
                        let ranges = self.survey.records.entry((id.origin.clone(), id.epoch)).or_default();
                        ranges.insert(id.seq);
                        self.survey.places.insert(id.clone(), (copy, payload_bytes));
                        break;
                    }
                    Copy::GivenBack => {}
                    Copy::Damaged(place, what) => damaged = damaged.or(Some((place, what))),
                }
            }
            if let Some((place, what)) = damaged {
                self.damage_of(place, what, Some(id));
            }
        }
        let whole = &self.survey.places;
        self.survey.lost = std::mem::take(&mut self.broken).into_iter().filter(|id| !whole.contains_key(id)).collect();
    }

    /// Reads a copy of a record and its whole payload.
    fn judge(&self, id: &RecordId, copy: Extent) -> Copy {
        let shelf = &self.survey.shelf;
        let Ok(entry) = shelf.entry(copy) else { return Copy::Damaged(copy, "a record") };
        let Ok(meta) = RecordMeta::decode(&entry.meta) else { return Copy::Damaged(copy, "a record") };
        let header = meta.header.header();
        if header.id != *id {
            return Copy::Damaged(copy, "a record");
        }
        let (payload_bytes, payload_hash) = (header.payload_bytes, header.payload_hash);
        let Some(places) = meta.chunks else {
            let right = PayloadHash::of(&entry.payload) == payload_hash;
            let whole = Copy::Whole { payload_bytes, chunks: Vec::new() };
            return if right { whole } else { Copy::Damaged(copy, "a payload") };
        };
        if places.iter().any(|place| !self.survey.segments.contains_key(&place.extent.generation)) {
            return Copy::GivenBack;
        }
        let count = chunk_count(payload_bytes);
        for (index, place) in (0..).zip(&places) {
            let chunk = shelf.read_chunk_of(copy, index);
            if chunk.ok().map(|chunk| ChunkHash::of(&chunk, index, count)) != Some(place.hash) {
                return Copy::Damaged(place.extent, "a chunk of a record");
            }
        }
        let hashes: Vec<ChunkHash> = places.iter().map(|place| place.hash).collect();
        if estafet_model::payload_hash_of_chunks(&hashes) != payload_hash {
            return Copy::Damaged(copy, "a record");
        }
        Copy::Whole { payload_bytes, chunks: places.into_iter().map(|place| place.extent).collect() }
    }

    /// What of the payloads that were arriving is here.
    fn judge_transfers(&mut self) {
        for (transfer, BeginRow { record, entry, .. }) in std::mem::take(&mut self.begun) {
            let meta = self.survey.shelf.meta(entry, Kind::Begin).and_then(|meta| BeginMeta::decode(&meta).ok());
            let Some(meta) = meta.filter(|_| !self.survey.places.contains_key(&record)) else { continue };
            let mut arrived = BTreeMap::new();
            for chunk in self.chunks.iter().filter(|chunk| chunk.transfer == transfer) {
                let found = self.survey.shelf.meta(chunk.entry, Kind::Chunk);
                let found = found.and_then(|meta| ChunkMeta::decode(&meta).ok());
                if found.is_some_and(|found| meta.chunks.get(chunk.index as usize) == Some(&found.hash)) {
                    arrived.insert(chunk.index, chunk.entry);
                }
            }
            let (chunks, here) = (meta.chunks.len(), arrived.len());
            self.live.extend(arrived.into_values().chain([entry]));
            self.survey.transfers.push(SurveyedTransfer { transfer, record, chunks, arrived: here });
        }
    }

    /// Counts up what is live in each segment, and what is damaged.
    fn count(&mut self) {
        self.live.extend(self.values.values());
        for entry in std::mem::take(&mut self.live) {
            self.segment(entry.generation).live_bytes += u64::from(entry.length);
        }
        for (generation, bytes) in std::mem::take(&mut self.entries) {
            let segment = self.segment(generation);
            segment.garbage_bytes = bytes.saturating_sub(segment.live_bytes);
        }
        for Damage { generation, .. } in self.survey.damage.clone() {
            if let Some(segment) = self.survey.segments.get_mut(&generation) {
                segment.damages += 1;
            }
        }
    }

    fn damage_of(&mut self, entry: Extent, what: &'static str, record: Option<RecordId>) {
        let Extent { generation, offset, length } = entry;
        self.broken.extend(record.clone());
        let known =
            self.survey.damage.iter_mut().find(|known| (known.generation, known.offset) == (generation, offset));
        match known {
            // A chunk may have been found damaged before it was known whose it is.
            Some(known) => known.record = known.record.take().or(record),
            None => self.survey.damage.push(Damage { generation, offset, length, record, what }),
        }
    }

    fn damage(&mut self, generation: u64, offset: u32, length: u32, what: &'static str) {
        self.damage_of(Extent { generation, offset, length }, what, None);
    }

    fn segment(&mut self, generation: u64) -> &mut SegmentSurvey {
        self.survey.segments.entry(generation).or_default()
    }
}
