//! The records this node holds, and handing them on.
//!
//! Each held record is in exactly one state, and each state has one end: its turn, an answer, or its timer. Nothing
//! about sending is kept on disk: after a restart every record waits, is asked about or offered again, and the neighbor
//! says what it has.

mod copies;
mod custodians;
mod inventory;
mod suspects;
mod turns;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::num::NonZeroU64;
use std::time::Duration;

use estafet_model::{Class, Durable, Epoch, HeaderDigest, NodeId, Now, RecordId, SeqRanges, chunk_count};
use estafet_wire::{NeverReason, Offer};

use crate::custodians::Custodians;
use crate::held::{Held, Key, Micros, Name, Names, State, Table, Why};
use crate::lane::Lane;
use crate::output::{CustodyEvent, CustodyOutput};
use crate::record::{HeldRecord, RecordState, RecordView, WaitReason};
use crate::signatures::Signatures;
use crate::ways::Ways;

/// How long a record rests that a neighbor refuses for good, at first and at most: a person has to act, or another
/// neighbor appears.
const REFUSED_REST: Duration = Duration::from_secs(60);
const REFUSED_REST_MAX: Duration = Duration::from_secs(3600);

/// How long a record rests that came back by the way it went, while routes settle.
const RETURNED_REST: Duration = Duration::from_millis(50);

/// How long a neighbor that lives may take for an answer. It may have thousands of offers before this one, and a line
/// as slow as the second constant; nothing but a fault or malice reaches this.
const ANSWER_PATIENCE: Duration = Duration::from_secs(600);
const SLOWEST_LINE_BYTES_PER_SECOND: u64 = 2 << 10;

/// How long after an acceptance a receipt may stay out until the record goes by another neighbor or, where there is none, is
/// asked about or offered again: at first, if nothing else is configured, and at most.
pub const RECEIPT_PATIENCE: Duration = Duration::from_secs(300);
const RECEIPT_PATIENCE_MAX: Duration = Duration::from_secs(3600);

/// The same for a record that goes to one hub although another has it: a custodian that starts again forgets for whom it
/// was, and lets it go.
const COPY_PATIENCE: Duration = Duration::from_secs(30);

/// The longest that a neighbor may have a record wait which it says is coming to it by another way.
const ASKED_REST_MAX: Duration = Duration::from_secs(60);

/// The records that are found on a disk, as custody keeps them: few bytes each.
#[derive(Debug, Default)]
pub struct HeldRecords(pub(crate) Outbound);

impl HeldRecords {
    /// One more, in the order they were stored.
    pub fn add(&mut self, record: Durable<HeldRecord>) {
        self.0.recover(record);
    }
}

impl FromIterator<Durable<HeldRecord>> for HeldRecords {
    fn from_iter<I: IntoIterator<Item = Durable<HeldRecord>>>(records: I) -> Self {
        let mut held = Self::default();
        records.into_iter().for_each(|record| held.add(record));
        held
    }
}

/// What a receipt ends.
#[derive(Debug, Default)]
pub(crate) struct Released {
    /// These records.
    pub(crate) ids: Vec<RecordId>,
    /// And not these own captures, whose numbers were given to other records before.
    pub(crate) conflicts: SeqRanges,
}

