//! Control frames: whatever a neighbor says on its control stream.

use std::time::Duration;

use bytes::Bytes;
use estafet_model::{Class, Epoch, HeaderDigest, LsaVersion, LsdbDigest, ReceiptKey, ReceiptRank, Seq, SetDigest};
use estafet_wire::{Answer, Frame, Hello, Holding, NeverReason, Offer, ReceiptVersion, RecordSet, Verdict};

use super::Target;
use crate::cast::{HUBS, OFFICE, node, samples};
use crate::memory::bounded;

pub(super) const TARGET: Target = Target { name: "control_frame", check, seeds, words: &[b"rumbai", b"induk"] };

/// Protocol Buffers write an empty item in two bytes, and an offer in memory has about ninety; a list doubles as it
/// grows. A frame is at most 1 MiB.
const MEMORY_TIMES: usize = 192;

fn check(input: &[u8]) {
    let bytes = Bytes::copy_from_slice(input);
    let Ok(frame) = bounded(input, MEMORY_TIMES, || Frame::decode(bytes)) else { return };
    let again = frame.encode();
    assert_eq!(Frame::decode(again.slice(4..)).as_ref(), Ok(&frame), "a frame survives the wire");
    let parts = frame.clone().split();
    let items = |frame: &Frame| match frame {
        Frame::Lsas(all) | Frame::Receipts(all) => all.len(),
        Frame::Offers(all) => all.len(),
        Frame::Answers(all) => all.len(),
        Frame::Acceptances(all) | Frame::Seek(all) | Frame::Withdrawn(all) => all.len(),
        Frame::Inventory(all) => all.len(),
        Frame::Holdings(all) => all.len(),
        _ => 1,
    };
    assert_eq!(parts.iter().map(items).sum::<usize>(), items(&frame), "nothing is lost where a frame is split");
    for part in parts {
        let _fits = part.encode();
    }
}

fn seeds() -> Vec<Vec<u8>> {
    frames().iter().map(|frame| frame.encode()[4..].to_vec()).collect()
}

fn frames() -> Vec<Frame> {
    let header = samples()[1].signed.header();
    let id = || header.id.clone();
    let epoch = Epoch::new(3).expect("an epoch");
    let key = ReceiptKey { hub: node(HUBS[0]), origin: node(OFFICE), epoch };
    let verdicts = [
        Verdict::Want { first_chunk: 3 },
        Verdict::Have,
        Verdict::Wait(Duration::from_millis(250)),
        Verdict::Full(Duration::from_secs(1)),
        Verdict::Never(NeverReason::UnknownOrigin),
        Verdict::Never(NeverReason::Conflict),
    ];
    let set = |seqs: &[u32]| {
        let seqs = seqs.iter().copied().filter_map(Seq::new).collect();
        RecordSet::new(6, node(OFFICE), epoch, seqs).expect("few numbers")
    };
    vec![
        Frame::Hello(Hello { node: node(OFFICE), boot: u64::MAX, topology_version: 4, medium: None }),
        Frame::Heartbeat { busy: true, lsdb: Some(LsdbDigest(12)), clock: None },
        Frame::LsdbSummary(vec![LsaVersion::new(node(OFFICE), 12, b"lsa"), LsaVersion::new(node(HUBS[0]), 1, b"")]),
        Frame::Lsas(vec![Bytes::from_static(b"lsa"), Bytes::new()]),
        Frame::ReceiptSummary(vec![ReceiptVersion {
            key,
            rank: ReceiptRank { losses: 1, last: 100, count: 99, digest: 7 },
        }]),
        Frame::Receipts(vec![Bytes::from_static(b"receipt")]),
        Frame::Offers(vec![Offer {
            id: id(),
            class: Class::Urgent,
            payload_bytes: 9,
            digest: HeaderDigest([4; 32]),
            for_hub: None,
        }]),
        Frame::Answers(verdicts.map(|verdict| Answer { id: id(), verdict }).to_vec()),
        Frame::Acceptances(vec![id(), id()]),
        Frame::Seek(vec![id()]),
        Frame::Withdrawn(vec![id()]),
        Frame::Inventory(vec![set(&[1, 2, 3, 9]), set(&[300])]),
        Frame::Holdings(vec![Holding { set: set(&[2, 9]), digest: SetDigest([5; 32]) }]),
    ]
}
