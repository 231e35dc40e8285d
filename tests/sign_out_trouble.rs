//! Sign-outs in trouble: copies that lag, a lost counter, somebody who wants to keep others from
//! signing out, and what a layer prints.

#[path = "support/pods.rs"]
mod pods;
mod support;
#[path = "support/tokens.rs"]
mod tokens;
#[path = "support/yielding.rs"]
mod yielding;

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::http::StatusCode;
use bytes::Bytes;
use pods::{Spy, a_minute_later, at, seconds};
use support::{Browser, Reply, World};
use tower_pkce_auth::testing::provider::{Behaviour, Endpoint, TestProvider};
use tower_pkce_auth::{Key, MemoryStore, Store, StoreFuture};
use yielding::Yielding;

/// A store whose copies lag while `lags` is set: what `load_cached` has once returned stays.
#[derive(Clone, Debug)]
struct Lagging {
    inner: MemoryStore,
    lags: Arc<AtomicBool>,
    copies: Arc<Mutex<HashMap<Key, Option<Bytes>>>>,
}

impl Lagging {
    fn over(inner: &MemoryStore) -> Self {
        Self { inner: inner.clone(), lags: Arc::default(), copies: Arc::default() }
    }
}

impl Store for Lagging {
    fn insert(&self, key: &Key, value: Bytes, ttl: Duration) -> StoreFuture<bool> {
        self.copies.lock().unwrap().remove(key);
        self.inner.insert(key, value, ttl)
    }

    fn load(&self, key: &Key) -> StoreFuture<Option<Bytes>> {
        self.inner.load(key)
    }

    fn load_cached(&self, key: &Key) -> StoreFuture<Option<Bytes>> {
        let (inner, copies, lags) =
            (self.inner.clone(), self.copies.clone(), self.lags.load(Ordering::SeqCst));
        let known = copies.lock().unwrap().get(key).cloned();
        if let (true, Some(copy)) = (lags, known) {
            return StoreFuture::ready(Ok(copy));
        }
        let key = key.clone();
        StoreFuture::new(async move {
            let value = inner.load(&key).await?;
            copies.lock().unwrap().insert(key, value.clone());
            Ok(value)
        })
    }

    fn swap(&self, key: &Key, old: &Bytes, new: Bytes, ttl: Duration) -> StoreFuture<bool> {
        self.copies.lock().unwrap().remove(key);
        self.inner.swap(key, old, new, ttl)
    }

    fn take(&self, key: &Key) -> StoreFuture<Option<Bytes>> {
        self.copies.lock().unwrap().remove(key);
        self.inner.take(key)
    }

    fn remove_if(&self, key: &Key, old: &Bytes) -> StoreFuture<bool> {
        self.copies.lock().unwrap().remove(key);
        self.inner.remove_if(key, old)
    }

    fn shared(&self) -> bool {
        true
    }
}

async fn world() -> World {
    let provider = TestProvider::builder().refresh_tokens(true).expires_in(seconds(300));
    World::with_provider(provider).await
}

fn background(browser: &Browser) -> tokio::task::JoinHandle<Reply> {
    let mut browser = browser.clone();
    tokio::spawn(async move { browser.get("/who").await })
}

async fn until_asked(world: &World, count: u64) {
    while world.provider.counts().token < count {
        tokio::task::yield_now().await;
    }
}

fn revoked(world: &World) -> Vec<String> {
    let requests = world.provider.requests(Endpoint::Revocation);
    requests.iter().filter_map(|r| r.form_value("token").map(str::to_owned)).collect()
}

/// A back-channel logout on pod two while pod one refreshes; pod one's copies lag.
#[tokio::test]
async fn a_refresh_looks_for_a_mark_in_the_store_and_not_in_a_copy() {
    for lags in [false, true] {
        let world = world().await;
        let memory = MemoryStore::shared_between_pods(world.clock.clone());
        let lagging = Lagging::over(&memory);
        let one = world.app(&world.builder().store(lagging.clone()).build().unwrap());
        let two = world.app(&world.builder().store(memory.clone()).build().unwrap());
        let mut browser = world.browser(&one, "alice");
        browser.sign_in("/").await;
        // The person's note is gone (another login of theirs pushed this session out, or it was never
        // written): the mark alone ends the session.
        let sid = tokens::sid(&world.provider.issued_id_tokens().pop().unwrap());
        a_minute_later(&mut browser);
        assert_eq!(browser.get("/who").await.status, StatusCode::OK);
        let new: Arc<Mutex<Vec<String>>> = Arc::default();
        let sink = new.clone();
        world.provider.on_token_response(move |response| {
            for name in ["access_token", "refresh_token"] {
                sink.lock().unwrap().push(response[name].as_str().unwrap().to_owned());
            }
        });
        world.provider.set_behaviour(Endpoint::Token, Behaviour::Delay(Duration::from_millis(300)));
        world.clock.advance(seconds(271));
        lagging.lags.store(lags, Ordering::SeqCst);
        let refreshing = background(&browser);
        until_asked(&world, 2).await;
        // Without front-channel records a token with `sid` alone finds no note: only the mark.
        tokens::log_out(&world, &two, (None, Some(&sid)), "sid").await;
        refreshing.await.unwrap();
        tokio::time::sleep(Duration::from_millis(200)).await;
        let revoked = revoked(&world);
        let all = new.lock().unwrap().iter().all(|token| revoked.contains(token));
        assert!(all, "lags {lags}: the new tokens are revoked");
    }
}

