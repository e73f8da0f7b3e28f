//! A counter with a connection of its own: no pool and no parsing of addresses, so that the loader takes little of
//! the machine that it shares with the relays.

use std::net::SocketAddr;

use bytes::Bytes;
use estafet_cli::demo::{Accepted, NotAccepted};
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper::{Request, StatusCode};
use hyper_util::rt::TokioIo;
use serde::Deserialize;
use tokio::net::TcpStream;

/// A connection to a relay's intake.
pub(crate) struct Counter {
    requests: SendRequest<Full<Bytes>>,
}

/// The part of a record's status that is looked at.
#[derive(Deserialize)]
struct Status {
    state: String,
}

impl Counter {
    pub(crate) async fn connect(intake: SocketAddr) -> Result<Self, NotAccepted> {
        let stream = TcpStream::connect(intake).await.map_err(no_answer)?;
        stream.set_nodelay(true).map_err(no_answer)?;
        let (requests, connection) = handshake(TokioIo::new(stream)).await.map_err(no_answer)?;
        // If it breaks off, the next request says so.
        tokio::spawn(connection);
        Ok(Self { requests })
    }

    /// Hands in a record and waits for its slip.
    pub(crate) async fn submit(&mut self, body: Bytes, idempotency_key: &str) -> Result<Accepted, NotAccepted> {
        let request = Request::post("/v1/records")
            .header("Host", "bench")
            .header("Content-Type", "application/octet-stream")
            .header("Estafet-Kind", "bench")
            .header("Idempotency-Key", idempotency_key)
            .body(Full::new(body));
        match self.exchange(request.map_err(no_answer)?).await? {
            (StatusCode::CREATED, body) => serde_json::from_slice(&body).map_err(no_answer),
            (status, body) => Err(NotAccepted::Never(format!("{status}: {}", String::from_utf8_lossy(&body)))),
        }
    }

    /// True if the relay holds a receipt for the record.
    pub(crate) async fn is_receipted(&mut self, slip: &str) -> Result<bool, NotAccepted> {
        let request = Request::get(format!("/v1/records/{slip}")).header("Host", "bench").body(Full::default());
        match self.exchange(request.map_err(no_answer)?).await? {
            (StatusCode::OK, body) => {
                let status: Status = serde_json::from_slice(&body).map_err(no_answer)?;
                Ok(status.state == "receipted")
            }
            (status, body) => Err(NotAccepted::Never(format!("{status}: {}", String::from_utf8_lossy(&body)))),
        }
    }

    async fn exchange(&mut self, request: Request<Full<Bytes>>) -> Result<(StatusCode, Bytes), NotAccepted> {
        self.requests.ready().await.map_err(no_answer)?;
        let answer = self.requests.send_request(request).await.map_err(no_answer)?;
        let status = answer.status();
        let body = answer.into_body().collect().await.map_err(no_answer)?;
        Ok((status, body.to_bytes()))
    }
}

fn no_answer(error: impl std::fmt::Display) -> NotAccepted {
    NotAccepted::NoAnswer(error.to_string())
}
