//! Counting how often a pod waits for Redis, one wait after another.

use std::error::Error;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

/// A relay before Redis that sees who speaks. It ends when dropped.
pub struct Waits {
    port: u16,
    turns: Arc<Mutex<Turns>>,
    task: JoinHandle<()>,
}

/// Whose turn it is: what is asked together, before an answer, is one wait.
#[derive(Debug, Default)]
struct Turns {
    asked: bool,
    count: u32,
}

/// What pods ask each second to hear whether the link lives; nobody waits for it.
const HEARTBEAT: &[u8] = b"*1\r\n$4\r\nPING\r\n";
const ALIVE: &[u8] = b"+PONG\r\n";

impl Waits {
    /// Relays a free port to the Redis on `port`.
    pub async fn start(port: u16) -> io::Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let here = listener.local_addr()?.port();
        let turns = Arc::<Mutex<Turns>>::default();
        let task = tokio::spawn(serve(listener, port, turns.clone()));
        Ok(Self { port: here, turns, task })
    }

    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}/", self.port)
    }

    /// Counts the waits of what is done meanwhile.
    pub async fn of<T>(&self, done: impl Future<Output = T>) -> (u32, T) {
        *lock(&self.turns) = Turns::default();
        let outcome = done.await;
        (lock(&self.turns).count, outcome)
    }
}

impl Drop for Waits {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn serve(listener: TcpListener, port: u16, turns: Arc<Mutex<Turns>>) {
    while let Ok((near, _)) = listener.accept().await {
        let Ok(far) = TcpStream::connect(("127.0.0.1", port)).await else { continue };
        let _ = (near.set_nodelay(true), far.set_nodelay(true));
        let (near_read, near_write) = near.into_split();
        let (far_read, far_write) = far.into_split();
        let (asked, answered) = (turns.clone(), turns.clone());
        tokio::spawn(relay(near_read, far_write, move |bytes| {
            let mut turns = lock(&asked);
            if bytes != HEARTBEAT && !turns.asked {
                turns.asked = true;
                turns.count += 1;
            }
        }));
        tokio::spawn(relay(far_read, near_write, move |bytes| {
            if bytes != ALIVE {
                lock(&answered).asked = false;
            }
        }));
    }
}

/// Copies until one side is gone; dropping the halves then tells the other side.
async fn relay(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, passes: impl Fn(&[u8])) {
    let mut buffer = vec![0; 64 * 1024];
    while let Ok(length @ 1..) = from.read(&mut buffer).await {
        passes(&buffer[..length]);
        if to.write_all(&buffer[..length]).await.is_err() {
            break;
        }
    }
}

fn lock(turns: &Mutex<Turns>) -> MutexGuard<'_, Turns> {
    turns.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Changes every key a little, so that nobody's copy of it is good any more.
pub async fn change_all(url: &str) -> Result<(), Box<dyn Error>> {
    let client = redis::Client::open(url)?;
    let mut connection = client.get_multiplexed_async_connection().await?;
    let keys: Vec<Vec<u8>> = redis::cmd("KEYS").arg("*").query_async(&mut connection).await?;
    for key in keys {
        let _: i64 =
            redis::cmd("PEXPIRE").arg(key).arg(600_000).query_async(&mut connection).await?;
    }
    Ok(())
}
