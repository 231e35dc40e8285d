//! The keeper of sessions: finds, judges, makes, prolongs and ends them.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue};

use super::cache::{Cache, Opened, StoredAt};
use super::chunk::{Held, Presented, split};
use super::revocation::{Counter, Revocation, Target};
use super::{Lifetimes, Record, SessionRef, Sessions, Tokens};
use crate::clock::{Clock, UnixTime};
use crate::cookies::{Cookies, MAX_CHUNKS, Own};
use crate::error::{AuthError, ErrorKind};
use crate::identity::Identity;
use crate::seal::{Purpose, Sealer};
use crate::secret::{SecretBytes, base64url, from_base64url, random};
use crate::store::{Key, Store, StoreError};

/// What a request says of a session.
#[derive(Debug)]
pub(crate) enum Found {
    /// There is no session cookie.
    Absent,
    /// There is one, and no live session behind it.
    Dead,
    /// Somebody is signed in.
    Live(Live),
    /// Nobody can tell just now: the store is away. Cookies are kept.
    Unknown(AuthError),
}

/// A live session.
#[derive(Debug)]
pub(crate) struct Live {
    pub(crate) opened: Arc<Opened>,
    /// Cookies that prolong it; usually none.
    pub(crate) set_cookies: Vec<HeaderValue>,
}

/// What a completed login says.
pub(crate) struct Login {
    pub(crate) subject: String,
    pub(crate) sid: Option<String>,
    pub(crate) acr: Option<String>,
    pub(crate) auth_time: Option<UnixTime>,
    pub(crate) claims: serde_json::Map<String, serde_json::Value>,
    /// When the provider wants the session to be over.
    pub(crate) session_expiry: Option<UnixTime>,
    /// The counter as noted when the login began.
    pub(crate) begun: Option<Counter>,
    pub(crate) id_token: String,
    pub(crate) nonce: String,
    pub(crate) refresh: Option<super::Refresh>,
}

/// How the keeper is set up.
#[derive(Debug)]
pub(crate) struct Settings {
    pub(crate) kind: Sessions,
    pub(crate) issuer: String,
    pub(crate) prefix: String,
    pub(crate) lifetimes: Lifetimes,
    pub(crate) max_cookie_bytes: usize,
    /// How long a sealed session goes on without its marks having been seen.
    pub(crate) revocation_grace: Option<Duration>,
    pub(crate) cache_capacity: usize,
}

/// Finds, judges, makes, prolongs and ends sessions.
#[derive(Debug)]
pub(crate) struct Keeper {
    settings: Settings,
    /// Where stored sessions lie, if they can.
    store: Option<Arc<dyn Store>>,
    revocation: Revocation,
    sealer: Sealer,
    cookies: Arc<Cookies>,
    clock: Arc<dyn Clock>,
    cache: Cache,
}

/// A session is prolonged at most this often.
const TOUCH: Duration = Duration::from_secs(60);
/// A logout hint that is larger does not fit into a cookie beside its seal, nor into a URL.
const MAX_HINT: usize = 3_500;

impl Keeper {
    pub(crate) fn new(
        settings: Settings,
        store: Option<Arc<dyn Store>>,
        revocation: Revocation,
        sealer: Sealer,
        cookies: Arc<Cookies>,
        clock: Arc<dyn Clock>,
    ) -> Self {
        let cache = Cache::new(settings.cache_capacity);
        Self { settings, store, revocation, sealer, cookies, clock, cache }
    }

    pub(crate) const fn revocation(&self) -> &Revocation {
        &self.revocation
    }

    pub(crate) const fn lifetimes(&self) -> &Lifetimes {
        &self.settings.lifetimes
    }

    /// Finds the session of a request. `touch` prolongs it: a request of the person does, a page
    /// that only asks how long it lasts does not.
    pub(crate) async fn find(&self, headers: &HeaderMap, touch: bool) -> Found {
        let (candidates, any) = Presented::read(&self.cookies, headers);
        let mut dead = any;
        for presented in candidates.into_iter().flatten() {
            match self.judge(&presented, touch).await {
                Ok(Some(live)) => return Found::Live(live),
                Ok(None) => dead = true,
                Err(error) => return Found::Unknown(unavailable(&error)),
            }
        }
        if dead { Found::Dead } else { Found::Absent }
    }

