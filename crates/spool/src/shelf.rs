//! Reading: by id or by place, from any thread, while the writer writes.

use std::collections::{BTreeSet, VecDeque};
use std::io;
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use bytes::Bytes;
use estafet_model::{CHUNK_BYTES, ChunkHash, NodeId, PAYLOAD_BYTES_MAX, RecordId, SignedHeader, UnixMillis};

use crate::append::Extent;
use crate::disk::{Disk, DiskFile};
use crate::format::{
    ChunkMeta, ChunkPlace, HEAD_BYTES, Head, Kind, META_BYTES_MAX, RecordMeta, head_is_genuine, segment_name,
};
use crate::index::Index;

/// Files that stay open for reading. A backlog is read from few segments at a time.
const OPEN_FILES_MAX: usize = 32;

/// What is read of a payload at once.
const ADJOINING_BYTES_MAX: usize = 1 << 20;

/// A record as it is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReadRecord {
    /// The header with its origin's proof.
    pub header: SignedHeader,
    /// The neighbor it came from, or nothing if it was captured here.
    pub received_from: Option<NodeId>,
    /// The wall clock when it came.
    pub stored_at: UnixMillis,
    /// The payload, or how to get it.
    pub payload: ReadPayload,
}

/// The payload of a stored record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ReadPayload {
    /// All of it.
    Inline(Bytes),
    /// It has chunks with these hashes, to be read one by one.
    Chunks(Vec<ChunkHash>),
}

/// Why something cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReadError {
    /// It is unknown, or was released and its room given back.
    #[error("it is not here")]
    NotHere,
    /// What is there is not what was written.
    #[error("the entry at {} in segment {:016x} is damaged", .0.offset, .0.generation)]
    Damaged(Extent),
    /// The disk failed.
    #[error("the disk failed: {0}")]
    Disk(Arc<str>),
}

/// Everything a reader needs; shared with the writer.
#[derive(Debug)]
pub(crate) struct Shelf {
    disk: Arc<dyn Disk>,
    index: RwLock<Index>,
    /// Most recently used last.
    files: Mutex<VecDeque<(u64, Arc<dyn DiskFile>)>>,
    /// Segments in which damage was found by reading.
    damaged: Mutex<BTreeSet<u64>>,
}

impl Shelf {
    pub(crate) fn new(disk: Arc<dyn Disk>) -> Self {
        Self { disk, index: RwLock::default(), files: Mutex::default(), damaged: Mutex::default() }
    }

    pub(crate) fn disk(&self) -> &dyn Disk {
        &*self.disk
    }

    pub(crate) fn index(&self) -> RwLockReadGuard<'_, Index> {
        self.index.read().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn index_mut(&self) -> RwLockWriteGuard<'_, Index> {
        self.index.write().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn read(&self, id: &RecordId) -> Result<ReadRecord, ReadError> {
        self.read_by_id(id, |record| Ok(record.into_read()))
    }

    pub(crate) fn read_chunk(&self, id: &RecordId, index: u32) -> Result<Bytes, ReadError> {
        self.read_by_id(id, |record| record.chunk(self, index))
    }

    /// The record and these of its chunks, as far as it has them; one that has its payload inline comes with that.
    pub(crate) fn read_with_chunks(
        &self,
        id: &RecordId,
        chunks: Range<u32>,
    ) -> Result<(ReadRecord, Vec<Bytes>), ReadError> {
        self.read_by_id(id, |record| {
            let chunks = record.chunks(self, chunks.clone())?;
            Ok((record.into_read(), chunks))
        })
    }

    pub(crate) fn read_extent(&self, extent: Extent) -> Result<ReadRecord, ReadError> {
        Ok(self.record_at(extent)?.into_read())
    }

    /// The same, and these of its chunks.
    pub(crate) fn read_extent_with_chunks(
        &self,
        extent: Extent,
        chunks: Range<u32>,
    ) -> Result<(ReadRecord, Vec<Bytes>), ReadError> {
        let record = self.record_at(extent)?;
        let chunks = record.chunks(self, chunks)?;
        Ok((record.into_read(), chunks))
    }

    pub(crate) fn read_chunk_of(&self, extent: Extent, index: u32) -> Result<Bytes, ReadError> {
        self.record_at(extent)?.chunk(self, index)
    }

    /// Reads the record at this place with its whole payload, every byte of it.
    pub(crate) fn check(&self, extent: Extent) -> Result<(), ReadError> {
        let record = self.record_at(extent)?;
        let places = record.meta.chunks.as_deref().unwrap_or_default();
        (0..).zip(places).try_for_each(|(index, place)| self.chunk_at(*place, index).map(drop))
    }

