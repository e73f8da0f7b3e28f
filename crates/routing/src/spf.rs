//! Shortest paths first: Dijkstra's algorithm with one answer among equals.

use std::cmp::Reverse;
use std::collections::{BTreeSet, BinaryHeap};
use std::sync::Arc;

use estafet_model::{LinkCost, NodeId};

use crate::graph::{Graph, Index, index_of};

/// The shortest paths between one root (or the nearest of several) and every node that has one.
///
/// Among paths of equal cost the one to the root with the smaller id wins, then the one with fewer hops, then the
/// one whose neighbor toward the root has the smaller id. These rules choose a tree, so that along a path to the
/// root each node agrees with the one before it.
#[derive(Debug, Clone)]
pub struct ShortestPaths {
    ids: Arc<Vec<NodeId>>,
    /// By index; nothing for a node that has no path.
    labels: Vec<Option<Label>>,
    direction: Direction,
}

#[derive(Debug, Clone, Copy)]
struct Label {
    cost: LinkCost,
    root: Index,
    hops: u32,
    /// The neighbor toward the root; nothing at the root itself.
    rootward: Option<Index>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Direction {
    /// Paths begin at the root.
    FromRoot,
    /// Paths end at the root.
    TowardRoot,
}

/// A way to reach `node`, ordered by how good it is. The order of indices is that of ids.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Candidate {
    cost: LinkCost,
    root: Index,
    hops: u32,
    rootward: Option<Index>,
    node: Index,
}

impl ShortestPaths {
    /// The shortest paths that begin at `source`. None at all if it is not in the graph.
    #[must_use]
    pub fn from(graph: &Graph, source: &NodeId) -> Self {
        Self::run(graph, std::iter::once(source), Direction::FromRoot)
    }

    /// The shortest paths that end at the nearest of `destinations`, as if one more node stood behind all of them.
    #[must_use]
    pub fn toward(graph: &Graph, destinations: &BTreeSet<NodeId>) -> Self {
        Self::run(graph, destinations.iter(), Direction::TowardRoot)
    }

    /// The shortest paths that end at `destination`.
    #[must_use]
    pub fn toward_one(graph: &Graph, destination: &NodeId) -> Self {
        Self::run(graph, std::iter::once(destination), Direction::TowardRoot)
    }

    fn run<'a>(graph: &Graph, roots: impl Iterator<Item = &'a NodeId>, direction: Direction) -> Self {
        let steps = OutwardSteps::of(graph, direction);
        let mut labels: Vec<Option<Label>> = vec![None; graph.ids().len()];
        let mut open: BinaryHeap<Reverse<Candidate>> = roots
            .filter_map(|root| graph.index(root))
            .map(|root| Reverse(Candidate { cost: LinkCost(0), root, hops: 0, rootward: None, node: root }))
            .collect();
        while let Some(Reverse(Candidate { cost, root, hops, rootward, node })) = open.pop() {
            if labels[node as usize].is_some() {
                continue;
            }
            labels[node as usize] = Some(Label { cost, root, hops, rootward });
            let onward = steps.of_node(node).iter().filter(|(next, _)| labels[*next as usize].is_none());
            open.extend(onward.map(|&(next, step)| {
                Reverse(Candidate { cost: cost + step, root, hops: hops + 1, rootward: Some(node), node: next })
            }));
        }
        Self { ids: Arc::clone(graph.ids()), labels, direction }
    }

    /// What the path between the root and `node` costs; nothing if there is none.
    #[must_use]
    pub fn cost(&self, node: &NodeId) -> Option<LinkCost> {
        self.label(node).map(|label| label.cost)
    }

    /// The root that `node` belongs to: the nearest destination.
    #[must_use]
    pub fn root(&self, node: &NodeId) -> Option<&NodeId> {
        self.label(node).map(|label| &self.ids[label.root as usize])
    }

    /// The path between the root and `node`, both included, in the direction of travel.
    #[must_use]
    pub fn path(&self, node: &NodeId) -> Option<Vec<NodeId>> {
        let mut label = self.label(node)?;
        let mut path = vec![node.clone()];
        while let Some(rootward) = label.rootward {
            path.push(self.ids[rootward as usize].clone());
            label = self.labels[rootward as usize].as_ref()?;
        }
        if self.direction == Direction::FromRoot {
            path.reverse();
        }
        Some(path)
    }

    /// The cost of the path between the root and the node at `index`, and in how many hops.
    pub(crate) fn reach(&self, index: Index) -> Option<(LinkCost, u32)> {
        self.labels[index as usize].map(|label| (label.cost, label.hops))
    }

    fn label(&self, node: &NodeId) -> Option<&Label> {
        self.labels[index_of(&self.ids, node)? as usize].as_ref()
    }
}

/// For each node, the nodes one step farther from the root and what that step costs in the direction of travel: one
/// list for all, and where in it each node's part begins.
struct OutwardSteps {
    begins: Vec<usize>,
    steps: Vec<(Index, LinkCost)>,
}

