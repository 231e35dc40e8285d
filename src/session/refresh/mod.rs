//! Refreshing, as a pure function: [`step`] takes a state and an event to the next state and the
//! effects to carry out. The driver is [`super::attempt`]; a model checker walks the same function
//! with crashes, delays and lost messages everywhere (`model.rs`).
//!
//! 1. Take the *lease* of the session; whoever fails waits and reads the result.
//! 2. Read the session anew: it may have been refreshed, or ended, meanwhile.
//! 3. Write a note into it, *exchanging*, by compare-and-swap; then spend the refresh token. What
//!    becomes of a write that nobody confirms is found out by reading, before anything follows it.
//! 4. Save the new tokens by compare-and-swap, and look once more. If the session is gone or
//!    marked, a logout has won: the new tokens are revoked.
//!
//! The note of another attempt, found under the lease, is doubted first: its holder may only have
//! been cut off from the store, and come back with what it paid for. Then the lease is renewed:
//! whoever holds it without a break knows that the other does not. Only then the session is taken
//! over, or ended ([`AfterCrash`]).
//!
//! `invalid_grant` is believed only after the session was read once more: another pod may have
//! refreshed it.

#[cfg(test)]
mod model;
mod step;

use std::time::Duration;

pub(crate) use self::step::step;
use super::Refresh;
use crate::clock::UnixTime;
use crate::oidc::token::Tokens;

/// How an attempt ended.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub(crate) enum Outcome {
    /// The session is over.
    Ended,
    /// The provider gave no tokens; the session is as it was and is tried again later.
    Kept,
    /// This attempt saved new tokens.
    Refreshed,
    /// Another attempt did.
    Shared,
    /// Nothing came of it, and not by the provider: the store did not answer, or somebody else is
    /// still at it.
    Unknown,
}

/// Where an attempt stands.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub(crate) enum State {
    /// A session is being ended whose refresh crashed.
    Abandoning { tries: u8 },
    /// The new tokens are saved; a mark that came meanwhile is looked for.
    Checking { tries: u8 },
    /// The note is taken back.
    Clearing { tries: u8, outcome: Outcome },
    /// The provider refused; the session is read once more before that is believed.
    Confirming { waits: u16 },
    /// It is over.
    Done(Outcome),
    /// There is a note of somebody who has no lease; time is given to come back.
    Doubting { waits: u16 },
    /// The session is being ended.
    Ending { waits: u16 },
    /// The refresh token is on its way.
    Exchanging,
    /// A logout was met: what is left of the session is removed.
    Leaving,
    /// The lease was asked for.
    Leasing { waits: u16 },
    /// The note is being written.
    Noting { tries: u8 },
    /// The lease is confirmed before somebody else's note is overruled.
    Overtaking,
    /// The session is read under the lease.
    Reading { tries: u8 },
    /// Whether the note was taken back is not known; the session is read once more.
    Recalling { tries: u8, outcome: Outcome },
    /// Saving met a change; the session is read once more.
    Rereading { tries: u8 },
    /// The new tokens are being written.
    Saving { tries: u8 },
    /// Nothing was done yet.
    Start,
    /// Whether the note was written is not known; the session is read once more.
    Unsure { tries: u8 },
    /// Somebody else holds the lease.
    Waiting { waits: u16 },
}

/// What happened.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub(crate) enum Event {
    /// The attempt begins.
    Begin,
    /// A write met a change.
    Conflict,
    /// The provider said `invalid_grant`.
    GrantGone,
    /// Somebody else holds the lease.
    LeaseHeld,
    /// The lease is ours.
    LeaseTaken,
    /// The session was read.
    Read(View),
    /// The provider's answer must not be used: it speaks of somebody else, or is not its own.
    Rejected,
    /// The store did not answer.
    StoreFailed,
    /// New tokens came.
    Tokens,
    /// The provider did not answer, or with an error that may pass.
    Transient,
    /// Note or token was not sent: too little was left of the lease.
    Unsent,
    /// A pause is over.
    Woke,
    /// A write was carried out.
    Written,
}

/// The session as it was read, against what the attempt began with.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub(crate) enum View {
    /// It is gone, or marked as signed out.
    Gone,
    /// It was refreshed since.
    Newer,
    /// It bears the note of another attempt, which is at work or has crashed.
    NotedByOther,
    /// It bears the note of this attempt.
    NotedByUs,
    /// It is not due any more: another attempt failed, and said when to try again.
    Rested,
    /// It was not refreshed.
    Same,
}

