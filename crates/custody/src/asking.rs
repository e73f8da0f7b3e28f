//! Offers of neighbors that wait for their turn to be answered.

use std::collections::BTreeMap;

use estafet_model::{Class, NodeId, RecordId};
use estafet_wire::Offer;

use crate::fair::FairTurns;

/// Offers that may wait; beyond, the neighbor is asked to come back.
const ASKING_MAX: usize = 65_536;

/// And of one neighbor: twice what an honest one may have without an answer, so that nobody fills it for the others.
const ASKING_OF_ONE_MAX: usize = 8_192;

/// One in so many is of the lowest class that waits, so that none starves.
const LOW_CLASS_EVERY: u64 = 8;

/// What waits, by class.
#[derive(Debug, Default)]
pub(crate) struct Asking {
    classes: [Queue; 3],
    count: usize,
    /// Where each neighbor's offers wait.
    places: BTreeMap<NodeId, BTreeMap<RecordId, Place>>,
    next_order: u64,
    taken: u64,
}

/// An offer's class, and its place in the order in which all came.
type Place = (Class, u64);

/// What waits of one class: the origins in fair turns, wherever their records come from.
#[derive(Debug, Default)]
struct Queue {
    origins: BTreeMap<NodeId, Origin>,
    turns: FairTurns<NodeId>,
}

/// What waits of one origin, of each neighbor in the order in which all came.
type Origin = BTreeMap<NodeId, BTreeMap<u64, Offer>>;

impl Asking {
    /// Queues an offer for its turn; false if too many wait. One of the same record by the same neighbor leaves its place to it.
    pub(crate) fn push(&mut self, from: &NodeId, offer: Offer) -> bool {
        let order = self.take_back(from, &offer.id).unwrap_or(self.next_order);
        let places = self.places.entry(from.clone()).or_default();
        if self.count >= ASKING_MAX || places.len() >= ASKING_OF_ONE_MAX {
            return false;
        }
        places.insert(offer.id.clone(), (offer.class, order));
        self.count += 1;
        self.next_order += 1;
        let queue = &mut self.classes[offer.class as usize];
        queue.turns.enter(&offer.id.origin);
        let origin = queue.origins.entry(offer.id.origin.clone()).or_default();
        origin.entry(from.clone()).or_default().insert(order, offer);
        true
    }

    /// Takes an offer out of the queue, and says which place it had.
    pub(crate) fn take_back(&mut self, from: &NodeId, id: &RecordId) -> Option<u64> {
        let (class, order) = self.places.get_mut(from)?.remove(id)?;
        self.count -= 1;
        self.classes[class as usize].remove(&id.origin, from, order);
        Some(order)
    }

    pub(crate) fn is_asking(&self, from: &NodeId, id: &RecordId) -> bool {
        self.places.get(from).is_some_and(|places| places.contains_key(id))
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Takes the offer whose turn it is: of the most urgent class, of the origin that has had least, the oldest of a neighbor
    /// that `may_send` it; that counts as its turn if `counts` says so of the neighbor. Where there is room for `only_urgent`
    /// ones, no others are looked at.
    pub(crate) fn take(
        &mut self,
        only_urgent: bool,
        may_send: impl Fn(&NodeId, &Offer) -> bool,
        counts: impl Fn(&NodeId) -> bool,
    ) -> Option<(NodeId, Offer)> {
        let mut order = Class::ALL;
        if (self.taken + 1).is_multiple_of(LOW_CLASS_EVERY) {
            order.reverse();
        }
        let mut classes = order.into_iter().filter(|class| !only_urgent || *class == Class::Urgent);
        let taken = classes.find_map(|class| self.classes[class as usize].take(&may_send, &counts))?;
        let (from, offer) = &taken;
        if let Some(places) = self.places.get_mut(from) {
            places.remove(&offer.id);
        }
        self.count -= 1;
        self.taken += 1;
        Some(taken)
    }

    /// The neighbor is gone, and what it has offered with it.
    pub(crate) fn forget(&mut self, neighbor: &NodeId) {
        self.places.remove(neighbor);
        for Queue { origins, turns } in &mut self.classes {
            origins.retain(|name, origin| {
                self.count -= origin.remove(neighbor).map_or(0, |offers| offers.len());
                if origin.is_empty() {
                    turns.leave(name);
                }
                !origin.is_empty()
            });
        }
    }
}

impl Queue {
    fn take(
        &mut self,
        may_send: impl Fn(&NodeId, &Offer) -> bool,
        counts: impl Fn(&NodeId) -> bool,
    ) -> Option<(NodeId, Offer)> {
        let sender = |origin: &NodeId| {
            let oldest =
                self.origins.get(origin)?.iter().filter_map(|(from, offers)| Some((from, offers.first_key_value()?)));
            let may_send = oldest.filter(|(from, (_, offer))| may_send(from, offer));
            // By age alone: a branch of which some were never asked for would have no room for its own in the end.
            may_send.min_by_key(|(_, (order, _))| **order).map(|(from, _)| from.clone())
        };
        let (name, from) = self.turns.iter().find_map(|origin| Some((origin.clone(), sender(origin)?)))?;
        let (order, _) = self.origins.get(&name)?.get(&from)?.first_key_value()?;
        let offer = self.remove(&name, &from, *order)?;
        if counts(&from) {
            self.turns.charge(&name, offer.payload_bytes);
        }
        Some((from, offer))
    }

