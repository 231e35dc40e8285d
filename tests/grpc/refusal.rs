//! What a refused call looks like on the wire.

use tonic::Code;

use crate::wire::{Frame, Whole};

/// Asserts a trailers-only answer: HTTP 200, all in the head, which ends the stream.
pub fn assert_trailers_only((whole, frames): &(Whole, Vec<Frame>), code: Code, what: &str) {
    let head = whole.response.headers();
    assert_eq!(whole.response.status(), 200, "K32 {what}");
    assert_eq!(whole.grpc_status(), (code as i32).to_string(), "K30 K31 {what}");
    assert_eq!(head["content-type"], "application/grpc", "K30 {what}");
    for name in ["location", "set-cookie", "www-authenticate", "retry-after"] {
        assert!(!head.contains_key(name), "K30 {what}: {name}");
    }
    assert!(whole.response.body().is_empty(), "K30 {what}");
    let (first, rest) = frames.split_first().expect("frames come");
    assert_eq!(first.kind, Frame::HEADERS, "K30 {what}");
    let ends = Frame::END_STREAM | Frame::END_HEADERS;
    assert_eq!(first.flags & ends, ends, "K30 {what}: one HEADERS frame that ends the stream");
    for frame in rest {
        // A request that was not read to its end may be stopped, without an error (RFC 9113
        // section 8.1); windows may open.
        let stop = frame.kind == Frame::RST_STREAM && frame.payload == Frame::NO_ERROR;
        assert!(stop || frame.kind == Frame::WINDOW_UPDATE, "K30 {what}: {frames:?}");
    }
    assert_plain(whole.header("grpc-message"), what);
}

/// K33: printable ASCII, nothing in it that a percent-decoder would change, no word of a cause.
pub fn assert_plain(message: &str, what: &str) {
    assert!(!message.is_empty(), "K33 {what}");
    assert!(message.bytes().all(|byte| (b' '..=b'~').contains(&byte)), "K33 {what}: {message}");
    assert!(!message.contains('%'), "K33 {what}: {message}");
    assert!(!message.contains("CANARY"), "K33 {what}: {message}");
}
