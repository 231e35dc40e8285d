//! The provider's metadata: what of the discovery document is used, judged before anything is.

use serde_json::{Map, Value};
use url::Url;

use super::client_auth::ClientAuth;
use super::json::{object, text};
use crate::error::{AuthError, ErrorKind};
use crate::names::{InvalidName, Issuer, is_loopback};

/// Where the provider's endpoints are.
///
/// Given by hand they replace discovery altogether.
///
/// # Examples
///
/// ```
/// use tower_pkce_auth::Endpoints;
///
/// let endpoints = Endpoints::new(
///     "https://login.example/authorize",
///     "https://login.internal.example/token",
///     "https://login.internal.example/jwks",
/// )
/// .userinfo("https://login.internal.example/userinfo");
/// ```
#[derive(Clone, Debug, Eq, PartialEq)]
#[must_use]
pub struct Endpoints {
    pub(crate) authorization: String,
    pub(crate) token: String,
    pub(crate) jwks: String,
    pub(crate) userinfo: Option<String>,
    pub(crate) end_session: Option<String>,
    pub(crate) revocation: Option<String>,
    pub(crate) iss_parameter: bool,
}

impl Endpoints {
    /// Names the three endpoints a sign-in cannot do without.
    pub fn new(
        authorization: impl Into<String>,
        token: impl Into<String>,
        jwks: impl Into<String>,
    ) -> Self {
        Self {
            authorization: authorization.into(),
            token: token.into(),
            jwks: jwks.into(),
            userinfo: None,
            end_session: None,
            revocation: None,
            iss_parameter: false,
        }
    }

    /// Names the userinfo endpoint.
    pub fn userinfo(mut self, url: impl Into<String>) -> Self {
        self.userinfo = Some(url.into());
        self
    }

    /// Names the endpoint of RP-initiated logout.
    pub fn end_session(mut self, url: impl Into<String>) -> Self {
        self.end_session = Some(url.into());
        self
    }

    /// Names the endpoint of token revocation (RFC 7009).
    pub fn revocation(mut self, url: impl Into<String>) -> Self {
        self.revocation = Some(url.into());
        self
    }

    /// Says that the provider puts `iss` into its answers (RFC 9207); one without is then refused.
    pub const fn iss_parameter(mut self, supported: bool) -> Self {
        self.iss_parameter = supported;
        self
    }

    /// Judges the URLs, as those of a discovery document.
    pub(crate) fn judge(&self, allow_http: bool) -> Result<Metadata, InvalidName> {
        let url = |what, text: &str| {
            endpoint(text, allow_http).ok_or_else(|| {
                InvalidName::new(what, "an https URL without fragment is needed", text)
            })
        };
        let optional =
            |what, text: &Option<String>| text.as_deref().map(|text| url(what, text)).transpose();
        Ok(Metadata {
            authorization: url("authorization endpoint", &self.authorization)?,
            token: url("token endpoint", &self.token)?,
            jwks: url("JWKS URL", &self.jwks)?,
            userinfo: optional("userinfo endpoint", &self.userinfo)?,
            end_session: optional("end session endpoint", &self.end_session)?,
            revocation: optional("revocation endpoint", &self.revocation)?,
            iss_parameter: self.iss_parameter,
        })
    }
}

/// The part of the provider's metadata that is used, with every URL judged.
#[derive(Clone, Debug)]
pub(crate) struct Metadata {
    pub(crate) authorization: Url,
    pub(crate) token: Url,
    pub(crate) jwks: Url,
    pub(crate) userinfo: Option<Url>,
    pub(crate) end_session: Option<Url>,
    pub(crate) revocation: Option<Url>,
    /// Whether answers without `iss` are refused (RFC 9207 section 2.4).
    pub(crate) iss_parameter: bool,
}