    async fn judge(
        &self,
        presented: &Presented<'_>,
        touch: bool,
    ) -> Result<Option<Live>, StoreError> {
        let now = self.clock.now();
        let Some(opened) = self.open(presented, now).await? else {
            return Ok(None);
        };
        let record = &opened.record;
        let live = record.issuer == self.settings.issuer
            && !record.is_over(now, self.settings.lifetimes.idle)
            && self.is_unmarked(&opened).await?;
        if !live {
            self.cache.forget(presented);
            return Ok(None);
        }
        // Often enough that a short idle time does not end a session in use.
        let interval = TOUCH.min(self.settings.lifetimes.idle / 4);
        let set_cookies = if touch && now.since(record.last_seen) >= interval {
            self.touch(&opened, now).await
        } else {
            Vec::new()
        };
        Ok(Some(Live { opened, set_cookies }))
    }

    /// Opens what the browser holds, or finds it opened.
    async fn open(
        &self,
        presented: &Presented<'_>,
        now: UnixTime,
    ) -> Result<Option<Arc<Opened>>, StoreError> {
        let cached = self.cache.find(presented);
        let opened = match &cached {
            Some(opened) => match (&opened.stored, &self.store) {
                (None, _) => return Ok(cached),
                (Some(_), None) => return Ok(None),
                (Some(at), Some(store)) => {
                    let Some(value) = store.load(&at.key).await? else {
                        self.cache.forget(presented);
                        return Ok(None);
                    };
                    if value == at.value {
                        return Ok(cached);
                    }
                    self.open_stored(at.key.clone(), at.seal.clone(), value, now)
                }
            },
            None => match presented.decode() {
                None => None,
                Some(Held::Sealed(sealed)) => {
                    self.open_sealed(&sealed, now).map(|record| self.opened(record, None))
                }
                Some(Held::Stored { id, key }) => {
                    let Some(store) = &self.store else {
                        return Ok(None);
                    };
                    let at = self.session_key(&id);
                    match store.load(&at).await? {
                        None => None,
                        Some(value) => self.open_stored(at, SecretBytes::new(key), value, now),
                    }
                }
            },
        };
        let opened = opened.map(Arc::new);
        if let Some(opened) = &opened {
            self.cache.remember(presented, opened.clone());
        }
        Ok(opened)
    }

    fn open_sealed(&self, sealed: &[u8], now: UnixTime) -> Option<Record> {
        let name = self.cookies.name(Own::Session(0));
        let plain = self.sealer.open(Purpose::SessionCookie, name.as_bytes(), now, sealed).ok()?;
        Record::decode(&plain)
    }

    fn open_stored(
        &self,
        key: Key,
        seal: SecretBytes<32>,
        value: Bytes,
        now: UnixTime,
    ) -> Option<Opened> {
        let plain = self
            .sealer
            .open_under(seal.expose(), Purpose::SessionRecord, key.as_bytes(), now, &value)
            .ok()?;
        let record = Record::decode(&plain)?;
        Some(self.opened(record, Some(StoredAt { key, seal, value })))
    }

    fn opened(&self, record: Record, stored: Option<StoredAt>) -> Opened {
        let marks = self.revocation.keys(
            &record.id,
            &record.issuer,
            &record.subject,
            record.sid.as_deref(),
        );
        Opened {
            identity: record.identity(),
            record,
            marks,
            stored,
            seen_epoch: AtomicU64::new(0),
            seen_at: AtomicU64::new(0),
        }
    }

    /// Tells whether no logout has ended the session.
    pub(crate) async fn is_unmarked(&self, opened: &Opened) -> Result<bool, StoreError> {
        let epoch = self.revocation.epoch();
        if !self.revocation.shared() && opened.seen_epoch.load(Ordering::Acquire) == epoch {
            return Ok(true);
        }
        let now = u64::try_from(self.clock.monotonic().as_millis()).unwrap_or(u64::MAX);
        match self.revocation.marks(&opened.marks).await {
            Ok(marks) => {
                let same = marks.baseline == opened.record.baseline;
                if same {
                    opened.seen_epoch.store(epoch, Ordering::Release);
                    opened.seen_at.store(now.max(1), Ordering::Release);
                }
                Ok(same)
            }
            Err(error) => {
                // A sealed session may go on for a while on what was seen last.
                let seen = opened.seen_at.load(Ordering::Acquire);
                let within_grace = seen > 0
                    && self.settings.revocation_grace.is_none_or(|grace| {
                        Duration::from_millis(now.saturating_sub(seen)) <= grace
                    });
                if opened.stored.is_none() && within_grace {
                    return Ok(true);
                }
                Err(error)
            }
        }
    }

