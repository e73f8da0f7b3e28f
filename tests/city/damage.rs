//! A bit that flips on a disk costs the record it hits, and nothing is quiet about it.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;

use crate::harness::{City, Given, capture, noise, program, wait_for};

const RECORDS: u64 = 5;
const HIT: usize = 2;

/// How the sealed payload of a city with one main server begins: version, number of hubs, and a small number.
const SEALED: &[u8] = &[1, 1, 0, 0];

/// The segment file that holds a record's payload of one chunk, and where in it that begins.
fn find(data: &Path, given: &Given) -> (PathBuf, usize) {
    let files = std::fs::read_dir(data).unwrap().map(|entry| entry.unwrap().path());
    let segments = files.filter(|file| file.extension().is_some_and(|extension| extension == "segment"));
    let place = |file: PathBuf| {
        let content = std::fs::read(&file).unwrap();
        let is_it =
            |payload: &[u8]| payload.starts_with(SEALED) && blake3::hash(payload).to_hex().as_str() == given.blake3;
        let offset = content.windows(usize::try_from(given.bytes).unwrap()).position(is_it)?;
        Some((file, offset))
    };
    segments.filter_map(place).next().expect("the record is in the log")
}

pub(crate) fn flip_a_bit(data: &Path, given: &Given) {
    let (file, offset) = find(data, given);
    let mut content = std::fs::read(&file).unwrap();
    content[offset] ^= 1;
    std::fs::write(file, content).unwrap();
}

fn store(city: &City, operation: &str) -> Output {
    let config = city.config("rumbai");
    Command::new(program("estafet-relay"))
        .args(["store", operation, "--json", "--config"])
        .arg(config)
        .output()
        .unwrap()
}

#[test]
fn a_flipped_bit_costs_one_record_which_is_named_and_all_others_arrive() {
    let mut city = City::new("pekanbaru");
    city.start("rumbai");
    let url = city.intake("rumbai");
    wait_for("intake answers", || crate::harness::post(&url, b"first", &[]).ok());
    let payloads: Vec<Vec<u8>> = (0..RECORDS).map(|seed| noise(seed, 4096)).collect();
    let mut given: Vec<Given> = payloads.iter().map(|payload| capture(&url, payload, &[])).collect();
    city.stop("rumbai");
    assert!(store(&city, "verify").status.success());
    flip_a_bit(&city.folder("rumbai").join("data"), &given[HIT]);
    let lost = given.remove(HIT);
    let verified = store(&city, "verify");
    let said = String::from_utf8_lossy(&verified.stdout).into_owned();
    assert!(!verified.status.success() && said.contains(&lost.record_id), "{said}");

    city.node_ids().iter().for_each(|node| city.start(node));
    city.wait_until_whole();
    let committed = wait_for("the others are committed", || {
        let committed = city.committed();
        given.iter().all(|slip| committed.contains_key(&slip.record_id)).then_some(committed)
    });
    assert!(!committed.contains_key(&lost.record_id));
    let listed = wait_for("it is in quarantine", || {
        let listed = city.run(&["quarantine", "list"]);
        let line = String::from_utf8(listed.stdout).unwrap().lines().next()?.to_owned();
        serde_json::from_str::<Value>(&line).ok()
    });
    assert_eq!((&listed["record_id"], &listed["node"]), (&lost.record_id.clone().into(), &"rumbai".into()));
    let audit = wait_for("the ledger names it", || {
        let said = city.run(&["--node", "induk", "audit"]);
        let audit: Value = serde_json::from_slice(&said.stdout).ok()?;
        (audit["missing"] == 1 && audit["held"] == 0).then_some(audit)
    });
    let origins = audit["origins"].as_array().unwrap();
    let rumbai = origins.iter().find(|origin| origin["node"] == "rumbai").unwrap();
    assert_eq!(rumbai["missing"], serde_json::json!([lost.record_id]));
}
