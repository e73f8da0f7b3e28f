//! Trials: what a link that was slow has to carry before it is believed good again.
//!
//! A heartbeat passes a line of 64 kbit/s as quickly as any other, so that the measurements of an unused link say nothing of
//! what it carries. Only a load does; and the load itself is to take little of a link that is slow.

use std::time::Duration;

use estafet_model::Now;

/// After a trial that failed a link rests so many times as long as that took, so that trials take at most 5 % of it; and no
/// longer than this.
const REST_FACTOR: u32 = 20;
const REST_MAX: Duration = Duration::from_secs(300);

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Trial {
    /// There is none.
    #[default]
    Over,
    /// It is under way.
    UnderWay { since: Now },
    /// It has failed, and what was sent of it may still stand in the queues of the line.
    Failed { since: Now },
}

/// The trials of one link: one at a time, with rests.
#[derive(Debug, Clone, Default)]
pub(crate) struct Trials {
    trial: Trial,
    rests_until: Now,
}

impl Trials {
    /// Begins one, if it is time; true if it is.
    pub(crate) fn begin(&mut self, now: Now) -> bool {
        let begins = self.trial == Trial::Over && now >= self.rests_until;
        if begins {
            self.trial = Trial::UnderWay { since: now };
        }
        begins
    }

    /// The link has carried the one under way, or not. True if there was one.
    pub(crate) fn end(&mut self, carried: bool) -> bool {
        let Trial::UnderWay { since } = self.trial else { return false };
        self.trial = if carried { Trial::Over } else { Trial::Failed { since } };
        true
    }

    /// The link measures well, or its session is over: nothing of an earlier trial is left in its queues.
    pub(crate) fn line_is_free(&mut self, now: Now) {
        if let Trial::Failed { since } = self.trial {
            self.rests_until = now + (now.since(since) * REST_FACTOR).min(REST_MAX);
            self.trial = Trial::Over;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Now {
        Now(Duration::from_secs(seconds))
    }

    #[test]
    fn after_a_failure_the_link_rests_twenty_times_as_long_and_at_most_five_minutes() {
        for (took, rest) in [(1, 20), (3, 60), (20, 300)] {
            let mut trials = Trials::default();
            assert!(trials.begin(at(100)) && !trials.begin(at(100)), "one at a time");
            assert!(trials.end(false) && !trials.begin(at(100 + took)), "its bytes are still under way");
            trials.line_is_free(at(100 + took));
            assert!(!trials.begin(at(100 + took + rest - 1)) && trials.begin(at(100 + took + rest)));
        }
    }

    #[test]
    fn an_answer_to_no_trial_is_none_and_what_was_carried_needs_no_rest() {
        let mut trials = Trials::default();
        assert!(!trials.end(true));
        assert!(trials.begin(at(1)) && trials.end(true) && !trials.end(true));
        assert!(trials.begin(at(1)));
    }
}
