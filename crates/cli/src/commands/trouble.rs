//! What of a topology does not stand now, as the nodes that answer know it: what `topology impact` begins with.

use estafet_admin::v1;
use estafet_model::NodeId;
use estafet_routing::{Failure as Loss, Graph, ShortestPaths};
use estafet_topology::{Link, Topology};
use serde::{Serialize, Serializer};

use super::survey::{Survey, is_out_of_sight};
use crate::plan;

/// What is dark, draining or broken beside what is asked about.
#[derive(Debug, Clone, Default, Serialize)]
pub(super) struct Trouble {
    /// The node whose map this is, mended by those whom it cannot reach; null if none has answered or was asked.
    pub(super) seen_from: Option<String>,
    /// Nobody beside that node was asked.
    one_view: bool,
    /// Whom nobody reaches, and who does not answer.
    #[serde(serialize_with = "as_names")]
    dark: Vec<NodeId>,
    /// Who takes no transit while there is another way; at a main server, no records of others at all.
    #[serde(serialize_with = "as_names")]
    draining: Vec<NodeId>,
    /// Links that are down, or left for a planned outage, though both their ends answer.
    links_down: Vec<Broken>,
    /// Who has no way to a main server by all that already, the dark ones not counted.
    #[serde(serialize_with = "as_names")]
    cut_off: Vec<NodeId>,
}

#[derive(Debug, Clone, Serialize)]
struct Broken {
    #[serde(serialize_with = "as_names")]
    ends: [NodeId; 2],
    medium: String,
}

/// Ids are not serde's business where they are made.
fn as_names<S: Serializer>(nodes: &impl AsRef<[NodeId]>, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(nodes.as_ref().iter().map(NodeId::as_str))
}

impl Trouble {
    /// What the survey knows of the nodes and links of a topology. What `failing` takes is judged later and stands so far.
    pub(super) fn of(survey: &Survey, topology: &Topology, failing: &Loss) -> Self {
        let nodes = || topology.nodes.keys().filter_map(|id| Some((id, survey.node(id.as_str())?)));
        let dark: Vec<NodeId> = nodes().filter(|(_, node)| is_out_of_sight(node)).map(|(id, _)| id.clone()).collect();
        let draining = nodes().filter(|(_, node)| node.state == "draining").map(|(id, _)| id.clone()).collect();
        let is_down = |link: &&Link| {
            let ends_answer = !link.ends.iter().any(|end| dark.contains(end));
            let is_left = |seen: &v1::Link| seen.state == "gray" && seen.planned_outage.is_some();
            ends_answer && survey.link(link).is_some_and(|seen| seen.state == "down" || is_left(seen))
        };
        let links_down = topology.links.iter().filter(is_down);
        let links_down = links_down.map(|link| Broken { ends: link.ends.clone(), medium: link.medium.to_string() });
        let trouble = Self {
            seen_from: Some(survey.network.seen_from.clone()),
            one_view: survey.is_one_view,
            links_down: links_down.collect(),
            draining,
            dark,
            cut_off: Vec::new(),
        };
        let cut_off = trouble.cut_off_by_now(topology, failing);
        Self { cut_off, ..trouble }
    }

    fn cut_off_by_now(&self, topology: &Topology, failing: &Loss) -> Vec<NodeId> {
        let graph = self.map(topology, failing);
        let to_hub = ShortestPaths::toward(&graph, &graph.serving(&plan::hubs(topology)));
        let has_none = |node: &&NodeId| to_hub.cost(node).is_none() && !self.dark.contains(node);
        graph.nodes().filter(has_none).cloned().collect()
    }

    /// The map of a topology as it stands now. What `failing` takes is left in it.
    pub(super) fn map(&self, topology: &Topology, failing: &Loss) -> Graph {
        let mut loss = Loss::new();
        for id in &self.dark {
            let risks = topology.node(id).map(|node| node.risks.iter().cloned().collect()).unwrap_or_default();
            if !failing.takes_node(id, &risks) {
                loss = loss.and_node(id.clone());
            }
        }
        let links = topology.links.iter().filter(|link| self.is_broken(link));
        let loss = links.fold(loss, |loss, link| loss.and_bearer(&link.ends[0], &link.ends[1], link.medium));
        let mut graph = loss.leaves_of(&plan::graph(topology));
        for id in self.draining.iter().filter(|id| topology.node(id).is_some()) {
            graph.drain(id.clone());
        }
        graph
    }

    fn is_broken(&self, link: &Link) -> bool {
        self.links_down.iter().any(|broken| broken.ends == link.ends && broken.medium == link.medium.as_str())
    }

    /// All of it in one line; nothing if nobody has answered.
    pub(super) fn words(&self) -> Option<String> {
        let seen_from = self.seen_from.as_ref()?;
        let alone = if self.one_view { " alone" } else { "" };
        let names = |nodes: &[NodeId]| nodes.iter().map(NodeId::as_str).collect::<Vec<_>>().join(", ");
        let links =
            self.links_down.iter().map(|Broken { ends: [one, other], medium }| format!("{one} - {other} ({medium})"));
        let parts = [
            ("already dark", names(&self.dark)),
            ("draining", names(&self.draining)),
            ("links down", links.collect::<Vec<_>>().join(", ")),
            ("cut off already", names(&self.cut_off)),
        ];
        let parts = parts.into_iter().filter(|(_, who)| !who.is_empty()).map(|(what, who)| format!("{what}: {who}"));
        let parts = parts.collect::<Vec<_>>().join("; ");
        let what = if parts.is_empty() { "nothing else is dark or draining".to_owned() } else { parts };
        Some(format!("now, as {seen_from}{alone} sees it: {what}"))
    }
}
