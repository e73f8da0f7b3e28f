//! The gRPC admin API: its generated types, how a client reaches a node, and all of a server but the answers.
//!
//! A node implements [`v1::admin_server::Admin`] and hands it to [`serve`], which does the rest: TLS with the keys of
//! the topology, a Unix socket for local use, who may call what, health and reflection. A client calls
//! [`connect_tls`](v1::admin_client::AdminClient::connect_tls) or
//! [`connect_unix`](v1::admin_client::AdminClient::connect_unix).
//!
//! Read first: [`Caller`] (who asks, and with what role), [`Doorkeeper`] (who knows them, and hears of those who are refused)
//! and [`Listeners`] (where a node can be asked).

mod access;
mod caller;
mod client;
mod connection;
mod doorkeeper;
mod quota;
mod server;

/// What is generated from `proto/estafet/admin/v1/admin.proto`.
pub mod v1 {
    #![expect(
        missing_docs,
        unused_qualifications,
        clippy::allow_attributes,
        clippy::allow_attributes_without_reason,
        clippy::clone_on_ref_ptr,
        reason = "generated; documented in admin.proto"
    )]
    tonic::include_proto!("estafet.admin.v1");
}

pub use caller::{Caller, Proof};
pub use client::ConnectError;
pub use doorkeeper::{Doorkeeper, Refusal, Refused, WhyRefused};
pub use quota::Limits;
pub use server::{Listeners, ServeError, bind_unix, serve};

/// The admin API described in protobuf's own terms, for reflection.
pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/admin.descriptors"));

/// HTTP/2, as TLS negotiates it. gRPC knows nothing else.
const ALPN: &[u8] = b"h2";
