//! A server with a dummy node behind it, asked by operators, strangers and over a Unix socket.

use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex};

use estafet_admin::v1::admin_client::AdminClient;
use estafet_admin::v1::admin_server::Admin;
use estafet_admin::{Caller, Listeners, bind_unix, serve, v1};
use estafet_model::{PublicKey, SigningKey};
use estafet_tls::Identity;
use estafet_topology::OperatorRole;
use futures_util::Stream;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tonic::{Code, Request, Response, Status};
use tonic_reflection::pb::v1::server_reflection_client::ServerReflectionClient;
use tonic_reflection::pb::v1::server_reflection_request::MessageRequest;
use tonic_reflection::pb::v1::server_reflection_response::MessageResponse;
use tonic_reflection::pb::v1::{ListServiceResponse, ServerReflectionRequest};

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
    type TailStream = Stream1<v1::Commit>;

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
}

/// A server that knows an operator and a viewer, until it is stopped.
struct Running {
    address: SocketAddr,
    roles: Arc<Mutex<Vec<(PublicKey, Caller)>>>,
    stop: oneshot::Sender<()>,
    done: JoinHandle<()>,
    folder: tempfile::TempDir,
}

const NODE: u8 = 1;
const OPERATOR: u8 = 2;
const VIEWER: u8 = 3;
const STRANGER: u8 = 4;

fn key(number: u8) -> SigningKey {
    SigningKey::from_seed([number; 32])
}

fn identity(number: u8) -> Identity {
    Identity::new(&key(number), "test").expect("a key makes a certificate")
}

impl Running {
    async fn start() -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a loopback port");
        let address = listener.local_addr().expect("a bound address");
        let unix = bind_unix(&folder.path().join("admin.sock")).expect("a socket");
        let caller = |name: &str, role| Caller { role, name: name.to_owned() };
        let roles = Arc::new(Mutex::new(vec![
            (key(OPERATOR).public(), caller("kepala", OperatorRole::Operator)),
            (key(VIEWER).public(), caller("magang", OperatorRole::Viewer)),
        ]));
        let known = Arc::clone(&roles);
        let callers = move |key: &PublicKey| {
            let known = known.lock().expect("nobody panics with it");
            known.iter().find(|(known, _)| known == key).map(|(_, caller)| caller.clone())
        };
        let (stop, stopped) = oneshot::channel::<()>();
        let listeners = Listeners { tcp: Some((listener, identity(NODE))), unix: Some(unix) };
        let done = tokio::spawn(async move {
            let shutdown = async { stopped.await.unwrap_or(()) };
            serve(Dummy, listeners, callers, shutdown).await.expect("serves until it is stopped");
        });
        Self { address, roles, stop, done, folder }
    }

    async fn client(&self, number: u8) -> AdminClient<tonic::transport::Channel> {
        AdminClient::connect_tls(self.address, key(NODE).public(), &identity(number)).await.expect("connects")
    }
}

#[tokio::test]
async fn a_known_key_is_served_under_its_name_and_role() {
    let server = Running::start().await;
    let seen = server.client(OPERATOR).await.get_network(v1::GetNetworkRequest {}).await.unwrap();
    assert_eq!(seen.into_inner().seen_from, "kepala");
    assert!(server.client(OPERATOR).await.fetch(v1::FetchRequest::default()).await.is_ok());

    let mut viewer = server.client(VIEWER).await;
    assert!(viewer.get_network(v1::GetNetworkRequest {}).await.is_ok());
    let refused = viewer.fetch(v1::FetchRequest::default()).await.map(|_| ()).unwrap_err();
    assert_eq!(refused.code(), Code::PermissionDenied);
    assert!(refused.message().contains("needs the role operator"), "{}", refused.message());
}

#[tokio::test]
async fn a_stranger_and_a_false_node_are_refused_while_connecting() {
    let server = Running::start().await;
    let expected = key(NODE).public();
    assert!(AdminClient::connect_tls(server.address, expected, &identity(STRANGER)).await.is_err());
    let false_node = key(STRANGER).public();
    assert!(AdminClient::connect_tls(server.address, false_node, &identity(OPERATOR)).await.is_err());
}

#[tokio::test]
async fn a_revoked_key_is_refused_on_an_open_connection() {
    let server = Running::start().await;
    let mut client = server.client(VIEWER).await;
    server.roles.lock().unwrap().clear();
    let refused = client.list_nodes(v1::ListNodesRequest {}).await.map(|_| ()).unwrap_err();
    assert_eq!(refused.code(), Code::Unauthenticated);
}

#[tokio::test]
async fn a_client_that_never_speaks_holds_up_nobody() {
    let server = Running::start().await;
    let mut silent = Vec::new();
    for _ in 0..20 {
        silent.push(TcpStream::connect(server.address).await.unwrap());
    }
    assert!(server.client(VIEWER).await.list_nodes(v1::ListNodesRequest {}).await.is_ok());
}

#[tokio::test]
async fn the_unix_socket_is_private_and_gives_every_right() {
    use std::os::unix::fs::PermissionsExt;
    let server = Running::start().await;
    let path = server.folder.path().join("admin.sock");
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    let mut client = AdminClient::connect_unix(&path).await.unwrap();
    assert_eq!(client.get_network(v1::GetNetworkRequest {}).await.unwrap().into_inner().seen_from, "local");
    assert!(client.fetch(v1::FetchRequest::default()).await.is_ok());
    assert!(bind_unix(&path).is_ok(), "a socket left behind is replaced");
}

#[tokio::test]
async fn reflection_lists_the_services() {
    let server = Running::start().await;
    let path = server.folder.path().join("admin.sock");
    let channel =
        tonic::transport::Endpoint::from_shared(format!("unix://{}", path.display())).unwrap().connect().await.unwrap();
    let question = ServerReflectionRequest {
        host: String::new(),
        message_request: Some(MessageRequest::ListServices(String::new())),
    };
    let mut answers = ServerReflectionClient::new(channel)
        .server_reflection_info(tokio_stream::once(question))
        .await
        .unwrap()
        .into_inner();
    let answer = answers.message().await.unwrap().and_then(|answer| answer.message_response);
    let Some(MessageResponse::ListServicesResponse(ListServiceResponse { service })) = answer else {
        panic!("no list of services: {answer:?}");
    };
    let names: Vec<String> = service.into_iter().map(|service| service.name).collect();
    for name in ["estafet.admin.v1.Admin", "grpc.health.v1.Health"] {
        assert!(names.iter().any(|listed| listed == name), "{name} is not in {names:?}");
    }
}

#[tokio::test]
async fn a_shutdown_does_not_wait_for_those_who_tail() {
    let server = Running::start().await;
    let mut client = server.client(VIEWER).await;
    let tail = client.tail(v1::TailRequest::default()).await.unwrap();
    server.stop.send(()).unwrap();
    tokio::time::timeout(std::time::Duration::from_secs(5), server.done).await.unwrap().unwrap();
    drop(tail);
}
