//! Records on their way in: offered, granted, arriving in pieces, being stored.

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use bytes::Bytes;
use estafet_model::{
    CHUNK_BYTES, ChunkHash, HeaderDigest, NodeId, Now, PublicKey, ReceiptKey, RecordId, SeqRanges, SignedHeader,
    VerifiedRoot, chunk_count, payload_hash_of_chunks,
};
use estafet_wire::{NeverReason, Offer, PieceHead};

use crate::bodies::{Bodies, Body};
use crate::output::{CustodyOutput, StorePayload, StoreRecord, TransferId};

/// Payload that neighbors may be sending at once. What is offered beyond waits for its turn, first come first served.
const GRANTED_BYTES_MAX: u64 = 32 << 20;

/// A neighbor that was told to send a record, and of which nothing has come for so long, leaves it to another that offers
/// it: its own death may take seconds to be noticed here, where nothing waits for it.
const STALLED_AFTER: Duration = Duration::from_millis(100);

/// Offers that may wait for their turn; beyond, the neighbor is asked to come back.
const ASKING_MAX: usize = 65_536;

/// A piece of a record's payload as it came from a neighbor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Piece {
    /// Which piece of which record.
    pub head: PieceHead,
    /// Its bytes.
    pub data: Bytes,
    /// The hash of the bytes as a chunk of the payload.
    pub hash: ChunkHash,
}

/// What became of a piece.
pub(crate) enum PieceVerdict {
    /// More is to come, or the piece belongs to nothing that is awaited.
    Nothing,
    /// The record is whole and goes to the store.
    Whole(Box<StoreRecord>),
    /// The neighbor left something out, or another sends the record by now: it is to offer it again.
    OutOfOrder,
    /// The record is not acceptable.
    Reject(NeverReason),
}

/// A record whose bytes are with the store, which has not synced them yet.
#[derive(Debug)]
struct Storing {
    digest: HeaderDigest,
    /// Who is to hear of it.
    waiting: BTreeSet<NodeId>,
    /// The hub that it was offered for.
    for_hub: Option<NodeId>,
}

/// A record that a neighbor was told to send.
#[derive(Debug)]
struct Arriving {
    from: NodeId,
    granted_bytes: u64,
    /// When the last of it came, or it was granted.
    last_piece: Now,
    /// The hub that it was offered for.
    for_hub: Option<NodeId>,
}

/// A payload of several chunks that was arriving when this node ended, as the store found it.
#[derive(Debug, Clone)]
pub struct RecoveredTransfer {
    /// Under which id its chunks are stored.
    pub transfer: TransferId,
    /// The record's header, verified when it came.
    pub header: SignedHeader,
    /// The hashes of all its chunks.
    pub chunks: Vec<ChunkHash>,
    /// How many of them, from the first on, are durable.
    pub arrived: u32,
}

#[derive(Debug, Default)]
pub(crate) struct Inbound {
    storing: BTreeMap<RecordId, Storing>,
    arriving: BTreeMap<RecordId, Arriving>,
    asking: VecDeque<(NodeId, Offer)>,
    bodies: Bodies,
    granted_bytes: u64,
    verified_roots: BTreeMap<NodeId, Option<VerifiedRoot>>,
}

impl Inbound {
    /// Transfer ids from `first_transfer` on belong to this machine.
    pub(crate) fn new(first_transfer: u64) -> Self {
        Self { bodies: Bodies::new(first_transfer), ..Self::default() }
    }

    /// Takes back a payload that was arriving before.
    pub(crate) fn recover(&mut self, found: RecoveredTransfer, outputs: &mut VecDeque<CustodyOutput>) {
        let RecoveredTransfer { transfer, header, chunks, arrived } = found;
        self.bodies.recover(Body { header, transfer, chunks, arrived }, outputs);
    }

    /// The digest of the record under this id that is being stored, if one is.
    pub(crate) fn storing_digest(&self, id: &RecordId) -> Option<HeaderDigest> {
        self.storing.get(id).map(|storing| storing.digest)
    }

