#![doc = include_str!("docs/crate.md")]
#![cfg_attr(docsrs, feature(doc_cfg))]
#![forbid(unsafe_code)]

// Floor 0: vocabulary.
mod clock;
mod error;
mod evolve;
mod names;
mod secret;

// Floor 1: mechanism.
mod cookies;
mod headers;
mod limit;
mod paths;
mod return_to;
mod seal;
mod store;

// Floor 2: protocol.
mod oidc;

// Floor 3: session.
mod identity;
mod pending;
mod rules;
mod session;

// Floor 4: flow.
mod access;
mod csrf;
mod flow;
mod respond;

// Floor 5: tower.
mod admission;
mod after;
mod builder;
mod future;
mod guard;
mod layer;
mod service;

// Floor 6: front.
#[cfg(feature = "axum")]
mod axum;
pub mod manual;
#[cfg(feature = "test-util")]
#[cfg_attr(docsrs, doc(cfg(feature = "test-util")))]
pub mod testing;

#[cfg(feature = "axum")]
#[cfg_attr(docsrs, doc(cfg(feature = "axum")))]
pub use self::axum::NotBehindLayer;
pub use self::builder::{BuildError, Builder};
pub use self::clock::{Clock, SystemClock, UnixTime};
pub use self::error::{AuthError, Blame, ErrorKind};
pub use self::flow::admin::{PersonSession, SessionAdmin};
pub use self::future::ResponseFuture;
pub use self::guard::{GuardFuture, Guarded, SessionGuard, SessionGuardLayer};
pub use self::identity::{Identity, SessionEnded};
pub use self::layer::PkceAuthLayer;
pub use self::limit::ClientAddress;
pub use self::names::{ClientId, InvalidName, Issuer, PublicUrl};
pub use self::oidc::client_auth::ClientAuth;
pub use self::oidc::http::{HttpClient, HttpError, HttpFuture};
#[cfg(feature = "hyper-client")]
#[cfg_attr(docsrs, doc(cfg(feature = "hyper-client")))]
pub use self::oidc::hyper_client::{HyperClient, HyperClientBuilder};
pub use self::oidc::keys::SigningAlgorithm;
pub use self::oidc::metadata::Endpoints;
pub use self::oidc::settings::Userinfo;
pub use self::paths::PathRule;
pub use self::pending::Pending;
pub use self::respond::{Answer, EmptyBody, Page, Pages, Respond};
pub use self::seal::CookieKeys;
pub use self::secret::ClientSecret;
pub use self::service::PkceAuth;
pub use self::session::Sessions;
pub use self::session::refresh::{AfterCrash, RefreshFailure};
pub use self::store::{Key, MemoryStore, Store, StoreError, StoreErrorKind, StoreFuture};
#[cfg(feature = "redis")]
#[cfg_attr(docsrs, doc(cfg(feature = "redis")))]
pub use self::store::{RedisStore, RedisStoreBuilder};

// The examples of the README are compiled too.
#[cfg(all(doctest, feature = "axum"))]
#[doc = include_str!("../README.md")]
struct Readme;
