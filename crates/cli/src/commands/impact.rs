//! `topology impact`: tells beforehand what a failure would do. Works on a file, so it can be asked in the dark; what is
//! dark or draining already, and for how long offices have room, is added if a node answers.

use std::collections::BTreeSet;
use std::time::Duration;

use estafet_model::NodeId;
use estafet_routing::{CostParts, Detour, Failure as Loss, Graph, ShortestPaths, impact as impact_of};
use estafet_topology::{Darkness, Link, Outage, Topology, did_you_mean};
use serde::Serialize;
use tokio::time::timeout;

use super::room::{self, HoursLeft, Rooms};
use super::survey::Survey;
use super::trouble::Trouble;
use crate::cost;
use crate::failure::{Failure, Outcome};
use crate::moment::{Moment, Timestamp};
use crate::output::{Output, or_dash};
use crate::plan::{self, Labeled};
use crate::reach::{Reach, node_unknown};

/// What fails, as it was typed.
#[derive(Debug, Clone, Default)]
pub struct Named {
    /// Nodes.
    pub nodes: Vec<NodeId>,
    /// Links, each by its ends with a hyphen or a comma between them.
    pub links: Vec<String>,
    /// Shared risks.
    pub risks: Vec<String>,
    /// What planned outages darken then fails as well.
    pub at: Option<Moment>,
}

/// The planned outages that go on at a moment.
#[derive(Default)]
struct Planned<'a> {
    at: Option<i64>,
    outages: Vec<(Darkness, &'a Outage)>,
}

#[derive(Serialize)]
struct Told {
    /// The nodes that were named.
    failed: Vec<String>,
    failed_links: Vec<[String; 2]>,
    failed_risks: Vec<String>,
    /// The moment that was asked about, if any.
    at: Option<Timestamp>,
    /// The planned outages that go on then.
    outages: Vec<Applied>,
    /// The links that fail though both their ends stand.
    links_down: Vec<[String; 2]>,
    /// What carries each of them.
    media_down: Vec<String>,
    /// The node that says for how long those have room who are cut off; null if none has answered or was asked.
    seen_from: Option<String>,
    /// What was dark or draining already, and counts as that; null if only the topology was judged.
    now: Option<Trouble>,
    /// It was to be heeded, and nobody has answered.
    #[serde(skip)]
    is_now_unknown: bool,
    #[serde(skip)]
    asked: bool,
    cut_off: Vec<CutOff>,
    detoured: Vec<Detoured>,
}

#[derive(Serialize)]
struct Applied {
    /// The nodes that it darkens, by name or by risk.
    strikes: Vec<String>,
    /// The links that it darkens by name.
    links: Vec<String>,
    risks: Vec<String>,
    start: Timestamp,
    end: Timestamp,
    reason: String,
}

#[derive(Serialize)]
struct CutOff {
    #[serde(flatten)]
    who: Labeled,
    /// `fails` (it was named), `struck` (a risk that was named strikes it), `dark` (a planned outage strikes it) or
    /// `isolated` (it stands, and loses its last way).
    why: &'static str,
    struck_by: Vec<String>,
    /// The reasons of the planned outages that strike it.
    dark_by: Vec<String>,
    /// For how many hours it can go on taking records, at the pace of its last day; null if it captures nothing, or if
    /// that is not known.
    hours_left: HoursLeft,
    /// How people read that.
    #[serde(skip)]
    room_for: String,
}

#[derive(Serialize)]
struct Detoured {
    node: String,
    via: Vec<String>,
    cost_before: u32,
    cost_after: u32,
    /// Why that is more than the links on the way cost.
    cost_after_raised_by: Vec<String>,
    #[serde(skip)]
    cost_words: String,
}

/// What is asked of nodes beside the topology.
#[derive(Debug, Clone, Copy)]
pub struct Asking<'a> {
    /// Whoever answers of these is asked.
    pub reach: &'a Reach,
    /// What is dark or draining now counts as that. Otherwise nodes are asked only for how long offices have room.
    pub heeds_now: bool,
}

