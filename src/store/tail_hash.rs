//! A cheap keyed hash of texts that end in random characters.

use std::fmt;
use std::hash::{BuildHasher, Hasher};

use crate::secret::random;

/// Hashes texts by their last 16 characters: store keys end in digits of a SHA-256, sealed values
/// in their authentication tag. Such characters need mixing, not another strong hash.
///
/// The seed keeps others from choosing who shares a bucket. Texts are compared in full all the
/// same: two with one hash are a matter of time, not of safety.
#[derive(Clone, Copy)]
pub(crate) struct TailHashes(u64);

impl TailHashes {
    pub(crate) fn random() -> Self {
        Self(u64::from_ne_bytes(random()))
    }
}

impl BuildHasher for TailHashes {
    type Hasher = TailHasher;

    fn build_hasher(&self) -> TailHasher {
        TailHasher(self.0)
    }
}

impl fmt::Debug for TailHashes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TailHashes(..)")
    }
}

pub(crate) struct TailHasher(u64);

impl TailHasher {
    fn mix(&mut self, word: u64) {
        // An odd constant without a pattern; the high half of the product goes down again.
        let product = u128::from(self.0 ^ word) * 0x9e37_79b9_7f4a_7c15;
        self.0 = (product as u64) ^ ((product >> 64) as u64);
    }
}

impl Hasher for TailHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    #[inline]
    fn write(&mut self, bytes: &[u8]) {
        match bytes.last_chunk::<16>() {
            Some(tail) => {
                let tail = u128::from_le_bytes(*tail);
                self.mix(tail as u64);
                self.mix((tail >> 64) as u64);
            }
            None => bytes.iter().for_each(|byte| self.mix((*byte).into())),
        }
    }

    /// The end of a text.
    fn write_u8(&mut self, _: u8) {}

    /// The length of a list.
    fn write_usize(&mut self, _: usize) {}
}
