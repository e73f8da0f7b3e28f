//! Opening: from the files in the folder to the books and to what the caller gets back.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::io;
use std::sync::Arc;

use bytes::Bytes;
use estafet_model::{ChunkHash, Durable, RecordId, SignedHeader};

use crate::append::{Extent, StoredRecord, TransferId};
use crate::disk::{Disk, DiskFile};
use crate::format::{
    BeginMeta, ChunkMeta, ChunkPlace, Kind, RecordMeta, SEGMENT_HEADER_BYTES, SegmentHeader, decode_put, parse_name,
    segment_name, spare_name,
};
use crate::index::{Share, shares_of};
use crate::options::SpoolOptions;
use crate::real_disk::FolderError;
use crate::segments::{Segments, Spare};
use crate::shelf::Shelf;
use crate::tail::{self, Cut};
use crate::transfers::Transfers;
use crate::walk::{Check, Found, Piece, Walk};

/// What was in the spool when it was opened.
#[derive(Debug, Default)]
pub struct Recovered {
    /// All whole records, in the order of the log. Among them are released ones whose room was not given back yet.
    pub records: Vec<Durable<StoredRecord>>,
    /// All payloads that had begun to arrive and whose record is not whole in the log, in the order they were begun.
    /// Among them are aborted ones, and those of released records, whose room was not given back yet.
    pub transfers: Vec<RecoveredTransfer>,
    /// The newest value under each key.
    pub puts: BTreeMap<Bytes, Bytes>,
    /// What was durable once and cannot be read now. The segments it is in are kept as they are.
    pub damaged: Vec<Damage>,
    /// How much was begun when the power went and never promised. It is cut.
    pub torn_bytes: u64,
}

/// A payload that was arriving. It goes on as if nothing had happened: more chunks may be appended under it, a record
/// completes it, and until then, or until it is aborted, what arrived keeps its room.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecoveredTransfer {
    /// How its chunks are named.
    pub transfer: TransferId,
    /// The header of the record it belongs to.
    pub header: SignedHeader,
    /// The hashes of all its chunks.
    pub chunks: Vec<ChunkHash>,
    /// Which of them are durable, ascending.
    pub arrived: Vec<u32>,
}

/// Something that was durable once cannot be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Damage {
    /// In which segment.
    pub generation: u64,
    /// Where in it, in bytes.
    pub offset: u32,
    /// How long it is.
    pub length: u32,
    /// Which record is lost by it, if that can be told.
    pub record: Option<RecordId>,
    /// What it was.
    pub what: &'static str,
}

/// The spool does not open.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The folder cannot be used.
    #[error(transparent)]
    Folder(#[from] FolderError),
    /// The folder cannot be read.
    #[error("{what} in the spool's folder: {error}")]
    Disk {
        /// What was tried.
        what: &'static str,
        /// What the disk said.
        error: io::Error,
    },
    /// A newer program wrote the spool; this one would damage it.
    #[error("read the spool: {file} has version {version} of the format, and this program knows version 1 only")]
    Newer {
        /// The first such file.
        file: String,
        /// Its version.
        version: u32,
    },
    /// A file has the last possible name.
    #[error("open the spool: the file names leave no room for another segment")]
    Exhausted,
}

/// What recovery hands to the log.
#[derive(Debug)]
pub(crate) struct Restored {
    pub(crate) segments: Segments,
    pub(crate) transfers: Transfers,
    pub(crate) next_generation: u64,
    /// Why nothing can be written, if so.
    pub(crate) failed: Option<String>,
    pub(crate) syncs: u64,
    pub(crate) recovered: Recovered,
}

