//! Records on their way in: offered, granted, arriving in pieces, being stored.

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use bytes::Bytes;
use estafet_model::{
    CHUNK_BYTES, ChunkHash, Class, HeaderDigest, NodeId, Now, PublicKey, ReceiptKey, RecordId, SeqRanges, SignedHeader,
    VerifiedRoot, chunk_count, payload_hash_of_chunks,
};
use estafet_wire::{NeverReason, Offer, PieceHead};

use crate::asking::Asking;
use crate::bodies::{Bodies, Body};
use crate::output::{CustodyOutput, StorePayload, StoreRecord, TransferId};

/// As long as neighbors are sending less than this, another record may begin: what a line of 100 Mbit/s carries in a fifth
/// of a second. That keeps it busy over any round trip, and fits in the queue before it. So nothing is lost there, the
/// turns of the origins decide who gets on and not whose transport began first, and what is urgent finds no long queue.
const FRESH_BYTES: u64 = 5 << 19;

/// What was granted so long ago counts no more: who is slow keeps nobody else from sending.
const FRESH: Duration = Duration::from_secs(1);

/// The same for one neighbor, however old. It fills a line of 100 Mbit/s over a round trip of 160 ms.
const SENDING_BYTES: u64 = 2 << 20;

/// What is urgent may begin beside so many times as much.
const URGENT_FACTOR: u64 = 2;

/// A neighbor that was told to send a record, and of which nothing has come for so long, leaves it to another that offers
/// it: its own death may take seconds to be noticed here, where nothing waits for it.
const STALLED_AFTER: Duration = Duration::from_millis(100);

/// The most that a neighbor has to make good for: the largest record.
const OWED_BYTES_MAX: u64 = 16 << 20;

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
    /// More is to come.
    Nothing,
    /// The piece belongs to nothing that is awaited, or is here already.
    Useless,
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
    class: Class,
    granted_bytes: u64,
    /// What of that has come.
    come_bytes: u64,
    granted_at: Now,
    /// It counts against [`FRESH_BYTES`].
    is_fresh: bool,
    /// From when on another that offers it is told to send it, unless more of it comes before.
    stalled_at: Now,
    /// The hub that it was offered for.
    for_hub: Option<NodeId>,
}

/// What a neighbor was told to send, and has not.
#[derive(Debug, Clone, Copy, Default)]
struct Sending {
    bytes: u64,
    /// Of that, of urgent records.
    urgent_bytes: u64,
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
    asking: Asking,
    bodies: Bodies,
    /// What each neighbor was told to send.
    sending: BTreeMap<NodeId, Sending>,
    /// What each neighbor was told to send and did not, in bytes: it offered it once more instead, withdrew it, or was gone.
    /// Until it has made good for that, it is told to send one record at a time, and an urgent one beside it, and what it is
    /// told counts neither against [`FRESH_BYTES`] nor against the turns of an origin: who offers and never sends keeps nobody
    /// else waiting.
    owed: BTreeMap<NodeId, u64>,
    /// What was granted lately, in that order, whether it has come meanwhile or not.
    fresh: VecDeque<(Now, RecordId)>,
    fresh_bytes: u64,
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

    /// For how long nobody else is to send the record; nothing if the neighbor that was told to does not get on with it.
    pub(crate) fn reserved_for(&self, now: Now, id: &RecordId) -> Option<Duration> {
        let stalled_at = self.arriving.get(id)?.stalled_at;
        (stalled_at > now).then(|| stalled_at.since(now))
    }

    /// The neighbor owes answers suspiciously long: whoever else offers what it was told to send is told to at once.
    pub(crate) fn suspect(&mut self, now: Now, neighbor: &NodeId) {
        for arriving in self.arriving.values_mut().filter(|arriving| arriving.from == *neighbor) {
            arriving.stalled_at = arriving.stalled_at.min(now);
        }
    }

    /// The digest of the record under this id that is coming from `from`, once its header has come.
    pub(crate) fn arriving_digest(&self, id: &RecordId, from: &NodeId) -> Option<HeaderDigest> {
        self.arriving.get(id).filter(|arriving| arriving.from == *from)?;
        self.bodies.find(id).map(Body::digest)
    }

    /// Queues an offer for its turn; false if too many wait.
    pub(crate) fn ask(&mut self, from: &NodeId, offer: Offer) -> bool {
        self.asking.push(from, offer)
    }