impl Metadata {
    /// Reads a discovery document (OpenID Connect Discovery 1.0 section 4.3). Members that are not
    /// used may be of any type.
    pub(crate) fn parse(
        body: &[u8],
        issuer: &Issuer,
        auth: ClientAuth,
        allow_http: bool,
    ) -> Result<Self, AuthError> {
        let bad = |detail| AuthError::new(ErrorKind::ProviderError, detail);
        let document = object(body).ok_or_else(|| bad("discovery_malformed"))?;
        // Nothing of a document that names another issuer is used, not even for an error.
        if document.get("issuer").and_then(Value::as_str) != Some(issuer.as_str()) {
            return Err(bad("discovery_issuer").with_hint(
                "the issuer in the settings must equal the provider's, slash for slash",
            ));
        }
        let required = |name, detail| {
            text(&document, name)
                .and_then(|url| endpoint(url, allow_http))
                .ok_or_else(|| bad(detail))
        };
        let optional = |name: &'static str| {
            let given = text(&document, name)?;
            let url = endpoint(given, allow_http);
            if url.is_none() {
                tracing::warn!(member = name, "an endpoint of the provider is not usable");
            }
            url
        };
        let metadata = Self {
            authorization: required("authorization_endpoint", "discovery_authorization_endpoint")?,
            token: required("token_endpoint", "discovery_token_endpoint")?,
            jwks: required("jwks_uri", "discovery_jwks_uri")?,
            userinfo: optional("userinfo_endpoint"),
            end_session: optional("end_session_endpoint"),
            revocation: optional("revocation_endpoint"),
            iss_parameter: document.get("authorization_response_iss_parameter_supported")
                == Some(&Value::Bool(true)),
        };
        if lists(&document, "token_endpoint_auth_methods_supported", auth.name()) == Some(false) {
            return Err(bad("client_auth_not_supported")
                .with_hint("choose a client authentication that the provider lists"));
        }
        if lists(&document, "code_challenge_methods_supported", "S256") != Some(true) {
            tracing::debug!("the provider does not announce S256; it is used all the same");
        }
        Ok(metadata)
    }

    /// Moves what is called from here to where the provider is reached from here; what browsers
    /// visit stays.
    pub(crate) fn behind(mut self, issuer: &Issuer, internal: &Issuer) -> Self {
        let (Ok(public), Ok(internal)) =
            (Url::parse(issuer.as_str()), Url::parse(internal.as_str()))
        else {
            return self;
        };
        let called = [&mut self.token, &mut self.jwks]
            .into_iter()
            .chain(self.userinfo.as_mut())
            .chain(self.revocation.as_mut());
        for url in called {
            if url.origin() == public.origin() {
                moved(url, &public, &internal);
            }
        }
        self
    }
}

/// Replaces the origin, and the issuer's path where the URL lies under it.
fn moved(url: &mut Url, public: &Url, internal: &Url) {
    let bare = |url: &Url| url.path().trim_end_matches('/').to_owned();
    let under = url.path().strip_prefix(&bare(public)).filter(|rest| rest.starts_with('/'));
    let path = match under {
        Some(rest) => format!("{}{rest}", bare(internal)),
        None => url.path().to_owned(),
    };
    let mut target = internal.clone();
    target.set_path(&path);
    target.set_query(url.query());
    *url = target;
}

/// Tells whether a list of the document holds a value; `None` if there is no such list.
fn lists(document: &Map<String, Value>, name: &str, value: &str) -> Option<bool> {
    let list = document.get(name)?.as_array()?;
    (!list.is_empty()).then(|| list.iter().any(|item| item == value))
}

