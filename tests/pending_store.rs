//! Group B: pending logins and a store that is full, away, slow, or read by somebody else.

#[path = "support/log.rs"]
mod log;
mod support;

use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::http::StatusCode;
use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use bytes::Bytes;
use log::Log;
use support::{Browser, Reply, World, navigation, parameter};
use tower_pkce_auth::{
    Builder, Key, MemoryStore, Pending, Sessions, Store, StoreError, StoreErrorKind, StoreFuture,
};
use tracing::level_filters::LevelFilter;

/// A shared store that has moods, and remembers what was written to it.
#[derive(Clone, Debug)]
struct Moody {
    inner: MemoryStore,
    mood: Arc<Mutex<Mood>>,
    writes: Arc<Mutex<Vec<(String, Bytes, Duration)>>>,
}

#[derive(Clone, Copy, Debug)]
enum Mood {
    Away(StoreErrorKind),
    /// No room for keys that contain this.
    FullFor(&'static str),
    Hangs,
    Well,
}

impl Moody {
    fn new(world: &World) -> Self {
        Self {
            inner: MemoryStore::shared_between_pods(world.clock.clone()),
            mood: Arc::new(Mutex::new(Mood::Well)),
            writes: Arc::default(),
        }
    }

    fn is(&self, mood: Mood) {
        *self.mood.lock().unwrap() = mood;
    }

    fn writes(&self) -> usize {
        self.writes.lock().unwrap().len()
    }

    fn note(&self, key: &Key, value: &Bytes, ttl: Duration) {
        let note = (key.as_str().to_owned(), value.clone(), ttl);
        self.writes.lock().unwrap().push(note);
    }

    fn trouble<T: Send + 'static>(&self, insert: Option<&Key>) -> Option<StoreFuture<T>> {
        let failed = |kind| Some(StoreFuture::ready(Err(StoreError::new(kind))));
        match (*self.mood.lock().unwrap(), insert) {
            (Mood::Away(kind), _) => failed(kind),
            (Mood::FullFor(part), Some(key)) if key.as_str().contains(part) => {
                failed(StoreErrorKind::Full)
            }
            (Mood::Hangs, _) => Some(StoreFuture::new(std::future::pending())),
            _ => None,
        }
    }
}

impl Store for Moody {
    fn insert(&self, key: &Key, value: Bytes, ttl: Duration) -> StoreFuture<bool> {
        self.trouble(Some(key)).unwrap_or_else(|| {
            self.note(key, &value, ttl);
            self.inner.insert(key, value, ttl)
        })
    }

    fn load(&self, key: &Key) -> StoreFuture<Option<Bytes>> {
        self.trouble(None).unwrap_or_else(|| self.inner.load(key))
    }

    fn swap(&self, key: &Key, old: &Bytes, new: Bytes, ttl: Duration) -> StoreFuture<bool> {
        self.trouble(None).unwrap_or_else(|| {
            self.note(key, &new, ttl);
            self.inner.swap(key, old, new, ttl)
        })
    }

    fn take(&self, key: &Key) -> StoreFuture<Option<Bytes>> {
        self.trouble(None).unwrap_or_else(|| self.inner.take(key))
    }

    fn remove_if(&self, key: &Key, old: &Bytes) -> StoreFuture<bool> {
        self.trouble(None).unwrap_or_else(|| self.inner.remove_if(key, old))
    }

    fn shared(&self) -> bool {
        true
    }
}

const AWAY: [StoreErrorKind; 2] = [StoreErrorKind::TimedOut, StoreErrorKind::Unavailable];

