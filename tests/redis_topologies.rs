//! Redis behind sentinels and as a cluster, on real servers: the conformance suite, fail-overs,
//! slots that move, and what a person who is signed in sees of it.

#[path = "support/pods.rs"]
mod pods;
mod support;
#[path = "redis/tools.rs"]
mod tools;
#[path = "real/topologies.rs"]
mod topologies;

use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::http::StatusCode;
use bytes::Bytes;
use pods::a_minute_later;
use support::World;
use tools::{LONG, bounded, key, store};
use topologies::{Shape, Topology};
use tower_pkce_auth::testing::store_suite;
use tower_pkce_auth::{Key, RedisStore, Sessions, Store, StoreError};

/// Ten times what a fail-over of these servers takes.
const HANG: Duration = Duration::from_secs(60);
const FEW: Duration = Duration::from_millis(10);

fn text(text: &str) -> Bytes {
    Bytes::copy_from_slice(text.as_bytes())
}

/// Servers of one test at a time: a port that a killed one leaves free must not become another's,
/// whom sentinels would take for it.
struct Alone {
    topology: Topology,
    _turn: tokio::sync::MutexGuard<'static, ()>,
}

impl std::ops::Deref for Alone {
    type Target = Topology;

    fn deref(&self) -> &Topology {
        &self.topology
    }
}

impl std::ops::DerefMut for Alone {
    fn deref_mut(&mut self) -> &mut Topology {
        &mut self.topology
    }
}

impl Drop for Alone {
    /// Says what the servers did where a test fails: another run may not repeat it.
    fn drop(&mut self) {
        if std::thread::panicking() {
            println!("{}", self.topology.last_words());
        }
    }
}

/// Starts servers where a thread may be blocked.
async fn start(shape: Shape) -> Alone {
    start_with(shape, 1).await
}

async fn start_with(shape: Shape, replicas: usize) -> Alone {
    static TURN: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());
    let _turn = TURN.lock().await;
    let started =
        tokio::task::spawn_blocking(move || Topology::start_with(shape, replicas).unwrap());
    Alone { topology: started.await.unwrap(), _turn }
}

/// Does something with the servers that takes its time.
fn blocking<T>(act: impl FnOnce() -> T) -> T {
    tokio::task::block_in_place(act)
}

/// Asks every 10 ms until it works; says how long that took and how long one try took at most.
async fn until_it_works<T, F>(what: &str, mut ask: impl FnMut() -> F) -> T
where
    F: Future<Output = Result<T, StoreError>>,
{
    let (begun, mut longest, mut tries) = (Instant::now(), Duration::ZERO, 0);
    loop {
        let sent = Instant::now();
        let answer = ask().await;
        longest = longest.max(sent.elapsed());
        if let Ok(answer) = answer {
            let took = begun.elapsed();
            println!("{what}: works after {took:?}, {tries} tries failed, {longest:?} at most");
            assert!(longest < Duration::from_secs(10), "{what}: a call hangs");
            return answer;
        }
        tries += 1;
        assert!(begun.elapsed() < HANG, "{what}: it never works again");
        tokio::time::sleep(FEW).await;
    }
}

/// Keys of which each server of a cluster has some.
fn keys() -> Vec<Key> {
    (0..60).map(|_| key()).collect()
}

