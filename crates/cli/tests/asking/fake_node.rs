//! A node that answers the admin API from a fixed story, behind the real server of `estafet-admin`.

use std::fs;
use std::path::Path;
use std::pin::Pin;

use estafet_admin::v1;
use estafet_admin::v1::admin_server::Admin;
use estafet_admin::{Caller, Limits, Listeners, bind_unix, serve};
use estafet_cli::CityFolder;
use estafet_model::SigningKey;
use estafet_tls::Identity;
use futures_util::stream::{self, Stream, StreamExt};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tonic::{Request, Response, Status};

pub(crate) const PAYLOAD: &[u8] = b"a sealed form";
const STORED_UNIX_MS: u64 = 1_375_786_800_000;

/// A node that runs until it is dropped.
pub(crate) struct FakeNode {
    serving: JoinHandle<()>,
}

impl FakeNode {
    /// Serves where the city's topology says that node `id` is, and tells the story.
    pub(crate) async fn start(dir: &Path, id: &str) -> Self {
        Self::telling(dir, id, |_| {}).await
    }

    /// The same with another map.
    pub(crate) async fn telling(dir: &Path, id: &str, edit: Edit) -> Self {
        let city = CityFolder::open(dir).expect("a city");
        let node = city.topology().nodes[&id.parse().expect("a node id")].clone();
        let folder = city.node_dir(&node.id);
        let key = fs::read_to_string(folder.join("node.key")).expect("a key file");
        let key = SigningKey::from_pem(&key).expect("a key");
        let identity = Identity::new(&key, id).expect("a certificate");
        let listener = TcpListener::bind(node.admin).await.expect("the node's own port");
        let unix = bind_unix(&folder.join("admin.sock")).expect("a socket");
        let listeners = Listeners { tcp: Some((listener, identity)), unix: Some(unix) };
        let story = Story { node: id.to_owned(), is_hub: id == "induk", edit };
        let serving = tokio::spawn(async move {
            let topology = city.topology().clone();
            let callers = move |key: &_| Caller::by_key(&topology, key);
            serve(story, listeners, Limits::default(), callers, std::future::pending()).await.expect("serves");
        });
        Self { serving }
    }
}

impl Drop for FakeNode {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

/// What is other than in the story.
pub(crate) type Edit = fn(&mut v1::Network);

struct Story {
    node: String,
    is_hub: bool,
    edit: Edit,
}

impl Story {
    fn record(&self, id: &str, state: &str) -> v1::Record {
        v1::Record {
            record_id: id.to_owned(),
            slip: "RMB0-0800-0000".to_owned(),
            origin: "rumbai".to_owned(),
            node: self.node.clone(),
            state: state.to_owned(),
            class: "normal".to_owned(),
            bytes: PAYLOAD.len() as u64,
            blake3: blake3::hash(PAYLOAD).to_hex().to_string(),
            stored_unix_ms: Some(STORED_UNIX_MS),
            state_age_ms: Some(3_000),
            ..Default::default()
        }
    }

    fn records(&self) -> Vec<v1::Record> {
        if self.is_hub {
            vec![self.record("rumbai.1.1", "committed")]
        } else {
            vec![self.record("rumbai.1.1", "receipted"), self.record("rumbai.1.2", "waiting")]
        }
    }

    fn node(&self, id: &str, label: &str) -> v1::Node {
        v1::Node { id: id.to_owned(), label: label.to_owned(), state: "serving".to_owned(), ..Default::default() }
    }

