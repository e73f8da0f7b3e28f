//! Payload hashes. A payload is hashed in chunks, so that each chunk can be checked when it arrives and the whole
//! is proved by the chunks' hashes alone (the BLAKE3 tree, section 2.1 of its paper): no byte is hashed twice.

use std::fmt;

use blake3::hazmat::{HasherExt, Mode, merge_subtrees_non_root, merge_subtrees_root};
use data_encoding::HEXLOWER;

/// What a counter may hand in as one record: 16 MiB.
pub const CONTENT_BYTES_MAX: u32 = 16 << 20;

/// The largest payload, which is sealed content: the same, with room for what sealing adds.
pub const PAYLOAD_BYTES_MAX: u32 = CONTENT_BYTES_MAX + (64 << 10);

/// The unit of transfer: what a cut costs at most of what was sent (2 s on a line of 64 kbit/s), and still large enough
/// that its hash and head are nothing beside it. A power of two of at least 1,024, as the BLAKE3 tree demands.
pub const CHUNK_BYTES: usize = 16 << 10;

/// How many chunks a payload of this length has; an empty one has a single empty chunk.
#[must_use]
pub fn chunk_count(payload_bytes: u32) -> u32 {
    const CHUNK: u32 = 16 << 10;
    payload_bytes.div_ceil(CHUNK).max(1)
}

/// The BLAKE3 hash of a payload.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PayloadHash([u8; 32]);

impl PayloadHash {
    /// The hash of bytes that are all here.
    #[must_use]
    pub fn of(payload: &[u8]) -> Self {
        Self(*blake3::hash(payload).as_bytes())
    }

    /// A hash that was computed elsewhere.
    #[must_use]
    pub fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The 32 bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Display for PayloadHash {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&HEXLOWER.encode(&self.0))
    }
}

impl fmt::Debug for PayloadHash {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}…", HEXLOWER.encode(&self.0[..6]))
    }
}

/// The hash of one chunk as a part of its payload's tree.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ChunkHash([u8; 32]);

impl ChunkHash {
    /// Hashes chunk number `index` of a payload that has `count` chunks.
    ///
    /// # Panics
    /// If `chunk` is longer than [`CHUNK_BYTES`].
    #[must_use]
    pub fn of(chunk: &[u8], index: u32, count: u32) -> Self {
        assert!(chunk.len() <= CHUNK_BYTES, "a chunk is at most {CHUNK_BYTES} bytes");
        if count <= 1 {
            return Self(*blake3::hash(chunk).as_bytes());
        }
        let offset = u64::from(index) * CHUNK_BYTES as u64;
        Self(blake3::Hasher::new().set_input_offset(offset).update(chunk).finalize_non_root())
    }

    /// A hash that was computed elsewhere.
    #[must_use]
    pub fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The 32 bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

/// The payload's hash from the hashes of all its chunks, in order.
///
/// # Panics
/// If there are no chunks; even an empty payload has one.
#[must_use]
pub fn payload_hash_of_chunks(chunks: &[ChunkHash]) -> PayloadHash {
    match chunks {
        [] => panic!("a payload has at least one chunk"),
        [only] => PayloadHash(only.0),
        many => {
            let (left, right) = many.split_at(left_chunks(many.len()));
            let root = merge_subtrees_root(&subtree(left), &subtree(right), Mode::Hash);
            PayloadHash(*root.as_bytes())
        }
    }
}

fn subtree(chunks: &[ChunkHash]) -> [u8; 32] {
    if let [only] = chunks {
        return only.0;
    }
    let (left, right) = chunks.split_at(left_chunks(chunks.len()));
    merge_subtrees_non_root(&subtree(left), &subtree(right), Mode::Hash)
}

/// The left subtree takes the largest power of two that leaves something for the right one.
fn left_chunks(count: usize) -> usize {
    count.next_power_of_two() / 2
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chunk_hashes_make_the_plain_blake3_hash() {
        let payload: Vec<u8> = (0..CHUNK_BYTES * 7 + 123).map(|index| u8::try_from(index % 251).unwrap()).collect();
        let sizes =
            [0, 1, CHUNK_BYTES - 1, CHUNK_BYTES, CHUNK_BYTES + 1, CHUNK_BYTES * 3, CHUNK_BYTES * 4, payload.len()];
        for size in sizes {
            let payload = &payload[..size];
            let count = chunk_count(u32::try_from(size).unwrap());
            let chunks: Vec<ChunkHash> = (0..count)
                .map(|index| {
                    let start = index as usize * CHUNK_BYTES;
                    let end = payload.len().min(start + CHUNK_BYTES);
                    ChunkHash::of(&payload[start..end], index, count)
                })
                .collect();
            assert_eq!(payload_hash_of_chunks(&chunks), PayloadHash::of(payload), "{size} bytes");
        }
    }
}
