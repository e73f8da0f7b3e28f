//! This node's view of the area and of its records, put into the admin API's words. No decisions, no IO.

use std::collections::BTreeMap;
use std::time::Duration;

use estafet_admin::v1::{self, AuditReport, Link, OriginAudit, Path, Record};
use estafet_model::{ChainHead, Class, LinkCost, NodeId, RecordId, UnixMillis};
use estafet_node::custody::{RecordState, RecordView, Suspect, WaitReason};
use estafet_node::routing::{
    BearerState, CostParts, Coverage, Graph, Lsa, NeighborState, NextHop, PowerState, Protects, SHUNNED_COST,
    ShortestPaths, SignedLsa, Standing, coverage, coverages, routes_to_nearest,
};
use estafet_node::{Node, Records, Whereabouts};
use estafet_topology as topology;
use tonic::Status;

use crate::driver::View;

/// The coverage of all nodes takes a run of SPF for each, on the thread that also routes: at this size some milliseconds.
const COVERAGE_NODES_MAX: usize = 128;

/// Ids of missing records in an answer; the count is always whole.
const MISSING_IDS_MAX: usize = 1_000;

pub(crate) fn nodes(view: &View<'_>) -> Vec<v1::Node> {
    let node = view.node;
    let hubs = node.router().serving_hubs();
    let to_hub = ShortestPaths::toward(node.router().graph(), &hubs);
    let coverage = coverage_of_all(node.router().graph());
    node.topology()
        .nodes
        .values()
        .map(|listed| {
            let id = &listed.id;
            let lsa = node.router().lsdb().get(id).map(SignedLsa::lsa);
            let own = id == node.id();
            let state = match lsa {
                None => "unknown",
                Some(_) if !own && !node.router().reachable(id) => "offline",
                Some(lsa) if lsa.standing.is_draining() => "draining",
                Some(_) => "serving",
            };
            let held = if own {
                node.custody().held_count()
            } else {
                lsa.and_then(|lsa| lsa.ledger.as_ref()).map_or(0, |ledger| ledger.held.count() + ledger.transit_held)
            };
            let outlook = lsa.and_then(|lsa| lsa.outlook);
            let path = to_hub.path(id).filter(|_| state != "offline").unwrap_or_default();
            v1::Node {
                id: id.to_string(),
                code: listed.code.to_string(),
                label: listed.label.clone(),
                role: listed.role.to_string(),
                state: state.to_owned(),
                next_hop: next_hop_on(&path, id).map(ToString::to_string).unwrap_or_default(),
                held,
                last_receipt_unix_ms: view.last_receipts.get(id).map(|at| at.0),
                news_age_ms: news_age(view, id),
                cost: to_hub.cost(id).filter(|_| state != "offline").map(|cost| cost.0),
                cost_parts: (!path.is_empty()).then(|| cost_parts(node.router().graph(), &path)),
                not_durable: lsa.is_some_and(|lsa| !lsa.durable),
                coverage: coverage.get(id).filter(|_| state != "offline").and_then(|coverage| coverage.share()),
                standing: lsa.map(|lsa| standing(&lsa.standing)),
                clock_skew_ms: view.clocks.skew_ms(id),
                capture_room_bytes: outlook.map(|outlook| outlook.capture_room.0),
                topology_version: lsa.map(|lsa| lsa.topology.in_force),
                topology_version_kept: lsa.map(|lsa| lsa.topology.kept),
                captured_bytes_per_hour: outlook.map(|outlook| outlook.captured_per_hour.0),
                chain_head: lsa.and_then(Lsa::head).map(|signed| chain_head(&signed.head)),
            }
        })
        .collect()
}

pub(crate) fn chain_head(head: &ChainHead) -> v1::ChainHead {
    v1::ChainHead { chain: head.chain.to_string(), hub_sequence: head.sequence, link: head.link.to_string() }
}

/// Empty in a large area: see [`COVERAGE_NODES_MAX`].
fn coverage_of_all(graph: &Graph) -> BTreeMap<NodeId, Coverage> {
    let small = graph.nodes().nth(COVERAGE_NODES_MAX).is_none();
    if small { coverages(graph).into_iter().collect() } else { BTreeMap::new() }
}

