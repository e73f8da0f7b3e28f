//! Two nodes with several links between them: each a cable of its own between two machines, here two network namespaces.

use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use super::commits::Commits;
use super::flow::{Sent, delays, steadily};
use super::namespace::{alone, report, run};
use crate::harness::{City, Given, capture, noise, program, wait_for};

const TOOLS: &[&str] = &["nft"];

const OFFICE: &str = "sukajadi";
const HUB: &str = "induk";
const WAY: [&str; 2] = [OFFICE, HUB];

/// How long records flow before and after what happens to them.
const AROUND: Duration = Duration::from_millis(1_500);

/// On a quiet machine a suspicion takes 40 ms, and what waited for it is committed some ten milliseconds later; others
/// build on this one, and its disk stalls.
const SLOWEST_MAX: Duration = Duration::from_secs(2);

/// A few datagrams of a usual size, so that a session is seen to carry payload.
const RECORD_BYTES: usize = 16 << 10;

/// The cables between the two machines: on each the hub is `.1` and the office `.2`.
const FIBER: Cable = Cable { name: "fiber", network: "10.1.0" };
const SECOND: Cable = Cable { name: "second", network: "10.2.0" };
/// By this one the test itself reaches the office.
const DESK: Cable = Cable { name: "desk", network: "10.99.0" };

struct Cable {
    name: &'static str,
    network: &'static str,
}

impl Cable {
    fn lay(&self) {
        let (here, there) = (format!("{}-h", self.name), format!("{}-o", self.name));
        run("ip", &["link", "add", &here, "type", "veth", "peer", "name", &there, "netns", OFFICE]);
        run("ip", &["address", "add", &format!("{}.1/24", self.network), "dev", &here]);
        run("ip", &["link", "set", &here, "up"]);
        at_office(&["address", "add", &format!("{}.2/24", self.network), "dev", &there]);
        at_office(&["link", "set", &there, "up"]);
    }

    /// Nothing passes any more, in either direction, and the carrier stays.
    fn silence(&self) {
        nft(&format!("add element inet cables silent {{ \"{0}-h\", \"{0}-o\" }}", self.name));
    }

    fn heal(&self) {
        nft(&format!("delete element inet cables silent {{ \"{0}-h\", \"{0}-o\" }}", self.name));
    }
}

fn at_office(arguments: &[&str]) {
    run("ip", &[&["-n", OFFICE], arguments].concat());
}

/// At both ends, so that what is cut is dropped where it arrives and nobody is told.
fn nft(rules: &str) {
    run("nft", &[rules]);
    run("ip", &["netns", "exec", OFFICE, "nft", rules]);
}

/// The hub is in the test's own namespace.
fn lay_cables() {
    run("mount", &["-t", "tmpfs", "none", "/run"]);
    run("ip", &["netns", "add", OFFICE]);
    at_office(&["link", "set", "lo", "up"]);
    [FIBER, SECOND, DESK].iter().for_each(Cable::lay);
    nft("table inet cables {
      set silent { type ifname; }
      chain arriving { type filter hook input priority 0; iifname @silent drop; }
    }");
}

struct Network {
    city: City,
    commits: Commits,
    records: u64,
}

impl Network {
    /// An office and its hub. `links` are put into the topology in place of their only link; `HUB_PORT` and `OFFICE_PORT`
    /// stand for the ports.
    fn new(links: &str) -> Self {
        lay_cables();
        let mut city = City::new("pekanbaru-2013");
        city.move_to(OFFICE, "10.99.0.2");
        let [hub, office] = [HUB, OFFICE].map(|node| city.quic_port(node).to_string());
        let links = links.replace("HUB_PORT", &hub).replace("OFFICE_PORT", &office);
        city.edit_topology(|text| {
            let text =
                text.replace(&format!("\"127.0.0.1:{hub}\""), &format!("\"10.1.0.1:{hub}\", \"10.1.0.9:{hub}\""));
            let text = text.replace(&format!("\"127.0.0.1:{office}\""), &format!("\"10.1.0.2:{office}\""));
            let only = text.find("[[link]]\nends = [\"induk\", \"sukajadi\"]").unwrap();
            let next = only + 1 + text[only + 1..].find("[[link]]").unwrap();
            format!("{}{links}\n{}", &text[..only], &text[next..])
        });
        city.start(HUB);
        let mut there = Command::new("ip");
        there.args(["netns", "exec", OFFICE]).arg(program("estafet-relay")).arg("run").arg("--config");
        there.arg(city.config(OFFICE)).stdin(Stdio::null());
        city.start_as(OFFICE, there);
        city.wait_for_path(&WAY);
        let commits = Commits::of(&city, HUB);
        Self { city, commits, records: 0 }
    }

