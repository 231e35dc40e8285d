//! Group E, claims: an ID token that says the wrong thing signs nobody in.
//!
//! Times, form, signatures and keys have rooms of their own in `id_token/`.

mod hostile;
mod support;

#[path = "id_token/form.rs"]
mod form;
#[path = "id_token/keys.rs"]
mod keys;
#[path = "id_token/signature.rs"]
mod signature;
#[path = "id_token/times.rs"]
mod times;

use std::sync::Arc;
use std::time::Duration;

use hostile::{accepted, clean, refused};
use serde_json::{Value, json};
use support::{App, World, parameter};
use tower_pkce_auth::testing::provider::{IdTokenDraft, SigningAlg, TestProvider, TestUser};
use tower_pkce_auth::{Issuer, MemoryStore, Sessions, SigningAlgorithm, Userinfo};

/// A fault of the ID token, and the reason the refusal must give.
struct Fault {
    name: String,
    reason: &'static str,
    apply: Arc<dyn Fn(&mut IdTokenDraft) + Send + Sync>,
}

fn fault(
    name: impl Into<String>,
    reason: &'static str,
    apply: impl Fn(&mut IdTokenDraft) + Send + Sync + 'static,
) -> Fault {
    Fault { name: name.into(), reason, apply: Arc::new(apply) }
}

/// One fault for each value of a claim.
fn values(
    id: &str,
    claim: &'static str,
    reason: &'static str,
    bad: impl IntoIterator<Item = Value>,
) -> Vec<Fault> {
    let table = bad.into_iter().map(|value| {
        let name = format!("{id}: {claim} = {value:.60}");
        fault(name, reason, move |token| token.set(claim, value.clone()))
    });
    table.collect()
}

fn missing(id: &str, claim: &'static str, reason: &'static str) -> Fault {
    fault(format!("{id}: no {claim}"), reason, move |token| token.remove(claim))
}

async fn reject_all(world: &World, app: &App, faults: Vec<Fault>) {
    for Fault { name, reason, apply } in faults {
        world.provider.on_id_token(move |token| apply(token));
        let refused = refused(world, app, &name).await;
        assert_eq!(refused.reply.page(), Some("provider-error"), "{name}: E52, one page for all");
        assert_eq!((refused.token, refused.userinfo), (1, 0), "{name}: E47, D26");
        let found = refused.reply.reason();
        let kind = if reason.is_empty() { "id_token/" } else { "" };
        assert!(found.starts_with(kind), "{name}: {found}");
        if !reason.is_empty() {
            assert_eq!(found, format!("id_token/{reason}"), "{name}");
        }
        clean(world, app, &name).await;
    }
}

/// Each variant signs `alice` in.
async fn accept_all(world: &World, app: &App, variants: Vec<Fault>) {
    for Fault { name, apply, .. } in variants {
        world.provider.on_id_token(move |token| apply(token));
        accepted(world, app, &name).await;
    }
    world.provider.clear_faults();
}

/// Userinfo is asked for, so that a call too early would show.
fn strict(world: &World) -> App {
    world.app(&world.builder().userinfo(Userinfo::Required).build().unwrap())
}

#[tokio::test]
async fn e01_a_correct_token_is_accepted_and_userinfo_asked_once() {
    let world = World::new().await;
    let app = strict(&world);
    let reply = world.browser(&app, "alice").sign_in("/").await;
    assert_eq!(reply.body, "alice");
    assert_eq!(world.provider.counts().userinfo, 1);
}

