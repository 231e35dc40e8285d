//! A wall clock that runs fast.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use tower_pkce_auth::{Clock, SystemClock, UnixTime};

/// The wall clock of all pods and of the provider; the monotonic clock is the machine's, so that
/// leases and waits are real ones.
///
/// No session falls due sooner than a minute after its last refresh. With ten seconds to each real
/// one that is six seconds.
#[derive(Clone, Copy, Debug, Deserialize, Serialize)]
pub struct Pace {
    since: UnixTime,
    times: u32,
}

impl Pace {
    /// Runs so many times as fast, from now on.
    pub fn new(times: u32) -> Self {
        Self { since: SystemClock.now(), times }
    }
}

impl Clock for Pace {
    fn now(&self) -> UnixTime {
        self.since + SystemClock.now().since(self.since) * self.times
    }

    fn monotonic(&self) -> Duration {
        SystemClock.monotonic()
    }
}
