//! A neighbor in the wrong hands, for tests and benchmarks: it holds the real private key of one node of a city, greets as
//! its relay would, and then says and does whatever its script wants.
//!
//! It stands on QUIC and TLS alone: the transport of honest relays (`estafet-quic`) would not let it misbehave. Read
//! [`Intruder`] first, then [`Intrusion`]. Nothing here is part of a relay.

mod intrusion;
mod lies;

use std::fs;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use estafet_model::{NodeId, SigningKey};
use estafet_tls::{Identity, KeyFileError, TlsError, read_key};
use estafet_topology::{SignedTopology, Topology, UntrustedTopology};
use estafet_wire::ALPN;
use quinn::crypto::rustls::QuicClientConfig;
use quinn::{ClientConfig, Connection, Endpoint, TransportConfig, VarInt};

pub use intrusion::{Intrusion, Polite, Taking};
pub use lies::piece;
pub use quinn::SendStream as Stream;

/// Why an intruder could not do what it wanted.
#[derive(Debug, thiserror::Error)]
pub enum Trouble {
    /// The city's files are not there.
    #[error("failed to read {path}: {source}")]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The topology is not signed.
    #[error(transparent)]
    Topology(#[from] UntrustedTopology),
    /// The key cannot be read.
    #[error(transparent)]
    Key(#[from] KeyFileError),
    /// TLS could not be set up.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The TLS library lacks what QUIC needs.
    #[error("failed to set up QUIC: {0}")]
    Quic(#[from] quinn::crypto::rustls::NoInitialCipherSuite),
    /// The address cannot be used.
    #[error("failed to use {address}: {source}")]
    Address {
        /// Which.
        address: SocketAddr,
        /// Why.
        source: io::Error,
    },
    /// The topology has no such node.
    #[error("the topology has no node {0}")]
    NoNode(NodeId),
    /// The relay did not let it in, or does not any more.
    #[error("the relay is out of reach: {0}")]
    Lost(String),
}

/// A machine that has the key of one node.
pub struct Intruder {
    node: NodeId,
    key: SigningKey,
    identity: Identity,
    topology: Topology,
    endpoint: Endpoint,
}

impl Intruder {
    /// Takes a node's key out of a city's folder, and speaks from this address. Must be called within a tokio runtime.
    pub fn of_city(city: &Path, node: &str, from: SocketAddr) -> Result<Self, Trouble> {
        let signed = city.join("city.topology");
        let text = fs::read_to_string(&signed).map_err(|source| Trouble::File { path: signed, source })?;
        let topology = SignedTopology::decode_kept(&text)?.topology().clone();
        let key = read_key(&city.join("nodes").join(node).join("node.key"))?;
        let known = topology.nodes.keys().find(|id| id.as_str() == node).cloned();
        let node = known.ok_or_else(|| {
            let path = city.join("nodes").join(node);
            Trouble::File { path, source: io::ErrorKind::NotFound.into() }
        })?;
        let identity = Identity::new(&key, node.as_str())?;
        let endpoint = Endpoint::client(from).map_err(|source| Trouble::Address { address: from, source })?;
        Ok(Self { node, key, identity, topology, endpoint })
    }

    /// Which node it plays.
    #[must_use]
    pub fn node(&self) -> &NodeId {
        &self.node
    }

    /// The topology that it has read.
    #[must_use]
    pub fn topology(&self) -> &Topology {
        &self.topology
    }

    /// A connection to a node's relay: the handshake is done, and nothing is said yet.
    pub async fn connect(&self, to: &str) -> Result<Connection, Trouble> {
        let listed = self.topology.nodes.values().find(|node| node.id.as_str() == to);
        let listed = listed.ok_or_else(|| Trouble::Lost(format!("the topology has no node {to}")))?;
        let tls = self.identity.client_config(listed.key, ALPN)?;
        let mut config = ClientConfig::new(Arc::new(QuicClientConfig::try_from(tls)?));
        config.transport_config(Arc::new(transport()));
        let address = *listed.addresses.first().ok_or_else(|| Trouble::NoNode(listed.id.clone()))?;
        let lost = |error: &dyn std::fmt::Display| Trouble::Lost(error.to_string());
        let connecting = self.endpoint.connect_with(config, address, "estafet").map_err(|error| lost(&error))?;
        let connected = tokio::time::timeout(PATIENCE, connecting).await.map_err(|error| lost(&error))?;
        connected.map_err(|error| lost(&error))
    }
}

impl std::fmt::Debug for Intruder {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "Intruder({})", self.node)
    }
}

/// How long a relay that is there takes for a handshake, with much to spare.
const PATIENCE: Duration = Duration::from_secs(5);

/// It takes as much as comes, and never falls silent by itself.
fn transport() -> TransportConfig {
    let mut transport = TransportConfig::default();
    transport
        .keep_alive_interval(Some(Duration::from_millis(500)))
        .max_concurrent_uni_streams(VarInt::from_u32(64))
        .send_window(64 << 20);
    transport
}
