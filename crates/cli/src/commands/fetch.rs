//! `topology fetch` and `topology quarantine export`: what a record holds, byte for byte as it was captured; or, from a node
//! that cannot open it, as it travels.

use std::io::Write;
use std::path::Path;
use std::time::Duration;

use estafet_admin::v1;
use serde::Serialize;
use tempfile::NamedTempFile;
use tonic::{Code, Status, Streaming};

use super::question;
use crate::failure::{Failure, Outcome};
use crate::output::Output;
use crate::reach::{NodeClient, Reach};
use crate::record_name::RecordName;
use crate::safe_file;

#[derive(Serialize)]
struct Fetched<'a> {
    record_id: &'a str,
    slip: &'a str,
    origin: &'a str,
    file: &'a Path,
    bytes: u64,
    blake3: &'a str,
    sealed: bool,
    media_type: &'a str,
    kind: &'a str,
    hub: &'a str,
}

/// Fetches a record from the first of these nodes that has it into `out`, which appears only when it is whole.
pub async fn fetch(
    nodes: &Reach,
    record: &RecordName,
    out: &Path,
    output: &mut Output<'_>,
) -> Result<Outcome, Failure> {
    let mut silent = Vec::new();
    let mut not_found = None;
    for hub in nodes.one_by_one() {
        match fetch_from(&hub, record, out, output).await {
            Err(Failure::NobodyAnswered(hub)) => silent.extend(hub),
            Err(Failure::Refused { node, status }) if status.code() == Code::NotFound => {
                not_found = Some(Failure::Refused { node, status });
            }
            done => return done.map(|()| Outcome::Good),
        }
    }
    Err(not_found.unwrap_or(Failure::NobodyAnswered(silent)))
}

async fn fetch_from(hub: &Reach, record: &RecordName, out: &Path, output: &mut Output<'_>) -> Result<(), Failure> {
    let mut hub = hub.first().await?;
    let pieces = hub.client.fetch(question(v1::FetchRequest { record: record.to_string() })).await;
    let mut pieces = pieces.map_err(Failure::refused(&hub.name))?.into_inner();
    let first = next_piece(&mut pieces).await.map_err(Failure::refused(&hub.name))?;
    let first = first.ok_or_else(|| damaged(&hub, "it ended before it began"))?;
    let record = first.record.clone().ok_or_else(|| damaged(&hub, "its first piece names no record"))?;

    let file = safe_file::begin(out).map_err(Failure::write(out))?;
    let mut payload = Payload { file, hash: blake3::Hasher::new(), bytes: 0 };
    payload.append(&first.data).map_err(Failure::write(out))?;
    while let Some(piece) = next_piece(&mut pieces).await.map_err(Failure::refused(&hub.name))? {
        payload.append(&piece.data).map_err(Failure::write(out))?;
        if payload.bytes > first.bytes {
            return Err(damaged(&hub, "it is longer than it was"));
        }
    }
    if payload.bytes != first.bytes {
        return Err(damaged(&hub, &format!("{} of {} bytes came", payload.bytes, first.bytes)));
    }
    let found = payload.hash.finalize().to_hex();
    // What was opened is as it was sealed; what was not has the hash that everybody knows.
    if first.sealed && found.as_str() != record.blake3 {
        return Err(damaged(&hub, &format!("its BLAKE3 is {found}, and was {}", record.blake3)));
    }
    safe_file::finish(payload.file, out).map_err(Failure::write(out))?;

    if output.is_json() {
        output.object(&Fetched {
            record_id: &record.record_id,
            slip: &record.slip,
            origin: &record.origin,
            file: out,
            bytes: payload.bytes,
            blake3: &found,
            sealed: first.sealed,
            media_type: &first.media_type,
            kind: &first.kind,
            hub: &hub.name,
        })?;
    } else {
        let (id, bytes, kind) = (&record.record_id, payload.bytes, &first.media_type);
        let found = if first.sealed { "still sealed: only a main server can open it" } else { "verified" };
        output.line(format_args!("{}: {id}, {bytes} bytes of {kind}, {found}", out.display()))?;
    }
    Ok(())
}

struct Payload {
    file: NamedTempFile,
    hash: blake3::Hasher,
    bytes: u64,
}

impl Payload {
    fn append(&mut self, piece: &[u8]) -> std::io::Result<()> {
        self.hash.update(piece);
        self.bytes += piece.len() as u64;
        self.file.write_all(piece)
    }
}

async fn next_piece(pieces: &mut Streaming<v1::FetchPiece>) -> Result<Option<v1::FetchPiece>, Status> {
    match tokio::time::timeout(PIECE_TIMEOUT, pieces.message()).await {
        Ok(piece) => piece,
        Err(_) => Err(Status::new(Code::DeadlineExceeded, "nothing came for 30 seconds")),
    }
}

fn damaged(hub: &NodeClient, what: &str) -> Failure {
    Failure::Damaged { node: hub.name.clone(), what: what.to_owned() }
}

/// A payload may take its time over a weak link, but not stand still.
const PIECE_TIMEOUT: Duration = Duration::from_secs(30);
