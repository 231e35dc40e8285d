//! The token endpoint: redeeming a code, refreshing, revoking (RFC 6749, RFC 7009).

use std::time::Duration;

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HeaderValue};
use http::{Method, Request};
use serde_json::Value;
use url::{Url, form_urlencoded};

use super::http::{Answer, CallError};
use super::json::{object, text};
use super::provider::Provider;
use crate::error::{AuthError, ErrorKind};
use crate::secret::SecretString;

/// The tokens of one answer. None of them is used before the ID token has passed its checks.
#[derive(Debug)]
pub(crate) struct Tokens {
    pub(crate) access: SecretString,
    pub(crate) refresh: Option<SecretString>,
    pub(crate) id: Option<SecretString>,
    /// How long the access token lives; `None` if the provider does not say.
    pub(crate) expires_in: Option<Duration>,
}

/// Why no tokens came.
#[derive(Debug)]
pub(crate) enum TokenError {
    /// The grant is gone for good: `invalid_grant`.
    Grant(AuthError),
    /// The provider said no for another reason, or something that is no token response.
    Refused(AuthError),
    /// Trouble that may pass; for a refresh the session is kept.
    Transient(AuthError),
}

impl TokenError {
    pub(crate) fn into_error(self) -> AuthError {
        match self {
            Self::Grant(error) | Self::Refused(error) | Self::Transient(error) => error,
        }
    }
}

/// No access token is taken to live longer, whatever the provider says.
const MAX_LIFETIME: Duration = Duration::from_secs(30 * 24 * 3600);

impl Provider {
    /// Redeems an authorization code (RFC 6749 section 4.1.3, RFC 7636 section 4.5). It is sent
    /// once, whatever happens: the code may be spent even if no answer came.
    pub(crate) async fn redeem(
        &self,
        endpoint: &Url,
        code: &str,
        verifier: &str,
    ) -> Result<Tokens, TokenError> {
        let form = vec![
            ("grant_type", "authorization_code".to_owned()),
            ("code", code.to_owned()),
            ("redirect_uri", self.settings().redirect_uri.clone()),
            ("code_verifier", verifier.to_owned()),
        ];
        parse(&self.post(endpoint, form).await.map_err(unreachable)?)
    }

    /// Spends a refresh token (RFC 6749 section 6), once.
    pub(crate) async fn refresh(
        &self,
        endpoint: &Url,
        refresh_token: &str,
    ) -> Result<Tokens, TokenError> {
        let form = vec![
            ("grant_type", "refresh_token".to_owned()),
            ("refresh_token", refresh_token.to_owned()),
        ];
        parse(&self.post(endpoint, form).await.map_err(unreachable)?)
    }

    /// Revokes a token, as far as the provider can (RFC 7009); failures are only logged.
    pub(crate) async fn revoke(&self, endpoint: &Url, token: &str, kind: &'static str) {
        let form = vec![("token", token.to_owned()), ("token_type_hint", kind.to_owned())];
        match self.post(endpoint, form).await {
            Ok(answer) if answer.status() == 200 => {}
            Ok(answer) => tracing::debug!(status = answer.status(), "a token was not revoked"),
            Err(error) => tracing::debug!(?error, "a token was not revoked"),
        }
    }

