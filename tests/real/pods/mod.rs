//! Many pods: `gateway` as real processes behind a balancer without stickiness, real Redis in each
//! shape, the certified provider with refresh tokens that rotate and must not be used twice.
//!
//! A session cannot fall due sooner than a minute after it was made or refreshed, so everybody signs
//! in first; the logins are run while that minute passes. `PODS_LOGINS` and `PODS_ROUNDS` say how
//! many of each (50 and 10; `scripts/soak` takes 500 and 100).

mod fleet;
mod visitor;

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::{StreamExt as _, stream};
use http::StatusCode;
use tokio::sync::{Mutex, watch};

use self::fleet::Fleet;
use self::visitor::{PEOPLE, Visitor};
use crate::parts::Provider;
use crate::topologies::{Shape, Topology};

const PODS: usize = 3;
/// How many people sign in at a time.
const AT_A_TIME: usize = 8;
/// After how many logins another pod dies. A try fails that meets two deaths at its callbacks: the more
/// often pods die, the more often both tries of somebody do.
const DEATH_EVERY: usize = 10;
/// How many requests of one person arrive at once when the session falls due.
const AT_ONCE: usize = 64;
/// The soonest that a session is refreshed, and a moment.
const DUE: Duration = Duration::from_millis(60_500);

/// One topology at a time, so that none starves the other.
static ONE: Mutex<()> = Mutex::const_new(());

