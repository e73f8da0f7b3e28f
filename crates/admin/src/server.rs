//! Everything of an admin server but the answers: listening, handshakes, access, health, reflection.

use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use estafet_model::PublicKey;
use estafet_tls::{Identity, TlsError};
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsAcceptor;
use tokio_stream::StreamExt;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Server;

use crate::access::AccessLayer;
use crate::connection::Connection;
use crate::doorkeeper::{Doorkeeper, Refusal, Refused, WhyRefused};
use crate::quota::Limits;
use crate::v1::admin_server::{Admin, AdminServer};
use crate::{ALPN, DESCRIPTORS};

/// Where a node can be asked. Without any listener the server only waits for its shutdown.
#[derive(Debug, Default)]
pub struct Listeners {
    /// TLS for operators and other nodes, and the identity that is shown to them.
    pub tcp: Option<(TcpListener, Identity)>,
    /// For whoever may open the socket's file, with every right: see [`bind_unix`].
    pub unix: Option<UnixListener>,
}

/// The admin API could not be served.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The TLS side could not be set up.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The descriptors of the API do not decode.
    #[error("failed to set up reflection")]
    Reflection(#[from] tonic_reflection::server::Error),
    /// The HTTP/2 side gave up.
    #[error("failed to serve the admin API")]
    Transport(#[from] tonic::transport::Error),
}

/// Serves `service` until `shutdown` is done, then lets running requests finish for a moment.
///
/// Nobody gets an answer whom the `doorkeeper` does not know, and nobody more of them than the `limits` say.
pub async fn serve<S: Admin>(
    service: S,
    listeners: Listeners,
    limits: Limits,
    doorkeeper: impl Doorkeeper,
    shutdown: impl Future<Output = ()>,
) -> Result<(), ServeError> {
    let doorkeeper: Arc<dyn Doorkeeper> = Arc::new(doorkeeper);
    let (health_reporter, health) = tonic_health::server::health_reporter();
    health_reporter.set_serving::<AdminServer<S>>().await;
    let reflection = || {
        tonic_reflection::server::Builder::configure()
            .register_encoded_file_descriptor_set(DESCRIPTORS)
            .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
    };
    let router = Server::builder()
        .http2_keepalive_interval(Some(KEEPALIVE_INTERVAL))
        .http2_keepalive_timeout(Some(KEEPALIVE_TIMEOUT))
        .max_concurrent_streams(REQUESTS_PER_CONNECTION_MAX)
        .layer(AccessLayer::new(Arc::clone(&doorkeeper), limits))
        .add_service(health)
        .add_service(reflection().build_v1()?)
        .add_service(reflection().build_v1alpha()?)
        .add_service(AdminServer::new(service));

    let (accepted, connections) = mpsc::channel(1);
    let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let mut accepting = JoinSet::new();
    if let Some((listener, identity)) = listeners.tcp {
        // One that cannot be made is to be known now, and not with the first client.
        Handshake::new(&identity, &doorkeeper)?;
        accepting.spawn(accept_tls(listener, identity, doorkeeper, Arc::clone(&places), accepted.clone()));
    }
    if let Some(listener) = listeners.unix {
        accepting.spawn(accept_unix(listener, places, accepted.clone()));
    }

    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let connections = ReceiverStream::new(connections).map(Ok::<_, io::Error>);
    let serving = router.serve_with_incoming_shutdown(connections, async {
        // A dropped sender means the same: nobody wants the server any more.
        let _ = stopped.await;
    });
    tokio::pin!(serving);
    tokio::select! {
        ended = &mut serving => return Ok(ended?),
        () = shutdown => {}
    }
    accepting.shutdown().await;
    let _ = stop.send(());
    // Streams such as Tail never end by themselves; whoever still listens after this is cut off.
    timeout(SHUTDOWN_GRACE, serving).await.unwrap_or(Ok(()))?;
    Ok(())
}

/// Listens on a Unix socket that only the owner of the process can open. A socket left by an earlier process is
/// replaced.
///
/// The socket gets its permission under another name before it appears under its own, so that there is no moment in
/// which anybody else could open it.
pub fn bind_unix(path: &Path) -> io::Result<UnixListener> {
    let mut unguarded = path.as_os_str().to_owned();
    unguarded.push("~");
    match std::fs::remove_file(&unguarded) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let listener = UnixListener::bind(&unguarded)?;
    std::fs::set_permissions(&unguarded, std::fs::Permissions::from_mode(0o600))?;
    std::fs::rename(&unguarded, path)?;
    Ok(listener)
}

/// What it takes to let one client in. Each has its own: then it is known which key was refused, and no session of an
/// earlier connection is taken up again.
struct Handshake {
    acceptor: TlsAcceptor,
    /// The key that the client holds, if it is nobody's.
    unknown: Arc<OnceLock<PublicKey>>,
}

impl Handshake {
    fn new(identity: &Identity, doorkeeper: &Arc<dyn Doorkeeper>) -> Result<Self, TlsError> {
        let unknown = Arc::<OnceLock<PublicKey>>::default();
        let (noted, doorkeeper) = (Arc::clone(&unknown), Arc::clone(doorkeeper));
        let admits = move |key: &PublicKey| {
            let is_known = doorkeeper.caller(key).is_some();
            if !is_known {
                // Who shows a second one in the same handshake is refused for the first.
                let _ = noted.set(*key);
            }
            is_known
        };
        let config = identity.server_config(admits, ALPN)?;
        Ok(Self { acceptor: TlsAcceptor::from(Arc::new(config)), unknown })
    }
}

/// Accepts without ever waiting for a client: each handshake runs in its own task, against the clock.
async fn accept_tls(
    listener: TcpListener,
    identity: Identity,
    doorkeeper: Arc<dyn Doorkeeper>,
    places: Arc<Semaphore>,
    accepted: mpsc::Sender<Connection>,
) {
    let mut handshakes = JoinSet::new();
    loop {
        let (stream, address) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                pause_after(&error).await;
                continue;
            }
        };
        while handshakes.try_join_next().is_some() {}
        let Some(place) = place_for_one_more(&places) else { continue };
        let handshake = match Handshake::new(&identity, &doorkeeper) {
            Ok(handshake) => handshake,
            Err(error) => {
                tracing::warn!(%error, "failed to begin a handshake with an admin client");
                continue;
            }
        };
        let (doorkeeper, accepted) = (Arc::clone(&doorkeeper), accepted.clone());
        handshakes.spawn(async move {
            // Admin requests are small and wait for their answer.
            let _ = stream.set_nodelay(true);
            match timeout(HANDSHAKE_TIMEOUT, handshake.acceptor.accept(stream)).await {
                Ok(Ok(stream)) => {
                    if let Some(connection) = Connection::tls(stream, place) {
                        // A closed channel means that the server is stopping.
                        let _ = accepted.send(connection).await;
                    }
                }
                Ok(Err(error)) => {
                    tracing::debug!(%error, "a client was refused");
                    if let Some(key) = handshake.unknown.get() {
                        doorkeeper.refused(Refusal {
                            who: Refused::Stranger { address, key: *key },
                            why: WhyRefused::UnknownKey,
                            method: None,
                            text: "the topology in force does not name this key".to_owned(),
                        });
                    }
                }
                Err(_) => tracing::debug!("a client did not finish its handshake in time"),
            }
        });
    }
}

