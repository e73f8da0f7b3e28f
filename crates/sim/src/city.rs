//! The city: its offices, links and counters, and the agenda of what happens next.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use estafet_custody::{StorePayload, TransferId};
use estafet_model::{
    CHUNK_BYTES, ChunkHash, Class, Epoch, Idempotency, Kind, MediaType, NodeId, Now, PayloadHash, RecordId, SigningKey,
    UnixMillis, chunk_count,
};
use estafet_node::{Capture, CaptureRefused, CaptureToken, Captured, Input, Node, NodeEvent};
use estafet_spool::Command;
use estafet_store::chunk_append;
use estafet_topology::{CityPlan, Template, Topology};
use estafet_wire::{Answer, Frame, Verdict};

use crate::network::{Traffic, Wire};
use crate::oracle::Oracle;
use crate::plan::{Place, topology_of};
use crate::seeded::Seeded;
use crate::session::{End, Message, Session};
use crate::store::Store;

/// More events than this at one moment are a loop that does not end.
const EVENTS_AT_ONCE_MAX: u64 = 200_000;

/// Events that are remembered for whoever asks; the oldest is forgotten.
const EVENTS_MAX: usize = 65_536;

/// The morning on which every run begins, by the wall clock.
const MORNING: u64 = 1_376_870_400_000;

/// What happens next.
#[derive(Debug)]
pub(crate) enum Event {
    /// A node wants to be woken, if it has not asked for another time since.
    Wake(NodeId),
    /// A node hears something, if it is still the same process.
    Input { node: NodeId, life: u32, input: Box<Input> },
    /// A store's sync returns.
    Synced { node: NodeId, life: u32 },
    /// The node's daemon looks at its room and its round trips.
    Housekeeping { node: NodeId, life: u32 },
    /// Somebody tries to open a session over a link.
    Dial { link: usize },
    /// An end learns that the session is open.
    Opened { session: usize, end: End },
    /// The next message of a stream arrives.
    Arrival { session: usize, from: End, stream: usize },
    /// The line of one direction has sent what it carried.
    LineFree { session: usize, from: End, message: Message, stream: usize },
    /// So much padding is acknowledged.
    PaddingAcknowledged { session: usize, from: End, bytes: usize },
    /// The time of a trial is over.
    TrialOver { session: usize, from: End },
    /// An end learns that the other has closed the session.
    Closed { session: usize, end: End },
    /// An end looks whether it has heard anything lately.
    IdleCheck { session: usize, end: End },
}

/// A node and its disk.
#[derive(Debug)]
pub(crate) struct Office {
    pub(crate) key: SigningKey,
    /// How often it has started.
    pub(crate) life: u32,
    /// Nothing while the power is gone.
    pub(crate) node: Option<Node>,
    pub(crate) store: Store,
    pub(crate) booted: Now,
    pub(crate) wake_at: Option<Now>,
    pub(crate) clock: Clock,
    /// The numbers of its links.
    pub(crate) links: Vec<usize>,
    /// All epochs its spools have had, each with the newest number that was given.
    pub(crate) given: BTreeMap<Epoch, u32>,
}

/// What an office's clock on the wall says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Clock {
    /// The right time.
    #[default]
    Right,
    /// It began at 1970 again.
    Of1970,
    /// It is a day ahead.
    Tomorrow,
}

impl Clock {
    pub(crate) fn read(self, now: Now) -> UnixMillis {
        let now = u64::try_from(now.0.as_millis()).unwrap_or(u64::MAX);
        UnixMillis(match self {
            Clock::Right => MORNING + now,
            Clock::Of1970 => now,
            Clock::Tomorrow => MORNING + 86_400_000 + now,
        })
    }
}

/// A promise was broken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// When.
    pub at: Now,
    /// What happened.
    pub what: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "at {:?}: {}", self.at.0, self.what)
    }
}

impl std::error::Error for Violation {}

/// What a counter was told.
pub type CounterAnswer = Result<Captured, CaptureRefused>;

