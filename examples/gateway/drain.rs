//! What still runs when the gateway is told to stop.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::watch;

/// Counts what runs, and says that the end is near.
pub struct Drain(Runs);

/// Something that runs, until it is dropped.
pub struct Running {
    _counted: watch::Receiver<()>,
}

/// Hands out [`Running`]s.
#[derive(Clone)]
pub struct Runs {
    count: watch::Sender<()>,
    stopping: Arc<AtomicBool>,
}

impl Drain {
    pub fn new() -> Self {
        Self(Runs { count: watch::Sender::new(()), stopping: Arc::default() })
    }

    pub fn runs(&self) -> Runs {
        self.0.clone()
    }

    /// From now on nobody should begin anything here.
    pub fn begin(&self) {
        self.0.stopping.store(true, Ordering::Relaxed);
    }

    /// Waits until nothing runs any more.
    pub async fn finished(self) {
        self.0.count.closed().await;
    }
}

impl Runs {
    pub fn one(&self) -> Running {
        Running { _counted: self.count.subscribe() }
    }

    /// Tells whether the gateway was told to stop.
    pub fn are_ending(&self) -> bool {
        self.stopping.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;
    use std::task::{Context, Waker};

    use super::*;

    #[test]
    fn it_waits_for_all_that_runs() {
        let drain = Drain::new();
        let runs = drain.runs();
        let (one, other) = (runs.one(), runs.one());
        let mut finished = pin!(drain.finished());
        let mut is_ready =
            || finished.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_ready();
        assert!(!is_ready());
        drop(one);
        assert!(!is_ready());
        drop(other);
        assert!(is_ready());
    }
}