    /// Takes the offer whose turn it is, if another may be granted now.
    pub(crate) fn next_asking(&mut self, now: Now) -> Option<(NodeId, Offer)> {
        self.forget_old_grants(now);
        let Self { asking, sending, fresh_bytes, owed, .. } = self;
        if *fresh_bytes >= FRESH_BYTES * URGENT_FACTOR {
            return None;
        }
        let may_send = |from: &NodeId, offer: &Offer| {
            let sending = sending.get(from).copied().unwrap_or_default();
            match (owed.contains_key(from), offer.class == Class::Urgent) {
                (true, true) => sending.urgent_bytes == 0,
                (true, false) => sending.bytes == 0,
                (false, true) => sending.bytes < SENDING_BYTES * URGENT_FACTOR,
                (false, false) => sending.bytes < SENDING_BYTES,
            }
        };
        asking.take(*fresh_bytes >= FRESH_BYTES, may_send, |from| !owed.contains_key(from))
    }

    /// The neighbor's offer is answered.
    pub(crate) fn take_back(&mut self, id: &RecordId, from: &NodeId) {
        self.asking.take_back(from, id);
    }

    /// True if an offer of the record by this neighbor waits for its turn.
    pub(crate) fn is_asking(&self, id: &RecordId, from: &NodeId) -> bool {
        self.asking.is_asking(from, id)
    }

    /// If the neighbor was told to send the record, it has stopped.
    pub(crate) fn stopped_sending(&mut self, id: &RecordId, from: &NodeId, outputs: &mut VecDeque<CustodyOutput>) {
        self.owes(from, id);
        self.cancel(id, from, outputs);
    }

    /// If this neighbor was told to send the record, it owes what has not come of it.
    fn owes(&mut self, neighbor: &NodeId, id: &RecordId) {
        let Some(broken) = self.arriving.get(id).filter(|arriving| arriving.from == *neighbor) else { return };
        let bytes = broken.granted_bytes.saturating_sub(broken.come_bytes).max(1);
        let owed = self.owed.entry(neighbor.clone()).or_default();
        *owed = (*owed + bytes).min(OWED_BYTES_MAX);
    }

    /// So much has come.
    fn makes_good(&mut self, neighbor: &NodeId, bytes: u64) {
        if let Some(owed) = self.owed.get_mut(neighbor) {
            *owed = owed.saturating_sub(bytes.max(1));
            if *owed == 0 {
                self.owed.remove(neighbor);
            }
        }
    }

    fn forget_old_grants(&mut self, now: Now) {
        while let Some((granted_at, id)) = self.fresh.pop_front_if(|(granted_at, _)| *granted_at + FRESH <= now) {
            let arriving = self.arriving.get_mut(&id).filter(|arriving| arriving.granted_at == granted_at);
            if let Some(arriving) = arriving.filter(|arriving| arriving.is_fresh) {
                arriving.is_fresh = false;
                self.fresh_bytes -= arriving.granted_bytes;
            }
        }
    }

    /// When another offer may be granted although nothing has come.
    pub(crate) fn poll_timeout(&self) -> Option<(Now, &'static str)> {
        let (granted_at, _) = self.fresh.front().filter(|_| !self.asking.is_empty())?;
        Some((*granted_at + FRESH, "an offer waits for its turn"))
    }

    /// The neighbor is told to send the record, which comes from nobody else. Returns the first chunk it is to send:
    /// those before are here.
    pub(crate) fn grant(&mut self, now: Now, from: NodeId, offer: Offer) -> u32 {
        let body = self.bodies.find(&offer.id).filter(|body| body.digest() == offer.digest);
        // If all are here, the last one comes again, because something has to; there is none behind it to ask for.
        let first_chunk = body.map_or(0, |body| body.arrived.min(chunk_count(body.header.header().payload_bytes) - 1));
        self.bodies.set_busy(&offer.id);
        let granted_bytes = u64::from(offer.payload_bytes).saturating_sub(u64::from(first_chunk) * CHUNK_BYTES as u64);
        let is_fresh = !self.owed.contains_key(&from);
        if is_fresh {
            self.fresh_bytes += granted_bytes;
            self.fresh.push_back((now, offer.id.clone()));
        }
        let sending = self.sending.entry(from.clone()).or_default();
        sending.bytes += granted_bytes;
        sending.urgent_bytes += if offer.class == Class::Urgent { granted_bytes } else { 0 };
        let for_hub = offer.for_hub;
        let arriving = Arriving {
            from,
            class: offer.class,
            granted_bytes,
            come_bytes: 0,
            granted_at: now,
            is_fresh,
            stalled_at: now + STALLED_AFTER,
            for_hub,
        };
        let before = self.arriving.insert(offer.id, arriving);
        assert!(before.is_none(), "a record is granted to one neighbor at a time, or the budget would leak");
        first_chunk
    }

