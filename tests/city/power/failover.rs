//! Around what is dark: how long records wait when a neighbor dies, leaves, returns, goes bad or flaps.

use std::thread;
use std::time::{Duration, Instant};

use super::busy_loops::BusyLoops;
use super::flow::{NOISE, Network, OLD_WAY, RECORD_BYTES, all_given, in_its_turn, median, time_until_first_hop};
use super::lab::LAB_TOOLS;
use super::load::number;
use super::namespace::{alone, report};
use crate::harness::{City, capture, noise, wait_for};

/// How long the power is away: longer than what counts as the pulse of a breaker. A part of the drill, nothing waits for
/// it.
const AWAY: Duration = Duration::from_secs(4);

/// Deaths of each kind in a run of all tests; `ESTAFET_TRIALS` makes more.
const TRIALS: u64 = 3;

/// For so long whoever was busy with a neighbor goes on watching it closely, and a little longer.
const LINGER: Duration = Duration::from_secs(11);

/// How long a link of 64 kbit/s stays slow after it was left: what was under way on it takes half a minute, and after ten
/// good seconds it is tried.
const STAYS_SLOW: Duration = Duration::from_secs(60);

/// By then the next trial has come: no rest of a link is longer than five minutes.
const TRIED_AGAIN: Duration = Duration::from_secs(330);

/// How long until Rumbai uses Sukajadi, if it does by then.
fn time_until_used(city: &City, span: Duration) -> Option<Duration> {
    let begin = Instant::now();
    let is_used =
        || city.next_hops("rumbai").is_some_and(|hops| hops.get("rumbai").is_some_and(|hop| hop == "sukajadi"));
    while begin.elapsed() < span {
        if is_used() {
            return Some(begin.elapsed());
        }
        thread::sleep(Duration::from_millis(200));
    }
    None
}

/// A dead Sukajadi lives again, and is used again.
fn revive(network: &mut Network) {
    network.lab.hear_again("sukajadi");
    network.city.start("sukajadi");
    network.city.wait_for_path(&OLD_WAY);
}

#[test]
fn a_silent_death_costs_the_flow_a_moment_and_no_record() {
    alone("power::failover::a_silent_death_costs_the_flow_a_moment_and_no_record", LAB_TOOLS, || {
        let trials = number("ESTAFET_TRIALS").unwrap_or(TRIALS);
        let mut network = Network::new();
        let (mut all, mut deaths, mut stranded, mut returns, mut idle) = (vec![], vec![], vec![], vec![], vec![]);
        let mut noises = vec![];
        let mut used_again = None;
        for _ in 0..trials {
            let sent = network.flow(|city, lab| {
                lab.silence("sukajadi");
                city.kill("sukajadi");
            });
            let (gap, slowest) = network.delays_of_the_blow(&sent);
            deaths.push(gap);
            stranded.push(slowest);
            noises.push(network.noise(&sent));
            all.extend(all_given([sent]));
            thread::sleep(AWAY);
            let sent = network.flow(|city, lab| {
                lab.hear_again("sukajadi");
                city.start("sukajadi");
                // It had been steady before it died the first time, and only then.
                used_again.get_or_insert_with(|| time_until_first_hop(city, "sukajadi"));
            });
            returns.push(network.delays(&sent).1);
            all.extend(all_given([sent]));
            network.city.wait_for_path(&OLD_WAY);

            network.wait_until_idle();
            network.lab.silence("sukajadi");
            network.city.kill("sukajadi");
            let body = noise(u64::MAX - all.len() as u64, RECORD_BYTES);
            let begin = Instant::now();
            let record = capture(&network.city.intake("rumbai"), &body, &[]);
            let commit = network.commits.moments(&[&record.record_id]);
            idle.push(commit[0].saturating_duration_since(begin));
            all.push(record);
            thread::sleep(AWAY);
            revive(&mut network);
        }
        report(&in_its_turn(&deaths, noises));
        let worst = |spans: &[Duration]| *spans.iter().max().unwrap();
        let spans = [worst(&deaths), worst(&stranded), worst(&returns), worst(&idle)];
        let [gap, while_idle] = [median(&mut deaths), median(&mut idle)];
        report(&format!(
            "{trials} silent deaths of sukajadi under 20 records/s: no commit for {gap:.0?} (median), {:.0?} (worst); the \
             slowest record took {:.0?}; while idle, capture to commit {while_idle:.0?} (median), {:.0?} (worst); the slowest \
             record at its return {:.0?}; used again {:.0?} after its start, having been steady before",
            spans[0],
            spans[1],
            spans[3],
            spans[2],
            used_again.unwrap()
        ));
        network.city.assert_honored(&all);
        assert!(gap < Duration::from_millis(100) * NOISE && while_idle < Duration::from_millis(150) * NOISE);
        assert!(median(&mut stranded) < Duration::from_secs(1) * NOISE);
        assert!(used_again.unwrap() < Duration::from_secs(1) * NOISE);
    });
}

