//! What still runs when the gateway is told to stop.

use tokio::sync::watch;

/// Counts what runs.
pub struct Drain(watch::Sender<()>);

/// Something that runs, until it is dropped.
pub struct Running {
    _counted: watch::Receiver<()>,
}

/// Hands out [`Running`]s.
#[derive(Clone)]
pub struct Runs(watch::Sender<()>);

impl Drain {
    pub fn new() -> Self {
        Self(watch::Sender::new(()))
    }

    pub fn runs(&self) -> Runs {
        Runs(self.0.clone())
    }

    /// Waits until nothing runs any more.
    pub async fn finished(self) {
        self.0.closed().await;
    }
}

impl Runs {
    pub fn one(&self) -> Running {
        Running { _counted: self.0.subscribe() }
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
