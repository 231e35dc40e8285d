//! Bodies of forms (OAuth 2.0 Form Post Response Mode), in frames as they arrive.

use axum::body::Body;
use bytes::Bytes;
use http_body_util::StreamBody;
use hyper::body::Frame;
use proptest::collection::vec;
use proptest::prelude::{Just, any, prop_oneof};
use proptest::sample::select;

use crate::inputs::{FORM, pieces, words};
use crate::judge::{At, Hostile, add, form, property};
use crate::support;

/// A body in frames, and how it ends.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum End {
    Whole,
    Broken,
    Trailers,
}

fn body(frames: &[Vec<u8>], end: End) -> Body {
    let mut all: Vec<Result<Frame<Bytes>, std::io::Error>> =
        frames.iter().map(|frame| Ok(Frame::data(Bytes::from(frame.clone())))).collect();
    match end {
        End::Whole => {}
        End::Broken => all.push(Err(std::io::ErrorKind::UnexpectedEof.into())),
        End::Trailers => {
            let mut trailers = axum::http::HeaderMap::new();
            trailers.insert("x-forwarded-user", "alice".parse().unwrap());
            all.push(Ok(Frame::trailers(trailers)));
        }
    }
    Body::new(StreamBody::new(tokio_stream::iter(all)))
}

#[test]
fn c25_c27_c30_no_form_signs_anybody_in_unless_it_is_whole() {
    let hostile = Hostile::new(|_, builder| builder.form_post());
    let known = pieces(words(
        "state= code= iss= error= id_token= & & = % %00 %ff + access_denied x --boundary",
        &["\r\n", "{\"code\":1}", "\u{e9}"],
    ));
    let types = select(vec![
        FORM,
        FORM,
        FORM,
        "",
        "text/plain",
        "multipart/form-data; boundary=x",
        "application/json",
        "application/x-www-form-urlencoded; charset=utf-7",
        "APPLICATION/X-WWW-FORM-URLENCODED",
        "application/grpc",
        "application/x-www-form-urlencodedx",
    ]);
    let ends = prop_oneof![Just(End::Whole), Just(End::Broken), Just(End::Trailers)];
    let queries = select(vec!["", "", "?", "?code=x", "?state=x&code=y"]);
    let inputs = (vec(known, 0..5), types, ends, queries, any::<bool>());
    property(200, inputs, |(mut frames, content_type, end, query, pending)| {
        hostile.runtime.block_on(async {
            let (cookie, state) = hostile.start().await;
            let issuer = hostile.world.provider.issuer();
            frames.insert(0, format!("state={state}&iss={issuer}&").into_bytes());
            let path = format!("/auth/callback{query}");
            let mut request = form(&path, content_type, body(&frames, end));
            if pending {
                add(&mut request, "cookie", cookie.as_bytes());
            }
            hostile.judge_with(At::Ours, request, pending).await;
        });
    });
}

/// A login whose genuine form arrives spoilt is not spent: the whole form signs in afterwards.
#[test]
fn c25_c27_a_spoilt_form_spends_nothing() {
    let hostile = Hostile::new(|_, builder| builder.form_post());
    let pad = |size: usize| vec![b'x'; size];
    let cap = 64 * 1024;
    for (name, after, end, content_type, query, accepted) in [
        ("breaks off after the last byte", vec![], End::Broken, FORM, "", false),
        ("breaks off in the middle", vec![pad(10)], End::Broken, FORM, "", false),
        ("a byte over the cap", vec![pad(cap)], End::Whole, FORM, "", false),
        ("far over the cap in frames", vec![pad(40_000); 30], End::Whole, FORM, "", false),
        ("a broken escape behind", vec![b"%".to_vec()], End::Whole, FORM, "", false),
        ("no UTF-8 behind", vec![b"%ff".to_vec()], End::Whole, FORM, "", false),
        ("a zero byte behind", vec![b"\0".to_vec()], End::Whole, FORM, "", false),
        ("the code twice", vec![b"&code=x".to_vec()], End::Whole, FORM, "", false),
        ("the state twice", vec![b"&state=x".to_vec()], End::Whole, FORM, "", false),
        ("a query beside", vec![], End::Whole, FORM, "?code=x", false),
        ("as text", vec![], End::Whole, "text/plain", "", false),
        ("as nothing", vec![], End::Whole, "", "", false),
        ("as gRPC", vec![], End::Whole, "application/grpc", "", false),
        ("whole, with trailers", vec![], End::Trailers, FORM, "", true),
        ("whole, in ten thousand empty frames", vec![vec![]; 10_000], End::Whole, FORM, "", true),
    ] {
        hostile.runtime.block_on(async {
            let mut browser = hostile.world.browser(&hostile.app, "alice");
            let url = browser.to_provider("/secret").await;
            let at_op = hostile.world.provider.authorize_form_as(&url, "alice").await.unwrap();
            let mut whole = url::form_urlencoded::Serializer::new(String::new());
            let whole = whole.extend_pairs(&at_op.fields).append_pair("pad", "").finish();
            let cookie = browser.jar.header("/").unwrap();
            let send = async |frames: &[Vec<u8>], end, content_type, query: &str| {
                let path = format!("/auth/callback{query}");
                let mut request = form(&path, content_type, body(frames, end));
                add(&mut request, "cookie", cookie.as_bytes());
                request
            };
            let frames: Vec<_> = [vec![whole.clone().into_bytes()], after].concat();
            let request = send(&frames, end, content_type, query).await;
            if !accepted {
                let before = hostile.world.provider.counts().token;
                let reply = hostile.judge(At::Ours, request).await;
                let grpc = content_type == "application/grpc";
                assert!(grpc || reply.status == 400, "{name}: {}", reply.status);
                assert_eq!(hostile.world.provider.counts().token, before, "{name}: code unspent");
                let request = send(&[whole.into_bytes()], End::Whole, FORM, "").await;
                let reply = support::send(&hostile.app, request).await;
                assert_eq!(reply.status, 303, "{name}: not consumed: {}", reply.reason());
            } else {
                let reply = support::send(&hostile.app, request).await;
                assert_eq!(reply.location(), "/secret", "{name}: {}", reply.reason());
            }
        });
    }
}
