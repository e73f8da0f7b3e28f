//! Every byte of a small store is hit, every file is cut off and deleted: at most what was hit is lost, the survey
//! names it, and a repair keeps all the rest.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::Bytes;
use estafet_model::{ByteCount, CHUNK_BYTES, RecordId};
use estafet_spool::{Disk, Log, MemoryDisk, RealDisk, Repair, SpoolOptions, Survey, TransferId, Unsynced};

use crate::crash::newest_segment;
use crate::support::{
    OWN, TRANSIT, begin, chunked, commit, contents, id, inline, open_with, payload, put, read_payload,
};

type Stored = BTreeMap<RecordId, Bytes>;

fn options() -> SpoolOptions {
    SpoolOptions { segment_bytes: ByteCount(4 << 10), ..crate::support::options() }
}

fn open(disk: &MemoryDisk) -> (Log, estafet_spool::Recovered) {
    open_with(disk, options())
}

/// A store with everything in it: small and chunked records, an earlier copy, values, a payload that is arriving,
/// spares, and a newest segment that was not closed.
fn store() -> (MemoryDisk, Stored) {
    let disk = MemoryDisk::new();
    let (mut log, _) = open(&disk);
    let mut stored = Stored::new();
    for seq in 50..60 {
        commit(&mut log, vec![inline(TRANSIT, seq, &payload(seq, 900))]);
    }
    // The first of the captures has an earlier copy.
    commit(&mut log, vec![inline(OWN, 1, &payload(1, 120))]);
    for seq in 1..4 {
        let (small, large) = (payload(seq, 120), payload(seq + 100, 300));
        commit(&mut log, vec![put("count", &seq.to_string()), inline(OWN, seq, &small)]);
        commit(&mut log, chunked(TRANSIT, seq, u64::from(seq), &large));
        stored.extend([(id(OWN, seq), small), (id(TRANSIT, seq), large)]);
    }
    let arriving = payload(7, 200);
    commit(&mut log, vec![begin(TRANSIT, 9, 77, &arriving)]);
    let mut chunk = chunked(TRANSIT, 9, 77, &arriving);
    chunk.pop();
    commit(&mut log, chunk);
    log.close();
    let (mut log, _) = open(&disk);
    log.release(&(50..60).map(|seq| id(TRANSIT, seq)).collect::<Vec<_>>());
    for seq in 4..6 {
        let small = payload(seq, 80);
        commit(&mut log, vec![inline(OWN, seq, &small)]);
        stored.insert(id(OWN, seq), small);
    }
    drop(log);
    let names: Vec<_> = disk.list().unwrap().into_iter().map(|file| file.name).collect();
    assert!(names.iter().any(|name| name.ends_with("spare")) && names.len() >= 4, "{names:?}");
    (disk, stored)
}

fn id_with_earlier_copy() -> RecordId {
    id(OWN, 1)
}

fn survey(disk: &MemoryDisk) -> Survey {
    Survey::of(Arc::new(disk.clone())).unwrap()
}

fn repair(disk: &MemoryDisk) -> Repair {
    let arc: Arc<dyn Disk> = Arc::new(disk.clone());
    Repair::of(&arc, &survey(disk)).unwrap()
}

/// What of the store is not served byte for byte.
fn missing(log: &Log, stored: &Stored) -> BTreeSet<RecordId> {
    let served = |(id, bytes): &(&RecordId, &Bytes)| read_payload(log, id).as_ref() == Ok(*bytes);
    stored.iter().filter(|it| !served(it)).map(|(id, _)| id.clone()).collect()
}

/// Opens, surveys and repairs a damaged store; `named` if what is lost must be named.
fn operate(disk: &MemoryDisk, stored: &Stored, named: bool, context: &str) {
    let (log, recovered) = open(&disk.copy());
    let lost = missing(&log, stored);
    let silent: Vec<_> = lost.iter().filter(|id| log.read(id).is_ok() && log.read_chunk(id, 0).is_ok()).collect();
    assert!(silent.is_empty(), "{context}: {silent:?} are served wrong");
    for id in &lost {
        let listed = recovered.records.iter().any(|record| record.get().id == *id);
        let reported = !recovered.damaged.is_empty() || recovered.torn_bytes > 0;
        assert!(listed || reported || !named, "{context}: {id} is lost, and nothing is said of it");
    }
    drop(log);

    let found = survey(disk);
    for id in &lost {
        // It may have an earlier copy, which is served again once the damaged one is put aside.
        let earlier = found.ids().any(|whole| whole == id);
        assert!(earlier || found.lost.contains(id) || !named, "{context}: {id} is not named");
    }
    let of_interest: BTreeSet<_> = found.lost.iter().filter(|id| stored.contains_key(id)).cloned().collect();
    assert!(of_interest.is_subset(&lost), "{context}: {of_interest:?} are not lost");

    let repaired = disk.copy();
    let report = repair(&repaired);
    assert_eq!(report.lost, found.lost, "{context}");
    assert!(survey(&repaired).is_clean(), "{context}: {:?}", survey(&repaired).damage);
    assert_eq!(repair(&repaired), Repair::default(), "{context}: a repair is done once");
    let (log, recovered) = open(&repaired);
    let missing = missing(&log, stored);
    assert!(missing.is_subset(&lost), "{context}: {missing:?} were served before");
    assert!(missing == of_interest || !named, "{context}: {missing:?}, {of_interest:?}");
    assert!(recovered.damaged.is_empty(), "{context}: {:?}", recovered.damaged);
}

