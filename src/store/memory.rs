//! A store in this process's memory.

use std::collections::HashMap;
use std::collections::hash_map::Entry as Slot;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;

use super::{Key, Store, StoreError, StoreErrorKind, StoreFuture, TailHashes};
use crate::clock::{Clock, SystemClock};

const SHARDS: usize = 64;

/// How many entries a [`MemoryStore`] holds unless told otherwise.
const CAPACITY: usize = 200_000;

/// A [`Store`] in the memory of this process: for one pod, for tests, and for examples.
///
/// It is bounded: when it is full, [`StoreErrorKind::Full`] is the answer and nothing that waits
/// in it is thrown out. Expired entries make room. Clones share their content.
///
/// # Security
///
/// Other pods do not see it, and it is empty after a restart. Pending logins and sessions should
/// not share one (anonymous visitors can fill the former); the layer keeps pending logins in a
/// map of their own when asked for [`Pending::Memory`](crate::Pending::Memory).
///
/// # Examples
///
/// ```
/// use tower_pkce_auth::MemoryStore;
///
/// let store = MemoryStore::new();
/// assert_eq!(store.len(), 0);
/// ```
#[derive(Clone)]
pub struct MemoryStore(Arc<Shared>);

struct Shared {
    shards: [Mutex<Entries>; SHARDS],
    per_shard: usize,
    clock: Arc<dyn Clock>,
    shared: bool,
}

type Entries = HashMap<Key, Entry, TailHashes>;

struct Entry {
    value: Bytes,
    /// On the monotonic clock.
    expires: Duration,
}

impl Default for MemoryStore {
    fn default() -> Self {
        Self::new()
    }
}

impl MemoryStore {
    /// Makes an empty store for 200,000 entries.
    #[must_use]
    pub fn new() -> Self {
        Self::with_clock(Arc::new(SystemClock), CAPACITY)
    }

    /// Makes an empty store with room for about `capacity` entries, which lives by `clock`.
    #[must_use]
    pub fn with_clock(clock: Arc<dyn Clock>, capacity: usize) -> Self {
        let hashes = TailHashes::random();
        Self(Arc::new(Shared {
            shards: std::array::from_fn(|_| Mutex::new(HashMap::with_hasher(hashes))),
            per_shard: capacity.div_ceil(SHARDS).max(1),
            clock,
            shared: false,
        }))
    }

    /// Makes a store that says it is shared: several layers in one process then behave as pods.
    #[cfg(any(test, feature = "test-util"))]
    #[must_use]
    pub fn shared_between_pods(clock: Arc<dyn Clock>) -> Self {
        let mut shared = Self::with_clock(clock, CAPACITY);
        Arc::get_mut(&mut shared.0).expect("nobody else has it yet").shared = true;
        shared
    }

    /// Returns the number of entries, expired ones that were not swept yet included.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.shards.iter().map(|shard| lock(shard).len()).sum()
    }

    /// Tells whether there is no entry.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn shard(&self, key: &Key) -> MutexGuard<'_, Entries> {
        // Keys end in digits of a SHA-256, so any of them spread evenly.
        let digits = key.as_bytes().last_chunk::<2>().map_or(0, |[high, low]| {
            let value = |digit: u8| usize::from((digit & 15) + 9 * (digit >> 6));
            value(*high) << 4 | value(*low)
        });
        lock(&self.0.shards[digits % SHARDS])
    }

    fn now(&self) -> Duration {
        self.0.clock.monotonic()
    }

    /// Runs `act` on the slot of `key`, which is vacant if its entry has expired.
    fn live<T>(&self, key: &Key, act: impl FnOnce(Option<&mut Entry>) -> T) -> T {
        let now = self.now();
        let mut shard = self.shard(key);
        act(shard.get_mut(key).filter(|entry| entry.expires > now))
    }
}

/// No code runs under these locks that could panic half-way through a change.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Store for MemoryStore {
    fn insert(&self, key: &Key, value: Bytes, ttl: Duration) -> StoreFuture<bool> {
        let now = self.now();
        let entry = Entry { value, expires: now.saturating_add(ttl) };
        let mut shard = self.shard(key);
        if shard.len() >= self.0.per_shard {
            shard.retain(|_, entry| entry.expires > now);
            if shard.len() >= self.0.per_shard && !shard.contains_key(key) {
                return StoreFuture::ready(Err(StoreError::new(StoreErrorKind::Full)));
            }
        }
        StoreFuture::ready(Ok(match shard.entry(key.clone()) {
            Slot::Occupied(slot) if slot.get().expires > now => false,
            Slot::Occupied(mut slot) => {
                slot.insert(entry);
                true
            }
            Slot::Vacant(slot) => {
                slot.insert(entry);
                true
            }
        }))
    }

    fn load(&self, key: &Key) -> StoreFuture<Option<Bytes>> {
        let value = self.live(key, |entry| entry.map(|entry| entry.value.clone()));
        StoreFuture::ready(Ok(value))
    }

    fn swap(&self, key: &Key, old: &Bytes, new: Bytes, ttl: Duration) -> StoreFuture<bool> {
        let expires = self.now().saturating_add(ttl);
        StoreFuture::ready(Ok(self.live(key, |entry| match entry {
            Some(entry) if entry.value == *old => {
                *entry = Entry { value: new, expires };
                true
            }
            _ => false,
        })))
    }

    fn take(&self, key: &Key) -> StoreFuture<Option<Bytes>> {
        let now = self.now();
        let entry = self.shard(key).remove(key).filter(|entry| entry.expires > now);
        StoreFuture::ready(Ok(entry.map(|entry| entry.value)))
    }

    fn remove_if(&self, key: &Key, old: &Bytes) -> StoreFuture<bool> {
        let now = self.now();
        let mut shard = self.shard(key);
        let same = shard.get(key).is_some_and(|entry| entry.expires > now && entry.value == *old);
        if same {
            shard.remove(key);
        }
        StoreFuture::ready(Ok(same))
    }

    fn shared(&self) -> bool {
        self.0.shared
    }
}

impl fmt::Debug for MemoryStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryStore").finish_non_exhaustive()
    }
}
