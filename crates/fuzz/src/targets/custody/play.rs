//! One play: the machine, its neighbors, its disk and its clock.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::iter;
use std::time::Duration;

use arbitrary::{Result, Unstructured};
use bytes::Bytes;
use estafet_custody::{
    Custody, CustodyConfig, CustodyOutput, HeldRecord, Losses, Piece, RECEIPT_PATIENCE, RecordState, Recovered,
    RecoveredTransfer, StorePayload, StoreRecord, TransferId,
};
use estafet_model::{
    ByteCount, ChunkHash, Class, Durable, Epoch, HeaderDigest, Kind, MediaType, NodeId, Now, PayloadHash, ReceiptKey,
    ReceiptRank, RecordHeader, RecordId, Seq, SeqRanges, SetDigest, SignedHeader, SignedReceipt, UnixMillis,
    chunk_count, sign_batch,
};
use estafet_wire::{Answer, Frame, Holding, NeverReason, Offer, PieceHead, ReceiptVersion, RecordSet, Verdict};

use super::duty::Duty;
use crate::cast::{HUBS, ME, OFFICE, SEQS, Sample, key, node, public, samples};

/// Who may have a session with this node. The last is a hub.
const NEIGHBORS: [&str; 4] = [OFFICE, "senapelan", "lima-puluh", HUBS[0]];

/// What one neighbor may be handed without an answer (ARCHITECTURE.md, "Bounds").
const WINDOW_RECORDS: usize = 4096;
const WINDOW_BYTES: u64 = 16 << 20;

/// What one neighbor may be asked about at once.
const SETS_MAX: usize = 16;

/// However long neighbors asked to wait, and whatever they refused: by then every record is on its way again.
const PATIENCE: Duration = Duration::from_secs(2 * 3600);

/// The largest captures, of which no byte is needed here: they fill the windows.
const LARGE_BYTES: u32 = 7 << 20;

/// A payload on its way to the disk.
#[derive(Default)]
struct Transfer {
    /// Noted on the disk, so that it is found again: the header, and the hashes of all chunks.
    begun: Option<(SignedHeader, Vec<ChunkHash>)>,
    chunks: u32,
}

type Committed = BTreeMap<(NodeId, Epoch), SeqRanges>;

/// See the module.
pub(super) struct Play {
    custody: Custody,
    hub: bool,
    me: NodeId,
    now: Now,
    duty: Duty,
    next_own: u32,
    /// What the disk has been asked for and not yet done.
    storing: VecDeque<StoreRecord>,
    keeping: VecDeque<SignedReceipt>,
    comparing: VecDeque<(RecordId, HeaderDigest, NodeId)>,
    noting: VecDeque<((NodeId, Epoch), Losses)>,
    recalling: VecDeque<Committed>,
    transfers: BTreeMap<TransferId, Transfer>,
    /// A hub's losses that are on the disk, and the newest word that it has given.
    losses: BTreeMap<(NodeId, Epoch), Losses>,
    words: BTreeMap<ReceiptKey, ReceiptRank>,
    /// What a hub had committed and cannot read.
    taken_back: BTreeSet<RecordId>,
    /// What the disk has.
    records: BTreeMap<RecordId, HeldRecord>,
    /// Own captures that somebody may have got, from this life or the one before.
    handed: BTreeSet<RecordId>,
    next_transfer: u64,
    up: BTreeSet<NodeId>,
    /// What each neighbor was last asked about, whether it has answered or not.
    asked: BTreeMap<NodeId, RecordSet>,
}

impl Play {
    pub(super) fn begin(hub: bool) -> Self {
        let me = node(if hub { HUBS[0] } else { ME });
        let custody = Custody::new(config(&me, hub, 0), Recovered::default());
        Self {
            custody,
            hub,
            me,
            now: Now::default(),
            duty: Duty::default(),
            next_own: 1,
            storing: VecDeque::new(),
            keeping: VecDeque::new(),
            comparing: VecDeque::new(),
            noting: VecDeque::new(),
            recalling: VecDeque::new(),
            losses: BTreeMap::new(),
            words: BTreeMap::new(),
            taken_back: BTreeSet::new(),
            transfers: BTreeMap::new(),
            records: BTreeMap::new(),
            handed: BTreeSet::new(),
            next_transfer: 0,
            up: BTreeSet::new(),
            asked: BTreeMap::new(),
        }
    }

