//! Where each record is: about 16 bytes a record, no payload and no name.

use std::collections::{BTreeMap, HashMap};

use estafet_model::{Epoch, NodeId, RecordId, Seq, SeqRanges};

use crate::append::Extent;
use crate::format::ChunkPlace;

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
pub(crate) fn shares_of(chunks: &[ChunkPlace]) -> Vec<Share> {
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
    shares
}

/// A record id without its name: origins are few and numbered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
struct Key {
    origin: u32,
    epoch: u16,
    seq: u32,
}

/// Where one record is. An entry is shorter than 32 MiB, so its length has bits to spare; no entry has length 0.
#[derive(Debug, Clone, Copy, Default)]
struct Slot {
    generation: u64,
    offset: u32,
    length_and_flags: u32,
}

const RELEASED: u32 = 1 << 31;
/// It has chunks, whose shares stand in the side table.
const CHUNKED: u32 = 1 << 30;
const LENGTH: u32 = CHUNKED - 1;

impl Slot {
    fn new(record: Extent, chunked: bool) -> Self {
        assert!((1..=LENGTH).contains(&record.length), "the format bounds an entry's length");
        let length_and_flags = record.length | if chunked { CHUNKED } else { 0 };
        Self { generation: record.generation, offset: record.offset, length_and_flags }
    }

    fn is_taken(&self) -> bool {
        self.length_and_flags != 0
    }

    fn has(&self, flag: u32) -> bool {
        self.length_and_flags & flag != 0
    }

    fn extent(&self) -> Extent {
        let Self { generation, offset, length_and_flags } = *self;
        Extent { generation, offset, length: length_and_flags & LENGTH }
    }
}

/// The numbers of an epoch are dense, so their slots stand in pages. Small ones, because a transit origin has few
/// records here.
const PAGE_SLOTS: u32 = 64;

#[derive(Debug)]
struct Page {
    taken: u32,
    /// No slot is in a segment outside of these; not all of them need be there.
    lowest: u64,
    highest: u64,
    slots: Box<[Slot; PAGE_SLOTS as usize]>,
}

impl Page {
    fn new() -> Self {
        Self { taken: 0, lowest: u64::MAX, highest: 0, slots: Box::new([Slot::default(); PAGE_SLOTS as usize]) }
    }

    /// The slots in this segment.
    fn of_segment(&self, generation: u64) -> impl Iterator<Item = (u32, &Slot)> {
        let slots = if (self.lowest..=self.highest).contains(&generation) { &self.slots[..] } else { &[] };
        (0..).zip(slots).filter(move |(_, slot)| slot.is_taken() && slot.generation == generation)
    }
}

type Pages = BTreeMap<u32, Page>;

/// All records that can be read by their id.
#[derive(Debug, Default)]
pub(crate) struct Index {
    numbers: HashMap<NodeId, u32>,
    /// By number.
    origins: Vec<NodeId>,
    /// Per origin and epoch, by sequence number over [`PAGE_SLOTS`].
    pages: BTreeMap<(u32, u16), Pages>,
    /// What chunks a record that is not released needs in each segment: entries and bytes.
    shares: BTreeMap<(Key, u64), (u32, u32)>,
}

impl Index {
    pub(crate) fn find(&self, id: &RecordId) -> Option<Extent> {
        self.slot(self.key(id)?).map(Slot::extent)
    }

    /// There is no record at all.
    pub(crate) fn is_empty(&self) -> bool {
        self.pages.is_empty()
    }

    /// Where a record is, if it is not released.
    pub(crate) fn find_live(&self, id: &RecordId) -> Option<Extent> {
        self.slot(self.key(id)?).filter(|slot| !slot.has(RELEASED)).map(Slot::extent)
    }

