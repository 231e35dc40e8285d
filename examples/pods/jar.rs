//! The cookies a browser keeps.

use std::collections::BTreeMap;

use http::HeaderMap;
use http::header::SET_COOKIE;

/// Cookies by name and path, deleted by `Max-Age=0`.
#[derive(Clone, Debug, Default)]
pub struct Jar(BTreeMap<(String, String), String>);

impl Jar {
    /// Keeps what an answer sets; what is too large for a browser is dropped, as browsers do.
    pub fn keep(&mut self, headers: &HeaderMap) {
        let lines = headers.get_all(SET_COOKIE).iter();
        for line in lines.filter_map(|line| line.to_str().ok()) {
            let mut parts = line.split(';').map(str::trim);
            let Some((name, value)) = parts.next().and_then(|pair| pair.split_once('=')) else {
                continue;
            };
            let mut path = "/";
            let mut gone = name.len() + value.len() > 4096;
            for part in parts {
                path = part.strip_prefix("Path=").unwrap_or(path);
                gone |= part == "Max-Age=0";
            }
            let key = (name.to_owned(), path.to_owned());
            if gone {
                self.0.remove(&key);
            } else {
                self.0.insert(key, value.to_owned());
            }
        }
    }

    /// Returns the `Cookie` header for a path, if there is one to send.
    pub fn header(&self, path: &str) -> Option<String> {
        let fits = |scope: &str| {
            path == scope
                || path.strip_prefix(scope).is_some_and(|rest| {
                    scope.ends_with('/') || rest.starts_with('/') || rest.is_empty()
                })
        };
        let pairs: Vec<String> = self
            .0
            .iter()
            .filter(|((_, scope), _)| fits(scope))
            .map(|((name, _), value)| format!("{name}={value}"))
            .collect();
        (!pairs.is_empty()).then(|| pairs.join("; "))
    }

    /// Drops the cookies whose name ends so.
    pub fn drop_ending(&mut self, end: &str) {
        self.0.retain(|(name, _), _| !name.ends_with(end));
    }

    /// Returns the value of the session cookie.
    pub fn session(&self) -> Option<&str> {
        let mut cookies = self.0.iter();
        let found = cookies.find(|((name, _), _)| name.ends_with("-s"));
        found.map(|(_, value)| value.as_str())
    }
}
