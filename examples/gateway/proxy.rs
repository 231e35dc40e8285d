//! The service behind the layer: sends a request on and brings the answer back.
//!
//! Bodies and trailers are passed on as they come, in both directions; nothing is collected. A
//! client that leaves drops the future of its request, which takes the request to the upstream
//! back. An answer that breaks in the middle breaks the client's connection too: it never looks
//! whole.

use std::convert::Infallible;
use std::error::Error as _;
use std::future::Future;
use std::io;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::uri::PathAndQuery;
use http::{Method, Request, Response, StatusCode, Version};
use http_body::Body as _;
use hyper::body::Incoming;
use hyper_util::client::legacy::Error;
use tower::Service;
use tower_pkce_auth::Identity;

use crate::body::Passed;
use crate::client_address::Client;
use crate::drain::Runs;
use crate::errors::{Asker, Reference, Refusal};
use crate::forwarding::{self, PublicOrigin};
use crate::front::Target;
use crate::upgrade::Handshake;
use crate::upload::{Progress, Upload};
use crate::upstream::{Manner, RequestBody, Upstream};

/// The proxy; clones share the connections to the upstream.
#[derive(Clone)]
pub struct Proxy(Arc<Shared>);

struct Shared {
    upstream: Upstream,
    public: PublicOrigin,
    time_out: Duration,
    runs: Runs,
}

/// Why there is no answer of the upstream.
enum Failure {
    Broken(Error),
    TimedOut,
    /// The client did not go on with its request.
    ClientSilent,
}

impl Proxy {
    pub fn new(upstream: Upstream, public: PublicOrigin, time_out: Duration, runs: Runs) -> Self {
        Self(Arc::new(Shared { upstream, public, time_out, runs }))
    }
}

impl Service<Request<Incoming>> for Proxy {
    type Response = Response<Passed<Incoming>>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Incoming>) -> Self::Future {
        let shared = self.0.clone();
        Box::pin(async move {
            let identity = request.extensions().get::<Identity>().cloned();
            let mut response = shared.relay(request, identity.as_ref()).await;
            if let Some(identity) = identity {
                response.extensions_mut().insert(identity);
            }
            Ok(response)
        })
    }
}

impl Shared {
    async fn relay(
        &self,
        mut request: Request<Incoming>,
        identity: Option<&Identity>,
    ) -> Response<Passed<Incoming>> {
        let asker = Asker::of(request.headers());
        let extensions = request.extensions();
        let (Some(Target(target)), Some(client)) =
            (extensions.get::<Target>().cloned(), extensions.get::<Client>().cloned())
        else {
            return fail(
                asker,
                StatusCode::INTERNAL_SERVER_ERROR,
                "This gateway is broken.",
                "set-up",
            );
        };
        let handshake = if self.upstream.http1 { Handshake::of(&mut request) } else { None };
        let manner = match handshake.as_ref().and_then(Handshake::protocols) {
            Some(protocols) => Manner::Upgrade(protocols),
            // gRPC needs HTTP/2 to the end; gRPC-Web does not.
            None if asker == Asker::Grpc => Manner::Grpc,
            None => Manner::Plain,
        };
        if manner == Manner::Grpc && !self.upstream.serves_grpc {
            return fail(
                asker,
                StatusCode::NOT_IMPLEMENTED,
                "The service behind this gateway is not called by gRPC.",
                "a gRPC call, but the upstream is http://; say h2c:// if it speaks gRPC",
            );
        }
        let (mut head, body) = request.into_parts();
        let headers = &mut head.headers;
        if forwarding::to_upstream(headers, &self.public, &client, identity, &manner).is_err() {
            return fail(
                asker,
                StatusCode::FORBIDDEN,
                "You are in more groups than the service behind this page can be told of.",
                "the groups take more than 4 KiB",
            );
        }
        if self.upstream.http1 && manner != Manner::Grpc {
            forwarding::frame(headers, &body);
        }
        match self.exchange(head, body, target, &manner).await {
            Ok(response) => self.answer(response, handshake, asker, identity),
            Err(Failure::ClientSilent) => {
                // Nothing is wrong with the upstream; the line of the request says enough.
                let text = "The rest of the request did not come in time.";
                Refusal::new(StatusCode::REQUEST_TIMEOUT, text).answer(asker, None)
            }
            Err(Failure::TimedOut) => fail(
                asker,
                StatusCode::GATEWAY_TIMEOUT,
                "The service behind this page did not answer in time.",
                "time-out",
            ),
            Err(Failure::Broken(error)) => {
                let text = if error.is_connect() {
                    "The service behind this page cannot be reached."
                } else {
                    "The service behind this page gave no answer."
                };
                fail(asker, StatusCode::BAD_GATEWAY, text, &causes(&error))
            }
        }
    }

