//! Shares of a busy node. While a node has more to do than it can, a neighbor that takes more of it than the others on
//! average is read more slowly, step by step, until the rest is served or it has no more than they; when the node has time
//! again, its pace comes back. A node with time to spare, or with one neighbor that sends, slows nobody.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::time::Instant;

use crate::allowance::{Credit, Terms};

/// How often shares are looked at.
pub(crate) const LOOK_EVERY: Duration = Duration::from_millis(100);

/// The part of its time that a node works without a pause, from which on it is busy.
const BUSY: f64 = 0.85;

/// A piece of payload costs about as much as so many bytes of it.
const UNIT_BYTES: u64 = 16 << 10;

/// A little more than the mean is no reason to slow anybody.
const SLACK: f64 = 1.1;

/// What is left of a pace after a busy look, and what a quiet one makes of it.
const SLOWER: f64 = 0.7;
const FASTER: f64 = 1.1;

/// Who takes less than this in a second does not count as one who shares.
const COUNTS_FROM: f64 = 1.0;

/// Nobody is made slower than this: so little burdens no node, and who has sent little until now may have to send much.
const SLOWEST: f64 = 128.0;

/// What one neighbor takes of this node, and how much it may.
#[derive(Debug, Default)]
pub(crate) struct Share {
    /// Since the last look.
    taken: AtomicU64,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// What it took in a second, lately.
    pace: f64,
    bound: Option<(f64, Credit)>,
}

impl Share {
    /// Pieces were read. Says how long the next are to wait.
    pub(crate) fn take(&self, pieces: u64, bytes: u64, now: Instant) -> Duration {
        let units = pieces + bytes / UNIT_BYTES;
        self.taken.fetch_add(units, Ordering::Relaxed);
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.bound.as_mut().map_or(Duration::ZERO, |(_, credit)| credit.spend(units, now))
    }
}

/// Looks at what all have taken since the last look.
pub(crate) fn look(shares: &[&Share], is_busy: bool, now: Instant) {
    let mut states: Vec<_> =
        shares.iter().map(|share| share.state.lock().unwrap_or_else(PoisonError::into_inner)).collect();
    for (share, state) in shares.iter().zip(&mut states) {
        let taken = share.taken.swap(0, Ordering::Relaxed) as f64 / LOOK_EVERY.as_secs_f64();
        state.pace = (state.pace + taken) / 2.0;
    }
    let sharing: Vec<f64> = states.iter().map(|state| state.pace).filter(|pace| *pace >= COUNTS_FROM).collect();
    let mean = sharing.iter().sum::<f64>() / sharing.len().max(1) as f64;
    for state in &mut states {
        let pace = state.pace;
        let before = state.bound.as_ref().map(|(bound, _)| *bound);
        let bound = if is_busy {
            let is_heavy = pace > SLACK * mean.max(SLOWEST);
            if is_heavy { Some((before.unwrap_or(pace).min(pace) * SLOWER).max(mean).max(SLOWEST)) } else { before }
        } else {
            before.map(|bound| bound * FASTER).filter(|bound| *bound < 2.0 * pace)
        };
        match (bound.map(|bound| (bound, terms(bound))), &mut state.bound) {
            (Some((bound, terms)), Some((before, credit))) => {
                *before = bound;
                credit.set_terms(terms);
            }
            (next, before) => *before = next.map(|(bound, terms)| (bound, Credit::new(terms, now))),
        }
    }
}

/// A pace as an allowance: what comes between two looks may be taken at once.
#[expect(clippy::cast_possible_truncation, reason = "no pace comes near 2^64 units a second")]
fn terms(pace: f64) -> Terms {
    let whole = |units: f64| units.max(1.0) as u64;
    Terms { per_second: whole(pace), at_once: whole(pace * LOOK_EVERY.as_secs_f64()) }
}

/// How much of its time this node works.
pub(crate) struct Workload {
    busy: Duration,
    at: Instant,
}

impl Workload {
    pub(crate) fn new() -> Self {
        Self { busy: busy_until_now(), at: Instant::now() }
    }

    /// True if the node worked nearly all the time since this was asked last.
    pub(crate) fn is_busy(&mut self) -> bool {
        let before = std::mem::replace(self, Self::new());
        let busy = self.busy.saturating_sub(before.busy).as_secs_f64();
        busy > BUSY * (self.at - before.at).as_secs_f64()
    }
}

/// What the busiest of the runtime's threads has worked; here there is one.
fn busy_until_now() -> Duration {
    let metrics = Handle::current().metrics();
    (0..metrics.num_workers()).map(|worker| metrics.worker_total_busy_duration(worker)).max().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What each neighbor wants in a second; each gets as much as it may, and what it had in the last second is told.
    fn settle(shares: &[Share], wanted: &[u64], is_busy: bool) -> Vec<u64> {
        let began = Instant::now();
        let mut had = vec![0; shares.len()];
        let mut next = vec![began; shares.len()];
        for step in 0..500_u32 {
            let now = began + Duration::from_millis(10) * step;
            for ((share, wanted), (had, next)) in shares.iter().zip(wanted).zip(had.iter_mut().zip(&mut next)) {
                if *next <= now {
                    *next = now + share.take(wanted / 100, 0, now);
                    *had += if step >= 400 { wanted / 100 } else { 0 };
                }
            }
            if step % 10 == 9 {
                look(&shares.iter().collect::<Vec<_>>(), is_busy, now);
            }
        }
        had
    }

    fn shares(count: usize) -> Vec<Share> {
        (0..count).map(|_| Share::default()).collect()
    }

    #[test]
    fn a_node_with_time_to_spare_slows_nobody() {
        assert_eq!(settle(&shares(3), &[100, 10_000, 100], false), [100, 10_000, 100]);
    }

    #[test]
    fn who_sends_alone_is_never_slowed() {
        assert_eq!(settle(&shares(3), &[0, 10_000, 0], true), [0, 10_000, 0]);
    }

    #[test]
    fn on_a_busy_node_nobody_has_much_more_than_the_mean() {
        let wanted = [&[10_000][..], &[200; 11]].concat();
        let had = settle(&shares(12), &wanted, true);
        assert_eq!(had[1..], [200; 11], "who takes what others take is not slowed");
        assert!((100..=300).contains(&had[0]), "{}", had[0]);
        let had = settle(&shares(4), &[1_000; 4], true);
        assert_eq!(had, [1_000; 4], "nobody is slowed for all");
    }

    #[test]
    fn who_sends_little_is_not_slowed_for_those_who_send_less() {
        assert_eq!(settle(&shares(3), &[100, 100, 0], true), [100, 100, 0]);
        let shares = shares(2);
        assert_eq!(settle(&shares, &[100, 0], true), [100, 0]);
        assert_eq!(shares[0].take(1_000, 0, Instant::now()), Duration::ZERO, "it was never bound");
    }

    #[test]
    fn when_the_node_has_time_again_the_pace_comes_back() {
        let (shares, wanted) = (shares(4), [8_000, 200, 200, 200]);
        assert!(settle(&shares, &wanted, true)[0] < 400);
        settle(&shares, &wanted, false);
        assert_eq!(settle(&shares, &wanted, false), wanted);
    }
}