#[derive(Debug, Default)]
pub(crate) struct Outbound {
    /// Nothing while the disk is being read.
    me: Option<Name>,
    hubs: BTreeSet<Name>,
    names: Names,
    table: Table,
    /// The numbers of all held records, per origin and epoch.
    holdings: BTreeMap<(Name, Epoch), SeqRanges>,
    own_count: usize,
    /// Records that may go now, and where.
    ways: Ways,
    /// This node is about to go: what is most at risk goes first.
    draining: bool,
    /// When states end by themselves.
    timers: BTreeSet<(Micros, Key)>,
    refused: BTreeSet<Key>,
    lanes: BTreeMap<Name, Lane>,
    /// Of the held records, those that are for one hub.
    for_hubs: BTreeMap<Name, BTreeSet<Key>>,
    /// How many of these others captured.
    transit_copies: usize,
    /// The next hops that are nearer to a hub than this node: a large queue spreads over them.
    downhill: Vec<Name>,
    next_order: u64,
    picks: u64,
    /// How many records may go now that a neighbor may well have.
    doubtful: usize,
    next_question: u32,
    custodians: Custodians,
    /// Neighbors that are trusted no longer, and still have records that they accepted.
    mistrusted: Vec<Name>,
    /// See [`RECEIPT_PATIENCE`].
    receipt_patience: Duration,
    /// Since when a way leads to a hub.
    way_since: Now,
}

