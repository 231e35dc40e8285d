//! Group B: a pending login is taken once, however many ask at once and on however many pods.

mod support;

use std::sync::Arc;
use std::time::Duration;

use support::{App, Browser, Reply, World, parameter};
use tokio::sync::Barrier;
use tower_pkce_auth::testing::provider::{Behaviour, Endpoint};
use tower_pkce_auth::{Builder, MemoryStore, Pending};

/// One process with each backend, and two pods with each that they can share. Two pods without a
/// server are not here: single use is the provider's then (DESIGN, "Pending logins").
fn fleets(world: &World) -> [(&'static str, App, App); 5] {
    let store = MemoryStore::shared_between_pods(world.clock.clone());
    let app = |builder: Builder| world.app(&builder.build().unwrap());
    let builder = |pending| world.builder().pending(pending);
    let shared = |pending| app(builder(pending).store(store.clone()));
    let [memory, sealed] = [Pending::Memory, Pending::Sealed].map(|p| app(builder(p)));
    let stored = shared(Pending::Store);
    [
        ("memory, one process", memory.clone(), memory),
        ("sealed, one process", sealed.clone(), sealed),
        ("store, one process", stored.clone(), stored.clone()),
        ("sealed, two pods", shared(Pending::Sealed), shared(Pending::Sealed)),
        ("store, two pods", stored, shared(Pending::Store)),
    ]
}

/// The same callback, with the same cookies, `times` at once, on the two pods in turns.
async fn at_once(browser: &Browser, pods: [&App; 2], callback: &str, times: usize) -> Vec<Reply> {
    let barrier = Arc::new(Barrier::new(times));
    let tasks: Vec<_> = (0..times)
        .map(|n| {
            let (mut browser, callback) = (browser.clone(), callback.to_owned());
            browser.app = pods[n % 2].clone();
            let barrier = barrier.clone();
            tokio::spawn(async move {
                barrier.wait().await;
                browser.get(&callback).await
            })
        })
        .collect();
    let mut replies = Vec::new();
    for task in tasks {
        replies.push(task.await.unwrap());
    }
    replies
}

fn sessions(replies: &[Reply]) -> usize {
    let is_session = |cookie: &&str| cookie.split('=').next().is_some_and(|n| n.ends_with("-s"));
    replies.iter().filter(|reply| reply.set_cookies().iter().any(is_session)).count()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn b05_two_hundred_pairs_of_the_same_callback_redeem_two_hundred_codes() {
    let world = World::new().await;
    for (case, a, b) in fleets(&world) {
        world.provider.reset_counts();
        for pair in 0..200 {
            let mut browser = world.browser(&a, "alice");
            let callback = browser.to_callback("/deep").await;
            let replies = at_once(&browser, [&a, &b], &callback, 2).await;
            assert_eq!(sessions(&replies), 1, "B05 {case}, pair {pair}");
            // The other one starts over: it never shows an error and never redeems.
            for reply in replies {
                let (status, location) = (reply.status.as_u16(), reply.location());
                let known = location == "/deep" || location.starts_with("/auth/login?again=");
                assert!(status == 303 && known, "{case}: {status} {location}");
            }
        }
        let counts = world.provider.counts();
        assert_eq!(counts.double_redemptions, 0, "B05 {case}");
        assert_eq!(counts.token, 200, "B05 {case}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn b05_fifty_callbacks_while_the_provider_is_slow_are_one_redemption() {
    let world = World::new().await;
    let slow = Behaviour::Delay(Duration::from_millis(200));
    for (case, a, b) in fleets(&world) {
        world.provider.reset_counts();
        let mut browser = world.browser(&a, "alice");
        let callback = browser.to_callback("/deep").await;
        world.provider.set_behaviour(Endpoint::Token, slow.clone());
        let replies = at_once(&browser, [&a, &b], &callback, 50).await;
        world.provider.clear_faults();
        assert_eq!(sessions(&replies), 1, "B05 {case}");
        assert_eq!(world.provider.counts().token, 1, "B05 {case}");
        // The winner's browser is signed in, on either pod.
        let winner = replies.iter().find(|reply| reply.location() == "/deep").unwrap();
        browser.jar.keep(&winner.headers);
        for pod in [a, b] {
            browser.app = pod;
            assert_eq!(browser.who().await.as_deref(), Some("alice"), "B05 {case}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn b06_a_pair_with_an_error_or_a_forged_token_is_taken_once_as_well() {
    let world = World::new().await;
    for (case, a, b) in fleets(&world) {
        world.provider.reset_counts();
        world.provider.on_id_token(|draft| draft.set("nonce", "forged"));
        for _ in 0..20 {
            let mut browser = world.browser(&a, "alice");
            let callback = browser.to_callback("/deep").await;
            let replies = at_once(&browser, [&a, &b], &callback, 2).await;
            assert_eq!(sessions(&replies), 0, "B06 {case}");
            let code = parameter(&callback, "code").unwrap();
            let requests = world.provider.token_requests();
            let sent = requests.iter().filter(|r| r.form_value("code") == Some(&code)).count();
            assert_eq!(sent, 1, "B06 {case}");
        }
        world.provider.clear_faults();
        assert_eq!(world.provider.counts().double_redemptions, 0, "B06 {case}");
    }
}
