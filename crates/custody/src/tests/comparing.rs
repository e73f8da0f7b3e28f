//! Two neighbors compare what they hold, and offer only what differs.

use std::ops::RangeInclusive;
use std::time::Duration;

use estafet_model::{Class, HeaderDigest, Now, Seq, SeqRanges, SetDigest};
use estafet_wire::{Answer, Frame, Holding, RecordSet, Verdict};

use super::relay::{
    HUB, after_sync, answered, at, config, handed, held, key, node, offer, open, outputs, own_capture, receipt,
    receipt_for, record, relay,
};
use crate::{Custody, CustodyConfig, CustodyOutput, HeldRecord, HeldRecords, RecordState, Recovered, WaitReason};

const KIB: u32 = 1 << 10;
const MIB: u32 = 1 << 20;
const NEXT: &str = "senapelan";

fn digest(seq: u32) -> HeaderDigest {
    HeaderDigest([seq.to_le_bytes()[0]; 32])
}

fn holding_of(seqs: RangeInclusive<u32>, bytes: u32) -> HeldRecords {
    let one = |seq| {
        let record = held(seq, Class::ALL[seq as usize % 3], bytes, Some("rumbai"));
        after_sync(HeldRecord { digest: digest(seq), ..record.into_inner() })
    };
    seqs.map(one).collect()
}

/// A relay that has found these records of Rumbai on its disk.
fn found(seqs: RangeInclusive<u32>) -> Custody {
    relay(Recovered { records: holding_of(seqs, KIB), ..Recovered::default() })
}

/// Its next hop has just come up: what it is asked about.
fn come_up(custody: &mut Custody, now: Now, neighbor: &str) -> Vec<RecordSet> {
    custody.neighbor_up(&node(neighbor));
    custody.set_next_hops(now, &[node(neighbor)]);
    custody.receipts(now, &node(neighbor), &[]);
    let outputs = outputs(custody);
    assert_eq!(handed(&outputs, neighbor), (vec![], vec![]), "it is asked first");
    asked(&outputs, neighbor)
}

fn asked(outputs: &[CustodyOutput], neighbor: &str) -> Vec<RecordSet> {
    let sets = outputs.iter().filter_map(|output| match output {
        CustodyOutput::Send { to, frame: Frame::Inventory(sets) } if *to == node(neighbor) => Some(sets.clone()),
        _ => None,
    });
    sets.flatten().collect()
}

fn said(outputs: &[CustodyOutput], neighbor: &str) -> Vec<Holding> {
    let holdings = outputs.iter().filter_map(|output| match output {
        CustodyOutput::Send { to, frame: Frame::Holdings(all) } if *to == node(neighbor) => Some(all.clone()),
        _ => None,
    });
    holdings.flatten().collect()
}

fn numbers(seqs: impl IntoIterator<Item = u32>) -> SeqRanges {
    seqs.into_iter().filter_map(Seq::new).collect()
}

fn set(number: u32, origin: &str, seqs: impl IntoIterator<Item = u32>) -> RecordSet {
    RecordSet::new(number, node(origin), record(1).epoch, numbers(seqs)).unwrap()
}

/// What a neighbor says that holds these numbers, of which `other` is another record.
fn holds(question: &RecordSet, seqs: &[u32], other: Option<u32>) -> Holding {
    let header = |seq: u32| if other == Some(seq) { HeaderDigest([255; 32]) } else { digest(seq) };
    let digest = SetDigest::of(seqs.iter().filter_map(|seq| Some((Seq::new(*seq)?, header(*seq)))));
    let set =
        RecordSet::new(question.number(), question.origin().clone(), question.epoch(), numbers(seqs.iter().copied()));
    Holding { set: set.unwrap(), digest }
}

fn accepted_by(custody: &Custody, neighbor: &str) -> Vec<u32> {
    let accepted = RecordState::Accepted { by: node(neighbor) };
    custody.records().filter(|view| view.state == accepted).map(|view| view.id.seq.get()).collect()
}

fn sorted(mut seqs: Vec<u32>) -> Vec<u32> {
    seqs.sort_unstable();
    seqs
}

