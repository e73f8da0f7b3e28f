//! Records that meet a changed map: no set of nodes may each believe that another has the duty.

use std::time::Duration;

use estafet_model::Class;
use estafet_topology::Template;

use estafet_custody::RecordState;
use estafet_sim::{City, id, millis};

const SECOND: Duration = Duration::from_secs(1);

fn accepted_by(city: &City, node: &str, custodian: &str) -> bool {
    let by = id(custodian);
    city.node(node).custody().records().any(|view| view.state == RecordState::Accepted { by: by.clone() })
}

#[test]
fn a_record_that_must_turn_round_goes_back_by_the_way_it_came() {
    for seed in 0..20 {
        let mut city = City::settled(Template::Pekanbaru, seed);
        // Nothing reaches the main server from Sukajadi, which does not know it yet, but the acceptance goes back.
        for end in ["induk", "senapelan", "rumbai-pesisir"] {
            city.cut(city.link(end, "sukajadi"));
        }
        let token = city.capture("rumbai", Class::Normal, 4 << 10);
        assert!(city.run_until(SECOND / 4, |city| accepted_by(city, "rumbai", "sukajadi")));
        let committed = |city: &City| city.is_committed(&city.slip(token));
        assert!(city.run_until(3 * SECOND, committed), "seed {seed}: each believes that the other has it");
        city.heal_all();
        city.must_deliver_within(30 * SECOND);
    }
}

#[test]
fn three_nodes_in_a_ring_do_not_wait_for_each_other() {
    for seed in 0..20 {
        let mut city = City::settled(Template::Pekanbaru, seed);
        // Rumbai -> Sukajadi -> Senapelan, which then has no way but Rumbai.
        city.cut(city.link("induk", "sukajadi"));
        let token = city.capture("rumbai", Class::Normal, 4 << 10);
        city.run_until(SECOND, |city| accepted_by(city, "rumbai", "sukajadi"));
        city.cut(city.link("induk", "senapelan"));
        let committed = |city: &City| city.is_committed(&city.slip(token));
        assert!(city.run_until(5 * SECOND, committed), "seed {seed}: the duty goes round in a ring");
        city.run_for(millis(500));
        city.heal_all();
        city.must_deliver_within(30 * SECOND);
    }
}
