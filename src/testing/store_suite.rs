//! The conformance suite for implementations of [`Store`].

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use crate::secret::random;
use crate::store::{Key, Store};

/// Runs every check of the suite on a store; `pass` lets time pass for it (a moved clock, a sleep).
///
/// Each check uses keys of its own, so that a server with other content will do.
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
    take_reads_and_removes_in_one_step(&store).await;
    swap_replaces_only_what_is_the_same(&*store).await;
    remove_if_removes_only_what_is_the_same(&*store).await;
    keys_do_not_meet(&*store).await;
    any_bytes_are_kept(&*store).await;
    one_of_many_wins(&store).await;
    what_is_expired_is_absent(&*store, &pass).await;
    swap_sets_the_time_to_live(&*store, &pass).await;
}

const LONG: Duration = Duration::from_secs(600);
/// Servers keep times to live in milliseconds; everything shorter is noise.
const SHORT: Duration = Duration::from_millis(400);

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

async fn take_reads_and_removes_in_one_step(store: &Arc<dyn Store>) {
    for _ in 0..20 {
        let key = key();
        store.insert(&key, bytes("a"), LONG).await.unwrap();
        let takes = (0..8).map(|_| {
            let (store, key) = (store.clone(), key.clone());
            tokio::spawn(async move { store.take(&key).await.unwrap() })
        });
        let mut taken = 0;
        for take in takes.collect::<Vec<_>>() {
            taken += usize::from(take.await.expect("a take does not panic").is_some());
        }
        assert_eq!(taken, 1, "of many takes at once one has the value");
        assert_eq!(store.load(&key).await.unwrap(), None, "and it is gone");
    }
    assert_eq!(store.take(&key()).await.unwrap(), None, "an unknown key cannot be taken");
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
    ];
    for (key, value) in keys.iter().zip(["a", "b", "c", "d"]) {
        assert!(store.insert(key, bytes(value), LONG).await.unwrap(), "{}", key.as_str());
    }
    for (key, value) in keys.iter().zip(["a", "b", "c", "d"]) {
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

async fn one_of_many_wins(store: &Arc<dyn Store>) {
    for _ in 0..20 {
        let key = key();
        let inserts = (0..8u8).map(|n| {
            let (store, key) = (store.clone(), key.clone());
            tokio::spawn(async move { store.insert(&key, vec![n].into(), LONG).await.unwrap() })
        });
        let mut won = 0;
        for insert in inserts.collect::<Vec<_>>() {
            won += usize::from(insert.await.expect("an insert does not panic"));
        }
        assert_eq!(won, 1, "of many inserts at once one writes");
        let old = store.load(&key).await.unwrap().expect("the winner's value");
        let swaps = (100..108u8).map(|n| {
            let (store, key, old) = (store.clone(), key.clone(), old.clone());
            tokio::spawn(async move { store.swap(&key, &old, vec![n].into(), LONG).await.unwrap() })
        });
        let mut won = 0;
        for swap in swaps.collect::<Vec<_>>() {
            won += usize::from(swap.await.expect("a swap does not panic"));
        }
        assert_eq!(won, 1, "of many swaps at once one writes");
    }
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
