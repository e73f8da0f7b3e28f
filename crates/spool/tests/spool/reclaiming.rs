//! Room comes back from segments that a few live records would pin, and from captures that were held long enough.

use std::path::Path;
use std::sync::Arc;

use estafet_model::{ByteCount, CHUNK_BYTES, UnixMillis};
use estafet_spool::{Append, Disk, Fault, Log, MemoryDisk, ReadError, RealDisk, SpoolOptions, TransferId};

use crate::support::{
    OWN, TRANSIT, begin, chunked, commit, contents, id, inline, open, open_with, options, payload, read_payload,
};

/// Stores many records, inline and chunked, and releases all but each tenth.
fn pin(log: &mut Log) {
    for seq in 1..100 {
        let bytes = payload(seq, 1000);
        let batch = if seq % 20 == 0 {
            chunked(TRANSIT, seq, u64::from(seq), &bytes)
        } else {
            vec![inline(TRANSIT, seq, &bytes)]
        };
        commit(log, batch);
    }
    for seq in (1..100).filter(|seq| seq % 10 != 0) {
        log.release(&[id(TRANSIT, seq)]);
    }
}

fn pinned() -> impl Iterator<Item = u32> {
    (10..100).step_by(10)
}

fn tidy(log: &mut Log) -> usize {
    let rounds = std::iter::repeat_with(|| log.tidy()).take_while(|tidied| *tidied).take(1000).count();
    assert!(rounds < 1000, "it ends");
    rounds
}

#[test]
fn one_live_record_does_not_pin_a_segment() {
    let disk = MemoryDisk::new();
    let (mut log, _) = open(&disk);
    pin(&mut log);
    let before = log.usage();
    assert!(tidy(&mut log) > 0);
    let after = log.usage();
    assert!(after.segments <= 4, "{before:?} and {after:?}");
    assert_eq!(after.live_bytes, before.live_bytes);
    for seq in pinned() {
        assert_eq!(read_payload(&log, &id(TRANSIT, seq)).unwrap(), payload(seq, 1000));
    }
    log.close();
    let (mut log, recovered) = open(&disk);
    let found = contents(&log, &recovered);
    for seq in pinned() {
        assert_eq!(found[&id(TRANSIT, seq)], payload(seq, 1000));
        log.release(&[id(TRANSIT, seq)]);
    }
    assert!(recovered.damaged.is_empty() && recovered.broken.is_empty());
}

#[test]
fn a_writer_that_is_never_idle_moves_records_too() {
    let disk = MemoryDisk::new();
    let (mut log, _) = open(&disk);
    for seq in 1..400 {
        commit(&mut log, vec![inline(TRANSIT, seq, &payload(seq, 1000))]);
        if seq % 20 != 0 {
            log.release(&[id(TRANSIT, seq)]);
        }
    }
    let usage = log.usage();
    assert!(usage.used_bytes.0 <= 4 * usage.live_bytes.0 + 3 * (8 << 10), "{usage:?}");
    for seq in (20..400).step_by(20) {
        assert_eq!(read_payload(&log, &id(TRANSIT, seq)).unwrap(), payload(seq, 1000));
    }
}

#[test]
fn a_chunked_record_is_moved_with_the_chunks_that_are_there() {
    let disk = MemoryDisk::new();
    // A segment takes two chunks.
    let options = SpoolOptions { segment_bytes: ByteCount(100 << 10), ..options() };
    let (mut log, _) = open_with(&disk, options.clone());
    let bytes = payload(1, 3 * CHUNK_BYTES + 100);
    let mut batch = chunked(TRANSIT, 1, 1, &bytes);
    let record = batch.pop().unwrap();
    let filler = |seq: u32| inline(TRANSIT, seq, &payload(seq, 65_000));
    // Its chunks lie in three segments, which are mostly garbage but for them.
    for (seq, chunk) in (10..).zip(batch) {
        commit(&mut log, vec![chunk, filler(seq)]);
    }
    commit(&mut log, vec![record]);
    log.release(&(10..14).map(|seq| id(TRANSIT, seq)).collect::<Vec<_>>());
    let (mut rest, mut seq) = (0, 100);
    while tidy(&mut log) > 0 || rest < 3 {
        commit(&mut log, vec![filler(seq)]);
        log.release(&[id(TRANSIT, seq)]);
        (rest, seq) = (rest + 1, seq + 1);
        assert_eq!(read_payload(&log, &id(TRANSIT, 1)).unwrap(), bytes);
    }
    log.close();
    let (mut log, recovered) = open_with(&disk, options);
    assert_eq!(contents(&log, &recovered)[&id(TRANSIT, 1)], bytes);
    let all: Vec<_> = recovered.records.iter().map(|record| record.get().id.clone()).collect();
    log.release(&all);
    assert_eq!(log.usage().live_bytes.0, 0, "what is moved is counted once");
}

