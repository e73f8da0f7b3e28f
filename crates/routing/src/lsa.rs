//! Link-state advertisements: what one node says about itself.

use estafet_model::{ChainHead, Epoch, LinkCost, NodeId, SeqRanges, Signature, SignedHead};

use crate::outlook::Outlook;
use crate::standing::Standing;

/// More adjacencies than this are refused: a main server in the middle of every sub-district of a province has
/// some hundreds.
pub const ADJACENCIES_MAX: usize = 1024;

/// A ledger in more pieces than this is refused. Captures are without gaps and receipts come in ranges, so a
/// healthy ledger has a handful; two full sets of this size still make an LSA of 64 KiB.
pub const LEDGER_PIECES_MAX: usize = 4096;

/// There are no more epochs than this.
const FORMER_MAX: usize = Epoch::MAX as usize;

/// One neighbor that the origin has verified and hears.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Adjacency {
    /// The node at the other end.
    pub neighbor: NodeId,
    /// What sending to it costs. Never zero.
    pub cost: LinkCost,
    /// The smoothed round-trip time in microseconds, 0 if not yet measured. For people; nothing is routed by it.
    pub rtt_micros: u32,
}

/// What an origin captured and where that stands, for the area's count (P4): captured = receipted + held.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OriginLedger {
    /// The incarnation of its spool.
    pub epoch: Epoch,
    /// The number of its newest capture, 0 if there is none.
    pub captured: u32,
    /// Its own captures that it holds without a receipt.
    pub held: SeqRanges,
    /// Its own captures that have a receipt.
    pub receipted: SeqRanges,
    /// Its earlier epochs, each with the number of the newest capture that anybody has heard of.
    pub former: Vec<(Epoch, Captured)>,
    /// Everything else it holds without a receipt: records of other origins, and its own of earlier epochs.
    pub holdings: Vec<Holding>,
    /// Its own captures that are in quarantine because a receipt for other records has their ids, per epoch. They count
    /// as receipted, and are not: somebody must see to them.
    pub conflicts: Vec<(Epoch, SeqRanges)>,
    /// How many records of other origins it holds, `holdings` or not.
    pub transit_held: u64,
}

/// The number of an origin's newest capture.
pub type Captured = u32;

/// Records of one origin's epoch that a node holds without a receipt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Holding {
    /// Who captured them.
    pub origin: NodeId,
    /// In which epoch.
    pub epoch: Epoch,
    /// Their numbers.
    pub held: SeqRanges,
}

impl OriginLedger {
    /// True if the ledger is within [`LEDGER_PIECES_MAX`] and may be advertised.
    #[must_use]
    pub fn fits(&self) -> bool {
        let few = |set: &SeqRanges| set.pieces().len() <= LEDGER_PIECES_MAX;
        let holdings: usize = self.holdings.iter().map(|holding| 1 + holding.held.pieces().len()).sum();
        let conflicts: usize = self.conflicts.iter().map(|(_, seqs)| 1 + seqs.pieces().len()).sum();
        few(&self.held)
            && few(&self.receipted)
            && holdings <= LEDGER_PIECES_MAX
            && conflicts <= LEDGER_PIECES_MAX
            && self.former.len() <= FORMER_MAX
    }
}

/// Which topology a node goes by, and which it has. For people: nothing is routed by it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct TopologyVersions {
    /// The version in force.
    pub in_force: u64,
    /// The newest version on its disk. Beyond that in force if it waits for the node's next start.
    pub kept: u64,
}

/// What a hub committed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct HubLedger {
    /// How many different records.
    pub committed: u64,
    /// How many records are in its store more than once. Duplicates that arrive are refused, so this is 0, or a fault.
    pub committed_twice: u64,
    /// How far the chain of its commits has come, signed by itself so that others can show it on: see [`Lsa::head`].
    pub head: Option<(ChainHead, Signature)>,
}

/// What one node says about itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lsa {
    /// Who says it.
    pub origin: NodeId,
    /// Which of its words is newer: grows with each.
    pub sequence: u64,
    /// Its verified neighbors, sorted by id, each at most once.
    pub adjacencies: Vec<Adjacency>,
    /// What it does with transit, on what power, and why.
    pub standing: Standing,
    /// Its disk keeps what is synced. A node whose disk does not gives no promises.
    pub durable: bool,
    /// Which topology it goes by, and which it has.
    pub topology: TopologyVersions,
    /// Where its captures stand, if it has a spool with captures to speak of.
    pub ledger: Option<OriginLedger>,
    /// What it committed, if it is a hub.
    pub hub: Option<HubLedger>,
    /// How long it can go on taking captures, if it knows.
    pub outlook: Option<Outlook>,
}

