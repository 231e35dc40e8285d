//! Front-channel logout (group J): the provider's frame ends what its `sid` names, and nobody who
//! does not know the `sid` ends anything.

#[path = "support/pods.rs"]
mod pods;
mod support;
#[path = "support/tokens.rs"]
mod tokens;

use axum::body::Body;
use axum::extract::Request;
use axum::http::{Method, StatusCode};
use pods::{Kept, assert_signed_out, at, minutes, seconds};
use support::{App, Browser, Reply, World, send};
use tokens::sign_in;
use tower_pkce_auth::testing::provider::{Endpoint, TestProvider};
use tower_pkce_auth::{Builder, StoreErrorKind};

const FRONTCHANNEL: &str = "/auth/frontchannel-logout";

/// A request of a frame in a page of the provider.
fn frame(method: Method, query: &str) -> Request {
    Request::builder()
        .method(method)
        .uri(format!("{FRONTCHANNEL}{query}"))
        .header("accept", "text/html,*/*;q=0.8")
        .header("sec-fetch-mode", "navigate")
        .header("sec-fetch-dest", "iframe")
        .header("sec-fetch-site", "cross-site")
        .body(Body::empty())
        .unwrap()
}

fn query(pairs: &[(&str, &str)]) -> String {
    let pairs = url::form_urlencoded::Serializer::new(String::new()).extend_pairs(pairs).finish();
    format!("?{pairs}")
}

fn on(builder: Builder) -> Builder {
    builder.frontchannel_logout(true)
}

async fn load(app: &App, query: &str) -> Reply {
    send(app, frame(Method::GET, query)).await
}

/// The frame in the browser that has the session, where its cookies are sent.
async fn load_with_cookies(browser: &mut Browser, query: &str) -> Reply {
    browser.send(frame(Method::GET, query)).await
}

fn assert_page(world: &World, reply: &Reply, what: &str) {
    assert_eq!(reply.page(), Some("frontchannel-logout"), "J60 {what}");
    assert_eq!(reply.header("content-type"), "text/html; charset=utf-8", "J60 {what}");
    assert_eq!(reply.header("cache-control"), "no-store", "J63 {what}");
    let policy = reply.header("content-security-policy");
    assert!(
        policy.ends_with(&format!("frame-ancestors {}", world.provider.issuer())),
        "J62 {what}: {policy}"
    );
    assert!(policy.starts_with("default-src 'none'"), "J62 {what}: {policy}");
    assert!(!reply.headers.contains_key("x-frame-options"), "J62 {what}");
    assert!(!reply.headers.contains_key("location"), "J60 {what}");
}

#[tokio::test]
async fn j60_j64_j66_j67_the_session_of_the_sid_ends_with_or_without_its_cookie() {
    for kept in Kept::SHARED {
        for with_cookies in [true, false] {
            let what = format!("{kept:?}, cookies: {with_cookies}");
            let world = World::new().await;
            let (one, two, store) = kept.pods(&world, on);
            let (mut alice, sid) = sign_in(&world, &one, "alice").await;
            let (mut other, _) = sign_in(&world, &two, "alice").await;
            let (mut bob, _) = sign_in(&world, &two, "bob").await;
            let copy = alice.clone();
            let issuer = world.provider.issuer();
            let query = query(&[("app", "a"), ("iss", issuer), ("sid", &sid), ("x", "1")]);
            let mut browser = at(&two, &alice);
            let reply = if with_cookies {
                load_with_cookies(&mut browser, &query).await
            } else {
                load(&two, &query).await
            };
            assert_eq!(reply.status, StatusCode::OK, "J60 J64 J66 {what}");
            assert_page(&world, &reply, &what);
            assert_eq!(with_cookies, browser.jar.names().is_empty(), "J60 {what}");
            for pod in [&one, &two] {
                assert_signed_out(&at(pod, &copy), &what).await;
            }
            assert_eq!(other.who().await.as_deref(), Some("alice"), "{what}: another sid");
            assert_eq!(bob.who().await.as_deref(), Some("bob"), "{what}");
            // Again: the same page, and nothing is written any more.
            store.forget_calls();
            let reply = load(&one, &query).await;
            assert_eq!(reply.status, StatusCode::OK, "J67 {what}");
            assert_page(&world, &reply, &what);
            assert!(store.writes().is_empty(), "J67 {what}: {:?}", store.writes());
            pods::a_minute_later(&mut alice);
            assert_eq!(alice.sign_in("/").await.body, "alice", "{what}: signing in again");
        }
    }
}

