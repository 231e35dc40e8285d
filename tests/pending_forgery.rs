//! Group B: a `state` or a cookie that is not exactly ours is no pending login.

mod support;

use axum::http::StatusCode;
use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use support::{App, Browser, Reply, World, parameter, with_parameter};
use tower_pkce_auth::{Builder, CookieKeys, MemoryStore, Pending};

/// The three places a pending login may lie in, with the store where there is one.
fn backends(world: &World) -> [(&'static str, Builder, MemoryStore); 3] {
    let store = || MemoryStore::shared_between_pods(world.clock.clone());
    [("memory", Pending::Memory), ("sealed", Pending::Sealed), ("store", Pending::Store)].map(
        |(name, pending)| {
            let (store, builder) = (store(), world.builder().pending(pending));
            (name, builder.store(store.clone()), store)
        },
    )
}

fn app(world: &World, builder: Builder) -> App {
    world.app(&builder.build().unwrap())
}

fn assert_no_session(reply: &Reply, case: &str) {
    let session = |cookie: &&str| cookie.split('=').next().is_some_and(|n| n.ends_with("-s"));
    assert!(!reply.set_cookies().iter().any(session), "{case}");
    assert_eq!(reply.header("cache-control"), "no-store", "{case}");
}

/// Every byte as an escape: the same bytes after exactly one decoding.
fn escaped(text: &str) -> String {
    text.bytes().map(|byte| format!("%{byte:02x}")).collect()
}

#[tokio::test]
async fn b04_b09_c03_c04_a_state_that_is_not_ours_is_always_a_400() {
    let world = World::new().await;
    for (backend, builder, store) in backends(&world) {
        let app = app(&world, builder);
        let mut browser = world.browser(&app, "alice");
        let callback = browser.to_callback("/deep").await;
        let state = parameter(&callback, "state").unwrap();
        let foreign = {
            let other = world.builder().cookie_keys(CookieKeys::random());
            let other = self::app(&world, other);
            let url = world.browser(&other, "alice").to_provider("/").await;
            parameter(&url, "state").unwrap()
        };
        let (written, asked) = (store.len(), world.provider.counts().token);
        let mut padded = BASE64_URL_SAFE_NO_PAD.decode(&state).unwrap();
        padded.push(0);
        let swapped: String = state
            .chars()
            .map(|c| if c.is_lowercase() { c.to_ascii_uppercase() } else { c.to_ascii_lowercase() })
            .collect();
        for (case, given) in [
            ("OIDF: state + \"1\"", format!("{state}1")),
            ("a space after", format!("{state}%20")),
            ("a plus after", format!("{state}+")),
            ("a space before", format!("%20{state}")),
            ("padding", format!("{state}=")),
            ("more padding", format!("{state}%3d%3d")),
            ("one byte more", BASE64_URL_SAFE_NO_PAD.encode(padded)),
            ("upper case", state.to_ascii_uppercase()),
            ("lower case", state.to_ascii_lowercase()),
            ("cases swapped", swapped),
            ("the other alphabet", format!("{}%2b", &state[..state.len() - 1])),
            ("cut by one", state[..state.len() - 1].to_owned()),
            ("cut by four", state[..state.len() - 4].to_owned()),
            ("only the random part", BASE64_URL_SAFE_NO_PAD.encode([7; 16])),
            ("a short one", "x".to_owned()),
            ("random text", "A".repeat(200)),
            ("encoded twice", escaped(&escaped(&state))),
            ("full-width", format!("%ef%bc%a1{state}")),
            ("a line end", format!("{state}%0d%0a")),
            ("NUL", "%00".to_owned()),
            ("binary", "%ff%fe%80".to_owned()),
            ("60 KB", "A".repeat(60_000)),
            ("ours and 60 KB", format!("{state}{}", "A".repeat(60_000))),
            ("another ring", foreign),
            ("empty", String::new()),
        ] {
            let case = format!("B04 B09 {backend}, {case}");
            let path = callback.replace(&state, &given);
            for mut browser in [browser.clone(), world.browser(&app, "alice")] {
                let reply = browser.get(&path).await;
                assert_eq!(reply.status, StatusCode::BAD_REQUEST, "{case}: {}", reply.reason());
                assert_no_session(&reply, &case);
                assert_eq!(reply.page(), Some("bad-request"), "{case}");
            }
        }
        for path in [with_parameter(&callback, "state", None), "/auth/callback".to_owned()] {
            let reply = browser.get(&path).await;
            assert_eq!(reply.status, StatusCode::BAD_REQUEST, "C03 {backend} {path}");
            assert_no_session(&reply, backend);
        }
        assert_eq!(store.len(), written, "B09 {backend}: nothing is written for them");
        assert_eq!(world.provider.counts().token, asked, "B09 {backend}");
        // The same bytes in another spelling are the same state; nothing above burnt the login.
        let path = callback.replace(&state, &escaped(&state));
        assert_eq!(browser.get(&path).await.location(), "/deep", "B04 {backend}");
    }
}

#[tokio::test]
async fn b04_parts_of_two_states_do_not_make_a_login() {
    let world = World::new().await;
    for (backend, builder, _) in backends(&world) {
        let app = app(&world, builder);
        let mut browser = world.browser(&app, "alice");
        let mut bytes = Vec::new();
        let mut callbacks = Vec::new();
        for path in ["/one", "/two"] {
            callbacks.push(browser.to_callback(path).await);
            let state = parameter(callbacks.last().unwrap(), "state").unwrap();
            bytes.push(BASE64_URL_SAFE_NO_PAD.decode(state).unwrap());
        }
        // Random bytes nobody made, with a ticket that is ours: an unusable login.
        let mut unknown = bytes[0].clone();
        unknown[3] ^= 1;
        let unknown = BASE64_URL_SAFE_NO_PAD.encode(unknown);
        let reply = browser.get(&with_parameter(&callbacks[0], "state", Some(&unknown))).await;
        assert!(reply.location().starts_with("/auth/login?again="), "C04 {backend}");
        assert_eq!(world.provider.counts().token, 0, "C04 {backend}");
        assert_no_session(&reply, backend);
        for callback in callbacks {
            let reply = browser.get(&callback).await;
            assert_eq!(reply.status, StatusCode::SEE_OTHER, "{backend}: both still complete");
            assert!(["/one", "/two"].contains(&reply.location().as_str()), "{backend}");
        }
        world.provider.reset_counts();
    }
}

fn pending_key(browser: &Browser) -> (String, String) {
    let mut keys = browser.jar.0.keys().filter(|(name, _)| name.contains("-p-"));
    keys.next().unwrap().clone()
}

#[tokio::test]
async fn b10_a_cookie_that_was_changed_or_moved_is_no_pending_login() {
    let world = World::new().await;
    for (backend, builder, store) in backends(&world) {
        let app = app(&world, builder);
        let mut browser = world.browser(&app, "alice");
        let callback = browser.to_callback("/deep").await;
        let key = pending_key(&browser);
        let value = browser.jar.0[&key].clone();

        let mut forged: Vec<(String, String)> = Vec::new();
        for at in 0..value.len() {
            let other = if value.as_bytes()[at] == b'A' { "B" } else { "A" };
            let mut changed = value.clone();
            changed.replace_range(at..=at, other);
            forged.push((format!("byte {at} changed"), changed));
        }
        for cut in [1, 2, 4, 20, value.len()] {
            forged.push((format!("cut by {cut}"), value[..value.len() - cut].to_owned()));
        }
        forged.push(("doubled".to_owned(), value.repeat(2)));
        forged.push(("no text".to_owned(), "\"!\"".to_owned()));
        // The value of another login of this browser, under this name.
        let mut second = world.browser(&app, "alice");
        second.to_provider("/").await;
        forged.push(("moved".to_owned(), second.jar.0[&pending_key(&second)].clone()));
        // A session, sealed with the same keys, under this name.
        let sealed = self::app(&world, world.builder());
        let mut member = world.browser(&sealed, "alice");
        member.sign_in("/").await;
        forged.push(("a session".to_owned(), member.jar.ending("-s").unwrap().to_owned()));
        // Another application with the same keys.
        let url = "http://localhost:9090";
        let neighbour = self::app(&world, world.builder_at(url).pending(Pending::Sealed));
        let mut neighbour = world.browser(&neighbour, "alice");
        neighbour.to_provider("/").await;
        assert!(!neighbour.jar.0.contains_key(&key), "names differ by instance");
        forged
            .push(("a neighbour's".to_owned(), neighbour.jar.0[&pending_key(&neighbour)].clone()));

        let asked = world.provider.counts().token;
        for (case, value) in forged {
            let case = format!("B10 {backend}, {case}");
            let mut forger = browser.clone();
            forger.jar.0.insert(key.clone(), value);
            let reply = forger.get(&callback).await;
            assert_eq!(reply.status, StatusCode::SEE_OTHER, "{case}: {}", reply.reason());
            assert!(reply.location().starts_with("/auth/login?again="), "{case}");
            assert_no_session(&reply, &case);
        }
        assert_eq!(world.provider.counts().token, asked, "B10 {backend}");
        let left = store.len();
        // The reverse: a pending login's cookie is no session.
        let session = key.0.split("-p-").next().unwrap().to_owned() + "-s";
        let mut forger = browser.clone();
        forger.jar.0.insert((session, "/".to_owned()), value);
        assert_eq!(forger.get("/who").await.status, StatusCode::FOUND, "B10 {backend}");
        assert_eq!(store.len(), left);
        assert_eq!(browser.get(&callback).await.location(), "/deep", "B10 {backend}");
    }
}

#[tokio::test]
async fn c04_b18_a_state_with_the_ticket_of_another_login_is_another_state() {
    let world = World::new().await;
    for (backend, builder, _) in backends(&world) {
        let app = app(&world, builder);
        let mut browser = world.browser(&app, "alice");
        let mut bytes = Vec::new();
        let mut callbacks = Vec::new();
        for path in ["/one", "/two"] {
            callbacks.push(browser.to_callback(path).await);
            let state = parameter(callbacks.last().unwrap(), "state").unwrap();
            bytes.push(BASE64_URL_SAFE_NO_PAD.decode(state).unwrap());
        }
        world.provider.reset_counts();
        let mixed = BASE64_URL_SAFE_NO_PAD.encode([&bytes[0][..16], &bytes[1][16..]].concat());
        let reply = browser.get(&with_parameter(&callbacks[0], "state", Some(&mixed))).await;
        assert_eq!(
            world.provider.counts().token,
            0,
            "C04 {backend}: it leads to {:?}",
            reply.headers.get("location")
        );
        assert_no_session(&reply, backend);
    }
}
