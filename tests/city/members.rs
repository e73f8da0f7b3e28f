//! Machines come, are replaced, and go, and no private key travels.

use std::fs;
use std::path::PathBuf;
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::drain::{shown, wait_for_next_hop};
use crate::harness::{City, Given, capture, last_object, noise, program, said, topology, wait_for};

/// How soon a node that was removed has no session any more, once the operator has pushed that.
const SHUT_OUT_WITHIN: Duration = Duration::from_secs(2);

/// A new machine, in a folder of its own.
struct Machine {
    folder: PathBuf,
    node: &'static str,
    ports: [u16; 3],
}

impl Machine {
    fn config(&self) -> PathBuf {
        self.folder.join("relay.toml")
    }

    /// What the new machine's own person types there.
    fn init(&self, operator_key: &str) -> Output {
        let [listen, admin, intake] = self.ports.map(|port| format!("127.0.0.1:{port}"));
        let mut command = Command::new(program("estafet-relay"));
        command.args(["init", "--node", self.node, "--config"]).arg(self.config());
        command.args(["--address", &listen, "--admin", &admin, "--intake", &intake, "--operator-key", operator_key]);
        command.output().unwrap()
    }

    /// The request as a file, and the fingerprint as somebody there reads it aloud.
    fn ask(&self, operator_key: &str) -> (String, String) {
        fs::create_dir_all(&self.folder).unwrap();
        let made = self.init(operator_key);
        assert!(made.status.success(), "{}", said(&made));
        let file = self.folder.join("request");
        fs::write(&file, &made.stdout).unwrap();
        let notes = String::from_utf8(made.stderr).unwrap();
        let is_group = |group: &str| group.len() == 4 && group.chars().all(|letter| letter.is_ascii_alphanumeric());
        let is_fingerprint = |line: &&str| line.split('-').count() == 6 && line.split('-').all(is_group);
        let fingerprint = notes.lines().map(str::trim).find(is_fingerprint).unwrap().to_lowercase().replace('-', " ");
        (file.to_str().unwrap().to_owned(), fingerprint)
    }
}

/// Three ports that nobody has, for a machine that is none of `topology init`'s.
fn free_ports(city: &City, near: &str) -> [u16; 3] {
    let first = city.quic_port(near);
    let udp = |port: u16| std::net::UdpSocket::bind(("127.0.0.1", port)).is_ok();
    let tcp = |port: u16| std::net::TcpListener::bind(("127.0.0.1", port)).is_ok();
    let mut free = (1..).map(|step| first % 10_000 + 40_000 + step).filter(|port| udp(*port) && tcp(*port));
    std::array::from_fn(|_| free.next().unwrap())
}

fn operator_key(city: &City) -> String {
    let text = fs::read_to_string(city.dir().join("topology.toml")).unwrap();
    let (_, operator) = text.split_once("[[operator]]").unwrap();
    let line = operator.lines().find(|line| line.starts_with("key = ")).unwrap();
    line.split('"').nth(1).unwrap().to_owned()
}

fn captures(city: &City, node: &str, seeds: std::ops::Range<u64>) -> Vec<Given> {
    seeds.map(|seed| capture(&city.intake(node), &noise(seed, 20_000), &[])).collect()
}

fn of_origin(city: &City, seen_from: &str, node: &str) -> Option<Value> {
    let audit: Value = serde_json::from_slice(&city.run(&["--node", seen_from, "audit"]).stdout).ok()?;
    audit["origins"].as_array()?.iter().find(|origin| origin["node"] == node).cloned()
}

