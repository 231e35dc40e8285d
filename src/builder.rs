//! The builder: every setting of a layer, judged together at the end.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::time::Duration;

use http::header::HeaderName;

use crate::clock::{Clock, SystemClock};
use crate::cookies::Cookies;
use crate::flow::Core;
use crate::identity::DEFAULT_CLAIMS;
use crate::layer::PkceAuthLayer;
use crate::names::{ClientId, Issuer, PublicUrl, is_loopback};
use crate::oidc::authorize::RESERVED;
use crate::oidc::client_auth::ClientAuth;
use crate::oidc::http::{HttpClient, Outbound};
use crate::oidc::keys::SigningAlgorithm;
use crate::oidc::metadata::Endpoints;
use crate::oidc::provider::{self, Provider};
use crate::oidc::userinfo::Userinfo;
use crate::paths::{PathRule, Paths, is_plain};
use crate::pending::{self, Pending, PendingLogins};
use crate::respond::Pages;
use crate::seal::{CookieKeys, Sealer};
use crate::secret::ClientSecret;
use crate::service::Gate;
use crate::session::keeper::{self, Keeper};
use crate::session::refresh::AfterCrash;
use crate::session::refresher::Refresher;
use crate::session::revocation::{MARK_TTL, Revocation};
use crate::session::{Lifetimes, Sessions};
use crate::store::{BoundedStore, MemoryStore, Store};

/// Sets up a [`PkceAuthLayer`]; every setting has a default that is safe on a network.
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
#[derive(Debug)]
#[must_use]
pub struct Builder<R = Pages> {
    issuer: Issuer,
    client_id: ClientId,
    public_url: PublicUrl,
    responder: R,
    client_secret: Option<ClientSecret>,
    client_auth: ClientAuth,
    public_client: bool,
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
    http_client: Option<Arc<dyn HttpClient>>,
    time_out: Duration,
    prefix: String,
    open: Vec<PathRule>,
    optional: Vec<PathRule>,
    health: bool,
    claims: Vec<String>,
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
    login_ttl: Duration,
    lifetimes: Lifetimes,
    max_cookie_bytes: usize,
    cached_sessions: usize,
    revocation_grace: Option<Duration>,
    after_crash: AfterCrash,
    clock: Arc<dyn Clock>,
    danger_http: bool,
    danger_http_provider: bool,
}

/// No leeway for clocks may exceed this: a token that expired longer ago is expired.
const MAX_LEEWAY: Duration = Duration::from_secs(300);
/// No session outlives the marks that may end it.
const MAX_LIFETIME: Duration = MARK_TTL;

impl Builder {
    pub(crate) fn new(issuer: Issuer, client_id: ClientId, public_url: PublicUrl) -> Self {
        Self {
            issuer,
            client_id,
            public_url,
            responder: Pages,
            client_secret: None,
            client_auth: ClientAuth::Basic,
            public_client: false,
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
            http_client: None,
            time_out: Duration::from_secs(5),
            prefix: "/auth".to_owned(),
            open: Vec::new(),
            optional: Vec::new(),
            health: false,
            claims: DEFAULT_CLAIMS.iter().map(|name| (*name).to_owned()).collect(),
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
            login_ttl: Duration::from_secs(600),
            lifetimes: Lifetimes {
                idle: Duration::from_secs(3600),
                absolute: Duration::from_secs(12 * 3600),
            },
            max_cookie_bytes: 6 * 1024,
            cached_sessions: 20_000,
            revocation_grace: Some(Duration::from_secs(60)),
            after_crash: AfterCrash::default(),
            clock: Arc::new(SystemClock),
            danger_http: false,
            danger_http_provider: false,
        }
    }

