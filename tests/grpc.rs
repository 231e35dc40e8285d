//! gRPC end to end (K30 to K38): a tonic server behind the layer, a tonic client, and raw HTTP/2.
//!
//! gRPC-Web and streams that end with their session have rooms of their own in `grpc/`.

#[path = "support/pods.rs"]
mod pods;
mod support;

#[path = "grpc/broken.rs"]
mod broken;
#[path = "grpc/client.rs"]
mod client;
#[path = "grpc/echo.rs"]
mod echo;
#[path = "grpc/person.rs"]
mod person;
#[path = "grpc/refusal.rs"]
mod refusal;
#[path = "grpc/server.rs"]
mod server;
#[path = "grpc/streams.rs"]
mod streams;
#[path = "grpc/under_way.rs"]
mod under_way;
#[path = "grpc/web.rs"]
mod web;
#[path = "grpc/web_client.rs"]
mod web_client;
#[path = "grpc/wire.rs"]
mod wire;

use std::time::Duration;

use broken::{Broken, Trouble};
use bytes::Bytes;
use client::next;
use echo::{CHAT, COLLECT, Note, SAY, WATCH};
use http::{HeaderMap, HeaderName, HeaderValue, Request};
use http_body_util::{BodyExt as _, Full};
use person::Person;
use refusal::{assert_plain, assert_trailers_only};
use server::Running;
use support::World;
use tokio_stream::pending;
use tonic::{Code, Status};
use tower_pkce_auth::StoreErrorKind;
use tower_pkce_auth::testing::provider::TestUser;
use wire::{call, http2};

