//! Sessions and their store (group H): outages, records that are gone or garbage, and what lies in
//! it for how long.

#[path = "support/pods.rs"]
mod pods;
mod support;

use axum::http::{Method, StatusCode};
use bytes::Bytes;
use pods::{Kept, a_minute_later, assert_signed_out, at, minutes, plant, seconds, session_name};
use support::{Browser, World, fetch};
use tower_pkce_auth::StoreErrorKind;

const OUTAGES: [StoreErrorKind; 3] =
    [StoreErrorKind::Unavailable, StoreErrorKind::TimedOut, StoreErrorKind::Full];

/// Asserts the answer of an outage: 503, nothing deleted, nobody sent to the provider.
async fn assert_unavailable(browser: &mut Browser, path: &str, what: &str) {
    let before = browser.jar.0.clone();
    let reply = browser.get(path).await;
    assert_eq!(reply.status, StatusCode::SERVICE_UNAVAILABLE, "{what}: {}", reply.reason());
    assert!(reply.reason().starts_with("store_unavailable/"), "{what}: {}", reply.reason());
    assert_eq!(reply.header("retry-after"), "2", "{what}");
    assert_eq!(reply.header("cache-control"), "no-store", "{what}");
    assert!(!reply.headers.contains_key("location"), "{what}");
    assert!(reply.set_cookies().is_empty(), "{what}: {:?}", reply.set_cookies());
    assert_eq!(browser.jar.0, before, "{what}: the cookies stay");
}

#[tokio::test]
async fn h22_a_store_outage_is_503_and_signs_nobody_out() {
    let world = World::new().await;
    for kept in [Kept::Stored, Kept::StoredShared] {
        let (app, store) = kept.pod(&world, |builder| {
            builder.open("/open".parse().unwrap()).optional("/optional".parse().unwrap())
        });
        let mut browser = world.browser(&app, "alice");
        browser.sign_in("/").await;
        let mut anonymous = world.browser(&app, "bob");
        world.reached();
        for kind in OUTAGES {
            let what = format!("H22 {kept:?} {kind:?}");
            store.fail(kind);
            for path in ["/page", "/optional", "/auth/session", "/auth/login", "/auth/logout"] {
                assert_unavailable(&mut browser, path, &format!("{what} {path}")).await;
            }
            let script = browser.send(fetch(Method::GET, "/api")).await;
            assert_eq!(script.status, StatusCode::SERVICE_UNAVAILABLE, "{what}");
            assert_eq!(script.header("content-type"), "application/json", "{what}");
            assert!(!script.body.contains("login_url"), "{what}: {}", script.body);
            assert_eq!(world.reached(), 0, "{what}: nothing reached the application");
            assert_eq!(browser.get("/open").await.body, "-", "{what}: open needs no store");
            assert_eq!(anonymous.get("/page").await.status, StatusCode::FOUND, "{what}");
            assert_eq!(anonymous.get("/optional").await.body, "-", "{what}: no session cookie");
            world.reached();
            store.recover();
            assert_eq!(browser.who().await.as_deref(), Some("alice"), "{what}: afterwards");
            world.reached();
        }
    }
}

#[tokio::test]
async fn h22_optional_paths_are_anonymous_during_an_outage_only_by_setting() {
    let world = World::new().await;
    let (app, store) = Kept::StoredShared.pod(&world, |builder| {
        builder.optional("/optional".parse().unwrap()).anonymous_on_outage(true)
    });
    let mut browser = world.browser(&app, "alice");
    browser.sign_in("/").await;
    store.fail(StoreErrorKind::Unavailable);
    let reply = browser.get("/optional").await;
    assert_eq!((reply.status, reply.body.as_str()), (StatusCode::OK, "-"));
    assert!(reply.set_cookies().is_empty(), "the cookie is kept");
    assert_unavailable(&mut browser, "/protected", "protected paths are not").await;
    store.recover();
    assert_eq!(browser.get("/optional").await.body, "alice");
}

