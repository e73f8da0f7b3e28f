//! The links of the city and the sessions over them.

use std::time::Duration;

use bytes::Bytes;
use estafet_custody::Piece;
use estafet_model::{ChunkHash, Class, NodeId, chunk_count};
use estafet_topology::Link;
use estafet_wire::{Frame, PieceHead, PieceLengths};

use super::seeded::Seeded;
use super::session::{CONTROL, Carry, End, Message, Session};
use super::{City, Event, IDLE_TIMEOUT};
use crate::Input;

/// How long after a failed attempt the next one comes.
const REDIAL_DELAY: Duration = Duration::from_millis(250);

/// A link and how it fares.
#[derive(Debug)]
pub(super) struct Wire {
    pub(super) ends: [NodeId; 2],
    latency: Duration,
    bits_per_second: u64,
    pub(super) cut: bool,
    /// The session that was opened last.
    pub(super) session: Option<usize>,
    dialing: bool,
}

impl Wire {
    pub(super) fn new(link: &Link, seeded: &mut Seeded) -> Self {
        Self {
            ends: link.ends.clone(),
            latency: seeded.micros(500, 15_000),
            bits_per_second: link.capacity_bits_per_second.expect("the templates state it"),
            cut: false,
            session: None,
            dialing: false,
        }
    }

    fn end_of(&self, node: &NodeId) -> Option<End> {
        self.ends.iter().position(|end| end == node)
    }

    fn sending_time(&self, bytes: usize) -> Duration {
        Duration::from_micros(bytes as u64 * 8 * 1_000_000 / self.bits_per_second)
    }
}

impl City {
    pub(super) fn link_between(&self, one: &NodeId, other: &NodeId) -> Option<usize> {
        self.wires.iter().position(|wire| wire.end_of(one).is_some() && wire.end_of(other).is_some())
    }

    /// The session of `node` with `neighbor`, if it is open at this end.
    fn open_session(&self, node: &NodeId, neighbor: &NodeId) -> Option<(usize, End)> {
        let wire = &self.wires[self.link_between(node, neighbor)?];
        let end = wire.end_of(node)?;
        let session = wire.session.filter(|session| self.sessions[*session].open[end])?;
        Some((session, end))
    }

    pub(super) fn dial_soon(&mut self, link: usize) {
        if !std::mem::replace(&mut self.wires[link].dialing, true) {
            let delay = self.seeded.micros(20_000, 200_000);
            self.schedule(self.now + delay, Event::Dial { link });
        }
    }

    /// Opens a session if both ends can, and one of them has none. The other then ends its old one first.
    pub(super) fn dial(&mut self, link: usize) {
        self.wires[link].dialing = false;
        let ends = self.wires[link].ends.clone();
        let old = self.wires[link].session.map(|session| self.sessions[session].open).unwrap_or_default();
        if old == [true; 2] || ends.iter().all(|end| !self.is_running(end)) {
            return;
        }
        if self.wires[link].cut || ends.iter().any(|end| !self.is_running(end)) {
            self.wires[link].dialing = true;
            return self.schedule(self.now + REDIAL_DELAY, Event::Dial { link });
        }
        if let Some(old) = self.wires[link].session {
            self.close(old, 0, true);
            self.close(old, 1, true);
        }
        self.wires[link].session = Some(self.sessions.len());
        self.sessions.push(Session::new(link, self.now));
        for (end, node) in ends.iter().enumerate() {
            self.hear(node, Input::SessionUp(ends[1 - end].clone()));
        }
    }

    /// Closes one end. Unless a newer session takes its place, somebody dials again.
    pub(super) fn close(&mut self, session: usize, end: End, replaced: bool) {
        if !std::mem::take(&mut self.sessions[session].open[end]) {
            return;
        }
        let link = self.sessions[session].link;
        let ends = self.wires[link].ends.clone();
        self.hear(&ends[end], Input::SessionDown { neighbor: ends[1 - end].clone(), goodbye: false });
        if !replaced {
            self.tell_peer(session, end);
            self.dial_soon(link);
        }
    }

    /// The other end learns of it, if the link carries the word.
    fn tell_peer(&mut self, session: usize, end: End) {
        let wire = &self.wires[self.sessions[session].link];
        if !wire.cut {
            self.schedule(self.now + wire.latency, Event::Closed { session, end: 1 - end });
        }
    }

    pub(super) fn disconnect(&mut self, node: &NodeId, neighbor: &NodeId) {
        if let Some((session, end)) = self.open_session(node, neighbor) {
            self.close(session, end, false);
        }
    }

    /// An end that has heard nothing for long ends its session; one that may yet hear nothing looks again.
    pub(super) fn idle_check(&mut self, session: usize, end: End) {
        let Session { link, open, heard, .. } = self.sessions[session];
        let deadline = heard[end] + IDLE_TIMEOUT;
        let wire = &self.wires[link];
        let in_doubt = wire.cut || !open[1 - end] || !self.is_running(&wire.ends[1 - end]);
        if open[end] && deadline <= self.now {
            self.close(session, end, false);
        } else if open[end] && in_doubt {
            self.schedule(deadline, Event::IdleCheck { session, end });
        }
    }

    pub(super) fn send(&mut self, from: &NodeId, to: &NodeId, message: Message) {
        if let Some((session, end)) = self.open_session(from, to) {
            self.under_way(session, end, CONTROL, message);
        }
    }

