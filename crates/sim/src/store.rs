//! One node's disk: the real log on a disk in memory, its commits taking virtual time.
//!
//! What is appended waits in a queue, as at the daemon's writer. A round takes what waits; it is written when its sync
//! returns, and told in the same moment. If the power goes in between, the writes and syncs of the round are made up
//! to a point that the seed decides, and then what is unsynced is kept, dropped or torn.
//!
//! The store also knows what it has told: every record and receipt that the node has heard to be durable must be
//! found by each later start, until the node releases it.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use bytes::Bytes;
use estafet_custody::{HeldRecord, Losses, StoreRecord};
use estafet_model::{
    ByteCount, Durable, Epoch, HeaderDigest, NodeId, PayloadHash, ReceiptKey, RecordId, Seq, SeqRanges, SignedReceipt,
    UnixMillis,
};
use estafet_node::{Input, Recovered};
use estafet_spool::{
    Command, Disk, Extent, Fault, Log, MemoryDisk, Outcome, ReadPayload, ReadRecord, Recall, Round, SpoolOptions,
    StoredRecord, Unsynced,
};
use estafet_store::{
    Identity, Settled, held_record, losses, lost_record, receipt_append, receipts, record_append, recovered_transfer,
    stored_record,
};

use crate::seeded::Seeded;

/// Small, so that short runs fill, seal, give back and recycle segments.
const SEGMENT_BYTES: ByteCount = ByteCount(256 << 10);

/// A relay's whole spool. A sixteenth of it is not offered to neighbors or counters, as in the daemon.
const SPOOL_BYTES_MAX: ByteCount = ByteCount::mebibytes(64);

/// What an office keeps of its own released records.
const HOLD_BYTES_MAX: ByteCount = ByteCount::mebibytes(1);

/// What may wait for the disk before pieces of neighbors are left to flow control, as in the daemon.
const APPENDS_MAX: usize = 8192;
const APPEND_BYTES_MAX: usize = 32 << 20;

/// Few, so that short runs need several turns.
const RECALLED_AT_ONCE: usize = 8;

/// A record that the node was told to be durable.
#[derive(Debug, Clone)]
struct Kept {
    record: StoredRecord,
}

/// What a node finds when it starts.
pub(crate) struct Started {
    pub(crate) recovered: Recovered,
    pub(crate) identity: Identity,
}

/// Why a node does not start.
pub(crate) enum NotStarted {
    /// Its disk takes no writes.
    Unwritable,
    /// What it was told to be durable is not there, or the disk is not as it must be.
    Broken(String),
}

/// The disk of a node, and the log on it while the node runs. It outlives the node's process.
#[derive(Debug)]
pub struct Store {
    is_hub: bool,
    disk: MemoryDisk,
    log: Option<Log>,
    queue: VecDeque<Command>,
    queued_bytes: usize,
    round: Option<Round>,
    /// From whom the records come that are being stored.
    senders: BTreeMap<RecordId, NodeId>,
    kept: BTreeMap<RecordId, Kept>,
    /// Committed records of which a bit has rotted, until somebody notices.
    rotten: BTreeMap<RecordId, StoredRecord>,
    /// All of which a bit has ever rotted on this disk: a start may find one whole that somebody had noticed before.
    flipped: BTreeMap<RecordId, StoredRecord>,
    receipts: BTreeMap<ReceiptKey, SignedReceipt>,
    /// Receipts on their way to the disk, in order.
    keeping: VecDeque<SignedReceipt>,
    starts: u64,
}

impl Store {
    pub(crate) fn new(is_hub: bool) -> Self {
        Self {
            is_hub,
            disk: MemoryDisk::new(),
            log: None,
            queue: VecDeque::new(),
            queued_bytes: 0,
            round: None,
            senders: BTreeMap::new(),
            kept: BTreeMap::new(),
            rotten: BTreeMap::new(),
            flipped: BTreeMap::new(),
            receipts: BTreeMap::new(),
            keeping: VecDeque::new(),
            starts: 0,
        }
    }

    fn options(&self) -> SpoolOptions {
        SpoolOptions {
            segment_bytes: SEGMENT_BYTES,
            bytes_max: if self.is_hub { ByteCount(1 << 50) } else { SPOOL_BYTES_MAX },
            hold_bytes_max: HOLD_BYTES_MAX,
            spare_segments: 2,
            young_segments: 1,
            reclaim: !self.is_hub,
            scan_from: None,
        }
    }

