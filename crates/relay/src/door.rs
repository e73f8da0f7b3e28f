//! The door of intake: HTTP connections, how many there may be, and how much each may read ahead.

use std::sync::Arc;
use std::time::Duration;

use axum::{Extension, Router};
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tracing::{debug, warn};

use crate::gate::Peer;

/// Counters beyond wait until another hangs up.
const CONNECTIONS_MAX: usize = 256;

/// What is read of one connection before its request wants it. All connections together: 16 MiB.
const READ_AHEAD_BYTES: usize = 64 << 10;

/// A connection on which no request has come for this long makes room for another.
const IDLE_TIMEOUT: Duration = Duration::from_secs(75);

/// After a connection could not be accepted (no file descriptors are left, mostly).
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Serves `routes` until `stop` is done; then ends the connections after the requests they are in.
pub(crate) async fn serve(listener: TcpListener, routes: Router, stop: impl Future<Output = ()>) {
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(IDLE_TIMEOUT).max_buf_size(READ_AHEAD_BYTES);
    let graceful = GracefulShutdown::new();
    let slots = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let accept = async {
        while let Ok(slot) = Arc::clone(&slots).acquire_owned().await {
            let (stream, peer) = match listener.accept().await {
                Ok(accepted) => accepted,
                Err(error) => {
                    warn!(%error, "a counter's connection could not be accepted");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                    continue;
                }
            };
            // Answers are short; they wait for nothing.
            let _only_slower = stream.set_nodelay(true);
            let routes = routes.clone().layer(Extension(Peer(peer.ip())));
            let connection = http.serve_connection(TokioIo::new(stream), TowerToHyperService::new(routes));
            let connection = graceful.watch(connection);
            tokio::spawn(async move {
                let _slot = slot;
                if let Err(error) = connection.await {
                    debug!(%error, "a counter's connection broke off");
                }
            });
        }
    };
    tokio::select! {
        () = accept => {}
        () = stop => {}
    }
    graceful.shutdown().await;
}
