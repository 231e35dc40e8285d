//! This crate, in each way a request can meet it.

use std::hint::black_box;
use std::time::Duration;

use axum::routing::get;
use tower_pkce_auth::testing::SignedIn;
use tower_pkce_auth::{
    Builder, Clock, CookieKeys, Identity, MemoryStore, PkceAuthLayer, RedisStore, Sessions,
    SystemClock, UnixTime,
};

use super::redis::Server;
use super::{ALICE, Failed, Row, anonymous, application, no_session};
use crate::browser::{ORIGIN, PATH};

/// A path that is open to everybody, and no cookie of the layer's.
pub async fn open() -> Result<Row, Failed> {
    Ok(Row::new(anonymous().layer(builder()?.open(PATH.parse()?).build()?), no_session()))
}

/// A session in a store in this process's memory.
pub async fn memory() -> Result<Row, Failed> {
    let layer = builder()?.store(MemoryStore::new()).sessions(Sessions::Stored).build()?;
    signed_in(&layer, 1).await
}

/// A session in its cookie, opened before: the cache of the process knows it.
pub async fn sealed() -> Result<Row, Failed> {
    signed_in(&builder()?.sessions(Sessions::Sealed).build()?, 1).await
}

/// Sessions in their cookies that the process does not know: the cache is as small as it gets, and
/// so many sessions take turns that none is still in it when it comes back.
pub async fn sealed_new() -> Result<Row, Failed> {
    let layer = builder()?.sessions(Sessions::Sealed).cached_sessions(1).build()?;
    signed_in(&layer, 512).await
}

/// A session in Redis.
pub async fn redis() -> Result<Row, Failed> {
    let server = Server::start()?;
    let layer = builder()?.store(RedisStore::new(&server.url())?).build()?;
    let row = signed_in(&layer, 1).await?;
    Ok(Row { _alongside: Some(Box::new(server)), ..row })
}

fn builder() -> Result<Builder, Failed> {
    // The provider is never asked: sessions are made as a login makes them.
    Ok(PkceAuthLayer::builder(
        "https://login.example.com".parse()?,
        tower_pkce_auth::ClientId::new("orders"),
        ORIGIN.parse()?,
    )
    .public_client()
    .cookie_keys(CookieKeys::random())
    .clock(Still(SystemClock.now())))
}

async fn signed_in(layer: &PkceAuthLayer, sessions: usize) -> Result<Row, Failed> {
    let alice = SignedIn::new(ALICE).name("Alice Archer").email("alice@example.com").group("staff");
    let mut cookies = Vec::new();
    for _ in 0..sessions {
        let cookie = alice.cookie(layer).await;
        // What is kept for the logout has a path of its own: no browser sends it here.
        let sent = |pair: &&str| pair.split('=').next().is_none_or(|name| !name.ends_with("-o"));
        let pairs: Vec<&str> = cookie.to_str()?.split("; ").filter(sent).collect();
        cookies.push(pairs.join("; "));
    }
    let who = get(async |identity: Identity| identity.subject().to_owned());
    Ok(Row::signed_in(application(who).layer(layer.clone()), cookies))
}

/// The machine's clocks, read as ever, but with the wall clock's answer kept at the beginning, so
/// that a slow run (under valgrind, say) does not begin to prolong its sessions in the middle.
#[derive(Debug)]
struct Still(UnixTime);

impl Clock for Still {
    fn now(&self) -> UnixTime {
        black_box(SystemClock.now());
        self.0
    }

    fn monotonic(&self) -> Duration {
        SystemClock.monotonic()
    }
}
