//! The handle that tests hold.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use http::HeaderMap;
use serde_json::Map;
use serde_json::Value;
use serde_json::json;
use tokio::task::AbortHandle;

use super::Behaviour;
use super::Counts;
use super::Endpoint;
use super::FormPost;
use super::IdTokenDraft;
use super::RecordedRequest;
use super::SigningAlg;
use super::SigningKey;
use super::TestProviderBuilder;
use super::TestUser;
use super::driver;
use super::encoding;
use super::endpoints;
use super::fault::Faults;
use super::fault::Hook;
use super::state::Inner;

/// A running provider; it stops when the last clone of the handle is dropped.
///
/// A hook that captures a handle of its own provider keeps the provider running for ever, until
/// [`clear_faults`](Self::clear_faults): let hooks capture what they need instead.
///
/// See the [module documentation](super) for an example.
#[derive(Clone)]
pub struct TestProvider {
    inner: Arc<Inner>,
    server: Arc<Server>,
}

impl TestProvider {
    /// Starts a provider with the defaults of [`builder`](Self::builder).
    ///
    /// # Errors
    ///
    /// When no loopback port can be bound.
    pub async fn start() -> io::Result<Self> {
        Self::builder().start().await
    }

    /// Configures a provider. By default: a free port of 127.0.0.1, client `app` with secret
    /// `app-secret`, any `http` loopback redirect URI, the people alice, bob and mallory, of whom
    /// alice is signed in without a question.
    pub fn builder() -> TestProviderBuilder {
        TestProviderBuilder::default()
    }

    pub(super) fn new(inner: Arc<Inner>, server: AbortHandle) -> Self {
        let server = Arc::new(Server(server));
        Self { inner, server }
    }

    #[cfg(test)]
    pub(super) fn inner(&self) -> &Inner {
        &self.inner
    }

    /// Returns the issuer identifier, to the letter.
    #[must_use]
    pub fn issuer(&self) -> &str {
        &self.inner.issuer
    }

    /// Returns the address listened on.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.inner.address
    }

    /// Returns the client identifier.
    #[must_use]
    pub fn client_id(&self) -> &str {
        &self.inner.config.client_id
    }

    /// Returns the client secret; `None` for a public client.
    #[must_use]
    pub fn client_secret(&self) -> Option<&str> {
        self.inner.config.client_secret.as_deref()
    }

    /// Stops answering, though handles remain, and waits until the port is given back: a new
    /// provider may then listen on the same [`address`](Self::address).
    pub async fn stop(&self) {
        self.server.0.abort();
        while !self.server.0.is_finished() {
            tokio::task::yield_now().await;
        }
    }

    /// Adds a person, or replaces the one with the same `sub`.
    pub fn add_user(&self, user: TestUser) {
        let mut state = self.inner.state();
        state.users.retain(|known| known.sub != user.sub);
        state.users.push(user);
    }

    /// Signs this person in without a chooser from now on; `None` shows the chooser.
    pub fn set_auto_sign_in(&self, user: Option<&str>) {
        self.inner.state().auto_sign_in = user.map(str::to_owned);
    }

    /// Ends every browser's session at the provider, as if all cookies were lost.
    pub fn forget_sessions(&self) {
        self.inner.state().sessions.retain(|_, _| false);
    }

    /// Replaces all keys by fresh ones and signs with `alg`.
    pub fn rotate_keys(&self, alg: SigningAlg) {
        self.inner.state().rotate(alg);
    }

    /// Replaces all keys when the next token request arrives, before its ID Token is signed.
    pub fn rotate_keys_before_next_token(&self, alg: SigningAlg) {
        self.inner.faults().rotate_before_token = Some(alg);
    }

    /// Signs with `alg` from now on, keeping the keys; a key is added if none fits.
    pub fn set_signing_alg(&self, alg: SigningAlg) {
        self.inner.state().ring.set_alg(alg);
    }

    /// Returns the key that signs.
    #[must_use]
    pub fn signing_key(&self) -> SigningKey {
        self.inner.state().ring.current().clone()
    }

    /// Returns the published keys: RSA, P-256, Ed25519, and what else was asked for.
    #[must_use]
    pub fn published_keys(&self) -> Vec<SigningKey> {
        self.inner.state().ring.keys.clone()
    }

    /// Returns how often each endpoint was asked.
    #[must_use]
    pub fn counts(&self) -> Counts {
        self.inner.state().counts
    }

    /// Sets every count to zero and forgets the recorded requests.
    pub fn reset_counts(&self) {
        let mut state = self.inner.state();
        state.counts = Counts::default();
        state.requests.clear();
    }

    /// Returns the requests to an endpoint, oldest first; only the last 10 000 are kept.
    #[must_use]
    pub fn requests(&self, endpoint: Endpoint) -> Vec<RecordedRequest> {
        let state = self.inner.state();
        let requests = state.requests.get(&endpoint);
        requests.into_iter().flatten().cloned().collect()
    }

    /// Returns the requests to the token endpoint, oldest first.
    #[must_use]
    pub fn token_requests(&self) -> Vec<RecordedRequest> {
        self.requests(Endpoint::Token)
    }

    /// Returns the ID Tokens sent, oldest first; only the last 10 000 are kept.
    #[must_use]
    pub fn issued_id_tokens(&self) -> Vec<String> {
        self.inner.state().id_tokens.iter().cloned().collect()
    }
}

