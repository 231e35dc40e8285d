//! The defence against requests that another site makes with this site's session cookie.
//!
//! Unsafe methods and upgrades must show that they come from this very origin. Browsers say so by
//! `Sec-Fetch-Site` or `Origin`; a request with neither is refused, unless it bears a header that
//! no other site can make a browser send. A sibling subdomain is another site here.

use http::Method;
use http::header::{HeaderMap, HeaderName, ORIGIN};

use crate::access::text;
use crate::error::{AuthError, ErrorKind};

/// Judges a request that came with a session cookie.
///
/// # Errors
///
/// `CrossSite`, with a detail that says what was missing.
pub(crate) fn judge(
    method: &Method,
    headers: &HeaderMap,
    upgrade: bool,
    origin: &str,
    custom: Option<&HeaderName>,
) -> Result<(), AuthError> {
    // TRACE is not among them: it is safe by its definition and of no use to a dashboard.
    if matches!(*method, Method::GET | Method::HEAD | Method::OPTIONS) && !upgrade {
        return Ok(());
    }
    let refused = |detail| AuthError::new(ErrorKind::CrossSite, detail);
    let mut sites = headers.get_all("sec-fetch-site").iter();
    match (sites.next(), sites.next()) {
        (Some(site), None) if matches!(site.as_bytes(), b"same-origin" | b"none") => return Ok(()),
        (Some(_), _) => return Err(refused("sec_fetch_site")),
        (None, _) => {}
    }
    let mut origins = headers.get_all(ORIGIN).iter();
    match (origins.next(), origins.next()) {
        // Byte for byte: browsers write origins in one way only.
        (Some(sent), None) if sent.as_bytes() == origin.as_bytes() => Ok(()),
        (Some(_), _) => Err(refused("origin")),
        (None, _) if !upgrade && custom.is_some_and(|name| headers.contains_key(name)) => Ok(()),
        (None, _) => Err(refused("no_origin")),
    }
}

/// Tells whether a request says that no other site caused it.
pub(crate) fn is_same_origin(headers: &HeaderMap) -> bool {
    text(headers, "sec-fetch-site").is_some_and(|site| matches!(site, "same-origin" | "none"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn o03_o04_o05_o06_o16_only_this_very_origin_may_act() {
        let custom = HeaderName::from_static("x-csrf");
        for (method, upgrade, headers, custom, ok) in [
            ("GET", false, &[][..], None, true),
            ("HEAD", false, &[("sec-fetch-site", "cross-site")], None, true),
            ("POST", false, &[], None, false),
            ("POST", false, &[("sec-fetch-site", "same-origin")], None, true),
            ("POST", false, &[("sec-fetch-site", "none")], None, true),
            ("POST", false, &[("sec-fetch-site", "same-site")], None, false),
            ("POST", false, &[("sec-fetch-site", "cross-site")], None, false),
            (
                "POST",
                false,
                &[("sec-fetch-site", "cross-site"), ("origin", "https://rp.example")],
                None,
                false,
            ),
            ("POST", false, &[("sec-fetch-site", "")], None, false),
            (
                "POST",
                false,
                &[("sec-fetch-site", "same-origin"), ("sec-fetch-site", "cross-site")],
                None,
                false,
            ),
            ("POST", false, &[("sec-fetch-site", "same-origin"), ("origin", "null")], None, true),
            ("POST", false, &[("origin", "https://rp.example")], None, true),
            ("POST", false, &[("origin", "https://rp.example/")], None, false),
            ("POST", false, &[("origin", "https://RP.example")], None, false),
            ("POST", false, &[("origin", "https://rp.example:443")], None, false),
            ("POST", false, &[("origin", "http://rp.example")], None, false),
            ("POST", false, &[("origin", "https://b.rp.example")], None, false),
            ("POST", false, &[("origin", "https://rp.example.evil")], None, false),
            ("POST", false, &[("origin", "null")], None, false),
            ("POST", false, &[("origin", "https://rp.example, https://evil")], None, false),
            (
                "POST",
                false,
                &[("origin", "https://rp.example"), ("origin", "https://evil")],
                None,
                false,
            ),
            ("DELETE", false, &[], None, false),
            ("TRACE", false, &[], None, false),
            ("BREW", false, &[], None, false),
            ("POST", false, &[("x-csrf", "1")], None, false),
            ("POST", false, &[("x-csrf", "1")], Some(&custom), true),
            ("POST", false, &[("x-csrf", "1"), ("origin", "https://evil")], Some(&custom), false),
            (
                "POST",
                false,
                &[("x-csrf", "1"), ("sec-fetch-site", "cross-site")],
                Some(&custom),
                false,
            ),
            ("GET", true, &[], None, false),
            ("GET", true, &[("x-csrf", "1")], Some(&custom), false),
            ("GET", true, &[("origin", "https://rp.example")], None, true),
            ("GET", true, &[("origin", "https://evil")], None, false),
            ("GET", true, &[("sec-fetch-site", "same-origin")], None, true),
        ] {
            let mut map = HeaderMap::new();
            for (name, value) in headers {
                map.append(*name, value.parse().unwrap());
            }
            let method: Method = method.parse().unwrap();
            let result = judge(&method, &map, upgrade, "https://rp.example", custom);
            assert_eq!(result.is_ok(), ok, "{method} {upgrade} {headers:?}");
        }
    }
}