    /// `neighbor` is to hear when the record is durable.
    pub(crate) fn tell_when_stored(&mut self, id: &RecordId, neighbor: &NodeId) {
        if let Some(storing) = self.storing.get_mut(id) {
            storing.waiting.insert(neighbor.clone());
        }
    }

    /// The neighbor that was told to send the record.
    pub(crate) fn arriving_from(&self, id: &RecordId) -> Option<&NodeId> {
        self.arriving.get(id).map(|arriving| &arriving.from)
    }

    /// The hub that the record was offered for, if `from` was told to send it.
    pub(crate) fn arriving_for(&self, id: &RecordId, from: &NodeId) -> Option<&NodeId> {
        self.arriving.get(id).filter(|arriving| arriving.from == *from)?.for_hub.as_ref()
    }

    /// True if the neighbor that was told to send the record does not get on with it.
    pub(crate) fn is_stalled(&self, now: Now, id: &RecordId) -> bool {
        self.arriving.get(id).is_some_and(|arriving| now.since(arriving.last_piece) >= STALLED_AFTER)
    }

    /// The digest of the record under this id that is coming from `from`, once its header has come.
    pub(crate) fn arriving_digest(&self, id: &RecordId, from: &NodeId) -> Option<HeaderDigest> {
        self.arriving.get(id).filter(|arriving| arriving.from == *from)?;
        self.bodies.find(id).map(Body::digest)
    }

    /// Queues an offer for its turn; false if too many wait.
    pub(crate) fn ask(&mut self, from: &NodeId, offer: Offer) -> bool {
        if self.asking.len() >= ASKING_MAX {
            return false;
        }
        self.asking.push_back((from.clone(), offer));
        true
    }

    /// Takes the oldest offer out of the queue, if its bytes may be granted now.
    pub(crate) fn next_asking(&mut self) -> Option<(NodeId, Offer)> {
        let bytes = u64::from(self.asking.front()?.1.payload_bytes);
        let fits = self.granted_bytes == 0 || self.granted_bytes + bytes <= GRANTED_BYTES_MAX;
        if fits { self.asking.pop_front() } else { None }
    }

    /// The neighbor is told to send the record, which comes from nobody else. Returns the first chunk it is to send:
    /// those before are here.
    pub(crate) fn grant(&mut self, now: Now, from: NodeId, offer: Offer) -> u32 {
        let body = self.bodies.find(&offer.id).filter(|body| body.digest() == offer.digest);
        // If all are here, the last one comes again, because something has to; there is none behind it to ask for.
        let first_chunk = body.map_or(0, |body| body.arrived.min(chunk_count(body.header.header().payload_bytes) - 1));
        self.bodies.set_busy(&offer.id);
        let granted_bytes = u64::from(offer.payload_bytes).saturating_sub(u64::from(first_chunk) * CHUNK_BYTES as u64);
        self.granted_bytes += granted_bytes;
        let arriving = Arriving { from, granted_bytes, last_piece: now, for_hub: offer.for_hub };
        let before = self.arriving.insert(offer.id, arriving);
        assert!(before.is_none(), "a record is granted to one neighbor at a time, or the budget would leak");
        first_chunk
    }

    /// Takes a piece. `key` is the origin's key by the topology.
    pub(crate) fn piece(
        &mut self,
        now: Now,
        from: &NodeId,
        piece: Piece,
        key: &PublicKey,
        outputs: &mut VecDeque<CustodyOutput>,
    ) -> PieceVerdict {
        let id = piece.head.id.clone();
        if let Some(arriving) = self.arriving.get_mut(&id).filter(|arriving| arriving.from == *from) {
            arriving.last_piece = now;
        }
        let verdict = match piece.head.signed_header.clone() {
            Some(header) => self.first_piece(from, piece, &header, key, outputs),
            None => self.later_piece(from, piece, outputs),
        };
        match &verdict {
            PieceVerdict::Nothing => {}
            PieceVerdict::OutOfOrder | PieceVerdict::Reject(_) => self.cancel(&id, from, outputs),
            PieceVerdict::Whole(record) => {
                let for_hub = self.arriving_for(&id, from).cloned();
                self.end_arrival(&id, from);
                self.bodies.take(&id);
                // Another neighbor may have been granted it; its next piece will be answered.
                if let Some(other) = self.arriving_from(&id).cloned() {
                    self.cancel(&id, &other, outputs);
                }
                let waiting = BTreeSet::from([from.clone()]);
                self.storing.insert(id, Storing { digest: record.header.digest(), waiting, for_hub });
            }
        }
        verdict
    }

