//! Signatures and algorithms: nothing but the provider's signature by the agreed algorithm will do.

use std::sync::{Arc, Mutex};

use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256K1_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _};
use serde_json::{Value, json};
use tower_pkce_auth::testing::provider::{
    IdTokenDraft, Signer, SigningAlg, SigningKey, TestProvider,
};
use tower_pkce_auth::{SigningAlgorithm, Userinfo};

use crate::hostile::{accepted, base64url, refused};
use crate::support::{App, World};
use crate::{Fault, fault, reject_all, strict};

/// A provider that signs, and a client that accepts, by one algorithm.
async fn agreed(signs: SigningAlg, accepts: SigningAlgorithm) -> (World, App) {
    let world = World::with_provider(TestProvider::builder().signing_alg(signs)).await;
    let builder = world.builder().userinfo(Userinfo::Required).id_token_algorithm(accepts);
    let app = world.app(&builder.build().unwrap());
    (world, app)
}

const AGREED: [(SigningAlg, SigningAlgorithm); 5] = [
    (SigningAlg::Rs256, SigningAlgorithm::Rs256),
    (SigningAlg::Ps256, SigningAlgorithm::Ps256),
    (SigningAlg::Es256, SigningAlgorithm::Es256),
    (SigningAlg::Es384, SigningAlgorithm::Es384),
    (SigningAlg::EdDsa, SigningAlgorithm::EdDsa),
];

fn signed_by(name: &str, reason: &'static str, key: SigningKey) -> Fault {
    fault(name, reason, move |token| token.sign_with(Signer::Key(key.clone())))
}

fn literal(name: &str, signature: Vec<u8>) -> Fault {
    fault(format!("E26: {name}"), "signature", move |token| {
        token.signer = Signer::Literal(signature.clone());
    })
}

#[tokio::test]
async fn e21_a_token_without_a_signature_is_never_accepted() {
    let world = World::new().await;
    let app = strict(&world);
    let mut faults = Vec::new();
    let names = ["none", "None", "NONE", "nOnE", "", "rs256", "RS256 ", "RS257"];
    let odd = [json!(null), json!(["RS256"]), json!(5), json!({})];
    let algs = names.into_iter().map(Value::from).chain(odd).map(Some).chain([None]);
    for alg in algs {
        for how in ["unsigned", "signed by anything", "signed well"] {
            let alg = alg.clone();
            faults.push(fault(format!("E21: {alg:?}, {how}"), "alg", move |token| {
                match &alg {
                    Some(alg) => drop(token.header.insert("alg".into(), alg.clone())),
                    None => drop(token.header.remove("alg")),
                }
                match how {
                    "unsigned" => token.signer = Signer::Unsigned,
                    "signed by anything" => token.signer = Signer::Literal(vec![7; 256]),
                    _ => {}
                }
            }));
        }
    }
    faults.push(fault("E21: none, no kid", "alg", |token| token.sign_with(Signer::Unsigned)));
    faults.push(fault("E21: RS256, unsigned", "signature", |token| {
        token.signer = Signer::Unsigned;
    }));
    reject_all(&world, &app, faults).await;
}

#[tokio::test]
async fn e22_only_the_agreed_algorithm_though_the_key_is_published() {
    for (signs, accepts) in AGREED {
        let (world, app) = agreed(signs, accepts).await;
        let mut keys = world.provider.published_keys();
        let turned = |key: &SigningKey| match key.alg() {
            SigningAlg::Rs256 => key.with_alg(SigningAlg::Ps256),
            SigningAlg::Ps256 => key.with_alg(SigningAlg::Rs256),
            _ => None,
        };
        keys.extend(keys.iter().filter_map(turned).collect::<Vec<_>>());
        let others = keys.into_iter().filter(|key| key.alg() != signs);
        let faults: Vec<_> = others
            .map(|key| signed_by(&format!("E22: {key:?} beside {signs}"), "alg", key))
            .collect();
        assert!(faults.len() >= 3, "{signs}");
        reject_all(&world, &app, faults).await;
    }
}

