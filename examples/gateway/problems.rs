//! What is wrong with the flags: collected, so that all of it is said at once.

use std::fmt::{Debug, Display};
use std::fs;
use std::path::Path;
use std::str::FromStr;

/// What is wrong, in the order of finding.
#[derive(Default)]
pub struct Problems(Vec<String>);

impl Problems {
    pub fn add(&mut self, problem: impl Into<String>) {
        self.0.push(problem.into());
    }

    /// Keeps a problem, or returns the value.
    pub fn keep<T>(&mut self, result: Result<T, String>) -> Option<T> {
        result.map_err(|problem| self.add(problem)).ok()
    }

    /// Returns all that was found.
    pub fn found(self) -> Vec<String> {
        self.0
    }
}

/// Reads a file that a flag names.
///
/// # Errors
///
/// A text that says which file and why not.
pub fn read(what: &str, path: &Path) -> Result<Vec<u8>, String> {
    fs::read(path).map_err(|error| format!("{what} {}: {error}", path.display()))
}

/// Reads a file that holds a secret, and warns where others may read it too.
///
/// # Errors
///
/// As [`read`].
pub fn read_secret(what: &str, path: &Path) -> Result<Vec<u8>, String> {
    let secret = read(what, path)?;
    if is_open_to_others(path) {
        tracing::warn!(path = %path.display(), "the {what} can be read by group or others");
    }
    Ok(secret)
}

#[cfg(unix)]
fn is_open_to_others(path: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt as _;
    fs::metadata(path).is_ok_and(|file| file.permissions().mode() & 0o077 != 0)
}

#[cfg(not(unix))]
fn is_open_to_others(_: &Path) -> bool {
    false
}

/// Parses a URL; one with an `@` may hold a password and is not repeated.
///
/// # Errors
///
/// A text that says what is wrong.
pub fn parse_url<T: FromStr<Err: Display>>(what: &str, url: &str) -> Result<T, String> {
    url.parse().map_err(|error| {
        if url.contains('@') {
            format!("{what}: it holds an @ and cannot be used; a URL here has no credentials")
        } else {
            text(error)
        }
    })
}

pub fn text(error: impl Display) -> String {
    error.to_string()
}

/// Stands in for a value that is wrong, so that the other problems are found too.
pub fn stand_in<T: FromStr<Err: Debug>>() -> T {
    "https://localhost".parse().expect("a URL on loopback")
}

#[cfg(test)]
mod tests {
    use tower_pkce_auth::{Issuer, PublicUrl};

    use super::*;

    #[test]
    fn no_password_in_a_url_is_repeated() {
        for url in ["https://u:CANARY@a.example", "htps://u:CANARY@a", "u:CANARY@a"] {
            let problem = parse_url::<PublicUrl>("public URL", url).unwrap_err();
            assert!(!problem.contains("CANARY"), "{problem}");
            let problem = parse_url::<Issuer>("issuer", url).unwrap_err();
            assert!(!problem.contains("CANARY"), "{problem}");
        }
        let problem = parse_url::<PublicUrl>("public URL", "a.example").unwrap_err();
        assert!(problem.contains("a.example"), "{problem}");
    }

    #[cfg(unix)]
    #[test]
    fn a_secret_that_others_may_read_is_seen() {
        use std::os::unix::fs::PermissionsExt as _;
        let path = std::env::temp_dir().join(format!("gateway-mode-{}", std::process::id()));
        fs::write(&path, "x").unwrap();
        for (mode, open) in [(0o600, false), (0o400, false), (0o640, true), (0o604, true)] {
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            assert_eq!(is_open_to_others(&path), open, "{mode:o}");
        }
        fs::remove_file(&path).unwrap();
    }
}
