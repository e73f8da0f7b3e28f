//! What the driver does about another topology: it is heeded, and passed on.

use std::collections::BTreeMap;

use estafet_model::{Bearer, NodeId};
use estafet_node::Input;
use estafet_quic::{LAST_WORDS, Session, Transport};
use tokio::sync::mpsc;
use tokio::time::sleep;
use tracing::info;

use super::Driver;
use crate::topologies::{Offer, Successor, Told, neighborhood};

/// What a change of the topology reaches beside the node.
pub(crate) struct Successions {
    pub(crate) transport: Transport,
    /// The newest topology that is durable here.
    pub(crate) told: Told,
    /// Where neighbors' topologies go to be judged.
    pub(crate) offers: mpsc::Sender<Offer>,
}

impl Driver {
    /// Sends this node's topology to a neighbor that has an older one. A newer one comes by itself.
    pub(super) fn compare_topologies(&self, neighbor: &NodeId, theirs: u64, session: &Session) {
        let Told { version: ours, frame } = &self.successions.told;
        if theirs == *ours {
            return;
        }
        info!(%neighbor, theirs, ours, "the neighbor has another version of the topology");
        if let Some(frame) = frame.as_ref().filter(|_| theirs < *ours) {
            // If it is gone, the next session begins with the same comparison.
            let _gone = session.send(frame);
        }
    }

    /// A newer topology is durable: it is heeded, but for what waits for the next start, and passed on.
    pub(super) fn succeed(&mut self, Successor { in_force, told, from }: Successor) {
        let me = self.node.id().clone();
        let before = self.node.topology().clone();
        self.grounds.heed(&in_force, &me);
        self.feed(Input::Topology(in_force));
        // What waits for the next start is kept.
        self.feed(Input::TopologyKept(told.version));
        if let Some(frame) = &told.frame {
            let sessions = self.sessions.iter().map(|(bearer, session)| (&bearer.neighbor, session));
            // One of its sessions is enough for each neighbor.
            let others: BTreeMap<&NodeId, &Session> =
                sessions.filter(|(neighbor, _)| from.as_ref() != Some(neighbor)).collect();
            for session in others.into_values() {
                let _gone = session.send(frame);
            }
        }
        let neighborhood = neighborhood(self.node.topology(), &me, told.version);
        let is_over = |bearer: &Bearer| {
            let neighbor = neighborhood.neighbors.get(&bearer.neighbor);
            neighbor.is_none_or(|neighbor| {
                let is_replaced = before.node(&bearer.neighbor).map(|listed| listed.key) != Some(neighbor.key);
                is_replaced || !neighbor.bearers.contains_key(&bearer.medium)
            })
        };
        let over: Vec<Session> =
            self.sessions.extract_if(.., |bearer, _| is_over(bearer)).map(|(_, over)| over).collect();
        self.successions.transport.set_neighborhood(neighborhood);
        // Nothing is taken from them any more, and what was just said to them leaves.
        tokio::spawn(async move {
            sleep(LAST_WORDS).await;
            drop(over);
        });
        self.successions.told = told;
        self.review_standing();
    }
}
