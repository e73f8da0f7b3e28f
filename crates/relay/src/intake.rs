//! Intake: where counter programs hand in records over HTTP and get their slips.
//!
//! A 201 means that the record is synced on this node's disk (P1). Everything else means that it is not taken, and
//! the body, problem+json (RFC 9457), says what to do. Bodies are read chunk by chunk under one bound for all
//! requests together.

mod batch;
mod multipart;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::body::Body;
use axum::extract::{Path, Request, State};
use axum::http::{HeaderMap, HeaderName, StatusCode, header};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Extension, Router};
use bytes::Bytes;
use estafet_admin::v1;
use estafet_model::{
    CONTENT_BYTES_MAX, Class, Idempotency, Kind, MediaType, NodeId, ShortCode, Slip, payload_hash_of_chunks,
};
use estafet_node::custody::{RecordState, TransferId};
use estafet_node::{Capture, CaptureRefused, CaptureToken, Whereabouts};
use estafet_seal::AssociatedData;
use estafet_topology::Node;
use http_body_util::BodyExt;
use serde::Serialize;
use serde_json::{Value, json};
use tokio::sync::Semaphore;
use tokio::time::timeout;

use crate::driver::{Commands, PendingCapture};
use crate::gate::{Gate, Peer};
use crate::metrics;
use crate::problem::{Problem, json_text};
use crate::scrub::Scrubs;
use crate::seal::Seals;
use crate::store::{Store, wall_clock};
use crate::upload::{BODY_BYTES_MAX, Received, Source, Upload};
use crate::views::standing;

/// What is read of a body after it was refused.
const DISCARD_BYTES_MAX: usize = 64 << 20;
const DISCARD_TIMEOUT: Duration = Duration::from_secs(5);

const KEY_LENGTH_MAX: usize = 255;

/// What the hash of content is derived for.
const CONTENT_HASH: &str = "estafet 2026-11 hash of content that is handed in under an idempotency key";

/// The state of a server whose counter is closed for good.
const SHUT_OUT: &str = "shut-out";

/// With each slip: `mains`, `battery` or `low`.
const POWER_HEADER: HeaderName = HeaderName::from_static("estafet-power");

#[derive(Clone)]
pub(crate) struct Intake {
    shared: Arc<Shared>,
}

struct Shared {
    commands: Commands,
    store: Store,
    seals: Mutex<Seals>,
    me: NodeId,
    /// The letters that this node's slips begin with.
    code: ShortCode,
    /// What is synced stays. Without that no slip is given.
    promises: bool,
    budget: Arc<Semaphore>,
    next_transfer: AtomicU64,
    scrubs: Arc<Scrubs>,
    gate: Gate,
}

impl Intake {
    /// `node` is this one, by the topology.
    pub(crate) fn new(
        promises: bool,
        commands: Commands,
        store: Store,
        node: &Node,
        seals: Seals,
        scrubs: Arc<Scrubs>,
        gate: Gate,
    ) -> Self {
        let shared = Shared {
            commands,
            store,
            seals: Mutex::new(seals),
            me: node.id.clone(),
            code: node.code,
            promises,
            budget: Arc::new(Semaphore::new(BODY_BYTES_MAX)),
            next_transfer: AtomicU64::new(1),
            scrubs,
            gate,
        };
        Self { shared: Arc::new(shared) }
    }

    pub(crate) fn routes(self) -> Router {
        Router::new()
            .route("/v1/records", post(capture))
            .route("/v1/batches", post(batch::capture_all))
            .route("/v1/records/{slip}", get(status))
            .route("/v1/state", get(state))
            .route("/metrics", get(metrics))
            .fallback(|| async { Problem::unknown_address(StatusCode::NOT_FOUND) })
            .method_not_allowed_fallback(|| async { Problem::unknown_address(StatusCode::METHOD_NOT_ALLOWED) })
            .layer(from_fn_with_state(self.clone(), admit))
            .with_state(self)
    }
}

/// Nothing is looked at before the gate has let it in.
async fn admit(
    State(intake): State<Intake>,
    Extension(peer): Extension<Peer>,
    request: Request,
    next: Next,
) -> Response {
    let (method, path) = (request.method(), request.uri().path());
    match intake.shared.gate.admit(peer, method, path, request.headers()) {
        Ok(()) => next.run(request).await,
        Err(problem) => {
            if !request.headers().contains_key(header::EXPECT) {
                discard(request.into_body()).await;
            }
            problem.into_response()
        }
    }
}

async fn capture(State(intake): State<Intake>, headers: HeaderMap, mut body: Body) -> Response {
    let shared = &*intake.shared;
    let handed_in = hand_in(shared, &headers, &mut body).await;
    if handed_in.is_err() && !headers.contains_key(header::EXPECT) {
        discard(body).await;
    }
    let answer = async { taken(shared, handed_in?).await };
    match answer.await {
        Ok(taken) => answered(shared, taken.status(), json_text(&taken)),
        Err(problem) => problem.into_response(),
    }
}

