//! Coverage: for how many destinations an alternate stands ready that outlives the next hop.
//!
//! RFC 7490 (section 1) and the studies behind RFC 5286 measure a network by the share of destinations that are
//! protected. Here a destination D of a source S counts as protected if one of the alternates of S toward D, as
//! [`route`](crate::route) finds them,
//!
//! - is node-protecting (RFC 5286 section 3.2), so that it holds when the next hop E dies; or,
//! - where E is D itself and its death cannot be survived, is any alternate at all: it reaches D when only the link
//!   between S and D is lost (link protection, section 3.1).
//!
//! Destinations are the nodes that S reaches by the map, S left out. What SPF would find after the failure does not
//! count: an alternate must stand ready.

use estafet_model::{LinkCost, NodeId};

use crate::graph::{Graph, Index};
use crate::spf::ShortestPaths;

/// How many destinations of one source are protected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Coverage {
    /// Destinations with such an alternate.
    pub protected: usize,
    /// All that the source reaches.
    pub destinations: usize,
}

impl Coverage {
    /// The share of protected destinations, 0 to 1; nothing if there are no destinations.
    #[must_use]
    pub fn share(self) -> Option<f64> {
        (self.destinations > 0).then(|| self.protected as f64 / self.destinations as f64)
    }
}

/// The coverage of one source: none of no destinations if it is not in the graph. Takes one SPF run, and one more for
/// each neighbor.
#[must_use]
pub fn coverage(graph: &Graph, source: &NodeId) -> Coverage {
    let neighbors = graph.edges_from(source).map(|(neighbor, _)| neighbor);
    let runs: Vec<(Index, ShortestPaths)> = std::iter::once(source)
        .chain(neighbors)
        .filter_map(|node| Some((graph.index(node)?, ShortestPaths::from(graph, node))))
        .collect();
    let run = |node: Index| runs.iter().find(|(of, _)| *of == node).map(|(_, paths)| paths);
    graph.index(source).map_or(Coverage { protected: 0, destinations: 0 }, |source| covered(graph, source, &run))
}

/// The coverage of every node, sorted by node. Takes one SPF run for each node, and room for the square of their number.
#[must_use]
pub fn coverages(graph: &Graph) -> Vec<(NodeId, Coverage)> {
    let runs: Vec<ShortestPaths> = graph.nodes().map(|node| ShortestPaths::from(graph, node)).collect();
    let run = |node: Index| runs.get(node as usize);
    graph.nodes().cloned().zip((0..).map(|source| covered(graph, source, &run))).collect()
}

/// The coverage of `source`; `run` has the shortest paths from it and from each of its neighbors.
fn covered<'a>(graph: &Graph, source: Index, run: &impl Fn(Index) -> Option<&'a ShortestPaths>) -> Coverage {
    let neighbors: Vec<Neighbor<'a>> = graph
        .index_edges(source)
        .filter_map(|(node, cost)| Some(Neighbor { node, cost, from_it: run(node)? }))
        .collect();
    let mut coverage = Coverage { protected: 0, destinations: 0 };
    for destination in (0..).take(graph.ids().len()).filter(|node| *node != source) {
        let Some(paths) = run(source) else { break };
        if let Some((cost, _)) = paths.reach(destination) {
            coverage.destinations += 1;
            coverage.protected += usize::from(is_protected(&neighbors, source, destination, cost));
        }
    }
    coverage
}

/// A neighbor of the source.
struct Neighbor<'a> {
    node: Index,
    /// What the step to it costs.
    cost: LinkCost,
    from_it: &'a ShortestPaths,
}

impl Neighbor<'_> {
    fn cost_to(&self, node: Index) -> Option<LinkCost> {
        self.from_it.reach(node).map(|(cost, _)| cost)
    }

    /// True if no shortest path of it to `destination` leads through `node`, from where it costs `onward`.
    fn avoids(&self, node: Index, onward: Option<LinkCost>, destination: Index) -> bool {
        let Some(direct) = self.cost_to(destination) else { return false };
        self.cost_to(node).zip(onward).is_none_or(|(there, onward)| direct < there + onward)
    }
}

/// True if the source, from where `destination` costs `cost`, has an alternate as this module's doc demands it.
fn is_protected(neighbors: &[Neighbor<'_>], source: Index, destination: Index, cost: LinkCost) -> bool {
    // The same choice as SPF makes: by cost, then by hops, then by id, in which order the neighbors are.
    let ways = neighbors.iter().filter_map(|neighbor| {
        let (onward, hops) = neighbor.from_it.reach(destination)?;
        Some(((neighbor.cost + onward, hops, neighbor.node), neighbor))
    });
    let Some((_, primary)) = ways.min_by_key(|(rank, _)| *rank) else { return false };
    neighbors.iter().filter(|neighbor| neighbor.node != primary.node).any(|neighbor| {
        let loop_free = neighbor.avoids(source, Some(cost), destination);
        let outlives =
            primary.node == destination || neighbor.avoids(primary.node, primary.cost_to(destination), destination);
        loop_free && outlives
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::alternates::{Protects, route};
    use crate::pekanbaru::{any_graph, id, network_2013, redundant};

    #[test]
    fn a_tree_has_none_and_second_links_give_some() {
        for (graph, source, protected) in [
            (network_2013(), "rumbai", 0),
            (network_2013(), "induk", 0),
            (redundant(), "sail", 0),
            (redundant(), "rumbai", 12),
            (redundant(), "induk", 8),
        ] {
            let expected = Coverage { protected, destinations: 12 };
            assert_eq!(coverage(&graph, &id(source)), expected, "{source}");
        }
    }

    #[test]
    fn who_reaches_nobody_has_no_share() {
        let mut graph = redundant();
        graph.add_node(id("alone"));
        assert_eq!(coverage(&graph, &id("alone")).share(), None);
        assert_eq!(coverage(&graph, &id("not-there")).share(), None);
        assert_eq!(coverage(&graph, &id("sail")).share(), Some(0.0));
    }

    proptest! {
        #[test]
        fn agrees_with_the_alternates_of_each_route(graph in any_graph()) {
            let all = coverages(&graph);
            for (source, found) in all {
                let routes: Vec<_> = graph.nodes().filter_map(|destination| route(&graph, &source, destination)).collect();
                let protected = routes.iter().filter(|route| {
                    let outlives = |protects| protects == Protects::Node || route.next_hop == route.destination;
                    route.alternates.iter().any(|alternate| outlives(alternate.protects))
                });
                let expected = Coverage { protected: protected.count(), destinations: routes.len() };
                prop_assert_eq!(found, expected, "{}", source);
                prop_assert_eq!(coverage(&graph, &source), expected);
            }
        }
    }
}
