//! The node: one place where inputs branch to routing and custody, and where their outputs meet.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use estafet_custody::{
    Custody, CustodyConfig, CustodyEvent, CustodyOutput, RecordView, Recovered as CustodyRecovered, StorePayload,
};
use estafet_model::{
    Bearer, ChainHead, Class, Epoch, Medium, NodeId, Now, PublicKey, RecordId, Seq, SeqRanges, Signature, SignedHead,
    SigningKey, Slip,
};
use estafet_routing::{
    BearerTerms, Captured as Count, Holding, HubLedger, LEDGER_PIECES_MAX, LinkRisks, LinkSample, OriginLedger, Router,
    RouterConfig, RouterOutput, SignedLsa,
};
use estafet_topology::{Role, Topology};
use estafet_wire::Frame;

use crate::captures::{Capture, CaptureRefused, Captured, Captures};
use crate::io::{Input, NodeEvent, Output, Wakeup};
use crate::pasts::{Pasts, raise};
use crate::recovered::{Recovered, StoredRecord};

/// Who this node is.
#[derive(Debug)]
pub struct NodeConfig {
    /// Its id.
    pub me: NodeId,
    /// Its key.
    pub signing_key: SigningKey,
    /// The area. Must list this node.
    pub topology: Arc<Topology>,
    /// The incarnation of its spool.
    pub epoch: Epoch,
    /// A random epoch, to look from for a new one when the spool turns out to be an old copy.
    pub spare_epoch: Epoch,
    /// Its store keeps what is synced. A node whose store does not gives no promises (P1).
    pub durable: bool,
    /// Transfer ids from here on are the node's; those below, the driver's own. No start may use an earlier one's.
    pub first_transfer: u64,
    /// How long a neighbor that has accepted a record may leave it without a receipt, at first: see
    /// [`RECEIPT_PATIENCE`](estafet_custody::RECEIPT_PATIENCE).
    pub receipt_patience: Duration,
    /// See [`RouterConfig::first_sequence`].
    pub first_lsa_sequence: u64,
}

/// Where a record is, as far as this node knows.
#[derive(Debug)]
pub enum Whereabouts<'a> {
    /// Held here without a receipt.
    Held(RecordView),
    /// Once held here, and not readable any more: sought from the neighbors.
    Lost(RecordView),
    /// Committed at this hub.
    Receipted {
        /// Which hub.
        hub: &'a NodeId,
    },
    /// Never seen here.
    Unknown,
}

/// One node. See the crate documentation for how to drive it.
#[derive(Debug)]
pub struct Node {
    me: NodeId,
    signing_key: SigningKey,
    /// Its store keeps what is synced.
    durable: bool,
    topology: Arc<Topology>,
    router: Router,
    custody: Custody,
    captures: Captures,
    /// This node's earlier epochs, each with its known count of captures.
    former: BTreeMap<Epoch, Count>,
    spare_epoch: Epoch,
    /// Epochs on their way to the disk, in order.
    keeping_epochs: VecDeque<Epoch>,
    pasts: Pasts,
    committed_twice: u64,
    /// How far the chain of this hub's commits has come, and its word for it.
    head: Option<(ChainHead, Signature)>,
    next_hops: Vec<NodeId>,
    /// What was last said of them.
    told_next_hops: Vec<NodeId>,
    hops_to_hubs: BTreeMap<NodeId, Vec<NodeId>>,
    /// Those of them that a large queue spreads over.
    downhill: Vec<NodeId>,
    ledger_changed: bool,
    outputs: VecDeque<Output>,
}

