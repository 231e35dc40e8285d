//! The lease that an attempt at a refresh holds: renewed beside everything it does, however slow that
//! is.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use tokio::task::JoinHandle;

use super::attempt::millis;
use super::keeper::Keeper;
use crate::clock::Clock;
use crate::store::Key;

/// How long a lease holds without being renewed.
pub(super) const LEASE: Duration = Duration::from_secs(10);
/// How often it is renewed while the attempt goes on.
pub(super) const RENEW: Duration = Duration::from_secs(3);
/// The call is given up so long before the lease lapses.
const LEASE_MARGIN: Duration = Duration::from_secs(1);

/// A lease that is renewed until it is dropped.
pub(super) struct Lease {
    /// Milliseconds of the monotonic clock.
    until: Arc<AtomicU64>,
    renewing: JoinHandle<()>,
}

impl Lease {
    /// Keeps the lease of a session that was asked for at a time of the monotonic clock.
    pub(super) fn keep(
        keeper: Arc<Keeper>,
        clock: Arc<dyn Clock>,
        session: Key,
        holder: Bytes,
        asked: Duration,
    ) -> Self {
        let until = Arc::new(AtomicU64::new(millis(asked + LEASE)));
        let renewed = until.clone();
        let renewing = tokio::spawn(async move {
            loop {
                tokio::time::sleep(RENEW).await;
                let asked = clock.monotonic();
                if let Ok(true) = keeper.renew_lease(&session, holder.clone(), LEASE).await {
                    renewed.fetch_max(millis(asked + LEASE), Ordering::AcqRel);
                }
            }
        });
        Self { until, renewing }
    }

    /// Notes that it was renewed beside.
    pub(super) fn is_renewed(&self, asked: Duration) {
        self.until.fetch_max(millis(asked + LEASE), Ordering::AcqRel);
    }

    /// Returns how long a call may still take.
    pub(super) fn left(&self, now: Duration) -> Duration {
        let until = self.until.load(Ordering::Acquire);
        Duration::from_millis(until.saturating_sub(millis(now + LEASE_MARGIN)))
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.renewing.abort();
    }
}
