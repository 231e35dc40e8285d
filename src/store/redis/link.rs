//! The one connection to a Redis server: made when it is needed, again when it was lost.
//!
//! | phase | what a call does |
//! |---|---|
//! | idle | connects; all who need a connection wait for the same attempt |
//! | connected | is sent |
//! | suspended: the server, or the way to it, swallows what is sent | fails at once; one probe after the other asks whether it is back |
//!
//! The redis crate's own `ConnectionManager` does not fit: it keeps a link that swallows commands
//! (a time-out is no reason to reconnect for it), it makes every call wait for one shared attempt
//! with retries, and it needs a runtime when it is constructed.

use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use ::redis::aio::MultiplexedConnection;
use ::redis::{ErrorKind, PushInfo, PushKind, RedisError, Value};
use bytes::Bytes;
use tokio::sync::watch;

use super::call::{Call, Manner};
use super::connect::Address;
use super::heartbeat;
use super::is_link_lost;
use crate::clock::{Clock as _, SystemClock};
use crate::store::Key;
use crate::store::cache::{Begun, Cache, millis};

/// After so many time-outs in a row nothing more is sent over a connection.
const PATIENCE: u32 = 2;
/// The pause between two probes of a server that swallows commands.
const PROBE: Duration = Duration::from_millis(200);
/// After a replica did not confirm a write in time none is waited for so long.
const FORBEARANCE: Duration = Duration::from_secs(15);

/// One connection that all calls share, and how to get another.
pub(super) struct Link {
    shared: Arc<Shared>,
}

/// What the link, its connection and its heartbeat share.
pub(super) struct Shared {
    address: Address,
    /// Whether the link is listened to all the time, or only used now and then.
    beats: bool,
    cache: Cache,
    state: Mutex<State>,
    /// Whether the server has replicas that a write can be waited for at.
    replicated: AtomicBool,
    /// No replica is waited for until then, in monotonic milliseconds.
    behind_until: AtomicU64,
}

#[derive(Default)]
struct State {
    /// Counts connections, so that an old one's trouble is not blamed on a new one.
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

#[derive(Clone)]
struct Connected {
    generation: u64,
    connection: MultiplexedConnection,
    /// Whether the server sends word of changes.
    tracking: bool,
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

impl Link {
    /// Takes a link that caches so many entries.
    pub(super) fn new(address: Address, cached: usize) -> Self {
        Self::with(address, Cache::new(cached), true)
    }

    /// Takes a link for the few calls that may hold up those behind them.
    pub(super) fn beside(address: Address) -> Self {
        Self::with(address, Cache::new(0), false)
    }

    fn with(address: Address, cache: Cache, beats: bool) -> Self {
        let state = Mutex::default();
        let replicated = AtomicBool::new(address.is_replicated());
        Self {
            shared: Arc::new(Shared {
                address,
                beats,
                cache,
                state,
                replicated,
                behind_until: AtomicU64::new(0),
            }),
        }
    }

    /// Returns where the server is, for people.
    pub(super) fn server(&self) -> &str {
        self.shared.address.name()
    }

    /// Tells whether the server has replicas, as far as is known.
    pub(super) fn is_replicated(&self) -> bool {
        self.shared.replicated.load(Ordering::Acquire)
    }

    /// Tells whether a replica has confirmed the last write that waited for one, or long enough ago
    /// none did: calls over one connection must not all wait for a replica that has fallen behind.
    pub(super) fn keeps_up(&self) -> bool {
        let until = self.shared.behind_until.load(Ordering::Acquire);
        millis(SystemClock.monotonic()) >= until
    }

    /// Returns what the server holds under a key, if that is known here.
    pub(super) fn known(&self, key: &Key) -> Option<Option<Bytes>> {
        self.shared.cache.find(key)
    }

    /// Forgets what is known of a key that is being changed here.
    pub(super) fn forget(&self, key: &Key) {
        if !self.shared.cache.is_off() {
            self.shared.cache.forget(key);
        }
    }

    /// Asks something over the connection. What may be asked twice is, where the connection was
    /// lost while it lay idle.
    pub(super) async fn run(
        &self,
        call: &Call,
        asking: bool,
        waiting: bool,
    ) -> Result<Value, RedisError> {
        let manner = Manner { asking, waiting, tracking: false };
        let connected = self.connected().await?;
        match self.run_over(connected, call, manner).await {
            Err(error) if call.may_be_repeated() && error.is_connection_dropped() => {
                let connected = self.connected().await?;
                self.run_over(connected, call, manner).await
            }
            answer => answer,
        }
    }

    async fn run_over(
        &self,
        connected: Connected,
        call: &Call,
        manner: Manner,
    ) -> Result<Value, RedisError> {
        let Connected { generation, mut connection, tracking } = connected;
        let (number, begun) = {
            let mut state = self.shared.lock();
            state.calls += 1;
            // An answer over a connection that was given up meanwhile is not kept.
            let current = state.generation == generation
                && matches!(state.phase, Phase::Connected(_))
                && tracking
                && !manner.asking;
            (state.calls, current.then(|| self.shared.cache.begin()))
        };
        let manner = Manner { tracking: begun.is_some(), ..manner };
        let answer = call.send(&mut connection, manner).await;
        let ended = {
            let mut state = self.shared.lock();
            if state.generation == generation { state.judge(number, &answer) } else { None }
        };
        if let Some(trouble) = ended {
            self.shared.give_up(generation, trouble);
        }
        let sent = answer?;
        if let (Some(begun), true) = (begun, sent.tracked) {
            self.keep(begun, call, &sent.answer);
        }
        if sent.unconfirmed {
            let until = millis(SystemClock.monotonic() + FORBEARANCE);
            self.shared.behind_until.store(until, Ordering::Release);
            tracing::warn!(server = %self.server(), "no replica has confirmed a sign-out in time");
        }
        Ok(sent.answer)
    }

