//! gRPC through the gateway: a tonic client, the `gateway` example as a process, a tonic server.
//!
//! `cargo test` builds the examples before it runs tests; with this one alone, say
//! `cargo test --examples --test gateway_grpc`.

mod support;

#[path = "grpc/client.rs"]
mod client;
#[path = "grpc/echo.rs"]
mod echo;
#[path = "grpc/gateway.rs"]
mod gateway;
#[path = "grpc/person.rs"]
mod person;
#[path = "grpc/refusal.rs"]
mod refusal;
#[path = "grpc/server.rs"]
mod server;
#[path = "grpc/under_way.rs"]
mod under_way;
#[path = "grpc/web_client.rs"]
mod web_client;
#[path = "grpc/wire.rs"]
mod wire;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use client::next;
use echo::{CHAT, COLLECT, Note, SAY, WATCH};
use gateway::{Gateway, Upstream};
use person::Person;
use refusal::{assert_plain, assert_trailers_only};
use server::{soon, until};
use tokio::sync::mpsc;
use tokio_stream::StreamExt as _;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Status};
use under_way::UnderWay;
use web_client::{DIALECTS, decoded};
use wire::{call, http1, http2, try_http1};

#[tokio::test]
async fn k30_a_call_without_a_session_ends_at_the_gateway() {
    let upstream = Upstream::start();
    for url in upstream.urls() {
        let gateway = Gateway::start(&url, &[]).await;
        for path in [SAY, WATCH, COLLECT, CHAT, "/"] {
            let answer = http2(gateway.address, call(path, None)).await;
            assert_trailers_only(&answer, Code::Unauthenticated, &format!("{url} {path}"));
        }
        let client = gateway.client().await;
        let unary = client.say("hello").await.map(drop);
        let watch = client.watch(Note::text("tick")).await.map(drop);
        let collect = client.collect(tokio_stream::pending()).await.map(drop);
        let chat = client.chat(tokio_stream::pending()).await.map(drop);
        for result in [unary, watch, collect, chat] {
            assert_eq!(result.unwrap_err().code(), Code::Unauthenticated, "{url}");
        }
        // With a session and from another site, the same call is not allowed.
        let alice = gateway.signed_in("alice").await;
        let mut foreign = gateway.client_of(&alice).await;
        foreign.metadata.insert("origin", "https://evil.example".parse().unwrap());
        assert_eq!(foreign.say("hello").await.unwrap_err().code(), Code::PermissionDenied, "K31");
    }
    assert!(upstream.echo.calls().is_empty(), "nothing arrives");
}

#[tokio::test]
async fn calls_of_every_kind_pass_with_who_calls_and_nothing_a_client_made_up() {
    let upstream = Upstream::start();
    let url = upstream.h2c();
    let gateway = Gateway::start(&url, &[]).await;
    let alice = gateway.signed_in("alice").await;
    let client = gateway.client_of(&alice).await;
    assert_eq!(client.say("hello").await.unwrap().text, "-: hello", "{url}");
    let mut notes = client.watch(Note::text("tick")).await.unwrap();
    assert_eq!(next(&mut notes).await.unwrap(), Some(Note::text("tick")), "{url}");
    let many = || tokio_stream::iter((0..3).map(Note::of_size));
    assert_eq!(client.collect(many()).await.unwrap().text, "3", "{url}");
    let mut echoes = client.chat(many()).await.unwrap();
    for size in 0..3 {
        assert_eq!(next(&mut echoes).await.unwrap(), Some(Note::of_size(size)), "{url}");
    }
    assert_eq!(next(&mut echoes).await.unwrap(), None, "{url}");
    for call in upstream.echo.calls() {
        assert_eq!(call.headers["x-auth-request-user"], "alice", "{url} {}", call.path);
        assert_eq!(call.headers["te"], "trailers", "{url} {}", call.path);
        assert!(!call.headers.contains_key("cookie"), "{url} {}", call.path);
    }

    let mut forged = gateway.client_of(&alice).await;
    for name in MADE_UP {
        forged.metadata.append(*name, "bWFs".parse().unwrap());
    }
    forged.metadata.append("x-auth-request-user", "mallory".parse().unwrap());
    forged.metadata.append("cookie", "theirs=1".parse().unwrap());
    let forged = forged.with(&[("x-trace", "1"), ("trace-bin", "AAEC"), ("grpc-timeout", "9S")]);
    forged.say("hello").await.unwrap();
    let call = upstream.echo.calls().pop().unwrap();
    for name in MADE_UP {
        let value = call.headers.get(*name).map(|value| value.to_str().unwrap());
        assert_ne!(value, Some("bWFs"), "{url} {name}");
    }
    let users: Vec<_> = call.headers.get_all("x-auth-request-user").iter().collect();
    assert_eq!(users, ["alice"], "{url}");
    for (name, value) in [("x-trace", "1"), ("trace-bin", "AAEC"), ("cookie", "theirs=1")] {
        assert_eq!(call.headers[name], value, "{url} {name}");
    }
    assert!(call.headers.contains_key("grpc-timeout"), "{url}");
    assert_eq!(call.headers["x-forwarded-for"], "127.0.0.1", "{url}");
}

