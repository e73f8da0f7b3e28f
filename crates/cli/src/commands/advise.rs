//! `topology advise`: what to build against single points of failure. Works on a file.
//!
//! What the file tells is all that is known: places give distances, and what the links at a mast have in common is
//! taken for what the next one there would have. Hills, houses and leases are not in it.

use std::collections::BTreeSet;

use estafet_model::{LinkCost, NodeId};
use estafet_routing::{
    CandidateLink, ChosenLink, Graph, HubSite, Reinforcement, hub_sites, reinforcement, single_points,
};
use estafet_topology::{Link, Medium, Node, Topology};
use serde::Serialize;

use crate::failure::{Failure, Outcome};
use crate::output::{Output, or_dash};
use crate::plan::{self, Isolation, Labeled, NamedPart};

/// How far a point-to-point radio between two masts of an office's height carries in flat country.
const RADIO_METERS_MAX: f64 = 15_000.0;

/// A link over a mobile network counts as so much farther than a radio: its last mile is another's, and so is its power.
const CELLULAR_METERS: f64 = 1_000_000.0;

/// Two nodes of unknown place count as this far apart.
const UNKNOWN_METERS: f64 = 100_000.0;

/// A far end that goes dark together with a neighbor that is there counts as so much farther.
const SHARED_POWER_METERS: f64 = 200_000.0;

/// How many places for another hub are named.
const SITES_SHOWN: usize = 3;

const ASSUMPTIONS: [&str; 3] = [
    "a radio link where both places are known and at most 15 km apart, a mobile network elsewhere; distances are \
     straight lines, no line of sight is checked",
    "a new link fails with what all links of its medium at one of its ends have in common, where there are two or more",
    "a new link costs half as much again as the dearest at its ends, so that what is there stays the first choice",
];

#[derive(Serialize)]
struct Advice {
    links: Vec<Proposal>,
    /// True if all sets of links were compared; false if they were chosen one by one.
    is_best: bool,
    /// What is a single point of failure with all these links built.
    remaining: Vec<Isolation>,
    /// Whether every hub goes with one failure, and where another one would help.
    second_hub: Option<SecondHub>,
    assumptions: [&'static str; 3],
}

#[derive(Serialize)]
struct Proposal {
    ends: [String; 2],
    medium: String,
    distance_km: Option<f64>,
    cost: u32,
    /// What it is assumed to fail with.
    risks: Vec<String>,
    saves: Vec<Saving>,
    removes: Vec<NamedPart>,
    /// For pasting into the file.
    toml: String,
}

#[derive(Serialize)]
struct Saving {
    from: NamedPart,
    nodes: Vec<String>,
}

#[derive(Serialize)]
struct SecondHub {
    /// What takes every hub.
    because: Vec<NamedPart>,
    /// Where, best first.
    sites: Vec<Site>,
}

#[derive(Serialize)]
struct Site {
    #[serde(flatten)]
    who: Labeled,
    /// Who would reach no hub all the same.
    still_isolated: Vec<String>,
}

/// Proposes at most `links_max` links, and a second hub where only that helps.
pub fn advise(topology: &Topology, links_max: usize, output: &mut Output<'_>) -> Result<Outcome, Failure> {
    output.answer(&Advice::new(topology, links_max), print)?;
    Ok(Outcome::Good)
}

impl Advice {
    fn new(topology: &Topology, links_max: usize) -> Self {
        let (graph, hubs) = (plan::graph(topology), plan::hubs(topology));
        let possible = possible_links(topology);
        let candidates: Vec<CandidateLink> = possible.iter().map(Possible::candidate).collect();
        let Reinforcement { links: chosen, is_best } = reinforcement(&graph, &hubs, &candidates, links_max);
        let find = |chosen: &ChosenLink| possible.iter().find(|possible| possible.link.ends == chosen.link.ends);
        let links: Vec<(&Possible, &ChosenLink)> =
            chosen.iter().filter_map(|chosen| Some((find(chosen)?, chosen))).collect();
        let mut built = topology.clone();
        built.links.extend(links.iter().map(|(possible, _)| possible.link.clone()));
        let graph = plan::graph(&built);
        let remaining = single_points(&graph, &hubs);
        let because = remaining.iter().filter(|point| point.leaves_no_hub);
        let because: Vec<NamedPart> = because.map(|point| NamedPart::new(&point.part)).collect();
        Self {
            links: links.into_iter().map(|(possible, chosen)| Proposal::new(possible, chosen)).collect(),
            is_best,
            remaining: remaining.iter().map(|point| Isolation::new(topology, point)).collect(),
            second_hub: SecondHub::new(topology, &graph, &hubs, because),
            assumptions: ASSUMPTIONS,
        }
    }
}

/// A link that could be built, as the file would have it.
struct Possible {
    link: Link,
    meters: Option<f64>,
    shares_power: bool,
}

impl Possible {
    fn new(topology: &Topology, left: &Node, right: &Node) -> Self {
        let meters = left.place.as_ref().zip(right.place.as_ref()).map(|(left, right)| left.meters_to(right));
        let in_reach = meters.is_some_and(|meters| meters <= RADIO_METERS_MAX);
        let medium = if in_reach { Medium::Radio } else { Medium::Cellular };
        let [at_left, at_right] = [left, right].map(|end| common_risks(topology, &end.id, medium));
        let at_ends = || topology.neighbors(&left.id).chain(topology.neighbors(&right.id));
        let dearest = at_ends().map(|(_, link)| link.cost.0).max().unwrap_or(1);
        let cost = LinkCost(dearest.saturating_add(dearest.div_ceil(2)));
        let link = Link {
            risks: at_left.union(&at_right).cloned().collect(),
            ..Link::new([left.id.clone(), right.id.clone()], medium, cost)
        };
        let shares_power =
            goes_dark_with_neighbors(topology, left, right) || goes_dark_with_neighbors(topology, right, left);
        Self { link, meters, shares_power }
    }

