//! What the public URL says of a request: whether it is meant for us, and where it leads.

use std::sync::Arc;

use http::uri::{Authority, PathAndQuery};
use tower_pkce_auth::PublicUrl;

/// The part of the web that is served here.
#[derive(Clone, Debug)]
pub struct Site {
    host: Authority,
    usual_port: u16,
    /// The path of the public URL; empty at the root.
    mount: Arc<str>,
}

impl Site {
    pub fn new(url: &PublicUrl) -> Self {
        let (scheme, host) = url.origin().split_once("://").unwrap_or_default();
        Self {
            host: host.parse().expect("the host and port of a URL are an authority"),
            usual_port: if scheme == "https" { 443 } else { 80 },
            mount: url.mount().into(),
        }
    }

    /// Tells whether a client that names this host means us.
    pub fn is_called(&self, host: &Authority) -> bool {
        same_host(&self.host, host, self.usual_port)
    }

    pub fn has_mount(&self) -> bool {
        !self.mount.is_empty()
    }

    /// Returns the part of a target below the mount, without changing a byte of it.
    pub fn below(&self, target: &PathAndQuery) -> Option<PathAndQuery> {
        let rest = target.as_str().strip_prefix(&*self.mount)?;
        match rest.as_bytes().first() {
            Some(b'/') => PathAndQuery::try_from(rest).ok(),
            Some(b'?') | None => PathAndQuery::try_from(format!("/{rest}")).ok(),
            Some(_) => None,
        }
    }
}

pub fn same_host(a: &Authority, b: &Authority, usual_port: u16) -> bool {
    a.host().eq_ignore_ascii_case(b.host())
        && a.port_u16().unwrap_or(usual_port) == b.port_u16().unwrap_or(usual_port)
}

/// Tells whether a path holds `.` or `..`, in a spelling that some server would follow.
pub fn has_dot_segments(path: &str) -> bool {
    let path = path.to_ascii_lowercase().replace("%2e", ".").replace("%2f", "/");
    let path = path.replace("%5c", "\\").replace("%3b", ";");
    path.split(['/', '\\']).any(|segment| {
        // Some servers take what follows a semicolon for parameters, and away.
        let name = segment.split(';').next().unwrap_or_default();
        matches!(name, "." | "..")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn site(url: &str) -> Site {
        Site::new(&url.parse().unwrap())
    }

    #[test]
    fn a_host_is_that_of_the_public_url() {
        for (url, host, ours) in [
            ("https://h.example", "h.example", true),
            ("https://h.example", "H.Example:443", true),
            ("https://h.example:443", "h.example", true),
            ("https://h.example", "h.example:80", false),
            ("https://h.example:8443/app", "h.example:8443", true),
            ("https://h.example:8443", "h.example", false),
            ("http://127.0.0.1:8080", "127.0.0.1:8080", true),
            ("http://127.0.0.1:8080", "localhost:8080", false),
            ("http://[::1]:8080", "[::1]:8080", true),
            ("https://h.example", "evil.h.example", false),
            ("https://h.example", "h.example.evil", false),
        ] {
            assert_eq!(site(url).is_called(&host.parse().unwrap()), ours, "{url} {host}");
        }
    }

    #[test]
    fn a_mount_is_left_on_segments() {
        let site = site("https://h.example/app");
        for (target, rest) in [
            ("/app", Some("/")),
            ("/app?q=1", Some("/?q=1")),
            ("/app/", Some("/")),
            ("/app//x?y", Some("//x?y")),
            ("/app/%2e", Some("/%2e")),
            ("/apple", None),
            ("/", None),
            ("/x/app/", None),
        ] {
            let rest_found = site.below(&target.parse().unwrap());
            assert_eq!(rest_found.as_ref().map(PathAndQuery::as_str), rest, "{target}");
        }
    }

    #[test]
    fn dot_segments_are_found_in_every_spelling() {
        for path in [
            "/app/..",
            "/app/../x",
            "/app/./x",
            "/app/%2e%2E/x",
            "/app/.%2e/x",
            "/app/..%2fx",
            "/app%2F../x",
            "/app/..\\x",
            "/app/%2e%2e%5Cx",
            "/app/..;a=b/x",
            "/app/..%3b/x",
        ] {
            assert!(has_dot_segments(path), "{path}");
        }
        for path in ["/app/", "/app/...", "/app/..x", "/app/x..", "/app/.well-known", "/app//x"] {
            assert!(!has_dot_segments(path), "{path}");
        }
    }
}
