//! Who is signed in, as the inner service sees it.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
#[cfg(any(test, feature = "test-util"))]
use std::sync::LazyLock;
use std::task::{Context, Poll, ready};

use serde::de::DeserializeOwned;
use serde_json::{Map, Value};
use tokio::sync::watch;

use crate::clock::UnixTime;

/// The person a request is signed in as; the layer puts it into the request's extensions.
///
/// The principal is the pair of [`issuer`](Self::issuer) and [`subject`](Self::subject): everything
/// else may change, and may be the same for two people. It holds allow-listed claims only and no
/// token, so it can be logged and sent to templates.
///
/// # Examples
///
/// ```
/// use http::Request;
/// use tower_pkce_auth::Identity;
///
/// fn greet(request: &Request<()>) -> String {
///     match request.extensions().get::<Identity>() {
///         Some(identity) => format!("Hello {}", identity.name().unwrap_or(identity.subject())),
///         None => "Hello stranger".to_owned(),
///     }
/// }
/// # assert_eq!(greet(&Request::new(())), "Hello stranger");
/// ```
#[derive(Clone)]
pub struct Identity(Arc<dyn Principal>);

/// A session as an [`Identity`] sees it: who it is of, and how it stands.
pub(crate) trait Principal: Send + Sync {
    fn facts(&self) -> &Facts;

    /// Has the session watched; `None` if nobody can, so that it counts as over.
    fn watch(self: Arc<Self>) -> Option<watch::Receiver<Standing>>;
}

/// How a watched session stands.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Standing {
    /// It has not been looked at yet.
    Unjudged,
    Live,
    /// It has ended.
    Over,
    /// Nobody could tell for so long that it must not go on.
    Unknown,
}

impl Standing {
    pub(crate) const fn is_end(self) -> bool {
        matches!(self, Self::Over | Self::Unknown)
    }
}

/// Waits until a session stands as wanted; one that is not watched any more is over.
pub(crate) async fn wait_for(
    mut receiver: watch::Receiver<Standing>,
    wanted: fn(Standing) -> bool,
) -> (Standing, watch::Receiver<Standing>) {
    let standing = match receiver.wait_for(|standing| wanted(*standing)).await {
        Ok(standing) => *standing,
        Err(_) => Standing::Over,
    };
    (standing, receiver)
}

/// What is known of a person.
#[derive(Debug)]
pub(crate) struct Facts {
    issuer: Box<str>,
    subject: Box<str>,
    claims: Map<String, Value>,
    groups: Vec<String>,
    acr: Option<Box<str>>,
    authenticated_at: Option<UnixTime>,
    expires_at: UnixTime,
}

impl Facts {
    pub(crate) fn new(
        issuer: String,
        subject: String,
        claims: Map<String, Value>,
        acr: Option<String>,
        authenticated_at: Option<UnixTime>,
        expires_at: UnixTime,
    ) -> Self {
        // Only a list of strings is a list of groups; everything else grants nothing.
        let groups = match claims.get("groups") {
            Some(Value::Array(groups)) => {
                groups.iter().filter_map(Value::as_str).map(str::to_owned).collect()
            }
            _ => Vec::new(),
        };
        Self {
            issuer: issuer.into(),
            subject: subject.into(),
            claims,
            groups,
            acr: acr.map(Into::into),
            authenticated_at,
            expires_at,
        }
    }

    /// Returns the e-mail address, if the provider says that it has verified it.
    pub(crate) fn email(&self) -> Option<&str> {
        match self.claims.get("email_verified")? {
            Value::Bool(true) => self.text("email"),
            // Some providers write booleans as text.
            Value::String(text) if text == "true" => self.text("email"),
            _ => None,
        }
    }

    pub(crate) fn groups(&self) -> &[String] {
        &self.groups
    }

    fn text(&self, name: &str) -> Option<&str> {
        self.claims.get(name)?.as_str().filter(|text| !text.is_empty())
    }
}

/// Facts without a session are a principal for tests: its session never ends.
#[cfg(any(test, feature = "test-util"))]
impl Principal for Facts {
    fn facts(&self) -> &Facts {
        self
    }

    fn watch(self: Arc<Self>) -> Option<watch::Receiver<Standing>> {
        static LIVE: LazyLock<watch::Sender<Standing>> =
            LazyLock::new(|| watch::Sender::new(Standing::Live));
        Some(LIVE.subscribe())
    }
}

