//! What a disk may hold when the log is opened: any files, and files whose checksums are right but nothing else is.
//!
//! The segments are written here by the description in `format.rs` of the spool, not by its code.

use std::collections::BTreeSet;
use std::io::IoSlice;
use std::sync::Arc;

use arbitrary::{Result, Unstructured};
use bytes::Bytes;
use estafet_model::{ByteCount, RecordId, UnixMillis, Writer};
use estafet_spool::{
    Append, Disk, Done, Log, MemoryDisk, NewRecord, Payload, ReadPayload, Recovered, SpoolOptions, TransferId, Unsynced,
};

use super::Target;
use crate::cast::{ME, OFFICE, Sample, node, samples};
use crate::memory::bounded;

pub(super) const TARGET: Target = Target {
    name: "segments",
    check,
    seeds,
    words: &[b"EstSpool\0\0\0\x01", b"\xE7\x5F\x01\x01", b"\xE7\x5F\x04\x01"],
};

/// The window that a segment is read through is kept once per file, 128 KiB and more.
const MEMORY_TIMES: usize = 4096;

const FILES_MAX: usize = 3;
const ENTRIES_MAX: usize = 24;

fn check(input: &[u8]) {
    let mut bytes = Unstructured::new(input);
    let disk = MemoryDisk::new();
    let options = SpoolOptions {
        segment_bytes: ByteCount(8 << 10),
        bytes_max: ByteCount::mebibytes(64),
        hold_bytes_max: ByteCount(0),
        spare_segments: 2,
        young_segments: 1,
        reclaim: true,
        scan_from: None,
    };
    if fill(&mut bytes, &disk).is_err() {
        return;
    }
    let size: u64 = disk.list().map_or(0, |files| files.iter().map(|file| file.bytes).sum());
    let allowance = vec![0; usize::try_from(size).unwrap_or(0) + (1 << 10)];
    let opened = bounded(&allowance, MEMORY_TIMES, || Log::open(Arc::new(disk.clone()), options.clone()));
    let Ok((mut log, recovered)) = opened else { return };
    assert_eq!(log.poisoned(), None, "what stands in a file cannot break a disk that works");
    let mut held = ids(&recovered);
    let new = &samples()[usize::from(input.first().copied().unwrap_or(0)) % samples().len()];
    // What is damaged in a newest segment is read by its heads only once the segment is sealed, and then looks whole.
    let undamaged = recovered.transfers.iter().filter(|_| recovered.damaged.is_empty());
    let others = undamaged.filter(|found| found.header.header().id != *new.id());
    let going_on: BTreeSet<TransferId> = others.map(|found| found.transfer).collect();
    read_all(&log, &held);
    store(&mut log, new);
    held.insert(new.id().clone());
    let seed = input.len() as u64;
    for cut in [Unsynced::Kept, Unsynced::Dropped, Unsynced::Torn(seed)] {
        reopen(&disk.power_cut(cut), &options, &held, &going_on);
    }
    log.close();
    reopen(&disk, &options, &held, &going_on);
}

fn ids(recovered: &Recovered) -> BTreeSet<RecordId> {
    recovered.records.iter().map(|record| record.get().id.clone()).collect()
}

/// Reading what is said to be there gives it or an error.
fn read_all(log: &Log, held: &BTreeSet<RecordId>) {
    for id in held {
        let Ok(record) = log.read(id) else { continue };
        assert_eq!(record.header.header().id, *id, "a record is found under its own id");
        let count = if let ReadPayload::Chunks(hashes) = record.payload { hashes.len() } else { 1 };
        let count = u32::try_from(count).expect("few chunks");
        for index in [0, count - 1, count] {
            let _chunk_or_error = log.read_chunk(id, index);
        }
    }
}

