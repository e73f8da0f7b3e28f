//! The custody machine of one node.

mod passing_on;
mod taking_in;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use bytes::Bytes;
use estafet_model::{
    ByteCount, Durable, Epoch, Idempotency, NodeId, Now, PublicKey, ReceiptKey, RecordId, SeqRanges, SetDigest,
    SignedHeader, SignedReceipt, SigningKey,
};
use estafet_wire::{Answer, Frame, Holding, Offer, ReceiptVersion, RecordSet, Verdict};

use self::passing_on::PassingOn;
use crate::custodians::Suspect;
use crate::damaged::Damaged;
use crate::inbound::{Inbound, RecoveredTransfer};
use crate::losses::Losses;
use crate::outbound::{HeldRecords, Outbound, Released};
use crate::output::{CustodyEvent, CustodyOutput, StorePayload, StoreRecord};
use crate::receipts::{News, Receipts, Received};
use crate::record::{HeldRecord, RecordView};

/// How long a neighbor is asked to wait when the store has no room.
const NO_ROOM_DELAY: Duration = Duration::from_secs(1);

/// Who this node is and whom it believes.
#[derive(Debug)]
pub struct CustodyConfig {
    /// This node.
    pub me: NodeId,
    /// The key that signs receipts, if this node is a hub.
    pub hub_key: Option<SigningKey>,
    /// Every node whose captures are taken, by the topology, with the keys that it signs or has signed them by.
    pub origins: BTreeMap<NodeId, Vec<PublicKey>>,
    /// Every hub whose receipts count, by the topology.
    pub hubs: BTreeMap<NodeId, PublicKey>,
    /// How many hubs are to have signed for a record before its origin lets it go; at most as many as there are.
    pub copies: usize,
    /// Transfer ids from here on belong to this machine.
    pub first_transfer: u64,
    /// How long a neighbor that has accepted a record may leave it without a receipt, at first: see [`RECEIPT_PATIENCE`](crate::RECEIPT_PATIENCE).
    pub receipt_patience: Duration,
    /// The store is durable. Without that nothing is accepted and, at a hub, no receipt is signed (P1).
    pub promises: bool,
}

/// What was found on the disk at start.
#[derive(Debug, Default)]
pub struct Recovered {
    /// At a relay: the records in the spool.
    pub records: HeldRecords,
    /// Own captures whose ids belong to other records, from a life of this spool that was lost.
    pub conflicts: BTreeMap<Epoch, SeqRanges>,
    /// Records that were in the store and cannot be read any more. At a hub they are not in `committed`.
    pub damaged: Vec<HeldRecord>,
    /// Payloads that were arriving.
    pub transfers: Vec<RecoveredTransfer>,
    /// The receipts in the spool.
    pub receipts: Vec<SignedReceipt>,
    /// At a hub: everything committed.
    pub committed: BTreeMap<(NodeId, Epoch), SeqRanges>,
    /// At a hub: what it has kept of its losses.
    pub losses: BTreeMap<(NodeId, Epoch), Losses>,
}

/// One node's custody. See the crate documentation for how to drive it.
#[derive(Debug)]
pub struct Custody {
    origins: BTreeMap<NodeId, Vec<PublicKey>>,
    outbound: Outbound,
    inbound: Inbound,
    receipts: Receipts,
    damaged: Damaged,
    /// Own captures that no receipt may release.
    conflicts: BTreeMap<Epoch, SeqRanges>,
    passing_on: PassingOn,
    room: ByteCount,
    promises: bool,
    outputs: VecDeque<CustodyOutput>,
}

