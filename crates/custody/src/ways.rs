//! Where records go: to whichever hub is nearest, or to one that lacks them although another has them.

use std::collections::{BTreeMap, BTreeSet};

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
pub(crate) struct Ways(BTreeMap<Option<Name>, Way>);

impl Ways {
    pub(crate) fn insert(&mut self, is_own: bool, key: Key, held: &Held) {
        self.0.entry(held.for_hub).or_default().ready.insert(is_own, held.class, held.order, key);
    }

    pub(crate) fn remove(&mut self, is_own: bool, held: &Held) {
        if let Some(way) = self.0.get_mut(&held.for_hub) {
            way.ready.remove(is_own, held.class, held.order);
        }
    }

    /// Those that were queued before this node knew its name were taken for transit.
    pub(crate) fn claim(&mut self, me: Name) {
        self.0.values_mut().for_each(|way| way.ready.claim(me));
    }

    pub(crate) fn set_hops(&mut self, for_hub: Option<Name>, hops: Vec<Name>) {
        self.0.entry(for_hub).or_default().hops = hops;
    }

    /// The neighbors toward each hub that is there, in place of those that were known.
    pub(crate) fn set_hops_to_hubs(&mut self, mut hops: BTreeMap<Name, Vec<Name>>) {
        let hubs: BTreeSet<Name> = self.0.keys().copied().flatten().chain(hops.keys().copied()).collect();
        for hub in hubs {
            self.set_hops(Some(hub), hops.remove(&hub).unwrap_or_default());
        }
    }

    pub(crate) fn hops(&self, for_hub: Option<Name>) -> &[Name] {
        self.0.get(&for_hub).map_or(&[], |way| &way.hops)
    }

    pub(crate) fn nothing_is_ready(&self) -> bool {
        self.0.values().all(|way| way.ready.is_empty())
    }

    /// The ways with something to hand on, in the order of this turn.
    pub(crate) fn in_turn(&self, turn: u64) -> impl Iterator<Item = &Way> {
        let copies_first = turn.is_multiple_of(COPIES_EVERY);
        let to_nearest = self.0.get(&None).into_iter();
        let to_hubs = || self.0.iter().filter(|(hub, _)| hub.is_some()).map(|(_, way)| way);
        let first = to_hubs().filter(move |_| copies_first);
        let last = to_hubs().filter(move |_| !copies_first);
        first.chain(to_nearest).chain(last).filter(|way| !way.ready.is_empty())
    }
}
