//! The conformance suite for implementations of [`Store`].

mod races;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use crate::clock::{Clock as _, SystemClock};
use crate::secret::random;
use crate::store::{Key, Store};

/// Runs every check of the suite on a store; `pass` lets time pass for it (a moved clock, a sleep).
///
/// Each check uses keys of its own, so that a server with other content will do. A runtime of
/// several threads shows more races. What is checked is said in
/// [`manual::own_store`](crate::manual::own_store).
///
/// # Panics
///
/// At the first rule that is broken, with its name.
///
/// # Examples
///
/// ```
/// use std::sync::Arc;
/// use tower_pkce_auth::{MemoryStore, testing::{TestClock, store_suite}};
///
/// # #[tokio::main] async fn main() {
/// let clock = Arc::new(TestClock::new());
/// let store = MemoryStore::with_clock(clock.clone(), 10_000);
/// store_suite(Arc::new(store), async |time| clock.advance(time)).await;
/// # }
/// ```
pub async fn store_suite(store: Arc<dyn Store>, pass: impl AsyncFn(Duration)) {
    insert_writes_only_what_is_absent(&*store).await;
    take_reads_and_removes(&*store).await;
    swap_replaces_only_what_is_the_same(&*store).await;
    nothing_expires_early(&*store).await;
    swap_by_the_same_is_a_swap(&*store, &pass).await;
    remove_if_removes_only_what_is_the_same(&*store).await;
    keys_do_not_meet(&*store).await;
    any_bytes_are_kept(&*store).await;
    values_are_compared_byte_for_byte(&*store).await;
    what_is_expired_is_absent(&*store, &pass).await;
    swap_sets_the_time_to_live(&*store, &pass).await;
    any_time_to_live_will_do(&*store, &pass).await;
    races::one_of_many_wins(&store).await;
    races::a_value_goes_once(&store).await;
    races::no_raise_is_lost(&store).await;
    races::one_insert_writes_over_what_is_expired(&store, &pass).await;
    races::what_was_acknowledged_is_seen(&store).await;
    races::many_keys_at_once(&store).await;
    races::futures_may_be_dropped(&store).await;
}

const LONG: Duration = Duration::from_secs(600);
/// Servers keep times to live in milliseconds; everything shorter is noise.
const SHORT: Duration = Duration::from_millis(400);
const DAY: Duration = Duration::from_secs(24 * 3600);

fn key() -> Key {
    Key::new("suite", "test", &random::<16>())
}

fn bytes(text: &'static str) -> Bytes {
    Bytes::from_static(text.as_bytes())
}

async fn insert_writes_only_what_is_absent(store: &dyn Store) {
    let key = key();
    assert_eq!(store.load(&key).await.unwrap(), None, "an unknown key is absent");
    assert!(store.insert(&key, bytes("a"), LONG).await.unwrap(), "the first insert writes");
    assert!(!store.insert(&key, bytes("b"), LONG).await.unwrap(), "the second does not");
    assert_eq!(store.load(&key).await.unwrap(), Some(bytes("a")), "the first value stays");
    assert_eq!(store.load(&key).await.unwrap(), Some(bytes("a")), "loading removes nothing");
}

async fn take_reads_and_removes(store: &dyn Store) {
    let key = key();
    assert_eq!(store.take(&key).await.unwrap(), None, "an unknown key cannot be taken");
    store.insert(&key, bytes("a"), LONG).await.unwrap();
    assert_eq!(store.take(&key).await.unwrap(), Some(bytes("a")), "what is there can");
    assert_eq!(store.take(&key).await.unwrap(), None, "once");
    assert_eq!(store.load(&key).await.unwrap(), None, "and it is gone");
    assert!(store.insert(&key, bytes("b"), LONG).await.unwrap(), "there is room for another");
}

