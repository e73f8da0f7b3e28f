//! What a failure would do, told beforehand: who is cut off from every hub, who takes another way.

use std::collections::BTreeSet;

use estafet_model::{LinkCost, NodeId};

use crate::graph::Graph;
use crate::spf::ShortestPaths;

/// A node that keeps a way to a hub, but not the one it had.
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
    /// The failed nodes themselves, and those that lose their last way to a hub by it. Sorted.
    pub cut_off: Vec<NodeId>,
    /// Those whose path crossed a failed node and who have another. Sorted by node.
    pub detoured: Vec<Detour>,
}

/// What happens when `failed` are gone. Nodes that had no way to a hub before are neither cut off nor detoured by
/// it, unless they fail themselves; failed nodes that are not in the graph do not count.
#[must_use]
pub fn impact(graph: &Graph, hubs: &BTreeSet<NodeId>, failed: &BTreeSet<NodeId>) -> Impact {
    let before = ShortestPaths::toward(graph, hubs);
    let after = ShortestPaths::toward(&graph.without(failed), hubs);
    let mut impact = Impact::default();
    for node in graph.nodes() {
        match (before.path(node), after.path(node)) {
            _ if failed.contains(node) => impact.cut_off.push(node.clone()),
            (None, _) => {}
            (Some(_), None) => impact.cut_off.push(node.clone()),
            (Some(old), Some(new)) if old.iter().any(|step| failed.contains(step)) => impact.detoured.push(Detour {
                node: node.clone(),
                via: between_ends(&new).to_vec(),
                cost_before: before.cost(node).unwrap_or_default(),
                cost_after: after.cost(node).unwrap_or_default(),
            }),
            (Some(_), Some(_)) => {}
        }
    }
    impact
}

fn between_ends(path: &[NodeId]) -> &[NodeId] {
    path.get(1..path.len().saturating_sub(1)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pekanbaru::{id, ids, network_2013, redundant, words};

    fn detours(impact: &Impact) -> Vec<String> {
        let row = |detour: &Detour| {
            let Detour { node, via, cost_before, cost_after } = detour;
            format!("{node} via {}: {cost_before} -> {cost_after}", words(via))
        };
        impact.detoured.iter().map(row).collect()
    }

    #[test]
    fn pekanbaru_before_and_after_its_second_links() {
        let rows: [(Graph, &[&str], &str, &[&str]); 4] = [
            (network_2013(), &["sukajadi"], "rumbai rumbai-pesisir sukajadi", &[]),
            (
                redundant(),
                &["sukajadi"],
                "sukajadi",
                &["rumbai via senapelan: 20 -> 25", "rumbai-pesisir via lima-puluh: 20 -> 25"],
            ),
            (
                redundant(),
                &["sukajadi", "senapelan"],
                "senapelan sukajadi",
                &["rumbai via rumbai-pesisir lima-puluh: 20 -> 40", "rumbai-pesisir via lima-puluh: 20 -> 25"],
            ),
            (redundant(), &["not-there"], "", &[]),
        ];
        for (graph, failed, cut_off, detoured) in rows {
            let found = impact(&graph, &ids(&["induk"]), &ids(failed));
            assert_eq!(words(&found.cut_off), cut_off, "{failed:?}");
            assert_eq!(detours(&found), detoured, "{failed:?}");
        }
    }

    #[test]
    fn the_main_office_cuts_off_all_unless_there_is_a_second_hub() {
        let alone = impact(&redundant(), &ids(&["induk"]), &ids(&["induk"]));
        assert_eq!(alone.cut_off.len(), 13);
        let second = impact(&redundant(), &ids(&["induk", "senapelan"]), &ids(&["induk"]));
        assert!(detours(&second).contains(&"sukajadi via : 10 -> 15".to_owned()));
        assert!(second.cut_off.contains(&id("sail")));
        assert!(!second.cut_off.contains(&id("rumbai")));
    }

    #[test]
    fn a_node_that_had_no_way_is_not_counted() {
        let mut graph = network_2013();
        graph.add_node(id("alone"));
        assert_eq!(impact(&graph, &ids(&["induk"]), &ids(&["sail"])).cut_off, [id("sail")]);
    }
}
