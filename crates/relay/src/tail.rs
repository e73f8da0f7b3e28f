//! A hub's commits as they happen, for one listener.

use std::sync::Arc;

use estafet_admin::v1;
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::mpsc;
use tonic::Status;

use crate::ledger::{Commit, Ledger};
use crate::listing::Names;

/// Commits that are read from the ledger at a time.
const PAGE: u32 = 1_000;

/// First what stands in the ledger, then what happens; a listener that lags behind reads on in the ledger.
pub(crate) struct Tail {
    pub(crate) ledger: Ledger,
    pub(crate) names: Arc<Names>,
    /// The first hub sequence number to tell of; 0 means from now on.
    pub(crate) next: u64,
    pub(crate) sender: mpsc::Sender<Result<v1::Commit, Status>>,
}

/// The listener is gone, or the ledger is.
struct Ended;

impl Tail {
    pub(crate) async fn run(mut self) {
        let mut live = self.ledger.subscribe();
        loop {
            if self.read_ledger().await.is_err() {
                return;
            }
            loop {
                let commit = tokio::select! {
                    commit = live.recv() => commit,
                    () = self.sender.closed() => return,
                };
                match commit {
                    Ok(commit) => {
                        if self.tell(commit).await.is_err() {
                            return;
                        }
                    }
                    Err(RecvError::Lagged(_)) => break,
                    Err(RecvError::Closed) => return,
                }
            }
        }
    }

    async fn read_ledger(&mut self) -> Result<(), Ended> {
        while self.next > 0 {
            let page = self.ledger.from(self.next, PAGE).await.map_err(|_| Ended)?;
            if page.is_empty() {
                break;
            }
            for commit in page {
                self.tell(commit).await?;
            }
        }
        Ok(())
    }

    /// Tells of a commit, unless it was told of before.
    async fn tell(&mut self, commit: Commit) -> Result<(), Ended> {
        if commit.hub_sequence < self.next {
            return Ok(());
        }
        self.next = commit.hub_sequence + 1;
        let commit = v1::Commit {
            record_id: commit.id.to_string(),
            slip: self.names.slip(&commit.id),
            origin: commit.id.origin.to_string(),
            bytes: commit.payload_bytes.into(),
            blake3: commit.payload_hash.to_string(),
            committed_unix_ms: commit.committed_at.0,
            hub_sequence: commit.hub_sequence,
        };
        self.sender.send(Ok(commit)).await.map_err(|_| Ended)
    }
}
