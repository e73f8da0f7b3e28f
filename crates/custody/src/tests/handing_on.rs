//! What a relay holds, and whom it hands it to.

use std::time::Duration;

use estafet_model::{Class, Now};
use estafet_wire::{Answer, Frame, NeverReason, Verdict};

use super::relay::{HUB, answered, at, handed, held, node, offer, open, outputs, piece, record, relay};
use super::relay::{after_sync, header, own_capture, receipt, receipt_for, withdrawn};
use crate::{Custody, CustodyEvent, CustodyOutput, HeldRecord, RecordState, Recovered, WaitReason};

const KIB: u32 = 1 << 10;
const MIB: u32 = 1 << 20;

fn stored(custody: &mut Custody, now: Now, seqs: impl IntoIterator<Item = u32>, class: Class, bytes: u32) {
    custody.stored(now, seqs.into_iter().map(|seq| held(seq, class, bytes, None)).collect());
}

fn says(custody: &mut Custody, now: Now, neighbor: &str, seq: u32, verdict: Verdict) {
    custody.answers(now, &node(neighbor), vec![Answer { id: record(seq), verdict }]);
}

/// How many records its neighbor has been handed and has not answered.
fn under_way(custody: &Custody) -> usize {
    custody.records().filter(|view| matches!(view.state, RecordState::Offered { .. })).count()
}

#[test]
fn a_window_bounds_what_a_neighbor_is_handed_by_count_and_by_bytes() {
    for (records, bytes, first, most) in
        [(30_000, 100, 4096, 4096), (100, MIB, 3, 16), (100, 3 * MIB, 3, 5), (400, 300 * KIB, 6, 54)]
    {
        let mut custody = relay(Recovered::default());
        open(&mut custody, at(0), &[HUB]);
        stored(&mut custody, at(1), 1..=records, Class::Normal, bytes);
        assert_eq!(under_way(&custody), first, "{records} records of {bytes} bytes");
        for round in 1..=5 {
            let offered = custody.records().filter(|view| matches!(view.state, RecordState::Offered { .. }));
            let ids: Vec<_> = offered.map(|view| view.id).collect();
            custody.acceptances(at(1 + round), &node(HUB), &ids);
        }
        assert_eq!(under_way(&custody), most, "{records} records of {bytes} bytes, and a quick neighbor");
    }
}

#[test]
fn a_record_larger_than_the_window_goes_alone() {
    let mut custody = relay(Recovered::default());
    open(&mut custody, at(0), &[HUB]);
    stored(&mut custody, at(1), 1..=2, Class::Normal, 16 * MIB);
    assert_eq!(handed(&outputs(&mut custody), HUB).0, [1]);
}

#[test]
fn what_a_lost_neighbor_was_handed_goes_by_another_accepted_or_not() {
    let mut custody = relay(Recovered::default());
    open(&mut custody, at(0), &[HUB, "senapelan"]);
    stored(&mut custody, at(1), 1..=3, Class::Normal, KIB);
    outputs(&mut custody);
    custody.acceptances(at(2), &node(HUB), &[record(1), record(2)]);
    custody.set_next_hops(at(3), &[node("senapelan")]);
    custody.neighbor_down(at(3), &node(HUB));
    let outputs = outputs(&mut custody);
    let (offered, carried) = handed(&outputs, "senapelan");
    assert_eq!((offered, carried), (vec![1, 2, 3], vec![]), "offered first: it may have them");
    let event = CustodyEvent::TakenBack { from: node(HUB), records: 3 };
    assert!(outputs.contains(&CustodyOutput::Event(event)));
}

#[test]
fn windows_are_whole_again_after_a_neighbor_was_lost() {
    let mut custody = relay(Recovered::default());
    for round in 0..5 {
        open(&mut custody, at(round), &[HUB]);
        if round == 0 {
            stored(&mut custody, at(0), 1..=40, Class::Normal, MIB);
        } else {
            custody.set_next_hops(at(round), &[node(HUB)]);
        }
        assert_eq!(under_way(&custody), 3);
        custody.neighbor_down(at(round), &node(HUB));
        outputs(&mut custody);
    }
}

