//! A public key in words short enough for the telephone.

use std::fmt;
use std::str::FromStr;

use crate::keys::PublicKey;
use crate::slip::{letter_of, symbol_of};

/// What the hash is for, so that no other hash of a key is taken for it.
const CONTEXT: &str = "estafet 2026 fingerprint of a public key";

const SYMBOLS: usize = 24;
const GROUP: usize = 4;

/// The text is no fingerprint.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a fingerprint is six groups of four letters and digits: ask for all six again")]
pub struct FingerprintError;

/// What two people compare by voice, to know that they speak of one key: six groups of four symbols of the slip's alphabet,
/// which has no look-alikes. These are 120 bits of the key's BLAKE3 hash: nobody can make another key that shows the same.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Fingerprint([u8; SYMBOLS]);

impl Fingerprint {
    /// The fingerprint of a key.
    #[must_use]
    pub fn of(key: &PublicKey) -> Self {
        let hash = blake3::derive_key(CONTEXT, key.as_bytes());
        let mut symbols = [0; SYMBOLS];
        for (place, symbol) in symbols.iter_mut().enumerate() {
            // Five bits from the first byte's highest on. The last symbol ends with bit 119, far from the hash's end.
            let (byte, bit) = (place * 5 / 8, place * 5 % 8);
            let pair = u16::from_be_bytes([hash[byte], hash[byte + 1]]);
            *symbol = (pair >> (11 - bit)).to_be_bytes()[1] & 31;
        }
        Self(symbols)
    }
}

impl FromStr for Fingerprint {
    type Err = FingerprintError;

    /// Reads it as a person types what was heard: any case, hyphens and spaces where they like.
    fn from_str(text: &str) -> Result<Self, FingerprintError> {
        let letters = text.chars().filter(|letter| !matches!(letter, '-' | ' '));
        let symbols: Option<Vec<u8>> = letters.map(symbol_of).collect();
        symbols.and_then(|symbols| symbols.try_into().ok()).map(Self).ok_or(FingerprintError)
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (place, symbol) in self.0.iter().enumerate() {
            if place > 0 && place % GROUP == 0 {
                formatter.write_str("-")?;
            }
            write!(formatter, "{}", letter_of(*symbol))?;
        }
        Ok(())
    }
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, formatter)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keys::SigningKey;

    fn fingerprint(number: u8) -> Fingerprint {
        Fingerprint::of(&SigningKey::from_seed([number; 32]).public())
    }

    #[test]
    fn it_is_read_back_as_people_type_it() {
        let text = fingerprint(1).to_string();
        assert_eq!((text.len(), text.split('-').count()), (29, 6));
        for typed in [text.clone(), text.to_lowercase().replace('-', " "), text.replace('0', "O").replace('1', "l")] {
            assert_eq!(typed.parse(), Ok(fingerprint(1)), "{typed}");
        }
        for wrong in ["", "7K3M", &text[..28], &format!("{text}0"), &text.replacen('-', "?", 1)] {
            assert_eq!(wrong.parse::<Fingerprint>(), Err(FingerprintError), "{wrong}");
        }
    }

    #[test]
    fn every_key_and_every_symbol_counts() {
        let all: Vec<Fingerprint> = (0..64).map(fingerprint).collect();
        for place in 0..SYMBOLS {
            let mut seen: Vec<u8> = all.iter().map(|fingerprint| fingerprint.0[place]).collect();
            seen.sort_unstable();
            seen.dedup();
            assert!(seen.len() > 16, "symbol {place} takes {} values of 64 keys", seen.len());
        }
    }
}
