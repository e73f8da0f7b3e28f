//! `topology quarantine`: records that were set aside, listed, tried again, or taken out to a file.

use std::path::Path;
use std::time::Duration;

use estafet_admin::v1;
use serde::Serialize;

use super::fetch::fetch;
use super::note_silent;
use super::records::{Held, LISTING_TIMEOUT, listed};
use crate::failure::{Failure, Outcome};
use crate::moment::{age, ahead};
use crate::output::{Output, or_dash};
use crate::reach::Reach;
use crate::record_name::RecordName;

/// Lists what is in quarantine at every node that answers.
pub async fn list(reach: &Reach, output: &mut Output<'_>) -> Result<Outcome, Failure> {
    let request = v1::ListRecordsRequest { state: "quarantined".to_owned(), limit: 0 };
    let asked = reach.ask_all(LISTING_TIMEOUT, |client| listed(client, request.clone())).await?;
    note_silent(&asked.silent, output);
    let records: Vec<_> = asked.answers.into_iter().flat_map(|(_, records)| records).collect();
    let outcome = if records.is_empty() { Outcome::Good } else { Outcome::Bad };
    if output.is_json() {
        for record in &records {
            output.object(record)?;
        }
        return Ok(outcome);
    }
    let rows = records.into_iter().map(|record| {
        let since = or_dash(&record.state_age_ms.map(age).unwrap_or_default());
        let next = record.next_attempt_ms.map_or("not by itself".to_owned(), ahead);
        let reason = or_dash(record.reason.as_deref().unwrap_or_default());
        [record.record_id, record.slip, record.node, since, next, record.bytes.to_string(), reason]
    });
    let head = ["record", "slip", "at", "since", "tried again", "bytes", "reason"];
    output.table(head, rows.collect(), "Nothing is in quarantine.")?;
    Ok(outcome)
}

#[derive(Serialize)]
struct Retried {
    node: String,
    retried: u64,
}

/// Tries records in quarantine again, all of them or one.
pub async fn retry(reach: &Reach, record: Option<&RecordName>, output: &mut Output<'_>) -> Result<Outcome, Failure> {
    let request = v1::RetryQuarantineRequest { record: record.map(ToString::to_string).unwrap_or_default() };
    let asked = reach
        .ask_all(RETRY_TIMEOUT, |mut client| {
            let request = request.clone();
            async move { client.retry_quarantine(request).await.map(tonic::Response::into_inner) }
        })
        .await?;
    note_silent(&asked.silent, output);
    let retried: Vec<Retried> =
        asked.answers.into_iter().map(|(node, answer)| Retried { node, retried: answer.retried }).collect();
    let found = retried.iter().any(|node| node.retried > 0);
    if output.is_json() {
        output.object(&retried)?;
    } else {
        for Retried { node, retried } in retried.iter().filter(|node| node.retried > 0) {
            output.line(format_args!(
                "{node}: {retried} tried again; `topology quarantine list` shows what comes of it"
            ))?;
        }
        if !found {
            output.line("No node that answered has that in quarantine.")?;
        }
    }
    Ok(if found || record.is_none() { Outcome::Good } else { Outcome::Bad })
}

/// Takes a record out to a file, from the node that has it in quarantine. Another record may have its id, so no other
/// node is asked.
pub async fn export(
    reach: &Reach,
    record: &RecordName,
    out: &Path,
    output: &mut Output<'_>,
) -> Result<Outcome, Failure> {
    let request = v1::ListRecordsRequest { state: "quarantined".to_owned(), limit: 0 };
    let asked = reach.ask_all(LISTING_TIMEOUT, |client| listed(client, request.clone())).await?;
    note_silent(&asked.silent, output);
    let name = record.to_string();
    let is_it = |found: &Held| found.record_id == name || found.slip == name;
    let has_it = asked.answers.into_iter().filter(|(_, records)| records.iter().any(is_it));
    let nodes: Vec<String> = has_it.map(|(node, _)| node).collect();
    match nodes.as_slice() {
        [] => Err(Failure::NotInQuarantine(record.clone())),
        [node] => fetch(&reach.clone().only(node), record, out, output).await,
        [..] => Err(Failure::InQuarantineTwice { record: record.clone(), nodes: nodes.join(", ") }),
    }
}

const RETRY_TIMEOUT: Duration = Duration::from_secs(10);
