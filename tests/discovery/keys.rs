//! Keys: rotation, floods of unknown names, odd entries, caching.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::task::JoinSet;
use tower_pkce_auth::SystemClock;
use tower_pkce_auth::testing::provider::{Behaviour, Endpoint, Signer, SigningAlg, SigningKey};

use crate::hostile::{accepted, base64url, refused, until};
use crate::layer;
use crate::support::{App, World};

const MANY: usize = 40;

#[tokio::test]
async fn f16_after_a_rotation_the_keys_are_fetched_again() {
    let world = World::new().await;
    let app = layer(&world);
    accepted(&world, &app, "before").await;
    assert_eq!(world.provider.counts().jwks, 1);
    world.provider.rotate_keys(SigningAlg::Rs256);
    accepted(&world, &app, "F16").await;
    assert_eq!(world.provider.counts().jwks, 2, "F16: once more");
    accepted(&world, &app, "F16").await;
    assert_eq!(world.provider.counts().jwks, 2, "F16: and no more");
    assert_eq!(world.provider.counts().discovery, 1, "only the keys");
}

#[tokio::test]
async fn f17_e30_a_rotation_just_before_signing_is_survived_in_the_same_login() {
    let world = World::new().await;
    let app = layer(&world);
    accepted(&world, &app, "before").await;
    world.provider.rotate_keys_before_next_token(SigningAlg::Rs256);
    let mut browser = world.browser(&app, "alice");
    let callback = browser.to_callback("/").await;
    let reply = browser.get(&callback).await;
    assert_eq!(reply.status, 303, "F17: {}", reply.reason());
    assert_eq!(browser.who().await.as_deref(), Some("alice"));
    assert_eq!(world.provider.counts().token, 2, "F17: without another attempt");
}

#[tokio::test]
async fn f17_a_rotation_that_keeps_the_name_is_survived() {
    let world = World::new().await;
    let app = layer(&world);
    accepted(&world, &app, "before").await;
    let kid = world.provider.signing_key().kid().to_owned();
    let key = SigningKey::generate(SigningAlg::Rs256).with_kid(kid);
    let published = key.public_jwk();
    world.provider.on_jwks(move |keys| *keys = vec![published.clone()]);
    world.provider.on_id_token(move |token| token.sign_with(Signer::Key(key.clone())));
    accepted(&world, &app, "F17: the same kid").await;
}

#[tokio::test]
async fn f18_unknown_names_cause_few_fetches_and_rotation_recovers() {
    let world = World::new().await;
    let app = layer(&world);
    accepted(&world, &app, "before").await;
    let windows = [("random kids", true), ("bad signatures", false)];
    for (name, random) in windows {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        world.clock.advance(Duration::from_secs(61));
        let before = world.provider.counts().jwks;
        world.provider.on_id_token(move |token| {
            let n = COUNT.fetch_add(1, Ordering::Relaxed);
            if random {
                token.header.insert("kid".into(), format!("random-{n}").into());
            } else {
                token.corrupt(2);
            }
        });
        for _ in 0..MANY {
            refused(&world, &app, "F18").await;
        }
        let fetches = world.provider.counts().jwks - before;
        assert!((1..=2).contains(&fetches), "F18: {fetches} for {MANY} {name}");
        world.provider.clear_faults();
        accepted(&world, &app, "F18: a known key meanwhile").await;
    }
    world.provider.rotate_keys(SigningAlg::Rs256);
    world.clock.advance(Duration::from_secs(61));
    accepted(&world, &app, "F18: a rotation after the flood").await;
}

/// Many people sign in at once, all of them with success.
async fn rush(world: &World, app: App, name: &str) {
    accepted(world, &app, "before").await;
    let mut waiting = Vec::new();
    for _ in 0..MANY {
        let mut browser = world.browser(&app, "alice");
        let callback = browser.to_callback("/").await;
        waiting.push((browser, callback));
    }
    world.provider.rotate_keys(SigningAlg::Rs256);
    let before = world.provider.counts().jwks;
    let mut rush = JoinSet::new();
    for (mut browser, callback) in waiting {
        rush.spawn(async move {
            let reply = browser.get(&callback).await;
            (reply.status.as_u16(), reply.reason())
        });
    }
    for done in rush.join_all().await {
        assert_eq!(done, (303, String::new()), "{name}");
    }
    let fetches = world.provider.counts().jwks - before;
    assert!((1..=2).contains(&fetches), "{name}: {fetches} fetches for {MANY} logins");
}

