//! What goes into the spool, and what it answers.

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use estafet_model::{
    ByteCount, ChunkHash, Class, Durable, HeaderDigest, Idempotency, NodeId, PayloadHash, RecordId, SignedHeader,
    UnixMillis,
};

use crate::format::segment_name;

/// Names the chunks of one payload while they arrive.
///
/// An id that was never [begun](Append::Begin) means nothing after a restart, so it need only be unique per run of the
/// process. The caller promises that one that was begun is never used again for another payload, begun or not, in all
/// the life of the spool: after a restart its chunks are found by it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TransferId(pub u64);

/// One entry's place in the log. It names the same bytes for ever: a recycled file has another generation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Extent {
    /// Which use of which segment.
    pub generation: u64,
    /// Where the entry begins in it, in bytes.
    pub offset: u32,
    /// How long the entry is, in bytes.
    pub length: u32,
}

impl Extent {
    /// True if `next` begins where this one ends.
    pub(crate) fn is_followed_by(&self, next: &Self) -> bool {
        self.generation == next.generation && self.offset.checked_add(self.length) == Some(next.offset)
    }

    /// The name of the file that the entry is in.
    #[must_use]
    pub fn file_name(&self) -> String {
        segment_name(self.generation)
    }
}

/// Where a new record's payload is.
#[derive(Debug, Clone)]
pub enum Payload {
    /// Here; it is stored in the record's own entry.
    Inline(Bytes),
    /// In the chunks that were appended before under this id, all of them.
    Transfer(TransferId),
}

/// A record to be stored.
#[derive(Debug, Clone)]
pub struct NewRecord {
    /// The header with its origin's proof.
    pub header: SignedHeader,
    /// The neighbor it came from, or nothing if it was captured here.
    pub received_from: Option<NodeId>,
    /// The wall clock when it came, for people.
    pub stored_at: UnixMillis,
    /// The key under which the counter program may send it again without making a second record.
    pub idempotency: Option<Idempotency>,
    /// The payload.
    pub payload: Payload,
}

/// One thing to make durable.
#[derive(Debug, Clone)]
pub enum Append {
    /// A whole record. An earlier one with the same id is replaced: whoever appends decides about duplicates first.
    Record(NewRecord),
    /// A payload begins to arrive: chunks that are appended from now on under this transfer are found again after a
    /// restart, until the record is stored or the transfer aborted. See [`RecoveredTransfer`](crate::RecoveredTransfer).
    Begin {
        /// How its chunks will be named.
        transfer: TransferId,
        /// The header of the record that the payload belongs to.
        header: SignedHeader,
        /// The hashes of all its chunks, which give the payload's hash in the header.
        chunks: Vec<ChunkHash>,
    },
    /// One chunk of a payload that is arriving. If the transfer was begun, it is one of those that were named then.
    Chunk {
        /// Which payload.
        transfer: TransferId,
        /// Which chunk of it, from 0.
        index: u32,
        /// The bytes, at most [`estafet_model::CHUNK_BYTES`].
        data: Bytes,
        /// Their hash, which the caller has checked or computed.
        hash: ChunkHash,
    },
    /// A small value that replaces the one under the same key. A key stays for ever, so there must be few.
    Put {
        /// The key.
        key: Bytes,
        /// The value.
        value: Bytes,
    },
}

impl Append {
    /// About how many bytes it brings, to bound a commit by.
    pub(crate) fn bytes(&self) -> usize {
        match self {
            Append::Record(record) => match &record.payload {
                Payload::Inline(payload) => payload.len() + 512,
                Payload::Transfer(_) => 1024,
            },
            Append::Begin { chunks, .. } => 512 + 32 * chunks.len(),
            Append::Chunk { data, .. } => data.len(),
            Append::Put { key, value } => key.len() + value.len(),
        }
    }

    pub(crate) fn item(&self) -> Item {
        match self {
            Append::Record(record) => Item::Record(record.header.header().id.clone()),
            Append::Begin { transfer, .. } => Item::Begin { transfer: *transfer },
            Append::Chunk { transfer, index, .. } => Item::Chunk { transfer: *transfer, index: *index },
            Append::Put { key, .. } => Item::Put { key: key.clone() },
        }
    }

