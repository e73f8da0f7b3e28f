//! Arbitrary operations against a naive model, with restarts and power cuts in between.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use estafet_model::{ByteCount, CHUNK_BYTES, RecordId, SeqRanges};
use estafet_spool::{Append, Done, Log, MemoryDisk, ReadError, Recovered, SpoolOptions, TransferId, Unsynced};
use proptest::prelude::*;

use crate::support::{
    OWN, TRANSIT, begin, chunked, commit, id, inline, open_with, options, payload, put, read_payload,
};

#[derive(Debug, Clone)]
enum Step {
    /// Records of these lengths in one commit, own or not, chunked or not.
    Store(Vec<(bool, bool, usize)>),
    /// Chunks that never become a record; aborted or left.
    Unfinished(usize, bool),
    /// A payload of two chunks begins to arrive.
    Begin,
    /// The next chunk of one that was begun arrives, or its record.
    Arrive(usize),
    /// One that was begun is aborted.
    Abort(usize),
    Put(u8, u8),
    /// Releases the live record at this place.
    Release(usize),
    /// Takes back the released record at this place, if its bytes are still there.
    Recall(usize),
    /// Stores a live record again, with other bytes.
    Replace(usize, usize),
    /// Moves what can be moved.
    Tidy,
    Restart,
    Cut(Unsynced),
}

fn step() -> impl Strategy<Value = Step> {
    let length = prop_oneof![4 => 0usize..1200, 1 => 1200usize..9000];
    let record = (any::<bool>(), any::<bool>(), length.clone());
    prop_oneof![
        8 => prop::collection::vec(record, 1..5).prop_map(Step::Store),
        1 => (length.clone(), any::<bool>()).prop_map(|(length, abort)| Step::Unfinished(length, abort)),
        1 => Just(Step::Begin),
        3 => any::<usize>().prop_map(Step::Arrive),
        1 => any::<usize>().prop_map(Step::Abort),
        2 => (0u8..4, any::<u8>()).prop_map(|(key, value)| Step::Put(key, value)),
        8 => any::<usize>().prop_map(Step::Release),
        3 => any::<usize>().prop_map(Step::Recall),
        1 => (any::<usize>(), length).prop_map(|(place, length)| Step::Replace(place, length)),
        1 => Just(Step::Tidy),
        1 => Just(Step::Restart),
        1 => prop_oneof![Just(Unsynced::Kept), Just(Unsynced::Dropped), any::<u64>().prop_map(Unsynced::Torn)]
            .prop_map(Step::Cut),
    ]
}

/// Numbers of transfers that were begun; the others have lower ones.
fn begun(seq: u32) -> TransferId {
    TransferId((1 << 32) + u64::from(seq))
}

/// The naive model: what must be there, and what may be.
struct Model {
    disk: MemoryDisk,
    log: Log,
    options: SpoolOptions,
    live: BTreeMap<RecordId, Bytes>,
    released: BTreeMap<RecordId, BTreeSet<Bytes>>,
    puts: BTreeMap<Bytes, Bytes>,
    unfinished: Vec<TransferId>,
    /// The payloads that are arriving: the number of the record, which is the transfer's too, and what is to come.
    arriving: Vec<(u32, Vec<Append>)>,
    next: u32,
}

impl Model {
    fn new(hold: u64) -> Self {
        let disk = MemoryDisk::new();
        let options = SpoolOptions { hold_bytes_max: ByteCount(hold), ..options() };
        let (log, _) = open_with(&disk, options.clone());
        Self {
            disk,
            log,
            options,
            live: BTreeMap::new(),
            released: BTreeMap::new(),
            puts: BTreeMap::new(),
            unfinished: Vec::new(),
            arriving: Vec::new(),
            next: 1,
        }
    }

