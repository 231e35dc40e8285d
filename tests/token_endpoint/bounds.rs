//! Bounds: time, size, one attempt; and one slow call holds up nobody else.

use std::time::Duration;

use tower_pkce_auth::testing::provider::{Behaviour, Endpoint, TestUser};
use tower_pkce_auth::{MemoryStore, Sessions, Userinfo};

use crate::hostile::{accepted, until, within};
use crate::support::World;
use crate::{refuse, strict};

const SHORT: Duration = Duration::from_millis(200);

#[tokio::test]
async fn d19_d21_d22_an_answer_without_end_is_given_up_and_nothing_is_repeated() {
    let world = World::new().await;
    let builder = world.builder().userinfo(Userinfo::Required).provider_timeout(SHORT);
    let app = world.app(&builder.build().unwrap());
    let timed_out = "provider_unavailable/token_timed_out";
    let broken = "provider_unavailable/token_unreachable";
    for (name, behaviour, reason) in [
        ("D21: it hangs", Behaviour::Hang, timed_out),
        ("D21: it drips", Behaviour::Drip, timed_out),
        ("D21: it is late", Behaviour::Delay(SHORT * 20), timed_out),
        ("D22: the answer is lost", Behaviour::ResetAfterBody, broken),
        ("D22: it hangs up", Behaviour::Refuse, broken),
    ] {
        within(name, refuse(&world, &app, name, behaviour, reason)).await;
    }
    assert_eq!(world.provider.counts().double_redemptions, 0, "D22");
    // The size is what ends these, long before the time-out.
    let builder = world.builder().provider_timeout(Duration::from_secs(600));
    let app = world.app(&builder.build().unwrap());
    for (name, behaviour) in
        [("D19: without end", Behaviour::Endless), ("D19: 10 GiB", Behaviour::HugeContentLength)]
    {
        within(name, refuse(&world, &app, name, behaviour, broken)).await;
    }
}

#[tokio::test]
async fn d20_a_compressed_answer_is_not_unpacked() {
    let world = World::new().await;
    let app = strict(&world);
    for encoding in ["gzip", "br", "deflate", "zstd", "gzip, gzip"] {
        world.provider.on_response_headers(Endpoint::Token, move |headers| {
            headers.insert("content-encoding", encoding.parse().unwrap());
        });
        let broken = "provider_unavailable/token_unreachable";
        crate::refused_as(&world, &app, &format!("D20: {encoding}"), broken).await;
    }
}

#[tokio::test]
async fn d21_a_hung_call_holds_up_nobody_else() {
    let world = World::new().await;
    let builder = world.builder().provider_timeout(Duration::from_secs(600));
    let app = world.app(&builder.build().unwrap());
    let mut signed_in = world.browser(&app, "alice");
    signed_in.sign_in("/").await;
    let mut waiting = world.browser(&app, "bob");
    let callback = waiting.to_callback("/").await;
    world.provider.set_behaviour(Endpoint::Token, Behaviour::Hang);
    let before = world.provider.counts().token;
    let hung = tokio::spawn(async move { waiting.get(&callback).await });
    until("the call", || world.provider.counts().token > before).await;
    for _ in 0..200 {
        assert_eq!(signed_in.who().await.as_deref(), Some("alice"));
    }
    world.provider.clear_faults();
    accepted(&world, &app, "D21: another login meanwhile").await;
    assert!(!hung.is_finished(), "the call still hangs");
    hung.abort();
}

#[tokio::test]
async fn d24_large_access_tokens_are_no_matter() {
    let world = World::new().await;
    let sealed = world.builder().build().unwrap();
    let stored = world.builder().store(MemoryStore::new()).sessions(Sessions::Stored);
    let stored = stored.build().unwrap();
    for (kind, layer) in [("sealed", sealed), ("stored", stored)] {
        let app = world.app(&layer);
        for kib in [16, 64] {
            world.provider.on_id_token(|token| token.remove("at_hash"));
            world.provider.on_token_response(move |tokens| {
                for name in ["access_token", "refresh_token"] {
                    tokens.insert(name.to_owned(), "x".repeat(kib * 1024).into());
                }
            });
            let name = format!("D24: {kind}, {kib} KiB");
            accepted(&world, &app, &name).await;
            world.provider.clear_faults();
        }
    }
}

#[tokio::test]
async fn d24_claims_that_fit_into_no_cookie_are_a_clear_failure() {
    let world = World::new().await;
    // Random enough not to be squeezed, small enough for the token endpoint.
    let groups = (0..400).map(|n| format!("group-{:032x}", u128::from(n as u64) << 64 | 0x9e37));
    let many = groups.fold(TestUser::new("carol"), TestUser::group);
    world.provider.add_user(many.clone());
    let sealed = world.app(&world.builder().build().unwrap());
    let mut browser = world.browser(&sealed, "carol");
    let callback = browser.to_callback("/").await;
    let reply = browser.get(&callback).await;
    assert_eq!(reply.reason(), "session_too_large/cookies", "D24");
    assert_eq!(reply.status, 502);
    assert_eq!(browser.jar.ending("-s"), None, "no half of a session");
    let stored = world.builder().store(MemoryStore::new()).sessions(Sessions::Stored);
    let stored = world.app(&stored.build().unwrap());
    assert_eq!(world.browser(&stored, "carol").sign_in("/").await.body, "carol");
}