async fn swap_replaces_only_what_is_the_same(store: &dyn Store) {
    let key = key();
    let swapped = store.swap(&key, &bytes("a"), bytes("b"), LONG).await.unwrap();
    assert!(!swapped, "what is absent cannot be swapped");
    assert_eq!(store.load(&key).await.unwrap(), None, "and is not made by it");
    store.insert(&key, bytes("a"), LONG).await.unwrap();
    assert!(!store.swap(&key, &bytes("x"), bytes("b"), LONG).await.unwrap(), "another old value");
    assert!(!store.swap(&key, &bytes(""), bytes("b"), LONG).await.unwrap(), "an empty old value");
    assert!(!store.swap(&key, &bytes("aa"), bytes("b"), LONG).await.unwrap(), "a longer one");
    assert!(store.swap(&key, &bytes("a"), bytes("b"), LONG).await.unwrap(), "the same old value");
    assert_eq!(store.load(&key).await.unwrap(), Some(bytes("b")));
    store.take(&key).await.unwrap();
    assert!(!store.swap(&key, &bytes("b"), bytes("c"), LONG).await.unwrap(), "never resurrects");
}

async fn swap_by_the_same_is_a_swap(store: &dyn Store, pass: &impl AsyncFn(Duration)) {
    let key = key();
    store.insert(&key, bytes("a"), SHORT).await.unwrap();
    let swapped = store.swap(&key, &bytes("a"), bytes("a"), LONG).await.unwrap();
    assert!(swapped, "a value swapped by itself was swapped, whatever counts as a change");
    pass(SHORT + SHORT).await;
    assert_eq!(store.load(&key).await.unwrap(), Some(bytes("a")), "and lives on");
}

async fn remove_if_removes_only_what_is_the_same(store: &dyn Store) {
    let key = key();
    assert!(!store.remove_if(&key, &bytes("a")).await.unwrap(), "what is absent");
    store.insert(&key, bytes("a"), LONG).await.unwrap();
    assert!(!store.remove_if(&key, &bytes("b")).await.unwrap(), "another value");
    assert_eq!(store.load(&key).await.unwrap(), Some(bytes("a")), "stays");
    assert!(store.remove_if(&key, &bytes("a")).await.unwrap(), "the same value");
    assert_eq!(store.load(&key).await.unwrap(), None, "is gone");
}

async fn keys_do_not_meet(store: &dyn Store) {
    let id = random::<16>();
    let keys = [
        Key::new("suite", "test", &id),
        Key::new("suite", "other", &id),
        Key::new("suite2", "test", &id),
        Key::new("suite", "{tagged}", &id),
        Key::new("Suite", "test", &id),
        Key::new("suite", "Test", &id),
    ];
    let values = ["a", "b", "c", "d", "e", "f"];
    for (key, value) in keys.iter().zip(values) {
        assert!(store.insert(key, bytes(value), LONG).await.unwrap(), "{}", key.as_str());
    }
    for (key, value) in keys.iter().zip(values) {
        assert_eq!(store.load(key).await.unwrap(), Some(bytes(value)), "{}", key.as_str());
    }
}

async fn any_bytes_are_kept(store: &dyn Store) {
    let all: Bytes = (0..=255u8).collect();
    let large: Bytes = vec![0xa5; 64 * 1024].into();
    for value in [Bytes::new(), all, large] {
        let key = key();
        store.insert(&key, value.clone(), LONG).await.unwrap();
        assert_eq!(store.load(&key).await.unwrap(), Some(value.clone()), "byte for byte");
        assert!(store.swap(&key, &value, bytes("b"), LONG).await.unwrap(), "and compared so");
    }
}

async fn values_are_compared_byte_for_byte(store: &dyn Store) {
    let key = key();
    store.insert(&key, bytes("a"), LONG).await.unwrap();
    for other in ["A", "a ", " a", "a\0", "\u{e1}", "", "a\n", "aa"] {
        let swapped = store.swap(&key, &bytes(other), bytes("b"), LONG).await.unwrap();
        assert!(!swapped, "\"a\" is not {other:?}");
        assert!(!store.remove_if(&key, &bytes(other)).await.unwrap(), "\"a\" is not {other:?}");
    }
    assert_eq!(store.take(&key).await.unwrap(), Some(bytes("a")));
}

