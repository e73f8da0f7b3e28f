//! Pekanbaru 2013: rolling blackouts. A cut at the branch in Sukajadi stopped three sub-districts, one at the main server
//! all twelve.

use std::time::Duration;

use estafet_topology::Template;

use crate::drill::Stage;
use crate::drill::calendar::cuts;
use crate::drill::measures::{Figure, Row};
use crate::drill::script::{DAY, Jumps, MINUTE, Pace, Script, offices};
use crate::seeded::Seeded;

pub(super) const STORY: &str = "\
Each of the twelve sub-districts, and the main server, loses its power twice a day for 15 minutes to
2 hours, two of three times in the evening. No site has a battery.
As it was: the tree of 2013. With Estafet: the template pekanbaru.";

pub(super) const DAYS: u32 = 60;

/// A counter tries every quarter of an hour; one time in thirty it is an enrollment, else a message of 1 KiB.
const PACE: Pace = Pace { slot: MINUTE.saturating_mul(15), enrollment_one_in: 30 };

/// The last cut may end at midnight; what waited for it has this long to arrive.
const AFTERWARDS: Duration = Duration::from_secs(600);

pub(super) const FIGURES: &[Figure] =
    &[Figure { row: Row::MinutesLost, at_most: 0.0 }, Figure { row: Row::Refused, at_most: 0.0 }];

pub(super) fn stage(seed: u64, days: u32) -> Stage {
    let (plan, old_plan) = (Template::Pekanbaru.plan(), Template::Pekanbaru2013.plan());
    let offices = offices(&old_plan);
    let mut seeded = Seeded::new(seed ^ 0x2013);
    let mut script = Script { end: DAY * days + AFTERWARDS, jumps: Jumps::WhereNothingHappens, ..Script::default() };
    for day in 0..days {
        for node in &plan.nodes {
            for (from, until) in cuts(day, &mut seeded) {
                script.cut_power(&node.id, from, until);
            }
        }
        script.open_counters(&offices, day, PACE, &mut seeded);
    }
    Stage { plan, old_plan, script: script.in_order() }
}
