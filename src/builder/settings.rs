//! The settings, one method each.

use std::sync::Arc;
use std::time::Duration;

use http::header::HeaderName;

use super::Builder;
use crate::clock::Clock;
use crate::names::Issuer;
use crate::oidc::client_auth::ClientAuth;
use crate::oidc::http::HttpClient;
use crate::oidc::keys::SigningAlgorithm;
use crate::oidc::metadata::Endpoints;
use crate::oidc::settings::Userinfo;
use crate::paths::PathRule;
use crate::pending::Pending;
use crate::seal::CookieKeys;
use crate::secret::ClientSecret;
use crate::session::Sessions;
use crate::session::refresh::{AfterCrash, RefreshFailure};
use crate::store::Store;

/// The client and the provider.
impl<R> Builder<R> {
    /// Sets the secret shared with the provider; needed unless the client is public.
    pub fn client_secret(mut self, secret: ClientSecret) -> Self {
        self.config.client_secret = Some(secret);
        self
    }

    /// Sets how the client authenticates at the token endpoint. Default: [`ClientAuth::Basic`].
    pub const fn client_auth(mut self, auth: ClientAuth) -> Self {
        self.config.client_auth = auth;
        self
    }

    /// Says that the client has no secret (RFC 6749 section 2.1); PKCE alone protects the code.
    pub const fn public_client(mut self) -> Self {
        self.config.client_auth = ClientAuth::None;
        self
    }

    /// Asks for a scope beside `openid`; asks for nothing more by default.
    pub fn scope(mut self, scope: impl Into<String>) -> Self {
        self.config.scopes.push(scope.into());
        self
    }

    /// Adds a parameter to every authorization request, as some providers want it.
    pub fn extra_parameter(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.config.extra_parameters.push((name.into(), value.into()));
        self
    }

    /// Accepts ID tokens signed by this algorithm; the default is RS256 and nothing else.
    pub fn id_token_algorithm(mut self, algorithm: SigningAlgorithm) -> Self {
        self.config.algorithms.push(algorithm);
        self
    }

    /// Accepts ID tokens that name this audience beside the client.
    ///
    /// # Security
    ///
    /// Whoever is in that audience can present its copy of the token here.
    pub fn trusted_audience(mut self, audience: impl Into<String>) -> Self {
        self.config.trusted_audiences.push(audience.into());
        self
    }

    /// Sets whether the userinfo endpoint is asked at a login. Default: [`Userinfo::Off`].
    pub const fn userinfo(mut self, userinfo: Userinfo) -> Self {
        self.config.userinfo = userinfo;
        self
    }

    /// Lets the provider answer by a form (OAuth 2.0 Form Post Response Mode), so that the code is
    /// in no URL. The cookie of a pending login is `SameSite=None; Secure` then.
    pub const fn form_post(mut self) -> Self {
        self.config.form_post = true;
        self
    }

    /// Asks for an authentication that is at most so old, and refuses an older one.
    pub const fn max_age(mut self, age: Duration) -> Self {
        self.config.max_age = Some(age);
        self
    }

    /// Asks for an authentication context (`acr_values`), and demands one of those asked for.
    pub fn acr(mut self, acr: impl Into<String>) -> Self {
        self.config.acr.push(acr.into());
        self
    }

    /// Sets how far clocks may be apart. Default: 60 s; at most 5 min.
    pub const fn leeway(mut self, leeway: Duration) -> Self {
        self.config.leeway = leeway;
        self
    }