impl Custody {
    /// Starts from what the disk holds. Records that a recovered receipt covers are released at once.
    #[must_use]
    pub fn new(config: CustodyConfig, recovered: Recovered) -> Self {
        let me = config.me.clone();
        let mut outbound = recovered.records.0;
        outbound.begin(&me, config.hubs.keys(), config.receipt_patience);
        let mut custody = Self {
            origins: config.origins,
            outbound,
            inbound: Inbound::new(config.first_transfer),
            receipts: Receipts::new(config.me, config.hub_key, config.hubs, config.copies, config.promises),
            damaged: Damaged::default(),
            conflicts: recovered.conflicts,
            passing_on: PassingOn::default(),
            promises: config.promises,
            room: ByteCount(u64::MAX),
            outputs: VecDeque::new(),
        };
        let changed = custody.receipts.recover(recovered.receipts, recovered.committed, &recovered.losses);
        for _ in 0..changed {
            let event = CustodyEvent::BadReceipt { from: me.clone(), why: "changed on this node's own disk" };
            custody.outputs.push_back(CustodyOutput::Event(event));
        }
        let mut released = Vec::new();
        for (epoch, seqs) in &custody.conflicts {
            custody.outbound.recover_conflicts(*epoch, seqs);
        }
        for ((origin, epoch), receipted) in custody.receipts.covered() {
            let ended = custody.less_conflicts(origin, *epoch, receipted);
            let signatures = custody.receipts.signatures(origin, *epoch);
            released.extend(custody.outbound.release(Now::default(), origin, *epoch, &ended, &signatures).ids);
        }
        if !released.is_empty() {
            custody.outputs.push_back(CustodyOutput::Release(released));
        }
        for record in recovered.damaged {
            if !custody.receipts.is_done(&record.id) && custody.outbound.digest(&record.id).is_none() {
                custody.outputs.push_back(CustodyOutput::Event(CustodyEvent::Lost(record.id.clone())));
                custody.damaged.recover(record);
            }
        }
        custody.note_new_losses(&recovered.losses);
        custody.receipts.sign();
        recovered.transfers.into_iter().for_each(|transfer| custody.recover_transfer(transfer));
        custody
    }

    /// Whose captures are taken from now on, and by which keys. What is in quarantine for its origin's sake is tried again by
    /// itself in time, or when somebody asks.
    pub fn set_origins(&mut self, origins: BTreeMap<NodeId, Vec<PublicKey>>) {
        self.origins = origins;
    }

    /// At a hub: what was found damaged at the start, and was not known to be, is taken back.
    fn note_new_losses(&mut self, known: &BTreeMap<(NodeId, Epoch), Losses>) {
        if !self.receipts.is_hub() {
            return;
        }
        let is_known = |id: &RecordId| {
            known.get(&(id.origin.clone(), id.epoch)).is_some_and(|losses| losses.seqs.contains(id.seq))
        };
        let new = self.damaged.all_ids().filter(|id| !is_known(id));
        let origins: BTreeSet<(NodeId, Epoch)> = new.map(|id| (id.origin.clone(), id.epoch)).collect();
        for origin in origins {
            self.note_loss(origin);
        }
    }

    /// This hub takes numbers of this origin's epoch back once more.
    fn note_loss(&mut self, origin: (NodeId, Epoch)) {
        let count = self.receipts.loss_count(&origin).saturating_add(1);
        self.note_losses(origin, count);
    }

    fn note_losses(&mut self, origin: (NodeId, Epoch), count: u32) {
        let seqs = self.damaged.seqs(&origin.0, origin.1);
        self.receipts.note_losses(origin, Losses { count, seqs }, &mut self.outputs);
    }

    /// A payload that was arriving goes on, unless its record came by another way or is refused by now.
    fn recover_transfer(&mut self, found: RecoveredTransfer) {
        let id = &found.header.header().id;
        let here = self.outbound.digest(id).is_some() || self.receipts.is_done(id);
        if here || !self.origins.contains_key(&id.origin) {
            self.outputs.push_back(CustodyOutput::AbortTransfer(found.transfer));
        } else {
            self.inbound.recover(found, &mut self.outputs);
        }
    }

    /// A neighbor's adjacency is up. Records go to it once it has said what it knows receipted.
    pub fn neighbor_up(&mut self, neighbor: &NodeId) {
        let frame = self.receipts.neighbor_up(neighbor);
        self.outputs.push_back(CustodyOutput::Send { to: neighbor.clone(), frame });
    }

