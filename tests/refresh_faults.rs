//! Refreshes under faults (group I): pods that crash or are cut off, stores that lose answers,
//! clients that go away, providers that stay away.

#[path = "support/pods.rs"]
mod pods;
mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use axum::http::StatusCode;
use axum::http::header::RETRY_AFTER;
use bytes::Bytes;
use pods::{Call, Spy, assert_signed_out, at, seconds};
use support::{App, Browser, World};
use tower_pkce_auth::testing::provider::{Behaviour, Endpoint, TestProvider};
use tower_pkce_auth::{
    AfterCrash, Builder, Key, MemoryStore, RefreshFailure, Store, StoreError, StoreErrorKind,
    StoreFuture,
};

/// Access tokens last 300 s, so that a refresh is due after 270.
const DUE: Duration = seconds(271);

async fn world() -> World {
    let provider = TestProvider::builder().refresh_tokens(true).expires_in(seconds(300));
    World::with_provider(provider).await
}

/// One pod with this store.
fn pod(world: &World, store: impl Store, set: impl Fn(Builder) -> Builder) -> App {
    world.app(&set(world.builder().store(store)).build().unwrap())
}

/// Two pods, each with a link of its own to one store, and alice signed in at the first.
async fn linked(
    world: &World,
    set: impl Fn(Builder) -> Builder + Copy,
) -> (Browser, Browser, [Spy; 2]) {
    let memory = MemoryStore::shared_between_pods(world.clock.clone());
    let links = [Spy::over(memory.clone()), Spy::over(memory)];
    let [one, two] = links.each_ref().map(|link| pod(world, link.clone(), set));
    let mut browser = world.browser(&one, "alice");
    browser.sign_in("/").await;
    let other = at(&two, &browser);
    (browser, other, links)
}

fn who(browser: &Browser) -> tokio::task::JoinHandle<Option<String>> {
    let mut browser = browser.clone();
    tokio::spawn(async move { browser.who().await })
}

async fn assert_alice(browser: &Browser, what: &str) {
    assert_eq!(browser.clone().who().await.as_deref(), Some("alice"), "{what}");
}

