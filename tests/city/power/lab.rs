//! A network whose links a test cuts, slows and measures: all relays on loopback, each link known by the two UDP ports
//! of its ends. The test is alone in its network namespace.

use std::collections::BTreeMap;
use std::io::Write;
use std::process::{Command, Stdio};

use serde_json::Value;

use super::namespace::run;
use crate::harness::City;

/// What a test with a lab calls.
pub(crate) const LAB_TOOLS: &[&str] = &["nft", "tc"];

/// Datagrams are cut, counted and shaped one by one: what the kernel would carry as one large piece is split before.
/// What is cut is dropped at the receiver and not counted, so the counters show what really passed.
const RULES: &str = "
table inet lab {
  set cut { type inet_service . inet_service; }
  set silent { type inet_service; }
  set passed { type inet_service . inet_service; counter; }
  map shaped { type inet_service . inet_service : classid; }
  map lossy { type inet_service . inet_service : verdict; }
  chain arriving {
    type filter hook input priority 0;
    udp sport @silent drop
    udp dport @silent drop
    udp sport . udp dport @cut drop
    udp sport . udp dport vmap @lossy
    udp sport . udp dport @passed
  }
  chain leaving {
    type filter hook output priority 0;
    meta priority set udp sport . udp dport map @shaped
  }
}";

/// What a slow link queues before it drops: a quarter of a second, as a radio does, but some datagrams in any case.
fn queue_bytes(kilobits_per_second: u32) -> u32 {
    (kilobits_per_second * 125 / 4).max(8 << 10)
}

/// The links between the nodes of a city.
pub(crate) struct Lab {
    ports: BTreeMap<String, u16>,
    /// How many directions are shaped.
    classes: u16,
}

impl Lab {
    /// The links of `city`, all of them open and quick.
    pub(crate) fn new(city: &City) -> Self {
        run("ip", &["link", "set", "lo", "gso_max_segs", "1"]);
        run("tc", &["qdisc", "add", "dev", "lo", "root", "handle", "1:", "htb"]);
        nft(RULES);
        let ports: BTreeMap<_, _> =
            city.node_ids().into_iter().map(|node| (node.clone(), city.quic_port(&node))).collect();
        let lab = Self { ports, classes: 0 };
        for (from, to) in lab.ports.keys().flat_map(|from| lab.ports.keys().map(move |to| (from, to))) {
            nft(&format!("add element inet lab passed {{ {} }}", lab.direction(from, to)));
        }
        lab
    }

    /// Nothing passes between two nodes any more. Neither is told.
    pub(crate) fn cut(&self, one: &str, other: &str) {
        nft(&format!("add element inet lab cut {{ {} }}", self.link(one, other)));
    }

    /// Ends a cut.
    pub(crate) fn heal(&self, one: &str, other: &str) {
        nft(&format!("delete element inet lab cut {{ {} }}", self.link(one, other)));
    }

    /// Nothing passes from a node to another any more; what the other sends does.
    pub(crate) fn cut_one_way(&self, from: &str, to: &str) {
        nft(&format!("add element inet lab cut {{ {} }}", self.direction(from, to)));
    }

    /// Ends a cut of one way.
    pub(crate) fn heal_one_way(&self, from: &str, to: &str) {
        nft(&format!("delete element inet lab cut {{ {} }}", self.direction(from, to)));
    }

    /// Nothing that a node sends arrives any more, and nothing reaches it: its power is gone. Nobody is told.
    pub(crate) fn silence(&self, node: &str) {
        nft(&format!("add element inet lab silent {{ {} }}", self.ports[node]));
    }

    /// Ends a silence.
    pub(crate) fn hear_again(&self, node: &str) {
        nft(&format!("delete element inet lab silent {{ {} }}", self.ports[node]));
    }

    /// A link loses so many of a hundred datagrams in each direction.
    pub(crate) fn lose(&self, one: &str, other: &str, percent: u8) {
        let chain = format!("lose_{percent}");
        nft(&format!("add chain inet lab {chain}"));
        nft(&format!("flush chain inet lab {chain}; add rule inet lab {chain} numgen random mod 100 < {percent} drop"));
        for (from, to) in [(one, other), (other, one)] {
            nft(&format!("add element inet lab lossy {{ {} : jump {chain} }}", self.direction(from, to)));
        }
    }

