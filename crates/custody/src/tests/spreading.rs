//! A queue that is larger than the window of the best neighbor spreads over all that are downhill.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use estafet_model::{Class, RecordId};
use estafet_wire::{Answer, NeverReason, Verdict};

use super::relay::{HUB, after_sync, at, handed, held, node, open, outputs, own_capture, record, relay};
use crate::{Custody, CustodyOutput, RecordState, Recovered};

const KIB: u32 = 1 << 10;
const MIB: u32 = 1 << 20;

/// Best first; the last is a loop-free alternate, and no nearer to the hub.
const NEIGHBORS: [&str; 4] = ["senapelan", "lima-puluh", HUB, "rumbai"];

fn custody() -> Custody {
    let mut custody = relay(Recovered::default());
    open(&mut custody, at(0), &NEIGHBORS);
    custody.set_downhill(&[NEIGHBORS[0], NEIGHBORS[1], NEIGHBORS[2]].map(node));
    custody
}

/// How many records each neighbor has been offered or sent.
fn counts(outputs: &[CustodyOutput]) -> [usize; 4] {
    NEIGHBORS.map(|neighbor| {
        let (offered, carried) = handed(outputs, neighbor);
        offered.len() + carried.len()
    })
}

#[test]
fn what_the_best_has_no_room_for_goes_downhill_and_nowhere_else() {
    for (case, records, class, from, expected) in [
        ("a queue that fits", 4, Class::Normal, None, [4, 0, 0, 0]),
        ("one record more", 5, Class::Normal, None, [4, 1, 0, 0]),
        ("a large queue", 100, Class::Bulk, None, [4, 4, 4, 0]),
        ("not where it came from", 100, Class::Normal, Some(NEIGHBORS[1]), [4, 0, 4, 0]),
        ("what is urgent fills the best first", 40, Class::Urgent, None, [32, 8, 0, 0]),
    ] {
        let mut custody = custody();
        custody.stored(at(1), (1..=records).map(|seq| held(seq, class, 512 * KIB, from)).collect());
        assert_eq!(counts(&outputs(&mut custody)), expected, "{case}");
    }
}

#[test]
fn a_neighbor_that_refused_a_record_or_is_full_gets_no_part_of_it() {
    let refusal = (Verdict::Never(NeverReason::Conflict), 70_000);
    let full = (Verdict::Full(Duration::from_secs(60)), 50_000);
    for (verdict, tried_again) in [refusal, full] {
        let mut custody = custody();
        custody.stored(at(1), (1..=10).map(|seq| held(seq, Class::Normal, MIB, None)).collect());
        assert_eq!(handed(&outputs(&mut custody), NEIGHBORS[1]).0, [4, 5, 6]);
        custody.answers(at(2), &node(NEIGHBORS[1]), vec![Answer { id: record(4), verdict }]);
        custody.acceptances(at(3), &node(NEIGHBORS[1]), &[record(5), record(6)]);
        custody.handle_timeout(at(tried_again));
        outputs(&mut custody);
        custody.acceptances(at(tried_again + 1), &node(HUB), &[record(7), record(8)]);
        assert_eq!(counts(&outputs(&mut custody))[1], 0);
        assert_eq!(custody.record(&record(4)).unwrap().state, RecordState::Offered { to: node(HUB) });
    }
}

#[test]
fn who_has_no_room_for_one_origin_is_handed_the_records_of_another() {
    let mut custody = custody();
    custody.stored(at(1), vec![held(1, Class::Normal, MIB, None)]);
    assert_eq!(handed(&outputs(&mut custody), NEIGHBORS[0]).0, [1]);
    let full = Verdict::Full(Duration::from_secs(60));
    custody.answers(at(2), &node(NEIGHBORS[0]), vec![Answer { id: record(1), verdict: full }]);
    assert_eq!(counts(&outputs(&mut custody)), [0, 1, 0, 0], "it goes by another");
    custody.stored(at(3), vec![held(2, Class::Normal, MIB, None), after_sync(own_capture())]);
    let outputs = outputs(&mut custody);
    assert_eq!(handed(&outputs, NEIGHBORS[0]).1.len(), 1, "the capture of this node, of a kibibyte");
    assert_eq!(handed(&outputs, NEIGHBORS[1]).0, [2]);
}

#[test]
fn each_gets_in_proportion_to_what_it_achieves() {
    let millis_per_record = BTreeMap::from([(NEIGHBORS[0], 200), (NEIGHBORS[1], 600), (HUB, 300)]);
    let mut custody = custody();
    custody.stored(at(0), (1..=600).map(|seq| held(seq, Class::Normal, 256 * KIB, None)).collect());
    let mut queues: BTreeMap<&str, VecDeque<RecordId>> = BTreeMap::new();
    let mut taken: BTreeMap<&str, u32> = BTreeMap::new();
    for now in (0..30_000).step_by(100) {
        let outputs = outputs(&mut custody);
        for (neighbor, millis) in &millis_per_record {
            let queue = queues.entry(neighbor).or_default();
            queue.extend(handed(&outputs, neighbor).0.into_iter().map(record));
            if now > 0 && now % millis == 0 {
                let id = queue.pop_front().expect("nobody is idle while records wait");
                custody.acceptances(at(now), &node(neighbor), &[id]);
                *taken.entry(neighbor).or_default() += 1;
            }
        }
    }
    assert_eq!(taken, [(NEIGHBORS[0], 149), (NEIGHBORS[1], 49), (HUB, 99)].into());
    for (neighbor, millis) in millis_per_record {
        let seconds = queues[neighbor].len() as u64 * millis / 1_000;
        assert!((1..=3).contains(&seconds), "what {neighbor} was handed takes it {seconds} s");
    }
}