pub(crate) fn standing(standing: &Standing) -> v1::Standing {
    let notice = standing.notice.as_ref();
    v1::Standing {
        state: state_word(standing).to_owned(),
        power: standing.power.as_str().to_owned(),
        minutes_left: match standing.power {
            PowerState::OnBattery { minutes_left } => minutes_left.map(u32::from),
            PowerState::Mains | PowerState::LowBattery => None,
        },
        reason: notice.map(|notice| notice.reason.as_str().to_owned()).unwrap_or_default(),
        words: notice.map(|notice| notice.words.to_string()).unwrap_or_default(),
        back_unix_ms: notice.and_then(|notice| notice.back_unix_s).map(|back| back.saturating_mul(1000)),
    }
}

pub(crate) fn state_word(standing: &Standing) -> &'static str {
    if standing.is_draining() { "draining" } else { "serving" }
}

/// The node after `id` on a path that begins or ends with it.
fn next_hop_on<'a>(path: &'a [NodeId], id: &NodeId) -> Option<&'a NodeId> {
    match path {
        [first, second, ..] if first == id => Some(second),
        [.., second, last] if last == id => Some(second),
        _ => None,
    }
}

fn news_age(view: &View<'_>, id: &NodeId) -> Option<u64> {
    if id == view.node.id() {
        return Some(0);
    }
    view.last_news.get(id).map(|at| millis(view.now.since(*at)))
}

fn millis(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}

pub(crate) fn links(node: &Node, wall: UnixMillis) -> Vec<Link> {
    let shown = |link| Link { planned_outage: planned_outage(node, link, wall), ..shown_link(node, link) };
    node.topology().links.iter().map(shown).collect()
}

fn shown_link(node: &Node, link: &topology::Link) -> Link {
    let [one, other] = &link.ends;
    let lsdb = node.router().lsdb();
    let adjacency = |from: &NodeId, to: &NodeId| lsdb.get(from)?.lsa().adjacency(to).cloned();
    let (there, back) = (adjacency(one, other), adjacency(other, one));
    // What nodes say of themselves is old news once no way leads to them.
    let near = |id: &NodeId| id == node.id() || node.router().reachable(id);
    let heard_of_both = lsdb.get(one).is_some() && lsdb.get(other).is_some();
    let costs = [&there, &back].map(|adjacency| adjacency.as_ref().map(|adjacency| adjacency.cost));
    let between = link_state([near(one), near(other)], heard_of_both, costs);
    let (state, in_use) = bearer_state(node, link, between, costs);
    let said = || [&there, &back].into_iter().flatten();
    let rtt = said().map(|adjacency| adjacency.rtt_micros).filter(|rtt| *rtt > 0).min();
    Link {
        ends: vec![one.to_string(), other.to_string()],
        state: state.to_owned(),
        // The dearer end's: one that finds the link bad is enough for all to go around it.
        cost: costs.into_iter().flatten().max().filter(|_| in_use).unwrap_or(link.cost).0,
        rtt_ms: rtt.filter(|_| in_use).map(|micros| f64::from(micros) / 1000.0),
        medium: link.medium.to_string(),
        in_use,
        metered: link.metered,
        urgent_only: link.is_urgent_only(),
        planned_outage: None,
    }
}

fn planned_outage(node: &Node, link: &topology::Link, wall: UnixMillis) -> Option<v1::PlannedOutage> {
    let outages: Vec<topology::Outage> = node.topology().outages_of_link(link).cloned().collect();
    let now = i64::try_from(wall.0 / 1000).unwrap_or(i64::MAX);
    let (darkness, outage) = topology::imminent_outage(&outages, now, topology::OUTAGE_LEAD)?;
    let back_unix_ms = u64::try_from(darkness.end).unwrap_or(0).saturating_mul(1000);
    Some(v1::PlannedOutage { reason: outage.reason.clone(), back_unix_ms })
}