    /// A neighbor's adjacency is down. What it had been handed goes another way, if there is one (P5).
    pub fn neighbor_down(&mut self, now: Now, neighbor: &NodeId) {
        self.receipts.neighbor_down(neighbor);
        self.inbound.neighbor_down(neighbor, &mut self.outputs);
        let records = self.outbound.close_lane(now, neighbor);
        if records > 0 {
            let event = CustodyEvent::TakenBack { from: neighbor.clone(), records };
            self.outputs.push_back(CustodyOutput::Event(event));
        }
        self.grant(now);
        self.dispatch(now);
    }

    /// A neighbor owes answers suspiciously long. What has another way by now takes that as well, with some of what the
    /// neighbor has accepted within the last second; and what it was to send may come from whoever has it.
    pub fn suspect(&mut self, now: Now, neighbor: &NodeId) {
        self.inbound.suspect(now, neighbor);
        let records = self.outbound.suspect(now, neighbor);
        self.diverted(now, neighbor, records);
    }

    /// The link to a neighbor is bad. What has another way by now takes that as well.
    pub fn divert(&mut self, now: Now, neighbor: &NodeId) {
        let records = self.outbound.divert(now, neighbor);
        self.diverted(now, neighbor, records);
    }

    fn diverted(&mut self, now: Now, neighbor: &NodeId, records: usize) {
        if records > 0 {
            let event = CustodyEvent::Diverted { around: neighbor.clone(), records };
            self.outputs.push_back(CustodyOutput::Event(event));
            self.dispatch(now);
        }
    }

    /// Those of the next hops that are nearer to a hub than this node, by the map, best first: a queue that is larger than
    /// the window of the best one spreads over them. To be told before [`Custody::set_next_hops`].
    pub fn set_downhill(&mut self, downhill: &[NodeId]) {
        self.outbound.set_downhill(downhill);
    }

    /// How long a record of 64 KiB takes to a neighbor that is up, by what was measured of late: receipts, which can wait for
    /// newer ones, leave most of a weak link to the rest.
    pub fn set_record_time(&mut self, neighbor: &NodeId, record_time: Duration) {
        self.receipts.set_record_time(neighbor, record_time);
    }

    /// Over a bearer that is left, what this node said to a neighbor, or the answers, may be lost. What is unanswered goes to
    /// it again, or another way if there is a better one now; so do receipts. What the neighbor was told to send may be lost as
    /// well: it offers that again, as much as its window has room for, and no room is kept free for the rest.
    pub fn say_again(&mut self, now: Now, neighbor: &NodeId) {
        let frame = self.receipts.neighbor_up(neighbor);
        self.outputs.push_back(CustodyOutput::Send { to: neighbor.clone(), frame });
        let lost = self.damaged.ids();
        if !lost.is_empty() {
            self.outputs.push_back(CustodyOutput::Send { to: neighbor.clone(), frame: Frame::Seek(lost) });
        }
        self.inbound.expect_nothing(neighbor, &mut self.outputs);
        self.grant(now);
        let records = self.outbound.say_again(now, neighbor);
        if records > 0 {
            let event = CustodyEvent::SaidAgain { to: neighbor.clone(), records };
            self.outputs.push_back(CustodyOutput::Event(event));
        }
        self.dispatch(now);
    }

    /// The links that lead to a neighbor now are metered and carry urgent records only, or all may go again. To be said
    /// before [`Custody::neighbor_up`] as well.
    pub fn set_urgent_only(&mut self, now: Now, neighbor: &NodeId, urgent_only: bool) {
        self.outbound.set_urgent_only(neighbor, urgent_only);
        self.dispatch(now);
    }

    /// The neighbors that records may go to, best first.
    pub fn set_next_hops(&mut self, now: Now, next_hops: &[NodeId]) {
        self.outbound.set_next_hops(now, next_hops);
        self.dispatch(now);
    }

