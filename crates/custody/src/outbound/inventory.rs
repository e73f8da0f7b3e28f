//! Inventories: two neighbors that meet again compare what they hold, and only what differs is offered.

use std::time::Duration;

use estafet_model::{NodeId, Now, SeqRanges, SetDigest};
use estafet_wire::{Holding, RecordSet};

use super::Outbound;
use crate::held::{Held, Key, Name, State, Why};

/// Fewer are offered one by one: that takes as many bytes and a round trip less.
const ASKED_MIN: usize = 4;

/// How long an answer may take. It waits for no disk, but perhaps behind offers on a slow line.
const PATIENCE: Duration = Duration::from_secs(60);

impl Outbound {
    /// True if the neighbor may well have the record, and can say so for many at once. A hub has said it by its receipts.
    pub(super) fn is_doubtful(&self, held: &Held, neighbor: Name) -> bool {
        let may_have_it = matches!(held.state, State::Ready(why) if why.is_doubtful());
        // For whom a record is, an inventory does not say.
        may_have_it && held.for_hub.is_none() && !self.hubs.contains(&neighbor)
    }

    /// The records to ask `neighbor` about together with `key`: those of the same block of numbers, so that what is held
    /// without gaps is asked about without gaps. None if they are few.
    pub(super) fn set_around(&self, key: Key, neighbor: Name) -> Option<Vec<Key>> {
        let first = key.seq.get() - key.seq.get() % RecordSet::RECORDS_MAX;
        let mut keys = self.table.keys(key.origin, key.epoch, first..=first + (RecordSet::RECORDS_MAX - 1));
        keys.retain(|key| {
            let doubtful = self.table.find(*key).is_some_and(|held| self.is_doubtful(held, neighbor));
            doubtful && self.next_hop(*key) == Some(neighbor)
        });
        (keys.len() >= ASKED_MIN).then_some(keys)
    }

    /// Begins a question about records of one block.
    pub(super) fn ask(&mut self, now: Now, keys: &[Key], neighbor: Name) -> Option<RecordSet> {
        let Key { origin, epoch, .. } = *keys.first()?;
        let number = self.next_question;
        self.next_question = number.wrapping_add(1);
        for key in keys {
            self.set_state(now, *key, State::Asked(neighbor, number), Some(PATIENCE));
        }
        RecordSet::new(number, self.names.name(origin).clone(), epoch, keys.iter().map(|key| key.seq).collect())
    }

    /// The answer to a question: what the neighbor holds is accepted by it, if it is the same here; the rest is offered.
    pub(crate) fn answered(&mut self, now: Now, by: &NodeId, holding: &Holding) {
        let Some(by) = self.names.find(by) else { return };
        let Some(lane) = self.lanes.get(&by) else { return };
        let asked = lane.questions.of(holding.set.number());
        if asked.is_empty() {
            return;
        }
        let same = self.records_of(&holding.set).filter(|records| {
            let held = holding.set.seqs().count() == records.len() as u64;
            held && SetDigest::of(records.iter().map(|(key, held)| (key.seq, held.digest))) == holding.digest
        });
        let same: Vec<Key> = same.into_iter().flatten().map(|(key, _)| key).collect();
        for key in asked {
            if same.binary_search(&key).is_ok() {
                self.custodians.excuse(key);
                self.accept(now, key, by);
            } else {
                self.ready(now, key, Why::Unconfirmed(by));
            }
        }
    }

    /// What of a neighbor's inventory is held here. The duty to pass it on is here from now on, as if the neighbor had
    /// offered it.
    pub(crate) fn take_inventory(&mut self, now: Now, question: &RecordSet, from: &NodeId) -> Holding {
        let records = self.records_of(question).unwrap_or_default();
        let records = records.into_iter().filter(|(_, held)| !self.is_own_conflict(held));
        let records: Vec<_> = records.map(|(key, held)| (key, held.digest)).collect();
        let seqs: SeqRanges = records.iter().map(|(key, _)| key.seq).collect();
        let digest = SetDigest::of(records.iter().map(|(key, digest)| (key.seq, *digest)));
        let from = self.names.number(from);
        for (key, _) in records {
            self.returned(now, key, from);
        }
        Holding { set: question.of_which(|seq| seqs.contains(seq)), digest }
    }

    /// Those of a set that are held, in order; nothing if its origin is unknown.
    fn records_of(&self, set: &RecordSet) -> Option<Vec<(Key, &Held)>> {
        let (origin, epoch) = (self.names.find(set.origin())?, set.epoch());
        let key = |seq| Key { origin, epoch, seq };
        Some(set.seqs().iter().filter_map(|seq| Some((key(seq), self.table.find(key(seq))?))).collect())
    }

    /// An own capture under another record's number is nothing to count on.
    pub(super) fn is_own_conflict(&self, held: &Held) -> bool {
        matches!(held.state, State::Resting(Why::Refused(by, _)) if Some(by) == self.me)
    }
}
