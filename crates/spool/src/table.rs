//! The table of contents that a seal carries, so that opening need not walk through what is sealed.
//!
//! It says what was written. What was damaged since is found when it is read, as damage within payloads is.

use bytes::Bytes;
use estafet_model::{
    Class, Epoch, HeaderDigest, Idempotency, Malformed, NodeId, PAYLOAD_BYTES_MAX, PayloadHash, Reader, RecordId, Seq,
    UnixMillis, Writer,
};

use crate::append::{Extent, StoredRecord, TransferId};
use crate::disk::DiskFile;
use crate::format::{
    CHUNK_META_BYTES, HEAD_BYTES, Head, Kind, META_BYTES_MAX, SEGMENT_HEADER_BYTES, SegmentHeader, head_is_genuine,
};
use crate::index::Share;

/// A longer table costs more memory than it saves time; the seal goes without one.
const TABLE_BYTES_MAX: usize = 8 << 20;
/// Every table ends with the offset of its seal, so that the seal is found from the end of the file.
const LOCATOR_BYTES: u32 = 4;

const NAME: u8 = 0;
const RECORD: u8 = Kind::Record as u8;
const CHUNK: u8 = Kind::Chunk as u8;
const PUT: u8 = Kind::Put as u8;
const BEGIN: u8 = Kind::Begin as u8;

const OWN: u8 = 1;
const IDEMPOTENCY: u8 = 2;
/// The neighbor that the record came from is named. Tables of an earlier form never name it, and are read all the same.
const RECEIVED_FROM: u8 = 4;

/// An entry, as far as opening needs to know it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Row {
    /// A record, and what its chunks take in each segment.
    Record(StoredRecord, Vec<Share>),
    Chunk(ChunkRow),
    Begin(BeginRow),
    Put(Extent),
}

/// A chunk entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ChunkRow {
    pub(crate) transfer: TransferId,
    pub(crate) index: u32,
    pub(crate) entry: Extent,
}

impl ChunkRow {
    /// How long the chunk is.
    pub(crate) fn bytes(&self) -> u32 {
        self.entry.length.saturating_sub(HEAD_BYTES + CHUNK_META_BYTES)
    }
}

/// A begin entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct BeginRow {
    pub(crate) transfer: TransferId,
    pub(crate) record: RecordId,
    pub(crate) entry: Extent,
}

/// Gathers the table while the segment is written.
#[derive(Debug, Default)]
pub(crate) struct TableWriter {
    rows: Vec<u8>,
    count: u32,
    names: Vec<NodeId>,
}

impl TableWriter {
    /// Begins the table of another segment. Keeps its memory.
    pub(crate) fn clear(&mut self) {
        self.rows.clear();
        self.count = 0;
        self.names.clear();
    }

    /// About how long the table is.
    pub(crate) fn bytes(&self) -> usize {
        if self.rows.len() > TABLE_BYTES_MAX { 0 } else { self.rows.len() }
    }

    pub(crate) fn push(&mut self, row: &Row) {
        if self.rows.len() > TABLE_BYTES_MAX {
            return;
        }
        let mut writer = Writer::new();
        match row {
            Row::Record(stored, shares) => self.record(&mut writer, stored, shares),
            Row::Chunk(ChunkRow { transfer, index, entry }) => {
                place(&mut writer, CHUNK, *entry).u64(transfer.0).u32(*index);
            }
            Row::Begin(BeginRow { transfer, record, entry }) => {
                let name = self.name(&record.origin);
                place(&mut writer, BEGIN, *entry).u64(transfer.0);
                number(&mut writer, name, record);
            }
            Row::Put(entry) => {
                place(&mut writer, PUT, *entry);
            }
        }
        self.rows.extend_from_slice(&writer.finish());
        self.count += 1;
    }

