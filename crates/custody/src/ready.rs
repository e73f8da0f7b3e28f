//! The records that may go now, and whose turn it is.

use std::collections::BTreeMap;

use estafet_model::Class;

use crate::fair::FairTurns;
use crate::held::{Key, Name};

/// Of how many origins, and of how many records of each, it is looked at whether one can go somewhere. What is behind
/// them waits until one of them does.
const ORIGINS_SCANNED: usize = 16;
const RECORDS_SCANNED: usize = 16;

/// Records that wait for a turn. A node that drains saves first what nobody else has: its own.
#[derive(Debug, Default)]
pub(crate) struct Ready {
    /// Nobody while the disk is being read.
    me: Option<Name>,
    /// By class.
    queues: [Queue; 3],
}

/// The records of one class: the origins in fair turns, the records of each in order of age. With one queue for all, an
/// office behind a branch would wait for everything that the branch has captured before.
#[derive(Debug, Default)]
struct Queue {
    origins: BTreeMap<Name, BTreeMap<u64, Key>>,
    turns: FairTurns<Name>,
}

impl Ready {
    /// This is who captures at this node.
    pub(crate) fn claim(&mut self, me: Name) {
        self.me = Some(me);
    }

    pub(crate) fn insert(&mut self, class: Class, order: u64, key: Key) {
        let queue = &mut self.queues[class as usize];
        queue.origins.entry(key.origin).or_default().insert(order, key);
        queue.turns.enter(&key.origin);
    }

    pub(crate) fn remove(&mut self, class: Class, order: u64, key: Key) {
        let queue = &mut self.queues[class as usize];
        let Some(records) = queue.origins.get_mut(&key.origin) else { return };
        records.remove(&order);
        if records.is_empty() {
            queue.origins.remove(&key.origin);
            queue.turns.leave(&key.origin);
        }
    }

    /// This origin has its turn with a record of so many bytes.
    pub(crate) fn charge(&mut self, class: Class, origin: Name, bytes: u32) {
        self.queues[class as usize].turns.charge(&origin, bytes);
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.queues.iter().all(|queue| queue.turns.is_empty())
    }

    /// Those of one class, in the order of their turns.
    pub(crate) fn of(&self, class: Class) -> impl Iterator<Item = Key> {
        self.queues[class as usize].heads(|_| true)
    }

    /// The queues in the order of what is lost with this node: its own captures, of which there is no other copy, then
    /// what others captured and still have; of both, the more urgent class.
    pub(crate) fn most_at_risk_first(&self) -> impl Iterator<Item = impl Iterator<Item = Key>> {
        let is_own = |origin| self.me == Some(origin);
        let queues = move |own| self.queues.iter().map(move |queue| queue.heads(move |origin| is_own(origin) == own));
        queues(true).chain(queues(false))
    }
}

impl Queue {
    /// The oldest records of each origin, whose turn is next first.
    fn heads(&self, counts: impl Fn(Name) -> bool) -> impl Iterator<Item = Key> {
        let origins = self.turns.iter().filter(move |name| counts(**name)).take(ORIGINS_SCANNED);
        let records = origins.filter_map(|name| self.origins.get(name));
        records.flat_map(|records| records.values().copied().take(RECORDS_SCANNED))
    }
}

#[cfg(test)]
mod tests {
    use std::ops::RangeInclusive;

    use estafet_model::RecordId;

    use super::*;
    use crate::held::Names;

    fn add(ready: &mut Ready, names: &mut Names, origin: &str, seqs: RangeInclusive<u32>) {
        for seq in seqs {
            let id: RecordId = format!("{origin}.1.{seq}").parse().unwrap();
            ready.insert(Class::Normal, seq.into(), names.key(&id));
        }
    }

    #[test]
    fn origins_take_turns_by_bytes_and_each_sends_its_oldest_first() {
        for (case, bytes_of_a, expected) in [
            ("of one size", 60_000, "a1 b4 a2 b5 a3 b6 a7 a8 a9"),
            ("three times the size, a third of the turns", 180_000, "a1 b4 b5 b6 a2 a3 a7 a8 a9"),
        ] {
            let (mut ready, mut names) = (Ready::default(), Names::default());
            add(&mut ready, &mut names, "a", 1..=3);
            add(&mut ready, &mut names, "a", 7..=9);
            add(&mut ready, &mut names, "b", 4..=6);
            let mut served = Vec::new();
            loop {
                let Some(key) = ready.of(Class::Normal).next() else { break };
                let id = names.id(key);
                let bytes = if id.origin.as_str() == "a" { bytes_of_a } else { 60_000 };
                ready.charge(Class::Normal, key.origin, bytes);
                ready.remove(Class::Normal, u64::from(key.seq.get()), key);
                served.push(format!("{}{}", id.origin, id.seq.get()));
            }
            assert_eq!(served.join(" "), expected, "{case}");
            assert!(ready.is_empty());
        }
    }

    #[test]
    fn many_origins_that_cannot_go_are_not_all_looked_at() {
        let (mut ready, mut names) = (Ready::default(), Names::default());
        for origin in 0..100 {
            add(&mut ready, &mut names, &format!("n{origin}"), 1..=100);
        }
        assert_eq!(ready.of(Class::Normal).count(), ORIGINS_SCANNED * RECORDS_SCANNED);
    }
}
