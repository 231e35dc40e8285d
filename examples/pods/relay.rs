//! A relay before a server, which holds answers back or breaks them off when it is told to.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

/// A running relay; it ends when dropped.
pub struct Relay {
    port: u16,
    trouble: Arc<Trouble>,
    task: JoinHandle<()>,
}

/// What it does to answers.
#[derive(Default)]
struct Trouble {
    /// Milliseconds; 0: at once.
    delay: AtomicU64,
    /// After so many bytes; 0: never.
    cut: AtomicUsize,
}

impl Relay {
    /// Relays a free port to the server on `port`.
    pub async fn start(port: u16) -> io::Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let here = listener.local_addr()?.port();
        let trouble = Arc::<Trouble>::default();
        let task = tokio::spawn(serve(listener, port, trouble.clone()));
        Ok(Self { port: here, trouble, task })
    }

    pub const fn port(&self) -> u16 {
        self.port
    }

    /// Holds back each answer for so long.
    pub fn slow_down(&self, delay: Duration) {
        let delay = u64::try_from(delay.as_millis()).unwrap_or(u64::MAX);
        self.trouble.delay.store(delay, Ordering::Relaxed);
    }

    /// Closes each connection after so many bytes of an answer; 0 for never.
    pub fn cut_after(&self, bytes: usize) {
        self.trouble.cut.store(bytes, Ordering::Relaxed);
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn serve(listener: TcpListener, port: u16, trouble: Arc<Trouble>) {
    while let Ok((near, _)) = listener.accept().await {
        // A server that is gone is gone for those before the relay too.
        let Ok(far) = TcpStream::connect(("127.0.0.1", port)).await else { continue };
        let _ = (near.set_nodelay(true), far.set_nodelay(true));
        let (near_read, near_write) = near.into_split();
        let (far_read, far_write) = far.into_split();
        tokio::spawn(relay(near_read, far_write, Arc::default()));
        tokio::spawn(relay(far_read, near_write, trouble.clone()));
    }
}

/// Copies until one side is gone; dropping the halves then tells the other side.
async fn relay(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, trouble: Arc<Trouble>) {
    let mut buffer = vec![0; 16 * 1024];
    while let Ok(length @ 1..) = from.read(&mut buffer).await {
        let delay = trouble.delay.load(Ordering::Relaxed);
        if delay > 0 {
            tokio::time::sleep(Duration::from_millis(delay)).await;
        }
        let cut = trouble.cut.load(Ordering::Relaxed);
        let passed = if cut > 0 { length.min(cut) } else { length };
        if to.write_all(&buffer[..passed]).await.is_err() || cut > 0 {
            break;
        }
    }
}
