//! What a test provider is configured with before it starts.

use std::io;
use std::net::Ipv4Addr;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use serde_json::Map;
use serde_json::Value;

use crate::clock::Clock;
use crate::clock::SystemClock;

use super::SigningAlg;
use super::TestProvider;
use super::server;

/// How a client proves itself at the token endpoint.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum AuthMethod {
    /// `client_secret_basic`.
    Basic,
    /// `none`: a public client sends only its `client_id`.
    None,
    /// `client_secret_post`.
    Post,
}

impl AuthMethod {
    /// Returns the registered name, as in `token_endpoint_auth_methods_supported`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Basic => "client_secret_basic",
            Self::None => "none",
            Self::Post => "client_secret_post",
        }
    }
}

/// A person who can sign in at the test provider.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct TestUser {
    /// The subject identifier; also the name to sign in by.
    pub sub: String,
    /// Claim `name`, given for scope `profile`.
    pub name: String,
    /// Claim `email`, given for scope `email`.
    pub email: String,
    /// Claim `email_verified`, given for scope `email`.
    pub email_verified: bool,
    /// Claim `groups`, always given unless empty.
    pub groups: Vec<String>,
    /// Further claims, always given; they win over the ones above.
    pub claims: Map<String, Value>,
}

impl TestUser {
    /// Makes a person with a name and a verified address at `example.com`, made from `sub`.
    #[must_use]
    pub fn new(sub: impl Into<String>) -> Self {
        let sub = sub.into();
        let mut letters = sub.chars();
        let name = letters
            .next()
            .map_or_else(String::new, |first| first.to_uppercase().chain(letters).collect());
        Self {
            email: format!("{sub}@example.com"),
            email_verified: true,
            groups: Vec::new(),
            claims: Map::new(),
            name,
            sub,
        }
    }

    /// Sets the display name.
    #[must_use]
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.name = name.into();
        self
    }

    /// Sets the address and whether it is verified.
    #[must_use]
    pub fn email(mut self, email: impl Into<String>, verified: bool) -> Self {
        self.email = email.into();
        self.email_verified = verified;
        self
    }

    /// Adds a group.
    #[must_use]
    pub fn group(mut self, group: impl Into<String>) -> Self {
        self.groups.push(group.into());
        self
    }

    /// Adds a claim.
    #[must_use]
    pub fn claim(mut self, name: impl Into<String>, value: impl Into<Value>) -> Self {
        self.claims.insert(name.into(), value.into());
        self
    }

    pub(super) fn defaults() -> Vec<Self> {
        vec![
            Self::new("alice").name("Alice Archer").group("admin").group("staff"),
            Self::new("bob").name("Bob Baker").group("staff"),
            // Claims alice's address without having proved it.
            Self::new("mallory").name("Mallory Moss").email("alice@example.com", false),
        ]
    }
}

/// Configures a [`TestProvider`]; made by [`TestProvider::builder`].
#[derive(Clone, Debug)]
#[must_use = "a builder does nothing until `start`"]
pub struct TestProviderBuilder {
    pub(super) listen: SocketAddr,
    pub(super) host: Option<String>,
    pub(super) issuer_path: String,
    pub(super) config: Config,
}

/// The part of the configuration that the endpoints read.
#[derive(Clone, Debug)]
pub(super) struct Config {
    pub(super) client_id: String,
    pub(super) client_secret: Option<String>,
    pub(super) auth_methods: Option<Vec<AuthMethod>>,
    pub(super) redirect_uris: Vec<String>,
    pub(super) post_logout_redirect_uris: Vec<String>,
    pub(super) refresh_tokens: bool,
    pub(super) expires_in: Duration,
    pub(super) id_token_ttl: Duration,
    pub(super) lenient_pkce: bool,
    pub(super) lean_id_token: bool,
    pub(super) alg: SigningAlg,
    pub(super) auto_sign_in: Option<String>,
    pub(super) users: Vec<TestUser>,
    pub(super) clock: Arc<dyn Clock>,
}

impl Config {
    /// Returns the methods accepted at the token endpoint.
    pub(super) fn methods(&self) -> &[AuthMethod] {
        match (&self.auth_methods, &self.client_secret) {
            (Some(methods), _) => methods,
            (None, Some(_)) => &[AuthMethod::Basic, AuthMethod::Post],
            (None, None) => &[AuthMethod::None],
        }
    }
}

impl TestProviderBuilder {
    /// Listens on this address instead of a free port of 127.0.0.1.
    pub fn listen(mut self, address: SocketAddr) -> Self {
        self.listen = address;
        self
    }