    /// The neighbors toward each hub that takes records, best first. A hub passes on to them what they lack.
    pub fn set_hops_to_hubs(&mut self, now: Now, hops: &BTreeMap<NodeId, Vec<NodeId>>) {
        self.outbound.set_hops_to_hubs(hops);
        if self.receipts.is_hub() {
            for hub in self.receipts.other_hubs().filter(|hub| !hops.contains_key(*hub)) {
                self.outbound.drop_copies_for(hub);
            }
            self.passing_on.look_soon(now);
        }
        self.dispatch(now);
    }

    /// This node is about to go, or not any more. While it is, its own captures go before transit, and the urgent first.
    pub fn set_draining(&mut self, draining: bool) {
        self.outbound.set_draining(draining);
    }

    /// How many records no neighbor has accepted yet, those that are refused left out.
    #[must_use]
    pub fn unaccepted_count(&self) -> usize {
        self.outbound.unaccepted_count()
    }

    /// How much the store can still take.
    pub fn set_room(&mut self, room: ByteCount) {
        self.room = room;
        if room == ByteCount(0) {
            self.inbound.make_room(&mut self.outputs);
        }
    }

    /// An own capture, signed, is to be stored.
    pub fn capture(&mut self, header: SignedHeader, idempotency: Option<Idempotency>, payload: StorePayload) {
        self.inbound.store_own(header.header().id.clone(), header.digest());
        let record = StoreRecord { header, received_from: None, idempotency, payload };
        self.outputs.push_back(CustodyOutput::Store(Box::new(record)));
    }

    /// Records are durable here. At a relay they are in its custody now, at a hub they are committed; either way
    /// whoever sent them hears so. A batch of one sync makes one frame per neighbor.
    pub fn stored(&mut self, now: Now, records: Vec<Durable<HeldRecord>>) {
        let mut accepted: BTreeMap<NodeId, Vec<RecordId>> = BTreeMap::new();
        for record in records {
            let id = record.get().id.clone();
            let (waiting, for_hub) = self.inbound.end_storing(&id);
            for neighbor in waiting.into_iter().filter(|_| self.promises) {
                accepted.entry(neighbor).or_default().push(id.clone());
            }
            if self.damaged.remove(&id).is_some() {
                self.outputs.push_back(CustodyOutput::Event(CustodyEvent::Healed(id.clone())));
            }
            if self.receipts.is_hub() {
                let new = self.receipts.commit(now, record.map(|record| record.id));
                let event = if new { CustodyEvent::Committed(id) } else { CustodyEvent::CommittedTwice };
                self.outputs.push_back(CustodyOutput::Event(event));
                self.passing_on.look_soon(now);
            } else if let Some(hub) = for_hub.filter(|hub| !self.receipts.is_signed_by(hub, &id)) {
                self.outbound.hold_for(now, record, &hub);
            } else if self.receipts.is_covered(&id) {
                match self.outbound.hold_receipted(now, record) {
                    Some(id) => self.receipts.release_late(id, &mut self.outputs),
                    None => self.keep_conflicts(id.epoch, &SeqRanges::of(id.seq)),
                }
            } else {
                self.outbound.hold(now, record);
            }
        }
        for (to, ids) in accepted {
            self.receipts.has_handed_over(&to, ids.len());
            self.outputs.push_back(CustodyOutput::Send { to, frame: Frame::Acceptances(ids) });
        }
        self.receipts.spread(now, &mut self.outputs);
        self.dispatch(now);
    }

    /// The store could not make the record durable: nothing is promised.
    pub fn store_failed(&mut self, id: &RecordId) {
        for neighbor in self.inbound.end_storing(id).0 {
            self.answer(&neighbor, vec![Answer { id: id.clone(), verdict: Verdict::Full(NO_ROOM_DELAY) }]);
        }
    }

