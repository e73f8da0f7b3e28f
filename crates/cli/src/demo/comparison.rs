//! Fetches the user's files back from the main server and compares them.

use estafet_admin::v1;
use tokio::fs;

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
    let files = ledger.promises().filter(|promise| matches!(promise.paper, Paper::File(_)));
    let mut connection = None;
    for promise in files {
        if connection.is_none() {
            connection = hub.first().await.ok();
        }
        match is_same(promise, connection.as_mut()).await {
            Ok(()) => comparison.same += 1,
            Err(fault) => comparison.faults.push(format!("{}: {fault}", promise.accepted.record_id)),
        }
    }
    comparison
}

async fn is_same(promise: &Promise, hub: Option<&mut NodeClient>) -> Result<(), String> {
    let Paper::File(path) = &promise.paper else { return Ok(()) };
    let hub = hub.ok_or("the main server cannot be asked for it")?;
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
