//! `estafet-relay store`: what can be done to a store while the relay is stopped.
//!
//! The commands look at every byte, so they take as long as the disk needs to read the store once or twice.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::{Args, Subcommand};
use estafet_model::{Epoch, RecordId, SeqRanges, SignedReceipt};
use estafet_seal::SealSecret;
use estafet_spool::{
    Damage, Disk, FolderError, OpenError, ReadError, ReadRecord, RealDisk, Repair, RepairError, Survey,
};
use estafet_store::{Identity, owner, receipts};
use estafet_topology::Role;
use serde_json::{Value, json};

use crate::config::{Config, ConfigError};
use crate::seal::{SealKeys, SealKeysError};

/// Where repair leaves what is damaged.
const DAMAGED: &str = "damaged";

/// What is to be done.
#[derive(Debug, Subcommand)]
pub(crate) enum Operation {
    /// Checks every byte of the store, changes nothing, and names every record that is lost. Exit code 1 if anything
    /// is damaged.
    Verify(Target),
    /// Writes everything whole in damaged files anew, and puts the damaged files aside in the folder `damaged`. Exit
    /// code 1 if a record could not be saved.
    Repair(Target),
    /// Writes records to files: ID.payload, sealed as it travels, and ID.json, with the payload's hash verified.
    Export {
        #[command(flatten)]
        target: Target,
        /// One record, such as rumbai.513.42.
        #[arg(long, value_name = "ID", value_parser = parse_id, required_unless_present = "all", conflicts_with = "all")]
        record: Option<RecordId>,
        /// All records that are whole. Exit code 1 if others are lost.
        #[arg(long)]
        all: bool,
        /// Where to; what is there is not overwritten.
        #[arg(long, value_name = "DIR")]
        out: PathBuf,
        /// A folder with a main server's private seal keys: what they open is also written to ID.content.
        #[arg(long, value_name = "DIR")]
        seal_keys: Option<PathBuf>,
    },
    /// Says what is in the store.
    Stat(Target),
}

/// Which store, and how to answer.
#[derive(Debug, Args)]
pub(crate) struct Target {
    /// The node's relay.toml.
    #[arg(long, required_unless_present = "data", conflicts_with = "data")]
    config: Option<PathBuf>,
    /// The store's folder, if there is no relay.toml.
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// Print one object of JSON.
    #[arg(long)]
    json: bool,
}

fn parse_id(text: &str) -> Result<RecordId, estafet_model::RecordIdError> {
    text.parse()
}

