//! How many connections there may be at once.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// The places for connections; who finds none waits in the kernel's queue.
pub struct Slots {
    free: Arc<Semaphore>,
    warned: AtomicBool,
}

impl Slots {
    /// As many as there are file descriptors for, with one for the upstream each.
    pub fn new() -> Self {
        let limits = std::fs::read_to_string("/proc/self/limits").unwrap_or_default();
        let count = descriptors(&limits).map_or(MOST, |descriptors| {
            (descriptors.saturating_sub(OTHER_FILES) / 2).clamp(LEAST, MOST)
        });
        Self { free: Arc::new(Semaphore::new(count)), warned: AtomicBool::new(false) }
    }

    /// Waits for a place.
    pub async fn one(&self) -> OwnedSemaphorePermit {
        // Once is enough: whoever opens connections could fill the log too.
        if self.free.available_permits() == 0 && !self.warned.swap(true, Ordering::Relaxed) {
            tracing::warn!("there are as many connections as may be; others wait");
        }
        self.free.clone().acquire_owned().await.expect("the places are never closed")
    }
}

/// Reads the limit that holds now from Linux's list; none if it is unlimited.
fn descriptors(limits: &str) -> Option<usize> {
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files"))?;
    line.split_whitespace().next()?.parse().ok()
}

const MOST: usize = 10_000;
const LEAST: usize = 16;
/// The log, the listener, Redis, the provider and so on.
const OTHER_FILES: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_limit_of_descriptors_is_read() {
        let limits = |soft: &str| {
            format!(
                "Limit                     Soft Limit           Hard Limit           Units\n\
                 Max open files            {soft:<20} 524288               files\n"
            )
        };
        assert_eq!(descriptors(&limits("1024")), Some(1024));
        assert_eq!(descriptors(&limits("unlimited")), None);
        assert_eq!(descriptors(""), None);
    }
}
