//! A client's connection that is not written to for ever.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::OwnedSemaphorePermit;

use crate::patience::Patience;

/// A connection that fails when a client takes nothing of what is there for it. As long as there
/// is nothing to write no time is counted: events may be rare.
pub struct ClientStream<S> {
    inner: S,
    patience: Patience,
    /// It goes with the socket, also when that was upgraded.
    _slot: OwnedSemaphorePermit,
}

impl<S> ClientStream<S> {
    pub const fn new(inner: S, slot: OwnedSemaphorePermit) -> Self {
        Self { inner, patience: Patience::new(WRITE_TIMEOUT), _slot: slot }
    }

    fn judge(
        &mut self,
        cx: &mut Context<'_>,
        written: Poll<io::Result<usize>>,
    ) -> Poll<io::Result<usize>> {
        if written.is_ready() {
            self.patience.content();
            return written;
        }
        ready!(self.patience.poll_over(cx));
        Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "the client reads nothing")))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for ClientStream<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_read(cx, buffer)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for ClientStream<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        data: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.inner).poll_write(cx, data);
        self.judge(cx, written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        data: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.inner).poll_write_vectored(cx, data);
        self.judge(cx, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    // A socket has nothing to flush, and is shut down at once.
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}

const WRITE_TIMEOUT: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream};
    use tokio::sync::Semaphore;
    use tokio::time::{Instant, sleep};

    use super::*;

    fn connection(slots: &Arc<Semaphore>) -> (ClientStream<DuplexStream>, DuplexStream) {
        let (ours, theirs) = tokio::io::duplex(4);
        (ClientStream::new(ours, slots.clone().try_acquire_owned().unwrap()), theirs)
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_reads_nothing_is_given_up() {
        let slots = Arc::new(Semaphore::new(1));
        let (mut ours, _theirs) = connection(&slots);
        let begun = Instant::now();
        let write = ours.write_all(b"more than four");
        let end = tokio::time::timeout(10 * WRITE_TIMEOUT, write).await;
        let error = end.expect("it fails").unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        // The timer's grain is a millisecond.
        assert_eq!(begun.elapsed().as_secs(), WRITE_TIMEOUT.as_secs());
        assert_eq!(slots.available_permits(), 0);
        drop(ours);
        assert_eq!(slots.available_permits(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn one_that_reads_slowly_or_is_sent_nothing_is_not() {
        let (mut ours, mut theirs) = connection(&Arc::new(Semaphore::new(1)));
        let reader = tokio::spawn(async move {
            let mut read = [0; 14];
            for piece in read.chunks_mut(2) {
                sleep(WRITE_TIMEOUT - Duration::from_secs(1)).await;
                theirs.read_exact(piece).await.unwrap();
            }
            (theirs, read)
        });
        ours.write_all(b"more than four").await.unwrap();
        let (mut theirs, read) = reader.await.unwrap();
        assert_eq!(&read, b"more than four");
        sleep(10 * WRITE_TIMEOUT).await;
        let (written, _) = tokio::join!(ours.write_all(b"an event"), async {
            sleep(Duration::from_secs(30)).await;
            theirs.read_exact(&mut [0; 8]).await.unwrap()
        });
        written.unwrap();
    }
}
