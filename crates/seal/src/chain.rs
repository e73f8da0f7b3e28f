//! The keys of records: a chain that only leads forward.

use aes_gcm::{Aes256Gcm, KeyInit};
use zeroize::{Zeroize, ZeroizeOnDrop};

const RECORD: &str = "estafet 2026-11 key of one sealed record";
const NEXT: &str = "estafet 2026-11 next key of the chain of sealed records";

/// What the next record's key comes from.
#[derive(Zeroize, ZeroizeOnDrop)]
pub(crate) struct ChainKey(pub(crate) [u8; 32]);

impl ChainKey {
    /// The next record's key. What this chain was before leads nowhere from what it is now.
    pub(crate) fn advance(&mut self) -> Aes256Gcm {
        let mut key = blake3::derive_key(RECORD, &self.0);
        let cipher = Aes256Gcm::new(&key.into());
        key.zeroize();
        self.0 = blake3::derive_key(NEXT, &self.0);
        cipher
    }

    /// The key of the record that takes the `index`th, from 0.
    pub(crate) fn key(mut self, index: u32) -> Aes256Gcm {
        for _ in 0..index {
            self.0 = blake3::derive_key(NEXT, &self.0);
        }
        self.advance()
    }
}