fn with(
    mut request: Request<Full<Bytes>>,
    fields: &[(&'static str, &str)],
) -> Request<Full<Bytes>> {
    for (name, value) in fields {
        request.headers_mut().insert(*name, value.parse().unwrap());
    }
    request
}

fn without(mut request: Request<Full<Bytes>>, name: &str) -> Request<Full<Bytes>> {
    request.headers_mut().remove(name);
    request
}

#[tokio::test]
async fn k30_a_call_without_a_session_is_refused_in_grpcs_own_way() {
    let world = World::new().await;
    let server = Running::start(&world, |builder| builder).await;
    for path in [SAY, WATCH, COLLECT, CHAT, "/echo.Echo/Nothing", "/no.Such/Service", "/"] {
        let answer = http2(server.address, call(path, None)).await;
        assert_trailers_only(&answer, Code::Unauthenticated, path);
        assert_eq!(answer.0.header("grpc-message"), "not signed in");
    }

    let client = server.client().await;
    let refusals: [(&str, Result<(), Status>); 5] = [
        ("unary", client.say("hello").await.map(drop)),
        ("server-streaming", client.watch(Note::text("hello")).await.map(drop)),
        ("client-streaming", client.collect(tokio_stream::empty()).await.map(drop)),
        // What is still being sent is not waited for.
        ("still sending", client.collect(pending()).await.map(drop)),
        ("bidirectional", client.chat(pending()).await.map(drop)),
    ];
    for (kind, result) in refusals {
        let status = result.unwrap_err();
        assert_eq!(status.code(), Code::Unauthenticated, "K30 {kind}");
        assert_eq!(status.message(), "not signed in", "K30 {kind}");
    }
    assert!(server.echo.calls().is_empty(), "nothing arrives");
}

#[tokio::test]
async fn all_four_kinds_of_calls_are_served_and_know_who_calls() {
    let world = World::new().await;
    let server = Running::start(&world, |builder| builder).await;
    let alice = server.signed_in(&world, "alice").await;
    let client = server.client_of(&alice).await;
    assert_eq!(client.say("hello").await.unwrap().text, "alice: hello");
    let mut notes = client.watch(Note::text("tick")).await.unwrap();
    assert_eq!(next(&mut notes).await.unwrap(), Some(Note::text("tick")));
    let many = || tokio_stream::iter((0..3).map(Note::of_size));
    assert_eq!(client.collect(many()).await.unwrap().text, "3");
    let mut echoes = client.chat(many()).await.unwrap();
    for size in 0..3 {
        assert_eq!(next(&mut echoes).await.unwrap(), Some(Note::of_size(size)));
    }
    assert_eq!(next(&mut echoes).await.unwrap(), None);
    let calls = server.echo.calls();
    let found: Vec<_> = calls.iter().map(|call| (&*call.path, call.subject.as_deref())).collect();
    assert_eq!(found, [SAY, WATCH, COLLECT, CHAT].map(|path| (path, Some("alice"))));

    // What the service says of a failure arrives as it was said.
    let failure = client.say("fail").await.unwrap_err();
    assert_eq!((failure.code(), failure.message()), (Code::FailedPrecondition, echo::FAILURE));
    assert_eq!(failure.details(), echo::DETAILS);
}

#[tokio::test]
async fn k31_k32_k33_each_refusal_has_its_status_and_no_bare_http_status() {
    let world = World::new().await;
    world.provider.add_user(TestUser::new("mal").group("CANARY %41\u{e9}"));
    world.provider.add_user(TestUser::new("alice").group("staff"));
    let store = Broken::new(&world);
    let server = Running::start(&world, |builder| {
        builder
            .store(store.clone())
            .scope("groups")
            .allow_group("staff")
            .store_timeout(STORE_TIME_OUT)
    })
    .await;
    let alice = server.signed_in(&world, "alice").await;
    let mal = server.signed_in(&world, "mal").await;
    let by_alice = || call(SAY, Some(&alice));
    let send = async |request, code, what: &str| {
        let answer = http2(server.address, request).await;
        assert_trailers_only(&answer, code, what);
    };

    send(call(SAY, Some(&mal)), Code::PermissionDenied, "in no group that is let in").await;
    let foreign = [("origin", "https://evil.example")];
    send(with(by_alice(), &foreign), Code::PermissionDenied, "another origin").await;
    send(without(by_alice(), "origin"), Code::PermissionDenied, "no origin").await;
    let cross_site = [("sec-fetch-site", "cross-site")];
    send(with(by_alice(), &cross_site), Code::PermissionDenied, "cross-site").await;
    let same_site = [("sec-fetch-site", "same-site")];
    send(with(by_alice(), &same_site), Code::PermissionDenied, "a sibling's").await;

    for trouble in [
        Trouble::Fails(StoreErrorKind::Unavailable),
        Trouble::Fails(StoreErrorKind::TimedOut),
        Trouble::Fails(StoreErrorKind::Full),
        Trouble::Hangs,
    ] {
        store.trouble(trouble);
        send(by_alice(), Code::Unavailable, &format!("{trouble:?}")).await;
        let status = server.client_of(&alice).await.say("hello").await.unwrap_err();
        assert_eq!(status.code(), Code::Unavailable, "K31 {trouble:?}");
    }
    // A store that panics breaks the call; it lets nobody in and makes up no answer.
    store.trouble(Trouble::Panics);
    let broken = server.client_of(&alice).await.say("hello").await.unwrap_err();
    assert!(!matches!(broken.code(), Code::Ok | Code::Unauthenticated), "K32 {broken:?}");
    store.trouble(Trouble::None);
    assert!(server.echo.calls().is_empty(), "nothing arrived");

    // Retried with the same metadata, it works: nobody was signed out.
    assert_eq!(server.client_of(&alice).await.say("hello").await.unwrap().text, "alice: hello");
    world.provider.stop().await;
    assert_eq!(server.client_of(&alice).await.say("hello").await.unwrap().text, "alice: hello");
}

#[tokio::test]
async fn k31_k32_the_paths_of_the_layer_answer_calls_in_grpcs_way_too() {
    let world = World::new().await;
    let server = Running::start(&world, |builder| builder.health(true)).await;
    for path in ["/auth/login", "/auth/callback", "/auth/callback?code=a&state=b"] {
        let (whole, _) = http2(server.address, call(path, None)).await;
        assert_eq!(whole.response.status(), 200, "K32 {path}");
        assert!(!matches!(whole.grpc_status(), "" | "0"), "K32 {path}: {whole:?}");
        assert!(!whole.response.headers().contains_key("location"), "K30 {path}");
    }

    // A callback that needs the provider, which is away.
    let mut person = server.person();
    let start = person.open("/auth/login").await;
    let callback = world.provider.authorize_as(start.header("location"), "alice").await.unwrap();
    let path = callback.strip_prefix(&server.origin).unwrap();
    world.provider.stop().await;
    let mut request = call(path, None);
    *request.method_mut() = http::Method::GET;
    request.headers_mut().insert("cookie", person.cookie().parse().unwrap());
    let answer = http2(server.address, request).await;
    assert_eq!(answer.0.response.status(), 200, "K32 {answer:?}");
    assert_eq!(answer.0.grpc_status(), "14", "K31 provider away: {answer:?}");
    assert_plain(answer.0.header("grpc-message"), "provider away");
}

#[tokio::test]
async fn k34_the_content_type_tells_grpc_from_what_looks_like_it() {
    let world = World::new().await;
    let server = Running::start(&world, |builder| builder).await;
    let alice = server.signed_in(&world, "alice").await;
    let send =
        async |content_type: &str, person: Option<&Person>, fields: &[(&'static str, &str)]| {
            let request = with(call(SAY, person), fields);
            http2(server.address, with(request, &[("content-type", content_type)])).await.0
        };
    for (sent, answered) in [
        ("application/grpc", "application/grpc"),
        ("application/grpc+proto", "application/grpc"),
        ("application/grpc+json", "application/grpc"),
        ("application/grpc;charset=utf-8", "application/grpc"),
        ("application/grpc+proto;charset=utf-8", "application/grpc"),
        ("Application/GRPC+Proto", "application/grpc"),
        ("application/grpc-web", "application/grpc-web+proto"),
        ("application/grpc-web+proto", "application/grpc-web+proto"),
        ("application/grpc-web;x=y", "application/grpc-web+proto"),
        ("application/grpc-web-text", "application/grpc-web-text+proto"),
        ("application/grpc-web-text+proto", "application/grpc-web-text+proto"),
    ] {
        let reply = send(sent, None, &[]).await;
        assert_eq!(
            (reply.response.status().as_u16(), reply.grpc_status()),
            (200, "16"),
            "K34 {sent}"
        );
        assert_eq!(reply.header("content-type"), answered, "K34 {sent}");
        let cross = send(sent, Some(&alice), &[("sec-fetch-site", "cross-site")]).await;
        assert_eq!(
            (cross.response.status().as_u16(), cross.grpc_status()),
            (200, "7"),
            "K34 {sent}"
        );
    }
    for sent in [
        "application/grpcx",
        "application/grpc ",
        "application/grpc,text/plain",
        "application/grpc/x",
        "application/grpc-websocket",
        "application/grpc-web-textual",
        "application/grpc_web",
        "text/plain; application/grpc",
        "text/plain",
        "application/json",
        "grpc",
    ] {
        let reply = send(sent, None, &[]).await;
        let found = (reply.response.status().as_u16(), reply.grpc_status());
        assert_eq!(found, (401, ""), "K34 {sent}");
        let cross = send(sent, Some(&alice), &[("sec-fetch-site", "cross-site")]).await;
        assert_eq!(cross.response.status(), 403, "K34 {sent}: no way round");
    }
    assert!(server.echo.calls().is_empty(), "nothing arrives");
}

#[tokio::test]
async fn k36_metadata_signs_nobody_in() {
    let world = World::new().await;
    let server = Running::start(&world, |builder| builder).await;
    let alice = server.signed_in(&world, "alice").await;
    let cookie = alice.cookie();
    let (name, value) = cookie.split("; ").find_map(|pair| pair.split_once("-s=")).unwrap();
    for (field, value) in [
        ("authorization", "Bearer abc"),
        ("authorization", &*format!("Bearer {value}")),
        ("authorization-bin", "QmVhcmVyIGFiYw"),
        ("cookie-bin", &*base64(&cookie)),
        ("cookie2", &*cookie),
        ("grpc-cookie", &*cookie),
        ("grpc-authorization", &*cookie),
        ("x-cookie", &*cookie),
        ("x-auth-request-user", "alice"),
        ("x-forwarded-user", "alice"),
        ("grpc-status", "0"),
    ] {
        let request = with(call(SAY, None), &[("origin", &server.origin)]);
        let request = with(request, &[(field, value)]);
        let answer = http2(server.address, request).await;
        assert_trailers_only(&answer, Code::Unauthenticated, &format!("K36 {field} {name}"));
    }

    // Trailers of a request arrive when all is decided.
    let mut trailers = HeaderMap::new();
    trailers.insert("cookie", cookie.parse().unwrap());
    trailers.insert("authorization", HeaderValue::from_static("Bearer abc"));
    let (head, body) = call(SAY, None).into_parts();
    let body = body.with_trailers(std::future::ready(Some(Ok(trailers))));
    let answer = http2(server.address, Request::from_parts(head, body)).await;
    assert_trailers_only(&answer, Code::Unauthenticated, "K36 trailers");
    assert!(server.echo.calls().is_empty(), "nothing arrives");
}

#[tokio::test]
async fn k36_next_to_a_session_no_credentials_and_no_made_up_identity_arrive() {
    let world = World::new().await;
    let server = Running::start(&world, |builder| builder).await;
    let alice = server.signed_in(&world, "alice").await;
    let refused = [
        "authorization",
        "dpop",
        "x-auth-request-user",
        "x_auth_request_user",
        "x-auth-request-user-bin",
        "x-forwarded-user",
        "x_forwarded_email",
        "remote-user",
        "remote_user",
        "x-user-id",
        "x-user-id-bin",
        "x-webauth-user",
        "cf-access-jwt-assertion",
    ];
    let kept = ["x-trace", "trace-bin", "x-user-agent", "grpc-timeout", "x-authentication-hint"];
    let mut client = server.client_of(&alice).await;
    for name in refused.iter().chain(&kept) {
        let value = if *name == "grpc-timeout" { "9S" } else { "bWFs" };
        client = client.with(&[(*name, value)]);
    }
    client.metadata.append("cookie", HeaderValue::from_static("theirs=1"));
    assert_eq!(client.say("hello").await.unwrap().text, "alice: hello");
    let call = server.echo.calls().pop().unwrap();
    for name in refused {
        assert!(!call.headers.contains_key(name), "K36 {name}");
    }
    for name in kept {
        assert!(call.headers.contains_key(name), "K36 {name} is not ours to take");
    }
    let cookies: Vec<_> = call.headers.get_all("cookie").iter().collect();
    assert_eq!(cookies, ["theirs=1"], "our own cookies are not for the service");
}

#[tokio::test]
async fn k38_health_is_open_by_its_exact_path_alone() {
    let world = World::new().await;
    let check = "/grpc.health.v1.Health/Check";
    let closed = Running::start(&world, |builder| builder).await;
    let answer = http2(closed.address, call(check, None)).await;
    assert_trailers_only(&answer, Code::Unauthenticated, "K38 nothing is open by itself");

    let server = Running::start(&world, |builder| builder.open(check.parse().unwrap())).await;
    for (path, open) in [
        (check, true),
        ("/grpc.health.v1.Health/CheckX", false),
        ("/grpc.health.v1.Health/check", false),
        ("/grpc.health.v1.health/Check", false),
        ("/GRPC.health.v1.Health/Check", false),
        ("/grpc.health.v1.Health/Check/", false),
        ("/grpc.health.v1.Health/Check/x", false),
        ("/grpc.health.v1.Health//Check", false),
        ("//grpc.health.v1.Health/Check", false),
        ("/grpc.health.v1.Health/Check;x", false),
        ("/grpc.health.v1.Health/%43heck", false),
        ("/grpc.health.v1.Health/x/../Check", false),
        ("/grpc.health.v1.Health/Watch", false),
        ("/grpc.health.v1.Health/", false),
        ("/grpc.reflection.v1.ServerReflection/ServerReflectionInfo", false),
        (SAY, false),
    ] {
        let answer = http2(server.address, call(path, None)).await;
        if open {
            assert_eq!(answer.0.grpc_status(), "0", "K38 {path}");
        } else {
            assert_trailers_only(&answer, Code::Unauthenticated, &format!("K38 {path}"));
        }
        assert_eq!(server.echo.calls().len(), usize::from(open), "K38 {path}");
    }
    // The health of a service is asked for by machines that send no session and no origin.
    let alice = server.signed_in(&world, "alice").await;
    let answer = http2(server.address, without(call(check, Some(&alice)), "origin")).await;
    assert_eq!(answer.0.grpc_status(), "0", "K38 with a cookie and no origin");
    assert_eq!(server.echo.calls().pop().unwrap().subject, None, "K38 nobody is looked up");
}

#[tokio::test]
async fn a_client_that_is_no_browser_shows_a_header_of_its_own() {
    let world = World::new().await;
    let name = HeaderName::from_static("x-greeter-client");
    let server = Running::start(&world, |builder| builder.csrf_header(name)).await;
    let alice = server.signed_in(&world, "alice").await;
    let mut client = server.client().await;
    client.metadata.insert("cookie", alice.cookie().parse().unwrap());
    assert_eq!(client.say("hello").await.unwrap_err().code(), Code::PermissionDenied, "K37");
    let client = client.with(&[("x-greeter-client", "1")]);
    assert_eq!(client.say("hello").await.unwrap().text, "alice: hello");
    let cross = client.with(&[("sec-fetch-site", "cross-site")]);
    assert_eq!(cross.say("hello").await.unwrap_err().code(), Code::PermissionDenied, "K37");
}

fn base64(text: &str) -> String {
    use base64::Engine as _;
    base64::engine::general_purpose::STANDARD_NO_PAD.encode(text)
}

const STORE_TIME_OUT: Duration = Duration::from_millis(300);
