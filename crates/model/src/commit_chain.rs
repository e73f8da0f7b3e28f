//! The chain of a hub's commits: each link is the hash of the one before and of what was committed with it, so that the
//! newest link stands for everything before it, in its order.
//!
//! A chain begins with a link of its own, made of its hub and its id. What a hub commits after it has lost its archive, or
//! has gone back to an old copy of it, is not what it has published: it begins another chain, under another id.

use std::fmt;
use std::str::FromStr;

use bytes::Bytes;
use data_encoding::{BASE64URL_NOPAD, HEXLOWER};

use crate::canonical::{Malformed, Reader, Writer};
use crate::keys::{PublicKey, Signature, SigningKey};
use crate::mail_text::{compact, values};
use crate::name::NodeId;
use crate::payload::PayloadHash;
use crate::record::{HeaderDigest, RecordId};

const FIRST_CONTEXT: &str = "estafet 2026 first link of the chain of a hub's commits";
const LINK_CONTEXT: &str = "estafet 2026 link of the chain of a hub's commits";
const HEAD_PURPOSE: &str = "estafet head of a hub's chain v1";
const HEAD_MAGIC: &str = "estafet-head 1";

/// Names one chain of one hub. Random, so that no two are alike.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ChainId([u8; 16]);

impl ChainId {
    /// A chain's id from its bytes.
    #[must_use]
    pub fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    /// The 16 bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }
}

/// One link of a chain.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ChainLink([u8; 32]);

impl ChainLink {
    /// What a chain begins with, before anything is committed.
    #[must_use]
    pub fn first(hub: &NodeId, chain: ChainId) -> Self {
        let bytes = Writer::new().text(hub.as_str()).raw(&chain.0).finish();
        Self(blake3::derive_key(FIRST_CONTEXT, &bytes))
    }

    /// The link behind this one, when `record` is committed as number `sequence` of the hub.
    #[must_use]
    pub fn with(self, sequence: u64, record: &ChainedRecord) -> Self {
        let mut writer = Writer::new();
        writer.raw(&self.0).u64(sequence);
        record.write(&mut writer);
        Self(blake3::derive_key(LINK_CONTEXT, &writer.finish()))
    }

    /// A link from its bytes.
    #[must_use]
    pub fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The 32 bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

/// What a link says of the record that is committed with it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChainedRecord {
    /// Which record. Its epoch is in it.
    pub id: RecordId,
    /// The hash of its header.
    pub digest: HeaderDigest,
    /// The hash of its payload.
    pub payload_hash: PayloadHash,
    /// The length of its payload, in bytes.
    pub payload_bytes: u32,
}

impl ChainedRecord {
    /// Appends the canonical form.
    pub(crate) fn write(&self, writer: &mut Writer) {
        self.id.write(writer);
        writer.raw(&self.digest.0).raw(self.payload_hash.as_bytes()).u32(self.payload_bytes);
    }

    /// Reads the canonical form.
    pub(crate) fn read(reader: &mut Reader<'_>) -> Result<Self, Malformed> {
        Ok(Self {
            id: RecordId::read(reader)?,
            digest: HeaderDigest(reader.array("header digest")?),
            payload_hash: PayloadHash::from_bytes(reader.array("payload hash")?),
            payload_bytes: reader.u32("payload length")?,
        })
    }
}

/// How far a chain has come: all that is committed in it, in its order, is in the link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ChainHead {
    /// Which chain.
    pub chain: ChainId,
    /// How many records are committed in it: the hub's number of the newest.
    pub sequence: u64,
    /// The newest link.
    pub link: ChainLink,
}

impl ChainHead {
    /// The head of a chain in which nothing is committed yet.
    #[must_use]
    pub fn first(hub: &NodeId, chain: ChainId) -> Self {
        Self { chain, sequence: 0, link: ChainLink::first(hub, chain) }
    }

    /// The head when one record more is committed.
    #[must_use]
    pub fn with(self, record: &ChainedRecord) -> Self {
        let sequence = self.sequence + 1;
        Self { sequence, link: self.link.with(sequence, record), ..self }
    }

