//! The log as it stands on the disk, byte by byte.
//!
//! # Constraints
//!
//! 1. What a sync has covered is found again, whatever happens afterwards within the fault model of
//!    [`disk`](crate::Disk). What no sync has covered may be lost, but never changes what was.
//! 2. Old bytes never come back to life: a file is used again and again without being cleared, so each entry must
//!    prove that it belongs to this use of the file and to this place in it.
//! 3. Opening reads what describes the payloads, not the payloads: of a sealed segment, the table in its seal. Only
//!    the last segment is read whole.
//! 4. One damaged byte costs one entry. Those behind it are found by its length, or by searching.
//! 5. An interrupted commit leaves a prefix of what it wrote: an origin's numbers have no gaps.
//!
//! # Files
//!
//! `0123456789abcdef.segment` holds the entries of that generation (16 hexadecimal digits). Generations are never
//! used twice: a new one is above all that are named in the folder. `….spare` is a file that waits to be overwritten
//! under another name and generation. The highest generation is the only one that is written to.
//!
//! # Segment
//!
//! All integers are big-endian. The header, 32 bytes:
//!
//! | at | bytes | |
//! |---|---|---|
//! | 0 | 8 | `EstSpool` |
//! | 8 | 4 | version, 1 |
//! | 12 | 4 | zero |
//! | 16 | 8 | generation; the same as in the file's name, or the file was named for a use that never began |
//! | 24 | 4 | zero |
//! | 28 | 4 | CRC-32C of the 28 bytes before |
//!
//! Then entries, each at a multiple of 8 bytes: a head of 24 bytes, the meta, the payload.
//!
//! | at | bytes | |
//! |---|---|---|
//! | 0 | 2 | `E7 5F` |
//! | 2 | 1 | kind: 1 record, 2 chunk, 3 put, 4 seal, 5 begin |
//! | 3 | 1 | flags: bit 0 is set on the first entry of a commit |
//! | 4 | 4 | commit, counted from 0 in each segment |
//! | 8 | 4 | length of the meta, at most 256 KiB |
//! | 12 | 4 | length of the payload, at most 16 MiB |
//! | 16 | 4 | CRC-32C of the payload |
//! | 20 | 4 | CRC-32C of: generation (8 bytes), offset of this entry (4), the 20 bytes before, the meta |
//!
//! The second checksum binds the first, and with it every byte of the entry, to one generation and one offset
//! (constraint 2), yet can be checked without the payload (constraint 3).
//!
//! A commit is what one sync covers. Its bytes are written only after the sync of the commit before has returned, so
//! an entry of commit *n* proves that everything before commit *n* was once durable. That is how recovery tells a
//! torn tail, which it cuts, from damage, which it reports. Behind each commit zeros follow up to a multiple of
//! 4,096 bytes; nothing depends on them.
//!
//! A new segment begins with a put entry for every live key, as a part of its first commit. It is created after the
//! last one was sealed and synced.
//!
//! # Metas
//!
//! In the canonical form of [`estafet_model::Writer`]; `bytes` is a length (4 bytes) and as many bytes.
//!
//! - **record**: stored at (8), flags (1; bit 0 received from, 1 idempotency, 2 chunks); then as the flags say:
//!   received from (bytes), idempotency (hash of the key 16, of the content 16); the signed header (bytes); then, if bit 2 is set, the number of
//!   chunks (4) and for each: generation (8), offset (4), length (4), hash (32). Without bit 2 the payload is the record's.
//! - **chunk**: transfer (8), index (4), hash (32). The payload is the chunk.
//! - **put**: key (bytes), value (bytes). No payload.
//! - **begin**: transfer (8), the signed header (bytes), number of chunks (4), the hash of each (32). No payload.
//!   Chunks with this transfer and the hash that stands here for their index are kept for the header's record until
//!   it is stored. It is in the log before them, but for those that were moved.
//! - **seal**: nothing. The payload is the table, or empty; the file ends with it.
//!
//! # Table
//!
//! What the segment holds, in the order of the log, for whoever opens the log. It is used if the seal, every byte of
//! the table and the segment's header are genuine; otherwise the entries are walked through. A table says what was
//! written: what was damaged since is found on reading. It is left out if it would be longer than 8 MiB.
//!
//! First, one byte: 1 if the segment repeats all values that were live when it was begun (a torn first commit may
//! repeat a part of them). Then the number of rows (4), the rows, and the offset of the seal's entry (4), by which it is
//! found from the end of the file. Each row begins with its kind (1) and, but for names, the offset (4) and length (4)
//! of its entry:
//!
//! - **0, name**: an origin (bytes). Not counted as a row; names are numbered from 0 in the order they come.
//! - **1, record**: its origin's number (2), epoch (2), sequence number (4), class (1: urgent, normal, bulk), length
//!   of the payload (4), digest of the header (32), hash of the payload (32), stored at (8), flags (1; bit 0 captured
//!   here, 1 idempotency), idempotency (32) if so, then the number (2) of segments with chunks of it, and for
//!   each: generation (8), entries (4), their bytes (4).
//! - **2, chunk**: transfer (8), index (4).
//! - **3, put**: nothing more.
//! - **5, begin**: transfer (8), then origin's number (2), epoch (2) and sequence number (4) of the record.