impl Node {
    /// Starts from what the disk holds.
    ///
    /// # Panics
    /// If the topology does not list `config.me`; the daemon checks that before.
    #[must_use]
    pub fn new(config: NodeConfig, recovered: Recovered) -> Self {
        let is_hub = config.topology.node(&config.me).expect("the topology lists this node").role == Role::Hub;
        let mut captures = Captures::new(config.me.clone(), config.epoch, head(&config, &recovered));
        for (key, captured) in recovered.records.keys {
            if captured.get().id.origin == config.me {
                captures.remember(key, captured);
            }
        }
        let records = recovered.records.held;
        let keys = node_keys(&config.topology);
        let hubs = config.topology.hub_ids().filter_map(|hub| Some((hub.clone(), *keys.get(hub)?))).collect();
        let custody_config = CustodyConfig {
            me: config.me.clone(),
            hub_key: is_hub.then(|| config.signing_key.clone()),
            origins: config.topology.origin_keys(),
            hubs,
            copies: config.topology.copies,
            first_transfer: config.first_transfer,
            receipt_patience: config.receipt_patience,
            promises: config.durable,
        };
        let stored = CustodyRecovered {
            records,
            conflicts: recovered.conflicts,
            damaged: recovered.damaged,
            transfers: recovered.transfers,
            receipts: recovered.receipts,
            committed: recovered.committed,
            losses: recovered.losses,
        };
        let (key, first_sequence) = (config.signing_key.clone(), config.first_lsa_sequence);
        let router_config = router_config(&config.me, &config.topology, key, first_sequence, config.durable);
        let mut node = Self {
            router: Router::new(config.me.clone(), router_config),
            custody: Custody::new(custody_config, stored),
            me: config.me,
            signing_key: config.signing_key,
            durable: config.durable,
            topology: config.topology,
            captures,
            former: recovered.former,
            spare_epoch: config.spare_epoch,
            keeping_epochs: VecDeque::new(),
            pasts: Pasts::default(),
            committed_twice: recovered.committed_twice,
            head: None,
            next_hops: Vec::new(),
            told_next_hops: Vec::new(),
            hops_to_hubs: BTreeMap::new(),
            downhill: Vec::new(),
            ledger_changed: true,
            outputs: VecDeque::new(),
        };
        node.settle(Now::default());
        node
    }

    /// Takes one input. Then poll outputs until there are none, then the timeout.
    pub fn handle_input(&mut self, now: Now, input: Input) {
        match input {
            Input::Timeout => {
                let custody = &self.custody;
                self.router.handle_timeout(now, |neighbor| custody.awaits_answer(neighbor));
                self.custody.handle_timeout(now);
            }
            Input::SessionUp(bearer) => self.router.session_up(now, &bearer),
            Input::SessionDown { bearer, goodbye: true } => self.router.goodbye(now, &bearer),
            Input::SessionDown { bearer, goodbye: false } => self.router.session_down(now, &bearer),
            Input::Acknowledged(bearer) => self.router.acknowledged(now, &bearer),
            Input::CarrierLost { cut_off } => self.router.carrier_lost(now, cut_off.as_deref()),
            Input::Frame { from, frame: Frame::Heartbeat { busy, lsdb, .. } } => {
                self.router.heartbeat(now, &from, busy, lsdb);
            }
            Input::Frame { from, frame } => {
                self.router.spoken_to(now, &from);
                self.frame(now, from.neighbor, frame);
            }
            Input::Piece { from, piece } => {
                self.router.spoken_to(now, &from);
                self.custody.piece(now, &from.neighbor, piece);
            }
            Input::Measured { bearer, sample } => self.measured(now, &bearer, sample),
            Input::Tried { over, carried } => self.router.tried(now, &over, carried),
            Input::Captures(captures) => self.capture(captures),
            Input::Stored(records) => self.stored(now, records),
            Input::StoreFailed(ids) => {
                ids.iter().for_each(|id| self.store_failed(id));
                for capture in self.captures.store_failed() {
                    self.outputs
                        .push_back(Output::CaptureRefused { token: capture.token, why: CaptureRefused::StoreFailed });
                }
            }
            Input::EpochKept => {
                let kept = self.keeping_epochs.pop_front();
                let waited = kept.map(|epoch| self.captures.epoch_kept(epoch)).unwrap_or_default();
                self.capture(waited);
                self.ledger_changed = true;
            }
            Input::Retry(only) => {
                self.custody.retry(now, only.as_ref());
            }
            Input::ReceiptKept(key) => self.custody.receipt_kept(&key),
            Input::LossesKept => self.custody.losses_kept(now),
            Input::Recalled(records) => {
                self.custody.recalled(now, records.into_iter().map(|stored| stored.record).collect());
                self.ledger_changed = true;
            }
            Input::Compared { id, from, same } => self.custody.compared(id, &from, same),
            Input::Unreadable(id) => {
                self.custody.unreadable(now, &id);
                self.ledger_changed = true;
            }
            Input::CommittedUnreadable(record) => {
                self.custody.committed_unreadable(now, *record);
                self.ledger_changed = true;
            }
            Input::Room(room) => self.custody.set_room(room),
            Input::ChainHead(head) => self.set_head(head),
            Input::Outlook(outlook) => self.router.set_outlook(outlook),
            Input::Topology(topology) => self.set_topology(now, topology),
            Input::TopologyKept(version) => self.router.set_topology_kept(now, version),
            Input::PlannedDark(bearers) => self.router.set_planned_dark(now, &bearers),
            Input::Standing(standing) => {
                self.custody.set_draining(standing.is_draining());
                self.router.set_standing(now, standing);
            }
        }
        self.settle(now);
    }