/// Pod two refreshed; pod one's copy of the record is older: which token does a sign-out revoke?
#[tokio::test]
async fn a_sign_out_revokes_the_token_that_is_good() {
    let world = world().await;
    let memory = MemoryStore::shared_between_pods(world.clock.clone());
    let lagging = Lagging::over(&memory);
    let one = world.app(&world.builder().store(lagging.clone()).build().unwrap());
    let two = world.app(&world.builder().store(memory.clone()).build().unwrap());
    let mut browser = world.browser(&one, "alice");
    browser.sign_in("/").await;
    a_minute_later(&mut browser);
    assert_eq!(browser.get("/who").await.status, StatusCode::OK);
    lagging.lags.store(true, Ordering::SeqCst);
    let new: Arc<Mutex<Vec<String>>> = Arc::default();
    let sink = new.clone();
    world.provider.on_token_response(move |response| {
        sink.lock().unwrap().push(response["refresh_token"].as_str().unwrap().to_owned());
    });
    world.clock.advance(seconds(271));
    let mut other = at(&two, &browser);
    assert_eq!(other.get("/who").await.status, StatusCode::OK);
    assert_eq!(new.lock().unwrap().len(), 1, "refreshed by pod two");
    assert_eq!(browser.post("/auth/logout").await.status, StatusCode::SEE_OTHER);
    tokio::time::sleep(Duration::from_millis(200)).await;
    let revoked = revoked(&world);
    assert!(
        revoked.contains(&new.lock().unwrap()[0]),
        "{} revoked, not the good one",
        revoked.len()
    );
}

/// Signed out everywhere and in again at pod two; pod one's copies lag.
#[tokio::test]
async fn a_copy_that_lags_ends_no_session() {
    let world = world().await;
    let memory = MemoryStore::shared_between_pods(world.clock.clone());
    let lagging = Lagging::over(&memory);
    let one = world.app(&world.builder().store(lagging.clone()).build().unwrap());
    let two = world.app(&world.builder().store(memory.clone()).build().unwrap());
    let mut browser = world.browser(&one, "alice");
    browser.sign_in("/").await;
    assert_eq!(browser.get("/who").await.status, StatusCode::OK);
    lagging.lags.store(true, Ordering::SeqCst);
    let mut other = at(&two, &browser);
    other.post("/auth/logout?everywhere=1").await;
    other.sign_in("/").await;
    assert_eq!(other.get("/who").await.status, StatusCode::OK);
    let mut back = at(&one, &other);
    a_minute_later(&mut back);
    let reply = back.get("/who").await;
    let start = back.get("/auth/login").await;
    println!(
        "{} {}; start {} {:?}",
        reply.status,
        reply.reason(),
        start.status,
        start.set_cookies()
    );
    assert_eq!(reply.status, StatusCode::OK);
}

/// After "end everybody" each login writes the mark of everybody anew.
#[tokio::test]
async fn a_login_does_not_write_the_mark_of_everybody() {
    let world = World::new().await;
    let store = Spy::shared(&world);
    let layer = world.builder().store(store.clone()).build().unwrap();
    layer.sessions().end_everybody().await.unwrap();
    let mark = store.keys("{marks}");
    let app = world.app(&layer);
    store.forget_calls();
    for _ in 0..5 {
        world.browser(&app, "alice").sign_in("/").await;
    }
    let writes = store.writes().into_iter().filter(|c| mark.contains(&c.key)).count();
    assert!(writes <= 1, "{writes} writes of marks that concern everybody, by 5 logins");
}

