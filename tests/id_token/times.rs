//! Times: expiry, age, leeway.

use std::time::Duration;

use serde_json::{Value, json};
use tower_pkce_auth::{Clock as _, Userinfo};

use crate::support::World;
use crate::{accept_all, missing, reject_all, strict, values};

#[tokio::test]
async fn e12_to_e17_times() {
    let world = World::new().await;
    let app = strict(&world);
    let now = world.clock.now().as_secs();
    // No date at all, or none that any clock will show.
    let odd = || {
        let texts = ["\"0\"", "\"9999999999\"", "true", "1e308", "-1", "9223372036854775808", "[]"];
        let more = ["18446744073709551616", "-1e308", "{}", "\"NaN\"", "[9999999999]"];
        let all = texts.into_iter().chain(more);
        all.map(|text| serde_json::from_str(text).unwrap()).collect::<Vec<Value>>()
    };
    let mut faults = vec![missing("E12", "exp", "exp"), missing("E15", "iat", "iat")];
    faults.extend(values("E12", "exp", "exp", [json!(null)]));
    faults.extend(values("E13", "exp", "exp_past", [json!(now - 360), json!(now - 62)]));
    faults.extend(values("E13", "exp", "exp_past", [json!(now - 60), json!(0)]));
    faults.extend(values("E14", "exp", "exp", odd()));
    faults.extend(values("E15", "iat", "iat", [json!(null), json!(now.to_string())]));
    faults.extend(values("E14", "iat", "iat", odd()));
    faults.extend(values("E16", "iat", "iat_future", [json!(now + 3600), json!(now + 62)]));
    faults.extend(values("E16", "iat", "iat_old", [json!(now - 604_800), json!(now - 662)]));
    faults.extend(values("E17", "nbf", "nbf_future", [json!(now + 600), json!(now + 62)]));
    faults.extend(values("E14", "nbf", "nbf", odd()));
    reject_all(&world, &app, faults).await;

    let mut good = values("E13", "exp", "", [json!(now - 58), json!(now + 1)]);
    good.extend(values("E14: fractions", "exp", "", [json!(now as f64 + 100.5)]));
    good.extend(values("E16", "iat", "", [json!(now + 58), json!(now - 590), json!(now as f64)]));
    good.extend(values("E17", "nbf", "", [json!(now + 58), json!(0), json!(now)]));
    // Canaille writes a fraction, Glewlwyd 0, where no age was asked for.
    good.extend(values("PROVIDERS", "auth_time", "", [json!(now as f64 - 0.5), json!(0)]));
    accept_all(&world, &app, good).await;
}

#[tokio::test]
async fn e14_an_auth_time_that_is_no_time_is_refused_even_unasked() {
    let world = World::new().await;
    let app = strict(&world);
    let odd = [json!("yesterday"), json!(true), json!(-1), json!(1e308), json!([]), json!({})];
    reject_all(&world, &app, values("E14", "auth_time", "auth_time", odd)).await;
}

#[tokio::test]
async fn e13_the_leeway_is_bounded() {
    let world = World::new().await;
    let leeway = |secs| world.builder().leeway(Duration::from_secs(secs)).build();
    assert!(leeway(301).unwrap_err().to_string().contains("301"));
    let app = world.app(&leeway(300).unwrap());
    let now = world.clock.now().as_secs();
    let late = values("E13", "exp", "exp_past", [json!(now - 300), json!(now - 360)]);
    reject_all(&world, &app, late).await;
    accept_all(&world, &app, values("E13", "exp", "", [json!(now - 298)])).await;
}

#[tokio::test]
async fn e42_a_demanded_age_is_demanded() {
    let world = World::new().await;
    let builder = world.builder().max_age(Duration::from_secs(300)).userinfo(Userinfo::Required);
    let app = world.app(&builder.build().unwrap());
    let now = world.clock.now().as_secs();
    let odd = [json!(null), json!(now.to_string()), json!(0), json!(true), json!(1e308)];
    let mut faults = values("E42", "auth_time", "auth_time", odd);
    let old = [json!(now - 362), json!(1)];
    faults.extend(values("E42", "auth_time", "auth_time_old", old));
    let future = [json!(now + 3600), json!(now + 62)];
    faults.extend(values("E42", "auth_time", "auth_time_future", future));
    faults.push(missing("E42", "auth_time", "auth_time"));
    reject_all(&world, &app, faults).await;
    let good = [json!(now - 358), json!(now + 58), json!(now as f64 - 0.5)];
    accept_all(&world, &app, values("E42", "auth_time", "", good)).await;
}

#[tokio::test]
async fn e49_session_expiry_bounds_the_session() {
    let world = World::new().await;
    let app = strict(&world);
    let soon = world.clock.now().as_secs() + 5;
    world.provider.on_id_token(move |token| token.set("session_expiry", soon));
    let mut browser = world.browser(&app, "alice");
    browser.sign_in("/").await;
    world.clock.advance(Duration::from_secs(4));
    assert_eq!(browser.who().await.as_deref(), Some("alice"));
    world.clock.advance(Duration::from_secs(2));
    assert_eq!(browser.who().await, None);
}
