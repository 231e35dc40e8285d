//! Group A: which requests start a login, by which status, and to which endpoint.

mod support;

use axum::body::Body;
use axum::http::{Method, Request, StatusCode};
use support::{World, fetch, navigation, parameter};
use tower_pkce_auth::ErrorKind;
use tower_pkce_auth::testing::provider::TestProvider;

fn request(method: &str, uri: &str, headers: &[(&'static str, &str)]) -> Request<Body> {
    let mut request = Request::builder().method(method).uri(uri);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    request.body(Body::empty()).unwrap()
}

const NAVIGATE: (&str, &str) = ("sec-fetch-mode", "navigate");
const DOCUMENT: (&str, &str) = ("sec-fetch-dest", "document");
const HTML: (&str, &str) = ("accept", "text/html,*/*;q=0.8");

#[tokio::test]
async fn a19_a20_a21_only_a_top_level_navigation_starts_a_login() {
    let world = World::new().await;
    let app = world.app(&world.builder().build().unwrap());
    let websocket = [("connection", "Upgrade"), ("upgrade", "websocket")];
    let preflight = [("origin", "https://a.example"), ("access-control-request-method", "PUT")];
    for (case, method, headers) in [
        ("fetch", "GET", &[("sec-fetch-mode", "cors"), ("sec-fetch-dest", "empty"), HTML][..]),
        ("an image", "GET", &[("sec-fetch-mode", "no-cors"), ("sec-fetch-dest", "image")]),
        ("a script", "GET", &[("sec-fetch-mode", "no-cors"), ("sec-fetch-dest", "script"), HTML]),
        ("a frame", "GET", &[NAVIGATE, ("sec-fetch-dest", "iframe"), HTML]),
        ("an object", "GET", &[NAVIGATE, ("sec-fetch-dest", "object"), HTML]),
        ("XHR of an old browser", "GET", &[HTML, ("x-requested-with", "XMLHttpRequest")]),
        ("JSON", "GET", &[("accept", "application/json")]),
        ("a tool", "GET", &[("accept", "*/*")]),
        ("nothing said", "GET", &[]),
        ("EventSource", "GET", &[("accept", "text/event-stream")]),
        ("WebSocket", "GET", &websocket),
        ("gRPC", "POST", &[("content-type", "application/grpc")]),
        ("gRPC-Web", "POST", &[("content-type", "application/grpc-web+proto")]),
        ("htmx", "GET", &[("hx-request", "true"), HTML]),
        ("A20 prefetch", "GET", &[NAVIGATE, DOCUMENT, HTML, ("sec-purpose", "prefetch;prerender")]),
        ("A20 old prefetch", "GET", &[HTML, ("purpose", "prefetch")]),
        ("A20 older prefetch", "GET", &[HTML, ("x-moz", "prefetch")]),
        ("A21 HEAD", "HEAD", &[NAVIGATE, DOCUMENT, HTML]),
        ("A21 OPTIONS", "OPTIONS", &[NAVIGATE, DOCUMENT, HTML]),
        ("A21 preflight", "OPTIONS", &preflight),
        ("PUT", "PUT", &[HTML]),
    ] {
        for path in ["/page", "/favicon.ico", "/auth/login", "/auth/login?return_to=/a"] {
            let reply = support::send(&app, request(method, path, headers)).await;
            let (status, case) = (reply.status, format!("A19 {case} {path}"));
            assert!(!status.is_redirection(), "{case}: {status}");
            assert!(!reply.headers.contains_key("location"), "{case}");
            assert!(reply.set_cookies().is_empty(), "{case}: {:?}", reply.set_cookies());
            let grpc = !matches!(reply.header("grpc-status"), "" | "0");
            let refused = matches!(status.as_u16(), 401 | 405) || grpc;
            assert!(refused, "{case}: {status}");
            let error = reply.error.as_ref().map(|error| error.kind());
            let kinds = [ErrorKind::NotSignedIn, ErrorKind::MethodNotAllowed];
            assert!(kinds.iter().any(|kind| Some(*kind) == error), "{case} {error:?}");
        }
    }
    assert_eq!(world.reached(), 0, "nothing reaches the application");
    assert_eq!(world.provider.counts().discovery, 0, "nobody asks the provider");
    for (case, headers) in [("a browser", &[NAVIGATE, DOCUMENT][..]), ("an old browser", &[HTML])] {
        let reply = support::send(&app, request("GET", "/page", headers)).await;
        assert_eq!(reply.status, StatusCode::FOUND, "A19 {case}");
        let reply = support::send(&app, request("GET", &reply.location(), headers)).await;
        assert_eq!(reply.set_cookies().len(), 1, "A19 {case}");
    }
}

#[tokio::test]
async fn a17_a18_the_ways_to_the_provider_forward_no_body_and_are_not_cached() {
    let world = World::new().await;
    let app = world.app(&world.builder().build().unwrap());
    let mut browser = world.browser(&app, "alice");
    let mut post = navigation(Method::POST, "/transfer?amount=1");
    *post.body_mut() = Body::from("note=CANARY");
    let reply = browser.send(post).await;
    assert_eq!(reply.status, StatusCode::SEE_OTHER, "A17 a form is forgotten");
    assert_eq!(reply.header("cache-control"), "no-store", "A18");
    assert_eq!(reply.location(), "/auth/login", "L08 a POST is not remembered");
    let mut states = Vec::new();
    for _ in 0..2 {
        let reply = browser.get("/auth/login").await;
        assert!(matches!(reply.status.as_u16(), 302 | 303), "A17");
        assert_eq!(reply.header("cache-control"), "no-store", "A18");
        assert_eq!(reply.header("referrer-policy"), "no-referrer", "A18");
        assert_eq!(reply.body, "", "A18");
        states.push(parameter(&reply.location(), "state"));
    }
    assert_ne!(states[0], states[1], "A18");
    let reply = browser.sign_in("/auth/login").await;
    assert_eq!(reply.body, "alice");
    let seen = std::mem::take(&mut *world.seen.lock().unwrap());
    assert!(seen.iter().all(|seen| seen.method == Method::GET), "L08 {seen:?}");
}

/// The layer exposes no third-party initiated login: A25 is about what would be wrong with one.
#[tokio::test]
async fn a25_a_post_or_a_foreign_issuer_starts_nothing_at_the_login_endpoint() {
    let world = World::new().await;
    let app = world.app(&world.builder().build().unwrap());
    let reply = support::send(&app, navigation(Method::POST, "/auth/login")).await;
    assert_eq!((reply.status, reply.header("allow")), (StatusCode::METHOD_NOT_ALLOWED, "GET"));
    assert!(reply.set_cookies().is_empty());
    let evil = TestProvider::start().await.unwrap();
    let link = format!("/auth/login?iss={}&target_link_uri={}/x", evil.issuer(), evil.issuer());
    let url = support::send(&app, navigation(Method::GET, &link)).await.location();
    assert!(url.starts_with(world.provider.issuer()) && !url.contains(evil.issuer()), "{url}");
    assert_eq!(evil.counts().discovery, 0);
    let reply = support::send(&app, fetch(Method::GET, &link)).await;
    assert_eq!(reply.status, StatusCode::UNAUTHORIZED);
}

#[tokio::test]
async fn a08_the_challenge_is_s256_whatever_the_provider_announces() {
    let world = World::new().await;
    for announced in [None, Some(vec![]), Some(vec!["plain"]), Some(vec!["plain", "S512"])] {
        let name = "code_challenge_methods_supported";
        let given = announced.clone();
        world.provider.on_discovery(move |document| {
            document.remove(name);
            if let Some(given) = &given {
                document.insert(name.to_owned(), given.clone().into());
            }
        });
        let app = world.app(&world.builder().build().unwrap());
        let mut browser = world.browser(&app, "alice");
        let reply = browser.get("/auth/login").await;
        if reply.status.is_redirection() {
            let url = reply.location();
            let method = parameter(&url, "code_challenge_method");
            assert_eq!(method.as_deref(), Some("S256"), "A08 {announced:?}");
            assert_eq!(parameter(&url, "code_challenge").map(|c| c.len()), Some(43));
        } else {
            assert!(reply.status.is_server_error(), "A08 {announced:?} {}", reply.status);
        }
    }
}

#[tokio::test]
async fn a13_the_query_of_the_authorization_endpoint_is_kept() {
    let world = World::new().await;
    let endpoint = format!("{}/authorize?tenant=a%20b&x=1", world.provider.issuer());
    world.provider.on_discovery(move |document| {
        document.insert("authorization_endpoint".to_owned(), endpoint.clone().into());
    });
    let app = world.app(&world.builder().build().unwrap());
    let mut browser = world.browser(&app, "alice");
    let reply = browser.sign_in("/").await;
    assert_eq!(reply.body, "alice");
    let asked = world.provider.requests(tower_pkce_auth::testing::provider::Endpoint::Authorize);
    let query = asked[0].query();
    for (name, value) in [("tenant", "a b"), ("x", "1"), ("response_type", "code")] {
        let values: Vec<_> = query.iter().filter(|(n, _)| n == name).map(|(_, v)| v).collect();
        assert_eq!(values, [value], "A13 {name} in {query:?}");
    }
    let mut names: Vec<_> = query.iter().map(|(name, _)| name).collect();
    names.sort();
    let count = names.len();
    names.dedup();
    assert_eq!(names.len(), count, "A13 A16 {query:?}");
}

#[tokio::test]
async fn a14_a31_nobody_is_sent_to_an_endpoint_that_is_not_sound() {
    let world = World::new().await;
    let issuer = world.provider.issuer().to_owned();
    for endpoint in [
        format!("{issuer}/authorize#f"),
        format!("{issuer}/authorize#"),
        "http://op.example/authorize".to_owned(),
        "javascript:alert(1)".to_owned(),
        "data:text/html,x".to_owned(),
        "ftp://op.example/authorize".to_owned(),
        "https://user:password@op.example/authorize".to_owned(),
        "//op.example/authorize".to_owned(),
        "/authorize".to_owned(),
        String::new(),
    ] {
        let given = endpoint.clone();
        world.provider.on_discovery(move |document| {
            document.insert("authorization_endpoint".to_owned(), given.clone().into());
        });
        let app = world.app(&world.builder().build().unwrap());
        let mut browser = world.browser(&app, "alice");
        let reply = browser.get("/auth/login").await;
        assert!(matches!(reply.status.as_u16(), 502 | 503), "A14 A31 {endpoint}: {}", reply.status);
        assert!(!reply.headers.contains_key("location"), "A14 A31 {endpoint}");
        assert!(reply.set_cookies().is_empty(), "A14 A31 {endpoint}");
        assert!(reply.reason().contains("authorization_endpoint"), "A14 {}", reply.reason());
    }
}
