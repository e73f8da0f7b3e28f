//! A payload of several chunks goes on from what is here, whoever sends it.

use std::time::Duration;

use bytes::Bytes;
use estafet_model::{CHUNK_BYTES, ChunkHash, Class, SignedHeader, chunk_count};
use estafet_wire::{NeverReason, PieceHead, Verdict};

use super::relay::{answered, at, header, node, offer_of, open, outputs, receipt, record, relay};
use crate::{Custody, CustodyEvent, CustodyOutput, Piece, Recovered, RecoveredTransfer, StorePayload, TransferId};

const CHUNKS: u32 = 20;
const BYTES: u32 = CHUNKS * (16 << 10);

fn big() -> SignedHeader {
    header(1, Class::Normal, BYTES)
}

fn relay_with_neighbors() -> Custody {
    let mut custody = relay(Recovered::default());
    open(&mut custody, at(0), &["rumbai", "senapelan"]);
    custody.set_next_hops(at(0), &[]);
    custody
}

fn hashes() -> Vec<ChunkHash> {
    (0..CHUNKS).map(|index| ChunkHash::of(&[0; CHUNK_BYTES], index, CHUNKS)).collect()
}

fn chunk(index: u32) -> Piece {
    let first = index == 0;
    let head = PieceHead {
        signed_header: first.then(|| big().encode()),
        id: record(1),
        index,
        chunks: chunk_count(BYTES),
        chunk_hashes: if first { hashes() } else { Vec::new() },
    };
    let data = Bytes::from(vec![0; CHUNK_BYTES]);
    Piece { hash: ChunkHash::of(&data, index, CHUNKS), head, data }
}

/// The neighbor offers the record; the first chunk that is wanted of it.
fn wanted_from(custody: &mut Custody, neighbor: &str) -> u32 {
    custody.offers(&node(neighbor), vec![offer_of(&big())], at(1));
    match answered(&outputs(custody), neighbor).get(&1) {
        Some(Verdict::Want { first_chunk }) => *first_chunk,
        other => panic!("{neighbor} was answered {other:?}"),
    }
}

fn send(custody: &mut Custody, neighbor: &str, chunks: std::ops::Range<u32>) -> Vec<CustodyOutput> {
    chunks.for_each(|index| custody.piece(at(2), &node(neighbor), chunk(index)));
    outputs(custody)
}

/// Which chunks went to the store, in order.
fn stored_chunks(outputs: &[CustodyOutput]) -> Vec<u32> {
    let index = |output: &CustodyOutput| match output {
        CustodyOutput::StoreChunk { index, .. } => Some(*index),
        _ => None,
    };
    outputs.iter().filter_map(index).collect()
}

fn is_whole(outputs: &[CustodyOutput]) -> bool {
    outputs.iter().any(|output| matches!(output, CustodyOutput::Store(record) if record.header == big()))
}

fn wasted(from: &str) -> CustodyOutput {
    CustodyOutput::Event(CustodyEvent::Wasted { from: node(from), bytes: CHUNK_BYTES as u64 })
}

#[test]
fn a_broken_line_costs_nothing_that_had_arrived() {
    let mut custody = relay_with_neighbors();
    assert_eq!(wanted_from(&mut custody, "rumbai"), 0);
    let first = send(&mut custody, "rumbai", 0..7);
    assert!(matches!(&first[0], CustodyOutput::BeginTransfer { chunks, .. } if *chunks == hashes()));
    custody.neighbor_down(at(3), &node("rumbai"));
    assert_eq!(outputs(&mut custody), [], "what has come stays");
    open(&mut custody, at(4), &["rumbai"]);
    custody.set_next_hops(at(4), &[]);
    assert_eq!(wanted_from(&mut custody, "rumbai"), 7);
    let rest = send(&mut custody, "rumbai", 7..CHUNKS);
    assert_eq!(stored_chunks(&rest), (7..CHUNKS).collect::<Vec<_>>());
    assert!(is_whole(&rest));
}

#[test]
fn half_by_one_neighbor_and_half_by_another_make_one_record() {
    let mut custody = relay_with_neighbors();
    wanted_from(&mut custody, "rumbai");
    let first = send(&mut custody, "rumbai", 0..10);
    custody.neighbor_down(at(3), &node("rumbai"));
    assert_eq!(wanted_from(&mut custody, "senapelan"), 10);
    let rest = send(&mut custody, "senapelan", 10..CHUNKS);
    let transfer = |outputs: &[CustodyOutput]| {
        outputs.iter().find_map(|output| match output {
            CustodyOutput::StoreChunk { transfer, .. } => Some(*transfer),
            _ => None,
        })
    };
    assert_eq!(transfer(&first), transfer(&rest));
    assert!(is_whole(&rest));
}

