//! Opening: from the files in the folder to the books and to what the caller gets back.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::io;

use bytes::Bytes;
use estafet_model::{ChunkHash, Durable, NodeId, RecordId, SignedHeader};

use crate::append::{Extent, StoredRecord, TransferId};
use crate::contents::{Contents, Finding, finding};
use crate::disk::Disk;
use crate::format::{
    BeginMeta, ChunkMeta, ChunkPlace, Kind, RecordMeta, SegmentHeader, decode_put, parse_name, segment_name, spare_name,
};
use crate::index::{Index, Share};
use crate::options::SpoolOptions;
use crate::real_disk::FolderError;
use crate::segments::{Segments, Spare};
use crate::shelf::Shelf;
use crate::table::{BeginRow, ChunkRow, Row, Table, TableWriter};
use crate::tail::{self, Cut};
use crate::transfers::Transfers;
use crate::walk::{Piece, Walk};

/// What was in the spool when it was opened.
#[derive(Debug, Default)]
pub struct Recovered {
    /// All whole records, in the order of the log. Among them are released ones whose room was not given back yet.
    /// Empty if they were [told one by one](crate::Log::open_with).
    pub records: Vec<Durable<StoredRecord>>,
    /// All payloads that had begun to arrive and whose record is not whole in the log, in the order they were begun.
    /// Among them are aborted ones, and those of released records, whose room was not given back yet.
    pub transfers: Vec<RecoveredTransfer>,
    /// The newest value under each key.
    pub puts: BTreeMap<Bytes, Bytes>,
    /// Records of which something is damaged, and no whole copy is here. Appended again, a record is whole again.
    /// Damage in segments that were sealed in good order is not sought, but found on reading.
    pub broken: Vec<BrokenRecord>,
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

/// A record that was durable once, and whose payload cannot be read as it was.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BrokenRecord {
    /// What is known of it. Its header is genuine.
    pub record: StoredRecord,
    /// The neighbor it came from, or nothing if it was captured here.
    pub received_from: Option<NodeId>,
    /// What of it is damaged.
    pub damage: Damage,
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
    #[error("read the spool: {file} has version {version} of the format, and this program knows version 2 only")]
    Newer {
        /// The first such file.
        file: String,
        /// Its version.
        version: u32,
    },
    /// A file has one of the last possible names.
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

/// Whoever is told of each recovered record.
pub(crate) type EachRecord<'a> = &'a mut dyn FnMut(Durable<StoredRecord>);

/// Reads the folder, and settles the end of the log.
///
/// Twice through all contents: the first time shows which records are whole and where the last copy of each is, the
/// second tells them, so that no list of them is in memory.
pub(crate) fn recover(shelf: &Shelf, options: &SpoolOptions, each: EachRecord<'_>) -> Result<Restored, OpenError> {
    let folder = Folder::list(shelf.disk())?;
    let next_generation = next_generation(folder.highest).ok_or(OpenError::Exhausted)?;
    let mut replay = Replay::new(shelf, folder.segments);
    for spare in folder.spares {
        replay.segments.add_spare(spare);
    }
    replay.read_segments(options.scan_from.unwrap_or(0))?;
    replay.judge_broken();
    let puts = replay.values();
    let mut begun = replay.unfinished_transfers();
    replay.tell_records(&mut begun, each);
    let mut recovered = Recovered {
        records: Vec::new(),
        transfers: Vec::with_capacity(begun.len()),
        puts,
        broken: replay.broken,
        damaged: replay.damaged,
        torn_bytes: replay.torn_bytes,
    };
    let mut transfers = Transfers::default();
    let mut begun: Vec<FoundBegin> = begun.into_values().collect();
    begun.sort_by_key(|begun| begun.entry);
    for begun in begun {
        replay.segments.need(Share::of(begun.entry));
        begun.arrived.values().for_each(|(place, _)| replay.segments.need(Share::of(place.extent)));
        recovered.transfers.push(begun.enter(&mut transfers));
    }
    if options.reclaim {
        *shelf.index_mut() = replay.index;
    }
    report(&recovered);
    let Replay { segments, failed, syncs, .. } = replay;
    Ok(Restored { segments, transfers, next_generation, failed, syncs, recovered })
}

/// The log begins at no higher generation: from here it can count on for ever.
const GENERATION_MAX: u64 = u64::MAX / 2;

fn next_generation(highest: u64) -> Option<u64> {
    highest.checked_add(1).filter(|next| *next <= GENERATION_MAX)
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
        // No log leaves both. The segment, when it is given back, replaces the spare of its name.
        folder.spares.retain(|spare| !folder.segments.contains_key(&spare.generation));
        Ok(folder)
    }
}