    /// Opens the log, checks that all that was told is in it, and begins its next life.
    pub(crate) fn start(&mut self, draw: impl FnOnce() -> Epoch) -> Result<Started, NotStarted> {
        let broken = |what: String| NotStarted::Broken(what);
        let (mut log, found) =
            Log::open(self.shared_disk(), self.options()).map_err(|error| broken(error.to_string()))?;
        let identity = Identity::at_start(&found.puts, draw);
        let begun = log.commit(identity.appends());
        if begun.iter().any(Result::is_err) || log.poisoned().is_some() {
            return Err(NotStarted::Unwritable);
        }
        if let Some(damage) = found.damaged.first().filter(|_| self.flipped.is_empty()) {
            return Err(broken(format!("its log is damaged: {damage:?}")));
        }
        if identity.starts <= self.starts {
            return Err(broken(format!("it has counted {} starts and was told {}", identity.starts, self.starts)));
        }
        let receipts = receipts(&found.puts);
        self.check_receipts(&receipts).map_err(broken)?;
        let mut records: BTreeMap<RecordId, Kept> =
            found.records.iter().map(|record| (record.get().id.clone(), kept(record.get()))).collect();
        for (id, told) in &self.kept {
            if records.get(id).is_none_or(|found| found.record.digest != told.record.digest) {
                return Err(broken(format!("it was told that {id} is durable, and does not find it")));
            }
        }
        let (former, conflicts) = (identity.former.clone(), identity.conflicts.clone());
        let mut recovered = Recovered { receipts, former, conflicts, ..Recovered::default() };
        if self.is_hub {
            recovered.losses = losses(&found.puts);
            recovered.damaged = take_out_lost(&log, &mut records, &recovered.losses);
            recovered.damaged.extend(found.broken.into_iter().map(lost_record));
        }
        for id in records.keys().filter(|_| self.is_hub) {
            recovered.committed.entry((id.origin.clone(), id.epoch)).or_default().insert(id.seq);
        }
        recovered.transfers = found.transfers.into_iter().map(recovered_transfer).collect();
        for record in found.records {
            let stored = stored_record(record, None);
            if self.is_hub { recovered.records.add_committed(&stored) } else { recovered.records.add(stored) }
        }
        self.starts = identity.starts;
        // What came again is whole, and what the node does not count as committed is known to be lost.
        self.rotten = self.flipped.clone();
        self.rotten.retain(|id, rotten| records.get(id).is_some_and(|found| found.record.record == rotten.record));
        records.retain(|id, _| !self.rotten.contains_key(id));
        self.kept = records;
        self.log = Some(log);
        Ok(Started { recovered, identity })
    }

    fn check_receipts(&self, found: &[SignedReceipt]) -> Result<(), String> {
        let found: BTreeMap<_, _> = found.iter().map(|receipt| (receipt.key(), receipt.rank())).collect();
        let lost = self.receipts.iter().find(|(key, told)| found.get(key).is_none_or(|found| *found < told.rank()));
        lost.map_or(Ok(()), |(key, _)| {
            Err(format!("it was told that a receipt is durable, and finds an older one: {key:?}"))
        })
    }

    fn shared_disk(&self) -> Arc<dyn Disk> {
        Arc::new(self.disk.clone())
    }

    pub(crate) fn store(&mut self, record: StoreRecord, wall_clock: UnixMillis) {
        if let Some(from) = record.received_from.clone() {
            self.senders.insert(record.header.header().id.clone(), from);
        }
        self.command(Command::Append(record_append(record, wall_clock)));
    }

    pub(crate) fn keep_receipt(&mut self, receipt: SignedReceipt) {
        self.command(Command::Append(receipt_append(&receipt)));
        self.keeping.push_back(receipt);
    }

    pub(crate) fn release(&mut self, ids: Vec<RecordId>) {
        for id in &ids {
            self.kept.remove(id);
        }
        self.command(Command::Release(ids));
    }

    pub(crate) fn command(&mut self, command: Command) {
        self.queued_bytes += command.bytes();
        self.queue.push_back(command);
    }

