//! What a counter is told: slips, the same slip again, and refusals.

use std::time::Duration;

use bytes::Bytes;
use estafet_model::Class;
use estafet_topology::Template;

use estafet_node::CaptureRefused;
use estafet_sim::{City, id, millis, payload};

const SECOND: Duration = Duration::from_secs(1);
const KEY: Option<[u8; 16]> = Some([5; 16]);

fn ask(city: &mut City, node: &str, bytes: &Bytes) -> estafet_model::RecordId {
    let token = city.capture_with(node, Class::Normal, bytes, KEY);
    city.run_for(millis(100));
    city.slip(token)
}

#[test]
fn a_counter_that_asks_twice_gets_the_same_slip_also_after_a_restart() {
    for node in ["rumbai", "induk"] {
        for bytes in [4 << 10, 600 << 10] {
            let mut city = City::settled(Template::Pekanbaru, 1);
            let record = payload(bytes, 77);
            // In the dark, so that a relay still has the record.
            (0..city.link_count()).for_each(|link| city.cut(link));
            let twice = [(); 2].map(|()| city.capture_with(node, Class::Normal, &record, KEY));
            city.run_for(millis(100));
            let slip = city.slip(twice[0]);
            assert_eq!(city.slip(twice[1]), slip, "while the first is on its way to the disk");
            assert_eq!(ask(&mut city, node, &record), slip, "when it is durable");
            city.kill(&id(node));
            city.restart(&id(node));
            assert_eq!(ask(&mut city, node, &record), slip, "after a restart");
            let other = city.capture_with(node, Class::Normal, &payload(bytes, 78), KEY);
            city.run_for(millis(100));
            assert_eq!(city.answers[&other], Err(CaptureRefused::KeyReused));
            city.heal_all();
            city.must_deliver_within(30 * SECOND);
            assert_eq!(city.node("induk").custody().committed_count(), 1, "{node} captured one record");
        }
    }
}

#[test]
fn other_bytes_under_a_key_are_refused_while_the_first_are_on_their_way_to_the_disk() {
    let mut city = City::settled(Template::Pekanbaru, 2);
    let first = city.capture_with("sail", Class::Normal, &payload(100, 1), KEY);
    let second = city.capture_with("sail", Class::Normal, &payload(100, 2), KEY);
    assert_eq!(city.answers.get(&second), Some(&Err(CaptureRefused::KeyReused)));
    city.must_deliver_within(10 * SECOND);
    assert!(city.answers[&first].is_ok());
}

#[test]
fn a_failing_disk_gives_no_slip_and_its_office_goes_on_with_a_good_one() {
    for node in ["rumbai", "induk"] {
        let mut city = City::settled(Template::Pekanbaru, 3);
        let before = city.capture(node, Class::Normal, 4 << 10);
        city.run_for(millis(100));
        city.set_failing(&id(node), true);
        let refused = city.capture_with(node, Class::Normal, &payload(4 << 10, 9), KEY);
        let transit = city.capture("rumbai-pesisir", Class::Normal, 4 << 10);
        city.run_for(SECOND);
        assert!(city.answers[&before].is_ok());
        assert_eq!(city.answers[&refused], Err(CaptureRefused::StoreFailed));
        city.kill(&id(node));
        city.set_failing(&id(node), false);
        city.restart(&id(node));
        // What was refused may be on the disk all the same: then it is found, and its key still stands for it.
        let again = city.capture_with(node, Class::Normal, &payload(4 << 10, 9), KEY);
        city.must_deliver_within(30 * SECOND);
        assert!(city.answers[&again].is_ok(), "a record that was not taken can be handed in again");
        assert!(city.node("induk").custody().committed_count() <= 3);
        assert!(city.is_committed(&city.slip(transit)));
    }
}

#[test]
fn a_hub_whose_disk_fails_accepts_nothing_and_its_neighbors_keep_all() {
    let mut city = City::settled(Template::Pekanbaru2013, 4);
    city.set_failing(&id("induk"), true);
    let token = city.capture("rumbai", Class::Normal, 4 << 10);
    city.run_for(10 * SECOND);
    assert_eq!(city.node("induk").custody().committed_count(), 0);
    assert!(city.store("sukajadi").holds(&city.slip(token)));
    city.kill(&id("induk"));
    city.heal_all();
    city.must_deliver_within(30 * SECOND);
}
