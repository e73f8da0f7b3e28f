//! One flipped bit costs one entry.

use std::collections::BTreeMap;

use bytes::Bytes;
use estafet_model::{CHUNK_BYTES, RecordId};
use estafet_spool::{Disk, MemoryDisk, OpenError, ReadError};

use crate::crash::newest_segment;
use crate::support::{OWN, TRANSIT, begin, chunked, commit, id, inline, open, payload, put, read_payload, spoil_table};

/// Some sealed segments with everything in them, and what was stored.
fn sealed_log() -> (MemoryDisk, BTreeMap<RecordId, Bytes>) {
    let disk = MemoryDisk::new();
    let mut stored = BTreeMap::new();
    let (mut log, _) = open(&disk);
    for seq in 1..9 {
        let (small, large) = (payload(seq, 300), payload(seq + 100, 1500));
        commit(&mut log, vec![put("k", &seq.to_string()), inline(OWN, seq, &small)]);
        commit(&mut log, chunked(TRANSIT, seq, u64::from(seq), &large));
        stored.extend([(id(OWN, seq), small), (id(TRANSIT, seq), large)]);
    }
    log.close();
    // Another start, so that the last of them is not the newest.
    open(&disk).0.close();
    (disk, stored)
}

fn first_segment(disk: &MemoryDisk) -> String {
    disk.list().unwrap().into_iter().map(|file| file.name).min().unwrap()
}

#[test]
fn a_flipped_bit_in_sealed_segments_costs_at_most_the_entry_it_hits() {
    let (disk, stored) = sealed_log();
    let newest = newest_segment(&disk).0;
    let mut unreported = 0;
    for file in disk.list().unwrap().into_iter().filter(|file| file.name != newest) {
        for offset in 0..usize::try_from(file.bytes).unwrap() {
            let flipped = disk.copy();
            flipped.flip_bit(&file.name, offset, offset.to_le_bytes()[0] % 8);
            let (log, recovered) = open(&flipped);
            let lost: Vec<_> =
                stored.iter().filter(|(id, bytes)| read_payload(&log, id).as_ref() != Ok(bytes)).collect();
            assert!(lost.len() <= 1, "byte {offset} of {} cost {lost:?}", file.name);
            for (id, _) in lost {
                let listed = recovered.records.iter().any(|record| record.get().id == *id);
                // A record is either recovered, and reading it finds the damage, or not, and that is reported.
                let found_on_reading = listed && matches!(read_payload(&log, id), Err(ReadError::Damaged(_)));
                let reported = !listed && !recovered.damaged.is_empty();
                unreported += usize::from(!found_on_reading && !reported);
            }
            assert_eq!(recovered.puts.get("k".as_bytes()), Some(&"8".into()), "the newest segment repeats the values");
        }
    }
    assert_eq!(unreported, 0);
}

#[test]
fn a_flipped_bit_in_a_segment_without_a_table_is_reported() {
    let (disk, stored) = sealed_log();
    let first = first_segment(&disk);
    let bytes = disk.list().unwrap().into_iter().find(|file| file.name == first).unwrap().bytes;
    spoil_table(&disk, &first);
    for offset in 32..usize::try_from(bytes).unwrap() - 1000 {
        let flipped = disk.copy();
        flipped.flip_bit(&first, offset, offset.to_le_bytes()[0] % 8);
        let (log, recovered) = open(&flipped);
        let lost: Vec<_> = stored.keys().filter(|id| read_payload(&log, id).is_err()).collect();
        assert!(lost.len() <= 1, "byte {offset} cost {lost:?}");
        assert!(lost.is_empty() || !recovered.damaged.is_empty(), "byte {offset} cost {lost:?}, unreported");
        for id in lost {
            assert!(recovered.records.iter().all(|record| record.get().id != *id), "{id} is no whole record");
        }
        for broken in &recovered.broken {
            let id = &broken.record.id;
            assert_eq!(broken.damage.record.as_ref(), Some(id));
            assert_eq!(broken.received_from.is_none(), id.origin.as_str() == OWN);
            assert_eq!(broken.record.payload_bytes as usize, stored[id].len());
        }
    }
}

