//! What a suspect neighbor has not answered for goes another way as well, and its late answers still count.

use std::time::Duration;

use estafet_model::{Class, Now};
use estafet_wire::{Answer, NeverReason, Verdict};

use super::relay::{after_sync, at, handed, held, node, open, outputs, receipt, record, relay, withdrawn};
use crate::{Custody, CustodyEvent, CustodyOutput, RecordState, Recovered, WaitReason};

const KIB: u32 = 1 << 10;
const MIB: u32 = 1 << 20;
const SUSPECT: &str = "senapelan";
const OTHER: &str = "lima-puluh";

fn set_next_hops(custody: &mut Custody, now: Now, hops: &[&str]) {
    custody.set_next_hops(now, &hops.iter().map(|hop| node(hop)).collect::<Vec<_>>());
}

/// The suspect owes an answer too long: as the router does it, it is the last choice before custody hears of it.
fn suspect(custody: &mut Custody, now: Now, hops: &[&str]) -> Vec<CustodyOutput> {
    set_next_hops(custody, now, hops);
    assert_eq!(outputs(custody), [], "an order of next hops moves nothing that is on its way");
    custody.suspect(now, &node(SUSPECT));
    outputs(custody)
}

/// Sukajadi has handed records 1, 2 … of these sizes to the suspect, and has another neighbor.
fn handed_over(bytes: &[u32]) -> Custody {
    let mut custody = relay(Recovered::default());
    open(&mut custody, at(0), &[SUSPECT, OTHER]);
    custody.stored(at(0), (1..).zip(bytes).map(|(seq, bytes)| held(seq, Class::Normal, *bytes, None)).collect());
    let (offered, carried) = handed(&outputs(&mut custody), SUSPECT);
    assert_eq!(offered.len() + carried.len(), bytes.len());
    custody
}

/// Record 1 of these bytes was handed to the suspect, and finds the window of the other way full of record 9.
fn waiting_for_room(bytes: u32) -> Custody {
    let mut custody = relay(Recovered::default());
    open(&mut custody, at(0), &[OTHER, SUSPECT]);
    custody.stored(at(0), vec![held(9, Class::Normal, 16 * MIB, None)]);
    set_next_hops(&mut custody, at(0), &[SUSPECT, OTHER]);
    custody.stored(at(0), vec![held(1, Class::Normal, bytes, None)]);
    outputs(&mut custody);
    assert_eq!(handed(&suspect(&mut custody, at(1), &[OTHER, SUSPECT]), OTHER), (vec![], vec![]));
    assert_eq!(state(&custody, 1), RecordState::Waiting { why: WaitReason::Suspected(node(SUSPECT)), until: None });
    custody
}

fn state(custody: &Custody, seq: u32) -> RecordState {
    custody.record(&record(seq)).unwrap().state
}

fn says(custody: &mut Custody, now: Now, neighbor: &str, seq: u32, verdict: Verdict) -> Vec<CustodyOutput> {
    custody.answers(now, &node(neighbor), vec![Answer { id: record(seq), verdict }]);
    outputs(custody)
}

#[test]
fn a_record_of_one_chunk_goes_the_other_way_at_once_and_a_larger_one_as_an_offer() {
    let mut custody = handed_over(&[KIB, 12 * KIB, 16 * KIB, 17 * KIB, MIB]);
    let outputs = suspect(&mut custody, at(1), &[OTHER, SUSPECT]);
    assert_eq!(handed(&outputs, OTHER), (vec![4, 5], vec![1, 2, 3]));
    assert_eq!(handed(&outputs, SUSPECT), (vec![], vec![]));
    let event = CustodyEvent::Diverted { around: node(SUSPECT), records: 5 };
    assert!(outputs.contains(&CustodyOutput::Event(event)), "{outputs:?}");
    assert!(!custody.awaits_answer(&node(SUSPECT)) && custody.awaits_answer(&node(OTHER)));
}

#[test]
fn what_the_suspect_has_accepted_stays_with_it_but_for_the_newest() {
    let mut custody = handed_over(&[KIB, KIB, KIB]);
    custody.acceptances(at(1), &node(SUSPECT), &[record(1)]);
    custody.acceptances(at(1_001), &node(SUSPECT), &[record(2)]);
    let outputs = suspect(&mut custody, at(1_002 + 1_000), &[OTHER, SUSPECT]);
    assert_eq!(handed(&outputs, OTHER), (vec![], vec![3]), "both were accepted more than a second ago");
    for seq in [1, 2] {
        assert_eq!(state(&custody, seq), RecordState::Accepted { by: node(SUSPECT) });
    }
    let mut custody = handed_over(&[KIB, KIB, KIB]);
    custody.acceptances(at(1), &node(SUSPECT), &[record(1)]);
    custody.acceptances(at(1_001), &node(SUSPECT), &[record(2)]);
    let outputs = suspect(&mut custody, at(1_500), &[OTHER, SUSPECT]);
    assert_eq!(handed(&outputs, OTHER), (vec![], vec![2, 3]), "it may have died with record 2");
    assert_eq!(state(&custody, 1), RecordState::Accepted { by: node(SUSPECT) });
}

