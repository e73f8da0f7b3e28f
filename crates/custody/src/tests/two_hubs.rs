//! Two hubs: each passes on what the other lacks, and origins keep theirs until enough hubs have signed.

use std::collections::BTreeMap;
use std::time::Duration;

use estafet_model::{Class, NodeId, ReceiptKey, RecordId, SeqRanges, SignedReceipt};
use estafet_wire::{Frame, Offer, Verdict};

use super::relay::{
    HUB, after_sync, answered, at, config, handed, header, held, key, node, offer_of, open, outputs, piece, record,
};
use crate::{Custody, CustodyConfig, CustodyOutput, HeldRecord, RecordState, Recovered, WaitReason};

const OTHER: &str = "cadangan";
const KIB: u32 = 1 << 10;

fn config_of(me: &str, copies: usize) -> CustodyConfig {
    let hub_key = [HUB, OTHER].contains(&me).then(|| key(me));
    let one_hub = config(me);
    let mut hubs = one_hub.hubs.clone();
    hubs.insert(node(OTHER), key(OTHER).public());
    CustodyConfig { hub_key, hubs, copies, ..one_hub }
}

/// A node between its neighbors, by the last of which the other hub is reached.
fn between(me: &str, copies: usize, neighbors: &[&str]) -> Custody {
    let mut custody = Custody::new(config_of(me, copies), Recovered::default());
    open(&mut custody, at(0), neighbors);
    custody.set_hops_to_hubs(at(0), &hops_to_other(neighbors.last().unwrap()));
    outputs(&mut custody);
    custody
}

fn hops_to_other(neighbor: &str) -> BTreeMap<NodeId, Vec<NodeId>> {
    BTreeMap::from([(node(OTHER), vec![node(neighbor)])])
}

fn signed(hub: &str, ids: &[RecordId]) -> SignedReceipt {
    let key_of = ReceiptKey { hub: node(hub), origin: ids[0].origin.clone(), epoch: ids[0].epoch };
    SignedReceipt::sign(key_of, 0, ids.iter().map(|id| id.seq).collect(), &key(hub))
}

fn hears(custody: &mut Custody, millis: u64, from: &str, receipt: &SignedReceipt) -> Vec<CustodyOutput> {
    custody.receipts(at(millis), &node(from), &[receipt.encode()]);
    outputs(custody)
}

fn stored(seq: u32, from: Option<&str>) -> HeldRecord {
    let digest = header(seq, Class::Normal, KIB).header().digest();
    HeldRecord { digest, ..held(seq, Class::Normal, KIB, from).into_inner() }
}

fn offer_for(seq: u32, hub: &str) -> Offer {
    Offer { for_hub: Some(node(hub)), ..offer_of(&header(seq, Class::Normal, KIB)) }
}

/// For whom records were offered to this neighbor.
fn offered_for(outputs: &[CustodyOutput], neighbor: &str) -> Vec<(u32, Option<NodeId>)> {
    let offers = outputs.iter().filter_map(|output| match output {
        CustodyOutput::Send { to, frame: Frame::Offers(offers) } if *to == node(neighbor) => Some(offers),
        _ => None,
    });
    offers.flatten().map(|offer| (offer.id.seq.get(), offer.for_hub.clone())).collect()
}

fn asked_of_the_archive(outputs: &[CustodyOutput]) -> Vec<(RecordId, SeqRanges)> {
    let asked = outputs.iter().filter_map(|output| match output {
        CustodyOutput::Recall { origin, epoch, seqs } => {
            Some((RecordId { origin: origin.clone(), epoch: *epoch, seq: seqs.iter().next()? }, seqs.clone()))
        }
        _ => None,
    });
    asked.collect()
}

