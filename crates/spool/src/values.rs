//! The newest value under each key.

use std::collections::BTreeMap;

use bytes::Bytes;

use crate::append::Refusal;
use crate::format::{HEAD_BYTES, encode_put};

/// Every segment begins with all of them, so they may take one part in this many of a segment.
const PART_OF_SEGMENT: u64 = 4;
/// However small the segments are.
const BYTES_MIN: u64 = 64 << 10;

/// All keys and values, bounded in bytes.
#[derive(Debug)]
pub(crate) struct Values {
    values: BTreeMap<Bytes, Bytes>,
    bytes_max: u64,
}

impl Values {
    pub(crate) fn new(values: BTreeMap<Bytes, Bytes>, segment_bytes: u32) -> Self {
        Self { values, bytes_max: (u64::from(segment_bytes) / PART_OF_SEGMENT).max(BYTES_MIN) }
    }

    /// Refuses a value for which there is no room beside the others.
    pub(crate) fn check(&self, key: &Bytes, value: &Bytes) -> Result<(), Refusal> {
        let entry_bytes = |key: &Bytes, value: &Bytes| (HEAD_BYTES as usize + 8 + key.len() + value.len()) as u64;
        let others = self.values.iter().filter(|(other, _)| *other != key);
        let bytes = others.map(|(key, value)| entry_bytes(key, value)).sum::<u64>() + entry_bytes(key, value);
        if bytes > self.bytes_max { Err(Refusal::Puts) } else { Ok(()) }
    }

    pub(crate) fn insert(&mut self, key: Bytes, value: Bytes) {
        self.values.insert(key, value);
    }

    /// The metas of the put entries that repeat them.
    pub(crate) fn metas(&self) -> impl Iterator<Item = Bytes> {
        self.values.iter().map(|(key, value)| encode_put(key, value))
    }
}
