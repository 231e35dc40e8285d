//! Pending logins: what must be remembered between the start of a login and its callback.
//!
//! 1. A start makes 16 random bytes. `state` is `base64url(random ‖ ticket)`; the *ticket* is a
//!    sealed note of where the visitor wanted to go. It authorises nothing.
//! 2. The browser gets one cookie per pending login, named by a hash of the random bytes and sealed
//!    under that name. Without it no callback is honoured: this is the binding to the browser.
//! 3. A seed, from which the PKCE verifier and the nonce are derived, lies in the backend: in this
//!    process's memory, in the store, or sealed in the cookie.
//! 4. The callback *takes* the login: whatever follows, it cannot be used again.

mod spent;
mod ticket;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use http::{HeaderMap, HeaderValue};
use serde::{Deserialize, Serialize};

use self::spent::SpentMarks;
pub(crate) use self::ticket::{State, Ticket};
use crate::clock::{Clock, UnixTime};
use crate::cookies::{Cookies, Own, PENDING_ID};
use crate::error::AuthError;
use crate::limit::Budget;
use crate::seal::{OpenError, Purpose, Sealer, expand, sha256};
use crate::secret::{SecretString, base64url, from_base64url, random, same};
use crate::session::SessionRef;
use crate::session::keeper::unavailable;
use crate::session::revocation::Counter;
use crate::store::{Key, MemoryStore, Store, StoreError, StoreErrorKind, StoreFuture, join};

/// Where pending logins are kept.
///
/// # Examples
///
/// ```
/// use tower_pkce_auth::{ClientId, PkceAuthLayer, Pending};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let layer = PkceAuthLayer::builder(
///     "https://login.example".parse()?,
///     ClientId::new("app"),
///     "http://localhost:8080".parse()?,
/// )
/// .public_client()
/// .pending(Pending::Sealed)
/// .build()?;
/// # Ok(()) }
/// ```
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum Pending {
    /// In this process's memory: the callback must reach the process that started the login.
    Memory,
    /// Sealed in the browser: any pod can finish any login, and no server is needed.
    Sealed,
    /// In the store.
    Store,
}

/// A started login.
pub(crate) struct Started {
    pub(crate) state: String,
    pub(crate) nonce: String,
    pub(crate) verifier: SecretString,
    pub(crate) set_cookies: Vec<HeaderValue>,
}

/// A login that was taken and can be completed, once.
pub(crate) struct Taken {
    pub(crate) nonce: String,
    pub(crate) verifier: SecretString,
    pub(crate) begun: Option<Counter>,
    /// The session that stood in the browser when the login began.
    pub(crate) superseded: Option<SessionRef>,
}

/// Why a login cannot be completed here. The visitor sees the same for all but the last.
#[derive(Debug)]
pub(crate) enum Unusable {
    /// The backend does not have it (any more).
    AlreadyTaken,
    /// Its time is over.
    Expired,
    /// This browser did not start it, or has lost the cookie.
    NoCookie,
    /// The store is away: the login stays pending.
    Store(AuthError),
}

/// The most pending logins one browser may have.
const CAP: usize = 8;
/// The most that lie in this process's memory, of each kind.
const IN_MEMORY: usize = 100_000;

/// Starts and takes pending logins.
#[derive(Debug)]
pub(crate) struct PendingLogins {
    backend: Backend,
    spent: SpentMarks,
    /// Whether the backend had no room last time: the log is told when that begins and ends.
    full: AtomicBool,
    sealer: Sealer,
    cookies: Arc<Cookies>,
    clock: Arc<dyn Clock>,
    prefix: Box<str>,
    origin: Box<str>,
    own_paths: Box<str>,
    ttl: Duration,
    leeway: Duration,
}

#[derive(Debug)]
enum Backend {
    /// Records in a store; in one that others use too only so many of this process.
    Records(Arc<dyn Store>, Option<Budget>),
    Sealed,
}

/// What [`PendingLogins`] is made of.
pub(crate) struct Settings {
    pub(crate) kind: Pending,
    pub(crate) store: Option<Arc<dyn Store>>,
    pub(crate) sealer: Sealer,
    pub(crate) cookies: Arc<Cookies>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) prefix: String,
    pub(crate) origin: String,
    /// The prefix of our endpoints as browsers see it: no return target lies below it.
    pub(crate) own_paths: String,
    pub(crate) ttl: Duration,
    pub(crate) leeway: Duration,
    /// How many records this process writes to the store in a login's lifetime.
    pub(crate) most_stored: u32,
}

/// The cookie of a pending login, sealed under its name.
#[derive(Deserialize, Serialize)]
struct CookieContent {
    /// A hash of the whole `state`: its random part and its ticket belong together.
    state: [u8; 32],
    started: UnixTime,
    /// The seed, if the login is sealed in the browser; else the backend has it.
    seed: Option<[u8; 32]>,
    begun: Option<Counter>,
    superseded: Option<SessionRef>,
}

