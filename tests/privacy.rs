//! What nobody may read (group P): the log at its most talkative, error pages, `Debug` output, and
//! what goes to the provider.

#[path = "support/log.rs"]
mod log;
#[path = "support/pods.rs"]
mod pods;
mod support;

use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::http::{Method, StatusCode};
use base64::Engine as _;
use base64::prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD};
use log::Log;
use pods::{Kept, seconds};
use support::{Browser, Reply, World, fetch, navigation, parameter, with_parameter};
use tower_pkce_auth::testing::provider::{Behaviour, Endpoint, TestProvider, TestUser};
use tower_pkce_auth::{StoreErrorKind, Userinfo};
use tracing::level_filters::LevelFilter;

/// Secrets of a run, each with a name.
#[derive(Clone, Default)]
struct Canaries(Arc<Mutex<Vec<(String, String)>>>);

impl Canaries {
    fn add(&self, name: &str, secret: impl Into<String>) {
        let secret = secret.into();
        if secret.len() >= 8 {
            self.0.lock().unwrap().push((name.to_owned(), secret));
        }
    }

    /// Cookies of a browser, with and without what stands before the first dot.
    fn add_cookies(&self, browser: &Browser) {
        for ((name, _), value) in &browser.jar.0 {
            self.add(name, value.clone());
            if let Some((_, sealed)) = value.split_once('.') {
                self.add(name, sealed);
            }
        }
    }

    fn assert_absent(&self, text: &str, place: &str) {
        for (name, secret) in self.0.lock().unwrap().iter() {
            let escaped: String = url::form_urlencoded::byte_serialize(secret.as_bytes()).collect();
            for spelling in [
                secret.clone(),
                escaped,
                BASE64_STANDARD.encode(secret),
                BASE64_URL_SAFE_NO_PAD.encode(secret),
            ] {
                let at = text.find(&spelling);
                let around = at.map(|at| &text[at.saturating_sub(80).min(at)..at]);
                assert_eq!(around, None, "P01 P04: {name} is shown in {place}");
            }
        }
    }

    fn len(&self) -> usize {
        self.0.lock().unwrap().len()
    }
}

const SECRET: &str = "canary~client~secret";

const SAID: &str = "canary-error-description";

/// A world whose every secret is written down.
async fn world() -> (World, Canaries) {
    let provider =
        TestProvider::builder().client_secret(SECRET).refresh_tokens(true).expires_in(seconds(300));
    let world = World::with_provider(provider).await;
    let canaries = Canaries::default();
    canaries.add("client secret", SECRET);
    canaries.add("basic credentials", format!("app:{SECRET}"));
    canaries.add("error_description", SAID);
    collect_tokens(&world, &canaries);
    (world, canaries)
}

fn collect_tokens(world: &World, canaries: &Canaries) {
    let sink = canaries.clone();
    world.provider.on_token_response(move |response| {
        for name in ["access_token", "refresh_token", "id_token"] {
            if let Some(token) = response.get(name).and_then(|token| token.as_str()) {
                sink.add(name, token);
                // Any part of a token is enough to recognise it.
                token.split('.').for_each(|part| sink.add(name, part));
            }
        }
    });
}

/// Signs in and writes down what passed through the browser; returns the callback.
async fn to_callback(browser: &mut Browser, canaries: &Canaries) -> String {
    let url = browser.to_provider("/page?query=canary-of-a-query").await;
    for name in ["state", "nonce", "code_challenge"] {
        canaries.add(name, parameter(&url, name).unwrap());
    }
    canaries.add_cookies(browser);
    let location = browser.provider.authorize_as(&url, &browser.user).await.unwrap();
    let callback = browser.local(&location);
    canaries.add("code", parameter(&callback, "code").unwrap_or_default());
    callback
}

