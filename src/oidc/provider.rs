//! The provider: its settings, and a snapshot of its metadata and keys that is kept fresh.
//!
//! Nothing is fetched before it is needed. A snapshot older than its refresh time is still used
//! while one task fetches a newer one; if that fails the old one stays. So the layer starts while
//! the provider is down, and sessions never notice.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http::Request;
use http::header::CACHE_CONTROL;
use url::Url;

use super::http::{Answer, CallError, Outbound};
use super::id_token::{Expected, IdClaims, Nonce, accept};
use super::jws::{JwsError, Unverified, Verified};
use super::keys::Keys;
use super::logout_token::{self, LogoutClaims};
use super::metadata::Metadata;
use super::settings::Settings;
use crate::clock::Clock;
use crate::error::{AuthError, ErrorKind};

/// Metadata and keys as they were fetched together.
#[derive(Clone, Debug)]
pub(crate) struct Snapshot {
    pub(crate) metadata: Arc<Metadata>,
    keys: Arc<Keys>,
    /// On the monotonic clock.
    fetched: Duration,
    /// How long it is used without asking again.
    fresh_for: Duration,
}

/// The provider as this process knows it.
#[derive(Debug)]
pub(crate) struct Provider {
    settings: Settings,
    outbound: Outbound,
    clock: Arc<dyn Clock>,
    known: Mutex<Known>,
    /// Held while one task fetches; the others wait for what it brings.
    fetching: tokio::sync::Mutex<()>,
}

/// What asking for keys out of turn brought.
enum Newer {
    /// Keys that were fetched now.
    Fetched(Arc<Keys>),
    /// It was asked too often lately.
    Refused,
    /// Keys that another task has fetched.
    Shared(Arc<Keys>),
    /// The provider did not answer.
    Unavailable,
}

#[derive(Debug, Default)]
struct Known {
    snapshot: Option<Snapshot>,
    /// Counts the fetches that were completed, well or badly.
    completed: u64,
    /// When a fetch last failed, and how.
    failed: Option<(Duration, AuthError)>,
    refreshing: bool,
    /// When keys were asked for out of turn; at most two are remembered.
    out_of_turn: Vec<Duration>,
    /// The same for logout tokens: anybody can send one, and a flood of forged ones must not use up
    /// what a login needs.
    out_of_turn_for_logouts: Vec<Duration>,
}

impl Known {
    /// Tells whether keys may be asked for out of turn now.
    fn may_ask(&mut self, purpose: For, now: Duration) -> bool {
        let asked = self.asked(purpose);
        asked.retain(|at| now.saturating_sub(*at) < OUT_OF_TURN_WINDOW);
        asked.len() < OUT_OF_TURN
    }

    fn asked(&mut self, purpose: For) -> &mut Vec<Duration> {
        match purpose {
            For::Login | For::Refresh => &mut self.out_of_turn,
            For::Logout => &mut self.out_of_turn_for_logouts,
        }
    }
}

/// What a token is verified for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum For {
    Login,
    Logout,
    Refresh,
}

/// A snapshot without a word from the provider is refreshed after this.
const FRESH: Duration = Duration::from_secs(600);
const FRESH_MIN: Duration = Duration::from_secs(60);
/// A key that the provider withdrew is not believed longer than this after its withdrawal.
const FRESH_MAX: Duration = Duration::from_secs(3600);
/// With the provider away, old keys are believed this long and no longer.
const STALE_MAX: Duration = Duration::from_secs(24 * 3600);
/// After a failure nobody asks again for a moment.
const COOL_DOWN: Duration = Duration::from_millis(500);
/// Unknown key ids may cause this many extra fetches …
const OUT_OF_TURN: usize = 2;
/// … in this time.
const OUT_OF_TURN_WINDOW: Duration = Duration::from_secs(60);

impl Provider {
    pub(crate) fn new(settings: Settings, outbound: Outbound, clock: Arc<dyn Clock>) -> Self {
        Self {
            settings,
            outbound,
            clock,
            known: Mutex::default(),
            fetching: tokio::sync::Mutex::default(),
        }
    }

    pub(crate) const fn settings(&self) -> &Settings {
        &self.settings
    }

    pub(crate) const fn outbound(&self) -> &Outbound {
        &self.outbound
    }

    /// Returns the snapshot: fetched now if there is none or it is old, refreshed in the background
    /// if it is getting old, and kept in use while the provider is away.
    pub(crate) async fn snapshot(self: &Arc<Self>) -> Result<Snapshot, AuthError> {
        let now = self.clock.monotonic();
        let stale = {
            let mut known = self.known();
            let failed = known.failed.as_ref().map(|(at, _)| now.saturating_sub(*at));
            let rested = failed.is_none_or(|since| since >= FRESH_MIN);
            match known.snapshot.clone() {
                None => None,
                Some(snapshot) => {
                    let age = now.saturating_sub(snapshot.fetched);
                    if age < snapshot.fresh_for || (!rested && age < STALE_MAX) {
                        return Ok(snapshot);
                    }
                    if age < FRESH_MAX {
                        if !known.refreshing {
                            known.refreshing = true;
                            self.refresh_in_background();
                        }
                        return Ok(snapshot);
                    }
                    (age < STALE_MAX).then_some(snapshot)
                }
            }
        };
        match (self.fetch().await, stale) {
            (Err(error), Some(stale)) => {
                error.log();
                Ok(stale)
            }
            (result, _) => result,
        }
    }

