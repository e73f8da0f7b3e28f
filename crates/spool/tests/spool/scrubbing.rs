//! Damage is found before anybody reads what it hit.

use estafet_model::{CHUNK_BYTES, RecordId};
use estafet_spool::{Done, Extent, Log, MemoryDisk, SpoolOptions};

use crate::support::{TRANSIT, chunked, commit, id, inline, open_with, options, payload};

const CHUNKED: u32 = 5;

/// Records over several segments, one of them in chunks, and where each is.
fn filled(disk: &MemoryDisk, options: SpoolOptions) -> (Log, Vec<Extent>) {
    let (mut log, _) = open_with(disk, options);
    let mut places = Vec::new();
    for seq in 1..=20 {
        let batch = if seq == CHUNKED {
            chunked(TRANSIT, seq, 1, &payload(seq, CHUNK_BYTES + 100))
        } else {
            vec![inline(TRANSIT, seq, &payload(seq, 1500))]
        };
        let stored = commit(&mut log, batch).into_iter().filter_map(|done| match done {
            Done::Record(record) => Some(record.get().record),
            _ => None,
        });
        places.extend(stored);
    }
    (log, places)
}

/// All that is found unreadable in complete segments.
fn found(log: &Log) -> Vec<RecordId> {
    let segments = log.complete_segments().unwrap();
    assert!(segments.len() > 2);
    segments.into_iter().flat_map(|segment| log.scrub(segment).broken).map(|(id, _)| id).collect()
}

#[test]
fn a_flipped_bit_anywhere_in_a_record_is_found_and_named() {
    for reclaim in [true, false] {
        let options = SpoolOptions { reclaim, ..options() };
        let (_, places) = filled(&MemoryDisk::new(), options.clone());
        for (seq, place) in (1..).zip(&places[..12]) {
            // In the head, in the meta, in the payload if it is there.
            for part in [8, place.length / 3, place.length - 1] {
                let disk = MemoryDisk::new();
                let (log, _) = filled(&disk, options.clone());
                assert_eq!(found(&log), []);
                disk.flip_bit(&place.file_name(), (place.offset + part) as usize, 3);
                assert_eq!(found(&log), [id(TRANSIT, seq)], "byte {part}");
            }
        }
    }
}

#[test]
fn a_flipped_bit_in_a_chunk_is_found_with_its_record() {
    let disk = MemoryDisk::new();
    let (log, places) = filled(&disk, options());
    let record = places[CHUNKED as usize - 1];
    // Its last chunk lies before it.
    disk.flip_bit(&record.file_name(), record.offset as usize - 50, 3);
    assert_eq!(found(&log), [id(TRANSIT, CHUNKED)]);
}

#[test]
fn damage_in_what_was_released_is_nobodys_loss() {
    let disk = MemoryDisk::new();
    let (mut log, places) = filled(&disk, options());
    log.release(&[id(TRANSIT, 2)]);
    disk.flip_bit(&places[1].file_name(), places[1].offset as usize + 40, 3);
    assert_eq!(found(&log), []);
}

#[test]
fn live_records_of_a_segment_without_a_table_are_named_even_if_nothing_else_names_them() {
    let disk = MemoryDisk::new();
    let (log, places) = filled(&disk, options());
    crate::support::spoil_table(&disk, &places[1].file_name());
    disk.flip_bit(&places[1].file_name(), places[1].offset as usize + 8, 3);
    assert_eq!(found(&log), [id(TRANSIT, 2)]);
}
