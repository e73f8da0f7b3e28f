//! What a drill is measured by.

use std::time::Duration;

/// What came of one column.
#[derive(Debug, Clone, Default)]
pub struct Measures {
    /// Captures that were tried at a counter with power.
    pub attempts: u64,
    /// How many of these had no slip, or, as it was, did not end at the main server.
    pub refused: u64,
    /// What the refused ones stand for.
    pub lost: Duration,
    /// From a capture to its commit at the main server, ascending once all is measured.
    pub to_hub: Vec<Duration>,
    /// Captures that were taken and had not reached the main server when the drill ended.
    pub not_there: u64,
    /// What was sent of records, and about them.
    pub record_wire_bytes: u64,
    /// What was committed, and over how many bytes of payload.
    pub committed_bytes: u64,
    /// What routing sent over one direction of one link in a second, where there is such a thing.
    pub routing_bytes_per_second: Option<f64>,
    /// How often an office's first way to the main server changed.
    pub route_changes: Option<u64>,
    /// The most that any site held at once.
    pub held_records_max: Option<u64>,
    /// The most payload that any site held at once.
    pub held_bytes_max: Option<u64>,
    /// From a power cut to the moment when the main server's map lacks the site, ascending once all is measured.
    pub noticed_after: Option<Vec<Duration>>,
    /// How much of the time was played; the rest was jumped over, since nothing went on.
    pub played: Duration,
}

/// A row of the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Row {
    /// Minutes in which a counter with power could capture nothing.
    MinutesLost,
    /// Captures that were refused.
    Refused,
    /// Seconds from capture to commit, the median.
    ToHubP50,
    /// What 95 of a hundred do not exceed.
    ToHubP95,
    /// What none exceeds.
    ToHubMax,
    /// Captures that were not at the main server when the drill ended.
    NotThere,
    /// Bytes on the wire for each byte of payload.
    WirePerPayload,
    /// What routing takes of one direction of one link, in bytes a second.
    Routing,
    /// Changes of the first way.
    RouteChanges,
    /// The most records held at a site.
    HeldRecords,
    /// The most payload held at a site, in MiB.
    HeldMebibytes,
    /// Seconds from a power cut to a map without the site, the longest.
    NoticedAfter,
}

/// What a row may be at most.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Figure {
    /// Which row.
    pub row: Row,
    /// At most this.
    pub at_most: f64,
}

impl Row {
    /// All rows, in order.
    pub const ALL: [Row; 12] = [
        Row::MinutesLost,
        Row::Refused,
        Row::ToHubP50,
        Row::ToHubP95,
        Row::ToHubMax,
        Row::NotThere,
        Row::WirePerPayload,
        Row::Routing,
        Row::RouteChanges,
        Row::HeldRecords,
        Row::HeldMebibytes,
        Row::NoticedAfter,
    ];

