//! What goes wrong in the city, and what sets it right.

use std::collections::BTreeSet;
use std::sync::Arc;

use estafet_model::{Epoch, NodeId, RecordId};
use estafet_node::custody::RECEIPT_PATIENCE;
use estafet_node::routing::{NodeState, Standing};
use estafet_node::{Input, Node, NodeConfig};
use estafet_spool::Unsynced;

use crate::city::{City, Clock, Event};
use crate::network::Condition;
use crate::session::End;
use crate::store::{NotStarted, Started, Store};

/// Transfer ids from here on are the nodes', as in the daemon.
const FIRST_NODE_TRANSFER: u64 = 1 << 62;

/// One start in so many loses its power once before it is done.
const STARTS_PER_CUT: u64 = 8;

impl City {
    /// The power of a node is cut, or its process killed: it is gone without a word. What was not synced is as the
    /// seed decides.
    pub fn kill(&mut self, id: &NodeId) {
        let unsynced = self.draw_unsynced();
        self.power_cut(id, unsynced);
    }

    /// The power of a node is cut, or (all kept) its process killed.
    pub fn power_cut(&mut self, id: &NodeId, unsynced: Unsynced) {
        if self.end_process(id) {
            let office = self.offices.get_mut(id).expect("offices stay");
            office.store.power_cut(&mut self.seeded, unsynced);
            self.check_nothing_missing();
        }
    }

    /// The node is shut down: it says goodbye, and closes its log.
    pub fn shut_down(&mut self, id: &NodeId) {
        for link in 0..self.wires.len() {
            if let Some(end) = self.wires[link].end_of(id) {
                self.say_goodbye(link, 1 - end);
            }
        }
        if self.end_process(id) {
            self.office_mut(id).store.close();
            self.check_nothing_missing();
        }
    }

    /// False if it was not running.
    fn end_process(&mut self, id: &NodeId) -> bool {
        let office = self.office_mut(id);
        if office.node.take().is_none() {
            return false;
        }
        office.wake_at = None;
        self.oracle.killed(id);
        self.forget_ends(id);
        true
    }

    fn draw_unsynced(&mut self) -> Unsynced {
        match self.seeded.below(4) {
            0 => Unsynced::Kept,
            1 => Unsynced::Dropped,
            _ => Unsynced::Torn(self.seeded.draw()),
        }
    }

    /// Starts the node from its disk, if it is not running and its disk takes writes.
    pub fn restart(&mut self, id: &NodeId) {
        if self.is_running(id) {
            return;
        }
        if self.seeded.one_in(STARTS_PER_CUT) {
            let unsynced = self.draw_unsynced();
            let office = self.offices.get_mut(id).expect("offices stay");
            office.store.cut_while_starting(&mut self.seeded, unsynced);
        }
        let epoch = self.draw_epoch(id);
        match self.office_mut(id).store.start(|| epoch) {
            Ok(started) => self.begin_life(id, started),
            Err(NotStarted::Unwritable) => {}
            Err(NotStarted::Broken(what)) => self.violated(format!("{id} starts: {what}")),
        }
    }

    fn begin_life(&mut self, id: &NodeId, started: Started) {
        let Started { recovered, identity } = started;
        let topology = Arc::clone(&self.topology);
        let now = self.now;
        let spare_epoch = self.draw_epoch(id);
        let office = self.office_mut(id);
        office.life += 1;
        office.booted = now;
        office.given.entry(identity.epoch).or_default();
        let config = NodeConfig {
            me: id.clone(),
            signing_key: office.key.clone(),
            topology,
            epoch: identity.epoch,
            spare_epoch,
            durable: true,
            first_transfer: FIRST_NODE_TRANSFER | (identity.starts << 32),
            receipt_patience: RECEIPT_PATIENCE,
            first_lsa_sequence: identity.starts << 32,
        };
        office.node = Some(Node::new(config, recovered));
        let life = office.life;
        self.poll(id);
        self.schedule(now, Event::Housekeeping { node: id.clone(), life });
        self.dial_all(id);
    }

    /// The epoch of a new spool: 1 for the first of an office, so that slips in tests are easy to read, then any that
    /// it has not had. (By chance alone one in 65,535 comes again; that chance is taken by the design, not here.)
    fn draw_epoch(&mut self, id: &NodeId) -> Epoch {
        let used = self.offices[id].given.clone();
        let mut drawn = Epoch::new(1).expect("1 is an epoch");
        while used.contains_key(&drawn) {
            let number = u16::try_from(1 + self.seeded.draw() % u64::from(Epoch::MAX)).expect("at most the last epoch");
            drawn = Epoch::new(number).expect("an epoch between 1 and the last");
        }
        drawn
    }

    /// The next sync of the node's disk fails; or the disk works again.
    pub fn set_failing(&mut self, id: &NodeId, failing: bool) {
        if failing {
            self.offices[id].store.fail_sync(1);
        } else {
            self.offices[id].store.repair();
        }
    }

