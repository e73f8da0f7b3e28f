//! `topology audit-log` and `topology verify audit-log`: who changed what at a node, kept elsewhere and checked there.

use std::fs::File;
use std::io::{Read, Write};
use std::path::Path;
use std::time::Duration;

use estafet_admin::v1;
use estafet_audit_log::{BadLine, Chain, Line, LineHash, Verified};
use estafet_model::{NodeId, PublicKey};
use estafet_topology::Topology;
use serde::Serialize;
use tokio::time::timeout;
use tonic::{Code, Request, Status, Streaming};

use crate::failure::{Failure, Outcome};
use crate::output::Output;
use crate::reach::Reach;
use crate::safe_file;

/// Far more than a node keeps.
const FILE_BYTES_MAX: u64 = 1 << 30;

/// A log may take its time over a weak link, but not stand still.
const PIECE_TIMEOUT: Duration = Duration::from_secs(30);

#[derive(Serialize)]
struct Brought<'a> {
    node: &'a str,
    file: &'a Path,
    lines: u64,
}

#[derive(Serialize)]
struct Judged {
    node: String,
    good: bool,
    /// The number of the first line; null if the log is bad.
    first: Option<u64>,
    /// The number of the last line; null if the log is bad.
    last: Option<u64>,
    /// The hash of the last line, to be noted; null if the log is bad.
    head: Option<String>,
    /// The line of the file, from 1, that is the first bad one; null if there is none.
    bad_line: Option<u64>,
    /// What is wrong with it.
    fault: Option<String>,
}

/// Brings a node's log from line `from` on, to a file or to standard output.
pub async fn bring(node: &Reach, from: u64, out: Option<&Path>, output: &mut Output<'_>) -> Result<Outcome, Failure> {
    let mut node = node.first().await?;
    let lines = node.client.read_audit_log(Request::new(v1::ReadAuditLogRequest { from })).await;
    let mut lines = lines.map_err(Failure::refused(&node.name))?.into_inner();
    let Some(out) = out else {
        while let Some(piece) = next_piece(&mut lines).await.map_err(Failure::refused(&node.name))? {
            output.answers().write_all(&piece).map_err(Failure::Output)?;
        }
        return Ok(Outcome::Good);
    };
    let mut file = safe_file::begin(out).map_err(Failure::write(out))?;
    let mut count = 0;
    while let Some(piece) = next_piece(&mut lines).await.map_err(Failure::refused(&node.name))? {
        count += piece.iter().filter(|byte| **byte == b'\n').count() as u64;
        file.write_all(&piece).map_err(Failure::write(out))?;
    }
    safe_file::finish(file, out).map_err(Failure::write(out))?;
    let brought = Brought { node: &node.name, file: out, lines: count };
    output.answer(&brought, |Brought { node, file, lines }, output| {
        output.line(format_args!("{}: {lines} lines of {node}'s audit log", file.display()))
    })?;
    Ok(Outcome::Good)
}

async fn next_piece(lines: &mut Streaming<v1::AuditLogLines>) -> Result<Option<Vec<u8>>, Status> {
    let piece = timeout(PIECE_TIMEOUT, lines.message()).await;
    let piece = piece.map_err(|_| Status::new(Code::DeadlineExceeded, "nothing came for 30 seconds"))??;
    Ok(piece.map(|piece| piece.lines))
}

/// Judges a log by the keys that its node has and had.
pub fn verify(
    path: &Path,
    topology: &Topology,
    head: Option<LineHash>,
    from: Option<u64>,
    output: &mut Output<'_>,
) -> Result<Outcome, Failure> {
    let mut text = Vec::new();
    let read = File::open(path).and_then(|file| file.take(FILE_BYTES_MAX).read_to_end(&mut text));
    read.map_err(Failure::read(path))?;
    let (node, keys) = owner(path, &text, topology)?;
    let verdict = Chain::new(node.clone(), keys).with_head(head).verify(&text, from);
    let judged = Judged::new(&node, &verdict);
    output.answer(&judged, |_, output| match &verdict {
        Ok(Verified { first, head, .. }) => output.line(format_args!(
            "{node}: lines {first} to {} are as they were written; the head is {}",
            head.sequence, head.hash
        )),
        Err(bad) => output.line(format_args!("{node}: {} is not as it was written: {bad}", path.display())),
    })?;
    Ok(if judged.good { Outcome::Good } else { Outcome::Bad })
}

/// Whose log it is, by the first line that can be read, and with which keys it may be signed. A machine that was replaced
/// has signed with the key that it had.
fn owner(path: &Path, text: &[u8], topology: &Topology) -> Result<(NodeId, Vec<PublicKey>), Failure> {
    let none = |what: String| Failure::NoAuditLog { path: path.to_owned(), what };
    let node = text.split(|byte| *byte == b'\n').find_map(|line| Line::decode(line).ok().map(|line| line.entry.node));
    let node = node.ok_or_else(|| none("it has no line of one".to_owned()))?;
    let now = topology.node(&node).map(|node| node.key);
    let former = topology.former_nodes.iter().filter(|former| former.id == node).map(|former| former.key);
    let keys: Vec<PublicKey> = now.into_iter().chain(former).collect();
    if keys.is_empty() {
        return Err(none(format!("there is no node `{node}`")));
    }
    Ok((node, keys))
}

impl Judged {
    fn new(node: &NodeId, verdict: &Result<Verified, BadLine>) -> Self {
        let (good, bad) = (verdict.as_ref().ok(), verdict.as_ref().err());
        Self {
            node: node.to_string(),
            good: good.is_some(),
            first: good.map(|verified| verified.first),
            last: good.map(|verified| verified.head.sequence),
            head: good.map(|verified| verified.head.hash.to_string()),
            bad_line: bad.map(|bad| bad.place),
            fault: bad.map(|bad| bad.fault.to_string()),
        }
    }
}
