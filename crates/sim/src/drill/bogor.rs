//! Bogor 2019: the power went on, off, on, off, and the way to the centre with it. The head of the office learned of it
//! the next morning from the staff; papers were taken in and printed later.

use std::time::Duration;

use estafet_topology::{CityPlan, Medium};

use crate::drill::Stage;
use crate::drill::measures::{Figure, Row};
use crate::drill::network_plan::{city, line, office};
use crate::drill::script::{DAY, HOUR, Line, MINUTE, Pace, Script, within};
use crate::seeded::Seeded;

pub(super) const STORY: &str = "\
Three offices. The line of Bogor Tengah to the main server is dead from about 8:30 for 5 to 7 hours,
that of Bogor Timur, the last one, from 11:30 for 2 hours. In the morning the power of Bogor Tengah
goes three times, for 1 to 6 minutes, with 1 to 20 minutes between.
As it was: Bogor Barat hangs on Bogor Tengah, and each office has one way.
With Estafet: two radio links more, from Bogor Timur to both others.";

pub(super) const DAYS: u32 = 1;

/// How often the power goes.
const FLAPS: usize = 3;

/// A counter tries every minute; one time in ten it is an enrollment.
const PACE: Pace = Pace { slot: MINUTE, enrollment_one_in: 10 };

pub(super) const FIGURES: &[Figure] =
    &[Figure { row: Row::MinutesLost, at_most: 0.0 }, Figure { row: Row::Refused, at_most: 0.0 }];

pub(super) fn stage(seed: u64, days: u32) -> Stage {
    let mut seeded = Seeded::new(seed ^ 0xb060);
    let mut script = Script { end: DAY * days, ..Script::default() };
    let old_plan = old_plan();
    let offices = crate::drill::script::offices(&old_plan);
    for day in 0..days {
        let dark = DAY * day + HOUR * 8 + MINUTE * 20 + within(MINUTE * 20, &mut seeded);
        let upstream = old_plan.links[0].ends.clone();
        script.set_line(dark, &upstream, Line::DEAD);
        script.set_line(dark + HOUR * 5 + within(HOUR * 2, &mut seeded), &upstream, Line::GOOD);
        let last = DAY * day + HOUR * 11 + MINUTE * 30;
        script.set_line(last, &old_plan.links[1].ends, Line::DEAD);
        script.set_line(last + HOUR * 2, &old_plan.links[1].ends, Line::GOOD);
        let mut at = dark + MINUTE * 10 + within(HOUR, &mut seeded);
        for _ in 0..FLAPS {
            let back = at + off(&mut seeded);
            script.cut_power(&offices[0], at, back);
            at = back + MINUTE + within(MINUTE * 19, &mut seeded);
        }
        script.open_counters(&offices, day, PACE, &mut seeded);
    }
    let mut plan = old_plan.clone();
    plan.links.push(line(["tengah", "timur"], Medium::Radio, 15, 10_000_000));
    plan.links.push(line(["barat", "timur"], Medium::Radio, 15, 10_000_000));
    Stage { plan, old_plan, script: script.in_order() }
}

fn off(seeded: &mut Seeded) -> Duration {
    MINUTE + within(MINUTE * 5, seeded)
}

fn old_plan() -> CityPlan {
    let offices = [("tengah", "Bogor Tengah"), ("timur", "Bogor Timur"), ("barat", "Bogor Barat")];
    let offices = offices.map(|(id, label)| office(id, label));
    let links = vec![
        line(["induk", "tengah"], Medium::Fiber, 10, 10_000_000),
        line(["induk", "timur"], Medium::Fiber, 10, 10_000_000),
        line(["tengah", "barat"], Medium::Radio, 10, 4_000_000),
    ];
    city("bogor", "Kota Bogor", offices, links)
}