/// Why it was not done.
#[derive(Debug, thiserror::Error, miette::Diagnostic)]
pub(crate) enum SurgeryError {
    #[error(transparent)]
    #[diagnostic(transparent)]
    Config(#[from] ConfigError),
    #[error(transparent)]
    #[diagnostic(transparent)]
    SealKeys(#[from] SealKeysError),
    #[error("there is no store in {}", .0.display())]
    #[diagnostic(help("name the folder with --data, or the node's relay.toml with --config"))]
    NoStore(PathBuf),
    #[error("the relay is running on the store in {}", .0.display())]
    #[diagnostic(help("stop it first, such as with: systemctl stop estafet-relay"))]
    Running(PathBuf),
    #[error("failed to {0}")]
    #[diagnostic(help("is the disk there and readable?"))]
    Open(#[from] OpenError),
    #[error("failed to {0}")]
    #[diagnostic(help("nothing is lost by it: put the disk right and repeat the command"))]
    Repair(#[from] RepairError),
    #[error(
        "the store in {} is damaged in {}; {} lost", data.display(), count(*damages, "place"), count(*lost, "record")
    )]
    #[diagnostic(help(
        "start the relay all the same: it serves everything that is whole, and seeks the rest from the others. `store \
         repair` afterwards, when `topology quarantine list` is empty here, or nobody has what is lost"
    ))]
    Damaged { data: PathBuf, damages: usize, lost: usize },
    #[error("{} could not be saved", count(*lost, "record"))]
    #[diagnostic(help(
        "everything else is repaired; the damaged files stay in {}. When the relay runs again, `topology audit` says \
         whether another node or the main server has what is lost here", damaged.display()
    ))]
    NotSaved { lost: usize, damaged: PathBuf },
    #[error("{} could not be exported: the store is damaged", count(*lost, "record"))]
    #[diagnostic(help("everything whole is exported; `store verify` names the others"))]
    NotExported { lost: usize },
    #[error("{} could not be opened: these keys are not those they were sealed to", count(*shut, "record"))]
    #[diagnostic(help("each is exported as it travels; the file of a key is named by the id that is told above"))]
    NotOpened { shut: usize },
    #[error("there is no seal key in {}", .0.display())]
    #[diagnostic(help("name the folder with the files that `estafet-relay seal-key new` made"))]
    NoSealKeys(PathBuf),
    #[error("record {0} is not in the store, or not whole")]
    #[diagnostic(help("`store verify` names what is lost, `store stat` what is there"))]
    NoRecord(RecordId),
    #[error("failed to read record {id}: {error}")]
    #[diagnostic(help("run `store verify`"))]
    Unreadable { id: RecordId, error: ReadError },
    #[error("failed to write {}: {error}", path.display())]
    #[diagnostic(help("nothing is overwritten: name an empty folder with --out"))]
    Output { path: PathBuf, error: io::Error },
    #[error("failed to put {} aside: {error}", path.display())]
    #[diagnostic(help("it is derived from the store and made again at the next start: move it away by hand"))]
    Ledger { path: PathBuf, error: io::Error },
    #[error("failed to print the answer")]
    Print(#[from] io::Error),
}

/// Does it, and writes the answer.
pub(crate) fn operate(operation: &Operation, out: &mut dyn Write) -> Result<(), SurgeryError> {
    match operation {
        Operation::Verify(target) => verify(target, out),
        Operation::Repair(target) => repair(target, out),
        Operation::Stat(target) => stat(target, out),
        Operation::Export { target, record, out: folder, seal_keys, .. } => {
            let secrets = seal_keys.as_ref().map_or(Ok(Vec::new()), |keys| SealKeys::in_folder(keys.clone()).load())?;
            if let Some(keys) = seal_keys.as_ref().filter(|_| secrets.is_empty()) {
                return Err(SurgeryError::NoSealKeys(keys.clone()));
            }
            export(target, record.as_ref(), folder, &secrets, out)
        }
    }
}

/// A store that nobody else has open.
struct Store {
    data: PathBuf,
    disk: Arc<dyn Disk>,
    survey: Survey,
}

impl Store {
    fn open(target: &Target) -> Result<Self, SurgeryError> {
        let data = match (&target.data, &target.config) {
            (Some(data), _) => data.clone(),
            (None, Some(config)) => Config::load(config)?.data,
            (None, None) => return Err(SurgeryError::NoStore(PathBuf::from("data"))),
        };
        if !data.is_dir() {
            return Err(SurgeryError::NoStore(data));
        }
        let disk: Arc<dyn Disk> = match RealDisk::open(&data) {
            Ok(disk) => Arc::new(disk),
            Err(FolderError::Locked(data)) => return Err(SurgeryError::Running(data)),
            Err(error) => return Err(OpenError::from(error).into()),
        };
        let survey = Survey::of(Arc::clone(&disk))?;
        if survey.segments.is_empty() && survey.spares == 0 {
            return Err(SurgeryError::NoStore(data));
        }
        Ok(Self { data, disk, survey })
    }
}

fn verify(target: &Target, out: &mut dyn Write) -> Result<(), SurgeryError> {
    let Store { data, survey, .. } = Store::open(target)?;
    if target.json {
        writeln!(out, "{}", survey_json(&survey))?;
    } else {
        write_survey(&survey, out)?;
    }
    if survey.is_clean() {
        return Ok(());
    }
    Err(SurgeryError::Damaged { data, damages: survey.damage.len(), lost: survey.lost.len() })
}

