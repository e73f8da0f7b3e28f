//! A record's identity and header. The header holds no personal data (P7).

use std::fmt;
use std::num::{NonZeroU16, NonZeroU32};
use std::str::FromStr;

use crate::canonical::{Malformed, Reader, Writer};
use crate::name::{NodeId, ShortCode};
use crate::payload::{PAYLOAD_BYTES_MAX, PayloadHash};
use crate::slip::Slip;
use crate::units::UnixMillis;

/// The incarnation of an origin's spool: numbers start again only under a new epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Epoch(NonZeroU16);

impl Epoch {
    /// The smallest epoch.
    pub const FIRST: Epoch = Epoch(NonZeroU16::MIN);
    /// The largest epoch: it has ten bits in a slip.
    pub const MAX: u16 = 1023;

    /// An epoch from 1 to [`Epoch::MAX`].
    #[must_use]
    pub fn new(number: u16) -> Option<Self> {
        NonZeroU16::new(number).filter(|number| number.get() <= Self::MAX).map(Self)
    }

    /// The number.
    #[must_use]
    pub fn get(self) -> u16 {
        self.0.get()
    }
}

/// A record's number at its origin, from 1, without gaps.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Seq(NonZeroU32);

impl Seq {
    /// The first number.
    pub const FIRST: Seq = Seq(NonZeroU32::MIN);
    /// The last number: it has 25 bits in a slip, which is 91 years of 1,000 records a day.
    pub const MAX: Seq = Seq(NonZeroU32::new((1 << 25) - 1).expect("not zero"));

    /// A number from 1 to [`Seq::MAX`].
    #[must_use]
    pub fn new(number: u32) -> Option<Self> {
        NonZeroU32::new(number).filter(|number| number.get() <= Self::MAX.get()).map(Self)
    }

    /// The number.
    #[must_use]
    pub fn get(self) -> u32 {
        self.0.get()
    }

    /// The number after this one, or nothing at the end of the epoch.
    #[must_use]
    pub fn next(self) -> Option<Self> {
        Self::new(self.get() + 1)
    }
}

/// The text is no record id.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no record id: it looks like rumbai.513.42 (node, epoch, number)")]
pub struct RecordIdError(String);

/// Names one record for ever: who captured it, in which epoch, under which number. Written `rumbai.513.42`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RecordId {
    /// The node that captured it.
    pub origin: NodeId,
    /// The incarnation of that node's spool.
    pub epoch: Epoch,
    /// The record's number there.
    pub seq: Seq,
}

impl RecordId {
    /// The slip of this record, at an origin with this short code.
    #[must_use]
    pub fn slip(&self, code: ShortCode) -> Slip {
        Slip { code, epoch: self.epoch, seq: self.seq }
    }

    /// Appends the canonical form.
    pub fn write(&self, writer: &mut Writer) {
        writer.text(self.origin.as_str()).u16(self.epoch.get()).u32(self.seq.get());
    }

    /// Reads the canonical form.
    pub fn read(reader: &mut Reader<'_>) -> Result<Self, Malformed> {
        Ok(Self {
            origin: reader.parse("origin")?,
            epoch: Epoch::new(reader.u16("epoch")?).ok_or(Malformed { what: "epoch" })?,
            seq: Seq::new(reader.u32("sequence number")?).ok_or(Malformed { what: "sequence number" })?,
        })
    }
}

impl FromStr for RecordId {
    type Err = RecordIdError;

    fn from_str(text: &str) -> Result<Self, RecordIdError> {
        let parse = || {
            let mut parts = text.split('.');
            let id = Self {
                origin: parts.next()?.parse().ok()?,
                epoch: Epoch::new(parts.next()?.parse().ok()?)?,
                seq: Seq::new(parts.next()?.parse().ok()?)?,
            };
            parts.next().is_none().then_some(id)
        };
        parse().ok_or_else(|| RecordIdError(text.to_owned()))
    }
}

impl fmt::Display for RecordId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}.{}.{}", self.origin, self.epoch.get(), self.seq.get())
    }
}

impl fmt::Debug for RecordId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, formatter)
    }
}

/// How soon a record should travel. The order of the variants is the order of service.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub enum Class {
    /// Before everything else.
    Urgent,
    /// The usual.
    #[default]
    Normal,
    /// When nothing else waits; slowed, never starved.
    Bulk,
}

impl Class {
    /// All classes, in order of service.
    pub const ALL: [Class; 3] = [Class::Urgent, Class::Normal, Class::Bulk];

    /// The word for it in headers and commands.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Class::Urgent => "urgent",
            Class::Normal => "normal",
            Class::Bulk => "bulk",
        }
    }
}

impl FromStr for Class {
    type Err = TextError;

    fn from_str(text: &str) -> Result<Self, TextError> {
        Self::ALL.into_iter().find(|class| class.as_str() == text).ok_or(TextError::Class(text.to_owned()))
    }
}

impl fmt::Display for Class {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.pad(self.as_str())
    }
}

/// A text in a header is not what it should be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TextError {
    /// Not one of the three classes.
    #[error("`{0}` is no class: use urgent, normal or bulk")]
    Class(String),
    /// A kind is 1 to 64 plain letters, digits, dots, hyphens or underscores.
    #[error("a kind is 1 to 64 letters, digits, `.`, `-` or `_`, such as ktp-el")]
    Kind,
    /// A media type is 1 to 127 printable ASCII characters.
    #[error("a content type is 1 to 127 printable ASCII characters, such as application/pdf")]
    MediaType,
}

/// What sort of record it is, in the office's own words: `ktp-el`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kind(String);

