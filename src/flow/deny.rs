//! A request for a protected path by nobody, or by somebody who may not come in.

use http::header::{HeaderName, HeaderValue, WWW_AUTHENTICATE};
use http::request::Parts;
use http::{HeaderMap, Method, StatusCode};

use super::Core;
use crate::access::{self, Kind, text};
use crate::cookies::Own;
use crate::error::{AuthError, ErrorKind};
use crate::respond::pages::PageContent;
use crate::respond::{Answer, Content};
use crate::return_to::ReturnTo;
use crate::session::keeper::Live;

/// Sends a navigation to the sign-in, and tells everybody else in their own way.
///
/// `cookie` says whether a session cookie came along, dead as it may be.
pub(crate) fn deny(core: &Core, parts: &Parts, cookie: bool) -> Answer {
    let kind = access::kind(&parts.method, &parts.headers);
    let error = AuthError::new(ErrorKind::NotSignedIn, "no_session");
    match kind {
        Kind::Navigation => {
            let target = requested(core, parts);
            let noticed = core.cookies.read(&parts.headers).any(|(own, _)| own == Own::Notice);
            if noticed {
                // A login was completed a moment ago and its session is not here: another one
                // would end the same way. Whoever signs out loses the note as well.
                let detail = if cookie { "session_dead_at_once" } else { "notice_without_session" };
                let error = AuthError::new(ErrorKind::CookieNotKept, detail);
                return core.refuse(kind, error, target.as_ref());
            }
            let status = if parts.method == Method::GET {
                StatusCode::FOUND
            } else {
                // 303 makes the browser forget the form, so that it goes to nobody else.
                StatusCode::SEE_OTHER
            };
            error.log();
            Answer::redirect(status, &core.login_path(target.as_ref())).with_error(error)
        }
        Kind::Htmx => {
            let target = current_page(core, &parts.headers, "hx-current-url");
            let login = core.login_path(target.as_ref());
            error.log();
            let answer = unauthorized(core, error, target.as_ref());
            match HeaderValue::from_str(&login) {
                Ok(login) => answer.header_value(HeaderName::from_static("hx-redirect"), login),
                Err(_) => answer,
            }
        }
        Kind::Grpc(_) => core.refuse(kind, error, None),
        Kind::Embedded | Kind::Preflight | Kind::Script | Kind::Speculative | Kind::Upgrade => {
            error.log();
            let target = current_page(core, &parts.headers, "referer");
            unauthorized(core, error, target.as_ref())
        }
    }
}

/// Tells somebody who is signed in that they may not come in, and offers another account.
pub(crate) fn not_allowed(core: &Core, parts: &Parts, live: Live, error: AuthError) -> Answer {
    let kind = access::kind(&parts.method, &parts.headers);
    let identity = live.identity();
    let answer = match kind {
        Kind::Navigation | Kind::Embedded => {
            error.log();
            let switch = core.switch_path(requested(core, parts).as_ref());
            let page = PageContent::not_allowed(&error, &identity, &switch, &core.path("/logout"));
            let status = error.kind().status();
            Answer::new(status, Content::Page(Box::new(page))).with_error(error)
        }
        _ => core.refuse(kind, error, None),
    };
    answer.cookies(live.set_cookies)
}

/// 401 in JSON, with the link a script may send its page to.
fn unauthorized(core: &Core, error: AuthError, target: Option<&ReturnTo>) -> Answer {
    // Refusals are frequent and cheap: one string, written in place.
    let mut body = String::with_capacity(128);
    for part in [r#"{"error":""#, error.kind().code(), r#"","login_url":""#] {
        body.push_str(part);
    }
    core.write_login_path(target, &mut body);
    body.push_str("\"}");
    Answer::new(StatusCode::UNAUTHORIZED, Content::Json(body))
        // RFC 9110 section 15.5.2 wants a challenge; this scheme makes no browser ask for a
        // password.
        .header(WWW_AUTHENTICATE, "Cookie realm=\"sign-in\"")
        .with_error(error)
}

/// Returns where the visitor wanted to go; only what a GET can repeat is remembered.
fn requested(core: &Core, parts: &Parts) -> Option<ReturnTo> {
    if parts.method != Method::GET {
        return None;
    }
    let path = parts.uri.path_and_query()?.as_str();
    core.pending.return_to(&core.public_path(path))
}

/// Returns the page a script runs in, if it is one of ours.
fn current_page(core: &Core, headers: &HeaderMap, name: &str) -> Option<ReturnTo> {
    let url = text(headers, name)?;
    let path = url.strip_prefix(core.public_url.origin())?;
    core.pending.return_to(path)
}
