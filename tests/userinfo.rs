//! Group G: the userinfo endpoint is asked once, after the ID token, and believed in little.

mod hostile;
mod support;

use std::time::Duration;

use hostile::{accepted, clean, refused, within};
use serde_json::{Map, Value, json};
use support::{App, Browser, World};
use tower_pkce_auth::testing::provider::{Behaviour, Endpoint, TestProvider, TestUser};
use tower_pkce_auth::{Builder, Userinfo};

const BOTH: [Userinfo; 2] = [Userinfo::Required, Userinfo::Optional];

fn app(world: &World, mode: Userinfo) -> App {
    let builder = world.builder().provider_timeout(Duration::from_millis(500));
    world.app(&builder.userinfo(mode).build().unwrap())
}

/// A provider that says who somebody is only at userinfo.
async fn lean() -> World {
    World::with_provider(TestProvider::builder().lean_id_token()).await
}

async fn claims(browser: &mut Browser) -> Map<String, Value> {
    let reply = browser.get("/claims").await;
    serde_json::from_str(&reply.body).unwrap_or_else(|_| panic!("no claims: {}", reply.body))
}

/// Signs alice in and returns the claims that the application sees.
async fn signed_in(world: &World, app: &App, name: &str) -> Map<String, Value> {
    let mut browser = world.browser(app, "alice");
    let reply = browser.sign_in("/").await;
    assert_eq!(reply.body, "alice", "{name}: {}", reply.reason());
    claims(&mut browser).await
}

/// Nobody is signed in, after one call to userinfo.
async fn refused_as(world: &World, app: &App, name: &str, detail: &str) {
    let refused = within(name, refused(world, app, name)).await;
    assert_eq!(refused.reply.reason(), format!("userinfo/{detail}"), "{name}");
    assert_eq!((refused.token, refused.userinfo), (1, 1), "{name}: G13, no second call");
    clean(world, app, name).await;
}

fn with_scopes(world: &World) -> Builder {
    ["profile", "email"].into_iter().fold(world.builder(), Builder::scope)
}

#[tokio::test]
async fn g01_g13_the_token_goes_into_the_header_once_and_nowhere_else() {
    let world = World::new().await;
    accepted(&world, &app(&world, Userinfo::Required), "G01").await;
    let requests = world.provider.requests(Endpoint::Userinfo);
    let [request] = &requests[..] else { panic!("G13: {} calls", requests.len()) };
    assert_eq!(request.method, "GET");
    assert_eq!(request.uri, "/userinfo", "G01: nothing in the query");
    assert!(request.body.is_empty(), "G01: nothing in the body");
    let sent = request.header("authorization").unwrap();
    assert!(sent.starts_with("Bearer ") && sent.len() > 20, "G01");
    assert_eq!(request.headers.get_all("authorization").iter().count(), 1, "G01");

    let world = World::new().await;
    accepted(&world, &app(&world, Userinfo::Off), "G13").await;
    assert_eq!(world.provider.counts().userinfo, 0, "G13: off is off");
}

#[tokio::test]
async fn g02_g03_an_answer_about_somebody_else_refuses_the_login_in_both_modes() {
    let world = World::new().await;
    for mode in BOTH {
        let app = app(&world, mode);
        for sub in [
            Some(json!("aliceinvalid")),
            Some(json!("bob")),
            Some(json!("ALICE")),
            Some(json!("alice ")),
            Some(json!("")),
            Some(json!(null)),
            Some(json!(["alice"])),
            Some(json!({"sub": "alice"})),
            Some(json!(5)),
            None,
        ] {
            let name = format!("G02, G03: {mode:?}, sub = {sub:?}");
            world.provider.on_userinfo(move |claims| match &sub {
                Some(sub) => drop(claims.insert("sub".to_owned(), sub.clone())),
                None => drop(claims.remove("sub")),
            });
            refused_as(&world, &app, &name, "sub").await;
        }
    }
}

#[tokio::test]
async fn g04_g06_only_plain_json_is_read() {
    let world = World::new().await;
    let app = app(&world, Userinfo::Required);
    for media in ["text/html", "application/jwt", "text/json", "application/jsonp", ""] {
        world.provider.on_response_headers(Endpoint::Userinfo, move |headers| {
            headers.remove("content-type");
            if !media.is_empty() {
                headers.insert("content-type", media.parse().unwrap());
            }
        });
        refused_as(&world, &app, &format!("G04, G06: {media:?}"), "content_type").await;
    }
    let jwt = Map::from_iter([("sub".to_owned(), json!("alice"))]);
    let jwt = world.provider.signing_key().jwt("JWT", &jwt);
    let jwt = Behaviour::Status {
        code: 200,
        content_type: "application/jwt".to_owned(),
        body: jwt.into(),
    };
    world.provider.set_behaviour(Endpoint::Userinfo, jwt);
    refused_as(&world, &app, "G06: a genuine JWT where none was asked for", "content_type").await;
    let deep = format!("{{\"sub\":\"alice\",\"x\":{}", "[".repeat(100_000));
    for body in [
        "[{\"sub\":\"alice\"}]",
        "\"alice\"",
        "null",
        "",
        "{\"sub\":\"alice\"",
        "{\"sub\":\"alice\"}{}",
        "{\"sub\":\"bob\",\"sub\":\"alice\"}",
        "{\"sub\":\"alice\",\"x\":1e400}",
        &deep,
    ] {
        let name = format!("G04, G10: {body:.40}");
        let behaviour = Behaviour::json(200, body.to_owned());
        world.provider.set_behaviour(Endpoint::Userinfo, behaviour);
        refused_as(&world, &app, &name, "malformed").await;
    }
    world.provider.on_response_headers(Endpoint::Userinfo, |headers| {
        headers.insert("content-type", "Application/JSON; charset=utf-8".parse().unwrap());
    });
    accepted(&world, &app, "G04: with parameters").await;
}

