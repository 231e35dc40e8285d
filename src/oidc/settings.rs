//! What is set once about the provider and this client.

use std::time::Duration;

use super::client_auth::ClientAuth;
use super::keys::SigningAlgorithm;
use super::metadata::Metadata;
use crate::names::{ClientId, Issuer};
use crate::secret::ClientSecret;

/// Whether the userinfo endpoint is asked at a login.
///
/// # Examples
///
/// ```
/// use tower_pkce_auth::{ClientId, PkceAuthLayer, Userinfo};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let layer = PkceAuthLayer::builder(
///     "https://login.example".parse()?,
///     ClientId::new("app"),
///     "http://localhost:8080".parse()?,
/// )
/// .public_client()
/// .userinfo(Userinfo::Required)
/// .build()?;
/// # Ok(()) }
/// ```
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
#[non_exhaustive]
pub enum Userinfo {
    /// It is not called; the ID token says who somebody is.
    #[default]
    Off,
    /// It is called; without an answer the claims of the ID token must do. An answer that speaks
    /// of somebody else refuses the login all the same.
    Optional,
    /// It is called, and without a good answer nobody is signed in.
    Required,
}

/// Everything about the provider and this client that does not change while the layer runs.
#[derive(Debug)]
pub(crate) struct Settings {
    pub(crate) issuer: Issuer,
    /// Where the provider is reached from here, if that is elsewhere.
    pub(crate) internal_issuer: Option<Issuer>,
    pub(crate) client_id: ClientId,
    pub(crate) client_secret: Option<ClientSecret>,
    pub(crate) client_auth: ClientAuth,
    pub(crate) redirect_uri: String,
    pub(crate) scopes: Vec<String>,
    pub(crate) extra_parameters: Vec<(String, String)>,
    pub(crate) algorithms: Vec<SigningAlgorithm>,
    pub(crate) trusted_audiences: Vec<String>,
    pub(crate) userinfo: Userinfo,
    pub(crate) form_post: bool,
    pub(crate) max_age: Option<Duration>,
    pub(crate) acr: Vec<String>,
    pub(crate) leeway: Duration,
    /// Whether a logout token must say that it is one.
    pub(crate) logout_type_required: bool,
    /// Whether a logout token may lack its expiry.
    pub(crate) logout_without_exp: bool,
    /// Whether `http` on this machine will do for the provider.
    pub(crate) allow_http: bool,
    /// Endpoints given by hand; there is no discovery then.
    pub(crate) endpoints: Option<Metadata>,
}
