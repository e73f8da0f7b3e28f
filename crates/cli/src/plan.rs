//! The topology as a plan: its map as if all were well, and the words for what can fail in it.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

use estafet_model::NodeId;
use estafet_routing::{Edge, Failure as Loss, Graph, Part, SinglePoint, impact};
use estafet_topology::Topology;
use serde::Serialize;

use crate::arguments::Options;
use crate::city::CityFolder;
use crate::failure::Failure;
use crate::output::Output;
use crate::topology_file::TopologyFile;

/// The topology that is asked about: `file`, or else the city's.
pub fn topology(options: &Options, file: Option<&Path>) -> Result<Topology, Failure> {
    match (file, &options.city) {
        (Some(file), _) => Ok(TopologyFile::read(file)?.topology),
        (None, Some(city)) => Ok(CityFolder::open(city)?.topology().clone()),
        (None, None) => Err(Failure::NoCity),
    }
}

/// The map with every node and link up, and what they fail together with.
#[must_use]
pub fn graph(topology: &Topology) -> Graph {
    let links = topology.links.iter().map(|link| {
        let ([left, right], risks) = (link.ends.clone(), link.risks.iter().cloned().collect());
        (left, right, Edge { medium: Some(link.medium), ..Edge::new(link.cost, Arc::new(risks)) })
    });
    let mut graph = Graph::from_edges(links);
    graph.add_nodes(topology.nodes.keys().cloned());
    for (id, node) in &topology.nodes {
        graph.add_node_risks(id.clone(), node.risks.iter().cloned());
    }
    graph
}

/// The offices to which only metered links lead that carry nothing but urgent records: all others wait there.
#[must_use]
pub fn urgent_only_offices(topology: &Topology) -> Vec<NodeId> {
    let (all, hubs) = (graph(topology), hubs(topology));
    let urgent_only = topology.links.iter().filter(|link| link.is_urgent_only());
    let loss = urgent_only.fold(Loss::new(), |loss, link| loss.and_bearer(&link.ends[0], &link.ends[1], link.medium));
    impact(&all, &hubs, &loss).cut_off
}

/// The nodes that commit records.
#[must_use]
pub fn hubs(topology: &Topology) -> BTreeSet<NodeId> {
    topology.hub_ids().cloned().collect()
}

/// A node for people.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Labeled {
    pub(crate) node: String,
    pub(crate) label: String,
}

impl Labeled {
    pub(crate) fn new(topology: &Topology, node: &NodeId) -> Self {
        let label = topology.node(node).map_or_else(String::new, |node| node.label.clone());
        Self { node: node.to_string(), label }
    }
}

/// Something that can fail by itself.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct NamedPart {
    /// `node`, `link` or `risk`.
    pub(crate) kind: &'static str,
    /// Both ends of a link, otherwise the one name.
    pub(crate) names: Vec<String>,
}

impl NamedPart {
    pub(crate) fn new(part: &Part) -> Self {
        let (kind, names) = match part {
            Part::Node(node) => ("node", vec![node.to_string()]),
            Part::Link(left, right) => ("link", vec![left.to_string(), right.to_string()]),
            Part::Risk(risk) => ("risk", vec![risk.clone()]),
        };
        Self { kind, names }
    }

    /// The name alone, as the tables show it.
    pub(crate) fn name(&self) -> String {
        self.names.join(" - ")
    }

    /// The name with its kind.
    pub(crate) fn text(&self) -> String {
        format!("{} {}", self.kind, self.name())
    }
}

/// A single point of failure, and whom it isolates.
#[derive(Debug, Serialize)]
pub(crate) struct Isolation {
    #[serde(flatten)]
    part: NamedPart,
    isolates: Vec<Labeled>,
    /// True if it takes every hub: then no link helps.
    leaves_no_hub: bool,
    #[serde(skip)]
    everybody: bool,
}

impl Isolation {
    pub(crate) fn new(topology: &Topology, point: &SinglePoint) -> Self {
        let fails = point.part.failure();
        let offices = topology.nodes.values().filter(|node| !topology.hub_ids().any(|hub| *hub == node.id));
        let standing = offices.filter(|node| !fails.takes_node(&node.id, &node.risks.iter().cloned().collect()));
        Self {
            part: NamedPart::new(&point.part),
            isolates: point.isolates.iter().map(|node| Labeled::new(topology, node)).collect(),
            leaves_no_hub: point.leaves_no_hub,
            everybody: point.isolates.len() == standing.count() && point.isolates.len() > 1,
        }
    }

    fn row(&self) -> [String; 4] {
        let names: Vec<&str> = self.isolates.iter().map(|isolated| isolated.node.as_str()).collect();
        let whom = if self.everybody { "everybody who stands".to_owned() } else { names.join(", ") };
        [self.part.kind.to_owned(), self.part.name(), names.len().to_string(), whom]
    }
}

/// Writes single points of failure as a table, or `nothing`.
pub(crate) fn table_of(points: &[Isolation], nothing: &str, output: &mut Output<'_>) -> Result<(), Failure> {
    let head = ["kind", "when it fails", "isolated", "whom"];
    output.table(head, points.iter().map(Isolation::row).collect(), nothing)
}
