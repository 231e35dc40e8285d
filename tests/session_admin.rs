//! The sessions of a person: listed, ended one by one, all together, and everybody's.

#[path = "support/pods.rs"]
mod pods;
mod support;
#[path = "support/tokens.rs"]
mod tokens;
#[path = "support/yielding.rs"]
mod yielding;

use std::time::Duration;

use bytes::Bytes;
use futures_util::future::join_all;
use pods::{Kept, assert_signed_out, at, minutes, seconds};
use support::World;
use tokens::{log_out, sign_in};
use tower_pkce_auth::testing::SignedIn;
use tower_pkce_auth::testing::provider::TestProvider;
use tower_pkce_auth::{Clock as _, CookieKeys, PkceAuthLayer, Sessions, StoreErrorKind};
use yielding::Yielding;

/// How many sessions of a person a pod lists.
async fn count(layer: &PkceAuthLayer, subject: &str) -> usize {
    layer.sessions().of_person(subject).await.unwrap().len()
}

#[tokio::test]
async fn sessions_are_listed_and_ended_on_every_pod() {
    for kept in Kept::SHARED {
        let world = World::new().await;
        let store = kept.store(&world);
        let pod = || kept.with(world.builder(), &store).build().unwrap();
        let (here, there) = (pod(), pod());
        let (one, two) = (world.app(&here), world.app(&there));
        let began = world.clock.now();
        let (first, sid) = sign_in(&world, &one, "alice").await;
        world.clock.advance(minutes(5));
        let (mut second, _) = sign_in(&world, &two, "alice").await;
        let (mut bob, _) = sign_in(&world, &two, "bob").await;
        world.clock.advance(minutes(5));
        // A stored record is read anew by the request after the one that prolonged it.
        for _ in 0..2 {
            assert_eq!(second.who().await.as_deref(), Some("alice"), "it is used");
        }

        let listed = there.sessions().of_person("alice").await.unwrap();
        assert_eq!(listed.len(), 2, "{kept:?}");
        assert_eq!(listed[1].created(), began, "{kept:?}: the oldest is last");
        assert_eq!(listed[0].created(), began + minutes(5), "{kept:?}");
        assert_eq!(listed[0].last_seen(), began + minutes(10), "{kept:?}: this pod has seen it");
        assert_eq!(listed[1].last_seen(), began, "{kept:?}: this one has not");
        assert_eq!(listed[1].ends(), began + minutes(12 * 60), "{kept:?}");
        let place = if kept.is_stored() { Sessions::Stored } else { Sessions::Sealed };
        assert!(listed.iter().all(|session| session.kept() == place), "{kept:?}");
        assert_ne!(listed[0].id(), listed[1].id());
        let printed = format!("{listed:?} {:?}", there.sessions());
        assert!(!printed.contains(&sid), "{kept:?}: a sid is for the provider only: {printed}");

        // One of them, from the pod that has not seen it.
        let id = listed[1].id().to_owned();
        assert!(!there.sessions().end("bob", &id).await.unwrap(), "{kept:?}: not bob's");
        assert!(!there.sessions().end("alice", "unknown").await.unwrap(), "{kept:?}");
        assert!(there.sessions().end("alice", &id).await.unwrap(), "{kept:?}");
        assert_signed_out(&first, &format!("{kept:?}")).await;
        assert_signed_out(&at(&two, &first), &format!("{kept:?}")).await;
        assert_eq!(second.who().await.as_deref(), Some("alice"), "{kept:?}");
        assert!(!there.sessions().end("alice", &id).await.unwrap(), "{kept:?}: it is over");
        assert_eq!(count(&here, "alice").await, 1, "{kept:?}");

        // All of them.
        here.sessions().end_person("alice").await.unwrap();
        assert_signed_out(&second, &format!("{kept:?}")).await;
        assert_eq!(bob.who().await.as_deref(), Some("bob"), "{kept:?}");
        assert_eq!((count(&there, "alice").await, count(&there, "bob").await), (0, 1), "{kept:?}");
        here.sessions().end_person("nobody").await.unwrap();

        // Everybody's; and the door is open again.
        let (mut again, _) = sign_in(&world, &one, "alice").await;
        there.sessions().end_everybody().await.unwrap();
        for browser in [&again, &bob] {
            assert_signed_out(browser, &format!("{kept:?}")).await;
        }
        assert_eq!((count(&here, "alice").await, count(&here, "bob").await), (0, 0), "{kept:?}");
        again = sign_in(&world, &two, "alice").await.0;
        assert_eq!(at(&one, &again).who().await.as_deref(), Some("alice"), "{kept:?}");
    }
}

