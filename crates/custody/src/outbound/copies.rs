//! Records that one hub has, and another is to have too: copies that a hub passes on, and own captures that stay until
//! as many hubs have signed as the topology demands.

use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroU64;
use std::time::Duration;

use estafet_model::{Durable, Epoch, NodeId, Now, RecordId, SeqRanges};

use super::{Outbound, RECEIPT_PATIENCE};
use crate::held::{Held, Key, Micros, Name, State, Why};
use crate::record::HeldRecord;
use crate::signatures::Signatures;

impl Outbound {
    /// True if what is signed by now is enough for this node to let the record go.
    pub(super) fn is_ended(&self, key: Key, signatures: &Signatures) -> bool {
        let Some(held) = self.table.find(key) else { return false };
        if self.is_own(key.origin) {
            return signatures.are_enough(key.seq);
        }
        held.for_hub.is_none_or(|hub| signatures.has(self.names.name(hub), key.seq))
    }

    /// An own capture that some hub has stays until enough have. The hub that has it passes it on; if that takes long,
    /// it is offered from here.
    pub(super) fn keep_for_another_hub(&mut self, now: Now, key: Key, signatures: &Signatures) {
        let Some(held) = self.table.find(key) else { return };
        if !self.is_own(key.origin) {
            return;
        }
        let Some((signed, lacks)) = signatures.one_that_has_and_one_that_lacks(key.seq) else { return };
        let (signed, lacks) = (self.names.number(signed), self.names.number(lacks));
        if held.for_hub != Some(lacks) {
            self.set_hub(now, key, Some(lacks), State::Resting(Why::Signed(signed)), Some(RECEIPT_PATIENCE));
        }
    }

    /// The only hub that had these own captures has lost them. Those that were kept until another one has them go to
    /// whichever is nearest.
    pub(crate) fn need_again(&mut self, now: Now, origin: &NodeId, epoch: Epoch, lost: &SeqRanges) {
        let Some(origin) = self.names.find(origin) else { return };
        for piece in lost.pieces() {
            for key in self.table.keys(origin, epoch, piece.first..=piece.last) {
                if self.table.find(key).is_some_and(|held| held.for_hub.is_some()) {
                    self.set_hub(now, key, None, State::Ready(Why::Turn), None);
                }
            }
        }
    }

    /// A hub passes on what another one lacks. False if it does so already.
    pub(crate) fn hold_copy(&mut self, now: Now, record: Durable<HeldRecord>, for_hub: &NodeId) {
        let for_hub = self.names.number(for_hub);
        // It comes from the archive, whoever brought it there.
        let record = HeldRecord { received_from: None, ..record.into_inner() };
        self.keep(now, &record, true, Some(for_hub));
    }

    /// A neighbor has brought a record for this hub.
    pub(crate) fn hold_for(&mut self, now: Now, record: Durable<HeldRecord>, for_hub: &NodeId) {
        let for_hub = self.names.number(for_hub);
        self.keep(now, &record.into_inner(), true, Some(for_hub));
    }

    /// A neighbor offers a record that is held here, for this hub. True if it goes there from now on: an own capture that
    /// is kept until this hub has it need not wait for its time, and one of which no receipt is here yet cannot go there.
    pub(crate) fn is_for(&mut self, now: Now, id: &RecordId, for_hub: &NodeId) -> bool {
        let (Some(key), for_hub) = (self.names.find_key(id), self.names.number(for_hub)) else { return false };
        let Some(held) = self.table.find(key) else { return false };
        match (held.for_hub, held.is_kept()) {
            (Some(hub), true) if hub == for_hub => self.ready(now, key, Why::Turn),
            (Some(hub), false) if hub == for_hub => {}
            (None, _) if !self.is_own(key.origin) => {
                self.set_hub(now, key, Some(for_hub), State::Ready(Why::Turn), None);
            }
            _ => return false,
        }
        true
    }

    /// Changes for whom a record is held, and where it stands.
    pub(super) fn set_hub(&mut self, now: Now, key: Key, hub: Option<Name>, state: State, lasts: Option<Duration>) {
        let Some(before) = self.table.find(key).cloned() else { return };
        self.leave_state(key, &before);
        self.leave_hub(key, before.for_hub);
        let due = lasts.and_then(|lasts| NonZeroU64::new(Micros::from(now + lasts).0));
        let after = Held { state, for_hub: hub, since: now.into(), due, offered_meanwhile: false, ..before };
        self.enter_hub(key, hub);
        self.enter_state(key, &after);
        self.table.insert(key, after);
    }

    pub(super) fn enter_hub(&mut self, key: Key, hub: Option<Name>) {
        if let Some(hub) = hub {
            self.for_hubs.entry(hub).or_default().insert(key);
            self.transit_copies += usize::from(!self.is_own(key.origin));
        }
    }

    pub(super) fn leave_hub(&mut self, key: Key, hub: Option<Name>) {
        let keys = hub.and_then(|hub| self.for_hubs.get_mut(&hub));
        if keys.is_some_and(|keys| keys.remove(&key)) {
            self.transit_copies -= usize::from(!self.is_own(key.origin));
        }
    }

    /// The neighbors toward each hub that can be reached, best first.
    pub(crate) fn set_hops_to_hubs(&mut self, hops: &BTreeMap<NodeId, Vec<NodeId>>) {
        let hops = hops.iter().map(|(hub, hops)| {
            let hops = hops.iter().map(|hop| self.names.number(hop)).collect();
            (self.names.number(hub), hops)
        });
        let hops = hops.collect();
        self.ways.set_hops_to_hubs(hops);
    }

    /// True if there is a neighbor toward this hub.
    pub(crate) fn leads_to(&self, hub: &NodeId) -> bool {
        self.names.find(hub).is_some_and(|hub| !self.ways.hops(Some(hub)).is_empty())
    }

    /// Own captures that some hub has by its receipt, and that are not under way to another.
    pub(super) fn own_with_a_hub_count(&self) -> usize {
        let own = self.for_hubs.values().flatten().filter(|key| self.is_own(key.origin));
        own.filter(|key| self.table.find(**key).is_some_and(Held::is_kept)).count()
    }

    /// How many records are held for this hub.
    pub(crate) fn count_for(&self, hub: &NodeId) -> usize {
        self.names.find(hub).and_then(|hub| self.for_hubs.get(&hub)).map_or(0, BTreeSet::len)
    }

    /// Holds nothing more for this hub: the archive has it all.
    pub(crate) fn drop_copies_for(&mut self, hub: &NodeId) {
        let Some(keys) = self.names.find(hub).and_then(|hub| self.for_hubs.get(&hub)).cloned() else { return };
        for key in keys {
            self.forget(key);
            self.hold_no_more(key.origin, key.epoch, &SeqRanges::of(key.seq), 1);
        }
    }
}
