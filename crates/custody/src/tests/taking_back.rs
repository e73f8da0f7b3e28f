//! A hub that has lost committed records says so, and gets them back.

use std::collections::BTreeMap;

use estafet_model::{Class, Durable, HeaderDigest, Seq, SeqRanges, SignedReceipt};
use estafet_wire::{Frame, NeverReason, Offer, Verdict};

use super::relay::{
    HUB, after_sync, answered, at, handed, header, held, hub, node, offer_of, open, outputs, own_capture,
};
use super::relay::{receipt, receipt_after, receipt_for, record, relay};
use crate::{Custody, CustodyEvent, CustodyOutput, HeldRecord, Losses, Recovered};

const KIB: u32 = 1 << 10;

fn stored(seq: u32) -> HeldRecord {
    let header = header(seq, Class::Normal, KIB);
    HeldRecord { digest: header.header().digest(), ..held(seq, Class::Normal, KIB, None).into_inner() }
}

fn numbers(seqs: &[u32]) -> SeqRanges {
    seqs.iter().filter_map(|&seq| Seq::new(seq)).collect()
}

/// A hub with two neighbors that has committed these.
fn hub_with(seqs: &[u32]) -> Custody {
    let mut custody = hub(Recovered::default());
    open(&mut custody, at(0), &["sukajadi", "rumbai"]);
    custody.stored(at(1), seqs.iter().map(|seq| after_sync(stored(*seq))).collect());
    custody.handle_timeout(at(1000));
    outputs(&mut custody);
    custody
}

/// The receipts that this neighbor is sent: losses and numbers.
fn told(outputs: &[CustodyOutput], neighbor: &str) -> Vec<(u32, SeqRanges)> {
    let frames = outputs.iter().filter_map(|output| match output {
        CustodyOutput::Send { to, frame: Frame::Receipts(receipts) } if *to == node(neighbor) => Some(receipts),
        _ => None,
    });
    let receipts = frames.flatten().map(|encoded| SignedReceipt::decode(encoded).unwrap());
    receipts.map(|receipt| (receipt.rank().losses, receipt.committed().clone())).collect()
}

/// The losses that are to be made durable.
fn noted(outputs: &[CustodyOutput]) -> Vec<Losses> {
    let noted = outputs.iter().filter_map(|output| match output {
        CustodyOutput::KeepLosses { losses, .. } => Some(losses.clone()),
        _ => None,
    });
    noted.collect()
}

#[test]
fn a_hub_takes_back_what_it_cannot_read_once_that_is_durable() {
    let mut custody = hub_with(&[1, 2, 3]);
    custody.committed_unreadable(at(2000), stored(2));
    let after = outputs(&mut custody);
    assert_eq!(noted(&after), [Losses { count: 1, seqs: numbers(&[2]) }]);
    assert!(after.contains(&CustodyOutput::Send { to: node("rumbai"), frame: Frame::Seek(vec![record(2)]) }));
    assert_eq!((custody.committed_count(), custody.quarantine().count()), (2, 1));
    assert_eq!(custody.receipt_hub(&record(2)), None);
    // What is committed meanwhile is not signed before.
    custody.stored(at(2001), vec![after_sync(stored(4))]);
    custody.handle_timeout(at(4000));
    assert_eq!(told(&outputs(&mut custody), "rumbai"), []);
    custody.losses_kept(at(4001));
    assert_eq!(told(&outputs(&mut custody), "rumbai"), [(1, numbers(&[1, 3, 4]))]);
    // Found once more, it is lost already.
    custody.committed_unreadable(at(4002), stored(2));
    assert_eq!(outputs(&mut custody), []);
}

