//! OpenID Connect as a client speaks it: the only floor that names `openidconnect`.
//!
//! `openidconnect` builds the authorization request and verifies signatures with the provider's
//! keys. What a token response, a JWKS, a discovery document and an ID token must look like is
//! judged here, because the requirements ask for a reason of its own for each refusal, for leeway,
//! and for tolerance where real providers differ.

pub(crate) mod authorize;
pub(crate) mod client_auth;
pub(crate) mod end_session;
pub(crate) mod http;
#[cfg(feature = "hyper-client")]
pub(crate) mod hyper_client;
pub(crate) mod id_token;
pub(crate) mod json;
pub(crate) mod jws;
pub(crate) mod keys;
pub(crate) mod logout_token;
pub(crate) mod metadata;
pub(crate) mod provider;
#[cfg(feature = "hyper-client")]
mod proxy;
pub(crate) mod settings;
pub(crate) mod token;
pub(crate) mod userinfo;