/// Tells who is cut off and who takes another way when all that is named is gone.
pub async fn impact(
    topology: &Topology,
    named: &Named,
    asking: Option<Asking<'_>>,
    output: &mut Output<'_>,
) -> Result<Outcome, Failure> {
    if let Some(unknown) = named.nodes.iter().find(|node| topology.node(node).is_none()) {
        return Err(node_unknown(topology, unknown));
    }
    if let Some(unknown) = named.risks.iter().find(|risk| !topology.risks().contains(risk.as_str())) {
        return Err(risk_unknown(topology, unknown));
    }
    let links = named.links.iter().map(|text| named_link(topology, text));
    let links = links.collect::<Result<Vec<NamedLink>, Failure>>()?.concat();
    let planned = named.at.map(|at| Planned::new(topology, at.unix_s())).unwrap_or_default();
    let survey = match asking {
        Some(asking) => timeout(PATIENCE, Survey::take(asking.reach)).await.ok().and_then(Result::ok),
        None => None,
    };
    let loss = loss(topology, named, &links, &planned);
    let heeds_now = asking.is_some_and(|asking| asking.heeds_now);
    let now = survey.as_ref().filter(|_| heeds_now).map(|survey| Trouble::of(survey, topology, &loss));
    let mut told = Told::new(topology, named, &links, &planned, &loss, now);
    told.asked = asking.is_some();
    told.is_now_unknown = heeds_now && told.now.is_none();
    if let Some(survey) = &survey {
        told.add_rooms(survey);
    }
    output.answer(&told, print)?;
    Ok(Outcome::Good)
}

impl<'a> Planned<'a> {
    fn new(topology: &'a Topology, unix_s: i64) -> Self {
        Self { at: Some(unix_s), outages: topology.outages_at(unix_s).collect() }
    }

    fn outages(&self) -> impl Iterator<Item = &'a Outage> {
        self.outages.iter().map(|(_, outage)| *outage)
    }
}

/// What one planned outage darkens.
pub(super) fn loss_by(topology: &Topology, outage: &Outage) -> Loss {
    let loss = outage.nodes.iter().cloned().fold(Loss::new(), Loss::and_node);
    let loss = outage.risks.iter().cloned().fold(loss, Loss::and_risk);
    let dark = topology.links.iter().filter(|link| outage.names_link(link));
    dark.fold(loss, |loss, link| loss.and_bearer(&link.ends[0], &link.ends[1], link.medium))
}

/// All that fails: what is named, and what the planned outages darken.
fn loss(topology: &Topology, named: &Named, links: &[&Link], planned: &Planned<'_>) -> Loss {
    let nodes = named.nodes.iter().chain(planned.outages().flat_map(|outage| &outage.nodes));
    let risks = named.risks.iter().chain(planned.outages().flat_map(|outage| &outage.risks));
    let loss = nodes.cloned().fold(Loss::new(), Loss::and_node);
    let loss = risks.cloned().fold(loss, Loss::and_risk);
    let dark = topology.links.iter().filter(|link| planned.outages().any(|outage| outage.names_link(link)));
    links
        .iter()
        .copied()
        .chain(dark)
        .fold(loss, |loss, link| loss.and_bearer(&link.ends[0], &link.ends[1], link.medium))
}

impl Told {
    fn new(
        topology: &Topology,
        named: &Named,
        links: &[&Link],
        planned: &Planned<'_>,
        loss: &Loss,
        now: Option<Trouble>,
    ) -> Self {
        let graph = now.as_ref().map_or_else(|| plan::graph(topology), |now| now.map(topology, loss));
        let hubs = graph.serving(&plan::hubs(topology));
        let found = impact_of(&graph, &hubs, loss);
        let left = loss.leaves_of(&graph);
        let down = topology.links.iter().filter(|link| {
            let [left, right] = &link.ends;
            let stands = |end: &NodeId| !found.failed.contains(end);
            let risks = link.risks.iter().cloned().collect();
            stands(left) && stands(right) && loss.takes_link(left, right, Some(link.medium), &risks)
        });
        let mut failed: Vec<String> = named.nodes.iter().map(ToString::to_string).collect();
        failed.sort();
        failed.dedup();
        Self {
            failed,
            failed_links: links.iter().map(|link| ends(link)).collect(),
            failed_risks: named.risks.clone(),
            at: planned.at.map(Timestamp::of_seconds),
            outages: planned
                .outages
                .iter()
                .map(|(darkness, outage)| Applied::new(topology, *darkness, outage))
                .collect(),
            links_down: down.clone().map(ends).collect(),
            media_down: down.map(|link| link.medium.to_string()).collect(),
            seen_from: None,
            now,
            is_now_unknown: false,
            asked: false,
            cut_off: found.cut_off.iter().map(|node| CutOff::new(topology, named, planned, node)).collect(),
            detoured: found.detoured.iter().map(|detour| Detoured::new([&graph, &left], &hubs, detour)).collect(),
        }
    }

