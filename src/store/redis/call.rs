//! What is asked of a server: each call of a store as one command on one key.

use std::sync::LazyLock;
use std::time::Duration;

use ::redis::aio::ConnectionLike;
use ::redis::{Cmd, ErrorKind, Pipeline, RedisError, Script, ServerErrorKind, Value, cmd};
use bytes::Bytes;

use crate::store::{Key, MARKS};

/// A call that can be sent to whichever server has its key.
pub(super) struct Call {
    key: Key,
    kind: Kind,
    /// The server sends word when the key changes.
    tracked: bool,
}

/// In which manner a call is sent.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Manner {
    /// To a server to which its slot of a cluster is on its way.
    pub(super) asking: bool,
    /// Over a connection on which the server sends word of changes.
    pub(super) tracking: bool,
}

/// What came of a call.
pub(super) struct Sent {
    pub(super) answer: Value,
    /// The server sends word when the key changes.
    pub(super) tracked: bool,
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
        Self { key: key.clone(), kind, tracked: false }
    }

    /// The server sends word when the key changes; it does so once.
    pub(super) fn tracked(mut self) -> Self {
        self.tracked = true;
        self
    }

    pub(super) const fn key(&self) -> &Key {
        &self.key
    }

    /// Tells whether it must survive the server that acknowledges it: sign-outs, sessions, and what
    /// keeps a refresh token from being spent twice. A login that was only begun starts over.
    pub(super) fn must_survive(&self) -> bool {
        let is_write = !matches!(self.kind, Kind::Load);
        is_write && matches!(self.key.purpose(), MARKS | "lease" | "session")
    }

    /// Tells whether its loss is made good: sign-outs are written again for a minute by whoever made
    /// them, and what takes a session away comes after one.
    pub(super) fn may_be_lost(&self) -> bool {
        self.key.is_mark() || matches!(self.kind, Kind::Take)
    }

    /// Tells whether it asks what has become of a session: a copy will not do, nor the word of a
    /// server that is being replaced.
    pub(super) fn must_be_current(&self) -> bool {
        matches!(self.kind, Kind::Load) && !self.tracked && self.key.purpose() == "session"
    }

    /// Returns the key, if the server sends word when it changes.
    pub(super) fn tracked_key(&self) -> Option<&Key> {
        self.tracked.then_some(&self.key)
    }

    /// Tells whether it may be sent twice.
    pub(super) const fn may_be_repeated(&self) -> bool {
        matches!(self.kind, Kind::Load)
    }

    /// Sends it over a connection.
    ///
    /// A script that the server does not know is sent in full; nothing was done by then.
    pub(super) async fn send(
        &self,
        connection: &mut impl ConnectionLike,
        manner: Manner,
    ) -> Result<Sent, RedisError> {
        match self.send_as(self.command(false), connection, manner).await {
            Err(error) if error.kind() == ErrorKind::Server(ServerErrorKind::NoScript) => {
                self.send_as(self.command(true), connection, manner).await
            }
            answer => answer,
        }
    }

    async fn send_as(
        &self,
        command: Cmd,
        connection: &mut impl ConnectionLike,
        manner: Manner,
    ) -> Result<Sent, RedisError> {
        let tracked = manner.tracking && self.tracked && !manner.asking;
        let before = match (manner.asking, tracked) {
            (true, _) => Some(cmd("ASKING")),
            (false, true) => Some(client("CACHING", "YES")),
            (false, false) => None,
        };
        let Some(before) = before else {
            let answer = connection.req_packed_command(&command).await?;
            return Ok(Sent { answer: answer.extract_error()?, tracked: false });
        };
        // Two commands in one packet; each is answered by itself.
        let mut pipeline = Pipeline::new();
        pipeline.add_command(before).add_command(command);
        let answers = connection.req_packed_commands(&pipeline, 0, 2).await?;
        let Ok([prepared, answer]) = <[Value; 2]>::try_from(answers) else {
            return Err((ErrorKind::Client, "of two commands not both were answered").into());
        };
        // A right that is missing, or was taken away: what is read then is not tracked.
        let granted = !matches!(prepared, Value::ServerError(_));
        Ok(Sent { answer: answer.extract_error()?, tracked: tracked && granted })
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

/// Waits until a replica has all that was written over this connection; says whether one has.
pub(super) async fn wait(
    connection: &mut impl ConnectionLike,
    within: Duration,
) -> Result<bool, RedisError> {
    let mut command = cmd("WAIT");
    command.arg(1).arg(milliseconds(within));
    let answer = connection.req_packed_command(&command).await?.extract_error()?;
    Ok(matches!(answer, Value::Int(1..)))
}

/// A time to live as Redis takes it: zero would be refused, and so would the end of time.
fn milliseconds(ttl: Duration) -> u64 {
    u64::try_from(ttl.as_millis()).unwrap_or(u64::MAX).clamp(1, LONGEST)
}

/// A thousand years.
const LONGEST: u64 = 1_000 * 366 * 24 * 3_600 * 1_000;
