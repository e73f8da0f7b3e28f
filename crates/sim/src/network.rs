//! The links of the city and the sessions over them.

use std::time::Duration;

use bytes::Bytes;
use estafet_custody::Piece;
use estafet_model::{Bearer, ChunkHash, Medium, NodeId};
use estafet_node::Input;
use estafet_node::routing::LinkSample;
use estafet_spool::ReadPayload;
use estafet_topology::Link;
use estafet_wire::{Frame, PieceHead, PieceLengths};

use crate::city::{City, Event};
use crate::seeded::Seeded;
use crate::session::{CONTROL, Carry, End, Fate, Message, PADDING, Session};

/// How long after the last thing heard a session ends.
pub const IDLE_TIMEOUT: Duration = Duration::from_secs(2);

/// How long after a failed attempt the next one comes.
const REDIAL_DELAY: Duration = Duration::from_millis(250);

/// How long a piece waits for a disk that does not keep up.
const FLOW_CONTROL_DELAY: Duration = Duration::from_millis(5);

/// How often the sender on a cut line tries whether it carries again.
const CUT_LINE_LOOK: Duration = Duration::from_millis(50);

/// What a lost packet costs beside round trips: the sender's shortest timer.
const LOSS_DELAY: Duration = Duration::from_millis(50);

/// What a connection may have under way, of which links are judged: as after a while on a quiet line.
const WINDOW_BYTES: u64 = 256 << 10;

/// One message in so many of which something was lost takes the session with it.
const LOSSES_PER_DEATH: u64 = 300;

/// What a packet carries of a message: QUIC's least datagram.
const PACKET_BYTES: usize = 1200;

/// What a packet takes on the wire beside that: IPv4 20, UDP 8, QUIC's short header 13, its seal 16.
const PACKET_OVERHEAD_BYTES: usize = 57;

/// What a sender that loses has under way at least, in packets (RFC 9002, 7.2).
const WINDOW_PACKETS_MIN: f64 = 2.0;

/// What has been sent in a city, with the headers of its packets and all that was lost and sent again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Traffic {
    /// Records on their way, and all that is said about them: offers, answers, acceptances, receipts, inventories.
    pub records_bytes: u64,
    /// Heartbeats, trials and the map.
    pub routing_bytes: u64,
}

/// How a link fares.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Condition {
    /// Nothing that this end sends arrives.
    pub silent: [bool; 2],
    /// How many times slower than it should be.
    pub slowness: u32,
    /// How many packets in a thousand are lost. Each is sent again, and takes the line again.
    pub losses_per_mille: u64,
    /// Within what span messages arrive that left together on different streams.
    pub jitter: Duration,
    /// What it carries in a second, if that is not what the plan says.
    pub bits_per_second: Option<u64>,
    /// What one way takes, if that is not what the seed has drawn.
    pub latency: Option<Duration>,
}

impl Default for Condition {
    fn default() -> Self {
        Self {
            silent: [false; 2],
            slowness: 1,
            losses_per_mille: 0,
            jitter: Duration::from_millis(2),
            bits_per_second: None,
            latency: None,
        }
    }
}

/// A link.
#[derive(Debug)]
pub(crate) struct Wire {
    pub(crate) ends: [NodeId; 2],
    pub(crate) medium: Medium,
    latency: Duration,
    bits_per_second: u64,
    pub(crate) condition: Condition,
    /// The session that was opened last.
    pub(crate) session: Option<usize>,
    dialing: bool,
}

impl Wire {
    pub(crate) fn new(link: &Link, seeded: &mut Seeded) -> Self {
        Self {
            ends: link.ends.clone(),
            medium: link.medium,
            latency: seeded.micros(500, 15_000),
            bits_per_second: link.capacity_bits_per_second.expect("the plans state it"),
            condition: Condition::default(),
            session: None,
            dialing: false,
        }
    }

    pub(crate) fn end_of(&self, node: &NodeId) -> Option<End> {
        self.ends.iter().position(|end| end == node)
    }