#[test]
fn a_hub_passes_on_what_the_other_has_not_signed_for_and_nothing_else() {
    let mut hub = between(HUB, 1, &["rumbai", "sukajadi"]);
    hub.stored(at(1), (1..=3).map(|seq| after_sync(stored(seq, Some("rumbai")))).collect());
    hears(&mut hub, 2, "sukajadi", &signed(OTHER, &[record(2)]));
    hub.handle_timeout(at(300));
    let lacking: SeqRanges = [record(1).seq, record(3).seq].into_iter().collect();
    assert_eq!(asked_of_the_archive(&outputs(&mut hub)), [(record(1), lacking)]);
    hub.recalled(at(310), vec![after_sync(stored(1, None)), after_sync(stored(3, None))]);
    let after = outputs(&mut hub);
    assert_eq!(offered_for(&after, "sukajadi"), [(1, Some(node(OTHER))), (3, Some(node(OTHER)))]);
    assert_eq!((hub.held_count(), hub.copies_count(), hub.holdings().count()), (0, 2, 0), "no duty of the area's");
    // What is under way is not looked for again.
    hub.handle_timeout(at(600));
    assert_eq!(asked_of_the_archive(&outputs(&mut hub)), []);
    let all: Vec<RecordId> = (1..=3).map(record).collect();
    let after = hears(&mut hub, 700, "sukajadi", &signed(OTHER, &all));
    assert_eq!(hub.copies_count(), 0);
    assert!(!after.iter().any(|output| matches!(output, CustodyOutput::Release(_))), "an archive keeps everything");
    hub.handle_timeout(at(1_000));
    assert_eq!(asked_of_the_archive(&outputs(&mut hub)), []);
}

#[test]
fn a_hub_that_was_dark_for_long_is_filled_a_window_at_a_time() {
    let mut hub = between(HUB, 1, &["rumbai", "sukajadi"]);
    hub.set_hops_to_hubs(at(0), &BTreeMap::new());
    hub.stored(at(1), (1..=5_000).map(|seq| held(seq, Class::Normal, KIB, None)).collect());
    hub.handle_timeout(at(300));
    assert_eq!(asked_of_the_archive(&outputs(&mut hub)), [], "nobody is there");
    hub.set_hops_to_hubs(at(400), &hops_to_other("sukajadi"));
    hub.handle_timeout(at(600));
    let asked = asked_of_the_archive(&outputs(&mut hub));
    assert_eq!(asked[0].1, SeqRanges::up_to(Some(record(4_096).seq)));
    hub.recalled(at(610), (1..=4_096).map(|seq| held(seq, Class::Normal, KIB, None)).collect());
    outputs(&mut hub);
    hub.handle_timeout(at(810));
    assert_eq!(asked_of_the_archive(&outputs(&mut hub)), [], "the window is full");
    let first: Vec<RecordId> = (1..=4_000).map(record).collect();
    hears(&mut hub, 900, "sukajadi", &signed(OTHER, &first));
    hub.handle_timeout(at(1_100));
    assert_eq!(asked_of_the_archive(&outputs(&mut hub))[0].1.count(), 904);
    // It is dark again: the archive has it all, so nothing of it stays in memory.
    hub.set_hops_to_hubs(at(1_200), &BTreeMap::new());
    assert_eq!(hub.copies_count(), 0);
}

#[test]
fn what_cannot_be_read_is_passed_on_no_more() {
    let mut hub = between(HUB, 1, &["rumbai", "sukajadi"]);
    hub.stored(at(1), vec![after_sync(stored(1, None))]);
    hub.recalled(at(2), vec![after_sync(stored(1, None))]);
    assert_eq!(hub.copies_count(), 1);
    hub.unreadable(at(3), &record(1));
    assert_eq!((hub.copies_count(), hub.committed_count()), (0, 1), "the archive is asked whether it is lost");
    hub.committed_unreadable(at(4), stored(1, None));
    assert_eq!((hub.committed_count(), hub.quarantine().count()), (0, 1));
    hub.recalled(at(5), vec![after_sync(stored(1, None))]);
    assert_eq!(hub.copies_count(), 0, "found before it was lost");
    hears(&mut hub, 6, "sukajadi", &signed(OTHER, &[record(1)]));
    assert_eq!(hub.quarantine().count(), 1, "it is sought, although another hub has it");
}

