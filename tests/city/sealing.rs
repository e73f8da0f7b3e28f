//! What a counter hands in is read by the main server alone: no disk, log or memory on the way holds it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use crate::harness::{CHAIN, City, Given, capture, post, program, said, wait_for};

/// What must be found nowhere but at the counter, and at the main server by who has its key.
const CANARY: &[u8] = b"NIK 1471012301990001 kenari";

/// A record with the canary at its beginning, at its end, and across every border of a chunk.
fn canaries(bytes: usize) -> Vec<u8> {
    CANARY.iter().copied().cycle().take(bytes).collect()
}

fn fetched(city: &City, given: &Given) -> Vec<u8> {
    let file = city.dir.join("fetched");
    let output = city.run(&["fetch", &given.slip, "-o", file.to_str().unwrap()]);
    assert!(output.status.success(), "{}", said(&output));
    fs::read(&file).unwrap()
}

/// Every file below a folder.
fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    entries.flat_map(|path| if path.is_dir() { files(&path) } else { vec![path] }).collect()
}

/// The files that hold the canary.
fn found_in(files: &[PathBuf]) -> Vec<PathBuf> {
    let holds = |path: &&PathBuf| {
        // Sockets are no files that could hold anything.
        fs::read(path).is_ok_and(|bytes| bytes.windows(CANARY.len()).any(|window| window == CANARY))
    };
    files.iter().filter(holds).cloned().collect()
}

/// Starts relays whose neighbors may be dark, and waits until their counters are served.
fn start(city: &mut City, nodes: &[&str]) {
    nodes.iter().for_each(|node| city.start(node));
    for node in nodes {
        wait_for("counters are served", || city.metric(node, "estafet_records_held"));
    }
}

fn seal_key(city: &City, operation: &str) -> Output {
    let mut command = Command::new(program("estafet-relay"));
    command.args(["seal-key", operation, "--config"]).arg(city.config("induk")).output().unwrap()
}

#[test]
fn no_disk_and_no_log_holds_what_was_handed_in() {
    let mut city = City::new("pekanbaru-2013");
    start(&mut city, &CHAIN);
    city.wait_for_path(&CHAIN);
    let sizes = [100, 4096, 16_368, 16_384, 100_000, 1 << 20];
    let bodies: Vec<Vec<u8>> = sizes.iter().map(|size| canaries(*size)).collect();
    let mut given = Vec::new();
    for (index, body) in bodies.iter().enumerate() {
        let key = format!("form-{index}");
        let keyed = [("idempotency-key", key.as_str())];
        given.push(capture(&city.intake("rumbai"), body, if index % 2 == 0 { &[] } else { &keyed }));
    }
    city.assert_honored(&given);
    // The origin, the branch and the main server have had it on their disks, and nothing of that is overwritten yet.
    assert_eq!(found_in(&files(&city.dir)), Vec::<PathBuf>::new());
    for (body, given) in bodies.iter().zip(&given) {
        assert!(fetched(&city, given) == *body, "{} was opened to other bytes", given.record_id);
    }
    // The search would have found it.
    assert_eq!(found_in(&files(&city.dir)), vec![city.dir.join("fetched")]);
}

#[test]
fn what_is_taken_from_an_office_s_disk_is_opened_by_the_main_server_s_key_alone() {
    let mut city = City::new("pekanbaru-2013");
    start(&mut city, &["rumbai"]);
    let given = capture(&city.intake("rumbai"), &canaries(40_000), &[]);
    city.kill("rumbai");
    let export = |out: &str, keys: &[&str]| {
        let mut command = Command::new(program("estafet-relay"));
        command.args(["store", "export", "--all", "--config"]).arg(city.config("rumbai"));
        let exported = command.arg("--out").arg(city.dir.join(out)).args(keys).output().unwrap();
        assert!(exported.status.success(), "{}", said(&exported));
        String::from_utf8(exported.stdout).unwrap()
    };
    export("sealed", &[]);
    let payload = fs::read(city.dir.join("sealed").join(format!("{}.payload", given.record_id))).unwrap();
    assert_eq!(blake3::hash(&payload).to_hex().as_str(), given.blake3);
    assert_eq!(found_in(&files(&city.dir)), Vec::<PathBuf>::new());
    let seal = city.folder("induk").join("seal");
    let told = export("opened", &["--seal-keys", seal.to_str().unwrap()]);
    assert!(told.contains("opened: 40000 bytes"), "{told}");
    let content = fs::read(city.dir.join("opened").join(format!("{}.content", given.record_id))).unwrap();
    assert!(content == canaries(40_000));
}

