//! `topology check`: finds the faults of a file, and warns of offices that hang on one thing.

use std::collections::BTreeSet;
use std::path::Path;

use estafet_model::NodeId;
use estafet_routing::{Alternate, Failure as Loss, Graph, Protects, Route, impact, routes_to_nearest};
use estafet_topology::{Fault, Link, Topology};
use serde::Serialize;

use crate::failure::{Failure, Outcome};
use crate::output::Output;
use crate::plan;
use crate::topology_file::TopologyFile;

#[derive(Serialize)]
struct Checked<'a> {
    ok: bool,
    file: &'a Path,
    area: Option<&'a str>,
    version: Option<u64>,
    signed: Option<bool>,
    faults: &'a [Fault],
    /// None of a file with faults.
    warnings: Vec<Warning>,
}

/// Says that a file is sound, or all that is wrong with it. As text, faults are a failure that shows their lines.
pub fn check(file: &Path, output: &mut Output<'_>) -> Result<Outcome, Failure> {
    match TopologyFile::read(file) {
        Ok(read) => {
            report_sound(file, &read, output)?;
            Ok(Outcome::Good)
        }
        Err(Failure::Faults(faults)) if output.is_json() => {
            let faults = faults.faults();
            output.object(&Checked {
                ok: false,
                file,
                area: None,
                version: None,
                signed: None,
                faults,
                warnings: Vec::new(),
            })?;
            Ok(Outcome::Bad)
        }
        Err(failure) => Err(failure),
    }
}

fn report_sound(file: &Path, read: &TopologyFile, output: &mut Output<'_>) -> Result<(), Failure> {
    let TopologyFile { topology, signed } = read;
    let warnings = warnings(topology);
    if output.is_json() {
        return output.object(&Checked {
            ok: true,
            file,
            area: Some(&topology.area),
            version: Some(topology.version),
            signed: Some(signed.is_some()),
            faults: &[],
            warnings,
        });
    }
    output.line(format_args!(
        "{} is sound: {} version {}, {} nodes, {} links, {}",
        file.display(),
        topology.area,
        topology.version,
        topology.nodes.len(),
        topology.links.len(),
        if signed.is_some() { "signed by its own admin" } else { "not signed" },
    ))?;
    for Warning { text, remedy, .. } in warnings {
        output.line(format_args!("warning: {text}; {remedy}"))?;
    }
    Ok(())
}

/// Every office that has no alternate for the day when what it sends to is lost, or whose records wait already.
fn warnings(topology: &Topology) -> Vec<Warning> {
    let (graph, hubs) = (plan::graph(topology), plan::hubs(topology));
    let offices = graph.nodes().filter(|node| !hubs.contains(node));
    let routes = offices.filter_map(|office| Some((office, routes_to_nearest(&graph, office, &hubs)?)));
    let offices = routes.filter_map(|(office, route)| Warning::about(&graph, &hubs, office, &route));
    let metered = plan::urgent_only_offices(topology).into_iter().map(|office| Warning::about_metered(&office));
    offices.chain(bearers_in_vain(topology)).chain(metered).collect()
}

/// Every two nodes whose bearers are not as many ways as they look.
fn bearers_in_vain(topology: &Topology) -> impl Iterator<Item = Warning> {
    let pairs: BTreeSet<&[NodeId; 2]> = topology.links.iter().map(|link| &link.ends).collect();
    pairs.into_iter().flat_map(|ends| {
        let [one, other] = ends;
        let bearers: Vec<&Link> = topology.bearers(one, other).collect();
        let shared = shared_by_all(bearers.iter().map(|link| link.risks.iter().collect()));
        let risk = shared.first().map(|risk| {
            let text = format!("all bearers between {one} and {other} fail with the risk `{risk}`");
            Warning::about_bearers(ends, text, "lead one of them another way")
        });
        let address = ends.iter().find_map(|end| {
            let shared = shared_by_all(bearers.iter().map(|link| topology.addresses_over(link, end).iter().collect()));
            let text = format!("{end} is dialed at {} over all bearers to its neighbor", shared.first()?);
            Some(Warning::about_bearers(ends, text, "give each its own: `addresses = { NODE = [...] }` in the link"))
        });
        risk.into_iter().chain(address)
    })
}

/// What is in all of several sets; nothing is shared by one alone.
fn shared_by_all<T: Ord + Clone>(mut sets: impl ExactSizeIterator<Item = BTreeSet<T>>) -> BTreeSet<T> {
    let several = sets.len() > 1;
    let first = sets.next().filter(|_| several).unwrap_or_default();
    sets.fold(first, |shared, set| &shared & &set)
}

/// An office that is worse off than it need be.
#[derive(Serialize)]
struct Warning {
    node: String,
    /// `link`: it sends straight to a hub, and has no other way to any. `node`: no alternate outlives its next hop.
    /// `bearers`: those to `next_hop` are fewer ways than they look. `metered`: no other links lead to a hub.
    hangs_on: &'static str,
    /// Empty where it hangs on metered links.
    next_hop: String,
    /// False: another way exists, but none that stands ready as an alternate.
    isolated: bool,
    text: String,
    remedy: &'static str,
}

impl Warning {
    fn about_bearers(ends: &[NodeId; 2], text: String, remedy: &'static str) -> Self {
        let [node, next_hop] = ends.each_ref().map(ToString::to_string);
        Self { node, hangs_on: "bearers", next_hop, isolated: false, text, remedy }
    }

    fn about_metered(office: &NodeId) -> Self {
        Self {
            node: office.to_string(),
            hangs_on: "metered",
            next_hop: String::new(),
            isolated: false,
            text: format!("{office} reaches a hub over metered links only: its normal and bulk records wait"),
            remedy: "let a link carry them with `bulk = true`, or build one that is not metered",
        }
    }

    fn about(graph: &Graph, hubs: &BTreeSet<NodeId>, office: &NodeId, route: &Route) -> Option<Self> {
        let next_hop = &route.next_hop;
        let straight = hubs.contains(next_hop);
        if straight && graph.edge(office, next_hop).is_some_and(|edge| edge.spare.is_some()) {
            return None;
        }
        let outlives = |alternate: &Alternate| straight || alternate.protects == Protects::Node;
        if route.alternates.iter().any(outlives) {
            return None;
        }
        let (hangs_on, what, loss) = if straight {
            ("link", format!("its link to {next_hop}"), Loss::new().and_link(office, next_hop))
        } else {
            ("node", next_hop.to_string(), Loss::new().and_node(next_hop.clone()))
        };
        let isolated = impact(graph, hubs, &loss).cut_off.contains(office);
        let (text, remedy) = if isolated {
            (format!("{office} hangs on {what} alone: without it no hub is reached"), BUILD)
        } else {
            (format!("{office} has no alternate ready for the loss of {what}"), WAIT)
        };
        let (node, next_hop) = (office.to_string(), next_hop.to_string());
        Some(Self { node, hangs_on, next_hop, isolated, text, remedy })
    }
}

const BUILD: &str = "a second way is needed, `topology advise` proposes links";
const WAIT: &str =
    "another way exists, but only when paths are computed anew; a link to somebody nearer the hub would mend it";
