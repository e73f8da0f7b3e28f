//! The records this node holds, and handing them on.
//!
//! Each held record is in exactly one state. Nothing about sending is kept on disk: after a restart every record
//! waits, is offered again, and the neighbor says what it has.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ops::Bound;
use std::time::Duration;

use estafet_model::{
    Class, Durable, HeaderDigest, NodeId, Now, PayloadHash, RecordId, Seq, SeqRanges, UnixMillis, chunk_count,
};
use estafet_wire::{Frame, NeverReason, Offer};

use crate::output::{CustodyEvent, CustodyOutput};

/// Payloads up to this size travel without being offered first: the offer's round trip would cost more than a
/// duplicate does.
const UNOFFERED_BYTES_MAX: u32 = 16 << 10;

/// What a neighbor may have been handed without having answered. The bytes cover 100 Mbit/s over 1.3 s of sync and
/// round trip; the count bounds the bookkeeping of small records.
const WINDOW_RECORDS: usize = 4096;
const WINDOW_BYTES: u64 = 16 << 20;

/// One pick in so many goes to the lowest class that waits, so that none starves.
const LOW_CLASS_EVERY: u64 = 8;

/// How many records at the head of a class are looked at for one that can go somewhere.
const SCAN_MAX: usize = 32;

/// A neighbor that asks for less time than this will soon take the record, or have it from elsewhere: another way would
/// carry the payload twice. Whoever asks for more is full, and the record goes another way if there is one.
const WORTH_WAITING: Duration = Duration::from_millis(500);

/// How long a record rests that a neighbor refuses for good: a person has to act, or another neighbor appears.
const REFUSED_REST: Duration = Duration::from_secs(60);

/// How long a record rests that came back by the way it went, while routes settle.
const RETURNED_REST: Duration = Duration::from_millis(50);

/// How long a record rests that could not be read from this node's own disk.
const UNREADABLE_REST: Duration = Duration::from_secs(10);

/// A record in this node's custody: what is kept in memory of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HeldRecord {
    /// Which record.
    pub id: RecordId,
    /// How urgent.
    pub class: Class,
    /// How long its payload is.
    pub payload_bytes: u32,
    /// Its payload's hash.
    pub payload_hash: PayloadHash,
    /// Its header's hash.
    pub digest: HeaderDigest,
    /// The neighbor it came from; nobody if it was captured here.
    pub received_from: Option<NodeId>,
    /// When it became durable here.
    pub stored_at: UnixMillis,
}

/// Why a record waits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WaitReason {
    /// For a next hop, or for room in its window.
    Turn,
    /// The neighbor that had it is gone.
    NeighborLost(NodeId),
    /// The neighbor asked for time.
    AskedToWait(NodeId),
    /// The neighbor refuses it for good.
    Refused(NodeId, NeverReason),
    /// A neighbor offered it after it had gone on from here.
    Returned(NodeId),
    /// This node could not read it from its own disk.
    Unreadable,
}

/// Where a held record stands. There is no other state, and none of them is on disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RecordState {
    /// Here, to be handed on.
    Waiting {
        /// Why it is not on its way.
        why: WaitReason,
        /// Not before this time.
        until: Option<Now>,
    },
    /// On its way to a neighbor that has not answered.
    Offered {
        /// The neighbor.
        to: NodeId,
    },
    /// Durable with the next custodian; the copy stays until the receipt.
    Accepted {
        /// The next custodian.
        by: NodeId,
    },
}

/// A held record as others may see it.
#[derive(Debug, Clone)]
pub struct RecordView<'a> {
    /// What is known of the record.
    pub record: &'a HeldRecord,
    /// Where it stands.
    pub state: &'a RecordState,
    /// Since when.
    pub since: Now,
}

#[derive(Debug)]
struct Held {
    record: HeldRecord,
    order: u64,
    state: RecordState,
    since: Now,
    /// It went to some neighbor before: offer it, because the neighbor may have it.
    tried: bool,
    /// While it was on its way to one neighbor, another offered it.
    offered_meanwhile: bool,
    /// The neighbors that asked for time since it last rested: others come first.
    asked_for_time: Vec<NodeId>,
}

/// What one neighbor has been handed.
#[derive(Debug, Default)]
struct Lane {
    /// Offered to it or accepted by it.
    handed: BTreeSet<RecordId>,
    unanswered_records: usize,
    unanswered_bytes: u64,
}

impl Lane {
    fn has_room(&self, bytes: u32) -> bool {
        let fits = self.unanswered_bytes + u64::from(bytes) <= WINDOW_BYTES;
        self.unanswered_records == 0 || (fits && self.unanswered_records < WINDOW_RECORDS)
    }
}

