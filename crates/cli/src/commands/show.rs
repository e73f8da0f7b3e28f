//! `topology show`: the whole area as one node sees it, with the own word of those whom it cannot reach.

use estafet_admin::v1;
use estafet_model::LinkCost;
use estafet_routing::CostParts;
use serde::Serialize;

use super::survey::Survey;
use crate::cost;
use crate::failure::{Failure, Outcome};
use crate::moment::{Timestamp, age, span};
use crate::output::{Output, or_dash, or_null, percent};
use crate::reach::Reach;

/// A clock that differs by less is not told of: nobody misreads a time for it.
const CLOCK_SKEW_TOLD_MS: u64 = 10_000;

#[derive(Serialize)]
struct Shown {
    area: String,
    /// The version in force at the node that answered.
    version: u64,
    /// The newest that any node is known to have.
    newest_version: u64,
    seen_from: String,
    /// The newest line of that node's audit log; null while it cannot write one. To be noted, for `topology verify audit-log`.
    audit_log_head: Option<AuditLogHead>,
    /// True: only that node was asked, and whom it cannot reach it calls offline.
    one_view: bool,
    nodes: Vec<ShownNode>,
    links: Vec<ShownLink>,
}

#[derive(Serialize)]
struct AuditLogHead {
    sequence: u64,
    hash: String,
}

#[derive(Serialize)]
struct ShownNode {
    id: String,
    code: String,
    label: String,
    role: String,
    state: String,
    /// The node that answered cannot reach it; it was asked itself, and this is its own word.
    cut_off_from: Option<String>,
    next_hop: Option<String>,
    cost: Option<u32>,
    /// Why that is more than the links on the way cost: `gray`, `draining`, `on battery`.
    cost_raised_by: Vec<String>,
    /// How people read it.
    #[serde(skip)]
    cost_words: String,
    held: u64,
    last_receipt: Option<Timestamp>,
    news_age_ms: Option<u64>,
    /// `mains`, `battery` or `low`; null if it was never heard.
    power: Option<String>,
    minutes_left: Option<u32>,
    /// Why it is not plainly serving: `operator`, `planned-outage` or `power`.
    reason: Option<String>,
    /// The same in a person's words.
    words: Option<String>,
    /// When it is due back, by its own clock.
    back: Option<Timestamp>,
    /// How people read its service.
    #[serde(skip)]
    service: String,
    /// The version of the topology in force there; null if it was never heard.
    topology_version: Option<u64>,
    /// The newest version that it has: one beyond that in force waits for its next start.
    topology_version_kept: Option<u64>,
    /// A newer version than that in force there is known.
    lags: bool,
    /// False: its disk does not keep what is synced, and it gives no promises.
    durable: bool,
    /// The share of destinations for which an alternate outlives its next hop.
    coverage: Option<f64>,
    /// How much its own captures may still bring; null if it has not said.
    /// How far its clock is ahead of that of the node that answers; of its neighbors only.
    clock_skew_ms: Option<i64>,
    capture_room_bytes: Option<u64>,
    /// How much of its disk its own captures took per hour in the last day; null if it has not said.
    captured_bytes_per_hour: Option<u64>,
    /// Of a main server: how far its chain of commits has come, as the node that answers has heard it.
    chain_head: Option<ChainHead>,
}

#[derive(Serialize)]
struct ShownLink {
    ends: Vec<String>,
    state: String,
    cost: u32,
    /// Why that is more than the topology says: `gray`.
    cost_raised_by: Vec<String>,
    #[serde(skip)]
    cost_words: String,
    rtt_ms: Option<f64>,
    medium: String,
    /// Its ends send over it.
    in_use: bool,
    metered: bool,
    /// Only urgent records and control go over it.
    urgent_only: bool,
    /// Why it is, or is soon, dark by the calendar.
    planned_outage: Option<String>,
    /// When that is over.
    back: Option<Timestamp>,
}

#[derive(Serialize)]
struct ChainHead {
    chain: String,
    hub_sequence: u64,
    link: String,
}

impl From<v1::ChainHead> for ChainHead {
    fn from(v1::ChainHead { chain, hub_sequence, link }: v1::ChainHead) -> Self {
        Self { chain, hub_sequence, link }
    }
}

/// Asks the first node that answers for its map, and those whom it cannot reach for their own word.
pub async fn show(reach: &Reach, output: &mut Output<'_>) -> Result<Outcome, Failure> {
    let shown = Shown::from(Survey::take(reach).await?);
    output.answer(&shown, print)?;
    Ok(Outcome::Good)
}

