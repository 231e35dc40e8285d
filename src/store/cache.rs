//! A local copy of what a store holds, believed only while the store says when it changes.
//!
//! 1. Before a value is asked for, the *sequence* is noted ([`Cache::begin`]).
//! 2. Whenever the store says that a key has changed, the sequence moves and the key is forgotten
//!    ([`Cache::forget`]). When nobody listens any more, everything is ([`Cache::clear`]).
//! 3. An answer is kept only if the sequence has not moved since its question was sent: the news
//!    of a change may have overtaken it.
//! 4. An entry is used only if the store was *heard* a moment ago: on a link that swallows what is
//!    said nobody would know of a change.
//!
//! It is bounded: when the young generation is full it becomes the old one, and what nobody asked
//! for since is forgotten.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;

use super::{Key, TailHashes};
use crate::clock::{Clock, SystemClock};

/// A value as it was read: absent counts too.
type Value = Option<Bytes>;

/// Values by key, each as it is in the store.
#[derive(Debug)]
pub(crate) struct Cache {
    shards: Box<[Mutex<Generations>]>,
    hasher: TailHashes,
    per_shard: usize,
    /// Moves with each change that the store tells of.
    sequence: AtomicU64,
    /// The monotonic milliseconds up to which every change has been told of.
    heard: AtomicU64,
}

#[derive(Debug)]
struct Generations {
    young: HashMap<Key, Value, TailHashes>,
    old: HashMap<Key, Value, TailHashes>,
}

/// The sequence as it was before a question was sent.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Begun(u64);

const SHARDS: usize = 16;

/// An entry is used for so long after the store was heard.
pub(crate) const EARSHOT: Duration = Duration::from_secs(2);

impl Cache {
    /// Makes a cache of so many entries; of none, if that is zero.
    pub(crate) fn new(capacity: usize) -> Self {
        let hasher = TailHashes::random();
        let generations = || Generations {
            young: HashMap::with_hasher(hasher),
            old: HashMap::with_hasher(hasher),
        };
        Self {
            shards: (0..SHARDS).map(|_| Mutex::new(generations())).collect(),
            hasher,
            per_shard: capacity.div_ceil(2 * SHARDS),
            sequence: AtomicU64::new(0),
            heard: AtomicU64::new(0),
        }
    }

    /// Tells whether anything is ever kept.
    pub(crate) const fn is_off(&self) -> bool {
        self.per_shard == 0
    }

    /// Returns what the store holds under a key, if that is known.
    pub(crate) fn find(&self, key: &Key) -> Option<Value> {
        let heard = self.heard.load(Ordering::Acquire);
        if heard == 0 || millis(SystemClock.monotonic()).saturating_sub(heard) > millis(EARSHOT) {
            return None;
        }
        let mut shard = self.shard(key);
        if let Some(value) = shard.young.get(key) {
            return Some(value.clone());
        }
        let (key, value) = shard.old.remove_entry(key)?;
        self.put(&mut shard, key, value.clone());
        Some(value)
    }

    /// Notes that a question is about to be sent.
    pub(crate) fn begin(&self) -> Begun {
        Begun(self.sequence.load(Ordering::Acquire))
    }

    /// Keeps an answer, unless something has changed since its question.
    pub(crate) fn keep(&self, begun: Begun, key: Key, value: Value) {
        if self.is_off() {
            return;
        }
        let mut shard = self.shard(&key);
        // Asked under the lock: who forgets moves the sequence first and takes the lock then, so
        // that either this sees the move, or the entry is seen there.
        if self.sequence.load(Ordering::Acquire) == begun.0 {
            self.put(&mut shard, key, value);
        }
    }

    /// Forgets a key that has changed.
    pub(crate) fn forget(&self, key: &Key) {
        self.sequence.fetch_add(1, Ordering::AcqRel);
        let mut shard = self.shard(key);
        shard.young.remove(key);
        shard.old.remove(key);
    }

    /// Believes nothing until the store is heard again, and forgets everything.
    pub(crate) fn clear(&self) {
        self.heard.store(0, Ordering::Release);
        self.forget_all();
    }

    /// Forgets everything: all of it has changed.
    pub(crate) fn forget_all(&self) {
        self.sequence.fetch_add(1, Ordering::AcqRel);
        for shard in &self.shards {
            let mut shard = shard.lock().unwrap_or_else(PoisonError::into_inner);
            shard.young.clear();
            shard.old.clear();
        }
    }

