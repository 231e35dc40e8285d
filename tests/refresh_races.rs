//! Refreshes that meet something else (groups H and I): a logout, a slow provider, a crash, claims
//! that changed, keys or userinfo that cannot be had.

#[path = "support/pods.rs"]
mod pods;
#[path = "support/refreshes.rs"]
mod refreshes;
mod support;
#[path = "support/tokens.rs"]
mod tokens;

use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::http::StatusCode;
use pods::{a_minute_later, assert_signed_out, at, seconds};
use refreshes::{DUE, stored, world};
use support::{Browser, Reply, World};
use tower_pkce_auth::testing::provider::{Behaviour, Endpoint};

/// Sends a request in the background.
fn background(browser: &Browser) -> tokio::task::JoinHandle<Reply> {
    let mut browser = browser.clone();
    tokio::spawn(async move { browser.get("/who").await })
}

/// Waits until the provider was asked for tokens so often; ten seconds are a hang.
async fn until_asked(world: &World, count: u64) {
    let asked = async {
        while world.provider.counts().token < count {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(seconds(10), asked).await.expect("the provider is asked");
}

async fn claims(browser: &mut Browser) -> serde_json::Value {
    let reply = browser.get("/claims").await;
    assert_eq!(reply.status, StatusCode::OK, "{}", reply.reason());
    serde_json::from_str(&reply.body).unwrap()
}

#[tokio::test]
async fn h18_i16_a_logout_during_a_refresh_wins() {
    let places = ["the same pod", "another pod", "a report of a person", "a report of a session"];
    for logout_at in places {
        let world = world().await;
        let (mut browser, two, store) = stored(&world, |builder| builder).await;
        let sid = tokens::sid(&world.provider.issued_id_tokens().pop().unwrap());
        a_minute_later(&mut browser);
        let key = store.keys("session").pop().unwrap();
        let new: Arc<Mutex<Vec<String>>> = Arc::default();
        let sink = new.clone();
        world.provider.on_token_response(move |response| {
            for name in ["access_token", "refresh_token"] {
                sink.lock().unwrap().push(response[name].as_str().unwrap().to_owned());
            }
        });
        let slow = Behaviour::Delay(Duration::from_millis(300));
        world.provider.set_behaviour(Endpoint::Token, slow);
        world.clock.advance(DUE);
        let refreshing = background(&browser);
        until_asked(&world, 2).await;
        let mut leaving = match logout_at {
            "another pod" => at(&two, &browser),
            _ => browser.clone(),
        };
        match logout_at {
            "a report of a person" => {
                tokens::log_out(&world, &two, (Some("alice"), None), logout_at).await;
            }
            "a report of a session" => {
                tokens::log_out(&world, &browser.app, (None, Some(&sid)), logout_at).await;
            }
            _ => assert_eq!(leaving.post("/auth/logout").await.status, StatusCode::SEE_OTHER),
        }
        assert!(!refreshing.is_finished(), "the logout came first");

        let reply = refreshing.await.unwrap();
        assert_eq!(reply.status, StatusCode::FOUND, "H18 {logout_at}: {}", reply.body);
        let revives = reply.set_cookies().iter().any(|cookie| cookie.contains("-s=v1."));
        assert!(!revives, "H18 {logout_at}: {:?}", reply.set_cookies());
        assert_signed_out(&browser, &format!("H18 {logout_at}")).await;
        assert_signed_out(&at(&two, &browser), &format!("H18 {logout_at}")).await;
        assert_eq!(store.value(&key).await, None, "H18 {logout_at}: nothing is resurrected");
        let revoked: Vec<String> = world
            .provider
            .requests(Endpoint::Revocation)
            .iter()
            .filter_map(|request| request.form_value("token").map(str::to_owned))
            .collect();
        for token in new.lock().unwrap().iter() {
            assert!(revoked.contains(token), "I16 {logout_at}: the new tokens are revoked");
        }
    }
}

#[tokio::test]
async fn i01_a_client_that_goes_away_does_not_stop_a_refresh() {
    let world = world().await;
    let (browser, two, _) = stored(&world, |builder| builder).await;
    let slow = Behaviour::Delay(Duration::from_millis(200));
    world.provider.set_behaviour(Endpoint::Token, slow);
    world.clock.advance(DUE);
    let gone = background(&browser);
    until_asked(&world, 2).await;
    gone.abort();
    assert!(gone.await.is_err(), "it was cut off");
    assert_eq!(at(&two, &browser).who().await.as_deref(), Some("alice"));
    assert_eq!(world.provider.counts().token, 2, "I03: the result was saved all the same");
    assert_eq!(world.provider.counts().refresh_reuses, 0);
}

#[tokio::test]
async fn i07_a_lease_is_held_for_as_long_as_a_slow_provider_takes() {
    let world = world().await;
    let (browser, two, store) = stored(&world, |builder| builder).await;
    // Longer than the three seconds after which the holder renews its lease.
    world.provider.set_behaviour(Endpoint::Token, Behaviour::Delay(Duration::from_millis(3_700)));
    world.clock.advance(DUE);
    let holder = background(&browser);
    until_asked(&world, 2).await;
    let loser = background(&at(&two, &browser));
    world.clock.advance(seconds(8));
    let lease = |operation, count: usize| {
        move |calls: &[pods::Call]| {
            let made = calls.iter().filter(|call| {
                call.purpose() == "lease" && call.operation == operation && !call.refused
            });
            made.count() >= count
        }
    };
    store.until("a renewal", lease("swap", 1)).await;
    // Without the renewal the lease of ten seconds would be over now.
    world.clock.advance(seconds(8));
    let tried = store.calls().iter().filter(|call| call.purpose() == "lease").count();
    store.until("another try of the loser", lease("insert", tried.min(4) + 2)).await;
    for (name, request) in [("holder", holder), ("loser", loser)] {
        let reply = request.await.unwrap();
        assert_eq!((reply.status, reply.body.as_str()), (StatusCode::OK, "alice"), "I07 {name}");
    }
    assert_eq!(world.provider.counts().token, 2, "I07: spent once");
    assert_eq!(world.provider.counts().refresh_reuses, 0, "I07");
}

#[tokio::test]
async fn i12_narrower_claims_take_effect_and_other_ones_do_not_widen() {
    let world = world().await;
    let (mut browser, two, _) = stored(&world, |builder| builder.scope("profile")).await;
    assert_eq!(claims(&mut browser).await["groups"], serde_json::json!(["admin", "staff"]));
    for (name, groups, expected) in [
        ("narrower", Some(serde_json::json!(["staff"])), serde_json::json!(["staff"])),
        (
            "wider again, as the provider says",
            Some(serde_json::json!(["staff", "x"])),
            serde_json::json!(["staff", "x"]),
        ),
        ("an empty list", Some(serde_json::json!([])), serde_json::json!([])),
        ("left out", None, serde_json::Value::Null),
    ] {
        world.provider.on_id_token(move |draft| {
            draft.set("private", "on no list");
            match &groups {
                Some(groups) => draft.set("groups", groups.clone()),
                None => draft.remove("groups"),
            }
        });
        world.clock.advance(DUE);
        for pod in [&mut browser.clone(), &mut at(&two, &browser)] {
            let now = claims(pod).await;
            assert_eq!(now["groups"], expected, "I12 {name}: {now}");
            assert_eq!(now["name"], "Alice Archer", "I12 {name}");
            assert_eq!(now["private"], serde_json::Value::Null, "I12 P07 {name}");
        }
    }
}

#[tokio::test]
async fn i18_o01_refresh_tokens_are_seen_by_nobody() {
    let world = world().await;
    let tokens: Arc<Mutex<Vec<String>>> = Arc::default();
    let sink = tokens.clone();
    world.provider.on_token_response(move |response| {
        for name in ["access_token", "refresh_token", "id_token"] {
            sink.lock().unwrap().push(response[name].as_str().unwrap().to_owned());
        }
    });
    let (mut browser, _, store) = stored(&world, |builder| builder).await;
    world.clock.advance(DUE);
    let mut text = String::new();
    for path in ["/who", "/claims", "/auth/session", "/auth/logout"] {
        let reply = browser.get(path).await;
        text.push_str(&format!("{:?}{}", reply.headers, reply.body));
    }
    for seen in world.seen.lock().unwrap().iter() {
        text.push_str(&format!("{seen:?}"));
    }
    text.push_str(&format!("{:?}", browser.jar.0));
    for call in store.writes() {
        let value = call.value.unwrap_or_default();
        text.push_str(&String::from_utf8_lossy(&value));
    }
    let tokens = tokens.lock().unwrap().clone();
    assert_eq!(tokens.len(), 6, "a login and a refresh");
    for token in tokens {
        assert!(!text.contains(&token), "I18 O01: a token is seen");
    }
}