#[tokio::test]
async fn without_a_shared_store_it_reaches_this_process() {
    for kept in [Kept::Sealed, Kept::Stored] {
        let world = World::new().await;
        let store = kept.store(&world);
        let layer = kept.with(world.builder(), &store).build().unwrap();
        let app = world.app(&layer);
        let (first, _) = sign_in(&world, &app, "alice").await;
        let (mut second, _) = sign_in(&world, &app, "alice").await;
        let listed = layer.sessions().of_person("alice").await.unwrap();
        assert_eq!(listed.len(), 2, "{kept:?}");
        assert!(layer.sessions().end("alice", listed[1].id()).await.unwrap());
        let ended = [first.clone().who().await, second.who().await];
        assert_eq!(ended.iter().filter(|who| who.is_none()).count(), 1, "{kept:?}: {ended:?}");
        layer.sessions().end_person("alice").await.unwrap();
        assert_signed_out(&first, &format!("{kept:?}")).await;
        assert_signed_out(&second, &format!("{kept:?}")).await;
        assert_eq!(count(&layer, "alice").await, 0, "{kept:?}");
    }
}

#[tokio::test]
async fn what_ended_in_another_way_is_not_listed() {
    for kept in Kept::SHARED {
        let world = World::new().await;
        let store = kept.store(&world);
        let layer = kept.with(world.builder(), &store).build().unwrap();
        let app = world.app(&layer);
        let (mut alice, _) = sign_in(&world, &app, "alice").await;
        alice.post("/auth/logout").await;
        assert_eq!(count(&layer, "alice").await, 0, "{kept:?}: by the button");
        let (_, sid) = sign_in(&world, &app, "alice").await;
        log_out(&world, &app, (None, Some(&sid)), "a report").await;
        assert_eq!(count(&layer, "alice").await, 0, "{kept:?}: by the provider");
        sign_in(&world, &app, "alice").await;
        world.clock.advance(minutes(62));
        let listed = count(&layer, "alice").await;
        assert_eq!(listed, usize::from(!kept.is_stored()), "{kept:?}: idle");
        world.clock.advance(minutes(12 * 60));
        assert_eq!(count(&layer, "alice").await, 0, "{kept:?}: by time");
        // A new login replaces the session of its browser.
        let (mut alice, _) = sign_in(&world, &app, "alice").await;
        alice.sign_in("/auth/login?switch=1").await;
        assert_eq!(count(&layer, "alice").await, 1, "{kept:?}: replaced");
    }
}

#[tokio::test]
async fn the_list_is_bounded_and_survives_races_and_those_it_does_not_name_end_too() {
    let world = World::new().await;
    let kept = Kept::StoredShared;
    let store = kept.store(&world);
    let pod = || world.builder().store(Yielding(store.clone())).build().unwrap();
    let pods: Vec<_> = (0..3).map(|_| pod()).collect();
    let oldest = SignedIn::new("alice").cookie(&pods[0]).await;
    world.clock.advance(seconds(1));
    // All at once: none is lost.
    let logins = (0..60).map(|n| {
        let layer = pods[n % 3].clone();
        async move { SignedIn::new("alice").cookie(&layer).await }
    });
    join_all(logins).await;
    assert_eq!(count(&pods[1], "alice").await, 61);
    world.clock.advance(seconds(1));
    for n in 0..50 {
        SignedIn::new("alice").cookie(&pods[n % 3]).await;
    }
    assert_eq!(count(&pods[2], "alice").await, 100, "the newest");
    let key = store.keys("person").pop().unwrap();
    let note = store.value(&key).await.unwrap();
    assert!(note.len() < 20_000, "{} bytes", note.len());
    assert!(!note.windows(5).any(|window| window == b"alice"), "it is sealed");
    pods[1].sessions().end_person("alice").await.unwrap();
    let mut browser = world.browser(&world.app(&pods[2]), "alice");
    let (name, value) = oldest.to_str().unwrap().split_once('=').unwrap();
    pods::plant(&mut browser, name, value);
    assert_signed_out(&browser, "not named any more, and ended").await;
}

