//! Nodes that are led around: by an operator, by the calendar, and because their power goes.

use std::process::Command;
use std::time::{Duration, SystemTime};

use serde_json::Value;

use crate::harness::{City, Given, capture, get, last_object, noise, said, wait_for};

/// How `seen_from` shows a node.
pub(crate) fn shown(city: &City, seen_from: &str, node: &str) -> Option<Value> {
    let show = city.ask(&["--node", seen_from, "show"])?;
    show["nodes"].as_array()?.iter().find(|row| row["id"] == node).cloned()
}

pub(crate) fn wait_for_next_hop(city: &City, node: &str, next_hop: &str) {
    wait_for(&format!("{node} goes by {next_hop}"), || (city.next_hops(node)?.get(node)? == next_hop).then_some(()));
}

fn captures(city: &City, node: &str, seeds: std::ops::Range<u64>) -> Vec<Given> {
    seeds.map(|seed| capture(&city.intake(node), &noise(seed, 65_536), &[])).collect()
}

/// What a node's counter is told of its service.
fn state(city: &City, node: &str) -> Value {
    get(&city.intake(node).replace("/v1/records", "/v1/state")).body
}

/// A moment so many seconds from now, in RFC 3339.
pub(crate) fn moment(seconds: i64) -> String {
    let date = Command::new("date").args(["-u", "+%Y-%m-%dT%H:%M:%SZ", "-d", &format!("{seconds} seconds")]).output();
    String::from_utf8(date.unwrap().stdout).unwrap().trim().to_owned()
}

#[test]
fn a_drained_branch_is_led_around_under_way_and_loses_nothing() {
    let city = City::running("pekanbaru");
    wait_for_next_hop(&city, "rumbai", "sukajadi");
    let mut given = captures(&city, "rumbai", 0..20);
    let drained = city.ask(&["drain", "sukajadi", "--for", "2h", "--reason", "moving the rack"]).unwrap();
    assert_eq!((&drained["state"], &drained["reason"]), (&"draining".into(), &"operator".into()), "{drained}");
    given.extend(captures(&city, "rumbai", 20..40));
    wait_for_next_hop(&city, "rumbai", "senapelan");
    given.extend(captures(&city, "sukajadi", 40..45));
    city.assert_honored(&given);
    let row = wait_for("nothing is left at the drained branch", || {
        shown(&city, "induk", "sukajadi").filter(|row| row["state"] == "draining" && row["held"] == 0)
    });
    assert_eq!((&row["reason"], &row["words"]), (&"operator".into(), &"moving the rack".into()), "{row}");
    assert!(row["back"].as_str().is_some_and(|back| back.ends_with('Z')), "{row}");
    assert_eq!(state(&city, "sukajadi")["state"], "draining");
    assert_eq!(city.metric("sukajadi", "estafet_draining"), Some(1));
    let undrained = city.ask(&["undrain", "sukajadi"]).unwrap();
    assert_eq!((&undrained["state"], &undrained["reason"]), (&"serving".into(), &Value::Null));
    wait_for_next_hop(&city, "rumbai", "sukajadi");
}

#[test]
fn a_drain_lasts_over_restarts_until_it_is_ended_and_only_the_node_that_is_meant_heeds_it() {
    let mut city = City::new("pekanbaru");
    city.start("sukajadi");
    let is = |city: &City, state: &str| {
        wait_for(&format!("sukajadi is {state}"), || {
            shown(city, "sukajadi", "sukajadi").filter(|row| row["state"] == state)
        })
    };
    is(&city, "serving");
    let socket = city.folder("sukajadi").join("admin.sock");
    let other = city.run(&["--socket", socket.to_str().unwrap(), "drain", "rumbai"]);
    assert_eq!(other.status.code(), Some(1));
    assert!(said(&other).contains("thisis`sukajadi`"), "{}", said(&other));
    assert_eq!(city.run(&["drain", "sukajadi", "--reason", &"x".repeat(65)]).status.code(), Some(1));
    city.ask(&["drain", "sukajadi", "--for", "1h", "--reason", "new roof"]).unwrap();
    for _ in 0..2 {
        city.kill("sukajadi");
        city.start("sukajadi");
        let row = is(&city, "draining");
        assert_eq!(row["words"], "new roof");
    }
    city.ask(&["undrain", "sukajadi"]).unwrap();
    city.kill("sukajadi");
    city.start("sukajadi");
    is(&city, "serving");
    city.ask(&["drain", "sukajadi", "--for", "2s"]).unwrap();
    is(&city, "serving");
}