    /// Appends the canonical form.
    pub fn write(&self, writer: &mut Writer) {
        writer.raw(&self.chain.0).u64(self.sequence).raw(&self.link.0);
    }

    /// Reads the canonical form.
    pub fn read(reader: &mut Reader<'_>) -> Result<Self, Malformed> {
        Ok(Self {
            chain: ChainId(reader.array("chain")?),
            sequence: reader.u64("number of the hub")?,
            link: ChainLink(reader.array("link")?),
        })
    }
}

/// A head with its hub's signature: who has two of one chain with one number and other links has the proof that the hub
/// told two histories.
///
/// Parsed is not yet verified: see [`SignedHead::verify`]. As text it is
///
/// ```text
/// estafet-head 1
/// hub = induk
/// chain = <16 bytes, hexadecimal>
/// number = 1042
/// link = <32 bytes, hexadecimal>
/// signature = <64 bytes, base64url>
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignedHead {
    /// Whose chain.
    pub hub: NodeId,
    /// How far it has come.
    pub head: ChainHead,
    /// The hub's.
    pub signature: Signature,
}

/// The text is no head, or not its hub's.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HeadError {
    /// Something is not where it should be.
    #[error("this is no head of a chain: {0} cannot be read")]
    Malformed(&'static str),
    /// The signature is not the hub's.
    #[error("the head is not signed by {0}")]
    Forged(NodeId),
}

impl SignedHead {
    /// Signs how far this hub's chain has come.
    #[must_use]
    pub fn sign(hub: NodeId, head: ChainHead, key: &SigningKey) -> Self {
        let signature = key.sign(HEAD_PURPOSE, &head_body(&hub, &head));
        Self { hub, head, signature }
    }

    /// Checks the signature against the hub's key by the topology.
    pub fn verify(&self, hub_key: &PublicKey) -> Result<(), HeadError> {
        if hub_key.verifies(HEAD_PURPOSE, &head_body(&self.hub, &self.head), &self.signature) {
            Ok(())
        } else {
            Err(HeadError::Forged(self.hub.clone()))
        }
    }
}

fn head_body(hub: &NodeId, head: &ChainHead) -> Bytes {
    let mut writer = Writer::new();
    writer.text(hub.as_str());
    head.write(&mut writer);
    writer.finish()
}

impl fmt::Display for SignedHead {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { hub, head: ChainHead { chain, sequence, link }, signature } = self;
        writeln!(formatter, "{HEAD_MAGIC}\nhub = {hub}\nchain = {chain}\nnumber = {sequence}\nlink = {link}")?;
        write_signature(formatter, signature)
    }
}

/// On two lines: mail programs leave lines of 76 characters as they are.
pub(crate) fn write_signature(formatter: &mut fmt::Formatter<'_>, signature: &Signature) -> fmt::Result {
    let text = BASE64URL_NOPAD.encode(signature.as_bytes());
    let (first, second) = text.split_at(text.len() / 2);
    writeln!(formatter, "signature = {first}\n  {second}")
}

pub(crate) fn read_signature(text: &str) -> Option<Signature> {
    let bytes = BASE64URL_NOPAD.decode(text.as_bytes()).ok()?;
    Some(Signature::from_bytes(bytes.try_into().ok()?))
}

impl FromStr for SignedHead {
    type Err = HeadError;

    fn from_str(text: &str) -> Result<Self, HeadError> {
        let text = compact(text);
        let found = values(&text, HEAD_MAGIC, ["hub", "chain", "number", "link", "signature"]);
        let [hub, chain, sequence, link, signature] = found.map_err(HeadError::Malformed)?;
        let malformed = HeadError::Malformed;
        let head = Self {
            hub: hub.parse().map_err(|_| malformed("hub"))?,
            head: ChainHead {
                chain: chain.parse().map_err(|_| malformed("chain"))?,
                sequence: sequence.parse().map_err(|_| malformed("number"))?,
                link: link.parse().map_err(|_| malformed("link"))?,
            },
            signature: read_signature(signature).ok_or(malformed("signature"))?,
        };
        // A number can be written in more than one way; a head cannot.
        if compact(&head.to_string()) == text { Ok(head) } else { Err(malformed("number")) }
    }
}