use bytes::Bytes;
use estafet_model::{
    ChunkHash, Idempotency, Malformed, NodeId, PAYLOAD_BYTES_MAX, Reader, SignedHeader, UnixMillis, Writer, chunk_count,
};

use crate::append::{Extent, TransferId};

/// The length of a segment's header.
pub(crate) const SEGMENT_HEADER_BYTES: u32 = 32;
/// The length of an entry's head.
pub(crate) const HEAD_BYTES: u32 = 24;
/// Entries begin at multiples of this.
pub(crate) const ALIGNMENT: u32 = 8;
/// The length of a chunk's meta.
pub(crate) const CHUNK_META_BYTES: u32 = 8 + 4 + 32;
/// The longest meta: far above any record's, and room for a receipt of thousands of ranges.
pub(crate) const META_BYTES_MAX: u32 = 256 << 10;

const SEGMENT_MAGIC: &[u8; 8] = b"EstSpool";
const VERSION: u32 = 2;
const HEAD_MAGIC: [u8; 2] = [0xE7, 0x5F];
const FIRST_OF_COMMIT: u8 = 1;

const RECEIVED_FROM: u8 = 1;
const IDEMPOTENCY: u8 = 2;
const CHUNKS: u8 = 4;

/// The name of the file that holds a generation.
pub(crate) fn segment_name(generation: u64) -> String {
    format!("{generation:016x}.segment")
}

/// The name of a file that once held a generation and waits for another.
pub(crate) fn spare_name(generation: u64) -> String {
    format!("{generation:016x}.spare")
}

/// The generation in a file's name, and whether it is a spare; nothing for other people's files.
pub(crate) fn parse_name(name: &str) -> Option<(u64, bool)> {
    let (digits, extension) = name.split_once('.')?;
    let generation = u64::from_str_radix(digits, 16).ok()?;
    let spare = match extension {
        "segment" => false,
        "spare" => true,
        _ => return None,
    };
    let written = if spare { spare_name(generation) } else { segment_name(generation) };
    (written == name).then_some((generation, spare))
}

/// What the first bytes of a segment say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum SegmentHeader {
    /// The header of this generation.
    Good(u64),
    /// A good header of a version that this program does not know.
    Newer(u32),
    /// No header.
    Bad,
}

impl SegmentHeader {
    pub(crate) fn encode(generation: u64) -> [u8; SEGMENT_HEADER_BYTES as usize] {
        let mut bytes = [0; SEGMENT_HEADER_BYTES as usize];
        bytes[..8].copy_from_slice(SEGMENT_MAGIC);
        bytes[8..12].copy_from_slice(&VERSION.to_be_bytes());
        bytes[16..24].copy_from_slice(&generation.to_be_bytes());
        let checksum = crc32c::crc32c(&bytes[..28]);
        bytes[28..].copy_from_slice(&checksum.to_be_bytes());
        bytes
    }

