//! Sessions (group H): made anew at each login, ended by time, by logout and by retired keys, on
//! one pod and on two. Each table runs over the ways to keep them.

#[path = "support/pods.rs"]
mod pods;
mod support;

use std::collections::HashSet;

use axum::http::StatusCode;
use pods::{Kept, assert_signed_out, at, minutes, plant, seconds, session_name};
use support::{Browser, ORIGIN, World, parameter};
use tower_pkce_auth::testing::SignedIn;
use tower_pkce_auth::testing::provider::TestProvider;
use tower_pkce_auth::{ClientId, Clock as _, CookieKeys, PkceAuthLayer};

const ALICE: Option<&str> = Some("alice");

async fn assert_who(browser: &mut Browser, expected: Option<&str>, what: &str) {
    match expected {
        Some(_) => assert_eq!(browser.who().await.as_deref(), expected, "{what}"),
        None => assert_signed_out(browser, what).await,
    }
}

#[tokio::test]
async fn h01_h27_every_login_makes_a_new_session_and_adopts_none() {
    let world = World::new().await;
    for kept in Kept::ALL {
        let (app, _) = kept.pod(&world, |builder| builder);
        let mut browser = world.browser(&app, "alice");
        browser.sign_in("/").await;
        let name = session_name(&browser);
        let first = browser.clone();
        let first_value = browser.jar.ending("-s").unwrap().to_owned();

        let forged = format!("v1.{}", "A".repeat(64));
        for planted in ["attacker", &forged, "s1.AAAA", "s5.AAAA", ""] {
            let mut victim = world.browser(&app, "alice");
            plant(&mut victim, &name, planted);
            assert_who(&mut victim, None, planted).await;
            plant(&mut victim, &name, planted);
            assert_eq!(victim.sign_in("/").await.body, "alice", "H01 {kept:?}");
            assert_ne!(victim.jar.ending("-s"), Some(planted), "H01 {kept:?}");
            let mut attacker = world.browser(&app, "mallory");
            plant(&mut attacker, &name, planted);
            assert_who(&mut attacker, None, "H01: what was planted stays nobody's").await;
        }

        browser.user = "bob".to_owned();
        let reply = browser.sign_in("/auth/login?switch=1").await;
        assert_eq!(reply.body, "bob", "H27 {kept:?}");
        assert_ne!(browser.jar.ending("-s"), Some(&*first_value), "H27 {kept:?}");
        assert_who(&mut first.clone(), None, &format!("H27 {kept:?}: the old one is over")).await;
        assert_who(&mut browser, Some("bob"), "H27: the new one is not").await;
    }
}

#[tokio::test]
async fn h02_reference_ids_are_long_and_never_the_same() {
    let world = World::new().await;
    let store = Kept::Stored.store(&world);
    let layer = Kept::Stored.with(world.builder(), &store).build().unwrap();
    let mut seen = HashSet::new();
    for _ in 0..2_000 {
        let cookie = SignedIn::new("alice").cookie(&layer).await;
        let (_, value) = cookie.to_str().unwrap().split_once("=v1.").unwrap();
        assert_eq!(value.len(), 119, "16 bytes of id and 32 of key, sealed");
        assert!(seen.insert(value.to_owned()), "H02");
    }
    assert_eq!(store.keys("session").len(), 2_000, "H02: one record each");
}

#[tokio::test]
async fn h14_idleness_ends_a_session_and_use_prolongs_it() {
    let world = World::new().await;
    for kept in Kept::ALL {
        let (app, _) = kept.pod(&world, |builder| builder.session_idle(minutes(10)));
        let mut browser = world.browser(&app, "alice");
        browser.sign_in("/").await;
        for minute in 0..6 {
            world.clock.advance(minutes(5));
            assert_who(&mut browser, ALICE, &format!("H14 {kept:?} in use, {minute}")).await;
        }
        world.clock.advance(minutes(10));
        assert_who(&mut browser, None, &format!("H14 {kept:?}: the cookie is still there")).await;
        assert!(browser.jar.ending("-s").is_some(), "H14 {kept:?}: the server decides");
    }
}

#[tokio::test]
async fn h14_a_short_idle_time_does_not_end_a_session_in_use() {
    let world = World::new().await;
    for kept in Kept::ALL {
        for idle in [30, 90] {
            let (app, _) = kept.pod(&world, |builder| builder.session_idle(seconds(idle)));
            let mut browser = world.browser(&app, "alice");
            browser.sign_in("/").await;
            for step in 1..=9 {
                world.clock.advance(seconds(idle * 5 / 9));
                let what =
                    format!("H14 {kept:?}: idle {idle} s, used each {} s, {step}", idle * 5 / 9);
                assert_who(&mut browser, ALICE, &what).await;
            }
        }
    }
}

