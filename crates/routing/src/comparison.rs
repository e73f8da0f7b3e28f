//! Whether two neighbors still hold the same LSAs: each tells the other a digest of its own now and then.
//!
//! Flooding over a session loses nothing, but a driver may drop from a full queue. A digest that differs once means
//! little, for an LSA may be on its way; one that goes on differing is answered with a summary, and a summary with what its
//! sender lacks. Both ends judge for themselves and may both send one: each finds out only what its own sender lacks.

use std::time::Duration;

use estafet_model::Now;

use crate::adjacency::HEARTBEAT_INTERVAL_QUIET;

/// How often a neighbor is told the digest, with a heartbeat that is sent anyway.
const DIGEST_INTERVAL: Duration = HEARTBEAT_INTERVAL_QUIET;

/// How long digests may differ: longer than an LSA is on its way over a slow line, behind others.
const DIFFERENCE_MAX: Duration = Duration::from_secs(8);

/// How long a lost LSA can stay lost between two neighbors: until the next digest, then until one comes that shows the
/// difference to have lasted; and half a second for the summary and its answer.
pub const REPAIRED_WITHIN: Duration = Duration::from_millis(12_500);

/// What was told and heard of digests since the neighbor came up.
#[derive(Debug, Clone, Default)]
pub(crate) struct Comparison {
    told: Option<Now>,
    differs_since: Option<Now>,
}

impl Comparison {
    /// A heartbeat is being sent: true if the digest is to go with it, and then it counts as told.
    pub(crate) fn is_to_be_told(&mut self, now: Now) -> bool {
        let due = self.told.is_none_or(|told| told + DIGEST_INTERVAL <= now);
        if due {
            self.told = Some(now);
        }
        due
    }

    /// The neighbor told its digest, and it is the `same` as here or not; true if it is to be sent a summary.
    pub(crate) fn differs_for_long(&mut self, now: Now, same: bool) -> bool {
        if same {
            self.differs_since = None;
            return false;
        }
        let since = *self.differs_since.get_or_insert(now);
        let long = since + DIFFERENCE_MAX <= now;
        if long {
            // The next is due when this one has had as much time.
            self.differs_since = Some(now);
        }
        long
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Now {
        Now(Duration::from_secs(seconds))
    }

    #[test]
    fn the_digest_goes_with_a_heartbeat_every_two_seconds() {
        let mut comparison = Comparison::default();
        let told = (0..100).filter(|tenth| comparison.is_to_be_told(Now(Duration::from_millis(tenth * 100)))).count();
        assert_eq!(told, 5, "in ten seconds at the quick pace");
    }

    #[test]
    fn only_a_difference_that_lasts_is_answered() {
        // Whether the digests heard every two seconds were the same, and after how many seconds summaries were sent.
        let rows: [(&[bool], &[u64]); 5] = [
            (&[true; 9], &[]),
            (&[false, true, false, true, false, true, false, true, false], &[]),
            (&[false, false, false, false, true, false, false, false, false], &[]),
            (&[true, false, false, false, false, false, true, true, true], &[10]),
            (&[false; 10], &[8, 16]),
        ];
        for (heard, expected) in rows {
            let mut comparison = Comparison::default();
            let times = heard.iter().zip((0..).step_by(2));
            let sent = times.filter(|(same, second)| comparison.differs_for_long(at(*second), **same));
            assert_eq!(sent.map(|(_, second)| second).collect::<Vec<_>>(), expected, "{heard:?}");
        }
    }
}
