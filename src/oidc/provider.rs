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

use super::client_auth::ClientAuth;
use super::http::{Answer, CallError, Outbound};
use super::id_token::{Expected, IdClaims, accept};
use super::jws::{JwsError, Unverified, Verified};
use super::keys::{Keys, SigningAlgorithm};
use super::metadata::Metadata;
use super::userinfo::Userinfo;
use crate::clock::Clock;
use crate::error::{AuthError, ErrorKind};
use crate::names::{ClientId, Issuer};
use crate::secret::ClientSecret;

/// Everything about the provider and this client that does not change while the layer runs.
#[derive(Debug)]
pub(crate) struct Settings {
    pub(crate) issuer: Issuer,
    pub(crate) client_id: ClientId,
    pub(crate) client_secret: Option<ClientSecret>,
    pub(crate) client_auth: ClientAuth,
    pub(crate) redirect_uri: String,
    pub(crate) scopes: Vec<String>,
    pub(crate) extra_parameters: Vec<(String, String)>,
    pub(crate) algorithms: Vec<SigningAlgorithm>,
    pub(crate) trusted_audiences: Vec<String>,
    pub(crate) userinfo: Userinfo,
    pub(crate) form_post: bool,
    pub(crate) max_age: Option<Duration>,
    pub(crate) acr: Vec<String>,
    pub(crate) leeway: Duration,
    /// Whether `http` on this machine will do for the provider.
    pub(crate) allow_http: bool,
    /// Endpoints given by hand; there is no discovery then.
    pub(crate) endpoints: Option<Metadata>,
}

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

#[derive(Debug, Default)]
struct Known {
    snapshot: Option<Snapshot>,
    /// When a fetch last failed, and how.
    failed: Option<(Duration, AuthError)>,
    refreshing: bool,
    /// When keys were asked for out of turn; at most two are remembered.
    out_of_turn: Vec<Duration>,
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

    /// Returns the snapshot, fetched now if there is none, refreshed in the background if it is
    /// getting old.
    pub(crate) async fn snapshot(self: &Arc<Self>) -> Result<Snapshot, AuthError> {
        let now = self.clock.monotonic();
        {
            let mut known = self.known();
            if let Some(snapshot) = known.snapshot.clone() {
                let age = now.saturating_sub(snapshot.fetched);
                let rested = known
                    .failed
                    .as_ref()
                    .is_none_or(|(at, _)| now.saturating_sub(*at) >= FRESH_MIN);
                if age >= snapshot.fresh_for && rested && !known.refreshing {
                    known.refreshing = true;
                    self.refresh_in_background();
                }
                if age < STALE_MAX {
                    return Ok(snapshot);
                }
            }
        }
        self.fetch(now).await
    }

    /// Returns what is known without asking anybody.
    pub(crate) fn known_metadata(&self) -> Option<Arc<Metadata>> {
        self.known()
            .snapshot
            .as_ref()
            .map(|snapshot| snapshot.metadata.clone())
    }

    fn refresh_in_background(self: &Arc<Self>) {
        let provider = self.clone();
        tokio::spawn(async move {
            let asked = provider.clock.monotonic();
            if let Err(error) = provider.fetch(asked).await {
                error.log();
            }
            provider.known().refreshing = false;
        });
    }

    /// Fetches a snapshot unless another task has fetched one since `asked`. The fetch goes on
    /// when the caller goes away.
    async fn fetch(self: &Arc<Self>, asked: Duration) -> Result<Snapshot, AuthError> {
        let provider = self.clone();
        let task = tokio::spawn(async move {
            let _turn = provider.fetching.lock().await;
            {
                let known = provider.known();
                if let Some(snapshot) = &known.snapshot
                    && snapshot.fetched > asked
                {
                    return Ok(snapshot.clone());
                }
                let now = provider.clock.monotonic();
                if let Some((at, error)) = &known.failed
                    && (*at >= asked || now.saturating_sub(*at) < COOL_DOWN)
                {
                    return Err(error.clone());
                }
            }
            let result = provider.fetch_now().await;
            let mut known = provider.known();
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
            Err(AuthError::new(
                ErrorKind::ProviderUnavailable,
                "fetch_abandoned",
            ))
        })
    }

