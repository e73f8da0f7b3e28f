//! What was released is taken back as long as its bytes are there.

use std::sync::Arc;
use std::sync::mpsc::channel;
use std::time::Duration;

use estafet_model::{ByteCount, RecordId, SeqRanges, UnixMillis};
use estafet_spool::{Done, Log, MemoryDisk, Spool, SpoolOptions};

use crate::support::{OWN, TRANSIT, chunked, commit, contents, id, inline, open_with, options, payload, read_payload};

fn holding() -> SpoolOptions {
    SpoolOptions { hold_bytes_max: ByteCount::mebibytes(8), ..options() }
}

fn bytes_of(seq: u32) -> bytes::Bytes {
    payload(seq, if seq.is_multiple_of(5) { 20_000 } else { 1000 })
}

/// Captures, inline and chunked, over many segments; all are released.
fn released(disk: &MemoryDisk, options: SpoolOptions) -> Log {
    let (mut log, _) = open_with(disk, options);
    for seq in 1..=30 {
        let bytes = bytes_of(seq);
        let batch = if seq.is_multiple_of(5) {
            chunked(OWN, seq, u64::from(seq), &bytes)
        } else {
            vec![inline(OWN, seq, &bytes)]
        };
        commit(&mut log, batch);
    }
    log.release(&(1..=30).map(|seq| id(OWN, seq)).collect::<Vec<_>>());
    log
}

fn numbers(seqs: impl IntoIterator<Item = u32>) -> SeqRanges {
    seqs.into_iter().map(|seq| id(OWN, seq).seq).collect()
}

fn recall(log: &mut Log, seqs: &SeqRanges, at_most: usize) -> (Vec<RecordId>, SeqRanges) {
    let of = id(OWN, 1);
    let (records, rest) = log.recall(&of.origin, of.epoch, seqs, at_most);
    (records.into_iter().map(|record| record.get().id.clone()).collect(), rest)
}

#[test]
fn a_held_capture_is_needed_again_until_it_is_released_again() {
    let disk = MemoryDisk::new();
    let mut log = released(&disk, holding());
    assert_eq!(log.usage().live_bytes.0, 0);
    let (recalled, rest) = recall(&mut log, &numbers([3, 10, 11, 99]), 100);
    assert_eq!(recalled, [id(OWN, 3), id(OWN, 10), id(OWN, 11)]);
    assert!(rest.is_empty() && log.usage().live_bytes.0 > 22_000);
    // What is needed is not taken back twice, and its time is not over.
    assert!(recall(&mut log, &numbers([3, 10, 11]), 100).0.is_empty());
    log.expire_held(UnixMillis(u64::MAX));
    while log.tidy() {}
    for seq in [3, 10, 11] {
        assert_eq!(read_payload(&log, &id(OWN, seq)).unwrap(), bytes_of(seq), "{seq}");
    }
    log.close();
    let (mut log, recovered) = open_with(&disk, holding());
    let found = contents(&log, &recovered);
    assert!([3, 10, 11].iter().all(|seq| found[&id(OWN, *seq)] == bytes_of(*seq)));
    let all: Vec<RecordId> = found.into_keys().collect();
    log.release(&all);
    assert_eq!(log.usage().live_bytes.0, 0, "each is counted once");
}

#[test]
fn what_was_given_back_is_not_recalled() {
    let disk = MemoryDisk::new();
    let mut log = released(&disk, SpoolOptions { hold_bytes_max: ByteCount(0), ..options() });
    // The newest segment is not given back, but chunks of what ends in it are.
    let (recalled, _) = recall(&mut log, &numbers(1..=29), 100);
    assert!(recalled.len() < 8, "{recalled:?}");
    assert!(recalled.iter().all(|id| read_payload(&log, id).is_ok()));
}

#[test]
fn many_are_recalled_a_few_at_a_time() {
    let disk = MemoryDisk::new();
    let mut log = released(&disk, holding());
    let (mut left, mut recalled, mut turns) = (numbers((1..=30).filter(|seq| *seq != 7)), Vec::new(), 0);
    while !left.is_empty() {
        let (some, rest) = recall(&mut log, &left, 4);
        assert!(some.len() <= 4);
        recalled.extend(some);
        (left, turns) = (rest, turns + 1);
    }
    assert_eq!((recalled.len(), turns), (29, 8));
}

#[test]
fn the_writer_tells_of_everything_it_takes_back() {
    let (sender, outcomes) = channel();
    let disk = Arc::new(MemoryDisk::new());
    let options = SpoolOptions { segment_bytes: ByteCount(256 << 10), ..holding() };
    let (spool, _) = Spool::open_on(disk, options, move |done| sender.send(done).unwrap()).unwrap();
    let count = 1200;
    spool.append((1..=count).map(|seq| inline(OWN, seq, &payload(seq, 10))).collect()).unwrap();
    spool.append(vec![inline(TRANSIT, 1, &payload(1, 10))]).unwrap();
    spool.release((1..=count).map(|seq| id(OWN, seq)).collect());
    let of = id(OWN, 1);
    spool.recall(of.origin, of.epoch, numbers(1..=count));
    let mut recalled = Vec::new();
    while recalled.len() < count as usize {
        for outcome in outcomes.recv_timeout(Duration::from_secs(10)).unwrap() {
            if let Done::Recalled(record) = outcome.unwrap() {
                recalled.push(record.get().id.seq.get());
            }
        }
    }
    assert!(recalled.into_iter().eq(1..=count));
}
