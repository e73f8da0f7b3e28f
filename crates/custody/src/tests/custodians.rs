//! Neighbors that accept records and do not bring them home.

use std::time::Duration;

use estafet_model::{Class, Now, RecordId};

use super::relay::{HUB, at, handed, held, node, open, outputs, receipt, record, relay};
use crate::{Custody, CustodyEvent, CustodyOutput, RECEIPT_PATIENCE, RecordState, Recovered, Suspect};

const ROGUE: &str = "sukajadi";
const HONEST: &str = "senapelan";
const KIB: u32 = 1 << 10;

fn later(now: Now, patiences: u32) -> Now {
    now + RECEIPT_PATIENCE * patiences
}

/// Records 1 to `count` were handed to the rogue, which says that it has them.
fn accepted_by_rogue(hops: &[&str], count: u32) -> Custody {
    let mut custody = relay(Recovered::default());
    open(&mut custody, at(0), hops);
    custody.stored(at(0), (1..=count).map(|seq| held(seq, Class::Normal, KIB, None)).collect());
    outputs(&mut custody);
    custody.acceptances(at(1), &node(ROGUE), &(1..=count).map(record).collect::<Vec<RecordId>>());
    custody
}

fn state(custody: &Custody, seq: u32) -> RecordState {
    custody.record(&record(seq)).unwrap().state
}

/// Time passes, in steps, and the honest neighbor accepts all that comes to it.
fn pass(custody: &mut Custody, until: Now) -> Vec<CustodyOutput> {
    let mut all = Vec::new();
    while let Some((due, _)) = custody.poll_timeout().filter(|(due, _)| *due <= until) {
        custody.handle_timeout(due);
        all.extend(outputs(custody));
    }
    all
}

fn is_mistrust(output: &CustodyOutput) -> bool {
    matches!(output, CustodyOutput::Event(CustodyEvent::Mistrusted { neighbor, .. }) if *neighbor == node(ROGUE))
}

#[test]
fn what_is_not_receipted_in_time_goes_by_another() {
    let mut custody = accepted_by_rogue(&[ROGUE, HONEST], 3);
    let before = pass(&mut custody, at(299_000));
    assert_eq!(handed(&before, HONEST), (vec![], vec![]));
    let after = pass(&mut custody, later(at(2), 1));
    assert_eq!(handed(&after, HONEST).0, [1, 2, 3], "offered: they have been tried");
    assert_eq!(custody.suspects(), [], "nothing is proved yet");
}

#[test]
fn three_empty_words_end_the_trust_and_all_that_is_with_it_goes_by_another() {
    let mut custody = accepted_by_rogue(&[ROGUE, HONEST], 3);
    pass(&mut custody, later(at(2), 1));
    let now = later(at(10), 1);
    // Accepted by the rogue a moment ago.
    custody.stored(now, vec![held(9, Class::Normal, KIB, None)]);
    assert_eq!(handed(&outputs(&mut custody), ROGUE).1, [9], "it is still the best");
    custody.acceptances(now, &node(ROGUE), &[record(9)]);
    custody.acceptances(now, &node(HONEST), &[record(1), record(2), record(3)]);
    custody.receipts(now, &node(HONEST), &[receipt(&[1, 2]).encode()]);
    assert!(!outputs(&mut custody).iter().any(is_mistrust));
    custody.receipts(now, &node(HONEST), &[receipt(&[1, 2, 3]).encode()]);
    let outputs_then = outputs(&mut custody);
    assert!(outputs_then.iter().any(is_mistrust), "{outputs_then:?}");
    assert_eq!(handed(&outputs_then, HONEST).0, [9]);
    let until = now + Duration::from_secs(3_600);
    let suspect = Suspect { neighbor: node(ROGUE), records: 3, last: now, shunned_until: Some(until) };
    assert_eq!(custody.suspects(), std::slice::from_ref(&suspect));

    custody.stored(now, vec![held(10, Class::Normal, KIB, None)]);
    assert_eq!(handed(&outputs(&mut custody), HONEST).1, [10], "led around");
    pass(&mut custody, until);
    assert_eq!(custody.suspects(), [Suspect { shunned_until: None, ..suspect }]);
    custody.stored(until, vec![held(11, Class::Normal, KIB, None)]);
    assert_eq!(handed(&outputs(&mut custody), ROGUE).1, [11], "and tried again after an hour");
}

