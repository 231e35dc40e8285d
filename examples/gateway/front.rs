//! What happens to a request before sign-in.
//!
//! 1. It gets a line in the log.
//! 2. A request that names two hosts, or asks for something a gateway does not do, is refused.
//! 3. So is one for another host, which an upstream could no longer tell: it is told ours. Only
//!    who asks for our health, and the provider that reports a sign-out, need not know our name.
//! 4. Where the public URL has a path, requests elsewhere are not found. The layer sees the path
//!    below it; the upstream later gets the target as it was received.

use std::convert::Infallible;
use std::net::SocketAddr;

use bytes::Bytes;
use http::header::{ALLOW, CACHE_CONTROL, CONNECTION, CONTENT_TYPE, HOST, HeaderValue};
use http::uri::{Authority, PathAndQuery};
use http::{Method, Request, Response, StatusCode, Uri, Version};
use hyper::body::Incoming;
use tower::ServiceExt as _;
use tower::util::BoxCloneSyncService;

use crate::access_log::Entry;
use crate::body::Passed;
use crate::client_address::TrustedProxies;
use crate::drain::Runs;
use crate::errors::{Asker, Refusal};
use crate::setup::Answered;
use crate::site::{Site, has_dot_segments, same_host};

/// The target of a request as it was received.
#[derive(Clone, Debug)]
pub struct Target(pub PathAndQuery);

/// The outermost service.
#[derive(Clone)]
pub struct Front {
    pub trusted: TrustedProxies,
    pub site: Site,
    pub runs: Runs,
    /// The layer, and the proxy behind it.
    pub inner: BoxCloneSyncService<Request<Incoming>, Response<Answered>, Infallible>,
}

impl Front {
    pub async fn serve(
        self,
        mut request: Request<Incoming>,
        peer: SocketAddr,
    ) -> Result<Response<Answered>, Infallible> {
        let client = self.trusted.client(peer, request.headers());
        let entry = Entry::begin(&request, client.address);
        let asker = Asker::of(request.headers());
        let version = request.version();
        let judged = judge(&request).and_then(|target| enter(&self.site, &mut request, target));
        let mut response = match judged {
            Ok(()) if self.runs.are_ending() && asks_whether_ready(&request) => draining(),
            Ok(()) => {
                if let Some(counted) = client.counted() {
                    request.extensions_mut().insert(counted);
                }
                request.extensions_mut().insert(client);
                self.inner.oneshot(request).await?
            }
            Err(refusal) => {
                let mut response = refusal.answer(asker, None);
                if refusal.status == StatusCode::METHOD_NOT_ALLOWED {
                    response.headers_mut().insert(ALLOW, HeaderValue::from_static(METHODS));
                }
                response
            }
        };
        if self.runs.are_ending()
            && version < Version::HTTP_2
            && response.status() != StatusCode::SWITCHING_PROTOCOLS
        {
            // HTTP/2 is told when nobody is accepted any more.
            response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
        }
        entry.answered(&response);
        Ok(response)
    }
}

/// Goes below the mount, and remembers the whole target.
fn enter<B>(site: &Site, request: &mut Request<B>, target: PathAndQuery) -> Result<(), Refusal> {
    let below = site.below(&target);
    let by_any_name = below.as_ref().is_some_and(|below| BY_ANY_NAME.contains(&below.path()));
    if !by_any_name && named_host(request).is_some_and(|host| !site.is_called(&host)) {
        return Err(Refusal::new(StatusCode::MISDIRECTED_REQUEST, "This host is not served here."));
    }
    if site.has_mount() {
        let below = below.ok_or(Refusal::new(StatusCode::NOT_FOUND, "There is nothing here."))?;
        if has_dot_segments(target.path()) {
            // An upstream that follows them would serve what lies outside.
            return Err(Refusal::new(StatusCode::BAD_REQUEST, "The path has dot segments."));
        }
        *request.uri_mut() = Uri::from(below);
    }
    request.extensions_mut().insert(Target(target));
    Ok(())
}