impl Kind {
    /// The kind as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Kind {
    type Err = TextError;

    fn from_str(text: &str) -> Result<Self, TextError> {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_');
        let good = (1..=64).contains(&text.len()) && text.bytes().all(plain);
        if good { Ok(Self(text.to_owned())) } else { Err(TextError::Kind) }
    }
}

impl Default for Kind {
    /// What a record is called when nobody said.
    fn default() -> Self {
        Self("record".to_owned())
    }
}

/// The media type of the payload: `application/pdf`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MediaType(String);

impl MediaType {
    /// The media type as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for MediaType {
    type Err = TextError;

    fn from_str(text: &str) -> Result<Self, TextError> {
        let good = (1..=127).contains(&text.len()) && text.bytes().all(|byte| (b' '..=b'~').contains(&byte));
        if good { Ok(Self(text.to_owned())) } else { Err(TextError::MediaType) }
    }
}

impl Default for MediaType {
    fn default() -> Self {
        Self("application/octet-stream".to_owned())
    }
}

/// The hash of a header: what tells two records with the same id apart.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct HeaderDigest(pub [u8; 32]);

impl fmt::Display for HeaderDigest {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&data_encoding::HEXLOWER.encode(&self.0))
    }
}

impl fmt::Debug for HeaderDigest {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}…", data_encoding::HEXLOWER.encode(&self.0[..6]))
    }
}

/// The hash of the numbers and headers of some records of one origin's epoch: two nodes that have the same hash mean the
/// same records.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct SetDigest(pub [u8; 32]);

impl SetDigest {
    /// The hash of these records, which are in order of their numbers.
    #[must_use]
    pub fn of(records: impl IntoIterator<Item = (Seq, HeaderDigest)>) -> Self {
        let mut hasher = blake3::Hasher::new_derive_key("estafet set of records v1");
        for (seq, digest) in records {
            hasher.update(&seq.get().to_be_bytes()).update(&digest.0);
        }
        Self(*hasher.finalize().as_bytes())
    }
}

impl fmt::Debug for SetDigest {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}…", data_encoding::HEXLOWER.encode(&self.0[..6]))
    }
}

/// What travels in front of the payload, written once by the origin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecordHeader {
    /// Which record it is.
    pub id: RecordId,
    /// How soon it should travel.
    pub class: Class,
    /// What sort of record it is.
    pub kind: Kind,
    /// What the payload is.
    pub media_type: MediaType,
    /// How long the payload is, in bytes: 0 to [`PAYLOAD_BYTES_MAX`].
    pub payload_bytes: u32,
    /// The BLAKE3 hash of the payload: it binds the header to it.
    pub payload_hash: PayloadHash,
    /// When the origin's wall clock said it was captured; for people.
    pub captured_at: UnixMillis,
}

impl RecordHeader {
    const VERSION: u8 = 1;

    /// Appends the canonical form.
    pub fn write(&self, writer: &mut Writer) {
        writer.u8(Self::VERSION);
        self.id.write(writer);
        writer
            .u8(self.class as u8)
            .text(self.kind.as_str())
            .text(self.media_type.as_str())
            .u32(self.payload_bytes)
            .raw(self.payload_hash.as_bytes())
            .u64(self.captured_at.0);
    }

    /// Reads the canonical form.
    pub fn read(reader: &mut Reader<'_>) -> Result<Self, Malformed> {
        if reader.u8("header version")? != Self::VERSION {
            return Err(Malformed { what: "header version" });
        }
        let id = RecordId::read(reader)?;
        let class = usize::from(reader.u8("class")?);
        let class = *Class::ALL.get(class).ok_or(Malformed { what: "class" })?;
        let header = Self {
            id,
            class,
            kind: reader.parse("kind")?,
            media_type: reader.parse("content type")?,
            payload_bytes: reader.u32("payload length")?,
            payload_hash: PayloadHash::from_bytes(reader.array("payload hash")?),
            captured_at: UnixMillis(reader.u64("capture time")?),
        };
        if header.payload_bytes > PAYLOAD_BYTES_MAX {
            return Err(Malformed { what: "payload length" });
        }
        Ok(header)
    }

    /// The hash of the canonical form.
    #[must_use]
    pub fn digest(&self) -> HeaderDigest {
        let mut writer = Writer::new();
        self.write(&mut writer);
        HeaderDigest(*blake3::hash(&writer.finish()).as_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn record_ids_survive_their_text_form() {
        let id: RecordId = "rumbai-pesisir.513.42".parse().unwrap();
        assert_eq!(id.to_string(), "rumbai-pesisir.513.42");
        for bad in ["rumbai", "rumbai.1", "rumbai.0.1", "rumbai.1.0", "rumbai.1.2.3", "rumbai.1024.1", "Rumbai.1.1"] {
            assert!(bad.parse::<RecordId>().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_header_has_one_form() {
        let header = RecordHeader {
            id: "sail.1.7".parse().unwrap(),
            class: Class::Urgent,
            kind: "ktp-el".parse().unwrap(),
            media_type: MediaType::default(),
            payload_bytes: 3,
            payload_hash: PayloadHash::of(b"abc"),
            captured_at: UnixMillis(1),
        };
        let mut writer = Writer::new();
        header.write(&mut writer);
        let bytes = writer.finish();
        let mut reader = Reader::new(&bytes);
        assert_eq!(RecordHeader::read(&mut reader).unwrap(), header);
        reader.end("header").unwrap();
        for length in 0..bytes.len() {
            assert!(RecordHeader::read(&mut Reader::new(&bytes[..length])).is_err());
        }
    }
}
