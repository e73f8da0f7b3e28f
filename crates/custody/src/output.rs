//! What custody asks its driver to do.

use bytes::Bytes;
use estafet_model::{
    ChunkHash, Class, Epoch, HeaderDigest, Idempotency, NodeId, ReceiptKey, RecordId, SeqRanges, SignedHeader,
    SignedReceipt,
};
use estafet_wire::{Frame, NeverReason};

use crate::losses::Losses;

/// Names the chunks of one payload while they arrive. Unique for the life of a store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct TransferId(pub u64);

/// One thing to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CustodyOutput {
    /// Send a control frame to a neighbor.
    Send {
        /// The neighbor.
        to: NodeId,
        /// What to say.
        frame: Frame,
    },
    /// Stream a record, read from the store, to a neighbor.
    Carry {
        /// The neighbor.
        to: NodeId,
        /// Which record.
        id: RecordId,
        /// Its class: which stream it takes.
        class: Class,
        /// How many chunks its payload has.
        chunks: u32,
        /// The neighbor has those before this one.
        first_chunk: u32,
    },
    /// Append a record to the store, and say `stored` or `store_failed`.
    Store(Box<StoreRecord>),
    /// Note that a payload begins to arrive, so that its chunks are found again after a restart.
    BeginTransfer {
        /// Under which id its chunks will be stored.
        transfer: TransferId,
        /// The record's header, verified.
        header: Box<SignedHeader>,
        /// The hashes of all its chunks.
        chunks: Vec<ChunkHash>,
    },
    /// Append one chunk of a payload that is still arriving.
    StoreChunk {
        /// The payload it belongs to.
        transfer: TransferId,
        /// Which chunk.
        index: u32,
        /// Its bytes.
        data: Bytes,
        /// Its hash.
        hash: ChunkHash,
    },
    /// The chunks of this transfer will not become a record.
    AbortTransfer(TransferId),
    /// Make a receipt durable, and say `receipt_kept`, in the order asked.
    KeepReceipt(SignedReceipt),
    /// A receipt covers own captures that were never handed to anybody: their numbers were given before, in a life of
    /// this spool that was lost. Remember that no receipt may release them; this replaces what was kept of the epoch.
    KeepConflicts {
        /// Of which epoch.
        epoch: Epoch,
        /// Their numbers.
        seqs: SeqRanges,
    },
    /// At a hub: make its losses durable, and say `losses_kept`, in the order asked. This replaces what was kept of the
    /// origin's epoch.
    KeepLosses {
        /// Whose records.
        origin: NodeId,
        /// Of which epoch.
        epoch: Epoch,
        /// The losses.
        losses: Losses,
    },
    /// The payloads of these records may go: a durable receipt covers them.
    Release(Vec<RecordId>),
    /// The hub has lost these own captures, and they were released here: those whose bytes are still there are needed
    /// again. Say `recalled` of each.
    Recall {
        /// This node.
        origin: NodeId,
        /// Of which epoch.
        epoch: Epoch,
        /// Their numbers.
        seqs: SeqRanges,
    },
    /// Compare a committed record's header with this digest, and say `compared`.
    Compare {
        /// Which record.
        id: RecordId,
        /// The digest that the neighbor's record has.
        digest: HeaderDigest,
        /// Who waits for the answer.
        from: NodeId,
    },
    /// Something that people may want to know.
    Event(CustodyEvent),
}

/// A record to be made durable.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoreRecord {
    /// Its header, verified.
    pub header: SignedHeader,
    /// The neighbor it came from; nobody for an own capture.
    pub received_from: Option<NodeId>,
    /// The idempotency key of an own capture, hashed.
    pub idempotency: Option<Idempotency>,
    /// Its bytes.
    pub payload: StorePayload,
}

/// Where a payload is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StorePayload {
    /// Here, whole: at most one chunk.
    Inline(Bytes),
    /// In the chunks that were stored under this transfer.
    Transfer(TransferId),
}

/// What happened, for logs and metrics. Holds ids, never payload.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CustodyEvent {
    /// A hub committed a record.
    Committed(RecordId),
    /// A hub's store has a record more than once. Duplicates are refused before, so this is a fault.
    CommittedTwice,
    /// Records that a suspect neighbor has not answered for go another way as well.
    Diverted {
        /// The neighbor.
        around: NodeId,
        /// How many.
        records: usize,
    },
    /// Records that a neighbor has not answered for go to it again, because they went by a bearer that is lost, or wait.
    SaidAgain {
        /// The neighbor.
        to: NodeId,
        /// How many.
        records: usize,
    },
    /// A record that a lost neighbor had been handed waits for another way.
    TakenBack {
        /// The neighbor.
        from: NodeId,
        /// How many records.
        records: usize,
    },
    /// A neighbor has accepted records that only others brought home, and gets nothing more for a while.
    Mistrusted {
        /// The neighbor.
        neighbor: NodeId,
        /// How many of the records that it has accepted go another way now.
        records: usize,
    },
    /// A neighbor refuses a record for good.
    Refused {
        /// The neighbor.
        by: NodeId,
        /// Which record.
        id: RecordId,
        /// Why.
        reason: NeverReason,
    },
    /// This node refuses a neighbor's record for good.
    Rejected {
        /// The neighbor.
        from: NodeId,
        /// Which record.
        id: RecordId,
        /// Why.
        reason: NeverReason,
    },
    /// A neighbor's piece was of no use: refused, here already, or not asked for. Diverted records come so with good reason.
    Wasted {
        /// The neighbor.
        from: NodeId,
        /// How long the piece was.
        bytes: u64,
    },
    /// A record cannot be read from this node's disk: it is in quarantine, and sought from the neighbors.
    Lost(RecordId),
    /// A record that was lost has come again.
    Healed(RecordId),
    /// A hub signs for less than it had committed, or hears that it did: it has lost these. They count as receipted no
    /// longer; an origin that still has them sends them again.
    LostByHub {
        /// Which hub, and whose records.
        key: ReceiptKey,
        /// Their numbers.
        seqs: SeqRanges,
    },
    /// Own captures that the hub has lost are held again.
    Recalled {
        /// How many.
        records: usize,
    },
    /// A receipt was not what it should be and released nothing.
    BadReceipt {
        /// Who sent it.
        from: NodeId,
        /// What is wrong.
        why: &'static str,
    },
}
