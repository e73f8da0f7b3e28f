//! The answers of the admin API: this node's view, put into the API's words.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use estafet_admin::Caller;
use estafet_admin::v1::admin_server::Admin;
use estafet_admin::v1::{
    self, AuditLogHead, AuditLogLines, AuditReport, AuditRequest, FetchPiece, FetchRequest, GetNetworkRequest,
    GetPathRequest, GetRecordRequest, ListNodesRequest, ListNodesResponse, ListRecordsRequest, Network, Path,
    ReadAuditLogRequest, Record, RecordStatus, RetryQuarantineRequest, RetryQuarantineResponse, TailRequest,
};
use estafet_audit_log::{Event, Who};
use estafet_model::{NodeId, RecordId, SigningKey, Slip, UnixMillis};
use estafet_node::routing::{Words, WordsError};
use estafet_seal::{OpenError, Opening};
use estafet_spool::{Extent, ReadPayload};
use futures_util::{Stream, StreamExt};
use miette::Diagnostic;
use tokio::sync::Mutex;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status};
use tracing::{error, info};

use crate::audit_log::{AuditLog, NotLogged, who};
use crate::drain::{DrainFile, DrainOrder};
use crate::driver::{Commands, View};
use crate::incident::Incident;
use crate::ledger::Ledger;
use crate::listing::{Listing, Names};
use crate::proofs::{self, ChainWalk};
use crate::scrub::unreadable;
use crate::seal::{SealKeys, SealKeysError};
use crate::standing::Supply;
use crate::store::{Store, wall_clock};
use crate::tail::Tail;
use crate::topologies::{NotTaken, Offered, Source, Topologies};
use crate::views::{audit, links, nodes, path, record_status, standing};

type Answers<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

pub(crate) struct AdminService {
    commands: Commands,
    store: Store,
    /// What a main server signs receipts with. A node that gives no promises has none.
    receipt_key: Option<SigningKey>,
    /// Where a main server's seal keys are.
    seal_keys: SealKeys,
    names: Arc<Names>,
    topologies: Arc<Topologies>,
    audit_log: AuditLog,
    /// One order at a time: what is on the disk is what the driver was told last.
    drain_file: Mutex<DrainFile>,
}

/// What it needs of this node's secrets.
pub(crate) struct Keys {
    /// Signs receipts of single records; none at a node that gives no promises.
    pub(crate) receipt_key: Option<SigningKey>,
    /// Opens what is fetched from a main server.
    pub(crate) seal_keys: SealKeys,
}

impl AdminService {
    pub(crate) fn new(
        commands: Commands,
        store: Store,
        keys: Keys,
        me: NodeId,
        topologies: Arc<Topologies>,
        audit_log: AuditLog,
        drain_file: DrainFile,
    ) -> Self {
        let names = Arc::new(Names { me, in_force: topologies.in_force() });
        let Keys { receipt_key, seal_keys } = keys;
        let drain_file = Mutex::new(drain_file);
        Self { commands, store, receipt_key, seal_keys, names, topologies, audit_log, drain_file }
    }

    /// Refuses what is meant for another node: a socket, or a forwarded port, leads where it leads.
    fn is_meant(&self, node: &str) -> Result<(), Status> {
        let me = &self.names.me;
        if node == me.as_str() {
            return Ok(());
        }
        Err(Status::failed_precondition(format!("this is `{me}`, and `{node}` is meant")))
    }

    /// Makes a change that is durable in the audit log; one of which nothing came gets a second line.
    async fn change<T>(&self, event: Event, make: impl Future<Output = Result<T, Status>>) -> Result<T, Status> {
        self.audit_log.write(event.clone()).await.map_err(|error| not_logged(&error))?;
        self.watch(event, make).await
    }

