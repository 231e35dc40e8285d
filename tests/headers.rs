//! Headers, paths and kinds of requests (group M, and who is answered how): what reaches the
//! application, what opens a path, and what our own answers carry.

#[path = "support/pods.rs"]
mod pods;
mod support;

use axum::body::Body;
use axum::extract::Request;
use axum::http::{HeaderName, Method, StatusCode};
use pods::{Kept, with_cookies};
use support::{App, Browser, ORIGIN, Reply, World, fetch, navigation, parameter, send};
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

const HTML: (&str, &str) = ("accept", "text/html,*/*;q=0.8");

async fn signed_in(world: &World, app: &App) -> Browser {
    let mut browser = world.browser(app, "alice");
    browser.sign_in("/").await;
    world.reached();
    browser
}

#[tokio::test]
async fn m01_m03_nobody_says_who_they_are_by_a_header() {
    let world = World::new().await;
    let (app, _) = Kept::Sealed
        .pod(&world, |builder| paths(builder).identity_header(HeaderName::from_static("x-tenant")));
    let mut alice = signed_in(&world, &app).await;
    let mut nobody = world.browser(&app, "bob");
    for name in [
        "X-Forwarded-User",
        "x-forwarded-user",
        "X_Forwarded_User",
        "x-forwarded_user",
        "X-Forwarded-Email",
        "X-Forwarded-Groups",
        "X-Forwarded-Preferred-Username",
        "X-Forwarded-Access-Token",
        "X-Auth-Request-User",
        "X-Auth-Request-Email",
        "X-Auth-Request-Groups",
        "x_auth_request_anything",
        "X-User-Id",
        "X-User-Email",
        "Remote-User",
        "REMOTE_USER",
        "X-Remote-User",
        "X_Remote_User",
        "X-Remote-Groups",
        "X-Client-Cert",
        "X-Client-Cert-Subject",
        "X-Tenant",
        "x_tenant",
    ] {
        for path in ["/open", "/assets/app.js", "/optional", "/protected"] {
            for browser in [&mut alice, &mut nobody] {
                let mut request = navigation(Method::GET, path);
                for _ in 0..2 {
                    let name: HeaderName = name.parse().unwrap();
                    request.headers_mut().append(name, "attacker".parse().unwrap());
                }
                browser.send(request).await;
                for seen in world.seen.lock().unwrap().drain(..) {
                    let said = seen.headers.iter().find(|(_, value)| *value == "attacker");
                    assert_eq!(said, None, "M01 M03 {name} at {path}");
                }
            }
        }
    }
}

#[tokio::test]
async fn m05_credentials_of_a_client_do_not_go_along_with_a_session() {
    let world = World::new().await;
    for (forward, path, session, kept) in [
        (false, "/protected", true, false),
        (false, "/optional", true, false),
        (false, "/open", true, true),
        (false, "/open", false, true),
        (true, "/protected", true, true),
    ] {
        let (app, _) = Kept::Sealed.pod(&world, |b| paths(b).forward_authorization(forward));
        let mut browser = world.browser(&app, "alice");
        if session {
            browser = signed_in(&world, &app).await;
        }
        let mut request = navigation(Method::GET, path);
        for name in ["authorization", "dpop"] {
            request.headers_mut().append(name, "Bearer one".parse().unwrap());
            request.headers_mut().append(name, "Bearer two".parse().unwrap());
        }
        browser.send(request).await;
        let seen = world.seen.lock().unwrap().pop().unwrap();
        for name in ["authorization", "dpop"] {
            let count = seen.headers.get_all(name).iter().count();
            assert_eq!(count > 0, kept, "M05 {name} {path} session {session} forward {forward}");
        }
    }
}

