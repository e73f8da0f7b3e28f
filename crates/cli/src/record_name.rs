//! How people name a record: by the slip in a citizen's hand, or by its id.

use std::fmt;
use std::str::FromStr;

use estafet_model::{RecordId, Slip};

/// A slip or a record id, known to be well formed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RecordName {
    /// `rumbai.513.42`
    Id(RecordId),
    /// `SKJ0-4000-1A7K`
    Slip(Slip),
}

impl FromStr for RecordName {
    type Err = String;

    /// Ids have dots and slips have none, so a fault is reported for what was meant.
    fn from_str(text: &str) -> Result<Self, String> {
        if text.contains('.') {
            text.parse().map(Self::Id).map_err(|error: estafet_model::RecordIdError| error.to_string())
        } else {
            text.parse().map(Self::Slip).map_err(|error: estafet_model::SlipError| error.to_string())
        }
    }
}

impl fmt::Display for RecordName {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Id(id) => id.fmt(formatter),
            Self::Slip(slip) => slip.fmt(formatter),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_is_named_by_id_or_slip() {
        for (text, canonical) in [
            ("rumbai.513.42", Ok("rumbai.513.42")),
            ("skj0 4000 1a7k", Ok("SKJ0-4000-1A7K")),
            ("rumbai.513", Err("no record id")),
            ("SKJ0-4000-1A7J", Err("typing mistake")),
            ("rumbai", Err("twelve letters")),
        ] {
            match (text.parse::<RecordName>(), canonical) {
                (Ok(name), Ok(canonical)) => assert_eq!(name.to_string(), canonical),
                (Err(said), Err(part)) => assert!(said.contains(part), "{text}: {said}"),
                (found, _) => panic!("{text}: {found:?}"),
            }
        }
    }
}
