//! The built-in HTTP client: hyper and rustls with an explicit crypto provider.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use http::Request;
use http_body::Body as _;
use hyper::body::Incoming;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;

use super::http::{HttpClient, HttpError, HttpFuture};
use super::proxy::{Proxies, Route};
use crate::names::InvalidName;

/// The built-in [`HttpClient`]: HTTP/1.1 and HTTP/2 over TLS 1.2 or 1.3, web roots or your own.
///
/// It follows no redirects, keeps no cookies, asks for no compression and gives up on bodies that
/// are too large while they arrive.
///
/// # Examples
///
/// ```no_run
/// use tower_pkce_auth::{ClientId, HyperClient, PkceAuthLayer};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let client = HyperClient::builder()
///     .ca_pem(&std::fs::read("/etc/ssl/company.pem")?)?
///     .proxy_from_env()?
///     .build();
/// let layer = PkceAuthLayer::builder(
///     "https://login.example".parse()?,
///     ClientId::new("app"),
///     "http://localhost:8080".parse()?,
/// )
/// .http_client(client)
/// # ;
/// # Ok(()) }
/// ```
#[derive(Clone, Debug)]
pub struct HyperClient(Client<HttpsConnector<Route>, Full>);

impl HyperClient {
    /// Makes a client that trusts the web's certificate authorities and uses no proxy.
    #[must_use]
    pub fn new() -> Self {
        Self::builder().build()
    }

    /// Begins to set up a client.
    pub fn builder() -> HyperClientBuilder {
        HyperClientBuilder { roots: None, proxies: Proxies::default() }
    }
}

/// Sets up a [`HyperClient`].
///
/// # Examples
///
/// ```
/// use tower_pkce_auth::HyperClient;
///
/// assert!(HyperClient::builder().ca_pem(b"no certificate").is_err());
/// assert!(HyperClient::builder().proxy("socks5://proxy.internal:1080").is_err());
/// ```
#[derive(Clone, Debug)]
#[must_use]
pub struct HyperClientBuilder {
    roots: Option<RootCertStore>,
    proxies: Proxies,
}

impl HyperClientBuilder {
    /// Trusts the certificate authorities of a PEM file and no others; more files may be added.
    ///
    /// # Errors
    ///
    /// If the text holds no certificate, or one that cannot be read.
    pub fn ca_pem(mut self, pem: &[u8]) -> Result<Self, InvalidName> {
        let bad = |why| InvalidName::new("CA file", why, "");
        let roots = self.roots.get_or_insert_with(RootCertStore::empty);
        let before = roots.len();
        for certificate in CertificateDer::pem_slice_iter(pem) {
            let certificate = certificate.map_err(|_| bad("not PEM"))?;
            roots.add(certificate).map_err(|_| bad("a certificate cannot be read"))?;
        }
        if roots.len() == before {
            return Err(bad("no certificate found"));
        }
        Ok(self)
    }

    /// Goes to `https` destinations through the proxy at `http://[user:password@]host:port`, by
    /// `CONNECT`: the proxy sees where the requests go, and nothing of what they say.
    ///
    /// # Errors
    ///
    /// If the URL is not one of an HTTP proxy. The message does not repeat it.
    pub fn proxy(mut self, url: &str) -> Result<Self, InvalidName> {
        self.proxies = Proxies::one(url)?;
        Ok(self)
    }

    /// Takes the proxy from `https_proxy`, `HTTPS_PROXY`, `all_proxy` or `ALL_PROXY`, whichever says
    /// something first, and the exceptions from `no_proxy` or `NO_PROXY`. Without a port it is
    /// asked on port 80.
    ///
    /// # Errors
    ///
    /// If what is set is not the URL of an HTTP proxy: going straight out instead would surprise.
    pub fn proxy_from_env(mut self) -> Result<Self, InvalidName> {
        self.proxies = Proxies::from_env()?;
        Ok(self)
    }

    /// Makes the client.
    #[must_use]
    pub fn build(self) -> HyperClient {
        let roots = self.roots.unwrap_or_else(|| {
            let mut roots = RootCertStore::empty();
            roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
            roots
        });
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("the provider serves TLS 1.2 and 1.3")
            .with_root_certificates(roots)
            .with_no_client_auth();
        let mut direct = HttpConnector::new();
        direct.enforce_http(false);
        direct.set_nodelay(true);
        direct.set_connect_timeout(Some(std::time::Duration::from_secs(5)));
        let connector = HttpsConnectorBuilder::new()
            .with_tls_config(config)
            .https_or_http()
            .enable_http1()
            .enable_http2()
            .wrap_connector(Route { direct, proxies: self.proxies });
        // A request whose answer was lost may have spent a code: never send it twice unasked.
        HyperClient(
            Client::builder(TokioExecutor::new())
                .pool_timer(TokioTimer::new())
                .pool_idle_timeout(std::time::Duration::from_secs(20))
                .retry_canceled_requests(false)
                .build(connector),
        )
    }
}

impl Default for HyperClient {
    fn default() -> Self {
        Self::new()
    }
}

impl HttpClient for HyperClient {
    fn send(&self, request: Request<Bytes>, max_body: usize) -> HttpFuture {
        let answer = self.0.request(request.map(|body| Full(Some(body))));
        HttpFuture::new(async move {
            let (parts, body) = answer.await.map_err(HttpError::new)?.into_parts();
            let body = collect(body, max_body).await?;
            Ok(http::Response::from_parts(parts, body))
        })
    }
}

async fn collect(mut body: Incoming, max_body: usize) -> Result<Bytes, HttpError> {
    let mut collected = BytesMut::new();
    loop {
        let frame = std::future::poll_fn(|cx| std::pin::Pin::new(&mut body).poll_frame(cx)).await;
        match frame {
            None => return Ok(collected.freeze()),
            Some(Err(error)) => return Err(HttpError::new(error)),
            Some(Ok(frame)) => {
                let Ok(data) = frame.into_data() else {
                    continue;
                };
                if collected.len() + data.len() > max_body {
                    return Err(HttpError::new("the answer is larger than allowed"));
                }
                collected.extend_from_slice(&data);
            }
        }
    }
}

/// A request body of one piece.
#[derive(Debug)]
struct Full(Option<Bytes>);

impl http_body::Body for Full {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        mut self: std::pin::Pin<&mut Self>,
        _: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Result<http_body::Frame<Bytes>, Self::Error>>> {
        let data = self.0.take().filter(|data| !data.is_empty());
        std::task::Poll::Ready(data.map(|data| Ok(http_body::Frame::data(data))))
    }

    fn is_end_stream(&self) -> bool {
        self.0.as_ref().is_none_or(Bytes::is_empty)
    }

    fn size_hint(&self) -> http_body::SizeHint {
        http_body::SizeHint::with_exact(self.0.as_ref().map_or(0, |data| data.len() as u64))
    }
}