/// A future that is ready when a session has ended; see [`Identity::ended`].
///
/// Once it is ready it stays ready.
#[must_use = "futures do nothing unless polled"]
pub struct SessionEnded(Option<Pin<Box<dyn Future<Output = ()> + Send>>>);

impl Future for SessionEnded {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        if let Some(waiting) = &mut self.0 {
            ready!(waiting.as_mut().poll(cx));
            self.0 = None;
        }
        Poll::Ready(())
    }
}

impl fmt::Debug for SessionEnded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SessionEnded(..)")
    }
}

impl Identity {
    pub(crate) fn new(principal: Arc<dyn Principal>) -> Self {
        Self(principal)
    }

    fn facts(&self) -> &Facts {
        self.0.facts()
    }

    /// Returns a future that is ready when this session ends: for WebSockets and other connections
    /// that outlive their request. [`SessionGuardLayer`](crate::SessionGuardLayer) does the same
    /// for response bodies.
    ///
    /// A session ends by a sign-out on this pod at once; by one on another pod that shares the
    /// store, by time, or because the access rules let this person in no more, within a second or
    /// two. Idleness counts too: what keeps a session alive is requests, not what flows over an open
    /// connection. A stored session is known to be in use on
    /// other pods; of a sealed one only the requests to this pod are, so that a connection may have
    /// to be made anew with the newer cookie. While the store is away connections go on for the
    /// revocation grace, counted from the last look that succeeded.
    ///
    /// # Panics
    ///
    /// The future, if it is polled outside a Tokio runtime.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::time::Duration;
    /// use tower_pkce_auth::Identity;
    ///
    /// async fn tick(identity: Identity) {
    ///     let mut ended = identity.ended();
    ///     let mut ticks = tokio::time::interval(Duration::from_secs(1));
    ///     loop {
    ///         tokio::select! {
    ///             () = &mut ended => return,
    ///             _ = ticks.tick() => { /* send something */ }
    ///         }
    ///     }
    /// }
    /// ```
    pub fn ended(&self) -> SessionEnded {
        let principal = self.0.clone();
        SessionEnded(Some(Box::pin(async move {
            if let Some(receiver) = principal.watch() {
                wait_for(receiver, Standing::is_end).await;
            }
        })))
    }

    /// Has the session watched.
    pub(crate) fn watch(&self) -> Option<watch::Receiver<Standing>> {
        self.0.clone().watch()
    }

    /// Returns the provider's identifier for this person (`sub`), unique within the issuer.
    #[must_use]
    pub fn subject(&self) -> &str {
        &self.facts().subject
    }

    /// Returns the provider that vouches for this person (`iss`).
    #[must_use]
    pub fn issuer(&self) -> &str {
        &self.facts().issuer
    }

    /// Returns the e-mail address, only where the provider says that it has verified it.
    #[must_use]
    pub fn email(&self) -> Option<&str> {
        self.facts().email()
    }

    /// Returns the name to show: `name`, else `preferred_username`. It identifies nobody.
    #[must_use]
    pub fn name(&self) -> Option<&str> {
        let facts = self.facts();
        facts.text("name").or_else(|| facts.text("preferred_username"))
    }

    /// Returns the groups (claim `groups`), empty where the claim is no list of strings.
    #[must_use]
    pub fn groups(&self) -> &[String] {
        self.facts().groups()
    }

    /// Returns a claim by its path (`"address.country"`), if it is of type `T`.
    #[must_use]
    pub fn claim<T: DeserializeOwned>(&self, path: &str) -> Option<T> {
        // A name may itself hold dots, as URLs do.
        let value = self.facts().claims.get(path).or_else(|| {
            let mut names = path.split('.');
            let first = self.facts().claims.get(names.next()?)?;
            names.try_fold(first, |value, name| value.get(name))
        })?;
        T::deserialize(value).ok()
    }

    /// Returns all allow-listed claims.
    #[must_use]
    pub fn claims(&self) -> &Map<String, Value> {
        &self.facts().claims
    }

    /// Returns when the person authenticated at the provider, if it says so.
    #[must_use]
    pub fn authenticated_at(&self) -> Option<UnixTime> {
        self.facts().authenticated_at
    }

