//! The power is cut after every single operation, with what was not synced kept, dropped and torn. Everything that
//! was promised must be there, and what was not must not leave a hole.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use estafet_model::CHUNK_BYTES;
use estafet_model::RecordId;
use estafet_spool::{Append, Done, Extent, Log, MemoryDisk, Recovered, StoredRecord, TransferId, Unsynced};

use crate::support::{OWN, TRANSIT, begin, chunked, commit, contents, header, id, inline, open, payload, put};

/// What was told and done, each with the length of the journal at that moment.
#[derive(Default)]
struct History {
    payloads: BTreeMap<RecordId, Bytes>,
    promised: Vec<(usize, RecordId)>,
    /// Where each was at first.
    places: BTreeMap<RecordId, Extent>,
    released: Vec<(usize, RecordId)>,
    /// The value counts up, so that it is enough to compare.
    puts: Vec<(usize, u32)>,
    last_put: u32,
    /// Payloads that arrive chunk by chunk, over commits and restarts.
    arriving: BTreeMap<TransferId, RecordId>,
    begun: Vec<(usize, TransferId)>,
    arrived: Vec<(usize, TransferId, u32)>,
    aborted: Vec<(usize, TransferId)>,
}

impl History {
    fn commit(&mut self, disk: &MemoryDisk, log: &mut Log, batch: Vec<Append>) {
        for done in commit(log, batch) {
            match done {
                Done::Record(record) => {
                    let record = record.into_inner();
                    self.places.insert(record.id.clone(), record.record);
                    self.promised.push((disk.journal_length(), record.id));
                }
                Done::Put { .. } => self.puts.push((disk.journal_length(), self.last_put)),
                Done::Begin { transfer } => self.begun.push((disk.journal_length(), transfer)),
                Done::Chunk { transfer, index } => self.arrived.push((disk.journal_length(), transfer, index)),
                Done::Recalled(_) => unreachable!("nothing is recalled by a commit"),
            }
        }
    }

    /// All that has to be appended for a payload of two chunks to arrive as a record.
    fn arriving(&mut self, seq: u32) -> Vec<Append> {
        let transfer = 1000 + u64::from(seq);
        let bytes = payload(seq, CHUNK_BYTES + 90);
        self.payloads.insert(id(ARRIVING, seq), bytes.clone());
        self.arriving.insert(TransferId(transfer), id(ARRIVING, seq));
        let begin = begin(ARRIVING, seq, transfer, &bytes);
        [begin].into_iter().chain(chunked(ARRIVING, seq, transfer, &bytes)).collect()
    }

    fn abort(&mut self, disk: &MemoryDisk, log: &mut Log, seq: u32) {
        let transfer = TransferId(1000 + u64::from(seq));
        self.aborted.push((disk.journal_length(), transfer));
        log.abort(transfer);
    }

    fn release(&mut self, disk: &MemoryDisk, log: &mut Log, id: RecordId) {
        self.released.push((disk.journal_length(), id.clone()));
        log.release(&[id]);
    }

    fn record(&mut self, origin: &str, seq: u32, length: usize) -> Vec<Append> {
        let bytes = payload(seq, length);
        self.payloads.insert(id(origin, seq), bytes.clone());
        if length > 1500 { chunked(origin, seq, u64::from(seq), &bytes) } else { vec![inline(origin, seq, &bytes)] }
    }

    fn put(&mut self) -> Append {
        self.last_put += 1;
        put("count", &format!("{:08}", self.last_put))
    }

