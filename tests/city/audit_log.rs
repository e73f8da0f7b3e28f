//! Who changed what is written down before it is done, and no line of that can be touched unseen.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use estafet_model::Fingerprint;
use serde_json::Value;

use crate::harness::{CHAIN, City, capture, last_object, program, said, topology, wait_for};

fn judged_here(city: &City, node: &str) -> Output {
    let mut command = Command::new(program("estafet-relay"));
    command.args(["audit-log", "verify", "--config"]).arg(city.config(node)).output().unwrap()
}

/// Checks a log with the city's topology and nothing else.
fn judged(city: &City, log: &Path, more: &[&str]) -> (Option<i32>, Value) {
    let topology_file = city.dir.join("city.topology");
    let arguments =
        ["--json", "verify", "audit-log", log.to_str().unwrap(), "--topology", topology_file.to_str().unwrap()];
    let output = topology(&[&arguments, more].concat());
    (output.status.code(), last_object(&output))
}

fn bring(city: &City, node: &str) -> (std::path::PathBuf, Vec<Value>) {
    let file = city.dir.join(format!("{node}.log"));
    let output = city.run(&["audit-log", node, "-o", file.to_str().unwrap()]);
    assert!(output.status.success(), "{}", said(&output));
    let lines = fs::read_to_string(&file).unwrap();
    (file, lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect())
}

/// The entries about something.
fn about<'a>(entries: &'a [Value], what: &str) -> Vec<&'a Value> {
    entries.iter().filter(|entry| entry["what"] == what).collect()
}

fn file_of(city: &City, node: &str) -> std::path::PathBuf {
    city.folder(node).join("data").join("audit-log").join("000000000001.jsonl")
}

#[test]
fn changes_and_refusals_are_in_the_log_with_who_made_them() {
    let mut city = City::new("pekanbaru-2013");
    CHAIN.iter().for_each(|node| city.start(node));
    city.wait_for_path(&CHAIN);
    let given = capture(&city.intake("rumbai"), b"a form", &[]);
    city.assert_honored(std::slice::from_ref(&given));
    assert!(city.run(&["drain", "sukajadi", "--for", "2h", "--reason", "new roof"]).status.success());
    let socket = city.folder("sukajadi").join("admin.sock");
    assert!(topology(&["--socket", socket.to_str().unwrap(), "undrain", "sukajadi"]).status.success());
    let fetched = city.dir.join("fetched");
    assert!(city.run(&["fetch", &given.slip, "-o", fetched.to_str().unwrap()]).status.success());
    // A viewer's key: that of a node, which the topology names.
    let viewer = city.dir.join("viewer");
    fs::create_dir(&viewer).unwrap();
    let refused = as_node(&city, "rumbai", &viewer, &["drain", "sukajadi"]);
    assert!(!refused.status.success() && said(&refused).contains("needstherole"), "{}", said(&refused));
    let key = "ed25519:11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo";
    let added = city.run(&[
        "operator",
        "add",
        "magang",
        "--role",
        "viewer",
        "--key",
        key,
        "--fingerprint",
        &Fingerprint::of(&key.parse().unwrap()).to_string(),
    ]);
    assert!(added.status.success(), "{}", said(&added));
    for node in CHAIN {
        wait_for("everybody has the new topology", || {
            (!about(&bring(&city, node).1, "topology").is_empty()).then_some(())
        });
    }

    let (_, entries) = bring(&city, "sukajadi");
    let [start] = about(&entries, "start")[..] else { panic!("{entries:?}") };
    assert_eq!(
        (&start["sequence"], &start["who"], &start["outcome"]),
        (&1.into(), &"this-node".into(), &"noted".into())
    );
    let [drain] = about(&entries, "drain")[..] else { panic!("{entries:?}") };
    assert_eq!((&drain["who"]["operator"]["name"], &drain["outcome"]), (&"operator".into(), &"allowed".into()));
    assert_eq!((&drain["about"]["words"], &drain["about"]["for_seconds"]), (&"new roof".into(), &"7200".into()));
    let [undrain] = about(&entries, "undrain")[..] else { panic!("{entries:?}") };
    assert!(undrain["who"]["local-user"].is_u64(), "{undrain}");
    let [refused] = about(&entries, "admin-call")[..] else { panic!("{entries:?}") };
    assert_eq!((&refused["who"]["node"], &refused["outcome"]), (&"rumbai".into(), &"refused".into()));
    assert!(refused["about"]["call"].as_str().unwrap().ends_with("/Drain"), "{refused}");
    let (_, entries) = bring(&city, "induk");
    let [fetch] = about(&entries, "fetch")[..] else { panic!("{entries:?}") };
    assert_eq!(fetch["about"]["record"], given.record_id.as_str());
    let of_neighbors = CHAIN.iter().filter(|node| {
        let (_, entries) = bring(&city, node);
        about(&entries, "topology").iter().any(|entry| entry["who"]["node"].is_string())
    });
    assert_eq!(of_neighbors.count(), 2, "one was given it by an operator, and the others by a neighbor");

    city.stop("sukajadi");
    let output = judged_here(&city, "sukajadi");
    assert!(output.status.success(), "{}", said(&output));
    city.start("sukajadi");
    wait_for("sukajadi is back", || city.ask(&["--node", "sukajadi", "show"]));
    let (_, entries) = bring(&city, "sukajadi");
    assert_eq!((about(&entries, "stop").len(), about(&entries, "start").len()), (1, 2));
}