    /// A neighbor's answers.
    pub fn answers(&mut self, now: Now, from: &NodeId, answers: Vec<Answer>) {
        let mut withdrawn = Vec::new();
        for Answer { id, verdict } in answers {
            match verdict {
                Verdict::Want { first_chunk } => {
                    if !self.outbound.wanted(now, &id, from, first_chunk, &mut self.outputs) {
                        withdrawn.push(id);
                    }
                }
                Verdict::Have => self.outbound.has_already(now, &id, from),
                Verdict::Wait(delay) => self.outbound.asked_to_wait(now, &id, from, delay),
                Verdict::Full(delay) => self.outbound.neighbor_full(now, &id, from, delay),
                Verdict::Never(reason) => {
                    let event = self.outbound.refused(now, &id, from, reason);
                    self.outputs.extend(event.map(CustodyOutput::Event));
                }
            }
        }
        if !withdrawn.is_empty() {
            // Or the neighbor would keep room for them that another needs.
            self.outputs.push_back(CustodyOutput::Send { to: from.clone(), frame: Frame::Withdrawn(withdrawn) });
        }
        self.dispatch(now);
    }

    /// A neighbor asks which of these records are here. To say that one is takes on the duty to pass it on, as by
    /// [`Verdict::Have`]; what is being stored, lost or receipted is left to offers.
    pub fn inventory(&mut self, now: Now, from: &NodeId, sets: &[RecordSet]) {
        let holding = |set: &RecordSet| match self.promises {
            true => self.outbound.take_inventory(now, set, from),
            false => Holding { set: set.of_which(|_| false), digest: SetDigest::of([]) },
        };
        let frame = Frame::Holdings(sets.iter().map(holding).collect());
        self.outputs.push_back(CustodyOutput::Send { to: from.clone(), frame });
    }

    /// A neighbor's answers to inventories.
    pub fn neighbor_holdings(&mut self, now: Now, from: &NodeId, holdings: &[Holding]) {
        for holding in holdings {
            self.outbound.answered(now, from, holding);
        }
        self.dispatch(now);
    }

    /// Records are durable with a neighbor.
    pub fn acceptances(&mut self, now: Now, from: &NodeId, ids: &[RecordId]) {
        for id in ids {
            self.outbound.accepted(now, id, from);
        }
        self.dispatch(now);
    }

    /// A neighbor's summary of the receipts it has.
    pub fn receipt_summary(&mut self, from: &NodeId, versions: Vec<ReceiptVersion>) {
        if let Some(frame) = self.receipts.summary(from, versions) {
            self.outputs.push_back(CustodyOutput::Send { to: from.clone(), frame });
        }
    }

    /// Receipts from a neighbor. The first after it came up also opens its lane: what they cover need not be offered.
    pub fn receipts(&mut self, now: Now, from: &NodeId, receipts: &[Bytes]) {
        for encoded in receipts {
            match self.receipts.receive(now, from, encoded) {
                Ok(Received::Known) => {}
                Ok(Received::News(news)) => self.news(now, *news),
                Ok(Received::OwnPast { key, lost, losses }) => self.own_past(&key, lost, losses),
                Err(why) => {
                    let event = CustodyEvent::BadReceipt { from: from.clone(), why };
                    self.outputs.push_back(CustodyOutput::Event(event));
                }
            }
        }
        self.open_lane(from);
        self.receipts.spread(now, &mut self.outputs);
        self.dispatch(now);
    }

    fn news(&mut self, now: Now, News { receipt, new, lost }: News) {
        let key = receipt.key().clone();
        let recalls =
            if self.outbound.is_me(&key.origin) { self.receipts.uncovered(&key, &lost) } else { SeqRanges::new() };
        self.outbound.need_again(now, &key.origin, key.epoch, &recalls);
        self.tell_lost(&key, lost);
        let ended = self.less_conflicts(&key.origin, key.epoch, &new);
        let signatures = self.receipts.signatures(&key.origin, key.epoch);
        let Released { ids: mut released, conflicts } =
            self.outbound.release(now, &key.origin, key.epoch, &ended, &signatures);
        self.take_from_mistrusted(now);
        if !conflicts.is_empty() {
            self.keep_conflicts(key.epoch, &conflicts);
        }
        if self.receipts.is_hub() {
            // What another hub has is to be here all the same, for ever.
            released.clear();
            self.passing_on.look_soon(now);
        } else {
            let covered = |id: &RecordId| id.origin == key.origin && id.epoch == key.epoch && ended.contains(id.seq);
            released.extend(self.damaged.remove_if(covered));
            self.inbound.cancel_receipted(&key, &new, &mut self.outputs);
        }
        self.receipts.keep(receipt, released, recalls, &mut self.outputs);
    }

