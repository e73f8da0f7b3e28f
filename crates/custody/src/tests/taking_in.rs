//! What neighbors offer and send, until it is durable here.

use estafet_model::{ByteCount, Class, SigningKey};
use estafet_wire::{Frame, NeverReason, Offer, Verdict};

use super::relay::{after_sync, answered, at, header, held, key, node, offer, offer_of, open, outputs, piece};
use super::relay::{receipt, record, relay};
use crate::{Custody, CustodyOutput, HeldRecord, Recovered};

const KIB: u32 = 1 << 10;
const MIB: u32 = 1 << 20;

/// What one neighbor may be granted at once, in offers of a mebibyte. Two together are granted one more.
const BUDGET: usize = 2;

fn relay_with_neighbors() -> Custody {
    let mut custody = relay(Recovered::default());
    open(&mut custody, at(0), &["rumbai", "senapelan", "lima-puluh"]);
    custody.set_next_hops(at(0), &[]);
    custody
}

/// Offers so many records of a mebibyte, from number `first` on; returns how many are wanted.
fn wanted(custody: &mut Custody, neighbor: &str, first: u32, count: u32) -> usize {
    let digest = header(1, Class::Normal, 0).header().digest();
    let offer = |seq| Offer { id: record(seq), class: Class::Normal, payload_bytes: MIB, digest, for_hub: None };
    custody.offers(&node(neighbor), (first..first + count).map(offer).collect(), at(1));
    wants(custody, neighbor)
}

fn wants(custody: &mut Custody, neighbor: &str) -> usize {
    answered(&outputs(custody), neighbor).values().filter(|verdict| matches!(verdict, Verdict::Want { .. })).count()
}

#[test]
fn the_budget_bounds_what_is_wanted_and_returns_with_a_lost_neighbor() {
    let mut custody = relay_with_neighbors();
    for round in 0..5 {
        // Who was gone before anything came has to make good for it, one record at a time.
        let expected = if round == 0 { BUDGET } else { 1 };
        assert_eq!(wanted(&mut custody, "rumbai", 1 + round * 100, 100), expected, "round {round}");
        custody.neighbor_down(at(2), &node("rumbai"));
        assert_eq!(wants(&mut custody, "rumbai"), 0, "who is gone is granted nothing");
    }
    assert_eq!(wanted(&mut custody, "senapelan", 1, 100), BUDGET);
}

#[test]
fn what_a_lost_neighbor_leaves_is_granted_to_who_waits() {
    let mut custody = relay_with_neighbors();
    assert_eq!(wanted(&mut custody, "rumbai", 1, 40), BUDGET);
    assert_eq!(wanted(&mut custody, "senapelan", 101, 40), 1, "nobody keeps another from sending anything");
    custody.neighbor_down(at(2), &node("rumbai"));
    assert_eq!(wants(&mut custody, "senapelan"), BUDGET - 1);
}

#[test]
fn what_is_urgent_begins_at_once_and_who_is_slow_keeps_nobody_else_from_sending() {
    let mut custody = relay_with_neighbors();
    assert_eq!((wanted(&mut custody, "rumbai", 1, 40), wanted(&mut custody, "senapelan", 101, 1)), (BUDGET, 1));
    let offers = [(200, Class::Bulk), (201, Class::Normal), (202, Class::Urgent)];
    let offers = offers.map(|(seq, class)| offer_of(&header(seq, class, 600 * KIB)));
    custody.offers(&node("senapelan"), offers.into(), at(1));
    let wanted_now = |custody: &mut Custody| answered(&outputs(custody), "senapelan").into_keys().collect::<Vec<_>>();
    assert_eq!(wanted_now(&mut custody), [202]);
    assert_eq!(custody.poll_timeout().map(|(when, _)| when), Some(at(1_001)));
    custody.handle_timeout(at(1_000));
    assert_eq!(wanted_now(&mut custody), []);
    custody.handle_timeout(at(1_001));
    assert_eq!(wanted_now(&mut custody), [201], "then its own share is used up");
}

