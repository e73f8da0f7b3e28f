//! Receipts: what is known committed at a hub, kept, spread and, at a hub, signed.

mod listener;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use bytes::Bytes;
use estafet_model::{
    Durable, Epoch, NodeId, Now, PublicKey, ReceiptKey, RecordId, SeqRanges, SignedReceipt, SigningKey,
};
use estafet_wire::{Frame, ReceiptVersion};

use self::listener::Listener;
use crate::losses::{LossBook, Losses};
use crate::output::CustodyOutput;
use crate::signatures::Signatures;

/// How long to gather receipts after some were spread, for each of them: at most five hundred signatures are made, and
/// checked, a second. A single record's receipt goes at once; with twelve busy offices each waits 24 ms at most.
const PAUSE_PER_RECEIPT: Duration = Duration::from_millis(2);

/// What a newer receipt says.
pub(crate) struct News {
    pub(crate) receipt: SignedReceipt,
    /// These numbers its hub has signed for, and had not before.
    pub(crate) new: SeqRanges,
    /// And these its hub had committed, and has no more.
    pub(crate) lost: SeqRanges,
}

/// What a neighbor's receipt is worth.
pub(crate) enum Received {
    /// Nothing that is not known.
    Known,
    /// It is newer than what is here.
    News(Box<News>),
    /// This hub has signed it once, and does not know it.
    OwnPast {
        key: ReceiptKey,
        /// These numbers it has no more.
        lost: SeqRanges,
        /// How often it has taken numbers back at least, with these.
        losses: u32,
    },
}

/// A receipt on its way to the disk.
#[derive(Debug)]
struct Keeping {
    key: ReceiptKey,
    /// Records that it releases.
    releases: Vec<RecordId>,
    /// Own captures that its hub has lost.
    recalls: SeqRanges,
}

#[derive(Debug)]
pub(crate) struct Receipts {
    me: NodeId,
    /// This hub's key, at a hub.
    signing_key: Option<SigningKey>,
    /// Without a durable store no receipt is signed.
    promises: bool,
    hub_keys: BTreeMap<NodeId, PublicKey>,
    /// How many hubs are to have a record before its origin lets it go.
    copies: usize,
    receipts: BTreeMap<ReceiptKey, SignedReceipt>,
    /// Per origin and epoch: in some hub's receipt, or committed here.
    covered: BTreeMap<(NodeId, Epoch), SeqRanges>,
    /// At a hub: what it has committed. Grows by `Durable` record ids alone, and shrinks by what is lost.
    committed: BTreeMap<(NodeId, Epoch), SeqRanges>,
    committed_count: u64,
    losses: LossBook,
    unsigned: BTreeSet<(NodeId, Epoch)>,
    unspread: BTreeSet<ReceiptKey>,
    neighbors: BTreeMap<NodeId, Listener>,
    /// Receipts on their way to the disk, in order.
    keeping: VecDeque<Keeping>,
    spread_at: Option<Now>,
    /// Not before: the last spread is to be paid for.
    next_spread: Now,
}

impl Receipts {
    pub(crate) fn new(
        me: NodeId,
        signing_key: Option<SigningKey>,
        hub_keys: BTreeMap<NodeId, PublicKey>,
        copies: usize,
        promises: bool,
    ) -> Self {
        Self {
            me,
            signing_key,
            promises,
            hub_keys,
            copies,
            receipts: BTreeMap::new(),
            covered: BTreeMap::new(),
            committed: BTreeMap::new(),
            committed_count: 0,
            losses: LossBook::default(),
            unsigned: BTreeSet::new(),
            unspread: BTreeSet::new(),
            neighbors: BTreeMap::new(),
            keeping: VecDeque::new(),
            spread_at: None,
            next_spread: Now::default(),
        }
    }

