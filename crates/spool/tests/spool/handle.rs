//! The handle and its thread.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use estafet_spool::{
    Append, Done, Fault, FolderError, MemoryDisk, OpenError, Outcome, ReadError, Recovered, Spool, TransferId,
};

use crate::support::{OWN, TRANSIT, chunked, id, inline, options, payload, put};

/// Far beyond what any of this takes.
const DEADLINE: Duration = Duration::from_secs(20);

struct Fixture {
    spool: Spool,
    outcomes: Receiver<Vec<Outcome>>,
}

fn start(disk: &MemoryDisk) -> (Fixture, Recovered) {
    let (sender, outcomes) = channel();
    let on_done = move |done| sender.send(done).unwrap_or_default();
    let (spool, recovered) = Spool::open_on(Arc::new(disk.clone()), options(), on_done).unwrap();
    (Fixture { spool, outcomes }, recovered)
}

impl Fixture {
    fn outcomes(&self, count: usize) -> Vec<Outcome> {
        let mut all = Vec::new();
        while all.len() < count {
            all.extend(self.outcomes.recv_timeout(DEADLINE).expect("outcomes come"));
        }
        all
    }

    fn store(&self, batch: Vec<Append>) {
        let count = batch.len();
        self.spool.append(batch).unwrap();
        assert!(self.outcomes(count).iter().all(Result::is_ok));
    }
}

#[test]
fn many_appenders_share_syncs_and_each_is_answered_in_order() {
    let disk = MemoryDisk::new();
    let (fixture, _) = start(&disk);
    let before = fixture.spool.usage().syncs;
    let threads: Vec<_> = ["a", "b", "c", "d"]
        .into_iter()
        .map(|origin| {
            let spool = fixture.spool.clone();
            std::thread::spawn(move || {
                for seq in 1..=50 {
                    spool.append(vec![inline(origin, seq, &payload(seq, 10))]).unwrap();
                }
            })
        })
        .collect();
    let outcomes = fixture.outcomes(200);
    threads.into_iter().for_each(|thread| thread.join().unwrap());
    for origin in ["a", "b", "c", "d"] {
        let seqs = outcomes.iter().filter_map(|outcome| match outcome {
            Ok(Done::Record(record)) if record.get().id.origin.as_str() == origin => Some(record.get().id.seq.get()),
            _ => None,
        });
        assert!(seqs.eq(1..=50));
    }
    assert!(fixture.spool.usage().syncs > before);
}

#[test]
fn dropping_the_last_handle_stores_what_is_queued() {
    let disk = MemoryDisk::new();
    let (fixture, _) = start(&disk);
    let clone = fixture.spool.clone();
    for seq in 1..=100 {
        fixture.spool.append(vec![inline(OWN, seq, &payload(seq, 500))]).unwrap();
    }
    drop(fixture.spool);
    drop(clone);
    assert_eq!(fixture.outcomes.iter().flatten().filter(Result::is_ok).count(), 100);
    let (_, recovered) = start(&disk);
    assert_eq!(recovered.records.len(), 100);
    assert_eq!(recovered.torn_bytes, 0);
}

#[test]
fn the_last_handle_may_be_dropped_by_the_callback() {
    let disk = MemoryDisk::new();
    let (hand_over, handed) = channel::<Spool>();
    let (sender, told) = channel();
    let on_done = move |_| {
        drop(handed.recv_timeout(DEADLINE));
        sender.send(()).unwrap();
    };
    let (spool, _) = Spool::open_on(Arc::new(disk), options(), on_done).unwrap();
    spool.append(vec![put("k", "v")]).unwrap();
    hand_over.send(spool).unwrap();
    told.recv_timeout(DEADLINE).unwrap();
}