#[test]
fn who_offers_again_instead_of_sending_is_told_to_send_one_at_a_time_and_keeps_nobody_waiting() {
    let mut custody = relay_with_neighbors();
    assert_eq!(wanted(&mut custody, "rumbai", 1, 2), BUDGET);
    for round in 0..5 {
        assert_eq!(wanted(&mut custody, "rumbai", 1, 2), 1, "round {round}");
    }
    let urgent = [101, 102].map(|seq| offer_of(&header(seq, Class::Urgent, 12 * KIB)));
    custody.offers(&node("rumbai"), urgent.into(), at(1));
    assert_eq!(wants(&mut custody, "rumbai"), 1, "what is urgent does not wait for the rest");
    // None of that counts, so the other may send all that one may.
    assert_eq!(wanted(&mut custody, "senapelan", 201, 9), BUDGET);
}

#[test]
fn what_is_withdrawn_or_lost_keeps_nothing_waiting() {
    let mut custody = relay_with_neighbors();
    let ids = |seqs: &[u32]| seqs.iter().map(|seq| record(*seq)).collect::<Vec<_>>();
    assert_eq!(wanted(&mut custody, "rumbai", 1, 5), BUDGET);
    custody.withdrawn(at(2), &node("rumbai"), &ids(&[1, 3]));
    assert_eq!(wants(&mut custody, "rumbai"), 0, "it has one to send, and one to make good for");
    custody.sought(at(3), &node("rumbai"), &ids(&[2, 4]));
    let wanted_now = answered(&outputs(&mut custody), "rumbai").into_keys().collect::<Vec<_>>();
    assert_eq!(wanted_now, [3], "its offer may be newer than the word that came by another bearer");
    custody.withdrawn(at(4), &node("senapelan"), &ids(&[3]));
    assert_eq!(wanted(&mut custody, "rumbai", 6, 1), 0, "nobody withdraws what another sends");
}

#[test]
fn budget_is_not_lost_on_a_record_that_comes_from_elsewhere() {
    let mut custody = relay_with_neighbors();
    let small = header(1, Class::Normal, 12 * KIB);
    // Each by itself: who is gone before it has sent anything is told to send less.
    let others = ["lima-puluh", "sail", "tampan"];
    open(&mut custody, at(1), &others);
    for other in others {
        custody.offers(&node("rumbai"), vec![offer_of(&small)], at(1));
        custody.piece(at(2), &node("senapelan"), piece(&small));
        custody.store_failed(&record(1));
        outputs(&mut custody);
        // All but the budget's last: one byte that leaked would show.
        assert_eq!(wanted(&mut custody, other, 100, 40), BUDGET, "{other}");
        custody.neighbor_down(at(3), &node(other));
        outputs(&mut custody);
    }
}

#[test]
fn every_offer_is_answered_also_if_the_record_came_while_it_waited() {
    let small = header(1, Class::Normal, 12 * KIB);
    let mut custody = relay_with_neighbors();
    assert_eq!((wanted(&mut custody, "rumbai", 2, 1), wanted(&mut custody, "senapelan", 3, 1)), (1, 1));
    assert_eq!(wanted(&mut custody, "lima-puluh", 100, 40), 1);
    for neighbor in ["rumbai", "senapelan"] {
        custody.offers(&node(neighbor), vec![offer_of(&small)], at(1));
    }
    assert!(answered(&outputs(&mut custody), "rumbai").is_empty(), "the budget is used up");
    custody.neighbor_down(at(2), &node("lima-puluh"));
    let after = outputs(&mut custody);
    assert_eq!(answered(&after, "rumbai"), [(1, Verdict::Want { first_chunk: 0 })].into());
    assert!(matches!(answered(&after, "senapelan")[&1], Verdict::Wait(_)), "or it would wait for ever");
}

#[test]
fn an_offer_whose_record_was_receipted_while_it_waited_is_not_wanted() {
    let mut custody = relay_with_neighbors();
    assert_eq!(wanted(&mut custody, "rumbai", 2, 1), 1);
    assert_eq!(wanted(&mut custody, "lima-puluh", 100, 40), BUDGET);
    custody.offers(&node("rumbai"), vec![offer(1, 12 * KIB)], at(1));
    custody.receipts(at(2), &node("senapelan"), &[receipt(&[1]).encode()]);
    custody.neighbor_down(at(3), &node("lima-puluh"));
    assert_eq!(answered(&outputs(&mut custody), "rumbai"), [(1, Verdict::Have)].into());
    assert_eq!(wanted(&mut custody, "senapelan", 200, 40), BUDGET);
}