#[test]
fn what_the_neighbor_holds_is_accepted_and_only_the_rest_is_offered() {
    // What the neighbor says of 1 to 6, which of that is another record, and what it accepts by that.
    let rows: &[(&[u32], Option<u32>, &[u32])] = &[
        (&[1, 2, 3, 4, 5, 6], None, &[1, 2, 3, 4, 5, 6]),
        (&[], None, &[]),
        (&[2, 3, 6], None, &[2, 3, 6]),
        (&[5], None, &[5]),
        // A conflict is found by offers.
        (&[1, 2, 3, 4, 5, 6], Some(4), &[]),
        (&[4], Some(4), &[]),
        // Of numbers that nobody asked about.
        (&[1, 2, 3, 7], None, &[]),
        (&[7, 8, 9], None, &[]),
    ];
    for (says, other, accepted) in rows {
        let mut custody = found(1..=6);
        let sets = come_up(&mut custody, at(1), NEXT);
        assert_eq!(sets, [set(0, "rumbai", 1..=6)]);
        custody.neighbor_holdings(at(2), &node(NEXT), &[holds(&sets[0], says, *other)]);
        let after = outputs(&mut custody);
        let offered: Vec<u32> = (1..=6).filter(|seq| !accepted.contains(seq)).collect();
        assert_eq!(sorted(handed(&after, NEXT).0), offered, "of {says:?}, {other:?} is another");
        assert_eq!(accepted_by(&custody, NEXT), *accepted);
        assert_eq!(asked(&after, NEXT), [], "nothing is asked twice");
    }
}

#[test]
fn a_record_that_is_asked_about_waits_with_a_reason_and_a_time_and_takes_no_window() {
    let records = holding_of(1..=100, MIB);
    let mut custody = relay(Recovered { records, ..Recovered::default() });
    assert_eq!(come_up(&mut custody, at(1), NEXT), [set(0, "rumbai", 1..=100)]);
    let why = WaitReason::Asked(node(NEXT));
    let state = RecordState::Waiting { why, until: Some(at(60_001)) };
    assert!(custody.records().all(|view| view.state == state && view.next_attempt == Some(at(60_001))));
    assert!(custody.awaits_answer(&node(NEXT)), "its death is to be noticed soon");
    custody.stored(at(2), vec![held(101, Class::Bulk, KIB, Some("rumbai"))]);
    assert_eq!(handed(&outputs(&mut custody), NEXT), (vec![], vec![101]), "what is new goes at once");
}

#[test]
fn a_neighbor_that_never_answers_is_offered_them_and_not_asked_again() {
    let mut custody = found(1..=6);
    come_up(&mut custody, at(1), NEXT);
    custody.handle_timeout(at(60_000));
    assert_eq!(outputs(&mut custody), []);
    custody.handle_timeout(at(60_001));
    let after = outputs(&mut custody);
    assert_eq!(sorted(handed(&after, NEXT).0), [1, 2, 3, 4, 5, 6]);
    assert_eq!(asked(&after, NEXT), []);
}

#[test]
fn few_are_offered_at_once_and_a_hub_is_offered_any() {
    for (records, neighbor) in [(3, NEXT), (3, HUB), (300, HUB)] {
        let mut custody = found(1..=records);
        custody.neighbor_up(&node(neighbor));
        custody.set_next_hops(at(1), &[node(neighbor)]);
        custody.receipts(at(1), &node(neighbor), &[]);
        let after = outputs(&mut custody);
        assert_eq!(handed(&after, neighbor).0.len(), records as usize);
        assert_eq!(asked(&after, neighbor), []);
    }
}

#[test]
fn a_few_sets_are_asked_about_at_a_time_and_all_in_the_end() {
    let mut custody = found(1..=10_000);
    let mut sets = come_up(&mut custody, at(1), NEXT);
    let mut confirmed = 0;
    while !sets.is_empty() {
        assert!(sets.len() <= 16, "{} sets", sets.len());
        let holdings: Vec<Holding> =
            sets.iter().map(|set| holds(set, &set.seqs().iter().map(Seq::get).collect::<Vec<_>>(), None)).collect();
        confirmed += sets.iter().map(|set| set.seqs().count()).sum::<u64>();
        custody.neighbor_holdings(at(2), &node(NEXT), &holdings);
        let after = outputs(&mut custody);
        assert_eq!(handed(&after, NEXT), (vec![], vec![]));
        sets = asked(&after, NEXT);
    }
    assert_eq!((confirmed, accepted_by(&custody, NEXT).len()), (10_000, 10_000));
    assert!(!custody.awaits_answer(&node(NEXT)));
}

