//! Where a run takes place: a city whose network is known, or one that the seed draws.

use std::net::SocketAddr;

use estafet_model::{LinkCost, NodeId, SealKey};
use estafet_topology::{
    CityPlan, Link, Medium, NodeSetup, Operator, OperatorRole, PlannedNode, Role, Template, Topology,
};

use crate::city::{id, key_of};
use crate::seeded::Seeded;

/// A city.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// One whose network is known.
    Known(Template),
    /// One of this many nodes, the main server included: a random tree with a few more links.
    Drawn(usize),
    /// The same, where every other link has a mobile network beside it: slower, dearer, and often metered.
    Doubled(usize),
}

impl Place {
    pub(crate) fn plan(self, seed: u64) -> CityPlan {
        match self {
            Place::Known(template) => template.plan(),
            Place::Drawn(nodes) => drawn(nodes, &mut Seeded::new(seed ^ 0x9142)),
            Place::Doubled(nodes) => {
                let mut plan = drawn(nodes, &mut Seeded::new(seed ^ 0x9142));
                add_bearers(&mut plan, &mut Seeded::new(seed ^ 0xbea5));
                plan
            }
        }
    }
}

/// The signed plan, as all nodes have it.
pub(crate) fn topology_of(plan: CityPlan) -> Topology {
    let admin = estafet_model::SigningKey::from_seed([7; 32]).public();
    let operator = Operator { id: "kepala".to_owned(), key: admin, role: OperatorRole::Admin };
    let address = SocketAddr::from(([127, 0, 0, 1], 4000));
    let setup = |node: &NodeId| NodeSetup { key: key_of(node).public(), addresses: vec![address], admin: address };
    plan.into_topology(operator, setup, |_| SealKey::from_bytes([7; SealKey::BYTES]))
}

impl std::fmt::Display for Place {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Place::Known(template) => template.fmt(formatter),
            Place::Drawn(nodes) => write!(formatter, "{nodes} nodes"),
            Place::Doubled(nodes) => write!(formatter, "{nodes} nodes with more bearers"),
        }
    }
}

/// Each node but the first hangs on an earlier one; a third as many links are added between any two. One city in three
/// has a second main server.
fn drawn(nodes: usize, seeded: &mut Seeded) -> CityPlan {
    let nodes = nodes.max(2);
    let mut ends: Vec<[usize; 2]> = (1..nodes).map(|node| [seeded.below(node), node]).collect();
    for _ in 0..nodes.div_ceil(3) {
        let pair = [seeded.below(nodes), seeded.below(nodes)];
        let (low, high) = (pair[0].min(pair[1]), pair[0].max(pair[1]));
        if low != high && !ends.contains(&[low, high]) {
            ends.push([low, high]);
        }
    }
    let hubs = if nodes > 2 && seeded.one_in(3) { 2 } else { 1 };
    let mut links: Vec<Link> = Vec::new();
    for ends in ends {
        let cost = LinkCost(seeded.pick(&[10, 10, 15, 20]));
        let capacity = seeded.pick(&[2_000_000, 4_000_000, 10_000_000, 20_000_000]);
        let first = Link::new(ends.map(name).map(|name| id(&name)), Medium::Radio, cost);
        links.push(Link { capacity_bits_per_second: Some(capacity), ..first });
    }
    let role = |number| if number < hubs { Role::Hub } else { Role::Relay };
    let nodes = (0..nodes).map(|number| planned_node(number, role(number))).collect();
    CityPlan { area: "kota".to_owned(), label: "Kota".to_owned(), links, nodes }
}

/// Puts a mobile network beside every other link.
fn add_bearers(plan: &mut CityPlan, seeded: &mut Seeded) {
    let mut added = Vec::new();
    for link in &plan.links {
        if seeded.one_in(2) {
            let cost = link.cost + LinkCost(seeded.pick(&[0, 5, 30]));
            let (metered, bulk) = seeded.pick(&[(false, false), (true, true), (true, false), (true, false)]);
            let capacity_bits_per_second = Some(seeded.pick(&[2_000_000, 4_000_000]));
            let beside = Link::new(link.ends.clone(), Medium::Cellular, cost);
            added.push(Link { capacity_bits_per_second, metered, bulk, ..beside });
        }
    }
    plan.links.extend(added);
}

fn planned_node(number: usize, role: Role) -> PlannedNode {
    PlannedNode {
        id: id(&name(number)),
        code: format!("{number:03X}").parse().expect("three symbols of base 32"),
        label: name(number),
        region: None,
        role,
        place: None,
        risks: Vec::new(),
    }
}

fn name(number: usize) -> String {
    if number == 0 { "induk".to_owned() } else { format!("kantor-{number}") }
}
