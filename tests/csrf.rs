//! Requests that another site makes with this site's cookie (group O), and what scripts of other
//! origins can read.

#[path = "support/pods.rs"]
mod pods;
mod support;

use axum::body::Body;
use axum::extract::Request;
use axum::http::{HeaderName, StatusCode};
use pods::{Kept, at};
use support::{Browser, ORIGIN, World, send};
use tower_pkce_auth::testing::provider::TestProvider;
use tower_pkce_auth::{Builder, ClientId, CookieKeys, PkceAuthLayer};

const EVIL: &str = "https://evil.example";

fn request(method: &str, path: &str, headers: &[(&str, &str)]) -> Request {
    let mut request = Request::builder().method(method).uri(path);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    request.body(Body::empty()).unwrap()
}

fn paths(builder: Builder) -> Builder {
    builder.open("/open".parse().unwrap()).optional("/optional".parse().unwrap())
}

async fn signed_in(world: &World, kept: Kept, set: impl Fn(Builder) -> Builder) -> Browser {
    let (app, _) = kept.pod(world, |builder| set(paths(builder)));
    let mut browser = world.browser(&app, "alice");
    browser.sign_in("/").await;
    world.reached();
    browser
}

#[tokio::test]
async fn o03_o04_o05_o06_only_this_very_origin_may_act_with_the_cookie() {
    let world = World::new().await;
    let (site, origin) = (|value| ("sec-fetch-site", value), |value| ("origin", value));
    type Row = (&'static str, Vec<(&'static str, &'static str)>, Option<&'static str>);
    let table: Vec<Row> = vec![
        ("our page", vec![site("same-origin"), origin(ORIGIN)], None),
        ("typed", vec![site("none")], None),
        ("old browser", vec![origin(ORIGIN)], None),
        ("O03 cross-site", vec![site("cross-site"), origin(EVIL)], Some("sec_fetch_site")),
        (
            "O03 cross-site, our origin",
            vec![site("cross-site"), origin(ORIGIN)],
            Some("sec_fetch_site"),
        ),
        (
            "O04 same-site",
            vec![site("same-site"), origin("http://localhost:9999")],
            Some("sec_fetch_site"),
        ),
        (
            "O04 same-site, our origin",
            vec![site("same-site"), origin(ORIGIN)],
            Some("sec_fetch_site"),
        ),
        ("O04 another port", vec![origin("http://localhost:9999")], Some("origin")),
        ("O04 a subdomain", vec![origin("http://b.localhost:8080")], Some("origin")),
        ("O05 neither", vec![], Some("no_origin")),
        (
            "O05 a referer is no origin",
            vec![("referer", "http://localhost:8080/x")],
            Some("no_origin"),
        ),
        ("O05 a host is no origin", vec![("host", "localhost:8080")], Some("no_origin")),
        ("O05 XHR is no origin", vec![("x-requested-with", "XMLHttpRequest")], Some("no_origin")),
        ("O06 null", vec![origin("null")], Some("origin")),
        (
            "O06 two in one",
            vec![origin("http://localhost:8080, https://evil.example")],
            Some("origin"),
        ),
        ("O06 two", vec![origin(ORIGIN), origin(EVIL)], Some("origin")),
        ("O06 the same twice", vec![origin(ORIGIN), origin(ORIGIN)], Some("origin")),
        ("O06 a slash", vec![origin("http://localhost:8080/")], Some("origin")),
        ("O06 upper case", vec![origin("HTTP://LOCALHOST:8080")], Some("origin")),
        ("O06 no port", vec![origin("http://localhost")], Some("origin")),
        ("O06 https", vec![origin("https://localhost:8080")], Some("origin")),
        ("O06 a suffix", vec![origin("http://localhost:8080.evil.example")], Some("origin")),
        ("O06 empty", vec![origin("")], Some("origin")),
        ("O06 odd site", vec![site("Same-Origin")], Some("sec_fetch_site")),
        ("O06 two sites", vec![site("same-origin"), site("cross-site")], Some("sec_fetch_site")),
    ];
    for kept in [Kept::Sealed, Kept::StoredShared] {
        let mut browser = signed_in(&world, kept, |builder| builder).await;
        let mut anonymous = world.browser(&browser.app, "bob");
        for (name, headers, refused) in &table {
            for (method, media) in [
                ("POST", "application/x-www-form-urlencoded"),
                ("POST", "multipart/form-data"),
                ("POST", "text/plain"),
                ("PUT", "application/json"),
                ("DELETE", "application/json"),
                ("PATCH", "application/json"),
                ("PROPFIND", "text/xml"),
            ] {
                let headers = [&headers[..], &[("content-type", media)]].concat();
                for path in ["/protected", "/optional"] {
                    let what = format!("{name}: {kept:?} {method} {media} {path}");
                    let reply = browser.send(request(method, path, &headers)).await;
                    let reason = refused.map(|detail| format!("cross_site/{detail}"));
                    assert_eq!(reply.reason(), reason.unwrap_or_default(), "{what}");
                    let status =
                        if refused.is_some() { StatusCode::FORBIDDEN } else { StatusCode::OK };
                    assert_eq!(reply.status, status, "{what}");
                    let reached = usize::from(refused.is_none());
                    assert_eq!(world.reached(), reached, "{what}: before the application");
                    assert!(reply.set_cookies().is_empty(), "{what}");
                }
                // DESIGN: never open paths; and where no session came there is nothing to abuse.
                assert_eq!(
                    browser.send(request(method, "/open", &headers)).await.status,
                    200,
                    "{name}"
                );
                assert_eq!(
                    anonymous.send(request(method, "/optional", &headers)).await.body,
                    "-",
                    "{name}"
                );
                world.reached();
            }
            for method in ["GET", "HEAD", "OPTIONS"] {
                let reply = browser.send(request(method, "/protected", headers)).await;
                assert_eq!(reply.status, StatusCode::OK, "{name}: {method} changes nothing");
                world.reached();
            }
        }
        assert_eq!(browser.who().await.as_deref(), Some("alice"), "{kept:?}: nobody is signed out");
        world.reached();
    }
}

