//! Who may hand in: whoever is on this machine, or, once a machine has a token, whoever shows one.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use serde_json::Value;

use crate::harness::{City, agent, get, noise, post, program, said, wait_for};

fn workstation(city: &City, node: &str, arguments: &[&str]) -> Output {
    let mut command = Command::new(program("estafet-relay"));
    command.arg("workstation").args(arguments).arg("--config").arg(city.config(node)).output().unwrap()
}

pub(crate) fn add(city: &City, node: &str, arguments: &[&str]) -> String {
    let added = workstation(city, node, &[&["add"], arguments].concat());
    assert!(added.status.success(), "{}", said(&added));
    String::from_utf8(added.stdout).unwrap().trim().to_owned()
}

/// Hands in a record with a token, and says what came of it.
fn hand_in(url: &str, token: &str) -> u16 {
    post(url, b"a form", &[("authorization", &format!("Bearer {token}"))]).unwrap().status
}

fn log_entries(city: &City, node: &str) -> Vec<Value> {
    let output = city.run(&["audit-log", node]);
    assert!(output.status.success(), "{}", said(&output));
    String::from_utf8(output.stdout).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn each_machine_has_a_token_and_whoever_has_none_is_told_what_to_do() {
    let mut city = City::new("pekanbaru-2013");
    city.start("rumbai");
    let url = city.intake("rumbai");
    wait_for("rumbai takes records without tokens", || {
        post(&url, b"x", &[]).ok().filter(|answer| answer.status == 201)
    });
    let first = add(&city, "rumbai", &["loket-1"]);
    let metrics = add(&city, "rumbai", &["prometheus", "--only-metrics"]);
    let refused =
        wait_for("rumbai heeds the workstations", || post(&url, b"x", &[]).ok().filter(|answer| answer.status == 401));
    assert!(refused.body["detail"].as_str().unwrap().contains("no slip may be given"), "{}", refused.body);
    let status_url = url.replace("/records", "/state");
    let metrics_url = url.replace("/v1/records", "/metrics");
    assert_eq!(get(&status_url).status, 401);
    for (token, statuses) in
        [(first.as_str(), [201, 200, 200]), (&metrics, [403, 403, 200]), ("nobody", [401, 401, 401])]
    {
        let read = |url: &str| {
            let answer = agent().get(url).header("authorization", format!("Bearer {token}")).call().unwrap();
            answer.status().as_u16()
        };
        assert_eq!([hand_in(&url, token), read(&status_url), read(&metrics_url)], statuses, "{token}");
    }
    // A large body is refused as well, and its sender hears why.
    let refused = post(&url, &noise(1, 4 << 20), &[]).unwrap();
    assert_eq!(refused.status, 401);

    let token_file = city.dir.join("token");
    fs::write(&token_file, format!("{first}\n")).unwrap();
    let submit = |city: &City, more: &[&str]| {
        let mut command = Command::new(program("estafet-relay"));
        command.args(["submit", "--config"]).arg(city.config("rumbai")).args(more).arg(city.config("rumbai"));
        command.output().unwrap()
    };
    let with_token = ["--token-file", token_file.to_str().unwrap()];
    let exposed = submit(&city, &with_token);
    assert!(!exposed.status.success() && said(&exposed).contains("chmod600"), "{}", said(&exposed));
    make_private(&token_file);
    assert!(submit(&city, &with_token).status.success());
    let without = submit(&city, &[]);
    assert!(!without.status.success() && said(&without).contains("itstoken"), "{}", said(&without));

    assert!(workstation(&city, "rumbai", &["remove", "loket-1"]).status.success());
    wait_for("loket-1 is shut out", || (hand_in(&url, &first) == 401).then_some(()));
    let entries = log_entries(&city, "rumbai");
    let whats: BTreeSet<&str> = entries.iter().filter_map(|entry| entry["what"].as_str()).collect();
    for what in ["workstation-added", "workstation-removed", "intake-token", "intake-role"] {
        assert!(whats.contains(what), "{what} is not among {whats:?}");
    }
    let told = fs::read_to_string(city.folder("rumbai").join("data/audit-log/000000000001.jsonl")).unwrap();
    for secret in [&first, &metrics] {
        assert!(!told.contains(secret.as_str()) && !city.log("rumbai").contains(secret.as_str()));
    }
}

fn make_private(path: &Path) {
    use std::os::unix::fs::PermissionsExt;
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap();
}

#[test]
fn a_machine_that_sends_too_much_waits_and_the_others_do_not() {
    let mut city = City::new("pekanbaru-2013");
    let config = fs::read_to_string(city.config("rumbai")).unwrap();
    fs::write(city.config("rumbai"), config.replace("[intake]\n", "[intake]\nrecords_per_minute = 5\n")).unwrap();
    let (wild, calm) = (add(&city, "rumbai", &["wild"]), add(&city, "rumbai", &["calm"]));
    city.start("rumbai");
    let url = city.intake("rumbai");
    wait_for("rumbai answers", || post(&url, b"x", &[]).ok());
    let statuses: Vec<u16> = (0..8).map(|_| hand_in(&url, &wild)).collect();
    assert_eq!(statuses[..5], [201; 5]);
    assert!(statuses[5..].contains(&429), "{statuses:?}");
    let answer = agent().post(&url).header("authorization", format!("Bearer {wild}")).send(&b"x"[..]).unwrap();
    let wait: u64 = answer.headers()["retry-after"].to_str().unwrap().parse().unwrap();
    assert!((1..=12).contains(&wait), "one record every 12 s: {wait}");
    assert_eq!(hand_in(&url, &calm), 201);
    let entries = log_entries(&city, "rumbai");
    let told = entries.iter().find(|entry| entry["what"] == "intake-rate").unwrap();
    assert_eq!(told["who"]["workstation"], "wild");
}

#[test]
fn intake_is_open_beyond_this_machine_only_to_those_with_a_token() {
    let city = City::new("pekanbaru-2013");
    let config = fs::read_to_string(city.config("rumbai")).unwrap();
    let port = city.port("intake", "rumbai");
    fs::write(city.config("rumbai"), config.replace(&format!("127.0.0.1:{port}"), &format!("0.0.0.0:{port}"))).unwrap();
    let check = || {
        let mut command = Command::new(program("estafet-relay"));
        command.args(["check", "--config"]).arg(city.config("rumbai")).output().unwrap()
    };
    let refused = check();
    assert!(!refused.status.success() && said(&refused).contains("workstationaddNAME"), "{}", said(&refused));
    add(&city, "rumbai", &["loket-1"]);
    assert!(check().status.success());
    let refused = workstation(&city, "rumbai", &["remove", "loket-1"]);
    assert!(!refused.status.success() && said(&refused).contains("--open-intake"), "{}", said(&refused));
    assert!(workstation(&city, "rumbai", &["remove", "loket-1", "--open-intake"]).status.success());
    assert!(!check().status.success());
}

#[test]
fn nothing_of_a_new_city_listens_beyond_this_machine() {
    let mut city = City::new("pekanbaru-2013");
    city.start("induk");
    wait_for("induk answers", || city.ask(&["--node", "induk", "show"]));
    for path in ["data", "data/audit-log"].map(|path| city.folder("induk").join(path)) {
        use std::os::unix::fs::PermissionsExt;
        let mode = fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o077, 0, "{} is nobody else's to read", path.display());
    }
    let listeners = listeners(city.pid("induk"));
    assert!(listeners.len() >= 3, "sessions, operators and counters: {listeners:?}");
    let beyond: Vec<&String> = listeners.iter().filter(|listener| !is_loopback(listener)).collect();
    assert!(beyond.is_empty(), "{beyond:?}");
}

