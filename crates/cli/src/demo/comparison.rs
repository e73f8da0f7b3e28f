//! Fetches the user's files back from the main server and compares them.

use std::path::Path;
use std::time::Duration;

use estafet_admin::v1;
use tokio::fs;
use tokio::time::timeout;

use super::ledger::{Ledger, Promise};
use super::paper::Paper;
use crate::reach::{NodeClient, Reach};

/// What came of it.
#[derive(Debug, Default)]
pub(super) struct Comparison {
    /// Files that the main server has byte for byte.
    pub(super) same: usize,
    /// What is wrong with the others, in words.
    pub(super) faults: Vec<String>,
}

/// Compares every file that has a slip, one after the other.
pub(super) async fn compare(ledger: &Ledger, hub: &Reach) -> Comparison {
    let mut comparison = Comparison::default();
    let files = ledger.promises().filter_map(|promise| match &promise.paper {
        Paper::File(path) => Some((promise, path)),
        Paper::Form { .. } => None,
    });
    let mut files = files.peekable();
    if files.peek().is_none() {
        return comparison;
    }
    let Ok(mut hub) = hub.first().await else {
        comparison.faults.push("the main server cannot be asked for the files".to_owned());
        return comparison;
    };
    for (promise, path) in files {
        match timeout(FILE_TIMEOUT, is_same(promise, path, &mut hub)).await {
            Ok(Ok(())) => comparison.same += 1,
            Ok(Err(fault)) => comparison.faults.push(format!("{}: {fault}", promise.accepted.record_id)),
            Err(_) => {
                let id = &promise.accepted.record_id;
                comparison.faults.push(format!("{id}: the main server did not send it within {FILE_TIMEOUT:?}"));
                return comparison;
            }
        }
    }
    comparison
}

async fn is_same(promise: &Promise, path: &Path, hub: &mut NodeClient) -> Result<(), String> {
    let found = fetch(&promise.accepted.slip, hub).await.map_err(|status| status.message().to_owned())?;
    let sent = fs::read(path).await.map_err(|error| format!("{} cannot be read again: {error}", path.display()))?;
    if found == sent {
        Ok(())
    } else if blake3::hash(&found).to_hex().as_str() == promise.blake3 {
        Err(format!("{} has changed since it was sent", path.display()))
    } else {
        Err(format!("the main server has other bytes than {}", path.display()))
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
const FILE_TIMEOUT: Duration = Duration::from_secs(20);