struct FoundBegin {
    meta: BeginMeta,
    entry: Extent,
    /// The newest chunk with each index and its right hash, and the length of its bytes.
    arrived: BTreeMap<u32, (ChunkPlace, u32)>,
}

/// The log read from the front.
struct Replay<'a> {
    shelf: &'a Shelf,
    /// The length of each segment's file.
    files: BTreeMap<u64, u64>,
    /// The segments whose contents count.
    scanned: Vec<u64>,
    /// If the end of the newest segment could not be made durable: from where on nothing may be said of it.
    in_doubt: Option<(u64, u32)>,
    segments: Segments,
    index: Index,
    /// The offsets of the chunks in each damaged segment, ascending.
    chunks: HashMap<u64, Vec<u32>>,
    begun: Vec<BeginRow>,
    broken: Vec<BrokenRecord>,
    damaged: Vec<Damage>,
    torn_bytes: u64,
    failed: Option<String>,
    syncs: u64,
}

impl<'a> Replay<'a> {
    fn new(shelf: &'a Shelf, files: BTreeMap<u64, u64>) -> Self {
        Self {
            shelf,
            files,
            scanned: Vec::new(),
            in_doubt: None,
            segments: Segments::default(),
            index: Index::default(),
            chunks: HashMap::new(),
            begun: Vec::new(),
            broken: Vec::new(),
            damaged: Vec::new(),
            torn_bytes: 0,
            failed: None,
            syncs: 0,
        }
    }

    fn read_segments(&mut self, scan_from: u64) -> Result<(), OpenError> {
        let newest = self.files.keys().next_back().copied();
        for (generation, file_bytes) in self.files.clone() {
            if Some(generation) == newest {
                self.newest_segment(generation, file_bytes)?;
            } else {
                self.segments.insert(generation, file_bytes);
                if generation >= scan_from {
                    self.sealed_segment(generation)?;
                }
                self.segments.seal(generation);
            }
        }
        Ok(())
    }

    /// A segment below the newest one: it was sealed and synced before the next was created.
    fn sealed_segment(&mut self, generation: u64) -> Result<(), OpenError> {
        let Some(contents) = self.contents(generation)? else {
            let length = u32::try_from(self.files[&generation]).unwrap_or(u32::MAX);
            self.damage(generation, 0, length, "the whole segment");
            self.chunks.insert(generation, Vec::new());
            return Ok(());
        };
        self.digest(&contents, generation);
        Ok(())
    }

