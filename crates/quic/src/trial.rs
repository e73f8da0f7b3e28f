//! A trial: whether the connection carries so much padding in a given time, behind everything else.
//!
//! The padding has a stream of its own, of the lowest priority, and the neighbor's transport answers for it: its
//! acknowledgements come as quickly as the link allows, whatever the neighbor itself is busy with. When the time is over the
//! stream is given up, so that a slow line is not kept busy with the rest.

use std::time::Duration;

use bytes::Bytes;
use estafet_model::Bearer;
use estafet_wire::padding;
use quinn::{Connection, VarInt};
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout_at};
use tracing::debug;

use crate::session::SessionId;
use crate::streams::PADDING_PRIORITY;
use crate::transport::SessionEvent;

/// Why a stream is reset: its time is over.
const TIME_OVER: VarInt = VarInt::from_u32(1);

/// Runs a trial, and reports its outcome.
pub(crate) async fn run(
    connection: Connection,
    bytes: u32,
    within: Duration,
    events: mpsc::Sender<SessionEvent>,
    (bearer, session): (Bearer, SessionId),
) {
    let carried = carries(&connection, bytes, within).await;
    debug!(%bearer, bytes, ?within, carried, "a trial is over");
    let _driver_is_gone = events.send(SessionEvent::Tried { bearer, session, carried }).await;
}

async fn carries(connection: &Connection, bytes: u32, within: Duration) -> bool {
    let time_over = Instant::now() + within;
    // A neighbor that takes no further stream keeps an earlier trial open.
    let Ok(Ok(mut stream)) = timeout_at(time_over, connection.open_uni()).await else { return false };
    let mut pieces: Vec<Bytes> = padding(bytes as usize).collect();
    let sent = async {
        stream.set_priority(PADDING_PRIORITY).ok()?;
        stream.write_all_chunks(&mut pieces).await.ok()?;
        stream.finish().ok()?;
        stream.stopped().await.ok()
    };
    let carried = matches!(timeout_at(time_over, sent).await, Ok(Some(None)));
    if !carried {
        let _already_gone = stream.reset(TIME_OVER);
    }
    carried
}
