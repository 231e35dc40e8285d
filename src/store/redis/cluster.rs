//! A cluster: which server has which key, learnt from the servers themselves.
//!
//! A call goes to the master of its key's slot. `MOVED` leads to another one and says that the map
//! is old; `ASK` leads to another one for this call alone. When a server does not answer, the
//! others are asked who has its slots now, one to five times a second and as long as somebody
//! wants to know. No call touches two slots.
//!
//! The redis crate's cluster client does not fit: where a master was lost or hung its calls waited
//! for more than 20 s, and it reads nothing with tracking.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use ::redis::cluster_routing::Slot;
use ::redis::{ConnectionAddr, ErrorKind, RedisError, ServerErrorKind, Value, cmd};
use bytes::Bytes;
use tokio::sync::watch;

use super::call::Call;
use super::connect::{Access, Address, open, text};
use super::is_link_lost;
use super::pair::Pair;
use crate::clock::{Clock as _, SystemClock};
use crate::secret::random;
use crate::store::Key;

/// How often one call is sent on.
const REDIRECTIONS: usize = 5;
/// The map is not asked for more often; while it stays the same, less and less often.
const RATE: Duration = Duration::from_millis(200);
const SLOWEST: Duration = Duration::from_secs(1);
/// So many servers are asked for the map at once.
const AT_ONCE: usize = 3;
/// No cluster has more servers.
const MOST: usize = 1_000;

/// The servers of a cluster.
pub(super) struct Cluster {
    name: String,
    seeds: Vec<ConnectionAddr>,
    access: Access,
    cached: usize,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// By slot. Empty before the cluster was asked.
    map: Arc<HashMap<Slot, Arc<Node>>>,
    nodes: HashMap<(String, u16), Arc<Node>>,
    /// When the map was asked for last, on the monotonic clock.
    asked: Option<Duration>,
    asking: Option<Asking>,
    /// How often in a row the map was the same, or nobody told it.
    unchanged: u32,
    /// How often the map was another one; with it go the connections of servers that were let go.
    turns: u64,
}

type Asking = watch::Receiver<Option<Result<(), RedisError>>>;

/// One server.
pub(super) struct Node {
    host: String,
    port: u16,
    pair: Pair,
}

impl Cluster {
    pub(super) fn new(seeds: Vec<ConnectionAddr>, access: Access, cached: usize) -> Self {
        let places: Vec<_> = seeds.iter().map(ToString::to_string).collect();
        Self { name: places.join(","), seeds, access, cached, state: Mutex::default() }
    }

    /// Returns where the cluster is, for people.
    pub(super) fn server(&self) -> &str {
        &self.name
    }

    /// Counts the maps that were other than the one before, and the connections that were made.
    pub(super) fn turns(&self) -> u64 {
        let state = self.lock();
        state.nodes.values().fold(state.turns, |turns, node| turns + node.pair.link.turns())
    }

    /// Returns what is known of a key without asking.
    pub(super) fn known(&self, key: &Key) -> Option<Option<Bytes>> {
        self.node_of(key)?.pair.link.known(key)
    }

    /// Forgets what is known of a key that is being changed here.
    pub(super) fn forget(&self, key: &Key) {
        if let Some(node) = self.node_of(key) {
            node.pair.link.forget(key);
        }
    }

