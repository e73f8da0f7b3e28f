//! The origin's word for its headers: nobody else can capture a record in its name.
//!
//! One Ed25519 signature covers a batch of headers through a Merkle tree, because a signature per record would cost
//! more than all the rest of a 4 KiB hop. Each record carries the signature and its path to the root, so it can be
//! checked by itself, anywhere. Leaves and inner nodes are hashed with different prefixes (RFC 9162, section 2.1).

use bytes::Bytes;

use crate::canonical::{Malformed, Reader, Writer};
use crate::keys::{PublicKey, Signature, SigningKey};
use crate::record::{HeaderDigest, RecordHeader};

const PURPOSE: &str = "estafet record batch v1";

/// At most this many headers share a signature.
const BATCH_MAX: usize = 1 << SIBLINGS_MAX;
const SIBLINGS_MAX: usize = 12;

/// The header is not its origin's: the signature does not cover it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the header is not signed by its origin")]
pub struct ForgedHeader;

/// A signature over a batch, and the path from one header to the batch's root.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OriginProof {
    signature: Signature,
    index: u32,
    siblings: Vec<[u8; 32]>,
}

impl OriginProof {
    /// The batch's root, if the leaf is where the proof says. A hash that pads its level stands on the right, so whoever
    /// claims to be the copy is not in the batch: each leaf has one index.
    fn root(&self, leaf: HeaderDigest) -> Option<[u8; 32]> {
        let mut index = self.index;
        let mut hash = leaf_hash(leaf);
        for sibling in &self.siblings {
            if index & 1 == 1 && *sibling == hash {
                return None;
            }
            hash = if index & 1 == 0 { inner_hash(&hash, sibling) } else { inner_hash(sibling, &hash) };
            index >>= 1;
        }
        Some(hash)
    }
}

/// A header and its origin's proof. Parsed is not yet verified: see [`SignedHeader::verify`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignedHeader {
    header: RecordHeader,
    /// Of the header; computed once.
    digest: HeaderDigest,
    proof: OriginProof,
}

impl SignedHeader {
    /// The header.
    #[must_use]
    pub fn header(&self) -> &RecordHeader {
        &self.header
    }

    /// The header's hash.
    #[must_use]
    pub fn digest(&self) -> HeaderDigest {
        self.digest
    }

    /// Checks that `key`, the origin's key by the topology, signed this header.
    ///
    /// `verified_root` remembers the last root that was found good, so that a batch costs one signature check.
    pub fn verify(&self, key: &PublicKey, verified_root: &mut Option<VerifiedRoot>) -> Result<(), ForgedHeader> {
        let root = self.proof.root(self.digest).ok_or(ForgedHeader)?;
        let root = VerifiedRoot { key: *key, root, signature: self.proof.signature };
        if verified_root.as_ref() == Some(&root) {
            return Ok(());
        }
        if !key.verifies(PURPOSE, &root.root, &self.proof.signature) {
            return Err(ForgedHeader);
        }
        *verified_root = Some(root);
        Ok(())
    }

    /// The canonical form: header, signature, index, siblings.
    #[must_use]
    pub fn encode(&self) -> Bytes {
        let mut writer = Writer::new();
        self.header.write(&mut writer);
        writer.raw(self.proof.signature.as_bytes()).u32(self.proof.index);
        writer.u8(u8::try_from(self.proof.siblings.len()).expect("at most twelve siblings"));
        for sibling in &self.proof.siblings {
            writer.raw(sibling);
        }
        writer.finish()
    }

    /// Reads the canonical form.
    pub fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
        let mut reader = Reader::new(bytes);
        let header = RecordHeader::read(&mut reader)?;
        let signature = Signature::from_bytes(reader.array("signature")?);
        let index = reader.u32("leaf index")?;
        let count = usize::from(reader.u8("sibling count")?);
        if count > SIBLINGS_MAX {
            return Err(Malformed { what: "sibling count" });
        }
        // Higher bits would not change the path: the same proof could be written in many ways.
        if index >> count != 0 {
            return Err(Malformed { what: "leaf index" });
        }
        let siblings = (0..count).map(|_| reader.array("sibling")).collect::<Result<_, _>>()?;
        reader.end("signed header")?;
        Ok(Self { digest: header.digest(), header, proof: OriginProof { signature, index, siblings } })
    }
}

/// A batch root and the signature that was found good for it. Another signature beside the same root is not: whoever
/// takes the record next would refuse it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VerifiedRoot {
    key: PublicKey,
    root: [u8; 32],
    signature: Signature,
}

