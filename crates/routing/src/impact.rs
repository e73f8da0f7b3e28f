//! What a failure would do, told beforehand: who is cut off from every hub, who takes another way.

use std::collections::BTreeSet;

use estafet_model::{LinkCost, NodeId};

use crate::failure::Failure;
use crate::graph::Graph;
use crate::spf::ShortestPaths;

/// A node that keeps a way to a hub, but not the one it had, or by a dearer link between the same nodes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Detour {
    /// The node.
    pub node: NodeId,
    /// The nodes between it and the hub on the new path, in the direction of travel.
    pub via: Vec<NodeId>,
    /// What its path cost, by the map: a draining node pays [`DRAINING_COST`](crate::DRAINING_COST) for leaving itself.
    pub cost_before: LinkCost,
    /// What its new path costs.
    pub cost_after: LinkCost,
}

/// The consequences of a failure.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Impact {
    /// The nodes that fail themselves: they are named, or a risk strikes them. Sorted.
    pub failed: Vec<NodeId>,
    /// The failed nodes, and those that lose their last way to a hub by it. Sorted.
    pub cut_off: Vec<NodeId>,
    /// Those whose path crossed something that failed, and who have another, if only by a spare link. Sorted by node.
    pub detoured: Vec<Detour>,
}

/// What `failure` does. Nodes that had no way to a hub before are neither cut off nor detoured by it, unless they fail
/// themselves; what it names and the graph does not have does not count.
#[must_use]
pub fn impact(graph: &Graph, hubs: &BTreeSet<NodeId>, failure: &Failure) -> Impact {
    let left = failure.leaves_of(graph);
    let before = ShortestPaths::toward(graph, hubs);
    let after = ShortestPaths::toward(&left, hubs);
    let mut impact = Impact::default();
    for node in graph.nodes() {
        match (before.path(node), after.path(node)) {
            _ if !left.contains(node) => {
                impact.failed.push(node.clone());
                impact.cut_off.push(node.clone());
            }
            (None, _) => {}
            (Some(_), None) => impact.cut_off.push(node.clone()),
            (Some(old), Some(new)) if !stands(&left, &old) || before.cost(node) < after.cost(node) => {
                impact.detoured.push(Detour {
                    node: node.clone(),
                    via: between_ends(&new).to_vec(),
                    cost_before: before.cost(node).unwrap_or_default(),
                    cost_after: after.cost(node).unwrap_or_default(),
                });
            }
            (Some(_), Some(_)) => {}
        }
    }
    impact
}

/// True if each step of `path` is still there.
fn stands(graph: &Graph, path: &[NodeId]) -> bool {
    path.windows(2).all(|step| graph.edge(&step[0], &step[1]).is_some())
}

