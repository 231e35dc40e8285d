//! A model of three pods that refresh one session, walking the same [`step`] as the code.
//!
//! A checker tries every order of events: each request of an attempt takes place at any later
//! time; its answer may be lost, or the request arrive when nobody waits for it any more; pods
//! crash and begin anew, leases run out, the provider fails, lies and detects reuse; a logout
//! removes or marks the session at any time. Troubles are numbered, so that the space is finite;
//! counts of waits are not kept, so that an attempt may lose patience at any time.
//!
//! An answer of the provider that nobody receives counts as a stall: the token may be spent then,
//! and one that is tried again is what tells.
//!
//! What is *not* in it: a lease that is asked for or given back late (it lapses, and others wait
//! longer), reads that mix two versions of a record (the store's part), and providers that let a
//! spent token pass (they are kinder).

mod mutants;
mod run;
mod world;

use stateright::{Checker, Model, Property};

use self::run::{Driver, Step};
use self::world::{Action, Budget, Told, World};
use super::{AfterCrash, step};

struct Pods {
    policy: AfterCrash,
    step: Step,
    driver: Driver,
    budget: Budget,
}

const CONCURRENT: &str = "no token is on its way twice unless a holder stalled";
const TWICE: &str = "no token is spent twice but after a crash or a stall in the exchange";
const LOST: &str = "nobody is signed out but after a crash or a stall in the exchange";
const LOGOUT: &str = "a logout wins";
const LEAKED: &str = "new tokens are saved, or revoked";

impl Model for Pods {
    type State = World;
    type Action = Action;

    fn init_states(&self) -> Vec<World> {
        vec![World::new(self.budget)]
    }

    fn actions(&self, world: &World, actions: &mut Vec<Action>) {
        world.actions(actions);
    }

    fn next_state(&self, world: &World, action: Action) -> Option<World> {
        let mut next = world.clone();
        next.act(action, self.step, self.policy, self.driver);
        (next != *world).then_some(next)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        let mut properties = vec![
            Property::always(CONCURRENT, |_, world: &World| {
                let mut tokens = (0..).zip(world.on_their_way());
                tokens.all(|(token, sent)| sent <= 1 || world.told.stalled.has(token))
            }),
            Property::always(TWICE, |model: &Self, world: &World| {
                let Told { stalled, unanswered, crashed, .. } = world.told;
                // Who would rather sign in anew has no token tried again after a crash.
                let retried = |token| crashed.has(token) && model.policy == AfterCrash::Retry;
                (0..).zip(world.provider.spends).all(|(token, spends)| {
                    spends <= 1 || stalled.has(token) || unanswered.has(token) || retried(token)
                })
            }),
            Property::always(LOST, |model: &Self, world: &World| {
                let told = world.told;
                let excused = told.stalled.any() || told.unanswered.any() || told.crashed.any();
                let doubtful = told.ended.is_some_and(|generation| told.noted.has(generation))
                    && model.policy == AfterCrash::SignIn;
                let logout = told.removed || told.marked;
                world.record.is_some() || logout || told.refused || excused || doubtful
            }),
            Property::always(LOGOUT, |_, world: &World| {
                world.record.is_none() || !world.told.removed
            }),
            Property::always(LEAKED, |_, world: &World| {
                !world.told.leaked || world.told.stalled.any()
            }),
        ];
        // Without these the model might say nothing.
        properties.extend([
            Property::sometimes("it is refreshed", |_, world: &World| world.told.refreshed),
            Property::sometimes("another shares the result", |_, world: &World| world.told.shared),
        ]);
        if self.budget.troubles > 0 {
            properties.extend([
                Property::sometimes("a crash is got over", |model: &Self, world: &World| {
                    let over = match model.policy {
                        AfterCrash::Retry => world.told.overtaken && world.told.refreshed,
                        AfterCrash::SignIn => world.told.noted.any() && world.record.is_none(),
                    };
                    over && !world.told.removed && !world.told.refused
                }),
                Property::sometimes("a doubted holder comes back", |_, world: &World| {
                    world.told.came_back
                }),
                Property::sometimes("a token is spent twice", |_, world: &World| {
                    world.provider.spends.iter().any(|spends| *spends > 1)
                }),
            ]);
        }
        if self.budget.logouts > 0 {
            properties
                .push(Property::sometimes("a logout meets new tokens", |_, world: &World| {
                    world.told.revoked
                }));
        }
        properties
    }
}

/// What may happen to three pods in these tests.
const QUIET: Budget = Budget { attempts: 4, troubles: 0, logouts: 1, touches: 1, dues: 1 };
const TROUBLED: Budget = Budget { attempts: 3, troubles: 1, logouts: 1, touches: 1, dues: 1 };
const TWO_TROUBLES: Budget = Budget { attempts: 3, troubles: 2, logouts: 1, touches: 0, dues: 1 };
const LARGE: [Budget; 2] = [
    Budget { attempts: 4, troubles: 2, logouts: 1, touches: 1, dues: 1 },
    Budget { attempts: 3, troubles: 3, logouts: 1, touches: 0, dues: 1 },
];

fn check(policy: AfterCrash, budget: Budget) {
    let model = Pods { policy, step, driver: Driver::default(), budget };
    let checker = model.checker().spawn_bfs().join();
    println!("{policy:?}, {budget:?}: {} states", checker.unique_state_count());
    checker.assert_properties();
}

#[test]
fn i06_i16_pods_refresh_once_and_a_logout_wins() {
    check(AfterCrash::Retry, QUIET);
}

#[test]
fn i07_one_trouble_of_any_kind_at_any_time() {
    for policy in [AfterCrash::Retry, AfterCrash::SignIn] {
        check(policy, TROUBLED);
    }
}

#[test]
fn i07_two_troubles_of_any_kind_at_any_time() {
    for policy in [AfterCrash::Retry, AfterCrash::SignIn] {
        check(policy, TWO_TROUBLES);
    }
}

#[test]
#[ignore = "millions of states: minutes"]
fn i07_more_attempts_and_three_troubles() {
    for (budget, policy) in
        LARGE.iter().flat_map(|budget| [(budget, AfterCrash::Retry), (budget, AfterCrash::SignIn)])
    {
        check(policy, *budget);
    }
}
