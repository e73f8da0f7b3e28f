//! One session: its greeting, its tasks, and the handle by which the driver uses it.

use std::fmt;
use std::net::IpAddr;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use estafet_model::{Bearer, ChunkHash, Class, Medium, NodeId, RecordId};
use estafet_wire::{BadFrame, Frame};
use quinn::{ApplicationClose, Connection, ConnectionError, ConnectionStats};
use tokio::sync::mpsc;
use tracing::{error, info, warn};

use crate::acknowledged;
use crate::allowance::Allowance;
use crate::exclusion::{Exclusions, Offense};
use crate::registry::Claim;
use crate::streams;
use crate::transport::{DownReason, SessionEvent, Shared, close_code, neighbor_of};
use crate::trial;

/// Control frames that may wait to be sent. A neighbor that lets more pile up does not read, and is given up.
const CONTROL_OUT_QUEUE: usize = 4096;

/// And how many bytes of them: more than the whole database of an area of ten thousand nodes.
const CONTROL_OUT_BYTES_MAX: usize = 16 << 20;

/// Tells a session from all others of this process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SessionId(u64);

impl SessionId {
    pub(crate) fn next() -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        Self(NEXT.fetch_add(1, Ordering::Relaxed))
    }
}

/// What a session's connection has measured since it began.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Figures {
    /// Packets that the neighbor has acknowledged: more than before means that it hears this node.
    pub packets_acknowledged: u64,
    /// The round-trip time, smoothed (RFC 9002, section 5.3).
    pub round_trip: Duration,
    /// Packets sent, and of these lost (RFC 9002, section 6).
    pub packets_sent: u64,
    /// Packets that had to be sent again.
    pub packets_lost: u64,
    /// What may be under way without an acknowledgement (RFC 9002, section 7).
    pub window_bytes: u64,
}

/// The session has ended; its `Down` event says why.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the session has ended")]
pub struct SessionGone;

/// The record is not on this node's disk, or cannot be read from it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Unreadable(pub String);

/// A record as the store has it.
#[derive(Debug, Clone)]
pub struct ReadRecord {
    /// Its signed header, in canonical form.
    pub signed_header: Bytes,
    /// The hashes of its payload's chunks, at least one.
    pub chunk_hashes: Vec<ChunkHash>,
    /// The first of its chunks.
    pub chunks: Vec<Bytes>,
}

/// A record that is to be streamed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Carry {
    /// Which record.
    pub id: RecordId,
    /// How many chunks its payload has.
    pub chunks: u32,
    /// The neighbor has those before this one.
    pub first_chunk: u32,
}

/// Where sessions read the payload that they carry: on threads that may block, unless it is said otherwise.
pub trait PayloadSource: Send + Sync + 'static {
    /// A record that is still in memory, with all of its chunks. It may be there only once. Must not block.
    fn recent(&self, id: &RecordId) -> Option<ReadRecord>;
    /// The header, and so many of the chunks, the first on; all if there are fewer.
    fn read(&self, id: &RecordId, chunks: u32) -> Result<ReadRecord, Unreadable>;
    /// Later chunks.
    fn read_chunks(&self, id: &RecordId, chunks: Range<u32>) -> Result<Vec<Bytes>, Unreadable>;
}

/// A live session. Dropping it does not end it.
#[derive(Clone)]
pub struct Session {
    id: SessionId,
    bearer: Bearer,
    boot: u64,
    connection: Connection,
    acknowledged: Arc<AtomicU64>,
    events: mpsc::Sender<SessionEvent>,
    control: mpsc::Sender<Bytes>,
    control_bytes: Arc<AtomicUsize>,
    allowance: Arc<Allowance>,
    exclusions: Arc<Exclusions>,
    payload: [mpsc::UnboundedSender<Carry>; 3],
}

impl Session {
    /// Which session.
    #[must_use]
    pub fn id(&self) -> SessionId {
        self.id
    }

    /// The boot number of the neighbor that it is with: another one is another life of it.
    #[must_use]
    pub fn boot(&self) -> u64 {
        self.boot
    }

    /// Where the neighbor is heard from now.
    #[must_use]
    pub fn remote(&self) -> IpAddr {
        self.connection.remote_address().ip().to_canonical()
    }

