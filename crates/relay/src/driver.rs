//! The loop that drives the node: one task, one `select!`, no decisions of its own.
//!
//! Sessions, the store, intake and the admin API all talk to it through channels. It gives the node what came in,
//! does what the node says, and wakes it when it wants to be woken. Whoever wants to know something sends a
//! [`Question`](commands::Question), which is answered between two inputs from a consistent state.

mod chain;
mod commands;
mod journal;
mod offenses;
mod succession;

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::future::Future;
use std::time::{Duration, Instant};

use estafet_model::{Bearer, ChainHead, ChainId, Durable, Epoch, NodeId, Now, RecordId, SeqRanges, UnixMillis};
use estafet_node::custody::Piece;
use estafet_node::routing::{LinkSample, Outlook, Standing};
use estafet_node::{Capture, CaptureToken, Input, Node, Output};
use estafet_quic::{
    Carry, DownReason, Figures, ReceivedPiece, ReceivedPieces, Session, SessionEvent, SessionEvents, Transport,
};
use estafet_spool::{Append, NewRecord, Payload};
use estafet_store::{
    begin_append, chunk_append, conflicts_append, epoch_appends, losses_append, receipt_append, record_append,
    stored_record, transfer_id,
};
use estafet_wire::Frame;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{MissedTickBehavior, interval, sleep_until};
use tracing::{debug, error, info, warn};

use self::commands::{CaptureAnswer, Command};
pub(crate) use self::commands::{Commands, PendingCapture, View};
use self::journal::{tell, tell_level};
use self::offenses::Complaints;
pub(crate) use self::succession::Successions;
use crate::alarm::Alarm;
use crate::carrier::{Device, device_to};
use crate::clocks::Clocks;
use crate::failovers::Failovers;
use crate::heads::HeadBook;
use crate::ledger::Commit;
use crate::pace::Pace;
use crate::scrub::unreadable;
use crate::standing::Grounds;
use crate::store::{Health, Store, StoreEvent, wall_clock};
use crate::topologies::Offer;

/// Commands that may wait. Intake beyond that waits in its own requests.
const COMMAND_QUEUE: usize = 1024;

/// Captures that share a signature and an entry into the store's queue.
const CAPTURES_PER_BATCH: usize = 256;

/// While own captures are on their way to the disk, others are gathered up to this many: they would wait for the next
/// sync anyway, and each batch costs a signature here and a verification at every node on the way. With this many the
/// share of each is small.
const GATHERED_ENOUGH: usize = 64;

/// Events of one kind that are handled before the others get their turn.
const EVENTS_PER_TURN: usize = 256;

/// Turns of neighbors with pieces that are handled before other events get theirs: 1 MiB at most.
const TURNS_OF_PIECES: usize = 4;

/// Appends that may wait for the disk before pieces from neighbors are left to QUIC's flow control: a few commits. All
/// neighbors wait behind them for their acceptances, and what waits in their streams instead is taken in turns. Together
/// with custody's grants this bounds the memory that payload can take.
const APPENDS_MAX: usize = 512;
const APPEND_BYTES_MAX: u64 = 4 << 20;

/// How often room and round-trip times are looked at.
const HOUSEKEEPING: Duration = Duration::from_millis(500);

/// And after how much that was stored, so that the watermarks hold on a fast day too.
const LOOK_AFTER_BYTES: u64 = 2 << 20;

/// How often held captures are looked through for those whose time is over. By the wall clock, which may be wrong: what
/// goes too soon has its receipt, and what stays too long goes when room is needed.
const EXPIRY_INTERVAL: Duration = Duration::from_secs(3600);

/// Why the driver ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ended {
    /// Somebody asked for it.
    Asked,
    /// The battery is nearly empty.
    PowerGone,
}

