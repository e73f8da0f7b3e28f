//! Records arrive, once, byte for byte, by whatever way is alive.

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::harness::{City, Given, capture, get, noise, output_file, post, program, wait_for};

#[test]
fn a_record_of_any_size_travels_from_the_counter_to_the_hub_and_back_as_a_receipt() {
    let city = City::running("pekanbaru");
    let sizes = [0, 1, 4096, 65_536, 262_144, 262_145, 3_000_000, 16 << 20];
    let bodies: Vec<Vec<u8>> = sizes.iter().map(|size| noise(*size as u64, *size)).collect();
    let headers = [("content-type", "application/pdf"), ("estafet-kind", "ktp-el"), ("estafet-class", "urgent")];
    let given: Vec<Given> = bodies.iter().map(|body| capture(&city.intake("rumbai"), body, &headers)).collect();
    city.assert_honored(&given);
    for (body, given) in bodies.iter().zip(&given) {
        let file = city.dir.join("fetched");
        let output = city.run(&["fetch", &given.slip, "-o", file.to_str().unwrap()]);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        assert!(std::fs::read(&file).unwrap() == *body, "{} came back with other bytes", given.record_id);
        std::fs::remove_file(&file).unwrap();
    }
    let status = wait_for("the receipt is back at the counter", || {
        let answer = get(&format!("{}/{}", city.intake("rumbai"), given[0].slip));
        (answer.body["state"] == "receipted").then_some(answer)
    });
    assert_eq!(status.body["hub"], "induk");
    let trace = city.ask(&["trace", &given[3].slip]).unwrap();
    assert_eq!(trace["record_id"], given[3].record_id.as_str(), "{trace}");
    let custodians = trace["custodians"].as_array().unwrap();
    let held = |node: &str| custodians.iter().find(|held| held["node"] == node);
    // What the first choice has no room for at once goes by another way.
    let last_hop = held("induk").and_then(|committed| committed["received_from"].as_str()).unwrap_or_default();
    assert!(!["induk", "rumbai"].contains(&last_hop) && held(last_hop).is_some(), "it can be followed back: {trace}");
}

#[test]
fn a_killed_branch_delays_nothing_that_has_another_way() {
    let mut city = City::running("pekanbaru");
    assert_eq!(city.next_hops("rumbai").unwrap()["rumbai"], "sukajadi");
    let mut given = Vec::new();
    let url = city.intake("rumbai");
    for seed in 0..40 {
        given.push(capture(&url, &noise(seed, 65_536), &[]));
        if seed == 20 {
            city.kill("sukajadi");
        }
    }
    city.assert_honored(&given);
    // The alternate serves before the map is drawn anew.
    wait_for("rumbai knows the other way", || (city.next_hops("rumbai")?.get("rumbai")? == "senapelan").then_some(()));
    let path = city.ask(&["--node", "rumbai", "path", "rumbai"]).unwrap();
    assert_eq!(path["hops"], serde_json::json!(["rumbai", "senapelan", "induk"]));
    city.start("sukajadi");
    wait_for("rumbai returns to the better way", || {
        (city.next_hops("rumbai")?.get("rumbai")? == "sukajadi").then_some(())
    });
}

#[test]
fn a_planned_stop_is_noticed_at_once() {
    let mut city = City::running("pekanbaru");
    city.stop("sukajadi");
    let begin = Instant::now();
    wait_for("rumbai takes the other way", || (city.next_hops("rumbai")?.get("rumbai")? == "senapelan").then_some(()));
    assert!(city.log("rumbai").contains("Goodbye"), "silence was waited for ({:?})", begin.elapsed());
}

#[test]
fn as_built_in_2013_three_offices_hold_what_they_capture_until_power_returns() {
    let mut city = City::running("pekanbaru-2013");
    city.kill("sukajadi");
    let mut given = Vec::new();
    for office in ["rumbai", "rumbai-pesisir"] {
        given.extend((0..5).map(|seed| capture(&city.intake(office), &noise(seed, 10_000), &[])));
    }
    wait_for("rumbai knows that it is cut off", || city.next_hops("rumbai")?.is_empty().then_some(()));
    let audit = city.ask(&["--node", "rumbai", "audit"]).unwrap();
    let rumbai = audit["origins"].as_array().unwrap().iter().find(|origin| origin["node"] == "rumbai").unwrap();
    assert_eq!((&rumbai["captured"], &rumbai["held"]), (&5.into(), &5.into()), "{rumbai}");
    assert_eq!(rumbai["missing"], serde_json::json!([]));
    let waiting = city.run(&["records", "--node", "rumbai", "--state", "waiting"]);
    assert_eq!(String::from_utf8(waiting.stdout).unwrap().lines().count(), 5);
    city.start("sukajadi");
    city.assert_honored(&given);
}

