//! `topology drain`, `undrain` and `power`: what a node is told of its own service.

use std::sync::Arc;
use std::time::Duration;

use estafet_admin::v1;
use estafet_model::{LinkCost, NodeId};
use estafet_routing::{Edge, Failure as Loss, Graph, impact};
use serde::Serialize;
use tonic::{Response, Status};

use super::question;
use super::show::service_words;
use crate::arguments::Supply;
use crate::failure::{Failure, Outcome};
use crate::moment::Timestamp;
use crate::output::{Output, or_null};
use crate::reach::{NodeClient, Reach};

/// What a node says of its service.
#[derive(Debug, Serialize)]
struct Standing<'a> {
    node: &'a str,
    state: String,
    power: String,
    minutes_left: Option<u32>,
    reason: Option<String>,
    words: Option<String>,
    back: Option<Timestamp>,
    /// What it means for others, if it is more than a way around; null if not, or not known.
    warning: Option<String>,
}

/// Drains a node.
pub async fn drain(
    reach: &Reach,
    node: &NodeId,
    lasts: Option<Duration>,
    reason: &str,
    output: &mut Output<'_>,
) -> Result<Outcome, Failure> {
    let NodeClient { name, mut client } = reach.first().await?;
    // What it means is told all the same if this node's map is not to be had.
    let network = client.get_network(question(v1::GetNetworkRequest {})).await;
    let warning = network.ok().and_then(|network| consequence(network.get_ref(), node));
    let request = v1::DrainRequest {
        node: node.to_string(),
        for_seconds: lasts.map(|lasts| lasts.as_secs()),
        words: reason.to_owned(),
    };
    tell(node, &name, client.drain(question(request)).await, warning, output)
}

/// Ends that.
pub async fn undrain(reach: &Reach, node: &NodeId, output: &mut Output<'_>) -> Result<Outcome, Failure> {
    let NodeClient { name, mut client } = reach.first().await?;
    let request = v1::UndrainRequest { node: node.to_string() };
    let standing = client.undrain(question(request)).await;
    let still = standing.as_ref().ok().map(Response::get_ref).filter(|standing| standing.state == "draining");
    let warning = still.map(|standing| {
        let why = service_words("draining", standing);
        format!(
            "no order drains {node} any more, and it drains all the same: {why}. `topology outage remove` ends a planned \
             outage, `topology power {node} mains` what was said of its power"
        )
    });
    let outcome = if warning.is_some() { Outcome::Bad } else { Outcome::Good };
    tell(node, &name, standing, warning, output)?;
    Ok(outcome)
}

/// Tells a node what it runs on.
pub async fn set_power(
    reach: &Reach,
    node: &NodeId,
    supply: Supply,
    output: &mut Output<'_>,
) -> Result<Outcome, Failure> {
    let power = match supply {
        Supply::Mains => "mains",
        Supply::Battery => "battery",
        Supply::Low => "low",
    };
    let NodeClient { name, mut client } = reach.first().await?;
    let network = match supply {
        Supply::Low => client.get_network(question(v1::GetNetworkRequest {})).await.ok(),
        Supply::Mains | Supply::Battery => None,
    };
    let consequence = network.and_then(|network| consequence(network.get_ref(), node));
    let warning = (supply == Supply::Low).then(|| {
        let stops =
            format!("{node} hands over what it holds and stops; its relay has to be started when power is back");
        consequence.map_or_else(|| stops.clone(), |consequence| format!("{stops}. Until then {consequence}"))
    });
    let request = v1::SetPowerRequest { node: node.to_string(), power: power.to_owned() };
    tell(node, &name, client.set_power(question(request)).await, warning, output)
}

