//! Responses that end with the session: the layer inside the layer.

use std::error::Error;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONTENT_LENGTH, CONTENT_TYPE, HeaderMap, HeaderValue};
use http::{Request, Response};
use http_body::{Body, Frame, SizeHint};
use pin_project_lite::pin_project;
use tokio::sync::watch;
use tokio::time::Sleep;
use tower_layer::Layer;
use tower_service::Service;

use crate::access::{GrpcKind, grpc_kind};
use crate::clock::{Clock as _, SystemClock};
use crate::identity::{Identity, Standing, wait_for};
use crate::respond::grpc::{MessageBoundary, SessionEnd};

/// A layer that ends streaming responses when the session they were asked for with ends.
///
/// It goes *inside* [`PkceAuthLayer`](crate::PkceAuthLayer), around the service, and makes the
/// response body a [`Guarded`] one. When the session ends (see [`Identity::ended`]), a body that
/// is still under way ends as well:
///
/// | response | end |
/// |---|---|
/// | gRPC | trailers with `grpc-status: 16`; 14 where the store was away for too long to tell |
/// | gRPC-Web | the same, as its last frame; aborted in the middle of a message, or as text |
/// | server-sent events | the stream ends; the browser connects again, and is refused |
/// | everything else | an error, so that the connection is cut and nothing looks complete |
///
/// A gRPC call without a response (the client is still sending) is answered with status 16 too;
/// other requests are never given up, but what they answer late is not sent any more. Responses
/// that are finished within half a second cost next to nothing: nobody is asked. For WebSockets use
/// [`Identity::ended`].
///
/// # Panics
///
/// Response and body, if they are polled outside a Tokio runtime with time enabled.
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
    ResBody: Body,
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
    B: Body,
{
    type Output = Result<Response<Guarded<B>>, E>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let Poll::Ready(response) = this.inner.poll(cx) else {
            // Only gRPC calls may be given up at any time; other requests may be half-way through
            // something, but once they answer it is known whether anybody may see it.
            return match (this.watch.poll(cx), *this.grpc) {
                (Say::End(end), Some(grpc)) => Poll::Ready(Ok(ended_call(grpc, end))),
                _ => Poll::Pending,
            };
        };
        let watch = std::mem::replace(this.watch, Watch::Nobody);
        Poll::Ready(response.map(|response| {
            let (parts, body) = response.into_parts();
            let end = End::of(&parts.headers, &body);
            Response::from_parts(parts, Guarded { body: Some(body), end, watch, frames: 0 })
        }))
    }
}

impl<F> fmt::Debug for GuardFuture<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("GuardFuture(..)")
    }
}

/// The answer to a call whose session ended before there was one.
fn ended_call<B>(grpc: GrpcKind, why: SessionEnd) -> Response<Guarded<B>> {
    let mut response =
        Response::new(Guarded { body: None, end: End::Abort, watch: Watch::Nobody, frames: 0 });
    let content_type = HeaderValue::from_static(grpc.content_type());
    response.headers_mut().insert(CONTENT_TYPE, content_type);
    why.write_headers(response.headers_mut());
    response
}

/// Whether the session still lives: asked of nobody, later, or now.
enum Watch {
    /// There is no session.
    Nobody,
    /// There is one, and since when; most responses are done before it matters.
    Later(Identity, Duration),
    /// The response takes a while.
    Soon(Identity, Pin<Box<Sleep>>),
    /// The session is being looked at for the first time: nothing is sent until it was.
    Asking(Asked),
    /// It lived when it was looked at last; the future resolves when it does not.
    Live(Asked),
    Over(SessionEnd),
}

type Asked = Pin<Box<dyn Future<Output = (Standing, watch::Receiver<Standing>)> + Send>>;

/// What a watch says of the response.
enum Say {
    /// It may go on.
    Go,
    /// It is not known yet.
    Wait,
    /// It must end.
    End(SessionEnd),
}

/// A response that is under way for longer is watched.
const SHORT: Duration = Duration::from_millis(500);

impl Watch {
    fn of(identity: Option<Identity>) -> Self {
        identity.map_or(Self::Nobody, |identity| Self::Later(identity, SystemClock.monotonic()))
    }

