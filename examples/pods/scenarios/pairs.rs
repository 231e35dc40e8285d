//! The same callback twice at once, on two pods.

use std::error::Error;

use futures_util::{StreamExt, TryStreamExt, stream};

use super::logins::AT_A_TIME;
use crate::fleet::Fleet;
use crate::table::Found;

/// What the provider and the browsers saw of the pairs.
struct Counted {
    pairs: u32,
    redemptions: u64,
    double: u64,
    sessions: u32,
}

/// Each code is redeemed once, and makes one session.
pub async fn once(fleet: &Fleet, pairs: u32) -> Result<Found, Box<dyn Error>> {
    let counted = count(fleet, pairs).await?;
    let good =
        counted.double == 0 && counted.redemptions == u64::from(pairs) && counted.sessions == pairs;
    Ok(Found { good, result: counted.describe() })
}

/// Without a server both pods redeem; that there is one session is the provider's doing.
pub async fn by_the_provider(fleet: &Fleet, pairs: u32) -> Result<Found, Box<dyn Error>> {
    let counted = count(fleet, pairs).await?;
    Ok(Found { good: counted.sessions == pairs, result: counted.describe() })
}

async fn count(fleet: &Fleet, pairs: u32) -> Result<Counted, Box<dyn Error>> {
    fleet.provider.reset_counts();
    let sessions = stream::iter(0..pairs)
        .map(|_| pair(fleet))
        .buffer_unordered(AT_A_TIME)
        .try_fold(0, |all, made| async move { Ok(all + made) })
        .await?;
    let counts = fleet.provider.counts();
    Ok(Counted { pairs, redemptions: counts.token, double: counts.double_redemptions, sessions })
}

/// Returns how many sessions one callback made.
async fn pair(fleet: &Fleet) -> Result<u32, Box<dyn Error>> {
    let browser = fleet.browser("alice");
    let callback = browser.to_callback("/twice").await?;
    // As two tabs of a browser that has not heard of an answer yet.
    let [one, two] = [0, 1].map(|pod| fleet.pinned(&browser.snapshot(), pod));
    let (one, two) = tokio::join!(one.arrive(&callback), two.arrive(&callback));
    Ok([one?, two?].iter().map(|reply| u32::from(reply.makes_session())).sum())
}

impl Counted {
    fn describe(&self) -> String {
        let Self { pairs, redemptions, double, sessions } = self;
        format!(
            "{double}/{pairs} redeemed twice; {redemptions} requests at the token endpoint, \
             {sessions} sessions"
        )
    }
}
