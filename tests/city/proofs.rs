//! What the main server has signed is checked without it, and a history that it changes afterward is found.

use std::fs;
use std::path::PathBuf;

use serde_json::Value;

use crate::harness::{CHAIN, City, Given, capture, last_object, noise, said, topology, wait_for};
use crate::lost_disks::copy;

/// A city of three relays, and what was handed in at Rumbai and is committed.
fn city_with(records: u64) -> (City, Vec<Given>) {
    let mut city = City::new("pekanbaru-2013");
    CHAIN.iter().for_each(|node| city.start(node));
    city.wait_for_path(&CHAIN);
    let given = captures(&city, 0..records);
    city.assert_honored(&given);
    (city, given)
}

fn captures(city: &City, seeds: std::ops::Range<u64>) -> Vec<Given> {
    seeds.map(|seed| capture(&city.intake("rumbai"), &noise(seed, 2_000), &[])).collect()
}

fn file(city: &City, name: &str) -> String {
    city.dir().join(name).to_str().unwrap().to_owned()
}

/// Waits until Sukajadi has heard that so much is committed, in another chain than these, and returns the chain.
fn wait_until_heard(city: &City, number: u64, but: &[&str]) -> String {
    wait_for("sukajadi has heard of the head", || {
        let heads = city.ask(&["heads"])?;
        let is_it = |head: &&Value| {
            let told_by = head["told_by"].as_array().unwrap();
            head["hub_sequence"] == number
                && told_by.contains(&"sukajadi".into())
                && head["chain"].as_str().is_none_or(|chain| !but.contains(&chain))
        };
        Some(heads["heads"].as_array()?.iter().find(is_it)?["chain"].as_str()?.to_owned())
    })
}

/// The exit code and the comparisons of `verify chain`.
fn verify_chain(city: &City, files: &[&str]) -> (i32, Vec<String>) {
    let output = city.run(&[&["verify", "chain"], files].concat());
    let code = output.status.code().unwrap();
    assert!([0, 1, 4].contains(&code) && !output.stdout.is_empty(), "{}", said(&output));
    let answer = last_object(&output);
    let checked = answer["hubs"][0]["checked"].as_array().unwrap().iter();
    (code, checked.map(|checked| checked["comparison"].as_str().unwrap().to_owned()).collect())
}

/// The main server's ledger, while it is stopped.
fn ledger(city: &City) -> PathBuf {
    city.folder("induk").join("data").join("ledger.sqlite")
}

fn forget_ledger(city: &City) {
    for suffix in ["", "-wal", "-shm"] {
        let _there_may_be_none = fs::remove_file(format!("{}{suffix}", ledger(city).display()));
    }
}

fn start_again(city: &mut City, meanwhile: impl FnOnce(&City)) {
    city.stop("induk");
    meanwhile(city);
    city.start("induk");
    city.wait_for_path(&CHAIN);
}

#[test]
fn a_receipt_is_checked_where_there_is_no_network_and_no_city() {
    let (mut city, given) = city_with(3);
    let receipt = file(&city, "receipt");
    let written = city.ask(&["receipt", &given[1].slip, "-o", &receipt]).unwrap();
    assert_eq!(written["record_id"], given[1].record_id.as_str());
    assert_eq!(written["former_hub"], false);
    let of_relay = city.run(&["--node", "sukajadi", "receipt", &given[1].slip]);
    assert!(!of_relay.status.success() && said(&of_relay).contains("nohub"), "{}", said(&of_relay));
    let unknown = city.run(&["receipt", "rumbai.1.999"]);
    assert!(said(&unknown).contains("isnotcommitted"), "{}", said(&unknown));

    // Elsewhere, years later: two files and a key.
    CHAIN.iter().for_each(|node| city.kill(node));
    let elsewhere = tempfile::tempdir().unwrap();
    let at = |name: &str| elsewhere.path().join(name).to_str().unwrap().to_owned();
    fs::copy(city.dir().join("city.topology"), at("city.topology")).unwrap();
    let text = fs::read_to_string(&receipt).unwrap();
    let signed = fs::read_to_string(at("city.topology")).unwrap();
    let key = signed.split_whitespace().find(|word| word.starts_with("ed25519:")).unwrap().to_owned();
    let verify = |text: &str, keys: &[&str]| {
        fs::write(at("receipt"), text).unwrap();
        topology(&[&["verify", "receipt", &at("receipt"), "--topology", &at("city.topology"), "--json"], keys].concat())
    };
    let good = verify(&text, &["--operator-key", &key]);
    assert!(good.status.success(), "{}", said(&good));
    let good = last_object(&good);
    assert_eq!(
        (good["blake3"].as_str(), good["bytes"].as_u64()),
        (Some(given[1].blake3.as_str()), Some(given[1].bytes))
    );
    assert_eq!((&good["slip"], &good["trust"]), (&given[1].slip.as_str().into(), &"given".into()));
    assert_eq!(last_object(&verify(&text, &[]))["trust"], "listed");
    let stranger = "ed25519:11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo";
    assert!(!verify(&text, &["--operator-key", stranger]).status.success());
    for (place, letter) in text.char_indices().step_by(29).filter(|(_, letter)| !letter.is_whitespace()) {
        let other = if letter == 'a' { 'b' } else { 'a' };
        let changed = format!("{}{other}{}", &text[..place], &text[place + 1..]);
        assert_eq!(verify(&changed, &[]).status.code(), Some(1), "{changed}");
    }
    let other_record = text.replace(&given[1].record_id, &given[2].record_id);
    assert_eq!(verify(&other_record, &[]).status.code(), Some(1));
}

