//! Cuts and blackouts, each one that a city has seen.

use std::time::Duration;

use estafet_model::{Class, NodeId, Now};
use estafet_topology::Template;

use estafet_custody::CustodyEvent;
use estafet_node::NodeEvent;
use estafet_sim::{City, Condition, id, millis};

const SECOND: Duration = Duration::from_secs(1);

/// Each node captures some of each size, a little apart.
fn capture_everywhere(city: &mut City, rounds: usize) {
    for _ in 0..rounds {
        for node in city.node_ids().iter().filter(|node| city.is_running(node)).collect::<Vec<_>>() {
            for bytes in [0, 4 << 10, 64 << 10] {
                city.capture(node.as_str(), Class::Normal, bytes);
            }
        }
        city.run_for(millis(20));
    }
}

fn committed_at(city: &City, record: &estafet_model::RecordId) -> Option<Now> {
    city.events.iter().find_map(|(at, _, event)| match event {
        NodeEvent::Custody(CustodyEvent::Committed(id)) if id == record => Some(*at),
        _ => None,
    })
}

#[test]
fn a_branch_that_dies_in_mid_flow_delays_rumbai_by_less_than_a_second() {
    for seed in 0..10 {
        let mut city = City::settled(Template::Pekanbaru, seed);
        capture_everywhere(&mut city, 4);
        city.capture("rumbai", Class::Normal, 600 << 10);
        city.run_for(millis(30));
        // What only its own disk has stays there until it returns; its neighbors' records do not.
        city.kill(&id("sukajadi"));
        let killed = city.now;
        let first = city.capture("rumbai", Class::Urgent, 4 << 10);
        city.run_for(5 * SECOND);
        let committed = committed_at(&city, &city.slip(first)).expect("rumbai has another way");
        assert!(committed.since(killed) < SECOND, "seed {seed}: {:?} after the kill", committed.since(killed));
        for office in ["rumbai", "rumbai-pesisir", "senapelan"] {
            let held = |city: &City| city.node(office).custody().held_count();
            assert!(city.run_until(20 * SECOND, |city| held(city) == 0), "seed {seed}: {office} waits for the dead");
        }
        city.heal_all();
        city.must_deliver_within(30 * SECOND);
    }
}

#[test]
fn in_2013_both_rumbai_hold_while_their_branch_is_dark_and_the_ledger_says_so() {
    let mut city = City::settled(Template::Pekanbaru2013, 11);
    city.kill(&id("sukajadi"));
    city.run_for(SECOND);
    for office in ["rumbai", "rumbai-pesisir"] {
        for bytes in [0, 4 << 10, 600 << 10] {
            let token = city.capture(office, Class::Normal, bytes);
            city.run_for(SECOND);
            assert!(city.answers[&token].is_ok(), "{office} gives slips in the dark");
        }
        let audit = city.node(office).audit();
        let own = audit.origins.iter().find(|origin| origin.node == id(office)).unwrap();
        assert_eq!((own.captured, own.held, own.receipted), (3, 3, 0));
    }
    city.restart(&id("sukajadi"));
    city.must_deliver_within(30 * SECOND);
}

#[test]
fn the_main_server_returns_from_a_crash_in_mid_flow() {
    for seed in 20..30 {
        let mut city = City::settled(Template::Pekanbaru, seed);
        capture_everywhere(&mut city, 3);
        city.kill(&id("induk"));
        capture_everywhere(&mut city, 3);
        city.run_for(5 * SECOND);
        let held: u64 = offices(&city).iter().map(|node| city.node(node.as_str()).custody().held_count()).sum();
        assert!(held > 0, "the counters went on");
        city.restart(&id("induk"));
        city.must_deliver_within(60 * SECOND);
    }
}

