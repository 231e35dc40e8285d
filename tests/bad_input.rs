//! Any bytes at all, in everything a visitor can send: the answer is a refusal or a redirect with
//! a reason, never a failure of ours, never the application behind a protected path, and nobody is
//! signed in by it. `judge.rs` says what is asserted of each answer. This file: cookies.

#[path = "bad_input/forms.rs"]
mod forms;
#[path = "bad_input/inputs.rs"]
mod inputs;
#[path = "bad_input/judge.rs"]
mod judge;
#[path = "bad_input/parameters.rs"]
mod parameters;
#[path = "bad_input/requests.rs"]
mod requests;
mod support;

use axum::extract::Request;
use axum::http::Method;
use inputs::spoilt;
use judge::{At, Hostile, PLACES, add, property};
use proptest::collection::vec;
use proptest::prelude::any;
use proptest::sample::{Index, select};
use support::{fetch, navigation};

/// The judge itself: with the genuine cookie the application is reached, and it says so.
#[test]
#[should_panic(expected = "the application is reached as it should")]
fn the_judge_sees_somebody_who_is_signed_in() {
    let hostile = Hostile::new(|_, builder| builder).with_member();
    let mut request = navigation(Method::GET, "/secret");
    add(&mut request, "cookie", hostile.member.jar.header("/").unwrap().as_bytes());
    hostile.runtime.block_on(hostile.judge(At::Protected, request));
}

#[test]
fn b05_h06_h12_h16_no_cookie_signs_anybody_in_that_is_not_whole_and_in_its_place() {
    let sealed: fn(&_, _) -> _ = |_, builder| builder;
    for set in [sealed, Hostile::stored] {
        let hostile = Hostile::new(set).with_member();
        let names = hostile.names();
        let callback = format!("/auth/callback?state={}&code={}", hostile.state, hostile.code);
        let separator = select(vec!["; ", ";", ";;", " ; ", ",", "; =; "]);
        let cookies = vec((any::<Index>(), spoilt(), separator, any::<bool>()), 0..12);
        property(100, cookies, |cookies| {
            let mut fields = vec![Vec::new()];
            for (name, how, separator, splits) in &cookies {
                let name = &names[name.index(names.len())];
                if *splits {
                    fields.push(Vec::new());
                }
                let field = fields.last_mut().unwrap();
                let value = hostile.spoil(name, how);
                field.extend([name.as_bytes(), b"=", &value, separator.as_bytes()].concat());
            }
            let mut requests: Vec<(At, Request)> =
                PLACES.iter().map(|(at, path)| (*at, navigation(Method::GET, path))).collect();
            requests.push((At::Ours, navigation(Method::GET, &callback)));
            requests.push((At::Ours, navigation(Method::POST, "/auth/logout")));
            requests.push((At::Protected, navigation(Method::POST, "/secret")));
            requests.push((At::Protected, fetch(Method::GET, "/secret")));
            for (at, mut request) in requests {
                for field in &fields {
                    add(&mut request, "cookie", field);
                }
                hostile.runtime.block_on(hostile.judge(at, request));
            }
        });
        assert_eq!(hostile.world.provider.counts().token, 1, "no code was spent but the member's");
        hostile.runtime.block_on(async {
            assert_eq!(hostile.member.clone().who().await.as_deref(), Some("alice"), "a control");
        });
    }
}

#[test]
fn h06_b05_every_single_character_of_a_cookie_counts() {
    let hostile = Hostile::new(|_, builder| builder).with_member();
    let (name, value) = hostile.cookies.iter().find(|(name, _)| name.ends_with("-s")).unwrap();
    hostile.runtime.block_on(async {
        for at in 0..value.len() {
            let mut text = value.clone().into_bytes();
            text[at] = if text[at] == b'B' { b'C' } else { b'B' };
            let spellings = [text, value.as_bytes()[..at].to_vec()];
            for text in spellings {
                let mut request = navigation(Method::GET, "/secret");
                add(&mut request, "cookie", &[name.as_bytes(), b"=", &text].concat());
                hostile.judge(At::Protected, request).await;
            }
        }
        for end in ["=", "A", " x", "%", "."] {
            let mut request = navigation(Method::GET, "/secret");
            add(&mut request, "cookie", format!("{name}={value}{end}").as_bytes());
            hostile.judge(At::Protected, request).await;
        }
    });
}

#[test]
fn b20_h12_hundreds_of_cookies_and_huge_ones_are_nobodys() {
    let hostile = Hostile::new(|_, builder| builder).with_member();
    let base = hostile.base().to_owned();
    let many = |end: fn(usize) -> String| {
        (0..700).map(|n| format!("{base}-{}=AAAA; ", end(n))).collect::<String>()
    };
    for (name, field) in [
        ("pending logins", many(|n| format!("p-{n:016x}"))),
        ("one pending login", many(|_| "p-0123456789abcdef".to_owned())),
        ("sessions", many(|_| "s".to_owned())),
        ("chunks", many(|n| format!("s{}", n % 6))),
        ("notes and hints", many(|n| if n % 2 == 0 { "n" } else { "o" }.to_owned())),
        ("64 KB in one", format!("{base}-s=s1.{}", "A".repeat(65_536))),
        ("five chunks of 64 KB", {
            let chunk = "A".repeat(65_536);
            let rest = ["s1", "s2", "s3", "s4"].map(|end| format!("; {base}-{end}={chunk}"));
            format!("{base}-s=s5.{chunk}{}", rest.concat())
        }),
        ("nothing but separators", "; =;;".repeat(10_000)),
    ] {
        for (at, path) in PLACES {
            for several in [false, true] {
                let mut request = navigation(Method::GET, path);
                if several {
                    for pair in field.split("; ").filter(|pair| !pair.is_empty()) {
                        add(&mut request, "cookie", pair.as_bytes());
                    }
                } else {
                    add(&mut request, "cookie", field.as_bytes());
                }
                let reply = hostile.runtime.block_on(hostile.judge(at, request));
                let cleans = path.starts_with("/auth/login");
                assert!(!cleans || reply.status == 302, "{name}: a login can still be begun");
            }
        }
    }
}
