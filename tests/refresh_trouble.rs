//! Refreshes that fail (group I): trouble that passes, grants that are gone, answers that lie.

#[path = "support/pods.rs"]
mod pods;
#[path = "support/refreshes.rs"]
mod refreshes;
mod support;

use std::time::Duration;

use axum::http::{Method, StatusCode};
use pods::{Kept, a_minute_later, assert_signed_out, at, seconds};
use refreshes::{DUE, assert_alice, collect_refresh_tokens, parallel, refreshes, stored, world};
use support::{Browser, World, fetch};
use tower_pkce_auth::testing::provider::{
    Behaviour, Endpoint, IdTokenDraft, Signer, SigningAlg, SigningKey, TestProvider,
};
use tower_pkce_auth::{Builder, Userinfo};

const BACK_OFF: Duration = seconds(31);

#[tokio::test]
async fn i08_h16_a_grant_that_is_gone_ends_the_session_everywhere() {
    let world = world().await;
    for script in [false, true] {
        let (mut browser, two, store) = stored(&world, |builder| builder).await;
        a_minute_later(&mut browser);
        let copy = browser.clone();
        world.provider.reset_counts();
        world.clock.advance(DUE);
        let answer = r#"{"error":"invalid_grant","error_description":"CANARY"}"#;
        world.provider.set_behaviour(Endpoint::Token, Behaviour::json(400, answer));
        world.reached();
        let request = match script {
            true => fetch(Method::GET, "/api"),
            false => support::navigation(Method::GET, "/page"),
        };
        let reply = browser.send(request).await;
        let expected = if script { StatusCode::UNAUTHORIZED } else { StatusCode::FOUND };
        assert_eq!(reply.status, expected, "I08");
        assert!(!reply.body.contains("CANARY"), "I08");
        world.provider.clear_faults();
        assert_signed_out(&copy, "I08: this pod").await;
        assert_signed_out(&at(&two, &copy), "I08: the other pod").await;
        assert_eq!(refreshes(&world).len(), 1, "I08: one attempt");
        assert_eq!(world.reached(), 0, "I08");
        assert_eq!(store.value(store.keys("session").last().unwrap()).await, None, "I08");
        assert_eq!(browser.sign_in("/").await.body, "alice", "a clean login follows");
    }
}

