//! Group C: callbacks that come too late, twice, or to another browser; and people who go away.
//!
//! DESIGN, "Pending logins", has the table: a live session → its target; else one restart, with
//! the deep link kept; else a page.

mod support;

use std::time::Duration;

use axum::http::{Method, StatusCode};
use support::{App, Browser, Jar, Reply, World, fetch, parameter};
use tower_pkce_auth::testing::provider::{Behaviour, Endpoint};
use tower_pkce_auth::{Builder, MemoryStore, Pending, Userinfo};

/// The three places a pending login may lie in.
fn backends(world: &World) -> [(&'static str, Builder); 3] {
    let store = MemoryStore::shared_between_pods(world.clock.clone());
    let builder = |pending| world.builder().pending(pending);
    [
        ("memory", builder(Pending::Memory)),
        ("sealed", builder(Pending::Sealed)),
        ("store", builder(Pending::Store).store(store)),
    ]
}

fn apps(world: &World) -> [(&'static str, App); 3] {
    backends(world).map(|(name, builder)| (name, world.app(&builder.build().unwrap())))
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Why {
    AlreadyTaken,
    AnotherBrowsers,
    Expired,
    NoCookie,
}

const WHYS: [Why; 4] = [Why::AlreadyTaken, Why::AnotherBrowsers, Why::Expired, Why::NoCookie];
const DEEP: &str = "/deep?x=%26&y=a%2Fb";

fn without(jar: &Jar, part: &str) -> Jar {
    let mut jar = jar.clone();
    jar.0.retain(|(name, _), _| !name.contains(part));
    jar
}

/// A browser and a callback that cannot be completed in it; `attempt` says which one it is.
async fn unusable(world: &World, app: &App, why: Why, attempt: u8) -> (Browser, String) {
    let mut browser = world.browser(app, "alice");
    let mut path = DEEP.to_owned();
    if attempt == 1 {
        let callback = world.browser(app, "alice").to_callback(DEEP).await;
        path = browser.get(&callback).await.location();
    }
    let callback = match why {
        Why::AnotherBrowsers => world.browser(app, "mallory").to_callback(&path).await,
        _ => browser.to_callback(&path).await,
    };
    match why {
        Why::AlreadyTaken => {
            let reply = browser.clone().get(&callback).await;
            assert_eq!(reply.location(), DEEP);
        }
        Why::AnotherBrowsers => drop(browser.to_provider("/own").await),
        Why::Expired => world.clock.advance(Duration::from_secs(601)),
        Why::NoCookie => browser.jar = without(&browser.jar, "-p-"),
    }
    world.provider.reset_counts();
    world.reached();
    (browser, callback)
}

fn has_session(reply: &Reply) -> bool {
    let session = |cookie: &&str| cookie.split('=').next().is_some_and(|n| n.ends_with("-s"));
    reply.set_cookies().iter().any(session)
}

#[tokio::test]
async fn b01_b02_b07_c04_c20_the_table_of_the_unusable_login() {
    let world = World::new().await;
    for (backend, app) in apps(&world) {
        for why in WHYS {
            for attempt in [0, 1] {
                let case = format!("{backend}, {why:?}, attempt {attempt}");
                let (browser, callback) = unusable(&world, &app, why, attempt).await;

                // Somebody is signed in: on to the target, and nothing else happens.
                let mut member = world.browser(&app, "bob");
                member.sign_in("/").await;
                world.provider.reset_counts();
                member.jar.0.extend(browser.jar.0.clone());
                let reply = member.get(&callback).await;
                assert_eq!(reply.status, StatusCode::SEE_OTHER, "{case}");
                assert_eq!(reply.location(), DEEP, "{case}");
                assert_eq!(member.who().await.as_deref(), Some("bob"), "{case}");

                // Nobody is, and no page can be shown.
                for dest in ["empty", "iframe"] {
                    let mut request = fetch(Method::GET, &callback);
                    if dest == "iframe" {
                        request = support::navigation(Method::GET, &callback);
                    }
                    request.headers_mut().insert("sec-fetch-dest", dest.parse().unwrap());
                    let reply = browser.clone().send(request).await;
                    assert_eq!(reply.status, StatusCode::BAD_REQUEST, "{case}, {dest}");
                    assert!(!reply.headers.contains_key("location"), "{case}, {dest}");
                }

                // Nobody is: one restart, then a page.
                let mut visitor = browser;
                let reply = visitor.get(&callback).await;
                assert!(!has_session(&reply), "{case}");
                assert_eq!(reply.header("cache-control"), "no-store", "{case}");
                assert_eq!(world.provider.counts().token, 0, "{case}");
                assert_eq!(visitor.who().await, None, "{case}");
                if attempt == 0 {
                    assert_eq!(reply.status, StatusCode::SEE_OTHER, "{case}");
                    assert!(reply.location().starts_with("/auth/login?again="), "{case}");
                    world.reached();
                    let reply = visitor.follow(reply).await;
                    assert_eq!(reply.body, "alice", "{case}: {}", reply.reason());
                    let seen = world.seen.lock().unwrap().pop().unwrap();
                    assert_eq!(seen.uri, DEEP, "{case}: the deep link is kept");
                    assert_eq!(world.provider.counts().authorize, 1, "{case}");
                } else {
                    assert_eq!(reply.status, StatusCode::BAD_REQUEST, "C20 {case}");
                    assert_eq!(reply.page(), Some("restart"), "C20 {case}");
                    let link = "/auth/login?return_to=%2Fdeep%3Fx%3D%2526%26y%3Da%252Fb";
                    assert!(reply.body.contains(link), "C20 {case}: a manual restart");
                    assert!(!reply.headers.contains_key("refresh"), "C20 {case}");
                    assert_eq!(visitor.sign_in(link).await.body, "alice", "REJ(7) {case}");
                }
            }
        }
    }
}

#[tokio::test]
async fn c32_visitors_cannot_tell_why_and_the_log_can() {
    let world = World::new().await;
    for (backend, app) in apps(&world) {
        for attempt in [0, 1] {
            let mut looks = Vec::new();
            for why in WHYS {
                let (mut browser, callback) = unusable(&world, &app, why, attempt).await;
                let reply = browser.get(&callback).await;
                let mut body = reply.body.clone();
                if let Some(error) = &reply.error {
                    body = body.replace(&error.reference(), "");
                    let expected = match why {
                        Why::AlreadyTaken => "login_expired/already_taken",
                        Why::Expired => "login_expired/expired",
                        Why::AnotherBrowsers | Why::NoCookie => "login_expired/no_cookie",
                    };
                    assert_eq!(reply.reason(), expected, "C32 {backend}");
                }
                let mut headers = reply.headers.clone();
                headers.remove("set-cookie");
                if let Some(location) = headers.remove("location") {
                    let location = location.to_str().unwrap().to_owned();
                    body += location.split_once('=').unwrap().0;
                }
                looks.push((why, reply.status, headers, body));
            }
            for look in &looks[1..] {
                assert_eq!(look.1, looks[0].1, "C32 {backend} {attempt} {:?}", look.0);
                assert_eq!(look.2, looks[0].2, "C32 {backend} {attempt} {:?}", look.0);
                assert_eq!(look.3, looks[0].3, "C32 {backend} {attempt} {:?}", look.0);
            }
        }
    }
}

#[tokio::test]
async fn c19_a_reload_after_success_changes_nothing() {
    let world = World::new().await;
    for (backend, app) in apps(&world) {
        world.provider.reset_counts();
        let mut browser = world.browser(&app, "alice");
        let callback = browser.to_callback(DEEP).await;
        for visit in 0..4 {
            let reply = browser.get(&callback).await;
            assert_eq!(reply.status, StatusCode::SEE_OTHER, "C19 {backend} visit {visit}");
            assert_eq!(reply.location(), DEEP, "C19 {backend} visit {visit}");
            assert_eq!(browser.who().await.as_deref(), Some("alice"), "C19 {backend}");
        }
        assert_eq!(world.provider.counts().token, 1, "C19 {backend}");
        // Signed out since: the history of the browser does not sign in again.
        browser.post("/auth/logout").await;
        let reply = browser.get(&callback).await;
        assert!(reply.location().starts_with("/auth/login?again="), "C19 {backend}");
        assert_eq!(world.provider.counts().token, 1, "C19 {backend}");
    }
}

/// Goes on as a browser does, but for the cookies it does not keep; returns what ends it.
async fn wander(browser: &mut Browser, path: &str, lost: &[&str]) -> Reply {
    let mut path = path.to_owned();
    for _ in 0..30 {
        for part in lost {
            browser.jar.0.retain(|(name, _), _| !name.ends_with(part) && !name.contains(part));
        }
        let reply = browser.get(&path).await;
        if !reply.status.is_redirection() {
            return reply;
        }
        path = match reply.location() {
            to if to.starts_with(browser.provider.issuer()) => {
                let back = browser.provider.authorize_as(&to, &browser.user).await.unwrap();
                browser.local(&back)
            }
            to => browser.local(&to),
        };
    }
    panic!("a loop without an end");
}

#[tokio::test]
async fn l16_c09_a_browser_without_cookies_gets_a_page_and_no_loop() {
    let world = World::new().await;
    for (backend, app) in apps(&world) {
        for (case, lost, page, trips) in [
            ("no cookies at all", &["auth_"][..], "restart", 2),
            ("no cookie of a pending login", &["-p-"], "restart", 2),
            ("no session cookie", &["-s"], "no-cookie", 1),
        ] {
            let case = format!("L16 {backend}, {case}");
            world.provider.reset_counts();
            let mut browser = world.browser(&app, "alice");
            let reply = wander(&mut browser, DEEP, lost).await;
            assert_eq!(reply.status, StatusCode::BAD_REQUEST, "{case}");
            assert_eq!(reply.page(), Some(page), "{case}");
            assert_eq!(world.provider.counts().authorize, trips, "{case}");
            if page == "no-cookie" {
                assert!(reply.body.contains("Cause") && reply.body.contains("Cure"), "{case}");
            }
            // The link of the page works once cookies are kept.
            let (_, link) = reply.body.split_once("href=\"").unwrap();
            let link = link.split('"').next().unwrap().replace("&amp;", "&");
            world.reached();
            let reply = wander(&mut browser, &link, &[]).await;
            assert_eq!(reply.body, "alice", "{case}: {}", reply.reason());
            assert_eq!(world.seen.lock().unwrap().pop().unwrap().uri, DEEP, "{case}");
        }
    }
}

#[tokio::test]
async fn l16_the_note_of_a_login_is_short_lived_and_goes_with_the_session() {
    let world = World::new().await;
    for (idle, absolute, expected) in [(3600, 7200, 60), (40, 7200, 20), (3600, 30, 15)] {
        let builder = world.builder().session_idle(Duration::from_secs(idle));
        let builder = builder.session_absolute(Duration::from_secs(absolute));
        let app = world.app(&builder.build().unwrap());
        let mut browser = world.browser(&app, "alice");
        let callback = browser.to_callback("/").await;
        let reply = browser.get(&callback).await;
        let cookies = reply.set_cookies();
        let note = cookies.iter().find(|c| c.contains("-n=")).unwrap();
        assert!(note.ends_with(&format!("; Max-Age={expected}")), "{note}");
        browser.post("/auth/logout").await;
        assert!(browser.jar.ending("-n").is_none(), "deleted with the session");
    }
}

#[tokio::test]
async fn c29_another_person_replaces_the_one_before_without_a_trace() {
    let world = World::new().await;
    for (backend, app) in apps(&world) {
        let mut browser = world.browser(&app, "alice");
        browser.sign_in("/").await;
        let old = browser.clone();
        browser.user = "mallory".to_owned();
        let reply = browser.get("/auth/login?switch=1&return_to=/claims").await;
        let reply = browser.follow(reply).await;
        assert_eq!(reply.status, StatusCode::OK, "{backend}: {}", reply.reason());
        assert!(!reply.body.contains("admin"), "C29 {backend} no claim is kept: {}", reply.body);
        assert_eq!(browser.who().await.as_deref(), Some("mallory"), "C29 {backend}");
        assert_ne!(old.jar.ending("-s"), browser.jar.ending("-s"), "C29 {backend}");
        assert_eq!(old.clone().who().await, None, "C29 {backend}: the old cookie is dead");
    }
}

#[tokio::test]
async fn a_visitor_who_goes_away_in_the_middle_leaves_nothing_half_done() {
    let world = World::new().await;
    let guard = Duration::from_secs(10);
    for (backend, builder) in backends(&world) {
        let app = world.app(&builder.userinfo(Userinfo::Required).build().unwrap());
        for kind in ["taken", "spent"] {
            let case = format!("{backend}, {kind}");
            let mut browser = world.browser(&app, "alice");
            let callback = browser.to_callback("/deep").await;
            world.provider.reset_counts();
            let slow = Behaviour::Delay(Duration::from_millis(50));
            world.provider.set_behaviour(Endpoint::Token, slow);
            let mut leaving = browser.clone();
            tokio::select! {
                reply = leaving.get(&callback) => panic!("{case}: {} came too early", reply.status),
                () = until(|| world.provider.counts().token == 1) => {}
            }
            // hyper has dropped the future. The exchange goes on, to its very end.
            if kind == "spent" {
                let done = until(|| world.provider.counts().userinfo == 1);
                tokio::time::timeout(guard, done).await.expect(&case);
            }
            // The login is used: the visitor comes back with the cookies of before, and it starts over.
            let reply = browser.get(&callback).await;
            assert!(reply.location().starts_with("/auth/login?again="), "{case}");
            let done = until(|| world.provider.counts().userinfo == 1);
            tokio::time::timeout(guard, done).await.expect(&case);
            world.provider.clear_faults();
            let code = parameter(&callback, "code");
            let requests = world.provider.token_requests();
            let sent = requests.iter().filter(|r| r.form_value("code") == code.as_deref()).count();
            assert_eq!(sent, 1, "{case}");
            let reply = browser.follow(reply).await;
            assert_eq!(reply.body, "alice", "{case}: {}", reply.reason());
            assert_eq!(world.provider.counts().double_redemptions, 0, "{case}");
        }
    }
}

async fn until(done: impl Fn() -> bool) {
    while !done() {
        tokio::task::yield_now().await;
    }
}