impl Lsa {
    /// The adjacency with `neighbor`, if the origin lists it.
    #[must_use]
    pub fn adjacency(&self, neighbor: &NodeId) -> Option<&Adjacency> {
        self.adjacencies.iter().find(|adjacency| adjacency.neighbor == *neighbor)
    }

    /// The head of its chain that a hub publishes. Not verified: whoever keeps it checks the signature.
    #[must_use]
    pub fn head(&self) -> Option<SignedHead> {
        let (head, signature) = self.hub?.head?;
        Some(SignedHead { hub: self.origin.clone(), head, signature })
    }

    /// True if paths may differ between the two: another neighbor, another cost, another state, other power. Ledgers,
    /// outlooks, round-trip times, versions and what is said for people do not matter.
    #[must_use]
    pub fn differs_in_topology(&self, other: &Self) -> bool {
        let edges = |lsa: &Self| -> Vec<(NodeId, LinkCost)> {
            lsa.adjacencies.iter().map(|adjacency| (adjacency.neighbor.clone(), adjacency.cost)).collect()
        };
        self.standing.differs_in_topology(&other.standing) || edges(self) != edges(other)
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use estafet_model::{ByteCount, ChainId, Seq, SigningKey};

    use super::*;
    use crate::pekanbaru::id;
    use crate::standing::{NodeState, Notice, PowerState, Reason};

    type Change = fn(&mut Lsa);

    pub(crate) fn adjacency(neighbor: &str, cost: u32) -> Adjacency {
        Adjacency { neighbor: id(neighbor), cost: LinkCost(cost), rtt_micros: 1800 }
    }

    fn head() -> (ChainHead, Signature) {
        let head = ChainHead::first(&id("rumbai"), ChainId::from_bytes([3; 16]));
        (head, SignedHead::sign(id("rumbai"), head, &SigningKey::from_seed([1; 32])).signature)
    }

    pub(crate) fn full() -> Lsa {
        let held: SeqRanges = [4, 6].into_iter().filter_map(Seq::new).collect();
        let receipted = SeqRanges::up_to(Seq::new(3));
        let epoch = Epoch::new(2).unwrap();
        Lsa {
            origin: id("rumbai"),
            sequence: 7,
            adjacencies: vec![adjacency("sukajadi", 10), adjacency("senapelan", 15)],
            standing: Standing {
                state: NodeState::Serving,
                power: PowerState::OnBattery { minutes_left: Some(12) },
                notice: Some(Notice {
                    reason: Reason::Operator,
                    words: "moving the rack".parse().unwrap(),
                    back_unix_s: Some(1_375_786_800),
                }),
            },
            durable: true,
            topology: TopologyVersions { in_force: 3, kept: 4 },
            ledger: Some(OriginLedger {
                epoch,
                captured: 6,
                held: held.clone(),
                receipted,
                former: vec![(Epoch::FIRST, 9)],
                holdings: vec![Holding { origin: id("sail"), epoch, held: held.clone() }],
                conflicts: vec![(Epoch::FIRST, held)],
                transit_held: 12,
            }),
            hub: Some(HubLedger { committed: 9, committed_twice: 1, head: Some(head()) }),
            outlook: Some(Outlook { capture_room: ByteCount(5 << 30), captured_per_hour: ByteCount(12 << 20) }),
        }
    }

    #[test]
    fn only_neighbors_costs_state_and_power_are_topology() {
        let rows: [(Change, bool); 12] = [
            (|lsa| lsa.adjacencies[0].rtt_micros += 1, false),
            (|lsa| lsa.ledger = None, false),
            (|lsa| lsa.outlook = None, false),
            (|lsa| lsa.topology.in_force = 4, false),
            (|lsa| lsa.sequence += 1, false),
            (|lsa| lsa.adjacencies[0].cost = LinkCost(99), true),
            (|lsa| lsa.standing.notice = None, false),
            (|lsa| lsa.standing.power = PowerState::OnBattery { minutes_left: None }, false),
            (|lsa| lsa.standing.power = PowerState::Mains, true),
            (|lsa| lsa.standing.power = PowerState::LowBattery, true),
            (|lsa| lsa.standing.state = NodeState::Draining, true),
            (|lsa| lsa.adjacencies.truncate(1), true),
        ];
        for (row, (change, expected)) in rows.into_iter().enumerate() {
            let mut other = full();
            change(&mut other);
            assert_eq!(full().differs_in_topology(&other), expected, "row {row}");
        }
    }
}