    /// One input to the machine.
    pub(super) fn step(&mut self, bytes: &mut Unstructured<'_>) -> Result<()> {
        let from = node(bytes.choose(&NEIGHBORS)?);
        match bytes.int_in_range(0..=26u8)? {
            0 => self.neighbor_up(&from),
            1 => self.neighbor_down(&from),
            2 => {
                let hops = [bytes.choose(&NEIGHBORS)?, bytes.choose(&NEIGHBORS)?].map(|name| node(name));
                self.custody.set_downhill(&hops);
                self.custody.set_next_hops(self.now, &hops);
            }
            3 => self.custody.set_room(ByteCount(*bytes.choose(&[0, 1 << 10, 1 << 20, u64::MAX])?)),
            4 | 5 => {
                let offers = some(bytes, offer)?;
                self.custody.offers(&from, offers, self.now);
            }
            6..=8 => {
                let piece = piece(bytes)?;
                self.custody.piece(self.now, &from, piece);
            }
            9 => self.capture(bytes)?,
            10 | 11 => self.sync(bytes.int_in_range(1..=4)?),
            12 => self.fail_to_store(),
            13 | 14 => {
                let answers = some(bytes, answer)?;
                self.custody.answers(self.now, &from, answers);
            }
            15 => {
                let ids = some(bytes, any_id)?;
                self.custody.acceptances(self.now, &from, &ids);
            }
            16 => {
                let versions = some(bytes, version)?;
                self.custody.receipt_summary(&from, versions);
            }
            17 => self.receipts(&from, bytes)?,
            18 => {
                let id = any_id(bytes)?;
                let held = if self.hub { self.is_committed(&id) } else { self.duty.is_held(&id) };
                if held {
                    self.duty.lose(id.clone());
                    self.taken_back.extend(Some(id.clone()).filter(|_| self.hub));
                }
                match self.records.get(&id).filter(|_| self.hub) {
                    Some(record) => self.custody.committed_unreadable(self.now, record.clone()),
                    None => self.custody.unreadable(self.now, &id),
                }
            }
            19 => self.pass_time(Duration::from_millis(bytes.int_in_range(0..=100_000)?)),
            20 => self.restart(bytes)?,
            21 => {
                let ids = some(bytes, any_id)?;
                match bytes.arbitrary()? {
                    true => self.custody.sought(self.now, &from, &ids),
                    false => self.custody.withdrawn(self.now, &from, &ids),
                }
            }
            22 => drop(self.custody.retry(self.now, None)),
            23 => {
                let sets = some(bytes, set)?;
                self.custody.inventory(self.now, &from, &sets);
            }
            24 | 25 => self.hold(&from, bytes)?,
            _ => self.send_on(&from, bytes)?,
        }
        self.take_outputs();
        Ok(())
    }

    /// A good neighbor offers a record and sends pieces of it in order, as long as the line holds.
    fn send_on(&mut self, from: &NodeId, bytes: &mut Unstructured<'_>) -> Result<()> {
        let sample = bytes.choose(samples())?;
        self.custody.offers(from, vec![offer_of(sample)], self.now);
        let wanted = |outputs: &[CustodyOutput]| outputs.iter().find_map(|output| first_wanted(output, sample.id()));
        let outputs: Vec<CustodyOutput> = iter::from_fn(|| self.custody.poll_output()).collect();
        let first = wanted(&outputs);
        outputs.into_iter().for_each(|output| self.take_output(output));
        let Some(first) = first else { return Ok(()) };
        assert!((first as usize) < sample.hashes.len(), "{} is wanted, and nothing of it", sample.id());
        let end = bytes.int_in_range(first as usize..=sample.hashes.len())?;
        // Who goes on has said the beginning once more.
        for index in iter::once(0).filter(|_| first > 0).chain(first as usize..end) {
            self.custody.piece(self.now, from, piece_of(sample, index));
        }
        Ok(())
    }

    /// A neighbor answers what it was last asked, or anything else.
    fn hold(&mut self, from: &NodeId, bytes: &mut Unstructured<'_>) -> Result<()> {
        let asked = self.asked.get(from).cloned().filter(|_| !bytes.is_empty());
        let question = match asked {
            Some(set) => set,
            None => set(bytes)?,
        };
        let kept: u8 = bytes.arbitrary()?;
        let set = question.of_which(|seq| kept >> (seq.get() % 8) & 1 == 1);
        let held = |id: RecordId| Some((id.seq, self.records.get(&id)?.digest));
        let honest = SetDigest::of(set.ids().filter_map(held));
        let is_honest = bytes.ratio(3, 4)?;
        let digest = if is_honest { honest } else { SetDigest([7; 32]) };
        let accepted = |custody: &Custody| -> BTreeSet<RecordId> {
            let accepted = RecordState::Accepted { by: from.clone() };
            custody.records().filter(|view| view.state == accepted).map(|view| view.id).collect()
        };
        let before = accepted(&self.custody);
        let said: BTreeSet<RecordId> = set.ids().collect();
        self.custody.neighbor_holdings(self.now, from, &[Holding { set, digest }]);
        let new: BTreeSet<RecordId> = accepted(&self.custody).difference(&before).cloned().collect();
        assert!(new.is_subset(&said), "{from} has accepted {new:?} and speaks of {said:?}");
        assert!(new.is_empty() || is_honest, "{from} has accepted {new:?}, which are not the same there");
        Ok(())
    }

