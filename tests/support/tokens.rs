//! Logout tokens: made by the provider, posted to a pod.

#![allow(dead_code, missing_docs, reason = "each test uses a part of it")]

use axum::body::Body;
use axum::extract::Request;
use axum::http::{Method, StatusCode};
use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use serde_json::Value;

use crate::support::{App, Browser, Reply, World, send};

pub const BACKCHANNEL: &str = "/auth/backchannel-logout";
pub const FORM: &str = "application/x-www-form-urlencoded";

/// A request as a provider makes it: nothing but the form.
pub fn request(method: Method, content_type: &str, body: impl Into<Body>) -> Request {
    Request::builder()
        .method(method)
        .uri(BACKCHANNEL)
        .header("host", "10.1.2.3:8080")
        .header("content-type", content_type)
        .body(body.into())
        .unwrap()
}

pub fn form(token: &str) -> String {
    url::form_urlencoded::Serializer::new(String::new()).append_pair("logout_token", token).finish()
}

pub async fn post(app: &App, token: &str) -> Reply {
    send(app, request(Method::POST, FORM, form(token))).await
}

/// Posts a token that is good but for whom it is for.
pub async fn log_out(
    world: &World,
    app: &App,
    (sub, sid): (Option<&str>, Option<&str>),
    what: &str,
) {
    let token = token(world, sub, sid);
    let reply = post(app, &token).await;
    assert_eq!(reply.status, StatusCode::OK, "{what}: {} {}", reply.reason(), reply.body);
}

pub fn token(world: &World, sub: Option<&str>, sid: Option<&str>) -> String {
    world.provider.logout_token(|token| {
        for (name, value) in [("sub", sub), ("sid", sid)] {
            if let Some(value) = value {
                token.set(name, value);
            }
        }
    })
}

/// Signs in and returns the browser with the `sid` of its session at the provider.
pub async fn sign_in(world: &World, app: &App, user: &str) -> (Browser, String) {
    let mut browser = world.browser(app, user);
    let reply = browser.sign_in("/").await;
    assert_eq!(reply.body, user, "{}", reply.reason());
    (browser, sid(&world.provider.issued_id_tokens().pop().unwrap()))
}

/// The `sid` of an ID token.
pub fn sid(id_token: &str) -> String {
    let payload = id_token.split('.').nth(1).unwrap();
    let claims: Value =
        serde_json::from_slice(&BASE64_URL_SAFE_NO_PAD.decode(payload).unwrap()).unwrap();
    claims["sid"].as_str().unwrap().to_owned()
}