/// Reads an endpoint URL: https, or http on this machine where that is allowed; no fragment
/// (RFC 6749 section 3.1), no credentials.
fn endpoint(text: &str, allow_http: bool) -> Option<Url> {
    let url = Url::parse(text).ok()?;
    let scheme = match url.scheme() {
        "https" => true,
        "http" => allow_http && is_loopback(&url),
        _ => false,
    };
    let bare = url.fragment().is_none() && url.username().is_empty() && url.password().is_none();
    (scheme && bare && url.has_host()).then_some(url)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(change: impl Fn(&mut Map<String, Value>)) -> Result<Metadata, AuthError> {
        let mut document = serde_json::json!({
            "issuer": "https://op",
            "authorization_endpoint": "https://op/authorize?tenant=a%20b",
            "token_endpoint": "https://op/token",
            "jwks_uri": "https://op/jwks",
            "end_session_endpoint": "https://op/logout",
        });
        change(document.as_object_mut().unwrap());
        let issuer = "https://op".parse().unwrap();
        Metadata::parse(document.to_string().as_bytes(), &issuer, ClientAuth::Basic, false)
    }

    #[test]
    fn f02_f03_f05_f09_a_document_that_cannot_be_used_is_refused_with_its_reason() {
        for (member, value, detail) in [
            ("issuer", "https://op/", "discovery_issuer"),
            ("issuer", "https://OP", "discovery_issuer"),
            ("issuer", "https://op:443", "discovery_issuer"),
            ("issuer", "http://op", "discovery_issuer"),
            ("issuer", "https://opINVALID", "discovery_issuer"),
            ("authorization_endpoint", "http://op/a", "discovery_authorization_endpoint"),
            ("authorization_endpoint", "javascript:alert(1)", "discovery_authorization_endpoint"),
            ("authorization_endpoint", "https://op/a#f", "discovery_authorization_endpoint"),
            ("authorization_endpoint", "/a", "discovery_authorization_endpoint"),
            ("authorization_endpoint", "http://127.0.0.1/a", "discovery_authorization_endpoint"),
            ("token_endpoint", "", "discovery_token_endpoint"),
            ("token_endpoint", "http://op/t", "discovery_token_endpoint"),
            ("jwks_uri", "file:///etc/keys", "discovery_jwks_uri"),
        ] {
            let error = parse(|document| {
                document.insert(member.into(), value.into());
            })
            .unwrap_err();
            assert_eq!(error.detail(), detail, "{member} {value}");
        }
        for member in ["issuer", "authorization_endpoint", "token_endpoint", "jwks_uri"] {
            assert!(parse(|document| drop(document.remove(member))).is_err(), "{member}");
        }
    }

    #[test]
    fn only_what_is_called_from_here_moves_to_the_internal_issuer() {
        for (issuer, internal, token, expected) in [
            ("https://op", "https://in:8443", "https://op/token?a=b", "https://in:8443/token?a=b"),
            ("https://op/", "https://in/x/", "https://op/token", "https://in/x/token"),
            ("https://op/r/a", "https://in/r/a", "https://op/r/a/token", "https://in/r/a/token"),
            ("https://op/r/a", "https://in/b", "https://op/r/a/token", "https://in/b/token"),
            ("https://op/r/a", "https://in/b", "https://op/r/ab/token", "https://in/r/ab/token"),
            ("https://op/r/a", "https://in/r/a", "https://op/oauth", "https://in/oauth"),
            ("https://op", "https://in", "https://op:444/token", "https://op:444/token"),
            ("https://op", "https://in", "https://other/token", "https://other/token"),
        ] {
            let document = serde_json::json!({
                "issuer": issuer,
                "authorization_endpoint": "https://op/authorize",
                "token_endpoint": token,
                "jwks_uri": "https://op/jwks",
                "end_session_endpoint": "https://op/logout",
            });
            let (issuer, internal) = (issuer.parse().unwrap(), internal.parse().unwrap());
            let body = document.to_string();
            let metadata =
                Metadata::parse(body.as_bytes(), &issuer, ClientAuth::Basic, false).unwrap();
            let metadata = metadata.behind(&issuer, &internal);
            assert_eq!(metadata.token.as_str(), expected, "{issuer} {internal} {token}");
            assert_eq!(metadata.authorization.as_str(), "https://op/authorize");
            assert_eq!(metadata.end_session.unwrap().as_str(), "https://op/logout");
        }
    }

    #[test]
    fn f10_j11_odd_members_are_tolerated_and_odd_endpoints_left_out() {
        let metadata = parse(|document| {
            document.insert("scopes_supported".into(), Value::Null);
            document.insert("claims_supported".into(), serde_json::json!({}));
            document.insert("end_session_endpoint".into(), "http://op/logout".into());
            document.insert("userinfo_endpoint".into(), 5.into());
            document
                .insert("code_challenge_methods_supported".into(), serde_json::json!(["plain"]));
            for n in 0..10_000 {
                document.insert(format!("unknown{n}"), Value::Null);
            }
        })
        .unwrap();
        assert!(metadata.end_session.is_none() && metadata.userinfo.is_none());
    }

    #[test]
    fn d06_a_client_authentication_the_provider_does_not_list_is_refused() {
        let methods = |list: Value| {
            move |document: &mut Map<String, Value>| {
                document.insert("token_endpoint_auth_methods_supported".into(), list.clone());
            }
        };
        let error = parse(methods(serde_json::json!(["private_key_jwt"]))).unwrap_err();
        assert_eq!(error.detail(), "client_auth_not_supported");
        assert!(parse(methods(serde_json::json!(["client_secret_basic"]))).is_ok());
        assert!(parse(methods(serde_json::json!([]))).is_ok());
    }
}
