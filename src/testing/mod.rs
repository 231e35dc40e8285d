//! The test kit (feature `test-util`): what tests of an application, and our own, stand on.
//!
//! - [`provider::TestProvider`]: a real OpenID provider on loopback, with faults on demand.
//! - [`SignedIn`]: a signed-in request without any provider.
//! - [`TestClock`]: a clock to move, instead of sleeps.
//! - [`store_suite`]: the conformance suite for a [`Store`](crate::Store) of your own.
//!
//! Keep the feature out of what you ship: put the crate into `[dev-dependencies]` with it.

mod clock;
pub mod provider;
mod sign_in;
mod store_suite;

pub use self::clock::TestClock;
pub use self::sign_in::SignedIn;
pub use self::store_suite::store_suite;
