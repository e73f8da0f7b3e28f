//! What a node does with transit, what power it runs on, and what people are told about it.

use std::fmt;
use std::str::FromStr;

/// What a node does with transit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub enum NodeState {
    /// Takes it.
    #[default]
    Serving,
    /// Hands over what it has, and is sent no more while there is another way.
    Draining,
}

/// What a node runs on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub enum PowerState {
    /// The mains, or nobody knows better.
    #[default]
    Mains,
    /// A battery that lasts a while.
    OnBattery {
        /// How long, if the battery says so.
        minutes_left: Option<u16>,
    },
    /// A battery that is nearly empty: the node may be gone at any moment, so it drains.
    LowBattery,
}

impl PowerState {
    /// Its name, for people and programs.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Mains => "mains",
            Self::OnBattery { .. } => "battery",
            Self::LowBattery => "low",
        }
    }
}

/// Why a node is not plainly serving.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reason {
    /// An operator drained it.
    Operator,
    /// An outage in the calendar goes on, or comes soon.
    PlannedOutage,
    /// It runs on a battery.
    Power,
}

impl Reason {
    /// Its name, for people and programs.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Operator => "operator",
            Self::PlannedOutage => "planned-outage",
            Self::Power => "power",
        }
    }
}

/// A few words of a person, on one line; they travel in every LSA of the node.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Words(String);

impl Words {
    /// The most bytes.
    pub const BYTES_MAX: usize = 64;

    /// The text; it may be empty.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// As much of a longer text as there is room for, on one line.
    #[must_use]
    pub fn shortened(text: &str) -> Self {
        let line: String = text.chars().filter(|letter| !letter.is_control()).collect();
        Self(line[..line.floor_char_boundary(Self::BYTES_MAX)].to_owned())
    }
}

/// The words are too many.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("at most {} bytes on one line can be told", Words::BYTES_MAX)]
pub struct WordsError;

impl FromStr for Words {
    type Err = WordsError;

    fn from_str(text: &str) -> Result<Self, WordsError> {
        let told = Self::shortened(text);
        if told.0 == text { Ok(told) } else { Err(WordsError) }
    }
}

impl fmt::Display for Words {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

/// What people are told of a node that is not plainly serving. Nothing is routed by it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Notice {
    /// Why.
    pub reason: Reason,
    /// The same in a person's words, if there are any.
    pub words: Words,
    /// When it is expected back, by the node's own clock, which may be wrong.
    pub back_unix_s: Option<u64>,
}

/// What a node says about its service.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Standing {
    /// What it does with transit.
    pub state: NodeState,
    /// What it runs on.
    pub power: PowerState,
    /// What people are told; nothing if it is plainly serving.
    pub notice: Option<Notice>,
}

impl Standing {
    /// True if the node is to be sent transit only when nothing else is left.
    #[must_use]
    pub fn is_draining(&self) -> bool {
        self.state == NodeState::Draining || self.power == PowerState::LowBattery
    }

    /// True if it runs on a battery, however full.
    #[must_use]
    pub fn is_on_battery(&self) -> bool {
        self.power != PowerState::Mains
    }

    /// True if paths may differ between the two. Minutes and notices are for people.
    pub(crate) fn differs_in_topology(&self, other: &Self) -> bool {
        self.is_draining() != other.is_draining() || self.is_on_battery() != other.is_on_battery()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_few_and_on_one_line() {
        for (text, shortened) in [
            ("", ""),
            ("moving the rack", "moving the rack"),
            ("two\nlines", "twolines"),
            (&"x".repeat(65), &*"x".repeat(64)),
            (&"é".repeat(40), &*"é".repeat(32)),
        ] {
            assert_eq!(Words::shortened(text).as_str(), shortened);
            assert_eq!(text.parse::<Words>().is_ok(), text == shortened, "{text}");
        }
    }
}
