//! An OpenID provider in this process: real HTTP on loopback, real keys, faults on demand.
//!
//! 1. [`TestProvider::start`] binds a free port and answers there until the last handle is
//!    dropped.
//! 2. An application is pointed at [`issuer`](TestProvider::issuer) with client `app` and secret
//!    `app-secret`.
//! 3. Either a browser signs in, or the test plays the browser: [`authorize`] takes the
//!    application's authorization URL and returns where a browser would be sent.
//! 4. Afterwards [`counts`](TestProvider::counts) and [`requests`](TestProvider::requests) tell
//!    what the application sent, and the `on_…` and [`set_behaviour`] knobs make the provider
//!    lie, hang or break.
//!
//! It never asks for a password: keep it out of anything but tests and demonstrations.
//!
//! # Examples
//!
//! A correct request leads back to the application, one without PKCE is refused:
//!
//! ```
//! # #[tokio::main(flavor = "current_thread")] async fn main() -> std::io::Result<()> {
//! use tower_pkce_auth::testing::provider::TestProvider;
//!
//! let provider = TestProvider::start().await?;
//! let request = "authorize?client_id=app&response_type=code&scope=openid&state=s\
//!                &redirect_uri=http://localhost/callback";
//! let pkce = "&code_challenge_method=S256\
//!             &code_challenge=E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM";
//! let url = format!("{}/{request}", provider.issuer());
//!
//! let location = provider.authorize(&format!("{url}{pkce}")).await?;
//! assert!(location.starts_with("http://localhost/callback?code="));
//! let location = provider.authorize(&url).await?;
//! assert!(location.contains("error=invalid_request"));
//! # Ok(()) }
//! ```
//!
//! [`authorize`]: TestProvider::authorize
//! [`set_behaviour`]: TestProvider::set_behaviour

mod ask;
mod authorize;
mod builder;
mod driver;
mod encoding;
mod endpoints;
mod fault;
mod handle;
mod keys;
mod pages;
mod record;
mod server;
mod state;
#[cfg(test)]
mod tests;
mod token;

pub use builder::AuthMethod;
pub use builder::TestProviderBuilder;
pub use builder::TestUser;
pub use driver::FormPost;
pub use fault::Behaviour;
pub use fault::Endpoint;
pub use fault::IdTokenDraft;
pub use fault::Signer;
pub use handle::TestProvider;
pub use keys::SigningAlg;
pub use keys::SigningKey;
pub use record::RecordedRequest;
pub use state::Counts;