    fn neighbor_up(&mut self, neighbor: &NodeId) {
        self.up.insert(neighbor.clone());
        self.custody.neighbor_up(neighbor);
    }

    fn neighbor_down(&mut self, neighbor: &NodeId) {
        self.up.remove(neighbor);
        self.custody.neighbor_down(self.now, neighbor);
    }

    fn pass_time(&mut self, time: Duration) {
        self.now = self.now + time;
        self.custody.handle_timeout(self.now);
    }

    fn capture(&mut self, bytes: &mut Unstructured<'_>) -> Result<()> {
        let payload_bytes = *bytes.choose(&[0, 4 << 10, 20 << 10, LARGE_BYTES])?;
        let header = RecordHeader {
            id: format!("{}.2.{}", self.me, self.next_own).parse().expect("an id"),
            class: *bytes.choose(&Class::ALL)?,
            kind: Kind::default(),
            media_type: MediaType::default(),
            payload_bytes,
            payload_hash: PayloadHash::from_bytes([0; 32]),
            captured_at: UnixMillis(0),
        };
        self.next_own += 1;
        let signed = sign_batch(vec![header], &key(self.me.as_str())).remove(0);
        // The payload is the counter's and the disk's business; custody passes on what it is given.
        self.custody.capture(signed, None, StorePayload::Inline(Bytes::new()));
        Ok(())
    }

    /// The disk has synced some records, and receipts.
    fn sync(&mut self, count: usize) {
        let synced: Vec<StoreRecord> = self.storing.drain(..count.min(self.storing.len())).collect();
        let held: Vec<Durable<HeldRecord>> =
            synced.iter().map(|record| Durable::after_sync(self.write(record))).collect();
        if !held.is_empty() {
            self.custody.stored(self.now, held);
        }
        if let Some(receipt) = self.keeping.pop_front() {
            let key = receipt.key().clone();
            self.duty.keep(receipt);
            self.custody.receipt_kept(&Durable::after_sync(key));
        }
        if let Some((origin, losses)) = self.noting.pop_front() {
            self.losses.insert(origin, losses);
            self.custody.losses_kept(self.now);
        }
        self.recall();
        if let Some((id, digest, from)) = self.comparing.pop_front() {
            let same = self.records.get(&id).is_some_and(|record| record.digest == digest);
            self.custody.compared(id, &from, same);
        }
    }

    /// The disk gives back nothing for good here, so all that was released is found.
    fn recall(&mut self) {
        for (origin, seqs) in self.recalling.pop_front().into_iter().flatten() {
            let ids = seqs.iter().map(|seq| RecordId { origin: origin.0.clone(), epoch: origin.1, seq });
            let found: Vec<RecordId> = ids.filter(|id| self.duty.recall(id)).collect();
            let found = found.iter().map(|id| Durable::after_sync(self.records[id].clone()));
            self.custody.recalled(self.now, found.collect());
        }
    }

    /// At a hub.
    fn is_committed(&self, id: &RecordId) -> bool {
        self.duty.ever_stored().contains(id) && !self.taken_back.contains(id)
    }

    fn write(&mut self, record: &StoreRecord) -> HeldRecord {
        let header = record.header.header();
        let held = HeldRecord {
            id: header.id.clone(),
            class: header.class,
            payload_bytes: header.payload_bytes,
            payload_hash: header.payload_hash,
            digest: header.digest(),
            received_from: record.received_from.clone(),
            stored_at: UnixMillis(0),
        };
        // The chunks are the record's from now on.
        if let StorePayload::Transfer(transfer) = &record.payload {
            self.transfers.remove(transfer);
        }
        self.taken_back.remove(&held.id);
        self.duty.store(held.id.clone());
        self.records.insert(held.id.clone(), held.clone());
        held
    }

    fn fail_to_store(&mut self) {
        if let Some(record) = self.storing.pop_front() {
            self.custody.store_failed(&record.header.header().id);
        }
    }

    fn receipts(&mut self, from: &NodeId, bytes: &mut Unstructured<'_>) -> Result<()> {
        let receipts = some(bytes, |bytes| self.receipt(bytes))?;
        let hubs: Vec<NodeId> = HUBS.map(node).into_iter().filter(|hub| *hub != self.me).collect();
        for encoded in &receipts {
            let Ok(receipt) = SignedReceipt::decode(encoded) else { continue };
            let hub = &receipt.key().hub;
            if hubs.contains(hub) && receipt.verify(&public(hub.as_str())).is_ok() {
                self.duty.receive(receipt);
            }
        }
        self.custody.receipts(self.now, from, &receipts);
        Ok(())
    }