/// Returns the host a judged request names, wherever it does.
fn named_host<B>(request: &Request<B>) -> Option<Authority> {
    request
        .uri()
        .authority()
        .cloned()
        .or_else(|| Authority::try_from(request.headers().get(HOST)?.as_bytes()).ok())
}

/// Tells whether a request below the mount asks if it should come here.
fn asks_whether_ready<B>(request: &Request<B>) -> bool {
    request.uri().path() == READY && matches!(*request.method(), Method::GET | Method::HEAD)
}

fn draining() -> Response<Answered> {
    let mut response = Response::new(Passed::own(Bytes::from_static(b"draining")));
    *response.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

/// Judges what no upstream should see; returns the target.
fn judge<B>(request: &Request<B>) -> Result<PathAndQuery, Refusal> {
    if matches!(*request.method(), Method::CONNECT | Method::TRACE) {
        return Err(Refusal::new(
            StatusCode::METHOD_NOT_ALLOWED,
            "This method is not served here.",
        ));
    }
    judge_host(request)?;
    match request.uri().path_and_query() {
        Some(target) if target.as_str().starts_with('/') => Ok(target.clone()),
        _ => Err(Refusal::new(StatusCode::BAD_REQUEST, "The target of the request is no path.")),
    }
}

/// A request names one host (RFC 9112 section 3.2, RFC 9113 section 8.3.1): others on the way may
/// have believed the other one.
fn judge_host<B>(request: &Request<B>) -> Result<(), Refusal> {
    let bad = |text| Refusal::new(StatusCode::BAD_REQUEST, text);
    let mut hosts = request.headers().get_all(HOST).iter();
    let host = hosts.next();
    if hosts.next().is_some() {
        return Err(bad("The request has more than one Host."));
    }
    let host = match host.map(|host| Authority::try_from(host.as_bytes())) {
        Some(Ok(host)) if !host.as_str().contains('@') => Some(host),
        Some(_) => return Err(bad("The Host of the request is none.")),
        None if request.version() == Version::HTTP_11 => {
            return Err(bad("The request has no Host."));
        }
        None => None,
    };
    let authority = request.uri().authority();
    if authority.is_some_and(|authority| authority.as_str().contains('@')) {
        return Err(bad("The target of the request holds credentials."));
    }
    let usual = if request.uri().scheme_str() == Some("https") { 443 } else { 80 };
    match (authority, host) {
        (Some(authority), Some(host)) if !same_host(authority, &host, usual) => {
            Err(bad("The request names two hosts."))
        }
        _ => Ok(()),
    }
}

/// Below the mount; the layer has its usual prefix here.
const READY: &str = "/auth/health/ready";
/// Who asks here knows our address, perhaps not our name: an orchestrator, and the provider, whose
/// word is signed.
const BY_ANY_NAME: [&str; 3] = ["/auth/backchannel-logout", "/auth/health/live", READY];

const METHODS: &str = "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS";

#[cfg(test)]
mod tests {
    use super::*;

    fn judged(method: &str, target: &str, hosts: &[&str], version: Version) -> Result<(), u16> {
        let mut request = Request::builder().method(method).uri(target).version(version);
        for host in hosts {
            request = request.header(HOST, *host);
        }
        let request = request.body(()).unwrap();
        judge(&request).map(drop).map_err(|refusal| refusal.status.as_u16())
    }

    #[test]
    fn m18_a_request_names_one_host() {
        let (h1, h2) = (Version::HTTP_11, Version::HTTP_2);
        for (target, hosts, version, expected) in [
            ("/", &["a.example"][..], h1, Ok(())),
            ("/", &["a.example", "a.example"], h1, Err(400)),
            ("/", &[], h1, Err(400)),
            ("/", &[], Version::HTTP_10, Ok(())),
            ("/", &["a.example/x"], h1, Err(400)),
            ("/", &["user@a.example"], h1, Err(400)),
            ("/", &[""], h1, Err(400)),
            ("http://a.example/", &["a.example"], h1, Ok(())),
            ("http://a.example/", &["A.example:80"], h1, Ok(())),
            ("http://a.example/", &["b.example"], h1, Err(400)),
            ("http://a.example:81/", &["a.example"], h1, Err(400)),
            ("http://u@a.example/", &["a.example"], h1, Err(400)),
            ("https://a.example/", &["a.example:443"], h2, Ok(())),
            ("https://a.example/", &["b.example"], h2, Err(400)),
            ("https://a.example/", &[], h2, Ok(())),
        ] {
            assert_eq!(judged("GET", target, hosts, version), expected, "{target} {hosts:?}");
        }
    }

    #[test]
    fn o14_odd_methods_and_targets_are_refused() {
        for (method, target, expected) in [
            ("TRACE", "/", Err(405)),
            ("CONNECT", "a.example:443", Err(405)),
            ("OPTIONS", "*", Err(400)),
            ("GET", "a.example:443", Err(400)),
            ("GET", "//evil.example/", Ok(())),
            ("GET", "/@evil.example", Ok(())),
        ] {
            assert_eq!(
                judged(method, target, &["a.example"], Version::HTTP_11),
                expected,
                "{target}"
            );
        }
    }

    #[test]
    fn a_request_for_another_host_or_outside_is_turned_away() {
        let (root, app) = ("https://h.example", "https://h.example/app");
        for (url, target, host, expected) in [
            (root, "/x", Some("h.example"), Ok("/x")),
            (root, "/x", Some("H.example:443"), Ok("/x")),
            (root, "/x", Some("evil.example"), Err(421)),
            (root, "https://h.example/x", None, Ok("/x")),
            (root, "https://evil.example/x", None, Err(421)),
            (root, "https://evil.example/x", Some("h.example"), Err(421)),
            (root, "/x", None, Ok("/x")),
            (root, "/x/../y", Some("h.example"), Ok("/x/../y")),
            (root, "/auth/health/live", Some("10.0.0.7:8080"), Ok("/auth/health/live")),
            (root, "/auth/health/ready?x", Some("10.0.0.7:8080"), Ok("/auth/health/ready")),
            (root, "/auth/health/", Some("10.0.0.7:8080"), Err(421)),
            (
                root,
                "/auth/backchannel-logout",
                Some("10.0.0.7:8080"),
                Ok("/auth/backchannel-logout"),
            ),
            (root, "/auth/frontchannel-logout", Some("10.0.0.7:8080"), Err(421)),
            (root, "/auth/login", Some("10.0.0.7:8080"), Err(421)),
            (app, "/app/auth/health/ready", Some("10.0.0.7"), Ok("/auth/health/ready")),
            (app, "/auth/health/ready", Some("10.0.0.7"), Err(421)),
            (app, "/auth/health/ready", Some("h.example"), Err(404)),
            (app, "/app/x?../y", Some("h.example"), Ok("/x")),
            (app, "/app/%2e./x", Some("h.example"), Err(400)),
        ] {
            let mut request = Request::get(target);
            if let Some(host) = host {
                request = request.header(HOST, host);
            }
            let mut request = request.body(()).unwrap();
            let whole = request.uri().path_and_query().unwrap().clone();
            let entered = enter(&Site::new(&url.parse().unwrap()), &mut request, whole);
            let entered = entered.map(|()| request.uri().path());
            let entered = entered.map_err(|refusal| refusal.status.as_u16());
            assert_eq!(entered, expected, "{url} {target} {host:?}");
        }
    }

    #[test]
    fn only_ready_turns_red() {
        for (method, path, asks) in [
            ("GET", "/auth/health/ready", true),
            ("HEAD", "/auth/health/ready?x", true),
            ("POST", "/auth/health/ready", false),
            ("GET", "/auth/health/live", false),
            ("GET", "/", false),
        ] {
            let request = Request::builder().method(method).uri(path).body(()).unwrap();
            assert_eq!(asks_whether_ready(&request), asks, "{method} {path}");
        }
        assert_eq!(draining().status(), 503);
    }
}