    /// Notes that the person is still there.
    async fn touch(&self, opened: &Opened, now: UnixTime) -> Vec<HeaderValue> {
        let mut record = opened.record.clone();
        record.last_seen = now;
        match &opened.stored {
            // It fitted when it was made and has not grown.
            None => match self.sealed_values(&record) {
                Some(values) => {
                    // Known before it comes back, with what was seen of its marks.
                    let renewed = self.opened(record, None);
                    for (seen, before) in [
                        (&renewed.seen_epoch, &opened.seen_epoch),
                        (&renewed.seen_at, &opened.seen_at),
                    ] {
                        seen.store(before.load(Ordering::Acquire), Ordering::Release);
                    }
                    let cookies = self.chunk_cookies(&values, renewed.record.absolute_end, now);
                    if let Some(presented) = Presented::of(&values) {
                        self.cache.remember(&presented, Arc::new(renewed));
                    }
                    cookies
                }
                None => Vec::new(),
            },
            Some(at) => {
                let refreshing = record
                    .tokens
                    .as_ref()
                    .and_then(|tokens| tokens.refresh.as_ref())
                    .is_some_and(|refresh| refresh.exchanging.is_some());
                if !refreshing {
                    // A failure costs nothing: the next request tries again.
                    let _ = self.replace(at, &record, now).await;
                }
                Vec::new()
            }
        }
    }

    /// Makes the session of a completed login, with a new id.
    ///
    /// # Errors
    ///
    /// `SignedOutMeanwhile` if a logout arrived while the login was under way,
    /// `SessionTooLarge`, or `StoreUnavailable`; no session exists then.
    pub(crate) async fn establish(
        &self,
        login: Login,
        headers: &HeaderMap,
    ) -> Result<Vec<HeaderValue>, AuthError> {
        let now = self.clock.now();
        let id: [u8; 16] = random();
        let issuer = self.settings.issuer.clone();
        if login.begun.is_none() {
            // The store had no room for the counter when the login began; it may have now. Without
            // one the session is of no incarnation, and ends when one appears.
            let _ = self.revocation.counter().await;
        }
        let keys = self.revocation.keys(&id, &issuer, &login.subject, login.sid.as_deref());
        let marks = self.revocation.marks(&keys).await.map_err(|error| unavailable(&error))?;
        if !marks.predate(login.begun) {
            return Err(AuthError::new(ErrorKind::SignedOutMeanwhile, "marked"));
        }
        let mut absolute_end = now + self.settings.lifetimes.absolute;
        if let Some(expiry) = login.session_expiry {
            absolute_end = absolute_end.min(expiry);
        }
        let mut record = Record {
            id,
            issuer,
            subject: login.subject,
            sid: login.sid,
            acr: login.acr,
            auth_time: login.auth_time,
            claims: serde_json::Value::Object(login.claims).to_string(),
            created: now,
            absolute_end,
            last_seen: now,
            baseline: marks.baseline,
            tokens: None,
        };
        let lifetime = absolute_end.since(now);
        let (mut set_cookies, hint) = match (self.settings.kind, &self.store) {
            (Sessions::Stored, Some(store)) => {
                record.tokens = Some(Tokens {
                    id: Some(login.id_token),
                    nonce: Some(login.nonce),
                    refresh: login.refresh,
                });
                let seal = SecretBytes::<32>::random();
                let key = self.session_key(&id);
                let value = self.seal_record(&key, &seal, &record);
                let ttl = self.ttl(&record, now);
                let inserted = store.insert(&key, value, ttl).await;
                match inserted {
                    Ok(true) => {}
                    Ok(false) => {
                        return Err(AuthError::new(ErrorKind::StoreUnavailable, "id_taken"));
                    }
                    Err(error) => return Err(unavailable(&error)),
                }
                let text = base64url([&id[..], seal.expose()].concat());
                (vec![self.cookies.set(Own::Session(0), &format!("v1.{text}"), lifetime)], None)
            }
            _ => {
                let cookies = self.sealed_cookies(&record, now).ok_or_else(|| {
                    AuthError::new(ErrorKind::SessionTooLarge, "cookies")
                        .with_hint("keep sessions in a store, or allow fewer claims")
                })?;
                (cookies, Some(self.hint_cookie(&id, &login.id_token, absolute_end, now)))
            }
        };
        // Chunks of an older, longer session would only be carried along.
        let written = set_cookies.len();
        for (own, _) in self.cookies.read(headers) {
            if let Own::Session(chunk) = own
                && chunk > 0
                && (chunk >= written || self.settings.kind == Sessions::Stored)
            {
                set_cookies.push(self.cookies.remove(own));
            }
        }
        set_cookies.extend(hint);
        Ok(set_cookies)
    }