    /// The newest segment: its end may be torn, and its last commit may not be durable.
    fn newest_segment(&mut self, generation: u64, file_bytes: u64) -> Result<(), OpenError> {
        let name = segment_name(generation);
        let Ok(file) = self.shelf.disk().open(&name) else {
            self.segments.insert(generation, file_bytes);
            self.sealed_segment(generation)?;
            self.segments.seal(generation);
            return Ok(());
        };
        let sealed = Table::read(&*file, generation, file_bytes);
        let mut walk = Walk::through(&*file, generation, file_bytes);
        if let SegmentHeader::Newer(version) = walk.header {
            return Err(OpenError::Newer { file: name, version });
        }
        let Some(cut) = tail::find_cut(&walk, generation) else {
            self.discard_unborn(generation, file_bytes, &walk);
            return Ok(());
        };
        self.torn_bytes = cut.torn_bytes;
        let in_doubt = pieces_before_last_commit(&walk, &cut);
        walk.pieces.truncate(cut.pieces);
        // What stays ends where it is cut, and is sealed there.
        walk.sealed = true;
        let checkpointed = walk.last_commit() > 0 || sealed.is_some_and(|table| table.checkpointed);
        let table = table_of(&walk, checkpointed, cut.offset);
        let settled = tail::settle(&*file, generation, &cut, &table);
        self.syncs += 1;
        self.segments.insert(generation, *settled.as_ref().unwrap_or(&file_bytes));
        if let Err(error) = &settled {
            self.failed = Some(format!("make the end of the log durable: {error}"));
            self.in_doubt = walk.pieces.get(in_doubt).map(|piece| (generation, piece.offset()));
            walk.pieces.truncate(in_doubt);
        }
        self.files.insert(generation, *settled.as_ref().unwrap_or(&file_bytes));
        self.digest(&Contents::Walk(walk), generation);
        self.segments.seal(generation);
        Ok(())
    }

    /// Nothing in it was ever promised: the power went before its first commit was durable.
    fn discard_unborn(&mut self, generation: u64, file_bytes: u64, walk: &Walk) {
        self.torn_bytes = walk.entries().map(|found| u64::from(found.extent.length)).sum();
        // Durable with the name of the next segment at the latest, before anything is written there.
        let put_aside = self.shelf.disk().rename(&segment_name(generation), &spare_name(generation));
        match put_aside {
            Ok(()) => self.segments.add_spare(Spare { generation, file_bytes }),
            Err(error) => self.failed = Some(format!("put an unused segment aside: {error}")),
        }
    }

    /// Nothing if the file cannot even be opened.
    fn contents(&self, generation: u64) -> Result<Option<Contents>, OpenError> {
        let name = segment_name(generation);
        let Ok(file) = self.shelf.disk().open(&name) else { return Ok(None) };
        let contents = Contents::load(&*file, generation, self.files[&generation]);
        match contents.header(generation) {
            SegmentHeader::Newer(version) => Err(OpenError::Newer { file: name, version }),
            SegmentHeader::Good(_) | SegmentHeader::Bad => Ok(Some(contents)),
        }
    }

    fn digest(&mut self, contents: &Contents, generation: u64) {
        self.scanned.push(generation);
        if matches!(contents, Contents::Walk(_)) {
            self.chunks.insert(generation, Vec::new());
        }
        contents.each(generation, &mut |finding| self.digest_finding(finding, generation));
        if !self.segments.is_damaged(generation) {
            self.chunks.remove(&generation);
        }
    }

    fn digest_finding(&mut self, finding: Finding, generation: u64) {
        match finding {
            Finding::Row(Row::Record(stored, shares)) => self.digest_record(&stored, &shares),
            Finding::Row(Row::Chunk(chunk)) => {
                if let Some(offsets) = self.chunks.get_mut(&generation) {
                    offsets.push(chunk.entry.offset);
                }
            }
            Finding::Row(Row::Begin(begin)) => self.begun.push(begin),
            Finding::Row(Row::Put(_)) => {}
            Finding::Broken(meta, entry) => self.note_broken(&meta, entry, entry, "a payload"),
            Finding::Damage { offset, length, what } => self.damage(generation, offset, length, what),
        }
    }

    /// Opens the books for a record, if it is whole. A later copy takes the place of an earlier one.
    fn digest_record(&mut self, stored: &StoredRecord, chunks: &[Share]) {
        match self.state_of(stored, chunks) {
            State::GivenBack => tracing::debug!(record = %stored.id, "released before, its chunks are gone"),
            State::Damaged(Some(meta), chunk) => self.note_broken(&meta, stored.record, chunk, "a chunk of a record"),
            State::Damaged(None, entry) => {
                self.damage(entry.generation, entry.offset, entry.length, "a record");
            }
            State::Whole => {
                for share in self.index.insert(&stored.id, stored.record, chunks) {
                    self.segments.unneed(share);
                }
                for share in chunks.iter().copied().chain([Share::of(stored.record)]) {
                    self.segments.need(share);
                    if stored.own {
                        self.segments.mark_own(share.generation, stored.stored_at);
                    }
                }
            }
        }
    }

