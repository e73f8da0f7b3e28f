//! What the driver writes into the log: WARN if nothing is lost, ERROR if somebody must act.

use estafet_model::Bearer;
use estafet_node::NodeEvent;
use estafet_node::custody::CustodyEvent;
use estafet_node::routing::Choice;
use tracing::{debug, error, info, warn};

use crate::store::Level;

/// A watermark was passed, up or down.
pub(super) fn tell_level(before: Level, now: Level) {
    match now {
        _ if now == before => {}
        Level::Good => info!("the store has room again"),
        Level::Filling => warn!("less than a quarter of the store is free; what keeps it from emptying itself?"),
        Level::NoTransit => warn!("the store is nearly full: neighbors are asked to wait, the counter goes on"),
        Level::Full => error!("the store is full: nothing is taken in until receipts come, or it is given more room"),
    }
}

/// What the node says has happened.
pub(super) fn tell(event: &NodeEvent) {
    match event {
        NodeEvent::AdjacencyUp(neighbor) => info!(%neighbor, "adjacency up"),
        NodeEvent::AdjacencyDown { neighbor, reason } => warn!(%neighbor, ?reason, "adjacency down"),
        NodeEvent::Suspected(Bearer { neighbor, medium }) => {
            debug!(%neighbor, %medium, "the neighbor owes an answer suspiciously long");
        }
        NodeEvent::Cleared(Bearer { neighbor, medium }) => debug!(%neighbor, %medium, "the neighbor is heard again"),
        NodeEvent::BearerChanged { neighbor, choice: Choice { urgent, rest: Some(rest) } } if urgent == rest => {
            info!(%neighbor, medium = %urgent, "the neighbor is spoken to over another link");
        }
        NodeEvent::BearerChanged { neighbor, choice: Choice { urgent, rest: Some(rest) } } => {
            info!(%neighbor, medium = %rest, %urgent, "urgent records go over a link of their own");
        }
        NodeEvent::BearerChanged { neighbor, choice: Choice { urgent, rest: None } } => {
            warn!(%neighbor, medium = %urgent, "only a metered link is left to the neighbor: only urgent records go over it");
        }
        NodeEvent::LinkGray { bearer: Bearer { neighbor, medium }, why } => {
            warn!(%neighbor, %medium, %why, "the link is bad, and used only where there is no other");
        }
        NodeEvent::LinkGood(Bearer { neighbor, medium }) => info!(%neighbor, %medium, "the link is good again"),
        NodeEvent::NextHops(next_hops) => info!(?next_hops, "the way to the hub changed"),
        NodeEvent::ForgedLsa { from, origin } => error!(%from, %origin, "an LSA is not signed by its origin"),
        NodeEvent::MalformedLsa { from, .. } => error!(%from, "the neighbor sends malformed LSAs"),
        NodeEvent::SpoolRolledBack { left, captured, begun } => {
            error!(
                left = left.get(),
                captured,
                begun = begun.get(),
                "this node's data is an old copy, or its disk was lost: captures go on in a new epoch, and the audit \
                 names what is unaccounted for"
            );
        }
        NodeEvent::Custody(CustodyEvent::Lost(id)) => {
            error!(record = %id, "a record cannot be read from this node's disk; it is sought from the neighbors");
        }
        NodeEvent::Custody(CustodyEvent::Healed(id)) => warn!(record = %id, "a record that was lost has come again"),
        // In honest hands a handful, after a link was in doubt; it is bounded by the session.
        NodeEvent::Custody(CustodyEvent::Wasted { .. }) => {}
        NodeEvent::Custody(CustodyEvent::Committed(id)) => debug!(record = %id, "committed"),
        NodeEvent::Custody(CustodyEvent::CommittedTwice) => error!("a record was committed twice"),
        NodeEvent::Custody(CustodyEvent::Diverted { around, records }) => {
            debug!(neighbor = %around, records, "records go another way as well");
        }
        NodeEvent::Custody(CustodyEvent::SaidAgain { to, records }) => {
            debug!(neighbor = %to, records, "records are offered again, over another link or another way");
        }
        NodeEvent::Custody(CustodyEvent::TakenBack { from, records }) => {
            warn!(neighbor = %from, records, "records that the neighbor had go another way");
        }
        NodeEvent::Custody(CustodyEvent::Mistrusted { neighbor, records }) => {
            error!(
                %neighbor,
                records,
                "the neighbor accepted records that only others brought home: it gets nothing more for a while where there \
                 is another way, and `topology audit --suspects` names it"
            );
        }
        NodeEvent::Custody(CustodyEvent::Refused { by, id, reason }) => {
            error!(neighbor = %by, record = %id, why = reason.as_str(), "the neighbor refuses a record; it stays here");
        }
        NodeEvent::Custody(CustodyEvent::Rejected { from, id, reason }) => {
            error!(neighbor = %from, record = %id, why = reason.as_str(), "refused a record from the neighbor");
        }
        NodeEvent::Custody(CustodyEvent::LostByHub { key, seqs }) => {
            error!(
                hub = %key.hub,
                origin = %key.origin,
                epoch = key.epoch.get(),
                count = seqs.count(),
                "the hub has lost records that it had committed; what their origins still have comes back by itself, and \
                 `topology audit` names the rest"
            );
        }
        NodeEvent::Custody(CustodyEvent::Recalled { records }) => {
            warn!(records, "own records that the hub has lost are held again, and go to it once more");
        }
        NodeEvent::Custody(CustodyEvent::BadReceipt { from, why }) => {
            error!(neighbor = %from, why, "a receipt released nothing");
        }
    }
}
