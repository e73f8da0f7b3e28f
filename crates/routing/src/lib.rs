//! Which neighbor is alive, what the area looks like, and where to send: link-state routing for one node.
//!
//! Everything here is a value or a state machine that takes time as a value. There is no clock, socket, file or
//! random number in this crate (its `clippy.toml` refuses them), and no knowledge of records, of custody, of the
//! topology file or of the wire format: the `node` crate hands values across.
//!
//! Read first: [`Router`] (the contract, one node's routing as a whole) and [`Route`] (what it is all for: a next
//! hop, and the loop-free alternates to fall back on). Below them, from the graph upward: [`Graph`],
//! [`ShortestPaths`], [`route`] and [`routes_to_nearest`], [`impact()`]; and from the network upward: [`Liveness`],
//! [`SignedLsa`], [`Lsdb`].

mod adjacency;
mod alternates;
#[cfg(test)]
mod area;
mod backoff;
#[cfg(test)]
mod convergence;
mod fib;
mod graph;
mod impact;
mod lsa;
mod lsdb;
mod origination;
mod output;
#[cfg(test)]
mod pekanbaru;
mod router;
mod signed_lsa;
mod spf;
mod standing;

pub use adjacency::{
    AdjacencyAction, AdjacencyTimer, BUSY_LINGER, DEAD_AFTER, DEAD_AFTER_QUIET, DownReason, HEARTBEAT_INTERVAL,
    HEARTBEAT_INTERVAL_QUIET, Liveness, NeighborState,
};
pub use alternates::{Alternate, Protects, Route, route, routes_to_nearest};
pub use backoff::{SPF_HOLD_MAX, SPF_HOLD_MIN, SPF_QUIET};
pub use fib::NextHop;
pub use graph::{BATTERY_COST, DRAINING_COST, Edge, Graph, LinkRisks};
pub use impact::{Detour, Impact, impact};
pub use lsa::{ADJACENCIES_MAX, Adjacency, Captured, Holding, HubLedger, LEDGER_PIECES_MAX, Lsa, OriginLedger};
pub use lsdb::{Installed, Lsdb, Summary};
pub use origination::LEDGER_INTERVAL;
pub use output::{RouterOutput, TimerReason};
pub use router::{Router, RouterConfig, SUMMARY_INTERVAL};
pub use signed_lsa::{ForgedLsa, SignedLsa};
pub use spf::ShortestPaths;
pub use standing::{NodeState, Notice, PowerState, Reason, Standing, Words, WordsError};
