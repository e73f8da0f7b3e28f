//! The table of held records: small in memory, because a dark week leaves an office with hundreds of thousands.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;

use estafet_model::{Class, Epoch, HeaderDigest, NodeId, Now, RecordId, Seq};
use estafet_wire::NeverReason;

/// A node, by the order in which this machine first heard of it. An area has few.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Name(u16);

/// A record id in eight bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Key {
    pub(crate) origin: Name,
    pub(crate) epoch: Epoch,
    pub(crate) seq: Seq,
}

/// The names of all nodes heard of. They are those of the topology, so there are few.
#[derive(Debug, Default)]
pub(crate) struct Names {
    names: Vec<NodeId>,
    numbers: BTreeMap<NodeId, Name>,
}

impl Names {
    pub(crate) fn find(&self, name: &NodeId) -> Option<Name> {
        self.numbers.get(name).copied()
    }

    pub(crate) fn number(&mut self, name: &NodeId) -> Name {
        if let Some(number) = self.find(name) {
            return number;
        }
        let number = Name(u16::try_from(self.names.len()).expect("a topology has fewer nodes"));
        self.names.push(name.clone());
        self.numbers.insert(name.clone(), number);
        number
    }

    pub(crate) fn name(&self, number: Name) -> &NodeId {
        &self.names[usize::from(number.0)]
    }

    pub(crate) fn find_key(&self, id: &RecordId) -> Option<Key> {
        Some(Key { origin: self.find(&id.origin)?, epoch: id.epoch, seq: id.seq })
    }

    pub(crate) fn key(&mut self, id: &RecordId) -> Key {
        Key { origin: self.number(&id.origin), epoch: id.epoch, seq: id.seq }
    }

    pub(crate) fn id(&self, key: Key) -> RecordId {
        RecordId { origin: self.name(key.origin).clone(), epoch: key.epoch, seq: key.seq }
    }
}

/// Why a record waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Why {
    Turn,
    Found,
    NeighborLost(Name),
    Suspected(Name),
    AskedToWait(Name),
    Full(Name),
    Unanswered(Name),
    Unreceipted(Name),
    Refused(Name, NeverReason),
    Returned(Name),
    Unconfirmed(Name),
    Signed(Name),
}

impl Why {
    /// A neighbor may well have the record: that is asked about many records at once before they are offered.
    pub(crate) fn is_doubtful(self) -> bool {
        matches!(self, Why::Found | Why::NeighborLost(_) | Why::Unreceipted(_) | Why::Returned(_))
    }
}

/// Where a held record stands. Nothing of it is on disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum State {
    /// It may go now.
    Ready(Why),
    /// It may go at `due`.
    Resting(Why),
    /// A neighbor is asked, by a question of this number, whether it holds it. At `due` it is taken back.
    Asked(Name, u32),
    /// A neighbor was offered or sent it. At `due` it is taken back.
    Offered(Name),
    /// It is durable with a neighbor. At `due` it is offered again.
    Accepted(Name),
}

/// A time in eight bytes: microseconds since the start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub(crate) struct Micros(pub(crate) u64);

impl From<Now> for Micros {
    fn from(now: Now) -> Self {
        Self(u64::try_from(now.0.as_micros()).unwrap_or(u64::MAX))
    }
}

impl From<Micros> for Now {
    fn from(micros: Micros) -> Self {
        Self(std::time::Duration::from_micros(micros.0))
    }
}

/// What is kept in memory of a held record.
#[derive(Debug, Clone)]
pub(crate) struct Held {
    pub(crate) digest: HeaderDigest,
    /// Its place in the queue of its class and origin.
    pub(crate) order: u64,
    pub(crate) since: Micros,
    /// When the state ends by itself, if it does.
    pub(crate) due: Option<std::num::NonZeroU64>,
    pub(crate) payload_bytes: u32,
    pub(crate) state: State,
    pub(crate) received_from: Option<Name>,
    /// The hub that is to have it although another one has; nothing if it goes to whichever is nearest.
    pub(crate) for_hub: Option<Name>,
    pub(crate) class: Class,
    /// How often it was tried in vain since it last got on.
    pub(crate) failures: u8,
    /// It went to some neighbor before: offer it, because the neighbor may have it.
    pub(crate) tried: bool,
    /// While it was on its way to one neighbor, another offered it.
    pub(crate) offered_meanwhile: bool,
}

impl Held {
    /// A hub has signed for it, and it stays here until another one has.
    pub(crate) fn is_kept(&self) -> bool {
        matches!(self.state, State::Ready(Why::Signed(_)) | State::Resting(Why::Signed(_)))
    }

    pub(crate) fn due(&self) -> Option<Micros> {
        self.due.map(|due| Micros(due.get()))
    }
}

/// Records with neighboring numbers share a page: their numbers have no gaps, so pages are full.
const PAGE: u32 = 32;

type Page = [Option<Held>; PAGE as usize];

/// All held records, by origin, epoch and number.
#[derive(Debug, Default)]
pub(crate) struct Table {
    pages: BTreeMap<(Name, Epoch, u32), Box<Page>>,
    count: usize,
    /// Of how many bytes the payloads of each origin are.
    bytes: BTreeMap<Name, u64>,
}