    fn step(&mut self, step: &Step) {
        match step {
            Step::Store(records) => {
                let batch = records.iter().flat_map(|&(own, whole, length)| {
                    let seq = self.next;
                    self.next += 1;
                    let (origin, bytes) = (if own { OWN } else { TRANSIT }, payload(seq, length));
                    self.live.insert(id(origin, seq), bytes.clone());
                    if whole { vec![inline(origin, seq, &bytes)] } else { chunked(origin, seq, u64::from(seq), &bytes) }
                });
                let batch = batch.collect();
                commit(&mut self.log, batch);
            }
            Step::Unfinished(length, abort) => {
                self.next += 1;
                let transfer = u64::from(self.next);
                let mut batch = chunked(OWN, 1, transfer, &payload(1, *length));
                batch.pop();
                commit(&mut self.log, batch);
                if *abort {
                    self.log.abort(TransferId(transfer));
                } else {
                    self.unfinished.push(TransferId(transfer));
                }
            }
            Step::Begin => {
                let seq = self.next;
                self.next += 1;
                let bytes = payload(seq, CHUNK_BYTES + 10);
                commit(&mut self.log, vec![begin(TRANSIT, seq, begun(seq).0, &bytes)]);
                self.arriving.push((seq, chunked(TRANSIT, seq, begun(seq).0, &bytes)));
            }
            Step::Arrive(place) => self.arrive(*place),
            Step::Abort(place) => {
                if !self.arriving.is_empty() {
                    let (seq, _) = self.arriving.remove(place % self.arriving.len());
                    self.log.abort(begun(seq));
                }
            }
            Step::Put(key, value) => {
                let (key, value) = (format!("key {key}"), format!("value {value}"));
                assert_eq!(commit(&mut self.log, vec![put(&key, &value)]), [Done::Put { key: key.clone().into() }]);
                self.puts.insert(key.into(), value.into());
            }
            Step::Release(place) => {
                if let Some(id) = self.pick(*place) {
                    self.log.release(std::slice::from_ref(&id));
                    let bytes = self.live.remove(&id).unwrap();
                    self.released.entry(id).or_default().insert(bytes);
                }
            }
            Step::Recall(place) => self.recall(*place),
            Step::Replace(place, length) => {
                if let Some(id) = self.pick(*place) {
                    let bytes = payload(self.next, *length);
                    self.next += 1;
                    commit(&mut self.log, vec![inline(id.origin.as_str(), id.seq.get(), &bytes)]);
                    let before = self.live.insert(id.clone(), bytes).unwrap();
                    self.released.entry(id).or_default().insert(before);
                }
            }
            Step::Tidy => {
                let rounds = std::iter::repeat_with(|| self.log.tidy()).take_while(|tidied| *tidied).take(1000);
                assert!(rounds.count() < 1000, "tidying ends");
            }
            Step::Restart => self.reopen(self.disk.clone(), Log::close),
            Step::Cut(unsynced) => self.reopen(self.disk.power_cut(*unsynced), drop),
        }
    }

    fn recall(&mut self, place: usize) {
        let released: Vec<RecordId> = self.released.keys().filter(|id| !self.live.contains_key(id)).cloned().collect();
        if released.is_empty() {
            return;
        }
        let RecordId { origin, epoch, seq } = released[place % released.len()].clone();
        for record in self.log.recall(&origin, epoch, &SeqRanges::of(seq), 10).0 {
            let id = record.into_inner().id;
            let bytes = read_payload(&self.log, &id).unwrap();
            assert!(self.released[&id].contains(&bytes), "{id} was never that");
            self.live.insert(id, bytes);
        }
    }

    fn arrive(&mut self, place: usize) {
        if self.arriving.is_empty() {
            return;
        }
        let place = place % self.arriving.len();
        let (seq, rest) = &mut self.arriving[place];
        // Not in order: the last chunk first.
        let next = rest.remove(rest.len().saturating_sub(2));
        if rest.is_empty() {
            self.live.insert(id(TRANSIT, *seq), payload(*seq, CHUNK_BYTES + 10));
            self.arriving.remove(place);
        }
        commit(&mut self.log, vec![next]);
    }

