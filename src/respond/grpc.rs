//! gRPC's own way to refuse: HTTP 200 with the status in what is at once header and trailer
//! (gRPC over HTTP/2, "Trailers-Only").

use http::header::{HeaderMap, HeaderName, HeaderValue};

use crate::error::{Blame, ErrorKind};

/// A gRPC status; the message is one of ours and plain ASCII.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Status {
    code: u8,
    message: &'static str,
    web: bool,
}

impl Status {
    /// Returns the status for a refusal: 16 unauthenticated, 7 not allowed, 14 try again.
    pub(crate) const fn of(kind: ErrorKind, web: bool) -> Self {
        let (code, message) = match (kind, kind.blame()) {
            (ErrorKind::NotSignedIn, _) => (16, "not signed in"),
            (_, Blame::Store | Blame::Provider) => (14, "sign-in is not available, try again"),
            (_, Blame::Inside) => (13, "internal error"),
            (_, Blame::Visitor) => (7, "not allowed"),
        };
        Self { code, message, web }
    }

    pub(crate) const fn content_type(&self) -> &'static str {
        if self.web { "application/grpc-web+proto" } else { "application/grpc" }
    }

    pub(crate) fn write_headers(&self, headers: &mut HeaderMap) {
        let code = HeaderValue::from(u16::from(self.code));
        headers.insert(HeaderName::from_static("grpc-status"), code);
        // Spaces are allowed; nothing else in our messages would need percent-encoding.
        let message = HeaderValue::from_static(self.message);
        headers.insert(HeaderName::from_static("grpc-message"), message);
    }
}
