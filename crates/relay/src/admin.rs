//! The answers of the admin API: this node's view, put into the API's words.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use estafet_admin::Caller;
use estafet_admin::v1::admin_server::Admin;
use estafet_admin::v1::{
    self, AuditReport, AuditRequest, FetchPiece, FetchRequest, GetNetworkRequest, GetPathRequest, GetRecordRequest,
    ListNodesRequest, ListNodesResponse, ListRecordsRequest, Network, Path, Record, RecordStatus,
    RetryQuarantineRequest, RetryQuarantineResponse, TailRequest,
};
use estafet_model::{NodeId, RecordId, Slip};
use estafet_node::routing::{Words, WordsError};
use estafet_seal::{OpenError, Opening};
use estafet_spool::{Extent, ReadPayload};
use futures_util::Stream;
use tokio::sync::Mutex;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status};
use tracing::info;

use crate::drain::{DrainFile, DrainOrder};
use crate::driver::{Commands, View};
use crate::ledger::Ledger;
use crate::listing::{Listing, Names};
use crate::scrub::unreadable;
use crate::seal::{SealFolder, SealFolderError};
use crate::standing::Supply;
use crate::store::{Store, wall_clock};
use crate::tail::Tail;
use crate::topologies::{NotTaken, Offered, Topologies};
use crate::views::{audit, links, nodes, path, record_status, standing};

type Answers<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

pub(crate) struct AdminService {
    commands: Commands,
    store: Store,
    /// Where a main server's seal keys are.
    seal_folder: SealFolder,
    names: Arc<Names>,
    topologies: Arc<Topologies>,
    /// One order at a time: what is on the disk is what the driver was told last.
    drain_file: Mutex<DrainFile>,
}

impl AdminService {
    pub(crate) fn new(
        commands: Commands,
        store: Store,
        seal_folder: SealFolder,
        me: NodeId,
        topologies: Arc<Topologies>,
        drain_file: DrainFile,
    ) -> Self {
        let names = Arc::new(Names { me, in_force: topologies.in_force() });
        Self { commands, store, seal_folder, names, topologies, drain_file: Mutex::new(drain_file) }
    }

    /// Refuses what is meant for another node: a socket, or a forwarded port, leads where it leads.
    fn is_meant(&self, node: &str) -> Result<(), Status> {
        let me = &self.names.me;
        if node == me.as_str() {
            return Ok(());
        }
        Err(Status::failed_precondition(format!("this is `{me}`, and `{node}` is meant")))
    }

    /// Makes an order durable, then heeds it.
    async fn set_drain(&self, order: Option<DrainOrder>) -> Result<Response<v1::Standing>, Status> {
        let file = self.drain_file.lock().await;
        let path = file.clone();
        let stored = tokio::task::spawn_blocking(move || {
            let order = order.map(|order| order.after(path.load(), wall_clock()));
            path.store(order.as_ref()).map(|()| order)
        });
        let stored = stored.await.map_err(|error| Status::internal(error.to_string()))?;
        let order = stored
            .map_err(|error| Status::internal(format!("the order cannot be kept on this node's disk: {error}")))?;
        self.commands.drain(order).await.map_err(|error| Status::unavailable(error.to_string()))?;
        self.standing().await
    }

    /// What the node says after all that it was told before.
    async fn standing(&self) -> Result<Response<v1::Standing>, Status> {
        Ok(Response::new(self.ask(|view| standing(view.node.router().standing())).await?))
    }

    async fn ask<T: Send + 'static>(
        &self,
        question: impl FnOnce(&View<'_>) -> T + Send + 'static,
    ) -> Result<T, Status> {
        self.commands.ask(question).await.map_err(|error| Status::unavailable(error.to_string()))
    }

    /// A record id from what people type: an id or a slip.
    async fn record_id(&self, text: String) -> Result<RecordId, Status> {
        if let Ok(id) = text.parse::<RecordId>() {
            return Ok(id);
        }
        let slip: Slip = text.parse().map_err(|error: estafet_model::SlipError| {
            Status::invalid_argument(format!("`{text}` is neither a record id nor a slip: {error}"))
        })?;
        let found = self.ask(move |view| view.node.record_of(&slip)).await?;
        found.ok_or_else(|| Status::not_found(format!("no node of this area has the short code {}", slip.code)))
    }

