//! The bodies that pass through: nothing is collected, frames go on as they come.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use pin_project_lite::pin_project;

/// What a body may fail with.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

pin_project! {
    /// A body of the gateway's own, or one that is passed on.
    #[project = PassedProj]
    pub enum Passed<B> {
        Own { text: Option<Bytes> },
        Passed { #[pin] body: B },
    }
}

impl<B> Passed<B> {
    pub const fn own(text: Bytes) -> Self {
        Self::Own { text: Some(text) }
    }

    pub const fn on(body: B) -> Self {
        Self::Passed { body }
    }
}

impl<B> From<Bytes> for Passed<B> {
    fn from(text: Bytes) -> Self {
        Self::own(text)
    }
}

impl<B> Body for Passed<B>
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
        match self.project() {
            PassedProj::Own { text } => {
                let text = text.take().filter(|text| !text.is_empty());
                Poll::Ready(text.map(|text| Ok(Frame::data(text))))
            }
            PassedProj::Passed { body } => {
                body.poll_frame(cx).map(|frame| frame.map(|frame| frame.map_err(Into::into)))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Own { text } => text.as_ref().is_none_or(Bytes::is_empty),
            Self::Passed { body } => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Own { text } => {
                SizeHint::with_exact(text.as_ref().map_or(0, |text| text.len() as u64))
            }
            Self::Passed { body } => body.size_hint(),
        }
    }
}