#[derive(Debug, Default)]
pub(crate) struct Outbound {
    me: Option<NodeId>,
    records: BTreeMap<RecordId, Held>,
    own_held: BTreeMap<u16, SeqRanges>,
    own_count: usize,
    /// Records that may go now, per class, oldest first.
    ready: [BTreeMap<u64, RecordId>; 3],
    resting: BTreeSet<(Now, RecordId)>,
    lanes: BTreeMap<NodeId, Lane>,
    next_hops: Vec<NodeId>,
    next_order: u64,
    picks: u64,
}

impl Outbound {
    pub(crate) fn new(me: NodeId) -> Self {
        Self { me: Some(me), ..Self::default() }
    }

    /// Takes custody of a record that has just become durable here.
    pub(crate) fn hold(&mut self, now: Now, record: Durable<HeldRecord>) {
        self.keep(now, record.into_inner(), false);
    }

    /// Takes back custody of a record that was found on the disk. Some neighbor may have it from an earlier life.
    pub(crate) fn recover(&mut self, record: Durable<HeldRecord>) {
        self.keep(Now::default(), record.into_inner(), true);
    }

    fn keep(&mut self, now: Now, record: HeldRecord, tried: bool) {
        if self.records.contains_key(&record.id) {
            return;
        }
        let order = self.next_order;
        self.next_order += 1;
        if Some(&record.id.origin) == self.me.as_ref() {
            self.own_held.entry(record.id.epoch.get()).or_default().insert(record.id.seq);
            self.own_count += 1;
        }
        self.ready[record.class as usize].insert(order, record.id.clone());
        let state = RecordState::Waiting { why: WaitReason::Turn, until: None };
        let (offered_meanwhile, asked_for_time) = (false, Vec::new());
        self.records.insert(
            record.id.clone(),
            Held { record, order, state, since: now, tried, offered_meanwhile, asked_for_time },
        );
    }

    /// Ends custody of the records of one origin's epoch whose numbers are in `receipted`; returns which.
    pub(crate) fn release(
        &mut self,
        origin: &NodeId,
        epoch: estafet_model::Epoch,
        receipted: &SeqRanges,
    ) -> Vec<RecordId> {
        let mut released = Vec::new();
        for piece in receipted.pieces() {
            let at = |seq: u32| RecordId { origin: origin.clone(), epoch, seq: Seq::new(seq).unwrap_or(Seq::MAX) };
            released.extend(self.records.range(at(piece.first)..=at(piece.last)).map(|(id, _)| id.clone()));
        }
        for id in &released {
            self.forget(id);
        }
        if self.me.as_ref() == Some(origin) {
            let held = self.own_held.entry(epoch.get()).or_default();
            *held = held.minus(receipted);
            self.own_count -= released.len();
        }
        released
    }

    fn forget(&mut self, id: &RecordId) {
        if let Some(held) = self.records.remove(id) {
            self.leave_state(&held.record, held.order, &held.state);
        }
    }

    /// Takes a record out of the queue or lane that its state has it in.
    fn leave_state(&mut self, record: &HeldRecord, order: u64, state: &RecordState) {
        match state {
            RecordState::Waiting { until: Some(until), .. } => {
                self.resting.remove(&(*until, record.id.clone()));
            }
            RecordState::Waiting { until: None, .. } => {
                self.ready[record.class as usize].remove(&order);
            }
            RecordState::Offered { to } => Self::leave_lane(&mut self.lanes, to, record, true),
            RecordState::Accepted { by } => Self::leave_lane(&mut self.lanes, by, record, false),
        }
    }

    /// Puts a record into the queue or lane that its state wants it in.
    fn enter_state(&mut self, record: &HeldRecord, order: u64, state: &RecordState) {
        let id = record.id.clone();
        match state {
            RecordState::Waiting { until: Some(until), .. } => {
                self.resting.insert((*until, id));
            }
            RecordState::Waiting { until: None, .. } => {
                self.ready[record.class as usize].insert(order, id);
            }
            RecordState::Offered { to } => {
                let lane = self.lanes.entry(to.clone()).or_default();
                lane.handed.insert(id);
                lane.unanswered_records += 1;
                lane.unanswered_bytes += u64::from(record.payload_bytes);
            }
            RecordState::Accepted { by } => {
                self.lanes.entry(by.clone()).or_default().handed.insert(id);
            }
        }
    }

    fn leave_lane(lanes: &mut BTreeMap<NodeId, Lane>, neighbor: &NodeId, record: &HeldRecord, unanswered: bool) {
        let Some(lane) = lanes.get_mut(neighbor) else { return };
        lane.handed.remove(&record.id);
        if unanswered {
            lane.unanswered_records -= 1;
            lane.unanswered_bytes -= u64::from(record.payload_bytes);
        }
    }

    /// The neighbor can be handed records.
    pub(crate) fn open_lane(&mut self, neighbor: &NodeId) {
        self.lanes.entry(neighbor.clone()).or_default();
    }

