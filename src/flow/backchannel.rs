//! Back-channel logout: the provider itself tells `<prefix>/backchannel-logout` whose session is
//! over (OpenID Connect Back-Channel Logout 1.0).
//!
//! 1. The form is read: one `logout_token`, whatever else there is.
//! 2. The token is verified and judged ([`crate::oidc::logout_token`]).
//! 3. Its `jti` is looked up: a token that has acted before acts no more. It is answered with 200,
//!    because the provider may repeat itself when an answer of ours was lost.
//! 4. The mark is written, what is known of the sessions is removed.
//! 5. The `jti` is written down, last: a repetition after trouble in between does everything again.
//!
//! Cookies, `Host`, `Origin` and the like are not looked at and nothing is set: the signature says
//! who speaks. Whatever is not done is answered with 400, never with 200 (section 2.8).

use std::sync::Arc;
use std::time::Duration;

use http::header::ALLOW;
use http::request::Parts;
use http::{Method, StatusCode};

use super::endings::{AUDIT, revoke};
use super::{Core, Form, finish, params};
use crate::error::{AuthError, ErrorKind};
use crate::oidc::logout_token::{LogoutClaims, Whom};
use crate::respond::{Answer, Content};
use crate::session::keeper::unavailable;
use crate::session::revocation::Target;
use crate::store::StoreError;

/// Clocks of pods may be this far apart: a used `jti` is remembered so much longer.
const MARGIN: Duration = Duration::from_secs(300);

/// How a logout that was carried out went.
struct Done {
    /// Whether the token had acted before.
    replayed: bool,
    /// How many sessions are known to have been ended.
    known: usize,
}

pub(crate) async fn logout(core: &Arc<Core>, parts: &Parts, form: Option<Form>) -> Answer {
    if parts.method != Method::POST {
        let error = AuthError::new(ErrorKind::MethodNotAllowed, "method");
        return refuse(core, error, None).header(ALLOW, "POST");
    }
    let token = match read(form) {
        Ok(token) => token,
        Err(detail) => return refuse(core, AuthError::new(ErrorKind::LogoutToken, detail), None),
    };
    let claims = match core.provider.logout_token(&token).await {
        Ok(claims) => claims,
        Err(detail @ "keys_unavailable") => {
            let error = AuthError::new(ErrorKind::ProviderUnavailable, detail);
            return refuse(core, error, None);
        }
        Err(detail) => {
            let error = AuthError::new(ErrorKind::LogoutToken, detail);
            let clocks = matches!(detail, "exp_past" | "iat_future" | "iat_old" | "nbf_future");
            let error = match detail {
                _ if clocks => {
                    error.with_hint("compare the clocks of this machine and the provider")
                }
                "exp" => error.with_hint("see the setting `logout_token_without_exp`"),
                _ => error,
            };
            return refuse(core, error, None);
        }
    };
    let (task_core, task_claims) = (core.clone(), claims.clone());
    let done = finish(async move { carry_out(&task_core, &task_claims).await });
    match done.await {
        Ok(Ok(done)) => {
            let (sub, sid) = names(core, &claims);
            let reason = if done.replayed { "replayed" } else { "done" };
            let issuer = core.provider.settings().issuer.as_str();
            tracing::info!(
                target: AUDIT, reason, issuer, sub, sid, known = done.known, "back-channel logout"
            );
            Answer::new(StatusCode::OK, Content::Empty)
        }
        Ok(Err(error)) => refuse(core, unavailable(&error), Some(&claims)),
        Err(error) => refuse(core, error, Some(&claims)),
    }
}

/// Reads the form; the error is the detail code.
fn read(form: Option<Form>) -> Result<String, &'static str> {
    let Some(Form::Body(body)) = form else { return Err("form") };
    let params = params::decode(&body).ok_or("encoding")?;
    match params::one(&params, "logout_token") {
        Ok(Some(token)) => Ok(token.to_owned()),
        Ok(None) => Err("missing"),
        Err(params::Repeated) => Err("repeated"),
    }
}

async fn carry_out(core: &Arc<Core>, claims: &LogoutClaims) -> Result<Done, StoreError> {
    let keeper = &core.keeper;
    if keeper.was_used(&claims.jti).await? {
        return Ok(Done { replayed: true, known: 0 });
    }
    let issuer = core.provider.settings().issuer.as_str();
    let ended = keeper.end_all(target(issuer, &claims.whom)).await?;
    let ttl = claims.until.since(core.clock.now()) + MARGIN;
    keeper.note_use(&claims.jti, ttl).await?;
    revoke(core, ended.refresh_tokens);
    Ok(Done { replayed: false, known: ended.known })
}

fn target<'a>(issuer: &'a str, whom: &'a Whom) -> Target<'a> {
    match whom {
        Whom::Both { sid, sub } => Target::SidAndSubject { issuer, sid, subject: sub },
        Whom::Sid(sid) => Target::Sid { issuer, sid },
        Whom::Sub(sub) => Target::Subject { issuer, subject: sub },
    }
}

/// Names for the log of whom a token speaks.
fn names(core: &Core, claims: &LogoutClaims) -> (Option<String>, Option<String>) {
    let name = |kind: &[u8], value: &String| core.keeper.pseudonym(kind, value);
    match &claims.whom {
        Whom::Both { sid, sub } => (Some(name(b"sub", sub)), Some(name(b"sid", sid))),
        Whom::Sid(sid) => (None, Some(name(b"sid", sid))),
        Whom::Sub(sub) => (Some(name(b"sub", sub)), None),
    }
}

/// The answer to what was not carried out: 400 whatever the cause (section 2.8), without a word of
/// the token.
fn refuse(core: &Core, error: AuthError, claims: Option<&LogoutClaims>) -> Answer {
    error.log();
    let (sub, sid) = claims.map_or((None, None), |claims| names(core, claims));
    let (reason, detail) = (error.kind().code(), error.detail());
    tracing::info!(target: AUDIT, reason, detail, sub, sid, "back-channel logout refused");
    let (status, code) = match error.kind() {
        ErrorKind::MethodNotAllowed => (StatusCode::METHOD_NOT_ALLOWED, "invalid_request"),
        ErrorKind::LogoutToken => (StatusCode::BAD_REQUEST, "invalid_request"),
        _ => (StatusCode::BAD_REQUEST, "temporarily_unavailable"),
    };
    let body = format!(
        r#"{{"error":"{code}","error_description":"{reason}: {detail} (reference {})"}}"#,
        error.reference()
    );
    Answer::new(status, Content::Json(body)).with_error(error)
}
