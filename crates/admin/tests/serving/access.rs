//! Who may call what, how often, and who hears of those who may not.

use std::num::NonZeroU32;
use std::time::Duration;

use estafet_admin::v1::admin_client::AdminClient;
use estafet_admin::{Caller, Limits, Proof, Refusal, Refused, WhyRefused, v1};
use estafet_topology::OperatorRole;
use tonic::client::Grpc;
use tonic::codegen::http::uri::PathAndQuery;
use tonic::transport::Channel;
use tonic::{Code, Request};
use tonic_prost::ProstCodec;

use crate::running::{ADMIN, NODE, OPERATOR, OTHER_NODE, Running, STRANGER, VIEWER, identity, key};

/// Calls a method by its path, with an empty message.
async fn call(channel: &Channel, path: &str) -> Code {
    let mut client = Grpc::new(channel.clone());
    client.ready().await.unwrap();
    let path = PathAndQuery::try_from(path).unwrap();
    // On the wire one answer is a stream of one.
    let answer = client.server_streaming(Request::new(()), path, ProstCodec::<(), ()>::default()).await;
    answer.map_or_else(|status| status.code(), |_| Code::Ok)
}

/// Who may call what. A stranger is whoever had a key that was taken out of the topology since they connected.
const TABLE: &str = "
method           socket  admin  operator  viewer  node  stranger
ListNodes        yes     yes    yes       yes     yes   no
GetNetwork       yes     yes    yes       yes     yes   no
GetPath          yes     yes    yes       yes     yes   no
GetRecord        yes     yes    yes       yes     yes   no
ListRecords      yes     yes    yes       yes     yes   no
Audit            yes     yes    yes       yes     yes   no
RetryQuarantine  yes     yes    yes       no      no    no
Fetch            yes     yes    yes       no      no    no
Drain            yes     yes    yes       no      no    no
Undrain          yes     yes    yes       no      no    no
SetPower         yes     yes    yes       no      no    no
PushTopology     yes     yes    yes       no      no    no
Tail             yes     yes    yes       yes     yes   no
GetReceipt       yes     yes    yes       yes     yes   no
ListHeads        yes     yes    yes       yes     yes   no
WalkChain        yes     yes    yes       yes     yes   no
Incident         yes     yes    yes       no      no    no
ReadAuditLog     yes     yes    no        no      no    no
EraseEverything  no      no     no        no      no    no
";

#[tokio::test]
async fn each_cell_of_the_table_of_roles_is_as_it_says() {
    let server = Running::start().await;
    let channels = [
        server.local_channel().await,
        server.channel(ADMIN).await,
        server.channel(OPERATOR).await,
        server.channel(VIEWER).await,
        server.channel(OTHER_NODE).await,
    ];
    // Known at its handshake, and not any more.
    let former = key(STRANGER).public();
    let caller = Caller { role: OperatorRole::Admin, name: "former".to_owned(), proof: Proof::Operator(former) };
    server.door.known.lock().unwrap().push((former, caller));
    let stranger = server.channel(STRANGER).await;
    assert_eq!(call(&stranger, "/estafet.admin.v1.Admin/ListNodes").await, Code::Ok);
    server.door.known.lock().unwrap().retain(|(key, _)| *key != former);
    let channels: Vec<Channel> = channels.into_iter().chain([stranger]).collect();

    let mut rows = TABLE.lines().filter(|line| !line.is_empty()).map(str::split_whitespace);
    let head: Vec<&str> = rows.next().unwrap().skip(1).collect();
    let mut methods = Vec::new();
    for mut row in rows {
        let method = row.next().unwrap();
        methods.push(method);
        for ((who, channel), allowed) in head.iter().zip(&channels).zip(row) {
            let code = call(channel, &format!("/estafet.admin.v1.Admin/{method}")).await;
            let expected = match (allowed, *who) {
                ("yes", _) => Code::Ok,
                (_, "stranger") => Code::Unauthenticated,
                _ => Code::PermissionDenied,
            };
            assert_eq!(code, expected, "{method} by {who}");
        }
    }
    for line in include_str!("../../../../proto/estafet/admin/v1/admin.proto").lines().map(str::trim) {
        let Some((method, _)) = line.strip_prefix("rpc ").and_then(|rest| rest.split_once('(')) else { continue };
        assert!(methods.contains(&method), "{method} has no row in the table");
    }
}

#[tokio::test]
async fn everybody_who_is_refused_is_told_of() {
    let server = Running::start().await;
    let viewer = server.channel(VIEWER).await;
    assert_eq!(call(&viewer, "/estafet.admin.v1.Admin/Drain").await, Code::PermissionDenied);
    let [refusal] = &server.refusals()[..] else { panic!("one refusal: {:?}", server.refusals()) };
    assert_eq!((refusal.why, refusal.method.as_deref()), (WhyRefused::Role, Some("/estafet.admin.v1.Admin/Drain")));
    assert!(matches!(&refusal.who, Refused::Caller(caller) if caller.name == "magang"), "{refusal:?}");

    let expected = key(NODE).public();
    assert!(AdminClient::connect_tls(server.address, expected, &identity(STRANGER)).await.is_err());
    let told = |refusal: &Refusal| {
        let is_stranger =
            matches!(refusal.who, Refused::Stranger { key: shown, .. } if shown == key(STRANGER).public());
        refusal.why == WhyRefused::UnknownKey && refusal.method.is_none() && is_stranger
    };
    let heard = async {
        while !server.refusals().iter().any(told) {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), heard).await.expect("the stranger's key is told of");
}

#[tokio::test]
async fn whoever_asks_too_much_waits_and_the_others_do_not() {
    let limits = Limits { calls_per_second: NonZeroU32::new(5).unwrap(), calls_at_once: 4 };
    let server = Running::within(limits).await;
    let (operator, viewer) = (server.channel(OPERATOR).await, server.channel(VIEWER).await);
    let mut codes = Vec::new();
    for _ in 0..30 {
        codes.push(call(&operator, "/estafet.admin.v1.Admin/ListNodes").await);
    }
    assert_eq!(codes[..10], [Code::Ok; 10]);
    assert!(codes[10..].contains(&Code::ResourceExhausted), "{codes:?}");
    assert_eq!(call(&viewer, "/estafet.admin.v1.Admin/ListNodes").await, Code::Ok);
    let refusals = server.refusals();
    assert!(refusals.iter().all(|refusal| refusal.why == WhyRefused::TooMany), "{refusals:?}");
}

#[tokio::test]
async fn a_stream_counts_as_long_as_it_runs() {
    let limits = Limits { calls_per_second: NonZeroU32::new(1_000).unwrap(), calls_at_once: 3 };
    let server = Running::within(limits).await;
    let (mut one, mut other) = (server.client(VIEWER).await, server.client(VIEWER).await);
    let mut tails = Vec::new();
    for _ in 0..2 {
        tails.push(one.tail(v1::TailRequest::default()).await.unwrap());
    }
    tails.push(other.tail(v1::TailRequest::default()).await.unwrap());
    let refused = other.tail(v1::TailRequest::default()).await.map(|_| ()).unwrap_err();
    assert_eq!(refused.code(), Code::ResourceExhausted);
    assert!(server.client(OPERATOR).await.tail(v1::TailRequest::default()).await.is_ok());
    tails.pop();
    let ended = async {
        while other.list_nodes(v1::ListNodesRequest {}).await.is_err() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), ended).await.expect("a stream that was let go makes room");
}