    fn receipt(&self, bytes: &mut Unstructured<'_>) -> Result<Bytes> {
        let hub = *bytes.choose(&[HUBS[0], HUBS[1], OFFICE])?;
        let signer = if bytes.ratio(1, 16)? { "nobody" } else { hub };
        let (origin, epoch) = *bytes.choose(&[(OFFICE, 1), (self.me.as_str(), 2), (ME, 1), ("siak", 1)])?;
        let mask: u16 = bytes.arbitrary()?;
        let committed = (1..=16).filter(|bit| mask >> (bit - 1) & 1 == 1).filter_map(Seq::new).collect();
        let epoch = Epoch::new(epoch).expect("an epoch");
        let losses = bytes.int_in_range(0..=3)?;
        let receipt_key = ReceiptKey { hub: node(hub), origin: node(origin), epoch };
        let receipt = SignedReceipt::sign(receipt_key, losses, committed, &key(signer));
        let encoded = receipt.encode();
        let length = if bytes.ratio(1, 16)? { bytes.choose_index(encoded.len())? } else { encoded.len() };
        Ok(encoded.slice(..length))
    }

    /// The process ends, and begins anew with what is on the disk: what was being written may be there or not.
    fn restart(&mut self, bytes: &mut Unstructured<'_>) -> Result<()> {
        let written = bytes.choose_index(self.storing.len() + 1)?;
        for record in self.storing.drain(..).take(written).collect::<Vec<_>>() {
            self.write(&record);
        }
        let mut kept = Vec::new();
        for (transfer, Transfer { begun, chunks }) in std::mem::take(&mut self.transfers) {
            let Some((header, hashes)) = begun else { continue };
            let arrived = bytes.int_in_range(0..=chunks)?;
            // The store forgets a transfer when its record is there.
            if !self.duty.stored().contains(&header.header().id) {
                kept.push(RecoveredTransfer { transfer, header, chunks: hashes, arrived });
            }
        }
        self.start(kept);
        Ok(())
    }

    fn start(&mut self, kept: Vec<RecoveredTransfer>) {
        self.storing.clear();
        self.keeping.clear();
        self.comparing.clear();
        self.noting.clear();
        self.recalling.clear();
        let begun = |found: &RecoveredTransfer| {
            let transfer =
                Transfer { begun: Some((found.header.clone(), found.chunks.clone())), chunks: found.arrived };
            (found.transfer, transfer)
        };
        self.transfers = kept.iter().map(begun).collect();
        self.up.clear();
        self.asked.clear();
        self.duty.restart();
        self.next_transfer += 1000;
        let stored = if self.hub { BTreeSet::new() } else { self.duty.stored().clone() };
        let mut committed = Committed::new();
        for id in self.duty.ever_stored().iter().filter(|id| self.hub && self.is_committed(id)) {
            committed.entry((id.origin.clone(), id.epoch)).or_default().insert(id.seq);
        }
        self.handed.extend(stored.iter().cloned());
        let of_hub = if self.hub { self.duty.lost().clone() } else { BTreeSet::new() };
        let (damaged, whole): (Vec<_>, Vec<_>) = of_hub
            .union(&stored)
            .map(|id| self.records[id].clone())
            .partition(|record| self.duty.lost().contains(&record.id));
        let mut conflicts: BTreeMap<Epoch, SeqRanges> = BTreeMap::new();
        for id in self.duty.conflicts() {
            conflicts.entry(id.epoch).or_default().insert(id.seq);
        }
        let recovered = Recovered {
            records: whole.into_iter().map(Durable::after_sync).collect(),
            conflicts,
            damaged,
            receipts: self.duty.kept().cloned().collect(),
            committed,
            losses: self.losses.clone(),
            transfers: kept,
        };
        self.custody = Custody::new(config(&self.me, self.hub, self.next_transfer), recovered);
        self.now = Now::default();
        self.take_outputs();
    }

    /// Does what the machine asks, and looks whether it may.
    fn take_outputs(&mut self) {
        while let Some(output) = self.custody.poll_output() {
            self.take_output(output);
        }
    }