/// What draining a node means for those who have no way but over it; nothing if all have another.
fn consequence(network: &v1::Network, node: &NodeId) -> Option<String> {
    let is_hub = |listed: &&v1::Node| listed.role == "hub";
    let serves = |listed: &&v1::Node| listed.state == "serving" && listed.id != node.as_str();
    if network.nodes.iter().filter(is_hub).any(|hub| hub.id == node.as_str()) {
        let others = network.nodes.iter().filter(is_hub).filter(serves).count();
        return (others == 0).then(|| {
            format!(
                "no other main server serves: while {node} drains nothing is sent to it, and records wait where they are. \
                 Nothing is lost, counters go on; `topology undrain {node}` ends it"
            )
        });
    }
    let id = |text: &String| text.parse::<NodeId>().ok();
    let edges = network.links.iter().filter(|link| matches!(link.state.as_str(), "up" | "gray" | "suspect"));
    let edges = edges.filter_map(|link| match link.ends.as_slice() {
        [one, other] => Some((id(one)?, id(other)?, Edge::new(LinkCost(link.cost), Arc::default()))),
        _ => None,
    });
    let hubs = network.nodes.iter().filter(is_hub).filter(serves).filter_map(|hub| id(&hub.id)).collect();
    let mut cut_off = impact(&Graph::from_edges(edges), &hubs, &Loss::new().and_node(node.clone())).cut_off;
    cut_off.retain(|office| office != node);
    let names: Vec<&str> = cut_off.iter().map(NodeId::as_str).collect();
    (!names.is_empty()).then(|| {
        format!(
            "no other way leads to a main server from {}: their records still go over {node} while it drains, and wait \
             when it is switched off",
            names.join(", ")
        )
    })
}

fn tell(
    node: &NodeId,
    asked: &str,
    answer: Result<Response<v1::Standing>, Status>,
    warning: Option<String>,
    output: &mut Output<'_>,
) -> Result<Outcome, Failure> {
    let standing = answer.map_err(Failure::refused(asked))?.into_inner();
    if let Some(warning) = &warning {
        output.note(format_args!("warning: {warning}"));
    }
    if output.is_json() {
        let v1::Standing { state, power, minutes_left, reason, words, back_unix_ms } = standing;
        let (reason, words) = (or_null(reason), or_null(words));
        let back = back_unix_ms.map(Timestamp::of_millis);
        output.object(&Standing { node: node.as_str(), state, power, minutes_left, reason, words, back, warning })?;
    } else {
        output.line(format_args!("{node} is {}", service_words(&standing.state, &standing)))?;
    }
    Ok(Outcome::Good)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn network(hubs: &[(&str, &str)], links: &[(&str, &str, &str)]) -> v1::Network {
        let hub = |(id, state): &(&str, &str)| v1::Node {
            id: (*id).to_owned(),
            role: "hub".to_owned(),
            state: (*state).to_owned(),
            ..v1::Node::default()
        };
        let link = |(one, other, state): &(&str, &str, &str)| v1::Link {
            ends: vec![(*one).to_owned(), (*other).to_owned()],
            state: (*state).to_owned(),
            cost: 10,
            ..v1::Link::default()
        };
        let (nodes, links) = (hubs.iter().map(hub).collect(), links.iter().map(link).collect());
        v1::Network { nodes, links, ..v1::Network::default() }
    }

    #[test]
    fn draining_warns_of_those_who_have_no_other_way() {
        let chain = [("rumbai", "sukajadi", "up"), ("induk", "sukajadi", "up")];
        let around = [chain[0], chain[1], ("rumbai", "senapelan", "gray"), ("induk", "senapelan", "up")];
        let broken = [chain[0], chain[1], ("rumbai", "senapelan", "down"), ("induk", "senapelan", "up")];
        let (one, two) = ([("induk", "serving")], [("cadangan", "serving"), ("induk", "serving")]);
        let other_drains = [("cadangan", "draining"), ("induk", "serving")];
        for (hubs, links, node, warned) in [
            (&one[..], &chain[..], "sukajadi", Some("from rumbai:")),
            (&one, &around, "sukajadi", None),
            (&one, &broken, "sukajadi", Some("from rumbai:")),
            (&one, &chain, "rumbai", None),
            (&one, &around, "induk", Some("records wait where they are")),
            (&two, &around, "induk", None),
            (&other_drains, &around, "induk", Some("records wait where they are")),
        ] {
            let said = consequence(&network(hubs, links), &node.parse().unwrap());
            match warned {
                Some(words) => assert!(said.as_ref().is_some_and(|said| said.contains(words)), "{node}: {said:?}"),
                None => assert_eq!(said, None, "{node}"),
            }
        }
    }
}