    async fn watch<T>(&self, event: Event, make: impl Future<Output = Result<T, Status>>) -> Result<T, Status> {
        let made = make.await;
        if let Err(status) = &made {
            self.audit_log.note(event.failed(status.message()));
        }
        made
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
            links: links(view.node, wall_clock()),
            audit_log_head: None,
        });
        let head = self.audit_log.head();
        let audit_log_head = head.map(|head| AuditLogHead { sequence: head.sequence, hash: head.hash.to_string() });
        Ok(Response::new(Network { audit_log_head, ..network.await? }))
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
        let by = caller(&request);
        let text = request.into_inner().record;
        let only = if text.is_empty() { None } else { Some(self.record_id(text).await?) };
        let which = only.as_ref().map_or_else(|| "all".to_owned(), ToString::to_string);
        let chosen = only.clone();
        let retried = self.ask(move |view| {
            let chosen = |id: &RecordId| chosen.as_ref().is_none_or(|chosen| chosen == id);
            view.node.custody().quarantine().filter(|found| chosen(&found.id)).count() as u64
        });
        let retried = retried.await?;
        let event = Event::allowed(by, "retry-quarantine").about("record", which);
        let retry = async { self.commands.retry(only).await.map_err(|error| Status::unavailable(error.to_string())) };
        self.change(event, retry).await?;
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
        info!(%by, for_seconds, words = words.as_str(), "an operator drains this node");
        let event = Event::allowed(by, "drain").about("words", words.as_str());
        let event = match for_seconds {
            Some(seconds) => event.about("for_seconds", seconds),
            None => event,
        };
        let order = DrainOrder::new(words.as_str(), for_seconds.map(Duration::from_secs), wall_clock());
        self.change(event, self.set_drain(Some(order))).await
    }

    async fn undrain(&self, request: Request<v1::UndrainRequest>) -> Result<Response<v1::Standing>, Status> {
        let by = caller(&request);
        self.is_meant(&request.into_inner().node)?;
        info!(%by, "an operator ends the drain of this node");
        self.change(Event::allowed(by, "undrain"), self.set_drain(None)).await
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
        info!(%by, power, "an operator tells what this node runs on");
        let event = Event::allowed(by, "set-power").about("power", power);
        if let Err(error) = self.audit_log.write(event.clone()).await {
            // Said when the battery is nearly empty, it must be heeded.
            error!(%error, "what this node runs on is heeded, and is not in the audit log");
        }
        let heed = async {
            self.commands.set_supply(supply).await.map_err(|error| Status::unavailable(error.to_string()))?;
            self.standing().await
        };
        self.watch(event, heed).await
    }

    async fn push_topology(
        &self,
        request: Request<v1::PushTopologyRequest>,
    ) -> Result<Response<v1::PushTopologyResponse>, Status> {
        let by = caller(&request);
        let (signed, source) = (request.into_inner().signed, Source::Operator(by.clone()));
        let offered = self.topologies.offer(&signed, source).await.map_err(|error| match error {
            NotTaken::NoSuccessor(_) | NotTaken::ShutOut { .. } | NotTaken::SealKeys(_) => {
                let remedy = error.help().map(|remedy| format!("; {remedy}")).unwrap_or_default();
                Status::aborted(format!("{error}{remedy}"))
            }
            NotTaken::NoSealKey { .. } => Status::invalid_argument(error.to_string()),
            NotTaken::Disk(_) | NotTaken::Secrets(_) | NotTaken::NotLogged(_) => Status::internal(error.to_string()),
            NotTaken::ShuttingDown => Status::unavailable(error.to_string()),
        })?;
        info!(%by, ?offered, "an operator has pushed a topology");
        let (version, waits_for_restart, known) = match offered {
            Offered::Known { version } => (version, false, true),
            Offered::Taken { version, at_once } => (version, !at_once, false),
            Offered::Outdated { version, ours } => {
                return Err(Status::aborted(format!(
                    "version {ours} is in force, which is newer than {version}; raise `version` in topology.toml above that, \
                     and sign it again"
                )));
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
        let by = caller(&request);
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
        let opened = if self.store.ledger.is_some() { "with this main server's seal key" } else { "no" };
        let event = Event::allowed(by, "fetch").about("record", &record.record_id).about("opened", opened);
        self.audit_log.write(event.clone()).await.map_err(|error| not_logged(&error))?;
        let (store, seal_keys, commands) = (self.store.clone(), self.seal_keys.clone(), self.commands.clone());
        let (sender, pieces) = tokio::sync::mpsc::channel(2);
        let audit_log = self.audit_log.clone();
        tokio::task::spawn_blocking(move || {
            let mut read = |piece: Result<FetchPiece, Status>| sender.blocking_send(piece).is_ok();
            if let Err(fault) = read_payload(&store, &seal_keys, &place, record, &mut read) {
                let is_of_disk = matches!(fault, FetchFault::Disk(_));
                audit_log.note(event.failed(&fault.to_string()));
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

    async fn get_receipt(
        &self,
        request: Request<v1::GetReceiptRequest>,
    ) -> Result<Response<v1::GetReceiptResponse>, Status> {
        let ledger = self.ledger()?;
        let key = self
            .receipt_key
            .clone()
            .ok_or_else(|| Status::failed_precondition("this node runs without durability: it gives no receipt"))?;
        let id = self.record_id(request.into_inner().record).await?;
        let receipt = proofs::receipt(ledger, id, self.names.me.clone(), key).await?;
        Ok(Response::new(v1::GetReceiptResponse { receipt: receipt.to_string() }))
    }

    async fn list_heads(&self, _: Request<v1::ListHeadsRequest>) -> Result<Response<v1::ListHeadsResponse>, Status> {
        let heads = self.ask(|view| view.heads.iter().map(ToString::to_string).collect()).await?;
        Ok(Response::new(v1::ListHeadsResponse { node: self.names.me.to_string(), heads }))
    }

    type WalkChainStream = Answers<v1::ChainPage>;

    async fn walk_chain(
        &self,
        request: Request<v1::WalkChainRequest>,
    ) -> Result<Response<Self::WalkChainStream>, Status> {
        let ledger = self.ledger()?.clone();
        let next = request.into_inner().from_hub_sequence.max(1);
        let (sender, pages) = tokio::sync::mpsc::channel(2);
        tokio::spawn(ChainWalk { ledger, hub: self.names.me.clone(), next, sender }.run());
        Ok(Response::new(Box::pin(ReceiverStream::new(pages))))
    }

    type IncidentStream = Answers<v1::IncidentFinding>;

    async fn incident(&self, request: Request<v1::IncidentRequest>) -> Result<Response<Self::IncidentStream>, Status> {
        let by = caller(&request);
        let v1::IncidentRequest { node, since_unix_ms } = request.into_inner();
        let node: NodeId =
            node.parse().map_err(|error: estafet_model::NameError| Status::invalid_argument(error.to_string()))?;
        // A look, which a full disk is not to forbid.
        self.audit_log.note(Event::allowed(by, "incident").about("node", &node).about("since_unix_ms", since_unix_ms));
        let (sender, findings) = tokio::sync::mpsc::channel(16);
        let incident = Incident {
            node,
            since: UnixMillis(since_unix_ms),
            me: self.names.me.clone(),
            commands: self.commands.clone(),
            ledger: self.store.ledger.clone(),
            in_force: self.names.in_force.clone(),
            sender,
        };
        tokio::spawn(incident.run());
        Ok(Response::new(Box::pin(ReceiverStream::new(findings))))
    }

    type ReadAuditLogStream = Answers<AuditLogLines>;

    async fn read_audit_log(
        &self,
        request: Request<ReadAuditLogRequest>,
    ) -> Result<Response<Self::ReadAuditLogStream>, Status> {
        let from = request.into_inner().from;
        let (sender, lines) = tokio::sync::mpsc::channel(2);
        let log = self.audit_log.clone();
        tokio::task::spawn_blocking(move || log.read(from, &sender));
        let lines = ReceiverStream::new(lines).map(|lines| match lines {
            Ok(lines) => Ok(AuditLogLines { lines: lines.into() }),
            Err(error) => Err(Status::internal(format!("the audit log cannot be read: {error}"))),
        });
        Ok(Response::new(Box::pin(lines)))
    }
}

/// Who asks, for the logs.
fn caller<T>(request: &Request<T>) -> Who {
    request.extensions().get::<Caller>().map_or(Who::Others, who)
}

fn not_logged(error: &NotLogged) -> Status {
    Status::internal(format!("nothing was changed, because it cannot be written into this node's audit log: {error}"))
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
    NoKeys(#[from] SealKeysError),
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
    seal_keys: &SealKeys,
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
        Some(chunk) if store.ledger.is_some() => Some(Opening::begin(&seal_keys.load()?, header, chunk)?),
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
