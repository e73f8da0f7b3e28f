//! Receipts on their way to a neighbor over a weak link.

use std::time::Duration;

use estafet_model::{Class, Now};
use estafet_wire::Frame;

use super::relay::{HUB, after_sync, at, header, held, node, open, outputs, piece, receipt, receipt_after, relay};
use crate::{Custody, CustodyOutput, HeldRecord, Recovered};

/// What the link to Rumbai takes for 64 KiB: 128 kbit/s.
const RECORD_TIME: Duration = Duration::from_secs(4);
const LINK_BYTES_PER_SECOND: usize = (64 << 10) / 4;

/// What Rumbai is told.
fn told(custody: &mut Custody) -> Vec<Vec<u8>> {
    let to_rumbai = |output| match output {
        CustodyOutput::Send { to, frame: Frame::Receipts(receipts) } if to == node("rumbai") => Some(receipts),
        _ => None,
    };
    outputs(custody).into_iter().filter_map(to_rumbai).flatten().map(|receipt| receipt.to_vec()).collect()
}

/// The hub commits a record every 10 ms for so many seconds. The last number, and what Rumbai is told meanwhile.
fn busy(custody: &mut Custody, seconds: u32) -> (u32, Vec<Vec<u8>>) {
    let mut all = Vec::new();
    let last = seconds * 100;
    for seq in 1..=last {
        let now = at(u64::from(seq) * 10);
        custody.receipts(now, &node(HUB), &[receipt(&(1..=seq).collect::<Vec<_>>()).encode()]);
        custody.handle_timeout(now);
        all.extend(told(custody));
    }
    (last, all)
}

fn sukajadi() -> Custody {
    let mut custody = relay(Recovered::default());
    open(&mut custody, at(0), &[HUB, "rumbai"]);
    told(&mut custody);
    custody
}

fn end(seconds: u32) -> Now {
    at(u64::from(seconds) * 1000)
}

#[test]
fn a_link_is_told_one_at_once_and_many_in_few() {
    let (mut custody, seconds) = (sukajadi(), 10);
    custody.receipts(at(0), &node(HUB), &[receipt(&[1]).encode()]);
    assert_eq!(told(&mut custody).len(), 1);
    let (_, all) = busy(&mut custody, seconds);
    let bytes: usize = all.iter().map(Vec::len).sum();
    assert!(all.len() > 150 && bytes < (4 << 10) * 10, "{} receipts, {bytes} B", all.len());
}

/// Rumbai hands over these records at once, and the hub commits them a moment later; what Rumbai is told then.
fn handed_over(custody: &mut Custody, now: u64, seqs: std::ops::RangeInclusive<u32>) -> usize {
    let stored = seqs.clone().map(|seq| {
        let small = header(seq, Class::Normal, 1024);
        custody.piece(at(now), &node("rumbai"), piece(&small));
        let digest = small.header().digest();
        after_sync(HeldRecord { digest, ..held(seq, Class::Normal, 1024, Some("rumbai")).into_inner() })
    });
    let stored = stored.collect();
    custody.stored(at(now), stored);
    custody.receipts(at(now + 3), &node(HUB), &[receipt(&(1..=*seqs.end()).collect::<Vec<_>>()).encode()]);
    custody.handle_timeout(at(now + 3));
    told(custody).len()
}

#[test]
fn who_hands_over_one_after_the_other_waits_for_no_turn_and_who_hands_over_many_does() {
    let mut custody = sukajadi();
    for seq in 1..=100 {
        assert_eq!(handed_over(&mut custody, u64::from(seq) * 5, seq..=seq), 1, "record {seq}");
    }
    assert_eq!(handed_over(&mut custody, 505, 101..=104), 1);
    assert_eq!(handed_over(&mut custody, 510, 105..=109), 0);
    assert_eq!(handed_over(&mut custody, 515, 110..=110), 0, "the five before it wait with it");
    let (next, _) = custody.poll_timeout().expect("the newest is due");
    assert!((at(520)..at(570)).contains(&next), "{next:?}");
    custody.handle_timeout(next);
    assert_eq!(told(&mut custody).len(), 1);
}

#[test]
fn a_weak_link_keeps_most_for_the_rest_and_is_told_the_newest() {
    let (mut custody, seconds) = (sukajadi(), 10);
    custody.set_record_time(&node("rumbai"), RECORD_TIME);
    let (last, mut all) = busy(&mut custody, seconds);
    let bytes: usize = all.iter().map(Vec::len).sum();
    assert!(all.len() > 10 && bytes < LINK_BYTES_PER_SECOND * 10 / 32, "{} receipts, {bytes} B", all.len());
    let (next, _) = custody.poll_timeout().expect("the newest is due");
    assert!(next < end(seconds + 1));
    custody.handle_timeout(next);
    all.extend(told(&mut custody));
    assert_eq!(all.last().unwrap()[..], receipt(&(1..=last).collect::<Vec<_>>()).encode()[..]);
    assert!(told(&mut custody).is_empty());
}

#[test]
fn what_a_hub_takes_back_waits_for_nothing() {
    let (mut custody, seconds) = (sukajadi(), 2);
    custody.set_record_time(&node("rumbai"), RECORD_TIME * 100);
    busy(&mut custody, seconds);
    let taken_back = receipt_after(1, &[1]).encode();
    custody.receipts(end(seconds), &node(HUB), std::slice::from_ref(&taken_back));
    assert_eq!(told(&mut custody), [taken_back.to_vec()]);
}