    /// Everything that was arriving goes on; whatever else is back was aborted, or its record released.
    fn check_transfers(&mut self, recovered: &Recovered) {
        for (seq, rest) in &self.arriving {
            let found = recovered.transfers.iter().find(|found| found.transfer == begun(*seq));
            let found = found.unwrap_or_else(|| panic!("transfer {seq} is lost"));
            let to_come = rest.iter().filter_map(|append| match append {
                Append::Chunk { index, .. } => Some(*index),
                _ => None,
            });
            let to_come: Vec<u32> = to_come.collect();
            let arrived: Vec<u32> = (0..2).filter(|index| !to_come.contains(index)).collect();
            assert_eq!(found.arrived, arrived);
        }
        for found in &recovered.transfers {
            let seq = found.header.header().id.seq.get();
            assert!(!self.live.contains_key(&id(TRANSIT, seq)), "the record of transfer {seq} is whole");
            if self.arriving.iter().all(|(arriving, _)| *arriving != seq) {
                self.log.abort(found.transfer);
            }
        }
    }

    fn pick(&self, place: usize) -> Option<RecordId> {
        let count = self.live.len();
        (count > 0).then(|| self.live.keys().nth(place % count).unwrap().clone())
    }

    fn reopen(&mut self, disk: MemoryDisk, end: fn(Log)) {
        // The old log ends on the old disk.
        let unused = MemoryDisk::new();
        let log = std::mem::replace(&mut self.log, open_with(&unused, self.options.clone()).0);
        end(log);
        let (log, recovered) = open_with(&disk, self.options.clone());
        (self.disk, self.log) = (disk, log);
        assert_eq!(recovered.damaged, []);
        assert_eq!(recovered.puts, self.puts);
        let ids: Vec<RecordId> = recovered.records.iter().map(|record| record.get().id.clone()).collect();
        let back: Vec<RecordId> = ids.iter().filter(|id| !self.live.contains_key(id)).cloned().collect();
        for id in self.live.keys() {
            assert!(ids.contains(id), "{id} is lost");
        }
        self.log.release(&back);
        self.check_transfers(&recovered);
    }

    fn check(&self) {
        for (id, bytes) in &self.live {
            assert_eq!(read_payload(&self.log, id).as_ref(), Ok(bytes), "{id}");
        }
        for (id, bytes) in self.released.iter().filter(|(id, _)| !self.live.contains_key(id)) {
            match read_payload(&self.log, id) {
                Ok(read) => assert!(bytes.contains(&read), "{id} was never that"),
                Err(error) => assert_eq!(error, ReadError::NotHere),
            }
        }
        let usage = self.log.usage();
        let payloads: usize = self.live.values().map(Bytes::len).sum();
        assert!(usage.live_bytes.0 >= payloads as u64);
        assert!(usage.used_bytes >= usage.live_bytes);
    }

    /// With everything released and the segment full, hardly anything is left.
    fn all_room_comes_back(&mut self) {
        self.unfinished.iter().for_each(|transfer| self.log.abort(*transfer));
        self.arriving.iter().for_each(|(seq, _)| self.log.abort(begun(*seq)));
        let all: Vec<RecordId> = self.live.keys().cloned().collect();
        self.log.release(&all);
        commit(&mut self.log, vec![inline(TRANSIT, 1 << 20, &payload(1, 8000))]);
        commit(&mut self.log, vec![inline(TRANSIT, 1 << 21, &payload(1, 8000))]);
        let usage = self.log.usage();
        assert!(usage.segments <= 3 + usize::try_from(self.options.hold_bytes_max.0 / 20).unwrap(), "{usage:?}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_log_does_what_a_map_does(steps in prop::collection::vec(step(), 1..60), hold in prop_oneof![Just(0u64), Just(20_000)]) {
        let mut model = Model::new(hold);
        for step in &steps {
            model.step(step);
            model.check();
        }
        model.all_room_comes_back();
    }
}
