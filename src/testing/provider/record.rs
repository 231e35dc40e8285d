//! Requests as they arrived.

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use bytes::Bytes;
use http::HeaderMap;
use http::header;
use url::form_urlencoded;

/// A request as it arrived at an endpoint.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct RecordedRequest {
    /// The method.
    pub method: String,
    /// Path and query.
    pub uri: String,
    /// The headers.
    pub headers: HeaderMap,
    /// The body; empty if the connection was refused.
    pub body: Bytes,
    /// The pairs of a form body, decoded; empty for any other body.
    pub form: Vec<(String, String)>,
}

impl RecordedRequest {
    pub(super) fn new(method: String, uri: String, headers: HeaderMap, body: Bytes) -> Self {
        let essence = headers
            .get(header::CONTENT_TYPE)
            .and_then(|value| value.to_str().ok())
            .map(|value| value.split(';').next().unwrap_or_default().trim());
        let form = match essence {
            Some(essence) if essence.eq_ignore_ascii_case(FORM) => parse_pairs(&body),
            _ => Vec::new(),
        };
        Self { method, uri, headers, body, form }
    }

    /// Returns the path.
    #[must_use]
    pub fn path(&self) -> &str {
        self.uri.split('?').next().unwrap_or_default()
    }

    /// Returns the pairs of the query, decoded.
    #[must_use]
    pub fn query(&self) -> Vec<(String, String)> {
        let query = self.uri.split_once('?').map_or("", |(_, query)| query);
        parse_pairs(query.as_bytes())
    }

    /// Returns a header, if it is there and text.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    /// Returns the first form value of this name.
    #[must_use]
    pub fn form_value(&self, name: &str) -> Option<&str> {
        find(&self.form, name)
    }

    /// Returns the first query value of this name.
    #[must_use]
    pub fn query_value(&self, name: &str) -> Option<String> {
        find(&self.query(), name).map(str::to_owned)
    }

    /// Returns client id and secret of HTTP Basic as RFC 6749 2.3.1 encodes them: the header
    /// decoded from Base64, split at the first colon, both halves form-decoded.
    #[must_use]
    pub fn basic_credentials(&self) -> Option<(String, String)> {
        let (scheme, value) = self.header("authorization")?.split_once(' ')?;
        if !scheme.eq_ignore_ascii_case("basic") {
            return None;
        }
        let bytes = BASE64_STANDARD.decode(value.trim()).ok()?;
        let text = String::from_utf8(bytes).ok()?;
        let (id, secret) = text.split_once(':')?;
        Some((form_decode(id)?, form_decode(secret)?))
    }

    /// Returns the value of a cookie.
    pub(super) fn cookie(&self, name: &str) -> Option<&str> {
        let lines = self.headers.get_all(header::COOKIE).into_iter();
        lines
            .filter_map(|line| line.to_str().ok())
            .flat_map(|line| line.split(';'))
            .filter_map(|pair| pair.trim().split_once('='))
            .find_map(|(found, value)| (found == name).then_some(value))
    }

    /// Returns the parameters where the method puts them: the form of a POST, else the query.
    pub(super) fn parameters(&self) -> Vec<(String, String)> {
        if self.method == "POST" { self.form.clone() } else { self.query() }
    }

    /// Returns the bearer token of the `Authorization` header.
    pub(super) fn bearer(&self) -> Option<&str> {
        let (scheme, token) = self.header("authorization")?.split_once(' ')?;
        scheme.eq_ignore_ascii_case("bearer").then_some(token.trim())
    }
}

/// Returns the first value of a name.
pub(super) fn find<'a>(pairs: &'a [(String, String)], name: &str) -> Option<&'a str> {
    let (_, value) = pairs.iter().find(|(key, _)| key == name)?;
    Some(value)
}

/// Returns a name that occurs twice.
pub(super) fn duplicate(pairs: &[(String, String)]) -> Option<&str> {
    let mut seen = std::collections::HashSet::new();
    let (name, _) = pairs.iter().find(|(name, _)| !seen.insert(name))?;
    Some(name)
}

/// Parses `application/x-www-form-urlencoded` pairs.
pub(super) fn parse_pairs(text: &[u8]) -> Vec<(String, String)> {
    form_urlencoded::parse(text).into_owned().collect()
}

/// Decodes one form-urlencoded value; `None` if it is malformed or not UTF-8.
fn form_decode(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'+' => b' ',
            b'%' => {
                let high = char::from(rest.next()?).to_digit(16)?;
                let low = char::from(rest.next()?).to_digit(16)?;
                u8::try_from(high * 16 + low).ok()?
            }
            other => other,
        });
    }
    String::from_utf8(bytes).ok()
}

const FORM: &str = "application/x-www-form-urlencoded";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn basic_credentials_are_form_decoded() {
        let table = [
            ("app:app-secret", Some(("app", "app-secret"))),
            ("a%3Ab%2F%C3%BC:p%2Bq%25+r", Some(("a:b/ü", "p+q% r"))),
            ("app:a&b=c:d", Some(("app", "a&b=c:d"))),
            ("app:%zz", None),
            ("app:%F", None),
            ("app:%FF", None),
            ("app", None),
        ];
        for (text, expected) in table {
            let mut headers = HeaderMap::new();
            let value = format!("Basic {}", BASE64_STANDARD.encode(text));
            headers.insert("authorization", value.parse().expect("ASCII"));
            let request =
                RecordedRequest::new("POST".into(), "/token".into(), headers, Bytes::new());
            let found = request.basic_credentials();
            let expected = expected.map(|(id, secret)| (id.to_owned(), secret.to_owned()));
            assert_eq!(found, expected, "{text}");
        }
    }
}
