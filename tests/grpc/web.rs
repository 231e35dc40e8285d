//! gRPC-Web, as browsers speak it: over HTTP/1.1, the trailers in the body, other sites at work.

use std::net::SocketAddr;

use bytes::Bytes;
use http::{Method, Request};
use http_body_util::Full;

use crate::echo::{Note, SAY, WATCH};
use crate::person::Person;
use crate::server::{Running, soon, until};
use crate::support::World;
use crate::web_client::{DIALECTS, call, decoded};
use crate::wire::{self, Whole};

async fn send(
    server: &Running,
    dialect: &str,
    person: Option<&Person>,
    fields: &[(&'static str, &str)],
) -> Whole {
    let mut request = call(dialect, SAY, &Note::text("hello"), server.address);
    if let Some(person) = person {
        request.headers_mut().insert("cookie", person.cookie().parse().unwrap());
    }
    for (name, value) in fields {
        request.headers_mut().insert(*name, value.parse().unwrap());
    }
    soon("gRPC-Web", wire::http1(server.address, request)).await
}

#[tokio::test]
async fn k35_refusals_are_readable_and_calls_are_served() {
    let world = World::new().await;
    let server = Running::start(&world, |builder| builder).await;
    let alice = server.signed_in(&world, "alice").await;
    for dialect in DIALECTS {
        let reply = send(&server, dialect, None, &[]).await;
        assert_eq!(reply.response.status(), 200, "K35 {dialect}");
        assert_eq!(reply.grpc_status(), "16", "K35 {dialect}");
        assert_eq!(reply.header("grpc-message"), "not signed in", "K35 {dialect}");
        assert_eq!(reply.header("content-type"), dialect, "K35 {dialect}");
        assert_eq!(reply.header("content-length"), "0", "K35 {dialect}");
        assert!(server.echo.calls().is_empty(), "K35 {dialect}");

        let same = [("sec-fetch-site", "same-origin"), ("origin", &*server.origin)];
        let reply = send(&server, dialect, Some(&alice), &same).await;
        assert_eq!(reply.response.status(), 200, "K35 {dialect}");
        assert_eq!(reply.header("content-type"), dialect, "K35 {dialect}");
        let (notes, trailers) = decoded(dialect, &reply);
        assert_eq!(notes, [Note::text("alice: hello")], "K35 {dialect}");
        assert!(trailers.contains("grpc-status:0\r\n"), "K35 {dialect}: {trailers:?}");
        let seen = server.echo.calls().pop().unwrap();
        assert_eq!(seen.subject.as_deref(), Some("alice"), "K35 {dialect}");
    }
}

#[tokio::test]
async fn k37_a_call_of_another_site_is_refused_with_the_cookie_and_all() {
    let world = World::new().await;
    let server = Running::start(&world, |builder| builder).await;
    let alice = server.signed_in(&world, "alice").await;
    for dialect in DIALECTS {
        for fields in [
            &[("sec-fetch-site", "cross-site"), ("origin", "https://evil.example")][..],
            &[("sec-fetch-site", "same-site"), ("origin", "http://sub.localhost")],
            &[("sec-fetch-site", "cross-site"), ("origin", &*server.origin)],
            &[("origin", "https://evil.example")],
            &[("origin", "null")],
            &[],
        ] {
            let reply = send(&server, dialect, Some(&alice), fields).await;
            assert_eq!(reply.response.status(), 200, "K37 {dialect} {fields:?}");
            assert_eq!(reply.grpc_status(), "7", "K37 {dialect} {fields:?}");
            assert!(reply.response.body().is_empty(), "K37 {dialect} {fields:?}");
        }
    }
    assert!(server.echo.calls().is_empty(), "K37 nothing arrives");
}

#[tokio::test]
async fn k35_a_preflight_passes_by_setting_only() {
    let world = World::new().await;
    let preflight = |address: SocketAddr| {
        Request::builder()
            .method(Method::OPTIONS)
            .uri(SAY)
            .header("host", address.to_string())
            .header("origin", "https://spa.example")
            .header("access-control-request-method", "POST")
            .header("access-control-request-headers", "content-type,x-grpc-web")
            .body(Full::new(Bytes::new()))
            .unwrap()
    };
    let server = Running::start(&world, |builder| builder).await;
    let reply = wire::http1(server.address, preflight(server.address)).await;
    assert_eq!(reply.response.status(), 401, "K35");
    assert!(!reply.response.headers().contains_key("access-control-allow-origin"), "K35");
    assert!(server.echo.calls().is_empty(), "K35");

    // Over HTTP/2, as `GrpcWebLayer` refuses all of HTTP/1.1 that is no gRPC-Web.
    let server = Running::start(&world, |builder| builder.allow_preflight(true)).await;
    let reply = wire::http2(server.address, preflight(server.address)).await.0;
    assert_ne!(reply.response.status(), 401, "K35 by setting the service answers it");
    assert_eq!(server.echo.calls().len(), 1, "K35");
    // A call does not pass for a preflight.
    let mut call = preflight(server.address);
    *call.method_mut() = Method::POST;
    let reply = wire::http2(server.address, call).await.0;
    assert_eq!(reply.response.status(), 401, "K35");
    let mut call = preflight(server.address);
    call.headers_mut().insert("content-type", DIALECTS[0].parse().unwrap());
    let reply = wire::http2(server.address, call).await.0;
    assert_eq!(reply.grpc_status(), "16", "K35");
    assert!(server.echo.calls().is_empty(), "K35");
}

#[tokio::test]
async fn a_stream_ends_with_its_session_in_both_dialects() {
    let world = World::new().await;
    let server = Running::start(&world, |builder| builder).await;
    for dialect in DIALECTS {
        let alice = server.signed_in(&world, "alice").await;
        let mut request = call(dialect, WATCH, &Note::text("tick"), server.address);
        request.headers_mut().extend(alice.metadata());
        let address = server.address;
        let stream = tokio::spawn(async move { wire::http1(address, request).await });
        until("the call has begun", || server.echo.count() == 1).await;
        server.echo.calls();
        alice.sign_out().await;
        let reply = soon(dialect, stream).await.unwrap();
        let (notes, trailers) = decoded(dialect, &reply);
        assert_eq!(notes, [Note::text("tick")], "{dialect}");
        assert!(trailers.contains("grpc-status:16\r\n"), "{dialect}: {trailers:?}");
        assert!(trailers.contains("grpc-message:"), "{dialect}: {trailers:?}");
    }
}

#[tokio::test]
async fn behind_grpc_web_the_layer_could_sign_nobody_in() {
    let world = World::new().await;
    let wrong = Running::start_behind_grpc_web(&world).await;
    let reply = wrong.person().open("/auth/login").await;
    assert_eq!(reply.response.status(), 400, "GrpcWebLayer knows no browsers");
    let right = Running::start(&world, |builder| builder).await;
    let reply = right.person().open("/auth/login").await;
    assert_eq!(reply.response.status(), 302, "{reply:?}");
}
