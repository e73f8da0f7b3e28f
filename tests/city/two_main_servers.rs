//! A second main server: records go to the nearest that serves, each passes on what the other lacks, and with
//! `copies = 2` an origin keeps its records until both have signed.

use std::collections::BTreeSet;

use crate::harness::{City, Given, capture, noise, wait_for};

const HUBS: [&str; 2] = ["induk", "cadangan"];

/// A city of two main servers, so many of which are to have each record.
fn city_with_copies(copies: usize) -> City {
    let city = City::new("pekanbaru-cadangan");
    city.edit_topology(|text| text.replacen("\nversion = ", &format!("\ncopies = {copies}\nversion = "), 1));
    city
}

fn captures(city: &City, office: &str, numbers: std::ops::Range<u64>) -> Vec<Given> {
    let sizes = [100, 9_000, 300_000];
    let bytes = |number: u64| noise(number, sizes[usize::try_from(number).unwrap() % sizes.len()]);
    numbers.map(|number| capture(&city.intake(office), &bytes(number), &[])).collect()
}

fn wait_until_committed_at(city: &City, hub: &str, given: &[Given]) {
    let all: BTreeSet<&String> = given.iter().map(|slip| &slip.record_id).collect();
    wait_for(&format!("everything is committed at {hub}"), || {
        let committed = city.committed_at(hub);
        assert!(committed.values().all(|commits| commits.len() == 1), "once each");
        all.iter().all(|id| committed.contains_key(*id)).then_some(())
    });
    let committed = city.committed_at(hub);
    for slip in given {
        assert_eq!(committed[&slip.record_id][0]["blake3"], slip.blake3.as_str(), "{} at {hub}", slip.record_id);
    }
}

#[test]
fn either_main_server_serves_the_city_and_both_have_everything_in_the_end() {
    let mut city = city_with_copies(1);
    city.start_all();
    let mut given = captures(&city, "rumbai", 0..6);
    given.extend(captures(&city, "tenayan-raya", 6..12));
    for hub in HUBS {
        wait_until_committed_at(&city, hub, &given);
    }
    // The main server is gone without a word: the other takes its place, also for those who had never used it.
    city.kill("induk");
    given.extend(captures(&city, "rumbai", 12..18));
    given.extend(captures(&city, "payung-sekaki", 18..24));
    wait_until_committed_at(&city, "cadangan", &given);
    wait_for("its receipt is enough for the origins", || {
        let audit = city.ask(&["--node", "rumbai", "audit"])?;
        (audit["held"] == 0 && audit["missing"] == 0 && audit["receipted"].as_u64()? == 24).then_some(())
    });
    // When it is back it gets what it missed, from the other alone.
    city.start("induk");
    wait_until_committed_at(&city, "induk", &given);
    // And the other way around, with records that it has from before its restart.
    city.kill("cadangan");
    std::fs::remove_dir_all(city.folder("cadangan").join("data")).unwrap();
    city.start("cadangan");
    wait_until_committed_at(&city, "cadangan", &given);
    for hub in HUBS {
        wait_for("nothing more is to be passed on", || (city.metric(hub, "estafet_copies_held")? == 0).then_some(()));
    }
}

#[test]
fn an_origin_keeps_its_records_until_both_have_signed_if_the_topology_demands_it() {
    let mut city = city_with_copies(2);
    for node in city.node_ids().iter().filter(|node| *node != "cadangan") {
        city.start(node);
    }
    city.wait_until_whole();
    let given = captures(&city, "sail", 0..6);
    wait_until_committed_at(&city, "induk", &given);
    wait_for("sail keeps them for the other main server", || {
        (city.metric("sail", "estafet_copies_held")? == 6).then_some(())
    });
    let audit = city.ask(&["--node", "sail", "audit"]).unwrap();
    assert_eq!((&audit["held"], &audit["receipted"], &audit["missing"]), (&0.into(), &6.into(), &0.into()), "{audit}");
    let slip = &given[0].slip;
    let trace = city.ask(&["trace", slip]).unwrap();
    let at_sail = trace["custodians"].as_array().unwrap().iter().find(|held| held["node"] == "sail").unwrap().clone();
    assert_eq!(at_sail["reason"], "induk has it; it stays until another main server has it too", "{trace}");
    // Also after a start, when only the disk remembers.
    city.kill("sail");
    city.start("sail");
    wait_for("sail keeps them still", || (city.metric("sail", "estafet_copies_held")? == 6).then_some(()));
    city.start("cadangan");
    wait_until_committed_at(&city, "cadangan", &given);
    wait_for("sail lets them go", || (city.metric("sail", "estafet_copies_held")? == 0).then_some(()));
}
