//! Streams end with their session, each in its own way, and not before.

#[path = "support/pods.rs"]
mod pods;
mod support;
#[path = "support/tokens.rs"]
mod tokens;

use std::convert::Infallible;
use std::future::{pending, ready};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::body::Body;
use axum::extract::Request;
use axum::http::{HeaderMap, HeaderValue, Method, Response, StatusCode};
use bytes::Bytes;
use futures_util::future::join_all;
use http_body_util::BodyExt as _;
use pods::{Kept, minutes};
use support::{App, Browser, World, navigation};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tower::{Layer as _, ServiceExt as _, service_fn};
use tower_pkce_auth::testing::provider::{TestProvider, TestUser};
use tower_pkce_auth::{
    Guarded, Identity, PkceAuth, PkceAuthLayer, Respond, SessionGuard, SessionGuardLayer,
    StoreErrorKind,
};

/// Everything here happens within a second or two; this only ends a test that hangs.
const HANG: Duration = Duration::from_secs(20);
/// Long enough for a watch to begin and to look twice.
const A_WHILE: Duration = Duration::from_millis(1700);

/// A response under way, and the end from which it is fed.
struct Stream {
    body: Guarded<Body>,
    feed: mpsc::Sender<Result<Bytes, Infallible>>,
}

/// What comes next of a stream.
#[derive(Debug)]
enum Next {
    Data(Bytes),
    Trailers(HeaderMap),
    Error(String),
    End,
}

impl Stream {
    /// Asks for a stream behind the layer, as this browser; it has sent `first`.
    async fn open<R>(
        layer: &PkceAuthLayer<R>,
        browser: &Browser,
        content_type: &'static str,
        first: &'static str,
    ) -> Self
    where
        R: Respond<Guarded<Body>> + Clone,
    {
        let (feed, receiver) = mpsc::channel(64);
        let receiver = Arc::new(Mutex::new(Some(receiver)));
        let inner = service_fn(move |_: Request| {
            let receiver = receiver.lock().unwrap().take().expect("it is called once");
            let mut response = Response::new(Body::from_stream(ReceiverStream::new(receiver)));
            response.headers_mut().insert("content-type", HeaderValue::from_static(content_type));
            ready(Ok::<_, Infallible>(response))
        });
        let response = guarded(layer, inner).oneshot(request(browser, "/stream")).await.unwrap();
        assert_eq!(response.status(), StatusCode::OK);
        let mut stream = Self { body: response.into_body(), feed };
        stream.say(first).await;
        assert!(matches!(stream.next().await, Next::Data(data) if data == first));
        stream
    }

    async fn say(&self, text: &'static str) {
        self.feed.send(Ok(Bytes::from_static(text.as_bytes()))).await.unwrap();
    }

    async fn next(&mut self) -> Next {
        let next = tokio::time::timeout(HANG, self.body.frame()).await;
        match next.expect("something comes next") {
            None => Next::End,
            Some(Err(error)) => Next::Error(error.to_string()),
            Some(Ok(frame)) => match frame.into_data() {
                Ok(data) => Next::Data(data),
                Err(frame) => Next::Trailers(frame.into_trailers().unwrap()),
            },
        }
    }

    /// Asserts that nothing ends the stream for a while, and that it still flows.
    async fn assert_open(&mut self, what: &str) {
        let early = tokio::time::timeout(A_WHILE, self.body.frame()).await;
        assert!(early.is_err(), "{what}: {early:?}");
        self.say("more").await;
        assert!(matches!(self.next().await, Next::Data(data) if data == "more"), "{what}");
    }

    async fn assert_cut(&mut self, what: &str) {
        let next = self.next().await;
        assert!(
            matches!(&next, Next::Error(error) if error == "the session ended"),
            "{what}: {next:?}"
        );
        assert!(matches!(self.next().await, Next::End), "{what}: nothing comes after it");
        assert!(self.feed.is_closed(), "{what}: the inner body is gone");
    }
}

