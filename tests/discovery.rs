//! Group F: discovery. Keys and their rotation are in `discovery/keys.rs`, outages and refreshes in
//! `discovery/outage.rs`.

mod hostile;
mod support;

#[path = "discovery/keys.rs"]
mod keys;
#[path = "discovery/outage.rs"]
mod outage;

use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use hostile::{accepted, refused, within};
use serde_json::{Value, json};
use support::{App, Reply, World, parameter};
use tower_pkce_auth::testing::provider::{Behaviour, Endpoint, Signer, TestProvider};
use tower_pkce_auth::{Endpoints, HttpClient, HttpFuture, HyperClient, Userinfo};

/// No login can be started: nobody is sent to the provider, and nothing is left behind.
async fn unstartable(world: &World, app: &App, name: &str) -> Reply {
    let before = world.provider.counts();
    let mut browser = world.browser(app, "alice");
    let reply = browser.get("/page").await;
    let reply = if reply.status.is_redirection() {
        let login = browser.local(&reply.location());
        browser.get(&login).await
    } else {
        reply
    };
    let status = reply.status.as_u16();
    assert!(matches!(status, 502 | 503), "{name}: {status} {:?}", reply.headers);
    assert_eq!(reply.header("cache-control"), "no-store", "{name}");
    assert!(browser.jar.names().is_empty(), "{name}: {:?}", browser.jar.names());
    assert_eq!(world.provider.counts().token, before.token, "{name}");
    assert_eq!(world.reached(), 0, "{name}");
    reply
}

fn layer(world: &World) -> App {
    world.app(&world.builder().build().unwrap())
}

fn none_asked(evil: &TestProvider, name: &str) {
    for endpoint in Endpoint::ALL {
        assert_eq!(evil.counts().of(endpoint), 0, "{name}: {endpoint:?}");
    }
}

#[tokio::test]
async fn f01_f15_one_slash_of_the_issuer_is_dropped_for_the_url_only() {
    for (path, document) in [
        ("", "/.well-known/openid-configuration"),
        ("/", "/.well-known/openid-configuration"),
        ("/api/oidc", "/api/oidc/.well-known/openid-configuration"),
        ("/test/a/x/", "/test/a/x/.well-known/openid-configuration"),
    ] {
        let world = World::with_provider(TestProvider::builder().issuer_path(path)).await;
        assert!(world.provider.issuer().ends_with(path), "to the letter");
        let jwks = Arc::new(Mutex::new(String::new()));
        let seen = jwks.clone();
        world.provider.on_discovery(move |document| {
            *seen.lock().unwrap() = document["jwks_uri"].as_str().unwrap().to_owned();
        });
        accepted(&world, &layer(&world), &format!("F01: {path:?}")).await;
        let asked = world.provider.requests(Endpoint::Discovery);
        assert_eq!(asked[0].uri, document, "F01: {path:?}");
        let keys = world.provider.requests(Endpoint::Jwks);
        assert!(jwks.lock().unwrap().ends_with(&keys[0].uri), "F15: {}", keys[0].uri);
    }
}

#[tokio::test]
async fn f02_f03_a_document_of_another_issuer_is_not_used() {
    let provider = TestProvider::builder().host("localhost").issuer_path("/t%C3%A9/");
    let world = World::with_provider(provider).await;
    let issuer = world.provider.issuer().to_owned();
    let port = format!(":{}", world.provider.address().port());
    let evil = TestProvider::start().await.unwrap();
    for value in [
        json!(format!("{issuer}INVALID")),
        json!(issuer.trim_end_matches('/')),
        json!(format!("{issuer}/")),
        json!(issuer.replace("localhost", "LOCALHOST")),
        json!(issuer.replace("localhost", "127.0.0.1")),
        json!(issuer.replace("http:", "https:")),
        json!(issuer.replace(&port, "")),
        json!(issuer.replace("%C3%A9", "%c3%a9")),
        json!(issuer.replace("%C3%A9", "é")),
        json!(issuer.replace("/t", "/{tenantid}/t")),
        json!([issuer]),
        json!(""),
        Value::Null,
        json!(evil.issuer()),
    ] {
        let app = layer(&world);
        let name = format!("F02, F03: {value}");
        let (value, elsewhere) = (value, evil.issuer().to_owned());
        world.provider.on_discovery(move |document| {
            document.insert("issuer".to_owned(), value.clone());
            let keys = format!("{elsewhere}/jwks/x");
            document.insert("jwks_uri".to_owned(), keys.into());
        });
        let reply = unstartable(&world, &app, &name).await;
        assert_eq!(reply.reason(), "provider_error/discovery_issuer", "{name}");
        assert_eq!(world.provider.counts().authorize, 0, "{name}");
        // The document is mended: no restart is needed.
        world.provider.clear_faults();
        world.clock.advance(Duration::from_secs(1));
        world.browser(&app, "alice").to_provider("/").await;
    }
    none_asked(&evil, "F02: nothing of such a document is used");
}

