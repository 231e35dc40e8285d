//! The HTTP side: accepting connections, routing, and misbehaving as told.

use std::convert::Infallible;
use std::fmt;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::Context;
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use http::HeaderValue;
use http::Request;
use http::Response;
use http::StatusCode;
use http::header;
use http_body_util::BodyExt;
use http_body_util::Limited;
use hyper::body::Body;
use hyper::body::Frame;
use hyper::body::Incoming;
use hyper::body::SizeHint;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::Interval;
use url::Url;

use super::Behaviour;
use super::Endpoint;
use super::RecordedRequest;
use super::TestProvider;
use super::TestProviderBuilder;
use super::authorize;
use super::endpoints;
use super::pages;
use super::state::Inner;
use super::token;

/// Binds the address and starts the accept loop.
pub(super) async fn start(builder: TestProviderBuilder) -> io::Result<TestProvider> {
    let listener = TcpListener::bind(builder.listen).await?;
    let address = listener.local_addr()?;
    let authority = match &builder.host {
        Some(host) => format!("{host}:{}", address.port()),
        None => address.to_string(),
    };
    let path = match builder.issuer_path.as_str() {
        "" => String::new(),
        path => format!("/{}", path.strip_prefix('/').unwrap_or(path)),
    };
    let issuer = format!("http://{authority}{path}");
    let is_normal = Url::parse(&issuer).is_ok_and(|url| {
        let plain = url.query().is_none() && url.fragment().is_none();
        plain && (url.as_str() == issuer || url.as_str() == format!("{issuer}/"))
    });
    if !is_normal {
        let message = format!("`{issuer}` is no normalised issuer URL");
        return Err(io::Error::new(io::ErrorKind::InvalidInput, message));
    }
    let base_path = path.strip_suffix('/').unwrap_or(&path).to_owned();
    let inner = Arc::new(Inner::new(issuer, base_path, address, builder.config));
    let task = tokio::spawn(accept(listener, Arc::clone(&inner)));
    Ok(TestProvider::new(inner, task.abort_handle()))
}

/// Accepts for ever; aborting this future closes the listener and every connection.
async fn accept(listener: TcpListener, inner: Arc<Inner>) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => {
                    connections.spawn(serve(stream, Arc::clone(&inner)));
                }
                // Out of file descriptors, or the peer went away already: no reason to spin.
                Err(_) => tokio::time::sleep(Duration::from_millis(10)).await,
            },
            Some(_) = connections.join_next() => {}
        }
    }
}

async fn serve(stream: TcpStream, inner: Arc<Inner>) {
    // Answers are small: without this, Nagle's algorithm and delayed ACKs cost 40 ms each. A
    // connection that refuses the option works all the same.
    let _ = stream.set_nodelay(true);
    let service = service_fn(move |request| handle(Arc::clone(&inner), request));
    // An error here is a client that went away, or a connection dropped on purpose.
    let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
}

/// Why a connection is dropped without an answer.
#[derive(Debug)]
struct Dropped;

impl fmt::Display for Dropped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("dropped on purpose")
    }
}

impl std::error::Error for Dropped {}

#[derive(Clone, Copy)]
enum Route {
    Choose,
    Endpoint(Endpoint),
    Home,
    Unknown,
}

impl Route {
    fn new(inner: &Inner, path: &str) -> Self {
        match path.strip_prefix(&*inner.base_path) {
            Some("" | "/") => Self::Home,
            Some("/.well-known/openid-configuration") => Self::Endpoint(Endpoint::Discovery),
            Some("/authorize") => Self::Endpoint(Endpoint::Authorize),
            Some("/choose") => Self::Choose,
            Some("/end_session") => Self::Endpoint(Endpoint::EndSession),
            Some("/revoke") => Self::Endpoint(Endpoint::Revocation),
            Some("/token") => Self::Endpoint(Endpoint::Token),
            Some("/userinfo") => Self::Endpoint(Endpoint::Userinfo),
            Some(path) if path.starts_with("/jwks/") => Self::Endpoint(Endpoint::Jwks),
            Some(_) | None => Self::Unknown,
        }
    }
}

async fn handle(
    inner: Arc<Inner>,
    request: Request<Incoming>,
) -> Result<Response<ReplyBody>, Dropped> {
    let (parts, body) = request.into_parts();
    let route = Route::new(&inner, parts.uri.path());
    let behaviour = match route {
        Route::Endpoint(endpoint) => inner.faults().behaviours.get(&endpoint).cloned(),
        Route::Choose | Route::Home | Route::Unknown => None,
    };
    let behaviour = behaviour.unwrap_or_default();
    let body = if behaviour == Behaviour::Refuse {
        Some(Bytes::new())
    } else {
        let read = Limited::new(body, REQUEST_CAP).collect().await;
        read.ok().map(http_body_util::Collected::to_bytes)
    };
    let uri = parts.uri.path_and_query().map_or("", |uri| uri.as_str());
    let request = RecordedRequest::new(
        parts.method.to_string(),
        uri.to_owned(),
        parts.headers,
        body.clone().unwrap_or_default(),
    );
    let Route::Endpoint(endpoint) = route else {
        return Ok(answer_page(&inner, route, &request).map(ReplyBody::whole));
    };
    inner.state().record(endpoint, request.clone());
    if body.is_none() {
        let reply = pages::error(StatusCode::PAYLOAD_TOO_LARGE, "The request is too large.");
        return Ok(reply.map(ReplyBody::whole));
    }
    let mut reply = misbehave(&inner, endpoint, behaviour, &request).await?;
    inner.hook(|faults| faults.headers.get(&endpoint).cloned(), reply.headers_mut());
    Ok(reply)
}