    /// What a neighbor has accepted that is trusted no longer goes another way.
    fn take_from_mistrusted(&mut self, now: Now) {
        for (neighbor, records) in self.outbound.take_from_mistrusted(now) {
            let event = CustodyEvent::Mistrusted { neighbor, records };
            self.outputs.push_back(CustodyOutput::Event(event));
            self.dispatch(now);
        }
    }

    /// The neighbors that accepted records which others brought home.
    #[must_use]
    pub fn suspects(&self) -> Vec<Suspect> {
        self.outbound.suspects()
    }

    /// A neighbor returns what this hub once signed, and has forgotten: its archive is not the newest that it had. Its
    /// next word is to be newer than that, and to take back what is not here.
    fn own_past(&mut self, key: &ReceiptKey, lost: SeqRanges, losses: u32) {
        let origin = (key.origin.clone(), key.epoch);
        if losses > self.receipts.loss_count(&origin) {
            self.note_losses(origin, losses);
            self.tell_lost(key, lost);
        }
    }

    fn tell_lost(&mut self, key: &ReceiptKey, lost: SeqRanges) {
        if !lost.is_empty() {
            let event = CustodyEvent::LostByHub { key: key.clone(), seqs: lost };
            self.outputs.push_back(CustodyOutput::Event(event));
        }
    }

    /// The store has found released captures again, which the hub has lost: they are held, and go to the hub once more.
    pub fn recalled(&mut self, now: Now, records: Vec<Durable<HeldRecord>>) {
        if self.receipts.is_hub() {
            return self.found_for_others(now, records);
        }
        let mut recalled = 0;
        for record in records {
            let id = record.get().id.clone();
            if self.receipts.is_covered(&id) {
                self.receipts.release_late(id, &mut self.outputs);
            } else {
                self.outbound.hold_again(now, record);
                recalled += 1;
            }
        }
        if recalled > 0 {
            self.outputs.push_back(CustodyOutput::Event(CustodyEvent::Recalled { records: recalled }));
        }
        self.dispatch(now);
    }

    /// What a receipt ends of what it covers: own captures that are known for conflicts stay, also when the receipt that
    /// made them so was lost with a crash and comes once more.
    fn less_conflicts(&self, origin: &NodeId, epoch: Epoch, receipted: &SeqRanges) -> SeqRanges {
        let conflicts = self.conflicts.get(&epoch).filter(|_| self.outbound.is_me(origin));
        conflicts.map_or_else(|| receipted.clone(), |conflicts| receipted.minus(conflicts))
    }

    /// Own captures that no receipt may release, because a receipt is for other records with their ids.
    #[must_use]
    pub fn conflicts(&self) -> &BTreeMap<Epoch, SeqRanges> {
        &self.conflicts
    }

    fn keep_conflicts(&mut self, epoch: Epoch, new: &SeqRanges) {
        let all = self.conflicts.entry(epoch).or_default();
        *all = all.union(new);
        let seqs = all.clone();
        self.outputs.push_back(CustodyOutput::KeepConflicts { epoch, seqs });
    }

    fn open_lane(&mut self, neighbor: &NodeId) {
        let ids = self.damaged.ids();
        if self.outbound.open_lane(neighbor) && !ids.is_empty() {
            self.outputs.push_back(CustodyOutput::Send { to: neighbor.clone(), frame: Frame::Seek(ids) });
        }
    }

