//! Connections that outlive their request: they are told when their session ends.
//!
//! A session with open connections is watched by one task, however many they are. It judges the
//! session about once a second. A sign-out on this pod is told at once, whatever the store says.

use std::collections::HashMap;
use std::fmt;
use std::pin::pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::task::Poll;
use std::time::Duration;

use tokio::sync::{Notify, watch};

use super::cache::Opened;
use super::keeper::{Keeper, Patience};
use super::revocation::Target;
use crate::clock::UnixTime;
use crate::identity::{Facts, Principal, Standing};
use crate::secret::random;
use crate::store::StoreError;

/// The sessions of this process that have open connections, by id. Each watch belongs to its task:
/// were that to fail, those who wait would be told that the session is over.
#[derive(Default)]
pub(super) struct Watches(Mutex<HashMap<[u8; 16], Weak<Watch>>>);

struct Watch {
    /// When its person was last there, as far as this process knows: seconds.
    last_seen: AtomicU64,
    /// The session as it was when the watch began: who it is does not change.
    opened: Arc<Opened>,
    /// Asks for a look at once.
    look: Notify,
    standing: watch::Sender<Standing>,
}

impl fmt::Debug for Watches {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Watches(..)")
    }
}

impl Watches {
    /// Notes that a session was used: its connections live as long as it does.
    pub(super) fn seen(&self, id: &[u8; 16], now: UnixTime) {
        if let Some(watch) = self.find(id) {
            watch.last_seen.fetch_max(now.as_secs(), Ordering::AcqRel);
        }
    }

    /// Tells the connections of a session that it has ended.
    pub(super) fn end(&self, id: &[u8; 16]) {
        if let Some(watch) = self.find(id) {
            watch.standing.send_replace(Standing::Over);
        }
    }

    /// Has the sessions that a mark concerns looked at now, not within a second.
    pub(super) fn look(&self, target: Target<'_>) {
        for watch in self.all(target) {
            watch.look.notify_one();
        }
    }

    /// Returns the sessions with open connections that a mark concerns.
    pub(super) fn concerned(&self, target: Target<'_>) -> Vec<Arc<Opened>> {
        self.all(target).into_iter().map(|watch| watch.opened.clone()).collect()
    }

    fn all(&self, target: Target<'_>) -> Vec<Arc<Watch>> {
        let watches = self.lock();
        let all = watches.values().filter_map(Weak::upgrade);
        all.filter(|watch| target.concerns(&watch.opened.record)).collect()
    }

    fn find(&self, id: &[u8; 16]) -> Option<Arc<Watch>> {
        self.lock().get(id).and_then(Weak::upgrade)
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<[u8; 16], Weak<Watch>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Forgets a watch that is over or that nobody waits for; says whether it did.
    fn forget(&self, id: &[u8; 16], watch: &Arc<Watch>) -> bool {
        let mut watches = self.lock();
        if !watch.standing.borrow().is_end() && watch.standing.receiver_count() > 0 {
            return false;
        }
        if watches.get(id).is_some_and(|known| known.as_ptr() == Arc::as_ptr(watch)) {
            watches.remove(id);
        }
        true
    }
}

impl Principal for Opened {
    fn facts(&self) -> &Facts {
        &self.facts
    }

    fn watch(self: Arc<Self>) -> Option<watch::Receiver<Standing>> {
        Some(self.keeper.upgrade()?.watch(self))
    }
}

impl Keeper {
    /// Joins those who wait for the end of a session.
    fn watch(self: &Arc<Self>, opened: Arc<Opened>) -> watch::Receiver<Standing> {
        let id = opened.record.id;
        let last_seen = opened.record.last_seen.as_secs();
        let (watch, receiver) = {
            let mut watches = self.watches.lock();
            let known = watches.get(&id).and_then(Weak::upgrade);
            // One that is over may be on its way out; a session does not come back, but the
            // judgement is the task's.
            if let Some(watch) = known.filter(|watch| !watch.standing.borrow().is_end()) {
                watch.last_seen.fetch_max(last_seen, Ordering::AcqRel);
                return watch.standing.subscribe();
            }
            let (standing, receiver) = watch::channel(Standing::Unjudged);
            let watch = Arc::new(Watch {
                last_seen: AtomicU64::new(last_seen),
                opened: opened.clone(),
                look: Notify::new(),
                standing,
            });
            watches.insert(id, Arc::downgrade(&watch));
            (watch, receiver)
        };
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
            let Some(value) = store.load_cached(&at.key).await? else {
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
        let over = current.record.is_over_since(seen, now, self.settings.lifetimes.idle)
            || self.settings.rules.judge(&current.facts).is_err();
        if over {
            return Ok(None);
        }
        Ok(self.is_unmarked(&current, Patience::Some).await?.then_some(current))
    }

    /// Says how a session stands that could not be judged; it was for the last time at `looked`.
    fn in_the_dark(&self, opened: &Opened, looked: Duration) -> Standing {
        // The marks of a sealed session were judged with the grace already.
        let dark = self.clock.monotonic().saturating_sub(looked);
        let within = opened.stored.is_some()
            && self.settings.revocation_grace.is_none_or(|grace| dark <= grace);
        if within { Standing::Live } else { Standing::Unknown }
    }
}

/// Watches one session until it ends or nobody waits any more.
async fn run(keeper: Arc<Keeper>, watch: Arc<Watch>, mut opened: Arc<Opened>) {
    let id = opened.record.id;
    // The request was admitted a moment ago.
    let mut looked = keeper.clock.monotonic();
    loop {
        let standing = match keeper.judge_again(&opened, &watch).await {
            Ok(Some(current)) => {
                opened = current;
                looked = keeper.clock.monotonic();
                Standing::Live
            }
            Ok(None) => Standing::Over,
            Err(_) => keeper.in_the_dark(&opened, looked),
        };
        watch.standing.send_if_modified(|told| {
            // What was told to have ended has ended.
            let news = *told != standing && !told.is_end();
            if news {
                *told = standing;
            }
            news
        });
        // Nobody waits, the session is over, or the next look is due.
        let quiet = pause(&watch).await;
        if (quiet || watch.standing.borrow().is_end()) && keeper.watches.forget(&id, &watch) {
            return;
        }
    }
}

/// Waits until the next look is due or somebody asks for one; `true` if nobody waits any more.
async fn pause(watch: &Watch) -> bool {
    let (mut closed, mut asked) = (pin!(watch.standing.closed()), pin!(watch.look.notified()));
    let either = std::future::poll_fn(|cx| {
        if closed.as_mut().poll(cx).is_ready() {
            return Poll::Ready(true);
        }
        asked.as_mut().poll(cx).map(|()| false)
    });
    tokio::time::timeout(interval(), either).await.unwrap_or(false)
}

/// About a second, not the same for all: many watches must not ask the store at one time.
fn interval() -> Duration {
    let [jitter] = random::<1>();
    Duration::from_millis(750 + u64::from(jitter) * 2)
}