    /// The name, for programs.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Row::MinutesLost => "minutes_lost",
            Row::Refused => "captures_refused",
            Row::ToHubP50 => "to_hub_p50_seconds",
            Row::ToHubP95 => "to_hub_p95_seconds",
            Row::ToHubMax => "to_hub_max_seconds",
            Row::NotThere => "not_at_hub",
            Row::WirePerPayload => "wire_bytes_per_payload_byte",
            Row::Routing => "routing_bytes_per_link_second",
            Row::RouteChanges => "route_changes",
            Row::HeldRecords => "held_records_max",
            Row::HeldMebibytes => "held_mebibytes_max",
            Row::NoticedAfter => "dark_site_noticed_max_seconds",
        }
    }

    /// The name, for people.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Row::MinutesLost => "capture minutes lost to power or lines elsewhere",
            Row::Refused => "captures refused at a counter with power",
            Row::ToHubP50 => "time to the main server, p50",
            Row::ToHubP95 => "time to the main server, p95",
            Row::ToHubMax => "time to the main server, max",
            Row::NotThere => "taken, and not there at the end",
            Row::WirePerPayload => "bytes on the wire per payload byte",
            Row::Routing => "routing, bytes a second each way of a link, while played",
            Row::RouteChanges => "route changes, all offices",
            Row::HeldRecords => "held at most at one site, records",
            Row::HeldMebibytes => "held at most at one site, MiB",
            Row::NoticedAfter => "dark site off the main server's map, max",
        }
    }

    /// The value; none where the system has no such thing, or nothing was measured.
    #[must_use]
    pub fn value(self, measures: &Measures) -> Option<f64> {
        match self {
            Row::MinutesLost => Some(measures.lost.as_secs_f64() / 60.0),
            Row::Refused => Some(measures.refused as f64),
            Row::ToHubP50 => percentile(&measures.to_hub, 50),
            Row::ToHubP95 => percentile(&measures.to_hub, 95),
            Row::ToHubMax => percentile(&measures.to_hub, 100),
            Row::NotThere => Some(measures.not_there as f64),
            Row::WirePerPayload => {
                let committed = measures.committed_bytes as f64;
                (committed > 0.0).then(|| measures.record_wire_bytes as f64 / committed)
            }
            Row::Routing => measures.routing_bytes_per_second,
            Row::RouteChanges => measures.route_changes.map(|count| count as f64),
            Row::HeldRecords => measures.held_records_max.map(|count| count as f64),
            Row::HeldMebibytes => measures.held_bytes_max.map(|bytes| bytes as f64 / f64::from(1 << 20)),
            Row::NoticedAfter => percentile(measures.noticed_after.as_deref()?, 100),
        }
    }

    /// A value for people, with its unit.
    #[must_use]
    pub fn show(self, value: f64) -> String {
        match self {
            Row::MinutesLost => format!("{value:.0}"),
            Row::Refused | Row::NotThere | Row::RouteChanges | Row::HeldRecords | Row::Routing => format!("{value:.0}"),
            Row::ToHubP50 | Row::ToHubP95 | Row::ToHubMax | Row::NoticedAfter => show_seconds(value),
            Row::WirePerPayload => format!("{value:.2}"),
            Row::HeldMebibytes => format!("{value:.1}"),
        }
    }
}

impl Figure {
    /// What is wrong, if the figure was missed. A row of which nothing was measured has missed it too.
    #[must_use]
    pub fn fault(&self, measures: &Measures) -> Option<String> {
        let Figure { row, at_most } = *self;
        let limit = row.show(at_most);
        match row.value(measures) {
            Some(value) if value <= at_most => None,
            Some(value) => Some(format!("{}: {}, and may be {limit} at most", row.label(), row.show(value))),
            None => Some(format!("{}: nothing was measured, and it may be {limit} at most", row.label())),
        }
    }
}

impl Measures {
    /// All is measured.
    pub(super) fn in_order(mut self) -> Self {
        self.to_hub.sort_unstable();
        if let Some(noticed) = &mut self.noticed_after {
            noticed.sort_unstable();
        }
        self
    }
}

/// In seconds, of ascending spans: what so many of a hundred do not exceed.
fn percentile(ascending: &[Duration], percent: usize) -> Option<f64> {
    let rank = (ascending.len() * percent).div_ceil(100).max(1);
    ascending.get(rank - 1).map(Duration::as_secs_f64)
}

fn show_seconds(seconds: f64) -> String {
    match seconds {
        ..1.0 => format!("{:.0} ms", seconds * 1000.0),
        ..120.0 => format!("{seconds:.1} s"),
        ..7200.0 => format!("{:.0} min", seconds / 60.0),
        _ => format!("{:.1} h", seconds / 3600.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_percentile_is_the_smallest_that_so_many_do_not_exceed() {
        let spans: Vec<Duration> = (1..=20).map(Duration::from_secs).collect();
        let values = [50, 95, 100].map(|percent| percentile(&spans, percent));
        assert_eq!(values, [Some(10.0), Some(19.0), Some(20.0)]);
        assert_eq!((percentile(&spans[..1], 95), percentile(&[], 95)), (Some(1.0), None));
    }

    #[test]
    fn a_figure_is_missed_by_more_and_by_nothing() {
        let figure = Figure { row: Row::RouteChanges, at_most: 2.0 };
        let with = |route_changes| Measures { route_changes, ..Measures::default() };
        assert_eq!(figure.fault(&with(Some(2))), None);
        assert!(figure.fault(&with(Some(3))).is_some_and(|fault| fault.contains("3, and may be 2")));
        assert!(figure.fault(&with(None)).is_some());
    }

    #[test]
    fn spans_are_shown_with_a_unit_that_fits() {
        let shown = [0.02, 1.5, 600.0, 9000.0].map(show_seconds);
        assert_eq!(shown, ["20 ms", "1.5 s", "10 min", "2.5 h"]);
    }
}
