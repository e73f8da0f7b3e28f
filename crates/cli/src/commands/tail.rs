//! `topology tail`: each record as a hub commits it.

use estafet_admin::v1;
use serde::Serialize;

use super::question;
use crate::failure::{Failure, Outcome};
use crate::moment::Timestamp;
use crate::output::Output;
use crate::reach::Reach;

#[derive(Serialize)]
struct Commit {
    record_id: String,
    slip: String,
    origin: String,
    bytes: u64,
    blake3: String,
    time: Timestamp,
    hub_sequence: u64,
}

/// Prints the commits of the first hub that answers, from its number `from` on (0: only new ones), until `stop`.
pub async fn tail(
    hubs: &Reach,
    from: u64,
    stop: impl Future<Output = ()>,
    output: &mut Output<'_>,
) -> Result<Outcome, Failure> {
    let mut hub = hubs.first().await?;
    let commits = hub.client.tail(question(v1::TailRequest { from_hub_sequence: from })).await;
    let mut commits = commits.map_err(Failure::refused(&hub.name))?.into_inner();
    tokio::pin!(stop);
    loop {
        let commit = tokio::select! {
            commit = commits.message() => commit.map_err(Failure::refused(&hub.name))?,
            () = &mut stop => return Ok(Outcome::Good),
        };
        let Some(commit) = commit else {
            output.note(format_args!("{} ended the list", hub.name));
            return Ok(Outcome::Good);
        };
        let commit = Commit::from(commit);
        if output.is_json() {
            output.object(&commit)?;
        } else {
            let Commit { record_id, slip, origin: _, bytes, blake3, time, hub_sequence } = commit;
            output.line(format_args!("{time}  {hub_sequence:>8}  {slip}  {record_id}  {bytes} bytes  {blake3}"))?;
        }
    }
}

impl From<v1::Commit> for Commit {
    fn from(commit: v1::Commit) -> Self {
        Self {
            record_id: commit.record_id,
            slip: commit.slip,
            origin: commit.origin,
            bytes: commit.bytes,
            blake3: commit.blake3,
            time: Timestamp::of_millis(commit.committed_unix_ms),
            hub_sequence: commit.hub_sequence,
        }
    }
}
