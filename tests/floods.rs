//! Floods: what strangers start is bounded, and whoever wants to sign in can.
//!
//! The figures of a real one: `cargo test --release --test floods -- --ignored --nocapture`.

#[path = "floods/flood.rs"]
mod flood;
#[path = "floods/gateway.rs"]
mod gateway;
#[path = "support/log.rs"]
mod log;
#[path = "support/pods.rs"]
mod pods;
#[path = "real/servers.rs"]
mod servers;
mod support;

use std::net::IpAddr;

use axum::extract::Request;
use axum::http::{Method, StatusCode};
use log::Log;
use pods::{Spy, minutes, seconds};
use support::{App, Browser, Reply, World, fetch, navigation, send};
use tower_pkce_auth::testing::provider::{Behaviour, Endpoint};
use tower_pkce_auth::{ClientAddress, Pending, Sessions};
use tracing::level_filters::LevelFilter;

/// A request of a client at this address, as whoever stands before the layer passes it on.
fn of(address: &str, mut request: Request) -> Request {
    let address: IpAddr = address.parse().unwrap();
    request.extensions_mut().insert(ClientAddress::new(address));
    request
}

async fn start(app: &App, address: &str) -> Reply {
    send(app, of(address, navigation(Method::GET, "/auth/login"))).await
}

/// How many logins a client can start before it is told to wait.
async fn starts(app: &App, address: &str) -> usize {
    for count in 0..10_000 {
        let reply = start(app, address).await;
        match reply.status {
            StatusCode::FOUND => {}
            StatusCode::TOO_MANY_REQUESTS => return count,
            status => panic!("{status} {}", reply.reason()),
        }
    }
    panic!("there is no limit");
}

#[tokio::test]
async fn a_client_that_starts_too_many_logins_waits_and_nobody_else_does() {
    let world = World::new().await;
    let store = Spy::shared(&world);
    let builder = world.builder().store(store.clone()).client_limit(30);
    let app = world.app(&builder.build().unwrap());
    assert_eq!(starts(&app, "192.0.2.1").await, 30);
    for (client, count) in [
        ("::ffff:192.0.2.1", 0),
        ("192.0.2.2", 30),
        ("2001:db8::1", 30),
        ("2001:db8::ffff:2", 0),
        ("2001:db8:0:1::1", 30),
    ] {
        assert_eq!(starts(&app, client).await, count, "{client}");
    }
    world.clock.advance(seconds(2));
    assert_eq!(starts(&app, "192.0.2.1").await, 1, "one comes back each two seconds");
    world.clock.advance(minutes(1));
    assert_eq!(starts(&app, "192.0.2.1").await, 30, "all of them in a minute");
    world.clock.advance(minutes(60));
    assert_eq!(starts(&app, "192.0.2.1").await, 30, "and never more");
}

#[tokio::test]
async fn a_refused_start_notes_nothing_sets_nothing_and_says_when() {
    let world = World::new().await;
    let store = Spy::shared(&world);
    let builder = world.builder().store(store.clone()).client_limit(1);
    let app = world.app(&builder.build().unwrap());
    assert_eq!(starts(&app, "192.0.2.1").await, 1);
    store.forget_calls();
    let request = navigation(Method::GET, "/auth/login?return_to=/deep");
    let reply = send(&app, of("192.0.2.1", request)).await;
    assert_eq!(reply.status, StatusCode::TOO_MANY_REQUESTS);
    assert_eq!(reply.reason(), "too_many_logins/client_limit");
    assert_eq!(reply.page(), Some("too-many"));
    assert!(reply.body.contains("/auth/login?return_to=%2Fdeep"), "it offers another try");
    let wait: u64 = reply.header("retry-after").parse().unwrap();
    assert!((60..=61).contains(&wait), "{wait}");
    assert_eq!(reply.header("cache-control"), "no-store");
    assert!(reply.set_cookies().is_empty() && reply.headers.get("location").is_none());
    assert!(store.calls().is_empty(), "the store is not asked: {:?}", store.calls());
    world.clock.advance(seconds(wait));
    assert_eq!(start(&app, "192.0.2.1").await.status, StatusCode::FOUND, "it said the truth");
}

#[tokio::test]
async fn the_limit_comes_before_the_provider_is_asked_for_anything() {
    let world = World::new().await;
    world.provider.set_behaviour(Endpoint::Discovery, Behaviour::Refuse);
    let app = world.app(&world.builder().client_limit(1).build().unwrap());
    assert_eq!(start(&app, "192.0.2.1").await.status, StatusCode::SERVICE_UNAVAILABLE);
    let asked = world.provider.counts().discovery;
    assert!(asked > 0);
    world.clock.advance(seconds(30));
    assert_eq!(start(&app, "192.0.2.1").await.status, StatusCode::TOO_MANY_REQUESTS);
    assert_eq!(world.provider.counts().discovery, asked);
    assert_eq!(start(&app, "192.0.2.2").await.status, StatusCode::SERVICE_UNAVAILABLE);
    assert!(world.provider.counts().discovery > asked, "another client's start asks");
}