#[test]
fn who_is_silent_about_offers_for_minutes_is_led_around_as_well() {
    let mut custody = relay(Recovered::default());
    open(&mut custody, at(0), &[ROGUE, HONEST]);
    custody.stored(at(0), (1..=3).map(|seq| held(seq, Class::Normal, KIB, None)).collect());
    assert_eq!(handed(&outputs(&mut custody), ROGUE).1, [1, 2, 3]);
    assert_eq!(handed(&pass(&mut custody, at(599_000)), HONEST), (vec![], vec![]));
    let after = pass(&mut custody, at(602_000));
    assert_eq!(handed(&after, HONEST).0, [1, 2, 3]);
    let now = at(603_000);
    custody.acceptances(now, &node(HONEST), &[record(1), record(2), record(3)]);
    custody.receipts(now, &node(HONEST), &[receipt(&[1, 2, 3]).encode()]);
    assert!(outputs(&mut custody).iter().any(is_mistrust));
    let mut silent = relay(Recovered::default());
    open(&mut silent, at(0), &[ROGUE]);
    silent.stored(at(0), vec![held(1, Class::Normal, KIB, None)]);
    outputs(&mut silent);
    assert_eq!(handed(&pass(&mut silent, at(602_000)), ROGUE).0, [1], "who has no other way asks again");
}

#[test]
fn who_has_no_other_way_goes_on_with_the_rogue() {
    let mut custody = accepted_by_rogue(&[ROGUE], 3);
    let after = pass(&mut custody, later(at(2), 1));
    assert_eq!(handed(&after, ROGUE).0, [1, 2, 3]);
}

#[test]
fn a_long_queue_is_waited_for_and_a_record_that_was_overtaken_is_not() {
    for (overtakes, expected) in [(false, vec![]), (true, vec![1])] {
        let mut custody = relay(Recovered::default());
        open(&mut custody, at(0), &[ROGUE, HONEST]);
        for seq in 1..=2 {
            let accepted_at = at(u64::from(seq) * 1_000);
            custody.stored(accepted_at, vec![held(seq, Class::Normal, KIB, None)]);
            outputs(&mut custody);
            custody.acceptances(accepted_at, &node(ROGUE), &[record(seq)]);
        }
        let (first, second) = if overtakes { (2, 1) } else { (1, 2) };
        custody.receipts(at(200_000), &node(ROGUE), &[receipt(&[first]).encode()]);
        let passed = pass(&mut custody, at(310_000));
        assert_eq!(handed(&passed, HONEST).0, expected, "overtaken: {overtakes}");
        if !overtakes {
            assert_eq!(state(&custody, second), RecordState::Accepted { by: node(ROGUE) });
            let passed = pass(&mut custody, at(700_000));
            assert_eq!(handed(&passed, HONEST).0, [2], "it brings nothing home any more");
        }
    }
}

#[test]
fn while_no_way_leads_to_a_hub_nobody_is_blamed() {
    let mut custody = accepted_by_rogue(&[ROGUE, HONEST], 1);
    custody.set_next_hops(at(10), &[]);
    pass(&mut custody, later(at(10), 3));
    assert_eq!(state(&custody, 1), RecordState::Accepted { by: node(ROGUE) });
    let back = later(at(10), 3);
    custody.set_next_hops(back, &[node(ROGUE), node(HONEST)]);
    let soon = pass(&mut custody, back + RECEIPT_PATIENCE / 2);
    assert_eq!(handed(&soon, HONEST), (vec![], vec![]), "it has its time from then on");
    let after = pass(&mut custody, later(back, 3));
    assert_eq!(handed(&after, HONEST).0, [1]);
}

#[test]
fn whoever_has_it_from_elsewhere_excuses_the_first_and_so_does_a_hub() {
    let mut custody = accepted_by_rogue(&[ROGUE, HONEST], 4);
    pass(&mut custody, later(at(2), 1));
    let now = later(at(10), 1);
    let have = |seq| estafet_wire::Answer { id: record(seq), verdict: estafet_wire::Verdict::Have };
    custody.answers(now, &node(HONEST), (1..=4).map(have).collect());
    custody.receipts(now, &node(HONEST), &[receipt(&[1, 2, 3, 4]).encode()]);
    assert_eq!(custody.suspects(), []);

    let mut custody = relay(Recovered::default());
    open(&mut custody, at(0), &[HUB, HONEST]);
    custody.stored(at(0), vec![held(1, Class::Normal, KIB, None)]);
    outputs(&mut custody);
    custody.acceptances(at(1), &node(HUB), &[record(1)]);
    let again = pass(&mut custody, later(at(2), 1));
    assert_eq!(handed(&again, HUB).0, [1], "a hub that has it has done its part");
}
