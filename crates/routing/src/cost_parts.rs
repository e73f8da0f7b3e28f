//! What the cost of a path is made of, for people: a sum with [`DRAINING_COST`] in it tells them nothing.

use std::ops::Add;

use estafet_model::{LinkCost, NodeId};

use crate::graph::{BATTERY_COST, DRAINING_COST, Graph};
use crate::router::SHUNNED_COST;

/// The cost of a path, taken apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct CostParts {
    /// What its links would cost, were all well.
    pub plain: LinkCost,
    /// How many of them are gray, flap, or are about to go dark: each costs [`SHUNNED_COST`] more.
    pub gray_links: u32,
    /// How many nodes on it drain: leaving each costs [`DRAINING_COST`] more.
    pub draining_nodes: u32,
    /// How many nodes on it run on a battery, and do not drain: leaving each costs [`BATTERY_COST`] more.
    pub nodes_on_battery: u32,
}

impl CostParts {
    /// Of what one node says that a link of its own costs. No topology has a link as dear as [`SHUNNED_COST`].
    #[must_use]
    pub fn of_link(cost: LinkCost) -> Self {
        match cost.0.checked_sub(SHUNNED_COST.0) {
            Some(plain) => Self { plain: LinkCost(plain), gray_links: 1, ..Self::default() },
            None => Self { plain: cost, ..Self::default() },
        }
    }

    /// Of a path through a map, in the direction of travel. Steps that the map does not have count for nothing.
    #[must_use]
    pub fn of_path(graph: &Graph, path: &[NodeId]) -> Self {
        let steps = path.windows(2).filter_map(|step| Some((&step[0], graph.edge(&step[0], &step[1])?)));
        steps.fold(Self::default(), |sum, (from, edge)| {
            let drains = graph.is_draining(from);
            let nodes_on_battery = u32::from(graph.is_on_battery(from) && !drains);
            sum + Self { draining_nodes: u32::from(drains), nodes_on_battery, ..Self::of_link(edge.cost) }
        })
    }

    /// All of it together, which is what paths are chosen by.
    #[must_use]
    pub fn total(&self) -> LinkCost {
        let times = |cost: LinkCost, count: u32| LinkCost(cost.0.saturating_mul(count));
        self.plain
            + times(SHUNNED_COST, self.gray_links)
            + times(DRAINING_COST, self.draining_nodes)
            + times(BATTERY_COST, self.nodes_on_battery)
    }
}

impl Add for CostParts {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self {
            plain: self.plain + other.plain,
            gray_links: self.gray_links.saturating_add(other.gray_links),
            draining_nodes: self.draining_nodes.saturating_add(other.draining_nodes),
            nodes_on_battery: self.nodes_on_battery.saturating_add(other.nodes_on_battery),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pekanbaru::{id, network_2013};
    use crate::spf::ShortestPaths;

    #[test]
    fn the_parts_of_a_path_make_its_cost() {
        let path = [id("rumbai"), id("sukajadi"), id("induk")];
        let mut graph = network_2013();
        let check = |graph: &Graph, expected: CostParts| {
            let parts = CostParts::of_path(graph, &path);
            assert_eq!(parts, expected);
            let hubs = [id("induk")].into();
            assert_eq!(ShortestPaths::toward(graph, &hubs).cost(&path[0]), Some(parts.total()));
        };
        let plain = CostParts { plain: LinkCost(20), ..CostParts::default() };
        check(&graph, plain);
        graph.set_on_battery(id("sukajadi"));
        graph.set_on_battery(id("induk"));
        check(&graph, CostParts { nodes_on_battery: 1, ..plain });
        graph.drain(id("sukajadi"));
        check(&graph, CostParts { draining_nodes: 1, ..plain });
        graph.set_on_battery(id("rumbai"));
        check(&graph, CostParts { draining_nodes: 1, nodes_on_battery: 1, ..plain });
    }

    #[test]
    fn a_gray_link_is_told_from_a_dear_one() {
        let parts = |cost| CostParts::of_link(LinkCost(cost));
        assert_eq!(parts(65_535), CostParts { plain: LinkCost(65_535), ..CostParts::default() });
        let gray = SHUNNED_COST + LinkCost(15);
        assert_eq!(parts(gray.0), CostParts { plain: LinkCost(15), gray_links: 1, ..CostParts::default() });
        assert_eq!(parts(gray.0).total(), gray);
    }
}