    /// Reaches the provider under another URL than browsers do ("split horizon"): inside a
    /// cluster, behind a firewall.
    ///
    /// Discovery is read there, and what this process calls (token, keys, userinfo, revocation) is
    /// called there if it lies under the issuer's origin. It is `https`, but for loopback. What browsers visit, and the issuer that
    /// tokens must name, stay those of the public issuer: the discovery document must name it too.
    ///
    /// # Examples
    ///
    /// ```
    /// use tower_pkce_auth::{ClientId, PkceAuthLayer};
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let layer = PkceAuthLayer::builder(
    ///     "https://login.example/realms/staff".parse()?,
    ///     ClientId::new("app"),
    ///     "http://localhost:8080".parse()?,
    /// )
    /// .public_client()
    /// .internal_issuer("https://keycloak.auth.svc:8443/realms/staff".parse()?)
    /// .build()?;
    /// # Ok(()) }
    /// ```
    pub fn internal_issuer(mut self, issuer: Issuer) -> Self {
        self.config.internal_issuer = Some(issuer);
        self
    }

    /// Gives the provider's endpoints by hand; there is no discovery then. They are `https`, but for
    /// loopback as [`danger_allow_http_provider`](Self::danger_allow_http_provider) has it.
    pub fn endpoints(mut self, endpoints: Endpoints) -> Self {
        self.config.endpoints = Some(endpoints);
        self
    }

    /// Sends requests to the provider by a client of your own.
    pub fn http_client(mut self, client: impl HttpClient) -> Self {
        self.config.http_client = Some(Arc::new(client));
        self
    }

    /// Sets how long one call to the provider may take. Default: 5 s.
    pub const fn provider_timeout(mut self, time_out: Duration) -> Self {
        self.config.time_out = time_out;
        self
    }
}

/// Who gets what.
impl<R> Builder<R> {
    /// Sets the prefix of the layer's own endpoints, below the mount. Default: `/auth`.
    pub fn prefix(mut self, prefix: impl Into<String>) -> Self {
        self.config.prefix = prefix.into();
        self
    }

    /// Lets everybody have these paths; nothing is looked up for them.
    pub fn open(mut self, rule: PathRule) -> Self {
        self.config.open.push(rule);
        self
    }

    /// Lets everybody have these paths, with the identity of those who are signed in.
    pub fn optional(mut self, rule: PathRule) -> Self {
        self.config.optional.push(rule);
        self
    }

    /// Serves `<prefix>/health/live` and `<prefix>/health/ready`. Default: off.
    pub const fn health(mut self, on: bool) -> Self {
        self.config.health = on;
        self
    }

    /// Passes one more claim on to the application.
    pub fn claim(mut self, name: impl Into<String>) -> Self {
        self.config.claims.push(name.into());
        self
    }

    /// Lets in only people with a verified e-mail address in this domain (and other domains named
    /// so); everybody who can sign in may come in otherwise.
    ///
    /// The domain is compared as a whole and without regard to case: `example.com` admits nobody of
    /// `sub.example.com`. An address that the provider does not call verified counts for nothing. A
    /// person who may not come in gets a page that says who is signed in and offers another account
    /// (403, `not_allowed`); on [optional](Self::optional) paths they are served as a stranger.
    ///
    /// Together with [`allow_group`](Self::allow_group), both are needed.
    ///
    /// # Examples
    ///
    /// ```
    /// use tower_pkce_auth::{ClientId, PkceAuthLayer};
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let layer = PkceAuthLayer::builder(
    ///     "https://login.example".parse()?,
    ///     ClientId::new("app"),
    ///     "http://localhost:8080".parse()?,
    /// )
    /// .public_client()
    /// .scope("email")
    /// .allow_email_domain("example.com")
    /// .allow_email_domain("example.org")
    /// .build()?;
    /// # Ok(()) }
    /// ```
    pub fn allow_email_domain(mut self, domain: impl Into<String>) -> Self {
        self.config.rules.email_domains.push(domain.into());
        self
    }

    /// Lets in only members of this group (and other groups named so), by the claim `groups`,
    /// compared byte for byte.
    ///
    /// Together with [`allow_email_domain`](Self::allow_email_domain), both are needed.
    pub fn allow_group(mut self, group: impl Into<String>) -> Self {
        self.config.rules.groups.push(group.into());
        self
    }

    /// Names one more header that clients must not send, because the application trusts it.
    pub fn identity_header(mut self, name: HeaderName) -> Self {
        self.config.identity_headers.push(name);
        self
    }

    /// Accepts unsafe requests of clients that send neither `Sec-Fetch-Site` nor `Origin` if they
    /// bear this header. Default: off.
    ///
    /// # Security
    ///
    /// It must be a header that no page of another site can make a browser send without asking
    /// first: its name begins with `x-`, and no CORS rule of the application may allow it.
    pub fn csrf_header(mut self, name: HeaderName) -> Self {
        self.config.csrf_header = Some(name);
        self
    }

    /// Passes `Authorization` on with requests that are signed in by cookie. Default: off.
    ///
    /// # Security
    ///
    /// The application then sees two credentials, which may be of two people.
    pub const fn forward_authorization(mut self, on: bool) -> Self {
        self.config.forward_authorization = on;
        self
    }

    /// Passes CORS preflights to protected paths on, for an inner service that answers them.
    /// Default: off.
    ///
    /// # Security
    ///
    /// The inner service sees requests of strangers then, with the method `OPTIONS` only.
    pub const fn allow_preflight(mut self, on: bool) -> Self {
        self.config.allow_preflight = on;
        self
    }

    /// Treats visitors of optional paths as anonymous while the store is away. Default: 503.
    ///
    /// # Security
    ///
    /// Right only where such a page shows nothing less guarded to strangers than to members.
    pub const fn anonymous_on_outage(mut self, on: bool) -> Self {
        self.config.anonymous_on_outage = on;
        self
    }
}

/// Where things are kept, and for how long.
impl<R> Builder<R> {
    /// Sets the keys that seal cookies and records; needed unless the public URL is on loopback.
    pub fn cookie_keys(mut self, keys: CookieKeys) -> Self {
        self.config.cookie_keys = Some(keys);
        self
    }