fn repair(target: &Target, out: &mut dyn Write) -> Result<(), SurgeryError> {
    let Store { data, disk, survey } = Store::open(target)?;
    if !survey.damaged_segments().is_empty() {
        // Its places are old news afterwards.
        put_ledger_aside(&data)?;
    }
    let damaged = data.join(DAMAGED);
    let Repair { saved, lost, transfers, put_aside } = Repair::of(&disk, &survey)?;
    if target.json {
        let answer = json!({
            "saved": saved.len(),
            "lost": names(&lost),
            "transfers_saved": transfers.len(),
            "put_aside": put_aside,
        });
        writeln!(out, "{answer}")?;
    } else if put_aside.is_empty() {
        writeln!(out, "nothing to repair: {}, all whole", count(survey.ids().count(), "record"))?;
    } else {
        writeln!(out, "written anew out of damaged files: {}", count(saved.len(), "record"))?;
        for file in put_aside {
            writeln!(out, "put aside: {}", damaged.join(file).display())?;
        }
        write_lost(&lost, out)?;
    }
    if lost.is_empty() { Ok(()) } else { Err(SurgeryError::NotSaved { lost: lost.len(), damaged }) }
}

fn stat(target: &Target, out: &mut dyn Write) -> Result<(), SurgeryError> {
    let role = target.config.as_ref().map(|config| Config::load(config).map(|config| config.node.role)).transpose()?;
    let is_hub = role == Some(Role::Hub);
    let Store { survey, .. } = Store::open(target)?;
    let stat = Stat::of(&survey);
    if target.json {
        writeln!(out, "{}", stat.to_json(&survey))?;
        return Ok(());
    }
    let (segments, spares) = (count(survey.segments.len(), "segment"), count(survey.spares, "spare"));
    writeln!(out, "{segments} and {spares}, {} MiB", mebibytes(survey.file_bytes))?;
    if !survey.is_clean() {
        let (places, lost) = (count(survey.damage.len(), "place"), count(survey.lost.len(), "record"));
        writeln!(out, "DAMAGED in {places}, {lost} lost: see `store verify`")?;
    }
    if let Some(epoch) = stat.epoch {
        writeln!(out, "epoch {}", epoch.get())?;
    }
    if stat.conflicts > 0 {
        writeln!(
            out,
            "{} in conflict: their numbers are other records', see `topology audit`",
            count(stat.conflicts, "record")
        )?;
    }
    let Stat { waiting, waiting_bytes, receipted, receipted_bytes, .. } = stat;
    if is_hub {
        writeln!(out, "{} committed, {} MiB", count(waiting, "record"), mebibytes(waiting_bytes))?;
    } else {
        writeln!(
            out,
            "{} without a receipt in this store, {} MiB",
            count(waiting, "record"),
            mebibytes(waiting_bytes)
        )?;
        writeln!(out, "{} with one, {} MiB", count(receipted, "record"), mebibytes(receipted_bytes))?;
    }
    for ((origin, epoch), ranges) in &survey.records {
        writeln!(out, "  {origin}.{}: {}", epoch.get(), ranges_text(ranges))?;
    }
    writeln!(out, "{}", count(stat.receipts.len(), "receipt"))?;
    for receipt in &stat.receipts {
        let key = receipt.key();
        let ranges = ranges_text(receipt.committed());
        writeln!(out, "  {} for {}.{}: {ranges}", key.hub, key.origin, key.epoch.get())?;
    }
    writeln!(out, "{} arriving", count(survey.transfers.len(), "payload"))?;
    Ok(())
}