fn print(shown: &Shown, output: &mut Output<'_>) -> Result<(), Failure> {
    let Shown { area, version, seen_from, nodes, links, .. } = shown;
    let alone = if shown.one_view { " (nobody else was asked: offline is whom it cannot reach)" } else { "" };
    output.line(format_args!("{area}, version {version}, as {seen_from} sees it{alone}\n"))?;
    let head = ["node", "label", "role", "state", "next hop", "cost", "held", "last receipt", "news", "covered"];
    let nodes = nodes.iter().map(|node| {
        [
            node.id.clone(),
            node.label.clone(),
            node.role.clone(),
            if node.durable { node.service.clone() } else { format!("{}, NOT DURABLE", node.service) },
            or_dash(node.next_hop.as_deref().unwrap_or_default()),
            or_dash(&node.cost_words),
            node.held.to_string(),
            or_dash(&node.last_receipt.map(|at| at.to_string()).unwrap_or_default()),
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
            link.state_words(),
            or_dash(used),
            link.cost_words.clone(),
            or_dash(&rtt),
        ]
    });
    output.table(["link", "medium", "state", "used", "cost", "round trip"], links.collect(), "No links.")?;
    if let Some(unknown) = shown.links.iter().find(|link| link.state == "unknown") {
        output.line(format_args!(
            "\nunknown: which of several links between two nodes is up is known to these two; topology show --node {}",
            unknown.ends[0]
        ))?;
    }
    print_lagging(shown, output)
}

fn print_lagging(shown: &Shown, output: &mut Output<'_>) -> Result<(), Failure> {
    let lagging = shown.nodes.iter().filter(|node| node.lags).map(|node| node.id.as_str()).collect::<Vec<_>>();
    if lagging.is_empty() {
        return Ok(());
    }
    output.line(format_args!("\nversion {} is not in force at {}", shown.newest_version, lagging.join(", ")))?;
    let waits =
        |node: &&ShownNode| node.lags && node.topology_version_kept.is_some_and(|kept| kept >= shown.newest_version);
    let waiting = shown.nodes.iter().filter(waits).map(|node| node.id.as_str()).collect::<Vec<_>>();
    if !waiting.is_empty() {
        output.line(format_args!("these have it, and take all of it at their next start: {}", waiting.join(", ")))?;
    }
    // What spreads from one node stops where the city is parted.
    let apart = shown.nodes.iter().find(|node| node.lags && node.cut_off_from.is_some());
    let Some(apart) = apart else { return Ok(()) };
    output.line(format_args!("bring it to those who are cut off: topology push --node {}", apart.id))
}

impl From<Survey> for Shown {
    fn from(Survey { network, cut_off, is_one_view }: Survey) -> Self {
        let versions = network.nodes.iter().filter_map(|node| node.topology_version_kept.max(node.topology_version));
        let newest = versions.chain([network.version]).max().unwrap_or_default();
        let node = |node: v1::Node| {
            let cut_off_from = cut_off.contains(&node.id).then(|| network.seen_from.clone());
            ShownNode::new(node, cut_off_from, newest)
        };
        Self {
            area: network.area,
            version: network.version,
            newest_version: newest,
            one_view: is_one_view,
            audit_log_head: network
                .audit_log_head
                .map(|v1::AuditLogHead { sequence, hash }| AuditLogHead { sequence, hash }),
            nodes: network.nodes.into_iter().map(node).collect(),
            links: network.links.into_iter().map(ShownLink::from).collect(),
            seen_from: network.seen_from,
        }
    }
}

/// What people are to know of a node's topology: nothing if it is the newest that is known.
fn version_words(node: &v1::Node, newest: u64) -> Option<String> {
    let in_force = node.topology_version.filter(|in_force| *in_force < newest)?;
    Some(match node.topology_version_kept {
        Some(kept) if kept >= newest => format!("topology v{in_force}, v{kept} waits for its next start"),
        _ => format!("topology v{in_force}, newest is v{newest}"),
    })
}

/// A node's state with what it says about it: `draining (operator: moving the rack), back 2013-08-06T14:00:00.000Z`.
pub(super) fn service_words(state: &str, standing: &v1::Standing) -> String {
    let v1::Standing { power, minutes_left, reason, words, back_unix_ms, .. } = standing;
    let mut text = state.to_owned();
    match reason.as_str() {
        "power" if is_dark(state) && power == "low" => text += " (its battery was nearly empty)",
        "power" if is_dark(state) && power == "battery" => text += " (it was on battery)",
        "" | "power" => {}
        reason if words.is_empty() => text += &format!(" ({reason})"),
        reason => text += &format!(" ({reason}: {words})"),
    }
    // What it ran on is old news once it is dark.
    match (power.as_str(), minutes_left) {
        _ if is_dark(state) => {}
        ("battery", Some(0)) => text += ", on battery, under 5 min left",
        ("battery", Some(minutes)) => text += &format!(", on battery, {minutes} min left"),
        ("battery", None) => text += ", on battery",
        ("low", _) => text += ", BATTERY LOW",
        _ => {}
    }
    if let Some(back) = back_unix_ms {
        text += &format!(", back {}", Timestamp::of_millis(*back));
    }
    text
}

