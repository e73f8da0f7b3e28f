//! Records on their way in: offered, granted, arriving in pieces, being stored.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use bytes::Bytes;
use estafet_model::{
    ChunkHash, Epoch, HeaderDigest, NodeId, PublicKey, RecordId, SeqRanges, SignedHeader, VerifiedRoot, chunk_count,
    payload_hash_of_chunks,
};
use estafet_wire::{NeverReason, Offer, PieceHead};

use crate::output::{CustodyOutput, StorePayload, StoreRecord, TransferId};

/// Payload that neighbors may be sending at once. What is offered beyond waits for its turn, first come first served.
const GRANTED_BYTES_MAX: u64 = 32 << 20;

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
    /// The record is not acceptable.
    Reject(NeverReason),
}

/// A record whose bytes are with the store, which has not synced them yet.
#[derive(Debug)]
struct Storing {
    digest: HeaderDigest,
    /// Who is to hear of it.
    waiting: BTreeSet<NodeId>,
}

/// A record that a neighbor was told to send.
#[derive(Debug)]
struct Arriving {
    from: NodeId,
    granted_bytes: u64,
    body: Option<Body>,
}

/// The record itself, once its first piece has come.
#[derive(Debug)]
struct Body {
    header: SignedHeader,
    transfer: TransferId,
    chunks: Vec<ChunkHash>,
}

#[derive(Debug, Default)]
pub(crate) struct Inbound {
    storing: BTreeMap<RecordId, Storing>,
    arriving: BTreeMap<RecordId, Arriving>,
    asking: VecDeque<(NodeId, Offer)>,
    granted_bytes: u64,
    next_transfer: u64,
    verified_roots: BTreeMap<NodeId, Option<VerifiedRoot>>,
}