/// What says who calls, with what, or by which way; a client may not.
const MADE_UP: &[&str] = &[
    "authorization",
    "x-auth-request-email",
    "x-auth-request-groups",
    "x_auth_request_user",
    "x-auth-request-user-bin",
    "x-forwarded-user",
    "x-forwarded-for",
    "x-forwarded-host",
    "x-real-ip",
    "forwarded",
    "remote-user",
];

/// HTTP/2 by prior knowledge, sent to a server of HTTP/1.1, would put what a client chose on the
/// connection, past the sign-in of every other request.
#[tokio::test]
async fn a_call_for_an_http1_upstream_is_refused_before_anything_is_sent() {
    let upstream = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    upstream.set_nonblocking(true).unwrap();
    let url = format!("http://{}", upstream.local_addr().unwrap());
    let gateway = Gateway::start(&url, &["--public", SAY]).await;
    let alice = gateway.signed_in("alice").await;
    for person in [None, Some(&alice)] {
        let answer = http2(gateway.address, call(SAY, person)).await;
        assert_trailers_only(&answer, Code::Unimplemented, &url);
        let mut request = web_client::call(DIALECTS[0], SAY, &Note::text("x"), gateway.address);
        request.headers_mut().insert("content-type", "application/grpc".parse().unwrap());
        request.headers_mut().extend(person.map(Person::metadata).unwrap_or_default());
        assert_eq!(http1(gateway.address, request).await.grpc_status(), "12");
    }
    let error = upstream.accept().map(drop).unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::WouldBlock, "nobody connects");
}

#[tokio::test]
async fn what_a_service_says_of_a_failure_passes_whole() {
    let upstream = Upstream::start();
    let url = upstream.h2c();
    let gateway = Gateway::start(&url, &[]).await;
    let alice = gateway.signed_in("alice").await;
    let client = gateway.client_of(&alice).await;
    // In the head alone, and as trailers behind a message.
    let at_once = client.say("fail").await.unwrap_err();
    let mut notes = client.watch(Note::text("fail")).await.unwrap();
    assert_eq!(next(&mut notes).await.unwrap(), Some(Note::text("fail")), "{url}");
    let later = next(&mut notes).await.unwrap_err();
    for status in [at_once, later] {
        assert_eq!(status.code(), Code::FailedPrecondition, "{url}");
        assert_eq!(status.message(), echo::FAILURE, "{url}");
        assert_eq!(status.details(), echo::DETAILS, "{url}");
        assert_eq!(status.metadata().get("x-reason").unwrap(), "because", "{url}");
    }
    let unknown = http2(gateway.address, call("/echo.Echo/Nothing", Some(&alice))).await.0;
    assert_eq!(unknown.grpc_status(), "12", "{url}");
}

