//! A store in Redis or Valkey: one server, one that sentinels name, or a cluster.

mod builder;
mod call;
mod cluster;
mod connect;
mod given;
mod heartbeat;
mod link;
mod pair;
mod phase;
mod place;
mod reconnect;
mod replicas;
mod sentinel;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use ::redis::aio::ConnectionLike;
use ::redis::{ErrorKind, FromRedisValue, RedisError, ServerErrorKind, Value, from_redis_value};
use bytes::Bytes;

pub use self::builder::RedisStoreBuilder;
use self::call::Call;
use self::cluster::Cluster;
use self::given::Given;
use self::pair::Pair;
use super::{Key, Store, StoreError, StoreErrorKind, StoreFuture};
use crate::names::InvalidName;

/// A [`Store`] in Redis (6.2 or newer) or Valkey: for many pods that share logins, sessions and
/// sign-outs.
///
/// | URL | what it leads to |
/// |---|---|
/// | `redis://[user[:password]@]host[:port][/database]`, `redis+unix:///path` | one server |
/// | `redis+sentinel://[user[:password]@]host[:port],…/service[/database]` | whichever server the sentinels call master of that service; a fail-over is followed |
/// | `redis+cluster://[user[:password]@]host[:port],…` | a cluster; two or three of its servers are enough to find the others |
/// | `rediss://`, `rediss+sentinel://`, `rediss+cluster://` | the same with TLS, to sentinels too |
///
/// | call | command |
/// |---|---|
/// | [`insert`](Store::insert) | `SET key value NX PX ttl` |
/// | [`load`](Store::load) | `GET key` |
/// | [`load_cached`](Store::load_cached) | nothing, or `CLIENT CACHING YES` and `GET key` |
/// | [`take`](Store::take) | `GETDEL key` |
/// | [`swap`](Store::swap), [`remove_if`](Store::remove_if) | `EVALSHA` of two scripts of one line, `EVAL` where the server does not know them |
/// | a write of a sign-out, a session or a lease, where there are replicas | one of those and `WAIT 1 100` |
///
/// All calls to a server share one connection (RESP3), and what waits for replicas another, made at
/// the first call and again after it was lost: a server that is away is asked anew by every call, so
/// that the first call after its return succeeds. One that swallows what is sent counts as away after two time-outs or one missed
/// heartbeat (one a second); calls fail at once then, and it is probed five times a second. What
/// was sent and not answered is never sent again, but for reads.
///
/// # The local cache
///
/// What [`load_cached`](Store::load_cached) reads is kept here until the server says that it has
/// changed (`CLIENT TRACKING ON OPTIN`), so that a request of somebody who is signed in asks
/// nothing of Redis. An answer is kept only if no change was told of since its question was sent;
/// an entry is used only if the server has answered a heartbeat within two seconds; a connection
/// that is lost takes all entries with it. So a change elsewhere holds here as soon as its news
/// arrives, and two seconds later at most while the server is in reach. The redis crate's own cache
/// can keep a value that has changed, because it is put there after the news may have passed.
///
/// # What the server must allow
///
/// A user of its access control lists needs `+get +set +getdel +del +evalsha +eval` on the keys
/// `<prefix>:*`, and `+select` for another database than 0. With `+client|tracking +client|caching`
/// there is a local cache; with `+role` none of a server that is no master any more, and with `+wait`
/// beside it sign-outs and sessions wait for a replica (`+info` instead of `+role` will do for that);
/// with `+info` there is a warning of settings that endanger sessions. By way of sentinels `+role` is
/// needed, in a cluster `+cluster|slots` and, while slots move, `+asking`.
///
/// The server must not evict: with a `maxmemory-policy` other than `noeviction` people are signed
/// out when memory is short, and a warning is logged.
///
/// # What a fail-over can lose
///
/// Redis acknowledges a write before its replicas have it. Sign-outs, sessions, and the notes that
/// keep a refresh token from being spent twice, wait up to 100 ms for one replica, if one keeps up.
/// Where a session or a note may be on a master that sentinels are replacing, it counts as failed
/// (`503`); in a cluster the servers see to that in a hand-over themselves. Sign-outs are written again
/// for a minute after. A login that was begun in the last moment starts over.
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
pub struct RedisStore(Arc<Way>);

impl RedisStore {
    /// Takes a store at a URL of one of the forms above. Nothing is connected yet.
    ///
    /// # Errors
    ///
    /// If the URL is not one of those.
    pub fn new(url: &str) -> Result<Self, InvalidName> {
        Self::builder(url).build()
    }

    /// Begins to set up a store with more than a URL.
    pub fn builder(url: &str) -> RedisStoreBuilder {
        RedisStoreBuilder::new(url)
    }

