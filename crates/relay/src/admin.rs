//! The answers of the admin API: this node's view, put into the API's words.

use std::pin::Pin;

use estafet_admin::v1::admin_server::Admin;
use estafet_admin::v1::{
    self, AuditReport, AuditRequest, FetchPiece, FetchRequest, GetNetworkRequest, GetPathRequest, GetRecordRequest,
    Link, ListNodesRequest, ListNodesResponse, ListRecordsRequest, Network, OriginAudit, Path, Record, RecordStatus,
    TailRequest,
};
use estafet_model::{NodeId, RecordId, Slip};
use estafet_node::custody::{RecordState, RecordView, WaitReason};
use estafet_node::routing::{NodeState, Protects, ShortestPaths};
use estafet_node::{Node, Whereabouts};
use estafet_spool::ReadPayload;
use futures_util::Stream;
use tokio::sync::broadcast::error::RecvError;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status};

use crate::driver::{Commands, View};
use crate::ledger::{Commit, Ledger};
use crate::store::Store;

/// Ids of missing records in an answer; the count is always whole.
const MISSING_IDS_MAX: usize = 1_000;

const RECORDS_LIMIT: usize = 10_000;

/// Commits that `Tail` reads from the ledger at a time.
const TAIL_PAGE: u32 = 1_000;

type Answers<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

pub(crate) struct AdminService {
    commands: Commands,
    store: Store,
}