/// Reads the folder, and settles the end of the log.
pub(crate) fn recover(shelf: &Shelf, options: &SpoolOptions) -> Result<Restored, OpenError> {
    let disk = shelf.disk();
    let folder = Folder::list(disk)?;
    let mut replay = Replay::new(disk);
    for spare in folder.spares {
        replay.segments.add_spare(spare);
    }
    let newest = folder.segments.keys().next_back().copied();
    for (&generation, &file_bytes) in &folder.segments {
        if Some(generation) == newest {
            replay.newest_segment(generation, file_bytes)?;
        } else if options.scan_from.is_some_and(|from| generation < from) {
            replay.segments.insert(generation, file_bytes);
            replay.segments.seal(generation);
        } else {
            replay.sealed_segment(generation, file_bytes)?;
        }
    }
    let next_generation = folder.highest.checked_add(1).ok_or(OpenError::Exhausted)?;
    Ok(replay.finish(shelf, options, next_generation))
}

struct Folder {
    segments: BTreeMap<u64, u64>,
    spares: Vec<Spare>,
    highest: u64,
}

impl Folder {
    fn list(disk: &dyn Disk) -> Result<Self, OpenError> {
        let mut folder = Self { segments: BTreeMap::new(), spares: Vec::new(), highest: 0 };
        for file in disk.list().map_err(|error| OpenError::Disk { what: "list the files", error })? {
            let Some((generation, spare)) = parse_name(&file.name) else { continue };
            folder.highest = folder.highest.max(generation);
            if spare {
                folder.spares.push(Spare { generation, file_bytes: file.bytes });
            } else {
                folder.segments.insert(generation, file.bytes);
            }
        }
        Ok(folder)
    }
}

type Walked = (Arc<dyn DiskFile>, Walk);

struct FoundBegin {
    meta: BeginMeta,
    entry: Extent,
    /// The newest chunk with each index and its right hash, and the length of its bytes.
    arrived: BTreeMap<u32, (ChunkPlace, u32)>,
}

struct FoundChunk {
    meta: ChunkMeta,
    entry: Extent,
    bytes: u32,
}

struct FoundRecord {
    stored: StoredRecord,
    chunks: Option<Vec<ChunkPlace>>,
}

/// The log read from the front.
struct Replay<'a> {
    disk: &'a dyn Disk,
    segments: Segments,
    records: Vec<FoundRecord>,
    /// The offsets of the chunks in each segment that was scanned, ascending.
    chunks: HashMap<u64, Vec<u32>>,
    arrived: HashMap<TransferId, Vec<FoundChunk>>,
    begun: Vec<FoundBegin>,
    puts: BTreeMap<Bytes, Bytes>,
    damaged: Vec<Damage>,
    torn_bytes: u64,
    failed: Option<String>,
    syncs: u64,
}

impl<'a> Replay<'a> {
    fn new(disk: &'a dyn Disk) -> Self {
        Self {
            disk,
            segments: Segments::default(),
            records: Vec::new(),
            chunks: HashMap::new(),
            arrived: HashMap::new(),
            begun: Vec::new(),
            puts: BTreeMap::new(),
            damaged: Vec::new(),
            torn_bytes: 0,
            failed: None,
            syncs: 0,
        }
    }

    /// A segment below the newest one: it was sealed and synced before the next was created.
    fn sealed_segment(&mut self, generation: u64, file_bytes: u64) -> Result<(), OpenError> {
        self.segments.insert(generation, file_bytes);
        if let Some((_, walk)) = self.walk(generation, file_bytes, Check::Heads)? {
            self.check_header(generation, walk.header);
            if !walk.sealed {
                self.damage(generation, walk_end(&walk), 0, "the end of the segment");
            }
            self.digest(&walk.pieces, generation);
        }
        self.segments.seal(generation);
        Ok(())
    }