    /// Sets the store for pending logins, sessions and revocation marks.
    pub fn store(mut self, store: impl Store) -> Self {
        self.config.store = Some(Arc::new(store));
        self
    }

    /// Sets how long one call of the store may take; it counts as away then. Default: 1 s.
    pub const fn store_timeout(mut self, time_out: Duration) -> Self {
        self.config.store_time_out = time_out;
        self
    }

    /// Sets what the keys in the store begin with. Default: `auth`.
    pub fn store_prefix(mut self, prefix: impl Into<String>) -> Self {
        self.config.store_prefix = prefix.into();
        self
    }

    /// Sets where sessions live. Default: stored with a shared store, else sealed.
    pub const fn sessions(mut self, sessions: Sessions) -> Self {
        self.config.sessions = Some(sessions);
        self
    }

    /// Sets where pending logins are kept. Default: in a shared store, else sealed.
    pub const fn pending(mut self, pending: Pending) -> Self {
        self.config.pending = Some(pending);
        self
    }

    /// Sets how many logins one client may start in a minute, and at once. Default: 1,000.
    ///
    /// A client is who the extension [`ClientAddress`](crate::ClientAddress) names; without it
    /// there is no such limit. Beyond it the answer is `429` with `Retry-After`, and nothing is noted
    /// or sent anywhere. Each pod counts for itself. Who is signed in already is not counted.
    ///
    /// # Examples
    ///
    /// ```
    /// use tower_pkce_auth::{ClientId, PkceAuthLayer};
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let layer = PkceAuthLayer::builder(
    ///     "https://login.example".parse()?,
    ///     ClientId::new("app"),
    ///     "http://localhost:8080".parse()?,
    /// )
    /// .public_client()
    /// .client_limit(30)
    /// .build()?;
    /// # Ok(()) }
    /// ```
    pub const fn client_limit(mut self, per_minute: u32) -> Self {
        self.config.client_limit = Some(per_minute);
        self
    }

    /// Lets every client start as many logins as it likes: for a network whose clients all seem to
    /// have one address. What they can store together stays bounded.
    pub const fn no_client_limit(mut self) -> Self {
        self.config.client_limit = None;
        self
    }

    /// Sets how many pending logins this pod writes to the store in the lifetime of one, and how
    /// many marks of used sealed ones. Default: 50,000.
    ///
    /// Beyond it, in a flood, logins are sealed in the browser: nobody is refused and no login that
    /// waits is thrown out.
    pub const fn stored_logins(mut self, most: u32) -> Self {
        self.config.stored_logins = most;
        self
    }

    /// Sets how long a login may take. Default: 10 min.
    pub const fn login_ttl(mut self, ttl: Duration) -> Self {
        self.config.login_ttl = ttl;
        self
    }

    /// Sets how long a session lives without a request. Default: 1 h.
    pub const fn session_idle(mut self, idle: Duration) -> Self {
        self.config.lifetimes.idle = idle;
        self
    }

    /// Sets how long a session lives whatever happens. Default: 12 h.
    pub const fn session_absolute(mut self, absolute: Duration) -> Self {
        self.config.lifetimes.absolute = absolute;
        self
    }

    /// Sets how many bytes a sealed session may take in cookies. Default: 6 KiB, because many
    /// servers stop at 8 KiB of headers; at most 12 KiB.
    pub const fn max_cookie_bytes(mut self, bytes: usize) -> Self {
        self.config.max_cookie_bytes = bytes;
        self
    }

    /// Sets how many opened sessions are cached. Default: 20,000.
    pub const fn cached_sessions(mut self, sessions: usize) -> Self {
        self.config.cached_sessions = sessions;
        self
    }

    /// Sets how long sealed sessions go on while the store with the revocation marks is away.
    /// Default: 60 s.
    pub const fn revocation_grace(mut self, grace: Duration) -> Self {
        self.config.revocation_grace = Some(grace);
        self
    }

    /// Lets sealed sessions go on for as long as the store with the revocation marks is away:
    /// right only where being reachable matters more than that a logout holds.
    pub const fn danger_unlimited_revocation_grace(mut self) -> Self {
        self.config.revocation_grace = None;
        self
    }

    /// Sets what becomes of a session whose last refresh was cut off by a crash.
    /// Default: [`AfterCrash::Retry`].
    pub const fn after_crash(mut self, policy: AfterCrash) -> Self {
        self.config.after_crash = policy;
        self
    }

    /// Sets what a request gets whose session could not be refreshed, once its access token has
    /// run out. Default: [`RefreshFailure::Continue`].
    pub const fn refresh_failure(mut self, policy: RefreshFailure) -> Self {
        self.config.refresh_failure = policy;
        self
    }

    /// Sets where time comes from.
    pub fn clock(mut self, clock: impl Clock) -> Self {
        self.config.clock = Arc::new(clock);
        self
    }

    /// Accepts a public URL without TLS that is not on loopback: right only inside a test network,
    /// because everybody on the way can take over every session.
    pub const fn danger_allow_http(mut self) -> Self {
        self.config.danger_http = true;
        self
    }

    /// Accepts a provider without TLS on loopback although the public URL is elsewhere: right only
    /// where a proxy on this machine speaks TLS to the provider.
    pub const fn danger_allow_http_provider(mut self) -> Self {
        self.config.danger_http_provider = true;
        self
    }
}

/// How the provider ends sessions.
impl<R> Builder<R> {
    /// Serves `<prefix>/backchannel-logout`, where the provider itself reports that somebody signed
    /// out (OpenID Connect Back-Channel Logout 1.0). Default: on with a shared store, else off.
    ///
    /// Register `<public URL><prefix>/backchannel-logout` as `backchannel_logout_uri` at the
    /// provider, or the address of a pod if the provider does not reach the public one: `Host` is
    /// not looked at. A logout reaches every pod that shares the store. A token that comes twice is
    /// answered as the first time and does nothing.
    ///
    /// # Examples
    ///
    /// ```
    /// use tower_pkce_auth::{ClientId, PkceAuthLayer};
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let refused = PkceAuthLayer::builder(
    ///     "https://login.example".parse()?,
    ///     ClientId::new("app"),
    ///     "http://localhost:8080".parse()?,
    /// )
    /// .public_client()
    /// .backchannel_logout(true)
    /// .build()
    /// .unwrap_err();
    /// assert!(refused.problems()[0].contains("needs a shared store"));
    /// # Ok(()) }
    /// ```
    pub const fn backchannel_logout(mut self, on: bool) -> Self {
        self.config.backchannel_logout = Some(on);
        self
    }

    /// Serves `<prefix>/frontchannel-logout`, which the provider has browsers load in a frame when
    /// somebody signs out (OpenID Connect Front-Channel Logout 1.0). Default: off.
    ///
    /// Register it as `frontchannel_logout_uri`, with `frontchannel_logout_session_required`. It
    /// needs a shared store: browsers send no cookies in such a frame.
    ///
    /// # Security
    ///
    /// Nothing is signed here: whoever knows the `sid` of somebody's session at the provider can end
    /// it. Turn it on only where the provider's `sid` cannot be guessed, and use the back channel
    /// where the provider can.
    pub const fn frontchannel_logout(mut self, on: bool) -> Self {
        self.config.frontchannel_logout = on;
        self
    }

    /// Takes only logout tokens whose header says `logout+jwt`. Default: those that say `JWT` or
    /// nothing too, as older providers send them.
    pub const fn logout_token_type_required(mut self, on: bool) -> Self {
        self.config.logout_type_required = on;
        self
    }

    /// Takes logout tokens without an expiry, as providers of an early draft send them (Glewlwyd);
    /// they count for two minutes from when they were made. Default: off.
    pub const fn logout_token_without_exp(mut self, on: bool) -> Self {
        self.config.logout_without_exp = on;
        self
    }
}