fn number(variable: &str, otherwise: usize) -> usize {
    std::env::var(variable).map_or(otherwise, |text| text.parse().expect("a number"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs Node.js, oidc-provider and redis-server: scripts/test"]
async fn pods_with_one_redis_sign_in_and_refresh_once() {
    sign_in_and_refresh_once(Shape::Single).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs Node.js, oidc-provider and redis-server: scripts/test"]
async fn pods_with_sentinels_sign_in_and_refresh_once() {
    sign_in_and_refresh_once(Shape::Sentinel).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs Node.js, oidc-provider and redis-server: scripts/test"]
async fn pods_with_a_cluster_sign_in_and_refresh_once() {
    sign_in_and_refresh_once(Shape::Cluster).await;
}

async fn sign_in_and_refresh_once(shape: Shape) {
    let _one = ONE.lock().await;
    let begun = Instant::now();
    let rounds = number("PODS_ROUNDS", 10);
    // The token runs out when the session falls due.
    let provider = Provider::start(&[("ACCESS_TOKEN_TTL", "60")]);
    let topology = Topology::start(shape).unwrap();
    let fleet = Fleet::start(&provider, PODS, &topology.url()).await;
    let staying = sign_in(&fleet, 2 * rounds).await;
    let signed_in = Instant::now();

    logins_while_pods_die(&fleet, &provider, shape, number("PODS_LOGINS", 50)).await;
    tokio::time::sleep(DUE.saturating_sub(signed_in.elapsed())).await;
    let (patient, hasty) = staying.split_at(rounds);
    refreshes_once(&fleet, &provider, shape, patient, Manner::Patient).await;
    refreshes_once(&fleet, &provider, shape, hasty, Manner::Hasty).await;
    println!("{}: {:.0} s in all", shape.name(), begun.elapsed().as_secs_f64());
}

async fn sign_in(fleet: &Fleet, people: usize) -> Vec<Visitor> {
    let login = |number: usize| async move {
        let mut visitor = fleet.visitor(PEOPLE[number % PEOPLE.len()]);
        assert!(visitor.sign_in("/").await, "{} signs in at the first try", visitor.user);
        visitor
    };
    stream::iter(0..people).map(login).buffer_unordered(AT_A_TIME).collect().await
}

/// Pods are killed and others started all the while; everybody is signed in within two tries.
async fn logins_while_pods_die(
    fleet: &Arc<Fleet>,
    provider: &Provider,
    shape: Shape,
    logins: usize,
) {
    let begun = Instant::now();
    let (progress, mut done) = watch::channel(0);
    let killing = async {
        let mut killed = 0;
        for after in (DEATH_EVERY..logins).step_by(DEATH_EVERY) {
            if done.wait_for(|done| *done >= after).await.is_err() {
                break;
            }
            fleet.kill(killed % PODS);
            fleet.start_again(killed % PODS).await;
            killed += 1;
        }
        killed
    };
    let login = |number: usize| async move {
        let mut visitor = fleet.visitor(PEOPLE[number % PEOPLE.len()]);
        let path = format!("/reports/{number}?page=2&sort=a%2Fb");
        let mut tries = 1;
        while !visitor.sign_in(&path).await {
            tries += 1;
            assert!(tries <= 2, "login {number} does not succeed in two tries: {visitor:?}");
        }
        tries
    };
    let signing_in = async move {
        let mut logins = stream::iter(0..logins).map(login).buffer_unordered(AT_A_TIME);
        let mut tries = Vec::new();
        while let Some(needed) = logins.next().await {
            tries.push(needed);
            progress.send_replace(tries.len());
        }
        tries
    };
    let (killed, tries) = tokio::join!(killing, signing_in);
    let counts = provider.counts().await;
    let second = tries.iter().filter(|tries| **tries == 2).count();
    println!(
        "{}: {}/{logins} signed in, {second} of them at the second try; {killed} pods killed; {} \
         codes redeemed, {} twice; {:.1} s",
        shape.name(),
        tries.len(),
        counts["code_redemptions"],
        counts["double_redemptions"],
        begun.elapsed().as_secs_f64(),
    );
    assert_eq!(tries.len(), logins);
    assert!(killed > 0, "no pod was killed");
    assert_eq!(counts["double_redemptions"], 0);
}

/// What clients do with their requests.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Manner {
    /// Every other one resets its connection before the answer.
    Hasty,
    Patient,
}

/// Each session is due, and is met by 64 requests at once on all pods: it is refreshed once, and
/// nobody is signed out.
async fn refreshes_once(
    fleet: &Fleet,
    provider: &Provider,
    shape: Shape,
    people: &[Visitor],
    manner: Manner,
) {
    let begun = Instant::now();
    let before = provider.counts().await;
    let mut reset = 0;
    for (round, visitor) in people.iter().enumerate() {
        let request = |number: usize| async move {
            if manner == Manner::Hasty && number.is_multiple_of(2) {
                // Some before it is read, some in the middle of the exchange.
                let after = Duration::from_millis(number as u64 * 3 / 2);
                visitor.reset(fleet.any(number / 2), "/work", after).await;
                return None;
            }
            Some(visitor.ask("/work").await)
        };
        let answers: Vec<_> =
            stream::iter(0..AT_ONCE).map(request).buffer_unordered(AT_ONCE).collect().await;
        for answer in &answers {
            match answer {
                None => reset += 1,
                Some(answer) => {
                    assert_eq!(answer.status, StatusCode::OK, "{manner:?}, round {round}");
                    assert_eq!(answer.body, format!("{} /work", visitor.user));
                }
            }
        }
        // Whoever came last, or was waited for by nobody, is settled now.
        let after = visitor.ask("/after").await;
        assert_eq!(after.body, format!("{} /after", visitor.user), "{manner:?}, round {round}");
    }
    let after = provider.counts().await;
    let more = |name: &str| after[name].as_u64().unwrap() - before[name].as_u64().unwrap();
    let (refreshes, reuse) = (more("refreshes"), more("refresh_reuse"));
    println!(
        "{}: {} rounds of {AT_ONCE} requests on a session that is due, {reset} reset by the \
         client: {refreshes} refreshes, {reuse} with a token used before, nobody signed out; {:.1} s",
        shape.name(),
        people.len(),
        begun.elapsed().as_secs_f64(),
    );
    assert_eq!(refreshes, people.len() as u64, "{manner:?}: one a round");
    assert_eq!(more("refresh_successes"), people.len() as u64, "{manner:?}");
    assert_eq!(reuse, 0, "{manner:?}");
    assert_eq!(more("code_redemptions"), 0, "{manner:?}: nobody signed in again");
}
