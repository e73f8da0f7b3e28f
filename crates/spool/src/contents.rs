//! What a segment that is not written to any more holds: from its table, or by walking through it.

use crate::append::Extent;
use crate::disk::DiskFile;
use crate::format::{BeginMeta, ChunkMeta, Kind, RecordMeta, SEGMENT_HEADER_BYTES, SegmentHeader, decode_put};
use crate::index::shares_of;
use crate::recovery::stored_record;
use crate::table::{BeginRow, ChunkRow, Row, Table};
use crate::walk::{Found, Piece, Walk};

/// What a segment holds.
#[derive(Debug)]
pub(crate) enum Contents {
    Table(Table),
    Walk(Walk),
}

/// One thing that is in a segment, or was.
#[derive(Debug)]
pub(crate) enum Finding {
    Row(Row),
    /// A record whose payload is damaged.
    Broken(Box<RecordMeta>, Extent),
    /// Something else that cannot be read.
    Damage {
        offset: u32,
        length: u32,
        what: &'static str,
    },
}

impl Contents {
    /// Reads the table, or walks through the segment and checks every byte if there is none: something is wrong then,
    /// or the power went, and both are rare.
    pub(crate) fn load(file: &dyn DiskFile, generation: u64, file_bytes: u64) -> Self {
        match Table::read(file, generation, file_bytes) {
            Some(table) => Self::Table(table),
            None => Self::Walk(Walk::through(file, generation, file_bytes)),
        }
    }

    /// What the segment's header says.
    pub(crate) fn header(&self, generation: u64) -> SegmentHeader {
        match self {
            Contents::Table(_) => SegmentHeader::Good(generation),
            Contents::Walk(walk) => walk.header,
        }
    }

    /// Every live value of its time is for sure in the segment.
    pub(crate) fn is_checkpointed(&self) -> bool {
        match self {
            Contents::Table(table) => table.checkpointed,
            Contents::Walk(walk) => walk.last_commit() > 0,
        }
    }

    /// Everything in the order of the log.
    pub(crate) fn each(&self, generation: u64, tell: &mut dyn FnMut(Finding)) {
        match self {
            // Reading the table has shown that all rows can be read.
            Contents::Table(table) => table.rows().flatten().for_each(|row| tell(Finding::Row(row))),
            Contents::Walk(walk) => {
                if walk.header != SegmentHeader::Good(generation) {
                    let length = SEGMENT_HEADER_BYTES;
                    tell(Finding::Damage { offset: 0, length, what: "the header of the segment" });
                }
                walk.pieces.iter().filter_map(finding).for_each(&mut *tell);
                if !walk.sealed {
                    let offset = walk.end();
                    tell(Finding::Damage { offset, length: 0, what: "the end of the segment" });
                }
            }
        }
    }
}

/// What a piece of a segment is; nothing if it is the seal.
pub(crate) fn finding(piece: &Piece) -> Option<Finding> {
    match piece {
        Piece::Entry(found) if found.head.kind == Kind::Seal => None,
        Piece::Entry(found) if found.whole => Some(row(found)),
        Piece::Entry(found) => Some(damaged_payload(found)),
        Piece::Gap { offset, end, .. } => {
            Some(Finding::Damage { offset: *offset, length: end - offset, what: "an entry" })
        }
    }
}

fn row(found: &Found) -> Finding {
    let entry = found.extent;
    let row = match found.head.kind {
        Kind::Record => RecordMeta::decode(&found.meta).map_err(|_| "a record").map(|meta| {
            Row::Record(stored_record(&meta, entry), shares_of(meta.chunks.as_deref().unwrap_or_default()))
        }),
        Kind::Chunk => ChunkMeta::decode(&found.meta)
            .map_err(|_| "a chunk")
            .map(|ChunkMeta { transfer, index, .. }| Row::Chunk(ChunkRow { transfer, index, entry })),
        Kind::Begin => BeginMeta::decode(&found.meta).map_err(|_| "the beginning of a payload").map(|meta| {
            Row::Begin(BeginRow { transfer: meta.transfer, record: meta.header.header().id.clone(), entry })
        }),
        Kind::Put => decode_put(&found.meta).map_err(|_| "a value").map(|_| Row::Put(entry)),
        Kind::Seal => Err("a seal"),
    };
    let damage = |what| Finding::Damage { offset: entry.offset, length: entry.length, what };
    row.map_or_else(damage, Finding::Row)
}

fn damaged_payload(found: &Found) -> Finding {
    let Extent { offset, length, .. } = found.extent;
    let what = match found.head.kind {
        Kind::Record => match RecordMeta::decode(&found.meta) {
            Ok(meta) => return Finding::Broken(Box::new(meta), found.extent),
            Err(_) => "a record",
        },
        Kind::Chunk => "a chunk",
        Kind::Put | Kind::Seal | Kind::Begin => "an entry",
    };
    Finding::Damage { offset, length, what }
}