pub(crate) struct Driver {
    successions: Successions,
    node: Node,
    store: Store,
    started: Instant,
    sessions: BTreeMap<Bearer, Session>,
    /// By which device of this machine each neighbor was reached when its session began.
    devices: BTreeMap<Bearer, Device>,
    /// How many packets each session's neighbor had acknowledged when that was last looked at.
    acknowledged: BTreeMap<Bearer, u64>,
    clocks: Clocks,
    commands: mpsc::Receiver<Command>,
    commands_sender: mpsc::Sender<Command>,
    health: watch::Sender<Health>,
    grounds: Grounds,
    standing: watch::Sender<Standing>,
    planned_dark: BTreeSet<Bearer>,
    waiting: HashMap<CaptureToken, oneshot::Sender<CaptureAnswer>>,
    next_token: u64,
    /// Captures that wait for company.
    gathered: Vec<Capture>,
    /// Own captures on their way to the disk.
    storing_own: usize,
    /// From whom the records came that are being stored.
    senders: HashMap<RecordId, NodeId>,
    appends: Vec<Append>,
    /// The payload bytes of each append that waits for the disk, in order.
    queued: VecDeque<u64>,
    queued_bytes: u64,
    /// What was stored since room was looked at.
    unlooked_bytes: u64,
    pace: Pace,
    last_receipts: BTreeMap<NodeId, UnixMillis>,
    receipted_counts: BTreeMap<NodeId, u64>,
    last_news: BTreeMap<NodeId, Now>,
    news_sequences: BTreeMap<NodeId, u64>,
    alarm: Alarm,
    failovers: Failovers,
    heads: HeadBook,
    /// How far this hub's chain had come when that was last told.
    published: Option<ChainHead>,
    /// The chain that this hub tells its history by no more.
    left_chain: Option<ChainId>,
    complaints: Complaints,
    /// How long own captures are held after their receipt.
    hold_max: Duration,
    next_expiry: Now,
}

impl Driver {
    pub(crate) fn new(
        node: Node,
        store: Store,
        pace: Pace,
        hold_max: Duration,
        heads: HeadBook,
        grounds: Grounds,
        successions: Successions,
    ) -> (Self, Commands) {
        let (commands_sender, commands) = mpsc::channel(COMMAND_QUEUE);
        let (health, health_out) = watch::channel(store.health());
        let (standing, standing_out) = watch::channel(Standing::default());
        let handle = Commands::new(commands_sender.clone(), health_out, standing_out);
        let driver = Self {
            successions,
            node,
            store,
            started: Instant::now(),
            sessions: BTreeMap::new(),
            devices: BTreeMap::new(),
            acknowledged: BTreeMap::new(),
            clocks: Clocks::default(),
            commands,
            commands_sender,
            health,
            grounds,
            standing,
            planned_dark: BTreeSet::new(),
            waiting: HashMap::new(),
            next_token: 0,
            gathered: Vec::new(),
            storing_own: 0,
            senders: HashMap::new(),
            appends: Vec::new(),
            queued: VecDeque::new(),
            queued_bytes: 0,
            unlooked_bytes: 0,
            pace,
            last_receipts: BTreeMap::new(),
            receipted_counts: BTreeMap::new(),
            last_news: BTreeMap::new(),
            news_sequences: BTreeMap::new(),
            alarm: Alarm::default(),
            failovers: Failovers::default(),
            heads,
            published: None,
            left_chain: None,
            complaints: Complaints::default(),
            hold_max,
            next_expiry: Now::default() + EXPIRY_INTERVAL,
        };
        (driver, handle)
    }

    fn now(&self) -> Now {
        Now(self.started.elapsed())
    }

    /// Drives until `stop` is done, or power is about to go and nothing more can be saved. The transport is given back.
    pub(crate) async fn run(
        mut self,
        sessions: SessionEvents,
        store_events: mpsc::UnboundedReceiver<StoreEvent>,
        stop: impl Future<Output = ()>,
    ) -> (Ended, Transport) {
        let ended = self.drive(sessions, store_events, stop).await;
        (ended, self.successions.transport)
    }

