//! Connections that outlive their request: they are told when their session ends.
//!
//! A session with open connections is watched by one task, however many they are. It judges the
//! session again each second, and at once after a sign-out on this pod.

use std::collections::HashMap;
use std::future::poll_fn;
use std::pin::pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::task::Poll;
use std::time::Duration;

use tokio::sync::watch;

use super::cache::Opened;
use super::keeper::Keeper;
use crate::clock::UnixTime;
use crate::identity::{Ending, Facts, Principal};
use crate::store::StoreError;

/// How often a watched session is judged.
const INTERVAL: Duration = Duration::from_secs(1);

/// The sessions of this process that have open connections, by id. Each watch belongs to its task:
/// were that to fail, those who wait would be told that the session is over.
#[derive(Debug, Default)]
pub(super) struct Watches(Mutex<HashMap<[u8; 16], Weak<Watch>>>);

#[derive(Debug)]
struct Watch {
    /// When its person was last there, as far as this process knows: seconds.
    last_seen: AtomicU64,
    ended: watch::Sender<bool>,
}

impl Watches {
    /// Notes that a session was used: its connections live as long as it does.
    pub(super) fn seen(&self, id: &[u8; 16], now: UnixTime) {
        if let Some(watch) = self.lock().get(id).and_then(Weak::upgrade) {
            watch.last_seen.fetch_max(now.as_secs(), Ordering::AcqRel);
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<[u8; 16], Weak<Watch>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Forgets a watch, unless somebody waits for it and it has not `ended`.
    fn forget(&self, id: &[u8; 16], watch: &Watch, ended: bool) -> bool {
        let mut watches = self.lock();
        let over = ended || watch.ended.receiver_count() == 0;
        if over {
            watches.remove(id);
        }
        over
    }
}

impl Principal for Opened {
    fn facts(&self) -> &Facts {
        &self.facts
    }

    fn ended(self: Arc<Self>) -> Ending {
        Box::pin(async move {
            // Without its keeper nobody could tell that the session still lives.
            let Some(keeper) = self.keeper.upgrade() else { return };
            let mut ended = keeper.watch(self);
            drop(keeper);
            // An error says that the task has gone, and with it the one who would know.
            let _ = ended.wait_for(|ended| *ended).await;
        })
    }
}

impl Keeper {
    /// Joins those who wait for the end of a session.
    fn watch(self: &Arc<Self>, opened: Arc<Opened>) -> watch::Receiver<bool> {
        let id = opened.record.id;
        let mut watches = self.watches.lock();
        if let Some(watch) = watches.get(&id).and_then(Weak::upgrade) {
            watch.last_seen.fetch_max(opened.record.last_seen.as_secs(), Ordering::AcqRel);
            return watch.ended.subscribe();
        }
        let (ended, receiver) = watch::channel(false);
        let last_seen = AtomicU64::new(opened.record.last_seen.as_secs());
        let watch = Arc::new(Watch { last_seen, ended });
        watches.insert(id, Arc::downgrade(&watch));
        tokio::spawn(run(self.clone(), watch, opened));
        receiver
    }

    /// Judges a session that somebody uses without asking for it; returns it as it is now.
    async fn judge_again(
        &self,
        opened: &Arc<Opened>,
        watch: &Watch,
    ) -> Result<Option<Arc<Opened>>, StoreError> {
        let now = self.clock.now();
        let mut current = opened.clone();
        if let (Some(at), Some(store)) = (&opened.stored, &self.store) {
            let Some(value) = store.load(&at.key).await? else {
                return Ok(None);
            };
            if value != at.value {
                let opened = self.open_stored(at.key.clone(), at.seal.clone(), value, now);
                let Some(opened) = opened else { return Ok(None) };
                current = Arc::new(opened);
            }
        }
        let seen = UnixTime::from_secs(watch.last_seen.load(Ordering::Acquire));
        let seen = seen.max(current.record.last_seen);
        if current.record.is_over_since(seen, now, self.settings.lifetimes.idle) {
            return Ok(None);
        }
        Ok(self.is_unmarked(&current).await?.then_some(current))
    }
}

/// Watches one session until it ends or nobody waits any more.
async fn run(keeper: Arc<Keeper>, watch: Arc<Watch>, mut opened: Arc<Opened>) {
    let id = opened.record.id;
    let mut looked = keeper.clock.monotonic();
    loop {
        let changed = keeper.revocation().changed();
        match keeper.judge_again(&opened, &watch).await {
            Ok(Some(current)) => {
                opened = current;
                looked = keeper.clock.monotonic();
            }
            Ok(None) => break,
            // The marks of a sealed session were judged with the grace already.
            Err(_) if opened.stored.is_none() => break,
            Err(_) => {
                let dark = keeper.clock.monotonic().saturating_sub(looked);
                if keeper.settings.revocation_grace.is_some_and(|grace| dark > grace) {
                    break;
                }
            }
        }
        let mut changed = pin!(changed);
        let mut left = pin!(watch.ended.closed());
        let wait = poll_fn(|cx| {
            if left.as_mut().poll(cx).is_ready() {
                return Poll::Ready(true);
            }
            changed.as_mut().poll(cx).map(|()| false)
        });
        if tokio::time::timeout(INTERVAL, wait).await == Ok(true)
            && keeper.watches.forget(&id, &watch, false)
        {
            return;
        }
    }
    keeper.watches.forget(&id, &watch, true);
    watch.ended.send_replace(true);
}