#[test]
fn a_damaged_segment_is_kept_for_repair_and_reported_each_time() {
    let (disk, stored) = sealed_log();
    let first = first_segment(&disk);
    spoil_table(&disk, &first);
    disk.flip_bit(&first, 40, 0);
    for _ in 0..3 {
        let (mut log, recovered) = open(&disk);
        assert_eq!(recovered.damaged.len(), 1);
        assert_eq!(log.usage().damaged_segments, 1);
        log.release(&stored.keys().cloned().collect::<Vec<_>>());
        commit(&mut log, vec![put("k", "v")]);
        assert!(disk.open(&first).is_ok(), "it is not given back");
        log.close();
    }
}

#[test]
fn damage_that_is_found_by_reading_keeps_its_segment() {
    let (disk, stored) = sealed_log();
    let (mut log, recovered) = open(&disk);
    let place = recovered.records.iter().find(|record| record.get().id == id(OWN, 1)).unwrap().get().record;
    let name = format!("{:016x}.segment", place.generation);
    disk.flip_bit(&name, place.offset as usize + 200, 0);
    assert_eq!(log.usage().damaged_segments, 0);
    assert_eq!(log.read(&id(OWN, 1)), Err(ReadError::Damaged(place)));
    log.release(&stored.keys().cloned().collect::<Vec<_>>());
    assert_eq!(log.usage().damaged_segments, 1);
    assert!(disk.open(&name).is_ok(), "it is not given back");
}

#[test]
fn a_broken_record_is_named_and_heals_when_it_is_stored_again() {
    let (disk, stored) = sealed_log();
    let (log, recovered) = open(&disk);
    let place = |id: &RecordId| recovered.records.iter().find(|record| record.get().id == *id).unwrap().get().record;
    let own = place(&id(OWN, 1));
    log.close();
    // The chunk follows the first own record; its payload is hit. The own record's too.
    let name = format!("{:016x}.segment", own.generation);
    let chunk = (own.offset + own.length).next_multiple_of(8) as usize;
    spoil_table(&disk, &name);
    disk.flip_bit(&name, chunk + 100, 1);
    disk.flip_bit(&name, (own.offset + own.length) as usize - 5, 1);
    for _ in 0..2 {
        let (log, recovered) = open(&disk);
        let broken: Vec<_> = recovered.broken.iter().map(|broken| broken.record.id.clone()).collect();
        assert_eq!(broken, [id(OWN, 1), id(TRANSIT, 1)]);
        let damages = recovered.broken.iter().map(|broken| (broken.damage.offset, broken.damage.what));
        let expected = [(own.offset, "a payload"), (u32::try_from(chunk).unwrap(), "a chunk of a record")];
        assert_eq!(damages.collect::<Vec<_>>(), expected);
        assert!(recovered.damaged.iter().any(|damage| damage.record == Some(id(TRANSIT, 1))));
        assert!(recovered.records.iter().all(|record| !broken.contains(&record.get().id)));
        log.close();
    }
    let (mut log, _) = open(&disk);
    let live = log.usage().live_bytes;
    commit(&mut log, chunked(TRANSIT, 1, 900, &stored[&id(TRANSIT, 1)]));
    commit(&mut log, vec![inline(OWN, 1, &stored[&id(OWN, 1)])]);
    assert_eq!(read_payload(&log, &id(TRANSIT, 1)).as_ref(), Ok(&stored[&id(TRANSIT, 1)]));
    let again = log.usage().live_bytes;
    assert!(again > live);
    log.close();
    let (log, recovered) = open(&disk);
    assert_eq!(recovered.broken, []);
    assert!(recovered.damaged.iter().all(|damage| damage.record.is_none()), "{:?}", recovered.damaged);
    assert_eq!(log.usage().live_bytes, again);
    assert_eq!(recovered.records.len(), stored.len());
}

#[test]
fn a_damaged_chunk_of_an_arriving_payload_is_one_to_fetch_again() {
    let disk = MemoryDisk::new();
    let bytes = payload(1, 3 * CHUNK_BYTES);
    let (mut log, _) = open(&disk);
    commit(&mut log, vec![begin(TRANSIT, 1, 7, &bytes)]);
    let mut chunks = chunked(TRANSIT, 1, 7, &bytes);
    let record = chunks.pop().unwrap();
    for chunk in &chunks {
        commit(&mut log, vec![chunk.clone()]);
    }
    log.close();
    // Each chunk fills a segment. The meta of the second is hit.
    let holds_a_chunk = |file: &estafet_spool::Listed| file.bytes > CHUNK_BYTES as u64;
    let mut files: Vec<_> = disk.list().unwrap().into_iter().filter(holds_a_chunk).map(|file| file.name).collect();
    files.sort();
    disk.flip_bit(&files[1], 32 + 24 + 3, 0);
    let (mut log, recovered) = open(&disk);
    assert_eq!(recovered.transfers[0].arrived, [0, 2]);
    assert_eq!(recovered.damaged.len(), 1, "{:?}", recovered.damaged);
    commit(&mut log, vec![chunks[1].clone(), record]);
    assert_eq!(read_payload(&log, &id(TRANSIT, 1)).unwrap(), bytes);
}

