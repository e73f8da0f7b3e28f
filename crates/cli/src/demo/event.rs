//! What the demo's tasks tell its one loop.

use std::time::Duration;

use estafet_admin::v1;

use super::error::DemoFailure;
use super::ledger::{Commit, Promise};

#[derive(Debug)]
pub(super) enum Event {
    /// A counter got a slip.
    Promised(Promise),
    /// A counter got no slip, and tries again until it does.
    CounterWaits { office: String, reason: String },
    /// A counter cannot go on.
    CounterFailed(DemoFailure),
    /// The main server committed a record.
    Committed(Commit),
    /// The main server's map.
    Network(v1::Network),
    /// The main server's count.
    Audit(v1::AuditReport),
    /// An office's next hop is another one than before the cut; nothing if no way is left.
    Moved { office: String, next_hop: Option<String>, after: Duration },
}