    /// A receipt is durable here, in the order they were to be kept: what it covers may go.
    pub fn receipt_kept(&mut self, key: &Durable<ReceiptKey>) {
        self.receipts.kept(key, &mut self.outputs);
    }

    /// The driver could not read a record it was to carry. It is held no longer, but sought from the neighbors.
    pub fn unreadable(&mut self, now: Now, id: &RecordId) {
        if self.receipts.is_hub() {
            // The driver looks what the archive has, and says so.
            self.outbound.lose(id);
        } else if let Some(view) = self.outbound.lose(id) {
            self.outputs.push_back(CustodyOutput::Event(CustodyEvent::Lost(id.clone())));
            self.damaged.insert(now, view);
            self.seek(now);
        }
    }

    /// The archive of this hub cannot give back a record that is committed. It is committed no longer, sought from the
    /// neighbors, and the receipts say so.
    pub fn committed_unreadable(&mut self, now: Now, record: HeldRecord) {
        if !self.receipts.lose(&record.id) {
            return;
        }
        self.outbound.lose(&record.id);
        let origin = (record.id.origin.clone(), record.id.epoch);
        self.outputs.push_back(CustodyOutput::Event(CustodyEvent::Lost(record.id.clone())));
        self.damaged.insert_committed(now, record);
        self.note_loss(origin);
        self.seek(now);
    }

    /// This hub's losses are durable, in the order they were to be kept: it may sign again.
    pub fn losses_kept(&mut self, now: Now) {
        self.receipts.losses_kept(now);
        self.receipts.spread(now, &mut self.outputs);
    }

    /// A neighbor has lost these records.
    pub fn sought(&mut self, now: Now, from: &NodeId, ids: &[RecordId]) {
        // Whoever has lost a record does not send it.
        self.withdrawn(now, from, ids);
        let offers: Vec<Offer> = ids.iter().filter_map(|id| self.outbound.sought(now, id, from)).collect();
        if !offers.is_empty() {
            self.outputs.push_back(CustodyOutput::Send { to: from.clone(), frame: Frame::Offers(offers) });
        }
    }

    fn seek(&mut self, now: Now) {
        let ids = self.damaged.due(now);
        if ids.is_empty() {
            return;
        }
        for to in self.outbound.open_lanes() {
            self.outputs.push_back(CustodyOutput::Send { to, frame: Frame::Seek(ids.clone()) });
        }
    }

    /// Tries records in quarantine again, all of them or one; says how many there were.
    pub fn retry(&mut self, now: Now, only: Option<&RecordId>) -> usize {
        let refused = self.outbound.retry(now, only);
        let damaged = only.map_or(self.damaged.len(), |id| usize::from(self.damaged.digest(id).is_some()));
        self.damaged.ask_now(now);
        self.seek(now);
        self.dispatch(now);
        refused + damaged
    }

    /// Time has come.
    pub fn handle_timeout(&mut self, now: Now) {
        self.outbound.handle_timeout(now);
        self.seek(now);
        self.receipts.spread(now, &mut self.outputs);
        self.pass_on(now);
        self.grant(now);
        self.dispatch(now);
    }

