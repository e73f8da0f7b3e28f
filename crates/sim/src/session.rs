//! One session between two neighbors, as QUIC gives it: streams that each keep their order, a line that carries so
//! many bits in a second, control before payload, urgent payload before normal and bulk, which share the rest, and padding
//! behind them all.

use std::collections::VecDeque;
use std::time::Duration;

use bytes::Bytes;
use estafet_model::{Class, Now, RecordId};

/// One end of a link: 0 or 1, as in `Link::ends`.
pub(crate) type End = usize;

/// The streams of one direction: control, one for each class, and one for padding.
const STREAMS: usize = 5;
pub(crate) const CONTROL: usize = 0;
pub(crate) const PADDING: usize = 4;

/// What travels.
#[derive(Debug)]
pub(crate) enum Message {
    Control {
        bytes: Bytes,
        of_routing: bool,
    },
    Piece {
        head: Bytes,
        data: Bytes,
    },
    /// So many bytes of it.
    Padding(usize),
}

impl Message {
    pub(crate) fn bytes(&self) -> usize {
        match self {
            Message::Control { bytes, .. } => bytes.len(),
            Message::Piece { head, data } => head.len() + data.len(),
            Message::Padding(bytes) => *bytes,
        }
    }
}

/// What becomes of a message on its way.
#[derive(Debug)]
pub(crate) struct Fate {
    pub(crate) delay: Duration,
    /// With those that were lost.
    pub(crate) packets_sent: usize,
    pub(crate) packets_lost: usize,
    /// The session dies of it.
    pub(crate) fatal: bool,
}

/// A record that is being streamed.
#[derive(Debug, Clone)]
pub(crate) struct Carry {
    pub(crate) id: RecordId,
    pub(crate) class: Class,
    pub(crate) chunks: u32,
    pub(crate) next_chunk: u32,
}

/// Padding that is to be carried in time.
#[derive(Debug)]
struct Trial {
    bytes_unsent: usize,
    bytes_unacknowledged: usize,
}

/// What is under way in one stream.
#[derive(Debug, Default)]
struct Stream {
    in_flight: VecDeque<Message>,
    /// Arrivals that wait for a cut link to heal.
    stalled: usize,
    last_arrival: Now,
}

/// One direction, from the end that sends.
#[derive(Debug, Default)]
struct Direction {
    streams: [Stream; STREAMS],
    carries: [VecDeque<Carry>; 3],
    trial: Option<Trial>,
    /// Whose turn it is of normal and bulk.
    bulk_next: bool,
    busy: bool,
    /// When acknowledgements come back to the end that sends.
    acknowledged: VecDeque<Now>,
    packets_sent: u64,
    packets_lost: u64,
    /// When the last control frame will have left. They wait for each other alone.
    control_free_at: Now,
    /// What control frames have taken of the line since the last piece began.
    control_took: Duration,
}

#[derive(Debug)]
pub(crate) struct Session {
    pub(crate) link: usize,
    /// Which lives of its ends it is between.
    pub(crate) lives: [u32; 2],
    pub(crate) open: [bool; 2],
    /// Which ends have learned that it is open.
    pub(crate) known: [bool; 2],
    /// When each end last heard something.
    pub(crate) heard: [Now; 2],
    from: [Direction; 2],
}

impl Session {
    pub(crate) fn new(link: usize, lives: [u32; 2], now: Now) -> Self {
        Self { link, lives, open: [true; 2], known: [false; 2], heard: [now; 2], from: Default::default() }
    }

    /// Puts a message on its way, at the first or a later attempt; returns when it arrives.
    pub(crate) fn send(&mut self, now: Now, from: End, stream: usize, message: Message, fate: &Fate) -> Now {
        let direction = &mut self.from[from];
        direction.packets_sent += fate.packets_sent as u64;
        direction.packets_lost += fate.packets_lost as u64;
        let stream = &mut direction.streams[stream];
        stream.in_flight.push_back(message);
        stream.last_arrival = stream.last_arrival.max(now + fate.delay);
        stream.last_arrival
    }

    /// A message has arrived at the end that `from` speaks to.
    pub(crate) fn arrive(&mut self, now: Now, from: End, stream: usize) -> Option<Message> {
        let message = self.from[from].streams[stream].in_flight.pop_front();
        self.heard[1 - from] = now;
        message.filter(|_| self.open[1 - from])
    }

    /// What arrived is acknowledged: the end `from` hears that at this time.
    pub(crate) fn acknowledge(&mut self, from: End, at: Now) {
        self.from[from].acknowledged.push_back(at);
    }

