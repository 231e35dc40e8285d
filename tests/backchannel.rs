//! Back-channel logout (group J): what the provider reports holds on every pod, and nobody else can
//! report anything.

#[path = "support/pods.rs"]
mod pods;
mod support;
#[path = "support/tokens.rs"]
mod tokens;

use std::sync::{Arc, Mutex};

use axum::body::Body;
use axum::extract::Request;
use axum::http::{Method, StatusCode};
use pods::{Kept, Spy, assert_signed_out, at, seconds};
use serde_json::{Value, json};
use support::{App, Reply, World, send};
use tokens::{BACKCHANNEL, FORM, form, log_out, post, request, sign_in, token};
use tower_pkce_auth::testing::provider::{
    Endpoint, IdTokenDraft, Signer, SigningAlg, SigningKey, TestProvider,
};
use tower_pkce_auth::{Builder, ErrorKind, StoreErrorKind};

const EVENT: &str = "http://schemas.openid.net/event/backchannel-logout";

/// Asserts that a request was refused as the standard wants it, and returns the detail.
fn refused(reply: &Reply, what: &str) -> String {
    assert_eq!(reply.status, StatusCode::BAD_REQUEST, "{what}: {}", reply.reason());
    assert_eq!(reply.header("cache-control"), "no-store", "J21 {what}");
    assert!(reply.set_cookies().is_empty(), "J22 {what}");
    assert_eq!(reply.header("content-type"), "application/json", "J46 {what}");
    let body: Value = serde_json::from_str(&reply.body).unwrap();
    let members = body.as_object().unwrap();
    assert_eq!(members.len(), 2, "J46 {what}: {body}");
    assert!(members["error"].is_string() && members["error_description"].is_string(), "J46 {what}");
    reply.error.as_ref().unwrap().detail().to_owned()
}

#[tokio::test]
async fn j20_only_a_form_with_one_token_is_taken() {
    let world = World::new().await;
    let (app, _) = Kept::StoredShared.pod(&world, |builder| builder);
    let (mut alice, _) = sign_in(&world, &app, "alice").await;
    let good = token(&world, Some("alice"), None);
    let json = json!({ "logout_token": good }).to_string();
    let multipart = format!(
        "--x\r\nContent-Disposition: form-data; name=\"logout_token\"\r\n\r\n{good}\r\n--x--\r\n"
    );
    let other = token(&world, Some("bob"), None);
    let table: [(&str, Request, &str); 11] = [
        ("JSON", request(Method::POST, "application/json", json), "form"),
        ("multipart", request(Method::POST, "multipart/form-data; boundary=x", multipart), "form"),
        ("text", request(Method::POST, "text/plain", form(&good)), "form"),
        ("no body", request(Method::POST, FORM, Body::empty()), "missing"),
        ("empty", request(Method::POST, FORM, "logout_token="), "missing"),
        (
            "another name",
            request(Method::POST, FORM, form(&good).replace("logout_", "")),
            "missing",
        ),
        (
            "two",
            request(Method::POST, FORM, format!("{}&{}", form(&other), form(&good))),
            "repeated",
        ),
        (
            "the same twice",
            request(Method::POST, FORM, format!("{0}&{0}", form(&good))),
            "repeated",
        ),
        ("broken", request(Method::POST, FORM, format!("{}&x=%zz", form(&good))), "encoding"),
        (
            "J45 large",
            request(Method::POST, FORM, format!("{}{}", form(&good), "a".repeat(1 << 20))),
            "form",
        ),
        (
            "in the query",
            {
                let mut request = request(Method::POST, FORM, Body::empty());
                *request.uri_mut() = format!("{BACKCHANNEL}?{}", form(&good)).parse().unwrap();
                request
            },
            "missing",
        ),
    ];
    for (name, request, detail) in table {
        let reply = send(&app, request).await;
        assert_eq!(refused(&reply, name), detail, "J20 {name}");
        assert!(!reply.body.contains(&good), "J46 {name}");
        assert_eq!(alice.who().await.as_deref(), Some("alice"), "J20 {name}");
    }
    for method in [Method::GET, Method::PUT, Method::HEAD, Method::DELETE, Method::OPTIONS] {
        let reply = send(&app, request(method.clone(), FORM, form(&good))).await;
        assert_eq!(reply.status, StatusCode::METHOD_NOT_ALLOWED, "J20 {method}");
        assert_eq!(reply.header("allow"), "POST", "J20 {method}");
        assert_eq!(reply.header("cache-control"), "no-store", "J21 {method}");
        assert_eq!(alice.who().await.as_deref(), Some("alice"), "J20 {method}");
    }
    let body = format!("ignored_parameter=a&{}&x=1&x=2", form(&good));
    let reply =
        send(&app, request(Method::POST, "Application/X-WWW-Form-Urlencoded; charset=UTF-8", body))
            .await;
    assert_eq!(reply.status, StatusCode::OK, "J20: others are ignored: {}", reply.body);
    assert_eq!((reply.header("cache-control"), &*reply.body), ("no-store", ""), "J21");
    assert!(reply.set_cookies().is_empty(), "J22");
    assert_signed_out(&alice, "J20 J22").await;
}

