//! A relay whose neighbors, disk and clock are the test's.

use std::collections::BTreeMap;
use std::iter;
use std::time::Duration;

use bytes::Bytes;
use estafet_model::{
    ChunkHash, Class, Durable, HeaderDigest, Kind, MediaType, NodeId, Now, PayloadHash, RecordHeader, RecordId,
    SeqRanges, SignedHeader, SignedReceipt, SigningKey, UnixMillis, chunk_count, sign_batch,
};
use estafet_wire::{Answer, Frame, Offer, PieceHead, Verdict};

use crate::{Custody, CustodyConfig, CustodyOutput, HeldRecord, Piece, RECEIPT_PATIENCE, Recovered};

pub(super) const HUB: &str = "induk";

pub(super) fn node(name: &str) -> NodeId {
    name.parse().unwrap()
}

pub(super) fn key(name: &str) -> SigningKey {
    SigningKey::from_seed(*PayloadHash::of(name.as_bytes()).as_bytes())
}

pub(super) fn at(millis: u64) -> Now {
    Now(Duration::from_millis(millis))
}

/// Record number `seq` of Rumbai, whose payload is so many zeros.
pub(super) fn header(seq: u32, class: Class, payload_bytes: u32) -> SignedHeader {
    let header = RecordHeader {
        id: record(seq),
        class,
        kind: Kind::default(),
        media_type: MediaType::default(),
        payload_bytes,
        payload_hash: PayloadHash::of(&vec![0; payload_bytes as usize]),
        captured_at: UnixMillis(0),
    };
    sign_batch(vec![header], &key("rumbai")).remove(0)
}

pub(super) fn record(seq: u32) -> RecordId {
    format!("rumbai.1.{seq}").parse().unwrap()
}

#[expect(clippy::disallowed_methods, reason = "the test plays the store")]
pub(super) fn after_sync<T>(value: T) -> Durable<T> {
    Durable::after_sync(value)
}

/// The record as the store has it; its payload is nobody's business here.
pub(super) fn held(seq: u32, class: Class, payload_bytes: u32, from: Option<&str>) -> Durable<HeldRecord> {
    after_sync(HeldRecord {
        id: record(seq),
        class,
        payload_bytes,
        payload_hash: PayloadHash::from_bytes([0; 32]),
        digest: HeaderDigest([0; 32]),
        received_from: from.map(node),
        stored_at: UnixMillis(0),
    })
}

pub(super) fn offer(seq: u32, payload_bytes: u32) -> Offer {
    offer_of(&header(seq, Class::Normal, payload_bytes))
}

pub(super) fn offer_of(header: &SignedHeader) -> Offer {
    let digest = header.header().digest();
    let header = header.header();
    let (id, class, payload_bytes) = (header.id.clone(), header.class, header.payload_bytes);
    Offer { id, class, payload_bytes, digest, for_hub: None }
}

/// All of a record that fits in one piece.
pub(super) fn piece(header: &SignedHeader) -> Piece {
    let bytes = header.header().payload_bytes;
    assert_eq!(chunk_count(bytes), 1);
    let data = Bytes::from(vec![0; bytes as usize]);
    let hash = ChunkHash::of(&data, 0, 1);
    let id = header.header().id.clone();
    let head = PieceHead { signed_header: Some(header.encode()), id, index: 0, chunks: 1, chunk_hashes: Vec::new() };
    Piece { head, data, hash }
}

/// The hub's receipt for these numbers of Rumbai.
pub(super) fn receipt(seqs: &[u32]) -> SignedReceipt {
    receipt_after(0, seqs)
}

/// The same, after it has taken numbers back so often.
pub(super) fn receipt_after(losses: u32, seqs: &[u32]) -> SignedReceipt {
    let mut committed = SeqRanges::new();
    for seq in seqs {
        committed.insert(record(*seq).seq);
    }
    let key_of = estafet_model::ReceiptKey { hub: node(HUB), origin: node("rumbai"), epoch: record(1).epoch };
    SignedReceipt::sign(key_of, losses, committed, &key(HUB))
}

/// A capture of the relay itself, which nobody has seen.
pub(super) fn own_capture() -> HeldRecord {
    HeldRecord { id: "sukajadi.1.1".parse().unwrap(), ..held(1, Class::Normal, 1024, None).into_inner() }
}

pub(super) fn receipt_for(id: &RecordId) -> SignedReceipt {
    let key_of = estafet_model::ReceiptKey { hub: node(HUB), origin: id.origin.clone(), epoch: id.epoch };
    SignedReceipt::sign(key_of, 0, [id.seq].into_iter().collect(), &key(HUB))
}

pub(super) fn relay(recovered: Recovered) -> Custody {
    Custody::new(config("sukajadi"), recovered)
}

pub(super) fn hub(recovered: Recovered) -> Custody {
    Custody::new(CustodyConfig { hub_key: Some(key(HUB)), ..config(HUB) }, recovered)
}

pub(super) fn config(me: &str) -> CustodyConfig {
    let names = ["rumbai", "sukajadi", "senapelan", "lima-puluh", HUB];
    let origins = names.iter().map(|name| (node(name), vec![key(name).public()])).collect();
    let hubs = BTreeMap::from([(node(HUB), key(HUB).public())]);
    CustodyConfig {
        me: node(me),
        hub_key: None,
        origins,
        hubs,
        copies: 1,
        first_transfer: 0,
        receipt_patience: RECEIPT_PATIENCE,
        promises: true,
    }
}

/// The neighbors are up and have said what they know receipted: nothing.
pub(super) fn open(custody: &mut Custody, now: Now, neighbors: &[&str]) {
    for neighbor in neighbors {
        custody.neighbor_up(&node(neighbor));
        custody.receipts(now, &node(neighbor), &[]);
    }
    custody.set_next_hops(now, &neighbors.iter().map(|name| node(name)).collect::<Vec<_>>());
    outputs(custody);
}

pub(super) fn outputs(custody: &mut Custody) -> Vec<CustodyOutput> {
    iter::from_fn(|| custody.poll_output()).collect()
}

/// What was handed to this neighbor: the numbers that were offered, and those that were streamed.
pub(super) fn handed(outputs: &[CustodyOutput], neighbor: &str) -> (Vec<u32>, Vec<u32>) {
    let (mut offered, mut carried) = (Vec::new(), Vec::new());
    for output in outputs {
        match output {
            CustodyOutput::Send { to, frame: Frame::Offers(offers) } if *to == node(neighbor) => {
                offered.extend(offers.iter().map(|offer| offer.id.seq.get()));
            }
            CustodyOutput::Carry { to, id, .. } if *to == node(neighbor) => carried.push(id.seq.get()),
            _ => {}
        }
    }
    (offered, carried)
}

/// That these records, which the neighbor wants, will not come.
pub(super) fn withdrawn(neighbor: &str, seqs: &[u32]) -> CustodyOutput {
    CustodyOutput::Send { to: node(neighbor), frame: Frame::Withdrawn(seqs.iter().map(|seq| record(*seq)).collect()) }
}

/// What was answered to this neighbor, by number.
pub(super) fn answered(outputs: &[CustodyOutput], neighbor: &str) -> BTreeMap<u32, Verdict> {
    let answers = outputs.iter().filter_map(|output| match output {
        CustodyOutput::Send { to, frame: Frame::Answers(answers) } if *to == node(neighbor) => Some(answers),
        _ => None,
    });
    answers.flatten().map(|Answer { id, verdict }| (id.seq.get(), verdict.clone())).collect()
}