#[test]
fn a_receipt_that_comes_in_between_leaves_nothing_in_doubt() {
    // With the receipted one the neighbor speaks of a record that is not here any more.
    for (says, accepted) in [(&[1, 2, 4, 5, 6][..], &[1, 2, 4, 5, 6][..]), (&[1, 2, 3, 4, 5, 6], &[])] {
        let mut custody = found(1..=6);
        let sets = come_up(&mut custody, at(1), NEXT);
        custody.receipts(at(2), &node(NEXT), &[receipt(&[3]).encode()]);
        custody.neighbor_holdings(at(3), &node(NEXT), &[holds(&sets[0], says, None)]);
        let offered: Vec<u32> = [1, 2, 4, 5, 6].into_iter().filter(|seq| !accepted.contains(seq)).collect();
        assert_eq!(sorted(handed(&outputs(&mut custody), NEXT).0), offered);
        assert_eq!(accepted_by(&custody, NEXT), accepted);
    }
}

#[test]
fn a_record_that_is_lost_in_between_is_not_offered_and_the_others_are() {
    let mut custody = found(1..=6);
    let sets = come_up(&mut custody, at(1), NEXT);
    custody.unreadable(at(2), &record(3));
    outputs(&mut custody);
    custody.neighbor_holdings(at(3), &node(NEXT), &[holds(&sets[0], &[1, 2, 3, 4, 5, 6], None)]);
    assert_eq!(sorted(handed(&outputs(&mut custody), NEXT).0), [1, 2, 4, 5, 6]);
}

#[test]
fn a_neighbor_that_comes_back_is_asked_again_and_an_old_answer_is_none() {
    let mut custody = found(1..=6);
    let old = come_up(&mut custody, at(1), NEXT).remove(0);
    custody.neighbor_down(at(2), &node(NEXT));
    let state = |why| RecordState::Waiting { why, until: None };
    assert!(custody.records().all(|view| view.state == state(WaitReason::NeighborLost(node(NEXT)))));
    let new = come_up(&mut custody, at(3), NEXT).remove(0);
    assert_eq!((new.seqs(), new.number()), (old.seqs(), old.number() + 1));
    custody.neighbor_holdings(at(4), &node(NEXT), &[holds(&old, &[1, 2, 3, 4, 5, 6], None)]);
    assert_eq!(outputs(&mut custody), []);
    custody.neighbor_holdings(at(5), &node(NEXT), &[holds(&new, &[1, 2, 3, 4, 5, 6], None)]);
    assert_eq!(accepted_by(&custody, NEXT).len(), 6);
}

#[test]
fn answers_that_nobody_asked_for_change_nothing() {
    let mut custody = found(1..=6);
    let question = come_up(&mut custody, at(1), NEXT).remove(0);
    let all = holds(&question, &[1, 2, 3, 4, 5, 6], None);
    let other = Holding { set: set(99, "rumbai", 1..=6), ..all.clone() };
    custody.neighbor_holdings(at(2), &node("rumbai"), std::slice::from_ref(&all));
    custody.neighbor_holdings(at(2), &node("lima-puluh"), std::slice::from_ref(&all));
    custody.neighbor_holdings(at(2), &node(NEXT), &[other]);
    assert_eq!(outputs(&mut custody), []);
    custody.neighbor_holdings(at(3), &node(NEXT), &[all.clone(), all.clone()]);
    custody.offers(&node("lima-puluh"), vec![], at(4));
    custody.neighbor_holdings(at(5), &node(NEXT), &[all]);
    assert_eq!(accepted_by(&custody, NEXT), [1, 2, 3, 4, 5, 6]);
    // An answer that speaks of another origin's records under the question's number.
    let mut custody = found(1..=6);
    let question = come_up(&mut custody, at(1), NEXT).remove(0);
    for origin in ["senapelan", "siak"] {
        let strange = Holding { set: set(question.number(), origin, 1..=6), digest: SetDigest([0; 32]) };
        custody.neighbor_holdings(at(2), &node(NEXT), &[strange]);
    }
    assert_eq!(accepted_by(&custody, NEXT), []);
    assert_eq!(sorted(handed(&outputs(&mut custody), NEXT).0), [1, 2, 3, 4, 5, 6]);
}

