//! `topology rotate`: another key in the place of one that is in use.

use std::fs;
use std::path::Path;

use estafet_model::{NodeId, SealKey};
use estafet_seal::Sealer;
use estafet_topology::{Topology, did_you_mean};
use toml_edit::value;

use super::push;
use crate::amendment::Amendment;
use crate::city::CityFolder;
use crate::failure::{Failure, Outcome};
use crate::output::Output;
use crate::reach::Reach;

/// Lets new records be sealed to another key of a main server, which has to have it already.
pub async fn seal_key(
    city: &CityFolder,
    hub: &NodeId,
    key_file: &Path,
    reach: &Reach,
    output: &mut Output<'_>,
) -> Result<Outcome, Failure> {
    let text = fs::read_to_string(key_file).map_err(|_| Failure::NoSealKeyIn(key_file.to_owned()))?;
    let key: SealKey = text.trim().parse().map_err(|_| Failure::NoSealKeyIn(key_file.to_owned()))?;
    Sealer::new([&key])?;
    let mut amendment = Amendment::begin(city)?;
    let topology = amendment.topology();
    let Some(present) = topology.hubs.iter().find(|present| present.node == *hub) else {
        return Err(hub_unknown(topology, hub));
    };
    let former = present.seal_key.clone();
    let topology_needs_others = topology.required_signatures > 1;
    if former == key {
        output.note(format_args!("{hub} has the seal key {} already: nothing has changed.", key.id()));
        return Ok(Outcome::Good);
    }
    amendment.table("hub", "node", hub.as_str())?.insert("seal_key", value(key.to_string()));
    if topology_needs_others {
        amendment.finish(output)?;
        output.note(format_args!(
            "When the others have signed it, push it to {hub} first: it refuses a key that it does not have."
        ));
        return Ok(Outcome::Incomplete);
    }
    // Nothing is written, and nobody else hears of it, if the main server does not have the private half.
    push::hand_over(reach, &amendment.signed()?).await?;
    amendment.finish(output)?;
    output.note(format_args!("New records are sealed to {} as soon as their offices have heard of it.", key.id()));
    output.note(format_args!(
        "Keep the file of {} at {hub}, and its copy: what was sealed to it can be opened with nothing else.",
        former.id()
    ));
    Ok(Outcome::Good)
}

fn hub_unknown(topology: &Topology, name: &NodeId) -> Failure {
    let known: Vec<&str> = topology.hub_ids().map(NodeId::as_str).collect();
    let rest = format!("use one of {}", known.join(", "));
    Failure::HubUnknown { name: name.clone(), remedy: did_you_mean(name.as_str(), known, rest) }
}
