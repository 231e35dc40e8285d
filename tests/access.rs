//! Who is answered how: navigations, scripts, htmx, gRPC, upgrades, preflights, frames.

#[path = "support/pods.rs"]
mod pods;
mod support;

use axum::body::Body;
use axum::extract::Request;
use axum::http::StatusCode;
use pods::Kept;
use support::{App, Browser, ORIGIN, Reply, World, parameter, send};
use tower_pkce_auth::{Builder, StoreErrorKind};

fn paths(builder: Builder) -> Builder {
    builder
        .open("/open".parse().unwrap())
        .open("/assets/*".parse().unwrap())
        .open("GET /read".parse().unwrap())
        .optional("/optional".parse().unwrap())
}

/// A request with nothing but these headers.
fn request(method: &str, path: &str, headers: &[(&str, &str)]) -> Request {
    let mut request = Request::builder().method(method).uri(path);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    request.body(Body::empty()).unwrap()
}

async fn signed_in(world: &World, app: &App) -> Browser {
    let mut browser = world.browser(app, "alice");
    browser.sign_in("/").await;
    world.reached();
    browser
}

const HTML: (&str, &str) = ("accept", "text/html,*/*;q=0.8");

#[tokio::test]
async fn a19_a20_a21_k34_o09_o10_o11_m21_each_kind_of_request_is_refused_in_its_own_way() {
    let world = World::new().await;
    let (app, _) = Kept::StoredShared.pod(&world, paths);
    let navigate = [("sec-fetch-mode", "navigate"), ("sec-fetch-dest", "document"), HTML];
    let frame = [("sec-fetch-mode", "navigate"), ("sec-fetch-dest", "iframe"), HTML];
    let preflight = [("origin", "https://evil.example"), ("access-control-request-method", "PUT")];
    for (name, method, headers, status, login_url) in [
        ("navigation", "GET", &navigate[..], 302, None),
        ("old browser", "GET", &[HTML], 302, None),
        ("form", "POST", &navigate, 303, None),
        ("fetch", "GET", &[("sec-fetch-mode", "cors")], 401, Some("/auth/login")),
        (
            "fetch that says html",
            "GET",
            &[("sec-fetch-mode", "cors"), HTML],
            401,
            Some("/auth/login"),
        ),
        ("XHR", "GET", &[("x-requested-with", "XMLHttpRequest"), HTML], 401, Some("/auth/login")),
        ("tool", "GET", &[("accept", "*/*")], 401, Some("/auth/login")),
        (
            "image",
            "GET",
            &[("sec-fetch-mode", "no-cors"), ("sec-fetch-dest", "image")],
            401,
            Some("/auth/login"),
        ),
        ("event source", "GET", &[("accept", "text/event-stream")], 401, Some("/auth/login")),
        ("HEAD", "HEAD", &[HTML], 401, Some("/auth/login")),
        ("PUT", "PUT", &[HTML], 401, Some("/auth/login")),
        ("prefetch", "GET", &[("sec-purpose", "prefetch"), HTML], 401, Some("/auth/login")),
        (
            "prerender",
            "GET",
            &[("sec-purpose", "prefetch;prerender"), HTML],
            401,
            Some("/auth/login"),
        ),
        ("O11 iframe", "GET", &frame, 401, Some("/auth/login")),
        (
            "O11 object",
            "GET",
            &[("sec-fetch-mode", "navigate"), ("sec-fetch-dest", "object")],
            401,
            Some("/auth/login"),
        ),
        (
            "M21 WebSocket",
            "GET",
            &[("connection", "Upgrade"), ("upgrade", "websocket"), HTML],
            401,
            Some("/auth/login"),
        ),
        ("M21 CONNECT", "CONNECT", &[], 401, Some("/auth/login")),
        ("O09 preflight", "OPTIONS", &preflight, 401, Some("/auth/login")),
        ("O09 no preflight", "OPTIONS", &preflight[..1], 401, Some("/auth/login")),
        (
            "from our page",
            "GET",
            &[("referer", "http://localhost:8080/page?a=1"), ("sec-fetch-mode", "cors")],
            401,
            Some("/auth/login?return_to=%2Fpage%3Fa%3D1"),
        ),
        (
            "from elsewhere",
            "GET",
            &[("referer", "http://localhost:8080.evil/page")],
            401,
            Some("/auth/login"),
        ),
    ] {
        let reply = send(&app, request(method, "/api/thing?x=1", headers)).await;
        assert_eq!(reply.status, status, "{name}");
        assert_eq!(reply.header("cache-control"), "no-store", "M10 {name}");
        assert!(reply.set_cookies().is_empty(), "A19 {name}: nothing is started");
        assert_eq!(reply.reason(), "not_signed_in/no_session", "{name}");
        for header in reply.headers.keys() {
            let cors = header.as_str().starts_with("access-control-");
            assert!(!cors, "O08 O09 {name}: {header}");
        }
        if let Some(login_url) = login_url {
            // axum takes the body off an answer to HEAD and to CONNECT.
            if !["HEAD", "CONNECT"].contains(&method) {
                let json: serde_json::Value = serde_json::from_str(&reply.body).unwrap();
                assert_eq!(json["login_url"], login_url, "O10 {name}");
                assert_eq!(json["error"], "not_signed_in", "O10 {name}");
            }
            assert_eq!(reply.header("content-type"), "application/json", "O10 {name}");
            assert!(!reply.headers.contains_key("location"), "O10 {name}");
            assert!(
                !reply.header("www-authenticate").to_lowercase().starts_with("basic"),
                "{name}"
            );
        } else {
            let target = (status == 302).then(|| "/api/thing?x=1".to_owned());
            let location = reply.location();
            assert!(location.starts_with("/auth/login"), "{name}: {location}");
            assert_eq!(parameter(&location, "return_to"), target, "{name}: {location}");
        }
        if method != "CONNECT" {
            let reply = send(&app, request(method, "/open", headers)).await;
            assert_eq!(reply.status, StatusCode::OK, "{name}: an open path");
            let reply = send(&app, request(method, "/optional", headers)).await;
            assert_eq!(reply.status, StatusCode::OK, "{name}: an optional path");
        }
    }
}