    fn keep(&self, begun: Begun, call: &Call, value: &Value) {
        let Some(key) = call.tracked_key() else { return };
        let value = match value {
            Value::Nil => None,
            Value::BulkString(bytes) => Some(Bytes::copy_from_slice(bytes)),
            _ => return,
        };
        self.shared.cache.keep(begun, key.clone(), value);
    }

    /// Returns the connection; all who need one wait for the same attempt.
    async fn connected(&self) -> Result<Connected, RedisError> {
        let (mut attempt, task) = {
            let mut state = self.shared.lock();
            match &state.phase {
                Phase::Connected(connected) => return Ok(connected.clone()),
                Phase::Connecting(attempt) => (attempt.clone(), None),
                Phase::Suspended => {
                    return Err((ErrorKind::Io, "the server does not answer").into());
                }
                Phase::Idle => {
                    let (sender, receiver) = watch::channel(None);
                    let unfinished = self.shared.begin(&mut state);
                    state.phase = Phase::Connecting(receiver.clone());
                    (receiver, Some((unfinished, sender)))
                }
            }
        };
        if let Some((unfinished, sender)) = task {
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
}

impl fmt::Debug for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Link").field("server", &self.server()).finish_non_exhaustive()
    }
}

impl Shared {
    pub(super) const fn address(&self) -> &Address {
        &self.address
    }

    pub(super) fn set_replicated(&self, replicated: bool) {
        self.replicated.store(replicated, Ordering::Release);
    }

    /// Notes that the server has answered what was sent at `sent`; `false` if nobody uses that
    /// connection any more.
    pub(super) fn heard(&self, generation: u64, sent: Duration) -> bool {
        let mut state = self.lock();
        if state.generation != generation {
            return false;
        }
        let Phase::Connected(connected) = &state.phase else { return false };
        if connected.tracking {
            // Under the lock: whoever gives the connection up clears the cache after this.
            self.cache.heard(sent);
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

    /// Begins another generation.
    fn begin(self: &Arc<Self>, state: &mut State) -> Unfinished {
        state.generation += 1;
        state.time_outs = 0;
        Unfinished { shared: self.clone(), generation: state.generation }
    }

    /// Hears what the server says unasked.
    fn hear(self: &Arc<Self>, generation: u64, push: &PushInfo) {
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
                Some(Value::Array(keys)) => {
                    for key in keys {
                        match key {
                            Value::BulkString(bytes) => match Key::from_bytes(bytes) {
                                Some(key) => self.cache.forget(&key),
                                None => self.cache.clear(),
                            },
                            _ => self.cache.clear(),
                        }
                    }
                }
                // Everything has gone.
                _ => self.cache.clear(),
            },
            _ => {}
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
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
                if error.is_timeout() {
                    self.phase = Phase::Suspended;
                } else if matches!(self.phase, Phase::Connecting(_)) {
                    self.phase = Phase::Idle;
                }
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

/// An attempt to connect, or several; if it is given up, the next call begins another.
struct Unfinished {
    shared: Arc<Shared>,
    generation: u64,
}

impl Unfinished {
    /// Connects, and takes the connection into use.
    async fn try_once(&self) -> Result<Connected, RedisError> {
        let generation = self.generation;
        // The connection holds this: were it a strong reference, neither would ever end.
        let shared = Arc::downgrade(&self.shared);
        let hear = move |push: PushInfo| {
            if let Some(shared) = Weak::upgrade(&shared) {
                shared.hear(generation, &push);
            }
            Ok::<_, std::convert::Infallible>(())
        };
        let track = !self.shared.cache.is_off();
        let result = self.shared.address.connect(hear, track).await;
        let mut result = result.map(|made| Connected {
            generation,
            connection: made.connection,
            tracking: made.tracking,
        });
        {
            let mut state = self.shared.lock();
            if state.lost == generation {
                result = Err((ErrorKind::Io, "the connection ended at once").into());
            }
            if state.generation == generation {
                state.arrive(&result, self.shared.address.name());
            }
        }
        if let (Ok(connected), true) = (&result, self.shared.beats) {
            let shared = Arc::downgrade(&self.shared);
            let connection = connected.connection.clone();
            tokio::spawn(heartbeat::run(shared, generation, connection));
        }
        result
    }

    /// Asks again and again until the server answers.
    async fn probe(self) {
        loop {
            tokio::time::sleep(PROBE).await;
            // Nobody is left who would use it, or somebody has another one.
            if Arc::strong_count(&self.shared) == 1 {
                return;
            }
            {
                let state = self.shared.lock();
                if state.generation != self.generation || !matches!(state.phase, Phase::Suspended) {
                    return;
                }
            }
            if self.try_once().await.is_ok() {
                return;
            }
        }
    }
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        let mut state = self.shared.lock();
        let unfinished = matches!(state.phase, Phase::Connecting(_) | Phase::Suspended);
        if state.generation == self.generation && unfinished {
            state.phase = Phase::Idle;
        }
    }
}
