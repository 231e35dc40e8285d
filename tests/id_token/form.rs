//! The form of the token: compact, strict JSON, bounded, of the right type, no extensions.

use serde_json::{Value, json};
use tower_pkce_auth::testing::provider::{Endpoint, Signer, SigningAlg, SigningKey, TestProvider};

use crate::support::World;
use crate::{Fault, accept_all, fault, reject_all, strict};
use crate::{hostile, missing};

/// The token is rewritten after it was signed.
fn rewritten(name: &str, how: fn(String) -> String) -> Fault {
    let reason = if name == "a new line inside" { "signature" } else { "malformed" };
    fault(format!("E35: {name}"), reason, move |token| token.after_signing(how))
}

/// A header member, under a genuine signature.
fn header(id: &str, reason: &'static str, name: &'static str, value: Value) -> Fault {
    fault(format!("{id}: {name} {value:.40}"), reason, move |token| {
        token.header.insert(name.into(), value.clone());
    })
}

/// Bytes instead of the claims, under a genuine signature.
fn payload(id: &str, bytes: impl Into<Vec<u8>>) -> Fault {
    let bytes = bytes.into();
    let name = format!("{id}: {}", String::from_utf8_lossy(&bytes[..bytes.len().min(30)]));
    fault(name, "malformed", move |token| token.claims_json = Some(bytes.clone()))
}

/// The claims as text, rewritten, under a genuine signature.
fn respelled(name: &str, how: fn(String) -> Vec<u8>) -> Fault {
    fault(format!("E36, E44: {name}"), "malformed", move |token| {
        token.claims_json = Some(how(serde_json::to_string(&token.claims).unwrap()));
    })
}

/// The header as text, rewritten, under a genuine signature.
fn reheaded(name: &str, how: fn(String) -> Vec<u8>) -> Fault {
    fault(format!("E36, E44: header, {name}"), "malformed", move |token| {
        token.header_json = Some(how(serde_json::to_string(&token.header).unwrap()));
    })
}

#[tokio::test]
async fn e35_only_the_strict_compact_form_is_read() {
    let world = World::new().await;
    let app = strict(&world);
    let faults = vec![
        rewritten("two parts", |token| token.rsplit_once('.').unwrap().0.to_owned()),
        rewritten("one part", |token| token.replace('.', "")),
        rewritten("four parts", |token| token + ".AAAA"),
        rewritten("a dot behind", |token| token + "."),
        rewritten("a dot before", |token| format!(".{token}")),
        rewritten("padding", |token| token + "=="),
        rewritten("padding of the header", |token| token.replacen('.', "=.", 1)),
        rewritten("the other alphabet", |token| token.replace('-', "+").replace('_', "/")),
        rewritten("white space before", |token| format!(" {token}")),
        rewritten("white space behind", |token| token + " "),
        rewritten("a new line", |token| token + "\n"),
        rewritten("a new line inside", |token| token.replacen('.', ".\n", 1)),
        rewritten("a byte order mark", |token| format!("\u{feff}{token}")),
        rewritten("bits that mean nothing", |token| {
            // 256 bytes leave four bits of the last letter unused: A, Q, g or w.
            let last = token.chars().last().unwrap();
            let next = char::from_u32(u32::from(last) + 1).unwrap();
            format!("{}{next}", &token[..token.len() - 1])
        }),
        rewritten("the JSON form", |token| {
            let parts: Vec<&str> = token.split('.').collect();
            let (head, body, signature) = (parts[0], parts[1], parts[2]);
            json!({"protected": head, "payload": body, "signature": signature}).to_string()
        }),
        rewritten("a token in quotes", |token| format!("\"{token}\"")),
        rewritten("no token", |_| "..".to_owned()),
    ];
    reject_all(&world, &app, faults).await;
}

