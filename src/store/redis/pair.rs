//! The two links to a server: one for all calls, one for writes that must survive the server and
//! hold up what is behind them while they wait for a replica.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use ::redis::{RedisError, Value};
use tokio::sync::Mutex;

use super::call::Call;
use super::connect::Address;
use super::link::Link;

/// The links to one server.
pub(super) struct Pair {
    pub(super) link: Link,
    beside: Link,
    /// Counts the writes that were made beside.
    written: AtomicU64,
    /// Up to which of them replicas were waited for.
    waited: Mutex<u64>,
}

/// A write that only the master knows is lost with it: so long is waited for a replica.
const REPLICATION: Duration = Duration::from_millis(100);

impl Pair {
    pub(super) fn new(address: &Address, cached: usize) -> Self {
        Self {
            link: Link::new(address.clone(), cached),
            beside: Link::new(address.clone(), 0),
            written: AtomicU64::new(0),
            waited: Mutex::new(0),
        }
    }

    /// Sends a call; one that must survive the server waits for a replica, if there is one that
    /// keeps up.
    pub(super) async fn run(&self, call: &Call, asking: bool) -> Result<Value, RedisError> {
        if !call.must_survive() {
            return self.link.run(call, asking).await;
        }
        let answer = self.beside.run(call, asking).await?;
        let mine = self.written.fetch_add(1, Ordering::AcqRel) + 1;
        if self.link.is_replicated() {
            self.wait_for(mine).await;
        }
        Ok(answer)
    }

    /// Waits for a replica; those who queue behind one another share a wait that began after their
    /// writes, so that nobody is held up by more than two.
    async fn wait_for(&self, mine: u64) {
        let mut waited = self.waited.lock().await;
        if *waited >= mine || !self.beside.keeps_up() {
            return;
        }
        let all = self.written.load(Ordering::Acquire);
        self.beside.wait(REPLICATION).await;
        *waited = all;
    }
}