#[tokio::test]
async fn h15_i20_h16_nothing_prolongs_the_absolute_lifetime() {
    let world = World::new().await;
    for kept in Kept::ALL {
        let (app, _) = kept.pod(&world, |builder| builder.session_absolute(minutes(60)));
        let mut browser = world.browser(&app, "alice");
        browser.sign_in("/").await;
        let at_login = browser.clone();
        for _ in 0..11 {
            world.clock.advance(minutes(5));
            assert_who(&mut browser, ALICE, &format!("H15 {kept:?}")).await;
        }
        world.clock.advance(minutes(5));
        for mut copy in [browser, at_login] {
            assert_who(&mut copy, None, &format!("H15 {kept:?}: used all the time")).await;
        }

        let end = world.clock.now().as_secs() + 600;
        world.provider.on_id_token(move |draft| draft.set("session_expiry", end));
        let mut browser = world.browser(&app, "alice");
        browser.sign_in("/").await;
        world.provider.clear_faults();
        world.clock.advance(seconds(590));
        assert_who(&mut browser, ALICE, &format!("H16 {kept:?}")).await;
        world.clock.advance(seconds(20));
        assert_who(&mut browser, None, &format!("H16 {kept:?}: the provider's bound")).await;
    }
}

#[tokio::test]
async fn i22_asking_how_long_it_lasts_prolongs_nothing() {
    let world = World::new().await;
    for kept in Kept::ALL {
        let (app, _) = kept.pod(&world, |builder| builder.session_idle(minutes(10)));
        let mut browser = world.browser(&app, "alice");
        browser.sign_in("/").await;
        for minute in 1..10 {
            world.clock.advance(minutes(1));
            let reply = browser.get("/auth/session").await;
            assert_eq!(reply.status, StatusCode::OK, "I22 {kept:?} {minute}");
            assert!(reply.set_cookies().is_empty(), "I22 {kept:?}");
        }
        world.clock.advance(minutes(1));
        assert_eq!(browser.get("/auth/session").await.status, StatusCode::UNAUTHORIZED);
        assert_who(&mut browser, None, &format!("I22 {kept:?}")).await;
    }
}

#[tokio::test]
async fn h10_h20_j14_a_session_is_valid_and_over_on_all_pods_at_once() {
    let world = World::new().await;
    for kept in Kept::ALL {
        let (one, two, _) = kept.pods(&world, |builder| builder);
        let mut browser = world.browser(&one, "alice");
        browser.sign_in("/").await;
        let mut elsewhere = at(&two, &browser);
        for _ in 0..100 {
            assert_who(&mut elsewhere, ALICE, &format!("H20 {kept:?}")).await;
        }
        let copy = browser.clone();
        browser.post("/auth/logout").await;
        assert_who(&mut copy.clone(), None, &format!("H10 {kept:?}: this pod")).await;
        // DESIGN "What holds where": without a store a logout reaches this process alone.
        let expected = if kept == Kept::Sealed { ALICE } else { None };
        assert_who(&mut at(&two, &copy), expected, &format!("H10 J14 {kept:?}: pod two")).await;
    }
}

/// Somebody else's session is not ended along with it.
#[tokio::test]
async fn h10_a_logout_ends_one_session_and_no_other() {
    let world = World::new().await;
    for kept in Kept::ALL {
        let (app, _) = kept.pod(&world, |builder| builder);
        let mut laptop = world.browser(&app, "alice");
        let mut phone = world.browser(&app, "alice");
        let mut bob = world.browser(&app, "bob");
        for browser in [&mut laptop, &mut phone, &mut bob] {
            browser.sign_in("/").await;
        }
        laptop.post("/auth/logout").await;
        assert_who(&mut laptop, None, &format!("{kept:?}")).await;
        assert_who(&mut phone, ALICE, &format!("{kept:?}: local logout is of this session")).await;
        assert_who(&mut bob, Some("bob"), &format!("{kept:?}")).await;
    }
}

#[tokio::test]
async fn h21_keys_rotate_without_signing_anybody_out() {
    let world = World::new().await;
    let (a, b) = (CookieKeys::new_key_line(), CookieKeys::new_key_line());
    let ring = |lines: &[&str]| lines.join("\n").parse::<CookieKeys>().unwrap();
    for kept in Kept::ALL {
        let store = kept.store(&world);
        let pod = |lines: &[&str]| {
            let builder = kept.with(world.builder(), &store).cookie_keys(ring(lines));
            world.app(&builder.build().unwrap())
        };
        let before = pod(&[&a]);
        let announced = pod(&[&a, &b]);
        let sealing = pod(&[&b, &a]);
        let retired = pod(&[&b]);

        let mut old = world.browser(&before, "alice");
        old.sign_in("/").await;
        for (step, app) in [("announced", &announced), ("sealing", &sealing)] {
            let what = format!("H21 {kept:?}: {step}");
            assert_who(&mut at(app, &old), ALICE, &what).await;
        }
        let mut new = world.browser(&sealing, "bob");
        assert_eq!(new.sign_in("/").await.body, "bob");
        assert_who(&mut at(&announced, &new), Some("bob"), "H21: a mixed fleet").await;
        // A login that one pod starts and the other finishes.
        let mut across = world.browser(&sealing, "bob");
        let callback = across.to_callback("/").await;
        across.app = announced.clone();
        across.get(&callback).await;
        assert_who(&mut across, Some("bob"), &format!("H21 {kept:?}: across")).await;

        assert_who(&mut at(&retired, &old), None, &format!("H21 {kept:?}: retired")).await;
        let what = format!("H21 {kept:?}: sealed under the new key, so nothing was retired for it");
        assert_who(&mut at(&retired, &new), Some("bob"), &what).await;
    }
}

