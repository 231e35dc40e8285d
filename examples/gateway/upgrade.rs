//! WebSocket and other upgrades of HTTP/1.1 (RFC 9110 section 7.8): the handshake is passed on, and
//! after the upstream's `101` bytes are copied both ways.
//!
//! An upgrade to another version of HTTP, or to TLS, is not passed on but ignored, as a server may:
//! the requests inside such a connection would reach the upstream past the sign-in.

use http::header::{CONNECTION, HeaderValue, UPGRADE};
use http::{HeaderMap, Request, Version};
use hyper::body::Incoming;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use tower_pkce_auth::SessionEnded;

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
                let (mut client, mut upstream) = (TokioIo::new(client), TokioIo::new(upstream));
                tokio::io::copy_bidirectional(&mut client, &mut upstream)
                    .await
                    .map_err(crate::body::BoxError::from)
            };
            tokio::select! {
                copied = copying => match copied {
                    Ok((up, down)) => tracing::debug!(up, down, "an upgraded connection ended"),
                    Err(error) => tracing::debug!(%error, "an upgraded connection broke"),
                },
                () = end => tracing::debug!("the session of an upgraded connection ended"),
            }
            drop(running);
        });
    }
}

fn offered(headers: &HeaderMap) -> Vec<String> {
    words(headers, UPGRADE).filter(|word| !carries_requests(word)).map(str::to_owned).collect()
}

fn carries_requests(protocol: &str) -> bool {
    let name = protocol.split('/').next().unwrap_or_default().to_ascii_lowercase();
    matches!(&*name, "h2" | "h2c" | "h3" | "http" | "https" | "tls")
}

#[cfg(test)]
mod tests {
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
}
