//! Pekanbaru under virtual time: real nodes, with disks, links and a clock that a seed decides.
//!
//! Fault model. A node may lose power at any moment: its process is gone, and of its store what was not synced (of
//! the sync under way a beginning may be there, though nobody was told). A link may be cut: what is under way waits,
//! and arrives if the link heals before the session ends. Nobody is told of either; neighbors notice by their timers,
//! sessions end [`IDLE_TIMEOUT`] after the last thing heard. Disks do not forget and do not lie about a sync.
//!
//! Everything that is promised (slips, acceptances, receipts) passes the [`Oracle`] at the moment it is given.

mod driver;
mod faults;
mod network;
mod oracle;
mod seeded;
mod session;
mod store;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use estafet_custody::{StorePayload, TransferId};
use estafet_model::{
    CHUNK_BYTES, Class, Epoch, Kind, MediaType, NodeId, Now, PayloadHash, RecordId, SigningKey, UnixMillis,
};
use estafet_topology::{NodeSetup, Operator, OperatorRole, Template, Topology};
use estafet_wire::{Answer, Frame, Verdict};

use crate::{Capture, CaptureRefused, CaptureToken, Captured, Input, Node, NodeEvent};
use network::Wire;
pub(crate) use network::piece;
use oracle::Oracle;
pub(crate) use seeded::Seeded;
use session::{End, Session};
use store::{Entry, VirtualStore};

/// How long after the last thing heard a session ends.
pub(crate) const IDLE_TIMEOUT: Duration = Duration::from_secs(2);

/// More events than this at one moment are a loop that does not end.
const EVENTS_AT_ONCE_MAX: u64 = 200_000;

/// Transfer ids from here on are the nodes', as in the daemon.
const FIRST_NODE_TRANSFER: u64 = 1 << 32;

/// What happens next.
#[derive(Debug)]
enum Event {
    /// A node wants to be woken, if it has not asked for another time since.
    Wake(NodeId),
    /// A node hears something, if it is still the same process.
    Input { node: NodeId, life: u32, input: Input },
    /// A store's sync returns.
    Synced { node: NodeId, life: u32 },
    /// Somebody tries to open a session over a link.
    Dial { link: usize },
    /// The next message of a stream arrives.
    Arrival { session: usize, from: End, stream: usize },
    /// The line of one direction has sent what it carried.
    LineFree { session: usize, from: End, message: session::Message, class: Class },
    /// An end learns that the other has closed the session.
    Closed { session: usize, end: End },
    /// An end looks whether it has heard anything lately.
    IdleCheck { session: usize, end: End },
}

/// A node and its disk.
#[derive(Debug)]
pub(crate) struct Office {
    key: SigningKey,
    /// How often it has started.
    life: u32,
    /// Nothing while the power is gone.
    node: Option<Node>,
    store: VirtualStore,
    booted: Now,
    wake_at: Option<Now>,
}

/// What a counter was told.
pub(crate) type CounterAnswer = Result<Captured, CaptureRefused>;

/// The city.
#[derive(Debug)]
pub(crate) struct City {
    pub(crate) now: Now,
    pub(crate) seed: u64,
    pub(crate) answers: BTreeMap<CaptureToken, CounterAnswer>,
    pub(crate) events: Vec<(Now, NodeId, NodeEvent)>,
    /// Refusals for good, as they were sent: by whom, to whom, of what.
    pub(crate) refusals: Vec<(NodeId, NodeId, Answer)>,
    topology: Arc<Topology>,
    hub: NodeId,
    offices: BTreeMap<NodeId, Office>,
    wires: Vec<Wire>,
    sessions: Vec<Session>,
    agenda: BTreeMap<(Now, u64), Event>,
    event_count: u64,
    token_count: u64,
    seeded: Seeded,
    oracle: Oracle,
}

pub(crate) fn id(text: &str) -> NodeId {
    text.parse().unwrap()
}

pub(crate) fn millis(count: u64) -> Duration {
    Duration::from_millis(count)
}

/// Payload that no other token has.
pub(crate) fn payload(bytes: usize, token: u64) -> Bytes {
    let mut seeded = Seeded::new(token);
    (0..bytes.div_ceil(8)).flat_map(|_| seeded.next().to_le_bytes()).take(bytes).collect()
}

/// The key of a node; in tests everybody may know it.
pub(crate) fn key_of(node: &NodeId) -> SigningKey {
    SigningKey::from_seed(*PayloadHash::of(node.as_str().as_bytes()).as_bytes())
}

fn topology(template: Template) -> Topology {
    let admin = SigningKey::from_seed([7; 32]).public();
    let operator = Operator { id: "kepala".to_owned(), key: admin, role: OperatorRole::Admin };
    let address = std::net::SocketAddr::from(([127, 0, 0, 1], 4000));
    template.plan().into_topology(operator, |node| NodeSetup {
        key: key_of(node).public(),
        addresses: vec![address],
        admin: address,
    })
}

impl City {
    /// All nodes start at once; nothing is connected yet.
    pub(crate) fn new(template: Template, seed: u64) -> Self {
        let topology = Arc::new(topology(template));
        let hub = topology.hub_ids().next().expect("the city has a main server").clone();
        let mut city = Self {
            now: Now::default(),
            seed,
            answers: BTreeMap::new(),
            events: Vec::new(),
            refusals: Vec::new(),
            offices: BTreeMap::new(),
            wires: Vec::new(),
            sessions: Vec::new(),
            agenda: BTreeMap::new(),
            event_count: 0,
            token_count: 0,
            seeded: Seeded::new(seed),
            oracle: Oracle::default(),
            topology: Arc::clone(&topology),
            hub,
        };
        city.wires = topology.links.iter().map(|link| Wire::new(link, &mut city.seeded)).collect();
        for node in topology.nodes.keys() {
            let store = VirtualStore::new(*node == city.hub);
            let office =
                Office { key: key_of(node), life: 0, node: None, store, booted: Now::default(), wake_at: None };
            city.offices.insert(node.clone(), office);
        }
        topology.nodes.keys().for_each(|node| city.restart(node));
        city
    }

