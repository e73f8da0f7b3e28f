//! Records on their way when nothing is broken: all sizes from all offices, and who goes first.

use std::time::Duration;

use estafet_model::Class;
use estafet_topology::Template;

use estafet_sim::City;

const SECOND: Duration = Duration::from_secs(1);

/// Empty, inline and unoffered, inline and offered, in three chunks.
const SIZES: [usize; 4] = [0, 4 << 10, 64 << 10, 600 << 10];

#[test]
fn every_size_from_every_node_arrives() {
    for template in Template::ALL {
        let mut city = City::settled(template, 1);
        for node in city.node_ids() {
            for bytes in SIZES {
                city.capture(node.as_str(), Class::Normal, bytes);
            }
        }
        city.must_deliver_within(30 * SECOND);
        let audit = city.node("induk").audit();
        assert!(audit.origins.iter().all(|origin| origin.captured == 4), "{audit:?}");
    }
}

#[test]
fn a_small_record_is_committed_in_a_tenth_of_a_second() {
    let mut city = City::settled(Template::Pekanbaru, 2);
    let token = city.capture("rumbai", Class::Normal, 4 << 10);
    let committed = |city: &City| city.answers.contains_key(&token) && city.is_committed(&city.slip(token));
    assert!(city.run_until(SECOND / 10, committed), "two hops, three syncs");
}

#[test]
fn urgent_passes_a_backlog_of_bulk_which_goes_on() {
    let mut city = City::settled(Template::Pekanbaru2013, 3);
    let bulk: Vec<_> = (0..400).map(|_| city.capture("rumbai", Class::Bulk, 64 << 10)).collect();
    city.run_for(5 * SECOND);
    let arrived = |city: &City| bulk.iter().filter(|token| city.is_committed(&city.slip(**token))).count();
    let before = arrived(&city);
    for _ in 0..20 {
        let urgent = city.capture("rumbai", Class::Urgent, 4 << 10);
        let committed = |city: &City| city.answers.contains_key(&urgent) && city.is_committed(&city.slip(urgent));
        assert!(city.run_until(SECOND, committed), "an urgent record waits behind bulk");
    }
    city.run_for(5 * SECOND);
    let after = arrived(&city);
    assert!(before < after && after < bulk.len(), "bulk goes on, and was a backlog all the time: {before}, {after}");
    city.must_deliver_within(120 * SECOND);
}

#[test]
fn bulk_is_slowed_by_what_is_normal_and_not_starved() {
    let mut city = City::settled(Template::Pekanbaru2013, 4);
    // More than what a window takes, so that bulk has to be picked while normal waits.
    let normal: Vec<_> = (0..800).map(|_| city.capture("rumbai", Class::Normal, 64 << 10)).collect();
    let bulk = city.capture("rumbai", Class::Bulk, 4 << 10);
    let committed = |city: &City| city.answers.contains_key(&bulk) && city.is_committed(&city.slip(bulk));
    assert!(city.run_until(60 * SECOND, committed), "bulk waits for all that is normal");
    assert!(!city.is_committed(&city.slip(*normal.last().unwrap())), "there was normal work left");
}
