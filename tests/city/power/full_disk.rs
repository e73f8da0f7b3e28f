//! A node whose disk is full refuses in words, lets its neighbors go another way, and empties itself without help.

use std::fs::OpenOptions;
use std::io::Write;
use std::path::Path;
use std::thread;

use super::disk::{DISK_TOOLS, Disk};
use super::lab::{LAB_TOOLS, Lab};
use super::namespace::{alone, report};
use crate::harness::{City, Given, agent, given, noise, post, post_by, wait_for};

/// The node whose disk is small, and all whom it is linked to.
const FULL: &str = "sukajadi";
const NEIGHBORS: [&str; 4] = ["induk", "senapelan", "rumbai-pesisir", NEIGHBOR];

/// Whose best way goes by it.
const NEIGHBOR: &str = "rumbai";

const RECORD_BYTES: usize = 256 << 10;

/// A full node still hands on, but no more than a record or so in a second.
const WEAK_KILOBITS_PER_SECOND: u32 = 1_000;

/// What its neighbor captures meanwhile.
const OF_THE_NEIGHBOR: u64 = 20;

/// What the node may keep when all is receipted and nothing is held: the segment it writes, four to be used again, and
/// what the file system needs for itself.
const LEFT_BYTES_MAX: u64 = (5 * 16 + 8) << 20;

/// Many counters hand in until each is refused.
fn fill(url: &str) -> Vec<Given> {
    thread::scope(|scope| {
        let clerks: Vec<_> = (0..8).map(|clerk| scope.spawn(move || fill_alone(url, clerk))).collect();
        clerks.into_iter().flat_map(|clerk| clerk.join().unwrap()).collect()
    })
}

fn fill_alone(url: &str, clerk: u64) -> Vec<Given> {
    let agent = agent();
    let mut slips = Vec::new();
    loop {
        let body = noise(clerk * 1_000_000 + slips.len() as u64, RECORD_BYTES);
        let answer = post_by(&agent, url, &body, &[]).unwrap();
        if answer.status != 201 {
            assert_eq!(answer.status, 507, "{}", answer.body);
            let detail = answer.body["detail"].as_str().unwrap();
            assert!(detail.contains("NOT taken") && detail.contains("Keep the papers"), "{detail}");
            return slips;
        }
        slips.push(given(&answer, &body));
    }
}

/// Fills the node while the main server is dark, and watches how it comes back to itself.
fn drill(what: &str, disk_bytes: u64, bytes_max: &str) {
    let mut city = City::new("pekanbaru");
    let disk = Disk::new(city.dir.join("small.ext4"), city.folder(FULL).join("data"), disk_bytes);
    let config = std::fs::read_to_string(city.config(FULL)).unwrap();
    let limits = format!("bytes_max = \"{bytes_max}\"\nhold_bytes_max = \"0B\"");
    std::fs::write(city.config(FULL), config.replace("bytes_max = \"8GiB\"", &limits)).unwrap();
    city.node_ids().iter().for_each(|node| city.start(node));
    city.wait_until_whole();
    let mut lab = Lab::new(&city);
    let empty = disk.used();

    city.kill("induk");
    wait_for("the node knows that the main server is dark", || city.next_hops(FULL)?.is_empty().then_some(()));
    let mut slips = fill(&city.intake(FULL));
    let (taken, full) = (slips.len(), disk.used());
    assert!(taken > 100, "only {taken} records were taken");

    let url = city.intake(NEIGHBOR);
    let of_neighbor: Vec<Given> = (0..OF_THE_NEIGHBOR)
        .map(|seed| {
            let body = noise(1_000 + seed, RECORD_BYTES);
            given(&post(&url, &body, &[]).unwrap(), &body)
        })
        .collect();

    // The main server is back, but the node's own links are too weak to empty it soon. That makes others leave it as well,
    // within seconds, so that its neighbor has its records ready before.
    for neighbor in NEIGHBORS {
        lab.slow_down(FULL, neighbor, WEAK_KILOBITS_PER_SECOND);
    }
    let led_by_it = |city: &City| city.log(NEIGHBOR).matches(&format!("next_hops=[{FULL}")).count();
    let before = led_by_it(&city);
    city.start("induk");
    wait_for("the neighbor's records arrive by another way", || city.verdict(&of_neighbor).is_good().then_some(()));
    let still_held = city.metric(FULL, "estafet_records_held").unwrap();
    assert!(still_held > 0, "the node was empty before its neighbor's records had arrived: nothing is shown");
    assert!(led_by_it(&city) > before, "its neighbor never wanted to go by it: nothing is shown");
    slips.extend(of_neighbor);

    for neighbor in NEIGHBORS {
        lab.speed_up(FULL, neighbor);
    }
    wait_for("the node holds nothing", || (city.metric(FULL, "estafet_records_held")? == 0).then_some(()));
    let url = city.intake(FULL);
    slips.push(wait_for("the node takes captures again", || {
        let body = noise(2_000, RECORD_BYTES);
        let answer = post(&url, &body, &[]).unwrap();
        (answer.status == 201).then(|| given(&answer, &body))
    }));
    city.assert_honored(&slips);
    wait_for("the room is given back to the file system", || {
        (disk.used().saturating_sub(empty) <= LEFT_BYTES_MAX).then_some(())
    });
    let log = city.log(FULL);
    assert!(!log.contains("panicked") && !log.contains("the disk of this node fails"), "{log}");
    report(&format!(
        "full disk ({what}): 507 after {taken} records of 256 KiB; its neighbor's {OF_THE_NEIGHBOR} went another way while \
         it held {still_held}; then it emptied itself: {} MiB on the disk empty, {} full, {} after",
        empty >> 20,
        full >> 20,
        disk.used() >> 20
    ));
}

