//! The opened sessions of this process: a bounded cache that holds claims, never verdicts.

use std::collections::HashMap;
use std::fmt;
use std::hash::{BuildHasherDefault, Hasher};
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use bytes::Bytes;

use super::chunk::Presented;
use super::keeper::Keeper;
use super::revocation::MarkKeys;
use super::{Record, SessionRef};
use crate::identity::Facts;
use crate::secret::SecretBytes;
use crate::store::{Key, TailHashes};

/// A session that was opened once; whether it is live is judged each time.
pub(crate) struct Opened {
    pub(crate) record: Record,
    pub(crate) facts: Facts,
    /// Who judges it; for connections that outlive their request.
    pub(crate) keeper: Weak<Keeper>,
    pub(crate) marks: MarkKeys,
    /// Where the record lies and what it looked like, for a stored session.
    pub(crate) stored: Option<StoredAt>,
    /// When its marks were last seen: the epoch of this process's marks, and the monotonic
    /// milliseconds when a look at a shared store was noted last.
    pub(crate) seen_epoch: AtomicU64,
    pub(crate) seen_at: AtomicU64,
}

impl fmt::Debug for Opened {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Opened(..)")
    }
}

impl Opened {
    /// Returns what is needed to end this session later.
    pub(crate) fn reference(&self) -> SessionRef {
        SessionRef {
            id: self.record.id,
            stored: self.stored.is_some(),
            ends: self.record.absolute_end,
        }
    }
}

/// Where a stored session lies.
#[derive(Clone, Debug)]
pub(crate) struct StoredAt {
    pub(crate) key: Key,
    pub(crate) seal: SecretBytes<32>,
    pub(crate) value: Bytes,
}

/// A cache of two generations: when the young one is full it becomes the old one, and what nobody
/// asked for since is forgotten. Forgetting costs a decryption, never a session.
pub(crate) struct Cache {
    hasher: TailHashes,
    shards: Box<[Mutex<Generations>]>,
    per_shard: usize,
}

#[derive(Default)]
struct Generations {
    young: Slots,
    old: Slots,
}

/// By a hash under a random key of this process: it need not be hashed again.
type Slots = HashMap<u64, Slot, BuildHasherDefault<AsItIs>>;

#[derive(Default)]
struct AsItIs(u64);

impl Hasher for AsItIs {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, _: &[u8]) {
        unreachable!("only a u64 is hashed");
    }

    fn write_u64(&mut self, hash: u64) {
        self.0 = hash;
    }
}

type Slot = (Box<[u8]>, Arc<Opened>);

const SHARDS: usize = 16;

/// It holds cookies.
impl fmt::Debug for Cache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Cache(..)")
    }
}

impl Cache {
    pub(crate) fn new(capacity: usize) -> Self {
        Self {
            hasher: TailHashes::random(),
            shards: (0..SHARDS).map(|_| Mutex::default()).collect(),
            per_shard: capacity.div_ceil(2 * SHARDS).max(1),
        }
    }

    /// Returns the session that exactly this cookie text was opened to.
    pub(crate) fn find(&self, presented: &Presented<'_>) -> Option<Arc<Opened>> {
        let hash = presented.keyed_hash(&self.hasher);
        let mut shard = self.shard(hash);
        if let Some((text, opened)) = shard.young.get(&hash) {
            return presented.equals(text).then(|| opened.clone());
        }
        let slot = shard.old.remove(&hash)?;
        let opened = presented.equals(&slot.0).then(|| slot.1.clone());
        self.put(&mut shard, hash, slot);
        opened
    }

    /// Remembers what a cookie text was opened to.
    pub(crate) fn remember(&self, presented: &Presented<'_>, opened: Arc<Opened>) {
        let hash = presented.keyed_hash(&self.hasher);
        let slot = (presented.copy().into_boxed_slice(), opened);
        let mut shard = self.shard(hash);
        self.put(&mut shard, hash, slot);
    }

    /// Forgets a cookie text.
    pub(crate) fn forget(&self, presented: &Presented<'_>) {
        let hash = presented.keyed_hash(&self.hasher);
        let mut shard = self.shard(hash);
        shard.young.remove(&hash);
        shard.old.remove(&hash);
    }

    /// Returns the sessions of which this is true.
    pub(crate) fn all(&self, wanted: impl Fn(&Opened) -> bool) -> Vec<Arc<Opened>> {
        let mut found = Vec::new();
        for shard in &self.shards {
            let shard = shard.lock().unwrap_or_else(PoisonError::into_inner);
            let slots = shard.young.values().chain(shard.old.values());
            found.extend(slots.filter(|(_, opened)| wanted(opened)).map(|(_, o)| o.clone()));
        }
        found
    }

    /// Forgets the sessions of which this is true.
    pub(crate) fn forget_all(&self, unwanted: impl Fn(&Opened) -> bool) {
        for shard in &self.shards {
            let mut shard = shard.lock().unwrap_or_else(PoisonError::into_inner);
            shard.young.retain(|_, (_, opened)| !unwanted(opened));
            shard.old.retain(|_, (_, opened)| !unwanted(opened));
        }
    }

    fn put(&self, shard: &mut Generations, hash: u64, slot: Slot) {
        if shard.young.len() >= self.per_shard {
            shard.old = std::mem::take(&mut shard.young);
        }
        shard.young.insert(hash, slot);
    }

    fn shard(&self, hash: u64) -> std::sync::MutexGuard<'_, Generations> {
        // Bits that the maps do not look at.
        let index = usize::try_from((hash >> 40) % SHARDS as u64).unwrap_or(0);
        self.shards[index].lock().unwrap_or_else(PoisonError::into_inner)
    }
}
