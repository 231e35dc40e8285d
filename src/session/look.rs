//! Finding the session of a request, and judging it anew: lifetimes, and the marks of sign-outs.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue};

use super::cache::Opened;
use super::chunk::{Held, Presented};
use super::keeper::{Found, Keeper, Live, Patience, unavailable};
use crate::clock::UnixTime;
use crate::store::{Key, Store, StoreError, join};

/// That a session was not signed out is noted at most this often, in milliseconds.
const NOTED_EVERY: u64 = 1_000;
/// A session is prolonged at most this often.
const TOUCH: Duration = Duration::from_secs(60);

impl Keeper {
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
                    // Another cookie of this session may come next, from another pod.
                    let noted = opened.seen_at.load(Ordering::Acquire);
                    // Zero is never: the clock may have begun a moment ago.
                    let due = noted == 0 || now.saturating_sub(noted) >= NOTED_EVERY;
                    if opened.stored.is_none() && due {
                        opened.seen_at.store(now.max(1), Ordering::Release);
                        self.seen.note(&opened.record.id, now);
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