async fn accept_unix(listener: UnixListener, places: Arc<Semaphore>, accepted: mpsc::Sender<Connection>) {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                let Some(place) = place_for_one_more(&places) else { continue };
                if accepted.send(Connection::unix(stream, place)).await.is_err() {
                    return;
                }
            }
            Err(error) => pause_after(&error).await,
        }
    }
}

/// When all places are taken the newcomer is turned away, which it notices at once, unlike a wait.
fn place_for_one_more(places: &Arc<Semaphore>) -> Option<OwnedSemaphorePermit> {
    let place = Arc::clone(places).try_acquire_owned().ok();
    if place.is_none() {
        tracing::warn!("turned an admin client away: {CONNECTIONS_MAX} are connected");
    }
    place
}

/// Without file descriptors `accept` fails at once, again and again; a pause keeps that from eating a core.
async fn pause_after(error: &io::Error) {
    tracing::warn!(%error, "failed to accept an admin client");
    sleep(ACCEPT_PAUSE).await;
}

/// Operators, a map in a browser and a few programs; one hanging client must not take them all.
const CONNECTIONS_MAX: usize = 128;
const REQUESTS_PER_CONNECTION_MAX: u32 = 64;
/// A TLS handshake takes two round trips; a satellite needs 600 ms for each.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(5);
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(20);
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(20);
const SHUTDOWN_GRACE: Duration = Duration::from_secs(1);
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
