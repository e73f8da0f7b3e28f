//! What happens to a city in a drill, and what its counters hand in: the same for both columns.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use estafet_model::NodeId;
use estafet_topology::{CityPlan, Role};

use crate::seeded::Seeded;

pub(super) const MINUTE: Duration = Duration::from_secs(60);
pub(super) const HOUR: Duration = Duration::from_secs(3600);
pub(super) const DAY: Duration = Duration::from_secs(24 * 3600);

/// When counters are open, by the hour: in the day, and in the evening when people come after work.
pub(super) const OPEN: [(u32, u32); 2] = [(8, 15), (18, 21)];

/// A message of a counter program: a change of address, a question.
const MESSAGE_BYTES: usize = 1 << 10;

/// The smallest enrollment; the largest has five doublings more, 2 MiB. Each doubling has the same share.
const ENROLLMENT_BYTES: usize = 64 << 10;
const ENROLLMENT_DOUBLINGS: usize = 5;

/// How far apart the counters of a city are within one slot.
const SLOT_SPREAD: Duration = Duration::from_secs(10);

/// How a line fares.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Line {
    pub(super) up: bool,
    /// What it carries in a second, if that is not what the plan says.
    pub(super) bits_per_second: Option<u64>,
    pub(super) losses_per_mille: u64,
    /// What one way takes, if the drill says so.
    pub(super) latency: Option<Duration>,
}

impl Line {
    /// As the plan says.
    pub(super) const GOOD: Line = Line { up: true, bits_per_second: None, losses_per_mille: 0, latency: None };
    pub(super) const DEAD: Line = Line { up: false, ..Line::GOOD };
}

/// What changes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Change {
    /// The power of a site goes.
    Dark(NodeId),
    /// It comes back.
    Lit(NodeId),
    /// From now on a line fares like this.
    Line([NodeId; 2], Line),
}

/// A counter that is open has somebody before it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Attempt {
    pub(super) office: NodeId,
    pub(super) bytes: usize,
    /// The time of which it is the sample.
    pub(super) stands_for: Duration,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Happening {
    Change(Change),
    Attempt(Attempt),
}

/// Everything that happens, in order of time since the first midnight.
#[derive(Debug, Clone, Default)]
pub(super) struct Script {
    pub(super) happenings: Vec<(Duration, Happening)>,
    pub(super) end: Duration,
    pub(super) jumps: Jumps,
}

/// What of the time is left out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Jumps {
    /// Nothing.
    #[default]
    Nowhere,
    /// Stretches in which nothing changes, all has settled, and running nodes hold only what has no way.
    WhereNothingHappens,
    /// Stretches in which no running node holds anything, and nobody comes to a counter: lines that come and go then are
    /// as they are afterwards.
    WhereNobodyComes,
}

/// How often counters try, and how often that is an enrollment.
#[derive(Debug, Clone, Copy)]
pub(super) struct Pace {
    pub(super) slot: Duration,
    pub(super) enrollment_one_in: u64,
}

impl Script {
    /// The power of a site is gone between these.
    pub(super) fn cut_power(&mut self, site: &NodeId, from: Duration, until: Duration) {
        self.happenings.push((from, Happening::Change(Change::Dark(site.clone()))));
        self.happenings.push((until, Happening::Change(Change::Lit(site.clone()))));
    }

    pub(super) fn set_line(&mut self, at: Duration, ends: &[NodeId; 2], line: Line) {
        self.happenings.push((at, Happening::Change(Change::Line(ends.clone(), line))));
    }

    /// The counters of these offices on one day: in each slot of the open hours each tries once, about together, at a
    /// moment that the seed decides.
    pub(super) fn open_counters(&mut self, offices: &[NodeId], day: u32, pace: Pace, seeded: &mut Seeded) {
        for (from, until) in OPEN {
            let mut slot = DAY * day + HOUR * from;
            while slot < DAY * day + HOUR * until {
                let moment = slot + within(pace.slot - SLOT_SPREAD, seeded);
                for office in offices {
                    let bytes = if seeded.one_in(pace.enrollment_one_in) { enrollment(seeded) } else { MESSAGE_BYTES };
                    let attempt = Attempt { office: office.clone(), bytes, stands_for: pace.slot };
                    self.happenings.push((moment + within(SLOT_SPREAD, seeded), Happening::Attempt(attempt)));
                }
                slot += pace.slot;
            }
        }
    }

    /// To be called when all is written.
    pub(super) fn in_order(mut self) -> Self {
        self.happenings.sort_by_key(|(at, _)| *at);
        self
    }
}

/// Some moment of a span.
pub(super) fn within(span: Duration, seeded: &mut Seeded) -> Duration {
    seeded.micros(0, u64::try_from(span.as_micros()).unwrap_or(u64::MAX).max(1))
}

fn enrollment(seeded: &mut Seeded) -> usize {
    let least = ENROLLMENT_BYTES << seeded.below(ENROLLMENT_DOUBLINGS);
    least + seeded.below(least)
}

/// Who has counters: all sites of the old network but the main server.
pub(super) fn offices(plan: &CityPlan) -> Vec<NodeId> {
    plan.nodes.iter().filter(|node| node.role == Role::Relay).map(|node| node.id.clone()).collect()
}

/// What is dark, and how lines fare, at one moment.
#[derive(Debug, Clone, Default)]
pub(super) struct Weather {
    dark: BTreeSet<NodeId>,
    lines: BTreeMap<[NodeId; 2], Line>,
}

impl Weather {
    pub(super) fn change(&mut self, change: &Change) {
        match change {
            Change::Dark(site) => drop(self.dark.insert(site.clone())),
            Change::Lit(site) => drop(self.dark.remove(site)),
            Change::Line(ends, line) => drop(self.lines.insert(ends.clone(), *line)),
        }
    }

    pub(super) fn has_power(&self, site: &NodeId) -> bool {
        !self.dark.contains(site)
    }

    /// How the lines that have changed fare. They are forgotten.
    pub(super) fn take_lines(&mut self) -> BTreeMap<[NodeId; 2], Line> {
        std::mem::take(&mut self.lines)
    }

    pub(super) fn line(&self, ends: &[NodeId; 2]) -> Line {
        self.lines.get(ends).copied().unwrap_or(Line::GOOD)
    }
}