#[tokio::test]
async fn what_starts_no_login_is_answered_as_ever_and_does_not_count() {
    let world = World::new().await;
    let app = world.app(&world.builder().client_limit(2).build().unwrap());
    let grpc = || {
        let mut request = fetch(Method::POST, "/service/Method");
        request.headers_mut().insert("content-type", "application/grpc".parse().unwrap());
        request
    };
    for _ in 0..20 {
        let reply = send(&app, of("192.0.2.1", fetch(Method::GET, "/auth/login"))).await;
        assert_eq!(reply.status, StatusCode::UNAUTHORIZED, "scripts start no login");
        let reply = send(&app, of("192.0.2.1", fetch(Method::GET, "/api"))).await;
        assert_eq!(reply.status, StatusCode::UNAUTHORIZED);
        let reply = send(&app, of("192.0.2.1", grpc())).await;
        assert_eq!((reply.status.as_u16(), reply.header("grpc-status")), (200, "16"));
        let reply = send(&app, of("192.0.2.1", navigation(Method::GET, "/"))).await;
        assert_eq!(reply.location(), "/auth/login?return_to=%2F", "nor does the way there");
    }
    assert_eq!(starts(&app, "192.0.2.1").await, 2);
    // Over the limit, too: only what would start a login is told to wait.
    let reply = send(&app, of("192.0.2.1", fetch(Method::GET, "/auth/login"))).await;
    assert_eq!(reply.status, StatusCode::UNAUTHORIZED);
    let reply = send(&app, of("192.0.2.1", grpc())).await;
    assert_eq!(reply.header("grpc-status"), "16");
}

#[tokio::test]
async fn who_is_signed_in_does_not_count_and_whoever_starts_over_does() {
    let world = World::new().await;
    let app = world.app(&world.builder().client_limit(3).build().unwrap());
    let mut browser = world.browser(&app, "alice");
    browser.sign_in("/deep").await;
    for _ in 0..10 {
        let request = of("192.0.2.1", navigation(Method::GET, "/auth/login?return_to=/x"));
        assert_eq!(browser.send(request).await.location(), "/x", "a live session goes on");
    }
    // Another account is another login, and so is a start after an unusable callback.
    let mut switch = navigation(Method::GET, "/auth/login?switch=1");
    switch.headers_mut().insert("sec-fetch-site", "same-origin".parse().unwrap());
    assert_eq!(browser.send(of("192.0.2.1", switch)).await.status, StatusCode::FOUND);
    let mut lost = world.browser(&app, "bob");
    let callback = lost.to_callback("/").await;
    lost.jar.0.clear();
    let again = lost.get(&callback).await.location();
    assert!(again.starts_with("/auth/login?again="), "{again}");
    for _ in 0..2 {
        let request = of("192.0.2.1", navigation(Method::GET, &again));
        assert_eq!(lost.send(request).await.status, StatusCode::FOUND);
    }
    let request = of("192.0.2.1", navigation(Method::GET, &again));
    assert_eq!(lost.send(request).await.status, StatusCode::TOO_MANY_REQUESTS);
    assert_eq!(starts(&app, "192.0.2.1").await, 0);
    let request = of("192.0.2.1", navigation(Method::GET, "/auth/login?return_to=/x"));
    assert_eq!(browser.send(request).await.location(), "/x", "a live session goes on");
}

#[tokio::test]
async fn without_an_address_or_with_the_limit_off_every_client_goes_on() {
    let world = World::new().await;
    let limited = world.app(&world.builder().client_limit(1).build().unwrap());
    let unlimited = world.app(&world.builder().no_client_limit().build().unwrap());
    for _ in 0..50 {
        // What a client says of itself is nothing to go by.
        let mut request = navigation(Method::GET, "/auth/login");
        request.headers_mut().insert("x-forwarded-for", "192.0.2.1".parse().unwrap());
        assert_eq!(send(&limited, request).await.status, StatusCode::FOUND);
        assert_eq!(start(&unlimited, "192.0.2.1").await.status, StatusCode::FOUND);
    }
    let refused = world.builder().client_limit(0).build().unwrap_err();
    assert!(refused.problems()[0].starts_with("client limit 0"), "{refused}");
}

#[tokio::test]
async fn a_company_behind_one_address_signs_in_at_nine() {
    let world = World::new().await;
    let app = world.app(&world.builder().build().unwrap());
    // Five thousand people within five minutes, the first thousand at once.
    for n in 0..5_000u32 {
        if n >= 1_000 {
            world.clock.advance(std::time::Duration::from_millis(60));
        }
        assert_eq!(start(&app, "192.0.2.1").await.status, StatusCode::FOUND, "person {n}");
    }
}