    /// A link loses nothing any more.
    pub(crate) fn lose_nothing(&self, one: &str, other: &str) {
        nft(&format!("delete element inet lab lossy {{ {} }}", self.link(one, other)));
    }

    /// From now on a link carries so much in each direction.
    pub(crate) fn slow_down(&mut self, one: &str, other: &str, kilobits_per_second: u32) {
        for (from, to) in [(one, other), (other, one)] {
            let class = self.add_class(kilobits_per_second);
            self.shape(from, to, &class);
        }
    }

    /// From now on all links of a node together carry so much in each direction: it has one line to the outside.
    pub(crate) fn limit_access(&mut self, node: &str, kilobits_per_second: u32) {
        let [inward, outward] = [(); 2].map(|()| self.add_class(kilobits_per_second));
        for other in self.ports.keys().filter(|other| *other != node) {
            self.shape(other, node, &inward);
            self.shape(node, other, &outward);
        }
    }

    /// A bucket of tokens, and what waits for them.
    fn add_class(&mut self, kilobits_per_second: u32) -> String {
        let rate = format!("{kilobits_per_second}kbit");
        let queue = queue_bytes(kilobits_per_second).to_string();
        self.classes += 1;
        let class = format!("1:{:x}", self.classes);
        let shape = ["class", "add", "dev", "lo", "parent", "1:", "classid", &class, "htb", "rate", &rate];
        run("tc", &[&shape[..], &["burst", "16k"]].concat());
        run("tc", &["qdisc", "add", "dev", "lo", "parent", &class, "bfifo", "limit", &queue]);
        class
    }

    fn shape(&self, from: &str, to: &str, class: &str) {
        nft(&format!("add element inet lab shaped {{ {} : {class} }}", self.direction(from, to)));
    }

    /// A link is as quick as the machine again.
    pub(crate) fn speed_up(&self, one: &str, other: &str) {
        nft(&format!("delete element inet lab shaped {{ {} }}", self.link(one, other)));
    }

    /// How many bytes of IP have passed from a node to another.
    pub(crate) fn bytes(&self, from: &str, to: &str) -> u64 {
        passed()[&(self.ports[from], self.ports[to])]
    }

    /// How many have passed in both directions.
    pub(crate) fn bytes_both_ways(&self, one: &str, other: &str) -> u64 {
        self.bytes(one, other) + self.bytes(other, one)
    }

    /// How many have passed in both directions of every pair of nodes between which some have.
    pub(crate) fn links(&self) -> BTreeMap<[String; 2], u64> {
        let passed = passed();
        let ports = || self.ports.iter();
        let pairs = ports().flat_map(|one| ports().map(move |other| (one, other))).filter(|(one, other)| one < other);
        let link = |((one, port), (other, other_port)): ((&String, &u16), (&String, &u16))| {
            let bytes = passed[&(*port, *other_port)] + passed[&(*other_port, *port)];
            (bytes > 0).then(|| ([one.clone(), other.clone()], bytes))
        };
        pairs.filter_map(link).collect()
    }

    fn direction(&self, from: &str, to: &str) -> String {
        format!("{} . {}", self.ports[from], self.ports[to])
    }

    fn link(&self, one: &str, other: &str) -> String {
        format!("{}, {}", self.direction(one, other), self.direction(other, one))
    }
}

/// How many bytes have passed from a port to another.
fn passed() -> BTreeMap<(u16, u16), u64> {
    let output = Command::new("nft").args(["-j", "list", "set", "inet", "lab", "passed"]).output().unwrap();
    let listing: Value = serde_json::from_slice(&output.stdout).unwrap();
    let sets = listing["nftables"].as_array().unwrap();
    let elements = sets.iter().find_map(|part| part["set"]["elem"].as_array()).unwrap();
    let port = |value: &Value| u16::try_from(value.as_u64().unwrap()).unwrap();
    let element = |element: &Value| {
        let ports = &element["elem"]["val"]["concat"];
        ((port(&ports[0]), port(&ports[1])), element["elem"]["counter"]["bytes"].as_u64().unwrap())
    };
    elements.iter().map(element).collect()
}

fn nft(rules: &str) {
    let mut nft = Command::new("nft").args(["-f", "-"]).stdin(Stdio::piped()).spawn().unwrap();
    nft.stdin.take().unwrap().write_all(rules.as_bytes()).unwrap();
    assert!(nft.wait().unwrap().success(), "nft refuses {rules}");
}