    fn take_output(&mut self, output: CustodyOutput) {
        {
            match output {
                CustodyOutput::Send { to, frame } => self.check_frame(&to, frame),
                CustodyOutput::Carry { to, id, class, chunks, first_chunk: _ } => {
                    assert!(self.duty.is_held(&id), "{id} is sent and not held");
                    self.handed.insert(id.clone());
                    let record = &self.records[&id];
                    assert_eq!((record.class, chunk_count(record.payload_bytes)), (class, chunks));
                    assert_ne!(to, self.me, "nobody sends to itself");
                }
                CustodyOutput::Store(record) => self.check_store(*record),
                CustodyOutput::BeginTransfer { transfer, header, chunks } => {
                    let begun = Some((*header, chunks));
                    let before = self.transfers.insert(transfer, Transfer { begun, chunks: 0 });
                    assert!(before.is_none(), "a transfer begins once");
                }
                CustodyOutput::StoreChunk { transfer, index, data, hash: _ } => {
                    let transfer = self.transfers.entry(transfer).or_default();
                    assert_eq!(transfer.chunks, index, "chunks come in order");
                    assert!(!data.is_empty(), "only whole payloads of one chunk are empty");
                    transfer.chunks += 1;
                }
                CustodyOutput::AbortTransfer(transfer) => {
                    self.transfers.remove(&transfer);
                }
                CustodyOutput::KeepReceipt(receipt) => {
                    let hub = receipt.key().hub.as_str();
                    assert_eq!(receipt.verify(&public(hub)), Ok(()), "only what is signed is kept");
                    self.keeping.push_back(receipt);
                }
                CustodyOutput::KeepConflicts { epoch, seqs } => {
                    for seq in seqs.iter() {
                        let id = RecordId { origin: self.me.clone(), epoch, seq };
                        if self.duty.conflicts().contains(&id) {
                            continue;
                        }
                        let captured = self.records.get(&id).is_some_and(|record| record.received_from.is_none());
                        assert!(captured && !self.handed.contains(&id), "{id} may well be what the receipt is for");
                        self.duty.conflict(id);
                    }
                }
                CustodyOutput::Release(ids) => {
                    for id in ids {
                        let captured = id.origin == self.me && self.records[&id].received_from.is_none();
                        // What cannot be read is gone, whomever the receipt is for.
                        let elsewhere = self.handed.contains(&id) || self.duty.lost().contains(&id);
                        assert!(!captured || elsewhere, "{id} goes, and nobody else ever got it");
                        self.duty.release(&id);
                    }
                }
                CustodyOutput::KeepLosses { origin, epoch, losses } => {
                    let origin = (origin, epoch);
                    let noted = self.noting.iter().rfind(|(noted, _)| *noted == origin).map(|(_, losses)| losses);
                    let before = noted.or_else(|| self.losses.get(&origin)).map_or(0, |losses| losses.count);
                    assert!(losses.count > before, "each loss is told");
                    self.noting.push_back((origin, losses));
                }
                CustodyOutput::Recall { origin, epoch, seqs } => {
                    assert_eq!(origin, self.me, "only own captures are recalled");
                    self.recalling.push_back(Committed::from([((origin, epoch), seqs)]));
                }
                CustodyOutput::Compare { id, digest, from } => self.comparing.push_back((id, digest, from)),
                CustodyOutput::Event(_) => {}
            }
        }
    }

    /// Every promise comes from the disk.
    fn check_frame(&mut self, to: &NodeId, frame: Frame) {
        self.check_sets(to, &frame);
        if let Frame::Offers(offers) = &frame {
            self.handed.extend(offers.iter().map(|offer| offer.id.clone()));
        }
        if let Frame::Inventory(sets) = &frame {
            self.asked.extend(sets.last().map(|set| (to.clone(), set.clone())));
        }
        if let Frame::Receipts(receipts) = &frame {
            receipts.iter().for_each(|encoded| self.check_receipt(encoded));
        }
        let durable = |id: &RecordId| self.duty.ever_stored().contains(id);
        let here = |id: &RecordId| if self.hub { self.is_committed(id) } else { self.duty.is_held(id) };
        for part in frame.split() {
            let _fits = part.encode();
            match part {
                Frame::Acceptances(ids) => {
                    ids.iter().for_each(|id| assert!(durable(id), "{id} is accepted and was never durable"));
                }
                Frame::Answers(answers) => {
                    for Answer { id, verdict } in answers {
                        let have = verdict == Verdict::Have;
                        assert!(!have || here(&id) || self.duty.is_covered(&id), "{id} is not here");
                    }
                }
                Frame::Offers(offers) => {
                    offers.iter().for_each(|offer| assert!(self.duty.is_held(&offer.id), "{offer:?}"));
                }
                Frame::Seek(ids) => {
                    ids.iter().for_each(|id| assert!(self.duty.lost().contains(id), "{id} is sought and not lost"));
                }
                Frame::ReceiptSummary(_) => assert!(self.up.contains(to), "sums are for neighbors"),
                _ => {}
            }
        }
    }