/// A service behind the layer, with the guard between them.
fn guarded<R: Clone, S>(layer: &PkceAuthLayer<R>, inner: S) -> PkceAuth<SessionGuard<S>, R> {
    layer.layer(SessionGuardLayer::new().layer(inner))
}

fn request(browser: &Browser, path: &str) -> Request {
    let mut request = navigation(Method::GET, path);
    if let Some(value) = browser.jar.header(path) {
        request.headers_mut().append("cookie", value.parse().unwrap());
    }
    request
}

async fn signed_in(world: &World, app: &App, user: &str) -> Browser {
    let mut browser = world.browser(app, user);
    assert_eq!(browser.sign_in("/").await.body, user);
    browser
}

async fn sign_out(browser: &Browser) {
    let reply = browser.clone().post("/auth/logout").await;
    assert_eq!(reply.status, StatusCode::SEE_OTHER, "{}", reply.reason());
}

#[tokio::test]
async fn each_kind_of_stream_ends_in_its_own_way() {
    let world = World::new().await;
    let layer = world.builder().build().unwrap();
    let browser = signed_in(&world, &world.app(&layer), "alice").await;
    let open =
        async |content_type, first| Stream::open(&layer, &browser, content_type, first).await;
    let mut grpc = open("application/grpc+proto", "x").await;
    let mut events = open("text/event-stream; charset=utf-8", "x").await;
    let mut page = open("text/html", "x").await;
    let mut unlike = open("application/grpcx", "x").await;
    let mut web_text = open("application/grpc-web-text", "x").await;
    let mut web = open("application/grpc-web+proto", "\0\0\0\0\x02ab").await;
    let mut web_inside = open("application/grpc-web", "\0\0\0\0\x02a").await;
    sign_out(&browser).await;

    let Next::Trailers(trailers) = grpc.next().await else { panic!("gRPC ends with trailers") };
    assert_eq!(trailers["grpc-status"], "16");
    assert!(!trailers["grpc-message"].is_empty());
    assert!(matches!(grpc.next().await, Next::End));
    assert!(matches!(events.next().await, Next::End));
    page.assert_cut("a page").await;
    unlike.assert_cut("a look-alike").await;
    web_text.assert_cut("gRPC-Web as text").await;
    web_inside.assert_cut("gRPC-Web in the middle of a message").await;
    let Next::Data(last) = web.next().await else { panic!("gRPC-Web ends with a frame") };
    assert_eq!(last[0], 0x80);
    let length = u32::from_be_bytes(last[1..5].try_into().unwrap());
    assert_eq!(usize::try_from(length).unwrap(), last.len() - 5);
    assert!(last[5..].starts_with(b"grpc-status:16\r\n"), "{last:?}");
    assert!(matches!(web.next().await, Next::End));
}

#[tokio::test]
async fn a_sign_out_on_one_pod_ends_the_streams_of_the_others() {
    join_all(Kept::SHARED.map(async |kept| {
        let world = World::new().await;
        let store = kept.store(&world);
        let pod = || kept.with(world.builder(), &store).build().unwrap();
        let (here, there) = (pod(), pod());
        let alice = signed_in(&world, &world.app(&there), "alice").await;
        let bob = signed_in(&world, &world.app(&there), "alice").await;
        let mut ends = Stream::open(&here, &alice, "text/event-stream", "x").await;
        let mut stays = Stream::open(&here, &bob, "text/event-stream", "x").await;
        sign_out(&alice).await;
        assert!(matches!(ends.next().await, Next::End), "{kept:?}");
        stays.assert_open(&format!("{kept:?}")).await;
    }))
    .await;
}

