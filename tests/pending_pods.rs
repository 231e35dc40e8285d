//! Group B: a pending login outlives any pod and any key, and not its time.

#[path = "support/logins.rs"]
mod logins;
mod support;

use std::time::Duration;

use axum::http::StatusCode;
use logins::{apps, assert_no_session, assert_restarts, backends, redeemed};
use support::{App, World};
use tower_pkce_auth::testing::TestClock;
use tower_pkce_auth::{Builder, Clock, CookieKeys, MemoryStore, Pending, UnixTime};

/// Two pods without anything to stick to; memory is of no use to them.
fn pods(world: &World) -> [(&'static str, App, App); 3] {
    let store = MemoryStore::shared_between_pods(world.clock.clone());
    let sealed = || world.builder().pending(Pending::Sealed);
    let stored = || world.builder().pending(Pending::Store).store(store.clone());
    let marked = || sealed().store(store.clone());
    let app = |builder: Builder| world.app(&builder.build().unwrap());
    [
        ("sealed, no server", app(sealed()), app(sealed())),
        ("sealed, spent marks", app(marked()), app(marked())),
        ("store", app(stored()), app(stored())),
    ]
}

#[tokio::test]
async fn b07_c20_the_server_ends_a_login_and_not_the_cookie() {
    let world = World::new().await;
    for (backend, builder) in backends(&world) {
        let ttl = Duration::from_secs(300);
        let app = world.app(&builder.login_ttl(ttl).build().unwrap());
        for (after, lives) in [(1, true), (299_999, true), (300_000, false), (3_000_000, false)] {
            let case = format!("B07 {backend} after {after} ms");
            let mut browser = world.browser(&app, "alice");
            let url = browser.to_provider("/deep?x=1").await;
            world.clock.advance(Duration::from_millis(after));
            let callback = world.provider.authorize_as(&url, "alice").await.unwrap();
            let callback = browser.local(&callback);
            let reply = browser.get(&callback).await;
            assert_eq!(redeemed(&world, &callback), usize::from(lives), "{case}");
            if !lives {
                assert_restarts(&reply, &case);
                let url = browser.to_provider(&reply.location()).await;
                // C20: it auto-approves, and takes too long again: at most one restart.
                world.clock.advance(ttl);
                let callback = world.provider.authorize_as(&url, "alice").await.unwrap();
                let reply = browser.get(&browser.local(&callback)).await;
                assert_eq!(reply.status, StatusCode::BAD_REQUEST, "C20 {case}");
                assert_eq!(reply.page(), Some("restart"), "C20 {case}");
                assert!(reply.body.contains("/auth/login?return_to=%2Fdeep%3Fx%3D1"), "{case}");
                assert_no_session(&reply, &case);
            }
        }
    }
}

#[tokio::test]
async fn b20_a_400_for_an_expired_login_leaves_no_cookie_behind() {
    let world = World::new().await;
    for (backend, app) in apps(&world) {
        let callback = world.browser(&app, "alice").to_callback("/deep").await;
        let mut stranger = world.browser(&app, "alice");
        let restart = stranger.get(&callback).await.location();
        let url = stranger.to_provider(&restart).await;
        world.clock.advance(Duration::from_secs(601));
        let callback = world.provider.authorize_as(&url, "alice").await.unwrap();
        let reply = stranger.get(&stranger.local(&callback)).await;
        assert_eq!(reply.status, StatusCode::BAD_REQUEST, "{backend}");
        assert_eq!(stranger.jar.pending(), 0, "B20 {backend}: {:?}", stranger.jar.names());
    }
}

#[tokio::test]
async fn b08_b22_any_pod_finishes_a_login_whose_clock_is_a_minute_off() {
    let world = World::new().await;
    for (backend, a, b) in pods(&world) {
        let mut browser = world.browser(&a, "alice");
        let callback = browser.to_callback("/deep").await;
        browser.app = b;
        let reply = browser.get(&callback).await;
        assert_eq!(reply.location(), "/deep", "B08 {backend}: {}", reply.reason());
        assert_eq!(browser.who().await.as_deref(), Some("alice"), "B08 {backend}");
        browser.app = a;
        assert_eq!(browser.who().await.as_deref(), Some("alice"), "B08 {backend}");
    }
    let store = MemoryStore::shared_between_pods(world.clock.clone());
    for skewed_by in [-60i64, 60] {
        for pending in [Pending::Sealed, Pending::Store] {
            let builder = || world.builder().pending(pending).store(store.clone());
            let clock = std::sync::Arc::new(TestClock::new());
            let here = world.app(&builder().build().unwrap());
            let there = world.app(&builder().clock(clock.clone()).build().unwrap());
            // 600 s, and never more than the skew on top.
            for (after, lives) in [(5, true), (530, true), (661, false)] {
                let case = format!("B22 {pending:?}, {skewed_by} s, after {after} s");
                let mut browser = world.browser(&here, "alice");
                let url = browser.to_provider("/deep").await;
                world.clock.advance(Duration::from_secs(after));
                let (now, by) = (now(&world), Duration::from_secs(60));
                clock.set_wall(if skewed_by < 0 { now - by } else { now + by });
                let callback = world.provider.authorize_as(&url, "alice").await.unwrap();
                browser.app = there.clone();
                let reply = browser.get(&browser.local(&callback)).await;
                if lives {
                    assert_eq!(reply.location(), "/deep", "{case}: {}", reply.reason());
                } else {
                    assert_restarts(&reply, &case);
                }
            }
        }
    }
}

fn now(world: &World) -> UnixTime {
    Clock::now(&*world.clock)
}

#[tokio::test]
async fn b12_keys_rotate_under_logins_that_are_under_way() {
    let world = World::new().await;
    let [old, new] = [(); 2].map(|()| CookieKeys::new_key_line());
    let ring = |lines: &[&str]| lines.join("\n").parse::<CookieKeys>().unwrap();
    let store = MemoryStore::shared_between_pods(world.clock.clone());
    for (backend, pending) in [("sealed", Pending::Sealed), ("store", Pending::Store)] {
        for (case, start, callback, works) in [
            ("rotated between", ring(&[&old]), ring(&[&new, &old]), true),
            ("rolled back", ring(&[&new, &old]), ring(&[&old, &new]), true),
            ("mixed fleet, announced first", ring(&[&old, &new]), ring(&[&new, &old]), true),
            ("the old key is gone", ring(&[&old]), ring(&[&new]), false),
            ("not announced", ring(&[&new, &old]), ring(&[&old]), false),
        ] {
            let case = format!("B12 {backend}, {case}");
            let pod = |keys: CookieKeys| {
                let builder = world.builder().pending(pending).store(store.clone());
                world.app(&builder.cookie_keys(keys).build().unwrap())
            };
            let mut browser = world.browser(&pod(start), "alice");
            let path = browser.to_callback("/deep").await;
            browser.app = pod(callback);
            let reply = browser.get(&path).await;
            if works {
                assert_eq!(reply.location(), "/deep", "{case}: {}", reply.reason());
                assert_eq!(browser.who().await.as_deref(), Some("alice"), "{case}");
            } else {
                // `state` does not unseal: always 400, never 500.
                assert_eq!(reply.status, StatusCode::BAD_REQUEST, "{case}");
                assert_eq!(redeemed(&world, &path), 0, "{case}");
                assert_no_session(&reply, &case);
                assert_eq!(browser.sign_in("/").await.body, "alice", "{case}: a clean login");
            }
        }
    }
}