    /// Queues a control frame. A neighbor that does not read is given up: the session ends.
    pub fn send(&self, frame: &Frame) -> Result<(), SessionGone> {
        let frame = frame.encode();
        let queued = self.control_bytes.fetch_add(frame.len(), Ordering::Relaxed);
        if queued > CONTROL_OUT_BYTES_MAX || self.control.try_send(frame).is_err() {
            if self.connection.close_reason().is_none() {
                warn!(bearer = %self.bearer, queued, "gave up a session: the neighbor does not read");
            }
            self.connection.close(close_code::PROTOCOL, b"control frames are not read");
            return Err(SessionGone);
        }
        Ok(())
    }

    /// The neighbor has sent payload that was of no use. With too much of it, what it sends next is read later.
    pub fn wasted(&self, pieces: u64, bytes: u64) {
        self.allowance.wasted(pieces, bytes);
    }

    /// The neighbor has done what no honest one does, or hardly ever. If that is enough, the session ends, and it is kept out
    /// for a while over all its bearers; that is logged here. True if so: its other sessions are to be
    /// [ended](Session::expel) as well.
    pub fn offended(&self, offense: Offense, what: &'static str) -> bool {
        let is_kept_out = exclude(&self.exclusions, &self.bearer.neighbor, offense, what);
        if is_kept_out {
            self.expel(what);
        }
        is_kept_out
    }

    /// Ends the session with a neighbor that is kept out.
    pub fn expel(&self, what: &'static str) {
        self.connection.close(close_code::PROTOCOL, what.as_bytes());
    }

    /// Queues a record to be streamed. Custody's window bounds how many wait.
    pub fn carry(&self, carry: Carry, class: Class) -> Result<(), SessionGone> {
        self.payload[class as usize].send(carry).map_err(|_| SessionGone)
    }

    /// Begins to send so much padding behind everything else. A [`SessionEvent::Tried`] says whether the neighbor's transport
    /// has acknowledged all of it in time; what has not left by then does not leave any more. To be called within a tokio
    /// runtime.
    pub fn begin_trial(&self, bytes: u32, within: Duration) {
        let (connection, events) = (self.connection.clone(), self.events.clone());
        tokio::spawn(trial::run(connection, bytes, within, events, (self.bearer.clone(), self.id)));
    }

    /// What the connection has measured until now.
    #[must_use]
    pub fn figures(&self) -> Figures {
        let ConnectionStats { path, .. } = self.connection.stats();
        Figures {
            packets_acknowledged: self.acknowledged.load(Ordering::Relaxed),
            round_trip: path.rtt,
            packets_sent: path.sent_packets,
            packets_lost: path.lost_packets,
            window_bytes: path.cwnd,
        }
    }

    /// Gives the session up because the neighbor is silent.
    pub fn give_up(&self) {
        self.connection.close(close_code::SILENT, b"silent");
    }
}

/// Notes an offense; true if the neighbor is kept out for it.
pub(crate) fn exclude(exclusions: &Exclusions, neighbor: &NodeId, offense: Offense, what: &str) -> bool {
    let Some(excluded) = exclusions.note(neighbor, offense, Instant::now()) else { return false };
    error!(
        %neighbor, what, for_s = excluded.as_secs(),
        "a neighbor misbehaves and is kept out for a while: look whether its machine is still in good hands"
    );
    true
}

impl fmt::Debug for Session {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Session({})", self.id.0)
    }
}

