//! A link to a Redis server: calls share its connection, which is made when it is needed and again
//! when it was lost ([`super::phase`]).
//!
//! The redis crate's own `ConnectionManager` does not fit: it keeps a link that swallows commands
//! (a time-out is no reason to reconnect for it), it makes every call wait for one shared attempt
//! with retries, and it needs a runtime when it is constructed.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use ::redis::{ErrorKind, RedisError, ServerErrorKind, Value};
use bytes::Bytes;

use super::call::{Call, Manner, wait};
use super::connect::Address;
use super::phase::{Connected, Shared, Trouble};
use super::sentinel::Master;
use crate::store::Key;
use crate::store::cache::Begun;

/// A connection that all calls share, and how to get another.
pub(super) struct Link {
    shared: Arc<Shared>,
}

impl Link {
    /// Takes a link that caches so many entries.
    pub(super) fn new(address: Address, cached: usize) -> Self {
        Self { shared: Shared::new(address, cached) }
    }

    /// Returns where the server is, for people.
    pub(super) fn server(&self) -> &str {
        self.shared.address().name()
    }

    /// Counts the connections that were made.
    pub(super) fn turns(&self) -> u64 {
        self.shared.made()
    }

    /// Returns what the server holds under a key, if that is known here.
    pub(super) fn known(&self, key: &Key) -> Option<Option<Bytes>> {
        self.shared.cache().find(key)
    }

    /// Forgets what is known of a key that is being changed here.
    pub(super) fn forget(&self, key: &Key) {
        if !self.shared.cache().is_off() {
            self.shared.cache().forget(key);
        }
    }

    /// Tells whether the server has replicas that a write can be waited for at, or may have.
    pub(super) fn is_replicated(&self) -> bool {
        let unknown = self.shared.address().has_others() && !self.shared.is_connected();
        unknown || self.shared.replicas().exist()
    }

    /// Returns whom the sentinels called master when the connection was made, if there is one.
    pub(super) fn master(&self) -> Option<Arc<Master>> {
        self.shared.current().and_then(|connected| connected.master)
    }

    /// Gives the connection up if it leads to that master.
    pub(super) fn leave(&self, master: &Arc<Master>) {
        if let Some(connected) = self.shared.current()
            && connected.master.as_ref() == Some(master)
        {
            self.shared.give_up(connected.generation, Trouble::Lost);
        }
    }

    /// Tells whether the server is master and stays so, as far as the sentinels can tell.
    pub(super) async fn is_settled(&self) -> bool {
        let master = self.master();
        self.shared.address().is_settled(master.as_deref()).await
    }

    /// Asks something over the connection. What may be asked twice is, where the connection was
    /// lost while it lay idle.
    pub(super) async fn run(&self, call: &Call, asking: bool) -> Result<Value, RedisError> {
        self.run_counted(call, asking).await.map(|(answer, _)| answer)
    }

    /// As [`Link::run`], and says over which connection.
    pub(super) async fn run_counted(
        &self,
        call: &Call,
        asking: bool,
    ) -> Result<(Value, u64), RedisError> {
        let mut connected = self.shared.connected().await?;
        let mut answer = self.run_over(&connected, call, asking).await;
        if call.may_be_repeated() && answer.as_ref().is_err_and(RedisError::is_connection_dropped) {
            connected = self.shared.connected().await?;
            answer = self.run_over(&connected, call, asking).await;
        }
        Ok((answer?, connected.generation))
    }

    /// Waits until a replica has all that was written over a connection, and says whether it is kept,
    /// as far as anybody can tell.
    pub(super) async fn keeps(&self, generation: u64, within: Duration) -> bool {
        let Some(connected) = self.shared.current() else { return false };
        if connected.generation != generation {
            return false;
        }
        let replicas = self.shared.replicas();
        if replicas.keep_up() {
            match wait(&mut connected.connection.clone(), within).await {
                // One of several may be attached to a master that is replaced already.
                Ok(true) if !replicas.are_several() => return true,
                Ok(true) => {}
                Ok(false) => {
                    if replicas.fell_behind() {
                        let server = self.server();
                        tracing::warn!(%server, "no replica has confirmed a write in time");
                    }
                }
                Err(error) if refuses(&error) => {
                    tracing::debug!(server = %self.server(), %error, "no replica is waited for");
                    replicas.refused();
                }
                Err(_) => return false,
            }
        }
        self.shared.address().is_settled(connected.master.as_deref()).await
    }

    async fn run_over(
        &self,
        connected: &Connected,
        call: &Call,
        asking: bool,
    ) -> Result<Value, RedisError> {
        let (generation, mut connection) = (connected.generation, connected.connection.clone());
        let (number, begun) = self.shared.begin_call(generation);
        // What is on its way to another server is not told of by this one.
        let begun = begun.filter(|_| !asking);
        let manner = Manner { asking, tracking: begun.is_some() };
        let answer = call.send(&mut connection, manner).await;
        self.shared.end_call(generation, number, &answer);
        if answer.as_ref().is_err_and(is_redirection) {
            // What this server does not have any more it does not tell of.
            self.shared.cache().clear();
        }
        let sent = answer?;
        if let (Some(begun), true) = (begun, sent.tracked) {
            self.keep(begun, call, &sent.answer);
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
        self.shared.watch_over(key);
        self.shared.cache().keep(begun, key.clone(), value);
    }
}

impl fmt::Debug for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Link").field("server", &self.server()).finish_non_exhaustive()
    }
}

/// Tells whether the answer is that another server of the cluster has the key, or none.
pub(super) fn is_redirection(error: &RedisError) -> bool {
    use ServerErrorKind::{Ask, ClusterDown, Moved, TryAgain};
    matches!(error.kind(), ErrorKind::Server(Ask | ClusterDown | Moved | TryAgain))
}

/// Tells whether a server does not wait for replicas at all.
fn refuses(error: &RedisError) -> bool {
    let unknown = || error.detail().is_some_and(|detail| detail.contains("unknown command"));
    error.kind() == ErrorKind::Server(ServerErrorKind::NoPerm) || unknown()
}