    /// A city in which every node has found its way.
    pub(crate) fn settled(template: Template, seed: u64) -> Self {
        let mut city = Self::new(template, seed);
        city.run_for(Duration::from_secs(3));
        city
    }

    pub(crate) fn node_ids(&self) -> Vec<NodeId> {
        self.topology.nodes.keys().cloned().collect()
    }

    pub(crate) fn link_count(&self) -> usize {
        self.wires.len()
    }

    /// The node, which must be running.
    pub(crate) fn node(&self, node: &str) -> &Node {
        self.offices[&id(node)].node.as_ref().expect("it is running")
    }

    pub(crate) fn is_running(&self, node: &NodeId) -> bool {
        self.offices[node].node.is_some()
    }

    pub(crate) fn store(&self, node: &str) -> &VirtualStore {
        &self.offices[&id(node)].store
    }

    pub(crate) fn is_committed(&self, record: &RecordId) -> bool {
        self.hub_store().record(record).is_some()
    }

    fn hub_store(&self) -> &VirtualStore {
        &self.offices[&self.hub].store
    }

    /// A counter of `node` hands in a record with bytes of its own.
    pub(crate) fn capture(&mut self, node: &str, class: Class, bytes: usize) -> CaptureToken {
        let payload = payload(bytes, self.token_count ^ (self.seed << 32));
        self.capture_with(node, class, payload, None)
    }

    /// A counter of `node` hands in this record.
    pub(crate) fn capture_with(
        &mut self,
        node: &str,
        class: Class,
        payload: Bytes,
        idempotency: Option<[u8; 16]>,
    ) -> CaptureToken {
        let token = CaptureToken(self.token_count);
        self.token_count += 1;
        self.oracle.handed_in(&id(node), token, payload.clone());
        let capture = Capture {
            token,
            class,
            kind: Kind::default(),
            media_type: MediaType::default(),
            payload_bytes: u32::try_from(payload.len()).unwrap(),
            payload_hash: PayloadHash::of(&payload),
            captured_at: UnixMillis(0),
            idempotency,
            payload: self.store_payload(&id(node), token, payload),
        };
        self.input(&id(node), Input::Captures(vec![capture]));
        token
    }

    /// A small payload goes with its record, the chunks of a large one before it.
    fn store_payload(&mut self, node: &NodeId, token: CaptureToken, payload: Bytes) -> StorePayload {
        if payload.len() <= CHUNK_BYTES {
            return StorePayload::Inline(payload);
        }
        let transfer = TransferId(token.0);
        for chunk in payload.chunks(CHUNK_BYTES) {
            self.append(node, Entry::Chunk { transfer, data: payload.slice_ref(chunk) });
        }
        StorePayload::Transfer(transfer)
    }

    /// The record of a capture that was answered with a slip.
    pub(crate) fn slip(&self, token: CaptureToken) -> RecordId {
        self.answers[&token].as_ref().expect("it was taken").id.clone()
    }

    pub(crate) fn run_for(&mut self, span: Duration) {
        let end = self.now + span;
        while self.step(end) {}
        self.now = end;
    }

    /// Runs until `done`; false if it is not by `span` from now.
    pub(crate) fn run_until(&mut self, span: Duration, done: impl Fn(&Self) -> bool) -> bool {
        let end = self.now + span;
        loop {
            if done(self) {
                return true;
            }
            let step = (self.now + millis(10)).min(end);
            while self.step(step) {}
            self.now = step;
            if step == end {
                return done(self);
            }
        }
    }

    /// Lets the next thing happen; false if that is not by `end`.
    fn step(&mut self, end: Now) -> bool {
        let Some(entry) = self.agenda.first_entry().filter(|entry| entry.key().0 <= end) else { return false };
        let ((at, _), event) = entry.remove_entry();
        if at > self.now {
            self.now = at;
            self.oracle.events_at_once = 0;
        }
        self.oracle.events_at_once += 1;
        assert!(self.oracle.events_at_once < EVENTS_AT_ONCE_MAX, "seed {}: a loop without end: {event:?}", self.seed);
        self.happen(event);
        true
    }

    fn schedule(&mut self, at: Now, event: Event) {
        self.event_count += 1;
        self.agenda.insert((at.max(self.now), self.event_count), event);
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Wake(node) => self.wake(&node),
            Event::Input { node, life, input } => {
                if self.offices[&node].life == life {
                    self.input(&node, input);
                }
            }
            Event::Synced { node, life } => self.synced(&node, life),
            Event::Dial { link } => self.dial(link),
            Event::Arrival { session, from, stream } => self.arrival(session, from, stream),
            Event::LineFree { session, from, message, class } => self.line_free(session, from, message, class),
            Event::Closed { session, end } => self.close(session, end, false),
            Event::IdleCheck { session, end } => self.idle_check(session, end),
        }
    }

    fn epoch() -> Epoch {
        Epoch::new(1).expect("a good epoch")
    }
}

/// A refusal for good among answers.
fn refusals(frame: &Frame) -> impl Iterator<Item = &Answer> {
    let answers = if let Frame::Answers(answers) = frame { answers.as_slice() } else { &[] };
    answers.iter().filter(|answer| matches!(answer.verdict, Verdict::Never(_)))
}
