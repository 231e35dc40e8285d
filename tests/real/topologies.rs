//! Redis as Sentinel and as Cluster, beside the one server of `servers.rs`.
//!
//! The code is that of `examples/pods`, which runs the same servers. Any test can say
//! `#[path = "real/topologies.rs"] mod topologies;`. Tests that use it are `#[ignore]`d:
//! `scripts/test` installs the servers and runs them.

#[path = "../../examples/pods/topologies/mod.rs"]
mod shared;

pub use self::shared::{Shape, Topology};
