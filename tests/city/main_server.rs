//! What the main server loses of what it had committed comes back from the offices, without anybody's doing.

use std::io::Write;
use std::path::Path;
use std::process::Command;

use serde_json::Value;

use crate::damage::flip_a_bit;
use crate::harness::{City, Given, capture, noise, wait_for};
use crate::lost_disks::copy;

fn captured(city: &City, node: &str, seeds: std::ops::Range<u64>) -> Vec<Given> {
    seeds.map(|seed| capture(&city.intake(node), &noise(seed, 10_000), &[])).collect()
}

/// From its next start on the node reads its whole store about once a second.
fn scrub_all_the_time(city: &City, node: &str) {
    let mut config = std::fs::OpenOptions::new().append(true).open(city.config(node)).unwrap();
    write!(config, "\n[spool]\nscrub_days = 0.00001\n").unwrap();
}

fn folder(city: &City) -> std::path::PathBuf {
    city.folder("induk").join("data")
}

#[test]
fn a_bit_that_flips_in_the_archive_is_found_and_its_record_comes_again_from_its_origin() {
    let mut city = City::running("pekanbaru");
    // Rumbai is behind a branch.
    let mut given = captured(&city, "rumbai", 0..5);
    given.extend(captured(&city, "sail", 5..8));
    city.wait_until_receipted(8);
    // A start begins a new segment, and what was written before is complete.
    city.stop("induk");
    scrub_all_the_time(&city, "induk");
    city.start("induk");
    city.wait_until_whole();
    wait_for("the archive was read", || {
        city.metric("induk", "estafet_scrub_segments_total").filter(|segments| *segments > 0)
    });
    assert_eq!(city.metric("induk", "estafet_scrub_records_unreadable_total"), Some(0));

    flip_a_bit(&folder(&city), &given[2]);
    let hit = &given[2].record_id;
    wait_for("it is found", || {
        city.metric("induk", "estafet_scrub_records_unreadable_total").filter(|unreadable| *unreadable > 0)
    });
    wait_for("it has come again", || city.log("induk").contains("has come again").then_some(()));
    city.assert_honored(&given);
    assert!(city.log("rumbai").contains("go to it once more"), "{}", city.log("rumbai"));
    let out = city.dir.join("fetched");
    let fetched = city.run(&["fetch", hit, "--node", "induk", "-o", out.to_str().unwrap()]);
    assert!(fetched.status.success(), "{}", String::from_utf8_lossy(&fetched.stderr));
    assert!(std::fs::read(out).unwrap() == noise(2, 10_000));

    // What it knows of its losses it knows after a restart too, and signs on.
    city.stop("induk");
    city.start("induk");
    city.wait_until_whole();
    given.extend(captured(&city, "rumbai", 8..9));
    city.assert_honored(&given);
}

fn audit(city: &City) -> Option<Value> {
    let said = city.run(&["--node", "induk", "audit"]);
    serde_json::from_slice(&said.stdout).ok()
}

#[test]
fn an_archive_that_is_an_old_copy_or_lost_is_filled_again_by_the_offices() {
    let mut city = City::running("pekanbaru");
    let (data, backup) = (folder(&city), city.folder("induk").join("backup"));
    let mut given = captured(&city, "rumbai", 0..3);
    city.wait_until_receipted(3);
    city.stop("induk");
    copy(&data, &backup);
    city.start("induk");
    city.wait_until_whole();
    given.extend(captured(&city, "rumbai", 3..6));
    given.extend(captured(&city, "sail", 6..8));
    city.wait_until_receipted(8);

    city.kill("induk");
    copy(&backup, &data);
    city.start("induk");
    wait_for("all are committed again", || (city.committed().len() == 8).then_some(()));
    city.assert_honored(&given);

    // The archive alone is old, and its ledger newer than that.
    city.kill("induk");
    archive_of(&backup, &data);
    city.start("induk");
    wait_for("all are committed once more", || (city.committed().len() == 8).then_some(()));
    city.assert_honored(&given);

    city.kill("induk");
    std::fs::remove_dir_all(&data).unwrap();
    city.start("induk");
    wait_for("all have come again", || (city.committed().len() == 8).then_some(()));
    given.extend(captured(&city, "sail", 8..9));
    city.assert_honored(&given);
    assert_eq!(audit(&city).unwrap()["missing"], 0);
}

/// Replaces the log in a folder, and not what is derived from it.
fn archive_of(from: &Path, to: &Path) {
    let script = r#"rm -f "$2"/*.segment "$2"/*.spare && cp -a "$1"/*.segment "$2""#;
    let done = Command::new("sh").args(["-c", script, "sh"]).args([from, to]).status().unwrap();
    assert!(done.success());
}