/// What is wrong with a token, and the detail it is refused with.
type Fault = (&'static str, &'static str, Box<dyn FnOnce(&mut IdTokenDraft)>);

fn fault(
    name: &'static str,
    detail: &'static str,
    apply: impl FnOnce(&mut IdTokenDraft) + 'static,
) -> Fault {
    (name, detail, Box::new(apply))
}

fn set(name: &'static str, detail: &'static str, claim: &'static str, value: Value) -> Fault {
    fault(name, detail, move |token| token.set(claim, value))
}

fn gone(name: &'static str, detail: &'static str, claim: &'static str) -> Fault {
    fault(name, detail, move |token| token.remove(claim))
}

fn typ(name: &'static str, detail: &'static str, typ: &'static str) -> Fault {
    fault(name, detail, move |token| {
        token.header.insert("typ".to_owned(), typ.into());
    })
}

fn alg(name: &'static str, alg: &'static str) -> Fault {
    fault(name, "alg", move |token| {
        token.sign_with(Signer::Unsigned);
        token.header.insert("alg".to_owned(), alg.into());
    })
}

fn faults(now: u64) -> Vec<Fault> {
    let event = |name: &str, value: Value| json!({ name: value });
    vec![
        alg("J23 none", "none"),
        alg("J23 None", "None"),
        alg("J23 NONE", "NONE"),
        alg("J23 nOnE", "nOnE"),
        fault("J23 no alg", "alg", |token| {
            token.header.remove("alg");
        }),
        fault("J24 another published key", "alg", |token| {
            let key = token.published(SigningAlg::Es256).unwrap();
            token.sign_with(Signer::Key(key));
        }),
        fault("J24 PS256 by the same key", "alg", |token| {
            let key = token.published(SigningAlg::Rs256).unwrap();
            token.sign_with(Signer::Key(key.with_alg(SigningAlg::Ps256).unwrap()));
        }),
        fault("J25 the signature", "signature", |token| token.corrupt(2)),
        fault("J25 the payload", "signature", |token| token.corrupt(1)),
        fault("J25 no signature", "signature", |token| {
            token.signer = Signer::Literal(Vec::new());
        }),
        fault("J25 another's key under the same kid", "signature", |token| {
            let kid = token.header["kid"].as_str().unwrap().to_owned();
            let key = SigningKey::generate(SigningAlg::Rs256).with_kid(kid);
            token.sign_with(Signer::Key(key));
        }),
        fault("J25 another's key", "kid", |token| {
            token.sign_with(Signer::Key(SigningKey::generate(SigningAlg::Rs256)));
        }),
        fault("J25 HS256 under the public key", "alg", |token| {
            let key = token.published(SigningAlg::Rs256).unwrap();
            let pem = key.public_key_spellings().swap_remove(1).1;
            token.sign_with(Signer::Hmac(pem));
        }),
        fault("J25 a key that it brings itself", "kid", |token| {
            let key = SigningKey::generate(SigningAlg::Rs256);
            token.header.insert("jwk".to_owned(), key.public_jwk());
            token.sign_with(Signer::Key(key));
        }),
        fault("J25 crit", "crit", |token| {
            token.header.insert("crit".to_owned(), json!(["exp"]));
        }),
        fault("J50 five parts", "malformed", |token| token.raw = Some("a.b.c.d.e".to_owned())),
        fault("not a token", "malformed", |token| token.raw = Some("unsigned".to_owned())),
        fault("a claim twice", "malformed", |token| {
            token.claims_json = Some(br#"{"sub":"bob","sub":"alice"}"#.to_vec());
        }),
        set("J26 another iss", "iss", "iss", json!("https://op.example")),
        gone("J26 no iss", "iss", "iss"),
        set("J27 another aud", "aud", "aud", json!("appINVALID")),
        gone("J27 no aud", "aud", "aud"),
        set("J27 one more aud", "aud_untrusted", "aud", json!(["app", "other"])),
        set("J27 an empty list", "aud", "aud", json!([])),
        gone("J28 no events", "events", "events"),
        set("J28 null", "events", "events", json!(null)),
        set("J28 a list", "events", "events", json!([EVENT])),
        set("J28 a text", "events", "events", json!(EVENT)),
        set("J29 foobar", "events", "events", event("foobar", json!({}))),
        set("J29 https", "events", "events", event(&EVENT.replace("http:", "https:"), json!({}))),
        set("J29 a slash more", "events", "events", event(&format!("{EVENT}/"), json!({}))),
        set("J29 true", "events", "events", event(EVENT, json!(true))),
        set("J29 empty text", "events", "events", event(EVENT, json!(""))),
        set("J29 empty list", "events", "events", event(EVENT, json!([]))),
        set("J30 nonce", "nonce", "nonce", json!("x")),
        set("J30 empty nonce", "nonce", "nonce", json!("")),
        set("J30 null nonce", "nonce", "nonce", json!(null)),
        gone("J31 neither sub nor sid", "nobody", "sub"),
        set("J31 sid is a number", "sid", "sid", json!(5)),
        set("J31 sub is a number", "sub", "sub", json!(5)),
        set("J31 sub is empty", "sub", "sub", json!("")),
        gone("J32 no iat", "iat", "iat"),
        set("J32 future iat", "iat_future", "iat", json!(now + 600)),
        fault("J32 old iat", "iat_old", move |token| {
            token.set("iat", now - 3600);
        }),
        gone("J33 no exp", "exp", "exp"),
        set("J33 past exp", "exp_past", "exp", json!(now - 120)),
        gone("J34 no jti", "jti", "jti"),
        set("J34 jti is a number", "jti", "jti", json!(1)),
        typ("J35 at+jwt", "typ", "at+jwt"),
        typ("J35 dpop+jwt", "typ", "dpop+jwt"),
        typ("J35 secevent+jwt", "typ", "secevent+jwt"),
        typ("J35 application/x", "typ", "application/x"),
        typ("J35 empty", "typ", ""),
        fault("J35 a number", "malformed", |token| {
            token.header.insert("typ".to_owned(), json!(1));
        }),
    ]
}

#[tokio::test]
async fn j23_to_j36_a_token_that_is_not_in_order_ends_nobody() {
    let world = World::new().await;
    let (one, two, store) = Kept::StoredShared.pods(&world, |builder| builder);
    let (mut alice, _) = sign_in(&world, &one, "alice").await;
    let now = tower_pkce_auth::Clock::now(&*world.clock).as_secs();
    for (name, detail, apply) in faults(now) {
        let token = world.provider.logout_token(|token| {
            token.set("sub", "alice");
            apply(token);
        });
        store.forget_calls();
        let reply = post(&one, &token).await;
        assert_eq!(refused(&reply, name), detail, "{name}");
        assert_eq!(reply.error.as_ref().unwrap().kind(), ErrorKind::LogoutToken, "{name}");
        assert!(!reply.body.contains(&token[..token.len().min(20)]), "J46 {name}");
        assert!(store.calls().is_empty(), "J45 {name}: the store is not asked");
        assert_eq!(alice.who().await.as_deref(), Some("alice"), "{name}");
        assert_eq!(at(&two, &alice).who().await.as_deref(), Some("alice"), "{name}");
    }
    for id_token in world.provider.issued_id_tokens() {
        assert_eq!(refused(&post(&one, &id_token).await, "J36"), "events", "J36: an ID token");
    }
    log_out(&world, &one, (Some("alice"), None), "a good one afterwards").await;
    assert_signed_out(&at(&two, &alice), "a good one afterwards").await;
}

#[tokio::test]
async fn j27_j29_j33_j35_j47_tokens_that_are_in_order_are_taken() {
    let world = World::new().await;
    let (one, two, _) =
        Kept::SealedShared.pods(&world, |builder| builder.trusted_audience("sibling"));
    let variants: Vec<Fault> = vec![
        set("J27 a list", "", "aud", json!(["app"])),
        set("J27 a trusted one more", "", "aud", json!(["app", "sibling"])),
        set("J29 another event", "", "events", json!({ EVENT: {}, "foobar": {} })),
        set("J29 something in it", "", "events", json!({ EVENT: {"x": 1} })),
        set("J47 an unknown claim", "", "ignored_claim", json!([1, {"a": null}])),
        typ("J35 logout+jwt", "", "logout+jwt"),
        typ("J35 in capitals", "", "LOGOUT+JWT"),
        typ("J35 with application", "", "application/logout+jwt"),
        typ("J35 JWT", "", "JWT"),
        fault("J35 none", "", |token| {
            token.header.remove("typ");
        }),
        fault("a fraction", "", |token| {
            let iat = token.claims["iat"].as_u64().unwrap();
            token.claims_json = Some(
                json!(token.claims)
                    .to_string()
                    .replace(&format!("{iat},"), &format!("{iat}.5,"))
                    .into_bytes(),
            );
        }),
    ];
    for (name, _, apply) in variants {
        let (alice, _) = sign_in(&world, &one, "alice").await;
        let token = world.provider.logout_token(|token| {
            token.set("sub", "alice");
            apply(token);
        });
        let reply = post(&two, &token).await;
        assert_eq!(
            (reply.status, &*reply.body),
            (StatusCode::OK, ""),
            "{name}: {}",
            reply.reason()
        );
        assert_signed_out(&alice, name).await;
    }
}

#[tokio::test]
async fn j33_j35_the_switches() {
    let world = World::new().await;
    let strict = |builder: Builder| builder.logout_token_type_required(true);
    let (app, _) = Kept::StoredShared.pod(&world, strict);
    let with_typ = |typ: Option<&'static str>| {
        world.provider.logout_token(|token| {
            token.set("sub", "alice");
            token.header.remove("typ");
            if let Some(typ) = typ {
                token.header.insert("typ".to_owned(), typ.into());
            }
        })
    };
    for other in [None, Some("JWT"), Some("jwt")] {
        let reply = post(&app, &with_typ(other)).await;
        assert_eq!(refused(&reply, "J35"), "typ", "J35 {other:?}");
    }
    assert_eq!(post(&app, &with_typ(Some("logout+jwt"))).await.status, StatusCode::OK);

    let lenient = |builder: Builder| builder.logout_token_without_exp(true);
    let (app, _) = Kept::StoredShared.pod(&world, lenient);
    // As Glewlwyd sends them.
    let glewlwyd = world.provider.logout_token(|token| {
        token.set("sub", "alice");
        token.remove("exp");
        token.header.insert("typ".to_owned(), "JWT".into());
    });
    let (alice, _) = sign_in(&world, &app, "alice").await;
    assert_eq!(post(&app, &glewlwyd).await.status, StatusCode::OK, "J33");
    assert_signed_out(&alice, "J33").await;
    let late = world.provider.logout_token(|token| {
        token.set("sub", "alice");
        token.remove("exp");
    });
    world.clock.advance(seconds(181));
    assert_eq!(refused(&post(&app, &late).await, "J33"), "iat_old", "J33: a strict window");
}

