//! The server that the tests ask.

use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::pin::Pin;
use std::sync::{Arc, Mutex};

use estafet_admin::v1::admin_client::AdminClient;
use estafet_admin::v1::admin_server::Admin;
use estafet_admin::{Caller, Doorkeeper, Limits, Listeners, Proof, Refusal, bind_unix, serve, v1};
use estafet_model::{PublicKey, SigningKey};
use estafet_tls::Identity;
use estafet_topology::OperatorRole;
use futures_util::Stream;
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use tokio::net::{TcpListener, TcpStream, UnixStream};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio_rustls::TlsConnector;
use tonic::codegen::http::Uri;
use tonic::transport::{Channel, Endpoint};
use tonic::{Request, Response, Status};
use tower::service_fn;

type Reply<T> = Result<Response<T>, Status>;
type Stream1<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

/// Answers with the name of its caller where there is room for a text, and tails for ever.
struct Dummy;

fn name_of<T>(request: &Request<T>) -> String {
    request.extensions().get::<Caller>().map(|caller| caller.name.clone()).unwrap_or_default()
}

#[tonic::async_trait]
impl Admin for Dummy {
    type ListRecordsStream = Stream1<v1::Record>;
    type FetchStream = Stream1<v1::FetchPiece>;
    type WalkChainStream = Stream1<v1::ChainPage>;
    type IncidentStream = Stream1<v1::IncidentFinding>;
    type TailStream = Stream1<v1::Commit>;
    type ReadAuditLogStream = Stream1<v1::AuditLogLines>;

    async fn list_nodes(&self, _: Request<v1::ListNodesRequest>) -> Reply<v1::ListNodesResponse> {
        Ok(Response::new(v1::ListNodesResponse::default()))
    }

    async fn get_network(&self, request: Request<v1::GetNetworkRequest>) -> Reply<v1::Network> {
        Ok(Response::new(v1::Network { seen_from: name_of(&request), ..Default::default() }))
    }

    async fn get_path(&self, _: Request<v1::GetPathRequest>) -> Reply<v1::Path> {
        Ok(Response::new(v1::Path::default()))
    }

    async fn get_record(&self, _: Request<v1::GetRecordRequest>) -> Reply<v1::RecordStatus> {
        Ok(Response::new(v1::RecordStatus::default()))
    }

    async fn list_records(&self, _: Request<v1::ListRecordsRequest>) -> Reply<Self::ListRecordsStream> {
        Ok(Response::new(Box::pin(tokio_stream::empty())))
    }

    async fn audit(&self, _: Request<v1::AuditRequest>) -> Reply<v1::AuditReport> {
        Ok(Response::new(v1::AuditReport::default()))
    }

    async fn retry_quarantine(&self, _: Request<v1::RetryQuarantineRequest>) -> Reply<v1::RetryQuarantineResponse> {
        Ok(Response::new(v1::RetryQuarantineResponse::default()))
    }

    async fn drain(&self, _: Request<v1::DrainRequest>) -> Reply<v1::Standing> {
        Ok(Response::new(v1::Standing::default()))
    }

    async fn undrain(&self, _: Request<v1::UndrainRequest>) -> Reply<v1::Standing> {
        Ok(Response::new(v1::Standing::default()))
    }

    async fn set_power(&self, _: Request<v1::SetPowerRequest>) -> Reply<v1::Standing> {
        Ok(Response::new(v1::Standing::default()))
    }

    async fn push_topology(&self, _: Request<v1::PushTopologyRequest>) -> Reply<v1::PushTopologyResponse> {
        Ok(Response::new(v1::PushTopologyResponse::default()))
    }

    async fn fetch(&self, _: Request<v1::FetchRequest>) -> Reply<Self::FetchStream> {
        Ok(Response::new(Box::pin(tokio_stream::empty())))
    }

    async fn tail(&self, _: Request<v1::TailRequest>) -> Reply<Self::TailStream> {
        Ok(Response::new(Box::pin(tokio_stream::pending())))
    }

    async fn get_receipt(&self, _: Request<v1::GetReceiptRequest>) -> Reply<v1::GetReceiptResponse> {
        Ok(Response::new(v1::GetReceiptResponse::default()))
    }

    async fn list_heads(&self, _: Request<v1::ListHeadsRequest>) -> Reply<v1::ListHeadsResponse> {
        Ok(Response::new(v1::ListHeadsResponse::default()))
    }

    async fn walk_chain(&self, _: Request<v1::WalkChainRequest>) -> Reply<Self::WalkChainStream> {
        Ok(Response::new(Box::pin(tokio_stream::empty())))
    }

    async fn incident(&self, _: Request<v1::IncidentRequest>) -> Reply<Self::IncidentStream> {
        Ok(Response::new(Box::pin(tokio_stream::empty())))
    }

