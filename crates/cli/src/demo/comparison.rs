//! Fetches records back from the main server, which opens them, and compares them with what was sent: the user's files, or
//! one form of each office.

use std::collections::BTreeMap;
use std::time::Duration;

use estafet_admin::v1;
use tokio::time::timeout;

use super::ledger::{Ledger, Promise};
use super::paper::Paper;
use crate::reach::{NodeClient, Reach};

/// What came of it.
#[derive(Debug, Default)]
pub(super) struct Comparison {
    /// Records that the main server has byte for byte.
    pub(super) same: usize,
    /// What is wrong with the others, in words.
    pub(super) faults: Vec<String>,
}

/// Compares every file that has a slip, and one form of each office, one after the other.
pub(super) async fn compare(ledger: &Ledger, hub: &Reach) -> Comparison {
    let mut comparison = Comparison::default();
    let mut compared: BTreeMap<&str, &Promise> = BTreeMap::new();
    for promise in ledger.promises() {
        let name = match promise.paper {
            Paper::File(_) => &promise.accepted.record_id,
            Paper::Form { .. } => &promise.office,
        };
        compared.insert(name, promise);
    }
    if compared.is_empty() {
        return comparison;
    }
    let Ok(mut hub) = hub.first().await else {
        comparison.faults.push("the main server cannot be asked for the records".to_owned());
        return comparison;
    };
    for promise in compared.into_values() {
        match timeout(RECORD_TIMEOUT, is_same(promise, &mut hub)).await {
            Ok(Ok(())) => comparison.same += 1,
            Ok(Err(fault)) => comparison.faults.push(format!("{}: {fault}", promise.accepted.record_id)),
            Err(_) => {
                let id = &promise.accepted.record_id;
                comparison.faults.push(format!("{id}: the main server did not send it within {RECORD_TIMEOUT:?}"));
                return comparison;
            }
        }
    }
    comparison
}

async fn is_same(promise: &Promise, hub: &mut NodeClient) -> Result<(), String> {
    let found = fetch(&promise.accepted.slip, hub).await.map_err(|status| status.message().to_owned())?;
    let sent = promise.paper.read().await.map_err(|error| error.to_string())?;
    if found == sent {
        Ok(())
    } else if blake3::hash(&found).to_hex().as_str() == promise.blake3 {
        Err(format!("{} has changed since it was sent", promise.paper))
    } else {
        Err(format!("the main server has other bytes than {}", promise.paper))
    }
}

async fn fetch(slip: &str, hub: &mut NodeClient) -> Result<Vec<u8>, tonic::Status> {
    let mut pieces = hub.client.fetch(v1::FetchRequest { record: slip.to_owned() }).await?.into_inner();
    let mut bytes = Vec::new();
    while let Some(piece) = pieces.message().await? {
        bytes.extend(piece.data);
    }
    Ok(bytes)
}

/// 16 MiB over loopback take a fraction of a second.
const RECORD_TIMEOUT: Duration = Duration::from_secs(20);
