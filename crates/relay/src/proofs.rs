//! What a hub gives out so that others can check it without it: receipts of single records, and what its chain is made of.

use estafet_admin::v1;
use estafet_model::{NodeId, RecordId, RecordReceipt, SigningKey};
use tokio::sync::mpsc;
use tonic::Status;

use crate::ledger::{Commit, Ledger, LedgerError};

/// Signs a receipt for a record that is committed here.
pub(crate) async fn receipt(
    ledger: &Ledger,
    id: RecordId,
    hub: NodeId,
    key: SigningKey,
) -> Result<RecordReceipt, Status> {
    let fault = |error: LedgerError| Status::internal(error.to_string());
    let commit = ledger.find(id.clone()).await.map_err(fault)?;
    let commit = commit.ok_or_else(|| Status::not_found(format!("{id} is not committed at {hub}")))?;
    let receipt = ledger.receipt(commit, hub, key).await.map_err(fault)?;
    receipt.ok_or_else(|| {
        Status::data_loss(format!("the ledger is damaged at {id}: move ledger.sqlite away and start again"))
    })
}

/// One walk along the chain.
pub(crate) struct ChainWalk {
    pub(crate) ledger: Ledger,
    pub(crate) hub: NodeId,
    /// The next number.
    pub(crate) next: u64,
    pub(crate) sender: mpsc::Sender<Result<v1::ChainPage, Status>>,
}

impl ChainWalk {
    /// To the end as it is when it is reached, or until nobody listens. The first page is there even if it is empty.
    pub(crate) async fn run(mut self) {
        // Read before: if another chain begins meanwhile, the links do not fit, and whoever walks begins anew.
        let chain = self.ledger.head().map(|head| head.chain.to_string()).unwrap_or_default();
        loop {
            let page = match self.ledger.chained_from(self.next).await {
                Ok(page) => page,
                Err(error) => {
                    let _nobody_listens = self.sender.send(Err(Status::internal(error.to_string()))).await;
                    return;
                }
            };
            let last = page.last().map(|commit| commit.hub_sequence);
            let commits = page.iter().map(chained).collect();
            let page = v1::ChainPage { hub: self.hub.to_string(), chain: chain.clone(), commits };
            if self.sender.send(Ok(page)).await.is_err() {
                return;
            }
            let Some(last) = last else { return };
            self.next = last + 1;
        }
    }
}

fn chained(commit: &Commit) -> v1::ChainedCommit {
    v1::ChainedCommit {
        hub_sequence: commit.hub_sequence,
        record_id: commit.id.to_string(),
        header_digest: commit.digest.0.to_vec(),
        payload_hash: commit.payload_hash.as_bytes().to_vec(),
        payload_bytes: commit.payload_bytes,
    }
}