/// Faults. Each `on_…` replaces the hook set before; hooks run without a lock held.
impl TestProvider {
    /// Rewrites each ID Token before and after it is signed.
    pub fn on_id_token(&self, hook: impl Fn(&mut IdTokenDraft) + Send + Sync + 'static) {
        self.inner.faults().id_token = Some(Hook::new(hook));
    }

    /// Rewrites each successful answer of the token endpoint.
    pub fn on_token_response(
        &self,
        hook: impl Fn(&mut Map<String, Value>) + Send + Sync + 'static,
    ) {
        self.inner.faults().token_response = Some(Hook::new(hook));
    }

    /// Rewrites each successful answer of userinfo.
    pub fn on_userinfo(&self, hook: impl Fn(&mut Map<String, Value>) + Send + Sync + 'static) {
        self.inner.faults().userinfo = Some(Hook::new(hook));
    }

    /// Rewrites the discovery document.
    pub fn on_discovery(&self, hook: impl Fn(&mut Map<String, Value>) + Send + Sync + 'static) {
        self.inner.faults().discovery = Some(Hook::new(hook));
    }

    /// Rewrites the list of published keys.
    pub fn on_jwks(&self, hook: impl Fn(&mut Vec<Value>) + Send + Sync + 'static) {
        self.inner.faults().jwks = Some(Hook::new(hook));
    }

    /// Rewrites the parameters of each authorization response, successful or not.
    pub fn on_authorization_response(
        &self,
        hook: impl Fn(&mut Vec<(String, String)>) + Send + Sync + 'static,
    ) {
        self.inner.faults().authorization_response = Some(Hook::new(hook));
    }

    /// Rewrites the headers of each answer of an endpoint, whatever its behaviour.
    pub fn on_response_headers(
        &self,
        endpoint: Endpoint,
        hook: impl Fn(&mut HeaderMap) + Send + Sync + 'static,
    ) {
        self.inner.faults().headers.insert(endpoint, Hook::new(hook));
    }

    /// Sets how an endpoint answers from now on.
    pub fn set_behaviour(&self, endpoint: Endpoint, behaviour: Behaviour) {
        self.inner.faults().behaviours.insert(endpoint, behaviour);
    }

    /// Sets how every endpoint answers from now on.
    pub fn set_behaviour_everywhere(&self, behaviour: &Behaviour) {
        let mut faults = self.inner.faults();
        for endpoint in Endpoint::ALL {
            faults.behaviours.insert(endpoint, behaviour.clone());
        }
    }

    /// Removes all hooks and behaviours.
    pub fn clear_faults(&self) {
        let faults = std::mem::take(&mut *self.inner.faults());
        // Outside the lock: a hook may own the last handle of another provider, or of this one.
        drop::<Faults>(faults);
    }
}