/// What a link is, and whether it is in use, if all that leads from one end to the other is `between`. A node knows this
/// of its own links; of others it sees by the cost that is told which of them is used.
fn bearer_state(
    node: &Node,
    link: &topology::Link,
    between: &'static str,
    costs: [Option<LinkCost>; 2],
) -> (&'static str, bool) {
    let [one, other] = &link.ends;
    let is_up = matches!(between, "up" | "gray");
    if node.topology().bearers(one, other).nth(1).is_none() {
        return (between, is_up);
    }
    if let Some(neighbor) = link.other_end(node.id()) {
        let own = node.router().bearers(neighbor).find(|(medium, _)| *medium == link.medium);
        return own.map_or(("unknown", false), |(_, state)| (own_state(state), state.in_use));
    }
    let told = |cost: &LinkCost| *cost == link.cost || *cost == link.cost + SHUNNED_COST;
    match costs.iter().flatten().any(told) {
        true if is_up => (between, true),
        _ if is_up => ("unknown", false),
        _ => (between, false),
    }
}

fn own_state(state: BearerState) -> &'static str {
    match state.liveness {
        NeighborState::Up { .. } if state.doubtful => "suspect",
        NeighborState::Up { .. } if state.shunned => "gray",
        NeighborState::Up { .. } => "up",
        NeighborState::Silent { .. } | NeighborState::Down => "down",
    }
}

/// What a link is, by whether this node has news of its ends (`near`) and what each of them says that it costs.
fn link_state(near: [bool; 2], heard_of_both: bool, costs: [Option<LinkCost>; 2]) -> &'static str {
    match (near, costs) {
        ([false, false], _) => "unknown",
        ([true, true], [Some(there), Some(back)]) if there.max(back) >= SHUNNED_COST => "gray",
        ([true, true], [Some(_), Some(_)]) => "up",
        _ if heard_of_both => "down",
        _ => "unknown",
    }
}

pub(crate) fn path(node: &Node, from: &str, to: &str) -> Result<Path, Status> {
    let known = |text: &str| -> Result<NodeId, Status> {
        let id = text.parse::<NodeId>().ok().filter(|id| node.topology().node(id).is_some());
        id.ok_or_else(|| {
            let names = || node.topology().nodes.keys().map(NodeId::as_str);
            let rest = format!("use one of {}", names().collect::<Vec<_>>().join(", "));
            let remedy = topology::did_you_mean(text, names(), rest);
            Status::not_found(format!("the topology lists no node `{text}`: {remedy}"))
        })
    };
    let from = if from.is_empty() { node.id().clone() } else { known(from)? };
    let to = if to.is_empty() { None } else { Some(known(to)?) };
    if from != *node.id() && !node.router().reachable(&from) {
        // The map beyond is old news: better none than a wrong one.
        let to = to.map(|to| to.to_string()).unwrap_or_default();
        return Ok(Path { from: from.to_string(), to, ..Path::default() });
    }
    let hubs = node.router().serving_hubs();
    let coverage = coverage(node.router().graph(), &from).share();
    let is_there = match &to {
        Some(to) => *to == from,
        None => node.topology().hub_ids().any(|hub| *hub == from),
    };
    if is_there {
        let itself = v1::Hop { node: from.to_string(), ..v1::Hop::default() };
        let (from, to) = (from.to_string(), from.to_string());
        return Ok(Path { from, to, found: true, hops: vec![itself], coverage, ..Path::default() });
    }
    let route = match &to {
        Some(to) => node.router().route_from(&from, to),
        None => routes_to_nearest(node.router().graph(), &from, &hubs),
    };
    let Some(route) = route else {
        let to = to.map(|to| to.to_string()).unwrap_or_default();
        return Ok(Path { from: from.to_string(), to, coverage, ..Path::default() });
    };
    let from_start = ShortestPaths::from(node.router().graph(), &from);
    let before = std::iter::once(None).chain(route.path.iter().map(Some));
    let graph = node.router().graph();
    let hops = before.zip(&route.path).map(|(before, hop)| v1::Hop {
        node: hop.to_string(),
        cost: from_start.cost(hop).map_or(0, |cost| cost.0),
        medium: before.and_then(|before| medium_in_use(node, before, hop)).unwrap_or_default(),
        step: before.map(|before| cost_parts(graph, &[before.clone(), hop.clone()])),
    });
    let alternates = route.alternates.iter().map(|alternate| v1::Alternate {
        next_hop: alternate.next_hop.to_string(),
        cost: alternate.cost.0,
        cost_parts: Some(cost_parts(graph, &alternate.path)),
        protects: match alternate.protects {
            Protects::Node => "node".to_owned(),
            Protects::Link => "link".to_owned(),
        },
    });
    Ok(Path {
        from: from.to_string(),
        to: route.destination.to_string(),
        found: true,
        cost: route.cost.0,
        cost_parts: Some(cost_parts(graph, &route.path)),
        hops: hops.collect(),
        alternates: alternates.collect(),
        coverage,
    })
}

