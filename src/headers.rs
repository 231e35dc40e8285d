//! Request headers that must not reach the inner service as a client sent them.

use http::header::{AUTHORIZATION, HeaderMap, HeaderName, UPGRADE};

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

/// What a request has among its headers, seen in the one pass over their names.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Noticed {
    /// What [`strip_authorization`] removes.
    pub(crate) authorization: bool,
    pub(crate) upgrade: bool,
}

/// Removes what only this layer may say, in every spelling (`_` for `-` included).
///
/// Costs one pass over the names and allocates nothing.
pub(crate) fn strip_identity(headers: &mut HeaderMap, more: &[HeaderName]) -> Noticed {
    loop {
        let mut noticed = Noticed::default();
        let identity = headers.keys().find(|name| {
            let text = name.as_str();
            let first = text.as_bytes().first().map_or(0, |first| first & 31);
            if FIRST >> first & 1 == 0 && more.is_empty() {
                return false;
            }
            // Header names are in lower case here; nearly all of them are settled by two bytes.
            let listed = match text.as_bytes() {
                [b'c', b'f', ..]
                | [b'o', b'i', ..]
                | [b'r', b'e', ..]
                | [b'x', b'-' | b'_', ..] => is_identity(text),
                [b'a', b'u', ..] | [b'd', b'p', ..] | [b'u', b'p', ..] => {
                    noticed.authorization |= *name == AUTHORIZATION || *name == DPOP;
                    noticed.upgrade |= *name == UPGRADE;
                    false
                }
                _ => false,
            };
            listed || more.iter().any(|known| same_name(text, known.as_str()))
        });
        match identity.cloned() {
            Some(name) => drop(headers.remove(name)),
            None => return noticed,
        }
    }
}

/// A bit for each first letter of a name that asks for a closer look.
const FIRST: u32 = {
    let (letters, mut bits, mut n) = (b"acdorux", 0, 0);
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