async fn written(store: &RedisStore, keys: &[Key], value: &str) {
    for key in keys {
        assert!(store.insert(key, text(value), LONG).await.unwrap());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs redis-server; scripts/test runs it"]
async fn sentinels_conform() {
    let topology = start(Shape::Sentinel).await;
    store_suite(Arc::new(store(&topology.url())), tokio::time::sleep).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs redis-server; scripts/test runs it"]
async fn a_cluster_conforms() {
    let topology = start(Shape::Cluster).await;
    store_suite(Arc::new(store(&topology.url())), tokio::time::sleep).await;
    // One server that is in the cluster is enough to find the others; one that is not does no harm.
    let one = topology.node(0).address();
    store_suite(Arc::new(store(&format!("redis+cluster://127.0.0.1:1,{one}"))), tokio::time::sleep)
        .await;
}

/// A master that is killed, one that hangs, and one that hands over: the store follows each.
async fn follows(shape: Shape) {
    let mut topology = start(shape).await;
    let store = store(&topology.url());
    let keys = keys();
    written(&store, &keys, "one").await;
    for (what, planned) in [("killed", false), ("hung", false), ("planned", true)] {
        let case = format!("{}, {what}", shape.name());
        let probe = &keys[0];
        blocking(|| topology.wait_until_copied().unwrap());
        for key in &keys {
            // A fail-over of their own accord may be under way on a busy machine.
            let value = until_it_works_quietly(|| store.load_cached(key)).await;
            assert_eq!(value, Some(text("one")), "{case}");
        }
        let master = blocking(|| topology.master_of(probe.as_str())).unwrap();
        if planned {
            blocking(|| topology.fail_over().unwrap());
        } else {
            if what == "killed" {
                topology.kill(master);
            } else {
                topology.hang(master).unwrap();
            }
            let error = bounded(&case, store.take(&key())).await;
            println!("{case}: a call meanwhile: {:?}", error.map_err(|error| error.kind()));
        }
        let value = until_it_works(&format!("{case}, read"), || store.load(probe)).await;
        assert_eq!(value, Some(text("one")), "{case}");
        for key in &keys {
            let value = until_it_works_quietly(|| store.load(key)).await;
            assert_eq!(value, Some(text("one")), "{case}: nothing is lost");
        }
        let fresh = key();
        until_it_works(&format!("{case}, write"), || store.insert(&fresh, text("x"), LONG)).await;
        // The old master comes back, empty or as it was, and is written to by nobody.
        match what {
            // Before most sentinels have another master it would start as an empty one, and its
            // emptiness be copied if they took it for well.
            "killed" => blocking(|| {
                topology.wait_until_replaced(master).unwrap();
                topology.start_again(master).unwrap();
            }),
            "hung" => topology.resume(master).unwrap(),
            _ => {}
        }
        blocking(|| topology.wait_until_healthy().unwrap());
        for round in 0..50 {
            let key = key();
            // What is tried again may have been done the first time.
            until_it_works_quietly(|| store.insert(&key, text("y"), LONG)).await;
            let master = blocking(|| topology.master_of(key.as_str())).unwrap();
            let there = topology.node(master).ask(&["GET", key.as_str()]).unwrap();
            assert_eq!(there.text(), "y", "{case}, {round}: it is where the master is");
        }
        // No local copy has outlived its server.
        for key in &keys {
            assert!(store.swap(key, &text("one"), text("two"), LONG).await.unwrap(), "{case}");
            assert!(store.swap(key, &text("two"), text("one"), LONG).await.unwrap(), "{case}");
            assert_eq!(store.load_cached(key).await.unwrap(), Some(text("one")), "{case}");
        }
    }
}

async fn until_it_works_quietly<T, F>(mut ask: impl FnMut() -> F) -> T
where
    F: Future<Output = Result<T, StoreError>>,
{
    let begun = Instant::now();
    loop {
        if let Ok(answer) = ask().await {
            return answer;
        }
        assert!(begun.elapsed() < HANG, "it never works again");
        tokio::time::sleep(FEW).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs redis-server; scripts/test runs it"]
async fn a_fail_over_of_sentinels_is_followed() {
    follows(Shape::Sentinel).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs redis-server; scripts/test runs it"]
async fn a_fail_over_of_a_cluster_is_followed() {
    follows(Shape::Cluster).await;
}

/// A sign-out is on a replica before it is acknowledged; a replica that hangs holds up one of them,
/// and not those behind it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs redis-server; scripts/test runs it"]
async fn a_sign_out_waits_for_a_replica_that_keeps_up() {
    let topology = start(Shape::Sentinel).await;
    let mark = || Key::new("suite", "{marks}", key().as_str().as_bytes());
    let mut tries = 0;
    let (store, replica) = loop {
        blocking(|| topology.wait_until_copied().unwrap());
        let store = store(&topology.url());
        store.load(&mark()).await.unwrap();
        // The heartbeat has looked whether there is a replica.
        tokio::time::sleep(Duration::from_millis(300)).await;
        let replica = 1 - blocking(|| topology.master_of("x")).unwrap();
        let mut missed = 0;
        for _ in 0..100 {
            let mark = mark();
            assert!(store.insert(&mark, text("1"), LONG).await.unwrap());
            let there = topology.node(replica).ask(&["GET", mark.as_str()]).unwrap();
            missed += u32::from(there.text() != "1");
        }
        if missed == 0 {
            break (store, replica);
        }
        // A replica that a busy machine keeps from answering for 100 ms is not waited for either.
        tries += 1;
        assert!(tries < 3, "{missed} of 100 acknowledged and not on the replica");
    };
    topology.hang(replica).unwrap();
    let begun = Instant::now();
    assert!(store.insert(&mark(), text("1"), LONG).await.unwrap());
    let first = begun.elapsed();
    for _ in 0..100 {
        assert!(store.insert(&mark(), text("1"), LONG).await.unwrap());
    }
    println!(
        "replica hangs: the first sign-out waits {first:?}, a hundred more {:?}",
        begun.elapsed()
    );
    assert!(first >= Duration::from_millis(90), "{first:?}");
    assert!(begun.elapsed() < Duration::from_secs(5), "they do not wait one after the other");
    topology.resume(replica).unwrap();
}

/// The other masters of a cluster go on while one is gone.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs redis-server; scripts/test runs it"]
async fn a_lost_master_of_a_cluster_concerns_its_own_keys_alone() {
    let topology = start(Shape::Cluster).await;
    let store = store(&topology.url());
    let keys = keys();
    written(&store, &keys, "one").await;
    let lost = blocking(|| topology.master_of(keys[0].as_str())).unwrap();
    let (its, others): (Vec<_>, Vec<_>) =
        blocking(|| keys.iter().partition(|key| topology.master_of(key.as_str()) == Some(lost)));
    assert!(!its.is_empty() && !others.is_empty());
    topology.hang(lost).unwrap();
    let begun = Instant::now();
    for key in &others {
        assert_eq!(store.load(key).await.unwrap(), Some(text("one")));
    }
    // Each would wait a second for the one that hangs.
    println!("{} keys of the others: {:?}", others.len(), begun.elapsed());
    assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());
    bounded("its own key", store.take(its[0])).await.unwrap_err();
    topology.resume(lost).unwrap();
}

/// A slot on its way from one master to another: keys that are there, on the way, and not there.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs redis-server; scripts/test runs it"]
async fn a_slot_that_moves_is_followed_key_by_key() {
    let topology = start(Shape::Cluster).await;
    let (store, other) = (store(&topology.url()), store(&topology.url()));
    let moved = key();
    store.insert(&moved, text("one"), LONG).await.unwrap();
    let ask = |node: usize, command: &[&str]| {
        blocking(|| topology.node(node).ask(command)).unwrap().text().to_owned()
    };
    let slot = blocking(|| topology.node(0).ask(&["CLUSTER", "KEYSLOT", moved.as_str()]).unwrap());
    let slot = slot.number().unwrap().to_string();
    let masters = blocking(|| topology.masters());
    let from = blocking(|| topology.master_of(moved.as_str())).unwrap();
    let to = *masters.iter().find(|master| **master != from).unwrap();
    let (from_id, to_id) = (ask(from, &["CLUSTER", "MYID"]), ask(to, &["CLUSTER", "MYID"]));
    // A copy is known here, and must not be believed once the key has moved.
    assert_eq!(other.load_cached(&moved).await.unwrap(), Some(text("one")));
    ask(to, &["CLUSTER", "SETSLOT", &slot, "IMPORTING", &from_id]);
    ask(from, &["CLUSTER", "SETSLOT", &slot, "MIGRATING", &to_id]);
    assert_eq!(store.load(&moved).await.unwrap(), Some(text("one")), "still there");
    let port = topology.node(to).address().port().to_string();
    ask(
        from,
        &[
            "MIGRATE",
            "127.0.0.1",
            &port,
            moved.as_str(),
            "0",
            "5000",
            "AUTH2",
            "operator",
            "operator",
        ],
    );
    for store in [&store, &other] {
        assert_eq!(store.load(&moved).await.unwrap(), Some(text("one")), "by ASK");
        assert_eq!(store.load_cached(&moved).await.unwrap(), Some(text("one")), "by ASK");
    }
    assert!(store.swap(&moved, &text("one"), text("two"), LONG).await.unwrap(), "by ASK");
    assert_eq!(other.load_cached(&moved).await.unwrap(), Some(text("two")), "no copy is kept");
    for node in [to, from] {
        ask(node, &["CLUSTER", "SETSLOT", &slot, "NODE", &to_id]);
    }
    for store in [&store, &other] {
        assert_eq!(store.load(&moved).await.unwrap(), Some(text("two")), "by MOVED");
        assert_eq!(store.take(&key()).await.unwrap(), None);
    }
    assert_eq!(store.take(&moved).await.unwrap(), Some(text("two")));
}

/// What a person sees: nothing, or 503 for as long as nobody is master; a sign-out stays one.
async fn people_stay(shape: Shape) {
    let world = World::new().await;
    let mut topology = start(shape).await;
    let app = |sessions| {
        let builder = world.builder().store(store(&topology.url())).sessions(sessions);
        world.app(&builder.build().unwrap())
    };
    let apps = [app(Sessions::Stored), app(Sessions::Sealed)];
    let mut people = Vec::new();
    let mut gone = Vec::new();
    for app in &apps {
        let mut browser = world.browser(app, "alice");
        assert_eq!(browser.sign_in("/").await.body, "alice");
        a_minute_later(&mut browser);
        people.push(browser);
        let mut browser = world.browser(app, "bob");
        assert_eq!(browser.sign_in("/").await.body, "bob");
        let copy = browser.clone();
        browser.post("/auth/logout").await;
        gone.push(copy);
    }
    // Logins that are begun are not waited for.
    blocking(|| topology.wait_until_copied().unwrap());
    // Whoever has the sign-outs.
    let victim = blocking(|| topology.master_of("auth:{marks}:x")).unwrap();
    topology.kill(victim);
    let begun = Instant::now();
    let mut refused = 0;
    loop {
        let mut well = true;
        for browser in &mut people {
            let reply = browser.get("/who").await;
            match reply.status {
                StatusCode::OK => assert_eq!(reply.body, "alice"),
                StatusCode::SERVICE_UNAVAILABLE => {
                    refused += 1;
                    well = false;
                }
                other => panic!("{}: {other}: {}", shape.name(), reply.reason()),
            }
        }
        // Beyond what is believed of a server that is gone.
        if well && begun.elapsed() > Duration::from_secs(3) {
            break;
        }
        assert!(begun.elapsed() < HANG, "{}: never well again", shape.name());
        tokio::time::sleep(FEW).await;
    }
    println!("{}: {refused} requests refused while nobody was master", shape.name());
    for copy in &mut gone {
        a_minute_later(copy);
        // Another server of a cluster may learn a moment later that all is well.
        let begun = Instant::now();
        let reply = loop {
            let reply = copy.get("/who").await;
            if reply.status != StatusCode::SERVICE_UNAVAILABLE || begun.elapsed() > HANG {
                break reply;
            }
            tokio::time::sleep(FEW).await;
        };
        assert_eq!(reply.status, StatusCode::FOUND, "{}: a sign-out stays", shape.name());
    }
    for browser in &mut people {
        let mut another = world.browser(&browser.app, "mallory");
        assert_eq!(another.sign_in("/").await.body, "mallory", "and people can sign in");
    }
}

/// A shard that comes back empty: whose sessions were there signs in again, the others stay; without
/// the sign-outs nobody is believed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs redis-server; scripts/test runs it"]
async fn a_shard_of_a_cluster_that_is_emptied_signs_out_its_own_people_alone() {
    let world = World::new().await;
    let topology = start(Shape::Cluster).await;
    let builder = world.builder().store(store(&topology.url()));
    let app = world.app(&builder.build().unwrap());
    let marks = blocking(|| topology.master_of("auth:{marks}:x")).unwrap();
    let sessions_of = |node: usize| {
        let listed = blocking(|| topology.node(node).ask(&["KEYS", "auth:session:*"])).unwrap();
        listed.list().len()
    };
    let mut people = Vec::new();
    for _ in 0..12 {
        let masters = blocking(|| topology.masters());
        let before: Vec<_> = masters.iter().map(|node| sessions_of(*node)).collect();
        let mut browser = world.browser(&app, "alice");
        assert_eq!(browser.sign_in("/").await.body, "alice");
        a_minute_later(&mut browser);
        let home = masters.iter().zip(before).find(|(node, count)| sessions_of(**node) > *count);
        people.push((*home.expect("it lies somewhere").0, browser));
    }
    let emptied = people.iter().map(|(home, _)| *home).find(|home| *home != marks).unwrap();
    assert_eq!(topology.node(emptied).ask(&["FLUSHALL"]).unwrap().text(), "OK");
    tokio::time::sleep(Duration::from_millis(200)).await;
    for (home, browser) in &mut people {
        let status = browser.get("/who").await.status;
        let expected = if *home == emptied { StatusCode::FOUND } else { StatusCode::OK };
        assert_eq!(status, expected, "server {home}, emptied {emptied}, sign-outs on {marks}");
    }
    assert_eq!(topology.node(marks).ask(&["FLUSHALL"]).unwrap().text(), "OK");
    tokio::time::sleep(Duration::from_millis(200)).await;
    for (_, browser) in &mut people {
        assert_eq!(browser.get("/who").await.status, StatusCode::FOUND, "nobody knows who left");
        assert_eq!(browser.sign_in("/").await.body, "alice", "and everybody can come back");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs redis-server; scripts/test runs it"]
async fn people_stay_signed_in_over_a_fail_over_of_sentinels() {
    people_stay(Shape::Sentinel).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs redis-server; scripts/test runs it"]
async fn people_stay_signed_in_over_a_fail_over_of_a_cluster() {
    people_stay(Shape::Cluster).await;
}

/// In a hand-over the old master goes on taking writes until it is told that it is none any more.
/// A session, or the note that its refresh token is being spent, if it was acknowledged meanwhile or
/// read back, is there afterwards. (Sign-outs are written again by whoever made them.)
async fn hands_over(replicas: usize) {
    let topology = start_with(Shape::Sentinel, replicas).await;
    let store = Arc::new(store(&topology.url()));
    store.load(&key()).await.unwrap();
    // The heartbeat has looked whether there is a replica.
    tokio::time::sleep(Duration::from_millis(300)).await;
    let (mut acknowledged, mut refused) = (0, 0);
    for _ in 0..4 {
        blocking(|| topology.wait_until_healthy().unwrap());
        blocking(|| topology.wait_until_copied().unwrap());
        let (stop, stopped) = tokio::sync::watch::channel(false);
        let writers: Vec<_> = ["session", "lease"]
            .map(|purpose| tokio::spawn(write(store.clone(), purpose, stopped.clone())))
            .into();
        tokio::time::sleep(Duration::from_millis(200)).await;
        blocking(|| topology.fail_over().unwrap());
        blocking(|| topology.wait_until_healthy().unwrap());
        stop.send_replace(true);
        for writer in writers {
            let (written, failed) = writer.await.unwrap();
            refused += failed;
            acknowledged += written.len();
            for (key, changed) in written {
                let value = until_it_works_quietly(|| store.load(&key)).await;
                assert!(value.is_some(), "{}: lost", key.as_str());
                assert!(
                    !changed || value == Some(text("two")),
                    "{}: a change is lost",
                    key.as_str()
                );
            }
        }
    }
    println!("{replicas}: {acknowledged} writes acknowledged, {refused} refused");
    assert!(acknowledged > 100, "{acknowledged}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs redis-server; scripts/test runs it"]
async fn what_is_acknowledged_in_a_hand_over_is_not_lost() {
    hands_over(1).await;
}

/// A replica that is not promoted stays with the old master for a while, and confirms what is lost.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs redis-server; scripts/test runs it"]
async fn what_another_replica_confirms_in_a_hand_over_is_not_lost() {
    hands_over(2).await;
}

/// Writes and changes one value after the other; returns those that were acknowledged, and whether
/// their change was too, and how many were not.
async fn write(
    store: Arc<RedisStore>,
    purpose: &str,
    stopped: tokio::sync::watch::Receiver<bool>,
) -> (Vec<(Key, bool)>, u32) {
    let (mut written, mut failed) = (Vec::new(), 0);
    while !*stopped.borrow() {
        let key = Key::new("suite", purpose, key().as_str().as_bytes());
        if let Ok(true) = store.insert(&key, text("one"), LONG).await {
            let changed = match store.swap(&key, &text("one"), text("two"), LONG).await {
                Ok(changed) => changed,
                Err(_) => {
                    failed += 1;
                    // Leases are not read.
                    purpose == "session"
                        && until_it_works_quietly(|| store.load(&key)).await == Some(text("two"))
                }
            };
            written.push((key, changed));
        } else {
            failed += 1;
        }
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    (written, failed)
}