#[tokio::test]
async fn in_a_flood_logins_are_sealed_and_the_store_is_bounded() {
    let world = World::new().await;
    let store = Spy::shared(&world);
    let builder = world.builder().store(store.clone()).stored_logins(64);
    let app = world.app(&builder.build().unwrap());
    let mut early = world.browser(&app, "alice");
    let waiting = early.to_callback("/early").await;
    let records = || store.keys("pending").len();
    for n in 0..500 {
        let reply = start(&app, &format!("192.0.2.{}", n % 250)).await;
        assert_eq!(reply.status, StatusCode::FOUND, "nobody is refused");
    }
    assert_eq!(records(), 64);
    let mut late = world.browser(&app, "bob");
    let callback = late.to_callback("/late").await;
    let saved = late.clone();
    assert_eq!(records(), 64, "this one is sealed in the browser");
    assert_eq!(late.get(&callback).await.location(), "/late");
    assert_eq!(late.who().await.as_deref(), Some("bob"));
    let other = world.app(&world.builder().store(store.clone()).build().unwrap());
    let location = pods::at(&other, &saved).get(&callback).await.location();
    assert!(location.starts_with("/auth/login?again="), "used once, on every pod: {location}");
    assert_eq!(early.get(&waiting).await.location(), "/early", "who waited is not thrown out");
    // A lifetime later there is room again.
    world.clock.advance(minutes(12));
    world.browser(&app, "bob").to_callback("/").await;
    assert_eq!(records(), 65);
    assert_eq!(world.provider.counts().double_redemptions, 0);
}

/// Every start can be brought to the callback with a made-up code, and uses up a sealed login then.
#[tokio::test]
async fn used_sealed_logins_are_bounded_too_and_still_used_once() {
    let world = World::new().await;
    let store = Spy::shared(&world);
    let pod = || {
        let builder = world.builder().store(store.clone()).pending(Pending::Sealed);
        world.app(&builder.sessions(Sessions::Sealed).stored_logins(16).build().unwrap())
    };
    let (app, other) = (pod(), pod());
    let marks = || store.keys("spent").len();
    let mut first = world.browser(&app, "alice");
    let callback = first.to_callback("/first").await;
    let replay = first.clone();
    assert_eq!(first.get(&callback).await.location(), "/first");
    for _ in 0..100 {
        let mut stranger = world.browser(&app, "mallory");
        let url = stranger.to_provider("/").await;
        let state = support::parameter(&url, "state").unwrap();
        stranger.get(&format!("/auth/callback?code=made-up&state={state}")).await;
    }
    assert_eq!(marks(), 16);
    let again = |app: &App, browser: &Browser, callback: String| {
        let mut browser = pods::at(app, browser);
        async move { browser.get(&callback).await.location() }
    };
    for app in [&app, &other] {
        let location = again(app, &replay, callback.clone()).await;
        assert!(location.starts_with("/auth/login?again="), "known before the flood: {location}");
    }
    world.clock.advance(minutes(9));
    let mut late = world.browser(&app, "bob");
    let callback = late.to_callback("/late").await;
    let replay = late.clone();
    assert_eq!(late.get(&callback).await.location(), "/late", "the flood refuses nobody");
    // What was noted in this pod alone holds there after the flood, too.
    for _ in 0..2 {
        let location = again(&app, &replay, callback.clone()).await;
        assert!(location.starts_with("/auth/login?again="), "used once on this pod: {location}");
        world.clock.advance(minutes(4));
    }
    world.clock.advance(minutes(13));
    world.browser(&app, "bob").sign_in("/").await;
    assert_eq!(marks(), 17, "there is room again");
}

#[tokio::test]
async fn p10_a_flood_is_logged_when_it_begins_and_ends_and_names_no_address() {
    let log = Log::default();
    let _guard = log.listen(LevelFilter::INFO);
    let world = World::new().await;
    let builder = world.builder().store(Spy::shared(&world)).stored_logins(8).client_limit(50);
    let app = world.app(&builder.build().unwrap());
    for flood in 1..=2 {
        assert_eq!(starts(&app, "192.0.2.77").await, 50);
        for _ in 0..10 {
            start(&app, "192.0.2.77").await;
        }
        world.clock.advance(minutes(20));
        start(&app, "192.0.2.78").await;
        let text = log.text();
        for words in [
            "more logins are started",
            "started logins are noted in the store again",
            "a client starts more logins than one may",
        ] {
            assert_eq!(text.matches(words).count(), flood, "{words}: {text}");
        }
        assert!(!text.contains("192.0.2."), "{text}");
        assert_eq!(text.lines().count(), 3 * flood, "{text}");
    }
}
