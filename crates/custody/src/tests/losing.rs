//! A record that cannot be read any more is sought from the neighbors, and one of them may have it.

use estafet_model::{Class, HeaderDigest};
use estafet_wire::{Frame, NeverReason, Offer, Verdict};

use super::relay::{HUB, after_sync, answered, at, handed, header, held, node, offer_of, open, outputs, piece};
use super::relay::{own_capture, receipt, receipt_for, record, relay};
use crate::{Custody, CustodyEvent, CustodyOutput, HeldRecord, RecordState, Recovered, WaitReason};

const KIB: u32 = 1 << 10;

fn stored() -> HeldRecord {
    let header = header(1, Class::Normal, KIB);
    HeldRecord { digest: header.header().digest(), ..held(1, Class::Normal, KIB, Some("rumbai")).into_inner() }
}

fn sought_from(outputs: &[CustodyOutput], neighbor: &str) -> bool {
    outputs.contains(&CustodyOutput::Send { to: node(neighbor), frame: Frame::Seek(vec![record(1)]) })
}

/// Sukajadi had record 1 and cannot read it.
fn relay_that_lost_one() -> Custody {
    let mut custody = relay(Recovered::default());
    open(&mut custody, at(0), &[HUB, "rumbai"]);
    custody.set_next_hops(at(0), &[]);
    custody.stored(at(0), vec![after_sync(stored())]);
    custody.unreadable(at(1), &record(1));
    let after = outputs(&mut custody);
    assert!(sought_from(&after, "rumbai") && sought_from(&after, HUB), "{after:?}");
    custody
}

#[test]
fn a_lost_record_is_not_held_but_listed_until_it_comes_again() {
    let mut custody = relay_that_lost_one();
    assert_eq!(custody.held_count(), 0);
    let listed: Vec<RecordState> = custody.quarantine().map(|view| view.state).collect();
    assert_eq!(listed, [RecordState::Waiting { why: WaitReason::Unreadable, until: None }]);
    let header = header(1, Class::Normal, KIB);
    custody.offers(&node("rumbai"), vec![offer_of(&header)], at(2));
    assert_eq!(answered(&outputs(&mut custody), "rumbai"), [(1, Verdict::Want { first_chunk: 0 })].into());
    custody.piece(at(3), &node("rumbai"), piece(&header));
    custody.stored(at(4), vec![after_sync(stored())]);
    assert!(outputs(&mut custody).contains(&CustodyOutput::Event(CustodyEvent::Healed(record(1)))));
    assert_eq!((custody.held_count(), custody.quarantine().count()), (1, 0));
}

#[test]
fn another_record_under_the_lost_ones_id_is_refused() {
    let mut custody = relay_that_lost_one();
    let other = Offer { digest: HeaderDigest([7; 32]), ..offer_of(&header(1, Class::Normal, KIB)) };
    custody.offers(&node("rumbai"), vec![other], at(2));
    assert_eq!(answered(&outputs(&mut custody), "rumbai"), [(1, Verdict::Never(NeverReason::Conflict))].into());
}

#[test]
fn neighbors_are_asked_again_and_again_and_new_ones_at_once() {
    let mut custody = relay_that_lost_one();
    let (next, _) = custody.poll_timeout().unwrap();
    custody.handle_timeout(next);
    assert!(sought_from(&outputs(&mut custody), "rumbai"));
    custody.neighbor_up(&node("senapelan"));
    custody.receipts(next, &node("senapelan"), &[]);
    assert!(sought_from(&outputs(&mut custody), "senapelan"));
}

#[test]
fn a_receipt_ends_the_search() {
    let mut custody = relay_that_lost_one();
    custody.receipts(at(2), &node("rumbai"), &[receipt(&[1]).encode()]);
    assert_eq!(custody.quarantine().count(), 0);
}

#[test]
fn what_was_found_damaged_at_the_start_is_sought_too() {
    let mut custody = relay(Recovered { damaged: vec![stored()], ..Recovered::default() });
    custody.neighbor_up(&node("rumbai"));
    custody.receipts(at(1), &node("rumbai"), &[]);
    custody.handle_timeout(at(1));
    assert!(sought_from(&outputs(&mut custody), "rumbai"));
}

#[test]
fn whoever_has_a_record_that_a_neighbor_lost_offers_it_to_that_neighbor() {
    let mut custody = relay(Recovered::default());
    open(&mut custody, at(0), &[HUB, "rumbai"]);
    custody.stored(at(0), vec![after_sync(stored())]);
    custody.acceptances(at(1), &node(HUB), &[record(1)]);
    outputs(&mut custody);
    custody.sought(at(2), &node("rumbai"), &[record(1), record(2)]);
    assert_eq!(handed(&outputs(&mut custody), "rumbai").0, [1]);
}

#[test]
fn a_receipt_is_for_a_capture_that_went_because_it_was_sought() {
    let mut custody = relay(Recovered::default());
    open(&mut custody, at(0), &["rumbai"]);
    custody.set_next_hops(at(0), &[]);
    let capture = own_capture();
    custody.stored(at(0), vec![after_sync(capture.clone())]);
    custody.sought(at(1), &node("rumbai"), std::slice::from_ref(&capture.id));
    custody.receipts(at(2), &node("rumbai"), &[receipt_for(&capture.id).encode()]);
    assert_eq!((custody.held_count(), custody.quarantine().count()), (0, 0));
}

#[test]
fn a_capture_that_conflicts_is_not_what_a_neighbor_seeks() {
    let mut custody = relay(Recovered::default());
    open(&mut custody, at(0), &["rumbai"]);
    custody.set_next_hops(at(0), &[]);
    let capture = own_capture();
    custody.receipts(at(1), &node("rumbai"), &[receipt_for(&capture.id).encode()]);
    custody.stored(at(2), vec![after_sync(capture.clone())]);
    outputs(&mut custody);
    custody.sought(at(3), &node("rumbai"), &[capture.id]);
    assert!(outputs(&mut custody).is_empty());
    assert_eq!(custody.quarantine().count(), 1);
}

#[test]
fn a_hub_that_lost_a_record_says_so_by_its_receipts_and_new_ones_count_all_the_same() {
    let mut custody = relay(Recovered::default());
    open(&mut custody, at(0), &[HUB, "rumbai"]);
    custody.set_next_hops(at(0), &[]);
    custody.receipts(at(1), &node(HUB), &[receipt(&[1, 2, 3]).encode()]);
    custody.stored(at(2), vec![held(4, Class::Normal, KIB, Some("rumbai"))]);
    outputs(&mut custody);
    // Number 2 was hit on the hub's disk; number 4 is new.
    custody.receipts(at(3), &node(HUB), &[receipt(&[1, 3, 4]).encode()]);
    let after = outputs(&mut custody);
    let lost = |output: &CustodyOutput| match output {
        CustodyOutput::Event(CustodyEvent::LostByHub { seqs, .. }) => seqs.iter().eq([record(2).seq]),
        _ => false,
    };
    assert!(after.iter().any(lost), "{after:?}");
    assert_eq!(custody.held_count(), 0, "number 4 has its receipt");
    let covered: Vec<u32> =
        custody.receipted().values().flat_map(|seqs| seqs.iter().map(estafet_model::Seq::get)).collect();
    assert_eq!(covered, [1, 3, 4]);
    // What a neighbor still has from before changes nothing.
    custody.receipts(at(4), &node("rumbai"), &[receipt(&[1, 2, 3]).encode()]);
    assert!(!custody.receipted().values().any(|seqs| seqs.contains(record(2).seq)));
}