/// Waits until something is so; ten seconds are a hang.
async fn until(what: &str, mut so: impl AsyncFnMut() -> bool) {
    let waiting = async {
        while !so().await {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    let waited = tokio::time::timeout(seconds(10), waiting).await;
    assert!(waited.is_ok(), "{what} never happens");
}

async fn until_asked(world: &World, count: u64) {
    until("a token request", async || world.provider.counts().token >= count).await;
}

fn did(operation: &str, purpose: &str) -> impl Fn(&[Call]) -> bool {
    move |calls| {
        let done = |call: &Call| call.operation == operation && call.purpose() == purpose;
        calls.iter().any(|call| done(call) && !call.refused)
    }
}

/// A pod with a runtime of its own: dropping that stops it at once, whatever it is about.
#[tokio::test]
async fn i07_a_crash_inside_an_exchange_is_over_when_the_lease_lapses() {
    for policy in [AfterCrash::Retry, AfterCrash::SignIn] {
        let world = world().await;
        let (browser, other, [_, link]) =
            linked(&world, |builder| builder.after_crash(policy)).await;
        world.clock.advance(DUE);
        world.provider.set_behaviour(Endpoint::Token, Behaviour::Hang);
        let pod = tokio::runtime::Runtime::new().unwrap();
        let mut doomed = browser.clone();
        pod.spawn(async move { doomed.who().await });
        until_asked(&world, 2).await;
        pod.shutdown_background();
        world.provider.clear_faults();

        link.forget_calls();
        let waiting = who(&other);
        link.until("a try for the lease", did("insert", "lease")).await;
        assert_eq!(world.provider.counts().token, 2, "I07 {policy:?}: the lease is respected");
        world.clock.advance(seconds(11));
        assert_eq!(waiting.await.unwrap().as_deref(), Some("alice"), "I07 {policy:?}: meanwhile");
        match policy {
            AfterCrash::SignIn => {
                link.until("the end", did("remove_if", "session")).await;
                assert_signed_out(&other, "I07: it may have been spent").await;
                assert_signed_out(&browser, "I07: on both pods").await;
                assert_eq!(world.provider.counts().token, 2, "I07: and is not sent again");
            }
            _ => {
                until_asked(&world, 3).await;
                assert_alice(&other, "I07").await;
                assert_alice(&browser, "I07: on both pods").await;
                assert_eq!(world.provider.counts().token, 3, "I07: once more");
            }
        }
    }
}

/// It has new tokens and cannot save them; its lease lapses. Who finds its note doubts first.
#[tokio::test]
async fn i07_a_holder_that_was_cut_off_comes_back_with_what_it_paid_for() {
    for policy in [AfterCrash::Retry, AfterCrash::SignIn] {
        let world = world().await;
        let (browser, other, [near, far]) =
            linked(&world, |builder| builder.after_crash(policy)).await;
        world.clock.advance(DUE);
        let victim = near.clone();
        world.provider.on_token_response(move |_| victim.fail(StoreErrorKind::Unavailable));
        let holder = who(&browser);
        near.until("a save that fails", |calls| calls.iter().any(|call| call.refused)).await;
        world.provider.clear_faults();
        world.clock.advance(seconds(11));
        let overtaking = who(&other);
        far.until("a look at the note", |calls| {
            let leased = calls.iter().position(|call| call.purpose() == "lease");
            let after = leased.map_or(&[][..], |at| &calls[at..]);
            after.iter().filter(|call| call.purpose() == "session").count() > 2
        })
        .await;
        near.recover();
        for request in [holder, overtaking] {
            assert_eq!(request.await.unwrap().as_deref(), Some("alice"), "I07 {policy:?}");
        }
        assert_alice(&browser, "I07: here").await;
        assert_alice(&other, "I07: there").await;
        assert_eq!(world.provider.counts().token, 2, "I07 {policy:?}: it was spent once");
        assert_eq!(world.provider.counts().refresh_reuses, 0, "I07 {policy:?}");
    }
}

/// A store that is away for a while makes no token live longer.
#[tokio::test]
async fn i21_a_lifetime_counts_from_when_the_token_came() {
    let world = world().await;
    let (browser, other, [near, _]) = linked(&world, |builder| builder).await;
    world.clock.advance(DUE);
    let victim = near.clone();
    world.provider.on_token_response(move |_| victim.fail(StoreErrorKind::Unavailable));
    let refreshing = who(&browser);
    near.until("a save that fails", |calls| calls.iter().any(|call| call.refused)).await;
    world.provider.clear_faults();
    world.clock.advance(seconds(100));
    near.recover();
    assert_eq!(refreshing.await.unwrap().as_deref(), Some("alice"), "I21");
    world.clock.advance(seconds(169));
    assert_alice(&other, "I21: not due").await;
    assert_eq!(world.provider.counts().token, 2, "I21: not due");
    world.clock.advance(seconds(2));
    assert_alice(&other, "I21: due").await;
    assert_eq!(world.provider.counts().token, 3, "I21: due, from when it came");
}

/// No crash happened, so `AfterCrash::SignIn` has nothing to say.
#[tokio::test]
async fn i09_a_note_that_cannot_be_taken_back_at_once_ends_no_session() {
    let world = world().await;
    let (browser, other, [near, far]) =
        linked(&world, |builder| builder.after_crash(AfterCrash::SignIn)).await;
    world.clock.advance(DUE);
    // The provider fails, and the store with it.
    world.provider.set_behaviour(Endpoint::Token, Behaviour::status(500));
    let noted = who(&browser);
    near.until("the note", did("swap", "session")).await;
    near.fail(StoreErrorKind::TimedOut);
    near.until("a failure to take it back", |calls| calls.iter().any(|call| call.refused)).await;
    near.recover();
    assert_eq!(noted.await.unwrap().as_deref(), Some("alice"), "I09");
    near.until("the lease given back", did("remove_if", "lease")).await;
    world.provider.clear_faults();
    world.clock.advance(seconds(31));
    assert_alice(&other, "I09: the other pod refreshes").await;
    until_asked(&world, 3).await;
    assert!(!did("remove_if", "session")(&far.calls()), "I09: nobody ends it");
    assert_alice(&browser, "I09").await;
}

/// The token is worth nothing any more: it is not tried again by whoever comes next.
#[tokio::test]
async fn i08_a_session_is_ended_as_soon_as_the_store_is_back() {
    let world = world().await;
    let (browser, other, [near, _]) = linked(&world, |builder| builder).await;
    world.clock.advance(DUE);
    let answer = r#"{"error":"invalid_grant"}"#;
    world.provider.set_behaviour(Endpoint::Token, Behaviour::json(400, answer));
    let refreshing = who(&browser);
    near.until("the note", did("swap", "session")).await;
    near.fail(StoreErrorKind::Unavailable);
    near.until("a read that fails", |calls| calls.iter().any(|call| call.refused)).await;
    near.recover();
    assert_eq!(refreshing.await.unwrap(), None, "I08");
    assert_signed_out(&other, "I08: everywhere").await;
    assert_eq!(world.provider.counts().token, 2, "I08: one attempt");
}

/// A store between pods that loses answers of writes, and writes.
#[derive(Clone, Debug)]
struct Lossy {
    inner: MemoryStore,
    writes: Arc<AtomicUsize>,
    loses: Arc<AtomicUsize>,
}

impl Lossy {
    fn lose<T: Send + 'static>(&self, write: impl FnOnce() -> StoreFuture<T>) -> StoreFuture<T> {
        let every = self.loses.load(Ordering::Acquire);
        let n = self.writes.fetch_add(1, Ordering::AcqRel);
        let lost = || StoreFuture::ready(Err(StoreError::new(StoreErrorKind::TimedOut)));
        if every == 0 || !n.is_multiple_of(every) {
            return write();
        }
        if (n / every).is_multiple_of(2) {
            return lost();
        }
        // It is carried out all the same.
        let written = write();
        StoreFuture::new(async move {
            let _ = written.await;
            Err(StoreError::new(StoreErrorKind::TimedOut))
        })
    }
}

impl Store for Lossy {
    fn insert(&self, key: &Key, value: Bytes, ttl: Duration) -> StoreFuture<bool> {
        self.lose(|| self.inner.insert(key, value, ttl))
    }

    fn load(&self, key: &Key) -> StoreFuture<Option<Bytes>> {
        self.inner.load(key)
    }

    fn swap(&self, key: &Key, old: &Bytes, new: Bytes, ttl: Duration) -> StoreFuture<bool> {
        self.lose(|| self.inner.swap(key, old, new, ttl))
    }

    fn take(&self, key: &Key) -> StoreFuture<Option<Bytes>> {
        self.inner.take(key)
    }

    fn remove_if(&self, key: &Key, old: &Bytes) -> StoreFuture<bool> {
        // A lease that stays would lapse by a clock that stands still in these tests.
        if key.as_str().contains(":lease:") {
            return self.inner.remove_if(key, old);
        }
        self.lose(|| self.inner.remove_if(key, old))
    }

    fn shared(&self) -> bool {
        true
    }
}

/// Three pods, a store that loses every second, third or fifth write or its answer, and clients of
/// whom half go away: one refresh a round, nobody signed out.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn i05_i06_lost_answers_and_clients_that_go_away_change_nothing() {
    for every in [0, 5, 3, 2] {
        let world = world().await;
        let store = Lossy {
            inner: MemoryStore::shared_between_pods(world.clock.clone()),
            writes: Arc::default(),
            loses: Arc::default(),
        };
        let set = |builder: Builder| builder.after_crash(AfterCrash::SignIn);
        let pods = [(); 3].map(|()| pod(&world, store.clone(), set));
        let mut browser = world.browser(&pods[0], "alice");
        browser.sign_in("/").await;
        store.loses.store(every, Ordering::Release);
        for round in 1..=4 {
            world.clock.advance(DUE);
            let requests = (0..48).map(|n| (n, who(&at(&pods[n % 3], &browser))));
            for (n, request) in requests.collect::<Vec<_>>() {
                if n % 2 == 0 {
                    request.abort();
                } else {
                    let who = request.await.unwrap();
                    assert_eq!(who.as_deref(), Some("alice"), "I06 {every}: round {round}");
                }
            }
            // A request that lost patience went on with the session as it was: until it is saved,
            // somebody is at it or begins.
            until(&format!("{every}: refresh {round}"), async || {
                let before = store.writes.load(Ordering::Acquire);
                for pod in &pods {
                    assert_alice(&at(pod, &browser), "I06").await;
                }
                world.provider.counts().token > round
                    && store.writes.load(Ordering::Acquire) == before
            })
            .await;
            assert_eq!(world.provider.counts().token, 1 + round, "I06 {every}: round {round}");
        }
        assert_eq!(world.provider.counts().refresh_reuses, 0, "I06 {every}");
    }
}