fn export(
    target: &Target,
    record: Option<&RecordId>,
    folder: &Path,
    secrets: &[SealSecret],
    out: &mut dyn Write,
) -> Result<(), SurgeryError> {
    let Store { survey, .. } = Store::open(target)?;
    let ids: Vec<&RecordId> = match record {
        Some(id) => vec![id],
        None => survey.ids().collect(),
    };
    fs::create_dir_all(folder).map_err(|error| SurgeryError::Output { path: folder.to_owned(), error })?;
    let (mut exported, mut opened) = (Vec::new(), Vec::new());
    for id in ids {
        let (read, payload) = survey.read(id).map_err(|error| match error {
            ReadError::NotHere => SurgeryError::NoRecord(id.clone()),
            error => SurgeryError::Unreadable { id: id.clone(), error },
        })?;
        let content = match secrets {
            [] => None,
            _ => Some(estafet_seal::open(secrets, read.header.header(), &payload)),
        };
        if let Some(Ok(content)) = &content {
            write_new(&folder.join(format!("{id}.content")), content)?;
            opened.push(id);
        }
        // The description last: where it is, the payload is whole.
        write_new(&folder.join(format!("{id}.payload")), &payload)?;
        write_new(&folder.join(format!("{id}.json")), format!("{:#}\n", record_json(&read)).as_bytes())?;
        exported.push(id);
        if !target.json {
            let content = match content {
                None => String::new(),
                Some(Ok(content)) => format!(", opened: {} bytes", content.len()),
                Some(Err(error)) => format!(", not opened: {error}"),
            };
            writeln!(out, "{id}: {} bytes{content}", payload.len())?;
        }
    }
    let shut = if secrets.is_empty() { 0 } else { exported.len() - opened.len() };
    if target.json {
        writeln!(
            out,
            "{}",
            json!({ "exported": names(exported), "opened": names(opened), "lost": names(&survey.lost) })
        )?;
    } else {
        writeln!(out, "{} exported to {}", count(exported.len(), "record"), folder.display())?;
    }
    match survey.lost.len() {
        lost if lost > 0 && record.is_none() => Err(SurgeryError::NotExported { lost }),
        _ if shut > 0 => Err(SurgeryError::NotOpened { shut }),
        _ => Ok(()),
    }
}

/// Records are about people, so only this user may read the copies.
fn write_new(path: &Path, bytes: &[u8]) -> Result<(), SurgeryError> {
    let write = || {
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
        file.write_all(bytes)?;
        file.sync_all()
    };
    write().map_err(|error| SurgeryError::Output { path: path.to_owned(), error })
}

/// A main server's ledger says where each record is. It is made again from the archive at the next start.
fn put_ledger_aside(data: &Path) -> Result<(), SurgeryError> {
    let folder = data.join(DAMAGED);
    for name in ["ledger.sqlite", "ledger.sqlite-wal", "ledger.sqlite-shm"] {
        let path = data.join(name);
        if path.exists() {
            let moved = fs::create_dir_all(&folder).and_then(|()| fs::rename(&path, folder.join(name)));
            moved.map_err(|error| SurgeryError::Ledger { path, error })?;
        }
    }
    Ok(())
}

/// What a store holds, in the words of the relay.
struct Stat {
    epoch: Option<Epoch>,
    receipts: Vec<SignedReceipt>,
    waiting: usize,
    waiting_bytes: u64,
    /// Held as paper is: a receipt covers them.
    receipted: usize,
    receipted_bytes: u64,
    /// Own captures under numbers of other records: no receipt is for them.
    conflicts: usize,
}