/// DESIGN: the header is for clients with cookies that are no browsers; GET does not need it.
#[tokio::test]
async fn o07_a_header_of_our_own_stands_in_for_an_origin_only_by_setting() {
    let world = World::new().await;
    let set = |builder: Builder| builder.csrf_header(HeaderName::from_static("x-csrf"));
    let mut with = signed_in(&world, Kept::Sealed, set).await;
    let mut without = signed_in(&world, Kept::Sealed, |builder| builder).await;
    let token = ("x-csrf", "1");
    for (name, headers, status) in [
        ("alone", &[token][..], 200),
        ("beside a foreign origin", &[token, ("origin", EVIL)], 403),
        ("beside a null origin", &[token, ("origin", "null")], 403),
        ("cross-site", &[token, ("sec-fetch-site", "cross-site")], 403),
        ("same-site", &[token, ("sec-fetch-site", "same-site")], 403),
        ("another header", &[("x-csrf-token", "1")], 403),
        ("no header", &[], 403),
    ] {
        let reply = with.send(request("POST", "/protected", headers)).await;
        assert_eq!(reply.status, status, "O07 {name}");
        let reply = without.send(request("POST", "/protected", headers)).await;
        assert_eq!(reply.status, StatusCode::FORBIDDEN, "O07 {name}: off by default");
    }
    let upgrade = [token, ("connection", "upgrade"), ("upgrade", "websocket")];
    let reply = with.send(request("GET", "/protected", &upgrade)).await;
    assert_eq!(reply.status, StatusCode::FORBIDDEN, "O16: upgrades always need an origin");
    assert_eq!(
        with.send(request("POST", "/auth/logout", &[token])).await.status,
        StatusCode::SEE_OTHER
    );
}

#[tokio::test]
async fn o16_m21_a_websocket_with_the_cookie_must_come_from_our_page() {
    let world = World::new().await;
    for kept in [Kept::Sealed, Kept::StoredShared] {
        let mut browser = signed_in(&world, kept, |builder| builder).await;
        for (name, headers, passes) in [
            ("our page", &[("origin", ORIGIN)][..], true),
            (
                "our page, new browser",
                &[("origin", ORIGIN), ("sec-fetch-site", "same-origin")],
                true,
            ),
            ("evil", &[("origin", EVIL)], false),
            ("evil, new browser", &[("origin", EVIL), ("sec-fetch-site", "cross-site")], false),
            (
                "sibling",
                &[("origin", "http://localhost:9999"), ("sec-fetch-site", "same-site")],
                false,
            ),
            ("null", &[("origin", "null")], false),
            ("missing", &[], false),
        ] {
            let upgrade =
                [headers, &[("connection", "keep-alive, Upgrade"), ("upgrade", "websocket")]]
                    .concat();
            for path in ["/ws", "/optional"] {
                for (method, headers) in [("GET", &upgrade[..]), ("CONNECT", headers)] {
                    if method == "CONNECT" && path == "/optional" {
                        continue;
                    }
                    let reply = browser.send(request(method, path, headers)).await;
                    let expected = if passes { StatusCode::OK } else { StatusCode::FORBIDDEN };
                    assert_eq!(reply.status, expected, "O16 {kept:?} {name} {method} {path}");
                    assert_eq!(world.reached(), usize::from(passes), "O16 {kept:?} {name}");
                }
            }
        }
    }
}

