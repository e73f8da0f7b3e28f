//! Pieces of payload. Their bytes do not pass through Protocol Buffers, so that they are never copied for it.
//!
//! ```text
//! u32 LE  length of the head
//! u32 LE  length of the piece, at most CHUNK_BYTES
//! bytes   head (PayloadPiece in session.proto)
//! bytes   piece
//! ```
//!
//! A piece whose head has no bytes is padding: it is read and dropped. A neighbor sends it to find out what the link
//! carries, on a stream of its own, which it may give up within a piece.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use estafet_model::{CHUNK_BYTES, ChunkHash, PAYLOAD_BYTES_MAX, RecordId, chunk_count};
use prost::Message;

use crate::control::{BadFrame, raw_record_id, record_id};
use crate::proto;

/// A longer head is refused before it is read: a signed header is under 2 KiB, the hashes of 1,024 chunks are 32 KiB.
pub const PIECE_META_BYTES_MAX: usize = 36 << 10;

/// The two lengths in front of a piece.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PieceLengths {
    /// Bytes of the head.
    pub head: usize,
    /// Bytes of the piece.
    pub piece: usize,
}

impl PieceLengths {
    /// How many bytes the lengths take.
    pub const BYTES: usize = 8;

    /// Reads the lengths and checks their bounds.
    pub fn decode(bytes: [u8; Self::BYTES]) -> Result<Self, BadFrame> {
        let [a, b, c, d, e, f, g, h] = bytes;
        let lengths =
            Self { head: u32::from_le_bytes([a, b, c, d]) as usize, piece: u32::from_le_bytes([e, f, g, h]) as usize };
        if lengths.head > PIECE_META_BYTES_MAX || lengths.piece > CHUNK_BYTES {
            return Err(BadFrame::Field("piece length"));
        }
        Ok(lengths)
    }

    fn encode(self) -> [u8; Self::BYTES] {
        let mut bytes = [0; Self::BYTES];
        for (field, length) in bytes.chunks_exact_mut(4).zip([self.head, self.piece]) {
            field.copy_from_slice(&u32::try_from(length).expect("both are small").to_le_bytes());
        }
        bytes
    }

    /// True if the piece is of no record.
    #[must_use]
    pub fn is_padding(&self) -> bool {
        self.head == 0
    }
}

/// Padding that takes so many bytes with the lengths of its pieces, or some less.
pub fn padding(bytes: usize) -> impl Iterator<Item = Bytes> {
    static ZEROS: [u8; CHUNK_BYTES] = [0; CHUNK_BYTES];
    let whole = PieceLengths::BYTES + CHUNK_BYTES;
    let last = (bytes % whole).saturating_sub(PieceLengths::BYTES);
    std::iter::repeat_n(CHUNK_BYTES, bytes / whole).chain((last > 0).then_some(last)).flat_map(|piece| {
        let lengths = PieceLengths { head: 0, piece }.encode();
        [Bytes::copy_from_slice(&lengths), Bytes::from_static(&ZEROS[..piece])]
    })
}

/// Which piece of which record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PieceHead {
    /// The record's signed header in canonical form; with piece 0 and only there.
    pub signed_header: Option<Bytes>,
    /// Which record.
    pub id: RecordId,
    /// Which chunk of its payload.
    pub index: u32,
    /// How many chunks the payload has.
    pub chunks: u32,
    /// The hashes of all chunks; with piece 0 of several and only there.
    pub chunk_hashes: Vec<ChunkHash>,
}

impl PieceHead {
    /// The lengths and the head; the piece itself follows them on the stream.
    ///
    /// # Panics
    /// If `piece_bytes` is more than a chunk.
    #[must_use]
    pub fn encode(&self, piece_bytes: usize) -> Bytes {
        assert!(piece_bytes <= CHUNK_BYTES, "a piece is at most a chunk");
        let mut chunk_hashes = BytesMut::with_capacity(self.chunk_hashes.len() * HASH_BYTES);
        self.chunk_hashes.iter().for_each(|hash| chunk_hashes.put_slice(hash.as_bytes()));
        let head = proto::PayloadPiece {
            signed_header: self.signed_header.clone().unwrap_or_default(),
            id: Some(raw_record_id(&self.id)),
            index: self.index,
            chunks: self.chunks,
            chunk_hashes: chunk_hashes.freeze(),
        };
        let length = head.encoded_len();
        let mut buffer = BytesMut::with_capacity(PieceLengths::BYTES + length);
        buffer.extend_from_slice(&PieceLengths { head: length, piece: piece_bytes }.encode());
        head.encode(&mut buffer).expect("the buffer grows");
        buffer.freeze()
    }

