//! A store that others come to in between.

#![allow(missing_docs, reason = "it is for tests")]

use std::time::Duration;

use bytes::Bytes;
use tower_pkce_auth::{Key, Store, StoreFuture};

/// A store at a distance: others come in between whenever it is asked.
#[derive(Debug)]
pub struct Yielding<S>(pub S);

impl<S: Store + Clone> Yielding<S> {
    fn after<T: Send + 'static>(
        &self,
        ask: impl FnOnce(&S) -> StoreFuture<T> + Send + 'static,
    ) -> StoreFuture<T> {
        let store = self.0.clone();
        StoreFuture::new(async move {
            tokio::task::yield_now().await;
            ask(&store).await
        })
    }
}

impl<S: Store + Clone> Store for Yielding<S> {
    fn insert(&self, key: &Key, value: Bytes, ttl: Duration) -> StoreFuture<bool> {
        let key = key.clone();
        self.after(move |store| store.insert(&key, value, ttl))
    }

    fn load(&self, key: &Key) -> StoreFuture<Option<Bytes>> {
        let key = key.clone();
        self.after(move |store| store.load(&key))
    }

    fn swap(&self, key: &Key, old: &Bytes, new: Bytes, ttl: Duration) -> StoreFuture<bool> {
        let (key, old) = (key.clone(), old.clone());
        self.after(move |store| store.swap(&key, &old, new, ttl))
    }

    fn take(&self, key: &Key) -> StoreFuture<Option<Bytes>> {
        let key = key.clone();
        self.after(move |store| store.take(&key))
    }

    fn remove_if(&self, key: &Key, old: &Bytes) -> StoreFuture<bool> {
        let (key, old) = (key.clone(), old.clone());
        self.after(move |store| store.remove_if(&key, &old))
    }

    fn shared(&self) -> bool {
        self.0.shared()
    }
}
