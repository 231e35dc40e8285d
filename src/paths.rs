//! Which requests are ours, open, optional or protected, judged by the path *as received*.
//!
//! The inner service may decode or normalise a path in ways this layer cannot know. So a rule
//! matches bytes, segment by segment, and a path that any normalisation would change is never open
//! and never ours: it is protected.

use std::fmt;
use std::str::FromStr;

use http::Method;

use crate::names::InvalidName;

/// One of the endpoints this layer serves itself, below its prefix.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Endpoint {
    BackchannelLogout,
    Callback,
    FrontchannelLogout,
    HealthLive,
    HealthReady,
    Login,
    Logout,
    Session,
    SignedOut,
}

/// How a request is treated.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Class {
    /// Passed on, nothing is looked up.
    Open,
    /// The session is looked up, nobody is refused for want of one.
    Optional,
    /// Served by this layer.
    Ours(Endpoint),
    /// Passed on with a live session only.
    Protected,
}

/// A path, or everything below one, with an optional method: `/about`, `/assets/*`, `GET /health`.
///
/// `prefix/*` matches the prefix itself and everything below it, on segment boundaries:
/// `/assets/*` matches `/assets`, `/assets/` and `/assets/app.css`, never `/assets.evil`.
///
/// # Security
///
/// The path is compared byte for byte as it was received. An encoded or unusual spelling never
/// matches, so that it is protected even where the inner service would read it as the same path.
///
/// # Examples
///
/// ```
/// use tower_pkce_auth::PathRule;
///
/// assert!("/assets/*".parse::<PathRule>().is_ok());
/// assert!("GET /health".parse::<PathRule>().is_ok());
/// assert!("assets".parse::<PathRule>().is_err());
/// assert!("/a/*/b".parse::<PathRule>().is_err());
/// ```
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub struct PathRule {
    method: Option<Method>,
    path: Box<str>,
    below: bool,
}

impl PathRule {
    fn matches(&self, method: &Method, path: &str) -> bool {
        if self.method.as_ref().is_some_and(|only| only != method) {
            return false;
        }
        if !self.below {
            return path == &*self.path;
        }
        match path.strip_prefix(&*self.path) {
            Some(rest) => rest.is_empty() || rest.starts_with('/'),
            None => false,
        }
    }
}

impl fmt::Display for PathRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(method) = &self.method {
            write!(f, "{method} ")?;
        }
        write!(f, "{}{}", self.path, if self.below { "/*" } else { "" })
    }
}

impl FromStr for PathRule {
    type Err = InvalidName;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let bad = |why| InvalidName::new("path rule", why, text);
        let (method, path) = match text.split_once(' ') {
            Some((method, path)) => {
                let method = Method::from_str(method).map_err(|_| bad("not a method"))?;
                (Some(method), path)
            }
            None => (None, text),
        };
        let (path, below) = match path.strip_suffix("/*") {
            Some(prefix) => (prefix, true),
            None => (path, false),
        };
        if !(path.starts_with('/') || (below && path.is_empty())) {
            return Err(bad("a rule begins with a slash"));
        }
        if path.contains('*') {
            return Err(bad("a star stands only at the end, after a slash"));
        }
        if !path.is_empty() && !is_plain(path) {
            return Err(bad("a rule is a plain path; such a path would never match"));
        }
        Ok(Self { method, path: path.into(), below })
    }
}

/// The table that classifies requests.
#[derive(Clone, Debug)]
pub(crate) struct Paths {
    prefix: Box<str>,
    open: Vec<PathRule>,
    optional: Vec<PathRule>,
    health: bool,
    backchannel: bool,
    frontchannel: bool,
}

impl Paths {
    pub(crate) fn new(
        prefix: &str,
        open: Vec<PathRule>,
        optional: Vec<PathRule>,
        health: bool,
    ) -> Self {
        let (backchannel, frontchannel) = (false, false);
        Self { prefix: prefix.into(), open, optional, health, backchannel, frontchannel }
    }

    /// Serves the endpoints by which the provider ends sessions, or one of them.
    pub(crate) const fn with_logouts(mut self, backchannel: bool, frontchannel: bool) -> Self {
        self.backchannel = backchannel;
        self.frontchannel = frontchannel;
        self
    }

