//! The driver of a refresh: carries out the effects that [`super::refresh::step`] asks for.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::HeaderMap;
use serde_json::{Map, Value};

use super::cache::{Opened, StoredAt};
use super::keeper::{Found, Keeper, Live};
use super::refresh::{AfterCrash, BACK_OFF, Effect, Event, Outcome, State, View, due, step};
use super::{Record, Refresh};
use crate::clock::Clock;
use crate::oidc::id_token::{Expected, IdClaims, Nonce};
use crate::oidc::provider::Provider;
use crate::oidc::token::{TokenError, Tokens};
use crate::oidc::userinfo::Userinfo;
use crate::secret::random;
use crate::store::Key;

/// How long a lease holds without being renewed.
const LEASE: Duration = Duration::from_secs(10);
/// How often it is renewed while the provider is slow.
const RENEW: Duration = Duration::from_secs(3);
/// The call is given up so long before the lease lapses.
const LEASE_MARGIN: Duration = Duration::from_secs(1);
/// How long a loser waits before it looks again.
const PAUSE: Duration = Duration::from_millis(50);

/// Refreshes stored sessions.
#[derive(Debug)]
pub(crate) struct Refresher {
    pub(crate) keeper: Arc<Keeper>,
    pub(crate) provider: Arc<Provider>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) after_crash: AfterCrash,
    /// Names of the claims that applications see.
    pub(crate) claims: Vec<String>,
}

impl Refresher {
    /// Refreshes a session that was found, if it is due; a client that goes away stops nothing.
    pub(crate) async fn settle(self: &Arc<Self>, live: Live, headers: &HeaderMap) -> Found {
        let now = self.clock.now();
        let is_due = live.refresh().is_some_and(|refresh| now >= refresh.due);
        if !is_due || live.opened.stored.is_none() {
            return Found::Live(live);
        }
        let (refresher, opened) = (self.clone(), live.opened.clone());
        let attempt = tokio::spawn(async move { Attempt::new(&refresher, &opened)?.run().await });
        match attempt.await {
            Ok(Some(Outcome::Ended)) => Found::Dead,
            Ok(Some(Outcome::Refreshed | Outcome::Shared)) => {
                self.keeper.find(headers, false).await
            }
            Ok(Some(Outcome::Kept) | None) | Err(_) => Found::Live(live),
        }
    }
}

/// One attempt at one session.
struct Attempt<'a> {
    refresher: &'a Refresher,
    session: Key,
    holder: [u8; 16],
    /// The generation the attempt began with.
    generation: u32,
    at: StoredAt,
    record: Record,
    new: Option<(Tokens, Option<IdClaims>, Map<String, Value>)>,
    /// On the monotonic clock.
    lease_until: Duration,
}

impl<'a> Attempt<'a> {
    fn new(refresher: &'a Refresher, opened: &Opened) -> Option<Self> {
        Some(Self {
            refresher,
            session: refresher.keeper.lease_key(&opened.record.id),
            holder: random(),
            generation: opened.record.tokens.as_ref()?.refresh.as_ref()?.generation,
            at: opened.stored.clone()?,
            record: opened.record.clone(),
            new: None,
            lease_until: Duration::ZERO,
        })
    }

    async fn run(mut self) -> Option<Outcome> {
        let mut state = State::Start;
        let mut event = Event::Begin;
        loop {
            let (next, effects) = step(state, event, self.refresher.after_crash);
            state = next;
            for effect in effects {
                if let Some(brought) = self.act(effect).await {
                    event = brought;
                }
            }
            if let State::Done(outcome) = state {
                tracing::debug!(?outcome, "refresh");
                return Some(outcome);
            }
        }
    }

    async fn act(&mut self, effect: Effect) -> Option<Event> {
        Some(match effect {
            Effect::TakeLease => self.take_lease().await,
            Effect::Pause => {
                tokio::time::sleep(PAUSE).await;
                Event::Woke
            }
            Effect::Read => self.read().await,
            Effect::WriteNote => {
                let holder = self.holder;
                self.write(|refresh| refresh.exchanging = Some(holder))
                    .await
            }
            Effect::Exchange => self.exchange().await,
            Effect::Save => self.save().await,
            Effect::ClearNote => {
                let later = self.refresher.clock.now() + BACK_OFF;
                let cleared = |refresh: &mut Refresh| {
                    refresh.exchanging = None;
                    refresh.due = later;
                };
                self.write(cleared).await
            }
            Effect::EndSession => match self.refresher.keeper.end_record(&self.at).await {
                Ok(true) => Event::Written,
                Ok(false) => Event::Conflict,
                Err(_) => Event::StoreFailed,
            },
            Effect::ReleaseLease => {
                self.refresher
                    .keeper
                    .release_lease(&self.session, &self.holder())
                    .await;
                return None;
            }
            Effect::RevokeNew => {
                self.revoke_new().await;
                return None;
            }
        })
    }

