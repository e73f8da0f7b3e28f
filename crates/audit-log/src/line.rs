//! A line as bytes: an entry, and the node's signature over it.

use std::fmt;
use std::str::FromStr;

use data_encoding::{BASE64URL_NOPAD, HEXLOWER};
use estafet_model::{PublicKey, Signature, SigningKey};

use crate::entry::Entry;

/// The longest line; more is none.
pub const LINE_BYTES_MAX: usize = 16 << 10;

/// What a line's signature is for.
const PURPOSE: &str = "estafet audit log line 1";

/// What stands between an entry and its signature.
const SEAM: &str = ",\"signature\":\"";
const END: &str = "\"}";

/// The hash of a line, by which the next one names it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LineHash([u8; 32]);

impl LineHash {
    /// What the first line says of the line before it.
    pub const NONE: Self = Self([0; 32]);

    /// The hash of a line, without its end of line.
    #[must_use]
    pub fn of(line: &[u8]) -> Self {
        Self(*blake3::hash(line).as_bytes())
    }
}

/// The text is no hash of a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a head is 64 hexadecimal digits, as `topology show --json` and `audit-log verify` print it")]
pub struct LineHashError;

impl FromStr for LineHash {
    type Err = LineHashError;

    fn from_str(text: &str) -> Result<Self, LineHashError> {
        let bytes = HEXLOWER.decode(text.as_bytes()).map_err(|_| LineHashError)?;
        bytes.try_into().map(Self).map_err(|_| LineHashError)
    }
}

impl fmt::Display for LineHash {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&HEXLOWER.encode(&self.0))
    }
}

impl fmt::Debug for LineHash {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, formatter)
    }
}

/// The newest line of a log: whoever knows it can tell whether lines are missing at the end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Head {
    /// Its number.
    pub sequence: u64,
    /// Its hash.
    pub hash: LineHash,
}

/// Why a text is no line of a log.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LineFault {
    /// It does not have the form.
    #[error("it is no line of an audit log: {0}")]
    Malformed(String),
    /// It is longer than any that a relay writes.
    #[error("it is longer than {LINE_BYTES_MAX} bytes")]
    TooLong,
}

/// One line: what it says, and the signature that is yet to be looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// What it says.
    pub entry: Entry,
    /// Its hash.
    pub hash: LineHash,
    signed: Vec<u8>,
    signature: Signature,
}

impl Line {
    /// The line of an entry, without an end of line.
    ///
    /// # Panics
    /// Never: an entry holds nothing that JSON cannot say.
    #[must_use]
    pub fn encode(entry: &Entry, key: &SigningKey) -> String {
        let mut text = serde_json::to_string(entry).expect("texts and numbers have a form in JSON");
        // The brace goes behind the signature.
        text.pop();
        let signature = key.sign(PURPOSE, text.as_bytes());
        text + SEAM + &BASE64URL_NOPAD.encode(signature.as_bytes()) + END
    }

    /// Reads a line, without its end of line.
    ///
    /// # Errors
    /// If it is none.
    pub fn decode(line: &[u8]) -> Result<Self, LineFault> {
        if line.len() > LINE_BYTES_MAX {
            return Err(LineFault::TooLong);
        }
        let malformed = |what: &str| LineFault::Malformed(what.to_owned());
        let text = str::from_utf8(line).map_err(|_| malformed("it is no text"))?;
        let (signed, rest) = text.rsplit_once(SEAM).ok_or_else(|| malformed("it ends with no signature"))?;
        let signature = rest.strip_suffix(END).and_then(|text| BASE64URL_NOPAD.decode(text.as_bytes()).ok());
        let signature: Option<[u8; 64]> = signature.and_then(|bytes| bytes.try_into().ok());
        let signature = signature.ok_or_else(|| malformed("it ends with no signature"))?;
        let entry = serde_json::from_str(&format!("{signed}}}")).map_err(|error| malformed(&error.to_string()))?;
        let signature = Signature::from_bytes(signature);
        Ok(Self { entry, hash: LineHash::of(line), signed: signed.as_bytes().to_vec(), signature })
    }

    /// True if the owner of `key` has written it.
    #[must_use]
    pub fn is_by(&self, key: &PublicKey) -> bool {
        key.verifies(PURPOSE, &self.signed, &self.signature)
    }

    /// What the next line calls it.
    #[must_use]
    pub fn head(&self) -> Head {
        Head { sequence: self.entry.sequence, hash: self.hash }
    }
}
