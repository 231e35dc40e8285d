//! Header fields, methods, versions, request targets.

use axum::http::Version;
use proptest::collection::vec;
use proptest::prelude::any;
use proptest::sample::select;

use crate::inputs::{METHODS, pieces, words};
use crate::judge::{At, Hostile, PLACES, add, is_open, property, request_to};

#[test]
fn m01_o04_o16_no_header_opens_a_protected_path() {
    let hostile = Hostile::new(|_, builder| builder);
    let names: Vec<&str> =
        "authorization dpop sec-fetch-site sec-fetch-mode sec-fetch-dest origin hx-request \
         hx-current-url referer accept content-type upgrade connection x-requested-with \
         sec-purpose early-data access-control-request-method host forwarded x-forwarded-host \
         x-forwarded-user x_user_id remote-user x-http-method-override x-original-url \
         content-length cookie"
            .split(' ')
            .collect();
    let values = pieces(words(
        "same-origin cross-site none navigate document iframe cors true websocket Upgrade \
         application/grpc application/grpc-web+proto text/html prefetch http://localhost:8080 \
         http://localhost:8080/x //evil.example null @evil.example/ alice 1 , ;",
        &["\\", "Bearer ", "Basic YTpi", "", " "],
    ));
    let headers = vec((select(names), values), 0..8);
    let versions = select(vec![
        Version::HTTP_09,
        Version::HTTP_10,
        Version::HTTP_11,
        Version::HTTP_2,
        Version::HTTP_3,
    ]);
    let inputs = (headers, select(METHODS.to_vec()), versions, any::<bool>());
    property(256, inputs, |(headers, method, version, browser)| {
        for (mut at, path) in PLACES {
            let mut request = request_to(method, path.as_bytes()).unwrap();
            if !browser {
                request.headers_mut().clear();
            }
            *request.version_mut() = version;
            for (name, value) in &headers {
                request.headers_mut().remove(*name);
                add(&mut request, name, value);
            }
            // These speak of more than a path and are never open (DESIGN, the walk of a request).
            if matches!(method, "CONNECT" | "TRACE") && at != At::Ours {
                at = At::Protected;
            }
            hostile.runtime.block_on(hostile.judge(at, request));
        }
    });
    assert_eq!(hostile.world.provider.counts().token, 0);
}

#[test]
fn m07_m08_no_request_target_slips_past() {
    let hostile = Hostile::new(|_, builder| builder);
    let starts = select(vec![
        "",
        "",
        "",
        "/",
        "http://localhost:8080",
        "http://evil.example",
        "https://u@h:1",
        "ftp://x",
        "*",
        "localhost:8080",
    ]);
    let rest = pieces(words(
        "/ / / /public /maybe /auth /login /callback /secret /.. /. .. %2e %2E%2e %2f %5c %00 \
         %23 %3b %3f %252f %25 ; ;x=1 // ? %ff %c0%ae % x * : @ ~ ' {",
        &["\\", "\u{e9}", "\""],
    ));
    let methods = select(vec!["GET", "POST", "OPTIONS", "CONNECT", "BREW"]);
    let sent = std::cell::Cell::new(0);
    property(256, (starts, vec(rest, 8..9), methods), |(start, rests, method)| {
        for rest in rests {
            let target = [start.as_bytes(), &rest].concat();
            if let Some(request) = request_to(method, &target) {
                sent.set(sent.get() + 1);
                hostile.runtime.block_on(hostile.judge(At::Unknown, request));
            }
        }
    });
    let sent = sent.get();
    assert!(sent > 300, "targets that http::Uri accepts: {sent}");
    for (target, at) in [
        ("*".to_owned(), At::Protected),
        ("localhost:8080".to_owned(), At::Protected),
        ("http://localhost:8080".to_owned(), At::Protected),
        ("http://evil.example/secret".to_owned(), At::Protected),
        ("http://evil.example/public/x".to_owned(), At::Open),
        ("http://evil.example/auth/session".to_owned(), At::Ours),
        (format!("/public/{}", "a".repeat(65_000)), At::Open),
        (format!("/maybe/{}", "a".repeat(65_000)), At::Optional),
        (format!("/{}", "a".repeat(65_000)), At::Protected),
        (format!("/{}", "/".repeat(65_000)), At::Protected),
        (format!("/public/{}secret", "../".repeat(20_000)), At::Protected),
        (format!("/public/{}", "%2e%2e%2f".repeat(7_000)), At::Protected),
        (format!("/secret?{}", "a=%ff&".repeat(10_000)), At::Protected),
        (format!("/auth/login?return_to=/{}", "a".repeat(65_000)), At::Ours),
        (format!("/auth/login?again={}", "A".repeat(65_000)), At::Ours),
        (format!("/auth/callback?state={}", "A".repeat(65_000)), At::Ours),
        (format!("/auth/callback?{}", "state=A&".repeat(8_000)), At::Ours),
    ] {
        let request = request_to("GET", target.as_bytes()).unwrap();
        hostile.runtime.block_on(hostile.judge(at, request));
    }
    for path in ["/public", "/public/", "/public/%C3%A9", "/maybe/a%20b"] {
        assert!(is_open(path), "the judge itself: {path}");
    }
}

/// Every method on every own endpoint, without and with a session, is answered by us with a reason.
#[test]
fn c01_unknown_methods_are_refused_with_a_reason_and_what_is_allowed() {
    let hostile = Hostile::new(|_, builder| builder).with_member();
    for (at, path) in PLACES.into_iter().filter(|(at, _)| *at == At::Ours) {
        for method in METHODS {
            let request = request_to(method, path.as_bytes()).unwrap();
            let reply = hostile.runtime.block_on(hostile.judge(at, request));
            if reply.status == 405 {
                assert!(!reply.header("allow").is_empty(), "RFC 9110 15.5.6: {method} {path}");
            }
            let known = matches!(method, "GET" | "HEAD" | "POST");
            assert!(known || reply.status == 405, "{method} {path}: {}", reply.status);
        }
    }
    let who = hostile.runtime.block_on(async { hostile.member.clone().who().await });
    assert_eq!(who.as_deref(), Some("alice"), "nobody was signed out by it");
}
