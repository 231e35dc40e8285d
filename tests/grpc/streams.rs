//! Calls that are under way end with status 16 when their session ends; nobody else's do.

use futures_util::future::join_all;
use tonic::{Code, Status};

use crate::client::next;
use crate::echo::Note;
use crate::pods::{Kept, minutes};
use crate::server::{Running, soon};
use crate::support::World;
use crate::under_way::UnderWay;

/// How a session ends.
#[derive(Clone, Copy, Debug)]
enum End {
    /// By nobody using it.
    Idle,
    SignOut,
}

#[tokio::test]
async fn calls_of_every_kind_end_with_their_session_and_nobody_elses_do() {
    let cases = [Kept::Sealed, Kept::StoredShared]
        .map(|kept| [End::Idle, End::SignOut].map(|end| (kept, end)));
    join_all(cases.concat().into_iter().map(async |(kept, end)| {
        let what = format!("{kept:?} {end:?}");
        let world = World::new().await;
        let store = kept.store(&world);
        let server = Running::start(&world, |builder| kept.with(builder, &store)).await;
        let alice = server.signed_in(&world, "alice").await;
        let hers = UnderWay::begin(&server.echo, server.client_of(&alice).await).await;
        world.clock.advance(minutes(40));
        let bob = server.signed_in(&world, "bob").await;
        let his = UnderWay::begin(&server.echo, server.client_of(&bob).await).await;
        match end {
            End::Idle => world.clock.advance(minutes(21)),
            End::SignOut => alice.sign_out().await,
        }
        hers.assert_ended(&what).await;

        // No call begins with a session that is over; one that was finished is not touched.
        let status = server.client_of(&alice).await.say("hello").await.unwrap_err();
        assert_eq!(status.code(), Code::Unauthenticated, "{what}");
        assert_eq!(status.message(), "not signed in", "{what}");
        let note = server.client_of(&bob).await.say("hello").await.unwrap();
        assert_eq!(note.text, "bob: hello", "{what}");
        his.assert_alive(&server.echo, "bob", &what).await;
    }))
    .await;
}

#[tokio::test]
async fn a_sign_out_at_one_server_ends_the_streams_of_another() {
    let world = World::new().await;
    let kept = Kept::StoredShared;
    let store = kept.store(&world);
    let here = Running::start(&world, |builder| kept.with(builder, &store)).await;
    let alice = here.signed_in(&world, "alice").await;
    // The other pod has another address and the same public URL.
    let there =
        Running::start_elsewhere(&world, &here.origin, |builder| kept.with(builder, &store)).await;
    let calls = UnderWay::begin(&there.echo, there.client_of(&alice).await).await;
    alice.sign_out().await;
    calls.assert_ended("the other pod").await;
}

#[tokio::test]
async fn a_stream_that_always_has_more_ends_too() {
    let world = World::new().await;
    let server = Running::start(&world, |builder| builder).await;
    let alice = server.signed_in(&world, "alice").await;
    let client = server.client_of(&alice).await;
    let asked = Note { text: "many".to_owned(), data: vec![b'x'; 100_000] };
    let mut many = client.watch(asked.clone()).await.unwrap();
    assert_eq!(next(&mut many).await.unwrap(), Some(asked));
    alice.sign_out().await;
    let status = soon("a busy stream", async {
        loop {
            match next(&mut many).await {
                Ok(Some(_)) => {}
                Ok(None) => return Status::ok("it was complete"),
                Err(status) => return status,
            }
        }
    })
    .await;
    assert_eq!(status.code(), Code::Unauthenticated, "{status:?}");
}
