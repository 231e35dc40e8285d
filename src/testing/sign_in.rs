//! Being signed in without a provider, for tests of the application behind the layer.

use std::sync::Arc;
use std::time::Duration;

use http::header::{COOKIE, HeaderValue};
use http::{HeaderMap, Request};
use serde_json::{Map, Value};

use crate::clock::{Clock, SystemClock, UnixTime};
use crate::identity::{Facts, Identity};
use crate::layer::PkceAuthLayer;
use crate::session::establish::Login;

/// Somebody who is signed in, for tests of an application: the counterpart of a login.
///
/// The session is a real one of the layer, with its lifetimes; only the provider was not asked.
///
/// # Examples
///
/// ```
/// use tower::{Layer as _, ServiceExt as _, service_fn};
/// use tower_pkce_auth::{ClientId, Identity, PkceAuthLayer, testing::SignedIn};
/// use http::{Request, Response};
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let layer = PkceAuthLayer::builder(
///     "http://localhost:1".parse()?,
///     ClientId::new("app"),
///     "http://localhost".parse()?,
/// )
/// .public_client()
/// .build()?;
/// let app = layer.layer(service_fn(|request: Request<String>| async move {
///     let identity = request.extensions().get::<Identity>().cloned();
///     let who = identity.map(|identity| identity.subject().to_owned());
///     Ok::<_, std::convert::Infallible>(Response::new(bytes::Bytes::from(who.unwrap_or_default())))
/// }));
///
/// let mut request = Request::new(String::new());
/// let anonymous = app.clone().oneshot(request.clone()).await?;
/// assert_eq!(anonymous.status(), 401);
///
/// SignedIn::new("alice").group("admin").apply(&layer, &mut request).await;
/// let response = app.oneshot(request).await?;
/// assert_eq!(response.into_body(), "alice");
/// # Ok(()) }
/// ```
#[derive(Clone, Debug)]
#[must_use]
pub struct SignedIn {
    subject: String,
    claims: Map<String, Value>,
    acr: Option<String>,
    auth_time: Option<UnixTime>,
}

impl SignedIn {
    /// Signs in the person with this subject.
    pub fn new(subject: impl Into<String>) -> Self {
        Self { subject: subject.into(), claims: Map::new(), acr: None, auth_time: None }
    }

    /// Adds a verified e-mail address.
    pub fn email(self, email: impl Into<String>) -> Self {
        self.claim("email", email.into()).claim("email_verified", true)
    }

    /// Adds a name.
    pub fn name(self, name: impl Into<String>) -> Self {
        self.claim("name", name.into())
    }

    /// Adds a group.
    pub fn group(mut self, group: impl Into<String>) -> Self {
        let groups = self.claims.entry("groups").or_insert_with(|| Value::Array(Vec::new()));
        if let Value::Array(groups) = groups {
            groups.push(Value::String(group.into()));
        }
        self
    }

    /// Adds a claim, whether or not the layer's settings would pass it on.
    pub fn claim(mut self, name: impl Into<String>, value: impl Into<Value>) -> Self {
        self.claims.insert(name.into(), value.into());
        self
    }

    /// Sets the authentication context class.
    pub fn acr(mut self, acr: impl Into<String>) -> Self {
        self.acr = Some(acr.into());
        self
    }

    /// Sets when the person authenticated.
    pub const fn authenticated_at(mut self, at: UnixTime) -> Self {
        self.auth_time = Some(at);
        self
    }

    /// Returns the identity alone, for tests of a handler without the layer: put it into the
    /// extensions of a request. The issuer is `https://issuer.test`, the session ends in an hour.
    #[must_use]
    pub fn identity(&self) -> Identity {
        Identity::new(Arc::new(Facts::new(
            "https://issuer.test".to_owned(),
            self.subject.clone(),
            self.claims.clone(),
            self.acr.clone(),
            self.auth_time,
            SystemClock.now() + Duration::from_secs(3600),
        )))
    }

    /// Makes the session and returns the value of a `Cookie` header for it.
    ///
    /// # Panics
    ///
    /// If the session cannot be made: the claims are too large for cookies, or the store is away.
    pub async fn cookie<R>(&self, layer: &PkceAuthLayer<R>) -> HeaderValue {
        let login = Login {
            subject: self.subject.clone(),
            sid: None,
            acr: self.acr.clone(),
            auth_time: self.auth_time,
            claims: self.claims.clone(),
            session_expiry: None,
            begun: layer.core.keeper.revocation().counter().await.ok(),
            id_token: "test".to_owned(),
            nonce: "test".to_owned(),
            refresh: None,
        };
        let set = layer.core.keeper.establish(login, &HeaderMap::new()).await;
        let set = set.unwrap_or_else(|error| panic!("a test session can be made: {error}"));
        let pairs: Vec<&str> =
            set.iter().filter_map(|value| value.to_str().ok()?.split(';').next()).collect();
        HeaderValue::from_str(&pairs.join("; ")).expect("cookies are header text")
    }

    /// Adds the session to a request.
    ///
    /// # Panics
    ///
    /// As [`SignedIn::cookie`].
    pub async fn apply<R, B>(&self, layer: &PkceAuthLayer<R>, request: &mut Request<B>) {
        let cookie = self.cookie(layer).await;
        request.headers_mut().append(COOKIE, cookie);
    }
}