#[test]
fn a_payload_that_is_arriving_is_moved_and_goes_on() {
    let disk = MemoryDisk::new();
    let options = SpoolOptions { segment_bytes: ByteCount(400 << 10), ..options() };
    let (mut log, _) = open_with(&disk, options.clone());
    let bytes = payload(1, 2 * CHUNK_BYTES);
    let batch = chunked(TRANSIT, 1, 7, &bytes);
    commit(&mut log, vec![begin(TRANSIT, 1, 7, &bytes), batch[0].clone()]);
    for seq in 10..20 {
        commit(&mut log, vec![inline(TRANSIT, seq, &payload(seq, 60_000))]);
        log.release(&[id(TRANSIT, seq)]);
    }
    let live = log.usage().live_bytes;
    tidy(&mut log);
    assert!(disk.open("0000000000000001.segment").is_err(), "it was moved out of");
    assert_eq!(log.usage().live_bytes, live);
    log.close();
    let (mut log, recovered) = open_with(&disk, options.clone());
    assert_eq!(recovered.transfers[0].arrived, [0]);
    assert_eq!(recovered.transfers[0].transfer, TransferId(7));
    commit(&mut log, batch[1..].to_vec());
    assert_eq!(read_payload(&log, &id(TRANSIT, 1)).unwrap(), bytes);
}

#[test]
fn released_captures_are_not_moved_and_an_archive_is_left_as_it_is() {
    let disk = MemoryDisk::new();
    let hold = SpoolOptions { hold_bytes_max: ByteCount(1 << 30), ..options() };
    let (mut log, _) = open_with(&disk, hold);
    for seq in 1..60 {
        commit(&mut log, vec![inline(OWN, seq, &payload(seq, 1000))]);
    }
    let all_but_one = (2..60).map(|seq| id(OWN, seq)).collect::<Vec<_>>();
    log.release(&all_but_one);
    let used = log.usage().used_bytes;
    assert!(tidy(&mut log) > 0);
    assert!(log.usage().used_bytes.0 < used.0 + 4096, "only the live one was written again");
    assert_eq!(read_payload(&log, &id(OWN, 1)).unwrap(), payload(1, 1000));
    assert!(log.read(&id(OWN, 2)).is_ok(), "it is still held in its place");

    let disk = MemoryDisk::new();
    let (mut archive, _) = open_with(&disk, SpoolOptions { reclaim: false, ..options() });
    commit(&mut archive, (1..60).map(|seq| inline(OWN, seq, &payload(seq, 1000))).collect());
    assert_eq!(tidy(&mut archive), 0);
}

#[test]
fn damage_found_while_moving_keeps_the_segment_and_ends_the_moving() {
    let disk = MemoryDisk::new();
    let (mut log, recovered) = open(&disk);
    assert!(recovered.records.is_empty());
    let place = match commit(&mut log, vec![inline(TRANSIT, 1, &payload(1, 1000))]).pop() {
        Some(estafet_spool::Done::Record(record)) => record.get().record,
        other => panic!("{other:?}"),
    };
    let name = format!("{:016x}.segment", place.generation);
    disk.flip_bit(&name, place.offset as usize + 600, 0);
    for seq in 2..20 {
        commit(&mut log, vec![inline(TRANSIT, seq, &payload(seq, 1000))]);
        log.release(&[id(TRANSIT, seq)]);
    }
    tidy(&mut log);
    assert!(log.poisoned().is_none());
    assert_eq!(log.usage().damaged_segments, 1);
    assert!(disk.open(&name).is_ok(), "it is kept for repair");
}

#[test]
fn a_disk_that_fails_while_records_are_moved_loses_nothing() {
    for step in 1..6 {
        for fault in [Fault::Full, Fault::Broken] {
            let disk = MemoryDisk::new();
            let (mut log, _) = open(&disk);
            pin(&mut log);
            disk.fail_write(step, fault);
            disk.fail_sync(step + 2, fault);
            tidy(&mut log);
            drop(log);
            let (log, recovered) = open(&disk);
            let found = contents(&log, &recovered);
            for seq in pinned() {
                assert_eq!(found[&id(TRANSIT, seq)], payload(seq, 1000), "step {step}");
            }
        }
    }
}

