//! Signing out (group J, RP-initiated): the session is over whatever the provider does, and what is
//! sent there is what the standard asks for.

#[path = "support/pods.rs"]
mod pods;
mod support;

use std::time::Duration;

use axum::http::{Method, StatusCode};
use pods::{Kept, assert_signed_out, at, plant, seconds, session_name};
use support::{ORIGIN, Reply, World, navigation, parameter};
use tower_pkce_auth::testing::provider::{Behaviour, Endpoint, TestProvider, TestUser};
use tower_pkce_auth::{Builder, StoreErrorKind};

/// The value of a parameter of the redirect to the provider.
fn sent(reply: &Reply, name: &str) -> Option<String> {
    parameter(&reply.location(), name)
}

#[tokio::test]
async fn j02_j03_j04_j13_j14_j18_a_logout_deletes_everything_and_tells_the_provider() {
    let provider = TestProvider::builder().id_token_ttl(seconds(120));
    let world = World::with_provider(provider).await;
    for kept in Kept::ALL {
        let (one, two, _) = kept.pods(&world, |builder| builder);
        let mut states = Vec::new();
        for round in 0..2 {
            let what = format!("{kept:?} {round}");
            let mut browser = world.browser(&one, "alice");
            browser.sign_in("/").await;
            let id_token = world.provider.issued_id_tokens().pop().unwrap();
            // A second login waits, and the ID token is long expired.
            browser.to_provider("/auth/login?switch=1").await;
            world.clock.advance(seconds(300));
            let copy = browser.clone();
            let mut request = navigation(Method::POST, "/auth/logout");
            for (name, value) in [
                ("sec-fetch-site", "same-origin"),
                ("origin", ORIGIN),
                ("host", "evil.example"),
                ("x-forwarded-host", "evil.example"),
                ("forwarded", "host=evil.example"),
            ] {
                request.headers_mut().insert(name, value.parse().unwrap());
            }
            let reply = browser.send(request).await;
            assert_eq!(reply.status, StatusCode::SEE_OTHER, "{what}");
            assert!(browser.jar.names().is_empty(), "J02 {what}: {:?}", browser.jar.names());
            assert!(reply.location().starts_with(world.provider.issuer()), "J03 {what}");
            let hint = sent(&reply, "id_token_hint");
            assert_eq!(hint.as_deref(), Some(&*id_token), "J03 J13 {what}: the raw ID token");
            let back = sent(&reply, "post_logout_redirect_uri").unwrap();
            assert_eq!(back, format!("{ORIGIN}/auth/signed-out"), "J04 {what}: a constant");
            assert_eq!(sent(&reply, "client_id").as_deref(), Some("app"), "J04 {what}");
            for unasked in ["ui_locales", "logout_hint"] {
                assert_eq!(sent(&reply, unasked), None, "J18 {what}");
            }
            let state = sent(&reply, "state").unwrap();
            assert!(state.len() >= 22, "J18 {what}: {state}");
            assert!(!states.contains(&state), "J18 {what}: never the same");
            states.push(state);
            assert_signed_out(&browser, &what).await;
            assert_signed_out(&copy, &format!("J14 {what}: a copy")).await;
            if kept != Kept::Sealed {
                assert_signed_out(&at(&two, &copy), &format!("J14 {what}: a copy on pod two"))
                    .await;
            }
        }
    }
}