    /// Sends the request; one that changes nothing and has no body is sent again if the upstream
    /// closed an idle connection at that moment (RFC 9110 section 9.2.2).
    async fn exchange(
        &self,
        head: http::request::Parts,
        body: Incoming,
        target: PathAndQuery,
        manner: &Manner,
    ) -> Result<Response<Incoming>, Failure> {
        let progress = Progress::new();
        let safe = matches!(head.method, Method::GET | Method::HEAD | Method::OPTIONS);
        let repeatable = safe && *manner == Manner::Plain && body.is_end_stream();
        let make = |body: RequestBody| {
            let mut request = Request::new(body);
            *request.method_mut() = head.method.clone();
            *request.uri_mut() = self.upstream.uri(target.clone());
            *request.version_mut() = Version::HTTP_11;
            *request.headers_mut() = head.headers.clone();
            request
        };
        if repeatable {
            let request = make(Passed::own(Bytes::new()));
            match self.await_head(request, manner, &progress).await {
                Err(Failure::Broken(error)) if closed_before_answering(&error) => {
                    let request = make(Passed::own(Bytes::new()));
                    self.await_head(request, manner, &progress).await
                }
                other => other,
            }
        } else {
            let upload = if *manner == Manner::Grpc && head.version == Version::HTTP_2 {
                Upload::stream(body, progress.clone())
            } else {
                Upload::new(body, progress.clone())
            };
            let request = make(Passed::on(upload));
            self.await_head(request, manner, &progress).await
        }
    }

    /// Waits for the head of the answer. The limit counts from the last piece of the request's
    /// body that the upstream took: a long upload is not a slow answer.
    async fn await_head(
        &self,
        request: Request<RequestBody>,
        manner: &Manner,
        progress: &Progress,
    ) -> Result<Response<Incoming>, Failure> {
        let mut answer = pin!(self.upstream.send(request, manner));
        loop {
            let moved = progress.last();
            tokio::select! {
                answer = &mut answer => return answer.map_err(|error| {
                    if progress.is_given_up() {
                        Failure::ClientSilent
                    } else {
                        Failure::Broken(error)
                    }
                }),
                () = tokio::time::sleep_until(moved + self.time_out) => {
                    if progress.last() == moved {
                        return Err(Failure::TimedOut);
                    }
                }
            }
        }
    }

    fn answer(
        &self,
        mut response: Response<Incoming>,
        handshake: Option<Handshake>,
        asker: Asker,
        identity: Option<&Identity>,
    ) -> Response<Passed<Incoming>> {
        if response.status() != StatusCode::SWITCHING_PROTOCOLS {
            forwarding::to_client(response.headers_mut());
            return response.map(Passed::on);
        }
        let chosen = handshake.and_then(|handshake| {
            let protocol = handshake.chosen(response.headers())?;
            Some((handshake, protocol))
        });
        let Some((handshake, protocol)) = chosen else {
            let text = "The service behind this page changed to a protocol nobody asked for.";
            return fail(asker, StatusCode::BAD_GATEWAY, text, "unasked upgrade");
        };
        let upstream = hyper::upgrade::on(&mut response);
        handshake.connect(upstream, identity.map(Identity::ended), self.runs.one());
        forwarding::to_client(response.headers_mut());
        forwarding::add_upgrade(response.headers_mut(), protocol);
        response.map(|_| Passed::own(Bytes::new()))
    }
}

/// Answers for the upstream, and writes the reason to the log.
fn fail(
    asker: Asker,
    status: StatusCode,
    text: &'static str,
    reason: &str,
) -> Response<Passed<Incoming>> {
    let reference = Reference::new();
    tracing::warn!(target: "gateway::upstream", status = status.as_u16(), %reference, reason);
    Refusal::new(status, text).answer(asker, Some(reference))
}

/// Tells whether a connection ended before a byte of the answer came.
fn closed_before_answering(error: &Error) -> bool {
    if error.is_connect() {
        return false;
    }
    let mut source = error.source();
    while let Some(cause) = source {
        if cause.downcast_ref::<hyper::Error>().is_some_and(hyper::Error::is_incomplete_message) {
            return true;
        }
        if let Some(error) = cause.downcast_ref::<io::Error>() {
            return matches!(
                error.kind(),
                io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset
            );
        }
        source = cause.source();
    }
    false
}

fn causes(error: &Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}