/// What is to be done; each brings one event, the last two bring none.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub(crate) enum Effect {
    /// Take the note back; if the provider was turned to, say when to try again.
    ClearNote,
    /// Renew the lease, if it is still ours.
    ConfirmLease,
    /// End the session.
    EndSession,
    /// Spend the refresh token, with lease left.
    Exchange,
    /// Wait a moment.
    Pause,
    /// Read the session.
    Read,
    /// Save the new tokens.
    Save,
    /// Ask for the lease.
    TakeLease,
    /// Write the note, with lease left.
    WriteNote,
    /// Give the lease back.
    ReleaseLease,
    /// Revoke the tokens that nobody will use.
    RevokeNew,
}

/// What to do with a session whose last refresh crashed between note and result: its refresh
/// token may have been spent.
///
/// The same is done where a pod lost its store for more than a minute at that moment, which looks
/// alike.
///
/// # Examples
///
/// ```
/// use tower_pkce_auth::{ClientId, PkceAuthLayer, AfterCrash};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let layer = PkceAuthLayer::builder(
///     "https://login.example".parse()?,
///     ClientId::new("app"),
///     "http://localhost:8080".parse()?,
/// )
/// .public_client()
/// .after_crash(AfterCrash::SignIn)
/// .build()?;
/// # Ok(()) }
/// ```
#[derive(Clone, Copy, Debug, Default, Eq, Hash, PartialEq)]
#[non_exhaustive]
pub enum AfterCrash {
    /// Try the token once more; a provider that detects reuse ends the session then.
    #[default]
    Retry,
    /// End the session; the person signs in again.
    SignIn,
}

/// What a request gets whose session could not be refreshed, once its access token has run out.
///
/// Until then it is served in any case. A provider that says `invalid_grant` ends the session
/// whatever is set here: that is an answer, and no failure.
///
/// # Examples
///
/// An application that calls others with the access token is of no use without one:
///
/// ```
/// use tower_pkce_auth::{ClientId, PkceAuthLayer, RefreshFailure};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let layer = PkceAuthLayer::builder(
///     "https://login.example".parse()?,
///     ClientId::new("app"),
///     "http://localhost:8080".parse()?,
/// )
/// .public_client()
/// .refresh_failure(RefreshFailure::Refuse)
/// .build()?;
/// # Ok(()) }
/// ```
#[derive(Clone, Copy, Debug, Default, Eq, Hash, PartialEq)]
#[non_exhaustive]
pub enum RefreshFailure {
    /// The session goes on: who somebody is does not depend on an access token, and idle and
    /// absolute limits hold all the same.
    #[default]
    Continue,
    /// 503 with `Retry-After`, the cookie kept; it works again as soon as a refresh succeeds.
    Refuse,
    /// The session ends and the person signs in again. Only what the provider fails at counts:
    /// trouble of the store is answered with 503.
    SignIn,
}

/// How long before the access token runs out it is refreshed.
const MARGIN: Duration = Duration::from_secs(30);
/// Whatever the provider says, no session is refreshed more often.
const MIN_INTERVAL: Duration = Duration::from_secs(60);
/// The lifetime of an access token whose provider names none.
const UNKNOWN: Duration = Duration::from_secs(3600);
/// After trouble that may pass.
pub(crate) const BACK_OFF: Duration = Duration::from_secs(30);

/// Returns what to keep for the next refresh, if the provider gave a refresh token or the old one
/// still stands (RFC 6749 section 6).
pub(crate) fn due(tokens: &Tokens, before: Option<&Refresh>, now: UnixTime) -> Option<Refresh> {
    let token = match (&tokens.refresh, before) {
        (Some(new), _) => new.expose().to_owned(),
        (None, Some(before)) => before.token.clone(),
        (None, None) => return None,
    };
    let lifetime = tokens.expires_in.unwrap_or(UNKNOWN);
    Some(Refresh {
        token,
        due: now + lifetime.saturating_sub(MARGIN).max(MIN_INTERVAL),
        expires: now + lifetime.max(MIN_INTERVAL),
        generation: before.map_or(0, |before| before.generation.wrapping_add(1)),
        exchanging: None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn i13_no_expiry_makes_a_refresh_per_request() {
        use crate::secret::SecretString;
        let now = UnixTime::from_secs(1_000);
        for (expires_in, wait) in [(None, 3570), (Some(0), 60), (Some(10), 60), (Some(300), 270)] {
            let tokens = Tokens {
                access: SecretString::new("a"),
                refresh: Some(SecretString::new("r")),
                id: None,
                expires_in: expires_in.map(Duration::from_secs),
            };
            let refresh = due(&tokens, None, now).unwrap();
            assert_eq!(refresh.due.since(now).as_secs(), wait, "{expires_in:?}");
        }
    }
}
