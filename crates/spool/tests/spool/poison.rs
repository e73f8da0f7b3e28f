//! After the first failure of the disk nothing is promised any more, and nothing that was promised is lost.

use estafet_spool::{Append, Done, FailReason, Fault, Log, MemoryDisk, Outcome, Unsynced};

use crate::support::{OWN, chunked, commit, contents, id, inline, open, options, payload, put, read_payload};

fn batch(round: u32) -> Vec<Append> {
    let mut batch = chunked(OWN, round * 2 + 1, u64::from(round), &payload(round * 2 + 1, 2000));
    batch.push(put("round", &round.to_string()));
    batch.push(inline(OWN, round * 2 + 2, &payload(round * 2 + 2, 1000)));
    batch
}

/// Runs until something fails. Returns the numbers of the records that were promised.
fn run_until_failure(log: &mut Log) -> Vec<u32> {
    let mut promised = Vec::new();
    for round in 0..14 {
        let outcomes = log.commit(batch(round));
        assert_eq!(outcomes.len(), 4, "each item is answered");
        // What was synced with a full segment may be done; from the first failure on nothing is.
        let first_failure = outcomes.iter().position(Result::is_err).unwrap_or(4);
        for outcome in &outcomes[first_failure..] {
            let failed = outcome.as_ref().unwrap_err();
            assert!(matches!(failed.reason, FailReason::Poisoned(_)), "{failed}");
        }
        let number = |outcome: &Outcome| match outcome {
            Ok(Done::Record(record)) => Some(record.get().id.seq.get()),
            _ => None,
        };
        promised.extend(outcomes.iter().filter_map(number));
    }
    promised
}

fn check_after_failure(disk: &MemoryDisk, promised: &[u32], context: &str) {
    // The process starts again; the machine did not stop, so the kernel still shows what never reached the disk.
    let (log, recovered) = open(disk);
    let found = contents(&log, &recovered);
    for seq in promised {
        assert!(found.contains_key(&id(OWN, *seq)), "{context}: {seq} was promised");
    }
    drop(log);
    // What is recovered is promised as well: now the power goes.
    let (log, recovered) = open(&disk.power_cut(Unsynced::Dropped));
    assert!(recovered.damaged.is_empty(), "{context}: {:?}", recovered.damaged);
    let after = contents(&log, &recovered);
    for id in found.keys() {
        assert!(after.contains_key(id), "{context}: {id} was recovered before the power cut");
    }
}

#[test]
fn a_failed_write_or_sync_poisons_for_good() {
    for fault in [Fault::Full, Fault::Broken] {
        for n in 1..16 {
            for syncs in [false, true] {
                let context = format!("{fault:?} at number {n}, syncs: {syncs}");
                let disk = MemoryDisk::new();
                let (mut log, _) = open(&disk);
                if syncs {
                    disk.fail_sync(n, fault);
                } else {
                    disk.fail_write(n, fault);
                }
                let promised = run_until_failure(&mut log);
                let reason = log.poisoned().expect("the fault was met").to_string();
                assert!(reason.contains(".segment"), "{reason}");
                assert!(log.commit(vec![put("a", "b")])[0].is_err(), "{context}");
                assert_eq!(log.usage().free_bytes.0, 0);
                for seq in &promised {
                    assert!(read_payload(&log, &id(OWN, *seq)).is_ok(), "{context}: reads go on");
                }
                log.release(&[id(OWN, 1)]);
                log.close();
                check_after_failure(&disk, &promised, &context);
            }
        }
    }
}

#[test]
fn a_full_disk_opens_for_reading() {
    let disk = MemoryDisk::new();
    let (mut log, _) = open(&disk);
    commit(&mut log, batch(0));
    drop(log);
    disk.limit(0);
    let (mut log, recovered) = open(&disk);
    assert!(log.poisoned().is_some());
    // Without a sync nothing can be said of the last commit; it is there again when there is room.
    assert!(recovered.records.len() <= 2);
    assert!(log.commit(batch(1)).iter().all(Result::is_err));
    drop(log);
    disk.limit(1 << 20);
    let (log, recovered) = open(&disk);
    assert_eq!(contents(&log, &recovered).len(), 2);
}

#[test]
fn a_fault_while_opening_is_poison_and_not_a_loss() {
    let disk = MemoryDisk::new();
    let (mut log, _) = open(&disk);
    for round in 0..5 {
        commit(&mut log, batch(round));
    }
    drop(log);
    for n in 1..3 {
        for syncs in [false, true] {
            let disk = disk.copy();
            if syncs {
                disk.fail_sync(n, Fault::Broken);
            } else {
                disk.fail_write(n, Fault::Broken);
            }
            let (log, _) = Log::open(std::sync::Arc::new(disk.clone()), options()).unwrap();
            assert!(log.poisoned().is_some());
            drop(log);
            let (log, recovered) = open(&disk);
            assert_eq!(contents(&log, &recovered).len(), 10, "write or sync {n} failed, syncs: {syncs}");
        }
    }
}

#[test]
fn what_two_failed_syncs_left_in_memory_only_is_not_taken_for_durable() {
    let disk = MemoryDisk::new();
    let (mut log, _) = open(&disk);
    commit(&mut log, batch(0));
    disk.fail_sync(1, Fault::Broken);
    assert!(log.commit(batch(1)).iter().all(Result::is_err));
    drop(log);
    // The process starts again and fails while it settles that commit; then once more, and the disk works.
    disk.fail_sync(1, Fault::Broken);
    let (log, recovered) = open(&disk);
    assert_eq!(contents(&log, &recovered).len(), 2, "what may not be on the disk is not called durable");
    drop(log);
    let (log, recovered) = open(&disk);
    let found = contents(&log, &recovered);
    assert_eq!(found.len(), 4, "the kernel still has it");
    drop(log);
    let (log, recovered) = open(&disk.power_cut(Unsynced::Dropped));
    assert_eq!(contents(&log, &recovered), found);
    assert!(recovered.damaged.is_empty());
}
