//! Sessions: what is kept of a sign-in, in the browser or in a store.
//!
//! 1. A login makes a [`Record`] with a new id ([`establish`]).
//! 2. *Sealed*, it travels in cookies ([`chunk`]); *stored*, the browser holds an id and a key, and
//!    the store a ciphertext under the hash of the id.
//! 3. At each request the keeper opens it, or finds it opened in its cache, and judges it anew:
//!    lifetimes, and the marks that logouts leave ([`revocation`]).
//! 4. Connections that outlive their request are told when the session ends ([`watch`]).
//! 5. A note in the store names the sessions of a person ([`people`]).
//! 6. A stored session with a refresh token is refreshed when the access token runs out
//!    ([`refresh`]).

mod attempt;
pub(crate) mod cache;
pub(crate) mod chunk;
pub(crate) mod end;
pub(crate) mod establish;
pub(crate) mod keeper;
mod lease;
mod look;
pub(crate) mod people;
pub(crate) mod refresh;
pub(crate) mod refresher;
mod renewed;
mod repeat;
mod reports;
pub(crate) mod revocation;
mod sealing;
mod seen;
mod stored;
mod watch;

use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::clock::UnixTime;
use crate::evolve::{Later, decode, encode};
use crate::identity::Facts;
use crate::session::revocation::Baseline;

/// Where sessions live.
///
/// # Examples
///
/// ```
/// use tower_pkce_auth::{ClientId, PkceAuthLayer, Sessions};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let layer = PkceAuthLayer::builder(
///     "https://login.example".parse()?,
///     ClientId::new("app"),
///     "http://localhost:8080".parse()?,
/// )
/// .public_client()
/// .sessions(Sessions::Sealed)
/// .build()?;
/// # Ok(()) }
/// ```
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum Sessions {
    /// Sealed in cookies: no server is needed, but only a shared store lets a logout reach other
    /// pods.
    Sealed,
    /// In the store; the browser holds an id and a key.
    Stored,
}

/// How long sessions live.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Lifetimes {
    pub(crate) idle: Duration,
    pub(crate) absolute: Duration,
}

/// A session as it is sealed. The order of fields is the format: new ones come last, see
/// [`evolve`](crate::evolve).
#[derive(Clone, Deserialize, Serialize)]
pub(crate) struct Record {
    pub(crate) id: [u8; 16],
    pub(crate) issuer: String,
    pub(crate) subject: String,
    pub(crate) sid: Option<String>,
    pub(crate) acr: Option<String>,
    pub(crate) auth_time: Option<UnixTime>,
    /// The allow-listed claims, as a JSON object.
    pub(crate) claims: String,
    pub(crate) created: UnixTime,
    pub(crate) absolute_end: UnixTime,
    pub(crate) last_seen: UnixTime,
    pub(crate) baseline: Baseline,
    /// For stored sessions only: tokens never lie in a session cookie.
    pub(crate) tokens: Option<Tokens>,
    #[serde(skip)]
    pub(crate) later: Later,
}

/// What is needed to end a session that is not at hand.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(crate) struct SessionRef {
    pub(crate) id: [u8; 16],
    pub(crate) stored: bool,
    pub(crate) ends: UnixTime,
}

/// What a stored session keeps of the provider's tokens.
#[derive(Clone, Deserialize, Serialize)]
pub(crate) struct Tokens {
    /// The ID token, for the logout at the provider.
    pub(crate) id: Option<String>,
    /// The nonce of the login: a refreshed ID token may repeat it and no other.
    pub(crate) nonce: Option<String>,
    pub(crate) refresh: Option<Refresh>,
}

/// What is needed to refresh.
#[derive(Clone, Deserialize, Serialize)]
pub(crate) struct Refresh {
    pub(crate) token: String,
    /// When it is refreshed: a moment before the access token runs out; after a failure later.
    pub(crate) due: UnixTime,
    /// Counts the refreshes, so that a waiter knows the result when it sees it.
    pub(crate) generation: u32,
    /// Who is spending the token just now, or was when it crashed.
    pub(crate) exchanging: Option<[u8; 16]>,
    /// When the access token runs out.
    pub(crate) expires: UnixTime,
}

impl std::fmt::Debug for Record {
    /// It says nothing of whose session it is.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Record(..)")
    }
}

impl std::fmt::Debug for Tokens {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Tokens(..)")
    }
}

impl std::fmt::Debug for Refresh {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Refresh(..)")
    }
}

impl Record {
    pub(crate) fn encode(&self) -> Vec<u8> {
        encode(self, &self.later)
    }

    /// Reads a record; one of another format reads as absent.
    pub(crate) fn decode(bytes: &[u8]) -> Option<Self> {
        let (record, later) = decode(bytes)?;
        Some(Self { later, ..record })
    }

    /// Tells whether the session is over by the clock.
    pub(crate) fn is_over(&self, now: UnixTime, idle: Duration) -> bool {
        self.is_over_since(self.last_seen, now, idle)
    }

    /// Tells whether the session is over, if its person was there at `last_seen`.
    pub(crate) fn is_over_since(&self, last_seen: UnixTime, now: UnixTime, idle: Duration) -> bool {
        now >= self.absolute_end || now >= last_seen + idle
    }

    /// Returns when idleness ends it, if nothing happens until then.
    pub(crate) fn idle_end(&self, idle: Duration) -> UnixTime {
        self.absolute_end.min(self.last_seen + idle)
    }

    pub(crate) fn facts(&self) -> Facts {
        let claims = serde_json::from_str::<Value>(&self.claims);
        let claims = match claims {
            Ok(Value::Object(claims)) => claims,
            _ => Map::new(),
        };
        Facts::new(
            self.issuer.clone(),
            self.subject.clone(),
            claims,
            self.acr.clone(),
            self.auth_time,
            self.absolute_end,
        )
    }
}
