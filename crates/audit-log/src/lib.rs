//! A node's audit log: who changed what, who was refused, and how anybody can see that no line of it was touched.
//!
//! The log is text, one JSON object a line. Each line holds the hash of the line before it and the node's signature, so a
//! line that was changed, taken out, put in or moved is found, and so is a beginning that was cut off. That lines are
//! missing at the *end* only somebody sees who knows a later [`Head`]: nodes tell theirs to whoever asks for the map.
//!
//! # One line
//!
//! ```text
//! {"sequence":12,"node":"rumbai","start":3,"time":"2026-11-22T18:20:00.123Z",
//!  "who":{"operator":{"name":"kepala","key":"ed25519:…"}},"what":"drain","about":{"words":"new roof"},
//!  "outcome":"allowed","previous":"<64 hex digits>","signature":"<86 characters of base64url>"}
//! ```
//!
//! The signature is the node's over all that stands before `,"signature"`; `previous` is the BLAKE3 hash of the whole line
//! before, without its end of line, and 64 zeros in the first. Lines are numbered from 1 without gaps. `start` counts how
//! often the node's store was opened, and goes on where the wall clock jumps; nothing hangs on `time`.
//!
//! A change is written before it is done (`allowed`), and once more if nothing came of it (`failed`). `refused` says why,
//! and how many `times` since the line before about the same. `noted` is everything else.
//!
//! This crate writes and reads no files: the relay keeps the log, and both programs check it.
//!
//! Read first: [`Entry`] (what a line says) and [`Chain`] (why it is believed).

mod chain;
mod entry;
mod line;

pub use chain::{BadLine, Chain, Fault, Verified};
pub use entry::{Entry, Event, Outcome, Who};
pub use line::{Head, LINE_BYTES_MAX, Line, LineFault, LineHash, LineHashError};

/// What an [`Entry`] says when the oldest lines were given up for room: `about` names the last of them as `through`.
pub const GAVE_UP: &str = "gave-up-oldest-lines";
