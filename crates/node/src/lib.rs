//! One node: routing and custody joined, without IO.
//!
//! [`Node`] is a state machine. Its driver feeds it an [`Input`] with the time, takes [`Output`]s from
//! [`Node::poll_output`] until there are none, and wakes it with [`Input::Timeout`] when [`Node::poll_timeout`] says
//! so. Time, randomness, disk results and frames come in as values; the daemon and the simulator drive the
//! same code.
//!
//! Routing and custody do not know each other. What passes between them passes here: an adjacency that comes up or
//! goes down, the next hops, and the ledger that the node's LSA tells the area.
//!
//! Read first: [`Node::handle_input`], then [`Input`] and [`Output`].

mod audit;
mod captures;
mod io;
mod node;
mod pasts;
mod recovered;

pub use audit::{AuditReport, OriginAudit, Records};
pub use captures::{Capture, CaptureRefused, CaptureToken, Captured};
pub use io::{Input, NodeEvent, Output, Wakeup};
pub use node::{Node, NodeConfig, Whereabouts};
pub use recovered::{Recovered, RecoveredRecords, StoredRecord};

pub use estafet_custody as custody;
pub use estafet_routing as routing;