/// A log that opens takes what comes.
fn store(log: &mut Log, sample: &Sample) {
    let transfer = TransferId(u64::MAX);
    let chunked = sample.hashes.len() > 1;
    let chunk = |(index, hash): (usize, &_)| Append::Chunk {
        transfer,
        index: u32::try_from(index).expect("few chunks"),
        data: sample.chunk(index),
        hash: *hash,
    };
    let chunks = sample.hashes.iter().enumerate().map(chunk).take(if chunked { sample.hashes.len() } else { 0 });
    let record = Append::Record(NewRecord {
        header: sample.signed.clone(),
        received_from: None,
        stored_at: UnixMillis(1),
        idempotency: None,
        payload: if chunked { Payload::Transfer(transfer) } else { Payload::Inline(sample.payload.clone()) },
    });
    for outcome in log.commit(chunks.chain([record]).collect()) {
        match outcome.expect("there is room, and the disk works") {
            Done::Record(stored) => assert_eq!(stored.get().id, *sample.id()),
            Done::Begin { .. } | Done::Chunk { .. } | Done::Put { .. } | Done::Recalled(_) => {}
        }
    }
    let read = log.read(sample.id()).expect("what is durable can be read");
    assert_eq!(read.header, sample.signed, "the newest record under an id is the one that is read");
}

/// What was reported is there after a restart.
fn reopen(disk: &MemoryDisk, options: &SpoolOptions, held: &BTreeSet<RecordId>, going_on: &BTreeSet<TransferId>) {
    let (log, recovered) = Log::open(Arc::new(disk.clone()), options.clone()).expect("it opened before");
    assert_eq!(log.poisoned(), None, "what stands in a file cannot break a disk that works");
    let found = ids(&recovered);
    assert!(held.is_subset(&found), "{held:?} were durable, and of them {found:?} are found");
    let found = recovered.transfers.iter().map(|found| found.transfer).collect();
    assert!(going_on.is_subset(&found), "{going_on:?} were arriving, and of them {found:?} go on");
}

/// Puts files on the disk.
fn fill(bytes: &mut Unstructured<'_>, disk: &MemoryDisk) -> Result<()> {
    for _ in 0..bytes.int_in_range(1..=FILES_MAX)? {
        let generation =
            if bytes.ratio(1, 16)? { u64::MAX - bytes.int_in_range(0..=2)? } else { bytes.int_in_range(1..=4)? };
        let name = format!("{generation:016x}.{}", if bytes.ratio(1, 8)? { "spare" } else { "segment" });
        let content = if bytes.ratio(1, 4)? { raw(bytes)? } else { segment(bytes, generation)? };
        if let Ok(file) = disk.create(&name) {
            file.write_at(&mut [IoSlice::new(&content)], 0).expect("an empty memory has room");
            file.sync_data().expect("a memory can be synced");
        }
    }
    disk.sync_dir().expect("a memory can be synced");
    Ok(())
}

fn raw(bytes: &mut Unstructured<'_>) -> Result<Vec<u8>> {
    let length = bytes.int_in_range(0..=2048)?.min(bytes.len());
    Ok(bytes.bytes(length)?.to_vec())
}

/// A segment whose entries prove themselves, unless a bit is flipped afterwards.
fn segment(bytes: &mut Unstructured<'_>, generation: u64) -> Result<Vec<u8>> {
    let mut file = Writer::new().raw(b"EstSpool").u32(1).u32(0).u64(generation).u32(0).finish().to_vec();
    file.extend(crc32c::crc32c(&file).to_be_bytes());
    let (mut commit, mut chunks) = (0, Vec::new());
    for _ in 0..bytes.int_in_range(0..=ENTRIES_MAX)? {
        let first = bytes.ratio(1, 2)?;
        commit += u32::from(first);
        let (kind, meta, payload) = entry(bytes, &chunks)?;
        let offset = u32::try_from(file.len()).expect("segments are small");
        let mut writer = Writer::new();
        let flags = if bytes.ratio(1, 32)? { bytes.arbitrary()? } else { u8::from(first) };
        writer.raw(&[0xE7, 0x5F, kind, flags]).u32(commit);
        writer.u32(u32::try_from(meta.len()).expect("metas are small"));
        writer.u32(if bytes.ratio(1, 32)? { bytes.arbitrary()? } else { u32::try_from(payload.len()).expect("small") });
        writer.u32(crc32c::crc32c(&payload));
        let head = writer.finish();
        let place = Writer::new().u64(generation).u32(offset).finish();
        let checksum = crc32c::crc32c(&[&place[..], &head[..], &meta[..]].concat());
        let entry = [&head[..], &checksum.to_be_bytes(), &meta[..], &payload[..]].concat();
        chunks.push((generation, offset, u32::try_from(entry.len()).expect("entries are small")));
        file.extend(entry);
        file.resize(file.len().next_multiple_of(8), 0);
    }
    for _ in 0..bytes.int_in_range(0..=2u8)? {
        let bit = bytes.int_in_range(0..=file.len() * 8 - 1)?;
        file[bit / 8] ^= 1 << (bit % 8);
    }
    if bytes.ratio(1, 4)? {
        file.truncate(bytes.int_in_range(0..=file.len())?);
    }
    file.resize(file.len() + if bytes.ratio(1, 2)? { 4096 } else { 0 }, 0);
    Ok(file)
}

