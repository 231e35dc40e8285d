//! Redis away: nobody is sent to the provider in vain, and all is well with its return.

use std::error::Error;
use std::fmt;
use std::time::{Duration, Instant};

use http::StatusCode;
use http::header::RETRY_AFTER;

use crate::browser::{Browser, Shown};
use crate::fleet::Fleet;
use crate::redis_server::RedisServer;
use crate::table::Found;

/// The aim is a second. Machines are slow at times: the figure is printed, and ten times as long is
/// a miss.
const PATIENCE: Duration = Duration::from_secs(10);

/// How long a browser waits before it starts a login again.
const PAUSE: Duration = Duration::from_millis(10);

/// What login starts on each pod got while Redis was away, and how long they were without it.
struct Away {
    pods: usize,
    /// 503 with `Retry-After`, before any redirect to the provider.
    told: usize,
    slowest: Duration,
    visits: u64,
    other: Option<String>,
}

/// Redis is stopped, and started again.
pub async fn stopped(
    fleet: &Fleet,
    redis: &mut RedisServer,
) -> Result<(Found, Found), Box<dyn Error>> {
    warm_up(fleet).await?;
    redis.stop();
    let away = away(fleet).await;
    redis.start_again().await?;
    let back = back(fleet).await?;
    Ok((away?.found(), back))
}

/// Redis hangs, and goes on.
pub async fn hung(fleet: &Fleet, redis: &RedisServer) -> Result<(Found, Found), Box<dyn Error>> {
    warm_up(fleet).await?;
    redis.freeze()?;
    let away = away(fleet).await;
    redis.thaw()?;
    let back = back(fleet).await?;
    Ok((away?.found(), back))
}

/// Every pod has met the provider and Redis.
async fn warm_up(fleet: &Fleet) -> Result<(), Box<dyn Error>> {
    for pod in 0..fleet.size() {
        let shown = pinned(fleet, pod).travel("/").await?;
        if !shown.is_for("alice", "/") {
            return Err(format!("no login before the outage: {}", shown.describe()).into());
        }
    }
    Ok(())
}

/// Starts a login on each pod in turn, by opening a protected page.
async fn away(fleet: &Fleet) -> Result<Away, Box<dyn Error>> {
    fleet.provider.reset_counts();
    let pods = fleet.size();
    let mut away = Away { pods, told: 0, slowest: Duration::ZERO, visits: 0, other: None };
    for pod in 0..pods {
        let begun = Instant::now();
        let shown = pinned(fleet, pod).travel("/").await?;
        away.slowest = away.slowest.max(begun.elapsed());
        if is_told(&shown) {
            away.told += 1;
        } else {
            away.other = Some(shown.describe());
        }
    }
    away.visits = fleet.provider.counts().authorize;
    Ok(away)
}

/// Starts logins until they work on every pod; a whole one must then work, too.
async fn back(fleet: &Fleet) -> Result<Found, Box<dyn Error>> {
    let begun = Instant::now();
    let mut slowest = Duration::ZERO;
    for pod in 0..fleet.size() {
        loop {
            match pinned(fleet, pod).to_provider("/").await? {
                Ok(_) => break,
                Err(shown) if !is_told(&shown) => return Err(shown.describe().into()),
                Err(_) if begun.elapsed() > PATIENCE => {
                    let result = format!("pod {pod} is still without Redis after {PATIENCE:?}");
                    return Ok(Found { good: false, result });
                }
                Err(_) => tokio::time::sleep(PAUSE).await,
            }
        }
        slowest = begun.elapsed();
    }
    let shown = fleet.browser("alice").travel("/again").await?;
    let good = shown.is_for("alice", "/again") && slowest <= PATIENCE;
    let result = format!(
        "first login start on the last of {} pods after {}; a login then: {}",
        fleet.size(),
        Seconds(slowest),
        shown.describe(),
    );
    Ok(Found { good, result })
}

fn pinned(fleet: &Fleet, pod: usize) -> Browser {
    fleet.pinned(&fleet.browser("alice"), pod)
}

fn is_told(shown: &Shown) -> bool {
    let reply = &shown.reply;
    reply.status == StatusCode::SERVICE_UNAVAILABLE && reply.headers.contains_key(RETRY_AFTER)
}

impl Away {
    fn found(&self) -> Found {
        let Self { pods, told, slowest, visits, other } = self;
        let other = other.as_ref().map_or_else(String::new, |other| format!("; else: {other}"));
        let result = format!(
            "503 with Retry-After on {told}/{pods} pods, after {}; {visits} sent to the \
             provider{other}",
            Seconds(*slowest),
        );
        Found { good: told == pods && *visits == 0 && *slowest <= PATIENCE, result }
    }
}

/// A time in seconds, to the millisecond.
struct Seconds(Duration);

impl fmt::Display for Seconds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.3} s", self.0.as_secs_f64())
    }
}