    /// Takes a connection of the redis crate that the application has already: its
    /// `ConnectionManager`, `MultiplexedConnection` or `ClusterConnection`.
    ///
    /// That connection's own rules hold: how it finds a server again, and how long it waits for it;
    /// the layer gives up after [`Builder::store_timeout`](crate::Builder::store_timeout). Nothing
    /// is cached here, because such a connection cannot say when it was replaced by another one, so
    /// that every request asks Redis once or twice; and no replica is waited for.
    /// It must speak to the database itself, not to one of its replicas.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// use tower_pkce_auth::RedisStore;
    ///
    /// # async fn f() -> Result<(), Box<dyn std::error::Error>> {
    /// let client = redis::Client::open("redis://redis.internal")?;
    /// let store = RedisStore::over(client.get_multiplexed_async_connection().await?);
    /// # Ok(()) }
    /// ```
    #[must_use]
    pub fn over(connection: impl ConnectionLike + Clone + Send + Sync + 'static) -> Self {
        Self(Arc::new(Way::Given(Arc::new(connection))))
    }
}

impl fmt::Debug for RedisStore {
    /// Prints where the server is, without user and password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let server = match &*self.0 {
            Way::Cluster(cluster) => cluster.server(),
            Way::Given(_) => "a connection of the application",
            Way::One(pair) => pair.link.server(),
        };
        f.debug_struct("RedisStore").field("server", &server).finish()
    }
}

/// By which way servers are reached.
enum Way {
    Cluster(Arc<Cluster>),
    Given(Arc<dyn Given>),
    One(Pair),
}

impl Way {
    /// Returns what is known of a key without asking.
    fn known(&self, key: &Key) -> Option<Option<Bytes>> {
        match self {
            Self::Cluster(cluster) => cluster.known(key),
            Self::Given(_) => None,
            Self::One(pair) => pair.link.known(key),
        }
    }

    /// Forgets what is known of a key that is being changed here.
    fn forget(&self, key: &Key) {
        match self {
            Self::Cluster(cluster) => cluster.forget(key),
            Self::Given(_) => {}
            Self::One(pair) => pair.link.forget(key),
        }
    }

    async fn run(&self, call: Call) -> Result<Value, RedisError> {
        match self {
            Self::Cluster(cluster) => cluster.run(&call).await,
            Self::Given(given) => given.run(call).await,
            Self::One(pair) => pair.run(&call, false).await,
        }
    }
}

impl RedisStore {
    /// Changes something, once, and forgets what was known of it: before the change is sent, so
    /// that nothing older is read here afterwards, and once it is answered.
    fn change<T: FromRedisValue + Send + 'static>(&self, call: Call) -> StoreFuture<T> {
        let way = self.0.clone();
        StoreFuture::new(async move {
            let key = call.key().clone();
            way.forget(&key);
            let answer = way.run(call).await;
            way.forget(&key);
            read(answer)
        })
    }

    fn ask(&self, call: Call) -> StoreFuture<Option<Bytes>> {
        let way = self.0.clone();
        StoreFuture::new(async move {
            let value: Option<Vec<u8>> = read(way.run(call).await)?;
            Ok(value.map(Bytes::from))
        })
    }
}

impl Store for RedisStore {
    fn insert(&self, key: &Key, value: Bytes, ttl: Duration) -> StoreFuture<bool> {
        let inserted = self.change(Call::insert(key, value, ttl));
        StoreFuture::new(async move {
            // `OK`, or nothing.
            let done: Option<String> = inserted.await?;
            Ok(done.is_some())
        })
    }

    fn load(&self, key: &Key) -> StoreFuture<Option<Bytes>> {
        self.ask(Call::load(key))
    }

    fn load_cached(&self, key: &Key) -> StoreFuture<Option<Bytes>> {
        match self.0.known(key) {
            Some(value) => StoreFuture::ready(Ok(value)),
            None => self.ask(Call::load(key).tracked()),
        }
    }

    fn swap(&self, key: &Key, old: &Bytes, new: Bytes, ttl: Duration) -> StoreFuture<bool> {
        self.change(Call::swap(key, old.clone(), new, ttl))
    }

    fn take(&self, key: &Key) -> StoreFuture<Option<Bytes>> {
        let taken = self.change(Call::take(key));
        StoreFuture::new(async move {
            let value: Option<Vec<u8>> = taken.await?;
            Ok(value.map(Bytes::from))
        })
    }

    fn remove_if(&self, key: &Key, old: &Bytes) -> StoreFuture<bool> {
        self.change(Call::remove_if(key, old.clone()))
    }

    fn shared(&self) -> bool {
        true
    }

    fn turns(&self) -> u64 {
        match &*self.0 {
            Way::Cluster(cluster) => cluster.turns(),
            Way::Given(_) => 0,
            Way::One(pair) => pair.link.turns(),
        }
    }
}

fn read<T: FromRedisValue>(answer: Result<Value, RedisError>) -> Result<T, StoreError> {
    let value = answer.map_err(store_error)?;
    from_redis_value(value).map_err(|error| store_error(error.into()))
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
