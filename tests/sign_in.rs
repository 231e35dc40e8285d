//! The main job: somebody signs in, works, and signs out.

mod support;

use axum::http::{Method, StatusCode};
use support::{World, fetch, parameter};

#[tokio::test]
async fn somebody_signs_in_and_gets_what_was_asked_for() {
    let world = World::new().await;
    let app = world.app(&world.builder().build().unwrap());
    let mut browser = world.browser(&app, "alice");

    let reply = browser.get("/deep/link?x=%26&y=a%2Fb").await;
    assert_eq!(reply.status, StatusCode::FOUND);
    assert_eq!(reply.header("cache-control"), "no-store");
    assert_eq!(world.reached(), 0, "nothing reaches the application before");

    let reply = browser.sign_in("/deep/link?x=%26&y=a%2Fb").await;
    assert_eq!((reply.status, reply.body.as_str()), (StatusCode::OK, "alice"));
    let seen = world.seen.lock().unwrap().pop().unwrap();
    assert_eq!(seen.uri, "/deep/link?x=%26&y=a%2Fb", "L07: byte for byte");
    assert!(!seen.headers.contains_key("cookie"), "H24: our cookies stay with us");
    assert_eq!(browser.jar.pending(), 0, "success sweeps");
    assert_eq!(world.provider.counts().token, 1);
}

#[tokio::test]
async fn the_authorization_request_is_what_the_standards_ask_for() {
    let world = World::new().await;
    let app = world.app(&world.builder().scope("email").build().unwrap());
    let mut browser = world.browser(&app, "alice");
    let url = browser.to_provider("/secret/path?q=CANARY").await;
    let get = |name| parameter(&url, name).unwrap_or_default();
    assert_eq!(get("response_type"), "code", "A02");
    assert_eq!(get("scope"), "openid email", "A01");
    assert_eq!(get("redirect_uri"), "http://localhost:8080/auth/callback", "A03");
    assert_eq!(get("code_challenge_method"), "S256", "A05");
    assert_eq!(get("code_challenge").len(), 43, "A05");
    assert!(get("nonce").len() <= 64 && get("nonce") != get("state"), "A12");
    assert!(!url.contains("CANARY"), "A11");
    assert!(url.len() < 4096, "A28");
}

#[tokio::test]
async fn a_script_is_told_and_not_redirected() {
    let world = World::new().await;
    let app = world.app(&world.builder().build().unwrap());
    let mut browser = world.browser(&app, "alice");
    let reply = browser.send(fetch(Method::GET, "/api")).await;
    assert_eq!(reply.status, StatusCode::UNAUTHORIZED, "O10");
    assert!(reply.body.contains("\"login_url\":\"/auth/login\""), "{}", reply.body);
    assert!(reply.set_cookies().is_empty(), "A19: nothing is started");
}

#[tokio::test]
async fn somebody_signs_out_and_is_out() {
    let world = World::new().await;
    let app = world.app(&world.builder().build().unwrap());
    let mut browser = world.browser(&app, "alice");
    browser.sign_in("/").await;
    let stolen = browser.clone();
    let reply = browser.post("/auth/logout").await;
    let location = reply.location();
    assert!(location.starts_with(&format!("{}/end_session", world.provider.issuer())));
    assert!(parameter(&location, "id_token_hint").is_some(), "J03");
    assert_eq!(parameter(&location, "client_id").as_deref(), Some("app"), "J04");
    assert!(browser.jar.names().is_empty(), "J02: {:?}", browser.jar.names());
    assert_eq!(browser.who().await, None);
    assert_eq!(stolen.clone().who().await, None, "H10: a copy of the cookie is dead too");
}