fn place(key: Key) -> ((Name, Epoch, u32), usize) {
    let seq = key.seq.get();
    ((key.origin, key.epoch, seq / PAGE), (seq % PAGE) as usize)
}

impl Table {
    pub(crate) fn len(&self) -> usize {
        self.count
    }

    pub(crate) fn find(&self, key: Key) -> Option<&Held> {
        let (page, slot) = place(key);
        self.pages.get(&page)?[slot].as_ref()
    }

    pub(crate) fn find_mut(&mut self, key: Key) -> Option<&mut Held> {
        let (page, slot) = place(key);
        self.pages.get_mut(&page)?[slot].as_mut()
    }

    pub(crate) fn insert(&mut self, key: Key, held: Held) {
        let (page, slot) = place(key);
        let page = self.pages.entry(page).or_insert_with(|| Box::new([const { None }; PAGE as usize]));
        *self.bytes.entry(key.origin).or_default() += u64::from(held.payload_bytes);
        match page[slot].replace(held) {
            Some(before) => self.take_off(key.origin, before.payload_bytes),
            None => self.count += 1,
        }
    }

    pub(crate) fn remove(&mut self, key: Key) -> Option<Held> {
        let (number, slot) = place(key);
        let page = self.pages.get_mut(&number)?;
        let held = page[slot].take()?;
        if page.iter().all(Option::is_none) {
            self.pages.remove(&number);
        }
        self.count -= 1;
        self.take_off(key.origin, held.payload_bytes);
        Some(held)
    }

    fn take_off(&mut self, origin: Name, payload_bytes: u32) {
        if let Some(bytes) = self.bytes.get_mut(&origin) {
            *bytes -= u64::from(payload_bytes);
        }
    }

    /// Of how many bytes the payloads of this origin are.
    pub(crate) fn bytes_of(&self, origin: Name) -> u64 {
        self.bytes.get(&origin).copied().unwrap_or(0)
    }

    /// The held records of one origin's epoch with these numbers.
    pub(crate) fn keys(&self, origin: Name, epoch: Epoch, seqs: RangeInclusive<u32>) -> Vec<Key> {
        let pages = (origin, epoch, seqs.start() / PAGE)..=(origin, epoch, seqs.end() / PAGE);
        let keys = self.pages.range(pages).flat_map(|(number, page)| keys_of(*number, page));
        keys.map(|(key, _)| key).filter(|key| seqs.contains(&key.seq.get())).collect()
    }

    /// Every held record behind `after`.
    pub(crate) fn iter_after(&self, after: Option<Key>) -> impl Iterator<Item = (Key, &Held)> {
        let first = after.map_or((Name(0), Epoch::FIRST, 0), |key| place(key).0);
        let found = self.pages.range(first..).flat_map(|(number, page)| keys_of(*number, page));
        found.filter(move |(key, _)| after.is_none_or(|after| *key > after))
    }
}

fn keys_of((origin, epoch, number): (Name, Epoch, u32), page: &Page) -> impl Iterator<Item = (Key, &Held)> {
    (number * PAGE..).zip(page).filter_map(move |(seq, slot)| {
        let key = Key { origin, epoch, seq: Seq::new(seq)? };
        Some((key, slot.as_ref()?))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn held(order: u64) -> Held {
        Held {
            digest: HeaderDigest([0; 32]),
            order,
            since: Micros(0),
            due: None,
            payload_bytes: 0,
            state: State::Ready(Why::Turn),
            received_from: None,
            for_hub: None,
            class: Class::Normal,
            failures: 0,
            tried: false,
            offered_meanwhile: false,
        }
    }

    #[test]
    fn a_record_takes_less_than_a_hundred_bytes() {
        let page = size_of::<Page>() + 2 * size_of::<(Name, Epoch, u32)>() + 16;
        assert!(page / (PAGE as usize) < 90, "{}", page / PAGE as usize);
    }

    #[test]
    fn the_table_is_a_map_by_id() {
        let mut names = Names::default();
        let mut table = Table::default();
        let ids: Vec<RecordId> = ["b.1.31", "b.1.32", "a.1.1", "b.2.7", "b.1.100"].map(|id| id.parse().unwrap()).into();
        for (order, id) in (0..).zip(&ids) {
            table.insert(names.key(id), held(order));
        }
        table.insert(names.key(&ids[0]), held(9));
        assert_eq!(table.len(), 5);
        assert_eq!(table.find(names.key(&ids[0])).map(|held| held.order), Some(9));
        let b = names.key(&ids[0]);
        assert_eq!(table.keys(b.origin, b.epoch, 1..=99).len(), 2);
        let all: Vec<RecordId> = table.iter_after(None).map(|(key, _)| names.id(key)).collect();
        assert_eq!(all.len(), 5);
        for (position, id) in all.iter().enumerate() {
            let rest: Vec<RecordId> = table.iter_after(Some(names.key(id))).map(|(key, _)| names.id(key)).collect();
            assert_eq!(rest, all[position + 1..]);
        }
        for id in &ids {
            assert!(table.remove(names.key(id)).is_some());
            assert!(table.remove(names.key(id)).is_none());
        }
        assert!(table.pages.is_empty() && table.len() == 0);
    }
}