impl Stat {
    fn of(survey: &Survey) -> Self {
        let receipts = receipts(&survey.values);
        let mut known = true;
        let draw = || {
            known = false;
            Epoch::new(1).expect("epochs begin at 1")
        };
        let Identity { epoch, conflicts, .. } = Identity::at_start(&survey.values, draw);
        let me = owner(&survey.values);
        let in_conflict = |id: &RecordId| {
            me.as_ref() == Some(&id.origin) && conflicts.get(&id.epoch).is_some_and(|seqs| seqs.contains(id.seq))
        };
        let mut stat = Self {
            epoch: known.then_some(epoch),
            receipts,
            waiting: 0,
            waiting_bytes: 0,
            receipted: 0,
            receipted_bytes: 0,
            conflicts: survey.ids().filter(|id| in_conflict(id)).count(),
        };
        for id in survey.ids().filter(|id| !in_conflict(id)) {
            let bytes = u64::from(survey.payload_bytes_of(id).unwrap_or(0));
            let (records, sum) = if stat.receipts.iter().any(|receipt| receipt.covers(id)) {
                (&mut stat.receipted, &mut stat.receipted_bytes)
            } else {
                (&mut stat.waiting, &mut stat.waiting_bytes)
            };
            *records += 1;
            *sum += bytes;
        }
        stat
    }

    fn to_json(&self, survey: &Survey) -> Value {
        let receipt = |receipt: &SignedReceipt| {
            let key = receipt.key();
            json!({
                "hub": key.hub.as_str(),
                "origin": key.origin.as_str(),
                "epoch": key.epoch.get(),
                "committed": ranges_json(receipt.committed()),
            })
        };
        json!({
            "segments": survey.segments.len(),
            "spares": survey.spares,
            "file_bytes": survey.file_bytes,
            "live_bytes": survey.segments.values().map(|segment| segment.live_bytes).sum::<u64>(),
            "epoch": self.epoch.map(Epoch::get),
            "waiting": { "records": self.waiting, "payload_bytes": self.waiting_bytes },
            "conflicts": self.conflicts,
            "held": { "records": self.receipted, "payload_bytes": self.receipted_bytes },
            "records": records_json(survey),
            "receipts": self.receipts.iter().map(receipt).collect::<Vec<_>>(),
            "arriving": survey.transfers.len(),
            "damages": survey.damage.len(),
            "lost": survey.lost.len(),
        })
    }
}

fn survey_json(survey: &Survey) -> Value {
    let segments = survey.segments.iter().map(|(generation, segment)| {
        json!({
            "segment": format!("{generation:016x}"),
            "file_bytes": segment.file_bytes,
            "records": segment.records,
            "live_bytes": segment.live_bytes,
            "garbage_bytes": segment.garbage_bytes,
            "sealed": segment.sealed,
            "damages": segment.damages,
        })
    });
    let damage = survey.damage.iter().map(|damage| {
        json!({
            "segment": format!("{:016x}", damage.generation),
            "offset": damage.offset,
            "length": damage.length,
            "record": damage.record.as_ref().map(ToString::to_string),
            "what": damage.what,
        })
    });
    let values =
        survey.values.iter().map(|(key, value)| json!({ "key": key.escape_ascii().to_string(), "bytes": value.len() }));
    let arriving = survey.transfers.iter().map(|transfer| {
        json!({
            "transfer": transfer.transfer.0,
            "record": transfer.record.to_string(),
            "chunks": transfer.chunks,
            "arrived": transfer.arrived,
        })
    });
    json!({
        "clean": survey.is_clean(),
        "segments": segments.collect::<Vec<_>>(),
        "spares": survey.spares,
        "file_bytes": survey.file_bytes,
        "records": records_json(survey),
        "payload_bytes": survey.payload_bytes,
        "values": values.collect::<Vec<_>>(),
        "arriving": arriving.collect::<Vec<_>>(),
        "torn_bytes": survey.torn_bytes,
        "damage": damage.collect::<Vec<_>>(),
        "lost": names(&survey.lost),
    })
}