fn cost_parts(graph: &Graph, path: &[NodeId]) -> v1::CostParts {
    let CostParts { plain, gray_links, draining_nodes, nodes_on_battery } = CostParts::of_path(graph, path);
    v1::CostParts { plain: plain.0, gray_links, draining_nodes, nodes_on_battery }
}

/// Over which bearer a node sends to its neighbor.
fn medium_in_use(node: &Node, from: &NodeId, to: &NodeId) -> Option<String> {
    let mut bearers = node.topology().bearers(from, to).map(|link| shown_link(node, link));
    bearers.find(|link| link.in_use).map(|link| link.medium)
}

pub(crate) fn slip_text(node: &Node, id: &RecordId) -> String {
    node.slip(id).map(|slip| slip.to_string()).unwrap_or_default()
}

pub(crate) fn record_status(view: &View<'_>, id: &RecordId) -> (Record, String) {
    let hub = view.node.custody().receipt_hub(id).map(ToString::to_string).unwrap_or_default();
    let record = match view.node.whereabouts(id) {
        Whereabouts::Held(held) => held_record(view, &held),
        Whereabouts::Lost(lost) => held_record(view, &lost),
        Whereabouts::Receipted { .. } => bare_record(view.node, id, "receipted"),
        Whereabouts::Unknown => bare_record(view.node, id, "unknown"),
    };
    (record, hub)
}

fn bare_record(node: &Node, id: &RecordId, state: &str) -> Record {
    Record {
        record_id: id.to_string(),
        slip: slip_text(node, id),
        origin: id.origin.to_string(),
        node: node.id().to_string(),
        state: state.to_owned(),
        ..Record::default()
    }
}

/// What the node keeps in memory of a record; [`Store::describe`](crate::store::Store::describe) adds what is on disk.
pub(crate) fn held_record(view: &View<'_>, held: &RecordView) -> Record {
    let (state, handed_to, reason) = match &held.state {
        RecordState::Waiting { why, .. } => {
            let state = if why.is_quarantine() { "quarantined" } else { "waiting" };
            (state, String::new(), wait_reason(view, held.class, why))
        }
        RecordState::Offered { to } => ("offered", to.to_string(), "taken back if it does not answer".to_owned()),
        RecordState::Accepted { by } => ("accepted", by.to_string(), "offered again if no receipt comes".to_owned()),
    };
    Record {
        class: held.class.to_string(),
        bytes: held.payload_bytes.into(),
        received_from: held.received_from.as_ref().map(ToString::to_string).unwrap_or_default(),
        handed_to,
        state_age_ms: Some(millis(view.now.since(held.since))),
        reason,
        next_attempt_ms: held.next_attempt.map(|at| millis(at.since(view.now))),
        ..bare_record(view.node, &held.id, state)
    }
}