/// Runs the CLI with a node's key in the place of the operator's.
fn as_node(city: &City, node: &str, folder: &Path, arguments: &[&str]) -> Output {
    // A folder is believed by its operator's signature, so the topology is signed for it by nobody: over the socket there
    // is no key, so a program of another operator is played by a city whose operator is this node.
    let text = fs::read_to_string(city.dir.join("topology.toml")).unwrap();
    let node_key = fs::read_to_string(city.folder(node).join("node.key")).unwrap();
    fs::write(folder.join("node.key"), &node_key).unwrap();
    let public = text.split("[[node]]").find(|part| part.contains(&format!("id = \"{node}\""))).unwrap();
    let public = public.lines().find_map(|line| line.strip_prefix("key = ")).unwrap();
    let operator = text.split("[[operator]]").nth(1).unwrap();
    let operator = operator.lines().find_map(|line| line.strip_prefix("key = ")).unwrap();
    let other = "\"ed25519:_FHNjmIYoaONpH7QAjDwWAgW7RO6MwOsXeuRFUiQgCU\"";
    let swapped = text.replace(public, other).replace(operator, public);
    fs::write(folder.join("topology.toml"), swapped).unwrap();
    let key = folder.join("operator.key");
    write_private(&key, &node_key);
    let file = folder.join("topology.toml");
    let signed = topology(&["sign", file.to_str().unwrap(), "--key", key.to_str().unwrap()]);
    assert!(signed.status.success(), "{}", said(&signed));
    topology(&[&["--city", folder.to_str().unwrap(), "--json"], arguments].concat())
}

fn write_private(path: &Path, text: &str) {
    use std::os::unix::fs::PermissionsExt;
    fs::write(path, text).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap();
}

