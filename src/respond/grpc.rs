//! gRPC's own way to refuse: HTTP 200 with the status in what is at once header and trailer
//! (gRPC over HTTP/2, "Trailers-Only").

use bytes::Bytes;
use http::header::{HeaderMap, HeaderName, HeaderValue};

use crate::access::GrpcKind;
use crate::error::{Blame, ErrorKind};

/// A gRPC status; the message is one of ours and plain ASCII.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Status {
    code: u8,
    message: &'static str,
    kind: GrpcKind,
}

impl Status {
    /// Returns the status for a refusal: 16 unauthenticated, 7 not allowed, 8 too much, 14 try
    /// again.
    pub(crate) const fn of(kind: ErrorKind, grpc: GrpcKind) -> Self {
        let (code, message) = match (kind, kind.blame()) {
            (ErrorKind::NotSignedIn, _) => (16, "not signed in"),
            (ErrorKind::TooManyLogins, _) => (8, "too many sign-ins, try again"),
            (_, Blame::Store | Blame::Provider) => (14, "sign-in is not available, try again"),
            (_, Blame::Inside) => (13, "internal error"),
            (_, Blame::Visitor) => (7, "not allowed"),
        };
        Self { code, message, kind: grpc }
    }

    pub(crate) const fn content_type(&self) -> &'static str {
        self.kind.content_type()
    }

    pub(crate) fn write_headers(&self, headers: &mut HeaderMap) {
        write(self.code, self.message, headers);
    }
}

fn write(code: u8, message: &'static str, headers: &mut HeaderMap) {
    let code = HeaderValue::from(u16::from(code));
    headers.insert(HeaderName::from_static("grpc-status"), code);
    // Spaces are allowed; nothing else in our messages would need percent-encoding.
    headers.insert(HeaderName::from_static("grpc-message"), HeaderValue::from_static(message));
}

/// Why a call ends with its session.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum SessionEnd {
    /// It has ended.
    Over,
    /// Nobody can tell: nobody is signed out by that.
    Unknown,
}

impl SessionEnd {
    const fn status(self) -> (u8, &'static str) {
        match self {
            Self::Over => (16, "the session ended"),
            Self::Unknown => (14, "sign-in is not available, try again"),
        }
    }

    /// Writes the status, as headers or trailers.
    pub(crate) fn write_headers(self, headers: &mut HeaderMap) {
        let (code, message) = self.status();
        write(code, message, headers);
    }

    /// Returns the status as gRPC-Web's last frame: `0x80`, a length, and the trailers as text.
    pub(crate) fn web_frame(self) -> Bytes {
        let (code, message) = self.status();
        let text = format!("grpc-status:{code}\r\ngrpc-message:{message}\r\n");
        let length = u32::try_from(text.len()).expect("a line is short");
        let mut frame = vec![TRAILERS];
        frame.extend(length.to_be_bytes());
        frame.extend(text.as_bytes());
        frame.into()
    }
}

/// The flag of gRPC-Web's last frame.
const TRAILERS: u8 = 0x80;

/// Follows the messages of a gRPC body (a flag, a length of four bytes, so many bytes), to know
/// whether one has just been finished.
#[derive(Debug, Default)]
pub(crate) struct MessageBoundary {
    /// What has come of the next message's prefix.
    prefix: [u8; 5],
    length: usize,
    /// What is left of the message.
    left: usize,
    /// Whether the last frame of gRPC-Web has begun.
    ended: bool,
}

impl MessageBoundary {
    /// Notes what was sent.
    pub(crate) fn pass(&mut self, mut data: &[u8]) {
        while !data.is_empty() {
            if self.left > 0 {
                let part = self.left.min(data.len());
                self.left -= part;
                data = &data[part..];
                continue;
            }
            self.prefix[self.length] = data[0];
            self.length += 1;
            data = &data[1..];
            if self.length == self.prefix.len() {
                let [flag, length @ ..] = self.prefix;
                self.ended |= flag & TRAILERS != 0;
                self.left = u32::from_be_bytes(length) as usize;
                self.length = 0;
            }
        }
    }

    /// Tells whether the service has ended the call itself.
    pub(crate) const fn is_ended(&self) -> bool {
        self.ended && self.is_clean()
    }

    /// Tells whether no message is half sent.
    pub(crate) const fn is_clean(&self) -> bool {
        self.left == 0 && self.length == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_boundary_is_between_two_messages_only() {
        let messages = b"\0\0\0\0\x02ab\x01\0\0\0\0\0\0\0\0\x01c";
        let clean = [0, 7, 12, 18];
        for size in [1, 2, 3, 5, 7, 18] {
            let mut boundary = MessageBoundary::default();
            let mut sent = 0;
            for piece in messages.chunks(size) {
                boundary.pass(piece);
                sent += piece.len();
                assert_eq!(boundary.is_clean(), clean.contains(&sent), "after {sent} by {size}");
            }
        }
    }
}
