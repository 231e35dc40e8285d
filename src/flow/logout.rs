//! The end of a session: `<prefix>/logout` and `<prefix>/signed-out`.
//!
//! A sign-out ends the session of this browser; with `?everywhere=1` those in all other browsers of
//! the same person too.

use std::sync::Arc;
use std::time::Duration;

use http::header::HeaderValue;
use http::request::Parts;
use http::{Method, StatusCode};

use super::endings::{Ending, keep_trying, revoke};
use super::{Core, finish, method_not_allowed, params};
use crate::access::{self, Kind};
use crate::cookies::Own;
use crate::csrf;
use crate::error::AuthError;
use crate::oidc::end_session;
use crate::respond::pages::PageContent;
use crate::respond::{Answer, Content};
use crate::secret::{base64url, random};
use crate::session::keeper::{Found, Live, unavailable};
use crate::store::StoreError;

/// How long a sign-out waits to learn where the provider's is.
const PATIENCE: Duration = Duration::from_secs(2);

/// POST ends the session here, then at the provider; GET asks first.
pub(crate) async fn logout(core: &Arc<Core>, parts: &Arc<Parts>) -> Answer {
    match parts.method {
        Method::GET | Method::HEAD => confirm(core, parts).await,
        Method::POST => {
            let (task_core, task_parts) = (core.clone(), parts.clone());
            match finish(async move { sign_out(&task_core, &task_parts).await }).await {
                Ok(answer) => answer,
                Err(error) => core.refuse(Kind::Navigation, error, None),
            }
        }
        _ => method_not_allowed(core, parts, "GET, POST"),
    }
}

/// The page after a sign-out; it takes nothing from its query.
pub(crate) fn signed_out(core: &Core, parts: &Parts) -> Answer {
    if parts.method != Method::GET && parts.method != Method::HEAD {
        return method_not_allowed(core, parts, "GET");
    }
    signed_out_page(core)
}

fn signed_out_page(core: &Core) -> Answer {
    let page = PageContent::signed_out(&core.login_path(None));
    Answer::new(StatusCode::OK, Content::Page(Box::new(page)))
}

async fn confirm(core: &Arc<Core>, parts: &Parts) -> Answer {
    match core.keeper.find(&parts.headers, false).await {
        Found::Live(live) => {
            let identity = live.identity();
            let who = identity.name().or(identity.email()).unwrap_or(identity.subject());
            let logout = core.path("/logout");
            // Offered only where it can be kept.
            let everywhere = core.keeper.reaches_all().then(|| format!("{logout}?{EVERYWHERE}"));
            let page = PageContent::confirm_sign_out(
                who,
                &logout,
                everywhere,
                &core.home(),
                form_action(core).await,
            );
            Answer::new(StatusCode::OK, Content::Page(Box::new(page)))
        }
        Found::Unknown(error) => core.refuse(Kind::Navigation, error, None),
        Found::Absent | Found::Dead => signed_out_page(core),
    }
}

/// Where the form of the confirm page may lead: to us, and by our redirect to the provider.
async fn form_action(core: &Arc<Core>) -> String {
    // Asked for if this pod does not know it yet: without it the browser would block the way.
    let metadata = core.provider.snapshot().await.ok().map(|snapshot| snapshot.metadata);
    let end_session = metadata.and_then(|metadata| metadata.end_session.clone());
    match end_session {
        Some(url) => format!("'self' {}", url.origin().ascii_serialization()),
        None => "'self'".to_owned(),
    }
}