impl PendingLogins {
    pub(crate) fn new(settings: Settings) -> Self {
        let (clock, ttl, leeway) = (&settings.clock, settings.ttl, settings.leeway);
        let backend = match (settings.kind, settings.store.clone()) {
            (Pending::Sealed, _) => Backend::Sealed,
            (Pending::Store, Some(store)) => {
                let budget = Budget::new(settings.most_stored, ttl + leeway, clock.clone(), FLOOD);
                Backend::Records(store, Some(budget))
            }
            (Pending::Memory | Pending::Store, _) => {
                let memory = MemoryStore::with_clock(clock.clone(), IN_MEMORY);
                Backend::Records(Arc::new(memory), None)
            }
        };
        let shared = settings.store.filter(|store| store.shared());
        let spent = SpentMarks::new(shared, settings.most_stored, ttl + leeway + leeway, clock);
        Self {
            backend,
            spent,
            full: AtomicBool::new(false),
            sealer: settings.sealer,
            cookies: settings.cookies,
            clock: settings.clock,
            prefix: settings.prefix.into(),
            origin: settings.origin.into(),
            own_paths: settings.own_paths.into(),
            ttl,
            leeway,
        }
    }

    /// Starts a login: nothing has been sent to the provider yet. `counter` is the counter of
    /// sign-outs, which is asked for while the record is written.
    ///
    /// # Errors
    ///
    /// If the store is out of reach; one that is full is not an error, the login is sealed then,
    /// and without a counter it counts on there being no mark.
    pub(crate) async fn start(
        &self,
        headers: &HeaderMap,
        ticket: &Ticket,
        counter: impl Future<Output = Result<Counter, StoreError>>,
        superseded: Option<SessionRef>,
    ) -> Result<Started, AuthError> {
        let now = self.clock.now();
        let (random, seed): ([u8; 16], [u8; 32]) = (random(), random());
        let kept = match &self.backend {
            Backend::Sealed => StoreFuture::ready(Ok(false)),
            // A flood: nobody is refused, and nobody's record makes room.
            Backend::Records(_, Some(budget)) if !budget.take() => StoreFuture::ready(Ok(false)),
            Backend::Records(store, _) => {
                let key = self.key("pending", &random);
                let record =
                    self.sealer.seal(Purpose::PendingRecord, key.as_bytes(), now + self.ttl, &seed);
                store.insert(&key, record.into(), self.ttl + self.leeway)
            }
        };
        let (counter, kept) = join(counter, kept).await;
        let begun = match counter {
            Ok(counter) => Some(counter),
            Err(error) if error.kind() == StoreErrorKind::Full => None,
            Err(error) => return Err(unavailable(&error)),
        };
        let kept_in_cookie = match kept {
            Ok(kept) => {
                if kept && self.full.swap(false, Ordering::Relaxed) {
                    tracing::warn!("there is room for logins again");
                }
                !kept
            }
            Err(error) if error.kind() == StoreErrorKind::Full => {
                if !self.full.swap(true, Ordering::Relaxed) {
                    tracing::warn!("there is no room; logins are sealed in the browser");
                }
                true
            }
            Err(error) => return Err(unavailable(&error)),
        };
        let mut state = random.to_vec();
        state.extend(self.seal_ticket(ticket, now));
        let content = CookieContent {
            state: sha256(&state),
            started: now,
            seed: kept_in_cookie.then_some(seed),
            begun,
            superseded,
        };
        let mut set_cookies = self.make_room(headers, now);
        let id = cookie_id(&random);
        let name = self.cookies.name(Own::Pending(&id));
        let plain = postcard::to_allocvec(&content).expect("plain fields are encodable");
        let sealed =
            self.sealer.seal(Purpose::PendingCookie, name.as_bytes(), now + self.ttl, &plain);
        set_cookies.push(self.cookies.set(Own::Pending(&id), &base64url(sealed), self.ttl));
        let (nonce, verifier) = derive(&seed);
        Ok(Started { state: base64url(state), nonce, verifier, set_cookies })
    }