/// What a request gets once the access token has run out and cannot be replaced.
#[tokio::test]
async fn i09_a_session_that_cannot_be_refreshed_is_what_was_asked_for() {
    for policy in [RefreshFailure::Continue, RefreshFailure::Refuse, RefreshFailure::SignIn] {
        let world = world().await;
        let (browser, other, _) = linked(&world, |builder| builder.refresh_failure(policy)).await;
        world.clock.advance(DUE);
        world.provider.set_behaviour(Endpoint::Token, Behaviour::status(503));
        for pod in [&browser, &other] {
            assert_alice(pod, &format!("I09 {policy:?}: the token is good for half a minute"))
                .await;
        }
        world.clock.advance(seconds(29));
        for pod in [&browser, &other, &browser] {
            let what = format!("I09 {policy:?}: the token has run out");
            match policy {
                RefreshFailure::Continue => assert_alice(pod, &what).await,
                RefreshFailure::Refuse => {
                    let reply = pod.clone().get("/who").await;
                    assert_eq!(reply.status, StatusCode::SERVICE_UNAVAILABLE, "{what}");
                    assert_eq!(reply.reason(), "provider_unavailable/refresh", "{what}");
                    assert!(reply.headers.contains_key(RETRY_AFTER), "{what}");
                    assert!(reply.set_cookies().is_empty(), "{what}: the cookie is kept");
                }
                _ => assert_signed_out(pod, &what).await,
            }
        }
        let asked = world.provider.counts().token;
        assert_eq!(asked, 2, "I14 {policy:?}: one attempt, then a pause");
        world.provider.clear_faults();
        world.clock.advance(seconds(31));
        if policy == RefreshFailure::SignIn {
            assert_signed_out(&browser, "I09: it stays so").await;
        } else {
            assert_alice(&browser, &format!("I09 {policy:?}: it works again")).await;
            assert_alice(&other, &format!("I09 {policy:?}: everywhere")).await;
            assert_eq!(world.provider.counts().token, 3, "I09 {policy:?}");
        }
    }
}

