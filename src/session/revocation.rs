//! Revocation marks: how a logout reaches sessions that this process does not hold.
//!
//! A mark lies in the store under whom it ends: one session, a person, a provider's session, both,
//! or everybody. It holds a random *generation*. A session remembers the generations of its marks
//! from when it was made, its *baseline*, and is live while they are the same. No clocks are
//! compared.
//!
//! A counter tells whether a mark was there before a login began: a login notes the counter at its
//! start; a mark with a higher number was made meanwhile, and the login makes no session. The
//! counter carries the *incarnation* of the store, a random value made when it is absent: a store
//! that was emptied has another one, and sessions of the old one are over, because nobody knows
//! which of them were signed out.
//!
//! All keys share one hash tag, so that a cluster loses them together or not at all. Marks and
//! counter hold random bytes and a number, nothing to hide, and they outlive the keys of the ring:
//! so they are not sealed. Their keys name the instance, so that two applications with one store
//! do not touch each other's.

#[cfg(test)]
mod model;

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::Record;
use super::repeat::{Repeater, Written};
use crate::clock::{Clock, UnixTime};
use crate::seal::sha256_of;
use crate::secret::random;
use crate::session::keeper::Patience;
use crate::store::{Key, MARKS, Store, StoreError, StoreErrorKind, StoreFuture, all};

/// Whom a mark ends.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Target<'a> {
    /// Everybody.
    Instance,
    /// One session of ours.
    Session(&'a [u8; 16]),
    /// Every session of the provider's session `sid`.
    Sid { issuer: &'a str, sid: &'a str },
    /// The provider's session `sid`, if it is this person's.
    SidAndSubject { issuer: &'a str, sid: &'a str, subject: &'a str },
    /// Every session of a person.
    Subject { issuer: &'a str, subject: &'a str },
}

/// The keys of all marks that concern one session.
#[derive(Debug)]
pub(crate) struct MarkKeys([Option<Key>; 5]);

/// The marks of a session when it was made.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub(crate) struct Baseline {
    /// A hash of the generations.
    generations: [u8; 16],
    /// The incarnation of the shared store; absent without one.
    incarnation: Option<[u8; 16]>,
}

/// The counter as it stands in the store.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub(crate) struct Counter {
    pub(crate) incarnation: [u8; 16],
    pub(crate) n: u64,
    pub(super) renewed: UnixTime,
}

#[derive(Clone, Copy, Debug, Deserialize, Eq, Hash, PartialEq, Serialize)]
pub(super) struct Mark {
    pub(super) generation: [u8; 16],
    pub(super) incarnation: [u8; 16],
    pub(super) n: u64,
}

/// What the marks of a session say now.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Marks {
    pub(crate) baseline: Baseline,
    /// The highest number among them, of the current incarnation; a mark of another one counts as
    /// newer than everything.
    newest: u64,
}

/// How long a mark is kept.
pub(crate) const MARK_TTL: Duration = Duration::from_secs(30 * 24 * 3600);
/// A mark in a baseline outlives the longest session by as much as clocks of pods may be apart.
const KEPT_LONGER: Duration = Duration::from_secs(3600);
/// The counter is written anew when it is older than this.
const RENEW: Duration = Duration::from_secs(24 * 3600);
/// The counter outlives every mark: a mark without it would be one of another store.
pub(super) const COUNTER_TTL: Duration =
    Duration::from_secs(MARK_TTL.as_secs() + KEPT_LONGER.as_secs() + RENEW.as_secs() + 3600);
/// So many marks are known to have been written anew a moment ago.
const MAX_KEPT: usize = 10_000;
/// Attempts at a compare-and-swap before the store counts as out of order.
const ATTEMPTS: usize = 16;

/// Reads and writes marks.
#[derive(Debug)]
pub(crate) struct Revocation {
    store: Arc<dyn Store>,
    instance: [u8; 32],
    prefix: Box<str>,
    // Always the same, so hashed once.
    counter_key: Key,
    instance_key: Key,
    no_generations: [u8; 16],
    clock: Arc<dyn Clock>,
    /// Orders the bumps of this process, so that queued ones can share one.
    bumps: AtomicU64,
    bumping: tokio::sync::Mutex<Option<(u64, Result<Counter, StoreErrorKind>)>>,
    repeater: Repeater,
    /// Which marks this process has written anew, and when.
    kept: Mutex<HashMap<Key, UnixTime>>,
    /// Counts the marks this process has written. Where the store is this process's own, an
    /// unchanged epoch means unchanged marks.
    epoch: AtomicU64,
}

