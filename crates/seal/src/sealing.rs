//! At an origin: content becomes payload.

use std::fmt;
use std::sync::Arc;

use aes_gcm::Aes256Gcm;
use aes_gcm::aead::AeadInOut;
use aes_gcm::aead::inout::InOutBuf;
use estafet_model::{CHUNK_BYTES, SealKey, SealKeyId};
use hpke::{Deserializable, Kem, OpModeS, Serializable};

use crate::associated_data::AssociatedData;
use crate::chain::ChainKey;
use crate::key::{Cipher, KeyDerivation, XWing};
use crate::{CLEAR, FIXED_BYTES, HUBS_MAX, RECORDS_PER_CHAIN, SEALED};

/// What sealing adds to each chunk.
pub const TAG_BYTES: usize = 16;

/// What HPKE is used for.
pub(crate) const WRAP_INFO: &[u8] = b"estafet chain key v1";

/// The operating system gives no random bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the operating system gives no random bytes: {0}")]
pub struct NoRandomness(pub(crate) getrandom::Error);

/// Nothing can be sealed to these keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadSealKeys {
    /// Nobody could read it.
    #[error("there is no hub to seal records to")]
    NoHub,
    /// Their keys do not fit.
    #[error("records can be sealed to {HUBS_MAX} hubs at most")]
    TooManyHubs,
    /// It has the right length, and is no key.
    #[error("the seal key {0} is not one that X-Wing can use")]
    NotAKey(SealKeyId),
}

/// Seals records to the hubs of an area, one after the other.
pub struct Sealer {
    hubs: Vec<(SealKeyId, <XWing as Kem>::PublicKey)>,
    chain: Option<Chain>,
}

struct Chain {
    key: ChainKey,
    used: u32,
    /// For each hub, what it needs to know the chain.
    wrapped: Arc<[u8]>,
}

impl Sealer {
    /// A sealer for these hubs.
    ///
    /// # Errors
    /// If nothing can be sealed to them.
    pub fn new<'a>(hubs: impl IntoIterator<Item = &'a SealKey>) -> Result<Self, BadSealKeys> {
        let usable = |key: &SealKey| match Deserializable::from_bytes(key.as_bytes()) {
            Ok(public) => Ok((key.id(), public)),
            Err(_) => Err(BadSealKeys::NotAKey(key.id())),
        };
        let hubs: Vec<_> = hubs.into_iter().map(usable).collect::<Result<_, _>>()?;
        match hubs.len() {
            0 => Err(BadSealKeys::NoHub),
            1..=HUBS_MAX => Ok(Self { hubs, chain: None }),
            _ => Err(BadSealKeys::TooManyHubs),
        }
    }

    /// Leaves everything readable for everybody: what sealing costs is measured beside it.
    #[must_use]
    pub fn off() -> Self {
        Self { hubs: Vec::new(), chain: None }
    }

    /// Begins a record.
    ///
    /// # Errors
    /// If a new chain is needed, and the operating system gives no random bytes.
    ///
    /// # Panics
    /// If it stops giving them after the first.
    pub fn begin(&mut self, associated: AssociatedData) -> Result<Sealing, NoRandomness> {
        if self.hubs.is_empty() {
            return Ok(Sealing { seal: None, chunks: 0 });
        }
        let chain = match self.chain.take() {
            Some(chain) if chain.used < RECORDS_PER_CHAIN => chain,
            _ => self.new_chain()?,
        };
        let chain = self.chain.insert(chain);
        let index = chain.used;
        chain.used += 1;
        let cipher = chain.key.advance();
        Ok(Sealing { seal: Some(Seal { cipher, index, wrapped: Arc::clone(&chain.wrapped), associated }), chunks: 0 })
    }

    fn new_chain(&self) -> Result<Chain, NoRandomness> {
        let mut key = ChainKey([0; 32]);
        getrandom::fill(&mut key.0).map_err(NoRandomness)?;
        let mut wrapped = Vec::with_capacity(self.hubs.len() * WRAPPED_BYTES);
        for (id, public) in &self.hubs {
            let setup = hpke::setup_sender::<Cipher, KeyDerivation, XWing>(&OpModeS::Base, public, WRAP_INFO);
            let (encapsulated, mut context) = setup.expect("X-Wing encapsulates to every valid key");
            let ciphertext = context.seal(&key.0, &id.0).expect("a context seals its first message");
            wrapped.extend_from_slice(&id.0);
            wrapped.extend_from_slice(&encapsulated.to_bytes());
            wrapped.extend_from_slice(&ciphertext);
        }
        debug_assert_eq!(wrapped.len(), self.hubs.len() * WRAPPED_BYTES, "all hubs take the same room");
        Ok(Chain { key, used: 0, wrapped: wrapped.into() })
    }
}