    /// False if pieces of neighbors are to wait.
    pub(crate) fn keeps_up(&self) -> bool {
        self.queue.len() < APPENDS_MAX && self.queued_bytes < APPEND_BYTES_MAX
    }

    /// How much may still be taken in.
    pub(crate) fn room(&self) -> ByteCount {
        let free = self.log.as_ref().map_or(ByteCount(0), |log| log.usage().free_bytes);
        free - ByteCount(SPOOL_BYTES_MAX.0 / 16)
    }

    /// The log has failed and takes nothing more.
    pub(crate) fn is_poisoned(&self) -> bool {
        self.log.as_ref().is_some_and(|log| log.poisoned().is_some())
    }

    /// Begins a round with what waits; false if there is nothing to do, or one is under way.
    pub(crate) fn begin_round(&mut self) -> bool {
        if self.round.is_some() {
            return false;
        }
        self.round = Round::take(&mut self.queue);
        self.queued_bytes -= self.round.as_ref().map_or(0, Round::bytes);
        self.round.is_some()
    }

    /// The sync has returned: what the node hears, in order; or what is wrong with the disk.
    pub(crate) fn end_round(&mut self) -> Result<Vec<Input>, String> {
        let (Some(log), Some(round)) = (&mut self.log, self.round.take()) else { return Ok(Vec::new()) };
        let (outcomes, rest) = carry_out(log, round);
        rest.into_iter().for_each(|recall| self.command(Command::Recall(recall)));
        let settled = Settled::from_outcomes(outcomes);
        let mut inputs = Vec::new();
        let mut stored = Vec::with_capacity(settled.stored.len());
        for record in settled.stored {
            self.note(record.get())?;
            let from = self.senders.remove(&record.get().id);
            stored.push(stored_record(record, from));
        }
        if !stored.is_empty() {
            inputs.push(Input::Stored(stored));
        }
        if !settled.failed.is_empty() {
            settled.failed.iter().for_each(|id| drop(self.senders.remove(id)));
            inputs.push(Input::Room(ByteCount(0)));
            inputs.push(Input::StoreFailed(settled.failed));
        }
        inputs.extend((0..settled.epochs_kept).map(|_| Input::EpochKept));
        if !settled.recalled.is_empty() {
            for record in &settled.recalled {
                self.note(record.get())?;
            }
            inputs.push(Input::Recalled(
                settled.recalled.into_iter().map(|record| stored_record(record, None)).collect(),
            ));
        }
        inputs.extend((0..settled.losses_kept).map(|_| Input::LossesKept));
        for key in settled.receipts {
            if let Some(receipt) = self.keeping.pop_front() {
                self.receipts.insert(receipt.key().clone(), receipt);
            }
            inputs.push(Input::ReceiptKept(key));
        }
        Ok(inputs)
    }

    /// A record is about to be told durable: it must be what a power cut in this moment would leave.
    fn note(&mut self, record: &StoredRecord) -> Result<(), String> {
        // In the same round it may have been moved out of a segment that was given back.
        let moved = self.log.as_ref().and_then(|log| log.find(&record.id)).unwrap_or(record.record);
        let Extent { offset, length, .. } = moved;
        let bytes = offset as usize..(offset + length) as usize;
        if !self.disk.is_durable(&moved.file_name(), bytes) {
            return Err(format!("{} was told to be durable and is not", record.id));
        }
        if self.kept.insert(record.id.clone(), kept(record)).is_some() && self.is_hub {
            return Err(format!("{} is committed twice", record.id));
        }
        Ok(())
    }

    /// The power goes, or the process. Of a round that is under way something is done, as the seed decides.
    pub(crate) fn power_cut(&mut self, seeded: &mut Seeded, unsynced: Unsynced) {
        self.disk = match (self.log.take(), self.round.take()) {
            (Some(mut log), Some(round)) => {
                let disk = self.disk.copy();
                self.disk.record_journal();
                drop(carry_out(&mut log, round));
                let mut operations = self.disk.journal();
                operations.truncate(seeded.below(operations.len() + 1));
                operations.into_iter().for_each(|operation| disk.replay(operation));
                disk.power_cut(unsynced)
            }
            _ => self.disk.power_cut(unsynced),
        };
        self.forget_process();
    }