impl Revocation {
    pub(crate) fn new(
        store: Arc<dyn Store>,
        instance: [u8; 32],
        prefix: &str,
        clock: Arc<dyn Clock>,
    ) -> Self {
        let counter_key = Key::of_hash(prefix, MARKS, &sha256_of(&[b"logout-seq", &instance]));
        Self {
            repeater: Repeater::new(store.clone(), counter_key.clone()),
            kept: Mutex::default(),
            store,
            instance,
            prefix: prefix.into(),
            counter_key,
            instance_key: key(prefix, &instance, Target::Instance),
            no_generations: digest([None; 5]),
            clock,
            bumps: AtomicU64::new(0),
            bumping: tokio::sync::Mutex::new(None),
            epoch: AtomicU64::new(1),
        }
    }

    /// Returns where the marks lie; what belongs to them lies there too.
    pub(super) fn store(&self) -> &dyn Store {
        &*self.store
    }

    /// Tells whether other pods see the marks.
    pub(crate) fn shared(&self) -> bool {
        self.store.shared()
    }

    pub(crate) fn epoch(&self) -> u64 {
        self.epoch.load(Ordering::Acquire)
    }

    /// Returns the keys of all marks that would end this session.
    pub(crate) fn keys(
        &self,
        id: &[u8; 16],
        issuer: &str,
        subject: &str,
        sid: Option<&str>,
    ) -> MarkKeys {
        MarkKeys([
            Some(self.instance_key.clone()),
            Some(self.key(Target::Session(id))),
            Some(self.key(Target::Subject { issuer, subject })),
            sid.map(|sid| self.key(Target::Sid { issuer, sid })),
            sid.map(|sid| self.key(Target::SidAndSubject { issuer, sid, subject })),
        ])
    }

    /// Returns the counter, made if it is absent, to be noted at the start of a login.
    pub(crate) async fn counter(&self) -> Result<Counter, StoreError> {
        let key = &self.counter_key;
        for _ in 0..ATTEMPTS {
            let Some(old) = self.store.load(key).await? else {
                let fresh = Counter { incarnation: random(), n: 0, renewed: self.clock.now() };
                if self.store.insert(key, encode(&fresh), COUNTER_TTL).await? {
                    return Ok(fresh);
                }
                continue;
            };
            let counter = decode(&old)?;
            self.renew(key, &old, counter).await;
            return Ok(counter);
        }
        Err(unsettled())
    }

    /// Writes the counter anew before the store forgets it; the next reader tries again if this
    /// fails.
    async fn renew(&self, key: &Key, old: &Bytes, counter: Counter) {
        let now = self.clock.now();
        if now.since(counter.renewed) >= RENEW {
            let renewed = Counter { renewed: now, ..counter };
            let _ = self.store.swap(key, old, encode(&renewed), COUNTER_TTL).await;
        }
    }

    /// Reads the marks of a session, all at once, as they are now.
    pub(crate) async fn marks(&self, keys: &MarkKeys) -> Result<Marks, StoreError> {
        self.read(keys, |key| self.store.load(key), Patience::Some).await
    }

    /// Reads the marks of a session, all at once, as they are or were a moment ago.
    pub(crate) async fn marks_cached(
        &self,
        keys: &MarkKeys,
        patience: Patience,
    ) -> Result<Marks, StoreError> {
        self.read(keys, |key| self.store.load_cached(key), patience).await
    }

    async fn read(
        &self,
        keys: &MarkKeys,
        load: impl Fn(&Key) -> StoreFuture<Option<Bytes>>,
        patience: Patience,
    ) -> Result<Marks, StoreError> {
        let counter_key = self.shared().then_some(&self.counter_key);
        let load = |key: Option<&Key>| key.map(&load);
        let [a, b, c, d, e] = keys.0.each_ref().map(|key| load(key.as_ref()));
        let loads = [load(counter_key), a, b, c, d, e];
        if patience == Patience::None && loads.iter().flatten().any(|load| !load.is_ready()) {
            return std::future::pending().await;
        }
        let [counter, marks @ ..] = all(loads).await?;
        let incarnation = match (counter_key, counter.flatten()) {
            (Some(key), Some(bytes)) => {
                let counter = decode::<Counter>(&bytes)?;
                // A look that may be repeated writes nothing; the next one that waits does.
                if patience == Patience::Some {
                    self.renew(key, &bytes, counter).await;
                }
                Some(counter.incarnation)
            }
            // A store without a counter has lost everything: an incarnation of its own.
            (Some(_), None) => Some([0; 16]),
            (None, _) => None,
        };
        let mut read: [Option<Mark>; 5] = [None; 5];
        for (slot, bytes) in read.iter_mut().zip(marks) {
            *slot = bytes.flatten().map(|bytes| decode(&bytes)).transpose()?;
        }
        Ok(Marks::of(incarnation, &read, self.no_generations))
    }