#[tokio::test]
async fn j01_j10_j11_the_session_is_over_whatever_the_provider_does() {
    let table: [(&str, Option<&str>, Behaviour, bool); 9] = [
        ("J01 end_session hangs", None, Behaviour::Hang, true),
        ("J01 end_session fails", None, Behaviour::status(500), true),
        ("J10 no end_session_endpoint", Some(""), Behaviour::Normal, false),
        ("J11 javascript:", Some("javascript:alert(1)"), Behaviour::Normal, false),
        ("J11 data:", Some("data:text/html,x"), Behaviour::Normal, false),
        ("J11 http elsewhere", Some("http://op.example/logout"), Behaviour::Normal, false),
        ("J11 relative", Some("/logout"), Behaviour::Normal, false),
        ("J11 credentials", Some("https://user:pass@op.example/logout"), Behaviour::Normal, false),
        ("J11 no text", Some("7"), Behaviour::Normal, false),
    ];
    for (name, endpoint, behaviour, told) in table {
        let world = World::new().await;
        if let Some(endpoint) = endpoint {
            world.provider.on_discovery(move |document| {
                document.remove("end_session_endpoint");
                let value = match endpoint {
                    "" => return,
                    "7" => 7.into(),
                    text => serde_json::Value::from(text),
                };
                document.insert("end_session_endpoint".to_owned(), value);
            });
        }
        for kept in Kept::SHARED {
            let (one, two, _) = kept.pods(&world, |builder| builder);
            let mut browser = world.browser(&one, "alice");
            assert_eq!(browser.sign_in("/").await.body, "alice", "{name} {kept:?}");
            world.provider.set_behaviour(Endpoint::EndSession, behaviour.clone());
            let copy = browser.clone();
            let reply = browser.post("/auth/logout").await;
            assert_eq!(reply.status, StatusCode::SEE_OTHER, "{name} {kept:?}");
            let to_provider = reply.location().starts_with(world.provider.issuer());
            assert_eq!(to_provider, told, "{name} {kept:?}: {}", reply.location());
            if !told {
                assert_eq!(reply.location(), "/auth/signed-out", "{name} {kept:?}");
            }
            assert_signed_out(&copy, &format!("{name} {kept:?}")).await;
            assert_signed_out(&at(&two, &copy), &format!("{name} {kept:?}: pod two")).await;
            assert_eq!(browser.get("/auth/signed-out").await.page(), Some("signed-out"), "{name}");
        }
    }
}

#[tokio::test]
async fn j01_a_provider_that_was_never_reached_does_not_hinder_a_logout() {
    let world = World::new().await;
    let store = Kept::StoredShared.store(&world);
    let pod = || Kept::StoredShared.with(world.builder(), &store).build().unwrap();
    let mut browser = world.browser(&world.app(&pod()), "alice");
    browser.sign_in("/").await;
    world.provider.set_behaviour_everywhere(&Behaviour::Hang);
    let quick = Kept::StoredShared
        .with(world.builder(), &store)
        .provider_timeout(Duration::from_millis(200))
        .build()
        .unwrap();
    browser.app = world.app(&quick);
    let copy = browser.clone();
    let reply = browser.post("/auth/logout").await;
    assert_eq!((reply.status, &*reply.location()), (StatusCode::SEE_OTHER, "/auth/signed-out"));
    assert_signed_out(&copy, "J01").await;
}

#[tokio::test]
async fn j05_the_query_of_the_endpoint_is_kept() {
    let world = World::new().await;
    let issuer = world.provider.issuer().to_owned();
    world.provider.on_discovery(move |document| {
        let endpoint = format!("{issuer}/end_session?tenant=a%20b&x=");
        document.insert("end_session_endpoint".to_owned(), endpoint.into());
    });
    let mut browser = world.browser(&world.app(&world.builder().build().unwrap()), "alice");
    browser.sign_in("/").await;
    let reply = browser.post("/auth/logout").await;
    let location = reply.location();
    assert!(location.contains("/end_session?tenant=a%20b&x=&"), "J05: {location}");
    assert_eq!(sent(&reply, "client_id").as_deref(), Some("app"), "J05");
}

#[tokio::test]
async fn j06_a_large_id_token_makes_no_url_that_a_provider_refuses() {
    let world = World::new().await;
    world.provider.add_user(TestUser::new("large").claim("blob", "x".repeat(4_500)));
    for kept in Kept::ALL {
        let (app, _) = kept.pod(&world, |builder| builder);
        let mut browser = world.browser(&app, "large");
        assert_eq!(browser.sign_in("/").await.body, "large");
        assert!(world.provider.issued_id_tokens().pop().unwrap().len() > 6_000);
        let reply = browser.post("/auth/logout").await;
        assert_signed_out(&browser, "J06").await;
        if reply.status.is_redirection() {
            let length = reply.location().len();
            assert!(length < 4_096, "J06 {kept:?}: a URL of {length} bytes");
            assert_eq!(sent(&reply, "client_id").as_deref(), Some("app"), "J06 {kept:?}");
        } else {
            assert!(reply.body.contains("method=\"post\""), "J06 {kept:?}: a form instead");
        }
    }
}

