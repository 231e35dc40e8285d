//! The service: classifies each request, and passes it on or answers it.

use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use http::header::COOKIE;
use http::{HeaderMap, Request, Response};
use http_body::Body;
use tower_service::Service;

use crate::admission::{Admission, Gate, Verdict, admit, judge_crossing};
use crate::after::After;
use crate::flow::{self, Core};
use crate::future::ResponseFuture;
use crate::headers;
use crate::identity::Identity;
use crate::paths::Class;
use crate::respond::{Pages, Respond};
use crate::session::keeper::Patience;

/// The service that [`PkceAuthLayer`](crate::PkceAuthLayer) makes.
///
/// Its response and error types are those of the inner service, and its future boxes nothing on a
/// path that passes through. The inner service must be `Clone`, as services of axum, tonic and
/// hyper are.
///
/// # Panics
///
/// Polled outside a Tokio runtime with time enabled.
#[derive(Debug)]
#[must_use]
pub struct PkceAuth<S, R = Pages> {
    pub(crate) inner: S,
    pub(crate) core: Arc<Core>,
    pub(crate) gate: Arc<Gate>,
    pub(crate) responder: R,
}

impl<S: Clone, R: Clone> Clone for PkceAuth<S, R> {
    fn clone(&self) -> Self {
        Self {
            inner: self.inner.clone(),
            core: self.core.clone(),
            gate: self.gate.clone(),
            responder: self.responder.clone(),
        }
    }
}

impl<S, R, ReqBody, ResBody> Service<Request<ReqBody>> for PkceAuth<S, R>
where
    S: Service<Request<ReqBody>, Response = Response<ResBody>> + Clone,
    R: Respond<ResBody> + Clone,
    ReqBody: Body,
{
    type Response = Response<ResBody>;
    type Error = S::Error;
    type Future = ResponseFuture<S, R, ReqBody>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<ReqBody>) -> Self::Future {
        let noticed = headers::strip_identity(request.headers_mut(), &self.gate.identity_headers);
        // Only this layer says who somebody is, whatever stands before it.
        request.extensions_mut().remove::<Identity>();
        let class = self.gate.paths.classify(request.method(), request.uri().path());
        match class {
            Class::Open => {
                self.core.cookies.strip(request.headers_mut(), None);
                let after = After::anonymous(&self.core, false);
                ResponseFuture::inner(self.inner.call(request), after)
            }
            Class::Ours(endpoint) => {
                self.give_up_readiness();
                let (parts, body) = request.into_parts();
                let (core, responder) = (self.core.clone(), self.responder.clone());
                if flow::takes_form(&core, endpoint, &parts.method) {
                    return ResponseFuture::form(core, endpoint, parts, body, responder);
                }
                let flow = flow::serve(core, endpoint, Arc::new(parts), None);
                ResponseFuture::flow(Box::pin(flow), responder)
            }
            Class::Optional | Class::Protected => {
                let optional = class == Class::Optional;
                let crossing = judge_crossing(&self.core, &request, noticed);
                let touch = crossing.is_ok();
                // What this process knows needs no waiting.
                let found = poll_once(self.core.find(request.headers(), touch, Patience::None));
                let authorization = noticed.authorization;
                let waiting = Admission { optional, crossing, authorization };
                match found {
                    Some(found) => {
                        match admit(&self.core, &self.gate, waiting, &mut request, found) {
                            Verdict::Pass(after) => {
                                ResponseFuture::inner(self.inner.call(request), after)
                            }
                            Verdict::Answer(answer) => {
                                self.give_up_readiness();
                                ResponseFuture::answer(answer, self.responder.clone())
                            }
                        }
                    }
                    None => {
                        let core = self.core.clone();
                        let cookies = cookie_fields(request.headers());
                        let lookup =
                            Box::pin(
                                async move { core.find(&cookies, touch, Patience::Some).await },
                            );
                        // The service that is ready must be the one that is called; a clone of it
                        // need not be.
                        let clone = self.inner.clone();
                        let ready = std::mem::replace(&mut self.inner, clone);
                        ResponseFuture::lookup(
                            lookup,
                            ready,
                            request,
                            waiting,
                            (self.core.clone(), self.gate.clone(), self.responder.clone()),
                        )
                    }
                }
            }
        }
    }
}

impl<S: Clone, R> PkceAuth<S, R> {
    /// The inner service will not be called: what it reserved when it became ready (a permit, a
    /// place in a buffer) is given back.
    fn give_up_readiness(&mut self) {
        let clone = self.inner.clone();
        drop(std::mem::replace(&mut self.inner, clone));
    }
}

/// Polls a future once; what needs no waiting is done by then, on the stack.
fn poll_once<T>(future: impl Future<Output = T>) -> Option<T> {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(value) => Some(value),
        Poll::Pending => None,
    }
}

/// Copies the only fields a look-up reads.
fn cookie_fields(headers: &HeaderMap) -> HeaderMap {
    let mut fields = HeaderMap::new();
    for value in headers.get_all(COOKIE) {
        fields.append(COOKIE, value.clone());
    }
    fields
}