#[test]
fn a_new_machine_is_let_in_by_its_request_and_its_private_key_stays_there() {
    let mut city = City::new("pekanbaru");
    for node in ["induk", "sukajadi"] {
        city.start(node);
    }
    wait_for_next_hop(&city, "sukajadi", "induk");
    let machine = Machine { folder: city.folder("siak"), node: "siak", ports: free_ports(&city, "induk") };
    let (request, fingerprint) = machine.ask(&operator_key(&city));
    let key = fs::read_to_string(machine.folder.join("node.key")).unwrap();
    let again = machine.init(&operator_key(&city));
    assert_eq!(again.status.code(), Some(1), "a key is made once");
    assert_eq!(again.stdout, fs::read(&request).unwrap(), "and the request printed as often as one likes");

    let words = ["--code", "S1K", "--label", "Kecamatan Siak", "--link", "sukajadi:fiber:12", "--request", &request];
    let before = fs::read_to_string(city.dir().join("topology.toml")).unwrap();
    for (more, why) in [
        (&[][..], "nobodyhascompared"),
        (&["--fingerprint", "0000 0000 0000 0000 0000 0000"][..], "showsthefingerprint"),
    ] {
        let refused = city.run(&[&["node", "add"], &words[..], more].concat());
        assert!(!refused.status.success() && said(&refused).contains(why), "{}", said(&refused));
    }
    assert_eq!(fs::read_to_string(city.dir().join("topology.toml")).unwrap(), before, "nothing has changed");
    let added = city.run(&[&["node", "add"], &words[..], &["--fingerprint", &fingerprint]].concat());
    assert!(added.status.success(), "{}", said(&added));
    assert!(said(&added).contains("passesiton"), "{}", said(&added));

    fs::copy(city.dir().join("city.topology"), machine.folder.join("city.topology")).unwrap();
    let mut run = Command::new(program("estafet-relay"));
    run.args(["run", "--config"]).arg(machine.config());
    city.start_as("siak", run);
    wait_for_next_hop(&city, "siak", "sukajadi");
    let url = format!("http://127.0.0.1:{}/v1/records", machine.ports[2]);
    let given: Vec<_> = (0..3).map(|seed| capture(&url, &noise(seed, 20_000), &[])).collect();
    city.assert_honored(&given);
    for (name, text) in [("city.topology", "city.topology"), ("topology.toml", "topology.toml")] {
        let text = fs::read_to_string(city.dir().join(text)).unwrap();
        assert!(!key.lines().any(|line| text.contains(line)), "the private key is in {name}");
    }
    assert_eq!(fs::read_to_string(machine.folder.join("node.key")).unwrap(), key);
}

#[test]
fn a_stolen_machine_is_replaced_and_its_node_goes_on_in_a_new_epoch() {
    let mut city = City::running("pekanbaru");
    let first = city.dir().join("first.topology");
    fs::copy(city.dir().join("city.topology"), &first).unwrap();
    let mut given = captures(&city, "rumbai", 0..3);
    city.wait_until_receipted(3);
    let ports = ["listen", "admin", "intake"].map(|face| city.port(face, "rumbai"));
    city.kill("rumbai");
    let stolen = city.dir().join("stolen");
    fs::rename(city.folder("rumbai"), &stolen).unwrap();

    let machine = Machine { folder: city.folder("rumbai"), node: "rumbai", ports };
    let (request, fingerprint) = machine.ask(&operator_key(&city));
    let replaced = city.run(&["node", "replace", "rumbai", "--request", &request, "--fingerprint", &fingerprint]);
    assert!(replaced.status.success(), "{}", said(&replaced));
    fs::copy(city.dir().join("city.topology"), machine.folder.join("city.topology")).unwrap();
    city.start("rumbai");
    wait_for_next_hop(&city, "rumbai", "sukajadi");
    given.extend(captures(&city, "rumbai", 3..5));
    city.assert_honored(&given);
    let epoch = |given: &Given| given.record_id.split('.').nth(1).unwrap().to_owned();
    assert_ne!(epoch(&given[0]), epoch(&given[4]));
    // It was told of the life before it, which its own key has not signed.
    for seen_from in ["induk", "rumbai"] {
        let told = wait_for("both epochs are in the books", || {
            of_origin(&city, seen_from, "rumbai").filter(|origin| origin["epochs"].as_array().unwrap().len() == 2)
        });
        assert_eq!((&told["captured"], &told["missing_count"]), (&5.into(), &0.into()), "{told}");
    }

    // The thief starts what was stolen.
    city.stop("rumbai");
    let refusals = |city: &City| city.log("sukajadi").matches("refused a connection: not a neighbor").count();
    let before = refusals(&city);
    let config = fs::read_to_string(stolen.join("relay.toml")).unwrap();
    assert!(config.contains("../../city.topology"), "{config}");
    fs::write(stolen.join("relay.toml"), config.replace("../../city.topology", "old.topology")).unwrap();
    fs::copy(first, stolen.join("old.topology")).unwrap();
    let mut thief = Command::new(program("estafet-relay"));
    thief.args(["run", "--config"]).arg(stolen.join("relay.toml"));
    city.start_as("rumbai", thief);
    wait_for("sukajadi refuses it", || (refusals(&city) > before).then_some(()));
    wait_for("whoever runs it is told", || {
        city.log("rumbai").contains("does not know this machine's key").then_some(())
    });
    assert!(shown(&city, "induk", "rumbai").is_none_or(|row| row["next_hop"].is_null()));
}

