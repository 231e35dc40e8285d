//! Somebody who asks again and again, and notes what is seen.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use http::StatusCode;
use http::header::RETRY_AFTER;
use tokio::sync::watch;

use super::PATIENCE;
use super::world::World;
use crate::browser::{Browser, Reply};

/// Who asks.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Who {
    /// Signed in, with a session in cookies.
    Sealed,
    /// Signed in, with a session in Redis.
    Stored,
    /// Not signed in, and about to.
    Stranger,
}

/// One of those who ask.
pub struct Probe {
    who: Who,
    browser: Browser,
    stage: watch::Receiver<Stage>,
}

/// How far an outage is.
#[derive(Clone, Copy, Debug)]
pub enum Stage {
    Away,
    /// What is seen now may be seen because of its end.
    Ending,
    Over(Instant),
}

/// What was seen.
#[derive(Debug, Default)]
pub struct Seen {
    /// How often each answer came to what was asked during the outage.
    pub during: BTreeMap<String, u32>,
    pub longest: Duration,
    /// From the end of the outage to the first success; none if that never came.
    pub back: Option<Duration>,
    /// Whether anything but success was ever seen.
    pub noticed: bool,
    /// Somebody else's page.
    pub wrong: u32,
}

const PAUSE: Duration = Duration::from_millis(20);
const SUCCESS: &str = "200";
const PATH: &str = "/work";

impl Probe {
    pub fn new(who: Who, world: &World, stage: watch::Receiver<Stage>) -> Self {
        let browser = match who {
            Who::Sealed => world.signed_in[1].clone(),
            Who::Stored => world.signed_in[0].clone(),
            Who::Stranger => world.stored.browser("bob"),
        };
        Self { who, browser, stage }
    }

    /// Asks until the outage is over and there was a success since.
    pub async fn run(self) -> Seen {
        let mut seen = Seen::default();
        loop {
            let asked_at = *self.stage.borrow();
            let asked = Instant::now();
            let answer = self.ask(&mut seen).await;
            seen.longest = seen.longest.max(asked.elapsed());
            let success = answer == SUCCESS;
            seen.noticed |= !success;
            let answered_at = *self.stage.borrow();
            match (asked_at, answered_at) {
                (_, Stage::Away) => *seen.during.entry(answer).or_default() += 1,
                (Stage::Over(_), Stage::Over(over)) if success => {
                    seen.back = Some(over.elapsed());
                    return seen;
                }
                (Stage::Over(over), _) if over.elapsed() > PATIENCE => return seen,
                // Whoever is signed out signs in again.
                (Stage::Over(_), _) if self.who != Who::Stranger => {
                    let _ = self.browser.travel("/").await;
                }
                _ => {}
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    async fn ask(&self, seen: &mut Seen) -> String {
        let (reply, user) = if self.who == Who::Stranger {
            let stranger = self.browser.another("bob");
            let shown = stranger.travel(PATH).await;
            (shown.map(|shown| shown.reply), "bob")
        } else {
            (self.browser.open(PATH).await, "alice")
        };
        let Ok(reply) = reply else { return "no answer".to_owned() };
        if reply.status == StatusCode::OK && reply.body != format!("{user} {PATH}") {
            seen.wrong += 1;
        }
        describe(&reply)
    }
}

/// A 503 must say when to come back, and leave the session's cookie alone.
fn is_graceless(reply: &Reply) -> bool {
    reply.status == StatusCode::SERVICE_UNAVAILABLE
        && (!reply.headers.contains_key(RETRY_AFTER) || reply.takes_session())
}

/// The status, and what it means where that is not plain.
fn describe(reply: &Reply) -> String {
    let status = reply.status.as_u16();
    match reply.page() {
        _ if is_graceless(reply) => format!("{status}, cookies lost or no word when to come back"),
        _ if reply.status.is_redirection() => "asked to sign in".to_owned(),
        None if reply.status == StatusCode::BAD_GATEWAY => format!("{status} of the balancer"),
        None | Some("unavailable") => status.to_string(),
        Some(page) => format!("{status} (`{page}`)"),
    }
}