    /// Classifies a request; `path` is the path of the request target, undecoded.
    pub(crate) fn classify(&self, method: &Method, path: &str) -> Class {
        if !is_plain(path) {
            return Class::Protected;
        }
        if let Some(rest) = path.strip_prefix(&*self.prefix)
            && let Some(endpoint) = self.endpoint(rest)
        {
            return Class::Ours(endpoint);
        }
        // CONNECT and TRACE speak of more than this path; they are never open.
        if method == Method::CONNECT || method == Method::TRACE {
            return Class::Protected;
        }
        let any = |rules: &[PathRule]| rules.iter().any(|rule| rule.matches(method, path));
        if any(&self.open) {
            Class::Open
        } else if any(&self.optional) {
            Class::Optional
        } else {
            Class::Protected
        }
    }

    fn endpoint(&self, rest: &str) -> Option<Endpoint> {
        Some(match rest {
            "/backchannel-logout" if self.backchannel => Endpoint::BackchannelLogout,
            "/callback" => Endpoint::Callback,
            "/frontchannel-logout" if self.frontchannel => Endpoint::FrontchannelLogout,
            "/health/live" if self.health => Endpoint::HealthLive,
            "/health/ready" if self.health => Endpoint::HealthReady,
            "/login" => Endpoint::Login,
            "/logout" => Endpoint::Logout,
            "/session" => Endpoint::Session,
            "/signed-out" => Endpoint::SignedOut,
            _ => return None,
        })
    }
}

/// Tells whether no normalisation would change this path.
///
/// Not plain: no leading slash, an empty or dot segment, a backslash, a semicolon, a byte outside
/// printable ASCII, a percent sign that is no escape, an escape of one of `% . / \ ; ? #` or of a
/// control character, escapes that are no UTF-8.
pub(crate) fn is_plain(path: &str) -> bool {
    let bytes = path.as_bytes();
    if bytes.first() != Some(&b'/') {
        return false;
    }
    // The common case, decided in one pass: nothing that asks for a closer look.
    let (mut seen, mut doubled, mut previous) = (0, 0, 0);
    for &byte in bytes {
        let marks = MARKS[usize::from(byte)];
        seen |= marks;
        doubled |= previous & marks;
        previous = marks;
    }
    if seen & NEVER != 0 || doubled & SLASH != 0 {
        return false;
    }
    seen & CLOSER == 0 || (!has_dot_segment(path) && escapes_are_harmless(bytes))
}

/// A byte that no plain path has.
const NEVER: u8 = 1;
/// A byte that asks for a closer look.
const CLOSER: u8 = 2;
const SLASH: u8 = 4;

/// What there is to say of each byte of a path.
const MARKS: &[u8; 256] = &{
    let mut marks = [0; 256];
    let mut byte: u8 = 0;
    loop {
        marks[byte as usize] = match byte {
            0..=b' ' | 0x7f.. | b'\\' | b';' | b'#' | b'?' => NEVER,
            b'.' | b'%' => CLOSER,
            b'/' => SLASH,
            _ => 0,
        };
        if byte == u8::MAX {
            break marks;
        }
        byte += 1;
    }
};

fn has_dot_segment(path: &str) -> bool {
    path.split('/').any(|segment| matches!(segment, "." | ".."))
}

/// Reads the escapes without allocating: what they decode to must be harmless and UTF-8.
fn escapes_are_harmless(bytes: &[u8]) -> bool {
    // A character that is being put together; everything unescaped is ASCII.
    let (mut partial, mut length) = ([0; 4], 0);
    let mut rest = bytes;
    while let Some((&byte, tail)) = rest.split_first() {
        rest = tail;
        if byte != b'%' {
            if length > 0 {
                return false;
            }
            continue;
        }
        let (Some(high), Some(low)) = (hex(rest.first()), hex(rest.get(1))) else {
            return false;
        };
        rest = &rest[2..];
        let byte = high << 4 | low;
        if byte < 0x80 {
            if length > 0
                || matches!(byte, 0..=0x1f | 0x7f | b'%' | b'.' | b'/' | b'\\' | b';' | b'?' | b'#')
            {
                return false;
            }
            continue;
        }
        partial[length] = byte;
        length += 1;
        match std::str::from_utf8(&partial[..length]) {
            Ok(_) => length = 0,
            Err(error) if error.error_len().is_none() && length < 4 => {}
            Err(_) => return false,
        }
    }
    length == 0
}