/// A sign-out that came to this pod is told at once; one of another is found within a second.
#[tokio::test]
async fn j49_streams_end_however_their_session_is_ended() {
    /// What ends the session at a pod.
    #[derive(Clone, Copy, Debug)]
    enum How {
        Admin,
        Everybody,
        Everywhere,
        One,
        Report,
        Frame,
    }
    let all = [How::Admin, How::Everybody, How::Everywhere, How::One, How::Report, How::Frame];
    let cases = all.into_iter().flat_map(|how| Kept::SHARED.map(|kept| (how, kept)));
    join_all(cases.map(async |(how, kept)| {
        let what = format!("{how:?} {kept:?}");
        let world = World::new().await;
        let store = kept.store(&world);
        let pod = || kept.with(world.builder(), &store).frontchannel_logout(true).build().unwrap();
        let (here, there) = (pod(), pod());
        let (alice, sid) = tokens::sign_in(&world, &world.app(&here), "alice").await;
        let bob = signed_in(&world, &world.app(&here), "bob").await;
        let mut near = Stream::open(&here, &alice, "text/event-stream", "x").await;
        let mut far = Stream::open(&there, &alice, "text/event-stream", "x").await;
        let mut stays = Stream::open(&here, &bob, "text/event-stream", "x").await;
        // Long enough for the watches to begin, and just after a look.
        near.assert_open(&what).await;
        let app = world.app(&here);
        let began = std::time::Instant::now();
        match how {
            How::Admin => here.sessions().end_person("alice").await.unwrap(),
            How::Everybody => here.sessions().end_everybody().await.unwrap(),
            How::Everywhere => {
                let (mut phone, _) = tokens::sign_in(&world, &app, "alice").await;
                phone.post("/auth/logout?everywhere=1").await;
            }
            How::One => {
                let sessions = here.sessions().of_person("alice").await.unwrap();
                assert!(here.sessions().end("alice", sessions[0].id()).await.unwrap());
            }
            How::Report => tokens::log_out(&world, &app, (None, Some(&sid)), &what).await,
            How::Frame => {
                let query = [("iss", world.provider.issuer()), ("sid", &sid)];
                let query = url::form_urlencoded::Serializer::new(String::new())
                    .extend_pairs(query)
                    .finish();
                let path = format!("/auth/frontchannel-logout?{query}");
                let reply = support::send(&app, navigation(Method::GET, &path)).await;
                assert_eq!(reply.status, StatusCode::OK, "{what}");
            }
        }
        assert!(matches!(near.next().await, Next::End), "{what}");
        let near_after = began.elapsed();
        assert!(matches!(far.next().await, Next::End), "{what}");
        if matches!(how, How::Everybody) {
            assert!(matches!(stays.next().await, Next::End), "{what}");
        } else {
            stays.assert_open(&what).await;
        }
        near_after
    }))
    .await
    .iter()
    // A look comes each 750 ms at the earliest; all of them sooner by chance is unlikely.
    .for_each(|after| assert!(*after < Duration::from_millis(700), "told at once: {after:?}"));
}

#[tokio::test]
async fn streams_end_by_time_and_live_on_while_the_person_is_there() {
    join_all(Kept::ALL.map(async |kept| {
        let world = World::new().await;
        let (app, store) = kept.pod(&world, |builder| builder);
        let layer = kept.with(world.builder(), &store).build().unwrap();
        let app_here = world.app(&layer);
        let mut browser = signed_in(&world, &app, "alice").await;
        let mut stream = Stream::open(&layer, &browser, "text/plain", "x").await;
        stream.assert_open(&format!("{kept:?}: at first")).await;
        world.clock.advance(minutes(40));
        browser.app = app_here;
        assert_eq!(browser.get("/").await.body, "alice", "{kept:?}");
        world.clock.advance(minutes(40));
        stream.assert_open(&format!("{kept:?}: 40 minutes after the last request")).await;
        world.clock.advance(minutes(21));
        stream.assert_cut(&format!("{kept:?}: idle")).await;

        // However busy, no session outlives its absolute end.
        let mut browser = signed_in(&world, &browser.app, "alice").await;
        let mut stream = Stream::open(&layer, &browser, "text/plain", "x").await;
        for _ in 0..17 {
            world.clock.advance(minutes(42));
            assert_eq!(browser.get("/").await.body, "alice", "{kept:?}");
        }
        world.clock.advance(minutes(6));
        stream.assert_cut(&format!("{kept:?}: absolute")).await;
    }))
    .await;
}

