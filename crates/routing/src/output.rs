//! What a router asks of its driver.

use estafet_model::{LsdbDigest, NodeId};

use crate::adjacency::{AdjacencyTimer, DownReason};
use crate::quality::Gray;
use crate::signed_lsa::SignedLsa;

/// What the driver is to do, or to know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RouterOutput {
    /// Send these LSAs to a neighbor.
    SendLsas {
        /// The neighbor.
        to: NodeId,
        /// The LSAs, each to be sent unchanged; after a summary up to the whole database, in as many frames as it takes.
        lsas: Vec<SignedLsa>,
    },
    /// Send [`Lsdb::summary`](crate::Lsdb::summary), as it is at the time of sending, to a neighbor.
    SendSummary {
        /// The neighbor.
        to: NodeId,
    },
    /// Send a heartbeat to a neighbor.
    SendHeartbeat {
        /// The neighbor.
        to: NodeId,
        /// This node is busy with it: it is to answer at the same pace.
        busy: bool,
        /// What this node's LSDB comes to, if it is time to say so.
        lsdb: Option<LsdbDigest>,
    },
    /// A neighbor can be sent to.
    AdjacencyUp(NodeId),
    /// A neighbor owes an answer suspiciously long: [`Router::next_hops`](crate::Router::next_hops) names it last now.
    Suspected(NodeId),
    /// A suspect was heard again.
    Cleared(NodeId),
    /// The link to a neighbor works and is bad: it is the last choice from now on.
    LinkGray {
        /// The neighbor.
        neighbor: NodeId,
        /// What is wrong.
        why: Gray,
    },
    /// The link to a neighbor is good again.
    LinkGood(NodeId),
    /// A neighbor cannot be sent to any more.
    AdjacencyDown {
        /// The neighbor.
        neighbor: NodeId,
        /// Why.
        reason: DownReason,
    },
    /// A neighbor passed on an LSA that its origin did not sign: one of the two misbehaves, or their topologies
    /// differ in a key.
    ForgedLsa {
        /// The neighbor that sent it.
        from: NodeId,
        /// Whom it claims to be from.
        origin: NodeId,
    },
    /// [`Router::next_hops`](crate::Router::next_hops), [`Router::graph`](crate::Router::graph) or an answer derived from them may be another now.
    RoutesChanged,
}

/// What a timeout is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TimerReason {
    /// Liveness of a neighbor.
    Adjacency {
        /// The neighbor.
        neighbor: NodeId,
        /// What about it.
        timer: AdjacencyTimer,
    },
    /// A neighbor that flapped has come to stay.
    Damping,
    /// SPF waits for a storm of changes to gather.
    Spf,
    /// A changed ledger may be told.
    Ledger,
}
