//! When this process saw last that a session had not been signed out: by its id, so that a cookie
//! that another pod has prolonged a moment ago is known too.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Sessions by id, with monotonic milliseconds, in two generations: when the young one is full it
/// becomes the old one. What is forgotten is a session that waits for the store in an outage.
pub(super) struct Seen {
    shards: Box<[Mutex<Generations>]>,
    per_shard: usize,
}

#[derive(Default)]
struct Generations {
    young: HashMap<[u8; 16], u64>,
    old: HashMap<[u8; 16], u64>,
}

const SHARDS: usize = 16;

impl fmt::Debug for Seen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Seen(..)")
    }
}

impl Seen {
    pub(super) fn new(capacity: usize) -> Self {
        Self {
            shards: (0..SHARDS).map(|_| Mutex::default()).collect(),
            per_shard: capacity.div_ceil(2 * SHARDS).max(1),
        }
    }

    pub(super) fn note(&self, id: &[u8; 16], now: u64) {
        let mut shard = self.shard(id);
        if shard.young.len() >= self.per_shard {
            shard.old = std::mem::take(&mut shard.young);
        }
        shard.young.insert(*id, now);
    }

    pub(super) fn forget(&self, id: &[u8; 16]) {
        let mut shard = self.shard(id);
        shard.young.remove(id);
        shard.old.remove(id);
    }

    pub(super) fn find(&self, id: &[u8; 16]) -> Option<u64> {
        let shard = self.shard(id);
        shard.young.get(id).or_else(|| shard.old.get(id)).copied()
    }

    fn shard(&self, id: &[u8; 16]) -> MutexGuard<'_, Generations> {
        // Ids are random.
        let shard = &self.shards[usize::from(id[0]) % SHARDS];
        shard.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_bounded_and_knows_the_newest() {
        let seen = Seen::new(320);
        let id = |n: u32| {
            let mut id = [0; 16];
            id[..4].copy_from_slice(&n.to_le_bytes());
            id
        };
        for n in 0..10_000 {
            seen.note(&id(n), u64::from(n));
            assert_eq!(seen.find(&id(n)), Some(u64::from(n)));
        }
        assert_eq!(seen.find(&id(0)), None);
        let known = (0..10_000).filter(|n| seen.find(&id(*n)).is_some()).count();
        assert!(known <= 320, "{known}");
        seen.forget(&id(9_999));
        assert_eq!(seen.find(&id(9_999)), None);
    }
}
