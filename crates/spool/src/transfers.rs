//! Chunks that have arrived and are not yet a record's.

use std::collections::{BTreeMap, HashMap};

use estafet_model::{ChunkHash, RecordHeader, chunk_count, payload_hash_of_chunks};

use crate::append::{Extent, Refusal, TransferId};
use crate::format::ChunkPlace;

/// All payloads that are arriving.
#[derive(Debug, Default)]
pub(crate) struct Transfers {
    transfers: HashMap<TransferId, BTreeMap<u32, Arrived>>,
}

#[derive(Debug, Clone, Copy)]
struct Arrived {
    place: ChunkPlace,
    bytes: u32,
}

impl Transfers {
    /// Notes a chunk. Returns where the same one was before, if it came twice.
    pub(crate) fn insert(&mut self, id: TransferId, index: u32, place: ChunkPlace, bytes: u32) -> Option<Extent> {
        let before = self.transfers.entry(id).or_default().insert(index, Arrived { place, bytes });
        before.map(|arrived| arrived.place.extent)
    }

    /// The transfer is over. Returns where its chunks are.
    pub(crate) fn remove(&mut self, id: TransferId) -> Vec<Extent> {
        let chunks = self.transfers.remove(&id).unwrap_or_default();
        chunks.into_values().map(|arrived| arrived.place.extent).collect()
    }

    /// The places of the chunks, if they are all there and hash to what the header says.
    pub(crate) fn check(&self, id: TransferId, header: &RecordHeader) -> Result<Vec<ChunkPlace>, Refusal> {
        let chunks = self.transfers.get(&id).ok_or(Refusal::PayloadChunks)?;
        let bytes: u64 = chunks.values().map(|chunk| u64::from(chunk.bytes)).sum();
        if bytes != u64::from(header.payload_bytes) {
            return Err(Refusal::PayloadLength);
        }
        let without_gaps = chunks.keys().copied().eq(0..chunk_count(header.payload_bytes));
        let hashes: Vec<ChunkHash> = chunks.values().map(|chunk| chunk.place.hash).collect();
        if !without_gaps || payload_hash_of_chunks(&hashes) != header.payload_hash {
            return Err(Refusal::PayloadChunks);
        }
        Ok(chunks.values().map(|chunk| chunk.place).collect())
    }
}