#[test]
fn a_relay_carries_for_the_hub_that_lacks_it_and_says_have_otherwise() {
    let mut relay = between("sukajadi", 1, &[HUB, "senapelan"]);
    hears(&mut relay, 1, HUB, &signed(HUB, &[record(1), record(2)]));
    relay.offers(&node(HUB), vec![offer_of(&header(1, Class::Normal, KIB)), offer_for(2, OTHER)], at(2));
    let after = answered(&outputs(&mut relay), HUB);
    assert_eq!(after, [(1, Verdict::Have), (2, Verdict::Want { first_chunk: 0 })].into());
    relay.piece(at(3), &node(HUB), piece(&header(2, Class::Normal, KIB)));
    relay.stored(at(4), vec![after_sync(stored(2, Some(HUB)))]);
    let after = outputs(&mut relay);
    assert_eq!(offered_for(&after, "senapelan"), [(2, Some(node(OTHER)))], "toward the other, never back");
    assert_eq!((relay.held_count(), relay.copies_count()), (0, 1));
    let again = hears(&mut relay, 5, HUB, &signed(HUB, &[record(1), record(2), record(3)]));
    assert!(!again.iter().any(|output| matches!(output, CustodyOutput::Release(_))) && relay.copies_count() == 1);
    hears(&mut relay, 6, "senapelan", &signed(OTHER, &[record(2)]));
    assert_eq!(relay.copies_count(), 0);
    relay.offers(&node(HUB), vec![offer_for(2, OTHER)], at(7));
    assert_eq!(answered(&outputs(&mut relay), HUB), [(2, Verdict::Have)].into());
}

#[test]
fn who_holds_a_record_for_any_hub_hears_for_which_it_is() {
    let mut relay = between("sukajadi", 1, &[HUB, "senapelan"]);
    relay.set_next_hops(at(0), &[]);
    relay.stored(at(1), vec![after_sync(stored(1, Some("rumbai")))]);
    relay.offers(&node(HUB), vec![offer_for(1, OTHER)], at(2));
    let after = outputs(&mut relay);
    assert_eq!(answered(&after, HUB), [(1, Verdict::Have)].into());
    assert_eq!(offered_for(&after, "senapelan"), [(1, Some(node(OTHER)))]);
    let after = hears(&mut relay, 3, HUB, &signed(HUB, &[record(1)]));
    assert!(!after.iter().any(|output| matches!(output, CustodyOutput::Release(_))), "the other still lacks it");
    // A hub that the topology does not know is none.
    relay.offers(&node(HUB), vec![offer_for(9, "siak")], at(4));
    relay.piece(at(5), &node(HUB), piece(&header(9, Class::Normal, KIB)));
    relay.stored(at(6), vec![after_sync(stored(9, Some(HUB)))]);
    assert_eq!((relay.held_count(), relay.copies_count()), (1, 1));
}

#[test]
fn an_origin_keeps_its_own_until_as_many_hubs_have_signed_as_the_topology_demands() {
    for (copies, kept) in [(1, 0), (2, 1)] {
        let mut origin = between("rumbai", copies, &[HUB, "senapelan"]);
        origin.stored(at(1), vec![after_sync(stored(1, None))]);
        assert_eq!(handed(&outputs(&mut origin), HUB).1, [1]);
        origin.acceptances(at(2), &node(HUB), &[record(1)]);
        hears(&mut origin, 3, HUB, &signed(HUB, &[record(1)]));
        assert_eq!((origin.copies_count(), origin.held_count()), (kept, 0), "{copies} copies");
        assert!(origin.own_held(record(1).epoch).is_empty(), "it is receipted: the ledger counts it once");
        assert_eq!(origin.unaccepted_count(), 0);
        if copies == 1 {
            continue;
        }
        let view = origin.record(&record(1)).unwrap();
        let why = WaitReason::Signed(node(HUB));
        assert!(matches!(&view.state, RecordState::Waiting { why: is, until: Some(_) } if *is == why), "{view:?}");
        // The hub that has it takes long to pass it on, or is dark: the origin offers it to the other.
        let (due, _) = origin.poll_timeout().unwrap();
        assert!(due >= at(300_000), "{due:?}");
        origin.handle_timeout(due);
        assert_eq!(offered_for(&outputs(&mut origin), "senapelan"), [(1, Some(node(OTHER)))]);
        hears(&mut origin, 400_000, "senapelan", &signed(OTHER, &[record(1)]));
        assert_eq!(origin.copies_count(), 0);
        let released = CustodyOutput::Release(vec![record(1)]);
        origin.receipt_kept(&after_sync(signed(HUB, &[record(1)]).key().clone()));
        assert!(!outputs(&mut origin).contains(&released), "the first receipt did not release it");
        origin.receipt_kept(&after_sync(signed(OTHER, &[record(1)]).key().clone()));
        assert!(outputs(&mut origin).contains(&released));
    }
}

