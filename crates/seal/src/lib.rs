//! Sealing: from the door of an office on, only the hubs can read what a record holds (P7).
//!
//! # How
//! An origin makes a *chain key* of 32 random bytes and wraps it for each hub by HPKE (RFC 9180, base mode: X-Wing,
//! HKDF-SHA256, AES-256-GCM). Each record takes a key of its own from it by BLAKE3, and moves the chain on by BLAKE3 in
//! another context; what it was is wiped. So the expensive part is shared by up to [`RECORDS_PER_CHAIN`] records, each
//! record can be opened by itself, and the origin cannot read back what it has sealed: nothing in its memory leads to the
//! keys of the records before.
//!
//! The content is sealed in pieces that fill the payload's chunks ([`CHUNK_BYTES`](estafet_model::CHUNK_BYTES)), each by
//! AES-256-GCM with the number of the chunk, and whether it is the last, as nonce (the STREAM construction of Hoang,
//! Reyhanitabar, Rogaway and Vizár, 2015). With the first goes what the record's header says of itself before it has a
//! number ([`AssociatedData`]); the number, and the payload's hash, are bound to each other by the origin's signature.
//!
//! # What a payload looks like
//!
//! | bytes | what |
//! |---|---|
//! | 1 | version: 1 (0: not sealed, for benchmarks alone) |
//! | 1 | number of hubs, 1 to [`HUBS_MAX`] |
//! | 4 | which key of the chain, from 0, big-endian |
//! | 1176 for each hub | id of its seal key (8), encapsulated key (1120), wrapped chain key (48) |
//! | the rest of the chunk | ciphertext, and 16 bytes of tag |
//! | each further chunk | ciphertext, and 16 bytes of tag |

mod associated_data;
mod chain;
mod key;
mod opening;
mod sealing;

pub use associated_data::AssociatedData;
pub use key::{SealSecret, SecretError};
pub use opening::{OpenError, Opening, open};
pub use sealing::{BadSealKeys, NoRandomness, Sealer, Sealing, TAG_BYTES};

/// How many hubs a record is sealed to at most: their keys have to fit into the first chunk.
pub const HUBS_MAX: usize = 8;

/// How many records share a chain. To open the last of them takes as many steps, a quarter of a millisecond.
pub const RECORDS_PER_CHAIN: u32 = 4096;

/// The version of sealed payloads.
const SEALED: u8 = 1;

/// The version of payloads that are not sealed.
const CLEAR: u8 = 0;

/// Version, number of hubs, and which key of the chain.
const FIXED_BYTES: usize = 6;
