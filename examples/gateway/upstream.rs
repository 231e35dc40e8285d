//! The one service behind the gateway, and the connections to it.
//!
//! | `--upstream` | requests | gRPC | upgrades |
//! |---|---|---|---|
//! | `http://` | HTTP/1.1 | refused | HTTP/1.1 |
//! | `https://` | HTTP/1.1 | HTTP/2 or HTTP/1.1, as TLS negotiates (ALPN) | HTTP/1.1 |
//! | `h2c://` | HTTP/2 without TLS, by prior knowledge | the same | none |
//!
//! No request chooses HTTP/2 by prior knowledge: a server of HTTP/1.1 would read its frames, which
//! hold what the client sent, as requests. And none that can have a connection of its own shares
//! one: responses nobody reads fill up what a connection of HTTP/2 may hold, and stop the others.
//!
//! The connector knows one destination and does not ask the request for another: no target, no
//! `Host` and no absolute URL leads elsewhere. The authority in a request's URI is the public one,
//! so that HTTP/2 upstreams see in `:authority` what HTTP/1.1 upstreams see in `Host`.

use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use http::header::HeaderValue;
use http::uri::{Authority, PathAndQuery, Scheme};
use http::{Request, Response, Uri};
use hyper::body::Incoming;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::client::legacy::{Client, Error};
use hyper_util::rt::{TokioExecutor, TokioTimer};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use rustls::{ClientConfig, RootCertStore};
use tower::Service;
use url::Url;

use crate::body::Passed;
use crate::upload::Upload;

/// The body of a request to the upstream.
pub type RequestBody = Passed<Upload>;

/// The service behind the gateway.
#[derive(Clone)]
pub struct Upstream {
    scheme: Scheme,
    /// What browsers call us.
    authority: Authority,
    plain: Client<Destination, RequestBody>,
    grpc: Client<Destination, RequestBody>,
    /// Whether requests but gRPC's go over HTTP/1.1; so an upgrade can be asked for.
    pub http1: bool,
    /// Whether gRPC can be spoken.
    pub serves_grpc: bool,
}

/// How a request is to be sent.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Manner {
    Grpc,
    Plain,
    /// With the protocols that are asked for.
    Upgrade(HeaderValue),
}

/// Where the upstream is, as it was configured.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct UpstreamUrl {
    uri: Uri,
    prior_knowledge: bool,
}

impl UpstreamUrl {
    /// Reads `http://`, `https://` or `h2c://host[:port]`.
    ///
    /// # Errors
    ///
    /// A text that says what is wrong.
    pub fn parse(text: &str) -> Result<Self, String> {
        if text.contains('@') {
            // It may hold a password, and is not repeated.
            return Err("upstream: the URL holds an @; credentials are not sent".to_owned());
        }
        let bad = |why: &str| format!("upstream {text:?}: {why}");
        let prior_knowledge = text.starts_with("h2c://");
        let url = text.replacen("h2c://", "http://", 1);
        let url = Url::parse(&url).map_err(|_| bad("not an absolute URL"))?;
        if !matches!(url.scheme(), "http" | "https") {
            return Err(bad("http, https or h2c is needed"));
        }
        if url.path() != "/" || url.query().is_some() || url.fragment().is_some() {
            return Err(bad("only scheme, host and port; paths are passed on as they are"));
        }
        let (Some(host), Some(port)) = (url.host_str(), url.port_or_known_default()) else {
            return Err(bad("it names no host"));
        };
        let uri = format!("{}://{host}:{port}/", url.scheme());
        let uri = uri.parse().map_err(|_| bad("the host cannot be used"))?;
        Ok(Self { uri, prior_knowledge })
    }
}

impl Upstream {
    /// Makes the clients; nothing is connected yet. `authority` is that of the public URL.
    pub fn new(url: &UpstreamUrl, authority: Authority, roots: RootCertStore) -> Self {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let tls = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("the provider serves TLS 1.2 and 1.3")
            .with_root_certificates(roots)
            .with_no_client_auth();
        let connector = |http2: bool| {
            let builder = HttpsConnectorBuilder::new().with_tls_config(tls.clone()).https_or_http();
            let builder = builder.enable_http1();
            let inner = if http2 {
                builder.enable_http2().wrap_connector(tcp())
            } else {
                builder.wrap_connector(tcp())
            };
            Destination { inner, uri: url.uri.clone() }
        };
        let tls = url.uri.scheme() == Some(&Scheme::HTTPS);
        let plain = client(url.prior_knowledge, connector(false));
        let grpc = if tls { client(false, connector(true)) } else { plain.clone() };
        Self {
            scheme: url.uri.scheme().cloned().unwrap_or(Scheme::HTTP),
            authority,
            plain,
            grpc,
            http1: !url.prior_knowledge,
            serves_grpc: url.prior_knowledge || tls,
        }
    }