    pub(crate) fn decode(bytes: &[u8]) -> Self {
        Self::read(bytes).unwrap_or(Self::Bad)
    }

    fn read(bytes: &[u8]) -> Result<Self, Malformed> {
        let what = "segment header";
        let mut reader = Reader::new(bytes);
        let magic = reader.array::<8>(what)?;
        let version = reader.u32(what)?;
        reader.u32(what)?;
        let generation = reader.u64(what)?;
        reader.u32(what)?;
        let checksum = reader.u32(what)?;
        if &magic != SEGMENT_MAGIC || checksum != crc32c::crc32c(&bytes[..28]) {
            return Err(Malformed { what });
        }
        Ok(if version == VERSION { Self::Good(generation) } else { Self::Newer(version) })
    }
}

/// What an entry is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Record = 1,
    Chunk = 2,
    Put = 3,
    Seal = 4,
    Begin = 5,
}

impl Kind {
    const ALL: [Kind; 5] = [Kind::Record, Kind::Chunk, Kind::Put, Kind::Seal, Kind::Begin];
}

/// The first bytes of an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Head {
    pub(crate) kind: Kind,
    pub(crate) first_of_commit: bool,
    pub(crate) commit: u32,
    pub(crate) meta_bytes: u32,
    pub(crate) payload_bytes: u32,
    pub(crate) payload_checksum: u32,
}

impl Head {
    /// The length of the entry, without what aligns the next one.
    pub(crate) fn length(&self) -> u32 {
        HEAD_BYTES + self.meta_bytes + self.payload_bytes
    }

    pub(crate) fn encode(&self, generation: u64, offset: u32, meta: &[u8]) -> [u8; HEAD_BYTES as usize] {
        assert!(self.meta_bytes as usize == meta.len(), "a head describes its own meta");
        assert!(self.meta_bytes <= META_BYTES_MAX, "a longer entry could not be read back");
        assert!(self.payload_bytes <= PAYLOAD_BYTES_MAX, "a longer entry could not be read back");
        assert!(offset.is_multiple_of(ALIGNMENT), "an entry elsewhere could not be found");
        let mut bytes = [0; HEAD_BYTES as usize];
        bytes[..2].copy_from_slice(&HEAD_MAGIC);
        bytes[2] = self.kind as u8;
        bytes[3] = if self.first_of_commit { FIRST_OF_COMMIT } else { 0 };
        bytes[4..8].copy_from_slice(&self.commit.to_be_bytes());
        bytes[8..12].copy_from_slice(&self.meta_bytes.to_be_bytes());
        bytes[12..16].copy_from_slice(&self.payload_bytes.to_be_bytes());
        bytes[16..20].copy_from_slice(&self.payload_checksum.to_be_bytes());
        let checksum = head_checksum(generation, offset, &bytes, meta);
        bytes[20..].copy_from_slice(&checksum.to_be_bytes());
        bytes
    }

    /// Reads what may be a head: its fields are in bounds, but nothing is proved yet.
    pub(crate) fn parse(bytes: &[u8]) -> Option<Self> {
        let mut reader = Reader::new(bytes);
        let magic = reader.array::<2>("head").ok()?;
        let kind = reader.u8("head").ok()?;
        let flags = reader.u8("head").ok()?;
        let head = Self {
            kind: Kind::ALL.into_iter().find(|known| *known as u8 == kind)?,
            first_of_commit: flags & FIRST_OF_COMMIT != 0,
            commit: reader.u32("head").ok()?,
            meta_bytes: reader.u32("head").ok()?,
            payload_bytes: reader.u32("head").ok()?,
            payload_checksum: reader.u32("head").ok()?,
        };
        let plausible = magic == HEAD_MAGIC
            && flags & !FIRST_OF_COMMIT == 0
            && head.meta_bytes <= META_BYTES_MAX
            && head.payload_bytes <= PAYLOAD_BYTES_MAX;
        plausible.then_some(head)
    }
}