#[tokio::test]
async fn e36_e44_only_strict_objects_are_read() {
    let world = World::new().await;
    let app = strict(&world);
    let utf16 = |text: &str| text.encode_utf16().flat_map(u16::to_le_bytes).collect::<Vec<u8>>();
    let mut faults = vec![
        payload("E44", utf16("{\"sub\":\"alice\"}")),
        payload("E44", "\"alice\""),
        payload("E44", "null"),
        payload("E44", "5"),
        payload("E44", ""),
        payload("E44", "{"),
        respelled("two sub", |text| text.replacen('{', "{\"sub\":\"bob\",", 1).into_bytes()),
        respelled("two aud", |text| text.replacen('{', "{\"aud\":\"x\",", 1).into_bytes()),
        respelled("two equal exp", |text| {
            let again = text.clone();
            format!("{},{}", &text[..text.len() - 1], &again[1..]).into_bytes()
        }),
        respelled("two names deep inside", |text| {
            text.replacen('{', "{\"x\":{\"a\":1,\"a\":2},", 1).into_bytes()
        }),
        respelled("a second spelling", |text| {
            text.replacen('{', "{\"s\\u0075b\":\"bob\",", 1).into_bytes()
        }),
    ];
    let both = |name, how| [respelled(name, how), reheaded(name, how)];
    let spellings = [
        both("a list", |text| format!("[{text}]").into_bytes()),
        both("NaN", |text| text.replacen('{', "{\"x\":NaN,", 1).into_bytes()),
        both("beyond a number", |text| text.replacen('{', "{\"x\":1e999,", 1).into_bytes()),
        both("a comment", |text| text.replacen('{', "{/**/", 1).into_bytes()),
        both("something behind", |text| (text + "{}").into_bytes()),
        both("a comma too much", |text| text.replace('}', ",}").into_bytes()),
        both("a byte order mark", |text| format!("\u{feff}{text}").into_bytes()),
        both("not UTF-8", |text| {
            let mut bytes = text.replacen('{', "{\"x\":\"?\",", 1).into_bytes();
            *bytes.iter_mut().find(|byte| **byte == b'?').unwrap() = 0xff;
            bytes
        }),
    ];
    faults.extend(spellings.into_iter().flatten());
    faults
        .push(reheaded("two alg", |text| text.replacen('{', "{\"alg\":\"none\",", 1).into_bytes()));
    reject_all(&world, &app, faults).await;
}

#[tokio::test]
async fn e37_a_token_of_another_type_is_no_id_token() {
    let world = World::new().await;
    let app = strict(&world);
    let others = ["at+jwt", "AT+JWT", "application/at+jwt", "logout+jwt", "dpop+jwt", ""];
    let more = ["secevent+jwt", "oauth-authz-req+jwt", "entity-statement+jwt", "JWT ", "JOSE"];
    let others = others.into_iter().chain(more);
    let mut faults: Vec<_> = others.map(|typ| header("E37", "typ", "typ", typ.into())).collect();
    let odd = [json!(5), json!(null), json!(["JWT"]), json!({})];
    faults.extend(odd.map(|typ| header("E37", "malformed", "typ", typ)));
    reject_all(&world, &app, faults).await;
    let known = ["JWT", "jwt", "application/jwt"];
    let mut good: Vec<_> =
        known.into_iter().map(|typ| header("E37", "", "typ", typ.into())).collect();
    good.push(fault("E37: no type", "", |token| drop(token.header.remove("typ"))));
    accept_all(&world, &app, good).await;
}

