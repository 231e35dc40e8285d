//! Refreshing, as a pure function: [`step`] takes a state and an event to the next state and the
//! effects to carry out. The driver is [`super::refresher`]; a model checker can walk the same
//! function with crashes and delays everywhere.
//!
//! 1. Take the *lease* of the session; whoever fails waits and reads the result.
//! 2. Read the session anew: it may have been refreshed, or ended, meanwhile.
//! 3. Write a note into it, *exchanging*, by compare-and-swap; then spend the refresh token.
//! 4. Save the new tokens by compare-and-swap. If the session is gone, a logout has won: the new
//!    tokens are revoked.
//!
//! `invalid_grant` is believed only after the session was read once more: another pod may have
//! refreshed it.

use std::time::Duration;

use super::Refresh;
use crate::clock::UnixTime;
use crate::oidc::token::Tokens;

/// How an attempt ended.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub(crate) enum Outcome {
    /// The session is over.
    Ended,
    /// Nothing came of it; the session goes on as it is and is tried again later.
    Kept,
    /// This attempt saved new tokens.
    Refreshed,
    /// Another attempt did.
    Shared,
}

/// Where an attempt stands.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub(crate) enum State {
    /// The note is taken back after trouble that may pass.
    Clearing,
    /// The provider refused; the session is read once more before that is believed.
    Confirming { waits: u16 },
    /// It is over.
    Done(Outcome),
    /// The session is being ended.
    Ending,
    /// The refresh token is on its way.
    Exchanging,
    /// The lease was asked for.
    Leasing { waits: u16 },
    /// The note is being written.
    Noting { tries: u8 },
    /// The session is read under the lease.
    Reading { tries: u8 },
    /// Saving met a change; the session is read once more.
    Rereading { tries: u8 },
    /// The new tokens are being written.
    Saving { tries: u8 },
    /// Nothing was done yet.
    Start,
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
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub(crate) enum Effect {
    /// Take the note back and say when to try again.
    ClearNote,
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
    /// Write the note.
    WriteNote,
    /// Give the lease back.
    ReleaseLease,
    /// Revoke the tokens that nobody will use.
    RevokeNew,
}

/// What to do with a session whose last refresh crashed between note and result: its refresh
/// token may have been spent.
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

/// Waits of a loser before it goes on with what there is.
const MAX_WAITS: u16 = 240;
/// Writes that may meet a change before the attempt is given up.
const MAX_TRIES: u8 = 8;
/// Attempts to save what was paid for with the old token; with growing pauses about a minute.
const MAX_SAVES: u8 = 74;

