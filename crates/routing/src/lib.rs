//! Which neighbor is alive, what the area looks like, and where to send: link-state routing for one node.
//!
//! Everything here is a value or a state machine that takes time as a value. There is no clock, socket, file or
//! random number in this crate (its `clippy.toml` refuses them), and no knowledge of records, of custody, of the
//! topology file or of the wire format: the `node` crate hands values across.
//!
//! Read first: [`Router`] (the contract, one node's routing as a whole) and [`Route`] (what it is all for: a next
//! hop, and the loop-free alternates to fall back on). Below them, from the graph upward: [`Graph`],
//! [`ShortestPaths`], [`route`] and [`routes_to_nearest`]; and from the network upward: [`Liveness`], [`Choice`], [`SignedLsa`],
//! [`Lsdb`]. What is known beforehand: [`impact()`] of a [`Failure`], [`single_points`], [`reinforcement()`] and
//! [`hub_sites`], [`coverage()`].

mod adjacency;
mod alternates;
#[cfg(test)]
mod area;
mod arrivals;
mod backoff;
#[cfg(test)]
mod choosing;
mod comparison;
#[cfg(test)]
mod convergence;
mod cost_parts;
mod coverage;
mod damping;
mod failure;
mod fib;
mod graph;
mod impact;
mod lsa;
mod lsdb;
mod neighbor;
mod origination;
mod outlook;
mod output;
#[cfg(test)]
mod pekanbaru;
mod quality;
#[cfg(test)]
mod reactions;
mod reinforcement;
mod router;
mod signed_lsa;
mod single_points;
mod spf;
mod standing;
mod suspicion;
mod trial;

pub use adjacency::{
    AdjacencyAction, AdjacencyTimer, BUSY_LINGER, DEAD_AFTER, DEAD_AFTER_QUIET, DownReason, HEARTBEAT_INTERVAL,
    HEARTBEAT_INTERVAL_QUIET, Liveness, NeighborState,
};
pub use alternates::{Alternate, Protects, Route, route, routes_to_nearest};
pub use backoff::{SPF_HOLD_MAX, SPF_HOLD_MIN, SPF_QUIET};
pub use comparison::REPAIRED_WITHIN;
pub use cost_parts::CostParts;
pub use coverage::{Coverage, coverage, coverages};
pub use failure::{Failure, Part};
pub use fib::NextHop;
pub use graph::{BATTERY_COST, DRAINING_COST, Edge, Graph, LinkRisks, Risks};
pub use impact::{Detour, Impact, impact};
pub use lsa::{
    ADJACENCIES_MAX, Adjacency, Captured, Holding, HubLedger, LEDGER_PIECES_MAX, Lsa, OriginLedger, TopologyVersions,
};
pub use lsdb::{Installed, Lsdb, Summary};
pub use neighbor::{BearerState, BearerTerms, Choice};
pub use origination::LEDGER_INTERVAL;
pub use outlook::Outlook;
pub use output::{RouterOutput, TimerReason};
pub use quality::{GOOD_FOR, Gray, LinkSample, RETURNS_PER_HOUR};
pub use reinforcement::{CandidateLink, ChosenLink, HubSite, Reinforcement, hub_sites, reinforcement};
pub use router::{Router, RouterConfig, SHUNNED_COST};
pub use signed_lsa::{ForgedLsa, SignedLsa};
pub use single_points::{SinglePoint, single_points};
pub use spf::ShortestPaths;
pub use standing::{NodeState, Notice, PowerState, Reason, Standing, Words, WordsError};
pub use suspicion::SUSPECT_AFTER;
