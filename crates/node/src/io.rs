//! What goes into a node and what comes out.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use estafet_custody::{CustodyEvent, HeldRecord, Losses, Piece, StoreRecord, TransferId};
use estafet_model::{
    Bearer, ByteCount, ChainHead, ChunkHash, Class, Durable, Epoch, HeaderDigest, NodeId, ReceiptKey, RecordId,
    SeqRanges, SignedHeader, SignedReceipt,
};
use estafet_routing::{Captured, Choice, DownReason, Gray, LinkSample, Outlook, Standing, TimerReason};
use estafet_topology::Topology;
use estafet_wire::Frame;

use crate::captures::{Capture, CaptureRefused, CaptureToken, Captured as CapturedRecord};
use crate::recovered::StoredRecord;

/// Something that happened.
#[derive(Debug)]
pub enum Input {
    /// The time that [`Node::poll_timeout`](crate::Node::poll_timeout) named has come.
    Timeout,
    /// A session was established over a bearer. Earlier ones were reported down before: over this bearer, and over all with an
    /// earlier life of the neighbor.
    SessionUp(Bearer),
    /// The session over a bearer ended.
    SessionDown {
        /// Which bearer.
        bearer: Bearer,
        /// It said goodbye.
        goodbye: bool,
    },
    /// A neighbor's transport has acknowledged something over a bearer since the last time that was said: it hears this node.
    Acknowledged(Bearer),
    /// A network device of this machine has lost its carrier.
    CarrierLost {
        /// Those who are spoken to through it, if that is known.
        cut_off: Option<Vec<Bearer>>,
    },
    /// A control frame came.
    Frame {
        /// From whom, and over which bearer.
        from: Bearer,
        /// What it says.
        frame: Frame,
    },
    /// A piece of a record came.
    Piece {
        /// From whom, and over which bearer.
        from: Bearer,
        /// The piece.
        piece: Piece,
    },
    /// A bearer was measured; to be given twice a second.
    Measured {
        /// Which bearer.
        bearer: Bearer,
        /// What was found.
        sample: LinkSample,
    },
    /// The answer to [`Output::Try`]. Not given when the session has ended meanwhile.
    Tried {
        /// Which bearer.
        over: Bearer,
        /// All was acknowledged in time.
        carried: bool,
    },
    /// A counter hands in records; they share a signature.
    Captures(Vec<Capture>),
    /// The store has synced these records.
    Stored(Vec<StoredRecord>),
    /// The store could not make these records durable.
    StoreFailed(Vec<RecordId>),
    /// A receipt is durable, in the order of [`Output::KeepReceipt`].
    ReceiptKept(Durable<ReceiptKey>),
    /// A hub's losses are durable, in the order of [`Output::KeepLosses`].
    LossesKept,
    /// The store has found these records again: [`Output::Recall`].
    Recalled(Vec<StoredRecord>),
    /// The epoch of [`Output::KeepEpoch`] is durable.
    EpochKept,
    /// A person takes records out of quarantine: all of them, or one.
    Retry(Option<RecordId>),
    /// The answer to [`Output::Compare`].
    Compared {
        /// Which record.
        id: RecordId,
        /// Who waits for the answer.
        from: NodeId,
        /// The committed record has the digest.
        same: bool,
    },
    /// A record that is held here cannot be read from the store.
    Unreadable(RecordId),
    /// A record that is committed at this hub cannot be read from its archive.
    CommittedUnreadable(Box<HeldRecord>),
    /// How much the store can still take.
    Room(ByteCount),
    /// How long this node can go on taking captures. For people.
    Outlook(Outlook),
    /// How far the chain of this hub's commits has come. Published at most as often as its ledger.
    ChainHead(ChainHead),
    /// What this node does with transit from now on, on what power, and why.
    Standing(Standing),
    /// Another topology is in force. Its hubs, and this node's role and key, are as before.
    Topology(Arc<Topology>),
    /// A topology of this version is durable, and in force when this node is started again.
    TopologyKept(u64),
    /// The links of this node that a planned outage darkens, now or soon: all of them.
    PlannedDark(BTreeSet<Bearer>),
}