    /// What is asked about is held and may be elsewhere, and what is said to be here is here.
    fn check_sets(&self, to: &NodeId, frame: &Frame) {
        match frame {
            Frame::Inventory(sets) => {
                assert!(sets.len() <= SETS_MAX, "{to} is asked about {} sets", sets.len());
                for id in sets.iter().flat_map(RecordSet::ids) {
                    assert!(self.duty.is_held(&id), "{id} is asked about and not held");
                    let captured = self.records[&id].received_from.is_none();
                    assert!(!captured || self.handed.contains(&id), "{id} was never handed to anybody");
                }
            }
            Frame::Holdings(holdings) => {
                for Holding { set, digest } in holdings {
                    let missing = set.ids().find(|id| self.hub || !self.duty.is_held(id));
                    assert_eq!(missing, None, "it is not here");
                    let records = set.ids().map(|id| (id.seq, self.records[&id].digest));
                    assert_eq!(*digest, SetDigest::of(records), "they are other records");
                    let conflict = set.ids().find(|id| self.duty.conflicts().contains(id));
                    assert_eq!(conflict, None, "nobody may count on it");
                }
            }
            _ => {}
        }
    }

    fn check_receipt(&mut self, encoded: &Bytes) {
        let receipt = SignedReceipt::decode(encoded).expect("it sends what can be read");
        let hub = receipt.key().hub.clone();
        assert_eq!(receipt.verify(&public(hub.as_str())), Ok(()), "it passes on what is signed");
        if hub == self.me {
            let ReceiptKey { origin, epoch, .. } = receipt.key().clone();
            let noted = self.losses.get(&(origin.clone(), epoch)).map_or(0, |losses| losses.count);
            assert_eq!(receipt.rank().losses, noted, "what it says of its losses is on its disk");
            let before = self.words.insert(receipt.key().clone(), receipt.rank()).unwrap_or_default();
            assert!(before <= receipt.rank(), "its word only gets newer");
            for seq in receipt.committed().iter() {
                let id = RecordId { origin: origin.clone(), epoch, seq };
                assert!(self.is_committed(&id), "{id} is receipted and is not here");
            }
        }
    }

    fn check_store(&mut self, record: StoreRecord) {
        let header = record.header.header();
        let origin = public(header.id.origin.as_str());
        assert_eq!(record.header.verify(&origin, &mut None), Ok(()), "only what its origin signed is stored");
        assert!(
            !self.storing.iter().any(|other| other.header.header().id == header.id),
            "{} is stored once",
            header.id
        );
        if record.received_from.is_some() {
            match &record.payload {
                StorePayload::Inline(payload) => assert_eq!(PayloadHash::of(payload), header.payload_hash),
                StorePayload::Transfer(transfer) => {
                    let chunks = self.transfers.get(transfer).map(|transfer| transfer.chunks);
                    assert_eq!(chunks, Some(chunk_count(header.payload_bytes)), "no chunk is missing");
                }
            }
        }
        self.storing.push_back(record);
    }

    /// What holds at any time.
    pub(super) fn check(&self) {
        let held: BTreeSet<RecordId> = self.custody.records().map(|view| view.id.clone()).collect();
        let owed = if self.hub { BTreeSet::new() } else { self.duty.held() };
        assert_eq!(held, owed, "what was stored and not receipted is held, and nothing else");
        assert_eq!(self.custody.held_count(), held.len() as u64);
        let own = held.iter().filter(|id| id.origin == self.me).count() as u64;
        assert_eq!(self.custody.transit_count() + own, self.custody.held_count());
        let own_of_epoch =
            |epoch| held.iter().filter(move |id| id.origin == self.me && id.epoch == epoch).map(|id| id.seq);
        for epoch in [1, 2].into_iter().filter_map(Epoch::new) {
            assert_eq!(self.custody.own_held(epoch), own_of_epoch(epoch).collect(), "own captures are counted");
        }
        if self.hub {
            let committed = self.duty.ever_stored().iter().filter(|id| self.is_committed(id)).count();
            assert_eq!(self.custody.committed_count(), committed as u64);
        }
        self.check_windows();
        let due = self.custody.poll_timeout();
        assert!(due.is_none_or(|(at, why)| at >= self.now || !why.is_empty()), "a timer says why");
    }

    fn check_windows(&self) {
        let mut windows: BTreeMap<NodeId, (usize, u64)> = BTreeMap::new();
        for view in self.custody.records() {
            let RecordState::Offered { to } = view.state else { continue };
            let (records, bytes) = windows.entry(to).or_default();
            *records += 1;
            *bytes += u64::from(view.payload_bytes);
        }
        for (neighbor, (records, bytes)) in windows {
            let bounded = records <= WINDOW_RECORDS && bytes <= WINDOW_BYTES;
            assert!(records == 1 || bounded, "{neighbor} has been handed {records} records, {bytes} bytes");
            assert!(self.custody.awaits_answer(&neighbor), "{neighbor} owes an answer");
        }
    }

