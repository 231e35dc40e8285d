//! The one connection to a Redis server: made when it is needed, again when it was lost.
//!
//! The redis crate's own `ConnectionManager` does not fit: it keeps a link that swallows commands
//! (a time-out is no reason to reconnect for it), it makes every call wait for one shared attempt
//! with retries, and it needs a runtime when it is constructed.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use ::redis::aio::MultiplexedConnection;
use ::redis::io::tcp::{TcpSettings, socket2::TcpKeepalive};
use ::redis::{
    AsyncConnectionConfig, Client, ConnectionInfo, ErrorKind, ProtocolVersion, PushInfo, PushKind,
    RedisError, Value, cmd,
};
use tokio::sync::watch;

use super::is_link_lost;

/// The oldest server that knows `GETDEL`.
const OLDEST: (u32, u32) = (6, 2);
/// After so many time-outs in a row the connection is made anew.
const PATIENCE: u32 = 2;

/// How long is waited for the server.
#[derive(Clone, Copy, Debug)]
pub(super) struct TimeOuts {
    pub(super) connect: Duration,
    pub(super) response: Duration,
}

/// One connection that all calls share, and how to get another.
pub(super) struct Link {
    client: Client,
    server: String,
    config: AsyncConnectionConfig,
    state: Arc<Mutex<State>>,
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
    #[default]
    Idle,
    Connecting(Attempt),
    Connected(Connected),
}

#[derive(Clone)]
struct Connected {
    generation: u64,
    connection: MultiplexedConnection,
}

impl Link {
    pub(super) fn new(client: Client, server: String, time_outs: TimeOuts) -> Self {
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(time_outs.connect))
            .set_response_timeout(Some(time_outs.response));
        Self { client, server, config, state: Arc::default() }
    }

    /// Returns where the server is, for people.
    pub(super) fn server(&self) -> &str {
        &self.server
    }

    /// Asks something over the connection.
    pub(super) async fn run<T, F>(
        &self,
        ask: impl FnOnce(MultiplexedConnection) -> F,
    ) -> Result<T, RedisError>
    where
        F: Future<Output = Result<T, RedisError>>,
    {
        let connected = self.connected().await?;
        self.run_over(connected, ask).await
    }

    /// Asks something that may be asked twice: again where the connection was lost while it lay
    /// idle.
    pub(super) async fn run_again<T, F>(
        &self,
        ask: impl Fn(MultiplexedConnection) -> F,
    ) -> Result<T, RedisError>
    where
        F: Future<Output = Result<T, RedisError>>,
    {
        let connected = self.connected().await?;
        match self.run_over(connected, &ask).await {
            Err(error) if error.is_connection_dropped() => self.run(ask).await,
            answer => answer,
        }
    }

    async fn run_over<T, F>(
        &self,
        connected: Connected,
        ask: impl FnOnce(MultiplexedConnection) -> F,
    ) -> Result<T, RedisError>
    where
        F: Future<Output = Result<T, RedisError>>,
    {
        let Connected { generation, connection } = connected;
        let call = {
            let mut state = lock(&self.state);
            state.calls += 1;
            state.calls
        };
        let answer = ask(connection).await;
        let ended = {
            let mut state = lock(&self.state);
            if state.generation == generation { state.judge(call, &answer) } else { None }
        };
        // A connection is dropped without the lock.
        drop(ended);
        answer
    }

    /// Returns the connection; all who need one wait for the same attempt.
    async fn connected(&self) -> Result<Connected, RedisError> {
        let (mut attempt, task) = {
            let mut state = lock(&self.state);
            match &state.phase {
                Phase::Connected(connected) => return Ok(connected.clone()),
                Phase::Connecting(attempt) => (attempt.clone(), None),
                Phase::Idle => {
                    let (attempt, task) = self.begin(&mut state);
                    (attempt, Some(task))
                }
            }
        };
        if let Some(task) = task {
            // In a task of its own: a caller that goes away must not end what others wait for. A
            // runtime that is shutting down drops it here and now, so the lock is not held.
            tokio::spawn(task);
        }
        match attempt.wait_for(Option::is_some).await {
            Ok(result) => result.clone().expect("it was waited for"),
            // The runtime of the attempt has gone.
            Err(_) => Err((ErrorKind::Io, "the connection was given up").into()),
        }
    }

    /// Begins to connect.
    fn begin(&self, state: &mut State) -> (Attempt, impl Future<Output = ()> + Send + 'static) {
        state.generation += 1;
        state.time_outs = 0;
        let generation = state.generation;
        let (sender, receiver) = watch::channel(None);
        state.phase = Phase::Connecting(receiver.clone());
        let (client, shared, server) =
            (self.client.clone(), self.state.clone(), self.server.clone());
        // The connection holds this: were it a strong reference, neither would ever end.
        let lost = Lost { state: Arc::downgrade(&self.state), generation };
        let config = self.config.clone().set_push_sender(move |push: PushInfo| {
            if push.kind == PushKind::Disconnection {
                lost.forget();
            }
            Ok::<_, std::convert::Infallible>(())
        });
        // If the task is dropped, the next call must not wait for it.
        let unfinished = Unfinished { state: self.state.clone(), generation };
        let task = async move {
            let _unfinished = unfinished;
            let result = connect(&client, &config).await;
            let mut result = result.map(|connection| Connected { generation, connection });
            {
                let mut state = lock(&shared);
                if state.lost == generation {
                    result = Err((ErrorKind::Io, "the connection ended at once").into());
                }
                if state.generation == generation {
                    state.arrive(&result, &server);
                }
            }
            sender.send_replace(Some(result));
        };
        (receiver, task)
    }
}