    /// Returns where people sign out, if it is known by now; nothing is asked for it.
    pub(crate) fn known_end_session(&self) -> Option<Url> {
        self.known().snapshot.as_ref()?.metadata.end_session.clone()
    }

    fn refresh_in_background(self: &Arc<Self>) {
        let provider = self.clone();
        tokio::spawn(async move {
            if let Err(error) = provider.fetch().await {
                error.log();
            }
            provider.known().refreshing = false;
        });
    }

    /// Fetches a snapshot, or shares what another task fetches just now. It goes on when the caller
    /// goes away.
    async fn fetch(self: &Arc<Self>) -> Result<Snapshot, AuthError> {
        let provider = self.clone();
        let asked = self.known().completed;
        let task = tokio::spawn(async move {
            let _turn = provider.fetching.lock().await;
            {
                let known = provider.known();
                let since =
                    |at: Duration| provider.clock.monotonic().saturating_sub(at) < COOL_DOWN;
                match (&known.failed, &known.snapshot) {
                    (Some((at, error)), _) if known.completed > asked || since(*at) => {
                        return Err(error.clone());
                    }
                    (None, Some(snapshot)) if known.completed > asked => {
                        return Ok(snapshot.clone());
                    }
                    _ => {}
                }
            }
            let result = provider.fetch_now().await;
            let mut known = provider.known();
            known.completed += 1;
            match &result {
                Ok(snapshot) => {
                    known.snapshot = Some(snapshot.clone());
                    known.failed = None;
                }
                Err(error) => {
                    known.failed = Some((provider.clock.monotonic(), error.clone()));
                }
            }
            result
        });
        task.await.unwrap_or_else(|_| {
            Err(AuthError::new(ErrorKind::ProviderUnavailable, "fetch_abandoned"))
        })
    }

    async fn fetch_now(&self) -> Result<Snapshot, AuthError> {
        let settings = &self.settings;
        let metadata = match &settings.endpoints {
            Some(metadata) => metadata.clone(),
            None => {
                let internal = settings.internal_issuer.as_ref();
                let url = internal.unwrap_or(&settings.issuer).discovery_url();
                let answer = self.get(&url, "discovery").await?;
                if !answer.is_of_type(&["application/json"]) {
                    let detail = "discovery_content_type";
                    return Err(AuthError::new(ErrorKind::ProviderError, detail));
                }
                let metadata = Metadata::parse(
                    answer.body(),
                    &settings.issuer,
                    settings.client_auth,
                    settings.allow_http,
                )?;
                match internal {
                    Some(internal) => metadata.behind(&settings.issuer, internal),
                    None => metadata,
                }
            }
        };
        let (keys, fresh_for) = self.fetch_keys(&metadata.jwks).await?;
        Ok(Snapshot {
            metadata: Arc::new(metadata),
            keys: Arc::new(keys),
            fetched: self.clock.monotonic(),
            fresh_for,
        })
    }

    async fn fetch_keys(&self, url: &Url) -> Result<(Keys, Duration), AuthError> {
        let answer = self.get(url.as_str(), "jwks").await?;
        let keys = Keys::parse(answer.body())
            .ok_or_else(|| AuthError::new(ErrorKind::ProviderError, "jwks_unusable"))?;
        let fresh_for = max_age(&answer).unwrap_or(FRESH).clamp(FRESH_MIN, FRESH_MAX);
        Ok((keys, fresh_for))
    }

    async fn get(&self, url: &str, what: &'static str) -> Result<Answer, AuthError> {
        let unavailable = |error| {
            let detail = match (what, error) {
                ("jwks", CallError::TimedOut) => "jwks_timed_out",
                ("jwks", CallError::Failed) => "jwks_unreachable",
                (_, CallError::TimedOut) => "discovery_timed_out",
                (_, CallError::Failed) => "discovery_unreachable",
            };
            AuthError::new(ErrorKind::ProviderUnavailable, detail)
        };
        let request =
            Request::get(url).body(Bytes::new()).map_err(|_| unavailable(CallError::Failed))?;
        let answer = self.outbound.call(request).await.map_err(unavailable)?;
        if answer.status() != 200 {
            let detail = if what == "jwks" { "jwks_status" } else { "discovery_status" };
            return Err(AuthError::new(ErrorKind::ProviderUnavailable, detail));
        }
        Ok(answer)
    }

