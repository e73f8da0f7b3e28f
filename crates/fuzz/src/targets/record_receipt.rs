//! Receipts of single records and heads of chains, as files and mails bring them.

use estafet_model::{ChainHead, ChainId, ChainedRecord, HeaderDigest, PayloadHash, RecordReceipt, SignedHead};

use super::{Target, with_a_flipped_bit};
use crate::cast::{HUBS, key, node};
use crate::memory::bounded;

pub(super) const TARGET: Target = Target {
    name: "record_receipt",
    check,
    seeds,
    words: &[b"estafet-receipt 1", b"estafet-head 1", b"hub = ", b"signature = ", b"\n> "],
};

fn check(input: &[u8]) {
    if let Ok(receipt) = bounded(input, 8, || RecordReceipt::decode(input)) {
        assert_eq!(receipt.encode(), input, "a receipt has one form");
        assert_eq!(receipt.to_string().parse(), Ok(receipt), "its text says the same");
    }
    let Ok(text) = std::str::from_utf8(input) else { return };
    let hub = key(HUBS[0]).public();
    if let Ok(receipt) = bounded(input, 16, || text.parse::<RecordReceipt>()) {
        assert_eq!(RecordReceipt::decode(&receipt.encode()), Ok(receipt.clone()), "its bytes say the same");
        let changed = String::from_utf8(with_a_flipped_bit(receipt.to_string().as_bytes())).ok();
        let changed = changed.and_then(|text| text.parse::<RecordReceipt>().ok());
        assert!(changed.is_none_or(|changed| changed.verify(&hub).is_err()), "no bit can be changed");
    }
    if let Ok(head) = bounded(input, 16, || text.parse::<SignedHead>()) {
        assert_eq!(head.to_string().parse(), Ok(head), "a head survives the way");
    }
}

fn seeds() -> Vec<Vec<u8>> {
    let (hub, signer) = (node(HUBS[0]), key(HUBS[0]));
    let record = ChainedRecord {
        id: "rumbai.513.42".parse().expect("a record id"),
        digest: HeaderDigest([7; 32]),
        payload_hash: PayloadHash::of(b"sealed"),
        payload_bytes: 6,
    };
    let before = ChainHead::first(&hub, ChainId::from_bytes([1; 16]));
    let receipt = RecordReceipt::sign(hub.clone(), before, record.clone(), &signer);
    let head = SignedHead::sign(hub, before.with(&record), &signer);
    vec![receipt.encode().to_vec(), receipt.to_string().into_bytes(), head.to_string().into_bytes()]
}
