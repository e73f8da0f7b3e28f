//! How a counter's request is known again.

use crate::canonical::{Malformed, Reader, Writer};

/// What is kept of a request that may be repeated: neither the counter's key nor what it handed in, but enough to know
/// both again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Idempotency {
    /// The beginning of the key's hash.
    pub key: [u8; 16],
    /// The beginning of the content's hash, keyed by the counter's key: it says nothing to whoever does not know that.
    pub content: [u8; 16],
}

impl Idempotency {
    /// Appends the canonical form.
    pub fn write(&self, writer: &mut Writer) {
        writer.raw(&self.key).raw(&self.content);
    }

    /// Reads the canonical form.
    pub fn read(reader: &mut Reader<'_>) -> Result<Self, Malformed> {
        Ok(Self { key: reader.array("idempotency key")?, content: reader.array("idempotent content")? })
    }
}