#[tokio::test]
async fn e02_to_e11_issuer_subject_and_audience() {
    let provider = TestProvider::builder().host("localhost").issuer_path("/tenant/caf%C3%A9/");
    let world = World::with_provider(provider).await;
    let app = strict(&world);
    let issuer = world.provider.issuer().to_owned();
    let port = format!(":{}", world.provider.address().port());
    let altered = [
        format!("{issuer}1"),
        issuer.trim_end_matches('/').to_owned(),
        format!("{issuer}/"),
        issuer.replace("localhost", "LOCALHOST"),
        issuer.replace("localhost", "localhost."),
        issuer.replace("http:", "https:"),
        issuer.replace("http:", "HTTP:"),
        issuer.replace(&port, ":443"),
        issuer.replace(&port, ""),
        issuer.replace("/tenant/", "/%74enant/"),
        issuer.replace("/tenant/", "/Tenant/"),
        issuer.replace("/tenant/", "/./tenant/"),
        issuer.replace("%C3%A9", "%c3%a9"),
        issuer.replace("%C3%A9", "é"),
        issuer.replace("%C3%A9", "e\u{301}"),
        format!(" {issuer}"),
        format!("{issuer}\0"),
    ];
    let mut faults = vec![
        missing("E03", "iss", "iss"),
        missing("E05", "sub", "sub"),
        missing("E07", "aud", "aud"),
        fault("E09: a second audience", "aud_untrusted", |token| {
            token.set("aud", json!(["app", "app1"]));
        }),
        fault("E09: a second audience, with azp", "aud_untrusted", |token| {
            token.set("aud", json!(["app", "app1"]));
            token.set("azp", "app");
        }),
    ];
    faults.extend(values("E02, E04", "iss", "iss", altered.map(Value::from)));
    let odd = [json!(null), json!(""), json!([issuer]), json!({ "iss": issuer }), json!(5)];
    faults.extend(values("E03", "iss", "iss", odd));
    let long = "a".repeat(256);
    let odd = [json!(""), json!(123), json!(null), json!(["alice"]), json!({}), json!(long)];
    faults.extend(values("E05", "sub", "sub", odd));
    let others = ["app1", "ap", "APP", "app ", "app other", "other"];
    faults.extend(values("E06, E10", "aud", "aud", others.map(Value::from)));
    faults.extend(values("E07", "aud", "aud", [json!(null), json!(""), json!([])]));
    let odd = [json!([["app"]]), json!({"0": "app"}), json!(["app", 5]), json!([null]), json!(5)];
    faults.extend(values("E10", "aud", "aud", odd));
    let odd = [json!("other"), json!(""), json!(null), json!(["app"]), json!("APP")];
    faults.extend(values("E11", "azp", "azp", odd));
    reject_all(&world, &app, faults).await;
    accept_all(
        &world,
        &app,
        vec![
            fault("E08: a list of one", "", |token| token.set("aud", json!(["app"]))),
            fault("LemonLDAP: a list of one and azp", "", |token| {
                token.set("aud", json!(["app"]));
                token.set("azp", "app");
            }),
            fault("Glewlwyd: c_hash, azp, auth_time 0", "", |token| {
                token.set("c_hash", "LDktKdoQak3Pk0cnXxCltA");
                token.set("azp", "app");
                token.set("auth_time", 0);
            }),
        ],
    )
    .await;
}

#[tokio::test]
async fn e09_e11_a_trusted_second_audience_needs_azp() {
    let world = World::new().await;
    let builder = world.builder().trusted_audience("api").userinfo(Userinfo::Required);
    let app = world.app(&builder.build().unwrap());
    let both = |token: &mut IdTokenDraft| token.set("aud", json!(["api", "app"]));
    reject_all(
        &world,
        &app,
        vec![
            fault("E11: no azp", "azp", both),
            fault("E11: another's azp", "azp", move |token| {
                both(token);
                token.set("azp", "api");
            }),
            fault("E09: a third, not trusted", "aud_untrusted", |token| {
                token.set("aud", json!(["api", "app", "x"]));
                token.set("azp", "app");
            }),
            fault("E06: only the trusted one", "aud", |token| token.set("aud", "api")),
        ],
    )
    .await;
    let good = fault("E09", "", move |token| {
        both(token);
        token.set("azp", "app");
    });
    accept_all(&world, &app, vec![good]).await;
}

