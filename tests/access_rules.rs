//! Access rules: e-mail domain and group, and what somebody sees who may not come in.

mod support;

use axum::http::{Method, StatusCode};
use support::{World, fetch};
use tower_pkce_auth::testing::provider::{TestProvider, TestUser};
use tower_pkce_auth::{Builder, ClientId, PkceAuthLayer};

async fn world() -> World {
    let user = TestUser::new;
    World::with_provider(
        TestProvider::builder()
            .user(user("ann").email("ann@Example.com", true).group("ops").group("dev"))
            .user(user("ben").email("ben@example.com", true))
            .user(user("cyd").email("cyd@example.com", false).group("ops"))
            .user(user("dan").email("dan@sub.example.com", true).group("ops"))
            .user(user("eve").email("eve@evil.example, x@example.com", true).group("Ops"))
            .user(user("fay").email("", true).group("ops")),
    )
    .await
}

#[tokio::test]
async fn only_those_come_in_whom_the_rules_name() {
    type Rules = fn(Builder) -> Builder;
    let table: &[(&str, Rules, &[&str])] = &[
        ("no rule", |b| b, &["ann", "ben", "cyd", "dan", "eve", "fay"]),
        ("domain", |b| b.allow_email_domain("example.COM"), &["ann", "ben"]),
        (
            "two domains",
            |b| b.allow_email_domain("example.com").allow_email_domain("sub.example.com"),
            &["ann", "ben", "dan"],
        ),
        ("group", |b| b.allow_group("ops"), &["ann", "cyd", "dan", "fay"]),
        ("two groups", |b| b.allow_group("nobody").allow_group("dev"), &["ann"]),
        ("both", |b| b.allow_group("ops").allow_email_domain("example.com"), &["ann"]),
    ];
    let world = world().await;
    for (name, rules, allowed) in table {
        let layer = rules(world.builder().scope("email").scope("groups")).build().unwrap();
        let app = world.app(&layer);
        for person in ["ann", "ben", "cyd", "dan", "eve", "fay"] {
            let mut browser = world.browser(&app, person);
            let reply = browser.sign_in("/page").await;
            if allowed.contains(&person) {
                assert_eq!(reply.body, person, "{name}: {person}");
            } else {
                assert_eq!(reply.status, StatusCode::FORBIDDEN, "{name}: {person}");
                assert!(reply.reason().starts_with("not_allowed/"), "{name}: {}", reply.reason());
                world.reached();
                browser.get("/page").await;
                browser.post("/page").await;
                assert_eq!(world.reached(), 0, "{name}: {person} reached the application");
            }
        }
    }
}

#[tokio::test]
async fn the_page_says_who_is_signed_in_and_offers_another_account() {
    let world = world().await;
    world.provider.add_user(TestUser::new("mal").name("<b>Mal</b>").email("m@evil.example", true));
    let layer = world
        .builder()
        .scope("profile")
        .scope("email")
        .allow_email_domain("example.com")
        .optional("/optional".parse().unwrap())
        .build()
        .unwrap();
    let app = world.app(&layer);
    let mut browser = world.browser(&app, "mal");
    let reply = browser.sign_in("/deep?x=1").await;
    assert_eq!(reply.status, StatusCode::FORBIDDEN);
    assert_eq!(reply.header("cache-control"), "no-store");
    for part in [
        "data-page=\"not-allowed\"",
        "&lt;b&gt;Mal&lt;/b&gt;",
        "m@evil.example",
        "href=\"/auth/login?return_to=%2Fdeep%3Fx%3D1&amp;switch=1\"",
        "href=\"/auth/logout\"",
    ] {
        assert!(reply.body.contains(part), "{part} is missing: {}", reply.body);
    }

    // A script learns it from the status, gRPC in its own way.
    let script = browser.send(fetch(Method::GET, "/api")).await;
    assert_eq!(script.status, StatusCode::FORBIDDEN);
    assert_eq!(script.header("content-type"), "application/json");
    let mut call = fetch(Method::GET, "/Greeter/Greet");
    call.headers_mut().insert("content-type", "application/grpc".parse().unwrap());
    let call = browser.send(call).await;
    assert_eq!((call.status, call.header("grpc-status")), (StatusCode::OK, "7"), "K31");

    // Where strangers are served, this person is one.
    assert_eq!(browser.get("/optional").await.body, "-");

    // The link leads to the provider's choice of accounts, and the other account comes in.
    browser.user = "ben".into();
    let mut link = support::navigation(Method::GET, "/auth/login?return_to=%2Fdeep&switch=1");
    link.headers_mut().insert("sec-fetch-site", "same-origin".parse().unwrap());
    let reply = browser.send(link).await;
    assert!(reply.location().contains("prompt=select_account"), "{}", reply.location());
    let reply = browser.follow(reply).await;
    assert_eq!(reply.body, "ben");
    assert_eq!(world.provider.counts().token, 2);
}

#[tokio::test]
async fn a_rule_holds_for_sessions_that_are_older_than_it() {
    let world = world().await;
    let before = world.app(&world.builder().build().unwrap());
    let mut browser = world.browser(&before, "ben");
    assert_eq!(browser.sign_in("/").await.body, "ben");
    browser.app = world.app(&world.builder().allow_group("ops").build().unwrap());
    assert_eq!(browser.get("/").await.status, StatusCode::FORBIDDEN);
}

#[test]
fn rules_that_name_nobody_are_refused() {
    let builder = || {
        let url = "http://localhost:8080".parse().unwrap();
        PkceAuthLayer::builder("https://op".parse().unwrap(), ClientId::new("a"), url)
            .public_client()
    };
    for domain in ["", "@example.com", "*.example.com", "a@example.com", "example.com.", " a.b"] {
        let error = builder().allow_email_domain(domain).build().unwrap_err();
        assert!(error.problems()[0].starts_with("e-mail domain"), "{domain:?}: {error}");
    }
    assert!(builder().allow_group("").build().is_err());
}