    /// The head and meta of an entry, if they are genuine and of this kind.
    pub(crate) fn meta(&self, extent: Extent, kind: Kind) -> Option<Vec<u8>> {
        let file = self.open_file(extent.generation).or_else(|| {
            let file = self.disk.open(&segment_name(extent.generation)).ok()?;
            self.keep_open(extent.generation, Arc::clone(&file));
            Some(file)
        })?;
        let mut bytes = vec![0; HEAD_BYTES as usize];
        (file.read_at(&mut bytes, u64::from(extent.offset)).ok()? == bytes.len()).then_some(())?;
        let head = Head::parse(&bytes).filter(|head| head.kind == kind && head.length() == extent.length)?;
        let mut meta = vec![0; head.meta_bytes as usize];
        let offset = u64::from(extent.offset) + u64::from(HEAD_BYTES);
        (file.read_at(&mut meta, offset).ok()? == meta.len()).then_some(())?;
        head_is_genuine(extent.generation, extent.offset, &bytes, &meta).then_some(meta)
    }

    /// Finds a record by its id and reads something of it.
    ///
    /// What the index says may be old news by the time it is read: the record was moved and its segment given back. So
    /// the index is asked again before a failure counts.
    fn read_by_id<T>(&self, id: &RecordId, read: impl Fn(StoredEntry) -> Result<T, ReadError>) -> Result<T, ReadError> {
        let mut place = self.index().find(id).ok_or(ReadError::NotHere)?;
        loop {
            let entry = self.record_at(place).and_then(|record| {
                let is_it = record.meta.header.header().id == *id;
                if is_it { Ok(record) } else { Err(ReadError::Damaged(place)) }
            });
            let error = match entry.and_then(&read) {
                Ok(done) => return Ok(done),
                Err(error) => error,
            };
            match self.index().find(id) {
                Some(moved) if moved != place => place = moved,
                Some(_) | None => {
                    if let ReadError::Damaged(extent) = error {
                        self.keep_damaged(extent.generation);
                    }
                    return Err(error);
                }
            }
        }
    }

    /// The segment is kept as it is, for whoever repairs it.
    pub(crate) fn keep_damaged(&self, generation: u64) {
        self.damaged.lock().unwrap_or_else(PoisonError::into_inner).insert(generation);
    }

