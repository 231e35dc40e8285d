//! Request headers that must not reach the inner service as a client sent them.

use http::header::{AUTHORIZATION, HeaderMap, HeaderName};

/// Names under which services behind proxies look for who is signed in.
const IDENTITY: &[&str] = &[
    "remote-user",
    "remote-email",
    "remote-groups",
    "remote-name",
    "x-access-token",
    "x-client-cert",
    "x-forwarded-access-token",
    "x-forwarded-email",
    "x-forwarded-groups",
    "x-forwarded-id-token",
    "x-forwarded-preferred-username",
    "x-forwarded-user",
    "x-id-token",
    "x-remote-email",
    "x-remote-groups",
    "x-remote-user",
    "x-user",
];

/// Every name that begins so is an identity header too.
const IDENTITY_PREFIXES: &[&str] = &[
    "cf-access-",
    "oidc-claim-",
    "x-amzn-oidc-",
    "x-auth-request-",
    "x-authentik-",
    "x-client-cert-",
    "x-goog-authenticated-user-",
    "x-ms-client-principal",
    "x-pomerium-",
    "x-user-",
    "x-webauth-",
];

/// Begins like an identity header and is none: browsers' gRPC-Web clients send it.
const NOT_IDENTITY: &str = "x-user-agent";

/// Removes what only this layer may say, in every spelling (`_` for `-` included).
///
/// Costs one pass over the names and allocates nothing.
pub(crate) fn strip_identity(headers: &mut HeaderMap, more: &[HeaderName]) {
    while let Some(name) = headers.keys().find(|name| is_identity(name.as_str(), more)) {
        let name = name.clone();
        headers.remove(name);
    }
}

/// Removes credentials a client sent beside its session cookie.
pub(crate) fn strip_authorization(headers: &mut HeaderMap) {
    headers.remove(AUTHORIZATION);
    headers.remove(DPOP);
}

/// A proof of possession (RFC 9449 section 4.1).
const DPOP: HeaderName = HeaderName::from_static("dpop");

fn is_identity(name: &str, more: &[HeaderName]) -> bool {
    // Header names are in lower case here; nearly all of them are settled by the first byte.
    if matches!(name.as_bytes().first(), Some(b'c' | b'o' | b'r' | b'x')) {
        let listed = IDENTITY.iter().any(|known| same_name(name, known))
            || IDENTITY_PREFIXES
                .iter()
                .any(|prefix| name.get(..prefix.len()).is_some_and(|head| same_name(head, prefix)));
        if listed && !same_name(name, NOT_IDENTITY) {
            return true;
        }
    }
    more.iter().any(|known| same_name(name, known.as_str()))
}

fn same_name(a: &str, b: &str) -> bool {
    let fold = |byte: u8| if byte == b'_' { b'-' } else { byte };
    a.len() == b.len() && a.bytes().map(fold).eq(b.bytes().map(fold))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn m01_identity_headers_are_removed_in_every_spelling() {
        let more = [HeaderName::from_static("x-tenant")];
        for name in [
            "X-Forwarded-User",
            "x_forwarded_user",
            "X-Forwarded_Email",
            "Remote-User",
            "REMOTE_USER",
            "X-Auth-Request-User",
            "x_auth_request_anything",
            "X-User-Id",
            "X-Client-Cert-Subject",
            "OIDC_CLAIM_sub",
            "CF-Access-Jwt-Assertion",
            "X-Pomerium-Claim-Email",
            "X-Tenant",
            "x_tenant",
        ] {
            let mut headers = HeaderMap::new();
            let name: HeaderName = name.parse().unwrap();
            headers.append(name.clone(), "evil".parse().unwrap());
            headers.append(name.clone(), "twice".parse().unwrap());
            headers.insert("accept", "x".parse().unwrap());
            strip_identity(&mut headers, &more);
            assert_eq!(headers.len(), 1, "{name}");
        }
    }

    #[test]
    fn other_headers_stay() {
        let mut headers = HeaderMap::new();
        for name in ["x-user-agent", "x-forwarded-for", "x-request-id", "range", "referer", "xé"] {
            if let Ok(name) = name.parse::<HeaderName>() {
                headers.insert(name, "v".parse().unwrap());
            }
        }
        let before = headers.len();
        strip_identity(&mut headers, &[]);
        assert_eq!(headers.len(), before);
    }
}
