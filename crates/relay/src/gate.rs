//! The gate of intake: who may hand in, by the token of their machine, and how often.
//!
//! While no workstation has a token, intake is open to whoever is on this machine, and listens nowhere else.

use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use axum::http::{HeaderMap, Method, header};
use estafet_audit_log::{Event, Who};
use governor::clock::{Clock, DefaultClock};
use governor::{DefaultKeyedRateLimiter, Quota, RateLimiter};
use tokio::sync::watch;

use crate::audit_log::AuditLog;
use crate::problem::Problem;
use crate::topologies::ShutOut;
use crate::workstations::{May, Workstation, Workstations};

/// Where a request comes from: the other end of its connection.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Peer(pub(crate) IpAddr);

/// What a token's scheme is called (RFC 6750).
const SCHEME: &str = "Bearer ";

/// Decides about each request, before anything of its body is read.
pub(crate) struct Gate {
    workstations: watch::Receiver<Arc<Workstations>>,
    /// Others than this machine's programs reach intake.
    is_open_to_others: bool,
    records: DefaultKeyedRateLimiter<String>,
    records_per_minute: NonZeroU32,
    shut_out: watch::Receiver<Option<ShutOut>>,
    audit_log: AuditLog,
}

impl Gate {
    pub(crate) fn new(
        workstations: watch::Receiver<Arc<Workstations>>,
        listen: SocketAddr,
        records_per_minute: NonZeroU32,
        shut_out: watch::Receiver<Option<ShutOut>>,
        audit_log: AuditLog,
    ) -> Self {
        let records = RateLimiter::keyed(Quota::per_minute(records_per_minute));
        let is_open_to_others = !listen.ip().is_loopback();
        Self { workstations, is_open_to_others, records, records_per_minute, shut_out, audit_log }
    }

    /// Lets a request in, or says what the clerk is to be told.
    pub(crate) fn admit(&self, peer: Peer, method: &Method, path: &str, headers: &HeaderMap) -> Result<(), Problem> {
        let workstations = Arc::clone(&self.workstations.borrow());
        if workstations.is_empty() && !self.is_open_to_others {
            return self.is_open(method);
        }
        let known = token(headers).and_then(|token| workstations.by_token(token));
        let Some(workstation) = known else {
            let why = if token(headers).is_some() { "its token is nobody's" } else { "it shows no token" };
            let stranger = Who::Stranger { address: peer.0.to_string(), key: None };
            self.audit_log.refused(Event::refused(stranger, "intake-token", why));
            return Err(Problem::no_token());
        };
        self.check(workstation, method, path)?;
        self.is_open(method)
    }

    /// Whether this node is shut out, so that what it would take nobody would take from it.
    pub(crate) fn shut_out(&self) -> Option<ShutOut> {
        *self.shut_out.borrow()
    }

    fn is_open(&self, method: &Method) -> Result<(), Problem> {
        if method == Method::POST && self.shut_out().is_some() { Err(Problem::shut_out()) } else { Ok(()) }
    }

    fn check(&self, workstation: &Workstation, method: &Method, path: &str) -> Result<(), Problem> {
        let refused = |what, why: &str| {
            let event = Event::refused(Who::Workstation(workstation.name.clone()), what, why);
            self.audit_log.refused(event);
        };
        if workstation.may == May::ReadMetrics && path != "/metrics" {
            refused("intake-role", "its token is for the metrics alone");
            return Err(Problem::metrics_only());
        }
        if method != Method::POST {
            return Ok(());
        }
        self.records.check_key(&workstation.name).map_err(|until| {
            refused("intake-rate", &format!("more than {} records a minute", self.records_per_minute));
            Problem::too_many(whole_seconds(until.wait_time_from(DefaultClock::default().now())))
        })
    }
}

/// The token that a request shows.
fn token(headers: &HeaderMap) -> Option<&[u8]> {
    let (scheme, token) = headers.get(header::AUTHORIZATION)?.as_bytes().split_at_checked(SCHEME.len())?;
    scheme.eq_ignore_ascii_case(SCHEME.as_bytes()).then_some(token)
}

/// Rounded up: nobody is to come again too soon.
fn whole_seconds(span: Duration) -> u64 {
    span.as_secs().saturating_add(u64::from(span.subsec_nanos() > 0)).max(1)
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    #[test]
    fn a_token_is_read_as_it_may_be_written() {
        for (value, token_in_it) in [
            ("Bearer abc", Some("abc")),
            ("bearer abc", Some("abc")),
            ("Bearer ", Some("")),
            ("Basic abc", None),
            ("Bear", None),
            ("", None),
        ] {
            let headers: HeaderMap = [(header::AUTHORIZATION, HeaderValue::from_static(value))].into_iter().collect();
            assert_eq!(token(&headers), token_in_it.map(str::as_bytes), "{value}");
        }
        assert_eq!(token(&HeaderMap::new()), None);
    }

    #[test]
    fn nobody_is_told_to_come_again_too_soon() {
        for (millis, seconds) in [(0, 1), (1, 1), (1_000, 1), (1_001, 2), (59_500, 60)] {
            assert_eq!(whole_seconds(Duration::from_millis(millis)), seconds, "{millis}");
        }
    }
}
