//! The operators' commands that need no running city.

use serde_json::Value;

use crate::harness::{CHAIN, City, capture, last_object, noise, topology, wait_for};

fn cut_off(city: &City, node: &str) -> Vec<String> {
    let impact = city.ask(&["impact", node]).unwrap();
    let ids = impact["cut_off"].as_array().unwrap().iter();
    ids.map(|row: &Value| row["node"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn impact_says_beforehand_what_a_cut_would_isolate() {
    let (built, redundant) = (City::new("pekanbaru-2013"), City::new("pekanbaru"));
    assert_eq!(cut_off(&built, "sukajadi"), ["rumbai", "rumbai-pesisir", "sukajadi"]);
    assert_eq!(cut_off(&redundant, "sukajadi"), ["sukajadi"]);
    for city in [&built, &redundant] {
        let offices = cut_off(city, "induk").into_iter().filter(|id| id != "induk");
        assert_eq!(offices.collect::<Vec<_>>(), city.offices());
    }
    let detoured = redundant.ask(&["impact", "sukajadi"]).unwrap()["detoured"].clone();
    let rumbai = detoured.as_array().unwrap().iter().find(|row| row["node"] == "rumbai").unwrap().clone();
    assert_eq!(rumbai["via"], serde_json::json!(["senapelan"]));
    assert_eq!((&rumbai["cost_before"], &rumbai["cost_after"]), (&20.into(), &25.into()));
}

#[test]
fn impact_says_for_how_long_an_office_that_is_cut_off_has_room() {
    let mut city = City::new("pekanbaru-2013");
    CHAIN.into_iter().for_each(|node| city.start(node));
    city.wait_for_path(&CHAIN);
    let hours = |city: &City, node: &str, asked: &str| {
        let impact = city.ask(&["--node", asked, "impact", "sukajadi"])?;
        let mut offices = impact["cut_off"].as_array()?.iter();
        let office = offices.find(|office| office["node"] == node)?;
        (impact["seen_from"] == asked).then(|| office["hours_left"].clone())
    };
    // 1.6 MB in what counts as an hour, and 8 GiB less 256 MiB of room, where the disk has that.
    (0..8).for_each(|seed| drop(capture(&city.intake("rumbai"), &noise(seed, 200_000), &[])));
    let knows = |city: &City, asked: &str| {
        wait_for("it is known for how long Rumbai has room", || {
            hours(city, "rumbai", asked)?.as_u64().filter(|hours| (1..5_300).contains(hours))
        })
    };
    knows(&city, "induk");
    assert_eq!(hours(&city, "sukajadi", "induk"), Some(Value::Null), "it captures nothing");
    assert_eq!(hours(&city, "rumbai-pesisir", "induk"), None, "it does not run, and is cut off already");
    // What a start finds in the store counts by its age.
    city.stop("rumbai");
    city.start("rumbai");
    knows(&city, "rumbai");
}

#[test]
fn check_names_a_fault_with_its_place_and_a_remedy() {
    let city = City::new("pekanbaru");
    let file = city.dir.join("topology.toml");
    let text = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, text.replacen("code = \"SKJ\"", "cod = \"SKJ\"", 1)).unwrap();
    let checked = topology(&["check", file.to_str().unwrap()]);
    let said = String::from_utf8_lossy(&checked.stderr).into_owned();
    assert!(!checked.status.success() && said.contains("cod") && said.contains("code"), "{said}");
    let as_json = last_object(&topology(&["--json", "check", file.to_str().unwrap()]));
    assert!(as_json["faults"][0]["line"].as_u64().is_some(), "{as_json}");
}

#[test]
fn init_says_where_everything_is() {
    let city = City::new("pekanbaru");
    assert_eq!(city.node_ids().len(), 13);
    for node in city.node_ids() {
        assert!(city.config(&node).is_file());
        assert!(city.intake(&node).starts_with("http://127.0.0.1:"));
    }
    for file in ["topology.toml", "city.topology", "operator.key"] {
        assert!(city.dir.join(file).is_file(), "{file}");
    }
}
