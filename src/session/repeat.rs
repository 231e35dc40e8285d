//! Marks are written again: a store that fails over may have acknowledged what it then loses.
//!
//! For a minute after a mark was written it is looked for with growing pauses, and at once when the
//! store begins to speak to another server. Where it is gone and
//! nothing newer stands in its place, the counter is raised to its number, if that was lost too, and
//! the mark is put back as it was, so that sessions made since go on and those that it ended stay
//! ended. A store that has become another one (its incarnation is not the mark's) needs none:
//! every session of the old one is over.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Poll;
use std::time::Duration;

use super::revocation::{COUNTER_TTL, Counter, Mark, decode, encode};
use crate::secret::random;
use crate::store::{Key, Store, StoreError};

/// The first pause before a look; each one more is twice as long. As often it is asked whether the
/// store speaks to another server.
const TICK: Duration = Duration::from_millis(100);
/// So often a mark is looked for: for a minute in all.
const LOOKS: u32 = 9;
/// So many marks are looked after at once; the next ones are believed to stay.
const MOST: usize = 10_000;
/// So many are looked for at once.
const AT_ONCE: usize = 64;

/// Looks after marks that were just written.
#[derive(Debug)]
pub(super) struct Repeater(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    store: Arc<dyn Store>,
    counter_key: Key,
    queue: Mutex<Queue>,
}

#[derive(Debug, Default)]
struct Queue {
    waiting: Vec<Waiting>,
    /// Whether a task looks after them.
    running: bool,
    /// Counts the ticks of that task.
    now: u64,
}

/// A mark that was written.
#[derive(Clone, Debug)]
pub(super) struct Written {
    pub(super) key: Key,
    pub(super) mark: Mark,
    /// The generation that had its place before.
    pub(super) replaced: Option<[u8; 16]>,
    pub(super) ttl: Duration,
}

/// A mark that is looked after.
#[derive(Debug)]
struct Waiting {
    written: Written,
    looks: u32,
    /// At which tick it is looked for next.
    due: u64,
}

impl Repeater {
    pub(super) fn new(store: Arc<dyn Store>, counter_key: Key) -> Self {
        let queue = Mutex::default();
        Self(Arc::new(Shared { store, counter_key, queue }))
    }

    /// Looks after a mark.
    pub(super) fn look_after(&self, written: Written) {
        let shared = &self.0;
        let begin = {
            let mut queue = shared.queue();
            if queue.waiting.len() >= MOST {
                return;
            }
            let due = queue.now + 1;
            queue.waiting.push(Waiting { written, looks: 0, due });
            !std::mem::replace(&mut queue.running, true)
        };
        if begin {
            let mut running = Running { shared: shared.clone(), ended: false };
            tokio::spawn(async move {
                running.shared.run().await;
                running.end();
            });
        }
    }
}

/// The one task; if it is given up, the next mark begins another.
struct Running {
    shared: Arc<Shared>,
    ended: bool,
}

impl Running {
    /// The queue knows already.
    const fn end(&mut self) {
        self.ended = true;
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if !self.ended {
            self.shared.queue().running = false;
        }
    }
}

impl Shared {
    async fn run(&self) {
        let mut turns = self.store.turns();
        loop {
            tokio::time::sleep(TICK).await;
            // The store speaks to another server: whatever was written lately may be missing there.
            let now = self.store.turns();
            let all = std::mem::replace(&mut turns, now) != now;
            let Some(due) = self.take_due(all) else { return };
            for few in due.chunks(AT_ONCE) {
                let looks = few.iter().map(|waiting| self.look(&waiting.written));
                let standings = join_all(looks.collect()).await;
                for (waiting, standing) in few.iter().zip(standings) {
                    if standing != Some(Standing::NotNeeded) {
                        self.put_back(waiting, all);
                    }
                }
            }
        }
    }

    /// Takes those whose time has come; `None` if there is nothing left to look after.
    fn take_due(&self, all: bool) -> Option<Vec<Waiting>> {
        let mut queue = self.queue();
        if queue.waiting.is_empty() {
            queue.running = false;
            return None;
        }
        queue.now += 1;
        let now = queue.now;
        let waiting = std::mem::take(&mut queue.waiting);
        let (due, later) = waiting.into_iter().partition(|waiting| all || waiting.due <= now);
        queue.waiting = later;
        Some(due)
    }

    /// Looks for a mark; `None` while the store is away: the next look will do.
    async fn look(&self, written: &Written) -> Option<Standing> {
        restore(&*self.store, &self.counter_key, written).await.ok()
    }

