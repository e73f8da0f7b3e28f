//! What a hub has lost of what it committed, and how often it has taken numbers back.

use std::collections::{BTreeMap, VecDeque};

use estafet_model::{Epoch, NodeId, SeqRanges};

/// What a hub keeps of its losses among the records of one origin's epoch.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Losses {
    /// How often numbers were taken back.
    pub count: u32,
    /// Those whose records were found unreadable, and had not come again. The next start looks at them before it counts
    /// them as committed.
    pub seqs: SeqRanges,
}

/// The losses of all origins. A receipt says how many there were, so none is signed while one is on its way to the
/// disk: a restart would forget what others were told.
#[derive(Debug, Default)]
pub(crate) struct LossBook {
    counts: BTreeMap<(NodeId, Epoch), u32>,
    /// On their way to the disk, in order.
    noting: VecDeque<(NodeId, Epoch)>,
}

impl LossBook {
    pub(crate) fn recover(&mut self, found: &BTreeMap<(NodeId, Epoch), Losses>) {
        self.counts = found.iter().map(|(origin, losses)| (origin.clone(), losses.count)).collect();
    }

    pub(crate) fn count(&self, origin: &(NodeId, Epoch)) -> u32 {
        self.counts.get(origin).copied().unwrap_or(0)
    }

    pub(crate) fn note(&mut self, origin: (NodeId, Epoch), count: u32) {
        self.counts.insert(origin.clone(), count);
        self.noting.push_back(origin);
    }

    pub(crate) fn kept(&mut self) {
        self.noting.pop_front();
    }

    pub(crate) fn is_being_noted(&self, origin: &(NodeId, Epoch)) -> bool {
        self.noting.contains(origin)
    }
}
