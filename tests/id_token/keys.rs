//! Picking the key: by `kid`, kind and purpose, from whatever mixture is published.

use serde_json::{Value, json};
use tower_pkce_auth::testing::provider::{Signer, SigningAlg, SigningKey, TestProvider};
use tower_pkce_auth::{SigningAlgorithm, Userinfo};

use crate::hostile::{accepted, base64url, clean, refused};
use crate::strict;
use crate::support::World;

fn bare(mut jwk: Value, gone: &[&str]) -> Value {
    gone.iter().for_each(|name| drop(jwk.as_object_mut().unwrap().remove(*name)));
    jwk
}

#[tokio::test]
async fn e28_f25_without_kid_the_one_key_that_fits_is_used() {
    let world = World::new().await;
    let app = strict(&world);
    world.provider.on_jwks(|keys| {
        for key in keys.iter_mut() {
            *key = bare(key.clone(), &["kid", "alg", "use"]);
        }
        let other = |alg| bare(SigningKey::generate(alg).public_jwk(), &["kid", "alg"]);
        let mut encryption = other(SigningAlg::Rs256);
        encryption["use"] = json!("enc");
        let (x, y) = (base64url([7; 32]), base64url([9; 32]));
        keys.insert(0, encryption);
        keys.insert(0, json!({"kty": "EC", "crv": "secp256k1", "x": x, "y": y}));
        keys.insert(0, json!({"kty": "EC", "crv": "P-256", "use": "enc", "x": x, "y": y}));
        keys.insert(0, json!({"kty": "OKP", "crv": "X25519", "use": "enc", "x": x}));
    });
    world.provider.on_id_token(|token| drop(token.header.remove("kid")));
    accepted(&world, &app, "E28").await;
}

#[tokio::test]
async fn e29_without_kid_a_bounded_number_of_keys_is_tried() {
    let other = SigningKey::generate(SigningAlg::Rs256).public_jwk();
    for (name, others, last, good) in [
        ("three keys, the right one first", 2, false, true),
        ("three keys, the right one last", 2, true, true),
        ("a thousand keys, the right one last", 1000, true, false),
    ] {
        let world = World::new().await;
        let app = strict(&world);
        let other = bare(other.clone(), &["kid"]);
        world.provider.on_jwks(move |keys| {
            let right = bare(keys[0].clone(), &["kid"]);
            assert_eq!(right["kty"], "RSA");
            *keys = vec![other.clone(); others];
            keys.insert(if last { others } else { 0 }, right);
        });
        world.provider.on_id_token(|token| drop(token.header.remove("kid")));
        if good {
            accepted(&world, &app, name).await;
        } else {
            let refused = refused(&world, &app, name).await;
            assert_eq!(refused.reply.reason(), "id_token/signature", "{name}");
            clean(&world, &app, name).await;
        }
    }
}

#[tokio::test]
async fn e31_of_several_keys_of_one_name_the_one_that_fits_is_used() {
    let ps256 = SigningKey::generate(SigningAlg::Ps256);
    for (signs, accepts) in [
        (SigningAlg::Rs256, SigningAlgorithm::Rs256),
        (SigningAlg::Ps256, SigningAlgorithm::Ps256),
        (SigningAlg::Es256, SigningAlgorithm::Es256),
        (SigningAlg::EdDsa, SigningAlgorithm::EdDsa),
    ] {
        for turn in 0..4 {
            let world = World::with_provider(TestProvider::builder().signing_alg(signs)).await;
            let builder = world.builder().id_token_algorithm(accepts);
            let app = world.app(&builder.build().unwrap());
            let decoy = ps256.public_jwk();
            world.provider.on_jwks(move |keys| {
                if keys.iter().all(|key| key["alg"] != "PS256") {
                    keys.push(decoy.clone());
                }
                keys.iter_mut().for_each(|key| key["kid"] = json!("one"));
                keys.rotate_left(turn);
            });
            world
                .provider
                .on_id_token(|token| drop(token.header.insert("kid".into(), "one".into())));
            accepted(&world, &app, &format!("E31: {signs}, turned by {turn}")).await;
        }
    }
}