    fn commit(&self, id: &str, hub_sequence: u64) -> v1::Commit {
        v1::Commit {
            record_id: id.to_owned(),
            slip: "RMB0-0800-0000".to_owned(),
            origin: "rumbai".to_owned(),
            bytes: PAYLOAD.len() as u64,
            blake3: blake3::hash(PAYLOAD).to_hex().to_string(),
            committed_unix_ms: STORED_UNIX_MS,
            hub_sequence,
        }
    }
}

/// Over a node that drains; the way beside it is gray.
fn dear_path() -> v1::Path {
    let parts = |plain, gray_links, draining_nodes| {
        Some(v1::CostParts { plain, gray_links, draining_nodes, nodes_on_battery: 0 })
    };
    let (gray, draining) = (1 << 18, 1 << 24);
    let hop = |node: &str, cost, step| v1::Hop { node: node.to_owned(), cost, medium: String::new(), step };
    let hops = vec![
        hop("senapelan", 0, None),
        hop("sukajadi", 10, parts(10, 0, 0)),
        hop("induk", 40 + draining, parts(30, 0, 1)),
    ];
    let (cost, cost_parts) = (35 + gray, parts(35, 1, 0));
    let protects = "node".to_owned();
    v1::Path {
        from: "senapelan".to_owned(),
        to: "induk".to_owned(),
        found: true,
        cost: 40 + draining,
        cost_parts: parts(40, 0, 1),
        hops,
        alternates: vec![v1::Alternate { next_hop: "tampan".to_owned(), cost, protects, cost_parts }],
        coverage: None,
    }
}

type Reply<T> = Result<Response<T>, Status>;
type Listing<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

#[tonic::async_trait]
impl Admin for Story {
    type ListRecordsStream = Listing<v1::Record>;
    type FetchStream = Listing<v1::FetchPiece>;
    type TailStream = Listing<v1::Commit>;
    type WalkChainStream = Listing<v1::ChainPage>;
    type IncidentStream = Listing<v1::IncidentFinding>;
    type ReadAuditLogStream = Listing<v1::AuditLogLines>;

    async fn list_nodes(&self, _: Request<v1::ListNodesRequest>) -> Reply<v1::ListNodesResponse> {
        Err(Status::unimplemented("no command asks this"))
    }

    async fn get_network(&self, _: Request<v1::GetNetworkRequest>) -> Reply<v1::Network> {
        let hub = v1::Node {
            role: "hub".to_owned(),
            capture_room_bytes: Some(1 << 30),
            captured_bytes_per_hour: Some(0),
            ..self.node("induk", "Disdukcapil")
        };
        let relay = v1::Node {
            role: "relay".to_owned(),
            next_hop: "sukajadi".to_owned(),
            held: 1,
            last_receipt_unix_ms: Some(STORED_UNIX_MS),
            news_age_ms: Some(3_000),
            cost: Some(20),
            coverage: Some(0.75),
            capture_room_bytes: Some(41 << 30),
            captured_bytes_per_hour: Some(1 << 30),
            ..self.node("rumbai", "Rumbai")
        };
        let link = v1::Link {
            ends: vec!["induk".to_owned(), "sukajadi".to_owned()],
            state: "up".to_owned(),
            cost: 10,
            rtt_ms: Some(1.5),
            medium: "fiber".to_owned(),
            in_use: true,
            ..v1::Link::default()
        };
        let mut network = v1::Network {
            area: "pekanbaru".to_owned(),
            version: 1,
            audit_log_head: Some(v1::AuditLogHead { sequence: 7, hash: "0".repeat(64) }),
            seen_from: self.node.clone(),
            nodes: vec![hub, relay],
            links: vec![link],
        };
        (self.edit)(&mut network);
        Ok(Response::new(network))
    }

