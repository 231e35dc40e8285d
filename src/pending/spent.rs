//! Marks of sealed logins that were used: with a shared store they hold on every pod.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use crate::clock::Clock;
use crate::limit::Budget;
use crate::store::{Key, MemoryStore, Store, StoreError, StoreErrorKind};

/// Remembers which sealed logins were used.
///
/// A stranger can use up as many as they start, so what is written to the store is bounded as the
/// logins are; beyond that the marks hold in this process, and the provider refuses a code that was
/// spent elsewhere.
#[derive(Debug)]
pub(super) struct SpentMarks {
    shared: Option<(Arc<dyn Store>, Budget)>,
    here: MemoryStore,
    ttl: Duration,
}

impl SpentMarks {
    pub(super) fn new(
        shared: Option<Arc<dyn Store>>,
        most: u32,
        ttl: Duration,
        clock: &Arc<dyn Clock>,
    ) -> Self {
        let budget = || Budget::new(most, ttl, clock.clone(), WORDS);
        Self {
            shared: shared.map(|store| (store, budget())),
            here: MemoryStore::with_clock(clock.clone(), super::IN_MEMORY),
            ttl,
        }
    }

    /// Marks a login as used; `false` if it was marked before.
    pub(super) async fn mark(&self, key: &Key) -> Result<bool, StoreError> {
        if let Some((store, budget)) = &self.shared {
            // It may have been marked here while there was no room elsewhere.
            if self.here.load(key).await?.is_some() {
                return Ok(false);
            }
            if budget.take() {
                match store.insert(key, MARK, self.ttl).await {
                    Err(error) if error.kind() == StoreErrorKind::Full => {}
                    marked => return marked,
                }
            } else if store.load(key).await?.is_some() {
                return Ok(false);
            }
        }
        match self.here.insert(key, MARK, self.ttl).await {
            Err(error) if error.kind() == StoreErrorKind::Full => {
                tracing::debug!("no room to note a used login; the provider alone tells a replay");
                Ok(true)
            }
            marked => marked,
        }
    }
}

const MARK: Bytes = Bytes::from_static(b"1");
const WORDS: [&str; 2] = [
    "more sealed logins are used than a flood may note in the store; further ones are noted in this \
     process",
    "used sealed logins are noted in the store again",
];
