//! The server ends our connection: while it lies idle, and while it is waited for.

use axum::http::StatusCode;

use crate::outages::{ok, wait};
use crate::servers::{Options, Redis};
use crate::support::World;
use crate::tools::bounded;
use crate::{apps, assert_shows, signed_in, until_back};

fn kill(redis: &Redis) {
    let killed: u32 = redis.cli(&["CLIENT", "KILL", "TYPE", "normal"]).parse().unwrap();
    assert!(killed > 0, "somebody was connected");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs redis-server; scripts/test runs it"]
async fn an_idle_connection_that_was_ended_costs_a_session_nothing() {
    let world = World::new().await;
    let redis = Redis::start(Options::default());
    let (stored, sealed) = apps(&world, &redis);
    let mut in_store = signed_in(&world, &stored, "alice").await;
    let mut in_cookie = signed_in(&world, &sealed, "alice").await;
    for round in 0..20 {
        // At once: the layer may not even have noticed. What is known is used, reads are repeated;
        // nobody may be connected when nothing had to be read since.
        redis.cli(&["CLIENT", "KILL", "TYPE", "normal"]);
        for browser in [&mut in_store, &mut in_cookie] {
            assert_eq!(browser.who().await.as_deref(), Some("alice"), "round {round}");
        }
    }
}

/// Writes are not repeated: in the moment before the end is noticed a login may be refused, before
/// the provider, and the next try works.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs redis-server; scripts/test runs it"]
async fn a_login_whose_connection_was_ended_begins_or_can_be_repeated() {
    let world = World::new().await;
    let redis = Redis::start(Options::default());
    let (stored, sealed) = apps(&world, &redis);
    let mut repeated = 0;
    for round in 0..20 {
        for app in [&stored, &sealed] {
            let mut browser = world.browser(app, "alice");
            browser.get("/auth/login").await;
            kill(&redis);
            let mut reply = browser.get("/auth/login").await;
            if reply.status == StatusCode::SERVICE_UNAVAILABLE {
                repeated += 1;
                reply = browser.get("/auth/login").await;
            }
            assert_eq!(reply.status, StatusCode::FOUND, "round {round}: {}", reply.reason());
        }
    }
    println!("{repeated} of 40 starts had to be repeated");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs redis-server; scripts/test runs it"]
async fn a_callback_whose_connection_was_ended_is_completed_or_can_be_repeated() {
    let world = World::new().await;
    let redis = Redis::start(Options::default());
    let (stored, sealed) = apps(&world, &redis);
    let mut repeated = 0;
    for n in 0..20 {
        let mut browser = world.browser(if n % 2 == 0 { &stored } else { &sealed }, "alice");
        let callback = browser.to_callback("/deep").await;
        kill(&redis);
        let mut reply = browser.get(&callback).await;
        if reply.status == StatusCode::SERVICE_UNAVAILABLE {
            repeated += 1;
            reply = browser.get(&callback).await;
        }
        assert_eq!(reply.location(), "/deep", "{n}: {}", reply.reason());
    }
    println!("{repeated} of 20 callbacks had to be repeated");
    let counts = world.provider.counts();
    assert_eq!((counts.token, counts.double_redemptions), (20, 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs redis-server; scripts/test runs it"]
async fn a_connection_that_is_ended_in_the_middle_is_503_at_once() {
    let world = World::new().await;
    let redis = Redis::start(Options::default());
    let (stored, _) = apps(&world, &redis);
    let mut in_store = signed_in(&world, &stored, "alice").await;
    let mut browser = world.browser(&stored, "bob");
    let callback = browser.to_callback("/deep").await;
    // Writes wait from now on, reads do not.
    ok(&redis, &["CLIENT", "PAUSE", "60000", "WRITE"]);
    let waiting = {
        let (mut browser, callback) = (browser.clone(), callback.clone());
        tokio::spawn(async move { browser.get(&callback).await })
    };
    wait(|| redis.cli(&["INFO", "clients"]).contains("blocked_clients:1"));
    kill(&redis);
    let reply = bounded("ended in the middle", waiting).await.unwrap();
    assert_eq!(reply.status, StatusCode::SERVICE_UNAVAILABLE, "{}", reply.reason());
    assert_eq!(reply.reason(), "store_unavailable/unavailable", "not a time-out");
    assert_eq!(world.provider.counts().token, 1, "the code is not spent");
    ok(&redis, &["CLIENT", "UNPAUSE"]);
    assert_shows(&until_back(&mut in_store, "/who", "middle").await, "alice", "a session");
    let reply = browser.get(&callback).await;
    assert_shows(&browser.follow(reply).await, "bob", "the login goes on");
}