fn wait_reason(view: &View<'_>, class: Class, why: &WaitReason) -> String {
    let router = view.node.router();
    let hops = router.next_hops();
    let carries = |hop: &NextHop| router.choice(&hop.neighbor).is_some_and(|choice| choice.of_class(class).is_some());
    match why {
        WaitReason::Turn if hops.is_empty() => "no way to a hub now".to_owned(),
        WaitReason::NeighborLost(neighbor) if hops.is_empty() => {
            format!("{neighbor} had it and is gone, and no way leads to a hub now")
        }
        WaitReason::Turn | WaitReason::Suspected(_) | WaitReason::NeighborLost(_)
            if !hops.is_empty() && !hops.iter().any(carries) =>
        {
            "only metered links lead to a hub now, and they carry urgent records only".to_owned()
        }
        WaitReason::Turn => "waits for its turn".to_owned(),
        WaitReason::NeighborLost(neighbor) => format!("{neighbor} had it and is gone"),
        WaitReason::Suspected(neighbor) => format!("{neighbor} is suspiciously silent"),
        WaitReason::AskedToWait(neighbor) => format!("{neighbor} asked for time"),
        WaitReason::Full(neighbor) => format!("{neighbor} has no room"),
        WaitReason::Unanswered(neighbor) => format!("{neighbor} has not answered"),
        WaitReason::Unreceipted(neighbor) => format!("{neighbor} accepted it long ago and no receipt has come"),
        WaitReason::Refused(neighbor, reason) if neighbor == view.node.id() => {
            format!("its number was given before, by a life of this disk that was lost: {}", reason.as_str())
        }
        WaitReason::Refused(neighbor, reason) => format!("{neighbor} refuses it: {}", reason.as_str()),
        WaitReason::Returned(neighbor) => format!("{neighbor} handed it back"),
        WaitReason::Asked(neighbor) => format!("{neighbor} is asked whether it has it already"),
        WaitReason::Unconfirmed(neighbor) => format!("{neighbor} does not say that it has it"),
        WaitReason::Signed(hub) => format!("{hub} has it; it stays until another main server has it too"),
        WaitReason::Unreadable => "this node's disk cannot read it; it is sought from the neighbors".to_owned(),
    }
}

fn named(records: &Records) -> Vec<String> {
    records.iter().take(MISSING_IDS_MAX).map(|id| id.to_string()).collect()
}

pub(crate) fn audit(view: &View<'_>) -> AuditReport {
    let report = view.node.audit();
    let origins: Vec<OriginAudit> = report
        .origins
        .iter()
        .map(|origin| OriginAudit {
            node: origin.node.to_string(),
            captured: origin.captured,
            receipted: origin.receipted,
            held: origin.held,
            missing: named(&origin.missing),
            missing_count: origin.missing.count(),
            news_age_ms: news_age(view, &origin.node),
            reachable: origin.node == *view.node.id() || view.node.router().reachable(&origin.node),
            held_by: origin
                .held_by
                .iter()
                .map(|(node, records)| v1::Holder { node: node.to_string(), records: *records })
                .collect(),
            missing_since_unix_ms: view.missing_since.get(&origin.node).map(|at| at.0),
            epochs: origin.epochs.iter().map(|epoch| epoch.get().into()).collect(),
            conflicts: named(&origin.conflicts),
            removed: origin.removed,
        })
        .collect();
    let sum = |part: fn(&OriginAudit) -> u64| origins.iter().map(part).sum();
    AuditReport {
        area: view.node.topology().area.clone(),
        seen_from: view.node.id().to_string(),
        captured: sum(|origin| origin.captured),
        receipted: sum(|origin| origin.receipted),
        held: sum(|origin| origin.held),
        missing: sum(|origin| origin.missing_count),
        committed_twice: report.committed_twice,
        suspects: view.node.custody().suspects().iter().map(|suspect| suspect_of(view, suspect)).collect(),
        origins,
    }
}

fn suspect_of(view: &View<'_>, suspect: &Suspect) -> v1::Suspect {
    v1::Suspect {
        node: suspect.neighbor.to_string(),
        records: suspect.records,
        last_age_ms: millis(view.now.since(suspect.last)),
        shunned_for_ms: suspect.shunned_until.map(|until| millis(until.since(view.now))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_is_gray_when_either_end_shuns_it_and_as_long_as_both_say_it_is_up() {
        let (good, bad) = (Some(LinkCost(10)), Some(LinkCost(10) + SHUNNED_COST));
        let (here, gone, first) = ([true, true], [false, false], [true, false]);
        for (near, heard_of_both, costs, state) in [
            (here, true, [good, good], "up"),
            (here, true, [good, bad], "gray"),
            (here, true, [bad, good], "gray"),
            (here, true, [bad, bad], "gray"),
            (here, true, [bad, None], "down"),
            (here, true, [None, None], "down"),
            (first, true, [good, bad], "down"),
            (first, false, [good, None], "unknown"),
            (gone, true, [bad, bad], "unknown"),
        ] {
            assert_eq!(link_state(near, heard_of_both, costs), state, "{near:?} {heard_of_both} {costs:?}");
        }
    }
}
