//! Pieces of payload as they arrive on one stream.
//!
//! The stream is read by the run, not by the piece, and what a run holds goes to the driver together: a small record
//! costs no lock, no allocation and no wake-up of its own. Padding is dropped here.

use std::io;
use std::io::ErrorKind;

use bytes::{Buf, Bytes, BytesMut};
use estafet_model::{Bearer, CHUNK_BYTES, ChunkHash};
use estafet_wire::{BadFrame, PIECE_META_BYTES_MAX, PieceHead, PieceLengths};
use quinn::RecvStream;
use tokio::io::AsyncReadExt;

use crate::session::SessionId;
use crate::transport::Shared;

/// What is read at once, and shared by the pieces in it until the last is written.
pub(crate) const RUN_BYTES: usize = 256 << 10;

/// With less room than this in a run, another is begun: the whole of any piece fits in it.
const ROOM_MIN: usize = PieceLengths::BYTES + PIECE_META_BYTES_MAX + CHUNK_BYTES;
const _: () = assert!(ROOM_MIN <= RUN_BYTES, "a run without room for one piece would never be read to its end");

/// Pieces of payload from a neighbor that came together, in order.
#[derive(Debug)]
pub struct ReceivedPieces {
    /// From whom, and over which bearer.
    pub bearer: Bearer,
    /// By which session.
    pub session: SessionId,
    /// The pieces.
    pub pieces: Vec<ReceivedPiece>,
}

/// A piece of payload, hashed.
#[derive(Debug)]
pub struct ReceivedPiece {
    /// Which piece of which record.
    pub head: PieceHead,
    /// Its bytes.
    pub data: Bytes,
    /// Their hash as a chunk of the payload.
    pub hash: ChunkHash,
}

/// Why no more pieces come, other than that the neighbor has ended the stream.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NoPieces {
    /// The stream or its connection was lost, or it ended within a piece.
    #[error("{0}")]
    Lost(io::Error),
    /// What came is no piece.
    #[error(transparent)]
    Bad(#[from] BadFrame),
}

/// Hands the pieces of one stream to the driver until the stream ends.
pub(crate) async fn read_pieces(
    shared: &Shared,
    bearer: &Bearer,
    session: SessionId,
    mut stream: RecvStream,
) -> Result<(), NoPieces> {
    let allowance = shared.allowances.of(&bearer.neighbor);
    let mut buffer = BytesMut::new();
    loop {
        allowance.payload().await;
        if buffer.capacity() - buffer.len() < ROOM_MIN {
            buffer.reserve(RUN_BYTES);
        }
        match stream.read_buf(&mut buffer).await {
            Ok(0) if buffer.is_empty() => return Ok(()),
            Ok(0) => return Err(NoPieces::Lost(ErrorKind::UnexpectedEof.into())),
            Ok(_) => {}
            // The neighbor has given it up; of padding nobody misses the rest.
            Err(error) if error.kind() == ErrorKind::ConnectionReset => return Ok(()),
            Err(error) => return Err(NoPieces::Lost(error)),
        }
        let (mut pieces, mut padding) = (Vec::new(), 0);
        while let Some(piece) = next_piece(&mut buffer, &mut padding)? {
            pieces.push(piece);
        }
        allowance.wasted(0, padding);
        if pieces.is_empty() {
            continue;
        }
        let pieces = ReceivedPieces { bearer: bearer.clone(), session, pieces };
        if shared.pieces.send(pieces, allowance.place().await).await.is_err() {
            return Ok(());
        }
    }
}

/// Takes the next piece of a record off the buffer, if all of it has come, and the padding before it, whose bytes are added
/// up.
fn next_piece(buffer: &mut BytesMut, padding: &mut u64) -> Result<Option<ReceivedPiece>, BadFrame> {
    while let Some(lengths) = buffer.first_chunk() {
        let lengths = PieceLengths::decode(*lengths)?;
        let whole = PieceLengths::BYTES + lengths.head + lengths.piece;
        if buffer.len() < whole {
            return Ok(None);
        }
        if lengths.is_padding() {
            buffer.advance(whole);
            *padding += whole as u64;
            continue;
        }
        let mut head = buffer.split_to(whole).freeze().split_off(PieceLengths::BYTES);
        let data = head.split_off(lengths.head);
        let head = PieceHead::decode(head)?;
        let hash = ChunkHash::of(&data, head.index, head.chunks);
        return Ok(Some(ReceivedPiece { head, data, hash }));
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use estafet_wire::padding;

    use super::*;

    fn encoded(index: u32, data: &[u8]) -> Vec<u8> {
        let signed_header = (index == 0).then(|| Bytes::from_static(b"header"));
        let chunk_hashes = if index == 0 { vec![ChunkHash::of(data, 0, 2); 2] } else { Vec::new() };
        let id = "sail.1.1".parse().unwrap();
        let head = PieceHead { signed_header, id, index, chunks: 2, chunk_hashes };
        [&head.encode(data.len())[..], data].concat()
    }

    #[test]
    fn pieces_are_taken_whole_wherever_the_stream_was_cut() {
        let padding = padding(300).flatten().collect();
        let stream = [encoded(0, &[7; 3_000]), padding, encoded(1, &[8; 10])].concat();
        for cut in 0..stream.len() {
            let mut buffer = BytesMut::new();
            let (mut found, mut padded) = (Vec::new(), 0);
            for part in [&stream[..cut], &stream[cut..]] {
                buffer.extend_from_slice(part);
                while let Some(piece) = next_piece(&mut buffer, &mut padded).unwrap() {
                    found.push((piece.head.index, piece.data.len()));
                    assert_eq!(piece.hash, ChunkHash::of(&piece.data, piece.head.index, 2));
                }
            }
            assert_eq!(found, [(0, 3_000), (1, 10)], "cut at {cut}");
            assert!(buffer.is_empty() && (292..=300).contains(&padded));
        }
    }

    #[test]
    fn an_over_long_piece_is_refused_before_it_has_come() {
        assert!(next_piece(&mut BytesMut::from(&[0xff; 8][..]), &mut 0).is_err());
    }
}
