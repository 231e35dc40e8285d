//! Request headers that must not reach the inner service as a client sent them.

use http::header::{AUTHORIZATION, HeaderMap, HeaderName, UPGRADE};

/// Names under which services behind proxies look for who is signed in.
const IDENTITY: &[&str] = &[
    "ssl-client-cert",
    "x-access-token",
    "x-auth-email",
    "x-auth-groups",
    "x-auth-name",
    "x-auth-roles",
    "x-auth-user",
    "x-auth-username",
    "x-client-cert",
    "x-email",
    "x-forwarded-access-token",
    "x-forwarded-email",
    "x-forwarded-groups",
    "x-forwarded-id-token",
    "x-forwarded-preferred-username",
    "x-forwarded-user",
    "x-groups",
    "x-id-token",
    "x-proxy-groups",
    "x-proxy-roles",
    "x-proxy-user",
    "x-roles",
    "x-user",
    "x-username",
];

/// Every name that begins so is an identity header too.
const IDENTITY_PREFIXES: &[&str] = &[
    "cf-access-",
    "impersonate-",
    "oidc-",
    "remote-",
    "ssl-client-",
    "tailscale-user-",
    "x-amzn-oidc-",
    "x-auth-request-",
    "x-authenticated-",
    "x-authentik-",
    "x-client-cert-",
    "x-consumer-",
    "x-goog-authenticated-user-",
    "x-ms-client-principal",
    "x-pomerium-",
    "x-remote-",
    "x-ssl-client-",
    "x-token-user-",
    "x-user-",
    "x-vouch-",
    "x-webauth-",
];

/// Begins like an identity header and is none: browsers' gRPC-Web clients send it.
const NOT_IDENTITY: &str = "x-user-agent";

/// What a request has among its headers, seen in the one pass over their names.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Noticed {
    /// What [`strip_authorization`] removes.
    pub(crate) authorization: bool,
    pub(crate) upgrade: bool,
}

/// Removes what only this layer may say, in every spelling: servers read `_` and more for `-`.
///
/// Costs one pass over the names and allocates only where there is something to remove.
pub(crate) fn strip_identity(headers: &mut HeaderMap, more: &[HeaderName]) -> Noticed {
    let mut noticed = Noticed::default();
    if headers.keys().any(|name| look(name, more, &mut noticed)) {
        // Nobody honest sends any, and who sends a thousand waits for two passes, not for a thousand.
        let found = headers.keys().filter(|name| look(name, more, &mut noticed));
        let found: Vec<HeaderName> = found.cloned().collect();
        for name in found {
            headers.remove(name);
        }
    }
    noticed
}

/// Tells whether a name says who somebody is, and notes what else it says.
fn look(name: &HeaderName, more: &[HeaderName], noticed: &mut Noticed) -> bool {
    let text = name.as_str();
    let first = text.as_bytes().first().map_or(0, |first| first & 31);
    if FIRST >> first & 1 == 0 && more.is_empty() {
        return false;
    }
    // Header names are in lower case here; nearly all of them are settled by two bytes.
    let listed = match text.as_bytes() {
        [b'c', b'f', ..]
        | [b'i', b'm', ..]
        | [b'o', b'i', ..]
        | [b'r', b'e', ..]
        | [b's', b's', ..]
        | [b't', b'a', ..] => is_identity(text),
        [b'x', second, ..] if !second.is_ascii_alphanumeric() => is_identity(text),
        [b'a', b'u', ..] | [b'd', b'p', ..] | [b'u', b'p', ..] => {
            noticed.authorization |= *name == AUTHORIZATION || *name == DPOP;
            noticed.upgrade |= *name == UPGRADE;
            false
        }
        _ => false,
    };
    listed || more.iter().any(|known| same_name(text, known.as_str()))
}

/// A bit for each first letter of a name that asks for a closer look.
const FIRST: u32 = {
    let (letters, mut bits, mut n) = (b"acdiorstux", 0, 0);
    while n < letters.len() {
        bits |= 1 << (letters[n] & 31);
        n += 1;
    }
    bits
};

/// Removes credentials a client sent beside its session cookie.
pub(crate) fn strip_authorization(headers: &mut HeaderMap) {
    headers.remove(AUTHORIZATION);
    headers.remove(DPOP);
}

/// A proof of possession (RFC 9449 section 4.1).
const DPOP: HeaderName = HeaderName::from_static("dpop");

fn is_identity(name: &str) -> bool {
    let listed = IDENTITY.iter().any(|known| same_name(name, known))
        || IDENTITY_PREFIXES
            .iter()
            .any(|prefix| name.get(..prefix.len()).is_some_and(|head| same_name(head, prefix)));
    listed && !same_name(name, NOT_IDENTITY)
}

/// Compares names as servers do that make variables of them: whatever is neither letter nor digit is
/// one and the same.
fn same_name(a: &str, b: &str) -> bool {
    let fold = |byte: u8| if byte.is_ascii_alphanumeric() { byte } else { b'-' };
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
            "X.Tenant",
            "X.Auth.Request.User",
            "x~forwarded!user",
            "Remote-Addr",
            "X-Remote-Group",
            "x-remote-extra-scopes",
            "Impersonate-User",
            "SSL-Client-S-DN",
            "X-SSL-Client-Verify",
            "Tailscale-User-Login",
            "X-Consumer-Username",
            "oidc_access_token",
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
    fn every_listed_name_is_removed() {
        for known in IDENTITY.iter().chain(IDENTITY_PREFIXES) {
            for name in [(*known).to_owned(), known.replace('-', "_")] {
                let mut headers = HeaderMap::new();
                headers.insert(name.parse::<HeaderName>().unwrap(), "v".parse().unwrap());
                strip_identity(&mut headers, &[]);
                assert!(headers.is_empty(), "{name}");
            }
        }
    }

    #[test]
    fn credentials_and_upgrades_are_noticed_beside_what_is_removed() {
        for (names, authorization, upgrade) in [
            (&["accept", "x-user"][..], false, false),
            (&["Authorization", "x-user", "remote-user"], true, false),
            (&["x-user", "DPoP"], true, false),
            (&["upgrade-insecure-requests", "dpo", "authorization-x"], false, false),
            (&["Upgrade"], false, true),
        ] {
            let mut headers = HeaderMap::new();
            for name in names {
                headers.insert(name.parse::<HeaderName>().unwrap(), "v".parse().unwrap());
            }
            let noticed = strip_identity(&mut headers, &[]);
            assert_eq!((noticed.authorization, noticed.upgrade), (authorization, upgrade));
        }
    }

    #[test]
    fn other_headers_stay() {
        let mut headers = HeaderMap::new();
        for name in [
            "x-user-agent",
            "x-auth-token",
            "sec-fetch-site",
            "if-none-match",
            "te",
            "x-forwarded-for",
            "x-request-id",
            "range",
            "referer",
            "xé",
        ] {
            if let Ok(name) = name.parse::<HeaderName>() {
                headers.insert(name, "v".parse().unwrap());
            }
        }
        let before = headers.len();
        strip_identity(&mut headers, &[]);
        assert_eq!(headers.len(), before);
    }
}
