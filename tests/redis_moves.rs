//! What moves under the store: masters, slots, roles. A sign-out that is written where it belongs is
//! seen by everybody, and nobody is believed who would not know of it.

#[path = "redis/fake.rs"]
mod fake;
#[path = "support/pods.rs"]
mod pods;
#[path = "real/servers.rs"]
mod servers;
mod support;
#[path = "redis/tools.rs"]
mod tools;
#[path = "real/topologies.rs"]
mod topologies;

use std::ops::{Deref, DerefMut};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use axum::http::StatusCode;
use bytes::Bytes;
use fake::{Act, Fake, well};
use pods::a_minute_later;
use servers::{Options, Redis};
use support::World;
use tools::{HANG, LONG, key, shown, store};
use topologies::{Shape, Topology};
use tower_pkce_auth::{Key, RedisStore, Sessions, Store, StoreErrorKind};

fn one() -> Bytes {
    Bytes::from_static(b"1")
}

/// A key of a sign-out.
fn mark() -> Key {
    Key::new("suite", "{marks}", key().as_str().as_bytes())
}

async fn sleep(milliseconds: u64) {
    tokio::time::sleep(Duration::from_millis(milliseconds)).await;
}

/// Servers of one test at a time, see `redis_topologies.rs`.
struct Alone {
    topology: Topology,
    _turn: tokio::sync::MutexGuard<'static, ()>,
}

impl Deref for Alone {
    type Target = Topology;

    fn deref(&self) -> &Topology {
        &self.topology
    }
}

impl DerefMut for Alone {
    fn deref_mut(&mut self) -> &mut Topology {
        &mut self.topology
    }
}

async fn start(shape: Shape) -> Alone {
    static TURN: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());
    let _turn = TURN.lock().await;
    let started = tokio::task::spawn_blocking(move || Topology::start(shape).unwrap());
    Alone { topology: started.await.unwrap(), _turn }
}

/// Asks until there is a local copy.
async fn known(store: &RedisStore, key: &Key) {
    let begun = Instant::now();
    loop {
        let answer = store.load_cached(key);
        let ready = answer.is_ready();
        if answer.await.is_ok() && ready {
            return;
        }
        assert!(begun.elapsed() < HANG, "it is never known");
        sleep(5).await;
    }
}

