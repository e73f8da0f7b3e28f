//! Walking through a segment entry by entry, around what is damaged.

use crate::append::Extent;
use crate::disk::DiskFile;
use crate::format::{ALIGNMENT, HEAD_BYTES, Head, Kind, SEGMENT_HEADER_BYTES, SegmentHeader, aligned, head_is_genuine};

/// Nearly every byte is read, so the more at once the better, up to what a disk reads ahead anyway.
const READ_BYTES: usize = 128 << 10;
/// What a device cannot read is at least this much.
const UNREADABLE_BYTES: u32 = 4 << 10;

/// All that was found in a segment, in order.
#[derive(Debug)]
pub(crate) struct Walk {
    pub(crate) header: SegmentHeader,
    pub(crate) pieces: Vec<Piece>,
    /// The seal was found: there is nothing behind the last piece.
    pub(crate) sealed: bool,
}

/// A piece of a segment.
#[derive(Debug)]
pub(crate) enum Piece {
    /// An entry; its head and meta are genuine.
    Entry(Found),
    /// No entry can be read here.
    Gap {
        /// Where it begins.
        offset: u32,
        /// Where the next entry begins, or the file ends.
        end: u32,
        /// It begins as an entry does.
        begun: bool,
    },
}

impl Piece {
    pub(crate) fn offset(&self) -> u32 {
        match self {
            Piece::Entry(found) => found.extent.offset,
            Piece::Gap { offset, .. } => *offset,
        }
    }
}

/// An entry whose head and meta are genuine.
#[derive(Debug)]
pub(crate) struct Found {
    pub(crate) extent: Extent,
    pub(crate) head: Head,
    pub(crate) meta: Vec<u8>,
    /// The payload is genuine.
    pub(crate) whole: bool,
}

impl Walk {
    /// Walks through the file of `generation`, which has `length` bytes. Never fails: what cannot be read is a gap.
    pub(crate) fn through(file: &dyn DiskFile, generation: u64, length: u64) -> Self {
        let length = u32::try_from(length).unwrap_or(u32::MAX);
        let mut walker = Walker { window: Window::new(file), generation, length };
        let header = SegmentHeader::decode(walker.window.get(0, SEGMENT_HEADER_BYTES).unwrap_or_default());
        let mut walk = Self { header, pieces: Vec::new(), sealed: false };
        let mut offset = SEGMENT_HEADER_BYTES;
        while !walk.sealed && offset < length {
            let found = walker.entry_at(offset);
            let (piece, next) = match found {
                Some(found) => {
                    walk.sealed = found.head.kind == Kind::Seal;
                    let next = aligned(offset.saturating_add(found.extent.length));
                    (Piece::Entry(found), next)
                }
                None => {
                    let end = walker.next_entry(offset).unwrap_or(length);
                    (Piece::Gap { offset, end, begun: walker.claim_at(offset).is_some() }, end)
                }
            };
            walk.pieces.push(piece);
            offset = next;
        }
        walk
    }

    pub(crate) fn entries(&self) -> impl Iterator<Item = &Found> {
        self.pieces.iter().filter_map(|piece| match piece {
            Piece::Entry(found) => Some(found),
            Piece::Gap { .. } => None,
        })
    }

    /// Where the last entry ends.
    pub(crate) fn end(&self) -> u32 {
        self.entries().last().map_or(SEGMENT_HEADER_BYTES, |found| found.extent.offset + found.extent.length)
    }

    /// The seal says that there is a table, and that is damaged.
    pub(crate) fn seal_is_damaged(&self) -> bool {
        self.sealed && self.entries().last().is_some_and(|seal| !seal.whole)
    }

    /// The last commit that was begun.
    pub(crate) fn last_commit(&self) -> u32 {
        self.entries().map(|found| found.head.commit).max().unwrap_or(0)
    }
}

struct Walker<'a> {
    window: Window<'a>,
    generation: u64,
    length: u32,
}