    fn first_piece(
        &mut self,
        from: &NodeId,
        piece: Piece,
        header: &[u8],
        key: &PublicKey,
        outputs: &mut VecDeque<CustodyOutput>,
    ) -> PieceVerdict {
        let Ok(signed) = SignedHeader::decode(header) else { return PieceVerdict::Reject(NeverReason::ForgedHeader) };
        let header = signed.header();
        let root = self.verified_roots.entry(header.id.origin.clone()).or_default();
        if header.id != piece.head.id || signed.verify(key, root).is_err() {
            return PieceVerdict::Reject(NeverReason::ForgedHeader);
        }
        if chunk_count(header.payload_bytes) != piece.head.chunks {
            return PieceVerdict::Reject(NeverReason::WrongPayload);
        }
        if piece.head.chunks > 1 {
            if self.arriving_from(&header.id) != Some(from) {
                return unwanted(&piece.head);
            }
            if payload_hash_of_chunks(&piece.head.chunk_hashes) != header.payload_hash {
                return PieceVerdict::Reject(NeverReason::WrongPayload);
            }
            if self.bodies.find(&header.id).is_none_or(|body| body.digest() != header.digest()) {
                self.bodies.begin(signed, piece.head.chunk_hashes.clone(), outputs);
            }
            return self.later_piece(from, piece, outputs);
        }
        let whole = piece.data.len() == header.payload_bytes as usize
            && payload_hash_of_chunks(&[piece.hash]) == header.payload_hash;
        if !whole {
            return PieceVerdict::Reject(NeverReason::WrongPayload);
        }
        PieceVerdict::Whole(Box::new(StoreRecord {
            header: signed,
            received_from: Some(from.clone()),
            idempotency: None,
            payload: StorePayload::Inline(piece.data),
        }))
    }

    fn later_piece(&mut self, from: &NodeId, piece: Piece, outputs: &mut VecDeque<CustodyOutput>) -> PieceVerdict {
        if self.arriving_from(&piece.head.id) != Some(from) {
            return unwanted(&piece.head);
        }
        let PieceHead { id, index, .. } = piece.head;
        let Some(body) = self.bodies.find_mut(&id) else { return PieceVerdict::OutOfOrder };
        match index.cmp(&body.arrived) {
            // It was on its way when the neighbor was told where to go on; or all chunks had arrived before this node
            // ended, and the last one comes again because something has to.
            Ordering::Less => {}
            Ordering::Greater => return PieceVerdict::OutOfOrder,
            Ordering::Equal => {
                let length = chunk_length(body.header.header().payload_bytes, index);
                if body.chunks.get(index as usize) != Some(&piece.hash) || piece.data.len() != length {
                    return PieceVerdict::Reject(NeverReason::WrongPayload);
                }
                body.arrived += 1;
                let (transfer, hash) = (body.transfer, piece.hash);
                outputs.push_back(CustodyOutput::StoreChunk { transfer, index, data: piece.data, hash });
            }
        }
        if !body.is_whole() {
            return PieceVerdict::Nothing;
        }
        PieceVerdict::Whole(Box::new(StoreRecord {
            header: body.header.clone(),
            received_from: Some(from.clone()),
            idempotency: None,
            payload: StorePayload::Transfer(body.transfer),
        }))
    }

