//! What is run, in which order, and what is wanted of it.

mod attacks;
mod logins;
mod manners;
mod outages;
mod pairs;
mod secrets;
mod stores;
mod waits;

use std::error::Error;
use std::future::Future;
use std::time::Instant;

use tower_pkce_auth::testing::provider::TestProvider;

use self::stores::Stores;
use crate::fleet::{Fleet, Keeping};
use crate::options::Options;
use crate::pod::Pending;
use crate::redis_tap::Tap;
use crate::redis_waits::Waits;
use crate::table::{Found, Scenario, Table};

/// How often the smaller scenarios are run.
const ROUNDS: u32 = 20;

/// How many strangers come; LiteLLM's memory held 200 logins.
const CROWD: u32 = 250;

const LOGINS: &str = "95 / 95 / 95 of 200";
const LOGINS_REDIS: &str = "95 / 200 / 200 of 200";
const TWICE: &str = "- / 101 / 196 of 200 handed out twice";

/// Runs everything that the options ask for.
///
/// # Errors
///
/// If the parts cannot be started or ended; what goes wrong in a scenario stands in the table.
pub async fn run(options: &Options) -> Result<Table, Box<dyn Error>> {
    let provider = TestProvider::builder().refresh_tokens(true).start().await?;
    let stores = Stores::choose(&options.store).await?;
    let mut run = Run { options, provider, table: Table::default() };
    if stores.memory {
        run.memory().await?;
    }
    if stores.sealed {
        run.sealed().await?;
    }
    let urls = stores.urls();
    for url in &urls {
        run.redis(Ok(url)).await?;
    }
    if urls.is_empty() {
        run.redis(Err(stores.why_not_ours())).await?;
    }
    run.with(&stores.best()).await?;
    run.ours(stores).await?;
    Ok(run.table)
}

struct Run<'a> {
    options: &'a Options,
    provider: TestProvider,
    table: Table,
}

