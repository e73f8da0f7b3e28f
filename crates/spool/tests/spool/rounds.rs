//! What is queued together is carried out together, and has the same end as one by one.

use std::collections::VecDeque;
use std::iter;

use estafet_spool::{Command, Log, MemoryDisk, Round};

use crate::support::{TRANSIT, commit, contents, id, inline, open, payload, read_payload};

fn append(seq: u32) -> Command {
    Command::Append(inline(TRANSIT, seq, &payload(seq, 1000)))
}

fn release(seqs: impl IntoIterator<Item = u32>) -> Command {
    Command::Release(seqs.into_iter().map(|seq| id(TRANSIT, seq)).collect())
}

fn carry_out(log: &mut Log, commands: impl IntoIterator<Item = Command>) -> usize {
    let mut queue = VecDeque::from_iter(commands);
    let rounds = iter::from_fn(|| Round::take(&mut queue)).map(|round| {
        let (outcomes, rest) = log.carry_out(round, 10);
        assert!(outcomes.iter().all(Result::is_ok) && rest.is_empty(), "{outcomes:?}");
    });
    rounds.count()
}

#[test]
fn a_record_that_is_released_and_stored_again_stays() {
    let disk = MemoryDisk::new();
    let (mut log, _) = open(&disk);
    commit(&mut log, (1..100).map(|seq| inline(TRANSIT, seq, &payload(seq, 1000))).collect());
    let rounds = carry_out(&mut log, [append(100), release([50, 51]), append(50), release(1..50), release(52..=100)]);
    // Nothing but it pins a segment, so it would go with the segment's room.
    commit(&mut log, (101..150).map(|seq| inline(TRANSIT, seq, &payload(seq, 1000))).collect());
    while log.tidy() {}
    assert_eq!(read_payload(&log, &id(TRANSIT, 50)).unwrap(), payload(50, 1000));
    assert!(log.read(&id(TRANSIT, 51)).is_err(), "the other is gone");
    log.close();
    let (log, recovered) = open(&disk);
    assert_eq!(contents(&log, &recovered)[&id(TRANSIT, 50)], payload(50, 1000));
    assert_eq!(rounds, 2);
}

#[test]
fn other_records_and_releases_share_a_sync() {
    let (mut log, _) = open(&MemoryDisk::new());
    commit(&mut log, (1..100).map(|seq| inline(TRANSIT, seq, &payload(seq, 1000))).collect());
    let mixed = (1..100).flat_map(|seq| [release([seq]), append(100 + seq)]);
    assert_eq!(carry_out(&mut log, mixed), 1);
    assert_eq!(Round::take(&mut VecDeque::new()).map(|_| ()), None);
}