impl Outbound {
    /// From now on this is the custody of `me`, in an area with these hubs.
    pub(crate) fn begin<'a>(
        &mut self,
        me: &NodeId,
        hubs: impl Iterator<Item = &'a NodeId>,
        receipt_patience: Duration,
    ) {
        self.receipt_patience = receipt_patience;
        let me = self.names.number(me);
        self.me = Some(me);
        self.ways.claim(me);
        self.hubs = hubs.map(|hub| self.names.number(hub)).collect();
        let own = self.holdings.iter().filter(|((origin, _), _)| *origin == me);
        self.own_count = own.map(|(_, held)| usize::try_from(held.count()).expect("they are in memory")).sum();
    }

    fn is_own(&self, origin: Name) -> bool {
        self.me == Some(origin)
    }

    pub(crate) fn is_me(&self, node: &NodeId) -> bool {
        self.names.find(node).is_some_and(|name| self.is_own(name))
    }

    /// Takes custody of a record that has just become durable here.
    pub(crate) fn hold(&mut self, now: Now, record: Durable<HeldRecord>) {
        self.keep(now, &record.into_inner(), false, None);
    }

    /// Takes back custody of a record that was found on the disk. Some neighbor may have it from an earlier life.
    pub(crate) fn recover(&mut self, record: Durable<HeldRecord>) {
        self.keep(Now::default(), &record.into_inner(), true, None);
    }

    /// Takes custody again of a record that was released, because the hub has lost it. Neighbors may have it.
    pub(crate) fn hold_again(&mut self, now: Now, record: Durable<HeldRecord>) {
        self.keep(now, &record.into_inner(), true, None);
    }

    fn keep(&mut self, now: Now, record: &HeldRecord, tried: bool, for_hub: Option<Name>) {
        let key = self.names.key(&record.id);
        if self.table.find(key).is_some() {
            return;
        }
        self.holdings.entry((key.origin, key.epoch)).or_default().insert(key.seq);
        self.own_count += usize::from(self.is_own(key.origin));
        let received_from = record.received_from.as_ref().map(|neighbor| self.names.number(neighbor));
        let held = Held {
            digest: record.digest,
            order: self.next_order,
            since: now.into(),
            due: None,
            payload_bytes: record.payload_bytes,
            state: State::Ready(if tried { Why::Found } else { Why::Turn }),
            received_from,
            for_hub,
            class: record.class,
            failures: 0,
            tried,
            offered_meanwhile: false,
        };
        self.next_order += 1;
        self.enter_hub(key, for_hub);
        self.enter_state(key, &held);
        self.table.insert(key, held);
    }

    /// Ends custody of the records of one origin's epoch whose numbers are in `receipted`, as far as the hubs that have
    /// signed are those that were to have them; returns which.
    ///
    /// An own capture that nobody was ever handed cannot have been committed: the receipt is for another record with
    /// this id, from a life of this spool that was lost. It stays, in quarantine, and nothing but a person ends that.
    pub(crate) fn release(
        &mut self,
        now: Now,
        origin: &NodeId,
        epoch: Epoch,
        receipted: &SeqRanges,
        signatures: &Signatures,
    ) -> Released {
        let Some(origin) = self.names.find(origin) else { return Released::default() };
        let pieces = receipted.pieces().iter();
        let keys: Vec<Key> =
            pieces.flat_map(|piece| self.table.keys(origin, epoch, piece.first..=piece.last)).collect();
        let (conflicts, keys): (Vec<Key>, Vec<Key>) = keys.into_iter().partition(|key| self.is_conflict(*key));
        conflicts.iter().for_each(|key| self.set_conflict(now, *key));
        let conflicts: SeqRanges = conflicts.iter().map(|key| key.seq).collect();
        let (ended, needed): (Vec<Key>, Vec<Key>) = keys.into_iter().partition(|key| self.is_ended(*key, signatures));
        needed.into_iter().for_each(|key| self.keep_for_another_hub(now, key, signatures));
        for key in &ended {
            self.came_home(now, *key);
            self.forget(*key);
        }
        self.hold_no_more(origin, epoch, &ended.iter().map(|key| key.seq).collect(), ended.len());
        Released { ids: ended.into_iter().map(|key| self.names.id(key)).collect(), conflicts }
    }

    /// An own capture that nobody was handed. What came from a neighbor is known elsewhere, whoever captured it.
    fn is_conflict(&self, key: Key) -> bool {
        let captured = |held: &Held| held.received_from.is_none() && !held.tried;
        self.is_own(key.origin) && self.table.find(key).is_some_and(captured)
    }

    fn set_conflict(&mut self, now: Now, key: Key) {
        let me = self.me.unwrap_or(key.origin);
        self.set_state(now, key, State::Resting(Why::Refused(me, NeverReason::Conflict)), None);
    }

    /// These own captures have ids of other records: they were found on the disk, and stay in quarantine.
    pub(crate) fn recover_conflicts(&mut self, epoch: Epoch, seqs: &SeqRanges) {
        let Some(me) = self.me else { return };
        for piece in seqs.pieces() {
            for key in self.table.keys(me, epoch, piece.first..=piece.last) {
                self.set_conflict(Now::default(), key);
            }
        }
    }

    /// Takes custody of a record that has just become durable here, whose number a receipt has covered meanwhile. Says
    /// which record it is if the receipt can be for it: then there is nothing to hold.
    pub(crate) fn hold_receipted(&mut self, now: Now, record: Durable<HeldRecord>) -> Option<RecordId> {
        let id = record.get().id.clone();
        if record.get().received_from.is_some() || !self.is_me(&id.origin) {
            return Some(id);
        }
        self.hold(now, record);
        if let Some(key) = self.names.find_key(&id) {
            self.set_conflict(now, key);
        }
        None
    }

    /// Ends custody of a record that cannot be read from this node's disk.
    pub(crate) fn lose(&mut self, id: &RecordId) -> Option<RecordView> {
        let view = self.view(id)?;
        let key = self.names.find_key(id)?;
        self.forget(key)?;
        self.hold_no_more(key.origin, key.epoch, &SeqRanges::of(key.seq), 1);
        Some(view)
    }

    fn hold_no_more(&mut self, origin: Name, epoch: Epoch, seqs: &SeqRanges, records: usize) {
        if let Some(held) = self.holdings.get_mut(&(origin, epoch)) {
            *held = held.minus(seqs);
            if held.is_empty() {
                self.holdings.remove(&(origin, epoch));
            }
        }
        if self.is_own(origin) {
            self.own_count -= records;
        }
    }

    fn forget(&mut self, key: Key) -> Option<Held> {
        let held = self.table.remove(key)?;
        self.custodians.excuse(key);
        self.leave_state(key, &held);
        self.leave_hub(key, held.for_hub);
        for lane in self.lanes.values_mut() {
            lane.diverted.remove(&key);
        }
        // What a lane kept would be waited for, or counted, for ever.
        debug_assert!(self.lanes.values().all(|lane| !lane.has(key)), "a record that is gone is in no lane");
        Some(held)
    }

    /// Takes a record out of the queue, lane and timer that its state has it in.
    fn leave_state(&mut self, key: Key, held: &Held) {
        if let Some(due) = held.due() {
            self.timers.remove(&(due, key));
        }
        match held.state {
            State::Ready(why) => {
                self.ways.remove(key, held);
                self.doubtful -= usize::from(why.is_doubtful());
            }
            State::Resting(Why::Refused(..)) => {
                self.refused.remove(&key);
            }
            State::Resting(_) => {}
            State::Asked(neighbor, question) => {
                if let Some(lane) = self.lanes.get_mut(&neighbor) {
                    lane.questions.remove(question, key);
                }
            }
            State::Offered(to) => {
                if let Some(lane) = self.lanes.get_mut(&to) {
                    lane.answered(key, held.payload_bytes);
                    lane.handed.remove(&key);
                }
            }
            State::Accepted(by) => {
                if let Some(lane) = self.lanes.get_mut(&by) {
                    lane.handed.remove(&key);
                }
            }
        }
    }

    /// Puts a record into the queue, lane and timer that its state wants it in.
    fn enter_state(&mut self, key: Key, held: &Held) {
        if let Some(due) = held.due() {
            self.timers.insert((due, key));
        }
        match held.state {
            State::Ready(why) => {
                self.ways.insert(key, held);
                self.doubtful += usize::from(why.is_doubtful());
            }
            State::Resting(Why::Refused(..)) => {
                self.refused.insert(key);
            }
            State::Resting(_) => {}
            State::Asked(neighbor, question) => {
                self.lanes.entry(neighbor).or_default().questions.insert(question, key);
            }
            State::Offered(to) => {
                self.lanes.entry(to).or_default().offer(held.since, key, held.payload_bytes);
            }
            State::Accepted(by) => {
                self.lanes.entry(by).or_default().handed.insert(key);
            }
        }
    }

    /// The only way from one state to the next.
    fn set_state(&mut self, now: Now, key: Key, state: State, lasts: Option<Duration>) {
        let Some(before) = self.table.find(key).cloned() else { return };
        self.leave_state(key, &before);
        let due = lasts.map(|lasts| Micros::from(now + lasts));
        let after = Held {
            state,
            since: now.into(),
            // Time zero is as good as the first microsecond.
            due: due.map(|due| NonZeroU64::new(due.0).unwrap_or(NonZeroU64::MIN)),
            offered_meanwhile: false,
            ..before
        };
        self.enter_state(key, &after);
        self.table.insert(key, after);
    }

    fn rest(&mut self, now: Now, key: Key, why: Why, rest: Duration) {
        self.set_state(now, key, State::Resting(why), Some(rest));
    }

    fn ready(&mut self, now: Now, key: Key, why: Why) {
        self.set_state(now, key, State::Ready(why), None);
    }

    /// Counts another failure of this record, and says how often that makes it, from 0.
    fn fail(&mut self, key: Key) -> u32 {
        self.table.find_mut(key).map_or(0, |held| {
            let before = held.failures;
            held.failures = before.saturating_add(1);
            before.into()
        })
    }

    /// The neighbor can be handed records; false if it could before.
    pub(crate) fn open_lane(&mut self, neighbor: &NodeId) -> bool {
        let name = self.names.number(neighbor);
        !std::mem::replace(&mut self.lanes.entry(name).or_default().open, true)
    }

    /// What leads to the neighbor carries urgent records only, or all.
    pub(crate) fn set_urgent_only(&mut self, neighbor: &NodeId, urgent_only: bool) {
        let name = self.names.number(neighbor);
        self.lanes.entry(name).or_default().urgent_only = urgent_only;
    }

    /// The neighbors that can be handed records.
    pub(crate) fn open_lanes(&self) -> Vec<NodeId> {
        let open = self.lanes.iter().filter(|(_, lane)| lane.open);
        open.map(|(name, _)| self.names.name(*name).clone()).collect()
    }

    /// The neighbor is gone: what it had been handed, accepted or not, waits again (P5).
    pub(crate) fn close_lane(&mut self, now: Now, neighbor: &NodeId) -> usize {
        let Some(name) = self.names.find(neighbor) else { return 0 };
        let Some(lane) = self.lanes.remove(&name) else { return 0 };
        for key in lane.handed.iter().copied().chain(lane.questions.all()) {
            self.ready(now, key, Why::NeighborLost(name));
        }
        lane.handed.len()
    }

    pub(crate) fn set_draining(&mut self, draining: bool) {
        self.draining = draining;
    }

    /// How many records no neighbor has accepted. What neighbors refuse is not counted: nobody waits for that.
    pub(crate) fn unaccepted_count(&self) -> usize {
        let accepted: usize = self.lanes.values().map(Lane::accepted_count).sum();
        self.table.len().saturating_sub(accepted + self.refused.len() + self.own_with_a_hub_count())
    }

    pub(crate) fn set_downhill(&mut self, downhill: &[NodeId]) {
        self.downhill = downhill.iter().map(|hop| self.names.number(hop)).collect();
    }

    pub(crate) fn set_next_hops(&mut self, now: Now, next_hops: &[NodeId]) {
        if self.ways.hops(None).is_empty() {
            self.way_since = now;
        }
        let hops = next_hops.iter().map(|hop| self.names.number(hop)).collect();
        self.ways.set_hops(None, hops);
    }

    /// The held record, if `neighbor` is who was offered it.
    fn offered_to(&self, id: &RecordId, neighbor: &NodeId) -> Option<(Key, Name)> {
        let (key, name) = (self.names.find_key(id)?, self.names.find(neighbor)?);
        (self.table.find(key)?.state == State::Offered(name)).then_some((key, name))
    }

    /// The neighbor says that the record is durable with it. If the duty came here from elsewhere meanwhile, its word
    /// may be older than that and is asked for once more.
    pub(crate) fn accepted(&mut self, now: Now, id: &RecordId, by: &NodeId) {
        if let Some((key, by)) = self.offered_to(id, by) {
            self.accept(now, key, by);
        } else if let Some((key, by)) = self.take_diverted(id, by)
            && self.table.find(key).is_some_and(|held| matches!(held.state, State::Ready(Why::Suspected(_))))
        {
            self.accept(now, key, by);
        }
    }

    fn accept(&mut self, now: Now, key: Key, by: Name) {
        if let Some(held) = self.table.find(key)
            && held.state == State::Offered(by)
            && let Some(lane) = self.lanes.get_mut(&by)
        {
            lane.taken(now.into(), held.payload_bytes);
        }
        if self.table.find(key).is_some_and(|held| held.offered_meanwhile) {
            return self.rest(now, key, Why::Returned(by), RETURNED_REST);
        }
        let Some(held) = self.table.find(key) else { return };
        let lasts = self.receipt_due(held);
        self.set_state(now, key, State::Accepted(by), Some(lasts));
    }

    /// The neighbor wants an offered record, from this chunk on. False if it will not come.
    pub(crate) fn wanted(
        &mut self,
        now: Now,
        id: &RecordId,
        by: &NodeId,
        first_chunk: u32,
        outputs: &mut VecDeque<CustodyOutput>,
    ) -> bool {
        let diverted = self.take_diverted(id, by);
        let Some((key, name)) = self.offered_to(id, by).or(diverted) else { return false };
        let Some(held) = self.table.find(key) else { return false };
        let (class, bytes, state) = (held.class, held.payload_bytes, held.state);
        if self.lanes.get(&name).is_some_and(|lane| !lane.takes(class)) {
            // It was offered when another link led there.
            if state == State::Offered(name) {
                self.ready(now, key, Why::Turn);
            }
            return false;
        }
        if matches!(state, State::Offered(to) if to == name) || matches!(state, State::Ready(Why::Suspected(_))) {
            self.set_state(now, key, State::Offered(name), Some(patience(bytes)));
        }
        // What goes another way by now is sent all the same: the neighbor has set room aside for it.
        outputs.push_back(carry(id.clone(), class, bytes, by.clone(), first_chunk));
        true
    }

    /// The neighbor asks for time: the record is coming to it by another way.
    pub(crate) fn asked_to_wait(&mut self, now: Now, id: &RecordId, by: &NodeId, delay: Duration) {
        if let Some((key, by)) = self.offered_to(id, by) {
            self.rest(now, key, Why::AskedToWait(by), delay.min(ASKED_REST_MAX));
        }
    }

    /// The neighbor has no room for more of this origin: nothing of it is handed to the neighbor for a while, and what can
    /// go by another, does.
    pub(crate) fn neighbor_full(&mut self, now: Now, id: &RecordId, by: &NodeId, delay: Duration) {
        let Some((key, by)) = self.offered_to(id, by) else { return };
        self.ready(now, key, Why::Full(by));
        if let Some(lane) = self.lanes.get_mut(&by) {
            lane.set_full(key.origin, (now + delay.min(ASKED_REST_MAX)).into());
        }
    }

    /// The neighbor refuses the record for good. It stays here in quarantine, and is offered again now and then, to
    /// another if there is one.
    pub(crate) fn refused(
        &mut self,
        now: Now,
        id: &RecordId,
        by: &NodeId,
        reason: NeverReason,
    ) -> Option<CustodyEvent> {
        let (key, name) = self.offered_to(id, by)?;
        let failures = self.fail(key);
        self.rest(now, key, Why::Refused(name, reason), backed_off(REFUSED_REST, REFUSED_REST_MAX, failures));
        Some(CustodyEvent::Refused { by: by.clone(), id: id.clone(), reason })
    }

    /// A neighbor offers a record that is held here and will hear that it is: the duty to pass it on is here again,
    /// whoever accepted it before. Without this, nodes in a ring could each believe that the next one has it, while
    /// the map changed between one hop and another. To a neighbor that has it already this costs an offer.
    pub(crate) fn offered_back(&mut self, now: Now, id: &RecordId, by: &NodeId) {
        let Some(key) = self.names.find_key(id) else { return };
        let by = self.names.number(by);
        self.returned(now, key, by);
    }

    fn returned(&mut self, now: Now, key: Key, by: Name) {
        let Some(held) = self.table.find_mut(key) else { return };
        match held.state {
            State::Ready(_) | State::Resting(_) => {}
            State::Asked(to, _) | State::Offered(to) if to != by => held.offered_meanwhile = true,
            State::Asked(..) | State::Offered(_) | State::Accepted(_) => {
                self.rest(now, key, Why::Returned(by), RETURNED_REST);
            }
        }
    }

    /// A neighbor has lost its copy of a record: if it is held here it is offered to that neighbor, wherever the way
    /// to the hub leads.
    pub(crate) fn sought(&mut self, now: Now, id: &RecordId, by: &NodeId) -> Option<Offer> {
        let (key, name) = (self.names.find_key(id)?, self.names.find(by)?);
        let held = self.table.find(key)?;
        // What conflicts with another record is not the one that is sought.
        let lane = self.lanes.get(&name)?;
        let may_go = lane.open && lane.takes(held.class);
        if self.is_own_conflict(held) || matches!(held.state, State::Offered(_)) || !may_go {
            return None;
        }
        let held = self.table.find_mut(key)?;
        held.tried = true;
        // Whoever has lost its copy knows for whom it was.
        let offer = offer(id.clone(), held, None);
        self.set_state(now, key, State::Offered(name), Some(patience(offer.payload_bytes)));
        Some(offer)
    }

    /// Takes records out of quarantine, all of them or one; says how many.
    pub(crate) fn retry(&mut self, now: Now, only: Option<&RecordId>) -> usize {
        let only = only.map(|id| self.names.find_key(id));
        let chosen = self.refused.iter().filter(|key| only.is_none_or(|only| only == Some(**key)));
        // An own capture under an id of another record can never arrive as what it is.
        let chosen = chosen.filter(|key| self.table.find(**key).is_some_and(|held| held.due().is_some()));
        let chosen: Vec<Key> = chosen.copied().collect();
        for key in &chosen {
            if let Some(held) = self.table.find_mut(*key) {
                held.failures = 0;
            }
            self.ready(now, *key, Why::Turn);
        }
        chosen.len()
    }

    pub(crate) fn handle_timeout(&mut self, now: Now) {
        self.custodians.handle_timeout(now);
        let now_micros = Micros::from(now);
        while let Some((due, key)) = self.timers.first().copied().filter(|(due, _)| *due <= now_micros) {
            let Some(held) = self.table.find(key) else {
                self.timers.remove(&(due, key));
                continue;
            };
            let why = match held.state {
                State::Ready(why) | State::Resting(why) => why,
                State::Asked(to, _) => Why::Unanswered(to),
                State::Offered(to) => {
                    self.kept_back(now, key, to);
                    continue;
                }
                State::Accepted(by) => {
                    self.overdue(now, key, by);
                    continue;
                }
            };
            self.ready(now, key, why);
        }
    }

    /// When time changes something: a state ends, or a full neighbor may have room again.
    pub(crate) fn poll_timeout(&self) -> Option<(Now, &'static str)> {
        let timer = self.timers.first().map(|(due, _)| (Now::from(*due), "a record is due"));
        let waits = !self.ways.nothing_is_ready();
        let full = self.lanes.values().filter_map(Lane::next_room).min().filter(|_| waits);
        let full = full.map(|until| (Now::from(until), "a full neighbor is asked again"));
        let trust = self.custodians.poll_timeout().map(|until| (until, "a neighbor is trusted again"));
        timer.into_iter().chain(full).chain(trust).min()
    }

    pub(crate) fn digest(&self, id: &RecordId) -> Option<HeaderDigest> {
        Some(self.table.find(self.names.find_key(id)?)?.digest)
    }

    pub(crate) fn view(&self, id: &RecordId) -> Option<RecordView> {
        let key = self.names.find_key(id)?;
        Some(self.view_of(key, self.table.find(key)?))
    }

    fn view_of(&self, key: Key, held: &Held) -> RecordView {
        let name = |name: Name| self.names.name(name).clone();
        let next_attempt = held.due().map(Now::from);
        let state = match held.state {
            State::Ready(why) => RecordState::Waiting { why: self.reason(why), until: None },
            State::Resting(why) => RecordState::Waiting { why: self.reason(why), until: next_attempt },
            State::Asked(of, _) => RecordState::Waiting { why: WaitReason::Asked(name(of)), until: next_attempt },
            State::Offered(to) => RecordState::Offered { to: name(to) },
            State::Accepted(by) => RecordState::Accepted { by: name(by) },
        };
        RecordView {
            id: self.names.id(key),
            class: held.class,
            payload_bytes: held.payload_bytes,
            digest: held.digest,
            received_from: held.received_from.map(name),
            state,
            since: held.since.into(),
            next_attempt,
        }
    }

    fn reason(&self, why: Why) -> WaitReason {
        let name = |name: Name| self.names.name(name).clone();
        match why {
            Why::Turn | Why::Found => WaitReason::Turn,
            Why::NeighborLost(neighbor) => WaitReason::NeighborLost(name(neighbor)),
            Why::Suspected(neighbor) => WaitReason::Suspected(name(neighbor)),
            Why::AskedToWait(neighbor) => WaitReason::AskedToWait(name(neighbor)),
            Why::Full(neighbor) => WaitReason::Full(name(neighbor)),
            Why::Unanswered(neighbor) => WaitReason::Unanswered(name(neighbor)),
            Why::Unreceipted(neighbor) => WaitReason::Unreceipted(name(neighbor)),
            Why::Refused(neighbor, reason) => WaitReason::Refused(name(neighbor), reason),
            Why::Returned(neighbor) => WaitReason::Returned(name(neighbor)),
            Why::Unconfirmed(neighbor) => WaitReason::Unconfirmed(name(neighbor)),
            Why::Signed(hub) => WaitReason::Signed(name(hub)),
        }
    }

    pub(crate) fn views_after(&self, after: Option<&RecordId>) -> impl Iterator<Item = RecordView> {
        let after = after.and_then(|id| self.names.find_key(id));
        self.table.iter_after(after).map(|(key, held)| self.view_of(key, held))
    }

    /// The records that neighbors refuse.
    pub(crate) fn refused_views(&self) -> impl Iterator<Item = RecordView> {
        self.refused.iter().filter_map(|key| Some(self.view_of(*key, self.table.find(*key)?)))
    }

    /// Per origin and epoch, the numbers of all that is held here.
    pub(crate) fn holdings(&self) -> impl Iterator<Item = (&NodeId, Epoch, &SeqRanges)> {
        self.holdings.iter().map(|((origin, epoch), held)| (self.names.name(*origin), *epoch, held))
    }

    /// This node, and the numbers of its held captures.
    pub(crate) fn own_held(&self, epoch: Epoch) -> Option<(&NodeId, &SeqRanges)> {
        let me = self.me?;
        self.holdings.get(&(me, epoch)).map(|held| (self.names.name(me), held))
    }

    /// The numbers of all that is held of one origin's epoch.
    pub(crate) fn held_of(&self, origin: &NodeId, epoch: Epoch) -> SeqRanges {
        let held = self.names.find(origin).and_then(|origin| self.holdings.get(&(origin, epoch)));
        held.cloned().unwrap_or_default()
    }

    pub(crate) fn awaits_answer(&self, neighbor: &NodeId) -> bool {
        let lane = self.names.find(neighbor).and_then(|name| self.lanes.get(&name));
        lane.is_some_and(Lane::awaits_answer)
    }

    /// Of how many bytes the payloads of this origin are that are held here.
    pub(crate) fn bytes_of(&self, origin: &NodeId) -> u64 {
        self.names.find(origin).map_or(0, |origin| self.table.bytes_of(origin))
    }

    pub(crate) fn transit_count(&self) -> u64 {
        (self.table.len() - self.own_count - self.transit_copies) as u64
    }

    pub(crate) fn held_count(&self) -> u64 {
        self.table.len() as u64 - self.copies_count()
    }

    pub(crate) fn copies_count(&self) -> u64 {
        self.for_hubs.values().map(|keys| keys.len() as u64).sum()
    }
}

/// The next rest after so many failures: twice the last, up to a bound.
fn backed_off(first: Duration, longest: Duration, failures: u32) -> Duration {
    first.saturating_mul(1 << failures.min(16)).min(longest)
}

/// How long an answer about so many bytes may take.
fn patience(bytes: u32) -> Duration {
    ANSWER_PATIENCE + Duration::from_secs(u64::from(bytes) / SLOWEST_LINE_BYTES_PER_SECOND)
}

fn offer(id: RecordId, held: &Held, for_hub: Option<&NodeId>) -> Offer {
    let for_hub = for_hub.cloned();
    Offer { id, class: held.class, payload_bytes: held.payload_bytes, digest: held.digest, for_hub }
}

fn carry(id: RecordId, class: Class, payload_bytes: u32, to: NodeId, first_chunk: u32) -> CustodyOutput {
    let chunks = chunk_count(payload_bytes);
    CustodyOutput::Carry { to, id, class, chunks, first_chunk: first_chunk.min(chunks - 1) }
}
