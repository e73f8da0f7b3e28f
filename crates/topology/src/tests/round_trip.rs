//! The canonical text says all, in one way, and nothing that is read can make the reader panic.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use estafet_model::{LinkCost, NodeId, SealKey};
use proptest::prelude::*;

use super::{SMALL, city, key, seal_key, small, with_keys};
use crate::{
    Faults, FormerNode, Hub, Link, Medium, Node, Operator, OperatorRole, Outage, Place, Power, Role, SignedTopology,
    Template, Topology, parse,
};

#[test]
fn the_canonical_text_is_stable() {
    let text = small().to_toml();
    assert_eq!(parse("canonical", &text).unwrap().to_toml(), text);
    let keys = [1, 2, 100].map(|number| (key(number).public().to_string(), format!("KEY-{number}")));
    let text = keys.iter().fold(text, |text, (key, name)| text.replace(key, name));
    let text = text.replace(&seal_key().to_string(), "SEAL-KEY");
    insta::assert_snapshot!(text, @r#"
    area = "pekanbaru"
    label = "Kota Pekanbaru"
    version = 3

    [[operator]]
    id = "kepala"
    key = "KEY-100"
    role = "admin"

    [[hub]]
    node = "induk"
    seal_key = "SEAL-KEY"

    [[node]]
    id = "induk"
    code = "NDK"
    label = "Disdukcapil"
    role = "hub"
    key = "KEY-1"
    addresses = ["10.77.0.1:4460"]
    admin = "10.77.0.1:4461"

    [[node]]
    id = "sukajadi"
    code = "SKJ"
    label = "Kecamatan Sukajadi"
    role = "relay"
    key = "KEY-2"
    addresses = ["10.77.0.2:4460"]
    admin = "10.77.0.2:4461"
    place = { latitude = 0.51826, longitude = 101.43833 }
    power = { ups_minutes = 30 }
    risks = ["pln-sukajadi"]

    [[link]]
    ends = ["induk", "sukajadi"]
    medium = "radio"
    cost = 10
    capacity = "10Mbit"

    [[outage]]
    start = "2013-08-06T18:00:00+07:00"
    risks = ["pln-sukajadi"]
    duration = "3h"
    every = "1d"
    reason = "rolling blackout"
    "#);
}

#[test]
fn order_and_spelling_of_the_file_do_not_matter() {
    let (head, tables) = SMALL.split_once("\n[[").unwrap();
    let mut tables: Vec<&str> = tables.split("\n[[").collect();
    tables.reverse();
    let reversed = format!("{head}\n[[{}\n", tables.join("\n[["));
    let respelled = reversed
        .replace("[\"induk\", \"sukajadi\"]", "['sukajadi', 'induk'] # the mast")
        .replace("10Mbit", "10000 kbit")
        .replace("\"3h\"", "\"180min\"")
        .replace("2013-08-06T18:00:00+07:00", "\"2013-08-06 18:00:00+07:00\"")
        .replace("version = 3", "version = 0x3");
    assert_eq!(parse("respelled", &with_keys(&respelled)).unwrap(), small());
}

fn names(kind: &'static str) -> impl Strategy<Value = Vec<String>> {
    prop::collection::btree_set(0..6u8, 0..3)
        .prop_map(move |set| set.iter().map(|number| format!("{kind}-{number}")).collect())
}

fn label() -> impl Strategy<Value = String> {
    "[^\\p{Cc}\\s][^\\p{Cc}]{0,30}"
}

fn node_id(index: usize) -> NodeId {
    format!("node-{index}").parse().unwrap()
}

prop_compose! {
    fn node(index: usize)(
        label in label(),
        region in prop::option::of(label()),
        bearers in 1..4u16,
        place in prop::option::of((-90.0..=90.0f64, -180.0..=180.0f64)),
        ups_minutes in prop::option::of(any::<u32>()),
        risks in names("risk"),
    ) -> Node {
        let number = u8::try_from(index).unwrap();
        Node {
            id: node_id(index),
            code: format!("{:03}", index).parse().unwrap(),
            label,
            region,
            role: if index == 0 { Role::Hub } else { Role::Relay },
            key: key(number).public(),
            addresses: (0..bearers).rev().map(|bearer| ([10, 77, 0, number], 4460 + bearer).into()).collect(),
            admin: ([0xfd00, 0, 0, 0, 0, 0, 0, u16::from(number)], 4461).into(),
            place: place.map(|(latitude, longitude)| Place { latitude, longitude }),
            power: ups_minutes.map(|ups_minutes| Power { ups_minutes }),
            risks,
        }
    }
}

/// The hub's earlier machines, and nodes that are none any more.
fn former_nodes(accepted: &[bool]) -> Vec<FormerNode> {
    let former = (0..).zip(accepted).map(|(number, accept)| {
        let index = if number < 2 { 0 } else { 500 + usize::from(number) };
        let code = format!("{index:03}").parse().unwrap();
        FormerNode {
            id: node_id(index),
            code,
            key: key(200 + number).public(),
            role: if *accept { Role::Hub } else { Role::Relay },
            accept: *accept,
        }
    });
    former.collect()
}

prop_compose! {
    /// A link from a node to one before it, which makes the area a tree.
    fn link(index: usize)(
        parent in 0..index,
        medium in prop::sample::select(vec![Medium::Fiber, Medium::Radio, Medium::Cellular, Medium::Copper, Medium::Satellite]),
        cost in 1..=65_535u32,
        capacity in prop::option::of(1..=10_000_000_000_000u64),
        risks in names("risk"),
    ) -> Link {
        let mut ends = [node_id(index), node_id(parent)];
        ends.sort();
        Link { capacity_bits_per_second: capacity, risks, ..Link::new(ends, medium, LinkCost(cost)) }
    }
}

prop_compose! {
    /// The links from a node to one before it: one, or a second by another medium.
    fn bearers(index: usize)(
        first in link(index),
        doubled in any::<bool>(),
        listed in prop::collection::vec(0..3u16, 2),
        (metered, bulk) in prop::sample::select(vec![(false, false), (true, false), (true, true)]),
    ) -> Vec<Link> {
        let medium = Medium::ALL[(Medium::ALL.iter().position(|medium| *medium == first.medium).unwrap() + 1) % 5];
        let addresses = first.ends.iter().zip(listed).filter(|(_, count)| *count > 0);
        let addresses = addresses.map(|(end, count)| {
            let number: u8 = end.as_str().trim_start_matches("node-").parse().unwrap();
            (end.clone(), (1..count).map(|port| ([10, 9, 0, number], 4460 + port).into()).collect())
        });
        let mut addresses: BTreeMap<_, Vec<SocketAddr>> = addresses.collect();
        if addresses.len() == 2 && addresses.values().all(Vec::is_empty) {
            addresses.clear();
        }
        let second = doubled.then(|| Link { medium, metered, bulk, addresses, ..first.clone() });
        [first].into_iter().chain(second).collect()
    }
}

prop_compose! {
    fn outage(nodes: usize)(
        minute in 0..60u8,
        struck in prop::collection::btree_set(0..nodes, 1..=nodes),
        seconds in 1..1_000_000u64,
        pause in prop::option::of(1..1_000_000u64),
        reason in label(),
    ) -> Outage {
        let mut nodes: Vec<NodeId> = struck.into_iter().map(node_id).collect();
        nodes.sort();
        Outage {
            start: format!("2013-08-06T18:{minute:02}:00+07:00"),
            nodes,
            links: Vec::new(),
            risks: Vec::new(),
            duration: Duration::from_secs(seconds),
            every: pause.map(|pause| Duration::from_secs(seconds + pause)),
            reason,
        }
    }
}

prop_compose! {
    fn topology()(count in 1..12usize)(
        nodes in (0..count).map(node).collect::<Vec<_>>(),
        links in (1..count).map(bearers).collect::<Vec<_>>(),
        outages in prop::collection::vec(outage(count), 0..3),
        label in label(),
        version in 1..=i64::MAX.unsigned_abs(),
        seal_key in any::<u8>(),
        accepted in prop::collection::vec(any::<bool>(), 0..4),
    ) -> Topology {
        let operators = [("kepala", 100, OperatorRole::Admin), ("tamu", 101, OperatorRole::Viewer)];
        let operators = operators.map(|(id, number, role)| Operator { id: id.to_owned(), key: key(number).public(), role });
        let mut topology = Topology {
            copies: 1,
            required_signatures: 1,
            area: "kota".to_owned(),
            label,
            version,
            nodes: nodes.into_iter().map(|node| (node.id.clone(), node)).collect(),
            former_nodes: former_nodes(&accepted),
            links: links.concat(),
            hubs: vec![Hub { node: node_id(0), seal_key: SealKey::from_bytes([seal_key; SealKey::BYTES]) }],
            operators: operators.to_vec(),
            outages,
        };
        topology.sort();
        topology
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn any_topology_survives_its_text_and_its_signature(topology in topology()) {
        let text = topology.to_toml();
        let read = parse("round trip", &text);
        prop_assert_eq!(read.as_ref().map_err(Faults::faults), Ok(&topology), "{}", text);
        prop_assert_eq!(read.unwrap().to_toml(), text);
        let signed = SignedTopology::sign(topology, "kepala", &key(100)).unwrap();
        prop_assert_eq!(SignedTopology::decode(&signed.encode(), &[key(100).public()]).unwrap(), signed);
    }

    /// Lines lost, doubled and swapped: whatever comes of it is a topology or a list of faults inside the text.
    #[test]
    fn no_mangled_file_makes_the_reader_panic(
        edits in prop::collection::vec((0..400usize, 0..400usize, 0..4u8), 1..6),
    ) {
        let text = city(Template::Pekanbaru).to_toml();
        let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
        for (first, second, kind) in edits {
            let (first, second) = (first % lines.len(), second % lines.len());
            match kind {
                0 => drop(lines.remove(first)),
                1 => lines.insert(first, lines[second].clone()),
                2 => lines.swap(first, second),
                _ => {
                    let half = lines[first].floor_char_boundary(lines[first].len() / 2);
                    lines[first].truncate(half);
                }
            }
        }
        if let Err(faults) = parse("mangled", &lines.join("\n")) {
            prop_assert!(!faults.faults().is_empty());
            for fault in faults.faults() {
                prop_assert!((1..=lines.len() + 1).contains(&fault.line) && fault.column >= 1, "{:?}", fault);
            }
        }
    }

    #[test]
    fn no_text_makes_the_reader_panic(text in "(?s).{0,200}") {
        let _ = parse("noise", &text);
        let _ = SignedTopology::decode(&text, &[]);
        let _ = SignedTopology::decode(&format!("estafet-topology 1\nsignature = {text}"), &[]);
    }
}