impl Run<'_> {
    async fn memory(&mut self) -> Result<(), Box<dyn Error>> {
        let logins = self.options.logins;
        let keeping = Keeping::without_redis(Pending::Memory);
        let fleet = self.fleet(&keeping).await?;
        let name = format!("{logins} logins, random pod, memory of the pod");
        let scenario = Scenario::new(name, LOGINS, "the honest figure, no errors");
        self.add(scenario, logins::as_it_comes(&fleet, logins)).await;
        fleet.end().await?;

        let fleet = Fleet::start(&self.provider, 1, &keeping).await?;
        let name = format!("{CROWD} anonymous starts evict a waiting login, memory, one pod");
        let scenario = Scenario::new(name, "yes / yes / yes", "no");
        self.add(scenario, manners::crowd(&fleet, CROWD)).await;
        fleet.end().await
    }

    async fn sealed(&mut self) -> Result<(), Box<dyn Error>> {
        let logins = self.options.logins;
        let fleet = self.fleet(&Keeping::without_redis(Pending::Sealed)).await?;
        let name = format!("{logins} logins, random pod, sealed, no server");
        let scenario = Scenario::new(name, LOGINS, format!("{logins}/{logins}"));
        self.add(scenario, logins::at_first_try(&fleet, logins)).await;

        let name = "same callback twice at once on two pods, sealed, no server";
        let wanted = "the provider alone tells: one session each";
        let scenario = Scenario::new(name, "- / - / -", wanted);
        self.add(scenario, pairs::by_the_provider(&fleet, logins)).await;
        fleet.end().await
    }

    async fn redis(&mut self, url: Result<&String, &str>) -> Result<(), Box<dyn Error>> {
        let logins = self.options.logins;
        let name = format!("{logins} logins, random pod, Redis");
        let many = Scenario::new(name, LOGINS_REDIS, format!("{logins}/{logins}"));
        let name = format!("{logins} logins, random pod, Redis, pods killed and started");
        let dying = Scenario::new(name, "- / - / -", format!("{logins}/{logins} in two tries"));
        let name = "same callback twice at once on two pods, Redis";
        let stored = Scenario::new(name, TWICE, format!("0/{logins}"));
        let name = "same callback twice at once on two pods, sealed, spent marks in Redis";
        let sealed = Scenario::new(name, TWICE, format!("0/{logins}"));
        let url = match url {
            Ok(url) => url,
            Err(why) => {
                self.leave_out([many, dying, stored, sealed], why);
                return Ok(());
            }
        };
        let fleet = self.fleet(&Keeping::redis(url)).await?;
        self.add(many, logins::at_first_try(&fleet, logins)).await;
        self.add(dying, logins::while_pods_die(&fleet, logins)).await;
        self.add(stored, pairs::once(&fleet, logins)).await;
        fleet.end().await?;

        let fleet =
            self.fleet(&Keeping { pending: Pending::Sealed, ..Keeping::redis(url) }).await?;
        self.add(sealed, pairs::once(&fleet, logins)).await;
        fleet.end().await
    }

    /// What is the same with each store.
    async fn with(&mut self, keeping: &Keeping) -> Result<(), Box<dyn Error>> {
        // Memory is of no use to more than one pod.
        let pods = if keeping.pending == Pending::Memory { 1 } else { self.options.pods };
        let fleet = Fleet::start(&self.provider, pods, keeping).await?;
        let all = format!("{ROUNDS}/{ROUNDS}");

        let name = format!("login CSRF: {ROUNDS} victims open an attacker's callback URL");
        let scenario = Scenario::new(name, "- / 20 / 0 signed in as the attacker", "0");
        self.add(scenario, attacks::login_csrf(&fleet, ROUNDS)).await;

        let scenario =
            Scenario::new("two tabs sign in at once, both succeed", "- / 20 / 0 of 20", &all);
        self.add(scenario, manners::two_tabs(&fleet, ROUNDS)).await;

        let peer = "- / verifier used up / verifier stays 600 s";
        let wanted = "used up; a page explains and offers another try";
        let scenario = Scenario::new("somebody says no at the provider", peer, wanted);
        let noted = keeping.redis.is_some() || keeping.pending == Pending::Memory;
        self.add(scenario, manners::denial(&fleet, noted)).await;

        let name = "reload of the callback after success";
        let scenario = Scenario::new(name, "- / 500 / 500", "redirect to where they wanted to go");
        self.add(scenario, manners::reload(&fleet, ROUNDS)).await;

        let name = "ID token: signature, issuer, audience, nonce checked";
        let scenario = Scenario::new(name, "no / no / no", "yes");
        self.add(scenario, attacks::forged_id_tokens(&fleet)).await;
        fleet.end().await
    }

    /// What needs a Redis that may be stopped, hung and read.
    async fn ours(&mut self, stores: Stores) -> Result<(), Box<dyn Error>> {
        let away = "503 before the provider, in 1 s";
        let peer = "- / sent to the provider, then 500 / the same";
        let stopped = Scenario::new("Redis is stopped: a login starts", peer, away);
        let back = Scenario::new("Redis is back: login starts", "- / - / 61 s of 500", "in 1 s");
        let hung = Scenario::new("Redis hangs: a login starts", "- / 5.0 s / 5.0 s", away);
        let on = Scenario::new("Redis goes on: login starts", "- / - / -", "in 1 s");
        let read = Scenario::new("verifier readable in Redis", "yes / yes / yes", "no: sealed");
        let kinds = waits::KINDS.map(|(kind, most)| {
            let name = format!("waits for Redis, one after another: {kind}");
            Scenario::new(name, "- / - / -", format!("at most {most}"))
        });
        let why = stores.why_not_ours();
        let Some(mut redis) = stores.own else {
            self.leave_out([stopped, back, hung, on, read], why);
            self.leave_out(kinds, why);
            return Ok(());
        };

        // Empty, so that what is read is of these logins.
        redis.start_again().await?;
        let tap = Tap::start(redis.port()).await?;
        let fleet = self.fleet(&Keeping::redis(&tap.url())).await?;
        self.add(read, secrets::in_redis(&fleet, &tap, &redis.url(), ROUNDS)).await;
        fleet.end().await?;

        let waits = Waits::start(redis.port()).await?;
        let fleet = Fleet::start(&self.provider, 2, &Keeping::redis(&waits.url())).await?;
        let url = redis.url();
        let counted = waits::of_each_kind(&fleet, &waits, &url, ROUNDS);
        let counted = timed(&kinds[0], counted).await;
        fleet.end().await?;
        match counted {
            Ok(found) => {
                for (kind, found) in kinds.into_iter().zip(found) {
                    self.table.ran(kind, Ok(found));
                }
            }
            Err(error) => {
                for kind in kinds {
                    self.table.ran(kind, Err(error.to_string().into()));
                }
            }
        }

        let fleet = self.fleet(&Keeping::redis(&redis.url())).await?;
        self.add_both([stopped, back], outages::stopped(&fleet, &mut redis)).await;
        self.add_both([hung, on], outages::hung(&fleet, &redis)).await;
        fleet.end().await
    }

    async fn fleet(&self, keeping: &Keeping) -> Result<Fleet, Box<dyn Error>> {
        Fleet::start(&self.provider, self.options.pods, keeping).await
    }

    async fn add(
        &mut self,
        scenario: Scenario,
        found: impl Future<Output = Result<Found, Box<dyn Error>>>,
    ) {
        let found = timed(&scenario, found).await;
        self.table.ran(scenario, found);
    }

    /// Adds an outage and the recovery from it.
    async fn add_both(
        &mut self,
        [away, back]: [Scenario; 2],
        found: impl Future<Output = Result<(Found, Found), Box<dyn Error>>>,
    ) {
        let (one, two) = match timed(&away, found).await {
            Ok((one, two)) => (Ok(one), Ok(two)),
            Err(error) => (Err(error.to_string().into()), Err(error)),
        };
        self.table.ran(away, one);
        self.table.ran(back, two);
    }

    fn leave_out<const N: usize>(&mut self, scenarios: [Scenario; N], why: &str) {
        for scenario in scenarios {
            self.table.left_out(scenario, why);
        }
    }
}

/// Says what is being run, and how long it took.
async fn timed<T>(scenario: &Scenario, run: impl Future<Output = T>) -> T {
    let begun = Instant::now();
    eprint!("{} ... ", scenario.name);
    let found = run.await;
    eprintln!("{:.1} s", begun.elapsed().as_secs_f64());
    found
}