#[tokio::test]
async fn m06_m09_m19_headers_open_no_path_and_move_no_origin() {
    let world = World::new().await;
    let (app, _) = Kept::Sealed.pod(&world, |builder| paths(builder).health(true));
    let table = [
        ("x-original-url", "/open"),
        ("x-rewrite-url", "/open"),
        ("x-forwarded-uri", "/open"),
        ("x-forwarded-method", "OPTIONS"),
        ("x-forwarded-prefix", "/open"),
        ("x-http-method-override", "OPTIONS"),
        ("x-method-override", "OPTIONS"),
        ("user-agent", "kube-probe/1.30"),
        ("user-agent", "GoogleHC/1.0"),
        ("x-forwarded-for", "127.0.0.1"),
        ("x-real-ip", "127.0.0.1"),
        ("forwarded", "for=127.0.0.1"),
        ("x-forwarded-proto", "https"),
        ("x-forwarded-host", "evil.example"),
        ("host", "evil.example"),
    ];
    for (name, value) in table {
        for path in ["/admin", "/admin?_method=OPTIONS"] {
            let mut request = navigation(Method::GET, path);
            request.headers_mut().insert(name, value.parse().unwrap());
            let reply = send(&app, request).await;
            assert_eq!(reply.status, StatusCode::FOUND, "M06 M09 M19 {name}: {value}");
            assert!(
                reply.location().starts_with("/auth/login?"),
                "M06 {name}: {}",
                reply.location()
            );
        }
        let mut request = navigation(Method::GET, "/auth/login");
        request.headers_mut().insert(name, value.parse().unwrap());
        let reply = send(&app, request).await;
        let back = parameter(&reply.location(), "redirect_uri");
        assert_eq!(back, Some(format!("{ORIGIN}/auth/callback")), "M06 {name}: {value}");
        let cookie = reply.set_cookies()[0].to_owned();
        assert!(cookie.starts_with("auth_") && !cookie.contains("Domain"), "M06 {name}: {cookie}");
    }
    assert_eq!(world.reached(), 0, "M06");
    for path in ["/auth/health/live", "/auth/health/ready"] {
        assert_eq!(send(&app, request("GET", path, &[])).await.status, StatusCode::OK, "M19");
    }
    let mut alice = signed_in(&world, &app).await;
    for name in ["x-http-method-override", "x-method-override", "x-http-method"] {
        let reply = alice.send(request("POST", "/admin?_method=GET", &[(name, "GET")])).await;
        assert_eq!(reply.status, StatusCode::FORBIDDEN, "M09 {name}: it is a POST");
    }
}

#[tokio::test]
async fn m07_m08_only_plain_paths_are_open() {
    let world = World::new().await;
    let (app, _) = Kept::Sealed.pod(&world, paths);
    for path in ["/open", "/open?x=/../admin", "/assets", "/assets/", "/assets/a/b.css", "/read"] {
        let reply = send(&app, request("GET", path, &[])).await;
        assert_eq!((reply.status, reply.body.as_str()), (StatusCode::OK, "-"), "{path}");
    }
    world.reached();
    let mut sent = 0;
    for path in [
        "/assets/../admin",
        "/assets/..",
        "/assets/./admin",
        "/assets/%2e%2e/admin",
        "/assets/%2E%2E/admin",
        "/assets/.%2e/admin",
        "/assets%2f..%2fadmin",
        "/assets/..%2fadmin",
        "/assets/..%5cadmin",
        "/assets\\..\\admin",
        "/assets/%252e%252e/admin",
        "//admin",
        "/assets//admin",
        "//open",
        "/open/",
        "/open//",
        "/admin;/open",
        "/open;x=1",
        "/open%3bx",
        "/assets/;/../admin",
        "/admin%23/open",
        "/open%23",
        "/admin%3f/open",
        "/open%3f",
        "/%6fpen",
        "/%61dmin",
        "/OPEN",
        "/ADMIN",
        "/Assets/x",
        "/admin%00/open",
        "/open%00",
        "/assets/%00",
        "/assets/%c0%ae%c0%ae/admin",
        "/assets/%c0%af",
        "/assets/%ff",
        "/assets/%",
        "/assets/%2",
        "/assets/%zz",
        "/openadmin",
        "/open.evil",
        "/assets.evil/x",
        "/assetsx",
        "/admin/open",
        "/assets/%0d%0a",
        "/assets/\u{7f}",
        "/assets/é",
    ] {
        let Ok(uri) = path.parse::<axum::http::Uri>() else { continue };
        for method in ["GET", "POST", "HEAD"] {
            let request = Request::builder().method(method).uri(uri.clone());
            let reply = send(&app, request.body(Body::empty()).unwrap()).await;
            assert_eq!(reply.status, StatusCode::UNAUTHORIZED, "M07 M08 {method} {path}");
            sent += 1;
        }
    }
    assert!(sent > 110, "most of them can be sent at all: {sent}");
    for method in ["POST", "PUT", "DELETE", "HEAD", "OPTIONS", "TRACE", "CONNECT"] {
        let reply = send(&app, request(method, "/read", &[])).await;
        assert_eq!(reply.status, StatusCode::UNAUTHORIZED, "M08 {method}: only GET is open");
    }
    for method in ["TRACE", "CONNECT"] {
        let reply = send(&app, request(method, "/open", &[])).await;
        assert_eq!(reply.status, StatusCode::UNAUTHORIZED, "M21 {method} is open nowhere");
    }
    assert_eq!(world.reached(), 0, "M07 M08: nothing reached the application");
}