#[tokio::test]
async fn h22_no_login_begins_or_ends_while_the_store_is_away() {
    let world = World::new().await;
    for kept in Kept::SHARED {
        let (app, store) = kept.pod(&world, |builder| builder);
        let mut browser = world.browser(&app, "alice");
        store.fail(StoreErrorKind::Unavailable);
        let asked = world.provider.counts();
        assert_unavailable(&mut browser, "/auth/login", &format!("{kept:?}: a start")).await;
        store.recover();
        let callback = browser.to_callback("/").await;
        store.fail(StoreErrorKind::Unavailable);
        assert_unavailable(&mut browser, &callback, &format!("{kept:?}: a callback")).await;
        assert_eq!(world.provider.counts().token, asked.token, "{kept:?}: the code is not spent");
        store.recover();
        let reply = browser.get(&callback).await;
        assert_eq!(browser.follow(reply).await.body, "alice", "{kept:?}: a reload finishes it");
    }
}

/// DESIGN: sealed sessions whose marks this pod saw within `revocation_grace` go on, then 503.
#[tokio::test]
async fn h22_sealed_sessions_go_on_within_the_grace() {
    let world = World::new().await;
    let pods = |grace| {
        Kept::SealedShared.pods(&world, move |builder| match grace {
            Some(grace) => builder.revocation_grace(seconds(grace)),
            None => builder.danger_unlimited_revocation_grace(),
        })
    };
    for (grace, lives) in [(Some(60), 60), (Some(0), 0), (Some(600), 600), (None, 3_000)] {
        let (one, two, store) = pods(grace);
        let mut browser = world.browser(&one, "alice");
        browser.sign_in("/").await;
        let what = format!("grace {grace:?}");
        assert_eq!(browser.who().await.as_deref(), Some("alice"), "{what}");
        store.fail(StoreErrorKind::Unavailable);
        let copy = browser.clone();
        world.clock.advance(seconds(lives));
        assert_eq!(copy.clone().who().await.as_deref(), Some("alice"), "{what}: within");
        assert_unavailable(&mut at(&two, &copy), "/who", &format!("{what}: never seen here")).await;
        if grace.is_some() {
            world.clock.advance(seconds(1));
            assert_unavailable(&mut copy.clone(), "/who", &format!("{what}: beyond")).await;
        }
        store.recover();
        assert_eq!(copy.clone().who().await.as_deref(), Some("alice"), "{what}: afterwards");
        browser.post("/auth/logout").await;
        assert_signed_out(&copy, &format!("{what}: a logout holds")).await;
        store.fail(StoreErrorKind::Unavailable);
        assert_ne!(copy.clone().who().await.as_deref(), Some("alice"), "{what}: and goes on to");
    }
}

/// The marks of a session were seen, whatever its cookie looked like at that moment.
#[tokio::test]
async fn h22_the_grace_survives_that_the_cookie_is_written_anew() {
    let world = World::new().await;
    let (app, store) = Kept::SealedShared.pod(&world, |builder| builder);
    let mut browser = world.browser(&app, "alice");
    browser.sign_in("/").await;
    world.clock.advance(seconds(61));
    let reply = browser.get("/who").await;
    assert!(!reply.set_cookies().is_empty(), "the session was prolonged");
    store.fail(StoreErrorKind::Unavailable);
    let reply = browser.get("/who").await;
    let what = "H22: this pod saw its marks a moment ago";
    assert_eq!((reply.status, reply.reason()), (StatusCode::OK, String::new()), "{what}");
}

#[tokio::test]
async fn h22_sealed_sessions_without_a_store_need_none() {
    let world = World::new().await;
    let (app, store) = Kept::Sealed.pod(&world, |builder| builder);
    store.fail(StoreErrorKind::Unavailable);
    let mut browser = world.browser(&app, "alice");
    assert_eq!(browser.sign_in("/").await.body, "alice");
    assert!(store.calls().is_empty());
}

