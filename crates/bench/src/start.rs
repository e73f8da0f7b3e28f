//! How long a relay takes to come back with a full spool, and how much memory: the power was cut, and nobody is there
//! to talk to.

use std::fmt;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use estafet_cli::demo::{Fleet, Intake};
use estafet_cli::disk::temporary_folder;
use estafet_cli::init::init_plan;
use estafet_model::{
    CHUNK_BYTES, ChunkHash, Class, Epoch, Idempotency, Kind, MediaType, RecordHeader, RecordId, Seq, SignedHeader,
    SigningKey, UnixMillis, payload_hash_of_chunks, sign_batch,
};
use estafet_spool::{Append, Log, NewRecord, Payload, RealDisk, SpoolOptions, TransferId};
use rustix::fs::Advice;
use serde::{Deserialize, Serialize};
use tokio::time::sleep;

use crate::chain::{ORIGIN, node_id, plan};
use crate::error::BenchError;
use crate::note;
use crate::process::Usage;
use crate::report::{json, mib};

/// What `start` found.
#[derive(Debug, Serialize)]
pub(crate) struct StartReport {
    records: u32,
    bytes_each: u32,
    /// What the spool takes on the disk.
    spool_mib: f64,
    /// The relay with nothing of the spool in the page cache, as after a power cut.
    cold: Started,
    /// The relay once more, killed in between.
    warm: Started,
    /// The spool alone, in a process of its own that keeps nothing of what it is told.
    spool_alone: Started,
}

/// One start.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Started {
    /// For a relay: from spawning the process until its metrics are served. For the spool: until it is open.
    ms: u64,
    /// The most resident memory until then.
    rss_peak_mib: f64,
}

impl StartReport {
    pub(crate) fn to_json(&self) -> String {
        json(self)
    }
}

impl Started {
    pub(crate) fn to_json(&self) -> String {
        json(self)
    }
}

impl fmt::Display for StartReport {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { records, bytes_each, spool_mib, cold, warm, spool_alone } = self;
        write!(formatter, "{records} records of {bytes_each} bytes, {spool_mib} MiB on the disk")?;
        for (what, Started { ms, rss_peak_mib }) in
            [("relay, cold disk", cold), ("relay, warm disk", warm), ("spool alone, warm", spool_alone)]
        {
            write!(formatter, "\n{what:18} {ms:6} ms  {rss_peak_mib:6.1} MiB at most")?;
        }
        Ok(())
    }
}

/// Makes the relay and its spool, and starts it.
pub(crate) async fn measure(
    program: PathBuf,
    dir: Option<&Path>,
    records: u32,
    bytes_each: u32,
) -> Result<StartReport, BenchError> {
    let temporary = temporary_folder("estafet-bench-").map_err(BenchError::Folder)?;
    let city = init_plan(plan(1), dir.unwrap_or(temporary.path()))?;
    let node = &city.nodes[ORIGIN];
    let data = node.config.with_file_name("data");
    fill(&node.config.with_file_name("node.key"), &data, records, bytes_each)?;
    forget_pages(&data)?;
    let spool_mib = mib(files_of(&data)?.iter().map(|(_, bytes)| bytes / 1024).sum());
    let mut fleet = Fleet::new(program);
    let intake = Intake::new(&node.intake);
    let cold = start(&mut fleet, &node.config, &intake).await?;
    let warm = start(&mut fleet, &node.config, &intake).await?;
    let alone =
        Command::new(std::env::current_exe().map_err(BenchError::Runtime)?).arg("open-spool").arg(&data).output();
    let alone = alone.map_err(BenchError::Runtime)?;
    let spool_alone = serde_json::from_slice(&alone.stdout)
        .map_err(|error| BenchError::Fill(format!("{error}; {}", String::from_utf8_lossy(&alone.stderr))))?;
    Ok(StartReport { records, bytes_each, spool_mib, cold, warm, spool_alone })
}

/// Opens a spool in this process and keeps nothing of it.
pub(crate) fn open_spool(folder: &Path) -> Result<Started, BenchError> {
    let began = Instant::now();
    let mut records = 0u32;
    let opened = Log::open_with(disk(folder)?, SpoolOptions::default(), &mut |_| records += 1);
    let (log, _) = opened.map_err(|error| BenchError::Fill(error.to_string()))?;
    let ms = whole_ms(began);
    note(format_args!("{records} records"));
    drop(log);
    Ok(Started { ms, rss_peak_mib: mib(Usage::of_this_process()?.rss_peak_kib) })
}

/// Starts the relay, waits until it answers, and kills it.
async fn start(fleet: &mut Fleet, config: &Path, intake: &Intake) -> Result<Started, BenchError> {
    let began = Instant::now();
    fleet.start(ORIGIN, config)?;
    while intake.metrics().await.is_err() {
        fleet.check()?;
        if began.elapsed() > DEADLINE {
            return Err(BenchError::NoAnswer { waited_s: DEADLINE.as_secs() });
        }
        sleep(STEP).await;
    }
    let ms = whole_ms(began);
    let pid = fleet.relays().map(|(_, relay)| relay.pid()).next();
    let rss_peak_kib = pid.map(Usage::of).transpose()?.map_or(0, |usage| usage.rss_peak_kib);
    fleet.kill(ORIGIN);
    Ok(Started { ms, rss_peak_mib: mib(rss_peak_kib) })
}

/// Far beyond what any start takes.
const DEADLINE: Duration = Duration::from_secs(300);
/// How exactly the time is measured.
const STEP: Duration = Duration::from_millis(2);
/// How many headers are signed at once, and how much is committed at once.
const BATCH: u32 = 256;
const COMMIT_BYTES: usize = 4 << 20;