#[tokio::test]
async fn j37_to_j42_exactly_the_sessions_that_are_named_end_on_every_pod() {
    for kept in Kept::SHARED {
        let world = World::new().await;
        let (one, two, _) = kept.pods(&world, |builder| builder);
        let (mut first, sid1) = sign_in(&world, &one, "alice").await;
        let (mut second, _) = sign_in(&world, &two, "alice").await;
        let (mut bob, sid_of_bob) = sign_in(&world, &two, "bob").await;
        let what = format!("{kept:?}");
        log_out(&world, &two, (None, Some(&sid1)), &what).await;
        assert_signed_out(&first, &format!("J37 J42 {what}")).await;
        assert_signed_out(&at(&two, &first), &format!("J37 J42 {what}")).await;
        assert_eq!(second.who().await.as_deref(), Some("alice"), "J37 {what}");

        // A pair that does not match: nobody.
        log_out(&world, &one, (Some("alice"), Some(&sid_of_bob)), "J39").await;
        assert_eq!(bob.who().await.as_deref(), Some("bob"), "J39 {what}");
        assert_eq!(at(&one, &second).who().await.as_deref(), Some("alice"), "J39 {what}");

        // The same subject and session of another provider are not ours.
        let elsewhere = TestProvider::start().await.unwrap();
        let foreign = elsewhere.logout_token(|token| token.set("sub", "alice"));
        assert_eq!(refused(&post(&one, &foreign).await, "J40"), "kid", "J40 {what}");

        log_out(&world, &one, (Some("bob"), Some(&sid_of_bob)), "both").await;
        assert_signed_out(&bob, &format!("J39 {what}: both match")).await;

        (first, _) = sign_in(&world, &one, "alice").await;
        log_out(&world, &two, (Some("alice"), None), &what).await;
        for pod in [&one, &two] {
            assert_signed_out(&at(pod, &first), &format!("J38 {what}")).await;
            assert_signed_out(&at(pod, &second), &format!("J38 {what}")).await;
        }

        log_out(&world, &two, (None, Some("unknown")), "J41").await;
        log_out(&world, &two, (Some("nobody"), None), "J41").await;
        log_out(&world, &two, (Some("alice"), None), "J41 again").await;
        // And signing in works as ever.
        (first, _) = sign_in(&world, &one, "alice").await;
        assert_eq!(at(&two, &first).who().await.as_deref(), Some("alice"), "{what}");
    }
}

