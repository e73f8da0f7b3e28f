//! The endpoint: listens, accepts neighbors and nobody else, dials neighbors.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use estafet_model::{Bearer, Medium, NodeId, PublicKey};
use estafet_tls::{Identity, TlsError, key_of_certificate};
use estafet_wire::{ALPN, Frame, Hello};
use quinn::crypto::rustls::{QuicClientConfig, QuicServerConfig};
use quinn::{
    AckFrequencyConfig, Connection, ConnectionError, Endpoint, EndpointConfig, MtuDiscoveryConfig, ServerConfig,
    TokioRuntime, VarInt,
};
use socket2::{Domain, Protocol, Socket, Type};
use tokio::sync::{Semaphore, mpsc, watch};
use tokio::task::AbortHandle;
use tokio::time::Instant;
use tracing::{debug, warn};

use crate::acknowledged::Counted;
use crate::allowance::Allowances;
use crate::dial;
use crate::doorstep::Doorstep;
use crate::exclusion::Exclusions;
use crate::registry::Registry;
use crate::session::{self, PayloadSource, Session, SessionId};
use crate::turns::{self, PieceReceiver, PieceSender};

/// What the operating system may buffer per socket, so that a burst survives a busy moment.
const SOCKET_BUFFER_BYTES: usize = 4 << 20;

/// Flow control: a payload stream fills a link of 100 Mbit/s at 80 ms; the connection's window holds all streams at
/// once, so that full payload streams leave room for control. There is one stream for control, one for each class, and one
/// for a trial.
const STREAM_WINDOW_BYTES: u32 = 1 << 20;
const STREAMS_PER_SESSION: u32 = 5;
const CONNECTION_WINDOW_BYTES: u32 = STREAM_WINDOW_BYTES * (STREAMS_PER_SESSION + 1);

/// QUIC's own idle timeout only sweeps up; liveness is the adjacency's business and much quicker.
const IDLE_TIMEOUT_MS: u32 = 10_000;

/// Handshakes that strangers can keep us busy with at once, and for how long.
const HANDSHAKES_MAX: usize = 32;
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(3);

/// With fewer than this left, whoever knocks has to show first that its address is its own (RFC 9000, section 8.1).
const HANDSHAKES_UNASKED: usize = HANDSHAKES_MAX / 2;

/// Control frames and session news that may wait for the driver.
const CONTROL_QUEUE: usize = 1024;

/// The largest datagram. A path is searched for what it carries; on most it is 1,452 bytes, on loopback and between
/// machines with jumbo frames this, which halves what a byte costs. Ten of these go out with one call (GSO), and the
/// kernel takes 64 KiB.
const DATAGRAM_BYTES_MAX: u16 = 6_400;

/// Datagrams that are acknowledged together, and how long the first of them waits for the others: in a stream of payload
/// every second one (RFC 9000, section 13.2.2) would cost as much as it tells. What is out of order is acknowledged at once
/// (draft-ietf-quic-ack-frequency).
const DATAGRAMS_PER_ACK: u32 = 10;
const ACK_DELAY_MAX: Duration = Duration::from_millis(5);

/// So long a session goes on with who is no neighbor any more: it is to hear by which topology.
pub const LAST_WORDS: Duration = Duration::from_secs(1);

/// Codes of connections closed by us (RFC 9000, section 10.2: application errors are the protocol's own).
pub(crate) mod close_code {
    use quinn::VarInt;

    /// The node shuts down or the session is not needed any more.
    pub(crate) const GOODBYE: VarInt = VarInt::from_u32(1);
    /// Another session to the same neighbor stays.
    pub(crate) const DUPLICATE: VarInt = VarInt::from_u32(2);
    /// The other end broke the protocol.
    pub(crate) const PROTOCOL: VarInt = VarInt::from_u32(3);
    /// The other end was silent for too long.
    pub(crate) const SILENT: VarInt = VarInt::from_u32(4);
    /// By a new topology the other end is no neighbor any more, or not over this link, or not with this key.
    pub(crate) const REMOVED: VarInt = VarInt::from_u32(5);
}

