//! Names of nodes. A node id never changes and is never reused; a short code is its place in a slip.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use crate::slip::{self, SYMBOLS};

/// The text is no valid name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// A node id is 1 to 32 lower-case letters, digits and single inner hyphens.
    #[error("`{0}` is no node id: use 1 to 32 lower-case letters, digits and inner hyphens, such as `rumbai-pesisir`")]
    NodeId(String),
    /// A short code is exactly three symbols of the slip alphabet.
    #[error("`{0}` is no short code: use three of {SYMBOLS}, such as `SKJ`")]
    ShortCode(String),
}

/// The name of a node, for ever: `rumbai-pesisir`. Cheap to clone.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeId(Arc<str>);

impl NodeId {
    /// The longest node id, in bytes.
    pub const LENGTH_MAX: usize = 32;

    /// The id as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for NodeId {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let inner = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
        let good = (1..=Self::LENGTH_MAX).contains(&text.len())
            && text.bytes().all(inner)
            && !text.starts_with('-')
            && !text.ends_with('-')
            && !text.contains("--");
        if good { Ok(Self(Arc::from(text))) } else { Err(NameError::NodeId(text.to_owned())) }
    }
}

impl fmt::Display for NodeId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.pad(&self.0)
    }
}

impl fmt::Debug for NodeId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

/// Three symbols that stand for a node in its slips: `SKJ`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ShortCode([u8; 3]);

impl ShortCode {
    pub(crate) fn from_symbols(symbols: [u8; 3]) -> Self {
        Self(symbols)
    }

    pub(crate) fn symbols(self) -> [u8; 3] {
        self.0
    }
}

impl FromStr for ShortCode {
    type Err = NameError;

    /// Reads the code as people write it: lower case and the look-alikes `O`, `I`, `L` are taken as meant.
    fn from_str(text: &str) -> Result<Self, NameError> {
        let fault = || NameError::ShortCode(text.to_owned());
        let symbols: Option<Vec<u8>> = text.chars().map(slip::symbol_of).collect();
        let symbols: [u8; 3] = symbols.ok_or_else(fault)?.try_into().map_err(|_| fault())?;
        Ok(Self(symbols))
    }
}

impl fmt::Display for ShortCode {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|&symbol| write!(formatter, "{}", slip::letter_of(symbol)))
    }
}

impl fmt::Debug for ShortCode {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, formatter)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn node_ids_are_plain_words() {
        for good in ["induk", "rumbai-pesisir", "a", "node-7"] {
            assert!(good.parse::<NodeId>().is_ok(), "{good}");
        }
        for bad in ["", "-a", "a-", "a--b", "Rumbai", "a b", "é", "x".repeat(33).as_str()] {
            assert!(bad.parse::<NodeId>().is_err(), "{bad}");
        }
    }

    #[test]
    fn short_codes_forgive_look_alikes() {
        assert_eq!("skj".parse::<ShortCode>().unwrap().to_string(), "SKJ");
        assert_eq!("lio".parse::<ShortCode>().unwrap().to_string(), "110");
        assert!("SKJU".parse::<ShortCode>().is_err());
        assert!("S-J".parse::<ShortCode>().is_err());
    }
}
