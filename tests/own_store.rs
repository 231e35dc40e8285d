//! A store of one's own: the one in the manual is what is tested here, to the letter, and it is the
//! store of two pods.

#[path = "own_store/sqlite.rs"]
#[allow(missing_docs)]
mod sqlite;
mod support;

use std::path::PathBuf;
use std::str::FromStr as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use axum::http::StatusCode;
use bytes::Bytes;
use sqlite::SqliteStore;
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePool, SqlitePoolOptions};
use support::{App, Browser, World};
use tower_pkce_auth::testing::store_suite;
use tower_pkce_auth::{Key, Pending, Store, StoreErrorKind};

const CODE: &str = include_str!("own_store/sqlite.rs");
const PAGE: &str = include_str!("../src/docs/own_store.md");

/// The blocks of the page in this language; rustdoc's own has no name.
fn blocks(language: &str) -> Vec<&'static str> {
    let parts = PAGE.split("```").collect::<Vec<_>>();
    let blocks = parts.iter().skip(1).step_by(2);
    blocks.filter_map(|block| block.strip_prefix(language)?.strip_prefix('\n')).collect()
}

#[test]
fn the_page_shows_what_is_tested_and_it_is_fifty_lines() {
    assert_eq!(blocks("")[0], CODE, "the page and tests/own_store/sqlite.rs are the same");
    let code = |line: &&str| !line.trim().is_empty() && !line.trim().starts_with("//");
    let lines = CODE.lines().filter(code).count();
    assert!(lines <= 50, "{lines} lines of code");
}

/// A database in a file of its own, as two pods open it: each with a pool.
struct Database(PathBuf);

impl Database {
    async fn new() -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let name = format!("own-store-{}-{number}", std::process::id());
        let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(name);
        std::fs::create_dir_all(&folder).unwrap();
        let database = Self(folder);
        sqlx::raw_sql(blocks("sql")[0]).execute(&database.pool().await).await.unwrap();
        database
    }

    async fn pool(&self) -> SqlitePool {
        let url = format!("sqlite://{}/auth.db", self.0.display());
        let options = SqliteConnectOptions::from_str(&url)
            .unwrap()
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal)
            .busy_timeout(Duration::from_secs(10));
        SqlitePoolOptions::new().max_connections(4).connect_with(options).await.unwrap()
    }

    async fn store(&self) -> SqliteStore {
        SqliteStore(self.pool().await)
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_store_of_the_manual_conforms() {
    let database = Database::new().await;
    let store = database.store().await;
    store_suite(Arc::new(store.clone()), tokio::time::sleep).await;
    assert_eq!(swept(&store).await, 0);
}

/// Runs the sweep of the page; returns how many rows are left that have expired.
async fn swept(store: &SqliteStore) -> i64 {
    sqlx::raw_sql(blocks("sql")[1]).execute(&store.0).await.unwrap();
    let count = "SELECT count(*) FROM auth WHERE ends <= unixepoch('subsec') - 0.001";
    sqlx::query_scalar(count).fetch_one(&store.0).await.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_sweep_of_the_manual_removes_what_is_expired_and_nothing_else() {
    let database = Database::new().await;
    let store = database.store().await;
    let key = |n: u8| Key::new("own", "store", &[n]);
    for (n, ttl) in [(0, Duration::ZERO), (1, Duration::from_millis(1)), (2, LONG)] {
        assert!(store.insert(&key(n), Bytes::from_static(b"v"), ttl).await.unwrap());
    }
    tokio::time::sleep(Duration::from_millis(20)).await;
    swept(&store).await;
    let left: i64 =
        sqlx::query_scalar("SELECT count(*) FROM auth").fetch_one(&store.0).await.unwrap();
    assert_eq!(left, 1, "one of three has time left");
    assert!(store.load(&key(2)).await.unwrap().is_some());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_without_room_is_full_and_one_that_is_gone_is_unavailable() {
    let database = Database::new().await;
    let store = database.store().await;
    let value = Bytes::from(vec![1; 16 * 1024]);
    // Every connection has a limit of its own; one is enough here.
    let pool = SqlitePoolOptions::new().max_connections(1);
    let url = format!("sqlite://{}/auth.db", database.0.display());
    let small = SqliteStore(pool.connect(&url).await.unwrap());
    sqlx::query("PRAGMA max_page_count = 16").execute(&small.0).await.unwrap();
    let mut kind = None;
    for n in 0..64u8 {
        let key = Key::new("own", "store", &[n]);
        if let Err(error) = small.insert(&key, value.clone(), LONG).await {
            kind = Some(error.kind());
            assert!(!format!("{error:?}").contains(key.as_str()), "it shows no key");
            assert!(store.load(&key).await.unwrap().is_none(), "nothing was written");
            break;
        }
    }
    assert_eq!(kind, Some(StoreErrorKind::Full));
    store.0.close().await;
    let error = store.load(&Key::new("own", "store", b"1")).await.unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::Unavailable);
}

/// Two pods, each with a pool of its own.
async fn pods(world: &World, database: &Database, pending: Pending) -> [App; 2] {
    let mut pods = Vec::new();
    for _ in 0..2 {
        let builder = world.builder().store(database.store().await).pending(pending);
        // A loaded machine is no outage.
        let layer = builder.store_timeout(Duration::from_secs(30)).build().unwrap();
        pods.push(world.app(&layer));
    }
    pods.try_into().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_pods_sign_in_and_out_over_the_store_of_the_manual() {
    let world = World::new().await;
    for pending in [Pending::Store, Pending::Sealed] {
        let database = Database::new().await;
        let [one, two] = pods(&world, &database, pending).await;
        let mut browser = world.browser(&one, "alice");
        let callback = browser.to_callback("/deep").await;
        let saved = browser.clone();
        browser.app = two.clone();
        assert_eq!(browser.get(&callback).await.location(), "/deep", "{pending:?}: begun on one");
        for app in [&one, &two] {
            browser.app = app.clone();
            assert_eq!(browser.who().await.as_deref(), Some("alice"), "{pending:?}");
        }
        let mut again = Browser { app: one.clone(), ..saved };
        let location = again.get(&callback).await.location();
        assert!(location.starts_with("/auth/login?again="), "{pending:?}: once: {location}");
        let copied = browser.clone();
        let reply = browser.post("/auth/logout").await;
        assert_eq!(reply.status, StatusCode::SEE_OTHER, "{pending:?}");
        for app in [&one, &two] {
            let mut thief = Browser { app: app.clone(), ..copied.clone() };
            assert_eq!(thief.who().await, None, "{pending:?}: signed out on both");
        }
    }
    assert_eq!(world.provider.counts().double_redemptions, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn twenty_pairs_of_one_callback_on_two_pods_make_twenty_sessions() {
    let world = World::new().await;
    let database = Database::new().await;
    let pods = pods(&world, &database, Pending::Store).await;
    for pair in 0..20 {
        let mut browser = world.browser(&pods[0], "alice");
        let callback = browser.to_callback("/deep").await;
        let requests = pods.clone().map(|app| {
            let (mut browser, callback) = (Browser { app, ..browser.clone() }, callback.clone());
            tokio::spawn(async move { browser.get(&callback).await.location() })
        });
        let mut made = 0;
        for request in requests {
            made += usize::from(request.await.unwrap() == "/deep");
        }
        assert!(made >= 1, "pair {pair}");
    }
    let counts = world.provider.counts();
    assert_eq!((counts.token, counts.double_redemptions), (20, 0));
}

const LONG: Duration = Duration::from_secs(600);
