//! A body on its way in: memory for it, its chunks, and their way to the disk.
//!
//! A body of one chunk stays in memory until its record is stored. A longer one goes to the spool run by run, and the
//! next run is read while the disk has the last: nobody waits for a sync here, because the record is behind all its
//! chunks in the same log. If a chunk is not stored, neither is the record.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::http::StatusCode;
use bytes::{Bytes, BytesMut};
use estafet_model::{CHUNK_BYTES, ChunkHash, PAYLOAD_BYTES_MAX};
use estafet_node::custody::{StorePayload, TransferId};
use estafet_spool::Append;
use http_body_util::BodyExt;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

use crate::driver::Commands;
use crate::problem::Problem;
use crate::store::Store;

/// What all bodies together may hold in memory, until it is written.
pub(crate) const BODY_BYTES_MAX: usize = 32 << 20;

/// What is read of a body before it goes to the spool: enough that a write is worth its sync, little enough that many
/// slow counters have room beside each other.
const RUN_BYTES: usize = 4 * CHUNK_BYTES;

/// A counter that sends nothing for this long is given up.
const READ_TIMEOUT: Duration = Duration::from_secs(30);

/// A body that has come.
pub(crate) struct Received {
    pub(crate) payload: StorePayload,
    pub(crate) payload_bytes: u32,
    pub(crate) chunks: Vec<ChunkHash>,
}

/// A body that is coming.
pub(crate) struct Upload<'a> {
    store: &'a Store,
    commands: &'a Commands,
    budget: &'a Arc<Semaphore>,
    transfer: TransferId,
    announced: Option<u64>,
    /// A small body that came at once, and its share of the budget.
    whole: Option<(Bytes, OwnedSemaphorePermit)>,
    run: Option<Run>,
    hashes: Vec<ChunkHash>,
    queued_bytes: u64,
}

/// Bytes that count against the budget until nobody uses them any more.
struct Run {
    bytes: BytesMut,
    bytes_max: usize,
    _permit: OwnedSemaphorePermit,
}

impl AsRef<[u8]> for Run {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl<'a> Upload<'a> {
    pub(crate) fn new(
        store: &'a Store,
        commands: &'a Commands,
        budget: &'a Arc<Semaphore>,
        transfer: TransferId,
        announced: Option<u64>,
    ) -> Self {
        let (whole, run, hashes) = (None, None, Vec::new());
        Self { store, commands, budget, transfer, announced, whole, run, hashes, queued_bytes: 0 }
    }

    /// Reads the body to its end.
    pub(crate) async fn receive(&mut self, body: &mut Body) -> Result<Received, Problem> {
        loop {
            let frame = timeout(READ_TIMEOUT, body.frame()).await.map_err(|_| {
                Problem::new(StatusCode::REQUEST_TIMEOUT, "The record did not arrive in time", "Send it again.")
            })?;
            let Some(frame) = frame else { break };
            let frame =
                frame.map_err(|error| Problem::malformed(format!("The body broke off: {error}. Send it again.")))?;
            let Ok(data) = frame.into_data() else { continue };
            self.take(data).await?;
        }
        let bytes = self.received_bytes();
        if self.announced.is_some_and(|announced| announced != bytes) {
            return Err(Problem::malformed("The body is shorter than its Content-Length. Send it again."));
        }
        let payload_bytes = u32::try_from(bytes).map_err(|_| Problem::too_large())?;
        if bytes <= CHUNK_BYTES as u64 {
            let gathered = || self.run.take().map_or_else(Bytes::new, Bytes::from_owner);
            let payload = self.whole.as_ref().map_or_else(gathered, |(whole, _)| whole.clone());
            let chunks = vec![ChunkHash::of(&payload, 0, 1)];
            return Ok(Received { payload: StorePayload::Inline(payload), payload_bytes, chunks });
        }
        self.queue_run()?;
        let payload = StorePayload::Transfer(self.transfer);
        Ok(Received { payload, payload_bytes, chunks: self.hashes.clone() })
    }