    /// Checks all that holds after a crash at this moment.
    fn check(&self, moment: usize, log: &Log, recovered: &Recovered, context: &str) {
        assert!(recovered.damaged.is_empty(), "{context}: a crash is no damage: {:?}", recovered.damaged);
        assert!(log.poisoned().is_none(), "{context}");
        let contents = contents(log, recovered);
        let released: BTreeSet<&RecordId> =
            self.released.iter().filter(|(at, _)| *at <= moment).map(|(_, id)| id).collect();
        for (_, id) in self.promised.iter().filter(|(at, id)| *at <= moment && !released.contains(id)) {
            assert_eq!(contents.get(id), self.payloads.get(id), "{context}: {id} was promised");
        }
        for (id, bytes) in &contents {
            assert_eq!(Some(bytes), self.payloads.get(id), "{context}: {id} was never stored like this");
        }
        let value = recovered.puts.get("count".as_bytes()).cloned().unwrap_or_default();
        let value: u32 = std::str::from_utf8(&value).unwrap().parse().unwrap_or(0);
        let promised = self.puts.iter().filter(|(at, _)| *at <= moment).map(|(_, value)| *value).max().unwrap_or(0);
        assert!((promised..=self.last_put).contains(&value), "{context}: {promised} was promised, {value} is there");
        self.check_transfers(moment, &contents, recovered, context);
        // Own numbers have no gaps: whatever is there, everything before it is there or was released.
        let last = contents.keys().filter(|id| id.origin.as_str() == OWN).map(|id| id.seq.get()).max().unwrap_or(0);
        for seq in 1..last {
            let id = id(OWN, seq);
            assert!(contents.contains_key(&id) || released.contains(&id), "{context}: {id} is missing before {last}");
        }
    }
}

impl History {
    /// Whatever of a begun payload was durable goes on, unless it was aborted.
    fn check_transfers(
        &self,
        moment: usize,
        contents: &BTreeMap<RecordId, Bytes>,
        recovered: &Recovered,
        context: &str,
    ) {
        let aborted: BTreeSet<TransferId> =
            self.aborted.iter().filter(|(at, _)| *at <= moment).map(|(_, transfer)| *transfer).collect();
        for (_, transfer) in self.begun.iter().filter(|(at, transfer)| *at <= moment && !aborted.contains(transfer)) {
            let found = recovered.transfers.iter().find(|found| found.transfer == *transfer);
            let record = &self.arriving[transfer];
            if contents.contains_key(record) {
                assert_eq!(found, None, "{context}: {record} is whole");
                continue;
            }
            let Some(found) = found else {
                let released = self.released.iter().any(|(at, id)| *at <= moment && id == record);
                assert!(released, "{context}: {transfer:?} was begun");
                continue;
            };
            let promised = self.arrived.iter().filter(|(at, arrived, _)| *at <= moment && arrived == transfer);
            for (_, _, index) in promised {
                assert!(found.arrived.contains(index), "{context}: chunk {index} of {transfer:?} was promised");
            }
        }
        for found in &recovered.transfers {
            let id = found.header.header().id.clone();
            assert_eq!(self.arriving.get(&found.transfer), Some(&id), "{context}");
            assert_eq!(found.header, header(ARRIVING, id.seq.get(), &self.payloads[&id]), "{context}");
            assert!(found.arrived.is_sorted(), "{context}: {:?}", found.arrived);
        }
    }

    /// Appends what is missing of each payload that was arriving, and its record.
    fn finish_transfers(&self, log: &mut Log, recovered: &Recovered) -> BTreeMap<RecordId, Bytes> {
        let mut finished = BTreeMap::new();
        for found in &recovered.transfers {
            let id = found.header.header().id.clone();
            let bytes = &self.payloads[&id];
            let mut rest = chunked(ARRIVING, id.seq.get(), found.transfer.0, bytes);
            rest.retain(|append| !matches!(append, Append::Chunk { index, .. } if found.arrived.contains(index)));
            commit(log, rest);
            finished.insert(id, bytes.clone());
        }
        finished
    }
}

/// The origin whose payloads come chunk by chunk.
const ARRIVING: &str = "senapelan";