    /// Records from the office at a steady pace while `disturb` runs, and before and after it.
    fn flow(&mut self, disturb: impl FnOnce(&City)) -> Vec<Sent> {
        let stop = AtomicBool::new(false);
        let (url, first) = (self.city.intake(OFFICE), self.records);
        let sent = thread::scope(|scope| {
            let counter = scope.spawn(|| steadily(&url, first, &stop));
            thread::sleep(AROUND);
            let flowing = Flowing(&stop);
            disturb(&self.city);
            thread::sleep(AROUND);
            drop(flowing);
            counter.join().unwrap()
        });
        self.records += sent.len() as u64;
        sent
    }

    fn assert_honored(&self, sent: Vec<Sent>) {
        self.city.assert_honored(&sent.into_iter().map(|sent| sent.given).collect::<Vec<_>>());
    }

    fn sessions_lost(&self) -> [Option<u64>; 2] {
        WAY.map(|node| self.city.metric(node, "estafet_sessions_lost_total"))
    }
}

/// Ends the flow, also when what happens meanwhile fails.
struct Flowing<'a>(&'a AtomicBool);

impl Drop for Flowing<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Waits until both ends send by this medium, and says how long that took.
fn wait_until_used(city: &City, medium: &str) -> Duration {
    let begin = Instant::now();
    wait_for(&format!("{medium} is in use"), || WAY.iter().all(|node| is_used(city, node, medium)).then_some(()));
    begin.elapsed()
}

fn is_used(city: &City, node: &str, medium: &str) -> bool {
    let Some(show) = city.ask(&["--node", node, "show"]) else { return false };
    let links = show["links"].as_array().unwrap();
    links.iter().any(|link| {
        link["ends"] == serde_json::json!([HUB, OFFICE]) && link["medium"] == medium && link["in_use"] == true
    })
}

const FIBER_AND_RADIO: &str = r#"
[[link]]
ends = ["induk", "sukajadi"]
medium = "fiber"
cost = 10

[[link]]
ends = ["induk", "sukajadi"]
medium = "radio"
cost = 20
addresses = { induk = ["10.2.0.1:HUB_PORT"], sukajadi = ["10.2.0.2:OFFICE_PORT"] }
"#;

#[test]
fn a_bearer_that_dies_silently_is_left_for_the_other_and_used_again_when_it_returns() {
    let test = "power::bearers::a_bearer_that_dies_silently_is_left_for_the_other_and_used_again_when_it_returns";
    alone(test, TOOLS, || {
        let mut network = Network::new(FIBER_AND_RADIO);
        wait_until_used(&network.city, "fiber");
        let mut sent = network.flow(|city| {
            FIBER.silence();
            wait_until_used(city, "radio");
        });
        let (gap, slowest) = delays(&network.commits, &sent);
        let mut back = None;
        let after = network.flow(|city| {
            FIBER.heal();
            back = Some(wait_until_used(city, "fiber"));
        });
        let (_, slowest_after) = delays(&network.commits, &after);
        report(&format!(
            "a bearer dies silently under 20 records/s: no commit for {gap:.0?}, the slowest record took {slowest:.0?}; it \
             returns: used again after {:.1?}, the slowest record took {slowest_after:.0?}",
            back.unwrap()
        ));
        let deaths = network.city.metric(OFFICE, "estafet_neighbor_deaths_total");
        assert_eq!(deaths, Some(0), "the neighbor was there all the time");
        sent.extend(after);
        network.assert_honored(sent);
        assert!(slowest < SLOWEST_MAX, "{slowest:?}");
        let log = network.city.log(OFFICE);
        let place = |what: &str| log.find(what).unwrap_or_else(|| panic!("{what}: {log}"));
        let left = place("spoken to over another link neighbor=induk medium=radio");
        assert!(left < place("session down neighbor=induk medium=fiber"), "left when in doubt, and not when dead");
    });
}

const FIBER_AND_METERED: &str = r#"
[[link]]
ends = ["induk", "sukajadi"]
medium = "fiber"
cost = 10

