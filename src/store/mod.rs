//! The store: where pending logins, sessions and revocation marks live when they do not live in
//! the browser.
//!
//! A [`Store`] keeps bytes under keys for a while. It needs to know nothing about logins: what says
//! anything is sealed before it reaches the store, with the key as associated data, and keys are
//! hashes, so that a dump of the store shows nothing and a record cannot be moved to another key.

mod bounded;
#[cfg(feature = "redis")]
mod cache;
mod memory;
#[cfg(feature = "redis")]
mod redis;
mod tail_hash;

use std::fmt;
use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;

pub(crate) use self::bounded::BoundedStore;
pub use self::memory::MemoryStore;
#[cfg(feature = "redis")]
pub use self::redis::{RedisStore, RedisStoreBuilder};
pub(crate) use self::tail_hash::TailHashes;

use crate::seal::sha256;

/// A store of bytes with times to live.
///
/// Every operation is atomic for its key. An implementation is tested by the conformance suite in
/// the test kit (feature `test-util`, `testing::store_suite`).
///
/// | key | value |
/// |---|---|
/// | `<prefix>:pending:<sha256 of the random part of state>` | a pending login, sealed |
/// | `<prefix>:spent:<sha256 of the random part of state>` | `1`: a sealed login that was used |
/// | `<prefix>:session:<sha256 of the session id>` | a session, sealed |
/// | `<prefix>:{marks}:<sha256 of whom it ends>` | a revocation mark or the counter, nothing secret |
/// | `<prefix>:lease:<sha256 of the session id>` | 16 random bytes: who refreshes it just now |
/// | `<prefix>:person:<sha256 of issuer and subject>` | which sessions a person has, sealed |
/// | `<prefix>:sid:<sha256 of issuer and sid>` | that a login recorded it, sealed (front-channel logout) |
/// | `<prefix>:jti:<sha256 of issuer and jti>` | `1`: a logout token that has acted |
///
/// # Examples
///
/// ```
/// use std::time::Duration;
/// use bytes::Bytes;
/// use tower_pkce_auth::{Key, MemoryStore, Store};
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), tower_pkce_auth::StoreError> {
/// let store = MemoryStore::new();
/// let key = Key::new("demo", "session", b"id");
/// let ttl = Duration::from_secs(60);
/// assert!(store.insert(&key, Bytes::from_static(b"one"), ttl).await?);
/// assert!(!store.insert(&key, Bytes::from_static(b"two"), ttl).await?, "only if absent");
/// assert_eq!(store.take(&key).await?.as_deref(), Some(&b"one"[..]));
/// assert_eq!(store.take(&key).await?, None, "read and removed in one step");
/// # Ok(()) }
/// ```
pub trait Store: fmt::Debug + Send + Sync + 'static {
    /// Writes a value if the key is absent, and says whether it did.
    fn insert(&self, key: &Key, value: Bytes, ttl: Duration) -> StoreFuture<bool>;

    /// Reads a value; an expired one reads as absent. The only call that may be repeated.
    fn load(&self, key: &Key) -> StoreFuture<Option<Bytes>>;

    /// Reads a value as it is now or was a moment ago: what must not wait asks by this.
    ///
    /// A store that keeps local copies returns one here, ready at once, if it is at most two
    /// seconds old and was not changed since by a call over this very store. Others need not write
    /// it: it is [`Store::load`] then.
    fn load_cached(&self, key: &Key) -> StoreFuture<Option<Bytes>> {
        self.load(key)
    }

    /// Replaces `old` by `new`, and says whether `old` was there: it never resurrects a removed
    /// value and never overwrites a winner.
    fn swap(&self, key: &Key, old: &Bytes, new: Bytes, ttl: Duration) -> StoreFuture<bool>;

    /// Reads and removes a value in one step.
    fn take(&self, key: &Key) -> StoreFuture<Option<Bytes>>;

    /// Removes the value if it is still `old`, and says whether it was.
    fn remove_if(&self, key: &Key, old: &Bytes) -> StoreFuture<bool>;

    /// Tells whether other processes see what this one writes.
    fn shared(&self) -> bool;

    /// Counts how often this store has begun to speak to another server, which may lack what the
    /// one before had acknowledged: who wrote something a moment ago looks again whether it is
    /// there. A store that loses no acknowledged write need not write it: it is 0 then.
    fn turns(&self) -> u64 {
        0
    }
}

impl<T: Store + ?Sized> Store for Arc<T> {
    fn insert(&self, key: &Key, value: Bytes, ttl: Duration) -> StoreFuture<bool> {
        (**self).insert(key, value, ttl)
    }

