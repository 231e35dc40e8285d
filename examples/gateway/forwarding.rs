//! What is done to the header fields of a request and of its response on the way through.
//!
//! 1. Fields that concern one connection go, those that `Connection` names too (RFC 9110 section
//!    7.6.1), and what a client says of proxies, addresses and original URLs, in every spelling.
//! 2. Only then the gateway adds its own: `Host` and `X-Forwarded-*` from the public URL, the
//!    address of the client, who is signed in. So nothing a client names in `Connection` takes
//!    them away.

use http::header::{
    CONNECTION, CONTENT_LENGTH, COOKIE, EXPECT, HOST, HeaderMap, HeaderName, HeaderValue,
    PROXY_AUTHENTICATE, PROXY_AUTHORIZATION, TE, TRANSFER_ENCODING, UPGRADE,
};
use tower_pkce_auth::{Identity, PublicUrl};

use crate::client_address::Client;
use crate::identity_headers::{self, TooManyGroups};
use crate::upstream::Manner;

/// The authority and the scheme browsers see, as header fields.
#[derive(Clone, Debug)]
pub struct PublicOrigin {
    pub host: HeaderValue,
    pub scheme: HeaderValue,
}

impl PublicOrigin {
    pub fn new(url: &PublicUrl) -> Self {
        let (scheme, host) = url.origin().split_once("://").unwrap_or_default();
        let value = |text| HeaderValue::from_str(text).expect("an origin is visible ASCII");
        Self { host: value(host), scheme: value(scheme) }
    }
}

/// Makes a client's fields those of the request to the upstream.
///
/// # Errors
///
/// The upstream cannot be told of all the groups.
pub fn to_upstream(
    headers: &mut HeaderMap,
    public: &PublicOrigin,
    client: &Client,
    identity: Option<&Identity>,
    manner: &Manner,
) -> Result<(), TooManyGroups> {
    let trailers = accepts_trailers(headers);
    strip_connection_fields(headers);
    strip(headers, speaks_of_proxies);
    headers.remove(EXPECT);
    join_cookies(headers);

    headers.insert(HOST, public.host.clone());
    headers.insert("x-forwarded-host", public.host.clone());
    headers.insert("x-forwarded-proto", public.scheme.clone());
    headers.insert("x-forwarded-for", forwarded_for(client));
    if let Some(identity) = identity {
        identity_headers::add(headers, identity)?;
    }
    match manner {
        Manner::Upgrade(protocols) => add_upgrade(headers, protocols.clone()),
        _ if !trailers => {}
        // HTTP/2 knows no Connection.
        Manner::Grpc => {
            headers.insert(TE, HeaderValue::from_static("trailers"));
        }
        Manner::Plain => {
            headers.insert(TE, HeaderValue::from_static("trailers"));
            headers.insert(CONNECTION, HeaderValue::from_static("te"));
        }
    }
    Ok(())
}

/// Says how a body of unknown size is sent over HTTP/1.1; without that, a `GET` would lose it.
pub fn frame(headers: &mut HeaderMap, body: &impl http_body::Body) {
    if !body.is_end_stream() && body.size_hint().exact().is_none() {
        headers.insert(TRANSFER_ENCODING, HeaderValue::from_static("chunked"));
    }
}

/// Makes an upstream's fields those of the response to the client.
pub fn to_client(headers: &mut HeaderMap) {
    // It says nothing beside a Transfer-Encoding (RFC 9112 section 6.3), and is not passed on.
    if headers.contains_key(TRANSFER_ENCODING) {
        headers.remove(CONTENT_LENGTH);
    }
    strip_connection_fields(headers);
}

/// Says which protocol follows a `101`.
pub fn add_upgrade(headers: &mut HeaderMap, protocol: HeaderValue) {
    headers.insert(UPGRADE, protocol);
    headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
}

/// Removes what a trailer section must not say: it arrives when sign-in is long over (RFC 9110
/// section 6.5.1), and some services merge it into the header fields.
pub fn judge_trailers(trailers: &mut HeaderMap) {
    strip(trailers, |name| {
        speaks_of_proxies(name)
            || AUTHORITATIVE.iter().any(|known| same(name, known))
            || AUTHORITATIVE_PREFIXES.iter().any(|prefix| begins(name, prefix))
    });
}

fn strip_connection_fields(headers: &mut HeaderMap) {
    let named: Vec<HeaderName> = words(headers, CONNECTION)
        .filter_map(|name| HeaderName::from_bytes(name.as_bytes()).ok())
        .collect();
    for name in named.iter().chain(CONNECTION_FIELDS) {
        headers.remove(name);
    }
    for name in ["http2-settings", "keep-alive", "proxy-connection"] {
        headers.remove(name);
    }
}

fn strip(headers: &mut HeaderMap, refused: impl Fn(&str) -> bool) {
    while let Some(name) = headers.keys().find(|name| refused(name.as_str())).cloned() {
        headers.remove(name);
    }
}