#[test]
fn after_a_restart_records_are_offered_and_not_sent() {
    let records = (1..=3).map(|seq| held(seq, Class::Normal, KIB, None)).collect();
    let mut custody = relay(Recovered { records, ..Recovered::default() });
    custody.neighbor_up(&node(HUB));
    custody.set_next_hops(at(1), &[node(HUB)]);
    assert_eq!(handed(&outputs(&mut custody), HUB), (vec![], vec![]), "not before it said what is receipted");
    custody.receipts(at(2), &node(HUB), &[receipt(&[2]).encode()]);
    assert_eq!(handed(&outputs(&mut custody), HUB), (vec![1, 3], vec![]));
    says(&mut custody, at(3), HUB, 1, Verdict::Have);
    says(&mut custody, at(3), HUB, 3, Verdict::Want { first_chunk: 0 });
    assert_eq!(handed(&outputs(&mut custody), HUB), (vec![], vec![3]));
}

#[test]
fn urgent_is_first_and_every_eighth_pick_is_of_the_lowest_class() {
    let mut custody = relay(Recovered::default());
    stored(&mut custody, at(0), 1..=100, Class::Bulk, KIB);
    stored(&mut custody, at(0), 101..=200, Class::Normal, KIB);
    stored(&mut custody, at(0), 201..=300, Class::Urgent, KIB);
    custody.neighbor_up(&node(HUB));
    custody.set_next_hops(at(1), &[node(HUB)]);
    custody.receipts(at(1), &node(HUB), &[]);
    let (_, carried) = handed(&outputs(&mut custody), HUB);
    let first: Vec<u32> = carried[..16].to_vec();
    assert_eq!(first, [201, 202, 203, 204, 205, 206, 207, 1, 208, 209, 210, 211, 212, 213, 214, 2]);
    assert_eq!(carried.len(), 300);
}

#[test]
fn a_neighbor_that_asks_for_time_gets_it() {
    let mut custody = relay(Recovered::default());
    open(&mut custody, at(0), &[HUB]);
    stored(&mut custody, at(0), [1], Class::Normal, MIB);
    outputs(&mut custody);
    says(&mut custody, at(10), HUB, 1, Verdict::Wait(Duration::from_millis(200)));
    assert_eq!(custody.poll_timeout().map(|(when, _)| when), Some(at(210)));
    custody.handle_timeout(at(209));
    assert_eq!(handed(&outputs(&mut custody), HUB).0, []);
    custody.handle_timeout(at(210));
    assert_eq!(handed(&outputs(&mut custody), HUB).0, [1]);
}

#[test]
fn a_record_that_is_refused_stays_here_and_delays_nobody() {
    let mut custody = relay(Recovered::default());
    open(&mut custody, at(0), &[HUB]);
    stored(&mut custody, at(0), 1..=2, Class::Normal, MIB);
    outputs(&mut custody);
    says(&mut custody, at(10), HUB, 1, Verdict::Never(NeverReason::Conflict));
    says(&mut custody, at(10), HUB, 2, Verdict::Want { first_chunk: 0 });
    let outputs_now = outputs(&mut custody);
    let refused = CustodyEvent::Refused { by: node(HUB), id: record(1), reason: NeverReason::Conflict };
    assert!(outputs_now.contains(&CustodyOutput::Event(refused)));
    assert_eq!(handed(&outputs_now, HUB), (vec![], vec![2]));
    let state = custody.record(&record(1)).unwrap().state;
    let why = WaitReason::Refused(node(HUB), NeverReason::Conflict);
    assert_eq!(state, RecordState::Waiting { why, until: Some(at(60_010)) });
    custody.handle_timeout(at(60_010));
    assert_eq!(handed(&outputs(&mut custody), HUB).0, [1]);
}

#[test]
fn an_answer_of_a_neighbor_that_was_not_asked_changes_nothing_and_what_it_wants_will_not_come() {
    let mut custody = relay(Recovered::default());
    open(&mut custody, at(0), &[HUB]);
    stored(&mut custody, at(0), [1], Class::Normal, MIB);
    outputs(&mut custody);
    let waits = Verdict::Wait(Duration::ZERO);
    for verdict in [Verdict::Want { first_chunk: 0 }, Verdict::Have, waits, Verdict::Never(NeverReason::Conflict)] {
        says(&mut custody, at(1), "rumbai", 1, verdict);
    }
    custody.acceptances(at(1), &node("rumbai"), &[record(1), record(9)]);
    assert_eq!(outputs(&mut custody), [withdrawn("rumbai", &[1])]);
    assert_eq!(custody.record(&record(1)).unwrap().state, RecordState::Offered { to: node(HUB) });
}

