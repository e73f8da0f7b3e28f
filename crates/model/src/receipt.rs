//! Receipts: the hub's signed word that records are committed. Cumulative per (hub, origin, epoch), newest wins.
//!
//! A hub that has lost committed records says so: its next receipt counts one loss more, and is newer than any that
//! covers them.

use bytes::Bytes;

use crate::canonical::{Malformed, Reader, Writer};
use crate::keys::{PublicKey, Signature, SigningKey};
use crate::name::NodeId;
use crate::ranges::SeqRanges;
use crate::record::{Epoch, RecordId, Seq};

const PURPOSE: &str = "estafet receipt v2";

/// What a receipt speaks of: one hub's word on one origin's epoch.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct ReceiptKey {
    /// The hub that committed.
    pub hub: NodeId,
    /// The node that captured.
    pub origin: NodeId,
    /// The origin's epoch.
    pub epoch: Epoch,
}

/// Where a receipt stands among those with its key: the greatest is the newest.
///
/// While `losses` stays, the committed numbers only grow. Two receipts that differ and are alike in the first three are
/// from before and after a loss that the hub has not noticed; the digest makes one of them the newer, so that somebody
/// sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct ReceiptRank {
    /// How often the hub has had to take committed numbers back.
    pub losses: u32,
    /// The largest committed number; 0 if there is none.
    pub last: u32,
    /// How many numbers are committed.
    pub count: u32,
    /// The first bytes of the hash of the committed numbers.
    pub digest: u64,
}

impl ReceiptRank {
    fn of(losses: u32, committed: &SeqRanges) -> Self {
        let mut writer = Writer::new();
        committed.write(&mut writer);
        let [a, b, c, d, e, f, g, h, ..] = *blake3::hash(&writer.finish()).as_bytes();
        Self {
            losses,
            last: committed.last().map_or(0, Seq::get),
            count: u32::try_from(committed.count()).expect("sequence numbers have 32 bits"),
            digest: u64::from_be_bytes([a, b, c, d, e, f, g, h]),
        }
    }
}

/// Why a receipt is worth nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReceiptError {
    /// Not a receipt.
    #[error(transparent)]
    Malformed(#[from] Malformed),
    /// The signature is not the hub's.
    #[error("the receipt is not signed by {0}")]
    Forged(NodeId),
}

/// A receipt: the numbers of one origin's epoch that one hub has committed, in the form it was signed.
///
/// Parsed is not yet verified: see [`SignedReceipt::verify`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignedReceipt {
    key: ReceiptKey,
    committed: SeqRanges,
    signature: Signature,
    rank: ReceiptRank,
}

impl SignedReceipt {
    /// Signs what `key.hub` has committed, after it has taken numbers back `losses` times.
    #[must_use]
    pub fn sign(key: ReceiptKey, losses: u32, committed: SeqRanges, signing_key: &SigningKey) -> Self {
        let signature = signing_key.sign(PURPOSE, &body(&key, losses, &committed));
        let rank = ReceiptRank::of(losses, &committed);
        Self { key, committed, signature, rank }
    }

    /// Whom it speaks of.
    #[must_use]
    pub fn key(&self) -> &ReceiptKey {
        &self.key
    }

    /// Of two good receipts with one key, the one with the greater rank is the newer. What it lacks of the other, the
    /// hub has lost.
    #[must_use]
    pub fn rank(&self) -> ReceiptRank {
        self.rank
    }

    /// The committed numbers.
    #[must_use]
    pub fn committed(&self) -> &SeqRanges {
        &self.committed
    }

    /// True if this receipt covers `id`.
    #[must_use]
    pub fn covers(&self, id: &RecordId) -> bool {
        self.key.origin == id.origin && self.key.epoch == id.epoch && self.committed.contains(id.seq)
    }

    /// Checks the signature against the hub's key by the topology.
    pub fn verify(&self, hub_key: &PublicKey) -> Result<(), ReceiptError> {
        if hub_key.verifies(PURPOSE, &body(&self.key, self.rank.losses, &self.committed), &self.signature) {
            Ok(())
        } else {
            Err(ReceiptError::Forged(self.key.hub.clone()))
        }
    }

