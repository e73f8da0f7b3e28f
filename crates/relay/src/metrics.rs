//! What `/metrics` tells Prometheus: what this node holds, its store, its service, and how it goes around its neighbors.

use std::fmt::{self, Display};
use std::sync::atomic::Ordering;

use estafet_node::routing::Standing;

use crate::driver::View;
use crate::failovers::{Failovers, gray_links};
use crate::scrub::Scrubs;
use crate::store::Store;

/// A number with a name, as it is now.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Metric {
    name: &'static str,
    kind: Kind,
    /// One sentence for people who meet the name on a dashboard.
    help: &'static str,
    value: u64,
}

#[derive(Debug, Clone, Copy)]
enum Kind {
    /// Grows as long as the node runs.
    Counter,
    /// Goes up and down.
    Gauge,
}

const fn counter(name: &'static str, value: u64, help: &'static str) -> Metric {
    Metric { name, kind: Kind::Counter, help, value }
}

const fn gauge(name: &'static str, value: u64, help: &'static str) -> Metric {
    Metric { name, kind: Kind::Gauge, help, value }
}

impl Display for Metric {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, kind, help, value } = self;
        let kind = match kind {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
        };
        writeln!(formatter, "# HELP {name} {help}\n# TYPE {name} {kind}\n{name} {value}")
    }
}

/// What the node itself knows.
pub(crate) fn of_node(view: &View<'_>) -> Vec<Metric> {
    let custody = view.node.custody();
    let own = custody.receipted().iter().filter(|((origin, _), _)| origin == view.node.id());
    let receipted: u64 = own.map(|(_, ranges)| ranges.count()).sum();
    let missing = view.node.audit().origins.iter().map(|origin| origin.missing.count()).sum::<u64>();
    let quarantined = custody.quarantine().count() as u64;
    let Failovers { suspicions, deaths, bearer_changes, sessions_lost, records_diverted } = view.failovers;
    vec![
        gauge("estafet_records_held", custody.held_count(), "Records held here without a receipt, own and others'."),
        gauge(
            "estafet_copies_held",
            custody.copies_count(),
            "Records held here for one main server although another has them.",
        ),
        counter("estafet_records_receipted_total", receipted, "Own captures that a main server's receipt covers."),
        counter(
            "estafet_records_committed_total",
            custody.committed_count(),
            "Records committed here; 0 but at a main server.",
        ),
        gauge(
            "estafet_records_quarantined",
            quarantined,
            "Records set aside here: refused for good, or not readable. Somebody must see to them.",
        ),
        gauge(
            "estafet_clock_skew_seconds",
            view.clocks.largest_skew_seconds(),
            "How far the clock of the neighbor with the most different one is from this node's. Nothing is refused for it.",
        ),
        gauge(
            "estafet_records_missing",
            missing,
            "Records of the area that were captured and that nobody accounts for, as seen from here. More than 0 is an alarm.",
        ),
        counter(
            "estafet_receipt_losses_total",
            custody.receipt_losses(),
            "Records that main servers had to take back from their receipts.",
        ),
        counter(
            "estafet_neighbor_suspicions_total",
            suspicions,
            "How often a neighbor owed an answer suspiciously long.",
        ),
        counter(
            "estafet_neighbor_deaths_total",
            deaths,
            "How often a neighbor was silent or its session lost; goodbyes and removals from the topology do not count.",
        ),
        counter(
            "estafet_bearer_changes_total",
            bearer_changes,
            "How often a neighbor was spoken to over another link from then on.",
        ),
        counter(
            "estafet_sessions_lost_total",
            sessions_lost,
            "Sessions that ended without a goodbye and were not taken out of the topology.",
        ),
        counter(
            "estafet_records_diverted_total",
            records_diverted,
            "Records that went another way or link as well, by a suspicion.",
        ),
        counter(
            "estafet_handshakes_total",
            view.sessions.handshakes,
            "Handshakes that others began here and that were let in, neighbors' and strangers'.",
        ),
        counter(
            "estafet_neighbor_exclusions_total",
            view.sessions.exclusions,
            "How often a neighbor misbehaved and was kept out for a while. Somebody must look after its machine.",
        ),
        gauge("estafet_links_gray", gray_links(view.node), "Own links that work badly now."),
        gauge("estafet_topology_version", view.node.topology().version, "The version of the topology in force here."),
    ]
}

/// What the node says of its service.
pub(crate) fn of_service(service: &Standing) -> [Metric; 2] {
    [
        gauge(
            "estafet_draining",
            service.is_draining().into(),
            "1 while this node is led around and hands over what it has.",
        ),
        gauge("estafet_on_battery", service.is_on_battery().into(), "1 while this node runs on a battery."),
    ]
}

/// What its disk is like.
pub(crate) fn of_store(store: &Store, scrubs: &Scrubs) -> [Metric; 8] {
    let usage = store.spool.usage();
    let poisoned = usage.poisoned.is_some().into();
    let (segments, unreadable) =
        (scrubs.segments.load(Ordering::Relaxed), scrubs.records_unreadable.load(Ordering::Relaxed));
    let passed_at = scrubs.passed_at.load(Ordering::Relaxed);
    [
        counter("estafet_spool_syncs_total", usage.syncs, "How often the store was synced to the disk."),
        gauge("estafet_spool_used_bytes", usage.used_bytes.0, "Bytes that the store takes of the disk."),
        gauge("estafet_spool_free_bytes", usage.free_bytes.0, "Bytes that the store can still take."),
        gauge("estafet_spool_segments", usage.segments as u64, "Files that the store consists of."),
        gauge(
            "estafet_spool_poisoned",
            poisoned,
            "1 when the disk has failed: nothing is taken until a restart. Somebody must act.",
        ),
        counter("estafet_scrub_segments_total", segments, "Files of the store that were read to find damage."),
        counter("estafet_scrub_records_unreadable_total", unreadable, "Records that were found damaged by that."),
        gauge(
            "estafet_scrub_passed_unix_ms",
            passed_at,
            "When all of the store had last been read, Unix milliseconds; 0 if not yet.",
        ),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_metric_is_told_with_what_it_means() {
        let told = [gauge("estafet_links_gray", 2, "Own links."), counter("estafet_syncs_total", 7, "Syncs.")];
        assert_eq!(
            told.map(|metric| metric.to_string()).concat(),
            "# HELP estafet_links_gray Own links.\n# TYPE estafet_links_gray gauge\nestafet_links_gray 2\n\
             # HELP estafet_syncs_total Syncs.\n# TYPE estafet_syncs_total counter\nestafet_syncs_total 7\n"
        );
    }
}
