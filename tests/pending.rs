//! Group B: a pending login belongs to one browser, and is used once.

#[path = "support/logins.rs"]
mod logins;
mod support;

use std::time::Duration;

use axum::http::{Method, StatusCode};
use logins::{apps, assert_no_session, assert_restarts, redeemed};
use support::{Browser, World, navigation, parameter, with_parameter};
use tower_pkce_auth::Pending;
use tower_pkce_auth::testing::provider::{Endpoint, TestProvider};

#[tokio::test]
async fn b01_b02_b24_login_csrf_succeeds_never_and_costs_nobody_a_login() {
    let world = World::new().await;
    for (backend, app) in apps(&world) {
        let mut signed_in_as_attacker = 0;
        for trial in 0..20 {
            let case = format!("{backend} {trial}");
            let mut attacker = world.browser(&app, "mallory");
            let trap = attacker.to_callback("/trap").await;
            let mut victim = world.browser(&app, "alice");
            // Every other victim has a login of its own under way.
            let own = match trial % 2 {
                0 => None,
                _ => Some(victim.to_callback("/own").await),
            };
            let reply = victim.get(&trap).await;
            assert_restarts(&reply, &case);
            assert_eq!(redeemed(&world, &trap), 0, "B01 {case}");
            assert_eq!(victim.who().await, None, "B01 {case}");
            let reply = match own {
                // B02: the login that was under way is as good as before.
                Some(own) => victim.get(&own).await,
                None => reply,
            };
            let reply = victim.follow(reply).await;
            signed_in_as_attacker += usize::from(reply.body == "mallory");
            assert_eq!(victim.who().await.as_deref(), Some("alice"), "B02 {case}");
            assert_eq!(redeemed(&world, &trap), 0, "B02 {case}");
            // B24: nothing was burnt.
            let reply = attacker.get(&trap).await;
            assert_eq!(attacker.follow(reply).await.body, "mallory", "B24 {case}");
            assert_eq!(redeemed(&world, &trap), 1, "B24 {case}");
        }
        assert_eq!(signed_in_as_attacker, 0, "B01 of 20, {backend}");
    }
    assert_eq!(world.provider.counts().double_redemptions, 0);
}

#[tokio::test]
async fn b01_a_victim_who_is_signed_in_stays_who_they_are() {
    let world = World::new().await;
    for (backend, app) in apps(&world) {
        let mut victim = world.browser(&app, "alice");
        victim.sign_in("/").await;
        let trap = world.browser(&app, "mallory").to_callback("/trap").await;
        let reply = victim.get(&trap).await;
        assert_eq!((reply.status, reply.location().as_str()), (StatusCode::SEE_OTHER, "/trap"));
        assert_eq!(redeemed(&world, &trap), 0, "{backend}");
        assert_eq!(victim.who().await.as_deref(), Some("alice"), "{backend}");
    }
}

#[tokio::test]
async fn b14_tabs_and_parallel_logins_all_end_where_they_wanted_to_go() {
    let world = World::new().await;
    for (backend, app) in apps(&world) {
        // Two tabs, twenty times, finished in either order; then five, in reverse.
        let orders = (0..20).map(|n| if n % 2 == 0 { vec![0, 1] } else { vec![1, 0] });
        for order in orders.chain([vec![4, 3, 2, 1, 0]]) {
            let case = format!("B14 {backend} {order:?}");
            let mut browser = world.browser(&app, "alice");
            let mut callbacks = Vec::new();
            for tab in 0..order.len() {
                callbacks.push(browser.to_callback(&format!("/tab/{tab}?x=%26")).await);
            }
            assert_eq!(browser.jar.pending(), order.len(), "{case}");
            for tab in order {
                let reply = browser.get(&callbacks[tab]).await;
                let reply = browser.follow(reply).await;
                assert_eq!(reply.body, "alice", "{case} tab {tab}: {}", reply.reason());
                let seen = world.seen.lock().unwrap().pop().unwrap();
                assert_eq!(seen.uri, format!("/tab/{tab}?x=%26"), "{case}");
            }
            assert_eq!(browser.jar.pending(), 0, "{case}");
        }
    }
    assert_eq!(world.provider.counts().double_redemptions, 0);
}

#[tokio::test]
async fn b15_two_hundred_abandoned_logins_leave_a_small_jar_and_a_next_one_that_works() {
    let world = World::new().await;
    for (backend, app) in apps(&world) {
        let mut browser = world.browser(&app, "alice");
        for start in 0..200 {
            browser.to_provider(&format!("/page/{start}?{}", "x".repeat(300))).await;
            world.clock.advance(Duration::from_millis(10));
            assert!(browser.jar.pending() <= 8, "B15 {backend} start {start}");
        }
        assert_eq!(browser.jar.pending(), 8, "B15 {backend}");
        let header = browser.jar.header("/auth/callback").unwrap();
        assert!(header.len() < 8 * 1024, "B15 {backend}: {}", header.len());
        let longest = browser.jar.0.values().map(String::len).max().unwrap();
        assert!(longest <= 400, "DESIGN, at most 400 bytes: {backend} {longest}");
        // The newest are those that stay.
        let callback = browser.to_callback("/last").await;
        assert_eq!(browser.get(&callback).await.location(), "/last", "B15 {backend}");
        assert_eq!(browser.jar.pending(), 0, "B15 {backend}");
    }
}

