//! Which of an origin's link-state advertisements somebody has.

use crate::name::NodeId;

/// Names one link-state advertisement, so that two databases can be compared without sending them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LsaVersion {
    /// Who says it.
    pub origin: NodeId,
    /// Which of its words is newer: grows with each.
    pub sequence: u64,
    /// Tells two with one sequence number apart, as the checksum of RFC 2328 section 13.1 does: an origin that lost its
    /// disk counts again, and may give a number twice.
    pub checksum: u32,
}

impl LsaVersion {
    /// Of the advertisement with this number whose signed bytes are `body`.
    #[must_use]
    pub fn new(origin: NodeId, sequence: u64, body: &[u8]) -> Self {
        let [first, second, third, fourth, ..] = *blake3::hash(body).as_bytes();
        Self { origin, sequence, checksum: u32::from_be_bytes([first, second, third, fourth]) }
    }
}

/// What a whole database of link-state advertisements comes to, whatever the order they came in: a fold over the hashes
/// of their signed bytes. Two databases with one digest are the same. It guards against loss and not against forgery: a
/// neighbor that lies about it is sent a summary too many or too few, and every advertisement is signed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct LsdbDigest(pub u64);

impl LsdbDigest {
    /// The digest with the advertisement whose signed bytes are `body`, or without it if it was in.
    #[must_use]
    pub fn toggled(self, body: &[u8]) -> Self {
        let hash = blake3::hash(body);
        let first = hash.as_bytes().first_chunk().expect("a hash has 32 bytes");
        Self(self.0 ^ u64::from_be_bytes(*first))
    }
}
