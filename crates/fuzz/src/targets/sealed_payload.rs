//! Payloads, as a hub opens them: whatever an origin has signed for.

use estafet_model::{Class, Kind, MediaType, PayloadHash, RecordHeader, UnixMillis};
use estafet_seal::{AssociatedData, SealSecret, Sealer, open};

use super::{Target, with_a_flipped_bit};
use crate::memory::bounded;

pub(super) const TARGET: Target =
    Target { name: "sealed_payload", check, seeds, words: &[b"\x01\x01\0\0\0\0", b"\x01\x02\0\0\x0f\xff"] };

/// The keys that are derived from a hub's seed take more than a short input.
const MEMORY_TIMES: usize = 64;

fn check(input: &[u8]) {
    let header = header(input.len());
    let opened = bounded(input, MEMORY_TIMES, || open(&[secret()], &header, input));
    if let Ok(content) = opened {
        assert!(content.len() < input.len(), "sealing adds something");
        assert!(open(&[secret()], &header, &with_a_flipped_bit(input)).is_err(), "no bit can be changed");
    }
}

fn secret() -> SealSecret {
    SealSecret::from_seed(&[7; 32])
}

fn header(payload_bytes: usize) -> RecordHeader {
    RecordHeader {
        id: "rumbai.1.1".parse().expect("an id"),
        class: Class::Normal,
        kind: Kind::default(),
        media_type: MediaType::default(),
        payload_bytes: u32::try_from(payload_bytes).expect("inputs are short"),
        payload_hash: PayloadHash::of(b""),
        captured_at: UnixMillis(0),
    }
}

fn seeds() -> Vec<Vec<u8>> {
    let mut sealer = Sealer::new(&[secret().public()]).expect("its key is good");
    let contents = [&b""[..], b"NIK 1471", &[1; 16_000]];
    contents
        .map(|content| sealer.begin(AssociatedData::of(&header(0))).expect("there are random bytes").whole(content))
        .into()
}
