//! Responses that end with the session: the layer inside the layer.

use std::error::Error;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HeaderMap, HeaderValue};
use http::{Request, Response};
use http_body::{Body, Frame, SizeHint};
use pin_project_lite::pin_project;
use tokio::time::Sleep;
use tower_layer::Layer;
use tower_service::Service;

use crate::access::{GrpcKind, grpc_kind};
use crate::identity::{Identity, SessionEnded};
use crate::respond::grpc::{self, MessageBoundary};

/// A layer that ends streaming responses when the session they were asked for with ends.
///
/// It goes *inside* [`PkceAuthLayer`](crate::PkceAuthLayer), around the service, and makes the
/// response body a [`Guarded`] one. When the session ends (see [`Identity::ended`]), a body that
/// is still under way ends as well:
///
/// | response | end |
/// |---|---|
/// | gRPC | trailers with `grpc-status: 16` |
/// | gRPC-Web | the same, as its last frame; aborted in the middle of a message, or as text |
/// | server-sent events | the stream ends; the browser connects again, and is refused |
/// | everything else | an error, so that the connection is cut and nothing looks complete |
///
/// A gRPC call without a response (the client is still sending) is answered with status 16 too.
/// Bodies that are finished within half a second cost nothing more than a look at their type. For
/// WebSockets use [`Identity::ended`].
///
/// # Examples
///
/// ```
/// use axum::{Router, routing::get};
/// use tower::ServiceBuilder;
/// use tower_pkce_auth::{ClientId, PkceAuthLayer, SessionGuardLayer};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let auth = PkceAuthLayer::builder(
/// #     "https://login.example".parse()?,
/// #     ClientId::new("app"),
/// #     "http://localhost:8080".parse()?,
/// # ).public_client().build()?;
/// let app: Router = Router::new()
///     .route("/events", get(|| async { "an event stream" }))
///     .layer(ServiceBuilder::new().layer(auth).layer(SessionGuardLayer::new()));
/// # Ok(()) }
/// ```
#[derive(Clone, Copy, Debug, Default)]
#[must_use]
pub struct SessionGuardLayer {
    _private: (),
}

impl SessionGuardLayer {
    /// Makes the layer; it has no settings.
    pub const fn new() -> Self {
        Self { _private: () }
    }
}

impl<S> Layer<S> for SessionGuardLayer {
    type Service = SessionGuard<S>;

    fn layer(&self, inner: S) -> Self::Service {
        SessionGuard { inner }
    }
}

/// The service that [`SessionGuardLayer`] makes.
#[derive(Clone, Copy, Debug)]
#[must_use]
pub struct SessionGuard<S> {
    inner: S,
}

impl<S, ReqBody, ResBody> Service<Request<ReqBody>> for SessionGuard<S>
where
    S: Service<Request<ReqBody>, Response = Response<ResBody>>,
{
    type Response = Response<Guarded<ResBody>>;
    type Error = S::Error;
    type Future = GuardFuture<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<ReqBody>) -> Self::Future {
        let identity = request.extensions().get::<Identity>().cloned();
        let grpc = grpc_kind(request.headers());
        GuardFuture { inner: self.inner.call(request), grpc, watch: Watch::of(identity) }
    }
}

pin_project! {
    /// The response of [`SessionGuard`], still under way.
    #[must_use = "futures do nothing unless polled"]
    pub struct GuardFuture<F> {
        #[pin]
        inner: F,
        grpc: Option<GrpcKind>,
        watch: Watch,
    }
}

impl<F, B, E> Future for GuardFuture<F>
where
    F: Future<Output = Result<Response<B>, E>>,
{
    type Output = Result<Response<Guarded<B>>, E>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let Poll::Ready(response) = this.inner.poll(cx) else {
            // Other requests may be half-way through something; only gRPC calls may be given up at
            // any time.
            let Some(grpc) = *this.grpc else { return Poll::Pending };
            ready!(this.watch.poll(cx));
            return Poll::Ready(Ok(ended_call(grpc)));
        };
        let watch = std::mem::replace(this.watch, Watch::Nobody);
        Poll::Ready(response.map(|response| {
            let end = End::of(response.headers());
            response.map(|body| Guarded { body: Some(body), end, watch, frames: 0 })
        }))
    }
}

impl<F> fmt::Debug for GuardFuture<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("GuardFuture(..)")
    }
}

/// The answer to a call whose session ended before there was one.
fn ended_call<B>(grpc: GrpcKind) -> Response<Guarded<B>> {
    let mut response = Response::new(Guarded {
        body: None,
        end: End::Abort,
        watch: Watch::Nobody,
        frames: 0,
    });
    let content_type = HeaderValue::from_static(grpc.content_type());
    response.headers_mut().insert(CONTENT_TYPE, content_type);
    grpc::write_session_ended(response.headers_mut());
    response
}

/// Whether the session still lives: asked of nobody, later, or now.
enum Watch {
    /// There is no session.
    Nobody,
    /// There is one; most responses are done before it matters.
    Later(Identity),
    /// The response takes a while.
    Soon(Identity, Pin<Box<Sleep>>),
    Now(SessionEnded),
    Over,
}

/// A response that is under way for longer is watched.
const SHORT: Duration = Duration::from_millis(500);
/// So is one that had so many frames at once.
const FEW: u32 = 16;

impl Watch {
    fn of(identity: Option<Identity>) -> Self {
        identity.map_or(Self::Nobody, Self::Later)
    }

    /// Tells whether anybody is asked already.
    const fn is_running(&self) -> bool {
        matches!(self, Self::Soon(..) | Self::Now(_) | Self::Over)
    }

