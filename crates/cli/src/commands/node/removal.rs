//! A node goes, with all that names it in the topology. What stays is its name and its key, so that neither comes again.

use std::collections::BTreeSet;

use estafet_model::NodeId;
use estafet_routing::{Failure as Loss, impact};
use estafet_topology::{LinkName, Node, Role, Topology};
use toml_edit::{ArrayOfTables, Table, value};

use crate::amendment::{Amendment, text, texts};
use crate::city::CityFolder;
use crate::failure::Failure;
use crate::output::Output;
use crate::plan;
use crate::reach::node_unknown;

/// Takes a node, its links and its mentions out of the city's topology, and signs that.
pub(super) fn remove(city: &CityFolder, id: &NodeId, output: &mut Output<'_>) -> Result<(), Failure> {
    let mut amendment = Amendment::begin(city)?;
    let topology = amendment.topology().clone();
    let node = topology.node(id).ok_or_else(|| node_unknown(&topology, id))?;
    if topology.hub_ids().all(|hub| hub == id) {
        return Err(Failure::OnlyHub(id.clone()));
    }
    let detoured = refuse_to_cut_off(&topology, id)?;
    amendment.tables("node")?.retain(|table| text(table, "id") != Some(id.as_str()));
    amendment.tables("hub")?.retain(|table| text(table, "node") != Some(id.as_str()));
    amendment.tables("link")?.retain(|table| !texts(table, "ends").any(|end| end == id.as_str()));
    forget_outages(amendment.tables("outage")?, id, &risks_without(&topology, id));
    amendment.tables("former_node")?.push(former_node(node));
    amendment.finish(output)?;
    if !detoured.is_empty() {
        output.note(format_args!("These take another way without it: {}.", detoured.join(", ")));
    }
    output.note(format_args!(
        "Records of {id} that others still hold go to quarantine; `topology node accept {id}` lets them in."
    ));
    Ok(())
}

/// Who takes another way. Fails if somebody has none.
fn refuse_to_cut_off(topology: &Topology, id: &NodeId) -> Result<Vec<String>, Failure> {
    let found = impact(&plan::graph(topology), &plan::hubs(topology), &Loss::new().and_node(id.clone()));
    let cut_off: Vec<String> = found.cut_off.iter().filter(|node| *node != id).map(ToString::to_string).collect();
    if cut_off.is_empty() {
        Ok(found.detoured.iter().map(|detour| detour.node.to_string()).collect())
    } else {
        Err(Failure::OthersCutOff { node: id.clone(), cut_off: cut_off.join(", ") })
    }
}

/// The risks that something names still.
fn risks_without<'t>(topology: &'t Topology, id: &NodeId) -> BTreeSet<&'t str> {
    let nodes = topology.nodes.values().filter(|node| node.id != *id).flat_map(|node| &node.risks);
    let links = topology.links.iter().filter(|link| !link.ends.contains(id)).flat_map(|link| &link.risks);
    nodes.chain(links).map(String::as_str).collect()
}

/// An outage that strikes nothing any more goes with what it struck.
fn forget_outages(outages: &mut ArrayOfTables, id: &NodeId, risks: &BTreeSet<&str>) {
    let keep = |outage: &mut Table, key: &str, stays: &dyn Fn(&str) -> bool| {
        if let Some(names) = outage.get_mut(key).and_then(|names| names.as_array_mut()) {
            names.retain(|name| name.as_str().is_none_or(stays));
            if names.is_empty() {
                outage.remove(key);
            }
        }
    };
    for outage in outages.iter_mut() {
        keep(outage, "nodes", &|name| name != id.as_str());
        keep(outage, "links", &|name| name.parse::<LinkName>().is_ok_and(|link| !link.ends().contains(id)));
        keep(outage, "risks", &|risk| risks.contains(risk));
    }
    outages.retain(|outage| ["nodes", "links", "risks"].iter().any(|key| outage.contains_key(key)));
}

/// What stays of a node, or of its machine.
pub(super) fn former_node(node: &Node) -> Table {
    let mut table = Table::new();
    table.insert("id", value(node.id.as_str()));
    table.insert("code", value(node.code.to_string()));
    table.insert("key", value(node.key.to_string()));
    if node.role != Role::Relay {
        table.insert("role", value(node.role.to_string()));
    }
    table
}

/// Lets in what a node had captured by the keys that count no more, and that others still hold.
pub(super) fn accept(city: &CityFolder, id: &NodeId, output: &mut Output<'_>) -> Result<(), Failure> {
    let mut amendment = Amendment::begin(city)?;
    let mut refused =
        amendment.topology().former_nodes.iter().filter(|former| former.id == *id && !former.accept).peekable();
    if refused.peek().is_none() {
        return Err(Failure::NothingToAccept(id.clone()));
    }
    for former in amendment.tables("former_node")?.iter_mut().filter(|former| text(former, "id") == Some(id.as_str())) {
        former.insert("accept", value(true));
    }
    amendment.finish(output)?;
    output.note("What is in quarantine is tried again within an hour; `topology quarantine retry` does it at once.");
    Ok(())
}