#[tokio::test]
async fn j34_a_replay_on_another_pod_has_no_effect() {
    for kept in Kept::SHARED {
        let world = World::new().await;
        let (one, two, store) = kept.pods(&world, |builder| builder);
        let (alice, _) = sign_in(&world, &one, "alice").await;
        let token = token(&world, Some("alice"), None);
        assert_eq!(post(&one, &token).await.status, StatusCode::OK);
        assert_signed_out(&alice, "J34").await;
        let (mut again, _) = sign_in(&world, &one, "alice").await;
        for (pod, after) in [(&two, 0), (&one, 100), (&two, 79)] {
            world.clock.advance(seconds(after));
            store.forget_calls();
            let reply = post(pod, &token).await;
            assert_eq!(reply.status, StatusCode::OK, "J34 {kept:?}: {}", reply.reason());
            assert!(store.writes().is_empty(), "J34 {kept:?}: {:?}", store.writes());
            assert_eq!(again.who().await.as_deref(), Some("alice"), "J34 {kept:?} {after}");
        }
        // The note lives longer than the token can be taken for a fresh one.
        world.clock.advance(seconds(2));
        assert_eq!(refused(&post(&one, &token).await, "J34"), "exp_past", "J34 {kept:?}");
        let jti = store.keys("jti");
        assert!(jti.is_empty(), "it was written before, once");
    }
}