    fn record(&mut self, writer: &mut Writer, stored: &StoredRecord, shares: &[Share]) {
        let name = self.name(&stored.id.origin);
        let sender = stored.received_from.as_ref().map(|sender| self.name(sender));
        number(place(writer, RECORD, stored.record), name, &stored.id);
        let flag = |set: bool, bit: u8| if set { bit } else { 0 };
        let flags = flag(stored.own, OWN)
            | flag(stored.idempotency.is_some(), IDEMPOTENCY)
            | flag(sender.is_some(), RECEIVED_FROM);
        writer.u8(stored.class as u8).u32(stored.payload_bytes).raw(&stored.digest.0);
        writer.raw(stored.payload_hash.as_bytes()).u64(stored.stored_at.0).u8(flags);
        if let Some(idempotency) = &stored.idempotency {
            idempotency.write(writer);
        }
        if let Some(sender) = sender {
            writer.u16(sender);
        }
        writer.u16(u16::try_from(shares.len()).expect("a payload has few chunks"));
        for Share { generation, entries, bytes } in shares {
            writer.u64(*generation).u32(*entries).u32(*bytes);
        }
    }

    /// The number of a name, which is written before the row if it is new.
    fn name(&mut self, node: &NodeId) -> u16 {
        let known = self.names.iter().rposition(|known| known == node);
        let position = known.unwrap_or_else(|| {
            self.rows.push(NAME);
            self.rows.extend_from_slice(&Writer::new().text(node.as_str()).finish());
            self.names.push(node.clone());
            self.names.len() - 1
        });
        u16::try_from(position).expect("origins and neighbors are the nodes of an area")
    }

    /// The payload of a seal at this offset; `checkpointed` says that the segment repeats all values.
    pub(crate) fn finish(&self, checkpointed: bool, seal: u32) -> Bytes {
        if self.rows.len() > TABLE_BYTES_MAX {
            return Bytes::new();
        }
        let mut writer = Writer::new();
        writer.u8(u8::from(checkpointed)).u32(self.count).raw(&self.rows).u32(seal);
        writer.finish()
    }
}

fn place(writer: &mut Writer, kind: u8, entry: Extent) -> &mut Writer {
    writer.u8(kind).u32(entry.offset).u32(entry.length)
}

fn number(writer: &mut Writer, name: u16, id: &RecordId) {
    writer.u16(name).u16(id.epoch.get()).u32(id.seq.get());
}

/// A table that was read and is genuine.
#[derive(Debug)]
pub(crate) struct Table {
    generation: u64,
    /// The segment repeats all values that were live when it was begun.
    pub(crate) checkpointed: bool,
    count: u32,
    rows: Bytes,
}

impl Table {
    /// The table at the end of this file, or nothing if any byte of it, or of the segment's header, is not genuine.
    pub(crate) fn read(file: &dyn DiskFile, generation: u64, file_bytes: u64) -> Option<Self> {
        let header = read_exactly(file, 0, SEGMENT_HEADER_BYTES)?;
        if SegmentHeader::decode(&header) != SegmentHeader::Good(generation) {
            return None;
        }
        let payload = seal_payload(file, generation, u32::try_from(file_bytes).ok()?)?;
        let mut reader = Reader::new(&payload);
        let checkpointed = reader.u8("table").ok()? == 1;
        let count = reader.u32("table").ok()?;
        let rows = payload.slice(5..payload.len().checked_sub(LOCATOR_BYTES as usize)?.max(5));
        let table = Self { generation, checkpointed, count, rows };
        // A row that cannot be read would hide those behind it.
        table.rows().all(|row| row.is_ok()).then_some(table)
    }

    /// The rows, in the order of the entries.
    pub(crate) fn rows(&self) -> Rows<'_> {
        Rows { generation: self.generation, names: Vec::new(), reader: Reader::new(&self.rows), left: self.count }
    }
}

/// The payload of the seal at the end of this file.
fn seal_payload(file: &dyn DiskFile, generation: u64, length: u32) -> Option<Bytes> {
    let locator = read_exactly(file, length.checked_sub(LOCATOR_BYTES)?, LOCATOR_BYTES)?;
    let offset = u32::from_be_bytes(locator.try_into().ok()?);
    let entry_bytes = length.checked_sub(offset)?;
    let head = Head::parse(&read_exactly(file, offset, HEAD_BYTES)?)?;
    if head.kind != Kind::Seal || head.meta_bytes != 0 || head.length() != entry_bytes {
        return None;
    }
    let entry = read_exactly(file, offset, entry_bytes)?;
    let genuine = head_is_genuine(generation, offset, &entry, &[])
        && crc32c::crc32c(&entry[HEAD_BYTES as usize..]) == head.payload_checksum;
    genuine.then(|| Bytes::from(entry).slice(HEAD_BYTES as usize..))
}

