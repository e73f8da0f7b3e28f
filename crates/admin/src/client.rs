//! How a program reaches a node's admin API.

use std::error::Error;
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use estafet_model::PublicKey;
use estafet_tls::{Identity, TlsError};
use hyper_util::rt::TokioIo;
use rustls::AlertDescription;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::TlsConnector;
use tonic::codegen::http::Uri;
use tonic::transport::{Channel, Endpoint};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_client::HealthClient;
use tower::service_fn;

use crate::ALPN;
use crate::v1::admin_client::AdminClient;

/// No connection to a node's admin API.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// The key cannot be used for TLS.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The expected node is there and refuses this key.
    #[error("{node} refuses this key")]
    KeyRefused {
        /// The address or path.
        node: String,
    },
    /// Nobody answered there, or not the expected node, or it hung up.
    #[error("failed to connect to {node}: {reason}")]
    NoAnswer {
        /// The address or path.
        node: String,
        /// What the network or TLS said.
        reason: String,
    },
}

impl ConnectError {
    fn no_answer(node: &impl fmt::Display, error: &dyn Error) -> Self {
        let (node, cause) = (node.to_string(), root_cause(error));
        let denied = rustls::Error::AlertReceived(AlertDescription::AccessDenied);
        // In a request's error it stands as text, and no longer as what it was.
        if cause.contains(&denied.to_string()) {
            return Self::KeyRefused { node };
        }
        Self::NoAnswer { node, reason: cause }
    }
}

impl AdminClient<Channel> {
    /// Connects to the owner of `expected` at `address`, as the owner of `identity`.
    ///
    /// A connection that the node would refuse is an error here, not at the first request. There is no timeout;
    /// dropping the future gives up.
    pub async fn connect_tls(
        address: SocketAddr,
        expected: PublicKey,
        identity: &Identity,
    ) -> Result<Self, ConnectError> {
        let connector = TlsConnector::from(Arc::new(identity.client_config(expected, ALPN)?));
        connect(address.to_string(), move || {
            let connector = connector.clone();
            async move {
                let stream = TcpStream::connect(address).await?;
                stream.set_nodelay(true)?;
                connector.connect(ServerName::from(address.ip()), stream).await
            }
        })
        .await
    }

    /// Connects to the node that listens on the Unix socket at `path`.
    pub async fn connect_unix(path: &Path) -> Result<Self, ConnectError> {
        let path = path.to_owned();
        connect(path.display().to_string(), move || UnixStream::connect(path.clone())).await
    }
}

/// Opens a channel and makes one request on it. In TLS 1.3 a client is done before the server has looked at its
/// certificate, so only an answer shows that it was let in.
async fn connect<Dial, Dialing, Stream>(node: String, dial: Dial) -> Result<AdminClient<Channel>, ConnectError>
where
    Dial: Fn() -> Dialing + Send + 'static,
    Dialing: Future<Output = io::Result<Stream>> + Send + 'static,
    Stream: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let connector = service_fn(move |_: Uri| {
        let dialing = dial();
        async move { dialing.await.map(TokioIo::new) }
    });
    // The name stands in the `:authority` of requests and is not looked up.
    let endpoint = Endpoint::from_static("http://admin.estafet")
        .http2_keep_alive_interval(KEEPALIVE_INTERVAL)
        .keep_alive_timeout(KEEPALIVE_TIMEOUT);
    let channel =
        endpoint.connect_with_connector(connector).await.map_err(|error| ConnectError::no_answer(&node, &error))?;
    HealthClient::new(channel.clone())
        .check(HealthCheckRequest::default())
        .await
        .map_err(|status| ConnectError::no_answer(&node, &status))?;
    Ok(AdminClient::new(channel))
}

/// The innermost error says what happened; those around it say only that something did.
fn root_cause(error: &dyn Error) -> String {
    let mut cause = error;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    cause.to_string()
}

/// A node that loses its power says nothing; whoever tails it must notice nevertheless.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(10);
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(10);
