//! How this client shows the provider who it is (OpenID Connect Core 1.0 section 9).

use http::header::{AUTHORIZATION, HeaderMap, HeaderValue};

use crate::names::ClientId;
use crate::secret::{ClientSecret, base64};

/// The way the client authenticates at the token endpoint; it is never changed unasked.
///
/// # Examples
///
/// ```
/// use tower_pkce_auth::{ClientAuth, ClientId, ClientSecret, PkceAuthLayer};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let builder = PkceAuthLayer::builder(
///     "https://login.example".parse()?,
///     ClientId::new("app"),
///     "http://localhost:8080".parse()?,
/// );
/// let layer = builder
///     .clone()
///     .client_secret(ClientSecret::new("a+b c"))
///     .client_auth(ClientAuth::Post)
///     .build()?;
/// assert!(builder.client_auth(ClientAuth::Post).build().is_err(), "it needs a secret");
/// # Ok(()) }
/// ```
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
#[non_exhaustive]
pub enum ClientAuth {
    /// `client_secret_basic`: id and secret in the `Authorization` header, percent-encoded first
    /// (RFC 6749 section 2.3.1).
    #[default]
    Basic,
    /// `none`: a public client, which has no secret and relies on PKCE.
    None,
    /// `client_secret_post`: id and secret in the body; for secrets with unusual characters at
    /// providers that read Basic in a way of their own.
    Post,
}

impl ClientAuth {
    /// Returns the registered name of the method.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Basic => "client_secret_basic",
            Self::None => "none",
            Self::Post => "client_secret_post",
        }
    }

    /// Puts exactly one authentication into a request: header fields or form parameters.
    pub(crate) fn apply(
        self,
        id: &ClientId,
        secret: Option<&ClientSecret>,
        headers: &mut HeaderMap,
        form: &mut Vec<(&'static str, String)>,
    ) {
        match (self, secret) {
            (Self::Basic, Some(secret)) => {
                let pair = format!("{}:{}", encode(id.as_str()), encode(secret.expose()));
                let mut value = HeaderValue::from_str(&format!("Basic {}", base64(pair)))
                    .expect("base64 is header text");
                value.set_sensitive(true);
                headers.insert(AUTHORIZATION, value);
            }
            (Self::Post, Some(secret)) => {
                form.push(("client_id", id.as_str().to_owned()));
                form.push(("client_secret", secret.expose().to_owned()));
            }
            // The builder lets no confidential method through without a secret.
            (Self::None | Self::Basic | Self::Post, _) => {
                form.push(("client_id", id.as_str().to_owned()));
            }
        }
    }
}

/// Percent-encodes everything but unreserved characters, a space as `%20`.
///
/// A form encoder would write `+` for a space, which one of five measured providers does not
/// accept; encoding `-` and `.` as well, as some clients do, fails at two.
fn encode(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            use std::fmt::Write as _;
            write!(encoded, "%{byte:02X}").expect("a String takes everything");
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::secret::from_base64;

    fn apply(auth: ClientAuth) -> (Option<String>, Vec<(&'static str, String)>) {
        let (mut headers, mut form) = (HeaderMap::new(), Vec::new());
        let secret = ClientSecret::new("p+q%r:s t&=é~-._");
        auth.apply(&ClientId::new("a:b/ü"), Some(&secret), &mut headers, &mut form);
        let basic = headers.get(AUTHORIZATION).map(|value| {
            let encoded = value.to_str().unwrap().strip_prefix("Basic ").unwrap().to_owned();
            String::from_utf8(from_base64(encoded).unwrap()).unwrap()
        });
        (basic, form)
    }

    #[test]
    fn d03_d04_exactly_one_method_and_basic_is_encoded_before_base64() {
        let (basic, form) = apply(ClientAuth::Basic);
        assert_eq!(basic.unwrap(), "a%3Ab%2F%C3%BC:p%2Bq%25r%3As%20t%26%3D%C3%A9~-._");
        assert!(form.is_empty());
    }

    #[test]
    fn d05_post_and_none_use_the_body_only() {
        let (basic, form) = apply(ClientAuth::Post);
        assert!(basic.is_none());
        assert_eq!(form[1], ("client_secret", "p+q%r:s t&=é~-._".to_owned()));
        let (basic, form) = apply(ClientAuth::None);
        assert!(basic.is_none());
        assert_eq!(form, [("client_id", "a:b/ü".to_owned())]);
    }
}
