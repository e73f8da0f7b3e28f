//! Routes with their loop-free alternates (RFC 5286): where else to send when the next hop is gone, decided before
//! it is gone.
//!
//! With S the source, D the destination, E the primary next hop and N another neighbor of S, and `d(x, y)` the cost
//! of the shortest path:
//!
//! - N is *loop-free* if `d(N, D) < d(N, S) + d(S, D)` (RFC 5286 section 3.1, inequality 1): no shortest path of N
//!   leads back through S.
//! - N is *node-protecting* if also `d(N, D) < d(N, E) + d(E, D)` (section 3.2, inequality 3): no shortest path of
//!   N leads through E, so it holds when E itself is dead and not only the link to it.
//! - For the nearest of several hubs, D is a node behind all of them (section 6.1, multi-homed prefixes):
//!   `d(x, D)` is the cost to the hub that x itself would choose.
//!
//! Both inequalities are strict, so ties between equal paths cannot break them. Section 3.5 shuns neighbors that
//! are costed out; here an alternate that would cross a draining node is kept, behind all others, because a
//! record that waits is worse off than one that visits a draining node.

use std::collections::BTreeSet;

use estafet_model::{LinkCost, NodeId};

use crate::graph::Graph;
use crate::spf::ShortestPaths;

/// What a route survives by switching to an alternate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Protects {
    /// The death of the primary next hop.
    Node,
    /// The loss of the link to the primary next hop; it may meet that node again farther on.
    Link,
}

/// A neighbor to use instead of the primary next hop.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Alternate {
    /// The neighbor.
    pub next_hop: NodeId,
    /// What the whole way costs, from the source.
    pub cost: LinkCost,
    /// From the source to the destination that this neighbor chooses, both included.
    pub path: Vec<NodeId>,
    /// What it protects against.
    pub protects: Protects,
    /// True if its first link shares no risk with the primary first link.
    pub risk_disjoint: bool,
    /// True if it is nearer to the destination than the source, and does not drain: who only ever goes downhill cannot
    /// go in a circle, so such a neighbor may also take what the primary next hop has no room for.
    pub downhill: bool,
}

/// A way from a source to a destination, and what to do when its first step fails.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Route {
    /// Where it ends.
    pub destination: NodeId,
    /// What it costs, [`DRAINING_COST`](crate::DRAINING_COST) included for each draining node that it crosses. A
    /// draining source sends what is its own at the plain cost.
    pub cost: LinkCost,
    /// From the source to the destination, both included.
    pub path: Vec<NodeId>,
    /// The second node of the path.
    pub next_hop: NodeId,
    /// Loop-free alternates, best first: ways that avoid draining nodes, then node-protecting, then disjoint in
    /// risk, then by cost, then by id.
    pub alternates: Vec<Alternate>,
}

/// The route from `source` to `destination`; nothing if there is no way, or if they are the same node.
#[must_use]
pub fn route(graph: &Graph, source: &NodeId, destination: &NodeId) -> Option<Route> {
    route_along(graph, source, &ShortestPaths::toward_one(graph, destination))
}

/// The route from `source` to the nearest of `hubs`, of equally near ones the one with the smallest id; nothing
/// if none can be reached, or if `source` is a hub itself.
#[must_use]
pub fn routes_to_nearest(graph: &Graph, source: &NodeId, hubs: &BTreeSet<NodeId>) -> Option<Route> {
    route_along(graph, source, &ShortestPaths::toward(graph, hubs))
}

fn route_along(graph: &Graph, source: &NodeId, to_destination: &ShortestPaths) -> Option<Route> {
    let path = to_destination.path(source)?;
    let next_hop = path.get(1)?.clone();
    let cost = graph.edge(source, &next_hop)?.cost + to_destination.cost(&next_hop)?;
    let judge = Judge {
        graph,
        source,
        cost,
        primary: &next_hop,
        to_source: ShortestPaths::toward_one(graph, source),
        to_primary: ShortestPaths::toward_one(graph, &next_hop),
        to_destination,
    };
    let mut alternates: Vec<Alternate> =
        graph.edges_from(source).filter_map(|(neighbor, _)| judge.alternate(neighbor)).collect();
    alternates.sort_by_cached_key(|alternate| judge.rank(alternate));
    Some(Route {
        destination: to_destination.root(source)?.clone(),
        cost,
        path,
        next_hop: next_hop.clone(),
        alternates,
    })
}