    /// Returns other keys than those tried, which did not verify a token: what another task has
    /// fetched meanwhile, or what is fetched now, out of turn. Discovery is not repeated.
    async fn newer_keys(
        self: &Arc<Self>,
        metadata: &Arc<Metadata>,
        tried: &Arc<Keys>,
        purpose: For,
    ) -> Newer {
        if purpose == For::Logout {
            let mut known = self.known();
            let same = known.snapshot.as_ref().is_some_and(|s| Arc::ptr_eq(&s.keys, tried));
            // A flood of forged tokens does not even queue.
            if same && !known.may_ask(purpose, self.clock.monotonic()) {
                return Newer::Refused;
            }
        }
        let (provider, metadata, tried) = (self.clone(), metadata.clone(), tried.clone());
        let task = tokio::spawn(async move {
            let _turn = provider.fetching.lock().await;
            {
                let mut known = provider.known();
                if let Some(snapshot) = &known.snapshot
                    && !Arc::ptr_eq(&snapshot.keys, &tried)
                {
                    return Newer::Shared(snapshot.keys.clone());
                }
                let now = provider.clock.monotonic();
                if !known.may_ask(purpose, now) {
                    return Newer::Refused;
                }
                known.asked(purpose).push(now);
            }
            let Ok((keys, _)) = provider.fetch_keys(&metadata.jwks).await else {
                return Newer::Unavailable;
            };
            let keys = Arc::new(keys);
            // The document is as old as before: what comes out of turn puts nothing off.
            if let Some(snapshot) = &mut provider.known().snapshot {
                snapshot.keys = keys.clone();
            }
            Newer::Fetched(keys)
        });
        task.await.unwrap_or(Newer::Unavailable)
    }

    /// Verifies an ID token and holds it against what is expected.
    pub(crate) async fn id_token(
        self: &Arc<Self>,
        token: &str,
        expected: &Expected<'_>,
    ) -> Result<IdClaims, AuthError> {
        let refused = |detail| AuthError::new(ErrorKind::IdToken, detail);
        let purpose = match expected.nonce {
            Nonce::IfPresent(_) => For::Refresh,
            Nonce::Required(_) => For::Login,
        };
        let verified = self.verified(token, &["jwt"], purpose).await.map_err(|e| match e {
            JwsError::KeysUnavailable => AuthError::new(ErrorKind::ProviderUnavailable, e.detail()),
            error => refused(error.detail()),
        })?;
        accept(verified, expected).map_err(|detail| match detail {
            "exp_past" | "iat_future" | "iat_old" | "nbf_future" => {
                refused(detail).with_hint("compare the clocks of this machine and the provider")
            }
            detail => refused(detail),
        })
    }

    /// Verifies a logout token and judges it; the error is the detail code.
    pub(crate) async fn logout_token(
        self: &Arc<Self>,
        token: &str,
    ) -> Result<LogoutClaims, &'static str> {
        let settings = &self.settings;
        let types: &[&str] =
            if settings.logout_type_required { &["logout+jwt"] } else { &["logout+jwt", "jwt"] };
        let verified = self.verified(token, types, For::Logout).await.map_err(JwsError::detail)?;
        let expected = logout_token::Expected {
            issuer: settings.issuer.as_str(),
            client_id: settings.client_id.as_str(),
            trusted_audiences: &settings.trusted_audiences,
            now: self.clock.now(),
            leeway: settings.leeway,
            type_required: settings.logout_type_required,
            without_exp: settings.logout_without_exp,
        };
        logout_token::accept(verified, &expected)
    }

    async fn verified(
        self: &Arc<Self>,
        token: &str,
        types: &[&str],
        purpose: For,
    ) -> Result<Verified, JwsError> {
        let unverified = Unverified::parse(token, &self.settings.algorithms, types)?;
        let snapshot = self.snapshot().await.map_err(|_| JwsError::KeysUnavailable)?;
        let mut keys = snapshot.keys;
        // The keys may have been rotated since; some providers even keep the key id. Twice, because
        // what another task brought may be older than this token.
        for _ in 0..2 {
            match unverified.verify(&keys) {
                Err(error @ (JwsError::NoKey | JwsError::Signature)) => {
                    keys = match self.newer_keys(&snapshot.metadata, &keys, purpose).await {
                        Newer::Fetched(keys) => return unverified.verify(&keys),
                        Newer::Shared(keys) => keys,
                        // Asked too often lately: nobody can tell. A login is refused then; a
                        // session must not end for it.
                        Newer::Refused if purpose == For::Refresh => {
                            return Err(JwsError::KeysUnavailable);
                        }
                        Newer::Refused => return Err(error),
                        Newer::Unavailable => return Err(JwsError::KeysUnavailable),
                    }
                }
                result => return result,
            }
        }
        unverified.verify(&keys)
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Reads `max-age` of `Cache-Control`; `no-store` and `no-cache` read as zero.
fn max_age(answer: &Answer) -> Option<Duration> {
    let value = answer.headers().get(CACHE_CONTROL)?.to_str().ok()?;
    value.split(',').map(str::trim).find_map(|directive| {
        if matches!(directive, "no-store" | "no-cache") {
            return Some(Duration::ZERO);
        }
        let seconds = directive.strip_prefix("max-age=")?;
        seconds.parse().ok().map(Duration::from_secs)
    })
}