#[tokio::test]
async fn e22_the_name_of_the_agreed_algorithm_over_another_signature() {
    let world = World::new().await;
    let app = strict(&world);
    let rsa = world.provider.signing_key();
    let faults = world
        .provider
        .published_keys()
        .into_iter()
        .chain([rsa.with_alg(SigningAlg::Ps256).unwrap(), SigningKey::generate(SigningAlg::Rs256)]);
    let faults = faults.filter(|key| key.kid() != rsa.kid() || key.alg() != rsa.alg());
    let faults = faults.map(|key| {
        fault(format!("E22, E23: RS256 over {key:?}"), "signature", move |token| {
            token.signer = Signer::Key(key.clone());
        })
    });
    reject_all(&world, &app, faults.collect()).await;
}

#[tokio::test]
async fn e23_a_changed_letter_anywhere_is_refused() {
    for (signs, accepts) in AGREED {
        let (world, app) = agreed(signs, accepts).await;
        let changed = |part, what, reason| {
            fault(format!("E23: {signs}, {what}"), reason, move |token| token.corrupt(part))
        };
        reject_all(
            &world,
            &app,
            vec![
                changed(0, "header", ""),
                changed(1, "payload", "signature"),
                changed(2, "signature", "signature"),
                fault(format!("E23: {signs}, another payload"), "signature", |token| {
                    token.after_signing(|text| {
                        let parts: Vec<&str> = text.split('.').collect();
                        format!("{}.{}.{}", parts[0], base64url("{\"sub\":\"bob\"}"), parts[2])
                    });
                }),
                fault(format!("E23: {signs}, no signature"), "signature", |token| {
                    token.signer = Signer::Unsigned;
                }),
            ],
        )
        .await;
    }
}

#[tokio::test]
async fn e24_e25_a_public_key_or_a_secret_is_no_hmac_key() {
    let world = World::new().await;
    let app = strict(&world);
    let mut secrets = vec![
        ("E25: the client secret".to_owned(), "app-secret".into(), Value::Null),
        ("E25: an empty key".to_owned(), Vec::new(), Value::Null),
        ("E25: zeros".to_owned(), vec![0; 32], Value::Null),
    ];
    for key in world.provider.published_keys() {
        for (spelling, bytes) in key.public_key_spellings() {
            secrets.push((format!("E24: {key:?}, {spelling}"), bytes, key.kid().into()));
        }
    }
    let rsa = world.provider.signing_key();
    let mut faults = Vec::new();
    for (name, bytes, kid) in secrets {
        for (alg, reason) in [("HS256", "alg"), ("RS256", "signature")] {
            let (bytes, rsa) = (bytes.clone(), rsa.kid().to_owned());
            let kid = if alg == "RS256" { json!(rsa) } else { kid.clone() };
            faults.push(fault(format!("{name}, as {alg}"), reason, move |token| {
                token.sign_with(Signer::Hmac(bytes.clone()));
                token.header.insert("alg".into(), alg.into());
                match &kid {
                    Value::Null => drop(token.header.remove("kid")),
                    kid => drop(token.header.insert("kid".into(), kid.clone())),
                }
            }));
        }
    }
    reject_all(&world, &app, faults).await;
    for name in ["HS256", "HS384", "HS512", "none", "rs256", ""] {
        assert_eq!(SigningAlgorithm::from_name(name), None, "E25: {name} cannot be asked for");
    }
}