async fn misbehave(
    inner: &Inner,
    endpoint: Endpoint,
    behaviour: Behaviour,
    request: &RecordedRequest,
) -> Result<Response<ReplyBody>, Dropped> {
    match behaviour {
        Behaviour::Delay(wait) => tokio::time::sleep(wait).await,
        Behaviour::Drip => {
            return Ok(json_of(ReplyBody::Drip(tokio::time::interval(DRIP))));
        }
        Behaviour::Endless => return Ok(json_of(ReplyBody::Endless)),
        Behaviour::Hang => std::future::pending().await,
        Behaviour::HugeContentLength => return Ok(json_of(ReplyBody::Huge(HUGE))),
        Behaviour::Normal => {}
        Behaviour::Redirect { code, to } => return Ok(redirect(code, &to)),
        Behaviour::Refuse => return Err(Dropped),
        Behaviour::ResetAfterBody => {
            answer(inner, endpoint, request);
            return Err(Dropped);
        }
        Behaviour::Status { code, content_type, body } => {
            return Ok(status(code, &content_type, body));
        }
    }
    Ok(answer(inner, endpoint, request).map(ReplyBody::whole))
}

/// Answers as a provider should.
fn answer(inner: &Inner, endpoint: Endpoint, request: &RecordedRequest) -> Response<Bytes> {
    let allowed: &[&str] = match endpoint {
        Endpoint::Authorize | Endpoint::EndSession | Endpoint::Userinfo => &["GET", "POST"],
        Endpoint::Discovery | Endpoint::Jwks => &["GET"],
        Endpoint::Revocation | Endpoint::Token => &["POST"],
    };
    if !allowed.contains(&request.method.as_str()) {
        let mut reply = pages::error(StatusCode::METHOD_NOT_ALLOWED, "Method not allowed.");
        if let Ok(value) = HeaderValue::from_str(&allowed.join(", ")) {
            reply.headers_mut().insert(header::ALLOW, value);
        }
        return reply;
    }
    match endpoint {
        Endpoint::Authorize => authorize::authorize(inner, request),
        Endpoint::Discovery => endpoints::discovery(inner),
        Endpoint::EndSession => authorize::end_session(inner, request),
        Endpoint::Jwks => endpoints::jwks(inner),
        Endpoint::Revocation => token::revoke(inner, request),
        Endpoint::Token => token::token(inner, request),
        Endpoint::Userinfo => endpoints::userinfo(inner, request),
    }
}

fn answer_page(inner: &Inner, route: Route, request: &RecordedRequest) -> Response<Bytes> {
    match route {
        Route::Choose if request.method == "POST" => authorize::choose(inner, request),
        Route::Home => pages::home(&inner.issuer, &inner.base, &inner.config.client_id),
        Route::Choose | Route::Endpoint(_) | Route::Unknown => {
            pages::error(StatusCode::NOT_FOUND, "There is nothing at this address.")
        }
    }
}

fn status(code: u16, content_type: &str, body: Bytes) -> Response<ReplyBody> {
    let mut reply = Response::new(ReplyBody::whole(body));
    // Below 200 are interim answers, which hyper does not send as final ones.
    *reply.status_mut() = StatusCode::from_u16(code)
        .ok()
        .filter(|status| !status.is_informational())
        .unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    if let (false, Ok(value)) = (content_type.is_empty(), HeaderValue::from_str(content_type)) {
        reply.headers_mut().insert(header::CONTENT_TYPE, value);
    }
    reply
}

fn redirect(code: u16, to: &str) -> Response<ReplyBody> {
    let mut reply = status(code, "", Bytes::new());
    if let Ok(value) = HeaderValue::from_str(to) {
        reply.headers_mut().insert(header::LOCATION, value);
    }
    reply
}

fn json_of(body: ReplyBody) -> Response<ReplyBody> {
    let mut reply = Response::new(body);
    let value = HeaderValue::from_static("application/json");
    reply.headers_mut().insert(header::CONTENT_TYPE, value);
    reply
}

/// The body of an answer: whole, or one that a careful client gives up on.
enum ReplyBody {
    Drip(Interval),
    Endless,
    Huge(u64),
    Whole(Option<Bytes>),
}

impl ReplyBody {
    fn whole(bytes: Bytes) -> Self {
        Self::Whole(Some(bytes).filter(|bytes| !bytes.is_empty()))
    }
}

impl Body for ReplyBody {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let data = match self.get_mut() {
            Self::Drip(interval) => {
                std::task::ready!(interval.poll_tick(cx));
                Bytes::from_static(b" ")
            }
            Self::Endless => Bytes::from_static(&SPACES),
            Self::Huge(0) => return Poll::Ready(None),
            Self::Huge(left) => {
                let chunk = SPACES.len().min(usize::try_from(*left).unwrap_or(usize::MAX));
                *left = left.saturating_sub(chunk as u64);
                Bytes::from_static(&SPACES).slice(..chunk)
            }
            Self::Whole(bytes) => match bytes.take() {
                Some(bytes) => bytes,
                None => return Poll::Ready(None),
            },
        };
        Poll::Ready(Some(Ok(Frame::data(data))))
    }

    fn is_end_stream(&self) -> bool {
        matches!(self, Self::Huge(0) | Self::Whole(None))
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Drip(_) | Self::Endless => SizeHint::default(),
            Self::Huge(left) => SizeHint::with_exact(*left),
            Self::Whole(bytes) => {
                SizeHint::with_exact(bytes.as_ref().map_or(0, |bytes| bytes.len() as u64))
            }
        }
    }
}

/// The largest request body read.
const REQUEST_CAP: usize = 1 << 20;
const DRIP: Duration = Duration::from_millis(100);
const HUGE: u64 = 10 << 30;
static SPACES: [u8; 16 * 1024] = [b' '; 16 * 1024];
