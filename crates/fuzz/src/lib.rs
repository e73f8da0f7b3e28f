//! What a stranger or a hostile neighbor may send, tried out by a machine.
//!
//! Each [`Target`] takes any bytes and panics if a promise is broken: a decoder panics or asks for more memory than a
//! small multiple of its input, what was encoded does not decode to the same, a signed form has a second way to be
//! written, a damaged log loses what was reported as durable, custody forgets a record or promises one that is not on
//! the disk.
//!
//! `tests/fuzz` builds this crate with coverage instrumentation and `--cfg fuzzing`, which brings libFuzzer and the
//! bound on memory. In every other build the crate is plain: its tests send each seed, and many damaged copies of it,
//! through its target, and `cargo run -p estafet-fuzz -- TARGET FILE` shows what an input does.
//!
//! Read first: [`TARGETS`], then the target of the decoder you are changing.

mod cast;
mod memory;
mod targets;

pub use targets::{TARGETS, Target};

#[cfg(test)]
mod tests;