/// Takes an attempt one step further.
pub(crate) fn step(state: State, event: Event, policy: AfterCrash) -> (State, Vec<Effect>) {
    use Effect as Do;
    use Event as On;
    use State as At;

    let done = |outcome| (At::Done(outcome), vec![Do::ReleaseLease]);
    match (state, event) {
        (At::Start, On::Begin) => (At::Leasing { waits: 0 }, vec![Do::TakeLease]),

        (At::Leasing { .. }, On::LeaseTaken) => (At::Reading { tries: 0 }, vec![Do::Read]),
        (At::Leasing { waits }, On::LeaseHeld) if waits >= MAX_WAITS => {
            (At::Done(Outcome::Kept), vec![])
        }
        (At::Leasing { waits }, On::LeaseHeld) => (At::Waiting { waits }, vec![Do::Pause]),

        (At::Waiting { waits }, On::Woke) => (At::Waiting { waits }, vec![Do::Read]),
        (At::Waiting { .. }, On::Read(View::Newer)) => (At::Done(Outcome::Shared), vec![]),
        (At::Waiting { .. }, On::Read(View::Gone)) => (At::Done(Outcome::Ended), vec![]),
        (At::Waiting { .. }, On::Read(View::Rested)) => (At::Done(Outcome::Kept), vec![]),
        (At::Waiting { waits }, On::Read(_)) => {
            (At::Leasing { waits: waits + 1 }, vec![Do::TakeLease])
        }

        (At::Reading { .. }, On::Read(View::Newer)) => done(Outcome::Shared),
        (At::Reading { .. }, On::Read(View::Gone)) => done(Outcome::Ended),
        (At::Reading { .. }, On::Read(View::Rested)) => done(Outcome::Kept),
        // The note was written although the store did not say so.
        (At::Reading { .. }, On::Read(View::NotedByUs)) => (At::Exchanging, vec![Do::Exchange]),
        (At::Reading { .. }, On::Read(View::NotedByOther)) if policy == AfterCrash::SignIn => {
            (At::Ending, vec![Do::EndSession])
        }
        (At::Reading { tries }, On::Read(View::NotedByOther | View::Same)) => {
            (At::Noting { tries }, vec![Do::WriteNote])
        }

        (At::Noting { .. }, On::Written) => (At::Exchanging, vec![Do::Exchange]),
        (At::Noting { tries }, On::Conflict | On::StoreFailed) if tries < MAX_TRIES => {
            (At::Reading { tries: tries + 1 }, vec![Do::Read])
        }

        (At::Exchanging, On::Tokens) => (At::Saving { tries: 0 }, vec![Do::Save]),
        (At::Exchanging, On::GrantGone) => (At::Confirming { waits: 0 }, vec![Do::Read]),
        (At::Exchanging, On::Rejected) => (At::Ending, vec![Do::RevokeNew, Do::EndSession]),
        (At::Exchanging, On::Transient) => (At::Clearing, vec![Do::ClearNote]),

        (At::Saving { .. }, On::Written) => done(Outcome::Refreshed),
        // A write that was not answered may have been carried out: reading tells. The old token
        // is spent by now, so the new one is not given up lightly.
        (At::Saving { tries } | At::Rereading { tries }, On::Conflict | On::StoreFailed)
            if tries < MAX_SAVES =>
        {
            (At::Rereading { tries: tries + 1 }, vec![Do::Pause])
        }
        (At::Saving { .. } | At::Rereading { .. }, On::Conflict | On::StoreFailed) => {
            (At::Done(Outcome::Kept), vec![Do::RevokeNew, Do::ReleaseLease])
        }

        (At::Rereading { .. }, On::Woke) => (state, vec![Do::Read]),
        (At::Rereading { .. }, On::Read(View::Gone)) => {
            (At::Done(Outcome::Ended), vec![Do::RevokeNew, Do::ReleaseLease])
        }
        (At::Rereading { .. }, On::Read(View::Newer)) => done(Outcome::Shared),
        (At::Rereading { tries }, On::Read(_)) => (At::Saving { tries }, vec![Do::Save]),

        (At::Confirming { .. }, On::Read(View::Newer)) => done(Outcome::Shared),
        (At::Confirming { .. }, On::Read(View::Gone)) => done(Outcome::Ended),
        // Somebody else is spending it just now, and may have been the first.
        (At::Confirming { waits }, On::Read(View::NotedByOther)) if waits < MAX_WAITS => {
            (At::Confirming { waits: waits + 1 }, vec![Do::Pause])
        }
        (At::Confirming { .. }, On::Woke) => (state, vec![Do::Read]),
        (At::Confirming { .. }, On::Read(_)) => (At::Ending, vec![Do::EndSession]),

        (At::Ending, On::Written) => done(Outcome::Ended),
        (At::Ending, On::Conflict) => (At::Confirming { waits: 0 }, vec![Do::Read]),

        // Whatever else happens, nobody is signed out by it.
        (At::Done(_), _) => (state, vec![]),
        _ => done(Outcome::Kept),
    }
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
        generation: before.map_or(0, |before| before.generation.wrapping_add(1)),
        exchanging: None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Walks a script of events and returns the outcome and every effect.
    fn walk(events: &[Event], policy: AfterCrash) -> (State, Vec<Effect>) {
        let mut state = State::Start;
        let mut effects = Vec::new();
        for event in events {
            let (next, more) = step(state, *event, policy);
            state = next;
            effects.extend(more);
        }
        (state, effects)
    }

    #[test]
    fn the_table_of_walks() {
        use Event::{
            Begin, Conflict, GrantGone, LeaseHeld, LeaseTaken, Read, Rejected, StoreFailed, Tokens,
            Transient, Woke, Written,
        };
        use Outcome::{Ended, Kept, Refreshed, Shared};
        use View::{Gone, Newer, NotedByOther, NotedByUs, Rested, Same};

        let until_exchange = [Begin, LeaseTaken, Read(Same), Written];
        let walks: &[(&str, &[Event], Outcome)] = &[
            ("it works", &[Tokens, Written], Refreshed),
            ("i08 the grant is gone", &[GrantGone, Read(NotedByUs), Written], Ended),
            ("i06 another pod refreshed it", &[GrantGone, Read(Newer)], Shared),
            ("h18 a logout wins", &[Tokens, Conflict, Woke, Read(Gone)], Ended),
            ("touched meanwhile", &[Tokens, Conflict, Woke, Read(NotedByUs), Written], Refreshed),
            ("the answer to saving was lost", &[Tokens, StoreFailed, Woke, Read(Newer)], Shared),
            ("i09 the provider is away", &[Transient, Written], Kept),
            ("i09 and the store too", &[Transient, StoreFailed], Kept),
            ("i10 another person's token", &[Rejected, Written], Ended),
            ("the store is away", &[GrantGone, StoreFailed], Kept),
            (
                "another pod is spending it too",
                &[GrantGone, Read(NotedByOther), Woke, Read(Newer)],
                Shared,
            ),
        ];
        for (name, rest, outcome) in walks {
            let events = [&until_exchange[..], rest].concat();
            let (state, effects) = walk(&events, AfterCrash::Retry);
            assert_eq!(state, State::Done(*outcome), "{name}");
            assert_eq!(effects.last(), Some(&Effect::ReleaseLease), "{name}");
            let spent = effects.iter().filter(|effect| **effect == Effect::Exchange).count();
            assert_eq!(spent, 1, "{name}");
        }
        let losers: &[(&str, &[Event], Outcome)] = &[
            (
                "waits and shares",
                &[Begin, LeaseHeld, Woke, Read(Same), LeaseHeld, Woke, Read(Newer)],
                Shared,
            ),
            (
                "takes over from a crash",
                &[Begin, LeaseHeld, Woke, Read(NotedByUs), LeaseTaken, Read(Newer)],
                Shared,
            ),
            ("is signed out", &[Begin, LeaseHeld, Woke, Read(Gone)], Ended),
            ("i14 rests with the others", &[Begin, LeaseHeld, Woke, Read(Rested)], Kept),
            ("cannot lease", &[Begin, StoreFailed], Kept),
        ];
        for (name, events, outcome) in losers {
            let (state, effects) = walk(events, AfterCrash::Retry);
            assert_eq!(state, State::Done(*outcome), "{name}");
            assert!(!effects.contains(&Effect::Exchange), "{name}");
        }
    }

    #[test]
    fn a_crash_inside_an_exchange_is_tried_again_or_ends_the_session() {
        use Event::{Begin, LeaseTaken, Read};
        let events = [Begin, LeaseTaken, Read(View::NotedByOther)];
        assert_eq!(walk(&events, AfterCrash::Retry).0, State::Noting { tries: 0 });
        assert_eq!(walk(&events, AfterCrash::SignIn).0, State::Ending);
    }

    #[test]
    fn h18_a_logout_revokes_the_new_tokens() {
        use Event::{Begin, Conflict, LeaseTaken, Read, Tokens, Woke, Written};
        let events = [
            Begin,
            LeaseTaken,
            Read(View::Same),
            Written,
            Tokens,
            Conflict,
            Woke,
            Read(View::Gone),
        ];
        assert!(walk(&events, AfterCrash::Retry).1.contains(&Effect::RevokeNew));
    }

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