    /// Notes that every change up to a monotonic moment has been told of.
    pub(crate) fn heard(&self, at: Duration) {
        self.heard.store(millis(at).max(1), Ordering::Release);
    }

    fn put(&self, shard: &mut Generations, key: Key, value: Value) {
        if shard.young.len() >= self.per_shard {
            shard.old = std::mem::replace(&mut shard.young, HashMap::with_hasher(self.hasher));
        }
        shard.young.insert(key, value);
    }

    fn shard(&self, key: &Key) -> MutexGuard<'_, Generations> {
        let hash = std::hash::BuildHasher::hash_one(&self.hasher, key);
        // Bits that the maps do not look at.
        let index = usize::try_from((hash >> 40) % SHARDS as u64).unwrap_or(0);
        self.shards[index].lock().unwrap_or_else(PoisonError::into_inner)
    }
}

pub(super) fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(n: u32) -> Key {
        Key::new("a", "b", &n.to_be_bytes())
    }

    fn listening(capacity: usize) -> Cache {
        let cache = Cache::new(capacity);
        cache.heard(SystemClock.monotonic());
        cache
    }

    fn kept(cache: &Cache, n: u32) {
        let begun = cache.begin();
        cache.keep(begun, key(n), Some(Bytes::from_static(b"1")));
    }

    #[test]
    fn an_answer_that_was_overtaken_by_news_is_not_kept() {
        let cache = listening(100);
        type News = fn(&Cache);
        let table: [(&str, News, bool); 4] = [
            ("no news", |_| {}, true),
            ("of this key", |cache| cache.forget(&key(1)), false),
            (
                "of another key, which might have been this one",
                |cache| cache.forget(&key(2)),
                false,
            ),
            (
                "the link was lost and made again",
                |cache| {
                    cache.clear();
                    cache.heard(SystemClock.monotonic());
                },
                false,
            ),
        ];
        for (name, news, kept) in table {
            let begun = cache.begin();
            news(&cache);
            cache.keep(begun, key(1), None);
            assert_eq!(cache.find(&key(1)).is_some(), kept, "{name}");
            cache.forget(&key(1));
        }
    }

    #[test]
    fn absent_is_an_answer_too() {
        let cache = listening(100);
        assert_eq!(cache.find(&key(1)), None, "nobody knows");
        let begun = cache.begin();
        cache.keep(begun, key(1), None);
        assert_eq!(cache.find(&key(1)), Some(None), "known to be absent");
    }

    #[test]
    fn news_of_a_key_makes_it_unknown() {
        let cache = listening(100);
        kept(&cache, 1);
        kept(&cache, 2);
        cache.forget(&key(1));
        assert_eq!(cache.find(&key(1)), None);
        assert!(cache.find(&key(2)).is_some(), "the others stay");
        cache.clear();
        cache.heard(SystemClock.monotonic());
        assert_eq!(cache.find(&key(2)), None, "nothing stays");
    }

    #[test]
    fn nothing_is_believed_of_a_store_that_was_not_heard_a_moment_ago() {
        let now = EARSHOT + EARSHOT + SystemClock.monotonic();
        let cache = listening(100);
        kept(&cache, 1);
        assert!(cache.find(&key(1)).is_some());
        // The clock of this process cannot be moved; what was heard can.
        let long_ago = SystemClock.monotonic().checked_sub(EARSHOT + Duration::from_millis(1));
        cache.heard.store(long_ago.map_or(0, millis), Ordering::Release);
        assert_eq!(cache.find(&key(1)), None, "too long ago");
        cache.heard(now);
        assert!(cache.find(&key(1)).is_some(), "heard again, and nothing had changed");
        cache.clear();
        kept(&cache, 1);
        assert_eq!(cache.find(&key(1)), None, "nobody listens");
    }

    #[test]
    fn it_is_bounded_and_what_is_asked_for_stays() {
        let cache = listening(320);
        for n in 0..10_000 {
            kept(&cache, n);
            assert!(cache.find(&key(n)).is_some(), "{n}");
            cache.find(&key(0));
        }
        assert!(cache.find(&key(0)).is_some(), "asked for all the time");
        let count = |shard: &Mutex<Generations>| {
            let shard = shard.lock().unwrap();
            shard.young.len() + shard.old.len()
        };
        let entries: usize = cache.shards.iter().map(count).sum();
        assert!(entries <= 320, "{entries} entries");
        let off = listening(0);
        kept(&off, 1);
        assert!(off.is_off() && off.find(&key(1)).is_none());
    }
}
