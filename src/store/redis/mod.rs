//! A store in one Redis or Valkey server.

mod link;

use std::fmt;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use ::redis::aio::MultiplexedConnection;
use ::redis::{
    Client, ConnectionAddr, ErrorKind, IntoConnectionInfo as _, RedisError, Script,
    ServerErrorKind, TlsCertificates, cmd,
};
use bytes::Bytes;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;

use self::link::Link;
use super::{Key, Store, StoreError, StoreErrorKind, StoreFuture};
use crate::names::InvalidName;

/// A [`Store`] in one Redis (6.2 or newer) or Valkey server: for many pods that share logins,
/// sessions and sign-outs.
///
/// | call | command |
/// |---|---|
/// | [`insert`](Store::insert) | `SET key value NX PX ttl` |
/// | [`load`](Store::load) | `GET key` |
/// | [`take`](Store::take) | `GETDEL key` |
/// | [`swap`](Store::swap), [`remove_if`](Store::remove_if) | `EVALSHA` of two scripts of one line |
///
/// All calls share one connection (RESP3), made at the first call and again after it was lost: a
/// server that is away is asked anew by every call, so that the first call after its return
/// succeeds. What was sent and not answered is never sent again, but for reads.
///
/// A user of the server's access control lists needs
/// `+get +set +getdel +del +evalsha +script|load` on the keys `<prefix>:*`, and `+select` for
/// another database than 0. The server must
/// not evict: with a `maxmemory-policy` other than `noeviction` people are signed out when memory
/// is short.
///
/// # Security
///
/// What is secret is sealed before it gets here (see [`Store`]), so the server and those who read
/// its dumps learn no token and cannot sign in. Who can *write* to it can end sessions, and can
/// undo: put back a record that was removed or changed since, or remove a mark, so that a session
/// that was signed out lives again for whoever has its cookie. Guard write access as you guard the
/// cookie keys. Use `rediss://` where others share the network: the password travels in the open
/// otherwise.
///
/// # Examples
///
/// ```no_run
/// use tower_pkce_auth::{ClientId, PkceAuthLayer, RedisStore};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let layer = PkceAuthLayer::builder(
///     "https://login.example".parse()?,
///     ClientId::new("dashboard"),
///     "https://intranet.example".parse()?,
/// )
/// .store(RedisStore::new("redis://auth:password@redis.internal:6379/0")?)
/// # ;
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct RedisStore(Arc<Link>);

impl RedisStore {
    /// Takes a store at `redis://[user[:password]@]host[:port][/database]`, at `rediss://…` with
    /// TLS, or at `redis+unix:///path`.
    ///
    /// Nothing is connected yet.
    ///
    /// # Errors
    ///
    /// If the URL is not one of those.
    pub fn new(url: &str) -> Result<Self, InvalidName> {
        Self::builder(url).build()
    }

    /// Begins to set up a store with more than a URL.
    pub fn builder(url: &str) -> RedisStoreBuilder {
        RedisStoreBuilder {
            url: url.to_owned(),
            ca: None,
            time_outs: link::TimeOuts {
                connect: Duration::from_secs(1),
                response: Duration::from_millis(900),
            },
        }
    }
}

impl fmt::Debug for RedisStore {
    /// Prints where the server is, without user and password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisStore").field("server", &self.0.server()).finish()
    }
}

/// Sets up a [`RedisStore`].
///
/// # Examples
///
/// ```no_run
/// use std::time::Duration;
/// use tower_pkce_auth::RedisStore;
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let store = RedisStore::builder("rediss://auth:password@redis.internal/3")
///     .ca_pem(&std::fs::read("/etc/redis/ca.pem")?)
///     .response_timeout(Duration::from_millis(500))
///     .build()?;
/// # Ok(()) }
/// ```
#[must_use]
pub struct RedisStoreBuilder {
    url: String,
    ca: Option<Vec<u8>>,
    time_outs: link::TimeOuts,
}

impl RedisStoreBuilder {
    /// Trusts the certificate authorities of a PEM file for `rediss://`, and no others. The web's
    /// are trusted otherwise.
    pub fn ca_pem(mut self, pem: &[u8]) -> Self {
        self.ca = Some(pem.to_vec());
        self
    }

    /// Gives up on a command after this time (default 900 ms); after two such in a row the
    /// connection is made anew.
    ///
    /// Keep it below the layer's own limit ([`Builder::store_timeout`](crate::Builder::store_timeout),
    /// 1 s): a call that the layer gives up first does not tell that the link swallows commands.
    pub const fn response_timeout(mut self, time_out: Duration) -> Self {
        self.time_outs.response = time_out;
        self
    }

    /// Gives up on a connection that is not made after this time (default 1 s).
    pub const fn connect_timeout(mut self, time_out: Duration) -> Self {
        self.time_outs.connect = time_out;
        self
    }