#[tokio::test]
async fn a_stored_session_used_on_another_pod_keeps_its_streams_here() {
    let world = World::new().await;
    let kept = Kept::StoredShared;
    let store = kept.store(&world);
    let pod = || kept.with(world.builder(), &store).build().unwrap();
    let (here, there) = (pod(), pod());
    let mut browser = signed_in(&world, &world.app(&there), "alice").await;
    let mut stream = Stream::open(&here, &browser, "text/plain", "x").await;
    world.clock.advance(minutes(40));
    assert_eq!(browser.get("/").await.body, "alice");
    world.clock.advance(minutes(40));
    stream.assert_open("the other pod knows better").await;
}

#[tokio::test]
async fn streams_outlast_a_short_outage_of_the_store_and_no_long_one() {
    join_all(Kept::SHARED.map(async |kept| {
        let world = World::new().await;
        let store = kept.store(&world);
        let layer = kept.with(world.builder(), &store).build().unwrap();
        let browser = signed_in(&world, &world.app(&layer), "alice").await;
        let mut stream = Stream::open(&layer, &browser, "text/plain", "x").await;
        // The watch looks once before the outage.
        stream.assert_open(&format!("{kept:?}: before")).await;
        store.fail(StoreErrorKind::Unavailable);
        world.clock.advance(Duration::from_secs(50));
        stream.assert_open(&format!("{kept:?}: within the grace")).await;
        store.recover();
        stream.assert_open(&format!("{kept:?}: recovered")).await;
        store.fail(StoreErrorKind::TimedOut);
        world.clock.advance(Duration::from_secs(61));
        stream.assert_cut(&format!("{kept:?}: after the grace")).await;
    }))
    .await;
}

#[tokio::test]
async fn a_grpc_call_that_is_still_being_sent_ends_too_and_other_requests_do_not() {
    let world = World::new().await;
    let layer = world.builder().build().unwrap();
    let browser = signed_in(&world, &world.app(&layer), "alice").await;
    let inner = service_fn(|_: Request| pending::<Result<Response<Body>, Infallible>>());
    let service = guarded(&layer, inner);
    let call = |content_type: &'static str| {
        let mut request = request(&browser, "/Greeter/Collect");
        request.headers_mut().insert("content-type", HeaderValue::from_static(content_type));
        tokio::spawn(service.clone().oneshot(request))
    };
    let native = call("application/grpc");
    let web = call("application/grpc-web+proto");
    let other = call("application/json");
    // All three have begun before the sign-out.
    tokio::time::sleep(A_WHILE / 2).await;
    sign_out(&browser).await;
    for (call, content_type) in [(native, "application/grpc"), (web, "application/grpc-web+proto")]
    {
        let response = tokio::time::timeout(HANG, call).await.unwrap().unwrap().unwrap();
        assert_eq!(response.status(), StatusCode::OK);
        assert_eq!(response.headers()["grpc-status"], "16");
        assert_eq!(response.headers()["content-type"], content_type);
        assert!(response.into_body().collect().await.unwrap().to_bytes().is_empty());
    }
    assert!(tokio::time::timeout(A_WHILE, other).await.is_err(), "it may be half-way");
}

#[tokio::test]
async fn a_body_that_always_has_more_ends_too() {
    let world = World::new().await;
    let layer = world.builder().build().unwrap();
    let browser = signed_in(&world, &world.app(&layer), "alice").await;
    let inner = service_fn(|_: Request| {
        let endless = tokio_stream::iter(std::iter::repeat(Ok::<_, Infallible>("more")));
        ready(Ok::<_, Infallible>(Response::new(Body::from_stream(endless))))
    });
    let response = guarded(&layer, inner).oneshot(request(&browser, "/")).await.unwrap();
    let mut body = response.into_body();
    let reader = tokio::spawn(async move {
        while let Some(frame) = body.frame().await {
            if let Err(error) = frame {
                return error.to_string();
            }
            tokio::task::yield_now().await;
        }
        "it was complete".to_owned()
    });
    sign_out(&browser).await;
    let end = tokio::time::timeout(HANG, reader).await.expect("it ends").unwrap();
    assert_eq!(end, "the session ended");
}

