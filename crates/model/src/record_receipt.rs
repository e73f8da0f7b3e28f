//! A receipt of one record that stands alone: whoever has it and the topology needs nobody else to know that the hub has
//! committed the record, and as which link of its chain.
//!
//! As a file, or in a mail, it is
//!
//! ```text
//! estafet-receipt 1
//! hub = induk
//! chain = <16 bytes, hexadecimal>
//! number = 1042
//! record = rumbai.513.42
//! header = <32 bytes, hexadecimal>
//! payload = <32 bytes, hexadecimal>
//! bytes = 4097
//! before = <32 bytes, hexadecimal>
//! link = <32 bytes, hexadecimal>
//! signature = <64 bytes, base64url>
//! ```
//!
//! It releases nothing: what lets copies go is a [`SignedReceipt`](crate::SignedReceipt), which speaks of all numbers of an
//! epoch at once and is newer or older than another. This one is as true in ten years as it is today: that the record *was*
//! committed.

use std::fmt;
use std::str::FromStr;

use bytes::Bytes;

use crate::canonical::{Malformed, Reader, Writer};
use crate::commit_chain::{ChainHead, ChainId, ChainLink, ChainedRecord, from_digits, read_signature, write_signature};
use crate::keys::{PublicKey, Signature, SigningKey};
use crate::mail_text::{compact, values};
use crate::name::NodeId;
use crate::payload::{PAYLOAD_BYTES_MAX, PayloadHash};
use crate::record::HeaderDigest;

const PURPOSE: &str = "estafet receipt of one record v1";
const MAGIC: &str = "estafet-receipt 1";
const VERSION: u8 = 1;

/// Why a receipt of one record proves nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RecordReceiptError {
    /// Not a receipt.
    #[error("this is no receipt: {0} cannot be read")]
    Malformed(&'static str),
    /// Its two links do not fit what stands between them: no hub writes that.
    #[error("its link is not made of what it says, so somebody has changed it, or a part of it was lost")]
    Unlinked,
    /// The signature is not the hub's.
    #[error("it is not signed by {0}")]
    Forged(NodeId),
}

impl From<Malformed> for RecordReceiptError {
    fn from(fault: Malformed) -> Self {
        Self::Malformed(fault.what)
    }
}

/// A hub's signed word that it has committed one record, and where in its chain.
///
/// Parsed is not yet verified: see [`RecordReceipt::verify`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecordReceipt {
    hub: NodeId,
    chain: ChainId,
    sequence: u64,
    record: ChainedRecord,
    before: ChainLink,
    link: ChainLink,
    signature: Signature,
}

impl RecordReceipt {
    /// Signs that `hub` has committed `record` right behind `before`.
    #[must_use]
    pub fn sign(hub: NodeId, before: ChainHead, record: ChainedRecord, key: &SigningKey) -> Self {
        let ChainHead { chain, sequence, link } = before.with(&record);
        let unsigned = Signature::from_bytes([0; 64]);
        let receipt = Self { hub, chain, sequence, record, before: before.link, link, signature: unsigned };
        Self { signature: key.sign(PURPOSE, &receipt.body()), ..receipt }
    }

    /// Who has committed it.
    #[must_use]
    pub fn hub(&self) -> &NodeId {
        &self.hub
    }

    /// What is committed.
    #[must_use]
    pub fn record(&self) -> &ChainedRecord {
        &self.record
    }

    /// How far the hub's chain had come with it: its number, and the link that stands for it and all before it.
    #[must_use]
    pub fn head(&self) -> ChainHead {
        ChainHead { chain: self.chain, sequence: self.sequence, link: self.link }
    }

    /// Checks the signature against the hub's key by the topology.
    pub fn verify(&self, hub_key: &PublicKey) -> Result<(), RecordReceiptError> {
        if hub_key.verifies(PURPOSE, &self.body(), &self.signature) {
            Ok(())
        } else {
            Err(RecordReceiptError::Forged(self.hub.clone()))
        }
    }