/// Reads the words of a list field.
pub fn words(headers: &HeaderMap, name: HeaderName) -> impl Iterator<Item = &str> {
    headers
        .get_all(name)
        .into_iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(str::trim)
        .filter(|word| !word.is_empty())
}

fn accepts_trailers(headers: &HeaderMap) -> bool {
    words(headers, TE)
        .filter_map(|coding| coding.split(';').next())
        .any(|coding| coding.trim().eq_ignore_ascii_case("trailers"))
}

/// HTTP/2 cuts cookies into several fields; other versions want one (RFC 9113 section 8.2.3).
fn join_cookies(headers: &mut HeaderMap) {
    let fields: Vec<_> = headers.get_all(COOKIE).iter().map(HeaderValue::as_bytes).collect();
    if fields.len() > 1
        && let Ok(joined) = HeaderValue::from_bytes(&fields.join(&b"; "[..]))
    {
        headers.insert(COOKIE, joined);
    }
}

fn forwarded_for(client: &Client) -> HeaderValue {
    let hops = client.hops.iter().chain([&client.peer]);
    let text = hops.map(ToString::to_string).collect::<Vec<_>>().join(", ");
    HeaderValue::try_from(text).expect("an address is visible ASCII")
}

/// Tells whether a field speaks of proxies, of the client's address or of another URL than the one
/// that was asked for.
fn speaks_of_proxies(name: &str) -> bool {
    begins(name, "x-forwarded-")
        || begins(name, "x-original-")
        || PROXY_FIELDS.iter().any(|known| same(name, known))
}

fn begins(name: &str, prefix: &str) -> bool {
    name.get(..prefix.len()).is_some_and(|head| same(head, prefix))
}

/// Servers in the manner of CGI read `_` and `-` as the same.
fn same(a: &str, b: &str) -> bool {
    let fold = |byte: u8| if byte == b'_' { b'-' } else { byte };
    a.len() == b.len() && a.bytes().map(fold).eq(b.bytes().map(fold))
}

const CONNECTION_FIELDS: &[HeaderName] =
    &[CONNECTION, PROXY_AUTHENTICATE, PROXY_AUTHORIZATION, TE, TRANSFER_ENCODING, UPGRADE];

const PROXY_FIELDS: &[&str] = &[
    "cf-connecting-ip",
    "fastly-client-ip",
    "forwarded",
    // CGI makes HTTP_PROXY of it, and some clients believe that.
    "proxy",
    "true-client-ip",
    "x-client-ip",
    "x-cluster-client-ip",
    "x-real-ip",
    "x-rewrite-url",
];

