//! The keeper of sessions: finds, judges and prolongs them.
//!
//! It makes them in [`super::establish`], ends them in [`super::end`] and changes stored records in
//! [`super::stored`].

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue};

use super::cache::{Cache, Opened, StoredAt};
use super::chunk::{Held, Presented, split};
use super::revocation::Revocation;
use super::seen::Seen;
use super::watch::Watches;
use super::{Lifetimes, Record, Sessions};
use crate::clock::{Clock, UnixTime};
use crate::cookies::{Cookies, Only, Own};
use crate::error::{AuthError, ErrorKind};
use crate::identity::Identity;
use crate::rules::Rules;
use crate::seal::{Purpose, Sealer};
use crate::secret::{SecretBytes, base64url};
use crate::store::{Key, Store, StoreError, join};

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

/// Whether a look-up may wait for the store.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Patience {
    /// No: where it would have to, it never ends, and nothing was sent.
    None,
    /// Yes.
    Some,
    /// Yes, and copies of what the store holds will not do.
    Thorough,
}

/// A live session.
#[derive(Debug)]
pub(crate) struct Live {
    pub(crate) opened: Arc<Opened>,
    /// Cookies that prolong it; usually none.
    pub(crate) set_cookies: Vec<HeaderValue>,
    /// Where its cookie is, if the request has no other of ours.
    pub(crate) only: Option<Only>,
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
    /// Whether logins record the `sid` of the provider's session, for front-channel logout.
    pub(crate) record_sids: bool,
    /// Who may use the application, as the door has it.
    pub(crate) rules: Arc<Rules>,
}

/// Keeps the sessions of one layer.
#[derive(Debug)]
pub(crate) struct Keeper {
    pub(super) settings: Settings,
    /// Where stored sessions lie, if they can.
    pub(super) store: Option<Arc<dyn Store>>,
    pub(super) revocation: Revocation,
    pub(super) sealer: Sealer,
    pub(super) cookies: Arc<Cookies>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) watches: Watches,
    pub(super) seen: Seen,
    pub(super) cache: Cache,
    /// Handed to the sessions it opens.
    me: Weak<Self>,
}

/// That a session was not signed out is noted at most this often, in milliseconds.
const NOTED_EVERY: u64 = 1_000;
/// A session is prolonged at most this often.
const TOUCH: Duration = Duration::from_secs(60);

impl Keeper {
    pub(crate) fn new(
        settings: Settings,
        store: Option<Arc<dyn Store>>,
        revocation: Revocation,
        sealer: Sealer,
        cookies: Arc<Cookies>,
        clock: Arc<dyn Clock>,
    ) -> Arc<Self> {
        let cache = Cache::new(settings.cache_capacity);
        let seen = Seen::new(settings.cache_capacity);
        let watches = Watches::default();
        Arc::new_cyclic(|me| Self {
            settings,
            store,
            revocation,
            sealer,
            cookies,
            clock,
            watches,
            seen,
            cache,
            me: me.clone(),
        })
    }

    pub(crate) const fn revocation(&self) -> &Revocation {
        &self.revocation
    }

    /// Tells whether the access rules let somebody in who is signed in.
    pub(crate) fn admits(&self, live: &Live) -> bool {
        self.settings.rules.judge(&live.opened.facts).is_ok()
    }

    pub(crate) const fn lifetimes(&self) -> &Lifetimes {
        &self.settings.lifetimes
    }

    /// Finds the session of a request. `touch` prolongs it: a request of the person does, a page
    /// that only asks how long it lasts does not.
    pub(crate) async fn find(&self, headers: &HeaderMap, touch: bool) -> Found {
        self.look(headers, touch, Patience::Some).await
    }

    /// Finds the session of a request as it is in the store now, whatever copies say.
    pub(crate) async fn find_now(&self, headers: &HeaderMap, touch: bool) -> Found {
        self.look(headers, touch, Patience::Thorough).await
    }