#[tokio::test]
async fn j61_j65_whoever_does_not_know_both_ends_nothing() {
    for kept in Kept::SHARED {
        let world = World::new().await;
        let (app, store) = kept.pod(&world, on);
        let (mut alice, sid) = sign_in(&world, &app, "alice").await;
        let (_, sid_of_bob) = sign_in(&world, &app, "bob").await;
        let issuer = world.provider.issuer();
        let cases = [
            ("J65 nothing", String::new(), 400),
            ("J61 iss only", query(&[("iss", issuer)]), 400),
            ("J61 sid only", query(&[("sid", &sid)]), 400),
            ("J61 empty sid", query(&[("iss", issuer), ("sid", "")]), 400),
            ("J61 sid twice", query(&[("iss", issuer), ("sid", &sid), ("sid", &sid)]), 400),
            ("J61 iss twice", query(&[("iss", issuer), ("iss", issuer), ("sid", &sid)]), 400),
            ("J61 broken", format!("{}&x=%zz", query(&[("iss", issuer), ("sid", &sid)])), 400),
            ("J61 another iss", query(&[("iss", "https://evil.example"), ("sid", &sid)]), 200),
            ("J61 iss with a slash", query(&[("iss", &format!("{issuer}/")), ("sid", &sid)]), 200),
            ("J61 another sid", query(&[("iss", issuer), ("sid", "guess")]), 200),
            ("J61 half a sid", query(&[("iss", issuer), ("sid", &sid[..8])]), 200),
        ];
        for (name, query, status) in cases {
            store.forget_calls();
            for cookies in [false, true] {
                let reply = if cookies {
                    load_with_cookies(&mut alice, &query).await
                } else {
                    load(&app, &query).await
                };
                assert_eq!(reply.status.as_u16(), status, "{name}");
                assert_page(&world, &reply, name);
                assert!(reply.set_cookies().is_empty(), "{name}");
            }
            assert!(store.writes().is_empty(), "{name}: {:?}", store.writes());
            assert_eq!(alice.who().await.as_deref(), Some("alice"), "{name} {kept:?}");
        }
        // Somebody else's sid ends theirs and not the one of the browser that was sent here.
        load_with_cookies(&mut alice, &query(&[("iss", issuer), ("sid", &sid_of_bob)])).await;
        assert_eq!(alice.who().await.as_deref(), Some("alice"), "J61 {kept:?}");
        for method in [Method::POST, Method::HEAD, Method::PUT, Method::OPTIONS] {
            let query = query(&[("iss", issuer), ("sid", &sid)]);
            let reply = send(&app, frame(method.clone(), &query)).await;
            assert_eq!(reply.status, StatusCode::METHOD_NOT_ALLOWED, "{method}");
            assert_eq!(reply.header("allow"), "GET", "{method}");
        }
        assert_eq!(alice.who().await.as_deref(), Some("alice"), "J61 {kept:?}");
    }
}

#[tokio::test]
async fn j62_no_other_page_may_be_framed_and_it_is_off_unless_asked_for() {
    let world = World::new().await;
    let (app, _) = Kept::StoredShared.pod(&world, on);
    let (mut alice, sid) = sign_in(&world, &app, "alice").await;
    for path in ["/auth/logout", "/auth/signed-out", "/auth/callback?state=x"] {
        let policy = alice.get(path).await.header("content-security-policy").to_owned();
        assert!(policy.ends_with("frame-ancestors 'none'"), "J62 {path}: {policy}");
    }
    let (app, store) = Kept::StoredShared.pod(&world, |builder| builder);
    let (mut alice, _) = sign_in(&world, &app, "alice").await;
    assert!(store.keys("sid").is_empty(), "nothing is recorded");
    let query = query(&[("iss", world.provider.issuer()), ("sid", &sid)]);
    let reply = load(&app, &query).await;
    assert_eq!(reply.status, StatusCode::UNAUTHORIZED, "not mounted: protected like any path");
    assert_eq!(alice.who().await.as_deref(), Some("alice"));
}

