//! Marks are written again: a store that fails over may have acknowledged what it then loses.
//!
//! For a minute after a mark was written it is looked for with growing pauses. Where it is gone and
//! nothing newer stands in its place, the counter is raised to its number, if that was lost too, and
//! the mark is put back as it was, so that sessions made since go on and those that it ended stay
//! ended. A store that has become another one (its incarnation is not the mark's) needs none:
//! every session of the old one is over.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use super::revocation::{Counter, MARK_TTL, Mark, decode, encode};
use crate::store::{Key, Store, StoreError};

/// The pauses between two looks.
const PAUSES: [Duration; 7] = [
    Duration::from_millis(500),
    Duration::from_secs(1),
    Duration::from_secs(2),
    Duration::from_secs(4),
    Duration::from_secs(8),
    Duration::from_secs(16),
    Duration::from_secs(32),
];
/// So many marks are looked after at once; the next ones are believed to stay.
const MOST: usize = 10_000;

/// Looks after marks that were just written.
#[derive(Debug)]
pub(super) struct Repeater {
    store: Arc<dyn Store>,
    counter_key: Key,
    under_way: Arc<AtomicUsize>,
}

/// A mark that was written.
pub(super) struct Written {
    pub(super) key: Key,
    pub(super) mark: Mark,
    pub(super) ttl: Duration,
}

impl Repeater {
    pub(super) fn new(store: Arc<dyn Store>, counter_key: Key) -> Self {
        Self { store, counter_key, under_way: Arc::default() }
    }

    /// Looks after a mark in a task of its own.
    pub(super) fn look_after(&self, written: Written) {
        if self.under_way.fetch_add(1, Ordering::AcqRel) >= MOST {
            self.under_way.fetch_sub(1, Ordering::AcqRel);
            return;
        }
        let place = UnderWay(self.under_way.clone());
        let (store, counter_key) = (self.store.clone(), self.counter_key.clone());
        tokio::spawn(async move {
            let _place = place;
            for pause in PAUSES {
                tokio::time::sleep(pause).await;
                // While the store is away the next look will do.
                if let Ok(Standing::NotNeeded) = restore(&*store, &counter_key, &written).await {
                    return;
                }
            }
        });
    }
}

/// A place among those under way; it is given back whatever happens.
struct UnderWay(Arc<AtomicUsize>);

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
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
    let Written { key, mark, ttl } = written;
    let Some(old) = store.load(counter_key).await? else { return Ok(Standing::NotNeeded) };
    let counter: Counter = decode(&old)?;
    if counter.incarnation != mark.incarnation {
        return Ok(Standing::NotNeeded);
    }
    if counter.n < mark.n {
        let raised = Counter { n: mark.n, ..counter };
        if !store.swap(counter_key, &old, encode(&raised), MARK_TTL).await? {
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
            if other.n >= mark.n {
                return Ok(Standing::NotNeeded);
            }
            let restored = store.swap(key, &value, encode(mark), *ttl);
            if restored.await? {
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
    use crate::session::revocation::{Revocation, Target};
    use crate::store::MemoryStore;

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
}