    pub(crate) fn failed(&self, poisoned: &Poisoned) -> Failed {
        Failed { item: self.item(), reason: poisoned.clone().into() }
    }
}

/// What the caller keeps in memory of each record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredRecord {
    /// Which record.
    pub id: RecordId,
    /// How soon it should travel.
    pub class: Class,
    /// The length of its payload, in bytes.
    pub payload_bytes: u32,
    /// The hash of its header.
    pub digest: HeaderDigest,
    /// True if it was captured here.
    pub own: bool,
    /// The neighbor it came from, if it was not captured here; unknown if the table of its segment is of an earlier form.
    pub received_from: Option<NodeId>,
    /// The counter program's key for it.
    pub idempotency: Option<Idempotency>,
    /// The wall clock when it came.
    pub stored_at: UnixMillis,
    /// The hash of its payload.
    pub payload_hash: PayloadHash,
    /// Where its entry is.
    pub record: Extent,
}

impl StoredRecord {
    /// How much of the disk it takes, but for what frames its chunks.
    #[must_use]
    pub fn disk_bytes(&self) -> ByteCount {
        let (entry, payload) = (u64::from(self.record.length), u64::from(self.payload_bytes));
        // An entry that is shorter than the payload has that in chunks of their own.
        ByteCount(if entry < payload { entry + payload } else { entry })
    }
}

/// Something is on the disk: its sync has returned.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Done {
    /// A record, with its whole payload.
    Record(Durable<StoredRecord>),
    /// The beginning of a payload.
    Begin {
        /// Of which payload.
        transfer: TransferId,
    },
    /// A chunk.
    Chunk {
        /// Of which payload.
        transfer: TransferId,
        /// Which chunk of it.
        index: u32,
    },
    /// A value.
    Put {
        /// Under which key.
        key: Bytes,
    },
    /// The outcome of no append: a record that was released is [needed again](crate::Spool::recall).
    Recalled(Durable<StoredRecord>),
}

/// What became of one [`Append`].
pub type Outcome = Result<Done, Failed>;

/// Something is not stored. It may or may not be found after a restart; nothing may be promised of it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("failed to store {item}: {reason}")]
pub struct Failed {
    /// What it was.
    pub item: Item,
    /// Why it is not stored.
    pub reason: FailReason,
}

/// Names what was appended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Item {
    /// A record.
    Record(RecordId),
    /// The beginning of a payload.
    Begin {
        /// Of which payload.
        transfer: TransferId,
    },
    /// A chunk.
    Chunk {
        /// Of which payload.
        transfer: TransferId,
        /// Which chunk of it.
        index: u32,
    },
    /// A value.
    Put {
        /// Under which key.
        key: Bytes,
    },
}

impl fmt::Display for Item {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Item::Record(id) => write!(formatter, "record {id}"),
            Item::Begin { transfer } => write!(formatter, "the beginning of transfer {}", transfer.0),
            Item::Chunk { transfer, index } => write!(formatter, "chunk {index} of transfer {}", transfer.0),
            Item::Put { key } => write!(formatter, "the value of `{}`", key.escape_ascii()),
        }
    }
}

/// Why something is not stored.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FailReason {
    /// The disk failed, now or before.
    #[error(transparent)]
    Poisoned(#[from] Poisoned),
    /// The caller's mistake; the spool is as good as before.
    #[error(transparent)]
    Refused(#[from] Refusal),
}

/// The disk has failed and nothing will be stored again until the process is started anew. What is there can be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the spool takes nothing more since its disk failed to {0}")]
pub struct Poisoned(pub Arc<str>);

/// What was to be appended cannot be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The payload's length is not what the header says.
    #[error("the payload is not as long as its header says")]
    PayloadLength,
    /// The chunks of the transfer, or the hashes it is begun with, are not those of this payload.
    #[error("the chunks are not the payload that the header names")]
    PayloadChunks,
    /// A chunk is too long, or its index is beyond the largest payload.
    #[error("a chunk is longer or lies further back than any payload allows")]
    Chunk,
    /// A header, or a key with its value, is larger than an entry may be.
    #[error("what describes the entry is larger than {} bytes", crate::format::META_BYTES_MAX)]
    Meta,
    /// All keys and values together would be larger than a quarter of a segment.
    #[error("the keys and values together have no room left")]
    Puts,
}
