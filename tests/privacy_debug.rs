//! What nobody may read (group P): `Debug` output, URLs, and what goes to the provider.

#[path = "support/pods.rs"]
mod pods;
mod support;

use axum::http::{HeaderName, Method, StatusCode};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use pods::Kept;
use support::{App, World, navigation, parameter, send, with_parameter};
use tower_pkce_auth::testing::SignedIn;
use tower_pkce_auth::testing::provider::{Endpoint, TestProvider, TestUser};
use tower_pkce_auth::{Builder, ClientSecret, CookieKeys, Endpoints, MemoryStore, Userinfo};

const SECRET: &str = "canary~client~secret";

#[tokio::test]
async fn p02_debug_output_shows_no_secret() {
    let world = World::with_provider(TestProvider::builder().client_secret(SECRET)).await;
    let line = CookieKeys::new_key_line();
    let keys: CookieKeys = line.parse().unwrap();
    let secret = ClientSecret::new(SECRET);
    let store = MemoryStore::new();
    let builder =
        || -> Builder { world.builder().cookie_keys(line.parse().unwrap()).store(store.clone()) };
    let layer = builder().build().unwrap();
    let app: App = world.app(&layer);
    let mut browser = world.browser(&app, "alice");
    browser.to_provider("/").await;
    let waiting = format!("{layer:?}{store:?}");
    browser.sign_in("/").await;
    let cookie = SignedIn::new("alice").cookie(&layer).await;
    let service = tower::Layer::layer(
        &layer,
        tower::service_fn(|_: axum::extract::Request| async {
            Ok::<_, std::convert::Infallible>(axum::response::Response::new(
                axum::body::Body::empty(),
            ))
        }),
    );
    let mut called = service.clone();
    let request = pods::with_cookies("/", &[cookie.as_bytes()]);
    let future = tower::Service::call(&mut called, request);
    let endpoints = Endpoints::new(
        "https://op.example/authorize",
        "https://op.example/token",
        "https://op.example/jwks",
    );
    let error = send(&app, pods::with_cookies("/", &[])).await.error.unwrap();
    let text = format!(
        "{waiting}{:?}{layer:?}{service:?}{future:?}{keys:?}{secret:?}{store:?}{endpoints:?}\
         {error:?}{error}{cookie:?}{:?}{:?}",
        builder(),
        builder().public_client().build(),
        builder().client_secret(ClientSecret::new(SECRET)).build().map(drop),
    );
    let bytes = BASE64_STANDARD.decode(&line).unwrap();
    for (name, shown) in [
        ("client secret", SECRET.to_owned()),
        ("key line", line),
        ("key bytes", format!("{:?}", &bytes[..8]).trim_matches(&['[', ']'][..]).to_owned()),
        ("key in hex", bytes[..8].iter().map(|byte| format!("{byte:02x}")).collect()),
    ] {
        assert!(!text.contains(&shown), "P02: the {name} is shown");
    }
    let value = browser.jar.ending("-s").unwrap();
    let printed = format!("{layer:?}{store:?}{waiting}");
    assert!(!printed.contains(value), "P02: a session");
    let bytes = format!("{:?}", &value.as_bytes()[..16]);
    assert!(!printed.contains(bytes.trim_matches(['[', ']'])), "P02: a session, byte by byte");
    assert!(text.len() > 500, "there is something to look at");
}

#[tokio::test]
async fn p12_headers_of_clients_do_not_reach_the_provider() {
    let world = World::new().await;
    let (app, _) = Kept::Sealed.pod(&world, |builder| builder.userinfo(Userinfo::Required));
    let mut browser = world.browser(&app, "alice");
    let names = [
        "baggage",
        "traceparent",
        "tracestate",
        "x-request-id",
        "x-correlation-id",
        "referer",
        "user-agent",
    ];
    let callback = browser.to_callback("/").await;
    let mut request = navigation(Method::GET, &callback);
    for name in names {
        let name: HeaderName = name.parse().unwrap();
        request.headers_mut().insert(name, "canary=1".parse().unwrap());
    }
    assert_eq!(browser.send(request).await.status, StatusCode::SEE_OTHER);
    for endpoint in [Endpoint::Discovery, Endpoint::Jwks, Endpoint::Token, Endpoint::Userinfo] {
        let requests = world.provider.requests(endpoint);
        assert!(!requests.is_empty(), "{endpoint:?}");
        for request in requests {
            let text = format!("{:?} {}", request.headers, request.uri);
            assert!(!text.contains("canary"), "P12 {endpoint:?}: {text}");
            assert_eq!(request.header("cookie"), None, "P12 {endpoint:?}");
            assert!(!request.uri.contains('?'), "P14 {endpoint:?}: {}", request.uri);
        }
    }
}

#[tokio::test]
async fn p14_urls_hold_no_token_and_no_person() {
    let world = World::new().await;
    world.provider.add_user(
        TestUser::new("canary-sub").name("Canary Name").email("canary@example.com", true),
    );
    for kept in Kept::ALL {
        let (app, _) = kept.pod(&world, |builder| builder.scope("profile").scope("email"));
        let mut browser = world.browser(&app, "canary-sub");
        let mut places = vec![browser.get("/page").await.location()];
        places.push(browser.get("/auth/login").await.location());
        let callback = browser.to_callback("/page").await;
        places.push(browser.get(&callback).await.location());
        places.push(browser.get("/auth/login?return_to=/page").await.location());
        places.push(browser.get("/auth/login?switch=1").await.location());
        // A link to a login that was used up.
        let mut late = world.browser(&app, "canary-sub");
        places.push(late.get(&callback).await.location());
        for page in ["/auth/logout", "/auth/signed-out"] {
            let body = browser.get(page).await.body;
            let links = body.split("href=\"").chain(body.split("action=\"")).skip(1);
            places.extend(links.filter_map(|rest| rest.split('"').next()).map(str::to_owned));
        }
        let logout = browser.post("/auth/logout").await.location();
        assert!(parameter(&logout, "id_token_hint").is_some());
        places.push(with_parameter(&logout, "id_token_hint", None));
        let token = world.provider.issued_id_tokens().pop().unwrap();
        for place in places {
            let place = place.lines().next().unwrap_or_default();
            assert!(!place.contains("canary"), "P14 {kept:?}: {place}");
            assert!(!token.split('.').any(|part| place.contains(part)), "P14 {kept:?}: {place}");
        }
    }
}
