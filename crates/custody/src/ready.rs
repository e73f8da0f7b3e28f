//! The records that may go now, and whose turn it is.

use std::collections::BTreeMap;
use std::iter::from_fn;

use estafet_model::Class;

use crate::held::{Key, Name};

/// One queue per class, each in order of age.
type Classes = [BTreeMap<u64, Key>; 3];

/// Records of this node and records of others, apart: a node that drains saves first what nobody else has.
#[derive(Debug, Default)]
pub(crate) struct Ready {
    own: Classes,
    transit: Classes,
}

impl Ready {
    pub(crate) fn insert(&mut self, is_own: bool, class: Class, order: u64, key: Key) {
        self.queue(is_own, class).insert(order, key);
    }

    pub(crate) fn remove(&mut self, is_own: bool, class: Class, order: u64) {
        self.queue(is_own, class).remove(&order);
    }

    fn queue(&mut self, is_own: bool, class: Class) -> &mut BTreeMap<u64, Key> {
        let classes = if is_own { &mut self.own } else { &mut self.transit };
        &mut classes[class as usize]
    }

    /// Those that were queued before this node knew its name were taken for transit.
    pub(crate) fn claim(&mut self, me: Name) {
        for (own, transit) in self.own.iter_mut().zip(&mut self.transit) {
            own.extend(transit.extract_if(.., |_, key| key.origin == me));
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.own.iter().chain(&self.transit).all(BTreeMap::is_empty)
    }

    /// The oldest of one class, whoever captured them.
    pub(crate) fn oldest(&self, class: usize) -> impl Iterator<Item = Key> {
        let mut own = self.own[class].iter().peekable();
        let mut transit = self.transit[class].iter().peekable();
        from_fn(move || {
            let own_is_next = match (own.peek(), transit.peek()) {
                (Some((own, _)), Some((transit, _))) => own < transit,
                (own, _) => own.is_some(),
            };
            let next = if own_is_next { own.next() } else { transit.next() };
            next.map(|(_, key)| *key)
        })
    }

    /// The queues in the order of what is lost with this node: its own captures, of which there is no other copy, then
    /// what others captured and still have; of both, the more urgent class.
    pub(crate) fn most_at_risk_first(&self) -> impl Iterator<Item = impl Iterator<Item = Key>> {
        self.own.iter().chain(&self.transit).map(|queue| queue.values().copied())
    }
}
