//! Return targets: where a visitor goes after the sign-in, which is never another origin.
//!
//! A target is judged as a browser will read it (WHATWG URL), not as it looks: a value that needs
//! any repair by the browser's parser is refused rather than repaired.

use url::Url;

/// A path with query on our own origin, safe to be sent in `Location`.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct ReturnTo(String);

/// Longer targets are treated as absent, so that `state` and the authorization URL stay small.
pub(crate) const MAX_LENGTH: usize = 512;

impl ReturnTo {
    /// Reads a target, which must stay on `origin` and out of `prefix`, our own endpoints.
    pub(crate) fn parse(target: &str, origin: &str, prefix: &str) -> Option<Self> {
        let bytes = target.as_bytes();
        if bytes.len() > MAX_LENGTH || bytes.first() != Some(&b'/') {
            return None;
        }
        // One slash, then anything but a second one: `//host` and `/\host` name another host.
        if matches!(bytes.get(1), Some(b'/' | b'\\')) {
            return None;
        }
        // Controls and spaces vanish in browsers' parsers, a backslash becomes a slash, and
        // everything above ASCII may be mapped: none of them is in a target a browser asked for.
        if bytes.iter().any(|&b| b <= b' ' || b == b'\\' || b >= 0x7f) {
            return None;
        }
        let base = Url::parse(origin).ok()?;
        let url = base.join(target).ok()?;
        let same_origin =
            url.origin() == base.origin() && url.username().is_empty() && url.password().is_none();
        // `/.//host` normalises to a path that begins with two slashes; whoever resolves it once
        // more leaves the origin.
        if !same_origin || url.path().starts_with("//") {
            return None;
        }
        // A proxy that decodes `Location` once must not make another host of it.
        if !stays_when_decoded(url.path(), &base) {
            return None;
        }
        let own = url
            .path()
            .strip_prefix(prefix)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
        (!own).then(|| Self(target.to_owned()))
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

/// Tells whether a path still leads to the origin after its escapes were decoded once.
fn stays_when_decoded(path: &str, base: &Url) -> bool {
    // Only what stands before the second segment can name a host.
    let decoded: Vec<u8> = percent_decode(path.as_bytes()).collect();
    let decoded = String::from_utf8_lossy(&decoded);
    let bytes = decoded.as_bytes();
    // Controls vanish in browsers' parsers and a backslash is a slash to them.
    let mut read = bytes.iter().filter(|&&b| !matches!(b, b'\t' | b'\n' | b'\r'));
    let slash = |b: Option<&u8>| matches!(b, Some(b'/' | b'\\'));
    if slash(read.next()) && slash(read.next()) {
        return false;
    }
    match base.join(&decoded) {
        Ok(url) => url.origin() == base.origin() && !url.path().starts_with("//"),
        Err(_) => false,
    }
}

fn percent_decode(bytes: &[u8]) -> impl Iterator<Item = u8> + '_ {
    let mut rest = bytes.iter().copied();
    std::iter::from_fn(move || {
        let byte = rest.next()?;
        if byte != b'%' {
            return Some(byte);
        }
        let mut ahead = rest.clone();
        let mut digit = || char::from(ahead.next()?).to_digit(16);
        match digit().zip(digit()).and_then(|(a, b)| u8::try_from(a * 16 + b).ok()) {
            Some(decoded) => {
                rest = ahead;
                Some(decoded)
            }
            None => Some(byte),
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const ORIGIN: &str = "https://rp.example";

    fn parse(target: &str) -> Option<ReturnTo> {
        ReturnTo::parse(target, ORIGIN, "/auth")
    }

    #[test]
    fn l06_legitimate_targets_survive_byte_for_byte() {
        for target in [
            "/",
            "/a",
            "/a%2Fb?x=%26&y=1",
            "/a//b",
            "/a?next=//b",
            "/a?u=https://evil.example/",
            "/authors",
            "/%E5%90%8D?q=a+b",
            "/a;b=c",
            "/a?x=<y>'\"",
            "/a#top",
            "/a/../b",
            "/@evil.example",
            "/:80",
            "/a?x=%0d%0a",
        ] {
            assert_eq!(parse(target).expect(target).as_str(), target);
        }
    }

    #[test]
    fn l01_l02_no_target_leaves_the_origin() {
        let mut corpus: Vec<String> = [
            "",
            "a",
            "evil.example",
            "//",
            "//evil.example",
            "///evil.example",
            "////evil.example",
            "/\\evil.example",
            "\\\\evil.example",
            "\\/evil.example",
            "/\t/evil.example",
            "/\n/evil.example",
            "/\r/evil.example",
            "\t//evil.example",
            " //evil.example",
            "/ /evil.example",
            "/\u{b}/evil.example",
            "/\u{c}/evil.example",
            "/\0/evil.example",
            "https://evil.example",
            "https:evil.example",
            "https:/evil.example",
            "http://evil",
            "https:///evil.example",
            "HTTPS://evil.example",
            "javascript:alert(1)",
            "javascript://rp.example/%0aalert(1)",
            "data:text/html,x",
            "vbscript:x",
            "file:///etc",
            "blob:https://rp.example/x",
            "about:blank",
            "mailto:a@b",
            "ftp://evil.example/",
            "https://rp.example",
            "https://rp.example/",
            "https://rp.example@evil.example/",
            "https://rp.example.evil.example/",
            "https://rp.exampleevil/",
            "//rp.example/x",
            "//rp.example@evil.example",
            "@evil.example",
            ".evil.example",
            "./a",
            "../a",
            "?a=b",
            "#a",
            ":80/",
            "/.//evil.example",
            "/..//evil.example",
            "/a/..//evil.example",
            "/././/evil.example",
            "/%2e//evil.example",
            "/%2E//evil.example",
            "/%2e%2e//evil.example",
            "/a/%2e%2e//evil.example",
            "/.%2e//evil.example",
            "/a/../..//evil.example",
            "/x\\..\\..\\evil",
            "/é",
            "/名前",
            "/\u{2028}/x",
            "/\u{feff}",
            "/\u{ff0f}evil.example",
            "\u{ff0f}\u{ff0f}evil.example",
            "/\u{3002}",
            "/\u{200b}/evil",
            "/\u{7f}/x",
            "/\u{85}x",
            "/\u{a0}x",
            "/auth",
            "/auth/",
            "/auth/login",
            "/auth/callback?code=x",
            "/auth/logout",
            "/x/../auth/login",
            "/./auth/login",
            "/%2fevil.example",
            "/%2F%2fevil.example",
            "/%2f/evil.example",
            "/%5cevil.example",
            "/%09/evil.example",
            "/%0a/evil.example",
            "/%0d%0a/evil.example",
            "/%2e%2f/evil.example",
            "/%2fevil.example/%ff",
            "/%2e%2f/evil%ff",
            "/%5cevil%80",
            "/auth?x",
            "/auth#x",
            "/%2e/auth/login",
            "/auth/login?return_to=/x",
        ]
        .map(String::from)
        .to_vec();
        corpus.push(format!("/{}", "a".repeat(MAX_LENGTH)));
        for b in (0..=0x20).chain([0x7f]) {
            corpus.push(format!("/{}evil.example", char::from(b)));
            corpus.push(format!("{}/evil.example", char::from(b)));
            corpus.push(format!("/a{}", char::from(b)));
        }
        assert!(corpus.len() > 150);
        for target in &corpus {
            assert_eq!(parse(target), None, "{target:?}");
        }
    }

    proptest::proptest! {
        /// Whatever is accepted, a browser at our origin resolves it to our origin, twice over.
        #[test]
        fn l01_accepted_targets_resolve_to_our_origin(target in "[/\\\\.%a-z2e5c@:?#\t ]{0,12}") {
            if let Some(target) = parse(&target) {
                let base = Url::parse(ORIGIN).unwrap();
                let once = base.join(target.as_str()).unwrap();
                let path_and_query = &once.as_str()[ORIGIN.len()..];
                let twice = base.join(path_and_query).unwrap();
                proptest::prop_assert_eq!(once.origin(), base.origin());
                proptest::prop_assert_eq!(twice.origin(), base.origin());
            }
        }
    }
}
