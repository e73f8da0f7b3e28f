//! The map of an area: nodes, directed edges, what each edge costs and what it can fail with.

use std::collections::{BTreeMap, BTreeSet};

use estafet_model::{LinkCost, NodeId};

/// What leaving a draining node costs on top of the link: more than any path without one, so that it carries
/// transit only when nothing else is left, and little enough that the sum over a hundred of them does not saturate.
///
/// The idea is the stub router advertisement of RFC 6987. Only the edges that leave the node are raised: it stays
/// as near as ever as a destination, and its own ways out keep their order among each other.
pub const DRAINING_COST: LinkCost = LinkCost(1 << 24);

/// What leaving a node on battery costs on top of the link: more than any one link, so that powered ways are taken, and
/// so much less than [`DRAINING_COST`] that a way over a hundred batteries is better than one over a node that drains.
pub const BATTERY_COST: LinkCost = LinkCost(1 << 16);

/// One direction of a link.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Edge {
    /// What its tail says it costs. Never zero.
    pub cost: LinkCost,
    /// The shared-risk groups it can fail with.
    pub risks: BTreeSet<String>,
}

/// Nodes and directed edges, at most one edge from a node to another. Iterates in the order of node ids.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Graph {
    edges: BTreeMap<NodeId, BTreeMap<NodeId, Edge>>,
    draining: BTreeSet<NodeId>,
    on_battery: BTreeSet<NodeId>,
}

impl Graph {
    /// A graph without nodes.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The graph of links that work both ways at the same cost, each given as two ends, cost and risks.
    pub fn from_links<'a>(links: impl IntoIterator<Item = (NodeId, NodeId, LinkCost, &'a [String])>) -> Self {
        let mut graph = Self::new();
        for (left, right, cost, risks) in links {
            let edge = Edge { cost, risks: risks.iter().cloned().collect() };
            graph.add_edge(left.clone(), right.clone(), edge.clone());
            graph.add_edge(right, left, edge);
        }
        graph
    }

    /// Adds a node; one that is there stays as it is.
    pub fn add_node(&mut self, node: NodeId) {
        self.edges.entry(node).or_default();
    }

    /// Adds an edge, and its ends if they are new. Of two edges between the same nodes the cheaper stays; an edge
    /// from a node to itself is ignored.
    ///
    /// A cost of zero counts as one: shortest paths and the loop-free conditions need every step to cost something.
    pub fn add_edge(&mut self, from: NodeId, to: NodeId, mut edge: Edge) {
        self.add_node(to.clone());
        if from == to {
            return;
        }
        edge.cost = edge.cost.max(LinkCost(1));
        let out = self.edges.entry(from).or_default();
        if out.get(&to).is_none_or(|there| edge.cost < there.cost) {
            out.insert(to, edge);
        }
    }

    /// Marks a node as draining: see [`DRAINING_COST`].
    pub fn drain(&mut self, node: NodeId) {
        self.add_node(node.clone());
        self.draining.insert(node);
    }

    /// Marks a node as running on battery: see [`BATTERY_COST`].
    pub fn set_on_battery(&mut self, node: NodeId) {
        self.add_node(node.clone());
        self.on_battery.insert(node);
    }

    /// Those of `hubs` that do not drain. Nothing is sent to one that does: records are safest where they wait.
    #[must_use]
    pub fn serving(&self, hubs: &BTreeSet<NodeId>) -> BTreeSet<NodeId> {
        hubs.difference(&self.draining).cloned().collect()
    }

    /// True if `node` takes no transit while there is another way.
    #[must_use]
    pub fn is_draining(&self, node: &NodeId) -> bool {
        self.draining.contains(node)
    }

    /// True if `node` is there, with or without edges.
    #[must_use]
    pub fn contains(&self, node: &NodeId) -> bool {
        self.edges.contains_key(node)
    }

    /// All nodes, sorted.
    pub fn nodes(&self) -> impl Iterator<Item = &NodeId> {
        self.edges.keys()
    }

    /// The edges that leave `node`, sorted by where they lead.
    pub fn edges_from(&self, node: &NodeId) -> impl Iterator<Item = (&NodeId, &Edge)> {
        self.edges.get(node).into_iter().flatten()
    }

    /// The edge from one node to another.
    #[must_use]
    pub fn edge(&self, from: &NodeId, to: &NodeId) -> Option<&Edge> {
        self.edges.get(from)?.get(to)
    }

    /// Each edge as (from, to, what taking it costs): its own cost, and [`DRAINING_COST`] or [`BATTERY_COST`] if `from` is so.
    pub fn steps(&self) -> impl Iterator<Item = (&NodeId, &NodeId, LinkCost)> {
        self.edges
            .iter()
            .flat_map(move |(from, out)| out.iter().map(move |(to, edge)| (from, to, self.step_cost(from, edge))))
    }

    /// What taking `edge` out of `from` costs.
    pub(crate) fn step_cost(&self, from: &NodeId, edge: &Edge) -> LinkCost {
        if self.is_draining(from) {
            edge.cost + DRAINING_COST
        } else if self.on_battery.contains(from) {
            edge.cost + BATTERY_COST
        } else {
            edge.cost
        }
    }

    /// The graph that is left when `gone` and their edges are taken out.
    #[must_use]
    pub fn without(&self, gone: &BTreeSet<NodeId>) -> Self {
        let left = |node: &NodeId| !gone.contains(node);
        let edges = self.edges.iter().filter(|(node, _)| left(node)).map(|(node, out)| {
            let out = out.iter().filter(|(to, _)| left(to));
            (node.clone(), out.map(|(to, edge)| (to.clone(), edge.clone())).collect())
        });
        let less = |marked: &BTreeSet<NodeId>| marked.difference(gone).cloned().collect();
        Self { edges: edges.collect(), draining: less(&self.draining), on_battery: less(&self.on_battery) }
    }
}