    /// Keeps the marks that a new session has in its baseline for as long as it may live: were one
    /// to run out, the session would look as if it had been signed out.
    pub(super) async fn keep(&self, keys: &MarkKeys) {
        let load = |key: &Option<Key>| key.as_ref().map(|key| self.store.load(key));
        let Ok(marks) = all(keys.0.each_ref().map(load)).await else { return };
        for (key, mark) in keys.0.iter().zip(marks) {
            if let (Some(key), Some(Some(mark))) = (key, mark)
                && self.is_kept_no_more(key)
            {
                // Another mark in its place has a life of its own.
                let _ = self.store.swap(key, &mark, mark.clone(), MARK_TTL + KEPT_LONGER).await;
            }
        }
    }

    /// Tells whether a mark is to be written anew: once in half an hour will do.
    fn is_kept_no_more(&self, key: &Key) -> bool {
        let now = self.clock.now();
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.get(key).is_some_and(|at| now.since(*at) < KEPT_LONGER / 2) {
            return false;
        }
        if kept.len() >= MAX_KEPT {
            kept.clear();
        }
        kept.insert(key.clone(), now);
        true
    }

    /// Makes marks of another incarnation ones of this: the counter was lost and they were not, and
    /// as they stand they would keep whom they once ended from signing in.
    pub(super) async fn adopt(&self, keys: &MarkKeys) {
        if let Err(error) = self.try_adopt(keys).await {
            tracing::debug!(%error, "marks of another incarnation stay");
        }
    }

    async fn try_adopt(&self, keys: &MarkKeys) -> Result<(), StoreError> {
        let incarnation = self.counter().await?.incarnation;
        for key in keys.0.iter().flatten() {
            let Some(old) = self.store.load(key).await? else { continue };
            if decode::<Mark>(&old)?.incarnation == incarnation {
                continue;
            }
            let Counter { incarnation, n, .. } = self.bump().await?;
            let mark = Mark { generation: random(), incarnation, n };
            self.store.swap(key, &old, encode(&mark), MARK_TTL + KEPT_LONGER).await?;
        }
        Ok(())
    }

    /// Writes a mark: first the counter is raised, then the mark bears its number, so that a login
    /// which began before cannot take the mark for an old one.
    ///
    /// A store that was emptied in between is of another incarnation, in which such a mark would
    /// keep the person from ever signing in: it is written anew.
    pub(crate) async fn mark(&self, target: Target<'_>, ttl: Duration) -> Result<(), StoreError> {
        let key = self.key(target);
        for _ in 0..ATTEMPTS {
            let Counter { incarnation, n, .. } = self.bump().await?;
            self.write(&key, Mark { generation: random(), incarnation, n }, ttl).await?;
            if self.counter().await?.incarnation == incarnation {
                return Ok(());
            }
        }
        Err(unsettled())
    }

    async fn write(&self, key: &Key, mark: Mark, ttl: Duration) -> Result<(), StoreError> {
        for _ in 0..ATTEMPTS {
            let old = self.store.load(key).await?;
            let before: Option<Mark> = old.as_ref().and_then(|old| decode(old).ok());
            let mark = mark.over(before);
            let written = match &old {
                None => self.store.insert(key, encode(&mark), ttl).await?,
                Some(old) => self.store.swap(key, old, encode(&mark), ttl).await?,
            };
            if written {
                self.epoch.fetch_add(1, Ordering::AcqRel);
                if self.shared() {
                    let replaced = before.map(|before| before.generation);
                    self.repeater.look_after(Written { key: key.clone(), mark, replaced, ttl });
                }
                return Ok(());
            }
        }
        Err(unsettled())
    }

    /// Raises the counter; calls that queue behind one another share what a raise that began after
    /// them brought, a failure too: with a store that hangs nobody waits for more than two.
    async fn bump(&self) -> Result<Counter, StoreError> {
        let queued = self.bumps.load(Ordering::Acquire);
        let mut turn = self.bumping.lock().await;
        if let Some((began, shared)) = *turn
            && began > queued
        {
            return shared.map_err(StoreError::new);
        }
        let began = self.bumps.fetch_add(1, Ordering::AcqRel) + 1;
        let raised = self.raise().await;
        *turn = Some((began, raised.as_ref().map(|counter| *counter).map_err(StoreError::kind)));
        raised
    }