    /// Answers by a responder of your own; see [`Respond`](crate::Respond).
    pub fn responder<R>(self, responder: R) -> Builder<R> {
        Builder {
            responder,
            issuer: self.issuer,
            client_id: self.client_id,
            public_url: self.public_url,
            client_secret: self.client_secret,
            client_auth: self.client_auth,
            public_client: self.public_client,
            scopes: self.scopes,
            extra_parameters: self.extra_parameters,
            algorithms: self.algorithms,
            trusted_audiences: self.trusted_audiences,
            userinfo: self.userinfo,
            form_post: self.form_post,
            max_age: self.max_age,
            acr: self.acr,
            leeway: self.leeway,
            endpoints: self.endpoints,
            http_client: self.http_client,
            time_out: self.time_out,
            prefix: self.prefix,
            open: self.open,
            optional: self.optional,
            health: self.health,
            claims: self.claims,
            identity_headers: self.identity_headers,
            csrf_header: self.csrf_header,
            forward_authorization: self.forward_authorization,
            allow_preflight: self.allow_preflight,
            anonymous_on_outage: self.anonymous_on_outage,
            cookie_keys: self.cookie_keys,
            store: self.store,
            store_time_out: self.store_time_out,
            store_prefix: self.store_prefix,
            sessions: self.sessions,
            pending: self.pending,
            login_ttl: self.login_ttl,
            lifetimes: self.lifetimes,
            max_cookie_bytes: self.max_cookie_bytes,
            cached_sessions: self.cached_sessions,
            revocation_grace: self.revocation_grace,
            after_crash: self.after_crash,
            clock: self.clock,
            danger_http: self.danger_http,
            danger_http_provider: self.danger_http_provider,
        }
    }
}

/// The client and the provider.
impl<R> Builder<R> {
    /// Sets the secret shared with the provider; needed unless the client is public.
    pub fn client_secret(mut self, secret: ClientSecret) -> Self {
        self.client_secret = Some(secret);
        self
    }

    /// Sets how the client authenticates at the token endpoint. Default: [`ClientAuth::Basic`].
    pub const fn client_auth(mut self, auth: ClientAuth) -> Self {
        self.client_auth = auth;
        self
    }

    /// Says that the client has no secret (RFC 6749 section 2.1); PKCE alone protects the code.
    pub const fn public_client(mut self) -> Self {
        self.public_client = true;
        self.client_auth = ClientAuth::None;
        self
    }

    /// Asks for a scope beside `openid`; asks for nothing more by default.
    pub fn scope(mut self, scope: impl Into<String>) -> Self {
        self.scopes.push(scope.into());
        self
    }

    /// Adds a parameter to every authorization request, as some providers want it.
    pub fn extra_parameter(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.extra_parameters.push((name.into(), value.into()));
        self
    }

    /// Accepts ID tokens signed by this algorithm; the default is RS256 and nothing else.
    pub fn id_token_algorithm(mut self, algorithm: SigningAlgorithm) -> Self {
        self.algorithms.push(algorithm);
        self
    }

    /// Accepts ID tokens that name this audience beside the client.
    ///
    /// # Security
    ///
    /// Whoever is in that audience can present its copy of the token here.
    pub fn trusted_audience(mut self, audience: impl Into<String>) -> Self {
        self.trusted_audiences.push(audience.into());
        self
    }

    /// Sets whether the userinfo endpoint is asked at a login. Default: [`Userinfo::Off`].
    pub const fn userinfo(mut self, userinfo: Userinfo) -> Self {
        self.userinfo = userinfo;
        self
    }

    /// Lets the provider answer by a form (OAuth 2.0 Form Post Response Mode), so that the code is
    /// in no URL. The cookie of a pending login is `SameSite=None; Secure` then.
    pub const fn form_post(mut self) -> Self {
        self.form_post = true;
        self
    }

    /// Asks for an authentication that is at most so old, and refuses an older one.
    pub const fn max_age(mut self, age: Duration) -> Self {
        self.max_age = Some(age);
        self
    }

    /// Asks for an authentication context (`acr_values`), and demands one of those asked for.
    pub fn acr(mut self, acr: impl Into<String>) -> Self {
        self.acr.push(acr.into());
        self
    }

    /// Sets how far clocks may be apart. Default: 60 s; at most 5 min.
    pub const fn leeway(mut self, leeway: Duration) -> Self {
        self.leeway = leeway;
        self
    }