    fn set_topology(&mut self, now: Now, topology: Arc<Topology>) {
        self.topology = topology;
        self.custody.set_origins(self.topology.origin_keys());
        let config = router_config(&self.me, &self.topology, self.signing_key.clone(), 0, self.durable);
        self.router.reconfigure(now, config);
    }

    /// A node that gives no receipts publishes no head.
    fn set_head(&mut self, head: ChainHead) {
        if self.durable {
            self.head = Some((head, SignedHead::sign(self.me.clone(), head, &self.signing_key).signature));
            self.ledger_changed = true;
        }
    }

    fn frame(&mut self, now: Now, neighbor: NodeId, frame: Frame) {
        let from = &neighbor;
        match frame {
            // The session layer has read the first, and its bearer the second; another one changes nothing.
            Frame::Hello(_) | Frame::Heartbeat { .. } => {}
            // Judged and kept by whoever drives the node, who then says what is in force.
            Frame::Topology(_) => {}
            Frame::Doubt(medium) => self.router.doubted(now, &Bearer::new(neighbor, medium)),
            Frame::LsdbSummary(summary) => self.router.lsdb_summary_received(from, &summary),
            Frame::Lsas(lsas) => lsas.iter().for_each(|lsa| self.lsa(now, from, lsa)),
            Frame::ReceiptSummary(versions) => self.custody.receipt_summary(from, versions),
            Frame::Receipts(receipts) => {
                self.custody.receipts(now, from, &receipts);
                let mine = (self.me.clone(), self.captures.epoch());
                let receipted = self.custody.receipted().get(&mine).and_then(SeqRanges::last);
                self.heard_of_own(mine.1, receipted.map_or(0, Seq::get));
                self.ledger_changed = true;
            }
            Frame::Offers(offers) => self.custody.offers(from, offers, now),
            Frame::Answers(answers) => self.custody.answers(now, from, answers),
            Frame::Acceptances(ids) => self.custody.acceptances(now, from, &ids),
            Frame::Seek(ids) => self.custody.sought(now, from, &ids),
            Frame::Withdrawn(ids) => self.custody.withdrawn(now, from, &ids),
            Frame::Inventory(sets) => self.custody.inventory(now, from, &sets),
            Frame::Holdings(holdings) => self.custody.neighbor_holdings(now, from, &holdings),
        }
    }

    fn lsa(&mut self, now: Now, from: &NodeId, encoded: &Bytes) {
        let signed = match SignedLsa::decode(encoded) {
            Ok(signed) => signed,
            Err(fault) => {
                let of_other_version = fault == SignedLsa::OTHER_VERSION;
                return self.event(NodeEvent::MalformedLsa { from: from.clone(), of_other_version });
            }
        };
        let origin = signed.lsa().origin.clone();
        if origin == self.me && signed.verify(&self.signing_key.public()).is_ok() {
            self.own_past(&signed);
        } else if origin == self.me && self.is_of_former_machine(&signed) {
            // Nobody routes by it any more: it only counts.
            return self.own_past(&signed);
        }
        self.router.lsa_received(now, from, signed);
        if origin != self.me
            && let Some(verified) = self.router.lsdb().get(&origin)
        {
            self.pasts.hear(verified);
        }
    }

