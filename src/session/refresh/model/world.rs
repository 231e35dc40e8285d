//! Three pods, one session, a store, a provider: what there is, and what may happen to it.
//!
//! Versions of the record are not counted: an attempt, or a message of one, is *fresh* while the
//! record is as it was when it was read. A compare-and-swap succeeds if it is.

use super::super::step::{MAX_SAVES, MAX_WAITS};
use super::super::{Effect, State};

#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub(super) struct World {
    /// Sorted: which pod is which does not matter.
    pub(super) pods: [Option<Attempt>; 3],
    pub(super) record: Option<Record>,
    pub(super) lease: Option<Holder>,
    /// Messages whose sender has given up on them, and that may arrive at any time.
    pub(super) adrift: Vec<Message>,
    pub(super) provider: Provider,
    pub(super) left: Budget,
    pub(super) told: Told,
}

/// What may still happen, so that the space is finite.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub(super) struct Budget {
    pub(super) attempts: u8,
    /// Crashes, stalls, lost and late messages, errors and lies of the provider.
    pub(super) troubles: u8,
    pub(super) logouts: u8,
    /// Requests that only note that the person is still there.
    pub(super) touches: u8,
    /// Times the session becomes due once more.
    pub(super) dues: u8,
}

#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub(super) enum Holder {
    /// An attempt that is over.
    Gone,
    Pod(usize),
}

#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub(super) struct Record {
    /// The refresh token is as old: each refresh brings the next.
    pub(super) generation: u8,
    pub(super) note: Option<Holder>,
    pub(super) due: bool,
}

#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub(super) struct Attempt {
    pub(super) state: State,
    /// What it waits for; a token on its way if it was `sent`.
    pub(super) effect: Effect,
    pub(super) sent: bool,
    pub(super) generation: u8,
    pub(super) fresh: bool,
    /// By its own clock the lease is good.
    pub(super) leased: bool,
    /// Its note may lie in the session.
    pub(super) noted: bool,
    /// The provider may have seen its token, and nothing came of it yet.
    pub(super) spent: bool,
    pub(super) tried: bool,
    pub(super) new: bool,
}

#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub(super) struct Message {
    pub(super) effect: Effect,
    pub(super) from: Holder,
    pub(super) generation: u8,
    pub(super) fresh: bool,
    pub(super) tried: bool,
}

/// Rotates refresh tokens and ends everything when a spent one comes again.
#[derive(Clone, Debug, Default, Eq, Hash, PartialEq)]
pub(super) struct Provider {
    pub(super) newest: u8,
    pub(super) ended: bool,
    pub(super) spends: [u8; 4],
}

/// What has happened, for the properties.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, PartialEq)]
pub(super) struct Told {
    /// A crash between the sending of the token and the saving of the new one.
    pub(super) crashed: Few,
    /// A lease that ran out there, or a message that travelled longer.
    pub(super) stalled: Few,
    /// The provider gave new tokens and nobody received them.
    pub(super) unanswered: Few,
    /// A crash or a stall between the sending of the note and the end.
    pub(super) noted: Few,
    /// The generation at which a pod ended the session.
    pub(super) ended: Option<u8>,
    /// The provider ended the session of its own accord, or lied.
    pub(super) refused: bool,
    pub(super) removed: bool,
    pub(super) marked: bool,
    /// New tokens were thrown away unrevoked by an attempt that came to its end.
    pub(super) leaked: bool,
    pub(super) refreshed: bool,
    pub(super) shared: bool,
    pub(super) overtaken: bool,
    pub(super) revoked: bool,
    pub(super) came_back: bool,
}

/// A set of generations.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, PartialEq)]
pub(super) struct Few(u8);

impl Few {
    pub(super) fn add(&mut self, generation: u8, is: bool) {
        self.0 |= u8::from(is) << generation;
    }

    pub(super) fn has(self, generation: u8) -> bool {
        self.0 & (1 << generation) != 0
    }

    pub(super) fn any(self) -> bool {
        self.0 != 0
    }
}

#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub(super) enum Action {
    /// What the attempt waits for takes place, and it hears of it.
    Act(usize),
    /// A message arrives that nobody waits for any more.
    Arrive(usize),
    /// A request finds the session due.
    Begin(usize),
    Crash(usize),
    /// The message is given up on, and takes place later if at all.
    Delay(usize),
    /// The doubts are used up.
    Doubted(usize),
    /// Time passes and the session is due once more.
    Due,
    /// The provider fails before it has looked at the token.
    Fail(usize),
    /// The lease lapses in the store.
    Lapse,
    /// The provider answers with the token of somebody else.
    Lie(usize),
    /// The record is removed.
    Logout,
    /// It is marked.
    Mark,
    /// A store that is out of order uses up the patience of an attempt.
    Patience(usize),
    /// The provider has ended the session.
    Refuse(usize),
    /// The holder cannot renew its lease in time.
    Stall(usize),
    Touch,
}