/// Sukajadi has handed record 1 of 12 KiB, which came from Rumbai, to Senapelan.
fn on_its_way_to_senapelan() -> Custody {
    let mut custody = relay(Recovered::default());
    open(&mut custody, at(0), &["senapelan"]);
    let big = header(1, Class::Normal, 12 * KIB);
    let mut record = held(1, Class::Normal, 12 * KIB, Some("rumbai")).into_inner();
    record.digest = big.header().digest();
    custody.stored(at(0), vec![after_sync(record)]);
    assert_eq!(handed(&outputs(&mut custody), "senapelan").0, [1]);
    custody
}

#[test]
fn whoever_says_that_it_has_an_accepted_record_passes_it_on_again() {
    for neighbor in ["senapelan", "rumbai", "lima-puluh"] {
        let mut custody = on_its_way_to_senapelan();
        custody.acceptances(at(1), &node("senapelan"), &[record(1)]);
        custody.offers(&node(neighbor), vec![offer(1, 12 * KIB)], at(2));
        assert_eq!(answered(&outputs(&mut custody), neighbor), [(1, Verdict::Have)].into());
        custody.handle_timeout(at(52));
        assert_eq!(handed(&outputs(&mut custody), "senapelan").0, [1], "offered back by {neighbor}");
    }
}

#[test]
fn an_acceptance_that_may_be_older_than_an_offer_of_another_is_asked_for_again() {
    let mut custody = on_its_way_to_senapelan();
    custody.offers(&node("lima-puluh"), vec![offer(1, 12 * KIB)], at(1));
    assert_eq!(answered(&outputs(&mut custody), "lima-puluh"), [(1, Verdict::Have)].into());
    custody.acceptances(at(2), &node("senapelan"), &[record(1)]);
    assert!(matches!(custody.record(&record(1)).unwrap().state, RecordState::Waiting { .. }));
    custody.handle_timeout(at(52));
    assert_eq!(handed(&outputs(&mut custody), "senapelan").0, [1]);
    says(&mut custody, at(60), "senapelan", 1, Verdict::Have);
    assert_eq!(custody.record(&record(1)).unwrap().state, RecordState::Accepted { by: node("senapelan") });
}

#[test]
fn records_go_when_a_receipt_is_durable_and_not_before() {
    let mut custody = relay(Recovered::default());
    open(&mut custody, at(0), &[HUB]);
    let late = header(3, Class::Normal, KIB);
    stored(&mut custody, at(0), 1..=2, Class::Normal, KIB);
    custody.piece(at(0), &node("rumbai"), piece(&late));
    outputs(&mut custody);
    let receipt = receipt(&[1, 3]);
    custody.receipts(at(1), &node(HUB), &[receipt.encode()]);
    // Number 3 becomes durable after the receipt for it has come.
    custody.stored(at(2), vec![held(3, Class::Normal, KIB, Some("rumbai"))]);
    let before = outputs(&mut custody);
    assert!(before.contains(&CustodyOutput::KeepReceipt(receipt.clone())));
    assert!(!before.iter().any(|output| matches!(output, CustodyOutput::Release(_))), "{before:?}");
    let acceptance = CustodyOutput::Send { to: node("rumbai"), frame: Frame::Acceptances(vec![record(3)]) };
    assert!(before.contains(&acceptance), "it is durable, and who sent it hears so");
    custody.receipt_kept(&after_sync(receipt.key().clone()));
    assert_eq!(outputs(&mut custody), [CustodyOutput::Release(vec![record(1), record(3)])]);
    assert_eq!(custody.held_count(), 1);
}

#[test]
fn no_neighbor_can_have_a_record_wait_for_long() {
    let mut custody = relay(Recovered::default());
    open(&mut custody, at(0), &[HUB]);
    stored(&mut custody, at(0), [1], Class::Normal, MIB);
    outputs(&mut custody);
    says(&mut custody, at(1), HUB, 1, Verdict::Wait(Duration::from_millis(u32::MAX.into())));
    custody.neighbor_down(at(2), &node(HUB));
    open(&mut custody, at(3), &["senapelan"]);
    let (due, _) = custody.poll_timeout().unwrap();
    assert!(due <= at(60_001), "{due:?}");
    custody.handle_timeout(due);
    assert_eq!(handed(&outputs(&mut custody), "senapelan"), (vec![1], vec![]));
}