fn hex(digit: Option<&u8>) -> Option<u8> {
    char::from(*digit?).to_digit(16).and_then(|d| u8::try_from(d).ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn paths(open: &[&str], optional: &[&str]) -> Paths {
        let rules = |rules: &[&str]| rules.iter().map(|rule| rule.parse().unwrap()).collect();
        Paths::new("/auth", rules(open), rules(optional), false)
    }

    #[test]
    fn m07_a_path_that_normalisation_would_change_is_protected() {
        let paths = paths(&["/*"], &[]);
        for path in [
            "",
            "*",
            "admin",
            "example.com:443",
            "//",
            "//admin",
            "/public//x",
            "/.",
            "/..",
            "/public/..",
            "/public/../admin",
            "/public/./x",
            "/public/%2e%2e/admin",
            "/public/%2E./admin",
            "/public%2f..%2fadmin",
            "/public%2Fx",
            "/public%5cx",
            "/public\\x",
            "/admin;/public",
            "/admin;x=1",
            "/admin%3bx",
            "/admin%23/public",
            "/admin%3f/public",
            "/admin%00",
            "/admin%0a",
            "/admin%7f",
            "/a%",
            "/a%2",
            "/a%zz",
            "/a%252e%252e/admin",
            "/%c0%ae%c0%ae/admin",
            "/%ff",
            "/%e5%90",
            "/%e5x",
            "/%e5%41",
            "/%f8%88%80%80%80",
            "/é",
            "/a b",
            "/a\u{1}",
            "/%2e",
            "/a/%2e",
        ] {
            assert_eq!(paths.classify(&Method::GET, path), Class::Protected, "{path:?}");
        }
        for path in [
            "/",
            "/a",
            "/a/",
            "/a.b",
            "/.a",
            "/...",
            "/a%20b",
            "/%E5%90%8D",
            "/%F0%9F%98%80%C3%A9",
            "/~a@b:c!$&'()*+,=",
        ] {
            assert_eq!(paths.classify(&Method::GET, path), Class::Open, "{path:?}");
        }
    }

    #[test]
    fn m08_rules_end_at_segments_and_methods() {
        let paths = paths(&["/public/*", "GET /health", "/exact"], &["/opt"]);
        for (method, path, class) in [
            ("GET", "/public", Class::Open),
            ("POST", "/public/", Class::Open),
            ("GET", "/public/a/b", Class::Open),
            ("GET", "/publicadmin", Class::Protected),
            ("GET", "/public.evil", Class::Protected),
            ("GET", "/%70ublic", Class::Protected),
            ("GET", "/PUBLIC", Class::Protected),
            ("GET", "/health", Class::Open),
            ("POST", "/health", Class::Protected),
            ("GET", "/health/", Class::Protected),
            ("GET", "/exact", Class::Open),
            ("GET", "/exact/", Class::Protected),
            ("GET", "/opt", Class::Optional),
            ("GET", "/opt/x", Class::Protected),
            ("CONNECT", "/public/x", Class::Protected),
            ("TRACE", "/public/x", Class::Protected),
            ("GET", "/grpc.health.v1.Health/CheckX", Class::Protected),
        ] {
            let method = method.parse().unwrap();
            assert_eq!(paths.classify(&method, path), class, "{method} {path}");
        }
    }

    #[test]
    fn the_provider_s_endpoints_are_ours_only_where_they_are_mounted() {
        for (back, front) in [(false, false), (true, false), (false, true)] {
            let paths = paths(&[], &[]).with_logouts(back, front);
            for (path, mounted, endpoint) in [
                ("/auth/backchannel-logout", back, Endpoint::BackchannelLogout),
                ("/auth/frontchannel-logout", front, Endpoint::FrontchannelLogout),
            ] {
                let class = if mounted { Class::Ours(endpoint) } else { Class::Protected };
                assert_eq!(paths.classify(&Method::POST, path), class, "{path}");
                let below = format!("{path}/");
                assert_eq!(paths.classify(&Method::POST, &below), Class::Protected, "{below}");
            }
        }
    }

    #[test]
    fn c01_only_the_exact_path_is_ours() {
        let paths = paths(&[], &[]);
        assert_eq!(paths.classify(&Method::GET, "/auth/callback"), Class::Ours(Endpoint::Callback));
        for path in [
            "/auth/callback/",
            "/auth//callback",
            "/AUTH/CALLBACK",
            "/auth%2fcallback",
            "/auth",
            "/auth/callback-anything",
            "/auth/callbackx",
            "/xauth/callback",
            "/auth/health/live",
            "/auth/%63allback",
            "/./auth/callback",
        ] {
            assert_eq!(paths.classify(&Method::GET, path), Class::Protected, "{path:?}");
        }
    }
}
