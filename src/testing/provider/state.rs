//! What a running provider remembers.

use std::collections::HashMap;
use std::collections::VecDeque;
use std::hash::Hash;
use std::net::SocketAddr;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;

use crate::clock::UnixTime;

use super::Endpoint;
use super::RecordedRequest;
use super::SigningAlg;
use super::TestUser;
use super::builder::Config;
use super::encoding;
use super::fault::Faults;
use super::fault::Hook;
use super::keys::KeyRing;

/// How often each endpoint was asked, since the start or the last reset.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
#[non_exhaustive]
pub struct Counts {
    /// Requests for the discovery document.
    pub discovery: u64,
    /// Requests for the keys.
    pub jwks: u64,
    /// Requests to the authorization endpoint (the chooser's own form is not counted).
    pub authorize: u64,
    /// Requests to the token endpoint.
    pub token: u64,
    /// Requests to userinfo.
    pub userinfo: u64,
    /// Requests to the logout endpoint.
    pub end_session: u64,
    /// Requests to the revocation endpoint.
    pub revocation: u64,
    /// Token requests with a code that was redeemed before.
    pub double_redemptions: u64,
    /// Token requests with a refresh token that was used before.
    pub refresh_reuses: u64,
}

impl Counts {
    /// Returns the count of one endpoint.
    #[must_use]
    pub const fn of(&self, endpoint: Endpoint) -> u64 {
        match endpoint {
            Endpoint::Authorize => self.authorize,
            Endpoint::Discovery => self.discovery,
            Endpoint::EndSession => self.end_session,
            Endpoint::Jwks => self.jwks,
            Endpoint::Revocation => self.revocation,
            Endpoint::Token => self.token,
            Endpoint::Userinfo => self.userinfo,
        }
    }

    const fn of_mut(&mut self, endpoint: Endpoint) -> &mut u64 {
        match endpoint {
            Endpoint::Authorize => &mut self.authorize,
            Endpoint::Discovery => &mut self.discovery,
            Endpoint::EndSession => &mut self.end_session,
            Endpoint::Jwks => &mut self.jwks,
            Endpoint::Revocation => &mut self.revocation,
            Endpoint::Token => &mut self.token,
            Endpoint::Userinfo => &mut self.userinfo,
        }
    }
}

/// A provider as its connections see it.
pub(super) struct Inner {
    /// The issuer, to the letter.
    pub(super) issuer: String,
    /// The issuer without a terminating slash: what endpoint URLs begin with.
    pub(super) base: String,
    /// The path of `base`, empty for none.
    pub(super) base_path: String,
    /// The last segment of the path of the keys, different for each provider.
    pub(super) jwks_name: String,
    pub(super) address: SocketAddr,
    pub(super) config: Config,
    faults: Mutex<Faults>,
    state: Mutex<State>,
}

impl Inner {
    pub(super) fn new(
        issuer: String,
        base_path: String,
        address: SocketAddr,
        config: Config,
    ) -> Self {
        let state = State {
            users: config.users.clone(),
            auto_sign_in: config.auto_sign_in.clone(),
            ring: KeyRing::new(config.alg),
            counts: Counts::default(),
            requests: HashMap::new(),
            id_tokens: VecDeque::new(),
            codes: Shelf::default(),
            access: Shelf::default(),
            refresh: Shelf::default(),
            revoked_families: Shelf::default(),
            sessions: Shelf::default(),
        };
        Self {
            base: issuer.strip_suffix('/').unwrap_or(&issuer).to_owned(),
            base_path,
            jwks_name: encoding::random_token(6),
            issuer,
            address,
            config,
            faults: Mutex::default(),
            state: Mutex::new(state),
        }
    }

    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        // A panicking hook of a test must not hide its own message behind a poisoned lock.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn faults(&self) -> MutexGuard<'_, Faults> {
        self.faults.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Runs a hook on `value`, with no lock held: hooks may call the provider.
    pub(super) fn hook<T: ?Sized>(
        &self,
        pick: impl FnOnce(&Faults) -> Option<Hook<T>>,
        value: &mut T,
    ) {
        let hook = pick(&self.faults());
        if let Some(hook) = hook {
            hook.run(value);
        }
    }

    pub(super) fn now(&self) -> UnixTime {
        self.config.clock.now()
    }
}