/// Playing the browser. Each call is a browser of its own, without cookies; only path and query of
/// the URL matter, the request always goes to this provider.
impl TestProvider {
    /// Follows an authorization URL and returns where the browser is sent to: the person of
    /// [`set_auto_sign_in`](Self::set_auto_sign_in) agrees at once.
    ///
    /// # Errors
    ///
    /// When the provider answers with a page instead (chooser, error, form) or not at all.
    pub async fn authorize(&self, authorization_url: &str) -> io::Result<String> {
        driver::location(&self.inner, authorization_url, None).await
    }

    /// Like [`authorize`](Self::authorize), with this person; `deny` refuses.
    ///
    /// # Errors
    ///
    /// As [`authorize`](Self::authorize).
    pub async fn authorize_as(&self, authorization_url: &str, user: &str) -> io::Result<String> {
        driver::location(&self.inner, authorization_url, Some(user)).await
    }

    /// Like [`authorize`](Self::authorize) for `response_mode=form_post`: returns the form that
    /// the browser would post.
    ///
    /// # Errors
    ///
    /// When the provider answers with something else or not at all.
    pub async fn authorize_form(&self, authorization_url: &str) -> io::Result<FormPost> {
        driver::form(&self.inner, authorization_url, None).await
    }

    /// Like [`authorize_form`](Self::authorize_form), with this person; `deny` refuses.
    ///
    /// # Errors
    ///
    /// As [`authorize_form`](Self::authorize_form).
    pub async fn authorize_form_as(
        &self,
        authorization_url: &str,
        user: &str,
    ) -> io::Result<FormPost> {
        driver::form(&self.inner, authorization_url, Some(user)).await
    }
}

/// Reporting sign-outs (OpenID Connect Back-Channel Logout 1.0).
impl TestProvider {
    /// Makes a logout token for the client, as this provider would send it: typ `logout+jwt`, good
    /// for two minutes, a fresh `jti`, and neither `sub` nor `sid` yet. `edit` adds whom it is for,
    /// or spoils it.
    ///
    /// # Examples
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> std::io::Result<()> {
    /// use tower_pkce_auth::testing::provider::TestProvider;
    ///
    /// let provider = TestProvider::start().await?;
    /// let token = provider.logout_token(|token| token.set("sub", "alice"));
    /// assert_eq!(token.split('.').count(), 3);
    /// # Ok(()) }
    /// ```
    #[must_use]
    pub fn logout_token(&self, edit: impl FnOnce(&mut IdTokenDraft)) -> String {
        let mut draft = {
            let state = self.inner.state();
            let now = self.inner.now();
            let claims = endpoints::object(json!({
                "iss": self.inner.issuer,
                "aud": self.inner.config.client_id,
                "iat": now.as_secs(),
                "exp": (now + LOGOUT_TOKEN_LIFETIME).as_secs(),
                "jti": encoding::random_token(12),
                "events": {"http://schemas.openid.net/event/backchannel-logout": {}},
            }));
            let key = state.ring.current().clone();
            IdTokenDraft::new(state.ring.keys.clone(), key, claims, false)
        };
        draft.header.insert("typ".to_owned(), "logout+jwt".into());
        edit(&mut draft);
        draft.finish()
    }

    /// Posts a logout token to an `http` address, as providers do, and returns the status and the
    /// body of the answer.
    ///
    /// # Errors
    ///
    /// When nobody answers there.
    pub async fn send_logout_token(&self, url: &str, token: &str) -> io::Result<(u16, String)> {
        driver::post_logout_token(url, token).await
    }
}

const LOGOUT_TOKEN_LIFETIME: std::time::Duration = std::time::Duration::from_secs(120);

impl fmt::Debug for TestProvider {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TestProvider").field("issuer", &self.inner.issuer).finish_non_exhaustive()
    }
}

/// Stops the accept loop when dropped.
struct Server(AbortHandle);

impl Drop for Server {
    fn drop(&mut self) {
        self.0.abort();
    }
}