#[tokio::test]
async fn e26_degenerate_ecdsa_signatures_are_refused() {
    let (world, app) = agreed(SigningAlg::Es256, SigningAlgorithm::Es256).await;
    let key = world.provider.signing_key();
    let n: [u8; 32] = [
        0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xbc,
        0xe6, 0xfa, 0xad, 0xa7, 0x17, 0x9e, 0x84, 0xf3, 0xb9, 0xca, 0xc2, 0xfc, 0x63, 0x25, 0x51,
    ];
    let (zero, mut one) = ([0; 32], [0; 32]);
    one[31] = 1;
    let der = key.clone();
    reject_all(
        &world,
        &app,
        vec![
            literal("r = s = 0", [zero, zero].concat()),
            literal("r = s = n", [n, n].concat()),
            literal("r = n, s = 1", [n, one].concat()),
            literal("r = 0, s = 1", [zero, one].concat()),
            literal("r = 1, s = 0", [one, zero].concat()),
            literal("r = s = 1", [one, one].concat()),
            literal("63 bytes", vec![1; 63]),
            literal("65 bytes", vec![1; 65]),
            literal("96 bytes", vec![1; 96]),
            fault("E26: in DER", "signature", move |token| token.signer = Signer::Der(der.clone())),
            fault("E26: one byte more", "signature", |token| {
                token.after_signing(|text| text + "AA");
            }),
        ],
    )
    .await;
}

#[tokio::test]
async fn e26_e27_keys_of_another_curve_or_off_the_curve_are_not_used() {
    let rng = SystemRandom::new();
    let kind = &ECDSA_P256K1_SHA256_FIXED_SIGNING;
    let pkcs8 = EcdsaKeyPair::generate_pkcs8(kind, &rng).unwrap();
    let koblitz = Arc::new(EcdsaKeyPair::from_pkcs8(kind, pkcs8.as_ref()).unwrap());
    let point = koblitz.public_key().as_ref()[1..].to_vec();
    let (x, y) = (base64url(&point[..32]), base64url(&point[32..]));
    let es384 = SigningKey::generate(SigningAlg::Es384);
    let mut p384 = es384.public_jwk();
    p384.as_object_mut().unwrap().remove("alg");
    let mut as_p256 = p384.clone();
    as_p256["crv"] = json!("P-256");
    for (name, jwk, koblitz) in [
        ("secp256k1", json!({"kty": "EC", "crv": "secp256k1", "x": x, "y": y}), Some(&koblitz)),
        ("off the curve", json!({"kty": "EC", "crv": "P-256", "x": x, "y": y}), Some(&koblitz)),
        ("P-384", p384, None),
        ("P-384 said to be P-256", as_p256, None),
    ] {
        let (world, app) = agreed(SigningAlg::Es256, SigningAlgorithm::Es256).await;
        let (mut jwk, koblitz, es384) = (jwk, koblitz.cloned(), es384.clone());
        jwk["kid"] = json!("odd");
        world.provider.on_jwks(move |keys| keys.insert(0, jwk.clone()));
        world.provider.on_id_token(move |token| {
            token.header.insert("kid".into(), "odd".into());
            match koblitz.clone() {
                None => token.signer = Signer::Key(es384.clone()),
                Some(pair) => token.after_signing(move |text| {
                    let (input, _) = text.rsplit_once('.').unwrap();
                    let signature = pair.sign(&SystemRandom::new(), input.as_bytes()).unwrap();
                    format!("{input}.{}", base64url(signature))
                }),
            }
        });
        let refused = refused(&world, &app, name).await;
        let reason = refused.reply.reason();
        assert!(["id_token/kid", "id_token/signature"].contains(&&*reason), "{name}: {reason}");
        assert_eq!(refused.userinfo, 0, "{name}");
    }
}

#[tokio::test]
async fn e26_an_ed25519_key_of_small_order_verifies_nothing() {
    // With such a key R = A and S = 0 is a signature of anything, or of every few things.
    let mut neutral = [0; 32];
    neutral[0] = 1;
    let mut order_two = [0xff; 32];
    (order_two[0], order_two[31]) = (0xec, 0x7f);
    for (name, point) in [("neutral", neutral), ("zero", [0; 32]), ("order two", order_two)] {
        let (world, app) = agreed(SigningAlg::EdDsa, SigningAlgorithm::EdDsa).await;
        let jwk = json!({"kty": "OKP", "crv": "Ed25519", "kid": "small", "x": base64url(point)});
        world.provider.on_jwks(move |keys| keys.push(jwk.clone()));
        world.provider.on_id_token(move |token| {
            token.header.insert("kid".into(), "small".into());
            token.signer = Signer::Literal([neutral, [0; 32]].concat());
        });
        // The order decides which messages are hit: a few tokens suffice.
        for _ in 0..8 {
            let refused = refused(&world, &app, &format!("E26: {name}")).await;
            assert_eq!(refused.userinfo, 0, "{name}");
        }
    }
}