    /// The newest segment: its end may be torn, and its last commit may not be durable.
    fn newest_segment(&mut self, generation: u64, file_bytes: u64) -> Result<(), OpenError> {
        let Some((file, walk)) = self.walk(generation, file_bytes, Check::Payloads)? else {
            self.segments.insert(generation, file_bytes);
            self.segments.seal(generation);
            return Ok(());
        };
        let Some(cut) = tail::find_cut(&walk, generation) else {
            self.discard_unborn(generation, file_bytes, &walk);
            return Ok(());
        };
        self.torn_bytes = cut.torn_bytes;
        let (kept, file_bytes) = match tail::settle(&*file, generation, &cut) {
            Ok(length) => (cut.pieces, length),
            Err(error) => {
                self.failed = Some(format!("make the end of the log durable: {error}"));
                (pieces_before_last_commit(&walk, &cut), file_bytes)
            }
        };
        self.syncs += 1;
        self.segments.insert(generation, file_bytes);
        self.check_header(generation, walk.header);
        self.digest(&walk.pieces[..kept], generation);
        self.segments.seal(generation);
        Ok(())
    }

    /// Nothing in it was ever promised: the power went before its first commit was durable.
    fn discard_unborn(&mut self, generation: u64, file_bytes: u64, walk: &Walk) {
        self.torn_bytes = walk.entries().map(|found| u64::from(found.extent.length)).sum();
        // Durable with the name of the next segment at the latest, before anything is written there.
        let put_aside = self.disk.rename(&segment_name(generation), &spare_name(generation));
        match put_aside {
            Ok(()) => self.segments.add_spare(Spare { generation, file_bytes }),
            Err(error) => self.failed = Some(format!("put an unused segment aside: {error}")),
        }
    }

    /// Nothing if the file cannot even be opened, which is noted as damage.
    fn walk(&mut self, generation: u64, file_bytes: u64, check: Check) -> Result<Option<Walked>, OpenError> {
        let name = segment_name(generation);
        let Ok(file) = self.disk.open(&name) else {
            let length = u32::try_from(file_bytes).unwrap_or(u32::MAX);
            self.damage(generation, 0, length, "the whole segment");
            return Ok(None);
        };
        let walk = Walk::through(&*file, generation, file_bytes, check);
        if let SegmentHeader::Newer(version) = walk.header {
            return Err(OpenError::Newer { file: name, version });
        }
        Ok(Some((file, walk)))
    }

    fn check_header(&mut self, generation: u64, header: SegmentHeader) {
        if header != SegmentHeader::Good(generation) {
            self.damage(generation, 0, SEGMENT_HEADER_BYTES, "the header of the segment");
        }
    }

    fn digest(&mut self, pieces: &[Piece], generation: u64) {
        self.chunks.entry(generation).or_default();
        for piece in pieces {
            match piece {
                Piece::Entry(found) if found.whole => self.digest_entry(found),
                Piece::Entry(found) => self.damaged_payload(found),
                Piece::Gap { offset, end, .. } => self.damage(generation, *offset, end - offset, "an entry"),
            }
        }
    }

    fn digest_entry(&mut self, found: &Found) {
        let Extent { generation, offset, length } = found.extent;
        match found.head.kind {
            Kind::Record => match RecordMeta::decode(&found.meta) {
                Ok(meta) => self.records.push(FoundRecord::new(meta, found.extent)),
                Err(_) => self.damage(generation, offset, length, "a record"),
            },
            Kind::Chunk => match ChunkMeta::decode(&found.meta) {
                Ok(meta) => {
                    self.chunks.entry(generation).or_default().push(offset);
                    let bytes = found.head.payload_bytes;
                    let chunk = FoundChunk { meta, entry: found.extent, bytes };
                    self.arrived.entry(meta.transfer).or_default().push(chunk);
                }
                Err(_) => self.damage(generation, offset, length, "a chunk"),
            },
            Kind::Begin => match BeginMeta::decode(&found.meta) {
                Ok(meta) => self.begun.push(FoundBegin { meta, entry: found.extent, arrived: BTreeMap::new() }),
                Err(_) => self.damage(generation, offset, length, "the beginning of a payload"),
            },
            Kind::Put => match decode_put(&found.meta) {
                Ok((key, value)) => {
                    self.puts.insert(key, value);
                }
                Err(_) => self.damage(generation, offset, length, "a value"),
            },
            Kind::Seal => {}
        }
    }