#[tokio::test]
async fn g07_g10_a_failure_refuses_or_leaves_the_id_token_alone_as_was_chosen() {
    let world = World::new().await;
    let evil = TestProvider::start().await.unwrap();
    let required = app(&world, Userinfo::Required);
    let builder = with_scopes(&world).userinfo(Userinfo::Optional);
    let optional = builder.provider_timeout(Duration::from_millis(500)).build().unwrap();
    let optional = world.app(&optional);
    let expected = signed_in(&world, &optional, "G07: without a fault").await;
    assert_eq!(expected["name"], "Alice Archer");
    let page = |code| Behaviour::json(code, "{\"sub\":\"alice\",\"name\":\"CANARY\"}");
    let to = format!("{}/userinfo", evil.issuer());
    for (behaviour, detail) in [
        (page(401), "status"),
        (page(403), "status"),
        (page(404), "status"),
        (page(500), "status"),
        (page(201), "status"),
        (Behaviour::status(204), "status"),
        (Behaviour::json(200, "{\"sub\":\"alice\",\"name\":\"CANARY\""), "malformed"),
        (Behaviour::Redirect { code: 302, to: to.clone() }, "status"),
        (Behaviour::Redirect { code: 307, to }, "status"),
        (Behaviour::Hang, "timed_out"),
        (Behaviour::Drip, "timed_out"),
        (Behaviour::Endless, "unreachable"),
        (Behaviour::HugeContentLength, "unreachable"),
        (Behaviour::Refuse, "unreachable"),
        (Behaviour::ResetAfterBody, "unreachable"),
    ] {
        let name = format!("G07, G10: {behaviour:?}");
        world.provider.set_behaviour(Endpoint::Userinfo, behaviour.clone());
        refused_as(&world, &required, &name, detail).await;
        world.provider.set_behaviour(Endpoint::Userinfo, behaviour);
        let before = world.provider.counts().userinfo;
        let claims = within(&name, signed_in(&world, &optional, &name)).await;
        assert_eq!(claims, expected, "{name}: the claims of the ID token and no others");
        assert_eq!(world.provider.counts().userinfo, before + 1, "{name}: G13");
        world.provider.clear_faults();
    }
    for endpoint in Endpoint::ALL {
        assert_eq!(evil.counts().of(endpoint), 0, "G10: the token goes nowhere else");
    }
    world.provider.on_response_headers(Endpoint::Userinfo, |headers| {
        headers.insert("content-encoding", "gzip".parse().unwrap());
    });
    refused_as(&world, &required, "G10: compressed", "unreachable").await;
}

#[tokio::test]
async fn g07_without_an_endpoint_it_is_as_if_it_failed() {
    let world = World::new().await;
    world.provider.on_discovery(|document| drop(document.remove("userinfo_endpoint")));
    let refused = refused(&world, &app(&world, Userinfo::Required), "G07").await;
    assert_eq!(refused.reply.reason(), "userinfo/no_endpoint");
    signed_in(&world, &app(&world, Userinfo::Optional), "G07").await;
}

#[tokio::test]
async fn g08_userinfo_has_no_say_in_what_the_token_says_of_itself() {
    let world = World::new().await;
    let names = [
        "iss",
        "aud",
        "exp",
        "iat",
        "nbf",
        "nonce",
        "acr",
        "amr",
        "auth_time",
        "sid",
        "azp",
        "jti",
        "at_hash",
        "session_expiry",
        "events",
        "cnf",
    ];
    // An application may ask for each of them; it must be the ID token that it hears.
    let builder = names.into_iter().fold(world.builder(), Builder::claim);
    let builder = builder.claim("sub").userinfo(Userinfo::Required);
    let app = world.app(&builder.build().unwrap());
    world.provider.on_id_token(|token| {
        token.set("acr", "low");
        token.set("amr", json!(["pwd"]));
    });
    let expected = signed_in(&world, &app, "G08").await;
    world.provider.on_userinfo(move |claims| {
        for name in names {
            claims.insert(name.to_owned(), json!("evil"));
        }
        claims.insert("nickname".to_owned(), json!("Al"));
    });
    let mut found = signed_in(&world, &app, "G08").await;
    assert_eq!(found.remove("nickname"), Some(json!("Al")), "it was heard");
    assert_eq!(found.get("acr"), Some(&json!("low")));
    assert_eq!(found.get("iss"), Some(&json!(world.provider.issuer())));
    assert!(!json!(found).to_string().contains("evil"), "G08: {found:?}");
    let keys = |claims: &Map<String, Value>| claims.keys().cloned().collect::<Vec<_>>();
    assert_eq!(keys(&found), keys(&expected), "G08: nothing is added either");
}

