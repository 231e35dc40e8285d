//! What is asked of a server: each call of a store as one command on one key.

use std::sync::LazyLock;
use std::time::Duration;

use ::redis::aio::ConnectionLike;
use ::redis::{Cmd, ErrorKind, Pipeline, RedisError, Script, ServerErrorKind, Value, cmd};
use bytes::Bytes;

use crate::store::Key;

/// A call that can be sent to whichever server has its key.
pub(super) struct Call {
    key: Key,
    kind: Kind,
    /// The server sends word when the key changes.
    tracked: bool,
    /// How long is waited for a replica to have it, if that is asked for.
    replicated: Option<Duration>,
}

enum Kind {
    Insert { value: Bytes, ttl: Duration },
    Load,
    RemoveIf { old: Bytes },
    Swap { old: Bytes, new: Bytes, ttl: Duration },
    Take,
}

impl Call {
    pub(super) fn insert(key: &Key, value: Bytes, ttl: Duration) -> Self {
        Self::new(key, Kind::Insert { value, ttl })
    }

    pub(super) fn load(key: &Key) -> Self {
        Self::new(key, Kind::Load)
    }

    pub(super) fn remove_if(key: &Key, old: Bytes) -> Self {
        Self::new(key, Kind::RemoveIf { old })
    }

    pub(super) fn swap(key: &Key, old: Bytes, new: Bytes, ttl: Duration) -> Self {
        Self::new(key, Kind::Swap { old, new, ttl })
    }

    pub(super) fn take(key: &Key) -> Self {
        Self::new(key, Kind::Take)
    }

    fn new(key: &Key, kind: Kind) -> Self {
        Self { key: key.clone(), kind, tracked: false, replicated: None }
    }

    /// The server sends word when the key changes; it does so once.
    pub(super) fn tracked(mut self) -> Self {
        self.tracked = true;
        self
    }

    /// Waits so long at most for a replica to have what is written.
    pub(super) fn replicated(mut self, within: Duration) -> Self {
        self.replicated = Some(within);
        self
    }

    pub(super) const fn key(&self) -> &Key {
        &self.key
    }

    /// Tells whether it may hold up those behind it.
    pub(super) const fn is_patient(&self) -> bool {
        self.replicated.is_some()
    }

    /// Returns the key, if the server sends word when it changes.
    pub(super) fn tracked_key(&self) -> Option<&Key> {
        self.tracked.then_some(&self.key)
    }

    /// Tells whether it may be sent twice.
    pub(super) const fn may_be_repeated(&self) -> bool {
        matches!(self.kind, Kind::Load)
    }

    /// Sends it over a connection and returns the answer to its one command, and whether the server
    /// sends word when the key changes.
    ///
    /// A script that the server does not know is sent in full; nothing was done by then. `asking`
    /// is for a slot of a cluster that is on its way here, `tracking` says that the server sends
    /// word of changes over this connection.
    pub(super) async fn send(
        &self,
        connection: &mut impl ConnectionLike,
        asking: bool,
        tracking: bool,
    ) -> Result<(Value, bool), RedisError> {
        let before = match (asking, tracking && self.tracked) {
            (true, _) => Some(cmd("ASKING")),
            (false, true) => Some(client("CACHING", "YES")),
            (false, false) => None,
        };
        match self.send_as(self.command(false), connection, before.clone()).await {
            Err(error) if error.kind() == ErrorKind::Server(ServerErrorKind::NoScript) => {
                self.send_as(self.command(true), connection, before).await
            }
            answer => answer,
        }
    }

    async fn send_as(
        &self,
        command: Cmd,
        connection: &mut impl ConnectionLike,
        before: Option<Cmd>,
    ) -> Result<(Value, bool), RedisError> {
        let after = self.replicated.map(|within| {
            let mut wait = cmd("WAIT");
            wait.arg(1).arg(milliseconds(within));
            wait
        });
        if before.is_none() && after.is_none() {
            let answer = connection.req_packed_command(&command).await?;
            return Ok((answer.extract_error()?, false));
        }
        // Several commands in one packet; each is answered by itself.
        let mut pipeline = Pipeline::new();
        let prepared = before.is_some();
        for command in before.into_iter().chain([command]).chain(after) {
            pipeline.add_command(command);
        }
        let count = pipeline.cmd_iter().count();
        let mut answers = connection.req_packed_commands(&pipeline, 0, count).await?.into_iter();
        // A right that is missing, or was taken away: what is read then is not tracked.
        let prepared = prepared
            && answers.next().is_some_and(|answer| !matches!(answer, Value::ServerError(_)));
        let answer = answers.next().unwrap_or(Value::Nil).extract_error()?;
        if let Some(Value::Int(0)) = answers.next() {
            tracing::debug!("no replica of the store has confirmed a write in time");
        }
        Ok((answer, prepared))
    }

    fn command(&self, with_text: bool) -> Cmd {
        let key = self.key.as_bytes();
        match &self.kind {
            Kind::Insert { value, ttl } => {
                let mut command = cmd("SET");
                command.arg(key).arg(&value[..]).arg("NX").arg("PX").arg(milliseconds(*ttl));
                command
            }
            Kind::Load => {
                let mut command = cmd("GET");
                command.arg(key);
                command
            }
            Kind::RemoveIf { old } => {
                let mut command = REMOVE_IF.call(with_text);
                command.arg(1).arg(key).arg(&old[..]);
                command
            }
            Kind::Swap { old, new, ttl } => {
                let mut command = SWAP.call(with_text);
                command.arg(1).arg(key).arg(&old[..]).arg(&new[..]).arg(milliseconds(*ttl));
                command
            }
            Kind::Take => {
                let mut command = cmd("GETDEL");
                command.arg(key);
                command
            }
        }
    }
}

/// A script of one line, known to servers by its hash.
struct Text {
    code: &'static str,
    script: LazyLock<Script>,
}

impl Text {
    fn call(&self, with_text: bool) -> Cmd {
        if with_text {
            let mut command = cmd("EVAL");
            command.arg(self.code);
            command
        } else {
            let mut command = cmd("EVALSHA");
            command.arg(self.script.get_hash());
            command
        }
    }
}

const SWAP_CODE: &str = "if redis.call('GET', KEYS[1]) == ARGV[1] then \
                         redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[3]) return 1 end return 0";
const REMOVE_IF_CODE: &str = "if redis.call('GET', KEYS[1]) == ARGV[1] then \
                              return redis.call('DEL', KEYS[1]) end return 0";

static SWAP: Text = Text { code: SWAP_CODE, script: LazyLock::new(|| Script::new(SWAP_CODE)) };
static REMOVE_IF: Text =
    Text { code: REMOVE_IF_CODE, script: LazyLock::new(|| Script::new(REMOVE_IF_CODE)) };

/// `CLIENT <what> <how>`.
pub(super) fn client(what: &str, how: &str) -> Cmd {
    let mut command = cmd("CLIENT");
    command.arg(what).arg(how);
    command
}

/// A time to live as Redis takes it; zero would be refused.
fn milliseconds(ttl: Duration) -> u64 {
    u64::try_from(ttl.as_millis()).unwrap_or(u64::MAX).max(1)
}
