//! The words a configuration is made of, each parsed once at the edge.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use url::{Host, Url};

/// A text that does not name what it should.
///
/// It says what was expected and repeats the text, which comes from the configuration.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct InvalidName {
    what: &'static str,
    why: &'static str,
    value: String,
}

impl InvalidName {
    pub(crate) fn new(what: &'static str, why: &'static str, value: &str) -> Self {
        Self { what, why, value: value.chars().take(200).collect() }
    }
}

impl fmt::Display for InvalidName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {:?}: {}", self.what, self.value, self.why)
    }
}

impl std::error::Error for InvalidName {}

/// The provider's issuer identifier, kept byte for byte (OpenID Connect Discovery 1.0 section 3).
///
/// It is compared as an exact string, never normalised: a trailing slash counts.
///
/// # Examples
///
/// ```
/// use tower_pkce_auth::Issuer;
///
/// let issuer: Issuer = "https://login.example/tenant/".parse()?;
/// assert_eq!(issuer.as_str(), "https://login.example/tenant/");
/// assert!("https://login.example/?tenant=a".parse::<Issuer>().is_err());
/// assert!("login.example".parse::<Issuer>().is_err());
/// # Ok::<_, tower_pkce_auth::InvalidName>(())
/// ```
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub struct Issuer(Arc<str>);

impl Issuer {
    /// Returns the identifier as it was given.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Returns where the provider's configuration lies: one terminating `/` is removed first
    /// (OpenID Connect Discovery 1.0 section 4.1).
    pub(crate) fn discovery_url(&self) -> String {
        let base = self.0.strip_suffix('/').unwrap_or(&self.0);
        format!("{base}/.well-known/openid-configuration")
    }

    /// Returns scheme, host and port, as browsers write them.
    pub(crate) fn origin(&self) -> String {
        Url::parse(&self.0).map(|url| url.origin().ascii_serialization()).unwrap_or_default()
    }
}

impl fmt::Display for Issuer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for Issuer {
    type Err = InvalidName;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let bad = |why| InvalidName::new("issuer", why, text);
        let url = Url::parse(text).map_err(|_| bad("not an absolute URL"))?;
        if !matches!(url.scheme(), "https" | "http") {
            return Err(bad("only https (http on a loopback address) names an issuer"));
        }
        if url.query().is_some() || url.fragment().is_some() {
            return Err(bad("an issuer has no query and no fragment"));
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err(bad("an issuer holds no credentials"));
        }
        if text.contains(['{', '}']) || text.contains("%7B") || text.contains("%7b") {
            return Err(bad("a templated issuer would accept every tenant; name the tenant"));
        }
        if text.bytes().any(|b| b <= b' ' || b == 0x7f) {
            return Err(bad("white space and control characters are not part of an issuer"));
        }
        Ok(Self(text.into()))
    }
}

/// The identifier under which this application is registered at the provider (RFC 6749 section 2.2).
///
/// # Examples
///
/// ```
/// let client = tower_pkce_auth::ClientId::new("dashboard");
/// assert_eq!(client.as_str(), "dashboard");
/// ```
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub struct ClientId(Arc<str>);

impl ClientId {
    /// Takes the identifier as the provider issued it.
    #[must_use]
    pub fn new(id: impl Into<String>) -> Self {
        Self(id.into().into())
    }

    /// Returns the identifier.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ClientId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Where browsers reach the application: the only source of its own origin.
///
/// `Host` and `X-Forwarded-*` never decide anything. The path is the *mount*: with
/// `https://intranet.example/app` the layer sits inside `nest_service("/app", …)`, and the mount is put
/// before the redirect URI, return targets and links. `localhost` and `127.0.0.1` are two hosts to a
/// browser: it keeps the cookies of the one that is named here.
///
/// # Examples
///
/// ```
/// use tower_pkce_auth::PublicUrl;
///
/// let url: PublicUrl = "https://intranet.example/app".parse()?;
/// assert_eq!(url.origin(), "https://intranet.example");
/// assert_eq!(url.mount(), "/app");
/// assert!("https://intranet.example/?x".parse::<PublicUrl>().is_err());
/// # Ok::<_, tower_pkce_auth::InvalidName>(())
/// ```
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub struct PublicUrl {
    origin: Arc<str>,
    mount: Arc<str>,
    https: bool,
    loopback: bool,
}

impl PublicUrl {
    /// Returns scheme, host and port as browsers write them in `Origin`.
    #[must_use]
    pub fn origin(&self) -> &str {
        &self.origin
    }

    /// Returns the path under which the application is mounted; empty at the root.
    #[must_use]
    pub fn mount(&self) -> &str {
        &self.mount
    }

    pub(crate) const fn is_https(&self) -> bool {
        self.https
    }

    pub(crate) const fn is_loopback(&self) -> bool {
        self.loopback
    }

    /// Returns the absolute URL of a path below the mount.
    pub(crate) fn absolute(&self, path: &str) -> String {
        format!("{}{}{path}", self.origin, self.mount)
    }
}

impl fmt::Display for PublicUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.origin, self.mount)
    }
}

impl FromStr for PublicUrl {
    type Err = InvalidName;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let bad = |why| InvalidName::new("public URL", why, text);
        let url = Url::parse(text).map_err(|_| bad("not an absolute URL"))?;
        if !matches!(url.scheme(), "https" | "http") {
            return Err(bad("only http and https URLs are public URLs"));
        }
        if url.query().is_some() || url.fragment().is_some() {
            return Err(bad("a public URL has no query and no fragment"));
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err(bad("a public URL holds no credentials"));
        }
        let mount = url.path().trim_end_matches('/');
        if mount.contains("//") || mount.contains(['%', ';', '\\']) {
            return Err(bad("the path may hold plain segments only"));
        }
        Ok(Self {
            origin: url.origin().ascii_serialization().into(),
            mount: mount.into(),
            https: url.scheme() == "https",
            loopback: is_loopback(&url),
        })
    }
}

/// Tells whether a URL points at this machine by its literal name.
pub(crate) fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(Host::Domain(name)) => name == "localhost",
        Some(Host::Ipv4(ip)) => ip.is_loopback(),
        Some(Host::Ipv6(ip)) => ip.is_loopback(),
        None => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn f01_the_discovery_url_drops_one_slash() {
        for (issuer, url) in [
            ("https://op", "https://op/.well-known/openid-configuration"),
            ("https://op/", "https://op/.well-known/openid-configuration"),
            ("https://op/a/x/", "https://op/a/x/.well-known/openid-configuration"),
            ("https://op/a//", "https://op/a//.well-known/openid-configuration"),
        ] {
            assert_eq!(issuer.parse::<Issuer>().unwrap().discovery_url(), url);
        }
    }

    #[test]
    fn e48_templated_issuers_are_refused() {
        assert!("https://op/{tenantid}/v2.0".parse::<Issuer>().is_err());
    }

    #[test]
    fn public_urls_are_origins_and_mounts() {
        for (text, origin, mount) in [
            ("https://a.example", "https://a.example", ""),
            ("https://A.example:443/", "https://a.example", ""),
            ("https://a.example:8443/app/", "https://a.example:8443", "/app"),
            ("http://127.0.0.1:80/x/y", "http://127.0.0.1", "/x/y"),
        ] {
            let url: PublicUrl = text.parse().unwrap();
            assert_eq!((url.origin(), url.mount()), (origin, mount), "{text}");
        }
        for bad in ["ftp://a", "a.example", "https://u:p@a", "https://a/#x", "https://a/%2f"] {
            assert!(bad.parse::<PublicUrl>().is_err(), "{bad}");
        }
    }
}