#[tokio::test]
async fn k31_an_upstream_that_is_away_or_slow_is_unavailable() {
    let url = {
        let upstream = Upstream::start();
        let url = upstream.h2c();
        upstream.stop().await;
        url
    };
    let gateway = Gateway::start(&url, &[]).await;
    let alice = gateway.signed_in("alice").await;
    let answer = http2(gateway.address, call(SAY, Some(&alice))).await;
    assert_trailers_only(&answer, Code::Unavailable, &url);
    let status = gateway.client_of(&alice).await.watch(Note::text("tick")).await.unwrap_err();
    assert_eq!(status.code(), Code::Unavailable, "{url}");

    let upstream = Upstream::start();
    let url = upstream.h2c();
    let gateway = Gateway::start(&url, &["--upstream-timeout", "1"]).await;
    let alice = gateway.signed_in("alice").await;
    let client = gateway.client_of(&alice).await;
    let status = client.say("wait").await.unwrap_err();
    assert_eq!(status.code(), Code::Unavailable, "{url}: {status:?}");
    assert_plain(status.message(), &url);
}

#[tokio::test]
async fn k34_the_gateway_tells_grpc_from_what_looks_like_it() {
    let upstream = Upstream::start();
    let url = upstream.h2c();
    upstream.stop().await;
    let gateway = Gateway::start(&url, &[]).await;
    let alice = gateway.signed_in("alice").await;
    for (content_type, found) in [
        ("application/grpc", (200, "14")),
        ("Application/GRPC+proto", (200, "14")),
        ("application/grpc;charset=utf-8", (200, "14")),
        ("application/grpc-web+proto", (200, "14")),
        ("application/grpcx", (502, "")),
        ("application/grpc-websocket", (502, "")),
        ("text/plain; application/grpc", (502, "")),
    ] {
        let mut request = call(SAY, Some(&alice));
        request.headers_mut().insert("content-type", content_type.parse().unwrap());
        let answer = http2(gateway.address, request).await.0;
        let status = (answer.response.status().as_u16(), answer.grpc_status());
        assert_eq!(status, found, "K34 {content_type}");
    }
}

#[tokio::test]
async fn an_upstream_that_goes_away_breaks_its_streams_and_comes_back() {
    let upstream = Upstream::start();
    let gateway = Gateway::start(&upstream.h2c(), &[]).await;
    let alice = gateway.signed_in("alice").await;
    let client = gateway.client_of(&alice).await;
    let mut notes = client.watch(Note::text("tick")).await.unwrap();
    assert_eq!(next(&mut notes).await.unwrap(), Some(Note::text("tick")));
    let address = upstream.address;
    upstream.stop().await;
    let status = next(&mut notes).await.unwrap_err();
    assert!(!matches!(status.code(), Code::Ok | Code::Unauthenticated), "{status:?}");
    assert_eq!(client.say("hello").await.unwrap_err().code(), Code::Unavailable);
    let _upstream = Upstream::start_at(address);
    assert_eq!(client.say("hello").await.unwrap().text, "-: hello");
}

#[tokio::test]
async fn calls_of_every_kind_end_with_their_session_and_nobody_elses_do() {
    let upstream = Upstream::start();
    let url = upstream.h2c();
    let gateway = Gateway::start(&url, &[]).await;
    let alice = gateway.signed_in("alice").await;
    let bob = gateway.signed_in("bob").await;
    let hers = UnderWay::begin(&upstream.echo, gateway.client_of(&alice).await).await;
    let his = UnderWay::begin(&upstream.echo, gateway.client_of(&bob).await).await;
    alice.sign_out().await;
    hers.assert_ended(&url).await;
    let status = gateway.client_of(&alice).await.say("hello").await.unwrap_err();
    assert_eq!(status.code(), Code::Unauthenticated, "{url}");
    his.assert_alive(&upstream.echo, "-", &url).await;
}