    fn ledger(&self) -> Result<&Ledger, Status> {
        self.store.ledger.as_ref().ok_or_else(|| Status::failed_precondition("this node is no hub: ask a hub"))
    }
}

#[tonic::async_trait]
impl Admin for AdminService {
    async fn list_nodes(&self, _: Request<ListNodesRequest>) -> Result<Response<ListNodesResponse>, Status> {
        Ok(Response::new(ListNodesResponse { nodes: self.ask(nodes).await? }))
    }

    async fn get_network(&self, _: Request<GetNetworkRequest>) -> Result<Response<Network>, Status> {
        let network = self.ask(|view| Network {
            area: view.node.topology().area.clone(),
            version: view.node.topology().version,
            seen_from: view.node.id().to_string(),
            nodes: nodes(view),
            links: links(view.node),
        });
        Ok(Response::new(network.await?))
    }

    async fn get_path(&self, request: Request<GetPathRequest>) -> Result<Response<Path>, Status> {
        let GetPathRequest { from, to } = request.into_inner();
        let path = self.ask(move |view| path(view.node, &from, &to)).await??;
        Ok(Response::new(path))
    }

    async fn get_record(&self, request: Request<GetRecordRequest>) -> Result<Response<RecordStatus>, Status> {
        let id = self.record_id(request.into_inner().record).await?;
        let wanted = id.clone();
        let asked = id.clone();
        let (record, receipt_hub) = self.ask(move |view| record_status(view, &asked)).await?;
        if let Some(ledger) = &self.store.ledger
            && let Some(commit) = ledger.find(id).await.map_err(|error| Status::internal(error.to_string()))?
        {
            let record = Some(self.names.committed(&commit));
            return Ok(Response::new(RecordStatus { record, receipt_hub }));
        }
        let store = self.store.clone();
        let describe = move || store.describe(&wanted, record);
        let record =
            tokio::task::spawn_blocking(describe).await.map_err(|error| Status::internal(error.to_string()))?;
        Ok(Response::new(RecordStatus { record: Some(record), receipt_hub }))
    }

    async fn retry_quarantine(
        &self,
        request: Request<RetryQuarantineRequest>,
    ) -> Result<Response<RetryQuarantineResponse>, Status> {
        let text = request.into_inner().record;
        let only = if text.is_empty() { None } else { Some(self.record_id(text).await?) };
        let chosen = only.clone();
        let retried = self.ask(move |view| {
            let chosen = |id: &RecordId| chosen.as_ref().is_none_or(|chosen| chosen == id);
            view.node.custody().quarantine().filter(|found| chosen(&found.id)).count() as u64
        });
        let retried = retried.await?;
        self.commands.retry(only).await.map_err(|error| Status::unavailable(error.to_string()))?;
        Ok(Response::new(RetryQuarantineResponse { retried }))
    }

    async fn drain(&self, request: Request<v1::DrainRequest>) -> Result<Response<v1::Standing>, Status> {
        let by = caller(&request);
        let v1::DrainRequest { node, for_seconds, words } = request.into_inner();
        self.is_meant(&node)?;
        let words: Words = words.parse().map_err(|error: WordsError| Status::invalid_argument(error.to_string()))?;
        if for_seconds == Some(0) {
            return Err(Status::invalid_argument("a drain lasts longer than no time"));
        }
        info!(by, for_seconds, words = words.as_str(), "an operator drains this node");
        let order = DrainOrder::new(words.as_str(), for_seconds.map(Duration::from_secs), wall_clock());
        self.set_drain(Some(order)).await
    }

    async fn undrain(&self, request: Request<v1::UndrainRequest>) -> Result<Response<v1::Standing>, Status> {
        let by = caller(&request);
        self.is_meant(&request.into_inner().node)?;
        info!(by, "an operator ends the drain of this node");
        self.set_drain(None).await
    }