    async fn fetch_now(&self) -> Result<Snapshot, AuthError> {
        let settings = &self.settings;
        let metadata = match &settings.endpoints {
            Some(metadata) => metadata.clone(),
            None => {
                let url = settings.issuer.discovery_url();
                let answer = self.get(&url, "discovery").await?;
                if !answer.is_of_type(&["application/json"]) {
                    let detail = "discovery_content_type";
                    return Err(AuthError::new(ErrorKind::ProviderError, detail));
                }
                Metadata::parse(
                    answer.body(),
                    &settings.issuer,
                    settings.client_auth,
                    settings.allow_http,
                )?
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
        let fresh_for = max_age(&answer)
            .unwrap_or(FRESH)
            .clamp(FRESH_MIN, FRESH_MAX);
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
        let request = Request::get(url)
            .body(Bytes::new())
            .map_err(|_| unavailable(CallError::Failed))?;
        let answer = self.outbound.call(request).await.map_err(unavailable)?;
        if answer.status() != 200 {
            let detail = if what == "jwks" {
                "jwks_status"
            } else {
                "discovery_status"
            };
            return Err(AuthError::new(ErrorKind::ProviderUnavailable, detail));
        }
        Ok(answer)
    }

    /// Fetches the keys out of turn, for a token that none of the known ones verifies; `None` if
    /// that was done too often lately, or failed. Discovery is not repeated.
    async fn newer_keys(self: &Arc<Self>, snapshot: &Snapshot) -> Option<Arc<Keys>> {
        let asked = self.clock.monotonic();
        let provider = self.clone();
        let metadata = snapshot.metadata.clone();
        let task = tokio::spawn(async move {
            let _turn = provider.fetching.lock().await;
            {
                let mut known = provider.known();
                if let Some(snapshot) = &known.snapshot
                    && snapshot.fetched > asked
                {
                    return Some(snapshot.keys.clone());
                }
                let now = provider.clock.monotonic();
                known
                    .out_of_turn
                    .retain(|at| now.saturating_sub(*at) < OUT_OF_TURN_WINDOW);
                if known.out_of_turn.len() >= OUT_OF_TURN {
                    return None;
                }
                known.out_of_turn.push(now);
            }
            let (keys, fresh_for) = provider.fetch_keys(&metadata.jwks).await.ok()?;
            let keys = Arc::new(keys);
            let snapshot = Snapshot {
                metadata,
                keys: keys.clone(),
                fetched: provider.clock.monotonic(),
                fresh_for,
            };
            provider.known().snapshot = Some(snapshot);
            Some(keys)
        });
        task.await.ok().flatten()
    }

    /// Verifies an ID token and holds it against what is expected.
    pub(crate) async fn id_token(
        self: &Arc<Self>,
        token: &str,
        expected: &Expected<'_>,
    ) -> Result<IdClaims, AuthError> {
        let refused = |detail| AuthError::new(ErrorKind::IdToken, detail);
        let verified = self
            .verified(token, &["jwt"])
            .await
            .map_err(|error| refused(error.detail()))?;
        accept(verified, expected).map_err(|detail| match detail {
            "exp_past" | "iat_future" | "iat_old" | "nbf_future" => {
                refused(detail).with_hint("compare the clocks of this machine and the provider")
            }
            detail => refused(detail),
        })
    }

    async fn verified(self: &Arc<Self>, token: &str, types: &[&str]) -> Result<Verified, JwsError> {
        let unverified = Unverified::parse(token, &self.settings.algorithms, types)?;
        let snapshot = self.snapshot().await.map_err(|_| JwsError::NoKey)?;
        match unverified.verify(&snapshot.keys) {
            Err(error @ (JwsError::NoKey | JwsError::Signature)) => {
                // The keys may have been rotated since; some providers even keep the key id.
                match self.newer_keys(&snapshot).await {
                    Some(keys) => unverified.verify(&keys),
                    None => Err(error),
                }
            }
            result => result,
        }
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