    /// Reads a head without the lengths.
    pub fn decode(bytes: Bytes) -> Result<Self, BadFrame> {
        let head = proto::PayloadPiece::decode(bytes)?;
        if head.chunks > chunk_count(PAYLOAD_BYTES_MAX) || head.index >= head.chunks {
            return Err(BadFrame::Field("chunk number"));
        }
        let signed_header = Some(head.signed_header).filter(|header| !header.is_empty());
        if signed_header.is_some() != (head.index == 0) {
            return Err(BadFrame::Field("signed header"));
        }
        let hashes_due = if head.index == 0 && head.chunks > 1 { head.chunks as usize } else { 0 };
        if head.chunk_hashes.len() != hashes_due * HASH_BYTES {
            return Err(BadFrame::Field("chunk hashes"));
        }
        Ok(Self {
            signed_header,
            id: record_id(head.id.as_ref().ok_or(BadFrame::Field("record id"))?)?,
            index: head.index,
            chunks: head.chunks,
            chunk_hashes: read_hashes(head.chunk_hashes),
        })
    }
}

const HASH_BYTES: usize = 32;

fn read_hashes(mut bytes: Bytes) -> Vec<ChunkHash> {
    let mut hashes = Vec::with_capacity(bytes.len() / HASH_BYTES);
    while bytes.remaining() >= HASH_BYTES {
        let mut hash = [0; HASH_BYTES];
        bytes.copy_to_slice(&mut hash);
        hashes.push(ChunkHash::from_bytes(hash));
    }
    hashes
}

#[cfg(test)]
mod tests {
    use super::*;

    const CHUNKS_MAX: u32 = PAYLOAD_BYTES_MAX.div_ceil(16 << 10);

    fn head(index: u32, chunks: u32) -> PieceHead {
        let hashes = if index == 0 && chunks > 1 { chunks } else { 0 };
        PieceHead {
            signed_header: (index == 0).then(|| Bytes::from_static(b"header")),
            id: "sail.3.7".parse().unwrap(),
            index,
            chunks,
            chunk_hashes: (0..hashes).map(|index| ChunkHash::of(b"chunk", index, chunks)).collect(),
        }
    }

    #[test]
    fn a_head_survives_the_wire() {
        for head in [head(0, 1), head(0, CHUNKS_MAX), head(3, CHUNKS_MAX)] {
            let bytes = head.encode(15_000);
            let lengths = PieceLengths::decode(bytes[..8].try_into().unwrap()).unwrap();
            assert_eq!(lengths, PieceLengths { head: bytes.len() - 8, piece: 15_000 });
            assert_eq!(PieceHead::decode(bytes.slice(8..)), Ok(head));
        }
    }

    #[test]
    fn a_head_that_contradicts_itself_is_refused() {
        let without_header = PieceHead { signed_header: None, ..head(0, 1) };
        let late_header = PieceHead { signed_header: Some(Bytes::from_static(b"header")), ..head(3, 4) };
        let short_of_hashes = PieceHead { chunks: 5, ..head(0, 4) };
        let late_hashes = PieceHead { chunk_hashes: head(0, 4).chunk_hashes, ..head(1, 4) };
        let beyond = PieceHead { index: 4, ..head(3, 4) };
        let too_many = PieceHead { chunks: CHUNKS_MAX + 1, ..head(3, 4) };
        for bad in [without_header, late_header, short_of_hashes, late_hashes, beyond, too_many] {
            assert!(PieceHead::decode(bad.encode(1).slice(8..)).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn padding_is_told_from_every_piece_of_a_record_and_is_as_long_as_it_was_asked_for() {
        for bytes in [0, 8, 9, 1_000, 16_392, 16_393, 64 << 10, 1 << 20] {
            let mut stream = padding(bytes).flatten().collect::<Vec<u8>>();
            assert!((bytes.saturating_sub(PieceLengths::BYTES)..=bytes).contains(&stream.len()), "{bytes}");
            while let Some(lengths) = stream.first_chunk() {
                let lengths = PieceLengths::decode(*lengths).unwrap();
                assert!(lengths.is_padding());
                stream.drain(..PieceLengths::BYTES + lengths.piece);
            }
            assert!(stream.is_empty());
        }
        let lengths = PieceLengths::decode(head(3, 4).encode(9)[..8].try_into().unwrap()).unwrap();
        assert!(!lengths.is_padding());
        assert!(PieceHead::decode(Bytes::new()).is_err(), "what is padding is no piece of a record");
    }

    #[test]
    fn over_long_lengths_are_refused_before_anything_is_allocated() {
        assert!(PieceLengths::decode([0xff; 8]).is_err());
        assert!(PieceLengths::decode([1, 0, 0, 0, 1, 0x40, 0, 0]).is_err());
    }
}