#[tokio::test]
async fn f05_f09_a_required_endpoint_is_there_and_is_safe() {
    let world = World::new().await;
    let bad = ["http://op.example/x", "ftp://127.0.0.1/x", "/x", "", "https://u:p@op/x"];
    let bad = bad.map(Value::from).into_iter().chain([json!(null), json!(5), json!(["x"])]);
    let bad = bad.map(Some).chain([None]).collect::<Vec<_>>();
    for member in ["authorization_endpoint", "token_endpoint", "jwks_uri"] {
        for value in &bad {
            let name = format!("F05, F09: {member} = {value:?}");
            let given = value.clone();
            world.provider.on_discovery(move |document| match &given {
                Some(value) => drop(document.insert(member.to_owned(), value.clone())),
                None => drop(document.remove(member)),
            });
            let reply = unstartable(&world, &layer(&world), &name).await;
            let reason = format!("provider_error/discovery_{member}");
            assert_eq!(reply.reason(), reason, "{name}");
        }
    }
}

#[tokio::test]
async fn f05_optional_endpoints_that_are_not_safe_are_not_there() {
    let world = World::new().await;
    world.provider.on_discovery(|document| {
        for member in ["userinfo_endpoint", "end_session_endpoint", "revocation_endpoint"] {
            document.insert(member.to_owned(), "http://op.example/x".into());
        }
    });
    let mut browser = world.browser(&layer(&world), "alice");
    assert_eq!(browser.sign_in("/").await.body, "alice");
    let location = browser.post("/auth/logout").await.location();
    assert!(location.ends_with("/auth/signed-out"), "{location}");
    let builder = world.builder().userinfo(Userinfo::Required);
    let refused = refused(&world, &world.app(&builder.build().unwrap()), "F05").await;
    assert_eq!(refused.reply.reason(), "userinfo/no_endpoint");
}

#[tokio::test]
async fn f05_plain_http_is_refused_at_the_start_where_it_can_be() {
    let world = World::new().await;
    let refused = world.builder_at("https://app.example").build().unwrap_err();
    assert!(refused.to_string().contains(world.provider.issuer()), "{refused}");
    let urls = ["http://op.example/a", "https://op/t", "https://op/k"];
    for turn in 0..3 {
        let (mut urls, mut turned) = (urls, ["", "", ""]);
        urls.rotate_right(turn);
        turned.copy_from_slice(&urls);
        let endpoints = Endpoints::new(turned[0], turned[1], turned[2]);
        let refused = world.builder().endpoints(endpoints).build().unwrap_err();
        assert!(refused.to_string().contains("http://op.example/a"), "F05: {refused}");
    }
}

#[tokio::test]
async fn f06_redirects_are_never_followed() {
    let world = World::new().await;
    let evil = TestProvider::start().await.unwrap();
    for endpoint in [Endpoint::Discovery, Endpoint::Jwks] {
        for code in [301, 302, 303, 307, 308] {
            let to = match endpoint {
                Endpoint::Jwks => format!("{}/jwks/x", evil.issuer()),
                _ => format!("{}/.well-known/openid-configuration", evil.issuer()),
            };
            world.provider.set_behaviour(endpoint, Behaviour::Redirect { code, to });
            unstartable(&world, &layer(&world), &format!("F06: {endpoint:?} {code}")).await;
            world.provider.clear_faults();
        }
    }
    none_asked(&evil, "F06");
}

#[tokio::test]
async fn f10_unknown_and_odd_members_are_tolerated() {
    let world = World::new().await;
    world.provider.on_discovery(|document| {
        for (member, value) in [
            ("scopes_supported", json!(null)),
            ("claims_supported", json!({})),
            ("response_types_supported", json!("code")),
            ("code_challenge_methods_supported", json!({"S256": true})),
            ("id_token_signing_alg_values_supported", json!(5)),
            ("token_endpoint_auth_methods_supported", json!("x")),
            ("authorization_response_iss_parameter_supported", json!("yes")),
            ("userinfo_endpoint", json!(["x"])),
            ("check_session_iframe", json!(7)),
        ] {
            document.insert(member.to_owned(), value);
        }
        (0..10_000).for_each(|n| drop(document.insert(format!("unknown{n}"), json!([n]))));
    });
    accepted(&world, &layer(&world), "F10").await;
}

#[tokio::test]
async fn f11_documents_without_end_are_given_up() {
    let world = World::new().await;
    let short = world.builder().provider_timeout(Duration::from_millis(200)).build().unwrap();
    let long = world.builder().provider_timeout(Duration::from_secs(600)).build().unwrap();
    for endpoint in [Endpoint::Discovery, Endpoint::Jwks] {
        for (behaviour, layer) in [
            (Behaviour::Hang, &short),
            (Behaviour::Drip, &short),
            (Behaviour::Endless, &long),
            (Behaviour::HugeContentLength, &long),
        ] {
            let name = format!("F11: {endpoint:?} {behaviour:?}");
            let app = world.app(layer);
            world.provider.set_behaviour(endpoint, behaviour);
            let reply = within(&name, unstartable(&world, &app, &name)).await;
            assert_eq!(reply.status, 503, "{name}");
            assert_ne!(reply.header("retry-after"), "", "{name}");
            world.provider.clear_faults();
            // After a moment somebody may ask again.
            world.clock.advance(Duration::from_secs(1));
        }
        world.provider.on_response_headers(endpoint, |headers| {
            headers.insert("content-encoding", "gzip".parse().unwrap());
        });
        unstartable(&world, &layer(&world), "F11: compressed").await;
        world.provider.clear_faults();
    }
}