#[tokio::test]
async fn large_messages_come_back_one_by_one() {
    let upstream = Upstream::start();
    let url = upstream.h2c();
    let gateway = Gateway::start(&url, &[]).await;
    let alice = gateway.signed_in("alice").await;
    let client = gateway.client_of(&alice).await;
    let (say, notes) = mpsc::channel(1);
    let mut echoes = client.chat(ReceiverStream::new(notes)).await.unwrap();
    // The next is sent when the one before has come back: nothing waits for the end.
    for _ in 0..3 {
        say.send(Note::of_size(8 * MIB)).await.unwrap();
        let echo = next(&mut echoes).await.unwrap().unwrap();
        assert_eq!(echo.data.len(), 8 * MIB, "{url}");
    }
    drop(say);
    assert_eq!(next(&mut echoes).await.unwrap(), None, "{url}");
}

#[tokio::test]
async fn who_does_not_read_slows_the_sender_down() {
    let upstream = Upstream::start();
    let url = upstream.h2c();
    let gateway = Gateway::start(&url, &[]).await;
    let alice = gateway.signed_in("alice").await;
    let client = gateway.client_of(&alice).await;

    let asked = Note { text: "many".to_owned(), data: vec![b'x'; MIB] };
    let before = upstream.echo.given();
    let mut many = client.watch(asked).await.unwrap();
    let given = settled(|| upstream.echo.given() - before).await;
    assert!(given < HELD, "{url}: {given} bytes were sent to a client that reads nothing");
    for _ in 0..2 * HELD / MIB {
        assert!(next(&mut many).await.unwrap().is_some(), "{url}");
    }
    drop(many);

    let offered = Arc::new(AtomicUsize::new(0));
    let counted = offered.clone();
    let notes = tokio_stream::iter(0..).map(move |number| {
        counted.fetch_add(MIB, Ordering::Relaxed);
        let text = if number == 0 { "stop reading" } else { "" };
        Note { text: text.to_owned(), data: vec![b'x'; MIB] }
    });
    let collect = tokio::spawn(async move { client.collect(notes).await.map(drop) });
    let sent = settled(|| offered.load(Ordering::Relaxed)).await;
    assert!(sent < HELD, "{url}: {sent} bytes were taken for a service that reads nothing");
    collect.abort();
}

#[tokio::test]
async fn who_does_not_read_stops_nobody_else() {
    let upstream = Upstream::start();
    let gateway = Gateway::start(&upstream.h2c(), &[]).await;
    let alice = gateway.signed_in("alice").await;
    let asked = Note { text: "many".to_owned(), data: vec![b'x'; MIB] };
    let mut unread = Vec::new();
    for _ in 0..12 {
        // Each on a connection of its own, as clients of one upstream have.
        let client = gateway.client_of(&alice).await;
        unread.push(client.watch(asked.clone()).await.unwrap());
    }
    settled(|| upstream.echo.given()).await;
    let client = gateway.client_of(&alice).await;
    let answer = soon("an answer beside them", client.say("hello")).await;
    assert_eq!(answer.unwrap().text, "-: hello");
}

/// Waits until a number that grew grows no more.
async fn settled(number: impl Fn() -> usize) -> usize {
    until("it begins", || number() > 0).await;
    let stand_still = async {
        loop {
            let before = number();
            tokio::time::sleep(Duration::from_millis(400)).await;
            if number() == before || before > 2 * HELD {
                return number();
            }
        }
    };
    soon("it never stands still", stand_still).await
}

