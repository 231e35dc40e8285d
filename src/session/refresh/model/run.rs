//! What happens: each action, carried out on the world.

use super::super::step::DOUBTS;
use super::super::{AfterCrash, Effect, Event, Outcome, State, View};
use super::world::{Action, Attempt, Holder, Message, Record, World, exhausted};

/// The function under test, or one that was broken on purpose.
pub(super) type Step = fn(State, Event, AfterCrash) -> (State, Vec<Effect>);

/// How effects are carried out; what is `true` is a mistake made on purpose.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Driver {
    /// A token is sent whatever is left of the lease.
    pub(super) sends_without_lease: bool,
    /// Saving overwrites whatever is there, or is not.
    pub(super) saves_blindly: bool,
}

impl World {
    /// Lets something happen.
    pub(super) fn act(&mut self, action: Action, step: Step, policy: AfterCrash, driver: Driver) {
        let mut run = Run { world: self, step, policy, driver };
        match action {
            Action::Act(p) => run.carry_out(p),
            Action::Arrive(n) => run.arrive(n),
            Action::Begin(p) => run.begin(p),
            Action::Crash(p) => run.crash(p),
            Action::Delay(p) => run.delay(p),
            Action::Doubted(p) => {
                run.pod(p).state = State::Doubting { waits: DOUBTS };
                run.carry_out(p);
            }
            Action::Due => {
                run.world.left.dues -= 1;
                for (generation, sent) in (0..).zip(run.world.on_their_way()) {
                    run.world.told.stalled.add(generation, sent > 0);
                }
                run.change(|record| record.due = true);
            }
            Action::Fail(p) => {
                run.world.left.troubles -= 1;
                run.pod(p).spent = false;
                run.feed(p, Event::Transient);
            }
            Action::Lapse => {
                for message in &run.world.adrift {
                    let exchange = message.effect == Effect::Exchange;
                    run.world.told.stalled.add(message.generation, exchange);
                }
                run.world.lease = None;
            }
            Action::Lie(p) => {
                run.world.left.troubles -= 1;
                let event = run.spend(p);
                run.world.told.refused |= event == Event::Tokens;
                run.pod(p).new = event == Event::Tokens;
                run.feed(p, if event == Event::Tokens { Event::Rejected } else { event });
            }
            Action::Logout => {
                run.world.left.logouts -= 1;
                run.world.told.removed = true;
                run.world.record = None;
                run.stale();
            }
            Action::Mark => {
                run.world.left.logouts -= 1;
                run.world.told.marked = true;
            }
            Action::Patience(p) => {
                run.cut(p);
                run.pod(p).state = exhausted(run.pod(p).state).expect("asked before");
                run.drift(p);
                run.feed(p, Event::StoreFailed);
            }
            Action::Refuse(p) => {
                run.world.left.troubles -= 1;
                run.world.told.refused = true;
                run.world.provider.ended = true;
                run.feed(p, Event::GrantGone);
            }
            Action::Stall(p) => {
                run.cut(p);
                run.pod(p).leased = false;
            }
            Action::Touch => {
                run.world.left.touches -= 1;
                run.stale();
            }
        }
        self.sort();
    }
}

/// One action on its way.
struct Run<'a> {
    world: &'a mut World,
    step: Step,
    policy: AfterCrash,
    driver: Driver,
}