#[tokio::test]
async fn f13_pkce_is_never_given_up() {
    let world = World::new().await;
    for methods in [None, Some(json!(["plain"])), Some(json!([]))] {
        let given = methods.clone();
        world.provider.on_discovery(move |document| {
            document.remove("code_challenge_methods_supported");
            if let Some(methods) = given.clone() {
                document.insert("code_challenge_methods_supported".to_owned(), methods);
            }
        });
        let app = layer(&world);
        let url = world.browser(&app, "alice").to_provider("/").await;
        let method = parameter(&url, "code_challenge_method");
        assert_eq!(method.as_deref(), Some("S256"), "F13: {methods:?}");
        assert_eq!(parameter(&url, "code_challenge").unwrap().len(), 43);
        accepted(&world, &app, "F13").await;
    }
}

#[tokio::test]
async fn f14_metadata_never_widens_what_is_accepted() {
    let world = World::new().await;
    let app = layer(&world);
    world.provider.on_discovery(|document| {
        let algs = json!(["none", "HS256", "ES256", "RS256"]);
        document.insert("id_token_signing_alg_values_supported".to_owned(), algs);
    });
    let es256 = world.provider.published_keys().into_iter().find(|k| k.public_jwk()["kty"] == "EC");
    for signer in
        [Signer::Unsigned, Signer::Hmac(b"app-secret".to_vec()), Signer::Key(es256.unwrap())]
    {
        let name = format!("F14: {signer:?}");
        world.provider.on_id_token(move |token| token.sign_with(signer.clone()));
        let refused = refused(&world, &app, &name).await;
        assert_eq!(refused.reply.reason(), "id_token/alg", "{name}");
    }
    world.provider.on_id_token(|_| {});
    accepted(&world, &app, "F14").await;
}

#[tokio::test]
async fn f04_endpoints_come_from_the_document_alone() {
    let world = World::new().await;
    let evil = TestProvider::start().await.unwrap();
    let names = ["token_endpoint", "jwks_uri", "userinfo_endpoint", "issuer", "_links", "jku"];
    let at = evil.issuer().to_owned();
    let members = names.map(|name| (name.to_owned(), json!(format!("{at}/token"))));
    let more = members.clone();
    world.provider.on_token_response(move |tokens| tokens.extend(more.clone()));
    let more = members.clone();
    world.provider.on_userinfo(move |claims| claims.extend(more.clone()));
    world.provider.on_id_token(move |token| token.claims.extend(members.clone()));
    for endpoint in [Endpoint::Discovery, Endpoint::Token, Endpoint::Userinfo] {
        let link = format!("<{at}/token>; rel=\"token_endpoint\"");
        world.provider.on_response_headers(endpoint, move |headers| {
            headers.insert("link", link.parse().unwrap());
        });
    }
    let builder = world.builder().userinfo(Userinfo::Required);
    let app = world.app(&builder.build().unwrap());
    accepted(&world, &app, "F04").await;
    accepted(&world, &app, "F04, again").await;
    assert_eq!(world.provider.counts().token, 2);
    none_asked(&evil, "F04");
}

/// Writes down where requests go.
#[derive(Clone, Debug)]
struct Recorder {
    client: HyperClient,
    urls: Arc<Mutex<Vec<String>>>,
}

impl HttpClient for Recorder {
    fn send(&self, request: http::Request<Bytes>, max_body: usize) -> HttpFuture {
        self.urls.lock().unwrap().push(request.uri().to_string());
        self.client.send(request, max_body)
    }
}

#[tokio::test]
async fn f32_nothing_but_the_endpoints_in_use_is_asked() {
    let world = World::new().await;
    world.provider.on_discovery(|document| {
        let url = format!("{}/register", document["issuer"].as_str().unwrap());
        document.insert("registration_endpoint".to_owned(), url.into());
    });
    let urls = Arc::new(Mutex::new(Vec::new()));
    let client = Recorder { client: HyperClient::new(), urls: urls.clone() };
    let builder = world.builder().userinfo(Userinfo::Required).http_client(client);
    accepted(&world, &world.app(&builder.build().unwrap()), "F32").await;
    let issuer = world.provider.issuer();
    let keys = world.provider.requests(Endpoint::Jwks).pop().unwrap().uri;
    let paths = ["/.well-known/openid-configuration", &keys, "/token", "/userinfo"];
    let expected = paths.map(|path| format!("{issuer}{path}"));
    assert_eq!(*urls.lock().unwrap(), expected, "F32, G13: each once and in this order");
}
