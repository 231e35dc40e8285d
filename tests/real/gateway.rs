//! The real browser before real dashboards: Chromium uses Prometheus and JupyterLab through
//! `examples/gateway`, and meets the end of its session in the middle of the work.
//!
//! The provider knows one gateway at a time, so that a test starts its gateways one after another.

use tower_pkce_auth::testing::provider::TestProvider;

use crate::browser::drive;
use crate::dashboards::{Jupyter, Prometheus};
use crate::parts::{Gateway, Provider};
use crate::servers::{Options, Redis};

/// One scenario of `tests/browser` against a gateway of its own.
struct Run<'a> {
    provider: &'a Provider,
    /// Where the gateway passes requests on to, and what the scenarios call it.
    url: &'a str,
    upstream: &'a str,
}

impl Run<'_> {
    async fn scenario(&self, name: &str, flags: &[&str]) {
        self.drive(name, flags, &[]).await;
    }

    /// The same with sessions that end by themselves.
    async fn expiry(&self, seconds: &str, name: &str, flags: &[&str]) {
        let flags = [flags, &["--session-absolute", seconds]].concat();
        self.drive(name, &flags, &["--expiry-seconds", seconds]).await;
    }

    async fn drive(&self, name: &str, flags: &[&str], arguments: &[&str]) {
        let gateway = Gateway::start(self.url, self.provider, flags).await;
        let scenario = ["--scenario", name, "--upstream", self.upstream];
        let arguments = [&scenario, arguments].concat();
        tokio::task::block_in_place(|| {
            drive(&gateway.origin, Some(self.provider), "gateway", &arguments);
        });
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs Node.js, oidc-provider, Chromium, prometheus and redis-server: scripts/test"]
async fn chromium_queries_prometheus_until_its_session_ends() {
    let (provider, prometheus) = (Provider::start(&[]), Prometheus::start().await);
    let redis = Redis::start(Options::default());
    let run = Run { provider: &provider, url: &prometheus.url, upstream: "prometheus" };
    run.scenario("prometheus-sign-out", &["--store", &redis.url()]).await;
    run.expiry("20", "prometheus-expiry", &[]).await;
    let closed = Run { upstream: "closed", ..run };
    closed.scenario("not-allowed", &["--allow-email-domain", "other.example"]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs Node.js, oidc-provider, Chromium, JupyterLab and redis-server: scripts/test"]
async fn chromium_runs_cells_in_jupyterlab_until_its_session_ends() {
    let (provider, jupyter) = (Provider::start(&[]), Jupyter::start().await);
    let redis = Redis::start(Options::default());
    let run = Run { provider: &provider, url: &jupyter.url, upstream: "jupyterlab" };
    run.scenario("jupyterlab-sign-out", &[]).await;
    run.expiry("40", "jupyterlab-expiry", &["--store", &redis.url()]).await;
}

/// The provider reaches a gateway at an address that is not its public one, and without a session.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs redis-server: scripts/test"]
async fn j20_j22_j34_the_gateway_takes_reports_under_any_name() {
    let provider = TestProvider::start().await.unwrap();
    let (redis, sealed) = (Redis::start(Options::default()), "sealed".to_owned());
    for (store, mounted) in [(redis.url(), true), (sealed, false)] {
        let client = ["--issuer", provider.issuer(), "--client-id", provider.client_id()];
        let flags = [&client[..], &["--store", &store]].concat();
        let secret = provider.client_secret().unwrap();
        let gateway = Gateway::launch("http://127.0.0.1:9", secret, &flags);
        let port = gateway.origin.rsplit(':').next().unwrap();
        // The public URL says 127.0.0.1; `localhost` is another host.
        let url = format!("http://localhost:{port}/auth/backchannel-logout");
        let good = provider.logout_token(|token| token.set("sub", "alice"));
        let forged = provider.logout_token(|token| {
            token.set("sub", "alice");
            token.corrupt(2);
        });
        for (token, expected) in [(&good, 200), (&good, 200), (&forged, 400)] {
            let (status, body) = provider.send_logout_token(&url, token).await.unwrap();
            let expected = if mounted { expected } else { 401 };
            assert_eq!(status, expected, "{store}: {body}");
        }
    }
}
