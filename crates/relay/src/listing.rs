//! Records as a list, however long: a page at a time, so that neither the driver nor memory is held up by it.

use std::sync::Arc;

use estafet_admin::v1::Record;
use estafet_model::{NodeId, RecordId};
use estafet_topology::Topology;
use tokio::sync::{mpsc, watch};
use tonic::Status;

use crate::driver::Commands;
use crate::ledger::Commit;
use crate::store::Store;
use crate::views::held_record;

/// Records that are asked for at a time: a millisecond of the driver.
const PAGE: u32 = 500;

/// What a committed record is called, without asking the node.
pub(crate) struct Names {
    pub(crate) me: NodeId,
    pub(crate) in_force: watch::Receiver<Arc<Topology>>,
}

impl Names {
    pub(crate) fn slip(&self, id: &RecordId) -> String {
        let topology = self.in_force.borrow();
        topology.node(&id.origin).map(|node| id.slip(node.code).to_string()).unwrap_or_default()
    }

    pub(crate) fn committed(&self, commit: &Commit) -> Record {
        Record {
            record_id: commit.id.to_string(),
            slip: self.slip(&commit.id),
            origin: commit.id.origin.to_string(),
            node: self.me.to_string(),
            state: "committed".to_owned(),
            class: commit.class.to_string(),
            bytes: commit.payload_bytes.into(),
            blake3: commit.payload_hash.to_string(),
            stored_unix_ms: Some(commit.committed_at.0),
            received_from: commit.received_from.as_ref().map(ToString::to_string).unwrap_or_default(),
            ..Record::default()
        }
    }
}

/// One listing: the records in custody, then, at a hub, what is committed.
pub(crate) struct Listing {
    pub(crate) commands: Commands,
    pub(crate) store: Store,
    pub(crate) names: Arc<Names>,
    /// Empty: every state.
    pub(crate) state: String,
    /// How many more may be listed.
    pub(crate) left: u64,
    pub(crate) sender: mpsc::Sender<Result<Record, Status>>,
}

/// The listener is gone, or has all it asked for.
struct Ended;

impl Listing {
    pub(crate) async fn run(mut self) {
        if self.held().await.is_ok() && self.lost().await.is_ok() {
            // Ended or not, there is nothing behind it.
            let _ = self.committed().await;
        }
    }

    async fn held(&mut self) -> Result<(), Ended> {
        let mut after: Option<RecordId> = None;
        loop {
            let from = after.take();
            let page = self.commands.ask(move |view| {
                let records = view.node.custody().records_after(from.as_ref()).take(PAGE as usize);
                records.map(|held| (held.id.clone(), held_record(view, &held))).collect::<Vec<_>>()
            });
            let page = page.await.map_err(|_| Ended)?;
            let Some((last, _)) = page.last() else { return Ok(()) };
            after = Some(last.clone());
            self.list_held(page).await?;
        }
    }

    /// What is lost is not held, but in quarantine it is listed beside what is.
    async fn lost(&mut self) -> Result<(), Ended> {
        let lost = self.commands.ask(|view| {
            let lost = view.node.custody().quarantine().filter(|found| view.node.custody().lost(&found.id).is_some());
            lost.map(|found| (found.id.clone(), held_record(view, &found))).collect::<Vec<_>>()
        });
        self.list_held(lost.await.map_err(|_| Ended)?).await
    }

    async fn list_held(&mut self, records: Vec<(RecordId, Record)>) -> Result<(), Ended> {
        let wanted = |record: &Record| self.state.is_empty() || record.state == self.state;
        let wanted: Vec<_> = records.into_iter().filter(|(_, record)| wanted(record)).collect();
        let store = self.store.clone();
        let describe = move || wanted.into_iter().map(|(id, record)| store.describe(&id, record)).collect::<Vec<_>>();
        for record in tokio::task::spawn_blocking(describe).await.map_err(|_| Ended)? {
            self.list(Ok(record)).await?;
        }
        Ok(())
    }

    async fn committed(&mut self) -> Result<(), Ended> {
        let Some(ledger) = self.store.ledger.clone() else { return Ok(()) };
        if !self.state.is_empty() && self.state != "committed" {
            return Ok(());
        }
        let mut next = 1;
        loop {
            let page = match ledger.from(next, PAGE).await {
                Ok(page) => page,
                Err(error) => return self.list(Err(Status::internal(error.to_string()))).await,
            };
            let Some(last) = page.last() else { return Ok(()) };
            next = last.hub_sequence + 1;
            for commit in &page {
                self.list(Ok(self.names.committed(commit))).await?;
            }
        }
    }

    async fn list(&mut self, record: Result<Record, Status>) -> Result<(), Ended> {
        self.left = self.left.checked_sub(1).ok_or(Ended)?;
        self.sender.send(record).await.map_err(|_| Ended)
    }
}
