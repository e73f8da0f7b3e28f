//! When the power of a site goes: rolling blackouts as a company without enough plants has them.

use std::time::Duration;

use crate::drill::script::{DAY, HOUR, MINUTE, within};
use crate::seeded::Seeded;

/// How often a day.
pub(super) const CUTS_A_DAY: usize = 2;

/// How long a cut lasts.
pub(super) const SHORTEST: Duration = Duration::from_secs(15 * 60);
pub(super) const LONGEST: Duration = Duration::from_secs(2 * 3600);

/// Cuts begin within these hours; two of three in the evening, when lamps are lit.
const DAYTIME: (u32, u32) = (6, 17);
const EVENING: (u32, u32) = (17, 22);
const DAYTIME_ONE_IN: u64 = 3;

/// How long the power is back at least.
const BETWEEN: Duration = MINUTE;

/// The cuts of a site on one day, in order: from and until, since the first midnight. All are over by the next.
pub(super) fn cuts(day: u32, seeded: &mut Seeded) -> Vec<(Duration, Duration)> {
    let mut cuts: Vec<(Duration, Duration)> = Vec::with_capacity(CUTS_A_DAY);
    while cuts.len() < CUTS_A_DAY {
        let (first, end) = if seeded.one_in(DAYTIME_ONE_IN) { DAYTIME } else { EVENING };
        let from = DAY * day + HOUR * first + within(HOUR * (end - first), seeded);
        let until = from + SHORTEST + within(LONGEST - SHORTEST, seeded);
        if cuts.iter().all(|cut| until + BETWEEN <= cut.0 || cut.1 + BETWEEN <= from) {
            cuts.push((from, until));
        }
    }
    cuts.sort();
    cuts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_day_has_two_cuts_of_up_to_two_hours_and_most_begin_in_the_evening() {
        let (mut evening, mut all) = (0, 0);
        for seed in 0..500 {
            let mut seeded = Seeded::new(seed);
            for day in 0..4 {
                let cuts = cuts(day, &mut seeded);
                let [first, second] = cuts[..] else { panic!("seed {seed}: {cuts:?}") };
                assert!(DAY * day <= first.0 && first.1 < second.0 && second.1 <= DAY * (day + 1), "{cuts:?}");
                for (from, until) in cuts {
                    assert!((SHORTEST..=LONGEST).contains(&(until - from)), "seed {seed}");
                    evening += u32::from(from - DAY * day >= HOUR * EVENING.0);
                    all += 1;
                }
            }
        }
        assert!((all * 55 / 100..all * 75 / 100).contains(&evening), "{evening} of {all} in the evening");
    }
}
