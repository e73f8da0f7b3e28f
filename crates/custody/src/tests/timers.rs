//! Every unreceipted record has a next attempt, whatever its neighbors do or leave undone.

use std::time::Duration;

use estafet_model::Class;
use estafet_wire::{Answer, NeverReason, Verdict};

use super::relay::{HUB, at, handed, held, node, open, outputs, record, relay};
use crate::{Custody, RecordState, Recovered, WaitReason};

const MIB: u32 = 1 << 20;
const MINUTE: u64 = 60_000;

fn holding_one(hops: &[&str]) -> Custody {
    let mut custody = relay(Recovered::default());
    open(&mut custody, at(0), hops);
    custody.stored(at(0), vec![held(1, Class::Normal, MIB, None)]);
    assert_eq!(handed(&outputs(&mut custody), hops[0]).0, [1]);
    custody
}

fn says(custody: &mut Custody, millis: u64, neighbor: &str, verdict: Verdict) {
    custody.answers(at(millis), &node(neighbor), vec![Answer { id: record(1), verdict }]);
}

#[test]
fn a_neighbor_that_lives_and_never_answers_does_not_keep_a_record() {
    let mut custody = holding_one(&[HUB]);
    let due = custody.record(&record(1)).unwrap().next_attempt.unwrap();
    assert!(due.0 > Duration::from_secs(600), "a slow line has its time: {due:?}");
    custody.handle_timeout(due);
    assert_eq!(handed(&outputs(&mut custody), HUB).0, [1], "it is offered again");
}

#[test]
fn what_a_silent_neighbor_wants_at_last_is_sent_though_it_has_gone_another_way() {
    let mut custody = holding_one(&["senapelan", HUB]);
    let due = custody.record(&record(1)).unwrap().next_attempt.unwrap();
    custody.set_next_hops(at(1), &[node(HUB), node("senapelan")]);
    custody.handle_timeout(due);
    assert_eq!(handed(&outputs(&mut custody), HUB).0, [1]);
    says(&mut custody, 700_000, "senapelan", Verdict::Want { first_chunk: 0 });
    assert_eq!(handed(&outputs(&mut custody), "senapelan").1, [1], "it keeps room free for it");
    assert_eq!(custody.record(&record(1)).unwrap().state, RecordState::Offered { to: node(HUB) });
}

#[test]
fn an_accepted_record_without_a_receipt_is_offered_again_ever_more_seldom() {
    let mut custody = holding_one(&[HUB]);
    let mut now = at(10);
    let mut patience = Vec::new();
    for _ in 0..6 {
        custody.acceptances(now, &node(HUB), &[record(1)]);
        assert_eq!(handed(&outputs(&mut custody), HUB).0, []);
        let due = custody.record(&record(1)).unwrap().next_attempt.unwrap();
        patience.push(due.since(now).as_secs() / 60);
        now = due;
        custody.handle_timeout(now);
        assert_eq!(handed(&outputs(&mut custody), HUB).0, [1]);
    }
    assert_eq!(patience, [5, 10, 20, 40, 60, 60]);
}

#[test]
fn a_full_neighbor_is_left_alone_and_another_taken() {
    let mut custody = holding_one(&[HUB, "senapelan"]);
    says(&mut custody, 10, HUB, Verdict::Full(Duration::from_secs(1)));
    assert_eq!(handed(&outputs(&mut custody), "senapelan").0, [1]);
    custody.stored(at(20), vec![held(2, Class::Normal, MIB, None)]);
    assert_eq!(handed(&outputs(&mut custody), "senapelan").0, [2], "nothing is offered to who is full");
    custody.handle_timeout(at(1_010));
    custody.stored(at(1_020), vec![held(3, Class::Normal, MIB, None)]);
    assert_eq!(handed(&outputs(&mut custody), HUB).0, [3]);
}

#[test]
fn with_no_other_way_a_full_neighbor_is_asked_again_when_it_said() {
    let mut custody = holding_one(&[HUB]);
    says(&mut custody, 10, HUB, Verdict::Full(Duration::from_secs(1)));
    assert_eq!(handed(&outputs(&mut custody), HUB).0, []);
    assert_eq!(custody.poll_timeout().map(|(when, _)| when), Some(at(1_010)));
    custody.handle_timeout(at(1_010));
    assert_eq!(handed(&outputs(&mut custody), HUB).0, [1]);
}

#[test]
fn a_refused_record_is_in_quarantine_tried_by_another_way_and_ever_more_seldom() {
    let mut custody = holding_one(&[HUB, "senapelan"]);
    let never = || Verdict::Never(NeverReason::UnknownOrigin);
    says(&mut custody, 0, HUB, never());
    let why = WaitReason::Refused(node(HUB), NeverReason::UnknownOrigin);
    let listed: Vec<RecordState> = custody.quarantine().map(|view| view.state).collect();
    assert_eq!(listed, [RecordState::Waiting { why, until: Some(at(MINUTE)) }]);
    custody.handle_timeout(at(MINUTE));
    assert_eq!(handed(&outputs(&mut custody), "senapelan").0, [1]);
    says(&mut custody, MINUTE, "senapelan", never());
    assert_eq!(custody.record(&record(1)).unwrap().next_attempt, Some(at(3 * MINUTE)));
}

#[test]
fn a_person_takes_a_record_out_of_quarantine() {
    let mut custody = holding_one(&[HUB]);
    says(&mut custody, 0, HUB, Verdict::Never(NeverReason::UnknownOrigin));
    outputs(&mut custody);
    assert_eq!(custody.retry(at(5), Some(&record(2))), 0);
    assert_eq!(handed(&outputs(&mut custody), HUB).0, []);
    assert_eq!(custody.retry(at(5), Some(&record(1))), 1);
    assert_eq!(handed(&outputs(&mut custody), HUB).0, [1]);
    assert_eq!(custody.quarantine().count(), 0);
}
