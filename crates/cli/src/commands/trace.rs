//! `topology trace`: where a record is, put together from what every node says.

use std::time::Duration;

use estafet_admin::v1;
use serde::Serialize;
use tonic::{Code, Status};

use super::note_silent;
use super::records::Held;
use crate::failure::{Failure, Outcome};
use crate::moment::{age, ahead};
use crate::output::{Output, or_dash};
use crate::reach::{Asked, Reach};
use crate::record_name::RecordName;

#[derive(Serialize)]
struct Trace {
    record: String,
    record_id: Option<String>,
    slip: Option<String>,
    origin: Option<String>,
    bytes: Option<u64>,
    blake3: Option<String>,
    /// `receipted` (a hub has it), `held` (somebody has it) or `unknown` (to all who answered).
    state: &'static str,
    receipt: Option<Receipt>,
    custodians: Vec<Held>,
    silent: Vec<String>,
}

#[derive(Serialize)]
struct Receipt {
    hub: String,
    told_by: Vec<String>,
}

/// Asks every node for a record and merges the answers.
pub async fn trace(reach: &Reach, record: &RecordName, output: &mut Output<'_>) -> Result<Outcome, Failure> {
    let request = v1::GetRecordRequest { record: record.to_string() };
    let asked = reach
        .ask_all(TRACE_TIMEOUT, |mut client| {
            let request = request.clone();
            async move { client.get_record(request).await.map(tonic::Response::into_inner).or_else(unknown) }
        })
        .await?;
    note_silent(&asked.silent, output);
    let trace = merge(record, asked);
    output.answer(&trace, print)?;
    Ok(if trace.state == "unknown" { Outcome::Bad } else { Outcome::Good })
}

/// A node that knows nothing of a record has answered, too.
fn unknown(status: Status) -> Result<v1::RecordStatus, Status> {
    if status.code() == Code::NotFound { Ok(v1::RecordStatus::default()) } else { Err(status) }
}

fn merge(record: &RecordName, asked: Asked<v1::RecordStatus>) -> Trace {
    let mut receipt: Option<Receipt> = None;
    let mut custodians: Vec<Held> = Vec::new();
    for (node, v1::RecordStatus { record, receipt_hub }) in asked.answers {
        let held = record.filter(|record| !matches!(record.state.as_str(), "" | "unknown")).map(Held::from);
        let commits = held.as_ref().is_some_and(|held| held.state == "committed");
        let hub = if commits && receipt_hub.is_empty() { node.clone() } else { receipt_hub };
        if !hub.is_empty() {
            receipt.get_or_insert_with(|| Receipt { hub, told_by: Vec::new() }).told_by.push(node);
        }
        custodians.extend(held);
    }
    // The wall clocks of offices differ; among equals in time the name decides, so that two looks are alike.
    custodians.sort_by(|left, right| (&left.stored, &left.node).cmp(&(&right.stored, &right.node)));
    let first = custodians.first();
    // A node that has only the receipt does not know the record's length any more.
    let whole = custodians.iter().find(|held| !held.blake3.is_empty());
    Trace {
        record: record.to_string(),
        record_id: first.map(|held| held.record_id.clone()),
        slip: first.map(|held| held.slip.clone()),
        origin: first.map(|held| held.origin.clone()),
        bytes: whole.map(|held| held.bytes),
        blake3: whole.map(|held| held.blake3.clone()),
        state: match (&receipt, first) {
            (Some(_), _) => "receipted",
            (None, Some(_)) => "held",
            (None, None) => "unknown",
        },
        receipt,
        custodians,
        silent: asked.silent.into_iter().map(|silence| silence.node).collect(),
    }
}

fn print(trace: &Trace, output: &mut Output<'_>) -> Result<(), Failure> {
    if let (Some(id), Some(slip)) = (&trace.record_id, &trace.slip) {
        let bytes = trace.bytes.map(|bytes| format!("  {bytes} bytes")).unwrap_or_default();
        output.line(format_args!("{id}  {slip}{bytes}"))?;
    }
    match &trace.receipt {
        Some(Receipt { hub, told_by }) => {
            output.line(format_args!("receipt: {hub} has it for good (says {})", told_by.join(", ")))?;
        }
        None if trace.custodians.is_empty() => {
            let silent = trace.silent.len();
            return output
                .line(format_args!("Nobody who answered knows {}; {silent} nodes did not answer.", trace.record));
        }
        None => output.line("no receipt yet")?,
    }
    output.line("")?;
    // Who has only the receipt is named with it, above. Who knows more has had the record, and may have it still.
    let knows_more = |held: &&Held| held.received_from.is_some() || held.handed_to.is_some() || !held.blake3.is_empty();
    let copies = trace.custodians.iter().filter(|held| held.state != "receipted" || knows_more(held));
    let rows = copies.map(|held| {
        let text = |value: &Option<String>| or_dash(value.as_deref().unwrap_or_default());
        [
            held.node.clone(),
            held.state.clone(),
            or_dash(&held.state_age_ms.map(age).unwrap_or_default()),
            or_dash(&held.stored.map(|at| at.to_string()).unwrap_or_default()),
            text(&held.received_from),
            text(&held.handed_to),
            next_attempt(held),
            text(&held.reason),
        ]
    });
    let head = ["at", "state", "since", "stored", "from", "to", "next attempt", "reason"];
    output.table(head, rows.collect(), "No copy is left to name.")
}

/// When a record is tried again, of its own accord or at the next occasion.
fn next_attempt(held: &Held) -> String {
    match held.next_attempt_ms {
        Some(left) => ahead(left),
        None if held.state == "waiting" => "when a way is free".to_owned(),
        None => or_dash(""),
    }
}

/// One small question; who needs longer is as good as dark for somebody who waits at a counter.
const TRACE_TIMEOUT: Duration = Duration::from_secs(3);
