//! The phases of a link, and what leads from one to the other.
//!
//! | phase | what a call does |
//! |---|---|
//! | idle | connects; all who need a connection wait for the same attempt |
//! | connected | is sent |
//! | suspended: the server, or the way to it, swallows what is sent | fails at once; one probe after the other asks whether it is back |

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use ::redis::aio::MultiplexedConnection;
use ::redis::{ErrorKind, PushInfo, PushKind, RedisError, Value};
use tokio::sync::watch;

use super::connect::Address;
use super::is_link_lost;
use super::reconnect::Unfinished;
use super::replicas::Replicas;
use super::sentinel::Master;
use crate::store::Key;
use crate::store::cache::{Begun, Cache};

/// After so many time-outs in a row nothing more is sent over a connection.
const PATIENCE: u32 = 2;

/// What a link, its connection and its heartbeat share.
pub(super) struct Shared {
    address: Address,
    cache: Cache,
    state: Mutex<State>,
    /// What is known of the replicas of the server.
    replicas: Replicas,
    /// Counts the connections that were made.
    made: AtomicU64,
    /// A key whose server must be this one, if sign-outs that were looked for here are to be
    /// believed absent; in a cluster.
    probe: Mutex<Option<Key>>,
}

#[derive(Default)]
struct State {
    /// Counts attempts to connect, so that an old connection's trouble is not blamed on a new one.
    generation: u64,
    /// The connection that ended before it was used.
    lost: u64,
    /// Counts calls.
    calls: u64,
    /// Time-outs in a row, and the number of calls when the last one was counted: those that were
    /// under way then time out with it and say nothing new.
    time_outs: u32,
    counted: u64,
    /// Whether the last attempt to connect failed.
    away: bool,
    phase: Phase,
}

#[derive(Default)]
enum Phase {
    Connected(Connected),
    Connecting(Attempt),
    #[default]
    Idle,
    Suspended,
}

/// A connection in use.
#[derive(Clone)]
pub(super) struct Connected {
    pub(super) generation: u64,
    pub(super) connection: MultiplexedConnection,
    /// Whether the server sends word of changes.
    pub(super) tracking: bool,
    /// Whom the sentinels called master when it was made.
    pub(super) master: Option<Arc<Master>>,
}

type Attempt = watch::Receiver<Option<Result<Connected, RedisError>>>;

/// How a connection is found to be of no use.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Trouble {
    /// It has ended, or leads to a server that is not the right one any more.
    Lost,
    /// What is sent over it is swallowed.
    Silent,
}

impl Shared {
    pub(super) fn new(address: Address, cached: usize) -> Arc<Self> {
        let replicas = Replicas::new(address.has_others());
        Arc::new(Self {
            address,
            cache: Cache::new(cached),
            state: Mutex::default(),
            replicas,
            made: AtomicU64::new(0),
            probe: Mutex::default(),
        })
    }

    pub(super) const fn address(&self) -> &Address {
        &self.address
    }

    pub(super) const fn cache(&self) -> &Cache {
        &self.cache
    }

    pub(super) const fn replicas(&self) -> &Replicas {
        &self.replicas
    }

    pub(super) fn made(&self) -> u64 {
        self.made.load(Ordering::Acquire)
    }

    /// Notes that the absence of sign-outs is believed here: the heartbeat sees to it that they are
    /// not written elsewhere meanwhile.
    pub(super) fn watch_over(&self, key: &Key) {
        if self.address.in_cluster() && key.is_mark() {
            let mut probe = self.probe();
            if probe.is_none() {
                *probe = Some(key.absent_beside());
            }
        }
    }

    /// Returns what the heartbeat asks for, beside whether the server is there.
    pub(super) fn probe(&self) -> MutexGuard<'_, Option<Key>> {
        self.probe.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the connection, if there is one.
    pub(super) fn current(&self) -> Option<Connected> {
        match &self.lock().phase {
            Phase::Connected(connected) => Some(connected.clone()),
            _ => None,
        }
    }

