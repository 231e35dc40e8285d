//! Group A: the start of a login, and what the provider is asked.

mod support;

use std::collections::{BTreeMap, HashSet};

use axum::body::Body;
use axum::http::{Method, Request, StatusCode};
use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use support::{App, Browser, ORIGIN, Reply, World, navigation, parameter};
use tower_pkce_auth::testing::provider::{Endpoint, TestProvider};
use tower_pkce_auth::{Builder, ClientId, MemoryStore, Pending, PkceAuthLayer};

/// The three places a pending login may lie in.
fn backends(world: &World) -> [(&'static str, Builder); 3] {
    let store = MemoryStore::shared_between_pods(world.clock.clone());
    [
        ("memory", world.builder().pending(Pending::Memory)),
        ("sealed", world.builder().pending(Pending::Sealed)),
        ("store", world.builder().pending(Pending::Store).store(store)),
    ]
}

fn app(world: &World) -> App {
    world.app(&world.builder().build().unwrap())
}

fn pairs(url: &str) -> Vec<(String, String)> {
    let (_, query) = url.split_once('?').unwrap();
    url::form_urlencoded::parse(query.as_bytes()).into_owned().collect()
}

fn with_headers(mut request: Request<Body>, headers: &[(&'static str, &str)]) -> Request<Body> {
    for (name, value) in headers {
        request.headers_mut().insert(*name, value.parse().unwrap());
    }
    request
}

/// Where the bytes of `needle` would show, in any of the ways a value is written down.
fn shows(haystack: &[u8], needle: &str) -> bool {
    let hex: String = needle.bytes().map(|b| format!("{b:02x}")).collect();
    let b64 = BASE64_URL_SAFE_NO_PAD.encode(needle);
    let find = |n: &str| haystack.windows(n.len()).any(|w| w == n.as_bytes());
    find(needle) || find(&hex) || find(&b64)
}

/// Everything a reply lets the browser see, with every base64 word decoded as well.
fn all_bytes(reply: &Reply) -> Vec<u8> {
    let mut text = reply.body.clone();
    for (name, value) in &reply.headers {
        text += &format!("\n{name}: {}", String::from_utf8_lossy(value.as_bytes()));
    }
    let mut bytes = text.clone().into_bytes();
    bytes.extend(url::form_urlencoded::parse(text.as_bytes()).flat_map(|(k, v)| {
        let mut pair = k.into_owned().into_bytes();
        pair.extend(v.bytes());
        pair
    }));
    let word = |c: char| !(c.is_ascii_alphanumeric() || c == '-' || c == '_');
    for word in text.split(word) {
        for cut in 0..4.min(word.len()) {
            let whole = &word[..word.len() - cut];
            bytes.extend(BASE64_URL_SAFE_NO_PAD.decode(whole).unwrap_or_default());
        }
    }
    bytes
}

#[tokio::test]
async fn a01_a02_a05_a12_a22_a24_a29_every_way_to_start_asks_for_the_same_little() {
    let world = World::new().await;
    for (backend, builder) in backends(&world) {
        let app = world.app(&builder.build().unwrap());
        let stranger = world.browser(&app, "alice");
        let mut member = world.browser(&app, "alice");
        member.sign_in("/").await;
        let callback = stranger.clone().to_callback("/deep").await;
        let restart = stranger.clone().get(&callback).await.location();
        assert!(restart.starts_with("/auth/login?again="), "{backend}: {restart}");
        for (case, mut browser, path, prompt) in [
            ("a protected path", stranger.clone(), "/deep", None),
            ("the endpoint", stranger.clone(), "/auth/login?return_to=/a", None),
            ("a restart", stranger.clone(), restart.as_str(), None),
            ("another account", member, "/auth/login?switch=1", Some("select_account")),
        ] {
            let url = browser.to_provider(path).await;
            let case = format!("{backend}, {case}: {url}");
            let given = pairs(&url);
            let map: BTreeMap<_, _> = given.iter().cloned().collect();
            assert_eq!(given.len(), map.len(), "A16 nothing twice; {case}");
            let get = |name: &str| map.get(name).map(String::as_str);
            assert_eq!(get("response_type"), Some("code"), "A02 {case}");
            assert_eq!(get("scope"), Some("openid"), "A01 A24 {case}");
            assert_eq!(get("code_challenge_method"), Some("S256"), "A05 {case}");
            assert_eq!(get("code_challenge").map(str::len), Some(43), "A05 {case}");
            assert_eq!(get("prompt"), prompt, "A22 {case}");
            let (nonce, state) = (get("nonce").unwrap(), get("state").unwrap());
            assert!((22..=64).contains(&nonce.len()), "A12 {case}");
            assert!(nonce != state && Some(nonce) != get("code_challenge"), "A12 {case}");
            assert!(!state.contains(nonce), "A12 {case}");
            for absent in ["request", "request_uri", "claims", "login_hint", "code_verifier"] {
                assert_eq!(get(absent), None, "A29 {case}");
            }
            let known = [
                "client_id",
                "code_challenge",
                "code_challenge_method",
                "nonce",
                "prompt",
                "redirect_uri",
                "response_type",
                "scope",
                "state",
            ];
            assert!(map.keys().all(|name| known.contains(&name.as_str())), "A22 {case}");
        }
    }
}

#[tokio::test]
async fn a03_the_redirect_uri_is_configured_and_nobody_changes_it() {
    let world = World::new().await;
    let app = app(&world);
    for (uri, headers) in [
        ("/auth/login", &[("host", "evil.example")][..]),
        ("/auth/login", &[("x-forwarded-host", "evil.example"), ("x-forwarded-proto", "https")]),
        ("/auth/login", &[("forwarded", "host=evil.example;proto=https")]),
        ("/auth/login", &[("x-original-url", "https://evil.example/")]),
        ("http://evil.example/auth/login", &[]),
        ("http://evil.example:8080/auth/login?redirect_uri=https://evil.example/cb", &[]),
    ] {
        let request = with_headers(navigation(Method::GET, uri), headers);
        let reply = support::send(&app, request).await;
        let uri_at_op = parameter(&reply.location(), "redirect_uri");
        let ours = format!("{ORIGIN}/auth/callback");
        assert_eq!(uri_at_op, Some(ours), "A03 {uri} {headers:?}");
        assert!(!reply.location().contains("evil"), "A03 {uri} {headers:?}");
    }
}

#[tokio::test]
async fn a04_a16_a31_settings_that_weaken_the_request_are_refused() {
    let builder = |issuer: &str, url: &str| {
        PkceAuthLayer::builder(issuer.parse().unwrap(), ClientId::new("a"), url.parse().unwrap())
            .public_client()
            .cookie_keys(tower_pkce_auth::CookieKeys::random())
    };
    let op = "https://op.example";
    let error = builder(op, "http://rp.example").build().unwrap_err();
    assert!(error.problems()[0].contains("http://rp.example"), "A04 {error}");
    for loopback in ["http://127.0.0.1:8080", "http://localhost", "https://rp.example"] {
        assert!(builder(op, loopback).build().is_ok(), "A04 {loopback}");
    }
    let error = builder("http://op.example", "https://rp.example").build().unwrap_err();
    assert!(error.problems()[0].contains("http://op.example"), "A31 {error}");
    for name in ["state", "nonce", "redirect_uri", "code_challenge", "response_type", "scope"] {
        let error = builder(op, "https://rp.example").extra_parameter(name, "x").build();
        let error = error.unwrap_err();
        assert!(error.problems()[0].contains(name), "A16 {error}");
    }
}

#[tokio::test]
async fn a06_a07_a10_all_that_must_be_fresh_is_fresh_on_every_pod() {
    let world = World::new().await;
    let mut seen = HashSet::new();
    for (backend, _) in backends(&world) {
        // Two pods, each start in a browser of its own.
        for pod in 0..2 {
            let (_, builder) = backends(&world).into_iter().find(|b| b.0 == backend).unwrap();
            let app = world.app(&builder.build().unwrap());
            let mut prefixes = HashSet::new();
            for _ in 0..400 {
                let reply = support::send(&app, navigation(Method::GET, "/auth/login")).await;
                let url = reply.location();
                let values =
                    ["state", "nonce", "code_challenge"].map(|n| parameter(&url, n).unwrap());
                let state = &values[0];
                assert!(state.len() >= 22, "A10");
                assert!(BASE64_URL_SAFE_NO_PAD.decode(state).is_ok(), "A10 {state}");
                prefixes.insert(state[..4].to_owned());
                for value in values {
                    assert!(seen.insert(value), "A07 a value came twice: {backend}, pod {pod}");
                }
            }
            // 400 of 2^24: more than two that begin alike would be structure.
            assert!(prefixes.len() >= 398, "A10 {backend}: {} prefixes", prefixes.len());
        }
    }
}

#[tokio::test]
async fn a06_a09_a11_the_verifier_is_strong_and_stays_with_us_and_state_tells_nothing() {
    let world = World::new().await;
    for (backend, builder) in backends(&world) {
        let app = world.app(&builder.build().unwrap());
        let mut verifiers = HashSet::new();
        for _ in 0..8 {
            world.provider.reset_counts();
            let mut browser = world.browser(&app, "alice");
            let mut shown = Vec::new();
            let reply = browser.get("/secret/CANARY?q=CANARY").await;
            let reply = browser.get(&reply.location()).await;
            let url = reply.location();
            assert!(!shows(&all_bytes(&reply), "CANARY"), "A11 {backend}");
            shown.extend(all_bytes(&reply));
            let callback = world.provider.authorize_as(&url, "alice").await.unwrap();
            let reply = browser.get(&browser.local(&callback)).await;
            shown.extend(all_bytes(&reply));
            let reply = browser.follow(reply).await;
            assert_eq!(reply.body, "alice", "{backend}");
            shown.extend(all_bytes(&reply));
            shown.extend(url.bytes().chain(callback.bytes()));

            let verifier = {
                let requests = world.provider.token_requests();
                assert_eq!(requests.len(), 1);
                requests[0].form_value("code_verifier").unwrap().to_owned()
            };
            assert!(!shows(&shown, &verifier), "A09 {backend}: the verifier shows");
            let at_op = world.provider.requests(Endpoint::Authorize);
            assert!(!at_op[0].uri.contains(&verifier), "A09 {backend}");
            assert!((43..=128).contains(&verifier.len()), "A06");
            let allowed = |b: u8| b.is_ascii_alphanumeric() || b"-._~".contains(&b);
            assert!(verifier.bytes().all(allowed), "A06");
            assert!(entropy(&verifier) > 180.0, "A06 {}", entropy(&verifier));
            assert!(verifiers.insert(verifier), "A07");
        }
    }
}

/// Shannon entropy over the whole value, in bits, as the conformance suite measures it.
fn entropy(text: &str) -> f64 {
    let mut counts = BTreeMap::new();
    for byte in text.bytes() {
        *counts.entry(byte).or_insert(0.0) += 1.0;
    }
    let length = f64::from(u16::try_from(text.len()).unwrap());
    let bits = |n: &f64| -(n / length) * (n / length).log2();
    counts.values().map(bits).sum::<f64>() * length
}

#[tokio::test]
async fn a15_a22_b03_what_a_visitor_adds_to_the_login_link_goes_nowhere() {
    let client = "a b&c=d+/é";
    let world = World::with_provider(TestProvider::builder().client_id(client)).await;
    for (backend, builder) in backends(&world) {
        let app = world.app(&builder.build().unwrap());
        let mut browser = world.browser(&app, "alice");
        let link = "/auth/login?prompt=none&acr_values=x&max_age=999999&foo=bar&ui_locales=de\
                    &login_hint=x%26prompt%3Dnone%26redirect_uri%3Dhttps%3A%2F%2Fevil.example\
                    &state=SUPPLIED&nonce=SUPPLIED&code_verifier=SUPPLIED&session=SUPPLIED\
                    &auth_session_id=SUPPLIED&client_id=SUPPLIED&iss=https%3A%2F%2Fevil.example\
                    &redirect_uri=https%3A%2F%2Fevil.example&scope=SUPPLIED&response_type=token";
        let reply = browser.get(link).await;
        let url = reply.location();
        for gone in ["SUPPLIED", "evil", "foo", "prompt", "acr", "max_age", "ui_locales", "hint"] {
            assert!(!url.contains(gone), "A22 B03 {backend}: {gone} in {url}");
        }
        assert!(!reply.set_cookies().join(" ").contains("SUPPLIED"), "B03 {backend}");
        assert_eq!(parameter(&url, "client_id").as_deref(), Some(client), "A15 {url}");
        assert!(browser.jar.ending("SUPPLIED").is_none(), "B03");
        let callback = world.provider.authorize(&url).await.unwrap();
        let reply = browser.get(&browser.local(&callback)).await;
        assert_eq!(reply.status, StatusCode::SEE_OTHER, "A15 {backend}: {}", reply.reason());
    }
}

#[tokio::test]
async fn a23_offline_access_is_only_asked_for_by_setting_and_then_with_consent() {
    let world = World::new().await;
    let layer = world.builder().scope("offline_access").build().unwrap();
    let url = world.browser(&world.app(&layer), "alice").to_provider("/").await;
    assert_eq!(parameter(&url, "scope").as_deref(), Some("openid offline_access"));
    let prompt = parameter(&url, "prompt").unwrap();
    assert!(prompt.split(' ').any(|word| word == "consent"), "A23 {prompt}");
}

#[tokio::test]
async fn a26_a27_a_started_login_never_costs_the_session_that_stands() {
    let world = World::new().await;
    for (backend, builder) in backends(&world) {
        let app = world.app(&builder.build().unwrap());
        let mut browser: Browser = world.browser(&app, "alice");
        browser.sign_in("/").await;
        // The provider would sign mallory in without a question.
        browser.user = "mallory".to_owned();
        for site in ["cross-site", "same-site"] {
            for path in ["/auth/login", "/auth/login?switch=1", "/auth/login?switch=1&return_to=/a"]
            {
                let headers = [("sec-fetch-site", site)];
                let request = with_headers(navigation(Method::GET, path), &headers);
                let reply = browser.send(request).await;
                assert_eq!(reply.status, StatusCode::SEE_OTHER, "A26 {backend} {site} {path}");
                assert!(reply.location().starts_with('/'), "A26 {backend} {site} {path}");
                assert_eq!(browser.who().await.as_deref(), Some("alice"), "A26 {backend}");
            }
        }
        // From our own page: it starts, and is abandoned.
        let url = browser.to_provider("/auth/login?switch=1").await;
        assert_eq!(parameter(&url, "prompt").as_deref(), Some("select_account"));
        assert_eq!(browser.who().await.as_deref(), Some("alice"), "A27 {backend}");
    }
}

#[tokio::test]
async fn a28_a_very_long_address_inflates_nothing_and_the_login_completes() {
    let world = World::new().await;
    for (backend, builder) in backends(&world) {
        let app = world.app(&builder.build().unwrap());
        let mut browser = world.browser(&app, "alice");
        for path in [
            format!("/{}", "a".repeat(20_000)),
            format!("/auth/login?return_to=/{}", "a".repeat(20_000)),
            format!("/auth/login?again={}", "a".repeat(20_000)),
        ] {
            let reply = browser.get(&path).await;
            assert!(reply.location().len() <= 4096, "A28 {backend}");
            let reply = browser.follow(reply).await;
            assert_eq!(reply.body, "alice", "A28 {backend} {}", reply.reason());
            let seen = world.seen.lock().unwrap().pop().unwrap();
            assert_eq!(seen.uri, "/", "A28 {backend}");
            let long = browser.jar.0.values().map(String::len).max();
            assert!(long < Some(4000), "A28 {backend}");
            browser.jar.0.clear();
        }
    }
}
