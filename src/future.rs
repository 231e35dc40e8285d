//! The future of a response: boxed only where the network is.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Buf as _;
use http::header::CONTENT_TYPE;
use http::request::Parts;
use http::{Request, Response};
use http_body::Body;
use pin_project_lite::pin_project;
use tower_service::Service;

use crate::admission::{Admission, Gate, Verdict, admit};
use crate::after::After;
use crate::flow::{self, Core, Form};
use crate::paths::Endpoint;
use crate::respond::{Answer, Respond};
use crate::session::keeper::Found;

/// A form of the provider's is small; more than this is not read.
const MAX_FORM: usize = 64 * 1024;

pin_project! {
    /// The response of [`PkceAuth`](crate::PkceAuth), still under way.
    #[must_use = "futures do nothing unless polled"]
    pub struct ResponseFuture<S, R, B>
    where
        S: Service<Request<B>>,
    {
        #[pin]
        state: State<S, R, B, S::Future>,
    }
}

pin_project! {
    #[project = StateProj]
    enum State<S, R, B, F> {
        // The inner service is at work.
        Inner { #[pin] future: F, after: After },
        // The store is asked for the session.
        Lookup { lookup: Lookup, waiting: Option<Box<Waiting<S, R, B>>> },
        // The body of a form is being read.
        Form { #[pin] body: B, collected: Vec<u8>, next: Option<Box<AfterForm<R>>> },
        // One of our own flows is at work.
        Flow { flow: Pin<Box<dyn Future<Output = Answer> + Send>>, responder: R },
        // The answer is known.
        Answer { answer: Option<Answer>, responder: R },
    }
}

/// A look-up under way.
pub(crate) type Lookup = Pin<Box<dyn Future<Output = Found> + Send>>;

/// Who waits for a form: the flow of this endpoint.
type AfterForm<R> = (Arc<Core>, Endpoint, Parts, R);

/// A request that waits for its look-up, with the service that is ready for it.
struct Waiting<S, R, B> {
    service: S,
    request: Request<B>,
    admission: Admission,
    core: Arc<Core>,
    gate: Arc<Gate>,
    responder: R,
}

impl<S, R, B> ResponseFuture<S, R, B>
where
    S: Service<Request<B>>,
{
    pub(crate) fn inner(future: S::Future, after: After) -> Self {
        Self { state: State::Inner { future, after } }
    }

    pub(crate) fn answer(answer: Answer, responder: R) -> Self {
        Self { state: State::Answer { answer: Some(answer), responder } }
    }

    pub(crate) fn flow(flow: Pin<Box<dyn Future<Output = Answer> + Send>>, responder: R) -> Self {
        Self { state: State::Flow { flow, responder } }
    }

    pub(crate) fn form(
        core: Arc<Core>,
        endpoint: Endpoint,
        parts: Parts,
        body: B,
        responder: R,
    ) -> Self {
        Self {
            state: State::Form {
                body,
                collected: Vec::new(),
                next: Some(Box::new((core, endpoint, parts, responder))),
            },
        }
    }

    pub(crate) fn lookup(
        lookup: Lookup,
        service: S,
        request: Request<B>,
        admission: Admission,
        (core, gate, responder): (Arc<Core>, Arc<Gate>, R),
    ) -> Self {
        let waiting = Waiting { service, request, admission, core, gate, responder };
        Self { state: State::Lookup { lookup, waiting: Some(Box::new(waiting)) } }
    }
}

impl<S, R, B, ResBody> Future for ResponseFuture<S, R, B>
where
    S: Service<Request<B>, Response = Response<ResBody>>,
    R: Respond<ResBody>,
    B: Body,
{
    type Output = Result<Response<ResBody>, S::Error>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut state = self.project().state;
        loop {
            let next = match state.as_mut().project() {
                StateProj::Inner { future, after } => {
                    let mut result = ready!(future.poll(cx));
                    if let Ok(response) = &mut result {
                        after.apply(response);
                    }
                    return Poll::Ready(result);
                }
                StateProj::Lookup { lookup, waiting } => {
                    let found = ready!(lookup.as_mut().poll(cx));
                    let Waiting { mut service, mut request, admission, core, gate, responder } =
                        *waiting.take().expect("a look-up is ready once");
                    match admit(&core, &gate, admission, &mut request, found) {
                        Verdict::Pass(after) => {
                            State::Inner { future: service.call(request), after }
                        }
                        Verdict::Answer(answer) => {
                            State::Answer { answer: Some(answer), responder }
                        }
                    }
                }
                StateProj::Form { body, collected, next } => {
                    let form = ready!(poll_form(body, collected, cx));
                    let (core, endpoint, parts, responder) =
                        *next.take().expect("a form is complete once");
                    let form = if is_urlencoded(&parts) { form } else { Form::Unreadable };
                    let flow = flow::serve(core, endpoint, Arc::new(parts), Some(form));
                    State::Flow { flow: Box::pin(flow), responder }
                }
                StateProj::Flow { flow, responder } => {
                    let answer = ready!(flow.as_mut().poll(cx));
                    let response = responder.respond(&answer);
                    return Poll::Ready(Ok(answer.finish(response)));
                }
                StateProj::Answer { answer, responder } => {
                    let answer = answer.take().expect("a response future is polled until ready");
                    let response = responder.respond(&answer);
                    return Poll::Ready(Ok(answer.finish(response)));
                }
            };
            state.set(next);
        }
    }
}

impl<S, R, B> fmt::Debug for ResponseFuture<S, R, B>
where
    S: Service<Request<B>>,
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ResponseFuture(..)")
    }
}

/// Reads a form up to its limit.
fn poll_form<B: Body>(
    mut body: Pin<&mut B>,
    collected: &mut Vec<u8>,
    cx: &mut Context<'_>,
) -> Poll<Form> {
    loop {
        match ready!(body.as_mut().poll_frame(cx)) {
            None => return Poll::Ready(Form::Body(std::mem::take(collected))),
            Some(Err(_)) => return Poll::Ready(Form::Unreadable),
            Some(Ok(frame)) => {
                let Ok(mut data) = frame.into_data() else {
                    continue;
                };
                if collected.len() + data.remaining() > MAX_FORM {
                    return Poll::Ready(Form::Unreadable);
                }
                while data.has_remaining() {
                    let chunk = data.chunk();
                    collected.extend_from_slice(chunk);
                    let length = chunk.len();
                    data.advance(length);
                }
            }
        }
    }
}

fn is_urlencoded(parts: &Parts) -> bool {
    parts
        .headers
        .get(CONTENT_TYPE)
        .and_then(|value| value.to_str().ok())
        .and_then(|value| value.split(';').next())
        .is_some_and(|media| media.trim().eq_ignore_ascii_case("application/x-www-form-urlencoded"))
}