    /// Gives the provider's endpoints by hand; there is no discovery then.
    pub fn endpoints(mut self, endpoints: Endpoints) -> Self {
        self.endpoints = Some(endpoints);
        self
    }

    /// Sends requests to the provider by a client of your own.
    pub fn http_client(mut self, client: impl HttpClient) -> Self {
        self.http_client = Some(Arc::new(client));
        self
    }

    /// Sets how long one call to the provider may take. Default: 5 s.
    pub const fn provider_timeout(mut self, time_out: Duration) -> Self {
        self.time_out = time_out;
        self
    }
}

/// Who gets what.
impl<R> Builder<R> {
    /// Sets the prefix of the layer's own endpoints, below the mount. Default: `/auth`.
    pub fn prefix(mut self, prefix: impl Into<String>) -> Self {
        self.prefix = prefix.into();
        self
    }

    /// Lets everybody have these paths; nothing is looked up for them.
    pub fn open(mut self, rule: PathRule) -> Self {
        self.open.push(rule);
        self
    }

    /// Lets everybody have these paths, with the identity of those who are signed in.
    pub fn optional(mut self, rule: PathRule) -> Self {
        self.optional.push(rule);
        self
    }

    /// Serves `<prefix>/health/live` and `<prefix>/health/ready`. Default: off.
    pub const fn health(mut self, on: bool) -> Self {
        self.health = on;
        self
    }

    /// Passes one more claim on to the application.
    pub fn claim(mut self, name: impl Into<String>) -> Self {
        self.claims.push(name.into());
        self
    }

    /// Names one more header that clients must not send, because the application trusts it.
    pub fn identity_header(mut self, name: HeaderName) -> Self {
        self.identity_headers.push(name);
        self
    }

    /// Accepts unsafe requests of clients that send neither `Sec-Fetch-Site` nor `Origin` if they
    /// bear this header, which no other site can make a browser send. Default: off.
    pub fn csrf_header(mut self, name: HeaderName) -> Self {
        self.csrf_header = Some(name);
        self
    }

    /// Passes `Authorization` on with requests that are signed in by cookie. Default: off.
    pub const fn forward_authorization(mut self, on: bool) -> Self {
        self.forward_authorization = on;
        self
    }

    /// Passes CORS preflights to protected paths on, for an inner service that answers them.
    /// Default: off.
    pub const fn allow_preflight(mut self, on: bool) -> Self {
        self.allow_preflight = on;
        self
    }

    /// Treats visitors of optional paths as anonymous while the store is away. Default: 503.
    pub const fn anonymous_on_outage(mut self, on: bool) -> Self {
        self.anonymous_on_outage = on;
        self
    }
}

/// Where things are kept, and for how long.
impl<R> Builder<R> {
    /// Sets the keys that seal cookies and records; needed unless the public URL is on loopback.
    pub fn cookie_keys(mut self, keys: CookieKeys) -> Self {
        self.cookie_keys = Some(keys);
        self
    }

    /// Sets the store for pending logins, sessions and revocation marks.
    pub fn store(mut self, store: impl Store) -> Self {
        self.store = Some(Arc::new(store));
        self
    }

    /// Sets how long one call of the store may take; it counts as away then. Default: 1 s.
    pub const fn store_timeout(mut self, time_out: Duration) -> Self {
        self.store_time_out = time_out;
        self
    }

    /// Sets what the keys in the store begin with. Default: `auth`.
    pub fn store_prefix(mut self, prefix: impl Into<String>) -> Self {
        self.store_prefix = prefix.into();
        self
    }

    /// Sets where sessions live. Default: stored with a shared store, else sealed.
    pub const fn sessions(mut self, sessions: Sessions) -> Self {
        self.sessions = Some(sessions);
        self
    }

    /// Sets where pending logins are kept. Default: in a shared store, else sealed.
    pub const fn pending(mut self, pending: Pending) -> Self {
        self.pending = Some(pending);
        self
    }

    /// Sets how long a login may take. Default: 10 min.
    pub const fn login_ttl(mut self, ttl: Duration) -> Self {
        self.login_ttl = ttl;
        self
    }

