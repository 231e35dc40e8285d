//! The authorization request: what the browser is sent to the provider with.

use openidconnect::core::{CoreAuthPrompt, CoreAuthenticationFlow, CoreClient, CoreJsonWebKeySet};
use openidconnect::{
    AuthUrl, AuthenticationContextClass, ClientId, CsrfToken, IssuerUrl, Nonce, PkceCodeChallenge,
    PkceCodeVerifier, RedirectUrl, Scope,
};

use super::metadata::Metadata;
use super::settings::Settings;
use crate::error::{AuthError, ErrorKind};

/// What differs from one login to the next.
#[derive(Clone, Copy)]
pub(crate) struct Request<'a> {
    pub(crate) state: &'a str,
    pub(crate) nonce: &'a str,
    pub(crate) verifier: &'a str,
    /// Ask which account, even where the provider knows one.
    pub(crate) select_account: bool,
}

/// Builds the authorization URL: code flow, PKCE with S256, state and nonce
/// (RFC 6749 section 4.1.1, RFC 7636 section 4.3, OpenID Connect Core 1.0 section 3.1.2.1).
pub(crate) fn url(
    settings: &Settings,
    metadata: &Metadata,
    request: &Request<'_>,
) -> Result<String, AuthError> {
    let unusable = |_| AuthError::new(ErrorKind::ProviderError, "authorization_url");
    let client = CoreClient::new(
        ClientId::new(settings.client_id.as_str().to_owned()),
        IssuerUrl::new(settings.issuer.as_str().to_owned()).map_err(unusable)?,
        CoreJsonWebKeySet::new(Vec::new()),
    )
    .set_auth_uri(AuthUrl::from_url(metadata.authorization.clone()))
    .set_redirect_uri(RedirectUrl::new(settings.redirect_uri.clone()).map_err(unusable)?);
    let verifier = PkceCodeVerifier::new(request.verifier.to_owned());
    let (state, nonce) = (request.state.to_owned(), request.nonce.to_owned());
    let mut authorization = client
        .authorize_url(
            CoreAuthenticationFlow::AuthorizationCode,
            || CsrfToken::new(state),
            || Nonce::new(nonce),
        )
        .set_pkce_challenge(PkceCodeChallenge::from_code_verifier_sha256(&verifier));
    for scope in &settings.scopes {
        authorization = authorization.add_scope(Scope::new(scope.clone()));
    }
    for acr in &settings.acr {
        authorization =
            authorization.add_auth_context_value(AuthenticationContextClass::new(acr.clone()));
    }
    if let Some(max_age) = settings.max_age {
        authorization = authorization.set_max_age(max_age);
    }
    if request.select_account {
        authorization = authorization.add_prompt(CoreAuthPrompt::SelectAccount);
    }
    if settings.scopes.iter().any(|scope| scope == "offline_access") {
        // Section 11: without it the provider must ignore the request for offline access.
        authorization = authorization.add_prompt(CoreAuthPrompt::Consent);
    }
    if settings.form_post {
        authorization = authorization.add_extra_param("response_mode", "form_post");
    }
    for (name, value) in &settings.extra_parameters {
        authorization = authorization.add_extra_param(name, value);
    }
    Ok(authorization.url().0.into())
}

/// Parameters that this crate sets itself; a setting must not repeat them.
pub(crate) const RESERVED: &[&str] = &[
    "acr_values",
    "client_id",
    "code_challenge",
    "code_challenge_method",
    "id_token_hint",
    "max_age",
    "nonce",
    "prompt",
    "redirect_uri",
    "request",
    "request_uri",
    "response_mode",
    "response_type",
    "scope",
    "state",
];
