//! What a router asks of its driver.

use std::time::Duration;

use estafet_model::{Bearer, LsdbDigest, Medium, NodeId};

use crate::adjacency::{AdjacencyTimer, DownReason};
use crate::neighbor::Choice;
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
    /// Send a heartbeat over a bearer, in use or not.
    SendHeartbeat {
        /// The bearer.
        over: Bearer,
        /// This node is busy with the neighbor: it is to answer at the same pace.
        busy: bool,
        /// What this node's LSDB comes to, if it is time to say so.
        lsdb: Option<LsdbDigest>,
    },
    /// A neighbor can be sent to.
    AdjacencyUp(NodeId),
    /// An answer is owed suspiciously long over a bearer. If that goes for all bearers of the neighbor,
    /// [`Router::next_hops`](crate::Router::next_hops) names it last now.
    Suspected(Bearer),
    /// Something was heard again over a suspicious bearer.
    Cleared(Bearer),
    /// A bearer works and is bad: it is the last choice from now on.
    LinkGray {
        /// The bearer.
        bearer: Bearer,
        /// What is wrong.
        why: Gray,
    },
    /// Let a bearer carry so much padding behind everything else, and say by [`Router::tried`](crate::Router::tried) whether
    /// the neighbor's transport has acknowledged all of it in time. What has not left by then need not leave any more.
    Try {
        /// The bearer.
        over: Bearer,
        /// So much.
        bytes: u32,
        /// In this time.
        within: Duration,
    },
    /// A bearer is good again.
    LinkGood(Bearer),
    /// A neighbor that is up is spoken to over another bearer from now on.
    BearerChanged {
        /// The neighbor.
        neighbor: NodeId,
        /// Over which.
        choice: Choice,
    },
    /// What was said to a neighbor and is not answered may be lost with a bearer: say it again.
    SayAgain {
        /// The neighbor.
        to: NodeId,
        /// First tell it that this bearer was left, so that it says again, over another, what it said over this one.
        doubt: Option<Medium>,
    },
    /// Close a bearer's session: nothing is heard over it.
    GiveUp(Bearer),
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
