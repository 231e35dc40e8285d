//! The real browser before real dashboards: Chromium uses Prometheus and JupyterLab through
//! `examples/gateway`, and meets the end of its session in the middle of the work.
//!
//! The provider knows one gateway at a time, so that a test starts its gateways one after another.

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
