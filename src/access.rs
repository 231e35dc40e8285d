//! What kind of request this is, which decides how it is refused.
//!
//! Only a top-level navigation can be sent to a sign-in. Everything else gets an answer that its
//! sender understands: 401 in JSON for scripts, `HX-Redirect` for htmx, a status for gRPC.

use http::header::{ACCEPT, CONNECTION, CONTENT_TYPE, HeaderMap, ORIGIN, UPGRADE};
use http::{Method, header::ACCESS_CONTROL_REQUEST_METHOD};

/// The kinds of requests that are answered differently.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Kind {
    /// A document for a frame: a sign-in page must not appear in it.
    Embedded,
    /// A call of gRPC or gRPC-Web.
    Grpc(GrpcKind),
    /// A request of htmx.
    Htmx,
    /// A top-level navigation of a browser.
    Navigation,
    /// A CORS preflight.
    Preflight,
    /// A script, an image, a tool.
    Script,
    /// A page that is loaded in case somebody asks for it.
    Speculative,
    /// A WebSocket, or another protocol.
    Upgrade,
}

/// The dialects of gRPC.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum GrpcKind {
    /// gRPC over HTTP/2, with trailers.
    Native,
    /// gRPC-Web: the trailers are the last frame of the body.
    Web,
    /// gRPC-Web in base64.
    WebText,
}

impl GrpcKind {
    /// Returns the type that its responses have.
    pub(crate) const fn content_type(self) -> &'static str {
        match self {
            Self::Native => "application/grpc",
            Self::Web => "application/grpc-web+proto",
            Self::WebText => "application/grpc-web-text+proto",
        }
    }
}

/// Judges a request: what it says of itself by `Sec-Fetch-*` first, `Accept` last.
pub(crate) fn kind(method: &Method, headers: &HeaderMap) -> Kind {
    if let Some(grpc) = grpc_kind(headers) {
        return Kind::Grpc(grpc);
    }
    if is_upgrade(method, headers) {
        return Kind::Upgrade;
    }
    if method == Method::OPTIONS {
        let preflight =
            headers.contains_key(ORIGIN) && headers.contains_key(ACCESS_CONTROL_REQUEST_METHOD);
        return if preflight { Kind::Preflight } else { Kind::Script };
    }
    if ["sec-purpose", "purpose", "x-moz"].iter().any(|name| is_speculative(headers, name)) {
        return Kind::Speculative;
    }
    if text(headers, "hx-request").is_some_and(|value| value == "true") {
        return Kind::Htmx;
    }
    // HEAD asks about a page; nobody is there to sign in.
    if method != Method::GET && method != Method::POST {
        return Kind::Script;
    }
    match (text(headers, "sec-fetch-mode"), text(headers, "sec-fetch-dest")) {
        (Some("navigate"), None | Some("document")) => Kind::Navigation,
        (Some("navigate"), Some(_)) => Kind::Embedded,
        (Some(_), _) => Kind::Script,
        (None, _) if headers.contains_key("x-requested-with") => Kind::Script,
        (None, _) => {
            let html = headers
                .get_all(ACCEPT)
                .iter()
                .filter_map(|value| value.to_str().ok())
                .flat_map(|value| value.split(','))
                .map(|range| range.split(';').next().unwrap_or_default().trim())
                .any(|range| range.eq_ignore_ascii_case("text/html"));
            if html { Kind::Navigation } else { Kind::Script }
        }
    }
}

/// Tells whether a request asks for another protocol on its connection.
pub(crate) fn is_upgrade(method: &Method, headers: &HeaderMap) -> bool {
    // RFC 8441: over HTTP/2 a WebSocket comes as an extended CONNECT.
    if method == Method::CONNECT {
        return true;
    }
    headers.contains_key(UPGRADE)
        && headers
            .get_all(CONNECTION)
            .iter()
            .filter_map(|value| value.to_str().ok())
            .flat_map(|value| value.split(','))
            .any(|token| token.trim().eq_ignore_ascii_case("upgrade"))
}

/// `application/grpc` or `application/grpc-web`, followed by nothing, `+` or `;` (gRPC over
/// HTTP/2): a look-alike must not choose how it is refused.
pub(crate) fn grpc_kind(headers: &HeaderMap) -> Option<GrpcKind> {
    let value = headers.get(CONTENT_TYPE)?.as_bytes();
    let is = |prefix: &[u8]| {
        value.split_at_checked(prefix.len()).is_some_and(|(head, rest)| {
            head.eq_ignore_ascii_case(prefix) && matches!(rest.first(), None | Some(b'+' | b';'))
        })
    };
    if is(b"application/grpc") {
        Some(GrpcKind::Native)
    } else if is(b"application/grpc-web") {
        Some(GrpcKind::Web)
    } else {
        is(b"application/grpc-web-text").then_some(GrpcKind::WebText)
    }
}