#[tokio::test]
async fn o08_o13_who_is_signed_in_is_told_to_our_scripts_only() {
    let provider = TestProvider::builder().refresh_tokens(true);
    let world = World::with_provider(provider).await;
    for kept in Kept::ALL {
        let mut browser =
            signed_in(&world, kept, |builder| builder.scope("profile").scope("email")).await;
        for origin in
            [None, Some(EVIL), Some("null"), Some("http://localhost:8080.evil"), Some(ORIGIN)]
        {
            let headers: Vec<_> = origin.map(|origin| ("origin", origin)).into_iter().collect();
            let reply = browser.send(request("GET", "/auth/session", &headers)).await;
            let what = format!("O13 {kept:?} {origin:?}");
            assert_eq!(reply.status, StatusCode::OK, "{what}");
            assert_eq!(reply.header("content-type"), "application/json", "{what}");
            assert_eq!(reply.header("cache-control"), "no-store", "{what}");
            assert_eq!(reply.header("x-content-type-options"), "nosniff", "{what}");
            assert_eq!(reply.header("cross-origin-resource-policy"), "same-origin", "{what}");
            let cors =
                reply.headers.keys().find(|name| name.as_str().starts_with("access-control-"));
            assert_eq!(cors, None, "O08 {what}");
            let json: serde_json::Value = serde_json::from_str(&reply.body).unwrap();
            let mut names: Vec<_> = json.as_object().unwrap().keys().map(String::as_str).collect();
            names.sort_unstable();
            let allowed = [
                "allowed",
                "authenticated",
                "email",
                "expires_at",
                "groups",
                "idle_expires_at",
                "issuer",
                "name",
                "subject",
            ];
            assert_eq!(names, allowed, "{what}: no token, no other claim");
            assert_eq!(json["subject"], "alice", "{what}");
            for token in world.provider.issued_id_tokens() {
                assert!(!reply.body.contains(&token), "O01 {what}");
            }
        }
        let preflight = [("origin", EVIL), ("access-control-request-method", "GET")];
        let reply = browser.send(request("OPTIONS", "/auth/session", &preflight)).await;
        assert!(!reply.headers.contains_key("access-control-allow-origin"), "O08 {kept:?}");
        let reply = send(&browser.app, request("GET", "/auth/session", &[])).await;
        assert_eq!(reply.status, StatusCode::UNAUTHORIZED, "O13 {kept:?}: nobody");
        assert!(reply.body.contains("\"authenticated\":false"), "O13 {}", reply.body);
    }
}

#[tokio::test]
async fn o02_a_client_without_a_secret_says_so() {
    let build = |set: fn(Builder) -> Builder| {
        let issuer = "http://localhost:1".parse().unwrap();
        let builder = PkceAuthLayer::builder(issuer, ClientId::new("app"), ORIGIN.parse().unwrap());
        set(builder.cookie_keys(CookieKeys::random())).build().map(drop)
    };
    let problems = build(|builder| builder).unwrap_err();
    assert!(problems.to_string().contains("public_client"), "O02: {problems}");
    build(Builder::public_client).unwrap();
}

/// The session of one browser is no help to another one, whatever the origin says.
#[tokio::test]
async fn o03_o21_two_applications_on_one_host_do_not_disturb_each_other() {
    let world = World::new().await;
    let other_origin = "http://localhost:9090";
    let one = world.app(&world.builder().build().unwrap());
    let two = world.app(&world.builder_at(other_origin).build().unwrap());
    // Browsers share the cookies of a host across ports: one jar for both.
    let mut browser = world.browser(&one, "alice");
    browser.sign_in("/").await;
    let mut second = Browser { origin: other_origin.to_owned(), ..at(&two, &browser) };
    assert_eq!(second.who().await, None, "O21: signed in at the other one only");
    second.user = "bob".to_owned();
    assert_eq!(second.sign_in("/").await.body, "bob", "O21");
    browser.jar = second.jar.clone();
    assert_eq!(browser.who().await.as_deref(), Some("alice"), "O21");
    let seen = world.seen.lock().unwrap().pop().unwrap();
    let cookies = seen.headers.get("cookie").map(|value| value.to_str().unwrap().to_owned());
    assert!(cookies.is_some(), "another application's cookies are not ours to hide");
    second.post("/auth/logout").await;
    browser.jar = second.jar.clone();
    assert_eq!(
        browser.who().await.as_deref(),
        Some("alice"),
        "O21: logged out at the other one only"
    );
    let reply = browser.send(request("POST", "/x", &[("origin", other_origin)])).await;
    assert_eq!(reply.status, StatusCode::FORBIDDEN, "O04: the other port is another origin");
}
