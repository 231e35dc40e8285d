//! Outages and refreshes: lazily fetched, kept on error, picked up when it changes.

use std::time::Duration;

use serde_json::{Value, json};
use tower_pkce_auth::testing::provider::{Behaviour, Endpoint, TestProvider};

use crate::hostile::{accepted, refused, until};
use crate::support::World;
use crate::{layer, unstartable};

/// Longer than a document is used without asking again, and than a failed refresh is rested upon.
const STALE: Duration = Duration::from_secs(700);

#[tokio::test]
async fn f08_a_provider_that_is_down_at_the_start_is_used_once_it_is_up() {
    let world = World::new().await;
    let address = world.provider.address();
    world.provider.stop().await;
    let app = layer(&world);
    for _ in 0..3 {
        let reply = unstartable(&world, &app, "F08").await;
        assert_eq!(reply.reason(), "provider_unavailable/discovery_unreachable");
        assert_eq!(reply.status, 503);
        assert_ne!(reply.header("retry-after"), "");
    }
    let provider = TestProvider::builder().listen(address).clock(world.clock.clone());
    let up = World {
        provider: provider.start().await.unwrap(),
        clock: world.clock.clone(),
        keys: world.keys.clone(),
        seen: world.seen.clone(),
    };
    up.clock.advance(Duration::from_secs(1));
    accepted(&up, &app, "F08: without a restart").await;
}

#[tokio::test]
async fn f08_sessions_do_not_notice_an_outage_and_fetches_are_few() {
    let world = World::new().await;
    let app = layer(&world);
    let mut browser = world.browser(&app, "alice");
    browser.sign_in("/").await;
    world.provider.stop().await;
    for _ in 0..5 {
        world.clock.advance(Duration::from_secs(600));
        assert_eq!(browser.who().await.as_deref(), Some("alice"), "F08");
    }

    let world = World::new().await;
    let app = layer(&world);
    world.provider.set_behaviour(Endpoint::Discovery, Behaviour::status(500));
    for _ in 0..50 {
        unstartable(&world, &app, "F08").await;
    }
    let fetches = world.provider.counts().discovery;
    assert!((1..=2).contains(&fetches), "F08: {fetches} in one moment");
}

#[tokio::test]
async fn f07_f29_what_was_known_stays_in_force_when_a_refresh_fails() {
    let html = Behaviour::Status {
        code: 200,
        content_type: "text/html".to_owned(),
        body: "<h1>Maintenance</h1>".into(),
    };
    for endpoint in [Endpoint::Discovery, Endpoint::Jwks] {
        for behaviour in [
            Behaviour::status(404),
            Behaviour::status(500),
            Behaviour::status(204),
            html.clone(),
            Behaviour::json(200, ""),
            Behaviour::json(200, "{\"issuer\":\"http"),
            Behaviour::json(200, "[]"),
            Behaviour::json(200, "{\"keys\":[]}"),
            Behaviour::json(200, "{\"keys\":[{\"kty\":\"oct\",\"k\":\"AAAA\"}]}"),
            Behaviour::Refuse,
            Behaviour::Endless,
        ] {
            let name = format!("F07, F29: {endpoint:?} {behaviour:?}");
            let world = World::new().await;
            let app = layer(&world);
            accepted(&world, &app, &name).await;
            world.provider.set_behaviour(endpoint, behaviour);
            for round in 2..4 {
                world.clock.advance(STALE);
                accepted(&world, &app, &name).await;
                until(&name, || world.provider.counts().of(endpoint) >= round).await;
                accepted(&world, &app, &name).await;
            }
            let asked = world.provider.counts().of(endpoint);
            assert!(asked <= 3, "F08: {asked} fetches in two rounds, {name}");
            world.provider.clear_faults();
            world.clock.advance(STALE);
            accepted(&world, &app, &name).await;
        }
    }
}

#[tokio::test]
async fn f12_a_refresh_that_names_another_issuer_or_unsafe_endpoints_changes_nothing() {
    let elsewhere = json!("https://evil.example/x");
    for (member, value) in [
        ("issuer", json!("https://evil.example")),
        ("issuer", Value::Null),
        ("token_endpoint", json!("http://evil.example/token")),
        ("authorization_endpoint", json!("http://evil.example/authorize")),
        ("jwks_uri", Value::Null),
    ] {
        let name = format!("F12: {member} = {value}");
        let world = World::new().await;
        let app = layer(&world);
        accepted(&world, &app, &name).await;
        let elsewhere = elsewhere.clone();
        world.provider.on_discovery(move |document| {
            // Whatever else such a document says is not used either.
            document.insert("authorization_endpoint".to_owned(), elsewhere.clone());
            document.insert(member.to_owned(), value.clone());
        });
        world.clock.advance(STALE);
        accepted(&world, &app, &name).await;
        until(&name, || world.provider.counts().discovery == 2).await;
        for _ in 0..3 {
            accepted(&world, &app, &name).await;
        }
    }
}

#[tokio::test]
async fn f12_a_lawful_change_is_picked_up() {
    let world = World::new().await;
    let app = layer(&world);
    accepted(&world, &app, "F12").await;
    world.provider.on_discovery(|document| {
        let url = format!("{}?v=2", document["token_endpoint"].as_str().unwrap());
        document.insert("token_endpoint".to_owned(), url.into());
    });
    world.clock.advance(STALE);
    accepted(&world, &app, "F12").await;
    until("F12", || world.provider.counts().jwks == 2).await;
    // The new document is in force once its keys have been read.
    for _ in 0..20 {
        accepted(&world, &app, "F12").await;
        if world.provider.token_requests().last().unwrap().uri == "/token?v=2" {
            return;
        }
    }
    panic!("F12: the new token endpoint is never used");
}

#[tokio::test]
async fn f12_tokens_with_unknown_names_do_not_put_the_refresh_off() {
    let world = World::new().await;
    let app = layer(&world);
    accepted(&world, &app, "F12").await;
    // Each makes the keys be fetched; the document is as old as before.
    world.provider.on_id_token(|token| {
        token.header.insert("kid".to_owned(), "unknown".into());
    });
    for round in 0..10 {
        world.clock.advance(Duration::from_secs(300));
        refused(&world, &app, &format!("F12, F18: round {round}")).await;
    }
    world.provider.clear_faults();
    accepted(&world, &app, "F12").await;
    let asked = world.provider.counts().discovery;
    assert!(asked > 1, "F12: the document is never fetched again");
}
