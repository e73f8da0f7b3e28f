//! The session protocol: what travels between two neighbors, as bytes and as types.
//!
//! Prost's types stop here. [`Frame`] (control stream) and [`PieceHead`] (payload streams) are what the rest of
//! Estafet sees: parsed, with every bound checked. There is no IO in this crate.

mod control;
mod inventory;
mod payload;

/// What prost makes of `proto/estafet/wire/v1/session.proto`.
mod proto {
    #![expect(unreachable_pub, reason = "generated; documented in session.proto")]
    include!(concat!(env!("OUT_DIR"), "/estafet.wire.v1.rs"));
}

pub use control::{
    Answer, BadFrame, CONTROL_FRAME_BYTES_MAX, Frame, Hello, NeverReason, Offer, ReceiptVersion, TOPOLOGY_BYTES_MAX,
    Verdict,
};
pub use inventory::{Holding, RecordSet};
pub use payload::{PIECE_META_BYTES_MAX, PieceHead, PieceLengths, padding};

/// The protocol and its version, as TLS negotiates it. Neighbors that do not share one do not talk.
pub const ALPN: &[u8] = b"estafet/1";
