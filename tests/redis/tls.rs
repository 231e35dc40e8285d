//! TLS with a certificate authority of one's own, and the trap of rustls' default provider.

use std::process::Command;
use std::sync::Arc;

use rustls::crypto::CryptoProvider;
use tower_pkce_auth::Store as _;
use tower_pkce_auth::testing::store_suite;

use crate::servers::{Options, Redis};
use crate::tools::{key, private};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs redis-server; scripts/test runs it"]
async fn tls_with_an_authority_of_ones_own_conforms() {
    let redis = Redis::start(Options::default().tls().user("app", "s3cret").database(2));
    store_suite(Arc::new(private(&redis.url())), tokio::time::sleep).await;
}

/// The redis crate takes rustls' default provider, and panics where there is none to be had: where
/// no implementation is compiled in, or two are. A store brings one. A process of its own, in which
/// nothing else can have set it, tells.
#[test]
#[ignore = "needs redis-server; scripts/test runs it"]
fn tls_works_where_nobody_has_chosen_a_rustls_provider() {
    if std::env::var_os(ALONE).is_some() {
        return alone();
    }
    let name = "tls::tls_works_where_nobody_has_chosen_a_rustls_provider";
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--ignored", "--exact", name, "--nocapture"])
        .env(ALONE, "1")
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{text}{}", String::from_utf8_lossy(&output.stderr));
    assert!(text.contains("1 passed"), "{text}");
}

const ALONE: &str = "REDIS_STORE_ALONE";

fn alone() {
    assert!(CryptoProvider::get_default().is_none(), "the trap is set");
    let redis = Redis::start(Options::default().tls());
    let store = private(&redis.url());
    assert!(CryptoProvider::get_default().is_some(), "before the redis crate could look for one");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    assert_eq!(runtime.block_on(store.load(&key())).unwrap(), None);
}
