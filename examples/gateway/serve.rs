//! Connections: accepting them, their limits, and the end of it all.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use hyper_util::server::graceful::{GracefulShutdown, Watcher};
use tokio::net::{TcpListener, TcpStream};
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::drain::Drain;
use crate::front::Front;

/// How the gateway ended.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum End {
    /// All that ran was finished, or cut when its time was over.
    Drained,
    /// A second signal came.
    Hurried,
}

/// Serves until a signal comes, then finishes what runs for at most `limit`.
///
/// # Errors
///
/// If signals cannot be listened for.
pub async fn serve(
    listener: TcpListener,
    front: Front,
    drain: Drain,
    limit: Duration,
) -> std::io::Result<End> {
    let mut stop = Stop::new()?;
    let connections = GracefulShutdown::new();
    let server = Arc::new(server());
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = stop.asked() => break,
        };
        match accepted {
            Ok((stream, peer)) => {
                let (front, server) = (front.clone(), server.clone());
                tokio::spawn(connection(stream, peer, front, server, connections.watcher()));
            }
            Err(error) => {
                // Too many open files, most likely: some will be closed soon.
                tracing::warn!(%error, "a connection cannot be accepted");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
    drop(listener);
    tracing::info!(running = connections.count(), ?limit, "stopping");
    let finish = async {
        connections.shutdown().await;
        // What was upgraded is no connection of the server's any more.
        drain.finished().await;
    };
    tokio::select! {
        finished = tokio::time::timeout(limit, finish) => {
            if finished.is_err() {
                tracing::warn!("what still runs is cut");
            }
            Ok(End::Drained)
        }
        () = stop.asked() => Ok(End::Hurried),
    }
}

type Server = auto::Builder<TokioExecutor>;

/// Limits that no honest client meets.
fn server() -> Server {
    let mut server = auto::Builder::new(TokioExecutor::new());
    server
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .max_buf_size(MAX_HEAD as usize)
        .http2()
        .timer(TokioTimer::new())
        .max_header_list_size(MAX_HEAD)
        .max_concurrent_streams(MAX_STREAMS)
        .keep_alive_interval(Duration::from_secs(30))
        .keep_alive_timeout(Duration::from_secs(20));
    server
}

async fn connection(
    stream: TcpStream,
    peer: SocketAddr,
    front: Front,
    server: Arc<Server>,
    watcher: Watcher,
) {
    let _ = stream.set_nodelay(true);
    let begun = Arc::new(AtomicBool::new(false));
    let asked = begun.clone();
    let service = service_fn(move |request| {
        asked.store(true, Ordering::Relaxed);
        front.clone().serve(request, peer)
    });
    let connection = server.serve_connection_with_upgrades(TokioIo::new(stream), service);
    let connection = watcher.watch(connection);
    // Before the first request nobody else counts the time.
    let silent = async {
        tokio::time::sleep(HEAD_TIMEOUT).await;
        if begun.load(Ordering::Relaxed) {
            std::future::pending::<()>().await;
        }
    };
    tokio::select! {
        ended = connection => if let Err(error) = ended {
            tracing::debug!(%peer, error, "a connection broke");
        },
        () = silent => tracing::debug!(%peer, "a connection brought no request"),
    }
}

/// SIGTERM and SIGINT.
struct Stop {
    terminate: Signal,
    interrupt: Signal,
}

impl Stop {
    fn new() -> std::io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
        })
    }

    async fn asked(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}

/// The head of a request is there within this time, or the connection is closed.
const HEAD_TIMEOUT: Duration = Duration::from_secs(30);
/// A longer head is answered with 431.
const MAX_HEAD: u32 = 64 * 1024;
const MAX_STREAMS: u32 = 250;
