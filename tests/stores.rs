//! Every store runs the conformance suite.

#[path = "real/servers.rs"]
mod servers;

use std::sync::Arc;

use servers::{Options, Redis};
use tower_pkce_auth::testing::{TestClock, store_suite};
use tower_pkce_auth::{MemoryStore, RedisStore};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn memory_store_conforms() {
    let clock = Arc::new(TestClock::new());
    let store = MemoryStore::with_clock(clock.clone(), 10_000);
    store_suite(Arc::new(store), async |time| clock.advance(time)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs redis-server; scripts/test runs it"]
async fn redis_store_conforms() {
    let redis = Redis::start(Options::default());
    store_suite(Arc::new(RedisStore::new(&redis.url()).unwrap()), tokio::time::sleep).await;
}

#[tokio::test]
async fn a_full_memory_store_says_so_and_evicts_nobody() {
    use tower_pkce_auth::{Key, Store as _, StoreErrorKind};

    let clock = Arc::new(TestClock::new());
    let store = MemoryStore::with_clock(clock.clone(), 640);
    let ttl = std::time::Duration::from_secs(60);
    let key = |n: u32| Key::new("a", "b", &n.to_be_bytes());
    let mut written = Vec::new();
    for n in 0..10_000 {
        match store.insert(&key(n), vec![1].into(), ttl).await {
            Ok(done) => {
                assert!(done);
                written.push(n);
            }
            Err(error) => assert_eq!(error.kind(), StoreErrorKind::Full),
        }
    }
    assert!(store.len() <= 640, "{} entries", store.len());
    for n in written {
        assert!(store.load(&key(n)).await.unwrap().is_some(), "nobody was evicted");
    }
    clock.advance(ttl);
    assert!(store.insert(&key(1), vec![2].into(), ttl).await.unwrap(), "time makes room");
}
