//! The alarm of the ledger: numbers that stay missing are told aloud, with the records' names.

use std::collections::BTreeMap;
use std::time::Duration;

use estafet_model::{NodeId, Now, UnixMillis};
use estafet_node::{AuditReport, Records};
use tracing::{error, info};

/// How often the ledger is drawn. It costs a walk over a few ranges per origin.
const INTERVAL: Duration = Duration::from_secs(5);

/// How long numbers may be missing before it is told: news of a capture and of its receipt travel by different ways.
const PATIENCE: Duration = Duration::from_secs(30);

/// Ids that one line names.
const NAMED_MAX: usize = 20;

#[derive(Debug)]
struct Missing {
    first_seen: Now,
    since: UnixMillis,
    told: Option<Records>,
}

/// What is missing, per origin.
#[derive(Debug, Default)]
pub(crate) struct Alarm {
    next_look: Now,
    missing: BTreeMap<NodeId, Missing>,
    since: BTreeMap<NodeId, UnixMillis>,
}

impl Alarm {
    pub(crate) fn is_due(&self, now: Now) -> bool {
        now >= self.next_look
    }

    /// Since when numbers of an origin are missing. Empty if all is well.
    pub(crate) fn missing_since(&self) -> &BTreeMap<NodeId, UnixMillis> {
        &self.since
    }

    /// Draws the line under the ledger of this moment.
    pub(crate) fn look(&mut self, now: Now, wall_clock: UnixMillis, audit: &AuditReport) {
        self.next_look = now + INTERVAL;
        for origin in &audit.origins {
            if origin.missing.is_empty() {
                if self.missing.remove(&origin.node).is_some_and(|missing| missing.told.is_some()) {
                    info!(origin = %origin.node, "the ledger adds up again");
                }
                continue;
            }
            let fresh = Missing { first_seen: now, since: wall_clock, told: None };
            let missing = self.missing.entry(origin.node.clone()).or_insert(fresh);
            let is_news = missing.told.as_ref() != Some(&origin.missing);
            if is_news && now.since(missing.first_seen) >= PATIENCE {
                let ids: Vec<String> = origin.missing.iter().take(NAMED_MAX).map(|id| id.to_string()).collect();
                error!(
                    origin = %origin.node,
                    count = origin.missing.count(),
                    records = ids.join(", "),
                    "records are unaccounted for: captured, and neither receipted nor held by anybody who is heard"
                );
                missing.told = Some(origin.missing.clone());
            }
        }
        self.since = self.missing.iter().map(|(origin, missing)| (origin.clone(), missing.since)).collect();
    }
}