type Attempt = watch::Receiver<Option<Result<Connected, RedisError>>>;

impl State {
    /// Notes how an attempt to connect ended. An outage is logged when it begins and when it ends,
    /// not once for every request.
    fn arrive(&mut self, result: &Result<Connected, RedisError>, server: &str) {
        let away = std::mem::replace(&mut self.away, result.is_err());
        self.phase = match result {
            Ok(connected) => {
                if away {
                    tracing::info!(%server, "Redis is back");
                }
                Phase::Connected(connected.clone())
            }
            Err(error) => {
                if away {
                    tracing::debug!(%server, %error, "still no connection to Redis");
                } else {
                    tracing::warn!(%server, %error, "no connection to Redis");
                }
                Phase::Idle
            }
        };
    }

    /// Notes how a call ended, and gives the connection up if another one may serve better.
    fn judge<T>(&mut self, call: u64, answer: &Result<T, RedisError>) -> Option<Phase> {
        match answer {
            Err(error) if is_link_lost(error) => {}
            Err(error) if error.is_timeout() => {
                if call <= self.counted {
                    return None;
                }
                self.counted = self.calls;
                self.time_outs += 1;
                if self.time_outs < PATIENCE {
                    return None;
                }
            }
            _ => {
                self.time_outs = 0;
                return None;
            }
        }
        Some(std::mem::take(&mut self.phase))
    }
}

impl fmt::Debug for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Link").field("server", &self.server).finish_non_exhaustive()
    }
}

/// Forgets a connection that ended by itself.
struct Lost {
    state: Weak<Mutex<State>>,
    generation: u64,
}

impl Lost {
    fn forget(&self) {
        let Some(state) = self.state.upgrade() else { return };
        let mut locked = lock(&state);
        if locked.generation != self.generation {
            return;
        }
        locked.lost = self.generation;
        let ended = match locked.phase {
            Phase::Connected(_) => std::mem::take(&mut locked.phase),
            _ => Phase::Idle,
        };
        drop(locked);
        drop(ended);
    }
}

/// Forgets an attempt that was given up.
struct Unfinished {
    state: Arc<Mutex<State>>,
    generation: u64,
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        let mut state = lock(&self.state);
        if state.generation == self.generation && matches!(state.phase, Phase::Connecting(_)) {
            state.phase = Phase::Idle;
        }
    }
}

fn lock(state: &Mutex<State>) -> std::sync::MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Sets what a shared link between pods and their store needs.
pub(super) fn tuned(info: ConnectionInfo) -> ConnectionInfo {
    let second = Duration::from_secs(1);
    let keepalive = TcpKeepalive::new().with_time(5 * second).with_interval(second).with_retries(3);
    let tcp = TcpSettings::default().set_nodelay(true).set_keepalive(keepalive);
    #[cfg(any(target_os = "android", target_os = "fuchsia", target_os = "linux"))]
    let tcp = tcp.set_user_timeout(5 * second);
    let redis = info
        .redis_settings()
        .clone()
        // A link that is lost while idle is noticed and not tried first.
        .set_protocol(ProtocolVersion::RESP3)
        .set_lib_name(env!("CARGO_PKG_NAME"), env!("CARGO_PKG_VERSION"));
    info.set_tcp_settings(tcp).set_redis_settings(redis)
}

/// Connects, and sees that the server is new enough.
async fn connect(
    client: &Client,
    config: &AsyncConnectionConfig,
) -> Result<MultiplexedConnection, RedisError> {
    let mut connection = client
        .get_multiplexed_async_connection_with_config(config)
        .await
        .map_err(|error| match error.kind() {
            ErrorKind::RESP3NotSupported => too_old("older than 6.0"),
            _ => error,
        })?;
    let greeting: Value = cmd("HELLO").arg(3).query_async(&mut connection).await?;
    if let Some(version) = version(&greeting) {
        let mut numbers = version.split('.').map_while(|part| part.parse::<u32>().ok());
        if let (Some(major), Some(minor)) = (numbers.next(), numbers.next())
            && (major, minor) < OLDEST
        {
            return Err(too_old(version));
        }
    }
    Ok(connection)
}

fn too_old(version: &str) -> RedisError {
    let (major, minor) = OLDEST;
    let needed = format!("the server is Redis {version}; {major}.{minor} or newer is needed");
    (ErrorKind::Client, "the server is too old", needed).into()
}

/// Reads the version out of the answer to `HELLO`.
fn version(greeting: &Value) -> Option<&str> {
    let Value::Map(entries) = greeting else { return None };
    let (_, value) = entries.iter().find(|(name, _)| text(name) == Some("version"))?;
    text(value)
}

fn text(value: &Value) -> Option<&str> {
    match value {
        Value::BulkString(bytes) => std::str::from_utf8(bytes).ok(),
        Value::SimpleString(text) | Value::VerbatimString { text, .. } => Some(text),
        _ => None,
    }
}