    fn damaged_payload(&mut self, found: &Found) {
        let Extent { generation, offset, length } = found.extent;
        let record = match found.head.kind {
            Kind::Record => RecordMeta::decode(&found.meta).ok().map(|meta| meta.header.header().id.clone()),
            _ => None,
        };
        self.segments.mark_damaged(generation);
        self.damaged.push(Damage { generation, offset, length, record, what: "a payload" });
    }

    fn damage(&mut self, generation: u64, offset: u32, length: u32, what: &'static str) {
        self.segments.mark_damaged(generation);
        self.damaged.push(Damage { generation, offset, length, record: None, what });
    }

    /// Decides which records are whole, and opens the books for them.
    fn finish(mut self, shelf: &Shelf, options: &SpoolOptions, next_generation: u64) -> Restored {
        let records = self.whole_records(options.scan_from.unwrap_or(0));
        let begun = self.unfinished_transfers(&records);
        let mut recovered = Recovered {
            records: Vec::with_capacity(records.len()),
            transfers: Vec::with_capacity(begun.len()),
            puts: std::mem::take(&mut self.puts),
            damaged: self.damaged,
            torn_bytes: self.torn_bytes,
        };
        let mut index = shelf.index_mut();
        for FoundRecord { stored, chunks } in records {
            let shares = shares_of(chunks.as_deref().unwrap_or_default());
            enter(&mut self.segments, &stored, &shares);
            if options.reclaim {
                let (key, _) = index.insert(&stored.id, stored.record, shares);
                self.segments.note_record(stored.record.generation, key);
            }
            recovered.records.push(Durable::after_sync(stored));
        }
        drop(index);
        let mut transfers = Transfers::default();
        for begun in begun {
            self.segments.need(Share::of(begun.entry));
            begun.arrived.values().for_each(|(place, _)| self.segments.need(Share::of(place.extent)));
            recovered.transfers.push(begun.enter(&mut transfers));
        }
        report(&recovered);
        Restored {
            segments: self.segments,
            transfers,
            next_generation,
            failed: self.failed,
            syncs: self.syncs,
            recovered,
        }
    }

    /// The last whole copy of each record, in the order of the log.
    fn whole_records(&mut self, scan_from: u64) -> Vec<FoundRecord> {
        let mut seen = HashSet::new();
        let mut whole = Vec::new();
        let mut broken = Vec::new();
        for record in std::mem::take(&mut self.records).into_iter().rev() {
            if seen.contains(&record.stored.id) {
                continue;
            }
            match self.state_of(&record, scan_from) {
                State::Whole => {
                    seen.insert(record.stored.id.clone());
                    whole.push(record);
                }
                State::GivenBack => tracing::debug!(record = %record.stored.id, "released before, its chunks are gone"),
                State::Damaged(chunk) => broken.push((record.stored.id, chunk)),
            }
        }
        for (id, chunk) in broken.into_iter().filter(|(id, _)| !seen.contains(id)) {
            let Extent { generation, offset, length } = chunk;
            self.segments.mark_damaged(generation);
            self.damaged.push(Damage { generation, offset, length, record: Some(id), what: "a chunk of a record" });
        }
        whole.reverse();
        whole
    }

    /// The last beginning of each transfer whose record is not among these, with what of it arrived.
    fn unfinished_transfers(&mut self, whole: &[FoundRecord]) -> Vec<FoundBegin> {
        let mut over: HashSet<TransferId> = HashSet::new();
        let whole: HashSet<&RecordId> = whole.iter().map(|record| &record.stored.id).collect();
        let mut unfinished = Vec::new();
        for mut begun in std::mem::take(&mut self.begun).into_iter().rev() {
            if whole.contains(&begun.meta.header.header().id) || !over.insert(begun.meta.transfer) {
                continue;
            }
            for FoundChunk { meta, entry, bytes } in self.arrived.remove(&begun.meta.transfer).unwrap_or_default() {
                let ChunkMeta { index, hash, .. } = meta;
                if begun.meta.chunks.get(index as usize) == Some(&hash) {
                    begun.arrived.insert(index, (ChunkPlace { extent: entry, hash }, bytes));
                }
            }
            unfinished.push(begun);
        }
        unfinished.reverse();
        unfinished
    }