    /// Names this host in the issuer instead of the address listened on, such as `localhost`.
    pub fn host(mut self, host: impl Into<String>) -> Self {
        self.host = Some(host.into());
        self
    }

    /// Gives the issuer a path, kept to the letter: `/`, `/tenant`, `/test/a/x/`.
    pub fn issuer_path(mut self, path: impl Into<String>) -> Self {
        self.issuer_path = path.into();
        self
    }

    /// Sets the client identifier; `app` by default.
    pub fn client_id(mut self, id: impl Into<String>) -> Self {
        self.config.client_id = id.into();
        self
    }

    /// Sets the client secret; `app-secret` by default.
    pub fn client_secret(mut self, secret: impl Into<String>) -> Self {
        self.config.client_secret = Some(secret.into());
        self
    }

    /// Makes the client public: no secret, authentication method `none`.
    pub fn public_client(mut self) -> Self {
        self.config.client_secret = None;
        self
    }

    /// Accepts exactly these authentication methods; by default basic and post for a client with
    /// a secret, none for one without.
    pub fn auth_methods(mut self, methods: impl IntoIterator<Item = AuthMethod>) -> Self {
        self.config.auth_methods = Some(methods.into_iter().collect());
        self
    }

    /// Registers a redirect URI; once one is registered, only registered ones are accepted
    /// instead of any `http` loopback address.
    pub fn redirect_uri(mut self, uri: impl Into<String>) -> Self {
        self.config.redirect_uris.push(uri.into());
        self
    }

    /// Registers a URI to return to after logout, with the same rule as
    /// [`redirect_uri`](Self::redirect_uri).
    pub fn post_logout_redirect_uri(mut self, uri: impl Into<String>) -> Self {
        self.config.post_logout_redirect_uris.push(uri.into());
        self
    }

    /// Issues refresh tokens even without the scope `offline_access`.
    pub fn refresh_tokens(mut self, always: bool) -> Self {
        self.config.refresh_tokens = always;
        self
    }

    /// Sets the lifetime of access tokens; an hour by default.
    pub fn expires_in(mut self, lifetime: Duration) -> Self {
        self.config.expires_in = lifetime;
        self
    }

    /// Sets the lifetime of ID Tokens; an hour by default.
    pub fn id_token_ttl(mut self, lifetime: Duration) -> Self {
        self.config.id_token_ttl = lifetime;
        self
    }

    /// Accepts logins without PKCE or with a wrong verifier, as careless providers do.
    pub fn lenient_pkce(mut self) -> Self {
        self.config.lenient_pkce = true;
        self
    }

    /// Puts the claims about the person only into userinfo, not into the ID Token.
    pub fn lean_id_token(mut self) -> Self {
        self.config.lean_id_token = true;
        self
    }

    /// Sets the algorithm ID Tokens are signed with; RS256 by default.
    pub fn signing_alg(mut self, alg: SigningAlg) -> Self {
        self.config.alg = alg;
        self
    }

    /// Signs this person in without a chooser; `alice` by default, `None` shows the chooser.
    pub fn auto_sign_in(mut self, user: Option<&str>) -> Self {
        self.config.auto_sign_in = user.map(str::to_owned);
        self
    }

    /// Adds a person, or replaces the one with the same `sub`.
    pub fn user(mut self, user: TestUser) -> Self {
        self.config.users.retain(|known| known.sub != user.sub);
        self.config.users.push(user);
        self
    }

    /// Reads time from this clock.
    pub fn clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.config.clock = clock;
        self
    }

    /// Binds the address and starts to answer.
    ///
    /// # Errors
    ///
    /// When the address cannot be bound, or `host` and `issuer_path` make no normalised URL.
    pub async fn start(self) -> io::Result<TestProvider> {
        server::start(self).await
    }
}

impl Default for TestProviderBuilder {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
            host: None,
            issuer_path: String::new(),
            config: Config {
                client_id: "app".to_owned(),
                client_secret: Some("app-secret".to_owned()),
                auth_methods: None,
                redirect_uris: Vec::new(),
                post_logout_redirect_uris: Vec::new(),
                refresh_tokens: false,
                expires_in: HOUR,
                id_token_ttl: HOUR,
                lenient_pkce: false,
                lean_id_token: false,
                alg: SigningAlg::default(),
                auto_sign_in: Some("alice".to_owned()),
                users: TestUser::defaults(),
                clock: Arc::new(SystemClock),
            },
        }
    }
}

const HOUR: Duration = Duration::from_secs(3600);
