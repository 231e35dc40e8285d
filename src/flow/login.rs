//! The start of a login: `GET <prefix>/login?return_to=…`.

use std::sync::Arc;
use std::time::Duration;

use http::StatusCode;
use http::header::{HeaderValue, RETRY_AFTER};
use http::request::Parts;

use super::{Core, method_not_allowed, params};
use crate::access::{self, Kind};
use crate::csrf;
use crate::error::{AuthError, ErrorKind};
use crate::limit::ClientAddress;
use crate::oidc::authorize;
use crate::pending::Ticket;
use crate::respond::Answer;
use crate::session::keeper::{Found, Live};

/// Sends the visitor to the provider, or on, where somebody is signed in already.
///
/// 1. Only a top-level navigation starts a login.
/// 2. A live session leads straight to the target, unless our own page asked for another account.
/// 3. A client that starts too many is told to wait, before anything is noted or sent anywhere.
/// 4. The login is noted and its cookie made; only then does the browser go to the provider.
pub(crate) async fn login(core: &Arc<Core>, parts: &Parts) -> Answer {
    if parts.method != http::Method::GET {
        return method_not_allowed(core, parts, "GET");
    }
    let kind = access::kind(&parts.method, &parts.headers);
    if kind != Kind::Navigation {
        let error = AuthError::new(ErrorKind::NotSignedIn, "not_a_navigation");
        return core.refuse(kind, error, None);
    }
    let query = parts.uri.query().unwrap_or_default();
    // A target that cannot be read is a target that is not there: the login goes on without it.
    let params = params::decode(query.as_bytes()).unwrap_or_default();
    let param = |name| params::one(&params, name).ok().flatten();
    let ticket = match param("again").and_then(|text| core.pending.read_ticket(text)) {
        Some(again) => Ticket { attempt: 1, ..again },
        None => Ticket {
            return_to: param("return_to").and_then(|target| core.pending.return_to(target)),
            attempt: 0,
        },
    };
    let target = ticket.return_to.as_ref();
    let switch = param("switch") == Some("1");
    let (live, dead) = match core.keeper.find_now(&parts.headers, true).await {
        Found::Live(live) => (Some(live), false),
        Found::Dead => (None, true),
        Found::Absent => (None, false),
        Found::Unknown(error) => return core.refuse(kind, error, target),
    };
    // Only our own page may replace a live session, and only a browser that says so proves it.
    let replaces = switch && csrf::is_same_origin(&parts.headers);
    if let (Some(live), false) = (&live, replaces) {
        let home = core.home();
        let location = target.map_or(home.as_str(), |target| target.as_str());
        return Answer::redirect(StatusCode::SEE_OTHER, location)
            .cookies(live.set_cookies.iter().cloned());
    }
    if let Err(wait) = admit(core, parts) {
        let error = AuthError::new(ErrorKind::TooManyLogins, "client_limit");
        let seconds = HeaderValue::from(wait.as_secs() + 1);
        return core.refuse(kind, error, target).header_value(RETRY_AFTER, seconds);
    }
    match start(core, parts, &ticket, live.as_ref(), switch).await {
        Ok(mut answer) => {
            if dead {
                answer = answer.cookies(core.clear_session(&parts.headers));
            } else {
                answer = answer.cookies(core.forget_notice(&parts.headers));
            }
            answer
        }
        Err(error) => core.refuse(kind, error, target),
    }
}

/// Counts a start for its client, if who that is was said. Whatever a start costs, in the store or
/// at the provider, comes after this.
fn admit(core: &Core, parts: &Parts) -> Result<(), Duration> {
    match (&core.client_limit, parts.extensions.get::<ClientAddress>()) {
        (Some(limit), Some(client)) => limit.take(*client),
        _ => Ok(()),
    }
}

async fn start(
    core: &Arc<Core>,
    parts: &Parts,
    ticket: &Ticket,
    live: Option<&Live>,
    select_account: bool,
) -> Result<Answer, AuthError> {
    let snapshot = core.provider.snapshot().await?;
    let counter = core.keeper.revocation().counter();
    let superseded = live.map(|live| live.opened.reference());
    let started = core.pending.start(&parts.headers, ticket, counter, superseded).await?;
    let settings = core.provider.settings();
    let location = authorize::url(
        settings,
        &snapshot.metadata,
        &authorize::Request {
            state: &started.state,
            nonce: &started.nonce,
            verifier: started.verifier.expose(),
            select_account,
        },
    )?;
    tracing::debug!(attempt = ticket.attempt, "login started");
    Ok(Answer::redirect(StatusCode::FOUND, &location).cookies(started.set_cookies))
}