#[tokio::test]
async fn p01_p03_p04_o01_h26_no_secret_is_logged_or_shown() {
    let log = Log::default();
    let _guard = log.listen(LevelFilter::TRACE);
    for kept in Kept::ALL {
        let (world, canaries) = world().await;
        let (app, store) = kept.pod(&world, |builder| {
            builder.userinfo(Userinfo::Optional).provider_timeout(Duration::from_millis(200))
        });
        let mut shown = String::new();
        let mut show = |reply: &Reply| {
            let headers = reply.headers.iter().filter(|(name, _)| {
                // These two carry secrets by design: sealed cookies, state and hints.
                !["set-cookie", "location"].contains(&name.as_str())
            });
            shown.extend(headers.map(|(name, value)| format!("{name}: {value:?}\n")));
            shown.push_str(&reply.body);
        };
        // A login, requests, a refresh.
        let mut browser = world.browser(&app, "alice");
        let callback = to_callback(&mut browser, &canaries).await;
        show(&browser.get(&callback).await);
        canaries.add_cookies(&browser);
        for _ in 0..2 {
            for path in
                ["/who", "/claims", "/auth/session", "/auth/logout", "/auth/login?return_to=/x"]
            {
                show(&browser.get(path).await);
            }
            world.clock.advance(seconds(280));
        }
        canaries.add_cookies(&browser);
        // The callback once more, tampered with, in another browser.
        for changed in [
            callback.clone(),
            with_parameter(&callback, "state", Some("canary-state")),
            with_parameter(&callback, "code", None),
            format!("{callback}&code=second"),
            format!(
                "{}&error=server_error&error_description={SAID}",
                with_parameter(&callback, "code", None)
            ),
        ] {
            show(&world.browser(&app, "bob").get(&changed).await);
            show(&browser.clone().get(&changed).await);
        }
        // Failures at each endpoint of the provider.
        for (endpoint, behaviour) in [
            (
                Endpoint::Token,
                Behaviour::json(
                    400,
                    format!(r#"{{"error":"invalid_grant","error_description":"{SAID}"}}"#),
                ),
            ),
            (
                Endpoint::Token,
                Behaviour::json(
                    401,
                    format!(r#"{{"error":"invalid_client","error_description":"{SAID}"}}"#),
                ),
            ),
            (Endpoint::Token, Behaviour::json(200, format!("{{\"error\": \"{SAID}\""))),
            (Endpoint::Token, Behaviour::json(500, SAID)),
            (Endpoint::Token, Behaviour::Hang),
            (Endpoint::Token, Behaviour::Refuse),
            (Endpoint::Userinfo, Behaviour::json(500, SAID)),
            (Endpoint::Revocation, Behaviour::json(500, SAID)),
        ] {
            world.provider.set_behaviour(endpoint, behaviour);
            let mut visitor = world.browser(&app, "bob");
            let callback = to_callback(&mut visitor, &canaries).await;
            show(&visitor.get(&callback).await);
            world.provider.set_behaviour(endpoint, Behaviour::Normal);
        }
        for (name, lie) in [("nonce", SAID), ("sub", ""), ("iss", SAID), ("exp", SAID)] {
            world.provider.on_id_token(move |draft| draft.set(name, lie));
            let mut visitor = world.browser(&app, "bob");
            let callback = to_callback(&mut visitor, &canaries).await;
            show(&visitor.get(&callback).await);
        }
        // Refusals, an outage, the end.
        show(&browser.send(fetch(Method::POST, "/page?query=canary-of-a-query")).await);
        let mut foreign = navigation(Method::POST, "/auth/logout");
        foreign.headers_mut().insert("sec-fetch-site", "cross-site".parse().unwrap());
        show(&browser.send(foreign).await);
        store.fail(StoreErrorKind::Unavailable);
        show(&browser.clone().get("/who").await);
        show(&browser.clone().get("/auth/login?switch=1").await);
        store.recover();
        canaries.add_cookies(&browser);
        show(&browser.post("/auth/logout").await);
        show(&browser.get("/auth/signed-out").await);
        for request in world.provider.token_requests() {
            canaries.add("verifier", request.form_value("code_verifier").unwrap_or_default());
            canaries.add("basic", request.header("authorization").unwrap_or_default());
        }
        assert!(canaries.len() > 60, "{kept:?}: {} canaries", canaries.len());
        canaries.assert_absent(&shown, &format!("an answer, {kept:?}"));
        let text = log.text();
        for word in ["signed in", "signed out", "cross_site", "invalid_grant", "nonce"] {
            assert!(text.contains(word), "{kept:?}: the log says nothing of {word}");
        }
        canaries.assert_absent(&text, &format!("the log, {kept:?}"));
        for place in ["code=", "state=", "id_token_hint=", "?error", "canary-of-a-query"] {
            assert!(!text.contains(place), "P03 {kept:?}: a query is logged: {place}");
        }
    }
}

#[tokio::test]
async fn p05_what_attackers_write_is_not_in_the_log() {
    let log = Log::default();
    let _guard = log.listen(LevelFilter::TRACE);
    let world = World::new().await;
    let (app, _) = Kept::Sealed.pod(&world, |builder| builder);
    let nasty = "forged\u{1b}[31m\u{202e}\nforged";
    let escaped = "forged%1b%5b31m%e2%80%ae%0aforged";
    let mut browser = world.browser(&app, "alice");
    for path in [
        format!("/{escaped}"),
        format!("/auth/login?return_to=/{escaped}&again={escaped}"),
        format!("/auth/callback?state={escaped}&code={escaped}&error={escaped}&iss={escaped}"),
        format!("/auth/signed-out?{escaped}"),
        format!("/auth/callback?state={}", "forged".repeat(8_000)),
    ] {
        let mut request = navigation(Method::GET, &path);
        for name in ["user-agent", "origin", "referer", "x-request-id", "hx-current-url", "cookie"]
        {
            let text = format!("forged{}", "x".repeat(10_000));
            request.headers_mut().insert(name, text.parse().unwrap());
        }
        browser.send(request).await;
    }
    let url = browser.to_provider("/").await;
    let callback = browser.local(&world.provider.authorize_as(&url, "alice").await.unwrap());
    let callback = with_parameter(&callback, "iss", Some("https://forged.example"));
    assert_eq!(browser.get(&callback).await.reason(), "issuer_mismatch/iss");
    for (header, claim) in [("kid", "sub"), ("alg", "iss"), ("typ", "aud")] {
        world.provider.on_id_token(move |draft| {
            draft.header.insert(header.to_owned(), nasty.into());
            draft.set(claim, nasty);
        });
        let reply = world.browser(&app, "alice").sign_in("/").await;
        assert_eq!(reply.status, StatusCode::BAD_GATEWAY, "{header}");
        assert!(!reply.body.contains("forged"), "P04 {header}");
    }
    let answer = serde_json::json!({"error": nasty, "error_description": nasty}).to_string();
    world.provider.set_behaviour(Endpoint::Token, Behaviour::json(400, answer));
    world.browser(&app, "alice").sign_in("/").await;
    let text = log.text();
    assert!(text.contains("request refused"), "something is logged");
    for part in ["forged", "\u{1b}", "\u{202e}"] {
        assert!(!text.contains(part), "P05: {part:?}");
    }
    let longest = text.lines().map(str::len).max().unwrap();
    assert!(longest < 1_000, "P05: a line of {longest} bytes");
}

/// Each refusal leaves one event with its reason, and each good end one as well.
#[tokio::test]
async fn p06_security_events_bear_stable_reason_codes() {
    let log = Log::default();
    let _guard = log.listen(LevelFilter::TRACE);
    let world = World::new().await;
    let (app, store) = Kept::StoredShared.pod(&world, |builder| builder);
    let mut browser = world.browser(&app, "alice");

    let callback = browser.to_callback("/").await;
    log.take_lines();
    browser.get(&callback).await;
    assert_one(&log.take_lines(), "signed in", "login");
    let reply = world.browser(&app, "bob").get("/auth/callback?code=x&state=y").await;
    assert_reason(&log.take_lines(), &reply, "state_malformed", "tampering");
    let reply = browser.send(fetch(Method::DELETE, "/x")).await;
    assert_eq!(reply.status, StatusCode::OK, "same origin");
    let mut foreign = fetch(Method::DELETE, "/x");
    foreign.headers_mut().insert("sec-fetch-site", "cross-site".parse().unwrap());
    log.take_lines();
    let reply = browser.send(foreign).await;
    assert_reason(&log.take_lines(), &reply, "cross_site", "CSRF");
    for (name, change, reason) in [
        ("mix-up", "iss", "issuer_mismatch"),
        ("refused at the provider", "error", "access_denied"),
    ] {
        let mut visitor = world.browser(&app, "bob");
        let callback = visitor.to_callback("/").await;
        let changed = match change {
            "iss" => with_parameter(&callback, "iss", Some("https://other.example")),
            _ => with_parameter(&callback, "error", Some("access_denied")),
        };
        log.take_lines();
        let reply = visitor.get(&changed).await;
        assert_reason(&log.take_lines(), &reply, reason, name);
    }
    for (name, behaviour, reason) in [
        ("code refused", Behaviour::json(400, r#"{"error":"invalid_grant"}"#), "token_endpoint"),
        ("provider away", Behaviour::Refuse, "provider_unavailable"),
    ] {
        let mut visitor = world.browser(&app, "bob");
        let callback = visitor.to_callback("/").await;
        world.provider.set_behaviour(Endpoint::Token, behaviour);
        log.take_lines();
        let reply = visitor.get(&callback).await;
        assert_reason(&log.take_lines(), &reply, reason, name);
        world.provider.clear_faults();
    }
    store.fail(StoreErrorKind::TimedOut);
    log.take_lines();
    let reply = browser.get("/who").await;
    assert_reason(&log.take_lines(), &reply, "store_unavailable", "store outage");
    store.recover();
    log.take_lines();
    browser.post("/auth/logout").await;
    assert_one(&log.take_lines(), "signed out", "logout");
    let reply = browser.get("/who").await;
    assert_reason(&log.take_lines(), &reply, "not_signed_in", "nobody");
}

fn assert_one(lines: &[String], text: &str, what: &str) {
    let found = lines.iter().filter(|line| line.contains(text)).count();
    assert_eq!(found, 1, "P06 {what}: {lines:#?}");
}

fn assert_reason(lines: &[String], reply: &Reply, reason: &str, what: &str) {
    let told: Vec<_> = lines.iter().filter(|line| line.contains("reason=")).collect();
    assert_eq!(told.len(), 1, "P06 {what}: exactly one event: {told:#?}");
    assert!(told[0].contains(&format!("reason=\"{reason}\"")), "P06 {what}: {}", told[0]);
    let error = reply.error.as_ref().unwrap_or_else(|| panic!("{what}: no error"));
    assert_eq!(error.kind().code(), reason, "P06 {what}");
    assert!(told[0].contains(&error.reference()), "P04 P06 {what}: the reference leads to it");
}

#[tokio::test]
async fn p11_p07_the_log_does_not_say_who() {
    let log = Log::default();
    let _guard = log.listen(LevelFilter::TRACE);
    let world = World::new().await;
    world.provider.add_user(
        TestUser::new("canary-sub").name("Canary Name").email("canary@example.com", true),
    );
    for kept in Kept::ALL {
        let (app, _) = kept.pod(&world, |builder| builder.scope("profile").scope("email"));
        let mut browser = world.browser(&app, "canary-sub");
        assert_eq!(browser.sign_in("/").await.body, "canary-sub");
        let reply = browser.send(navigation(Method::POST, "/x")).await;
        assert_eq!(reply.status, StatusCode::OK, "typed by the person");
        browser.post("/auth/logout").await;
        let text = log.text().to_lowercase();
        assert!(text.contains("signed in") && !text.contains("canary"), "P11 {kept:?}");
    }
}
