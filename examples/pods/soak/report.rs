//! What a soak has shown.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use tower_pkce_auth::testing::provider::Counts;

use super::PEOPLE;
use super::memory::Memory;
use super::watch::Tally;
use crate::topologies::Shape;

/// The outcome for one shape.
pub struct Report {
    pub shape: Shape,
    pub time: Duration,
    pub tally: Tally,
    /// What was done to Redis.
    pub outages: Vec<String>,
    /// Pods.
    pub killed: u32,
    /// Of the pod that was spared: after a quarter of the time, and at the end.
    pub memory: (Memory, Memory),
    pub counts: Counts,
}

impl Report {
    pub fn is_good(&self) -> bool {
        let (before, after) = self.memory;
        self.wanted_none().iter().all(|(_, found, _)| *found == 0)
            && after.is_flat_since(before)
            && self.tally.logins >= PEOPLE as u64
    }

    /// What must not happen: its name, how often it did, and examples.
    fn wanted_none(&self) -> [(&'static str, u64, &[String]); 5] {
        let Tally { wrong, unexplained, revived, odd, .. } = &self.tally;
        let length = |list: &[String]| list.len() as u64;
        [
            ("wrong identities", length(wrong), wrong),
            ("codes redeemed twice", self.counts.double_redemptions, &[]),
            ("unexplained sign-outs", length(unexplained), unexplained),
            ("signed-out cookies that worked again", length(revived), revived),
            ("answers nobody should get", length(odd), odd),
        ]
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { tally, counts, killed, .. } = self;
        writeln!(f, "{}, {:.0} s:", self.shape.name(), self.time.as_secs_f64())?;
        let mut outages = BTreeMap::<&str, u32>::new();
        for outage in &self.outages {
            *outages.entry(outage).or_default() += 1;
        }
        let outages: Vec<_> =
            outages.iter().map(|(what, times)| format!("{times} {what}")).collect();
        writeln!(f, "  {killed} pods killed; Redis: {}", outages.join(", "))?;
        writeln!(
            f,
            "  {} requests of {PEOPLE} people, {} of them answered 503; {} logins, {} sign-outs, {} \
             more in one browser only; {} requests with the cookies of those who left",
            tally.requests,
            tally.refused,
            tally.logins,
            tally.logouts,
            tally.logouts_here,
            tally.tried,
        )?;
        writeln!(
            f,
            "  provider: {} token requests, {} with a refresh token used before",
            counts.token, counts.refresh_reuses,
        )?;
        writeln!(
            f,
            "  signed out with a store that came back empty ({} times): {}; with a pod killed \
             inside the exchange: {}; with a fail-over that lost what it had acknowledged: {}",
            tally.emptied, tally.lost_with_store, tally.lost_in_exchange, tally.lost_in_fail_over,
        )?;
        if tally.revived_by_fail_over > 0 {
            writeln!(
                f,
                "  {} requests with the cookies of people whose sign-out a fail-over lost, before it \
                 was written again",
                tally.revived_by_fail_over,
            )?;
        }
        for (what, found, examples) in self.wanted_none() {
            let verdict = if found == 0 { "ok" } else { "MISS" };
            writeln!(f, "  {what:40} {found:6}  {verdict}")?;
            for example in examples.iter().take(5) {
                writeln!(f, "    {example}")?;
            }
        }
        let (before, after) = self.memory;
        let verdict = if after.is_flat_since(before) { "ok" } else { "MISS" };
        writeln!(f, "  memory of a pod: {before}, at the end {after}  {verdict}")
    }
}
