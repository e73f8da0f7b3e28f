//! A counter with a connection of its own, and as little around it as can be: the loader shares the machine with the
//! relays that it measures.

use std::io::Write;
use std::net::SocketAddr;

use bytes::{Buf, Bytes, BytesMut};
use estafet_cli::demo::{Accepted, NotAccepted};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// More headers than an answer of intake has.
const HEADERS_MAX: usize = 16;

/// Noise does not contain it.
const BOUNDARY: &str = "estafet-bench-2026-11-23";

/// A connection to a relay's intake.
pub(crate) struct Counter {
    stream: TcpStream,
    received: BytesMut,
}

/// The answer to several records, all of them taken.
#[derive(Deserialize)]
struct AllAccepted {
    records: Vec<Accepted>,
}

/// The part of a record's status that is looked at.
#[derive(Deserialize)]
struct Status {
    state: String,
}

/// An answer's head.
struct Head {
    status: u16,
    /// Where its body begins and ends in what was received.
    body: std::ops::Range<usize>,
}

impl Counter {
    pub(crate) async fn connect(intake: SocketAddr) -> Result<Self, NotAccepted> {
        let stream = TcpStream::connect(intake).await.map_err(no_answer)?;
        stream.set_nodelay(true).map_err(no_answer)?;
        Ok(Self { stream, received: BytesMut::new() })
    }

    /// Hands in a record and waits for its slip.
    pub(crate) async fn submit(&mut self, body: Bytes, idempotency_key: &str) -> Result<Accepted, NotAccepted> {
        let length = body.len();
        let head = format!(
            "POST /v1/records HTTP/1.1\r\nHost: bench\r\nContent-Type: application/octet-stream\r\n\
             Estafet-Kind: bench\r\nIdempotency-Key: {idempotency_key}\r\nContent-Length: {length}\r\n\r\n"
        );
        self.exchange(head, body, 201).await
    }

    /// Hands in several records in one request, each with its idempotency key, and waits for all their slips.
    pub(crate) async fn submit_all(&mut self, records: &[(String, Bytes)]) -> Result<Vec<Accepted>, NotAccepted> {
        let mut body = Vec::new();
        for (key, record) in records {
            let length = record.len();
            write!(
                body,
                "\r\n--{BOUNDARY}\r\nContent-Type: application/octet-stream\r\nIdempotency-Key: {key}\r\n\
                 Content-Length: {length}\r\n\r\n"
            )
            .map_err(no_answer)?;
            body.extend_from_slice(record);
        }
        write!(body, "\r\n--{BOUNDARY}--\r\n").map_err(no_answer)?;
        let length = body.len();
        let head = format!(
            "POST /v1/batches HTTP/1.1\r\nHost: bench\r\nContent-Type: multipart/mixed; boundary={BOUNDARY}\r\n\
             Estafet-Kind: bench\r\nContent-Length: {length}\r\n\r\n"
        );
        let all: AllAccepted = self.exchange(head, body.into(), 201).await?;
        Ok(all.records)
    }

    /// True if the relay holds a receipt for the record.
    pub(crate) async fn is_receipted(&mut self, slip: &str) -> Result<bool, NotAccepted> {
        let head = format!("GET /v1/records/{slip} HTTP/1.1\r\nHost: bench\r\n\r\n");
        let status: Status = self.exchange(head, Bytes::new(), 200).await?;
        Ok(status.state == "receipted")
    }

    async fn exchange<T: DeserializeOwned>(
        &mut self,
        head: String,
        body: Bytes,
        expected: u16,
    ) -> Result<T, NotAccepted> {
        let mut request = Bytes::from(head).chain(body);
        self.stream.write_all_buf(&mut request).await.map_err(no_answer)?;
        self.received.clear();
        loop {
            if self.stream.read_buf(&mut self.received).await.map_err(no_answer)? == 0 {
                return Err(no_answer("the connection was closed"));
            }
            let Some(Head { status, body }) = head_of(&self.received)? else { continue };
            let Some(body) = self.received.get(body) else { continue };
            if status == expected {
                return serde_json::from_slice(body).map_err(no_answer);
            }
            return Err(NotAccepted::Never(format!("{status}: {}", String::from_utf8_lossy(body))));
        }
    }
}

/// Nothing if the head has not come yet.
fn head_of(received: &[u8]) -> Result<Option<Head>, NotAccepted> {
    let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
    let mut answer = httparse::Response::new(&mut headers);
    let httparse::Status::Complete(start) = answer.parse(received).map_err(no_answer)? else { return Ok(None) };
    let status = answer.code.unwrap_or_default();
    let is_length = |header: &&httparse::Header<'_>| header.name.eq_ignore_ascii_case("content-length");
    let length = answer.headers.iter().find(is_length).and_then(|header| str::from_utf8(header.value).ok());
    let length: usize =
        length.and_then(|length| length.parse().ok()).ok_or_else(|| no_answer("an answer without a length"))?;
    Ok(Some(Head { status, body: start..start + length }))
}

fn no_answer(error: impl std::fmt::Display) -> NotAccepted {
    NotAccepted::NoAnswer(error.to_string())
}