/// Signs headers of one origin, many with one signature.
#[must_use]
pub fn sign_batch(headers: Vec<RecordHeader>, key: &SigningKey) -> Vec<SignedHeader> {
    let mut headers = headers.into_iter().peekable();
    let mut signed = Vec::with_capacity(headers.len());
    while headers.peek().is_some() {
        let batch: Vec<RecordHeader> = headers.by_ref().take(BATCH_MAX).collect();
        let digests: Vec<HeaderDigest> = batch.iter().map(RecordHeader::digest).collect();
        let levels = merkle_levels(&digests);
        let signature = key.sign(PURPOSE, &levels[levels.len() - 1][0]);
        signed.extend(batch.into_iter().zip(digests).enumerate().map(|(index, (header, digest))| {
            let siblings = siblings_of(&levels, index);
            let index = u32::try_from(index).expect("a batch is small");
            SignedHeader { header, digest, proof: OriginProof { signature, index, siblings } }
        }));
    }
    signed
}

/// The tree from leaves to root, each level padded to an even count by repeating its last hash.
fn merkle_levels(digests: &[HeaderDigest]) -> Vec<Vec<[u8; 32]>> {
    let mut levels = vec![digests.iter().map(|digest| leaf_hash(*digest)).collect::<Vec<_>>()];
    loop {
        let level = levels.last().expect("there is a first level");
        if level.len() == 1 {
            return levels;
        }
        let above =
            level.chunks(2).map(|pair| inner_hash(&pair[0], pair.get(1).unwrap_or(&pair[0]))).collect::<Vec<_>>();
        levels.push(above);
    }
}

fn siblings_of(levels: &[Vec<[u8; 32]>], mut index: usize) -> Vec<[u8; 32]> {
    let mut siblings = Vec::with_capacity(levels.len() - 1);
    for level in &levels[..levels.len() - 1] {
        siblings.push(*level.get(index ^ 1).unwrap_or(&level[index]));
        index >>= 1;
    }
    siblings
}

fn leaf_hash(digest: HeaderDigest) -> [u8; 32] {
    *blake3::Hasher::new().update(&[0]).update(&digest.0).finalize().as_bytes()
}

fn inner_hash(left: &[u8; 32], right: &[u8; 32]) -> [u8; 32] {
    *blake3::Hasher::new().update(&[1]).update(left).update(right).finalize().as_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::payload::PayloadHash;
    use crate::record::{Class, Kind, MediaType};
    use crate::units::UnixMillis;

    fn header(seq: u32) -> RecordHeader {
        RecordHeader {
            id: format!("sail.1.{seq}").parse().unwrap(),
            class: Class::Normal,
            kind: Kind::default(),
            media_type: MediaType::default(),
            payload_bytes: 1,
            payload_hash: PayloadHash::of(&[7]),
            captured_at: UnixMillis(0),
        }
    }

    #[test]
    fn every_header_of_a_batch_is_proved_by_itself() {
        let key = SigningKey::from_seed([1; 32]);
        for size in [1, 2, 3, 5, 8, 13] {
            for signed in sign_batch((1..=size).map(header).collect(), &key) {
                let read = SignedHeader::decode(&signed.encode()).unwrap();
                assert_eq!(read.verify(&key.public(), &mut None), Ok(()));
                assert_eq!(read.verify(&SigningKey::from_seed([2; 32]).public(), &mut None), Err(ForgedHeader));
            }
        }
    }

    #[test]
    fn a_changed_header_is_refused_even_with_a_remembered_root() {
        let key = SigningKey::from_seed([1; 32]);
        let mut batch = sign_batch((1..=4).map(header).collect(), &key);
        let mut remembered = None;
        batch[0].verify(&key.public(), &mut remembered).unwrap();
        batch[1].header.class = Class::Urgent;
        let batch: Vec<_> = batch.iter().map(|signed| SignedHeader::decode(&signed.encode()).unwrap()).collect();
        assert_eq!(batch[1].verify(&key.public(), &mut remembered), Err(ForgedHeader));
        assert_eq!(batch[2].verify(&key.public(), &mut remembered), Ok(()));
    }

    #[test]
    fn a_remembered_root_vouches_for_no_other_signature() {
        let key = SigningKey::from_seed([1; 32]);
        let signed = sign_batch(vec![header(1)], &key).remove(0);
        let mut remembered = None;
        signed.verify(&key.public(), &mut remembered).unwrap();
        let forged = sign_batch(vec![header(1)], &SigningKey::from_seed([2; 32])).remove(0);
        assert_eq!(forged.verify(&key.public(), &mut remembered), Err(ForgedHeader));
        assert_eq!(signed.verify(&key.public(), &mut remembered), Ok(()));
    }

    #[test]
    fn a_leaf_has_one_index() {
        let key = SigningKey::from_seed([1; 32]);
        for size in [1, 2, 3, 5, 8, 13] {
            for signed in sign_batch((1..=size).map(header).collect(), &key) {
                for bit in 0..32 {
                    let mut moved = signed.clone();
                    moved.proof.index ^= 1 << bit;
                    let read = SignedHeader::decode(&moved.encode());
                    let verified = read.is_ok_and(|moved| moved.verify(&key.public(), &mut None).is_ok());
                    assert!(!verified, "leaf {} of {size} is also found at {}", signed.proof.index, moved.proof.index);
                }
            }
        }
    }
}