#[tokio::test]
async fn e33_a_token_does_not_bring_its_own_key() {
    let world = World::new().await;
    let app = strict(&world);
    let evil = TestProvider::start().await.unwrap();
    let own = SigningKey::generate(SigningAlg::Rs256);
    let url = format!("{}/jwks/x", evil.issuer());
    let mut faults = Vec::new();
    for (name, value) in [
        ("jwk", own.public_jwk()),
        ("jku", json!(url)),
        ("x5u", json!(url)),
        ("x5c", json!(["MIIB"])),
        ("x5t", json!("MIIB")),
        ("x5t#S256", json!("MIIB")),
    ] {
        for (kid, reason) in [("known", "signature"), ("own", "kid"), ("no", "signature")] {
            let (own, value) = (own.clone(), value.clone());
            faults.push(fault(format!("E33: {name}, {kid} kid"), reason, move |token| {
                let known = token.header["kid"].clone();
                token.sign_with(Signer::Key(own.clone()));
                match kid {
                    "known" => drop(token.header.insert("kid".into(), known)),
                    "no" => drop(token.header.remove("kid")),
                    _ => {}
                }
                token.header.insert(name.into(), value.clone());
            }));
        }
    }
    reject_all(&world, &app, faults).await;
    for endpoint in Endpoint::ALL {
        assert_eq!(evil.counts().of(endpoint), 0, "E33: nothing is fetched, {endpoint:?}");
    }
}

#[tokio::test]
async fn e34_extensions_are_not_understood() {
    let world = World::new().await;
    let app = strict(&world);
    let critical = [json!(["exp"]), json!(["foo"]), json!([]), json!("foo"), json!(null)];
    let mut faults: Vec<_> =
        critical.into_iter().map(|crit| header("E34", "crit", "crit", crit)).collect();
    faults.push(header("E34", "crit", "b64", json!(false)));
    faults.push(fault("E34: b64 with crit", "crit", |token| {
        token.header.insert("b64".into(), json!(false));
        token.header.insert("crit".into(), json!(["b64"]));
    }));
    reject_all(&world, &app, faults).await;
}

#[tokio::test]
async fn e39_an_encrypted_token_is_refused_where_none_was_asked_for() {
    let world = World::new().await;
    let app = strict(&world);
    let faults = [
        json!({"alg": "RSA1_5", "enc": "A128CBC-HS256"}),
        json!({"alg": "RSA-OAEP-256", "enc": "A256GCM", "zip": "DEF"}),
        json!({"alg": "dir", "enc": "none"}),
        json!({"alg": "PBES2-HS256+A128KW", "enc": "A128GCM", "p2c": 2_000_000_000, "p2s": "AAAA"}),
    ];
    let faults = faults.map(|head| {
        fault(format!("E39: {head}"), "malformed", move |token| {
            let head = hostile::base64url(head.to_string());
            token.raw = Some(format!("{head}.AAAA.AAAA.AAAA.AAAA"));
        })
    });
    reject_all(&world, &app, faults.into()).await;
    let nested = ["enc", "zip", "cty"].map(|name| header("E39", "crit", name, json!("JWT")));
    reject_all(&world, &app, nested.into()).await;
}

#[tokio::test]
async fn e43_large_and_deep_tokens_are_refused() {
    let world = World::new().await;
    let app = strict(&world);
    let nested = |open: &str, close: &str| {
        format!("{{\"x\":{}1{}}}", open.repeat(10_000), close.repeat(10_000))
    };
    reject_all(
        &world,
        &app,
        vec![
            payload("E43", nested("[", "]")),
            payload("E43", nested("{\"a\":", "}")),
            fault("E43: a large claim", "malformed", |token| {
                token.set("padding", "x".repeat(300_000));
            }),
            fault("E43: many claims", "malformed", |token| {
                (0..50_000).for_each(|n| token.set(&format!("c{n}"), n));
            }),
            fault("E43: a large header", "malformed", |token| {
                token.header.insert("x".into(), "x".repeat(300_000).into());
            }),
        ],
    )
    .await;
    world.provider.on_id_token(|token| token.set("padding", "x".repeat(1_000_000)));
    let refused = hostile::refused(&world, &app, "E43: a megabyte").await;
    assert_eq!(refused.reply.reason(), "provider_unavailable/token_unreachable");
    hostile::clean(&world, &app, "E43").await;
    // Many claims that fit are read, and left out.
    let many = fault("E43: a thousand claims", "", |token| {
        (0..1000).for_each(|n| token.set(&format!("c{n}"), n));
    });
    accept_all(&world, &app, vec![many, missing("no acr", "acr", "")]).await;
}