impl OutwardSteps {
    fn of(graph: &Graph, direction: Direction) -> Self {
        let outward = || {
            graph.index_steps().map(move |(from, to, cost)| match direction {
                Direction::FromRoot => (from, to, cost),
                Direction::TowardRoot => (to, from, cost),
            })
        };
        let mut begins = vec![0; graph.ids().len() + 1];
        outward().for_each(|(near, ..)| begins[near as usize + 1] += 1);
        for node in 1..begins.len() {
            begins[node] += begins[node - 1];
        }
        let mut ends = begins.clone();
        let mut steps = vec![(0, LinkCost(0)); *begins.last().expect("it begins with 0")];
        for (near, far, cost) in outward() {
            steps[ends[near as usize]] = (far, cost);
            ends[near as usize] += 1;
        }
        Self { begins, steps }
    }

    fn of_node(&self, node: Index) -> &[(Index, LinkCost)] {
        &self.steps[self.begins[node as usize]..self.begins[node as usize + 1]]
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::pekanbaru::{any_graph, bellman_ford, id, ids, network_2013, redundant, words};

    fn path_cost(graph: &Graph, path: &[NodeId]) -> LinkCost {
        let cost = |step: &[NodeId]| {
            let taken = graph.steps().find(|(from, to, _)| [*from, *to] == [&step[0], &step[1]]);
            taken.expect("a path follows edges").2
        };
        path.windows(2).fold(LinkCost(0), |sum, step| sum + cost(step))
    }

    proptest! {
        #[test]
        fn agrees_with_bellman_ford_in_both_directions(graph in any_graph()) {
            for root in graph.nodes() {
                let from = ShortestPaths::from(&graph, root);
                let toward = ShortestPaths::toward_one(&graph, root);
                for node in graph.nodes() {
                    prop_assert_eq!(from.cost(node), bellman_ford(&graph, root).get(node).copied());
                    prop_assert_eq!(toward.cost(node), bellman_ford(&graph, node).get(root).copied());
                    for (paths, first, last) in [(&from, root, node), (&toward, node, root)] {
                        if let Some(path) = paths.path(node) {
                            prop_assert_eq!(path.first(), Some(first));
                            prop_assert_eq!(path.last(), Some(last));
                            prop_assert_eq!(Some(path_cost(&graph, &path)), paths.cost(node));
                        }
                    }
                }
            }
        }

        #[test]
        fn nodes_along_a_path_agree_on_the_rest_of_it(graph in any_graph()) {
            let hubs: BTreeSet<NodeId> = graph.nodes().take(2).cloned().collect();
            let toward = ShortestPaths::toward(&graph, &hubs);
            for node in graph.nodes() {
                let Some(path) = toward.path(node) else { continue };
                for start in 0..path.len() {
                    prop_assert_eq!(toward.path(&path[start]), Some(path[start..].to_vec()));
                    prop_assert_eq!(toward.root(&path[start]), path.last());
                }
            }
        }
    }

    #[test]
    fn finds_the_ways_of_pekanbaru() {
        let rows = [
            ("rumbai", "induk", "rumbai sukajadi induk", 20),
            ("rumbai", "senapelan", "rumbai senapelan", 15),
            ("tampan", "payung-sekaki", "tampan payung-sekaki", 15),
            ("rumbai-pesisir", "sail", "rumbai-pesisir sukajadi induk sail", 30),
        ];
        let graph = redundant();
        for (from, to, path, cost) in rows {
            let paths = ShortestPaths::from(&graph, &id(from));
            assert_eq!(words(&paths.path(&id(to)).unwrap()), path);
            assert_eq!(paths.cost(&id(to)), Some(LinkCost(cost)));
        }
    }

    #[test]
    fn equal_costs_go_to_fewer_hops_then_to_the_smaller_id() {
        let none: &[String] = &[];
        let links = [("s", "b", 1), ("s", "c", 1), ("b", "d", 1), ("c", "d", 1), ("s", "x", 1), ("x", "y", 1)];
        let mut graph = Graph::from_links(links.map(|(a, b, cost)| (id(a), id(b), LinkCost(cost), none)));
        assert_eq!(words(&ShortestPaths::from(&graph, &id("s")).path(&id("d")).unwrap()), "s b d");
        let direct = crate::graph::Edge::new(LinkCost(2), Arc::default());
        graph.add_edge(id("s"), id("d"), direct);
        assert_eq!(words(&ShortestPaths::from(&graph, &id("s")).path(&id("d")).unwrap()), "s d");
    }

    #[test]
    fn nothing_is_reached_from_or_beyond_what_is_not_there() {
        let graph = network_2013().without(&ids(&["sukajadi"]));
        assert_eq!(ShortestPaths::from(&graph, &id("sukajadi")).cost(&id("induk")), None);
        assert_eq!(ShortestPaths::from(&graph, &id("rumbai")).path(&id("induk")), None);
        assert_eq!(ShortestPaths::from(&graph, &id("rumbai")).cost(&id("rumbai")), Some(LinkCost(0)));
    }
}