    async fn raise(&self) -> Result<Counter, StoreError> {
        let key = &self.counter_key;
        for attempt in 0..ATTEMPTS {
            if attempt > 0 {
                // Other pods raise it too; whoever waits a random moment meets fewer of them.
                let [jitter] = random::<1>();
                let most = u64::try_from(attempt).unwrap_or(1) * u64::from(jitter);
                tokio::time::sleep(Duration::from_millis(1 + most / 16)).await;
            }
            self.counter().await?;
            let Some(old) = self.store.load(key).await? else { continue };
            let counter: Counter = decode(&old)?;
            let next = Counter { n: counter.n + 1, renewed: self.clock.now(), ..counter };
            if self.store.swap(key, &old, encode(&next), COUNTER_TTL).await? {
                return Ok(next);
            }
        }
        Err(unsettled())
    }

    #[cfg(test)]
    pub(super) const fn counter_key(&self) -> &Key {
        &self.counter_key
    }

    pub(super) fn key(&self, target: Target<'_>) -> Key {
        key(&self.prefix, &self.instance, target)
    }
}

/// Returns the key of a mark.
fn key(prefix: &str, instance: &[u8; 32], target: Target<'_>) -> Key {
    let (kind, [a, b, c]): (&[u8], [&[u8]; 3]) = match target {
        Target::Instance => (b"instance", [b"", b"", b""]),
        Target::Session(id) => (b"session", [id, b"", b""]),
        Target::Sid { issuer, sid } => (b"sid", [issuer.as_bytes(), sid.as_bytes(), b""]),
        Target::SidAndSubject { issuer, sid, subject } => {
            (b"sid-sub", [issuer.as_bytes(), sid.as_bytes(), subject.as_bytes()])
        }
        Target::Subject { issuer, subject } => {
            (b"sub", [issuer.as_bytes(), subject.as_bytes(), b""])
        }
    };
    Key::of_hash(prefix, MARKS, &sha256_of(&[kind, instance, a, b, c]))
}

/// Hashes the generations of a session's marks.
fn digest(generations: [Option<[u8; 16]>; 5]) -> [u8; 16] {
    let parts = generations.map(Option::unwrap_or_default);
    let hash = sha256_of(&parts.each_ref().map(|part| &part[..]));
    hash[..16].try_into().expect("a hash is longer")
}

pub(super) fn encode<T: Serialize>(value: &T) -> Bytes {
    postcard::to_allocvec(value).expect("plain fields are encodable").into()
}

/// Reads a mark or the counter. One that cannot be read is trouble of the store, not a sign-out:
/// somebody else wrote it.
pub(super) fn decode<T: for<'de> Deserialize<'de>>(bytes: &[u8]) -> Result<T, StoreError> {
    postcard::from_bytes(bytes)
        .map_err(|error| StoreError::new(StoreErrorKind::Unavailable).with_source(error))
}

pub(super) fn unsettled() -> StoreError {
    StoreError::new(StoreErrorKind::Unavailable).with_source("other writers never let it through")
}

impl Target<'_> {
    /// Tells whether this ends a session; it must be of the same issuer.
    pub(crate) fn concerns(&self, record: &Record) -> bool {
        let of = |theirs: &str| record.issuer == theirs;
        let is = |theirs: &str| record.sid.as_deref() == Some(theirs);
        match *self {
            Self::Instance => true,
            Self::Session(id) => record.id == *id,
            Self::Sid { issuer, sid } => of(issuer) && is(sid),
            Self::SidAndSubject { issuer, sid, subject } => {
                of(issuer) && is(sid) && record.subject == subject
            }
            Self::Subject { issuer, subject } => of(issuer) && record.subject == subject,
        }
    }
}

impl Mark {
    /// Returns this mark as it takes the place of an older one. Logouts that run beside one another
    /// may write in another order than they raised the counter: the higher number stays, or the
    /// later of them would be lost on a login that began between the two.
    fn over(self, old: Option<Self>) -> Self {
        let n = match old {
            Some(old) if old.incarnation == self.incarnation => self.n.max(old.n),
            _ => self.n,
        };
        Self { n, ..self }
    }
}

impl Marks {
    /// Tells whether nobody whom they concern was signed out, as far back as they go.
    pub(super) const fn are_none(&self) -> bool {
        self.newest == 0
    }

