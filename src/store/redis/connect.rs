//! From an address to a connection over which calls can be sent.

use std::sync::Arc;
use std::time::Duration;

use ::redis::aio::MultiplexedConnection;
use ::redis::io::tcp::{TcpSettings, socket2::TcpKeepalive};
use ::redis::{
    AsyncConnectionConfig, Client, ConnectionAddr, ConnectionInfo, ErrorKind,
    IntoConnectionInfo as _, ProtocolVersion, PushInfo, RedisConnectionInfo, RedisError,
    TlsCertificates, Value, cmd,
};

use super::call::client;
use super::sentinel::{Master, Sentinel};

/// The oldest server that knows `GETDEL`.
const OLDEST: (u32, u32) = (6, 2);

/// How long is waited for a server.
#[derive(Clone, Copy, Debug)]
pub(super) struct TimeOuts {
    pub(super) connect: Duration,
    pub(super) response: Duration,
}

/// How servers of one kind are reached: who asks, and by what means.
#[derive(Clone)]
pub(super) struct Access {
    pub(super) settings: RedisConnectionInfo,
    /// Certificates, if the way is to be TLS.
    pub(super) tls: Option<TlsCertificates>,
    pub(super) time_outs: TimeOuts,
}

/// Where the server of a link is found.
#[derive(Clone)]
pub(super) struct Address {
    name: Arc<str>,
    place: Place,
    time_outs: TimeOuts,
}

#[derive(Clone)]
enum Place {
    /// Whoever the sentinels call master.
    Master(Arc<Sentinel>),
    /// One server, of a cluster or alone.
    Server { client: Box<Client>, in_cluster: bool },
}

/// A connection that was made.
pub(super) struct Made {
    pub(super) connection: MultiplexedConnection,
    /// Whether the server sends word when what is read over it changes.
    pub(super) tracking: bool,
    /// Whom the sentinels called master when it was made.
    pub(super) master: Option<Master>,
}

impl Access {
    /// Returns how to reach a server.
    pub(super) fn client(&self, addr: ConnectionAddr) -> Result<Client, RedisError> {
        let info = tuned(addr.into_connection_info()?.set_redis_settings(self.settings.clone()));
        match &self.tls {
            Some(certificates) => Client::build_with_tls(info, certificates.clone()),
            None => Client::open(info),
        }
    }

    /// Returns the address of a server as host and port.
    pub(super) fn at(&self, host: &str, port: u16) -> ConnectionAddr {
        let host = host.trim_matches(['[', ']']).to_owned();
        match self.tls {
            Some(_) => ConnectionAddr::TcpTls { host, port, insecure: false, tls_params: None },
            None => ConnectionAddr::Tcp(host, port),
        }
    }
}

impl Address {
    pub(super) fn server(client: Client, in_cluster: bool, time_outs: TimeOuts) -> Self {
        let name = client.get_connection_info().addr().to_string();
        Self {
            name: name.into(),
            place: Place::Server { client: Box::new(client), in_cluster },
            time_outs,
        }
    }

    pub(super) fn master(sentinel: Arc<Sentinel>, time_outs: TimeOuts) -> Self {
        Self { name: sentinel.name().into(), place: Place::Master(sentinel), time_outs }
    }

    /// Returns where the server is, for people.
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// Tells whether the server is one of a cluster.
    pub(super) const fn in_cluster(&self) -> bool {
        matches!(self.place, Place::Server { in_cluster: true, .. })
    }

    /// Tells whether others stand ready to take the server's place.
    pub(super) const fn has_others(&self) -> bool {
        self.in_cluster() || matches!(self.place, Place::Master(_))
    }

    /// Tells whether the sentinels still call this one master. Where nobody can tell, they do.
    pub(super) async fn is_current(&self, master: Option<&Master>) -> bool {
        match (&self.place, master) {
            (Place::Master(sentinel), Some(master)) => sentinel.is_current(master).await,
            _ => true,
        }
    }

    /// Tells whether the sentinels call this one master and are not about to replace it. Where
    /// nobody can tell, it is so.
    pub(super) async fn is_settled(&self, master: Option<&Master>) -> bool {
        match (&self.place, master) {
            (Place::Master(sentinel), Some(master)) => sentinel.is_settled(master).await,
            _ => true,
        }
    }