    /// Sends a call to whoever has its key.
    pub(super) async fn run(self: &Arc<Self>, call: &Call) -> Result<Value, RedisError> {
        let mut node = match self.node_of(call.key()) {
            Some(node) => node,
            None => {
                let unknown = self.lock().map.is_empty();
                self.learn(unknown).await?;
                let nobody = || RedisError::from((ErrorKind::Io, "no server has the key's slot"));
                self.node_of(call.key()).ok_or_else(nobody)?
            }
        };
        let mut asking = false;
        let mut repeated = false;
        for _ in 0..REDIRECTIONS {
            let error = match node.pair.run(call, asking).await {
                Ok(value) => return Ok(value),
                Err(error) => error,
            };
            asking = false;
            match error.kind() {
                ErrorKind::Server(ServerErrorKind::Moved | ServerErrorKind::Ask) => {
                    asking = error.kind() == ErrorKind::Server(ServerErrorKind::Ask);
                    let there = error.redirect_node().and_then(|(place, _)| split(place));
                    let Some((host, port)) = there else { return Err(error) };
                    // An empty host is the one that was asked.
                    let host = if host.is_empty() { &node.host } else { host };
                    let next = self.node_at(&mut self.lock(), host, port)?;
                    if !asking {
                        self.learn_in_background();
                    }
                    node = next;
                }
                _ if needs_map(&error) => {
                    // Somebody else may have its slots by now.
                    if !call.may_be_repeated() || repeated {
                        self.learn_in_background();
                        return Err(error);
                    }
                    repeated = true;
                    let _ = self.learn(false).await;
                    match self.node_of(call.key()) {
                        Some(other) if !Arc::ptr_eq(&other, &node) => node = other,
                        _ => return Err(error),
                    }
                }
                _ => return Err(error),
            }
        }
        Err((ErrorKind::Io, "the key's slot is on its way for too long").into())
    }

    fn node_of(&self, key: &Key) -> Option<Arc<Node>> {
        let map = self.lock().map.clone();
        map.get(&Slot::for_key(key.as_bytes())).cloned()
    }

    /// Returns the server at a place, known or new.
    fn node_at(&self, state: &mut State, host: &str, port: u16) -> Result<Arc<Node>, RedisError> {
        let place = (host.to_owned(), port);
        if let Some(node) = state.nodes.get(&place) {
            return Ok(node.clone());
        }
        if state.nodes.len() >= MOST {
            return Err((ErrorKind::Io, "the cluster names too many servers").into());
        }
        let client = self.access.client(self.access.at(host, port))?;
        let address = Address::server(client, true, self.access.time_outs);
        let node =
            Arc::new(Node { host: host.to_owned(), port, pair: Pair::new(&address, self.cached) });
        state.nodes.insert(place, node.clone());
        Ok(node)
    }

    fn learn_in_background(self: &Arc<Self>) {
        let cluster = self.clone();
        tokio::spawn(async move { cluster.learn(false).await });
    }

    /// Asks for the map; all who want it wait for the same answer. `must` asks even if that was
    /// done a moment ago.
    async fn learn(self: &Arc<Self>, must: bool) -> Result<(), RedisError> {
        let (mut asking, sender) = {
            let mut state = self.lock();
            let now = SystemClock.monotonic();
            match &state.asking {
                Some(asking) if !is_over(asking) => (asking.clone(), None),
                _ if !must && state.asked.is_some_and(|asked| now < asked + state.rate()) => {
                    return Ok(());
                }
                _ => {
                    let (sender, receiver) = watch::channel(None);
                    state.asked = Some(now);
                    state.asking = Some(receiver.clone());
                    (receiver, Some(sender))
                }
            }
        };
        if let Some(sender) = sender {
            let cluster = self.clone();
            tokio::spawn(async move {
                let result = cluster.ask().await;
                cluster.note(&result);
                sender.send_replace(Some(result));
            });
        }
        match asking.wait_for(Option::is_some).await {
            Ok(result) => result.clone().expect("it was waited for"),
            Err(_) => Err((ErrorKind::Io, "the map was given up").into()),
        }
    }

    /// Tells the log when the map cannot be had any more, not each time.
    fn note(&self, result: &Result<(), RedisError>) {
        let Err(error) = result else { return };
        let unchanged = {
            let mut state = self.lock();
            state.unchanged = state.unchanged.saturating_add(1);
            state.unchanged
        };
        if unchanged == 1 {
            tracing::warn!(cluster = %self.name, %error, "no server of the cluster says who has what");
        } else {
            tracing::debug!(cluster = %self.name, %error, "still no map of the cluster");
        }
    }