    /// Said by a machine that this one has replaced.
    fn is_of_former_machine(&self, signed: &SignedLsa) -> bool {
        let mut former = self.topology.former_nodes.iter().filter(|former| former.id == self.me);
        former.any(|former| signed.verify(&former.key).is_ok())
    }

    /// A neighbor returns what this node once said.
    fn own_past(&mut self, signed: &SignedLsa) {
        if let Some((head, _)) = signed.lsa().hub.and_then(|hub| hub.head).filter(|_| self.is_hub()) {
            self.outputs.push_back(Output::Published(head));
        }
        let Some(ledger) = &signed.lsa().ledger else { return };
        for (epoch, captured) in ledger.former.iter().copied().chain([(ledger.epoch, ledger.captured)]) {
            self.heard_of_own(epoch, captured);
        }
    }

    /// So many captures of this node are known in this epoch. If that is more than it has given numbers, its spool is
    /// not the newest that it had, and those numbers must not be given again.
    fn heard_of_own(&mut self, epoch: Epoch, captured: Count) {
        let current = self.captures.epoch();
        if epoch != current {
            if captured > self.former.get(&epoch).copied().unwrap_or_default() {
                self.former.insert(epoch, captured);
                self.keep_epoch(current);
            }
        } else if captured > self.captures.given() {
            self.leave_epoch(captured);
        }
    }

    fn leave_epoch(&mut self, captured: Count) {
        let left = self.captures.epoch();
        let Some(begun) = self.unused_epoch() else { return };
        if !self.captures.begin_epoch(begun) {
            return;
        }
        raise(&mut self.former, left, captured);
        self.event(NodeEvent::SpoolRolledBack { left, captured, begun });
        self.keep_epoch(begun);
    }

    fn keep_epoch(&mut self, epoch: Epoch) {
        self.keeping_epochs.push_back(epoch);
        self.outputs.push_back(Output::KeepEpoch { epoch, former: self.former.clone() });
    }

    /// An epoch that nobody has heard of yet.
    fn unused_epoch(&self) -> Option<Epoch> {
        let receipted = self.custody.receipted().keys().filter(|(origin, _)| *origin == self.me);
        let mut used: BTreeSet<Epoch> = receipted.map(|(_, epoch)| *epoch).collect();
        used.extend(self.former.keys().copied());
        used.insert(self.captures.epoch());
        let from = self.spare_epoch.get();
        (from..=Epoch::MAX).chain(1..from).filter_map(Epoch::new).find(|epoch| !used.contains(epoch))
    }

    fn measured(&mut self, now: Now, bearer: &Bearer, sample: LinkSample) {
        self.router.measured(now, bearer, sample);
        if let Some(record_time) = self.router.record_time(&bearer.neighbor) {
            self.custody.set_record_time(&bearer.neighbor, record_time);
        }
    }

    fn capture(&mut self, captures: Vec<Capture>) {
        let admitted = self.captures.admit(captures, &self.signing_key);
        for (header, idempotency, payload) in admitted.store {
            self.custody.capture(header, idempotency, payload);
        }
        for (token, captured) in admitted.known {
            self.outputs.push_back(Output::Captured { token, captured });
        }
        for (token, why) in admitted.refused {
            self.outputs.push_back(Output::CaptureRefused { token, why });
        }
        for payload in admitted.superfluous {
            if let StorePayload::Transfer(transfer) = payload {
                self.outputs.push_back(Output::AbortTransfer(transfer));
            }
        }
    }