#[test]
fn a_poisoned_spool_answers_everything_with_the_reason() {
    let disk = MemoryDisk::new();
    let (fixture, _) = start(&disk);
    fixture.store(vec![inline(OWN, 1, &payload(1, 10))]);
    disk.fail_sync(1, Fault::Broken);
    let mut accepted = 0;
    for seq in 2..200 {
        if fixture.spool.append(vec![inline(OWN, seq, &payload(seq, 10))]).is_ok() {
            accepted += 1;
        }
    }
    let outcomes = fixture.outcomes(accepted);
    assert_eq!(outcomes.len(), accepted);
    for outcome in outcomes {
        let text = outcome.unwrap_err().to_string();
        assert!(text.contains("disk failed to sync"), "{text}");
    }
    assert!(fixture.spool.append(vec![put("k", "v")]).is_err());
    let usage = fixture.spool.usage();
    assert!(usage.poisoned.is_some_and(|reason| reason.contains("sync")));
    assert_eq!(usage.free_bytes.0, 0);
    assert!(fixture.spool.read(&id(OWN, 1)).is_ok());
    assert_eq!(fixture.spool.read(&id(OWN, 2)), Err(ReadError::NotHere));
}

#[test]
fn a_folder_has_one_owner() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("spool");
    let (spool, _) = Spool::open(&path, options(), |_| {}).unwrap();
    let second = Spool::open(&path, options(), |_| {});
    assert!(matches!(second, Err(OpenError::Folder(FolderError::Locked(locked))) if locked == path));
    drop(spool);
    Spool::open(&path, options(), |_| {}).unwrap();
}

#[test]
fn a_reader_never_gets_another_records_bytes_while_segments_are_recycled() {
    let disk = MemoryDisk::new();
    let (fixture, _) = start(&disk);
    let spool = fixture.spool.clone();
    let (sender, ids) = channel::<u32>();
    let reader = std::thread::spawn(move || {
        let mut read = 0;
        for seq in ids {
            for seq in seq.saturating_sub(20).max(1)..=seq {
                match spool.read_chunk(&id(TRANSIT, seq), 0) {
                    Ok(bytes) => {
                        assert_eq!(bytes, payload(seq, 1000));
                        read += 1;
                    }
                    Err(error) => assert_eq!(error, ReadError::NotHere, "record {seq}"),
                }
            }
        }
        read
    });
    for seq in 1..=600 {
        fixture.store(vec![inline(TRANSIT, seq, &payload(seq, 1000))]);
        if seq > 3 {
            fixture.spool.release(vec![id(TRANSIT, seq - 3)]);
        }
        sender.send(seq).unwrap();
    }
    drop(sender);
    assert!(reader.join().unwrap() > 600);
}

#[test]
fn aborted_and_released_room_comes_back() {
    let disk = MemoryDisk::new();
    let (fixture, _) = start(&disk);
    for round in 0..30u32 {
        let mut unfinished = chunked(TRANSIT, 1, u64::from(round), &payload(round, 3000));
        unfinished.pop();
        fixture.store(unfinished);
        fixture.spool.abort(TransferId(u64::from(round)));
    }
    fixture.store(vec![put("k", "v")]);
    let usage = fixture.spool.usage();
    assert!(usage.segments <= 3, "{usage:?}");
    assert!(fixture.spool.free_bytes().0 > 60 << 20);
}

#[test]
fn a_live_record_can_be_read_at_any_time_while_it_is_moved() {
    let disk = MemoryDisk::new();
    let (fixture, _) = start(&disk);
    let large = payload(7, 400);
    fixture.store(vec![inline(TRANSIT, 1, &payload(1, 100))]);
    fixture.store(chunked(TRANSIT, 2, 1, &large));
    let spool = fixture.spool.clone();
    let (sender, stop) = channel::<()>();
    let reader = std::thread::spawn(move || {
        let mut read = 0;
        while stop.try_recv() == Err(std::sync::mpsc::TryRecvError::Empty) || read < 1000 {
            assert_eq!(spool.read_chunk(&id(TRANSIT, 1), 0), Ok(payload(1, 100)));
            assert_eq!(spool.read_chunk(&id(TRANSIT, 2), 0), Ok(large.clone()));
            read += 1;
        }
    });
    for seq in 10..800 {
        fixture.store(vec![inline(TRANSIT, seq, &payload(seq, 1000))]);
        fixture.spool.release(vec![id(TRANSIT, seq)]);
    }
    sender.send(()).unwrap();
    reader.join().unwrap();
    let first = "0000000000000001.segment";
    assert!(estafet_spool::Disk::open(&disk, first).is_err(), "they were moved, or this would not test that");
}
