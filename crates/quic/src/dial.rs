//! Dialing a neighbor over a bearer, again and again, without hammering it.

use std::sync::Arc;
use std::time::Duration;

use estafet_model::Bearer;
use quinn::{Connection, ConnectionError, TransportErrorCode};
use rand::RngExt;
use tokio::time::{Instant, sleep, timeout};
use tracing::{debug, error};

use crate::session;
use crate::transport::{Shared, client_config, close_code};

/// The pause after the first failure; it doubles from there.
const PAUSE_FIRST: Duration = Duration::from_millis(100);

/// The longest pause for a neighbor that was alive lately: power returns within minutes, and every second counts.
const PAUSE_MAX_LATELY_ALIVE: Duration = Duration::from_secs(2);

/// The longest pause for one that has been dark for long.
const PAUSE_MAX: Duration = Duration::from_secs(15);

/// What "lately" means: longer than a rolling blackout's hour.
const LATELY: Duration = Duration::from_secs(2 * 60 * 60);

/// Of two that start together the one with the greater id holds back, so that they rarely dial at once.
const HOLD_BACK: Duration = Duration::from_millis(100);

/// A session that ended so soon was none: a neighbor that only takes calls to hang up is not called ever faster.
const SHORT_SESSION: Duration = Duration::from_secs(1);

const ATTEMPT_TIMEOUT: Duration = Duration::from_secs(1);

/// So often in a row, which takes some five seconds, a neighbor says that it does not know this machine's key before
/// somebody is told: news of a change is everywhere by then.
const REFUSALS_TOLD: u32 = 8;

/// The alert with which a neighbor refuses a key (RFC 8446, section 6.2).
const ACCESS_DENIED: u8 = 49;

/// Dials over `bearer` whenever there is no session, until the endpoint is closed.
pub(crate) async fn keep_dialing(shared: Arc<Shared>, bearer: Bearer) {
    let mut pause = PAUSE_FIRST;
    let mut last_alive = Instant::now();
    let mut refusals: u32 = 0;
    if shared.me > bearer.neighbor {
        sleep(HOLD_BACK).await;
    }
    loop {
        shared.registry.wait_until_apart(&bearer).await;
        if let Some(left) = shared.exclusions.left(&bearer.neighbor, Instant::now().into()) {
            sleep(left).await;
            continue;
        }
        match attempt(&shared, &bearer).await {
            Ok(()) => {
                refusals = 0;
                let began = Instant::now();
                shared.registry.wait_until_apart(&bearer).await;
                last_alive = Instant::now();
                if last_alive.duration_since(began) >= SHORT_SESSION {
                    pause = PAUSE_FIRST;
                }
            }
            Err(NoAnswer { why, is_refusal }) => {
                debug!(%bearer, why, "dialing failed");
                refusals = if is_refusal { refusals.saturating_add(1) } else { refusals };
                if is_refusal && refusals == REFUSALS_TOLD {
                    error!(
                        neighbor = %bearer.neighbor,
                        "this neighbor does not know this machine's key: if the machine was removed or replaced, stop it; if it is \
                         new, push the topology that lists it to that neighbor"
                    );
                }
            }
        }
        if shared.control.is_closed() {
            return;
        }
        sleep(jittered(pause)).await;
        let longest = if last_alive.elapsed() < LATELY { PAUSE_MAX_LATELY_ALIVE } else { PAUSE_MAX };
        pause = (pause * 2).min(longest);
    }
}

/// Between half of `pause` and all of it, so that neighbors of a returning node do not dial in step.
fn jittered(pause: Duration) -> Duration {
    pause.mul_f64(rand::rng().random_range(0.5..1.0))
}

/// Why dialing came to nothing.
struct NoAnswer {
    why: String,
    /// The neighbor is there, and does not know this machine's key.
    is_refusal: bool,
}

impl<T: ToString> From<T> for NoAnswer {
    fn from(why: T) -> Self {
        Self { why: why.to_string(), is_refusal: false }
    }
}

/// Only who has proved to be the neighbor can say so.
fn is_refusal(connection: &Connection) -> bool {
    let denied = TransportErrorCode::crypto(ACCESS_DENIED);
    matches!(connection.close_reason(), Some(ConnectionError::ConnectionClosed(close)) if close.error_code == denied)
}

async fn attempt(shared: &Arc<Shared>, bearer: &Bearer) -> Result<(), NoAnswer> {
    let neighborhood = shared.neighborhood();
    let peer = neighborhood.neighbors.get(&bearer.neighbor).ok_or("it is no neighbor any more")?;
    let config = client_config(shared, peer)?;
    let mut failure = NoAnswer::from("it has no address");
    for address in peer.bearers.get(&bearer.medium).into_iter().flatten() {
        let connecting = shared.endpoint.connect_with(config.clone(), *address, "estafet");
        let connecting = connecting?;
        let connection = match timeout(ATTEMPT_TIMEOUT, connecting).await {
            Ok(Ok(connection)) => connection,
            Ok(Err(error)) => {
                failure = format!("{address}: {error}").into();
                continue;
            }
            Err(_) => {
                failure = format!("{address}: no answer in {ATTEMPT_TIMEOUT:?}").into();
                continue;
            }
        };
        if shared.registry.is_together(bearer) {
            // The neighbor was quicker; a second session would only take the first one's place.
            connection.close(close_code::DUPLICATE, b"another session stays");
            return Ok(());
        }
        let established = session::establish(shared, &bearer.neighbor, connection.clone(), Some(bearer.medium));
        match timeout(ATTEMPT_TIMEOUT, established).await {
            Ok(Ok(())) => return Ok(()),
            Ok(Err(error)) => {
                failure = NoAnswer { why: format!("{address}: {error}"), is_refusal: is_refusal(&connection) };
            }
            Err(_) => {
                connection.close(close_code::PROTOCOL, b"no greeting");
                failure = format!("{address}: no greeting in {ATTEMPT_TIMEOUT:?}").into();
            }
        }
    }
    Err(failure)
}