    /// Joins the marks of one session.
    fn of(incarnation: Option<[u8; 16]>, marks: &[Option<Mark>; 5], none: [u8; 16]) -> Self {
        let number = |mark: &Mark| {
            let same = incarnation.is_none_or(|incarnation| incarnation == mark.incarnation);
            if same { mark.n } else { u64::MAX }
        };
        let newest = marks.iter().flatten().map(number).max().unwrap_or(0);
        // Nearly always nobody was signed out.
        let generations = match marks.iter().all(Option::is_none) {
            true => none,
            false => digest(marks.map(|mark| mark.map(|mark| mark.generation))),
        };
        Self { baseline: Baseline { generations, incarnation }, newest }
    }

    /// Tells whether a login that noted `begun` at its start may take these marks for its baseline.
    pub(crate) fn predate(&self, begun: Option<Counter>) -> bool {
        match begun {
            Some(begun) => {
                let same = self
                    .baseline
                    .incarnation
                    .is_none_or(|incarnation| incarnation == begun.incarnation);
                same && self.newest <= begun.n
            }
            None => self.newest == 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::SystemClock;
    use crate::store::MemoryStore;

    fn revocation(store: MemoryStore) -> Revocation {
        Revocation::new(Arc::new(store), [1; 32], "auth", Arc::new(SystemClock))
    }

    const ID: [u8; 16] = [7; 16];

    #[tokio::test]
    async fn h10_a_mark_of_any_kind_changes_the_baseline_of_those_it_concerns() {
        let revocation = revocation(MemoryStore::shared_between_pods(Arc::new(SystemClock)));
        let keys = revocation.keys(&ID, "https://op", "alice", Some("sid1"));
        let other = revocation.keys(&[8; 16], "https://op", "bob", Some("sid2"));
        for target in [
            Target::Session(&ID),
            Target::Subject { issuer: "https://op", subject: "alice" },
            Target::Sid { issuer: "https://op", sid: "sid1" },
            Target::SidAndSubject { issuer: "https://op", sid: "sid1", subject: "alice" },
        ] {
            let (before, untouched) =
                (revocation.marks(&keys).await.unwrap(), revocation.marks(&other).await.unwrap());
            revocation.mark(target, MARK_TTL).await.unwrap();
            let after = revocation.marks(&keys).await.unwrap();
            assert_ne!(before.baseline.generations, after.baseline.generations, "{target:?}");
            let other = revocation.marks(&other).await.unwrap();
            assert_eq!(untouched.baseline.generations, other.baseline.generations, "{target:?}");
        }
        // J39: a pair that does not match ends nobody. J40: the issuer counts.
        let before = revocation.marks(&keys).await.unwrap().baseline;
        for target in [
            Target::SidAndSubject { issuer: "https://op", sid: "sid1", subject: "bob" },
            Target::Subject { issuer: "https://other", subject: "alice" },
        ] {
            revocation.mark(target, MARK_TTL).await.unwrap();
            assert_eq!(before, revocation.marks(&keys).await.unwrap().baseline);
        }
        revocation.mark(Target::Instance, MARK_TTL).await.unwrap();
        assert_ne!(before, revocation.marks(&keys).await.unwrap().baseline);
    }

    #[tokio::test]
    async fn j48_a_mark_made_during_a_login_does_not_pass_for_an_old_one() {
        let revocation = revocation(MemoryStore::shared_between_pods(Arc::new(SystemClock)));
        let keys = revocation.keys(&ID, "https://op", "alice", None);
        let target = Target::Subject { issuer: "https://op", subject: "alice" };
        revocation.mark(target, MARK_TTL).await.unwrap();
        let begun = revocation.counter().await.unwrap();
        assert!(revocation.marks(&keys).await.unwrap().predate(Some(begun)));
        revocation.mark(target, MARK_TTL).await.unwrap();
        assert!(!revocation.marks(&keys).await.unwrap().predate(Some(begun)));
    }

    #[tokio::test]
    async fn an_emptied_store_is_another_incarnation() {
        let revocation_of = |store: &MemoryStore| revocation(store.clone());
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let (first, second) = (
            MemoryStore::shared_between_pods(clock.clone()),
            MemoryStore::shared_between_pods(clock),
        );
        let (one, two) = (revocation_of(&first), revocation_of(&second));
        let keys = one.keys(&ID, "https://op", "alice", None);
        let begun = one.counter().await.unwrap();
        let before = one.marks(&keys).await.unwrap();
        assert_ne!(before.baseline, two.marks(&keys).await.unwrap().baseline);
        two.counter().await.unwrap();
        let after = two.marks(&keys).await.unwrap();
        assert_ne!(before.baseline, after.baseline);
        assert!(!after.predate(Some(begun)));
    }
}
