//! Several records in one request: what a van brings home in the evening, or a counter kept while its office was dark.
//!
//! Each part is a record of its own, with its own headers, its own slip and its own refusal. They are read one after the
//! other, and nobody waits for the disk in between: the records of a batch share their syncs.

use axum::Extension;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderName, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;

use super::multipart::{Boundary, Parts};
use super::{HandedIn, Intake, Taken, answered, discard, hand_in, taken};
use crate::gate::Peer;
use crate::problem::{Problem, ProblemDetails, json_text};

/// Each holds some memory until it is answered.
const RECORDS_MAX: usize = 1000;

/// What the request may say for all of its records.
const FOR_ALL: [HeaderName; 2] = [HeaderName::from_static("estafet-class"), HeaderName::from_static("estafet-kind")];

/// One record of the answer.
#[derive(Serialize)]
#[serde(untagged)]
enum Answer<'a> {
    Taken {
        status: u16,
        #[serde(flatten)]
        taken: &'a Taken,
    },
    Refused(ProblemDetails<'a>),
}

/// The answer.
#[derive(Serialize)]
struct Answers<'a> {
    records: Vec<Answer<'a>>,
}

/// Takes the parts of a multipart body, in order, until one is refused for a reason that the next would meet as well.
pub(super) async fn capture_all(
    State(intake): State<Intake>,
    Extension(peer): Extension<Peer>,
    request: Request,
) -> Response {
    let shared = &*intake.shared;
    let (request, body) = request.into_parts();
    let boundary = match Boundary::of(&request.headers) {
        Ok(boundary) => boundary,
        Err(problem) => {
            if !request.headers.contains_key(header::EXPECT) {
                discard(body).await;
            }
            return problem.into_response();
        }
    };
    let mut parts = Parts::new(body, &boundary);
    let is_admitted = |before: usize| match before {
        // The gate has counted the request as one record.
        0 => Ok(()),
        RECORDS_MAX => Err(too_many()),
        _ => shared.gate.admit(peer, &request.method, request.uri.path(), &request.headers),
    };
    let mut handed_in: Vec<Result<HandedIn, Problem>> = Vec::new();
    let end = loop {
        let headers = match parts.next_head().await {
            Ok(Some(headers)) => with_those_for_all(headers, &request.headers),
            Ok(None) => break None,
            Err(problem) => break Some(problem),
        };
        if let Err(problem) = is_admitted(handed_in.len()) {
            break Some(problem);
        }
        match hand_in(shared, &headers, &mut parts).await {
            Err(problem) if parts.is_broken() || problem.is_everybodys() => break Some(problem),
            outcome => handed_in.push(outcome),
        }
    };
    if end.is_some() {
        discard(parts.into_source()).await;
    }
    if handed_in.is_empty() {
        return end.unwrap_or_else(nothing).into_response();
    }
    let mut outcomes = Vec::with_capacity(handed_in.len() + 1);
    for record in handed_in {
        outcomes.push(match record {
            Ok(record) => taken(shared, record).await,
            Err(problem) => Err(problem),
        });
    }
    outcomes.extend(end.map(Err));
    let status = outcomes.iter().map(|outcome| outcome.as_ref().map_or(StatusCode::MULTI_STATUS, Taken::status));
    let status = status.max().unwrap_or(StatusCode::MULTI_STATUS);
    let records = outcomes.iter().map(|outcome| match outcome {
        Ok(taken) => Answer::Taken { status: taken.status().as_u16(), taken },
        Err(problem) => Answer::Refused(problem.details()),
    });
    answered(shared, status, json_text(&Answers { records: records.collect() }))
}

fn with_those_for_all(mut headers: HeaderMap, request: &HeaderMap) -> HeaderMap {
    for name in FOR_ALL {
        if let Some(value) = request.get(&name)
            && !headers.contains_key(&name)
        {
            headers.insert(name, value.clone());
        }
    }
    headers
}

fn too_many() -> Problem {
    Problem::new(
        StatusCode::PAYLOAD_TOO_LARGE,
        "Too many records in one request",
        format!(
            "The first {RECORDS_MAX} are in this list, nothing after them was taken: send the rest in another request."
        ),
    )
}

fn nothing() -> Problem {
    Problem::malformed("There is no part in the body, so there was nothing to take.")
}