#[test]
fn a_record_that_is_wanted_from_one_neighbor_keeps_the_others_waiting() {
    let mut custody = relay_with_neighbors();
    custody.offers(&node("rumbai"), vec![offer(1, MIB)], at(1));
    assert_eq!(answered(&outputs(&mut custody), "rumbai"), [(1, Verdict::Want { first_chunk: 0 })].into());
    custody.offers(&node("senapelan"), vec![offer(1, MIB)], at(1));
    assert!(matches!(answered(&outputs(&mut custody), "senapelan")[&1], Verdict::Wait(_)));
    custody.neighbor_down(at(2), &node("rumbai"));
    custody.offers(&node("senapelan"), vec![offer(1, MIB)], at(3));
    assert_eq!(answered(&outputs(&mut custody), "senapelan"), [(1, Verdict::Want { first_chunk: 0 })].into());
}

#[test]
fn a_full_store_asks_to_wait_and_takes_nothing() {
    let mut custody = relay_with_neighbors();
    custody.set_room(ByteCount(u64::from(KIB)));
    let small = header(1, Class::Normal, 2 * KIB);
    custody.offers(&node("rumbai"), vec![offer_of(&small)], at(1));
    assert!(matches!(answered(&outputs(&mut custody), "rumbai")[&1], Verdict::Full(_)));
    custody.piece(at(2), &node("rumbai"), piece(&small));
    let outputs = outputs(&mut custody);
    assert!(matches!(answered(&outputs, "rumbai")[&1], Verdict::Full(_)));
    assert!(!outputs.iter().any(|output| matches!(output, CustodyOutput::Store(_))));
}

/// Records of a mebibyte that one origin has sent, by whomever; room is left for `left` more.
fn with_much_of_one_origin(count: u32, left: u32) -> Custody {
    let mut custody = relay_with_neighbors();
    custody.stored(at(0), (1..=count).map(|seq| held(seq, Class::Normal, MIB, Some("rumbai"))).collect());
    custody.set_room(ByteCount(u64::from(left) * u64::from(MIB)));
    outputs(&mut custody);
    custody
}

#[test]
fn an_origin_may_have_twice_what_is_left_for_all_others_and_its_first_record_in_any_case() {
    let digest = header(1, Class::Normal, 0).header().digest();
    for (count, left, expected) in [
        (0, 1, [true, true]),
        (4, 4, [true, true]),
        (6, 4, [false, true]),
        (4, 2, [false, true]),
        (4, 0, [false, false]),
    ] {
        let mut custody = with_much_of_one_origin(count, left);
        let takes = ["rumbai.1.100", "lima-puluh.1.1"].map(|id| {
            let offer =
                Offer { id: id.parse().unwrap(), class: Class::Normal, payload_bytes: MIB, digest, for_hub: None };
            custody.offers(&node("senapelan"), vec![offer], at(1));
            let answers = answered(&outputs(&mut custody), "senapelan");
            let verdict = answers.into_values().next().unwrap();
            custody.neighbor_down(at(1), &node("senapelan"));
            open(&mut custody, at(1), &["senapelan"]);
            assert!(matches!(verdict, Verdict::Want { .. } | Verdict::Full(_)), "{verdict:?}");
            matches!(verdict, Verdict::Want { .. })
        });
        assert_eq!(takes, expected, "{count} records here, room for {left}");
    }
    let mut custody = with_much_of_one_origin(10, 2);
    custody.piece(at(1), &node("rumbai"), piece(&header(100, Class::Normal, KIB)));
    assert!(matches!(answered(&outputs(&mut custody), "rumbai")[&100], Verdict::Full(_)), "nor without an offer");
    custody.receipts(at(2), &node("senapelan"), &[receipt(&[1, 2, 3, 4, 5, 6, 7, 8, 9]).encode()]);
    outputs(&mut custody);
    custody.piece(at(3), &node("rumbai"), piece(&header(100, Class::Normal, KIB)));
    assert!(outputs(&mut custody).iter().any(|output| matches!(output, CustodyOutput::Store(_))), "it is free again");
}

