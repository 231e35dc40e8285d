//! Calls to the provider: bounded in time and size, never redirected.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{ACCEPT, CONTENT_ENCODING, CONTENT_TYPE, HeaderValue, USER_AGENT};
use http::{Request, Response};

/// Sends requests to the provider; bring your own where the built-in client does not fit.
///
/// The layer applies the time-out itself. An implementation must not follow redirects, must check
/// certificates, must not keep cookies, and must give up on a body larger than `max_body`.
///
/// # Security
///
/// Requests carry the client secret, codes and tokens: do not log them.
///
/// # Examples
///
/// ```
/// use bytes::Bytes;
/// use tower_pkce_auth::{HttpClient, HttpFuture};
///
/// #[derive(Debug)]
/// struct Offline;
///
/// impl HttpClient for Offline {
///     fn send(&self, _: http::Request<Bytes>, _max_body: usize) -> HttpFuture {
///         HttpFuture::new(async { Err(tower_pkce_auth::HttpError::new("no network here")) })
///     }
/// }
/// ```
pub trait HttpClient: fmt::Debug + Send + Sync + 'static {
    /// Sends one request and collects the answer.
    fn send(&self, request: Request<Bytes>, max_body: usize) -> HttpFuture;
}

impl<T: HttpClient + ?Sized> HttpClient for Arc<T> {
    fn send(&self, request: Request<Bytes>, max_body: usize) -> HttpFuture {
        (**self).send(request, max_body)
    }
}

/// The answer of an [`HttpClient`], still under way.
#[must_use = "futures do nothing unless polled"]
pub struct HttpFuture(Pin<Box<dyn Future<Output = Result<Response<Bytes>, HttpError>> + Send>>);

impl HttpFuture {
    /// Wraps a future.
    pub fn new(
        future: impl Future<Output = Result<Response<Bytes>, HttpError>> + Send + 'static,
    ) -> Self {
        Self(Box::pin(future))
    }
}

impl Future for HttpFuture {
    type Output = Result<Response<Bytes>, HttpError>;

    fn poll(
        mut self: Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Self::Output> {
        self.0.as_mut().poll(cx)
    }
}

impl fmt::Debug for HttpFuture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("HttpFuture(..)")
    }
}

/// A call that brought no usable answer.
#[derive(Debug)]
pub struct HttpError(Box<dyn std::error::Error + Send + Sync>);

impl HttpError {
    /// Makes an error from its cause, which must not hold the request.
    #[must_use]
    pub fn new(cause: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        Self(cause.into())
    }
}

impl fmt::Display for HttpError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the call to the provider failed")
    }
}

impl std::error::Error for HttpError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&*self.0)
    }
}

/// Why a bounded call brought nothing.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum CallError {
    /// No connection, a broken one, a body over the cap, or an encoded one.
    Failed,
    /// It took longer than allowed.
    TimedOut,
}

/// A client with the limits every call has.
#[derive(Clone, Debug)]
pub(crate) struct Outbound {
    client: Arc<dyn HttpClient>,
    time_out: Duration,
}

/// Larger answers are refused while they arrive.
const MAX_BODY: usize = 1024 * 1024;

impl Outbound {
    pub(crate) fn new(client: Arc<dyn HttpClient>, time_out: Duration) -> Self {
        Self { client, time_out }
    }

    /// Sends a request and waits for the whole answer, at most the time-out.
    ///
    /// Dropping the future abandons the call. It is never repeated here.
    pub(crate) async fn call(&self, mut request: Request<Bytes>) -> Result<Answer, CallError> {
        let headers = request.headers_mut();
        headers.insert(USER_AGENT, HeaderValue::from_static("tower-pkce-auth"));
        headers.entry(ACCEPT).or_insert(HeaderValue::from_static("application/json"));
        let sent = self.client.send(request, MAX_BODY);
        let response = match tokio::time::timeout(self.time_out, sent).await {
            Ok(Ok(response)) => response,
            Ok(Err(error)) => {
                let mut source = std::error::Error::source(&error);
                while let Some(cause) = source {
                    tracing::warn!(%cause, "{error}");
                    source = cause.source();
                }
                return Err(CallError::Failed);
            }
            Err(_) => return Err(CallError::TimedOut),
        };
        if response.body().len() > MAX_BODY || response.headers().contains_key(CONTENT_ENCODING) {
            return Err(CallError::Failed);
        }
        Ok(Answer(response))
    }
}

/// A complete answer of the provider; its header fields are never relayed to a browser.
pub(crate) struct Answer(Response<Bytes>);

impl Answer {
    pub(crate) fn status(&self) -> u16 {
        self.0.status().as_u16()
    }

    pub(crate) fn body(&self) -> &[u8] {
        self.0.body()
    }

    pub(crate) fn headers(&self) -> &http::HeaderMap {
        self.0.headers()
    }

    /// Tells whether the media type, parameters apart, is one of these.
    pub(crate) fn is_of_type(&self, types: &[&str]) -> bool {
        self.headers()
            .get(CONTENT_TYPE)
            .and_then(|value| value.to_str().ok())
            .map(|value| value.split(';').next().unwrap_or_default().trim())
            .is_some_and(|media| types.iter().any(|wanted| media.eq_ignore_ascii_case(wanted)))
    }
}