const AUTHORITATIVE: &[&str] = &[
    "authorization",
    "connection",
    "content-encoding",
    "content-length",
    "content-type",
    "cookie",
    "dpop",
    "expect",
    "host",
    "origin",
    "range",
    "referer",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

const AUTHORITATIVE_PREFIXES: &[&str] = &[
    "cf-access-",
    "oidc-",
    "proxy-",
    "remote-",
    "sec-",
    "x-access-",
    "x-amzn-oidc-",
    "x-auth",
    "x-client-cert",
    "x-goog-authenticated-",
    "x-id-token",
    "x-ms-client-principal",
    "x-pomerium-",
    "x-remote-",
    "x-user",
    "x-webauth-",
];

#[cfg(test)]
mod tests {
    use std::convert::Infallible;
    use std::pin::Pin;
    use std::task::{Context, Poll};

    use bytes::Bytes;
    use http_body::{Body, Frame};
    use tower_pkce_auth::testing::SignedIn;

    use super::*;
    use crate::body::Passed;
    use crate::client_address::TrustedProxies;

    fn headers(fields: &[(&str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            headers.append(name.parse::<HeaderName>().unwrap(), value.parse().unwrap());
        }
        headers
    }

    /// Who asked as `headers` have it, if it came through a proxy of ours.
    fn client(through_proxy: bool, headers: &HeaderMap) -> Client {
        let proxies = if through_proxy { vec!["192.0.2.0/24".parse().unwrap()] } else { vec![] };
        TrustedProxies::new(proxies).client("192.0.2.7:1".parse().unwrap(), headers)
    }

    fn sent(fields: &[(&str, &str)], through_proxy: bool) -> HeaderMap {
        let mut headers = headers(fields);
        let client = client(through_proxy, &headers);
        let public = PublicOrigin::new(&"https://a.example:8443/app".parse().unwrap());
        to_upstream(&mut headers, &public, &client, None, &Manner::Plain).unwrap();
        headers
    }

    #[test]
    fn fields_of_the_connection_do_not_pass() {
        let sent = sent(
            &[
                ("connection", "close, x-mine, X-Forwarded-For, te"),
                ("connection", "keep-alive"),
                ("x-mine", "1"),
                ("keep-alive", "timeout=5"),
                ("proxy-connection", "keep-alive"),
                ("proxy-authorization", "Basic eA=="),
                ("transfer-encoding", "chunked"),
                ("upgrade", "h2c"),
                ("http2-settings", "AAMAAABk"),
                ("expect", "100-continue"),
                ("accept", "*/*"),
            ],
            false,
        );
        let mut names: Vec<_> = sent.keys().map(HeaderName::as_str).collect();
        names.sort_unstable();
        assert_eq!(
            names,
            ["accept", "host", "x-forwarded-for", "x-forwarded-host", "x-forwarded-proto"]
        );
        assert_eq!(sent["x-forwarded-for"], "192.0.2.7");
        assert_eq!(sent["host"], "a.example:8443");
        assert_eq!(sent["x-forwarded-proto"], "https");
    }

    #[test]
    fn m02_what_the_gateway_says_cannot_be_named_away() {
        let identity = SignedIn::new("alice").identity();
        let names = "x-auth-request-user, host, x-forwarded-for, x-forwarded-proto, cookie";
        let mut headers = headers(&[("connection", names)]);
        let public = PublicOrigin::new(&"https://a.example".parse().unwrap());
        let client = client(false, &headers);
        to_upstream(&mut headers, &public, &client, Some(&identity), &Manner::Plain).unwrap();
        assert_eq!(headers["x-auth-request-user"], "alice");
        assert_eq!(headers["host"], "a.example");
        assert_eq!(headers["x-forwarded-for"], "192.0.2.7");
        assert_eq!(headers["x-forwarded-proto"], "https");
    }

    #[test]
    fn m06_what_clients_say_of_proxies_does_not_pass() {
        for name in [
            "forwarded",
            "x-forwarded-host",
            "x_forwarded_host",
            "x-forwarded_proto",
            "x-forwarded-for",
            "x-forwarded-prefix",
            "x-forwarded-port",
            "x-forwarded-server",
            "x-forwarded-anything",
            "x-real-ip",
            "x_real_ip",
            "x-original-url",
            "x-rewrite-url",
            "proxy",
        ] {
            for through_proxy in [false, true] {
                let sent = sent(&[(name, "evil.example")], through_proxy);
                let evil = sent.iter().find(|(_, value)| value.as_bytes() == b"evil.example");
                assert!(evil.is_none(), "{name} {evil:?}");
                assert_eq!(sent["x-forwarded-for"], "192.0.2.7", "{name}");
            }
        }
        let said = [("x-forwarded-for", "6.6.6.6, 1.2.3.4, 192.0.2.9")];
        assert_eq!(sent(&said, true)["x-forwarded-for"], "1.2.3.4, 192.0.2.9, 192.0.2.7");
        assert_eq!(sent(&said, false)["x-forwarded-for"], "192.0.2.7");
    }

    #[test]
    fn a_length_beside_chunks_does_not_pass() {
        let mut both = headers(&[("content-length", "3"), ("transfer-encoding", "chunked")]);
        to_client(&mut both);
        assert!(both.is_empty(), "{both:?}");
        let mut length = headers(&[("content-length", "3")]);
        to_client(&mut length);
        assert_eq!(length["content-length"], "3");
    }

    #[test]
    fn a_body_of_unknown_size_is_sent_in_chunks() {
        let framed = |body: Passed<Unsized>| {
            let mut headers = HeaderMap::new();
            frame(&mut headers, &body);
            headers.contains_key("transfer-encoding")
        };
        assert!(framed(Passed::on(Unsized)));
        assert!(!framed(Passed::own(Bytes::new())));
        assert!(!framed(Passed::own(Bytes::from("known"))));
    }

    /// A body that does not say how long it is.
    struct Unsized;

    impl Body for Unsized {
        type Data = Bytes;
        type Error = Infallible;

        fn poll_frame(
            self: Pin<&mut Self>,
            _: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
            Poll::Ready(None)
        }
    }

    #[test]
    fn trailers_are_asked_for_only_where_the_client_takes_them() {
        assert_eq!(sent(&[("te", "trailers")], false)["te"], "trailers");
        assert_eq!(sent(&[("te", "gzip, trailers;q=1")], false)["te"], "trailers");
        assert!(!sent(&[("te", "gzip")], false).contains_key("te"));
    }

    #[test]
    fn cookies_are_one_field() {
        assert_eq!(sent(&[("cookie", "a=1"), ("cookie", "b=2")], false)["cookie"], "a=1; b=2");
    }

    #[test]
    fn m20_trailers_say_nothing_of_identity() {
        let mut trailers = headers(&[
            ("x-forwarded-user", "evil"),
            ("x_auth_request_user", "evil"),
            ("authorization", "Bearer evil"),
            ("remote-user", "evil"),
            ("content-length", "5"),
            ("grpc-status", "0"),
            ("x-checksum", "abc"),
        ]);
        judge_trailers(&mut trailers);
        let mut names: Vec<_> = trailers.keys().map(HeaderName::as_str).collect();
        names.sort_unstable();
        assert_eq!(names, ["grpc-status", "x-checksum"]);
    }
}
