//! What every disk must do, and what the log must do on every disk. Each behaviour is a test, run over both disks.

use std::io::{ErrorKind, IoSlice};
use std::ops::Deref;
use std::sync::Arc;

use bytes::Bytes;
use estafet_model::{CHUNK_BYTES, ChunkHash, PAYLOAD_BYTES_MAX, PayloadHash, chunk_count, payload_hash_of_chunks};
use estafet_spool::{
    Append, Disk, Done, FailReason, Log, MemoryDisk, Payload, ReadError, ReadPayload, RealDisk, Recovered,
    RecoveredTransfer, Refusal, SpoolOptions, TransferId,
};

use crate::support::{OWN, TRANSIT, begin, chunked, commit, contents, id, inline, options, payload, put, read_payload};

/// A disk, and what has to be kept while it is used.
struct Fixture {
    disk: Arc<dyn Disk>,
    _folder: Option<tempfile::TempDir>,
}

impl Deref for Fixture {
    type Target = dyn Disk;

    fn deref(&self) -> &Self::Target {
        &*self.disk
    }
}

impl Fixture {
    fn memory() -> Self {
        Self { disk: Arc::new(MemoryDisk::new()), _folder: None }
    }

    fn real() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let disk = RealDisk::open(&folder.path().join("a/spool")).unwrap();
        Self { disk: Arc::new(disk), _folder: Some(folder) }
    }

    fn open_log(&self) -> (Log, Recovered) {
        self.open_log_with(options())
    }

    fn open_log_with(&self, options: SpoolOptions) -> (Log, Recovered) {
        Log::open(Arc::clone(&self.disk), options).unwrap()
    }
}

