//! The builder: every setting of a layer, judged together at the end.

mod build;
mod judge;
mod settings;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use http::header::HeaderName;

use crate::clock::{Clock, SystemClock};
use crate::identity::DEFAULT_CLAIMS;
use crate::names::{ClientId, Issuer, PublicUrl};
use crate::oidc::client_auth::ClientAuth;
use crate::oidc::http::HttpClient;
use crate::oidc::keys::SigningAlgorithm;
use crate::oidc::metadata::Endpoints;
use crate::oidc::settings::Userinfo;
use crate::paths::PathRule;
use crate::pending::Pending;
use crate::respond::Pages;
use crate::rules::Rules;
use crate::seal::CookieKeys;
use crate::secret::ClientSecret;
use crate::session::refresh::{AfterCrash, RefreshFailure};
use crate::session::{Lifetimes, Sessions};
use crate::store::Store;

/// Sets up a [`PkceAuthLayer`](crate::PkceAuthLayer); every setting has a default that is safe on a network.
///
/// Setters cannot fail: [`Builder::build`] judges all settings together and reports every problem
/// at once.
///
/// # Examples
///
/// ```
/// use tower_pkce_auth::{ClientId, PkceAuthLayer};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let refused = PkceAuthLayer::builder(
///     "https://login.example".parse()?,
///     ClientId::new("dashboard"),
///     "http://intranet.example".parse()?,
/// )
/// .build()
/// .unwrap_err();
/// assert_eq!(refused.problems().len(), 3, "no secret, no cookie keys, no TLS: {refused}");
/// # Ok(()) }
/// ```
#[derive(Clone, Debug)]
#[must_use]
pub struct Builder<R = Pages> {
    config: Config,
    responder: R,
}

/// Every setting, as it was given.
#[derive(Clone, Debug)]
struct Config {
    issuer: Issuer,
    client_id: ClientId,
    public_url: PublicUrl,
    client_secret: Option<ClientSecret>,
    client_auth: ClientAuth,
    scopes: Vec<String>,
    extra_parameters: Vec<(String, String)>,
    algorithms: Vec<SigningAlgorithm>,
    trusted_audiences: Vec<String>,
    userinfo: Userinfo,
    form_post: bool,
    max_age: Option<Duration>,
    acr: Vec<String>,
    leeway: Duration,
    endpoints: Option<Endpoints>,
    internal_issuer: Option<Issuer>,
    http_client: Option<Arc<dyn HttpClient>>,
    time_out: Duration,
    prefix: String,
    open: Vec<PathRule>,
    optional: Vec<PathRule>,
    health: bool,
    claims: Vec<String>,
    rules: Rules,
    identity_headers: Vec<HeaderName>,
    csrf_header: Option<HeaderName>,
    forward_authorization: bool,
    allow_preflight: bool,
    anonymous_on_outage: bool,
    cookie_keys: Option<CookieKeys>,
    store: Option<Arc<dyn Store>>,
    store_time_out: Duration,
    store_prefix: String,
    sessions: Option<Sessions>,
    pending: Option<Pending>,
    stored_logins: u32,
    client_limit: Option<u32>,
    login_ttl: Duration,
    lifetimes: Lifetimes,
    max_cookie_bytes: usize,
    cached_sessions: usize,
    revocation_grace: Option<Duration>,
    after_crash: AfterCrash,
    backchannel_logout: Option<bool>,
    frontchannel_logout: bool,
    logout_type_required: bool,
    logout_without_exp: bool,
    refresh_failure: RefreshFailure,
    clock: Arc<dyn Clock>,
    danger_http: bool,
    danger_http_provider: bool,
}

impl Builder {
    pub(crate) fn new(issuer: Issuer, client_id: ClientId, public_url: PublicUrl) -> Self {
        Self { config: Config::new(issuer, client_id, public_url), responder: Pages }
    }

    /// Answers by a responder of your own; see [`Respond`](crate::Respond).
    pub fn responder<R>(self, responder: R) -> Builder<R> {
        Builder { config: self.config, responder }
    }
}

impl Config {
    fn new(issuer: Issuer, client_id: ClientId, public_url: PublicUrl) -> Self {
        Self {
            issuer,
            client_id,
            public_url,
            client_secret: None,
            client_auth: ClientAuth::Basic,
            scopes: Vec::new(),
            extra_parameters: Vec::new(),
            algorithms: Vec::new(),
            trusted_audiences: Vec::new(),
            userinfo: Userinfo::Off,
            form_post: false,
            max_age: None,
            acr: Vec::new(),
            leeway: Duration::from_secs(60),
            endpoints: None,
            internal_issuer: None,
            http_client: None,
            time_out: Duration::from_secs(5),
            prefix: "/auth".to_owned(),
            open: Vec::new(),
            optional: Vec::new(),
            health: false,
            claims: DEFAULT_CLAIMS.iter().map(|name| (*name).to_owned()).collect(),
            rules: Rules::default(),
            identity_headers: Vec::new(),
            csrf_header: None,
            forward_authorization: false,
            allow_preflight: false,
            anonymous_on_outage: false,
            cookie_keys: None,
            store: None,
            store_time_out: Duration::from_secs(1),
            store_prefix: "auth".to_owned(),
            sessions: None,
            pending: None,
            stored_logins: 50_000,
            client_limit: Some(1_000),
            login_ttl: Duration::from_secs(600),
            lifetimes: Lifetimes {
                idle: Duration::from_secs(3600),
                absolute: Duration::from_secs(12 * 3600),
            },
            max_cookie_bytes: 6 * 1024,
            cached_sessions: 20_000,
            revocation_grace: Some(Duration::from_secs(60)),
            after_crash: AfterCrash::default(),
            backchannel_logout: None,
            frontchannel_logout: false,
            logout_type_required: false,
            logout_without_exp: false,
            refresh_failure: RefreshFailure::default(),
            clock: Arc::new(SystemClock),
            danger_http: false,
            danger_http_provider: false,
        }
    }
}

/// Settings that do not make a layer, with all that is wrong with them.
///
/// # Examples
///
/// ```
/// use tower_pkce_auth::{ClientId, PkceAuthLayer};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let error = PkceAuthLayer::builder(
///     "https://login.example".parse()?,
///     ClientId::new("app"),
///     "http://localhost:8080".parse()?,
/// )
/// .build()
/// .unwrap_err();
/// assert!(error.problems()[0].starts_with("client secret"));
/// # Ok(()) }
/// ```
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct BuildError {
    problems: Vec<String>,
}

impl BuildError {
    /// Returns every problem, each with the value that causes it.
    #[must_use]
    pub fn problems(&self) -> &[String] {
        &self.problems
    }
}

impl fmt::Display for BuildError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the sign-in layer cannot be built: ")?;
        f.write_str(&self.problems.join("; "))
    }
}

impl std::error::Error for BuildError {}
