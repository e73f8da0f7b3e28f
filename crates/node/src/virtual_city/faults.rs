//! What goes wrong in the city, and what sets it right.

use std::sync::Arc;

use estafet_model::NodeId;

use super::{City, FIRST_NODE_TRANSFER};
use crate::{Node, NodeConfig};

impl City {
    /// Power cut, kill -9: the process is gone without a word, and what was not synced with it.
    pub(crate) fn kill(&mut self, id: &NodeId) {
        let office = self.offices.get_mut(id).expect("offices stay");
        if office.node.take().is_none() {
            return;
        }
        office.wake_at = None;
        office.store.power_cut(&mut self.seeded);
        self.oracle.killed(id);
        self.forget_ends(id);
        self.check_slips();
    }

    /// Starts the node from its disk, if it is not running.
    pub(crate) fn restart(&mut self, id: &NodeId) {
        let topology = Arc::clone(&self.topology);
        let now = self.now;
        let office = self.offices.get_mut(id).expect("offices stay");
        if office.node.is_some() {
            return;
        }
        office.life += 1;
        office.booted = now;
        let config = NodeConfig {
            me: id.clone(),
            signing_key: office.key.clone(),
            topology,
            epoch: Self::epoch(),
            first_transfer: FIRST_NODE_TRANSFER,
            first_lsa_sequence: u64::from(office.life) << 32,
        };
        office.node = Some(Node::new(config, office.store.recover()));
        self.poll(id);
        self.dial_all(id);
    }

    /// The disk of a node begins to fail, or is exchanged for one that works with the same content.
    pub(crate) fn set_failing(&mut self, id: &NodeId, failing: bool) {
        self.offices.get_mut(id).expect("offices stay").store.set_failing(failing);
    }

    pub(crate) fn cut(&mut self, link: usize) {
        if !std::mem::replace(&mut self.wires[link].cut, true) {
            self.silence(link);
        }
    }

    pub(crate) fn heal(&mut self, link: usize) {
        if std::mem::take(&mut self.wires[link].cut) {
            self.resume(link);
            self.dial_soon(link);
        }
    }

    /// The link between these two.
    pub(crate) fn link(&self, one: &str, other: &str) -> usize {
        self.link_between(&super::id(one), &super::id(other)).expect("there is such a link")
    }

    /// Every link is whole and every node runs, on a disk that works.
    pub(crate) fn heal_all(&mut self) {
        (0..self.wires.len()).for_each(|link| self.heal(link));
        for id in self.node_ids() {
            self.set_failing(&id, false);
            self.restart(&id);
        }
    }
}
