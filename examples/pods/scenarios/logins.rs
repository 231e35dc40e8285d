//! Many logins, each of whose requests reaches a pod by chance.

use std::error::Error;
use std::fmt;

use futures_util::{StreamExt, TryStreamExt, stream};
use http::StatusCode;
use tokio::sync::watch;

use crate::browser::Shown;
use crate::fleet::Fleet;
use crate::table::Found;

/// How many people sign in at a time.
pub const AT_A_TIME: usize = 8;

/// After how many logins another pod dies.
const DEATH_EVERY: u32 = 10;

/// How logins ended.
#[derive(Debug, Default)]
pub struct Tally {
    first_try: u32,
    /// Signed in after the layer had started the login over, once, without a question.
    restarted: u32,
    /// Shown the page that says so and offers another try.
    page: u32,
    others: Vec<String>,
}

/// Every login is done at the first try.
pub async fn at_first_try(fleet: &Fleet, logins: u32) -> Result<Found, Box<dyn Error>> {
    let tally = many(fleet, logins).await?;
    Ok(Found { good: tally.first_try == logins, result: tally.to_string() })
}

/// Whatever the chance is, nobody sees an error that is none of theirs.
pub async fn as_it_comes(fleet: &Fleet, logins: u32) -> Result<Found, Box<dyn Error>> {
    let tally = many(fleet, logins).await?;
    Ok(Found { good: tally.others.is_empty(), result: tally.to_string() })
}

/// Pods are killed and replaced all the while, one after every ten logins. People reload when the
/// balancer says 502, and sign in again when asked to; two tries must do for everybody.
pub async fn while_pods_die(fleet: &Fleet, logins: u32) -> Result<Found, Box<dyn Error>> {
    let (progress, mut done) = watch::channel(0);
    let killing = async move {
        let mut killed: usize = 0;
        let first = (DEATH_EVERY / 2).min(logins - 1);
        for after in (first..logins).step_by(DEATH_EVERY as usize) {
            if done.wait_for(|done| *done >= after).await.is_err() {
                break;
            }
            fleet.replace(killed % fleet.size()).await?;
            killed += 1;
        }
        Ok::<_, Box<dyn Error>>(killed)
    };
    let login = |number: u32| async move {
        let browser = fleet.browser("alice").reloading();
        let path = format!("/reports/{number}");
        for tries in 1..=2 {
            if browser.travel(&path).await?.is_for("alice", &path) {
                return Ok::<_, Box<dyn Error>>(tries);
            }
        }
        Ok(3)
    };
    let signing_in = async move {
        let mut tries = stream::iter(0..logins).map(login).buffer_unordered(AT_A_TIME);
        let mut ended = [0; 3];
        while let Some(tries) = tries.try_next().await? {
            ended[tries - 1] += 1;
            progress.send_modify(|done| *done += 1);
        }
        Ok::<_, Box<dyn Error>>(ended)
    };
    let (killed, [one, two, failed]) = tokio::try_join!(killing, signing_in)?;
    let result = format!(
        "{}/{logins}: {one} at the first try, {two} at the second, {failed} not; {killed} pods \
         killed",
        one + two,
    );
    Ok(Found { good: one + two == logins && killed > 0, result })
}

async fn many(fleet: &Fleet, logins: u32) -> Result<Tally, Box<dyn Error>> {
    let login = |number: u32| async move {
        let path = format!("/reports/{number}?page=2&sort=a%2Fb");
        let shown = fleet.browser("alice").travel(&path).await?;
        Ok::<_, Box<dyn Error>>((path, shown))
    };
    stream::iter(0..logins)
        .map(login)
        .buffer_unordered(AT_A_TIME)
        .try_fold(Tally::default(), |mut tally, (path, shown)| async move {
            tally.add(&path, &shown);
            Ok(tally)
        })
        .await
}

impl Tally {
    fn add(&mut self, path: &str, shown: &Shown) {
        let restart = shown.reply.status == StatusCode::BAD_REQUEST
            && shown.reply.page() == Some("restart")
            && shown.visits == 2;
        match (shown.is_for("alice", path), shown.visits) {
            (true, 1) => self.first_try += 1,
            (true, 2) => self.restarted += 1,
            (false, _) if restart => self.page += 1,
            _ => self.others.push(shown.describe()),
        }
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { first_try, restarted, page, others } = self;
        let all = first_try + restarted + page + u32::try_from(others.len()).unwrap_or(u32::MAX);
        write!(f, "{first_try}/{all} at the first try")?;
        if *restarted > 0 || *page > 0 {
            write!(f, ", {restarted} after the one restart, {page} asked to try again")?;
        }
        match others.first() {
            Some(other) => write!(f, ", {} otherwise: {other}", others.len()),
            None => Ok(()),
        }
    }
}