#[test]
fn a_neighbor_hears_what_is_held_and_nothing_else() {
    let mut custody = found(1..=6);
    open(&mut custody, at(0), &["rumbai"]);
    custody.set_next_hops(at(0), &[]);
    let questions = [
        set(7, "rumbai", 4..=9),
        set(8, "rumbai", [100, 33_554_431]),
        set(9, "siak", 1..=6),
        set(10, "rumbai", []),
        set(11, "rumbai", 4..=9),
    ];
    custody.inventory(at(1), &node("rumbai"), &questions);
    let holdings = said(&outputs(&mut custody), "rumbai");
    let numbers: Vec<(u32, String)> =
        holdings.iter().map(|holding| (holding.set.number(), format!("{:?}", holding.set.seqs()))).collect();
    let none = String::new;
    assert_eq!(numbers, [(7, "4-6".into()), (8, none()), (9, none()), (10, none()), (11, "4-6".into())]);
    assert_eq!(holdings[0], holds(&questions[0], &[4, 5, 6], None));
}

#[test]
fn who_cannot_promise_and_what_is_in_conflict_or_lost_says_nothing() {
    let records = || holding_of(1..=6, KIB);
    let unsure = CustodyConfig { promises: false, ..config("sukajadi") };
    let mut custody = Custody::new(unsure, Recovered { records: records(), ..Recovered::default() });
    custody.inventory(at(1), &node("rumbai"), &[set(1, "rumbai", 1..=6)]);
    assert_eq!(said(&outputs(&mut custody), "rumbai"), [holds(&set(1, "rumbai", []), &[], None)]);

    let hub = CustodyConfig { hub_key: Some(key(HUB)), ..config(HUB) };
    let mut custody = Custody::new(hub, Recovered::default());
    custody.stored(at(0), vec![held(1, Class::Normal, KIB, Some("rumbai"))]);
    outputs(&mut custody);
    custody.inventory(at(1), &node("rumbai"), &[set(1, "rumbai", [1])]);
    assert_eq!(said(&outputs(&mut custody), "rumbai"), [holds(&set(1, "rumbai", []), &[], None)]);

    let mut custody = relay(Recovered { records: records(), ..Recovered::default() });
    open(&mut custody, at(0), &["rumbai"]);
    let capture = own_capture();
    custody.receipts(at(1), &node("rumbai"), &[receipt_for(&capture.id).encode()]);
    custody.stored(at(2), vec![after_sync(capture)]);
    custody.unreadable(at(3), &record(2));
    outputs(&mut custody);
    custody.inventory(at(4), &node("rumbai"), &[set(1, "sukajadi", [1]), set(2, "rumbai", 1..=3)]);
    let holdings = said(&outputs(&mut custody), "rumbai");
    assert!(holdings[0].set.seqs().is_empty(), "nobody counts on what conflicts: {holdings:?}");
    assert_eq!(format!("{:?}", holdings[1].set.seqs()), "1,3");
}

#[test]
fn whoever_says_that_it_holds_records_passes_them_on_again() {
    let mut custody = found(1..=6);
    let sets = come_up(&mut custody, at(1), NEXT);
    custody.neighbor_holdings(at(2), &node(NEXT), &[holds(&sets[0], &[1, 2, 3, 4, 5, 6], None)]);
    custody.inventory(at(3), &node("lima-puluh"), &[set(1, "rumbai", 1..=4)]);
    assert_eq!(accepted_by(&custody, NEXT), [5, 6]);
    custody.handle_timeout(at(53));
    assert_eq!(asked(&outputs(&mut custody), NEXT), [set(1, "rumbai", 1..=4)]);
}