/// The text is not as many bytes in lower-case hexadecimal digits as it should be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("expected lower-case hexadecimal digits")]
pub struct NoDigits;

pub(crate) fn from_digits<const N: usize>(text: &str) -> Result<[u8; N], NoDigits> {
    let bytes = HEXLOWER.decode(text.as_bytes()).map_err(|_| NoDigits)?;
    bytes.try_into().map_err(|_| NoDigits)
}

impl FromStr for ChainId {
    type Err = NoDigits;

    fn from_str(text: &str) -> Result<Self, NoDigits> {
        from_digits(text).map(Self)
    }
}

impl FromStr for ChainLink {
    type Err = NoDigits;

    fn from_str(text: &str) -> Result<Self, NoDigits> {
        from_digits(text).map(Self)
    }
}

impl fmt::Display for ChainId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&HEXLOWER.encode(&self.0))
    }
}

impl fmt::Debug for ChainId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}…", HEXLOWER.encode(&self.0[..6]))
    }
}

impl fmt::Display for ChainLink {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&HEXLOWER.encode(&self.0))
    }
}

impl fmt::Debug for ChainLink {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}…", HEXLOWER.encode(&self.0[..6]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(seq: u32) -> ChainedRecord {
        ChainedRecord {
            id: format!("sail.3.{seq}").parse().unwrap(),
            digest: HeaderDigest([7; 32]),
            payload_hash: PayloadHash::of(&[1]),
            payload_bytes: 1,
        }
    }

    fn first() -> ChainHead {
        ChainHead::first(&"induk".parse().unwrap(), ChainId([1; 16]))
    }

    #[test]
    fn a_link_stands_for_all_before_it_in_its_order() {
        let head = |records: &[ChainedRecord]| records.iter().fold(first(), ChainHead::with);
        let (one, two) = (record(1), record(2));
        let good = head(&[one.clone(), two.clone()]);
        assert_eq!(good.sequence, 2);
        let altered = [
            ChainedRecord { id: "sail.4.2".parse().unwrap(), ..two.clone() },
            ChainedRecord { digest: HeaderDigest([8; 32]), ..two.clone() },
            ChainedRecord { payload_hash: PayloadHash::of(&[2]), ..two.clone() },
            ChainedRecord { payload_bytes: 2, ..two.clone() },
        ];
        for other in altered {
            assert_ne!(head(&[one.clone(), other.clone()]).link, good.link, "{other:?}");
        }
        assert_ne!(head(&[two.clone(), one.clone()]).link, good.link);
        assert_ne!(head(&[two]).link, good.link);
        let other_hub = ChainHead::first(&"cadangan".parse().unwrap(), ChainId([1; 16]));
        let other_chain = ChainHead::first(&"induk".parse().unwrap(), ChainId([2; 16]));
        assert!(other_hub.link != first().link && other_chain.link != first().link);
    }

    #[test]
    fn a_head_is_its_hubs_and_no_bit_of_its_text_can_be_changed() {
        let key = SigningKey::from_seed([9; 32]);
        let signed = SignedHead::sign("induk".parse().unwrap(), first().with(&record(1)), &key);
        let text = signed.to_string();
        assert_eq!(text.parse(), Ok(signed.clone()));
        assert_eq!(signed.verify(&key.public()), Ok(()));
        assert!(signed.verify(&SigningKey::from_seed([8; 32]).public()).is_err());
        assert!(text.lines().all(|line| line.len() <= 76), "{text}");
        for bit in 0..text.len() * 8 {
            let mut bytes = text.clone().into_bytes();
            bytes[bit / 8] ^= 1 << (bit % 8);
            let read = String::from_utf8(bytes).ok().and_then(|text| text.parse::<SignedHead>().ok());
            assert!(read.is_none_or(|read| read.verify(&key.public()).is_err()), "bit {bit}");
        }
        let padded = text.replacen("number = 1", "number = +1", 1);
        assert!(padded.parse::<SignedHead>().is_err(), "a head has one form");
    }
}
