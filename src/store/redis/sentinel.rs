//! Who is master, by the word of the sentinels.
//!
//! All of them are asked, each over a connection that is kept, and the newest word counts: a
//! sentinel that was cut off from the others goes on naming the old master, but with a smaller
//! epoch. The redis crate follows no fail-over: its sentinel client names a master once.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use ::redis::aio::{ConnectionLike as _, MultiplexedConnection};
use ::redis::{
    Client, ConnectionAddr, ErrorKind, Pipeline, RedisConnectionInfo, RedisError, Value, cmd,
};
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::connect::{Access, TimeOuts, open, text};
use crate::clock::{Clock as _, SystemClock};

/// How long a heartbeat waits for the sentinels.
const PATIENCE: Duration = Duration::from_secs(1);
/// For so long a smaller epoch than the highest that was heard of is not believed.
const MEMORY: Duration = Duration::from_secs(60);
/// The others are waited for so long after the first sentinel has answered.
const OTHERS: Duration = Duration::from_millis(100);
/// How long a write waits for them, of which only one may know of a fail-over.
const SETTLED: Duration = Duration::from_millis(400);

/// The sentinels of one master, and how its server is reached.
pub(super) struct Sentinel {
    name: String,
    service: String,
    sentinels: Vec<Arc<Guard>>,
    servers: Access,
    /// The highest epoch that was heard of, and when, on the monotonic clock.
    newest: Mutex<(u64, Duration)>,
}

/// One sentinel.
struct Guard {
    client: Client,
    time_outs: TimeOuts,
    connection: Mutex<Option<MultiplexedConnection>>,
}

/// Whom sentinels call master.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Master {
    host: String,
    port: u16,
    epoch: u64,
    /// Whether a sentinel is about to make another one master.
    in_fail_over: bool,
}

impl Master {
    /// Tells whether it has taken the place of another one.
    pub(super) fn replaces(&self, other: &Self) -> bool {
        self.epoch > other.epoch && (&self.host, self.port) != (&other.host, other.port)
    }
}

