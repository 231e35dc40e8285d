//! The server has no room: logins are sealed, and nobody who is signed in loses anything.

use axum::http::StatusCode;
use bytes::Bytes;
use tower_pkce_auth::{Key, Store as _, StoreErrorKind};

use crate::outages::ok;
use crate::pods::{a_minute_later, seconds};
use crate::servers::{Options, Redis};
use crate::support::World;
use crate::tools::{LONG, bounded, shown, store};
use crate::{apps, assert_shows, sign_out_here, signed_in, until_signed_out};

/// Fills the server to the last byte; returns when every write is refused.
async fn fill(redis: &Redis) {
    let used = |redis: &Redis| -> u64 {
        let memory = redis.cli(&["INFO", "memory"]);
        let line = memory.lines().find_map(|line| line.strip_prefix("used_memory:")).unwrap();
        line.trim().parse().unwrap()
    };
    let limit = (used(redis) + 4_000_000).to_string();
    ok(redis, &["CONFIG", "SET", "maxmemory", &limit]);
    let store = store(&redis.url());
    for n in 0..1_000u32 {
        let key = Key::new("fill", "er", &n.to_be_bytes());
        let Err(error) = store.insert(&key, Bytes::from(vec![b'x'; 50_000]), LONG).await else {
            continue;
        };
        assert_eq!(error.kind(), StoreErrorKind::Full, "{}", shown(&error));
        // What clients have in hand is counted too and comes and goes: far above the limit it does
        // not matter.
        let limit = (used(redis) - 1_000_000).to_string();
        ok(redis, &["CONFIG", "SET", "maxmemory", &limit]);
        return;
    }
    panic!("it is never full");
}

fn make_room(redis: &Redis) {
    ok(redis, &["CONFIG", "SET", "maxmemory", "0"]);
}

#[tokio::test]
#[ignore = "needs redis-server; scripts/test runs it"]
async fn every_write_says_full_and_what_is_there_can_be_read_and_taken() {
    let redis = Redis::start(Options::default());
    let store = store(&redis.url());
    let [one, two] = [1u8, 2].map(|n| Key::new("suite", "full", &[n]));
    let (a, b) = (Bytes::from_static(b"a"), Bytes::from_static(b"b"));
    for key in [&one, &two] {
        store.insert(key, a.clone(), LONG).await.unwrap();
    }
    fill(&redis).await;
    for (call, answer) in [
        ("insert", store.insert(&Key::new("suite", "full", b"3"), a.clone(), LONG).await),
        ("swap", store.swap(&one, &a, b.clone(), LONG).await),
    ] {
        let error = answer.expect_err(call);
        assert_eq!(error.kind(), StoreErrorKind::Full, "{call}: {}", shown(&error));
    }
    assert_eq!(store.load(&one).await.unwrap(), Some(a.clone()));
    assert_eq!(store.take(&one).await.unwrap(), Some(a.clone()));
    assert!(!store.swap(&one, &a, b.clone(), LONG).await.unwrap(), "gone: nothing to write");
    assert!(!store.remove_if(&two, &b).await.unwrap());
    assert!(store.remove_if(&two, &a).await.unwrap());
    make_room(&redis);
    assert!(store.insert(&one, b, LONG).await.unwrap());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs redis-server; scripts/test runs it"]
async fn a_full_server_seals_logins_and_keeps_sessions() {
    let world = World::new().await;
    let redis = Redis::start(Options::default());
    let (stored, sealed) = apps(&world, &redis);
    let mut in_store = signed_in(&world, &stored, "alice").await;
    let mut in_cookie = signed_in(&world, &sealed, "alice").await;
    let mut early = world.browser(&stored, "bob");
    let callback = early.to_callback("/early").await;
    let mut leaving = signed_in(&world, &stored, "mallory").await;
    let mut left = leaving.clone();
    let mut leaving_sealed = signed_in(&world, &sealed, "mallory").await;
    let mut left_sealed = leaving_sealed.clone();

    fill(&redis).await;
    // A whole login where sessions are sealed.
    let mut browser = world.browser(&sealed, "bob");
    assert_shows(&bounded("full, login", browser.sign_in("/deep")).await, "bob", "sealed");
    // Where they are stored it begins sealed, and as there is no room the session is sealed too:
    // the code is spent by then.
    let mut browser = world.browser(&stored, "bob");
    let late = bounded("full, start", browser.to_callback("/late")).await;
    let tokens = world.provider.counts().token;
    for (what, browser, callback, path) in [
        ("begun before", &mut early, &callback, "/early"),
        ("begun when full", &mut browser, &late, "/late"),
    ] {
        let reply = bounded(&format!("full, callback {what}"), browser.get(callback)).await;
        assert_eq!(reply.location(), path, "{what}: {}", reply.reason());
        assert_shows(&browser.follow(reply).await, "bob", what);
        assert!(browser.jar.ending("-s").unwrap().starts_with("s1."), "{what}: it is sealed");
    }
    assert_eq!(world.provider.counts().token, tokens + 2, "both codes were redeemed, once");
    // Late enough that sessions are prolonged by a request.
    world.clock.advance(seconds(61));
    for (what, browser) in [("full, stored", &mut in_store), ("full, sealed", &mut in_cookie)] {
        assert_shows(&bounded(what, browser.get("/who")).await, "alice", what);
    }
    // To remove needs no room, a mark does.
    let reply = leaving.post("/auth/logout").await;
    assert_eq!(reply.status, StatusCode::SEE_OTHER, "{}", reply.reason());
    until_signed_out(&mut left, "full, sign-out, stored").await;
    sign_out_here(&mut leaving_sealed, "full, sign-out, sealed").await;

    make_room(&redis);
    for browser in [&mut in_store, &mut in_cookie] {
        assert_eq!(browser.who().await.as_deref(), Some("alice"), "nobody was signed out");
    }
    // A session that had to be sealed ends on every pod all the same.
    let mut copy = early.clone();
    a_minute_later(&mut copy);
    assert_eq!(early.post("/auth/logout").await.status, StatusCode::SEE_OTHER);
    until_signed_out(&mut copy, "sealed for want of room").await;
    let mut later = world.browser(&stored, "bob");
    assert_shows(&later.sign_in("/").await, "bob", "another login");
    assert!(later.jar.ending("-s").unwrap().starts_with("v1."), "there is room again");
    until_signed_out(&mut left_sealed, "full, sign-out, sealed").await;
    assert_eq!(world.provider.counts().double_redemptions, 0);
}