#[tokio::test]
async fn j07_j08_the_landing_takes_nothing_from_its_query() {
    let world = World::new().await;
    let app = world.app(&world.builder().build().unwrap());
    let plain = world.browser(&app, "alice").get("/auth/signed-out").await;
    assert_eq!((plain.status, plain.page()), (StatusCode::OK, Some("signed-out")));
    for query in [
        "",
        "state=state_INVALID",
        "state=",
        "state=a&state=b",
        "state=//evil.example&return_to=//evil.example",
        "state=https%3A%2F%2Fevil.example&post_logout_redirect_uri=https://evil.example",
        "return_to=javascript:alert(1)&error=x&error_description=%3Cscript%3E",
        "state=%ff%00%zz&&&=",
    ] {
        for signed_in in [false, true] {
            let mut browser = world.browser(&app, "alice");
            if signed_in {
                browser.sign_in("/").await;
            }
            let reply = browser.get(&format!("/auth/signed-out?{query}")).await;
            assert_eq!(reply.status, StatusCode::OK, "J07 {query}");
            assert!(!reply.headers.contains_key("location"), "J08 {query}");
            assert_eq!(reply.body, plain.body, "J08 {query}: nothing of it is shown");
            let expected = signed_in.then(|| "alice".to_owned());
            assert_eq!(browser.who().await, expected, "J07 {query}: it ends nothing");
        }
    }
}

#[tokio::test]
async fn j09_o18_nobody_else_can_trigger_a_logout() {
    let world = World::new().await;
    for kept in Kept::ALL {
        let (app, _) = kept.pod(&world, |builder| builder);
        let mut browser = world.browser(&app, "alice");
        browser.sign_in("/").await;
        for (method, site, dest, origin) in [
            (Method::GET, Some("cross-site"), "image", None),
            (Method::GET, Some("cross-site"), "document", None),
            (Method::GET, Some("same-origin"), "document", None),
            (Method::HEAD, Some("cross-site"), "document", None),
            (Method::POST, Some("cross-site"), "document", Some("https://evil.example")),
            (Method::POST, Some("same-site"), "document", Some("http://localhost:9999")),
            (Method::POST, Some("cross-site"), "iframe", Some("null")),
            (Method::POST, None, "document", Some("null")),
            (Method::POST, None, "document", Some("https://evil.example")),
            (Method::POST, None, "document", None),
            (Method::PUT, Some("same-origin"), "document", Some(ORIGIN)),
            (Method::DELETE, Some("same-origin"), "document", Some(ORIGIN)),
        ] {
            let what = format!("J09 {kept:?} {method} {site:?} {dest} {origin:?}");
            let mut request = navigation(method.clone(), "/auth/logout");
            let headers = request.headers_mut();
            headers.remove("sec-fetch-site");
            headers.insert("sec-fetch-dest", dest.parse().unwrap());
            for (name, value) in [("sec-fetch-site", site), ("origin", origin)] {
                if let Some(value) = value {
                    headers.insert(name, value.parse().unwrap());
                }
            }
            let reply = browser.send(request).await;
            let expected = match method {
                Method::GET | Method::HEAD => StatusCode::OK,
                Method::POST => StatusCode::FORBIDDEN,
                _ => StatusCode::METHOD_NOT_ALLOWED,
            };
            assert_eq!(reply.status, expected, "{what}");
            assert!(reply.set_cookies().is_empty(), "{what}");
            assert_eq!(browser.who().await.as_deref(), Some("alice"), "{what}");
        }
        let page = browser.get("/auth/logout").await;
        assert_eq!(page.page(), Some("confirm-sign-out"), "J09: a link asks first");
        assert_eq!(browser.post("/auth/logout").await.status, StatusCode::SEE_OTHER);
    }
}

#[tokio::test]
async fn j12_a_logout_without_a_session_is_no_error() {
    let world = World::new().await;
    for kept in Kept::ALL {
        let (app, _) = kept.pod(&world, |builder| builder);
        let mut once = world.browser(&app, "alice");
        once.sign_in("/").await;
        let name = session_name(&once);
        let stale = once.clone();
        once.post("/auth/logout").await;
        let mut garbage = world.browser(&app, "alice");
        plant(&mut garbage, &name, "garbage");
        plant(&mut garbage, &format!("{name}3"), "a chunk of it");
        let never = world.browser(&app, "alice");
        let before = world.provider.counts();
        for (what, mut browser) in
            [("twice", once), ("a dead session", stale), ("garbage", garbage), ("never", never)]
        {
            let reply = browser.post("/auth/logout").await;
            assert_eq!(reply.status, StatusCode::SEE_OTHER, "J12 {kept:?} {what}");
            assert_eq!(reply.location(), "/auth/signed-out", "J12 {kept:?} {what}");
            assert!(
                browser.jar.names().is_empty(),
                "J12 {kept:?} {what}: {:?}",
                browser.jar.names()
            );
            let page = browser.get("/auth/logout").await;
            assert_eq!(page.page(), Some("signed-out"), "J12 {kept:?} {what}");
        }
        assert_eq!(world.provider.counts(), before, "J12 {kept:?}: the provider is not asked");
    }
}