#[tokio::test]
async fn e32_a_key_for_something_else_verifies_nothing() {
    for (name, member, value, good) in [
        ("encryption", "use", json!("enc"), false),
        ("an unknown use", "use", json!("tls"), false),
        ("a use that is no text", "use", json!(["sig"]), false),
        ("wraps keys", "alg", json!("RSA-OAEP"), false),
        ("another algorithm", "alg", json!("PS256"), false),
        ("a longer hash", "alg", json!("RS512"), false),
        ("encrypts", "key_ops", json!(["encrypt", "wrapKey"]), false),
        ("signs only", "key_ops", json!(["sign"]), false),
        ("no operation", "key_ops", json!([]), false),
        ("operations that are no list", "key_ops", json!("verify"), false),
        ("a private part", "d", json!("AQAB"), true),
        ("verifies", "key_ops", json!(["verify"]), true),
        ("unknown members", "x-vendor", json!({"a": [1]}), true),
    ] {
        let world = World::new().await;
        let builder = world.builder().userinfo(Userinfo::Required);
        let app = world.app(&builder.build().unwrap());
        world.provider.on_jwks(move |keys| keys[0][member] = value.clone());
        let name = format!("E32, F24: {name}");
        if good {
            accepted(&world, &app, &name).await;
            continue;
        }
        let refused = refused(&world, &app, &name).await;
        assert_eq!(refused.reply.reason(), "id_token/kid", "{name}");
        assert_eq!(refused.userinfo, 0, "{name}");
        clean(&world, &app, &name).await;
    }
}

#[tokio::test]
async fn f23_a_symmetric_key_in_public_is_no_key() {
    let world = World::new().await;
    let app = strict(&world);
    let secret: &'static [u8] = b"0123456789abcdef0123456789abcdef";
    world.provider.on_jwks(move |keys| {
        let k = base64url(secret);
        keys.insert(0, json!({"kty": "oct", "k": k, "kid": "h", "alg": "HS256", "use": "sig"}));
        keys.insert(0, json!({"kty": "oct", "k": k, "kid": "r"}));
    });
    for (kid, alg, reason) in [("h", "HS256", "alg"), ("r", "RS256", "kid"), ("h", "RS256", "kid")]
    {
        world.provider.on_id_token(move |token| {
            token.sign_with(Signer::Hmac(secret.to_vec()));
            token.header.insert("alg".into(), alg.into());
            token.header.insert("kid".into(), kid.into());
        });
        let refused = refused(&world, &app, "F23").await;
        assert_eq!(refused.reply.reason(), format!("id_token/{reason}"), "F23: {kid} {alg}");
    }
    clean(&world, &app, "F23").await;
}

#[tokio::test]
async fn f30_a_key_of_another_provider_verifies_nothing_here() {
    let world = World::new().await;
    let app = strict(&world);
    let kid = world.provider.signing_key().kid().to_owned();
    let foreign = SigningKey::generate(SigningAlg::Rs256).with_kid(kid);
    let other = World::new().await;
    let theirs = foreign.public_jwk();
    other.provider.on_jwks(move |keys| *keys = vec![theirs.clone()]);
    let signer = foreign.clone();
    other.provider.on_id_token(move |token| token.sign_with(Signer::Key(signer.clone())));
    let elsewhere = other.app(&other.builder().build().unwrap());
    accepted(&other, &elsewhere, "F30: it is a good key there").await;
    world.provider.on_id_token(move |token| token.signer = Signer::Key(foreign.clone()));
    let refused = refused(&world, &app, "F30").await;
    assert_eq!(refused.reply.reason(), "id_token/signature");
    clean(&world, &app, "F30").await;
}

#[tokio::test]
async fn f27_a_kid_is_a_name_and_nothing_else() {
    let long = "k".repeat(1000);
    for kid in ["../../dev/null", "' OR 1=1 --", "a\0b", "a\r\nb: c", "🔑", "", &long] {
        let world = World::new().await;
        let app = strict(&world);
        let published = kid.to_owned();
        let named = kid.to_owned();
        world.provider.on_id_token(move |token| {
            token.header.insert("kid".into(), named.clone().into());
        });
        let name = format!("F27: {kid:.30?}");
        let refused = refused(&world, &app, &name).await;
        assert_eq!(refused.reply.reason(), "id_token/kid", "{name}");
        world.provider.on_jwks(move |keys| keys[0]["kid"] = published.clone().into());
        accepted(&world, &app, &name).await;
    }
    let world = World::new().await;
    let app = strict(&world);
    world.provider.on_jwks(|keys| keys[0]["kid"] = "k".repeat(100_000).into());
    world.provider.on_id_token(|token| {
        token.header.insert("kid".into(), "k".repeat(90_000).into());
    });
    refused(&world, &app, "F27: 90 KB").await;
    clean(&world, &app, "F27: 90 KB").await;
}