#[test]
fn a_repeated_request_is_known_again_although_it_is_sealed_anew() {
    let mut city = City::new("pekanbaru-2013");
    start(&mut city, &["rumbai"]);
    let url = city.intake("rumbai");
    for size in [1_000, 100_000] {
        let body = canaries(size);
        let key = [("idempotency-key", if size == 1_000 { "small" } else { "large" })];
        let first = capture(&url, &body, &key);
        assert_eq!(capture(&url, &body, &key).slip, first.slip);
        city.kill("rumbai");
        city.start("rumbai");
        let again = wait_for("rumbai answers", || post(&url, &body, &key).ok());
        assert_eq!((again.status, &again.body["slip"]), (201, &first.slip.as_str().into()), "after a restart");
        let other = post(&url, &canaries(size + 1), &key).unwrap();
        assert_eq!(other.status, 409, "{}", other.body);
    }
}

#[test]
fn new_records_go_to_the_new_key_and_old_ones_still_open() {
    let mut city = City::new("pekanbaru-2013");
    start(&mut city, &CHAIN);
    city.wait_for_path(&CHAIN);
    let body = canaries(50_000);
    let before = capture(&city.intake("rumbai"), &body, &[]);
    let keys = city.folder("induk").join("seal");
    let former = files(&keys).pop().unwrap();

    // A key that the main server does not have would leave everything shut for ever.
    let made = seal_key(&city, "new");
    assert!(made.status.success(), "{}", said(&made));
    let public = city.dir.join("seal-key.txt");
    fs::write(&public, &made.stdout).unwrap();
    let newer = files(&keys).into_iter().find(|file| *file != former).unwrap();
    let aside = city.dir.join("aside");
    fs::rename(&newer, &aside).unwrap();
    let rotate = ["rotate", "seal-key", "induk", "--key-file", public.to_str().unwrap()];
    let signed = fs::read(city.dir.join("city.topology")).unwrap();
    let refused = city.run(&rotate);
    assert_eq!(fs::read(city.dir.join("city.topology")).unwrap(), signed, "nothing is written");
    assert!(!refused.status.success() && said(&refused).contains("seal-keynew"), "{}", said(&refused));
    fs::rename(&aside, &newer).unwrap();
    let rotated = city.run(&rotate);
    assert!(rotated.status.success(), "{}", said(&rotated));
    let list = String::from_utf8(seal_key(&city, "list").stdout).unwrap();
    assert_eq!((list.lines().count(), list.matches("in force").count()), (2, 1), "{list}");

    wait_for("rumbai has heard of the new key", || {
        city.log("rumbai").contains("another topology is in force").then_some(())
    });
    let after = capture(&city.intake("rumbai"), &body, &[]);
    city.assert_honored(&[before.clone(), after.clone()]);
    for given in [&before, &after] {
        assert!(fetched(&city, given) == body);
    }
    fs::rename(&former, &aside).unwrap();
    assert!(fetched(&city, &after) == body, "the new one needs the new key alone");
    let file = city.dir.join("not-opened");
    let shut = city.run(&["fetch", &before.slip, "-o", file.to_str().unwrap()]);
    assert!(
        !shut.status.success() && said(&shut).contains("noneofthesekeysishere") && !file.exists(),
        "{}",
        said(&shut)
    );
    city.kill("induk");
    fs::rename(&aside, &former).unwrap();
    start(&mut city, &["induk"]);
    assert!(fetched(&city, &before) == body, "and the old one opens again");
}

#[test]
fn a_main_server_with_no_private_key_commits_and_says_so() {
    let mut city = City::new("pekanbaru-2013");
    let aside = city.dir.join("aside");
    fs::rename(city.folder("induk").join("seal"), &aside).unwrap();
    start(&mut city, &CHAIN);
    let given = capture(&city.intake("rumbai"), &canaries(4096), &[]);
    city.assert_honored(std::slice::from_ref(&given));
    assert!(city.log("induk").contains("the private seal key is not here"));
    fs::rename(&aside, city.folder("induk").join("seal")).unwrap();
    assert!(fetched(&city, &given) == canaries(4096), "found again, it opens what was committed without it");
}
