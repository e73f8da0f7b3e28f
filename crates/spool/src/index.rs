//! Where each record is: at most about 150 bytes a record, no payload.

use std::collections::HashMap;

use estafet_model::{NodeId, RecordId};

use crate::append::Extent;
use crate::format::ChunkPlace;

/// A record id without its name: origins are few and numbered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Key {
    origin: u32,
    seq: u32,
    epoch: u16,
}

/// What of a record's payload lies in one segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Share {
    pub(crate) generation: u64,
    pub(crate) entries: u32,
    pub(crate) bytes: u32,
}

impl Share {
    /// The share that is one entry.
    pub(crate) fn of(extent: Extent) -> Self {
        Self { generation: extent.generation, entries: 1, bytes: extent.length }
    }
}

/// The chunks of one payload, summed up by segment.
pub(crate) fn shares_of(chunks: &[ChunkPlace]) -> Box<[Share]> {
    let mut shares: Vec<Share> = Vec::new();
    for ChunkPlace { extent, .. } in chunks {
        match shares.iter_mut().find(|share| share.generation == extent.generation) {
            Some(share) => {
                share.entries += 1;
                share.bytes = share.bytes.saturating_add(extent.length);
            }
            None => shares.push(Share::of(*extent)),
        }
    }
    shares.into_boxed_slice()
}

#[derive(Debug)]
struct Slot {
    record: Extent,
    released: bool,
    /// Empty for an inline payload, and once released.
    chunks: Box<[Share]>,
}

/// All records that can be read by their id.
#[derive(Debug, Default)]
pub(crate) struct Index {
    origins: HashMap<NodeId, u32>,
    slots: HashMap<Key, Slot>,
}

impl Index {
    pub(crate) fn find(&self, id: &RecordId) -> Option<Extent> {
        self.slots.get(&self.key(id)?).map(|slot| slot.record)
    }

    /// Says where a record is from now on. Returns what it needed before, if it was there and not released.
    pub(crate) fn insert(&mut self, id: &RecordId, record: Extent, chunks: Box<[Share]>) -> (Key, Vec<Share>) {
        let next = u32::try_from(self.origins.len()).expect("origins are the nodes of an area");
        // The origin's name is cloned only when it is new.
        let origin = match self.origins.get(&id.origin) {
            Some(origin) => *origin,
            None => *self.origins.entry(id.origin.clone()).or_insert(next),
        };
        let key = Key { origin, seq: id.seq.get(), epoch: id.epoch.get() };
        let before = self.slots.insert(key, Slot { record, released: false, chunks });
        (key, before.map(Slot::into_needed).unwrap_or_default())
    }

    /// Marks a record as released. Returns what it needed until now: nothing if it is unknown or was released before.
    pub(crate) fn release(&mut self, id: &RecordId) -> Vec<Share> {
        let Some(slot) = self.key(id).and_then(|key| self.slots.get_mut(&key)) else { return Vec::new() };
        let chunks = std::mem::take(&mut slot.chunks);
        let before = Slot { record: slot.record, released: slot.released, chunks };
        slot.released = true;
        before.into_needed()
    }

    /// Forgets a record whose entry is in a segment that goes, unless it is elsewhere by now.
    pub(crate) fn forget(&mut self, key: Key, generation: u64) {
        if self.slots.get(&key).is_some_and(|slot| slot.record.generation == generation) {
            self.slots.remove(&key);
        }
    }

    fn key(&self, id: &RecordId) -> Option<Key> {
        let origin = *self.origins.get(&id.origin)?;
        Some(Key { origin, seq: id.seq.get(), epoch: id.epoch.get() })
    }
}

impl Slot {
    fn into_needed(self) -> Vec<Share> {
        if self.released {
            return Vec::new();
        }
        let mut needed = self.chunks.into_vec();
        needed.push(Share::of(self.record));
        needed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_costs_little_memory() {
        // A hash table is at least 7/16 full after it has grown, and has a byte of its own per place; each segment
        // lists the keys of its records.
        let slot = (size_of::<Key>() + size_of::<Slot>() + 1) * 16 / 7;
        assert!(slot + size_of::<Key>() <= 160, "{slot}");
    }
}