    fn stored(&mut self, now: Now, records: Vec<StoredRecord>) {
        let mut held = Vec::with_capacity(records.len());
        for StoredRecord { record, idempotency } in records {
            if record.get().id.origin == self.me {
                let captured = record.clone().map(Captured::from);
                for token in self.captures.stored(&captured, idempotency) {
                    self.outputs.push_back(Output::Captured { token, captured: captured.clone() });
                }
            }
            held.push(record);
        }
        self.custody.stored(now, held);
        self.ledger_changed = true;
    }

    fn store_failed(&mut self, id: &RecordId) {
        self.custody.store_failed(id);
        for token in self.captures.failed(id) {
            let why = CaptureRefused::StoreFailed;
            self.outputs.push_back(Output::CaptureRefused { token, why });
        }
    }

    /// Carries messages between routing and custody until both are quiet.
    fn settle(&mut self, now: Now) {
        loop {
            if let Some(output) = self.router.poll_output() {
                self.routed(now, output);
            } else if let Some(output) = self.custody.poll_output() {
                self.kept(now, output);
            } else if std::mem::take(&mut self.ledger_changed) {
                self.tell_ledger();
            } else {
                break;
            }
        }
    }

    fn routed(&mut self, now: Now, output: RouterOutput) {
        match output {
            RouterOutput::SendLsas { to, lsas } => {
                let lsas = lsas.iter().map(SignedLsa::encode).collect();
                self.send(&to, Frame::Lsas(lsas));
            }
            RouterOutput::SendSummary { to } => {
                let summary = self.router.lsdb().summary();
                self.send(&to, Frame::LsdbSummary(summary));
            }
            RouterOutput::SendHeartbeat { over, busy, lsdb } => {
                let is_used = self.router.choice(&over.neighbor).is_some_and(|choice| choice.uses(over.medium));
                if is_used && self.custody.awaits_answer(&over.neighbor) {
                    self.router.busy(now, &over);
                }
                // A node has no wall clock: the driver may add its own.
                let frame = Frame::Heartbeat { busy, lsdb, clock: None };
                self.outputs.push_back(Output::Send { to: over, frame });
            }
            RouterOutput::AdjacencyUp(neighbor) => {
                // Before anything of its records is spoken of.
                self.return_past(&neighbor);
                self.admit_classes(now, &neighbor);
                self.custody.neighbor_up(&neighbor);
                self.event(NodeEvent::AdjacencyUp(neighbor));
                self.routes_changed(now);
            }
            RouterOutput::AdjacencyDown { neighbor, reason } => {
                self.event(NodeEvent::AdjacencyDown { neighbor: neighbor.clone(), reason });
                // Next hops first, so that what the neighbor had been handed leaves by the alternate at once.
                self.routes_changed(now);
                self.custody.neighbor_down(now, &neighbor);
            }
            RouterOutput::GiveUp(bearer) => self.outputs.push_back(Output::Disconnect(bearer)),
            RouterOutput::BearerChanged { neighbor, choice } => {
                self.admit_classes(now, &neighbor);
                self.event(NodeEvent::BearerChanged { neighbor, choice });
                self.routes_changed(now);
            }
            RouterOutput::SayAgain { to, doubt } => {
                if let Some(medium) = doubt {
                    self.send(&to, Frame::Doubt(medium));
                }
                self.return_past(&to);
                self.custody.say_again(now, &to);
            }
            RouterOutput::Suspected(bearer) => {
                self.event(NodeEvent::Suspected(bearer.clone()));
                self.routes_changed(now);
                if self.router.is_suspect(&bearer.neighbor) {
                    self.custody.suspect(now, &bearer.neighbor);
                }
            }
            RouterOutput::Cleared(bearer) => {
                self.event(NodeEvent::Cleared(bearer));
                self.routes_changed(now);
            }
            RouterOutput::LinkGray { bearer, why } => {
                self.event(NodeEvent::LinkGray { bearer: bearer.clone(), why });
                self.routes_changed(now);
                if self.router.gray(&bearer.neighbor).is_some() {
                    self.custody.divert(now, &bearer.neighbor);
                }
            }
            RouterOutput::Try { over, bytes, within } => self.outputs.push_back(Output::Try { over, bytes, within }),
            RouterOutput::LinkGood(bearer) => self.event(NodeEvent::LinkGood(bearer)),
            RouterOutput::ForgedLsa { from, origin } => self.event(NodeEvent::ForgedLsa { from, origin }),
            RouterOutput::RoutesChanged => self.routes_changed(now),
        }
    }