/// What people are to know of a node's clock: nothing if times that it tells are read rightly.
fn clock_words(skew_ms: i64) -> Option<String> {
    let differs = span(skew_ms.unsigned_abs());
    let direction = if skew_ms > 0 { "ahead" } else { "behind" };
    (skew_ms.unsigned_abs() >= CLOCK_SKEW_TOLD_MS).then(|| format!("its clock {differs} {direction}"))
}

fn is_dark(state: &str) -> bool {
    matches!(state, "offline" | "unknown")
}

impl ShownNode {
    /// What is shown of a node, with the node that cannot reach it though it answers, and the newest version that is known.
    fn new(node: v1::Node, cut_off_from: Option<String>, newest: u64) -> Self {
        let version_words = version_words(&node, newest);
        let standing = node.standing.unwrap_or_default();
        let mut service = service_words(&node.state, &standing);
        let cut_off = cut_off_from.as_ref().map(|from| format!("cut off from {from}"));
        let clock_words = node.clock_skew_ms.and_then(clock_words);
        for words in [&cut_off, &version_words, &clock_words].into_iter().flatten() {
            service += &format!(", {words}");
        }
        let parts = node.cost.map(|cost| cost::parts(cost, node.cost_parts));
        Self {
            service,
            cut_off_from,
            cost_raised_by: parts.as_ref().map(cost::raised_by).unwrap_or_default(),
            cost_words: parts.as_ref().map(cost::words).unwrap_or_default(),
            lags: version_words.is_some(),
            topology_version: node.topology_version,
            topology_version_kept: node.topology_version_kept,
            power: or_null(standing.power),
            minutes_left: standing.minutes_left,
            reason: or_null(standing.reason),
            words: or_null(standing.words),
            back: standing.back_unix_ms.map(Timestamp::of_millis),
            id: node.id,
            code: node.code,
            label: node.label,
            role: node.role,
            state: node.state,
            next_hop: or_null(node.next_hop),
            cost: node.cost,
            held: node.held,
            last_receipt: node.last_receipt_unix_ms.map(Timestamp::of_millis),
            news_age_ms: node.news_age_ms,
            durable: !node.not_durable,
            coverage: node.coverage,
            clock_skew_ms: node.clock_skew_ms,
            capture_room_bytes: node.capture_room_bytes,
            captured_bytes_per_hour: node.captured_bytes_per_hour,
            chain_head: node.chain_head.map(ChainHead::from),
        }
    }
}

impl From<v1::Link> for ShownLink {
    fn from(link: v1::Link) -> Self {
        let v1::Link { ends, state, cost, rtt_ms, medium, in_use, metered, urgent_only, planned_outage } = link;
        let back = planned_outage.as_ref().map(|outage| Timestamp::of_millis(outage.back_unix_ms));
        let planned_outage = planned_outage.map(|outage| outage.reason);
        let parts = CostParts::of_link(LinkCost(cost));
        let (cost_raised_by, cost_words) = (cost::raised_by(&parts), cost::words(&parts));
        Self {
            ends,
            state,
            cost,
            cost_raised_by,
            cost_words,
            rtt_ms,
            medium,
            in_use,
            metered,
            urgent_only,
            planned_outage,
            back,
        }
    }
}

impl ShownLink {
    /// As a node's: `gray (planned-outage: digging), back 2013-08-06T14:00:00.000Z`.
    fn state_words(&self) -> String {
        let (Some(reason), Some(back)) = (&self.planned_outage, &self.back) else { return self.state.clone() };
        format!("{} (planned-outage: {reason}), back {back}", self.state)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_that_is_far_off_is_told() {
        let rows =
            [(9_999, None), (-59_000, Some("its clock 59 s behind")), (93_600_000, Some("its clock 26 h ahead"))];
        for (skew_ms, expected) in rows {
            assert_eq!(clock_words(skew_ms).as_deref(), expected);
        }
    }

    #[test]
    fn what_a_node_said_before_it_went_dark_is_told_as_the_reason() {
        let standing = |power: &str, reason: &str, words: &str| v1::Standing {
            power: power.to_owned(),
            reason: reason.to_owned(),
            words: words.to_owned(),
            minutes_left: Some(10),
            ..v1::Standing::default()
        };
        for (state, standing, expected) in [
            ("serving", standing("mains", "", ""), "serving"),
            ("serving", standing("battery", "power", ""), "serving, on battery, 10 min left"),
            ("draining", standing("low", "power", ""), "draining, BATTERY LOW"),
            ("offline", standing("mains", "", ""), "offline"),
            ("offline", standing("battery", "power", ""), "offline (it was on battery)"),
            ("offline", standing("low", "power", ""), "offline (its battery was nearly empty)"),
            ("offline", standing("mains", "planned-outage", "PLN"), "offline (planned-outage: PLN)"),
            ("offline", standing("battery", "operator", "new roof"), "offline (operator: new roof)"),
        ] {
            assert_eq!(service_words(state, &standing), expected);
        }
    }
}
