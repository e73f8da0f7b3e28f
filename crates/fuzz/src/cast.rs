//! The nodes, keys and records that all targets know.

use std::collections::BTreeMap;
use std::sync::{LazyLock, Mutex, PoisonError};

use bytes::Bytes;
use estafet_model::{
    CHUNK_BYTES, ChunkHash, Class, Kind, MediaType, NodeId, PayloadHash, PublicKey, RecordHeader, RecordId,
    SignedHeader, SigningKey, UnixMillis, chunk_count, sign_batch,
};

/// The node under test, if it is a relay.
pub(crate) const ME: &str = "sukajadi";
/// An office whose records pass through.
pub(crate) const OFFICE: &str = "rumbai";
/// Two hubs.
pub(crate) const HUBS: [&str; 2] = ["induk", "dumai"];

/// Numbers that records have, from 1.
pub(crate) const SEQS: u32 = 6;

/// How long the payloads of these numbers are: empty, carried at once, offered first, of two and of three chunks, and
/// one that goes on after a restart.
const LENGTHS: [usize; SEQS as usize] = [0, 100, 17 << 10, 40 << 10, 70 << 10, 300 << 10];

pub(crate) fn node(name: &str) -> NodeId {
    name.parse().expect("the cast has good names")
}

/// The key of whoever has this name.
pub(crate) fn key(name: &str) -> SigningKey {
    keys_of(name).0
}

/// The other half of it.
pub(crate) fn public(name: &str) -> PublicKey {
    keys_of(name).1
}

/// Made once: that takes as long as many inputs do.
fn keys_of(name: &str) -> (SigningKey, PublicKey) {
    static KEYS: Mutex<BTreeMap<String, (SigningKey, PublicKey)>> = Mutex::new(BTreeMap::new());
    let mut keys = KEYS.lock().unwrap_or_else(PoisonError::into_inner);
    let make = || {
        let key = SigningKey::from_seed(*PayloadHash::of(name.as_bytes()).as_bytes());
        (key.clone(), key.public())
    };
    keys.entry(name.to_owned()).or_insert_with(make).clone()
}

/// A record as it may travel: good in itself, but two of them may have one id.
#[derive(Debug, Clone)]
pub(crate) struct Sample {
    pub(crate) signed: SignedHeader,
    pub(crate) payload: Bytes,
    pub(crate) hashes: Vec<ChunkHash>,
}

impl Sample {
    pub(crate) fn id(&self) -> &RecordId {
        &self.signed.header().id
    }

    pub(crate) fn chunk(&self, index: usize) -> Bytes {
        let start = (index * CHUNK_BYTES).min(self.payload.len());
        self.payload.slice(start..self.payload.len().min(start + CHUNK_BYTES))
    }

    fn new(origin: &str, seq: u32, length: usize, fill: u8, signer: &SigningKey) -> Self {
        let payload = Bytes::from(vec![fill; length]);
        let length = u32::try_from(length).expect("samples are small");
        let header = RecordHeader {
            id: format!("{origin}.1.{seq}").parse().expect("the cast has good ids"),
            class: Class::ALL[seq as usize % 3],
            kind: Kind::default(),
            media_type: MediaType::default(),
            payload_bytes: length,
            payload_hash: PayloadHash::of(&payload),
            captured_at: UnixMillis(u64::from(fill)),
        };
        let signed = sign_batch(vec![header], signer).remove(0);
        let mut sample = Self { signed, payload, hashes: Vec::new() };
        let count = chunk_count(length);
        sample.hashes = (0..count).map(|index| ChunkHash::of(&sample.chunk(index as usize), index, count)).collect();
        sample
    }
}

/// Every sample: the records of the office and of this node, then others under the same ids, then forged ones.
pub(crate) fn samples() -> &'static [Sample] {
    static SAMPLES: LazyLock<Vec<Sample>> = LazyLock::new(|| {
        let kinds = [(7, false), (8, false), (7, true)];
        let of_kind = |(fill, forged): (u8, bool)| {
            let of_origin = move |origin: &'static str| {
                let signer = key(if forged { "nobody" } else { origin });
                (1..=SEQS).zip(LENGTHS).map(move |(seq, length)| Sample::new(origin, seq, length, fill, &signer))
            };
            [OFFICE, ME].into_iter().flat_map(of_origin)
        };
        kinds.into_iter().flat_map(of_kind).collect()
    });
    &SAMPLES
}