#[tokio::test]
async fn a_response_that_is_done_soon_asks_for_nothing_more() {
    let world = World::new().await;
    let kept = Kept::StoredShared;
    let store = kept.store(&world);
    let layer = kept.with(world.builder(), &store).build().unwrap();
    let browser = signed_in(&world, &world.app(&layer), "alice").await;
    let inner = service_fn(|_: Request| ready(Ok::<_, Infallible>(Response::new(Body::from("x")))));
    let calls = async |asked: bool| {
        store.forget_calls();
        if asked {
            guarded(&layer, inner).oneshot(request(&browser, "/")).await.map(drop).unwrap();
        } else {
            layer.layer(inner).oneshot(request(&browser, "/")).await.map(drop).unwrap();
        }
        tokio::time::sleep(A_WHILE).await;
        store.calls().len()
    };
    assert_eq!(calls(true).await, calls(false).await);
}

#[tokio::test]
async fn what_belongs_to_no_session_is_left_alone() {
    let world = World::new().await;
    let layer = world.builder().open("/stream".parse().unwrap()).build().unwrap();
    let app = world.app(&layer);
    let browser = signed_in(&world, &app, "alice").await;
    let mut stream = Stream::open(&layer, &browser, "text/event-stream", "x").await;
    sign_out(&browser).await;
    stream.assert_open("an open path").await;
}

#[tokio::test]
async fn an_identity_tells_when_its_session_ends() {
    let world = World::new().await;
    let layer = world.builder().build().unwrap();
    let browser = signed_in(&world, &world.app(&layer), "alice").await;
    let seen = Arc::new(Mutex::new(None));
    let inner = service_fn(|request: Request| {
        *seen.lock().unwrap() = request.extensions().get::<Identity>().cloned();
        ready(Ok::<_, Infallible>(Response::new(Body::empty())))
    });
    guarded(&layer, inner).oneshot(request(&browser, "/")).await.unwrap();
    let identity = seen.lock().unwrap().take().unwrap();
    let (mut first, second) = (identity.ended(), identity.clone().ended());
    assert!(tokio::time::timeout(A_WHILE, &mut first).await.is_err(), "the session lives");
    sign_out(&browser).await;
    tokio::time::timeout(HANG, first).await.expect("told");
    tokio::time::timeout(HANG, second).await.expect("told, asked for the first time afterwards");
}

#[tokio::test]
async fn a_sign_out_on_this_pod_ends_its_streams_at_once_whatever_the_store_says() {
    for (kept, away) in [
        (Kept::StoredShared, false),
        (Kept::StoredShared, true),
        (Kept::SealedShared, false),
        (Kept::SealedShared, true),
    ] {
        let what = format!("{kept:?}, away: {away}");
        let world = World::new().await;
        let store = kept.store(&world);
        let layer = kept.with(world.builder(), &store).build().unwrap();
        let browser = signed_in(&world, &world.app(&layer), "alice").await;
        let mut stream = Stream::open(&layer, &browser, "text/plain", "x").await;
        stream.assert_open(&what).await;
        if away {
            store.fail(StoreErrorKind::Unavailable);
        }
        let reply = browser.clone().post("/auth/logout").await;
        let expected = if away { 503 } else { 303 };
        assert_eq!(reply.status.as_u16(), expected, "{what}: {}", reply.reason());
        // No look at the store could have told it: with the store away they go on for a minute.
        stream.assert_cut(&what).await;
    }
}