    /// Says where a record is from now on. Returns what it needed before, if it was there and not released.
    pub(crate) fn insert(&mut self, id: &RecordId, record: Extent, chunks: &[Share]) -> Vec<Share> {
        let key = self.key_or_new(id);
        let before = self.take_needed(key);
        let pages = self.pages.entry((key.origin, key.epoch)).or_default();
        let page = pages.entry(key.seq / PAGE_SLOTS).or_insert_with(Page::new);
        let slot = &mut page.slots[(key.seq % PAGE_SLOTS) as usize];
        page.taken += u32::from(!slot.is_taken());
        *slot = Slot::new(record, !chunks.is_empty());
        page.lowest = page.lowest.min(record.generation);
        page.highest = page.highest.max(record.generation);
        let shares = chunks.iter().map(|share| ((key, share.generation), (share.entries, share.bytes)));
        self.shares.extend(shares);
        before
    }

    /// Marks a record as released. Returns what it needed until now: nothing if it is unknown or was released before.
    pub(crate) fn release(&mut self, id: &RecordId) -> Vec<Share> {
        let Some(key) = self.key(id) else { return Vec::new() };
        let needed = self.take_needed(key);
        if let Some(slot) = self.slot_mut(key) {
            slot.length_and_flags = (slot.length_and_flags | RELEASED) & !CHUNKED;
        }
        needed
    }

    /// The first of these numbers whose records are released and still have their entries, in order, at most so many.
    pub(crate) fn released(&self, origin: &NodeId, epoch: Epoch, seqs: &SeqRanges, at_most: usize) -> Vec<RecordId> {
        let pages = self.numbers.get(origin).and_then(|number| self.pages.get(&(*number, epoch.get())));
        let slots = seqs.pieces().iter().flat_map(|piece| {
            let pages =
                pages.into_iter().flat_map(|pages| pages.range(piece.first / PAGE_SLOTS..=piece.last / PAGE_SLOTS));
            let slots = pages.flat_map(|(number, page)| (number * PAGE_SLOTS..).zip(page.slots.iter()));
            slots.filter(|(seq, _)| (piece.first..=piece.last).contains(seq))
        });
        let released = slots.filter(|(_, slot)| slot.is_taken() && slot.has(RELEASED)).take(at_most);
        let seqs = released.filter_map(|(seq, _)| Seq::new(seq));
        seqs.map(|seq| RecordId { origin: origin.clone(), epoch, seq }).collect()
    }

    /// Forgets all records whose entries are in a segment that goes.
    pub(crate) fn forget_segment(&mut self, generation: u64) {
        for pages in self.pages.values_mut() {
            for page in pages.values_mut() {
                let gone: Vec<u32> = page.of_segment(generation).map(|(place, _)| place).collect();
                gone.iter().for_each(|place| page.slots[*place as usize] = Slot::default());
                page.taken -= u32::try_from(gone.len()).expect("a page is small");
            }
            pages.retain(|_, page| page.taken > 0);
        }
        self.pages.retain(|_, pages| !pages.is_empty());
    }

    /// The records that need something in this segment, their own entries or chunks.
    pub(crate) fn live_in(&self, generation: u64) -> Vec<RecordId> {
        let mut keys = Vec::new();
        for (&(origin, epoch), pages) in &self.pages {
            for (number, page) in pages {
                let live = page.of_segment(generation).filter(|(_, slot)| !slot.has(RELEASED));
                keys.extend(live.map(|(place, _)| Key { origin, epoch, seq: number * PAGE_SLOTS + place }));
            }
        }
        keys.extend(self.shares.keys().filter(|(_, share)| *share == generation).map(|(key, _)| *key));
        keys.sort_unstable();
        keys.dedup();
        keys.into_iter().filter_map(|key| self.id(key)).collect()
    }

    /// What a record needs, taken from the side table; its slot stays as it is.
    fn take_needed(&mut self, key: Key) -> Vec<Share> {
        let Some(slot) = self.slot(key).copied().filter(|slot| !slot.has(RELEASED)) else { return Vec::new() };
        let mut needed = vec![Share::of(slot.extent())];
        if slot.has(CHUNKED) {
            let range = (key, 0)..=(key, u64::MAX);
            let chunks = self.shares.range(range).map(|(&(_, generation), &(entries, bytes))| Share {
                generation,
                entries,
                bytes,
            });
            needed.extend(chunks);
            needed[1..].iter().for_each(|share| {
                self.shares.remove(&(key, share.generation));
            });
        }
        needed
    }

