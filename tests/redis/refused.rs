//! Servers that do not let us in, or are not there: a clear error in time, without the password.

use tower_pkce_auth::{RedisStore, Store as _, StoreErrorKind};
use tracing::level_filters::LevelFilter;

use crate::log::Log;
use crate::servers::{Options, Redis, free_port};
use crate::tools::{bounded, key, private, shown, store};

/// The cause says one of these words, and nothing says the password, the log neither.
async fn assert_refused(case: &str, store: RedisStore, causes: &[&str]) {
    let log = Log::default();
    let _guard = log.listen(LevelFilter::TRACE);
    let answer = bounded(case, store.load(&key())).await;
    let error = answer.expect_err(case);
    assert_ne!(error.kind(), StoreErrorKind::Full, "{case}");
    let shown = shown(&error);
    let told = causes.iter().any(|cause| shown.to_lowercase().contains(cause));
    assert!(told, "{case}: {shown}");
    let log = log.text();
    assert!(log.contains("no connection to Redis"), "{case}: {log}");
    for text in [&shown, &log, &format!("{store:?}")] {
        assert!(!text.contains("hunter2"), "{case}: {text}");
    }
}

#[tokio::test]
#[ignore = "needs redis-server; scripts/test runs it"]
async fn who_is_not_let_in_learns_why() {
    let open = Redis::start(Options::default());
    let closed = Redis::start(Options::default().password("s3cret"));
    let user = Redis::start(Options::default().user("app", "s3cret"));
    let at = |who: &str, redis: &Redis| store(&format!("redis://{who}127.0.0.1:{}", redis.port));
    assert_refused("a wrong password", at(":hunter2@", &closed), &["wrongpass", "auth"]).await;
    assert_refused("none where one is needed", at("", &closed), &["noauth"]).await;
    assert_refused("an unknown user", at("eve:hunter2@", &user), &["wrongpass", "auth"]).await;
    assert_refused("a user's wrong password", at("app:hunter2@", &user), &["wrongpass", "auth"])
        .await;
    let url = format!("redis://127.0.0.1:{}/4711", open.port);
    assert_refused("an unknown database", store(&url), &["db index", "database"]).await;
}

#[tokio::test]
#[ignore = "needs redis-server; scripts/test runs it"]
async fn tls_needs_the_right_authority_the_right_name_and_tls_at_the_other_end() {
    let plain = Redis::start(Options::default());
    let secure = Redis::start(Options::default().tls().password("hunter2"));
    let other = include_bytes!("../tls/self_signed.pem");
    let builder = RedisStore::builder(&secure.url()).ca_pem(other);
    assert_refused("another authority", builder.build().unwrap(), &["certificate"]).await;
    assert_refused("the web's", store(&secure.url()), &["certificate", "issuer"]).await;
    let by_address = secure.url().replace("localhost", "127.0.0.1");
    assert_refused("another name", private(&by_address), &["certificate", "name"]).await;
    let without_tls = store(&by_address.replace("rediss:", "redis:"));
    assert_refused(
        "plain to TLS",
        without_tls,
        &["closed", "reset", "broken", "eof", "end of file"],
    )
    .await;
    let with_tls = format!("rediss://:hunter2@localhost:{}", plain.port);
    assert_refused(
        "TLS to plain",
        private(&with_tls),
        &["corrupt", "tls", "eof", "closed", "timed out"],
    )
    .await;
}

#[tokio::test]
async fn a_server_that_is_not_there_is_named_by_the_cause() {
    let nobody = format!("redis://:hunter2@127.0.0.1:{}", free_port());
    assert_refused("a closed port", store(&nobody), &["refused"]).await;
    let unknown = "redis://:hunter2@redis.invalid:6379";
    assert_refused("an unknown host", store(unknown), &["lookup", "resolve", "name", "timed out"])
        .await;
    let no_file = "redis+unix:///nonexistent/redis.sock?pass=hunter2";
    assert_refused("no socket", store(no_file), &["no such file"]).await;
}