#[tokio::test]
async fn j44_what_the_store_did_not_take_is_400_and_works_when_it_is_sent_again() {
    for kept in Kept::SHARED {
        for spoilt in [
            None,
            Some(("load", "jti")),
            Some(("load", "person")),
            Some(("swap", "{marks}")),
            Some(("insert", "{marks}")),
            Some(("insert", "jti")),
        ] {
            let world = World::new().await;
            let (one, two, store) = kept.pods(&world, |builder| builder);
            let (alice, _) = sign_in(&world, &one, "alice").await;
            let token = token(&world, Some("alice"), None);
            match spoilt {
                None => store.fail(StoreErrorKind::Unavailable),
                Some((operation, purpose)) => store.fail_only(operation, purpose),
            }
            for pod in [&one, &two] {
                let reply = post(pod, &token).await;
                let what = format!("J44 {kept:?} {spoilt:?}");
                refused(&reply, &what);
                let kind = reply.error.as_ref().unwrap().kind();
                assert_eq!(kind, ErrorKind::StoreUnavailable, "{what}");
                assert!(reply.body.contains("temporarily_unavailable"), "{what}: {}", reply.body);
            }
            store.recover();
            let reply = post(&two, &token).await;
            assert_eq!(reply.status, StatusCode::OK, "J44 {spoilt:?}: the jti is unused");
            assert_signed_out(&alice, &format!("J44 {kept:?} {spoilt:?}")).await;
            assert_eq!(store.keys("jti").len(), 1, "{spoilt:?}");
        }
    }
}