async fn moving(whole: bool) {
    let topology = start(Shape::Cluster).await;
    let (here, there) = (store(&topology.url()), store(&topology.url()));
    let mark = mark();
    let ask = |node: usize, command: &[&str]| {
        tokio::task::block_in_place(|| topology.node(node).ask(command)).unwrap().text().to_owned()
    };
    let slot = topology
        .node(0)
        .ask(&["CLUSTER", "KEYSLOT", mark.as_str()])
        .unwrap()
        .number()
        .unwrap()
        .to_string();
    let from = topology.master_of(mark.as_str()).unwrap();
    let to = *topology.masters().iter().find(|master| **master != from).unwrap();
    let (from_id, to_id) = (ask(from, &["CLUSTER", "MYID"]), ask(to, &["CLUSTER", "MYID"]));
    known(&here, &mark).await;
    ask(to, &["CLUSTER", "SETSLOT", &slot, "IMPORTING", &from_id]);
    ask(from, &["CLUSTER", "SETSLOT", &slot, "MIGRATING", &to_id]);
    if whole {
        for node in [to, from] {
            ask(node, &["CLUSTER", "SETSLOT", &slot, "NODE", &to_id]);
        }
    }
    assert!(there.insert(&mark, one(), LONG).await.unwrap());
    let begun = Instant::now();
    while here.load_cached(&mark).await.unwrap().is_none() {
        if begun.elapsed() > HANG {
            panic!("whole: {whole}: a sign-out is not seen after {:?}", begun.elapsed());
        }
        sleep(50).await;
    }
    println!("seen after {:?}", begun.elapsed());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs redis-server; scripts/test runs it"]
async fn a_sign_out_is_seen_while_its_slot_is_on_its_way() {
    moving(false).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs redis-server; scripts/test runs it"]
async fn a_sign_out_is_seen_when_its_slot_has_moved() {
    moving(true).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs redis-server; scripts/test runs it"]
async fn a_master_cut_off_from_its_cluster_is_not_believed() {
    let topology = start(Shape::Cluster).await;
    let here = store(&topology.url());
    let mark = mark();
    let master = topology.master_of(mark.as_str()).unwrap();
    known(&here, &mark).await;
    for node in (0..topology.size()).filter(|node| *node != master) {
        topology.hang(node).unwrap();
    }
    let begun = Instant::now();
    loop {
        let answer = topology.node(master).ask(&["GET", mark.as_str()]);
        if answer.is_err() {
            println!("{:?} after {:?}", answer.err(), begun.elapsed());
            break;
        }
        assert!(begun.elapsed() < Duration::from_secs(30));
        sleep(50).await;
    }
    sleep(5000).await;
    let cached = here.load_cached(&mark).await;
    let asked = here.load(&mark).await;
    println!("cached {cached:?}, asked {asked:?}");
    for node in (0..topology.size()).filter(|node| *node != master) {
        topology.resume(node).unwrap();
    }
    assert!(cached.is_err(), "believed though the server does not serve");
}

/// A sentinel that names one of two masters: by the epoch, which is the number of that one. As the
/// leader of a fail-over it still lists the old one.
async fn sentinel(ports: [u16; 2]) -> (Fake, Arc<AtomicU64>) {
    let epoch = Arc::new(AtomicU64::new(0));
    let now = epoch.clone();
    let fake = Fake::start(move |command| {
        if command[0] != "SENTINEL" {
            return Act::Say(well(command, "redis", "7.0.15"));
        }
        let epoch = now.load(Ordering::SeqCst);
        let bulk = |text: &str| format!("${}\r\n{text}\r\n", text.len());
        let text = if command[1] == "GET-MASTER-ADDR-BY-NAME" {
            let port = ports[usize::try_from(epoch).unwrap()].to_string();
            format!("*2\r\n{}{}", bulk("127.0.0.1"), bulk(&port))
        } else {
            let fields = [
                "ip",
                "127.0.0.1",
                "port",
                &ports[0].to_string(),
                "config-epoch",
                &epoch.to_string(),
            ]
            .map(bulk);
            format!("%3\r\n{}", fields.concat())
        };
        Act::Say(text)
    })
    .await;
    (fake, epoch)
}

/// The old master can be reached by this pod, and not by the sentinels.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs redis-server; scripts/test runs it"]
async fn sign_outs_go_to_the_master_that_sentinels_name() {
    let (a, b) = (Redis::start(Options::default()), Redis::start(Options::default()));
    let (fake, epoch) = sentinel([a.port, b.port]).await;
    let store = store(&format!("redis+sentinel://127.0.0.1:{}/pods", fake.port));
    store.load(&key()).await.unwrap();
    store.insert(&mark(), one(), LONG).await.unwrap();
    epoch.store(1, Ordering::SeqCst);
    sleep(5000).await;
    let mark = mark();
    assert!(store.insert(&mark, one(), LONG).await.unwrap());
    let (old, new) = (a.cli(&["GET", mark.as_str()]), b.cli(&["GET", mark.as_str()]));
    println!(
        "written and acknowledged: old {old:?} new {new:?}; read back {:?}",
        store.load(&mark).await
    );
    assert_eq!(new, "1", "the sign-out is on the old master");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs redis-server; scripts/test runs it"]
async fn a_sign_out_at_the_moment_of_a_fail_over_does_not_keep_the_old_master() {
    let (a, b) = (Redis::start(Options::default()), Redis::start(Options::default()));
    let (fake, epoch) = sentinel([a.port, b.port]).await;
    let store = store(&format!("redis+sentinel://127.0.0.1:{}/pods", fake.port));
    store.load(&key()).await.unwrap();
    sleep(300).await;
    epoch.store(1, Ordering::SeqCst);
    // The first sign-out of this pod connects the second link.
    store.insert(&mark(), one(), LONG).await.unwrap();
    sleep(10_000).await;
    let written = key();
    b.cli(&["SET", written.as_str(), "1"]);
    let read = store.load(&written).await.unwrap();
    assert_eq!(read, Some(one()), "ten seconds after the fail-over the old master is read");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs redis-server; scripts/test runs it"]
async fn sign_outs_at_once_do_not_wait_one_after_the_other() {
    let topology = start(Shape::Sentinel).await;
    let store = store(&topology.url());
    store.load(&mark()).await.unwrap();
    store.insert(&mark(), one(), LONG).await.unwrap();
    sleep(300).await;
    let replica = 1 - topology.master_of("x").unwrap();
    topology.hang(replica).unwrap();
    let tasks: Vec<_> = (0..50)
        .map(|n| {
            let store = store.clone();
            tokio::spawn(async move {
                let begun = Instant::now();
                let answer = store.insert(&mark(), one(), LONG).await;
                if n % 7 == 0 {
                    println!("{n}: {:?} {}", begun.elapsed(), answer.is_ok());
                }
                answer
            })
        })
        .collect();
    let mut failed = 0;
    for task in tasks {
        if let Err(error) = task.await.unwrap() {
            assert_eq!(error.kind(), StoreErrorKind::TimedOut);
            failed += 1;
        }
    }
    topology.resume(replica).unwrap();
    assert_eq!(failed, 0, "of 50 sign-outs were written and refused");
}

/// Hung, then one probe whose connection ends while it is set up, then well.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_probe_that_is_cut_off_does_not_end_recovery() {
    // 0: well, 1: hangs, 2: ends at the second HELLO, 3: well again.
    let mode = Arc::new(AtomicU64::new(0));
    let now = mode.clone();
    let fake = Fake::start(move |command| {
        let tracks = command.get(1).is_some_and(|word| word == "TRACKING");
        match now.load(Ordering::SeqCst) {
            1 => Act::Hang,
            2 if tracks => {
                now.store(3, Ordering::SeqCst);
                Act::Close
            }
            _ => Act::Say(well(command, "redis", "8.0.0")),
        }
    })
    .await;
    let store = store(&fake.url());
    store.load(&key()).await.unwrap();
    mode.store(1, Ordering::SeqCst);
    let mut begun = Instant::now();
    while begun.elapsed() < Duration::from_secs(4) {
        let _ = store.load(&key()).await;
        sleep(100).await;
    }
    mode.store(2, Ordering::SeqCst);
    begun = Instant::now();
    while let Err(error) = store.load(&key()).await {
        assert!(
            begun.elapsed() < Duration::from_secs(15),
            "mode {}: {error:?}; {} connections",
            mode.load(Ordering::SeqCst),
            fake.connections()
        );
        sleep(100).await;
    }
}

/// A cluster whose every answer leads to a new place.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn places_of_redirections_are_not_kept_for_ever() {
    let n = AtomicU64::new(1);
    let me = Arc::new(std::sync::OnceLock::<u16>::new());
    let port = me.clone();
    let places = Arc::new(AtomicU64::new(0));
    let seen = places.clone();
    let fake = Fake::start(move |command| {
        match command[0].as_str() {
            "CLUSTER" => {
                // A map at first, so that calls are sent somewhere; none later.
                let text = if seen.fetch_add(1, Ordering::SeqCst) == 0 {
                    let port = *me.get().unwrap();
                    format!("*1\r\n*3\r\n:0\r\n:16383\r\n*2\r\n$9\r\n127.0.0.1\r\n:{port}\r\n")
                } else {
                    "*0\r\n".into()
                };
                Act::Say(text)
            }
            "SET" => Act::Say(format!(
                "-MOVED 1 127.0.0.1:{}\r\n",
                n.fetch_add(1, Ordering::SeqCst) % 60_000
            )),
            _ => Act::Say(well(command, "redis", "8.0.0")),
        }
    })
    .await;
    port.set(fake.port).unwrap();
    let store = store(&format!("redis+cluster://127.0.0.1:{}", fake.port));
    // Each new place is connected to in vain; how many are asked for the map in the end?
    let mut longest = Duration::ZERO;
    for round in 0..6 {
        let begun = Instant::now();
        for _ in 0..500 {
            let _ = store.insert(&key(), one(), LONG).await;
        }
        longest = longest.max(begun.elapsed());
        println!("round {round}: {:?}", begun.elapsed());
    }
    println!("{} maps asked for", places.load(Ordering::SeqCst));
    assert!(longest < HANG, "each place that was ever named is connected to: {longest:?}");
}

#[tokio::test]
#[ignore = "needs redis-server; scripts/test runs it"]
async fn the_password_is_not_in_an_error() {
    let redis = Redis::start(
        Options::default().password("s3cret-pass").set("rename-command", "HELLO \"\""),
    );
    let store = store(&redis.url());
    let error = store.load(&key()).await.unwrap_err();
    println!("{}", shown(&error));
    assert!(!shown(&error).contains("s3cret-pass"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs redis-server; scripts/test runs it"]
async fn databases_that_are_swapped_are_noticed() {
    let redis = Redis::start(Options::default());
    let here = store(&redis.url());
    let mark = mark();
    known(&here, &mark).await;
    redis.cli(&["-n", "1", "SET", mark.as_str(), "1"]);
    redis.cli(&["SWAPDB", "0", "1"]);
    sleep(3000).await;
    assert_eq!(here.load_cached(&mark).await.unwrap(), Some(one()));
}

async fn stays(sessions: Sessions) {
    let world = World::new().await;
    let mut topology = start(Shape::Sentinel).await;
    let builder = world.builder().store(store(&topology.url())).sessions(sessions);
    let app = world.app(&builder.build().unwrap());
    let mut bob = world.browser(&app, "bob");
    assert_eq!(bob.sign_in("/").await.body, "bob");
    let mut copy = bob.clone();
    tokio::time::sleep(Duration::from_millis(500)).await;
    let master = topology.master_of("x").unwrap();
    topology.hang(1 - master).unwrap();
    topology.node(master).ask(&["CLIENT", "KILL", "TYPE", "replica"]).unwrap();
    let reply = bob.post("/auth/logout").await;
    println!("logout: {}", reply.status);
    topology.kill(master);
    topology.resume(1 - master).unwrap();
    tokio::task::block_in_place(|| topology.wait_until_replaced(master)).unwrap();
    // The repeater has had its turns.
    tokio::time::sleep(Duration::from_secs(17)).await;
    a_minute_later(&mut copy);
    let reply = copy.get("/who").await;
    println!("{sessions:?}: {} {}", reply.status, reply.body);
    assert_ne!(reply.status, StatusCode::OK, "a signed-out session lives again");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs redis-server; scripts/test runs it"]
async fn a_sign_out_of_a_sealed_session_survives_a_fail_over() {
    stays(Sessions::Sealed).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs redis-server; scripts/test runs it"]
async fn a_sign_out_of_a_stored_session_survives_a_fail_over() {
    stays(Sessions::Stored).await;
}
