//! `topology records`: what each node has, as it says itself.

use std::time::Duration;

use estafet_admin::v1;
use estafet_admin::v1::admin_client::AdminClient;
use serde::Serialize;
use tonic::Status;
use tonic::transport::Channel;

use super::note_silent;
use crate::failure::{Failure, Outcome};
use crate::moment::{Timestamp, age};
use crate::output::{Output, or_dash, or_null};
use crate::reach::Reach;

/// A record at one node.
#[derive(Debug, Serialize)]
pub(crate) struct Held {
    pub(crate) record_id: String,
    pub(crate) slip: String,
    pub(crate) origin: String,
    pub(crate) node: String,
    pub(crate) state: String,
    pub(crate) class: String,
    pub(crate) bytes: u64,
    pub(crate) blake3: String,
    pub(crate) stored: Option<Timestamp>,
    pub(crate) received_from: Option<String>,
    pub(crate) handed_to: Option<String>,
    pub(crate) state_age_ms: Option<u64>,
    pub(crate) reason: Option<String>,
    /// In how long it is tried again by itself.
    pub(crate) next_attempt_ms: Option<u64>,
}

/// All records of one node's listing.
pub(super) async fn listed(
    mut client: AdminClient<Channel>,
    request: v1::ListRecordsRequest,
) -> Result<Vec<Held>, Status> {
    let mut listing = client.list_records(request).await?.into_inner();
    let mut records = Vec::new();
    while let Some(record) = listing.message().await? {
        records.push(Held::from(record));
    }
    Ok(records)
}

/// Lists the records of every node that answers. A record stands once for each node that has a copy.
pub async fn records(
    reach: &Reach,
    state: Option<&str>,
    limit: u32,
    output: &mut Output<'_>,
) -> Result<Outcome, Failure> {
    // One more than is shown tells whether there are more.
    let asked_for = if limit == 0 { 0 } else { limit.saturating_add(1) };
    let request = v1::ListRecordsRequest { state: state.unwrap_or_default().to_owned(), limit: asked_for };
    let mut asked = reach.ask_all(LISTING_TIMEOUT, |client| listed(client, request.clone())).await?;
    note_silent(&asked.silent, output);
    let shown = if limit == 0 { usize::MAX } else { usize::try_from(limit).unwrap_or(usize::MAX) };
    let mut cut_short = Vec::new();
    for (node, records) in &mut asked.answers {
        if records.len() > shown {
            records.truncate(shown);
            cut_short.push(node.clone());
        }
    }
    let records = asked.answers.into_iter().flat_map(|(_, records)| records);
    if output.is_json() {
        for record in records {
            output.object(&record)?;
        }
        note_more(&cut_short, limit, output);
        return Ok(Outcome::Good);
    }
    let rows = records.map(|record| {
        let age = record.state_age_ms.map(age).unwrap_or_default();
        let toward = or_dash(record.handed_to.as_deref().unwrap_or_default());
        let reason = or_dash(record.reason.as_deref().unwrap_or_default());
        let bytes = record.bytes.to_string();
        [record.record_id, record.slip, record.node, record.state, or_dash(&age), toward, bytes, reason]
    });
    let head = ["record", "slip", "at", "state", "since", "to", "bytes", "reason"];
    output.table(head, rows.collect(), "No records.")?;
    note_more(&cut_short, limit, output);
    Ok(Outcome::Good)
}

/// Says that the list is not all there is. A note, because each line of the answer is a record.
fn note_more(cut_short: &[String], limit: u32, output: &mut Output<'_>) {
    if !cut_short.is_empty() {
        let nodes = cut_short.join(", ");
        output.note(format_args!(
            "only the first {limit} of each node are listed, and there are more at {nodes}: --limit 0 lists all"
        ));
    }
}

impl From<v1::Record> for Held {
    fn from(record: v1::Record) -> Self {
        Self {
            record_id: record.record_id,
            slip: record.slip,
            origin: record.origin,
            node: record.node,
            state: record.state,
            class: record.class,
            bytes: record.bytes,
            blake3: record.blake3,
            stored: record.stored_unix_ms.map(Timestamp::of_millis),
            received_from: or_null(record.received_from),
            handed_to: or_null(record.handed_to),
            state_age_ms: record.state_age_ms,
            reason: or_null(record.reason),
            next_attempt_ms: record.next_attempt_ms,
        }
    }
}

/// A hundred thousand records are about 20 MB: a minute over an office's line.
pub(super) const LISTING_TIMEOUT: Duration = Duration::from_secs(60);
