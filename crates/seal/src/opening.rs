//! At a hub: payload becomes content. Nowhere else is there a key for it.

use std::fmt;

use aes_gcm::Aes256Gcm;
use aes_gcm::aead::AeadInOut;
use aes_gcm::aead::inout::InOutBuf;
use estafet_model::{CHUNK_BYTES, RecordHeader, SealKeyId, chunk_count};
use hpke::{Deserializable, OpModeR};

use crate::associated_data::AssociatedData;
use crate::chain::ChainKey;
use crate::key::{Cipher, KeyDerivation, SealSecret, XWing};
use crate::sealing::{ENCAPSULATED_BYTES, SEAL_KEY_ID_BYTES, TAG_BYTES, WRAP_INFO, WRAPPED_BYTES, aad, nonce};
use crate::{FIXED_BYTES, HUBS_MAX, RECORDS_PER_CHAIN, SEALED};

/// A payload cannot be opened.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    /// It is no payload of this version.
    #[error("it is not sealed in a way that this version knows")]
    Unknown,
    /// It was sealed to others.
    #[error("it was sealed to {}, and none of these keys is here", names(.0))]
    OtherKeys(Vec<SealKeyId>),
    /// Something was changed, left out or put under another header.
    #[error("it was altered, or belongs to another header")]
    Altered,
}

fn names(ids: &[SealKeyId]) -> String {
    ids.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

/// One record's payload on its way back to content, chunk by chunk.
pub struct Opening {
    cipher: Aes256Gcm,
    associated: AssociatedData,
    head: Vec<u8>,
    content_bytes: u64,
    chunks: u32,
    next: u32,
}

impl Opening {
    /// Begins with a record's header and its first chunk, which [`Opening::open`] takes after that.
    ///
    /// # Errors
    /// If none of these keys opens it.
    pub fn begin(secrets: &[SealSecret], header: &RecordHeader, first_chunk: &[u8]) -> Result<Self, OpenError> {
        let (fixed, rest) = first_chunk.split_first_chunk::<FIXED_BYTES>().ok_or(OpenError::Unknown)?;
        let [version, hubs, index @ ..] = *fixed;
        let (hubs, index) = (usize::from(hubs), u32::from_be_bytes(index));
        if version != SEALED || !(1..=HUBS_MAX).contains(&hubs) || index >= RECORDS_PER_CHAIN {
            return Err(OpenError::Unknown);
        }
        let wrapped = rest.get(..hubs * WRAPPED_BYTES).ok_or(OpenError::Unknown)?;
        let hubs: Vec<Wrapped<'_>> = wrapped.chunks_exact(WRAPPED_BYTES).filter_map(Wrapped::read).collect();
        let held = hubs.iter().find_map(|hub| {
            let secret = secrets.iter().find(|secret| secret.public().id() == hub.id)?;
            Some((hub, secret))
        });
        let (hub, secret) = held.ok_or_else(|| OpenError::OtherKeys(hubs.iter().map(|hub| hub.id).collect()))?;
        let chain = hub.unwrap(secret).ok_or(OpenError::Altered)?;
        let chunks = chunk_count(header.payload_bytes);
        let head = first_chunk[..FIXED_BYTES + wrapped.len()].to_vec();
        let added = head.len() as u64 + u64::from(chunks) * TAG_BYTES as u64;
        let content_bytes = u64::from(header.payload_bytes).checked_sub(added).ok_or(OpenError::Altered)?;
        Ok(Self {
            cipher: chain.key(index),
            associated: AssociatedData::of(header),
            head,
            content_bytes,
            chunks,
            next: 0,
        })
    }

    /// Opens the next chunk in place, and returns the content in it.
    ///
    /// # Errors
    /// If it is not what was sealed as this chunk of this record.
    pub fn open<'a>(&mut self, chunk: &'a mut [u8]) -> Result<&'a [u8], OpenError> {
        let index = self.next;
        let is_last = index + 1 == self.chunks;
        let head = if index == 0 { self.head.as_slice() } else { &[] };
        let sealed = chunk.get_mut(head.len()..).ok_or(OpenError::Altered)?;
        let content_bytes = sealed.len().checked_sub(TAG_BYTES).ok_or(OpenError::Altered)?;
        let (content, tag) = sealed.split_at_mut(content_bytes);
        let tag: [u8; TAG_BYTES] = (&*tag).try_into().map_err(|_| OpenError::Altered)?;
        let aad = aad(index, &self.associated, head);
        let opened = self.cipher.decrypt_inout_detached(
            &nonce(index, is_last).into(),
            &aad,
            InOutBuf::from(&mut *content),
            &tag.into(),
        );
        opened.map_err(|_| OpenError::Altered)?;
        self.next += 1;
        Ok(content)
    }

    /// How long the content is, all chunks together.
    #[must_use]
    pub fn content_bytes(&self) -> u64 {
        self.content_bytes
    }
}

/// Opens a payload that is all here.
///
/// # Errors
/// If none of these keys opens it under this header.
pub fn open(secrets: &[SealSecret], header: &RecordHeader, payload: &[u8]) -> Result<Vec<u8>, OpenError> {
    let mut chunks = payload.chunks(CHUNK_BYTES);
    let first = chunks.next().unwrap_or_default();
    let mut opening = Opening::begin(secrets, header, first)?;
    let mut content = Vec::new();
    for chunk in std::iter::once(first).chain(chunks) {
        content.extend_from_slice(opening.open(&mut chunk.to_vec())?);
    }
    if opening.next == opening.chunks { Ok(content) } else { Err(OpenError::Altered) }
}

impl fmt::Debug for Opening {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Opening({} of {} chunks)", self.next, self.chunks)
    }
}

/// What a hub needs to know the chain.
struct Wrapped<'a> {
    id: SealKeyId,
    encapsulated: &'a [u8],
    ciphertext: &'a [u8],
}

impl<'a> Wrapped<'a> {
    fn read(bytes: &'a [u8]) -> Option<Self> {
        let (id, rest) = bytes.split_first_chunk::<SEAL_KEY_ID_BYTES>()?;
        let (encapsulated, ciphertext) = rest.split_at_checked(ENCAPSULATED_BYTES)?;
        Some(Self { id: SealKeyId(*id), encapsulated, ciphertext })
    }

    fn unwrap(&self, secret: &SealSecret) -> Option<ChainKey> {
        let encapsulated = Deserializable::from_bytes(self.encapsulated).ok()?;
        let setup = hpke::setup_receiver::<Cipher, KeyDerivation, XWing>(
            &OpModeR::Base,
            secret.private(),
            &encapsulated,
            WRAP_INFO,
        );
        let key = zeroize::Zeroizing::new(setup.ok()?.open(self.ciphertext, &self.id.0).ok()?);
        Some(ChainKey(key.as_slice().try_into().ok()?))
    }
}