/// True if these bytes are the head and meta of an entry of this generation at this offset.
pub(crate) fn head_is_genuine(generation: u64, offset: u32, head: &[u8], meta: &[u8]) -> bool {
    let stored: Option<[u8; 4]> = head.get(20..24).and_then(|bytes| bytes.try_into().ok());
    stored == Some(head_checksum(generation, offset, head, meta).to_be_bytes())
}

fn head_checksum(generation: u64, offset: u32, head: &[u8], meta: &[u8]) -> u32 {
    let mut place = [0; 12];
    place[..8].copy_from_slice(&generation.to_be_bytes());
    place[8..].copy_from_slice(&offset.to_be_bytes());
    crc32c::crc32c_append(crc32c::crc32c_append(crc32c::crc32c(&place), &head[..20]), meta)
}

/// The next multiple of [`ALIGNMENT`].
pub(crate) fn aligned(offset: u32) -> u32 {
    offset.next_multiple_of(ALIGNMENT)
}

/// Where a chunk is, and what it must hash to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ChunkPlace {
    pub(crate) extent: Extent,
    pub(crate) hash: ChunkHash,
}

/// The meta of a record entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RecordMeta {
    pub(crate) header: SignedHeader,
    pub(crate) received_from: Option<NodeId>,
    pub(crate) stored_at: UnixMillis,
    pub(crate) idempotency: Option<Idempotency>,
    /// The places of the chunks, or nothing if the payload is inline.
    pub(crate) chunks: Option<Vec<ChunkPlace>>,
}

impl RecordMeta {
    pub(crate) fn encode(&self) -> Bytes {
        let mut writer = Writer::new();
        let flag = |set: bool, bit: u8| if set { bit } else { 0 };
        let flags = flag(self.received_from.is_some(), RECEIVED_FROM)
            | flag(self.idempotency.is_some(), IDEMPOTENCY)
            | flag(self.chunks.is_some(), CHUNKS);
        writer.u64(self.stored_at.0).u8(flags);
        if let Some(neighbor) = &self.received_from {
            writer.text(neighbor.as_str());
        }
        if let Some(idempotency) = &self.idempotency {
            idempotency.write(&mut writer);
        }
        writer.bytes(&self.header.encode());
        if let Some(chunks) = &self.chunks {
            writer.u32(u32::try_from(chunks.len()).expect("a payload has few chunks"));
            for ChunkPlace { extent, hash } in chunks {
                writer.u64(extent.generation).u32(extent.offset).u32(extent.length).raw(hash.as_bytes());
            }
        }
        writer.finish()
    }

    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
        let mut reader = Reader::new(bytes);
        let stored_at = UnixMillis(reader.u64("time of storing")?);
        let flags = reader.u8("record flags")?;
        let received_from =
            if flags & RECEIVED_FROM != 0 { Some(reader.parse("neighbor it came from")?) } else { None };
        let idempotency = if flags & IDEMPOTENCY != 0 { Some(Idempotency::read(&mut reader)?) } else { None };
        let header = SignedHeader::decode(reader.bytes("signed header")?)?;
        let chunks = if flags & CHUNKS != 0 { Some(read_chunks(&mut reader)?) } else { None };
        reader.end("record")?;
        Ok(Self { header, received_from, stored_at, idempotency, chunks })
    }
}

fn read_count(reader: &mut Reader<'_>) -> Result<u32, Malformed> {
    let count = reader.u32("chunk count")?;
    if count > chunk_count(PAYLOAD_BYTES_MAX) { Err(Malformed { what: "chunk count" }) } else { Ok(count) }
}

fn read_chunks(reader: &mut Reader<'_>) -> Result<Vec<ChunkPlace>, Malformed> {
    let count = read_count(reader)?;
    let mut read = || {
        let generation = reader.u64("chunk's place")?;
        let (offset, length) = (reader.u32("chunk's place")?, reader.u32("chunk's place")?);
        let hash = ChunkHash::from_bytes(reader.array("chunk's hash")?);
        Ok(ChunkPlace { extent: Extent { generation, offset, length }, hash })
    };
    (0..count).map(|_| read()).collect()
}

/// The meta of a chunk entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ChunkMeta {
    pub(crate) transfer: TransferId,
    pub(crate) index: u32,
    pub(crate) hash: ChunkHash,
}

