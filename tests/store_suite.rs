//! The conformance suite finds what third parties get wrong: each mistake here, and by its name.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::FutureExt as _;
use tokio::sync::Semaphore;
use tokio::task::yield_now;
use tower_pkce_auth::testing::{TestClock, store_suite};
use tower_pkce_auth::{Key, MemoryStore, Store, StoreError, StoreErrorKind, StoreFuture};

/// What a store does wrong.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Mistake {
    /// Compares as a collation does that knows no case and no trailing blanks.
    Collates,
    /// Does what it was asked although nobody polls.
    DoesUnasked,
    /// Writes over an expired value in two steps.
    InsertsOverExpiredInSteps,
    /// Keeps its connection if a call is given up.
    LeaksConnections,
    /// Counts no change where a value is swapped by itself.
    NoChangeNoSwap,
    None,
    /// Refuses more calls than it has connections.
    RefusesMany,
    /// Refuses a time to live of less than a millisecond.
    RefusesNoTime,
    /// Removes in two steps.
    RemovesInSteps,
    /// Knows whole seconds only, and rounds down.
    RoundsDown,
    /// Knows whole seconds only, and rounds up.
    RoundsUp,
    /// Writes where nothing is.
    SwapsAbsent,
    /// Swaps in two steps.
    SwapsInSteps,
    /// Takes in two steps.
    TakesInSteps,
}

#[derive(Clone, Debug)]
struct Wrong {
    inner: MemoryStore,
    mistake: Mistake,
    connections: Arc<Semaphore>,
}

impl Wrong {
    fn ttl(&self, ttl: Duration) -> Duration {
        match self.mistake {
            Mistake::RoundsDown => Duration::from_secs(ttl.as_secs()),
            Mistake::RoundsUp => Duration::from_secs(ttl.as_secs() + 1),
            _ => ttl,
        }
    }

    /// Awaits an answer as stores over a network do.
    fn over<T: Send + 'static>(
        &self,
        call: impl FnOnce(&MemoryStore) -> StoreFuture<T> + Send + 'static,
    ) -> StoreFuture<T> {
        let Self { inner, mistake, connections } = self.clone();
        if mistake == Mistake::DoesUnasked {
            let done = tokio::spawn(async move { call(&inner).await });
            return StoreFuture::new(async move { done.await.unwrap() });
        }
        StoreFuture::new(async move {
            let full = || StoreError::new(StoreErrorKind::Unavailable);
            let connection = match mistake {
                Mistake::RefusesMany => connections.try_acquire().map_err(|_| full())?,
                _ => connections.acquire().await.unwrap(),
            };
            if mistake == Mistake::LeaksConnections {
                connection.forget();
                yield_now().await;
                let answer = call(&inner).await;
                connections.add_permits(1);
                return answer;
            }
            yield_now().await;
            let answer = call(&inner).await;
            drop(connection);
            answer
        })
    }

    fn same(&self, a: &Bytes, b: &Bytes) -> bool {
        let plain = |text: &Bytes| text.trim_ascii_end().to_ascii_lowercase();
        if self.mistake == Mistake::Collates { plain(a) == plain(b) } else { a == b }
    }
}

impl Store for Wrong {
    fn insert(&self, key: &Key, value: Bytes, ttl: Duration) -> StoreFuture<bool> {
        let (it, ttl) = (key.clone(), self.ttl(ttl));
        if self.mistake == Mistake::RefusesNoTime && ttl < Duration::from_millis(1) {
            return StoreFuture::ready(Err(StoreError::new(StoreErrorKind::Unavailable)));
        }
        if self.mistake == Mistake::InsertsOverExpiredInSteps {
            let inner = self.inner.clone();
            return StoreFuture::new(async move {
                if inner.load(&it).await?.is_some() {
                    return Ok(false);
                }
                yield_now().await;
                inner.take(&it).await?;
                inner.insert(&it, value, ttl).await
            });
        }
        self.over(move |inner| inner.insert(&it, value, ttl))
    }

    fn load(&self, key: &Key) -> StoreFuture<Option<Bytes>> {
        let it = key.clone();
        self.over(move |inner| inner.load(&it))
    }