#[tokio::test]
async fn j15_the_back_button_shows_nothing() {
    let world = World::new().await;
    let mut browser = world.browser(&world.app(&world.builder().build().unwrap()), "alice");
    browser.sign_in("/").await;
    let page = browser.get("/secret").await;
    assert!(page.header("cache-control").contains("no-store"), "J15: {:?}", page.headers);
    let confirm = browser.get("/auth/logout").await;
    assert_eq!(confirm.header("cache-control"), "no-store", "J15: it names the person");
}

#[tokio::test]
async fn i19_j16_a_logout_revokes_the_tokens_and_waits_for_nobody() {
    let provider = TestProvider::builder().refresh_tokens(true);
    let world = World::with_provider(provider).await;
    let quick = |builder: Builder| builder.provider_timeout(Duration::from_millis(200));
    let (app, _) = Kept::StoredShared.pod(&world, quick);
    for behaviour in [Behaviour::Normal, Behaviour::status(500), Behaviour::Refuse, Behaviour::Hang]
    {
        let token = std::sync::Arc::new(std::sync::Mutex::new(String::new()));
        let sink = token.clone();
        world.provider.on_token_response(move |response| {
            *sink.lock().unwrap() = response["refresh_token"].as_str().unwrap().to_owned();
        });
        let mut browser = world.browser(&app, "alice");
        browser.sign_in("/").await;
        world.provider.reset_counts();
        world.provider.set_behaviour(Endpoint::Revocation, behaviour.clone());
        let reply = browser.post("/auth/logout").await;
        assert_eq!(reply.status, StatusCode::SEE_OTHER, "J16 {behaviour:?}");
        assert!(browser.jar.names().is_empty(), "J16 {behaviour:?}");
        assert_signed_out(&browser, "J16").await;
        // Best effort, so perhaps after the answer: wait for it, but not for ever.
        let asked = async {
            while world.provider.counts().revocation == 0 {
                tokio::task::yield_now().await;
            }
        };
        let asked = tokio::time::timeout(seconds(3), asked).await;
        assert!(asked.is_ok(), "I19 J16 {behaviour:?}: nothing is revoked");
        if behaviour == Behaviour::Normal {
            let requests = world.provider.requests(Endpoint::Revocation);
            let token = token.lock().unwrap().clone();
            let ours = requests.iter().find(|request| request.form_value("token") == Some(&token));
            let ours = ours.expect("I19: the refresh token is revoked");
            assert_eq!(ours.form_value("token_type_hint"), Some("refresh_token"), "I19");
            assert!(ours.basic_credentials().is_some(), "I19: authenticated");
        }
        world.provider.clear_faults();
    }
}

