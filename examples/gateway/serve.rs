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
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::Instant;

use crate::client_stream::ClientStream;
use crate::drain::Drain;
use crate::front::Front;
use crate::slots::Slots;

/// How the gateway ended.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum End {
    /// All that ran was finished.
    Drained,
    /// The time was over and something still ran.
    Cut,
    /// A second signal came.
    Hurried,
}

/// How long the end may take.
#[derive(Clone, Copy, Debug)]
pub struct Grace {
    /// For those who send us requests to notice that we are no longer ready.
    pub delay: Duration,
    /// For what runs to be finished.
    pub limit: Duration,
}

/// Serves until a signal comes, goes on for a while, then finishes what runs.
///
/// # Errors
///
/// If signals cannot be listened for.
pub async fn serve(
    listener: TcpListener,
    front: Front,
    drain: Drain,
    grace: Grace,
) -> std::io::Result<End> {
    let mut stop = Stop::new()?;
    let connections = GracefulShutdown::new();
    let (server, slots) = (Arc::new(server()), Slots::new());
    let mut refuse_at = None;
    loop {
        let (accepted, slot) = tokio::select! {
            accepted = accept(&listener, &slots) => accepted,
            () = reached(refuse_at) => break,
            () = stop.asked() => {
                if refuse_at.is_some() {
                    return Ok(End::Hurried);
                }
                drain.begin();
                tracing::info!(delay = ?grace.delay, "stopping: no longer ready");
                refuse_at = Some(Instant::now() + grace.delay);
                continue;
            }
        };
        match accepted {
            Ok((stream, peer)) => {
                let _ = stream.set_nodelay(true);
                let stream = ClientStream::new(stream, slot);
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
    let limit = grace.limit;
    tracing::info!(connections = connections.count(), ?limit, "stopping: no more connections");
    let finish = async {
        connections.shutdown().await;
        // What was upgraded is no connection of the server's any more.
        drain.finished().await;
    };
    tokio::select! {
        finished = tokio::time::timeout(limit, finish) => {
            if finished.is_err() {
                tracing::warn!("what still runs is cut");
                return Ok(End::Cut);
            }
            Ok(End::Drained)
        }
        () = stop.asked() => Ok(End::Hurried),
    }
}

/// Waits for a place first: connections beyond stay in the kernel's queue.
async fn accept(
    listener: &TcpListener,
    slots: &Slots,
) -> (std::io::Result<(TcpStream, SocketAddr)>, OwnedSemaphorePermit) {
    let slot = slots.one().await;
    (listener.accept().await, slot)
}

async fn reached(time: Option<Instant>) {
    match time {
        Some(time) => tokio::time::sleep_until(time).await,
        None => std::future::pending().await,
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
    stream: ClientStream<TcpStream>,
    peer: SocketAddr,
    front: Front,
    server: Arc<Server>,
    watcher: Watcher,
) {
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

/// SIGTERM and SIGINT. SIGHUP means nothing here, but would end a process that does not listen.
struct Stop {
    terminate: Signal,
    interrupt: Signal,
    hang_up: Signal,
}

impl Stop {
    fn new() -> std::io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hang_up: signal(SignalKind::hangup())?,
        })
    }

    async fn asked(&mut self) {
        loop {
            tokio::select! {
                _ = self.terminate.recv() => return,
                _ = self.interrupt.recv() => return,
                _ = self.hang_up.recv() => {
                    tracing::warn!("SIGHUP is ignored: nothing is read again; restart instead");
                }
            }
        }
    }
}

/// The head of a request is there within this time, or the connection is closed.
const HEAD_TIMEOUT: Duration = Duration::from_secs(30);
/// A longer head is answered with 431.
const MAX_HEAD: u32 = 64 * 1024;
const MAX_STREAMS: u32 = 250;