    fn put_back(&self, waiting: &Waiting, out_of_turn: bool) {
        // A look out of turn is none of those that are due.
        let looks = waiting.looks + u32::from(!out_of_turn);
        if looks < LOOKS {
            let written = waiting.written.clone();
            let mut queue = self.queue();
            let due = queue.now + 2_u64.pow(looks);
            queue.waiting.push(Waiting { written, looks, due });
        }
    }

    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Awaits a few things at once.
async fn join_all<T>(futures: Vec<impl Future<Output = T>>) -> Vec<T> {
    let mut running: Vec<_> = futures.into_iter().map(Box::pin).collect();
    let mut done: Vec<Option<T>> = running.iter().map(|_| None).collect();
    std::future::poll_fn(|cx| {
        for (future, done) in running.iter_mut().zip(&mut done) {
            if done.is_none()
                && let Poll::Ready(value) = future.as_mut().poll(cx)
            {
                *done = Some(value);
            }
        }
        if done.iter().all(Option::is_some) { Poll::Ready(()) } else { Poll::Pending }
    })
    .await;
    done.into_iter().flatten().collect()
}

/// What becomes of a mark.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Standing {
    /// It stands, put back or not.
    Kept,
    /// Something newer has its place, or nobody needs it any more.
    NotNeeded,
}