impl Run<'_> {
    fn pod(&mut self, p: usize) -> &mut Attempt {
        self.world.pods[p].as_mut().expect("an attempt is running")
    }

    fn begin(&mut self, p: usize) {
        self.world.left.attempts -= 1;
        let generation = self.world.record.as_ref().map_or(0, |record| record.generation);
        self.world.pods[p] = Some(Attempt {
            state: State::Start,
            effect: Effect::Read,
            sent: false,
            generation,
            fresh: true,
            leased: false,
            noted: false,
            spent: false,
            tried: false,
            new: false,
        });
        self.feed(p, Event::Begin);
    }

    /// Hands an event to the function under test, and does what can be done at once.
    fn feed(&mut self, p: usize, mut event: Event) {
        loop {
            let before = self.pod(p).state;
            self.pod(p).sent = false;
            let (state, effects) = (self.step)(before, event, self.policy);
            self.pod(p).state = forget(state);
            let mut waits = false;
            for effect in effects {
                match effect {
                    Effect::ReleaseLease => {
                        if self.world.lease == Some(Holder::Pod(p)) {
                            self.world.lease = None;
                        }
                    }
                    Effect::RevokeNew => {
                        self.world.provider.ended |= self.pod(p).new;
                        let logout = self.world.told.removed || self.world.told.marked;
                        self.world.told.revoked |= self.pod(p).new && logout;
                        self.pod(p).new = false;
                    }
                    effect => (self.pod(p).effect, waits) = (effect, true),
                }
            }
            if let State::Done(outcome) = state {
                return self.end(p, outcome);
            }
            assert!(waits, "{state:?} waits for nothing");
            let careless = self.driver.sends_without_lease;
            let pod = self.pod(p);
            event = match pod.effect {
                // A pause may be of any length, as everything that follows it.
                Effect::Pause => Event::Woke,
                Effect::WriteNote if !pod.leased && !careless => Event::Unsent,
                Effect::WriteNote => {
                    pod.noted = true;
                    return;
                }
                _ => return,
            };
        }
    }

    fn end(&mut self, p: usize, outcome: Outcome) {
        let told = &mut self.world.told;
        let pod = self.world.pods[p].take().expect("an attempt is running");
        told.refreshed |= outcome == Outcome::Refreshed;
        told.shared |= outcome == Outcome::Shared;
        told.leaked |= match outcome {
            Outcome::Refreshed => told.marked,
            Outcome::Shared => false,
            _ => pod.new,
        };
        self.world.rename(|holder| if holder == Holder::Pod(p) { Holder::Gone } else { holder });
    }

    /// What the attempt waits for takes place.
    fn carry_out(&mut self, p: usize) {
        let us = Holder::Pod(p);
        let effect = self.pod(p).effect;
        let event = match effect {
            Effect::TakeLease if self.world.lease.is_none() => {
                self.world.lease = Some(us);
                self.pod(p).leased = true;
                Event::LeaseTaken
            }
            Effect::ConfirmLease if self.world.lease == Some(us) => {
                self.pod(p).leased = true;
                Event::LeaseTaken
            }
            Effect::TakeLease | Effect::ConfirmLease => {
                self.pod(p).leased = false;
                Event::LeaseHeld
            }
            Effect::Read => self.read(p),
            Effect::Exchange if self.pod(p).sent => {
                let event = self.spend(p);
                self.pod(p).new = event == Event::Tokens;
                event
            }
            Effect::Exchange if self.pod(p).leased || self.driver.sends_without_lease => {
                let pod = self.pod(p);
                (pod.sent, pod.spent, pod.tried) = (true, true, true);
                return;
            }
            Effect::Exchange => Event::Unsent,
            write => {
                let (fresh, generation, tried) =
                    (self.pod(p).fresh, self.pod(p).generation, self.pod(p).tried);
                if self.write(write, us, generation, fresh, tried) {
                    let pod = self.pod(p);
                    pod.fresh = true;
                    match write {
                        Effect::Save | Effect::ClearNote => (pod.noted, pod.spent) = (false, false),
                        _ => {}
                    }
                    Event::Written
                } else {
                    Event::Conflict
                }
            }
        };
        self.feed(p, event);
    }

    fn read(&mut self, p: usize) -> Event {
        let generation = self.pod(p).generation;
        let view = match &self.world.record {
            _ if self.world.told.marked => View::Gone,
            None => View::Gone,
            Some(record) if record.generation != generation => View::Newer,
            Some(Record { note: Some(holder), .. }) if *holder == Holder::Pod(p) => View::NotedByUs,
            Some(Record { note: Some(_), .. }) => View::NotedByOther,
            Some(record) if !record.due => View::Rested,
            Some(_) => View::Same,
        };
        self.pod(p).fresh = true;
        Event::Read(view)
    }

    /// Compares and swaps.
    fn write(
        &mut self,
        effect: Effect,
        from: Holder,
        generation: u8,
        fresh: bool,
        tried: bool,
    ) -> bool {
        let blind = self.driver.saves_blindly && effect == Effect::Save;
        if !blind && (!fresh || self.world.record.is_none()) {
            return false;
        }
        if effect == Effect::EndSession {
            self.world.record = None;
            self.world.told.ended = Some(generation);
        }
        if blind && self.world.record.is_none() {
            self.world.record = Some(Record { generation, note: None, due: false });
        }
        let doubted = |pod: &Attempt| matches!(pod.state, State::Doubting { .. });
        self.world.told.came_back |=
            effect == Effect::Save && self.world.pods.iter().flatten().any(doubted);
        let told = &mut self.world.told;
        if let Some(record) = &mut self.world.record {
            match effect {
                Effect::WriteNote => {
                    told.overtaken |= record.note.is_some();
                    record.note = Some(from);
                }
                Effect::ClearNote => (record.note, record.due) = (None, record.due && !tried),
                _ => *record = Record { generation: generation + 1, note: None, due: false },
            }
        }
        self.stale();
        true
    }

    fn change(&mut self, change: impl FnOnce(&mut Record)) {
        if let Some(record) = &mut self.world.record {
            change(record);
        }
    }

    /// The record is another one now: messages that hold on to the old one are in vain.
    fn stale(&mut self) {
        self.world.pods.iter_mut().flatten().for_each(|pod| pod.fresh = false);
        let blind = self.driver.saves_blindly;
        let vain = |effect| effect != Effect::Exchange && !(blind && effect == Effect::Save);
        self.world.adrift.retain(|message| !vain(message.effect));
    }

    /// The token of an attempt arrives at the provider.
    fn spend(&mut self, p: usize) -> Event {
        let generation = self.pod(p).generation;
        self.provide(generation)
    }

    fn provide(&mut self, generation: u8) -> Event {
        let provider = &mut self.world.provider;
        provider.spends[usize::from(generation)] += 1;
        provider.ended |= generation != provider.newest;
        if provider.ended {
            return Event::GrantGone;
        }
        provider.newest += 1;
        Event::Tokens
    }

    fn arrive(&mut self, n: usize) {
        let message = self.world.adrift.remove(n);
        if message.effect == Effect::Exchange {
            let event = self.provide(message.generation);
            self.world.told.unanswered.add(message.generation, event == Event::Tokens);
        } else {
            let Message { effect, from, generation, fresh, tried } = message;
            self.write(effect, from, generation, fresh, tried);
        }
    }

    /// Leaves what an attempt has asked for to the network.
    fn drift(&mut self, p: usize) {
        let pod = self.pod(p);
        let is_write = matches!(
            pod.effect,
            Effect::ClearNote | Effect::EndSession | Effect::Save | Effect::WriteNote
        );
        let matters = (is_write && pod.fresh) || pod.sent;
        let message = Message {
            effect: pod.effect,
            from: Holder::Pod(p),
            generation: pod.generation,
            fresh: pod.fresh,
            tried: pod.tried,
        };
        if matters {
            self.world.adrift.push(message);
        }
    }

    fn delay(&mut self, p: usize) {
        let given_up = self.pod(p).sent && !self.pod(p).leased;
        if !given_up {
            self.world.left.troubles -= 1;
        }
        self.drift(p);
        let event = if self.pod(p).effect == Effect::Exchange {
            if self.pod(p).sent { Event::Transient } else { Event::Unsent }
        } else {
            Event::StoreFailed
        };
        self.feed(p, event);
    }

    fn crash(&mut self, p: usize) {
        let stalled = self.world.told.stalled;
        self.cut(p);
        let Attempt { generation, spent, .. } = *self.pod(p);
        self.world.told.crashed.add(generation, spent);
        self.world.told.stalled = stalled;
        self.drift(p);
        self.world.pods[p] = None;
        self.world.rename(|holder| if holder == Holder::Pod(p) { Holder::Gone } else { holder });
    }

    /// Something happens to an attempt that excuses what follows, if it comes at the wrong time.
    fn cut(&mut self, p: usize) {
        self.world.left.troubles -= 1;
        let Attempt { generation, spent, noted, .. } = *self.pod(p);
        self.world.told.stalled.add(generation, spent);
        self.world.told.noted.add(generation, noted);
    }
}

/// Counts are not remembered: that one is reached is an action of its own.
fn forget(state: State) -> State {
    match state {
        State::Abandoning { .. } => State::Abandoning { tries: 0 },
        State::Checking { .. } => State::Checking { tries: 0 },
        State::Clearing { outcome, .. } => State::Clearing { tries: 0, outcome },
        State::Confirming { .. } => State::Confirming { waits: 0 },
        State::Doubting { .. } => State::Doubting { waits: 0 },
        State::Ending { .. } => State::Ending { waits: 0 },
        State::Leasing { .. } => State::Leasing { waits: 0 },
        State::Noting { .. } => State::Noting { tries: 0 },
        State::Reading { .. } => State::Reading { tries: 0 },
        State::Recalling { outcome, .. } => State::Recalling { tries: 0, outcome },
        State::Rereading { .. } => State::Rereading { tries: 0 },
        State::Saving { .. } => State::Saving { tries: 0 },
        State::Unsure { .. } => State::Unsure { tries: 0 },
        State::Waiting { .. } => State::Waiting { waits: 0 },
        State::Done(_) | State::Exchanging | State::Leaving | State::Overtaking | State::Start => {
            state
        }
    }
}
