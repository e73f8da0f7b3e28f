//! A server with a dummy node behind it, asked by operators, strangers and over a Unix socket.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails where it stands")]

mod access;
mod running;

use std::time::Duration;

use estafet_admin::v1::admin_client::AdminClient;
use estafet_admin::{bind_unix, v1};
use tokio::net::TcpStream;
use tonic::Code;
use tonic::transport::Endpoint;
use tonic_reflection::pb::v1::server_reflection_client::ServerReflectionClient;
use tonic_reflection::pb::v1::server_reflection_request::MessageRequest;
use tonic_reflection::pb::v1::server_reflection_response::MessageResponse;
use tonic_reflection::pb::v1::{ListServiceResponse, ServerReflectionRequest};

use crate::running::{NODE, OPERATOR, Running, STRANGER, VIEWER, identity, key};

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
    server.door.known.lock().unwrap().clear();
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
    let channel = Endpoint::from_shared(format!("unix://{}", path.display())).unwrap().connect().await.unwrap();
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
    tokio::time::timeout(Duration::from_secs(5), server.done).await.unwrap().unwrap();
    drop(tail);
}
