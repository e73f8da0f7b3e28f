//! What fails together: nodes, links and shared risks, and what of a map goes down with them.

use std::collections::BTreeSet;

use estafet_model::{Medium, NodeId};

use crate::graph::{Graph, Risks, in_order};

/// Nodes, links and risks that fail at the same moment.
///
/// A risk strikes every link and every node that names it. A node takes its links with it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Failure {
    nodes: BTreeSet<NodeId>,
    /// Each by its ends in order.
    links: BTreeSet<(NodeId, NodeId)>,
    /// Each by its ends in order, and what carries it.
    bearers: BTreeSet<(NodeId, NodeId, Medium)>,
    risks: Risks,
}

impl Failure {
    /// Nothing fails.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// A node fails too.
    #[must_use]
    pub fn and_node(mut self, node: NodeId) -> Self {
        self.nodes.insert(node);
        self
    }

    /// All that links two nodes fails too, in both directions.
    #[must_use]
    pub fn and_link(mut self, left: &NodeId, right: &NodeId) -> Self {
        let (first, second) = in_order(left, right);
        self.links.insert((first.clone(), second.clone()));
        self
    }

    /// One of the links between two nodes fails too, in both directions.
    #[must_use]
    pub fn and_bearer(mut self, left: &NodeId, right: &NodeId, medium: Medium) -> Self {
        let (first, second) = in_order(left, right);
        self.bearers.insert((first.clone(), second.clone(), medium));
        self
    }

    /// A shared risk strikes too.
    #[must_use]
    pub fn and_risk(mut self, risk: String) -> Self {
        self.risks.insert(risk);
        self
    }

    /// True if a node fails itself: it is named, or one of its risks is.
    #[must_use]
    pub fn takes_node(&self, node: &NodeId, risks: &Risks) -> bool {
        self.nodes.contains(node) || !self.risks.is_disjoint(risks)
    }

    /// True if a link fails though its ends may stand: it is named, or one of its risks is.
    #[must_use]
    pub fn takes_link(&self, left: &NodeId, right: &NodeId, medium: Option<Medium>, risks: &Risks) -> bool {
        let (first, second) = in_order(left, right);
        let named = !self.links.is_empty() && self.links.contains(&(first.clone(), second.clone()));
        let carried_by = |medium| self.bearers.contains(&(first.clone(), second.clone(), medium));
        let bearer_named = !self.bearers.is_empty() && medium.is_some_and(carried_by);
        named || bearer_named || !self.risks.is_disjoint(risks)
    }

    /// What of `graph` is left.
    #[must_use]
    pub fn leaves_of(&self, graph: &Graph) -> Graph {
        graph.filtered(
            |node, risks| !self.takes_node(node, risks),
            |from, to, edge| !self.takes_link(from, to, edge.medium, &edge.risks),
        )
    }
}

/// One thing that can fail by itself.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Part {
    /// A node.
    Node(NodeId),
    /// The only link between two nodes, in the order of their ids.
    Link(NodeId, NodeId),
    /// A shared risk, with all that names it.
    Risk(String),
}

impl Part {
    /// Everything of `graph` that can fail by itself: its nodes, its links where they have no spare, and the risks that
    /// they name. Sorted.
    #[must_use]
    pub fn all_of(graph: &Graph) -> BTreeSet<Self> {
        let nodes = graph.nodes().cloned().map(Self::Node);
        let edges = || graph.nodes().flat_map(|from| graph.edges_from(from).map(move |(to, edge)| (from, to, edge)));
        let links = edges().filter(|(.., edge)| edge.spare.is_none()).map(|(from, to, _)| {
            let (first, second) = in_order(from, to);
            Self::Link(first.clone(), second.clone())
        });
        let of_links = edges().flat_map(|(.., edge)| edge.bearers()).flat_map(|edge| edge.risks.iter());
        let of_nodes = graph.nodes().flat_map(|node| graph.node_risks(node));
        nodes.chain(links).chain(of_links.chain(of_nodes).cloned().map(Self::Risk)).collect()
    }

    /// That it fails, and nothing else.
    #[must_use]
    pub fn failure(&self) -> Failure {
        match self {
            Self::Node(node) => Failure::new().and_node(node.clone()),
            Self::Link(left, right) => Failure::new().and_link(left, right),
            Self::Risk(risk) => Failure::new().and_risk(risk.clone()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pekanbaru::{id, redundant, with_risks, words};

    fn steps(graph: &Graph) -> usize {
        graph.steps().count()
    }

    #[test]
    fn a_failure_takes_what_it_names_and_what_names_its_risks() {
        let graph = with_risks(redundant());
        let (nodes, all) = (graph.nodes().count(), steps(&graph));
        for (failure, nodes_gone, steps_gone) in [
            (Failure::new(), 0, 0),
            (Failure::new().and_node(id("rumbai")), 1, 6),
            (Failure::new().and_link(&id("sail"), &id("induk")), 0, 2),
            (Failure::new().and_link(&id("sail"), &id("rumbai")), 0, 0),
            (Failure::new().and_risk("mast".to_owned()), 0, 4),
            (Failure::new().and_risk("pln".to_owned()), 2, 6),
            (Failure::new().and_risk("pln".to_owned()).and_node(id("sail")), 2, 6),
        ] {
            let left = failure.leaves_of(&graph);
            assert_eq!((nodes - left.nodes().count(), all - steps(&left)), (nodes_gone, steps_gone), "{failure:?}");
        }
    }

    #[test]
    fn the_parts_of_a_map_are_its_nodes_links_and_risks() {
        let parts = Part::all_of(&with_risks(redundant()));
        let count = |pick: fn(&Part) -> bool| parts.iter().filter(|part| pick(part)).count();
        assert_eq!(count(|part| matches!(part, Part::Node(_))), 13);
        assert_eq!(count(|part| matches!(part, Part::Link(..))), 18);
        assert_eq!(count(|part| matches!(part, Part::Risk(_))), 2);
        let left = Part::Node(id("sail")).failure().leaves_of(&redundant());
        assert_eq!(words(&left.nodes().cloned().collect::<Vec<_>>()).matches("sail").count(), 0);
    }
}