/// Reads on for a while after a refusal: many HTTP clients look at the answer only when they have sent everything,
/// and would report a broken connection instead.
async fn discard(mut body: Body) {
    let read = async {
        let mut left = DISCARD_BYTES_MAX;
        while let Some(Ok(frame)) = body.frame().await {
            left = left.saturating_sub(frame.data_ref().map_or(0, Bytes::len));
            if left == 0 {
                break;
            }
        }
    };
    // Whoever is slower than this gets the answer, or a broken connection.
    let _too_slow = timeout(DISCARD_TIMEOUT, read).await;
}

/// A record that was read, and is on its way to the disk.
struct HandedIn {
    capture: PendingCapture,
    content_bytes: u64,
}

/// What a counter is told of a record that was taken.
#[derive(Serialize)]
struct Taken {
    #[serde(skip_serializing_if = "Option::is_none")]
    slip: Option<String>,
    record_id: String,
    blake3: String,
    bytes: u32,
    content_bytes: u64,
    /// Why there is no slip.
    #[serde(skip_serializing_if = "Option::is_none")]
    detail: Option<&'static str>,
}

const NO_SLIP: &str = "This server runs on a disk that does not keep what is written. The record was taken, but NO slip may \
                       be given: it is safe only when its state is receipted.";

impl Taken {
    fn status(&self) -> StatusCode {
        if self.slip.is_some() { StatusCode::CREATED } else { StatusCode::ACCEPTED }
    }
}

/// Reads a record, seals it, and has it stored.
async fn hand_in(shared: &Shared, headers: &HeaderMap, body: &mut impl Source) -> Result<HandedIn, Problem> {
    let class = header_value::<Class>(headers, "estafet-class")?;
    let kind = header_value::<Kind>(headers, "estafet-kind")?;
    let media_type = header_value::<MediaType>(headers, "content-type")?;
    let idempotency_key = idempotency_key(headers)?;
    let announced = announced_length(headers)?;
    let health = shared.commands.health();
    if health.poisoned {
        return Err(Problem::poisoned());
    }
    if announced.unwrap_or(0) > u64::from(CONTENT_BYTES_MAX) {
        return Err(Problem::too_large());
    }
    if health.capture_room.0 <= announced.unwrap_or(0) {
        return Err(Problem::full());
    }
    let captured_at = wall_clock();
    let associated = AssociatedData::new(&shared.me, class, &kind, &media_type, captured_at);
    let sealing = shared.seals.lock().map_err(|_| Problem::unsealed())?.begin(associated);
    let sealing = sealing.map_err(|_| Problem::unsealed())?;
    let transfer = TransferId(shared.next_transfer.fetch_add(1, Ordering::Relaxed));
    let hasher = idempotency_key.map(|key| blake3::Hasher::new_keyed(&blake3::derive_key(CONTENT_HASH, key)));
    let mut upload = Upload::new(&shared.store, &shared.commands, &shared.budget, transfer, announced, sealing, hasher);
    let Received { payload, payload_bytes, chunks, content_bytes, content_hash } = upload.receive(body).await?;
    let capture = Capture {
        token: CaptureToken(0),
        class,
        kind,
        media_type,
        payload_bytes,
        payload_hash: payload_hash_of_chunks(&chunks),
        captured_at,
        idempotency: idempotency_key.zip(content_hash).map(|(key, content)| idempotency(key, &content)),
        payload,
    };
    upload.hand_over();
    let capture = shared.commands.capture(capture).await.map_err(|_| Problem::shutting_down())?;
    Ok(HandedIn { capture, content_bytes })
}

/// Waits until the record is on the disk.
async fn taken(shared: &Shared, HandedIn { capture, content_bytes }: HandedIn) -> Result<Taken, Problem> {
    let answer = capture.answer().await.map_err(|_| Problem::shutting_down())?;
    let captured = answer.map_err(refusal)?.into_inner();
    Ok(Taken {
        slip: shared.promises.then(|| captured.id.slip(shared.code).to_string()),
        record_id: captured.id.to_string(),
        blake3: captured.payload_hash.to_string(),
        bytes: captured.payload_bytes,
        content_bytes,
        detail: (!shared.promises).then_some(NO_SLIP),
    })
}

/// An answer, and beside it what the counter should know while it works: whether the power is there, and whether it will stay.
fn answered(shared: &Shared, status: StatusCode, json: String) -> Response {
    let power = shared.commands.standing().power.as_str();
    (status, [(header::CONTENT_TYPE, "application/json"), (POWER_HEADER, power)], json).into_response()
}

/// What this office's server says about its service: serving, draining or shut out, on what power, why, and when it is due
/// back.
async fn state(State(intake): State<Intake>) -> Response {
    let v1::Standing { state, power, minutes_left, reason, words, back_unix_ms } =
        standing(&intake.shared.commands.standing());
    let shut_out = intake.shared.gate.shut_out();
    let told = |text: String| Some(text).filter(|text| !text.is_empty());
    let answer = json!({
        "state": if shut_out.is_some() { SHUT_OUT } else { &state },
        "power": power,
        "minutes_left": minutes_left,
        "reason": if shut_out.is_some() { Some("topology".to_owned()) } else { told(reason) },
        "words": shut_out.map(|by| by.because.to_owned()).or_else(|| told(words)),
        "back_unix_ms": back_unix_ms,
    });
    ([(header::CONTENT_TYPE, "application/json")], answer.to_string()).into_response()
}

