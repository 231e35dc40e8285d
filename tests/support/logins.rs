//! Logins under way, wherever they lie, and what is seen of them.

#![allow(dead_code, missing_docs, reason = "each test uses a part of it")]

use axum::http::StatusCode;
use tower_pkce_auth::{Builder, MemoryStore, Pending};

use crate::support::{App, Reply, World, parameter};

/// The three places a pending login may lie in, each with the store that goes with it.
pub fn backends(world: &World) -> [(&'static str, Builder); 3] {
    let store = MemoryStore::shared_between_pods(world.clock.clone());
    [
        ("memory", world.builder().pending(Pending::Memory)),
        ("sealed", world.builder().pending(Pending::Sealed)),
        ("store", world.builder().pending(Pending::Store).store(store)),
    ]
}

pub fn apps(world: &World) -> [(&'static str, App); 3] {
    backends(world).map(|(name, builder)| (name, world.app(&builder.build().unwrap())))
}

/// DESIGN "Pending logins": one restart, no call to the provider, no session.
pub fn assert_restarts(reply: &Reply, case: &str) {
    assert_eq!(reply.status, StatusCode::SEE_OTHER, "{case}: {}", reply.reason());
    assert!(reply.location().starts_with("/auth/login?again="), "{case}: {}", reply.location());
    assert_no_session(reply, case);
}

pub fn assert_no_session(reply: &Reply, case: &str) {
    let session = |cookie: &&str| cookie.split('=').next().is_some_and(|name| name.ends_with("-s"));
    assert!(!reply.set_cookies().iter().any(session), "{case}: a session was made");
    assert_eq!(reply.header("cache-control"), "no-store", "{case}");
}

pub fn redeemed(world: &World, callback: &str) -> usize {
    let code = parameter(callback, "code").unwrap();
    let requests = world.provider.token_requests();
    requests.iter().filter(|request| request.form_value("code") == Some(&code)).count()
}