#[test]
fn a_whole_store_is_clean() {
    let (disk, stored) = store();
    let found = survey(&disk);
    assert!(found.is_clean(), "{:?} {:?}", found.damage, found.lost);
    for (id, bytes) in &stored {
        assert_eq!(found.read(id).unwrap().1, bytes, "{id}");
    }
    let counted: u64 = found.records.values().map(estafet_model::SeqRanges::count).sum();
    assert_eq!(usize::try_from(counted).unwrap(), found.ids().count());
    assert_eq!(found.values["count".as_bytes()], "3");
    let [transfer] = found.transfers.as_slice() else { panic!("{:?}", found.transfers) };
    assert_eq!((transfer.transfer, transfer.chunks, transfer.arrived), (TransferId(77), 1, 1));
    assert_eq!(found.segments.values().filter(|segment| !segment.sealed).count(), 1, "the newest");
    let garbage: u64 = found.segments.values().map(|segment| segment.garbage_bytes).sum();
    assert!(garbage > 0, "the earlier copy and the earlier values");
    assert_eq!(repair(&disk), Repair::default());
    let before: Vec<_> = disk.list().unwrap();
    survey(&disk);
    assert_eq!(disk.list().unwrap(), before, "a survey changes nothing");
}

#[test]
fn a_flipped_bit_anywhere_costs_at_most_the_record_it_hits() {
    let (disk, stored) = store();
    let newest = newest_segment(&disk).0;
    let (mut lost_by_some, mut swept) = (BTreeSet::new(), 0);
    for file in disk.list().unwrap() {
        // Spares hold nothing; a few of their bytes will do.
        let step = if file.name.ends_with("spare") { 97 } else { 1 };
        for offset in (0..usize::try_from(file.bytes).unwrap()).step_by(step) {
            let context = format!("byte {offset} of {}", file.name);
            let flipped = disk.copy();
            flipped.flip_bit(&file.name, offset, offset.to_le_bytes()[0] % 8);
            let lost = missing(&open(&flipped.copy()).0, &stored);
            if file.name != newest {
                let named = survey(&flipped).lost;
                let whole = |id: &RecordId| *id == id_with_earlier_copy();
                assert!(lost.iter().all(|id| named.contains(id) || whole(id)), "{context} cost {lost:?}, unnamed");
            }
            assert!(lost.len() <= 1, "{context} cost {lost:?}");
            lost_by_some.extend(lost.iter().cloned());
            swept += 1;
            // A few bytes apart the same entry is hit.
            if offset % 5 == 0 || file.name == newest {
                // What hits the first bytes of the last entry of all makes it look as if it was never written.
                operate(&flipped, &stored, file.name != newest, &context);
            }
        }
    }
    assert!(swept > 5000 && lost_by_some.len() == stored.len(), "{swept} {lost_by_some:?}");
}

#[test]
fn a_file_that_is_cut_off_costs_what_was_behind() {
    let (disk, stored) = store();
    let newest = newest_segment(&disk).0;
    for file in disk.list().unwrap() {
        for length in (0..file.bytes).step_by(61).chain([file.bytes - 1]) {
            let cut = disk.copy();
            Disk::open(&cut, &file.name).unwrap().set_len(length).unwrap();
            // The newest looks as if the power had gone then. Of the others the table is gone too, so that what was
            // behind cannot be named, but that something is missing is said.
            operate(&cut, &stored, false, &format!("{} cut off at {length}", file.name));
            let (_, recovered) = open(&cut.copy());
            let told = !recovered.damaged.is_empty() || file.name == newest || file.name.ends_with("spare");
            assert!(told, "{} cut off at {length}", file.name);
        }
    }
}

#[test]
fn a_deleted_file_costs_what_was_in_it() {
    let (disk, stored) = store();
    for file in disk.list().unwrap() {
        let gone = disk.copy();
        gone.remove(&file.name).unwrap();
        operate(&gone, &stored, false, &format!("without {}", file.name));
    }
}

#[test]
fn what_the_table_knows_is_named_even_if_its_head_is_damaged() {
    let (disk, _) = store();
    let (log, recovered) = open(&disk.copy());
    drop(log);
    let record = recovered.records.iter().find(|record| record.get().id == id(OWN, 2)).unwrap().get();
    let name = format!("{:016x}.segment", record.record.generation);
    disk.flip_bit(&name, record.record.offset as usize + 1, 0);
    let found = survey(&disk);
    assert_eq!(found.lost, [id(OWN, 2)].into());
    let [damage] = found.damage.as_slice() else { panic!("{:?}", found.damage) };
    assert_eq!((damage.generation, damage.offset), (record.record.generation, record.record.offset));
    assert_eq!(damage.record, Some(id(OWN, 2)));
}