    /// The segments in which damage was found by reading, since this was asked last.
    pub(crate) fn take_damaged(&self) -> BTreeSet<u64> {
        std::mem::take(&mut *self.damaged.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn record_at(&self, extent: Extent) -> Result<StoredEntry, ReadError> {
        let entry = self.entry(extent)?;
        let damaged = ReadError::Damaged(extent);
        if entry.head.kind != Kind::Record {
            return Err(damaged);
        }
        let meta = RecordMeta::decode(&entry.meta).map_err(|_| damaged)?;
        Ok(StoredEntry { meta, payload: entry.payload })
    }

    fn chunk_at(&self, place: ChunkPlace, index: u32) -> Result<Bytes, ReadError> {
        self.entry(place.extent)?.into_chunk(place, index).ok_or(ReadError::Damaged(place.extent))
    }

    /// Reads chunks that lie one behind the other, with one look at the disk. Nothing if not all are as they should be:
    /// then the disk is asked for each.
    fn adjoining_chunks(&self, places: &[ChunkPlace], first: u32) -> Option<Vec<Bytes>> {
        let extent = places.first()?.extent;
        let bytes: usize = places.iter().map(|place| place.extent.length as usize).sum();
        if bytes > ADJOINING_BYTES_MAX {
            return None;
        }
        let file = self.open_file(extent.generation)?;
        let mut buffer = vec![0; bytes];
        (file.read_at(&mut buffer, u64::from(extent.offset)).ok()? == bytes).then_some(())?;
        let mut rest = Bytes::from(buffer);
        let mut chunk = |(index, place): (u32, &ChunkPlace)| {
            let bytes = rest.split_to(place.extent.length as usize);
            Entry::parse(&bytes, place.extent)?.into_chunk(*place, index)
        };
        (first..).zip(places).map(&mut chunk).collect()
    }

    /// Reads an entry and checks every byte of it.
    ///
    /// What does not check may have been recycled under the reader's hands: an open file keeps being readable
    /// while another generation is written into it. So the file is opened once more by its name before it counts as damaged.
    pub(crate) fn entry(&self, extent: Extent) -> Result<Entry, ReadError> {
        if extent.length < HEAD_BYTES || extent.length > HEAD_BYTES + META_BYTES_MAX + PAYLOAD_BYTES_MAX {
            return Err(ReadError::NotHere);
        }
        if let Some(file) = self.open_file(extent.generation)
            && let Ok(Some(entry)) = read_entry(&*file, extent)
        {
            return Ok(entry);
        }
        let file = self.disk.open(&segment_name(extent.generation)).map_err(not_here)?;
        let entry = read_entry(&*file, extent).map_err(disk_failed)?.ok_or(ReadError::Damaged(extent))?;
        self.keep_open(extent.generation, file);
        Ok(entry)
    }

    fn open_file(&self, generation: u64) -> Option<Arc<dyn DiskFile>> {
        let mut files = self.files.lock().unwrap_or_else(PoisonError::into_inner);
        let position = files.iter().rposition(|(open, _)| *open == generation)?;
        let entry = files.remove(position)?;
        let file = Arc::clone(&entry.1);
        files.push_back(entry);
        Some(file)
    }

    fn keep_open(&self, generation: u64, file: Arc<dyn DiskFile>) {
        let mut files = self.files.lock().unwrap_or_else(PoisonError::into_inner);
        files.retain(|(open, _)| *open != generation);
        while files.len() >= OPEN_FILES_MAX {
            files.pop_front();
        }
        files.push_back((generation, file));
    }

    /// The segment goes: nobody shall read it through an open file, nor keep its room on the disk.
    pub(crate) fn close(&self, generation: u64) {
        self.files.lock().unwrap_or_else(PoisonError::into_inner).retain(|(open, _)| *open != generation);
    }
}

/// An entry, every byte of which is genuine.
pub(crate) struct Entry {
    pub(crate) head: Head,
    pub(crate) meta: Bytes,
    pub(crate) payload: Bytes,
}

impl Entry {
    /// Nothing if the bytes are not the entry that was written there.
    fn parse(bytes: &Bytes, extent: Extent) -> Option<Self> {
        let head = Head::parse(bytes).filter(|head| head.length() == extent.length)?;
        let meta_end = (HEAD_BYTES + head.meta_bytes) as usize;
        let meta = bytes.slice(HEAD_BYTES as usize..meta_end);
        let payload = bytes.slice(meta_end..);
        let genuine = head_is_genuine(extent.generation, extent.offset, bytes, &meta)
            && crc32c::crc32c(&payload) == head.payload_checksum;
        genuine.then_some(Self { head, meta, payload })
    }

    /// The payload, if this is the chunk that the record names.
    fn into_chunk(self, place: ChunkPlace, index: u32) -> Option<Bytes> {
        let meta = ChunkMeta::decode(&self.meta).ok()?;
        let right = self.head.kind == Kind::Chunk && (meta.index, meta.hash) == (index, place.hash);
        right.then_some(self.payload)
    }
}

/// A decoded record entry.
struct StoredEntry {
    meta: RecordMeta,
    payload: Bytes,
}

impl StoredEntry {
    fn into_read(self) -> ReadRecord {
        let payload = match &self.meta.chunks {
            Some(chunks) => ReadPayload::Chunks(chunks.iter().map(|chunk| chunk.hash).collect()),
            None => ReadPayload::Inline(self.payload),
        };
        let RecordMeta { header, received_from, stored_at, .. } = self.meta;
        ReadRecord { header, received_from, stored_at, payload }
    }

    /// Those of the chunks that there are.
    fn chunks(&self, shelf: &Shelf, chunks: Range<u32>) -> Result<Vec<Bytes>, ReadError> {
        let Some(places) = &self.meta.chunks else {
            let in_payload = u32::try_from(self.payload.len().div_ceil(CHUNK_BYTES).max(1)).unwrap_or(u32::MAX);
            return (chunks.start..chunks.end.min(in_payload)).map(|index| self.chunk(shelf, index)).collect();
        };
        let end = places.len().min(chunks.end as usize);
        let places = places.get(chunks.start as usize..end).unwrap_or_default();
        let mut read = Vec::with_capacity(places.len());
        let mut first = chunks.start;
        for run in places.chunk_by(|one, next| one.extent.is_followed_by(&next.extent)) {
            match shelf.adjoining_chunks(run, first) {
                Some(chunks) => read.extend(chunks),
                None => {
                    for (index, place) in (first..).zip(run) {
                        read.push(shelf.chunk_at(*place, index)?);
                    }
                }
            }
            first += u32::try_from(run.len()).unwrap_or(u32::MAX);
        }
        Ok(read)
    }

    fn chunk(&self, shelf: &Shelf, index: u32) -> Result<Bytes, ReadError> {
        let position = index as usize;
        if let Some(chunks) = &self.meta.chunks {
            return shelf.chunk_at(*chunks.get(position).ok_or(ReadError::NotHere)?, index);
        }
        let start = position.checked_mul(CHUNK_BYTES).ok_or(ReadError::NotHere)?;
        let past_the_end = if self.payload.is_empty() { position > 0 } else { start >= self.payload.len() };
        if past_the_end {
            return Err(ReadError::NotHere);
        }
        Ok(self.payload.slice(start..self.payload.len().min(start + CHUNK_BYTES)))
    }
}

/// Nothing if the bytes are not the entry that was written there.
fn read_entry(file: &dyn DiskFile, extent: Extent) -> io::Result<Option<Entry>> {
    let mut bytes = vec![0; extent.length as usize];
    if file.read_at(&mut bytes, u64::from(extent.offset))? < bytes.len() {
        return Ok(None);
    }
    Ok(Entry::parse(&Bytes::from(bytes), extent))
}

fn not_here(error: io::Error) -> ReadError {
    if error.kind() == io::ErrorKind::NotFound { ReadError::NotHere } else { disk_failed(error) }
}

#[expect(clippy::needless_pass_by_value, reason = "it stands in map_err")]
fn disk_failed(error: io::Error) -> ReadError {
    ReadError::Disk(error.to_string().into())
}
