//! A store that can be broken in every way a store breaks.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use tower_pkce_auth::{Key, MemoryStore, Store, StoreError, StoreErrorKind, StoreFuture};

use crate::support::World;

/// What is wrong with it.
#[derive(Clone, Copy, Debug)]
pub enum Trouble {
    None,
    /// Says so, and why, in words that no client should read.
    Fails(StoreErrorKind),
    Hangs,
    Panics,
}

#[derive(Clone, Debug)]
pub struct Broken {
    inner: MemoryStore,
    trouble: Arc<Mutex<Trouble>>,
}

impl Broken {
    /// A shared store that works, for now.
    pub fn new(world: &World) -> Self {
        let inner = MemoryStore::shared_between_pods(world.clock.clone());
        Self { inner, trouble: Arc::new(Mutex::new(Trouble::None)) }
    }

    pub fn trouble(&self, trouble: Trouble) {
        *self.trouble.lock().unwrap() = trouble;
    }

    fn or<T: Send + 'static>(&self, works: impl FnOnce() -> StoreFuture<T>) -> StoreFuture<T> {
        let trouble = *self.trouble.lock().unwrap();
        match trouble {
            Trouble::None => works(),
            Trouble::Fails(kind) => {
                let cause = "CANARY 50 %\r\ngrpc-status: 0\r\n\u{e9}";
                StoreFuture::ready(Err(StoreError::new(kind).with_source(cause)))
            }
            Trouble::Hangs => StoreFuture::new(std::future::pending()),
            Trouble::Panics => StoreFuture::new(async { panic!("the store is broken") }),
        }
    }
}

impl Store for Broken {
    fn insert(&self, key: &Key, value: Bytes, ttl: Duration) -> StoreFuture<bool> {
        self.or(|| self.inner.insert(key, value, ttl))
    }

    fn load(&self, key: &Key) -> StoreFuture<Option<Bytes>> {
        self.or(|| self.inner.load(key))
    }

    fn swap(&self, key: &Key, old: &Bytes, new: Bytes, ttl: Duration) -> StoreFuture<bool> {
        self.or(|| self.inner.swap(key, old, new, ttl))
    }

    fn take(&self, key: &Key) -> StoreFuture<Option<Bytes>> {
        self.or(|| self.inner.take(key))
    }

    fn remove_if(&self, key: &Key, old: &Bytes) -> StoreFuture<bool> {
        self.or(|| self.inner.remove_if(key, old))
    }

    fn shared(&self) -> bool {
        self.inner.shared()
    }
}
