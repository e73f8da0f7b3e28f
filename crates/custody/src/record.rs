//! A record in custody, as it goes in and as others may see it.

use estafet_model::{Class, HeaderDigest, NodeId, Now, PayloadHash, RecordId, UnixMillis};
use estafet_wire::NeverReason;

/// A record in this node's custody, as the store has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HeldRecord {
    /// Which record.
    pub id: RecordId,
    /// How urgent.
    pub class: Class,
    /// How long its payload is.
    pub payload_bytes: u32,
    /// Its payload's hash.
    pub payload_hash: PayloadHash,
    /// Its header's hash.
    pub digest: HeaderDigest,
    /// The neighbor it came from; nobody if it was captured here.
    pub received_from: Option<NodeId>,
    /// When it became durable here.
    pub stored_at: UnixMillis,
}

/// Why a record waits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WaitReason {
    /// For a next hop, or for room in its window.
    Turn,
    /// The neighbor that had it is gone.
    NeighborLost(NodeId),
    /// The neighbor owes an answer suspiciously long: it goes another way as well.
    Suspected(NodeId),
    /// The neighbor asked for time.
    AskedToWait(NodeId),
    /// The neighbor has no room.
    Full(NodeId),
    /// The neighbor lives but has not answered.
    Unanswered(NodeId),
    /// The neighbor accepted it long ago, and no receipt has come.
    Unreceipted(NodeId),
    /// The neighbor refuses it for good: it is in quarantine.
    Refused(NodeId, NeverReason),
    /// A neighbor offered it after it had gone on from here.
    Returned(NodeId),
    /// For the neighbor's answer, whether it has it already.
    Asked(NodeId),
    /// The neighbor was asked and did not say that it has it.
    Unconfirmed(NodeId),
    /// This hub has committed it. It stays until as many hubs have as the topology demands.
    Signed(NodeId),
    /// This node cannot read it from its own disk, and asks its neighbors for it: it is in quarantine.
    Unreadable,
}

impl WaitReason {
    /// True if the record is set aside until somebody acts: it delays no other, and is tried again now and then.
    #[must_use]
    pub fn is_quarantine(&self) -> bool {
        matches!(self, WaitReason::Refused(..) | WaitReason::Unreadable)
    }
}

/// Where a held record stands. There is no other state, and none of them is on disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RecordState {
    /// Here, to be handed on.
    Waiting {
        /// Why it is not on its way.
        why: WaitReason,
        /// Not before this time.
        until: Option<Now>,
    },
    /// On its way to a neighbor that has not answered.
    Offered {
        /// The neighbor.
        to: NodeId,
    },
    /// Durable with the next custodian; the copy stays until the receipt.
    Accepted {
        /// The next custodian.
        by: NodeId,
    },
}

/// A held record as others may see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecordView {
    /// Which record.
    pub id: RecordId,
    /// How urgent.
    pub class: Class,
    /// How long its payload is.
    pub payload_bytes: u32,
    /// Its header's hash.
    pub digest: HeaderDigest,
    /// The neighbor it came from, as far as this start knows.
    pub received_from: Option<NodeId>,
    /// Where it stands.
    pub state: RecordState,
    /// Since when.
    pub since: Now,
    /// When it is tried again by itself; without a time, as soon as a next hop can take it.
    pub next_attempt: Option<Now>,
}
