//! Front-channel logout: the provider has the browser load `<prefix>/frontchannel-logout` in a
//! frame (OpenID Connect Front-Channel Logout 1.0).
//!
//! Nothing is signed here. What is believed is the `sid`, which is not to be guessed: a request that
//! names issuer and `sid` of the session that its own cookie bears ends that one; without a cookie,
//! as browsers send it in foreign frames, it ends the sessions of a `sid` that some login recorded,
//! at a limited rate. Whether there was one does not show.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use http::header::{ALLOW, CONTENT_SECURITY_POLICY, HeaderValue, RETRY_AFTER};
use http::request::Parts;
use http::{HeaderMap, Method, StatusCode};

use super::endings::{AUDIT, revoke};
use super::{Core, finish, params};
use crate::cookies::Own;
use crate::respond::pages::PageContent;
use crate::respond::{Answer, Content, framed_policy};
use crate::session::keeper::{Found, unavailable};
use crate::session::revocation::Target;
use crate::store::StoreError;

pub(crate) async fn logout(core: &Arc<Core>, parts: &Arc<Parts>) -> Answer {
    // HEAD asks for headers and must end nothing.
    if parts.method != Method::GET {
        return page(core, StatusCode::METHOD_NOT_ALLOWED).header(ALLOW, "GET");
    }
    let query = parts.uri.query().unwrap_or_default().as_bytes();
    let params = params::decode(query).unwrap_or_default();
    let one = |name| params::one(&params, name).ok().flatten();
    let (Some(iss), Some(sid)) = (one("iss"), one("sid")) else {
        return page(core, StatusCode::BAD_REQUEST);
    };
    if iss != core.provider.settings().issuer.as_str() {
        return page(core, StatusCode::OK);
    }
    let (task_core, task_parts, sid) = (core.clone(), parts.clone(), sid.to_owned());
    match finish(async move { end(&task_core, &task_parts.headers, &sid).await }).await {
        Ok(answer) => answer,
        Err(error) => {
            error.log();
            page(core, error.kind().status()).with_error(error)
        }
    }
}

async fn end(core: &Arc<Core>, headers: &HeaderMap, sid: &str) -> Answer {
    let mut cookies = Vec::new();
    // A session that nobody can judge just now is left alone; its `sid` is looked up all the same.
    if let Found::Live(live) = core.keeper.find(headers, false).await
        && live.opened.record.sid.as_deref() == Some(sid)
    {
        if let Err(error) = core.keeper.end(&live.opened.reference()).await {
            return away(core, &error);
        }
        let record = &live.opened.record;
        core.keeper.drop_sessions(&record.subject, &[record.id]).await;
        revoke(core, live.refresh().map(|refresh| refresh.token.clone()).into_iter().collect());
        cookies = core.clear_session(headers);
        cookies.extend(core.pending.sweep(headers));
        // It is not sent to this path.
        cookies.push(core.cookies.remove(Own::LogoutHint));
        audit(core, "cookie", sid, 1);
    }
    match end_recorded(core, sid).await {
        Ok(true) => page(core, StatusCode::OK),
        Ok(false) => page(core, StatusCode::SERVICE_UNAVAILABLE).header(RETRY_AFTER, "2"),
        Err(error) => away(core, &error),
    }
    .cookies(cookies)
}

/// Ends the sessions of a `sid` that some login recorded; `false` if that was asked too often.
async fn end_recorded(core: &Arc<Core>, sid: &str) -> Result<bool, StoreError> {
    let Some(recorded) = core.keeper.recorded(sid).await? else { return Ok(true) };
    if !core.unsigned.take(core.clock.monotonic()) {
        tracing::warn!(target: AUDIT, "too many front-channel logouts; one was refused");
        return Ok(false);
    }
    let issuer = core.provider.settings().issuer.as_str();
    let ended = core.keeper.end_all(Target::Sid { issuer, sid }).await?;
    core.keeper.forget_sid(sid, &recorded).await?;
    audit(core, "sid", sid, ended.known);
    revoke(core, ended.refresh_tokens);
    Ok(true)
}

fn audit(core: &Core, by: &'static str, sid: &str, known: usize) {
    let sid = core.keeper.pseudonym(b"sid", sid);
    tracing::info!(target: AUDIT, by, sid, known, "front-channel logout");
}

fn away(core: &Core, error: &StoreError) -> Answer {
    let error = unavailable(error);
    error.log();
    page(core, error.kind().status()).header(RETRY_AFTER, "2").with_error(error)
}

/// The one page that the provider may show in a frame, and the same for everybody.
fn page(core: &Core, status: StatusCode) -> Answer {
    let mut origins = vec![core.provider.settings().issuer.origin()];
    // The page that holds the frame is of where people sign out, which may be elsewhere.
    origins.extend(core.provider.known_end_session().map(|url| url.origin().ascii_serialization()));
    origins.dedup();
    let policy = HeaderValue::from_str(&framed_policy(&origins.join(" ")));
    Answer::new(status, Content::Page(Box::new(PageContent::frontchannel_logout()))).header_value(
        CONTENT_SECURITY_POLICY,
        policy.unwrap_or(HeaderValue::from_static("default-src 'none'")),
    )
}

/// How often a logout without a signature is believed: a hundred at once, ten a second.
#[derive(Debug, Default)]
pub(crate) struct Allowance(Mutex<Used>);

#[derive(Debug, Default)]
struct Used {
    /// What is not given back yet, in thousandths.
    thousandths: u64,
    since: Duration,
}

const AT_ONCE: u64 = 100;
const PER_SECOND: u64 = 10;

impl Allowance {
    fn take(&self, now: Duration) -> bool {
        let mut used = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let passed = u64::try_from(now.saturating_sub(used.since).as_millis()).unwrap_or(u64::MAX);
        used.thousandths = used.thousandths.saturating_sub(passed.saturating_mul(PER_SECOND));
        used.since = now;
        let allowed = used.thousandths + 1_000 <= AT_ONCE * 1_000;
        if allowed {
            used.thousandths += 1_000;
        }
        allowed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn logouts_without_a_signature_are_believed_a_hundred_at_once_and_ten_a_second() {
        let allowance = Allowance::default();
        let taken = |now, asked: usize| {
            (0..asked).filter(|_| allowance.take(Duration::from_millis(now))).count()
        };
        assert_eq!(taken(5_000, 200), 100);
        assert_eq!(taken(5_050, 200), 0);
        assert_eq!(taken(6_050, 200), 10);
        assert_eq!(taken(3_600_000, 200), 100);
    }
}
