//! From what is appended to an entry that lacks only its place.

use bytes::Bytes;
use estafet_model::{
    CHUNK_BYTES, ChunkHash, PAYLOAD_BYTES_MAX, RecordId, SignedHeader, chunk_count, payload_hash_of_chunks,
};

use crate::append::{Append, NewRecord, Payload, Refusal, TransferId};
use crate::format::{BeginMeta, ChunkMeta, HEAD_BYTES, Kind, META_BYTES_MAX, RecordMeta, encode_put};
use crate::transfers::Transfers;
use crate::values::Values;

/// An entry that is ready but for its place.
pub(crate) struct Prepared {
    pub(crate) kind: Kind,
    pub(crate) meta: Bytes,
    pub(crate) payload: Bytes,
    pub(crate) then: Then,
}

/// What is noted once the entry has its place.
#[expect(clippy::large_enum_variant, reason = "it lives on the stack for one call")]
pub(crate) enum Then {
    Record { meta: RecordMeta, transfer: Option<TransferId> },
    Begin { transfer: TransferId, record: RecordId, chunks: Vec<ChunkHash> },
    Chunk { transfer: TransferId, index: u32, hash: ChunkHash, bytes: u32 },
    Put { key: Bytes, value: Bytes },
}

impl Prepared {
    /// Refuses what would be a lie or could not be read back.
    pub(crate) fn new(append: Append, transfers: &Transfers, values: &Values) -> Result<Self, Refusal> {
        let prepared = match append {
            Append::Record(record) => Self::record(record, transfers)?,
            Append::Begin { transfer, header, chunks } => Self::begin(transfer, header, chunks)?,
            Append::Chunk { transfer, index, data, hash } => {
                transfers.check_chunk(transfer, index, &hash)?;
                Self::chunk(transfer, index, data, hash)?
            }
            Append::Put { key, value } => {
                values.check(&key, &value)?;
                let meta = encode_put(&key, &value);
                Self { kind: Kind::Put, meta, payload: Bytes::new(), then: Then::Put { key, value } }
            }
        };
        if prepared.meta.len() > META_BYTES_MAX as usize { Err(Refusal::Meta) } else { Ok(prepared) }
    }

    /// The length of the entry.
    pub(crate) fn length(&self) -> u32 {
        let length = HEAD_BYTES as usize + self.meta.len() + self.payload.len();
        u32::try_from(length).expect("metas and payloads are bounded")
    }

    fn record(record: NewRecord, transfers: &Transfers) -> Result<Self, Refusal> {
        let NewRecord { header, received_from, stored_at, idempotency, payload } = record;
        let length = header.header().payload_bytes;
        if length > PAYLOAD_BYTES_MAX {
            return Err(Refusal::PayloadLength);
        }
        let (payload, transfer, chunks) = match payload {
            Payload::Inline(payload) if payload.len() == length as usize => (payload, None, None),
            Payload::Inline(_) => return Err(Refusal::PayloadLength),
            Payload::Transfer(transfer) => {
                (Bytes::new(), Some(transfer), Some(transfers.check(transfer, header.header())?))
            }
        };
        let meta = RecordMeta { header, received_from, stored_at, idempotency, chunks };
        Ok(Self { kind: Kind::Record, meta: meta.encode(), payload, then: Then::Record { meta, transfer } })
    }

    fn begin(transfer: TransferId, header: SignedHeader, chunks: Vec<ChunkHash>) -> Result<Self, Refusal> {
        let record = header.header();
        if record.payload_bytes > PAYLOAD_BYTES_MAX {
            return Err(Refusal::PayloadLength);
        }
        let count_is_right = chunks.len() == chunk_count(record.payload_bytes) as usize;
        if !count_is_right || payload_hash_of_chunks(&chunks) != record.payload_hash {
            return Err(Refusal::PayloadChunks);
        }
        let meta = BeginMeta { transfer, header, chunks };
        let entry = meta.encode();
        let then = Then::Begin { transfer, record: meta.header.header().id.clone(), chunks: meta.chunks };
        Ok(Self { kind: Kind::Begin, meta: entry, payload: Bytes::new(), then })
    }

    fn chunk(transfer: TransferId, index: u32, data: Bytes, hash: ChunkHash) -> Result<Self, Refusal> {
        if data.len() > CHUNK_BYTES || index >= chunk_count(PAYLOAD_BYTES_MAX) {
            return Err(Refusal::Chunk);
        }
        let meta = ChunkMeta { transfer, index, hash }.encode();
        let bytes = u32::try_from(data.len()).expect("a chunk is short");
        Ok(Self { kind: Kind::Chunk, meta, payload: data, then: Then::Chunk { transfer, index, hash, bytes } })
    }
}