#[tokio::test]
async fn e18_e19_the_nonce_is_the_one_of_this_login() {
    let world = World::new().await;
    let app = strict(&world);
    let url = world.browser(&app, "alice").to_provider("/").await;
    let others = parameter(&url, "nonce").unwrap();
    let change = |name: &str, how: fn(&str) -> Value| {
        fault(name, "nonce", move |token| {
            let nonce = how(token.claims["nonce"].as_str().unwrap());
            token.set("nonce", nonce);
        })
    };
    let mut faults = vec![
        change("E18: one letter more", |nonce| format!("{nonce}1").into()),
        change("E18: one letter less", |nonce| nonce[1..].into()),
        change("E18: lower case", |nonce| nonce.to_lowercase().into()),
        change("E18: upper case", |nonce| nonce.to_uppercase().into()),
        change("E18: white space", |nonce| format!("{nonce} ").into()),
        change("E19: in a list", |nonce| json!([nonce])),
        change("E19: in an object", |nonce| json!({ "nonce": nonce })),
        missing("E19", "nonce", "nonce"),
    ];
    let odd = [others.into(), json!(null), json!(""), json!(5), json!(true)];
    faults.extend(values("E18, E19", "nonce", "nonce", odd));
    reject_all(&world, &app, faults).await;
}

#[tokio::test]
async fn e20_e06_a_token_of_an_earlier_login_or_of_another_client_is_no_use() {
    let world = World::new().await;
    let app = strict(&world);
    world.browser(&app, "alice").sign_in("/").await;
    let earlier = world.provider.issued_id_tokens().pop().unwrap();
    let replay = fault("E20", "nonce", move |token| token.raw = Some(earlier.clone()));
    reject_all(&world, &app, vec![replay]).await;
    world.clock.advance(Duration::from_secs(24 * 3600));
    let earlier = world.provider.issued_id_tokens().pop().unwrap();
    let replay = fault("E20: yesterday's", "exp_past", move |token| {
        token.raw = Some(earlier.clone());
    });
    reject_all(&world, &app, vec![replay]).await;
}

#[tokio::test]
async fn e38_a_logout_token_is_no_id_token() {
    let world = World::new().await;
    let app = strict(&world);
    let events = json!({"http://schemas.openid.net/event/backchannel-logout": {}});
    let bare = events.clone();
    reject_all(
        &world,
        &app,
        vec![
            fault("E38", "events", move |token| {
                token.set("events", bare.clone());
                token.remove("nonce");
            }),
            fault("E38: typed", "typ", |token| {
                token.header.insert("typ".into(), "logout+jwt".into());
                token.remove("nonce");
            }),
            fault("E38: with the nonce", "events", move |token| {
                token.set("events", events.clone())
            }),
        ],
    )
    .await;
}

#[tokio::test]
async fn e40_at_hash_matches_if_it_is_there() {
    let algorithms = [
        (SigningAlg::Rs256, SigningAlgorithm::Rs256),
        (SigningAlg::Ps256, SigningAlgorithm::Ps256),
        (SigningAlg::Es256, SigningAlgorithm::Es256),
        (SigningAlg::Es384, SigningAlgorithm::Es384),
        (SigningAlg::EdDsa, SigningAlgorithm::EdDsa),
    ];
    for (signs, accepts) in algorithms {
        let world = World::with_provider(TestProvider::builder().signing_alg(signs)).await;
        let builder = world.builder().userinfo(Userinfo::Required).id_token_algorithm(accepts);
        let app = world.app(&builder.build().unwrap());
        let absent = missing(signs.as_str(), "at_hash", "");
        accept_all(&world, &app, vec![fault(signs.as_str(), "", |_| {}), absent]).await;
        let other = signs.at_hash("another token");
        let odd = [other.into(), json!(""), json!(null), json!(5), json!([])];
        let mut faults = values(signs.as_str(), "at_hash", "at_hash", odd);
        faults.push(fault(format!("{signs}: cut short"), "at_hash", |token| {
            let hash = token.claims["at_hash"].as_str().unwrap()[..8].to_owned();
            token.set("at_hash", hash);
        }));
        reject_all(&world, &app, faults).await;
    }
}