impl Walker<'_> {
    fn entry_at(&mut self, offset: u32) -> Option<Found> {
        let head = self.claim_at(offset)?;
        let bytes = self.window.get(offset, HEAD_BYTES + head.meta_bytes)?;
        let (head_bytes, meta) = bytes.split_at(HEAD_BYTES as usize);
        if !head_is_genuine(self.generation, offset, head_bytes, meta) {
            return None;
        }
        let meta = meta.to_vec();
        let extent = Extent { generation: self.generation, offset, length: head.length() };
        let whole = self.payload_is_genuine(offset, &head);
        Some(Found { extent, head, meta, whole })
    }

    /// A head that fits in here, proved or not.
    fn claim_at(&mut self, offset: u32) -> Option<Head> {
        let head = Head::parse(self.window.get(offset, HEAD_BYTES)?)?;
        (head.length() <= self.length.checked_sub(offset)?).then_some(head)
    }

    fn payload_is_genuine(&mut self, offset: u32, head: &Head) -> bool {
        let payload = self.window.get(offset + HEAD_BYTES + head.meta_bytes, head.payload_bytes);
        payload.is_some_and(|payload| crc32c::crc32c(payload) == head.payload_checksum)
    }

    /// Where entries go on behind one that cannot be read: where its length leads, if an entry is there; otherwise
    /// wherever the next one proves itself.
    fn next_entry(&mut self, damaged: u32) -> Option<u32> {
        if let Some(claim) = self.claim_at(damaged) {
            let next = aligned(damaged.saturating_add(claim.length()));
            if self.entry_at(next).is_some() {
                return Some(next);
            }
        }
        let mut offset = damaged.checked_add(ALIGNMENT)?;
        while offset.saturating_add(HEAD_BYTES) <= self.length {
            if self.window.get(offset, HEAD_BYTES).is_none() {
                offset = (offset + 1).checked_next_multiple_of(UNREADABLE_BYTES)?;
                continue;
            }
            if self.entry_at(offset).is_some() {
                return Some(offset);
            }
            offset = offset.checked_add(ALIGNMENT)?;
        }
        None
    }
}

/// A view of a file that reads ahead where that is cheap.
struct Window<'a> {
    file: &'a dyn DiskFile,
    start: u64,
    buffer: Vec<u8>,
}

impl<'a> Window<'a> {
    fn new(file: &'a dyn DiskFile) -> Self {
        Self { file, start: 0, buffer: Vec::new() }
    }

    /// The bytes there, or nothing if the file ends before or they cannot be read.
    fn get(&mut self, offset: u32, length: u32) -> Option<&[u8]> {
        let (offset, length) = (u64::from(offset), length as usize);
        if !self.covers(offset, length) && !self.fill(offset, length.max(READ_BYTES)) {
            self.fill(offset, length);
        }
        if !self.covers(offset, length) {
            return None;
        }
        let from = usize::try_from(offset - self.start).ok()?;
        self.buffer.get(from..from + length)
    }

    fn covers(&self, offset: u64, length: usize) -> bool {
        offset >= self.start && offset + length as u64 <= self.start + self.buffer.len() as u64
    }

    fn fill(&mut self, offset: u64, length: usize) -> bool {
        self.buffer.resize(length, 0);
        self.start = offset;
        let read = self.file.read_at(&mut self.buffer, offset);
        self.buffer.truncate(*read.as_ref().unwrap_or(&0));
        read.is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::Disk;
    use crate::frame::Frame;
    use crate::memory_disk::MemoryDisk;

    #[test]
    fn an_entry_forged_inside_a_payload_is_not_found_behind_a_damaged_meta() {
        let mut frame = Frame::of_new_segment(1);
        // Where the payload will lie: behind the header, the head and a meta of 8 bytes.
        let inside = SEGMENT_HEADER_BYTES + HEAD_BYTES + 8;
        let forged = Head {
            kind: Kind::Put,
            first_of_commit: false,
            commit: 0,
            meta_bytes: 0,
            payload_bytes: 0,
            payload_checksum: 0,
        };
        let payload = bytes::Bytes::copy_from_slice(&forged.encode(1, inside, &[]));
        let hit = frame.push(Kind::Record, b"the meta", &payload);
        let next = frame.push(Kind::Put, b"the next", &bytes::Bytes::new());
        let disk = MemoryDisk::new();
        let file = disk.create("segment").unwrap();
        file.write_at(&mut frame.slices(), 0).unwrap();
        disk.flip_bit("segment", (hit.offset + HEAD_BYTES) as usize, 0);
        let walk = Walk::through(&*file, 1, 4096);
        assert_eq!(walk.entries().map(|found| found.extent).collect::<Vec<_>>(), [next]);
    }
}
