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