#[tokio::test]
async fn h23_a_record_that_is_gone_or_garbage_is_a_session_that_is_over() {
    let world = World::new().await;
    for kept in [Kept::Stored, Kept::StoredShared] {
        let (app, store) = kept.pod(&world, |builder| builder);
        let mut other = world.browser(&app, "bob");
        other.sign_in("/").await;
        let others = store.keys("session").pop().unwrap();
        let foreign = store.value(&others).await.unwrap();
        for name in
            ["empty", "one byte", "zeros", "newer format", "cut", "flipped", "moved", "huge"]
        {
            let mut browser = world.browser(&app, "alice");
            browser.sign_in("/").await;
            a_minute_later(&mut browser);
            let key = store.keys("session").pop().unwrap();
            let good = store.value(&key).await.unwrap();
            let garbage = match name {
                "empty" => Bytes::new(),
                "one byte" => Bytes::from_static(b"\x01"),
                "zeros" => Bytes::from(vec![0; good.len()]),
                "newer format" => [&[good[0] + 1], &good[1..]].concat().into(),
                "cut" => good.slice(..good.len() - 1),
                "flipped" => [&good[..40], &[good[40] ^ 1], &good[41..]].concat().into(),
                "moved" => foreign.clone(),
                _ => Bytes::from(vec![0xff; 1 << 20]),
            };
            for cached in [false, true] {
                let what = format!("H23 {kept:?} {name}, cached: {cached}");
                store.overwrite(&key, good.clone()).await;
                if cached {
                    assert_eq!(browser.who().await.as_deref(), Some("alice"), "{what}");
                }
                store.overwrite(&key, garbage.clone()).await;
                let reply = browser.get("/who").await;
                assert_eq!(reply.status, StatusCode::FOUND, "{what}: {}", reply.reason());
            }
            assert_eq!(browser.sign_in("/").await.body, "alice", "H23 {kept:?} {name}: again");
        }
        assert_eq!(other.who().await.as_deref(), Some("bob"), "{kept:?}: nobody else");
    }
}

/// An emptied store forgot who was signed out: nobody it vouched for is believed (DESIGN).
#[tokio::test]
async fn h23_an_emptied_store_ends_every_session_and_accepts_new_ones() {
    let world = World::new().await;
    for kept in Kept::SHARED {
        let (app, store) = kept.pod(&world, |builder| builder);
        let mut browser = world.browser(&app, "alice");
        browser.sign_in("/").await;
        for purpose in ["session", "{marks}"] {
            for key in store.keys(purpose) {
                store.overwrite(&key, Bytes::new()).await;
                tower_pkce_auth::Store::take(&store, &key).await.unwrap();
            }
        }
        assert_signed_out(&browser, &format!("{kept:?}")).await;
        a_minute_later(&mut browser);
        assert_eq!(browser.sign_in("/").await.body, "alice", "{kept:?}");
        assert_eq!(browser.who().await.as_deref(), Some("alice"), "{kept:?}");
    }
}

#[tokio::test]
async fn h32_anonymous_requests_write_nothing() {
    let world = World::new().await;
    for kept in Kept::ALL {
        let (app, store) = kept.pod(&world, |builder| {
            builder.open("/open".parse().unwrap()).optional("/optional".parse().unwrap())
        });
        let mut known = world.browser(&app, "alice");
        known.sign_in("/").await;
        let name = session_name(&known);
        store.forget_calls();
        for n in 0..50 {
            let mut visitor = world.browser(&app, "alice");
            for cookie in [None, Some(format!("v1.{n:064}")), Some(format!("s1.{n:0300}"))] {
                if let Some(cookie) = cookie {
                    plant(&mut visitor, &name, cookie);
                }
                for path in
                    ["/", "/open", "/optional", "/auth/session", "/auth/logout", "/auth/signed-out"]
                {
                    visitor.get(path).await;
                }
                visitor.send(fetch(Method::POST, "/api")).await;
                visitor.post("/auth/logout").await;
            }
        }
        let writes = store.writes();
        assert!(writes.is_empty(), "H32 {kept:?}: {writes:?}");
    }
}

#[tokio::test]
async fn h36_p13_p15_records_expire_and_keys_hold_no_secret() {
    let world = World::new().await;
    for kept in Kept::ALL {
        let (app, store) = kept
            .pod(&world, |builder| builder.session_absolute(minutes(90)).session_idle(minutes(30)));
        let mut browser = world.browser(&app, "alice");
        let url = browser.to_provider("/").await;
        let state = support::parameter(&url, "state").unwrap();
        browser.sign_in("/").await;
        for _ in 0..4 {
            world.clock.advance(minutes(20));
            browser.who().await;
        }
        browser.sign_in("/auth/login?switch=1").await;
        browser.post("/auth/logout").await;
        let id = browser.jar.ending("-s").unwrap_or("v1.none").to_owned();
        for call in store.writes() {
            let key = call.key.as_str();
            let (hash, purpose) = (key.rsplit(':').next().unwrap(), call.purpose());
            assert!(hash.len() == 64 && hash.bytes().all(|b| b.is_ascii_hexdigit()), "P15 {key}");
            assert!(
                !key.contains("alice") && !key.contains(&state) && !key.contains(&id),
                "P15 {key}"
            );
            let Some(ttl) = call.ttl else { continue };
            let most = match purpose {
                "session" => minutes(90),
                "pending" | "spent" => minutes(10) + seconds(120),
                "{marks}" => minutes(32 * 24 * 60),
                "person" => minutes(90) + minutes(5),
                other => panic!("what is {other}?"),
            };
            assert!(ttl <= most && ttl > seconds(0), "H36 P13 {kept:?} {purpose}: {ttl:?}");
        }
    }
}