#[test]
fn tail_shows_each_commit_as_it_happens() {
    let city = City::running("pekanbaru");
    let mut tail = Command::new(program("topology"))
        .args(["--city", city.dir.to_str().unwrap(), "--json", "tail", "--node", "induk"])
        .stdout(Stdio::piped())
        .stderr(output_file(&city.dir.join("tail.log")))
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(tail.stdout.take().unwrap()).lines();
    // A tail that is connected says nothing, so records are handed in until the first line shows that it is.
    let url = city.intake("sail");
    let (stop, stopped) = std::sync::mpsc::channel::<()>();
    let feeder = std::thread::spawn(move || {
        let mut given = Vec::new();
        while stopped.recv_timeout(Duration::from_millis(100)) == Err(std::sync::mpsc::RecvTimeoutError::Timeout) {
            given.push(capture(&url, &noise(given.len() as u64, 5_000), &[]));
        }
        given
    });
    let commit: Value = serde_json::from_str(&lines.next().unwrap().unwrap()).unwrap();
    stop.send(()).unwrap();
    let given = feeder.join().unwrap();
    let slip = given.iter().find(|given| given.record_id == commit["record_id"]).expect("a slip that was given");
    assert_eq!(commit["slip"], slip.slip.as_str());
    assert_eq!(commit["origin"], "sail");
    assert_eq!(commit["bytes"], slip.bytes);
    assert_eq!(commit["blake3"], slip.blake3.as_str());
    assert!(commit["time"].as_str().unwrap().ends_with('Z'), "{commit}");
    tail.kill().unwrap();
    tail.wait().unwrap();
}

#[test]
fn the_main_servers_own_counter_works_like_any_other() {
    let mut city = City::running("pekanbaru");
    let mut given: Vec<Given> = (0..5).map(|seed| capture(&city.intake("induk"), &noise(seed, 70_000), &[])).collect();
    city.kill("induk");
    assert!(post(&city.intake("induk"), b"x", &[]).is_err());
    given.push(capture(&city.intake("tampan"), &noise(99, 70_000), &[]));
    city.start("induk");
    city.assert_honored(&given);
}

#[test]
fn a_dead_main_server_is_shown_as_dead_and_nothing_is_routed_over_old_news() {
    let mut city = City::running("pekanbaru");
    city.kill("induk");
    wait_for("every way to the main server is gone", || {
        let show = city.ask(&["show"])?;
        let rows = |key: &str| show[key].as_array().cloned();
        let dead = rows("nodes")?.iter().any(|node| node["id"] == "induk" && node["state"] == "offline");
        let to_induk = |link: &Value| link["ends"].as_array().is_some_and(|ends| ends.contains(&"induk".into()));
        let linked = rows("links")?.iter().any(|link| to_induk(link) && link["state"] == "up");
        (dead && !linked).then_some(())
    });
    let path = city.run(&["path", "rumbai"]);
    assert_eq!(path.status.code(), Some(1), "{}", String::from_utf8_lossy(&path.stdout));
    let elsewhere = city.run(&["--node", "bukit-raya", "path", "rumbai"]);
    assert_eq!(elsewhere.status.code(), Some(1), "{}", String::from_utf8_lossy(&elsewhere.stdout));
}

#[test]
fn a_tail_ends_when_nobody_reads_it() {
    let city = City::running("pekanbaru");
    let mut tail = Command::new(program("topology"))
        .args(["--city", city.dir.to_str().unwrap(), "tail", "--node", "induk"])
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    drop(tail.stdout.take());
    let ended = wait_for("the tail ends", || tail.try_wait().unwrap());
    assert!(ended.success(), "{ended}");
}
