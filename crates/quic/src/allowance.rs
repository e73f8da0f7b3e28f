//! What one neighbor may take of this node in a while. What it takes beyond is not refused but read later: QUIC's flow
//! control slows whoever sends it, and nobody else waits.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use estafet_model::NodeId;
use tokio::sync::Mutex as Turn;
use tokio::time::{Instant, sleep};

use crate::turns::Place;

/// Control: a frame counts one, and one more for each 128 bytes. The busiest chain here takes a fifth of the pace; the
/// whole database of an area of ten thousand nodes is within the most that may come at once.
const CONTROL: Terms = Terms { per_second: 8_000, at_once: 32_768 };
const CONTROL_UNIT_BYTES: usize = 128;

/// A stream that is opened costs a task and its buffer. A session needs one for each class, and one for each trial.
const STREAM_UNITS: u64 = 64;

/// Payload that is of no use: what is here already, what nobody asked for, what is refused, padding. A piece counts one, and
/// one more for each 4 KiB. Diverted records come twice with good reason: all that a neighbor may have been handed, at once.
const WASTE: Terms = Terms { per_second: 500, at_once: 8_192 };
const WASTE_UNIT_BYTES: u64 = 4 << 10;

/// How fast credit comes, and how much of it there can be.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Terms {
    pub(crate) per_second: u64,
    pub(crate) at_once: u64,
}

/// What is left of an allowance. Below zero it is debt, which time pays.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Credit {
    terms: Terms,
    left: f64,
    at: Instant,
}

impl Credit {
    pub(crate) fn new(terms: Terms, now: Instant) -> Self {
        Self { terms, left: terms.at_once as f64, at: now }
    }

    /// Takes so many units, and says how long it takes to pay what is owed then.
    pub(crate) fn spend(&mut self, units: u64, now: Instant) -> Duration {
        let Terms { per_second, at_once } = self.terms;
        let come = now.duration_since(self.at).as_secs_f64() * per_second as f64;
        self.left = (self.left + come).min(at_once as f64) - units as f64;
        self.at = now;
        Duration::from_secs_f64((-self.left).max(0.0) / per_second as f64)
    }

    /// True if nothing of it is spent.
    pub(crate) fn is_whole(&mut self, now: Instant) -> bool {
        self.spend(0, now);
        self.left >= self.terms.at_once as f64
    }
}

/// One neighbor's allowances, over all its bearers and sessions.
#[derive(Debug)]
pub(crate) struct Allowance {
    control: Mutex<Credit>,
    waste: Mutex<Credit>,
    /// Its one place in the queue of pieces, however many streams and bearers it has.
    place: Arc<Turn<u64>>,
}

impl Allowance {
    fn new(now: Instant) -> Self {
        let credit = |terms| Mutex::new(Credit::new(terms, now));
        Self { control: credit(CONTROL), waste: credit(WASTE), place: Arc::default() }
    }

    /// A control frame of so many bytes was read: waits until the next may be.
    pub(crate) async fn frame(&self, bytes: usize) {
        pay(&self.control, 1 + (bytes / CONTROL_UNIT_BYTES) as u64).await;
    }

    /// A stream was opened: waits until the next may be.
    pub(crate) async fn stream(&self) {
        pay(&self.control, STREAM_UNITS).await;
    }

    /// Payload was of no use.
    pub(crate) fn wasted(&self, pieces: u64, bytes: u64) {
        lock(&self.waste).spend(pieces + bytes / WASTE_UNIT_BYTES, Instant::now());
    }

    /// Waits until more payload may be read.
    pub(crate) async fn payload(&self) {
        pay(&self.waste, 0).await;
    }

    /// Its place in the queue of pieces, as soon as none of its runs waits there.
    pub(crate) async fn place(&self) -> Place {
        Arc::clone(&self.place).lock_owned().await
    }
}

async fn pay(credit: &Mutex<Credit>, units: u64) {
    let debt = lock(credit).spend(units, Instant::now());
    if !debt.is_zero() {
        sleep(debt).await;
    }
}

fn lock(credit: &Mutex<Credit>) -> MutexGuard<'_, Credit> {
    credit.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The allowances of all neighbors that ever had a session: as many as topologies have named.
#[derive(Debug, Default)]
pub(crate) struct Allowances(Mutex<BTreeMap<NodeId, Arc<Allowance>>>);

impl Allowances {
    pub(crate) fn of(&self, neighbor: &NodeId) -> Arc<Allowance> {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let allowance = all.entry(neighbor.clone()).or_insert_with(|| Arc::new(Allowance::new(Instant::now())));
        Arc::clone(allowance)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_spent_beyond_is_owed_and_time_pays_it() {
        let began = Instant::now();
        let at = |ms| began + Duration::from_millis(ms);
        let mut credit = Credit::new(Terms { per_second: 100, at_once: 50 }, began);
        // When, how much, and how long the next has to wait.
        let rows = [
            (0, 50, 0),
            (0, 1, 10),
            (0, 9, 100),
            (50, 0, 50),
            (100, 0, 0),
            (200, 10, 0),
            (60_000, 50, 0),
            (60_000, 1, 10),
        ];
        for (when, units, expected) in rows {
            assert_eq!(credit.spend(units, at(when)).as_millis(), expected, "{units} at {when} ms");
        }
        assert!(!credit.is_whole(at(60_100)) && credit.is_whole(at(61_000)));
    }

    #[test]
    fn a_neighbor_has_one_allowance_over_all_its_sessions() {
        let allowances = Allowances::default();
        let [a, b] = ["a", "b"].map(|id| id.parse::<NodeId>().unwrap());
        assert!(Arc::ptr_eq(&allowances.of(&a), &allowances.of(&a)));
        assert!(!Arc::ptr_eq(&allowances.of(&a), &allowances.of(&b)));
    }
}