#[test]
fn an_answer_that_may_be_older_than_the_duty_is_asked_for_again() {
    let mut custody = found(1..=6);
    let sets = come_up(&mut custody, at(1), NEXT);
    custody.inventory(at(2), &node("lima-puluh"), &[set(1, "rumbai", 1..=4)]);
    custody.offers(&node("lima-puluh"), vec![offer(6, KIB)], at(2));
    assert_ne!(answered(&outputs(&mut custody), "lima-puluh"), [(6, Verdict::Have)].into(), "it is another record");
    custody.neighbor_holdings(at(3), &node(NEXT), &[holds(&sets[0], &[1, 2, 3, 4, 5, 6], None)]);
    assert_eq!(accepted_by(&custody, NEXT), [5, 6]);
    custody.handle_timeout(at(53));
    let sets = asked(&outputs(&mut custody), NEXT);
    assert_eq!(sets, [set(1, "rumbai", 1..=4)]);
    custody.neighbor_holdings(at(54), &node(NEXT), &[holds(&sets[0], &[1, 2, 3, 4], None)]);
    assert_eq!(accepted_by(&custody, NEXT).len(), 6);
}

/// Two nodes each take the other for the next hop, as maps that change may have it for a while.
#[test]
fn two_nodes_never_each_believe_that_the_other_passes_a_record_on() {
    for one_first in [false, true] {
        let names = ["sukajadi", NEXT];
        let start = |me: &str| {
            let recovered = Recovered { records: holding_of(1..=6, KIB), ..Recovered::default() };
            Custody::new(config(me), recovered)
        };
        let mut nodes = names.map(start);
        for (custody, other) in nodes.iter_mut().zip([names[1], names[0]]) {
            custody.neighbor_up(&node(other));
            custody.set_next_hops(at(0), &[node(other)]);
        }
        for round in 0..50 {
            let now = at(round * 10);
            let order = if one_first == (round % 3 == 0) { [0, 1] } else { [1, 0] };
            for from in order {
                nodes[from].handle_timeout(now);
                let frames = outputs(&mut nodes[from]);
                deliver(&mut nodes[1 - from], now, names[from], frames);
            }
            let both = |seq: &u32| accepted_by(&nodes[1], names[0]).contains(seq);
            let nobodys: Vec<u32> = accepted_by(&nodes[0], names[1]).into_iter().filter(both).collect();
            assert_eq!(nobodys, [], "round {round}");
        }
    }
}

fn deliver(custody: &mut Custody, now: Now, from: &str, outputs: Vec<CustodyOutput>) {
    let from = &node(from);
    for output in outputs {
        let CustodyOutput::Send { frame, .. } = output else { continue };
        match frame {
            Frame::ReceiptSummary(versions) => custody.receipt_summary(from, versions),
            Frame::Receipts(receipts) => custody.receipts(now, from, &receipts),
            Frame::Offers(offers) => custody.offers(from, offers, now),
            Frame::Answers(answers) => custody.answers(now, from, answers),
            Frame::Inventory(sets) => custody.inventory(now, from, &sets),
            Frame::Holdings(holdings) => custody.neighbor_holdings(now, from, &holdings),
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn what_was_accepted_long_ago_is_asked_about_and_one_that_the_neighbor_lost_comes_again() {
    let mut custody = found(1..=6);
    let sets = come_up(&mut custody, at(0), NEXT);
    custody.neighbor_holdings(at(0), &node(NEXT), &[holds(&sets[0], &[1, 2, 3, 4, 5, 6], None)]);
    let patience = Duration::from_secs(300);
    custody.handle_timeout(Now(patience));
    let sets = asked(&outputs(&mut custody), NEXT);
    assert_eq!(sets, [set(1, "rumbai", 1..=6)]);
    custody.neighbor_holdings(Now(patience), &node(NEXT), &[holds(&sets[0], &[1, 2, 3, 5, 6], None)]);
    assert_eq!(handed(&outputs(&mut custody), NEXT).0, [4]);
    custody.answers(
        Now(patience),
        &node(NEXT),
        vec![Answer { id: record(4), verdict: Verdict::Want { first_chunk: 0 } }],
    );
    assert_eq!(handed(&outputs(&mut custody), NEXT).1, [4]);
}