/// One person sends the frame of their own `sid` many times at once: others must not be kept out.
#[tokio::test]
async fn one_sid_many_times_at_once_does_not_use_up_the_allowance() {
    use axum::extract::Request;
    let world = World::new().await;
    let store = Yielding(MemoryStore::shared_between_pods(world.clock.clone()));
    let layer = world.builder().store(store).frontchannel_logout(true).build().unwrap();
    let app = world.app(&layer);
    let (_, mallory) = tokens::sign_in(&world, &app, "bob").await;
    let (mut alice, sid) = tokens::sign_in(&world, &app, "alice").await;
    let load = |sid: &str| {
        let query = url::form_urlencoded::Serializer::new(String::new())
            .extend_pairs([("iss", world.provider.issuer()), ("sid", sid)])
            .finish();
        let request = Request::get(format!("/auth/frontchannel-logout?{query}"))
            .header("sec-fetch-mode", "navigate")
            .header("sec-fetch-dest", "iframe")
            .body(axum::body::Body::empty())
            .unwrap();
        let app = app.clone();
        async move { support::send(&app, request).await.status }
    };
    let flood = futures_util::future::join_all((0..300).map(|_| load(&mallory))).await;
    let refused = flood.iter().filter(|status| status.as_u16() == 503).count();
    let status = load(&sid).await;
    println!("of 300 {refused} were refused; alice's: {status}, {:?}", alice.who().await);
    assert_eq!(status, StatusCode::OK);
}

#[tokio::test]
async fn the_layer_prints_nobody() {
    let world = World::new().await;
    let store = Spy::shared(&world);
    let layer = world.builder().store(store).frontchannel_logout(true).build().unwrap();
    let app = world.app(&layer);
    let (alice, sid) = tokens::sign_in(&world, &app, "alice").await;
    let mut alice = alice;
    alice.get("/who").await;
    let printed = format!("{layer:?}");
    let cookie = alice.jar.header("/").unwrap();
    let value = cookie.split("v1.").nth(1).unwrap();
    let bytes = format!("{:?}", value.as_bytes());
    let bytes = bytes.trim_matches(['[', ']']);
    println!(
        "{} bytes; sid {}, sub {}, cookie text {}, cookie bytes {}",
        printed.len(),
        printed.contains(&sid),
        printed.contains("alice"),
        printed.contains(value),
        printed.contains(bytes)
    );
    assert!(!printed.contains(&sid) && !printed.contains("alice") && !printed.contains(bytes));
}

/// While the store is away one person signs out again and again; another one's sign-out is still
/// made up for.
#[tokio::test]
async fn one_cookie_does_not_use_up_the_sign_outs_that_wait() {
    for kept in pods::Kept::SHARED {
        let world = World::new().await;
        let (app, store) = kept.pod(&world, |builder| builder);
        let (bob, _) = tokens::sign_in(&world, &app, "bob").await;
        let (mut alice, _) = tokens::sign_in(&world, &app, "alice").await;
        let copy = alice.clone();
        store.fail(tower_pkce_auth::StoreErrorKind::Unavailable);
        for _ in 0..10_001 {
            assert_eq!(bob.clone().post("/auth/logout").await.status.as_u16(), 503);
        }
        let reply = alice.post("/auth/logout").await;
        assert_eq!(reply.status.as_u16(), 503);
        store.recover();
        let begun = std::time::Instant::now();
        while copy.clone().who().await.is_some() {
            assert!(begun.elapsed() < seconds(20), "{kept:?}: hers was dropped");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}

/// A store that evicts (or loses) the counter alone: who was ever signed out by a mark can still
/// sign in.
#[tokio::test]
async fn a_lost_counter_bars_nobody_from_signing_in() {
    let world = World::new().await;
    let store = Spy::shared(&world);
    let layer = world.builder().store(store.clone()).build().unwrap();
    let app = world.app(&layer);
    tokens::sign_in(&world, &app, "alice").await;
    layer.sessions().end_person("alice").await.unwrap();
    // The counter was written first.
    let counter = store.keys("{marks}")[0].clone();
    assert!(Store::take(&store, &counter).await.unwrap().is_some());
    let mut bob = world.browser(&app, "bob");
    assert_eq!(bob.sign_in("/").await.body, "bob");
    for days in [0, 1, 20] {
        world.clock.advance(Duration::from_secs(days * 24 * 3600));
        let mut alice = world.browser(&app, "alice");
        let reply = alice.sign_in("/").await;
        assert_eq!(reply.status, StatusCode::OK);
    }
}

/// The same without anything lost: nobody comes for a month.
#[tokio::test]
async fn who_comes_back_after_a_month_can_sign_in() {
    const HOUR: u64 = 3600;
    let world = World::new().await;
    let store = Spy::shared(&world);
    let layer = world.builder().store(store.clone()).build().unwrap();
    let app = world.app(&layer);
    tokens::sign_in(&world, &app, "alice").await;
    layer.sessions().end_person("alice").await.unwrap();
    world.clock.advance(seconds(23 * HOUR));
    tokens::sign_in(&world, &app, "alice").await;
    world.clock.advance(seconds(29 * 24 * HOUR + 13 * HOUR));
    let mut alice = world.browser(&app, "alice");
    let reply = alice.sign_in("/").await;
    assert_eq!(reply.status, StatusCode::OK);
}
