//! WebSocket and other upgrades of HTTP/1.1 (RFC 9110 section 7.8): the handshake is passed on, and
//! after the upstream's `101` bytes are copied both ways.
//!
//! An upgrade to another version of HTTP, or to TLS, is not passed on but ignored, as a server may:
//! the requests inside such a connection would reach the upstream past the sign-in.

use std::io;
use std::pin::pin;
use std::time::Duration;

use http::header::{CONNECTION, HeaderValue, UPGRADE};
use http::{HeaderMap, Request, Version};
use hyper::body::Incoming;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _};
use tokio::time::timeout;
use tower_pkce_auth::SessionEnded;

use crate::body::BoxError;
use crate::drain::Running;
use crate::forwarding::words;

/// A client's wish to change the protocol of its connection.
pub struct Handshake {
    offered: Vec<String>,
    client: OnUpgrade,
}

impl Handshake {
    /// Finds out whether a request asks for a protocol that can be passed on.
    pub fn of(request: &mut Request<Incoming>) -> Option<Self> {
        let asked = request.version() == Version::HTTP_11
            && words(request.headers(), CONNECTION)
                .any(|word| word.eq_ignore_ascii_case("upgrade"));
        let offered = if asked { offered(request.headers()) } else { Vec::new() };
        if offered.is_empty() {
            return None;
        }
        Some(Self { offered, client: hyper::upgrade::on(request) })
    }

    /// Returns the protocols to ask the upstream for.
    pub fn protocols(&self) -> Option<HeaderValue> {
        HeaderValue::try_from(self.offered.join(", ")).ok()
    }

    /// Returns the protocol the upstream chose, if it is one that was offered.
    pub fn chosen(&self, headers: &HeaderMap) -> Option<HeaderValue> {
        let mut chosen = words(headers, UPGRADE);
        let protocol = chosen.next()?;
        let offered = self.offered.iter().any(|offered| offered.eq_ignore_ascii_case(protocol));
        if !offered || chosen.next().is_some() {
            return None;
        }
        HeaderValue::from_str(protocol).ok()
    }

    /// Copies both ways until both sides have ended, or the session has.
    pub fn connect(self, upstream: OnUpgrade, session: Option<SessionEnded>, running: Running) {
        tokio::spawn(async move {
            let end = async {
                match session {
                    Some(session) => session.await,
                    // On a public path nobody is signed in.
                    None => std::future::pending().await,
                }
            };
            let copying = async {
                // Each is there as soon as its 101 has been sent, or read.
                let (client, upstream) = (self.client.await?, upstream.await?);
                tunnel(TokioIo::new(client), TokioIo::new(upstream)).await.map_err(BoxError::from)
            };
            tokio::select! {
                copied = copying => match copied {
                    Ok(()) => tracing::debug!("an upgraded connection ended"),
                    Err(error) => tracing::debug!(%error, "an upgraded connection broke"),
                },
                () = end => tracing::debug!("the session of an upgraded connection ended"),
            }
            drop(running);
        });
    }
}

/// Copies both ways. After one side has ended the other has a little time to end too.
async fn tunnel<C, U>(client: C, upstream: U) -> io::Result<()>
where
    C: AsyncRead + AsyncWrite,
    U: AsyncRead + AsyncWrite,
{
    let (from_client, to_client) = tokio::io::split(client);
    let (from_upstream, to_upstream) = tokio::io::split(upstream);
    let mut up = pin!(pass(from_client, to_upstream));
    let mut down = pin!(pass(from_upstream, to_client));
    let other = tokio::select! {
        ended = &mut up => { ended?; timeout(HALF_CLOSED, down).await }
        ended = &mut down => { ended?; timeout(HALF_CLOSED, up).await }
    };
    other.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
}

/// Copies until one side ends, and tells the other.
async fn pass(mut from: impl AsyncRead + Unpin, mut to: impl AsyncWrite + Unpin) -> io::Result<()> {
    tokio::io::copy(&mut from, &mut to).await?;
    to.shutdown().await
}

fn offered(headers: &HeaderMap) -> Vec<String> {
    words(headers, UPGRADE).filter(|word| !carries_requests(word)).map(str::to_owned).collect()
}

fn carries_requests(protocol: &str) -> bool {
    let name = protocol.split('/').next().unwrap_or_default().to_ascii_lowercase();
    matches!(&*name, "h2" | "h2c" | "h3" | "http" | "https" | "tls")
}

const HALF_CLOSED: Duration = Duration::from_secs(30);

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, duplex};
    use tokio::time::Instant;

    use super::*;

    #[test]
    fn protocols_that_carry_requests_are_not_passed_on() {
        for (field, passed) in [
            ("websocket", &["websocket"][..]),
            ("WebSocket", &["WebSocket"]),
            ("h2c, websocket", &["websocket"]),
            ("h2c", &[]),
            ("HTTP/2.0", &[]),
            ("TLS/1.0, HTTP/1.1", &[]),
            ("SPDY/3.1", &["SPDY/3.1"]),
            ("", &[]),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(UPGRADE, field.parse().unwrap());
            assert_eq!(offered(&headers), passed, "{field}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_half_closed_tunnel_is_cut_after_a_while() {
        let (client, mut browser) = duplex(64);
        let (upstream, mut service) = duplex(64);
        let begun = Instant::now();
        let tunnel = tokio::spawn(tunnel(client, upstream));
        browser.write_all(b"bye").await.unwrap();
        browser.shutdown().await.unwrap();
        let mut read = Vec::new();
        service.read_to_end(&mut read).await.unwrap();
        assert_eq!(read, b"bye");
        // What the other side has to say still arrives.
        service.write_all(b"well").await.unwrap();
        let mut read = [0; 4];
        browser.read_exact(&mut read).await.unwrap();
        assert_eq!(&read, b"well");
        let ended = timeout(10 * HALF_CLOSED, tunnel).await.expect("it is cut").unwrap();
        assert_eq!(ended.unwrap_err().kind(), io::ErrorKind::TimedOut);
        assert_eq!(begun.elapsed().as_secs(), HALF_CLOSED.as_secs());
    }

    #[tokio::test(start_paused = true)]
    async fn a_tunnel_that_both_have_left_ends_and_one_that_is_silent_does_not() {
        let (client, mut browser) = duplex(64);
        let (upstream, mut service) = duplex(64);
        let tunnel = tokio::spawn(tunnel(client, upstream));
        tokio::time::sleep(100 * HALF_CLOSED).await;
        assert!(!tunnel.is_finished());
        browser.shutdown().await.unwrap();
        service.shutdown().await.unwrap();
        timeout(HALF_CLOSED, tunnel).await.expect("it ends").unwrap().unwrap();
    }
}