/// A node at the other end of one or more links.
#[derive(Debug, Clone)]
pub struct Neighbor {
    /// Its key by the topology.
    pub key: PublicKey,
    /// Every bearer to it: where it listens over that, in order of preference. Without an address it dials, if anybody.
    pub bearers: BTreeMap<Medium, Vec<SocketAddr>>,
}

/// What an endpoint needs to know.
#[derive(Debug)]
pub struct TransportConfig {
    /// This node.
    pub me: NodeId,
    /// Drawn at random at this start.
    pub boot: u64,
    /// Where to listen (UDP).
    pub listen: SocketAddr,
    /// This node's key and certificate.
    pub identity: Identity,
    /// Who may have a session, to begin with.
    pub neighborhood: Neighborhood,
    /// Who hears of those who are refused a session. When it is full, nobody hears of the next.
    pub refusals: mpsc::Sender<RefusedSession>,
}

/// Somebody who dialed and is no neighbor.
#[derive(Debug, Clone)]
pub struct RefusedSession {
    /// From where.
    pub remote: SocketAddr,
    /// What the handshake came to.
    pub reason: String,
}

/// What the topology in force says of this node's neighbors.
#[derive(Debug, Clone)]
pub struct Neighborhood {
    /// The topology's version, told to each of them.
    pub topology_version: u64,
    /// Who may have a session.
    pub neighbors: BTreeMap<NodeId, Neighbor>,
}

impl Neighborhood {
    fn knows(&self, key: &PublicKey) -> bool {
        self.neighbors.values().any(|neighbor| neighbor.key == *key)
    }

    /// Every bearer on which there is an address to dial.
    fn dialed(&self) -> impl Iterator<Item = (Bearer, &[SocketAddr])> {
        self.neighbors.iter().flat_map(|(id, neighbor)| {
            let with_address = neighbor.bearers.iter().filter(|(_, addresses)| !addresses.is_empty());
            with_address.map(|(medium, addresses)| (Bearer::new(id.clone(), *medium), &addresses[..]))
        })
    }
}

/// The endpoint could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum TransportError {
    /// The address is taken or not ours.
    #[error("failed to listen for neighbors on {address} (UDP): {error}")]
    Listen {
        /// Where.
        address: SocketAddr,
        /// Why.
        error: io::Error,
    },
    /// TLS could not be set up.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The TLS library lacks what QUIC needs.
    #[error("failed to set up QUIC")]
    Quic(#[from] quinn::crypto::rustls::NoInitialCipherSuite),
}

/// Why a session ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DownReason {
    /// The neighbor said goodbye: it will not be back at once.
    Goodbye(String),
    /// By the neighbor's topology they are no neighbors any more, or not over this link.
    Removed,
    /// Anything else, in words.
    Lost(String),
}

/// What happens to sessions.
#[derive(Debug)]
pub enum SessionEvent {
    /// A neighbor is there. It replaces an earlier session over the same bearer.
    Up {
        /// Who, and over which bearer.
        bearer: Bearer,
        /// What it said of itself.
        hello: Hello,
        /// How to talk to it.
        session: Session,
    },
    /// A session is gone.
    Down {
        /// Who, and over which bearer.
        bearer: Bearer,
        /// Which of its sessions.
        session: SessionId,
        /// Why.
        reason: DownReason,
    },
    /// A control frame.
    Control {
        /// From whom, and over which bearer.
        bearer: Bearer,
        /// By which session.
        session: SessionId,
        /// What it says.
        frame: Frame,
    },
    /// A trial is over.
    Tried {
        /// With whom, and over which bearer.
        bearer: Bearer,
        /// By which session.
        session: SessionId,
        /// All of it was acknowledged in time.
        carried: bool,
    },
    /// A record that was to be carried could not be read here.
    Unreadable {
        /// Who was to have it.
        neighbor: NodeId,
        /// Which record.
        id: estafet_model::RecordId,
    },
}

