//! What depends on the bearers that lead to a neighbor: which records may go to it, and what is said to it again.

use estafet_model::Class;
use estafet_wire::{Answer, Frame, Verdict};

use super::relay::{answered, at, handed, held, node, offer, open, outputs, record, relay, withdrawn};
use crate::{Custody, CustodyEvent, CustodyOutput, RecordState, Recovered};

const NEAR: &str = "senapelan";
const OTHER: &str = "lima-puluh";

/// Records 1, 2 and 3, an urgent one, a normal one and a bulk one, which are small enough to go unoffered.
fn store_one_of_each(custody: &mut Custody) -> Vec<CustodyOutput> {
    let records = (1..).zip(Class::ALL).map(|(seq, class)| held(seq, class, 4 << 10, None));
    custody.stored(at(0), records.collect());
    outputs(custody)
}

#[test]
fn a_metered_neighbor_is_handed_urgent_records_only_and_the_rest_goes_another_way_or_waits() {
    for (neighbors, metered, to_near, to_other) in [
        (&[NEAR][..], &[][..], vec![1, 2, 3], vec![]),
        (&[NEAR], &[NEAR], vec![1], vec![]),
        (&[NEAR, OTHER], &[NEAR], vec![1], vec![2, 3]),
        (&[OTHER, NEAR], &[NEAR], vec![], vec![1, 2, 3]),
        (&[NEAR, OTHER], &[NEAR, OTHER], vec![1], vec![]),
    ] {
        let mut custody = relay(Recovered::default());
        metered.iter().for_each(|name| custody.set_urgent_only(at(0), &node(name), true));
        open(&mut custody, at(0), neighbors);
        let out = store_one_of_each(&mut custody);
        let carried = [NEAR, OTHER].map(|to| handed(&out, to).1);
        assert_eq!(carried, [to_near, to_other], "{neighbors:?}, metered {metered:?}");
    }
}

#[test]
fn what_waited_for_an_unmetered_bearer_goes_when_there_is_one() {
    let mut custody = relay(Recovered::default());
    custody.set_urgent_only(at(0), &node(NEAR), true);
    open(&mut custody, at(0), &[NEAR]);
    store_one_of_each(&mut custody);
    custody.set_urgent_only(at(1), &node(NEAR), false);
    let mut carried = handed(&outputs(&mut custody), NEAR).1;
    carried.sort_unstable();
    assert_eq!(carried, [2, 3]);
}

#[test]
fn what_is_unanswered_is_offered_again_after_a_bearer_was_lost_and_an_answer_to_either_counts() {
    let mut custody = relay(Recovered::default());
    open(&mut custody, at(0), &[NEAR]);
    assert_eq!(handed(&store_one_of_each(&mut custody), NEAR).1.len(), 3);
    custody.acceptances(at(1), &node(NEAR), &[record(3)]);
    custody.say_again(at(2), &node(NEAR));
    let out = outputs(&mut custody);
    let (offered, carried) = handed(&out, NEAR);
    assert_eq!((offered, carried), (vec![1, 2], vec![]), "not sent twice before the neighbor says that it lacks them");
    assert!(out.iter().any(|output| matches!(output, CustodyOutput::Send { frame: Frame::ReceiptSummary(_), .. })));
    let event = CustodyEvent::SaidAgain { to: node(NEAR), records: 2 };
    assert!(out.contains(&CustodyOutput::Event(event)));
    custody.acceptances(at(3), &node(NEAR), &[record(1)]);
    custody.answers(at(3), &node(NEAR), vec![Answer { id: record(2), verdict: Verdict::Have }]);
    for seq in 1..=3 {
        let view = custody.record(&record(seq)).unwrap();
        assert_eq!(view.state, RecordState::Accepted { by: node(NEAR) }, "record {seq}");
    }
}

#[test]
fn after_a_bearer_was_lost_no_room_is_kept_for_what_was_to_come_over_it() {
    let mut custody = relay(Recovered::default());
    open(&mut custody, at(0), &[NEAR]);
    custody.set_next_hops(at(0), &[]);
    let offered = |custody: &mut Custody, seqs: &[u32]| {
        custody.offers(&node(NEAR), seqs.iter().map(|seq| offer(*seq, 1 << 20)).collect(), at(1));
        answered(&outputs(custody), NEAR).into_keys().collect::<Vec<_>>()
    };
    assert_eq!(offered(&mut custody, &[1, 2]), [1, 2]);
    custody.say_again(at(2), &node(NEAR));
    outputs(&mut custody);
    // Its window may be full of others, and those of before wait behind them.
    assert_eq!(offered(&mut custody, &[3, 4]), [3]);
}

#[test]
fn a_late_request_brings_nothing_over_a_metered_bearer() {
    let mut custody = relay(Recovered::default());
    open(&mut custody, at(0), &[NEAR]);
    store_one_of_each(&mut custody);
    custody.set_urgent_only(at(1), &node(NEAR), true);
    custody.say_again(at(1), &node(NEAR));
    assert_eq!(handed(&outputs(&mut custody), NEAR), (vec![1], vec![]));
    let want = |seq| Answer { id: record(seq), verdict: Verdict::Want { first_chunk: 0 } };
    custody.answers(at(2), &node(NEAR), (1..=3).map(want).collect());
    let out = outputs(&mut custody);
    assert_eq!(handed(&out, NEAR), (vec![], vec![1]));
    assert!(out.contains(&withdrawn(NEAR, &[2, 3])), "nothing is kept free for them: {out:?}");
}