    async fn drive(
        &mut self,
        mut sessions: SessionEvents,
        mut store_events: mpsc::UnboundedReceiver<StoreEvent>,
        stop: impl Future<Output = ()>,
    ) -> Ended {
        let mut housekeeping = interval(HOUSEKEEPING);
        housekeeping.set_missed_tick_behavior(MissedTickBehavior::Delay);
        tokio::pin!(stop);
        // Before the first session: a node that drains is to be led around from the beginning.
        self.review_standing();
        self.perform();
        loop {
            let wake = self
                .node
                .poll_timeout()
                .map_or(self.started + Duration::from_secs(3600), |(at, _)| self.started + at.0);
            let disk_keeps_up = self.queued.len() < APPENDS_MAX && self.queued_bytes < APPEND_BYTES_MAX;
            tokio::select! {
                () = &mut stop => return Ended::Asked,
                Some(event) = sessions.control.recv() => {
                    self.session_event(event);
                    self.session_events(&mut sessions);
                }
                Some(event) = store_events.recv() => {
                    self.store_event(event);
                    while let Ok(event) = store_events.try_recv() {
                        self.store_event(event);
                    }
                }
                Some(command) = self.commands.recv() => self.run_commands(command),
                pieces = sessions.pieces.recv(), if disk_keeps_up => {
                    // A session has begun before it brings something.
                    self.session_events(&mut sessions);
                    self.pieces(pieces);
                    for _ in 1..TURNS_OF_PIECES {
                        let Some(pieces) = sessions.pieces.try_recv() else { break };
                        self.pieces(pieces);
                    }
                    // What came before is passed on before more is taken in: the sessions run on this thread as well.
                    self.perform();
                    tokio::task::yield_now().await;
                }
                () = sleep_until(wake.into()) => {
                    self.listen();
                    self.feed(Input::Timeout);
                }
                _ = housekeeping.tick() => self.housekeeping(),
            }
            self.perform();
            if self.grounds.is_to_stop(self.now(), || self.has_handed_all_over()) {
                return Ended::PowerGone;
            }
        }
    }

    /// Nothing is left here that no other node has: neither in custody nor on its way to the disk.
    fn has_handed_all_over(&self) -> bool {
        let is_written = self.queued.is_empty() && self.gathered.is_empty() && self.storing_own == 0;
        is_written && self.node.custody().unaccepted_count() == 0
    }

    /// Tells what the node's service is now, if that has changed.
    fn review_standing(&mut self) {
        let standing = self.grounds.standing(wall_clock());
        if *self.standing.borrow() != standing {
            info!(state = ?standing.state, power = ?standing.power, notice = ?standing.notice, "this node's service");
            self.standing.send_replace(standing.clone());
            self.feed(Input::Standing(standing));
        }
        let dark = self.grounds.planned_dark(wall_clock());
        if dark != self.planned_dark {
            info!(links = ?dark, "the links that a planned outage darkens now or soon");
            self.planned_dark.clone_from(&dark);
            self.feed(Input::PlannedDark(dark));
        }
    }

    /// Notes over which bearers the neighbors' transports have acknowledged something, before silences are judged.
    fn listen(&mut self) {
        let counts = self.sessions.iter().map(|(bearer, session)| (bearer, session.figures().packets_acknowledged));
        let news = counts.filter(|(bearer, count)| self.acknowledged.get(*bearer) != Some(count));
        let news: Vec<(Bearer, u64)> = news.map(|(bearer, count)| (bearer.clone(), count)).collect();
        for (bearer, count) in news {
            self.acknowledged.insert(bearer.clone(), count);
            self.feed(Input::Acknowledged(bearer));
        }
    }

    fn feed(&mut self, input: Input) {
        let now = self.now();
        self.node.handle_input(now, input);
    }

    /// Handles what sessions have to say besides payload, some of it at most.
    fn session_events(&mut self, sessions: &mut SessionEvents) {
        for _ in 0..EVENTS_PER_TURN {
            let Ok(event) = sessions.control.try_recv() else { break };
            self.session_event(event);
        }
    }