/// The city.
#[derive(Debug)]
pub struct City {
    /// The time since the run began.
    pub now: Now,
    /// What decides everything.
    pub seed: u64,
    /// What counters were told.
    pub answers: BTreeMap<CaptureToken, CounterAnswer>,
    /// What nodes said of themselves, newest last; the oldest are forgotten.
    pub events: VecDeque<(Now, NodeId, NodeEvent)>,
    /// Refusals for good, as they were sent: by whom, to whom, of what.
    pub refusals: Vec<(NodeId, NodeId, Answer)>,
    /// What was sent.
    pub traffic: Traffic,
    /// Everything that mentions this is written down.
    pub watched: Option<String>,
    /// What was written down of it.
    pub sightings: Vec<String>,
    pub(crate) topology: Arc<Topology>,
    pub(crate) hubs: Vec<NodeId>,
    pub(crate) offices: BTreeMap<NodeId, Office>,
    pub(crate) wires: Vec<Wire>,
    pub(crate) sessions: Vec<Session>,
    agenda: BTreeMap<(Now, u64), Event>,
    event_count: u64,
    events_at_once: u64,
    token_count: u64,
    pub(crate) seeded: Seeded,
    pub(crate) oracle: Oracle,
    pub(crate) digest: blake3::Hasher,
}

/// A node id that is known to be good.
///
/// # Panics
/// If it is not.
#[must_use]
pub fn id(text: &str) -> NodeId {
    text.parse().expect("a good node id")
}

/// So many milliseconds.
#[must_use]
pub fn millis(count: u64) -> Duration {
    Duration::from_millis(count)
}

/// Payload that no other token has.
#[must_use]
pub fn payload(bytes: usize, token: u64) -> Bytes {
    let mut seeded = Seeded::new(token);
    (0..bytes.div_ceil(8)).flat_map(|_| seeded.draw().to_le_bytes()).take(bytes).collect()
}

/// The key of a node; here everybody may know it.
#[must_use]
pub fn key_of(node: &NodeId) -> SigningKey {
    SigningKey::from_seed(*PayloadHash::of(node.as_str().as_bytes()).as_bytes())
}

impl City {
    /// All nodes start at once; nothing is connected yet.
    ///
    /// # Panics
    /// If the city has no main server.
    #[must_use]
    pub fn new(place: Place, seed: u64) -> Self {
        let mut topology = topology_of(place.plan(seed));
        // Every other city with two main servers keeps records until both have them.
        topology.copies = if (seed / 4).is_multiple_of(2) { topology.hubs.len() } else { 1 };
        Self::of_topology(topology, seed)
    }

    /// A city of this plan, in which all nodes start at once; nothing is connected yet.
    ///
    /// # Panics
    /// If the plan has no main server, or a link of which it does not say what it carries.
    #[must_use]
    pub fn of_plan(plan: CityPlan, seed: u64) -> Self {
        Self::of_topology(topology_of(plan), seed)
    }

    fn of_topology(topology: Topology, seed: u64) -> Self {
        let topology = Arc::new(topology);
        let hubs: Vec<NodeId> = topology.hub_ids().cloned().collect();
        assert!(!hubs.is_empty(), "the city has a main server");
        let mut city = Self {
            now: Now::default(),
            seed,
            answers: BTreeMap::new(),
            events: VecDeque::new(),
            refusals: Vec::new(),
            traffic: Traffic::default(),
            watched: None,
            sightings: Vec::new(),
            offices: BTreeMap::new(),
            wires: Vec::new(),
            sessions: Vec::new(),
            agenda: BTreeMap::new(),
            event_count: 0,
            events_at_once: 0,
            token_count: 0,
            seeded: Seeded::new(seed),
            oracle: Oracle::default(),
            digest: blake3::Hasher::new(),
            topology: Arc::clone(&topology),
            hubs,
        };
        city.wires = topology.links.iter().map(|link| Wire::new(link, &mut city.seeded)).collect();
        for node in topology.nodes.keys() {
            let office = Office {
                key: key_of(node),
                life: 0,
                node: None,
                store: Store::new(city.hubs.contains(node)),
                booted: Now::default(),
                wake_at: None,
                clock: Clock::Right,
                links: (0..city.wires.len()).filter(|link| city.wires[*link].end_of(node).is_some()).collect(),
                given: BTreeMap::new(),
            };
            city.offices.insert(node.clone(), office);
        }
        topology.nodes.keys().for_each(|node| city.restart(node));
        city
    }

    /// A city in which every node has found its way.
    #[must_use]
    pub fn settled(template: Template, seed: u64) -> Self {
        let mut city = Self::new(Place::Known(template), seed);
        city.run_for(Duration::from_secs(3));
        city
    }