fn read_exactly(file: &dyn DiskFile, offset: u32, length: u32) -> Option<Vec<u8>> {
    let mut bytes = vec![0; length as usize];
    (file.read_at(&mut bytes, u64::from(offset)).ok()? == bytes.len()).then_some(bytes)
}

/// Reads a table row by row.
#[derive(Debug)]
pub(crate) struct Rows<'a> {
    generation: u64,
    names: Vec<NodeId>,
    reader: Reader<'a>,
    left: u32,
}

impl Iterator for Rows<'_> {
    type Item = Result<Row, Malformed>;

    fn next(&mut self) -> Option<Self::Item> {
        self.left = self.left.checked_sub(1)?;
        let row = self.row();
        if row.is_err() {
            self.left = 0;
        }
        Some(row)
    }
}

impl Rows<'_> {
    fn row(&mut self) -> Result<Row, Malformed> {
        let kind = loop {
            match self.reader.u8("row")? {
                NAME => self.names.push(self.reader.parse("name")?),
                kind => break kind,
            }
        };
        let (offset, length) = (self.reader.u32("place")?, self.reader.u32("place")?);
        if !(HEAD_BYTES..=HEAD_BYTES + META_BYTES_MAX + PAYLOAD_BYTES_MAX).contains(&length) {
            return Err(Malformed { what: "place" });
        }
        let entry = Extent { generation: self.generation, offset, length };
        match kind {
            RECORD => self.record(entry),
            CHUNK => {
                let transfer = TransferId(self.reader.u64("transfer")?);
                Ok(Row::Chunk(ChunkRow { transfer, index: self.reader.u32("chunk")?, entry }))
            }
            BEGIN => {
                let transfer = TransferId(self.reader.u64("transfer")?);
                Ok(Row::Begin(BeginRow { transfer, record: self.id()?, entry }))
            }
            PUT => Ok(Row::Put(entry)),
            _ => Err(Malformed { what: "row" }),
        }
    }

    fn record(&mut self, record: Extent) -> Result<Row, Malformed> {
        let id = self.id()?;
        let reader = &mut self.reader;
        let class = Class::ALL.get(usize::from(reader.u8("class")?)).copied().ok_or(Malformed { what: "class" })?;
        let payload_bytes = reader.u32("payload length")?;
        let digest = HeaderDigest(reader.array("digest")?);
        let payload_hash = PayloadHash::from_bytes(reader.array("payload hash")?);
        let stored_at = UnixMillis(reader.u64("time of storing")?);
        let flags = reader.u8("record flags")?;
        let idempotency = if flags & IDEMPOTENCY != 0 { Some(Idempotency::read(reader)?) } else { None };
        let own = flags & OWN != 0;
        let received_from = if flags & RECEIVED_FROM != 0 { Some(self.name()?) } else { None };
        let reader = &mut self.reader;
        let count = reader.u16("number of shares")?;
        let mut share = || {
            let generation = reader.u64("share")?;
            Ok(Share { generation, entries: reader.u32("share")?, bytes: reader.u32("share")? })
        };
        let shares = (0..count).map(|_| share()).collect::<Result<_, Malformed>>()?;
        let stored = StoredRecord {
            id,
            class,
            payload_bytes,
            digest,
            own,
            received_from,
            idempotency,
            stored_at,
            payload_hash,
            record,
        };
        Ok(Row::Record(stored, shares))
    }

    fn name(&mut self) -> Result<NodeId, Malformed> {
        let name = usize::from(self.reader.u16("name")?);
        self.names.get(name).cloned().ok_or(Malformed { what: "name" })
    }

    fn id(&mut self) -> Result<RecordId, Malformed> {
        let origin = self.name()?;
        let epoch = Epoch::new(self.reader.u16("epoch")?).ok_or(Malformed { what: "epoch" })?;
        let seq = Seq::new(self.reader.u32("sequence number")?).ok_or(Malformed { what: "sequence number" })?;
        Ok(RecordId { origin, epoch, seq })
    }
}
