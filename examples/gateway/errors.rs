//! The gateway's own refusals: a page for people, a line for programs, a status for gRPC.

use std::fmt;

use bytes::Bytes;
use http::header::{
    ACCEPT, CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, HeaderMap, HeaderValue,
    REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS,
};
use http::{Response, StatusCode};

use crate::body::Passed;

/// Who asks, and so how a refusal is written.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Asker {
    Grpc,
    GrpcWeb,
    /// A person who opens a page.
    Person,
    Program,
}

/// A number to look for in the log.
#[derive(Clone, Copy)]
pub struct Reference([u8; 4]);

/// Why a request is refused by the gateway itself.
#[derive(Clone, Copy, Debug)]
pub struct Refusal {
    pub status: StatusCode,
    /// What a person can do with.
    pub text: &'static str,
}

impl Asker {
    pub fn of(headers: &HeaderMap) -> Self {
        let media = headers.get(CONTENT_TYPE).and_then(|media| media.to_str().ok());
        let media = media.unwrap_or_default().split([';', '+']).next().unwrap_or_default();
        match &*media.trim_ascii_end().to_ascii_lowercase() {
            "application/grpc" => return Self::Grpc,
            "application/grpc-web" | "application/grpc-web-text" => return Self::GrpcWeb,
            _ => {}
        }
        let page = match headers.get("sec-fetch-mode") {
            Some(mode) => mode == "navigate",
            None => headers
                .get(ACCEPT)
                .and_then(|accept| accept.to_str().ok())
                .is_some_and(|accept| accept.contains("text/html")),
        };
        if page { Self::Person } else { Self::Program }
    }
}

impl Reference {
    pub fn new() -> Self {
        let mut bytes = [0; 4];
        // It is no secret; without randomness all are zero.
        let _ = getrandom::fill(&mut bytes);
        Self(bytes)
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:08x}", u32::from_be_bytes(self.0))
    }
}

impl Refusal {
    pub const fn new(status: StatusCode, text: &'static str) -> Self {
        Self { status, text }
    }

    /// Writes it out; `reference` is shown where the log has more.
    pub fn answer<B>(self, asker: Asker, reference: Option<Reference>) -> Response<Passed<B>> {
        let Self { status, text } = self;
        let reference =
            reference.map(|number| format!(" (reference {number})")).unwrap_or_default();
        let (status, media, body) = match asker {
            // Trailers-only: all there is to say is in the head.
            Asker::Grpc => (StatusCode::OK, "application/grpc", String::new()),
            Asker::GrpcWeb => (StatusCode::OK, "application/grpc-web", String::new()),
            Asker::Person => (
                status,
                "text/html; charset=utf-8",
                PAGE.replace("{status}", status.as_str())
                    .replace("{reason}", status.canonical_reason().unwrap_or("Error"))
                    .replace("{text}", text)
                    .replace("{reference}", &reference),
            ),
            Asker::Program => {
                (status, "text/plain; charset=utf-8", format!("{status}: {text}{reference}\n"))
            }
        };
        let mut response = Response::new(Passed::own(Bytes::from(body)));
        *response.status_mut() = status;
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(media));
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        headers.insert(REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
        headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        headers.insert(CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY));
        if matches!(asker, Asker::Grpc | Asker::GrpcWeb) {
            headers.insert("grpc-status", HeaderValue::from_static(self.grpc_status()));
            if let Ok(message) = HeaderValue::try_from(format!("{text}{reference}")) {
                headers.insert("grpc-message", message);
            }
        }
        response
    }

    /// The code gRPC has for a status (gRPC over HTTP/2, "HTTP to gRPC status code mapping").
    fn grpc_status(self) -> &'static str {
        match self.status {
            StatusCode::BAD_REQUEST => "13",
            StatusCode::FORBIDDEN => "7",
            StatusCode::NOT_FOUND
            | StatusCode::METHOD_NOT_ALLOWED
            | StatusCode::NOT_IMPLEMENTED => "12",
            _ => "14",
        }
    }
}

const POLICY: &str =
    "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'; base-uri 'none'";

const PAGE: &str = r#"<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>{status} {reason}</title>
<style>
body { font: 16px/1.5 system-ui, sans-serif; margin: 15vh auto 0; max-width: 32rem; padding: 0 1.5rem }
h1 { font-size: 1.4rem; margin: 0 0 .5rem }
p { margin: 0 }
</style>
</head>
<body>
<h1>{status} {reason}</h1>
<p>{text}{reference}</p>
</body>
</html>
"#;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_is_written_for_who_asks() {
        use Asker::{Grpc, GrpcWeb, Person, Program};
        for (fields, asker, status) in [
            (&[("sec-fetch-mode", "navigate")][..], Person, 502),
            (&[("sec-fetch-mode", "cors"), ("accept", "text/html")], Program, 502),
            (&[("accept", "text/html,*/*")], Person, 502),
            (&[], Program, 502),
            (&[("content-type", "application/grpc")], Grpc, 200),
            (&[("content-type", "Application/GRPC+proto")], Grpc, 200),
            (&[("content-type", "application/grpc ; charset=utf-8")], Grpc, 200),
            (&[("content-type", "application/grpc-web+proto")], GrpcWeb, 200),
            (&[("content-type", "application/grpc-web-text")], GrpcWeb, 200),
            (&[("content-type", "application/grpcx")], Program, 502),
        ] {
            let mut headers = HeaderMap::new();
            for (name, value) in fields {
                headers.insert(*name, HeaderValue::from_static(value));
            }
            assert_eq!(Asker::of(&headers), asker, "{fields:?}");
            let refusal = Refusal::new(StatusCode::BAD_GATEWAY, "it is away");
            let response: Response<Passed<()>> =
                refusal.answer(asker, Some(Reference([0, 0, 0, 7])));
            assert_eq!(response.status(), status, "{fields:?}");
            assert_eq!(response.headers()[CACHE_CONTROL], "no-store");
            let grpc = response.headers().get("grpc-status").is_some_and(|status| status == "14");
            assert_eq!(grpc, status == 200, "{fields:?}");
        }
    }
}
