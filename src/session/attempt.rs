//! One attempt at a refresh: carries out the effects that [`super::refresh::step`] asks for.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use serde_json::{Map, Value};
use tokio::task::JoinHandle;

use super::cache::{Opened, StoredAt};
use super::keeper::Patience;
use super::refresh::{BACK_OFF, Effect, Event, Outcome, State, View, due, step};
use super::refresher::Refresher;
use super::{Record, Refresh};
use crate::clock::UnixTime;
use crate::error::{AuthError, ErrorKind};
use crate::identity::join_claims;
use crate::oidc::id_token::{Expected, IdClaims, Nonce};
use crate::oidc::json::object;
use crate::oidc::settings::Userinfo;
use crate::oidc::token::{TokenError, Tokens};
use crate::secret::{from_base64url, random};
use crate::store::Key;

/// How long a lease holds without being renewed.
const LEASE: Duration = Duration::from_secs(10);
/// How often it is renewed while the attempt goes on.
const RENEW: Duration = Duration::from_secs(3);
/// The call is given up so long before the lease lapses.
const LEASE_MARGIN: Duration = Duration::from_secs(1);
/// The first pause before looking again; each one more is longer, up to the last.
const PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(2);
/// How long nobody asks a provider that has just failed.
const REST: Duration = Duration::from_secs(5);

/// One attempt at one session.
pub(super) struct Attempt<'a> {
    refresher: &'a Refresher,
    session: Key,
    holder: [u8; 16],
    /// The generation the attempt began with.
    generation: u32,
    at: StoredAt,
    record: Record,
    new: Option<New>,
    lease: Option<Lease>,
    /// Whether the provider was turned to.
    tried: bool,
    /// When its answer came: lifetimes count from then, however long saving takes.
    received: UnixTime,
    pauses: u32,
}

/// What a refresh brought.
struct New {
    tokens: Tokens,
    claims: Option<IdClaims>,
    /// Whether the userinfo endpoint was asked.
    asked: bool,
    /// Its answer, if it gave one.
    userinfo: Option<Map<String, Value>>,
}

/// A lease that is renewed until it is dropped.
struct Lease {
    /// Milliseconds of the monotonic clock.
    until: Arc<AtomicU64>,
    renewing: JoinHandle<()>,
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.renewing.abort();
    }
}

impl<'a> Attempt<'a> {
    pub(super) fn new(refresher: &'a Refresher, opened: &Opened) -> Option<Self> {
        Some(Self {
            refresher,
            session: refresher.keeper.lease_key(&opened.record.id),
            holder: random(),
            generation: opened.record.tokens.as_ref()?.refresh.as_ref()?.generation,
            at: opened.stored.clone()?,
            record: opened.record.clone(),
            new: None,
            lease: None,
            tried: false,
            received: refresher.clock.now(),
            pauses: 0,
        })
    }

