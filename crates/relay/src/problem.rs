//! Why a request at intake is refused, in a clerk's words: problem+json (RFC 9457).

use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use estafet_model::CONTENT_BYTES_MAX;
use serde_json::json;

/// Why a request is refused: what happened and what to do, in a clerk's words.
pub(crate) struct Problem {
    status: StatusCode,
    title: &'static str,
    detail: String,
}

impl Problem {
    pub(crate) fn new(status: StatusCode, title: &'static str, detail: impl Into<String>) -> Self {
        Self { status, title, detail: detail.into() }
    }

    pub(crate) fn malformed(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "The request is malformed", detail)
    }

    pub(crate) fn unknown_address(status: StatusCode) -> Self {
        let detail = "Hand in a record by POST /v1/records, look one up by GET /v1/records/SLIP.";
        Self::new(status, "There is nothing here", detail)
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

    pub(crate) fn shutting_down() -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "This office's server is stopping", "Try again in a minute.")
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let body = json!({
            "type": "about:blank", "title": self.title, "status": self.status.as_u16(), "detail": self.detail,
        });
        (self.status, [(header::CONTENT_TYPE, "application/problem+json")], body.to_string()).into_response()
    }
}
