//! What a gRPC-Web client in a browser does.

use std::net::SocketAddr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::Request;
use http_body_util::Full;
use prost::Message as _;

use crate::echo::Note;
use crate::wire::{Whole, framed};

/// The two dialects: as bytes, and as base64.
pub const DIALECTS: [&str; 2] = ["application/grpc-web+proto", "application/grpc-web-text+proto"];

/// A call as a script makes it.
pub fn call(dialect: &str, path: &str, note: &Note, address: SocketAddr) -> Request<Full<Bytes>> {
    let message = framed(note);
    let body = if dialect.contains("text") { to_web_text(&message) } else { message };
    Request::post(path)
        .header("host", address.to_string())
        .header("content-type", dialect)
        .header("accept", dialect)
        .header("x-grpc-web", "1")
        .header("x-user-agent", "grpc-web-javascript/0.1")
        .body(Full::new(body))
        .unwrap()
}

/// The messages of an answer, and its trailers as text.
pub fn decoded(dialect: &str, reply: &Whole) -> (Vec<Note>, String) {
    let body = reply.response.body();
    if dialect.contains("text") { web_body(&web_text(body)) } else { web_body(body) }
}

/// What a gRPC-Web client reads of a body: the messages, and the trailers as text.
fn web_body(body: &[u8]) -> (Vec<Note>, String) {
    let (mut notes, mut trailers) = (Vec::new(), String::new());
    let mut rest = body;
    while let Some((head, after)) = rest.split_first_chunk::<5>() {
        let [flag, length @ ..] = *head;
        let length = usize::try_from(u32::from_be_bytes(length)).unwrap();
        let (content, after) = after.split_at(length);
        match flag {
            0 => notes.push(Note::decode(content).unwrap()),
            0x80 => trailers = String::from_utf8(content.to_vec()).unwrap(),
            _ => panic!("no such frame: {flag}"),
        }
        rest = after;
    }
    assert!(rest.is_empty(), "a frame is cut: {rest:?}");
    (notes, trailers)
}

/// What gRPC-Web as text says: base64, padded wherever a piece ends.
fn web_text(body: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for four in body.chunks(4) {
        bytes.extend(STANDARD.decode(four).unwrap());
    }
    bytes
}

fn to_web_text(body: &[u8]) -> Bytes {
    STANDARD.encode(body).into()
}