    /// The disk does what it was asked, the hub comes and is honest: every record must get there.
    pub(super) fn heal(&mut self) {
        while !self.is_idle() {
            self.sync(16);
            self.take_outputs();
        }
        for neighbor in NEIGHBORS.map(node) {
            self.neighbor_down(&neighbor);
        }
        self.take_outputs();
        self.pass_time(PATIENCE);
        self.check();
        if !self.hub {
            self.hand_all_to_the_hub();
        }
        self.take_in_the_largest();
    }

    /// The disk has done all that it was asked.
    fn is_idle(&self) -> bool {
        self.storing.is_empty()
            && self.keeping.is_empty()
            && self.comparing.is_empty()
            && self.noting.is_empty()
            && self.recalling.is_empty()
    }

    fn hand_all_to_the_hub(&mut self) {
        let hub = node(HUBS[0]);
        self.neighbor_up(&hub);
        self.custody.receipts(self.now, &hub, &[]);
        self.custody.set_next_hops(self.now, std::slice::from_ref(&hub));
        // Each round trip takes at least one record.
        for _ in 0..=2 * self.custody.held_count() {
            let outputs: Vec<CustodyOutput> = iter::from_fn(|| self.custody.poll_output()).collect();
            for output in outputs {
                match output {
                    CustodyOutput::Send { to, frame: Frame::Offers(offers) } if to == hub => {
                        let want = |offer: Offer| Answer { id: offer.id, verdict: Verdict::Want { first_chunk: 0 } };
                        self.custody.answers(self.now, &hub, offers.into_iter().map(want).collect());
                    }
                    CustodyOutput::Carry { to, id, .. } if to == hub => self.custody.acceptances(self.now, &hub, &[id]),
                    _ => {}
                }
            }
        }
        for view in self.custody.records() {
            let accepted = view.state == RecordState::Accepted { by: hub.clone() };
            assert!(accepted || self.duty.conflicts().contains(&view.id), "it does not get to the hub: {view:?}");
        }
    }

    /// Nothing that neighbors left unfinished takes away from what may be asked of others.
    fn take_in_the_largest(&mut self) {
        let neighbor = node(NEIGHBORS[1]);
        self.neighbor_up(&neighbor);
        self.custody.set_room(ByteCount(u64::MAX));
        let offer = |seq: u32| Offer {
            for_hub: None,
            id: format!("{OFFICE}.9.{seq}").parse().expect("an id"),
            class: Class::Bulk,
            payload_bytes: 16 << 20,
            digest: HeaderDigest([9; 32]),
        };
        self.custody.offers(&neighbor, vec![offer(1), offer(2), offer(3)], self.now);
        let mut wanted = 0;
        while let Some(output) = self.custody.poll_output() {
            if let CustodyOutput::Send { to, frame: Frame::Answers(answers) } = output
                && to == neighbor
            {
                wanted += answers.iter().filter(|answer| matches!(answer.verdict, Verdict::Want { .. })).count();
            }
        }
        assert_eq!(wanted, 1, "one may be on its way, no less and no more");
    }
}

fn config(me: &NodeId, hub: bool, first_transfer: u64) -> CustodyConfig {
    let public = |name: &str| (node(name), public(name));
    CustodyConfig {
        me: me.clone(),
        hub_key: hub.then(|| key(me.as_str())),
        origins: [ME, OFFICE, "senapelan", HUBS[0]].map(|name| (node(name), vec![self::public(name)])).into(),
        hubs: HUBS.map(public).into(),
        copies: 1,
        first_transfer,
        receipt_patience: RECEIPT_PATIENCE,
        promises: true,
    }
}

/// None to three of something.
fn some<T>(bytes: &mut Unstructured<'_>, mut one: impl FnMut(&mut Unstructured<'_>) -> Result<T>) -> Result<Vec<T>> {
    (0..bytes.int_in_range(0..=3u8)?).map(|_| one(bytes)).collect()
}

/// A record of the cast, a capture of this node, or one of somebody unknown.
fn any_id(bytes: &mut Unstructured<'_>) -> Result<RecordId> {
    let seq = bytes.int_in_range(1..=SEQS)?;
    let (origin, epoch) = *bytes.choose(&[(OFFICE, 1), (ME, 1), (ME, 2), (HUBS[0], 2), ("siak", 1)])?;
    Ok(format!("{origin}.{epoch}.{seq}").parse().expect("an id"))
}

