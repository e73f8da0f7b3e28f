//! `topology show`: the whole area as one node sees it.

use estafet_admin::v1;
use serde::Serialize;

use super::question;
use crate::failure::{Failure, Outcome};
use crate::moment::{age, rfc3339};
use crate::output::{Output, or_dash, or_null, percent};
use crate::reach::Reach;

#[derive(Serialize)]
struct Shown {
    area: String,
    version: u64,
    seen_from: String,
    nodes: Vec<ShownNode>,
    links: Vec<ShownLink>,
}

#[derive(Serialize)]
struct ShownNode {
    id: String,
    code: String,
    label: String,
    role: String,
    state: String,
    next_hop: Option<String>,
    cost: Option<u32>,
    held: u64,
    last_receipt: Option<String>,
    news_age_ms: Option<u64>,
    /// `mains`, `battery` or `low`; null if it was never heard.
    power: Option<String>,
    minutes_left: Option<u32>,
    /// Why it is not plainly serving: `operator`, `planned-outage` or `power`.
    reason: Option<String>,
    /// The same in a person's words.
    words: Option<String>,
    /// When it is due back, by its own clock.
    back: Option<String>,
    /// How people read its service.
    #[serde(skip)]
    service: String,
    /// False: its disk does not keep what is synced, and it gives no promises.
    durable: bool,
    /// The share of destinations for which an alternate outlives its next hop.
    coverage: Option<f64>,
    /// How much its own captures may still bring; null if it has not said.
    capture_room_bytes: Option<u64>,
    /// How much of its disk its own captures took per hour in the last day; null if it has not said.
    captured_bytes_per_hour: Option<u64>,
}

#[derive(Serialize)]
struct ShownLink {
    ends: Vec<String>,
    state: String,
    cost: u32,
    rtt_ms: Option<f64>,
    medium: String,
    /// Its ends send over it.
    in_use: bool,
    metered: bool,
    /// Only urgent records and control go over it.
    urgent_only: bool,
}

/// Asks the first node that answers for its map.
pub async fn show(reach: &Reach, output: &mut Output<'_>) -> Result<Outcome, Failure> {
    let mut node = reach.first().await?;
    let network = node.client.get_network(question(v1::GetNetworkRequest {})).await;
    let shown = Shown::from(network.map_err(Failure::refused(&node.name))?.into_inner());
    output.answer(&shown, print)?;
    Ok(Outcome::Good)
}

fn print(shown: &Shown, output: &mut Output<'_>) -> Result<(), Failure> {
    let Shown { area, version, seen_from, nodes, links } = shown;
    output.line(format_args!("{area}, version {version}, as {seen_from} sees it\n"))?;
    let head = ["node", "label", "role", "state", "next hop", "cost", "held", "last receipt", "news", "covered"];
    let nodes = nodes.iter().map(|node| {
        [
            node.id.clone(),
            node.label.clone(),
            node.role.clone(),
            if node.durable { node.service.clone() } else { format!("{}, NOT DURABLE", node.service) },
            or_dash(node.next_hop.as_deref().unwrap_or_default()),
            or_dash(&node.cost.map(|cost| cost.to_string()).unwrap_or_default()),
            node.held.to_string(),
            or_dash(node.last_receipt.as_deref().unwrap_or_default()),
            or_dash(&node.news_age_ms.map(age).unwrap_or_default()),
            or_dash(&node.coverage.map(percent).unwrap_or_default()),
        ]
    });
    output.table(head, nodes.collect(), "No nodes.")?;
    output.line("")?;
    let links = links.iter().map(|link| {
        let rtt = link.rtt_ms.map(|rtt| format!("{rtt:.1} ms")).unwrap_or_default();
        let medium = match (link.metered, link.urgent_only) {
            (false, _) => link.medium.clone(),
            (true, false) => format!("{}, metered", link.medium),
            (true, true) => format!("{}, metered: urgent only", link.medium),
        };
        let used = if link.in_use { "yes" } else { "" };
        [
            link.ends.join(" - "),
            or_dash(&medium),
            link.state.clone(),
            or_dash(used),
            link.cost.to_string(),
            or_dash(&rtt),
        ]
    });
    output.table(["link", "medium", "state", "used", "cost", "round trip"], links.collect(), "No links.")
}

impl From<v1::Network> for Shown {
    fn from(network: v1::Network) -> Self {
        Self {
            area: network.area,
            version: network.version,
            seen_from: network.seen_from,
            nodes: network.nodes.into_iter().map(ShownNode::from).collect(),
            links: network.links.into_iter().map(ShownLink::from).collect(),
        }
    }
}

/// A node's state with what it says about it: `draining (operator: moving the rack), back 2013-08-06T14:00:00.000Z`.
pub(super) fn service_words(state: &str, standing: &v1::Standing) -> String {
    let v1::Standing { power, minutes_left, reason, words, back_unix_ms, .. } = standing;
    let mut text = state.to_owned();
    match reason.as_str() {
        "" | "power" => {}
        reason if words.is_empty() => text += &format!(" ({reason})"),
        reason => text += &format!(" ({reason}: {words})"),
    }
    match (power.as_str(), minutes_left) {
        ("battery", Some(0)) => text += ", on battery, under 5 min left",
        ("battery", Some(minutes)) => text += &format!(", on battery, {minutes} min left"),
        ("battery", None) => text += ", on battery",
        ("low", _) => text += ", BATTERY LOW",
        _ => {}
    }
    if let Some(back) = back_unix_ms {
        text += &format!(", back {}", rfc3339(*back));
    }
    text
}

impl From<v1::Node> for ShownNode {
    fn from(node: v1::Node) -> Self {
        let standing = node.standing.unwrap_or_default();
        // What a node said before it went dark explains why it is; its power is old news then.
        let said = if matches!(node.state.as_str(), "offline" | "unknown") {
            v1::Standing { power: String::new(), minutes_left: None, ..standing.clone() }
        } else {
            standing.clone()
        };
        let service = service_words(&node.state, &said);
        Self {
            service,
            power: or_null(standing.power),
            minutes_left: standing.minutes_left,
            reason: or_null(standing.reason),
            words: or_null(standing.words),
            back: standing.back_unix_ms.map(rfc3339),
            id: node.id,
            code: node.code,
            label: node.label,
            role: node.role,
            state: node.state,
            next_hop: or_null(node.next_hop),
            cost: node.cost,
            held: node.held,
            last_receipt: node.last_receipt_unix_ms.map(rfc3339),
            news_age_ms: node.news_age_ms,
            durable: !node.not_durable,
            coverage: node.coverage,
            capture_room_bytes: node.capture_room_bytes,
            captured_bytes_per_hour: node.captured_bytes_per_hour,
        }
    }
}

impl From<v1::Link> for ShownLink {
    fn from(link: v1::Link) -> Self {
        let v1::Link { ends, state, cost, rtt_ms, medium, in_use, metered, urgent_only } = link;
        Self { ends, state, cost, rtt_ms, medium, in_use, metered, urgent_only }
    }
}