    /// Makes the store; nothing is connected yet.
    ///
    /// For `rediss://` in a process without a default rustls provider, the one of aws-lc-rs becomes
    /// it: the redis crate takes none as an argument.
    ///
    /// # Errors
    ///
    /// If the URL or the certificates cannot be used. The message does not repeat the URL, which
    /// may hold a password.
    pub fn build(self) -> Result<RedisStore, InvalidName> {
        let bad = |why| InvalidName::new("Redis URL", why, "");
        let info = self.url.as_str().into_connection_info().map_err(|_| {
            bad("redis://[user[:password]@]host[:port][/database], rediss:// or redis+unix:///path")
        })?;
        match info.addr() {
            ConnectionAddr::TcpTls { insecure: true, .. } => {
                return Err(bad("a server whose certificate is not checked is not supported"));
            }
            ConnectionAddr::TcpTls { .. } => install_crypto_provider(),
            _ if self.ca.is_some() => {
                return Err(bad("a certificate authority is given, but the URL is not rediss://"));
            }
            _ => {}
        }
        if self.time_outs.response.is_zero() || self.time_outs.connect.is_zero() {
            return Err(bad("a time-out of zero lets no call succeed"));
        }
        if let Some(pem) = &self.ca {
            let mut found = CertificateDer::pem_slice_iter(pem).peekable();
            if found.peek().is_none() || found.any(|certificate| certificate.is_err()) {
                return Err(InvalidName::new("Redis CA file", "no PEM certificate", ""));
            }
        }
        if info.redis_settings().db() < 0 {
            return Err(bad("databases are numbered from 0"));
        }
        let server = info.addr().to_string();
        let info = link::tuned(info);
        let client = match self.ca {
            None => Client::open(info),
            Some(pem) => Client::build_with_tls(
                info,
                TlsCertificates { client_tls: None, root_cert: Some(pem) },
            ),
        };
        let client = client
            .map_err(|_| InvalidName::new("Redis CA file", "a certificate cannot be used", ""))?;
        Ok(RedisStore(Arc::new(Link::new(client, server, self.time_outs))))
    }
}

impl fmt::Debug for RedisStoreBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisStoreBuilder").finish_non_exhaustive()
    }
}

/// The redis crate builds its TLS configuration with the process's default provider and panics
/// where there is none, or two.
fn install_crypto_provider() {
    if rustls::crypto::CryptoProvider::get_default().is_none() {
        // Somebody else may have been quicker; theirs will do.
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    }
}

static SWAP: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        "if redis.call('GET', KEYS[1]) == ARGV[1] then \
         redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[3]) return 1 end return 0",
    )
});

static REMOVE_IF: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        "if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('DEL', KEYS[1]) end \
         return 0",
    )
});

impl Store for RedisStore {
    fn insert(&self, key: &Key, value: Bytes, ttl: Duration) -> StoreFuture<bool> {
        let mut command = cmd("SET");
        command.arg(key.as_bytes()).arg(&value[..]).arg("NX").arg("PX").arg(milliseconds(ttl));
        self.ask(move |mut link| async move {
            // `OK`, or nothing.
            let done: Option<String> = command.query_async(&mut link).await?;
            Ok(done.is_some())
        })
    }

    fn load(&self, key: &Key) -> StoreFuture<Option<Bytes>> {
        let mut command = cmd("GET");
        command.arg(key.as_bytes());
        let link = self.0.clone();
        StoreFuture::new(async move {
            let command = &command;
            let ask =
                async move |mut link: MultiplexedConnection| command.query_async(&mut link).await;
            link.run_again(ask).await.map_err(store_error)
        })
    }

    fn swap(&self, key: &Key, old: &Bytes, new: Bytes, ttl: Duration) -> StoreFuture<bool> {
        let (key, old) = (key.clone(), old.clone());
        self.ask(move |mut link| async move {
            let mut call = SWAP.key(key.as_bytes());
            call.arg(&old[..]).arg(&new[..]).arg(milliseconds(ttl));
            call.invoke_async(&mut link).await
        })
    }

    fn take(&self, key: &Key) -> StoreFuture<Option<Bytes>> {
        let mut command = cmd("GETDEL");
        command.arg(key.as_bytes());
        self.ask(move |mut link| async move { command.query_async(&mut link).await })
    }

    fn remove_if(&self, key: &Key, old: &Bytes) -> StoreFuture<bool> {
        let (key, old) = (key.clone(), old.clone());
        self.ask(move |mut link| async move {
            REMOVE_IF.key(key.as_bytes()).arg(&old[..]).invoke_async(&mut link).await
        })
    }

    fn shared(&self) -> bool {
        true
    }
}

impl RedisStore {
    /// Sends something once.
    fn ask<T: Send + 'static, F>(
        &self,
        ask: impl FnOnce(MultiplexedConnection) -> F + Send + 'static,
    ) -> StoreFuture<T>
    where
        F: Future<Output = Result<T, RedisError>> + Send + 'static,
    {
        let link = self.0.clone();
        StoreFuture::new(async move { link.run(ask).await.map_err(store_error) })
    }
}

/// A time to live as Redis takes it; zero would be refused.
fn milliseconds(ttl: Duration) -> u64 {
    u64::try_from(ttl.as_millis()).unwrap_or(u64::MAX).max(1)
}

fn store_error(error: RedisError) -> StoreError {
    // Before Redis 7 a script that meets the limit fails with an error of its own.
    let full = error.code() == Some("OOM")
        || error.detail().is_some_and(|detail| detail.contains("-OOM "));
    let kind = if full {
        StoreErrorKind::Full
    } else if error.is_timeout() {
        StoreErrorKind::TimedOut
    } else {
        StoreErrorKind::Unavailable
    };
    StoreError::new(kind).with_source(error)
}

/// Tells whether another connection may serve where this one does not: it is broken, or leads to
/// a server that is no master any more.
fn is_link_lost(error: &RedisError) -> bool {
    error.is_unrecoverable_error()
        || error.is_io_error() && !error.is_timeout()
        || matches!(
            error.kind(),
            ErrorKind::Server(ServerErrorKind::ReadOnly | ServerErrorKind::MasterDown)
        )
}
