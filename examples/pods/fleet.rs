//! Pods that share their settings, behind a balancer.

use std::error::Error;
use std::net::SocketAddr;
use std::process::Stdio;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};
use tower_pkce_auth::CookieKeys;
use tower_pkce_auth::testing::provider::TestProvider;

use crate::balancer::Balancer;
use crate::browser::Browser;
use crate::pace::Pace;
use crate::pod::{ENVIRONMENT, Pending, Settings};

/// A guard against hanging; a pod is up in no time.
const PATIENCE: Duration = Duration::from_secs(60);

/// Pods, a balancer before them, and the provider they sign in at.
pub struct Fleet {
    pub provider: TestProvider,
    pods: Mutex<Vec<Pod>>,
    settings: Settings,
    balancer: Balancer,
    client: Browser,
}

/// Where a fleet keeps things.
#[derive(Clone, Debug)]
pub struct Keeping {
    pub pending: Pending,
    pub redis: Option<String>,
    /// Whether sessions are sealed in cookies although there is a Redis.
    pub sealed: bool,
    pub pace: Option<Pace>,
    /// Where pods reach the provider, if not where browsers do.
    pub internal_issuer: Option<String>,
}

impl Keeping {
    /// Pending logins and sessions in a Redis.
    pub fn redis(url: &str) -> Self {
        Self { redis: Some(url.to_owned()), ..Self::without_redis(Pending::Store) }
    }

    pub const fn without_redis(pending: Pending) -> Self {
        Self { pending, redis: None, sealed: false, pace: None, internal_issuer: None }
    }
}

/// A process; it ends with its handle, and when this process ends.
struct Pod {
    address: SocketAddr,
    process: Child,
}

impl Fleet {
    /// Starts `pods` pods and waits until they listen.
    pub async fn start(
        provider: &TestProvider,
        pods: u16,
        keeping: &Keeping,
    ) -> Result<Self, Box<dyn Error>> {
        let balancer = Balancer::start().await?;
        let settings = Settings {
            issuer: provider.issuer().to_owned(),
            client_id: provider.client_id().to_owned(),
            client_secret: provider.client_secret().unwrap_or_default().to_owned(),
            public_url: balancer.origin.clone(),
            cookie_keys: CookieKeys::new_key_line(),
            pending: keeping.pending,
            redis: keeping.redis.clone(),
            sealed: keeping.sealed,
            pace: keeping.pace,
            internal_issuer: keeping.internal_issuer.clone(),
        };
        let mut started = Vec::new();
        for _ in 0..pods {
            started.push(Pod::start(&settings).await?);
        }
        balancer.set_pods(started.iter().map(|pod| pod.address).collect());
        let client = Browser::new(provider.clone(), &balancer.origin, "alice");
        let pods = Mutex::new(started);
        Ok(Self { provider: provider.clone(), pods, settings, balancer, client })
    }

    /// A new browser of a person who is known to the provider as `user`.
    pub fn browser(&self, user: &str) -> Browser {
        self.client.another(user)
    }

    /// How many pods there are.
    pub fn size(&self) -> usize {
        self.pods().len()
    }

    /// The process id of a pod.
    pub fn process(&self, pod: usize) -> Option<u32> {
        self.pods()[pod].process.id()
    }

    /// The same browser, whose requests all go to one pod.
    pub fn pinned(&self, browser: &Browser, pod: usize) -> Browser {
        let pods = self.pods();
        browser.sending_to(pods[pod % pods.len()].address)
    }

    /// Kills a pod without a word, and starts another one in its place: until that listens, the
    /// balancer sends requests to nobody.
    pub async fn replace(&self, pod: usize) -> Result<(), Box<dyn Error>> {
        self.kill(pod)?;
        self.start_again(pod).await
    }

    /// Kills a pod without a word; the balancer goes on sending requests there.
    pub fn kill(&self, pod: usize) -> Result<(), Box<dyn Error>> {
        Ok(self.pods()[pod].process.start_kill()?)
    }

    /// Starts another pod in the place of one that was killed.
    pub async fn start_again(&self, pod: usize) -> Result<(), Box<dyn Error>> {
        let new = Pod::start(&self.settings).await?;
        let mut pods = self.pods();
        pods[pod] = new;
        self.balancer.set_pods(pods.iter().map(|pod| pod.address).collect());
        Ok(())
    }

    /// Ends the pods and waits for it.
    pub async fn end(self) -> Result<(), Box<dyn Error>> {
        drop(self.balancer);
        for mut pod in self.pods.into_inner().unwrap_or_else(PoisonError::into_inner) {
            // It ends by itself when its standard input is closed.
            drop(pod.process.stdin.take());
            let ended = tokio::time::timeout(PATIENCE, pod.process.wait()).await;
            let status = ended.map_err(|_| "a pod does not end")??;
            if !status.success() {
                return Err(format!("a pod ended by itself: {status}").into());
            }
        }
        Ok(())
    }

    fn pods(&self) -> MutexGuard<'_, Vec<Pod>> {
        self.pods.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Pod {
    async fn start(settings: &Settings) -> Result<Self, Box<dyn Error>> {
        let mut process = Command::new(std::env::current_exe()?)
            .arg("--pod")
            .env(ENVIRONMENT, serde_json::to_string(settings)?)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()?;
        let output = process.stdout.take().ok_or("a pod without output")?;
        let mut lines = BufReader::new(output).lines();
        let ready = tokio::time::timeout(PATIENCE, lines.next_line()).await;
        let line = ready.map_err(|_| "a pod does not say where it listens")??;
        let address = line.ok_or("a pod ended before it listened")?.parse()?;
        Ok(Self { address, process })
    }
}
