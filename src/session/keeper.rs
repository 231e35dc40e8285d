//! The keeper of sessions: finds, judges and prolongs them.
//!
//! It makes them in [`super::establish`], looks for them in [`super::look`], writes them down in
//! [`super::sealing`], ends them in [`super::end`] and changes stored records in [`super::stored`].

use std::sync::{Arc, Weak};
use std::time::Duration;

use http::HeaderValue;

use super::cache::{Cache, Opened};
use super::revocation::Revocation;
use super::seen::Seen;
use super::watch::Watches;
use super::{Lifetimes, Sessions};
use crate::clock::Clock;
use crate::cookies::{Cookies, Only};
use crate::error::{AuthError, ErrorKind};
use crate::identity::Identity;
use crate::rules::Rules;
use crate::seal::Sealer;
use crate::store::{Store, StoreError};

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
    pub(super) me: Weak<Self>,
}

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