fn write_survey(survey: &Survey, out: &mut dyn Write) -> Result<(), SurgeryError> {
    for (generation, segment) in &survey.segments {
        let damaged = if segment.damages > 0 { format!(", {} DAMAGED", segment.damages) } else { String::new() };
        writeln!(
            out,
            "{generation:016x}  {} bytes: {} live, {} garbage, {}{damaged}",
            segment.file_bytes,
            segment.live_bytes,
            segment.garbage_bytes,
            count(segment.records, "record"),
        )?;
    }
    let records = survey.ids().count();
    let payloads = mebibytes(survey.payload_bytes);
    writeln!(out, "whole: {}, {payloads} MiB; {}", count(records, "record"), count(survey.values.len(), "value"))?;
    if !survey.transfers.is_empty() {
        writeln!(out, "arriving: {}", count(survey.transfers.len(), "payload"))?;
    }
    if let torn @ 1.. = survey.torn_bytes {
        writeln!(out, "{torn} bytes were being written when the power went; none was promised")?;
    }
    for Damage { generation, offset, length, record, what } in &survey.damage {
        let record = record.as_ref().map(|id| format!(" of record {id}")).unwrap_or_default();
        writeln!(out, "damaged: {what}{record}, {length} bytes at {offset} in {generation:016x}")?;
    }
    write_lost(&survey.lost, out)
}

fn write_lost<'a>(lost: impl IntoIterator<Item = &'a RecordId>, out: &mut dyn Write) -> Result<(), SurgeryError> {
    for id in lost {
        writeln!(out, "lost: {id}")?;
    }
    Ok(())
}

fn record_json(read: &ReadRecord) -> Value {
    let header = read.header.header();
    json!({
        "record": header.id.to_string(),
        "class": header.class.as_str(),
        "kind": header.kind.as_str(),
        "media_type": header.media_type.as_str(),
        "payload_bytes": header.payload_bytes,
        "payload_blake3": header.payload_hash.to_string(),
        "payload_verified": true,
        "captured_at_unix_ms": header.captured_at.0,
        "stored_at_unix_ms": read.stored_at.0,
        "received_from": read.received_from.as_ref().map(estafet_model::NodeId::as_str),
    })
}

fn records_json(survey: &Survey) -> Value {
    let ranges = survey.records.iter().map(|((origin, epoch), ranges)| {
        json!({ "origin": origin.as_str(), "epoch": epoch.get(), "count": ranges.count(), "ranges": ranges_json(ranges) })
    });
    ranges.collect()
}

fn ranges_json(ranges: &SeqRanges) -> Value {
    ranges.pieces().iter().map(|piece| json!([piece.first, piece.last])).collect()
}

fn ranges_text(ranges: &SeqRanges) -> String {
    let piece = |piece: &estafet_model::Range| match (piece.first, piece.last) {
        (first, last) if first == last => first.to_string(),
        (first, last) => format!("{first}-{last}"),
    };
    ranges.pieces().iter().map(piece).collect::<Vec<_>>().join(", ")
}

fn names<'a>(ids: impl IntoIterator<Item = &'a RecordId>) -> Vec<String> {
    ids.into_iter().map(ToString::to_string).collect()
}

fn count(number: usize, what: &str) -> String {
    if number == 1 { format!("1 {what}") } else { format!("{number} {what}s") }
}