/// Captures of the relay itself, as it would have stored them; it ends as a power cut would end it.
fn fill(key: &Path, data: &Path, records: u32, bytes_each: u32) -> Result<(), BenchError> {
    let fault = |error: &dyn fmt::Display| BenchError::Fill(error.to_string());
    let key = fs::read_to_string(key).map_err(|error| fault(&error))?;
    let key = SigningKey::from_pem(&key).map_err(|error| fault(&error))?;
    let (mut log, _) = Log::open(disk(data)?, SpoolOptions::default()).map_err(|error| fault(&error))?;
    let epoch = |number: u16| Bytes::copy_from_slice(&number.to_be_bytes());
    commit(&mut log, vec![Append::Put { key: Bytes::from_static(b"epoch"), value: epoch(EPOCH) }])?;
    let mut batch = Vec::new();
    let mut bytes = 0;
    for first in (1..=records).step_by(BATCH as usize) {
        let payloads: Vec<(u32, Bytes)> =
            (first..=records.min(first + BATCH - 1)).map(|seq| (seq, payload(seq, bytes_each))).collect();
        let headers = payloads.iter().map(|(seq, payload)| header(*seq, payload)).collect::<Result<Vec<_>, _>>()?;
        for (header, (seq, payload)) in sign_batch(headers, &key).into_iter().zip(payloads) {
            for append in appends(header, seq, &payload) {
                bytes += CHUNK_BYTES.min(payload.len()) + 512;
                batch.push(append);
                if bytes > COMMIT_BYTES {
                    commit(&mut log, std::mem::take(&mut batch))?;
                    bytes = 0;
                }
            }
        }
    }
    commit(&mut log, batch)
}

fn commit(log: &mut Log, batch: Vec<Append>) -> Result<(), BenchError> {
    let failed = log.commit(batch).into_iter().find_map(Result::err);
    failed.map_or(Ok(()), |failed| Err(BenchError::Fill(failed.to_string())))
}

const EPOCH: u16 = 513;

fn payload(seq: u32, bytes: u32) -> Bytes {
    let mut payload = vec![0; bytes as usize];
    for (place, word) in (0u32..).zip(payload.chunks_mut(4)) {
        let number = place.wrapping_mul(0x9E37_79B9) ^ seq;
        word.copy_from_slice(&number.to_be_bytes()[..word.len()]);
    }
    payload.into()
}

fn header(seq: u32, payload: &Bytes) -> Result<RecordHeader, BenchError> {
    let number = Seq::new(seq).zip(Epoch::new(EPOCH)).ok_or_else(|| BenchError::Fill("no number".to_owned()))?;
    let (seq, epoch) = number;
    Ok(RecordHeader {
        id: RecordId { origin: node_id(ORIGIN), epoch, seq },
        class: Class::Normal,
        kind: Kind::default(),
        media_type: MediaType::default(),
        payload_bytes: u32::try_from(payload.len()).unwrap_or(u32::MAX),
        payload_hash: payload_hash_of_chunks(&chunks(payload).map(|(_, _, hash)| hash).collect::<Vec<_>>()),
        captured_at: UnixMillis(1_700_000_000_000 + u64::from(seq.get())),
    })
}

fn chunks(payload: &Bytes) -> impl Iterator<Item = (u32, Bytes, ChunkHash)> {
    let count = u32::try_from(payload.len().div_ceil(CHUNK_BYTES).max(1)).unwrap_or(u32::MAX);
    (0..count).map(move |index| {
        let start = index as usize * CHUNK_BYTES;
        let chunk = payload.slice(start..payload.len().min(start + CHUNK_BYTES));
        let hash = ChunkHash::of(&chunk, index, count);
        (index, chunk, hash)
    })
}

fn appends(header: SignedHeader, seq: u32, bytes: &Bytes) -> Vec<Append> {
    let mut appends = Vec::new();
    let transfer = TransferId(u64::from(seq));
    let payload = if bytes.len() > CHUNK_BYTES {
        appends.extend(chunks(bytes).map(|(index, data, hash)| Append::Chunk { transfer, index, data, hash }));
        Payload::Transfer(transfer)
    } else {
        Payload::Inline(bytes.clone())
    };
    let stored_at = header.header().captured_at;
    let half = *blake3::hash(&seq.to_be_bytes()).as_bytes().first_chunk().unwrap_or(&[0; 16]);
    let idempotency = Some(Idempotency { key: half, content: half });
    appends.push(Append::Record(NewRecord { header, received_from: None, stored_at, idempotency, payload }));
    appends
}

fn disk(folder: &Path) -> Result<Arc<RealDisk>, BenchError> {
    Ok(Arc::new(RealDisk::open(folder).map_err(|error| BenchError::Fill(error.to_string()))?))
}

/// All files of a folder and their lengths.
fn files_of(folder: &Path) -> Result<Vec<(PathBuf, u64)>, BenchError> {
    let list = || {
        let mut files = Vec::new();
        for entry in fs::read_dir(folder)? {
            let entry = entry?;
            files.push((entry.path(), entry.metadata()?.len()));
        }
        Ok(files)
    };
    list().map_err(BenchError::Folder)
}

/// Takes the files out of the page cache. They are synced, so nothing keeps them there.
fn forget_pages(folder: &Path) -> Result<(), BenchError> {
    for (path, _) in files_of(folder)? {
        let file = File::open(path).map_err(BenchError::Folder)?;
        rustix::fs::fadvise(&file, 0, None, Advice::DontNeed).map_err(|error| BenchError::Folder(error.into()))?;
    }
    Ok(())
}

fn whole_ms(began: Instant) -> u64 {
    u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX)
}