    /// Sets how long a session lives without a request. Default: 1 h.
    pub const fn session_idle(mut self, idle: Duration) -> Self {
        self.lifetimes.idle = idle;
        self
    }

    /// Sets how long a session lives whatever happens. Default: 12 h.
    pub const fn session_absolute(mut self, absolute: Duration) -> Self {
        self.lifetimes.absolute = absolute;
        self
    }

    /// Sets how many bytes a sealed session may take in cookies. Default: 6 KiB, because many
    /// servers stop at 8 KiB of headers; at most 12 KiB.
    pub const fn max_cookie_bytes(mut self, bytes: usize) -> Self {
        self.max_cookie_bytes = bytes;
        self
    }

    /// Sets how many opened sessions are cached. Default: 20,000.
    pub const fn cached_sessions(mut self, sessions: usize) -> Self {
        self.cached_sessions = sessions;
        self
    }

    /// Sets how long sealed sessions go on while the store with the revocation marks is away.
    /// Default: 60 s.
    pub const fn revocation_grace(mut self, grace: Duration) -> Self {
        self.revocation_grace = Some(grace);
        self
    }

    /// Lets sealed sessions go on for as long as the store with the revocation marks is away:
    /// right only where being reachable matters more than that a logout holds.
    pub const fn danger_unlimited_revocation_grace(mut self) -> Self {
        self.revocation_grace = None;
        self
    }

    /// Sets what becomes of a session whose last refresh was cut off by a crash.
    /// Default: [`AfterCrash::Retry`].
    pub const fn after_crash(mut self, policy: AfterCrash) -> Self {
        self.after_crash = policy;
        self
    }

    /// Sets where time comes from.
    pub fn clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.clock = clock;
        self
    }

    /// Accepts a public URL without TLS that is not on loopback: right only inside a test network,
    /// because everybody on the way can take over every session.
    pub const fn danger_allow_http(mut self) -> Self {
        self.danger_http = true;
        self
    }

    /// Accepts a provider without TLS on loopback although the public URL is elsewhere: right only
    /// where a proxy on this machine speaks TLS to the provider.
    pub const fn danger_allow_http_provider(mut self) -> Self {
        self.danger_http_provider = true;
        self
    }
}

impl<R> Builder<R> {
    /// Makes the layer. Nothing is fetched: it starts while the provider is down.
    ///
    /// # Errors
    ///
    /// [`BuildError`] with every problem of the settings, each with the value that causes it.
    pub fn build(self) -> Result<PkceAuthLayer<R>, BuildError> {
        let mut problems = Vec::new();
        self.judge(&mut problems);
        let allow_http = self.danger_http_provider
            || (self.public_url.is_loopback() && !self.public_url.is_https());
        let metadata = match self.endpoints.as_ref().map(|given| given.judge(allow_http)) {
            None => None,
            Some(Ok(metadata)) => Some(metadata),
            Some(Err(error)) => {
                problems.push(error.to_string());
                None
            }
        };
        let issuer_url = url::Url::parse(self.issuer.as_str()).ok();
        let plain = issuer_url.as_ref().is_some_and(|url| url.scheme() == "http");
        let local = issuer_url.as_ref().is_some_and(is_loopback);
        if plain && !(allow_http && local) && self.endpoints.is_none() {
            problems.push(format!(
                "issuer {:?}: https is needed, except on loopback beside a public URL on loopback",
                self.issuer.as_str()
            ));
        }
        let http_client = self.http_client.clone().or_else(default_client);
        if http_client.is_none() {
            problems.push("HTTP client: none given, and feature `hyper-client` is off".to_owned());
        }
        let (Some(http_client), true) = (http_client, problems.is_empty()) else {
            return Err(BuildError { problems });
        };
        Ok(self.assemble(metadata, http_client, allow_http))
    }