    fn session_event(&mut self, event: SessionEvent) {
        match event {
            SessionEvent::Up { bearer, hello, session } => {
                // With its one session over this bearer ends what is left of an earlier life of the neighbor over others.
                let is_over = |other: &Bearer, earlier: &Session| {
                    *other == bearer || other.neighbor == bearer.neighbor && earlier.boot() != session.boot()
                };
                let over: Vec<Bearer> =
                    self.sessions.extract_if(.., |o, s| is_over(o, s)).map(|(over, _)| over).collect();
                for bearer in over {
                    self.feed(Input::SessionDown { bearer, goodbye: false });
                }
                self.compare_topologies(&bearer.neighbor, hello.topology_version, &session);
                match device_to(session.remote()) {
                    Ok(device) => drop(self.devices.insert(bearer.clone(), device)),
                    Err(error) => debug!(%error, "by which device the neighbor is reached is not known"),
                }
                self.sessions.insert(bearer.clone(), session);
                self.feed(Input::SessionUp(bearer));
            }
            SessionEvent::Down { bearer, session, reason } => {
                if self.is_current(&bearer, session) {
                    self.sessions.remove(&bearer);
                    // Who is taken out of the neighbor's topology is left on purpose as well.
                    let goodbye = matches!(reason, DownReason::Goodbye(_) | DownReason::Removed);
                    if matches!(reason, DownReason::Removed) {
                        error!(
                            neighbor = %bearer.neighbor,
                            "by a neighbor's topology this machine is none of its neighbors any more: if it was removed or \
                             replaced, stop it; what is captured here from now on waits for an operator's decision"
                        );
                    }
                    self.failovers.sessions_lost += u64::from(!goodbye);
                    self.feed(Input::SessionDown { bearer, goodbye });
                }
            }
            SessionEvent::Control { bearer, session, frame } => {
                if !self.is_current(&bearer, session) {
                    return;
                }
                if let Frame::Topology(signed) = frame {
                    // With too many of them waiting it is dropped: its sender has it for the next session as well.
                    let _ = self.successions.offers.try_send(Offer { from: bearer.neighbor, signed });
                    return;
                }
                if let Frame::Heartbeat { clock: Some(clock), .. } = frame
                    && let Some(session) = self.sessions.get(&bearer)
                {
                    self.clocks.heard(&bearer.neighbor, clock, wall_clock(), session.figures().round_trip);
                }
                self.feed(Input::Frame { from: bearer, frame });
            }
            SessionEvent::Tried { bearer, session, carried } => {
                if self.is_current(&bearer, session) {
                    self.feed(Input::Tried { over: bearer, carried });
                }
            }
            SessionEvent::Unreadable { id, .. } => {
                self.look_at_commit(id.clone());
                self.feed(Input::Unreadable(id));
            }
        }
    }

    fn is_current(&self, bearer: &Bearer, session: estafet_quic::SessionId) -> bool {
        self.sessions.get(bearer).is_some_and(|current| current.id() == session)
    }

    fn pieces(&mut self, received: ReceivedPieces) {
        let ReceivedPieces { bearer, session, pieces } = received;
        if self.is_current(&bearer, session) {
            for ReceivedPiece { head, data, hash } in pieces {
                self.feed(Input::Piece { from: bearer.clone(), piece: Piece { head, data, hash } });
            }
        }
    }

    fn store_event(&mut self, event: StoreEvent) {
        match event {
            StoreEvent::Stored(records) => {
                self.unlooked_bytes += records.iter().map(|record| u64::from(record.get().payload_bytes)).sum::<u64>();
                let now = self.now();
                for own in records.iter().map(Durable::get).filter(|record| record.own) {
                    self.pace.stored(now, own.disk_bytes());
                }
                if let Some(ledger) = &self.store.ledger {
                    ledger.feed(records.iter().map(|record| record.get().clone()).collect());
                }
                let records = records.into_iter().map(|record| {
                    let from = self.end_storing(&record.get().id);
                    stored_record(record, from)
                });
                let records = records.collect();
                self.feed(Input::Stored(records));
                self.admit_captures();
                if self.unlooked_bytes >= LOOK_AFTER_BYTES {
                    self.look_at_store();
                }
            }
            StoreEvent::Recalled(records) => {
                self.feed(Input::Recalled(records.into_iter().map(|record| stored_record(record, None)).collect()));
            }
            StoreEvent::LossesKept => self.feed(Input::LossesKept),
            StoreEvent::EpochKept => self.feed(Input::EpochKept),
            StoreEvent::ReceiptKept(key) => self.feed(Input::ReceiptKept(key)),
            StoreEvent::Failed(ids) => {
                ids.iter().for_each(|id| drop(self.end_storing(id)));
                self.look_at_store();
                self.feed(Input::StoreFailed(ids));
                self.admit_captures();
            }
            StoreEvent::Settled(appends) => {
                let settled = self.queued.drain(..appends.min(self.queued.len()));
                self.queued_bytes -= settled.sum::<u64>();
            }
        }
    }

