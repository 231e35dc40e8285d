//! The local copy of what Redis holds: what is asked of the server, how soon a change holds, and
//! that nothing is believed which nobody would have told of.

#[path = "redis/fake.rs"]
mod fake;
#[path = "real/servers.rs"]
mod servers;
#[path = "redis/tools.rs"]
mod tools;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use fake::{Act, Fake, well};
use servers::{Options, Redis};
use tools::{HANG, LONG, key, store};
use tower_pkce_auth::{Key, RedisStore, Store};

/// How long a copy may be used after the server was heard.
const EARSHOT: Duration = Duration::from_secs(2);

fn text(text: &str) -> Bytes {
    Bytes::copy_from_slice(text.as_bytes())
}

/// Asks until the value is a local copy.
async fn copied(store: &RedisStore, key: &Key) -> Option<Bytes> {
    let begun = Instant::now();
    loop {
        let value = store.load_cached(key).await;
        if let (Ok(value), Some(_)) = (value, at_once(store, key)) {
            return value;
        }
        assert!(begun.elapsed() < HANG, "it is never copied");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// What is known without asking.
fn at_once(store: &RedisStore, key: &Key) -> Option<Option<Bytes>> {
    use std::task::{Context, Poll, Waker};
    let mut answer = store.load_cached(key);
    if !answer.is_ready() {
        return None;
    }
    match std::pin::Pin::new(&mut answer).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(value) => value.ok(),
        Poll::Pending => panic!("it said that it is ready"),
    }
}

fn gets(redis: &Redis) -> u64 {
    let stats = redis.cli(&["INFO", "commandstats"]);
    let line = stats.lines().find(|line| line.starts_with("cmdstat_get:"));
    let calls = line.and_then(|line| line.split("calls=").nth(1));
    calls.and_then(|text| text.split(',').next()?.parse().ok()).unwrap_or(0)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs redis-server; scripts/test runs it"]
async fn what_was_read_is_not_asked_for_again_until_it_changes() {
    let redis = Redis::start(Options::default());
    let (here, there) = (store(&redis.url()), store(&redis.url()));
    let (present, absent) = (key(), key());
    there.insert(&present, text("one"), LONG).await.unwrap();
    assert_eq!(copied(&here, &present).await, Some(text("one")));
    assert_eq!(copied(&here, &absent).await, None);
    let before = gets(&redis);
    for _ in 0..1_000 {
        assert_eq!(here.load_cached(&present).await.unwrap(), Some(text("one")));
        assert_eq!(here.load_cached(&absent).await.unwrap(), None);
    }
    assert_eq!(gets(&redis), before, "nothing was asked");
    assert_eq!(here.load(&present).await.unwrap(), Some(text("one")));
    assert_eq!(gets(&redis), before + 1, "`load` always asks");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs redis-server; scripts/test runs it"]
async fn every_kind_of_change_elsewhere_holds_here() {
    let redis = Redis::start(Options::default());
    let (here, there) = (store(&redis.url()), store(&redis.url()));
    for change in ["insert", "swap", "take", "remove_if", "expiry", "FLUSHALL", "DEL by hand"] {
        let key = key();
        let ttl = if change == "expiry" { Duration::from_millis(300) } else { LONG };
        if change != "insert" {
            there.insert(&key, text("one"), ttl).await.unwrap();
        }
        let before = copied(&here, &key).await;
        assert_eq!(before.is_some(), change != "insert", "{change}");
        match change {
            "insert" => assert!(there.insert(&key, text("two"), LONG).await.unwrap()),
            "swap" => {
                assert!(there.swap(&key, &text("one"), text("two"), LONG).await.unwrap());
            }
            "take" => assert!(there.take(&key).await.unwrap().is_some()),
            "remove_if" => assert!(there.remove_if(&key, &text("one")).await.unwrap()),
            "FLUSHALL" => assert_eq!(redis.cli(&["FLUSHALL"]), "OK"),
            "DEL by hand" => assert_eq!(redis.cli(&["DEL", key.as_str()]), "1"),
            _ => {}
        }
        let begun = Instant::now();
        while here.load_cached(&key).await.unwrap() == before {
            assert!(begun.elapsed() < HANG, "{change}: never seen");
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        println!("{change}: seen after {:?}", begun.elapsed());
        let now = here.load_cached(&key).await.unwrap();
        let expected = matches!(change, "insert" | "swap").then(|| text("two"));
        assert_eq!(now, expected, "{change}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs redis-server; scripts/test runs it"]
async fn a_change_made_here_is_read_here_at_once() {
    let redis = Redis::start(Options::default());
    let store = store(&redis.url());
    let key = key();
    assert_eq!(copied(&store, &key).await, None);
    for round in 0..500_u32 {
        let (old, new) = (text(&round.to_string()), text(&(round + 1).to_string()));
        if round == 0 {
            store.insert(&key, new.clone(), LONG).await.unwrap();
        } else {
            assert!(store.swap(&key, &old, new.clone(), LONG).await.unwrap());
        }
        assert_eq!(store.load_cached(&key).await.unwrap(), Some(new), "{round}");
    }
}

/// The race that a cache loses which keeps an answer after the news of a change has passed. Any
/// value that stays after the last write is seen.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs redis-server; scripts/test runs it"]
async fn no_answer_outlives_the_change_that_overtook_it() {
    let redis = Redis::start(Options::default());
    let (here, there) = (store(&redis.url()), store(&redis.url()));
    let key = key();
    there.insert(&key, text("0"), LONG).await.unwrap();
    let done = Arc::new(AtomicBool::new(false));
    let readers: Vec<_> = (0..4)
        .map(|_| {
            let (here, key, done) = (here.clone(), key.clone(), done.clone());
            tokio::spawn(async move {
                let mut newest = 0_u64;
                while !done.load(Ordering::Acquire) {
                    let value = here.load_cached(&key).await.unwrap().unwrap();
                    let value: u64 = std::str::from_utf8(&value).unwrap().parse().unwrap();
                    newest = newest.max(value);
                    tokio::task::yield_now().await;
                }
                newest
            })
        })
        .collect();
    let mut stale = 0;
    for round in 0..2_000_u64 {
        let (old, new) = (text(&round.to_string()), text(&(round + 1).to_string()));
        assert!(there.swap(&key, &old, new.clone(), LONG).await.unwrap());
        if round % 100 == 0 {
            // Whatever the readers put there meanwhile must not stay.
            let begun = Instant::now();
            while here.load_cached(&key).await.unwrap().as_ref() != Some(&new) {
                stale += 1;
                assert!(begun.elapsed() < Duration::from_secs(1), "{round}: an old value stays");
                tokio::time::sleep(Duration::from_micros(200)).await;
            }
        }
    }
    done.store(true, Ordering::Release);
    for reader in readers {
        reader.await.unwrap();
    }
    println!("{stale} looks were ahead of the news");
}

/// Issue and DESIGN: within 50 ms (p99) on healthy links. Asserted at ten times that.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs redis-server; scripts/test runs it"]
async fn a_change_holds_elsewhere_within_milliseconds() {
    let redis = Redis::start(Options::default());
    let (here, there) = (store(&redis.url()), store(&redis.url()));
    let mut took = Vec::new();
    for _ in 0..1_000 {
        let key = key();
        assert_eq!(copied(&here, &key).await, None);
        there.insert(&key, text("mark"), LONG).await.unwrap();
        let begun = Instant::now();
        while here.load_cached(&key).await.unwrap().is_none() {
            tokio::task::yield_now().await;
        }
        took.push(begun.elapsed());
    }
    took.sort_unstable();
    let (p50, p99) = (took[took.len() / 2], took[took.len() * 99 / 100]);
    println!(
        "a change elsewhere is seen after {p50:?} (p50), {p99:?} (p99), {:?} at most",
        took[999]
    );
    assert!(p99 < Duration::from_millis(500), "p99 {p99:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs redis-server; scripts/test runs it"]
async fn nothing_is_believed_of_a_server_that_is_not_heard() {
    let mut redis = Redis::start(Options::default());
    let store = RedisStore::builder(&redis.url());
    let store = store.response_timeout(Duration::from_millis(300)).build().unwrap();
    let key = key();
    assert_eq!(copied(&store, &key).await, None);
    redis.hang();
    let begun = Instant::now();
    while at_once(&store, &key).is_some() {
        assert!(begun.elapsed() < HANG, "it is believed for ever");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    println!("hung: believed for {:?}", begun.elapsed());
    assert!(begun.elapsed() < EARSHOT + Duration::from_secs(1), "{:?}", begun.elapsed());
    redis.resume();
    assert_eq!(copied(&store, &key).await, None, "heard again");
    redis.stop();
    let begun = Instant::now();
    while at_once(&store, &key).is_some() {
        assert!(begun.elapsed() < HANG, "it is believed for ever");
    }
    println!("stopped: believed for {:?}", begun.elapsed());
    redis.start_again();
    // Another server has its place: nothing of the old one is left.
    redis.cli(&["SET", key.as_str(), "new"]);
    let begun = Instant::now();
    loop {
        match store.load_cached(&key).await {
            Ok(value) => break assert_eq!(value, Some(text("new"))),
            Err(_) => assert!(begun.elapsed() < HANG, "it never comes back"),
        }
    }
}

/// A right that is taken away while the connection stands: what is read is not told of any more.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs redis-server; scripts/test runs it"]
async fn what_the_server_does_not_track_is_not_copied() {
    let redis = Redis::start(Options::default());
    let all = ["ACL", "SETUSER", "app", "reset", "on", ">s3cret", "~*", "&*", "+@all"];
    assert_eq!(redis.cli(&all), "OK");
    let store = store(&format!("redis://app:s3cret@127.0.0.1:{}", redis.port));
    let (before, after) = (key(), key());
    copied(&store, &before).await;
    assert_eq!(redis.cli(&["ACL", "SETUSER", "app", "-client|caching"]), "OK");
    for _ in 0..50 {
        assert_eq!(store.load_cached(&after).await.unwrap(), None);
        assert_eq!(at_once(&store, &after), None, "it is asked for each time");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    // Without tracking from the beginning.
    assert_eq!(redis.cli(&["ACL", "SETUSER", "app", "-client|tracking"]), "OK");
    let store = tools::store(&format!("redis://app:s3cret@127.0.0.1:{}", redis.port));
    for _ in 0..50 {
        assert_eq!(store.load_cached(&after).await.unwrap(), None);
        assert_eq!(at_once(&store, &after), None);
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// A server that says it tracks, and then answers nothing but reads: no heartbeat is heard.
#[tokio::test]
async fn a_server_that_answers_no_heartbeat_is_not_believed() {
    let reads = Arc::new(AtomicU64::new(0));
    let counted = reads.clone();
    let fake = Fake::start(move |command| match command[0].as_str() {
        "CLIENT" => Act::Say("+OK\r\n".to_owned()),
        "ROLE" => Act::Hang,
        "GET" => {
            counted.fetch_add(1, Ordering::Relaxed);
            Act::Say("_\r\n".to_owned())
        }
        _ => Act::Say(well(command, "redis", "7.0.15")),
    })
    .await;
    let store = RedisStore::builder(&fake.url());
    let store = store.response_timeout(Duration::from_millis(200)).build().unwrap();
    let key = key();
    for _ in 0..5 {
        let _ = store.load_cached(&key).await;
        assert_eq!(at_once(&store, &key), None, "it was never heard");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs redis-server; scripts/test runs it"]
async fn the_copies_are_bounded_and_can_be_switched_off() {
    let redis = Redis::start(Options::default());
    let off = RedisStore::builder(&redis.url()).cached_entries(0).build().unwrap();
    let few = RedisStore::builder(&redis.url()).cached_entries(64).build().unwrap();
    let first = key();
    copied(&few, &first).await;
    for _ in 0..1_000 {
        few.load_cached(&key()).await.unwrap();
    }
    assert_eq!(at_once(&few, &first), None, "it made room");
    for _ in 0..20 {
        off.load_cached(&first).await.unwrap();
        assert_eq!(at_once(&off, &first), None);
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let clients = redis.cli(&["CLIENT", "LIST"]);
    assert_eq!(clients.matches("flags=t").count(), 1, "one asks to be told: {clients}");
}