async fn restore(
    store: &dyn Store,
    counter_key: &Key,
    written: &Written,
) -> Result<Standing, StoreError> {
    let Written { key, mark, replaced, ttl } = written;
    let Some(old) = store.load(counter_key).await? else { return Ok(Standing::NotNeeded) };
    let counter: Counter = decode(&old)?;
    if counter.incarnation != mark.incarnation {
        return Ok(Standing::NotNeeded);
    }
    if counter.n < mark.n {
        let raised = Counter { n: mark.n, ..counter };
        if !store.swap(counter_key, &old, encode(&raised), COUNTER_TTL).await? {
            // Somebody else changes it just now; the next look sees what came of it.
            return Ok(Standing::Kept);
        }
        tracing::warn!("the store lost the counter of sign-outs; it is raised again");
    }
    match store.load(key).await? {
        Some(value) => {
            let other: Mark = decode(&value)?;
            if other == *mark {
                return Ok(Standing::Kept);
            }
            let same = other.incarnation == mark.incarnation;
            if same && other.n >= mark.n {
                return Ok(Standing::NotNeeded);
            }
            // A sign-out that came after the loss bears a smaller number: it must not be undone by
            // the generation that sessions since had in their baseline.
            let known = Some(other.generation) == *replaced;
            let generation = if known { mark.generation } else { random() };
            let restored = Mark { generation, ..*mark };
            if store.swap(key, &value, encode(&restored), *ttl).await? {
                tracing::warn!("the store lost a sign-out; it is written again");
            }
            Ok(Standing::Kept)
        }
        None => {
            if store.insert(key, encode(mark), *ttl).await? {
                tracing::warn!("the store lost a sign-out; it is written again");
            }
            Ok(Standing::Kept)
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::clock::SystemClock;
    use crate::session::revocation::{MARK_TTL, Revocation, Target};
    use crate::store::{MemoryStore, StoreFuture};

    const ID: [u8; 16] = [7; 16];

    /// What lay in the store, to be put back as a fail-over does.
    async fn undo(store: &MemoryStore, key: &Key, before: Option<Bytes>) {
        store.take(key).await.unwrap();
        if let Some(before) = before {
            store.insert(key, before, MARK_TTL).await.unwrap();
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_mark_that_the_store_loses_is_written_again_as_it_was() {
        let store = MemoryStore::shared_between_pods(Arc::new(SystemClock));
        let revocation =
            Revocation::new(Arc::new(store.clone()), [1; 32], "auth", Arc::new(SystemClock));
        let keys = revocation.keys(&ID, "https://op", "alice", None);
        let counter_key = revocation.counter_key();
        revocation.counter().await.unwrap();
        let counter_before = store.load(counter_key).await.unwrap();
        let live = revocation.marks(&keys).await.unwrap();
        revocation.mark(Target::Session(&ID), MARK_TTL).await.unwrap();
        let ended = revocation.marks(&keys).await.unwrap();
        assert_ne!(live, ended);

        let key = revocation.key(Target::Session(&ID));
        for lost in ["the mark", "the counter too", "nothing"] {
            if lost != "nothing" {
                undo(&store, &key, None).await;
                assert_ne!(revocation.marks(&keys).await.unwrap(), ended, "{lost} is lost");
            }
            if lost == "the counter too" {
                undo(&store, counter_key, counter_before.clone()).await;
            }
            tokio::time::sleep(Duration::from_secs(10)).await;
            assert_eq!(revocation.marks(&keys).await.unwrap(), ended, "{lost}");
            let begun = revocation.counter().await.unwrap();
            assert_eq!(begun.n, 1, "{lost}: a login that begins now has seen the sign-out");
        }
    }

    /// A store that says when it speaks to another server.
    #[derive(Debug)]
    struct Turning(MemoryStore, std::sync::atomic::AtomicU64);

    impl Store for Turning {
        fn insert(&self, key: &Key, value: Bytes, ttl: Duration) -> StoreFuture<bool> {
            self.0.insert(key, value, ttl)
        }

        fn load(&self, key: &Key) -> StoreFuture<Option<Bytes>> {
            self.0.load(key)
        }

        fn swap(&self, key: &Key, old: &Bytes, new: Bytes, ttl: Duration) -> StoreFuture<bool> {
            self.0.swap(key, old, new, ttl)
        }

        fn take(&self, key: &Key) -> StoreFuture<Option<Bytes>> {
            self.0.take(key)
        }

        fn remove_if(&self, key: &Key, old: &Bytes) -> StoreFuture<bool> {
            self.0.remove_if(key, old)
        }

        fn shared(&self) -> bool {
            true
        }

        fn turns(&self) -> u64 {
            self.1.load(std::sync::atomic::Ordering::Acquire)
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_mark_is_looked_for_at_once_when_another_server_has_its_turn() {
        let store = MemoryStore::shared_between_pods(Arc::new(SystemClock));
        let turning = Arc::new(Turning(store.clone(), 0.into()));
        let revocation = Revocation::new(turning.clone(), [1; 32], "auth", Arc::new(SystemClock));
        revocation.mark(Target::Session(&ID), MARK_TTL).await.unwrap();
        let key = revocation.key(Target::Session(&ID));
        // Far into the minute, when looks are long apart.
        tokio::time::sleep(Duration::from_secs(27)).await;
        for turn in 1..=20 {
            undo(&store, &key, None).await;
            turning.1.store(turn, std::sync::atomic::Ordering::Release);
            tokio::time::sleep(TICK + TICK).await;
            assert!(store.load(&key).await.unwrap().is_some(), "{turn}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_newer_mark_and_another_store_are_left_alone() {
        let store = MemoryStore::shared_between_pods(Arc::new(SystemClock));
        let revocation =
            Revocation::new(Arc::new(store.clone()), [1; 32], "auth", Arc::new(SystemClock));
        let keys = revocation.keys(&ID, "https://op", "alice", None);
        revocation.mark(Target::Session(&ID), MARK_TTL).await.unwrap();
        revocation.mark(Target::Session(&ID), MARK_TTL).await.unwrap();
        let newest = revocation.marks(&keys).await.unwrap();
        tokio::time::sleep(Duration::from_secs(5)).await;
        assert_eq!(revocation.marks(&keys).await.unwrap(), newest);

        let key = revocation.key(Target::Session(&ID));
        undo(&store, &key, None).await;
        undo(&store, revocation.counter_key(), None).await;
        tokio::time::sleep(Duration::from_secs(120)).await;
        assert_eq!(store.load(&key).await.unwrap(), None, "an emptied store is another one");
    }

    #[tokio::test(start_paused = true)]
    async fn a_restored_mark_does_not_undo_a_sign_out_that_came_after_it() {
        let store = MemoryStore::shared_between_pods(Arc::new(SystemClock));
        let pod =
            || Revocation::new(Arc::new(store.clone()), [1; 32], "auth", Arc::new(SystemClock));
        let (one, two) = (pod(), pod());
        let keys = one.keys(&ID, "https://op", "alice", None);
        let alice = Target::Subject { issuer: "https://op", subject: "alice" };
        let bob = Target::Subject { issuer: "https://op", subject: "bob" };
        one.counter().await.unwrap();
        let before = store.load(one.counter_key()).await.unwrap();
        // Two bumps that no replica has seen; the second is alice's "everywhere".
        two.mark(bob, MARK_TTL).await.unwrap();
        one.mark(alice, MARK_TTL).await.unwrap();
        // She signs in again: this is her session's baseline.
        let begun = one.counter().await.unwrap();
        let marks = one.marks(&keys).await.unwrap();
        assert!(marks.predate(Some(begun)));
        // The fail-over loses counter and marks.
        undo(&store, &one.key(alice), None).await;
        undo(&store, &one.key(bob), None).await;
        undo(&store, one.counter_key(), before).await;
        // She signs out everywhere once more, by another pod, before the first one looks.
        two.mark(alice, MARK_TTL).await.unwrap();
        assert_ne!(one.marks(&keys).await.unwrap().baseline, marks.baseline, "she is signed out");
        for seconds in 0..120 {
            tokio::time::sleep(Duration::from_secs(1)).await;
            let now = one.marks(&keys).await.unwrap();
            assert_ne!(now.baseline, marks.baseline, "signed in again after {seconds} s");
        }
    }
}
