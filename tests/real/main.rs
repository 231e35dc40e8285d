//! What needs parts that are installed: the certified provider and the real browser.
//!
//! `scripts/test` installs them and runs these; plain `cargo test` leaves them out and says so.

mod browser;
mod dashboards;
mod gateway;
#[path = "../support/pods.rs"]
mod kept;
mod parts;
mod pods;
mod provider;
mod servers;
mod servers_work;
#[path = "../support/mod.rs"]
mod support;
mod topologies;
mod topologies_work;
