//! Where records go: to whichever hub is nearest, or to one that lacks them although another has them.

use std::collections::{BTreeMap, BTreeSet};

use estafet_model::Class;

use crate::held::{Held, Key, Name};
use crate::ready::Ready;

/// One turn in so many begins with what is for a hub that lacks it: a hub has it already, so others go first, but it is
/// not to starve.
const COPIES_EVERY: u64 = 8;

/// What goes one way, and the neighbors by which it may go, best first.
#[derive(Debug, Default)]
pub(crate) struct Way {
    /// Records that may go now.
    pub(crate) ready: Ready,
    pub(crate) hops: Vec<Name>,
}

/// All ways; without a hub, the one to whichever is nearest.
#[derive(Debug, Default)]
pub(crate) struct Ways {
    /// Nobody while the disk is being read.
    me: Option<Name>,
    ways: BTreeMap<Option<Name>, Way>,
}

impl Ways {
    /// This is who captures at this node.
    pub(crate) fn claim(&mut self, me: Name) {
        self.me = Some(me);
        self.ways.values_mut().for_each(|way| way.ready.claim(me));
    }

    fn way(&mut self, for_hub: Option<Name>) -> &mut Way {
        let begin = || {
            let mut way = Way::default();
            self.me.into_iter().for_each(|me| way.ready.claim(me));
            way
        };
        self.ways.entry(for_hub).or_insert_with(begin)
    }

    pub(crate) fn insert(&mut self, key: Key, held: &Held) {
        self.way(held.for_hub).ready.insert(held.class, held.order, key);
    }

    pub(crate) fn remove(&mut self, key: Key, held: &Held) {
        self.way(held.for_hub).ready.remove(held.class, held.order, key);
    }

    /// The origin of this record has its turn.
    pub(crate) fn charge(&mut self, for_hub: Option<Name>, class: Class, origin: Name, bytes: u32) {
        self.way(for_hub).ready.charge(class, origin, bytes);
    }

    pub(crate) fn set_hops(&mut self, for_hub: Option<Name>, hops: Vec<Name>) {
        self.way(for_hub).hops = hops;
    }

    /// The neighbors toward each hub that is there, in place of those that were known.
    pub(crate) fn set_hops_to_hubs(&mut self, mut hops: BTreeMap<Name, Vec<Name>>) {
        let hubs: BTreeSet<Name> = self.ways.keys().copied().flatten().chain(hops.keys().copied()).collect();
        for hub in hubs {
            self.set_hops(Some(hub), hops.remove(&hub).unwrap_or_default());
        }
    }

    pub(crate) fn hops(&self, for_hub: Option<Name>) -> &[Name] {
        self.ways.get(&for_hub).map_or(&[], |way| &way.hops)
    }

    pub(crate) fn nothing_is_ready(&self) -> bool {
        self.ways.values().all(|way| way.ready.is_empty())
    }

    /// The ways with something to hand on, in the order of this turn.
    pub(crate) fn in_turn(&self, turn: u64) -> impl Iterator<Item = &Way> {
        let copies_first = turn.is_multiple_of(COPIES_EVERY);
        let to_nearest = self.ways.get(&None).into_iter();
        let to_hubs = || self.ways.iter().filter(|(hub, _)| hub.is_some()).map(|(_, way)| way);
        let first = to_hubs().filter(move |_| copies_first);
        let last = to_hubs().filter(move |_| !copies_first);
        first.chain(to_nearest).chain(last).filter(|way| !way.ready.is_empty())
    }
}
