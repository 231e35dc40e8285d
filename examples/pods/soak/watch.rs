//! What is seen during a soak, and judged.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use serde_json::Value;
use tokio::sync::watch;
use tower_pkce_auth::testing::provider::TestProvider;

use crate::browser::Browser;

/// How long before a kill a provider may have answered a refresh whose result died with the pod.
const EXCHANGE: Duration = Duration::from_millis(500);
/// How long before and after a fail-over the old master may have acknowledged what the new one has
/// never got: pods learn of it within a second.
const HAND_OVER: Duration = Duration::from_millis(1_500);
/// How many browsers of those who left are kept to be tried, and how many of them are the last.
const LEFT: usize = 500;
const RECENT: usize = 6;

/// Everything that happens, counted.
#[derive(Clone, Debug, Default)]
pub struct Tally {
    pub requests: u64,
    /// 503 with the cookies kept.
    pub refused: u64,
    pub logins: u64,
    pub logouts: u64,
    /// Logouts that say themselves that they hold in this browser only.
    pub logouts_here: u64,
    /// Requests with the cookies of those who left.
    pub tried: u64,
    pub emptied: u64,
    /// Sign-outs because the store came back empty.
    pub lost_with_store: u64,
    /// Sign-outs because a fail-over lost the last login or refresh, which it had acknowledged.
    pub lost_in_fail_over: u64,
    /// Sign-outs because a pod was killed between the provider's answer and the store.
    pub lost_in_exchange: u64,
    pub unexplained: Vec<String>,
    pub wrong: Vec<String>,
    pub revived: Vec<String>,
    /// The same with cookies of people who left during a fail-over, which lost that.
    pub revived_by_fail_over: u64,
    /// Answers that nobody should get.
    pub odd: Vec<String>,
}

pub struct Watch {
    tally: Mutex<Tally>,
    /// Moves on before and after each moment at which the store was empty: in between it is odd.
    epoch: Mutex<u64>,
    kills: Mutex<Vec<Instant>>,
    /// When another server became master, from before until all was well.
    fail_overs: Mutex<Vec<(Instant, Option<Instant>)>>,
    left: Mutex<VecDeque<(Browser, Instant)>>,
    /// When the provider last gave tokens to whom.
    given: Arc<Mutex<HashMap<String, Instant>>>,
    over: watch::Sender<bool>,
}

impl Watch {
    pub fn new(provider: &TestProvider) -> Self {
        let given = Arc::<Mutex<HashMap<String, Instant>>>::default();
        let noted = given.clone();
        provider.on_token_response(move |response| {
            if let Some(subject) =
                response.get("id_token").and_then(Value::as_str).and_then(subject)
            {
                lock(&noted).insert(subject, Instant::now());
            }
        });
        Self {
            tally: Mutex::default(),
            epoch: Mutex::default(),
            kills: Mutex::default(),
            fail_overs: Mutex::default(),
            left: Mutex::default(),
            given,
            over: watch::Sender::new(false),
        }
    }

    pub fn tally(&self) -> Tally {
        lock(&self.tally).clone()
    }

    pub fn count(&self, change: impl FnOnce(&mut Tally)) {
        change(&mut lock(&self.tally));
    }

    /// Says that the time is over.
    pub fn end(&self) {
        self.over.send_replace(true);
    }

    /// Waits; tells whether there is time left.
    pub async fn pause(&self, time: Duration) -> bool {
        let mut over = self.over.subscribe();
        tokio::select! {
            _ = over.wait_for(|over| *over) => false,
            () = tokio::time::sleep(time) => true,
        }
    }

    /// The store is about to be emptied, or has just come back empty.
    pub fn store_is_empty(&self) {
        *lock(&self.epoch) += 1;
    }

    pub fn epoch(&self) -> u64 {
        *lock(&self.epoch)
    }

    pub fn pod_is_killed(&self) {
        lock(&self.kills).push(Instant::now());
    }

    pub fn fail_over_begins(&self) {
        lock(&self.fail_overs).push((Instant::now(), None));
    }

    pub fn fail_over_ends(&self) {
        if let Some((_, end)) = lock(&self.fail_overs).last_mut() {
            *end = Some(Instant::now());
        }
    }

    /// Somebody who was signed in at `epoch` is asked to sign in, and has not left.
    pub fn signed_out(&self, user: &str, epoch: u64, seen: String) {
        let now = self.epoch();
        // It may be back, and empty, a moment before that is said.
        let is_being_emptied = now % 2 == 1;
        if now > epoch || is_being_emptied {
            return self.count(|tally| tally.lost_with_store += 1);
        }
        let given = lock(&self.given).get(user).copied();
        if given.is_some_and(|given| self.died_after(given)) {
            return self.count(|tally| tally.lost_in_exchange += 1);
        }
        if given.is_some_and(|given| self.was_failing_over(given)) {
            return self.count(|tally| tally.lost_in_fail_over += 1);
        }
        self.count(|tally| tally.unexplained.push(seen));
    }

    fn died_after(&self, given: Instant) -> bool {
        lock(&self.kills).iter().any(|kill| {
            // Counted before the process is gone.
            let kill = *kill + Duration::from_millis(20);
            kill >= given && kill.duration_since(given) <= EXCHANGE
        })
    }

    /// Tells whether what was written then may have been lost by a fail-over.
    pub fn was_failing_over(&self, given: Instant) -> bool {
        lock(&self.fail_overs).iter().any(|(begin, end)| {
            given + HAND_OVER >= *begin && end.is_none_or(|end| given <= end + HAND_OVER)
        })
    }

    /// Somebody has signed out, and this is what the browser held until then.
    pub fn has_left(&self, before: Browser) {
        let mut left = lock(&self.left);
        if left.len() >= LEFT {
            left.pop_front();
        }
        left.push_back((before, Instant::now()));
    }

    /// The browser of somebody who left at least so long ago, and when that was.
    pub fn somebody_who_left(&self, ago: Duration, number: usize) -> Option<(Browser, Instant)> {
        let left = lock(&self.left);
        let long: Vec<_> = left.iter().filter(|(_, since)| since.elapsed() >= ago).collect();
        // Every other time one of the last: a session that was not ended may end by itself later.
        let among = if number.is_multiple_of(2) { long.len().min(RECENT) } else { long.len() };
        let back = (number / 2).checked_rem(among)?;
        long.get(long.len() - 1 - back).map(|left| (*left).clone())
    }
}

/// Whom an ID token speaks of.
fn subject(token: &str) -> Option<String> {
    let claims = BASE64_URL_SAFE_NO_PAD.decode(token.split('.').nth(1)?).ok()?;
    let claims: Value = serde_json::from_slice(&claims).ok()?;
    Some(claims.get("sub")?.as_str()?.to_owned())
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