#[test]
fn a_goodbye_costs_nothing() {
    alone("power::failover::a_goodbye_costs_nothing", LAB_TOOLS, || {
        let mut network = Network::new();
        let sent = network.flow(|city, _| city.stop("sukajadi"));
        let (gap, slowest) = network.delays_of_the_blow(&sent);
        report(&format!(
            "sukajadi is shut down under flow: no commit for {gap:.0?}, the slowest record took {slowest:.0?}"
        ));
        network.city.assert_honored(&all_given([sent]));
        assert!(gap < Duration::from_millis(100) * NOISE);
    });
}

#[test]
fn a_bad_link_is_left_within_three_seconds_and_used_again_after_ten_good_ones() {
    let test = "power::failover::a_bad_link_is_left_within_three_seconds_and_used_again_after_ten_good_ones";
    alone(test, LAB_TOOLS, || {
        let mut network = Network::new();
        let (mut left, mut used_again) = (None, None);
        let sent = network.flow(|city, lab| {
            lab.lose("rumbai", "sukajadi", 30);
            left = Some(time_until_first_hop(city, "senapelan"));
            lab.lose_nothing("rumbai", "sukajadi");
            used_again = Some(time_until_first_hop(city, "sukajadi"));
        });
        let slowest = network.delays(&sent).1;
        report(&format!(
            "a link that loses 30 %: left after {:.1?}, used again {:.1?} after it healed, the slowest record took \
             {slowest:.0?}",
            left.unwrap(),
            used_again.unwrap()
        ));
        assert!(left.unwrap() < Duration::from_secs(3) * NOISE);
        assert!(used_again.unwrap() > Duration::from_secs(9));
        network.city.assert_honored(&all_given([sent]));
    });
}

#[test]
fn a_link_that_has_become_slow_is_left_within_three_seconds_and_used_again_when_it_has_carried_a_trial() {
    let test = "power::failover::\
                a_link_that_has_become_slow_is_left_within_three_seconds_and_used_again_when_it_has_carried_a_trial";
    alone(test, LAB_TOOLS, || {
        let mut network = Network::new();
        let mut left = None;
        let sent = network.flow(|city, lab| {
            lab.slow_down("rumbai", "sukajadi", 64);
            left = Some(time_until_first_hop(city, "senapelan"));
        });
        let slowest = network.delays(&sent).1;
        assert_eq!(time_until_used(&network.city, STAYS_SLOW), None, "it is as slow as before");
        network.lab.speed_up("rumbai", "sukajadi");
        let used_again = time_until_used(&network.city, TRIED_AGAIN).unwrap();
        report(&format!(
            "a link that falls to 64 kbit/s: left after {:.1?}, the slowest record took {slowest:.0?}; not used while it was \
             slow, {STAYS_SLOW:.0?} more; used again {used_again:.1?} after it healed",
            left.unwrap()
        ));
        assert!(left.unwrap() < Duration::from_secs(3) * NOISE);
        let after = network.flow(|_, _| {});
        network.city.assert_honored(&all_given([sent, after]));
    });
}