#[test]
fn an_origin_on_the_way_to_another_hub_does_not_wait_with_what_it_keeps() {
    let mut origin = between("rumbai", 2, &[HUB, "senapelan"]);
    origin.stored(at(1), vec![after_sync(stored(1, None))]);
    origin.acceptances(at(2), &node(HUB), &[record(1)]);
    outputs(&mut origin);
    // The hub passes it on before its receipt is here: the duty cannot be taken yet.
    origin.offers(&node(HUB), vec![offer_for(1, OTHER)], at(3));
    assert_eq!(answered(&outputs(&mut origin), HUB), [(1, Verdict::Wait(Duration::from_millis(200)))].into());
    hears(&mut origin, 4, HUB, &signed(HUB, &[record(1)]));
    origin.offers(&node(HUB), vec![offer_for(1, OTHER)], at(203));
    let after = outputs(&mut origin);
    assert_eq!(answered(&after, HUB), [(1, Verdict::Have)].into());
    assert_eq!(offered_for(&after, "senapelan"), [(1, Some(node(OTHER)))], "at once, and not after five minutes");
}

#[test]
fn an_origin_takes_a_copy_back_when_its_only_hub_has_lost_it() {
    let mut origin = between("rumbai", 2, &[HUB, "senapelan"]);
    origin.stored(at(1), vec![after_sync(stored(1, None))]);
    origin.acceptances(at(2), &node(HUB), &[record(1)]);
    hears(&mut origin, 3, HUB, &signed(HUB, &[record(1)]));
    let key_of = signed(HUB, &[record(1)]).key().clone();
    let lost = SignedReceipt::sign(key_of, 1, SeqRanges::new(), &key(HUB));
    let after = hears(&mut origin, 4, HUB, &lost);
    assert_eq!((origin.held_count(), origin.copies_count()), (1, 0));
    assert_eq!(handed(&after, HUB).0, [1], "offered to whichever hub is nearest, at once");
}

#[test]
fn copies_wait_for_a_slow_hub_without_delaying_what_nobody_has_yet() {
    let mut relay = between("sukajadi", 1, &[HUB, "senapelan"]);
    // The window is full before they are all under way.
    let bytes = 15 << 10;
    for seq in 1..=200 {
        let header = header(seq, Class::Normal, bytes);
        relay.offers(&node(HUB), vec![Offer { for_hub: Some(node(OTHER)), ..offer_of(&header) }], at(1));
        relay.piece(at(1), &node(HUB), piece(&header));
    }
    relay.stored(at(2), (1..=200).map(|seq| held(seq, Class::Normal, bytes, Some(HUB))).collect());
    assert!(handed(&outputs(&mut relay), "senapelan").0.len() < 200);
    relay.set_next_hops(at(3), &[node(HUB)]);
    relay.stored(at(4), vec![after_sync(stored(9_000, Some("rumbai")))]);
    assert_eq!(handed(&outputs(&mut relay), HUB).1, [9_000]);
}
