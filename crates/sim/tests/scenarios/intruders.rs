//! A neighbor with a valid key that lies.

use std::time::Duration;

use estafet_custody::CustodyEvent;
use estafet_model::{
    Bearer, Class, Epoch, Kind, MediaType, Medium, PayloadHash, ReceiptKey, RecordHeader, RecordId, SeqRanges,
    SignedReceipt, UnixMillis, sign_batch,
};
use estafet_topology::Template;
use estafet_wire::{Answer, Frame, NeverReason, PieceHead, Verdict};

use estafet_node::{Input, NodeEvent};
use estafet_sim::{City, id, key_of, millis, payload, piece};

const SECOND: Duration = Duration::from_secs(1);

fn header(record: &RecordId, bytes: &[u8]) -> RecordHeader {
    RecordHeader {
        id: record.clone(),
        class: Class::Normal,
        kind: Kind::default(),
        media_type: MediaType::default(),
        payload_bytes: u32::try_from(bytes.len()).expect("a short record"),
        payload_hash: PayloadHash::of(bytes),
        captured_at: UnixMillis(0),
    }
}

/// Sukajadi sends the main server `sent` under a header for `meant` that `signer` signed.
fn sukajadi_sends(city: &mut City, record: &RecordId, signer: &str, meant: &[u8], sent: &bytes::Bytes) {
    let signed = sign_batch(vec![header(record, meant)], &key_of(&id(signer))).remove(0);
    let signed_header = Some(signed.encode());
    let head = PieceHead { signed_header, id: record.clone(), index: 0, chunks: 1, chunk_hashes: Vec::new() };
    let piece = piece(head, sent.clone());
    city.input(&id("induk"), Input::Piece { from: Bearer::new(id("sukajadi"), Medium::Fiber), piece });
    city.run_for(SECOND);
}

fn refused(city: &City, record: &RecordId, reason: NeverReason) -> bool {
    let answer = Answer { id: record.clone(), verdict: Verdict::Never(reason) };
    city.refusals.contains(&(id("induk"), id("sukajadi"), answer))
}

#[test]
fn a_record_in_anothers_name_is_refused_and_not_stored() {
    let mut city = City::settled(Template::Pekanbaru, 1);
    let record: RecordId = "rumbai.1.1".parse().unwrap();
    let bytes = payload(1000, 1);
    sukajadi_sends(&mut city, &record, "sukajadi", &bytes, &bytes);
    assert!(refused(&city, &record, NeverReason::ForgedHeader));
    let rejected =
        CustodyEvent::Rejected { from: id("sukajadi"), id: record.clone(), reason: NeverReason::ForgedHeader };
    assert!(city.events.iter().any(|(_, _, event)| *event == NodeEvent::Custody(rejected.clone())));
    assert_eq!(city.store("induk").record_count(), 0);
    // The true one is not kept out by it.
    let token = city.capture("rumbai", Class::Normal, 10);
    city.must_deliver_within(10 * SECOND);
    assert_eq!(city.slip(token), record);
}

#[test]
fn other_bytes_than_the_header_speaks_of_are_refused() {
    let mut city = City::settled(Template::Pekanbaru, 2);
    let record: RecordId = "rumbai.1.1".parse().unwrap();
    sukajadi_sends(&mut city, &record, "rumbai", b"meant", &bytes::Bytes::from_static(b"other"));
    assert!(refused(&city, &record, NeverReason::WrongPayload));
    assert_eq!(city.store("induk").record_count(), 0);
}

#[test]
fn a_second_record_under_a_committed_id_is_refused_and_the_first_stays() {
    let mut city = City::settled(Template::Pekanbaru, 3);
    let token = city.capture("rumbai", Class::Normal, 10);
    city.must_deliver_within(10 * SECOND);
    let (record, bytes) = (city.slip(token), payload(1000, 1));
    sukajadi_sends(&mut city, &record, "rumbai", &bytes, &bytes);
    assert!(refused(&city, &record, NeverReason::Conflict));
    city.check_slips();
}

#[test]
fn a_forged_receipt_releases_nothing() {
    let mut city = City::settled(Template::Pekanbaru2013, 4);
    city.kill(&id("induk"));
    let token = city.capture("rumbai", Class::Normal, 100);
    city.run_for(SECOND);
    let record = city.slip(token);
    let epoch = Epoch::new(1).unwrap();
    let forged = |hub: &str, signer: &str| {
        let key = ReceiptKey { hub: id(hub), origin: id("rumbai"), epoch };
        SignedReceipt::sign(key, 0, SeqRanges::up_to(Some(record.seq)), &key_of(&id(signer))).encode()
    };
    let receipts = vec![forged("induk", "sukajadi"), forged("sukajadi", "sukajadi"), bytes::Bytes::from_static(b"no")];
    city.input(
        &id("rumbai"),
        Input::Frame { from: Bearer::new(id("sukajadi"), Medium::Radio), frame: Frame::Receipts(receipts) },
    );
    city.run_for(millis(200));
    assert!(city.store("rumbai").holds(&record));
    let bad = |event: &NodeEvent| matches!(event, NodeEvent::Custody(CustodyEvent::BadReceipt { .. }));
    assert_eq!(city.events.iter().filter(|(_, node, event)| *node == id("rumbai") && bad(event)).count(), 3);
    city.heal_all();
    city.must_deliver_within(30 * SECOND);
}