#[tokio::test]
async fn a_session_that_was_made_up_costs_the_store_nothing() {
    let world = World::new().await;
    let kept = Kept::StoredShared;
    let (app, store) = kept.pod(&world, |builder| builder);
    let mut known = world.browser(&app, "alice");
    known.sign_in("/").await;
    let (name, good) = (session_name(&known), known.jar.ending("-s").unwrap().to_owned());
    let mut bytes = good.clone().into_bytes();
    // The first is the version's, the last may hold bits that are not read.
    for at in (4..bytes.len() - 1).step_by(7) {
        bytes[at] = if bytes[at] == b'A' { b'B' } else { b'A' };
    }
    let changed = String::from_utf8(bytes).unwrap();
    for value in [changed, format!("v1.{}", "A".repeat(119)), "v1.AAAA".to_owned()] {
        let mut visitor = world.browser(&app, "mallory");
        plant(&mut visitor, &name, value.clone());
        store.forget_calls();
        assert_eq!(visitor.get("/page").await.status, StatusCode::FOUND, "{value}");
        assert!(store.calls().is_empty(), "{value}: {:?}", store.calls());
        // Nor is there anything to end while the store is away.
        store.fail(StoreErrorKind::Unavailable);
        plant(&mut visitor, &name, value.clone());
        let reply = visitor.post("/auth/logout").await;
        assert!(!reply.body.contains("signed-out-here-only"), "{value}: {}", reply.body);
        assert!(store.calls().is_empty(), "{value}: {:?}", store.calls());
        store.recover();
    }
    assert_eq!(known.who().await.as_deref(), Some("alice"));
}

/// Behind a balancer a cookie that one pod has just prolonged reaches another, which knows the
/// session and not the cookie.
#[tokio::test]
async fn a_cookie_that_another_pod_has_prolonged_goes_on_within_the_grace() {
    let world = World::new().await;
    let (one, two, store) = Kept::SealedShared
        .pods(&world, |builder| builder.session_idle(seconds(100)).revocation_grace(seconds(60)));
    let mut browser = world.browser(&one, "alice");
    assert_eq!(browser.sign_in("/").await.body, "alice");
    a_minute_later(&mut browser);
    world.clock.advance(seconds(2));
    assert_eq!(at(&two, &browser).who().await.as_deref(), Some("alice"), "it has seen her");
    world.clock.advance(seconds(30));
    let before = browser.jar.ending("-s").map(str::to_owned);
    assert_eq!(browser.who().await.as_deref(), Some("alice"));
    assert_ne!(browser.jar.ending("-s").map(str::to_owned), before, "prolonged");
    store.fail(StoreErrorKind::Unavailable);
    let mut there = at(&two, &browser);
    assert_eq!(there.who().await.as_deref(), Some("alice"), "within the grace");
    world.clock.advance(seconds(31));
    assert_eq!(there.get("/who").await.status, StatusCode::SERVICE_UNAVAILABLE, "and not longer");
}

/// Whoever is busy has been seen a moment ago, however often that is.
#[tokio::test]
async fn h22_the_grace_begins_with_the_last_of_many_requests() {
    let world = World::new().await;
    let (app, store) = Kept::SealedShared.pod(&world, |builder| builder);
    let mut browser = world.browser(&app, "alice");
    assert_eq!(browser.sign_in("/").await.body, "alice");
    for _ in 0..400 {
        world.clock.advance(std::time::Duration::from_millis(300));
        assert_eq!(browser.who().await.as_deref(), Some("alice"));
    }
    store.fail(StoreErrorKind::Unavailable);
    world.clock.advance(seconds(58));
    assert_eq!(browser.who().await.as_deref(), Some("alice"), "within the grace");
    world.clock.advance(seconds(3));
    assert_eq!(browser.get("/who").await.status, StatusCode::SERVICE_UNAVAILABLE, "beyond");
}