#[test]
fn of_what_was_accepted_lately_only_so_much_goes_another_way() {
    let bytes = |count: usize, each: u32| std::iter::repeat_n(each, count).collect::<Vec<_>>();
    for (given, expected) in [(bytes(70, KIB), 64), (bytes(3, MIB / 2), 2)] {
        let mut custody = handed_over(&given);
        let accepted: Vec<_> = (1..=u32::try_from(given.len()).unwrap()).map(record).collect();
        for record in &accepted {
            custody.answers(at(1), &node(SUSPECT), vec![Answer { id: record.clone(), verdict: Verdict::Have }]);
        }
        outputs(&mut custody);
        let diverted = suspect(&mut custody, at(2), &[OTHER, SUSPECT]);
        let event = CustodyEvent::Diverted { around: node(SUSPECT), records: expected };
        assert!(diverted.contains(&CustodyOutput::Event(event)), "{diverted:?}");
    }
}

#[test]
fn without_another_way_nothing_moves() {
    let no_lane: fn(&mut Custody) = |_| ();
    let closed: fn(&mut Custody) = |custody| custody.neighbor_down(at(1), &node(OTHER));
    let full: fn(&mut Custody) = |custody| {
        set_next_hops(custody, at(1), &[OTHER, SUSPECT]);
        custody.stored(at(1), vec![held(9, Class::Normal, MIB, None)]);
        says(custody, at(1), OTHER, 9, Verdict::Full(Duration::from_secs(5)));
    };
    for (case, prepare, hops) in [
        ("no other next hop", no_lane, &[SUSPECT][..]),
        ("the other is gone", closed, &[OTHER, SUSPECT]),
        ("the other has no room", full, &[OTHER, SUSPECT]),
    ] {
        let mut custody = handed_over(&[KIB, MIB]);
        prepare(&mut custody);
        outputs(&mut custody);
        assert_eq!(suspect(&mut custody, at(2), hops), [], "{case}");
        for seq in [1, 2] {
            assert_eq!(state(&custody, seq), RecordState::Offered { to: node(SUSPECT) }, "{case}");
        }
    }
}

#[test]
fn a_record_that_came_from_the_only_other_neighbor_is_not_sent_back_to_it() {
    let mut custody = relay(Recovered::default());
    open(&mut custody, at(0), &[SUSPECT, OTHER]);
    let (from_other, own) = (held(1, Class::Normal, KIB, Some(OTHER)), held(2, Class::Normal, KIB, None));
    custody.stored(at(0), vec![from_other, own]);
    outputs(&mut custody);
    let outputs = suspect(&mut custody, at(1), &[OTHER, SUSPECT]);
    assert_eq!(handed(&outputs, OTHER), (vec![], vec![2]));
    assert_eq!(state(&custody, 1), RecordState::Offered { to: node(SUSPECT) });
}

#[test]
fn a_late_acceptance_ends_what_has_not_gone_another_way_yet() {
    for late in [Verdict::Have, Verdict::Want { first_chunk: 0 }] {
        let mut custody = waiting_for_room(MIB);
        says(&mut custody, at(2), SUSPECT, 1, late);
        custody.acceptances(at(3), &node(SUSPECT), &[record(1)]);
        assert_eq!(state(&custody, 1), RecordState::Accepted { by: node(SUSPECT) });
        custody.acceptances(at(4), &node(OTHER), &[record(9)]);
        assert_eq!(handed(&outputs(&mut custody), OTHER), (vec![], vec![]), "and it does not go there after that");
    }
}

#[test]
fn a_late_acceptance_of_what_has_gone_another_way_changes_nothing() {
    let mut custody = handed_over(&[KIB]);
    suspect(&mut custody, at(1), &[OTHER, SUSPECT]);
    custody.acceptances(at(2), &node(SUSPECT), &[record(1)]);
    assert_eq!(outputs(&mut custody), []);
    assert_eq!(state(&custody, 1), RecordState::Offered { to: node(OTHER) });
    custody.acceptances(at(3), &node(OTHER), &[record(1)]);
    assert_eq!(state(&custody, 1), RecordState::Accepted { by: node(OTHER) });
}