#[tokio::test]
async fn a21_htmx_is_sent_to_the_sign_in_by_its_own_header() {
    let world = World::new().await;
    let (app, _) = Kept::Sealed.pod(&world, paths);
    for (current, expected) in [
        ("http://localhost:8080/page?tab=1", "/auth/login?return_to=%2Fpage%3Ftab%3D1"),
        ("https://evil.example/page", "/auth/login"),
        ("http://localhost:8080.evil.example/page", "/auth/login"),
        ("http://localhost:8080@evil.example/page", "/auth/login"),
        ("http://localhost:8080//evil.example", "/auth/login"),
        ("http://localhost:8080/\\evil.example", "/auth/login"),
        ("http://localhost:8080/auth/logout", "/auth/login"),
        ("", "/auth/login"),
    ] {
        let headers =
            [("hx-request", "true"), ("hx-current-url", current), ("sec-fetch-mode", "cors")];
        for method in ["GET", "POST", "DELETE"] {
            let reply = send(&app, request(method, "/fragment", &headers)).await;
            assert_eq!(reply.status, StatusCode::UNAUTHORIZED, "{current}");
            assert_eq!(reply.header("hx-redirect"), expected, "L {method} {current}");
        }
    }
}

#[tokio::test]
async fn k34_grpc_callers_get_a_status_and_no_page() {
    let world = World::new().await;
    let (app, store) = Kept::StoredShared.pod(&world, paths);
    let mut alice = signed_in(&world, &app).await;
    for (sent, answered) in [
        ("application/grpc", "application/grpc"),
        ("application/grpc+proto", "application/grpc"),
        ("application/grpc-web+proto", "application/grpc-web+proto"),
        ("application/grpc-web-text", "application/grpc-web-text+proto"),
    ] {
        let call = |headers: &[(&str, &str)]| {
            let mut request = request("POST", "/pkg.Service/Method", headers);
            request.headers_mut().insert("content-type", sent.parse().unwrap());
            request
        };
        let assert_status = |reply: &Reply, code: &str| {
            assert_eq!(reply.status, StatusCode::OK, "K34 {sent} {code}");
            assert_eq!(reply.header("grpc-status"), code, "K34 {sent}");
            assert_eq!(reply.header("content-type"), answered, "K34 {sent}");
            assert_eq!(reply.header("cache-control"), "no-store", "M10 {sent}");
            assert!(
                reply.body.is_empty() && reply.set_cookies().is_empty(),
                "K34 {sent}: trailers only"
            );
            assert!(!reply.headers.contains_key("location"), "K34 {sent}");
        };
        assert_status(&send(&app, call(&[])).await, "16");
        assert_status(&alice.send(call(&[("sec-fetch-site", "cross-site")])).await, "7");
        assert_status(&alice.send(call(&[])).await, "7");
        store.fail(StoreErrorKind::Unavailable);
        assert_status(&alice.send(call(&[("origin", ORIGIN)])).await, "14");
        store.recover();
        assert_eq!(world.reached(), 0, "K34 {sent}");
        assert_eq!(alice.send(call(&[("origin", ORIGIN)])).await.body, "alice", "K34 {sent}");
        world.reached();
    }
    for look_alike in ["application/grpcx", "text/plain; application/grpc"] {
        let reply = send(&app, request("POST", "/x", &[("content-type", look_alike)])).await;
        assert_eq!(reply.status, StatusCode::UNAUTHORIZED, "K34 {look_alike}");
    }
}

#[tokio::test]
async fn o09_a_preflight_passes_only_by_setting_and_only_if_it_is_one() {
    let world = World::new().await;
    let (app, _) = Kept::Sealed.pod(&world, |builder| paths(builder).allow_preflight(true));
    let (origin, asks) =
        (("origin", "https://spa.example"), ("access-control-request-method", "PUT"));
    for (name, method, headers, passes) in [
        ("a preflight", "OPTIONS", &[origin, asks][..], true),
        ("no method asked for", "OPTIONS", &[origin], false),
        ("no origin", "OPTIONS", &[asks], false),
        ("GET in disguise", "GET", &[origin, asks], false),
        ("POST in disguise", "POST", &[origin, asks, ("x-http-method-override", "OPTIONS")], false),
    ] {
        let reply = send(&app, request(method, "/api", headers)).await;
        let expected = if passes { StatusCode::OK } else { StatusCode::UNAUTHORIZED };
        assert_eq!(reply.status, expected, "O09 {name}");
        assert_eq!(world.reached(), usize::from(passes), "O09 {name}");
    }
}