#[test]
fn a_history_that_is_made_anew_is_the_same_and_one_that_was_changed_is_found() {
    let (mut city, given) = city_with(4);
    wait_until_heard(&city, 4, &[]);
    let (heads, receipt) = (file(&city, "heads"), file(&city, "receipt"));
    city.ask(&["heads", "-o", &heads]).unwrap();
    city.ask(&["receipt", &given[1].slip, "-o", &receipt]).unwrap();
    let (code, checked) = verify_chain(&city, &[&heads, &receipt]);
    assert!(code == 0 && checked.len() >= 3 && checked.iter().all(|checked| checked == "same"), "{checked:?}");
    let shown = city.ask(&["--node", "sukajadi", "show"]).unwrap();
    let induk = shown["nodes"].as_array().unwrap().iter().find(|node| node["id"] == "induk").unwrap().clone();
    assert_eq!(induk["chain_head"]["hub_sequence"], 4, "each node shows what it has heard");

    start_again(&mut city, forget_ledger);
    assert_eq!(verify_chain(&city, &[&heads, &receipt]).0, 0, "the archive gives the same links");

    // The second and the third change places.
    start_again(&mut city, |city| {
        let ledger = rusqlite::Connection::open(ledger(city)).unwrap();
        for (from, to) in [(2, 100), (3, 2), (100, 3)] {
            let moved = ledger.execute("UPDATE commits SET hub_sequence = ?2 WHERE hub_sequence = ?1", [from, to]);
            assert_eq!(moved, Ok(1));
        }
    });
    let (code, checked) = verify_chain(&city, &[]);
    assert!(code == 1 && checked.contains(&"rewritten".to_owned()), "{checked:?}: what sukajadi has heard finds it");
    assert_eq!(verify_chain(&city, &[&receipt]).0, 1);
    let refused = city.run(&["receipt", &given[1].slip]);
    assert!(said(&refused).contains("ledgerisdamaged"), "nothing is signed on it: {}", said(&refused));

    start_again(&mut city, forget_ledger);
    let given = captures(&city, 4..6);
    city.assert_honored(&given);
    assert_eq!(verify_chain(&city, &[&heads, &receipt]).0, 0);
}

#[test]
fn an_archive_that_was_lost_or_is_an_old_copy_tells_another_chain_and_its_receipts_stay_good() {
    let (mut city, mut given) = city_with(2);
    let (data, backup) = (city.folder("induk").join("data"), city.folder("induk").join("backup"));
    start_again(&mut city, |_| copy(&data, &backup));
    given.extend(captures(&city, 2..5));
    city.assert_honored(&given);
    let first = wait_until_heard(&city, 5, &[]);
    let receipt = file(&city, "receipt");
    city.ask(&["receipt", &given[4].slip, "-o", &receipt]).unwrap();

    start_again(&mut city, |_| copy(&backup, &data));
    let second = wait_until_heard(&city, 5, &[&first]);
    city.assert_honored(&given);
    assert!(city.log("induk").contains("is told as another chain from now on"));
    let (code, checked) = verify_chain(&city, &[&receipt]);
    assert!(
        code == 4 && checked.contains(&"same".to_owned()) && checked.contains(&"other-chain".to_owned()),
        "{checked:?}"
    );
    assert!(!checked.contains(&"rewritten".to_owned()), "nobody is accused of what a backup does");
    assert!(city.run(&["verify", "receipt", &receipt]).status.success(), "its signature stands");

    start_again(&mut city, |_| fs::remove_dir_all(&data).unwrap());
    let third = wait_until_heard(&city, 5, &[&first, &second]);
    city.assert_honored(&given);
    assert!(city.run(&["verify", "receipt", &receipt]).status.success());
    let again = city.ask(&["receipt", &given[4].slip]).unwrap();
    assert_eq!(again["chain"], third.as_str());
}