    /// Takes back what was on this node's disk: receipts it kept and, at a hub, what it committed and had lost. Returns how
    /// many receipts are not their hub's word any more.
    pub(crate) fn recover(
        &mut self,
        receipts: Vec<SignedReceipt>,
        committed: BTreeMap<(NodeId, Epoch), SeqRanges>,
        losses: &BTreeMap<(NodeId, Epoch), Losses>,
    ) -> usize {
        // Who was a hub once has no key here, and is believed: its receipts were judged when they came.
        let is_good = |receipt: &SignedReceipt| {
            self.hub_keys.get(&receipt.key().hub).is_none_or(|hub_key| receipt.verify(hub_key).is_ok())
        };
        let (good, changed): (Vec<_>, Vec<_>) = receipts.into_iter().partition(is_good);
        for receipt in good {
            self.cover(&receipt);
            self.receipts.insert(receipt.key().clone(), receipt);
        }
        for (origin, ranges) in committed {
            self.committed_count += ranges.count();
            let covered = self.covered.entry(origin.clone()).or_default();
            *covered = covered.union(&ranges);
            self.unsigned.insert(origin.clone());
            self.committed.insert(origin, ranges);
        }
        self.unsigned.extend(losses.keys().cloned());
        self.losses.recover(losses);
        changed.len()
    }

    fn cover(&mut self, receipt: &SignedReceipt) {
        let covered = self.covered.entry((receipt.key().origin.clone(), receipt.key().epoch)).or_default();
        *covered = covered.union(receipt.committed());
    }

    pub(crate) fn is_hub(&self) -> bool {
        self.signing_key.is_some()
    }

    pub(crate) fn is_committed(&self, id: &RecordId) -> bool {
        self.committed.get(&(id.origin.clone(), id.epoch)).is_some_and(|ranges| ranges.contains(id.seq))
    }

    pub(crate) fn is_covered(&self, id: &RecordId) -> bool {
        self.covered.get(&(id.origin.clone(), id.epoch)).is_some_and(|ranges| ranges.contains(id.seq))
    }

    /// True if nothing is to be done about the record here: at a hub it is committed, elsewhere some hub has it.
    pub(crate) fn is_done(&self, id: &RecordId) -> bool {
        if self.is_hub() { self.is_committed(id) } else { self.is_covered(id) }
    }

    pub(crate) fn covered(&self) -> &BTreeMap<(NodeId, Epoch), SeqRanges> {
        &self.covered
    }

    /// Which hubs have signed for the records of an origin's epoch.
    pub(crate) fn signatures(&self, origin: &NodeId, epoch: Epoch) -> Signatures {
        let of_hub = |hub: &NodeId| (hub.clone(), self.signed_by(hub, origin, epoch).cloned().unwrap_or_default());
        Signatures::new(self.hub_keys.keys().map(of_hub).collect(), self.copies)
    }

    fn signed_by(&self, hub: &NodeId, origin: &NodeId, epoch: Epoch) -> Option<&SeqRanges> {
        let key = ReceiptKey { hub: hub.clone(), origin: origin.clone(), epoch };
        self.receipts.get(&key).map(SignedReceipt::committed)
    }

    /// True if this hub has signed for the record.
    pub(crate) fn is_signed_by(&self, hub: &NodeId, id: &RecordId) -> bool {
        self.signed_by(hub, &id.origin, id.epoch).is_some_and(|signed| signed.contains(id.seq))
    }

    /// The other hubs of the area.
    pub(crate) fn other_hubs(&self) -> impl Iterator<Item = &NodeId> {
        self.hub_keys.keys().filter(|hub| **hub != self.me)
    }

    /// At a hub: what it has and the other has not signed for, per origin and epoch.
    pub(crate) fn lacking(&self, hub: &NodeId) -> impl Iterator<Item = (&(NodeId, Epoch), SeqRanges)> {
        self.committed.iter().map(move |(of, committed)| {
            let signed = self.signed_by(hub, &of.0, of.1);
            (of, signed.map_or_else(|| committed.clone(), |signed| committed.minus(signed)))
        })
    }

    pub(crate) fn committed_count(&self) -> u64 {
        self.committed_count
    }