impl AdminService {
    pub(crate) fn new(commands: Commands, store: Store) -> Self {
        Self { commands, store }
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

    async fn slip(&self, id: RecordId) -> Result<String, Status> {
        self.ask(move |view| slip_text(view.node, &id)).await
    }

    async fn committed_record(&self, commit: &Commit) -> Result<Record, Status> {
        let slip = self.slip(commit.id.clone()).await?;
        let node = self.ask(|view| view.node.id().to_string()).await?;
        Ok(Record {
            record_id: commit.id.to_string(),
            slip,
            origin: commit.id.origin.to_string(),
            node,
            state: "committed".to_owned(),
            bytes: commit.payload_bytes.into(),
            blake3: commit.payload_hash.to_string(),
            stored_unix_ms: Some(commit.committed_at.0),
            ..Record::default()
        })
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
            let record = Some(self.committed_record(&commit).await?);
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
        let limit = if limit == 0 { RECORDS_LIMIT } else { (limit as usize).min(RECORDS_LIMIT) };
        let wanted = state.clone();
        let mut records = self
            .ask(move |view| {
                let records = view.node.custody().records().map(|held| held_record(view, &held));
                let records = records.filter(|record| wanted.is_empty() || record.state == wanted);
                records.take(limit).collect::<Vec<Record>>()
            })
            .await?;
        if let Some(ledger) = self.store.ledger.as_ref().filter(|_| state.is_empty() || state == "committed") {
            let commits = ledger.from(1, u32::try_from(limit).unwrap_or(u32::MAX)).await;
            for commit in commits.map_err(|error| Status::internal(error.to_string()))? {
                records.push(self.committed_record(&commit).await?);
            }
        }
        records.truncate(limit);
        Ok(Response::new(Box::pin(tokio_stream::iter(records.into_iter().map(Ok)))))
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
        let record = self.committed_record(&commit).await?;
        let store = self.store.clone();
        let (sender, pieces) = tokio::sync::mpsc::channel(2);
        tokio::task::spawn_blocking(move || {
            let mut read = |piece: Result<FetchPiece, Status>| sender.blocking_send(piece).is_ok();
            let outcome = read_committed(&store, &commit, record, &mut read);
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
        let codes = self
            .ask(|view| {
                view.node
                    .topology()
                    .nodes
                    .values()
                    .map(|node| (node.id.clone(), node.code))
                    .collect::<std::collections::BTreeMap<_, _>>()
            })
            .await?;
        let say = move |commit: Commit| v1::Commit {
            record_id: commit.id.to_string(),
            slip: codes.get(&commit.id.origin).map(|code| commit.id.slip(*code).to_string()).unwrap_or_default(),
            origin: commit.id.origin.to_string(),
            bytes: commit.payload_bytes.into(),
            blake3: commit.payload_hash.to_string(),
            committed_unix_ms: commit.committed_at.0,
            hub_sequence: commit.hub_sequence,
        };
        let (sender, commits) = tokio::sync::mpsc::channel(256);
        let mut live = ledger.subscribe();
        tokio::spawn(async move {
            let mut next = from;
            // First what stands in the ledger, then what happens; a listener that lags reads on in the ledger.
            loop {
                while next > 0 {
                    let Ok(page) = ledger.from(next, TAIL_PAGE).await else { return };
                    if page.is_empty() {
                        break;
                    }
                    for commit in page {
                        next = commit.hub_sequence + 1;
                        if sender.send(Ok(say(commit))).await.is_err() {
                            return;
                        }
                    }
                }
                loop {
                    let commit = tokio::select! {
                        commit = live.recv() => commit,
                        () = sender.closed() => return,
                    };
                    match commit {
                        Ok(commit) if commit.hub_sequence < next => {}
                        Ok(commit) => {
                            next = commit.hub_sequence + 1;
                            if sender.send(Ok(say(commit))).await.is_err() {
                                return;
                            }
                        }
                        Err(RecvError::Lagged(_)) => break,
                        Err(RecvError::Closed) => return,
                    }
                }
            }
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(commits))))
    }
}

fn read_committed(
    store: &Store,
    commit: &Commit,
    record: Record,
    send: &mut impl FnMut(Result<FetchPiece, Status>) -> bool,
) -> Result<(), estafet_spool::ReadError> {
    let read = store.spool.read_extent(commit.extent)?;
    let header = read.header.header();
    let (media_type, kind) = (header.media_type.as_str().to_owned(), header.kind.as_str().to_owned());
    let first = |data: Vec<u8>| FetchPiece { record: Some(record.clone()), media_type, kind, data };
    match read.payload {
        ReadPayload::Inline(bytes) => drop(send(Ok(first(bytes.to_vec())))),
        ReadPayload::Chunks(count) => {
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

fn nodes(view: &View<'_>) -> Vec<v1::Node> {
    let node = view.node;
    let hubs = node.topology().hub_ids().cloned().collect();
    let to_hub = ShortestPaths::toward(node.router().graph(), &hubs);
    node.topology()
        .nodes
        .values()
        .map(|listed| {
            let id = &listed.id;
            let lsa = node.router().lsdb().get(id).map(|signed| signed.lsa());
            let own = id == node.id();
            let state = match lsa {
                None => "unknown",
                Some(_) if !own && !node.router().reachable(id) => "offline",
                Some(lsa) if lsa.state == NodeState::Draining => "draining",
                Some(_) => "serving",
            };
            let held = if own {
                node.custody().held_count()
            } else {
                lsa.and_then(|lsa| lsa.ledger.as_ref()).map_or(0, |ledger| ledger.held.count() + ledger.transit_held)
            };
            let path = to_hub.path(id).filter(|_| state != "offline").unwrap_or_default();
            v1::Node {
                id: id.to_string(),
                code: listed.code.to_string(),
                label: listed.label.clone(),
                role: listed.role.to_string(),
                state: state.to_owned(),
                next_hop: next_hop_on(&path, id).map(ToString::to_string).unwrap_or_default(),
                held,
                last_receipt_unix_ms: view.last_receipts.get(id).map(|at| at.0),
                news_age_ms: news_age(view, id),
                cost: to_hub.cost(id).filter(|_| state != "offline").map(|cost| cost.0),
            }
        })
        .collect()
}

/// The node after `id` on a path that begins or ends with it.
fn next_hop_on<'a>(path: &'a [NodeId], id: &NodeId) -> Option<&'a NodeId> {
    match path {
        [first, second, ..] if first == id => Some(second),
        [.., second, last] if last == id => Some(second),
        _ => None,
    }
}

fn news_age(view: &View<'_>, id: &NodeId) -> Option<u64> {
    if id == view.node.id() {
        return Some(0);
    }
    view.last_news.get(id).map(|at| millis(view.now.since(*at)))
}

fn millis(span: std::time::Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}

fn links(node: &Node) -> Vec<Link> {
    let lsdb = node.router().lsdb();
    let adjacency = |from: &NodeId, to: &NodeId| lsdb.get(from)?.lsa().adjacency(to).cloned();
    node.topology()
        .links
        .iter()
        .map(|link| {
            let [one, other] = &link.ends;
            let (there, back) = (adjacency(one, other), adjacency(other, one));
            let heard_of_both = lsdb.get(one).is_some() && lsdb.get(other).is_some();
            let state = match (&there, &back) {
                (Some(_), Some(_)) => "up",
                _ if heard_of_both => "down",
                _ => "unknown",
            };
            let rtt = [&there, &back]
                .into_iter()
                .flatten()
                .map(|adjacency| adjacency.rtt_micros)
                .filter(|rtt| *rtt > 0)
                .min();
            Link {
                ends: vec![one.to_string(), other.to_string()],
                state: state.to_owned(),
                cost: there.map_or(link.cost.0, |adjacency| adjacency.cost.0),
                rtt_ms: rtt.filter(|_| state == "up").map(|micros| f64::from(micros) / 1000.0),
                medium: link.medium.to_string(),
            }
        })
        .collect()
}

fn path(node: &Node, from: &str, to: &str) -> Result<Path, Status> {
    let known = |text: &str| -> Result<NodeId, Status> {
        let id = text.parse::<NodeId>().ok().filter(|id| node.topology().node(id).is_some());
        id.ok_or_else(|| Status::not_found(format!("the topology lists no node `{text}`")))
    };
    let from = if from.is_empty() { node.id().clone() } else { known(from)? };
    let hubs = node.topology().hub_ids().cloned().collect();
    let route = if to.is_empty() {
        if node.topology().hub_ids().any(|hub| *hub == from) {
            let itself = v1::Hop { node: from.to_string(), cost: 0 };
            let (from, to) = (from.to_string(), from.to_string());
            return Ok(Path { from, to, found: true, cost: 0, hops: vec![itself], alternates: Vec::new() });
        }
        estafet_node::routing::routes_to_nearest(node.router().graph(), &from, &hubs)
    } else {
        node.router().route_from(&from, &known(to)?)
    };
    let Some(route) = route else {
        return Ok(Path { from: from.to_string(), to: to.to_owned(), ..Path::default() });
    };
    let from_start = ShortestPaths::from(node.router().graph(), &from);
    let hops = route
        .path
        .iter()
        .map(|hop| v1::Hop { node: hop.to_string(), cost: from_start.cost(hop).map_or(0, |cost| cost.0) });
    let alternates = route.alternates.iter().map(|alternate| v1::Alternate {
        next_hop: alternate.next_hop.to_string(),
        cost: alternate.cost.0,
        protects: match alternate.protects {
            Protects::Node => "node".to_owned(),
            Protects::Link => "link".to_owned(),
        },
    });
    Ok(Path {
        from: from.to_string(),
        to: route.destination.to_string(),
        found: true,
        cost: route.cost.0,
        hops: hops.collect(),
        alternates: alternates.collect(),
    })
}

fn slip_text(node: &Node, id: &RecordId) -> String {
    node.slip(id).map(|slip| slip.to_string()).unwrap_or_default()
}

fn record_status(view: &View<'_>, id: &RecordId) -> (Record, String) {
    let hub = view.node.custody().receipt_hub(id).map(ToString::to_string).unwrap_or_default();
    let record = match view.node.whereabouts(id) {
        Whereabouts::Held(held) => held_record(view, &held),
        Whereabouts::Receipted { .. } => bare_record(view.node, id, "receipted"),
        Whereabouts::Unknown => bare_record(view.node, id, "unknown"),
    };
    (record, hub)
}

fn bare_record(node: &Node, id: &RecordId, state: &str) -> Record {
    Record {
        record_id: id.to_string(),
        slip: slip_text(node, id),
        origin: id.origin.to_string(),
        node: node.id().to_string(),
        state: state.to_owned(),
        ..Record::default()
    }
}

fn held_record(view: &View<'_>, held: &RecordView<'_>) -> Record {
    let record = held.record;
    let (state, handed_to, reason) = match held.state {
        RecordState::Waiting { why, .. } => ("waiting", String::new(), wait_reason(view, why)),
        RecordState::Offered { to } => ("offered", to.to_string(), String::new()),
        RecordState::Accepted { by } => ("accepted", by.to_string(), String::new()),
    };
    Record {
        class: record.class.to_string(),
        bytes: record.payload_bytes.into(),
        blake3: record.payload_hash.to_string(),
        stored_unix_ms: Some(record.stored_at.0),
        received_from: record.received_from.as_ref().map(ToString::to_string).unwrap_or_default(),
        handed_to,
        state_age_ms: Some(millis(view.now.since(held.since))),
        reason,
        ..bare_record(view.node, &record.id, state)
    }
}

fn wait_reason(view: &View<'_>, why: &WaitReason) -> String {
    match why {
        WaitReason::Turn if view.node.router().next_hops().is_empty() => "no way to a hub now".to_owned(),
        WaitReason::Turn => "waits for its turn".to_owned(),
        WaitReason::NeighborLost(neighbor) => format!("{neighbor} had it and is gone"),
        WaitReason::AskedToWait(neighbor) => format!("{neighbor} asked for time"),
        WaitReason::Refused(neighbor, reason) => format!("{neighbor} refuses it: {}", reason.as_str()),
        WaitReason::Returned(neighbor) => format!("{neighbor} handed it back"),
        WaitReason::Unreadable => "this node's disk cannot read it".to_owned(),
    }
}

fn audit(view: &View<'_>) -> AuditReport {
    let report = view.node.audit();
    let origins: Vec<OriginAudit> = report
        .origins
        .iter()
        .map(|origin| OriginAudit {
            node: origin.node.to_string(),
            captured: origin.captured,
            receipted: origin.receipted,
            held: origin.held,
            missing: origin.missing.iter().take(MISSING_IDS_MAX).map(ToString::to_string).collect(),
            missing_count: origin.missing.len() as u64,
            news_age_ms: news_age(view, &origin.node),
        })
        .collect();
    let sum = |part: fn(&OriginAudit) -> u64| origins.iter().map(part).sum();
    AuditReport {
        area: view.node.topology().area.clone(),
        seen_from: view.node.id().to_string(),
        captured: sum(|origin| origin.captured),
        receipted: sum(|origin| origin.receipted),
        held: sum(|origin| origin.held),
        missing: sum(|origin| origin.missing_count),
        committed_twice: report.committed_twice,
        origins,
    }
}
