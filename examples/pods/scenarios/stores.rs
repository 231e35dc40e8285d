//! Where logins are kept in this run.

use std::error::Error;

use crate::fleet::Keeping;
use crate::options::StoreChoice;
use crate::pod::Pending;
use crate::redis_server::RedisServer;

/// What the options ask for, started where need be.
pub struct Stores {
    pub memory: bool,
    pub sealed: bool,
    /// A Redis that was started for this run; it ends with it.
    pub own: Option<RedisServer>,
    given: Vec<String>,
    by_default: bool,
}

impl Stores {
    /// Takes what is given; by default everything, with a Redis of our own.
    pub async fn choose(given: &[StoreChoice]) -> Result<Self, Box<dyn Error>> {
        let all = given.is_empty();
        let urls = given.iter().filter_map(|choice| match choice {
            StoreChoice::Redis(url) => Some(url.clone()),
            StoreChoice::Memory | StoreChoice::Sealed => None,
        });
        Ok(Self {
            memory: all || given.contains(&StoreChoice::Memory),
            sealed: all || given.contains(&StoreChoice::Sealed),
            own: if all { RedisServer::start().await? } else { None },
            given: urls.collect(),
            by_default: all,
        })
    }

    /// Every Redis.
    pub fn urls(&self) -> Vec<String> {
        self.own.iter().map(RedisServer::url).chain(self.given.iter().cloned()).collect()
    }

    /// What a deployment of many pods would take of these.
    pub fn best(&self) -> Keeping {
        match self.urls().first() {
            Some(url) => Keeping::redis(url),
            None if self.sealed => Keeping { pending: Pending::Sealed, redis: None },
            None => Keeping { pending: Pending::Memory, redis: None },
        }
    }

    /// Why there is no Redis that may be stopped and read.
    pub const fn why_not_ours(&self) -> &'static str {
        match (self.by_default, self.given.is_empty()) {
            (true, _) => "redis-server is not installed on this machine",
            (false, true) => "no Redis among the stores that were asked for",
            (false, false) => "it needs a Redis of its own, and another one was given",
        }
    }
}