#[tokio::test]
async fn b15_expired_cookies_are_swept_at_the_next_start() {
    let world = World::new().await;
    for (backend, app) in apps(&world) {
        let mut browser = world.browser(&app, "alice");
        for _ in 0..3 {
            browser.to_provider("/").await;
        }
        world.clock.advance(Duration::from_secs(601));
        browser.to_provider("/").await;
        assert_eq!(browser.jar.pending(), 1, "B15 {backend}");
    }
}

#[tokio::test]
async fn b13_b20_the_cookie_is_bound_to_the_host_and_removed_as_it_was_set() {
    let origin = "https://rp.example";
    let op = TestProvider::builder().redirect_uri(format!("{origin}/auth/callback"));
    let world = World::with_provider(op).await;
    for pending in [Pending::Memory, Pending::Sealed] {
        let builder = world.builder_at(origin).danger_allow_http_provider().pending(pending);
        let app = world.app(&builder.login_ttl(Duration::from_secs(120)).build().unwrap());
        let attributes = "; HttpOnly; SameSite=Lax; Secure; Path=/; Max-Age=";
        for (case, change) in [("success", None), ("an error", Some("access_denied"))] {
            let mut browser: Browser = world.browser(&app, "alice");
            browser.origin = origin.to_owned();
            let reply = browser.get("/auth/login").await;
            let [set] = reply.set_cookies()[..] else { panic!("{:?}", reply.set_cookies()) };
            let (name, rest) = set.split_once('=').unwrap();
            assert!(name.starts_with("__Host-auth_") && name.contains("-p-"), "B13 {set}");
            assert!(rest.ends_with(&format!("{attributes}120")), "B13 {set}");
            let callback = world.provider.authorize(&reply.location()).await.unwrap();
            let callback = with_parameter(&browser.local(&callback), "error", change);
            let reply = browser.get(&callback).await;
            let removal = format!("{name}={attributes}0");
            let sets = reply.set_cookies();
            assert!(sets.contains(&removal.as_str()), "B20 {case}: {sets:?}");
            assert_eq!(browser.jar.pending(), 0, "B20 {case}");
        }
    }
}

#[tokio::test]
async fn b06_b11_a_login_is_consumed_whatever_came_of_it() {
    let world = World::new().await;
    for (backend, app) in apps(&world) {
        for (outcome, error, bad_token) in [
            ("success", None, false),
            ("an error of the provider", Some("access_denied"), false),
            ("an ID token that is refused", None, true),
        ] {
            let case = format!("B06 {backend} {outcome}");
            let mut browser = world.browser(&app, "alice");
            let url = browser.to_provider("/deep").await;
            let saved = browser.jar.clone();
            if bad_token {
                world.provider.on_id_token(|draft| draft.set("nonce", "another"));
            }
            let authorize = async || world.provider.authorize_as(&url, "alice").await.unwrap();
            let callback = browser.local(&authorize().await);
            browser.get(&with_parameter(&callback, "error", error)).await;
            world.provider.clear_faults();
            let before = world.provider.counts().token;
            // B11: the cookie as it was, without the session, with the first code and a second.
            for callback in [callback, browser.local(&authorize().await)] {
                let mut again = browser.clone();
                again.jar = saved.clone();
                assert_restarts(&again.get(&callback).await, &case);
                assert_eq!(world.provider.counts().token, before, "{case}");
            }
        }
    }
    assert_eq!(world.provider.counts().double_redemptions, 0);
    assert!(world.provider.requests(Endpoint::Userinfo).is_empty());
}

#[tokio::test]
async fn b21_the_nonce_is_the_one_of_this_very_login() {
    let world = World::new().await;
    for (backend, app) in apps(&world) {
        let mut browser = world.browser(&app, "alice");
        let other = parameter(&browser.to_provider("/two").await, "nonce").unwrap();
        let callback = browser.to_callback("/one").await;
        world.provider.on_id_token(move |draft| draft.set("nonce", other.clone()));
        let reply = browser.get(&callback).await;
        world.provider.clear_faults();
        assert_eq!(reply.status, StatusCode::BAD_GATEWAY, "B21 {backend}");
        assert_eq!(reply.reason(), "id_token/nonce", "B21 {backend}");
        assert_no_session(&reply, backend);
        assert_eq!(browser.send(navigation(Method::GET, "/")).await.status, StatusCode::FOUND);
    }
}