/// Signs by an RSA key made for this token: modulus 2^(3a) − EM and exponent 3 make 2^a a
/// signature, for keys of any size without their private part. With exponent 1 the padded hash
/// is its own signature.
fn forge(token: &IdTokenDraft, a: usize, exponent: u8) -> (String, Value) {
    let header = base64url(json!({"alg": "RS256", "kid": "forged"}).to_string());
    let len = if exponent == 1 { 256 } else { (3 * a).div_ceil(8) };
    let mut claims = token.claims.clone();
    let (input, em) = (0..)
        .map(|n| {
            claims.insert("jti".into(), n.into());
            let input = format!("{header}.{}", base64url(serde_json::to_vec(&claims).unwrap()));
            let hash = digest(&SHA256, input.as_bytes());
            let tail = [&DIGEST_INFO, hash.as_ref()].concat();
            let mut em = vec![0xff; len];
            (em[0], em[1], em[len - tail.len() - 1]) = (0, 1, 0);
            em[len - tail.len()..].copy_from_slice(&tail);
            (input, em)
        })
        .find(|(_, em)| em[len - 1] % 2 == 1)
        .unwrap();
    let (modulus, signature) = if exponent == 1 {
        (vec![0xff; 256], em)
    } else {
        // 2^(3a) − EM, byte by byte: the two's complement of EM, then the top bits.
        let mut modulus: Vec<u8> = em.iter().map(|byte| !byte).collect();
        modulus[len - 1] += 1;
        if !(3 * a).is_multiple_of(8) {
            modulus[0] &= (1 << (3 * a % 8)) - 1;
        }
        let mut power = vec![0; len];
        power[len - 1 - a / 8] = 1 << (a % 8);
        (modulus, power)
    };
    let (n, e) = (base64url(modulus), base64url([exponent]));
    let jwk = json!({"kty": "RSA", "kid": "forged", "use": "sig", "n": n, "e": e});
    (format!("{input}.{}", base64url(signature)), jwk)
}

const DIGEST_INFO: [u8; 19] =
    [0x30, 0x31, 0x30, 0x0d, 6, 9, 0x60, 0x86, 0x48, 1, 0x65, 3, 4, 2, 1, 5, 0, 4, 0x20];

#[tokio::test]
async fn e27_weak_rsa_keys_are_never_used() {
    for (name, a, exponent, good) in [
        ("2049 bits, the proof that the forgery is one", 683, 3, true),
        ("2046 bits", 682, 3, false),
        ("1026 bits", 342, 3, false),
        ("510 bits", 170, 3, false),
        ("e = 1", 0, 1, false),
    ] {
        let world = World::new().await;
        let app = strict(&world);
        let published = Arc::new(Mutex::new(Value::Null));
        let shown = published.clone();
        world.provider.on_jwks(move |keys| keys.push(shown.lock().unwrap().clone()));
        world.provider.on_id_token(move |token| {
            let (forged, jwk) = forge(token, a, exponent);
            token.raw = Some(forged);
            *published.lock().unwrap() = jwk;
        });
        if good {
            accepted(&world, &app, name).await;
        } else {
            let refused = refused(&world, &app, &format!("E27: {name}")).await;
            assert_eq!(refused.reply.reason(), "id_token/kid", "{name}");
            assert_eq!((refused.jwks, refused.userinfo), (1, 0), "{name}: the key was seen");
        }
    }
}
