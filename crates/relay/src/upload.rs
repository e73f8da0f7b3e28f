//! A body on its way in: memory for it, its seal, its chunks, and their way to the disk.
//!
//! What comes is sealed where it was read, chunk by chunk, before anything of it is written. A payload of one chunk stays
//! in memory until its record is stored. A longer one goes to the spool run by run, and the next run is read while the disk
//! has the last: nobody waits for a sync here, because the record is behind all its chunks in the same log. If a chunk is
//! not stored, neither is the record.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::http::StatusCode;
use bytes::{Bytes, BytesMut};
use estafet_model::{CHUNK_BYTES, CONTENT_BYTES_MAX, ChunkHash};
use estafet_node::custody::{StorePayload, TransferId};
use estafet_seal::Sealing;
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

/// Where the bytes of a record come from.
pub(crate) trait Source: Send {
    /// The next of them; nothing after the last.
    fn next(&mut self) -> impl Future<Output = Result<Option<Bytes>, Problem>> + Send;
}

/// A request's body.
impl Source for Body {
    async fn next(&mut self) -> Result<Option<Bytes>, Problem> {
        loop {
            let frame = timeout(READ_TIMEOUT, self.frame()).await.map_err(|_| {
                Problem::new(StatusCode::REQUEST_TIMEOUT, "The record did not arrive in time", "Send it again.")
            })?;
            let Some(frame) = frame else { return Ok(None) };
            let frame =
                frame.map_err(|error| Problem::malformed(format!("The body broke off: {error}. Send it again.")))?;
            if let Ok(data) = frame.into_data() {
                return Ok(Some(data));
            }
        }
    }
}

/// A body that has come.
pub(crate) struct Received {
    pub(crate) payload: StorePayload,
    pub(crate) payload_bytes: u32,
    pub(crate) chunks: Vec<ChunkHash>,
    pub(crate) content_bytes: u64,
    /// Of the content, keyed by the counter's idempotency key, if it gave one.
    pub(crate) content_hash: Option<blake3::Hash>,
}

/// A body that is coming.
pub(crate) struct Upload<'a> {
    store: &'a Store,
    commands: &'a Commands,
    budget: &'a Arc<Semaphore>,
    transfer: TransferId,
    announced: Option<u64>,
    sealing: Sealing,
    content_hasher: Option<blake3::Hasher>,
    content_bytes: u64,
    run: Option<Run>,
    hashes: Vec<ChunkHash>,
    queued_bytes: u64,
}

/// Bytes that count against the budget until nobody uses them any more.
struct Run {
    bytes: BytesMut,
    /// The chunk at the end whose content is coming.
    open: Option<OpenChunk>,
    permit: OwnedSemaphorePermit,
}

impl Run {
    /// Nothing more is added to it: what it did not need of the budget, for want of an announced length, is given back.
    fn into_bytes(mut self) -> Bytes {
        drop(self.permit.split(self.permit.num_permits().saturating_sub(self.bytes.len())));
        Bytes::from_owner(self)
    }
}

/// Where in its run a chunk begins, and its content in it.
#[derive(Clone, Copy)]
struct OpenChunk {
    begin: usize,
    content: usize,
}

impl AsRef<[u8]> for Run {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl<'a> Upload<'a> {
    /// `content_hasher` is fed with the content.
    pub(crate) fn new(
        store: &'a Store,
        commands: &'a Commands,
        budget: &'a Arc<Semaphore>,
        transfer: TransferId,
        announced: Option<u64>,
        sealing: Sealing,
        content_hasher: Option<blake3::Hasher>,
    ) -> Self {
        let (run, hashes) = (None, Vec::new());
        let (content_bytes, queued_bytes) = (0, 0);
        Self {
            store,
            commands,
            budget,
            transfer,
            announced,
            sealing,
            content_hasher,
            content_bytes,
            run,
            hashes,
            queued_bytes,
        }
    }