fn refusal(why: CaptureRefused) -> Problem {
    match why {
        CaptureRefused::KeyReused => Problem::new(
            StatusCode::CONFLICT,
            "The Idempotency-Key was used before",
            "Another record was taken under this key. Use a new key for each record, and the same key only to send \
             the same bytes again.",
        ),
        CaptureRefused::NumbersExhausted => Problem::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "This office's record numbers are used up",
            "Call the operator: the server needs a new data folder, which begins a new epoch.",
        ),
        CaptureRefused::StoreFailed => Problem::poisoned(),
    }
}

fn header_value<T: std::str::FromStr + Default>(headers: &HeaderMap, name: &'static str) -> Result<T, Problem>
where
    T::Err: std::fmt::Display,
{
    let Some(value) = headers.get(name) else { return Ok(T::default()) };
    let text = value.to_str().map_err(|_| Problem::malformed(format!("The header {name} is not plain text.")))?;
    text.parse().map_err(|error| Problem::malformed(format!("The header {name}: {error}.")))
}

fn idempotency_key(headers: &HeaderMap) -> Result<Option<&[u8]>, Problem> {
    let Some(value) = headers.get("idempotency-key") else { return Ok(None) };
    if value.is_empty() || value.len() > KEY_LENGTH_MAX {
        return Err(Problem::malformed(format!("An Idempotency-Key has 1 to {KEY_LENGTH_MAX} characters.")));
    }
    Ok(Some(value.as_bytes()))
}

/// Hashed, both of them: keys are the counter's own words, and what it handed in is sealed.
fn idempotency(key: &[u8], content: &blake3::Hash) -> Idempotency {
    let beginning = |hash: &blake3::Hash| *hash.as_bytes().first_chunk().expect("a hash has 32 bytes");
    Idempotency { key: beginning(&blake3::hash(key)), content: beginning(content) }
}

fn announced_length(headers: &HeaderMap) -> Result<Option<u64>, Problem> {
    let Some(value) = headers.get(header::CONTENT_LENGTH) else { return Ok(None) };
    let length = value.to_str().ok().and_then(|text| text.parse().ok());
    length.map(Some).ok_or_else(|| Problem::malformed("The Content-Length is no number."))
}

async fn status(State(intake): State<Intake>, Path(name): Path<String>) -> Result<Response, Problem> {
    // A slip, or a record id, which is all that a counter of a node without durability has.
    let id = name.parse::<estafet_model::RecordId>().ok();
    let slip = match id {
        Some(_) => None,
        None => Some(name.parse::<Slip>().map_err(|error| Problem::malformed(format!("{error}.")))?),
    };
    let asked = intake.shared.commands.ask(move |view| {
        let id = id.or_else(|| view.node.record_of(&slip?))?;
        let slip = view.node.slip(&id)?;
        Some((id.clone(), describe(&view.node.whereabouts(&id)).map(|state| (slip, state))))
    });
    let found = asked.await.map_err(|_| Problem::shutting_down())?;
    let Some((id, Some((slip, state)))) = found else {
        return Err(Problem::new(
            StatusCode::NOT_FOUND,
            "No record with this slip is known here",
            "Ask at the office that gave it, or at the main server.",
        ));
    };
    let mut answer = json!({ "slip": slip.to_string(), "record_id": id.to_string() });
    if let (Value::Object(answer), Value::Object(state)) = (&mut answer, state) {
        answer.extend(state);
    }
    Ok(([(header::CONTENT_TYPE, "application/json")], answer.to_string()).into_response())
}

fn describe(whereabouts: &Whereabouts<'_>) -> Option<Value> {
    Some(match whereabouts {
        Whereabouts::Unknown => return None,
        Whereabouts::Receipted { hub } => json!({ "state": "receipted", "hub": hub.as_str() }),
        Whereabouts::Lost(_) => json!({ "state": "quarantined" }),
        Whereabouts::Held(view) => match &view.state {
            RecordState::Waiting { why, .. } if why.is_quarantine() => json!({ "state": "quarantined" }),
            RecordState::Waiting { .. } => json!({ "state": "waiting" }),
            RecordState::Offered { to } => json!({ "state": "offered", "to": to.as_str() }),
            RecordState::Accepted { by } => json!({ "state": "accepted", "by": by.as_str() }),
        },
    })
}

/// The node's metrics as Prometheus text.
async fn metrics(State(intake): State<Intake>) -> Result<String, Problem> {
    let Shared { commands, store, scrubs, .. } = &*intake.shared;
    let of_node = commands.ask(metrics::of_node).await.map_err(|_| Problem::shutting_down())?;
    let rest = metrics::of_service(&commands.standing()).into_iter().chain(metrics::of_store(store, scrubs));
    Ok(of_node.into_iter().chain(rest).map(|metric| metric.to_string()).collect())
}