fn between_ends(path: &[NodeId]) -> &[NodeId] {
    path.get(1..path.len().saturating_sub(1)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use estafet_model::Medium;
    use proptest::prelude::*;

    use super::*;
    use crate::failure::Part;
    use crate::graph::Edge;
    use crate::pekanbaru::{any_graph, bellman_ford, id, ids, network_2013, redundant, with_risks, words};

    fn detours(impact: &Impact) -> Vec<String> {
        let row = |detour: &Detour| {
            let Detour { node, via, cost_before, cost_after } = detour;
            format!("{node} via {}: {cost_before} -> {cost_after}", words(via))
        };
        impact.detoured.iter().map(row).collect()
    }

    fn nodes(failed: &[&str]) -> Failure {
        failed.iter().fold(Failure::new(), |failure, node| failure.and_node(id(node)))
    }

    #[test]
    fn pekanbaru_before_and_after_its_second_links() {
        let mast = Failure::new().and_risk("mast".to_owned());
        let rows: [(Graph, Failure, &str, &[&str]); 8] = [
            (network_2013(), nodes(&["sukajadi"]), "rumbai rumbai-pesisir sukajadi", &[]),
            (
                redundant(),
                nodes(&["sukajadi"]),
                "sukajadi",
                &["rumbai via senapelan: 20 -> 25", "rumbai-pesisir via lima-puluh: 20 -> 25"],
            ),
            (
                redundant(),
                nodes(&["sukajadi", "senapelan"]),
                "senapelan sukajadi",
                &["rumbai via rumbai-pesisir lima-puluh: 20 -> 40", "rumbai-pesisir via lima-puluh: 20 -> 25"],
            ),
            (redundant(), nodes(&["not-there"]), "", &[]),
            (
                redundant(),
                Failure::new().and_link(&id("rumbai"), &id("sukajadi")),
                "",
                &["rumbai via senapelan: 20 -> 25"],
            ),
            (network_2013(), nodes(&["rumbai"]).and_link(&id("sail"), &id("induk")), "rumbai sail", &[]),
            (with_risks(redundant()), mast.clone(), "marpoyan-damai sail", &[]),
            (with_risks(redundant()), mast.and_risk("pln".to_owned()), "lima-puluh marpoyan-damai sail", &[]),
        ];
        for (graph, failed, cut_off, detoured) in rows {
            let found = impact(&graph, &ids(&["induk"]), &failed);
            assert_eq!(words(&found.cut_off), cut_off, "{failed:?}");
            assert_eq!(detours(&found), detoured, "{failed:?}");
        }
    }

    #[test]
    fn who_fails_and_who_is_isolated_are_told_apart() {
        let failure = Failure::new().and_risk("mast".to_owned()).and_risk("pln".to_owned());
        let found = impact(&with_risks(redundant()), &ids(&["induk"]), &failure);
        assert_eq!(words(&found.failed), "lima-puluh sail");
    }

    #[test]
    fn the_main_office_cuts_off_all_unless_there_is_a_second_hub() {
        let alone = impact(&redundant(), &ids(&["induk"]), &nodes(&["induk"]));
        assert_eq!(alone.cut_off.len(), 13);
        let second = impact(&redundant(), &ids(&["induk", "senapelan"]), &nodes(&["induk"]));
        assert!(detours(&second).contains(&"sukajadi via : 10 -> 15".to_owned()));
        assert!(second.cut_off.contains(&id("sail")));
        assert!(!second.cut_off.contains(&id("rumbai")));
    }

    #[test]
    fn where_one_of_several_links_between_two_nodes_fails_the_spare_counts_at_its_cost() {
        let with_cellular = |cost: u32| {
            let mut graph = Failure::new().and_link(&id("rumbai"), &id("sukajadi")).leaves_of(&redundant());
            for (from, to) in [("rumbai", "sukajadi"), ("sukajadi", "rumbai")] {
                for (medium, cost) in [(Medium::Radio, 10), (Medium::Cellular, cost)] {
                    let edge = Edge { medium: Some(medium), ..Edge::new(LinkCost(cost), Arc::default()) };
                    graph.add_edge(id(from), id(to), edge);
                }
            }
            graph
        };
        let radio_fails = Failure::new().and_bearer(&id("rumbai"), &id("sukajadi"), Medium::Radio);
        let around = radio_fails.clone().and_link(&id("rumbai"), &id("senapelan"));
        for (cellular, failed, detoured) in [
            (30, &radio_fails, &["rumbai via senapelan: 20 -> 25"][..]),
            (12, &radio_fails, &["rumbai via sukajadi: 20 -> 22"]),
            (10, &radio_fails, &[]),
            (30, &around, &["rumbai via rumbai-pesisir sukajadi: 20 -> 35"]),
            (24, &around, &["rumbai via sukajadi: 20 -> 34"]),
        ] {
            let found = impact(&with_cellular(cellular), &ids(&["induk"]), failed);
            assert_eq!(detours(&found), detoured, "{cellular}, {failed:?}");
        }
    }

    #[test]
    fn a_node_that_had_no_way_is_not_counted() {
        let mut graph = network_2013();
        graph.add_node(id("alone"));
        assert_eq!(impact(&graph, &ids(&["induk"]), &nodes(&["sail"])).cut_off, [id("sail")]);
    }

    proptest! {
        #[test]
        fn who_is_cut_off_has_no_way_left_and_who_is_not_has_one(graph in any_graph(), fails in any::<prop::sample::Index>()) {
            let parts: Vec<Part> = Part::all_of(&graph).into_iter().collect();
            let failure = parts[fails.index(parts.len())].failure();
            let hubs: BTreeSet<NodeId> = graph.nodes().take(1).cloned().collect();
            let reaches = |graph: &Graph, node: &NodeId| {
                hubs.iter().any(|hub| graph.contains(hub) && bellman_ford(graph, node).contains_key(hub))
            };
            let (found, left) = (impact(&graph, &hubs, &failure), failure.leaves_of(&graph));
            for node in graph.nodes() {
                let lost = reaches(&graph, node) && !reaches(&left, node);
                prop_assert_eq!(found.cut_off.contains(node), lost || !left.contains(node), "{}", node);
                let detoured = found.detoured.iter().find(|detour| detour.node == *node);
                prop_assert!(detoured.is_none_or(|detour| detour.cost_before <= detour.cost_after && !lost));
            }
        }
    }
}