    /// All offices and the main server.
    #[must_use]
    pub fn node_ids(&self) -> Vec<NodeId> {
        self.topology.nodes.keys().cloned().collect()
    }

    /// How many links there are; they are numbered.
    #[must_use]
    pub fn link_count(&self) -> usize {
        self.wires.len()
    }

    /// The node, which must be running.
    ///
    /// # Panics
    /// If it is not.
    #[must_use]
    pub fn node(&self, node: &str) -> &Node {
        self.offices[&id(node)].node.as_ref().expect("it is running")
    }

    /// True if the node has power and runs.
    #[must_use]
    pub fn is_running(&self, node: &NodeId) -> bool {
        self.offices[node].node.is_some()
    }

    /// The disk of a node.
    #[must_use]
    pub fn store(&self, node: &str) -> &Store {
        &self.offices[&id(node)].store
    }

    /// True if a main server has the record durably.
    #[must_use]
    pub fn is_committed(&self, record: &RecordId) -> bool {
        self.archives().any(|(_, archive)| archive.holds(record))
    }

    /// The main servers with their archives.
    pub(crate) fn archives(&self) -> impl Iterator<Item = (&NodeId, &Store)> {
        self.hubs.iter().map(|hub| (hub, &self.offices[hub].store))
    }

    pub(crate) fn is_hub(&self, node: &NodeId) -> bool {
        self.hubs.contains(node)
    }

    /// A counter of `node` hands in a record with bytes of its own.
    pub fn capture(&mut self, node: &str, class: Class, bytes: usize) -> CaptureToken {
        let payload = payload(bytes, self.token_count ^ (self.seed << 32));
        self.capture_with(node, class, &payload, None)
    }

    /// A counter of `node` hands in this record. Like the daemon's intake, an office without room refuses it.
    ///
    /// # Panics
    /// If it is larger than records may be.
    pub fn capture_with(
        &mut self,
        node: &str,
        class: Class,
        payload: &Bytes,
        idempotency_key: Option<[u8; 16]>,
    ) -> CaptureToken {
        let token = CaptureToken(self.token_count);
        self.token_count += 1;
        let id = id(node);
        if !self.is_running(&id) || self.offices[&id].store.room().0 <= payload.len() as u64 {
            return token;
        }
        self.oracle.handed_in(&id, token, payload);
        let payload_hash = PayloadHash::of(payload);
        let content = *payload_hash.as_bytes().first_chunk().expect("a hash has 32 bytes");
        let capture = Capture {
            token,
            class,
            kind: Kind::default(),
            media_type: MediaType::default(),
            payload_bytes: u32::try_from(payload.len()).expect("a record is at most 16 MiB"),
            payload_hash,
            captured_at: self.offices[&id].clock.read(self.now),
            idempotency: idempotency_key.map(|key| Idempotency { key, content }),
            payload: self.store_payload(&id, token, payload),
        };
        self.input(&id, Input::Captures(vec![capture]));
        token
    }

    /// A small payload goes with its record, the chunks of a large one before it.
    fn store_payload(&mut self, node: &NodeId, token: CaptureToken, payload: &Bytes) -> StorePayload {
        let transfer = TransferId(token.0);
        let count = chunk_count(u32::try_from(payload.len()).unwrap_or(u32::MAX));
        if count <= 1 {
            return StorePayload::Inline(payload.clone());
        }
        for (index, chunk) in (0..count).zip(payload.chunks(CHUNK_BYTES)) {
            let hash = ChunkHash::of(chunk, index, count);
            let append = chunk_append(transfer, index, payload.slice_ref(chunk), hash);
            self.command(node, Command::Append(append));
        }
        StorePayload::Transfer(transfer)
    }

    /// The record of a capture that was answered with a slip.
    ///
    /// # Panics
    /// If it was not.
    #[must_use]
    pub fn slip(&self, token: CaptureToken) -> RecordId {
        self.answers[&token].as_ref().expect("it was taken").id.clone()
    }

    /// Lets so much time pass.
    pub fn advance(&mut self, span: Duration) -> Result<(), Violation> {
        let end = self.now + span;
        while self.step(end) {}
        if self.oracle.violation().is_none() {
            self.now = end;
        }
        self.oracle.violation().map_or(Ok(()), Err)
    }