[[link]]
ends = ["induk", "sukajadi"]
medium = "cellular"
cost = 40
addresses = { induk = ["10.2.0.1:HUB_PORT"], sukajadi = ["10.2.0.2:OFFICE_PORT"] }
metered = true
"#;

#[test]
fn a_metered_bearer_carries_urgent_records_and_the_rest_waits() {
    alone("power::bearers::a_metered_bearer_carries_urgent_records_and_the_rest_waits", TOOLS, || {
        let network = Network::new(FIBER_AND_METERED);
        let city = &network.city;
        wait_until_used(city, "fiber");
        FIBER.silence();
        wait_until_used(city, "cellular");
        let hand_in = |class: &str, seeds: std::ops::Range<u64>| -> Vec<Given> {
            let body = |seed| noise(seed, RECORD_BYTES);
            seeds.map(|seed| capture(&city.intake(OFFICE), &body(seed), &[("estafet-class", class)])).collect()
        };
        let waiting = [hand_in("bulk", 0..5), hand_in("normal", 5..10)].concat();
        let begin = Instant::now();
        let urgent = hand_in("urgent", 10..15);
        let ids: Vec<&str> = urgent.iter().map(|given| given.record_id.as_str()).collect();
        network.commits.moments(&ids);
        let passed = begin.elapsed();
        let verdict = city.verdict(&waiting);
        assert_eq!(verdict.absent.len(), waiting.len(), "they were handed in before the urgent ones, and wait");
        let reason = city.ask(&["trace", &waiting[0].record_id]).unwrap().to_string();
        assert!(reason.contains("metered"), "{reason}");
        FIBER.heal();
        let begin = Instant::now();
        let ids: Vec<&str> = waiting.iter().map(|given| given.record_id.as_str()).collect();
        network.commits.moments(&ids);
        report(&format!(
            "only a metered bearer is left: 5 urgent records of 16 KiB are committed within {passed:.0?}, bulk and normal \
             ones wait, and are committed {:.1?} after the other bearer is back",
            begin.elapsed()
        ));
        city.assert_honored(&[waiting, urgent].concat());
        assert!(passed < Duration::from_secs(5), "{passed:?}");
    });
}

/// The office dials, and cannot be dialed.
const ONE_FIBER: &str = r#"
[[link]]
ends = ["induk", "sukajadi"]
medium = "fiber"
cost = 10
addresses = { sukajadi = [] }
"#;

#[test]
fn a_session_survives_another_address_of_who_dialed() {
    alone("power::bearers::a_session_survives_another_address_of_who_dialed", TOOLS, || {
        let mut network = Network::new(ONE_FIBER);
        let before = network.sessions_lost();
        let sent = network.flow(|_| {
            at_office(&["address", "delete", "10.1.0.2/24", "dev", "fiber-o"]);
            at_office(&["address", "add", "10.1.0.3/24", "dev", "fiber-o"]);
        });
        let (gap, slowest) = delays(&network.commits, &sent);
        report(&format!(
            "the dialing end's address changes under 20 records/s: no commit for {gap:.0?}, the slowest record took \
             {slowest:.0?}, the session stays"
        ));
        network.assert_honored(sent);
        assert_eq!(network.sessions_lost(), before, "the session goes on by the new address");
        for node in WAY {
            let log = network.city.log(node);
            assert!(!log.contains("session down") && !log.contains("adjacency down"), "{node}: {log}");
        }
    });
}

#[test]
fn who_accepted_is_dialed_at_its_other_address_when_it_has_moved() {
    alone("power::bearers::who_accepted_is_dialed_at_its_other_address_when_it_has_moved", TOOLS, || {
        let mut network = Network::new(ONE_FIBER);
        let sent = network.flow(|city| {
            run("ip", &["address", "delete", "10.1.0.1/24", "dev", "fiber-h"]);
            run("ip", &["address", "add", "10.1.0.9/24", "dev", "fiber-h"]);
            wait_for("a session with the other address", || {
                city.log(OFFICE).contains("remote=10.1.0.9:").then_some(())
            });
        });
        let (gap, slowest) = delays(&network.commits, &sent);
        report(&format!(
            "the accepting end's address changes under 20 records/s: no commit for {gap:.1?}, the slowest record took \
             {slowest:.1?}, by a session with its other address"
        ));
        network.assert_honored(sent);
    });
}
