//! The public keys that payloads are sealed to, as a topology names them.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use data_encoding::{BASE64URL_NOPAD, HEXLOWER};

const PREFIX: &str = "xwing:";

/// The public half of a hub's seal key, for the hybrid KEM X-Wing (ML-KEM-768 and X25519; draft-connolly-cfrg-xwing-kem).
///
/// Whether the bytes are a point and a lattice that can be used is for whoever seals to find out.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SealKey(Arc<[u8; Self::BYTES]>);

impl SealKey {
    /// How long it is.
    pub const BYTES: usize = 1216;

    /// A key from its bytes.
    #[must_use]
    pub fn from_bytes(bytes: [u8; Self::BYTES]) -> Self {
        Self(Arc::new(bytes))
    }

    /// The bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8; Self::BYTES] {
        &self.0
    }

    /// What ends its text form: a key that was copied with a mistake would seal everything for nobody.
    fn check(&self) -> [u8; 4] {
        let SealKeyId([first, second, third, fourth, ..]) = self.id();
        [first, second, third, fourth]
    }

    /// What it is called for short.
    #[must_use]
    pub fn id(&self) -> SealKeyId {
        let hash = blake3::Hasher::new_derive_key("estafet seal key id v1").update(&*self.0).finalize();
        SealKeyId(*hash.as_bytes().first_chunk().expect("a hash has 32 bytes"))
    }
}

impl FromStr for SealKey {
    type Err = SealKeyError;

    fn from_str(text: &str) -> Result<Self, SealKeyError> {
        let encoded = text.strip_prefix(PREFIX).ok_or(SealKeyError)?;
        let bytes = BASE64URL_NOPAD.decode(encoded.as_bytes()).map_err(|_| SealKeyError)?;
        let (key, check) = bytes.split_at_checked(Self::BYTES).ok_or(SealKeyError)?;
        let key = Self(Arc::new(key.try_into().map_err(|_| SealKeyError)?));
        if check == key.check() { Ok(key) } else { Err(SealKeyError) }
    }
}

impl fmt::Display for SealKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{PREFIX}{}", BASE64URL_NOPAD.encode(&[&self.0[..], &self.check()].concat()))
    }
}

impl fmt::Debug for SealKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "SealKey({})", self.id())
    }
}

/// The text is no seal key. It is not repeated: it has 1,627 letters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a seal key: it looks like xwing: and 1,627 letters, digits, - and _, the last of which are a checksum")]
pub struct SealKeyError;

/// Names a seal key: the beginning of its hash. Written as 16 hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SealKeyId(pub [u8; 8]);

impl fmt::Display for SealKeyId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&HEXLOWER.encode(&self.0))
    }
}

impl fmt::Debug for SealKeyId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, formatter)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seal_key_survives_its_text_form_and_has_a_short_name() {
        let key = SealKey::from_bytes([7; SealKey::BYTES]);
        let text = key.to_string();
        assert_eq!((text.len(), text.parse()), (PREFIX.len() + 1627, Ok(key.clone())));
        assert_eq!(key.id().to_string().len(), 16);
        assert_ne!(key.id(), SealKey::from_bytes([8; SealKey::BYTES]).id());
        let mistyped = text.replacen("BwcH", "BwcG", 1);
        for bad in ["", "xwing:", &mistyped, &text[1..], &text[..text.len() - 1], &format!("{text}A")] {
            assert_eq!(bad.parse::<SealKey>(), Err(SealKeyError));
        }
    }
}