    fn swap(&self, key: &Key, old: &Bytes, new: Bytes, ttl: Duration) -> StoreFuture<bool> {
        let (it, old, ttl) = (key.clone(), old.clone(), self.ttl(ttl));
        let this = self.clone();
        match self.mistake {
            Mistake::NoChangeNoSwap if old == new => StoreFuture::ready(Ok(false)),
            Mistake::Collates | Mistake::SwapsInSteps => StoreFuture::new(async move {
                let Some(found) = this.inner.load(&it).await? else { return Ok(false) };
                if !this.same(&found, &old) {
                    return Ok(false);
                }
                if this.mistake == Mistake::SwapsInSteps {
                    yield_now().await;
                }
                this.inner.take(&it).await?;
                this.inner.insert(&it, new, ttl).await
            }),
            Mistake::SwapsAbsent => StoreFuture::new(async move {
                let swapped = this.inner.swap(&it, &old, new.clone(), ttl).await?;
                let absent = !swapped && this.inner.load(&it).await?.is_none();
                Ok(swapped || absent && this.inner.insert(&it, new, ttl).await?)
            }),
            _ => self.over(move |inner| inner.swap(&it, &old, new, ttl)),
        }
    }

    fn take(&self, key: &Key) -> StoreFuture<Option<Bytes>> {
        let (it, inner) = (key.clone(), self.inner.clone());
        if self.mistake == Mistake::TakesInSteps {
            return StoreFuture::new(async move {
                let found = inner.load(&it).await?;
                yield_now().await;
                inner.take(&it).await?;
                Ok(found)
            });
        }
        self.over(move |inner| inner.take(&it))
    }

    fn remove_if(&self, key: &Key, old: &Bytes) -> StoreFuture<bool> {
        let (it, old, inner) = (key.clone(), old.clone(), self.inner.clone());
        if self.mistake == Mistake::RemovesInSteps {
            return StoreFuture::new(async move {
                let same = inner.load(&it).await?.is_some_and(|found| found == old);
                yield_now().await;
                if same {
                    inner.take(&it).await?;
                }
                Ok(same)
            });
        }
        self.over(move |inner| inner.remove_if(&it, &old))
    }

    fn shared(&self) -> bool {
        false
    }
}

/// Runs the suite; returns what it says of the store.
async fn verdict(mistake: Mistake) -> Result<(), String> {
    let clock = Arc::new(TestClock::new());
    let inner = MemoryStore::with_clock(clock.clone(), 100_000);
    let store = Wrong { inner, mistake, connections: Arc::new(Semaphore::new(8)) };
    let suite = store_suite(Arc::new(store), async |time| clock.advance(time));
    AssertUnwindSafe(suite).catch_unwind().await.map_err(|panic| {
        let text = panic.downcast_ref::<String>().cloned();
        text.or_else(|| panic.downcast_ref::<&str>().map(ToString::to_string)).unwrap()
    })
}

/// Waits that never end are over at once here: the time of the runtime stands still but for them.
#[tokio::test(start_paused = true)]
async fn the_suite_names_each_mistake() {
    assert_eq!(verdict(Mistake::None).await, Ok(()));
    for (mistake, words) in [
        (Mistake::Collates, "is not"),
        (Mistake::DoesUnasked, "never polled"),
        (Mistake::InsertsOverExpiredInSteps, "inserts at once"),
        (Mistake::LeaksConnections, "neither a lock nor a connection"),
        (Mistake::NoChangeNoSwap, "swapped by itself"),
        (Mistake::RefusesMany, "among many"),
        (Mistake::RefusesNoTime, "no time to live is an error"),
        (Mistake::RemovesInSteps, "removals at once"),
        (Mistake::RoundsDown, "rounded away"),
        (Mistake::RoundsUp, "cannot be loaded"),
        (Mistake::SwapsAbsent, "what is absent cannot be swapped"),
        (Mistake::SwapsInSteps, "swaps at once"),
        (Mistake::TakesInSteps, "takes at once"),
    ] {
        let said = verdict(mistake).await.unwrap_err();
        println!("{mistake:?}: {said}");
        assert!(said.contains(words), "{mistake:?}: {said}");
    }
}
