//! The two links to a server: one for all calls, one for those that may hold up what is behind
//! them.

use ::redis::{RedisError, Value};

use super::call::Call;
use super::connect::Address;
use super::link::Link;

/// The links to one server.
pub(super) struct Pair {
    pub(super) link: Link,
    beside: Link,
}

impl Pair {
    pub(super) fn new(address: &Address, cached: usize) -> Self {
        Self { link: Link::new(address.clone(), cached), beside: Link::beside(address.clone()) }
    }

    /// Sends a call; one that must survive the server waits for a replica, if there is one that
    /// keeps up.
    pub(super) async fn run(&self, call: &Call, asking: bool) -> Result<Value, RedisError> {
        if call.must_survive() {
            let wait = self.link.is_replicated() && self.beside.keeps_up();
            self.beside.run(call, asking, wait).await
        } else {
            self.link.run(call, asking, false).await
        }
    }
}
