//! Records that are accepted and thrown away.

use std::fs;

use estafet_intruder::Taking;
use estafet_model::NodeId;
use estafet_wire::Frame;

use super::Scene;
use crate::harness::{capture, last_object, noise, wait_for};

const RECORDS: u64 = 20;

fn id(name: &str) -> NodeId {
    name.parse().unwrap()
}

#[test]
fn what_is_accepted_and_thrown_away_comes_home_by_another_and_the_thief_is_named() {
    let scene = Scene::prepared(|city| {
        let config = city.config("rumbai");
        let text = fs::read_to_string(&config).unwrap();
        fs::write(&config, format!("receipt_patience = \"2s\"\n{text}")).unwrap();
    });
    let sessions = ["induk", "rumbai"].map(|relay| scene.join_politely(relay, Taking::AndForgetting));
    let lsa = scene.intruder.lsa(&id("sukajadi"), 1 << 60, &[(id("induk"), 1), (id("rumbai"), 1)]);
    scene.run(async {
        for (session, _) in &sessions {
            session.say(&Frame::Lsas(vec![lsa.clone()])).await.unwrap();
        }
    });
    wait_for("rumbai goes by the thief", || scene.city.log("rumbai").contains("next_hops=[sukajadi").then_some(()));
    let mut given: Vec<_> =
        (0..RECORDS).map(|n| capture(&scene.city.intake("rumbai"), &noise(n, 3_000), &[])).collect();
    let suspects = wait_for("somebody is named", || {
        let answer = scene.city.run(&["audit", "--suspects"]);
        let suspects = last_object(&answer)["suspects"].as_array()?.clone();
        (!suspects.is_empty()).then_some(suspects)
    });
    let of = |key: &str| suspects.iter().map(|suspect| suspect[key].as_str().unwrap()).collect::<Vec<_>>();
    assert_eq!((of("node"), of("by_word_of")), (vec!["sukajadi"], vec!["rumbai"]));
    scene.city.assert_honored(&given);
    // From now on others are asked first.
    given.push(capture(&scene.city.intake("rumbai"), &noise(RECORDS, 3_000), &[]));
    scene.city.assert_honored(&given);
    scene.assert_unharmed();
}