impl Inbound {
    /// Transfer ids from `first_transfer` on belong to this machine.
    pub(crate) fn new(first_transfer: u64) -> Self {
        Self { next_transfer: first_transfer, ..Self::default() }
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

    /// The digest of the record under this id that is coming from `from`, once its header has come.
    pub(crate) fn arriving_digest(&self, id: &RecordId, from: &NodeId) -> Option<HeaderDigest> {
        let arriving = self.arriving.get(id).filter(|arriving| arriving.from == *from)?;
        arriving.body.as_ref().map(|body| body.header.header().digest())
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

    /// The neighbor is told to send the record, which comes from nobody else.
    pub(crate) fn grant(&mut self, from: NodeId, offer: Offer) {
        let granted_bytes = u64::from(offer.payload_bytes);
        self.granted_bytes += granted_bytes;
        let before = self.arriving.insert(offer.id, Arriving { from, granted_bytes, body: None });
        assert!(before.is_none(), "a record is granted to one neighbor at a time, or the budget would leak");
    }

    /// Takes a piece. `key` is the origin's key by the topology.
    pub(crate) fn piece(
        &mut self,
        from: &NodeId,
        piece: Piece,
        key: &PublicKey,
        outputs: &mut VecDeque<CustodyOutput>,
    ) -> PieceVerdict {
        let id = piece.head.id.clone();
        let verdict = match piece.head.signed_header.clone() {
            Some(header) => self.first_piece(from, piece, &header, key, outputs),
            None => self.later_piece(from, piece, outputs),
        };
        match &verdict {
            PieceVerdict::Nothing => {}
            PieceVerdict::Reject(_) => self.cancel(&id, from, outputs),
            PieceVerdict::Whole(record) => {
                self.end_arrival(&id, from);
                // Another neighbor may have been granted it; its next piece will be answered.
                if let Some(other) = self.arriving_from(&id).cloned() {
                    self.cancel(&id, &other, outputs);
                }
                let waiting = BTreeSet::from([from.clone()]);
                self.storing.insert(id, Storing { digest: record.header.header().digest(), waiting });
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
        if chunk_count(header.payload_bytes) > 1 {
            let Some(arriving) = self.arriving.get_mut(&header.id).filter(|arriving| arriving.from == *from) else {
                // Large payloads come only when wanted; this one's grant was lost with an earlier session.
                return PieceVerdict::Nothing;
            };
            let transfer = TransferId(self.next_transfer);
            self.next_transfer += 1;
            if let Some(old) = arriving.body.replace(Body { header: signed, transfer, chunks: Vec::new() }) {
                outputs.push_back(CustodyOutput::AbortTransfer(old.transfer));
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
        let arriving = self.arriving.get_mut(&piece.head.id).filter(|arriving| arriving.from == *from);
        let Some(body) = arriving.and_then(|arriving| arriving.body.as_mut()) else { return PieceVerdict::Nothing };
        let header = body.header.header();
        if piece.head.index as usize != body.chunks.len()
            || piece.data.len() != chunk_length(header.payload_bytes, piece.head.index)
        {
            return PieceVerdict::Reject(NeverReason::WrongPayload);
        }
        body.chunks.push(piece.hash);
        let (transfer, index) = (body.transfer, piece.head.index);
        outputs.push_back(CustodyOutput::StoreChunk { transfer, index, data: piece.data, hash: piece.hash });
        if body.chunks.len() < chunk_count(header.payload_bytes) as usize {
            return PieceVerdict::Nothing;
        }
        if payload_hash_of_chunks(&body.chunks) != header.payload_hash {
            return PieceVerdict::Reject(NeverReason::WrongPayload);
        }
        PieceVerdict::Whole(Box::new(StoreRecord {
            header: body.header.clone(),
            received_from: Some(from.clone()),
            idempotency: None,
            payload: StorePayload::Transfer(transfer),
        }))
    }

    /// Ends an arrival and gives back what it had been granted.
    fn end_arrival(&mut self, id: &RecordId, from: &NodeId) -> Option<Body> {
        if self.arriving.get(id)?.from != *from {
            return None;
        }
        let arriving = self.arriving.remove(id)?;
        self.granted_bytes -= arriving.granted_bytes;
        arriving.body
    }

    /// Ends an arrival whose pieces are not wanted any more.
    pub(crate) fn cancel(&mut self, id: &RecordId, from: &NodeId, outputs: &mut VecDeque<CustodyOutput>) {
        let body = self.end_arrival(id, from);
        outputs.extend(body.map(|body| CustodyOutput::AbortTransfer(body.transfer)));
    }

    /// Ends the arrivals that a receipt has made needless: whoever was sending them will not go on.
    pub(crate) fn cancel_receipted(
        &mut self,
        origin: &NodeId,
        epoch: Epoch,
        receipted: &SeqRanges,
        outputs: &mut VecDeque<CustodyOutput>,
    ) {
        let covered = |id: &RecordId| id.origin == *origin && id.epoch == epoch && receipted.contains(id.seq);
        let ended = self.arriving.iter().filter(|(id, _)| covered(id));
        let ended: Vec<_> = ended.map(|(id, arriving)| (id.clone(), arriving.from.clone())).collect();
        for (id, from) in ended {
            self.cancel(&id, &from, outputs);
        }
    }

    /// An own capture goes to the store.
    pub(crate) fn store_own(&mut self, id: RecordId, digest: HeaderDigest) {
        self.storing.insert(id, Storing { digest, waiting: BTreeSet::new() });
    }

    /// The store has synced the record, or failed to: who is to hear of it.
    pub(crate) fn end_storing(&mut self, id: &RecordId) -> BTreeSet<NodeId> {
        self.storing.remove(id).map(|storing| storing.waiting).unwrap_or_default()
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

/// How long chunk `index` of a payload is.
fn chunk_length(payload_bytes: u32, index: u32) -> usize {
    let start = index as usize * estafet_model::CHUNK_BYTES;
    (payload_bytes as usize).saturating_sub(start).min(estafet_model::CHUNK_BYTES)
}
