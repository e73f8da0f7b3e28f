//! The handle.

use std::collections::BTreeSet;
use std::ops::{ControlFlow, Range};
use std::path::Path;
use std::sync::Arc;
use std::thread::{self, JoinHandle};

use bytes::Bytes;
use estafet_model::{ByteCount, Durable, Epoch, NodeId, RecordId, SeqRanges, UnixMillis};

use crate::append::{Append, Extent, Outcome, Poisoned, StoredRecord, TransferId};
use crate::disk::Disk;
use crate::log::Log;
use crate::options::{SpoolOptions, Usage};
use crate::real_disk::RealDisk;
use crate::recovery::{OpenError, Recovered};
use crate::round::{Command, Recall};
use crate::scrub::Scrubbed;
use crate::shelf::{ReadError, ReadRecord, Shelf};
use crate::writer::{self, Queue};

/// A node's spool. A clone is another handle to the same one; when the last is dropped, what is queued is stored,
/// the log is closed and the folder unlocked.
///
/// [`append`](Spool::append) queues and returns at once. Outcomes come through the `on_done` callback, in the order
/// of the appends, from the spool's own thread; the callback should hand them on and return.
#[derive(Debug, Clone)]
pub struct Spool {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    queue: Arc<Queue>,
    shelf: Arc<Shelf>,
    writer: Option<JoinHandle<()>>,
}

impl Spool {
    /// Opens the spool in a folder, which is created if need be and locked.
    pub fn open(
        folder: &Path,
        options: SpoolOptions,
        on_done: impl FnMut(Vec<Outcome>) + Send + 'static,
    ) -> Result<(Self, Recovered), OpenError> {
        Self::open_on(Arc::new(RealDisk::open(folder)?), options, on_done)
    }

    /// The same, but each whole record is told as it is found. See [`Log::open_with`].
    pub fn open_with(
        folder: &Path,
        options: SpoolOptions,
        each: &mut dyn FnMut(Durable<StoredRecord>),
        on_done: impl FnMut(Vec<Outcome>) + Send + 'static,
    ) -> Result<(Self, Recovered), OpenError> {
        let (log, recovered) = Log::open_with(Arc::new(RealDisk::open(folder)?), options, each)?;
        Ok((Self::run(log, on_done)?, recovered))
    }

    /// Opens the spool on any disk.
    pub fn open_on(
        disk: Arc<dyn Disk>,
        options: SpoolOptions,
        on_done: impl FnMut(Vec<Outcome>) + Send + 'static,
    ) -> Result<(Self, Recovered), OpenError> {
        let (log, recovered) = Log::open(disk, options)?;
        Ok((Self::run(log, on_done)?, recovered))
    }

    fn run(log: Log, mut on_done: impl FnMut(Vec<Outcome>) + Send + 'static) -> Result<Self, OpenError> {
        let queue = Arc::new(Queue::new(&log));
        let shelf = log.shelf();
        let writer = thread::Builder::new().name("spool".to_owned()).spawn({
            let queue = Arc::clone(&queue);
            move || writer::run(log, &queue, &mut on_done)
        });
        let writer = writer.map_err(|error| OpenError::Disk { what: "start the writer", error })?;
        Ok(Self { inner: Arc::new(Inner { queue, shelf, writer: Some(writer) }) })
    }

    /// Queues a batch to be stored. Each item has its outcome told, unless this returns an error.
    ///
    /// The queue has no bound of its own: the caller's windows bound what is under way.
    pub fn append(&self, batch: Vec<Append>) -> Result<(), Poisoned> {
        self.inner.queue.append(batch)
    }

    /// The chunks of this transfer will not become a record; their room is given back.
    ///
    /// This is not logged: after a restart, a transfer that was [begun](Append::Begin) and whose bytes are still there
    /// may be back. The caller aborts it again.
    pub fn abort(&self, transfer: TransferId) {
        self.inner.queue.command(Command::Abort(transfer));
    }