#[test]
fn a_receipt_that_comes_while_a_capture_is_being_stored_is_not_for_it() {
    let mut custody = relay(Recovered::default());
    open(&mut custody, at(0), &[HUB]);
    let capture = own_capture();
    let receipt = receipt_for(&capture.id);
    custody.receipts(at(1), &node(HUB), &[receipt.encode()]);
    custody.receipt_kept(&after_sync(receipt.key().clone()));
    custody.stored(at(2), vec![after_sync(capture.clone())]);
    let after = outputs(&mut custody);
    assert!(!after.iter().any(|output| matches!(output, CustodyOutput::Release(_))), "{after:?}");
    let (epoch, seqs) = (capture.id.epoch, [capture.id.seq].into_iter().collect());
    assert!(after.contains(&CustodyOutput::KeepConflicts { epoch, seqs }), "{after:?}");
    assert_eq!(custody.quarantine().count(), 1);
}

#[test]
fn a_receipt_is_for_an_own_record_that_a_neighbor_brought_back() {
    let mut custody = relay(Recovered::default());
    open(&mut custody, at(0), &[]);
    let brought_back = HeldRecord { received_from: Some(node("rumbai")), ..own_capture() };
    let receipt = receipt_for(&brought_back.id);
    custody.stored(at(1), vec![after_sync(brought_back)]);
    custody.receipts(at(2), &node(HUB), &[receipt.encode()]);
    custody.receipt_kept(&after_sync(receipt.key().clone()));
    assert_eq!(custody.held_count(), 0);
    assert!(outputs(&mut custody).iter().any(|output| matches!(output, CustodyOutput::Release(_))));
}

#[test]
fn a_conflict_outlives_the_receipt_that_was_lost_with_a_crash() {
    let capture = own_capture();
    let conflicts = [(capture.id.epoch, [capture.id.seq].into_iter().collect())].into();
    let mut custody = relay(Recovered {
        conflicts,
        records: [after_sync(capture.clone())].into_iter().collect(),
        ..Recovered::default()
    });
    open(&mut custody, at(0), &[]);
    let receipt = receipt_for(&capture.id);
    custody.receipts(at(1), &node(HUB), &[receipt.encode()]);
    custody.receipt_kept(&after_sync(receipt.key().clone()));
    assert!(!outputs(&mut custody).iter().any(|output| matches!(output, CustodyOutput::Release(_))));
    assert_eq!((custody.held_count(), custody.quarantine().count()), (1, 1));
}

#[test]
fn a_node_that_drains_saves_first_what_nobody_else_has() {
    let mut custody = relay(Recovered::default());
    let own = |seq: u32, class| {
        after_sync(HeldRecord {
            id: format!("sukajadi.1.{seq}").parse().unwrap(),
            ..held(seq, class, KIB, None).into_inner()
        })
    };
    let transit = |seq, class| held(seq, class, KIB, Some("rumbai"));
    let records = vec![
        transit(1, Class::Bulk),
        own(11, Class::Bulk),
        transit(2, Class::Urgent),
        own(12, Class::Normal),
        transit(3, Class::Normal),
        own(13, Class::Urgent),
        own(14, Class::Urgent),
    ];
    custody.stored(at(0), records);
    assert_eq!(custody.unaccepted_count(), 7);
    custody.set_draining(true);
    custody.neighbor_up(&node(HUB));
    custody.set_next_hops(at(1), &[node(HUB)]);
    custody.receipts(at(1), &node(HUB), &[]);
    assert_eq!(handed(&outputs(&mut custody), HUB).1, [13, 14, 12, 11, 2, 3, 1]);
    assert_eq!(custody.unaccepted_count(), 7, "carried is not accepted");
    custody.acceptances(at(2), &node(HUB), &[record(1), "sukajadi.1.13".parse().unwrap()]);
    assert_eq!(custody.unaccepted_count(), 5);
}
