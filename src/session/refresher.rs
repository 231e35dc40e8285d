//! Who refreshes a session: one attempt a process, shared by all requests that wait for it.

use std::collections::HashMap;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use http::HeaderMap;
use tokio::sync::watch;

use super::attempt::{Attempt, millis};
use super::cache::Opened;
use super::keeper::{Found, Keeper, Live, Patience, unavailable};
use super::refresh::{AfterCrash, Outcome, RefreshFailure};
use crate::clock::Clock;
use crate::error::{AuthError, ErrorKind};
use crate::oidc::provider::Provider;

/// How long a request waits for a refresh; it goes on with the session as it is then.
const PATIENCE: Duration = Duration::from_secs(2);

/// Refreshes stored sessions.
pub(crate) struct Refresher {
    pub(super) keeper: Arc<Keeper>,
    pub(super) provider: Arc<Provider>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) after_crash: AfterCrash,
    failure: RefreshFailure,
    /// Names of the claims that applications see.
    pub(super) claims: Vec<String>,
    /// The attempts of this process, one a session.
    running: Mutex<HashMap<[u8; 16], watch::Receiver<Option<Outcome>>>>,
    /// After a failure the provider is left alone until then, in monotonic milliseconds, whatever
    /// session asks.
    pub(super) rest_until: AtomicU64,
}

impl fmt::Debug for Refresher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Refresher(..)")
    }
}

impl Refresher {
    pub(crate) fn new(
        keeper: Arc<Keeper>,
        provider: Arc<Provider>,
        clock: Arc<dyn Clock>,
        after_crash: AfterCrash,
        failure: RefreshFailure,
        claims: Vec<String>,
    ) -> Self {
        Self {
            keeper,
            provider,
            clock,
            after_crash,
            failure,
            claims,
            running: Mutex::default(),
            rest_until: AtomicU64::new(0),
        }
    }

    /// Refreshes a session that was found, if it is due. Requests of one session share an attempt;
    /// one that goes away, or loses patience, stops nothing.
    pub(crate) async fn settle(
        self: &Arc<Self>,
        live: Live,
        headers: &HeaderMap,
        patience: Patience,
    ) -> Found {
        // Without a refresh token no clock is asked.
        let is_due = live.refresh().is_some_and(|refresh| self.clock.now() >= refresh.due);
        let may_end = self.failure == RefreshFailure::SignIn && self.has_run_out(&live);
        if (is_due || may_end) && live.opened.stored.is_some() && patience == Patience::None {
            return std::future::pending().await;
        }
        if !is_due || live.opened.stored.is_none() {
            // Nearly always the token is good; else the provider has failed a moment ago.
            return self.unrefreshed(live, headers, Outcome::Kept).await;
        }
        if millis(self.clock.monotonic()) < self.rest_until.load(Ordering::Acquire) {
            // It may have failed another session only.
            return self.unrefreshed(live, headers, Outcome::Unknown).await;
        }
        let mut outcome = self.join_or_begin(&live.opened);
        let known = tokio::time::timeout(PATIENCE, outcome.wait_for(Option::is_some)).await;
        let outcome = known.ok().and_then(Result::ok).and_then(|outcome| *outcome);
        match outcome {
            Some(Outcome::Ended) => Found::Dead,
            Some(Outcome::Refreshed | Outcome::Shared) => self.keeper.find(headers, false).await,
            Some(outcome @ (Outcome::Kept | Outcome::Unknown)) => {
                self.unrefreshed(live, headers, outcome).await
            }
            None => self.unrefreshed(live, headers, Outcome::Unknown).await,
        }
    }

    /// Decides what a session is good for that was due and has no new tokens.
    async fn unrefreshed(&self, live: Live, headers: &HeaderMap, outcome: Outcome) -> Found {
        if self.failure == RefreshFailure::Continue || !self.has_run_out(&live) {
            return Found::Live(live);
        }
        // Nobody is signed out because of a store, or for what another session met.
        if self.failure == RefreshFailure::SignIn && outcome == Outcome::Kept {
            // The attempt has changed it; another one may have refreshed it by now.
            let live = match self.keeper.find(headers, false).await {
                Found::Live(live) if self.has_run_out(&live) => live,
                found => return found,
            };
            let ended = match &live.opened.stored {
                Some(at) => self.keeper.end_record(at).await,
                None => Ok(false),
            };
            match ended {
                Ok(true) => return Found::Dead,
                Ok(false) => {}
                Err(error) => return Found::Unknown(unavailable(&error)),
            }
        }
        Found::Unknown(AuthError::new(ErrorKind::ProviderUnavailable, "refresh"))
    }

    /// Tells whether a session has an access token that is over.
    fn has_run_out(&self, live: &Live) -> bool {
        live.refresh().is_some_and(|refresh| self.clock.now() >= refresh.expires)
    }

    fn join_or_begin(self: &Arc<Self>, opened: &Arc<Opened>) -> watch::Receiver<Option<Outcome>> {
        let id = opened.record.id;
        let mut running = self.running();
        if let Some(outcome) = running.get(&id) {
            return outcome.clone();
        }
        let (sender, receiver) = watch::channel(None);
        running.insert(id, receiver.clone());
        let (refresher, opened) = (self.clone(), opened.clone());
        tokio::spawn(async move {
            // Removed even if the attempt should panic, so that the next one can begin.
            let _entry = Entry { refresher: &refresher, id };
            let outcome = match Attempt::new(&refresher, &opened) {
                Some(attempt) => attempt.run().await,
                None => Outcome::Kept,
            };
            let _ = sender.send(Some(outcome));
        });
        receiver
    }

    fn running(&self) -> MutexGuard<'_, HashMap<[u8; 16], watch::Receiver<Option<Outcome>>>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

struct Entry<'a> {
    refresher: &'a Refresher,
    id: [u8; 16],
}

impl Drop for Entry<'_> {
    fn drop(&mut self) {
        self.refresher.running().remove(&self.id);
    }
}
