//! Looking at Redis as a thief would: at every byte on the line, and at every key and value.

use std::error::Error;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

/// A relay before Redis that writes down what passes, both ways. It ends when dropped.
pub struct Tap {
    port: u16,
    seen: Arc<Mutex<Vec<Vec<u8>>>>,
    task: JoinHandle<()>,
}

impl Tap {
    /// Relays a free port to the Redis on `port`.
    pub async fn start(port: u16) -> io::Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let seen = Arc::<Mutex<Vec<Vec<u8>>>>::default();
        let here = listener.local_addr()?.port();
        let task = tokio::spawn(serve(listener, port, seen.clone()));
        Ok(Self { port: here, seen, task })
    }

    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}/", self.port)
    }

    /// What has passed: one entry for each direction of each connection.
    pub fn seen(&self) -> Vec<Vec<u8>> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Drop for Tap {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn serve(listener: TcpListener, port: u16, seen: Arc<Mutex<Vec<Vec<u8>>>>) {
    while let Ok((near, _)) = listener.accept().await {
        let Ok(far) = TcpStream::connect(("127.0.0.1", port)).await else {
            continue;
        };
        let (near_read, near_write) = near.into_split();
        let (far_read, far_write) = far.into_split();
        tokio::spawn(relay(near_read, far_write, seen.clone()));
        tokio::spawn(relay(far_read, near_write, seen.clone()));
    }
}

/// Copies until one side is gone; dropping the halves then tells the other side.
async fn relay(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    seen: Arc<Mutex<Vec<Vec<u8>>>>,
) {
    let lock = || seen.lock().unwrap_or_else(PoisonError::into_inner);
    let place = {
        let mut seen = lock();
        seen.push(Vec::new());
        seen.len() - 1
    };
    let mut buffer = vec![0; 16 * 1024];
    while let Ok(length @ 1..) = from.read(&mut buffer).await {
        lock()[place].extend_from_slice(&buffer[..length]);
        if to.write_all(&buffer[..length]).await.is_err() {
            break;
        }
    }
}

/// Every key of a database and its value.
pub async fn dump(url: &str) -> Result<Vec<(Vec<u8>, Vec<u8>)>, Box<dyn Error>> {
    let client = redis::Client::open(url)?;
    let mut connection = client.get_multiplexed_async_connection().await?;
    let mut found = Vec::new();
    let mut cursor = 0u64;
    loop {
        let (next, keys): (u64, Vec<Vec<u8>>) =
            redis::cmd("SCAN").arg(cursor).query_async(&mut connection).await?;
        for key in keys {
            // A value that is no string fails here: it would have to be looked at otherwise.
            let value: Option<Vec<u8>> =
                redis::cmd("GET").arg(&key).query_async(&mut connection).await?;
            if let Some(value) = value {
                found.push((key, value));
            }
        }
        if next == 0 {
            return Ok(found);
        }
        cursor = next;
    }
}
