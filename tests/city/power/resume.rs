//! A large record over a link that breaks again and again: what has arrived is not sent again.

use super::lab::{LAB_TOOLS, Lab};
use super::namespace::{alone, report};
use crate::harness::{CHAIN, City, Given, capture, noise, wait_for};

const PAYLOAD_BYTES: usize = 8 << 20;

/// The link's queue never overflows while so much passes in one go: measured is what the relays send again, not what
/// QUIC sends again over a link that loses datagrams.
const KILOBITS_PER_SECOND: u32 = 25_000;

/// What passes between two cuts, and between two deaths, at least.
const CUT_AFTER_BYTES: u64 = 150 << 10;
const KILL_AFTER_BYTES: u64 = 400 << 10;

const CUTS: u64 = 20;
const KILLS: u64 = 5;

/// Of the payload, in percent: what may pass toward the receiver in all, the headers of QUIC and IP included. These are 6
/// without any cut; at each cut half a chunk and a greeting are added.
const WIRE_PERCENT_MAX: u64 = 110;

/// The same when the receiver dies: what it had received and not yet synced is lost with it, a tenth of a second's
/// worth on a busy disk.
const WIRE_PERCENT_MAX_AFTER_DEATHS: u64 = 120;

/// The same when another neighbor takes over, with what both say to each other and to the main server.
const WIRE_PERCENT_MAX_OF_TWO: u64 = 115;

fn percent(bytes: u64) -> u64 {
    (bytes * 100).div_ceil(PAYLOAD_BYTES as u64)
}

/// A chain whose first link is slow, and a record on its way.
fn under_way() -> (City, Lab, Given) {
    let mut city = City::new("pekanbaru-2013");
    CHAIN.iter().for_each(|node| city.start(node));
    city.wait_for_path(&CHAIN);
    let mut lab = Lab::new(&city);
    lab.slow_down("rumbai", "sukajadi", KILOBITS_PER_SECOND);
    let given = capture(&city.intake("rumbai"), &noise(1, PAYLOAD_BYTES), &[]);
    (city, lab, given)
}

fn wait_for_bytes(lab: &Lab, from: &str, to: &str, bytes: u64) {
    wait_for("a part of the payload passes", || (lab.bytes(from, to) >= bytes).then_some(()));
}

fn downs(city: &City, node: &str) -> usize {
    city.log(node).matches("adjacency down").count()
}

#[test]
fn a_record_goes_on_where_it_stopped_after_each_of_twenty_cuts() {
    alone("power::resume::a_record_goes_on_where_it_stopped_after_each_of_twenty_cuts", LAB_TOOLS, || {
        let (city, lab, given) = under_way();
        for _ in 0..CUTS {
            wait_for_bytes(&lab, "rumbai", "sukajadi", lab.bytes("rumbai", "sukajadi") + CUT_AFTER_BYTES);
            let before = ["rumbai", "sukajadi"].map(|node| downs(&city, node));
            lab.cut("rumbai", "sukajadi");
            for (node, before) in ["rumbai", "sukajadi"].iter().zip(before) {
                wait_for("the session is given up", || (downs(&city, node) > before).then_some(()));
            }
            assert_eq!(
                city.metric("sukajadi", "estafet_records_held"),
                Some(0),
                "the record arrived before the last cut"
            );
            lab.heal("rumbai", "sukajadi");
        }
        city.assert_honored(&[given]);
        let (there, back) = (lab.bytes("rumbai", "sukajadi"), lab.bytes("sukajadi", "rumbai"));
        report(&format!(
            "resume: 8 MiB over a link cut {CUTS} times: {}% of the payload on the wire, {}% with what came back; over the \
             next link, which was not cut, {}%",
            percent(there),
            percent(there + back),
            percent(lab.bytes("sukajadi", "induk"))
        ));
        assert!(percent(there) <= WIRE_PERCENT_MAX, "{there} bytes passed");
    });
}

#[test]
fn a_record_goes_on_where_it_stopped_after_each_death_of_the_receiver() {
    alone("power::resume::a_record_goes_on_where_it_stopped_after_each_death_of_the_receiver", LAB_TOOLS, || {
        let (mut city, lab, given) = under_way();
        for _ in 0..KILLS {
            wait_for_bytes(&lab, "rumbai", "sukajadi", lab.bytes("rumbai", "sukajadi") + KILL_AFTER_BYTES);
            // Its radio dies with it and comes back when it has started: what is sent to a dead machine passes nowhere.
            let before = downs(&city, "rumbai");
            lab.cut("rumbai", "sukajadi");
            city.kill("sukajadi");
            wait_for("the session is given up", || (downs(&city, "rumbai") > before).then_some(()));
            city.start("sukajadi");
            lab.heal("rumbai", "sukajadi");
        }
        city.assert_honored(&[given]);
        let (there, back) = (lab.bytes("rumbai", "sukajadi"), lab.bytes("sukajadi", "rumbai"));
        report(&format!(
            "resume: 8 MiB to a receiver killed {KILLS} times: {}% of the payload on the wire, {}% with what came back",
            percent(there),
            percent(there + back)
        ));
        assert!(percent(there) <= WIRE_PERCENT_MAX_AFTER_DEATHS, "{there} bytes passed");
    });
}

#[test]
fn half_of_a_record_by_one_branch_and_half_by_another_is_a_record() {
    alone("power::resume::half_of_a_record_by_one_branch_and_half_by_another_is_a_record", LAB_TOOLS, || {
        let city = City::running("pekanbaru");
        let mut lab = Lab::new(&city);
        lab.slow_down("sukajadi", "induk", KILOBITS_PER_SECOND);
        let given = capture(&city.intake("rumbai"), &noise(1, PAYLOAD_BYTES), &[]);
        wait_for_bytes(&lab, "sukajadi", "induk", PAYLOAD_BYTES as u64 / 2);
        lab.cut("sukajadi", "induk");
        city.assert_honored(&[given]);
        let halves = ["sukajadi", "senapelan"].map(|branch| lab.bytes(branch, "induk"));
        let other: u64 =
            city.offices().iter().map(|office| lab.bytes(office, "induk")).sum::<u64>() - halves[0] - halves[1];
        report(&format!(
            "resume: 8 MiB to the main server, cut off for good in the middle: {}% of the payload by one branch, {}% by \
             another, all else at the main server {} KiB",
            percent(halves[0]),
            percent(halves[1]),
            other >> 10
        ));
        assert!(percent(halves[0] + halves[1]) <= WIRE_PERCENT_MAX_OF_TWO, "{halves:?} bytes passed");
    });
}