    fn holder(&self) -> Bytes {
        Bytes::copy_from_slice(&self.holder)
    }

    async fn take_lease(&mut self) -> Event {
        let asked = self.refresher.clock.monotonic();
        match self
            .refresher
            .keeper
            .take_lease(&self.session, self.holder(), LEASE)
            .await
        {
            Ok(true) => {
                self.lease_until = asked + LEASE;
                Event::LeaseTaken
            }
            Ok(false) => Event::LeaseHeld,
            Err(_) => Event::StoreFailed,
        }
    }

    async fn read(&mut self) -> Event {
        let opened = match self.refresher.keeper.reread(&self.at).await {
            Ok(Some(opened)) => opened,
            Ok(None) => return Event::Read(View::Gone),
            Err(_) => return Event::StoreFailed,
        };
        match self.refresher.keeper.is_unmarked(&opened).await {
            Ok(true) => {}
            Ok(false) => return Event::Read(View::Gone),
            Err(_) => return Event::StoreFailed,
        }
        let view = match opened
            .record
            .tokens
            .as_ref()
            .and_then(|tokens| tokens.refresh.as_ref())
        {
            None => View::Gone,
            Some(refresh) if refresh.generation != self.generation => View::Newer,
            Some(refresh) if refresh.exchanging.is_some() => View::Noted,
            Some(_) => View::Same,
        };
        if let Some(at) = opened.stored {
            self.at = at;
            self.record = opened.record;
        }
        Event::Read(view)
    }

    /// Changes what the session keeps of its refresh, by compare-and-swap.
    async fn write(&mut self, change: impl FnOnce(&mut Refresh)) -> Event {
        let mut record = self.record.clone();
        if let Some(refresh) = record
            .tokens
            .as_mut()
            .and_then(|tokens| tokens.refresh.as_mut())
        {
            change(refresh);
        }
        self.swap(record).await
    }

    async fn swap(&mut self, record: Record) -> Event {
        let now = self.refresher.clock.now();
        match self.refresher.keeper.replace(&self.at, &record, now).await {
            Ok(Some(at)) => {
                self.at = at;
                self.record = record;
                Event::Written
            }
            Ok(None) => Event::Conflict,
            Err(_) => Event::StoreFailed,
        }
    }

    /// Spends the refresh token while the lease holds, renewing it meanwhile.
    async fn exchange(&mut self) -> Event {
        let refresher = self.refresher;
        let Ok(snapshot) = refresher.provider.snapshot().await else {
            return Event::Transient;
        };
        let Some(token) = self.refresh_token() else {
            return Event::Transient;
        };
        let call = refresher.provider.refresh(&snapshot.metadata.token, &token);
        tokio::pin!(call);
        let answer = loop {
            let left = self
                .lease_until
                .saturating_sub(refresher.clock.monotonic())
                .saturating_sub(LEASE_MARGIN);
            if left.is_zero() {
                return Event::Transient;
            }
            match tokio::time::timeout(left.min(RENEW), &mut call).await {
                Ok(answer) => break answer,
                Err(_) => {
                    let asked = refresher.clock.monotonic();
                    let holder = self.holder();
                    if refresher
                        .keeper
                        .renew_lease(&self.session, holder, LEASE)
                        .await
                    {
                        self.lease_until = asked + LEASE;
                    }
                }
            }
        };
        match answer {
            Err(TokenError::Grant(error)) => {
                error.log();
                Event::GrantGone
            }
            Err(TokenError::Refused(error) | TokenError::Transient(error)) => {
                error.log();
                Event::Transient
            }
            Ok(tokens) => {
                self.judge(tokens, snapshot.metadata.userinfo.as_ref())
                    .await
            }
        }
    }

