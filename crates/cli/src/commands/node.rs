//! `topology node`: machines come, are replaced, and go.

mod removal;

use std::fs;

use estafet_model::{Fingerprint, JoinRequest, NodeId};
use estafet_topology::{OperatorRole, Role, Topology};
use toml_edit::{Array, Table, value};

use crate::amendment::{Amendment, list};
use crate::arguments::{KnownNode, NewNode, NodeChange, Request};
use crate::city::{CityFolder, TOPOLOGY_SIGNED};
use crate::failure::Failure;
use crate::fingerprint::compare;
use crate::output::Output;
use crate::reach::node_unknown;

/// Changes the city's topology and signs it.
pub fn change(city: &CityFolder, change: &NodeChange, output: &mut Output<'_>) -> Result<(), Failure> {
    match change {
        NodeChange::Add(node) => add(city, node, output),
        NodeChange::Replace { node: KnownNode { id }, request } => replace(city, id, request, output),
        NodeChange::Remove(KnownNode { id }) => removal::remove(city, id, output),
        NodeChange::Accept(KnownNode { id }) => removal::accept(city, id, output),
    }
}

fn add(city: &CityFolder, node: &NewNode, output: &mut Output<'_>) -> Result<(), Failure> {
    let request = believed(&node.request)?;
    let mut amendment = Amendment::begin(city)?;
    let topology = amendment.topology();
    if topology.node(&request.node).is_some() {
        return Err(Failure::NodeExists(request.node));
    }
    if let Some(link) = node.links.iter().find(|link| topology.node(&link.to).is_none()) {
        return Err(node_unknown(topology, &link.to));
    }
    amendment.tables("node")?.push(node_table(node, &request));
    for link in &node.links {
        let mut table = Table::new();
        table.insert("ends", list(&[&request.node, &link.to]));
        table.insert("medium", value(link.medium.as_str()));
        table.insert("cost", value(i64::from(link.cost)));
        amendment.tables("link")?.push(table);
    }
    amendment.finish(output)?;
    tell_machine(city, &request.node, output);
    Ok(())
}

fn node_table(node: &NewNode, request: &JoinRequest) -> Table {
    let mut table = Table::new();
    table.insert("id", value(request.node.as_str()));
    table.insert("code", value(node.code.to_string()));
    table.insert("label", value(&node.label));
    if let Some(region) = &node.region {
        table.insert("region", value(region));
    }
    table.insert("role", value(Role::Relay.to_string()));
    set_machine(&mut table, request);
    if !node.risks.is_empty() {
        table.insert("risks", list(&node.risks));
    }
    table
}

fn set_machine(table: &mut Table, request: &JoinRequest) {
    table.insert("key", value(request.key.to_string()));
    table.insert("addresses", value(request.addresses.iter().map(ToString::to_string).collect::<Array>()));
    table.insert("admin", value(request.admin.to_string()));
}

fn replace(city: &CityFolder, id: &NodeId, request: &Request, output: &mut Output<'_>) -> Result<(), Failure> {
    let request = believed(request)?;
    if request.node != *id {
        return Err(Failure::RequestOfOther { meant: id.clone(), asks: request.node });
    }
    let mut amendment = Amendment::begin(city)?;
    let topology = amendment.topology();
    let node = topology.node(id).ok_or_else(|| node_unknown(topology, id))?.clone();
    if node.key == request.key {
        return Err(Failure::SameMachine(id.clone()));
    }
    if node.role == Role::Hub {
        return Err(Failure::HubKeepsItsKey(id.clone()));
    }
    set_machine(amendment.table("node", "id", id.as_str())?, &request);
    amendment.tables("former_node")?.push(removal::former_node(&node));
    amendment.finish(output)?;
    tell_machine(city, id, output);
    Ok(())
}

/// The request in a file, once somebody has compared its fingerprint with the machine's.
fn believed(request: &Request) -> Result<JoinRequest, Failure> {
    let text = fs::read_to_string(&request.file).map_err(Failure::read(&request.file))?;
    let path = || request.file.clone();
    let read: JoinRequest = text.parse().map_err(|error| Failure::JoinRequest { path: path(), error })?;
    compare(read.node.as_str(), read.fingerprint(), request.fingerprint)?;
    Ok(read)
}

/// What the new machine needs, none of it secret.
fn tell_machine(city: &CityFolder, node: &NodeId, output: &mut Output<'_>) {
    output.note(format_args!(
        "\nBring {} to the machine of {node}, beside its relay.toml. Its operator_keys are these, to compare by telephone:",
        city.dir().join(TOPOLOGY_SIGNED).display()
    ));
    for (name, key, fingerprint) in admins(city.topology()) {
        output.note(format_args!("  {name}  {key}\n    fingerprint {fingerprint}"));
    }
}

fn admins(topology: &Topology) -> impl Iterator<Item = (&str, String, Fingerprint)> {
    let admins = topology.operators.iter().filter(|operator| operator.role == OperatorRole::Admin);
    admins.map(|admin| (admin.id.as_str(), admin.key.to_string(), Fingerprint::of(&admin.key)))
}
