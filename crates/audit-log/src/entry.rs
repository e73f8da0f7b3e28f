//! What a line says.

use std::collections::BTreeMap;
use std::fmt;
use std::time::{Duration, UNIX_EPOCH};

use estafet_model::{NodeId, UnixMillis};
use serde::{Deserialize, Serialize};

use crate::line::LineHash;

/// The longest text in a line; the rest is cut off. Whoever is refused chooses some of them.
const TEXT_BYTES_MAX: usize = 200;

/// The last millisecond of the year 9999.
const UNIX_MS_MAX: u64 = 253_402_300_799_999;

/// Who did something, or tried to.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Who {
    /// An operator of the topology in force.
    Operator {
        /// Their name.
        name: String,
        /// Their key.
        key: String,
    },
    /// Another node.
    Node(String),
    /// Somebody on this machine who could open the admin socket: their user's number, if the system tells.
    LocalUser(Option<u32>),
    /// A counter's machine that showed its token.
    Workstation(String),
    /// Somebody who could not show who they are.
    Stranger {
        /// From where.
        address: String,
        /// The key that they showed.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        key: Option<String>,
    },
    /// Several, of whom there were too many for a line each.
    Others,
    /// The node itself.
    ThisNode,
}

impl fmt::Display for Who {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Operator { name, .. } => write!(formatter, "operator {name}"),
            Self::Node(id) => write!(formatter, "node {id}"),
            Self::LocalUser(Some(user)) => write!(formatter, "local user {user}"),
            Self::LocalUser(None) => formatter.write_str("a local user"),
            Self::Workstation(name) => write!(formatter, "workstation {name}"),
            Self::Stranger { address, .. } => write!(formatter, "a stranger at {address}"),
            Self::Others => formatter.write_str("others"),
            Self::ThisNode => formatter.write_str("this node"),
        }
    }
}

/// What became of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// It was about to be done when this was written.
    Allowed,
    /// It was not done.
    Refused,
    /// It was allowed, and nothing came of it.
    Failed,
    /// Nobody had to allow it.
    Noted,
}

/// What is to be written down.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// Who.
    pub who: Who,
    /// Did what: a call of the admin API, or another word of the program.
    pub what: String,
    /// The arguments and other particulars, without secrets and payload.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub about: BTreeMap<String, String>,
    /// What became of it.
    pub outcome: Outcome,
    /// Why it was refused, or failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
    /// How often, if more than once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub times: Option<u64>,
}

impl Event {
    /// A change that is about to be made.
    #[must_use]
    pub fn allowed(who: Who, what: &str) -> Self {
        Self { who, what: cut(what), about: BTreeMap::new(), outcome: Outcome::Allowed, why: None, times: None }
    }

    /// Something that nobody had to allow.
    #[must_use]
    pub fn noted(who: Who, what: &str) -> Self {
        Self { outcome: Outcome::Noted, ..Self::allowed(who, what) }
    }

    /// Something that was not done.
    #[must_use]
    pub fn refused(who: Who, what: &str, why: &str) -> Self {
        Self { outcome: Outcome::Refused, why: Some(cut(why)), ..Self::allowed(who, what) }
    }

    /// The same, of which nothing came.
    #[must_use]
    pub fn failed(&self, why: &str) -> Self {
        Self { outcome: Outcome::Failed, why: Some(cut(why)), ..self.clone() }
    }

    /// The same with one particular more.
    #[must_use]
    pub fn about(mut self, name: &str, value: impl fmt::Display) -> Self {
        self.about.insert(name.to_owned(), cut(&value.to_string()));
        self
    }
}

/// One line's content.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// Its number, from 1.
    pub sequence: u64,
    /// Whose log it is.
    #[serde(with = "as_text")]
    pub node: NodeId,
    /// How often the node's store had been opened.
    pub start: u64,
    /// When, by the node's clock, which may be wrong.
    pub time: String,
    /// What happened.
    #[serde(flatten)]
    pub event: Event,
    /// The hash of the line before.
    #[serde(with = "as_text")]
    pub previous: LineHash,
}

impl Entry {
    /// An event at its place in the log.
    #[must_use]
    pub fn new(
        node: NodeId,
        start: u64,
        wall: UnixMillis,
        event: Event,
        (sequence, previous): (u64, LineHash),
    ) -> Self {
        let time = UNIX_EPOCH + Duration::from_millis(wall.0.min(UNIX_MS_MAX));
        let time = humantime::format_rfc3339_millis(time).to_string();
        Self { sequence, node, start, time, event, previous }
    }
}

/// A text that is not longer than a line may hold.
fn cut(text: &str) -> String {
    match text.char_indices().find(|(index, letter)| index + letter.len_utf8() > TEXT_BYTES_MAX) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

/// As people read it.
mod as_text {
    use std::fmt::Display;
    use std::str::FromStr;

    use serde::de::{Deserialize, Deserializer, Error};
    use serde::ser::Serializer;

    pub(super) fn serialize<S: Serializer>(value: &impl Display, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(value)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>, T: FromStr<Err: Display>>(
        deserializer: D,
    ) -> Result<T, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(Error::custom)
    }
}