/// Everything the inequalities compare, for one source and one destination.
struct Judge<'a> {
    graph: &'a Graph,
    source: &'a NodeId,
    /// From the source by the primary next hop.
    cost: LinkCost,
    primary: &'a NodeId,
    to_source: ShortestPaths,
    to_primary: ShortestPaths,
    to_destination: &'a ShortestPaths,
}

impl Judge<'_> {
    /// `neighbor` as an alternate, if it is one.
    fn alternate(&self, neighbor: &NodeId) -> Option<Alternate> {
        if neighbor == self.primary || !self.avoids(neighbor, self.source, &self.to_source) {
            return None;
        }
        let node_protecting = self.avoids(neighbor, self.primary, &self.to_primary);
        let edge = self.graph.edge(self.source, neighbor)?;
        let primary_risks = &self.graph.edge(self.source, self.primary)?.risks;
        let mut path = vec![self.source.clone()];
        path.extend(self.to_destination.path(neighbor)?);
        Some(Alternate {
            next_hop: neighbor.clone(),
            cost: edge.cost + self.to_destination.cost(neighbor)?,
            path,
            protects: if node_protecting { Protects::Node } else { Protects::Link },
            risk_disjoint: edge.risks.is_disjoint(primary_risks),
            downhill: self.to_destination.cost(neighbor)? < self.cost && !self.graph.is_draining(neighbor),
        })
    }

    /// True if `neighbor` reaches the destination and no shortest path of it leads through `node`:
    /// `d(neighbor, D) < d(neighbor, node) + d(node, D)`.
    fn avoids(&self, neighbor: &NodeId, node: &NodeId, to_node: &ShortestPaths) -> bool {
        let Some(direct) = self.to_destination.cost(neighbor) else { return false };
        let through = to_node.cost(neighbor).zip(self.to_destination.cost(node));
        through.is_none_or(|(there, onward)| direct < there + onward)
    }

    /// Smaller is better.
    fn rank(&self, alternate: &Alternate) -> (bool, Protects, bool, LinkCost, NodeId) {
        let transit = &alternate.path[1..alternate.path.len() - 1];
        let drains = transit.iter().any(|node| self.graph.is_draining(node));
        (drains, alternate.protects, !alternate.risk_disjoint, alternate.cost, alternate.next_hop.clone())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::pekanbaru::{any_graph, bellman_ford, id, ids, network_2013, redundant, words};

    fn summary(route: &Route) -> String {
        let alternates = route.alternates.iter().map(|alternate| {
            let cost = alternate.cost;
            let downhill = if alternate.downhill { " downhill" } else { "" };
            format!(" | {:?}{downhill} {cost}: {}", alternate.protects, words(&alternate.path[1..]))
        });
        format!("{}: {}{}", route.cost, words(&route.path[1..]), alternates.collect::<String>())
    }

    #[test]
    fn pekanbaru_has_these_ways_to_its_hub() {
        let rows = [
            (network_2013(), "rumbai", "20: sukajadi induk"),
            (network_2013(), "sail", "10: induk"),
            (
                redundant(),
                "rumbai",
                "20: sukajadi induk | Node downhill 25: senapelan induk | Link 35: rumbai-pesisir sukajadi induk",
            ),
            (redundant(), "sukajadi", "10: induk | Link 25: senapelan induk"),
            (redundant(), "tampan", "10: induk | Link 25: payung-sekaki induk"),
        ];
        for (graph, source, expected) in rows {
            let route = routes_to_nearest(&graph, &id(source), &ids(&["induk"])).unwrap();
            assert_eq!(summary(&route), expected, "{source}");
        }
    }

    #[test]
    fn the_nearest_hub_is_chosen_and_its_death_is_survived_by_another_hub() {
        let hubs = ids(&["induk", "senapelan"]);
        let route = routes_to_nearest(&redundant(), &id("sukajadi"), &hubs).unwrap();
        assert_eq!(summary(&route), "10: induk | Node downhill 15: senapelan | Node 25: rumbai senapelan");
        assert_eq!(routes_to_nearest(&redundant(), &id("induk"), &hubs), None);
        let tie = routes_to_nearest(&redundant(), &id("sukajadi"), &ids(&["induk", "rumbai"])).unwrap();
        assert_eq!(tie.destination, id("induk"));
    }

    #[test]
    fn a_shared_risk_is_worse_than_a_higher_cost() {
        let pln: &[String] = &["pln-sukajadi".to_owned()];
        let links = [
            ("s", "e", 1, pln),
            ("s", "near", 2, pln),
            ("s", "far", 9, &[] as &[String]),
            ("e", "d", 1, &[]),
            ("near", "d", 1, &[]),
            ("far", "d", 1, &[]),
        ];
        let graph = Graph::from_links(links.map(|(a, b, cost, risks)| (id(a), id(b), LinkCost(cost), risks)));
        let found = route(&graph, &id("s"), &id("d")).unwrap();
        assert_eq!(summary(&found), "2: e d | Node downhill 10: far d | Node downhill 3: near d");
    }

    #[test]
    fn a_draining_node_carries_transit_only_when_nothing_else_can() {
        let mut graph = redundant();
        graph.drain(id("sukajadi"));
        let hub = ids(&["induk"]);
        let rumbai = routes_to_nearest(&graph, &id("rumbai"), &hub).unwrap();
        assert_eq!(rumbai.next_hop, id("senapelan"));
        assert_eq!(rumbai.alternates.last().unwrap().next_hop, id("sukajadi"));
        let own = routes_to_nearest(&graph, &id("sukajadi"), &hub).unwrap();
        assert_eq!((own.next_hop.as_str(), own.cost), ("induk", LinkCost(10)), "its own records go as ever");
        let mut old = network_2013();
        old.drain(id("sukajadi"));
        assert_eq!(routes_to_nearest(&old, &id("rumbai"), &hub).unwrap().next_hop, id("sukajadi"));
    }

    proptest! {
        #[test]
        fn alternates_never_return_and_protect_what_they_say(graph in any_graph(), hub_count in 1usize..3) {
            let hubs: BTreeSet<NodeId> = graph.nodes().take(hub_count).cloned().collect();
            for source in graph.nodes() {
                let Some(route) = routes_to_nearest(&graph, source, &hubs) else { continue };
                for alternate in &route.alternates {
                    let onward = &alternate.path[1..];
                    prop_assert!(!onward.contains(source), "{:?} returns", alternate);
                    prop_assert_eq!(&onward[0], &alternate.next_hop);
                    if alternate.protects == Protects::Node {
                        prop_assert!(!onward.contains(&route.next_hop), "{:?} meets the primary", alternate);
                    }
                    let own = routes_to_nearest(&graph, &alternate.next_hop, &hubs);
                    prop_assert!(own.is_none_or(|own| own.path == onward), "the neighbor goes another way");
                }
            }
        }

        #[test]
        fn whoever_goes_downhill_comes_to_a_hub(graph in any_graph(), hub_count in 1usize..3) {
            let hubs: BTreeSet<NodeId> = graph.nodes().take(hub_count).cloned().collect();
            for source in graph.nodes() {
                let mut reached = BTreeSet::from([source.clone()]);
                let mut walks = vec![vec![source.clone()]];
                while let Some(walk) = walks.pop() {
                    let Some(route) = routes_to_nearest(&graph, &walk[walk.len() - 1], &hubs) else { continue };
                    let beside = route.alternates.into_iter().filter(|alternate| alternate.downhill);
                    for next in beside.map(|alternate| alternate.next_hop).chain([route.next_hop]) {
                        prop_assert!(!walk.contains(&next), "{next} twice: {walk:?}");
                        if reached.insert(next.clone()) || !hubs.contains(&next) {
                            walks.push([&walk[..], &[next]].concat());
                        }
                    }
                }
                let is_on_its_way = routes_to_nearest(&graph, source, &hubs).is_some();
                prop_assert!(!is_on_its_way || !reached.is_disjoint(&hubs), "{source} comes to no hub");
            }
        }

        #[test]
        fn every_neighbor_that_qualifies_is_an_alternate(graph in any_graph()) {
            let cost = |from: &NodeId, to: &NodeId| bellman_ford(&graph, from).get(to).map(|cost| u64::from(cost.0));
            let hub = graph.nodes().next().unwrap();
            for source in graph.nodes() {
                let Some(route) = route(&graph, source, hub) else { continue };
                for (neighbor, _) in graph.edges_from(source).filter(|(neighbor, _)| **neighbor != route.next_hop) {
                    let back = cost(neighbor, source).unwrap_or(u64::MAX / 2) + cost(source, hub).unwrap();
                    let expected = cost(neighbor, hub).is_some_and(|direct| direct < back);
                    let found = route.alternates.iter().any(|alternate| alternate.next_hop == *neighbor);
                    prop_assert_eq!(found, expected, "{} from {}", neighbor, source);
                }
            }
        }
    }
}
