//! How long routing takes in a large area: shortest paths, and all that one change of one LSA costs a node.
//!
//! No relay runs. The area is drawn by a fixed seed: a random tree over all nodes, and as many links again as make each
//! node have 3.5 neighbors on average; every link has a cost of 1 to 20 and names one of a hundred risks; three nodes
//! are hubs. What is measured is what `estafet_routing::Router` does, called in the same order.
//!
//! `cargo run --release -p estafet-bench -- spf`, two cores of a virtual machine with other builds beside it (load 6),
//! 2026-11-22, medians of 101 runs: 500 nodes SPF 0.1 ms, a change 0.9 ms; 1,000 nodes 0.2 and 2.7 ms; 10,000 nodes 2.8
//! and 92 ms, of which the map is 73.

use std::collections::BTreeSet;
use std::fmt;
use std::time::{Duration, Instant};

use estafet_model::{LinkCost, NodeId, SigningKey};
use estafet_routing::{
    Adjacency, LinkRisks, Lsa, Lsdb, ShortestPaths, SignedLsa, Standing, TopologyVersions, routes_to_nearest,
};
use serde::Serialize;

use crate::report::json;
use crate::timing::Percentiles;

/// What `spf` found.
#[derive(Debug, Serialize)]
pub(crate) struct SpfReport {
    runs: usize,
    areas: Vec<AreaReport>,
}

/// What one size of an area takes.
#[derive(Debug, Serialize)]
struct AreaReport {
    nodes: usize,
    links: usize,
    /// One run of SPF from one node to all.
    spf_ms: Percentiles,
    /// From an LSA with a changed cost that arrives until the next hops are there: signature, LSDB, map, SPF for who is
    /// reachable, the way to the nearest hub and its alternates (three more runs).
    change_ms: Percentiles,
    /// Of that, making the map out of the LSDB.
    map_ms: Percentiles,
}

/// Measures areas of these sizes, each `runs` times.
pub(crate) fn measure(sizes: &[u32], runs: usize) -> SpfReport {
    SpfReport { runs, areas: sizes.iter().map(|nodes| AreaReport::measure(*nodes, runs)).collect() }
}

impl AreaReport {
    fn measure(nodes: u32, runs: usize) -> Self {
        let mut area = DrawnArea::new(nodes);
        let (mut spf, mut change, mut map) = (Vec::new(), Vec::new(), Vec::new());
        let hubs: BTreeSet<NodeId> = (0..3).map(|hub| name(hub * nodes / 3)).collect();
        for _ in 0..runs {
            let me = name(area.dice.below(nodes));
            let news = area.changed_lsa();
            let began = Instant::now();
            area.lsdb.install(news, &area.key.public());
            let map_began = Instant::now();
            let graph = area.lsdb.graph(&area.risks);
            map.push(map_began.elapsed());
            let spf_began = Instant::now();
            let from_me = ShortestPaths::from(&graph, &me);
            spf.push(spf_began.elapsed());
            let route = routes_to_nearest(&graph, &me, &hubs);
            change.push(began.elapsed());
            assert!(from_me.cost(&me).is_some() && (route.is_some() || hubs.contains(&me)), "the area is connected");
        }
        let [spf_ms, change_ms, map_ms] = [spf, change, map].map(|times: Vec<Duration>| Percentiles::of(&times));
        Self { nodes: area.adjacencies.len(), links: area.links, spf_ms, change_ms, map_ms }
    }
}

/// An area as its LSDB has it.
struct DrawnArea {
    lsdb: Lsdb,
    adjacencies: Vec<Vec<Adjacency>>,
    links: usize,
    risks: LinkRisks,
    /// All nodes share it: what a signature costs does not depend on whose it is.
    key: SigningKey,
    sequence: u64,
    dice: Dice,
}

impl DrawnArea {
    fn new(nodes: u32) -> Self {
        let mut dice = Dice(nodes.into());
        let mut risks = LinkRisks::new();
        let mut adjacencies: Vec<Vec<Adjacency>> = vec![Vec::new(); nodes as usize];
        let mut joined = BTreeSet::new();
        for number in 1..(nodes * 7 / 4) {
            // The first links make the tree.
            let left = if number < nodes { number } else { dice.below(nodes) };
            let right = if number < nodes { dice.below(number) } else { dice.below(nodes) };
            if left == right || !joined.insert((left.min(right), left.max(right))) {
                continue;
            }
            let cost = LinkCost(1 + dice.below(20));
            for (from, to) in [(left, right), (right, left)] {
                adjacencies[from as usize].push(Adjacency { neighbor: name(to), cost, rtt_micros: 0 });
            }
            risks.insert(&name(left), &name(right), cost, [format!("risk-{}", dice.below(100))]);
        }
        let key = SigningKey::from_seed([7; 32]);
        let (lsdb, links) = (Lsdb::new(), joined.len());
        let mut area = Self { lsdb, adjacencies, links, risks, key, sequence: 0, dice };
        for node in 0..nodes {
            let lsa = area.lsa(node);
            area.lsdb.install(lsa, &area.key.public());
        }
        area
    }

    fn lsa(&mut self, node: u32) -> SignedLsa {
        self.sequence += 1;
        let lsa = Lsa {
            origin: name(node),
            sequence: self.sequence,
            adjacencies: self.adjacencies[node as usize].clone(),
            standing: Standing::default(),
            durable: true,
            topology: TopologyVersions::default(),
            ledger: None,
            hub: None,
            outlook: None,
        };
        SignedLsa::sign(lsa, &self.key)
    }

    /// What some node says after the cost of one of its links has changed.
    fn changed_lsa(&mut self) -> SignedLsa {
        let nodes = u32::try_from(self.adjacencies.len()).expect("it was made with as many");
        let node = self.dice.below(nodes);
        let cost = LinkCost(21 + self.dice.below(20));
        self.adjacencies[node as usize][0].cost = cost;
        self.lsa(node)
    }
}

/// Numbers that are the same in every run.
struct Dice(u64);

impl Dice {
    fn below(&mut self, bound: u32) -> u32 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        u32::try_from((self.0 >> 33) % u64::from(bound)).expect("it is below the bound")
    }
}

fn name(number: u32) -> NodeId {
    format!("n{number:06}").parse().expect("a good node id")
}

impl SpfReport {
    pub(crate) fn to_json(&self) -> String {
        json(self)
    }
}

impl fmt::Display for SpfReport {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "routing, {} runs of each", self.runs)?;
        for AreaReport { nodes, links, spf_ms, change_ms, map_ms } in &self.areas {
            write!(formatter, "\n{nodes:6} nodes, {links:6} links  SPF p50 {} ms, p99 {} ms", spf_ms.p50, spf_ms.p99)?;
            write!(formatter, "  a change p50 {} ms, p99 {} ms", change_ms.p50, change_ms.p99)?;
            write!(formatter, "  (of it the map p50 {} ms)", map_ms.p50)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_drawn_area_is_connected_and_measured() {
        let report = measure(&[50], 3);
        assert_eq!(report.areas[0].nodes, 50);
        assert!((60..=87).contains(&report.areas[0].links), "{report}");
    }
}
