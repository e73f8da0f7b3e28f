//! How often this node had to go around a neighbor since it was started, for `/metrics`.

use estafet_model::NodeId;
use estafet_node::custody::CustodyEvent;
use estafet_node::routing::DownReason;
use estafet_node::{Node, NodeEvent};
use estafet_topology::Link;

/// What is counted from start to stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Failovers {
    /// A neighbor owed an answer suspiciously long.
    pub(crate) suspicions: u64,
    /// An adjacency went down though nobody had said goodbye or taken the link out of the topology.
    pub(crate) deaths: u64,
    /// A neighbor was spoken to over another bearer from then on.
    pub(crate) bearer_changes: u64,
    /// Sessions that ended without a goodbye.
    pub(crate) sessions_lost: u64,
    /// Records that went another way, or by another bearer, as well because of a suspicion.
    pub(crate) records_diverted: u64,
}

impl Failovers {
    pub(crate) fn count(&mut self, event: &NodeEvent) {
        match event {
            NodeEvent::Suspected(_) => self.suspicions += 1,
            NodeEvent::BearerChanged { .. } => self.bearer_changes += 1,
            NodeEvent::AdjacencyDown { reason: DownReason::Silence | DownReason::SessionLost, .. } => self.deaths += 1,
            NodeEvent::Custody(CustodyEvent::Diverted { records, .. } | CustodyEvent::SaidAgain { records, .. }) => {
                self.records_diverted += *records as u64;
            }
            _ => {}
        }
    }
}

/// How many of the node's own links are gray now.
pub(crate) fn gray_links(node: &Node) -> u64 {
    let links = node.topology().neighbors(node.id());
    let is_gray = |(neighbor, link): &(&NodeId, &Link)| {
        node.router().bearers(neighbor).any(|(medium, state)| medium == link.medium && state.gray.is_some())
    };
    links.filter(is_gray).count() as u64
}

#[cfg(test)]
mod tests {
    use estafet_model::{Bearer, Medium};

    use super::*;

    #[test]
    fn deaths_are_counted_and_goodbyes_are_not() {
        let neighbor: NodeId = "sukajadi".parse().unwrap();
        let bearer = Bearer::new(neighbor.clone(), Medium::Fiber);
        let down = |reason| NodeEvent::AdjacencyDown { neighbor: neighbor.clone(), reason };
        let diverted = |records| NodeEvent::Custody(CustodyEvent::Diverted { around: neighbor.clone(), records });
        let mut failovers = Failovers::default();
        for event in [
            NodeEvent::AdjacencyUp(neighbor.clone()),
            NodeEvent::Suspected(bearer.clone()),
            diverted(40),
            NodeEvent::Cleared(bearer.clone()),
            NodeEvent::Suspected(bearer.clone()),
            diverted(2),
            down(DownReason::Silence),
            down(DownReason::SessionLost),
            down(DownReason::Goodbye),
            down(DownReason::Removed),
        ] {
            failovers.count(&event);
        }
        assert_eq!(failovers, Failovers { suspicions: 2, deaths: 2, records_diverted: 42, ..Failovers::default() });
    }
}
