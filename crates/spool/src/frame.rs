//! What one commit writes: many entries, laid out as one vectored write.

use std::io::IoSlice;
use std::ops::Range;

use bytes::Bytes;

use crate::append::Extent;
use crate::format::{Head, Kind, SEGMENT_HEADER_BYTES, SegmentHeader, aligned};

/// Up to this size a payload is copied beside its head: cheaper than one more part for the kernel.
const COPY_MAX: usize = 8 << 10;

/// Commits end on a page, so that the kernel never has to read a page of a recycled file to write a part of it.
const PAGE_BYTES: u32 = 4096;
const ZEROS: [u8; PAGE_BYTES as usize] = [0; PAGE_BYTES as usize];

#[derive(Debug)]
enum Part {
    Copied(Range<usize>),
    Shared(Bytes),
}

/// The bytes of one commit, from `start` on in one segment.
#[derive(Debug)]
pub(crate) struct Frame {
    generation: u64,
    commit: u32,
    start: u32,
    /// Where the next entry goes.
    next: u32,
    entries: usize,
    copied: Vec<u8>,
    /// How much of `copied` is in `parts`.
    parted: usize,
    parts: Vec<Part>,
}

impl Frame {
    /// The first commit of a segment; it brings the header.
    pub(crate) fn of_new_segment(generation: u64) -> Self {
        let mut frame = Self {
            generation,
            commit: 0,
            start: 0,
            next: 0,
            entries: 0,
            copied: Vec::new(),
            parted: 0,
            parts: Vec::new(),
        };
        frame.begin(generation);
        frame
    }

    /// Makes this the frame of the first commit of another segment. Keeps its memory.
    pub(crate) fn begin(&mut self, generation: u64) {
        self.clear();
        self.generation = generation;
        self.commit = 0;
        self.start = 0;
        self.next = SEGMENT_HEADER_BYTES;
        self.copied.extend_from_slice(&SegmentHeader::encode(generation));
    }

    /// Makes this the frame of the next commit of the same segment. Keeps its memory.
    pub(crate) fn advance(&mut self) {
        self.clear();
        self.commit += 1;
        self.start = self.next;
    }

    fn clear(&mut self) {
        self.entries = 0;
        self.copied.clear();
        self.parted = 0;
        self.parts.clear();
    }

    pub(crate) fn generation(&self) -> u64 {
        self.generation
    }

    pub(crate) fn start(&self) -> u32 {
        self.start
    }

    pub(crate) fn next(&self) -> u32 {
        self.next
    }

    /// True if there is nothing to write.
    pub(crate) fn is_empty(&self) -> bool {
        self.start == self.next
    }

    /// Where the file ends at least, once this is written.
    pub(crate) fn end(&self) -> u32 {
        self.next.next_multiple_of(PAGE_BYTES)
    }

    /// Adds an entry and says where it will be.
    pub(crate) fn push(&mut self, kind: Kind, meta: &[u8], payload: &Bytes) -> Extent {
        let offset = self.next;
        let head = Head {
            kind,
            first_of_commit: self.entries == 0,
            commit: self.commit,
            meta_bytes: u32::try_from(meta.len()).expect("a meta's length is checked before"),
            payload_bytes: u32::try_from(payload.len()).expect("a payload's length is checked before"),
            payload_checksum: crc32c::crc32c(payload),
        };
        self.copied.extend_from_slice(&head.encode(self.generation, offset, meta));
        self.copied.extend_from_slice(meta);
        if payload.len() <= COPY_MAX {
            self.copied.extend_from_slice(payload);
        } else {
            self.part();
            self.parts.push(Part::Shared(payload.clone()));
        }
        self.entries += 1;
        let length = head.length();
        self.next = aligned(offset + length);
        let padding = self.next - offset - length;
        self.copied.extend_from_slice(&ZEROS[..padding as usize]);
        Extent { generation: self.generation, offset, length }
    }

    /// The commit as one write at [`Frame::start`].
    pub(crate) fn slices(&mut self) -> Vec<IoSlice<'_>> {
        self.part();
        let padding = &ZEROS[..(self.end() - self.next) as usize];
        let slices = self.parts.iter().map(|part| match part {
            Part::Copied(range) => &self.copied[range.clone()],
            Part::Shared(bytes) => bytes.as_ref(),
        });
        slices.chain([padding]).map(IoSlice::new).collect()
    }

    fn part(&mut self) {
        if self.parted < self.copied.len() {
            self.parts.push(Part::Copied(self.parted..self.copied.len()));
            self.parted = self.copied.len();
        }
    }
}