async fn what_is_expired_is_absent(store: &dyn Store, pass: &impl AsyncFn(Duration)) {
    let keys: [Key; 4] = std::array::from_fn(|_| key());
    for key in &keys {
        store.insert(key, bytes("a"), SHORT).await.unwrap();
    }
    pass(SHORT + SHORT).await;
    assert_eq!(store.load(&keys[0]).await.unwrap(), None, "cannot be loaded");
    assert_eq!(store.take(&keys[1]).await.unwrap(), None, "cannot be taken");
    let swapped = store.swap(&keys[2], &bytes("a"), bytes("b"), LONG).await.unwrap();
    assert!(!swapped, "cannot be swapped");
    assert!(store.insert(&keys[3], bytes("c"), LONG).await.unwrap(), "makes room for another");
    assert!(!store.remove_if(&keys[0], &bytes("a")).await.unwrap(), "cannot be removed");
}

async fn swap_sets_the_time_to_live(store: &dyn Store, pass: &impl AsyncFn(Duration)) {
    let (longer, shorter) = (key(), key());
    store.insert(&longer, bytes("a"), SHORT).await.unwrap();
    store.insert(&shorter, bytes("a"), LONG).await.unwrap();
    store.swap(&longer, &bytes("a"), bytes("b"), LONG).await.unwrap();
    store.swap(&shorter, &bytes("a"), bytes("b"), SHORT).await.unwrap();
    pass(SHORT + SHORT).await;
    assert_eq!(store.load(&longer).await.unwrap(), Some(bytes("b")), "the new time counts");
    assert_eq!(store.load(&shorter).await.unwrap(), None, "the new time counts");
}

async fn any_time_to_live_will_do(store: &dyn Store, pass: &impl AsyncFn(Duration)) {
    let short = [Duration::ZERO, Duration::from_nanos(1), Duration::from_micros(1500)];
    let long = [30 * DAY, 36_525 * DAY];
    let mut gone = Vec::new();
    for ttl in short {
        let keys = [key(), key()];
        store.insert(&keys[0], bytes("a"), ttl).await.expect("no time to live is an error");
        store.insert(&keys[1], bytes("a"), LONG).await.unwrap();
        let swapped = store.swap(&keys[1], &bytes("a"), bytes("b"), ttl).await;
        assert!(swapped.expect("no time to live is an error"), "a swap for {ttl:?}");
        gone.extend(keys.map(|key| (key, ttl)));
    }
    let mut there = Vec::new();
    for ttl in long {
        let keys = [key(), key()];
        store.insert(&keys[0], bytes("b"), ttl).await.expect("no time to live is an error");
        store.insert(&keys[1], bytes("a"), SHORT).await.unwrap();
        let swapped = store.swap(&keys[1], &bytes("a"), bytes("b"), ttl).await;
        assert!(swapped.expect("no time to live is an error"), "a swap for {ttl:?}");
        there.extend(keys.map(|key| (key, ttl)));
    }
    pass(SHORT + SHORT).await;
    for (key, ttl) in gone {
        assert_eq!(store.load(&key).await.unwrap(), None, "{ttl:?} is over");
        assert!(store.insert(&key, bytes("c"), LONG).await.unwrap(), "{ttl:?} is over");
    }
    for (key, ttl) in there {
        assert_eq!(store.load(&key).await.unwrap(), Some(bytes("b")), "{ttl:?} is not over");
    }
}

async fn nothing_expires_early(store: &dyn Store) {
    let (inserted, swapped) = (key(), key());
    store.insert(&swapped, bytes("a"), LONG).await.unwrap();
    let begun = SystemClock.monotonic();
    store.insert(&inserted, bytes("a"), SHORT).await.unwrap();
    store.swap(&swapped, &bytes("a"), bytes("a"), SHORT).await.unwrap();
    let found = [store.load(&inserted).await.unwrap(), store.load(&swapped).await.unwrap()];
    // A machine so busy that the time was over says nothing of the store.
    if SystemClock.monotonic().saturating_sub(begun) < SHORT / 2 {
        let there = || Some(bytes("a"));
        assert_eq!(found, [there(), there()], "a part of a second is not rounded away");
    }
}