    async fn get_path(&self, request: Request<v1::GetPathRequest>) -> Reply<v1::Path> {
        let v1::GetPathRequest { from, to } = request.into_inner();
        if from == "induk" || from == to {
            let hops = vec![v1::Hop { node: from.clone(), ..v1::Hop::default() }];
            return Ok(Response::new(v1::Path { to: from.clone(), from, found: true, hops, ..Default::default() }));
        }
        if from == "senapelan" {
            return Ok(Response::new(dear_path()));
        }
        if !to.is_empty() {
            return Ok(Response::new(v1::Path { from, to, ..Default::default() }));
        }
        let hops = [("rumbai", 0), ("sukajadi", 10), ("induk", 20)];
        let alternate =
            v1::Alternate { next_hop: "senapelan".to_owned(), cost: 25, protects: "node".to_owned(), cost_parts: None };
        Ok(Response::new(v1::Path {
            from,
            to: "induk".to_owned(),
            found: true,
            cost: 20,
            hops: hops.map(|(node, cost)| v1::Hop { node: node.to_owned(), cost, ..v1::Hop::default() }).to_vec(),
            cost_parts: None,
            alternates: vec![alternate],
            coverage: Some(0.75),
        }))
    }

    async fn get_record(&self, request: Request<v1::GetRecordRequest>) -> Reply<v1::RecordStatus> {
        let id = request.into_inner().record;
        let record = self.records().into_iter().find(|record| record.record_id == id);
        let record = record.ok_or_else(|| Status::not_found("this node knows no such record"))?;
        let receipt_hub = if record.state == "receipted" { "induk".to_owned() } else { String::new() };
        Ok(Response::new(v1::RecordStatus { record: Some(record), receipt_hub }))
    }

    async fn list_records(&self, request: Request<v1::ListRecordsRequest>) -> Reply<Self::ListRecordsStream> {
        let v1::ListRecordsRequest { state, limit } = request.into_inner();
        let records = self.records().into_iter().filter(move |record| state.is_empty() || record.state == state);
        let limit = if limit == 0 { usize::MAX } else { limit as usize };
        let records = records.take(limit);
        Ok(Response::new(stream::iter(records.map(Ok).collect::<Vec<_>>()).boxed()))
    }

    async fn audit(&self, _: Request<v1::AuditRequest>) -> Reply<v1::AuditReport> {
        let rumbai = v1::OriginAudit {
            node: "rumbai".to_owned(),
            captured: 3,
            receipted: 1,
            held: 1,
            missing: vec!["rumbai.1.3".to_owned()],
            missing_count: 1,
            news_age_ms: Some(3_000),
            reachable: false,
            held_by: vec![v1::Holder { node: "sukajadi".to_owned(), records: 1 }],
            missing_since_unix_ms: Some(1_700_000_000_000),
            epochs: vec![7, 1],
            conflicts: vec!["rumbai.7.2".to_owned()],
            removed: false,
        };
        let clean = |node: &str, reachable, removed| v1::OriginAudit {
            node: node.to_owned(),
            captured: 4,
            receipted: 4,
            reachable,
            removed,
            ..v1::OriginAudit::default()
        };
        // Two of them know of nothing that is missing, and one of these cannot reach everybody.
        let origins = match self.node.as_str() {
            "sail" => vec![clean("rumbai", true, false), clean("kulim", false, true)],
            "tampan" => vec![clean("rumbai", false, false)],
            _ => vec![rumbai],
        };
        let suspect = v1::Suspect {
            node: "sukajadi".to_owned(),
            records: 12,
            last_age_ms: 5_000,
            shunned_for_ms: Some(3_000_000),
        };
        Ok(Response::new(v1::AuditReport {
            area: "pekanbaru".to_owned(),
            seen_from: self.node.clone(),
            captured: 3,
            receipted: 1,
            held: 1,
            missing: origins.iter().map(|origin| origin.missing_count).sum(),
            committed_twice: 0,
            suspects: if self.node == "rumbai" { vec![suspect] } else { Vec::new() },
            origins,
        }))
    }

    async fn retry_quarantine(
        &self,
        request: Request<v1::RetryQuarantineRequest>,
    ) -> Reply<v1::RetryQuarantineResponse> {
        let all = request.into_inner().record.is_empty();
        Ok(Response::new(v1::RetryQuarantineResponse { retried: u64::from(all) }))
    }