#[test]
fn a_record_that_comes_back_to_its_hub_is_committed_once_more_and_no_other_under_its_id() {
    let mut custody = hub_with(&[1, 2]);
    custody.committed_unreadable(at(2000), stored(2));
    custody.losses_kept(at(2001));
    outputs(&mut custody);
    let offer = offer_of(&header(2, Class::Normal, KIB));
    custody.offers(&node("rumbai"), vec![Offer { digest: HeaderDigest([7; 32]), ..offer.clone() }], at(3000));
    assert_eq!(answered(&outputs(&mut custody), "rumbai"), [(2, Verdict::Never(NeverReason::Conflict))].into());
    custody.offers(&node("rumbai"), vec![offer], at(3001));
    assert_eq!(answered(&outputs(&mut custody), "rumbai"), [(2, Verdict::Want { first_chunk: 0 })].into());
    custody.stored(at(3002), vec![after_sync(stored(2))]);
    let after = outputs(&mut custody);
    assert!(after.contains(&CustodyOutput::Event(CustodyEvent::Healed(record(2)))));
    assert!(after.contains(&CustodyOutput::Event(CustodyEvent::Committed(record(2)))));
    custody.handle_timeout(at(4000));
    let told = [told(&after, "rumbai"), told(&outputs(&mut custody), "rumbai")].concat();
    assert_eq!(told, [(1, numbers(&[1, 2]))]);
    assert_eq!((custody.committed_count(), custody.quarantine().count()), (2, 0));
}

#[test]
fn a_hub_with_an_old_archive_makes_its_word_newer_than_what_it_hears_of_itself() {
    // It has lost numbers 3 and 4, and its neighbors know better.
    let mut custody = hub_with(&[1, 2, 5]);
    custody.receipts(at(2000), &node("sukajadi"), &[receipt_after(7, &[1, 2, 3, 4]).encode()]);
    let after = outputs(&mut custody);
    assert_eq!(noted(&after), [Losses { count: 8, seqs: SeqRanges::new() }]);
    custody.losses_kept(at(2001));
    let after = outputs(&mut custody);
    assert_eq!(told(&after, "sukajadi"), [(8, numbers(&[1, 2, 5]))]);
    assert_eq!(told(&after, "rumbai"), [(8, numbers(&[1, 2, 5]))]);
    // The same word from another neighbor is old by now.
    custody.receipts(at(2002), &node("rumbai"), &[receipt_after(7, &[1, 2, 3, 4]).encode()]);
    assert_eq!(outputs(&mut custody), []);
}

#[test]
fn a_hub_whose_archive_is_lost_whole_says_that_it_has_nothing() {
    let mut custody = hub(Recovered::default());
    open(&mut custody, at(0), &["sukajadi"]);
    custody.receipts(at(1), &node("sukajadi"), &[receipt(&[1, 2, 3]).encode()]);
    custody.losses_kept(at(2));
    assert_eq!(told(&outputs(&mut custody), "sukajadi"), [(1, SeqRanges::new())]);
}

#[test]
fn nobody_but_the_hub_can_make_it_take_anything_back() {
    let mut custody = hub_with(&[1]);
    let mut forged = receipt_after(3, &[1, 2]).encode().to_vec();
    *forged.last_mut().unwrap() ^= 1;
    custody.receipts(at(2000), &node("rumbai"), &[forged.into()]);
    assert_eq!(noted(&outputs(&mut custody)), []);
}

#[test]
fn a_restarted_hub_goes_on_counting_its_losses() {
    let rumbai = (node("rumbai"), record(1).epoch);
    let known = Losses { count: 4, seqs: numbers(&[2]) };
    let recovered = |damaged: Vec<HeldRecord>| Recovered {
        committed: BTreeMap::from([(rumbai.clone(), numbers(&[1]))]),
        losses: BTreeMap::from([(rumbai.clone(), known.clone())]),
        damaged,
        ..Recovered::default()
    };
    // What was known to be lost is not lost once more.
    let mut custody = hub(recovered(vec![stored(2)]));
    assert_eq!(noted(&outputs(&mut custody)), []);
    custody.neighbor_up(&node("rumbai"));
    custody.receipt_summary(&node("rumbai"), Vec::new());
    assert_eq!(told(&outputs(&mut custody), "rumbai"), [(4, numbers(&[1]))]);
    // What is found at the start is.
    let mut custody = hub(recovered(vec![stored(2), stored(3)]));
    assert_eq!(noted(&outputs(&mut custody)), [Losses { count: 5, seqs: numbers(&[2, 3]) }]);
}

