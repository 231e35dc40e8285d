//! One attempt at a refresh: carries out the effects that [`super::refresh::step`] asks for.

use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;

use super::cache::{Opened, StoredAt};
use super::keeper::Patience;
use super::lease::{LEASE, Lease, RENEW};
use super::refresh::{BACK_OFF, Effect, Event, Outcome, State, View, step};
use super::refresher::Refresher;
use super::renewed::New;
use super::{Record, Refresh};
use crate::clock::UnixTime;
use crate::oidc::token::{TokenError, Tokens};
use crate::secret::random;
use crate::store::Key;

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
                if let Some(new) = &self.new {
                    new.revoke(&self.refresher.provider).await;
                }
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
                let (keeper, clock) = (self.refresher.keeper.clone(), self.refresher.clock.clone());
                let lease = Lease::keep(keeper, clock, self.session.clone(), self.holder(), asked);
                self.lease = Some(lease);
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
                    lease.is_renewed(asked);
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

    /// Returns how long a call may still take.
    fn lease_left(&self) -> Duration {
        let now = self.refresher.clock.monotonic();
        self.lease.as_ref().map_or(Duration::ZERO, |lease| lease.left(now))
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

    /// Holds what came back against the session.
    async fn judge(&mut self, tokens: Tokens, userinfo: Option<&url::Url>) -> Event {
        let (new, fits) = New::judge(self.refresher, &self.record, tokens, userinfo).await;
        self.new = Some(new);
        if fits { Event::Tokens } else { Event::Rejected }
    }

    /// Puts the new tokens into the session as it stands now.
    async fn save(&mut self) -> Event {
        let Some(new) = &self.new else { return Event::StoreFailed };
        let claims = &self.refresher.claims;
        let record = new.put_into(self.record.clone(), self.generation, claims, self.received);
        self.swap(record).await
    }

    fn refresh_token(&self) -> Option<String> {
        Some(self.record.tokens.as_ref()?.refresh.as_ref()?.token.clone())
    }
}

pub(super) fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