#[tokio::test]
async fn a_stream_that_ends_because_nobody_can_tell_says_try_again() {
    let world = World::new().await;
    let kept = Kept::StoredShared;
    let store = kept.store(&world);
    let layer = kept.with(world.builder(), &store).build().unwrap();
    let browser = signed_in(&world, &world.app(&layer), "alice").await;
    let mut grpc = Stream::open(&layer, &browser, "application/grpc", "x").await;
    grpc.assert_open("before").await;
    store.fail(StoreErrorKind::Unavailable);
    world.clock.advance(Duration::from_secs(61));
    let Next::Trailers(trailers) = grpc.next().await else { panic!("gRPC ends with trailers") };
    assert_eq!(trailers["grpc-status"], "14", "nobody was signed out");
}

#[tokio::test]
async fn what_is_answered_long_after_the_sign_out_is_not_sent() {
    let world = World::new().await;
    let layer = world.builder().build().unwrap();
    let browser = signed_in(&world, &world.app(&layer), "alice").await;
    let gate = Arc::new(tokio::sync::Semaphore::new(0));
    let opened = gate.clone();
    let inner = service_fn(move |_: Request| {
        let gate = gate.clone();
        async move {
            gate.acquire().await.unwrap().forget();
            Ok::<_, Infallible>(Response::new(Body::from("secret")))
        }
    });
    let poll = tokio::spawn(guarded(&layer, inner).oneshot(request(&browser, "/poll")));
    tokio::time::sleep(A_WHILE).await;
    sign_out(&browser).await;
    opened.add_permits(1);
    let response = tokio::time::timeout(HANG, poll).await.unwrap().unwrap().unwrap();
    let body = response.into_body().collect().await;
    assert_eq!(body.unwrap_err().to_string(), "the session ended");
}

#[tokio::test]
async fn a_client_that_stops_reading_gets_nothing_more_after_the_sign_out() {
    let world = World::new().await;
    let layer = world.builder().build().unwrap();
    let browser = signed_in(&world, &world.app(&layer), "alice").await;
    let mut stream = Stream::open(&layer, &browser, "text/plain", "x").await;
    for text in ["a", "b", "c"] {
        stream.say(text).await;
    }
    // Nobody reads, so nobody asks; the rest is there before the sign-out.
    tokio::time::sleep(A_WHILE).await;
    sign_out(&browser).await;
    stream.assert_cut("what waited is not sent").await;
}

#[tokio::test]
async fn a_grpc_web_call_that_has_ended_itself_keeps_its_own_status() {
    let world = World::new().await;
    let layer = world.builder().build().unwrap();
    let browser = signed_in(&world, &world.app(&layer), "alice").await;
    let last = "\u{0}\u{0}\u{0}\u{0}\u{1}a";
    let mut stream = Stream::open(&layer, &browser, "application/grpc-web", last).await;
    let trailers = Bytes::from_static(b"\x80\0\0\0\x0fgrpc-status:0\r\n");
    stream.feed.send(Ok(trailers.clone())).await.unwrap();
    assert!(matches!(stream.next().await, Next::Data(data) if data == trailers));
    sign_out(&browser).await;
    assert!(matches!(stream.next().await, Next::End));
}

#[tokio::test]
async fn a_stream_ends_when_a_refresh_takes_the_group_that_lets_in() {
    let user = TestUser::new("alice").group("ops");
    let provider = TestProvider::builder().user(user).refresh_tokens(true).expires_in(minutes(5));
    let world = World::with_provider(provider).await;
    let kept = Kept::StoredShared;
    let store = kept.store(&world);
    let builder = world.builder().scope("groups").scope("offline_access").allow_group("ops");
    let layer = kept.with(builder, &store).build().unwrap();
    let mut browser = signed_in(&world, &world.app(&layer), "alice").await;
    let mut stream = Stream::open(&layer, &browser, "text/plain", "x").await;
    stream.assert_open("a member").await;
    world.provider.add_user(TestUser::new("alice"));
    world.clock.advance(minutes(6));
    // This request refreshes, and is refused by what it brings.
    assert_eq!(browser.get("/").await.status, StatusCode::FORBIDDEN);
    stream.assert_cut("no member any more").await;
}
