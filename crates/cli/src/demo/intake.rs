//! A relay's HTTP intake, as a counter program uses it.

use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use serde::Deserialize;
use tokio::time::timeout;
use tonic::codegen::http::{Method, Request, StatusCode};

/// The intake of one relay. Connections are kept and used again; clones share them.
#[derive(Debug, Clone)]
pub struct Intake {
    url: String,
    client: Client<HttpConnector, Full<Bytes>>,
}

/// A record on its way into a relay.
#[derive(Debug, Clone)]
pub struct Submission<'a> {
    /// The bytes.
    pub body: Bytes,
    /// Their media type.
    pub media_type: &'a str,
    /// What the office calls such a record.
    pub kind: &'a str,
    /// The same key and bytes give the same slip again.
    pub idempotency_key: &'a str,
}

/// What a relay says of a record that is durable with it.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Accepted {
    /// The number the citizen gets.
    pub slip: String,
    /// The record's name among relays.
    pub record_id: String,
    /// The BLAKE3 of the sealed record, in hexadecimal.
    pub blake3: String,
    /// How long the sealed record is.
    pub bytes: u64,
    /// How long it was before.
    pub content_bytes: u64,
}

/// A record was not accepted.
#[derive(Debug, Clone, thiserror::Error)]
pub enum NotAccepted {
    /// Nobody knows whether the relay has it: submit it again with the same key.
    #[error("no answer: {0}")]
    NoAnswer(String),
    /// The relay cannot take it now.
    #[error("not now: {0}")]
    NotNow(String),
    /// The relay will never take it as it is.
    #[error("refused: {0}")]
    Never(String),
}

/// The part of a problem+json body that people read.
#[derive(Deserialize)]
struct Problem {
    #[serde(default)]
    title: String,
    #[serde(default)]
    detail: String,
}

impl Intake {
    /// The intake whose URLs begin with `url`.
    #[must_use]
    pub fn new(url: &str) -> Self {
        let client = Client::builder(TokioExecutor::new()).build_http();
        Self { url: url.to_owned(), client }
    }

    /// Hands in a record and waits for its slip.
    pub async fn submit(&self, submission: &Submission<'_>) -> Result<Accepted, NotAccepted> {
        let request = Request::post(format!("{}/v1/records", self.url))
            .header("Content-Type", submission.media_type)
            .header("Estafet-Kind", submission.kind)
            .header("Idempotency-Key", submission.idempotency_key)
            .body(Full::new(submission.body.clone()));
        let request = request.map_err(|error| NotAccepted::Never(error.to_string()))?;
        let (status, body) = self.exchange(request).await?;
        match status {
            StatusCode::CREATED | StatusCode::OK => serde_json::from_slice(&body)
                .map_err(|error| NotAccepted::Never(format!("the answer is not understood: {error}"))),
            StatusCode::TOO_MANY_REQUESTS | StatusCode::REQUEST_TIMEOUT => Err(NotAccepted::NotNow(words(&body))),
            refused if refused.is_client_error() => Err(NotAccepted::Never(format!("{refused}: {}", words(&body)))),
            failed => Err(NotAccepted::NotNow(format!("{failed}: {}", words(&body)))),
        }
    }

    /// What the relay counts, as Prometheus text.
    pub async fn metrics(&self) -> Result<String, NotAccepted> {
        let request = Request::builder().method(Method::GET).uri(format!("{}/metrics", self.url));
        let request = request.body(Full::default()).map_err(|error| NotAccepted::Never(error.to_string()))?;
        match self.exchange(request).await? {
            (StatusCode::OK, body) => Ok(String::from_utf8_lossy(&body).into_owned()),
            (status, body) => Err(NotAccepted::NotNow(format!("{status}: {}", words(&body)))),
        }
    }

    async fn exchange(&self, request: Request<Full<Bytes>>) -> Result<(StatusCode, Bytes), NotAccepted> {
        let exchange = async {
            let answer = self.client.request(request).await.map_err(|error| error.to_string())?;
            let status = answer.status();
            let body = Limited::new(answer.into_body(), ANSWER_BYTES_MAX);
            let body = body.collect().await.map_err(|error| error.to_string())?;
            Ok((status, body.to_bytes()))
        };
        match timeout(ANSWER_TIMEOUT, exchange).await {
            Ok(answered) => answered.map_err(NotAccepted::NoAnswer),
            Err(_) => Err(NotAccepted::NoAnswer(format!("nothing came for {ANSWER_TIMEOUT:?}"))),
        }
    }
}

/// What a body says about a refusal.
fn words(body: &[u8]) -> String {
    match serde_json::from_slice(body) {
        Ok(Problem { title, detail }) if detail.is_empty() => title,
        Ok(Problem { title, detail }) => format!("{title}: {detail}"),
        Err(_) => String::from_utf8_lossy(body).into_owned(),
    }
}

/// 16 MiB over a busy loopback and a slow disk take a second or two.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(15);
const ANSWER_BYTES_MAX: usize = 1 << 20;