#[test]
fn a_line_that_was_changed_left_out_or_moved_is_found_and_so_is_a_tail_that_was_cut_off() {
    let mut city = City::new("pekanbaru-2013");
    city.start("induk");
    wait_for("induk answers", || city.ask(&["--node", "induk", "show"]));
    for _ in 0..3 {
        assert!(city.run(&["drain", "induk"]).status.success());
        assert!(city.run(&["undrain", "induk"]).status.success());
    }
    let head = city.ask(&["--node", "induk", "show"]).unwrap()["audit_log_head"].clone();
    let noted = head["hash"].as_str().unwrap();
    let (log, entries) = bring(&city, "induk");
    assert_eq!(head["sequence"], entries.len());
    let (code, verdict) = judged(&city, &log, &["--head", noted]);
    assert_eq!((code, &verdict["good"], &verdict["head"]), (Some(0), &true.into(), &head["hash"]), "{verdict}");

    let text = fs::read_to_string(&log).unwrap();
    let lines: Vec<&str> = text.split_inclusive('\n').collect();
    let count = lines.len();
    let without = |index: usize| [&lines[..index], &lines[index + 1..]].concat().concat();
    let mut rows: Vec<(String, String, usize, &[&str])> = Vec::new();
    for index in 0..count {
        let changed = lines[index].replacen("operator", "operatoR", 1).replacen("\"start\"", "\"stArt\"", 1);
        let text = [&lines[..index], &[&changed], &lines[index + 1..]].concat().concat();
        rows.push((format!("line {} changed", index + 1), text, index + 1, &[]));
        if index + 1 < count {
            rows.push((format!("line {} left out", index + 1), without(index), index + 1, &[]));
            let mut swapped = lines.clone();
            swapped.swap(index, index + 1);
            // What is left of a log may begin with any line, so of the first two the second is out of its place.
            let place = (index + 1).max(2);
            rows.push((format!("lines {} and {} swapped", index + 1, index + 2), swapped.concat(), place, &[]));
        }
    }
    let with_head = ["--head", noted];
    rows.push(("the tail cut off".to_owned(), without(count - 1), count, &with_head));
    let tampered = city.dir.join("tampered.log");
    for (what, text, place, more) in rows {
        fs::write(&tampered, text).unwrap();
        let (code, verdict) = judged(&city, &tampered, more);
        assert_eq!((code, &verdict["bad_line"]), (Some(1), &place.into()), "{what}: {verdict}");
    }
    // Nobody who does not know a later head can tell that.
    fs::write(&tampered, without(count - 1)).unwrap();
    assert_eq!(judged(&city, &tampered, &[]).0, Some(0));
}

#[test]
fn what_a_cut_left_is_cut_off_and_what_somebody_changed_is_set_aside() {
    let mut city = City::new("pekanbaru-2013");
    let restart = |city: &mut City| {
        city.start("induk");
        wait_for("induk answers", || city.ask(&["--node", "induk", "show"]));
    };
    restart(&mut city);
    assert!(city.run(&["drain", "induk"]).status.success());
    city.kill("induk");
    let file = file_of(&city, "induk");
    let good = fs::read(&file).unwrap();
    fs::write(&file, [&good[..], b"{\"sequence\":9,\"no"].concat()).unwrap();
    assert!(!judged_here(&city, "induk").status.success());
    restart(&mut city);
    let (_, entries) = bring(&city, "induk");
    assert_eq!(about(&entries, "unfinished-line-cut-off").len(), 1, "{entries:?}");
    assert_eq!(about(&entries, "drain").len(), 1, "what was answered is there");
    city.kill("induk");
    assert!(judged_here(&city, "induk").status.success());

    let mut changed = fs::read(&file).unwrap();
    let at = changed.windows(5).position(|bytes| bytes == b"drain").unwrap();
    changed[at] ^= 1;
    fs::write(&file, &changed).unwrap();
    let refused = judged_here(&city, "induk");
    assert!(!refused.status.success() && said(&refused).contains("line2"), "{}", said(&refused));
    restart(&mut city);
    assert!(city.log("induk").contains("the audit log was changed, or is damaged"));
    let aside = city.folder("induk").join("data").join("audit-log.set-aside-1").join("000000000001.jsonl");
    assert_eq!(fs::read(aside).unwrap(), changed, "it is kept as it was found");
    let (log, entries) = bring(&city, "induk");
    assert_eq!((&entries[0]["sequence"], &entries[0]["what"]), (&1.into(), &"log-set-aside".into()));
    assert_eq!(judged(&city, &log, &[]).0, Some(0));
}