    /// True if an end has heard acknowledgements until now that it was not asked about before.
    pub(crate) fn was_acknowledged(&mut self, end: End, now: Now) -> bool {
        let acknowledged = &mut self.from[end].acknowledged;
        let heard = acknowledged.iter().take_while(|at| **at <= now).count();
        acknowledged.drain(..heard);
        heard > 0
    }

    /// How many packets an end has sent, and how many of these were lost.
    pub(crate) fn losses(&self, end: End) -> (u64, u64) {
        (self.from[end].packets_sent, self.from[end].packets_lost)
    }

    /// A control frame that the line takes so long for leaves as soon as those before it have left, ahead of all
    /// payload. Returns when it has left.
    pub(crate) fn send_control(&mut self, now: Now, from: End, takes: Duration) -> Duration {
        let direction = &mut self.from[from];
        direction.control_free_at = direction.control_free_at.max(now) + takes;
        if direction.busy {
            direction.control_took += takes;
        }
        direction.control_free_at.since(now)
    }

    /// What the next piece waits for: control that is still leaving, and what control took of the line from the last.
    pub(crate) fn control_owes(&mut self, now: Now, from: End) -> Duration {
        let direction = &mut self.from[from];
        let took = std::mem::take(&mut direction.control_took);
        took.max(direction.control_free_at.since(now))
    }

    /// The link is cut: what would arrive now waits, as QUIC sends it again.
    pub(crate) fn stall(&mut self, from: End, stream: usize) {
        self.from[from].streams[stream].stalled += 1;
    }

    /// The link is heard again: for each direction and stream, how many messages waited.
    pub(crate) fn unstall(&mut self, silent: [bool; 2]) -> Vec<(End, usize, usize)> {
        let mut waited = Vec::new();
        let heard = self.from.iter_mut().enumerate().filter(|(end, _)| !silent[*end]);
        for (end, direction) in heard {
            for (number, stream) in direction.streams.iter_mut().enumerate() {
                waited.push((end, number, std::mem::take(&mut stream.stalled)));
            }
        }
        waited
    }

    /// Nobody sends or hears anything through it any more.
    pub(crate) fn forget(&mut self) {
        self.from = Default::default();
    }

    pub(crate) fn carry(&mut self, from: End, carry: Carry) {
        self.from[from].carries[carry.class as usize].push_back(carry);
    }

    /// The record whose next chunk the line takes, if the line is free.
    pub(crate) fn next_carry(&mut self, from: End) -> Option<Carry> {
        let direction = &mut self.from[from];
        if direction.busy || !self.open[from] {
            return None;
        }
        direction.bulk_next = !direction.bulk_next;
        let order = if direction.bulk_next { [0, 2, 1] } else { [0, 1, 2] };
        order.into_iter().find_map(|class| direction.carries[class].pop_front())
    }

    pub(crate) fn begin_trial(&mut self, from: End, bytes: usize) {
        self.from[from].trial = Some(Trial { bytes_unsent: bytes, bytes_unacknowledged: bytes });
    }

    /// How much padding the line takes next, if it is free and no record waits for it; at most this much.
    pub(crate) fn next_padding(&mut self, from: End, bytes_max: usize) -> Option<usize> {
        let direction = &mut self.from[from];
        let trial = direction.trial.as_mut().filter(|trial| !direction.busy && trial.bytes_unsent > 0)?;
        let bytes = trial.bytes_unsent.min(bytes_max);
        trial.bytes_unsent -= bytes;
        Some(bytes)
    }

    /// So much padding is acknowledged. True if that was the last of the trial.
    pub(crate) fn acknowledge_padding(&mut self, from: End, bytes: usize) -> bool {
        let trial = &mut self.from[from].trial;
        if let Some(under_way) = trial {
            under_way.bytes_unacknowledged = under_way.bytes_unacknowledged.saturating_sub(bytes);
        }
        trial.take_if(|trial| trial.bytes_unacknowledged == 0).is_some()
    }

    /// The time of the trial is over. True if it was still under way.
    pub(crate) fn end_trial(&mut self, from: End) -> bool {
        self.from[from].trial.take().is_some()
    }

    /// The line is taken; the rest of the record follows.
    pub(crate) fn occupy(&mut self, from: End, rest: Option<Carry>) {
        let direction = &mut self.from[from];
        direction.busy = true;
        if let Some(rest) = rest {
            direction.carries[rest.class as usize].push_front(rest);
        }
    }

    pub(crate) fn line_free(&mut self, from: End) {
        self.from[from].busy = false;
    }
}