    /// The link as the node at `end` names it.
    pub(crate) fn bearer(&self, end: End) -> Bearer {
        Bearer::new(self.ends[1 - end].clone(), self.medium)
    }

    fn is_silent(&self) -> bool {
        self.condition.silent != [false; 2]
    }

    fn latency(&self) -> Duration {
        self.condition.latency.unwrap_or(self.latency)
    }

    /// How long the line takes for so many bytes, with what is lost of them and sent again.
    fn sending_time(&self, bytes: usize) -> Duration {
        let Condition { bits_per_second, losses_per_mille, slowness, .. } = self.condition;
        let bits_per_second = bits_per_second.unwrap_or(self.bits_per_second) / u64::from(slowness.max(1));
        let carried = goodput(bits_per_second, losses_per_mille, self.latency() * 2);
        Duration::from_micros(bytes as u64 * 8 * 1_000_000 / carried)
    }

    /// Packets are lost one by one; what they belong to is there when the last of them has come.
    fn fate(&self, bytes: usize, seeded: &mut Seeded) -> Fate {
        let Condition { jitter, losses_per_mille, .. } = self.condition;
        let delay = self.latency() + seeded.micros(0, u64::try_from(jitter.as_micros()).unwrap_or(u64::MAX).max(1));
        let packets = bytes.div_ceil(PACKET_BYTES).max(1);
        let (mut lost, mut rounds) = (0, 0);
        if losses_per_mille > 0 {
            for _ in 0..packets {
                let tries = (0..).take_while(|_| seeded.draw() % 1000 < losses_per_mille.min(999)).count();
                lost += tries;
                rounds = rounds.max(u32::try_from(tries).unwrap_or(u32::MAX));
            }
        }
        let delay = delay + (self.latency() * 2 + LOSS_DELAY) * rounds;
        let fatal = lost > 0 && seeded.one_in(LOSSES_PER_DEATH);
        Fate { delay, packets_sent: packets + lost, packets_lost: lost, fatal }
    }
}

/// What a line carries of payload in a second when it loses so many packets in a thousand. Each lost one is sent again;
/// and a sender that loses has no more than `1.22 / sqrt(loss)` packets under way in a round trip (Mathis and others,
/// 1997), though never less than the least window.
pub(crate) fn goodput(bits_per_second: u64, losses_per_mille: u64, round_trip: Duration) -> u64 {
    if losses_per_mille == 0 {
        return bits_per_second.max(1);
    }
    let loss = losses_per_mille.min(999) as f64 / 1000.0;
    let window = (1.22 / loss.sqrt()).max(WINDOW_PACKETS_MIN) * (PACKET_BYTES * 8) as f64;
    let line = (bits_per_second as f64).min(window / round_trip.as_secs_f64().max(1e-6));
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "at most what the line carries")]
    let carried = (line * (1.0 - loss)) as u64;
    carried.max(1)
}

/// What a byte takes on a wire that loses so many packets in a thousand, with the headers of its packets.
pub(crate) fn wire_share(losses_per_mille: u64) -> f64 {
    let loss = losses_per_mille.min(999) as f64 / 1000.0;
    (PACKET_BYTES + PACKET_OVERHEAD_BYTES) as f64 / PACKET_BYTES as f64 / (1.0 - loss)
}

/// What so many bytes take on the wire, in so many packets besides those that were lost.
fn wire_bytes(bytes: usize, fate: &Fate) -> u64 {
    let again = fate.packets_lost * bytes.min(PACKET_BYTES);
    (bytes + again + fate.packets_sent * PACKET_OVERHEAD_BYTES) as u64
}

impl City {
    pub(crate) fn link_between(&self, one: &NodeId, other: &NodeId) -> Option<usize> {
        let mut links = self.offices.get(one)?.links.iter().copied();
        links.find(|link| self.wires[*link].end_of(other).is_some())
    }

