//! The model can fail: each of these is the step, or its driver, with one precaution less.

use stateright::{Checker, HasDiscoveries, Model};

use super::super::{AfterCrash, Effect, Event, Outcome, State, View, step};
use super::run::{Driver, Step};
use super::world::Budget;
use super::{CONCURRENT, LEAKED, LOGOUT, LOST, Pods, QUIET, TROUBLED, TWICE, TWO_TROUBLES};

type Stepped = (State, Vec<Effect>);

fn gives_up() -> Stepped {
    (State::Done(Outcome::Kept), vec![Effect::ReleaseLease])
}

/// Somebody else's lease does not count.
fn without_lease(state: State, event: Event, policy: AfterCrash) -> Stepped {
    step(state, if event == Event::LeaseHeld { Event::LeaseTaken } else { event }, policy)
}

fn without_note(state: State, event: Event, policy: AfterCrash) -> Stepped {
    match (state, event) {
        (State::Reading { .. }, Event::Read(View::Same)) => {
            (State::Exchanging, vec![Effect::Exchange])
        }
        _ => step(state, event, policy),
    }
}

/// A note is taken for that of a crash at once.
fn without_doubt(state: State, event: Event, policy: AfterCrash) -> Stepped {
    match (state, event) {
        (State::Reading { .. }, Event::Read(View::NotedByOther)) => {
            step(State::Overtaking, Event::LeaseTaken, policy)
        }
        _ => step(state, event, policy),
    }
}

/// The lease that was taken once is believed to be held still.
fn without_confirmation(state: State, event: Event, policy: AfterCrash) -> Stepped {
    let (next, effects) = step(state, event, policy);
    if next == State::Overtaking { step(next, Event::LeaseTaken, policy) } else { (next, effects) }
}

/// A note that could not be taken back is left.
fn without_recall(state: State, event: Event, policy: AfterCrash) -> Stepped {
    match (state, event) {
        (State::Clearing { .. }, Event::StoreFailed) => gives_up(),
        _ => step(state, event, policy),
    }
}

/// A note that nobody confirmed is left.
fn without_certainty(state: State, event: Event, policy: AfterCrash) -> Stepped {
    match (state, event) {
        (State::Noting { .. }, Event::StoreFailed) => gives_up(),
        _ => step(state, event, policy),
    }
}

/// A session that could not be ended is left with its spent token.
fn without_end(state: State, event: Event, policy: AfterCrash) -> Stepped {
    match (state, event) {
        (State::Ending { .. }, Event::StoreFailed) => gives_up(),
        _ => step(state, event, policy),
    }
}

/// New tokens are given up when saving them fails.
fn without_perseverance(state: State, event: Event, policy: AfterCrash) -> Stepped {
    match (state, event) {
        (State::Saving { .. }, Event::StoreFailed | Event::Conflict) => gives_up(),
        _ => step(state, event, policy),
    }
}

/// The tokens that a logout met are forgotten.
fn without_revocation(state: State, event: Event, policy: AfterCrash) -> Stepped {
    let (next, mut effects) = step(state, event, policy);
    effects.retain(|effect| *effect != Effect::RevokeNew);
    (next, effects)
}

/// A mark that came during the exchange is not looked for.
fn without_check(state: State, event: Event, policy: AfterCrash) -> Stepped {
    match (state, event) {
        (State::Saving { .. }, Event::Written) => {
            (State::Done(Outcome::Refreshed), vec![Effect::ReleaseLease])
        }
        _ => step(state, event, policy),
    }
}

#[test]
fn every_precaution_is_needed() {
    use AfterCrash::{Retry, SignIn};
    let careful = Driver::default();
    let hasty = Driver { sends_without_lease: true, ..careful };
    let blind = Driver { saves_blindly: true, ..careful };
    let mutants: &[(&str, Step, Driver, AfterCrash, Budget, &str)] = &[
        ("the lease of others", without_lease, hasty, Retry, QUIET, CONCURRENT),
        ("lease left when sending", step, hasty, Retry, TROUBLED, CONCURRENT),
        ("the note", without_note, careful, SignIn, TROUBLED, TWICE),
        ("doubt", without_doubt, careful, SignIn, TROUBLED, LOST),
        ("a lease confirmed", without_confirmation, careful, SignIn, TROUBLED, LOST),
        ("the note taken back", without_recall, careful, SignIn, TWO_TROUBLES, LOST),
        ("the fate of the note", without_certainty, careful, SignIn, TROUBLED, LOST),
        ("the end", without_end, careful, Retry, TWO_TROUBLES, TWICE),
        ("the saving", without_perseverance, careful, Retry, TROUBLED, TWICE),
        ("compare-and-swap", step, blind, Retry, QUIET, LOGOUT),
        ("a last look", without_check, careful, Retry, QUIET, LEAKED),
        ("revocation", without_revocation, careful, Retry, QUIET, LEAKED),
    ];
    for (name, step, driver, policy, budget, broken) in mutants {
        let (step, driver, policy, budget) = (*step, *driver, *policy, *budget);
        let model = Pods { policy, step, driver, budget }.checker();
        let enough = HasDiscoveries::AllOf([*broken].into());
        let found = model.finish_when(enough).spawn_bfs().join().discovery(broken);
        assert!(found.is_some(), "without {name} it still holds that {broken}");
    }
}