#[tokio::test]
async fn j64_only_a_sid_that_a_login_recorded_leaves_a_mark_and_not_for_ever() {
    for kept in Kept::SHARED {
        let world = World::new().await;
        let set = |builder: Builder| on(builder).session_absolute(minutes(60));
        let (app, store) = kept.pod(&world, set);
        let (_, sid) = sign_in(&world, &app, "alice").await;
        let keys = store.keys("sid");
        assert_eq!(keys.len(), 1, "{kept:?}");
        let record = store.value(&keys[0]).await.unwrap();
        for secret in [&*sid, "alice"] {
            assert!(!keys[0].as_str().contains(secret), "{kept:?}: hashed");
            let found = record.windows(secret.len()).any(|window| window == secret.as_bytes());
            assert!(!found, "{kept:?}: sealed");
        }
        world.clock.advance(minutes(66));
        store.forget_calls();
        let reply = load(&app, &query(&[("iss", world.provider.issuer()), ("sid", &sid)])).await;
        assert_eq!(reply.status, StatusCode::OK, "{kept:?}");
        assert!(store.writes().is_empty(), "{kept:?}: the session was over long ago");
    }
}

#[tokio::test]
async fn a_flood_of_front_channel_logouts_is_slowed_down() {
    let world = World::new().await;
    let (app, store) = Kept::SealedShared.pod(&world, on);
    let mut sids = Vec::new();
    for _ in 0..104 {
        sids.push(sign_in(&world, &app, "alice").await.1);
    }
    store.forget_calls();
    let mut refused = 0;
    for sid in &sids {
        let reply = load(&app, &query(&[("iss", world.provider.issuer()), ("sid", sid)])).await;
        if reply.status == StatusCode::SERVICE_UNAVAILABLE {
            assert_eq!(reply.header("retry-after"), "2");
            refused += 1;
        } else {
            assert_eq!(reply.status, StatusCode::OK);
        }
    }
    assert_eq!(refused, 4, "a hundred at once");
    world.clock.advance(seconds(1));
    for sid in &sids {
        let reply = load(&app, &query(&[("iss", world.provider.issuer()), ("sid", sid)])).await;
        assert_eq!(reply.status, StatusCode::OK, "those that ended cost nothing");
    }
}

#[tokio::test]
async fn with_the_store_away_nothing_ends_and_the_frame_says_so() {
    for kept in Kept::SHARED {
        for spoilt in [None, Some(("load", "sid")), Some(("swap", "{marks}"))] {
            let world = World::new().await;
            let (app, store) = kept.pod(&world, on);
            let (mut alice, sid) = sign_in(&world, &app, "alice").await;
            let query = query(&[("iss", world.provider.issuer()), ("sid", &sid)]);
            match spoilt {
                None => store.fail(StoreErrorKind::TimedOut),
                Some((operation, purpose)) => store.fail_only(operation, purpose),
            }
            let reply = load(&app, &query).await;
            assert_eq!(reply.status, StatusCode::SERVICE_UNAVAILABLE, "{kept:?} {spoilt:?}");
            assert_page(&world, &reply, "an outage");
            assert!(reply.set_cookies().is_empty());
            store.recover();
            assert_eq!(alice.who().await.as_deref(), Some("alice"), "{kept:?} {spoilt:?}");
            assert_eq!(load(&app, &query).await.status, StatusCode::OK, "it works again");
            assert_signed_out(&alice, "after the outage").await;
        }
    }
}

#[tokio::test]
async fn j43_j60_its_refresh_token_is_revoked() {
    let world = World::with_provider(TestProvider::builder().refresh_tokens(true)).await;
    let (app, _) = Kept::StoredShared.pod(&world, on);
    for cookies in [true, false] {
        world.provider.reset_counts();
        let (mut alice, sid) = sign_in(&world, &app, "alice").await;
        let query = query(&[("iss", world.provider.issuer()), ("sid", &sid)]);
        if cookies {
            load_with_cookies(&mut alice, &query).await;
        } else {
            load(&app, &query).await;
        }
        let revoked = async {
            while world.provider.counts().revocation == 0 {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(seconds(10), revoked).await.expect("J43: it is revoked");
        assert_eq!(world.provider.requests(Endpoint::Revocation).len(), 1, "once");
    }
}