    async fn drain(&self, request: Request<v1::DrainRequest>) -> Reply<v1::Standing> {
        let v1::DrainRequest { node, for_seconds, words } = request.into_inner();
        if node != self.node {
            return Err(Status::failed_precondition(format!("this is `{}`, and `{node}` is meant", self.node)));
        }
        let back_unix_ms = for_seconds.map(|seconds| STORED_UNIX_MS + seconds * 1000);
        let (state, power, reason) = ("draining".to_owned(), "mains".to_owned(), "operator".to_owned());
        Ok(Response::new(v1::Standing { state, power, minutes_left: None, reason, words, back_unix_ms }))
    }

    async fn undrain(&self, _: Request<v1::UndrainRequest>) -> Reply<v1::Standing> {
        let (state, power) = ("serving".to_owned(), "mains".to_owned());
        Ok(Response::new(v1::Standing { state, power, ..v1::Standing::default() }))
    }

    async fn set_power(&self, request: Request<v1::SetPowerRequest>) -> Reply<v1::Standing> {
        let (state, power) = ("serving".to_owned(), request.into_inner().power);
        Ok(Response::new(v1::Standing { state, power, minutes_left: Some(10), ..v1::Standing::default() }))
    }

    async fn push_topology(&self, request: Request<v1::PushTopologyRequest>) -> Reply<v1::PushTopologyResponse> {
        if request.into_inner().signed.starts_with("estafet-topology 1\n") {
            return Ok(Response::new(v1::PushTopologyResponse { version: 2, waits_for_restart: true, known: false }));
        }
        Err(Status::aborted("this is no signed topology"))
    }

    /// `rumbai.1.4` comes too short, and `rumbai.1.5`, which is still sealed, with its letters changed.
    async fn fetch(&self, request: Request<v1::FetchRequest>) -> Reply<Self::FetchStream> {
        let id = request.into_inner().record;
        let sent = match id.as_str() {
            "rumbai.1.1" => PAYLOAD.to_vec(),
            "rumbai.1.4" => PAYLOAD[1..].to_vec(),
            "rumbai.1.5" => PAYLOAD.to_ascii_uppercase(),
            _ => return Err(Status::not_found("no such record is committed here")),
        };
        let head = v1::FetchPiece {
            record: Some(self.record(&id, "committed")),
            bytes: PAYLOAD.len() as u64,
            sealed: id == "rumbai.1.5",
            ..Default::default()
        };
        let pieces = sent.chunks(5).map(|data| v1::FetchPiece { data: data.to_vec(), ..Default::default() });
        let pieces: Vec<_> = std::iter::once(head).chain(pieces).map(Ok).collect();
        Ok(Response::new(stream::iter(pieces).boxed()))
    }

    async fn read_audit_log(
        &self,
        _: Request<v1::ReadAuditLogRequest>,
    ) -> Result<Response<Self::ReadAuditLogStream>, Status> {
        Ok(Response::new(Box::pin(stream::empty())))
    }

    async fn tail(&self, _: Request<v1::TailRequest>) -> Reply<Self::TailStream> {
        let commits = [Ok(self.commit("rumbai.1.1", 1)), Ok(self.commit("rumbai.1.2", 2))];
        Ok(Response::new(stream::iter(commits).chain(stream::pending()).boxed()))
    }

    async fn get_receipt(&self, _: Request<v1::GetReceiptRequest>) -> Reply<v1::GetReceiptResponse> {
        Err(Status::unimplemented("no test asks this"))
    }

    async fn list_heads(&self, _: Request<v1::ListHeadsRequest>) -> Reply<v1::ListHeadsResponse> {
        Err(Status::unimplemented("no test asks this"))
    }

    async fn walk_chain(&self, _: Request<v1::WalkChainRequest>) -> Reply<Self::WalkChainStream> {
        Err(Status::unimplemented("no test asks this"))
    }

    async fn incident(&self, _: Request<v1::IncidentRequest>) -> Reply<Self::IncidentStream> {
        Err(Status::unimplemented("no test asks this"))
    }
}