fn own_stored_at(seq: u32, at: u64) -> Append {
    let Append::Record(mut record) = inline(OWN, seq, &payload(seq, 1000)) else { panic!("it is a record") };
    record.stored_at = UnixMillis(at);
    Append::Record(record)
}

#[test]
fn held_captures_go_when_they_are_old() {
    let disk = MemoryDisk::new();
    let hold = SpoolOptions { hold_bytes_max: ByteCount(1 << 30), ..options() };
    let (mut log, _) = open_with(&disk, hold.clone());
    for seq in 1..100 {
        commit(&mut log, vec![own_stored_at(seq, u64::from(seq) * 1000)]);
    }
    let released: Vec<_> = (1..90).map(|seq| id(OWN, seq)).collect();
    log.release(&released);
    log.expire_held(UnixMillis(1000));
    assert!(log.read(&id(OWN, 1)).is_ok(), "nothing is older");
    log.expire_held(UnixMillis(50_000));
    assert_eq!(log.read(&id(OWN, 1)), Err(ReadError::NotHere));
    assert!(log.read(&id(OWN, 50)).is_ok());
    // The same after a restart.
    log.close();
    let (mut log, _) = open_with(&disk, hold);
    log.release(&released);
    assert!(log.read(&id(OWN, 50)).is_ok());
    log.expire_held(UnixMillis(1_000_000));
    assert_eq!(log.read(&id(OWN, 50)), Err(ReadError::NotHere));
    for seq in 90..100 {
        assert_eq!(read_payload(&log, &id(OWN, seq)).unwrap(), payload(seq, 1000), "it is not released");
    }
}

fn folder_bytes(folder: &Path) -> u64 {
    let files = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().metadata().unwrap());
    files.filter(std::fs::Metadata::is_file).map(|file| file.len()).sum()
}

#[test]
fn a_released_spool_takes_hardly_any_disk() {
    let folder = tempfile::tempdir().unwrap();
    let options = SpoolOptions { segment_bytes: ByteCount(256 << 10), spare_segments: 2, ..options() };
    let open = || Log::open(Arc::new(RealDisk::open(folder.path()).unwrap()), options.clone()).unwrap();
    let (mut log, _) = open();
    for seq in 1..=400 {
        commit(&mut log, vec![inline(if seq % 2 == 0 { OWN } else { TRANSIT }, seq, &payload(seq, 10_000))]);
    }
    assert!(folder_bytes(folder.path()) > 4_000_000);
    let all: Vec<_> = (1..=400).map(|seq| id(if seq % 2 == 0 { OWN } else { TRANSIT }, seq)).collect();
    log.release(&all[..399]);
    tidy(&mut log);
    let usage = log.usage();
    assert!(usage.spares <= 2 && usage.segments <= 2, "{usage:?}");
    let spares = 2 * (256 << 10) + 20_000;
    assert!(folder_bytes(folder.path()) <= usage.used_bytes.0 + spares + (256 << 10), "{usage:?}");
    assert_eq!(log.read(&all[399]).unwrap().header.header().id, all[399]);
    log.release(&all);
    assert_eq!(log.usage().live_bytes.0, 0);
    log.close();
    let fewer = SpoolOptions { spare_segments: 0, ..options.clone() };
    let (log, recovered) = Log::open(Arc::new(RealDisk::open(folder.path()).unwrap()), fewer).unwrap();
    assert!(recovered.damaged.is_empty());
    assert_eq!(log.usage().spares, 0);
    log.close();
    assert!(folder_bytes(folder.path()) < 2 * (256 << 10), "{}", folder_bytes(folder.path()));
}

#[test]
fn what_is_live_in_a_young_segment_is_left_to_go_by_itself() {
    let disk = MemoryDisk::new();
    let options = SpoolOptions { young_segments: 2, ..options() };
    let (mut log, _) = open_with(&disk, options);
    let stuck = id(TRANSIT, 1);
    commit(&mut log, vec![inline(TRANSIT, 1, &payload(1, 100))]);
    let mut moved_at = None;
    for seq in 2..12 {
        commit(&mut log, vec![inline(TRANSIT, seq, &payload(seq, 7_000))]);
        log.release(&[id(TRANSIT, seq)]);
        tidy(&mut log);
        if moved_at.is_none() && disk.open("0000000000000001.segment").is_err() {
            moved_at = Some(seq);
        }
    }
    assert_eq!(moved_at, Some(5), "the first segment is young until two more are full");
    assert_eq!(read_payload(&log, &stuck).unwrap(), payload(1, 100));
}