#[test]
fn an_earlier_whole_copy_is_saved_when_the_later_one_is_damaged() {
    let disk = MemoryDisk::new();
    let (mut log, _) = open(&disk);
    commit(&mut log, vec![inline(OWN, 1, &payload(1, 100)), inline(OWN, 2, &payload(2, 100))]);
    log.close();
    let (mut log, _) = open(&disk);
    commit(&mut log, vec![inline(OWN, 1, &payload(1, 100))]);
    log.close();
    let (log, recovered) = open(&disk);
    let later = recovered.records.iter().find(|record| record.get().id == id(OWN, 1)).unwrap().get().record;
    log.close();
    disk.flip_bit(&format!("{:016x}.segment", later.generation), (later.offset + later.length) as usize - 3, 0);
    let report = repair(&disk);
    assert_eq!(report.lost, BTreeSet::new());
    let (log, _) = open(&disk);
    assert_eq!(read_payload(&log, &id(OWN, 1)).unwrap(), payload(1, 100));
}

#[test]
fn a_payload_that_is_arriving_outlives_a_repair() {
    let disk = MemoryDisk::new();
    let bytes = payload(1, 2 * CHUNK_BYTES);
    let (mut log, _) = open(&disk);
    let batch = chunked(TRANSIT, 1, 7, &bytes);
    let first = inline(OWN, 1, &payload(1, 100));
    commit(&mut log, vec![first, begin(TRANSIT, 1, 7, &bytes)]);
    commit(&mut log, vec![batch[1].clone()]);
    log.close();
    let names: Vec<_> = disk.list().unwrap().into_iter().map(|file| file.name).collect();
    disk.flip_bit(&names[0], 60, 0);
    disk.flip_bit(names.last().unwrap(), 3, 0);
    let report = repair(&disk);
    assert_eq!((report.transfers, report.put_aside.len()), ([TransferId(7)].into(), 2));
    let (mut log, recovered) = open(&disk);
    assert_eq!(recovered.transfers[0].arrived, [1]);
    commit(&mut log, vec![batch[0].clone(), batch[2].clone()]);
    assert_eq!(read_payload(&log, &id(TRANSIT, 1)).unwrap(), bytes);
}

#[test]
fn a_power_cut_at_any_moment_of_a_repair_loses_nothing_whole() {
    let (start, stored) = store();
    let (log, recovered) = open(&start.copy());
    drop(log);
    let hit = recovered.records.iter().find(|record| record.get().id == id(OWN, 1)).unwrap().get().record;
    start.flip_bit(&format!("{:016x}.segment", hit.generation), (hit.offset + hit.length) as usize - 1, 0);
    let lost: BTreeSet<RecordId> = [id(OWN, 1)].into();
    let disk = start.copy();
    disk.record_journal();
    repair(&disk);
    let replayed = start.copy();
    for (moment, operation) in disk.journal().into_iter().enumerate() {
        replayed.replay(operation);
        let torn = (0..8).map(|seed| Unsynced::Torn(moment as u64 * 31 + seed));
        for unsynced in [Unsynced::Kept, Unsynced::Dropped].into_iter().chain(torn) {
            let context = format!("after operation {moment}, {unsynced:?}");
            let cut = replayed.power_cut(unsynced);
            // An earlier copy comes to light once the file with the later, damaged one is put aside.
            let of_interest: Stored = stored.clone().into_iter().filter(|(id, _)| !lost.contains(id)).collect();
            assert_eq!(missing(&open(&cut.copy()).0, &of_interest), BTreeSet::new(), "{context}");
            repair(&cut);
            assert!(survey(&cut).is_clean(), "{context}");
            assert_eq!(missing(&open(&cut).0, &of_interest), BTreeSet::new(), "{context}, repaired");
        }
    }
}

#[test]
fn a_damaged_file_is_put_aside_in_a_folder() {
    let folder = tempfile::tempdir().unwrap();
    let disk: Arc<dyn Disk> = Arc::new(RealDisk::open(folder.path()).unwrap());
    let (mut log, _) = Log::open(Arc::clone(&disk), options()).unwrap();
    commit(&mut log, (1..20).map(|seq| inline(OWN, seq, &payload(seq, 500))).collect());
    log.close();
    let name = "0000000000000002.segment";
    let path = folder.path().join(name);
    let mut bytes = std::fs::read(&path).unwrap();
    bytes[1000] ^= 1;
    std::fs::write(&path, &bytes).unwrap();
    let found = Survey::of(Arc::clone(&disk)).unwrap();
    assert_eq!(found.lost.len(), 1);
    let report = Repair::of(&disk, &found).unwrap();
    assert_eq!(report.put_aside, [name]);
    assert_eq!(std::fs::read(folder.path().join("damaged").join(name)).unwrap(), bytes);
    assert!(Survey::of(Arc::clone(&disk)).unwrap().is_clean());
    let (log, recovered) = Log::open(disk, options()).unwrap();
    assert_eq!(contents(&log, &recovered).len(), 18);
}