    /// These records' payloads may go. Whatever justifies it must be durable.
    ///
    /// They can be read until their room is given back. Releasing an unknown or a released record does nothing.
    pub fn release(&self, ids: Vec<RecordId>) {
        self.inner.queue.command(Command::Release(ids));
    }

    /// Takes back released records of one origin's epoch with these numbers, as far as their bytes are still there: they
    /// are needed from now on, as if they had never been released. Each that is found is told as
    /// [`Done::Recalled`](crate::Done::Recalled), which is the outcome of no append.
    pub fn recall(&self, origin: NodeId, epoch: Epoch, seqs: SeqRanges) {
        self.inner.queue.command(Command::Recall(Recall { origin, epoch, seqs }));
    }

    /// Gives back the room of own captures that are released and held, and were all stored before this, segment by
    /// segment.
    pub fn expire_held(&self, before: UnixMillis) {
        self.inner.queue.command(Command::ExpireHeld(before));
    }

    /// Reads a record, with every checksum checked. Blocks for the disk.
    pub fn read(&self, id: &RecordId) -> Result<ReadRecord, ReadError> {
        self.inner.shelf.read(id)
    }

    /// Reads one chunk of a record's payload, from 0, inline or not. Blocks for the disk.
    pub fn read_chunk(&self, id: &RecordId, index: u32) -> Result<Bytes, ReadError> {
        self.inner.shelf.read_chunk(id, index)
    }

    /// Reads a record and a run of its chunks, as far as it has them. A payload that is inline is one chunk or more too.
    /// Blocks for the disk, once if the chunks lie together.
    pub fn read_with_chunks(&self, id: &RecordId, chunks: Range<u32>) -> Result<(ReadRecord, Vec<Bytes>), ReadError> {
        self.inner.shelf.read_with_chunks(id, chunks)
    }

    /// Reads a record by its place, scanned or not. Blocks for the disk.
    pub fn read_extent(&self, extent: Extent) -> Result<ReadRecord, ReadError> {
        self.inner.shelf.read_extent(extent)
    }

    /// Reads a record by its place, scanned or not, and a run of its chunks, as far as it has them. Blocks for the disk.
    pub fn read_extent_with_chunks(
        &self,
        extent: Extent,
        chunks: Range<u32>,
    ) -> Result<(ReadRecord, Vec<Bytes>), ReadError> {
        self.inner.shelf.read_extent_with_chunks(extent, chunks)
    }

    /// Reads one chunk of the payload of the record at this place. Blocks for the disk.
    pub fn read_chunk_of(&self, extent: Extent, index: u32) -> Result<Bytes, ReadError> {
        self.inner.shelf.read_chunk_of(extent, index)
    }

    /// Reads the record at this place with its whole payload, and checks every byte of it. Blocks for the disk.
    pub fn check(&self, extent: Extent) -> Result<(), ReadError> {
        self.inner.shelf.check(extent)
    }

    /// The segments that are complete, oldest first.
    pub fn complete_segments(&self) -> std::io::Result<BTreeSet<u64>> {
        self.inner.shelf.complete_segments()
    }

    /// Reads every record that begins in a complete segment and is not released, and says which cannot be read. `paced`
    /// is told of bytes that were read, may wait, and may end it. Blocks for the disk.
    #[must_use]
    pub fn scrub(&self, generation: u64, paced: &mut dyn FnMut(u64) -> ControlFlow<()>) -> Scrubbed {
        self.inner.shelf.scrub(generation, paced)
    }

    /// How full the spool is and how it fares, as of the last commit; asks the file system what it has left.
    #[must_use]
    pub fn usage(&self) -> Usage {
        self.inner.queue.usage(self.inner.shelf.disk())
    }

    /// How much more may be taken in: [`Usage::free_bytes`].
    #[must_use]
    pub fn free_bytes(&self) -> ByteCount {
        self.usage().free_bytes
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.queue.close();
        if let Some(writer) = self.writer.take()
            // The callback may hold the last handle.
            && writer.thread().id() != thread::current().id()
        {
            // A panic of the writer has poisoned the spool and been logged.
            let _ = writer.join();
        }
    }
}