#[test]
fn after_a_restart_it_goes_on_from_what_is_durable() {
    let found = RecoveredTransfer { transfer: TransferId(5), header: big(), chunks: hashes(), arrived: 12 };
    let mut custody = relay(Recovered { transfers: vec![found], ..Recovered::default() });
    open(&mut custody, at(0), &["rumbai"]);
    assert_eq!(wanted_from(&mut custody, "rumbai"), 12);
    let rest = send(&mut custody, "rumbai", 12..CHUNKS);
    let by_transfer = |output: &CustodyOutput| match output {
        CustodyOutput::Store(record) => record.payload == StorePayload::Transfer(TransferId(5)),
        _ => false,
    };
    assert!(rest.iter().any(by_transfer));
}

#[test]
fn chunks_that_were_all_here_before_a_restart_become_a_record_when_the_last_comes_again() {
    let found = RecoveredTransfer { transfer: TransferId(5), header: big(), chunks: hashes(), arrived: CHUNKS };
    let mut custody = relay(Recovered { transfers: vec![found], ..Recovered::default() });
    open(&mut custody, at(0), &["rumbai"]);
    assert_eq!(wanted_from(&mut custody, "rumbai"), CHUNKS - 1);
    let rest = send(&mut custody, "rumbai", CHUNKS - 1..CHUNKS);
    assert_eq!(stored_chunks(&rest), [], "it is on the disk");
    assert!(is_whole(&rest));
}

#[test]
fn what_is_receipted_meanwhile_is_given_up() {
    let found = || RecoveredTransfer { transfer: TransferId(5), header: big(), chunks: hashes(), arrived: 12 };
    let receipts = vec![receipt(&[1])];
    let mut custody = relay(Recovered { transfers: vec![found()], receipts, ..Recovered::default() });
    assert!(outputs(&mut custody).contains(&CustodyOutput::AbortTransfer(TransferId(5))));
    let mut custody = relay(Recovered { transfers: vec![found()], ..Recovered::default() });
    open(&mut custody, at(0), &["rumbai"]);
    custody.receipts(at(1), &node("rumbai"), &[receipt(&[1]).encode()]);
    assert!(outputs(&mut custody).contains(&CustodyOutput::AbortTransfer(TransferId(5))));
}

#[test]
fn a_bad_chunk_is_refused_and_costs_the_good_ones_nothing() {
    let mut custody = relay_with_neighbors();
    wanted_from(&mut custody, "rumbai");
    send(&mut custody, "rumbai", 0..4);
    let data = Bytes::from(vec![1; CHUNK_BYTES]);
    let bad = Piece { hash: ChunkHash::of(&data, 4, CHUNKS), data, ..chunk(4) };
    custody.piece(at(3), &node("rumbai"), bad);
    let after = outputs(&mut custody);
    assert_eq!(answered(&after, "rumbai"), [(1, Verdict::Never(NeverReason::WrongPayload))].into());
    assert_eq!(stored_chunks(&after), []);
    assert_eq!(wanted_from(&mut custody, "senapelan"), 4);
    assert!(is_whole(&send(&mut custody, "senapelan", 4..CHUNKS)));
}

#[test]
fn hashes_that_do_not_make_the_payloads_are_refused_at_once() {
    let mut custody = relay_with_neighbors();
    wanted_from(&mut custody, "rumbai");
    let mut first = chunk(0);
    first.head.chunk_hashes.swap(1, 2);
    custody.piece(at(2), &node("rumbai"), first);
    let after = outputs(&mut custody);
    assert_eq!(answered(&after, "rumbai"), [(1, Verdict::Never(NeverReason::WrongPayload))].into());
    assert_eq!(stored_chunks(&after), []);
}

#[test]
fn chunks_that_come_twice_are_stored_once_and_those_behind_a_gap_are_passed_over() {
    let mut custody = relay_with_neighbors();
    wanted_from(&mut custody, "rumbai");
    send(&mut custody, "rumbai", 0..4);
    assert_eq!(send(&mut custody, "rumbai", 2..4), vec![wasted("rumbai"); 2]);
    // What comes behind a gap is of an earlier try: the one that is wanted now begins where the last ended.
    let of_before = send(&mut custody, "rumbai", 6..CHUNKS);
    assert_eq!(of_before, vec![wasted("rumbai"); CHUNKS as usize - 6], "and nobody is told to offer it once more");
    assert!(is_whole(&send(&mut custody, "rumbai", 4..CHUNKS)));
    // Also where the earlier try's beginning never came.
    let mut custody = relay_with_neighbors();
    assert_eq!(wanted_from(&mut custody, "rumbai"), 0);
    assert_eq!(send(&mut custody, "rumbai", 6..CHUNKS), vec![wasted("rumbai"); CHUNKS as usize - 6]);
    assert!(is_whole(&send(&mut custody, "rumbai", 0..CHUNKS)));
}