    /// Returns when this session ends whatever happens; idleness may end it earlier.
    #[must_use]
    pub fn expires_at(&self) -> UnixTime {
        self.facts().expires_at
    }

    /// Returns the authentication context class, if the provider names one.
    #[must_use]
    pub fn acr(&self) -> Option<&str> {
        self.facts().acr.as_deref()
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Identity")
            .field("issuer", &self.facts().issuer)
            .field("subject", &self.facts().subject)
            .field("expires_at", &self.facts().expires_at)
            .finish_non_exhaustive()
    }
}

/// Claims that say something only together: taking one from here and one from there would let a
/// verification vouch for another address.
const TOGETHER: &[[&str; 2]] =
    &[["email", "email_verified"], ["phone_number", "phone_number_verified"]];

/// Joins the claims of an ID token with those of userinfo, which is newer where both speak, and
/// keeps the wanted ones.
pub(crate) fn join_claims(
    mut claims: Map<String, Value>,
    userinfo: Map<String, Value>,
    wanted: &[String],
) -> Map<String, Value> {
    for pair in TOGETHER {
        if pair.iter().any(|name| userinfo.contains_key(*name)) {
            for name in pair {
                claims.remove(*name);
            }
        }
    }
    claims.extend(userinfo);
    claims.retain(|name, value| {
        let empty = value.is_null() || value.as_str().is_some_and(str::is_empty);
        !empty && wanted.iter().any(|wanted| wanted == name)
    });
    claims
}

/// The claims an application sees unless it asks for more.
pub(crate) const DEFAULT_CLAIMS: &[&str] = &[
    "amr",
    "email",
    "email_verified",
    "family_name",
    "given_name",
    "groups",
    "locale",
    "name",
    "nickname",
    "picture",
    "preferred_username",
    "roles",
    "zoneinfo",
];

#[cfg(test)]
mod tests {
    use super::*;

    fn identity(claims: Value) -> Identity {
        let Value::Object(claims) = claims else { panic!("an object") };
        let end = UnixTime::from_secs(0);
        Identity::new(Arc::new(Facts::new(
            "https://op".into(),
            "s".into(),
            claims,
            None,
            None,
            end,
        )))
    }

    #[test]
    fn e45_odd_types_grant_nothing() {
        for claims in [
            serde_json::json!({"email": {}, "email_verified": true, "groups": "admin", "name": null}),
            serde_json::json!({"email": "a@b", "email_verified": 1, "groups": {"admin": 1}, "name": ""}),
            serde_json::json!({"email": "a@b", "email_verified": "yes", "groups": [1, null]}),
            serde_json::json!({"email": "a@b", "email_verified": false}),
            serde_json::json!({"email": "a@b"}),
        ] {
            let identity = identity(claims.clone());
            assert_eq!(identity.email(), None, "{claims}");
            assert!(identity.groups().is_empty(), "{claims}");
            assert_eq!(identity.name(), None, "{claims}");
        }
    }

    #[test]
    fn an_address_and_its_verification_come_from_one_source() {
        let map = |value: Value| value.as_object().cloned().unwrap();
        let wanted = ["email".to_owned(), "email_verified".to_owned()];
        for (id, userinfo, email) in [
            (
                serde_json::json!({"email": "a", "email_verified": true}),
                serde_json::json!({}),
                Some("a"),
            ),
            (
                serde_json::json!({"email": "a", "email_verified": true}),
                serde_json::json!({"email": "b"}),
                None,
            ),
            (serde_json::json!({"email": "a"}), serde_json::json!({"email_verified": true}), None),
            (
                serde_json::json!({"email": "a"}),
                serde_json::json!({"email": "b", "email_verified": true}),
                Some("b"),
            ),
        ] {
            let joined = join_claims(map(id), map(userinfo), &wanted);
            assert_eq!(identity(Value::Object(joined)).email(), email);
        }
    }

    #[test]
    fn claims_are_found_by_path_and_by_name() {
        let identity = identity(serde_json::json!({
            "address": {"country": "NL"}, "https://x.y/z": 5, "groups": ["a", "b"],
        }));
        assert_eq!(identity.claim::<String>("address.country").as_deref(), Some("NL"));
        assert_eq!(identity.claim::<u8>("https://x.y/z"), Some(5));
        assert_eq!(identity.claim::<u8>("address.country"), None);
        assert_eq!(identity.groups(), ["a", "b"]);
    }
}