#[test]
fn a_full_file_system_is_refused_gone_around_and_emptied() {
    let tools = [DISK_TOOLS, LAB_TOOLS].concat();
    alone("power::full_disk::a_full_file_system_is_refused_gone_around_and_emptied", &tools, || {
        // Of which a quarter GiB is kept in reserve.
        drill("a file system of 512 MiB, bytes_max 8 GiB", 512 << 20, "8GiB");
    });
}

#[test]
fn a_spool_at_its_configured_maximum_is_refused_gone_around_and_emptied() {
    let tools = [DISK_TOOLS, LAB_TOOLS].concat();
    alone("power::full_disk::a_spool_at_its_configured_maximum_is_refused_gone_around_and_emptied", &tools, || {
        drill("bytes_max 256 MiB", 1 << 30, "256MiB");
    });
}

/// Somebody else takes every block that is left.
fn take_all_room(file: &Path) {
    let mut ballast = OpenOptions::new().create(true).append(true).open(file).unwrap();
    for piece in [1 << 20, 4 << 10] {
        let piece = noise(7, piece);
        while ballast.write_all(&piece).is_ok() {}
        // What was promised and not yet placed may not fit either.
        let _ = ballast.sync_all();
    }
}

#[test]
fn a_disk_that_others_have_filled_still_takes_the_audit_log() {
    alone("power::full_disk::a_disk_that_others_have_filled_still_takes_the_audit_log", DISK_TOOLS, || {
        let mut city = City::new("pekanbaru-2013");
        let data = city.folder(FULL).join("data");
        let disk = Disk::new(city.dir.join("small.ext4"), data.clone(), 512 << 20);
        city.start(FULL);
        wait_for("it answers", || city.ask(&["--node", FULL, "show"]));
        take_all_room(&data.join("ballast"));
        let used = disk.used();
        for power in ["battery", "mains"] {
            assert!(city.run(&["power", FULL, power]).status.success(), "{power}");
        }
        // The order itself has no room.
        assert!(!city.run(&["drain", FULL]).status.success());
        assert!(city.run(&["undrain", FULL]).status.success());
        assert_eq!(disk.used(), used, "the log's room was taken before");
        let told = String::from_utf8(city.run(&["audit-log", FULL]).stdout).unwrap();
        let told: Vec<(String, String)> = told
            .lines()
            .map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap())
            .map(|entry| [&entry["what"], &entry["outcome"]].map(|text| text.as_str().unwrap().to_owned()).into())
            .collect();
        let expected = [
            ("start", "noted"),
            ("set-power", "allowed"),
            ("set-power", "allowed"),
            ("drain", "allowed"),
            ("drain", "failed"),
            ("undrain", "allowed"),
        ];
        assert_eq!(told, expected.map(|(what, outcome)| (what.to_owned(), outcome.to_owned())));
        std::fs::remove_file(data.join("ballast")).unwrap();
        assert!(city.run(&["drain", FULL]).status.success());
        report("full disk: six lines of the audit log went into the room that it had beforehand");
    });
}