/// Where the events come out. Control has its own way, so that it never waits behind payload.
#[derive(Debug)]
pub struct SessionEvents {
    /// Sessions and control frames.
    pub control: mpsc::Receiver<SessionEvent>,
    /// Pieces of payload.
    pub pieces: PieceReceiver,
}

/// What an endpoint has counted since it was started.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counts {
    /// Handshakes that others began and that were let in so far.
    pub handshakes: u64,
    /// How often a neighbor was kept out for a while.
    pub exclusions: u64,
}

/// What all tasks of a transport share.
pub(crate) struct Shared {
    pub(crate) me: NodeId,
    boot: u64,
    pub(crate) identity: Identity,
    pub(crate) endpoint: Endpoint,
    neighborhood: watch::Receiver<Arc<Neighborhood>>,
    pub(crate) registry: Registry,
    pub(crate) control: mpsc::Sender<SessionEvent>,
    pub(crate) pieces: PieceSender,
    pub(crate) source: Arc<dyn PayloadSource>,
    refusals: mpsc::Sender<RefusedSession>,
    pub(crate) allowances: Allowances,
    pub(crate) exclusions: Arc<Exclusions>,
    handshakes: AtomicU64,
}

impl Shared {
    /// The neighbors by the topology in force.
    pub(crate) fn neighborhood(&self) -> Arc<Neighborhood> {
        Arc::clone(&self.neighborhood.borrow())
    }

    /// What is said of this node over a bearer.
    pub(crate) fn hello(&self, medium: Option<Medium>) -> Hello {
        let topology_version = self.neighborhood.borrow().topology_version;
        Hello { node: self.me.clone(), boot: self.boot, topology_version, medium }
    }
}

/// The endpoint of one node.
pub struct Transport {
    shared: Arc<Shared>,
    neighborhood: watch::Sender<Arc<Neighborhood>>,
    /// Who dials over each bearer.
    dialing: BTreeMap<Bearer, AbortHandle>,
}

impl Transport {
    /// Listens and begins to dial. Must be called within a tokio runtime.
    pub fn start(
        config: TransportConfig,
        source: Arc<dyn PayloadSource>,
    ) -> Result<(Self, SessionEvents), TransportError> {
        let listen = config.listen;
        let socket = bind(listen).map_err(|error| TransportError::Listen { address: listen, error })?;
        let (neighborhood, neighborhood_out) = watch::channel(Arc::new(config.neighborhood));
        let admitted = neighborhood_out.clone();
        let server = config.identity.server_config(move |key| admitted.borrow().knows(key), ALPN)?;
        let mut server = ServerConfig::with_crypto(Arc::new(QuicServerConfig::try_from(server)?));
        server.transport_config(Arc::new(transport_parameters()));
        let mut datagrams = EndpointConfig::default();
        datagrams.max_udp_payload_size(DATAGRAM_BYTES_MAX).expect("QUIC allows 1,200 to 65,527 bytes");
        let endpoint = Endpoint::new(datagrams, Some(server), socket, Arc::new(TokioRuntime))
            .map_err(|error| TransportError::Listen { address: listen, error })?;
        let (control, control_out) = mpsc::channel(CONTROL_QUEUE);
        let (pieces, pieces_out) = turns::queue();
        let shared = Arc::new(Shared {
            me: config.me,
            boot: config.boot,
            identity: config.identity,
            endpoint,
            neighborhood: neighborhood_out,
            registry: Registry::default(),
            control,
            pieces,
            source,
            refusals: config.refusals,
            allowances: Allowances::default(),
            exclusions: Arc::default(),
            handshakes: AtomicU64::new(0),
        });
        tokio::spawn(accept(Arc::clone(&shared)));
        let mut transport = Self { shared, neighborhood, dialing: BTreeMap::new() };
        transport.dial_all();
        Ok((transport, SessionEvents { control: control_out, pieces: pieces_out }))
    }