fn is_speculative(headers: &HeaderMap, name: &str) -> bool {
    text(headers, name).is_some_and(|value| {
        let value = value.to_ascii_lowercase();
        value.contains("prefetch") || value.contains("prerender") || value.contains("preview")
    })
}

pub(crate) fn text<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kind_of(method: &str, headers: &[(&'static str, &'static str)]) -> Kind {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(*name, value.parse().unwrap());
        }
        kind(&method.parse().unwrap(), &map)
    }

    #[test]
    fn a19_a20_a21_o11_k34_only_top_level_navigations_are_navigations() {
        for (method, headers, expected) in [
            (
                "GET",
                &[("sec-fetch-mode", "navigate"), ("sec-fetch-dest", "document")][..],
                Kind::Navigation,
            ),
            (
                "POST",
                &[("sec-fetch-mode", "navigate"), ("sec-fetch-dest", "document")],
                Kind::Navigation,
            ),
            ("GET", &[("sec-fetch-mode", "navigate")], Kind::Navigation),
            ("GET", &[("accept", "text/html,*/*;q=0.8")], Kind::Navigation),
            ("GET", &[("accept", "TEXT/HTML;q=0.9")], Kind::Navigation),
            ("GET", &[("accept", "*/*")], Kind::Script),
            ("GET", &[], Kind::Script),
            ("GET", &[("accept", "application/json, text/htmlx")], Kind::Script),
            ("GET", &[("accept", "text/html"), ("sec-fetch-mode", "cors")], Kind::Script),
            ("GET", &[("accept", "text/html"), ("sec-fetch-mode", "no-cors")], Kind::Script),
            (
                "GET",
                &[("accept", "text/html"), ("x-requested-with", "XMLHttpRequest")],
                Kind::Script,
            ),
            (
                "GET",
                &[("sec-fetch-mode", "navigate"), ("sec-fetch-dest", "iframe")],
                Kind::Embedded,
            ),
            (
                "GET",
                &[("sec-fetch-mode", "navigate"), ("sec-fetch-dest", "object")],
                Kind::Embedded,
            ),
            ("GET", &[("accept", "text/event-stream")], Kind::Script),
            ("HEAD", &[("accept", "text/html")], Kind::Script),
            ("PUT", &[("accept", "text/html")], Kind::Script),
            (
                "GET",
                &[("accept", "text/html"), ("sec-purpose", "prefetch;prerender")],
                Kind::Speculative,
            ),
            ("GET", &[("accept", "text/html"), ("purpose", "prefetch")], Kind::Speculative),
            (
                "OPTIONS",
                &[("origin", "https://a"), ("access-control-request-method", "PUT")],
                Kind::Preflight,
            ),
            ("OPTIONS", &[("origin", "https://a")], Kind::Script),
            ("OPTIONS", &[("accept", "text/html")], Kind::Script),
            ("GET", &[("hx-request", "true"), ("accept", "text/html")], Kind::Htmx),
            (
                "GET",
                &[("connection", "keep-alive, Upgrade"), ("upgrade", "websocket")],
                Kind::Upgrade,
            ),
            ("GET", &[("upgrade", "websocket"), ("accept", "text/html")], Kind::Navigation),
            ("CONNECT", &[], Kind::Upgrade),
            ("POST", &[("content-type", "application/grpc")], Kind::Grpc(GrpcKind::Native)),
            ("POST", &[("content-type", "application/GRPC+proto")], Kind::Grpc(GrpcKind::Native)),
            (
                "POST",
                &[("content-type", "application/grpc;charset=x")],
                Kind::Grpc(GrpcKind::Native),
            ),
            ("POST", &[("content-type", "application/grpc-web")], Kind::Grpc(GrpcKind::Web)),
            (
                "POST",
                &[("content-type", "application/grpc-web-text+proto")],
                Kind::Grpc(GrpcKind::WebText),
            ),
            ("POST", &[("content-type", "application/grpcx")], Kind::Script),
            ("POST", &[("content-type", "text/plain; application/grpc")], Kind::Script),
            ("POST", &[("content-type", "application/grpc-websocket")], Kind::Script),
        ] {
            assert_eq!(kind_of(method, headers), expected, "{method} {headers:?}");
        }
    }
}
