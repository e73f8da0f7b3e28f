//! For tests: the network of Pekanbaru as it was in 2013 and with redundant links, random graphs, a naive model.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use estafet_model::{Bearer, LinkCost, Medium, NodeId};
use proptest::prelude::*;

use crate::graph::{Edge, Graph};

const STAR: [&str; 10] = [
    "sukajadi",
    "pekanbaru-kota",
    "sail",
    "lima-puluh",
    "senapelan",
    "bukit-raya",
    "tampan",
    "marpoyan-damai",
    "tenayan-raya",
    "payung-sekaki",
];

const EXTRA: [(&str, &str); 6] = [
    ("rumbai", "senapelan"),
    ("rumbai-pesisir", "lima-puluh"),
    ("rumbai", "rumbai-pesisir"),
    ("sukajadi", "senapelan"),
    ("payung-sekaki", "tampan"),
    ("bukit-raya", "tenayan-raya"),
];

pub(crate) fn id(text: &str) -> NodeId {
    text.parse().unwrap()
}

/// The only bearer that a neighbor has in most tests.
pub(crate) fn by_radio(neighbor: &str) -> Bearer {
    Bearer::new(id(neighbor), Medium::Radio)
}

pub(crate) fn ids(texts: &[&str]) -> BTreeSet<NodeId> {
    texts.iter().map(|text| id(text)).collect()
}

pub(crate) fn words(nodes: &[NodeId]) -> String {
    nodes.iter().map(NodeId::as_str).collect::<Vec<_>>().join(" ")
}

fn links_2013() -> Vec<(&'static str, &'static str, u32)> {
    let star = STAR.iter().map(|branch| ("induk", *branch, 10));
    star.chain([("sukajadi", "rumbai", 10), ("sukajadi", "rumbai-pesisir", 10)]).collect()
}

fn graph(links: impl IntoIterator<Item = (&'static str, &'static str, u32)>) -> Graph {
    let none: &[String] = &[];
    Graph::from_links(links.into_iter().map(|(left, right, cost)| (id(left), id(right), LinkCost(cost), none)))
}

/// A star around the main office, and two offices that hang on a branch of it.
pub(crate) fn network_2013() -> Graph {
    graph(links_2013())
}

/// The same with a second way for the branches that hung on one.
pub(crate) fn redundant() -> Graph {
    let extra = EXTRA.iter().map(|(left, right)| (*left, *right, 15));
    graph(links_2013().into_iter().chain(extra))
}

/// Sail and Lima Puluh hang on one feeder, and the links of Sail and Marpoyan Damai to the main office on one mast.
pub(crate) fn with_risks(mut graph: Graph) -> Graph {
    for node in ["sail", "lima-puluh"] {
        graph.add_node_risks(id(node), ["pln".to_owned()]);
    }
    let mut risky = graph.clone();
    for end in ["sail", "marpoyan-damai"] {
        let risks = Arc::new(BTreeSet::from(["mast".to_owned()]));
        for (from, to) in [("induk", end), (end, "induk")] {
            let cost = LinkCost(graph.edge(&id(from), &id(to)).unwrap().cost.0 - 1);
            risky.add_edge(id(from), id(to), Edge::new(cost, Arc::clone(&risks)));
        }
    }
    risky
}

/// Up to eight nodes, up to thirty edges, costs small enough that many paths tie, now and then a draining node.
pub(crate) fn any_graph() -> impl Strategy<Value = Graph> {
    let edges = prop::collection::vec((0u8..8, 0u8..8, 1u32..6), 0..30);
    (2u8..8, edges, prop::collection::vec(0u8..8, 0..2)).prop_map(|(nodes, edges, draining)| {
        let name = |number: u8| id(&format!("n{}", number % nodes));
        let mut graph = Graph::new();
        (0..nodes).for_each(|number| graph.add_node(name(number)));
        for (from, to, cost) in edges {
            graph.add_edge(name(from), name(to), Edge::new(LinkCost(cost), Arc::default()));
        }
        draining.into_iter().for_each(|number| graph.drain(name(number)));
        graph
    })
}

/// Distances from `source` by the naive algorithm.
pub(crate) fn bellman_ford(graph: &Graph, source: &NodeId) -> BTreeMap<NodeId, LinkCost> {
    let mut costs = BTreeMap::from([(source.clone(), LinkCost(0))]);
    for _ in graph.nodes() {
        for (from, to, step) in graph.steps() {
            let Some(&near) = costs.get(from) else { continue };
            let far = costs.entry(to.clone()).or_insert(near + step);
            *far = (*far).min(near + step);
        }
    }
    costs
}
