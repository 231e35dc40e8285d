//! Gateways behind a balancer, before an upstream that says who asks.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, MutexGuard};

use axum::extract::Request;
use tower_pkce_auth::{CookieKeys, HyperClient};

#[path = "../../../examples/pods/balancer.rs"]
mod balancer;

use self::balancer::Balancer;
use super::visitor::Visitor;
use crate::parts::{Provider, example, first_line};
use crate::servers::{Folder, end};

/// The pods of one application; they end with it.
pub struct Fleet {
    pods: Mutex<Vec<Pod>>,
    settings: Settings,
    balancer: Balancer,
    client: HyperClient,
}

struct Settings {
    issuer: String,
    secret: String,
    origin: String,
    upstream: String,
    store: String,
    keys: PathBuf,
    _folder: Folder,
}

struct Pod {
    process: Child,
    address: SocketAddr,
}

impl Fleet {
    pub async fn start(provider: &Provider, pods: usize, store: &str) -> Arc<Self> {
        let balancer = Balancer::start().await.unwrap();
        provider.register(&balancer.origin).await;
        let folder = Folder::new("pods");
        let settings = Settings {
            issuer: provider.issuer.clone(),
            secret: provider.secret.clone(),
            origin: balancer.origin.clone(),
            upstream: upstream().await,
            store: store.to_owned(),
            keys: folder.write("cookie.keys", &CookieKeys::new_key_line()),
            _folder: folder,
        };
        let started = (0..pods).map(|_| settings.start()).collect();
        let fleet =
            Self { pods: Mutex::new(started), settings, balancer, client: HyperClient::new() };
        fleet.balance();
        Arc::new(fleet)
    }

    /// A new browser of somebody.
    pub fn visitor(&self, user: &'static str) -> Visitor {
        let Settings { issuer, origin, .. } = &self.settings;
        Visitor::new(self.client.clone(), origin, issuer, user)
    }

    /// Where a pod listens itself.
    pub fn any(&self, number: usize) -> SocketAddr {
        let pods = self.pods();
        pods[number % pods.len()].address
    }

    /// Kills a pod without a word; the balancer still sends requests there.
    pub fn kill(&self, pod: usize) {
        end(&mut self.pods()[pod].process);
    }

    /// Starts another pod in the place of one, beside what else goes on.
    pub async fn start_again(self: &Arc<Self>, pod: usize) {
        let fleet = self.clone();
        let new = tokio::task::spawn_blocking(move || fleet.settings.start()).await.unwrap();
        self.pods()[pod] = new;
        self.balance();
    }

    fn balance(&self) {
        self.balancer.set_pods(self.pods().iter().map(|pod| pod.address).collect());
    }

    fn pods(&self) -> MutexGuard<'_, Vec<Pod>> {
        self.pods.lock().unwrap()
    }
}

impl Settings {
    fn start(&self) -> Pod {
        let mut process = Command::new(example("gateway"))
            .args(["--listen", "127.0.0.1:0", "--public-url", &self.origin])
            .args(["--upstream", &self.upstream])
            .args(["--issuer", &self.issuer, "--client-id", "dashboard"])
            .args(["--scope", "openid", "--scope", "email", "--scope", "offline_access"])
            .arg("--cookie-key-file")
            .arg(&self.keys)
            .env("GATEWAY_STORE", &self.store)
            .env("GATEWAY_CLIENT_SECRET", &self.secret)
            .env("RUST_LOG", std::env::var("RUST_LOG").unwrap_or_else(|_| "error".to_owned()))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .expect("cargo has built the examples");
        let line = first_line(&mut process, |line| line.starts_with("listening "));
        let address = line["listening ".len()..].parse().unwrap();
        Pod { process, address }
    }
}

impl Drop for Pod {
    fn drop(&mut self) {
        end(&mut self.process);
    }
}

/// Answers with who the gateway says is asking, and what for. It ends with the test's runtime.
async fn upstream() -> String {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let echo = async |request: Request| {
        let user = request.headers().get("x-auth-request-user");
        let user = user.map_or("nobody", |user| user.to_str().unwrap());
        format!("{user} {}", request.uri())
    };
    let server = axum::Router::new().fallback(echo);
    tokio::spawn(async move { axum::serve(listener, server).await });
    url
}