#[tokio::test]
async fn h33_o21_a_session_of_one_application_is_nobodys_at_another() {
    let world = World::new().await;
    let others = [
        ("another client", "other", ORIGIN, "/auth"),
        ("another port", "app", "http://localhost:8081", "/auth"),
        ("another host", "app", "http://127.0.0.1:8080", "/auth"),
        ("another mount", "app", "http://localhost:8080/app", "/auth"),
        ("another prefix", "app", ORIGIN, "/sso"),
    ];
    for kept in Kept::ALL {
        let store = kept.store(&world);
        let app = world.app(&kept.with(world.builder(), &store).build().unwrap());
        let mut browser = world.browser(&app, "alice");
        browser.sign_in("/").await;
        let value = browser.jar.ending("-s").unwrap().to_owned();
        for (name, client, url, prefix) in others {
            let issuer = world.provider.issuer().parse().unwrap();
            let builder =
                PkceAuthLayer::builder(issuer, ClientId::new(client), url.parse().unwrap())
                    .public_client()
                    .prefix(prefix)
                    .cookie_keys(world.keys.clone())
                    .clock(world.clock.clone());
            let layer = kept.with(builder, &store).build().unwrap();
            let mut visitor = world.browser(&world.app(&layer), "alice");
            let cookie = SignedIn::new("bob").cookie(&layer).await;
            let (theirs, _) = cookie.to_str().unwrap().split_once('=').unwrap();
            assert_ne!(theirs, session_name(&browser), "O21 {kept:?} {name}: names differ");
            plant(&mut visitor, theirs, &*value);
            assert_who(&mut visitor, None, &format!("H33 {kept:?} {name}")).await;
        }
    }
}

#[tokio::test]
async fn h03_h05_h13_h17_cookies_on_https_are_host_bound_and_short_lived() {
    const HTTPS: &str = "https://rp.example";
    let provider = TestProvider::builder().redirect_uri(format!("{HTTPS}/auth/callback"));
    let world = World::with_provider(provider).await;
    for kept in Kept::ALL {
        let store = kept.store(&world);
        let builder = kept.with(world.builder_at(HTTPS).danger_allow_http_provider(), &store);
        let app = world.app(&builder.build().unwrap());
        let mut browser = Browser { origin: HTTPS.to_owned(), ..world.browser(&app, "alice") };
        let url = browser.to_provider("/").await;
        assert_eq!(
            parameter(&url, "redirect_uri").as_deref(),
            Some("https://rp.example/auth/callback")
        );
        let location = world.provider.authorize_as(&url, "alice").await.unwrap();
        let mut request = support::navigation(axum::http::Method::GET, &browser.local(&location));
        // H05: the hop behind TLS termination is plain, and says so.
        request.headers_mut().insert("x-forwarded-proto", "http".parse().unwrap());
        request.headers_mut().insert("host", "10.0.0.1:8080".parse().unwrap());
        let reply = browser.send(request).await;
        let cookies = reply.set_cookies();
        assert!(cookies.iter().any(|cookie| cookie.contains("-s=")), "{kept:?} {cookies:?}");
        for cookie in cookies {
            let (name, rest) = cookie.split_once('=').unwrap();
            let hint = name.ends_with("-o");
            let (prefix, path) = match hint {
                true => ("__Secure-auth_", "Path=/auth/logout"),
                false => ("__Host-auth_", "Path=/"),
            };
            assert!(name.starts_with(prefix), "H03 {kept:?}: {name}");
            let attributes: Vec<&str> = rest.split("; ").skip(1).collect();
            for wanted in ["Secure", "HttpOnly", "SameSite=Lax", path] {
                assert!(attributes.contains(&wanted), "H03 H05 {kept:?}: {cookie} lacks {wanted}");
            }
            assert!(!attributes.iter().any(|text| text.starts_with("Domain")), "H03 {cookie}");
            let age = attributes.iter().find_map(|text| text.strip_prefix("Max-Age=")).unwrap();
            assert!(age.parse::<u64>().unwrap() <= 12 * 3600, "H17 {kept:?}: {cookie}");
        }
        assert_who(&mut browser, ALICE, "https").await;
        let name = session_name(&browser);
        let value = browser.jar.ending("-s").unwrap().to_owned();
        for other in
            [name.to_lowercase(), name.replace("__Host-", ""), name.replace("Host", "Secure")]
        {
            let mut visitor = Browser { jar: Default::default(), ..browser.clone() };
            plant(&mut visitor, &other, &*value);
            assert_who(&mut visitor, None, &format!("H13 {kept:?}: {other}")).await;
        }
    }
    let plain = world.builder_at("http://rp.example").build().unwrap_err();
    assert!(plain.to_string().contains("TLS"), "H05: {plain}");
}