#[tokio::test]
async fn a_login_does_not_fail_for_its_note_and_an_unreadable_one_is_replaced() {
    for kept in Kept::SHARED {
        let world = World::new().await;
        let store = kept.store(&world);
        let layer = kept.with(world.builder(), &store).build().unwrap();
        let app = world.app(&layer);
        for operation in ["load", "insert"] {
            store.fail_only(operation, "person");
            let (mut alice, _) = sign_in(&world, &app, "alice").await;
            store.recover();
            assert_eq!(alice.who().await.as_deref(), Some("alice"), "{kept:?} {operation}");
        }
        // It is ended all the same.
        let (alice, _) = sign_in(&world, &app, "alice").await;
        let key = store.keys("person").pop().unwrap();
        store.overwrite(&key, Bytes::from_static(b"garbage")).await;
        assert_eq!(count(&layer, "alice").await, 0, "{kept:?}: it names nobody");
        layer.sessions().end_person("alice").await.unwrap();
        assert_signed_out(&alice, &format!("{kept:?}")).await;
        sign_in(&world, &app, "alice").await;
        assert_eq!(count(&layer, "alice").await, 1, "{kept:?}: it is replaced");
        // Of another ring: as if it were not there.
        let other = kept.with(world.builder().cookie_keys(CookieKeys::random()), &store);
        assert_eq!(count(&other.build().unwrap(), "alice").await, 0, "{kept:?}");
    }
}

#[tokio::test]
async fn with_the_store_away_it_says_so_and_ends_all_when_it_is_asked_again() {
    for kept in Kept::SHARED {
        let world = World::new().await;
        let store = kept.store(&world);
        let layer = kept.with(world.builder(), &store).build().unwrap();
        let app = world.app(&layer);
        let (mut alice, _) = sign_in(&world, &app, "alice").await;
        let sessions = layer.sessions();
        let id = sessions.of_person("alice").await.unwrap()[0].id().to_owned();
        store.fail(StoreErrorKind::TimedOut);
        assert_eq!(sessions.of_person("alice").await.unwrap_err().kind(), StoreErrorKind::TimedOut);
        assert!(sessions.end("alice", &id).await.is_err(), "{kept:?}");
        assert!(sessions.end_person("alice").await.is_err(), "{kept:?}");
        assert!(sessions.end_everybody().await.is_err(), "{kept:?}");
        store.recover();
        assert_eq!(alice.who().await.as_deref(), Some("alice"), "{kept:?}: it says what is true");
        for (operation, purpose) in
            [("swap", "{marks}"), ("insert", "{marks}"), ("take", "session")]
        {
            if purpose == "session" && !kept.is_stored() {
                continue;
            }
            store.fail_only(operation, purpose);
            assert!(sessions.end_person("alice").await.is_err(), "{kept:?} {operation} {purpose}");
            store.recover();
        }
        sessions.end_person("alice").await.unwrap();
        assert_signed_out(&alice, &format!("{kept:?}")).await;
        let left = store.keys("session");
        for key in left {
            assert_eq!(store.value(&key).await, None, "{kept:?}: no record is left");
        }
    }
}

/// A mark that a session has in its baseline must not run out before the session: it would look as
/// if the session had been signed out.
#[tokio::test]
async fn an_old_sign_out_never_ends_a_new_session() {
    for kept in Kept::SHARED {
        let world = World::new().await;
        let month = minutes(30 * 24 * 60);
        let store = kept.store(&world);
        let layer = kept
            .with(world.builder().session_absolute(month).session_idle(month), &store)
            .build()
            .unwrap();
        let app = world.app(&layer);
        sign_in(&world, &app, "alice").await;
        layer.sessions().end_person("alice").await.unwrap();
        world.clock.advance(minutes(20 * 24 * 60));
        let (mut alice, _) = sign_in(&world, &app, "alice").await;
        for day in 0..29 {
            world.clock.advance(minutes(24 * 60));
            assert_eq!(alice.who().await.as_deref(), Some("alice"), "{kept:?}, day {day}");
        }
    }
}

#[tokio::test]
async fn its_refresh_tokens_are_revoked() {
    let world = World::with_provider(TestProvider::builder().refresh_tokens(true)).await;
    let kept = Kept::StoredShared;
    let store = kept.store(&world);
    let layer = kept.with(world.builder(), &store).build().unwrap();
    let app = world.app(&layer);
    sign_in(&world, &app, "alice").await;
    sign_in(&world, &app, "alice").await;
    sign_in(&world, &app, "bob").await;
    let sessions = layer.sessions();
    let id = sessions.of_person("alice").await.unwrap()[0].id().to_owned();
    let revoked = async |count| {
        let done = async {
            while world.provider.counts().revocation < count {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(seconds(10), done).await.expect("they are revoked");
        // One more, were there one, would come now.
        tokio::time::sleep(Duration::from_millis(100)).await;
        assert_eq!(world.provider.counts().revocation, count);
    };
    assert!(sessions.end("alice", &id).await.unwrap());
    revoked(1).await;
    sessions.end_person("alice").await.unwrap();
    revoked(2).await;
    sessions.end_everybody().await.unwrap();
    revoked(3).await;
}