    fn remove(&mut self, name: &NodeId, from: &NodeId, order: u64) -> Option<Offer> {
        let origin = self.origins.get_mut(name)?;
        let offers = origin.get_mut(from)?;
        let offer = offers.remove(&order);
        if offers.is_empty() {
            origin.remove(from);
        }
        if origin.is_empty() {
            self.origins.remove(name);
            self.turns.leave(name);
        }
        offer
    }
}

#[cfg(test)]
mod tests {
    use std::ops::RangeInclusive;

    use estafet_model::HeaderDigest;

    use super::*;

    fn offer(origin: &str, seq: u32, class: Class, payload_bytes: u32) -> Offer {
        let id = format!("{origin}.1.{seq}").parse().unwrap();
        Offer { id, class, payload_bytes, digest: HeaderDigest([0; 32]), for_hub: None }
    }

    fn turns(offers: &[(&str, Offer)], may_send: impl Fn(&NodeId, &Offer) -> bool) -> String {
        let mut asking = Asking::default();
        for (from, offer) in offers {
            assert!(asking.push(&from.parse().unwrap(), offer.clone()));
        }
        let mut turns = Vec::new();
        while let Some((from, offer)) = asking.take(false, &may_send, |_| true) {
            turns.push(format!("{from}:{}{}", offer.id.origin, offer.id.seq.get()));
        }
        turns.join(" ")
    }

    /// What is tried, who offers what, and who has a turn.
    type Row<'a> = (&'a str, Vec<(&'a str, Offer)>, &'a str);

    #[test]
    fn origins_take_turns_and_what_is_urgent_goes_first() {
        use Class::{Bulk, Normal, Urgent};
        let of = |from: &'static str, origin: &'static str, seqs: RangeInclusive<u32>, class: Class, bytes: u32| {
            seqs.map(move |seq| (from, offer(origin, seq, class, bytes)))
        };
        let rows: [Row<'_>; 5] = [
            ("in order", of("n", "a", 1..=3, Normal, 1).collect(), "n:a1 n:a2 n:a3"),
            (
                "in turns of the origins, not of the neighbors",
                of("n", "a", 1..=2, Normal, 1)
                    .chain(of("n", "b", 1..=2, Normal, 1))
                    .chain(of("m", "c", 1..=3, Normal, 1))
                    .collect(),
                "n:a1 n:b1 m:c1 n:a2 n:b2 m:c2 m:c3",
            ),
            (
                "in order, whoever offers",
                of("n", "a", 1..=2, Normal, 1)
                    .chain(of("m", "a", 3..=3, Normal, 1))
                    .chain(of("n", "a", 4..=4, Normal, 1))
                    .collect(),
                "n:a1 n:a2 m:a3 n:a4",
            ),
            (
                "by bytes",
                of("n", "a", 1..=2, Normal, 90_000).chain(of("m", "b", 1..=4, Normal, 30_000)).collect(),
                "n:a1 m:b1 m:b2 m:b3 n:a2 m:b4",
            ),
            (
                "by class, and none starves",
                of("n", "a", 1..=2, Bulk, 1)
                    .chain(of("m", "b", 1..=1, Normal, 1))
                    .chain(of("m", "c", 1..=8, Urgent, 1))
                    .collect(),
                "m:c1 m:c2 m:c3 m:c4 m:c5 m:c6 m:c7 n:a1 m:c8 m:b1 n:a2",
            ),
        ];
        for (case, offers, expected) in rows {
            assert_eq!(turns(&offers, |_, _| true), expected, "{case}");
        }
        let offers = [("m", offer("a", 1, Normal, 1)), ("n", offer("a", 2, Normal, 1)), ("n", offer("b", 1, Bulk, 1))];
        assert_eq!(turns(&offers, |from, _| from.as_str() == "n"), "n:a2 n:b1", "who may not send keeps nobody back");
    }

    #[test]
    fn what_a_lost_neighbor_offered_is_forgotten_and_too_many_are_refused() {
        let [a, b] = ["a", "b"].map(|name| name.parse::<NodeId>().unwrap());
        let mut asking = Asking::default();
        let fill = |asking: &mut Asking, from: &NodeId| {
            (1..).take_while(|seq| asking.push(from, offer("a", *seq, Class::Normal, 1))).count()
        };
        assert_eq!(fill(&mut asking, &a), ASKING_OF_ONE_MAX);
        assert!(asking.push(&b, offer("a", 1, Class::Urgent, 1)), "one neighbor does not fill it for the others");
        let more: usize = (0..8).map(|n| fill(&mut asking, &format!("n{n}").parse().unwrap())).sum();
        assert_eq!(ASKING_OF_ONE_MAX + 1 + more, ASKING_MAX);
        assert!(!asking.push(&b, offer("a", 2, Class::Urgent, 1)));
        asking.forget(&a);
        assert_eq!(asking.take(true, |_, _| true, |_| true).map(|(from, _)| from), Some(b.clone()));
        assert_eq!(fill(&mut asking, &a), ASKING_OF_ONE_MAX);
        (0..8).for_each(|n| asking.forget(&format!("n{n}").parse().unwrap()));
        asking.forget(&a);
        assert!(asking.is_empty());
    }
}
