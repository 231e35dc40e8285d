//! The cookies of sessions (group H): chunks, tampering, odd headers, and what the application sees
//! and may set.

#[path = "support/pods.rs"]
mod pods;
mod support;

use axum::http::StatusCode;
use pods::{Kept, a_minute_later, minutes, plant, session_name, with_cookies};
use support::{App, Browser, World, send};
use tower_pkce_auth::testing::provider::TestUser;

/// A layer for sessions of up to 12 KiB, and people with claims of a size.
async fn large() -> (World, App) {
    let world = World::new().await;
    for size in [100, 3_000, 3_900, 4_100, 8_000, 20_000, 64_000] {
        for person in ["a", "b"] {
            let user = TestUser::new(format!("{person}{size}")).claim("blob", "x".repeat(size));
            world.provider.add_user(user);
        }
    }
    let layer = world.builder().claim("blob").max_cookie_bytes(12 * 1024).build().unwrap();
    let app = world.app(&layer);
    (world, app)
}

fn chunks(browser: &Browser) -> Vec<String> {
    let names = browser.jar.names();
    names.into_iter().filter(|name| name.contains("-s")).map(str::to_owned).collect()
}

fn value(browser: &Browser, name: &str) -> String {
    browser.jar.0[&(name.to_owned(), "/".to_owned())].clone()
}

/// Signs the browser's person in over whoever is signed in now.
async fn switch(browser: &mut Browser, user: &str) {
    user.clone_into(&mut browser.user);
    let reply = browser.sign_in("/auth/login?switch=1").await;
    assert_eq!((reply.status, reply.body.as_str()), (StatusCode::OK, user));
}

#[tokio::test]
async fn h06_large_sessions_are_chunked_or_refused_with_a_cure() {
    let (world, large) = large().await;
    let by_default = world.app(&world.builder().claim("blob").build().unwrap());
    let stored = Kept::Stored.pod(&world, |builder| builder.claim("blob")).0;
    for (size, in_six, in_twelve) in [
        (100, Some(1), Some(1)),
        (3_900, Some(2), Some(2)),
        (4_100, Some(2), Some(2)),
        (8_000, None, Some(3)),
        (20_000, None, None),
    ] {
        let user = format!("a{size}");
        for (name, app, expected) in [
            ("6 KiB", &by_default, in_six),
            ("12 KiB", &large, in_twelve),
            ("stored", &stored, Some(1)),
        ] {
            // The jar itself panics at a cookie of more than 4,096 bytes.
            let mut browser = world.browser(app, &user);
            let reply = browser.sign_in("/").await;
            let what = format!("H06 {size} bytes in {name}");
            match expected {
                Some(count) => {
                    assert_eq!(reply.body, user, "{what}");
                    assert_eq!(chunks(&browser).len(), count, "{what}");
                    let header = browser.jar.header("/").unwrap();
                    assert!(header.len() <= 12 * 1024 + 256, "{what}: {} bytes", header.len());
                    assert_eq!(browser.who().await.as_deref(), Some(&*user), "{what}");
                }
                None => {
                    assert_eq!(reply.reason(), "session_too_large/cookies", "{what}");
                    assert_eq!(reply.status, StatusCode::BAD_GATEWAY, "{what}");
                    assert!(reply.body.contains("keep sessions in a store"), "{what}: no cure");
                    assert!(browser.jar.names().is_empty(), "{what}: {:?}", browser.jar.names());
                    assert_eq!(browser.who().await, None, "{what}");
                }
            }
        }
    }
    let mut browser = world.browser(&large, "a64000");
    let reply = browser.sign_in("/").await;
    assert_eq!(reply.status, StatusCode::BAD_GATEWAY, "H06: 64 KB");
    browser.user = "alice".to_owned();
    assert_eq!(browser.sign_in("/").await.body, "alice", "H06: a clean login follows");
}