    pub(super) fn is_connected(&self) -> bool {
        matches!(self.lock().phase, Phase::Connected(_))
    }

    /// Returns the connection; all who need one wait for the same attempt.
    pub(super) async fn connected(self: &Arc<Self>) -> Result<Connected, RedisError> {
        let (mut attempt, task) = {
            let mut state = self.lock();
            match &state.phase {
                Phase::Connected(connected) => return Ok(connected.clone()),
                Phase::Connecting(attempt) => (attempt.clone(), None),
                Phase::Suspended => {
                    return Err((ErrorKind::Io, "the server does not answer").into());
                }
                Phase::Idle => {
                    let (sender, receiver) = watch::channel(None);
                    let unfinished = self.begin(&mut state);
                    state.phase = Phase::Connecting(receiver.clone());
                    (receiver, Some((unfinished, sender)))
                }
            }
        };
        if let Some((mut unfinished, sender)) = task {
            // In a task of its own: a caller that goes away must not end what others wait for. A
            // runtime that is shutting down drops it here and now, so the lock is not held.
            tokio::spawn(async move {
                let result = unfinished.try_once().await;
                let silent = result.as_ref().is_err_and(RedisError::is_timeout);
                sender.send_replace(Some(result));
                if silent {
                    unfinished.probe().await;
                }
            });
        }
        match attempt.wait_for(Option::is_some).await {
            Ok(result) => result.clone().expect("it was waited for"),
            // The runtime of the attempt has gone.
            Err(_) => Err((ErrorKind::Io, "the connection was given up").into()),
        }
    }

    /// Numbers a call, and notes the sequence of the cache if the answer may be kept: an answer over
    /// a connection that was given up meanwhile may not.
    pub(super) fn begin_call(&self, generation: u64) -> (u64, Option<Begun>) {
        let mut state = self.lock();
        state.calls += 1;
        let tracking = matches!(
            &state.phase,
            Phase::Connected(connected) if connected.generation == generation && connected.tracking
        );
        (state.calls, tracking.then(|| self.cache.begin()))
    }

    /// Notes how a call ended.
    pub(super) fn end_call<T>(
        self: &Arc<Self>,
        generation: u64,
        number: u64,
        answer: &Result<T, RedisError>,
    ) {
        let trouble = {
            let mut state = self.lock();
            if state.generation == generation { state.judge(number, answer) } else { None }
        };
        if let Some(trouble) = trouble {
            self.give_up(generation, trouble);
        }
    }

    /// Notes that the server has answered what was sent at `sent`, and whether it `tells` of
    /// changes; `false` if nobody uses that connection any more.
    pub(super) fn heard(&self, generation: u64, sent: Duration, tells: bool) -> bool {
        let mut state = self.lock();
        let Phase::Connected(connected) = &state.phase else { return false };
        if connected.generation != generation {
            return false;
        }
        // Under the lock: whoever gives the connection up clears the cache after this.
        match (connected.tracking, tells) {
            (true, true) => self.cache.heard(sent),
            (true, false) => self.cache.clear(),
            (false, _) => {}
        }
        state.time_outs = 0;
        true
    }

    /// Gives a connection up, if it is still the one in use.
    pub(super) fn give_up(self: &Arc<Self>, generation: u64, trouble: Trouble) {
        let (ended, unfinished) = {
            let mut state = self.lock();
            if state.generation != generation || !matches!(state.phase, Phase::Connected(_)) {
                return;
            }
            let ended = std::mem::take(&mut state.phase);
            self.cache.clear();
            let silent = trouble == Trouble::Silent;
            let unfinished = silent.then(|| {
                let unfinished = self.begin(&mut state);
                state.phase = Phase::Suspended;
                state.away = true;
                unfinished
            });
            (ended, unfinished)
        };
        // A connection is dropped without the lock.
        drop(ended);
        if let Some(unfinished) = unfinished {
            tracing::warn!(server = %self.address.name(), "Redis does not answer");
            tokio::spawn(unfinished.probe());
        }
    }

