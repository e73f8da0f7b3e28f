//! Dialing a neighbor over a bearer, again and again, without hammering it.

use std::sync::Arc;
use std::time::Duration;

use estafet_model::Bearer;
use rand::RngExt;
use tokio::time::{Instant, sleep, timeout};
use tracing::debug;

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

/// Dials over `bearer` whenever there is no session, until the endpoint is closed.
pub(crate) async fn keep_dialing(shared: Arc<Shared>, bearer: Bearer) {
    let mut pause = PAUSE_FIRST;
    let mut last_alive = Instant::now();
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
                let began = Instant::now();
                shared.registry.wait_until_apart(&bearer).await;
                last_alive = Instant::now();
                if last_alive.duration_since(began) >= SHORT_SESSION {
                    pause = PAUSE_FIRST;
                }
            }
            Err(error) => debug!(%bearer, %error, "dialing failed"),
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

async fn attempt(shared: &Arc<Shared>, bearer: &Bearer) -> Result<(), String> {
    let neighborhood = shared.neighborhood();
    let peer = neighborhood.neighbors.get(&bearer.neighbor).ok_or("it is no neighbor any more")?;
    let config = client_config(shared, peer).map_err(|error| error.to_string())?;
    let mut failure = "it has no address".to_owned();
    for address in peer.bearers.get(&bearer.medium).into_iter().flatten() {
        let connecting = shared.endpoint.connect_with(config.clone(), *address, "estafet");
        let connecting = connecting.map_err(|error| error.to_string())?;
        let connection = match timeout(ATTEMPT_TIMEOUT, connecting).await {
            Ok(Ok(connection)) => connection,
            Ok(Err(error)) => {
                failure = format!("{address}: {error}");
                continue;
            }
            Err(_) => {
                failure = format!("{address}: no answer in {ATTEMPT_TIMEOUT:?}");
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
            Ok(Err(error)) => failure = format!("{address}: {error}"),
            Err(_) => {
                connection.close(close_code::PROTOCOL, b"no greeting");
                failure = format!("{address}: no greeting in {ATTEMPT_TIMEOUT:?}");
            }
        }
    }
    Err(failure)
}