    /// Asks a few servers at once; the first map that covers every slot is taken, else the fullest.
    async fn ask(self: &Arc<Self>) -> Result<(), RedisError> {
        let mut places: Vec<ConnectionAddr> = self.seeds.clone();
        for node in self.lock().map.values() {
            let place = self.access.at(&node.host, node.port);
            if !places.contains(&place) {
                places.push(place);
            }
        }
        // Another order each time: no server is asked by all pods at once.
        let [turn] = random::<1>();
        let turn = usize::from(turn) % places.len().max(1);
        places.rotate_left(turn);
        let mut waiting = places.into_iter();
        let mut asked = tokio::task::JoinSet::new();
        let mut fullest = Vec::new();
        let mut failed = None;
        loop {
            while asked.len() < AT_ONCE
                && let Some(place) = waiting.next()
            {
                let access = self.access.clone();
                asked.spawn(async move { slots(&access, place).await });
            }
            match asked.join_next().await {
                None => break,
                Some(Ok(Ok(ranges))) => {
                    let covers = covered(&ranges);
                    if covers > covered(&fullest) {
                        fullest = ranges;
                    }
                    if covers >= SLOTS {
                        break;
                    }
                }
                Some(Ok(Err(error))) => failed = Some(error),
                Some(Err(_)) => {}
            }
        }
        if fullest.is_empty() {
            let nobody = || (ErrorKind::Io, "no server of the cluster has a slot").into();
            return Err(failed.unwrap_or_else(nobody));
        }
        self.take_over(&fullest)
    }

    fn take_over(&self, ranges: &[Range]) -> Result<(), RedisError> {
        let gone = {
            let mut state = self.lock();
            let mut map = HashMap::with_capacity(usize::from(u16::MAX) / 4);
            for range in ranges {
                let node = self.node_at(&mut state, &range.host, range.port)?;
                let slots = (range.start..=range.end).filter_map(Slot::new);
                map.extend(slots.map(|slot| (slot, node.clone())));
            }
            // Who has no slot any more is let go, with its connections.
            let named = |node: &Node| {
                ranges.iter().any(|range| range.host == node.host && range.port == node.port)
            };
            let mut gone: Vec<_> = Vec::new();
            state.nodes.retain(|_, node| {
                let stays = named(node);
                if !stays {
                    gone.push(node.clone());
                }
                stays
            });
            let same = |(slot, node): (&Slot, &Arc<Node>)| {
                state.map.get(slot).is_some_and(|known| Arc::ptr_eq(known, node))
            };
            let unchanged = map.len() == state.map.len() && map.iter().all(same);
            state.unchanged = if unchanged { state.unchanged.saturating_add(1) } else { 0 };
            // Those of servers that are let go are not to be missed from the sum.
            state.turns += u64::from(!unchanged);
            state.turns += gone.iter().map(|node| node.pair.link.turns()).sum::<u64>();
            state.map = Arc::new(map);
            gone
        };
        drop(gone);
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn rate(&self) -> Duration {
        (RATE * (1 + self.unchanged / 3)).min(SLOWEST)
    }
}

impl fmt::Debug for Cluster {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cluster").field("server", &self.name).finish_non_exhaustive()
    }
}

const SLOTS: u64 = 16_384;

/// Slots and their master.
struct Range {
    start: u16,
    end: u16,
    host: String,
    port: u16,
}

fn covered(ranges: &[Range]) -> u64 {
    ranges.iter().map(|range| u64::from(range.end - range.start) + 1).sum()
}

