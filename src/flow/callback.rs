//! The end of a login: the provider sends the browser back to `<prefix>/callback`.

use std::sync::Arc;
use std::time::Duration;

use http::request::Parts;
use http::{Method, StatusCode};
use serde_json::{Map, Value};

use super::{Core, Form, finish, method_not_allowed, params};
use crate::access::{self, Kind, text};
use crate::clock::UnixTime;
use crate::cookies::Own;
use crate::error::{AuthError, ErrorKind};
use crate::identity::join_claims;
use crate::oidc::id_token::{Expected, IdClaims, Nonce};
use crate::oidc::provider::Snapshot;
use crate::oidc::token::Tokens;
use crate::oidc::userinfo::Userinfo;
use crate::pending::{State, Taken, Unusable};
use crate::respond::Answer;
use crate::session::keeper::{Found, Login};

/// The parameters of an authorization response (RFC 6749 section 4.1.2, RFC 9207).
struct Response {
    code: Option<String>,
    error: Option<String>,
    iss: Option<String>,
    state: State,
}

/// Completes a login, in this order: parameters well-formed, cookie of this browser, login taken,
/// issuer, error or code, ID token, userinfo, session.
pub(crate) async fn callback(core: &Arc<Core>, parts: &Arc<Parts>, form: Option<Form>) -> Answer {
    let form_post = core.provider.settings().form_post;
    let (method, allow) = if form_post { (Method::POST, "POST") } else { (Method::GET, "GET") };
    if parts.method != method {
        return method_not_allowed(core, parts, allow);
    }
    // A form of the provider's comes from another site and says nothing else about itself.
    let kind = match access::kind(&parts.method, &parts.headers) {
        Kind::Script if form_post => Kind::Navigation,
        kind => kind,
    };
    if kind == Kind::Speculative || text(&parts.headers, "early-data") == Some("1") {
        // The code must be spent when somebody is there: RFC 8470 section 5.2 for early data.
        let error = AuthError::new(ErrorKind::NotSignedIn, "speculative");
        let mut answer = core.refuse(Kind::Script, error, None);
        if kind != Kind::Speculative {
            answer = answer.with_status(StatusCode::TOO_EARLY);
        }
        return answer;
    }
    let response = match read(core, parts, form.as_ref()) {
        Ok(response) => response,
        Err(error) => return core.refuse(kind, error, None),
    };
    let (task_core, task_parts) = (core.clone(), parts.clone());
    let done = finish(async move { complete(&task_core, &task_parts, kind, response).await });
    match done.await {
        Ok(answer) => answer,
        Err(error) => core.refuse(kind, error, None),
    }
}

fn read(core: &Core, parts: &Parts, form: Option<&Form>) -> Result<Response, AuthError> {
    let malformed = |detail| AuthError::new(ErrorKind::CallbackMalformed, detail);
    let query = parts.uri.query().unwrap_or_default().as_bytes();
    let text = match form {
        None => query,
        Some(Form::Unreadable) => return Err(malformed("form")),
        // Parameters split over query and form are nobody's answer (C27).
        Some(Form::Body(_)) if !query.is_empty() => return Err(malformed("query_and_form")),
        Some(Form::Body(body)) => body,
    };
    let params = params::decode(text).ok_or_else(|| malformed("encoding"))?;
    let one = |name| {
        params::one(&params, name)
            .map(|value| value.map(str::to_owned))
            .map_err(|_| malformed("repeated"))
    };
    let (code, error, iss, state) = (one("code")?, one("error")?, one("iss")?, one("state")?);
    one("response")?;
    let state = state
        .and_then(|state| core.pending.read_state(&state))
        .ok_or_else(|| AuthError::new(ErrorKind::StateMalformed, "state"))?;
    Ok(Response { code, error, iss, state })
}

async fn complete(core: &Arc<Core>, parts: &Parts, kind: Kind, response: Response) -> Answer {
    let state = response.state;
    let target = state.ticket.return_to.clone();
    // Known before anything is taken: a login is not spent on a provider that does not answer.
    if let Err(error) = core.provider.snapshot().await {
        return core.refuse(kind, error, target.as_ref());
    }
    let taken = match core.pending.take(&parts.headers, &state).await {
        Ok(taken) => taken,
        Err(why) => return unusable(core, parts, kind, &state, why).await,
    };
    let answer = (response.code, response.error, response.iss);
    match sign_in(core, parts, answer, &taken).await {
        Ok(cookies) => {
            let home = core.home();
            let location = target.as_ref().map_or(home.as_str(), |target| target.as_str());
            tracing::debug!("signed in");
            Answer::redirect(StatusCode::SEE_OTHER, location)
                .cookies(core.pending.sweep(&parts.headers))
                .cookies(cookies)
        }
        // A logout arrived meanwhile: once more, and the provider decides.
        Err(error)
            if error.kind() == ErrorKind::SignedOutMeanwhile && state.ticket.attempt == 0 =>
        {
            error.log();
            restart(core, &state).cookies([core.pending.forget(&state)])
        }
        Err(error) => {
            core.refuse(kind, error, target.as_ref()).cookies([core.pending.forget(&state)])
        }
    }
}

/// What becomes of a callback whose login cannot be completed here. No call goes to the provider
/// and no session is made; visitors cannot tell the reasons apart.
async fn unusable(
    core: &Arc<Core>,
    parts: &Parts,
    kind: Kind,
    state: &State,
    why: Unusable,
) -> Answer {
    let target = state.ticket.return_to.as_ref();
    let gone = match why {
        Unusable::AlreadyTaken | Unusable::Expired => Some(core.pending.forget(state)),
        Unusable::NoCookie | Unusable::Store(_) => None,
    };
    let detail = match why {
        // The login stays pending and its cookie stays: the visitor may reload.
        Unusable::Store(error) => return core.refuse(kind, error, target),
        Unusable::AlreadyTaken => "already_taken",
        Unusable::Expired => "expired",
        Unusable::NoCookie => "no_cookie",
    };
    match core.keeper.find(&parts.headers, true).await {
        Found::Live(live) => {
            let home = core.home();
            let location = target.map_or(home.as_str(), |target| target.as_str());
            return Answer::redirect(StatusCode::SEE_OTHER, location)
                .cookies(live.set_cookies)
                .cookies(gone);
        }
        Found::Unknown(error) => return core.refuse(kind, error, target),
        Found::Absent | Found::Dead => {}
    }
    let error = AuthError::new(ErrorKind::LoginExpired, detail);
    if kind == Kind::Navigation && state.ticket.attempt == 0 {
        error.log();
        return restart(core, state).cookies(gone);
    }
    core.refuse(kind, error, target).cookies(gone)
}

fn restart(core: &Core, state: &State) -> Answer {
    let again = core.path(&format!("/login?again={}", state.ticket_text));
    Answer::redirect(StatusCode::SEE_OTHER, &again)
}

/// Redeems the code of a taken login and makes the session; returns its cookies.
async fn sign_in(
    core: &Arc<Core>,
    parts: &Parts,
    (code, error, iss): (Option<String>, Option<String>, Option<String>),
    taken: &Taken,
) -> Result<Vec<http::HeaderValue>, AuthError> {
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
        .map_err(crate::oidc::token::TokenError::into_error)?;
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
        refresh: crate::session::refresh::due(tokens, None, now),
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