    fn slot(&self, key: Key) -> Option<&Slot> {
        let page = self.pages.get(&(key.origin, key.epoch))?.get(&(key.seq / PAGE_SLOTS))?;
        page.slots.get((key.seq % PAGE_SLOTS) as usize).filter(|slot| slot.is_taken())
    }

    fn slot_mut(&mut self, key: Key) -> Option<&mut Slot> {
        let page = self.pages.get_mut(&(key.origin, key.epoch))?.get_mut(&(key.seq / PAGE_SLOTS))?;
        page.slots.get_mut((key.seq % PAGE_SLOTS) as usize).filter(|slot| slot.is_taken())
    }

    fn key(&self, id: &RecordId) -> Option<Key> {
        let origin = *self.numbers.get(&id.origin)?;
        Some(Key { origin, seq: id.seq.get(), epoch: id.epoch.get() })
    }

    fn key_or_new(&mut self, id: &RecordId) -> Key {
        self.key(id).unwrap_or_else(|| {
            let origin = u32::try_from(self.origins.len()).expect("origins are the nodes of an area");
            self.origins.push(id.origin.clone());
            self.numbers.insert(id.origin.clone(), origin);
            Key { origin, seq: id.seq.get(), epoch: id.epoch.get() }
        })
    }

    fn id(&self, key: Key) -> Option<RecordId> {
        let origin = self.origins.get(key.origin as usize)?.clone();
        Some(RecordId { origin, epoch: Epoch::new(key.epoch)?, seq: Seq::new(key.seq)? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(seq: u32) -> RecordId {
        format!("rumbai.1.{seq}").parse().unwrap()
    }

    fn extent(generation: u64, offset: u32) -> Extent {
        Extent { generation, offset, length: 100 }
    }

    #[test]
    fn a_record_costs_little_memory() {
        assert_eq!(size_of::<Slot>(), 16);
        // A page and its place in a tree that is half full.
        let page = size_of::<[Slot; PAGE_SLOTS as usize]>() + 2 * size_of::<(u32, Page)>();
        assert!(page / PAGE_SLOTS as usize <= 20, "{page}");
    }

    #[test]
    fn a_record_needs_its_entry_and_its_chunks_until_it_is_released() {
        let mut index = Index::default();
        let chunks = [Share { generation: 1, entries: 3, bytes: 900 }, Share { generation: 2, entries: 1, bytes: 5 }];
        assert_eq!(index.insert(&id(7), extent(2, 8), &chunks), []);
        assert_eq!((index.find(&id(7)), index.find(&id(8))), (Some(extent(2, 8)), None));
        assert_eq!((index.live_in(1), index.live_in(2), index.live_in(3)), (vec![id(7)], vec![id(7)], vec![]));
        let [first, second] = chunks;
        assert_eq!(index.insert(&id(7), extent(4, 8), &[]), [Share::of(extent(2, 8)), first, second]);
        assert_eq!(index.live_in(1), []);
        assert_eq!(index.release(&id(7)), [Share::of(extent(4, 8))]);
        assert_eq!((index.release(&id(7)), index.find_live(&id(7))), (vec![], None));
        assert_eq!(index.find(&id(7)), Some(extent(4, 8)));
        let seqs = SeqRanges::up_to(Seq::new(9));
        assert_eq!(index.released(&id(7).origin, id(7).epoch, &seqs, 5), [id(7)]);
        index.forget_segment(4);
        assert_eq!(index.released(&id(7).origin, id(7).epoch, &seqs, 5), []);
        assert_eq!((index.find(&id(7)), index.pages.len(), index.shares.len()), (None, 0, 0));
    }
}