    /// Another topology is in force: those who have become neighbors are dialed, those who are none any more get no new
    /// session, and lose the present one after [`LAST_WORDS`]; all others notice nothing. Must be called within a tokio
    /// runtime.
    pub fn set_neighborhood(&mut self, next: Neighborhood) {
        let before = self.neighborhood.send_replace(Arc::new(next));
        let next = self.shared.neighborhood();
        let addresses: BTreeMap<Bearer, &[SocketAddr]> = next.dialed().collect();
        let before: BTreeMap<Bearer, &[SocketAddr]> = before.dialed().collect();
        let has_changed = |bearer: &Bearer| addresses.get(bearer) != before.get(bearer);
        for (_, dialing) in self.dialing.extract_if(.., |bearer, _| has_changed(bearer)) {
            dialing.abort();
        }
        self.dial_all();
        let shared = Arc::clone(&self.shared);
        tokio::spawn(async move {
            tokio::time::sleep(LAST_WORDS).await;
            let neighborhood = shared.neighborhood();
            shared.registry.retain(|bearer, connection| {
                let neighbor = neighborhood.neighbors.get(&bearer.neighbor);
                neighbor.is_some_and(|neighbor| neighbor.bearers.contains_key(&bearer.medium))
                    && neighbor_of(&shared, connection).as_ref() == Some(&bearer.neighbor)
            });
        });
    }

    /// Dials over every bearer over which nobody does yet.
    fn dial_all(&mut self) {
        for (bearer, _) in self.shared.neighborhood().dialed() {
            let dial = |bearer: &Bearer| {
                tokio::spawn(dial::keep_dialing(Arc::clone(&self.shared), bearer.clone())).abort_handle()
            };
            self.dialing.entry(bearer).or_insert_with_key(dial);
        }
    }

    /// Where the endpoint listens.
    pub fn local_address(&self) -> io::Result<SocketAddr> {
        self.shared.endpoint.local_addr()
    }

    /// What was counted until now.
    #[must_use]
    pub fn counts(&self) -> Counts {
        let handshakes = self.shared.handshakes.load(Ordering::Relaxed);
        Counts { handshakes, exclusions: self.shared.exclusions.count() }
    }

    /// Says goodbye to everybody and waits, a second at most, until it is sent.
    pub async fn shut_down(&self, reason: &str) {
        self.shared.endpoint.close(close_code::GOODBYE, reason.as_bytes());
        let _still_open = tokio::time::timeout(Duration::from_secs(1), self.shared.endpoint.wait_idle()).await;
    }
}

fn bind(address: SocketAddr) -> io::Result<std::net::UdpSocket> {
    let socket = Socket::new(Domain::for_address(address), Type::DGRAM, Some(Protocol::UDP))?;
    socket.bind(&address.into())?;
    socket.set_nonblocking(true)?;
    for (what, outcome) in [
        ("receive", socket.set_recv_buffer_size(SOCKET_BUFFER_BYTES)),
        ("send", socket.set_send_buffer_size(SOCKET_BUFFER_BYTES)),
    ] {
        if let Err(error) = outcome {
            debug!(%error, what, "the socket buffer stays at the system's default");
        }
    }
    Ok(socket.into())
}

fn transport_parameters() -> quinn::TransportConfig {
    let mut parameters = quinn::TransportConfig::default();
    let mut acks = AckFrequencyConfig::default();
    acks.ack_eliciting_threshold(VarInt::from_u32(DATAGRAMS_PER_ACK)).max_ack_delay(Some(ACK_DELAY_MAX));
    let mut datagrams = MtuDiscoveryConfig::default();
    // The last bytes of a datagram are not worth a probe of each reconnection.
    datagrams.upper_bound(DATAGRAM_BYTES_MAX).minimum_change(100);
    parameters
        .mtu_discovery_config(Some(datagrams))
        .ack_frequency_config(Some(acks))
        .congestion_controller_factory(Arc::new(Counted::default()))
        .max_idle_timeout(Some(VarInt::from_u32(IDLE_TIMEOUT_MS).into()))
        .initial_rtt(Duration::from_millis(100))
        .stream_receive_window(VarInt::from_u32(STREAM_WINDOW_BYTES))
        .receive_window(VarInt::from_u32(CONNECTION_WINDOW_BYTES))
        .send_window(u64::from(CONNECTION_WINDOW_BYTES))
        .max_concurrent_bidi_streams(VarInt::from_u32(1))
        .max_concurrent_uni_streams(VarInt::from_u32(STREAMS_PER_SESSION - 1))
        .datagram_receive_buffer_size(None);
    parameters
}