/// Something to do.
#[derive(Debug)]
pub enum Output {
    /// Send a control frame.
    Send {
        /// To whom, and over which bearer.
        to: Bearer,
        /// What.
        frame: Frame,
    },
    /// Stream a record from the store.
    Carry {
        /// To whom, and over which bearer.
        to: Bearer,
        /// Which.
        id: RecordId,
        /// On which stream.
        class: Class,
        /// How many chunks its payload has.
        chunks: u32,
        /// The neighbor has those before this one.
        first_chunk: u32,
    },
    /// Send padding behind everything else, and answer with `Tried` when all of it is acknowledged, or when its time is over;
    /// what has not left by then need not leave any more.
    Try {
        /// Over which bearer.
        over: Bearer,
        /// So much.
        bytes: u32,
        /// In this time.
        within: Duration,
    },
    /// Close the session over this bearer: nothing is heard over it.
    Disconnect(Bearer),
    /// Append a record to the store; answer with `Stored` or `StoreFailed`.
    Store(Box<StoreRecord>),
    /// Note that a payload begins to arrive, so that its chunks are found again after a restart.
    BeginTransfer {
        /// Under which id its chunks will be stored.
        transfer: TransferId,
        /// The record's header.
        header: Box<SignedHeader>,
        /// The hashes of all its chunks.
        chunks: Vec<ChunkHash>,
    },
    /// Append a chunk of a payload that is arriving.
    StoreChunk {
        /// Of which payload.
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
    /// Make a receipt durable; answer with `ReceiptKept`.
    KeepReceipt(SignedReceipt),
    /// Make this node's epoch durable, and with it the counts of its earlier ones; answer with `EpochKept`.
    KeepEpoch {
        /// The epoch in which captures are numbered from now on.
        epoch: Epoch,
        /// Earlier epochs, each with its known count of captures.
        former: BTreeMap<Epoch, Captured>,
    },
    /// Remember that no receipt may release these own captures. Replaces what was kept of the same epoch.
    KeepConflicts {
        /// Of which epoch.
        epoch: Epoch,
        /// Their numbers.
        seqs: SeqRanges,
    },
    /// Make this hub's losses durable; answer with `LossesKept`. Replaces what was kept of the same origin's epoch.
    KeepLosses {
        /// Whose records.
        origin: NodeId,
        /// Of which epoch.
        epoch: Epoch,
        /// The losses.
        losses: Losses,
    },
    /// The payloads of these records may go.
    Release(Vec<RecordId>),
    /// These own captures were released and are needed again; answer with `Recalled` for those that are still there.
    Recall {
        /// This node.
        origin: NodeId,
        /// Of which epoch.
        epoch: Epoch,
        /// Their numbers.
        seqs: SeqRanges,
    },
    /// Compare a committed record's header with this digest; answer with `Compared`.
    Compare {
        /// Which record.
        id: RecordId,
        /// The digest to compare with.
        digest: HeaderDigest,
        /// Who waits for the answer.
        from: NodeId,
    },
    /// A neighbor returns a head that this hub has published: if it is not on the chain of its archive, that is not the newest
    /// archive that it had, and its history is to be told as another chain.
    Published(ChainHead),
    /// A capture is durable: its slip may be given.
    Captured {
        /// Which capture.
        token: CaptureToken,
        /// What to tell the counter.
        captured: Durable<CapturedRecord>,
    },
    /// A capture is not taken.
    CaptureRefused {
        /// Which capture.
        token: CaptureToken,
        /// Why.
        why: CaptureRefused,
    },
    /// Something that people may want to know.
    Event(NodeEvent),
}

/// What a timeout is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Wakeup {
    /// Routing has something to do.
    Routing(TimerReason),
    /// Custody has something to do.
    Custody(&'static str),
}

/// What happened, for logs and live views. Ids only.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NodeEvent {
    /// A neighbor can be sent to.
    AdjacencyUp(NodeId),
    /// A neighbor cannot be sent to any more.
    AdjacencyDown {
        /// Which.
        neighbor: NodeId,
        /// Why.
        reason: DownReason,
    },
    /// An answer is owed suspiciously long over a bearer: what has another way takes that too.
    Suspected(Bearer),
    /// Something was heard again over a suspicious bearer.
    Cleared(Bearer),
    /// A neighbor is spoken to over another bearer.
    BearerChanged {
        /// The neighbor.
        neighbor: NodeId,
        /// Over which.
        choice: Choice,
    },
    /// A bearer works and is bad: it is used only where there is no other way.
    LinkGray {
        /// The bearer.
        bearer: Bearer,
        /// What is wrong.
        why: Gray,
    },
    /// A bearer is good again.
    LinkGood(Bearer),
    /// The way to the hub changed: the next hops now, best first. Nothing is said while one of them is suspect.
    NextHops(Vec<NodeId>),
    /// A neighbor sent an LSA that its origin did not sign.
    ForgedLsa {
        /// The neighbor.
        from: NodeId,
        /// Whom it claims to be from.
        origin: NodeId,
    },
    /// A neighbor sent something that is no LSA.
    MalformedLsa {
        /// The neighbor.
        from: NodeId,
        /// It may be one to a relay of another version.
        of_other_version: bool,
    },
    /// This node's spool is not the newest that it had: it was lost, or is an old copy. Captures get a new epoch.
    SpoolRolledBack {
        /// The epoch that is left.
        left: Epoch,
        /// How many captures it is known to have had.
        captured: Captured,
        /// The epoch that begins.
        begun: Epoch,
    },
    /// What happened to records.
    Custody(CustodyEvent),
}
