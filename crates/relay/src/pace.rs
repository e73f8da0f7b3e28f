//! How fast this node's own captures fill its disk.

use std::collections::BTreeMap;
use std::time::Duration;

use estafet_model::{ByteCount, Now, UnixMillis};

const HOUR: Duration = Duration::from_secs(3600);

/// The hours that count, the present one included.
const HOURS: u64 = 24;
const DAY: Duration = Duration::from_secs(HOURS * HOUR.as_secs());

/// What is older by the wall clock was stored while that clock was wrong.
const AGE_MAX: Duration = Duration::from_secs(366 * DAY.as_secs());

/// What own captures took of the disk in the last day, by the hour. Its time begins a day before the process, for what
/// was stored before.
#[derive(Debug, Clone, Default)]
pub(crate) struct Pace {
    /// Of at most [`HOURS`] hours, and those that have passed since one was added.
    hours: BTreeMap<u64, u64>,
    /// When the oldest capture that is known came.
    oldest: Option<Duration>,
}

impl Pace {
    /// An own capture was found in the store at the start. What the wall clocks of then and now make nonsense of does not
    /// count.
    pub(crate) fn found(&mut self, stored_at: UnixMillis, wall_clock: UnixMillis, bytes: ByteCount) {
        let age = wall_clock.0.checked_sub(stored_at.0).map(Duration::from_millis);
        if let Some(age) = age.filter(|age| *age <= AGE_MAX) {
            self.add(DAY.saturating_sub(age), bytes);
        }
    }

    /// An own capture was stored.
    pub(crate) fn stored(&mut self, now: Now, bytes: ByteCount) {
        let at = DAY + now.0;
        self.add(at, bytes);
        self.hours.retain(|hour, _| *hour >= first_hour(at));
    }

    fn add(&mut self, at: Duration, bytes: ByteCount) {
        *self.hours.entry(hour(at)).or_default() += bytes.0;
        self.oldest = Some(self.oldest.map_or(at, |oldest| oldest.min(at)));
    }

    /// How much an hour brought in the last day, or since the oldest capture that is known, which is taken for an hour
    /// old at least.
    pub(crate) fn per_hour(&self, now: Now) -> ByteCount {
        let at = DAY + now.0;
        let Some(oldest) = self.oldest else { return ByteCount(0) };
        let first = first_hour(at);
        let bytes: u64 = self.hours.range(first..).map(|(_, bytes)| bytes).sum();
        let since = oldest.max(HOUR * u32::try_from(first).unwrap_or(u32::MAX));
        let covered = at.saturating_sub(since).max(HOUR);
        let per_hour = u128::from(bytes) * HOUR.as_millis() / covered.as_millis();
        ByteCount(u64::try_from(per_hour).unwrap_or(u64::MAX))
    }
}

fn hour(at: Duration) -> u64 {
    at.as_secs() / HOUR.as_secs()
}

/// The first of the hours that count.
fn first_hour(at: Duration) -> u64 {
    (hour(at) + 1).saturating_sub(HOURS)
}

#[cfg(test)]
mod tests {
    use super::*;

    const WALL_CLOCK: UnixMillis = UnixMillis(1_375_786_800_000);
    const MINUTE_MS: i64 = 60_000;
    const HOUR_MS: i64 = 60 * MINUTE_MS;

    /// After a start that found these captures, by their age.
    fn started(found: &[(i64, u64)]) -> Pace {
        let mut pace = Pace::default();
        for (age_ms, bytes) in found {
            let stored_at = UnixMillis(WALL_CLOCK.0.checked_add_signed(-age_ms).unwrap());
            pace.found(stored_at, WALL_CLOCK, ByteCount(*bytes));
        }
        pace
    }

    fn at(hours: u64) -> Now {
        Now(Duration::from_secs(hours * 3600))
    }

    #[test]
    fn what_was_found_counts_by_its_age() {
        let year_1970 = i64::try_from(WALL_CLOCK.0).unwrap();
        for (found, per_hour, why) in [
            (&[][..], 0, "nothing was captured"),
            (&[(MINUTE_MS, 600)], 600, "an hour at least"),
            (&[(4 * HOUR_MS, 600), (MINUTE_MS, 200)], 200, "since the oldest"),
            (&[(30 * HOUR_MS, 5_000), (HOUR_MS, 2_300)], 100, "what is older than a day only shows that it was there"),
            (&[(30 * HOUR_MS, 5_000)], 0, "nothing for a day"),
            (&[(-HOUR_MS, 5_000), (MINUTE_MS, 600)], 600, "the future is left out"),
            (&[(year_1970, 5_000), (MINUTE_MS, 600)], 600, "so is a clock that began anew"),
        ] {
            assert_eq!(started(found).per_hour(at(0)), ByteCount(per_hour), "{why}");
        }
    }

    #[test]
    fn a_day_is_forgotten_hour_by_hour() {
        let mut pace = started(&[(2 * HOUR_MS, 2_400)]);
        assert_eq!(pace.per_hour(at(0)), ByteCount(1_200));
        pace.stored(at(2), ByteCount(2_400));
        assert_eq!(pace.per_hour(at(2)), ByteCount(1_200));
        assert_eq!(pace.per_hour(at(10)), ByteCount(400));
        assert_eq!(pace.per_hour(at(22)), ByteCount(2_400 / 23), "the first capture is a day old");
        assert_eq!(pace.per_hour(at(26)), ByteCount(0));
    }

    #[test]
    fn a_year_of_captures_is_kept_in_a_day_of_hours() {
        let mut pace = Pace::default();
        for hour in 0..366 * 24 {
            pace.stored(at(hour), ByteCount(1_000));
        }
        assert_eq!(pace.hours.len(), 24);
        assert_eq!(pace.per_hour(at(366 * 24 - 1)), ByteCount(24_000 / 23));
    }
}
