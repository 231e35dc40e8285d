//! The body of a request on its way to the upstream.

use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use pin_project_lite::pin_project;
use tokio::time::Instant;

use crate::body::BoxError;
use crate::forwarding::judge_trailers;
use crate::patience::Patience;

pin_project! {
    /// A client's body: passed on as the upstream takes it, noting that it moves. One that the
    /// client does not go on with fails.
    pub struct Upload<B = Incoming> {
        #[pin]
        body: B,
        progress: Progress,
        patience: Option<Patience>,
    }
}

/// How an upload comes along.
#[derive(Clone, Debug)]
pub struct Progress(Arc<Mutex<State>>);

#[derive(Clone, Copy, Debug)]
enum State {
    /// A piece was taken, and the upstream has not asked for another.
    Taken(Instant),
    /// The client has the next one.
    AwaitsClient,
    /// The client was silent for too long.
    GivenUp,
}

impl Progress {
    pub fn new() -> Self {
        Self(Arc::new(Mutex::new(State::Taken(Instant::now()))))
    }

    /// Returns when it was last not the upstream who was waited for.
    pub fn last(&self) -> Instant {
        match self.state() {
            State::Taken(time) => time,
            State::AwaitsClient | State::GivenUp => Instant::now(),
        }
    }

    /// Tells whether it failed because of the client.
    pub fn is_given_up(&self) -> bool {
        matches!(self.state(), State::GivenUp)
    }

    fn state(&self) -> State {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn note(&self, state: State) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = state;
    }
}

impl<B> Upload<B> {
    /// A client's body, which may stand still for a minute.
    pub const fn new(body: B, progress: Progress) -> Self {
        Self { body, progress, patience: Some(Patience::new(CLIENT_TIMEOUT)) }
    }

    /// A body that may stand still for ever, as in gRPC, where a client may open a stream to listen
    /// only. That it is still there, the pings of HTTP/2 tell.
    pub const fn stream(body: B, progress: Progress) -> Self {
        Self { body, progress, patience: None }
    }
}

impl<B> Body for Upload<B>
where
    B: Body<Data = Bytes>,
    B::Error: Into<BoxError>,
{
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let this = self.project();
        let Poll::Ready(frame) = this.body.poll_frame(cx) else {
            let Some(patience) = this.patience else { return Poll::Pending };
            this.progress.note(State::AwaitsClient);
            ready!(patience.poll_over(cx));
            this.progress.note(State::GivenUp);
            return Poll::Ready(Some(Err("the client does not go on".into())));
        };
        if let Some(patience) = this.patience {
            patience.content();
        }
        this.progress.note(State::Taken(Instant::now()));
        Poll::Ready(frame.map(|frame| {
            let mut frame = frame.map_err(Into::into)?;
            if let Some(trailers) = frame.trailers_mut() {
                judge_trailers(trailers);
            }
            Ok(frame)
        }))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

const CLIENT_TIMEOUT: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests {
    use futures_util::stream;
    use http_body_util::{BodyExt as _, StreamBody};
    use tokio::time::{advance, sleep};

    use super::*;

    /// A body of pieces that come so many seconds after one another, and then nothing.
    fn body(pauses: &'static [u64]) -> Pin<Box<dyn Body<Data = Bytes, Error = BoxError> + Send>> {
        let pieces = stream::unfold(pauses, |pauses| async move {
            let Some((pause, rest)) = pauses.split_first() else {
                return std::future::pending().await;
            };
            sleep(Duration::from_secs(*pause)).await;
            Some((Ok(Frame::data(Bytes::from_static(b"x"))), rest))
        });
        Box::pin(StreamBody::new(pieces))
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_does_not_go_on_is_given_up() {
        let progress = Progress::new();
        let mut upload = Upload::new(body(&[59, 59, 59]), progress.clone());
        for _ in 0..3 {
            assert!(upload.frame().await.unwrap().is_ok());
            // However long the upstream takes.
            let taken = progress.last();
            advance(Duration::from_secs(600)).await;
            assert_eq!(progress.last(), taken);
        }
        let begun = Instant::now();
        let end = tokio::time::timeout(10 * CLIENT_TIMEOUT, upload.frame()).await;
        assert!(end.expect("it fails").unwrap().is_err());
        assert_eq!(begun.elapsed().as_secs(), CLIENT_TIMEOUT.as_secs());
        assert!(progress.is_given_up());
    }

    #[tokio::test(start_paused = true)]
    async fn a_silent_client_is_no_slow_upstream() {
        let progress = Progress::new();
        let mut upload = Upload::new(body(&[]), progress.clone());
        let waits = tokio::time::timeout(Duration::from_secs(30), upload.frame()).await;
        assert!(waits.is_err());
        assert_eq!(progress.last(), Instant::now());
        assert!(!progress.is_given_up());
    }

    #[tokio::test(start_paused = true)]
    async fn a_stream_may_be_silent() {
        let progress = Progress::new();
        let begun = progress.last();
        let mut upload = Upload::stream(body(&[3600]), progress.clone());
        let waits = tokio::time::timeout(Duration::from_secs(1800), upload.frame()).await;
        assert!(waits.is_err());
        // But the upstream could answer.
        assert_eq!(progress.last(), begun);
        assert!(upload.frame().await.unwrap().is_ok());
    }
}