#[tokio::test]
async fn e41_a_demanded_acr_is_demanded() {
    let world = World::new().await;
    let builder = world.builder().acr("mfa").acr("hsm").userinfo(Userinfo::Required);
    let app = world.app(&builder.build().unwrap());
    let odd =
        [json!("pwd"), json!(["mfa"]), json!(null), json!(""), json!("MFA"), json!("mfa hsm")];
    let mut faults = values("E41", "acr", "acr", odd);
    faults.push(missing("E41", "acr", "acr"));
    reject_all(&world, &app, faults).await;
    accept_all(&world, &app, values("E41", "acr", "", [json!("mfa"), json!("hsm")])).await;
}

#[tokio::test]
async fn e45_e51_odd_types_of_other_claims_change_nothing() {
    let world = World::new().await;
    let app = strict(&world);
    world.provider.on_id_token(|token| {
        for (claim, value) in [
            ("email", json!({})),
            ("groups", json!("admin")),
            ("name", json!(null)),
            ("email_verified", json!("yes")),
            ("unknown", json!({"deep": [[[]]]})),
            ("acr", json!({"level": 3})),
            ("amr", json!("mfa")),
        ] {
            token.set(claim, value);
        }
    });
    assert_eq!(world.browser(&app, "alice").sign_in("/").await.body, "alice");
    world.provider.clear_faults();
    accept_all(&world, &app, values("E51", "sid", "", [json!(5), json!({}), json!([])])).await;
}

#[tokio::test]
async fn e46_two_people_with_one_address_are_two_people() {
    let world = World::new().await;
    world.provider.add_user(TestUser::new("eve").email("alice@example.com", true));
    let layer = world.builder().scope("openid").scope("email").scope("profile").build().unwrap();
    let app = world.app(&layer);
    for user in ["alice", "mallory", "eve"] {
        let mut browser = world.browser(&app, user);
        assert_eq!(browser.sign_in("/").await.body, user);
        assert_eq!(browser.who().await.as_deref(), Some(user));
        let claims: Value = serde_json::from_str(&browser.get("/claims").await.body).unwrap();
        assert_eq!(claims["email"], "alice@example.com");
        assert_eq!(claims["email_verified"], user != "mallory");
    }
}

#[test]
fn e48_a_templated_issuer_is_refused_at_the_start() {
    for text in ["https://op/{tenantid}/v2.0", "https://op/%7Btenantid%7D/v2.0"] {
        assert!(text.parse::<Issuer>().is_err(), "{text}");
    }
}

#[tokio::test]
async fn e05_the_longest_subject_is_accepted() {
    let world = World::new().await;
    let longest = "a".repeat(255);
    world.provider.add_user(TestUser::new(longest.as_str()));
    let app = strict(&world);
    assert_eq!(world.browser(&app, &longest).sign_in("/").await.body, longest);
}

#[tokio::test]
async fn e47_a_refused_login_leaves_no_session_in_the_store() {
    let world = World::new().await;
    let store = MemoryStore::new();
    let builder = world.builder().store(store.clone()).sessions(Sessions::Stored);
    let app = world.app(&builder.build().unwrap());
    world.provider.on_id_token(|token| token.set("aud", "other"));
    let mut browser = world.browser(&app, "alice");
    let callback = browser.to_callback("/").await;
    let before = store.len();
    assert_eq!(browser.get(&callback).await.reason(), "id_token/aud");
    assert!(store.len() <= before, "E47: {} entries instead of {before}", store.len());
    world.provider.clear_faults();
    let callback = browser.to_callback("/").await;
    let before = store.len();
    assert_eq!(browser.get(&callback).await.status, 303);
    assert_eq!(store.len(), before + 2, "a session, and the note of whose it is");
}
