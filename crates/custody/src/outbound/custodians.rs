//! Records that a neighbor has accepted, and for which no receipt comes; or that it leaves without an answer.

use std::time::Duration;

use estafet_model::{NodeId, Now, RecordId};

use super::{COPY_PATIENCE, Outbound, RECEIPT_PATIENCE_MAX, backed_off};
use crate::custodians::Suspect;
use crate::held::{Held, Key, Name, State, Why};

impl Outbound {
    /// How long a receipt may stay out once somebody has accepted the record.
    pub(super) fn receipt_due(&self, held: &Held) -> Duration {
        let patience = if held.for_hub.is_some() { COPY_PATIENCE } else { self.receipt_patience };
        backed_off(patience, RECEIPT_PATIENCE_MAX, held.failures.into())
    }

    /// The receipt of an accepted record is overdue. Where another way leads to a hub it goes that way; where only the one
    /// who accepted it does, that one is asked again, or offered it. Where none does, or did not for long enough, and where
    /// that one has a long queue, nobody can do better.
    pub(super) fn overdue(&mut self, now: Now, key: Key, with: Name) {
        let Some(held) = self.table.find(key) else { return };
        let patience = self.receipt_due(held);
        let of = (key.origin, held.class);
        let has_had_a_way = self.next_hop(key).is_some() && now.since(self.way_since) >= patience;
        if !has_had_a_way || self.custodians.is_at_it(now, with, of, held.since, patience) {
            // The acceptance is as old as before: only the timer begins anew.
            return self.wait_on(now, key, patience);
        }
        self.fail(key);
        self.take_from(now, key, with);
    }

    /// Lets a record be in its state for longer.
    fn wait_on(&mut self, now: Now, key: Key, lasts: Duration) {
        let Some(held) = self.table.find(key) else { return };
        let (state, since) = (held.state, held.since);
        self.set_state(now, key, state, Some(lasts));
        if let Some(held) = self.table.find_mut(key) {
            held.since = since;
        }
    }

    /// A neighbor that is there has said nothing about an offer for very long: it goes by another, and if that one brings it
    /// home, the silence was an empty word.
    pub(super) fn kept_back(&mut self, now: Now, key: Key, by: Name) {
        self.note_overdue(key, by);
        self.ready(now, key, Why::Unanswered(by));
        if let Some(lane) = self.lanes.get_mut(&by) {
            lane.diverted.insert(key);
        }
    }

    /// Takes an accepted record from a neighbor that leaves it without a receipt.
    fn take_from(&mut self, now: Now, key: Key, with: Name) {
        self.note_overdue(key, with);
        self.ready(now, key, Why::Unreceipted(with));
    }

    /// A hub that has it has done its part.
    fn note_overdue(&mut self, key: Key, with: Name) {
        if !self.hubs.contains(&with) {
            self.custodians.overdue(key, with);
        }
    }

    /// The neighbor has the record from elsewhere.
    pub(crate) fn has_already(&mut self, now: Now, id: &RecordId, by: &NodeId) {
        if let Some(key) = self.names.find_key(id) {
            self.custodians.excuse(key);
        }
        self.accepted(now, id, by);
    }

    /// A receipt covers the record. If somebody else brought it home than the one it was overdue with, that one's word was
    /// empty; with the third such word what else it has accepted goes another way.
    pub(super) fn came_home(&mut self, now: Now, key: Key) {
        let Some(held) = self.table.find(key) else { return };
        // What nobody else has accepted the first one may have brought home after all.
        let State::Accepted(by) = held.state else { return };
        self.custodians.brought(now, by, key.origin, held.class, held.since);
        if self.custodians.is_overdue(key, by) {
            return;
        }
        let Some(with) = self.custodians.came_home(now, key) else { return };
        if self.custodians.mistrust(now, with) {
            self.mistrusted.push(with);
        }
    }

    /// Takes from the neighbors that are trusted no longer, since this was asked last, what they have accepted, as far as it
    /// has another way. Says which, and how many records.
    pub(crate) fn take_from_mistrusted(&mut self, now: Now) -> Vec<(NodeId, usize)> {
        let mistrusted = std::mem::take(&mut self.mistrusted);
        mistrusted.into_iter().map(|name| (self.names.name(name).clone(), self.take_all_from(now, name))).collect()
    }

    fn take_all_from(&mut self, now: Now, name: Name) -> usize {
        let handed: Vec<Key> =
            self.lanes.get(&name).map_or_else(Vec::new, |lane| lane.handed.iter().copied().collect());
        let has_another_way = |key: &Key| {
            let is_accepted = self.table.find(*key).is_some_and(|held| held.state == State::Accepted(name));
            is_accepted && self.next_hop(*key).is_some_and(|hop| hop != name)
        };
        let taken: Vec<Key> = handed.into_iter().filter(has_another_way).collect();
        for key in &taken {
            self.take_from(now, *key, name);
        }
        taken.len()
    }

    /// The neighbors whose word was empty.
    pub(crate) fn suspects(&self) -> Vec<Suspect> {
        self.custodians.suspects(&self.names)
    }
}