    fn judge(&self, problems: &mut Vec<String>) {
        let mut problem = |text: String| problems.push(text);
        if self.client_secret.is_none() && !self.public_client {
            problem("client secret: none given; a client without one says `public_client`".into());
        }
        if self.client_secret.is_some() && self.client_auth == ClientAuth::None {
            problem("client authentication: `none` sends no secret, but one is given".into());
        }
        if self.client_id.as_str().is_empty() {
            problem("client id \"\": it is empty".into());
        }
        if self.cookie_keys.is_none() && !self.public_url.is_loopback() {
            problem(format!(
                "cookie keys: none given; every pod of {} needs the same ring",
                self.public_url
            ));
        }
        if !self.public_url.is_https() && !self.public_url.is_loopback() && !self.danger_http {
            problem(format!(
                "public URL \"{}\": without TLS only loopback will do",
                self.public_url
            ));
        }
        let plain = |b: u8| b.is_ascii_alphanumeric() || b"/-_.~".contains(&b);
        if !is_plain(&self.prefix)
            || !self.prefix.bytes().all(plain)
            || self.prefix.len() < 2
            || self.prefix.ends_with('/')
        {
            problem(format!("prefix {:?}: a plain path such as \"/auth\" is needed", self.prefix));
        }
        for (name, value) in &self.extra_parameters {
            if RESERVED.contains(&name.as_str()) {
                problem(format!("extra parameter {name:?} = {value:?}: the layer sets it itself"));
            }
        }
        for scope in &self.scopes {
            let valid =
                |b: u8| b == b'!' || (b'#'..=b'[').contains(&b) || (b']'..=b'~').contains(&b);
            if scope.is_empty() || !scope.bytes().all(valid) {
                problem(format!("scope {scope:?}: one word of RFC 6749 section 3.3 is needed"));
            }
        }
        let store = self.store.as_ref();
        if store.is_none() && self.sessions == Some(Sessions::Stored) {
            problem("sessions: stored ones need a store".into());
        }
        if store.is_none() && self.pending == Some(Pending::Store) {
            problem("pending logins: no store is given to keep them in".into());
        }
        if self.store_prefix.is_empty()
            || !self.store_prefix.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b))
        {
            problem(format!("store prefix {:?}: letters, digits, `-_.`", self.store_prefix));
        }
        if self.leeway > MAX_LEEWAY {
            problem(format!("leeway {:?}: at most {MAX_LEEWAY:?}", self.leeway));
        }
        if self.max_cookie_bytes > 12 * 1024 || self.max_cookie_bytes < 512 {
            problem(format!("cookie bytes {}: from 512 to 12288", self.max_cookie_bytes));
        }
        let second = Duration::from_secs(1);
        for (name, value) in [
            ("login lifetime", self.login_ttl),
            ("idle lifetime", self.lifetimes.idle),
            ("absolute lifetime", self.lifetimes.absolute),
        ] {
            if value < second || value > MAX_LIFETIME {
                problem(format!("{name} {value:?}: from 1 s to 30 days"));
            }
        }
        for (name, time_out) in [("provider", self.time_out), ("store", self.store_time_out)] {
            if time_out.is_zero() {
                problem(format!("{name} time-out: zero lets no call succeed"));
            }
        }
    }

    fn assemble(
        self,
        endpoints: Option<crate::oidc::metadata::Metadata>,
        http_client: Arc<dyn HttpClient>,
        allow_http: bool,
    ) -> PkceAuthLayer<R> {
        let keys = self.cookie_keys.unwrap_or_else(|| {
            tracing::warn!("no cookie keys given: sessions end with this process");
            CookieKeys::random()
        });
        let bounded =
            |store| -> Arc<dyn Store> { Arc::new(BoundedStore::new(store, self.store_time_out)) };
        let store = self.store.map(bounded);
        let shared = store.as_ref().is_some_and(|store| store.shared());
        let sessions =
            self.sessions.unwrap_or(if shared { Sessions::Stored } else { Sessions::Sealed });
        let pending = self.pending.unwrap_or(if shared { Pending::Store } else { Pending::Sealed });
        if shared && pending == Pending::Memory {
            tracing::warn!("pending logins in memory: a callback must reach the pod of its start");
        }
        let clock = self.clock;
        let sealer = Sealer::new(
            keys,
            &[
                // Another provider is another application: its logins and sessions are not ours.
                self.issuer.as_str(),
                self.client_id.as_str(),
                self.public_url.origin(),
                self.public_url.mount(),
                &self.prefix,
            ],
        );
        let own_paths = format!("{}{}", self.public_url.mount(), self.prefix);
        let cookies = Arc::new(Cookies::new(
            sealer.instance(),
            self.public_url.is_https(),
            self.form_post,
            &format!("{own_paths}/logout"),
        ));
        let mut scopes = vec!["openid".to_owned()];
        scopes.extend(self.scopes.into_iter().filter(|scope| scope != "openid"));
        let algorithms = match self.algorithms {
            given if given.is_empty() => vec![SigningAlgorithm::default()],
            given => given,
        };
        let provider = Arc::new(Provider::new(
            provider::Settings {
                issuer: self.issuer.clone(),
                client_id: self.client_id,
                client_secret: self.client_secret,
                client_auth: self.client_auth,
                redirect_uri: self.public_url.absolute(&format!("{}/callback", self.prefix)),
                // `openidconnect` adds `openid` itself.
                scopes: scopes.split_off(1),
                extra_parameters: self.extra_parameters,
                algorithms,
                trusted_audiences: self.trusted_audiences,
                userinfo: self.userinfo,
                form_post: self.form_post,
                max_age: self.max_age,
                acr: self.acr,
                leeway: self.leeway,
                allow_http,
                endpoints,
            },
            Outbound::new(http_client, self.time_out),
            clock.clone(),
        ));
        // Marks need a place even where there is no store: a logout then holds in this process.
        let marks: Arc<dyn Store> = store
            .clone()
            .unwrap_or_else(|| Arc::new(MemoryStore::with_clock(clock.clone(), 1_000_000)));
        let revocation =
            Revocation::new(marks, *sealer.instance(), &self.store_prefix, clock.clone());
        let keeper = Arc::new(Keeper::new(
            keeper::Settings {
                kind: sessions,
                issuer: self.issuer.as_str().to_owned(),
                prefix: self.store_prefix.clone(),
                lifetimes: self.lifetimes,
                max_cookie_bytes: self.max_cookie_bytes,
                revocation_grace: self.revocation_grace,
                cache_capacity: self.cached_sessions,
            },
            store.clone(),
            revocation,
            sealer.clone(),
            cookies.clone(),
            clock.clone(),
        ));
        let refresher = Arc::new(Refresher::new(
            keeper.clone(),
            provider.clone(),
            clock.clone(),
            self.after_crash,
            self.claims.clone(),
        ));
        let pending = PendingLogins::new(pending::Settings {
            kind: pending,
            store,
            sealer,
            cookies: cookies.clone(),
            clock: clock.clone(),
            prefix: self.store_prefix,
            origin: self.public_url.origin().to_owned(),
            own_paths,
            ttl: self.login_ttl,
            leeway: self.leeway,
        });
        let gate = Gate {
            paths: Paths::new(&self.prefix, self.open, self.optional, self.health),
            identity_headers: self.identity_headers,
            forward_authorization: self.forward_authorization,
            allow_preflight: self.allow_preflight,
            anonymous_on_outage: self.anonymous_on_outage,
            at_once: !shared,
        };
        PkceAuthLayer {
            core: Arc::new(Core {
                provider,
                keeper,
                refresher,
                pending,
                cookies,
                clock,
                public_url: self.public_url,
                prefix: self.prefix,
                claims: self.claims,
                csrf_header: self.csrf_header,
                endings: AtomicUsize::new(0),
            }),
            gate: Arc::new(gate),
            responder: self.responder,
        }
    }
}

#[cfg(feature = "hyper-client")]
#[allow(clippy::unnecessary_wraps, reason = "without the feature there is none")]
fn default_client() -> Option<Arc<dyn HttpClient>> {
    Some(Arc::new(crate::oidc::hyper_client::HyperClient::new()))
}

#[cfg(not(feature = "hyper-client"))]
fn default_client() -> Option<Arc<dyn HttpClient>> {
    None
}

/// Settings that do not make a layer, with all that is wrong with them.
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
