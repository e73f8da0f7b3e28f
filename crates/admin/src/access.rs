//! Who may call which method. One table for all, and what it does not name is refused.

use std::convert::Infallible;
use std::fmt;
use std::sync::Arc;
use std::task::{Context, Poll};

use estafet_model::PublicKey;
use estafet_topology::OperatorRole;
use futures_util::future::{Either, Ready, ready};
use tonic::Status;
use tonic::codegen::Service;
use tonic::codegen::http::{Request, Response};
use tower::Layer;

use crate::caller::Caller;
use crate::connection::Peer;

/// Each method with the least role that may call it. A path that ends in a slash stands for a whole service.
const NEEDED_ROLES: &[(&str, OperatorRole)] = &[
    ("/estafet.admin.v1.Admin/ListNodes", OperatorRole::Viewer),
    ("/estafet.admin.v1.Admin/GetNetwork", OperatorRole::Viewer),
    ("/estafet.admin.v1.Admin/GetPath", OperatorRole::Viewer),
    ("/estafet.admin.v1.Admin/GetRecord", OperatorRole::Viewer),
    ("/estafet.admin.v1.Admin/ListRecords", OperatorRole::Viewer),
    ("/estafet.admin.v1.Admin/Audit", OperatorRole::Viewer),
    ("/estafet.admin.v1.Admin/Tail", OperatorRole::Viewer),
    ("/estafet.admin.v1.Admin/Fetch", OperatorRole::Operator),
    ("/estafet.admin.v1.Admin/RetryQuarantine", OperatorRole::Operator),
    ("/estafet.admin.v1.Admin/Drain", OperatorRole::Operator),
    ("/estafet.admin.v1.Admin/Undrain", OperatorRole::Operator),
    ("/estafet.admin.v1.Admin/SetPower", OperatorRole::Operator),
    ("/estafet.admin.v1.Admin/PushTopology", OperatorRole::Operator),
    ("/grpc.health.v1.Health/", OperatorRole::Viewer),
    ("/grpc.reflection.v1.ServerReflection/", OperatorRole::Viewer),
    ("/grpc.reflection.v1alpha.ServerReflection/", OperatorRole::Viewer),
];

/// Looks a key up in the topology that is in force now.
pub(crate) type Callers = Arc<dyn Fn(&PublicKey) -> Option<Caller> + Send + Sync>;

/// Lets a request pass only if its caller has the role that its method needs, and names the caller to the handler.
///
/// The role is looked up for every request, so that a changed topology counts on open connections too.
#[derive(Clone)]
pub(crate) struct AccessLayer {
    callers: Callers,
}

impl AccessLayer {
    pub(crate) fn new(callers: Callers) -> Self {
        Self { callers }
    }
}

impl<S> Layer<S> for AccessLayer {
    type Service = Access<S>;

    fn layer(&self, inner: S) -> Access<S> {
        Access { callers: Arc::clone(&self.callers), inner }
    }
}

/// See [`AccessLayer`].
#[derive(Clone)]
pub(crate) struct Access<S> {
    callers: Callers,
    inner: S,
}

impl<S> Access<S> {
    fn caller(&self, peer: Option<&Peer>, method: &str) -> Result<Caller, Status> {
        let caller = match peer {
            Some(Peer::Local) => Some(Caller::local()),
            Some(Peer::Key(key)) => (self.callers)(key),
            None => None,
        };
        let caller = caller.ok_or_else(|| Status::unauthenticated("the topology in force does not name this key"))?;
        let needed = needed_role(method)
            .ok_or_else(|| Status::permission_denied(format!("no role may call {method}; is the program too new?")))?;
        if caller.role < needed {
            let name = &caller.name;
            let text = format!("{method} needs the role {needed}; `{name}` has the role {}", caller.role);
            return Err(Status::permission_denied(text));
        }
        Ok(caller)
    }
}

impl<S, ReqBody, ResBody> Service<Request<ReqBody>> for Access<S>
where
    S: Service<Request<ReqBody>, Response = Response<ResBody>, Error = Infallible>,
    ResBody: Default,
{
    type Response = Response<ResBody>;
    type Error = Infallible;
    type Future = Either<S::Future, Ready<Result<Response<ResBody>, Infallible>>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, mut request: Request<ReqBody>) -> Self::Future {
        match self.caller(request.extensions().get(), request.uri().path()) {
            Ok(caller) => {
                request.extensions_mut().insert(caller);
                Either::Left(self.inner.call(request))
            }
            Err(status) => {
                tracing::debug!(method = request.uri().path(), %status, "refused");
                Either::Right(ready(Ok(status.into_http())))
            }
        }
    }
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