#[test]
fn an_unreadable_piece_costs_what_is_in_it() {
    let (disk, stored) = sealed_log();
    let first = first_segment(&disk);
    disk.make_unreadable(&first, 4096..4608);
    let (log, recovered) = open(&disk);
    let lost = stored.iter().filter(|(id, bytes)| read_payload(&log, id).as_ref() != Ok(bytes)).count();
    assert!((1..=4).contains(&lost), "{lost} records are lost");
    assert!(recovered.damaged.is_empty(), "what is sealed is not read when opening");
    drop(log);
    spoil_table(&disk, &first);
    let (_, recovered) = open(&disk);
    assert!(!recovered.damaged.is_empty());
}

#[test]
fn damage_within_the_newest_segment_is_no_torn_tail() {
    let disk = MemoryDisk::new();
    let (mut log, _) = open(&disk);
    for seq in 1..6 {
        commit(&mut log, vec![inline(OWN, seq, &payload(seq, 200))]);
    }
    drop(log);
    let (name, _) = newest_segment(&disk);
    let (mut missing, mut cut) = (0, 0);
    for offset in 32..2500 {
        let flipped = disk.copy();
        flipped.flip_bit(&name, offset, 3);
        let (_, recovered) = open(&flipped);
        assert!(recovered.records.len() >= 4, "byte {offset} cost {} records", 5 - recovered.records.len());
        missing += usize::from(recovered.records.len() == 4);
        // Only the last record looks like one that was being written.
        cut += usize::from(recovered.records.len() == 4 && recovered.damaged.is_empty());
    }
    assert!(cut > 0 && cut * 4 <= missing, "{cut} of {missing} were taken for torn");
}

#[test]
fn a_newer_format_is_left_alone() {
    let disk = MemoryDisk::new();
    let file = disk.create("0000000000000001.segment").unwrap();
    let mut header = *b"EstSpool\0\0\0\x03\0\0\0\0\0\0\0\0\0\0\0\x01\0\0\0\0\0\0\0\0";
    let checksum = crc32c::crc32c(&header[..28]);
    header[28..].copy_from_slice(&checksum.to_be_bytes());
    file.write_at(&mut [std::io::IoSlice::new(&header)], 0).unwrap();
    let opened = estafet_spool::Log::open(std::sync::Arc::new(disk.clone()), crate::support::options());
    assert!(matches!(opened, Err(OpenError::Newer { version: 3, .. })));
    assert_eq!(disk.list().unwrap().len(), 1);
}

#[test]
fn noise_opens_as_damage() {
    let mut seed = 1u64;
    for _ in 0..50 {
        let disk = MemoryDisk::new();
        for name in ["0000000000000001.segment", "0000000000000002.segment", "0000000000000003.spare"] {
            let noise: Vec<u8> = std::iter::repeat_with(|| {
                seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                seed.to_be_bytes()[0]
            })
            .take(5000)
            .collect();
            disk.create(name).unwrap().write_at(&mut [std::io::IoSlice::new(&noise)], 0).unwrap();
        }
        let (mut log, recovered) = open(&disk);
        assert!(!recovered.damaged.is_empty() && recovered.records.is_empty());
        commit(&mut log, vec![inline(OWN, 1, &payload(1, 10))]);
    }
}

#[test]
fn a_name_that_leaves_no_room_for_more_segments_is_refused_at_once() {
    for generation in [u64::MAX, u64::MAX - 1, u64::MAX / 2] {
        let disk = MemoryDisk::new();
        disk.create(&format!("{generation:016x}.segment")).unwrap();
        let opened = estafet_spool::Log::open(std::sync::Arc::new(disk), crate::support::options());
        assert!(matches!(opened, Err(OpenError::Exhausted)), "{generation:016x}");
    }
}
