//! When to run SPF: at once after a quiet time, with growing pauses while changes keep coming (after RFC 8405).

use std::time::Duration;

use estafet_model::Now;

/// The first pause between two runs. A node's death reaches its neighbors' LSAs one by one within a few round
/// trips; this gathers them, and is what alternates bridge.
pub const SPF_HOLD_MIN: Duration = Duration::from_millis(50);

/// The longest pause: under [`crate::DEAD_AFTER`], so that routing never lags a whole detection behind.
pub const SPF_HOLD_MAX: Duration = Duration::from_millis(400);

/// After this long without a run the next change is news again, not part of a storm.
pub const SPF_QUIET: Duration = Duration::from_secs(1);

/// Decides when SPF runs. The caller runs it and says so.
#[derive(Debug, Clone)]
pub(crate) struct SpfSchedule {
    hold: Duration,
    last_run: Option<Now>,
    due: Option<Now>,
}

impl SpfSchedule {
    pub(crate) fn new() -> Self {
        Self { hold: SPF_HOLD_MIN, last_run: None, due: None }
    }

    /// Something changed: true if SPF should run now, otherwise it is due later.
    pub(crate) fn request(&mut self, now: Now) -> bool {
        let earliest = self.last_run.map_or(now, |last| last + self.hold);
        if now < earliest {
            self.due.get_or_insert(earliest);
        }
        now >= earliest
    }

    /// Something changed for which an answer is ready: SPF runs later, also after a quiet time.
    pub(crate) fn defer(&mut self, now: Now) {
        if self.request(now) {
            self.due.get_or_insert(now + SPF_HOLD_MIN);
        }
    }

    pub(crate) fn due(&self) -> Option<Now> {
        self.due
    }

    pub(crate) fn ran(&mut self, now: Now) {
        let quiet = self.last_run.is_none_or(|last| now.since(last) >= SPF_QUIET);
        self.hold = if quiet { SPF_HOLD_MIN } else { (self.hold * 2).min(SPF_HOLD_MAX) };
        self.last_run = Some(now);
        self.due = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: u64) -> Now {
        Now(Duration::from_millis(millis))
    }

    #[test]
    fn a_storm_is_answered_in_growing_steps_and_a_single_change_at_once() {
        let mut schedule = SpfSchedule::new();
        let mut runs = Vec::new();
        for millis in (0..2000).chain(4000..4001) {
            let due = schedule.due().is_some_and(|due| due <= at(millis));
            if schedule.request(at(millis)) || due {
                schedule.ran(at(millis));
                runs.push(millis);
            }
        }
        assert_eq!(runs, [0, 50, 150, 350, 750, 1150, 1550, 1950, 4000]);
    }

    #[test]
    fn a_deferred_run_waits_even_after_a_quiet_time() {
        let mut schedule = SpfSchedule::new();
        schedule.defer(at(5000));
        assert_eq!(schedule.due(), Some(at(5050)));
        schedule.defer(at(5010));
        assert_eq!(schedule.due(), Some(at(5050)));
    }
}
