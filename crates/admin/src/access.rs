//! Who may call which method. One table for all, and what it does not name is refused.

use std::convert::Infallible;
use std::fmt;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use estafet_topology::OperatorRole;
use futures_util::TryFutureExt;
use futures_util::future::{BoxFuture, ready};
use http_body_util::BodyExt;
use tonic::Status;
use tonic::body::Body;
use tonic::codegen::http::{Request, Response};
use tonic::codegen::{Body as HttpBody, Service, StdError};
use tower::Layer;

use crate::caller::Caller;
use crate::connection::Peer;
use crate::doorkeeper::{Doorkeeper, Refusal, Refused, WhyRefused};
use crate::quota::{Limits, Quotas, Running};

/// Each method with the least role that may call it. A path that ends in a slash stands for a whole service.
const NEEDED_ROLES: &[(&str, OperatorRole)] = &[
    ("/estafet.admin.v1.Admin/ListNodes", OperatorRole::Viewer),
    ("/estafet.admin.v1.Admin/GetNetwork", OperatorRole::Viewer),
    ("/estafet.admin.v1.Admin/GetPath", OperatorRole::Viewer),
    ("/estafet.admin.v1.Admin/GetRecord", OperatorRole::Viewer),
    ("/estafet.admin.v1.Admin/ListRecords", OperatorRole::Viewer),
    ("/estafet.admin.v1.Admin/Audit", OperatorRole::Viewer),
    ("/estafet.admin.v1.Admin/Tail", OperatorRole::Viewer),
    ("/estafet.admin.v1.Admin/GetReceipt", OperatorRole::Viewer),
    ("/estafet.admin.v1.Admin/ListHeads", OperatorRole::Viewer),
    ("/estafet.admin.v1.Admin/WalkChain", OperatorRole::Viewer),
    ("/estafet.admin.v1.Admin/Fetch", OperatorRole::Operator),
    ("/estafet.admin.v1.Admin/Incident", OperatorRole::Operator),
    ("/estafet.admin.v1.Admin/RetryQuarantine", OperatorRole::Operator),
    ("/estafet.admin.v1.Admin/Drain", OperatorRole::Operator),
    ("/estafet.admin.v1.Admin/Undrain", OperatorRole::Operator),
    ("/estafet.admin.v1.Admin/SetPower", OperatorRole::Operator),
    ("/estafet.admin.v1.Admin/PushTopology", OperatorRole::Operator),
    ("/estafet.admin.v1.Admin/ReadAuditLog", OperatorRole::Admin),
    ("/grpc.health.v1.Health/", OperatorRole::Viewer),
    ("/grpc.reflection.v1.ServerReflection/", OperatorRole::Viewer),
    ("/grpc.reflection.v1alpha.ServerReflection/", OperatorRole::Viewer),
];

/// Lets a request pass only if its caller has the role that its method needs and has not asked too much, and names the
/// caller to the handler.
///
/// The role is looked up for every request, so that a changed topology counts on open connections too.
#[derive(Clone)]
pub(crate) struct AccessLayer {
    guard: Guard,
}

impl AccessLayer {
    pub(crate) fn new(doorkeeper: Arc<dyn Doorkeeper>, limits: Limits) -> Self {
        Self { guard: Guard { doorkeeper, quotas: Arc::new(Quotas::new(limits)) } }
    }
}

impl<S> Layer<S> for AccessLayer {
    type Service = Access<S>;

    fn layer(&self, inner: S) -> Access<S> {
        Access { guard: self.guard.clone(), inner }
    }
}

/// See [`AccessLayer`].
#[derive(Clone)]
pub(crate) struct Access<S> {
    guard: Guard,
    inner: S,
}

/// Who decides about requests.
#[derive(Clone)]
struct Guard {
    doorkeeper: Arc<dyn Doorkeeper>,
    quotas: Arc<Quotas>,
}