    pub(super) async fn run(mut self) -> Outcome {
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
                return outcome;
            }
        }
    }

    async fn act(&mut self, effect: Effect) -> Option<Event> {
        Some(match effect {
            Effect::TakeLease => self.take_lease().await,
            Effect::ConfirmLease => self.confirm_lease().await,
            Effect::Pause => {
                // A loser looks often at first; a store that is away is given time.
                let pause = PAUSE.saturating_mul(1 << (self.pauses / 10).min(6));
                self.pauses += 1;
                tokio::time::sleep(pause.min(LONGEST_PAUSE)).await;
                Event::Woke
            }
            Effect::Read => self.read().await,
            Effect::WriteNote if self.lease_left().is_zero() => Event::Unsent,
            Effect::WriteNote => {
                let holder = self.holder;
                self.write(|refresh| refresh.exchanging = Some(holder)).await
            }
            Effect::Exchange => self.exchange().await,
            Effect::Save => self.save().await,
            Effect::ClearNote => {
                let later = self.tried.then(|| self.refresher.clock.now() + BACK_OFF);
                let cleared = |refresh: &mut Refresh| {
                    refresh.exchanging = None;
                    refresh.due = later.unwrap_or(refresh.due);
                };
                self.write(cleared).await
            }
            Effect::EndSession => match self.refresher.keeper.end_record(&self.at).await {
                Ok(true) => Event::Written,
                Ok(false) => Event::Conflict,
                Err(_) => Event::StoreFailed,
            },
            Effect::ReleaseLease => {
                self.lease = None;
                self.refresher.keeper.release_lease(&self.session, &self.holder()).await;
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
        match self.refresher.keeper.take_lease(&self.session, self.holder(), LEASE).await {
            Ok(true) => {
                self.lease = Some(self.keep_lease(asked));
                // What is waited for now is something else.
                self.pauses = 0;
                Event::LeaseTaken
            }
            Ok(false) => Event::LeaseHeld,
            Err(_) => Event::StoreFailed,
        }
    }

    /// Renews the lease at once: if that succeeds, nobody else has held it since it was taken.
    async fn confirm_lease(&mut self) -> Event {
        let asked = self.refresher.clock.monotonic();
        match self.refresher.keeper.renew_lease(&self.session, self.holder(), LEASE).await {
            Ok(true) => {
                if let Some(lease) = &self.lease {
                    lease.until.fetch_max(millis(asked + LEASE), Ordering::AcqRel);
                }
                Event::LeaseTaken
            }
            Ok(false) => {
                self.lease = None;
                self.pauses = 0;
                Event::LeaseHeld
            }
            Err(_) => Event::StoreFailed,
        }
    }

    /// Renews the lease beside everything the attempt does, however slow that is.
    fn keep_lease(&self, taken: Duration) -> Lease {
        let until = Arc::new(AtomicU64::new(millis(taken + LEASE)));
        let (keeper, clock) = (self.refresher.keeper.clone(), self.refresher.clock.clone());
        let (session, holder, renewed) = (self.session.clone(), self.holder(), until.clone());
        let renewing = tokio::spawn(async move {
            loop {
                tokio::time::sleep(RENEW).await;
                let asked = clock.monotonic();
                if let Ok(true) = keeper.renew_lease(&session, holder.clone(), LEASE).await {
                    renewed.fetch_max(millis(asked + LEASE), Ordering::AcqRel);
                }
            }
        });
        Lease { until, renewing }
    }

    /// Returns how long a call may still take.
    fn lease_left(&self) -> Duration {
        let until = self.lease.as_ref().map_or(0, |lease| lease.until.load(Ordering::Acquire));
        let now = millis(self.refresher.clock.monotonic() + LEASE_MARGIN);
        Duration::from_millis(until.saturating_sub(now))
    }

    async fn read(&mut self) -> Event {
        let opened = match self.refresher.keeper.reread(&self.at).await {
            Ok(Some(opened)) => opened,
            Ok(None) => return Event::Read(View::Gone),
            Err(_) => return Event::StoreFailed,
        };
        match self.refresher.keeper.is_unmarked(&opened, Patience::Thorough).await {
            Ok(true) => {}
            Ok(false) => return Event::Read(View::Gone),
            Err(_) => return Event::StoreFailed,
        }
        let now = self.refresher.clock.now();
        let refresh = opened.record.tokens.as_ref().and_then(|tokens| tokens.refresh.as_ref());
        let view = match refresh {
            None => View::Gone,
            Some(refresh) if refresh.generation != self.generation => View::Newer,
            Some(Refresh { exchanging: Some(holder), .. }) if *holder == self.holder => {
                View::NotedByUs
            }
            Some(Refresh { exchanging: Some(_), .. }) => View::NotedByOther,
            Some(refresh) if now < refresh.due => View::Rested,
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
        if let Some(refresh) = record.tokens.as_mut().and_then(|tokens| tokens.refresh.as_mut()) {
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

    /// Spends the refresh token, with lease left and no longer than it holds.
    async fn exchange(&mut self) -> Event {
        let refresher = self.refresher;
        if self.lease_left().is_zero() {
            return Event::Unsent;
        }
        self.tried = true;
        let Ok(snapshot) = refresher.provider.snapshot().await else {
            return Event::Transient;
        };
        let Some(token) = self.refresh_token() else {
            return Event::Transient;
        };
        // Asked once more: the provider's own description may have been slow to come.
        if self.lease_left().is_zero() {
            return Event::Transient;
        }
        let call = refresher.provider.refresh(&snapshot.metadata.token, &token);
        tokio::pin!(call);
        let answer = loop {
            // The call is polled once more even when the lease is over: its answer may be there.
            let left = self.lease_left();
            match tokio::time::timeout(left.min(RENEW), &mut call).await {
                Ok(answer) => break answer,
                Err(_) if left.is_zero() => return Event::Transient,
                Err(_) => {}
            }
        };
        self.received = refresher.clock.now();
        match answer {
            Err(TokenError::Grant(error)) => {
                error.log();
                Event::GrantGone
            }
            Err(TokenError::Refused(error)) => {
                error.log();
                // What is wrong with this one session says nothing of the others; a client that
                // is refused as such is refused for all.
                if error.detail() == "invalid_client" {
                    self.let_provider_rest();
                }
                Event::Transient
            }
            Err(TokenError::Transient(error)) => {
                error.log();
                self.let_provider_rest();
                Event::Transient
            }
            Ok(tokens) => self.judge(tokens, snapshot.metadata.userinfo.as_ref()).await,
        }
    }

    fn let_provider_rest(&self) {
        let rest = millis(self.refresher.clock.monotonic() + REST);
        self.refresher.rest_until.store(rest, Ordering::Release);
    }

    /// Holds what came back against the session (OpenID Connect Core 1.0 section 12.2).
    async fn judge(&mut self, mut tokens: Tokens, userinfo: Option<&url::Url>) -> Event {
        let settings = self.refresher.provider.settings();
        let claims = match self.accept(&tokens).await {
            Ok(claims) => claims,
            Err(error) if error.kind() == ErrorKind::ProviderUnavailable => {
                // Nobody can tell, and an ID token is not needed here: the session goes on with
                // the new tokens and what it knows.
                error.log();
                tokens.id = None;
                None
            }
            Err(error) => {
                error.log();
                self.new = Some(New { tokens, claims: None, asked: false, userinfo: None });
                return Event::Rejected;
            }
        };
        let asked = userinfo.is_some() && settings.userinfo != Userinfo::Off;
        let mut more = None;
        if let (Some(endpoint), true) = (userinfo, asked) {
            let (access, subject) = (tokens.access.expose(), &self.record.subject);
            match self.refresher.provider.userinfo(endpoint, access, subject).await {
                Ok(fresh) => more = Some(fresh),
                Err(error) if error.detail() == "sub" => {
                    error.log();
                    self.new = Some(New { tokens, claims, asked: true, userinfo: None });
                    return Event::Rejected;
                }
                // The tokens are new and must be kept; the claims stay as they were.
                Err(error) => error.log(),
            }
        }
        self.new = Some(New { tokens, claims, asked, userinfo: more });
        Event::Tokens
    }

    /// Checks the ID token of a refresh, if there is one: the same person, the same sign-in.
    async fn accept(&self, tokens: &Tokens) -> Result<Option<IdClaims>, AuthError> {
        let Some(id_token) = &tokens.id else { return Ok(None) };
        let (provider, record) = (&self.refresher.provider, &self.record);
        let settings = provider.settings();
        let nonce = record.tokens.as_ref().and_then(|tokens| tokens.nonce.as_deref());
        let expected = Expected {
            issuer: settings.issuer.as_str(),
            client_id: settings.client_id.as_str(),
            trusted_audiences: &settings.trusted_audiences,
            now: self.refresher.clock.now(),
            leeway: settings.leeway,
            nonce: Nonce::IfPresent(nonce.unwrap_or_default()),
            max_age: None,
            acr: &[],
            access_token: Some(tokens.access.expose()),
        };
        let fresh = provider.id_token(id_token.expose(), &expected).await?;
        if fresh.sub != record.subject {
            return Err(AuthError::new(ErrorKind::IdToken, "sub_changed"));
        }
        let unchanged = match (record.auth_time, fresh.auth_time) {
            (Some(before), Some(now)) => before == now,
            _ => true,
        };
        if !unchanged {
            return Err(AuthError::new(ErrorKind::IdToken, "auth_time_changed"));
        }
        Ok(Some(fresh))
    }

    /// Puts the new tokens into the session as it stands now.
    async fn save(&mut self) -> Event {
        let Some(New { tokens, claims, asked, userinfo }) = &self.new else {
            return Event::StoreFailed;
        };
        let mut record = self.record.clone();
        if let Some(kept) = record.tokens.as_mut() {
            let before = kept
                .refresh
                .take()
                .map(|refresh| Refresh { generation: self.generation, ..refresh });
            kept.refresh = due(tokens, before.as_ref(), self.received);
            if let Some(id) = &tokens.id {
                kept.id = Some(id.expose().to_owned());
            }
        }
        // Rights change only where every source that gave them has spoken: what it leaves out now
        // was taken away.
        let base = match claims {
            Some(claims) => Some(claims.all.clone()),
            // Without a new ID token the one that is kept, which was verified, says what it said.
            None => self
                .record
                .tokens
                .as_ref()
                .and_then(|tokens| tokens.id.as_deref())
                .and_then(|kept| object(&from_base64url(kept.split('.').nth(1)?)?)),
        };
        let has_spoken = userinfo.is_some() || (claims.is_some() && !asked);
        if let (Some(base), true) = (base, has_spoken) {
            let userinfo = userinfo.clone().unwrap_or_default();
            let joined = join_claims(base, userinfo, &self.refresher.claims);
            record.claims = Value::Object(joined).to_string();
        }
        if let Some(claims) = claims {
            record.acr = claims.acr.clone().or(record.acr);
            if let Some(expiry) = claims.session_expiry {
                record.absolute_end = record.absolute_end.min(expiry);
            }
        }
        self.swap(record).await
    }

    async fn revoke_new(&self) {
        let Some(New { tokens, .. }) = &self.new else { return };
        let Ok(snapshot) = self.refresher.provider.snapshot().await else {
            return;
        };
        let Some(endpoint) = &snapshot.metadata.revocation else {
            return;
        };
        let provider = &self.refresher.provider;
        if let Some(refresh) = &tokens.refresh {
            provider.revoke(endpoint, refresh.expose(), "refresh_token").await;
        }
        provider.revoke(endpoint, tokens.access.expose(), "access_token").await;
    }

    fn refresh_token(&self) -> Option<String> {
        Some(self.record.tokens.as_ref()?.refresh.as_ref()?.token.clone())
    }
}

pub(super) fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