    /// Returns the URI of a request: the target as it was received, byte for byte.
    pub fn uri(&self, target: PathAndQuery) -> Uri {
        let mut parts = http::uri::Parts::default();
        parts.scheme = Some(self.scheme.clone());
        parts.authority = Some(self.authority.clone());
        parts.path_and_query = Some(target);
        Uri::from_parts(parts).expect("scheme, authority and path make a URI")
    }

    /// Sends a request. Dropping the future takes it back.
    pub async fn send(
        &self,
        request: Request<RequestBody>,
        manner: &Manner,
    ) -> Result<Response<Incoming>, Error> {
        let client = match manner {
            Manner::Grpc => &self.grpc,
            Manner::Plain | Manner::Upgrade(_) => &self.plain,
        };
        client.request(request).await
    }
}

/// Reads the authorities to trust: a PEM file's and no others, or the web's.
///
/// # Errors
///
/// A text that says what is wrong.
pub fn roots(pem: Option<&[u8]>) -> Result<RootCertStore, String> {
    let mut roots = RootCertStore::empty();
    let Some(pem) = pem else {
        roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
        return Ok(roots);
    };
    for certificate in CertificateDer::pem_slice_iter(pem) {
        let certificate = certificate.map_err(|error| error.to_string())?;
        roots.add(certificate).map_err(|error| error.to_string())?;
    }
    if roots.is_empty() { Err("it holds no certificate".to_owned()) } else { Ok(roots) }
}

/// Connects to one place, whatever is asked for.
#[derive(Clone)]
struct Destination {
    inner: HttpsConnector<HttpConnector>,
    uri: Uri,
}

impl Service<Uri> for Destination {
    type Response = <HttpsConnector<HttpConnector> as Service<Uri>>::Response;
    type Error = <HttpsConnector<HttpConnector> as Service<Uri>>::Error;
    type Future = <HttpsConnector<HttpConnector> as Service<Uri>>::Future;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, _: Uri) -> Self::Future {
        self.inner.call(self.uri.clone())
    }
}

fn tcp() -> HttpConnector {
    let mut tcp = HttpConnector::new();
    tcp.enforce_http(false);
    tcp.set_nodelay(true);
    tcp.set_keepalive(Some(Duration::from_secs(60)));
    tcp.set_connect_timeout(Some(CONNECT_TIMEOUT));
    tcp
}

fn client(prior_knowledge: bool, connector: Destination) -> Client<Destination, RequestBody> {
    Client::builder(TokioExecutor::new())
        .timer(TokioTimer::new())
        .pool_timer(TokioTimer::new())
        .pool_idle_timeout(POOL_IDLE)
        .http1_max_headers(MAX_RESPONSE_FIELDS)
        .http1_max_buf_size(MAX_RESPONSE_HEAD as usize)
        .http2_only(prior_knowledge)
        .http2_max_header_list_size(MAX_RESPONSE_HEAD)
        .http2_initial_stream_window_size(STREAM_WINDOW)
        .http2_initial_connection_window_size(CONNECTION_WINDOW)
        .http2_keep_alive_interval(Duration::from_secs(30))
        .http2_keep_alive_timeout(Duration::from_secs(20))
        .build(connector)
}

const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// Shorter than servers keep an idle connection (Node.js 5 s), so that hardly ever one is used
/// while the other side closes it.
const POOL_IDLE: Duration = Duration::from_secs(4);
const MAX_RESPONSE_FIELDS: usize = 200;
const MAX_RESPONSE_HEAD: u32 = 64 * 1024;
/// What the gateway holds of a response that its client does not read.
const STREAM_WINDOW: u32 = 256 * 1024;
/// So much for 4096 streams: who does not read stops nobody else.
const CONNECTION_WINDOW: u32 = 1 << 30;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn upstreams_are_a_scheme_a_host_and_a_port() {
        for (text, uri, prior_knowledge) in [
            ("http://127.0.0.1:9090", "http://127.0.0.1:9090/", false),
            ("http://prometheus/", "http://prometheus:80/", false),
            ("https://a.example", "https://a.example:443/", false),
            ("h2c://[::1]:50051", "http://[::1]:50051/", true),
        ] {
            let parsed = UpstreamUrl::parse(text).unwrap();
            assert_eq!(
                (parsed.uri.to_string(), parsed.prior_knowledge),
                (uri.into(), prior_knowledge)
            );
        }
        for bad in [
            "a.example",
            "ftp://a",
            "http://a/b",
            "http://a/?q",
            "http://a/#f",
            "http://u:p@a",
            "htp:u:p@a",
        ] {
            let problem = UpstreamUrl::parse(bad).unwrap_err();
            assert!(!problem.contains("u:p"), "{problem}");
        }
    }
}