/// The kind, meta and payload of an entry.
fn entry(bytes: &mut Unstructured<'_>, chunks: &[(u64, u32, u32)]) -> Result<(u8, Vec<u8>, Bytes)> {
    let sample = bytes.choose(samples())?;
    let kind = bytes.int_in_range(1..=5u8)?;
    if bytes.ratio(1, 8)? {
        return Ok((kind, raw(bytes)?, Bytes::from(raw(bytes)?)));
    }
    let mut meta = Writer::new();
    let mut payload = Bytes::new();
    match kind {
        1 => {
            let inline = sample.hashes.len() == 1;
            let from_neighbor = bytes.ratio(1, 2)?;
            meta.u64(5).u8(u8::from(from_neighbor) | if inline { 0 } else { 4 });
            if from_neighbor {
                meta.text(node(OFFICE).as_str());
            }
            meta.bytes(&sample.signed.encode());
            if inline {
                payload = sample.payload.clone();
            } else {
                chunk_places(bytes, &mut meta, sample, chunks)?;
            }
        }
        2 => {
            let index = bytes.choose_index(sample.hashes.len())?;
            meta.u64(bytes.int_in_range(0..=2)?).u32(u32::try_from(index).expect("few chunks"));
            meta.raw(sample.hashes[index].as_bytes());
            payload = sample.chunk(index);
        }
        3 => {
            meta.text(bytes.choose(&["a", "b", ME])?).bytes(&raw(bytes)?);
        }
        5 => {
            meta.u64(bytes.int_in_range(0..=2)?).bytes(&sample.signed.encode());
            meta.u32(u32::try_from(sample.hashes.len()).expect("few chunks"));
            sample.hashes.iter().for_each(|hash| {
                meta.raw(hash.as_bytes());
            });
        }
        _ => {}
    }
    Ok((kind, meta.finish().to_vec(), payload))
}

/// Where the chunks of a record are said to be: at entries of this file, or anywhere.
fn chunk_places(
    bytes: &mut Unstructured<'_>,
    meta: &mut Writer,
    sample: &Sample,
    entries: &[(u64, u32, u32)],
) -> Result<()> {
    meta.u32(u32::try_from(sample.hashes.len()).expect("few chunks"));
    for hash in &sample.hashes {
        let anywhere = entries.is_empty() || bytes.ratio(1, 8)?;
        let (generation, offset, length) = if anywhere { bytes.arbitrary()? } else { *bytes.choose(entries)? };
        meta.u64(generation).u32(offset).u32(length).raw(hash.as_bytes());
    }
    Ok(())
}

/// Some files by hand, and bytes for `fill` to make some of.
fn seeds() -> Vec<Vec<u8>> {
    let ascending: Vec<u8> = (0..=255).collect();
    let mixed: Vec<u8> = (0..1024u32).map(|index| (index.wrapping_mul(2_654_435_761) >> 24).to_le_bytes()[0]).collect();
    vec![ascending, mixed, vec![0; 256], vec![0xFF; 256]]
}
