//! What people and programs type: ids, slips, keys, and the texts in the headers of an HTTP request.

use std::fmt::{Debug, Display};
use std::str::FromStr;

use estafet_model::{Class, Kind, MediaType, NodeId, PublicKey, RecordId, ShortCode, Slip};
use estafet_topology::Template;

use super::Target;
use crate::cast::{OFFICE, public, samples};
use crate::memory::bounded;

pub(super) const TARGET: Target =
    Target { name: "names", check, seeds, words: &[b"rumbai.1.", b"SKJ0-4000-1A7K", b"ed25519:", b"urgent", b"bulk"] };

fn check(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else { return };
    survives::<NodeId>(text);
    survives::<ShortCode>(text);
    survives::<RecordId>(text);
    survives::<Slip>(text);
    survives::<Class>(text);
    if let Some(key) = survives::<PublicKey>(text) {
        assert_eq!(key.to_string(), text, "a key has one form, or a revoked one could come back in another");
    }
    let parsed =
        bounded(input, 8, || (Kind::from_str(text), MediaType::from_str(text), Template::from_str(text).is_ok()));
    if let (Ok(kind), Ok(media_type), _) = parsed {
        assert!(kind.as_str() == text && media_type.as_str() == text, "they are kept as they were written");
    }
}

/// What is read from the text, after it was written and read again.
fn survives<T: FromStr + Display + PartialEq + Debug>(text: &str) -> Option<T> {
    let parsed = bounded(text.as_bytes(), 8, || T::from_str(text)).ok()?;
    assert_eq!(T::from_str(&parsed.to_string()).ok().as_ref(), Some(&parsed), "what was read can be written");
    Some(parsed)
}

fn seeds() -> Vec<Vec<u8>> {
    let id = samples()[0].id().clone();
    let code: ShortCode = "RMB".parse().expect("a short code");
    let texts = [
        id.to_string(),
        id.slip(code).to_string(),
        public(OFFICE).to_string(),
        "rumbai-pesisir".to_owned(),
        "urgent".to_owned(),
        "application/pdf; charset=\"x\"".to_owned(),
    ];
    texts.map(String::into_bytes).to_vec()
}