    /// The canonical form: body, signature.
    #[must_use]
    pub fn encode(&self) -> Bytes {
        Writer::new().raw(&self.body()).raw(self.signature.as_bytes()).finish()
    }

    /// Reads the canonical form.
    pub fn decode(bytes: &[u8]) -> Result<Self, RecordReceiptError> {
        let mut reader = Reader::new(bytes);
        if reader.u8("receipt version")? != VERSION {
            return Err(RecordReceiptError::Malformed("receipt version"));
        }
        let receipt = Self {
            hub: reader.parse("hub")?,
            chain: ChainId::from_bytes(reader.array("chain")?),
            sequence: reader.u64("number")?,
            record: ChainedRecord::read(&mut reader)?,
            before: ChainLink::from_bytes(reader.array("link before")?),
            link: ChainLink::from_bytes(reader.array("link")?),
            signature: Signature::from_bytes(reader.array("signature")?),
        };
        reader.end("receipt")?;
        receipt.linked()
    }

    /// Refuses what contradicts itself.
    fn linked(self) -> Result<Self, RecordReceiptError> {
        if self.sequence == 0 {
            return Err(RecordReceiptError::Malformed("number"));
        }
        if self.record.payload_bytes > PAYLOAD_BYTES_MAX {
            return Err(RecordReceiptError::Malformed("payload length"));
        }
        let is_linked = self.before.with(self.sequence, &self.record) == self.link;
        if is_linked { Ok(self) } else { Err(RecordReceiptError::Unlinked) }
    }

    fn body(&self) -> Bytes {
        let mut writer = Writer::new();
        writer.u8(VERSION).text(self.hub.as_str()).raw(self.chain.as_bytes()).u64(self.sequence);
        self.record.write(&mut writer);
        writer.raw(self.before.as_bytes()).raw(self.link.as_bytes()).finish()
    }
}

impl fmt::Display for RecordReceipt {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { hub, chain, sequence, record, before, link, signature } = self;
        let ChainedRecord { id, digest, payload_hash, payload_bytes } = record;
        writeln!(formatter, "{MAGIC}\nhub = {hub}\nchain = {chain}\nnumber = {sequence}\nrecord = {id}")?;
        writeln!(formatter, "header = {digest}\npayload = {payload_hash}\nbytes = {payload_bytes}")?;
        writeln!(formatter, "before = {before}\nlink = {link}")?;
        write_signature(formatter, signature)
    }
}

impl FromStr for RecordReceipt {
    type Err = RecordReceiptError;

