//! The two links to a server: one for all calls, one for writes that must survive the server and
//! hold up what is behind them while they wait for a replica.
//!
//! What was acknowledged is there after a fail-over: no refresh token is spent again because the note
//! that it is being spent was lost with a master. In a hand-over by sentinels the old one takes
//! writes until it is told that it was replaced. No replica confirms those; so the sentinels are
//! asked before one is believed.

use std::sync::atomic::{AtomicU64, Ordering};
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
}

/// What came of waiting for replicas.
struct Waited {
    /// The last write before it.
    upto: u64,
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
            waited: Mutex::new(Waited { upto: 0, kept: true }),
        }
    }

    /// Sends a call; one that must survive the server waits for a replica, if there is one that
    /// keeps up.
    pub(super) async fn run(&self, call: &Call, asking: bool) -> Result<Value, RedisError> {
        if !call.must_survive() || !self.link.replicas().exist() {
            return self.link.run(call, asking).await;
        }
        let answer = self.beside.run(call, asking).await?;
        let turn = self.beside.turns();
        let mine = self.written.fetch_add(1, Ordering::AcqRel) + 1;
        let kept = self.is_kept(mine).await && self.beside.turns() == turn;
        // Sign-outs are written again for a minute by whoever made them.
        if kept || call.key().is_mark() {
            Ok(answer)
        } else {
            Err((ErrorKind::Io, "it may be lost with a server that is replaced").into())
        }
    }

    /// Waits for a replica; those who queue behind one another share a wait that began after their
    /// writes, so that nobody is held up by more than two.
    async fn is_kept(&self, mine: u64) -> bool {
        let mut waited = self.waited.lock().await;
        if waited.upto >= mine {
            return waited.kept;
        }
        if !self.beside.replicas().keep_up() {
            return true;
        }
        let upto = self.written.load(Ordering::Acquire);
        let kept = self.beside.wait(REPLICATION).await.is_ok();
        *waited = Waited { upto, kept };
        kept
    }
}
