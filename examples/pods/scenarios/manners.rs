//! What people do: two tabs, saying no, reloading, and coming in crowds.

use std::error::Error;

use futures_util::{StreamExt, TryStreamExt, stream};
use http::StatusCode;

use super::logins::AT_A_TIME;
use crate::browser::{Browser, Shown};
use crate::fleet::Fleet;
use crate::table::Found;

/// Two tabs of one browser sign in at once; in every other round their callbacks cross as well.
pub async fn two_tabs(fleet: &Fleet, rounds: u32) -> Result<Found, Box<dyn Error>> {
    let mut both = 0;
    let mut wrong = None;
    for round in 0..rounds {
        let browser = fleet.browser("alice");
        let (one, two) = tokio::join!(browser.to_callback("/one"), browser.to_callback("/two"));
        let (one, two) = (one?, two?);
        let (one, two) = if round % 2 == 0 {
            tokio::join!(finish(&browser, &one), finish(&browser, &two))
        } else {
            (finish(&browser, &one).await, finish(&browser, &two).await)
        };
        let done = |shown: &Shown, path| shown.is_for("alice", path) && shown.visits == 0;
        match (one?, two?) {
            (one, two) if done(&one, "/one") && done(&two, "/two") => both += 1,
            (one, two) => wrong = Some(format!("{}, {}", one.describe(), two.describe())),
        }
    }
    let wrong = wrong.map_or_else(String::new, |wrong| format!("; last of the others: {wrong}"));
    Ok(Found { good: both == rounds, result: format!("{both}/{rounds}{wrong}") })
}

/// Somebody says no at the provider: told so and offered another try, and the login is used up.
///
/// `noted` says that the pods note so on their side: the cookies from before do not help then.
/// Sealed and without a server the browser's cookie is all there is of the login, and is removed.
pub async fn denial(fleet: &Fleet, noted: bool) -> Result<Found, Box<dyn Error>> {
    let browser = fleet.browser("alice");
    let url = browser.to_provider("/report").await?.map_err(|shown| shown.describe())?;
    let denied = browser.agree_as(&url, "deny").await?;
    // The same login again, with a good code.
    let again = browser.agree_as(&url, "alice").await?;
    let before = browser.snapshot();
    fleet.provider.reset_counts();
    let reply = browser.arrive(&denied).await?;
    let explains = reply.status == StatusCode::FORBIDDEN && reply.page() == Some("provider-error");
    let retry = "/auth/login?return_to=%2Freport";
    let offers = reply.body.contains(retry);
    let mut redeemed_later = false;
    let replaying = if noted { before } else { browser.snapshot() };
    for callback in [&denied, &again] {
        redeemed_later |= replaying.snapshot().arrive(callback).await?.makes_session();
    }
    let token_requests = fleet.provider.counts().token;
    let tried = browser.travel(retry).await?;
    let works = tried.is_for("alice", "/report");
    let consumed = token_requests == 0 && !redeemed_later;
    let result = format!(
        "{}, page explains: {}, offers another try: {}, which works: {}; login consumed: {}, \
         {token_requests} requests at the token endpoint",
        reply.status.as_u16(),
        yes(explains),
        yes(offers),
        yes(works),
        yes(consumed),
    );
    Ok(Found { good: explains && offers && works && consumed, result })
}

/// The callback is loaded again after it has succeeded.
pub async fn reload(fleet: &Fleet, rounds: u32) -> Result<Found, Box<dyn Error>> {
    let target = "/deep/link?x=%26";
    let mut on_target = 0;
    let mut wrong = None;
    fleet.provider.reset_counts();
    for _ in 0..rounds {
        let browser = fleet.browser("alice");
        let callback = browser.to_callback(target).await?;
        let first = browser.arrive(&callback).await?;
        let second = browser.arrive(&callback).await?;
        if first.leads_to(target) && second.leads_to(target) {
            on_target += 1;
        } else {
            wrong = Some(format!("; last of the others: {}, {}", first.status, second.status));
        }
    }
    let redeemed = fleet.provider.counts().token;
    let result = format!(
        "{on_target}/{rounds} redirected to where they wanted to go, {redeemed} codes redeemed{}",
        wrong.unwrap_or_default(),
    );
    Ok(Found { good: on_target == rounds && redeemed == u64::from(rounds), result })
}

/// Strangers start logins and leave them, while somebody is at the provider.
pub async fn crowd(fleet: &Fleet, strangers: u32) -> Result<Found, Box<dyn Error>> {
    let browser = fleet.browser("alice");
    let callback = browser.to_callback("/patient").await?;
    let begin = |_| async { Ok(fleet.browser("bob").to_provider("/").await?.is_ok()) };
    let begun: u32 = stream::iter(0..strangers)
        .map(begin)
        .buffer_unordered(AT_A_TIME)
        .try_fold(0, |all, begun| async move { Ok::<_, Box<dyn Error>>(all + u32::from(begun)) })
        .await?;
    let shown = finish(&browser, &callback).await?;
    let kept = shown.is_for("alice", "/patient") && shown.visits == 0;
    let result = format!("{} ({begun} starts; then: {})", yes(!kept), shown.describe());
    Ok(Found { good: kept && begun == strangers, result })
}

async fn finish(browser: &Browser, callback: &str) -> Result<Shown, Box<dyn Error>> {
    let reply = browser.arrive(callback).await?;
    browser.follow(callback, reply).await
}

const fn yes(so: bool) -> &'static str {
    if so { "yes" } else { "no" }
}