    fn under_way(&mut self, session: usize, from: End, stream: usize, message: Message) {
        let delay = self.wires[self.sessions[session].link].latency + self.seeded.micros(0, 2_000);
        let at = self.sessions[session].send(self.now, from, stream, message, delay);
        self.schedule(at, Event::Arrival { session, from, stream });
    }

    pub(super) fn arrival(&mut self, session: usize, from: End, stream: usize) {
        let link = self.sessions[session].link;
        if self.wires[link].cut {
            return self.sessions[session].stall(from, stream);
        }
        let [sender, receiver] = [from, 1 - from].map(|end| self.wires[link].ends[end].clone());
        let Some(message) = self.sessions[session].arrive(self.now, from, stream) else { return };
        let input = match message {
            Message::Control(bytes) => {
                let frame = Frame::decode(bytes.slice(4..)).expect("a neighbor sends good frames");
                Input::Frame { from: sender, frame }
            }
            Message::Piece { head, data } => Input::Piece { from: sender, piece: read_piece(&head, data) },
        };
        self.input(&receiver, input);
    }

    /// The link heals: what waited arrives, and an end whose other end is gone learns it.
    pub(super) fn resume(&mut self, link: usize) {
        let Some(session) = self.wires[link].session else { return };
        for (from, stream, count) in self.sessions[session].unstall() {
            for _ in 0..count {
                self.schedule(self.now + self.wires[link].latency, Event::Arrival { session, from, stream });
            }
        }
        for end in [0, 1] {
            if !self.sessions[session].open[end] && self.is_running(&self.wires[link].ends[end]) {
                self.tell_peer(session, end);
            }
        }
    }

    pub(super) fn carry(&mut self, from: &NodeId, to: &NodeId, carry: Carry) {
        if let Some((session, end)) = self.open_session(from, to) {
            self.sessions[session].carry(end, carry);
            self.use_line(session, end);
        }
    }

    /// Sends the next chunk, read from the store at this moment, if the line is free.
    fn use_line(&mut self, session: usize, from: End) {
        let link = self.sessions[session].link;
        let sender = self.wires[link].ends[from].clone();
        while let Some(carry) = self.sessions[session].next_carry(from) {
            let Some(record) = self.offices[&sender].store.record(&carry.id) else {
                self.hear(&sender, Input::Unreadable(carry.id));
                continue;
            };
            let data = record.chunk(carry.next_chunk);
            let signed_header = (carry.next_chunk == 0).then(|| record.header.encode());
            let count = chunk_count(record.header.header().payload_bytes);
            let chunk_hashes = if carry.next_chunk == 0 && count > 1 { record.chunk_hashes() } else { Vec::new() };
            let (id, index) = (carry.id.clone(), carry.next_chunk);
            let head = PieceHead { signed_header, id, index, chunks: count, chunk_hashes }.encode(data.len());
            let free_at = self.now + self.wires[link].sending_time(head.len() + data.len());
            let (class, next_chunk) = (carry.class, carry.next_chunk + 1);
            let rest = (next_chunk < count).then_some(Carry { next_chunk, ..carry });
            self.sessions[session].occupy(from, rest);
            let message = Message::Piece { head, data };
            self.schedule(free_at, Event::LineFree { session, from, message, class });
        }
    }

    pub(super) fn line_free(&mut self, session: usize, from: End, message: Message, class: Class) {
        self.sessions[session].line_free(from);
        if self.sessions[session].open[from] {
            self.under_way(session, from, 1 + class as usize, message);
            self.use_line(session, from);
        }
    }

    /// Nobody is told: each end that is still there looks when its idle time is over.
    pub(super) fn silence(&mut self, link: usize) {
        let Some(session) = self.wires[link].session else { return };
        for end in [0, 1] {
            self.schedule(self.now + IDLE_TIMEOUT, Event::IdleCheck { session, end });
        }
    }

    /// A process is gone, and its ends with it; no word is sent.
    pub(super) fn forget_ends(&mut self, node: &NodeId) {
        for link in 0..self.wires.len() {
            let Some(end) = self.wires[link].end_of(node) else { continue };
            if let Some(session) = self.wires[link].session {
                self.sessions[session].open[end] = false;
            }
            self.silence(link);
        }
    }

    pub(super) fn dial_all(&mut self, node: &NodeId) {
        for link in 0..self.wires.len() {
            if self.wires[link].end_of(node).is_some() {
                self.dial_soon(link);
            }
        }
    }
}

/// Reads a piece as the session layer does, and hashes it as a chunk.
fn read_piece(head: &Bytes, data: Bytes) -> Piece {
    let lengths = head[..PieceLengths::BYTES].try_into().expect("a head begins with its lengths");
    let lengths = PieceLengths::decode(lengths).expect("a neighbor sends good lengths");
    assert_eq!((lengths.head + PieceLengths::BYTES, lengths.piece), (head.len(), data.len()));
    let head = PieceHead::decode(head.slice(PieceLengths::BYTES..)).expect("a neighbor sends good heads");
    piece(head, data)
}

/// A piece with the hash that belongs to it.
pub(crate) fn piece(head: PieceHead, data: Bytes) -> Piece {
    let hash = ChunkHash::of(&data, head.index, head.chunks);
    Piece { head, data, hash }
}
