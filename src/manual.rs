//! The manual: defaults, attacks, operation, Redis, faults, the gateway.

#[doc = include_str!("docs/defaults.md")]
pub mod defaults {}

#[doc = include_str!("docs/attacks.md")]
pub mod attacks {}

#[doc = include_str!("docs/operation.md")]
pub mod operation {}

#[doc = include_str!("docs/redis.md")]
pub mod redis {}

#[doc = include_str!("docs/faults.md")]
pub mod faults {}

#[doc = include_str!("docs/gateway.md")]
pub mod gateway {}

#[doc = include_str!("docs/own_store.md")]
pub mod own_store {}
