//! One module for each thing that strangers' bytes reach.

mod control_frame;
mod custody;
mod lsa;
mod names;
mod piece_head;
mod receipt;
mod record_receipt;
mod router;
mod sealed_payload;
mod segments;
mod signed_header;
mod signed_topology;
mod topology;

/// Something that takes bytes from outside.
#[derive(Debug, Clone, Copy)]
pub struct Target {
    /// How `tests/fuzz` calls it.
    pub name: &'static str,
    /// Panics if these bytes break a promise.
    pub check: fn(&[u8]),
    /// Inputs to begin with: what the real encoders write.
    pub seeds: fn() -> Vec<Vec<u8>>,
    /// Words that the input's language has.
    pub words: &'static [&'static [u8]],
}

/// Every target.
pub const TARGETS: [Target; 13] = [
    control_frame::TARGET,
    piece_head::TARGET,
    lsa::TARGET,
    receipt::TARGET,
    record_receipt::TARGET,
    signed_header::TARGET,
    names::TARGET,
    topology::TARGET,
    signed_topology::TARGET,
    segments::TARGET,
    custody::TARGET,
    router::TARGET,
    sealed_payload::TARGET,
];

/// One bit of the bytes flipped: which one depends on all of them, so that the engine can choose it.
fn with_a_flipped_bit(bytes: &[u8]) -> Vec<u8> {
    let mut damaged = bytes.to_vec();
    let bit = crc32c::crc32c(bytes) as usize % (bytes.len() * 8);
    damaged[bit / 8] ^= 1 << (bit % 8);
    damaged
}