    async fn set_power(&self, request: Request<v1::SetPowerRequest>) -> Result<Response<v1::Standing>, Status> {
        let by = caller(&request);
        let v1::SetPowerRequest { node, power } = request.into_inner();
        self.is_meant(&node)?;
        let supply = match power.as_str() {
            "mains" => Supply::Mains,
            "battery" => Supply::Battery { minutes_left: None },
            "low" => Supply::Low,
            _ => return Err(Status::invalid_argument(format!("`{power}` is neither mains, battery nor low"))),
        };
        info!(by, power, "an operator tells what this node runs on");
        self.commands.set_supply(supply).await.map_err(|error| Status::unavailable(error.to_string()))?;
        self.standing().await
    }

    async fn push_topology(
        &self,
        request: Request<v1::PushTopologyRequest>,
    ) -> Result<Response<v1::PushTopologyResponse>, Status> {
        let by = caller(&request);
        let offered = self.topologies.offer(&request.into_inner().signed, None).await.map_err(|error| match error {
            NotTaken::NoSuccessor(_) | NotTaken::ShutOut { .. } | NotTaken::SealKeys(_) => {
                Status::aborted(error.to_string())
            }

            NotTaken::NoSealKey { .. } => Status::invalid_argument(error.to_string()),
            NotTaken::Disk(_) | NotTaken::SealFolder(_) => Status::internal(error.to_string()),
            NotTaken::ShuttingDown => Status::unavailable(error.to_string()),
        })?;
        info!(by, ?offered, "an operator has pushed a topology");
        let (version, waits_for_restart, known) = match offered {
            Offered::Known { version } => (version, false, true),
            Offered::Taken { version, at_once } => (version, !at_once, false),
            Offered::Outdated { version, ours } => {
                return Err(Status::aborted(format!("version {ours} is in force, which is newer than {version}")));
            }
        };
        Ok(Response::new(v1::PushTopologyResponse { version, waits_for_restart, known }))
    }

    type ListRecordsStream = Answers<Record>;

    async fn list_records(
        &self,
        request: Request<ListRecordsRequest>,
    ) -> Result<Response<Self::ListRecordsStream>, Status> {
        let ListRecordsRequest { state, limit } = request.into_inner();
        let (sender, records) = tokio::sync::mpsc::channel(256);
        let listing = Listing {
            commands: self.commands.clone(),
            store: self.store.clone(),
            names: Arc::clone(&self.names),
            state,
            left: if limit == 0 { u64::MAX } else { limit.into() },
            sender,
        };
        tokio::spawn(listing.run());
        Ok(Response::new(Box::pin(ReceiverStream::new(records))))
    }

    async fn audit(&self, _: Request<AuditRequest>) -> Result<Response<AuditReport>, Status> {
        Ok(Response::new(self.ask(audit).await?))
    }

    type FetchStream = Answers<FetchPiece>;

    async fn fetch(&self, request: Request<FetchRequest>) -> Result<Response<Self::FetchStream>, Status> {
        let id = self.record_id(request.into_inner().record).await?;
        let commit = match &self.store.ledger {
            Some(ledger) => ledger.find(id.clone()).await.map_err(|error| Status::internal(error.to_string()))?,
            None => None,
        };
        let (record, place) = match commit {
            Some(commit) => (self.names.committed(&commit), Place::Archive(id, commit.extent)),
            None => {
                let wanted = id.clone();
                let (record, _) = self.ask(move |view| record_status(view, &wanted)).await?;
                if matches!(record.state.as_str(), "unknown" | "receipted") {
                    let held = if self.store.ledger.is_some() { "committed" } else { "held" };
                    return Err(Status::not_found(format!("{id} is not {held} at this node")));
                }
                (record, Place::Spool(id))
            }
        };
        let (store, seal_folder, commands) = (self.store.clone(), self.seal_folder.clone(), self.commands.clone());
        let (sender, pieces) = tokio::sync::mpsc::channel(2);
        tokio::task::spawn_blocking(move || {
            let mut read = |piece: Result<FetchPiece, Status>| sender.blocking_send(piece).is_ok();
            if let Err(fault) = read_payload(&store, &seal_folder, &place, record, &mut read) {
                let is_of_disk = matches!(fault, FetchFault::Disk(_));
                read(Err(fault.into()));
                if !is_of_disk {
                    return;
                }
                let told = async {
                    match place {
                        Place::Archive(id, extent) => unreadable(&store, &commands, id, extent).await,
                        // Nobody is left to tell when the driver has ended.
                        Place::Spool(id) => drop(commands.unreadable(id).await),
                    }
                };
                tokio::runtime::Handle::current().block_on(told);
            }
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(pieces))))
    }

    type TailStream = Answers<v1::Commit>;

    async fn tail(&self, request: Request<TailRequest>) -> Result<Response<Self::TailStream>, Status> {
        let ledger = self.ledger()?.clone();
        let from = request.into_inner().from_hub_sequence;
        let (sender, commits) = tokio::sync::mpsc::channel(256);
        tokio::spawn(Tail { ledger, names: Arc::clone(&self.names), next: from, sender }.run());
        Ok(Response::new(Box::pin(ReceiverStream::new(commits))))
    }
}

