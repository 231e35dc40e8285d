//! One pod: plain hyper behind the layer, in a process of its own.

use std::convert::Infallible;
use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use serde::{Deserialize, Serialize};
use tokio::net::TcpListener;
use tower::{Layer, service_fn};
use tower_pkce_auth::{
    ClientId, ClientSecret, CookieKeys, Identity, PkceAuthLayer, RedisStore, Sessions,
};
use tracing_subscriber::EnvFilter;

use crate::pace::Pace;

/// The environment variable by which the parent hands [`Settings`] over.
pub const ENVIRONMENT: &str = "PODS_SETTINGS";

/// What all pods of a fleet share.
#[derive(Clone, Deserialize, Serialize)]
pub struct Settings {
    pub issuer: String,
    /// Where pods reach it, if not there.
    #[serde(default)]
    pub internal_issuer: Option<String>,
    pub client_id: String,
    pub client_secret: String,
    /// The address of the balancer.
    pub public_url: String,
    /// The key file.
    pub cookie_keys: String,
    pub pending: Pending,
    /// The URL of Redis; sessions lie there, too.
    pub redis: Option<String>,
    /// Whether sessions are sealed in cookies all the same.
    #[serde(default)]
    pub sealed: bool,
    /// A wall clock that is not the machine's.
    #[serde(default)]
    pub pace: Option<Pace>,
}

/// Where pending logins are kept.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub enum Pending {
    Memory,
    Sealed,
    Store,
}

impl Settings {
    fn layer(self) -> Result<PkceAuthLayer, Box<dyn Error>> {
        let pending = match self.pending {
            Pending::Memory => tower_pkce_auth::Pending::Memory,
            Pending::Sealed => tower_pkce_auth::Pending::Sealed,
            Pending::Store => tower_pkce_auth::Pending::Store,
        };
        let mut builder = PkceAuthLayer::builder(
            self.issuer.parse()?,
            ClientId::new(self.client_id),
            self.public_url.parse()?,
        )
        .client_secret(ClientSecret::new(self.client_secret))
        .cookie_keys(self.cookie_keys.parse::<CookieKeys>()?)
        .pending(pending);
        if let Some(url) = self.redis {
            builder = builder.store(RedisStore::new(&url)?);
        }
        if let Some(issuer) = self.internal_issuer {
            builder = builder.internal_issuer(issuer.parse()?);
        }
        if self.sealed {
            builder = builder.sessions(Sessions::Sealed);
        }
        if let Some(pace) = self.pace {
            builder = builder.clock(Arc::new(pace)).session_absolute(LONG);
        }
        Ok(builder.build()?)
    }
}

/// Serves until the parent closes the standard input, as it does when it ends, however it ends.
pub async fn run() -> Result<(), Box<dyn Error>> {
    // Nothing is written unless RUST_LOG asks for it: a pod shares the standard error of its parent.
    tracing_subscriber::fmt()
        .with_env_filter(EnvFilter::from_default_env())
        .with_writer(std::io::stderr)
        .init();
    let settings: Settings = serde_json::from_str(&std::env::var(ENVIRONMENT)?)?;
    let service = settings.layer()?.layer(service_fn(who));
    let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
    println!("{}", listener.local_addr()?);
    let serving = async {
        loop {
            let (stream, _) = listener.accept().await?;
            let service = TowerToHyperService::new(service.clone());
            tokio::spawn(async move {
                let mut connection = http1::Builder::new();
                connection.timer(TokioTimer::new());
                // A connection that breaks is the balancer's to notice.
                let _ = connection.serve_connection(TokioIo::new(stream), service).await;
            });
        }
    };
    tokio::select! {
        ended = serving => ended,
        () = input_is_closed() => Ok(()),
    }
}

/// Waits on a thread of its own: a read that nobody ends would keep the runtime from ending.
async fn input_is_closed() {
    let (closed, wait) = tokio::sync::oneshot::channel();
    std::thread::spawn(move || {
        // However the reading ends, there is no parent to listen to any more.
        let _ = std::io::copy(&mut std::io::stdin().lock(), &mut std::io::sink());
        let _ = closed.send(());
    });
    let _ = wait.await;
}

/// Where the clock runs fast, sessions end by a logout only.
const LONG: Duration = Duration::from_secs(30 * 24 * 3600);

/// Says who asks for what.
async fn who(request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
    let text = match request.extensions().get::<Identity>() {
        Some(identity) => format!("{} {}", identity.subject(), request.uri()),
        None => format!("nobody {}", request.uri()),
    };
    Ok(Response::new(Full::new(text.into())))
}