    /// The canonical form: body, signature.
    #[must_use]
    pub fn encode(&self) -> Bytes {
        let mut writer = Writer::new();
        writer.raw(&body(&self.key, self.rank.losses, &self.committed)).raw(self.signature.as_bytes());
        writer.finish()
    }

    /// Reads the canonical form.
    pub fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
        let mut reader = Reader::new(bytes);
        let key = ReceiptKey {
            hub: reader.parse("hub")?,
            origin: reader.parse("origin")?,
            epoch: Epoch::new(reader.u16("epoch")?).ok_or(Malformed { what: "epoch" })?,
        };
        let losses = reader.u32("losses")?;
        let committed = SeqRanges::read(&mut reader)?;
        let signature = Signature::from_bytes(reader.array("signature")?);
        reader.end("receipt")?;
        let rank = ReceiptRank::of(losses, &committed);
        Ok(Self { key, committed, signature, rank })
    }
}

fn body(key: &ReceiptKey, losses: u32, committed: &SeqRanges) -> Bytes {
    let mut writer = Writer::new();
    writer.text(key.hub.as_str()).text(key.origin.as_str()).u16(key.epoch.get()).u32(losses);
    committed.write(&mut writer);
    writer.finish()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::Seq;

    #[test]
    fn a_receipt_covers_what_its_hub_signed_and_nothing_else() {
        let hub = SigningKey::from_seed([9; 32]);
        let key = ReceiptKey {
            hub: "induk".parse().unwrap(),
            origin: "sail".parse().unwrap(),
            epoch: Epoch::new(3).unwrap(),
        };
        let receipt = SignedReceipt::sign(key, 0, SeqRanges::up_to(Seq::new(5)), &hub);
        let read = SignedReceipt::decode(&receipt.encode()).unwrap();
        assert_eq!(read.verify(&hub.public()), Ok(()));
        assert!(read.covers(&"sail.3.5".parse().unwrap()));
        for other in ["sail.3.6", "sail.4.5", "rumbai.3.5"] {
            assert!(!read.covers(&other.parse().unwrap()), "{other}");
        }
    }

    #[test]
    fn a_receipt_after_a_loss_is_newer_than_any_before_it() {
        let hub = SigningKey::from_seed([9; 32]);
        let key = ReceiptKey {
            hub: "induk".parse().unwrap(),
            origin: "sail".parse().unwrap(),
            epoch: Epoch::new(3).unwrap(),
        };
        let rank = |losses, committed: &[u32]| {
            let committed = committed.iter().filter_map(|&seq| Seq::new(seq)).collect();
            SignedReceipt::sign(key.clone(), losses, committed, &hub).rank()
        };
        let in_order =
            [rank(0, &[]), rank(0, &[1, 3]), rank(0, &[1, 2, 3]), rank(0, &[4]), rank(1, &[]), rank(1, &[1])];
        assert!(in_order.is_sorted_by(|older, newer| older < newer));
        // Alike but for what is in them: neither is taken for the other.
        assert_ne!(rank(0, &[1, 3, 4]), rank(0, &[1, 2, 4]));
    }

    #[test]
    fn a_flipped_bit_anywhere_releases_nothing() {
        let hub = SigningKey::from_seed([9; 32]);
        let key = ReceiptKey {
            hub: "induk".parse().unwrap(),
            origin: "sail".parse().unwrap(),
            epoch: Epoch::new(3).unwrap(),
        };
        let good = SignedReceipt::sign(key, 0, SeqRanges::up_to(Seq::new(5)), &hub).encode();
        for bit in 0..good.len() * 8 {
            let mut bad = good.to_vec();
            bad[bit / 8] ^= 1 << (bit % 8);
            let verdict = SignedReceipt::decode(&bad).map(|receipt| receipt.verify(&hub.public()).is_ok());
            assert!(!matches!(verdict, Ok(true)), "bit {bit}");
        }
    }
}