impl Sentinel {
    pub(super) fn new(
        service: String,
        sentinels: &[ConnectionAddr],
        access: &Access,
        servers: Access,
    ) -> Result<Self, RedisError> {
        let places: Vec<_> = sentinels.iter().map(ToString::to_string).collect();
        let guard = |addr: &ConnectionAddr| {
            let client = access.client(addr.clone())?;
            let time_outs = access.time_outs;
            Ok(Arc::new(Guard { client, time_outs, connection: Mutex::default() }))
        };
        Ok(Self {
            name: format!("{service} by {}", places.join(",")),
            service,
            sentinels: sentinels.iter().map(guard).collect::<Result<_, RedisError>>()?,
            servers,
            newest: Mutex::default(),
        })
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// Returns the master and how to reach it.
    pub(super) async fn find(&self) -> Result<(Client, Master), RedisError> {
        let master = self.ask(OTHERS).await?;
        if !self.is_news(&master) {
            return Err((ErrorKind::Io, "the sentinels in reach know less than was known").into());
        }
        let client = self.servers.client(self.servers.at(&master.host, master.port))?;
        Ok((client, master))
    }

    /// Tells whether this one is still master; if nobody can tell, it is.
    pub(super) async fn is_current(&self, master: &Master) -> bool {
        match timeout(PATIENCE, self.ask(OTHERS)).await {
            Ok(Ok(now)) => {
                // Older news than what is known is no news.
                !self.is_news(&now) || (&now.host, now.port) == (&master.host, master.port)
            }
            Ok(Err(_)) | Err(_) => true,
        }
    }

    /// Tells whether this one is master and stays so, as far as anybody can tell: in a fail-over
    /// another one may be master already, a second before the sentinels name it.
    pub(super) async fn is_settled(&self, master: &Master) -> bool {
        match timeout(SETTLED, self.ask(SETTLED / 2)).await {
            Ok(Ok(now)) => {
                let same = (&now.host, now.port) == (&master.host, master.port);
                !now.in_fail_over && (same || !self.is_news(&now))
            }
            Ok(Err(_)) | Err(_) => true,
        }
    }

    /// Notes an epoch, and tells whether it is not older than what was heard of. Whoever knows less
    /// was cut off from the others, for a while; after that it may be that all were set up anew.
    fn is_news(&self, master: &Master) -> bool {
        let now = SystemClock.monotonic();
        let mut newest = self.newest.lock().unwrap_or_else(PoisonError::into_inner);
        let news = master.epoch >= newest.0 || now.saturating_sub(newest.1) > MEMORY;
        if news {
            *newest = (master.epoch, now);
        }
        news
    }

    /// Asks every sentinel; the word of the highest epoch counts. Of a fail-over only the sentinel
    /// knows that leads it.
    async fn ask(&self, others: Duration) -> Result<Master, RedisError> {
        let mut asked = JoinSet::new();
        for guard in &self.sentinels {
            let (guard, service) = (guard.clone(), self.service.clone());
            asked.spawn(async move { guard.ask(&service).await });
        }
        let mut newest: Option<Master> = None;
        let (mut error, mut in_fail_over) = (None, false);
        loop {
            let next = match newest {
                None => asked.join_next().await,
                Some(_) => timeout(others, asked.join_next()).await.unwrap_or_default(),
            };
            match next {
                None => break,
                Some(Ok(Ok(master))) => {
                    in_fail_over |= master.in_fail_over;
                    if newest.as_ref().is_none_or(|newest| newest.epoch < master.epoch) {
                        newest = Some(master);
                    }
                }
                Some(Ok(Err(failed))) => error = Some(failed),
                Some(Err(_)) => {}
            }
        }
        newest.map(|newest| Master { in_fail_over, ..newest }).ok_or_else(|| {
            error.unwrap_or_else(|| (ErrorKind::Io, "no sentinel knows the master").into())
        })
    }
}

impl Guard {
    async fn ask(self: Arc<Self>, service: &str) -> Result<Master, RedisError> {
        let kept = self.connection().clone();
        let mut connection = match kept {
            Some(connection) => connection,
            None => {
                let guard = self.clone();
                // In a task of its own: it is kept even if the others were quicker.
                let connecting = tokio::spawn(async move {
                    let made = open(&guard.client, &guard.time_outs.config()).await?;
                    *guard.connection() = Some(made.clone());
                    Ok::<_, RedisError>(made)
                });
                let gone = |_| RedisError::from((ErrorKind::Io, "the connection was given up"));
                connecting.await.map_err(gone)??
            }
        };
        let ask = |what: &str| {
            let mut command = cmd("SENTINEL");
            command.arg(what).arg(service);
            command
        };
        // In the middle of a fail-over the leader has the new epoch and still lists the old address;
        // the one that it gives to clients is the new one.
        let mut both = Pipeline::new();
        both.add_command(ask("GET-MASTER-ADDR-BY-NAME")).add_command(ask("MASTER"));
        let answers = connection.req_packed_commands(&both, 0, 2).await;
        if answers.as_ref().is_err_and(|error| !matches!(error.kind(), ErrorKind::Server(_))) {
            *self.connection() = None;
        }
        let nobody = || RedisError::from((ErrorKind::Io, "a sentinel names no master"));
        let [place, listed] = <[Value; 2]>::try_from(answers?).map_err(|_| nobody())?;
        read(&place.extract_error()?, &listed.extract_error()?).ok_or_else(nobody)
    }

    fn connection(&self) -> std::sync::MutexGuard<'_, Option<MultiplexedConnection>> {
        self.connection.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Reads the address that clients are given, and the epoch of `SENTINEL MASTER`: a map in RESP3, a
/// flat list in RESP2.
fn read(place: &Value, listed: &Value) -> Option<Master> {
    let field = |name: &str| match listed {
        Value::Map(entries) => entries
            .iter()
            .find(|(key, _)| text(key) == Some(name))
            .and_then(|(_, value)| text(value)),
        Value::Array(flat) => flat
            .chunks_exact(2)
            .find(|pair| text(&pair[0]) == Some(name))
            .and_then(|pair| text(&pair[1])),
        _ => None,
    };
    let Value::Array(place) = place else { return None };
    let [host, port] = &place[..] else { return None };
    let (host, port) = (text(host)?, text(port)?);
    // Once the new master is named, the fail-over goes on for as long as other replicas take to
    // follow it; the old one is listed until then.
    let named = field("ip").is_none_or(|ip| ip != host) || field("port") != Some(port);
    let flagged = field("flags").is_some_and(|flags| flags.contains("failover_in_progress"));
    Some(Master {
        host: host.to_owned(),
        port: port.parse().ok()?,
        epoch: field("config-epoch")?.parse().ok()?,
        in_fail_over: flagged && !named,
    })
}

/// What a sentinel is told of who asks: databases are the servers' own.
pub(super) fn without_database(settings: RedisConnectionInfo) -> RedisConnectionInfo {
    settings.set_db(0)
}
