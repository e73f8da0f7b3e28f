//! How people name a record: by the slip in a citizen's hand, or by its id.

use std::fmt;
use std::str::FromStr;

use estafet_model::{RecordId, Slip, SlipError};

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
            text.parse().map(Self::Slip).map_err(|error| match error {
                SlipError::Shape => format!("{error}; a record id has dots, such as rumbai.513.42"),
                SlipError::Check => error.to_string(),
            })
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
        let id: RecordId = "rumbai.513.42".parse().unwrap();
        let slip = id.slip("RMB".parse().unwrap()).to_string();
        let mistyped = slip.replacen('R', "S", 1);
        for (text, expected) in [
            ("rumbai.513.42", Ok("rumbai.513.42")),
            (slip.as_str(), Ok(slip.as_str())),
            (&slip.to_lowercase().replace('-', " "), Ok(slip.as_str())),
            ("rumbai.513", Err("no record id")),
            (&mistyped, Err("typing mistake")),
            ("rumbai", Err("twelve letters")),
            ("rumbai", Err("such as rumbai.513.42")),
        ] {
            match (text.parse::<RecordName>(), expected) {
                (Ok(name), Ok(canonical)) => assert_eq!(name.to_string(), canonical),
                (Err(said), Err(part)) => assert!(said.contains(part), "{text}: {said}"),
                (found, _) => panic!("{text}: {found:?}"),
            }
        }
    }
}