    /// The session of `node` over `bearer`, if it is open at this end.
    fn open_session(&self, node: &NodeId, bearer: &Bearer) -> Option<(usize, End)> {
        let leads_there = |wire: &&Wire| wire.medium == bearer.medium && wire.end_of(&bearer.neighbor).is_some();
        let wire = self.wires.iter().filter(leads_there).find(|wire| wire.end_of(node).is_some())?;
        let end = wire.end_of(node)?;
        let session = wire.session.filter(|session| self.sessions[*session].open[end])?;
        Some((session, end))
    }

    /// What a node measures on its open sessions, as QUIC does.
    pub(crate) fn samples(&self, node: &NodeId) -> Vec<(Bearer, LinkSample)> {
        let wires = self.offices[node].links.iter().map(|link| &self.wires[*link]);
        let open = wires.filter_map(|wire| {
            let end = wire.end_of(node)?;
            let session = &self.sessions[wire.session?];
            let (packets_sent, packets_lost) = session.losses(end);
            let round_trip = wire.latency() * 2;
            let sample = LinkSample { round_trip, packets_sent, packets_lost, window_bytes: WINDOW_BYTES };
            session.open[end].then(|| (wire.bearer(end), sample))
        });
        open.collect()
    }

    /// The bearers over which a node has heard a neighbor's transport since it was asked last.
    pub(crate) fn acknowledged_bearers(&mut self, node: &NodeId) -> Vec<Bearer> {
        let (now, sessions) = (self.now, &mut self.sessions);
        let wires = self.offices[node].links.iter().map(|link| &self.wires[*link]);
        let acknowledged = wires.filter_map(|wire| {
            let end = wire.end_of(node)?;
            let session = &mut sessions[wire.session?];
            (session.open[end] && session.was_acknowledged(end, now)).then(|| wire.bearer(end))
        });
        acknowledged.collect()
    }

    pub(crate) fn dial_soon(&mut self, link: usize) {
        if !std::mem::replace(&mut self.wires[link].dialing, true) {
            let delay = self.seeded.micros(20_000, 200_000);
            self.schedule(self.now + delay, Event::Dial { link });
        }
    }

    /// Opens a session if both ends can, and one of them has none. The other then ends its old one first.
    pub(crate) fn dial(&mut self, link: usize) {
        self.wires[link].dialing = false;
        let ends = self.wires[link].ends.clone();
        let old = self.wires[link].session.map(|session| self.sessions[session].open).unwrap_or_default();
        if old == [true; 2] || ends.iter().all(|end| !self.is_running(end)) {
            return;
        }
        if self.wires[link].is_silent() || ends.iter().any(|end| !self.is_running(end)) {
            self.wires[link].dialing = true;
            return self.schedule(self.now + REDIAL_DELAY, Event::Dial { link });
        }
        if let Some(old) = self.wires[link].session {
            self.close(old, 0, true);
            self.close(old, 1, true);
        }
        let lives = ends.each_ref().map(|end| self.offices[end].life);
        self.end_earlier_lives(&ends, lives);
        self.wires[link].session = Some(self.sessions.len());
        self.sessions.push(Session::new(link, lives, self.now));
        // Whoever was dialed learns of it as soon as the first word can reach it.
        let dialed = self.now + self.wires[link].latency();
        let session = self.sessions.len() - 1;
        self.schedule(self.now, Event::Opened { session, end: 0 });
        self.schedule(dialed, Event::Opened { session, end: 1 });
    }

    /// Who has started anew knows none of its old sessions, and its neighbor learns that by the first new one.
    fn end_earlier_lives(&mut self, ends: &[NodeId; 2], lives: [u32; 2]) {
        let between = self.wires.iter().filter(|wire| wire.ends == *ends).filter_map(|wire| wire.session);
        let earlier = between.filter(|session| self.sessions[*session].lives != lives);
        for session in earlier.collect::<Vec<_>>() {
            self.close(session, 0, false);
            self.close(session, 1, false);
        }
    }