/// Why a connection became no session.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NoSession {
    #[error("the connection was lost: {0}")]
    Lost(#[from] ConnectionError),
    #[error("the stream was lost: {0}")]
    Stream(String),
    #[error(transparent)]
    BadFrame(#[from] BadFrame),
    #[error("the neighbor did not begin with a greeting")]
    NoHello,
    #[error("the neighbor says it is {0}, but its key is another node's")]
    WrongName(NodeId),
    #[error("the topology has no such bearer to it: {}", .0.map_or("none named", Medium::as_str))]
    NoBearer(Option<Medium>),
    #[error("another session with it stays")]
    Duplicate,
}

/// Greets the neighbor and, if this session is to be the one over its bearer, starts its tasks. `dialed` is the medium if
/// it was dialed here; otherwise the neighbor says it.
pub(crate) async fn establish(
    shared: &Arc<Shared>,
    neighbor: &NodeId,
    connection: Connection,
    dialed: Option<Medium>,
) -> Result<(), NoSession> {
    let we_dialed = dialed.is_some();
    let (mut send, mut receive) = if we_dialed { connection.open_bi().await? } else { connection.accept_bi().await? };
    let hello = |medium| Frame::Hello(shared.hello(medium)).encode();
    if we_dialed {
        send.write_chunk(hello(dialed)).await.map_err(|error| NoSession::Stream(error.to_string()))?;
    }
    let frame = streams::read_frame(&mut receive).await.map_err(|error| NoSession::Stream(error.to_string()))?;
    let (Frame::Hello(their_hello), _) = frame.ok_or(NoSession::NoHello)? else { return Err(NoSession::NoHello) };
    if their_hello.node != *neighbor {
        connection.close(close_code::PROTOCOL, b"wrong name");
        return Err(NoSession::WrongName(their_hello.node));
    }
    let Some(medium) = agreed_medium(shared, neighbor, dialed, their_hello.medium) else {
        connection.close(close_code::PROTOCOL, b"no such bearer");
        return Err(NoSession::NoBearer(their_hello.medium));
    };
    let bearer = Bearer::new(neighbor.clone(), medium);
    let id = SessionId::next();
    let dialer = if we_dialed { shared.me.clone() } else { neighbor.clone() };
    let claim = Claim { boot: their_hello.boot, dialer };
    if !shared.registry.claim(&shared.me, &bearer, id, claim, &connection) {
        connection.close(close_code::DUPLICATE, b"another session stays");
        return Err(NoSession::Duplicate);
    }
    // Whoever another topology shuts out just now was closed with the others, or is here.
    let stays = agreed_medium(shared, neighbor, dialed, their_hello.medium) == Some(medium);
    if !stays || neighbor_of(shared, &connection).as_ref() != Some(neighbor) {
        shared.registry.end(&bearer, id);
        connection.close(close_code::REMOVED, b"not a neighbor any more");
        return Err(NoSession::NoBearer(Some(medium)));
    }
    if !we_dialed {
        // Refusal by a lost stream shows in the supervisor, which ends the registered session.
        let _lost = send.write_chunk(hello(their_hello.medium)).await;
    }
    let (control, control_out) = mpsc::channel(CONTROL_OUT_QUEUE);
    let control_bytes = Arc::new(AtomicUsize::new(0));
    let payload = Class::ALL.map(|class| streams::spawn_payload_writer(shared, neighbor, &connection, class));
    let session = Session {
        id,
        bearer: bearer.clone(),
        boot: their_hello.boot,
        connection: connection.clone(),
        acknowledged: acknowledged::packets(&connection),
        events: shared.control.clone(),
        control,
        control_bytes: Arc::clone(&control_bytes),
        allowance: shared.allowances.of(neighbor),
        exclusions: Arc::clone(&shared.exclusions),
        payload,
    };
    info!(%neighbor, %medium, remote = %connection.remote_address(), "session up");
    let up = SessionEvent::Up { bearer: bearer.clone(), hello: their_hello, session };
    if shared.control.send(up).await.is_err() {
        connection.close(close_code::GOODBYE, b"shutting down");
        return Ok(());
    }
    tokio::spawn(streams::write_control(send, control_out, control_bytes, connection.clone()));
    tokio::spawn(streams::read_control(Arc::clone(shared), bearer.clone(), id, receive, connection.clone()));
    tokio::spawn(streams::accept_payload(Arc::clone(shared), bearer.clone(), id, connection.clone()));
    tokio::spawn(supervise(Arc::clone(shared), bearer, id, connection));
    Ok(())
}

/// Which bearer both ends mean, if this node's topology has it.
fn agreed_medium(shared: &Shared, neighbor: &NodeId, dialed: Option<Medium>, theirs: Option<Medium>) -> Option<Medium> {
    let neighborhood = shared.neighborhood();
    let bearers = &neighborhood.neighbors.get(neighbor)?.bearers;
    let only = bearers.keys().next().copied().filter(|_| bearers.len() == 1);
    let medium = dialed.or(theirs).or(only)?;
    (bearers.contains_key(&medium) && theirs.is_none_or(|theirs| theirs == medium)).then_some(medium)
}

/// Reports the end of a session, once.
async fn supervise(shared: Arc<Shared>, bearer: Bearer, session: SessionId, connection: Connection) {
    let error = connection.closed().await;
    shared.registry.end(&bearer, session);
    let reason = match &error {
        ConnectionError::ApplicationClosed(ApplicationClose { error_code, reason })
            if *error_code == close_code::GOODBYE =>
        {
            DownReason::Goodbye(String::from_utf8_lossy(reason).into_owned())
        }
        ConnectionError::ApplicationClosed(closed) if closed.error_code == close_code::REMOVED => DownReason::Removed,
        other => DownReason::Lost(other.to_string()),
    };
    info!(neighbor = %bearer.neighbor, medium = %bearer.medium, ?reason, "session down");
    let _driver_is_gone = shared.control.send(SessionEvent::Down { bearer, session, reason }).await;
}