#[tokio::test]
async fn h07_chunks_of_a_longer_session_do_not_stay_behind() {
    let (world, app) = large().await;
    for (long, chunks_before) in [(4_100, 2), (8_000, 3)] {
        for short in [3_900, 100] {
            let mut browser = world.browser(&app, &format!("a{long}"));
            browser.sign_in("/").await;
            assert_eq!(chunks(&browser).len(), chunks_before, "{long}");
            switch(&mut browser, &format!("b{short}")).await;
            let expected = if short == 100 { 1 } else { 2 };
            let left = chunks(&browser);
            assert_eq!(left.len(), expected, "H07 {long} then {short}: {left:?}");
            browser.post("/auth/logout").await;
            assert!(browser.jar.names().is_empty(), "H07 J02: {:?}", browser.jar.names());
        }
    }
}

#[tokio::test]
async fn h07_the_start_of_a_login_deletes_the_cookies_of_a_dead_session() {
    let (world, app) = large().await;
    let mut browser = world.browser(&app, "a8000");
    browser.sign_in("/").await;
    world.clock.advance(minutes(13 * 60));
    browser.to_provider("/auth/login").await;
    assert_eq!(chunks(&browser), Vec::<String>::new(), "H07");
    assert_eq!(browser.jar.ending("-n"), None, "DESIGN: the note goes with the session");
}

#[tokio::test]
async fn h08_h30_chunks_count_only_together() {
    let (world, app) = large().await;
    let mut alice = world.browser(&app, "a8000");
    let mut mallory = world.browser(&app, "b8000");
    alice.sign_in("/").await;
    mallory.sign_in("/").await;
    a_minute_later(&mut alice);
    world.reached();
    let names = chunks(&alice);
    let swapped = |a: usize, b: usize| {
        let mut browser = alice.clone();
        plant(&mut browser, &names[a], value(&alice, &names[b]));
        plant(&mut browser, &names[b], value(&alice, &names[a]));
        browser
    };
    let mixed = |at: usize| {
        let mut browser = alice.clone();
        plant(&mut browser, &names[at], value(&mallory, &names[at]));
        browser
    };
    let without = |at: usize| {
        let mut browser = alice.clone();
        browser.jar.0.remove(&(names[at].clone(), "/".to_owned()));
        browser
    };
    for (name, mut browser) in [
        ("the first is another's", mixed(0)),
        ("the second is another's", mixed(1)),
        ("the third is another's", mixed(2)),
        ("the first is lost", without(0)),
        ("the second is lost", without(1)),
        ("the last is lost", without(2)),
        ("reordered", swapped(1, 2)),
        ("the first is not first", swapped(0, 1)),
    ] {
        let reply = browser.get("/who").await;
        assert_eq!(reply.status, StatusCode::FOUND, "H08 {name}");
        assert_eq!(world.reached(), 0, "H08 {name}");
        let asked = world.provider.counts().authorize;
        assert_eq!(browser.sign_in("/").await.body, "a8000", "H30 {name}");
        assert_eq!(world.provider.counts().authorize, asked + 1, "H30 {name}: one clean login");
        world.reached();
    }
    assert_eq!(alice.who().await.as_deref(), Some("a8000"), "the honest ones are not harmed");
}

