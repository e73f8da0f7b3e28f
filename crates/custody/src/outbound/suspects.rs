//! What goes another way because of a doubt: about a neighbor, about the link to it, or about one of its bearers.

use std::time::Duration;

use estafet_model::{NodeId, Now, RecordId};

use super::Outbound;
use crate::held::{Key, Micros, Name, State, Why};

/// What a suspect accepted no longer ago than this, and no receipt covers, may have died with it before it was passed on.
const LATELY: Duration = Duration::from_secs(1);

/// So much of that goes another way as well, the newest of it: a suspicion is often wrong, and what is left is taken
/// up when the neighbor is dead. It is what a counter in full use hands in within that time.
const LATELY_RECORDS_MAX: usize = 64;
const LATELY_BYTES_MAX: u64 = 1 << 20;

impl Outbound {
    /// The neighbor owes answers suspiciously long: what has another way takes that as well, with what the neighbor has
    /// accepted just before. Says how many records do. If the suspicion is wrong they travel twice, as far as the window of
    /// the other way lets them.
    pub(crate) fn suspect(&mut self, now: Now, neighbor: &NodeId) -> usize {
        let lately = self.accepted_lately(now, neighbor);
        for (key, by) in &lately {
            self.ready(now, *key, Why::Suspected(*by));
        }
        lately.len() + self.divert(now, neighbor)
    }

    /// The link to the neighbor is bad: what it has not answered goes another way, if there is one. Says how many records do.
    pub(crate) fn divert(&mut self, now: Now, neighbor: &NodeId) -> usize {
        self.take_up(now, neighbor, |hop, neighbor| hop.is_some_and(|hop| hop != neighbor))
    }

    /// A bearer to the neighbor is lost, and perhaps what was handed over by it, or its answers: what is unanswered waits
    /// again, for this neighbor by another bearer or for another. Says how many records do. What did arrive is found by
    /// the offer.
    pub(crate) fn say_again(&mut self, now: Now, neighbor: &NodeId) -> usize {
        self.take_up(now, neighbor, |_, _| true)
    }

    /// Lets what a neighbor has not answered wait again, if its next hop now is such that it shall.
    fn take_up(&mut self, now: Now, neighbor: &NodeId, shall: impl Fn(Option<Name>, Name) -> bool) -> usize {
        let Some(name) = self.names.find(neighbor) else { return 0 };
        let Some(lane) = self.lanes.get(&name) else { return 0 };
        let unanswered = |key: &Key| self.table.find(*key).is_some_and(|held| held.state == State::Offered(name));
        let offered: Vec<Key> = lane.handed.iter().copied().filter(unanswered).collect();
        let asked: Vec<Key> = lane.questions.all().collect();
        let is_taken_up = |key: &Key| shall(self.next_hop(*key), name);
        let [offered, asked] = [offered, asked].map(|keys| keys.into_iter().filter(is_taken_up).collect::<Vec<_>>());
        for key in offered.iter().chain(&asked) {
            self.ready(now, *key, Why::Suspected(name));
        }
        let records = offered.len() + asked.len();
        if let Some(lane) = self.lanes.get_mut(&name) {
            lane.diverted.extend(offered);
        }
        records
    }

    /// What the neighbor has accepted just before, and has another way.
    fn accepted_lately(&self, now: Now, neighbor: &NodeId) -> Vec<(Key, Name)> {
        let Some(name) = self.names.find(neighbor) else { return Vec::new() };
        let Some(lane) = self.lanes.get(&name) else { return Vec::new() };
        let mut lately: Vec<(Micros, Key, u32)> = Vec::new();
        for key in lane.handed.iter().copied() {
            if let Some(held) = self.table.find(key)
                && held.state == State::Accepted(name)
                && now.since(Now::from(held.since)) <= LATELY
                && self.next_hop(key).is_some_and(|hop| hop != name)
            {
                lately.push((held.since, key, held.payload_bytes));
            }
        }
        lately.sort_unstable_by(|one, other| other.cmp(one));
        let mut bytes = 0;
        let bounded = lately.into_iter().take(LATELY_RECORDS_MAX).take_while(|(_, _, payload_bytes)| {
            bytes += u64::from(*payload_bytes);
            bytes <= LATELY_BYTES_MAX
        });
        bounded.map(|(_, key, _)| (key, name)).collect()
    }

    /// Ends waiting for the answer of a neighbor that was suspect; nothing if it was not asked for this record.
    pub(super) fn take_diverted(&mut self, id: &RecordId, neighbor: &NodeId) -> Option<(Key, Name)> {
        let (key, name) = (self.names.find_key(id)?, self.names.find(neighbor)?);
        self.lanes.get_mut(&name)?.diverted.remove(&key).then_some((key, name))
    }
}
