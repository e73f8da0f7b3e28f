//! Room is given back and used again; nothing old comes back with it.

use estafet_model::ByteCount;
use estafet_spool::{Disk, Log, MemoryDisk, Payload, ReadError, SpoolOptions, TransferId, Unsynced};

use crate::support::{
    OWN, TRANSIT, chunked, commit, contents, id, inline, open, open_with, options, payload, put, read_payload,
};

fn names(disk: &MemoryDisk) -> Vec<String> {
    disk.list().unwrap().into_iter().map(|file| file.name).collect()
}

/// Stores and releases as many records as fill some segments.
fn churn(log: &mut Log, origin: &str, seqs: std::ops::Range<u32>) {
    for seq in seqs {
        commit(log, vec![inline(origin, seq, &payload(seq, 1000))]);
        log.release(&[id(origin, seq)]);
    }
}

#[test]
fn a_steady_flow_needs_no_more_room() {
    let disk = MemoryDisk::new();
    let (mut log, _) = open(&disk);
    churn(&mut log, TRANSIT, 1..30);
    let files = names(&disk).len();
    let used = log.usage().used_bytes;
    churn(&mut log, TRANSIT, 30..300);
    assert!(names(&disk).len() <= files.max(3), "{:?}", names(&disk));
    assert!(log.usage().used_bytes <= used + ByteCount(8 << 10));
}

#[test]
fn recycled_bytes_do_not_come_back_to_life() {
    let disk = MemoryDisk::new();
    let (mut log, _) = open(&disk);
    churn(&mut log, TRANSIT, 1..100);
    commit(&mut log, vec![inline(OWN, 1, &payload(1, 100))]);
    drop(log);
    for unsynced in [Unsynced::Kept, Unsynced::Dropped, Unsynced::Torn(3)] {
        let (log, recovered) = open(&disk.power_cut(unsynced));
        // At most what is in the newest segments, which were not given back.
        for record in &recovered.records {
            let seq = record.get().id.seq.get();
            assert!(record.get().id == id(OWN, 1) || seq > 85, "{seq} is back");
        }
        assert_eq!(read_payload(&log, &id(OWN, 1)).unwrap(), payload(1, 100));
        assert!(recovered.damaged.is_empty());
    }
}

#[test]
fn a_spare_beside_the_segment_of_its_name_does_not_stop_the_log() {
    let disk = MemoryDisk::new();
    let options = SpoolOptions { spare_segments: 8, ..options() };
    let (mut log, _) = open_with(&disk, options.clone());
    for seq in 1..20 {
        commit(&mut log, vec![inline(TRANSIT, seq, &payload(seq, 1000))]);
    }
    drop(log);
    for segment in names(&disk).iter().filter_map(|name| name.strip_suffix(".segment")) {
        if let Ok(file) = disk.create(&format!("{segment}.spare")) {
            file.set_len(8 << 10).unwrap();
        }
    }
    let (mut log, _) = open_with(&disk, options);
    log.release(&(1..20).map(|seq| id(TRANSIT, seq)).collect::<Vec<_>>());
    for seq in 20..120 {
        commit(&mut log, vec![inline(TRANSIT, seq, &payload(seq, 1000))]);
    }
}

#[test]
fn values_survive_recycling() {
    let disk = MemoryDisk::new();
    let (mut log, _) = open(&disk);
    commit(&mut log, vec![put("epoch", "1"), put("receipt", "old")]);
    commit(&mut log, vec![put("receipt", "new")]);
    churn(&mut log, TRANSIT, 1..200);
    drop(log);
    for unsynced in [Unsynced::Kept, Unsynced::Dropped, Unsynced::Torn(1), Unsynced::Torn(2)] {
        let (log, recovered) = open(&disk.power_cut(unsynced));
        assert_eq!(recovered.puts, [("epoch".into(), "1".into()), ("receipt".into(), "new".into())].into());
        log.close();
    }
}

#[test]
fn own_captures_are_held_up_to_the_bound_oldest_given_back_first() {
    let disk = MemoryDisk::new();
    let hold = SpoolOptions { hold_bytes_max: ByteCount(24 << 10), ..options() };
    let (mut log, _) = open_with(&disk, hold);
    churn(&mut log, OWN, 1..100);
    assert_eq!(log.read(&id(OWN, 1)), Err(ReadError::NotHere));
    assert_eq!(read_payload(&log, &id(OWN, 85)).unwrap(), payload(85, 1000));
    let held = (1..100).filter(|seq| log.read(&id(OWN, *seq)).is_ok()).count();
    assert!((15..35).contains(&held), "{held} records are held");
}

