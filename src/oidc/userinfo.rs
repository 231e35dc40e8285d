//! The userinfo endpoint (OpenID Connect Core 1.0 section 5.3).

use bytes::Bytes;
use http::Request;
use http::header::{AUTHORIZATION, HeaderValue};
use serde_json::{Map, Value};
use url::Url;

use super::http::CallError;
use super::json::object;
use super::provider::Provider;
use crate::error::{AuthError, ErrorKind};

/// Claims that say something about the token or the login; userinfo has no say in them.
const PROTOCOL: &[&str] = &[
    "acr",
    "amr",
    "at_hash",
    "aud",
    "auth_time",
    "azp",
    "c_hash",
    "cnf",
    "events",
    "exp",
    "iat",
    "iss",
    "jti",
    "nbf",
    "nonce",
    "session_expiry",
    "sid",
    "sub",
    "_claim_names",
    "_claim_sources",
];

impl Provider {
    /// Asks for the claims of `subject`; the token goes into the header and nowhere else.
    pub(crate) async fn userinfo(
        &self,
        endpoint: &Url,
        access_token: &str,
        subject: &str,
    ) -> Result<Map<String, Value>, AuthError> {
        let bad = |detail| AuthError::new(ErrorKind::Userinfo, detail);
        let mut bearer = HeaderValue::from_str(&format!("Bearer {access_token}"))
            .map_err(|_| bad("access_token"))?;
        bearer.set_sensitive(true);
        let request = Request::get(endpoint.as_str())
            .header(AUTHORIZATION, bearer)
            .body(Bytes::new())
            .map_err(|_| bad("endpoint"))?;
        let answer = self.outbound().call(request).await.map_err(|error| match error {
            CallError::Failed => bad("unreachable"),
            CallError::TimedOut => bad("timed_out"),
        })?;
        if answer.status() != 200 {
            return Err(bad("status"));
        }
        if !answer.is_of_type(&["application/json"]) {
            return Err(bad("content_type"));
        }
        let mut claims = object(answer.body()).ok_or_else(|| bad("malformed"))?;
        // Section 5.3.2: without this comparison a token of somebody else could be slipped in.
        if claims.get("sub").and_then(Value::as_str) != Some(subject) {
            return Err(bad("sub"));
        }
        claims.retain(|name, value| {
            let empty = value.is_null() || value.as_str().is_some_and(str::is_empty);
            !empty && !PROTOCOL.contains(&name.as_str())
        });
        Ok(claims)
    }
}
