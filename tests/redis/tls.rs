//! TLS with a certificate authority of one's own, and the trap of rustls' default provider.

use std::process::Command;
use std::sync::Arc;

use rustls::crypto::CryptoProvider;
use tower_pkce_auth::testing::store_suite;
use tower_pkce_auth::{RedisStore, Store as _, StoreErrorKind};

use crate::servers::{Options, Redis};
use crate::tools::{self, CA, bounded, key, private};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs redis-server; scripts/test runs it"]
async fn tls_with_an_authority_of_ones_own_conforms() {
    let redis = Redis::start(Options::default().tls().user("app", "s3cret").database(2));
    store_suite(Arc::new(private(&redis.url())), tokio::time::sleep).await;
}

/// The authority of `tests/tls/client_ca.pem` has signed `client.pem` and its key was thrown away.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs redis-server; scripts/test runs it"]
async fn a_server_that_wants_a_certificate_gets_one() {
    let authority = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/tls/client_ca.pem");
    let options = Options::default().tls().set("tls-auth-clients", "yes");
    let redis = Redis::start(options.set("tls-ca-cert-file", authority));
    let (certificate, key) =
        (include_bytes!("../tls/client.pem"), include_bytes!("../tls/client.key"));
    let builder = || RedisStore::builder(&redis.url()).ca_pem(CA);
    let store = builder().client_certificate_pem(certificate, key).build().unwrap();
    store_suite(Arc::new(store), tokio::time::sleep).await;

    let without = bounded("without", builder().build().unwrap().load(&tools::key())).await;
    assert_eq!(without.unwrap_err().kind(), StoreErrorKind::Unavailable);
    // Signed by another authority than the server's clients have.
    let (foreign, its_key) =
        (include_bytes!("../tls/good.pem"), include_bytes!("../tls/server.key"));
    let foreign = builder().client_certificate_pem(foreign, its_key).build().unwrap();
    let refused = bounded("foreign", foreign.load(&tools::key())).await;
    assert_eq!(refused.unwrap_err().kind(), StoreErrorKind::Unavailable);
}

#[test]
fn a_client_certificate_needs_tls_its_key_and_to_be_one() {
    let (certificate, key) =
        (&include_bytes!("../tls/client.pem")[..], &include_bytes!("../tls/client.key")[..]);
    for (what, url, certificate, key, refused) in [
        ("all", "rediss://localhost", certificate, key, false),
        ("no TLS", "redis://localhost", certificate, key, true),
        ("no certificate", "rediss://localhost", b"no PEM", key, true),
        ("no key", "rediss://localhost", certificate, b"no PEM", true),
        ("swapped", "rediss://localhost", key, certificate, true),
        (
            "another's key",
            "rediss://localhost",
            certificate,
            include_bytes!("../tls/server.key"),
            true,
        ),
    ] {
        let built = RedisStore::builder(url).client_certificate_pem(certificate, key).build();
        assert_eq!(built.is_err(), refused, "{what}: {built:?}");
    }
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