#[test]
fn while_the_main_server_is_drained_records_wait_where_they_are_and_its_own_counter_goes_on() {
    let city = City::running("pekanbaru");
    city.ask(&["drain", "induk", "--reason", "new region codes"]).unwrap();
    for office in ["rumbai", "sail", "sukajadi"] {
        wait_for("no way leads to the main server", || city.log(office).contains("next_hops=[]").then_some(()));
        assert!(!city.next_hops(office).unwrap().contains_key(office), "and none is shown");
    }
    let mut given = captures(&city, "rumbai", 0..5);
    given.extend(captures(&city, "sail", 5..10));
    let own = captures(&city, "induk", 10..12);
    let waiting = city.run(&["records", "--node", "rumbai", "--state", "waiting"]);
    assert_eq!(String::from_utf8(waiting.stdout).unwrap().lines().count(), 5);
    wait_for("what it took itself is committed", || (city.committed().len() == own.len()).then_some(()));
    city.ask(&["undrain", "induk"]).unwrap();
    given.extend(own);
    city.assert_honored(&given);
}

#[test]
fn offices_that_hang_on_a_dark_main_server_serve_and_are_shown_so() {
    let mut city = City::new("pekanbaru-2013");
    for node in ["induk", "sail", "tampan", "rumbai", "sukajadi"] {
        city.start(node);
    }
    wait_for_next_hop(&city, "rumbai", "sukajadi");
    for node in ["sail", "tampan"] {
        wait_for_next_hop(&city, node, "induk");
    }
    city.kill("induk");
    let rows = |arguments: &[&str]| city.ask(arguments).map(|show| show["nodes"].as_array().unwrap().clone());
    let states = |rows: &[Value]| {
        let state = |id: &str| rows.iter().find(|row| row["id"] == id).unwrap()["state"].as_str().unwrap().to_owned();
        ["induk", "sail", "tampan", "rumbai", "sukajadi", "senapelan"].map(state).join(" ")
    };
    wait_for("all see that the main server is dark", || {
        let shown = rows(&["show"])?;
        (states(&shown) == "offline serving serving serving serving unknown").then_some(())
    });
    wait_for("sail sees that it is alone", || {
        let alone = rows(&["show", "--node", "sail"])?;
        (states(&alone) == "offline serving offline offline offline unknown").then_some(())
    });
    let told = city.ask(&["impact", "sukajadi"]).unwrap();
    assert!(told["now"]["dark"].as_array().unwrap().contains(&"induk".into()), "{told}");
    assert!(told["now"]["cut_off"].as_array().unwrap().contains(&"rumbai".into()), "{told}");
}

#[test]
fn a_path_names_what_makes_it_dear_and_who_may_have_been_meant() {
    let mut city = City::new("pekanbaru-2013");
    for node in crate::harness::CHAIN {
        city.start(node);
    }
    wait_for_next_hop(&city, "rumbai", "sukajadi");
    city.ask(&["drain", "sukajadi", "--reason", "new roof"]).unwrap();
    city.ask(&["drain", "sukajadi", "--for", "1h"]).unwrap();
    let path = wait_for("the path costs more", || {
        city.ask(&["path", "rumbai"]).filter(|path| path["cost_raised_by"] == serde_json::json!(["draining"]))
    });
    assert_eq!(path["hop_costs_raised_by"], serde_json::json!([[], [], ["draining"]]), "{path}");
    let row = shown(&city, "induk", "sukajadi").unwrap();
    assert_eq!((&row["words"], &row["back"].is_null()), (&"new roof".into(), &false), "{row}");
    let row = shown(&city, "induk", "rumbai").unwrap();
    assert_eq!(row["cost_raised_by"], serde_json::json!(["draining"]), "{row}");
    for (arguments, code) in [(&["path", "rumbai", "rumbai"][..], 0), (&["path", "induk"], 0), (&["path", "rumbay"], 1)]
    {
        let output = city.run(arguments);
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {}", said(&output));
    }
    let misspelled = said(&city.run(&["path", "rumbay"]));
    assert!(misspelled.contains("didyoumean`rumbai`"), "{misspelled}");
    let warned = said(&city.run(&["drain", "induk"]));
    assert!(warned.contains("recordswaitwheretheyare"), "{warned}");
}

#[test]
fn powered_ways_are_preferred_and_a_node_whose_power_goes_hands_over_and_stops() {
    let mut city = City::running("pekanbaru");
    wait_for_next_hop(&city, "rumbai", "sukajadi");
    let told = city.ask(&["power", "sukajadi", "battery"]).unwrap();
    assert_eq!((&told["state"], &told["power"]), (&"serving".into(), &"battery".into()), "{told}");
    wait_for_next_hop(&city, "rumbai", "senapelan");
    assert_eq!(state(&city, "sukajadi")["power"], "battery");
    city.ask(&["power", "sukajadi", "mains"]).unwrap();
    wait_for_next_hop(&city, "rumbai", "sukajadi");
    let mut given = captures(&city, "rumbai", 0..20);
    given.extend(captures(&city, "sukajadi", 20..40));
    city.signal("sukajadi", "PWR");
    given.extend(captures(&city, "rumbai", 40..50));
    assert!(city.wait_until_ended("sukajadi").success(), "a relay stops cleanly when its power goes");
    wait_for("its neighbor heard a goodbye", || city.log("rumbai").contains("Goodbye").then_some(()));
    assert!(city.log("sukajadi").contains("power gone"));
    // Its disk is dark, and nothing is missing: what it had is with others.
    city.assert_honored(&given);
    city.start("sukajadi");
    wait_for_next_hop(&city, "rumbai", "sukajadi");
}