#[test]
fn a_late_want_gets_the_record_once_whether_it_has_gone_another_way_or_not() {
    let want = Verdict::Want { first_chunk: 3 };
    for (mut custody, holder) in [(waiting_for_room(MIB), SUSPECT), (handed_over(&[MIB]), OTHER)] {
        suspect(&mut custody, at(2), &[OTHER, SUSPECT]);
        let carried = says(&mut custody, at(3), SUSPECT, 1, want.clone());
        assert_eq!(handed(&carried, SUSPECT), (vec![], vec![1]), "{holder}");
        assert!(matches!(carried[0], CustodyOutput::Carry { first_chunk: 3, chunks: 64, .. }), "{carried:?}");
        assert_eq!(state(&custody, 1), RecordState::Offered { to: node(holder) });
    }
    let mut custody = handed_over(&[MIB]);
    suspect(&mut custody, at(1), &[OTHER, SUSPECT]);
    says(&mut custody, at(2), SUSPECT, 1, want.clone());
    assert_eq!(says(&mut custody, at(3), SUSPECT, 1, want), [withdrawn(SUSPECT, &[1])], "it goes there once");
}

#[test]
fn other_late_answers_of_the_suspect_change_nothing() {
    let second = Duration::from_secs(1);
    let never = Verdict::Never(NeverReason::Conflict);
    for verdict in [Verdict::Wait(second), Verdict::Full(second), never] {
        let mut custody = handed_over(&[MIB]);
        suspect(&mut custody, at(1), &[OTHER, SUSPECT]);
        assert_eq!(says(&mut custody, at(2), SUSPECT, 1, verdict), []);
        assert_eq!(state(&custody, 1), RecordState::Offered { to: node(OTHER) });
    }
}

#[test]
fn a_suspect_that_is_heard_again_is_offered_what_it_was_sent_and_not_sent_it_again() {
    let mut custody = waiting_for_room(KIB);
    set_next_hops(&mut custody, at(2), &[SUSPECT, OTHER]);
    assert_eq!(handed(&outputs(&mut custody), SUSPECT), (vec![1], vec![]));
}

#[test]
fn the_second_neighbor_may_be_suspect_too() {
    let mut custody = handed_over(&[KIB]);
    suspect(&mut custody, at(1), &[OTHER, SUSPECT]);
    set_next_hops(&mut custody, at(2), &[SUSPECT, OTHER]);
    custody.divert(at(2), &node(OTHER));
    assert_eq!(handed(&outputs(&mut custody), SUSPECT), (vec![1], vec![]));
    custody.acceptances(at(3), &node(SUSPECT), &[record(1)]);
    assert_eq!(state(&custody, 1), RecordState::Accepted { by: node(SUSPECT) });
}

/// That no lane has it any more is asserted where a record is forgotten.
#[test]
fn after_a_receipt_nothing_of_it_is_left() {
    let diverted = || {
        let mut custody = handed_over(&[MIB]);
        suspect(&mut custody, at(1), &[OTHER, SUSPECT]);
        custody
    };
    let accepted_by_other = || {
        let mut custody = diverted();
        custody.acceptances(at(2), &node(OTHER), &[record(1)]);
        custody
    };
    let taken_back_from_other = || {
        let mut custody = diverted();
        custody.neighbor_down(at(2), &node(OTHER));
        custody
    };
    let on_its_way_to_both = || {
        let mut custody = diverted();
        says(&mut custody, at(2), SUSPECT, 1, Verdict::Want { first_chunk: 0 });
        custody
    };
    for mut custody in
        [waiting_for_room(MIB), diverted(), accepted_by_other(), taken_back_from_other(), on_its_way_to_both()]
    {
        outputs(&mut custody);
        let receipt = receipt(&[1, 9]);
        custody.receipts(at(5), &node(OTHER), &[receipt.encode()]);
        custody.receipt_kept(&after_sync(receipt.key().clone()));
        assert!(outputs(&mut custody).iter().any(|output| matches!(output, CustodyOutput::Release(_))));
        assert_eq!((custody.held_count(), custody.unaccepted_count()), (0, 0));
        for neighbor in [SUSPECT, OTHER] {
            assert!(!custody.awaits_answer(&node(neighbor)));
            let answer = says(&mut custody, at(6), neighbor, 1, Verdict::Want { first_chunk: 0 });
            assert_eq!(answer, [withdrawn(neighbor, &[1])]);
            custody.acceptances(at(7), &node(neighbor), &[record(1)]);
            custody.neighbor_down(at(8), &node(neighbor));
        }
        let after = outputs(&mut custody);
        let taken_back =
            |output: &CustodyOutput| matches!(output, CustodyOutput::Event(CustodyEvent::TakenBack { .. }));
        assert!(!after.iter().any(taken_back), "{after:?}");
    }
}