/// Sukajadi's capture was committed and has gone from here.
fn origin_without_its_capture() -> Custody {
    let mut custody = relay(Recovered::default());
    open(&mut custody, at(0), &[HUB]);
    let capture = own_capture();
    custody.stored(at(0), vec![after_sync(capture.clone())]);
    custody.acceptances(at(1), &node(HUB), std::slice::from_ref(&capture.id));
    let receipt = receipt_for(&capture.id);
    custody.receipts(at(2), &node(HUB), &[receipt.encode()]);
    custody.receipt_kept(&after_sync(receipt.key().clone()));
    assert!(outputs(&mut custody).contains(&CustodyOutput::Release(vec![capture.id])));
    custody
}

fn lost_by_hub() -> SignedReceipt {
    let key_of = receipt_for(&own_capture().id).key().clone();
    SignedReceipt::sign(key_of, 1, SeqRanges::new(), &super::relay::key(HUB))
}

#[test]
fn an_origin_recalls_what_the_hub_has_lost_and_sends_it_again() {
    let mut custody = origin_without_its_capture();
    let capture = own_capture();
    custody.receipts(at(3), &node(HUB), &[lost_by_hub().encode()]);
    let recall = CustodyOutput::Recall {
        origin: capture.id.origin.clone(),
        epoch: capture.id.epoch,
        seqs: SeqRanges::of(capture.id.seq),
    };
    // Not before the receipt is durable: an earlier one may be on its way that lets the capture go.
    assert!(!outputs(&mut custody).contains(&recall));
    custody.receipt_kept(&after_sync(lost_by_hub().key().clone()));
    assert_eq!(outputs(&mut custody), [recall]);
    custody.recalled(at(4), vec![after_sync(capture.clone())]);
    assert_eq!(custody.held_count(), 1);
    assert_eq!(handed(&outputs(&mut custody), HUB).0, [1], "the hub may have it by now, so it is offered");
    // A receipt for it is for it: it is no conflict.
    let again =
        SignedReceipt::sign(lost_by_hub().key().clone(), 1, SeqRanges::of(capture.id.seq), &super::relay::key(HUB));
    custody.receipts(at(5), &node(HUB), &[again.encode()]);
    assert_eq!((custody.held_count(), custody.quarantine().count()), (0, 0));
}

#[test]
fn what_has_its_receipt_again_before_it_is_recalled_is_let_go() {
    let mut custody = origin_without_its_capture();
    let capture = own_capture();
    let again =
        SignedReceipt::sign(lost_by_hub().key().clone(), 1, SeqRanges::of(capture.id.seq), &super::relay::key(HUB));
    for receipt in [lost_by_hub(), again] {
        custody.receipts(at(3), &node(HUB), &[receipt.encode()]);
        custody.receipt_kept(&Durable::clone(&after_sync(receipt.key().clone())));
    }
    outputs(&mut custody);
    custody.recalled(at(4), vec![after_sync(capture.clone())]);
    assert_eq!(outputs(&mut custody), [CustodyOutput::Release(vec![capture.id])]);
    assert_eq!(custody.held_count(), 0);
}

#[test]
fn a_relay_recalls_no_records_of_others() {
    let mut custody = relay(Recovered::default());
    open(&mut custody, at(0), &[HUB]);
    for receipt in [receipt(&[1, 2]), receipt_after(1, &[1])] {
        custody.receipts(at(1), &node(HUB), &[receipt.encode()]);
        custody.receipt_kept(&after_sync(receipt.key().clone()));
    }
    let after = outputs(&mut custody);
    assert!(!after.iter().any(|output| matches!(output, CustodyOutput::Recall { .. })), "{after:?}");
}
