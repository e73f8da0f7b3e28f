//! What every node has ever been heard to say of its captures, epoch by epoch.
//!
//! An origin whose spool was lost or rolled back cannot know it. Its neighbors do: they return what it once said, in
//! its own signed words, and it begins a new epoch.

use std::collections::BTreeMap;

use estafet_model::{Epoch, NodeId};
use estafet_routing::{Captured, SignedLsa};

/// Per origin and epoch, its LSA that counts the most captures. Bounded by the topology and by the number of epochs.
#[derive(Debug, Default)]
pub(crate) struct Pasts {
    heard: BTreeMap<NodeId, BTreeMap<Epoch, SignedLsa>>,
}

impl Pasts {
    /// Takes note of an LSA that verifies.
    pub(crate) fn hear(&mut self, signed: &SignedLsa) {
        let Some(ledger) = &signed.lsa().ledger else { return };
        let epochs = self.heard.entry(signed.lsa().origin.clone()).or_default();
        let known = epochs.get(&ledger.epoch).and_then(|known| known.lsa().ledger.as_ref());
        if known.is_none_or(|known| known.captured <= ledger.captured) {
            epochs.insert(ledger.epoch, signed.clone());
        }
    }

    /// What to return to an origin: its words of each epoch.
    pub(crate) fn of(&self, origin: &NodeId) -> impl Iterator<Item = &SignedLsa> {
        self.heard.get(origin).into_iter().flat_map(BTreeMap::values)
    }

    /// Whoever was heard.
    pub(crate) fn origins(&self) -> impl Iterator<Item = &NodeId> {
        self.heard.keys()
    }

    /// How much an origin is known to have captured, per epoch, by its own words.
    pub(crate) fn captured(&self, origin: &NodeId) -> BTreeMap<Epoch, Captured> {
        let mut captured = BTreeMap::new();
        for ledger in self.of(origin).filter_map(|signed| signed.lsa().ledger.as_ref()) {
            raise(&mut captured, ledger.epoch, ledger.captured);
            ledger.former.iter().for_each(|(epoch, count)| raise(&mut captured, *epoch, *count));
        }
        captured
    }
}

/// The count of an epoch only grows.
pub(crate) fn raise(captured: &mut BTreeMap<Epoch, Captured>, epoch: Epoch, count: Captured) {
    let known = captured.entry(epoch).or_default();
    *known = (*known).max(count);
}
