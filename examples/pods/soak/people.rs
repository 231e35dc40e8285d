//! People who use an application, and notice what is wrong with it.

use std::error::Error;
use std::time::Duration;

use futures_util::future::join_all;
use http::StatusCode;

use super::watch::Watch;
use crate::browser::{Browser, Reply};
use crate::chance::below;
use crate::fleet::Fleet;

/// How long after a sign-out a cookie is tried: a pod that has lost its store may believe for two
/// seconds what it heard last.
const HOLDS: Duration = Duration::from_millis(2_500);
const PAUSE: Duration = Duration::from_millis(20);
/// One of so many visits is a sign-out.
const LEAVES: u32 = 150;

pub fn name(number: usize) -> String {
    format!("person-{number}")
}

/// Everybody comes, works, leaves, and comes again.
pub async fn live(fleet: &Fleet, watch: &Watch, people: usize) {
    let lives = (0..people).map(|number| async move {
        let user = name(number);
        let mut person = Person {
            browser: fleet.browser(&user).reloading(),
            user,
            signed_in: None,
            offered: false,
            watch,
        };
        while watch.pause(PAUSE + Duration::from_millis(below(100).into())).await {
            if let Err(error) = person.visit().await {
                let seen = format!("{}: {error}", person.user);
                watch.count(|tally| tally.odd.push(seen));
            }
        }
    });
    join_all(lives).await;
}

struct Person<'a> {
    browser: Browser,
    user: String,
    /// The epoch of the store at the last page that was shown.
    signed_in: Option<u64>,
    /// Whether the last page offers to sign in again.
    offered: bool,
    watch: &'a Watch,
}

impl Person<'_> {
    async fn visit(&mut self) -> Result<(), Box<dyn Error>> {
        let epoch = self.watch.epoch();
        match self.signed_in {
            None => {
                // A page that a login leads to only by a click.
                let path = if self.offered { "/auth/login?return_to=%2F" } else { "/" };
                let shown = self.browser.travel(path).await?;
                self.offered = is_an_offer(&shown.reply);
                if self.is_shown(&shown.reply, "/") {
                    self.watch.count(|tally| tally.logins += 1);
                    self.signed_in = Some(epoch);
                }
                Ok(())
            }
            Some(_) if below(LEAVES) == 0 => self.leave().await,
            Some(before) => {
                let path = format!("/work/{}", below(1_000));
                let reply = self.browser.open(&path).await?;
                if self.is_shown(&reply, &path) {
                    self.signed_in = Some(epoch);
                } else if reply.status.is_redirection() || is_an_offer(&reply) {
                    let page = reply.page().unwrap_or("redirect");
                    let seen = format!("{}: {} ({page}) for {path}", self.user, reply.status);
                    self.watch.signed_out(&self.user, before, seen);
                    self.offered = is_an_offer(&reply);
                    self.signed_in = None;
                }
                Ok(())
            }
        }
    }

    async fn leave(&mut self) -> Result<(), Box<dyn Error>> {
        let before = self.browser.snapshot();
        let reply = self.browser.post("/auth/logout").await?;
        self.signed_in = None;
        if reply.status.is_redirection() {
            self.watch.count(|tally| tally.logouts += 1);
            self.watch.has_left(before);
        } else if reply.page() == Some("signed-out-here-only") {
            self.watch.count(|tally| tally.logouts_here += 1);
        } else {
            // Nothing is known of the session, and the browser forgets it.
            self.is_shown(&reply, "/auth/logout");
        }
        if self.browser.session().is_some() {
            self.browser = self.browser.another(&self.user);
        }
        Ok(())
    }

    /// Tells whether the page is shown, and notes what nobody should see.
    fn is_shown(&self, reply: &Reply, path: &str) -> bool {
        let shown = reply.status == StatusCode::OK;
        let own = reply.body == format!("{} {path}", self.user);
        let is_expected = shown
            || reply.status.is_redirection()
            || reply.status == StatusCode::SERVICE_UNAVAILABLE
            || is_an_offer(reply);
        self.watch.count(|tally| {
            tally.requests += 1;
            tally.refused += u64::from(reply.status == StatusCode::SERVICE_UNAVAILABLE);
            if shown && !own {
                tally.wrong.push(format!("{} got {:?} for {path}", self.user, reply.body));
            }
            if !is_expected {
                let page = reply.page().unwrap_or(&reply.body);
                tally.odd.push(format!("{}: {} ({page}) for {path}", self.user, reply.status));
            }
        });
        shown && own
    }
}

/// A page that says why somebody is not signed in, and offers another try: what the second of two
/// restarts ends with when pods or the store died in both, and the end of a session that was lost
/// less than a minute after its login.
fn is_an_offer(reply: &Reply) -> bool {
    let pages = ["no-cookie", "restart", "signed-out-meanwhile"];
    reply.status == StatusCode::BAD_REQUEST
        && reply.page().is_some_and(|page| pages.contains(&page))
}

/// Asks with the cookies of people who have signed out.
pub async fn try_what_was_left(watch: &Watch) {
    while watch.pause(2 * PAUSE).await {
        let number = usize::try_from(below(u32::MAX)).unwrap_or_default();
        let Some((browser, left)) = watch.somebody_who_left(HOLDS, number) else { continue };
        // A copy: what it is told does not change what is tried next time.
        let Ok(reply) = browser.snapshot().open("/left").await else { continue };
        watch.count(|tally| {
            tally.tried += 1;
            match reply.status == StatusCode::OK {
                true if watch.was_failing_over(left) => tally.revived_by_fail_over += 1,
                true => tally.revived.push(reply.body),
                false => {}
            }
        });
    }
}