#[tokio::test]
async fn f19_many_logins_after_a_rotation_share_one_fetch() {
    let world = World::new().await;
    rush(&world, layer(&world), "F19").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn f19_many_logins_after_a_rotation_share_one_fetch_on_threads() {
    // With a clock that goes on: what was asked and fetched when must not decide who is served.
    for _ in 0..3 {
        let world = World::new().await;
        let builder = world.builder().clock(Arc::new(SystemClock));
        rush(&world, world.app(&builder.build().unwrap()), "F19, threads").await;
    }
}

#[tokio::test]
async fn f19_many_starts_of_a_cold_pod_share_one_fetch() {
    let world = World::new().await;
    let app = layer(&world);
    let mut rush = JoinSet::new();
    for _ in 0..MANY {
        let mut browser = world.browser(&app, "alice");
        rush.spawn(async move { browser.get("/auth/login").await.status.as_u16() });
    }
    assert!(rush.join_all().await.iter().all(|status| *status == 302));
    let counts = world.provider.counts();
    assert!(counts.discovery <= 2, "F19: {} documents for {MANY} starts", counts.discovery);
    assert!(counts.jwks <= 2, "F19: {} key sets for {MANY} starts", counts.jwks);
}

#[tokio::test]
async fn f20_a_failing_fetch_lets_known_keys_verify_and_unknown_ones_not() {
    let world = World::new().await;
    let app = layer(&world);
    accepted(&world, &app, "before").await;
    let unknown = SigningKey::generate(SigningAlg::Rs256);
    for behaviour in [
        Behaviour::status(500),
        Behaviour::Refuse,
        Behaviour::json(200, "{\"keys\":[]}"),
        Behaviour::json(200, "{}"),
        Behaviour::json(200, "[]"),
        Behaviour::Endless,
    ] {
        world.clock.advance(Duration::from_secs(61));
        let name = format!("F20, F29: {behaviour:?}");
        world.provider.set_behaviour(Endpoint::Jwks, behaviour);
        let key = unknown.clone();
        world.provider.on_id_token(move |token| token.sign_with(Signer::Key(key.clone())));
        let refused = refused(&world, &app, &name).await;
        let reason = refused.reply.reason();
        let honest = ["id_token/kid", "provider_unavailable/keys_unavailable"];
        assert!(honest.contains(&&*reason), "{name}: {reason}");
        assert_eq!(refused.jwks, 1, "{name}: it was tried");
        world.provider.on_id_token(|_| {});
        accepted(&world, &app, &name).await;
    }
}

#[tokio::test]
async fn f21_a_key_that_was_withdrawn_is_not_believed_for_long() {
    let world = World::new().await;
    let app = layer(&world);
    accepted(&world, &app, "before").await;
    let old = world.provider.signing_key();
    world.provider.rotate_keys(SigningAlg::Rs256);
    world.provider.on_id_token(move |token| token.sign_with(Signer::Key(old.clone())));
    world.clock.advance(Duration::from_secs(3601));
    let before = world.provider.counts().jwks;
    let mut browser = world.browser(&app, "alice");
    let callback = browser.to_callback("/").await;
    until("F21: the refresh", || world.provider.counts().jwks > before).await;
    let refused = refused(&world, &app, "F21").await;
    assert_eq!(refused.reply.reason(), "id_token/kid");
    let reply = browser.get(&callback).await;
    assert_eq!(reply.reason(), "id_token/kid", "F21: nor in the login that was under way");
}

#[tokio::test]
async fn f21_not_even_while_newer_keys_are_on_their_way() {
    let world = World::new().await;
    let app = layer(&world);
    accepted(&world, &app, "before").await;
    let old = world.provider.signing_key();
    world.provider.rotate_keys(SigningAlg::Rs256);
    world.provider.on_id_token(move |token| token.sign_with(Signer::Key(old.clone())));
    // Nobody came for hours, so nothing was refreshed; and the provider is slow.
    world.clock.advance(Duration::from_secs(6 * 3600));
    let slow = Behaviour::Delay(Duration::from_millis(300));
    world.provider.set_behaviour(Endpoint::Jwks, slow);
    let refused = refused(&world, &app, "F21").await;
    assert_eq!(refused.reply.reason(), "id_token/kid");
}

#[tokio::test]
async fn f22_f23_f24_f26_odd_keys_are_left_out_one_by_one() {
    let world = World::new().await;
    let n = base64url([0xff; 2048]);
    let odd = vec![
        json!(null),
        json!("key"),
        json!(5),
        json!([]),
        json!({}),
        json!({"kty": 5}),
        json!({"kty": "AKP", "alg": "ML-DSA-44", "pub": "AAAA"}),
        json!({"kty": "oct", "k": "AAAA"}),
        json!({"kty": "OKP", "crv": "Ed448", "x": "AAAA"}),
        json!({"kty": "OKP", "crv": "Ed25519", "x": "AAAA"}),
        json!({"kty": "EC", "crv": "P-256", "x": "AAAA"}),
        json!({"kty": "EC", "crv": "P-521", "x": "AAAA", "y": "AAAA"}),
        json!({"kty": "RSA", "e": "AQAB"}),
        json!({"kty": "RSA", "n": "no base64!", "e": "AQAB"}),
        json!({"kty": "RSA", "n": "", "e": ""}),
        json!({"kty": "RSA", "n": n, "e": "AQAB"}),
        json!({"kty": "RSA", "n": n, "e": n}),
        json!({"kty": "RSA", "n": n, "e": "AQAB", "kid": {"a": 1}}),
    ];
    let kid = world.provider.signing_key().kid().to_owned();
    for named in [false, true] {
        let app = layer(&world);
        let (mut entries, kid) = (odd.clone(), kid.clone());
        if named {
            // The same name as the good one, so that only their kind tells them apart.
            let objects = entries.iter_mut().filter_map(Value::as_object_mut);
            objects.for_each(|entry| drop(entry.insert("kid".to_owned(), json!(kid))));
        }
        world.provider.on_jwks(move |keys| {
            keys[0]["d"] = json!("CANARY");
            keys.splice(0..0, entries.clone());
        });
        accepted(&world, &app, "F22, F24, F26").await;
        world.provider.clear_faults();
    }
}

#[tokio::test]
async fn f26_ten_thousand_keys_are_not_all_read() {
    let world = World::new().await;
    world.provider.on_jwks(|keys| {
        keys.extend((0..10_000).map(|n| json!({"kty": "RSA", "n": "AQAB", "e": "AQAB", "kid": n})));
    });
    accepted(&world, &layer(&world), "F26").await;
}

#[tokio::test]
async fn f28_caching_is_honoured_within_bounds() {
    for (value, kept) in [
        ("no-store", 60),
        ("no-cache", 60),
        ("max-age=0", 60),
        ("max-age=0, must-revalidate", 60),
        ("public, max-age=120", 120),
        ("max-age=315360000", 3600),
    ] {
        let world = World::new().await;
        let app = layer(&world);
        world.provider.on_response_headers(Endpoint::Jwks, move |headers| {
            headers.insert("cache-control", value.parse().unwrap());
        });
        for _ in 0..5 {
            accepted(&world, &app, value).await;
        }
        let kept = Duration::from_secs(kept);
        world.clock.advance(kept - Duration::from_secs(1));
        accepted(&world, &app, value).await;
        accepted(&world, &app, value).await;
        assert_eq!(world.provider.counts().jwks, 1, "F28: {value}, kept for {kept:?}");
        world.clock.advance(Duration::from_secs(2));
        accepted(&world, &app, value).await;
        until(value, || world.provider.counts().jwks == 2).await;
    }
}