/// The shared-risk groups of every link of the area, as the topology lists them.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct LinkRisks {
    by_ends: BTreeMap<(NodeId, NodeId), BTreeSet<String>>,
}

impl LinkRisks {
    /// No link with risks.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds risks to the link between two nodes, in whichever order.
    pub fn insert(&mut self, left: &NodeId, right: &NodeId, risks: impl IntoIterator<Item = String>) {
        self.by_ends.entry(ends(left, right)).or_default().extend(risks);
    }

    /// The risks of the link between two nodes; none if it is not listed.
    #[must_use]
    pub fn of(&self, left: &NodeId, right: &NodeId) -> BTreeSet<String> {
        self.by_ends.get(&ends(left, right)).cloned().unwrap_or_default()
    }
}

/// One key for both directions.
fn ends(left: &NodeId, right: &NodeId) -> (NodeId, NodeId) {
    if left <= right { (left.clone(), right.clone()) } else { (right.clone(), left.clone()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pekanbaru::{id, ids, network_2013};

    fn edge(cost: u32) -> Edge {
        Edge { cost: LinkCost(cost), risks: BTreeSet::new() }
    }

    #[test]
    fn links_work_both_ways_and_nodes_may_stand_alone() {
        let mut graph = network_2013();
        assert_eq!(graph.edge(&id("rumbai"), &id("sukajadi")), graph.edge(&id("sukajadi"), &id("rumbai")));
        assert_eq!(graph.edge(&id("rumbai"), &id("induk")), None);
        graph.add_node(id("alone"));
        assert!(graph.contains(&id("alone")));
        assert_eq!(graph.edges_from(&id("alone")).count(), 0);
    }

    #[test]
    fn taking_nodes_out_takes_their_edges_out() {
        let left = network_2013().without(&ids(&["sukajadi"]));
        assert!(!left.contains(&id("sukajadi")));
        assert_eq!(left.edges_from(&id("rumbai")).count(), 0);
        assert_eq!(left.edges_from(&id("induk")).count(), 9);
    }

    #[test]
    fn the_cheaper_of_two_edges_stays_and_none_is_free() {
        let mut graph = Graph::new();
        for cost in [7, 3, 5] {
            graph.add_edge(id("a"), id("b"), edge(cost));
        }
        graph.add_edge(id("b"), id("a"), edge(0));
        graph.add_edge(id("a"), id("a"), edge(1));
        let steps: Vec<_> = graph.steps().map(|(from, to, cost)| (from.as_str(), to.as_str(), cost.0)).collect();
        assert_eq!(steps, [("a", "b", 3), ("b", "a", 1)]);
    }

    #[test]
    fn leaving_costs_more_on_battery_and_most_when_draining_and_no_hub_that_drains_is_served() {
        let mut graph = network_2013();
        let plain = graph.edge(&id("sukajadi"), &id("induk")).unwrap().clone();
        let leaving = |graph: &Graph| graph.step_cost(&id("sukajadi"), &plain);
        assert_eq!(leaving(&graph), plain.cost);
        graph.set_on_battery(id("sukajadi"));
        assert_eq!(leaving(&graph), plain.cost + BATTERY_COST);
        graph.drain(id("sukajadi"));
        assert_eq!(leaving(&graph), plain.cost + DRAINING_COST);
        let hubs = ids(&["induk", "sukajadi"]);
        assert_eq!(graph.serving(&hubs), ids(&["induk"]));
        assert_eq!(graph.without(&ids(&["sukajadi"])).serving(&hubs), hubs, "who is gone drains nothing");
    }

    #[test]
    fn risks_of_a_link_do_not_depend_on_the_direction() {
        let mut risks = LinkRisks::new();
        risks.insert(&id("b"), &id("a"), ["pln-sukajadi".to_owned()]);
        assert_eq!(risks.of(&id("a"), &id("b")), risks.of(&id("b"), &id("a")));
        assert_eq!(risks.of(&id("a"), &id("b")).len(), 1);
        assert!(risks.of(&id("a"), &id("c")).is_empty());
    }
}