    /// Ends an arrival and gives back what it had been granted; false if it was none.
    fn end_arrival(&mut self, id: &RecordId, from: &NodeId) -> bool {
        let is_from = self.arriving.get(id).is_some_and(|arriving| arriving.from == *from);
        let ended = if is_from { self.arriving.remove(id) } else { None };
        self.granted_bytes -= ended.as_ref().map_or(0, |arriving| arriving.granted_bytes);
        ended.is_some()
    }

    /// Ends an arrival. What has come stays, for whoever sends next.
    pub(crate) fn cancel(&mut self, id: &RecordId, from: &NodeId, outputs: &mut VecDeque<CustodyOutput>) {
        if self.end_arrival(id, from) {
            self.bodies.set_idle(id, outputs);
        }
    }

    /// The record is here or receipted: what has come of it by `from` is not needed.
    pub(crate) fn forget(&mut self, id: &RecordId, from: &NodeId, outputs: &mut VecDeque<CustodyOutput>) {
        self.end_arrival(id, from);
        if !self.arriving.contains_key(id) {
            self.bodies.forget(id, outputs);
        }
    }

    /// There is no room: what has come of payloads that nobody is sending is given up.
    pub(crate) fn make_room(&mut self, outputs: &mut VecDeque<CustodyOutput>) {
        self.bodies.shrink(0, 0, outputs);
    }

    /// Ends the arrivals that a receipt has made needless: whoever was sending them will not go on.
    pub(crate) fn cancel_receipted(
        &mut self,
        key: &ReceiptKey,
        receipted: &SeqRanges,
        outputs: &mut VecDeque<CustodyOutput>,
    ) {
        let covered = |id: &RecordId| id.origin == key.origin && id.epoch == key.epoch && receipted.contains(id.seq);
        let for_another = |arriving: &Arriving| arriving.for_hub.as_ref().is_some_and(|hub| *hub != key.hub);
        let ended = self.arriving.iter().filter(|(id, arriving)| covered(id) && !for_another(arriving));
        let ended: Vec<_> = ended.map(|(id, arriving)| (id.clone(), arriving.from.clone())).collect();
        for (id, from) in ended {
            self.end_arrival(&id, &from);
        }
        let arriving = &self.arriving;
        for id in self.bodies.ids(|id| covered(id) && !arriving.contains_key(id)) {
            self.bodies.forget(&id, outputs);
        }
    }

    /// An own capture goes to the store.
    pub(crate) fn store_own(&mut self, id: RecordId, digest: HeaderDigest) {
        self.storing.insert(id, Storing { digest, waiting: BTreeSet::new(), for_hub: None });
    }

    /// The store has synced the record, or failed to: who is to hear of it, and the hub that it was offered for.
    pub(crate) fn end_storing(&mut self, id: &RecordId) -> (BTreeSet<NodeId>, Option<NodeId>) {
        self.storing.remove(id).map(|storing| (storing.waiting, storing.for_hub)).unwrap_or_default()
    }

    /// Forgets what was coming from a neighbor that is gone.
    pub(crate) fn neighbor_down(&mut self, neighbor: &NodeId, outputs: &mut VecDeque<CustodyOutput>) {
        self.asking.retain(|(from, _)| from != neighbor);
        let from_it = |(id, arriving): (&RecordId, &Arriving)| (arriving.from == *neighbor).then(|| id.clone());
        let lost: Vec<RecordId> = self.arriving.iter().filter_map(from_it).collect();
        for id in lost {
            self.cancel(&id, neighbor, outputs);
        }
        for storing in self.storing.values_mut() {
            storing.waiting.remove(neighbor);
        }
    }
}

/// Large payloads come only when wanted. This one was left to another neighbor while it was on its way: whoever sent it
/// learns at its end what has become of it, by offering it again.
fn unwanted(head: &PieceHead) -> PieceVerdict {
    if head.index + 1 >= head.chunks { PieceVerdict::OutOfOrder } else { PieceVerdict::Nothing }
}

/// How long chunk `index` of a payload is.
fn chunk_length(payload_bytes: u32, index: u32) -> usize {
    let start = index as usize * CHUNK_BYTES;
    (payload_bytes as usize).saturating_sub(start).min(CHUNK_BYTES)
}