    /// Takes the login of `state`, if this browser started it and it is still pending.
    pub(crate) async fn take(&self, headers: &HeaderMap, state: &State) -> Result<Taken, Unusable> {
        let now = self.clock.now();
        let id = cookie_id(&state.random);
        let name = self.cookies.name(Own::Pending(&id));
        let mut content = None;
        let mut expired = false;
        for (own, value) in self.cookies.read(headers) {
            if own != Own::Pending(&id) {
                continue;
            }
            match self.open_cookie(&name, value, now) {
                Ok(found) if same(&found.state, &state.hash) => content = Some(found),
                Err(OpenError::Expired) => expired = true,
                _ => {}
            }
        }
        let Some(content) = content else {
            return Err(if expired { Unusable::Expired } else { Unusable::NoCookie });
        };
        let seed = match (content.seed, &self.backend) {
            (Some(seed), _) => {
                self.spend(&state.random).await?;
                seed
            }
            (None, Backend::Records(store, _)) => {
                let key = self.key("pending", &state.random);
                match store.take(&key).await {
                    Ok(Some(record)) => self.open_record(&key, &record, now)?,
                    Ok(None) => return Err(Unusable::AlreadyTaken),
                    Err(error) => return Err(Unusable::Store(unavailable(&error))),
                }
            }
            (None, Backend::Sealed) => return Err(Unusable::AlreadyTaken),
        };
        let (nonce, verifier) = derive(&seed);
        Ok(Taken { nonce, verifier, begun: content.begun, superseded: content.superseded })
    }

    /// Marks a sealed login as used; with a shared store it holds on every pod.
    async fn spend(&self, random: &[u8; 16]) -> Result<(), Unusable> {
        match self.spent.mark(&self.key("spent", random)).await {
            Ok(true) => Ok(()),
            Ok(false) => Err(Unusable::AlreadyTaken),
            Err(error) => Err(Unusable::Store(unavailable(&error))),
        }
    }

    fn open_record(&self, key: &Key, record: &[u8], now: UnixTime) -> Result<[u8; 32], Unusable> {
        let opened = self.sealer.open(Purpose::PendingRecord, key.as_bytes(), now, record);
        match opened {
            Ok(seed) => seed.try_into().map_err(|_| Unusable::AlreadyTaken),
            Err(OpenError::Expired) => Err(Unusable::Expired),
            Err(_) => Err(Unusable::AlreadyTaken),
        }
    }

    /// Returns the `Set-Cookie` values that remove every pending login of this browser.
    pub(crate) fn sweep(&self, headers: &HeaderMap) -> Vec<HeaderValue> {
        self.cookies
            .read(headers)
            .filter(|(own, _)| matches!(own, Own::Pending(_)))
            .map(|(own, _)| self.cookies.remove(own))
            .collect()
    }

    /// Returns the removal of the cookie of one login.
    pub(crate) fn forget(&self, state: &State) -> HeaderValue {
        self.cookies.remove(Own::Pending(&cookie_id(&state.random)))
    }

    /// Removes what is expired, and the oldest beyond the cap, so that the browser's cookies stay
    /// few whatever a visitor starts and abandons.
    fn make_room(&self, headers: &HeaderMap, now: UnixTime) -> Vec<HeaderValue> {
        let mut waiting = Vec::new();
        let mut removals = Vec::new();
        for (own, value) in self.cookies.read(headers) {
            if !matches!(own, Own::Pending(_)) {
                continue;
            }
            match self.open_cookie(&self.cookies.name(own), value, now) {
                Ok(content) => waiting.push((content.started, own)),
                Err(_) => removals.push(self.cookies.remove(own)),
            }
        }
        waiting.sort_by_key(|(started, _)| *started);
        let surplus = (waiting.len() + 1).saturating_sub(CAP);
        removals.extend(waiting[..surplus].iter().map(|(_, own)| self.cookies.remove(*own)));
        removals
    }

    fn open_cookie(
        &self,
        name: &str,
        value: &[u8],
        now: UnixTime,
    ) -> Result<CookieContent, OpenError> {
        let sealed = from_base64url(value).ok_or(OpenError::Malformed)?;
        let plain = self.sealer.open(Purpose::PendingCookie, name.as_bytes(), now, &sealed)?;
        postcard::from_bytes(&plain).map_err(|_| OpenError::Malformed)
    }

    fn key(&self, purpose: &str, random: &[u8; 16]) -> Key {
        Key::new(&self.prefix, purpose, random)
    }
}

const FLOOD: [&str; 2] = [
    "more logins are started than a flood may note in the store; further ones are sealed in the \
     browser",
    "started logins are noted in the store again",
];

/// Derives the nonce and the PKCE verifier, each 256 bits in 43 characters (RFC 7636 section 4.1).
fn derive(seed: &[u8; 32]) -> (String, SecretString) {
    (
        base64url(expand(seed, b"nonce")),
        SecretString::new(base64url(expand(seed, b"code_verifier"))),
    )
}

fn cookie_id(random: &[u8; 16]) -> String {
    use std::fmt::Write as _;

    let mut id = String::with_capacity(PENDING_ID);
    for byte in &sha256(random)[..PENDING_ID / 2] {
        write!(id, "{byte:02x}").expect("a String takes everything");
    }
    id
}