    /// Lets so much time pass.
    ///
    /// # Panics
    /// If a promise is broken.
    pub fn run_for(&mut self, span: Duration) {
        if let Err(violation) = self.advance(span) {
            panic!("seed {}: {violation}", self.seed);
        }
    }

    /// Lets time pass until `done`; false if it is not by `span` from now.
    pub fn advance_until(&mut self, span: Duration, done: impl Fn(&Self) -> bool) -> Result<bool, Violation> {
        let end = self.now + span;
        while !done(self) {
            if self.now >= end {
                return Ok(false);
            }
            let step = (self.now + millis(10)).min(end);
            self.advance(step.since(self.now))?;
        }
        Ok(true)
    }

    /// Lets time pass until `done`; false if it is not by `span` from now.
    ///
    /// # Panics
    /// If a promise is broken.
    pub fn run_until(&mut self, span: Duration, done: impl Fn(&Self) -> bool) -> bool {
        self.advance_until(span, done).unwrap_or_else(|violation| panic!("seed {}: {violation}", self.seed))
    }

    /// Lets the next thing happen; false if that is not by `end`.
    fn step(&mut self, end: Now) -> bool {
        if self.oracle.violation().is_some() {
            return false;
        }
        let Some(entry) = self.agenda.first_entry().filter(|entry| entry.key().0 <= end) else { return false };
        let ((at, _), event) = entry.remove_entry();
        if at > self.now {
            self.now = at;
            self.events_at_once = 0;
        }
        self.events_at_once += 1;
        if self.events_at_once > EVENTS_AT_ONCE_MAX {
            self.violated(format!("a loop without end: {event:?}"));
        }
        self.happen(event);
        true
    }

    /// A promise is broken: nothing more happens.
    pub(crate) fn violated(&mut self, what: String) {
        self.oracle.violated(self.now, what);
    }

    pub(crate) fn schedule(&mut self, at: Now, event: Event) {
        self.event_count += 1;
        self.agenda.insert((at.max(self.now), self.event_count), event);
    }

    /// What a node says of itself.
    pub(crate) fn said(&mut self, node: &NodeId, event: NodeEvent) {
        self.digest_of(node, format!("{event:?}").as_bytes());
        if self.events.len() == EVENTS_MAX {
            self.events.pop_front();
        }
        self.events.push_back((self.now, node.clone(), event));
    }

    /// Writes down what mentions what is watched.
    pub(crate) fn watch(&mut self, node: &NodeId, what: &impl fmt::Debug) {
        if let Some(watched) = &self.watched {
            let text = format!("{what:?}");
            if text.contains(watched) {
                self.sightings.push(format!("{:?} {node} {text:.600}", self.now.0));
            }
        }
    }

    /// Adds something that happened to the digest of the run.
    pub(crate) fn digest_of(&mut self, node: &NodeId, what: &[u8]) {
        self.digest.update(&self.now.0.as_nanos().to_le_bytes());
        self.digest.update(node.as_str().as_bytes());
        self.digest.update(what);
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Wake(node) => self.wake(&node),
            Event::Input { node, life, input } => {
                if self.offices[&node].life == life {
                    self.input(&node, *input);
                }
            }
            Event::Synced { node, life } => self.synced(&node, life),
            Event::Housekeeping { node, life } => self.housekeeping(&node, life),
            Event::Dial { link } => self.dial(link),
            Event::Opened { session, end } => self.opened(session, end),
            Event::Arrival { session, from, stream } => self.arrival(session, from, stream),
            Event::LineFree { session, from, message, stream } => self.line_free(session, from, message, stream),
            Event::PaddingAcknowledged { session, from, bytes } => self.padding_acknowledged(session, from, bytes),
            Event::TrialOver { session, from } => self.trial_over(session, from),
            Event::Closed { session, end } => self.close(session, end, false),
            Event::IdleCheck { session, end } => self.idle_check(session, end),
        }
    }
}

/// A refusal for good among answers.
pub(crate) fn refusals(frame: &Frame) -> impl Iterator<Item = &Answer> {
    let answers = if let Frame::Answers(answers) = frame { answers.as_slice() } else { &[] };
    answers.iter().filter(|answer| matches!(answer.verdict, Verdict::Never(_)))
}
