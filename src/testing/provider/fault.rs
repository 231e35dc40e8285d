//! Knobs that make the provider misbehave.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::HeaderMap;
use serde_json::Map;
use serde_json::Value;

use super::SigningAlg;
use super::SigningKey;
use super::encoding;

/// An endpoint of the provider.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
#[non_exhaustive]
pub enum Endpoint {
    /// The authorization endpoint.
    Authorize,
    /// `/.well-known/openid-configuration`.
    Discovery,
    /// RP-initiated logout.
    EndSession,
    /// The published keys.
    Jwks,
    /// Token revocation (RFC 7009).
    Revocation,
    /// The token endpoint.
    Token,
    /// Claims about the person.
    Userinfo,
}

impl Endpoint {
    /// Every endpoint.
    pub const ALL: [Self; 7] = [
        Self::Authorize,
        Self::Discovery,
        Self::EndSession,
        Self::Jwks,
        Self::Revocation,
        Self::Token,
        Self::Userinfo,
    ];
}

/// How an endpoint answers. Requests are counted and recorded whatever the behaviour.
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub enum Behaviour {
    /// Answers as usual, this much later.
    Delay(Duration),
    /// Answers 200 `application/json` with one space per 100 ms, for ever.
    Drip,
    /// Answers 200 `application/json` with a chunked body that does not end.
    Endless,
    /// Reads the request and never answers.
    Hang,
    /// Announces a body of 10 GiB, and sends it.
    HugeContentLength,
    /// Answers as usual.
    #[default]
    Normal,
    /// Redirects with this status.
    Redirect {
        /// The status, such as 307.
        code: u16,
        /// The `Location`.
        to: String,
    },
    /// Closes the connection without reading the body.
    Refuse,
    /// Does the work (a code is redeemed), then closes the connection without an answer.
    ResetAfterBody,
    /// Answers exactly this.
    Status {
        /// The status; 500 if it is not one.
        code: u16,
        /// The `Content-Type`; none if empty.
        content_type: String,
        /// The body.
        body: Bytes,
    },
}

impl Behaviour {
    /// Answers with this status, a JSON content type and body.
    #[must_use]
    pub fn json(code: u16, body: impl Into<Bytes>) -> Self {
        Self::Status { code, content_type: "application/json".to_owned(), body: body.into() }
    }

    /// Answers with this status and an empty body of no type.
    #[must_use]
    pub const fn status(code: u16) -> Self {
        Self::Status { code, content_type: String::new(), body: Bytes::new() }
    }
}

/// What signs an ID Token.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Signer {
    /// This key, with an ECDSA signature in DER instead of r‖s.
    Der(SigningKey),
    /// HMAC-SHA-256 under these bytes.
    Hmac(Vec<u8>),
    /// This key, published or not.
    Key(SigningKey),
    /// Nothing: these bytes stand where the signature should be.
    Literal(Vec<u8>),
    /// Nothing: the third part is empty.
    Unsigned,
}

/// An ID Token about to be signed, handed to [`on_id_token`](super::TestProvider::on_id_token).
#[non_exhaustive]
pub struct IdTokenDraft {
    /// The JOSE header: `alg`, `kid` and `typ`.
    pub header: Map<String, Value>,
    /// The claims.
    pub claims: Map<String, Value>,
    /// What signs; assigning it leaves the header as it is, [`sign_with`](Self::sign_with) adapts
    /// `alg` and `kid`.
    pub signer: Signer,
    /// Bytes to sign instead of `header`, for duplicate members and broken JSON.
    pub header_json: Option<Vec<u8>>,
    /// Bytes to sign instead of `claims`.
    pub claims_json: Option<Vec<u8>>,
    /// Sent verbatim instead of a signed token.
    pub raw: Option<String>,
    /// Whether the token belongs to a refresh, not to a login.
    pub refreshed: bool,
    published: Vec<SigningKey>,
    after: Vec<Box<dyn FnOnce(String) -> String>>,
}

impl IdTokenDraft {
    pub(super) fn new(
        published: Vec<SigningKey>,
        key: SigningKey,
        claims: Map<String, Value>,
        refreshed: bool,
    ) -> Self {
        let mut draft = Self {
            header: Map::new(),
            claims,
            signer: Signer::Unsigned,
            header_json: None,
            claims_json: None,
            raw: None,
            refreshed,
            published,
            after: Vec::new(),
        };
        draft.header.insert("typ".to_owned(), "JWT".into());
        draft.sign_with(Signer::Key(key));
        draft
    }

