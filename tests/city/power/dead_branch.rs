//! A branch dies for good with records in it that the main server has not seen.

use std::thread;
use std::time::{Duration, Instant};

use super::lab::{LAB_TOOLS, Lab};
use super::load::hand_in;
use super::namespace::{alone, report};
use crate::harness::{City, Given, wait_for};

/// What the branch is to hold when it dies.
const RECORDS: usize = 1_000;
const RECORD_BYTES: usize = 1 << 10;

/// Too little for more than a few records a second, enough for all that is not payload.
const WEAK_KILOBITS_PER_SECOND: u32 = 128;

/// Rumbai's other links, and the branch's others than those to Rumbai and the main server.
const PAST_THE_BRANCH: [(&str, &str); 2] = [("rumbai", "senapelan"), ("rumbai", "rumbai-pesisir")];
const OUT_OF_THE_BRANCH: [(&str, &str); 2] = [("sukajadi", "senapelan"), ("sukajadi", "rumbai-pesisir")];

const DELIVERED_WITHIN: Duration = Duration::from_secs(10);

/// What the branch may be sent when it returns: news, but not the MiB again that has gone another way.
const RETURN_BYTES_MAX: u64 = 256 << 10;

#[test]
fn a_branch_that_dies_for_good_takes_nothing_with_it() {
    alone("power::dead_branch::a_branch_that_dies_for_good_takes_nothing_with_it", LAB_TOOLS, || {
        let mut city = City::running("pekanbaru");
        let mut lab = Lab::new(&city);
        lab.slow_down("sukajadi", "induk", WEAK_KILOBITS_PER_SECOND);
        let (given, held) = lead_into_the_branch(&city, &lab);

        city.kill("sukajadi");
        let death = Instant::now();
        wait_for("all of them are committed", || {
            (city.metric("induk", "estafet_records_committed_total")? >= given.len() as u64).then_some(())
        });
        let delivered = death.elapsed();
        city.assert_honored(&given);
        assert!(delivered < DELIVERED_WITHIN, "the last of {held} came {delivered:.1?} after the death");

        for (one, other) in OUT_OF_THE_BRANCH {
            lab.heal(one, other);
        }
        let links = [("rumbai", "sukajadi"), ("sukajadi", "induk")];
        let before = links.map(|(one, other)| lab.bytes_both_ways(one, other));
        city.start("sukajadi");
        wait_for("it has come back and holds nothing", || {
            (city.metric("sukajadi", "estafet_records_held")? == 0).then_some(())
        });
        wait_for("rumbai takes the better way again", || {
            (city.next_hops("rumbai")?.get("rumbai")? == "sukajadi").then_some(())
        });
        // What would travel twice would do so now.
        thread::sleep(Duration::from_secs(1));
        let after = links.map(|(one, other)| lab.bytes_both_ways(one, other));
        let carried = [after[0] - before[0], after[1] - before[1]];
        city.assert_honored(&given);
        report(&format!(
            "a branch dies for good with {held} unreceipted records: all committed {delivered:.1?} after its death, none \
             twice; at its return its links to the origin and the main server carry {} and {} KiB",
            carried[0] >> 10,
            carried[1] >> 10
        ));
        assert!(carried.iter().all(|bytes| *bytes < RETURN_BYTES_MAX), "it was sent {carried:?} bytes at its return");
    });
}

/// Fills the branch while it is the only way from Rumbai and its weak link the only way on, whoever thinks what of that
/// link; then Rumbai has its other ways again, and the branch keeps what it holds.
fn lead_into_the_branch(city: &City, lab: &Lab) -> (Vec<Given>, u64) {
    for (one, other) in PAST_THE_BRANCH.into_iter().chain(OUT_OF_THE_BRANCH) {
        lab.cut(one, other);
    }
    let filled = fill_the_branch(city);
    for (one, other) in PAST_THE_BRANCH {
        lab.heal(one, other);
    }
    wait_for("rumbai has a better way than by the branch", || {
        (city.next_hops("rumbai")?.get("rumbai")? != "sukajadi").then_some(())
    });
    filled
}

/// Hands in records at Rumbai until Sukajadi holds so many; a few get through to the main server meanwhile.
fn fill_the_branch(city: &City) -> (Vec<Given>, u64) {
    let url = city.intake("rumbai");
    let mut given = hand_in(&url, 0..RECORDS as u64, RECORD_BYTES);
    let held = wait_for("the branch holds them", || {
        let held = city.metric("sukajadi", "estafet_records_held")?;
        let committed = city.metric("induk", "estafet_records_committed_total")?;
        if held >= RECORDS as u64 {
            return Some(held);
        }
        if held + committed >= given.len() as u64 {
            let first = given.len() as u64;
            given.extend(hand_in(&url, first..first + 20, RECORD_BYTES));
        }
        None
    });
    (given, held)
}
