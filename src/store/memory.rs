//! A store in this process's memory.

use std::collections::HashMap;
use std::collections::hash_map::Entry as Slot;
use std::fmt;
use std::hash::{BuildHasher, Hasher};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;

use super::{Key, Store, StoreError, StoreErrorKind, StoreFuture};
use crate::clock::{Clock, SystemClock};
use crate::secret::random;

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
    hashes: KeyHashes,
    per_shard: usize,
    clock: Arc<dyn Clock>,
    shared: bool,
}

type Entries = HashMap<Key, Entry, KeyHashes>;

/// Hashes keys by their last 16 characters, which are hexadecimal digits of a SHA-256: they need
/// mixing, not another strong hash. The seed keeps others from choosing who shares a bucket.
#[derive(Clone, Copy)]
struct KeyHashes(u64);

impl BuildHasher for KeyHashes {
    type Hasher = KeyHasher;

    fn build_hasher(&self) -> KeyHasher {
        KeyHasher(self.0)
    }
}

struct KeyHasher(u64);

impl KeyHasher {
    fn mix(&mut self, word: u64) {
        // An odd constant without a pattern; the high half of the product goes down again.
        let product = u128::from(self.0 ^ word) * 0x9e37_79b9_7f4a_7c15;
        self.0 = (product as u64) ^ ((product >> 64) as u64);
    }
}

impl Hasher for KeyHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        match bytes.last_chunk::<16>() {
            Some(digits) => {
                let digits = u128::from_le_bytes(*digits);
                self.mix(digits as u64);
                self.mix((digits >> 64) as u64);
            }
            None => bytes.iter().for_each(|byte| self.mix((*byte).into())),
        }
    }

    /// The end of a text.
    fn write_u8(&mut self, _: u8) {}
}

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
        let hashes = KeyHashes(u64::from_ne_bytes(random()));
        Self(Arc::new(Shared {
            shards: std::array::from_fn(|_| Mutex::new(HashMap::with_hasher(hashes))),
            hashes,
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
        // Bits that the map does not look at.
        let hash = self.0.hashes.hash_one(key) >> 40;
        lock(&self.0.shards[usize::try_from(hash % SHARDS as u64).unwrap_or(0)])
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