/// The mutable part.
pub(super) struct State {
    pub(super) users: Vec<TestUser>,
    pub(super) auto_sign_in: Option<String>,
    pub(super) ring: KeyRing,
    pub(super) counts: Counts,
    pub(super) requests: HashMap<Endpoint, VecDeque<RecordedRequest>>,
    pub(super) id_tokens: VecDeque<String>,
    pub(super) codes: Shelf<String, Code>,
    pub(super) access: Shelf<String, Access>,
    pub(super) refresh: Shelf<String, Refresh>,
    pub(super) revoked_families: Shelf<String, ()>,
    pub(super) sessions: Shelf<String, Session>,
}

impl State {
    pub(super) fn user(&self, sub: &str) -> Option<&TestUser> {
        self.users.iter().find(|user| user.sub == sub)
    }

    pub(super) fn record(&mut self, endpoint: Endpoint, request: RecordedRequest) {
        *self.counts.of_mut(endpoint) += 1;
        push_capped(self.requests.entry(endpoint).or_default(), request);
    }

    pub(super) fn remember_id_token(&mut self, token: String) {
        push_capped(&mut self.id_tokens, token);
    }

    pub(super) fn rotate(&mut self, alg: SigningAlg) {
        self.ring = KeyRing::fresh(alg);
    }

    pub(super) fn is_revoked(&self, grant: &Grant) -> bool {
        self.revoked_families.get(&grant.family).is_some()
    }

    pub(super) fn revoke_family(&mut self, grant: &Grant) {
        self.revoked_families.insert(grant.family.clone(), ());
    }
}

/// What a person agreed to; all tokens that descend from one login share its family.
#[derive(Clone, Debug)]
pub(super) struct Grant {
    pub(super) sub: String,
    pub(super) scope: String,
    pub(super) sid: String,
    pub(super) auth_time: UnixTime,
    pub(super) acr: Option<String>,
    pub(super) nonce: Option<String>,
    pub(super) family: String,
}

impl Grant {
    pub(super) fn has_scope(&self, name: &str) -> bool {
        self.scope.split(' ').any(|scope| scope == name)
    }
}

/// An authorization code, kept after its redemption to notice a second one.
#[derive(Clone, Debug)]
pub(super) struct Code {
    pub(super) grant: Grant,
    pub(super) redirect_uri: String,
    pub(super) challenge: Option<String>,
    pub(super) issued: UnixTime,
    pub(super) redeemed: bool,
}

/// An access token.
#[derive(Clone, Debug)]
pub(super) struct Access {
    pub(super) grant: Grant,
    pub(super) expires: UnixTime,
}

/// A refresh token, kept after its use to notice a second one.
#[derive(Clone, Debug)]
pub(super) struct Refresh {
    pub(super) grant: Grant,
    pub(super) used: bool,
}

/// A browser signed in at the provider.
#[derive(Clone, Debug)]
pub(super) struct Session {
    pub(super) sub: String,
    pub(super) sid: String,
    pub(super) auth_time: UnixTime,
}

/// A map that forgets its oldest entries beyond a cap.
#[derive(Debug)]
pub(super) struct Shelf<K, V> {
    map: HashMap<K, V>,
    order: VecDeque<K>,
}

impl<K: Clone + Eq + Hash, V> Shelf<K, V> {
    pub(super) fn insert(&mut self, key: K, value: V) {
        if self.map.insert(key.clone(), value).is_none() {
            self.order.push_back(key);
        }
        while self.order.len() > CAP {
            if let Some(oldest) = self.order.pop_front() {
                self.map.remove(&oldest);
            }
        }
    }

    pub(super) fn get<Q>(&self, key: &Q) -> Option<&V>
    where
        K: std::borrow::Borrow<Q>,
        Q: Eq + Hash + ?Sized,
    {
        self.map.get(key)
    }

    pub(super) fn get_mut<Q>(&mut self, key: &Q) -> Option<&mut V>
    where
        K: std::borrow::Borrow<Q>,
        Q: Eq + Hash + ?Sized,
    {
        self.map.get_mut(key)
    }

    pub(super) fn retain(&mut self, mut keep: impl FnMut(&K, &V) -> bool) {
        self.map.retain(|key, value| keep(key, value));
        self.order.retain(|key| self.map.contains_key(key));
    }
}

impl<K, V> Default for Shelf<K, V> {
    fn default() -> Self {
        Self { map: HashMap::new(), order: VecDeque::new() }
    }
}

fn push_capped<T>(queue: &mut VecDeque<T>, value: T) {
    if queue.len() == CAP {
        queue.pop_front();
    }
    queue.push_back(value);
}

/// The most that is kept of any one thing.
const CAP: usize = 10_000;
