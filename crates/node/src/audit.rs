//! The ledger of the area (P4): per origin, captured = receipted + held, or the ids that are missing.
//!
//! Any node can draw it from what has been flooded to it: each origin's own count (in its LSA) and the hubs' receipts.

use std::collections::BTreeSet;

use estafet_model::{Epoch, NodeId, RecordId, Seq, SeqRanges};

use crate::node::Node;

/// The ledger as this node sees it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AuditReport {
    /// One entry per node of the area.
    pub origins: Vec<OriginAudit>,
    /// How many records hubs have in their stores more than once; 0, or a fault.
    pub committed_twice: u64,
}

/// The count of one origin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OriginAudit {
    /// Who captured.
    pub node: NodeId,
    /// How many records it is known to have captured.
    pub captured: u64,
    /// How many of them have a receipt.
    pub receipted: u64,
    /// How many the origin holds without one.
    pub held: u64,
    /// The rest. A difference is an alarm.
    pub missing: Vec<RecordId>,
}

impl Node {
    /// Draws the ledger of the area.
    #[must_use]
    pub fn audit(&self) -> AuditReport {
        let origins = self.topology().nodes.keys().map(|node| self.audit_origin(node)).collect();
        let hubs = self.topology().hub_ids().filter(|hub| *hub != self.id());
        let elsewhere: u64 =
            hubs.filter_map(|hub| self.router().lsdb().get(hub)?.lsa().hub).map(|ledger| ledger.committed_twice).sum();
        AuditReport { origins, committed_twice: elsewhere + self.committed_twice() }
    }

    fn audit_origin(&self, node: &NodeId) -> OriginAudit {
        let own_word = if node == self.id() {
            Some(self.ledger())
        } else {
            self.router().lsdb().get(node).and_then(|signed| signed.lsa().ledger.clone())
        };
        let receipted = self.custody().receipted();
        let mut epochs: BTreeSet<Epoch> =
            receipted.keys().filter(|(origin, _)| origin == node).map(|(_, epoch)| *epoch).collect();
        epochs.extend(own_word.as_ref().map(|ledger| ledger.epoch));
        let mut audit = OriginAudit { node: node.clone(), captured: 0, receipted: 0, held: 0, missing: Vec::new() };
        for epoch in epochs {
            let known = receipted.get(&(node.clone(), epoch)).cloned().unwrap_or_default();
            let own_word = own_word.as_ref().filter(|ledger| ledger.epoch == epoch);
            // The origin counts a receipt that has not come here yet: it is on its way, not missing.
            let known = own_word.map_or(known.clone(), |ledger| known.union(&ledger.receipted));
            // Beyond its last word the origin may hold what nobody was told of yet: only what is receipted counts.
            let told = own_word.map_or(known.last(), |ledger| Seq::new(ledger.captured));
            let captured = SeqRanges::up_to(told).union(&known);
            let held = own_word.map(|ledger| ledger.held.minus(&known)).unwrap_or_default();
            let missing = captured.minus(&known).minus(&held);
            audit.captured += captured.count();
            audit.receipted += known.count();
            audit.held += held.count();
            let id = |seq| RecordId { origin: node.clone(), epoch, seq };
            audit.missing.extend(missing.iter().map(id));
        }
        audit
    }
}