    /// Finds the session of a request, if that needs no waiting or waiting is allowed.
    pub(crate) async fn look(&self, headers: &HeaderMap, touch: bool, patience: Patience) -> Found {
        let (candidates, seen) = Presented::read(&self.cookies, headers);
        let mut dead = seen.any;
        for presented in candidates.into_iter().flatten() {
            match self.judge(&presented, touch, patience).await {
                Ok(Some(live)) => return Found::Live(Live { only: seen.only, ..live }),
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
        patience: Patience,
    ) -> Result<Option<Live>, StoreError> {
        let now = self.clock.now();
        let Some((opened, unmarked)) = self.open(presented, now, patience).await? else {
            return Ok(None);
        };
        let record = &opened.record;
        let live = record.issuer == self.settings.issuer
            && !record.is_over(now, self.settings.lifetimes.idle)
            && unmarked;
        if !live {
            self.cache.forget(presented);
            return Ok(None);
        }
        // Often enough that a short idle time does not end a session in use.
        let interval = TOUCH.min(self.settings.lifetimes.idle / 4);
        let set_cookies = if touch && now.since(record.last_seen) >= interval {
            self.touch(&opened, now, patience).await
        } else {
            Vec::new()
        };
        Ok(Some(Live { opened, set_cookies, only: None }))
    }

    /// Opens what the browser holds, or finds it opened; and tells whether no sign-out ended it.
    async fn open(
        &self,
        presented: &Presented<'_>,
        now: UnixTime,
        patience: Patience,
    ) -> Result<Option<(Arc<Opened>, bool)>, StoreError> {
        if let Some(opened) = self.cache.find(presented) {
            return match (&opened.stored, &self.store) {
                (None, _) => {
                    let unmarked = self.is_unmarked(&opened, patience).await?;
                    Ok(Some((opened, unmarked)))
                }
                (Some(_), None) => Ok(None),
                (Some(at), Some(store)) => {
                    // Both at once: the marks of a session are under the same keys whatever has
                    // become of its record.
                    let value = load(&**store, &at.key, patience);
                    let (value, unmarked) = join(value, self.is_unmarked(&opened, patience)).await;
                    let Some(value) = value? else {
                        self.cache.forget(presented);
                        return Ok(None);
                    };
                    if value == at.value {
                        return Ok(Some((opened, unmarked?)));
                    }
                    let unmarked = unmarked?;
                    let again = self.open_stored(at.key.clone(), at.seal.clone(), value, now);
                    Ok(again.map(|again| (self.remember(presented, again), unmarked)))
                }
            };
        }
        let opened = match presented.decode() {
            None => None,
            Some(Held::Sealed(sealed)) => {
                self.open_sealed(&sealed, now).map(|record| self.opened(record, None))
            }
            Some(Held::Stored(sealed)) => {
                let (Some(store), Some((id, seal))) = (&self.store, self.open_handle(&sealed, now))
                else {
                    return Ok(None);
                };
                let at = self.session_key(&id);
                match load(&**store, &at, patience).await? {
                    None => None,
                    Some(value) => self.open_stored(at, seal, value, now),
                }
            }
        };
        let Some(opened) = opened.map(|opened| self.remember(presented, opened)) else {
            return Ok(None);
        };
        let unmarked = self.is_unmarked(&opened, patience).await?;
        Ok(Some((opened, unmarked)))
    }

    fn remember(&self, presented: &Presented<'_>, opened: Opened) -> Arc<Opened> {
        let opened = Arc::new(opened);
        self.cache.remember(presented, opened.clone());
        opened
    }

    pub(super) fn open_sealed(&self, sealed: &[u8], now: UnixTime) -> Option<Record> {
        let name = self.cookies.name(Own::Session(0));
        let plain = self.sealer.open(Purpose::SessionCookie, name.as_bytes(), now, sealed).ok()?;
        Record::decode(&plain)
    }

    /// Seals the id and the key of a stored session for its cookie.
    pub(super) fn seal_handle(
        &self,
        id: &[u8; 16],
        seal: &SecretBytes<32>,
        end: UnixTime,
    ) -> String {
        let name = self.cookies.name(Own::Session(0));
        let plain = [&id[..], seal.expose()].concat();
        base64url(self.sealer.seal(Purpose::StoredSession, name.as_bytes(), end, &plain))
    }

    /// Opens what [`Keeper::seal_handle`] made.
    pub(super) fn open_handle(
        &self,
        sealed: &[u8],
        now: UnixTime,
    ) -> Option<([u8; 16], SecretBytes<32>)> {
        let name = self.cookies.name(Own::Session(0));
        let plain = self.sealer.open(Purpose::StoredSession, name.as_bytes(), now, sealed).ok()?;
        let (id, seal) = plain.split_at_checked(16)?;
        let seal = <[u8; 32]>::try_from(seal).ok()?;
        Some((id.try_into().ok()?, SecretBytes::new(seal)))
    }

    pub(super) fn open_stored(
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

    pub(super) fn opened(&self, record: Record, stored: Option<StoredAt>) -> Opened {
        let marks = self.revocation.keys(
            &record.id,
            &record.issuer,
            &record.subject,
            record.sid.as_deref(),
        );
        Opened {
            facts: record.facts(),
            keeper: self.me.clone(),
            record,
            marks,
            stored,
            seen_epoch: AtomicU64::new(0),
            seen_at: AtomicU64::new(0),
        }
    }

    /// Tells whether no logout has ended the session.
    pub(crate) async fn is_unmarked(
        &self,
        opened: &Opened,
        patience: Patience,
    ) -> Result<bool, StoreError> {
        let epoch = self.revocation.epoch();
        if !self.revocation.shared() && opened.seen_epoch.load(Ordering::Acquire) == epoch {
            return Ok(true);
        }
        let now = u64::try_from(self.clock.monotonic().as_millis()).unwrap_or(u64::MAX);
        let marks = match patience {
            Patience::Thorough => self.revocation.marks(&opened.marks).await,
            _ => match self.revocation.marks_cached(&opened.marks, patience).await {
                // Nobody is signed out by a copy.
                Ok(marks)
                    if marks.baseline != opened.record.baseline && self.revocation.shared() =>
                {
                    if patience == Patience::None {
                        return std::future::pending().await;
                    }
                    self.revocation.marks(&opened.marks).await
                }
                marks => marks,
            },
        };
        match marks {
            Ok(marks) => {
                let same = marks.baseline == opened.record.baseline;
                if !same {
                    // Over for every cookie of it, also while the store is away.
                    self.seen.forget(&opened.record.id);
                } else {
                    opened.seen_epoch.store(epoch, Ordering::Release);
                    let before = opened.seen_at.swap(now.max(1), Ordering::AcqRel);
                    // Another cookie of this session may come next, from another pod.
                    if opened.stored.is_none() && now.saturating_sub(before) >= NOTED_EVERY {
                        self.seen.note(&opened.record.id, now.max(1));
                    }
                }
                Ok(same)
            }
            Err(error) => {
                // A sealed session may go on for a while on what was seen last.
                let within_grace = self.seen.find(&opened.record.id).is_some_and(|seen| {
                    self.settings.revocation_grace.is_none_or(|grace| {
                        Duration::from_millis(now.saturating_sub(seen)) <= grace
                    })
                });
                if opened.stored.is_none() && within_grace {
                    return Ok(true);
                }
                Err(error)
            }
        }
    }

    /// Notes that the person is still there.
    async fn touch(&self, opened: &Opened, now: UnixTime, patience: Patience) -> Vec<HeaderValue> {
        if patience == Patience::None && opened.stored.is_some() && self.revocation.shared() {
            // Nothing is written by a look that may be repeated.
            return std::future::pending().await;
        }
        self.watches.seen(&opened.record.id, now);
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
                    let texts: Vec<&[u8]> = values.iter().map(String::as_bytes).collect();
                    if let Some(presented) = Presented::of(&texts) {
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

    pub(super) fn sealed_cookies(
        &self,
        record: &Record,
        now: UnixTime,
    ) -> Option<Vec<HeaderValue>> {
        let values = self.sealed_values(record)?;
        Some(self.chunk_cookies(&values, record.absolute_end, now))
    }

    pub(super) fn sealed_values(&self, record: &Record) -> Option<Vec<String>> {
        let name = self.cookies.name(Own::Session(0));
        let sealed = self.sealer.seal(
            Purpose::SessionCookie,
            name.as_bytes(),
            record.absolute_end,
            &record.encode(),
        );
        split(&base64url(sealed), self.settings.max_cookie_bytes)
    }

    pub(super) fn chunk_cookies(
        &self,
        values: &[String],
        end: UnixTime,
        now: UnixTime,
    ) -> Vec<HeaderValue> {
        let cookie = |(chunk, value): (usize, &String)| {
            self.cookies.set(Own::Session(chunk), value, end.since(now))
        };
        values.iter().enumerate().map(cookie).collect()
    }

    pub(super) fn seal_record(&self, key: &Key, seal: &SecretBytes<32>, record: &Record) -> Bytes {
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

    pub(super) fn ttl(&self, record: &Record, now: UnixTime) -> Duration {
        let idle_end = record.idle_end(self.settings.lifetimes.idle);
        // A moment longer than it counts, so that "over" is judged here and not by the store.
        (idle_end.since(now) + Duration::from_secs(1)).min(self.settings.lifetimes.absolute)
    }

    pub(super) fn session_key(&self, id: &[u8; 16]) -> Key {
        Key::new(&self.settings.prefix, "session", id)
    }
}

impl Live {
    /// Returns what is kept for the next refresh, if anything is.
    pub(crate) fn refresh(&self) -> Option<&super::Refresh> {
        self.opened.record.tokens.as_ref()?.refresh.as_ref()
    }

    pub(crate) fn identity(&self) -> Identity {
        Identity::new(self.opened.clone())
    }
}

/// Loads a value; for ever, if it is not there and nobody may wait for it: what has to be sent for it
/// is sent when it is polled. A copy that says that something is gone is not believed: nobody is
/// signed out by it.
async fn load(
    store: &dyn Store,
    key: &Key,
    patience: Patience,
) -> Result<Option<Bytes>, StoreError> {
    if patience == Patience::Thorough {
        return store.load(key).await;
    }
    let answer = store.load_cached(key);
    if !answer.is_ready() {
        return match patience {
            Patience::None => std::future::pending().await,
            _ => answer.await,
        };
    }
    match answer.await? {
        None if store.shared() => match patience {
            Patience::None => std::future::pending().await,
            _ => store.load(key).await,
        },
        value => Ok(value),
    }
}

/// The refusal for a store that did not do what it was asked.
pub(crate) fn unavailable(error: &StoreError) -> AuthError {
    use crate::store::StoreErrorKind;

    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        tracing::warn!(%cause, "{error}");
        source = cause.source();
    }

    AuthError::new(
        ErrorKind::StoreUnavailable,
        match error.kind() {
            StoreErrorKind::Full => "full",
            StoreErrorKind::TimedOut => "timed_out",
            StoreErrorKind::Unavailable => "unavailable",
        },
    )
}