/// DESIGN: "Local logout with the store away: cookie deleted, a 503 page 'signed out in this
/// browser only', the mark retried while the process lives."
#[tokio::test]
async fn j01_a_logout_while_the_store_is_away_holds_as_soon_as_it_is_back() {
    for (kept, seen) in
        [(Kept::SealedShared, true), (Kept::SealedShared, false), (Kept::StoredShared, true)]
    {
        let what = format!("{kept:?}, marks seen: {seen}");
        let world = World::new().await;
        let (one, two, store) = kept.pods(&world, |builder| builder);
        let mut browser = world.browser(&one, "alice");
        browser.sign_in("/").await;
        if !seen {
            browser.app = two.clone();
        }
        let copy = browser.clone();
        store.fail(StoreErrorKind::Unavailable);
        let reply = browser.post("/auth/logout").await;
        assert_eq!(reply.status, StatusCode::SERVICE_UNAVAILABLE, "{what}");
        assert_eq!(reply.page(), Some("signed-out-here-only"), "{what}");
        assert!(browser.jar.names().is_empty(), "{what}: {:?}", browser.jar.names());
        store.recover();
        store.forget_calls();
        let over = async {
            while at(&two, &copy).who().await.is_some() {
                // The first retry comes after a second.
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        let over = tokio::time::timeout(seconds(5), over).await;
        assert!(over.is_ok(), "{what}: the session is never ended");
        assert_signed_out(&at(&one, &copy), &format!("{what}: on both pods")).await;
    }
}

#[tokio::test]
async fn j38_signing_out_everywhere_ends_the_sessions_of_all_browsers() {
    for kept in Kept::ALL {
        let world = World::new().await;
        let (one, two, store) = kept.pods(&world, |builder| builder);
        let mut here = world.browser(&one, "alice");
        here.sign_in("/").await;
        let mut phone = world.browser(&one, "alice");
        phone.sign_in("/").await;
        let mut bob = world.browser(&one, "bob");
        bob.sign_in("/").await;
        let page = here.get("/auth/logout").await;
        assert_eq!(page.page(), Some("confirm-sign-out"), "{kept:?}");
        // Sealed sessions without a shared store: nobody could promise it.
        let offered = kept != Kept::Sealed;
        for (part, there) in [
            ("<form method=\"post\" action=\"/auth/logout\"", true),
            ("<form method=\"post\" action=\"/auth/logout?everywhere=1\"", offered),
            ("data-action=\"sign-out-everywhere\"", offered),
            ("in all other browsers", offered),
            ("data-action=\"stay\"", true),
        ] {
            assert_eq!(page.body.contains(part), there, "{kept:?}: {part}");
        }
        // Nobody else can press it, and asking for the page is not pressing it.
        for (method, site) in [(Method::GET, "none"), (Method::POST, "cross-site")] {
            let mut request = navigation(method, "/auth/logout?everywhere=1");
            request.headers_mut().insert("sec-fetch-site", site.parse().unwrap());
            here.send(request).await;
            assert_eq!(phone.who().await.as_deref(), Some("alice"), "J09 {kept:?} {site}");
            assert_eq!(here.who().await.as_deref(), Some("alice"), "J09 {kept:?} {site}");
        }
        let copy = here.clone();
        let reply = here.post("/auth/logout?everywhere=1").await;
        assert_eq!(reply.status, StatusCode::SEE_OTHER, "{kept:?}");
        assert!(reply.location().starts_with(world.provider.issuer()), "{kept:?}: as any sign-out");
        assert!(sent(&reply, "id_token_hint").is_some(), "J03 {kept:?}");
        assert!(here.jar.names().is_empty(), "J02 {kept:?}: {:?}", here.jar.names());
        for browser in [&copy, &phone] {
            assert_signed_out(browser, &format!("{kept:?}")).await;
            if Kept::SHARED.contains(&kept) {
                assert_signed_out(&at(&two, browser), &format!("{kept:?}: pod two")).await;
            }
        }
        assert_eq!(bob.who().await.as_deref(), Some("bob"), "{kept:?}");
        phone.sign_in("/auth/login?switch=1").await;
        assert_eq!(phone.who().await.as_deref(), Some("alice"), "{kept:?}: signing in again");

        // An ordinary sign-out leaves the others alone, also under another query.
        for query in ["", "?everywhere=0", "?everywhere", "?nowhere=1"] {
            let mut here = world.browser(&one, "alice");
            here.sign_in("/").await;
            here.post(&format!("/auth/logout{query}")).await;
            assert_eq!(phone.who().await.as_deref(), Some("alice"), "{kept:?} {query}");
        }
        drop(store);
    }
}

#[tokio::test]
async fn j38_signing_out_everywhere_is_tried_again_until_the_store_took_it() {
    for kept in Kept::SHARED {
        for spoilt in [("swap", "{marks}"), ("load", "person"), ("take", "session")] {
            if spoilt.1 == "session" && !kept.is_stored() {
                continue;
            }
            let what = format!("{kept:?} {spoilt:?}");
            let world = World::new().await;
            let (one, two, store) = kept.pods(&world, |builder| builder);
            let mut here = world.browser(&one, "alice");
            here.sign_in("/").await;
            let mut phone = world.browser(&two, "alice");
            phone.sign_in("/").await;
            store.fail_only(spoilt.0, spoilt.1);
            let reply = here.post("/auth/logout?everywhere=1").await;
            assert_eq!(reply.status, StatusCode::SERVICE_UNAVAILABLE, "{what}");
            assert_eq!(reply.page(), Some("signed-out-here-only"), "{what}");
            assert!(reply.body.contains("tried again"), "{what}");
            store.recover();
            let over = async {
                while phone.who().await.is_some() {
                    // The first retry comes after a second.
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
            };
            assert!(tokio::time::timeout(seconds(5), over).await.is_ok(), "{what}: never");
        }
    }
    // Where nobody can tell whose session it is, the page does not promise it.
    let world = World::new().await;
    let (app, store) = Kept::StoredShared.pod(&world, |builder| builder);
    let mut here = world.browser(&app, "alice");
    here.sign_in("/").await;
    store.fail(StoreErrorKind::Unavailable);
    let reply = here.post("/auth/logout?everywhere=1").await;
    assert_eq!(reply.page(), Some("signed-out-here-only"));
    assert!(reply.body.contains("sign out everywhere then"), "{}", reply.body);
    store.recover();
}
