//! The contract of tower: readiness, permits, bodies and errors of others.

mod support;

use std::convert::Infallible;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::http::header::COOKIE;
use axum::http::{Method, Request, Response, StatusCode};
use bytes::Bytes;
use http_body_util::{Empty, Full};
use support::{World, fetch};
use tokio::time::timeout;
use tower::util::{BoxCloneSyncService, option_layer};
use tower::{Layer, Service, ServiceBuilder, ServiceExt, service_fn};
use tower_pkce_auth::testing::SignedIn;
use tower_pkce_auth::{Clock, EmptyBody, MemoryStore, PkceAuthLayer};
use tower_test::mock;

type Body = Full<Bytes>;

/// A request for an open path, for a protected one without a session, and with one.
async fn requests(layer: &PkceAuthLayer) -> [(&'static str, Request<Body>); 3] {
    let request = |path: &str| Request::get(path).body(Body::default()).unwrap();
    let mut signed_in = request("/protected");
    SignedIn::new("alice").apply(layer, &mut signed_in).await;
    [("open", request("/open")), ("denied", request("/protected")), ("signed in", signed_in)]
}

/// Layers whose look-ups are answered at once, and over the network as it were.
fn layers(world: &World) -> [(&'static str, PkceAuthLayer); 2] {
    let builder = || world.builder().open("/open".parse().unwrap());
    let shared = MemoryStore::shared_between_pods(world.clock.clone());
    [
        ("at once", builder().build().unwrap()),
        ("shared store", builder().store(shared).build().unwrap()),
    ]
}

#[tokio::test]
async fn readiness_is_forwarded_and_the_ready_service_is_the_one_that_is_called() {
    let world = World::new().await;
    for (kind, layer) in layers(&world) {
        for (name, request) in requests(&layer).await {
            // The mock panics when it is called without having been ready.
            let (inner, mut handle) = mock::pair::<Request<Body>, Response<Body>>();
            let mut service = mock::Spawn::new(layer.layer(inner));
            handle.allow(0);
            assert!(service.poll_ready().is_pending(), "{kind} {name}: it is not ready by itself");
            handle.allow(1);
            assert!(service.poll_ready().is_ready(), "{kind} {name}");
            let response = tokio::spawn(service.call(request));
            if name == "denied" {
                assert_eq!(response.await.unwrap().unwrap().status(), StatusCode::UNAUTHORIZED);
                continue;
            }
            let (_, reply) = handle.next_request().await.expect(name);
            reply.send_response(Response::new(Body::default()));
            assert_eq!(response.await.unwrap().unwrap().status(), StatusCode::OK, "{kind} {name}");
        }
    }
}

#[tokio::test]
async fn an_error_of_the_inner_service_arrives_unchanged() {
    let world = World::new().await;
    let layer = world.builder().open("/open".parse().unwrap()).build().unwrap();
    let (inner, mut handle) = mock::pair::<Request<Body>, Response<Body>>();
    let mut service = mock::Spawn::new(layer.layer(inner));
    handle.allow(1);
    assert!(service.poll_ready().is_ready());
    let response = tokio::spawn(service.call(Request::get("/open").body(Body::default()).unwrap()));
    let (_, reply) = handle.next_request().await.unwrap();
    reply.send_error("the inner service's own");
    assert_eq!(response.await.unwrap().unwrap_err().to_string(), "the inner service's own");
}

#[tokio::test]
async fn a_refused_request_keeps_no_permit() {
    let world = World::new().await;
    for (kind, layer) in layers(&world) {
        let [open, denied, signed_in] = requests(&layer).await;
        let inner = ServiceBuilder::new().concurrency_limit(1).service(service_fn(
            |_: Request<Body>| async { Ok::<_, Infallible>(Response::new(Body::default())) },
        ));
        let mut service = layer.layer(inner);
        // The futures of refused requests are kept and not polled; the one permit must be free.
        // Over a shared store only polling tells, so there the future runs to its end.
        let mut kept = Vec::new();
        for _ in 0..3 {
            let mut request = Request::get("/protected").body(Body::default()).unwrap();
            *request.headers_mut() = denied.1.headers().clone();
            let future = service.ready().await.unwrap().call(request);
            if kind == "at once" {
                kept.push(future);
            } else {
                assert_eq!(future.await.unwrap().status(), StatusCode::UNAUTHORIZED);
            }
        }
        for (name, request) in [open, signed_in] {
            let ready = timeout(Duration::from_secs(10), service.ready()).await;
            let response = ready.expect(kind).unwrap().call(request).await.unwrap();
            assert_eq!(response.status(), StatusCode::OK, "{kind} {name}");
        }
    }
}

#[tokio::test]
async fn it_works_under_and_over_buffer_concurrency_limit_and_load_shed() {
    let world = World::new().await;
    for (kind, layer) in layers(&world) {
        let inner = || {
            ServiceBuilder::new().buffer(4).concurrency_limit(2).load_shed().service(service_fn(
                |_: Request<Body>| async { Ok::<_, Infallible>(Response::new(Body::default())) },
            ))
        };
        let service = ServiceBuilder::new()
            .buffer(4)
            .load_shed()
            .concurrency_limit(4)
            .layer(layer.clone())
            .service(inner());
        for (name, request) in requests(&layer).await {
            let response = service.clone().oneshot(request).await.unwrap();
            let expected = if name == "denied" { StatusCode::UNAUTHORIZED } else { StatusCode::OK };
            assert_eq!(response.status(), expected, "{kind} {name}");
        }
    }
}

#[tokio::test]
async fn it_composes_with_option_layer_and_boxed_services() {
    let world = World::new().await;
    let layer = world.builder().build().unwrap();
    let inner = service_fn(|_: Request<Body>| async {
        Ok::<_, Infallible>(Response::new(Body::default()))
    });
    for (on, expected) in [(true, StatusCode::UNAUTHORIZED), (false, StatusCode::OK)] {
        let service =
            ServiceBuilder::new().layer(option_layer(on.then(|| layer.clone()))).service(inner);
        let boxed = BoxCloneSyncService::new(service);
        let request = Request::get("/").body(Body::default()).unwrap();
        assert_eq!(boxed.oneshot(request).await.unwrap().status(), expected);
    }
}

/// A body that can be neither sent to another thread nor made from bytes.
#[derive(Default)]
struct Local(Option<Rc<()>>);

impl http_body::Body for Local {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<http_body::Frame<Bytes>, Infallible>>> {
        Poll::Ready(None)
    }
}

#[tokio::test]
async fn bodies_need_be_neither_send_nor_static_nor_made_from_bytes() {
    let world = World::new().await;
    let layer =
        world.builder().open("/open".parse().unwrap()).responder(EmptyBody).build().unwrap();
    let inner = service_fn(|request: Request<Local>| async move {
        Ok::<_, Infallible>(Response::new(request.into_body()))
    });
    for (path, expected) in [("/open", StatusCode::OK), ("/", StatusCode::UNAUTHORIZED)] {
        let request = Request::get(path).body(Local(Some(Rc::new(())))).unwrap();
        let response = layer.layer(inner).oneshot(request).await.unwrap();
        assert_eq!(response.status(), expected);
        assert_eq!(
            response.body().0.is_some(),
            expected == StatusCode::OK,
            "the body is untouched"
        );
    }
    // A body that borrows.
    let borrowed = String::from("x");
    let inner = service_fn(|_: Request<Empty<&[u8]>>| async {
        let _ = &borrowed;
        Ok::<_, Infallible>(Response::new(Local::default()))
    });
    let request = Request::get("/open").body(Empty::new()).unwrap();
    assert_eq!(layer.layer(inner).oneshot(request).await.unwrap().status(), StatusCode::OK);
}

#[tokio::test]
async fn a_dropped_request_drops_its_look_up_and_nothing_else() {
    let world = World::new().await;
    let store = MemoryStore::shared_between_pods(world.clock.clone());
    let layer = world.builder().store(store).build().unwrap();
    let app = world.app(&layer);
    let cookie = SignedIn::new("alice").cookie(&layer).await;
    let request = || {
        let mut request = fetch(Method::GET, "/who");
        request.headers_mut().insert(COOKIE, cookie.clone());
        request
    };
    let mut service = app.clone();
    drop(service.ready().await.unwrap().call(request()));
    assert_eq!(support::send(&app, request()).await.body, "alice");
}

#[tokio::test]
async fn clones_share_the_sessions_of_the_process() {
    let world = World::new().await;
    let layer = world.builder().build().unwrap();
    let (one, two) = (world.app(&layer), world.app(&layer.clone()));
    let mut browser = world.browser(&one, "alice");
    browser.sign_in("/").await;
    let mut other = browser.clone();
    other.app = two;
    assert_eq!(other.who().await.as_deref(), Some("alice"));
    browser.post("/auth/logout").await;
    assert_eq!(other.who().await, None, "H10: a logout holds for every clone");
    let _: Arc<dyn Clock> = world.clock;
}
