//! A clock to move.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::clock::{Clock, SystemClock, UnixTime};

/// A [`Clock`] that stands still until it is moved; wall clock and monotonic clock move together.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
/// use tower_pkce_auth::{Clock, testing::TestClock};
///
/// let clock = TestClock::new();
/// let before = clock.now();
/// clock.advance(Duration::from_secs(3600));
/// assert_eq!(clock.now().since(before), Duration::from_secs(3600));
/// ```
pub struct TestClock {
    wall: AtomicU64,
    monotonic: AtomicU64,
}

impl TestClock {
    /// Makes a clock that shows the present.
    #[must_use]
    pub fn new() -> Self {
        Self {
            wall: AtomicU64::new(SystemClock.now().as_millis()),
            monotonic: AtomicU64::new(1_000_000),
        }
    }

    /// Moves both clocks forward.
    pub fn advance(&self, by: Duration) {
        let millis = u64::try_from(by.as_millis()).unwrap_or(u64::MAX);
        self.wall.fetch_add(millis, Ordering::AcqRel);
        self.monotonic.fetch_add(millis, Ordering::AcqRel);
    }

    /// Sets the wall clock alone, as an operator may; the monotonic clock goes on.
    pub fn set_wall(&self, now: UnixTime) {
        self.wall.store(now.as_millis(), Ordering::Release);
    }
}

impl Default for TestClock {
    fn default() -> Self {
        Self::new()
    }
}

impl Clock for TestClock {
    fn now(&self) -> UnixTime {
        UnixTime::from_millis(self.wall.load(Ordering::Acquire))
    }

    fn monotonic(&self) -> Duration {
        Duration::from_millis(self.monotonic.load(Ordering::Acquire))
    }
}

impl fmt::Debug for TestClock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TestClock({})", self.now().as_secs())
    }
}