    fn begin(self: &Arc<Self>, state: &mut State) -> Unfinished {
        state.generation += 1;
        state.time_outs = 0;
        Unfinished::new(self.clone(), state.generation)
    }

    /// Begins another attempt after one of this generation; `None` if somebody else has.
    pub(super) fn next(&self, generation: u64) -> Option<u64> {
        let mut state = self.lock();
        if state.generation != generation || !state.is_unfinished() {
            return None;
        }
        state.generation += 1;
        Some(state.generation)
    }

    /// Tells whether an attempt that ended in silence is still to be repeated.
    pub(super) fn is_suspended(&self, generation: u64) -> bool {
        let state = self.lock();
        state.generation == generation && matches!(state.phase, Phase::Suspended)
    }

    /// Takes the outcome of an attempt, and the connection into use.
    pub(super) fn arrive(
        &self,
        generation: u64,
        result: Result<Connected, RedisError>,
    ) -> Result<Connected, RedisError> {
        let mut state = self.lock();
        let result = match result {
            Ok(_) if state.lost == generation => {
                Err((ErrorKind::Io, "the connection ended at once").into())
            }
            result => result,
        };
        if state.generation == generation {
            state.arrive(&result, self.address.name());
            if result.is_ok() {
                self.made.fetch_add(1, Ordering::AcqRel);
                self.replicas.forget();
            }
        }
        result
    }

    /// Forgets an attempt that nobody makes any more: the next call begins another.
    pub(super) fn abandon(&self, generation: u64) {
        let mut state = self.lock();
        if state.generation == generation && state.is_unfinished() {
            state.phase = Phase::Idle;
        }
    }

    /// Hears what the server says unasked.
    pub(super) fn hear(self: &Arc<Self>, generation: u64, push: &PushInfo) {
        match push.kind {
            PushKind::Disconnection => {
                let mut state = self.lock();
                if state.generation != generation {
                    return;
                }
                state.lost = generation;
                drop(state);
                self.give_up(generation, Trouble::Lost);
            }
            PushKind::Invalidate => match push.data.first() {
                Some(Value::Array(keys)) => keys.iter().for_each(|key| self.hear_of(key)),
                // Everything has gone.
                _ => self.cache.forget_all(),
            },
            _ => {}
        }
    }

    fn hear_of(&self, key: &Value) {
        let key = match key {
            Value::BulkString(bytes) => Key::from_bytes(bytes),
            _ => None,
        };
        match key {
            Some(key) => self.cache.forget(&key),
            None => self.cache.forget_all(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    const fn is_unfinished(&self) -> bool {
        matches!(self.phase, Phase::Connecting(_) | Phase::Suspended)
    }

    /// Notes how an attempt to connect ended. An outage is logged when it begins and when it ends,
    /// not once for every request.
    fn arrive(&mut self, result: &Result<Connected, RedisError>, server: &str) {
        let away = std::mem::replace(&mut self.away, result.is_err());
        match result {
            Ok(connected) => {
                if away {
                    tracing::info!(%server, "Redis is back");
                }
                self.phase = Phase::Connected(connected.clone());
            }
            Err(error) => {
                if away {
                    tracing::debug!(%server, %error, "still no connection to Redis");
                } else {
                    tracing::warn!(%server, %error, "no connection to Redis");
                }
                // Whoever does not answer is asked by probes from here on, not by requests.
                self.phase = if error.is_timeout() { Phase::Suspended } else { Phase::Idle };
            }
        }
    }

    /// Notes how a call ended, and says if another connection may serve better.
    fn judge<T>(&mut self, call: u64, answer: &Result<T, RedisError>) -> Option<Trouble> {
        match answer {
            Err(error) if is_link_lost(error) => Some(Trouble::Lost),
            Err(error) if error.is_timeout() => {
                if call <= self.counted {
                    return None;
                }
                self.counted = self.calls;
                self.time_outs += 1;
                (self.time_outs >= PATIENCE).then_some(Trouble::Silent)
            }
            _ => {
                self.time_outs = 0;
                None
            }
        }
    }
}
