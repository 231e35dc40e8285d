//! Sessions that are due, and what the provider is asked then.

#![allow(dead_code, missing_docs, reason = "each test uses a part of it")]

use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::http::StatusCode;
use tower_pkce_auth::Builder;
use tower_pkce_auth::testing::provider::{RecordedRequest, TestProvider};

use crate::pods::{Kept, Spy, at, seconds};
use crate::support::{App, Browser, World};

/// Access tokens last 300 s, so that a refresh is due after 270.
pub const DUE: Duration = seconds(271);

pub async fn world() -> World {
    let provider = TestProvider::builder().refresh_tokens(true).expires_in(seconds(300));
    World::with_provider(provider).await
}

/// Two pods with stored sessions, and alice signed in.
pub async fn stored(world: &World, set: impl Fn(Builder) -> Builder) -> (Browser, App, Spy) {
    let (one, two, store) = Kept::StoredShared.pods(world, set);
    let mut browser = world.browser(&one, "alice");
    browser.sign_in("/").await;
    (browser, two, store)
}

pub fn refreshes(world: &World) -> Vec<RecordedRequest> {
    let requests = world.provider.token_requests().into_iter();
    requests.filter(|request| request.form_value("grant_type") == Some("refresh_token")).collect()
}

pub async fn assert_alice(browser: &Browser, what: &str) {
    assert_eq!(browser.clone().who().await.as_deref(), Some("alice"), "{what}");
}

/// Sends requests with the cookies of one browser at once, in turn to these pods.
pub async fn parallel(browser: &Browser, pods: &[&App], count: usize) -> Vec<StatusCode> {
    let mut requests = tokio::task::JoinSet::new();
    for n in 0..count {
        let mut browser = at(pods[n % pods.len()], browser);
        requests.spawn(async move { browser.get("/who").await.status });
    }
    requests.join_all().await
}

/// Writes down the refresh tokens that are issued from now on.
pub fn collect_refresh_tokens(world: &World) -> Arc<Mutex<Vec<String>>> {
    let tokens = Arc::new(Mutex::new(Vec::new()));
    let sink = tokens.clone();
    world.provider.on_token_response(move |response| {
        sink.lock().unwrap().push(response["refresh_token"].as_str().unwrap().to_owned());
    });
    tokens
}
