//! Ed25519 keys and signatures, each signature bound to what it is for.

use std::fmt;
use std::str::FromStr;

use data_encoding::BASE64URL_NOPAD;
use ed25519_dalek::Signer;
use ed25519_dalek::pkcs8::{DecodePrivateKey, EncodePrivateKey, spki::der::pem::LineEnding};
use zeroize::{Zeroize, Zeroizing};

const PREFIX: &str = "ed25519:";

/// The text or file is no key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// A public key is `ed25519:` and 43 characters of base64url.
    #[error("`{0}` is no public key: it looks like ed25519: and 43 letters, digits, - and _")]
    Public(String),
    /// A private key is PKCS #8 in PEM, Ed25519.
    #[error("not a private key: expected an Ed25519 key as PKCS #8 PEM (`-----BEGIN PRIVATE KEY-----`)")]
    Private,
}

/// Who somebody is: a node, a hub, an operator.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PublicKey([u8; 32]);

impl PublicKey {
    /// A key from its 32 bytes, as they stand in a certificate.
    #[must_use]
    pub fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The 32 bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// True if `signature` is this key's over `message` for `purpose`.
    ///
    /// Strict verification (no small-order points): a signature has one form and one meaning.
    #[must_use]
    pub fn verifies(&self, purpose: &'static str, message: &[u8], signature: &Signature) -> bool {
        let Ok(key) = ed25519_dalek::VerifyingKey::from_bytes(&self.0) else { return false };
        let signature = ed25519_dalek::Signature::from_bytes(&signature.0);
        key.verify_strict(&framed(purpose, message), &signature).is_ok()
    }
}

impl FromStr for PublicKey {
    type Err = KeyError;

    fn from_str(text: &str) -> Result<Self, KeyError> {
        let fault = || KeyError::Public(text.to_owned());
        let encoded = text.strip_prefix(PREFIX).ok_or_else(fault)?;
        let bytes = BASE64URL_NOPAD.decode(encoded.as_bytes()).map_err(|_| fault())?;
        let bytes: [u8; 32] = bytes.try_into().map_err(|_| fault())?;
        ed25519_dalek::VerifyingKey::from_bytes(&bytes).map_err(|_| fault())?;
        Ok(Self(bytes))
    }
}

impl fmt::Display for PublicKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{PREFIX}{}", BASE64URL_NOPAD.encode(&self.0))
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, formatter)
    }
}

/// 64 bytes that only the owner of a key can have made.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Signature([u8; 64]);

impl Signature {
    /// A signature from its 64 bytes; says nothing yet about whether it is good.
    #[must_use]
    pub fn from_bytes(bytes: [u8; 64]) -> Self {
        Self(bytes)
    }

    /// The 64 bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8; 64] {
        &self.0
    }
}

impl fmt::Debug for Signature {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}…", BASE64URL_NOPAD.encode(&self.0[..6]))
    }
}

/// A private key. Zeroized when dropped, never printed.
#[derive(Clone)]
pub struct SigningKey(ed25519_dalek::SigningKey);

impl SigningKey {
    /// The key that belongs to 32 secret random bytes.
    #[must_use]
    pub fn from_seed(mut seed: [u8; 32]) -> Self {
        let key = Self(ed25519_dalek::SigningKey::from_bytes(&seed));
        seed.zeroize();
        key
    }

    /// Reads PKCS #8 PEM, as `openssl genpkey -algorithm ed25519` writes it.
    pub fn from_pem(pem: &str) -> Result<Self, KeyError> {
        ed25519_dalek::SigningKey::from_pkcs8_pem(pem).map(Self).map_err(|_| KeyError::Private)
    }

    /// The key as PKCS #8 PEM.
    ///
    /// # Panics
    /// Never: every Ed25519 key has a PEM form.
    #[must_use]
    pub fn to_pem(&self) -> Zeroizing<String> {
        self.0.to_pkcs8_pem(LineEnding::LF).expect("an Ed25519 key always encodes")
    }

    /// The key as PKCS #8 DER, as TLS libraries take it.
    ///
    /// # Panics
    /// Never: every Ed25519 key has a DER form.
    #[must_use]
    pub fn to_pkcs8_der(&self) -> Zeroizing<Vec<u8>> {
        self.0.to_pkcs8_der().expect("an Ed25519 key always encodes").to_bytes()
    }

    /// The public half.
    #[must_use]
    pub fn public(&self) -> PublicKey {
        PublicKey(self.0.verifying_key().to_bytes())
    }

    /// Signs `message` for `purpose`; the same bytes signed for another purpose do not verify.
    #[must_use]
    pub fn sign(&self, purpose: &'static str, message: &[u8]) -> Signature {
        Signature(self.0.sign(&framed(purpose, message)).to_bytes())
    }
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "SigningKey({})", self.public())
    }
}

/// What is really signed: the purpose, a zero byte that no purpose contains, the message.
fn framed(purpose: &'static str, message: &[u8]) -> Vec<u8> {
    debug_assert!(!purpose.contains('\0'), "a zero byte ends the purpose");
    [purpose.as_bytes(), &[0], message].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signature_speaks_for_one_key_one_purpose_one_message() {
        let key = SigningKey::from_seed([1; 32]);
        let signature = key.sign("estafet test", b"message");
        assert!(key.public().verifies("estafet test", b"message", &signature));
        assert!(!key.public().verifies("estafet other", b"message", &signature));
        assert!(!key.public().verifies("estafet test", b"messagE", &signature));
        assert!(!SigningKey::from_seed([2; 32]).public().verifies("estafet test", b"message", &signature));
    }

    #[test]
    fn keys_survive_their_text_forms() {
        let key = SigningKey::from_seed([3; 32]);
        assert_eq!(SigningKey::from_pem(&key.to_pem()).unwrap().public(), key.public());
        assert_eq!(key.public().to_string().parse(), Ok(key.public()));
        assert!(SigningKey::from_pem("nonsense").is_err());
        assert!("ed25519:short".parse::<PublicKey>().is_err());
        assert!(!format!("{key:?}").contains(&BASE64URL_NOPAD.encode(&[3; 32])));
    }
}