#[tokio::test]
async fn k35_k37_grpc_web_passes_over_http1() {
    let upstream = Upstream::start();
    for url in upstream.urls() {
        let gateway = Gateway::start(&url, &[]).await;
        let alice = gateway.signed_in("alice").await;
        let request = |dialect: &str, path: &str, text: &str| {
            web_client::call(dialect, path, &Note::text(text), gateway.address)
        };
        for dialect in DIALECTS {
            let what = format!("{url} {dialect}");
            let reply = http1(gateway.address, request(dialect, SAY, "hello")).await;
            let found = (reply.response.status().as_u16(), reply.grpc_status());
            assert_eq!(found, (200, "16"), "K35 {what}");
            assert_eq!(reply.header("content-type"), dialect, "K35 {what}");

            let mut cross = request(dialect, SAY, "hello");
            cross.headers_mut().extend(alice.metadata());
            cross.headers_mut().insert("sec-fetch-site", "cross-site".parse().unwrap());
            assert_eq!(http1(gateway.address, cross).await.grpc_status(), "7", "K37 {what}");
            assert!(upstream.echo.calls().is_empty(), "{what}: nothing arrives");

            let mut call = request(dialect, SAY, "hello");
            call.headers_mut().extend(alice.metadata());
            let reply = http1(gateway.address, call).await;
            let (notes, trailers) = decoded(dialect, &reply);
            assert_eq!(notes, [Note::text("-: hello")], "{what}");
            assert!(trailers.contains("grpc-status:0\r\n"), "{what}: {trailers:?}");
            let seen = upstream.echo.calls().pop().unwrap();
            assert_eq!(seen.headers["x-auth-request-user"], "alice", "{what}");
            assert_eq!(seen.headers["x-user-agent"], "grpc-web-javascript/0.1", "{what}");
        }
    }
}

#[tokio::test]
async fn a_grpc_web_stream_ends_with_its_session() {
    let upstream = Upstream::start();
    for url in upstream.urls() {
        let gateway = Gateway::start(&url, &[]).await;
        for dialect in DIALECTS {
            let what = format!("{url} {dialect}");
            let alice = gateway.signed_in("alice").await;
            let mut call = web_client::call(dialect, WATCH, &Note::text("tick"), gateway.address);
            call.headers_mut().extend(alice.metadata());
            let address: SocketAddr = gateway.address;
            let stream = tokio::spawn(async move { try_http1(address, call).await });
            until("the call has begun", || upstream.echo.count() == 1).await;
            upstream.echo.calls();
            alice.sign_out().await;
            match soon(&what, stream).await.unwrap() {
                Ok(reply) => {
                    let (notes, trailers) = decoded(dialect, &reply);
                    assert_eq!(notes, [Note::text("tick")], "{what}");
                    assert!(trailers.contains("grpc-status:16\r\n"), "{what}: {trailers:?}");
                }
                // Text is cut off: nobody knows where the upstream's base64 stands.
                Err(error) => assert!(dialect.contains("text"), "{what}: {error}"),
            }
        }
    }
}

#[tokio::test]
async fn k38_health_is_open_by_its_exact_path_alone() {
    let upstream = Upstream::start();
    let url = upstream.h2c();
    let gateway = Gateway::start(&url, &["--public", "/grpc.health.v1.Health/Check"]).await;
    for (path, status) in [
        // The upstream answers this one: it has no such service.
        ("/grpc.health.v1.Health/Check", "12"),
        ("/grpc.health.v1.Health/CheckX", "16"),
        ("/grpc.health.v1.Health/check", "16"),
        ("/grpc.health.v1.Health/%43heck", "16"),
        ("/grpc.health.v1.Health//Check", "16"),
    ] {
        let answer = http2(gateway.address, call(path, None)).await.0;
        assert_eq!(answer.grpc_status(), status, "K38 {path}");
    }
    let status = gateway.client().await.with(&[("x-auth-request-user", "mallory")]).say("x").await;
    assert_eq!(status.map_err(|status: Status| status.code()), Err(Code::Unauthenticated), "K36");
}

const MIB: usize = 1024 * 1024;
/// What sockets and windows may hold between two ends; a buffer of whole bodies holds more.
const HELD: usize = 32 * MIB;
