//! `RedisStore` on the real server: the conformance suite in every shape it is reached, values,
//! times to live, and many calls over one connection.

#[path = "redis/acl.rs"]
mod acl;
#[path = "redis/fake.rs"]
mod fake;
#[path = "support/log.rs"]
mod log;
#[path = "redis/refused.rs"]
mod refused;
#[path = "real/servers.rs"]
mod servers;
#[path = "redis/strange.rs"]
mod strange;
#[path = "redis/tls.rs"]
mod tls;
#[path = "redis/tools.rs"]
mod tools;
#[path = "redis/urls.rs"]
mod urls;

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Waker};
use std::time::Duration;

use bytes::Bytes;
use log::Log;
use servers::{Folder, Options, Redis};
use tokio::task::JoinSet;
use tools::{LONG, key, store};
use tower_pkce_auth::testing::store_suite;
use tower_pkce_auth::{RedisStore, Store};
use tracing::level_filters::LevelFilter;

/// Runs the suite; afterwards every key on the server has a time to live.
async fn conforms(redis: &Redis, store: RedisStore) {
    store_suite(Arc::new(store), tokio::time::sleep).await;
    assert_all_expire(redis);
}

fn assert_all_expire(redis: &Redis) {
    let keys = redis.cli(&["--scan"]);
    assert!(!keys.is_empty(), "something was written");
    for key in keys.lines() {
        let left: i64 = redis.cli(&["PTTL", key]).parse().unwrap();
        // -2: gone meanwhile.
        assert!(left > 0 || left == -2, "{key} stays for ever: {left}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs redis-server; scripts/test runs it"]
async fn another_database_conforms_and_the_first_stays_empty() {
    let redis = Redis::start(Options::default().password("s3cret").database(9));
    conforms(&redis, store(&redis.url())).await;
    assert_eq!(redis.cli(&["-n", "0", "DBSIZE"]), "0");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs redis-server; scripts/test runs it"]
async fn a_unix_socket_conforms() {
    let folder = Folder::new("socket");
    let socket = folder.0.join("redis.sock").display().to_string();
    let redis = Redis::start(Options::default().set("unixsocket", &socket));
    let store = store(&format!("redis+unix://{socket}"));
    assert!(format!("{store:?}").contains("redis.sock"), "{store:?}");
    conforms(&redis, store).await;
}

#[tokio::test]
#[ignore = "needs redis-server; scripts/test runs it"]
async fn any_value_comes_back_byte_for_byte() {
    let redis = Redis::start(Options::default());
    let store = store(&redis.url());
    let all: Bytes = (0..=255u8).cycle().take(1 << 20).collect();
    for (name, value) in [
        ("empty", Bytes::new()),
        ("one zero", Bytes::from_static(b"\0")),
        ("protocol", Bytes::from_static(b"$5\r\nhello\r\n*1\r\n_\r\n-ERR no\r\n")),
        ("not UTF-8", Bytes::from_static(b"\xff\xfe\xc3\x28")),
        ("1 MB", all),
    ] {
        let key = key();
        assert!(store.insert(&key, value.clone(), LONG).await.unwrap(), "{name}");
        assert_eq!(store.load(&key).await.unwrap().as_ref(), Some(&value), "{name}");
        let other = Bytes::from_static(b"\0other\xff");
        assert!(!store.swap(&key, &other, value.clone(), LONG).await.unwrap(), "{name}");
        assert!(store.swap(&key, &value, other.clone(), LONG).await.unwrap(), "{name}");
        assert!(store.swap(&key, &other, value.clone(), LONG).await.unwrap(), "{name}");
        assert!(!store.remove_if(&key, &other).await.unwrap(), "{name}");
        assert_eq!(store.take(&key).await.unwrap(), Some(value.clone()), "{name}");
        assert!(store.insert(&key, value.clone(), LONG).await.unwrap(), "{name}");
        assert!(store.remove_if(&key, &value).await.unwrap(), "{name}");
        assert_eq!(store.load(&key).await.unwrap(), None, "{name}");
    }
}

#[tokio::test]
#[ignore = "needs redis-server; scripts/test runs it"]
async fn every_write_sets_the_time_to_live() {
    let redis = Redis::start(Options::default());
    let store = store(&redis.url());
    let (key, one, two) = (key(), Bytes::from_static(b"1"), Bytes::from_static(b"2"));
    let left = || -> u64 { redis.cli(&["PTTL", key.as_str()]).parse().unwrap() };
    let about = |ttl: Duration| {
        let (left, whole) = (left(), u64::try_from(ttl.as_millis()).unwrap());
        assert!(left <= whole && left + 10_000 > whole, "{left} of {whole}");
    };
    let (short, year) = (Duration::from_millis(90_500), Duration::from_secs(365 * 24 * 3600));
    store.insert(&key, one.clone(), LONG).await.unwrap();
    about(LONG);
    store.insert(&key, two.clone(), year).await.unwrap();
    about(LONG); // It was there: neither value nor time are touched.
    store.swap(&key, &two, two.clone(), year).await.unwrap();
    about(LONG); // Another value was there.
    store.swap(&key, &one, one.clone(), short).await.unwrap();
    about(short);
    store.swap(&key, &one, two, year).await.unwrap();
    about(year);

    // Less than what the server counts in is still a time to live, and never none.
    for ttl in [Duration::ZERO, Duration::from_nanos(1), Duration::from_micros(999)] {
        let brief = tools::key();
        assert!(store.insert(&brief, one.clone(), ttl).await.unwrap(), "{ttl:?}");
        let gone = async { while store.load(&brief).await.unwrap().is_some() {} };
        tools::bounded(&format!("a time to live of {ttl:?}"), gone).await;
    }
    assert_all_expire(&redis);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs redis-server; scripts/test runs it"]
async fn ten_thousand_calls_at_once_share_one_connection() {
    let redis = Redis::start(Options::default());
    // The last of them waits for all others, however busy the machine is.
    let store = RedisStore::builder(&redis.url()).response_timeout(Duration::from_secs(60));
    let store = store.build().unwrap();
    let mut calls = JoinSet::new();
    for n in 0..10_000u32 {
        let (store, key, value) = (store.clone(), key(), Bytes::from(n.to_string()));
        calls.spawn(async move {
            assert!(store.insert(&key, value.clone(), LONG).await.unwrap());
            assert_eq!(store.load(&key).await.unwrap().as_ref(), Some(&value));
            let next = Bytes::from(format!("{n}, again"));
            assert!(store.swap(&key, &value, next.clone(), LONG).await.unwrap());
            assert_eq!(store.take(&key).await.unwrap(), Some(next), "nobody else's answer");
        });
    }
    tools::bounded("40,000 commands", calls.join_all()).await;
    assert_eq!(connections(&redis), 1);
}

#[tokio::test]
#[ignore = "needs redis-server; scripts/test runs it"]
async fn calls_that_are_dropped_half_way_leave_the_connection_correct() {
    let redis = Redis::start(Options::default());
    let store = store(&redis.url());
    let known = key();
    store.insert(&known, Bytes::from_static(b"known"), LONG).await.unwrap();
    let before = connection_id(&redis);
    for polls in (0..5).cycle().take(1_000) {
        let dropped = key();
        store.insert(&dropped, Bytes::from_static(b"dropped"), LONG).await.unwrap();
        let mut take = store.take(&dropped);
        for _ in 0..polls {
            if Pin::new(&mut take).poll(&mut Context::from_waker(Waker::noop())).is_ready() {
                break;
            }
            tokio::task::yield_now().await;
        }
        drop(take);
        assert_eq!(store.load(&known).await.unwrap().as_deref(), Some(&b"known"[..]));
        assert_eq!(store.take(&key()).await.unwrap(), None, "an answer of its own");
    }
    assert_eq!(connection_id(&redis), before, "still the same one");
}

/// A process may have one runtime after another, as tests do.
#[test]
#[ignore = "needs redis-server; scripts/test runs it"]
fn a_store_outlives_the_runtime_it_was_used_in_first() {
    let redis = Redis::start(Options::default());
    let store = store(&redis.url());
    let key = key();
    for round in 0..3u8 {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let load = runtime.block_on(tools::bounded("another runtime", store.load(&key)));
        assert!(load.is_ok(), "round {round}: {}", tools::shown(&load.unwrap_err()));
    }
}

/// How many clients are ours; the one that asks is not.
fn connections(redis: &Redis) -> usize {
    clients(redis).len()
}

fn connection_id(redis: &Redis) -> String {
    let clients = clients(redis);
    assert_eq!(clients.len(), 1, "{clients:?}");
    clients[0].split(' ').next().unwrap().to_owned()
}

fn clients(redis: &Redis) -> Vec<String> {
    let list = redis.cli(&["CLIENT", "LIST"]);
    list.lines().filter(|line| !line.contains("cmd=client|list")).map(str::to_owned).collect()
}

#[tokio::test]
#[ignore = "needs redis-server; scripts/test runs it"]
async fn a_server_that_evicts_is_warned_of_once() {
    for (policy, warned) in [("allkeys-lru", true), ("volatile-ttl", true), ("noeviction", false)] {
        let log = Log::default();
        let _listening = log.listen(LevelFilter::INFO);
        let redis = Redis::start(Options::default().set("maxmemory-policy", policy));
        let store = store(&redis.url());
        for _ in 0..30 {
            store.load(&key()).await.unwrap();
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        let text = log.text();
        let told = text.lines().filter(|line| line.contains("noeviction")).count();
        assert_eq!(told, usize::from(warned), "{policy}: {text}");
        assert!(!warned || text.contains(policy), "{text}");
    }
}
