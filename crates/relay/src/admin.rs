//! The answers of the admin API: this node's view, put into the API's words.

use std::pin::Pin;
use std::sync::Arc;

use estafet_admin::v1::admin_server::Admin;
use estafet_admin::v1::{
    self, AuditReport, AuditRequest, FetchPiece, FetchRequest, GetNetworkRequest, GetPathRequest, GetRecordRequest,
    ListNodesRequest, ListNodesResponse, ListRecordsRequest, Network, Path, Record, RecordStatus, TailRequest,
};
use estafet_model::{NodeId, RecordId, Slip};
use estafet_spool::ReadPayload;
use estafet_topology::Topology;
use futures_util::Stream;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status};

use crate::driver::{Commands, View};
use crate::ledger::{Commit, Ledger};
use crate::listing::{Listing, Names};
use crate::store::Store;
use crate::tail::Tail;
use crate::views::{audit, links, nodes, path, record_status};

type Answers<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

pub(crate) struct AdminService {
    commands: Commands,
    store: Store,
    names: Arc<Names>,
}

impl AdminService {
    pub(crate) fn new(commands: Commands, store: Store, me: NodeId, topology: &Topology) -> Self {
        let codes = topology.nodes.values().map(|node| (node.id.clone(), node.code)).collect();
        Self { commands, store, names: Arc::new(Names { me, codes }) }
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
        let (record, receipt_hub) = self.ask(move |view| record_status(view, &wanted)).await?;
        if let Some(ledger) = &self.store.ledger
            && let Some(commit) = ledger.find(id).await.map_err(|error| Status::internal(error.to_string()))?
        {
            let record = Some(self.names.committed(&commit));
            return Ok(Response::new(RecordStatus { record, receipt_hub }));
        }
        Ok(Response::new(RecordStatus { record: Some(record), receipt_hub }))
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
            ledger: self.store.ledger.clone(),
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
        let ledger = self.ledger()?.clone();
        let id = self.record_id(request.into_inner().record).await?;
        let commit = ledger.find(id.clone()).await.map_err(|error| Status::internal(error.to_string()))?;
        let commit = commit.ok_or_else(|| Status::not_found(format!("{id} is not committed at this hub")))?;
        let record = self.names.committed(&commit);
        let store = self.store.clone();
        let (sender, pieces) = tokio::sync::mpsc::channel(2);
        tokio::task::spawn_blocking(move || {
            let mut read = |piece: Result<FetchPiece, Status>| sender.blocking_send(piece).is_ok();
            let outcome = read_committed(&store, &commit, &record, &mut read);
            if let Err(error) = outcome {
                read(Err(Status::data_loss(format!("the archive cannot be read: {error}"))));
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

fn read_committed(
    store: &Store,
    commit: &Commit,
    record: &Record,
    send: &mut impl FnMut(Result<FetchPiece, Status>) -> bool,
) -> Result<(), estafet_spool::ReadError> {
    let read = store.spool.read_extent(commit.extent)?;
    let header = read.header.header();
    let (media_type, kind) = (header.media_type.as_str().to_owned(), header.kind.as_str().to_owned());
    let first = |data: Vec<u8>| FetchPiece { record: Some(record.clone()), media_type, kind, data };
    match read.payload {
        ReadPayload::Inline(bytes) => drop(send(Ok(first(bytes.to_vec())))),
        ReadPayload::Chunks(hashes) => {
            let count = u32::try_from(hashes.len()).unwrap_or(0);
            let bytes = store.spool.read_chunk_of(commit.extent, 0)?;
            let mut wanted = send(Ok(first(bytes.to_vec())));
            for index in 1..count {
                if !wanted {
                    break;
                }
                let data = store.spool.read_chunk_of(commit.extent, index)?.to_vec();
                wanted = send(Ok(FetchPiece { data, ..FetchPiece::default() }));
            }
        }
    }
    Ok(())
}