/// A store that fails is no reason to sign anybody out, nor to serve whoever should be refused.
#[tokio::test]
async fn i09_trouble_of_the_store_is_not_taken_for_a_failed_refresh() {
    for policy in [RefreshFailure::Refuse, RefreshFailure::SignIn] {
        let world = world().await;
        let lossy = Lossy {
            inner: MemoryStore::shared_between_pods(world.clock.clone()),
            writes: Arc::default(),
            loses: Arc::default(),
        };
        let app = pod(&world, lossy.clone(), |builder| builder.refresh_failure(policy));
        let mut browser = world.browser(&app, "alice");
        browser.sign_in("/").await;
        world.clock.advance(seconds(301));
        // Reads work; no lease can be had.
        lossy.loses.store(1, Ordering::Release);
        lossy.writes.store(0, Ordering::Release);
        let reply = browser.clone().get("/who").await;
        assert_eq!(reply.status, StatusCode::SERVICE_UNAVAILABLE, "I09 {policy:?}");
        assert!(reply.set_cookies().is_empty(), "I09 {policy:?}: the cookie is kept");
        lossy.loses.store(0, Ordering::Release);
        world.clock.advance(seconds(11));
        assert_alice(&browser, &format!("I09 {policy:?}: with the store it works again")).await;
        assert_eq!(world.provider.counts().token, 2, "I09 {policy:?}: refreshed once");
    }
}

/// A provider that has just failed is left alone; that says nothing of a session it was not asked
/// about.
#[tokio::test]
async fn i09_i14_the_failure_of_one_session_ends_no_other() {
    let world = world().await;
    let store = MemoryStore::shared_between_pods(world.clock.clone());
    let sign_in = |builder: Builder| builder.refresh_failure(RefreshFailure::SignIn);
    let app = pod(&world, store, sign_in);
    let mut browsers = ["alice", "bob"].map(|user| world.browser(&app, user));
    for browser in &mut browsers {
        browser.sign_in("/").await;
    }
    let [alice, mut bob] = browsers;
    world.clock.advance(seconds(301));
    world.provider.set_behaviour(Endpoint::Token, Behaviour::status(503));
    assert_signed_out(&alice, "I09: as was asked for").await;
    assert_eq!(bob.get("/who").await.status, StatusCode::SERVICE_UNAVAILABLE, "I09");
    assert_eq!(world.provider.counts().token, 3, "I14: it was not asked again");
    world.provider.clear_faults();
    world.clock.advance(seconds(6));
    assert_eq!(bob.who().await.as_deref(), Some("bob"), "I09");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn i14_a_provider_that_is_down_is_asked_once_by_a_thousand_requests() {
    let world = world().await;
    let store = MemoryStore::shared_between_pods(world.clock.clone());
    let pods = [(); 3].map(|()| pod(&world, store.clone(), |builder| builder));
    let mut browser = world.browser(&pods[0], "alice");
    browser.sign_in("/").await;
    for round in 1..=2 {
        world.clock.advance(DUE);
        world.provider.set_behaviour(Endpoint::Token, Behaviour::status(503));
        for _ in 0..10 {
            let requests = (0..100).map(|n| who(&at(&pods[n % 3], &browser)));
            for request in requests.collect::<Vec<_>>() {
                assert_eq!(request.await.unwrap().as_deref(), Some("alice"), "I09");
            }
        }
        let asked = world.provider.counts().token - 1;
        assert_eq!(asked, round, "I14: one attempt for all pods, then a pause");
    }
    assert_eq!(world.provider.counts().refresh_reuses, 0, "I09");
}