#[test]
fn what_is_offered_anew_while_it_comes_is_wanted_once_when_its_turn_comes() {
    let mut custody = relay_with_neighbors();
    assert_eq!(wanted_from(&mut custody, "rumbai"), 0);
    send(&mut custody, "rumbai", 0..4);
    let other = offer_of(&header(2, Class::Normal, 1 << 20));
    // What has stopped has to be made good for, one record at a time: the second offer of the first waits for the other one.
    custody.offers(&node("rumbai"), vec![other, offer_of(&big())], at(2));
    assert_eq!(answered(&outputs(&mut custody), "rumbai").into_keys().collect::<Vec<_>>(), [2]);
    let late = send(&mut custody, "rumbai", 4..CHUNKS);
    assert!(answered(&late, "rumbai").is_empty(), "whoever is told to wait has forgotten the offer when it is wanted");
    custody.withdrawn(at(3), &node("rumbai"), &[record(2)]);
    assert_eq!(answered(&outputs(&mut custody), "rumbai"), [(1, Verdict::Want { first_chunk: 4 })].into());
    assert!(is_whole(&send(&mut custody, "rumbai", 4..CHUNKS)));
}

#[test]
fn without_room_what_nobody_sends_is_given_up() {
    let mut custody = relay_with_neighbors();
    wanted_from(&mut custody, "rumbai");
    send(&mut custody, "rumbai", 0..4);
    custody.set_room(estafet_model::ByteCount(0));
    assert_eq!(outputs(&mut custody), [], "it is being sent");
    custody.neighbor_down(at(3), &node("rumbai"));
    custody.set_room(estafet_model::ByteCount(0));
    assert!(matches!(outputs(&mut custody)[..], [CustodyOutput::AbortTransfer(_)]));
}

#[test]
fn who_does_not_get_on_with_a_record_leaves_it_to_another() {
    let moment = |millis: u64| at(1) + Duration::from_millis(millis);
    let offer = |custody: &mut Custody, neighbor: &str, millis: u64| {
        custody.offers(&node(neighbor), vec![offer_of(&big())], moment(millis));
        answered(&outputs(custody), neighbor).remove(&1)
    };
    let mut custody = relay_with_neighbors();
    assert_eq!(wanted_from(&mut custody, "rumbai"), 0);
    (0..7).for_each(|index| custody.piece(moment(50), &node("rumbai"), chunk(index)));
    assert!(matches!(offer(&mut custody, "senapelan", 149), Some(Verdict::Wait(_))), "it still comes");
    assert_eq!(offer(&mut custody, "senapelan", 150), Some(Verdict::Want { first_chunk: 7 }));
    // What the first sends after all is not taken, and it learns so at the end.
    (7..CHUNKS - 1).for_each(|index| custody.piece(moment(160), &node("rumbai"), chunk(index)));
    assert_eq!(outputs(&mut custody), vec![wasted("rumbai"); CHUNKS as usize - 8]);
    custody.piece(moment(160), &node("rumbai"), chunk(CHUNKS - 1));
    assert!(matches!(answered(&outputs(&mut custody), "rumbai").get(&1), Some(Verdict::Wait(_))));
    assert!(is_whole(&send(&mut custody, "senapelan", 7..CHUNKS)));
}

#[test]
fn a_suspect_leaves_what_it_was_to_send_to_another_at_once() {
    let moment = |millis: u64| at(1) + Duration::from_millis(millis);
    let mut custody = relay_with_neighbors();
    assert_eq!(wanted_from(&mut custody, "rumbai"), 0);
    (0..7).for_each(|index| custody.piece(moment(50), &node("rumbai"), chunk(index)));
    let offer = |custody: &mut Custody, millis: u64| {
        custody.offers(&node("senapelan"), vec![offer_of(&big())], moment(millis));
        answered(&outputs(custody), "senapelan").remove(&1)
    };
    let until_stalled = Verdict::Wait(Duration::from_millis(90 + 1));
    assert_eq!(offer(&mut custody, 60), Some(until_stalled), "no longer than it takes");
    custody.suspect(moment(70), &node("rumbai"));
    assert_eq!(offer(&mut custody, 70), Some(Verdict::Want { first_chunk: 7 }));
    assert!(is_whole(&send(&mut custody, "senapelan", 7..CHUNKS)));
}