/// The local addresses of a process's sockets that wait for others, as the kernel writes them.
fn listeners(pid: u32) -> Vec<String> {
    let folder = format!("/proc/{pid}/fd");
    let links = fs::read_dir(folder).unwrap().filter_map(|entry| fs::read_link(entry.ok()?.path()).ok());
    let inodes: BTreeSet<String> =
        links.filter_map(|link| Some(link.to_str()?.strip_prefix("socket:[")?.strip_suffix(']')?.to_owned())).collect();
    let mut found = Vec::new();
    // A listening TCP socket is in state 0A; a UDP socket that is connected to nobody in 07.
    for (table, state) in [("tcp", "0A"), ("tcp6", "0A"), ("udp", "07"), ("udp6", "07")] {
        let text = fs::read_to_string(format!("/proc/{pid}/net/{table}")).unwrap_or_default();
        for line in text.lines().skip(1) {
            let fields: Vec<&str> = line.split_whitespace().collect();
            if fields[3] == state && inodes.contains(fields[9]) {
                found.push(fields[1].to_owned());
            }
        }
    }
    found
}

/// 127.0.0.0/8 or ::1, in the kernel's hexadecimal digits: each word in the order of this machine.
fn is_loopback(address: &str) -> bool {
    let (host, _) = address.split_once(':').unwrap();
    host.len() == 8 && host.ends_with("7F") || host == "00000000000000000000000001000000"
}