    /// Takes a piece. `keys` are the origin's by the topology.
    pub(crate) fn piece(
        &mut self,
        now: Now,
        from: &NodeId,
        piece: Piece,
        keys: &[PublicKey],
        outputs: &mut VecDeque<CustodyOutput>,
    ) -> PieceVerdict {
        let id = piece.head.id.clone();
        if let Some(arriving) = self.arriving.get_mut(&id).filter(|arriving| arriving.from == *from) {
            arriving.stalled_at = now + STALLED_AFTER;
        }
        let bytes = piece.data.len() as u64;
        let verdict = match piece.head.signed_header.clone() {
            Some(header) => self.first_piece(from, piece, &header, keys, outputs),
            None => self.later_piece(from, piece, outputs),
        };
        if matches!(verdict, PieceVerdict::Nothing | PieceVerdict::Whole(_)) {
            self.makes_good(from, bytes);
            if let Some(arriving) = self.arriving.get_mut(&id).filter(|arriving| arriving.from == *from) {
                arriving.come_bytes += bytes;
            }
        }
        match &verdict {
            PieceVerdict::Nothing | PieceVerdict::Useless => {}
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
        keys: &[PublicKey],
        outputs: &mut VecDeque<CustodyOutput>,
    ) -> PieceVerdict {
        let Ok(signed) = SignedHeader::decode(header) else { return PieceVerdict::Reject(NeverReason::ForgedHeader) };
        let header = signed.header();
        let root = self.verified_roots.entry(header.id.origin.clone()).or_default();
        if header.id != piece.head.id || !keys.iter().any(|key| signed.verify(key, root).is_ok()) {
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
        // Without its beginning it is of an earlier try: what is wanted now comes behind it, from the beginning. If that were
        // waved off too, each such piece would bring another copy on its way, for ever.
        let Some(body) = self.bodies.find_mut(&id) else { return PieceVerdict::Useless };
        match index.cmp(&body.arrived) {
            // It was on its way when the neighbor was told where to go on; or all chunks had arrived before this node
            // ended, and the last one comes again because something has to.
            Ordering::Less if !body.is_whole() => return PieceVerdict::Useless,
            Ordering::Less => {}
            // Of an earlier try, too.
            Ordering::Greater => return PieceVerdict::Useless,
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
        if let Some(Arriving { from, class, granted_bytes, is_fresh, .. }) = &ended {
            self.fresh_bytes -= if *is_fresh { *granted_bytes } else { 0 };
            if let Some(sending) = self.sending.get_mut(from) {
                sending.bytes -= granted_bytes;
                sending.urgent_bytes -= if *class == Class::Urgent { *granted_bytes } else { 0 };
            }
            self.sending.retain(|_, sending| sending.bytes > 0);
        }
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
        self.asking.forget(neighbor);
        self.expect_nothing(neighbor, outputs);
        for storing in self.storing.values_mut() {
            storing.waiting.remove(neighbor);
        }
    }

    /// What the neighbor was told to send will not come.
    pub(crate) fn expect_nothing(&mut self, neighbor: &NodeId, outputs: &mut VecDeque<CustodyOutput>) {
        let from_it = |(id, arriving): (&RecordId, &Arriving)| (arriving.from == *neighbor).then(|| id.clone());
        let lost: Vec<RecordId> = self.arriving.iter().filter_map(from_it).collect();
        for id in lost {
            self.stopped_sending(&id, neighbor, outputs);
        }
    }
}

/// Large payloads come only when wanted. This one was left to another neighbor while it was on its way: whoever sent it
/// learns at its end what has become of it, by offering it again.
fn unwanted(head: &PieceHead) -> PieceVerdict {
    if head.index + 1 >= head.chunks { PieceVerdict::OutOfOrder } else { PieceVerdict::Useless }
}

/// How long chunk `index` of a payload is.
fn chunk_length(payload_bytes: u32, index: u32) -> usize {
    let start = index as usize * CHUNK_BYTES;
    (payload_bytes as usize).saturating_sub(start).min(CHUNK_BYTES)
}