#[tokio::test]
async fn j44_a_stored_session_stays_over_if_the_store_loses_the_removal() {
    let world = World::new().await;
    let (one, two, store) = Kept::StoredShared.pods(&world, |builder| builder);
    for how in ["back-channel", "button"] {
        let (mut alice, _) = sign_in(&world, &one, "alice").await;
        let copy = alice.clone();
        let key = store.keys("session").pop().unwrap();
        let record = store.value(&key).await.unwrap();
        if how == "button" {
            assert_eq!(alice.post("/auth/logout").await.status, StatusCode::SEE_OTHER);
        } else {
            log_out(&world, &two, (Some("alice"), None), how).await;
        }
        assert_eq!(store.value(&key).await, None, "{how}: it is taken");
        let inserted = tower_pkce_auth::Store::insert(&store, &key, record, seconds(600)).await;
        assert!(inserted.unwrap());
        assert_signed_out(&copy, &format!("{how}: by its mark")).await;
        assert_signed_out(&at(&two, &copy), &format!("{how}: by its mark")).await;
    }
}

#[tokio::test]
async fn j43_the_refresh_tokens_of_ended_sessions_are_revoked() {
    let provider = TestProvider::builder().refresh_tokens(true);
    let world = World::with_provider(provider).await;
    let (one, two, store) = Kept::StoredShared.pods(&world, |builder| builder);
    let sink = Arc::new(Mutex::new(Vec::new()));
    let tokens = sink.clone();
    world.provider.on_token_response(move |response| {
        let token = response["refresh_token"].as_str().unwrap().to_owned();
        tokens.lock().unwrap().push(token);
    });
    let (mut alice, sid_of_alice) = sign_in(&world, &one, "alice").await;
    let (mut bob, _) = sign_in(&world, &one, "bob").await;
    log_out(&world, &one, (Some("alice"), Some(&sid_of_alice)), "J43").await;
    let revoked = async {
        while world.provider.counts().revocation == 0 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(seconds(10), revoked).await.expect("J43: nothing is revoked");
    let requests = world.provider.requests(Endpoint::Revocation);
    let token = sink.lock().unwrap()[0].clone();
    assert_eq!(requests[0].form_value("token"), Some(&*token), "J43");
    assert_eq!(requests.len(), 1, "J43: bob's is not");
    assert_eq!(bob.who().await.as_deref(), Some("bob"));
    // The record is gone, with the token in it: no pod can refresh.
    let calls = store.calls();
    let is_taken = |call: &&pods::Call| call.operation == "take" && call.purpose() == "session";
    let taken = calls.iter().filter(is_taken).count();
    assert!(taken >= 1, "J43");
    world.clock.advance(seconds(3600));
    let before = world.provider.counts().token;
    assert_eq!(at(&two, &alice).who().await, None);
    assert_eq!(alice.who().await, None);
    assert_eq!(world.provider.counts().token, before, "J43: no refresh");
}

#[tokio::test]
async fn j45_a_flood_of_forged_tokens_costs_few_calls_and_no_login() {
    let world = World::new().await;
    let (app, store) = Kept::StoredShared.pod(&world, |builder| builder);
    sign_in(&world, &app, "bob").await;
    let key = SigningKey::generate(SigningAlg::Rs256);
    let forged: Vec<String> = (0..500)
        .map(|n| {
            world.provider.logout_token(|token| {
                token.set("sub", "alice");
                if n % 2 == 0 {
                    token.sign_with(Signer::Key(key.with_kid(format!("kid-{n}"))));
                } else {
                    token.corrupt(2);
                }
            })
        })
        .collect();
    let before = world.provider.counts().jwks;
    store.forget_calls();
    for token in &forged {
        refused(&post(&app, token).await, "J45");
    }
    let fetched = world.provider.counts().jwks - before;
    assert!(fetched <= 2, "J45: {fetched} fetches of keys");
    assert!(store.calls().is_empty(), "J45: the store is not asked");
    // A rotation in the middle of it: logins fetch the new keys all the same.
    world.provider.rotate_keys(SigningAlg::Rs256);
    sign_in(&world, &app, "bob").await;
    // And so it is known to logouts too.
    log_out(&world, &app, (Some("bob"), None), "J45: rotated keys").await;
}

#[tokio::test]
async fn j48_a_logout_that_arrives_during_the_login_wins() {
    for kept in Kept::SHARED {
        for both in [false, true] {
            let world = World::new().await;
            let (one, two, store) = kept.pods(&world, |builder| builder);
            let mut browser = world.browser(&one, "alice");
            let callback = browser.to_callback("/deep").await;
            // It arrives between the token response and the session, when the marks were not read.
            let sent: Arc<Mutex<Option<(App, String)>>> = Arc::default();
            world.provider.on_id_token({
                let issued = sent.clone();
                let (two, provider) = (two.clone(), world.provider.issuer().to_owned());
                let key = world.provider.signing_key();
                let now = tower_pkce_auth::Clock::now(&*world.clock).as_secs();
                move |draft| {
                    let mut claims = json!({
                        "iss": provider, "aud": "app", "iat": now, "exp": now + 60,
                        "jti": "during", "events": {EVENT: {}}, "sid": draft.claims["sid"],
                    });
                    if both {
                        claims["sub"] = draft.claims["sub"].clone();
                    }
                    let token = key.jwt("logout+jwt", claims.as_object().unwrap());
                    *issued.lock().unwrap() = Some((two.clone(), token));
                }
            });
            // The hook cannot wait; the logout is sent when the marks of the login are looked for.
            let login = {
                let mut browser = browser.clone();
                tokio::spawn(async move {
                    let reply = browser.get(&callback).await;
                    (browser, reply)
                })
            };
            let (pod, token) = loop {
                if let Some(sent) = sent.lock().unwrap().take() {
                    break sent;
                }
                tokio::task::yield_now().await;
            };
            let reply = post(&pod, &token).await;
            assert_eq!(reply.status, StatusCode::OK, "J48 {kept:?}: {}", reply.reason());
            let (mut browser, reply) = login.await.unwrap();
            // Whichever was first: the session of that sid does not live.
            assert_eq!(
                browser.who().await,
                None,
                "J48 {kept:?} {} {}",
                reply.status,
                reply.reason()
            );
            assert_eq!(at(&two, &browser).who().await, None, "J48 {kept:?}");
            world.provider.clear_faults();
            store.forget_calls();
            pods::a_minute_later(&mut browser);
            assert_eq!(browser.sign_in("/").await.body, "alice", "J48 {kept:?}: signing in again");
        }
    }
}

#[tokio::test]
async fn j17_a_report_while_the_person_signs_out_here_neither_waits_nor_fails() {
    for kept in Kept::SHARED {
        let world = World::new().await;
        let (one, two, _) = kept.pods(&world, |builder| builder);
        let (alice, sid_of_alice) = sign_in(&world, &one, "alice").await;
        for (sub, sid) in [(Some("alice"), Some(&*sid_of_alice)), (None, Some(&sid_of_alice))] {
            let both = async {
                let mut here = alice.clone();
                let token = token(&world, sub, sid);
                tokio::join!(here.post("/auth/logout"), post(&two, &token), post(&one, &token))
            };
            let (logout, report, same) =
                tokio::time::timeout(seconds(1), both).await.expect("J17: it waits");
            assert_eq!(logout.status, StatusCode::SEE_OTHER, "J17 {kept:?}");
            assert_eq!(report.status, StatusCode::OK, "J17 {kept:?}: {}", report.reason());
            assert_eq!(same.status, StatusCode::OK, "J17 {kept:?}: {}", same.reason());
        }
        assert_signed_out(&at(&two, &alice), "J17").await;
    }
}

#[tokio::test]
async fn j22_it_is_mounted_with_a_shared_store_only_and_needs_no_cookie() {
    let world = World::new().await;
    let (app, _) = Kept::Sealed.pod(&world, |builder| builder);
    let reply = post(&app, &token(&world, Some("alice"), None)).await;
    assert_ne!(reply.status, StatusCode::OK, "not mounted: protected like any path");
    assert_eq!(reply.error.unwrap().kind(), ErrorKind::NotSignedIn);
    for kept in [Kept::Sealed, Kept::Stored] {
        let store: Spy = kept.store(&world);
        let asked = kept
            .with(world.builder(), &store)
            .backchannel_logout(true)
            .frontchannel_logout(true)
            .build()
            .unwrap_err();
        assert_eq!(asked.problems().len(), 2, "{kept:?}: {asked}");
        assert!(asked.problems().iter().all(|problem| problem.contains("shared store")));
    }
    let (app, _) = Kept::StoredShared.pod(&world, |builder| builder.backchannel_logout(false));
    let reply = post(&app, &token(&world, Some("alice"), None)).await;
    assert_eq!(reply.error.unwrap().kind(), ErrorKind::NotSignedIn, "it can be turned off");
    // A cookie that comes along, of whatever session, changes nothing.
    let (app, _) = Kept::StoredShared.pod(&world, |builder| builder);
    let (mut alice, _) = sign_in(&world, &app, "alice").await;
    let (mut bob, _) = sign_in(&world, &app, "bob").await;
    let mut request = request(Method::POST, FORM, form(&token(&world, Some("alice"), None)));
    for (name, value) in [
        ("cookie", alice.jar.header("/").unwrap()),
        ("origin", "https://evil.example".to_owned()),
        ("sec-fetch-site", "cross-site".to_owned()),
    ] {
        request.headers_mut().insert(
            axum::http::HeaderName::from_bytes(name.as_bytes()).unwrap(),
            value.parse().unwrap(),
        );
    }
    let reply = send(&app, request).await;
    assert_eq!(reply.status, StatusCode::OK, "J22");
    assert!(reply.set_cookies().is_empty(), "J22");
    assert_eq!(alice.who().await, None);
    assert_eq!(bob.who().await.as_deref(), Some("bob"));
}
