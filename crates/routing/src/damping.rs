//! Keeping a neighbor out that comes and goes (the idea of route flap damping, RFC 2439).
//!
//! A neighbor that dies and returns is used at once if it was away for long: that is a power cut, and the power is back.
//! One that returns within seconds may be gone again as quickly, and stays out for a moment; one that has died twice
//! within half a minute stays out for a time that doubles with each further death. To stay out means to be the last
//! choice: who has no other way uses it all the same.

use std::collections::VecDeque;
use std::time::Duration;

use estafet_model::Now;

/// A neighbor that returns sooner than this after its death has not been given back by the power company.
const SHORT_ABSENCE: Duration = Duration::from_secs(4);

/// How long it is to be there then, without another death: longer than the pulse of a breaker that trips again.
const PROBATION: Duration = Duration::from_secs(3);

/// Two deaths within this time are flapping.
const FLAP_WINDOW: Duration = Duration::from_secs(30);

/// How long a flapping neighbor stays out, at first and at most: one that has come to stay is used again within 30 s.
const HOLD_FIRST: Duration = Duration::from_secs(5);
const HOLD_MAX: Duration = Duration::from_secs(20);

/// More deaths than make the longest hold need not be counted.
const DEATHS_MAX: usize = 8;

/// What is remembered of one neighbor's deaths.
#[derive(Debug, Clone, Default)]
pub(crate) struct Damping {
    deaths: VecDeque<Now>,
    out_until: Option<Now>,
}

impl Damping {
    /// The neighbor died. A goodbye is no death.
    pub(crate) fn died(&mut self, now: Now) {
        self.deaths.push_back(now);
        if self.deaths.len() > DEATHS_MAX {
            self.deaths.pop_front();
        }
    }

    /// It is back.
    pub(crate) fn returned(&mut self, now: Now) {
        self.deaths.retain(|death| now.since(*death) < FLAP_WINDOW);
        let hold = match (self.deaths.len(), self.deaths.back()) {
            (0, _) | (_, None) => Duration::ZERO,
            (1, Some(death)) if now.since(*death) >= SHORT_ABSENCE => Duration::ZERO,
            (1, Some(_)) => PROBATION,
            (deaths, Some(_)) => {
                let doublings = u32::try_from(deaths - 2).unwrap_or(u32::MAX).min(8);
                (HOLD_FIRST * (1 << doublings)).min(HOLD_MAX)
            }
        };
        self.out_until = (!hold.is_zero()).then(|| now + hold);
    }

    /// Until when the neighbor is the last choice, if it is.
    pub(crate) fn out_until(&self) -> Option<Now> {
        self.out_until
    }

    /// Time passed: true if that ends its being the last choice.
    pub(crate) fn handle_timeout(&mut self, now: Now) -> bool {
        self.out_until.take_if(|until| *until <= now).is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// When a neighbor died and when it returned, in seconds.
    type Absence = (u64, u64);

    fn at(seconds: u64) -> Now {
        Now(Duration::from_secs(seconds))
    }

    /// How long a neighbor stays out at the end, after these absences.
    fn hold_after(absences: &[Absence]) -> u64 {
        let mut damping = Damping::default();
        for (death, returned) in absences {
            damping.died(at(*death));
            damping.returned(at(*returned));
        }
        let last = absences.last().map_or(0, |(_, returned)| *returned);
        damping.out_until().map_or(0, |until| until.since(at(last)).as_secs())
    }

    #[test]
    fn deaths_close_together_keep_a_neighbor_out_ever_longer() {
        let rows: [(&str, &[Absence], u64); 7] = [
            ("the power was away", &[(0, 600)], 0),
            ("a moment of darkness", &[(0, 2)], 3),
            ("once more soon", &[(0, 2), (4, 6)], 5),
            ("and again", &[(0, 2), (4, 6), (8, 10)], 10),
            ("and again", &[(0, 2), (4, 6), (8, 10), (12, 14)], 20),
            ("never longer", &[(0, 2), (4, 6), (8, 10), (12, 14), (16, 18), (20, 22)], 20),
            ("two cuts an hour apart", &[(0, 600), (4_200, 4_800)], 0),
        ];
        for (what, deaths, expected) in rows {
            assert_eq!(hold_after(deaths), expected, "{what}");
        }
    }

    #[test]
    fn it_ends_by_time() {
        let mut damping = Damping::default();
        damping.died(at(0));
        damping.returned(at(1));
        assert!(!damping.handle_timeout(at(3)));
        assert!(damping.handle_timeout(at(4)));
        assert!(!damping.handle_timeout(at(5)));
        assert_eq!(damping.out_until(), None);
    }
}
