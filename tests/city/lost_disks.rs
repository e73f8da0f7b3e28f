//! A disk that was lost or is an old copy: no number is given twice unseen, and what was captured meanwhile is kept.

use std::path::Path;
use std::process::Command;

use serde_json::Value;

use crate::harness::{City, Given, capture, get, last_object, noise, program, said, wait_for};

pub(crate) fn copy(from: &Path, to: &Path) {
    let _there_may_be_none = std::fs::remove_dir_all(to);
    assert!(Command::new("cp").arg("-a").args([from, to]).status().unwrap().success());
}

/// What the main server knows of Rumbai.
fn rumbai(city: &City) -> Option<Value> {
    let said = city.run(&["--node", "induk", "audit"]);
    let audit: Value = serde_json::from_slice(&said.stdout).ok()?;
    audit["origins"].as_array()?.iter().find(|origin| origin["node"] == "rumbai").cloned()
}

fn wait_for_epochs(city: &City, count: usize) -> Value {
    wait_for("a new epoch", || rumbai(city).filter(|origin| origin["epochs"].as_array().unwrap().len() == count))
}

fn captured(city: &City, seeds: std::ops::Range<u64>) -> Vec<Given> {
    seeds.map(|seed| capture(&city.intake("rumbai"), &noise(seed, 2_000), &[])).collect()
}

#[test]
fn a_spool_that_is_an_old_copy_or_new_goes_on_in_a_new_epoch() {
    let mut city = City::running("pekanbaru");
    let (data, backup) = (city.folder("rumbai").join("data"), city.folder("rumbai").join("backup"));
    let mut given = captured(&city, 0..3);
    city.wait_until_receipted(3);
    city.stop("rumbai");
    copy(&data, &backup);
    city.start("rumbai");
    city.wait_until_whole();
    given.extend(captured(&city, 3..7));
    city.wait_until_receipted(7);

    city.kill("rumbai");
    copy(&backup, &data);
    city.start("rumbai");
    wait_for_epochs(&city, 2);
    given.extend(captured(&city, 7..9));
    city.assert_honored(&given);

    city.kill("rumbai");
    std::fs::remove_dir_all(&data).unwrap();
    city.start("rumbai");
    wait_for_epochs(&city, 3);
    given.extend(captured(&city, 9..10));
    city.assert_honored(&given);
    assert_eq!(rumbai(&city).unwrap()["missing_count"], 0);
}

#[test]
fn a_capture_under_a_number_that_was_given_before_is_kept_aside_and_can_be_taken_out() {
    let mut city = City::running("pekanbaru-2013");
    let (data, backup) = (city.folder("rumbai").join("data"), city.folder("rumbai").join("backup"));
    let mut given = captured(&city, 0..2);
    city.wait_until_receipted(2);
    city.stop("rumbai");
    copy(&data, &backup);
    city.start("rumbai");
    city.wait_until_whole();
    given.extend(captured(&city, 2..4));
    city.wait_until_receipted(4);

    // The old copy comes back while its only neighbor is dark: number 3 is given again.
    city.kill("rumbai");
    city.kill("sukajadi");
    copy(&backup, &data);
    city.start("rumbai");
    wait_for("intake answers", || city.metric("rumbai", "estafet_records_held"));
    let again = captured(&city, 50..51).remove(0);
    assert_eq!(again.record_id, given[2].record_id);
    city.start("sukajadi");
    wait_for_epochs(&city, 2);
    wait_for("it is in quarantine", || {
        city.metric("rumbai", "estafet_records_quarantined").filter(|count| *count == 1)
    });
    let status = get(&format!("{}/{}", city.intake("rumbai"), again.slip));
    assert_eq!(status.body["state"], "quarantined", "{}", status.body);

    // Nothing ends that but a person, not even a restart after which the receipt is known.
    city.kill("rumbai");
    city.start("rumbai");
    city.wait_until_whole();
    wait_for("it is there still", || city.metric("rumbai", "estafet_records_quarantined").filter(|count| *count == 1));
    let audit = city.run(&["--node", "sukajadi", "audit"]);
    assert_eq!(audit.status.code(), Some(1), "a slip is not at the main server");
    let audit = last_object(&audit);
    let of_rumbai = audit["origins"].as_array().unwrap().iter().find(|origin| origin["node"] == "rumbai").unwrap();
    assert_eq!(of_rumbai["conflicts"], serde_json::json!([again.record_id]), "{audit}");
    let out = city.dir.join("taken-out");
    // The main server has another record under this id: that one is not meant.
    let export = city.run(&["quarantine", "export", &again.record_id, "-o", out.to_str().unwrap()]);
    assert!(export.status.success(), "{}", String::from_utf8_lossy(&export.stderr));
    assert_eq!(blake3::hash(&std::fs::read(out).unwrap()).to_hex().as_str(), again.blake3);
    given.extend(captured(&city, 60..61));
    wait_for("all others are at the main server", || city.verdict(&given).is_good().then_some(()));
}

#[test]
fn a_node_does_not_take_anothers_data_for_its_own() {
    let mut city = City::new("pekanbaru");
    city.start("rumbai");
    wait_for("intake answers", || city.metric("rumbai", "estafet_records_held"));
    city.stop("rumbai");
    copy(&city.folder("rumbai").join("data"), &city.folder("sail").join("data"));
    let refused =
        Command::new(program("estafet-relay")).args(["run", "--config"]).arg(city.config("sail")).output().unwrap();
    let said = said(&refused);
    assert!(!refused.status.success() && said.contains("datafolderofnode`rumbai`"), "{said}");
}
