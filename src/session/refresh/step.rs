//! The function itself: every transition, and its bounds.

use super::{AfterCrash, Effect, Event, Outcome, State, View};

/// Waits of a loser before it goes on with what there is.
pub(super) const MAX_WAITS: u16 = 240;
/// Writes of the note that may meet a change before the attempt is given up.
pub(super) const MAX_TRIES: u8 = 8;
/// Attempts at what must not be left half done; with growing pauses about a minute.
pub(super) const MAX_SAVES: u8 = 74;
/// Looks at a note whose holder has no lease, before it is overruled: 3.5 s. One who comes back
/// from an outage as long as a lease has tried to write by then.
pub(super) const DOUBTS: u16 = 30;

/// Takes an attempt one step further.
pub(crate) fn step(state: State, event: Event, policy: AfterCrash) -> (State, Vec<Effect>) {
    use Effect as Do;
    use Event as On;
    use State as At;

    let done = |outcome| (At::Done(outcome), vec![Do::ReleaseLease]);
    // Nothing was leased, so nothing is given back.
    let lost = |outcome| (At::Done(outcome), vec![]);
    match (state, event) {
        (At::Start, On::Begin) => (At::Leasing { waits: 0 }, vec![Do::TakeLease]),

        (At::Leasing { .. }, On::LeaseTaken) => (At::Reading { tries: 0 }, vec![Do::Read]),
        (At::Leasing { waits }, On::LeaseHeld) if waits >= MAX_WAITS => lost(Outcome::Unknown),
        (At::Leasing { waits }, On::LeaseHeld) => (At::Waiting { waits }, vec![Do::Pause]),
        // It may have been taken all the same.
        (At::Leasing { .. }, On::StoreFailed) => done(Outcome::Unknown),

        (At::Waiting { .. }, On::Woke) => (state, vec![Do::Read]),
        (At::Waiting { .. }, On::Read(View::Newer)) => lost(Outcome::Shared),
        (At::Waiting { .. }, On::Read(View::Gone)) => lost(Outcome::Ended),
        (At::Waiting { .. }, On::Read(View::Rested)) => lost(Outcome::Kept),
        (At::Waiting { waits }, On::Read(View::NotedByOther | View::NotedByUs | View::Same)) => {
            (At::Leasing { waits: waits + 1 }, vec![Do::TakeLease])
        }
        (At::Waiting { .. }, On::StoreFailed) => lost(Outcome::Unknown),

        // Before the token is spent.
        (
            At::Reading { .. } | At::Doubting { .. } | At::Unsure { .. },
            On::Read(view @ (View::Newer | View::Gone | View::Rested)),
        ) => done(match view {
            View::Newer => Outcome::Shared,
            View::Gone => Outcome::Ended,
            _ => Outcome::Kept,
        }),
        (At::Reading { .. } | At::Unsure { .. }, On::Read(View::NotedByOther)) => {
            (At::Doubting { waits: 0 }, vec![Do::Pause])
        }
        // The note was written although the store did not say so.
        (
            At::Reading { .. } | At::Doubting { .. } | At::Unsure { .. },
            On::Read(View::NotedByUs),
        ) => (At::Exchanging, vec![Do::Exchange]),
        (At::Reading { tries } | At::Unsure { tries }, On::Read(View::Same)) => {
            (At::Noting { tries }, vec![Do::WriteNote])
        }
        (At::Reading { .. } | At::Doubting { .. }, On::StoreFailed) => done(Outcome::Unknown),

        (At::Doubting { .. }, On::Woke) => (state, vec![Do::Read]),
        (At::Doubting { waits }, On::Read(View::NotedByOther)) if waits < DOUBTS => {
            (At::Doubting { waits: waits + 1 }, vec![Do::Pause])
        }
        (At::Doubting { .. }, On::Read(View::NotedByOther)) => {
            (At::Overtaking, vec![Do::ConfirmLease])
        }
        // Its holder has come back and taken it away, and that was so long ago that it is due.
        (At::Doubting { .. }, On::Read(View::Same)) => {
            (At::Noting { tries: 0 }, vec![Do::WriteNote])
        }

        (At::Overtaking, On::LeaseTaken) if policy == AfterCrash::SignIn => {
            (At::Abandoning { tries: 0 }, vec![Do::EndSession])
        }
        (At::Overtaking, On::LeaseTaken) => (At::Noting { tries: 0 }, vec![Do::WriteNote]),
        // The note may be of somebody who holds it now.
        (At::Overtaking, On::LeaseHeld) => (At::Waiting { waits: 0 }, vec![Do::Pause]),
        (At::Overtaking, On::StoreFailed) => done(Outcome::Unknown),

        (At::Abandoning { .. }, On::Written) => done(Outcome::Ended),
        (At::Abandoning { tries }, On::Conflict) if tries < MAX_TRIES => {
            (At::Reading { tries: tries + 1 }, vec![Do::Read])
        }
        // The other's note is there still, or the session is gone: whoever comes next sees it.
        (At::Abandoning { .. }, On::Conflict | On::StoreFailed) => done(Outcome::Unknown),

        (At::Noting { .. }, On::Written) => (At::Exchanging, vec![Do::Exchange]),
        // The change may be an earlier note of ours that came late.
        (At::Noting { tries }, On::Conflict) if tries < MAX_TRIES => {
            (At::Unsure { tries: tries + 1 }, vec![Do::Read])
        }
        (At::Noting { .. }, On::Conflict) => done(Outcome::Unknown),
        // An earlier one may have been written.
        (At::Noting { tries }, On::Unsent) => {
            (At::Recalling { tries, outcome: Outcome::Unknown }, vec![Do::Pause])
        }
        // It may be there, or come late: a note without an exchange would be taken for a crash.
        (At::Noting { tries } | At::Unsure { tries }, On::StoreFailed) if tries < MAX_SAVES => {
            (At::Unsure { tries: tries + 1 }, vec![Do::Pause])
        }
        (At::Noting { .. } | At::Unsure { .. }, On::StoreFailed) => done(Outcome::Unknown),
        (At::Unsure { .. }, On::Woke) => (state, vec![Do::Read]),

        (At::Exchanging, On::Tokens) => (At::Saving { tries: 0 }, vec![Do::Save]),
        (At::Exchanging, On::GrantGone) => (At::Confirming { waits: 0 }, vec![Do::Read]),
        (At::Exchanging, On::Rejected) => {
            (At::Ending { waits: 0 }, vec![Do::EndSession, Do::RevokeNew])
        }
        (At::Exchanging, On::Transient) => {
            (At::Clearing { tries: 0, outcome: Outcome::Kept }, vec![Do::ClearNote])
        }
        (At::Exchanging, On::Unsent) => {
            (At::Clearing { tries: 0, outcome: Outcome::Unknown }, vec![Do::ClearNote])
        }

        (At::Clearing { outcome, .. }, On::Written) => done(outcome),
        // A note that stays behind would be taken for a crash.
        (
            At::Clearing { tries, outcome } | At::Recalling { tries, outcome },
            On::Conflict | On::StoreFailed,
        ) if tries < MAX_SAVES => (At::Recalling { tries: tries + 1, outcome }, vec![Do::Pause]),
        (
            At::Clearing { outcome, .. } | At::Recalling { outcome, .. },
            On::Conflict | On::StoreFailed,
        ) => done(outcome),
        (At::Recalling { .. }, On::Woke) => (state, vec![Do::Read]),
        (At::Recalling { tries, outcome }, On::Read(View::NotedByUs)) => {
            (At::Clearing { tries, outcome }, vec![Do::ClearNote])
        }
        (At::Recalling { .. }, On::Read(View::Newer)) => done(Outcome::Shared),
        (At::Recalling { .. }, On::Read(View::Gone)) => done(Outcome::Ended),
        (
            At::Recalling { outcome, .. },
            On::Read(View::NotedByOther | View::Rested | View::Same),
        ) => done(outcome),

        // A back-channel logout removes nothing: its mark is looked for once more.
        (At::Saving { .. }, On::Written) => (At::Checking { tries: 0 }, vec![Do::Read]),
        (At::Checking { .. }, On::Woke) => (state, vec![Do::Read]),
        (At::Checking { .. } | At::Rereading { .. }, On::Read(View::Gone)) => {
            (At::Leaving, vec![Do::EndSession, Do::RevokeNew])
        }
        (At::Checking { .. }, On::Read(_)) => done(Outcome::Refreshed),
        (At::Checking { tries }, On::StoreFailed) if tries < MAX_SAVES => {
            (At::Checking { tries: tries + 1 }, vec![Do::Pause])
        }
        (At::Checking { .. }, On::StoreFailed) => done(Outcome::Refreshed),
        // Removed already, as a rule; a record that stays is marked, and good for nothing.
        (At::Leaving, On::Written | On::Conflict | On::StoreFailed) => done(Outcome::Ended),

        // A write that was not answered may have been carried out: reading tells. The old token
        // is spent by now, so the new one is not given up lightly.
        (At::Saving { tries } | At::Rereading { tries }, On::Conflict | On::StoreFailed)
            if tries < MAX_SAVES =>
        {
            (At::Rereading { tries: tries + 1 }, vec![Do::Pause])
        }
        // Not revoked: the last write may be carried out yet, and would save what is good.
        (At::Saving { .. } | At::Rereading { .. }, On::Conflict | On::StoreFailed) => {
            done(Outcome::Unknown)
        }

        (At::Rereading { .. }, On::Woke) => (state, vec![Do::Read]),
        // Saved by us, as like as not: nothing is revoked.
        (At::Rereading { .. }, On::Read(View::Newer)) => done(Outcome::Shared),
        (
            At::Rereading { tries },
            On::Read(View::NotedByOther | View::NotedByUs | View::Rested | View::Same),
        ) => (At::Saving { tries }, vec![Do::Save]),

        (At::Confirming { .. }, On::Read(View::Newer)) => done(Outcome::Shared),
        (At::Confirming { .. }, On::Read(View::Gone)) => done(Outcome::Ended),
        // Somebody else is spending it just now, and may have been the first.
        (At::Confirming { waits }, On::Read(View::NotedByOther)) if waits < MAX_WAITS => {
            (At::Confirming { waits: waits + 1 }, vec![Do::Pause])
        }
        (At::Confirming { .. }, On::Woke) => (state, vec![Do::Read]),
        (
            At::Confirming { waits },
            On::Read(View::NotedByOther | View::NotedByUs | View::Rested | View::Same),
        ) => (At::Ending { waits }, vec![Do::EndSession]),

        (At::Ending { .. }, On::Written) => done(Outcome::Ended),
        // The token is worth nothing any more, and must not be tried by whoever comes next.
        (At::Ending { waits } | At::Confirming { waits }, On::Conflict | On::StoreFailed)
            if waits < MAX_WAITS =>
        {
            (At::Confirming { waits: waits + 1 }, vec![Do::Pause])
        }
        (At::Ending { .. } | At::Confirming { .. }, On::Conflict | On::StoreFailed) => {
            done(Outcome::Unknown)
        }

        (At::Done(_), _) => (state, vec![]),
        // No effect brings such an event. Whatever else happens, nobody is signed out by it.
        _ => done(Outcome::Unknown),
    }
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
            Transient, Unsent, Woke, Written,
        };
        use Outcome::{Ended, Kept, Refreshed, Shared, Unknown};
        use View::{Gone, Newer, NotedByOther, NotedByUs, Rested, Same};

        let until_exchange = [Begin, LeaseTaken, Read(Same), Written];
        let walks: &[(&str, &[Event], Outcome)] = &[
            ("it works", &[Tokens, Written, Read(Newer)], Refreshed),
            ("i08 the grant is gone", &[GrantGone, Read(NotedByUs), Written], Ended),
            ("i06 another pod refreshed it", &[GrantGone, Read(Newer)], Shared),
            ("h18 a logout wins", &[Tokens, Conflict, Woke, Read(Gone), Conflict], Ended),
            ("h18 a mark too", &[Tokens, Written, StoreFailed, Woke, Read(Gone), Written], Ended),
            (
                "touched meanwhile",
                &[Tokens, Conflict, Woke, Read(NotedByUs), Written, Read(Newer)],
                Refreshed,
            ),
            ("the answer to saving was lost", &[Tokens, StoreFailed, Woke, Read(Newer)], Shared),
            ("i09 the provider is away", &[Transient, Written], Kept),
            (
                "i09 and the store too, for a moment",
                &[Transient, StoreFailed, Woke, StoreFailed, Woke, Read(NotedByUs), Written],
                Kept,
            ),
            (
                "the answer to clearing was lost",
                &[Transient, StoreFailed, Woke, Read(Rested)],
                Kept,
            ),
            ("h18 and a logout", &[Transient, Conflict, Woke, Read(Gone)], Ended),
            ("no lease was left", &[Unsent, Written], Unknown),
            ("i10 another person's token", &[Rejected, Written], Ended),
            (
                "i08 and the store is away for a moment",
                &[GrantGone, StoreFailed, Woke, Read(NotedByUs), StoreFailed, Woke, Read(Gone)],
                Ended,
            ),
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
            ("cannot lease", &[Begin, StoreFailed], Unknown),
            ("cannot read", &[Begin, LeaseHeld, Woke, StoreFailed], Unknown),
        ];
        for (name, events, outcome) in losers {
            let (state, effects) = walk(events, AfterCrash::Retry);
            assert_eq!(state, State::Done(*outcome), "{name}");
            assert!(!effects.contains(&Effect::Exchange), "{name}");
        }
    }

    #[test]
    fn a_crash_inside_an_exchange_is_doubted_then_tried_again_or_ends_the_session() {
        use Event::{Begin, LeaseHeld, LeaseTaken, Read, Woke};
        let found = [Begin, LeaseTaken, Read(View::NotedByOther)];
        let doubts = [Woke, Read(View::NotedByOther)].repeat(usize::from(DOUBTS) + 1);
        let doubted = [&found[..], &doubts].concat();
        for (policy, expected) in [
            (AfterCrash::Retry, State::Noting { tries: 0 }),
            (AfterCrash::SignIn, State::Abandoning { tries: 0 }),
        ] {
            let before = &doubted[..doubted.len() - 1];
            assert_eq!(walk(before, policy).0, State::Doubting { waits: DOUBTS });
            assert_eq!(walk(&doubted, policy).0, State::Overtaking);
            let sure = [&doubted[..], &[LeaseTaken]].concat();
            assert_eq!(walk(&sure, policy).0, expected);
            let lost = [&doubted[..], &[LeaseHeld]].concat();
            assert_eq!(walk(&lost, policy).0, State::Waiting { waits: 0 });
            let back = [&found[..], &[Woke, Read(View::Newer)]].concat();
            assert_eq!(walk(&back, policy).0, State::Done(Outcome::Shared));
        }
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
}