    fn ask(identity: &Identity) -> Self {
        match identity.watch() {
            Some(receiver) => {
                let judged = |standing| standing != Standing::Unjudged;
                Self::Asking(Box::pin(wait_for(receiver, judged)))
            }
            None => Self::Over(SessionEnd::Over),
        }
    }

    /// Asks on only if the response has been under way for a while.
    fn glance(&mut self, cx: &mut Context<'_>) -> Say {
        match self {
            Self::Nobody => Say::Go,
            Self::Later(_, since) if SystemClock.monotonic().saturating_sub(*since) < SHORT => {
                Say::Go
            }
            _ => self.poll(cx),
        }
    }

    /// Asks on, and has the task woken when there is another answer.
    fn poll(&mut self, cx: &mut Context<'_>) -> Say {
        loop {
            *self = match std::mem::replace(self, Self::Nobody) {
                Self::Nobody => return Say::Go,
                Self::Later(identity, since) => {
                    match SHORT.checked_sub(SystemClock.monotonic().saturating_sub(since)) {
                        Some(left) => Self::Soon(identity, Box::pin(tokio::time::sleep(left))),
                        None => Self::ask(&identity),
                    }
                }
                Self::Soon(identity, mut sleep) => {
                    if sleep.as_mut().poll(cx).is_pending() {
                        *self = Self::Soon(identity, sleep);
                        return Say::Go;
                    }
                    Self::ask(&identity)
                }
                Self::Asking(mut asked) => match asked.as_mut().poll(cx) {
                    Poll::Pending => {
                        *self = Self::Asking(asked);
                        return Say::Wait;
                    }
                    Poll::Ready((_, receiver)) => {
                        Self::Live(Box::pin(wait_for(receiver, Standing::is_end)))
                    }
                },
                Self::Live(mut asked) => match asked.as_mut().poll(cx) {
                    Poll::Pending => {
                        *self = Self::Live(asked);
                        return Say::Go;
                    }
                    Poll::Ready((Standing::Unknown, _)) => Self::Over(SessionEnd::Unknown),
                    Poll::Ready(_) => Self::Over(SessionEnd::Over),
                },
                Self::Over(end) => {
                    *self = Self::Over(end);
                    return Say::End(end);
                }
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
    fn of<B: Body>(headers: &HeaderMap, body: &B) -> Self {
        match grpc_kind(headers) {
            Some(GrpcKind::Native) => return Self::Trailers,
            // A length that was announced leaves no room for another frame.
            Some(GrpcKind::Web)
                if body.size_hint().exact().is_none() && !headers.contains_key(CONTENT_LENGTH) =>
            {
                return Self::WebTrailers(MessageBoundary::default());
            }
            // Base64 that is cut says nothing of where it was cut.
            Some(_) => return Self::Abort,
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
        // Asked first: a body that always has something ready must not outrun the answer, nor one
        // whose client has not read for hours. The first frame goes with the head.
        let say = if *this.frames == 0 { this.watch.glance(cx) } else { this.watch.poll(cx) };
        match say {
            Say::Go => {}
            Say::Wait => return Poll::Pending,
            Say::End(why) => {
                this.body.set(None);
                return Poll::Ready(this.end.frame(why));
            }
        }
        match body.poll_frame(cx) {
            Poll::Ready(Some(Ok(frame))) => {
                if let (End::WebTrailers(boundary), Some(data)) = (&mut *this.end, frame.data_ref())
                {
                    boundary.pass(data.as_ref());
                }
                if frame.is_trailers() {
                    this.body.set(None);
                }
                *this.frames = this.frames.saturating_add(1);
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
            Poll::Pending => match this.watch.poll(cx) {
                Say::Go | Say::Wait => Poll::Pending,
                Say::End(why) => {
                    this.body.set(None);
                    Poll::Ready(this.end.frame(why))
                }
            },
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
    fn frame<D: From<Bytes>, E: From<SessionOver>>(
        &self,
        why: SessionEnd,
    ) -> Option<Result<Frame<D>, E>> {
        match self {
            Self::Silence => None,
            Self::Trailers => {
                let mut trailers = HeaderMap::new();
                why.write_headers(&mut trailers);
                Some(Ok(Frame::trailers(trailers)))
            }
            Self::WebTrailers(boundary) if boundary.is_ended() => None,
            Self::WebTrailers(boundary) if boundary.is_clean() => {
                Some(Ok(Frame::data(why.web_frame().into())))
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
