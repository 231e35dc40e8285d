//! Refreshing sessions (group I): once, whoever asks; kept through trouble; ended by what ends it.

#[path = "support/pods.rs"]
mod pods;
#[path = "support/refreshes.rs"]
mod refreshes;
mod support;

use std::time::Duration;

use axum::http::StatusCode;
use pods::{Kept, assert_signed_out, at, minutes, seconds};
use refreshes::{DUE, assert_alice, collect_refresh_tokens, parallel, refreshes, stored, world};
use tower_pkce_auth::testing::provider::{Behaviour, Endpoint, RecordedRequest};
use tower_pkce_auth::{Builder, Clock as _};

fn token(request: &RecordedRequest) -> &str {
    request.form_value("refresh_token").unwrap()
}

#[tokio::test]
async fn i01_i02_a_due_session_is_refreshed_once_and_as_codes_are_redeemed() {
    let world = world().await;
    let (browser, ..) = stored(&world, |builder| builder.scope("profile")).await;
    world.clock.advance(seconds(269));
    assert_alice(&browser, "I01: not due yet").await;
    assert_eq!(refreshes(&world).len(), 0, "I01");
    world.clock.advance(seconds(2));
    for _ in 0..5 {
        assert_alice(&browser, "I01").await;
    }
    let sent = refreshes(&world);
    assert_eq!(sent.len(), 1, "I01");
    let code = &world.provider.token_requests()[0];
    assert_eq!(sent[0].header("authorization"), code.header("authorization"), "I02");
    let mut names: Vec<&str> = sent[0].form.iter().map(|(name, _)| name.as_str()).collect();
    names.sort_unstable();
    assert_eq!(names, ["grant_type", "refresh_token"], "I02: no scope, nothing else");
}

#[tokio::test]
async fn i03_every_pod_spends_the_newest_refresh_token() {
    let world = world().await;
    let (browser, two, _) = stored(&world, |builder| builder).await;
    for round in 0..6 {
        world.clock.advance(DUE);
        let pod = if round % 2 == 0 { browser.clone() } else { at(&two, &browser) };
        assert_alice(&pod, &format!("I03 round {round}")).await;
    }
    let sent = refreshes(&world);
    let mut tokens: Vec<&str> = sent.iter().map(token).collect();
    tokens.sort_unstable();
    tokens.dedup();
    assert_eq!((sent.len(), tokens.len()), (6, 6), "I03: each is spent once");
    assert_eq!(world.provider.counts().refresh_reuses, 0, "I03");
}

