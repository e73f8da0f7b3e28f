//! Relays in a row, origin, branch and hub, each with a process and a folder of its own; for `flood` with more offices beside the
//! origin.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use estafet_cli::CityFolder;
use estafet_cli::demo::{Fleet, Intake, wait_until_mapped};
use estafet_cli::disk::temporary_folder;
use estafet_cli::init::init_plan;
use estafet_model::{LinkCost, NodeId};
use estafet_topology::{CityPlan, Link, Medium, PlannedNode, Role};
use tempfile::TempDir;
use tokio::time::sleep;

use crate::error::BenchError;
use crate::process::{NodeUsage, Usage};

pub(crate) const ORIGIN: &str = "origin";
pub(crate) const BRANCH: &str = "branch";
const HUB: &str = "hub";
/// The office of `flood` that is in other hands.
pub(crate) const ROGUE: &str = "rogue";

/// Where records go in.
#[derive(Clone)]
pub(crate) struct Office {
    pub(crate) address: SocketAddr,
    intake: Intake,
}

/// The running chain. Its processes end with it.
pub(crate) struct Chain {
    fleet: Fleet,
    intakes: BTreeMap<String, Intake>,
    offices: Vec<Office>,
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
        let mut chain = Self::of_plan(plan(1), program, dir, arguments, || Ok(())).await?;
        chain._temporary = temporary;
        Ok(chain)
    }

    /// Starts the relays, so many offices' among them, but for the one of an office that is in other hands, which `quiet` lets
    /// stand in for it until each relay has a way to the hub.
    pub(crate) async fn start_with_rogue<T>(
        program: PathBuf,
        dir: &Path,
        offices: u16,
        quiet: impl FnOnce() -> Result<T, BenchError>,
    ) -> Result<Self, BenchError> {
        Self::of_plan(plan_with_rogue(offices), program, dir, Vec::new(), quiet).await
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
        let mut offices = Vec::new();
        for (id, node) in city.nodes.iter().filter(|(id, _)| id.starts_with(ORIGIN)) {
            wait_until_mapped(&folder, &node_id(id), &mut fleet, |_| ()).await?;
            offices.push(Office::of(&node.intake)?);
        }
        wait_until_mapped(&folder, &node_id(HUB), &mut fleet, |_| ()).await?;
        drop(stand_in);
        let intakes = city.nodes.iter().map(|(id, node)| (id.clone(), Intake::new(&node.intake))).collect();
        Ok(Self { fleet, intakes, offices, _temporary: None })
    }

    /// Where records go in.
    pub(crate) fn offices(&self) -> &[Office] {
        &self.offices
    }

    /// Waits until a relay ends, and says which.
    pub(crate) async fn broken(&mut self) -> BenchError {
        loop {
            if let Err(ended) = self.fleet.check() {
                return ended.into();
            }
            sleep(CHECK_EVERY).await;
        }
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

impl Office {
    fn of(intake: &str) -> Result<Self, BenchError> {
        let address = intake.strip_prefix("http://").and_then(|address| address.parse().ok());
        let address = address.ok_or_else(|| BenchError::Address(intake.to_owned()))?;
        Ok(Self { address, intake: Intake::new(intake) })
    }

    /// How many of its records it holds receipts for.
    pub(crate) async fn receipted(&self) -> Result<u64, BenchError> {
        metric(&self.intake, "estafet_records_receipted_total").await
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

/// The origin and as many offices as it takes beside it, the branch and the hub.
pub(crate) fn plan(offices: u16) -> CityPlan {
    let node = |id: &str, code: u16, role| PlannedNode {
        id: node_id(id),
        code: format!("B{:02}", code).parse().expect("a short code"),
        label: id.to_owned(),
        region: None,
        role,
        place: None,
        risks: Vec::new(),
    };
    let mut nodes = vec![node(HUB, 1, Role::Hub), node(BRANCH, 2, Role::Relay), node(ORIGIN, 3, Role::Relay)];
    nodes.extend((2..=offices).map(|number| node(&format!("{ORIGIN}-{number}"), 2 + number, Role::Relay)));
    let links = nodes.iter().skip(1).map(|node| link(&node.id)).collect();
    CityPlan { area: "chain".to_owned(), label: "Chain".to_owned(), nodes, links }
}

/// What joins a node to the next one.
fn link(node: &NodeId) -> Link {
    let next = if node.as_str() == BRANCH { HUB } else { BRANCH };
    Link::new([node.clone(), node_id(next)], Medium::Fiber, LinkCost(10))
}

fn plan_with_rogue(offices: u16) -> CityPlan {
    let mut plan = plan(offices);
    let origin = plan.nodes.last().expect("there is at least one office").clone();
    let rogue = PlannedNode { id: node_id(ROGUE), code: "RGE".parse().expect("a short code"), ..origin };
    plan.links.push(link(&rogue.id));
    plan.nodes.push(rogue);
    plan
}

pub(crate) fn node_id(id: &str) -> NodeId {
    id.parse().expect("the names in this module are node ids")
}

/// How often it is looked whether all relays run.
const CHECK_EVERY: Duration = Duration::from_millis(100);

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