    /// Tells a neighbor what it once said of itself, should it have forgotten.
    fn return_past(&mut self, neighbor: &NodeId) {
        let past: Vec<Bytes> = self.pasts.of(neighbor).map(SignedLsa::encode).collect();
        if !past.is_empty() {
            self.send(neighbor, Frame::Lsas(past));
        }
    }

    /// Which records may go to a neighbor depends on the bearers that lead to it now.
    fn admit_classes(&mut self, now: Now, neighbor: &NodeId) {
        let urgent_only = self.router.choice(neighbor).is_some_and(|choice| choice.rest.is_none());
        self.custody.set_urgent_only(now, neighbor, urgent_only);
    }

    fn routes_changed(&mut self, now: Now) {
        let hops = self.router.next_hops();
        let downhill: Vec<NodeId> = hops.iter().filter(|hop| hop.downhill).map(|hop| hop.neighbor.clone()).collect();
        let next_hops: Vec<NodeId> = hops.into_iter().map(|hop| hop.neighbor).collect();
        if (&next_hops, &downhill) != (&self.next_hops, &self.downhill) {
            self.custody.set_downhill(&downhill);
            self.custody.set_next_hops(now, &next_hops);
            (self.next_hops, self.downhill) = (next_hops, downhill);
        }
        // A suspicion leads records around, and soon ends one way or the other: only then has the way changed.
        let is_settled = !self.next_hops.iter().any(|neighbor| self.router.is_suspect(neighbor));
        if is_settled && self.next_hops != self.told_next_hops {
            self.told_next_hops.clone_from(&self.next_hops);
            self.event(NodeEvent::NextHops(self.next_hops.clone()));
        }
        let to_hubs = self.router.hops_to_hubs();
        if to_hubs != self.hops_to_hubs {
            self.custody.set_hops_to_hubs(now, &to_hubs);
            self.hops_to_hubs = to_hubs;
        }
    }

    fn kept(&mut self, now: Now, output: CustodyOutput) {
        let output = match output {
            CustodyOutput::Send { to, frame } => {
                let owes_answer = matches!(frame, Frame::Offers(_) | Frame::Inventory(_));
                if let Some(bearer) = self.bearer(&to, Class::Urgent).filter(|_| owes_answer) {
                    self.router.busy(now, &bearer);
                }
                return self.send(&to, frame);
            }
            CustodyOutput::Event(event) => {
                if event == CustodyEvent::CommittedTwice {
                    self.committed_twice += 1;
                }
                Output::Event(NodeEvent::Custody(event))
            }
            CustodyOutput::Carry { to, id, class, chunks, first_chunk } => {
                // Where no bearer is left for it, custody has heard so since, and has taken it back.
                let Some(to) = self.bearer(&to, class) else { return };
                self.router.busy(now, &to);
                Output::Carry { to, id, class, chunks, first_chunk }
            }
            CustodyOutput::Store(record) => Output::Store(record),
            CustodyOutput::BeginTransfer { transfer, header, chunks } => {
                Output::BeginTransfer { transfer, header, chunks }
            }
            CustodyOutput::StoreChunk { transfer, index, data, hash } => {
                Output::StoreChunk { transfer, index, data, hash }
            }
            CustodyOutput::AbortTransfer(transfer) => Output::AbortTransfer(transfer),
            CustodyOutput::KeepReceipt(receipt) => Output::KeepReceipt(receipt),
            CustodyOutput::KeepConflicts { epoch, seqs } => {
                // The numbers up to there were given in another life.
                self.leave_epoch(self.captures.given());
                Output::KeepConflicts { epoch, seqs }
            }
            CustodyOutput::KeepLosses { origin, epoch, losses } => Output::KeepLosses { origin, epoch, losses },
            CustodyOutput::Release(ids) => Output::Release(ids),
            CustodyOutput::Recall { origin, epoch, seqs } => Output::Recall { origin, epoch, seqs },
            CustodyOutput::Compare { id, digest, from } => Output::Compare { id, digest, from },
        };
        self.outputs.push_back(output);
    }

