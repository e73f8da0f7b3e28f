//! The ledger of the area (P4): per origin, captured = receipted + held, or the ids that are missing.
//!
//! Any node can draw it from what has been flooded to it: each origin's own count (in its LSA) and the hubs' receipts.

use std::collections::{BTreeMap, BTreeSet};

use estafet_model::{Epoch, NodeId, RecordId, Seq, SeqRanges};
use estafet_routing::OriginLedger;

use crate::node::Node;

/// The ledger as this node sees it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AuditReport {
    /// One entry per node of the area, and behind them one per node that was taken out of the topology and whose records are
    /// known.
    pub origins: Vec<OriginAudit>,
    /// How many records hubs have in their stores more than once; 0, or a fault.
    pub committed_twice: u64,
}

/// The count of one origin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OriginAudit {
    /// Who captured.
    pub node: NodeId,
    /// It is in the topology no more.
    pub removed: bool,
    /// How many records it is known to have captured.
    pub captured: u64,
    /// How many of them have a receipt.
    pub receipted: u64,
    /// How many somebody holds without one.
    pub held: u64,
    /// Who holds how many of them. A record can have several holders.
    pub held_by: BTreeMap<NodeId, u64>,
    /// The rest. A difference is an alarm.
    pub missing: Records,
    /// Its captures that count as receipted and are not, because the receipt is for other records with their ids. They
    /// are in quarantine at the origin.
    pub conflicts: Records,
    /// Its epochs, the present one last. More than one: its spool was lost, or was an old copy.
    pub epochs: Vec<Epoch>,
}

/// Some records of one origin. A node that lies can name billions, so they are not listed until somebody asks for the
/// first few.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Records {
    origin: NodeId,
    numbers: Vec<(Epoch, SeqRanges)>,
}

impl Records {
    fn of(origin: &NodeId) -> Self {
        Self { origin: origin.clone(), numbers: Vec::new() }
    }

    /// True if there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.numbers.iter().all(|(_, seqs)| seqs.is_empty())
    }

    /// How many.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.numbers.iter().map(|(_, seqs)| seqs.count()).sum()
    }

    /// Their numbers in each epoch.
    pub fn numbers(&self) -> impl Iterator<Item = (Epoch, &SeqRanges)> {
        self.numbers.iter().map(|(epoch, seqs)| (*epoch, seqs))
    }

    /// Each of them.
    pub fn iter(&self) -> impl Iterator<Item = RecordId> {
        self.numbers.iter().flat_map(|(epoch, seqs)| {
            seqs.iter().map(|seq| RecordId { origin: self.origin.clone(), epoch: *epoch, seq })
        })
    }
}

/// Who holds which numbers of one origin's epoch.
type Holders = BTreeMap<NodeId, SeqRanges>;

impl Node {
    /// Draws the ledger of the area.
    #[must_use]
    pub fn audit(&self) -> AuditReport {
        let mut words: BTreeMap<&NodeId, OriginLedger> = self
            .router()
            .lsdb()
            .iter()
            .filter_map(|signed| Some((&signed.lsa().origin, signed.lsa().ledger.clone()?)))
            .collect();
        words.insert(self.id(), self.ledger());
        let listed = self.topology().nodes.keys();
        let removed = self.removed_origins(&words);
        let origins = listed.chain(&removed).map(|node| self.audit_origin(node, &words)).collect();
        let hubs = self.topology().hub_ids().filter(|hub| *hub != self.id());
        let elsewhere: u64 =
            hubs.filter_map(|hub| self.router().lsdb().get(hub)?.lsa().hub).map(|ledger| ledger.committed_twice).sum();
        AuditReport { origins, committed_twice: elsewhere + self.committed_twice() }
    }

    /// Whose records are receipted, held or known of, though the topology does not list them any more. What they had not
    /// handed on is missing: nobody answers for it.
    fn removed_origins(&self, words: &BTreeMap<&NodeId, OriginLedger>) -> BTreeSet<NodeId> {
        let receipted = self.custody().receipted().keys().map(|(origin, _)| origin);
        let held = words.values().flat_map(|ledger| &ledger.holdings).map(|holding| &holding.origin);
        let is_removed = |origin: &&NodeId| self.topology().node(origin).is_none();
        receipted.chain(held).chain(self.heard_origins()).filter(is_removed).cloned().collect()
    }