    fn add_rooms(&mut self, survey: &Survey) {
        let rooms = Rooms::of(&survey.network);
        for office in &mut self.cut_off {
            let hours_left = rooms.hours_left(&office.who.node);
            (office.hours_left, office.room_for) = (hours_left.flatten(), room::words(hours_left));
        }
        self.seen_from = Some(survey.network.seen_from.clone());
    }
}

impl Applied {
    fn new(topology: &Topology, darkness: Darkness, outage: &Outage) -> Self {
        let struck = topology.nodes.values().filter(|node| outage.strikes_node(node));
        Self {
            strikes: struck.map(|node| node.id.to_string()).collect(),
            links: outage.links.iter().map(ToString::to_string).collect(),
            risks: outage.risks.clone(),
            start: Timestamp::of_seconds(darkness.start),
            end: Timestamp::of_seconds(darkness.end),
            reason: outage.reason.clone(),
        }
    }
}

impl CutOff {
    fn new(topology: &Topology, named: &Named, planned: &Planned<'_>, id: &NodeId) -> Self {
        let node = topology.node(id);
        let risks = node.map_or(&[][..], |node| &node.risks);
        let struck_by: Vec<String> = risks.iter().filter(|risk| named.risks.contains(risk)).cloned().collect();
        let strike = planned.outages().filter(|outage| node.is_some_and(|node| outage.strikes_node(node)));
        let dark_by: Vec<String> = strike.map(|outage| outage.reason.clone()).collect();
        let why = match () {
            () if named.nodes.contains(id) => "fails",
            () if !struck_by.is_empty() => "struck",
            () if !dark_by.is_empty() => "dark",
            () => "isolated",
        };
        let room_for = room::words(None);
        Self { who: Labeled::new(topology, id), why, struck_by, dark_by, hours_left: None, room_for }
    }
}

fn print(told: &Told, output: &mut Output<'_>) -> Result<(), Failure> {
    if let Some(at) = &told.at {
        let dark = told.outages.iter().map(|Applied { strikes, links, risks, end, reason, .. }| {
            let dark: Vec<&str> = strikes.iter().chain(links).map(String::as_str).collect();
            [or_dash(&dark.join(", ")), or_dash(&risks.join(", ")), end.to_string(), reason.clone()]
        });
        let nothing = format!("No outage is planned for {at}.");
        output.table(["goes dark", "risks", "until", "reason"], dark.collect(), &nothing)?;
        output.line("")?;
    }
    if let Some(now) = told.now.as_ref().and_then(Trouble::words) {
        output.line(format_args!("{now}\n"))?;
    } else if told.is_now_unknown {
        output.line("what is dark or draining now is not known: no node has answered\n")?;
    }
    let cut_off = told.cut_off.iter().map(|CutOff { who, why, struck_by, dark_by, room_for, .. }| {
        let why = match *why {
            "fails" => "fails itself".to_owned(),
            "struck" => format!("struck by {}", struck_by.join(", ")),
            "dark" => format!("dark: {}", dark_by.join(", ")),
            _ => "loses its last way".to_owned(),
        };
        [who.node.clone(), who.label.clone(), why, room_for.clone()]
    });
    output.table(["cut off", "label", "why", "room for"], cut_off.collect(), "Nobody is cut off.")?;
    output.line("")?;
    if told.seen_from.is_none() && !told.cut_off.is_empty() {
        let why = if told.asked { "no node has answered" } else { "no node was asked" };
        output.line(format_args!("for how long they have room is not known: {why}\n"))?;
    }
    if !told.links_down.is_empty() {
        let links = told.links_down.iter().zip(&told.media_down);
        let links: Vec<String> = links.map(|(ends, medium)| format!("{} ({medium})", ends.join(" - "))).collect();
        output.line(format_args!("links that fail: {}\n", links.join(", ")))?;
    }
    let detoured = told.detoured.iter().map(|Detoured { node, via, cost_words, .. }| {
        let via = if via.is_empty() { "(straight to the hub)".to_owned() } else { via.join(", ") };
        [node.clone(), via, cost_words.clone()]
    });
    output.table(["detoured", "via", "cost"], detoured.collect(), "Nobody takes another way.")
}

/// The links that are meant by one name: every bearer between two nodes, or one of them.
pub(super) type NamedLink<'a> = Vec<&'a Link>;