#[test]
fn held_captures_give_way_when_there_is_no_other_room() {
    let disk = MemoryDisk::new();
    let tight = SpoolOptions { hold_bytes_max: ByteCount(1 << 30), bytes_max: ByteCount(40 << 10), ..options() };
    let (mut log, _) = open_with(&disk, tight);
    churn(&mut log, OWN, 1..100);
    assert!(log.usage().used_bytes <= ByteCount(40 << 10));
    assert!(log.usage().free_bytes > ByteCount(20 << 10), "{:?}", log.usage());
    assert!(log.read(&id(OWN, 85)).is_ok());
}

#[test]
fn unreleased_records_are_never_given_back() {
    let disk = MemoryDisk::new();
    let (mut log, _) = open(&disk);
    for seq in 1..100 {
        commit(&mut log, vec![inline(TRANSIT, seq, &payload(seq, 1000))]);
        if seq % 10 != 0 {
            log.release(&[id(TRANSIT, seq), id(TRANSIT, seq)]);
        }
    }
    for seq in (10..100).step_by(10) {
        assert_eq!(read_payload(&log, &id(TRANSIT, seq)).unwrap(), payload(seq, 1000));
    }
}

#[test]
fn chunks_go_with_their_record_or_their_transfer() {
    let disk = MemoryDisk::new();
    let (mut log, _) = open(&disk);
    for seq in 1..50 {
        commit(&mut log, chunked(TRANSIT, seq, u64::from(seq), &payload(seq, 3000)));
        let mut unfinished = chunked(TRANSIT, 1000, 1000 + u64::from(seq), &payload(seq, 3000));
        unfinished.pop();
        commit(&mut log, unfinished);
        log.abort(TransferId(1000 + u64::from(seq)));
        if seq != 7 {
            log.release(&[id(TRANSIT, seq)]);
        }
    }
    assert_eq!(read_payload(&log, &id(TRANSIT, 7)).unwrap(), payload(7, 3000));
    assert!(log.usage().segments <= 4, "{:?}", log.usage());
    log.close();
    let (log, recovered) = open(&disk);
    assert_eq!(contents(&log, &recovered)[&id(TRANSIT, 7)], payload(7, 3000));
}

#[test]
fn a_released_record_whose_chunks_are_gone_is_not_recovered() {
    let disk = MemoryDisk::new();
    let (mut log, _) = open(&disk);
    let mut batch = chunked(TRANSIT, 1, 1, &payload(1, 7000));
    let record = batch.pop().unwrap();
    commit(&mut log, batch);
    // The record's entry shares its segment with one that stays.
    commit(&mut log, vec![inline(TRANSIT, 2, &payload(2, 3000)), record]);
    log.release(&[id(TRANSIT, 1)]);
    commit(&mut log, vec![inline(TRANSIT, 3, &payload(3, 7000))]);
    assert!(matches!(log.read_chunk(&id(TRANSIT, 1), 0), Err(ReadError::NotHere)));
    log.close();
    let (_, recovered) = open(&disk);
    assert_eq!(recovered.records.iter().map(|record| record.get().id.seq.get()).collect::<Vec<_>>(), [2, 3]);
    assert!(recovered.damaged.is_empty());
}

#[test]
fn a_chunk_sent_twice_replaces_the_first() {
    let disk = MemoryDisk::new();
    let (mut log, _) = open(&disk);
    let bytes = payload(1, 3000);
    let mut batch = chunked(TRANSIT, 1, 1, &bytes);
    batch.insert(0, batch[0].clone());
    commit(&mut log, batch);
    assert_eq!(read_payload(&log, &id(TRANSIT, 1)).unwrap(), bytes);
    log.release(&[id(TRANSIT, 1)]);
    assert_eq!(log.usage().live_bytes, ByteCount(0));
}

#[test]
fn an_archive_gives_nothing_back() {
    let disk = MemoryDisk::new();
    let (mut log, _) = open_with(&disk, SpoolOptions { reclaim: false, ..options() });
    churn(&mut log, TRANSIT, 1..50);
    log.close();
    let (_, recovered) = open_with(&disk, SpoolOptions { reclaim: false, ..options() });
    assert_eq!(recovered.records.len(), 49);
}

#[test]
fn a_payload_replaced_under_its_transfer_is_refused() {
    let disk = MemoryDisk::new();
    let (mut log, _) = open(&disk);
    let mut batch = chunked(TRANSIT, 1, 1, &payload(1, 3000));
    let record = batch.pop().unwrap();
    let mut other = chunked(TRANSIT, 2, 1, &payload(2, 3000));
    other.pop();
    commit(&mut log, batch);
    commit(&mut log, other);
    assert!(log.commit(vec![record.clone()]).remove(0).is_err());
    assert!(matches!(record, estafet_spool::Append::Record(record) if matches!(record.payload, Payload::Transfer(_))));
}