    /// The store has spoken on a record. Says from whom it came; nobody if it was captured here.
    fn end_storing(&mut self, id: &RecordId) -> Option<NodeId> {
        let from = self.senders.remove(id);
        if from.is_none() {
            self.storing_own = self.storing_own.saturating_sub(1);
        }
        from
    }

    /// Runs what waits; captures that wait together share a batch.
    fn run_commands(&mut self, first: Command) {
        let mut next = Some(first);
        while let Some(command) = next {
            match command {
                Command::Capture(mut capture, answer) => {
                    capture.token = CaptureToken(self.next_token);
                    self.next_token += 1;
                    self.waiting.insert(capture.token, answer);
                    self.gathered.push(*capture);
                }
                Command::Ask(question) => question(&View {
                    node: &self.node,
                    now: self.now(),
                    last_receipts: &self.last_receipts,
                    last_news: &self.last_news,
                    missing_since: self.alarm.missing_since(),
                    failovers: self.failovers,
                    clocks: &self.clocks,
                    heads: &self.heads,
                    sessions: self.successions.transport.counts(),
                }),
                Command::Compared { id, from, same } => self.feed(Input::Compared { id, from, same }),
                Command::Retry(only) => self.feed(Input::Retry(only)),
                Command::Unreadable(id) => self.feed(Input::Unreadable(id)),
                Command::CommittedUnreadable(record) => self.feed(Input::CommittedUnreadable(record)),
                Command::Found(commits) => {
                    self.feed(Input::Recalled(commits.into_iter().map(Commit::into_stored).collect()));
                }
                Command::Drain(order) => {
                    self.grounds.set_order(order, self.now(), wall_clock());
                    self.review_standing();
                }
                Command::Supply(supply) => {
                    self.grounds.set_supply(supply, self.now());
                    self.review_standing();
                }
                Command::Topology(kept) => self.succeed(*kept),
                Command::Unchained(published) => self.begin_chain(published),
                Command::CarrierLost(lost) => {
                    // What came before the loss proves nothing.
                    self.listen();
                    let through = |lost: &Vec<Device>| {
                        let concerned = self.devices.iter().filter(|(_, device)| lost.contains(device));
                        concerned.map(|(bearer, _)| bearer.clone()).collect()
                    };
                    self.feed(Input::CarrierLost { cut_off: lost.as_ref().map(through) });
                }
            }
            next = if self.gathered.len() < CAPTURES_PER_BATCH { self.commands.try_recv().ok() } else { None };
        }
        self.admit_captures();
    }

    /// Hands the gathered captures to the node, if it is time.
    fn admit_captures(&mut self) {
        let is_time = self.storing_own == 0 || self.gathered.len() >= GATHERED_ENOUGH;
        if is_time && !self.gathered.is_empty() {
            let captures = std::mem::take(&mut self.gathered);
            self.feed(Input::Captures(captures));
        }
    }

    fn housekeeping(&mut self) {
        self.look_at_store();
        self.store.forget_recent();
        // If the store refused what they waited for, nothing else brings them here.
        self.admit_captures();
        let figures = self.sessions.iter().map(|(bearer, session)| (bearer.clone(), session.figures()));
        for (bearer, figures) in figures.collect::<Vec<_>>() {
            self.feed(Input::Measured { bearer, sample: sample(&figures) });
        }
        self.notice_news();
        self.publish_head();
        self.hear_heads();
        let now = self.now();
        self.grounds.end_order(now);
        self.review_standing();
        if self.next_expiry <= now {
            self.next_expiry = now + EXPIRY_INTERVAL;
            let held_since = wall_clock().0.saturating_sub(millis(self.hold_max));
            self.store.spool.expire_held(UnixMillis(held_since));
        }
        if self.alarm.is_due(now) {
            self.alarm.look(now, wall_clock(), &self.node.audit());
        }
    }

