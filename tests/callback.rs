//! Group C: what comes back from the provider by way of the browser.

mod support;

use std::time::Duration;

use axum::http::{Method, StatusCode};
use support::{App, Browser, Reply, World, navigation, parameter, with_parameter};
use tower_pkce_auth::testing::provider::{Endpoint, TestProvider};
use tower_pkce_auth::{Builder, MemoryStore, Pending};

/// The three places a pending login may lie in.
fn backends(world: &World) -> [(&'static str, Builder); 3] {
    let store = MemoryStore::shared_between_pods(world.clock.clone());
    let builder = |pending| world.builder().pending(pending);
    [
        ("memory", builder(Pending::Memory)),
        ("sealed", builder(Pending::Sealed)),
        ("store", builder(Pending::Store).store(store)),
    ]
}

fn apps(world: &World) -> [(&'static str, App); 3] {
    backends(world).map(|(name, builder)| (name, world.app(&builder.build().unwrap())))
}

/// `REJ` (requirements/README.md), but for the status: no session, no secret, no later call.
fn assert_rejected(world: &World, reply: &Reply, callback: &str, case: &str) {
    assert!(reply.status.is_client_error() || reply.status.is_server_error(), "{case}");
    assert_ne!(reply.status, StatusCode::INTERNAL_SERVER_ERROR, "{case}: {}", reply.reason());
    assert!(!reply.headers.contains_key("location"), "{case}");
    assert_eq!(reply.header("cache-control"), "no-store", "{case}");
    assert_eq!(reply.header("referrer-policy"), "no-referrer", "C23 {case}");
    let policy = reply.header("content-security-policy");
    for part in ["default-src 'none'", "frame-ancestors 'none'", "base-uri 'none'"] {
        assert!(policy.contains(part), "C24 {case}: {policy}");
    }
    let session = |cookie: &&str| cookie.split('=').next().is_some_and(|n| n.ends_with("-s"));
    assert!(!reply.set_cookies().iter().any(session), "{case}");
    for secret in ["code", "state"].map(|name| parameter(callback, name).unwrap()) {
        assert!(!reply.body.contains(&secret), "{case}");
    }
    for foreign in ["src=", "http://", "https://", "<script", "javascript:", "url("] {
        assert!(!reply.body.contains(foreign), "C24 {case}: {foreign}");
    }
    assert_eq!(world.provider.counts().userinfo, 0, "{case}");
}

/// A login at its callback, with the counts of the provider at zero.
async fn at_callback(world: &World, app: &App) -> (Browser, String) {
    let mut browser = world.browser(app, "alice");
    let callback = browser.to_callback("/deep").await;
    world.provider.reset_counts();
    (browser, callback)
}

#[tokio::test]
async fn c01_only_the_exact_path_and_the_method_of_the_mode_are_the_callback() {
    let world = World::new().await;
    for (backend, app) in apps(&world) {
        let (mut browser, callback) = at_callback(&world, &app).await;
        for method in ["POST", "PUT", "DELETE", "PATCH", "OPTIONS", "HEAD"] {
            let request = navigation(method.parse().unwrap(), &callback);
            let reply = browser.send(request).await;
            assert_eq!(reply.status, StatusCode::METHOD_NOT_ALLOWED, "C01 {backend} {method}");
            assert_eq!(reply.header("allow"), "GET", "C01 {backend} {method}");
        }
        let query = callback.split_once('?').unwrap().1.to_owned();
        for path in [
            "/auth/callback/",
            "/auth//callback",
            "/AUTH/CALLBACK",
            "/auth%2fcallback",
            "/auth/callback.html",
            "/auth/%63allback",
            "/auth/./callback",
            "/auth/callback;x",
            "/x/auth/callback",
            "/callback",
        ] {
            // Such a path is protected (DESIGN outranks 404 here): the login comes first.
            let reply = browser.get(&format!("{path}?{query}")).await;
            assert_eq!(reply.status, StatusCode::FOUND, "C01 {backend} {path}");
            assert!(reply.location().starts_with("/auth/login"), "C01 {backend} {path}");
        }
        assert_eq!(world.reached(), 0);
        assert_eq!(world.provider.counts().token, 0, "C01 {backend}");
        assert_eq!(browser.get(&callback).await.location(), "/deep", "C01 {backend}");
    }
}

#[tokio::test]
async fn c02_c03_c05_c06_c07_c28_c30_a_response_that_is_not_one_is_rejected() {
    let world = World::new().await;
    for (backend, app) in apps(&world) {
        // `{}` is the callback as it came; the last column says whether it is taken by it.
        let drop = |names: &'static [&'static str]| {
            move |url: &str| {
                let drop = |url: String, name: &&str| with_parameter(&url, name, None);
                names.iter().fold(url.to_owned(), drop)
            }
        };
        let add = |text: &'static str| move |url: &str| format!("{url}&{text}");
        let before = |text: &'static str| move |url: &str| url.replace('?', &format!("?{text}&"));
        let set = |name: &'static str, raw: &'static str| {
            move |url: &str| format!("{}&{name}={raw}", with_parameter(url, name, None))
        };
        type Change = Box<dyn Fn(&str) -> String>;
        let rows: Vec<(&str, Change, bool)> = vec![
            ("C02 neither code nor error", Box::new(drop(&["code"])), true),
            ("C07 an empty code", Box::new(set("code", "")), true),
            ("C07 an empty iss", Box::new(set("iss", "")), true),
            ("C07 an empty state", Box::new(set("state", "")), false),
            ("C03 no state", Box::new(drop(&["state"])), false),
            ("C05 two codes", Box::new(add("code=b")), false),
            ("C05 two codes, ours last", Box::new(before("code=b")), false),
            ("C05 a code and an empty one", Box::new(add("code=")), false),
            ("C05 two states", Box::new(add("state=bad")), false),
            ("C05 two states, ours last", Box::new(before("state=bad")), false),
            ("C05 two iss", Box::new(add("iss=https%3A%2F%2Fevil.example")), false),
            ("C05 two iss, ours last", Box::new(before("iss=https%3A%2F%2Fevil.example")), false),
            ("C05 two errors", Box::new(add("error=a&error=b")), false),
            ("C05 two responses", Box::new(add("response=a&response=b")), false),
            ("C05 a name in escapes", Box::new(add("%63ode=b")), false),
            ("C06 code and error", Box::new(add("error=access_denied")), true),
            (
                "C28 tokens, no code",
                Box::new(|url| {
                    let url = with_parameter(url, "code", None);
                    format!("{url}&id_token=a.b.c&access_token=x&token_type=Bearer")
                }),
                true,
            ),
            ("C30 a broken escape", Box::new(set("code", "%")), false),
            ("C30 half an escape", Box::new(set("code", "%4")), false),
            ("C30 no hex", Box::new(set("code", "%zz")), false),
            ("C30 no UTF-8", Box::new(set("code", "%ff%fe")), false),
            ("C30 a surrogate", Box::new(set("code", "%ed%a0%80")), false),
            ("C30 NUL", Box::new(set("code", "%00")), false),
            ("C30 in another name", Box::new(add("%ff=1")), false),
            ("C30 in another value", Box::new(add("foo=%c3%28")), false),
        ];
        for (case, change, taken) in rows {
            let case = format!("{backend}, {case}");
            let (mut browser, callback) = at_callback(&world, &app).await;
            let path = change(&callback);
            let reply = browser.get(&path).await;
            assert_rejected(&world, &reply, &callback, &case);
            let status = if case.contains("C06") { 403 } else { 400 };
            assert_eq!(reply.status.as_u16(), status, "{case}: {}", reply.reason());
            assert_eq!(world.provider.counts().token, 0, "{case}");
            assert_eq!(browser.who().await, None, "{case}");
            // What is malformed is not looked at (DESIGN, "Order at the callback").
            assert_eq!(browser.jar.pending(), usize::from(!taken), "{case}");
            let reply = browser.get(&callback).await;
            let expected = if taken { "/auth/login?again=" } else { "/deep" };
            assert!(reply.location().starts_with(expected), "{case}: {}", reply.location());
            assert_eq!(world.provider.counts().token, u64::from(!taken), "{case}");
        }
        assert_eq!(world.browser(&app, "alice").sign_in("/").await.body, "alice", "REJ(7)");
    }
}

#[tokio::test]
async fn c08_the_providers_text_is_not_shown_and_not_believed_without_state() {
    let world = World::new().await;
    let app = world.app(&world.builder().build().unwrap());
    for (name, value) in [
        ("error_description", "<script>CANARY()</script>".to_owned()),
        ("error_description", "\"><img src=x onerror=CANARY>".to_owned()),
        ("error_description", "CANARY \u{202e}\u{1f600}".to_owned()),
        ("error_description", "CANARY".repeat(9_000)),
        ("error_uri", "javascript:CANARY()".to_owned()),
        ("error_uri", "https://evil.example/CANARY".to_owned()),
        ("error", "<b>CANARY</b>".to_owned()),
        ("error", "CANARY".repeat(9_000)),
    ] {
        let (mut browser, callback) = at_callback(&world, &app).await;
        let mut path = with_parameter(&callback, "code", None);
        if name != "error" {
            path = with_parameter(&path, "error", Some("access_denied"));
        }
        let path = with_parameter(&path, name, Some(&value));
        for path in [with_parameter(&path, "state", Some("unknown")), path] {
            let reply = browser.get(&path).await;
            let case = format!("C08 {name}={}", value.get(..20).unwrap_or(&value));
            assert_rejected(&world, &reply, &callback, &case);
            assert!(!reply.body.contains("CANARY"), "{case}");
            assert!(reply.body.len() < 20_000, "{case}");
            assert_eq!(reply.header("content-type"), "text/html; charset=utf-8", "{case}");
            assert_eq!(reply.header("x-content-type-options"), "nosniff", "{case}");
            if path.contains("state=unknown") {
                assert_eq!(reply.reason(), "state_malformed/state", "{case}: a generic error");
            }
        }
        assert_eq!(world.provider.counts().token, 0);
    }
}

#[tokio::test]
async fn c09_an_error_of_the_provider_never_becomes_a_loop() {
    let world = World::new().await;
    for (backend, app) in apps(&world) {
        for (error, status) in [
            ("access_denied", 403),
            ("unmet_authentication_requirements", 403),
            ("login_required", 403),
            ("interaction_required", 403),
            ("consent_required", 403),
            ("account_selection_required", 403),
            ("temporarily_unavailable", 503),
            ("server_error", 503),
            ("invalid_scope", 502),
            ("unauthorized_client", 502),
            ("something_else", 502),
        ] {
            let case = format!("C09 {backend} {error}");
            world.provider.reset_counts();
            world.provider.on_authorization_response(move |pairs| {
                pairs.retain(|(name, _)| name != "code");
                pairs.push(("error".to_owned(), error.to_owned()));
            });
            let mut browser = world.browser(&app, "alice");
            let reply = browser.get("/deep").await;
            let reply = browser.follow(reply).await;
            world.provider.clear_faults();
            assert_eq!(reply.status.as_u16(), status, "{case}: {}", reply.reason());
            assert!(world.provider.counts().authorize <= 2, "{case}");
            assert_eq!(world.provider.counts().token, 0, "{case}");
            assert_eq!(browser.jar.pending(), 0, "B20 {case}");
            let retry = "/auth/login?return_to=%2Fdeep";
            assert!(reply.body.contains(retry), "{case}: the way back keeps the deep link");
        }
    }
}

#[tokio::test]
async fn c10_c11_c12_c13_c14_the_issuer_of_the_response_is_the_one_that_was_asked() {
    let op = TestProvider::builder().host("localhost").issuer_path("/tenant");
    let world = World::with_provider(op).await;
    let issuer = world.provider.issuer().to_owned();
    for announced in [true, false] {
        world.provider.on_discovery(move |document| {
            let name = "authorization_response_iss_parameter_supported";
            document.insert(name.to_owned(), announced.into());
        });
        for (backend, app) in apps(&world) {
            let escaped = issuer.replace('/', "%2F");
            for (iss, accepted) in [
                (Some(issuer.clone()), true),
                (None, !announced),
                (Some("https://evil.example".to_owned()), false),
                (Some(format!("{issuer}/")), false),
                (Some(issuer.replace("/tenant", "")), false),
                (Some(issuer.replace("localhost", "LOCALHOST")), false),
                (Some(issuer.replace("http:", "https:")), false),
                (Some(issuer.replace("tenant", "Tenant")), false),
                (Some(format!("{issuer}?")), false),
                (Some(format!(" {issuer}")), false),
                (Some(escaped), false),
            ] {
                let case = format!("C10-C14 {backend}, announced: {announced}, {iss:?}");
                let (mut browser, callback) = at_callback(&world, &app).await;
                let path = with_parameter(&callback, "iss", iss.as_deref());
                if accepted {
                    assert_eq!(browser.get(&path).await.location(), "/deep", "{case}");
                    continue;
                }
                // C13: an error of somebody else's is not attributed to the provider.
                let (mut second, error) = at_callback(&world, &app).await;
                let error = with_parameter(&error, "iss", iss.as_deref());
                let error = with_parameter(&error, "error", Some("access_denied"));
                for reply in [browser.get(&path).await, second.get(&error).await] {
                    assert_rejected(&world, &reply, &callback, &case);
                    assert_eq!(reply.status, StatusCode::BAD_REQUEST, "{case}");
                    assert!(reply.reason().starts_with("issuer_mismatch/"), "C13 {case}");
                }
                assert_eq!(world.provider.counts().token, 0, "{case}");
                assert_eq!(browser.jar.pending() + second.jar.pending(), 0, "B20 {case}");
            }
        }
    }
}

#[tokio::test]
async fn c18_an_injected_code_fails_by_pkce_and_without_pkce_by_the_nonce() {
    for lenient in [false, true] {
        let op = TestProvider::builder();
        let op = if lenient { op.lenient_pkce() } else { op };
        let world = World::with_provider(op).await;
        for (backend, app) in apps(&world) {
            let case = format!("C18 {backend}, lenient: {lenient}");
            let victims = world.browser(&app, "alice").to_callback("/").await;
            let stolen = parameter(&victims, "code");
            let mut attacker = world.browser(&app, "mallory");
            let own = attacker.to_callback("/").await;
            world.provider.reset_counts();
            let reply = attacker.get(&with_parameter(&own, "code", stolen.as_deref())).await;
            assert_rejected(&world, &reply, &own, &case);
            let reason = if lenient { "id_token/nonce" } else { "token_endpoint/" };
            assert!(reply.reason().starts_with(reason), "{case}: {}", reply.reason());
            assert_eq!(world.provider.counts().token, 1, "{case}");
            assert_eq!(attacker.who().await, None, "{case}");
        }
        assert!(world.provider.requests(Endpoint::Userinfo).is_empty());
    }
}

#[tokio::test]
async fn c21_c22_the_code_is_sent_on_to_the_byte_and_strange_parameters_are_not_minded() {
    let world = World::new().await;
    for (backend, app) in apps(&world) {
        let printable: String = (0x20..0x7fu8).map(char::from).collect();
        for code in [printable, "x".repeat(4096), "a+b%2Bc%25".to_owned(), " ".to_owned()] {
            let (mut browser, callback) = at_callback(&world, &app).await;
            let reply = browser.get(&with_parameter(&callback, "code", Some(&code))).await;
            assert_rejected(&world, &reply, &callback, "C21");
            let requests = world.provider.token_requests();
            assert_eq!(requests[0].form_value("code"), Some(code.as_str()), "C21 {backend}");
        }
        let (mut browser, callback) = at_callback(&world, &app).await;
        let more = "session_state=a.b&foo=bar&scope=openid&foo=again&=&state2=x&id_token=x";
        let reply = browser.get(&format!("{callback}&{more}")).await;
        assert_eq!(reply.location(), "/deep", "C22 {backend}: {}", reply.reason());
    }
}

#[tokio::test]
async fn c23_success_leads_to_a_clean_address() {
    let world = World::new().await;
    for (backend, app) in apps(&world) {
        let (mut browser, callback) = at_callback(&world, &app).await;
        let reply = browser.get(&callback).await;
        assert_eq!((reply.status, reply.location().as_str()), (StatusCode::SEE_OTHER, "/deep"));
        assert_eq!(reply.header("cache-control"), "no-store", "C23 {backend}");
        assert_eq!(reply.header("referrer-policy"), "no-referrer", "C23 {backend}");
        assert_eq!(reply.body, "", "C23 {backend}");
    }
}

#[tokio::test]
async fn c31_nobody_is_there_for_head_prefetch_and_early_data() {
    let world = World::new().await;
    for (backend, app) in apps(&world) {
        let (mut browser, callback) = at_callback(&world, &app).await;
        for (method, header, value, status) in [
            (Method::HEAD, "accept", "text/html", 405),
            (Method::GET, "sec-purpose", "prefetch", 401),
            (Method::GET, "sec-purpose", "prefetch;prerender", 401),
            (Method::GET, "purpose", "prefetch", 401),
            (Method::GET, "x-moz", "prefetch", 401),
            (Method::GET, "early-data", "1", 425),
        ] {
            let mut request = navigation(method, &callback);
            request.headers_mut().insert(header, value.parse().unwrap());
            let reply = browser.send(request).await;
            assert_eq!(reply.status.as_u16(), status, "C31 {backend} {header}: {value}");
            assert!(reply.set_cookies().is_empty(), "C31 {backend} {header}: {value}");
        }
        assert_eq!(world.provider.counts().token, 0, "C31 {backend}");
        let reply = browser.get(&callback).await;
        assert_eq!(reply.location(), "/deep", "C31 {backend}: {}", reply.reason());
    }
}

#[tokio::test]
async fn c34_a_provider_that_hangs_gets_an_answer_and_no_session() {
    use tower_pkce_auth::testing::provider::Behaviour;
    let world = World::new().await;
    for (backend, builder) in backends(&world) {
        let builder = builder.provider_timeout(Duration::from_millis(200));
        let app = world.app(&builder.build().unwrap());
        for behaviour in [Behaviour::Hang, Behaviour::Drip, Behaviour::Endless] {
            let case = format!("C34 {backend} {behaviour:?}");
            let (mut browser, callback) = at_callback(&world, &app).await;
            world.provider.set_behaviour(Endpoint::Token, behaviour);
            let guard = Duration::from_secs(15);
            let mut other = world.browser(&app, "bob");
            let (reply, meanwhile) = tokio::join!(
                tokio::time::timeout(guard, browser.get(&callback)),
                tokio::time::timeout(guard, other.get("/")),
            );
            world.provider.clear_faults();
            let reply = reply.unwrap_or_else(|_| panic!("{case}: no answer"));
            assert_rejected(&world, &reply, &callback, &case);
            assert!(matches!(reply.status.as_u16(), 502..=504), "{case}: {}", reply.status);
            assert_eq!(meanwhile.unwrap().status, StatusCode::FOUND, "{case}");
            assert_eq!(browser.who().await, None, "{case}");
            assert_eq!(world.provider.counts().token, 1, "{case}: nothing is sent twice");
            assert_eq!(browser.sign_in("/").await.body, "alice", "{case}");
        }
    }
}