    fn load(&self, key: &Key) -> StoreFuture<Option<Bytes>> {
        (**self).load(key)
    }

    fn load_cached(&self, key: &Key) -> StoreFuture<Option<Bytes>> {
        (**self).load_cached(key)
    }

    fn swap(&self, key: &Key, old: &Bytes, new: Bytes, ttl: Duration) -> StoreFuture<bool> {
        (**self).swap(key, old, new, ttl)
    }

    fn take(&self, key: &Key) -> StoreFuture<Option<Bytes>> {
        (**self).take(key)
    }

    fn remove_if(&self, key: &Key, old: &Bytes) -> StoreFuture<bool> {
        (**self).remove_if(key, old)
    }

    fn shared(&self) -> bool {
        (**self).shared()
    }

    fn turns(&self) -> u64 {
        (**self).turns()
    }
}

/// Where a value lies: `<prefix>:<purpose>:<hex of SHA-256 of the id>`.
///
/// The id itself, which may be a bearer secret, never reaches the store.
///
/// # Examples
///
/// ```
/// use tower_pkce_auth::Key;
///
/// let key = Key::new("auth", "session", b"secret id");
/// assert!(key.as_str().starts_with("auth:session:"));
/// assert!(!key.as_str().contains("secret"));
/// ```
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub struct Key(Box<str>);

impl Key {
    /// Makes the key for an id.
    #[must_use]
    pub fn new(prefix: &str, purpose: &str, id: &[u8]) -> Self {
        Self::of_hash(prefix, purpose, &sha256(id))
    }

    /// Makes the key for an id whose SHA-256 this is.
    pub(crate) fn of_hash(prefix: &str, purpose: &str, hash: &[u8; 32]) -> Self {
        let mut hex = [0; 64];
        for (pair, byte) in hex.chunks_exact_mut(2).zip(hash) {
            pair[0] = DIGITS[usize::from(byte >> 4)];
            pair[1] = DIGITS[usize::from(byte & 15)];
        }
        let hex = std::str::from_utf8(&hex).expect("digits are ASCII");
        let mut key = String::with_capacity(prefix.len() + purpose.len() + 2 + hex.len());
        for part in [prefix, ":", purpose, ":", hex] {
            key.push_str(part);
        }
        Self(key.into())
    }

    /// Reads back what [`Key::as_str`] gave.
    #[cfg(feature = "redis")]
    pub(crate) fn from_bytes(bytes: &[u8]) -> Option<Self> {
        std::str::from_utf8(bytes).ok().map(|text| Self(text.into()))
    }

    /// Returns a key that is never written and lies on the same server, in a cluster too.
    #[cfg(feature = "redis")]
    pub(crate) fn absent_beside(&self) -> Self {
        let name = self.0.rfind(':').map_or(&*self.0, |colon| &self.0[..colon]);
        Self(format!("{name}:none").into())
    }

    /// Tells whether a sign-out lies here.
    #[cfg(feature = "redis")]
    pub(crate) fn is_mark(&self) -> bool {
        self.purpose() == MARKS
    }

    /// Returns what lies here.
    #[cfg(feature = "redis")]
    pub(crate) fn purpose(&self) -> &str {
        self.0.rsplit(':').nth(1).unwrap_or_default()
    }

    /// Returns the key as text: printable ASCII without white space, if prefix and purpose are.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    pub(crate) fn as_bytes(&self) -> &[u8] {
        self.0.as_bytes()
    }
}

const DIGITS: &[u8; 16] = b"0123456789abcdef";

/// The purpose of the marks of sign-outs: the braces keep them on one server of a cluster, which
/// has all of them or none.
pub(crate) const MARKS: &str = "{marks}";

/// What went wrong in a store.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
#[non_exhaustive]
pub enum StoreErrorKind {
    /// It answered that it has no room; nothing was written.
    Full,
    /// It did not answer in time; whether a write took place is not known.
    TimedOut,
    /// It could not be reached, or refused to serve.
    Unavailable,
}

/// A store that did not do what it was asked.
///
/// # Examples
///
/// ```
/// use tower_pkce_auth::{StoreError, StoreErrorKind};
///
/// let error = StoreError::new(StoreErrorKind::TimedOut);
/// assert_eq!(error.kind(), StoreErrorKind::TimedOut);
/// ```
#[derive(Debug)]
pub struct StoreError {
    kind: StoreErrorKind,
    source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

impl StoreError {
    /// Makes an error without a cause.
    #[must_use]
    pub const fn new(kind: StoreErrorKind) -> Self {
        Self { kind, source: None }
    }