#[tokio::test]
async fn g08_an_acr_of_userinfo_does_not_satisfy_a_demand() {
    let world = World::new().await;
    let builder = world.builder().acr("mfa").userinfo(Userinfo::Required);
    let app = world.app(&builder.build().unwrap());
    world.provider.on_id_token(|token| token.set("acr", "pwd"));
    world.provider.on_userinfo(|claims| drop(claims.insert("acr".to_owned(), json!("mfa"))));
    let refused = refused(&world, &app, "G08").await;
    assert_eq!(refused.reply.reason(), "id_token/acr");
    assert_eq!(refused.userinfo, 0, "G13: not asked before the token is judged");
}

#[tokio::test]
async fn g09_distributed_and_aggregated_claims_are_left_alone() {
    let world = World::new().await;
    let evil = TestProvider::start().await.unwrap();
    let builder = world.builder().claim("_claim_sources").claim("_claim_names").claim("salary");
    let app = world.app(&builder.userinfo(Userinfo::Required).build().unwrap());
    let salary = Map::from_iter([("salary".to_owned(), json!(1_000_000))]);
    let jwt = world.provider.signing_key().jwt("JWT", &salary);
    let sources = json!({
        "a": {"endpoint": format!("{}/userinfo", evil.issuer()), "access_token": "x"},
        "b": {"JWT": jwt},
    });
    world.provider.on_userinfo(move |claims| {
        let names = json!({"groups": "a", "salary": "b", "roles": "a"});
        claims.insert("_claim_names".to_owned(), names);
        claims.insert("_claim_sources".to_owned(), sources.clone());
    });
    let claims = signed_in(&world, &app, "G09").await;
    for name in ["_claim_names", "_claim_sources", "salary", "roles"] {
        assert_eq!(claims.get(name), None, "G09: {name}");
    }
    for endpoint in Endpoint::ALL {
        assert_eq!(evil.counts().of(endpoint), 0, "G09: {endpoint:?}");
    }
}

#[tokio::test]
async fn g11_claims_of_the_scopes_reach_the_application() {
    let world = lean().await;
    let address = json!({"country": "NL", "locality": "Delft"});
    let alice = TestUser::new("alice").name("Alice Archer").claim("phone_number", "+31 15 555");
    world.provider.add_user(alice.claim("address", address.clone()));
    let builder = ["phone", "address"].into_iter().fold(with_scopes(&world), Builder::scope);
    let builder = builder.claim("phone_number").claim("address");
    let app = world.app(&builder.userinfo(Userinfo::Required).build().unwrap());
    let mut browser = world.browser(&app, "alice");
    let url = browser.to_provider("/").await;
    let scope = support::parameter(&url, "scope");
    assert_eq!(scope.as_deref(), Some("openid profile email phone address"), "G11");
    let claims = signed_in(&world, &app, "G11").await;
    let expected = json!({
        "name": "Alice Archer",
        "email": "alice@example.com",
        "email_verified": true,
        "phone_number": "+31 15 555",
        "address": address,
    });
    assert_eq!(Value::from(claims), expected, "G11");
}

#[tokio::test]
async fn g12_null_and_empty_claims_are_absent() {
    let world = lean().await;
    let app = world.app(&with_scopes(&world).userinfo(Userinfo::Required).build().unwrap());
    for value in [Some(json!(null)), Some(json!("")), None] {
        let name = format!("G12: email = {value:?}");
        world.provider.on_userinfo(move |claims| match &value {
            Some(value) => drop(claims.insert("email".to_owned(), value.clone())),
            None => drop(claims.remove("email")),
        });
        let claims = signed_in(&world, &app, &name).await;
        assert!(!claims.contains_key("email"), "{name}: {claims:?}");
        assert_eq!(claims["name"], "Alice Archer", "{name}: the others stay");
    }
}

#[tokio::test]
async fn g07_an_address_is_not_verified_by_the_word_of_another_document() {
    // The ID token vouches for one address; userinfo names another and vouches for nothing.
    let world = World::new().await;
    let app = world.app(&with_scopes(&world).userinfo(Userinfo::Required).build().unwrap());
    world.provider.on_userinfo(|claims| {
        claims.insert("email".to_owned(), json!("boss@example.com"));
        claims.remove("email_verified");
    });
    let claims = signed_in(&world, &app, "G07").await;
    let vouched = claims.get("email_verified") == Some(&json!(true));
    let both = vouched && claims["email"] == "boss@example.com";
    assert!(!both, "G07, no half-filled identity: {claims:?}");
}
