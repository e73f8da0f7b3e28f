//! Why a request at intake is refused, in a clerk's words: problem+json (RFC 9457).

use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use estafet_model::CONTENT_BYTES_MAX;
use serde::Serialize;

/// Why a request is refused: what happened and what to do, in a clerk's words.
pub(crate) struct Problem {
    status: StatusCode,
    title: &'static str,
    detail: String,
    /// What a program is to know beside it.
    header: Option<(HeaderName, HeaderValue)>,
}

impl Problem {
    pub(crate) fn new(status: StatusCode, title: &'static str, detail: impl Into<String>) -> Self {
        Self { status, title, detail: detail.into(), header: None }
    }

    pub(crate) fn malformed(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "The request is malformed", detail)
    }

    pub(crate) fn unknown_address(status: StatusCode) -> Self {
        let detail = "Hand in a record by POST /v1/records, look one up by GET /v1/records/SLIP.";
        Self::new(status, "There is nothing here", detail)
    }

    pub(crate) fn no_token() -> Self {
        let problem = Self::new(
            StatusCode::UNAUTHORIZED,
            "This computer is not known here",
            "The record was NOT taken and no slip may be given. Keep the papers and call the operator: this computer needs \
             its token, or a new one.",
        );
        Self { header: Some((header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"))), ..problem }
    }

    pub(crate) fn metrics_only() -> Self {
        Self::new(
            StatusCode::FORBIDDEN,
            "This computer may not hand in records",
            "Nothing was taken. Its token is for GET /metrics alone: the operator gives another one.",
        )
    }

    pub(crate) fn too_many(wait_seconds: u64) -> Self {
        let detail = format!(
            "The record was NOT taken and no slip may be given yet. This computer sends more than it may: wait \
             {wait_seconds} seconds, and send it again."
        );
        let problem = Self::new(StatusCode::TOO_MANY_REQUESTS, "Too many records at once", detail);
        Self { header: Some((header::RETRY_AFTER, HeaderValue::from(wait_seconds))), ..problem }
    }

    pub(crate) fn too_large() -> Self {
        let detail = format!(
            "A record may have {CONTENT_BYTES_MAX} bytes (16 MiB). Scan with a lower resolution, or send it in parts."
        );
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, "The record is too large", detail)
    }

    pub(crate) fn full() -> Self {
        Self::new(
            StatusCode::INSUFFICIENT_STORAGE,
            "This office's server is full",
            "The record was NOT taken and no slip may be given. Keep the papers, tell the operator, and try again when \
             the line to the main server is back: the server empties itself then.",
        )
    }

    pub(crate) fn poisoned() -> Self {
        Self::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "The disk of this office's server failed",
            "The record was NOT taken and no slip may be given. Keep the papers and call the operator: the disk must \
             be looked at. Records taken before are still on it.",
        )
    }

    pub(crate) fn unsealed() -> Self {
        Self::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "This office's server cannot seal records now",
            "The record was NOT taken and no slip may be given. Try again in a minute, and call the operator if that does \
             not help.",
        )
    }

    pub(crate) fn shut_out() -> Self {
        Self::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "This server is no longer one of the city's",
            "The record was NOT taken and no slip may be given. Keep the papers and call the operator: this server was removed \
             or replaced by another one, which takes records.",
        )
    }

    pub(crate) fn shutting_down() -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "This office's server is stopping", "Try again in a minute.")
    }
}

/// The members of problem+json (RFC 9457, section 3.1).
#[derive(Serialize)]
pub(crate) struct ProblemDetails<'a> {
    r#type: &'static str,
    title: &'static str,
    status: u16,
    detail: &'a str,
}

impl Problem {
    /// What the body of the answer says.
    pub(crate) fn details(&self) -> ProblemDetails<'_> {
        ProblemDetails { r#type: "about:blank", title: self.title, status: self.status.as_u16(), detail: &self.detail }
    }

    /// Whoever meets this would meet it with the next record as well.
    pub(crate) fn is_everybodys(&self) -> bool {
        matches!(
            self.status,
            StatusCode::UNAUTHORIZED
                | StatusCode::TOO_MANY_REQUESTS
                | StatusCode::SERVICE_UNAVAILABLE
                | StatusCode::INSUFFICIENT_STORAGE
        )
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let content_type = [(header::CONTENT_TYPE, "application/problem+json")];
        let mut answer = (self.status, content_type, json_text(&self.details())).into_response();
        answer.headers_mut().extend(self.header);
        answer
    }
}

/// An answer as JSON.
pub(crate) fn json_text(answer: &impl Serialize) -> String {
    serde_json::to_string(answer).expect("answers are made of texts and numbers")
}
