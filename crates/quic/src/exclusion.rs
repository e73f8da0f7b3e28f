//! For how long a neighbor that broke the protocol is kept out.
//!
//! No honest relay does, so this is for a machine in other hands, or one with a fault: either way somebody must see to
//! it, and until then it is to cost little. It is not shut out for good, for it may be the only way of an office: the time
//! grows with each offense, and is forgotten after a good while.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use estafet_model::NodeId;

/// How long the first offense keeps a neighbor out; the time doubles with each.
const FIRST: Duration = Duration::from_secs(5);

/// The longest: so long an office behind it waits at most when it is honest again.
const LONGEST: Duration = Duration::from_secs(5 * 60);

/// An exclusion is forgotten so long after its end.
const FORGOTTEN_AFTER: Duration = Duration::from_secs(60 * 60);

/// What may happen to an honest neighbor once, while topologies differ, is an offense when it happens so often within
/// so long.
const SUSPICIONS: usize = 3;
const SUSPICIONS_WITHIN: Duration = Duration::from_secs(60);

/// What a neighbor has done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Offense {
    /// No honest relay ever does it.
    Plain,
    /// An honest one may have done it once, by a topology that was in force a moment ago.
    Doubtful,
}

/// Who is kept out, and who nearly.
#[derive(Debug, Default)]
pub(crate) struct Exclusions(Mutex<BTreeMap<NodeId, Conduct>>);

/// What is remembered of a neighbor.
#[derive(Debug, Default)]
struct Conduct {
    suspicions: Vec<Instant>,
    /// How often it was kept out lately, and ever.
    count: u32,
    all: u32,
    until: Option<Instant>,
}

impl Exclusions {
    /// A neighbor has done something. Says for how long it is kept out for that, if it is.
    pub(crate) fn note(&self, neighbor: &NodeId, offense: Offense, now: Instant) -> Option<Duration> {
        self.lock().entry(neighbor.clone()).or_default().note(offense, now)
    }

    /// For how long the neighbor is kept out from now on, if it is.
    pub(crate) fn left(&self, neighbor: &NodeId, now: Instant) -> Option<Duration> {
        let until = self.lock().get(neighbor)?.until?;
        Some(until.saturating_duration_since(now)).filter(|left| !left.is_zero())
    }

    /// How often a neighbor was kept out.
    pub(crate) fn count(&self) -> u64 {
        self.lock().values().map(|conduct| u64::from(conduct.all)).sum()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<NodeId, Conduct>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Conduct {
    fn note(&mut self, offense: Offense, now: Instant) -> Option<Duration> {
        if offense == Offense::Doubtful {
            self.suspicions.retain(|earlier| now.duration_since(*earlier) < SUSPICIONS_WITHIN);
            self.suspicions.push(now);
            if self.suspicions.len() < SUSPICIONS {
                return None;
            }
        }
        self.suspicions.clear();
        if self.until.is_some_and(|until| now.saturating_duration_since(until) >= FORGOTTEN_AFTER) {
            self.count = 0;
        }
        let excluded = FIRST.saturating_mul(1 << self.count.min(16)).min(LONGEST);
        self.count += 1;
        self.all += 1;
        self.until = Some(now + excluded);
        Some(excluded)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// When what was done, in seconds, and for how long that keeps the neighbor out.
    type Row = (u64, Offense, Option<u64>);

    fn check(what: &str, rows: &[Row]) {
        let (exclusions, neighbor, began) = (Exclusions::default(), "sail".parse().unwrap(), Instant::now());
        for (at, offense, expected) in rows {
            let now = began + Duration::from_secs(*at);
            let excluded = exclusions.note(&neighbor, *offense, now);
            assert_eq!(excluded.map(|excluded| excluded.as_secs()), *expected, "{what}, at {at}");
            assert_eq!(exclusions.left(&neighbor, now), excluded, "{what}, at {at}");
            assert_eq!(exclusions.left(&neighbor, now + LONGEST), None);
        }
    }

    #[test]
    fn each_offense_keeps_a_neighbor_out_for_longer_and_a_good_hour_is_enough() {
        use Offense::{Doubtful, Plain};
        check("again and again", &[(0, Plain, Some(5)), (6, Plain, Some(10)), (20, Plain, Some(20))]);
        let often: Vec<Row> = (0..7).map(|n| (n * 400, Plain, Some((5 << n).min(300)))).collect();
        check("never for longer than five minutes", &often);
        check("after an hour", &[(0, Plain, Some(5)), (10, Plain, Some(10)), (3_700, Plain, Some(5))]);
        check("once may be a mistake", &[(0, Doubtful, None), (70, Doubtful, None), (80, Doubtful, None)]);
        check("three times is none", &[(0, Doubtful, None), (1, Doubtful, None), (2, Doubtful, Some(5))]);
    }

    #[test]
    fn one_neighbors_offense_keeps_nobody_else_out() {
        let exclusions = Exclusions::default();
        let (rogue, honest, now) = ("sukajadi".parse().unwrap(), "sail".parse().unwrap(), Instant::now());
        exclusions.note(&rogue, Offense::Plain, now);
        assert!(exclusions.left(&rogue, now).is_some() && exclusions.left(&honest, now).is_none());
    }
}
