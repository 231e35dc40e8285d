//! How often a request waits for Redis, one wait after another.

use std::error::Error;
use std::time::Duration;

use crate::fleet::Fleet;
use crate::redis_waits::{Waits, change_all};
use crate::table::Found;

/// Kinds of requests, and the most that each may wait.
pub const KINDS: [(&str, u32); 5] = [
    ("a login starts", 1),
    ("its callback", 3),
    ("a signed-in request, as one a moment ago", 0),
    ("a signed-in request, seen by the pod before", 1),
    ("a signed-in request, new to the pod", 2),
];

/// Word of a change has reached a pod by then.
const HEARD: Duration = Duration::from_millis(100);

/// Counts the waits of each kind, several times over. The least of each is its own: two answers
/// that were asked for at once may come apart and look like two waits, but what waits for another
/// answer never looks like one.
pub async fn of_each_kind(
    fleet: &Fleet,
    waits: &Waits,
    url: &str,
    rounds: u32,
) -> Result<[Found; 5], Box<dyn Error>> {
    let mut found: [Vec<u32>; 5] = Default::default();
    // Both pods have met the provider and Redis.
    for pod in 0..2 {
        fleet.pinned(&fleet.browser("alice"), pod).travel("/").await?;
    }
    for _ in 0..rounds {
        let browser = fleet.pinned(&fleet.browser("alice"), 0);
        let (start, login) = waits.of(browser.open("/auth/login?return_to=/here")).await;
        let back = browser.agree_as(login?.location()?, "alice").await?;
        let (callback, reply) = waits.of(browser.arrive(&back)).await;
        if !reply?.makes_session() {
            return Err("no session".into());
        }
        browser.open("/").await?;
        let (cached, reply) = waits.of(browser.open("/here")).await;
        let shown = reply?.body;
        change_all(url).await?;
        tokio::time::sleep(HEARD).await;
        let (seen, reply) = waits.of(browser.open("/here")).await;
        let again = reply?.body;
        let (new, reply) = waits.of(fleet.pinned(&browser, 1).open("/here")).await;
        let elsewhere = reply?.body;
        if [&shown, &again, &elsewhere].iter().any(|body| *body != "alice /here") {
            return Err(format!("not what was asked for: {shown}, {again}, {elsewhere}").into());
        }
        for (place, waited) in [start, callback, cached, seen, new].into_iter().enumerate() {
            found[place].push(waited);
        }
    }
    let judged = found.iter().zip(KINDS).map(|(waited, (_, most))| {
        let least = waited.iter().min().copied().unwrap_or(u32::MAX);
        let times = waited.iter().filter(|waited| **waited == least).count();
        Found { good: least <= most, result: format!("{least} ({times} of {rounds} times)") }
    });
    judged.collect::<Vec<_>>().try_into().map_err(|_| "five kinds".into())
}
