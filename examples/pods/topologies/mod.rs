//! Redis in every shape: one server, a master behind sentinels, a cluster.
//!
//! Real servers on free ports of 127.0.0.1 with their files in a temporary folder. Each process is
//! ended by its own id: with its handle, with a thread that panics while it holds one, and with
//! this process even if that is killed. Nothing is written to disk that a restart would read, so a
//! server that was killed comes back empty.
//!
//! Everything here waits for real servers: call it where a thread may be blocked.

#![allow(dead_code, reason = "each of those who share it uses a part of it")]

mod cluster;
mod node;
mod resp;
mod sentinel;

use std::cell::RefCell;
use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

pub use self::node::Node;
#[allow(unused_imports, reason = "what `ask` returns")]
pub use self::resp::Reply;

/// How servers stand together.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Shape {
    /// Three masters with a replica each.
    Cluster,
    /// A master, one replica, and three sentinels of whom two decide.
    Sentinel,
    /// One server.
    Single,
}

impl Shape {
    pub const fn name(self) -> &'static str {
        match self {
            Self::Cluster => "Cluster",
            Self::Sentinel => "Sentinel",
            Self::Single => "one server",
        }
    }
}

/// Running servers; they end when it is dropped.
pub struct Topology {
    shape: Shape,
    /// Those that hold data.
    nodes: Vec<Node>,
    sentinels: Vec<Node>,
    /// Dropped last, so that nobody writes there any more.
    _folder: Folder,
}

impl Topology {
    /// Starts servers, and returns when all is well with them.
    ///
    /// # Errors
    ///
    /// If `redis-server` or `redis-cli` is missing, or they do not find together.
    pub fn start(shape: Shape) -> io::Result<Self> {
        Self::start_with(shape, 1)
    }

    /// As [`Topology::start`], with so many replicas of a master behind sentinels.
    ///
    /// # Errors
    ///
    /// As there.
    pub fn start_with(shape: Shape, replicas: usize) -> io::Result<Self> {
        let mut tries = 1;
        loop {
            // Somebody else may have taken a port that was free.
            match Self::try_start(shape, replicas) {
                Err(error) if tries >= TRIES || error.kind() == io::ErrorKind::NotFound => {
                    return Err(error);
                }
                Err(_) => tries += 1,
                started => return started,
            }
        }
    }

    fn try_start(shape: Shape, replicas: usize) -> io::Result<Self> {
        let folder = Folder::new()?;
        let (nodes, sentinels) = match shape {
            Shape::Cluster => (cluster::start(folder.path())?, Vec::new()),
            Shape::Sentinel => sentinel::start(folder.path(), replicas)?,
            Shape::Single => (vec![Node::start(folder.path(), "redis", "")?], Vec::new()),
        };
        let topology = Self { shape, nodes, sentinels, _folder: folder };
        topology.wait_until_healthy()?;
        Ok(topology)
    }

    pub const fn shape(&self) -> Shape {
        self.shape
    }

    /// Where it is, as `--store` and `RedisStore` take it.
    pub fn url(&self) -> String {
        let list = |nodes: &[Node]| {
            let places: Vec<_> = nodes.iter().map(|node| node.address().to_string()).collect();
            places.join(",")
        };
        match self.shape {
            Shape::Cluster => format!("redis+cluster://{}", list(&self.nodes)),
            Shape::Sentinel => {
                format!("redis+sentinel://{}/{}", list(&self.sentinels), sentinel::MASTER)
            }
            Shape::Single => format!("redis://{}/", list(&self.nodes)),
        }
    }

    /// How many servers hold data; they are numbered from 0.
    pub const fn size(&self) -> usize {
        self.nodes.len()
    }

    pub fn node(&self, number: usize) -> &Node {
        &self.nodes[number]
    }

    /// Those who are masters now, as far as those know who answer.
    pub fn masters(&self) -> Vec<usize> {
        match self.shape {
            Shape::Cluster => cluster::masters(&self.nodes),
            Shape::Sentinel => sentinel::master(&self.sentinels, &self.nodes).into_iter().collect(),
            Shape::Single => vec![0],
        }
    }

    /// Returns the master that has this key.
    pub fn master_of(&self, key: &str) -> Option<usize> {
        match self.shape {
            Shape::Cluster => cluster::master_of(&self.nodes, key),
            Shape::Sentinel | Shape::Single => self.masters().first().copied(),
        }
    }

    /// Ends a server without warning; what it held is lost.
    pub fn kill(&mut self, number: usize) {
        self.nodes[number].kill();
    }

