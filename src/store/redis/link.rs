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
use super::phase::{Connected, Shared};
use super::replicas::Replicas;
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

    /// Returns what is known of the replicas of the server.
    pub(super) fn replicas(&self) -> &Replicas {
        self.shared.replicas()
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

    /// Asks something over the connection. What may be asked twice is, where the connection was
    /// lost while it lay idle.
    pub(super) async fn run(&self, call: &Call, asking: bool) -> Result<Value, RedisError> {
        let connected = self.shared.connected().await?;
        match self.run_over(connected, call, asking).await {
            Err(error) if call.may_be_repeated() && error.is_connection_dropped() => {
                let connected = self.shared.connected().await?;
                self.run_over(connected, call, asking).await
            }
            answer => answer,
        }
    }

    /// Waits until a replica has all that was written over the connection.
    ///
    /// # Errors
    ///
    /// If it may be that another server is master, which will never have it.
    pub(super) async fn wait(&self, within: Duration) -> Result<(), RedisError> {
        let Connected { mut connection, master, .. } = self.shared.connected().await?;
        let answer = wait(&mut connection, within).await;
        let confirmed = matches!(answer, Ok(true));
        if !confirmed && !self.shared.address().is_settled(master.as_deref()).await {
            return Err((ErrorKind::Io, "another server becomes master").into());
        }
        match answer {
            Ok(true) => {}
            Err(error) if error.kind() == ErrorKind::Server(ServerErrorKind::NoPerm) => {
                tracing::debug!(server = %self.server(), %error, "no replica is waited for");
                self.replicas().refused();
            }
            Ok(false) | Err(_) => {
                tracing::warn!(server = %self.server(), "no replica has confirmed a write in time");
                self.replicas().fell_behind();
            }
        }
        Ok(())
    }

    async fn run_over(
        &self,
        connected: Connected,
        call: &Call,
        asking: bool,
    ) -> Result<Value, RedisError> {
        let Connected { generation, mut connection, .. } = connected;
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