    fn candidate(&self) -> CandidateLink {
        let mut meters = self.meters.unwrap_or(UNKNOWN_METERS);
        if self.link.medium == Medium::Cellular {
            meters += CELLULAR_METERS;
        }
        if self.shares_power {
            meters += SHARED_POWER_METERS;
        }
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "no two places are 2^64 m apart")]
        let effort = meters.round() as u64;
        CandidateLink { effort, ends: self.link.ends.clone(), risks: self.link.risks.iter().cloned().collect() }
    }
}

/// Every pair of nodes without a link.
fn possible_links(topology: &Topology) -> Vec<Possible> {
    let nodes: Vec<&Node> = topology.nodes.values().collect();
    let pairs =
        nodes.iter().enumerate().flat_map(|(place, left)| nodes[place + 1..].iter().map(move |right| (left, right)));
    let joined: BTreeSet<&[NodeId; 2]> = topology.links.iter().map(|link| &link.ends).collect();
    let new = pairs.filter(|(left, right)| !joined.contains(&[left.id.clone(), right.id.clone()]));
    new.map(|(left, right)| Possible::new(topology, left, right)).collect()
}

/// What all links of a medium at a node name, if there are at least two: its mast, or its mobile network.
fn common_risks(topology: &Topology, node: &NodeId, medium: Medium) -> BTreeSet<String> {
    let alike = topology.neighbors(node).filter(|(_, link)| link.medium == medium);
    let risks: Vec<BTreeSet<String>> = alike.map(|(_, link)| link.risks.iter().cloned().collect()).collect();
    match risks.as_slice() {
        [first, rest @ ..] if !rest.is_empty() => rest.iter().fold(first.clone(), |common, risks| &common & risks),
        _ => BTreeSet::new(),
    }
}

/// True if `far` has a risk that `near`, an office, does not have, and a neighbor of it has.
fn goes_dark_with_neighbors(topology: &Topology, near: &Node, far: &Node) -> bool {
    let office = !topology.hub_ids().any(|hub| *hub == near.id);
    let neighbors = || topology.neighbors(&near.id).filter_map(|(neighbor, _)| topology.node(neighbor));
    let shared =
        |risk: &String| !near.risks.contains(risk) && neighbors().any(|neighbor| neighbor.risks.contains(risk));
    office && far.risks.iter().any(shared)
}

