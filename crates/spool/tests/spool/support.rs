//! Records, and what is expected of them.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use estafet_model::{
    ByteCount, CHUNK_BYTES, ChunkHash, Class, Idempotency, Kind, MediaType, NodeId, PayloadHash, RecordHeader,
    RecordId, SignedHeader, SigningKey, UnixMillis, chunk_count, sign_batch,
};
use estafet_spool::{
    Append, Disk, Done, Log, MemoryDisk, NewRecord, Outcome, Payload, ReadError, ReadPayload, Recovered, SpoolOptions,
    TransferId,
};

/// Small segments, so that few records fill several.
pub(crate) fn options() -> SpoolOptions {
    SpoolOptions {
        segment_bytes: ByteCount(8 << 10),
        bytes_max: ByteCount::mebibytes(64),
        hold_bytes_max: ByteCount(0),
        spare_segments: 2,
        young_segments: 0,
        reclaim: true,
        scan_from: None,
    }
}

pub(crate) fn open(disk: &(impl Disk + Clone)) -> (Log, Recovered) {
    open_with(disk, options())
}

pub(crate) fn open_with(disk: &(impl Disk + Clone), options: SpoolOptions) -> (Log, Recovered) {
    Log::open(Arc::new(disk.clone()), options).unwrap()
}

pub(crate) fn id(origin: &str, seq: u32) -> RecordId {
    format!("{origin}.1.{seq}").parse().unwrap()
}

pub(crate) fn header(origin: &str, seq: u32, payload: &[u8]) -> SignedHeader {
    let header = RecordHeader {
        id: id(origin, seq),
        class: Class::Normal,
        kind: Kind::default(),
        media_type: MediaType::default(),
        payload_bytes: u32::try_from(payload.len()).unwrap(),
        payload_hash: PayloadHash::of(payload),
        captured_at: UnixMillis(u64::from(seq)),
    };
    sign_batch(vec![header], &SigningKey::from_seed([1; 32])).remove(0)
}

/// Bytes that are different for each record and each place.
pub(crate) fn payload(seq: u32, length: usize) -> Bytes {
    let first = seq as usize * 7;
    (0..length).map(|index| (first + index * 31).to_le_bytes()[0]).collect()
}

fn new_record(origin: &str, seq: u32, bytes: &[u8], payload: Payload) -> Append {
    let own = origin == OWN;
    Append::Record(NewRecord {
        header: header(origin, seq, bytes),
        received_from: (!own).then(|| origin.parse::<NodeId>().unwrap()),
        stored_at: UnixMillis(5),
        idempotency: own.then_some(Idempotency { key: [9; 16], content: [8; 16] }),
        payload,
    })
}

/// The origin whose records are captured here.
pub(crate) const OWN: &str = "rumbai";
/// An origin whose records pass through.
pub(crate) const TRANSIT: &str = "sail";

pub(crate) fn inline(origin: &str, seq: u32, bytes: &Bytes) -> Append {
    new_record(origin, seq, bytes, Payload::Inline(bytes.clone()))
}

/// The chunks and then the record.
pub(crate) fn chunked(origin: &str, seq: u32, transfer: u64, bytes: &Bytes) -> Vec<Append> {
    let transfer = TransferId(transfer);
    let count = chunk_count(u32::try_from(bytes.len()).unwrap());
    let chunk = |index: u32| {
        let start = index as usize * CHUNK_BYTES;
        let data = bytes.slice(start..bytes.len().min(start + CHUNK_BYTES));
        let hash = ChunkHash::of(&data, index, count);
        Append::Chunk { transfer, index, data, hash }
    };
    (0..count).map(chunk).chain([new_record(origin, seq, bytes, Payload::Transfer(transfer))]).collect()
}

/// What makes the chunks of a payload outlive a restart.
pub(crate) fn begin(origin: &str, seq: u32, transfer: u64, bytes: &Bytes) -> Append {
    let hash = |append| if let Append::Chunk { hash, .. } = append { Some(hash) } else { None };
    let chunks = chunked(origin, seq, transfer, bytes).into_iter().filter_map(hash).collect();
    Append::Begin { transfer: TransferId(transfer), header: header(origin, seq, bytes), chunks }
}

pub(crate) fn put(key: &str, value: &str) -> Append {
    Append::Put { key: Bytes::copy_from_slice(key.as_bytes()), value: Bytes::copy_from_slice(value.as_bytes()) }
}

/// Spoils the seal of a segment, so that opening has no table and looks at every byte of it.
pub(crate) fn spoil_table(disk: &MemoryDisk, name: &str) {
    let file = disk.list().unwrap().into_iter().find(|file| file.name == name).unwrap();
    disk.flip_bit(name, usize::try_from(file.bytes).unwrap() - 1, 0);
}

/// Commits, and expects all of it to be done.
pub(crate) fn commit(log: &mut Log, batch: Vec<Append>) -> Vec<Done> {
    log.commit(batch).into_iter().map(|outcome: Outcome| outcome.unwrap()).collect()
}

/// The whole payload, by id.
pub(crate) fn read_payload(log: &Log, id: &RecordId) -> Result<Bytes, ReadError> {
    match log.read(id)?.payload {
        ReadPayload::Inline(bytes) => Ok(bytes),
        ReadPayload::Chunks(hashes) => {
            let count = u32::try_from(hashes.len()).unwrap();
            let chunks = (0..count).map(|index| log.read_chunk(id, index)).collect::<Result<Vec<_>, _>>();
            let together = log.read_with_chunks(id, 0..count + 1).map(|(_, chunks)| chunks);
            assert_eq!(together, chunks, "chunks that are read together are those that are read one by one");
            let chunks = chunks?;
            Ok(chunks.concat().into())
        }
    }
}

/// Every record that was recovered, with its payload.
pub(crate) fn contents(log: &Log, recovered: &Recovered) -> BTreeMap<RecordId, Bytes> {
    let read = |id: &RecordId| (id.clone(), read_payload(log, id).unwrap());
    recovered.records.iter().map(|record| read(&record.get().id)).collect()
}
