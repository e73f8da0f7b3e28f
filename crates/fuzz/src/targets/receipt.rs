//! Receipts, as a neighbor passes them on, and the sets of numbers in them.

use std::collections::BTreeSet;

use estafet_model::{Epoch, ReceiptKey, Seq, SeqRanges, SignedReceipt};

use super::{Target, with_a_flipped_bit};
use crate::cast::{HUBS, OFFICE, key, node};
use crate::memory::bounded;

pub(super) const TARGET: Target =
    Target { name: "receipt", check, seeds, words: &[b"\0\0\0\x05induk", b"\0\0\0\x06rumbai"] };

/// Sets with more numbers than this are not compared number by number.
const COUNTED_MAX: u64 = 10_000;

fn check(input: &[u8]) {
    let Ok(receipt) = bounded(input, 8, || SignedReceipt::decode(input)) else { return };
    assert_eq!(receipt.encode(), input, "a receipt has one form");
    let signer = key(HUBS[0]);
    let signed =
        SignedReceipt::sign(receipt.key().clone(), receipt.rank().losses, receipt.committed().clone(), &signer);
    assert_eq!(signed.verify(&signer.public()), Ok(()), "its own signature is good");
    let bytes = signed.encode();
    assert_eq!(SignedReceipt::decode(&bytes), Ok(signed), "a receipt survives the way");
    if let Ok(forged) = SignedReceipt::decode(&with_a_flipped_bit(&bytes)) {
        assert!(forged.verify(&signer.public()).is_err(), "no bit can be changed");
    }
    check_set(receipt.committed());
}

/// The set against another one made of it, both counted number by number.
fn check_set(set: &SeqRanges) {
    if set.count() > COUNTED_MAX {
        return;
    }
    let numbers: BTreeSet<Seq> = set.iter().collect();
    assert_eq!(numbers.len() as u64, set.count(), "it counts what it lists");
    assert_eq!(numbers.iter().copied().collect::<SeqRanges>(), *set, "one number at a time gives the same pieces");
    let other: BTreeSet<Seq> = numbers.iter().filter_map(|seq| Seq::new(seq.get() / 2 + 1)).collect();
    let other_set: SeqRanges = other.iter().copied().collect();
    assert_eq!(set.union(&other_set).iter().collect::<Vec<_>>(), numbers.union(&other).copied().collect::<Vec<_>>());
    assert_eq!(
        set.minus(&other_set).iter().collect::<Vec<_>>(),
        numbers.difference(&other).copied().collect::<Vec<_>>()
    );
    assert!(numbers.iter().all(|seq| set.contains(*seq)), "it contains what it lists");
}

fn seeds() -> Vec<Vec<u8>> {
    let epoch = Epoch::new(1).expect("an epoch");
    let receipt_key = ReceiptKey { hub: node(HUBS[0]), origin: node(OFFICE), epoch };
    let sets: [&[u32]; 3] = [&[], &[1, 2, 3, 4], &[1, 3, 4, 8, (1 << 25) - 1]];
    let receipt = |seqs: &[u32]| {
        let committed = seqs.iter().copied().filter_map(Seq::new).collect();
        SignedReceipt::sign(receipt_key.clone(), 0, committed, &key(HUBS[0])).encode().to_vec()
    };
    sets.map(receipt).to_vec()
}