impl Proposal {
    fn new(possible: &Possible, chosen: &ChosenLink) -> Self {
        let Possible { link, meters, .. } = possible;
        let saving = |(part, nodes): &(_, Vec<NodeId>)| Saving {
            from: NamedPart::new(part),
            nodes: nodes.iter().map(ToString::to_string).collect(),
        };
        Self {
            ends: link.ends.each_ref().map(ToString::to_string),
            medium: link.medium.to_string(),
            distance_km: meters.map(|meters| (meters / 100.0).round() / 10.0),
            cost: link.cost.0,
            risks: link.risks.clone(),
            saves: chosen.saves.iter().map(saving).collect(),
            removes: chosen.removes.iter().map(NamedPart::new).collect(),
            toml: link.to_toml(),
        }
    }

    fn row(&self) -> [String; 5] {
        let saved: BTreeSet<&str> = self.saves.iter().flat_map(|saving| &saving.nodes).map(String::as_str).collect();
        let removes: Vec<String> = self.removes.iter().map(NamedPart::text).collect();
        [
            self.ends.join(" - "),
            self.medium.clone(),
            or_dash(&self.distance_km.map(|km| format!("{km:.1} km")).unwrap_or_default()),
            saved.into_iter().collect::<Vec<_>>().join(", "),
            or_dash(&removes.join(", ")),
        ]
    }
}

impl SecondHub {
    /// Nothing if a hub outlives every single failure.
    fn new(topology: &Topology, graph: &Graph, hubs: &BTreeSet<NodeId>, because: Vec<NamedPart>) -> Option<Self> {
        let site = |HubSite { node, still_isolated, .. }: HubSite| Site {
            who: Labeled::new(topology, &node),
            still_isolated: still_isolated.iter().map(ToString::to_string).collect(),
        };
        let sites: Vec<Site> = hub_sites(graph, hubs).into_iter().take(SITES_SHOWN).map(site).collect();
        (!because.is_empty()).then_some(Self { because, sites })
    }

    fn print(&self, output: &mut Output<'_>) -> Result<(), Failure> {
        let because: Vec<String> = self.because.iter().map(NamedPart::text).collect();
        output.line(format_args!(
            "\nNo link helps against the loss of {}: no main server is left then. A second hub is needed; best at {}. With it in \
             the file, ask again.",
            because.join(", or "),
            self.sites.first().map_or("a new place", |site| &site.who.node),
        ))?;
        let rows = self.sites.iter().map(|Site { who, still_isolated }| {
            [who.node.clone(), who.label.clone(), or_dash(&still_isolated.join(", "))]
        });
        let nobody = "No other node is there.";
        output.table(["second hub at", "label", "isolated all the same, with these links"], rows.collect(), nobody)
    }
}

fn print(advice: &Advice, output: &mut Output<'_>) -> Result<(), Failure> {
    let head = ["new link", "medium", "distance", "saves", "no single point of failure any more"];
    let nothing = "No new link would save anybody from a single failure.";
    output.table(head, advice.links.iter().map(Proposal::row).collect(), nothing)?;
    if !advice.is_best {
        output.line(
            "There are too many sets of links to compare: these were chosen one by one, each the best of its turn.",
        )?;
    }
    if let Some(second_hub) = &advice.second_hub {
        second_hub.print(output)?;
    }
    output.line("\nWhat stays a single point of failure with these links:")?;
    plan::table_of(&advice.remaining, "Nothing.", output)?;
    if advice.links.is_empty() {
        return Ok(());
    }
    output.line("\nAssumed, because the file does not tell:")?;
    for assumption in advice.assumptions {
        output.line(format_args!("- {assumption}"))?;
    }
    output.line("\nFor the file, with a higher `version`; then `topology check` and `topology sign`:")?;
    for proposal in &advice.links {
        output.line(format_args!("\n{}", proposal.toml.trim_end()))?;
    }
    Ok(())
}