    /// The neighbor is gone: what it had been handed, accepted or not, waits again (P5).
    pub(crate) fn close_lane(&mut self, now: Now, neighbor: &NodeId) -> usize {
        let Some(lane) = self.lanes.remove(neighbor) else { return 0 };
        for id in &lane.handed {
            self.set_waiting(now, id, WaitReason::NeighborLost(neighbor.clone()), None);
        }
        lane.handed.len()
    }

    pub(crate) fn set_next_hops(&mut self, next_hops: Vec<NodeId>) {
        self.next_hops = next_hops;
    }

    fn set_state(&mut self, now: Now, id: &RecordId, state: &RecordState) {
        let Some(held) = self.records.get_mut(id) else { return };
        let before = std::mem::replace(&mut held.state, state.clone());
        held.since = now;
        held.offered_meanwhile = false;
        let (record, order) = (held.record.clone(), held.order);
        self.leave_state(&record, order, &before);
        self.enter_state(&record, order, state);
    }

    fn set_waiting(&mut self, now: Now, id: &RecordId, why: WaitReason, rest: Option<Duration>) {
        self.set_state(now, id, &RecordState::Waiting { why, until: rest.map(|rest| now + rest) });
    }

    /// True if `neighbor` is who was offered this record.
    fn is_offered_to(&self, id: &RecordId, neighbor: &NodeId) -> bool {
        matches!(self.records.get(id), Some(Held { state: RecordState::Offered { to }, .. }) if to == neighbor)
    }

    /// The neighbor says that the record is durable with it. If the duty came here from elsewhere meanwhile, its word
    /// may be older than that and is asked for once more.
    pub(crate) fn accepted(&mut self, now: Now, id: &RecordId, by: &NodeId) {
        if !self.is_offered_to(id, by) {
            return;
        }
        if self.records[id].offered_meanwhile {
            self.set_waiting(now, id, WaitReason::Returned(by.clone()), Some(RETURNED_REST));
        } else {
            if let Some(held) = self.records.get_mut(id) {
                held.asked_for_time.clear();
            }
            self.set_state(now, id, &RecordState::Accepted { by: by.clone() });
        }
    }

    /// The neighbor wants an offered record.
    pub(crate) fn wanted(
        &mut self,
        id: &RecordId,
        by: &NodeId,
        first_chunk: u32,
        outputs: &mut VecDeque<CustodyOutput>,
    ) {
        if self.is_offered_to(id, by) {
            outputs.push_back(carry(&self.records[id].record, by.clone(), first_chunk));
        }
    }

    /// The neighbor asks for time. The record goes to the next best at once, and rests when all have asked.
    pub(crate) fn asked_to_wait(&mut self, now: Now, id: &RecordId, by: &NodeId, delay: Duration) {
        if !self.is_offered_to(id, by) {
            return;
        }
        if let Some(held) = self.records.get_mut(id) {
            held.asked_for_time.push(by.clone());
        }
        let another_way = delay >= WORTH_WAITING && self.willing_next_hop(&self.records[id]).is_some();
        self.set_waiting(now, id, WaitReason::AskedToWait(by.clone()), (!another_way).then_some(delay));
    }

    /// The neighbor refuses the record for good. It stays here, and is offered again now and then.
    pub(crate) fn refused(
        &mut self,
        now: Now,
        id: &RecordId,
        by: &NodeId,
        reason: NeverReason,
    ) -> Option<CustodyEvent> {
        if !self.is_offered_to(id, by) {
            return None;
        }
        self.set_waiting(now, id, WaitReason::Refused(by.clone(), reason), Some(REFUSED_REST));
        Some(CustodyEvent::Refused { by: by.clone(), id: id.clone(), reason })
    }

    /// A neighbor offers a record that is held here and will hear that it is: the duty to pass it on is here again,
    /// whoever accepted it before. Without this, nodes in a ring could each believe that the next one has it, while
    /// the map changed between one hop and another. To a neighbor that has it already this costs an offer.
    pub(crate) fn offered_back(&mut self, now: Now, id: &RecordId, by: &NodeId) {
        let Some(held) = self.records.get_mut(id) else { return };
        match &held.state {
            RecordState::Waiting { .. } => {}
            RecordState::Offered { to } if to != by => held.offered_meanwhile = true,
            RecordState::Offered { .. } | RecordState::Accepted { .. } => {
                self.set_waiting(now, id, WaitReason::Returned(by.clone()), Some(RETURNED_REST));
            }
        }
    }

    /// The driver could not read the record from this node's disk.
    pub(crate) fn unreadable(&mut self, now: Now, id: &RecordId) {
        self.set_waiting(now, id, WaitReason::Unreadable, Some(UNREADABLE_REST));
    }