#[test]
fn a_record_is_accepted_when_it_is_durable_by_all_who_sent_it() {
    let mut custody = relay_with_neighbors();
    let small = header(1, Class::Normal, KIB);
    custody.piece(at(1), &node("rumbai"), piece(&small));
    custody.piece(at(1), &node("senapelan"), piece(&small));
    custody.offers(&node("lima-puluh"), vec![offer_of(&small)], at(1));
    let before = outputs(&mut custody);
    assert_eq!(before.iter().filter(|output| matches!(output, CustodyOutput::Store(_))).count(), 1, "stored once");
    assert!(!before.iter().any(|output| matches!(output, CustodyOutput::Send { .. })), "nothing is said yet");
    let digest = small.header().digest();
    let stored = HeldRecord { digest, ..held(1, Class::Normal, KIB, Some("rumbai")).into_inner() };
    custody.stored(at(2), vec![after_sync(stored)]);
    let after = outputs(&mut custody);
    for neighbor in ["rumbai", "senapelan", "lima-puluh"] {
        let acceptance = CustodyOutput::Send { to: node(neighbor), frame: Frame::Acceptances(vec![record(1)]) };
        assert!(after.contains(&acceptance), "{neighbor} hears nothing: {after:?}");
    }
    custody.offers(&node("rumbai"), vec![offer_of(&small)], at(3));
    assert_eq!(answered(&outputs(&mut custody), "rumbai"), [(1, Verdict::Have)].into());
}

#[test]
fn a_record_that_could_not_be_stored_is_not_accepted_and_may_come_again() {
    let mut custody = relay_with_neighbors();
    let small = header(1, Class::Normal, KIB);
    for _ in 0..2 {
        custody.piece(at(1), &node("rumbai"), piece(&small));
        assert!(matches!(outputs(&mut custody)[..], [CustodyOutput::Store(_)]));
        custody.store_failed(&record(1));
        let after = outputs(&mut custody);
        assert!(matches!(answered(&after, "rumbai")[&1], Verdict::Full(_)));
        assert_eq!(after.len(), 1, "{after:?}");
    }
}

#[test]
fn a_second_record_under_the_same_id_is_refused() {
    let mut custody = relay_with_neighbors();
    custody.piece(at(1), &node("rumbai"), piece(&header(1, Class::Normal, KIB)));
    outputs(&mut custody);
    custody.offers(&node("senapelan"), vec![offer(1, 2 * KIB)], at(2));
    assert_eq!(answered(&outputs(&mut custody), "senapelan"), [(1, Verdict::Never(NeverReason::Conflict))].into());
}

#[test]
fn a_record_of_nobody_in_the_topology_is_refused() {
    let mut custody = relay_with_neighbors();
    let stranger = Offer { id: "siak.1.1".parse().unwrap(), ..offer(1, KIB) };
    custody.offers(&node("rumbai"), vec![stranger], at(1));
    assert_eq!(answered(&outputs(&mut custody), "rumbai"), [(1, Verdict::Never(NeverReason::UnknownOrigin))].into());
}

#[test]
fn a_record_of_a_machine_that_was_replaced_is_taken_if_its_key_still_counts() {
    let first = piece(&header(1, Class::Normal, KIB));
    let (now, before) = (SigningKey::from_seed([77; 32]).public(), key("rumbai").public());
    for (keys, taken) in [(vec![now], false), (vec![now, before], true)] {
        let mut custody = relay_with_neighbors();
        custody.set_origins([(node("rumbai"), keys)].into());
        custody.piece(at(1), &node("senapelan"), first.clone());
        let after = outputs(&mut custody);
        assert_eq!(after.iter().any(|output| matches!(output, CustodyOutput::Store(_))), taken, "{after:?}");
        let refused = answered(&after, "senapelan").get(&1) == Some(&Verdict::Never(NeverReason::ForgedHeader));
        assert_eq!(refused, !taken, "{after:?}");
    }
}