macro_rules! on_both_disks {
    ($($behaviour:ident)*) => {
        mod memory_disk {
            $(#[test] fn $behaviour() { super::$behaviour(&super::Fixture::memory()); })*
        }
        mod real_disk {
            $(#[test] fn $behaviour() { super::$behaviour(&super::Fixture::real()); })*
        }
    };
}

on_both_disks! {
    a_file_reads_back_what_was_written_in_parts
    reading_past_the_end_gives_what_is_there
    creating_an_existing_file_is_refused
    opening_a_missing_file_is_not_found
    an_open_file_outlives_its_name
    a_renamed_file_replaces_the_other
    set_len_cuts_and_extends_with_zeros
    the_list_has_names_and_lengths
    there_is_room_left
    an_empty_log_opens
    outcomes_come_in_order
    records_and_values_survive_closing
    records_survive_without_closing
    a_large_payload_goes_in_chunks
    an_empty_payload_is_a_payload
    an_entry_larger_than_a_segment_is_stored
    a_record_says_what_it_takes_of_the_disk
    chunks_without_a_record_are_garbage
    a_payload_that_was_begun_goes_on_after_a_restart
    an_aborted_payload_leaves_nothing
    a_payload_is_begun_as_its_header_says
    a_record_is_read_by_its_place
    the_last_of_two_records_with_one_id_stays
    what_cannot_be_stored_is_refused_and_nothing_else
    an_unknown_record_is_not_here
    an_archive_scans_only_what_is_new
    other_files_are_left_alone
}

fn a_file_reads_back_what_was_written_in_parts(disk: &Fixture) {
    let file = disk.create("a").unwrap();
    let large = vec![7; 100_000];
    let mut parts: Vec<IoSlice<'_>> = (0..2000).map(|_| IoSlice::new(b"ab")).collect();
    parts.push(IoSlice::new(&[]));
    parts.push(IoSlice::new(&large));
    file.write_at(&mut parts, 3).unwrap();
    file.sync_data().unwrap();
    let mut bytes = vec![1; 3 + 4000 + large.len()];
    assert_eq!(disk.open("a").unwrap().read_at(&mut bytes, 0).unwrap(), bytes.len());
    assert_eq!(&bytes[..7], b"\0\0\0abab");
    assert_eq!(&bytes[4003..], &large);
}

fn reading_past_the_end_gives_what_is_there(disk: &Fixture) {
    let file = disk.create("a").unwrap();
    file.write_at(&mut [IoSlice::new(b"abc")], 0).unwrap();
    let mut bytes = [0; 5];
    assert_eq!(file.read_at(&mut bytes, 1).unwrap(), 2);
    assert_eq!(file.read_at(&mut bytes, 3).unwrap(), 0);
    assert_eq!(file.read_at(&mut bytes, 9).unwrap(), 0);
}

fn creating_an_existing_file_is_refused(disk: &Fixture) {
    disk.create("a").unwrap();
    assert_eq!(disk.create("a").unwrap_err().kind(), ErrorKind::AlreadyExists);
}

fn opening_a_missing_file_is_not_found(disk: &Fixture) {
    assert_eq!(disk.open("a").unwrap_err().kind(), ErrorKind::NotFound);
    assert_eq!(disk.rename("a", "b").unwrap_err().kind(), ErrorKind::NotFound);
    assert_eq!(disk.remove("a").unwrap_err().kind(), ErrorKind::NotFound);
}

fn an_open_file_outlives_its_name(disk: &Fixture) {
    let file = disk.create("a").unwrap();
    file.write_at(&mut [IoSlice::new(b"abc")], 0).unwrap();
    disk.rename("a", "b").unwrap();
    disk.remove("b").unwrap();
    disk.sync_dir().unwrap();
    let mut bytes = [0; 3];
    assert_eq!(file.read_at(&mut bytes, 0).unwrap(), 3);
    assert_eq!(disk.open("b").unwrap_err().kind(), ErrorKind::NotFound);
}

fn a_renamed_file_replaces_the_other(disk: &Fixture) {
    disk.create("a").unwrap().write_at(&mut [IoSlice::new(b"new")], 0).unwrap();
    disk.create("b").unwrap();
    disk.rename("a", "b").unwrap();
    let mut bytes = [0; 3];
    disk.open("b").unwrap().read_at(&mut bytes, 0).unwrap();
    assert_eq!(&bytes, b"new");
    assert_eq!(disk.list().unwrap().len(), 1);
}

fn set_len_cuts_and_extends_with_zeros(disk: &Fixture) {
    let file = disk.create("a").unwrap();
    file.write_at(&mut [IoSlice::new(b"abc")], 0).unwrap();
    file.set_len(1).unwrap();
    file.set_len(3).unwrap();
    let mut bytes = [1; 3];
    assert_eq!(file.read_at(&mut bytes, 0).unwrap(), 3);
    assert_eq!(&bytes, b"a\0\0");
}

fn the_list_has_names_and_lengths(disk: &Fixture) {
    disk.create("b").unwrap();
    disk.create("a").unwrap().set_len(5).unwrap();
    let mut listed: Vec<_> = disk.list().unwrap().into_iter().map(|file| (file.name, file.bytes)).collect();
    listed.sort();
    assert_eq!(listed, [("a".to_owned(), 5), ("b".to_owned(), 0)]);
}

fn there_is_room_left(disk: &Fixture) {
    assert!(disk.free_bytes().unwrap() > 0);
}

fn an_empty_log_opens(disk: &Fixture) {
    for _ in 0..3 {
        let (log, recovered) = disk.open_log();
        assert!(recovered.records.is_empty() && recovered.puts.is_empty() && recovered.damaged.is_empty());
        assert_eq!(recovered.torn_bytes, 0);
        log.close();
    }
}

fn outcomes_come_in_order(disk: &Fixture) {
    let (mut log, _) = disk.open_log();
    let mut batch = chunked(OWN, 1, 1, &payload(1, 3000));
    batch.push(put("k", "v"));
    batch.extend((2..12).map(|seq| inline(OWN, seq, &payload(seq, 2000))));
    let done = commit(&mut log, batch);
    assert_eq!(done[0], Done::Chunk { transfer: TransferId(1), index: 0 });
    assert!(matches!(&done[1], Done::Record(record) if record.get().id == id(OWN, 1)));
    assert_eq!(done[2], Done::Put { key: "k".into() });
    for (seq, done) in (2..12).zip(&done[3..]) {
        assert!(matches!(done, Done::Record(record) if record.get().id == id(OWN, seq)));
    }
}

fn records_and_values_survive_closing(disk: &Fixture) {
    survive(disk, Log::close);
}

fn records_survive_without_closing(disk: &Fixture) {
    survive(disk, drop);
}

fn survive(disk: &Fixture, end: fn(Log)) {
    let (mut log, _) = disk.open_log();
    let mut stored = Vec::new();
    for seq in 1..40 {
        let origin = if seq % 3 == 0 { TRANSIT } else { OWN };
        let batch = vec![inline(origin, seq, &payload(seq, 700)), put("seq", &seq.to_string())];
        for done in commit(&mut log, batch) {
            if let Done::Record(record) = done {
                stored.push(record);
            }
        }
    }
    end(log);
    for _ in 0..3 {
        let (log, recovered) = disk.open_log();
        assert_eq!(recovered.records, stored);
        assert_eq!(recovered.puts, [("seq".into(), "39".into())].into());
        assert!(recovered.damaged.is_empty());
        for record in &stored {
            let record = record.get();
            assert_eq!(record.own, record.id.origin.as_str() == OWN);
            assert_eq!(read_payload(&log, &record.id).unwrap(), payload(record.id.seq.get(), 700));
        }
        end(log);
    }
}

fn a_large_payload_goes_in_chunks(disk: &Fixture) {
    let bytes = payload(1, 3 * CHUNK_BYTES + 17);
    let (mut log, _) = disk.open_log();
    commit(&mut log, chunked(TRANSIT, 1, 5, &bytes));
    commit(&mut log, vec![inline(OWN, 1, &bytes)]);
    for _ in 0..2 {
        let ReadPayload::Chunks(hashes) = log.read(&id(TRANSIT, 1)).unwrap().payload else { panic!("not in chunks") };
        assert_eq!(payload_hash_of_chunks(&hashes), PayloadHash::of(&bytes));
        assert_eq!(read_payload(&log, &id(TRANSIT, 1)).unwrap(), bytes);
        assert_eq!(log.read_chunk(&id(TRANSIT, 1), 4), Err(ReadError::NotHere));
        // An inline payload can be read in chunks too.
        assert_eq!(log.read_chunk(&id(OWN, 1), 3).unwrap(), bytes.slice(3 * CHUNK_BYTES..));
        assert_eq!(log.read_chunk(&id(OWN, 1), 4), Err(ReadError::NotHere));
        log.close();
        log = disk.open_log().0;
    }
}

fn an_empty_payload_is_a_payload(disk: &Fixture) {
    let (mut log, _) = disk.open_log();
    commit(&mut log, vec![inline(OWN, 1, &Bytes::new())]);
    commit(&mut log, chunked(OWN, 2, 1, &Bytes::new()));
    log.close();
    let (log, recovered) = disk.open_log();
    assert_eq!(contents(&log, &recovered), [(id(OWN, 1), Bytes::new()), (id(OWN, 2), Bytes::new())].into());
    assert_eq!(log.read_chunk(&id(OWN, 1), 0).unwrap(), Bytes::new());
    assert_eq!(log.read_chunk(&id(OWN, 1), 1), Err(ReadError::NotHere));
}

fn an_entry_larger_than_a_segment_is_stored(disk: &Fixture) {
    let (mut log, _) = disk.open_log();
    let bytes = payload(1, 50_000);
    commit(
        &mut log,
        vec![put("k", "v"), inline(OWN, 1, &bytes), inline(OWN, 2, &bytes), inline(OWN, 3, &payload(3, 10))],
    );
    drop(log);
    let (log, recovered) = disk.open_log();
    assert_eq!(recovered.records.len(), 3);
    assert_eq!(read_payload(&log, &id(OWN, 2)).unwrap(), bytes);
}

fn a_record_says_what_it_takes_of_the_disk(disk: &Fixture) {
    let (mut log, _) = disk.open_log();
    let mut taken = 0;
    for (seq, length, in_chunks) in [(1, 0, false), (2, 1_000, false), (3, 6_000, false), (4, 200_000, true)] {
        let bytes = payload(seq, length);
        let batch = if in_chunks { chunked(OWN, seq, 1, &bytes) } else { vec![inline(OWN, seq, &bytes)] };
        let Some(Done::Record(stored)) = commit(&mut log, batch).pop() else { panic!("a record is stored") };
        let exactly = log.usage().live_bytes.0 - taken;
        taken += exactly;
        let said = stored.get().disk_bytes().0;
        assert!((exactly - exactly / 100..=exactly).contains(&said), "{said} of {exactly} for {length}");
    }
}

fn chunks_without_a_record_are_garbage(disk: &Fixture) {
    let (mut log, _) = disk.open_log();
    let mut batch = chunked(OWN, 1, 1, &payload(1, 5000));
    let record = batch.pop().unwrap();
    commit(&mut log, batch);
    log.close();
    let (mut log, recovered) = disk.open_log();
    assert!(recovered.records.is_empty());
    assert_eq!(log.usage().live_bytes.0, 0);
    // A transfer means nothing after a restart.
    let outcome = log.commit(vec![record]).remove(0);
    assert_eq!(outcome.unwrap_err().reason, FailReason::Refused(Refusal::PayloadChunks));
}

fn a_payload_that_was_begun_goes_on_after_a_restart(disk: &Fixture) {
    let bytes = payload(1, 3 * CHUNK_BYTES + 5);
    let mut rest = chunked(TRANSIT, 1, 7, &bytes);
    let (mut log, _) = disk.open_log();
    assert_eq!(commit(&mut log, vec![begin(TRANSIT, 1, 7, &bytes)]), [Done::Begin { transfer: TransferId(7) }]);
    // Other payloads keep their own chunks; one chunk comes twice.
    commit(&mut log, vec![begin(TRANSIT, 2, 8, &payload(2, 100))]);
    commit(&mut log, vec![rest[2].clone(), rest[0].clone(), rest[2].clone()]);
    let live = log.usage().live_bytes;
    for end in [Log::close as fn(Log), drop] {
        end(log);
        let (opened, recovered) = disk.open_log();
        log = opened;
        let Append::Begin { header, chunks, .. } = begin(TRANSIT, 1, 7, &bytes) else { panic!("it begins") };
        let expected = RecoveredTransfer { transfer: TransferId(7), header, chunks, arrived: vec![0, 2] };
        assert_eq!(recovered.transfers[0], expected);
        assert_eq!((recovered.transfers[1].transfer, &*recovered.transfers[1].arrived), (TransferId(8), [].as_slice()));
        assert_eq!(recovered.transfers.len(), 2);
        assert_eq!(log.usage().live_bytes, live);
    }
    rest.remove(2);
    rest.remove(0);
    commit(&mut log, rest);
    assert_eq!(read_payload(&log, &id(TRANSIT, 1)).unwrap(), bytes);
    log.close();
    let (log, recovered) = disk.open_log();
    assert_eq!(read_payload(&log, &id(TRANSIT, 1)).unwrap(), bytes);
    assert_eq!(recovered.transfers.len(), 1, "the record is whole: {:?}", recovered.transfers);
}

fn an_aborted_payload_leaves_nothing(disk: &Fixture) {
    let (mut log, _) = disk.open_log();
    let bytes = payload(1, CHUNK_BYTES + 5);
    let mut batch = chunked(TRANSIT, 1, 7, &bytes);
    batch.pop();
    commit(&mut log, vec![begin(TRANSIT, 1, 7, &bytes)]);
    commit(&mut log, batch);
    log.close();
    let (mut log, recovered) = disk.open_log();
    assert_eq!(recovered.transfers[0].arrived, [0, 1]);
    log.abort(TransferId(7));
    assert_eq!(log.usage().live_bytes.0, 0);
    log.close();
    let (_, recovered) = disk.open_log();
    assert!(recovered.transfers.is_empty(), "its room was given back: {:?}", recovered.transfers);
}

fn a_payload_is_begun_as_its_header_says(disk: &Fixture) {
    let (mut log, _) = disk.open_log();
    let bytes = payload(1, 2 * CHUNK_BYTES);
    let begun = |change: fn(&mut Vec<ChunkHash>)| match begin(TRANSIT, 1, 7, &bytes) {
        Append::Begin { transfer, header, mut chunks } => {
            change(&mut chunks);
            Append::Begin { transfer, header, chunks }
        }
        other => other,
    };
    let changes: [fn(&mut Vec<ChunkHash>); 4] =
        [|chunks| chunks.truncate(1), |chunks| chunks.push(chunks[0]), |chunks| chunks.swap(0, 1), Vec::clear];
    let refused = |log: &mut Log, append| {
        let failed = log.commit(vec![append]).remove(0).unwrap_err();
        assert_eq!(failed.reason, FailReason::Refused(Refusal::PayloadChunks));
    };
    for change in changes {
        refused(&mut log, begun(change));
    }
    commit(&mut log, vec![begun(|_| {})]);
    // From now on only its own chunks are taken.
    refused(&mut log, chunked(TRANSIT, 1, 7, &payload(2, 2 * CHUNK_BYTES)).remove(0));
    refused(&mut log, chunked(TRANSIT, 1, 7, &payload(1, 3 * CHUNK_BYTES)).remove(2));
    commit(&mut log, chunked(TRANSIT, 1, 7, &bytes));
    assert_eq!(read_payload(&log, &id(TRANSIT, 1)).unwrap(), bytes);
}

fn a_record_is_read_by_its_place(disk: &Fixture) {
    let (mut log, _) = disk.open_log_with(SpoolOptions { reclaim: false, ..options() });
    let mut places = Vec::new();
    let bytes = payload(1, 3000);
    for seq in 1..10 {
        let done = commit(&mut log, chunked(OWN, seq, u64::from(seq), &bytes)).pop();
        let Some(Done::Record(record)) = done else { panic!("the last is the record") };
        places.push(record.get().record);
    }
    log.close();
    let (log, _) = disk.open_log_with(SpoolOptions { reclaim: false, ..options() });
    for (seq, place) in (1..).zip(places) {
        let record = log.read_extent(place).unwrap();
        assert_eq!(record.header.header().id, id(OWN, seq));
        assert_eq!(log.read_chunk_of(place, 0).unwrap(), bytes);
        let beside = estafet_spool::Extent { offset: place.offset + 8, ..place };
        assert_eq!(log.read_extent(beside), Err(ReadError::Damaged(beside)));
        let elsewhere = estafet_spool::Extent { generation: 1 << 40, ..place };
        assert_eq!(log.read_extent(elsewhere), Err(ReadError::NotHere));
    }
}

fn the_last_of_two_records_with_one_id_stays(disk: &Fixture) {
    let (mut log, _) = disk.open_log();
    commit(&mut log, vec![inline(OWN, 1, &payload(1, 100)), inline(OWN, 2, &payload(2, 100))]);
    commit(&mut log, vec![inline(OWN, 1, &payload(9, 100))]);
    assert_eq!(read_payload(&log, &id(OWN, 1)).unwrap(), payload(9, 100));
    log.close();
    let (log, recovered) = disk.open_log();
    let order: Vec<u32> = recovered.records.iter().map(|record| record.get().id.seq.get()).collect();
    assert_eq!(order, [2, 1]);
    assert_eq!(read_payload(&log, &id(OWN, 1)).unwrap(), payload(9, 100));
}

fn what_cannot_be_stored_is_refused_and_nothing_else(disk: &Fixture) {
    let (mut log, _) = disk.open_log();
    let bytes = payload(1, 100);
    let with = |payload: Payload| match inline(OWN, 7, &bytes) {
        Append::Record(mut record) => {
            record.payload = payload;
            Append::Record(record)
        }
        other => other,
    };
    let chunk = |index: u32, data: Bytes| Append::Chunk {
        transfer: TransferId(3),
        index,
        hash: ChunkHash::of(&data[..data.len().min(10)], 0, 1),
        data,
    };
    let refused = [
        (with(Payload::Inline(bytes.slice(1..))), Refusal::PayloadLength),
        (with(Payload::Transfer(TransferId(3))), Refusal::PayloadChunks),
        (with(Payload::Transfer(TransferId(4))), Refusal::PayloadChunks),
        (chunk(0, payload(1, CHUNK_BYTES + 1)), Refusal::Chunk),
        (chunk(chunk_count(PAYLOAD_BYTES_MAX), payload(1, 1)), Refusal::Chunk),
        (put("k", &"v".repeat(70_000)), Refusal::Puts),
    ];
    // The chunk is as long as the payload but is not it.
    commit(&mut log, vec![chunk(0, payload(5, 100))]);
    for (append, refusal) in refused {
        let outcomes = log.commit(vec![inline(OWN, 1, &bytes), append, inline(OWN, 2, &bytes)]);
        assert!(outcomes[0].is_ok() && outcomes[2].is_ok());
        assert_eq!(outcomes[1].as_ref().unwrap_err().reason, FailReason::Refused(refusal));
    }
    assert!(log.poisoned().is_none());
}

fn an_unknown_record_is_not_here(disk: &Fixture) {
    let (mut log, _) = disk.open_log();
    assert_eq!(log.read(&id(OWN, 1)), Err(ReadError::NotHere));
    log.release(&[id(OWN, 1)]);
    log.abort(TransferId(1));
}

fn an_archive_scans_only_what_is_new(disk: &Fixture) {
    let archive = |scan_from| SpoolOptions { reclaim: false, scan_from, ..options() };
    let (mut log, _) = disk.open_log_with(archive(None));
    for seq in 1..60 {
        commit(&mut log, vec![put("last", &seq.to_string()), inline(TRANSIT, seq, &payload(seq, 900))]);
    }
    log.close();
    let (_, all) = disk.open_log_with(archive(None));
    assert_eq!(all.records.len(), 59);
    let from = all.records[40].get().record.generation;
    let (log, some) = disk.open_log_with(archive(Some(from)));
    let expected: Vec<_> =
        all.records.iter().filter(|record| record.get().record.generation >= from).cloned().collect();
    assert_eq!(some.records, expected);
    assert_eq!(some.puts, all.puts);
    let first = all.records[0].get();
    assert_eq!(log.read_extent(first.record).unwrap().header.header().id, first.id);
    let (_, newest) = disk.open_log_with(archive(Some(u64::MAX)));
    assert!(newest.records.is_empty());
    assert_eq!(newest.puts, all.puts);
}

fn other_files_are_left_alone(disk: &Fixture) {
    disk.create("README").unwrap();
    disk.create("1.segment").unwrap();
    disk.open_log().0.close();
    let names: Vec<_> = disk.list().unwrap().into_iter().map(|file| file.name).collect();
    assert!(names.contains(&"README".to_owned()) && names.contains(&"1.segment".to_owned()), "{names:?}");
}