    /// Reads the body to its end.
    pub(crate) async fn receive(&mut self, body: &mut impl Source) -> Result<Received, Problem> {
        while let Some(data) = body.next().await? {
            self.take(data).await?;
        }
        if self.announced.is_some_and(|announced| announced != self.content_bytes) {
            return Err(Problem::malformed("The body is shorter than its Content-Length. Send it again."));
        }
        if self.run.is_none() {
            self.open_chunk().await?;
        }
        self.close_chunk(true);
        let content_hash = self.content_hasher.take().map(|hasher| hasher.finalize());
        let content_bytes = self.content_bytes;
        if self.queued_bytes == 0
            && let Some(run) = self.run.take_if(|run| run.bytes.len() <= CHUNK_BYTES)
        {
            let payload = run.into_bytes();
            let payload_bytes = u32::try_from(payload.len()).map_err(|_| Problem::too_large())?;
            let chunks = vec![ChunkHash::of(&payload, 0, 1)];
            return Ok(Received {
                payload: StorePayload::Inline(payload),
                payload_bytes,
                chunks,
                content_bytes,
                content_hash,
            });
        }
        self.queue_run()?;
        let payload_bytes = u32::try_from(self.queued_bytes).map_err(|_| Problem::too_large())?;
        let payload = StorePayload::Transfer(self.transfer);
        Ok(Received { payload, payload_bytes, chunks: self.hashes.clone(), content_bytes, content_hash })
    }

    async fn take(&mut self, mut data: Bytes) -> Result<(), Problem> {
        self.content_bytes += data.len() as u64;
        if self.content_bytes > self.announced.unwrap_or(u64::MAX).min(CONTENT_BYTES_MAX.into()) {
            return Err(Problem::too_large());
        }
        if let Some(hasher) = &mut self.content_hasher {
            hasher.update(&data);
        }
        while !data.is_empty() {
            // A chunk is closed, and a full run queued, only when more follows: what is the last is sealed as the last, and
            // a payload of one chunk stays whole. And a run is queued before room is asked for the next: whoever waits
            // for memory holds none that is not on its way.
            if self.room() == 0 {
                self.close_chunk(false);
                if self.run.as_ref().is_some_and(|run| run.bytes.len() == RUN_BYTES) {
                    self.queue_run()?;
                }
                self.open_chunk().await?;
            }
            let content = data.split_to(data.len().min(self.room()));
            if let Some(run) = &mut self.run {
                run.bytes.extend_from_slice(&content);
            }
        }
        Ok(())
    }

    /// How much content the open chunk can still take.
    fn room(&self) -> usize {
        let open = self.run.as_ref().and_then(|run| Some((run, run.open?)));
        open.map_or(0, |(run, open)| open.begin + CHUNK_BYTES - self.sealing.tag_bytes() - run.bytes.len())
    }

    async fn open_chunk(&mut self) -> Result<(), Problem> {
        let is_first = self.queued_bytes == 0 && self.run.is_none();
        if self.run.is_none() {
            let to_come = self.announced.map(|content| self.sealing.payload_bytes(content) - self.queued_bytes);
            self.run = Some(new_run(self.budget, to_come).await?);
        }
        if let Some(run) = &mut self.run {
            let begin = run.bytes.len();
            if is_first {
                run.bytes.extend_from_slice(&self.sealing.head());
            }
            run.open = Some(OpenChunk { begin, content: run.bytes.len() });
        }
        Ok(())
    }

    /// Seals the open chunk.
    fn close_chunk(&mut self, is_last: bool) {
        let Some(run) = &mut self.run else { return };
        let Some(OpenChunk { begin, content }) = run.open.take() else { return };
        let (before, content) = run.bytes.split_at_mut(content);
        if let Some(tag) = self.sealing.seal(&before[begin..], content, is_last) {
            run.bytes.extend_from_slice(&tag);
        }
    }

    /// Hands the chunks that have come to the spool.
    fn queue_run(&mut self) -> Result<(), Problem> {
        let Some(run) = self.run.take() else { return Ok(()) };
        match self.commands.health() {
            health if health.poisoned => return Err(Problem::poisoned()),
            health if health.capture_room.0 <= run.bytes.len() as u64 => return Err(Problem::full()),
            _ => {}
        }
        self.queued_bytes += run.bytes.len() as u64;
        let mut rest = run.into_bytes();
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
        self.store.append(appends).map_err(|_| Problem::poisoned())
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
            self.store.abort(estafet_spool::TransferId(self.transfer.0));
        }
    }
}

/// Waits for memory for what is to come, a run at most.
async fn new_run(budget: &Arc<Semaphore>, to_come: Option<u64>) -> Result<Run, Problem> {
    let bytes_max = usize::try_from(to_come.unwrap_or(u64::MAX)).unwrap_or(usize::MAX).min(RUN_BYTES);
    let permits = u32::try_from(bytes_max).unwrap_or(u32::MAX);
    let permit = Arc::clone(budget).acquire_many_owned(permits).await.map_err(|_| Problem::shutting_down())?;
    Ok(Run { bytes: BytesMut::with_capacity(bytes_max), open: None, permit })
}