/// Takes Rumbai out, and sees Sukajadi end its session with it.
fn remove_rumbai(city: &City) {
    let ended = || {
        let log = city.log("sukajadi");
        log.lines().filter(|line| line.contains("session down") && line.contains("neighbor=rumbai ")).count()
    };
    let before = ended();
    let removed = city.run(&["--node", "sukajadi", "node", "remove", "rumbai"]);
    assert!(removed.status.success(), "{}", said(&removed));
    let pushed = Instant::now();
    wait_for("sukajadi has no session with rumbai", || (ended() > before).then_some(()));
    let took = pushed.elapsed();
    println!("shut out {took:?} after the push");
    assert!(took < SHUT_OUT_WITHIN, "{took:?}");
}

#[test]
fn a_removed_node_has_no_session_within_two_seconds_and_its_records_wait_for_a_decision() {
    let mut city = City::running("pekanbaru");
    let first = captures(&city, "rumbai", 0..1);
    city.wait_until_receipted(1);
    // What it captures now stays with Sukajadi, Senapelan or its own disk.
    city.kill("induk");
    city.kill("senapelan");
    city.kill("rumbai-pesisir");
    let given = captures(&city, "rumbai", 1..4);
    wait_for("sukajadi holds them", || city.metric("sukajadi", "estafet_records_held").filter(|held| *held >= 3));

    remove_rumbai(&city);
    city.stop("rumbai");

    city.start("induk");
    let quarantined = wait_for("they are in quarantine", || {
        let listed = city.run(&["--node", "sukajadi", "quarantine", "list"]);
        let listed: Vec<Value> =
            String::from_utf8(listed.stdout).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        (listed.len() == 3).then_some(listed)
    });
    let reason = quarantined[0]["reason"].as_str().unwrap();
    assert!(reason.contains("does not know the origin, or no longer"), "{reason}");
    assert!(given.iter().all(|given| !city.committed().contains_key(&given.record_id)));
    // What was committed before is found by its slip all the same.
    let traced = city.run(&["trace", &first[0].slip]);
    assert!(traced.status.success(), "{}", said(&traced));

    let accepted = city.run(&["--node", "sukajadi", "node", "accept", "rumbai"]);
    assert!(accepted.status.success(), "{}", said(&accepted));
    wait_for("the decision is in force at the main server", || {
        (city.ask(&["--node", "induk", "show"])?["version"] == 3).then_some(())
    });
    city.ask(&["--node", "sukajadi", "quarantine", "retry"]).unwrap();
    wait_for("they are committed", || city.verdict(&given).is_good().then_some(()));
}

#[test]
fn a_removed_node_is_shut_out_also_while_another_change_waits_for_a_restart() {
    let mut city = City::new("pekanbaru-cadangan");
    for node in ["induk", "sukajadi", "rumbai"] {
        city.start(node);
    }
    wait_for_next_hop(&city, "rumbai", "sukajadi");
    let file = city.dir().join("topology.toml");
    let text = fs::read_to_string(&file).unwrap();
    fs::write(&file, text.replace("version = 1\n", "version = 2\ncopies = 2\n")).unwrap();
    // Nobody signs unawares what somebody has edited.
    let unaware = city.run(&["outage", "add", "--node", "sail", "--start", "now", "--for", "1h", "--reason", "PLN"]);
    assert!(!unaware.status.success() && said(&unaware).contains("topologysign"), "{}", said(&unaware));
    let key = city.dir().join("operator.key");
    let sign = ["sign", "--key", key.to_str().unwrap(), file.to_str().unwrap()];
    for command in [&sign[..], &["--node", "sukajadi", "push"]] {
        let done = city.run(command);
        assert!(done.status.success(), "{}", said(&done));
    }
    let waits = || city.log("sukajadi").contains("a newer topology waits for a restart").then_some(());
    wait_for("sukajadi waits for a restart with it", waits);
    remove_rumbai(&city);
}

