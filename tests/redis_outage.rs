//! The store is away (Redis on its own process): logins answer 503 before the provider, nobody is
//! let in and nobody is signed out, and the first request after its return works.

#[path = "redis/full.rs"]
mod full;
#[path = "redis/killed.rs"]
mod killed;
#[path = "redis/outages.rs"]
mod outages;
#[path = "support/pods.rs"]
mod pods;
#[path = "redis/races.rs"]
mod races;
#[path = "real/servers.rs"]
mod servers;
mod support;
#[path = "redis/tools.rs"]
mod tools;

use std::time::{Duration, Instant};

use axum::http::StatusCode;
use outages::Outage;
use pods::{a_minute_later, seconds};
use servers::{Options, Redis};
use support::{App, Browser, Reply, World};
use tools::{HANG, bounded, store};
use tower_pkce_auth::{Pending, Sessions};

/// Shorter than codes live at the provider: what waits for the store can be finished afterwards.
const GRACE: Duration = seconds(20);

/// Two applications of one world over one server: all in the store, and all but marks in cookies.
fn apps(world: &World, redis: &Redis) -> (App, App) {
    let builder = || world.builder().store(store(&redis.url())).revocation_grace(GRACE);
    let (stored, sealed) = (builder(), builder());
    let sealed = sealed.sessions(Sessions::Sealed).pending(Pending::Sealed);
    (world.app(&stored.build().unwrap()), world.app(&sealed.build().unwrap()))
}

async fn signed_in(world: &World, app: &App, user: &str) -> Browser {
    let mut browser = world.browser(app, user);
    assert_eq!(browser.sign_in("/").await.body, user);
    assert_eq!(browser.who().await.as_deref(), Some(user));
    a_minute_later(&mut browser);
    browser
}

/// 503 with a time to come back, no redirect, and every cookie kept.
async fn assert_unavailable(browser: &mut Browser, path: &str, what: &str) {
    let before = browser.jar.0.clone();
    let reply = bounded(what, browser.get(path)).await;
    assert_eq!(reply.status, StatusCode::SERVICE_UNAVAILABLE, "{what}: {}", reply.reason());
    assert!(reply.reason().starts_with("store_unavailable/"), "{what}: {}", reply.reason());
    assert_eq!(reply.header("retry-after"), "2", "{what}");
    assert!(!reply.headers.contains_key("location"), "{what}");
    assert_eq!(browser.jar.0, before, "{what}: the cookies stay");
}