#[tokio::test]
async fn i09_trouble_that_may_pass_signs_nobody_out() {
    let world = world().await;
    let quick = |builder: Builder| builder.provider_timeout(Duration::from_millis(200));
    let (browser, two, _) = stored(&world, quick).await;
    for (name, behaviour) in [
        ("500", Behaviour::status(500)),
        ("502 with a page", Behaviour::json(502, "<html>")),
        ("503", Behaviour::status(503)),
        ("429", Behaviour::status(429)),
        ("the client is refused", Behaviour::json(401, r#"{"error":"invalid_client"}"#)),
        ("server_error", Behaviour::json(400, r#"{"error":"server_error"}"#)),
        ("400 without an error", Behaviour::json(400, "{}")),
        ("200 without a token", Behaviour::json(200, "{}")),
        ("200 of nothing", Behaviour::status(200)),
        ("connection refused", Behaviour::Refuse),
        ("hangs", Behaviour::Hang),
        ("never ends", Behaviour::Endless),
        ("redirects", Behaviour::Redirect { code: 307, to: "/elsewhere".to_owned() }),
    ] {
        world.clock.advance(DUE);
        // Every token request is counted; one that is cut off has no form to look into.
        let before = world.provider.counts().token;
        world.provider.set_behaviour(Endpoint::Token, behaviour);
        for _ in 0..4 {
            assert_alice(&browser, &format!("I09 {name}")).await;
            assert_alice(&at(&two, &browser), &format!("I09 {name}")).await;
        }
        let asked = world.provider.counts().token - before;
        assert_eq!(asked, 1, "I14 {name}: one attempt, then a pause");
        world.provider.clear_faults();
        world.clock.advance(BACK_OFF);
        assert_alice(&browser, &format!("I09 {name}: afterwards")).await;
        let asked = world.provider.counts().token - before;
        assert_eq!(asked, 2, "I09 {name}: tried again");
        assert_eq!(world.provider.counts().refresh_reuses, 0, "I09 {name}");
        assert_alice(&at(&two, &browser), &format!("I09 {name}: the other pod")).await;
    }
}

#[tokio::test]
async fn i14_parallel_requests_do_not_repeat_a_failing_refresh_one_by_one() {
    let world = world().await;
    let (browser, two, _) = stored(&world, |builder| builder).await;
    world.clock.advance(DUE);
    world.provider.set_behaviour(Endpoint::Token, Behaviour::status(500));
    let statuses = parallel(&browser, &[&browser.app, &two], 20).await;
    assert_eq!(statuses, [StatusCode::OK; 20], "I09");
    let attempts = refreshes(&world).len();
    assert!(attempts <= 2, "I14: {attempts} attempts for one session, at most one a pod");
}

#[tokio::test]
async fn i14_failing_refreshes_back_off_per_issuer() {
    let world = world().await;
    let (one, ..) = Kept::StoredShared.pods(&world, |builder| builder);
    let mut browsers = Vec::new();
    for _ in 0..12 {
        let mut browser = world.browser(&one, "alice");
        browser.sign_in("/").await;
        browsers.push(browser);
    }
    world.clock.advance(DUE);
    world.provider.set_behaviour(Endpoint::Token, Behaviour::status(500));
    for browser in &browsers {
        assert_alice(browser, "I09").await;
    }
    let attempts = refreshes(&world).len();
    assert!(attempts < 12, "I14: {attempts} attempts for 12 sessions at a provider that is down");
}

#[tokio::test]
async fn i10_an_id_token_of_another_sign_in_ends_the_session() {
    type Lie = Box<dyn Fn(&mut IdTokenDraft) + Send + Sync>;
    let world = world().await;
    let stranger = SigningKey::generate(SigningAlg::Rs256);
    let lies: Vec<(&str, Lie)> = vec![
        ("iss", Box::new(|draft| draft.set("iss", "http://127.0.0.1:1/1"))),
        ("sub", Box::new(|draft| draft.set("sub", "alice1"))),
        ("bob", Box::new(|draft| draft.set("sub", "bob"))),
        ("aud", Box::new(|draft| draft.set("aud", "other"))),
        ("nonce", Box::new(|draft| draft.set("nonce", "other"))),
        (
            "auth_time",
            Box::new(|draft| {
                let at = draft.claims["auth_time"].as_u64().unwrap();
                draft.set("auth_time", at + 5);
            }),
        ),
        (
            "old iat",
            Box::new(|draft| {
                let at = draft.claims["iat"].as_u64().unwrap();
                draft.set("iat", at - 3_600);
            }),
        ),
        ("expired", Box::new(|draft| draft.set("exp", 1))),
        ("alg none", Box::new(|draft| draft.sign_with(Signer::Unsigned))),
        ("bad signature", Box::new(|draft| draft.corrupt(2))),
        ("at_hash", Box::new(|draft| draft.set("at_hash", "AAAAAAAAAAAAAAAAAAAAAA"))),
        ("another key", Box::new(move |draft| draft.signer = Signer::Key(stranger.clone()))),
        ("garbage", Box::new(|draft| draft.raw = Some("garbage".to_owned()))),
    ];
    for (name, lie) in lies {
        let (browser, two, _) = stored(&world, |builder| builder).await;
        world.clock.advance(DUE);
        world.provider.reset_counts();
        world.provider.on_id_token(lie);
        let new = collect_refresh_tokens(&world);
        world.reached();
        assert_signed_out(&browser, &format!("I10 {name}")).await;
        assert_signed_out(&at(&two, &browser), &format!("I10 {name}: the other pod")).await;
        assert_eq!(world.reached(), 0, "I10 {name}: nothing reached the application");
        assert_eq!(refreshes(&world).len(), 1, "I10 {name}");
        assert_eq!(world.provider.counts().userinfo, 0, "I10 {name}");
        let new = new.lock().unwrap().clone();
        assert!(revoked(&world, &new[0]), "I10 {name}: the new tokens are of no use to anybody");
        world.provider.clear_faults();
    }
}

fn revoked(world: &World, token: &str) -> bool {
    let requests = world.provider.requests(Endpoint::Revocation);
    requests.iter().any(|request| request.form_value("token") == Some(token))
}

async fn claims(browser: &mut Browser) -> serde_json::Value {
    let reply = browser.get("/claims").await;
    assert_eq!(reply.status, StatusCode::OK, "{}", reply.reason());
    serde_json::from_str(&reply.body).unwrap()
}

/// Keys that cannot be had are the provider's trouble: the answer can neither be believed nor be
/// held against anybody.
#[tokio::test]
async fn i09_keys_out_of_reach_at_a_refresh_sign_nobody_out() {
    let world = world().await;
    let (browser, two, _) = stored(&world, |builder| builder).await;
    world.clock.advance(DUE);
    world.provider.rotate_keys_before_next_token(SigningAlg::default());
    world.provider.set_behaviour(Endpoint::Jwks, Behaviour::status(503));
    assert_eq!(browser.clone().who().await.as_deref(), Some("alice"), "I09: this request");
    world.provider.clear_faults();
    world.clock.advance(DUE);
    assert_eq!(at(&two, &browser).who().await.as_deref(), Some("alice"), "I09: afterwards");
    assert_eq!(world.provider.counts().refresh_reuses, 0, "I09: the new refresh token was kept");
}

/// The comment in `session/attempt.rs`: "the claims stay as they were".
#[tokio::test]
async fn i09_i11_userinfo_out_of_reach_at_a_refresh_takes_no_claim_away() {
    let provider =
        TestProvider::builder().refresh_tokens(true).expires_in(seconds(300)).lean_id_token();
    let world = World::with_provider(provider).await;
    // One claim of the person comes by the ID token, the others by userinfo only.
    world.provider.on_id_token(|draft| draft.set("locale", "nl"));
    for mode in [Userinfo::Optional, Userinfo::Required] {
        let set = |builder: Builder| builder.scope("profile").userinfo(mode);
        let (mut browser, ..) = stored(&world, set).await;
        let before = claims(&mut browser).await;
        assert_eq!(before["groups"], serde_json::json!(["admin", "staff"]));
        world.clock.advance(DUE);
        world.provider.set_behaviour(Endpoint::Userinfo, Behaviour::status(503));
        assert_eq!(claims(&mut browser).await, before, "I09 {mode:?}");
        world.provider.set_behaviour(Endpoint::Userinfo, Behaviour::Normal);
        world.clock.advance(DUE);
        assert_eq!(claims(&mut browser).await, before, "I09 {mode:?}: afterwards");
    }
}

#[tokio::test]
async fn g05_i10_userinfo_of_another_person_at_a_refresh_ends_the_session() {
    let world = world().await;
    let set = |builder: Builder| builder.userinfo(Userinfo::Required);
    let (browser, two, _) = stored(&world, set).await;
    world.clock.advance(DUE);
    world.provider.on_userinfo(|claims| {
        claims.insert("sub".to_owned(), "bob".into());
    });
    assert_signed_out(&browser, "G05 I10").await;
    assert_signed_out(&at(&two, &browser), "G05 I10: the other pod").await;
    assert!(world.provider.counts().revocation > 0, "the new tokens are revoked");
}

/// More sessions than the provider is asked for keys out of turn: nobody can tell whether the new
/// ID tokens are good, so nobody is signed out for it.
#[tokio::test]
async fn i09_keys_out_of_reach_for_many_sessions_sign_nobody_out() {
    let world = world().await;
    let (one, ..) = Kept::StoredShared.pods(&world, |builder| builder);
    let mut browsers = Vec::new();
    for _ in 0..6 {
        let mut browser = world.browser(&one, "alice");
        browser.sign_in("/").await;
        browsers.push(browser);
    }
    world.clock.advance(DUE);
    world.provider.rotate_keys(SigningAlg::default());
    world.provider.set_behaviour(Endpoint::Jwks, Behaviour::status(503));
    for (n, browser) in browsers.iter().enumerate() {
        assert_alice(browser, &format!("I09: session {n}")).await;
    }
    assert_eq!(refreshes(&world).len(), 6, "I09: each was refreshed");
    for (n, browser) in browsers.iter().enumerate() {
        assert_alice(browser, &format!("I09: session {n}, afterwards")).await;
    }
}

/// Core 12.2 lets the ID token be absent: what userinfo leaves out now was taken away all the same.
#[tokio::test]
async fn i12_a_right_that_userinfo_leaves_out_is_gone_without_an_id_token_too() {
    let provider =
        TestProvider::builder().refresh_tokens(true).expires_in(seconds(300)).lean_id_token();
    let world = World::with_provider(provider).await;
    world.provider.on_id_token(|draft| draft.remove("groups"));
    let set = |builder: Builder| builder.scope("profile").userinfo(Userinfo::Required);
    let (mut browser, ..) = stored(&world, set).await;
    let groups = async |browser: &mut Browser| browser.get("/claims").await.body.contains("groups");
    assert!(groups(&mut browser).await, "the groups came by userinfo");
    world.provider.on_token_response(|response| drop(response.remove("id_token")));
    world.provider.on_userinfo(|claims| drop(claims.remove("groups")));
    world.clock.advance(DUE);
    assert_alice(&browser, "I12").await;
    assert_eq!(refreshes(&world).len(), 1, "it was refreshed");
    assert!(!groups(&mut browser).await, "I12: and were taken away there");
}