    /// Adds the cause, for logs.
    #[must_use]
    pub fn with_source(
        mut self,
        source: impl Into<Box<dyn std::error::Error + Send + Sync>>,
    ) -> Self {
        self.source = Some(source.into());
        self
    }

    /// Returns what went wrong.
    #[must_use]
    pub const fn kind(&self) -> StoreErrorKind {
        self.kind
    }
}

impl fmt::Display for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.kind {
            StoreErrorKind::Full => "the store is full",
            StoreErrorKind::TimedOut => "the store did not answer in time",
            StoreErrorKind::Unavailable => "the store is out of reach",
        })
    }
}

impl std::error::Error for StoreError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.source.as_deref().map(|source| source as _)
    }
}

/// The answer of a [`Store`], ready or still under way.
///
/// # Examples
///
/// ```
/// use tower_pkce_auth::StoreFuture;
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() {
/// assert_eq!(StoreFuture::ready(Ok(1)).await.unwrap(), 1);
/// assert_eq!(StoreFuture::new(async { Ok(2) }).await.unwrap(), 2);
/// # }
/// ```
#[must_use = "futures do nothing unless polled"]
pub struct StoreFuture<T>(Inner<T>);

enum Inner<T> {
    Boxed(Pin<Box<dyn Future<Output = Result<T, StoreError>> + Send>>),
    Ready(Option<Result<T, StoreError>>),
}

impl<T> StoreFuture<T> {
    /// Makes a future that is ready at once and costs no allocation.
    pub const fn ready(result: Result<T, StoreError>) -> Self {
        Self(Inner::Ready(Some(result)))
    }

    /// Tells whether the answer is there already, so that awaiting it waits for nothing.
    #[must_use]
    pub const fn is_ready(&self) -> bool {
        matches!(self.0, Inner::Ready(_))
    }

    /// Makes a future that has to wait for something.
    pub fn new(future: impl Future<Output = Result<T, StoreError>> + Send + 'static) -> Self {
        Self(Inner::Boxed(Box::pin(future)))
    }
}

// Neither variant is pinned structurally: the box pins its own content.
impl<T> Unpin for StoreFuture<T> {}

impl<T> Future for StoreFuture<T> {
    type Output = Result<T, StoreError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match &mut self.0 {
            Inner::Boxed(future) => future.as_mut().poll(cx),
            Inner::Ready(result) => match result.take() {
                Some(result) => Poll::Ready(result),
                None => Poll::Ready(Err(StoreError::new(StoreErrorKind::Unavailable)
                    .with_source("the future was polled after it was ready"))),
            },
        }
    }
}

impl<T> fmt::Debug for StoreFuture<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("StoreFuture(..)")
    }
}

/// Awaits two things at once.
pub(crate) async fn join<A, B>(a: impl Future<Output = A>, b: impl Future<Output = B>) -> (A, B) {
    let (mut a, mut b) = (pin!(a), pin!(b));
    let (mut of_a, mut of_b) = (None, None);
    std::future::poll_fn(|cx| {
        if of_a.is_none()
            && let Poll::Ready(value) = a.as_mut().poll(cx)
        {
            of_a = Some(value);
        }
        if of_b.is_none()
            && let Poll::Ready(value) = b.as_mut().poll(cx)
        {
            of_b = Some(value);
        }
        match (of_a.take(), of_b.take()) {
            (Some(a), Some(b)) => Poll::Ready((a, b)),
            (a, b) => {
                (of_a, of_b) = (a, b);
                Poll::Pending
            }
        }
    })
    .await
}

/// Awaits several answers at once, so that all requests are on their way together.
pub(crate) async fn all<T, const N: usize>(
    mut futures: [Option<StoreFuture<T>>; N],
) -> Result<[Option<T>; N], StoreError> {
    let mut answers = [const { None }; N];
    std::future::poll_fn(|cx| {
        let mut waiting = false;
        for (future, answer) in futures.iter_mut().zip(&mut answers) {
            let Some(running) = future else { continue };
            match Pin::new(running).poll(cx) {
                Poll::Pending => waiting = true,
                Poll::Ready(Ok(value)) => {
                    *answer = Some(value);
                    *future = None;
                }
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
            }
        }
        if waiting { Poll::Pending } else { Poll::Ready(Ok(())) }
    })
    .await?;
    Ok(answers)
}
