//! Rights: what the documentation of `RedisStore` asks for is enough, and nothing of it too much.

use std::sync::Arc;

use bytes::Bytes;
use tower_pkce_auth::testing::store_suite;
use tower_pkce_auth::{RedisStore, Store, StoreError, StoreErrorKind};

use crate::servers::{Options, Redis};
use crate::tools::{LONG, bounded, key, shown, store};

/// What is needed in the first database; another one must be selected.
const RIGHTS: [&str; 6] = ["+get", "+set", "+getdel", "+del", "+evalsha", "+eval"];
/// What more is said to be of use.
const BESIDE: [&str; 8] = [
    "+select",
    "+client|tracking",
    "+client|caching",
    "+info",
    "+wait",
    "+role",
    "+cluster|slots",
    "+asking",
];
const KEYS: [&str; 3] = ["~suite:*", "~suite2:*", "~Suite:*"];

/// A store of a user who has these rights and no others.
fn user(redis: &Redis, name: &str, rights: &[&str], keys: &[&str], database: u8) -> RedisStore {
    let mut command = vec!["ACL", "SETUSER", name, "reset", "on", ">s3cret"];
    command.extend(rights.iter().chain(keys));
    assert_eq!(redis.cli(&command), "OK");
    store(&format!("redis://{name}:s3cret@127.0.0.1:{}/{database}", redis.port))
}

/// Everything the store can do, each call by itself.
async fn use_all(store: &RedisStore) -> Result<(), StoreError> {
    let (key, one, two) = (key(), Bytes::from_static(b"1"), Bytes::from_static(b"2"));
    store.load(&key).await?;
    store.insert(&key, one.clone(), LONG).await?;
    store.swap(&key, &one, two.clone(), LONG).await?;
    store.remove_if(&key, &two).await?;
    store.take(&key).await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs redis-server; scripts/test runs it"]
async fn a_user_with_the_least_rights_conforms() {
    let redis = Redis::start(Options::default());
    let store = user(&redis, "app", &RIGHTS, &KEYS, 0);
    store_suite(Arc::new(store), tokio::time::sleep).await;
}

#[tokio::test]
#[ignore = "needs redis-server; scripts/test runs it"]
async fn each_right_is_needed_and_the_error_says_what_is_missing() {
    let redis = Redis::start(Options::default());
    for (n, missing) in RIGHTS.into_iter().enumerate() {
        let rights: Vec<_> = RIGHTS.into_iter().filter(|right| *right != missing).collect();
        assert_eq!(redis.cli(&["SCRIPT", "FLUSH"]), "OK");
        let store = user(&redis, &format!("app{n}"), &rights, &KEYS, 0);
        let what = format!("without {missing}");
        let error = bounded(&what, use_all(&store)).await.expect_err(&what);
        assert_eq!(error.kind(), StoreErrorKind::Unavailable, "{missing}");
        let shown = shown(&error);
        let told = ["permission", "can't run this command"].iter().any(|text| shown.contains(text));
        assert!(told, "{missing}: {shown}");
        assert!(!shown.contains("s3cret"), "{missing}: {shown}");
    }
}

#[tokio::test]
#[ignore = "needs redis-server; scripts/test runs it"]
async fn another_database_must_be_selected() {
    let redis = Redis::start(Options::default());
    let rights = [&RIGHTS[..], &["+select"]].concat();
    use_all(&user(&redis, "app", &rights, &KEYS, 1)).await.unwrap();
    let error = use_all(&user(&redis, "app", &RIGHTS, &KEYS, 1)).await.unwrap_err();
    assert!(shown(&error).contains("permission"), "{}", shown(&error));
}

/// The documentation names exactly these.
#[test]
fn the_documented_rights_are_those_that_are_needed() {
    let source = include_str!("../../src/store/redis/mod.rs");
    let documentation: Vec<_> =
        source.lines().take_while(|line| !line.starts_with("pub struct RedisStore")).collect();
    let documentation = documentation.join(" ");
    let mut named: Vec<_> = documentation
        .split(|c: char| c.is_whitespace() || c == '`')
        .filter(|word| word.starts_with('+'))
        .collect();
    let mut needed = [&RIGHTS[..], &BESIDE].concat();
    named.sort_unstable();
    named.dedup();
    needed.sort_unstable();
    assert_eq!(named, needed);
}

#[tokio::test]
#[ignore = "needs redis-server; scripts/test runs it"]
async fn keys_of_others_are_out_of_reach_and_the_error_says_why() {
    let redis = Redis::start(Options::default());
    let store = user(&redis, "app", &RIGHTS, &["~other:*"], 0);
    let error = use_all(&store).await.unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::Unavailable);
    assert!(shown(&error).contains("permission"), "{}", shown(&error));
    // What is granted later holds from then on.
    assert_eq!(redis.cli(&["ACL", "SETUSER", "app", "~suite:*"]), "OK");
    use_all(&store).await.unwrap();
}
