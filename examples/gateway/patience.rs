//! A limit to how long somebody else is waited for.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::time::{Instant, Sleep};

/// Counts the time from the first poll in vain to the next success.
#[derive(Debug)]
pub struct Patience {
    limit: Duration,
    /// Made when it is needed first, and kept.
    alarm: Option<Pin<Box<Sleep>>>,
    waiting: bool,
}

impl Patience {
    pub const fn new(limit: Duration) -> Self {
        Self { limit, alarm: None, waiting: false }
    }

    /// Says that there is nothing to wait for.
    pub const fn content(&mut self) {
        self.waiting = false;
    }

    /// Says that something is waited for; it is ready when that took too long.
    pub fn poll_over(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let limit = self.limit;
        let alarm = self.alarm.get_or_insert_with(|| Box::pin(tokio::time::sleep(limit)));
        if !self.waiting {
            self.waiting = true;
            alarm.as_mut().reset(Instant::now() + limit);
        }
        alarm.as_mut().poll(cx)
    }
}
