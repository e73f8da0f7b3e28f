//! Turns: which of the records that wait goes next, and to whom.

use std::collections::{BTreeMap, VecDeque};

use estafet_model::{Class, Now, chunk_count};
use estafet_wire::{Frame, Offer, RecordSet};

use super::{Outbound, carry, offer, patience};
use crate::held::{Held, Key, Name, State, Why};
use crate::lane::Lane;
use crate::output::CustodyOutput;
use crate::ways::Way;

/// Payloads up to this size travel without being offered first: the offer's round trip would cost more than a
/// duplicate does.
const UNOFFERED_BYTES_MAX: u32 = 8 << 10;

/// One pick in so many goes to the lowest class that waits, so that none starves.
const LOW_CLASS_EVERY: u64 = 8;

/// What becomes of a record whose turn it is.
#[derive(Debug)]
enum Turn {
    /// Its neighbor is asked whether it has these, of which it is one.
    Ask(Vec<Key>),
    /// It is offered or sent.
    Hand,
}

impl Outbound {
    /// Hands on as many waiting records as the windows of the next hops allow.
    pub(crate) fn dispatch(&mut self, now: Now, outputs: &mut VecDeque<CustodyOutput>) {
        for lane in self.lanes.values_mut() {
            lane.forget_full(now.into());
        }
        let mut offers: BTreeMap<Name, Vec<Offer>> = BTreeMap::new();
        let mut inventories: BTreeMap<Name, Vec<RecordSet>> = BTreeMap::new();
        while let Some((key, to, turn)) = self.pick() {
            if let Turn::Ask(keys) = turn {
                inventories.entry(to).or_default().extend(self.ask(now, &keys, to));
                continue;
            }
            let Some(held) = self.table.find_mut(key) else { continue };
            // A suspect that is heard again, and has it on the way already.
            let has_been_sent = self.lanes.get(&to).is_some_and(|lane| lane.has(key));
            let may_go_at_once = match held.state {
                State::Ready(Why::Suspected(_)) => chunk_count(held.payload_bytes) == 1 && !has_been_sent,
                _ => !held.tried && held.payload_bytes <= UNOFFERED_BYTES_MAX,
            };
            held.tried = true;
            let (id, class, bytes) = (self.names.id(key), held.class, held.payload_bytes);
            let for_hub = held.for_hub;
            // A neighbor is to know for whom it takes what a hub has.
            if !may_go_at_once || for_hub.is_some() {
                offers.entry(to).or_default().push(offer(id, held, for_hub.map(|hub| self.names.name(hub))));
            } else {
                outputs.push_back(carry(id, class, bytes, self.names.name(to).clone(), 0));
            }
            self.ways.charge(for_hub, class, key.origin, bytes);
            self.set_state(now, key, State::Offered(to), Some(patience(bytes)));
        }
        let inventories = inventories.into_iter().map(|(to, sets)| (to, Frame::Inventory(sets)));
        let offers = offers.into_iter().map(|(to, offers)| (to, Frame::Offers(offers)));
        for (to, frame) in inventories.chain(offers) {
            outputs.push_back(CustodyOutput::Send { to: self.names.name(to).clone(), frame });
        }
    }

    /// The record whose turn is next, to whom it goes, and what is done with it.
    fn pick(&mut self) -> Option<(Key, Name, Turn)> {
        let turn = self.picks + 1;
        let picked = self.ways.in_turn(turn).find_map(|way| self.pick_of(way, turn));
        self.picks += u64::from(picked.is_some());
        picked
    }

    fn pick_of(&self, way: &Way, turn: u64) -> Option<(Key, Name, Turn)> {
        let somebody_takes = |class: &Class| self.somebody_takes(way, *class);
        if !Class::ALL.iter().any(somebody_takes) {
            return None;
        }
        if self.draining {
            return way.ready.most_at_risk_first().find_map(|mut queue| queue.find_map(|key| self.turn_of(key)));
        }
        let mut order = Class::ALL;
        if turn.is_multiple_of(LOW_CLASS_EVERY) {
            order.reverse();
        }
        let mut classes = order.into_iter().filter(somebody_takes);
        classes.find_map(|class| way.ready.of(class).find_map(|key| self.turn_of(key)))
    }

    /// True if a record of this class, however small, may go to some next hop, or be asked about.
    fn somebody_takes(&self, way: &Way, class: Class) -> bool {
        let takes = |lane: &Lane| lane.has_room(class, 0) || (self.doubtful > 0 && lane.may_be_asked());
        way.hops.iter().any(|hop| self.lanes.get(hop).is_some_and(takes))
    }

    /// What can be done with the record now, if anything.
    fn turn_of(&self, key: Key) -> Option<(Key, Name, Turn)> {
        let (held, best) = (self.table.find(key)?, self.next_hop(key)?);
        let lane = self.lanes.get(&best)?;
        if self.is_doubtful(held, best) {
            if !lane.may_be_asked() || lane.is_full_for(key.origin) {
                return None;
            }
            if let Some(keys) = self.set_around(key, best) {
                return Some((key, best, Turn::Ask(keys)));
            }
        }
        let has_room = lane.has_room(held.class, held.payload_bytes) && !lane.is_full_for(key.origin);
        let to = if has_room { best } else { self.hop_beside(key, held, best)? };
        Some((key, to, Turn::Hand))
    }

    /// Another way for a record whose best one has its window full. Only downhill: there is nothing to protect from, so
    /// it must not even visit a node that is farther from the hub. Who takes more quickly has room more often, so each
    /// gets in proportion to what it achieves.
    fn hop_beside(&self, key: Key, held: &Held, best: Name) -> Option<Name> {
        let may_take = |hop: Name| {
            let is_onward = hop != best && held.received_from != Some(hop);
            is_onward && !has_refused(held, hop) && !self.custodians.is_mistrusted(hop)
        };
        let has_room = |hop: &Name| {
            self.lanes.get(hop).is_some_and(|lane| {
                let is_open = lane.takes(held.class) && !lane.is_full_for(key.origin);
                is_open && lane.has_room(held.class, held.payload_bytes)
            })
        };
        let downhill = self.downhill.iter().copied().filter(|_| held.for_hub.is_none());
        downhill.filter(|hop| may_take(*hop)).find(has_room)
    }

    /// The best next hop that this record may take: not one over a metered link that it may not go by, and not one that is
    /// full, has refused it, or keeps it too long already, if there is another; one that is trusted before one that is not.
    /// Where it came from is the last resort.
    pub(super) fn next_hop(&self, key: Key) -> Option<Name> {
        let held = self.table.find(key)?;
        let hops = self.ways.hops(held.for_hub);
        let takes = |lane: &&Lane| lane.open && lane.takes(held.class);
        let open = || hops.iter().filter_map(|hop| Some((*hop, self.lanes.get(hop).filter(takes)?)));
        let onward = || open().filter(|(hop, _)| held.received_from != Some(*hop));
        let objection = |(hop, lane): &(Name, &Lane)| {
            let in_vain = has_refused(held, *hop) || self.custodians.is_overdue(key, *hop);
            (lane.is_full_for(key.origin) || in_vain, self.custodians.is_mistrusted(*hop))
        };
        // Of equals the first is taken.
        onward().min_by_key(objection).or_else(|| open().next()).map(|(hop, _)| hop)
    }
}

fn has_refused(held: &Held, neighbor: Name) -> bool {
    matches!(held.state, State::Ready(Why::Refused(by, _)) if by == neighbor)
}
