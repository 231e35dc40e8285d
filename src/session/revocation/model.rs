//! A model of a login that completes while logouts arrive, on any pods: each request to the store
//! takes place at any time, the store may lose everything in between, and sessions are judged by
//! the same [`Marks`] as in the code.

use stateright::{Checker, HasDiscoveries, Model, Property};

use super::{Baseline, Counter, Mark, Marks, digest};
use crate::clock::UnixTime;

/// How a mark takes the place of an older one.
type Over = fn(Mark, Option<Mark>) -> Mark;
/// Whether the marks may be the baseline of a login.
type Predate = fn(&Marks, Counter) -> bool;

struct Logins {
    over: Over,
    predate: Predate,
    /// Whether a logout raises the counter before it writes its mark.
    raises: bool,
    /// Whether it looks at the incarnation once more.
    looks: bool,
}

#[derive(Clone, Debug, Eq, Hash, PartialEq)]
struct World {
    counter: Option<(u8, u64)>,
    mark: Option<Mark>,
    incarnations: u8,
    may_be_emptied: bool,
    login: Login,
    /// The logouts that had not raised the counter when the login began.
    later: [bool; 2],
    logouts: [Logout; 2],
}

#[derive(Clone, Debug, Eq, Hash, PartialEq)]
enum Login {
    Ahead,
    Begun { noted: (u8, u64), counter: Option<Option<(u8, u64)>>, mark: Option<Option<Mark>> },
    Live(Stood),
    Refused,
}

/// A baseline, as the model can hash it.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
struct Stood([u8; 16], Option<[u8; 16]>);

#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
enum Logout {
    Ahead,
    /// It waits for its turn to raise the counter.
    Queued,
    /// It has read the counter; those who queued by then share what comes of it.
    Raising {
        old: (u8, u64),
        with: [bool; 2],
    },
    Raised {
        n: (u8, u64),
    },
    Writing {
        n: (u8, u64),
        old: Option<Mark>,
    },
    /// The mark is written; whether the store is the same still is looked up.
    Written {
        n: (u8, u64),
    },
    Over,
}

#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
enum Action {
    Begin,
    Empty,
    LoadCounter,
    LoadMark,
    Establish,
    Logout(usize),
}

const WINS: &str = "a logout wins over every login that began before it";
const BARS: &str = "a logout that is over bars nobody from signing in";

fn counter((incarnation, n): (u8, u64)) -> Counter {
    Counter { incarnation: [incarnation; 16], n, renewed: UnixTime::from_secs(0) }
}

/// Judges as the code does.
fn marks(counter: Option<(u8, u64)>, mark: Option<Mark>) -> Marks {
    let incarnation = counter.map_or([0; 16], |(incarnation, _)| [incarnation; 16]);
    Marks::of(Some(incarnation), &[None, None, mark, None, None], digest([None; 5]))
}

impl World {
    /// The counter, made if it is absent.
    fn counter(&mut self) -> (u8, u64) {
        *self.counter.get_or_insert_with(|| {
            self.incarnations += 1;
            (self.incarnations, 0)
        })
    }

    fn is_live(&self) -> bool {
        let Login::Live(Stood(generations, incarnation)) = self.login else { return false };
        Baseline { generations, incarnation } == marks(self.counter, self.mark).baseline
    }

    fn log_out(&mut self, at: usize, model: &Logins) {
        self.logouts[at] = match self.logouts[at] {
            Logout::Ahead => Logout::Queued,
            Logout::Queued => {
                let with = self.logouts.map(|other| other == Logout::Queued);
                Logout::Raising { old: self.counter(), with }
            }
            Logout::Raising { old: (incarnation, n), with } => {
                if self.counter != Some((incarnation, n)) {
                    self.logouts[at] = Logout::Queued;
                    return;
                }
                let n = (incarnation, n + u64::from(model.raises));
                self.counter = Some(n);
                for (other, with) in self.logouts.iter_mut().zip(with) {
                    if with && *other == Logout::Queued {
                        *other = Logout::Raised { n };
                    }
                }
                Logout::Raised { n }
            }
            Logout::Raised { n } => Logout::Writing { n, old: self.mark },
            Logout::Writing { n, old } if self.mark != old => Logout::Raised { n },
            Logout::Writing { n: (incarnation, n), old } => {
                let generation = [u8::try_from(at + 1).unwrap(); 16];
                let mark = Mark { generation, incarnation: [incarnation; 16], n };
                self.mark = Some((model.over)(mark, old));
                if model.looks { Logout::Written { n: (incarnation, n) } } else { Logout::Over }
            }
            Logout::Written { n: (incarnation, _) } => match self.counter().0 == incarnation {
                true => Logout::Over,
                false => Logout::Queued,
            },
            Logout::Over => Logout::Over,
        };
    }
}