    fn state_of(&self, stored: &StoredRecord, chunks: &[Share]) -> State {
        if chunks.iter().any(|share| !self.files.contains_key(&share.generation)) {
            return State::GivenBack;
        }
        if !chunks.iter().any(|share| self.segments.is_damaged(share.generation)) {
            return State::Whole;
        }
        let meta = self.shelf.meta(stored.record, Kind::Record).and_then(|meta| RecordMeta::decode(&meta).ok());
        let Some(meta) = meta else { return State::Damaged(None, stored.record) };
        let places = meta.chunks.as_deref().unwrap_or_default();
        let missing = places.iter().find(|chunk| {
            let Extent { generation, offset, .. } = chunk.extent;
            self.chunks.get(&generation).is_some_and(|offsets| offsets.binary_search(&offset).is_err())
        });
        match missing.map(|chunk| chunk.extent) {
            Some(chunk) => State::Damaged(Some(Box::new(meta)), chunk),
            None => State::Whole,
        }
    }

    fn note_broken(&mut self, meta: &RecordMeta, entry: Extent, damaged: Extent, what: &'static str) {
        let record = stored_record(meta, entry);
        let Extent { generation, offset, length } = damaged;
        let damage = Damage { generation, offset, length, record: Some(record.id.clone()), what };
        self.broken.push(BrokenRecord { record, received_from: meta.received_from.clone(), damage });
    }

    fn damage(&mut self, generation: u64, offset: u32, length: u32, what: &'static str) {
        self.segments.mark_damaged(generation);
        self.damaged.push(Damage { generation, offset, length, record: None, what });
    }

    /// A broken copy of a record is no loss if a whole one is there, and of several the last is told.
    fn judge_broken(&mut self) {
        let mut seen = HashSet::new();
        let mut broken = std::mem::take(&mut self.broken);
        broken.reverse();
        broken.retain(|broken| self.index.find(&broken.record.id).is_none() && seen.insert(broken.record.id.clone()));
        broken.reverse();
        for BrokenRecord { damage, record, .. } in &broken {
            self.segments.mark_damaged(damage.generation);
            self.segments.mark_damaged(record.record.generation);
            // It may have been found before it was known whose it is.
            let known = self.damaged.iter_mut().find(|known| {
                (known.generation, known.offset, known.record.is_none()) == (damage.generation, damage.offset, true)
            });
            match known {
                Some(known) => known.clone_from(damage),
                None => self.damaged.push(damage.clone()),
            }
        }
        self.broken = broken;
    }

    /// The newest value under each key. Each segment repeats all values that were live when it was begun, so those
    /// below the newest one that certainly does are not needed.
    fn values(&mut self) -> BTreeMap<Bytes, Bytes> {
        let mut values = BTreeMap::new();
        let files: Vec<u64> = self.files.keys().copied().filter(|file| self.segments.contains(*file)).collect();
        for generation in files.into_iter().rev() {
            let Ok(Some(contents)) = self.contents(generation) else { continue };
            let mut puts = Vec::new();
            contents.each(generation, &mut |finding| {
                if let Finding::Row(Row::Put(entry)) = finding {
                    puts.push(entry);
                }
            });
            for entry in puts.into_iter().rev().filter(|entry| !self.is_in_doubt(*entry)).collect::<Vec<_>>() {
                let put = self.shelf.meta(entry, Kind::Put).and_then(|meta| decode_put(&meta).ok());
                match put {
                    Some((key, value)) => {
                        values.entry(key).or_insert(value);
                    }
                    None => self.damage(generation, entry.offset, entry.length, "a value"),
                }
            }
            if contents.is_checkpointed() && !self.segments.is_damaged(generation) {
                break;
            }
        }
        values
    }