    /// The process ends in order: everything queued is stored.
    pub(crate) fn close(&mut self) {
        if let Some(mut log) = self.log.take() {
            while let Some(round) = self.round.take().or_else(|| Round::take(&mut self.queue)) {
                drop(carry_out(&mut log, round));
            }
            log.close();
        }
        self.forget_process();
    }

    fn forget_process(&mut self) {
        self.queue.clear();
        self.queued_bytes = 0;
        self.senders.clear();
        self.keeping.clear();
    }

    /// The power goes while the node starts. Nobody has been told anything in between.
    pub(crate) fn cut_while_starting(&mut self, seeded: &mut Seeded, unsynced: Unsynced) {
        let before = self.disk.copy();
        self.disk.record_journal();
        drop(Log::open(self.shared_disk(), self.options()));
        let mut operations = self.disk.journal();
        operations.truncate(seeded.below(operations.len() + 1));
        operations.into_iter().for_each(|operation| before.replay(operation));
        self.disk = before.power_cut(unsynced);
    }

    /// A new disk, with nothing on it. What the old one held is nobody's promise any more.
    pub(crate) fn lose(&mut self) {
        *self = Self::new(self.is_hub);
    }

    /// What a backup of the disk would hold, and what it could be held to.
    pub(crate) fn backup(&self) -> Store {
        Store {
            disk: self.disk.power_cut(Unsynced::Dropped),
            kept: self.kept.clone(),
            rotten: self.rotten.clone(),
            flipped: self.flipped.clone(),
            receipts: self.receipts.clone(),
            starts: self.starts,
            ..Self::new(self.is_hub)
        }
    }

    /// From now on the disk has room for so much more.
    pub(crate) fn fill_up(&self, room: u64) {
        self.disk.limit(self.disk.used_bytes() + room);
    }

    /// The disk has room, and what was to fail does not.
    pub(crate) fn repair(&self) {
        self.disk.lift_limit();
        self.disk.forget_faults();
    }

    /// One of the next writes fails.
    pub(crate) fn fail_write(&self, nth: u64) {
        self.disk.fail_write(nth, Fault::Broken);
    }

    /// One of the next syncs fails.
    pub(crate) fn fail_sync(&self, nth: u64) {
        self.disk.fail_sync(nth, Fault::Broken);
    }

    /// What an archive has committed of these, as the daemon's ledger finds it.
    pub(crate) fn committed(&self, origin: &NodeId, epoch: Epoch, seqs: &SeqRanges) -> Vec<estafet_node::StoredRecord> {
        let ids = seqs.iter().map(|seq| RecordId { origin: origin.clone(), epoch, seq });
        let kept = ids.filter_map(|id| self.kept.get(&id).map(|kept| &kept.record).or_else(|| self.rotten.get(&id)));
        kept.map(|record| stored_record(Durable::after_sync(record.clone()), None)).collect()
    }

    /// The digest of the record that was committed under this id, as the daemon's ledger has it.
    pub(crate) fn committed_digest(&self, id: &RecordId) -> Option<HeaderDigest> {
        let kept = self.kept.get(id).map(|kept| &kept.record);
        kept.or_else(|| self.rotten.get(id)).map(|record| record.digest)
    }

    /// Everything that the node was told to be durable and has not released.
    pub(crate) fn ids(&self) -> impl Iterator<Item = &RecordId> {
        self.kept.keys()
    }

    /// A bit of a committed record flips on the disk, in a segment that is complete. Says which.
    pub(crate) fn rot(&mut self, seeded: &mut Seeded) -> Option<RecordId> {
        let newest = self.kept.values().map(|kept| kept.record.record.generation).max()?;
        let complete = self.kept.values().filter(|kept| kept.record.record.generation < newest);
        let complete: Vec<&StoredRecord> = complete.map(|kept| &kept.record).collect();
        if complete.is_empty() {
            return None;
        }
        let record = complete[seeded.below(complete.len())].clone();
        let Extent { offset, length, .. } = record.record;
        let byte = offset as usize + seeded.below(length as usize);
        self.disk.flip_bit(&record.record.file_name(), byte, u8::try_from(seeded.below(8)).expect("a bit of a byte"));
        let id = record.id.clone();
        self.kept.remove(&id);
        self.rotten.insert(id.clone(), record.clone());
        self.flipped.insert(id.clone(), record);
        Some(id)
    }