impl Model for Logins {
    type State = World;
    type Action = Action;

    fn init_states(&self) -> Vec<World> {
        vec![World {
            counter: None,
            mark: None,
            incarnations: 0,
            may_be_emptied: true,
            login: Login::Ahead,
            later: [false; 2],
            logouts: [Logout::Ahead; 2],
        }]
    }

    fn actions(&self, _: &World, actions: &mut Vec<Action>) {
        use Action::{Begin, Empty, Establish, LoadCounter, LoadMark, Logout};
        actions.extend([Begin, Empty, LoadCounter, LoadMark, Establish, Logout(0), Logout(1)]);
    }

    fn next_state(&self, world: &World, action: Action) -> Option<World> {
        let mut next = world.clone();
        match (action, &mut next.login) {
            (Action::Begin, Login::Ahead) => {
                let noted = next.counter();
                next.login = Login::Begun { noted, counter: None, mark: None };
                next.later = next.logouts.map(|logout| {
                    matches!(logout, Logout::Ahead | Logout::Queued | Logout::Raising { .. })
                });
            }
            (Action::LoadCounter, Login::Begun { counter: seen @ None, .. }) => {
                *seen = Some(next.counter);
            }
            (Action::LoadMark, Login::Begun { mark: seen @ None, .. }) => *seen = Some(next.mark),
            (Action::Establish, Login::Begun { noted, counter: Some(seen), mark: Some(mark) }) => {
                let marks = marks(*seen, *mark);
                let Baseline { generations, incarnation } = marks.baseline;
                let good = (self.predate)(&marks, counter(*noted));
                next.login = match good {
                    true => Login::Live(Stood(generations, incarnation)),
                    false => Login::Refused,
                };
            }
            (Action::Empty, _) if next.may_be_emptied => {
                (next.counter, next.mark, next.may_be_emptied) = (None, None, false);
            }
            (Action::Logout(at), _) => next.log_out(at, self),
            _ => return None,
        }
        (next != *world).then_some(next)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always(WINS, |_, world: &World| {
                let over = |at: usize| world.later[at] && world.logouts[at] == Logout::Over;
                !((over(0) || over(1)) && world.is_live())
            }),
            Property::always(BARS, |_, world: &World| {
                let quiet = |logout: &Logout| matches!(logout, Logout::Ahead | Logout::Over);
                let now = world.counter.unwrap_or((world.incarnations + 1, 0));
                let anew = || marks(Some(now), world.mark).predate(Some(counter(now)));
                !world.logouts.iter().all(quiet) || anew()
            }),
            Property::sometimes("a login is refused", |_, world: &World| {
                world.login == Login::Refused && world.may_be_emptied
            }),
            Property::sometimes("a login after a logout is live", |_, world: &World| {
                let over = |logout: &Logout| *logout == Logout::Over;
                world.logouts.iter().all(over) && world.is_live()
            }),
            Property::sometimes("an emptied store ends a session", |_, world: &World| {
                let quiet = world.logouts.iter().all(|logout| *logout == Logout::Ahead);
                matches!(world.login, Login::Live(_)) && quiet && !world.is_live()
            }),
        ]
    }
}

const CODE: Logins = Logins {
    over: Mark::over,
    predate: |marks, noted| marks.predate(Some(noted)),
    raises: true,
    looks: true,
};

#[test]
fn j48_i16_a_logout_wins_over_a_login_that_completes_meanwhile() {
    let checker = CODE.checker().spawn_bfs().join();
    println!("{} states", checker.unique_state_count());
    checker.assert_properties();
}

#[test]
fn j48_every_precaution_is_needed() {
    let mutants = [
        ("the number noted at the start", Logins { predate: |_, _| true, ..CODE }, WINS),
        ("a raise before the mark", Logins { raises: false, ..CODE }, WINS),
        // Two logouts at once on two pods, and a login that began between their raises.
        ("the higher of two numbers", Logins { over: |mark, _| mark, ..CODE }, WINS),
        // A store that was emptied in the middle of a logout.
        ("a look at the incarnation", Logins { looks: false, ..CODE }, BARS),
    ];
    for (name, mutant, broken) in mutants {
        let enough = HasDiscoveries::AllOf([broken].into());
        let checker = mutant.checker().finish_when(enough).spawn_bfs().join();
        let found = checker.discovery(broken);
        assert!(found.is_some(), "without {name} it still holds that {broken}");
    }
}
