//! Networks of drills that no template knows: names of real sub-districts, media and capacities of our own reading.

use estafet_model::LinkCost;
use estafet_topology::{CityPlan, Link, Medium, PlannedNode, Role};

use crate::city::id;

/// A main server, `induk`, with these offices.
pub(super) fn city<const N: usize>(area: &str, label: &str, offices: [PlannedNode; N], links: Vec<Link>) -> CityPlan {
    let hub = PlannedNode { role: Role::Hub, ..site("induk", label) };
    let mut nodes = vec![hub];
    nodes.extend(offices);
    CityPlan { area: area.to_owned(), label: label.to_owned(), nodes, links }
}

/// An office with a counter.
pub(super) fn office(name: &str, label: &str) -> PlannedNode {
    site(name, &format!("Kecamatan {label}"))
}

/// A relay. The short code is made of the consonants of its name.
pub(super) fn site(name: &str, label: &str) -> PlannedNode {
    PlannedNode {
        id: id(name),
        code: code(name).parse().expect("three symbols of base 32"),
        label: label.to_owned(),
        region: None,
        role: Role::Relay,
        place: None,
        risks: Vec::new(),
    }
}

fn code(name: &str) -> String {
    let backup = name.contains('-');
    let consonants = name.chars().filter(|letter| !"aeiouloi-".contains(*letter));
    let code: String = consonants.take(if backup { 2 } else { 3 }).collect();
    let code = if backup { format!("{code}2") } else { code };
    format!("{code:0<3}").to_uppercase()
}

pub(super) fn line(ends: [&str; 2], medium: Medium, cost: u32, bits_per_second: u64) -> Link {
    Link { capacity_bits_per_second: Some(bits_per_second), ..Link::new(ends.map(id), medium, LinkCost(cost)) }
}