/// A run with small and chunked records, several to a commit and several segments to a commit, values, releases,
/// recycling, a restart in the middle, and payloads that arrive across all of that.
fn run(disk: &MemoryDisk) -> History {
    let mut history = History::default();
    let (mut log, _) = open(disk);
    // One arrives across the restart and in time is released, one is aborted, one never ends.
    let mut arriving: BTreeMap<u32, Append> = [1, 5, 8, 11].into_iter().zip(history.arriving(1)).collect();
    arriving.extend([2, 4].into_iter().zip(history.arriving(2)));
    arriving.extend([3, 9].into_iter().zip(history.arriving(3)));
    for round in 0..14u32 {
        let mut batch: Vec<Append> = arriving.remove(&round).into_iter().collect();
        match round {
            6 => history.abort(disk, &mut log, 2),
            13 => history.release(disk, &mut log, id(ARRIVING, 1)),
            _ => {}
        }
        for seq in round * 3 + 1..=round * 3 + 3 {
            batch.extend(history.record(OWN, seq, if seq % 5 == 0 { 2500 } else { 500 + 97 * (seq as usize % 7) }));
        }
        batch.push(history.put());
        batch.extend(history.record(TRANSIT, round + 1, 1200));
        if round % 4 == 3 {
            let rest = batch.split_off(2);
            history.commit(disk, &mut log, batch);
            history.commit(disk, &mut log, rest);
        } else {
            history.commit(disk, &mut log, batch);
        }
        for seq in (round * 3).saturating_sub(8)..(round * 3).saturating_sub(5) {
            if seq > 0 {
                history.release(disk, &mut log, id(OWN, seq));
            }
        }
        if round > 1 {
            history.release(disk, &mut log, id(TRANSIT, round - 1));
        }
        if round == 7 {
            log = restart(disk, log, &history);
        }
    }
    log.close();
    history
}

/// A run in which a few live records of all kinds pin segments, and are moved out of them.
fn run_moving(disk: &MemoryDisk) -> History {
    let mut history = History::default();
    let (mut log, _) = open(disk);
    let mut arriving: BTreeMap<u32, Append> = [1, 2, 9, 11].into_iter().zip(history.arriving(1)).collect();
    arriving.extend([4, 6].into_iter().zip(history.arriving(2)));
    for round in 0..12u32 {
        let mut batch: Vec<Append> = arriving.remove(&round).into_iter().collect();
        for seq in round * 8 + 1..=round * 8 + 8 {
            batch.extend(history.record(OWN, seq, if seq % 6 == 0 { 2500 } else { 900 }));
        }
        batch.push(history.put());
        history.commit(disk, &mut log, batch);
        for seq in (round * 8 + 1..=round * 8 + 8).filter(|seq| seq % 12 != 0 && seq % 13 != 0) {
            history.release(disk, &mut log, id(OWN, seq));
        }
        while round % 3 == 2 && log.tidy() {}
        if round == 7 {
            log = restart(disk, log, &history);
        }
    }
    log.close();
    let (_, recovered) = open(&disk.copy());
    let is_moved = |record: &StoredRecord| history.places[&record.id] != record.record;
    let moved = recovered.records.iter().filter(|record| is_moved(record.get())).count();
    assert!(moved > 5, "it moves records, or it would not test that: {moved}");
    history
}

/// A run that draws what it does from this seed.
fn run_drawn(disk: &MemoryDisk, seed: u64) -> History {
    let mut history = History::default();
    let mut draws = Draws(seed);
    let (mut log, _) = open(disk);
    let mut arriving: Vec<Vec<Append>> = Vec::new();
    let mut live: Vec<RecordId> = Vec::new();
    let (mut own, mut transit, mut begun) = (0, 0, 0);
    for _ in 0..DRAWN_STEPS {
        match draws.below(16) {
            0..=6 => {
                let mut batch = Vec::new();
                for _ in 0..=draws.below(4) {
                    let (origin, seq) = if draws.below(3) == 0 { (TRANSIT, &mut transit) } else { (OWN, &mut own) };
                    *seq += 1;
                    let length = if draws.below(4) == 0 { 1600 + draws.below(4000) } else { draws.below(1400) };
                    batch.extend(history.record(origin, *seq, length));
                    live.push(id(origin, *seq));
                }
                if draws.below(3) == 0 {
                    batch.push(history.put());
                }
                history.commit(disk, &mut log, batch);
            }
            7..=10 => {
                for _ in 0..draws.below(8).min(live.len()) {
                    let released = live.swap_remove(draws.below(live.len()));
                    history.release(disk, &mut log, released);
                }
            }
            11 => {
                begun += 1;
                arriving.push(history.arriving(begun));
            }
            12 | 13 => {
                if !arriving.is_empty() {
                    let place = draws.below(arriving.len());
                    let next = arriving[place].remove(0);
                    if arriving[place].is_empty() {
                        arriving.remove(place);
                    }
                    history.commit(disk, &mut log, vec![next]);
                }
            }
            14 => while log.tidy() {},
            _ => log = restart(disk, log, &history),
        }
    }
    drop(log);
    history
}