#[test]
fn a_silent_death_on_a_machine_that_has_no_time_costs_little_more() {
    alone("power::failover::a_silent_death_on_a_machine_that_has_no_time_costs_little_more", LAB_TOOLS, || {
        let trials = number("ESTAFET_TRIALS").unwrap_or(TRIALS);
        let mut network = Network::new();
        let loops = BusyLoops::start(4);
        let (mut gaps, mut stranded, mut all, mut noises) = (vec![], vec![], vec![], vec![]);
        for _ in 0..trials {
            let sent = network.flow(|city, lab| {
                lab.silence("sukajadi");
                city.kill("sukajadi");
            });
            let (gap, slowest) = network.delays_of_the_blow(&sent);
            gaps.push(gap);
            stranded.push(slowest);
            noises.push(network.noise(&sent));
            all.extend(all_given([sent]));
            thread::sleep(AWAY);
            revive(&mut network);
        }
        drop(loops);
        report(&in_its_turn(&gaps, noises));
        let median = median(&mut gaps);
        report(&format!(
            "{trials} silent deaths of sukajadi with four busy loops beside it: no commit for {median:.0?} (median), \
             {:.0?} (worst); the slowest record took {:.0?}",
            gaps.last().unwrap(),
            stranded.iter().max().unwrap()
        ));
        network.city.assert_honored(&all);
        assert!(median < Duration::from_millis(500) * NOISE);
    });
}

#[test]
fn a_link_that_fails_one_way_is_left_like_a_dead_one() {
    alone("power::failover::a_link_that_fails_one_way_is_left_like_a_dead_one", LAB_TOOLS, || {
        let mut network = Network::new();
        let mut all = Vec::new();
        for (from, to) in [("rumbai", "sukajadi"), ("sukajadi", "rumbai")] {
            // At the beginning of a session both ends watch each other closely in any case.
            all.extend(all_given([network.flow(|_, _| thread::sleep(LINGER))]));
            let deaths = |city: &City| city.metric("rumbai", "estafet_neighbor_deaths_total");
            let before = deaths(&network.city).unwrap();
            let mut dead = None;
            let sent = network.flow(|city, lab| {
                lab.cut_one_way(from, to);
                let begin = Instant::now();
                wait_for("a death", || (deaths(city)? > before).then_some(()));
                dead = Some(begin.elapsed());
            });
            let ((gap, slowest), dead) = (network.delays_of_the_blow(&sent), dead.unwrap());
            report(&format!(
                "nothing passes from {from} to {to}, the other way all does: no commit for {gap:.0?}, the slowest record \
                 took {slowest:.0?}, dead after {dead:.1?}"
            ));
            all.extend(all_given([sent]));
            assert!(gap < Duration::from_secs(1) * NOISE && dead < Duration::from_secs(2) * NOISE);
            network.lab.heal_one_way(from, to);
            network.city.wait_for_path(&OLD_WAY);
        }
        network.city.assert_honored(&all);
    });
}

#[test]
fn a_planned_drain_delays_no_record() {
    alone("power::failover::a_planned_drain_delays_no_record", LAB_TOOLS, || {
        let mut network = Network::new();
        let before = network.flow(|_, _| thread::sleep(AWAY));
        let during = network.flow(|city, _| {
            city.ask(&["drain", "sukajadi", "--reason", "a drill"]).unwrap();
            time_until_first_hop(city, "senapelan");
        });
        let [usual, drained] = [&before, &during].map(|sent| network.latencies(sent));
        let half = |latencies: &[Duration]| latencies[latencies.len() / 2];
        let (usual_worst, worst) = (*usual.last().unwrap(), *drained.last().unwrap());
        report(&format!(
            "capture to commit around a planned drain of sukajadi: {:.0?} (median), {worst:.0?} (worst); before it \
             {:.0?} (median), {usual_worst:.0?} (worst)",
            half(&drained),
            half(&usual)
        ));
        network.city.assert_honored(&all_given([before, during]));
        assert!(half(&drained) < half(&usual) * NOISE);
    });
}