    async fn post(
        &self,
        endpoint: &Url,
        mut form: Vec<(&'static str, String)>,
    ) -> Result<Answer, CallError> {
        let settings = self.settings();
        let mut request = Request::new(Bytes::new());
        *request.method_mut() = Method::POST;
        *request.uri_mut() = endpoint.as_str().parse().map_err(|_| CallError::Failed)?;
        request
            .headers_mut()
            .insert(CONTENT_TYPE, HeaderValue::from_static("application/x-www-form-urlencoded"));
        settings.client_auth.apply(
            &settings.client_id,
            settings.client_secret.as_ref(),
            request.headers_mut(),
            &mut form,
        );
        let body = form_urlencoded::Serializer::new(String::new()).extend_pairs(form).finish();
        *request.body_mut() = body.into();
        self.outbound().call(request).await
    }
}

fn unreachable(error: CallError) -> TokenError {
    TokenError::Transient(AuthError::new(
        ErrorKind::ProviderUnavailable,
        match error {
            CallError::Failed => "token_unreachable",
            CallError::TimedOut => "token_timed_out",
        },
    ))
}

/// Judges an answer of the token endpoint (RFC 6749 sections 5.1 and 5.2).
fn parse(answer: &Answer) -> Result<Tokens, TokenError> {
    let malformed = |detail| TokenError::Refused(AuthError::new(ErrorKind::TokenEndpoint, detail));
    let status = answer.status();
    if status == 429 || status >= 500 {
        let error = AuthError::new(ErrorKind::ProviderUnavailable, "token_status");
        return Err(TokenError::Transient(error));
    }
    let body = object(answer.body());
    if status != 200 {
        // Bodies are empty, HTML or JSON here; only a registered code is looked for.
        let code = body.as_ref().and_then(|body| text(body, "error"));
        return Err(match code {
            Some("invalid_grant") => {
                TokenError::Grant(AuthError::new(ErrorKind::TokenEndpoint, "invalid_grant"))
            }
            Some("invalid_client") => TokenError::Refused(
                AuthError::new(ErrorKind::TokenEndpoint, "invalid_client")
                    .with_hint("check client id, secret and the kind of client authentication"),
            ),
            _ => malformed("refused"),
        });
    }
    if !answer.is_of_type(&["application/json"]) {
        return Err(malformed("content_type"));
    }
    let body = body.ok_or_else(|| malformed("malformed"))?;
    if body.contains_key("error") {
        return Err(malformed("error_with_200"));
    }
    let access = text(&body, "access_token").ok_or_else(|| malformed("access_token"))?;
    if !text(&body, "token_type").is_some_and(|kind| kind.eq_ignore_ascii_case("bearer")) {
        return Err(malformed("token_type"));
    }
    let id = match body.get("id_token") {
        None | Some(Value::Null) => None,
        Some(Value::String(id)) if id.is_empty() => None,
        Some(Value::String(id)) => Some(SecretString::new(id.as_str())),
        Some(_) => return Err(malformed("id_token")),
    };
    Ok(Tokens {
        access: SecretString::new(access),
        refresh: text(&body, "refresh_token").map(SecretString::new),
        id,
        expires_in: lifetime(body.get("expires_in")),
    })
}

/// Reads `expires_in`: seconds as a number, or (some providers) as text; what cannot be read says
/// nothing, and what is negative is over.
fn lifetime(value: Option<&Value>) -> Option<Duration> {
    let seconds = match value? {
        Value::Number(number) => number.as_f64()?,
        Value::String(text) => text.parse::<u32>().ok()?.into(),
        _ => return None,
    };
    let seconds = seconds.clamp(0.0, MAX_LIFETIME.as_secs_f64());
    Duration::try_from_secs_f64(seconds.floor()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn d15_expires_in_never_panics_and_never_makes_a_token_immortal() {
        let secs =
            |text: &str| lifetime(Some(&serde_json::from_str(text).unwrap())).map(|d| d.as_secs());
        assert_eq!(lifetime(None), None);
        for (text, expected) in [
            ("3600", Some(3600)),
            ("\"3600\"", Some(3600)),
            ("3599.5", Some(3599)),
            ("-1", Some(0)),
            ("0", Some(0)),
            ("9223372036854775807", Some(MAX_LIFETIME.as_secs())),
            ("1e300", Some(MAX_LIFETIME.as_secs())),
            ("null", None),
            ("\"soon\"", None),
            ("{}", None),
        ] {
            assert_eq!(secs(text), expected, "{text}");
        }
    }
}
