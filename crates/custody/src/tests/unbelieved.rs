//! Receipts that are not the hub's word on the record that is held: they release nothing.

use bytes::Bytes;
use estafet_model::{
    ChainHead, ChainId, ChainedRecord, Class, Epoch, HeaderDigest, NodeId, PayloadHash, ReceiptKey, RecordReceipt,
    SeqRanges, SignedReceipt,
};

use super::relay::{HUB, after_sync, at, held, key, node, open, outputs, receipt, receipt_after, record, relay};
use crate::{Custody, CustodyEvent, CustodyOutput, Recovered};

const KIB: u32 = 1 << 10;

/// A relay that holds number 2 of Rumbai.
fn holding() -> Custody {
    let mut custody = relay(Recovered::default());
    open(&mut custody, at(0), &["rumbai", HUB]);
    custody.stored(at(1), vec![held(2, Class::Normal, KIB, Some("rumbai"))]);
    outputs(&mut custody);
    custody
}

fn signed(hub: &str, origin: &str, epoch: u16, seqs: &[u32], signer: &str) -> Bytes {
    let receipt_key = ReceiptKey { hub: node(hub), origin: node(origin), epoch: Epoch::new(epoch).unwrap() };
    let committed: SeqRanges = seqs.iter().filter_map(|&seq| estafet_model::Seq::new(seq)).collect();
    SignedReceipt::sign(receipt_key, 0, committed, &key(signer)).encode()
}

/// The hub's word on that one record, which is for people and releases nothing.
fn of_one_record() -> Bytes {
    let hub: NodeId = node(HUB);
    let before = ChainHead::first(&hub, ChainId::from_bytes([1; 16]));
    let chained = ChainedRecord {
        id: record(2),
        digest: HeaderDigest([0; 32]),
        payload_hash: PayloadHash::from_bytes([0; 32]),
        payload_bytes: KIB,
    };
    RecordReceipt::sign(hub, before, chained, &key(HUB)).encode()
}

/// Hands the relay a receipt, and syncs what it wants to keep. True if it was called bad.
fn hear(custody: &mut Custody, encoded: &Bytes) -> bool {
    custody.receipts(at(10), &node("rumbai"), std::slice::from_ref(encoded));
    let heard = outputs(custody);
    for output in &heard {
        if let CustodyOutput::KeepReceipt(receipt) = output {
            custody.receipt_kept(&after_sync(receipt.key().clone()));
        }
    }
    let after = outputs(custody);
    let released = |output: &&CustodyOutput| matches!(output, CustodyOutput::Release(ids) if ids.contains(&record(2)));
    assert!(!heard.iter().chain(&after).any(|output| released(&output)), "{heard:?}{after:?}");
    assert!(custody.record(&record(2)).is_some(), "it is held still");
    heard.iter().any(|output| matches!(output, CustodyOutput::Event(CustodyEvent::BadReceipt { .. })))
}

#[test]
fn a_receipt_that_is_not_the_hubs_word_on_the_record_releases_nothing() {
    let good = receipt(&[2]).encode();
    for (encoded, is_bad, what) in [
        (signed(HUB, "rumbai", 1, &[2], "rumbai"), true, "signed by a relay in the hub's name"),
        (signed("rumbai", "rumbai", 1, &[2], "rumbai"), true, "of a relay, in its own name"),
        (signed("nobody", "rumbai", 1, &[2], HUB), true, "of a node that is no hub, with the hub's key"),
        (signed(HUB, "rumbai", 2, &[2], HUB), false, "of a later epoch"),
        (signed(HUB, "rumbai", 1, &[1, 3], HUB), false, "of other records"),
        (signed(HUB, "senapelan", 1, &[2], HUB), false, "of another office"),
        (of_one_record(), true, "of one record, which is for people"),
        (good.slice(..good.len() - 1), true, "cut off"),
        ([&good[..], &[0]].concat().into(), true, "with something behind it"),
        (Bytes::new(), true, "empty"),
    ] {
        let mut custody = holding();
        assert_eq!(hear(&mut custody, &encoded), is_bad, "{what}");
        custody.receipts(at(20), &node(HUB), &[receipt(&[1, 2, 3]).encode()]);
        let keeps =
            |output: CustodyOutput| matches!(output, CustodyOutput::KeepReceipt(kept) if kept.covers(&record(2)));
        assert!(outputs(&mut custody).into_iter().any(keeps), "the good one is not kept out by one {what}");
    }
}

#[test]
fn a_receipt_with_a_flipped_bit_anywhere_releases_nothing() {
    let good = receipt(&[2]).encode();
    let mut custody = holding();
    for bit in 0..good.len() * 8 {
        let mut bad = good.to_vec();
        bad[bit / 8] ^= 1 << (bit % 8);
        assert!(hear(&mut custody, &bad.into()), "bit {bit} is found");
    }
}

#[test]
fn a_receipt_of_before_a_loss_releases_nothing_after_it() {
    let mut custody = holding();
    hear(&mut custody, &receipt_after(1, &[1]).encode());
    // It was true once.
    assert!(!hear(&mut custody, &receipt(&[1, 2]).encode()), "it is no fault of who passes it on");
}

#[test]
fn a_receipt_that_was_changed_on_the_own_disk_covers_nothing() {
    let changed = |signer: &str| SignedReceipt::decode(&signed(HUB, "rumbai", 1, &[2], signer)).unwrap();
    for (signer, is_covered) in [(HUB, true), ("rumbai", false)] {
        let recovered = Recovered { receipts: vec![changed(signer)], ..Recovered::default() };
        let custody = relay(recovered);
        assert_eq!(custody.receipt_hub(&record(2)).is_some(), is_covered, "signed by {signer}");
    }
}