    /// Sets the signer, and the header's `alg` and `kid` to match it.
    pub fn sign_with(&mut self, signer: Signer) {
        match &signer {
            Signer::Der(key) | Signer::Key(key) => {
                self.header.insert("alg".to_owned(), key.alg().as_str().into());
                self.header.insert("kid".to_owned(), key.kid().into());
            }
            Signer::Hmac(_) => {
                self.header.insert("alg".to_owned(), "HS256".into());
            }
            Signer::Literal(_) => {}
            Signer::Unsigned => {
                self.header.insert("alg".to_owned(), "none".into());
                self.header.remove("kid");
            }
        }
        self.signer = signer;
    }

    /// Sets a claim.
    pub fn set(&mut self, claim: &str, value: impl Into<Value>) {
        self.claims.insert(claim.to_owned(), value.into());
    }

    /// Removes a claim.
    pub fn remove(&mut self, claim: &str) {
        self.claims.remove(claim);
    }

    /// Returns the published key of an algorithm.
    #[must_use]
    pub fn published(&self, alg: SigningAlg) -> Option<SigningKey> {
        self.published.iter().find(|key| key.alg() == alg).cloned()
    }

    /// Rewrites the token after it was signed; several rewrites run in order.
    pub fn after_signing(&mut self, rewrite: impl FnOnce(String) -> String + 'static) {
        self.after.push(Box::new(rewrite));
    }

    /// Changes one letter in the middle of a part: 0 header, 1 payload, 2 signature.
    pub fn corrupt(&mut self, part: usize) {
        self.after_signing(move |token| corrupt(&token, part));
    }

    pub(super) fn finish(self) -> String {
        if let Some(raw) = self.raw {
            return raw;
        }
        let header = self.header_json.unwrap_or_else(|| encoding::to_json(&self.header));
        let claims = self.claims_json.unwrap_or_else(|| encoding::to_json(&self.claims));
        let input = encoding::signing_input(&header, &claims);
        let signature = match &self.signer {
            Signer::Der(key) => key.sign_der(input.as_bytes()),
            Signer::Hmac(key) => encoding::hs256(key, input.as_bytes()),
            Signer::Key(key) => key.sign(input.as_bytes()),
            Signer::Literal(bytes) => bytes.clone(),
            Signer::Unsigned => Vec::new(),
        };
        let token = format!("{input}.{}", encoding::encode(&signature));
        self.after.into_iter().fold(token, |token, rewrite| rewrite(token))
    }
}

impl fmt::Debug for IdTokenDraft {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("IdTokenDraft")
            .field("header", &self.header)
            .field("claims", &self.claims)
            .field("signer", &self.signer)
            .finish_non_exhaustive()
    }
}

/// A hook: shared, so that it runs without any lock held.
pub(super) struct Hook<T: ?Sized>(Arc<dyn Fn(&mut T) + Send + Sync>);

impl<T: ?Sized> Hook<T> {
    pub(super) fn new(run: impl Fn(&mut T) + Send + Sync + 'static) -> Self {
        Self(Arc::new(run))
    }

    pub(super) fn run(&self, value: &mut T) {
        (self.0)(value);
    }
}

impl<T: ?Sized> Clone for Hook<T> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

/// Everything that [`clear_faults`](super::TestProvider::clear_faults) clears.
#[derive(Default)]
pub(super) struct Faults {
    pub(super) id_token: Option<Hook<IdTokenDraft>>,
    pub(super) token_response: Option<Hook<Map<String, Value>>>,
    pub(super) userinfo: Option<Hook<Map<String, Value>>>,
    pub(super) discovery: Option<Hook<Map<String, Value>>>,
    pub(super) jwks: Option<Hook<Vec<Value>>>,
    pub(super) authorization_response: Option<Hook<Vec<(String, String)>>>,
    pub(super) headers: HashMap<Endpoint, Hook<HeaderMap>>,
    pub(super) behaviours: HashMap<Endpoint, Behaviour>,
    pub(super) rotate_before_token: Option<SigningAlg>,
}

/// Changes the letter in the middle of a part to another one of the alphabet.
fn corrupt(token: &str, part: usize) -> String {
    let mut parts: Vec<String> = token.split('.').map(str::to_owned).collect();
    if let Some(text) = parts.get_mut(part) {
        let middle = text.len() / 2;
        if text.is_ascii() && middle < text.len() {
            let letter = if text[middle..].starts_with('A') { "B" } else { "A" };
            text.replace_range(middle..=middle, letter);
        }
    }
    parts.join(".")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn corrupting_changes_one_letter_and_survives_any_text() {
        assert_eq!(corrupt("aaaa.bbbb.cAcA", 2), "aaaa.bbbb.cAAA");
        assert_eq!(corrupt("aaaa.bbbb.AAAA", 2), "aaaa.bbbb.AABA");
        assert_eq!(corrupt("aaaa.bbbb.", 2), "aaaa.bbbb.");
        assert_eq!(corrupt("é.ü", 0), "é.ü");
        assert_eq!(corrupt("none", 7), "none");
    }
}
