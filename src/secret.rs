//! Randomness and the types that hold secrets: the only file that asks for random bytes.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use subtle::ConstantTimeEq;
use zeroize::{Zeroize, ZeroizeOnDrop};

/// Returns `N` bytes from the operating system's generator.
///
/// # Panics
///
/// If the operating system has no randomness to give, which on supported systems happens at boot
/// or never; nothing a request holds can cause it.
pub(crate) fn random<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).expect("the operating system supplies random bytes");
    bytes
}

/// Writes bytes as unpadded base64url (RFC 4648 section 5).
pub(crate) fn base64url(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

/// Reads strict, unpadded base64url; anything else is `None`.
pub(crate) fn from_base64url(text: impl AsRef<[u8]>) -> Option<Vec<u8>> {
    URL_SAFE_NO_PAD.decode(text).ok()
}

/// Writes bytes as padded base64 (RFC 4648 section 4), as HTTP Basic wants it.
pub(crate) fn base64(bytes: impl AsRef<[u8]>) -> String {
    STANDARD.encode(bytes)
}

/// Reads padded base64.
pub(crate) fn from_base64(text: impl AsRef<[u8]>) -> Option<Vec<u8>> {
    STANDARD.decode(text).ok()
}

/// Compares two byte strings in a time that depends on their lengths only.
pub(crate) fn same(a: &[u8], b: &[u8]) -> bool {
    a.ct_eq(b).into()
}

/// `N` secret bytes that do not print, compare in constant time and are wiped when dropped.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub(crate) struct SecretBytes<const N: usize>([u8; N]);

impl<const N: usize> SecretBytes<N> {
    pub(crate) const fn new(bytes: [u8; N]) -> Self {
        Self(bytes)
    }

    pub(crate) fn random() -> Self {
        Self(random())
    }

    pub(crate) const fn expose(&self) -> &[u8; N] {
        &self.0
    }
}

impl<const N: usize> PartialEq for SecretBytes<N> {
    fn eq(&self, other: &Self) -> bool {
        same(&self.0, &other.0)
    }
}

impl<const N: usize> fmt::Debug for SecretBytes<N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretBytes(..)")
    }
}

/// A secret text (token, code, verifier) that does not print and is wiped when dropped.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub(crate) struct SecretString(String);

impl SecretString {
    pub(crate) fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    pub(crate) fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for SecretString {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretString(..)")
    }
}

/// The secret this client shares with the provider (RFC 6749 section 2.3.1).
///
/// It does not print and is wiped when dropped.
///
/// # Examples
///
/// ```
/// use tower_pkce_auth::ClientSecret;
///
/// let secret = ClientSecret::new("correct horse");
/// assert_eq!(format!("{secret:?}"), "ClientSecret(..)");
/// ```
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub struct ClientSecret(String);

impl ClientSecret {
    /// Takes the secret as the provider issued it, without any encoding.
    #[must_use]
    pub fn new(secret: impl Into<String>) -> Self {
        Self(secret.into())
    }

    pub(crate) fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for ClientSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ClientSecret(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn p02_secrets_do_not_print() {
        let canary = "CANARY-secret";
        let printed = format!(
            "{:?} {:?} {:?}",
            SecretString::new(canary),
            ClientSecret::new(canary),
            SecretBytes::new(*b"CANARY-secret")
        );
        assert!(!printed.contains("CANARY"), "{printed}");
        assert!(!printed.contains("67, 65"), "{printed}");
    }

    #[test]
    fn base64url_is_strict() {
        assert_eq!(from_base64url("AQI").as_deref(), Some(&[1, 2][..]));
        for bad in ["AQI=", "AQ I", "AQI\n", "A+/b", "AQJ", "A"] {
            assert_eq!(from_base64url(bad), None, "{bad:?}");
        }
    }
}
