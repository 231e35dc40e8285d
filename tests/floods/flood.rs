//! A hundred thousand starts on one pod over a real Redis, and what is left of them.

use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Instant;

use axum::http::{Method, StatusCode};
use tokio::task::JoinSet;
use tower_pkce_auth::{Builder, Pending, RedisStore, Sessions};

use crate::of;
use crate::servers::{Options, Redis};
use crate::support::{App, World, navigation, parameter, send};

/// How many strangers start a login; unoptimised code takes a minute for each hundred thousand.
const STARTS: usize = if cfg!(debug_assertions) { 3_000 } else { 100_000 };
/// What one record or mark takes in Redis, at most.
const BYTES: u64 = 400;

/// A kind of flood.
struct Flood {
    name: &'static str,
    /// How many addresses it comes from.
    clients: usize,
    /// Whether each start is brought to the callback, so that it uses up a login.
    callbacks: bool,
    pending: Pending,
    redis: bool,
}

/// Those that fill the process come first: what they leave is used again by the others.
const FLOODS: [Flood; 6] = [
    Flood {
        name: "memory",
        clients: 5_000,
        callbacks: false,
        pending: Pending::Memory,
        redis: false,
    },
    Flood {
        name: "sealed, no server",
        clients: 5_000,
        callbacks: true,
        pending: Pending::Sealed,
        redis: false,
    },
    Flood {
        name: "store, 5,000 addresses",
        clients: 5_000,
        callbacks: false,
        pending: Pending::Store,
        redis: true,
    },
    Flood {
        name: "store, one address",
        clients: 1,
        callbacks: false,
        pending: Pending::Store,
        redis: true,
    },
    Flood {
        name: "sealed, 5,000 addresses",
        clients: 5_000,
        callbacks: false,
        pending: Pending::Sealed,
        redis: true,
    },
    Flood {
        name: "sealed, to the callback",
        clients: 5_000,
        callbacks: true,
        pending: Pending::Sealed,
        redis: true,
    },
];