#[tokio::test]
async fn m10_m14_m15_our_answers_are_not_stored_framed_or_referred_from() {
    let world = World::new().await;
    let (app, store) = Kept::StoredShared.pod(&world, |builder| paths(builder).health(true));
    let mut browser = world.browser(&app, "alice");
    let mut replies: Vec<(&str, Reply)> = vec![("deny", browser.get("/page").await)];
    replies.push(("start", browser.get("/auth/login").await));
    let callback = browser.to_callback("/page").await;
    replies.push(("callback", browser.get(&callback).await));
    for (name, path) in [
        ("callback again", &*callback),
        ("callback malformed", "/auth/callback?code=x"),
        ("session", "/auth/session"),
        ("login, signed in", "/auth/login"),
        ("confirm", "/auth/logout"),
        ("signed out page", "/auth/signed-out"),
        ("health", "/auth/health/live"),
    ] {
        replies.push((name, browser.get(path).await));
    }
    let denied = format!("{}&error=access_denied", callback.split("&iss").next().unwrap());
    replies.push(("refused", browser.get(&denied).await));
    for path in
        ["/auth/login", "/auth/callback", "/auth/session", "/auth/signed-out", "/auth/health/live"]
    {
        replies.push(("405", browser.post(path).await));
    }
    replies.push(("csrf", browser.send(request("POST", "/page", &[HTML])).await));
    replies.push(("csrf of a script", browser.send(request("POST", "/page", &[])).await));
    store.fail(StoreErrorKind::Unavailable);
    replies.push(("503", browser.get("/page").await));
    replies.push(("503 for a script", browser.send(fetch(Method::GET, "/page")).await));
    store.recover();
    replies.push(("logout", browser.post("/auth/logout").await));
    replies.push(("401", browser.send(fetch(Method::GET, "/page")).await));
    assert!(replies.len() > 20);
    for (name, reply) in replies {
        let what = format!("{name} ({})", reply.status);
        let caching: Vec<_> = reply.headers.get_all("cache-control").iter().collect();
        assert_eq!(caching, ["no-store"], "M10 {what}");
        assert_eq!(reply.header("x-content-type-options"), "nosniff", "M15 {what}");
        if reply.status.is_redirection() {
            assert_eq!(reply.header("referrer-policy"), "no-referrer", "M14 {what}");
        }
        if let Some(page) = reply.page() {
            let referrer = reply.header("referrer-policy");
            // DESIGN: our form pages use `same-origin`.
            let expected = if page == "confirm-sign-out" { "same-origin" } else { "no-referrer" };
            assert_eq!(referrer, expected, "M14 {what} {page}");
            let policy = reply.header("content-security-policy");
            for part in
                ["default-src 'none'", "frame-ancestors 'none'", "base-uri 'none'", "form-action "]
            {
                assert!(policy.contains(part), "M15 {what} {page}: {policy}");
            }
            assert!(!policy.contains("unsafe"), "M15 {what}: {policy}");
            assert_eq!(reply.header("content-type"), "text/html; charset=utf-8", "M15 {what}");
        } else if !reply.body.is_empty() {
            let media = reply.header("content-type");
            assert!(
                ["application/json", "text/plain; charset=utf-8"].contains(&media),
                "M15 {what}: {media}"
            );
        }
    }
}

#[tokio::test]
async fn m13_what_depends_on_the_cookie_says_so() {
    let world = World::new().await;
    let (app, _) = Kept::Sealed.pod(&world, paths);
    let alice = signed_in(&world, &app).await;
    let cookie = alice.jar.header("/").unwrap();
    for path in ["/optional", "/protected"] {
        for fields in [&[][..], &[cookie.as_bytes()]] {
            let reply = send(&app, with_cookies(path, fields)).await;
            let unstored = reply.header("cache-control").contains("no-store");
            let varies = reply.headers.get_all("vary").iter().any(|value| value == "Cookie");
            assert!(
                unstored || varies,
                "M13 {path}, {} cookies: {:?}",
                fields.len(),
                reply.headers
            );
        }
    }
}