    /// The last beginning of each transfer whose record is not whole.
    fn unfinished_transfers(&mut self) -> HashMap<TransferId, FoundBegin> {
        let mut seen = HashSet::new();
        let mut unfinished = HashMap::new();
        for BeginRow { transfer, record, entry } in std::mem::take(&mut self.begun).into_iter().rev() {
            if self.index.find(&record).is_some() || !seen.insert(transfer) {
                continue;
            }
            match self.shelf.meta(entry, Kind::Begin).and_then(|meta| BeginMeta::decode(&meta).ok()) {
                Some(meta) => {
                    unfinished.insert(transfer, FoundBegin { meta, entry, arrived: BTreeMap::new() });
                }
                None => self.damage(entry.generation, entry.offset, entry.length, "the beginning of a payload"),
            }
        }
        unfinished
    }

    /// Tells the last whole copy of each record, in the order of the log, and notes what of the transfers arrived.
    fn tell_records(&mut self, begun: &mut HashMap<TransferId, FoundBegin>, each: EachRecord<'_>) {
        let mut unreadable = Vec::new();
        for generation in self.scanned.clone() {
            let Ok(Some(contents)) = self.contents(generation) else { continue };
            contents.each(generation, &mut |finding| match finding {
                Finding::Row(Row::Record(stored, _)) if self.index.find(&stored.id) == Some(stored.record) => {
                    each(Durable::after_sync(stored));
                }
                Finding::Row(Row::Chunk(chunk)) if !self.is_in_doubt(chunk.entry) => {
                    if let Some(begun) = begun.get_mut(&chunk.transfer)
                        && !begun.note_chunk(self.shelf, chunk)
                    {
                        unreadable.push(chunk.entry);
                    }
                }
                _ => {}
            });
        }
        for Extent { generation, offset, length } in unreadable {
            self.damage(generation, offset, length, "a chunk");
        }
    }

    fn is_in_doubt(&self, entry: Extent) -> bool {
        self.in_doubt.is_some_and(|from| (entry.generation, entry.offset) >= from)
    }
}

/// The table of a segment that was not sealed in time; nothing if something in it is damaged, so that every start
/// walks through it and says so.
fn table_of(walk: &Walk, checkpointed: bool, seal: u32) -> Bytes {
    let mut table = TableWriter::default();
    for finding in walk.pieces.iter().filter_map(finding) {
        match finding {
            Finding::Row(row) => table.push(&row),
            Finding::Broken(..) | Finding::Damage { .. } => return Bytes::new(),
        }
    }
    table.finish(checkpointed, seal)
}

enum State {
    Whole,
    /// A segment with some of its chunks is gone, and a segment goes only when all in it is released.
    GivenBack,
    /// What of it is damaged.
    Damaged(Option<Box<RecordMeta>>, Extent),
}

impl FoundBegin {
    /// Returns false if the chunk cannot be read.
    fn note_chunk(&mut self, shelf: &Shelf, chunk: ChunkRow) -> bool {
        let meta = shelf.meta(chunk.entry, Kind::Chunk).and_then(|meta| ChunkMeta::decode(&meta).ok());
        let Some(ChunkMeta { hash, .. }) = meta else { return false };
        if self.meta.chunks.get(chunk.index as usize) == Some(&hash) {
            self.arrived.insert(chunk.index, (ChunkPlace { extent: chunk.entry, hash }, chunk.bytes()));
        }
        true
    }

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

/// What the caller keeps of a record.
pub(crate) fn stored_record(meta: &RecordMeta, record: Extent) -> StoredRecord {
    let header = meta.header.header();
    StoredRecord {
        id: header.id.clone(),
        class: header.class,
        payload_bytes: header.payload_bytes,
        digest: meta.header.digest(),
        own: meta.received_from.is_none(),
        received_from: meta.received_from.clone(),
        idempotency: meta.idempotency,
        stored_at: meta.stored_at,
        payload_hash: header.payload_hash,
        record,
    }
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
