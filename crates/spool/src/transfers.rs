//! Chunks that have arrived and are not yet a record's.

use std::collections::{BTreeMap, HashMap};

use estafet_model::{ChunkHash, RecordHeader, chunk_count, payload_hash_of_chunks};

use crate::append::{Extent, Refusal, TransferId};
use crate::format::ChunkPlace;

/// All payloads that are arriving.
#[derive(Debug, Default)]
pub(crate) struct Transfers {
    transfers: HashMap<TransferId, Transfer>,
}

#[derive(Debug, Default)]
struct Transfer {
    begun: Option<Begun>,
    chunks: BTreeMap<u32, Arrived>,
}

/// The begin entry of a transfer: where it is, and what it promises of the chunks.
#[derive(Debug)]
struct Begun {
    entry: Extent,
    hashes: Box<[ChunkHash]>,
}

#[derive(Debug, Clone, Copy)]
struct Arrived {
    place: ChunkPlace,
    bytes: u32,
}

impl Transfers {
    /// Notes that a transfer was begun. Returns where it was begun before, if it was.
    pub(crate) fn begin(&mut self, id: TransferId, entry: Extent, hashes: Vec<ChunkHash>) -> Option<Extent> {
        let begun = Begun { entry, hashes: hashes.into_boxed_slice() };
        self.transfers.entry(id).or_default().begun.replace(begun).map(|before| before.entry)
    }

    /// Notes a chunk. Returns where the same one was before, if it came twice.
    pub(crate) fn insert(&mut self, id: TransferId, index: u32, place: ChunkPlace, bytes: u32) -> Option<Extent> {
        let before = self.transfers.entry(id).or_default().chunks.insert(index, Arrived { place, bytes });
        before.map(|arrived| arrived.place.extent)
    }

    /// The transfer is over. Returns where its beginning and its chunks are.
    pub(crate) fn remove(&mut self, id: TransferId) -> Vec<Extent> {
        let Transfer { begun, chunks } = self.transfers.remove(&id).unwrap_or_default();
        let chunks = chunks.into_values().map(|arrived| arrived.place.extent);
        begun.map(|begun| begun.entry).into_iter().chain(chunks).collect()
    }

    /// What of the transfers is in this segment: beginnings (no index) and chunks.
    pub(crate) fn in_segment(&self, generation: u64) -> Vec<(TransferId, Option<u32>, Extent)> {
        let mut found = Vec::new();
        for (id, Transfer { begun, chunks }) in &self.transfers {
            let begun = begun.iter().map(|begun| (*id, None, begun.entry));
            let chunks = chunks.iter().map(|(index, arrived)| (*id, Some(*index), arrived.place.extent));
            found.extend(begun.chain(chunks).filter(|(_, _, entry)| entry.generation == generation));
        }
        // In the order of the log, so that the same run does the same.
        found.sort_unstable_by_key(|(_, _, entry)| *entry);
        found
    }

    /// The transfer is a record's now, which needs its chunks. Returns where its beginning is, which nobody needs.
    pub(crate) fn complete(&mut self, id: TransferId) -> Option<Extent> {
        self.transfers.remove(&id).and_then(|transfer| transfer.begun).map(|begun| begun.entry)
    }

    /// Refuses a chunk that is not one of those that the transfer was begun with.
    pub(crate) fn check_chunk(&self, id: TransferId, index: u32, hash: &ChunkHash) -> Result<(), Refusal> {
        let Some(begun) = self.transfers.get(&id).and_then(|transfer| transfer.begun.as_ref()) else { return Ok(()) };
        if begun.hashes.get(index as usize) == Some(hash) { Ok(()) } else { Err(Refusal::PayloadChunks) }
    }

    /// The places of the chunks, if they are all there and hash to what the header says.
    pub(crate) fn check(&self, id: TransferId, header: &RecordHeader) -> Result<Vec<ChunkPlace>, Refusal> {
        let chunks = &self.transfers.get(&id).ok_or(Refusal::PayloadChunks)?.chunks;
        let without_gaps = chunks.keys().copied().eq(0..chunk_count(header.payload_bytes));
        let bytes: u64 = chunks.values().map(|chunk| u64::from(chunk.bytes)).sum();
        if bytes != u64::from(header.payload_bytes) {
            return Err(Refusal::PayloadLength);
        }
        let hashes: Vec<ChunkHash> = chunks.values().map(|chunk| chunk.place.hash).collect();
        if !without_gaps || payload_hash_of_chunks(&hashes) != header.payload_hash {
            return Err(Refusal::PayloadChunks);
        }
        Ok(chunks.values().map(|chunk| chunk.place).collect())
    }
}