    /// The hub whose receipt covers the record.
    pub(crate) fn hub_of(&self, id: &RecordId) -> Option<&NodeId> {
        if self.is_committed(id) {
            return Some(&self.me);
        }
        self.receipts.values().find(|receipt| receipt.covers(id)).map(|receipt| &receipt.key().hub)
    }

    /// A committed record cannot be read: it is committed no longer. False if it was not.
    pub(crate) fn lose(&mut self, id: &RecordId) -> bool {
        if !self.is_committed(id) {
            return false;
        }
        let origin = (id.origin.clone(), id.epoch);
        if let Some(committed) = self.committed.get_mut(&origin) {
            *committed = committed.minus(&SeqRanges::of(id.seq));
            self.committed_count -= 1;
        }
        self.withdraw(&origin);
        self.cover_anew(&origin);
        true
    }

    /// Those of the numbers that a hub has lost which no other hub has committed.
    pub(crate) fn uncovered(&self, key: &ReceiptKey, lost: &SeqRanges) -> SeqRanges {
        self.uncovered_of(&key.origin, key.epoch, lost)
    }

    /// Those of the numbers that no hub has committed.
    pub(crate) fn uncovered_of(&self, origin: &NodeId, epoch: Epoch, seqs: &SeqRanges) -> SeqRanges {
        self.covered.get(&(origin.clone(), epoch)).map_or_else(|| seqs.clone(), |covered| seqs.minus(covered))
    }

    /// How often hubs have taken numbers back, by the receipts that are known here.
    pub(crate) fn losses(&self) -> u64 {
        self.receipts.values().map(|receipt| u64::from(receipt.rank().losses)).sum()
    }

    pub(crate) fn has_losses(&self, origin: &NodeId, epoch: Epoch) -> bool {
        let of_epoch = |receipt: &&SignedReceipt| receipt.key().origin == *origin && receipt.key().epoch == epoch;
        self.receipts.values().filter(of_epoch).any(|receipt| receipt.rank().losses > 0)
    }

    pub(crate) fn loss_count(&self, origin: &(NodeId, Epoch)) -> u32 {
        self.losses.count(origin)
    }

    /// This hub takes numbers back. It signs again when that is durable.
    pub(crate) fn note_losses(
        &mut self,
        origin: (NodeId, Epoch),
        losses: Losses,
        outputs: &mut VecDeque<CustodyOutput>,
    ) {
        self.withdraw(&origin);
        self.losses.note(origin.clone(), losses.count);
        self.unsigned.insert(origin.clone());
        let (origin, epoch) = origin;
        outputs.push_back(CustodyOutput::KeepLosses { origin, epoch, losses });
    }

    /// What this hub has signed is no longer so, and no newer word is there before the loss is noted.
    fn withdraw(&mut self, (origin, epoch): &(NodeId, Epoch)) {
        self.receipts.remove(&ReceiptKey { hub: self.me.clone(), origin: origin.clone(), epoch: *epoch });
    }

    /// A loss is durable, in the order they were noted.
    pub(crate) fn losses_kept(&mut self, now: Now) {
        self.losses.kept();
        self.spread_at = Some(now);
    }

    /// A hub has the record on its disk: it is committed. False if it was before.
    pub(crate) fn commit(&mut self, now: Now, id: Durable<RecordId>) -> bool {
        let id = id.into_inner();
        let origin = (id.origin, id.epoch);
        let new = self.committed.entry(origin.clone()).or_default().insert(id.seq);
        if new {
            self.committed_count += 1;
            self.covered.entry(origin.clone()).or_default().insert(id.seq);
            self.unsigned.insert(origin);
            self.spread_soon(now);
        }
        new
    }

    pub(crate) fn neighbor_up(&mut self, neighbor: &NodeId) -> Frame {
        self.neighbors.entry(neighbor.clone()).or_default().forget();
        let version = |receipt: &SignedReceipt| ReceiptVersion { key: receipt.key().clone(), rank: receipt.rank() };
        Frame::ReceiptSummary(self.receipts.values().map(version).collect())
    }

    pub(crate) fn neighbor_down(&mut self, neighbor: &NodeId) {
        self.neighbors.remove(neighbor);
    }