#[test]
fn the_ledger_knows_no_missing_record_while_the_city_is_in_pieces() {
    let mut city = City::settled(Template::Pekanbaru, 31);
    for (one, other) in [("induk", "tampan"), ("tampan", "payung-sekaki"), ("induk", "sail")] {
        city.cut(city.link(one, other));
    }
    for _ in 0..40 {
        capture_everywhere(&mut city, 1);
        city.run_for(millis(250));
        for observer in city.node_ids() {
            let audit = city.node(observer.as_str()).audit();
            for origin in &audit.origins {
                assert!(origin.missing.is_empty(), "at {:?} {observer} misses {:?}", city.now, origin.missing);
                assert_eq!(origin.captured, origin.receipted + origin.held, "{observer} of {}", origin.node);
            }
        }
    }
    let sail = city.node("sail").audit().origins.into_iter().find(|origin| origin.node == id("sail")).unwrap();
    assert_eq!((sail.captured, sail.held), (120, 120), "what a cut-off office captured, it holds");
    city.heal_all();
    city.must_deliver_within(60 * SECOND);
}

#[test]
fn an_office_that_is_cut_off_for_a_moment_loses_nothing() {
    for gap in [50, 400, 600, 1_900, 2_100, 6_000] {
        let mut city = City::settled(Template::Pekanbaru2013, 40 + gap);
        let link = city.link("induk", "sukajadi");
        capture_everywhere(&mut city, 2);
        city.cut(link);
        capture_everywhere(&mut city, 2);
        city.run_for(millis(gap));
        city.heal(link);
        capture_everywhere(&mut city, 2);
        city.must_deliver_within(60 * SECOND);
    }
}

fn offices(city: &City) -> Vec<NodeId> {
    city.node_ids().into_iter().filter(|node| *node != id("induk")).collect()
}

#[test]
fn a_record_that_overtakes_another_does_not_make_it_missing() {
    let mut city = City::settled(Template::Pekanbaru, 50);
    // Told at once; of what follows the origin's word comes half a second later, and one receipt before it.
    city.capture("rumbai", Class::Normal, 0);
    city.run_for(millis(150));
    let slow = city.capture("rumbai", Class::Normal, 600 << 10);
    let fast = city.capture("rumbai", Class::Normal, 4 << 10);
    city.run_for(millis(50));
    let mut overtaken = false;
    for _ in 0..300 {
        city.run_for(millis(10));
        overtaken |= city.is_committed(&city.slip(fast)) && !city.is_committed(&city.slip(slow));
        for observer in city.node_ids() {
            let audit = city.node(observer.as_str()).audit();
            let missing: Vec<_> = audit.origins.iter().flat_map(|origin| origin.missing.iter()).collect();
            assert!(missing.is_empty(), "at {:?} {observer} misses {missing:?}", city.now);
        }
    }
    assert!(overtaken, "the small one was first");
}

#[test]
fn a_link_that_was_slow_is_used_again_as_soon_as_it_carries_a_page_in_half_a_second_and_not_before() {
    let mut city = City::settled(Template::Pekanbaru, 16);
    let link = city.link("rumbai", "sukajadi");
    let is_used = |city: &City| city.node("rumbai").router().next_hops()[0].neighbor == id("sukajadi");
    let line = |bits_per_second| Condition { bits_per_second: Some(bits_per_second), ..Condition::default() };
    assert!(is_used(&city));
    city.set_condition(link, Condition { latency: Some(millis(300)), ..line(900_000) });
    assert!(city.run_until(10 * SECOND, |city| !is_used(city)), "it is left");
    // 64 KiB take 0.58 s, heartbeats next to nothing.
    city.set_condition(link, line(900_000));
    assert!(!city.run_until(600 * SECOND, is_used), "it is as slow as before");
    assert!(city.node("rumbai").router().gray(&id("sukajadi")).is_some());
    // Now they take 0.44 s.
    city.set_condition(link, line(1_200_000));
    assert!(city.run_until(40 * SECOND, is_used), "the next trial shows it");
    capture_everywhere(&mut city, 2);
    city.must_deliver_within(30 * SECOND);
}