    pub(crate) fn handle_timeout(&mut self, now: Now) {
        while let Some((until, id)) = self.resting.first().cloned() {
            if until > now {
                break;
            }
            let Some(held) = self.records.get_mut(&id) else { break };
            held.asked_for_time.clear();
            if let RecordState::Waiting { why, .. } = held.state.clone() {
                self.set_waiting(now, &id, why, None);
            }
        }
    }

    pub(crate) fn poll_timeout(&self) -> Option<Now> {
        self.resting.first().map(|(until, _)| *until)
    }

    /// Hands on as many waiting records as the windows of the next hops allow.
    pub(crate) fn dispatch(&mut self, now: Now, outputs: &mut VecDeque<CustodyOutput>) {
        let mut offers: BTreeMap<NodeId, Vec<Offer>> = BTreeMap::new();
        while let Some((id, to)) = self.pick() {
            let held = &self.records[&id];
            let (record, tried) = (held.record.clone(), held.tried);
            self.set_state(now, &id, &RecordState::Offered { to: to.clone() });
            if let Some(held) = self.records.get_mut(&id) {
                held.tried = true;
            }
            if tried || record.payload_bytes > UNOFFERED_BYTES_MAX {
                offers.entry(to).or_default().push(Offer {
                    id,
                    class: record.class,
                    payload_bytes: record.payload_bytes,
                    digest: record.digest,
                });
            } else {
                outputs.push_back(carry(&record, to, 0));
            }
        }
        for (to, offers) in offers {
            outputs.push_back(CustodyOutput::Send { to, frame: Frame::Offers(offers) });
        }
    }

    /// The next record to hand on, and to whom.
    fn pick(&mut self) -> Option<(RecordId, NodeId)> {
        if !self.next_hops.iter().any(|hop| self.lanes.get(hop).is_some_and(|lane| lane.has_room(0))) {
            return None;
        }
        self.picks += 1;
        let low_first = self.picks.is_multiple_of(LOW_CLASS_EVERY);
        let order = if low_first { [2, 1, 0] } else { [0, 1, 2] };
        order.into_iter().find_map(|class| {
            self.ready[class].values().take(SCAN_MAX).find_map(|id| Some((id.clone(), self.next_hop_for(id)?)))
        })
    }

    /// The best next hop that this record may take. Who asked for time comes after the others, and where the record
    /// came from is the last resort.
    fn next_hop_for(&self, id: &RecordId) -> Option<NodeId> {
        let held = &self.records[id];
        let best = self.willing_next_hop(held);
        let best = best.or_else(|| self.open_next_hops().find(|hop| !came_from(&held.record, hop)));
        let best = best.or_else(|| self.open_next_hops().next())?;
        self.lanes[best].has_room(held.record.payload_bytes).then(|| best.clone())
    }

    /// The best next hop that has not asked for time.
    fn willing_next_hop(&self, held: &Held) -> Option<&NodeId> {
        self.open_next_hops().find(|hop| !came_from(&held.record, hop) && !held.asked_for_time.contains(hop))
    }

    fn open_next_hops(&self) -> impl Iterator<Item = &NodeId> {
        self.next_hops.iter().filter(|hop| self.lanes.contains_key(*hop))
    }

    pub(crate) fn view(&self, id: &RecordId) -> Option<RecordView<'_>> {
        self.records.get(id).map(|held| RecordView { record: &held.record, state: &held.state, since: held.since })
    }

    pub(crate) fn views_after(&self, after: Option<&RecordId>) -> impl Iterator<Item = RecordView<'_>> {
        let start = after.map_or(Bound::Unbounded, Bound::Excluded);
        let records = self.records.range::<RecordId, _>((start, Bound::Unbounded));
        records.map(|(_, held)| RecordView { record: &held.record, state: &held.state, since: held.since })
    }

    pub(crate) fn own_held(&self, epoch: estafet_model::Epoch) -> SeqRanges {
        self.own_held.get(&epoch.get()).cloned().unwrap_or_default()
    }

    pub(crate) fn awaits_answer(&self, neighbor: &NodeId) -> bool {
        self.lanes.get(neighbor).is_some_and(|lane| lane.unanswered_records > 0)
    }

    pub(crate) fn transit_count(&self) -> u64 {
        (self.records.len() - self.own_count) as u64
    }

    pub(crate) fn held_count(&self) -> u64 {
        self.records.len() as u64
    }
}

fn came_from(record: &HeldRecord, hop: &NodeId) -> bool {
    record.received_from.as_ref() == Some(hop)
}

fn carry(record: &HeldRecord, to: NodeId, first_chunk: u32) -> CustodyOutput {
    let chunks = chunk_count(record.payload_bytes);
    let first_chunk = first_chunk.min(chunks - 1);
    CustodyOutput::Carry { to, id: record.id.clone(), class: record.class, chunks, first_chunk }
}
