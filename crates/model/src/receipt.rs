//! Receipts: the hub's signed word that records are committed. Cumulative per (hub, origin, epoch), newest wins.

use bytes::Bytes;

use crate::canonical::{Malformed, Reader, Writer};
use crate::keys::{PublicKey, Signature, SigningKey};
use crate::name::NodeId;
use crate::ranges::SeqRanges;
use crate::record::{Epoch, RecordId, Seq};

const PURPOSE: &str = "estafet receipt v1";

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
}

impl SignedReceipt {
    /// Signs what `key.hub` has committed.
    #[must_use]
    pub fn sign(key: ReceiptKey, committed: SeqRanges, signing_key: &SigningKey) -> Self {
        let signature = signing_key.sign(PURPOSE, &body(&key, &committed));
        Self { key, committed, signature }
    }

    /// Whom it speaks of.
    #[must_use]
    pub fn key(&self) -> &ReceiptKey {
        &self.key
    }

    /// Of two good receipts with one key, the one with the greater version is the newer. The committed numbers only
    /// grow, so it has them all; if it has not, the hub has lost what it lacks.
    #[must_use]
    pub fn version(&self) -> u64 {
        let last = self.committed.last().map_or(0, Seq::get);
        (u64::from(last) << 32) | self.committed.count()
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
        if hub_key.verifies(PURPOSE, &body(&self.key, &self.committed), &self.signature) {
            Ok(())
        } else {
            Err(ReceiptError::Forged(self.key.hub.clone()))
        }
    }

    /// The canonical form: body, signature.
    #[must_use]
    pub fn encode(&self) -> Bytes {
        let mut writer = Writer::new();
        writer.raw(&body(&self.key, &self.committed)).raw(self.signature.as_bytes());
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
        let committed = SeqRanges::read(&mut reader)?;
        let signature = Signature::from_bytes(reader.array("signature")?);
        reader.end("receipt")?;
        Ok(Self { key, committed, signature })
    }
}

fn body(key: &ReceiptKey, committed: &SeqRanges) -> Bytes {
    let mut writer = Writer::new();
    writer.text(key.hub.as_str()).text(key.origin.as_str()).u16(key.epoch.get());
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
        let receipt = SignedReceipt::sign(key, SeqRanges::up_to(Seq::new(5)), &hub);
        let read = SignedReceipt::decode(&receipt.encode()).unwrap();
        assert_eq!(read.verify(&hub.public()), Ok(()));
        assert!(read.covers(&"sail.3.5".parse().unwrap()));
        for other in ["sail.3.6", "sail.4.5", "rumbai.3.5"] {
            assert!(!read.covers(&other.parse().unwrap()), "{other}");
        }
    }

    #[test]
    fn a_flipped_bit_anywhere_releases_nothing() {
        let hub = SigningKey::from_seed([9; 32]);
        let key = ReceiptKey {
            hub: "induk".parse().unwrap(),
            origin: "sail".parse().unwrap(),
            epoch: Epoch::new(3).unwrap(),
        };
        let good = SignedReceipt::sign(key, SeqRanges::up_to(Seq::new(5)), &hub).encode();
        for bit in 0..good.len() * 8 {
            let mut bad = good.to_vec();
            bad[bit / 8] ^= 1 << (bit % 8);
            let verdict = SignedReceipt::decode(&bad).map(|receipt| receipt.verify(&hub.public()).is_ok());
            assert!(!matches!(verdict, Ok(true)), "bit {bit}");
        }
    }
}
