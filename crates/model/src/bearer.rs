//! What carries a link, and which of several links between two nodes is meant.

use std::fmt;
use std::str::FromStr;

use crate::name::NodeId;

/// What carries a link. Two nodes may have several links, one by each medium, so that it names them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Medium {
    /// Glass.
    Fiber,
    /// A point-to-point radio, such as a 5 GHz bridge between two masts.
    Radio,
    /// A mobile network.
    Cellular,
    /// Telephone wire.
    Copper,
    /// A satellite.
    Satellite,
}

impl Medium {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::Fiber, Self::Radio, Self::Cellular, Self::Copper, Self::Satellite];

    /// Its name, for people and programs.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Fiber => "fiber",
            Self::Radio => "radio",
            Self::Cellular => "cellular",
            Self::Copper => "copper",
            Self::Satellite => "satellite",
        }
    }
}

impl fmt::Display for Medium {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.pad(self.as_str())
    }
}

/// The text names no medium.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a medium is fiber, radio, cellular, copper or satellite")]
pub struct MediumError;

impl FromStr for Medium {
    type Err = MediumError;

    fn from_str(text: &str) -> Result<Self, MediumError> {
        Self::ALL.into_iter().find(|medium| medium.as_str() == text).ok_or(MediumError)
    }
}

/// One of a node's links: to whom, and by what.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Bearer {
    /// The node at the other end.
    pub neighbor: NodeId,
    /// What carries it.
    pub medium: Medium,
}

impl Bearer {
    /// The link to `neighbor` by `medium`.
    #[must_use]
    pub fn new(neighbor: NodeId, medium: Medium) -> Self {
        Self { neighbor, medium }
    }
}

impl fmt::Display for Bearer {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} by {}", self.neighbor, self.medium)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_medium_is_read_as_it_is_written() {
        for medium in Medium::ALL {
            assert_eq!(medium.to_string().parse(), Ok(medium));
        }
        assert_eq!("Fiber".parse::<Medium>(), Err(MediumError));
    }
}