impl ChunkMeta {
    pub(crate) fn encode(&self) -> Bytes {
        Writer::new().u64(self.transfer.0).u32(self.index).raw(self.hash.as_bytes()).finish()
    }

    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
        let mut reader = Reader::new(bytes);
        let meta = Self {
            transfer: TransferId(reader.u64("transfer")?),
            index: reader.u32("chunk index")?,
            hash: ChunkHash::from_bytes(reader.array("chunk's hash")?),
        };
        reader.end("chunk")?;
        Ok(meta)
    }
}

/// The meta of a begin entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct BeginMeta {
    pub(crate) transfer: TransferId,
    pub(crate) header: SignedHeader,
    pub(crate) chunks: Vec<ChunkHash>,
}

impl BeginMeta {
    pub(crate) fn encode(&self) -> Bytes {
        let mut writer = Writer::new();
        writer.u64(self.transfer.0).bytes(&self.header.encode());
        writer.u32(u32::try_from(self.chunks.len()).expect("a payload has few chunks"));
        for hash in &self.chunks {
            writer.raw(hash.as_bytes());
        }
        writer.finish()
    }

    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
        let mut reader = Reader::new(bytes);
        let transfer = TransferId(reader.u64("transfer")?);
        let header = SignedHeader::decode(reader.bytes("signed header")?)?;
        let count = read_count(&mut reader)?;
        let mut hash = || Ok(ChunkHash::from_bytes(reader.array("chunk's hash")?));
        let chunks = (0..count).map(|_| hash()).collect::<Result<_, Malformed>>()?;
        reader.end("begin")?;
        Ok(Self { transfer, header, chunks })
    }
}

pub(crate) fn encode_put(key: &[u8], value: &[u8]) -> Bytes {
    Writer::new().bytes(key).bytes(value).finish()
}

pub(crate) fn decode_put(bytes: &[u8]) -> Result<(Bytes, Bytes), Malformed> {
    let mut reader = Reader::new(bytes);
    let key = Bytes::copy_from_slice(reader.bytes("key")?);
    let value = Bytes::copy_from_slice(reader.bytes("value")?);
    reader.end("put")?;
    Ok((key, value))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_have_one_form() {
        assert_eq!(parse_name("00000000000000ff.segment"), Some((255, false)));
        assert_eq!(parse_name(&spare_name(u64::MAX)), Some((u64::MAX, true)));
        for other in ["lock", "ff.segment", "00000000000000FF.segment", "+0000000000000ff.spare", "x.segment", ""] {
            assert_eq!(parse_name(other), None, "{other}");
        }
    }

    #[test]
    fn a_head_speaks_for_one_generation_one_offset_one_meta() {
        let meta = b"meta".as_slice();
        let head = Head {
            kind: Kind::Put,
            first_of_commit: true,
            commit: 7,
            meta_bytes: 4,
            payload_bytes: 9,
            payload_checksum: 1,
        };
        let bytes = head.encode(3, 64, meta);
        assert_eq!(Head::parse(&bytes), Some(head));
        assert!(head_is_genuine(3, 64, &bytes, meta));
        assert!(!head_is_genuine(4, 64, &bytes, meta));
        assert!(!head_is_genuine(3, 72, &bytes, meta));
        assert!(!head_is_genuine(3, 64, &bytes, b"meto"));
        for bit in 0..bytes.len() * 8 {
            let mut flipped = bytes;
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert!(!head_is_genuine(3, 64, &flipped, meta), "bit {bit}");
        }
    }

    #[test]
    fn a_segment_header_is_all_or_nothing() {
        let bytes = SegmentHeader::encode(9);
        assert_eq!(SegmentHeader::decode(&bytes), SegmentHeader::Good(9));
        for bit in 0..bytes.len() * 8 {
            let mut flipped = bytes;
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(SegmentHeader::decode(&flipped), SegmentHeader::Bad, "bit {bit}");
        }
        assert_eq!(SegmentHeader::decode(&bytes[..31]), SegmentHeader::Bad);
    }
}