    /// A bit of this committed record has flipped, and nobody has noticed.
    pub(crate) fn is_rotten(&self, id: &RecordId) -> bool {
        self.rotten.contains_key(id)
    }

    /// Bits have flipped that nobody has noticed.
    pub(crate) fn has_rotten(&self) -> bool {
        !self.rotten.is_empty()
    }

    /// Somebody reads what has rotted.
    pub(crate) fn find_rotten(&mut self) -> Vec<HeldRecord> {
        let Some(log) = &self.log else { return Vec::new() };
        let rotten = std::mem::take(&mut self.rotten).into_values();
        rotten.filter(|record| log.check(record.record).is_err()).map(|record| held_record(record, None)).collect()
    }

    /// The bytes of a record that was released may still be on the disk: nobody can tell while the node is off.
    pub(crate) fn may_recall(&self, id: &RecordId) -> bool {
        self.log.is_none() || self.payload_hash(id).is_some()
    }

    /// True if the node was told that this record is durable and has not released it.
    #[must_use]
    pub fn holds(&self, id: &RecordId) -> bool {
        self.kept.contains_key(id)
    }

    /// The newest number that is held of an origin's epoch, or was receipted when the node was told so.
    pub(crate) fn newest(&self, origin: &NodeId, epoch: Epoch) -> u32 {
        let held = self.kept.keys().filter(|id| id.origin == *origin && id.epoch == epoch).map(|id| id.seq);
        let receipts = self.receipts.iter().filter(|(key, _)| key.origin == *origin && key.epoch == epoch);
        let receipted = receipts.filter_map(|(_, receipt)| receipt.committed().last());
        held.chain(receipted).max().map_or(0, Seq::get)
    }

    /// How many records are held.
    #[must_use]
    pub fn record_count(&self) -> usize {
        self.kept.len()
    }

    /// Reads a record from the running node's log.
    pub(crate) fn read(&self, id: &RecordId) -> Option<ReadRecord> {
        let log = self.log.as_ref()?;
        if self.is_hub { log.read_extent(self.kept.get(id)?.record.record).ok() } else { log.read(id).ok() }
    }

    pub(crate) fn read_chunk(&self, id: &RecordId, index: u32) -> Option<Bytes> {
        let log = self.log.as_ref()?;
        if self.is_hub {
            log.read_chunk_of(self.kept.get(id)?.record.record, index).ok()
        } else {
            log.read_chunk(id, index).ok()
        }
    }

    /// The hash of a record's payload as it is in the log; nothing if it cannot be read.
    pub(crate) fn payload_hash(&self, id: &RecordId) -> Option<PayloadHash> {
        match self.read(id)?.payload {
            ReadPayload::Inline(payload) => Some(PayloadHash::of(&payload)),
            ReadPayload::Chunks(hashes) => {
                let mut payload = Vec::new();
                for (index, _) in (0..).zip(hashes) {
                    payload.extend_from_slice(&self.read_chunk(id, index)?);
                }
                Some(PayloadHash::of(&payload))
            }
        }
    }
}

fn kept(record: &StoredRecord) -> Kept {
    Kept { record: record.clone() }
}

/// What was found unreadable before and is so still.
fn take_out_lost(
    log: &Log,
    records: &mut BTreeMap<RecordId, Kept>,
    losses: &BTreeMap<(NodeId, Epoch), Losses>,
) -> Vec<HeldRecord> {
    let suspects = losses.iter().flat_map(|((origin, epoch), losses)| {
        losses.seqs.iter().map(|seq| RecordId { origin: origin.clone(), epoch: *epoch, seq })
    });
    let mut lost = Vec::new();
    for id in suspects {
        if records.get(&id).is_some_and(|kept| log.check(kept.record.record).is_err()) {
            lost.extend(records.remove(&id).map(|kept| held_record(kept.record, None)));
        }
    }
    lost
}

/// Does a round as the daemon's writer does. That one tidies when nothing else waits; here a step follows each round, so
/// that cuts fall into it.
fn carry_out(log: &mut Log, round: Round) -> (Vec<Outcome>, Vec<Recall>) {
    let done = log.carry_out(round, RECALLED_AT_ONCE);
    log.tidy();
    done
}
