//! Single points of failure: the nodes, links and risks of which one alone isolates somebody.

use std::cmp::Reverse;
use std::collections::BTreeSet;

use estafet_model::NodeId;

use crate::failure::Part;
use crate::graph::Graph;
use crate::spf::ShortestPaths;

/// Something whose loss alone isolates nodes that do not fail themselves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SinglePoint {
    /// What fails.
    pub part: Part,
    /// Who stands and loses its last way to a hub by it. Sorted, never empty.
    pub isolates: Vec<NodeId>,
    /// No hub is left when it fails: no other link would help, only another hub.
    pub leaves_no_hub: bool,
}

/// Every single point of failure, worst first: by how many it isolates, then nodes before links before risks.
#[must_use]
pub fn single_points(graph: &Graph, hubs: &BTreeSet<NodeId>) -> Vec<SinglePoint> {
    let before = ShortestPaths::toward(graph, hubs);
    let point = |part: Part| {
        let left = part.failure().leaves_of(graph);
        let after = ShortestPaths::toward(&left, hubs);
        let isolated = |node: &&NodeId| before.cost(node).is_some() && after.cost(node).is_none();
        let isolates: Vec<NodeId> = left.nodes().filter(isolated).cloned().collect();
        let leaves_no_hub = !hubs.iter().any(|hub| left.contains(hub));
        (!isolates.is_empty()).then_some(SinglePoint { part, isolates, leaves_no_hub })
    };
    let mut points: Vec<SinglePoint> = Part::all_of(graph).into_iter().filter_map(point).collect();
    points.sort_by_key(|point| Reverse(point.isolates.len()));
    points
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::impact::impact;
    use crate::pekanbaru::{any_graph, ids, network_2013, redundant, with_risks, words};

    fn told(graph: &Graph, hubs: &[&str]) -> Vec<String> {
        let line = |point: SinglePoint| {
            let no_hub = if point.leaves_no_hub { "!" } else { "" };
            match point.part {
                Part::Node(node) => format!("{node}{no_hub}: {}", point.isolates.len()),
                Part::Link(left, right) => format!("{left} {right}: {}", words(&point.isolates)),
                Part::Risk(risk) => format!("({risk}): {}", words(&point.isolates)),
            }
        };
        single_points(graph, &ids(hubs)).into_iter().map(line).collect()
    }

    #[test]
    fn pekanbaru_hangs_on_these() {
        let added = ["induk!: 12", "(mast): marpoyan-damai sail"];
        let links =
            ["induk marpoyan-damai: marpoyan-damai", "induk pekanbaru-kota: pekanbaru-kota", "induk sail: sail"];
        assert_eq!(told(&with_risks(redundant()), &["induk"]), [&added[..], &links[..]].concat());
        let of_2013 = told(&network_2013(), &["induk"]);
        assert_eq!(of_2013.len(), 14, "both servers and every link: {of_2013:?}");
        assert_eq!(of_2013[..2], ["induk!: 12", "induk sukajadi: rumbai rumbai-pesisir sukajadi"]);
    }

    #[test]
    fn a_second_hub_leaves_those_who_hang_on_one() {
        let found = told(&redundant(), &["induk", "senapelan"]);
        assert_eq!(found[0], "induk: 7", "Sail, Tampan and others hang on it: {found:?}");
        assert!(!found.iter().any(|line| line.starts_with("senapelan")), "{found:?}");
    }

    #[test]
    fn who_fails_with_a_risk_is_not_isolated_by_it() {
        let found = told(&with_risks(redundant()), &["induk"]);
        assert!(!found.iter().any(|line| line.starts_with("(pln)")), "{found:?}");
    }

    proptest! {
        #[test]
        fn are_those_parts_whose_impact_isolates_somebody(graph in any_graph()) {
            let hubs: BTreeSet<NodeId> = graph.nodes().take(2).cloned().collect();
            let points = single_points(&graph, &hubs);
            for part in Part::all_of(&graph) {
                let told = impact(&graph, &hubs, &part.failure());
                let isolated: Vec<_> = told.cut_off.into_iter().filter(|node| !told.failed.contains(node)).collect();
                let found = points.iter().find(|point| point.part == part);
                prop_assert_eq!(found.map_or(&[][..], |point| &point.isolates), &isolated[..]);
            }
        }
    }
}