    /// Starts a server where it was, empty, after [`Topology::kill`]. If another one has become
    /// master behind sentinels it follows that from the beginning, as whoever operates them sees to.
    ///
    /// # Errors
    ///
    /// If it cannot be started.
    pub fn start_again(&mut self, number: usize) -> io::Result<()> {
        let master = match self.shape {
            Shape::Sentinel => self.masters().first().map(|master| self.nodes[*master].port),
            Shape::Cluster | Shape::Single => None,
        };
        let other = master.filter(|port| *port != self.nodes[number].port);
        self.nodes[number].run(other)
    }

    /// A server no longer answers, but its connections stay open.
    ///
    /// # Errors
    ///
    /// If it does not run.
    pub fn hang(&self, number: usize) -> io::Result<()> {
        self.nodes[number].signal("STOP")
    }

    /// A server goes on after [`Topology::hang`].
    ///
    /// # Errors
    ///
    /// If it does not run.
    pub fn resume(&self, number: usize) -> io::Result<()> {
        self.nodes[number].signal("CONT")
    }

    /// Lets a replica take over from a master that is well; returns when it has.
    ///
    /// # Errors
    ///
    /// If nobody takes over.
    pub fn fail_over(&self) -> io::Result<()> {
        let before = self.masters();
        match self.shape {
            Shape::Cluster => cluster::fail_over(&self.nodes)?,
            Shape::Sentinel => sentinel::fail_over(&self.sentinels)?,
            Shape::Single => return Err(io::Error::other("there is nobody to take over")),
        }
        self.wait_for("another master", |topology| {
            let masters = topology.masters();
            masters.len() == before.len() && masters != before
        })
    }

    /// Waits until somebody else is master than this server.
    ///
    /// # Errors
    ///
    /// If nobody takes over.
    pub fn wait_until_replaced(&self, number: usize) -> io::Result<()> {
        let enough = if self.shape == Shape::Cluster { cluster::MASTERS } else { 1 };
        self.wait_for("a fail-over", |topology| {
            let masters = topology.masters();
            masters.len() == enough && !masters.contains(&number)
        })
    }

    /// Tells whether every server is up, and each master has a replica that can take over.
    pub fn is_healthy(&self) -> bool {
        match self.shape {
            Shape::Cluster => cluster::is_healthy(&self.nodes),
            Shape::Sentinel => sentinel::is_healthy(&self.sentinels, &self.nodes),
            Shape::Single => self.nodes[0].answers(),
        }
    }

    /// Waits until [`Topology::is_healthy`], and replicas have confirmed what their masters had
    /// then. Before their first word, up to a second after they have begun, they are sent nothing;
    /// it would be lost with the master.
    ///
    /// # Errors
    ///
    /// If that takes too long.
    pub fn wait_until_healthy(&self) -> io::Result<()> {
        self.wait_for("health", Self::is_healthy)?;
        self.wait_until_copied()
    }

    /// Waits until replicas have confirmed what their masters have now.
    ///
    /// # Errors
    ///
    /// If that takes too long.
    pub fn wait_until_copied(&self) -> io::Result<()> {
        let wanted = RefCell::new(HashMap::new());
        self.wait_for("a copy", |topology| {
            topology.masters().into_iter().all(|master| {
                let Some((offset, confirmed)) = topology.nodes[master].copied() else {
                    return self.shape == Shape::Single;
                };
                confirmed >= *wanted.borrow_mut().entry(master).or_insert(offset)
            })
        })
    }

    fn wait_for(&self, what: &str, fits: impl Fn(&Self) -> bool) -> io::Result<()> {
        let shape = self.shape.name();
        node::wait_for(|| fits(self)).map_err(|_| {
            io::Error::other(format!("{shape}: {what} never comes\n{}", self.last_words()))
        })
    }

    /// The ends of all logs, for whoever has to find out what happened.
    pub fn last_words(&self) -> String {
        let logs: Vec<_> = self.nodes.iter().chain(&self.sentinels).map(Node::last_words).collect();
        logs.join("\n")
    }
}

/// A temporary folder, removed with its handle.
struct Folder(PathBuf);

impl Folder {
    fn new() -> io::Result<Self> {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let name = format!("tower-pkce-auth-topology-{}-{number}", std::process::id());
        let path = std::env::temp_dir().join(name);
        std::fs::create_dir(&path)?;
        Ok(Self(path))
    }

    fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

const TRIES: u32 = 3;
