//! Heads of payload pieces, with the lengths in front of them.

use bytes::Bytes;
use estafet_model::CHUNK_BYTES;
use estafet_wire::{PIECE_META_BYTES_MAX, PieceHead, PieceLengths, padding};

use super::Target;
use crate::cast::samples;
use crate::memory::bounded;

pub(super) const TARGET: Target = Target { name: "piece_head", check, seeds, words: &[b"rumbai"] };

fn check(input: &[u8]) {
    let Some((lengths, head)) = input.split_first_chunk() else { return };
    if let Ok(lengths) = PieceLengths::decode(*lengths) {
        assert!(lengths.head <= PIECE_META_BYTES_MAX && lengths.piece <= CHUNK_BYTES, "what is read next is bounded");
    }
    let bytes = Bytes::copy_from_slice(head);
    let Ok(head) = bounded(input, 4, || PieceHead::decode(bytes)) else { return };
    let again = head.encode(CHUNK_BYTES);
    assert_eq!(PieceHead::decode(again.slice(PieceLengths::BYTES..)), Ok(head), "a head survives the wire");
}

fn seeds() -> Vec<Vec<u8>> {
    let sample = &samples()[3];
    let chunks = u32::try_from(sample.hashes.len()).expect("few chunks");
    let head = |signed_header, index, chunk_hashes| PieceHead {
        signed_header,
        id: sample.id().clone(),
        index,
        chunks,
        chunk_hashes,
    };
    let heads = [head(Some(sample.signed.encode()), 0, sample.hashes.clone()), head(None, 1, Vec::new())];
    let padding = padding(1000).flatten().collect();
    heads.iter().map(|head| head.encode(1000).to_vec()).chain([padding]).collect()
}