    fn tell_ledger(&mut self) {
        self.router.set_ledger(self.ledger());
        if self.is_hub() {
            self.router.set_hub_ledger(HubLedger {
                committed: self.custody.committed_count(),
                committed_twice: self.committed_twice,
                head: self.head,
            });
        }
    }

    /// What this node says of its own captures, and of what else it holds.
    pub(crate) fn ledger(&self) -> OriginLedger {
        let epoch = self.captures.epoch();
        let others = self.custody.holdings().filter(|(origin, of, _)| **origin != self.me || *of != epoch);
        let mut pieces = 0;
        // What is too much to tell is told as a count.
        let told = others.take_while(|(_, _, held)| {
            pieces += 1 + held.pieces().len();
            pieces <= LEDGER_PIECES_MAX
        });
        OriginLedger {
            epoch,
            captured: self.captures.head().map_or(0, Seq::get),
            held: self.custody.own_held(epoch),
            receipted: self.custody.receipted().get(&(self.me.clone(), epoch)).cloned().unwrap_or_default(),
            former: self.former.iter().map(|(epoch, captured)| (*epoch, *captured)).collect(),
            holdings: told.map(|(origin, epoch, held)| Holding { origin: origin.clone(), epoch, held }).collect(),
            conflicts: self.told_conflicts(),
            transit_held: self.custody.transit_count(),
        }
    }

    /// What is too much to tell is told in part: one is enough to bring somebody here.
    fn told_conflicts(&self) -> Vec<(Epoch, SeqRanges)> {
        let mut pieces = 0;
        let told = self.custody.conflicts().iter().take_while(|(_, seqs)| {
            pieces += 1 + seqs.pieces().len();
            pieces <= LEDGER_PIECES_MAX
        });
        told.map(|(epoch, seqs)| (*epoch, seqs.clone())).collect()
    }

    /// Whoever has ever been heard.
    pub(crate) fn heard_origins(&self) -> impl Iterator<Item = &NodeId> {
        self.pasts.origins()
    }

    /// How much an origin is known to have captured, per epoch.
    pub(crate) fn known_captures(&self, origin: &NodeId) -> BTreeMap<Epoch, Count> {
        let mut captured = self.pasts.captured(origin);
        if *origin == self.me {
            self.former.iter().for_each(|(epoch, count)| raise(&mut captured, *epoch, *count));
        }
        captured
    }

    /// What a node last said of its captures and of what it holds, also one that was taken out of the topology since.
    #[must_use]
    pub fn last_word(&self, of: &NodeId) -> Option<&OriginLedger> {
        let heard = self.pasts.of(of).chain(self.router.lsdb().get(of)).map(SignedLsa::lsa);
        heard.max_by_key(|lsa| lsa.sequence)?.ledger.as_ref()
    }

    /// The bearer by which records of a class go to a neighbor.
    fn bearer(&self, neighbor: &NodeId, class: Class) -> Option<Bearer> {
        let medium = self.router.choice(neighbor)?.of_class(class)?;
        Some(Bearer::new(neighbor.clone(), medium))
    }

    /// Control goes where urgent records go.
    fn send(&mut self, to: &NodeId, frame: Frame) {
        let Some(to) = self.bearer(to, Class::Urgent) else { return };
        self.outputs.extend(frame.split().into_iter().map(|frame| Output::Send { to: to.clone(), frame }));
    }

    fn event(&mut self, event: NodeEvent) {
        self.outputs.push_back(Output::Event(event));
    }

