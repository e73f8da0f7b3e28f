//! The one way to write a topology: what is signed and compared.
//!
//! Tables come in the order area, operators, hubs, nodes, former nodes, links, outages, each sorted; keys in the order of the
//! struct's fields; what is not set is left out. People can read it, and a change of one node changes its lines
//! only.

use std::fmt::{Display, Write};

use crate::topology::{FormerNode, Hub, Link, Node, Operator, Outage, Role, Topology};
use crate::values::{Capacity, Span};

impl Topology {
    /// The canonical text. It parses back to an equal topology, and equal topologies have equal texts.
    #[must_use]
    pub fn to_toml(&self) -> String {
        let mut sorted = self.clone();
        sorted.sort();
        let mut text = TextWriter::default();
        text.quoted("area", &sorted.area);
        text.quoted("label", &sorted.label);
        text.plain("version", sorted.version);
        if sorted.copies != 1 {
            text.plain("copies", sorted.copies);
        }
        if sorted.required_signatures != 1 {
            text.plain("required_signatures", sorted.required_signatures);
        }
        sorted.operators.iter().for_each(|operator| write_operator(&mut text, operator));
        sorted.hubs.iter().for_each(|hub| write_hub(&mut text, hub));
        sorted.nodes.values().for_each(|node| write_node(&mut text, node));
        sorted.former_nodes.iter().for_each(|former| write_former_node(&mut text, former));
        sorted.links.iter().for_each(|link| write_link(&mut text, link));
        sorted.outages.iter().for_each(|outage| write_outage(&mut text, outage));
        text.0
    }
}

impl Link {
    /// The link alone, as it stands in the canonical text: a `[[link]]` that can be put into a file.
    #[must_use]
    pub fn to_toml(&self) -> String {
        let mut text = TextWriter::default();
        write_link(&mut text, self);
        text.0.trim_start().to_owned()
    }
}

fn write_operator(text: &mut TextWriter, operator: &Operator) {
    text.heading("operator");
    text.quoted("id", &operator.id);
    text.quoted("key", operator.key);
    text.quoted("role", operator.role);
}

fn write_hub(text: &mut TextWriter, hub: &Hub) {
    text.heading("hub");
    text.quoted("node", &hub.node);
    text.quoted("seal_key", &hub.seal_key);
}

fn write_node(text: &mut TextWriter, node: &Node) {
    text.heading("node");
    text.quoted("id", &node.id);
    text.quoted("code", node.code);
    text.quoted("label", &node.label);
    if let Some(region) = &node.region {
        text.quoted("region", region);
    }
    text.quoted("role", node.role);
    text.quoted("key", node.key);
    text.list("addresses", &node.addresses);
    text.quoted("admin", node.admin);
    if let Some(place) = &node.place {
        // The debug form of a float is the shortest that reads back as the same float, and always has a point.
        text.plain("place", format_args!("{{ latitude = {:?}, longitude = {:?} }}", place.latitude, place.longitude));
    }
    if let Some(power) = &node.power {
        text.plain("power", format_args!("{{ ups_minutes = {} }}", power.ups_minutes));
    }
    text.list_unless_empty("risks", &node.risks);
}

fn write_former_node(text: &mut TextWriter, former: &FormerNode) {
    text.heading("former_node");
    text.quoted("id", &former.id);
    text.quoted("code", former.code);
    text.quoted("key", former.key);
    if former.role != Role::Relay {
        text.quoted("role", former.role);
    }
    if former.accept {
        text.plain("accept", true);
    }
}

fn write_link(text: &mut TextWriter, link: &Link) {
    text.heading("link");
    text.list("ends", &link.ends);
    text.quoted("medium", link.medium);
    text.plain("cost", link.cost);
    if let Some(capacity) = link.capacity_bits_per_second {
        text.quoted("capacity", Capacity(capacity));
    }
    text.list_unless_empty("risks", &link.risks);
    if !link.addresses.is_empty() {
        let ends: Vec<String> =
            link.addresses.iter().map(|(end, listed)| format!("{end} = {}", list(listed))).collect();
        text.plain("addresses", format_args!("{{ {} }}", ends.join(", ")));
    }
    for (key, is_set) in [("metered", link.metered), ("bulk", link.bulk)] {
        if is_set {
            text.plain(key, true);
        }
    }
}

fn write_outage(text: &mut TextWriter, outage: &Outage) {
    text.heading("outage");
    text.quoted("start", &outage.start);
    text.list_unless_empty("nodes", &outage.nodes);
    text.list_unless_empty("links", &outage.links);
    text.list_unless_empty("risks", &outage.risks);
    text.quoted("duration", Span(outage.duration));
    if let Some(every) = outage.every {
        text.quoted("every", Span(every));
    }
    text.quoted("reason", &outage.reason);
}

#[derive(Default)]
struct TextWriter(String);

impl TextWriter {
    fn heading(&mut self, name: &str) {
        self.line(format_args!("\n[[{name}]]"));
    }

    fn plain(&mut self, key: &str, value: impl Display) {
        self.line(format_args!("{key} = {value}"));
    }

    fn quoted(&mut self, key: &str, value: impl Display) {
        self.plain(key, quote(&value));
    }

    fn list<T: Display>(&mut self, key: &str, values: &[T]) {
        self.plain(key, list(values));
    }

    fn list_unless_empty<T: Display>(&mut self, key: &str, values: &[T]) {
        if !values.is_empty() {
            self.list(key, values);
        }
    }

    fn line(&mut self, line: impl Display) {
        writeln!(self.0, "{line}").expect("a string takes all that is written to it");
    }
}

/// An array of basic strings.
fn list<T: Display>(values: &[T]) -> String {
    let items: Vec<String> = values.iter().map(|value| quote(value)).collect();
    format!("[{}]", items.join(", "))
}

/// A basic TOML string.
fn quote(value: &impl Display) -> String {
    let mut quoted = String::from('"');
    for letter in value.to_string().chars() {
        match letter {
            '"' | '\\' => quoted.extend(['\\', letter]),
            control if control.is_control() => quoted.push_str(&format!("\\u{:04X}", u32::from(control))),
            plain => quoted.push(plain),
        }
    }
    quoted.push('"');
    quoted
}