    fn audit_origin(&self, node: &NodeId, words: &BTreeMap<&NodeId, OriginLedger>) -> OriginAudit {
        let own_word = words.get(node);
        let receipted = self.custody().receipted();
        let counted = self.known_captures(node);
        let mut epochs: BTreeSet<Epoch> = counted.keys().copied().collect();
        epochs.extend(receipted.keys().filter(|(origin, _)| origin == node).map(|(_, epoch)| *epoch));
        let current = own_word.map(|ledger| ledger.epoch);
        epochs.extend(current);
        let mut audit = OriginAudit {
            node: node.clone(),
            removed: self.topology().node(node).is_none(),
            captured: 0,
            receipted: 0,
            held: 0,
            held_by: BTreeMap::new(),
            missing: Records::of(node),
            conflicts: Records {
                origin: node.clone(),
                numbers: own_word.map(|ledger| ledger.conflicts.clone()).unwrap_or_default(),
            },
            epochs: epochs.iter().copied().filter(|epoch| Some(*epoch) != current).chain(current).collect(),
        };
        for epoch in epochs {
            let known = receipted.get(&(node.clone(), epoch)).cloned().unwrap_or_default();
            let own_word = own_word.filter(|ledger| ledger.epoch == epoch);
            // The origin counts a receipt that has not come here yet: it is on its way, not missing. But a hub that has
            // taken numbers back may have done so since the origin spoke.
            let taken_back = self.custody().has_losses(node, epoch);
            // What it was told of receipts stays true when it is taken out, unlike what it holds.
            let last_word = self.last_word(node).filter(|ledger| ledger.epoch == epoch);
            let their_word = own_word.or(last_word).filter(|_| !taken_back);
            let known = their_word.map_or(known.clone(), |ledger| known.union(&ledger.receipted));
            // Beyond its last word the origin may hold what nobody was told of yet: only what is receipted counts.
            let told = own_word.map_or(0, |ledger| ledger.captured);
            let told = told.max(counted.get(&epoch).copied().unwrap_or_default());
            let captured = SeqRanges::up_to(Seq::new(told).max(known.last().filter(|_| own_word.is_none())));
            let captured = captured.union(&known);
            let holders = holders(node, epoch, words, &known);
            let held = holders.values().fold(SeqRanges::new(), |all, held| all.union(held));
            // A neighbor may hold what the origin has not told of yet.
            let captured = captured.union(&held);
            let missing = captured.minus(&known).minus(&held);
            audit.captured += captured.count();
            audit.receipted += known.count();
            audit.held += held.count();
            for (holder, held) in holders {
                *audit.held_by.entry(holder).or_default() += held.count();
            }
            if !missing.is_empty() {
                audit.missing.numbers.push((epoch, missing));
            }
        }
        audit
    }
}

fn holders(origin: &NodeId, epoch: Epoch, words: &BTreeMap<&NodeId, OriginLedger>, receipted: &SeqRanges) -> Holders {
    let mut holders = Holders::new();
    for (node, ledger) in words {
        let own = (*node == origin && ledger.epoch == epoch).then_some(&ledger.held);
        let others = ledger.holdings.iter().filter(|holding| holding.origin == *origin && holding.epoch == epoch);
        let held = own.into_iter().chain(others.map(|holding| &holding.held));
        // Under a number in conflict it holds another record.
        let conflicts = ledger.conflicts.iter().filter(|(of, _)| *node == origin && *of == epoch).map(|(_, seqs)| seqs);
        let conflicts = conflicts.fold(SeqRanges::new(), |all, seqs| all.union(seqs));
        let held = held.fold(SeqRanges::new(), |all, held| all.union(held)).minus(receipted).minus(&conflicts);
        if !held.is_empty() {
            holders.insert((*node).clone(), held);
        }
    }
    holders
}