    /// The neighbor's summary: the answer is everything newer, even if that is nothing.
    pub(crate) fn summary(&mut self, from: &NodeId, versions: Vec<ReceiptVersion>) -> Option<Frame> {
        let listener = self.neighbors.get_mut(from)?;
        // Of what is not here nothing is to be sent: a neighbor that makes keys up fills no memory with them.
        let here = versions.into_iter().filter(|version| self.receipts.contains_key(&version.key));
        here.for_each(|version| listener.knows(version.key, version.rank));
        let newer = self.receipts.values().filter_map(|receipt| listener.newer(receipt)).collect();
        Some(Frame::Receipts(newer))
    }

    /// What is covered of an origin's epoch, by all receipts there are.
    fn cover_anew(&mut self, origin: &(NodeId, Epoch)) {
        let of_origin = self.receipts.values().filter(|receipt| receipt.key().origin == origin.0);
        let of_epoch = of_origin.filter(|receipt| receipt.key().epoch == origin.1);
        let here = self.committed.get(origin).cloned().unwrap_or_default();
        let covered = of_epoch.fold(here, |all, receipt| all.union(receipt.committed()));
        self.covered.insert(origin.clone(), covered);
    }

    /// A receipt from a neighbor, in canonical form: what is new in it, or what is wrong with it.
    pub(crate) fn receive(&mut self, now: Now, from: &NodeId, encoded: &Bytes) -> Result<Received, &'static str> {
        let receipt = SignedReceipt::decode(encoded).map_err(|_| "malformed")?;
        let key = receipt.key().clone();
        let ours = self.receipts.get(&key);
        if ours.is_some_and(|ours| receipt.rank() <= ours.rank()) {
            self.knows(from, &receipt);
            return Ok(Received::Known);
        }
        let lost = ours.map(|ours| ours.committed().minus(receipt.committed())).unwrap_or_default();
        let hub_key = self.hub_keys.get(&key.hub).ok_or("its signer is no hub of the topology")?;
        receipt.verify(hub_key).map_err(|_| "not signed by its hub")?;
        let new = ours.map_or_else(|| receipt.committed().clone(), |ours| receipt.committed().minus(ours.committed()));
        self.knows(from, &receipt);
        if key.hub == self.me {
            return Ok(self.own_past(&receipt));
        }
        let origin = (key.origin.clone(), key.epoch);
        self.receipts.insert(key.clone(), receipt.clone());
        self.cover_anew(&origin);
        self.unspread.insert(key);
        if lost.is_empty() {
            self.spread_soon(now);
        } else {
            // Before any of the lost records is offered, so that no neighbor takes it for committed.
            self.spread_at = Some(now);
        }
        Ok(Received::News(Box::new(News { receipt, new, lost })))
    }

    /// The neighbor has this receipt, or a newer one.
    fn knows(&mut self, neighbor: &NodeId, receipt: &SignedReceipt) {
        if let Some(listener) = self.neighbors.get_mut(neighbor) {
            listener.knows(receipt.key().clone(), receipt.rank());
        }
    }

    /// A neighbor returns what this hub once signed, and has forgotten: its archive is not the newest that it had. Its
    /// next word is to be newer than that, and to take back what is not here.
    fn own_past(&self, receipt: &SignedReceipt) -> Received {
        let key = receipt.key().clone();
        let lost = match self.committed.get(&(key.origin.clone(), key.epoch)) {
            Some(committed) => receipt.committed().minus(committed),
            None => receipt.committed().clone(),
        };
        let losses = receipt.rank().losses.saturating_add(u32::from(!lost.is_empty()));
        Received::OwnPast { key, lost, losses }
    }

    /// Asks for the receipt to be made durable; only then may the records go (they could not be told from captures
    /// that never were, if a crash took the receipt and left the hole), and only then are others recalled: an earlier
    /// receipt that releases them may be on its way to the disk.
    pub(crate) fn keep(
        &mut self,
        receipt: SignedReceipt,
        releases: Vec<RecordId>,
        recalls: SeqRanges,
        outputs: &mut VecDeque<CustodyOutput>,
    ) {
        self.keeping.push_back(Keeping { key: receipt.key().clone(), releases, recalls });
        outputs.push_back(CustodyOutput::KeepReceipt(receipt));
    }

    /// A record became durable here after a receipt for it had come: it may go, if the receipt is durable, or else
    /// with it.
    pub(crate) fn release_late(&mut self, id: RecordId, outputs: &mut VecDeque<CustodyOutput>) {
        let covers = |key: &ReceiptKey| key.origin == id.origin && key.epoch == id.epoch;
        match self.keeping.iter_mut().rfind(|keeping| covers(&keeping.key)) {
            Some(keeping) => keeping.releases.push(id),
            None => outputs.push_back(CustodyOutput::Release(vec![id])),
        }
    }

    pub(crate) fn kept(&mut self, key: &Durable<ReceiptKey>, outputs: &mut VecDeque<CustodyOutput>) {
        let Some(oldest) = self.keeping.pop_front() else { return };
        assert_eq!(&oldest.key, key.get(), "the store syncs in the order it was asked");
        if !oldest.releases.is_empty() {
            outputs.push_back(CustodyOutput::Release(oldest.releases));
        }
        if !oldest.recalls.is_empty() {
            let ReceiptKey { origin, epoch, .. } = oldest.key;
            outputs.push_back(CustodyOutput::Recall { origin, epoch, seqs: oldest.recalls });
        }
    }

    fn spread_soon(&mut self, now: Now) {
        self.spread_at.get_or_insert(self.next_spread.max(now));
    }

    /// How long the link to a neighbor takes for 64 KiB.
    pub(crate) fn set_record_time(&mut self, neighbor: &NodeId, record_time: Duration) {
        if let Some(listener) = self.neighbors.get_mut(neighbor) {
            listener.set_record_time(record_time);
        }
    }

    /// So many records of a neighbor are durable here.
    pub(crate) fn has_handed_over(&mut self, neighbor: &NodeId, records: usize) {
        if let Some(listener) = self.neighbors.get_mut(neighbor) {
            listener.has_handed_over(records);
        }
    }

    pub(crate) fn poll_timeout(&self) -> Option<Now> {
        self.neighbors.values().filter_map(Listener::due).chain(self.spread_at).min()
    }

    /// Signs what is new and sends it, when it is time.
    pub(crate) fn spread(&mut self, now: Now, outputs: &mut VecDeque<CustodyOutput>) {
        if self.spread_at.is_some_and(|at| at <= now) {
            self.spread_at = None;
            self.sign();
            self.next_spread = now + PAUSE_PER_RECEIPT * u32::try_from(self.unspread.len()).unwrap_or(u32::MAX);
            for key in std::mem::take(&mut self.unspread) {
                self.neighbors.values_mut().for_each(|listener| listener.is_behind(key.clone()));
            }
        }
        for (neighbor, listener) in &mut self.neighbors {
            let receipts = listener.news(now, &self.receipts);
            if !receipts.is_empty() {
                outputs.push_back(CustodyOutput::Send { to: neighbor.clone(), frame: Frame::Receipts(receipts) });
            }
        }
    }

    /// At a hub: one signature for all that was committed of an origin since the last time, or taken back.
    pub(crate) fn sign(&mut self) {
        let Some(signing_key) = self.signing_key.as_ref().filter(|_| self.promises) else { return };
        let (later, now): (BTreeSet<_>, BTreeSet<_>) =
            std::mem::take(&mut self.unsigned).into_iter().partition(|origin| self.losses.is_being_noted(origin));
        self.unsigned = later;
        for origin in now {
            let committed = self.committed.get(&origin).cloned().unwrap_or_default();
            let losses = self.losses.count(&origin);
            let key = ReceiptKey { hub: self.me.clone(), origin: origin.0, epoch: origin.1 };
            let receipt = SignedReceipt::sign(key.clone(), losses, committed, signing_key);
            self.receipts.insert(key.clone(), receipt);
            self.unspread.insert(key);
        }
    }
}