    async fn read_audit_log(&self, _: Request<v1::ReadAuditLogRequest>) -> Reply<Self::ReadAuditLogStream> {
        Ok(Response::new(Box::pin(tokio_stream::empty())))
    }
}

/// Knows whom it was told of, and remembers whom it heard of.
#[derive(Clone, Default)]
pub(crate) struct Door {
    pub(crate) known: Arc<Mutex<Vec<(PublicKey, Caller)>>>,
    pub(crate) refused: Arc<Mutex<Vec<Refusal>>>,
}

impl Doorkeeper for Door {
    fn caller(&self, key: &PublicKey) -> Option<Caller> {
        let known = self.known.lock().unwrap();
        known.iter().find(|(known, _)| known == key).map(|(_, caller)| caller.clone())
    }

    fn refused(&self, refusal: Refusal) {
        self.refused.lock().unwrap().push(refusal);
    }
}

/// A server that knows one holder of each role and a node, until it is stopped.
pub(crate) struct Running {
    pub(crate) address: SocketAddr,
    pub(crate) door: Door,
    pub(crate) stop: oneshot::Sender<()>,
    pub(crate) done: JoinHandle<()>,
    pub(crate) folder: tempfile::TempDir,
}

pub(crate) const NODE: u8 = 1;
pub(crate) const OPERATOR: u8 = 2;
pub(crate) const VIEWER: u8 = 3;
pub(crate) const STRANGER: u8 = 4;
pub(crate) const ADMIN: u8 = 5;
pub(crate) const OTHER_NODE: u8 = 6;

pub(crate) fn key(number: u8) -> SigningKey {
    SigningKey::from_seed([number; 32])
}

pub(crate) fn identity(number: u8) -> Identity {
    Identity::new(&key(number), "test").expect("a key makes a certificate")
}

impl Running {
    pub(crate) async fn start() -> Self {
        // The cells of a table are asked one after the other.
        let calls_per_second = NonZeroU32::new(10_000).unwrap();
        Self::within(Limits { calls_per_second, ..Limits::default() }).await
    }

    pub(crate) async fn within(limits: Limits) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a loopback port");
        let address = listener.local_addr().expect("a bound address");
        let unix = bind_unix(&folder.path().join("admin.sock")).expect("a socket");
        let known = [
            (OPERATOR, "kepala", OperatorRole::Operator),
            (VIEWER, "magang", OperatorRole::Viewer),
            (ADMIN, "dinas", OperatorRole::Admin),
        ];
        let known = known.map(|(number, name, role)| {
            let key = key(number).public();
            (key, Caller { role, name: name.to_owned(), proof: Proof::Operator(key) })
        });
        let node = key(OTHER_NODE).public();
        let node = Caller { role: OperatorRole::Viewer, name: "sail".to_owned(), proof: Proof::Node(node) };
        let door = Door::default();
        door.known.lock().unwrap().extend(known.into_iter().chain([(key(OTHER_NODE).public(), node)]));
        let doorkeeper = door.clone();
        let (stop, stopped) = oneshot::channel::<()>();
        let listeners = Listeners { tcp: Some((listener, identity(NODE))), unix: Some(unix) };
        let done = tokio::spawn(async move {
            let shutdown = async { stopped.await.unwrap_or(()) };
            serve(Dummy, listeners, limits, doorkeeper, shutdown).await.expect("serves until it is stopped");
        });
        Self { address, door, stop, done, folder }
    }

    pub(crate) async fn client(&self, number: u8) -> AdminClient<Channel> {
        AdminClient::connect_tls(self.address, key(NODE).public(), &identity(number)).await.expect("connects")
    }

    /// A connection on which any method can be called.
    pub(crate) async fn channel(&self, number: u8) -> Channel {
        let config = identity(number).client_config(key(NODE).public(), b"h2").unwrap();
        let (connector, address) = (TlsConnector::from(Arc::new(config)), self.address);
        let dial = service_fn(move |_: Uri| {
            let connector = connector.clone();
            async move {
                let stream = TcpStream::connect(address).await?;
                connector.connect(ServerName::from(address.ip()), stream).await.map(TokioIo::new)
            }
        });
        Endpoint::from_static("http://admin.estafet").connect_with_connector(dial).await.unwrap()
    }

    /// The same over the socket.
    pub(crate) async fn local_channel(&self) -> Channel {
        let path = self.folder.path().join("admin.sock");
        let dial = service_fn(move |_: Uri| {
            let path = path.clone();
            async move { UnixStream::connect(path).await.map(TokioIo::new) }
        });
        Endpoint::from_static("http://admin.estafet").connect_with_connector(dial).await.unwrap()
    }

    pub(crate) fn refusals(&self) -> Vec<Refusal> {
        self.door.refused.lock().unwrap().clone()
    }
}