    /// Holds what came back against the session (OpenID Connect Core 1.0 section 12.2).
    async fn judge(&mut self, tokens: Tokens, userinfo: Option<&url::Url>) -> Event {
        let refresher = self.refresher;
        let settings = refresher.provider.settings();
        let mut claims = None;
        if let Some(id_token) = &tokens.id {
            let nonce = self
                .record
                .tokens
                .as_ref()
                .and_then(|tokens| tokens.nonce.as_deref());
            let expected = Expected {
                issuer: settings.issuer.as_str(),
                client_id: settings.client_id.as_str(),
                trusted_audiences: &settings.trusted_audiences,
                now: refresher.clock.now(),
                leeway: settings.leeway,
                nonce: Nonce::IfPresent(nonce.unwrap_or_default()),
                max_age: None,
                acr: &[],
                access_token: Some(tokens.access.expose()),
            };
            let accepted = refresher
                .provider
                .id_token(id_token.expose(), &expected)
                .await;
            let same = |fresh: &IdClaims| {
                let auth_time = fresh.auth_time.or(self.record.auth_time);
                fresh.sub == self.record.subject
                    && (self.record.auth_time.is_none() || auth_time == self.record.auth_time)
            };
            match accepted {
                Ok(fresh) if same(&fresh) => claims = Some(fresh),
                Ok(_) => {
                    tracing::warn!("a refresh brought an ID token of another sign-in");
                    self.new = Some((tokens, None, Map::new()));
                    return Event::Rejected;
                }
                Err(error) => {
                    error.log();
                    self.new = Some((tokens, None, Map::new()));
                    return Event::Rejected;
                }
            }
        }
        let mut more = Map::new();
        if let (Some(endpoint), true) = (userinfo, settings.userinfo != Userinfo::Off) {
            let asked = refresher
                .provider
                .userinfo(endpoint, tokens.access.expose(), &self.record.subject)
                .await;
            match asked {
                Ok(fresh) => more = fresh,
                Err(error) if error.detail() == "sub" => {
                    error.log();
                    self.new = Some((tokens, None, Map::new()));
                    return Event::Rejected;
                }
                // The tokens are new and must be kept; the claims stay as they were.
                Err(error) => error.log(),
            }
        }
        self.new = Some((tokens, claims, more));
        Event::Tokens
    }

    /// Puts the new tokens into the session as it stands now.
    async fn save(&mut self) -> Event {
        let Some((tokens, claims, userinfo)) = &self.new else {
            return Event::StoreFailed;
        };
        let now = self.refresher.clock.now();
        let mut record = self.record.clone();
        if let Some(kept) = record.tokens.as_mut() {
            let before = kept.refresh.take().map(|refresh| Refresh {
                generation: self.generation,
                ..refresh
            });
            kept.refresh = due(tokens, before.as_ref(), now);
            if let Some(id) = &tokens.id {
                kept.id = Some(id.expose().to_owned());
            }
        }
        let mut fresh = claims
            .as_ref()
            .map(|claims| claims.all.clone())
            .unwrap_or_default();
        fresh.extend(userinfo.clone());
        fresh.retain(|name, value| {
            !value.is_null() && self.refresher.claims.iter().any(|wanted| wanted == name)
        });
        if !fresh.is_empty() {
            // What both sources leave out now was taken away.
            record.claims = Value::Object(fresh).to_string();
        }
        if let Some(expiry) = claims.as_ref().and_then(|claims| claims.session_expiry) {
            record.absolute_end = record.absolute_end.min(expiry);
        }
        self.swap(record).await
    }

    async fn revoke_new(&self) {
        let Some((tokens, ..)) = &self.new else {
            return;
        };
        let Ok(snapshot) = self.refresher.provider.snapshot().await else {
            return;
        };
        let Some(endpoint) = &snapshot.metadata.revocation else {
            return;
        };
        let provider = &self.refresher.provider;
        if let Some(refresh) = &tokens.refresh {
            provider
                .revoke(endpoint, refresh.expose(), "refresh_token")
                .await;
        }
        provider
            .revoke(endpoint, tokens.access.expose(), "access_token")
            .await;
    }

    fn refresh_token(&self) -> Option<String> {
        Some(self.record.tokens.as_ref()?.refresh.as_ref()?.token.clone())
    }
}