    fn state_of(&self, record: &FoundRecord, scan_from: u64) -> State {
        let chunks = record.chunks.as_deref().unwrap_or_default();
        if chunks.iter().any(|chunk| !self.segments.contains(chunk.extent.generation)) {
            return State::GivenBack;
        }
        let missing = chunks.iter().find(|chunk| {
            let Extent { generation, offset, .. } = chunk.extent;
            match self.chunks.get(&generation) {
                Some(offsets) => offsets.binary_search(&offset).is_err(),
                // Older segments of an archive are not scanned; an unreadable one has lost its chunks.
                None => generation >= scan_from,
            }
        });
        missing.map_or(State::Whole, |chunk| State::Damaged(chunk.extent))
    }
}

enum State {
    Whole,
    /// A segment with some of its chunks is gone, and a segment goes only when all in it is released.
    GivenBack,
    Damaged(Extent),
}

impl FoundBegin {
    /// Goes on as if the process had never ended.
    fn enter(self, transfers: &mut Transfers) -> RecoveredTransfer {
        let BeginMeta { transfer, header, chunks } = self.meta;
        transfers.begin(transfer, self.entry, chunks.clone());
        for (&index, &(place, bytes)) in &self.arrived {
            transfers.insert(transfer, index, place, bytes);
        }
        RecoveredTransfer { transfer, header, chunks, arrived: self.arrived.into_keys().collect() }
    }
}

impl FoundRecord {
    fn new(meta: RecordMeta, record: Extent) -> Self {
        let stored = stored_record(&meta, record);
        Self { stored, chunks: meta.chunks }
    }
}

/// What the caller keeps of a record.
pub(crate) fn stored_record(meta: &RecordMeta, record: Extent) -> StoredRecord {
    let header = meta.header.header();
    StoredRecord {
        id: header.id.clone(),
        class: header.class,
        payload_bytes: header.payload_bytes,
        digest: header.digest(),
        own: meta.received_from.is_none(),
        idempotency: meta.idempotency,
        stored_at: meta.stored_at,
        payload_hash: header.payload_hash,
        record,
    }
}

fn enter(segments: &mut Segments, stored: &StoredRecord, chunks: &[Share]) {
    for share in chunks.iter().copied().chain([Share::of(stored.record)]) {
        segments.need(share);
        if stored.own {
            segments.mark_own(share.generation);
        }
    }
}

fn walk_end(walk: &Walk) -> u32 {
    walk.entries().last().map_or(SEGMENT_HEADER_BYTES, |found| found.extent.offset + found.extent.length)
}

/// Without a sync nothing may be said of the last commit.
fn pieces_before_last_commit(walk: &Walk, cut: &Cut) -> usize {
    let last = walk.last_commit();
    let in_doubt = |piece: &Piece| matches!(piece, Piece::Entry(found) if found.head.commit == last);
    walk.pieces[..cut.pieces].iter().position(in_doubt).unwrap_or(cut.pieces)
}

fn report(recovered: &Recovered) {
    if recovered.torn_bytes > 0 {
        tracing::warn!(
            bytes = recovered.torn_bytes,
            "cut what was being written when the power went; none of it was promised"
        );
    }
    for Damage { generation, offset, length, record, what } in &recovered.damaged {
        let record = record.as_ref().map(tracing::field::display);
        tracing::error!(segment = %segment_name(*generation), offset, length, record, what, "the spool is damaged");
    }
}