/// For two seconds what is known here may be used; then it is 503, and stays so.
async fn until_unavailable(browser: &mut Browser, user: &str, what: &str) {
    let begun = Instant::now();
    loop {
        let reply = bounded(what, browser.get("/who")).await;
        if reply.status == StatusCode::SERVICE_UNAVAILABLE {
            break;
        }
        assert_shows(&reply, user, what);
        assert!(begun.elapsed() < HANG, "{what}: it is never noticed");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    println!("{what}: noticed after {:?}", begun.elapsed());
    assert_unavailable(browser, "/who", what).await;
}

fn assert_shows(reply: &Reply, user: &str, what: &str) {
    let found = (reply.status, reply.reason(), reply.page());
    assert_eq!(found, (StatusCode::OK, String::new(), None), "{what}");
    assert_eq!(reply.body, user, "{what}");
}

/// Asks every 10 ms until the answer is no 503; says how long that took, and what the answer was.
async fn until_back(browser: &mut Browser, path: &str, what: &str) -> Reply {
    let begun = Instant::now();
    let mut refused = 0;
    loop {
        let reply = browser.get(path).await;
        if reply.status != StatusCode::SERVICE_UNAVAILABLE {
            println!("{what}: back after {:?}, {refused} requests refused", begun.elapsed());
            return reply;
        }
        refused += 1;
        assert!(begun.elapsed() < HANG, "{what}: never comes back: {}", reply.reason());
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// Signs out while the store is away.
async fn sign_out_here(browser: &mut Browser, what: &str) {
    let reply = bounded(what, browser.post("/auth/logout")).await;
    assert_eq!(reply.status, StatusCode::SERVICE_UNAVAILABLE, "{what}: {}", reply.reason());
    assert_eq!(reply.page(), Some("signed-out-here-only"), "{what}");
    assert_eq!(browser.jar.ending("-s"), None, "{what}: the cookie goes");
}

/// Waits until a copy of the cookies of somebody who has signed out is worth nothing.
async fn until_signed_out(copy: &mut Browser, what: &str) {
    let begun = Instant::now();
    while copy.get("/who").await.status != StatusCode::FOUND {
        assert!(begun.elapsed() < HANG, "{what}: the sign-out is never written");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    println!("{what}: signed out everywhere after {:?}", begun.elapsed());
}

async fn survives(outage: Outage) {
    let world = World::new().await;
    let mut redis = Outage::server();
    let (stored, sealed) = apps(&world, &redis);
    let case = |what: &str| format!("{outage:?}, {what}");
    let mut in_store = signed_in(&world, &stored, "alice").await;
    let mut in_cookie = signed_in(&world, &sealed, "alice").await;
    let mut leaving = [
        ("sign-out, stored", signed_in(&world, &stored, "bob").await),
        ("sign-out, sealed", signed_in(&world, &sealed, "bob").await),
    ];
    let mut copies = leaving.clone();
    let mut callbacks = Vec::new();
    for (what, app) in [("callback, stored", &stored), ("callback, sealed", &sealed)] {
        let mut browser = world.browser(app, "mallory");
        let callback = browser.to_callback("/deep").await;
        callbacks.push((what, browser, callback));
    }

    outage.begin(&mut redis);
    let before = world.provider.counts();
    for (what, app) in [("login, stored", &stored), ("login, sealed", &sealed)] {
        if app_needs_no_write(what, outage) {
            continue;
        }
        let mut stranger = world.browser(app, "alice");
        assert_unavailable(&mut stranger, "/auth/login?return_to=/deep", &case(what)).await;
    }
    if outage.is_readable() {
        assert_eq!(in_store.who().await.as_deref(), Some("alice"), "{}", case("stored"));
    } else {
        until_unavailable(&mut in_store, "alice", &case("session, stored")).await;
    }
    let what = case("session, sealed");
    assert_shows(&bounded(&what, in_cookie.get("/who")).await, "alice", &what);
    for (what, browser, callback) in &mut callbacks {
        assert_unavailable(browser, callback, &case(what)).await;
    }
    for (what, browser) in &mut leaving {
        sign_out_here(browser, &case(what)).await;
    }
    if !outage.is_readable() {
        world.clock.advance(GRACE + seconds(1));
        until_unavailable(&mut in_cookie, "alice", &case("sealed, beyond the grace")).await;
    }
    let after = world.provider.counts();
    assert_eq!((after.authorize, after.token), (before.authorize, before.token), "{outage:?}");

    outage.end(&mut redis);
    let path = if outage.is_readable() { "/auth/login?switch=1" } else { "/who" };
    let mut probe =
        if outage.is_readable() { world.browser(&stored, "bob") } else { in_store.clone() };
    let reply = until_back(&mut probe, path, &case("all")).await;
    assert!(reply.status == StatusCode::OK || reply.status == StatusCode::FOUND, "{outage:?}");
    for (what, browser) in [("stored", &mut in_store), ("sealed", &mut in_cookie)] {
        let reply = until_back(browser, "/who", &case(what)).await;
        assert_shows(&reply, "alice", &case(what));
    }
    for (what, browser, callback) in &mut callbacks {
        let reply = browser.get(callback).await;
        assert_shows(&browser.follow(reply).await, "mallory", &case(what));
    }
    for (what, copy) in &mut copies {
        until_signed_out(copy, &case(what)).await;
    }
    assert_eq!(world.provider.counts().double_redemptions, 0, "{outage:?}");
}

/// A sealed login writes nothing at its start but the counter, which is there already.
fn app_needs_no_write(what: &str, outage: Outage) -> bool {
    what == "login, sealed" && outage.is_readable()
}

macro_rules! outages {
    ($($name:ident: $outage:ident,)*) => {$(
        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        #[ignore = "needs redis-server; scripts/test runs it"]
        async fn $name() {
            survives(Outage::$outage).await;
        }
    )*};
}

outages! {
    demoted: Demoted,
    hung: Hung,
    loading: Loading,
    without_replicas: NoReplicas,
    read_only: ReadOnly,
    stopped: Stopped,
    with_another_password: WrongPassword,
}

/// A store that has lost everything does not know who was signed out: everybody signs in again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs redis-server; scripts/test runs it"]
async fn back_with_an_empty_database() {
    let world = World::new().await;
    let mut redis = Redis::start(Options::default());
    let (stored, sealed) = apps(&world, &redis);
    let mut browsers =
        [signed_in(&world, &stored, "alice").await, signed_in(&world, &sealed, "alice").await];
    redis.stop();
    redis.start_again();
    for browser in &mut browsers {
        let reply = until_back(browser, "/who", "empty").await;
        assert_eq!(reply.status, StatusCode::FOUND, "nobody is believed");
        assert_eq!(browser.sign_in("/").await.body, "alice", "and everybody can come back");
    }
}