    fn from_str(text: &str) -> Result<Self, RecordReceiptError> {
        let text = compact(text);
        let malformed = RecordReceiptError::Malformed;
        let keys = ["hub", "chain", "number", "record", "header", "payload", "bytes", "before", "link", "signature"];
        let [hub, chain, sequence, id, header, payload, bytes, before, link, signature] =
            values(&text, MAGIC, keys).map_err(malformed)?;
        let record = ChainedRecord {
            id: id.parse().map_err(|_| malformed("record"))?,
            digest: HeaderDigest(from_digits(header).map_err(|_| malformed("header"))?),
            payload_hash: PayloadHash::from_bytes(from_digits(payload).map_err(|_| malformed("payload"))?),
            payload_bytes: bytes.parse().map_err(|_| malformed("bytes"))?,
        };
        let receipt = Self {
            hub: hub.parse().map_err(|_| malformed("hub"))?,
            chain: chain.parse().map_err(|_| malformed("chain"))?,
            sequence: sequence.parse().map_err(|_| malformed("number"))?,
            record,
            before: before.parse().map_err(|_| malformed("before"))?,
            link: link.parse().map_err(|_| malformed("link"))?,
            signature: read_signature(signature).ok_or(malformed("signature"))?,
        };
        // A number can be written in more than one way; a receipt cannot.
        if compact(&receipt.to_string()) == text { receipt.linked() } else { Err(malformed("number")) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key() -> SigningKey {
        SigningKey::from_seed([9; 32])
    }

    fn record() -> ChainedRecord {
        ChainedRecord {
            id: "sail.3.5".parse().unwrap(),
            digest: HeaderDigest([7; 32]),
            payload_hash: PayloadHash::of(b"sealed"),
            payload_bytes: 6,
        }
    }

    fn receipt() -> RecordReceipt {
        let hub: NodeId = "induk".parse().unwrap();
        let before = ChainHead::first(&hub, ChainId::from_bytes([1; 16]));
        RecordReceipt::sign(hub, before, record(), &key())
    }

    #[test]
    fn it_is_read_back_as_bytes_as_text_and_from_a_mail() {
        let receipt = receipt();
        assert_eq!(RecordReceipt::decode(&receipt.encode()), Ok(receipt.clone()));
        let text = receipt.to_string();
        assert_eq!(text.parse(), Ok(receipt.clone()));
        assert!(text.lines().all(|line| line.len() <= 76), "{text}");
        let quoted: String = text.lines().map(|line| format!("> {line} \r\n")).collect();
        assert_eq!(quoted.parse(), Ok(receipt.clone()));
        let (half, rest) = text.split_at(200);
        assert_eq!(format!("\n\n{half}\n{rest}\n").parse(), Ok(receipt.clone()), "a line was broken");
        assert_eq!(receipt.verify(&key().public()), Ok(()));
        assert_eq!((receipt.head().sequence, receipt.record()), (1, &record()));
    }

    #[test]
    fn a_flipped_bit_anywhere_proves_nothing() {
        let (bytes, text) = (receipt().encode(), receipt().to_string());
        for bit in 0..bytes.len() * 8 {
            let mut bad = bytes.to_vec();
            bad[bit / 8] ^= 1 << (bit % 8);
            let read = RecordReceipt::decode(&bad);
            assert!(read.is_err() || read.is_ok_and(|read| read.verify(&key().public()).is_err()), "bit {bit}");
        }
        for bit in 0..text.len() * 8 {
            let mut bad = text.clone().into_bytes();
            bad[bit / 8] ^= 1 << (bit % 8);
            let read = String::from_utf8(bad).ok().and_then(|text| text.parse::<RecordReceipt>().ok());
            assert!(read.is_none_or(|read| read.verify(&key().public()).is_err()), "bit {bit} of the text");
        }
    }

    #[test]
    fn it_is_cut_off_nowhere_and_nothing_stands_behind_it() {
        let (bytes, text) = (receipt().encode(), receipt().to_string());
        for end in 0..bytes.len() {
            assert!(RecordReceipt::decode(&bytes[..end]).is_err(), "{end}");
        }
        for end in 0..text.trim_end().len() {
            assert!(text[..end].parse::<RecordReceipt>().is_err(), "{}", &text[..end]);
        }
        assert!(RecordReceipt::decode(&[&bytes[..], &[0]].concat()).is_err());
        assert!(format!("{text}more").parse::<RecordReceipt>().is_err());
    }

    #[test]
    fn its_signature_is_for_nothing_else_and_nothing_else_is_for_it() {
        let receipt = receipt();
        let as_head =
            crate::SignedHead { hub: receipt.hub.clone(), head: receipt.head(), signature: receipt.signature };
        assert!(as_head.verify(&key().public()).is_err());
        let head = crate::SignedHead::sign(receipt.hub.clone(), receipt.head(), &key());
        assert!(RecordReceipt { signature: head.signature, ..receipt }.verify(&key().public()).is_err());
    }

    #[test]
    fn what_contradicts_itself_is_refused_though_it_is_signed() {
        let other = ChainedRecord { payload_bytes: 7, ..record() };
        let forged = RecordReceipt { record: other, ..receipt() };
        let forged = RecordReceipt { signature: key().sign(PURPOSE, &forged.body()), ..forged };
        assert_eq!(forged.verify(&key().public()), Ok(()));
        assert_eq!(RecordReceipt::decode(&forged.encode()), Err(RecordReceiptError::Unlinked));
        assert_eq!(forged.to_string().parse::<RecordReceipt>(), Err(RecordReceiptError::Unlinked));
    }
}
