//! What a neighbor has done that no honest one does, and how often that is told.
//!
//! What honest relays pass on they have verified. A neighbor whose topology differs may still send what was good by that one,
//! so it is not held against it; what it sends is refused all the same.

use std::collections::BTreeMap;
use std::time::Duration;

use estafet_model::{NodeId, Now};
use estafet_node::NodeEvent;
use estafet_node::custody::CustodyEvent;
use estafet_quic::Offense;
use estafet_wire::NeverReason;

use super::Driver;

/// So many complaints about one neighbor are told in so long: what somebody must see stands in the log then, and who goes
/// on does not fill the disk with it.
const TOLD_MAX: u32 = 20;
const TOLD_WITHIN: Duration = Duration::from_secs(60);

/// How often each neighbor was complained of lately.
#[derive(Debug, Default)]
pub(super) struct Complaints(BTreeMap<NodeId, (Now, u32)>);

impl Complaints {
    /// True if an event is to be told.
    pub(super) fn are_told(&mut self, now: Now, event: &NodeEvent) -> bool {
        let Some(about) = complained_of(event) else { return true };
        let (since, count) = self.0.entry(about.clone()).or_insert((now, 0));
        if now.since(*since) >= TOLD_WITHIN {
            (*since, *count) = (now, 0);
        }
        *count += 1;
        *count <= TOLD_MAX
    }
}

/// The neighbor that an event complains of.
fn complained_of(event: &NodeEvent) -> Option<&NodeId> {
    match event {
        NodeEvent::ForgedLsa { from, .. }
        | NodeEvent::MalformedLsa { from, .. }
        | NodeEvent::Custody(CustodyEvent::BadReceipt { from, .. } | CustodyEvent::Rejected { from, .. }) => Some(from),
        NodeEvent::Custody(CustodyEvent::Refused { by, .. }) => Some(by),
        _ => None,
    }
}

/// What a neighbor has done, if it is an offense.
fn offense(event: &NodeEvent) -> Option<(&NodeId, Offense, &'static str)> {
    match event {
        NodeEvent::ForgedLsa { from, .. } => Some((from, Offense::Doubtful, "LSAs that their origins did not sign")),
        NodeEvent::MalformedLsa { from, of_other_version: false } => Some((from, Offense::Plain, "malformed LSAs")),
        NodeEvent::Custody(CustodyEvent::BadReceipt { from, .. }) => {
            Some((from, Offense::Doubtful, "receipts that no main server signed"))
        }
        NodeEvent::Custody(CustodyEvent::Rejected { from, reason: NeverReason::WrongPayload, .. }) => {
            Some((from, Offense::Doubtful, "payloads of other records than their headers speak of"))
        }
        _ => None,
    }
}

impl Driver {
    /// Holds an event against the neighbor that caused it, if it is to be.
    pub(super) fn judge(&self, event: &NodeEvent) {
        if let NodeEvent::Custody(CustodyEvent::Wasted { from, bytes }) = event {
            if let Some(session) = self.sessions_with(from).next() {
                session.wasted(1, *bytes);
            }
            return;
        }
        let Some((from, offense, what)) = offense(event) else { return };
        let said = self.node.router().lsdb().get(from).map(|signed| signed.lsa().topology.in_force);
        if said.is_none_or(|version| version == self.node.topology().version) {
            // One is enough to note it; those over other bearers end as well if it is kept out.
            let mut sessions = self.sessions_with(from);
            if sessions.next().is_some_and(|session| session.offended(offense, what)) {
                sessions.for_each(|session| session.expel(what));
            }
        }
    }

    fn sessions_with<'a>(&'a self, neighbor: &'a NodeId) -> impl Iterator<Item = &'a estafet_quic::Session> {
        self.sessions.iter().filter(move |(bearer, _)| bearer.neighbor == *neighbor).map(|(_, session)| session)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rejected(from: &str, reason: NeverReason) -> NodeEvent {
        let (from, id) = (from.parse().unwrap(), "sail.1.1".parse().unwrap());
        NodeEvent::Custody(CustodyEvent::Rejected { from, id, reason })
    }

    #[test]
    fn complaints_about_one_neighbor_are_told_now_and_then_and_all_else_always() {
        let mut complaints = Complaints::default();
        let at = |seconds| Now(Duration::from_secs(seconds));
        let bad = rejected("sukajadi", NeverReason::ForgedHeader);
        let told = (0..1_000).filter(|_| complaints.are_told(at(1), &bad)).count();
        assert_eq!(told, TOLD_MAX as usize);
        assert!(complaints.are_told(at(1), &rejected("sail", NeverReason::ForgedHeader)), "another's are told");
        assert!(complaints.are_told(at(1), &NodeEvent::AdjacencyUp("sukajadi".parse().unwrap())));
        assert!(!complaints.are_told(at(60), &bad) && complaints.are_told(at(61), &bad));
    }

    #[test]
    fn what_an_honest_neighbor_may_send_is_no_offense() {
        let of_other_version =
            |of_other_version| NodeEvent::MalformedLsa { from: "sail".parse().unwrap(), of_other_version };
        let rows = [
            (of_other_version(true), None),
            (of_other_version(false), Some(Offense::Plain)),
            // Records of a node that was removed stay with honest relays, and are offered now and then.
            (rejected("sail", NeverReason::UnknownOrigin), None),
            (rejected("sail", NeverReason::ForgedHeader), None),
            (rejected("sail", NeverReason::Conflict), None),
            (rejected("sail", NeverReason::WrongPayload), Some(Offense::Doubtful)),
        ];
        for (event, expected) in rows {
            assert_eq!(offense(&event).map(|(_, offense, _)| offense), expected, "{event:?}");
        }
    }
}