    pub(crate) fn opened(&mut self, session: usize, end: End) {
        let Session { link, open, .. } = self.sessions[session];
        if open[end] && self.wires[link].session == Some(session) {
            self.sessions[session].known[end] = true;
            let (node, bearer) = (self.wires[link].ends[end].clone(), self.wires[link].bearer(end));
            self.input(&node, Input::SessionUp(bearer));
        }
    }

    /// Closes one end. Unless a newer session takes its place, somebody dials again.
    pub(crate) fn close(&mut self, session: usize, end: End, replaced: bool) {
        if !std::mem::take(&mut self.sessions[session].open[end]) {
            return;
        }
        let Session { link, open, known, .. } = self.sessions[session];
        if open == [false; 2] {
            self.sessions[session].forget();
        }
        if known[end] {
            let (node, bearer) = (self.wires[link].ends[end].clone(), self.wires[link].bearer(end));
            self.hear(&node, Input::SessionDown { bearer, goodbye: false });
        }
        if !replaced {
            self.tell_peer(session, end);
            self.dial_soon(link);
        }
    }

    /// The other end learns of it, if the link carries the word.
    fn tell_peer(&mut self, session: usize, end: End) {
        let wire = &self.wires[self.sessions[session].link];
        if !wire.condition.silent[end] {
            self.schedule(self.now + wire.latency(), Event::Closed { session, end: 1 - end });
        }
    }

    pub(crate) fn disconnect(&mut self, node: &NodeId, bearer: &Bearer) {
        if let Some((session, end)) = self.open_session(node, bearer) {
            self.close(session, end, false);
        }
    }

    /// An end that has heard nothing for long ends its session; one that may yet hear nothing looks again.
    pub(crate) fn idle_check(&mut self, session: usize, end: End) {
        let Session { link, open, heard, .. } = self.sessions[session];
        let deadline = heard[end] + IDLE_TIMEOUT;
        let wire = &self.wires[link];
        let in_doubt = wire.condition.silent[1 - end] || !open[1 - end] || !self.is_running(&wire.ends[1 - end]);
        if open[end] && deadline <= self.now {
            self.close(session, end, false);
        } else if open[end] && in_doubt {
            self.schedule(deadline, Event::IdleCheck { session, end });
        }
    }

    pub(crate) fn send(&mut self, from: &NodeId, to: &Bearer, message: Message) {
        if let Some((session, end)) = self.open_session(from, to) {
            self.under_way(session, end, CONTROL, message);
        }
    }

    fn under_way(&mut self, session: usize, from: End, stream: usize, message: Message) {
        let wire = &self.wires[self.sessions[session].link];
        let mut fate = wire.fate(message.bytes(), &mut self.seeded);
        if stream == CONTROL {
            fate.delay += self.sessions[session].send_control(self.now, from, wire.sending_time(message.bytes()));
        }
        self.count(&message, &fate);
        if fate.fatal {
            for end in [0, 1] {
                self.schedule(self.now + fate.delay, Event::Closed { session, end });
            }
        }
        let at = self.sessions[session].send(self.now, from, stream, message, &fate);
        self.schedule(at, Event::Arrival { session, from, stream });
    }

    fn count(&mut self, message: &Message, fate: &Fate) {
        let bytes = wire_bytes(message.bytes(), fate);
        match message {
            Message::Control { of_routing: true, .. } | Message::Padding(_) => self.traffic.routing_bytes += bytes,
            Message::Control { .. } | Message::Piece { .. } => self.traffic.records_bytes += bytes,
        }
    }