fn offer(bytes: &mut Unstructured<'_>) -> Result<Offer> {
    let good = offer_of(bytes.choose(samples())?);
    // What an offer says of the length is believed only as far as the budget goes.
    let payload_bytes = if bytes.ratio(1, 4)? { bytes.int_in_range(0..=16 << 20)? } else { good.payload_bytes };
    Ok(Offer { payload_bytes, ..good })
}

fn offer_of(sample: &Sample) -> Offer {
    let header = sample.signed.header();
    let (id, digest) = (header.id.clone(), header.digest());
    Offer { id, class: header.class, payload_bytes: header.payload_bytes, digest, for_hub: None }
}

/// The chunk from which on a record is wanted, if this answer says so.
fn first_wanted(output: &CustodyOutput, id: &RecordId) -> Option<u32> {
    let CustodyOutput::Send { frame: Frame::Answers(answers), .. } = output else { return None };
    answers.iter().find_map(|answer| match answer.verdict {
        Verdict::Want { first_chunk } if answer.id == *id => Some(first_chunk),
        _ => None,
    })
}

/// Piece number `index` of the sample, as it should be.
fn piece_of(sample: &Sample, index: usize) -> Piece {
    let chunks = u32::try_from(sample.hashes.len()).expect("few chunks");
    let head = PieceHead {
        signed_header: (index == 0).then(|| sample.signed.encode()),
        id: sample.id().clone(),
        index: u32::try_from(index).expect("few chunks"),
        chunks,
        chunk_hashes: if index == 0 && chunks > 1 { sample.hashes.clone() } else { Vec::new() },
    };
    Piece { head, data: sample.chunk(index), hash: sample.hashes[index] }
}

/// A piece of a record, which may be damaged in any way that the wire lets through.
fn piece(bytes: &mut Unstructured<'_>) -> Result<Piece> {
    let sample = bytes.choose(samples())?;
    let mut piece = piece_of(sample, bytes.choose_index(sample.hashes.len())?);
    let head = &mut piece.head;
    if bytes.ratio(1, 16)? {
        piece.data = piece.data.slice(..piece.data.len() / 2);
    }
    if bytes.ratio(1, 16)? {
        piece.hash = samples()[0].hashes[0];
    }
    if bytes.ratio(1, 32)? {
        head.id = any_id(bytes)?;
    }
    if head.index == 0 && bytes.ratio(1, 32)? {
        head.signed_header = Some(Bytes::from_static(b"no header"));
    }
    if bytes.ratio(1, 32)? {
        // Another number and count: the wire sees to it that they agree, and that there is a hash for each.
        head.chunks = bytes.int_in_range(2..=12)?;
        head.index = if head.index == 0 { 0 } else { bytes.int_in_range(1..=head.chunks - 1)? };
        head.chunk_hashes = vec![piece.hash; if head.index == 0 { head.chunks as usize } else { 0 }];
    }
    Ok(piece)
}

fn answer(bytes: &mut Unstructured<'_>) -> Result<Answer> {
    let verdict = match bytes.int_in_range(0..=5u8)? {
        0 | 1 => Verdict::Want { first_chunk: bytes.int_in_range(0..=12)? },
        2 => Verdict::Have,
        3 => Verdict::Wait(Duration::from_millis(u64::from(bytes.arbitrary::<u32>()?))),
        4 => Verdict::Full(Duration::from_millis(u64::from(bytes.arbitrary::<u32>()?))),
        _ => Verdict::Never(NeverReason::Conflict),
    };
    Ok(Answer { id: any_id(bytes)?, verdict })
}

/// A question of a neighbor.
fn set(bytes: &mut Unstructured<'_>) -> Result<RecordSet> {
    let RecordId { origin, epoch, .. } = any_id(bytes)?;
    let seqs = (1..=12).filter_map(Seq::new).collect();
    let first = bytes.int_in_range(1..=12)?;
    let set = RecordSet::new(bytes.int_in_range(0..=3)?, origin, epoch, seqs).expect("few numbers");
    Ok(set.of_which(|seq| seq.get() >= first))
}

fn version(bytes: &mut Unstructured<'_>) -> Result<ReceiptVersion> {
    let hub = node(bytes.choose(&[HUBS[0], HUBS[1], OFFICE])?);
    let origin = node(bytes.choose(&[OFFICE, ME])?);
    Ok(ReceiptVersion {
        key: ReceiptKey { hub, origin, epoch: Epoch::new(1).expect("an epoch") },
        rank: ReceiptRank { losses: bytes.int_in_range(0..=3)?, last: bytes.arbitrary()?, ..ReceiptRank::default() },
    })
}