/// Enough for segments to fill, be moved out of, be given back and be used again.
const DRAWN_STEPS: usize = 40;

/// SplitMix64, by Sebastiano Vigna.
struct Draws(u64);

impl Draws {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        usize::try_from((mixed ^ (mixed >> 31)) % bound as u64).unwrap()
    }
}

fn number_from(variable: &str) -> Option<u64> {
    std::env::var(variable).ok().map(|text| text.parse().expect("a number"))
}

/// Short by default. For hours of it, each round with a run of its own:
///
/// `ESTAFET_CRASH_ROUNDS=1000 ESTAFET_CRASH_SEED=7 cargo test -p estafet-spool --test spool crash::a_power_cut_at_any_moment_of_a_drawn_run -- --nocapture`
///
/// A failure names its seed; with that and one round it comes again.
#[test]
fn a_power_cut_at_any_moment_of_a_drawn_run_loses_nothing_promised() {
    let rounds = number_from("ESTAFET_CRASH_ROUNDS").unwrap_or(2);
    let first = number_from("ESTAFET_CRASH_SEED").unwrap_or(1);
    for seed in first..first + rounds {
        let start = MemoryDisk::new();
        let disk = start.copy();
        disk.record_journal();
        let history = run_drawn(&disk, seed);
        for (moment, disk) in moments(&start, &disk) {
            for unsynced in fates(moment).into_iter().take(if rounds > 2 { 18 } else { 5 }) {
                let context = format!("seed {seed}, after operation {moment}, {unsynced:?}");
                life_goes_on(&history, moment, &disk.power_cut(unsynced), &context);
            }
        }
    }
}

fn restart(disk: &MemoryDisk, log: Log, history: &History) -> Log {
    log.close();
    let (mut log, _) = open(disk);
    log.release(&history.released.iter().map(|(_, id)| id.clone()).collect::<Vec<_>>());
    history.aborted.iter().for_each(|(_, transfer)| log.abort(*transfer));
    log
}

fn fates(moment: usize) -> Vec<Unsynced> {
    let seeds = (0..16).map(|seed| Unsynced::Torn((moment * 31 + seed) as u64));
    [Unsynced::Kept, Unsynced::Dropped].into_iter().chain(seeds).collect()
}

/// The disk after each operation of a journal, with how many there were.
fn moments(start: &MemoryDisk, disk: &MemoryDisk) -> impl Iterator<Item = (usize, MemoryDisk)> {
    let replayed = start.copy();
    let at_start = (0, replayed.clone());
    let later = disk.journal().into_iter().enumerate().map(move |(index, operation)| {
        replayed.replay(operation);
        (index + 1, replayed.clone())
    });
    [at_start].into_iter().chain(later)
}

#[test]
fn a_power_cut_at_any_moment_loses_nothing_promised() {
    let start = MemoryDisk::new();
    let disk = start.copy();
    disk.record_journal();
    let history = run(&disk);
    let reused = |operation: &estafet_spool::Operation| matches!(operation, estafet_spool::Operation::Rename(from, _) if from.ends_with("spare"));
    assert!(disk.journal().iter().any(reused), "the run recycles segments, or it would not test that");
    for (moment, disk) in moments(&start, &disk) {
        for unsynced in fates(moment) {
            let context = format!("after operation {moment}, {unsynced:?}");
            life_goes_on(&history, moment, &disk.power_cut(unsynced), &context);
        }
    }
}

#[test]
fn a_power_cut_at_any_moment_of_moving_loses_nothing_promised() {
    let start = MemoryDisk::new();
    let disk = start.copy();
    disk.record_journal();
    let history = run_moving(&disk);
    for (moment, disk) in moments(&start, &disk) {
        for unsynced in fates(moment) {
            let context = format!("after operation {moment}, {unsynced:?}");
            life_goes_on(&history, moment, &disk.power_cut(unsynced), &context);
        }
    }
}

