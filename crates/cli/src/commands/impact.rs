//! `topology impact`: tells beforehand what a failure would do. Works on a file, so it can be asked in the dark.

use std::collections::BTreeSet;
use std::path::Path;

use estafet_model::NodeId;
use estafet_routing::{Detour, Graph, Impact};
use estafet_topology::Topology;
use serde::Serialize;

use crate::arguments::Options;
use crate::city::CityFolder;
use crate::failure::{Failure, Outcome};
use crate::output::Output;
use crate::reach::node_unknown;
use crate::topology_file::TopologyFile;

#[derive(Serialize)]
struct Told<'a> {
    failed: &'a BTreeSet<String>,
    cut_off: Vec<CutOff<'a>>,
    detoured: Vec<Detoured>,
}

#[derive(Serialize)]
struct CutOff<'a> {
    node: &'a str,
    label: &'a str,
}

#[derive(Serialize)]
struct Detoured {
    node: String,
    via: Vec<String>,
    cost_before: u32,
    cost_after: u32,
}

/// The topology that is asked about: `file`, or else the city's.
pub fn topology(options: &Options, file: Option<&Path>) -> Result<Topology, Failure> {
    match (file, &options.city) {
        (Some(file), _) => Ok(TopologyFile::read(file)?.topology),
        (None, Some(city)) => Ok(CityFolder::open(city)?.topology().clone()),
        (None, None) => Err(Failure::NoCity),
    }
}

/// Tells who is cut off and who takes another way when all of `failed` are gone.
pub fn impact(topology: &Topology, failed: Vec<NodeId>, output: &mut Output<'_>) -> Result<Outcome, Failure> {
    if let Some(unknown) = failed.iter().find(|node| topology.node(node).is_none()) {
        return Err(node_unknown(topology, unknown));
    }
    let failed: BTreeSet<NodeId> = failed.into_iter().collect();
    let hubs = topology.hub_ids().cloned().collect();
    let Impact { cut_off, detoured } = estafet_routing::impact(&graph(topology), &hubs, &failed);
    let told = Told {
        failed: &failed.iter().map(ToString::to_string).collect(),
        cut_off: cut_off.iter().map(|node| CutOff { node: node.as_str(), label: label(topology, node) }).collect(),
        detoured: detoured.iter().map(Detoured::from).collect(),
    };
    output.answer(&told, print)?;
    Ok(Outcome::Good)
}

fn print(told: &Told<'_>, output: &mut Output<'_>) -> Result<(), Failure> {
    let cut_off = told.cut_off.iter().map(|CutOff { node, label }| {
        let why = if told.failed.contains(*node) { "fails itself" } else { "loses its last way" };
        [(*node).to_owned(), (*label).to_owned(), why.to_owned()]
    });
    output.table(["cut off", "label", "why"], cut_off.collect(), "Nobody is cut off.")?;
    output.line("")?;
    let detoured = told.detoured.iter().map(|Detoured { node, via, cost_before, cost_after }| {
        let via = if via.is_empty() { "(straight to the hub)".to_owned() } else { via.join(", ") };
        [node.clone(), via, format!("{cost_before} -> {cost_after}")]
    });
    output.table(["detoured", "via", "cost"], detoured.collect(), "Nobody takes another way.")
}

fn graph(topology: &Topology) -> Graph {
    let links = topology.links.iter().map(|link| {
        let [left, right] = link.ends.clone();
        (left, right, link.cost, link.risks.as_slice())
    });
    Graph::from_links(links)
}

fn label<'a>(topology: &'a Topology, node: &NodeId) -> &'a str {
    topology.node(node).map_or("", |node| &node.label)
}

impl From<&Detour> for Detoured {
    fn from(detour: &Detour) -> Self {
        Self {
            node: detour.node.to_string(),
            via: detour.via.iter().map(ToString::to_string).collect(),
            cost_before: detour.cost_before.0,
            cost_after: detour.cost_after.0,
        }
    }
}