    fn look_at_store(&mut self) {
        self.unlooked_bytes = 0;
        let health = self.store.health();
        let before = self.health.send_replace(health).level;
        tell_level(before, health.level);
        self.feed(Input::Room(health.transit_room));
        let outlook = Outlook::rounded(health.capture_room, self.pace.per_hour(self.now()));
        self.feed(Input::Outlook(outlook));
    }

    /// Notes when the newest receipt and the newest word of each node came, for people who look.
    fn notice_news(&mut self) {
        let mut counts: BTreeMap<&NodeId, u64> = BTreeMap::new();
        for ((origin, _), ranges) in self.node.custody().receipted() {
            *counts.entry(origin).or_default() += ranges.count();
        }
        for (origin, count) in counts {
            if self.receipted_counts.insert(origin.clone(), count) != Some(count) {
                self.last_receipts.insert(origin.clone(), wall_clock());
            }
        }
        let now = self.now();
        for lsa in self.node.router().lsdb().iter() {
            let lsa = lsa.lsa();
            if self.news_sequences.insert(lsa.origin.clone(), lsa.sequence) != Some(lsa.sequence) {
                self.last_news.insert(lsa.origin.clone(), now);
            }
        }
    }

    /// Does what the node says, until it says nothing more. Appends go to the store together.
    fn perform(&mut self) {
        while let Some(output) = self.node.poll_output() {
            match output {
                Output::Send { to, mut frame } => {
                    if let Frame::Heartbeat { lsdb: Some(_), clock, .. } = &mut frame {
                        *clock = Some(wall_clock());
                    }
                    self.with_session(&to, |session| session.send(&frame));
                }
                Output::Carry { to, id, class, chunks, first_chunk } => {
                    self.with_session(&to, |session| session.carry(Carry { id, chunks, first_chunk }, class));
                }
                Output::Try { over, bytes, within } => {
                    self.with_session(&over, |session| {
                        session.begin_trial(bytes, within);
                        Ok(())
                    });
                }
                Output::BeginTransfer { transfer, header, chunks } => {
                    self.appends.push(begin_append(transfer, *header, chunks));
                }
                Output::Disconnect(bearer) => {
                    if let Some(session) = self.sessions.remove(&bearer) {
                        session.give_up();
                        self.failovers.sessions_lost += 1;
                        self.feed(Input::SessionDown { bearer, goodbye: false });
                    }
                }
                Output::Store(record) => {
                    match record.received_from.clone() {
                        Some(from) => drop(self.senders.insert(record.header.header().id.clone(), from)),
                        None => self.storing_own += 1,
                    }
                    self.appends.push(record_append(*record, wall_clock()));
                }
                Output::StoreChunk { transfer, index, data, hash } => {
                    self.appends.push(chunk_append(transfer, index, data, hash));
                }
                Output::AbortTransfer(transfer) => {
                    self.append();
                    self.store.abort(transfer_id(transfer));
                }
                Output::KeepReceipt(receipt) => self.appends.push(receipt_append(&receipt)),
                Output::KeepEpoch { epoch, former } => self.appends.extend(epoch_appends(epoch, &former)),
                Output::KeepConflicts { epoch, seqs } => self.appends.push(conflicts_append(epoch, &seqs)),
                Output::KeepLosses { origin, epoch, losses } => {
                    self.appends.push(losses_append(&origin, epoch, &losses));
                }
                Output::Release(ids) => {
                    self.append();
                    self.store.spool.release(ids);
                }
                Output::Recall { origin, epoch, seqs } => self.recall(origin, epoch, seqs),
                Output::Compare { id, digest, from } => self.compare(id, digest, from),
                Output::Published(head) => self.look_for_head(head),
                Output::Captured { token, captured } => self.answer(token, Ok(captured)),
                Output::CaptureRefused { token, why } => self.answer(token, Err(why)),
                Output::Event(event) => {
                    self.failovers.count(&event);
                    self.judge(&event);
                    if self.complaints.are_told(self.now(), &event) {
                        tell(&event);
                    }
                }
            }
        }
        self.append();
    }

