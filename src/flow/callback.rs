//! The end of a login: the provider sends the browser back to `<prefix>/callback`.

use std::sync::Arc;

use http::request::Parts;
use http::{Method, StatusCode};

use super::{Core, Form, finish, method_not_allowed, params, sign_in};
use crate::access::{self, Kind, text};
use crate::error::{AuthError, ErrorKind};
use crate::pending::{State, Unusable};
use crate::respond::Answer;
use crate::session::keeper::Found;

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
    match sign_in::sign_in(core, parts, answer, &taken).await {
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