/// What became of one.
#[derive(Default)]
struct Count {
    started: AtomicUsize,
    refused: AtomicUsize,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs redis-server; scripts/test runs it"]
async fn a_flood_leaves_memory_bounded_and_lets_everybody_sign_in() {
    let starts = std::env::var("FLOOD_STARTS").ok().and_then(|number| number.parse().ok());
    let starts = starts.unwrap_or(STARTS);
    println!(
        "{starts:6} starts            | passed |   429 | logins meanwhile | waited | Redis keys |  Redis MB | \
         process MB | a start"
    );
    for flood in FLOODS {
        run(&flood, starts).await;
    }
}

async fn run(flood: &Flood, starts: usize) {
    // As many as the store may have of this pod: by default it is half of a hundred thousand.
    let most = starts / 2;
    let world = World::new().await;
    let redis = flood.redis.then(|| Redis::start(Options::default()));
    let with = |builder: Builder| match &redis {
        Some(redis) => builder.store(RedisStore::new(&redis.url()).unwrap()),
        None => builder,
    };
    let stored = u32::try_from(most).unwrap();
    let builder = with(world.builder()).pending(flood.pending).stored_logins(stored);
    // Twenty starts an address are less than one may make; those of one address are not.
    let builder = builder.client_limit(stored / 50).sessions(Sessions::Sealed);
    let app = world.app(&builder.build().unwrap());

    let mut early = world.browser(&app, "alice");
    let waiting = early.to_callback("/early").await;
    let used = || redis.as_ref().map_or(0, used_memory);
    let before = (used(), resident());
    let (count, over) = (Arc::new(Count::default()), Arc::new(AtomicBool::new(false)));
    let logins = tokio::spawn(sign_in_until(world.browser(&app, "bob"), over.clone()));
    let begun = Instant::now();
    let mut strangers = JoinSet::new();
    for lane in 0..8 {
        let (app, count) = (app.clone(), count.clone());
        let (clients, callbacks) = (flood.clients, flood.callbacks);
        strangers.spawn(async move {
            for n in (lane..starts).step_by(8) {
                stranger(&app, n % clients, callbacks, &count).await;
                // Without a server nothing here waits, and others would never have their turn.
                tokio::task::yield_now().await;
            }
        });
    }
    strangers.join_all().await;
    let each = begun.elapsed() / u32::try_from(starts).unwrap();
    over.store(true, Ordering::Relaxed);
    let logins = logins.await.unwrap();
    let keys: usize = redis.as_ref().map_or(0, |redis| redis.cli(&["DBSIZE"]).parse().unwrap());
    let after = (used(), resident());
    let waited = early.get(&waiting).await.location() == "/early";

    let (started, refused) = (count.started.load(SUM), count.refused.load(SUM));
    println!(
        "{:24} | {started:6} | {refused:5} | {:6} of {:6} | {:6} | {keys:10} | {:>9} | {:>10} | \
         {each:?}",
        flood.name,
        logins.0,
        logins.1,
        if waited { "signed" } else { "lost" },
        megabytes(before.0, after.0),
        megabytes(before.1, after.1),
    );
    assert!(waited, "{}: who waited signs in", flood.name);
    assert_eq!(logins.0, logins.1, "{}: others sign in meanwhile", flood.name);
    assert!(logins.1 > 0, "{}", flood.name);
    assert_eq!(started + refused, starts, "{}", flood.name);
    if flood.clients > 1 {
        assert_eq!(refused, 0, "{}", flood.name);
    } else {
        assert_eq!(started, most / 50, "{}: one client has its share", flood.name);
    }
    // Beside the records: the counter of sign-outs.
    assert!(keys <= most + 2, "{}: {keys} keys", flood.name);
    let grown = after.0.saturating_sub(before.0);
    // Tables of Redis double; a few connections have buffers.
    assert!(grown <= most as u64 * BYTES + (2 << 20), "{}: {grown} bytes", flood.name);
    let grown = after.1.saturating_sub(before.1);
    assert!(grown <= 100 << 20, "{}: {grown} bytes in the process", flood.name);
}

async fn stranger(app: &App, client: usize, callback: bool, count: &Count) {
    let address = format!("10.{}.{}.{}", client >> 16, client >> 8 & 255, client & 255);
    let reply = send(app, of(&address, navigation(Method::GET, "/auth/login"))).await;
    match reply.status {
        StatusCode::FOUND => count.started.fetch_add(1, SUM),
        StatusCode::TOO_MANY_REQUESTS => count.refused.fetch_add(1, SUM),
        status => panic!("{status} {}", reply.reason()),
    };
    if callback && reply.status == StatusCode::FOUND {
        let state = parameter(&reply.location(), "state").unwrap();
        // No provider is asked: the answer says not whose it is. The login is used up all the same.
        let path = format!("/auth/callback?code=made-up&state={state}");
        let mut request = navigation(Method::GET, &path);
        let cookie = reply.set_cookies()[0].split(';').next().unwrap();
        request.headers_mut().insert("cookie", cookie.parse().unwrap());
        let reply = send(app, request).await;
        assert_eq!(reply.status, StatusCode::BAD_REQUEST, "{}", reply.reason());
    }
}

/// Signs in over and over; says how often it worked, and how often it was tried.
async fn sign_in_until(browser: crate::support::Browser, over: Arc<AtomicBool>) -> (usize, usize) {
    let (mut signed_in, mut tried) = (0, 0);
    while tried == 0 || !over.load(Ordering::Relaxed) {
        let mut browser = browser.clone();
        signed_in += usize::from(browser.sign_in("/deep").await.body == "bob");
        tried += 1;
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    (signed_in, tried)
}

fn used_memory(redis: &Redis) -> u64 {
    let memory = redis.cli(&["INFO", "memory"]);
    let line = memory.lines().find_map(|line| line.strip_prefix("used_memory:"));
    line.unwrap().trim().parse().unwrap()
}

/// The resident memory of this process: pod, provider, browsers and all.
fn resident() -> u64 {
    let pages = fs::read_to_string("/proc/self/statm").unwrap();
    pages.split(' ').nth(1).unwrap().parse::<u64>().unwrap() * 4096
}

#[allow(clippy::cast_precision_loss, reason = "it is for people")]
fn megabytes(before: u64, after: u64) -> String {
    format!("{:.1}→{:.1}", before as f64 / 1e6, after as f64 / 1e6)
}

const SUM: Ordering = Ordering::Relaxed;