    /// Resolves when the session has ended.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            *self = match std::mem::replace(self, Self::Over) {
                Self::Nobody => {
                    *self = Self::Nobody;
                    return Poll::Pending;
                }
                Self::Later(identity) => Self::Soon(identity, Box::pin(tokio::time::sleep(SHORT))),
                Self::Soon(identity, mut sleep) => {
                    if sleep.as_mut().poll(cx).is_pending() {
                        *self = Self::Soon(identity, sleep);
                        return Poll::Pending;
                    }
                    Self::Now(identity.ended())
                }
                Self::Now(mut ended) => {
                    if Pin::new(&mut ended).poll(cx).is_pending() {
                        *self = Self::Now(ended);
                        return Poll::Pending;
                    }
                    Self::Over
                }
                Self::Over => return Poll::Ready(()),
            };
        }
    }
}

/// How a response ends before its time.
#[derive(Debug)]
enum End {
    /// With an error.
    Abort,
    /// As if it were complete: what a stream of events cannot be.
    Silence,
    /// With gRPC's trailers.
    Trailers,
    /// With gRPC-Web's last frame, between two messages.
    WebTrailers(MessageBoundary),
}

impl End {
    fn of(headers: &HeaderMap) -> Self {
        match grpc_kind(headers) {
            Some(GrpcKind::Native) => return Self::Trailers,
            Some(GrpcKind::Web) => return Self::WebTrailers(MessageBoundary::default()),
            // Base64 that is cut says nothing of where it was cut.
            Some(GrpcKind::WebText) => return Self::Abort,
            None => {}
        }
        let events = headers.get(CONTENT_TYPE).is_some_and(|value| {
            let kind = value.as_bytes().split(|b| *b == b';').next().unwrap_or_default();
            kind.trim_ascii().eq_ignore_ascii_case(b"text/event-stream")
        });
        if events { Self::Silence } else { Self::Abort }
    }
}

pin_project! {
    /// A response body that ends when the session it belongs to ends.
    ///
    /// See [`SessionGuardLayer`] for how. Its errors are boxed: those of the body inside, or that
    /// the session has ended.
    pub struct Guarded<B> {
        #[pin]
        body: Option<B>,
        end: End,
        watch: Watch,
        frames: u32,
    }
}

impl<B> Body for Guarded<B>
where
    B: Body,
    B::Data: AsRef<[u8]> + From<Bytes>,
    B::Error: Into<Box<dyn Error + Send + Sync>>,
{
    type Data = B::Data;
    type Error = Box<dyn Error + Send + Sync>;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<B::Data>, Self::Error>>> {
        let mut this = self.project();
        let Some(body) = this.body.as_mut().as_pin_mut() else {
            return Poll::Ready(None);
        };
        // What has been running for a while is asked first: a body that always has something
        // ready must not outrun the question.
        if this.watch.is_running() && this.watch.poll(cx).is_ready() {
            this.body.set(None);
            return Poll::Ready(this.end.frame());
        }
        match body.poll_frame(cx) {
            Poll::Ready(Some(Ok(frame))) => {
                if let (End::WebTrailers(boundary), Some(data)) = (&mut *this.end, frame.data_ref())
                {
                    boundary.pass(data.as_ref());
                }
                *this.frames = this.frames.saturating_add(1);
                if *this.frames == FEW && this.watch.poll(cx).is_ready() {
                    cx.waker().wake_by_ref();
                }
                Poll::Ready(Some(Ok(frame)))
            }
            Poll::Ready(None) => {
                this.body.set(None);
                Poll::Ready(None)
            }
            Poll::Ready(Some(Err(error))) => {
                this.body.set(None);
                Poll::Ready(Some(Err(error.into())))
            }
            Poll::Pending => {
                ready!(this.watch.poll(cx));
                this.body.set(None);
                Poll::Ready(this.end.frame())
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.as_ref().is_none_or(Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.body.as_ref().map_or(SizeHint::with_exact(0), Body::size_hint)
    }
}

impl End {
    /// Returns the last thing that is sent.
    fn frame<D: From<Bytes>, E: From<SessionOver>>(&self) -> Option<Result<Frame<D>, E>> {
        match self {
            Self::Silence => None,
            Self::Trailers => {
                let mut trailers = HeaderMap::new();
                grpc::write_session_ended(&mut trailers);
                Some(Ok(Frame::trailers(trailers)))
            }
            Self::WebTrailers(boundary) if boundary.is_clean() => {
                Some(Ok(Frame::data(grpc::web_session_ended().into())))
            }
            Self::WebTrailers(_) | Self::Abort => Some(Err(SessionOver.into())),
        }
    }
}

/// The session of a response ended before the response did.
#[derive(Debug)]
struct SessionOver;

impl fmt::Display for SessionOver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the session ended")
    }
}

impl Error for SessionOver {}

impl<B> Guarded<B> {
    const fn free(body: B) -> Self {
        Self { body: Some(body), end: End::Abort, watch: Watch::Nobody, frames: 0 }
    }
}

/// A body that belongs to no session, as the layer's own answers.
impl<B: From<Bytes>> From<Bytes> for Guarded<B> {
    fn from(bytes: Bytes) -> Self {
        Self::free(bytes.into())
    }
}

/// An empty body that belongs to no session.
impl<B: Default> Default for Guarded<B> {
    fn default() -> Self {
        Self::free(B::default())
    }
}

impl<B> fmt::Debug for Guarded<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Guarded").finish_non_exhaustive()
    }
}
