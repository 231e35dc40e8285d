//! From an authorization response to a session: code, ID token, userinfo, session, in this order.

use std::sync::Arc;
use std::time::Duration;

use http::HeaderValue;
use http::request::Parts;
use serde_json::{Map, Value};

use super::Core;
use crate::clock::UnixTime;
use crate::cookies::Own;
use crate::error::{AuthError, ErrorKind};
use crate::identity::join_claims;
use crate::oidc::id_token::{Expected, IdClaims, Nonce};
use crate::oidc::provider::Snapshot;
use crate::oidc::settings::Userinfo;
use crate::oidc::token::{TokenError, Tokens};
use crate::pending::Taken;
use crate::session::establish::Login;
use crate::session::keeper::Found;
use crate::session::refresh;

/// Redeems the code of a taken login and makes the session; returns its cookies.
pub(super) async fn sign_in(
    core: &Arc<Core>,
    parts: &Parts,
    (code, error, iss): (Option<String>, Option<String>, Option<String>),
    taken: &Taken,
) -> Result<Vec<HeaderValue>, AuthError> {
    let settings = core.provider.settings();
    let snapshot = core.provider.snapshot().await?;
    // RFC 9207 section 2.4, for errors as well: an answer of another provider is no answer.
    match iss {
        Some(iss) if iss != settings.issuer.as_str() => {
            return Err(AuthError::new(ErrorKind::IssuerMismatch, "iss"));
        }
        None if snapshot.metadata.iss_parameter => {
            return Err(AuthError::new(ErrorKind::IssuerMismatch, "iss_missing"));
        }
        _ => {}
    }
    if let Some(error) = error {
        return Err(provider_said(&error));
    }
    let code =
        code.ok_or_else(|| AuthError::new(ErrorKind::CallbackMalformed, "neither_code_nor_error"))?;
    let tokens = core
        .provider
        .redeem(&snapshot.metadata.token, &code, taken.verifier.expose())
        .await
        .map_err(TokenError::into_error)?;
    let received = core.clock.now();
    let (id_token, claims) = identify(core, &tokens, &taken.nonce, received).await?;
    let more = userinfo(core, &snapshot, &tokens, &claims).await?;
    let login = login(core, id_token, claims, more, &tokens, taken, received);
    let replaced = core.keeper.find(&parts.headers, false).await;
    let mut cookies = match core.keeper.establish(login, &parts.headers).await {
        Ok(cookies) => cookies,
        Err(error) => {
            // Nobody will use these tokens.
            revoke(core, &snapshot, &tokens).await;
            return Err(error);
        }
    };
    end_replaced(core, replaced, taken).await;
    cookies.push(core.cookies.set(Own::Notice, "1", notice_lifetime(core)));
    Ok(cookies)
}

/// Checks the ID token of a token response; nothing else of it is used before.
async fn identify(
    core: &Arc<Core>,
    tokens: &Tokens,
    nonce: &str,
    now: UnixTime,
) -> Result<(String, IdClaims), AuthError> {
    let settings = core.provider.settings();
    let id_token = tokens
        .id
        .as_ref()
        .ok_or_else(|| AuthError::new(ErrorKind::TokenEndpoint, "id_token_missing"))?;
    let expected = Expected {
        issuer: settings.issuer.as_str(),
        client_id: settings.client_id.as_str(),
        trusted_audiences: &settings.trusted_audiences,
        now,
        leeway: settings.leeway,
        nonce: Nonce::Required(nonce),
        max_age: settings.max_age,
        acr: &settings.acr,
        access_token: Some(tokens.access.expose()),
    };
    let claims = core.provider.id_token(id_token.expose(), &expected).await?;
    Ok((id_token.expose().to_owned(), claims))
}

async fn userinfo(
    core: &Arc<Core>,
    snapshot: &Snapshot,
    tokens: &Tokens,
    claims: &IdClaims,
) -> Result<Map<String, Value>, AuthError> {
    let mode = core.provider.settings().userinfo;
    if mode == Userinfo::Off {
        return Ok(Map::new());
    }
    let asked = match &snapshot.metadata.userinfo {
        Some(endpoint) => {
            core.provider.userinfo(endpoint, tokens.access.expose(), &claims.sub).await
        }
        None => Err(AuthError::new(ErrorKind::Userinfo, "no_endpoint")),
    };
    match asked {
        // An answer about somebody else is an attack, not an outage.
        Err(error) if mode == Userinfo::Optional && error.detail() != "sub" => {
            error.log();
            Ok(Map::new())
        }
        result => result,
    }
}

fn login(
    core: &Core,
    id_token: String,
    claims: IdClaims,
    userinfo: Map<String, Value>,
    tokens: &Tokens,
    taken: &Taken,
    now: UnixTime,
) -> Login {
    Login {
        subject: claims.sub,
        sid: claims.sid,
        acr: claims.acr,
        auth_time: claims.auth_time,
        claims: join_claims(claims.all, userinfo, &core.claims),
        session_expiry: claims.session_expiry,
        begun: taken.begun,
        id_token,
        nonce: taken.nonce.clone(),
        refresh: refresh::due(tokens, None, now),
    }
}

/// The session that this login replaces must not stay behind, whoever it belongs to.
async fn end_replaced(core: &Arc<Core>, replaced: Found, taken: &Taken) {
    let session = match (replaced, &taken.superseded) {
        (Found::Live(live), _) => live.opened.reference(),
        (_, Some(superseded)) => superseded.clone(),
        _ => return,
    };
    let ended = core.keeper.end(&session).await;
    if let Err(error) = ended {
        tracing::warn!(%error, "a replaced session could not be ended");
    }
}

async fn revoke(core: &Arc<Core>, snapshot: &Snapshot, tokens: &Tokens) {
    let Some(endpoint) = &snapshot.metadata.revocation else {
        return;
    };
    if let Some(refresh) = &tokens.refresh {
        core.provider.revoke(endpoint, refresh.expose(), "refresh_token").await;
    }
    core.provider.revoke(endpoint, tokens.access.expose(), "access_token").await;
}

/// How long "a login was just completed" is remembered: shorter than any session lives.
fn notice_lifetime(core: &Core) -> Duration {
    let lifetimes = core.keeper.lifetimes();
    Duration::from_secs(60)
        .min(lifetimes.idle / 2)
        .min(lifetimes.absolute / 2)
        .max(Duration::from_secs(1))
}

/// Sorts the provider's error codes (RFC 6749 section 4.1.2.1, OpenID Connect Core 1.0 section
/// 3.1.2.6); its text is never shown.
fn provider_said(error: &str) -> AuthError {
    match error {
        "access_denied" => AuthError::new(ErrorKind::AccessDenied, "access_denied"),
        "unmet_authentication_requirements" => {
            AuthError::new(ErrorKind::AccessDenied, "unmet_authentication_requirements")
        }
        "login_required"
        | "interaction_required"
        | "consent_required"
        | "account_selection_required" => {
            AuthError::new(ErrorKind::AccessDenied, "interaction_required")
        }
        "temporarily_unavailable" | "server_error" => {
            AuthError::new(ErrorKind::ProviderUnavailable, "provider_said_unavailable")
        }
        "invalid_scope" => AuthError::new(ErrorKind::ProviderError, "invalid_scope")
            .with_hint("the provider does not know a scope that the settings ask for"),
        "unauthorized_client" | "invalid_request" => {
            AuthError::new(ErrorKind::ProviderError, "invalid_request")
                .with_hint("compare the registration at the provider with the settings")
        }
        _ => AuthError::new(ErrorKind::ProviderError, "error_response"),
    }
}