fn mebibytes(bytes: u64) -> String {
    format!("{:.1}", bytes as f64 / f64::from(1 << 20))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use bytes::Bytes;
    use estafet_model::{Class, Kind, MediaType, NodeId, PayloadHash, Seq, SigningKey, UnixMillis, sign_batch};
    use estafet_spool::{Append, Log, NewRecord, Payload, SpoolOptions};

    const RECORDS: u32 = 20;

    fn id(seq: u32) -> RecordId {
        format!("rumbai.513.{seq}").parse().unwrap()
    }

    fn payload(seq: u32) -> Bytes {
        Bytes::from(vec![seq.to_le_bytes()[0]; 700])
    }

    fn append(seq: u32) -> Append {
        let header = estafet_model::RecordHeader {
            id: id(seq),
            class: Class::Urgent,
            kind: "ktp-el".parse::<Kind>().unwrap(),
            media_type: MediaType::default(),
            payload_bytes: 700,
            payload_hash: PayloadHash::of(&payload(seq)),
            captured_at: UnixMillis(u64::from(seq)),
        };
        Append::Record(NewRecord {
            header: sign_batch(vec![header], &SigningKey::from_seed([1; 32])).remove(0),
            received_from: seq.is_multiple_of(2).then(|| "sail".parse::<NodeId>().unwrap()),
            stored_at: UnixMillis(9),
            idempotency: None,
            payload: Payload::Inline(payload(seq)),
        })
    }

    /// A stopped relay's store with twenty records, an epoch, and a receipt for the first five.
    fn store() -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        let disk = Arc::new(RealDisk::open(folder.path()).unwrap());
        let (mut log, _) = Log::open(disk, SpoolOptions::default()).unwrap();
        let identity = Identity::at_start(&BTreeMap::new(), || Epoch::new(513).unwrap());
        let key = estafet_model::ReceiptKey {
            hub: "induk".parse().unwrap(),
            origin: "rumbai".parse().unwrap(),
            epoch: identity.epoch,
        };
        let receipt = SignedReceipt::sign(key, 0, SeqRanges::up_to(Seq::new(5)), &SigningKey::from_seed([2; 32]));
        let mut batch = identity.appends();
        batch.push(estafet_store::receipt_append(&receipt));
        batch.extend((1..=RECORDS).map(append));
        assert!(log.commit(batch).iter().all(Result::is_ok));
        log.close();
        folder
    }

    /// Flips a bit in the payload of a record.
    fn damage(folder: &Path, seq: u32) {
        let segment = folder.join("0000000000000001.segment");
        let mut bytes = fs::read(&segment).unwrap();
        let place = bytes.windows(700).position(|window| window == payload(seq)).unwrap();
        bytes[place + 300] ^= 4;
        fs::write(segment, bytes).unwrap();
    }

    fn target(folder: &Path, json: bool) -> Target {
        Target { config: None, data: Some(folder.to_owned()), json }
    }

    fn run(operation: &Operation) -> (Result<(), SurgeryError>, String) {
        let mut out = Vec::new();
        let done = operate(operation, &mut out);
        (done, String::from_utf8(out).unwrap())
    }

    fn export(folder: &Path, record: Option<RecordId>, out: &Path) -> Operation {
        Operation::Export {
            target: target(folder, true),
            all: record.is_none(),
            record,
            out: out.to_owned(),
            seal_keys: None,
        }
    }

    #[test]
    fn a_damaged_store_is_verified_repaired_and_clean_again() {
        let folder = store();
        let verify = |json| run(&Operation::Verify(target(folder.path(), json)));
        let (done, text) = verify(false);
        assert!(done.is_ok() && text.contains("whole: 20 records"), "{text}");
        damage(folder.path(), 7);
        let (done, text) = verify(false);
        assert!(matches!(done, Err(SurgeryError::Damaged { damages: 1, lost: 1, .. })), "{done:?}");
        assert!(text.ends_with("lost: rumbai.513.7\n"), "{text}");
        let answer: Value = serde_json::from_str(&verify(true).1).unwrap();
        assert_eq!(answer["lost"], json!(["rumbai.513.7"]));
        assert_eq!(answer["damage"][0]["record"], "rumbai.513.7");

        let (done, text) = run(&Operation::Repair(target(folder.path(), false)));
        assert!(matches!(done, Err(SurgeryError::NotSaved { lost: 1, .. })), "{done:?}");
        assert!(
            text.starts_with("written anew out of damaged files: 19 records") && text.ends_with("lost: rumbai.513.7\n"),
            "{text}"
        );
        assert!(folder.path().join("damaged/0000000000000001.segment").exists());
        let (done, text) = verify(false);
        assert!(done.is_ok() && text.contains("whole: 19 records"), "{text}");
        let (done, text) = run(&Operation::Repair(target(folder.path(), false)));
        assert!(done.is_ok() && text.starts_with("nothing to repair"), "{text}");
    }

    #[test]
    fn a_repair_puts_the_ledger_aside_because_places_change() {
        let folder = store();
        fs::write(folder.path().join("ledger.sqlite"), "x").unwrap();
        run(&Operation::Repair(target(folder.path(), true))).0.unwrap();
        assert!(folder.path().join("ledger.sqlite").exists(), "nothing is damaged");
        damage(folder.path(), 2);
        let (done, text) = run(&Operation::Repair(target(folder.path(), true)));
        assert!(matches!(done, Err(SurgeryError::NotSaved { lost: 1, .. })), "{done:?}");
        assert!(!folder.path().join("ledger.sqlite").exists());
        assert!(folder.path().join("damaged/ledger.sqlite").exists());
        let answer: Value = serde_json::from_str(&text).unwrap();
        assert_eq!((&answer["saved"], &answer["lost"]), (&json!(19), &json!(["rumbai.513.2"])));
    }

    #[test]
    fn records_are_exported_once_and_never_over_something() {
        let folder = store();
        let out = tempfile::tempdir().unwrap();
        run(&export(folder.path(), Some(id(3)), out.path())).0.unwrap();
        assert_eq!(fs::read(out.path().join("rumbai.513.3.payload")).unwrap(), payload(3));
        let header = fs::read(out.path().join("rumbai.513.3.json")).unwrap();
        let header: Value = serde_json::from_slice(&header).unwrap();
        assert_eq!(header["class"], "urgent");
        assert_eq!(header["kind"], "ktp-el");
        assert_eq!(header["payload_blake3"], blake3::hash(&payload(3)).to_hex().as_str());
        assert_eq!(header["received_from"], Value::Null);
        let (again, _) = run(&export(folder.path(), Some(id(3)), out.path()));
        assert!(matches!(again, Err(SurgeryError::Output { .. })), "{again:?}");
        let (missing, _) = run(&export(folder.path(), Some(id(99)), out.path()));
        assert!(matches!(missing, Err(SurgeryError::NoRecord(_))), "{missing:?}");
        damage(folder.path(), 4);
        let all = out.path().join("all");
        let (done, _) = run(&export(folder.path(), None, &all));
        assert!(matches!(done, Err(SurgeryError::NotExported { lost: 1 })), "{done:?}");
        assert_eq!(fs::read_dir(&all).unwrap().count(), 38, "all that is whole");
    }

    #[test]
    fn stat_tells_what_is_held_with_a_receipt_from_what_waits() {
        let folder = store();
        let (done, text) = run(&Operation::Stat(target(folder.path(), false)));
        done.unwrap();
        for line in
            ["epoch 513", "15 records without a receipt", "5 records with one", "rumbai.513: 1-20", "1 receipt\n"]
        {
            assert!(text.contains(line), "{line} in {text}");
        }
        let answer: Value = serde_json::from_str(&run(&Operation::Stat(target(folder.path(), true))).1).unwrap();
        assert_eq!(answer["held"], json!({ "records": 5, "payload_bytes": 3500 }));
        assert_eq!(answer["records"][0]["ranges"], json!([[1, 20]]));
    }

    #[test]
    fn a_store_in_use_or_missing_is_left_alone() {
        let folder = store();
        let running = RealDisk::open(folder.path()).unwrap();
        let (done, _) = run(&Operation::Verify(target(folder.path(), false)));
        assert!(matches!(done, Err(SurgeryError::Running(_))), "{done:?}");
        drop(running);
        let missing = folder.path().join("elsewhere");
        let (done, _) = run(&Operation::Stat(target(&missing, false)));
        assert!(matches!(done, Err(SurgeryError::NoStore(_))), "{done:?}");
        assert!(!missing.exists(), "a mistyped path makes no store");
    }
}
