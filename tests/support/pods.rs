//! Pods that share a store which can be watched, and taken away.

#![allow(dead_code, missing_docs, reason = "each test uses a part of it")]

use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::extract::Request;
use axum::http::Method;
use axum::http::header::COOKIE;
use bytes::Bytes;
use tokio::sync::Notify;
use tower_pkce_auth::{
    Builder, Key, MemoryStore, Sessions, Store, StoreError, StoreErrorKind, StoreFuture,
};

use crate::support::{App, Browser, World, navigation};

/// How the sessions of a row of a table are kept.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Kept {
    /// In cookies, without any store.
    Sealed,
    /// In cookies, with the marks of logouts in a shared store.
    SealedShared,
    /// In the memory of one process.
    Stored,
    /// In a shared store.
    StoredShared,
}

impl Kept {
    pub const ALL: [Self; 4] = [Self::Sealed, Self::SealedShared, Self::Stored, Self::StoredShared];
    /// Those of which every pod knows everything.
    pub const SHARED: [Self; 2] = [Self::SealedShared, Self::StoredShared];

    pub fn is_stored(self) -> bool {
        matches!(self, Self::Stored | Self::StoredShared)
    }

    /// The store for the pods of a row.
    pub fn store(self, world: &World) -> Spy {
        match self {
            Self::Sealed | Self::Stored => {
                Spy::over(MemoryStore::with_clock(world.clock.clone(), 10_000))
            }
            Self::SealedShared | Self::StoredShared => Spy::shared(world),
        }
    }

    /// A builder for one pod.
    pub fn with(self, builder: Builder, store: &Spy) -> Builder {
        match self {
            Self::Sealed => builder,
            Self::SealedShared => builder.store(store.clone()).sessions(Sessions::Sealed),
            Self::Stored => builder.store(store.clone()).sessions(Sessions::Stored),
            Self::StoredShared => builder.store(store.clone()),
        }
    }

    /// One pod and its store.
    pub fn pod(self, world: &World, set: impl Fn(Builder) -> Builder) -> (App, Spy) {
        let store = self.store(world);
        let layer = set(self.with(world.builder(), &store)).build().unwrap();
        (world.app(&layer), store)
    }

    /// Two pods with one store.
    pub fn pods(self, world: &World, set: impl Fn(Builder) -> Builder) -> (App, App, Spy) {
        let store = self.store(world);
        let pod = || world.app(&set(self.with(world.builder(), &store)).build().unwrap());
        (pod(), pod(), store)
    }
}

/// A call that reached a [`Spy`].
#[derive(Clone, Debug)]
pub struct Call {
    pub operation: &'static str,
    pub key: Key,
    pub value: Option<Bytes>,
    pub ttl: Option<Duration>,
    pub refused: bool,
}

impl Call {
    /// The middle part of the key.
    pub fn purpose(&self) -> &str {
        self.key.as_str().split(':').nth(1).unwrap()
    }
}

/// A store that writes down what it is asked, and can be taken away.
#[derive(Clone, Debug)]
pub struct Spy {
    inner: MemoryStore,
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    failing: Mutex<Option<StoreErrorKind>>,
    /// One operation on keys of one purpose fails, as if the store had gone away just then.
    spoilt: Mutex<Option<(&'static str, &'static str)>>,
    calls: Mutex<Vec<Call>>,
    called: Notify,
}

impl Spy {
    pub fn over(inner: MemoryStore) -> Self {
        Self { inner, shared: Arc::default() }
    }

    pub fn shared(world: &World) -> Self {
        Self::over(MemoryStore::shared_between_pods(world.clock.clone()))
    }

    /// Takes the store away.
    pub fn fail(&self, kind: StoreErrorKind) {
        *self.shared.failing.lock().unwrap() = Some(kind);
    }

    /// Fails one operation on keys of one purpose, and nothing else.
    pub fn fail_only(&self, operation: &'static str, purpose: &'static str) {
        *self.shared.spoilt.lock().unwrap() = Some((operation, purpose));
    }

    /// Brings it back.
    pub fn recover(&self) {
        *self.shared.failing.lock().unwrap() = None;
        *self.shared.spoilt.lock().unwrap() = None;
    }

    pub fn calls(&self) -> Vec<Call> {
        self.shared.calls.lock().unwrap().clone()
    }

    pub fn forget_calls(&self) {
        self.shared.calls.lock().unwrap().clear();
    }

    /// Every call that may change something.
    pub fn writes(&self) -> Vec<Call> {
        self.calls().into_iter().filter(|call| call.operation != "load").collect()
    }

    /// The keys of one purpose (`session`, `{marks}`, …) that were ever written.
    pub fn keys(&self, purpose: &str) -> Vec<Key> {
        let mut keys: Vec<Key> = Vec::new();
        for call in self.writes().into_iter().filter(|call| call.purpose() == purpose) {
            if !keys.contains(&call.key) {
                keys.push(call.key);
            }
        }
        keys
    }

