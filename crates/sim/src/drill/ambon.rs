//! Ambon 2019: the telephone exchange burned. Hours of nothing, then two weeks of "it works, but loads long and drops
//! again".

use std::time::Duration;

use estafet_model::NodeId;
use estafet_topology::{CityPlan, Medium};

use crate::drill::Stage;
use crate::drill::measures::{Figure, Row};
use crate::drill::network_plan::{city, line, office, site};
use crate::drill::script::{DAY, HOUR, Jumps, Line, MINUTE, Pace, Script};
use crate::seeded::Seeded;

pub(super) const STORY: &str = "\
Two offices. All lines are dead on the first day from 5:00 for 10 hours. For the 14 days after that
each is up for 45 s and down for 10 s on the average (exponential); it carries 128 to 512 kbit/s and
loses 5 to 30 % of its packets, drawn anew each hour; one way takes 40 ms.
As it was: one line for each office.
With Estafet: the same, and a backup bearer at a quarter of that, which comes and goes as well; it
stands at a relay of its own beside the office's.";

/// That of the fire, and two weeks.
pub(super) const DAYS: u32 = 15;

/// A counter tries every three minutes; one time in six it is an enrollment. Some 20 MiB a day.
const PACE: Pace = Pace { slot: MINUTE.saturating_mul(3), enrollment_one_in: 6 };

/// When the exchange burns, and for how long nothing goes.
const FIRE: Duration = Duration::from_secs(5 * 3600);
const NOTHING: Duration = Duration::from_secs(10 * 3600);

/// How long a line is up and down, on the average.
const UP: Duration = Duration::from_secs(45);
const DOWN: Duration = Duration::from_secs(10);

/// What a line carries in a second, in thousands of bits, and how many of a thousand packets it loses.
const KILOBITS: (usize, usize) = (128, 512);
const LOSSES_PER_MILLE: (usize, usize) = (50, 300);
const LATENCY: Duration = Duration::from_millis(40);

/// What of that a backup bearer carries.
const BACKUP_SHARE: u64 = 4;

pub(super) const FIGURES: &[Figure] =
    &[Figure { row: Row::MinutesLost, at_most: 0.0 }, Figure { row: Row::Refused, at_most: 0.0 }];

const OFFICES: [(&str, &str); 2] = [("sirimau", "Sirimau"), ("nusaniwe", "Nusaniwe")];

pub(super) fn stage(seed: u64, days: u32) -> Stage {
    let mut seeded = Seeded::new(seed ^ 0xab07);
    let mut script = Script { end: DAY * days, jumps: Jumps::WhereNobodyComes, ..Script::default() };
    let (plan, old_plan) = (plan(), old_plan());
    let end = script.end;
    for link in &old_plan.links {
        bad_weeks(&mut script, &link.ends, 1, end, &mut seeded);
    }
    for link in backup_lines() {
        bad_weeks(&mut script, &link.ends, BACKUP_SHARE, end, &mut seeded);
    }
    let offices = crate::drill::script::offices(&old_plan);
    for day in 0..days {
        script.open_counters(&offices, day, PACE, &mut seeded);
    }
    Stage { plan, old_plan, script: script.in_order() }
}

/// A line burns, and then comes and goes.
fn bad_weeks(script: &mut Script, ends: &[NodeId; 2], share: u64, end: Duration, seeded: &mut Seeded) {
    script.set_line(FIRE, ends, Line::DEAD);
    let mut at = FIRE + NOTHING;
    let mut drawn_until = at;
    let mut line = Line::GOOD;
    while at < end {
        if at >= drawn_until {
            line = draw(share, seeded);
            drawn_until += HOUR;
        }
        script.set_line(at, ends, line);
        let down = at + exponential(UP, seeded);
        let mut hour = drawn_until;
        while hour < down {
            line = draw(share, seeded);
            script.set_line(hour, ends, line);
            hour += HOUR;
        }
        drawn_until = hour;
        script.set_line(down, ends, Line { up: false, ..line });
        at = down + exponential(DOWN, seeded);
    }
    script.happenings.retain(|(at, _)| *at < end);
}

fn draw(share: u64, seeded: &mut Seeded) -> Line {
    let mut between = |(least, most): (usize, usize)| (least + seeded.below(most - least + 1)) as u64;
    let bits_per_second = between(KILOBITS) * 1000 / share;
    Line {
        up: true,
        bits_per_second: Some(bits_per_second),
        losses_per_mille: between(LOSSES_PER_MILLE),
        latency: Some(LATENCY),
    }
}

/// Exponentially distributed around this mean.
fn exponential(mean: Duration, seeded: &mut Seeded) -> Duration {
    // 53 bits are what a float holds; never 0, whose logarithm is none.
    let share = ((seeded.draw() >> 11) + 1) as f64 / (1_u64 << 53) as f64;
    mean.mul_f64(-share.ln())
}

fn old_plan() -> CityPlan {
    let lines = OFFICES.map(|(id, _)| line(["induk", id], Medium::Copper, 10, 512_000));
    city("ambon", "Kota Ambon", OFFICES.map(|(id, label)| office(id, label)), lines.to_vec())
}

fn plan() -> CityPlan {
    let mut plan = old_plan();
    for (id, label) in OFFICES {
        plan.nodes.push(site(&backup(id), &format!("{label}, second bearer")));
        plan.links.push(line([id, &backup(id)], Medium::Fiber, 1, 100_000_000));
    }
    plan.links.extend(backup_lines());
    plan
}

fn backup_lines() -> [estafet_topology::Link; 2] {
    OFFICES.map(|(id, _)| line(["induk", &backup(id)], Medium::Cellular, 40, 128_000))
}

fn backup(office: &str) -> String {
    format!("{office}-cadangan")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::drill::script::{Change, Happening};

    #[test]
    fn a_line_is_dead_for_ten_hours_and_then_up_for_45_seconds_on_the_average() {
        let mut script = Script::default();
        let ends = ["induk", "sirimau"].map(crate::city::id);
        bad_weeks(&mut script, &ends, 1, DAY * 5, &mut Seeded::new(7));
        let lines: Vec<(Duration, Line)> = script
            .happenings
            .iter()
            .map(|(at, happening)| match happening {
                Happening::Change(Change::Line(_, line)) => (*at, *line),
                _ => panic!("only lines change"),
            })
            .collect();
        assert_eq!((lines[0], lines[1].0, lines[1].1.up), ((FIRE, Line::DEAD), FIRE + NOTHING, true));
        let (mut up, mut downs) = (Duration::ZERO, 0);
        for pair in lines[1..].windows(2) {
            let [(at, line), (next, after)] = pair else { unreachable!("windows of two") };
            assert!(at <= next);
            if line.up {
                up += *next - *at;
                downs += u32::from(!after.up);
                assert!((128_000..=512_000).contains(&line.bits_per_second.unwrap()));
                assert!((50..=300).contains(&line.losses_per_mille));
            }
        }
        let mean = up / downs;
        assert!((UP * 9 / 10..UP * 11 / 10).contains(&mean), "{mean:?}");
    }
}
