//! The outcome `REJ` of the requirements, asserted in one place: a provider misbehaves, and nobody
//! is signed in.

#![allow(dead_code, reason = "each test uses a part of it")]

use std::future::Future;
use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;

use crate::support::{App, Reply, World, parameter};

/// A callback that was refused, and the calls it caused.
pub struct Refused {
    pub reply: Reply,
    pub jwks: u64,
    pub token: u64,
    pub userinfo: u64,
}

/// Goes through a login that must be refused at the callback: an honest status, nothing stored by
/// caches, nothing said of parameters, the login consumed, nobody signed in.
pub async fn refused(world: &World, app: &App, name: &str) -> Refused {
    let mut browser = world.browser(app, "alice");
    let callback = browser.to_callback("/deep").await;
    let before = world.provider.counts();
    world.reached();
    let reply = browser.get(&callback).await;
    let status = reply.status.as_u16();
    let reason = reply.reason();
    assert!(matches!(status, 400 | 401 | 403 | 502 | 503 | 504), "{name}: {status} {reason}");
    assert_eq!(reply.header("cache-control"), "no-store", "{name}");
    let after = world.provider.counts();
    assert_eq!(after.revocation, before.revocation, "{name}: D26, no token is used");
    let shown = format!("{:?} {}", reply.headers, reply.body);
    for value in ["code", "state"].map(|name| parameter(&callback, name).unwrap()) {
        assert!(!shown.contains(&value), "{name}: the answer repeats a parameter");
    }
    assert!(!shown.contains("CANARY"), "{name}: D11, the provider's text is shown");
    browser.get(&callback).await;
    assert_eq!(world.provider.counts().token, after.token, "{name}: the login is consumed");
    assert_eq!(browser.jar.ending("-s"), None, "{name}: no session cookie");
    assert_eq!(browser.who().await, None, "{name}: nobody is signed in");
    assert_eq!(world.reached(), 0, "{name}: the application saw nothing");
    Refused {
        reply,
        jwks: after.jwks - before.jwks,
        token: after.token - before.token,
        userinfo: after.userinfo - before.userinfo,
    }
}

/// A login without faults goes through: the last point of `REJ`.
pub async fn clean(world: &World, app: &App, name: &str) {
    world.provider.clear_faults();
    accepted(world, app, &format!("{name}: a clean login afterwards")).await;
}

/// A login goes through.
pub async fn accepted(world: &World, app: &App, name: &str) {
    let reply = world.browser(app, "alice").sign_in("/").await;
    assert_eq!(reply.body, "alice", "{name}: {} {}", reply.status, reply.reason());
}

/// Waits for something that happens in the background.
pub async fn until(name: &str, done: impl Fn() -> bool) {
    within(name, async {
        while !done() {
            tokio::task::yield_now().await;
        }
    })
    .await;
}

/// A guard against hanging for ever.
pub async fn within<T>(name: &str, what: impl Future<Output = T>) -> T {
    let done = tokio::time::timeout(Duration::from_secs(20), what).await;
    done.unwrap_or_else(|_| panic!("{name}: it hangs"))
}

pub fn base64url(bytes: impl AsRef<[u8]>) -> String {
    BASE64_URL_SAFE_NO_PAD.encode(bytes)
}
