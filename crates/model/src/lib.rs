//! The words of Estafet as types: ids, headers, receipts, slips, keys, ranges.
//!
//! Everything here is a value. There is no clock, file, socket or random number in this crate, and none may
//! come in (its `clippy.toml` refuses them). Anything that came from outside is parsed into one of these types
//! once, at the rim, and trusted from there on.
//!
//! Read first: [`RecordHeader`] (what travels) and [`SignedReceipt`] (what ends the journey).

mod bearer;
mod canonical;
mod commit_chain;
mod durable;
mod fingerprint;
mod idempotency;
mod join_request;
mod keys;
mod lsa_version;
mod mail_text;
mod name;
mod payload;
mod ranges;
mod receipt;
mod record;
mod record_receipt;
mod seal_key;
mod signed_header;
mod slip;
mod units;

pub use bearer::{Bearer, Medium, MediumError};
pub use canonical::{Malformed, Reader, Writer};
pub use commit_chain::{ChainHead, ChainId, ChainLink, ChainedRecord, HeadError, NoDigits, SignedHead};
pub use durable::Durable;
pub use fingerprint::{Fingerprint, FingerprintError};
pub use idempotency::Idempotency;
pub use join_request::{JoinRequest, JoinRequestError};
pub use keys::{KeyError, PublicKey, Signature, SigningKey};
pub use lsa_version::{LsaVersion, LsdbDigest};
pub use name::{NameError, NodeId, ShortCode};
pub use payload::{
    CHUNK_BYTES, CONTENT_BYTES_MAX, ChunkHash, PAYLOAD_BYTES_MAX, PayloadHash, chunk_count, payload_hash_of_chunks,
};
pub use ranges::{Range, SeqRanges};
pub use receipt::{ReceiptError, ReceiptKey, ReceiptRank, SignedReceipt};
pub use record::{
    Class, Epoch, HeaderDigest, Kind, MediaType, RecordHeader, RecordId, RecordIdError, Seq, SetDigest, TextError,
};
pub use record_receipt::{RecordReceipt, RecordReceiptError};
pub use seal_key::{SealKey, SealKeyError, SealKeyId};
pub use signed_header::{ForgedHeader, OriginProof, SignedHeader, VerifiedRoot, sign_batch};
pub use slip::{Slip, SlipError};
pub use units::{ByteCount, LinkCost, Now, UnixMillis};
