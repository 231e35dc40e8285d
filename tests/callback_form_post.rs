//! Group C: the provider answers by a form (OAuth 2.0 Form Post Response Mode).

mod support;

use std::time::Duration;

use axum::body::Body;
use axum::http::{Method, Request, StatusCode};
use support::{App, Browser, Reply, World, navigation, parameter};
use tower_pkce_auth::testing::provider::TestProvider;
use tower_pkce_auth::{Builder, MemoryStore, Pending};

/// The three places a pending login may lie in.
fn backends(world: &World) -> [(&'static str, Builder); 3] {
    let store = MemoryStore::shared_between_pods(world.clock.clone());
    let builder = |pending| world.builder().pending(pending).form_post();
    [
        ("memory", builder(Pending::Memory)),
        ("sealed", builder(Pending::Sealed)),
        ("store", builder(Pending::Store).store(store)),
    ]
}

fn apps(world: &World) -> [(&'static str, App); 3] {
    backends(world).map(|(name, builder)| (name, world.app(&builder.build().unwrap())))
}

const FORM: &str = "application/x-www-form-urlencoded";

fn encode(fields: &[(String, String)]) -> String {
    url::form_urlencoded::Serializer::new(String::new()).extend_pairs(fields).finish()
}

/// A form that a page of the provider's submits.
fn form(world: &World, path: &str, content_type: &str, body: impl Into<Body>) -> Request<Body> {
    let mut request = navigation(Method::POST, path);
    let headers = request.headers_mut();
    headers.insert("sec-fetch-site", "cross-site".parse().unwrap());
    headers.insert("origin", world.provider.issuer().parse().unwrap());
    if !content_type.is_empty() {
        headers.insert("content-type", content_type.parse().unwrap());
    }
    *request.body_mut() = body.into();
    request
}

/// Sends it as a strict browser does: a cross-site POST brings cookies of `SameSite=None` only.
async fn submit(browser: &mut Browser, request: Request<Body>) -> Reply {
    let mut strict = browser.clone();
    strict.jar.0.retain(|(name, _), _| name.contains("-p-"));
    let reply = strict.send(request).await;
    browser.jar.keep(&reply.headers);
    reply
}

/// Goes to the provider and returns the fields of the form it answers with.
async fn to_form(browser: &mut Browser, path: &str) -> Vec<(String, String)> {
    let url = browser.to_provider(path).await;
    assert_eq!(parameter(&url, "response_mode").as_deref(), Some("form_post"));
    let form = browser.provider.authorize_form_as(&url, &browser.user).await.unwrap();
    assert_eq!(form.action, "http://localhost:8080/auth/callback");
    form.fields
}

#[tokio::test]
async fn c25_c26_a_form_of_the_providers_signs_in_after_three_minutes_too() {
    let world = World::new().await;
    for (backend, app) in apps(&world) {
        let mut browser = world.browser(&app, "alice");
        let reply = browser.get("/auth/login?return_to=/deep%3Fx%3D1").await;
        let [set] = reply.set_cookies()[..] else { panic!("{:?}", reply.set_cookies()) };
        assert!(set.contains("-p-") && set.contains("; SameSite=None; Secure;"), "C26 {set}");
        assert!(set.contains("; HttpOnly;") && set.contains("; Path=/;"), "C26 {set}");
        world.clock.advance(Duration::from_secs(180));
        let at_op = world.provider.authorize_form_as(&reply.location(), "alice").await.unwrap();
        let request = form(&world, "/auth/callback", FORM, encode(&at_op.fields));
        let reply = submit(&mut browser, request).await;
        assert_eq!(reply.status, StatusCode::SEE_OTHER, "C25 {backend}: {}", reply.reason());
        assert_eq!(reply.location(), "/deep?x=1", "C25 {backend}");
        for cookie in reply.set_cookies().iter().filter(|cookie| !cookie.contains("-p-")) {
            assert!(cookie.contains("; SameSite=Lax"), "C26 {backend} {cookie}");
        }
        assert_eq!(browser.jar.pending(), 0, "B20 {backend}");
        assert_eq!(browser.follow(reply).await.body, "alice", "C25 {backend}");
    }
}

#[tokio::test]
async fn c25_c05_c07_c27_c30_a_body_that_is_no_answer_is_rejected_and_takes_nothing() {
    let world = World::new().await;
    for (backend, app) in apps(&world) {
        let mut browser = world.browser(&app, "alice");
        let fields = to_form(&mut browser, "/deep").await;
        let good = encode(&fields);
        let json: serde_json::Map<String, serde_json::Value> =
            fields.iter().map(|(k, v)| (k.clone(), v.clone().into())).collect();
        let json = serde_json::Value::from(json).to_string();
        let [code, state, iss] = ["code", "state", "iss"].map(|wanted| {
            let only: Vec<_> = fields.iter().filter(|(name, _)| name == wanted).cloned().collect();
            encode(&only)
        });
        let callback = "/auth/callback";
        let split = format!("{callback}?{code}");
        let query = format!("{callback}?{good}");
        let broken = || {
            let frames = [Ok(good.clone()), Err(std::io::Error::other("went away"))];
            Body::from_stream(tokio_stream::iter(frames))
        };
        for (case, path, content_type, body, kind) in [
            ("JSON", callback, "application/json", Body::from(json), "form"),
            ("multipart", callback, "multipart/form-data; boundary=x", good.clone().into(), "form"),
            ("text", callback, "text/plain", good.clone().into(), "form"),
            ("no type", callback, "", good.clone().into(), "form"),
            (
                "a look-alike",
                callback,
                "application/x-www-form-urlencodedx",
                good.clone().into(),
                "form",
            ),
            ("1 MB", callback, FORM, format!("{good}&x={}", "a".repeat(1 << 20)).into(), "form"),
            ("65 KB", callback, FORM, format!("{good}&x={}", "a".repeat(65 << 10)).into(), "form"),
            ("broken off", callback, FORM, broken(), "form"),
            (
                "C27 the code in the query",
                &split,
                FORM,
                format!("{state}&{iss}").into(),
                "query_and_form",
            ),
            ("C27 all of it twice", &query, FORM, good.clone().into(), "query_and_form"),
            ("C27 all in the query", &query, FORM, Body::empty(), "query_and_form"),
            (
                "C27 a foreign query",
                "/auth/callback?x",
                FORM,
                good.clone().into(),
                "query_and_form",
            ),
            ("C05 two codes", callback, FORM, format!("{good}&code=b").into(), "repeated"),
            ("C05 two states", callback, FORM, format!("state=bad&{good}").into(), "repeated"),
            ("C05 two iss", callback, FORM, format!("{good}&iss=x").into(), "repeated"),
            ("C30 half an escape", callback, FORM, format!("{good}&x=%4").into(), "encoding"),
            ("C30 no UTF-8", callback, FORM, format!("{good}&x=%ff").into(), "encoding"),
            (
                "C30 raw bytes",
                callback,
                FORM,
                [good.as_bytes(), b"&x=\xff"].concat().into(),
                "encoding",
            ),
            ("C30 NUL", callback, FORM, format!("{good}&x=\0").into(), "encoding"),
            ("C07 no state", callback, FORM, format!("{code}&{iss}").into(), "state"),
            ("C07 an empty state", callback, FORM, format!("{code}&{iss}&state=").into(), "state"),
            ("nothing", callback, FORM, Body::empty(), "state"),
        ] {
            let case = format!("C25 {backend}, {case}");
            let reply = submit(&mut browser, form(&world, path, content_type, body)).await;
            assert_eq!(reply.status, StatusCode::BAD_REQUEST, "{case}");
            assert!(reply.reason().ends_with(&format!("/{kind}")), "{case}: {}", reply.reason());
            assert_eq!(reply.header("cache-control"), "no-store", "{case}");
            assert_eq!(browser.jar.pending(), 1, "{case}");
        }
        // C27: the answer of the other mode.
        for method in ["GET", "HEAD", "PUT"] {
            let reply = browser.send(navigation(method.parse().unwrap(), &query)).await;
            assert_eq!(reply.status, StatusCode::METHOD_NOT_ALLOWED, "C27 {backend} {method}");
            assert_eq!(reply.header("allow"), "POST", "C27 {backend} {method}");
        }
        assert_eq!(world.provider.counts().token, 0, "{backend}");
        assert_eq!(browser.who().await, None, "{backend}");
        let content_type = "Application/X-WWW-Form-Urlencoded; charset=UTF-8";
        let reply = submit(&mut browser, form(&world, callback, content_type, good)).await;
        assert_eq!(reply.location(), "/deep", "C25 {backend}: {}", reply.reason());
        world.provider.reset_counts();
    }
}

#[tokio::test]
async fn c25_the_form_needs_no_fetch_metadata_and_no_origin() {
    let world = World::new().await;
    for (backend, app) in apps(&world) {
        for headers in [
            &[][..],
            &[("origin", "null")],
            &[("origin", "https://op.example"), ("sec-fetch-site", "cross-site")],
            &[("sec-fetch-mode", "navigate"), ("sec-fetch-dest", "document")],
        ] {
            let mut browser = world.browser(&app, "alice");
            let fields = to_form(&mut browser, "/deep").await;
            let mut request = Request::builder().method("POST").uri("/auth/callback");
            for (name, value) in headers.iter().chain(&[("content-type", FORM)]) {
                request = request.header(*name, *value);
            }
            let request = request.body(Body::from(encode(&fields))).unwrap();
            let reply = submit(&mut browser, request).await;
            assert_eq!(reply.status, StatusCode::SEE_OTHER, "C25 {backend} {headers:?}");
        }
    }
}

#[tokio::test]
async fn c27_in_query_mode_a_form_is_not_read() {
    let world = World::with_provider(TestProvider::builder()).await;
    let app = world.app(&world.builder().build().unwrap());
    let mut browser = world.browser(&app, "alice");
    let callback = browser.to_callback("/deep").await;
    let (path, query) = callback.split_once('?').unwrap();
    for path in [path, &callback] {
        let reply = browser.send(form(&world, path, FORM, query.to_owned())).await;
        assert_eq!(reply.status, StatusCode::METHOD_NOT_ALLOWED, "C27");
    }
    assert_eq!(world.provider.counts().token, 0, "C27");
    assert_eq!(browser.get(&callback).await.location(), "/deep", "C27");
}

#[tokio::test]
async fn c19_c20_an_unusable_form_is_restarted_once_and_a_reload_finds_the_session() {
    let world = World::new().await;
    for (backend, app) in apps(&world) {
        // Another browser's form: one restart, with the deep link, then a page.
        let mut other = world.browser(&app, "mallory");
        let mut browser = world.browser(&app, "alice");
        let trap = encode(&to_form(&mut other, "/deep").await);
        let reply = submit(&mut browser, form(&world, "/auth/callback", FORM, trap.clone())).await;
        assert_eq!(reply.status, StatusCode::SEE_OTHER, "{backend}");
        let restart = reply.location();
        assert!(restart.starts_with("/auth/login?again="), "{backend}: {restart}");
        let second = encode(&to_form(&mut other, &restart).await);
        let reply = submit(&mut browser, form(&world, "/auth/callback", FORM, second)).await;
        assert_eq!(reply.status, StatusCode::BAD_REQUEST, "{backend}");
        assert_eq!(reply.page(), Some("restart"), "{backend}");
        assert!(reply.body.contains("/auth/login?return_to=%2Fdeep"), "{backend}");
        assert_eq!(world.provider.counts().token, 0, "{backend}");
        // The restart completes; a reload of the form, which brings no session, ends there too.
        let fields = encode(&to_form(&mut browser, &restart).await);
        let reply =
            submit(&mut browser, form(&world, "/auth/callback", FORM, fields.clone())).await;
        assert_eq!(reply.location(), "/deep", "{backend}: {}", reply.reason());
        let reply = submit(&mut browser, form(&world, "/auth/callback", FORM, trap)).await;
        let reply = browser.get(&reply.location()).await;
        assert_eq!(reply.location(), "/deep", "{backend}: a live session is found");
        let reply = submit(&mut browser, form(&world, "/auth/callback", FORM, fields)).await;
        assert!(!reply.status.is_server_error(), "{backend}");
        assert_eq!(world.provider.counts().token, 1, "C19 {backend}");
        assert_eq!(browser.who().await.as_deref(), Some("alice"), "C19 {backend}");
        world.provider.reset_counts();
    }
}

#[tokio::test]
async fn c29_the_session_before_is_ended_though_its_cookie_did_not_come() {
    let world = World::new().await;
    for (backend, app) in apps(&world) {
        let mut browser = world.browser(&app, "alice");
        let fields = to_form(&mut browser, "/").await;
        submit(&mut browser, form(&world, "/auth/callback", FORM, encode(&fields))).await;
        assert_eq!(browser.who().await.as_deref(), Some("alice"), "{backend}");
        let old = browser.clone();
        browser.user = "mallory".to_owned();
        let fields = to_form(&mut browser, "/auth/login?switch=1").await;
        assert_eq!(old.clone().who().await.as_deref(), Some("alice"), "A27 {backend}");
        submit(&mut browser, form(&world, "/auth/callback", FORM, encode(&fields))).await;
        assert_eq!(browser.who().await.as_deref(), Some("mallory"), "C29 {backend}");
        assert_eq!(old.clone().who().await, None, "C29 {backend}: the old cookie is dead");
    }
}