    /// The next thing to do.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// When to hand in [`Input::Timeout`], and why. A time that has passed means now.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<(Now, Wakeup)> {
        let routing = self.router.poll_timeout().map(|(at, reason)| (at, Wakeup::Routing(reason)));
        let custody = self.custody.poll_timeout().map(|(at, reason)| (at, Wakeup::Custody(reason)));
        routing.into_iter().chain(custody).min_by_key(|(at, _)| *at)
    }

    /// This node's id.
    #[must_use]
    pub fn id(&self) -> &NodeId {
        &self.me
    }

    /// True if this node commits records.
    #[must_use]
    pub fn is_hub(&self) -> bool {
        self.topology.hub_ids().any(|hub| *hub == self.me)
    }

    /// The area.
    #[must_use]
    pub fn topology(&self) -> &Topology {
        &self.topology
    }

    /// Routing, to be asked.
    #[must_use]
    pub fn router(&self) -> &Router {
        &self.router
    }

    /// Custody, to be asked.
    #[must_use]
    pub fn custody(&self) -> &Custody {
        &self.custody
    }

    /// How many records this hub's store has more than once; 0, or a fault.
    #[must_use]
    pub fn committed_twice(&self) -> u64 {
        self.committed_twice
    }

    /// The slip of a record.
    #[must_use]
    pub fn slip(&self, id: &RecordId) -> Option<Slip> {
        Some(id.slip(self.topology.code_of(&id.origin)?))
    }

    /// The record of a slip.
    #[must_use]
    pub fn record_of(&self, slip: &Slip) -> Option<RecordId> {
        let origin = self.topology.id_by_code(slip.code)?.clone();
        Some(RecordId { origin, epoch: slip.epoch, seq: slip.seq })
    }

    /// Where a record is, as far as this node knows.
    #[must_use]
    pub fn whereabouts(&self, id: &RecordId) -> Whereabouts<'_> {
        if let Some(view) = self.custody.record(id) {
            return Whereabouts::Held(view);
        }
        if let Some(view) = self.custody.lost(id) {
            return Whereabouts::Lost(view);
        }
        self.custody.receipt_hub(id).map_or(Whereabouts::Unknown, |hub| Whereabouts::Receipted { hub })
    }
}

/// The newest number that was ever given in this epoch: of what is in the store, or what a receipt covers.
fn head(config: &NodeConfig, recovered: &Recovered) -> Option<Seq> {
    let mine = |origin: &NodeId, epoch: Epoch| *origin == config.me && epoch == config.epoch;
    let damaged = recovered.damaged.iter().map(|record| &record.id);
    let damaged = damaged.filter(|id| mine(&id.origin, id.epoch)).map(|id| id.seq).max();
    let stored = recovered.records.heads.get(&(config.me.clone(), config.epoch)).copied();
    let receipts = recovered.receipts.iter().filter(|receipt| mine(&receipt.key().origin, receipt.key().epoch));
    let receipted = receipts.filter_map(|receipt| receipt.committed().last()).max();
    let committed = recovered.committed.get(&(config.me.clone(), config.epoch)).and_then(SeqRanges::last);
    stored.max(damaged).max(receipted).max(committed)
}

fn node_keys(topology: &Topology) -> BTreeMap<NodeId, PublicKey> {
    topology.nodes.values().map(|node| (node.id.clone(), node.key)).collect()
}

fn router_config(
    me: &NodeId,
    topology: &Topology,
    signing_key: SigningKey,
    first_sequence: u64,
    durable: bool,
) -> RouterConfig {
    let mut link_risks = LinkRisks::new();
    for link in &topology.links {
        let [one, other] = &link.ends;
        link_risks.insert(one, other, link.cost, link.risks.iter().cloned());
    }
    let mut neighbors: BTreeMap<NodeId, BTreeMap<Medium, BearerTerms>> = BTreeMap::new();
    for (neighbor, link) in topology.neighbors(me) {
        let terms = BearerTerms { cost: link.cost, urgent_only: link.is_urgent_only() };
        neighbors.entry(neighbor.clone()).or_default().insert(link.medium, terms);
    }
    let (keys, hubs) = (node_keys(topology), topology.hub_ids().cloned().collect());
    let topology_version = topology.version;
    RouterConfig { neighbors, link_risks, keys, hubs, signing_key, first_sequence, durable, topology_version }
}