/// Asks one server for the map, over a connection of its own: those in use may hang.
async fn slots(access: &Access, place: ConnectionAddr) -> Result<Vec<Range>, RedisError> {
    let asked = match &place {
        ConnectionAddr::Tcp(host, _) | ConnectionAddr::TcpTls { host, .. } => host.clone(),
        _ => String::new(),
    };
    let config = access.time_outs.config();
    let client = access.client(place)?;
    let mut connection = open(&client, &config).await?;
    let mut command = cmd("CLUSTER");
    command.arg("SLOTS");
    let answer: Value = command.query_async(&mut connection).await?;
    let Value::Array(ranges) = &answer else { return Ok(Vec::new()) };
    Ok(ranges.iter().filter_map(|range| read(range, &asked)).collect())
}

/// Reads `[start, end, [host, port, …], …]`; the first server is the master.
fn read(range: &Value, asked: &str) -> Option<Range> {
    let Value::Array(parts) = range else { return None };
    let [Value::Int(start), Value::Int(end), Value::Array(master), ..] = &parts[..] else {
        return None;
    };
    let [host, Value::Int(port), ..] = &master[..] else { return None };
    // Without a host of its own a server is where it was asked.
    let host = text(host).filter(|host| !host.is_empty() && *host != "?").unwrap_or(asked);
    let (start, end) = (u16::try_from(*start).ok()?, u16::try_from(*end).ok()?);
    let valid = start <= end && u64::from(end) < SLOTS;
    valid.then_some(Range { start, end, host: host.to_owned(), port: u16::try_from(*port).ok()? })
}

/// Splits `host:port`; an IPv6 address has colons of its own.
fn split(place: &str) -> Option<(&str, u16)> {
    let (host, port) = place.rsplit_once(':')?;
    Some((host, port.parse().ok()?))
}

fn is_over(asking: &Asking) -> bool {
    // Whoever was to answer has gone, or has answered.
    asking.has_changed().is_err() || asking.borrow().is_some()
}

/// Tells whether another server may have the slot by now.
fn needs_map(error: &RedisError) -> bool {
    is_link_lost(error)
        || error.is_io_error()
        || error.is_timeout()
        || matches!(
            error.kind(),
            ErrorKind::Server(ServerErrorKind::ClusterDown | ServerErrorKind::TryAgain)
        )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_map_is_read_and_what_is_none_is_left_out() {
        let bulk = |text: &str| Value::BulkString(text.as_bytes().to_vec());
        let range = |start, end, host: Value, port| {
            Value::Array(vec![
                Value::Int(start),
                Value::Int(end),
                Value::Array(vec![host, Value::Int(port), bulk("id")]),
            ])
        };
        for (name, value, expected) in [
            ("a master", range(0, 5460, bulk("10.0.0.1"), 7000), Some(("10.0.0.1", 7000))),
            ("no host", range(0, 5460, bulk(""), 7000), Some(("seed", 7000))),
            ("null", range(0, 5460, Value::Nil, 7000), Some(("seed", 7000))),
            ("unknown", range(0, 5460, bulk("?"), 7000), Some(("seed", 7000))),
            ("a slot too many", range(0, 16_384, bulk("a"), 7000), None),
            ("backwards", range(2, 1, bulk("a"), 7000), None),
            ("negative", range(-1, 1, bulk("a"), 7000), None),
            ("a port too large", range(0, 1, bulk("a"), 70_000), None),
            ("nothing", Value::Array(vec![]), None),
            ("another type", Value::Int(1), None),
        ] {
            let read = read(&value, "seed").map(|range| (range.host, range.port));
            let expected = expected.map(|(host, port): (&str, u16)| (host.to_owned(), port));
            assert_eq!(read, expected, "{name}");
        }
    }

    #[test]
    fn redirections_name_hosts_of_every_kind() {
        for (place, expected) in [
            ("10.0.0.1:7000", Some(("10.0.0.1", 7000))),
            (":7000", Some(("", 7000))),
            ("::1:7000", Some(("::1", 7000))),
            ("redis.internal:1", Some(("redis.internal", 1))),
            ("redis", None),
            ("redis:port", None),
        ] {
            assert_eq!(split(place), expected, "{place}");
        }
    }
}