#[test]
fn a_node_that_can_hand_nothing_over_stops_in_time_and_has_it_when_power_returns() {
    let mut city = City::new("pekanbaru");
    city.configure("sail", "[power]\nstop_seconds = 3\n");
    city.start("sail");
    wait_for("intake answers", || crate::harness::post(&city.intake("sail"), b"x", &[]).ok());
    let mut given = captures(&city, "sail", 0..3);
    city.ask(&["power", "sail", "low"]).unwrap();
    given.extend(captures(&city, "sail", 3..4));
    assert!(city.wait_until_ended("sail").success());
    for node in city.node_ids() {
        city.start(&node);
    }
    city.wait_until_receipted(5);
    let verdict = city.verdict(&given);
    assert!(verdict.is_good(), "{verdict}");
}

/// Adds an outage while no relay runs, which the command says by its exit code.
fn add_unheard(city: &City, outage: &[&str]) {
    let added = city.run(&[&["outage", "add"], outage].concat());
    assert_eq!(added.status.code(), Some(3), "{}", said(&added));
    assert!(last_object(&added)["version"].as_u64().is_some());
}

#[test]
fn an_outage_in_the_calendar_drains_before_it_begins_and_no_longer_than_it_lasts() {
    let mut city = City::new("pekanbaru");
    let outage = |node: &str, start: i64, lasts: &str| {
        let start = moment(start);
        add_unheard(&city, &["--node", node, "--start", &start, "--for", lasts, "--reason", "PLN"]);
    };
    outage("sukajadi", 300, "1h");
    outage("senapelan", 900, "1h");
    outage("rumbai", 0, "15s");
    let listed = city.ask(&["outage", "list"]).unwrap();
    assert_eq!(listed.as_array().unwrap().len(), 3, "{listed}");
    let began = SystemTime::now();
    for node in ["sukajadi", "senapelan", "rumbai", "induk"] {
        city.start(node);
    }
    let row =
        wait_for("sukajadi drains", || shown(&city, "induk", "sukajadi").filter(|row| row["state"] == "draining"));
    assert_eq!((&row["reason"], &row["words"]), (&"planned-outage".into(), &"PLN".into()), "{row}");
    assert!(row["back"].is_string(), "{row}");
    let undrained = city.run(&["undrain", "sukajadi"]);
    assert_eq!(undrained.status.code(), Some(1), "{}", said(&undrained));
    assert!(said(&undrained).contains("`topologyoutageremove`endsaplannedoutage"), "{}", said(&undrained));
    wait_for("senapelan serves", || {
        shown(&city, "induk", "senapelan").filter(|row| row["state"] == "serving" && row["reason"].is_null())
    });
    wait_for_next_hop(&city, "rumbai", "senapelan");
    wait_for("rumbai serves when its outage is over", || {
        shown(&city, "induk", "rumbai").filter(|row| row["state"] == "serving")
    });
    assert!(began.elapsed().unwrap() > Duration::from_secs(10) || !city.log("rumbai").contains("PlannedOutage"));
}

#[test]
fn a_link_that_a_planned_outage_darkens_is_left_before_and_used_again_afterward() {
    let mut city = City::new("pekanbaru");
    // The mast carries Rumbai's link to Sukajadi, and neither of the two stands on it.
    let (lead, lasts) = (10, 10);
    let start = moment(lead);
    let outage = ["--risk", "mast-sukajadi", "--start", &start, "--for", &format!("{lasts}s"), "--reason", "paint"];
    add_unheard(&city, &outage);
    for node in ["sukajadi", "senapelan", "rumbai", "induk"] {
        city.start(node);
    }
    wait_for_next_hop(&city, "rumbai", "senapelan");
    let given = captures(&city, "rumbai", 0..5);
    city.assert_honored(&given);
    let show = city.ask(&["--node", "rumbai", "show"]).unwrap();
    let links = show["links"].as_array().unwrap().iter();
    let link = |ends: [&str; 2]| links.clone().find(|link| link["ends"] == serde_json::json!(ends)).unwrap();
    let (left, other) = (link(["rumbai", "sukajadi"]), link(["rumbai", "senapelan"]));
    assert_eq!(
        (&left["state"], &left["planned_outage"], &other["state"]),
        (&"gray".into(), &"paint".into(), &"up".into())
    );
    assert!(left["back"].is_string() && other["planned_outage"].is_null() && other["back"].is_null());
    // What fails beside it is judged without it.
    let impact = city.ask(&["--node", "rumbai", "impact", "senapelan"]).unwrap();
    assert!(impact["now"]["links_down"].to_string().contains("sukajadi"), "{impact}");
    wait_for_next_hop(&city, "rumbai", "sukajadi");
}