/// Backends that need a shared store: for the record, or for the spent mark.
fn shared(world: &World, store: &Moody) -> [(&'static str, Builder); 2] {
    let builder = |pending| world.builder().pending(pending).store(store.clone());
    [("store", builder(Pending::Store)), ("sealed", builder(Pending::Sealed))]
}

fn assert_unavailable(reply: &Reply, case: &str) {
    assert_eq!(reply.status, StatusCode::SERVICE_UNAVAILABLE, "{case}: {}", reply.reason());
    assert!(!reply.headers.contains_key("location"), "{case}");
    assert!(reply.set_cookies().is_empty(), "{case}: {:?}", reply.set_cookies());
    assert_eq!(reply.header("cache-control"), "no-store", "{case}");
    assert!(reply.reason().starts_with("store_unavailable/"), "{case}: {}", reply.reason());
}

#[tokio::test]
async fn b17_a_start_with_the_store_away_is_503_before_the_provider() {
    let world = World::new().await;
    let store = Moody::new(&world);
    let memory = world.builder().pending(Pending::Memory).store(store.clone());
    for (backend, builder) in shared(&world, &store).into_iter().chain([("memory", memory)]) {
        let app = world.app(&builder.build().unwrap());
        for kind in AWAY {
            let case = format!("B17 {backend} {kind:?}");
            store.is(Mood::Away(kind));
            let mut browser = world.browser(&app, "alice");
            let reply = browser.get("/deep").await;
            assert_eq!(reply.location(), "/auth/login?return_to=%2Fdeep", "{case}");
            assert_unavailable(&browser.get(&reply.location()).await, &case);
            store.is(Mood::Well);
            let reply = browser.sign_in("/deep").await;
            assert_eq!(reply.body, "alice", "{case}: it recovers by itself");
        }
    }
    assert_eq!(world.provider.counts().authorize, 6, "nobody else was sent there");
}

#[tokio::test]
async fn b17_a_callback_with_the_store_away_redeems_nothing_and_can_be_repeated() {
    let world = World::new().await;
    let store = Moody::new(&world);
    for (backend, builder) in shared(&world, &store) {
        let app = world.app(&builder.build().unwrap());
        for kind in AWAY {
            let case = format!("B17 {backend} {kind:?}");
            let mut browser = world.browser(&app, "alice");
            let callback = browser.to_callback("/deep").await;
            world.provider.reset_counts();
            store.is(Mood::Away(kind));
            assert_unavailable(&browser.get(&callback).await, &case);
            assert_eq!(world.provider.counts().token, 0, "{case}");
            assert_eq!(browser.jar.pending(), 1, "{case}: the cookie is kept");
            store.is(Mood::Well);
            let reply = browser.get(&callback).await;
            assert_eq!(reply.location(), "/deep", "{case}: {}", reply.reason());
            assert_eq!(browser.who().await.as_deref(), Some("alice"), "{case}");
        }
    }
}

/// Time stands still but for waits: a wait that is bounded ends at once, any other never.
#[tokio::test]
async fn b17_a_store_that_never_answers_is_a_503_and_not_a_request_that_hangs() {
    let world = World::new().await;
    let store = Moody::new(&world);
    for (backend, builder) in shared(&world, &store) {
        let app = world.app(&builder.build().unwrap());
        let mut browser: Browser = world.browser(&app, "alice");
        let callback = browser.to_callback("/deep").await;
        let tokens = world.provider.counts().token;
        store.is(Mood::Hangs);
        tokio::time::pause();
        let mut answers = Vec::new();
        for path in ["/auth/login", &callback] {
            let guard = Duration::from_secs(60);
            answers.push((path, tokio::time::timeout(guard, browser.get(path)).await));
        }
        tokio::time::resume();
        store.is(Mood::Well);
        for (path, answer) in answers {
            let path = path.split('?').next().unwrap();
            let reply = answer.unwrap_or_else(|_| panic!("B17 {backend}: {path} hangs"));
            assert_unavailable(&reply, &format!("B17 {backend} {path}"));
        }
        assert_eq!(world.provider.counts().token, tokens, "B17 {backend}");
    }
}

#[tokio::test]
async fn b16_a_flood_fills_the_store_and_nobody_waiting_is_evicted() {
    let world = World::new().await;
    let store = MemoryStore::with_clock(world.clock.clone(), 64);
    let builder = world.builder().pending(Pending::Store).store(store.clone());
    let app = world.app(&builder.build().unwrap());
    let mut early = world.browser(&app, "alice");
    let waiting = early.to_callback("/early").await;
    for _ in 0..1_000 {
        let reply = support::send(&app, navigation(axum::http::Method::GET, "/auth/login")).await;
        assert_eq!(reply.status, StatusCode::FOUND, "a full store seals: {}", reply.reason());
    }
    assert!(store.len() <= 64, "B16 {}", store.len());
    // Every shard is full now: this one is sealed, works, and works once.
    let mut late = world.browser(&app, "bob");
    let url = late.to_provider("/late").await;
    let saved = late.clone();
    let callback = late.local(&world.provider.authorize_as(&url, "bob").await.unwrap());
    assert_eq!(late.get(&callback).await.location(), "/late", "sealed instead");
    assert_eq!(late.who().await.as_deref(), Some("bob"));
    let location = saved.clone().get(&callback).await.location();
    assert!(location.starts_with("/auth/login?again="), "B11 {location}");
    assert_eq!(early.get(&waiting).await.location(), "/early", "nobody is evicted");
    // What is expired makes room.
    world.clock.advance(Duration::from_secs(700));
    let mut next = world.browser(&app, "bob");
    assert_eq!(next.sign_in("/").await.body, "bob");
    assert_eq!(world.provider.counts().double_redemptions, 0);
}

#[tokio::test]
async fn a_start_that_meets_full_is_sealed_instead_and_completes() {
    let world = World::new().await;
    for (case, part) in
        [("no room for logins", ":pending:"), ("none for either", "nd:"), ("none at all", "")]
    {
        let store = Moody::new(&world);
        // Sessions are sealed: nothing of this login needs room in the store.
        let builder = world.builder().pending(Pending::Store).sessions(Sessions::Sealed);
        let app = world.app(&builder.store(store.clone()).build().unwrap());
        store.is(Mood::FullFor(part));
        let mut browser = world.browser(&app, "alice");
        let reply = browser.get("/auth/login?return_to=/deep").await;
        assert_eq!(reply.status, StatusCode::FOUND, "{case}: {}", reply.reason());
        let callback = world.provider.authorize(&reply.location()).await.unwrap();
        let reply = browser.get(&browser.local(&callback)).await;
        assert_eq!(reply.location(), "/deep", "{case}: {}", reply.reason());
        assert_eq!(browser.who().await.as_deref(), Some("alice"), "{case}");
    }
}

#[tokio::test]
async fn a_spent_mark_without_room_is_only_a_warning() {
    let world = World::new().await;
    let store = Moody::new(&world);
    let builder = world.builder().pending(Pending::Sealed).store(store.clone());
    let app = world.app(&builder.build().unwrap());
    let mut browser = world.browser(&app, "alice");
    let callback = browser.to_callback("/deep").await;
    store.is(Mood::FullFor(":spent:"));
    assert_eq!(browser.get(&callback).await.location(), "/deep");
    assert_eq!(browser.who().await.as_deref(), Some("alice"));
}

#[tokio::test]
async fn b16_b19_what_reaches_the_store_is_hashed_sealed_and_short_lived() {
    let world = World::new().await;
    let store = Moody::new(&world);
    for (backend, builder) in shared(&world, &store) {
        let app = world.app(&builder.sessions(Sessions::Stored).build().unwrap());
        let mut browser = world.browser(&app, "alice");
        let url = browser.to_provider("/CANARY").await;
        let (state, nonce) = (parameter(&url, "state").unwrap(), parameter(&url, "nonce").unwrap());
        let callback = world.provider.authorize_as(&url, "alice").await.unwrap();
        browser.get(&browser.local(&callback)).await;
        let session = browser.jar.ending("-s").unwrap().trim_start_matches("v1.").to_owned();
        let verifier = {
            let requests = world.provider.token_requests();
            requests.last().unwrap().form_value("code_verifier").unwrap().to_owned()
        };
        let raw = |text: &str| BASE64_URL_SAFE_NO_PAD.decode(text).unwrap();
        let id_token = world.provider.issued_id_tokens().pop().unwrap();
        let secrets: Vec<Vec<u8>> = vec![
            raw(&state)[..16].to_vec(),
            state.into_bytes(),
            raw(&nonce),
            nonce.into_bytes(),
            raw(&verifier),
            verifier.into_bytes(),
            raw(&session)[..16].to_vec(),
            raw(&session)[16..].to_vec(),
            session.into_bytes(),
            id_token.into_bytes(),
            b"CANARY".to_vec(),
            b"alice".to_vec(),
        ];
        for (key, value, ttl) in &*store.writes.lock().unwrap() {
            let (prefix, hash) = key.rsplit_once(':').unwrap();
            assert!(prefix.starts_with("auth:"), "B19 {key}");
            assert!(hash.len() == 64 && hash.bytes().all(|b| b.is_ascii_hexdigit()), "B19 {key}");
            for secret in &secrets {
                let hex: String = secret.iter().map(|byte| format!("{byte:02x}")).collect();
                let shows = value.windows(secret.len()).any(|part| part == secret);
                assert!(!shows && !key.contains(&hex), "B19 {backend} {key}");
            }
            let limit = match prefix.rsplit(':').next().unwrap() {
                "pending" | "spent" => 600 + 2 * 60,
                "session" => 12 * 3600 + 60,
                _ => 32 * 24 * 3600,
            };
            assert!((1..=limit).contains(&ttl.as_secs()), "B16 {backend} {key} {ttl:?}");
        }
        assert!(store.writes() >= 3, "B19 {backend}: nothing was written");
    }
}

#[test]
fn b23_memory_beside_a_shared_store_is_loudly_warned_about() {
    for (pending, warned) in [(Pending::Memory, true), (Pending::Store, false)] {
        let log = Log::default();
        let listening = log.listen(LevelFilter::INFO);
        let clock = Arc::new(tower_pkce_auth::SystemClock);
        let builder = tower_pkce_auth::PkceAuthLayer::builder(
            "https://op.example".parse().unwrap(),
            tower_pkce_auth::ClientId::new("app"),
            "https://rp.example".parse().unwrap(),
        );
        let builder = builder.public_client().cookie_keys(tower_pkce_auth::CookieKeys::random());
        let store = MemoryStore::shared_between_pods(clock);
        assert!(builder.store(store).pending(pending).build().is_ok());
        drop(listening);
        let text = log.text();
        assert_eq!(text.contains("pending logins in memory"), warned, "B23 {pending:?}: {text}");
    }
}