/// Who asks, for the log.
fn caller<T>(request: &Request<T>) -> String {
    request.extensions().get::<Caller>().map(|caller| caller.name.clone()).unwrap_or_default()
}

/// Where a record is on this node's disk.
enum Place {
    /// Committed.
    Archive(RecordId, Extent),
    /// Held.
    Spool(RecordId),
}

/// Why a payload cannot be given out.
#[derive(Debug, thiserror::Error)]
enum FetchFault {
    #[error("the disk of this node cannot read it: {0}; it is sought from the others, so try again")]
    Disk(#[from] estafet_spool::ReadError),
    #[error("it is here, and cannot be opened: {0}; `estafet-relay seal-key list` there says which there are")]
    Sealed(#[from] OpenError),
    #[error("it is here, and cannot be opened: {0}")]
    NoKeys(#[from] SealFolderError),
}

impl From<FetchFault> for Status {
    fn from(fault: FetchFault) -> Self {
        match fault {
            FetchFault::Disk(_) => Self::data_loss(fault.to_string()),
            FetchFault::Sealed(_) | FetchFault::NoKeys(_) => Self::internal(fault.to_string()),
        }
    }
}

/// Reads a record chunk by chunk; a main server opens it.
fn read_payload(
    store: &Store,
    seal_folder: &SealFolder,
    place: &Place,
    record: Record,
    send: &mut impl FnMut(Result<FetchPiece, Status>) -> bool,
) -> Result<(), FetchFault> {
    let (read, record) = match place {
        Place::Archive(_, extent) => (store.spool.read_extent(*extent)?, record),
        Place::Spool(id) => (store.spool.read(id)?, store.describe(id, record)),
    };
    let header = read.header.header();
    let chunks = match &read.payload {
        ReadPayload::Inline(_) => 1,
        ReadPayload::Chunks(hashes) => u32::try_from(hashes.len()).unwrap_or(u32::MAX),
    };
    let chunk = |index: u32| match (&read.payload, place) {
        (ReadPayload::Inline(bytes), _) => Ok(bytes.clone()),
        (ReadPayload::Chunks(_), Place::Archive(_, extent)) => store.spool.read_chunk_of(*extent, index),
        (ReadPayload::Chunks(_), Place::Spool(id)) => store.spool.read_chunk(id, index),
    };
    let mut first = Some(chunk(0)?);
    let mut opening = match &first {
        Some(chunk) if store.ledger.is_some() => Some(Opening::begin(&seal_folder.load()?, header, chunk)?),
        _ => None,
    };
    let mut piece = FetchPiece {
        record: Some(record),
        media_type: header.media_type.as_str().to_owned(),
        kind: header.kind.as_str().to_owned(),
        bytes: opening.as_ref().map_or(header.payload_bytes.into(), Opening::content_bytes),
        sealed: opening.is_none(),
        data: Vec::new(),
    };
    for index in 0..chunks {
        let bytes = match first.take() {
            Some(bytes) => bytes,
            None => chunk(index)?,
        };
        piece.data = bytes.into();
        if let Some(opening) = &mut opening {
            piece.data = opening.open(&mut piece.data)?.to_vec();
        }
        if !send(Ok(std::mem::take(&mut piece))) {
            break;
        }
    }
    Ok(())
}