    /// Ends a session everywhere it can be presented.
    pub(crate) async fn end(&self, session: &SessionRef) -> Result<(), StoreError> {
        if let (true, Some(store)) = (session.stored, &self.store) {
            store.take(&self.session_key(&session.id)).await?;
            return Ok(());
        }
        let ttl = session.ends.since(self.clock.now()) + TOUCH;
        self.revocation.mark(Target::Session(&session.id), ttl).await
    }

    /// Returns what a browser claims to hold, without asking the store: enough to end it later.
    pub(crate) fn claimed(&self, headers: &HeaderMap) -> Vec<SessionRef> {
        let now = self.clock.now();
        let (candidates, _) = Presented::read(&self.cookies, headers);
        let held = candidates.into_iter().flatten().filter_map(|presented| presented.decode());
        held.filter_map(|held| match held {
            // 128 random bits name a stored session; whoever knows them holds it.
            Held::Stored { id, .. } => {
                Some(SessionRef { id, stored: true, ends: now + self.settings.lifetimes.absolute })
            }
            Held::Sealed(sealed) => {
                let record = self.open_sealed(&sealed, now)?;
                Some(SessionRef { id: record.id, stored: false, ends: record.absolute_end })
            }
        })
        .collect()
    }

    /// Returns the `Set-Cookie` values that remove every session cookie of a request, and the note
    /// of a completed login with them.
    pub(crate) fn clear(&self, headers: &HeaderMap) -> Vec<HeaderValue> {
        let mut present = [false; MAX_CHUNKS];
        let mut notice = false;
        for (own, _) in self.cookies.read(headers) {
            match own {
                Own::Session(chunk) => present[chunk] = true,
                Own::Notice => notice = true,
                _ => {}
            }
        }
        let chunks = present.iter().enumerate().filter(|(_, present)| **present);
        let mut removals: Vec<_> =
            chunks.map(|(chunk, _)| self.cookies.remove(Own::Session(chunk))).collect();
        if notice {
            removals.push(self.cookies.remove(Own::Notice));
        }
        removals
    }

    /// Returns the ID token kept for the provider's logout, if this session has one.
    pub(crate) fn id_token(&self, opened: &Opened, headers: &HeaderMap) -> Option<String> {
        if let Some(tokens) = &opened.record.tokens {
            // A longer URL is refused by servers; the provider knows the client by its id then.
            return tokens.id.clone().filter(|id_token| id_token.len() <= MAX_HINT);
        }
        let now = self.clock.now();
        let context = self.hint_context(&opened.record.id);
        self.cookies.read(headers).find_map(|(own, value)| {
            if own != Own::LogoutHint {
                return None;
            }
            let sealed = from_base64url(value)?;
            let plain = self.sealer.open(Purpose::LogoutHint, &context, now, &sealed).ok()?;
            String::from_utf8(plain).ok()
        })
    }

    fn hint_cookie(
        &self,
        id: &[u8; 16],
        id_token: &str,
        end: UnixTime,
        now: UnixTime,
    ) -> HeaderValue {
        let context = self.hint_context(id);
        let sealed = self.sealer.seal(Purpose::LogoutHint, &context, end, id_token.as_bytes());
        let text = base64url(sealed);
        let fits = id_token.len() <= MAX_HINT && text.len() <= 3_800;
        // An older hint must not stay behind: it would speak of another session.
        if fits {
            self.cookies.set(Own::LogoutHint, &text, end.since(now))
        } else {
            self.cookies.remove(Own::LogoutHint)
        }
    }

    fn hint_context(&self, id: &[u8; 16]) -> Vec<u8> {
        let name = self.cookies.name(Own::LogoutHint);
        [name.as_bytes(), b"\0", id].concat()
    }

    fn sealed_cookies(&self, record: &Record, now: UnixTime) -> Option<Vec<HeaderValue>> {
        let values = self.sealed_values(record)?;
        Some(self.chunk_cookies(&values, record.absolute_end, now))
    }

    fn sealed_values(&self, record: &Record) -> Option<Vec<String>> {
        let name = self.cookies.name(Own::Session(0));
        let sealed = self.sealer.seal(
            Purpose::SessionCookie,
            name.as_bytes(),
            record.absolute_end,
            &record.encode(),
        );
        split(&base64url(sealed), self.settings.max_cookie_bytes)
    }