    /// The disk of a node is gone for good; a new one takes its place. What only the old one held is lost.
    pub fn lose_disk(&mut self, id: &NodeId) {
        self.end_process(id);
        let had = self.committed_at(id);
        let held = self.held_at(id);
        self.office_mut(id).store.lose();
        self.lost_by_hub(id, had);
        self.excuse_what_is_lost(held);
    }

    /// What the node's disk is known to hold.
    fn held_at(&self, id: &NodeId) -> Vec<RecordId> {
        self.offices[id].store.ids().cloned().collect()
    }

    /// What is committed at this node; nothing if it is no main server.
    fn committed_at(&self, id: &NodeId) -> BTreeSet<RecordId> {
        if self.is_hub(id) { self.offices[id].store.ids().cloned().collect() } else { BTreeSet::new() }
    }

    /// A bit of a committed record flips on a main server's disk. Says which; nothing if it has no complete segment.
    pub fn rot_a_record(&mut self, hub: &NodeId) -> Option<RecordId> {
        let office = self.offices.get_mut(hub).expect("offices stay");
        let id = office.store.rot(&mut self.seeded)?;
        self.lost_by_hub(hub, BTreeSet::from([id.clone()]));
        Some(id)
    }

    /// What a backup of the node's disk holds now.
    #[must_use]
    pub fn backup(&self, id: &NodeId) -> Store {
        self.offices[id].store.backup()
    }

    /// The disk of a node is replaced by one with what a backup holds.
    pub fn restore(&mut self, id: &NodeId, backup: Store) {
        self.end_process(id);
        for (epoch, given) in self.offices[id].given.clone() {
            let newest = backup.newest(id, epoch);
            if newest < given {
                self.oracle.rolled_back(id, epoch, newest, given);
            }
        }
        let mut lost = self.committed_at(id);
        let held = self.held_at(id);
        self.office_mut(id).store = backup;
        lost.retain(|record| !self.offices[id].store.holds(record));
        self.lost_by_hub(id, lost);
        self.excuse_what_is_lost(held);
    }

    /// A node is led around, or not any more. The order does not outlast its process: who restarts it may serve.
    pub fn set_draining(&mut self, id: &NodeId, draining: bool) {
        let state = if draining { NodeState::Draining } else { NodeState::Serving };
        self.input(id, Input::Standing(Standing { state, ..Standing::default() }));
    }

    /// The clock on the wall of an office jumps.
    pub fn set_clock(&mut self, id: &NodeId, clock: Clock) {
        self.office_mut(id).clock = clock;
    }

    /// The link carries nothing.
    pub fn cut(&mut self, link: usize) {
        self.set_condition(link, Condition { silent: [true; 2], ..self.condition(link) });
    }

    /// The link is as it should be.
    pub fn heal(&mut self, link: usize) {
        self.set_condition(link, Condition::default());
    }

    /// How a link fares.
    #[must_use]
    pub fn condition(&self, link: usize) -> Condition {
        self.wires[link].condition
    }

    /// From now on a link fares like this.
    pub fn set_condition(&mut self, link: usize, condition: Condition) {
        let before = std::mem::replace(&mut self.wires[link].condition, condition);
        if (0..2).any(|end| condition.silent[end] && !before.silent[end]) {
            self.look_soon(link);
        }
        if (0..2).any(|end| !condition.silent[end] && before.silent[end]) {
            self.resume(link);
            self.dial_soon(link);
        }
    }

    /// The link between these two.
    ///
    /// # Panics
    /// If there is none.
    #[must_use]
    pub fn link(&self, one: &str, other: &str) -> usize {
        self.link_between(&crate::city::id(one), &crate::city::id(other)).expect("there is such a link")
    }

    /// Every link is whole and every node runs and serves, on a disk that works.
    pub fn heal_all(&mut self) {
        (0..self.wires.len()).for_each(|link| self.heal(link));
        for id in self.node_ids() {
            self.set_clock(&id, Clock::Right);
            self.replace_disk(&id);
            self.restart(&id);
            self.set_draining(&id, false);
        }
    }

    /// The disk of a node has room, and no fault any more; if its log has stopped, the node is started again.
    pub fn replace_disk(&mut self, id: &NodeId) {
        self.offices[id].store.repair();
        if self.offices[id].store.is_poisoned() {
            self.kill(id);
            self.restart(id);
        }
    }

    /// The node at the other end than `end` says goodbye over this link.
    fn say_goodbye(&mut self, link: usize, end: End) {
        let wire = &self.wires[link];
        let Some(session) = wire.session else { return };
        // Only who hears it; the others notice by silence.
        let hears = !wire.condition.silent[1 - end] && self.sessions[session].known[end];
        if hears && std::mem::take(&mut self.sessions[session].open[end]) {
            let (node, bearer) = (wire.ends[end].clone(), wire.bearer(end));
            self.hear(&node, Input::SessionDown { bearer, goodbye: true });
            self.dial_soon(link);
        }
    }
}