/// For each hub: the id of its key, the encapsulated key, the wrapped chain key.
pub(crate) const WRAPPED_BYTES: usize = SEAL_KEY_ID_BYTES + ENCAPSULATED_BYTES + CHAIN_KEY_BYTES + TAG_BYTES;
pub(crate) const SEAL_KEY_ID_BYTES: usize = 8;
pub(crate) const ENCAPSULATED_BYTES: usize = 1120;
const CHAIN_KEY_BYTES: usize = 32;

impl fmt::Debug for Sealer {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_list().entries(self.hubs.iter().map(|(id, _)| id)).finish()
    }
}

/// One record's content on its way to a payload, chunk by chunk.
pub struct Sealing {
    /// Nothing if it stays readable.
    seal: Option<Seal>,
    /// How many chunks are sealed.
    chunks: u32,
}

struct Seal {
    cipher: Aes256Gcm,
    index: u32,
    wrapped: Arc<[u8]>,
    associated: AssociatedData,
}

impl Sealing {
    /// What stands before the content in the first chunk.
    #[must_use]
    pub fn head(&self) -> Vec<u8> {
        let Some(seal) = &self.seal else { return vec![CLEAR] };
        let hubs = u8::try_from(seal.wrapped.len() / WRAPPED_BYTES).expect("a sealer has few hubs");
        [&[SEALED, hubs][..], &seal.index.to_be_bytes(), &seal.wrapped].concat()
    }

    /// What stands after the content in each chunk.
    #[must_use]
    pub fn tag_bytes(&self) -> usize {
        if self.seal.is_some() { TAG_BYTES } else { 0 }
    }

    /// How long the payload of that much content is.
    #[must_use]
    pub fn payload_bytes(&self, content_bytes: u64) -> u64 {
        let head = self.seal.as_ref().map_or(1, |seal| FIXED_BYTES + seal.wrapped.len()) as u64;
        let chunks = (head + content_bytes).div_ceil((CHUNK_BYTES - self.tag_bytes()) as u64).max(1);
        head + content_bytes + chunks * self.tag_bytes() as u64
    }

    /// Seals the next chunk's content in place, and returns what stands after it. The first comes with what stands before it.
    ///
    /// # Panics
    /// If the record had 2³² chunks; payloads have far fewer.
    pub fn seal(&mut self, head: &[u8], content: &mut [u8], is_last: bool) -> Option<[u8; TAG_BYTES]> {
        let Seal { cipher, associated, .. } = self.seal.as_ref()?;
        let aad = aad(self.chunks, associated, head);
        let nonce = nonce(self.chunks, is_last);
        self.chunks += 1;
        let tag = cipher.encrypt_inout_detached(&nonce.into(), &aad, InOutBuf::from(content));
        Some(tag.expect("a chunk is far shorter than what AES-GCM can seal").into())
    }

    /// Seals content that is all here.
    #[must_use]
    pub fn whole(mut self, content: &[u8]) -> Vec<u8> {
        let head = self.head();
        let (first, rest) = content.split_at(content.len().min(CHUNK_BYTES - head.len() - self.tag_bytes()));
        let mut parts = rest.chunks(CHUNK_BYTES - self.tag_bytes()).peekable();
        let mut payload = [&head, first].concat();
        let (head, first) = payload.split_at_mut(head.len());
        let tag = self.seal(head, first, parts.peek().is_none());
        payload.extend(tag.into_iter().flatten());
        while let Some(part) = parts.next() {
            let begin = payload.len();
            payload.extend_from_slice(part);
            let tag = self.seal(&[], &mut payload[begin..], parts.peek().is_none());
            payload.extend(tag.into_iter().flatten());
        }
        payload
    }
}

impl fmt::Debug for Sealing {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Sealing({} chunks)", self.chunks)
    }
}

/// What is bound to a chunk: the first carries the record's head and what its header says.
pub(crate) fn aad(chunk: u32, associated: &AssociatedData, head: &[u8]) -> Vec<u8> {
    if chunk == 0 { [associated.as_bytes(), head].concat() } else { Vec::new() }
}

/// Each chunk's place, and whether it ends the payload: none can be moved, left out or added.
pub(crate) fn nonce(chunk: u32, is_last: bool) -> [u8; 12] {
    let mut nonce = [0; 12];
    nonce[7..11].copy_from_slice(&chunk.to_be_bytes());
    nonce[11] = is_last.into();
    nonce
}