    pub(crate) fn arrival(&mut self, session: usize, from: End, stream: usize) {
        let link = self.sessions[session].link;
        if self.wires[link].condition.silent[from] {
            return self.sessions[session].stall(from, stream);
        }
        let (sender, receiver) = (self.wires[link].bearer(1 - from), self.wires[link].ends[1 - from].clone());
        let is_payload = ![CONTROL, PADDING].contains(&stream);
        if is_payload && self.sessions[session].open[1 - from] && !self.offices[&receiver].store.keeps_up() {
            return self.schedule(self.now + FLOW_CONTROL_DELAY, Event::Arrival { session, from, stream });
        }
        let Some(message) = self.sessions[session].arrive(self.now, from, stream) else { return };
        let heard_at = self.now + self.wires[link].latency();
        let is_acknowledged = !self.wires[link].condition.silent[1 - from];
        if is_acknowledged {
            self.sessions[session].acknowledge(from, heard_at);
        }
        let input = match message {
            Message::Control { bytes, .. } => {
                let frame = Frame::decode(bytes.slice(4..)).expect("a neighbor sends good frames");
                Input::Frame { from: sender, frame }
            }
            Message::Piece { head, data } => Input::Piece { from: sender, piece: read_piece(&head, data) },
            Message::Padding(bytes) if is_acknowledged => {
                return self.schedule(heard_at, Event::PaddingAcknowledged { session, from, bytes });
            }
            Message::Padding(_) => return,
        };
        self.input(&receiver, input);
    }

    /// The link heals: what waited arrives, and an end whose other end is gone learns it.
    pub(crate) fn resume(&mut self, link: usize) {
        let Some(session) = self.wires[link].session else { return };
        let silent = self.wires[link].condition.silent;
        for (from, stream, count) in self.sessions[session].unstall(silent) {
            for _ in 0..count {
                self.schedule(self.now + self.wires[link].latency(), Event::Arrival { session, from, stream });
            }
        }
        for end in [0, 1] {
            if !self.sessions[session].open[end] && self.is_running(&self.wires[link].ends[end]) {
                self.tell_peer(session, end);
            }
        }
    }

    pub(crate) fn carry(&mut self, from: &NodeId, to: &Bearer, carry: Carry) {
        if let Some((session, end)) = self.open_session(from, to) {
            self.sessions[session].carry(end, carry);
            self.use_line(session, end);
        }
    }

    /// Sends padding behind everything else.
    pub(crate) fn begin_trial(&mut self, from: &NodeId, over: &Bearer, bytes: usize, within: Duration) {
        if let Some((session, end)) = self.open_session(from, over) {
            self.sessions[session].begin_trial(end, bytes);
            self.schedule(self.now + within, Event::TrialOver { session, from: end });
            self.use_line(session, end);
        }
    }

    pub(crate) fn padding_acknowledged(&mut self, session: usize, from: End, bytes: usize) {
        if self.sessions[session].acknowledge_padding(from, bytes) {
            self.tried(session, from, true);
        }
    }

    pub(crate) fn trial_over(&mut self, session: usize, from: End) {
        if self.sessions[session].end_trial(from) {
            self.tried(session, from, false);
        }
    }

    fn tried(&mut self, session: usize, from: End, carried: bool) {
        let Session { link, open, .. } = self.sessions[session];
        if open[from] {
            let (node, over) = (self.wires[link].ends[from].clone(), self.wires[link].bearer(from));
            self.input(&node, Input::Tried { over, carried });
        }
    }

    /// Sends the next chunk, read from the store at this moment, if the line is free; padding if there is none.
    fn use_line(&mut self, session: usize, from: End) {
        let link = self.sessions[session].link;
        let sender = self.wires[link].ends[from].clone();
        while let Some(carry) = self.sessions[session].next_carry(from) {
            let Some((beginning, data)) = self.read_piece_of(&sender, &carry) else {
                self.hear(&sender, Input::Unreadable(carry.id));
                continue;
            };
            let (id, index, chunks) = (carry.id.clone(), carry.next_chunk, carry.chunks);
            let (signed_header, chunk_hashes) = beginning.unzip();
            let chunk_hashes = chunk_hashes.unwrap_or_default();
            let head = PieceHead { signed_header, id, index, chunks, chunk_hashes }.encode(data.len());
            let takes = self.wires[link].sending_time(head.len() + data.len());
            let free_at = self.now + takes + self.sessions[session].control_owes(self.now, from);
            let (stream, next_chunk) = (1 + carry.class as usize, carry.next_chunk + 1);
            let rest = (next_chunk < carry.chunks).then_some(Carry { next_chunk, ..carry });
            self.sessions[session].occupy(from, rest);
            let message = Message::Piece { head, data };
            self.schedule(free_at, Event::LineFree { session, from, message, stream });
        }
        if let Some(bytes) = self.sessions[session].next_padding(from, PACKET_BYTES) {
            let takes = self.wires[link].sending_time(bytes);
            let free_at = self.now + takes + self.sessions[session].control_owes(self.now, from);
            self.sessions[session].occupy(from, None);
            let message = Message::Padding(bytes);
            self.schedule(free_at, Event::LineFree { session, from, message, stream: PADDING });
        }
    }