    /// What lies under a key.
    pub async fn value(&self, key: &Key) -> Option<Bytes> {
        self.inner.load(key).await.unwrap()
    }

    /// Replaces what lies under a key.
    pub async fn overwrite(&self, key: &Key, value: Bytes) {
        self.inner.take(key).await.unwrap();
        assert!(self.inner.insert(key, value, Duration::from_secs(3600)).await.unwrap());
    }

    /// Waits until the calls look as wanted; ten seconds are a hang.
    pub async fn until(&self, what: &str, wanted: impl Fn(&[Call]) -> bool) {
        let waiting = async {
            loop {
                let called = self.shared.called.notified();
                if wanted(&self.calls()) {
                    return;
                }
                called.await;
            }
        };
        let waited = tokio::time::timeout(Duration::from_secs(10), waiting).await;
        assert!(waited.is_ok(), "{what} never happens");
    }

    fn note<T>(
        &self,
        operation: &'static str,
        key: &Key,
        value: Option<&Bytes>,
        ttl: Option<Duration>,
    ) -> Option<StoreFuture<T>> {
        let mut failing = *self.shared.failing.lock().unwrap();
        let purpose = key.as_str().split(':').nth(1).unwrap();
        if *self.shared.spoilt.lock().unwrap() == Some((operation, purpose)) {
            failing = Some(StoreErrorKind::Unavailable);
        }
        self.shared.calls.lock().unwrap().push(Call {
            operation,
            key: key.clone(),
            value: value.cloned(),
            ttl,
            refused: failing.is_some(),
        });
        self.shared.called.notify_waiters();
        failing.map(|kind| StoreFuture::ready(Err(StoreError::new(kind))))
    }
}

impl Store for Spy {
    fn insert(&self, key: &Key, value: Bytes, ttl: Duration) -> StoreFuture<bool> {
        self.note("insert", key, Some(&value), Some(ttl))
            .unwrap_or_else(|| self.inner.insert(key, value, ttl))
    }

    fn load(&self, key: &Key) -> StoreFuture<Option<Bytes>> {
        self.note("load", key, None, None).unwrap_or_else(|| self.inner.load(key))
    }

    fn swap(&self, key: &Key, old: &Bytes, new: Bytes, ttl: Duration) -> StoreFuture<bool> {
        self.note("swap", key, Some(&new), Some(ttl))
            .unwrap_or_else(|| self.inner.swap(key, old, new, ttl))
    }

    fn take(&self, key: &Key) -> StoreFuture<Option<Bytes>> {
        self.note("take", key, None, None).unwrap_or_else(|| self.inner.take(key))
    }

    fn remove_if(&self, key: &Key, old: &Bytes) -> StoreFuture<bool> {
        self.note("remove_if", key, None, None).unwrap_or_else(|| self.inner.remove_if(key, old))
    }

    fn shared(&self) -> bool {
        self.inner.shared()
    }
}

/// The same browser in front of another pod.
pub fn at(app: &App, browser: &Browser) -> Browser {
    Browser { app: app.clone(), ..browser.clone() }
}

/// Drops the note of a completed login, as browsers do after a minute; the jar knows no clock.
pub fn a_minute_later(browser: &mut Browser) {
    browser.jar.0.retain(|(name, _), _| !name.ends_with("-n"));
}

/// Asserts that a navigation is sent to the sign-in: neither let in, nor refused by an outage.
pub async fn assert_signed_out(browser: &Browser, what: &str) {
    let mut browser = browser.clone();
    a_minute_later(&mut browser);
    let reply = browser.get("/who").await;
    let found = (reply.status.as_u16(), reply.reason());
    assert_eq!(found, (302, "not_signed_in/no_session".to_owned()), "{what}");
}

/// The name of the session cookie.
pub fn session_name(browser: &Browser) -> String {
    let names = browser.jar.names();
    let name = names.iter().find(|name| name.ends_with("-s"));
    (*name.unwrap_or_else(|| panic!("no session cookie among {names:?}"))).to_owned()
}

/// Changes the value of the session cookie.
pub fn plant(browser: &mut Browser, name: &str, value: impl Into<String>) {
    browser.jar.0.insert((name.to_owned(), "/".to_owned()), value.into());
}

/// A navigation with exactly these `Cookie` fields.
pub fn with_cookies(path: &str, fields: &[&[u8]]) -> Request {
    let mut request = navigation(Method::GET, path);
    for field in fields {
        let value = axum::http::HeaderValue::from_bytes(field).unwrap();
        request.headers_mut().append(COOKIE, value);
    }
    request
}

pub const fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

pub const fn minutes(minutes: u64) -> Duration {
    Duration::from_secs(60 * minutes)
}
