//! The private half of a hub's seal key.

use std::fmt;

use data_encoding::BASE64URL_NOPAD;
use estafet_model::SealKey;
use hpke::{Deserializable, Kem, Serializable};
use zeroize::Zeroizing;

use crate::sealing::NoRandomness;

/// How many secret bytes there are: the seed from which both halves are derived.
const SEED_BYTES: usize = 32;

const PREFIX: &str = "xwing-secret:";

pub(crate) type XWing = hpke::kem::XWing;
pub(crate) type KeyDerivation = hpke::kdf::HkdfSha256;
pub(crate) type Cipher = hpke::aead::AesGcm256;

/// The text is no private seal key. It is not repeated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a private seal key: it looks like {PREFIX} and 43 letters, digits, - and _")]
pub struct SecretError;

/// What opens payloads. Wiped when dropped, never printed.
#[derive(Clone)]
pub struct SealSecret(<XWing as Kem>::PrivateKey);

impl SealSecret {
    /// A new key.
    ///
    /// # Errors
    /// If the operating system gives no random bytes.
    pub fn generate() -> Result<Self, NoRandomness> {
        let mut seed = Zeroizing::new([0; SEED_BYTES]);
        getrandom::fill(&mut *seed).map_err(NoRandomness)?;
        Ok(Self::from_seed(&seed))
    }

    /// The key that belongs to 32 secret random bytes.
    ///
    /// # Panics
    /// Never: every seed makes a key.
    #[must_use]
    pub fn from_seed(seed: &[u8; SEED_BYTES]) -> Self {
        Self(Deserializable::from_bytes(seed).expect("an X-Wing key is any 32 bytes"))
    }

    /// Reads what [`SealSecret::to_text`] wrote.
    ///
    /// # Errors
    /// If it is anything else.
    pub fn from_text(text: &str) -> Result<Self, SecretError> {
        let encoded = text.trim_end().strip_prefix(PREFIX).ok_or(SecretError)?;
        let bytes = Zeroizing::new(BASE64URL_NOPAD.decode(encoded.as_bytes()).map_err(|_| SecretError)?);
        Deserializable::from_bytes(&bytes).map(Self).map_err(|_| SecretError)
    }

    /// The key as a line of text, for a file that nobody else may read.
    #[must_use]
    pub fn to_text(&self) -> Zeroizing<String> {
        let bytes = Zeroizing::new(self.0.to_bytes());
        let encoded = Zeroizing::new(BASE64URL_NOPAD.encode(&bytes));
        Zeroizing::new([PREFIX, encoded.as_str(), "\n"].concat())
    }

    /// The public half.
    ///
    /// # Panics
    /// Never: every X-Wing key has the length that the type has.
    #[must_use]
    pub fn public(&self) -> SealKey {
        let bytes = XWing::sk_to_pk(&self.0).to_bytes();
        SealKey::from_bytes(bytes.as_slice().try_into().expect("the KEM's public keys have one length"))
    }

    pub(crate) fn private(&self) -> &<XWing as Kem>::PrivateKey {
        &self.0
    }
}

impl fmt::Debug for SealSecret {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "SealSecret({})", self.public().id())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_survives_its_text_form_and_is_not_printed() {
        let secret = SealSecret::from_seed(&[3; SEED_BYTES]);
        let text = secret.to_text();
        assert_eq!(SealSecret::from_text(&text).unwrap().public(), secret.public());
        assert!(!format!("{secret:?}").contains(&text[PREFIX.len()..20]));
        for bad in ["", "xwing-secret:", "xwing:AAAA", &text[..text.len() - 2]] {
            assert_eq!(SealSecret::from_text(bad).unwrap_err(), SecretError);
        }
        assert_ne!(SealSecret::generate().unwrap().public(), SealSecret::generate().unwrap().public());
    }
}
