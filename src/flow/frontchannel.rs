//! Front-channel logout: the provider has the browser load `<prefix>/frontchannel-logout` in a
//! frame (OpenID Connect Front-Channel Logout 1.0).
//!
//! Nothing is signed here. What is believed is the `sid`, which is not to be guessed: a request that
//! names issuer and `sid` of the session that its own cookie bears ends that one; without a cookie,
//! as browsers send it in foreign frames, it ends the sessions of a `sid` that some login recorded,
//! at a limited rate. Whether there was one does not show.

use std::collections::HashSet;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use http::header::{ALLOW, CONTENT_SECURITY_POLICY, HeaderValue, RETRY_AFTER};
use http::request::Parts;
use http::{HeaderMap, Method, StatusCode};

use super::endings::{AUDIT, revoke};
use super::{Core, finish, params};
use crate::cookies::Own;
use crate::respond::pages::PageContent;
use crate::respond::{Answer, Content, framed_policy};
use crate::seal::sha256_of;
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
    // Whoever asks for the same while it is being done takes nothing of what others need.
    let Some(_ours) = core.unsigned.begin(sid) else { return Ok(true) };
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
#[derive(Default)]
pub(crate) struct Allowance(Mutex<Used>);

impl fmt::Debug for Allowance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Allowance(..)")
    }
}

/// A `sid` whose sessions are being ended.
struct Ours<'a> {
    allowance: &'a Allowance,
    sid: [u8; 32],
}

impl Drop for Ours<'_> {
    fn drop(&mut self) {
        self.allowance.used().under_way.remove(&self.sid);
    }
}

#[derive(Default)]
struct Used {
    /// What is not given back yet, as the time that takes.
    owed: Duration,
    since: Duration,
    under_way: HashSet<[u8; 32]>,
}

const AT_ONCE: u32 = 100;
/// So long it takes until one more is believed.
const EACH: Duration = Duration::from_millis(100);

impl Allowance {
    /// Begins to end the sessions of a `sid`; `None` while somebody else does so.
    fn begin(&self, sid: &str) -> Option<Ours<'_>> {
        let sid = sha256_of(&[b"sid", sid.as_bytes()]);
        let begun = self.used().under_way.insert(sid);
        // Made only if it is ours: dropped, it ends what another one has begun.
        begun.then(|| Ours { allowance: self, sid })
    }

    fn take(&self, now: Duration) -> bool {
        let mut used = self.used();
        used.owed = used.owed.saturating_sub(now.saturating_sub(used.since));
        used.since = now;
        let allowed = used.owed + EACH <= EACH * AT_ONCE;
        if allowed {
            used.owed += EACH;
        }
        allowed
    }

    fn used(&self) -> MutexGuard<'_, Used> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
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

    #[test]
    fn an_allowance_that_is_asked_often_is_refilled_all_the_same() {
        let allowance = Allowance::default();
        // Ten seconds, asked every half a millisecond: a hundred at once and ten a second.
        let asked = (0..20_000).map(|step| Duration::from_micros(5_000_000 + step * 500));
        assert_eq!(asked.filter(|at| allowance.take(*at)).count(), 200 - 1);
    }

    #[test]
    fn a_sid_is_ended_by_one_at_a_time() {
        let allowance = Allowance::default();
        let ours = allowance.begin("one");
        assert!(ours.is_some() && allowance.begin("one").is_none());
        assert!(allowance.begin("two").is_some());
        drop(ours);
        assert!(allowance.begin("one").is_some());
    }
}