    fn received_bytes(&self) -> u64 {
        let whole = self.whole.as_ref().map_or(0, |(whole, _)| whole.len());
        let run = self.run.as_ref().map_or(0, |run| run.bytes.len());
        self.queued_bytes + (whole + run) as u64
    }

    async fn take(&mut self, mut data: Bytes) -> Result<(), Problem> {
        if self.received_bytes() + data.len() as u64 > u64::from(PAYLOAD_BYTES_MAX) {
            return Err(Problem::too_large());
        }
        if data.len() <= CHUNK_BYTES && self.announced == Some(data.len() as u64) {
            let permit = budgeted(self.budget, data.len()).await?;
            self.whole = Some((data, permit));
            return Ok(());
        }
        while !data.is_empty() {
            // A full run is queued only when more follows, so that a payload of one chunk stays whole. And it is
            // queued before room is asked for the next: whoever waits for memory holds none that is not on its way.
            if self.run.as_ref().is_some_and(|run| run.bytes.len() == run.bytes_max) {
                self.queue_run()?;
            }
            let run = match &mut self.run {
                Some(run) => run,
                none => none.insert(new_run(self.budget, self.announced, self.queued_bytes).await?),
            };
            let fits = data.len().min(run.bytes_max - run.bytes.len());
            run.bytes.extend_from_slice(&data.split_to(fits));
        }
        Ok(())
    }

    /// Hands the chunks that have come to the spool.
    fn queue_run(&mut self) -> Result<(), Problem> {
        let Some(run) = self.run.take() else { return Ok(()) };
        if self.commands.health().capture_room.0 <= run.bytes.len() as u64 {
            return Err(Problem::full());
        }
        self.queued_bytes += run.bytes.len() as u64;
        let mut rest = Bytes::from_owner(run);
        let mut appends = Vec::with_capacity(RUN_BYTES / CHUNK_BYTES);
        while !rest.is_empty() {
            let data = rest.split_to(rest.len().min(CHUNK_BYTES));
            let index = u32::try_from(self.hashes.len()).map_err(|_| Problem::too_large())?;
            // Only payloads of several chunks come here, so the chunk's hash is that of a part.
            let hash = ChunkHash::of(&data, index, index + 2);
            self.hashes.push(hash);
            let transfer = estafet_spool::TransferId(self.transfer.0);
            appends.push(Append::Chunk { transfer, index, data, hash });
        }
        self.store.spool.append(appends).map_err(|_| Problem::poisoned())
    }

    /// The chunks are the node's business from here on.
    pub(crate) fn hand_over(&mut self) {
        self.hashes.clear();
    }
}

impl Drop for Upload<'_> {
    /// A body that did not become a record, because it was refused or its counter hung up, leaves no chunks.
    fn drop(&mut self) {
        if !self.hashes.is_empty() {
            self.store.spool.abort(estafet_spool::TransferId(self.transfer.0));
        }
    }
}

/// Waits for memory for what is to come, a run at most.
async fn new_run(budget: &Arc<Semaphore>, announced: Option<u64>, queued_bytes: u64) -> Result<Run, Problem> {
    let to_come = announced.map_or(u64::MAX, |announced| announced.saturating_sub(queued_bytes));
    let bytes_max = usize::try_from(to_come).unwrap_or(usize::MAX).clamp(1, RUN_BYTES);
    let permit = budgeted(budget, bytes_max).await?;
    Ok(Run { bytes: BytesMut::with_capacity(bytes_max), bytes_max, _permit: permit })
}

async fn budgeted(budget: &Arc<Semaphore>, bytes: usize) -> Result<OwnedSemaphorePermit, Problem> {
    let permits = u32::try_from(bytes).unwrap_or(u32::MAX);
    Arc::clone(budget).acquire_many_owned(permits).await.map_err(|_| Problem::shutting_down())
}
