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

pub fn text(error: impl Display) -> String {
    error.to_string()
}

/// Stands in for a value that is wrong, so that the other problems are found too.
pub fn stand_in<T: FromStr<Err: Debug>>() -> T {
    "https://localhost".parse().expect("a URL on loopback")
}
