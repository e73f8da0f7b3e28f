//! Three relays in a row, each with a process and a folder of its own.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use estafet_cli::CityFolder;
use estafet_cli::demo::{Fleet, Intake, wait_until_mapped};
use estafet_cli::disk::temporary_folder;
use estafet_cli::init::init_plan;
use estafet_model::{LinkCost, NodeId};
use estafet_topology::{CityPlan, Link, Medium, PlannedNode, Role};
use tempfile::TempDir;

use crate::error::BenchError;
use crate::process::{NodeUsage, Usage};

pub(crate) const ORIGIN: &str = "origin";
pub(crate) const BRANCH: &str = "branch";
const HUB: &str = "hub";
/// The office of `flood` that is in other hands.
pub(crate) const ROGUE: &str = "rogue";

/// The running chain. Its processes end with it.
pub(crate) struct Chain {
    fleet: Fleet,
    intakes: BTreeMap<String, Intake>,
    origin: SocketAddr,
    /// Removed at the end.
    _temporary: Option<TempDir>,
}

impl Chain {
    /// Starts the relays, with these arguments as well, and waits until each has a way to the hub.
    pub(crate) async fn start(
        program: PathBuf,
        dir: Option<&Path>,
        arguments: Vec<String>,
    ) -> Result<Self, BenchError> {
        let temporary = match dir {
            Some(_) => None,
            None => Some(temporary_folder("estafet-bench-").map_err(BenchError::Folder)?),
        };
        let dir = dir.or(temporary.as_ref().map(TempDir::path)).unwrap_or(Path::new("."));
        let mut chain = Self::of_plan(plan(), program, dir, arguments, || Ok(())).await?;
        chain._temporary = temporary;
        Ok(chain)
    }

    /// Starts the relays but for the one of an office that is in other hands, which `quiet` lets stand in for it until each
    /// relay has a way to the hub.
    pub(crate) async fn start_with_rogue<T>(
        program: PathBuf,
        dir: &Path,
        quiet: impl FnOnce() -> Result<T, BenchError>,
    ) -> Result<Self, BenchError> {
        Self::of_plan(plan_with_rogue(), program, dir, Vec::new(), quiet).await
    }

    async fn of_plan<T>(
        plan: CityPlan,
        program: PathBuf,
        dir: &Path,
        arguments: Vec<String>,
        stand_in: impl FnOnce() -> Result<T, BenchError>,
    ) -> Result<Self, BenchError> {
        let city = init_plan(plan, dir)?;
        let folder = CityFolder::open(&city.dir)?;
        let mut fleet = Fleet::new(program).with_arguments(arguments);
        for (id, node) in city.nodes.iter().filter(|(id, _)| id.as_str() != ROGUE) {
            fleet.start(id, &node.config)?;
        }
        let stand_in = stand_in()?;
        for seen_from in [HUB, ORIGIN] {
            wait_until_mapped(&folder, &node_id(seen_from), &mut fleet, |_| ()).await?;
        }
        drop(stand_in);
        let intakes = city.nodes.iter().map(|(id, node)| (id.clone(), Intake::new(&node.intake))).collect();
        let origin = &city.nodes[ORIGIN].intake;
        let address = origin.strip_prefix("http://").and_then(|address| address.parse().ok());
        let origin = address.ok_or_else(|| BenchError::Address(origin.clone()))?;
        Ok(Self { fleet, intakes, origin, _temporary: None })
    }

    /// Where records go in.
    pub(crate) fn origin(&self) -> SocketAddr {
        self.origin
    }

    /// How many of its records the origin holds receipts for.
    pub(crate) async fn receipted_at_origin(&self) -> Result<u64, BenchError> {
        metric(&self.intakes[ORIGIN], "estafet_records_receipted_total").await
    }

    /// Fails if a relay has ended.
    pub(crate) fn check(&mut self) -> Result<(), BenchError> {
        Ok(self.fleet.check()?)
    }

    /// Fails if the hub has committed another number of records.
    pub(crate) async fn check_committed(&self, records: u64) -> Result<(), BenchError> {
        let committed = metric(&self.intakes[HUB], "estafet_records_committed_total").await?;
        if committed == records { Ok(()) } else { Err(BenchError::Count { committed, records }) }
    }

    /// What each relay has used so far, in the order of the chain.
    pub(crate) async fn usage(&self) -> Result<Vec<NodeUsage>, BenchError> {
        let pids: BTreeMap<&str, u32> = self.fleet.relays().map(|(node, relay)| (node, relay.pid())).collect();
        let mut usages = Vec::new();
        for node in [ORIGIN, BRANCH, HUB] {
            let syncs = metric(&self.intakes[node], "estafet_spool_syncs_total").await?;
            usages.push(NodeUsage { node, usage: Usage::of(pids[node])?, syncs });
        }
        Ok(usages)
    }

    pub(crate) async fn terminate(&mut self) {
        self.fleet.terminate().await;
    }
}

/// A value of a node's Prometheus text.
async fn metric(node: &Intake, name: &'static str) -> Result<u64, BenchError> {
    let text = node.metrics().await.map_err(BenchError::Metrics)?;
    value_of(&text, name).ok_or(BenchError::NoMetric(name))
}

fn value_of(text: &str, name: &str) -> Option<u64> {
    text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.parse().ok())
}

pub(crate) fn plan() -> CityPlan {
    let node = |id: &'static str, code: &str, role| PlannedNode {
        id: node_id(id),
        code: code.parse().expect("a short code"),
        label: id.to_owned(),
        region: None,
        role,
        place: None,
        risks: Vec::new(),
    };
    let link = |ends: [&'static str; 2]| Link::new(ends.map(node_id), Medium::Fiber, LinkCost(10));
    CityPlan {
        area: "chain".to_owned(),
        label: "Chain".to_owned(),
        nodes: vec![node(ORIGIN, "RGN", Role::Relay), node(BRANCH, "BRN", Role::Relay), node(HUB, "HBB", Role::Hub)],
        links: vec![link([ORIGIN, BRANCH]), link([BRANCH, HUB])],
    }
}

fn plan_with_rogue() -> CityPlan {
    let mut plan = plan();
    let rogue = PlannedNode { id: node_id(ROGUE), code: "RGE".parse().expect("a short code"), ..plan.nodes[0].clone() };
    plan.nodes.push(rogue);
    plan.links.push(Link::new([ROGUE, BRANCH].map(node_id), Medium::Fiber, LinkCost(10)));
    plan
}

pub(crate) fn node_id(id: &'static str) -> NodeId {
    id.parse().expect("the names in this module are node ids")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_found_in_prometheus_text() {
        let text = "# TYPE syncs_total counter\nsyncs_total_more 1\nsyncs_total 42\n";
        assert_eq!(value_of(text, "syncs_total"), Some(42));
        assert_eq!(value_of(text, "syncs"), None);
    }
}