impl Guard {
    /// The caller and the place of their call, or what they are told.
    fn admit(&self, peer: Option<&Peer>, method: &str) -> Result<(Caller, Running), Status> {
        let caller = match peer {
            Some(Peer::Local(user)) => Caller::local(*user),
            Some(Peer::Key { key, address }) => self.doorkeeper.caller(key).ok_or_else(|| {
                let who = Refused::Stranger { address: *address, key: *key };
                let text = "the topology in force does not name this key".to_owned();
                self.refuse(who, WhyRefused::UnknownKey, method, text, Status::unauthenticated)
            })?,
            None => return Err(Status::unauthenticated("nobody knows who asks")),
        };
        let refuse = |why, text, status: fn(String) -> Status| {
            self.refuse(Refused::Caller(caller.clone()), why, method, text, status)
        };
        let Some(needed) = needed_role(method) else {
            let text = format!("no role may call {method}; is the program too new?");
            return Err(refuse(WhyRefused::Role, text, Status::permission_denied));
        };
        if caller.role < needed {
            let text = format!("{method} needs the role {needed}; `{}` has the role {}", caller.name, caller.role);
            return Err(refuse(WhyRefused::Role, text, Status::permission_denied));
        }
        match self.quotas.begin(caller.proof) {
            Ok(running) => Ok((caller, running)),
            Err(error) => Err(refuse(WhyRefused::TooMany, error.to_string(), Status::resource_exhausted)),
        }
    }

    fn refuse(
        &self,
        who: Refused,
        why: WhyRefused,
        method: &str,
        text: String,
        status: impl FnOnce(String) -> Status,
    ) -> Status {
        self.doorkeeper.refused(Refusal { who, why, method: Some(method.to_owned()), text: text.clone() });
        status(text)
    }
}

impl<S, ReqBody, ResBody> Service<Request<ReqBody>> for Access<S>
where
    S: Service<Request<ReqBody>, Response = Response<ResBody>, Error = Infallible>,
    S::Future: Send + 'static,
    ResBody: HttpBody<Data = Bytes> + Send + 'static,
    ResBody::Error: Into<StdError>,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Response<Body>, Infallible>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, mut request: Request<ReqBody>) -> Self::Future {
        match self.guard.admit(request.extensions().get(), request.uri().path()) {
            Ok((caller, running)) => {
                request.extensions_mut().insert(caller);
                Box::pin(self.inner.call(request).map_ok(|response| response.map(|body| while_running(body, running))))
            }
            Err(status) => {
                tracing::debug!(method = request.uri().path(), %status, "refused");
                Box::pin(ready(Ok(status.into_http())))
            }
        }
    }
}

/// The same body, with which the call ends: a stream runs until somebody has had enough of it.
fn while_running<B>(body: B, running: Running) -> Body
where
    B: HttpBody<Data = Bytes> + Send + 'static,
    B::Error: Into<StdError>,
{
    Body::new(body.map_frame(move |frame| {
        let _until_dropped = &running;
        frame
    }))
}

impl<S> fmt::Debug for Access<S> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Access")
    }
}

fn needed_role(method: &str) -> Option<OperatorRole> {
    let names = |entry: &str| entry == method || (entry.ends_with('/') && method.starts_with(entry));
    NEEDED_ROLES.iter().find(|(entry, _)| names(entry)).map(|(_, role)| *role)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_says_what_the_api_promises() {
        let mut promised = None;
        let mut methods = 0;
        for line in include_str!("../../../proto/estafet/admin/v1/admin.proto").lines().map(str::trim) {
            if let Some((_, role)) = line.split_once("Needs the role ") {
                promised = Some(role.trim_end_matches('.'));
            }
            if let Some((name, _)) = line.strip_prefix("rpc ").and_then(|rest| rest.split_once('(')) {
                let needed = needed_role(&format!("/estafet.admin.v1.Admin/{name}")).map(|role| role.to_string());
                assert_eq!(needed.as_deref(), promised.take(), "{name}");
                methods += 1;
            }
        }
        assert!(methods >= 8, "only {methods} methods were found");
    }

    #[test]
    fn what_the_table_does_not_name_is_refused() {
        for (method, role) in [
            ("/estafet.admin.v1.Admin/Fetch", Some(OperatorRole::Operator)),
            ("/estafet.admin.v1.Admin/Audit", Some(OperatorRole::Viewer)),
            ("/estafet.admin.v1.Admin/GetReceipt", Some(OperatorRole::Viewer)),
            ("/estafet.admin.v1.Admin/WalkChain", Some(OperatorRole::Viewer)),
            ("/estafet.admin.v1.Admin/Incident", Some(OperatorRole::Operator)),
            ("/grpc.health.v1.Health/Check", Some(OperatorRole::Viewer)),
            ("/estafet.admin.v1.Admin/Erase", None),
            ("/estafet.admin.v1.Admin/", None),
            ("/estafet.admin.v1.Admin/FetchAll", None),
            ("/grpc.health.v1.HealthX/Check", None),
            ("", None),
        ] {
            assert_eq!(needed_role(method), role, "{method}");
        }
    }
}