#[tokio::test]
async fn h09_whatever_is_changed_reads_as_anonymous() {
    let world = World::new().await;
    for kept in Kept::ALL {
        let (app, _) = kept.pod(&world, |builder| builder);
        let mut browser = world.browser(&app, "alice");
        browser.sign_in("/").await;
        let name = session_name(&browser);
        let good = value(&browser, &name);
        let mut starting = world.browser(&app, "alice");
        starting.to_provider("/").await;
        let transaction = starting.jar.0.values().next().unwrap().clone();
        let hint = browser.jar.ending("-o").unwrap_or_default().to_owned();

        let mut table: Vec<(String, String)> = (0..good.len())
            .map(|at| {
                let other = if good.as_bytes()[at] == b'A' { 'B' } else { 'A' };
                let changed = format!("{}{other}{}", &good[..at], &good[at + 1..]);
                (format!("byte {at}"), changed)
            })
            .collect();
        table.extend((0..good.len()).map(|at| (format!("cut at {at}"), good[..at].to_owned())));
        for (name, text) in [
            ("longer", format!("{good}A")),
            ("padded", format!("{good}=")),
            ("twice", format!("{good}{good}")),
            ("a pending login", format!("s1.{transaction}")),
            ("a pending login, bare", transaction),
            ("a logout hint", format!("s1.{hint}")),
        ] {
            table.push((name.to_owned(), text));
        }
        let anonymous = send(&app, with_cookies("/who", &[])).await;
        for (what, text) in table {
            let field = format!("{name}={text}");
            let reply = send(&app, with_cookies("/who", &[field.as_bytes()])).await;
            let seen = (reply.status, reply.body, reply.headers);
            let expected = (anonymous.status, anonymous.body.clone(), anonymous.headers.clone());
            assert_eq!(seen, expected, "H09 {kept:?}: {what} is told apart from no cookie");
        }
        assert_eq!(browser.who().await.as_deref(), Some("alice"), "{kept:?}");
    }
}

#[tokio::test]
async fn h11_h12_h31_cookie_headers_of_all_shapes() {
    let (world, app) = large().await;
    let mut browser = world.browser(&app, "a8000");
    browser.sign_in("/").await;
    let names = chunks(&browser);
    let pair = |at: usize| format!("{}={}", names[at], value(&browser, &names[at])).into_bytes();
    let (a, b, c) = (pair(0), pair(1), pair(2));
    let bad = format!("{}=bad", names[0]).into_bytes();
    let empty = format!("{}=", names[0]).into_bytes();
    let bare = names[0].clone().into_bytes();
    let quoted = format!("{}=\"{}\"", names[0], value(&browser, &names[0])).into_bytes();
    let (junk, huge) = (b"x=\xff\xfe\x80; =; ;;; \xc3\xa9=1".to_vec(), vec![b'y'; 65_536]);
    let join = |parts: &[&Vec<u8>]| {
        parts.iter().map(|part| part.as_slice()).collect::<Vec<_>>().join(&b"; "[..])
    };
    for (name, fields, signed_in) in [
        ("H12 one field", vec![join(&[&a, &b, &c])], true),
        ("H12 a field each", vec![a.clone(), b.clone(), c.clone()], true),
        ("H12 in another order", vec![c.clone(), join(&[&junk, &b]), a.clone()], true),
        ("H12 without spaces", vec![[&a[..], &b, &c].join(&b';')], true),
        ("H11 bad first", vec![join(&[&bad, &a, &b, &c])], true),
        ("H11 bad last", vec![join(&[&a, &bad, &b, &c])], true),
        ("H11 bad alone", vec![bad.clone(), b.clone(), c.clone()], false),
        ("H31 empty", vec![empty], false),
        ("H31 no equals sign", vec![bare], false),
        ("H31 quoted", vec![quoted, b.clone(), c.clone()], false),
        ("H31 junk around", vec![join(&[&junk, &a, &junk, &b, &c, &junk])], true),
        ("H31 64 KB alone", vec![huge.clone()], false),
        ("H31 64 KB beside", vec![huge, join(&[&a, &b, &c])], true),
        ("H31 tabs", vec![join(&[&a, &b, &c]).into_iter().chain(*b"\t;\t").collect()], true),
    ] {
        let fields: Vec<&[u8]> = fields.iter().map(Vec::as_slice).collect();
        let reply = send(&app, with_cookies("/who", &fields)).await;
        let expected = if signed_in { StatusCode::OK } else { StatusCode::FOUND };
        assert_eq!(reply.status, expected, "{name}: {}", reply.body);
    }
}
