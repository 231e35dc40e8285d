//! A limit on how long a store may take, whatever it is.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use super::{Key, Store, StoreError, StoreErrorKind, StoreFuture};

/// A store whose every answer is ready at once or comes within the time-out.
///
/// A write that was not answered in time may have taken place all the same.
#[derive(Debug)]
pub(crate) struct BoundedStore {
    store: Arc<dyn Store>,
    time_out: Duration,
}

impl BoundedStore {
    pub(crate) fn new(store: Arc<dyn Store>, time_out: Duration) -> Self {
        Self { store, time_out }
    }

    fn bound<T: Send + 'static>(&self, future: StoreFuture<T>) -> StoreFuture<T> {
        if future.is_ready() {
            return future;
        }
        let time_out = self.time_out;
        StoreFuture::new(async move {
            match tokio::time::timeout(time_out, future).await {
                Ok(answer) => answer,
                Err(_) => Err(StoreError::new(StoreErrorKind::TimedOut)),
            }
        })
    }
}

impl Store for BoundedStore {
    fn insert(&self, key: &Key, value: Bytes, ttl: Duration) -> StoreFuture<bool> {
        self.bound(self.store.insert(key, value, ttl))
    }

    fn load(&self, key: &Key) -> StoreFuture<Option<Bytes>> {
        self.bound(self.store.load(key))
    }

    fn load_cached(&self, key: &Key) -> StoreFuture<Option<Bytes>> {
        self.bound(self.store.load_cached(key))
    }

    fn swap(&self, key: &Key, old: &Bytes, new: Bytes, ttl: Duration) -> StoreFuture<bool> {
        self.bound(self.store.swap(key, old, new, ttl))
    }

    fn take(&self, key: &Key) -> StoreFuture<Option<Bytes>> {
        self.bound(self.store.take(key))
    }

    fn remove_if(&self, key: &Key, old: &Bytes) -> StoreFuture<bool> {
        self.bound(self.store.remove_if(key, old))
    }

    fn shared(&self) -> bool {
        self.store.shared()
    }

    fn turns(&self) -> u64 {
        self.store.turns()
    }
}