    fn append(&mut self) {
        if self.appends.is_empty() {
            return;
        }
        let batch = std::mem::take(&mut self.appends);
        let records: Vec<RecordId> = batch.iter().filter_map(record_of).collect();
        self.queued.extend(batch.iter().map(payload_bytes));
        self.queued_bytes += batch.iter().map(payload_bytes).sum::<u64>();
        if let Err(poisoned) = self.store.append(batch) {
            error!(%poisoned, "nothing can be stored; somebody must see to the disk of this node");
            records.iter().for_each(|id| drop(self.end_storing(id)));
            self.look_at_store();
            self.feed(Input::StoreFailed(records));
        }
    }

    fn with_session(
        &mut self,
        bearer: &Bearer,
        action: impl FnOnce(&Session) -> Result<(), estafet_quic::SessionGone>,
    ) {
        // A session that is gone has its `Down` event on the way, and the node acts on that.
        let _gone = self.sessions.get(bearer).map(action);
    }

    fn answer(&mut self, token: CaptureToken, answer: CaptureAnswer) {
        if let Some(waiting) = self.waiting.remove(&token) {
            // The counter may have hung up; with its idempotency key it gets the same slip later.
            let _hung_up = waiting.send(answer);
        }
    }

    /// Takes back what was released; at a hub, which releases nothing, finds what it has committed.
    fn recall(&self, origin: NodeId, epoch: Epoch, seqs: SeqRanges) {
        let Some(ledger) = self.store.ledger.clone() else { return self.store.spool.recall(origin, epoch, seqs) };
        let commands = self.commands_sender.clone();
        tokio::spawn(async move {
            match ledger.commits_of(origin, epoch, seqs).await {
                // Nobody is left to tell when the driver has ended.
                Ok(commits) => drop(commands.send(Command::Found(commits)).await),
                Err(error) => {
                    warn!(%error, "the ledger does not answer; what other hubs lack is looked for again later");
                }
            }
        });
    }

    /// At a hub: what could not be sent may be lost to the archive.
    fn look_at_commit(&self, id: RecordId) {
        let Some(ledger) = self.store.ledger.clone() else { return };
        let store = self.store.clone();
        let commands = Commands::new(self.commands_sender.clone(), self.health.subscribe(), self.standing.subscribe());
        tokio::spawn(async move {
            let Ok(Some(commit)) = ledger.find(id.clone()).await else { return };
            let (spool, extent) = (store.spool.clone(), commit.extent);
            if let Ok(Err(_)) = tokio::task::spawn_blocking(move || spool.check(extent)).await {
                unreadable(&store, &commands, id, extent).await;
            }
        });
    }

    fn compare(&self, id: RecordId, digest: estafet_model::HeaderDigest, from: NodeId) {
        let Some(ledger) = self.store.ledger.clone() else { return };
        let commands = self.commands_sender.clone();
        tokio::spawn(async move {
            match ledger.find(id.clone()).await {
                Ok(commit) => {
                    // What was just put aside is committed no longer, and custody is about to hear so.
                    let same = commit.is_none_or(|commit| commit.digest == digest);
                    // Nobody is left to compare for when the driver has ended.
                    let _ = commands.send(Command::Compared { id, from, same }).await;
                }
                Err(error) => error!(record = %id, %error, "a committed record could not be looked up"),
            }
        });
    }
}

fn sample(figures: &Figures) -> LinkSample {
    LinkSample {
        round_trip: figures.round_trip,
        packets_sent: figures.packets_sent,
        packets_lost: figures.packets_lost,
        window_bytes: figures.window_bytes,
    }
}

fn millis(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}

/// The payload that an append keeps in memory until it is written.
fn payload_bytes(append: &Append) -> u64 {
    match append {
        Append::Record(NewRecord { payload: Payload::Inline(bytes), .. }) => bytes.len() as u64,
        Append::Chunk { data, .. } => data.len() as u64,
        Append::Begin { .. } | Append::Record(_) | Append::Put { .. } => 0,
    }
}

fn record_of(append: &Append) -> Option<RecordId> {
    match append {
        Append::Record(record) => Some(record.header.header().id.clone()),
        Append::Begin { .. } | Append::Chunk { .. } | Append::Put { .. } => None,
    }
}