    /// When to call [`Custody::handle_timeout`] next, and why.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<(Now, &'static str)> {
        let spread = self.receipts.poll_timeout().map(|at| (at, "receipts to spread"));
        let seek = self.damaged.poll_timeout().map(|at| (at, "lost records to ask for"));
        let pass_on = self.passing_on.poll_timeout().filter(|_| self.receipts.is_hub());
        let pass_on = pass_on.map(|at| (at, "what other hubs lack"));
        let own = spread.into_iter().chain(seek).chain(pass_on);
        own.chain(self.inbound.poll_timeout()).chain(self.outbound.poll_timeout()).min()
    }

    /// The next thing to do.
    pub fn poll_output(&mut self) -> Option<CustodyOutput> {
        self.outputs.pop_front()
    }

    fn dispatch(&mut self, now: Now) {
        self.outbound.dispatch(now, &mut self.outputs);
    }

    /// A held record, if it is held here.
    #[must_use]
    pub fn record(&self, id: &RecordId) -> Option<RecordView> {
        self.outbound.view(id)
    }

    /// Every held record, in the order in which they are listed.
    pub fn records(&self) -> impl Iterator<Item = RecordView> {
        self.outbound.views_after(None)
    }

    /// Every held record behind `after`: the next page of a listing.
    pub fn records_after(&self, after: Option<&RecordId>) -> impl Iterator<Item = RecordView> {
        self.outbound.views_after(after)
    }

    /// A record that was held here and cannot be read any more.
    #[must_use]
    pub fn lost(&self, id: &RecordId) -> Option<RecordView> {
        self.damaged.view(id)
    }

    /// The records in quarantine: those that neighbors refuse, which are held here, and those that this node has lost.
    pub fn quarantine(&self) -> impl Iterator<Item = RecordView> {
        self.outbound.refused_views().chain(self.damaged.views())
    }

    /// True if the neighbor was handed records that it has not answered.
    #[must_use]
    pub fn awaits_answer(&self, neighbor: &NodeId) -> bool {
        self.outbound.awaits_answer(neighbor)
    }

    /// How many records are held for whichever hub is nearest, own and others'.
    #[must_use]
    pub fn held_count(&self) -> u64 {
        self.outbound.held_count()
    }

    /// How many records of others are held for whichever hub is nearest.
    #[must_use]
    pub fn transit_count(&self) -> u64 {
        self.outbound.transit_count()
    }

    /// How many records are held beside those, for a hub that lacks what another has.
    #[must_use]
    pub fn copies_count(&self) -> u64 {
        self.outbound.copies_count()
    }

    /// The own captures of `epoch` that are held without a receipt of any hub.
    #[must_use]
    pub fn own_held(&self, epoch: Epoch) -> SeqRanges {
        let own = self.outbound.own_held(epoch);
        own.map(|(me, held)| self.without_receipt(me, epoch, held)).unwrap_or_default()
    }

    /// Per origin and epoch, the numbers of all that is held here without a receipt of any hub.
    pub fn holdings(&self) -> impl Iterator<Item = (&NodeId, Epoch, SeqRanges)> {
        let uncovered = |(origin, epoch, held)| (origin, epoch, self.without_receipt(origin, epoch, held));
        self.outbound.holdings().map(uncovered).filter(|(_, _, held)| !held.is_empty())
    }

    /// Those of the held numbers for which there is no receipt, or one for another record.
    fn without_receipt(&self, origin: &NodeId, epoch: Epoch, held: &SeqRanges) -> SeqRanges {
        let covered = self.receipts.covered().get(&(origin.clone(), epoch));
        covered.map_or_else(|| held.clone(), |covered| held.minus(&self.less_conflicts(origin, epoch, covered)))
    }

    /// Per origin and epoch, what is known to be committed at a hub.
    #[must_use]
    pub fn receipted(&self) -> &BTreeMap<(NodeId, Epoch), SeqRanges> {
        self.receipts.covered()
    }

    /// The hub whose receipt covers the record.
    #[must_use]
    pub fn receipt_hub(&self, id: &RecordId) -> Option<&NodeId> {
        self.receipts.hub_of(id)
    }

    /// True if some hub had to take numbers of this origin's epoch back, by the receipts that are known here.
    #[must_use]
    pub fn has_losses(&self, origin: &NodeId, epoch: Epoch) -> bool {
        self.receipts.has_losses(origin, epoch)
    }

    /// How often hubs had to take committed numbers back, by the receipts that are known here: 0, or some main server's
    /// disk failed.
    #[must_use]
    pub fn receipt_losses(&self) -> u64 {
        self.receipts.losses()
    }

    /// How many records this hub has committed.
    #[must_use]
    pub fn committed_count(&self) -> u64 {
        self.receipts.committed_count()
    }
}
