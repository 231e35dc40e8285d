//! What the application sees of our cookies, what it may set, and what caches may keep (group H).

#[path = "support/pods.rs"]
mod pods;
mod support;

use axum::Router;
use axum::http::HeaderValue;
use axum::http::header::SET_COOKIE;
use axum::response::{IntoResponse as _, Response};
use axum::routing::any;
use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use pods::{Kept, seconds, session_name, with_cookies};
use support::{App, World, send};
use tower_pkce_auth::testing::provider::TestUser;

#[tokio::test]
async fn h24_the_application_sees_its_own_cookies_and_none_of_ours() {
    let world = World::new().await;
    for kept in Kept::ALL {
        let (app, _) = kept.pod(&world, |builder| {
            builder.open("/open".parse().unwrap()).optional("/optional".parse().unwrap())
        });
        let mut browser = world.browser(&app, "alice");
        browser.sign_in("/").await;
        let session = session_name(&browser);
        browser.to_provider("/auth/login?switch=1").await;
        assert_eq!(browser.jar.pending(), 1, "one more login waits");
        let ours = browser.jar.header("/").unwrap();
        let base = session.strip_suffix("-s").unwrap();
        for path in ["/open", "/optional", "/protected"] {
            let field =
                format!("theme=dark; {ours}; {base}-future=1; __Host-{base}-s=1; a=\"b c\"");
            world.reached();
            send(&app, with_cookies(path, &[field.as_bytes(), b"other=1"])).await;
            let seen = world.seen.lock().unwrap().pop().unwrap_or_else(|| panic!("{path}"));
            let cookies: Vec<_> = seen.headers.get_all("cookie").iter().collect();
            assert_eq!(cookies, ["theme=dark; a=\"b c\"", "other=1"], "H24 {kept:?} {path}");
        }
    }
}

/// An application that sets these headers on every response.
fn setting(layer: &tower_pkce_auth::PkceAuthLayer, headers: Vec<(&'static str, String)>) -> App {
    let handler = async move || {
        let mut response: Response = "page".into_response();
        for (name, value) in &headers {
            response.headers_mut().append(*name, HeaderValue::from_str(value).unwrap());
        }
        response
    };
    App::new(Router::new().fallback(any(handler)).layer(layer.clone()))
}

#[tokio::test]
async fn h25_the_application_cannot_set_our_cookies() {
    let world = World::new().await;
    let layer = world
        .builder()
        .open("/open".parse().unwrap())
        .optional("/optional".parse().unwrap())
        .build()
        .unwrap();
    let mut browser = world.browser(&world.app(&layer), "alice");
    browser.sign_in("/").await;
    let base = session_name(&browser).strip_suffix("-s").unwrap().to_owned();
    let sets = [
        format!("{base}-s=x; Path=/"),
        format!("__Host-{base}-s=x; Path=/; Secure"),
        format!("__Secure-{base}-o=x; Path=/auth/logout; Secure"),
        format!("{base}-p-0123456789abcdef=x; Path=/"),
        format!(" {base}-n =1"),
        "theme=dark; Path=/".to_owned(),
        "other=1".to_owned(),
    ];
    let sets = sets.into_iter().map(|set| ("set-cookie", set)).collect();
    browser.app = setting(&layer, sets);
    for path in ["/open", "/optional", "/protected"] {
        let reply = browser.get(path).await;
        assert_eq!(reply.body, "page", "{path}");
        assert_eq!(reply.set_cookies(), ["theme=dark; Path=/", "other=1"], "H25 {path}");
    }
}

#[tokio::test]
async fn h28_m11_m12_what_sets_our_cookie_is_in_no_shared_cache() {
    let world = World::new().await;
    let layer = world.builder().build().unwrap();
    for (name, headers, at_rest) in [
        ("no word about caches", vec![], "private, no-store"),
        (
            "public",
            vec![("cache-control", "public, max-age=600".to_owned())],
            "public, max-age=600",
        ),
        (
            "public, twice",
            vec![
                ("cache-control", "public".to_owned()),
                ("cache-control", "s-maxage=600".to_owned()),
                ("vary", "Accept".to_owned()),
            ],
            "public",
        ),
    ] {
        let mut browser = world.browser(&world.app(&layer), "alice");
        browser.sign_in("/").await;
        browser.app = setting(&layer, headers);
        let reply = browser.get("/").await;
        assert!(reply.set_cookies().is_empty(), "{name}: nothing to prolong yet");
        assert_eq!(reply.header("cache-control"), at_rest, "M11 {name}");
        world.clock.advance(seconds(61));
        let reply = browser.get("/").await;
        assert!(reply.headers.contains_key(SET_COOKIE), "{name}: prolonged");
        let caching: Vec<_> = reply.headers.get_all("cache-control").iter().collect();
        assert_eq!(caching, ["private, no-store"], "H28 M12 {name}");
        let vary: Vec<_> = reply.headers.get_all("vary").iter().collect();
        assert!(vary.contains(&&HeaderValue::from_static("Cookie")), "M12 {name}: {vary:?}");
    }
}

#[tokio::test]
async fn h35_p07_cookies_show_nothing_of_the_person() {
    let world = World::new().await;
    let person = TestUser::new("subject-canary")
        .name("Name Canary")
        .claim("private", "claim-canary")
        .email("mail-canary@example.com", true);
    world.provider.add_user(person);
    for kept in Kept::ALL {
        let (app, store) = kept.pod(&world, |builder| builder.scope("profile").scope("email"));
        let mut browser = world.browser(&app, "subject-canary");
        browser.sign_in("/").await;
        let mut texts: Vec<Vec<u8>> = Vec::new();
        for value in browser.jar.0.values() {
            let text = value.split_once('.').map_or(value.as_str(), |(_, text)| text);
            texts.push(value.clone().into_bytes());
            texts.extend(BASE64_URL_SAFE_NO_PAD.decode(text).ok());
        }
        assert!(texts.len() > browser.jar.0.len(), "{kept:?}: something was decoded");
        texts.extend(store.writes().into_iter().filter_map(|call| call.value).map(Into::into));
        for text in texts {
            let text = String::from_utf8_lossy(&text).to_lowercase();
            assert!(!text.contains("canary"), "H35 I18 {kept:?}: {text}");
        }
        let claims = browser.get("/claims").await.body;
        assert!(claims.contains("mail-canary") && claims.contains("Name Canary"), "{claims}");
        assert!(!claims.contains("claim-canary"), "P07: it is on no list: {claims}");
    }
}