/// Opens, checks, stores something, and opens again: nothing came back that was not there at first.
fn life_goes_on(history: &History, moment: usize, disk: &MemoryDisk, context: &str) {
    let (mut log, recovered) = open(disk);
    history.check(moment, &log, &recovered, context);
    let mut expected = contents(&log, &recovered);
    // Lengths that would line up a new entry with what was cut.
    for (seq, length) in [(1, 0), (2, 700), (3, 1200)] {
        commit(&mut log, vec![inline("tuah", seq, &payload(seq, length))]);
        expected.insert(id("tuah", seq), payload(seq, length));
    }
    expected.extend(history.finish_transfers(&mut log, &recovered));
    drop(log);
    let (log, again) = open(&disk.power_cut(Unsynced::Dropped));
    assert!(again.damaged.is_empty(), "{context}, second start: {:?}", again.damaged);
    let found = contents(&log, &again);
    for (id, bytes) in &found {
        assert_eq!(expected.get(id), Some(bytes), "{context}, second start: {id} came back to life");
    }
    assert!(again.transfers.is_empty(), "{context}, second start: {:?} were finished", again.transfers);
    let lost: Vec<_> = expected.keys().filter(|id| !found.contains_key(id)).collect();
    assert!(lost.is_empty(), "{context}, second start: {lost:?} are lost");
}

#[test]
fn a_power_cut_while_recovering_from_one_loses_nothing_promised() {
    let start = MemoryDisk::new();
    let disk = start.copy();
    disk.record_journal();
    let history = run(&disk);
    for (moment, disk) in moments(&start, &disk).filter(|(moment, _)| moment % 3 == 0) {
        let found = disk.power_cut(Unsynced::Torn(moment as u64));
        let recovering = found.copy();
        recovering.record_journal();
        let (log, _) = open(&recovering);
        log.close();
        for (step, disk) in moments(&found, &recovering) {
            for unsynced in [Unsynced::Dropped, Unsynced::Torn(step as u64)] {
                let (log, recovered) = open(&disk.power_cut(unsynced));
                history.check(moment, &log, &recovered, &format!("after operation {moment} and {step} of recovery"));
            }
        }
    }
}

#[test]
fn what_was_cut_does_not_come_back_when_the_seal_is_damaged_later() {
    let disk = MemoryDisk::new();
    let (mut log, _) = open(&disk);
    commit(&mut log, vec![inline(OWN, 1, &payload(1, 100))]);
    disk.fail_sync(1, estafet_spool::Fault::Broken);
    assert!(log.commit((2..6).map(|seq| inline(OWN, seq, &payload(seq, 400))).collect()).iter().all(Result::is_err));
    drop(log);
    // Record 2 is torn, those behind it are whole, and none was promised.
    let (name, _) = newest_segment(&disk);
    let (log, all) = open(&disk.copy());
    assert_eq!(contents(&log, &all).len(), 5);
    let second = all.records[1].get().record.offset as usize;
    disk.flip_bit(&name, second + 500, 0);
    let (log, recovered) = open(&disk);
    assert_eq!(contents(&log, &recovered).len(), 1);
    assert!(recovered.torn_bytes > 0);
    drop(log);
    disk.flip_bit(&name, second, 0);
    let (log, recovered) = open(&disk);
    assert_eq!(contents(&log, &recovered).len(), 1);
}

#[test]
fn a_log_cut_off_at_any_byte_opens_with_a_prefix() {
    let disk = MemoryDisk::new();
    let (mut log, _) = open(&disk);
    for seq in 1..6 {
        commit(&mut log, vec![inline(OWN, seq, &payload(seq, 200))]);
    }
    drop(log);
    let newest = newest_segment(&disk);
    for length in 0..newest.1 {
        let cut = disk.copy();
        estafet_spool::Disk::open(&cut, &newest.0).unwrap().set_len(length).unwrap();
        let (log, recovered) = open(&cut);
        let seqs: Vec<u32> = contents(&log, &recovered).keys().map(|id| id.seq.get()).collect();
        assert!((1..=5).take(seqs.len()).eq(seqs.iter().copied()), "cut at {length}: {seqs:?}");
        assert!(recovered.damaged.is_empty(), "cut at {length}: {:?}", recovered.damaged);
    }
}

pub(crate) fn newest_segment(disk: &MemoryDisk) -> (String, u64) {
    let files = estafet_spool::Disk::list(disk).unwrap();
    let newest = files.into_iter().filter(|file| file.name.ends_with("segment")).max_by_key(|file| file.name.clone());
    newest.map(|file| (file.name, file.bytes)).unwrap()
}
