//! The two links to a server: one for all calls, one for writes that must survive the server and
//! hold up what is behind them while they wait for a replica.
//!
//! What is acknowledged is there after a fail-over, as long as a replica keeps up: else a refresh
//! token would be spent again because the note that it is being spent was lost with a master. In a
//! hand-over by sentinels the old master takes writes for a second after another one has become
//! master, and so does a replica that is still attached to it. The sentinel that leads it says so
//! from its beginning, so sentinels are asked before such a write is believed. What could not be
//! believed is not believed either when it is read back.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use ::redis::{ErrorKind, RedisError, Value};
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
    /// What came of waiting for replicas last.
    waited: Mutex<Waited>,
    /// Whether something was written of which nobody knows if it is kept.
    in_doubt: AtomicBool,
}

/// What came of waiting for replicas.
#[derive(Default)]
struct Waited {
    /// The last write before it.
    upto: u64,
    /// The connection that was waited on.
    generation: u64,
    /// Whether those writes are kept, as far as anybody can tell.
    kept: bool,
}

/// A write that only the master knows is lost with it: so long is waited for a replica.
const REPLICATION: Duration = Duration::from_millis(100);

impl Pair {
    pub(super) fn new(address: &Address, cached: usize) -> Self {
        Self {
            link: Link::new(address.clone(), cached),
            beside: Link::new(address.clone(), 0),
            written: AtomicU64::new(0),
            waited: Mutex::default(),
            in_doubt: AtomicBool::new(false),
        }
    }

    /// Sends a call; one that must survive the server waits for a replica, if there is one that
    /// keeps up.
    pub(super) async fn run(&self, call: &Call, asking: bool) -> Result<Value, RedisError> {
        if !call.must_survive() || !self.link.is_replicated() {
            let answer = self.link.run(call, asking).await?;
            return if call.must_be_current() { self.believed(answer).await } else { Ok(answer) };
        }
        self.keep_together();
        let (answer, generation) = self.beside.run_counted(call, asking).await?;
        self.keep_together();
        let mine = self.written.fetch_add(1, Ordering::AcqRel) + 1;
        if self.is_kept(mine, generation).await || call.may_be_lost() {
            return Ok(answer);
        }
        self.in_doubt.store(true, Ordering::Release);
        Err((ErrorKind::Io, "it may be lost with a server that is replaced").into())
    }

    /// Waits for a replica; those who queue behind one another share a wait that began after their
    /// writes, so that nobody is held up by more than two.
    async fn is_kept(&self, mine: u64, generation: u64) -> bool {
        let mut waited = self.waited.lock().await;
        if waited.upto < mine || waited.generation != generation {
            let upto = self.written.load(Ordering::Acquire);
            let kept = self.beside.keeps(generation, REPLICATION).await;
            *waited = Waited { upto, generation, kept };
        }
        waited.kept
    }

    /// Looks whether what was read may be from a server that is being replaced, if something that was
    /// written to it could not be believed.
    async fn believed(&self, answer: Value) -> Result<Value, RedisError> {
        if self.in_doubt.load(Ordering::Acquire) {
            if !self.link.is_settled().await {
                return Err((ErrorKind::Io, "the server may be one that is replaced").into());
            }
            self.in_doubt.store(false, Ordering::Release);
        }
        Ok(answer)
    }

    /// Leaves the master that one link has outlived with the other link too: what was written to the
    /// new one is not looked for at the old one.
    fn keep_together(&self) {
        if let (Some(one), Some(other)) = (self.link.master(), self.beside.master()) {
            if other.replaces(&one) {
                self.link.leave(&one);
            } else if one.replaces(&other) {
                self.beside.leave(&other);
            }
        }
    }
}
