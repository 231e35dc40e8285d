//! Where logins are kept in this run.

use std::error::Error;

use crate::fleet::Keeping;
use crate::options::StoreChoice;
use crate::pod::Pending;
use crate::redis_server::RedisServer;
use crate::topologies::Topology;

/// What the options ask for, started where need be.
pub struct Stores {
    pub memory: bool,
    pub sealed: bool,
    /// A Redis that was started for this run; it ends with it.
    pub own: Option<RedisServer>,
    started: Vec<Topology>,
    given: Vec<String>,
    by_default: bool,
}

impl Stores {
    /// Takes what is given; by default everything, with a Redis of our own.
    pub async fn choose(given: &[StoreChoice]) -> Result<Self, Box<dyn Error>> {
        let all = given.is_empty();
        let urls = given.iter().filter_map(|choice| match choice {
            StoreChoice::Redis(url) => Some(url.clone()),
            StoreChoice::Memory | StoreChoice::Own(_) | StoreChoice::Sealed => None,
        });
        let started = given.iter().filter_map(|choice| match choice {
            StoreChoice::Own(shape) => Some(Topology::start(*shape)),
            StoreChoice::Memory | StoreChoice::Redis(_) | StoreChoice::Sealed => None,
        });
        let started: std::io::Result<Vec<_>> = tokio::task::block_in_place(|| started.collect());
        Ok(Self {
            memory: all || given.contains(&StoreChoice::Memory),
            sealed: all || given.contains(&StoreChoice::Sealed),
            own: if all { RedisServer::start().await? } else { None },
            started: started?,
            given: urls.collect(),
            by_default: all,
        })
    }

    /// Every Redis.
    pub fn urls(&self) -> Vec<String> {
        let own = self.own.iter().map(RedisServer::url);
        own.chain(self.started.iter().map(Topology::url))
            .chain(self.given.iter().cloned())
            .collect()
    }

    /// What a deployment of many pods would take of these.
    pub fn best(&self) -> Keeping {
        match self.urls().first() {
            Some(url) => Keeping::redis(url),
            None if self.sealed => Keeping::without_redis(Pending::Sealed),
            None => Keeping::without_redis(Pending::Memory),
        }
    }

    /// Why there is no Redis that may be stopped and read.
    pub const fn why_not_ours(&self) -> &'static str {
        let none = self.given.is_empty() && self.started.is_empty();
        match (self.by_default, none) {
            (true, _) => "redis-server is not installed on this machine",
            (false, true) => "no Redis among the stores that were asked for",
            (false, false) => "it needs a Redis of its own, and another one was given",
        }
    }
}
