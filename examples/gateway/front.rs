//! What happens to a request before sign-in.
//!
//! 1. It gets a line in the log.
//! 2. A request that names two hosts, or asks for something a gateway does not do, is refused.
//! 3. Where the public URL has a path, requests elsewhere are not found. The layer sees the path
//!    below it; the upstream later gets the target as it was received.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;

use http::header::{ALLOW, HOST, HeaderValue};
use http::uri::{Authority, PathAndQuery};
use http::{Method, Request, Response, StatusCode, Uri, Version};
use hyper::body::Incoming;
use tower::ServiceExt as _;
use tower::util::BoxCloneSyncService;

use crate::access_log::Entry;
use crate::client_address::TrustedProxies;
use crate::errors::{Asker, Refusal};
use crate::setup::Answered;

/// The target of a request as it was received.
#[derive(Clone, Debug)]
pub struct Target(pub PathAndQuery);

/// The outermost service.
#[derive(Clone)]
pub struct Front {
    pub trusted: TrustedProxies,
    /// The path of the public URL; empty at the root.
    pub mount: Arc<str>,
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
        let response = match judge(&request).and_then(|target| self.enter(&mut request, target)) {
            Ok(()) => {
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
        entry.answered(&response);
        Ok(response)
    }

    /// Goes below the mount, and remembers the whole target.
    fn enter(&self, request: &mut Request<Incoming>, target: PathAndQuery) -> Result<(), Refusal> {
        if !self.mount.is_empty() {
            let below = below(&self.mount, &target)
                .ok_or(Refusal::new(StatusCode::NOT_FOUND, "There is nothing here."))?;
            *request.uri_mut() = Uri::from(below);
        }
        request.extensions_mut().insert(Target(target));
        Ok(())
    }
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

/// A request names one host (RFC 9112 section 3.2, RFC 9113 section 8.3.1). It decides nothing
/// here, but others on the way may have believed the other one.
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
    match (authority, host) {
        (Some(authority), Some(host)) if !same_host(authority, &host, request.uri()) => {
            Err(bad("The request names two hosts."))
        }
        _ => Ok(()),
    }
}

fn same_host(a: &Authority, b: &Authority, uri: &Uri) -> bool {
    let usual = if uri.scheme_str() == Some("https") { 443 } else { 80 };
    a.host().eq_ignore_ascii_case(b.host())
        && a.port_u16().unwrap_or(usual) == b.port_u16().unwrap_or(usual)
}

/// Returns the part of a target below a mount, without changing a byte of it.
fn below(mount: &str, target: &PathAndQuery) -> Option<PathAndQuery> {
    let rest = target.as_str().strip_prefix(mount)?;
    match rest.as_bytes().first() {
        Some(b'/') => PathAndQuery::try_from(rest).ok(),
        Some(b'?') | None => PathAndQuery::try_from(format!("/{rest}")).ok(),
        Some(_) => None,
    }
}

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
    fn a_mount_is_left_on_segments() {
        for (target, rest) in [
            ("/app", Some("/")),
            ("/app?q=1", Some("/?q=1")),
            ("/app/", Some("/")),
            ("/app//x?y", Some("//x?y")),
            ("/app/%2e", Some("/%2e")),
            ("/apple", None),
            ("/", None),
            ("/x/app/", None),
        ] {
            let rest_found = below("/app", &target.parse().unwrap());
            assert_eq!(rest_found.as_ref().map(PathAndQuery::as_str), rest, "{target}");
        }
    }
}
