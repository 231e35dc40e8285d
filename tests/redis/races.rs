//! Two layers, as on two pods, over one real server: what must happen once happens once.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Barrier;
use tokio::task::JoinSet;
use tower_pkce_auth::Pending;
use tower_pkce_auth::testing::provider::{Behaviour, Endpoint, TestProvider};

use crate::pods::{at, seconds};
use crate::servers::{Options, Redis};
use crate::signed_in;
use crate::support::{App, Reply, World};
use crate::tools::store;

/// Each with a connection of its own.
fn pods(world: &World, redis: &Redis, pending: Pending) -> [App; 2] {
    [(); 2].map(|()| {
        let builder = world.builder().store(store(&redis.url())).pending(pending);
        world.app(&builder.build().unwrap())
    })
}

fn makes_a_session(reply: &Reply) -> bool {
    let mut names = reply.set_cookies().into_iter().filter_map(|cookie| cookie.split('=').next());
    names.any(|name| name.ends_with("-s"))
}

async fn pairs(pending: Pending) {
    let world = World::new().await;
    let redis = Redis::start(Options::default());
    let pods = pods(&world, &redis, pending);
    for pair in 0..200 {
        let mut browser = world.browser(&pods[0], "alice");
        let callback = browser.to_callback("/deep").await;
        let barrier = Arc::new(Barrier::new(2));
        let mut requests = JoinSet::new();
        for pod in &pods {
            let (mut browser, callback) = (at(pod, &browser), callback.clone());
            let barrier = barrier.clone();
            requests.spawn(async move {
                barrier.wait().await;
                browser.get(&callback).await
            });
        }
        let replies = requests.join_all().await;
        let made = replies.iter().filter(|reply| makes_a_session(reply)).count();
        assert_eq!(made, 1, "pair {pair}");
        for reply in replies {
            let location = reply.location();
            let known = location == "/deep" || location.starts_with("/auth/login?again=");
            assert!(known, "pair {pair}: {} {location}", reply.status);
        }
    }
    let counts = world.provider.counts();
    println!("{pending:?}: {} redemptions of 200 codes asked for 400 times", counts.token);
    assert_eq!((counts.token, counts.double_redemptions), (200, 0), "{pending:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs redis-server; scripts/test runs it"]
async fn two_hundred_pairs_of_a_callback_with_logins_in_the_store() {
    pairs(Pending::Store).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs redis-server; scripts/test runs it"]
async fn two_hundred_pairs_of_a_callback_with_sealed_logins_and_spent_marks() {
    pairs(Pending::Sealed).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs redis-server; scripts/test runs it"]
async fn fifty_requests_on_two_pods_refresh_once() {
    let provider = TestProvider::builder().refresh_tokens(true).expires_in(seconds(300));
    let world = World::with_provider(provider).await;
    let redis = Redis::start(Options::default());
    let pods = pods(&world, &redis, Pending::Store);
    let browser = signed_in(&world, &pods[0], "alice").await;
    let slow = Behaviour::Delay(Duration::from_millis(100));
    world.provider.set_behaviour(Endpoint::Token, slow);
    for round in 1..=5 {
        world.clock.advance(seconds(271));
        let mut requests = JoinSet::new();
        for n in 0..50 {
            let mut browser = at(&pods[n % 2], &browser);
            requests.spawn(async move { browser.get("/who").await });
        }
        for reply in requests.join_all().await {
            assert_eq!(reply.body, "alice", "round {round}: {}", reply.reason());
        }
        let counts = world.provider.counts();
        assert_eq!((counts.token, counts.refresh_reuses), (1 + round, 0), "round {round}");
    }
    println!("5 rounds of 50 requests on two pods: 5 refreshes, 0 reuses");
    let leases = redis.cli(&["--scan", "--pattern", "auth:lease:*"]);
    assert_eq!(leases, "", "every lease is given back");
}
