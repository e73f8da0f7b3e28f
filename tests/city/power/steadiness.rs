//! What does not die is not taken for dead, and what comes and goes is left alone until it has come to stay.

use std::thread;
use std::time::Duration;

use super::busy_loops::BusyLoops;
use super::flow::{NOISE, Network, Sent, all_given, time_until_first_hop};
use super::lab::LAB_TOOLS;
use super::load::number;
use super::namespace::{alone, report};
use crate::harness::City;

/// How long nobody may be taken for dead; `ESTAFET_MINUTES=10` is the long run.
fn watched_for() -> Duration {
    number("ESTAFET_MINUTES").map_or(Duration::from_secs(20), |minutes| Duration::from_secs(minutes * 60))
}

/// Records flow for that long.
fn assert_nobody_dies(network: &mut Network, what: &str) {
    let before = network.deaths();
    let sent = network.flow(|_, _| thread::sleep(watched_for()));
    let (gap, slowest) = network.delays(&sent);
    let deaths = network.deaths() - before;
    report(&format!(
        "{what} for {:.0?}: {deaths} neighbors taken for dead; no commit for {gap:.0?} at most, the slowest record took \
         {slowest:.0?}",
        watched_for()
    ));
    network.city.assert_honored(&all_given([sent]));
    assert_eq!(deaths, 0);
}

#[test]
fn a_machine_that_has_no_time_kills_nobody() {
    alone("power::steadiness::a_machine_that_has_no_time_kills_nobody", LAB_TOOLS, || {
        let mut network = Network::new();
        let loops = BusyLoops::start(4);
        assert_nobody_dies(&mut network, "four busy loops beside the flow");
        drop(loops);
    });
}

#[test]
fn five_percent_of_loss_kills_nobody() {
    alone("power::steadiness::five_percent_of_loss_kills_nobody", LAB_TOOLS, || {
        let mut network = Network::new();
        let nodes = network.city.node_ids();
        for (one, other) in nodes.iter().flat_map(|one| nodes.iter().map(move |other| (one, other))) {
            if one < other {
                network.lab.lose(one, other, 5);
            }
        }
        assert_nobody_dies(&mut network, "5 % lost each way on every link");
    });
}

/// The pulse of what flaps, and for how long it does.
const PULSE: Duration = Duration::from_secs(2);
const PULSES: u32 = 15;

/// How long the same is measured while nothing flaps: what the machine and its other users cost.
const UNDISTURBED: Duration = Duration::from_secs(10);

#[test]
fn a_neighbor_that_flaps_is_left_alone_until_it_has_come_to_stay() {
    let test = "power::steadiness::a_neighbor_that_flaps_is_left_alone_until_it_has_come_to_stay";
    alone(test, LAB_TOOLS, || {
        let mut network = Network::new();
        let usual = network.flow(|_, _| thread::sleep(UNDISTURBED));
        let mut changes = Vec::new();
        let flapping = network.flow(|city, lab| {
            let before = first_hops(city).len();
            for _ in 0..PULSES {
                lab.silence("sukajadi");
                thread::sleep(PULSE);
                lab.hear_again("sukajadi");
                thread::sleep(PULSE);
            }
            changes = first_hops(city).split_off(before);
        });
        let mut used_again = None;
        let after = network.flow(|city, _| used_again = Some(time_until_first_hop(city, "sukajadi")));
        let (slowest, used_again) = (network.delays(&flapping).1, used_again.unwrap());
        let per_mille = |sent: &[Sent], span: Duration| {
            let without = network.time_without_progress(sent);
            u32::try_from(without.as_micros() * 1_000 / span.as_micros()).unwrap()
        };
        let (noise, stalled) = (per_mille(&usual, UNDISTURBED), per_mille(&flapping, PULSE * 2 * PULSES));
        report(&format!(
            "sukajadi off and on every 2 s for a minute: {} path changes at rumbai, {}.{} % of the time \
             without progress ({}.{} % before), the slowest record took {slowest:.0?}; used again {used_again:.1?} after it \
             came to stay",
            changes.len(),
            stalled / 10,
            stalled % 10,
            noise / 10,
            noise % 10
        ));
        network.city.assert_honored(&all_given([usual, flapping, after]));
        assert!(changes.len() <= 2 && used_again < Duration::from_secs(30), "{changes:#?}");
        assert!(stalled < 16 * NOISE + noise);
    });
}

/// What Rumbai said of its first choices since it began, each other than the one before.
fn first_hops(city: &City) -> Vec<String> {
    let log = city.log("rumbai");
    let mut changes: Vec<&str> = log.lines().filter(|line| line.contains("the way to the hub changed")).collect();
    changes.dedup_by_key(|line| line.split('[').nth(1).unwrap().split([',', ']']).next().unwrap());
    changes.into_iter().map(str::to_owned).collect()
}