    fn chunk_cookies(&self, values: &[String], end: UnixTime, now: UnixTime) -> Vec<HeaderValue> {
        let cookie = |(chunk, value): (usize, &String)| {
            self.cookies.set(Own::Session(chunk), value, end.since(now))
        };
        values.iter().enumerate().map(cookie).collect()
    }

    /// Replaces a stored record by a newer one, unless somebody else has changed it meanwhile.
    pub(crate) async fn replace(
        &self,
        at: &StoredAt,
        record: &Record,
        now: UnixTime,
    ) -> Result<Option<StoredAt>, StoreError> {
        let Some(store) = &self.store else {
            return Ok(None);
        };
        let value = self.seal_record(&at.key, &at.seal, record);
        let ttl = self.ttl(record, now);
        let swapped = store.swap(&at.key, &at.value, value.clone(), ttl).await?;
        Ok(swapped.then(|| StoredAt { value, ..at.clone() }))
    }

    /// Removes a stored session if it is still as it was read.
    pub(crate) async fn end_record(&self, at: &StoredAt) -> Result<bool, StoreError> {
        match &self.store {
            Some(store) => store.remove_if(&at.key, &at.value).await,
            None => Ok(true),
        }
    }

    /// Asks for the right to refresh a session.
    pub(crate) async fn take_lease(
        &self,
        lease: &Key,
        holder: Bytes,
        ttl: Duration,
    ) -> Result<bool, StoreError> {
        match &self.store {
            Some(store) => store.insert(lease, holder, ttl).await,
            None => Ok(false),
        }
    }

    /// Holds on to the right to refresh; `false` if it is lost, or nobody can tell.
    pub(crate) async fn renew_lease(&self, lease: &Key, holder: Bytes, ttl: Duration) -> bool {
        match &self.store {
            Some(store) => store.swap(lease, &holder, holder.clone(), ttl).await.unwrap_or(false),
            None => false,
        }
    }

    /// Gives the right to refresh back; if that fails it lapses by itself.
    pub(crate) async fn release_lease(&self, lease: &Key, holder: &Bytes) {
        if let Some(store) = &self.store {
            let _ = store.remove_if(lease, holder).await;
        }
    }

    pub(crate) fn lease_key(&self, id: &[u8; 16]) -> Key {
        Key::new(&self.settings.prefix, "lease", id)
    }

    /// Reads a stored session anew; `None` if it is gone.
    pub(crate) async fn reread(&self, at: &StoredAt) -> Result<Option<Opened>, StoreError> {
        let Some(store) = &self.store else {
            return Ok(None);
        };
        let value = store.load(&at.key).await?;
        let now = self.clock.now();
        Ok(value.and_then(|value| self.open_stored(at.key.clone(), at.seal.clone(), value, now)))
    }

    fn seal_record(&self, key: &Key, seal: &SecretBytes<32>, record: &Record) -> Bytes {
        self.sealer
            .seal_under(
                seal.expose(),
                Purpose::SessionRecord,
                key.as_bytes(),
                record.absolute_end,
                &record.encode(),
            )
            .into()
    }

    fn ttl(&self, record: &Record, now: UnixTime) -> Duration {
        let idle_end = record.idle_end(self.settings.lifetimes.idle);
        // A moment longer than it counts, so that "over" is judged here and not by the store.
        (idle_end.since(now) + Duration::from_secs(1)).min(self.settings.lifetimes.absolute)
    }

    fn session_key(&self, id: &[u8; 16]) -> Key {
        Key::new(&self.settings.prefix, "session", id)
    }
}

impl Live {
    /// Returns what is kept for the next refresh, if anything is.
    pub(crate) fn refresh(&self) -> Option<&super::Refresh> {
        self.opened.record.tokens.as_ref()?.refresh.as_ref()
    }

    pub(crate) fn identity(&self) -> &Identity {
        &self.opened.identity
    }
}

/// The refusal for a store that did not do what it was asked.
pub(crate) fn unavailable(error: &StoreError) -> AuthError {
    use crate::store::StoreErrorKind;

    AuthError::new(
        ErrorKind::StoreUnavailable,
        match error.kind() {
            StoreErrorKind::Full => "full",
            StoreErrorKind::TimedOut => "timed_out",
            StoreErrorKind::Unavailable => "unavailable",
        },
    )
}