/// The links that `text` names by their ends, and perhaps by a medium behind a colon. Node ids have hyphens themselves:
/// every hyphen may be the one between.
pub(super) fn named_link<'a>(topology: &'a Topology, text: &str) -> Result<NamedLink<'a>, Failure> {
    let (ends, medium) = text.split_once(':').map_or((text, None), |(ends, medium)| (ends, Some(medium.trim())));
    let bearers = readings(ends).map(|[left, right]| links_between(topology, left, right));
    let mut found = bearers.filter(|bearers| !bearers.is_empty());
    let bearers = found.next().ok_or_else(|| link_unknown(topology, text, ends))?;
    if found.next().is_some() {
        let remedy = "it can be read in two ways: write the ends with a comma between them".to_owned();
        return Err(Failure::LinkUnknown { link: text.to_owned(), remedy });
    }
    let Some(medium) = medium else { return Ok(bearers) };
    let media: Vec<&str> = bearers.iter().map(|link| link.medium.as_str()).collect();
    let named: NamedLink<'a> = bearers.iter().copied().filter(|link| link.medium.as_str() == medium).collect();
    if named.is_empty() {
        let rest = format!("behind the colon stands what carries it: {}", media.join(", "));
        let remedy = did_you_mean(medium, media.iter().copied(), rest);
        return Err(Failure::LinkUnknown { link: text.to_owned(), remedy });
    }
    Ok(named)
}

/// The two ends that a name may mean.
fn readings(ends: &str) -> impl Iterator<Item = [&str; 2]> {
    let separator = if ends.contains(',') { ',' } else { '-' };
    ends.match_indices(separator).map(|(place, _)| [ends[..place].trim(), ends[place + 1..].trim()])
}

fn links_between<'a>(topology: &'a Topology, left: &str, right: &str) -> NamedLink<'a> {
    let joins = |link: &&Link| {
        let [first, second] = link.ends.each_ref().map(NodeId::as_str);
        [left, right] == [first, second] || [right, left] == [first, second]
    };
    topology.links.iter().filter(joins).collect()
}

fn link_unknown(topology: &Topology, text: &str, ends_named: &str) -> Failure {
    let known = topology.links.iter().map(|link| ends(link).join("-"));
    let turned = topology.links.iter().map(|Link { ends: [left, right], .. }| format!("{right}-{left}"));
    let known: Vec<String> = known.chain(turned).collect();
    let links_of = |node: &str| -> Vec<String> {
        let its = topology.links.iter().filter(|link| link.ends.iter().any(|end| end.as_str() == node));
        its.map(|link| ends(link).join("-")).collect()
    };
    // Where both ends are there, what is spelled alike is another link.
    let mut both = readings(ends_named).map(|named| named.map(links_of));
    if let Some([links, _]) = both.find(|both| both.iter().all(|links| !links.is_empty())) {
        let remedy = format!("nothing joins these two; the first has {}", links.join(", "));
        return Failure::LinkUnknown { link: text.to_owned(), remedy };
    }
    let rest = format!("use one of {}", known[..topology.links.len()].join(", "));
    let remedy = did_you_mean(&ends_named.replace(',', "-"), known.iter().map(String::as_str), rest);
    Failure::LinkUnknown { link: text.to_owned(), remedy }
}

fn risk_unknown(topology: &Topology, risk: &str) -> Failure {
    let known = topology.risks();
    let rest = match known.len() {
        0 => "add `risks = [...]` to the nodes and links that fail together".to_owned(),
        _ => format!("use one of {}", known.iter().copied().collect::<Vec<_>>().join(", ")),
    };
    Failure::RiskUnknown { risk: risk.to_owned(), remedy: did_you_mean(risk, known, rest) }
}

fn ends(link: &Link) -> [String; 2] {
    link.ends.each_ref().map(ToString::to_string)
}

impl Detoured {
    /// What is told of a detour, by the maps before and after.
    fn new(maps: [&Graph; 2], hubs: &BTreeSet<NodeId>, detour: &Detour) -> Self {
        let parts = maps.map(|map| {
            let path = ShortestPaths::toward(map, hubs).path(&detour.node).unwrap_or_default();
            CostParts::of_path(map, &path)
        });
        let [before, after] = parts.each_ref().map(cost::words);
        Self {
            node: detour.node.to_string(),
            via: detour.via.iter().map(ToString::to_string).collect(),
            cost_before: detour.cost_before.0,
            cost_after: detour.cost_after.0,
            cost_after_raised_by: cost::raised_by(&parts[1]),
            cost_words: format!("{before} -> {after}"),
        }
    }
}

/// For finding a node, for its answer and for those whom it cannot reach: a handshake over a satellite takes about 1.3 s.
/// Who is in the dark is told the rest all the same, and soon.
const PATIENCE: Duration = Duration::from_secs(6);