    /// Connects, and sees that the server is new enough, and the one that is meant.
    pub(super) async fn connect(
        &self,
        hear: impl Fn(PushInfo) -> Result<(), std::convert::Infallible> + Send + Sync + 'static,
        track: bool,
    ) -> Result<Made, RedisError> {
        let config = self.time_outs.config().set_push_sender(hear);
        let (client, master) = match &self.place {
            Place::Master(sentinel) => {
                let (client, master) = sentinel.find().await?;
                (&client.clone(), Some(master))
            }
            Place::Server { client, .. } => (&**client, None),
        };
        let mut connection = open(client, &config).await?;
        if master.is_some() {
            be_master(&mut connection).await?;
        }
        let tracking = track && start_tracking(&mut connection).await?;
        Ok(Made { connection, tracking, master })
    }
}

impl TimeOuts {
    pub(super) fn config(&self) -> AsyncConnectionConfig {
        AsyncConnectionConfig::new()
            .set_connection_timeout(Some(self.connect))
            .set_response_timeout(Some(self.response))
    }
}

/// Connects to a server, or a sentinel, that is new enough.
pub(super) async fn open(
    client: &Client,
    config: &AsyncConnectionConfig,
) -> Result<MultiplexedConnection, RedisError> {
    let mut connection = client
        .get_multiplexed_async_connection_with_config(config)
        .await
        .map_err(|error| match error.kind() {
            ErrorKind::RESP3NotSupported => too_old("older than 6.0"),
            _ => without_arguments(error),
        })?;
    let greeting: Value =
        cmd("HELLO").arg(3).query_async(&mut connection).await.map_err(without_arguments)?;
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

/// A server that does not know a command repeats what came with it; with `HELLO` that is the
/// password.
fn without_arguments(error: RedisError) -> RedisError {
    let repeats = |text: &str| text.contains("args beginning with") || text.contains("HELLO");
    if !error.detail().is_some_and(repeats) && !repeats(&error.to_string()) {
        return error;
    }
    let code = error.code().unwrap_or("no code").to_owned();
    (ErrorKind::Client, "the server does not greet", code).into()
}

/// A master that came back after its fail-over calls itself so until the sentinels tell it; but
/// then they do not call it so. One that was demoted says so at once.
async fn be_master(connection: &mut MultiplexedConnection) -> Result<(), RedisError> {
    let role: Value = cmd("ROLE").query_async(connection).await?;
    if is_master(&role) {
        Ok(())
    } else {
        Err((ErrorKind::Io, "the server that the sentinels call master is none").into())
    }
}

/// Reads the answer to `ROLE`; what is no such answer says nothing against the server.
pub(super) fn is_master(role: &Value) -> bool {
    match role {
        Value::Array(parts) => parts.first().and_then(text) == Some("master"),
        _ => true,
    }
}

/// Asks the server to send word when what was read changes. A server or a user of it that cannot
/// do so is asked for everything each time.
async fn start_tracking(connection: &mut MultiplexedConnection) -> Result<bool, RedisError> {
    let mut command = client("TRACKING", "ON");
    command.arg("OPTIN");
    match command.query_async::<Value>(connection).await {
        Ok(_) => Ok(true),
        Err(error) if matches!(error.kind(), ErrorKind::Server(_)) => {
            tracing::warn!(%error, "Redis sends no word of changes: nothing is cached");
            Ok(false)
        }
        Err(error) => Err(error),
    }
}

/// Sets what a shared link between pods and their store needs.
fn tuned(info: ConnectionInfo) -> ConnectionInfo {
    let second = Duration::from_secs(1);
    let keepalive = TcpKeepalive::new().with_time(5 * second).with_interval(second).with_retries(3);
    let tcp = TcpSettings::default().set_nodelay(true).set_keepalive(keepalive);
    #[cfg(any(target_os = "android", target_os = "fuchsia", target_os = "linux"))]
    let tcp = tcp.set_user_timeout(5 * second);
    let redis = info
        .redis_settings()
        .clone()
        // A link that is lost while idle is noticed and not tried first; changes are told.
        .set_protocol(ProtocolVersion::RESP3)
        .set_lib_name(env!("CARGO_PKG_NAME"), env!("CARGO_PKG_VERSION"));
    info.set_tcp_settings(tcp).set_redis_settings(redis)
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

pub(super) fn text(value: &Value) -> Option<&str> {
    match value {
        Value::BulkString(bytes) => std::str::from_utf8(bytes).ok(),
        Value::SimpleString(text) | Value::VerbatimString { text, .. } => Some(text),
        _ => None,
    }
}