/// The client side's configuration for one neighbor.
pub(crate) fn client_config(shared: &Shared, neighbor: &Neighbor) -> Result<quinn::ClientConfig, TransportError> {
    let tls = shared.identity.client_config(neighbor.key, ALPN)?;
    let mut config = quinn::ClientConfig::new(Arc::new(QuicClientConfig::try_from(tls)?));
    config.transport_config(Arc::new(transport_parameters()));
    Ok(config)
}

async fn accept(shared: Arc<Shared>) {
    let handshakes = Arc::new(Semaphore::new(HANDSHAKES_MAX));
    let doorstep = Arc::new(Doorstep::default());
    while let Some(incoming) = shared.endpoint.accept().await {
        let remote = incoming.remote_address();
        if handshakes.available_permits() < HANDSHAKES_UNASKED && !incoming.remote_address_validated() {
            // It has not been asked before, so it can be.
            let _asked = incoming.retry();
            continue;
        }
        let Some(visit) = doorstep.enter(remote.ip(), Instant::now()) else {
            // An answer would cost more than it is worth to who hammers.
            incoming.ignore();
            continue;
        };
        let Ok(permit) = Arc::clone(&handshakes).try_acquire_owned() else {
            incoming.refuse();
            continue;
        };
        shared.handshakes.fetch_add(1, Ordering::Relaxed);
        let shared = Arc::clone(&shared);
        tokio::spawn(async move {
            let _until_done = (permit, visit);
            let connection = async { incoming.accept()?.await };
            match tokio::time::timeout(HANDSHAKE_TIMEOUT, connection).await {
                Ok(Ok(connection)) => greet(&shared, connection).await,
                Ok(Err(error @ ConnectionError::TransportError(_))) => {
                    warn!(%remote, %error, "refused a connection: not a neighbor of this topology");
                    // With too many of them waiting, those that were heard of are enough.
                    let _ = shared.refusals.try_send(RefusedSession { remote, reason: error.to_string() });
                }
                Ok(Err(error)) => debug!(%remote, %error, "a connection ended before it began"),
                Err(_) => debug!(%remote, "a handshake was not finished in time"),
            }
        });
    }
}

async fn greet(shared: &Arc<Shared>, connection: Connection) {
    let Some(neighbor) = neighbor_of(shared, &connection) else {
        connection.close(close_code::PROTOCOL, b"not a neighbor");
        return;
    };
    if let Some(left) = shared.exclusions.left(&neighbor, Instant::now().into()) {
        debug!(%neighbor, ?left, "a neighbor that is kept out has dialed");
        connection.close(close_code::PROTOCOL, b"kept out for a while");
        return;
    }
    let established = session::establish(shared, &neighbor, connection.clone(), None);
    match tokio::time::timeout(HANDSHAKE_TIMEOUT, established).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => debug!(%neighbor, %error, "no session"),
        Err(_) => connection.close(close_code::PROTOCOL, b"no greeting"),
    }
}

/// Whose key the other end has proved to hold.
pub(crate) fn neighbor_of(shared: &Shared, connection: &Connection) -> Option<NodeId> {
    let identity = connection.peer_identity()?;
    let certificates = identity.downcast_ref::<Vec<estafet_tls::CertificateDer<'static>>>()?;
    let key = key_of_certificate(certificates.first()?)?;
    let neighborhood = shared.neighborhood();
    neighborhood.neighbors.iter().find(|(_, neighbor)| neighbor.key == key).map(|(id, _)| id.clone())
}