#[test]
fn an_operator_makes_a_key_is_given_a_role_and_loses_it() {
    let mut city = City::new("pekanbaru");
    for node in ["induk", "sukajadi"] {
        city.start(node);
    }
    wait_for_next_hop(&city, "sukajadi", "induk");
    let desk = city.dir().join("desk");
    fs::create_dir(&desk).unwrap();
    let key = desk.join("operator.key");
    let made = last_object(&topology(&["operator", "key", "-o", key.to_str().unwrap(), "--json"]));
    let public = made["public"].as_str().unwrap();
    let ask = |arguments: &[&str]| topology(&[&["--city", desk.to_str().unwrap(), "--json"], arguments].concat());
    // The desk's folder is believed by its own key: the admin signs what the desk then signs too.
    let fingerprint = made["fingerprint"].as_str().unwrap();
    let added =
        city.run(&["operator", "add", "budi", "--role", "admin", "--key", public, "--fingerprint", fingerprint]);
    assert!(added.status.success(), "{}", said(&added));
    fs::copy(city.dir().join("topology.toml"), desk.join("topology.toml")).unwrap();
    fs::copy(city.dir().join("city.topology"), desk.join("city.topology")).unwrap();
    let signed = topology(&["sign", desk.join("topology.toml").to_str().unwrap(), "--key", key.to_str().unwrap()]);
    assert!(signed.status.success(), "{}", said(&signed));
    wait_for("budi is let in", || ask(&["--node", "sukajadi", "show"]).status.success().then_some(()));
    let own = city.run(&["operator", "remove", "operator"]);
    assert!(said(&own).contains("iswhosignshere"), "{}", said(&own));
    let removed = city.run(&["operator", "remove", "budi"]);
    assert!(removed.status.success(), "{}", said(&removed));
    wait_for("budi is shut out", || (!ask(&["--node", "sukajadi", "show"]).status.success()).then_some(()));
    // No other is asked in the main server's place: one that was stolen would answer.
    wait_for("the main server refuses it", || {
        let asked = ask(&["show"]);
        let is_said = said(&asked).contains("refusesthekeyofthisfolder");
        (is_said && asked.status.code() == Some(1)).then_some(())
    });
    let last = city.run(&["operator", "remove", "operator"]);
    assert!(said(&last).contains("0ofthe1admins"), "{}", said(&last));
}

#[test]
fn a_relay_leaves_no_image_of_its_memory() {
    let mut city = City::new("pekanbaru");
    city.start("sail");
    wait_for("sail runs", || city.log("sail").contains("serving").then_some(()));
    let limits = fs::read_to_string(format!("/proc/{}/limits", city.pid("sail"))).unwrap();
    let core = limits.lines().find(|line| line.starts_with("Max core file size")).unwrap();
    assert_eq!(core.split_whitespace().skip(4).take(2).collect::<Vec<_>>(), ["0", "0"], "{core}");
}

#[test]
fn the_news_of_a_removal_ends_sessions_at_all_its_neighbors() {
    let city = City::running("pekanbaru");
    let neighbors = ["sukajadi", "senapelan", "rumbai-pesisir"];
    let lost = |node: &str| {
        let log = city.log(node);
        log.lines().filter(|line| line.contains("session down") && line.contains("neighbor=rumbai ")).count()
    };
    let before = neighbors.map(lost);
    let removed = city.run(&["--node", "tampan", "node", "remove", "rumbai"]);
    let pushed = Instant::now();
    assert!(removed.status.success(), "{}", said(&removed));
    wait_for("nobody has a session with rumbai", || {
        neighbors.iter().zip(before).all(|(node, before)| lost(node) > before).then_some(())
    });
    let took = pushed.elapsed();
    println!("shut out everywhere {took:?} after the push");
    assert!(took < SHUT_OUT_WITHIN, "{took:?}");
}