    /// The next piece of a record as the daemon reads it.
    fn read_piece_of(&self, sender: &NodeId, carry: &Carry) -> Option<(Option<Beginning>, Bytes)> {
        let store = &self.offices[sender].store;
        if carry.next_chunk > 0 {
            return Some((None, store.read_chunk(&carry.id, carry.next_chunk)?));
        }
        let record = store.read(&carry.id)?;
        let (hashes, data) = match record.payload {
            ReadPayload::Inline(bytes) => (Vec::new(), bytes),
            ReadPayload::Chunks(hashes) => (hashes, store.read_chunk(&carry.id, 0)?),
        };
        Some((Some((record.header.encode(), hashes)), data))
    }

    /// What was on a line that was cut meanwhile stays there until it is heard again, or the session ends.
    pub(crate) fn line_free(&mut self, session: usize, from: End, message: Message, stream: usize) {
        let Session { link, open, .. } = self.sessions[session];
        if open[from] && self.wires[link].condition.silent[from] {
            return self.schedule(self.now + CUT_LINE_LOOK, Event::LineFree { session, from, message, stream });
        }
        self.sessions[session].line_free(from);
        if self.sessions[session].open[from] {
            self.under_way(session, from, stream, message);
            self.use_line(session, from);
        }
    }

    /// Nobody is told that the link or an end is gone: each end that is still there looks when its idle time is over.
    pub(crate) fn look_soon(&mut self, link: usize) {
        let Some(session) = self.wires[link].session else { return };
        for end in [0, 1] {
            self.schedule(self.now + IDLE_TIMEOUT, Event::IdleCheck { session, end });
        }
    }

    /// A process is gone, and its ends with it; no word is sent.
    pub(crate) fn forget_ends(&mut self, node: &NodeId) {
        for link in self.offices[node].links.clone() {
            let Some(end) = self.wires[link].end_of(node) else { continue };
            if let Some(session) = self.wires[link].session {
                self.sessions[session].open[end] = false;
            }
            self.look_soon(link);
        }
    }

    pub(crate) fn dial_all(&mut self, node: &NodeId) {
        for link in self.offices[node].links.clone() {
            self.dial_soon(link);
        }
    }
}

/// What goes with the first piece of a record: the header, and the hashes of all chunks if there are several.
type Beginning = (Bytes, Vec<ChunkHash>);

/// Reads a piece as the session layer does, and hashes it as a chunk.
fn read_piece(head: &Bytes, data: Bytes) -> Piece {
    let lengths = head[..PieceLengths::BYTES].try_into().expect("a head begins with its lengths");
    let lengths = PieceLengths::decode(lengths).expect("a neighbor sends good lengths");
    assert_eq!((lengths.head + PieceLengths::BYTES, lengths.piece), (head.len(), data.len()));
    let head = PieceHead::decode(head.slice(PieceLengths::BYTES..)).expect("a neighbor sends good heads");
    piece(head, data)
}

/// A piece with the hash that belongs to it.
#[must_use]
pub fn piece(head: PieceHead, data: Bytes) -> Piece {
    let hash = ChunkHash::of(&data, head.index, head.chunks);
    Piece { head, data, hash }
}
