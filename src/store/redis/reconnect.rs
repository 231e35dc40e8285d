//! Attempts to connect: one for whoever needs a connection now, or one after the other until a
//! server that swallows what is sent answers again.

use std::sync::{Arc, Weak};
use std::time::Duration;

use ::redis::{PushInfo, RedisError};

use super::heartbeat;
use super::phase::{Connected, Shared};

/// The pause between two probes.
const PROBE: Duration = Duration::from_millis(200);

/// An attempt to connect, or several; if it is given up, the next call begins another.
pub(super) struct Unfinished {
    shared: Arc<Shared>,
    generation: u64,
}

impl Unfinished {
    pub(super) const fn new(shared: Arc<Shared>, generation: u64) -> Self {
        Self { shared, generation }
    }

    /// Connects, and takes the connection into use.
    pub(super) async fn try_once(&mut self) -> Result<Connected, RedisError> {
        let generation = self.generation;
        // The connection holds this: were it a strong reference, neither would ever end.
        let shared = Arc::downgrade(&self.shared);
        let hear = move |push: PushInfo| {
            if let Some(shared) = Weak::upgrade(&shared) {
                shared.hear(generation, &push);
            }
            Ok::<_, std::convert::Infallible>(())
        };
        let track = !self.shared.cache().is_off();
        let result = self.shared.address().connect(hear, track).await.map(|made| Connected {
            generation,
            connection: made.connection,
            tracking: made.tracking,
            master: made.master.map(Arc::new),
        });
        let result = self.shared.arrive(generation, result);
        if let Ok(connected) = &result {
            let shared = Arc::downgrade(&self.shared);
            tokio::spawn(heartbeat::run(shared, connected.clone()));
        }
        result
    }

    /// Asks again and again until the server answers, or says that it does not serve: then calls
    /// ask for themselves.
    pub(super) async fn probe(mut self) {
        while self.shared.is_suspended(self.generation) {
            tokio::time::sleep(PROBE).await;
            // Nobody is left who would use it.
            if Arc::strong_count(&self.shared) == 1 {
                return;
            }
            // Each with a number of its own: the end of one connection is not that of the next.
            let Some(next) = self.shared.next(self.generation) else { return };
            self.generation = next;
            if self.try_once().await.is_ok() {
                return;
            }
        }
    }
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        self.shared.abandon(self.generation);
    }
}