impl World {
    pub(super) fn new(left: Budget) -> Self {
        Self {
            pods: [None, None, None],
            record: Some(Record { generation: 0, note: None, due: true }),
            lease: None,
            adrift: Vec::new(),
            provider: Provider::default(),
            left,
            told: Told::default(),
        }
    }

    /// How often each token is on its way just now.
    pub(super) fn on_their_way(&self) -> [u8; 4] {
        let own = self.pods.iter().flatten().filter(|pod| pod.sent).map(|pod| pod.generation);
        let adrift = self.adrift.iter().filter(|message| message.effect == Effect::Exchange);
        let mut count = [0; 4];
        own.chain(adrift.map(|message| message.generation))
            .for_each(|generation| count[usize::from(generation)] += 1);
        count
    }

    pub(super) fn actions(&self, actions: &mut Vec<Action>) {
        let trouble = self.left.troubles > 0;
        let live = self.record.as_ref().filter(|_| !self.told.marked);
        for (p, pod) in self.pods.iter().enumerate() {
            let Some(pod) = pod else {
                if self.left.attempts > 0 && live.is_some_and(|record| record.due) {
                    actions.push(Action::Begin(p));
                }
                continue;
            };
            actions.push(Action::Act(p));
            if matches!(pod.state, State::Doubting { .. }) {
                actions.push(Action::Doubted(p));
            }
            // Whoever has no lease left gives the call up; else that is trouble.
            let given_up = pod.sent && !pod.leased;
            let unsent = pod.effect == Effect::Exchange && !pod.sent;
            if given_up || (trouble && !unsent) {
                actions.push(Action::Delay(p));
            }
            if !trouble {
                continue;
            }
            actions.push(Action::Crash(p));
            if pod.leased {
                actions.push(Action::Stall(p));
            }
            if pod.noted && exhausted(pod.state).is_some() {
                actions.push(Action::Patience(p));
            }
            if pod.sent {
                actions.extend([Action::Fail(p), Action::Lie(p), Action::Refuse(p)]);
            }
        }
        actions.extend((0..self.adrift.len()).map(Action::Arrive));
        match self.lease {
            Some(Holder::Pod(p)) if self.pods[p].as_ref().is_some_and(|pod| pod.leased) => {}
            Some(_) => actions.push(Action::Lapse),
            None => {}
        }
        if self.left.dues > 0 && self.record.as_ref().is_some_and(|record| !record.due) {
            actions.push(Action::Due);
        }
        if let Some(record) = live {
            if self.left.logouts > 0 {
                actions.extend([Action::Logout, Action::Mark]);
            }
            if self.left.touches > 0 && record.note.is_none() {
                actions.push(Action::Touch);
            }
        }
    }

    /// Renames the pods, so that worlds that differ by their names only are one.
    pub(super) fn sort(&mut self) {
        let mut order = [0, 1, 2];
        order.sort_by(|a, b| self.pods[*a].cmp(&self.pods[*b]));
        let renamed = |holder: Holder| match holder {
            Holder::Gone => Holder::Gone,
            Holder::Pod(p) => Holder::Pod(order.iter().position(|old| *old == p).unwrap()),
        };
        self.rename(renamed);
        self.pods = order.map(|p| self.pods[p].clone());
        self.adrift.sort();
    }

    pub(super) fn rename(&mut self, renamed: impl Fn(Holder) -> Holder) {
        self.lease = self.lease.map(&renamed);
        if let Some(record) = &mut self.record {
            record.note = record.note.map(&renamed);
        }
        for message in &mut self.adrift {
            message.from = renamed(message.from);
        }
    }
}

/// The state with its patience used up, where that is a matter of minutes.
pub(super) fn exhausted(state: State) -> Option<State> {
    Some(match state {
        State::Clearing { outcome, .. } => State::Clearing { tries: MAX_SAVES, outcome },
        State::Confirming { .. } => State::Confirming { waits: MAX_WAITS },
        State::Ending { .. } => State::Ending { waits: MAX_WAITS },
        State::Noting { .. } => State::Noting { tries: MAX_SAVES },
        State::Recalling { outcome, .. } => State::Recalling { tries: MAX_SAVES, outcome },
        State::Rereading { .. } => State::Rereading { tries: MAX_SAVES },
        State::Saving { .. } => State::Saving { tries: MAX_SAVES },
        State::Unsure { .. } => State::Unsure { tries: MAX_SAVES },
        _ => return None,
    })
}