#[tokio::test]
async fn i04_i11_what_the_answer_leaves_out_stays_as_it_was() {
    let world = world().await;
    let (mut browser, ..) = stored(&world, |builder| builder.scope("profile")).await;
    let before = browser.get("/claims").await.body;
    // Neither a refresh token nor an ID token.
    let answer = r#"{"access_token":"a","token_type":"Bearer","expires_in":300}"#;
    world.provider.set_behaviour(Endpoint::Token, Behaviour::json(200, answer));
    for _ in 0..3 {
        world.clock.advance(DUE);
        assert_alice(&browser, "I11").await;
    }
    assert_eq!(browser.get("/claims").await.body, before, "I11: the identity stays");
    let sent = refreshes(&world);
    assert_eq!(sent.len(), 3);
    assert!(
        sent.iter().all(|request| token(request) == token(&sent[0])),
        "I04: the old one is kept"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn i05_i06_fifty_parallel_requests_refresh_once() {
    for (name, kept, pods) in [
        ("I05 one pod", Kept::Stored, 1),
        ("I05 one pod, shared store", Kept::StoredShared, 1),
        ("I06 two pods", Kept::StoredShared, 2),
    ] {
        let world = world().await;
        let (one, two, _) = kept.pods(&world, |builder| builder);
        let mut browser = world.browser(&one, "alice");
        browser.sign_in("/").await;
        for round in 1..=2 {
            world.clock.advance(DUE);
            let slow = Behaviour::Delay(Duration::from_millis(100));
            world.provider.set_behaviour(Endpoint::Token, slow);
            let statuses = parallel(&browser, &[&one, &two][..pods], 50).await;
            assert_eq!(statuses, [StatusCode::OK; 50], "{name}: nobody is signed out");
            assert_eq!(refreshes(&world).len(), round, "{name}");
            assert_eq!(world.provider.counts().refresh_reuses, 0, "{name}");
        }
        assert_alice(&browser, name).await;
    }
}

#[tokio::test]
async fn i13_no_lifetime_makes_a_refresh_per_request() {
    let world = world().await;
    for lifetime in [None, Some(0), Some(-1), Some(1)] {
        let (browser, ..) = stored(&world, |builder| builder).await;
        world.provider.reset_counts();
        world.provider.on_token_response(move |response| {
            match lifetime {
                Some(seconds) => response.insert("expires_in".to_owned(), seconds.into()),
                None => response.remove("expires_in"),
            };
        });
        world.clock.advance(DUE);
        for _ in 0..59 {
            assert_alice(&browser, "I13").await;
            world.clock.advance(seconds(1));
        }
        assert_eq!(refreshes(&world).len(), 1, "I13 {lifetime:?}: one in a minute");
        world.provider.clear_faults();
    }
}

#[tokio::test]
async fn i20_i22_a_refresh_prolongs_nothing_and_idle_sessions_are_not_refreshed() {
    let world = world().await;
    let short = |builder: Builder| builder.session_idle(minutes(10)).session_absolute(minutes(25));
    let (mut browser, ..) = stored(&world, short).await;
    world.clock.advance(minutes(9));
    assert_eq!(browser.get("/auth/session").await.status, StatusCode::OK);
    assert_eq!(refreshes(&world).len(), 0, "I22: asking refreshes nothing");
    world.clock.advance(seconds(61));
    assert_signed_out(&browser, "I20: idle").await;
    assert_eq!(refreshes(&world).len(), 0, "I20: an idle session is never refreshed");

    let (browser, ..) = stored(&world, short).await;
    for _ in 0..4 {
        world.clock.advance(minutes(6));
        assert_alice(&browser, "I20").await;
    }
    assert_eq!(refreshes(&world).len(), 4);
    world.clock.advance(minutes(1));
    assert_signed_out(&browser, "I20: the absolute limit holds").await;
    assert_eq!(refreshes(&world).len(), 4);
}

#[tokio::test]
async fn i21_steps_of_the_clock_cause_no_storm() {
    let world = world().await;
    let long = |builder: Builder| builder.session_idle(minutes(300));
    let (browser, ..) = stored(&world, long).await;
    let start = world.clock.now();
    for (name, now, most) in [
        ("an hour ahead", start + minutes(60), 1),
        ("back again", start, 0),
        ("an hour behind", start + seconds(0), 0),
        ("two hours ahead", start + minutes(120), 1),
    ] {
        let before = refreshes(&world).len();
        world.clock.set_wall(now);
        for _ in 0..10 {
            assert_alice(&browser, &format!("I21 {name}")).await;
        }
        let sent = refreshes(&world).len() - before;
        assert_eq!(sent, most, "I21 {name}");
    }
}

#[tokio::test]
async fn i17_sealed_sessions_are_never_refreshed_and_never_harmed_by_it() {
    let world = world().await;
    for kept in [Kept::Sealed, Kept::SealedShared] {
        let (one, two, store) = kept.pods(&world, |builder| builder);
        let mut browser = world.browser(&one, "alice");
        let issued = collect_refresh_tokens(&world);
        browser.sign_in("/").await;
        let issued = issued.lock().unwrap().clone();
        assert_eq!(issued.len(), 1, "there would be something to refresh with");
        world.clock.advance(DUE);
        assert_eq!(
            parallel(&browser, &[&one, &two], 20).await,
            [StatusCode::OK; 20],
            "I17 {kept:?}"
        );
        assert_eq!(refreshes(&world).len(), 0, "I17 {kept:?}");
        assert!(!store.writes().iter().any(|call| call.purpose() == "lease"), "I17 {kept:?}");
    }
}