async fn sign_out(core: &Arc<Core>, parts: &Parts) -> Answer {
    let kind = access::kind(&parts.method, &parts.headers);
    // As it is now: of its tokens the newest is to be revoked.
    let found = core.keeper.find_now(&parts.headers, false).await;
    // Any cookie of ours is reason to ask: pending logins would be swept too.
    if core.cookies.read(&parts.headers).next().is_some() {
        let (origin, custom) = (core.public_url.origin(), core.csrf_header.as_ref());
        if let Err(error) = csrf::judge(&parts.method, &parts.headers, false, origin, custom) {
            return core.refuse(kind, error, None);
        }
    }
    let mut cookies = core.clear_session(&parts.headers);
    cookies.extend(core.pending.sweep(&parts.headers));
    let hinted = core.cookies.read(&parts.headers).any(|(own, _)| own == Own::LogoutHint);
    cookies.extend(hinted.then(|| core.cookies.remove(Own::LogoutHint)));
    let everywhere = asks_for_everywhere(parts);
    let answer = match found {
        Found::Live(live) => match end(core, &live, everywhere).await {
            Ok(()) => {
                let id_token = core.keeper.id_token(&live.opened, &parts.headers);
                tracing::debug!("signed out");
                if let Some(refresh) = live.refresh() {
                    revoke(core, vec![refresh.token.clone()]);
                }
                to_provider(core, id_token.as_deref()).await
            }
            Err((error, left)) => {
                let error = unavailable(&error);
                error.log();
                let queued = keep_trying(core, left);
                here_only(core, &error, queued)
            }
        },
        Found::Unknown(error) => {
            error.log();
            let claimed = core.keeper.claimed(&parts.headers);
            let queued = keep_trying(core, claimed.into_iter().map(Ending::Session).collect());
            // Whose session it is nobody can tell just now.
            here_only(core, &error, queued && !everywhere)
        }
        Found::Absent | Found::Dead => to_signed_out(core),
    };
    answer.cookies(cookies)
}

/// Ends a session, or all sessions of its person; an error comes with what is left to do.
async fn end(
    core: &Arc<Core>,
    live: &Live,
    everywhere: bool,
) -> Result<(), (StoreError, Vec<Ending>)> {
    let (session, record) = (live.opened.reference(), &live.opened.record);
    // The others of this person may end later than this one.
    let until = core.clock.now() + core.keeper.lifetimes().absolute;
    let person = everywhere.then(|| Ending::Person(record.subject.clone(), until));
    let ended = core.keeper.end(&session).await;
    // Both are tried: the one that is asked for and the one that is at hand.
    let others = match &person {
        Some(person) => person.carry_out(core).await,
        None => Ok(()),
    };
    if let Err(error) = ended.and(others) {
        let left = person.into_iter().chain([Ending::Session(session)]);
        return Err((error, left.collect()));
    }
    core.keeper.drop_sessions(&record.subject, &[record.id]).await;
    Ok(())
}

/// Tells whether a sign-out is to end the sessions in other browsers too.
fn asks_for_everywhere(parts: &Parts) -> bool {
    let query = parts.uri.query().unwrap_or_default().as_bytes();
    let params = params::decode(query).unwrap_or_default();
    params.iter().any(|(name, value)| name == "everywhere" && value == "1")
}

/// The query of the button that signs out everywhere.
const EVERYWHERE: &str = "everywhere=1";

fn to_signed_out(core: &Core) -> Answer {
    Answer::redirect(StatusCode::SEE_OTHER, &core.path("/signed-out"))
}

/// The store was away: the cookies go, and the page says what that is worth.
fn here_only(core: &Core, error: &AuthError, tried_again: bool) -> Answer {
    let page = PageContent::signed_out_here_only(error, &core.login_path(None), tried_again);
    Answer::new(StatusCode::SERVICE_UNAVAILABLE, Content::Page(Box::new(page)))
        .with_error(error.clone())
        .header_value(http::header::RETRY_AFTER, HeaderValue::from_static("2"))
}

/// The session is over here; the provider hears of it if it has an endpoint for that. Coming back
/// from there is not needed for anything.
async fn to_provider(core: &Arc<Core>, id_token: Option<&str>) -> Answer {
    // The cookies go with this answer: a provider that hangs must not hold them back.
    let endpoint = match tokio::time::timeout(PATIENCE, core.provider.snapshot()).await {
        Ok(Ok(snapshot)) => snapshot.metadata.end_session.clone(),
        Ok(Err(_)) | Err(_) => None,
    };
    match endpoint {
        Some(endpoint) => {
            let back = core.public_url.absolute(&format!("{}/signed-out", core.prefix));
            let state = base64url(random::<16>());
            let client_id = &core.provider.settings().client_id;
            let url = end_session::url(&endpoint, client_id, id_token, &back, &state);
            Answer::redirect(StatusCode::SEE_OTHER, &url)
        }
        None => to_signed_out(core),
    }
}
