//! The end of the log after a crash: what of it was never promised, and making the rest durable for sure.

use std::io::{self, IoSlice};

use bytes::Bytes;

use crate::disk::DiskFile;
use crate::format::{ALIGNMENT, HEAD_BYTES, Head, Kind, SEGMENT_HEADER_BYTES, SegmentHeader, aligned};
use crate::walk::{Piece, Walk};

/// Where the last segment is to end.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Cut {
    /// How many pieces stay.
    pub(crate) pieces: usize,
    /// Where the seal goes.
    pub(crate) offset: u32,
    /// Where the last commit begins, of what stays: its sync may never have been, or have failed.
    doubtful_from: u32,
    /// The last commit.
    commit: u32,
    /// How much was begun and not finished.
    pub(crate) torn_bytes: u64,
}

/// Where the last segment is to be cut, or nothing if its first commit was not finished and all of it goes.
///
/// Damage and a torn tail look alike. The difference is promised: a commit is written after the one before is
/// durable, so what cannot be read in front of an entry of a later commit was durable once, and is damage. What
/// cannot be read within the last commit, or behind everything, is where that commit was torn; from there on nothing
/// was promised, and all of it goes, so that what stays is a prefix.
pub(crate) fn find_cut(walk: &Walk, generation: u64) -> Option<Cut> {
    let last_commit = walk.last_commit();
    if walk.header != SegmentHeader::Good(generation) && last_commit == 0 {
        return None;
    }
    let torn = (0..walk.pieces.len()).find(|&index| is_torn(&walk.pieces, index, last_commit));
    let seal = walk.pieces.len() - usize::from(walk.sealed);
    let pieces = torn.unwrap_or(seal);
    let end = |piece: &Piece| match piece {
        Piece::Entry(found) => aligned(found.extent.offset + found.extent.length),
        Piece::Gap { end, .. } => *end,
    };
    let offset = pieces.checked_sub(1).map_or(SEGMENT_HEADER_BYTES, |last| end(&walk.pieces[last]));
    let kept = &walk.pieces[..pieces];
    let commit_begins =
        kept.iter().position(|piece| matches!(piece, Piece::Entry(found) if found.head.commit == last_commit));
    let doubtful_from = match commit_begins {
        // The header is a part of the first commit.
        _ if last_commit == 0 => 0,
        Some(first) => walk.pieces[first].offset(),
        None => offset,
    };
    Some(Cut { pieces, offset, doubtful_from, commit: last_commit, torn_bytes: torn_bytes(&walk.pieces[pieces..]) })
}

/// True if this piece is where the last commit was torn.
fn is_torn(pieces: &[Piece], index: usize, last_commit: u32) -> bool {
    match &pieces[index] {
        Piece::Entry(found) => !found.whole && found.head.commit == last_commit,
        Piece::Gap { .. } => match pieces.get(index + 1) {
            Some(Piece::Entry(next)) => next.head.commit == last_commit && !next.head.first_of_commit,
            Some(Piece::Gap { .. }) | None => true,
        },
    }
}

/// How much of what is cut was an entry or began as one. The rest is zeros or what the file held before.
fn torn_bytes(pieces: &[Piece]) -> u64 {
    let bytes = |piece: &Piece| match piece {
        Piece::Entry(found) if found.head.kind == Kind::Seal => 0,
        Piece::Entry(found) => found.extent.length,
        Piece::Gap { begun: false, .. } => 0,
        Piece::Gap { offset, end, .. } => end - offset,
    };
    pieces.iter().map(|piece| u64::from(bytes(piece))).sum()
}

/// Makes the segment end at the cut, with a seal that has this payload, and what stays durable. Returns its new length.
///
/// The last commit is written once more, the same bytes to the same place. If its sync failed before the process
/// ended, the kernel may hold its pages as clean although the disk never got them: they can be read now, but a sync
/// alone would not write them.
pub(crate) fn settle(file: &dyn DiskFile, generation: u64, cut: &Cut, table: &Bytes) -> io::Result<u64> {
    let length = (cut.offset - cut.doubtful_from) as usize;
    let mut again = vec![0; length];
    let read = file.read_at(&mut again, u64::from(cut.doubtful_from))?;
    // What aligns the next entry may be missing; it is zeros anyway.
    if read + (ALIGNMENT as usize) <= length {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    let seal = seal(generation, cut, table);
    file.set_len(u64::from(cut.offset))?;
    file.write_at(&mut [IoSlice::new(&again), IoSlice::new(&seal), IoSlice::new(table)], u64::from(cut.doubtful_from))?;
    file.sync_data()?;
    Ok(u64::from(cut.offset + HEAD_BYTES) + table.len() as u64)
}

/// The seal belongs to the last commit, so that whoever comes after another crash doubts all of it again.
fn seal(generation: u64, cut: &Cut, table: &Bytes) -> Bytes {
    let head = Head {
        kind: Kind::Seal,
        first_of_commit: cut.offset == cut.doubtful_from,
        commit: cut.commit,
        meta_bytes: 0,
        payload_bytes: u32::try_from(table.len()).expect("a table is bounded"),
        payload_checksum: crc32c::crc32c(table),
    };
    Bytes::copy_from_slice(&head.encode(generation, cut.offset, &[]))
}
