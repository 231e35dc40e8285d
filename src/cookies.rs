//! Cookies: the only file that names them, reads them and builds `Set-Cookie`.
//!
//! | cookie | holds | attributes |
//! |---|---|---|
//! | `<name>-s`, `-s1` … `-s4` | the session, sealed, or the key to it in a store | `Path=/; HttpOnly; SameSite=Lax` |
//! | `<name>-p-<id>` | one pending login, sealed | the same, `SameSite=None` with form_post |
//! | `<name>-n` | that a login was just completed | the same |
//! | `<name>-o` | the ID token for the provider's logout, sealed | the same, `Path=<prefix>/logout` |
//!
//! `<name>` is `auth_` and six hex digits of the instance, because browsers share the cookies of
//! one host across ports. On https `__Host-` stands before it (`__Secure-` where the path is not
//! `/`) and every cookie is `Secure`.

use std::time::Duration;

use bytes::Bytes;
use cookie::{Cookie, SameSite};
use http::header::{COOKIE, HeaderMap, HeaderValue, InvalidHeaderValue};
use memchr::memmem::Finder;

/// The session cookie and its continuation chunks.
pub(crate) const MAX_CHUNKS: usize = 5;
/// Hex digits in the name of a pending login's cookie.
pub(crate) const PENDING_ID: usize = 16;

const HOST: &str = "__Host-";
const SECURE: &str = "__Secure-";

/// What browsers know as the beginning of a name; no other begins with one of them.
const PREFIXES: &[&[u8]] = &[b"__Host-Http-", b"__Host-", b"__Http-", b"__Secure-"];

/// What one of our cookies is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Own<'a> {
    /// The ID token kept for the logout at the provider.
    LogoutHint,
    /// The note that a login was just completed.
    Notice,
    /// A pending login with this id.
    Pending(&'a str),
    /// A chunk of the session.
    Session(usize),
}

/// Where the only cookie of ours in a request lies, in its only `Cookie` field.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Only {
    start: usize,
    end: usize,
}

/// The names and attributes of one instance's cookies.
#[derive(Clone, Debug)]
pub(crate) struct Cookies {
    /// `auth_` and six hex digits.
    base: String,
    /// Looks for the base, which the cookies of others do not hold: cheaper than to take every
    /// pair apart.
    finder: Finder<'static>,
    /// What stands before a host-wide cookie: `__Host-`, or nothing without TLS.
    prefix: &'static str,
    secure: bool,
    /// Whether the provider answers by a cross-site POST, to which Lax cookies are not attached.
    form_post: bool,
    hint_path: String,
}

impl Cookies {
    pub(crate) fn new(instance: &[u8; 32], secure: bool, form_post: bool, logout: &str) -> Self {
        let [a, b, c, ..] = instance;
        let base = format!("auth_{a:02x}{b:02x}{c:02x}");
        Self {
            finder: Finder::new(&base).into_owned(),
            base,
            prefix: if secure { HOST } else { "" },
            secure,
            form_post,
            hint_path: logout.to_owned(),
        }
    }

    /// Returns the full name of a cookie; it is also what the seal is bound to.
    pub(crate) fn name(&self, own: Own<'_>) -> String {
        let base = &self.base;
        match own {
            Own::LogoutHint => {
                let prefix = if self.secure { SECURE } else { "" };
                format!("{prefix}{base}-o")
            }
            Own::Notice => format!("{}{base}-n", self.prefix),
            Own::Pending(id) => format!("{}{base}-p-{id}", self.prefix),
            Own::Session(0) => format!("{}{base}-s", self.prefix),
            Own::Session(chunk) => format!("{}{base}-s{chunk}", self.prefix),
        }
    }

    /// Returns our cookies of a request in the order they came, over all `Cookie` fields
    /// (RFC 9113 section 8.2.3 lets HTTP/2 split them).
    pub(crate) fn read<'a>(
        &'a self,
        headers: &'a HeaderMap,
    ) -> impl Iterator<Item = (Own<'a>, &'a [u8])> {
        headers.get_all(COOKIE).iter().flat_map(|field| {
            let field = field.as_bytes();
            self.hits(field).filter_map(|hit| self.pair(field, &hit))
        })
    }

    /// Reads our session cookies of a request as [`Cookies::read`] does: the chunks and their
    /// values. Returns where the only one is, so that [`Cookies::strip`] need not look for it.
    pub(crate) fn read_session<'a>(
        &self,
        headers: &'a HeaderMap,
        mut take: impl FnMut(usize, &'a [u8]),
    ) -> Option<Only> {
        let (mut only, mut hits) = (None, 0);
        for field in headers.get_all(COOKIE) {
            let field = field.as_bytes();
            let mut from = 0;
            while let Some(hit) = self.hit(field, from) {
                from = hit.end;
                hits += 1;
                if let Some((Own::Session(chunk), value)) = self.pair(field, &hit) {
                    take(chunk, value);
                    only = Some(Only { start: hit.start, end: hit.end });
                }
            }
        }
        only.filter(|_| hits == 1 && is_unrepeated(headers))
    }

    /// Takes a pair apart, if its name is exactly one of ours.
    fn pair<'a>(&self, field: &'a [u8], hit: &Hit) -> Option<(Own<'a>, &'a [u8])> {
        let rest = &field[hit.base + self.base.len()..hit.end];
        // Nothing before the base is an equals sign: names are short, values are not.
        let equals = rest.iter().position(|b| *b == b'=')?;
        let own = self.own(&field[hit.start..hit.base], &rest[..equals])?;
        Some((own, &rest[equals + 1..]))
    }

    /// Finds the pairs of a `Cookie` field whose names are ours or pretend to be.
    fn hits<'a>(&'a self, field: &'a [u8]) -> impl Iterator<Item = Hit> + Clone {
        let mut from = 0;
        std::iter::from_fn(move || {
            let hit = self.hit(field, from)?;
            from = hit.end;
            Some(hit)
        })
    }

    /// Finds the first such pair from the end of another on.
    fn hit(&self, field: &[u8], mut from: usize) -> Option<Hit> {
        while from < field.len() {
            let base = from + self.finder.find(&field[from..])?;
            let rest = base + self.base.len();
            let end = memchr::memchr(b';', &field[rest..]).map_or(field.len(), |n| rest + n);
            if let Some(start) = self.name_start(&field[from..base])
                && field.get(rest) == Some(&b'-')
            {
                let end = base + field[base..end].trim_ascii_end().len();
                return Some(Hit { start: from + start, base, end });
            }
            from = end;
        }
        None
    }

    /// Tells where a name begins whose base follows `head`, if nothing but a prefix stands before
    /// the base.
    fn name_start(&self, head: &[u8]) -> Option<usize> {
        // Names hold no semicolon.
        let begins = |name: &usize| match &head[..*name] {
            [] | [.., b';'] | [.., b';', b' '] => true,
            [.., b' ' | b'\t'] => {
                matches!(head[..*name].trim_ascii_end().last(), None | Some(b';'))
            }
            _ => false,
        };
        if head.ends_with(self.prefix.as_bytes()) {
            let name = head.len() - self.prefix.len();
            if begins(&name) {
                return Some(name);
            }
        }
        std::iter::once(head.len())
            .chain(PREFIXES.iter().filter_map(|prefix| {
                let name = head.len().checked_sub(prefix.len())?;
                head[name..].eq_ignore_ascii_case(prefix).then_some(name)
            }))
            .find(begins)
    }

    /// Tells which of our cookies a name is, exactly as we write it: what stands before the base,
    /// and after it.
    fn own<'a>(&self, prefix: &[u8], rest: &'a [u8]) -> Option<Own<'a>> {
        if prefix != self.prefix.as_bytes() {
            // The one cookie with another prefix.
            let hint = self.secure && prefix == SECURE.as_bytes() && rest == b"-o";
            return hint.then_some(Own::LogoutHint);
        }
        match rest {
            b"-n" => Some(Own::Notice),
            b"-o" if !self.secure => Some(Own::LogoutHint),
            b"-s" => Some(Own::Session(0)),
            [b'-', b's', digit @ b'1'..=b'4'] => Some(Own::Session(usize::from(digit - b'0'))),
            [b'-', b'p', b'-', id @ ..] if id.len() == PENDING_ID => {
                let id = std::str::from_utf8(id).ok()?;
                id.bytes().all(|b| b.is_ascii_hexdigit()).then_some(Own::Pending(id))
            }
            _ => None,
        }
    }

    /// Tells whether a pair or a name is ours or pretends to be, with whatever prefix.
    fn resembles_ours(&self, name: &[u8]) -> bool {
        let bare = PREFIXES
            .iter()
            .find_map(|prefix| {
                let (head, rest) = name.split_at_checked(prefix.len())?;
                head.eq_ignore_ascii_case(prefix).then_some(rest)
            })
            .unwrap_or(name);
        bare.strip_prefix(self.base.as_bytes()).is_some_and(|rest| rest.first() == Some(&b'-'))
    }

    /// Removes our cookies from a request; the others stay as they came, byte for byte. `only`
    /// tells where the only one was when the same headers were read.
    ///
    /// Allocates only where other cookies share a field with ours.
    pub(crate) fn strip(&self, headers: &mut HeaderMap, only: Option<Only>) {
        if is_unrepeated(headers) || headers.get_all(COOKIE).iter().nth(1).is_none() {
            let Some(field) = headers.get_mut(COOKIE) else { return };
            match self.without_ours(field, only) {
                None => {}
                Some(Some(kept)) => *field = kept,
                Some(None) => drop(headers.remove(COOKIE)),
            }
            return;
        }
        let fields = || headers.get_all(COOKIE).iter();
        if fields().all(|field| self.hit(field.as_bytes(), 0).is_none()) {
            return;
        }
        let kept: Vec<HeaderValue> = fields()
            .filter_map(|field| {
                self.without_ours(field, None).unwrap_or_else(|| Some(field.clone()))
            })
            .collect();
        headers.remove(COOKIE);
        for value in kept {
            headers.append(COOKIE, value);
        }
    }

    /// Returns a field without our cookies, or that nothing is left of it; `None` if it holds none
    /// of ours.
    #[allow(clippy::option_option, reason = "nothing to do, and nothing left, are two things")]
    fn without_ours(&self, field: &HeaderValue, only: Option<Only>) -> Option<Option<HeaderValue>> {
        let bytes = field.as_bytes();
        // A place that is out of date is not believed.
        let only = only.filter(|only| self.is_session(bytes, *only));
        let mut hit = match only {
            Some(only) => only,
            None => self.hit(bytes, 0)?.into(),
        };
        // What is left comes in one piece as a rule, or in two; ours stand together.
        let mut pieces: [&[u8]; 2] = [&[]; 2];
        let (mut count, mut from) = (0, 0);
        loop {
            count += usize::from(keep(&mut pieces, count, &bytes[from..hit.start]));
            from = hit.end;
            match if only.is_none() { self.hit(bytes, from) } else { None } {
                Some(next) => hit = next.into(),
                None => break,
            }
        }
        count += usize::from(keep(&mut pieces, count, &bytes[from..]));
        let kept = match count {
            0 => return Some(None),
            1 => HeaderValue::from_bytes(pieces[0]),
            2 => joined(pieces.into_iter()),
            _ => joined(self.others(bytes)),
        };
        let mut kept = kept.ok();
        if let Some(value) = &mut kept {
            value.set_sensitive(field.is_sensitive());
        }
        Some(kept)
    }

    /// Tells whether a session cookie lies at a place in a field, and ends there.
    fn is_session(&self, field: &[u8], place: Only) -> bool {
        let rest = field
            .get(place.start..place.end)
            .and_then(|pair| pair.strip_prefix(self.prefix.as_bytes()))
            .and_then(|pair| pair.strip_prefix(self.base.as_bytes()));
        rest.is_some_and(|rest| rest.starts_with(b"-s"))
            && matches!(field.get(place.end), None | Some(b';' | b' ' | b'\t'))
    }

    /// Returns what stands between our cookies in a field, in pieces of one pair or more.
    fn others<'a>(&'a self, field: &'a [u8]) -> impl Iterator<Item = &'a [u8]> + Clone {
        let mut hits = self.hits(field);
        let mut from = Some(0);
        let pieces = std::iter::from_fn(move || {
            let start = from?;
            let hit = hits.next();
            let end = hit.as_ref().map_or(field.len(), |hit| hit.start);
            from = hit.map(|hit| hit.end);
            Some(trim_separators(&field[start..end]))
        });
        pieces.filter(|piece| !piece.is_empty())
    }

    /// Tells whether a `Set-Cookie` of the inner service bears one of our names.
    pub(crate) fn is_forged(&self, set_cookie: &HeaderValue) -> bool {
        let pair = set_cookie.as_bytes().split(|b| *b == b';').next().unwrap_or_default();
        let pair = pair.trim_ascii();
        // Browsers send a cookie without a name as its value alone, which may look like a pair.
        match split_pair(pair) {
            Some((b"", value)) => self.resembles_ours(value.trim_ascii()),
            Some((name, _)) => self.resembles_ours(name.trim_ascii()),
            None => self.resembles_ours(pair),
        }
    }

    /// Builds the `Set-Cookie` that sets a cookie for `max_age`.
    pub(crate) fn set(&self, own: Own<'_>, value: &str, max_age: Duration) -> HeaderValue {
        self.build(own, value, max_age)
    }

    /// Builds the `Set-Cookie` that removes a cookie, with the attributes it was set with.
    pub(crate) fn remove(&self, own: Own<'_>) -> HeaderValue {
        self.build(own, "", Duration::ZERO)
    }

    fn build(&self, own: Own<'_>, value: &str, max_age: Duration) -> HeaderValue {
        let cross_site = self.form_post && matches!(own, Own::Pending(_));
        let path = match own {
            Own::LogoutHint => self.hint_path.as_str(),
            _ => "/",
        };
        let seconds = i64::try_from(max_age.as_secs()).unwrap_or(i64::MAX);
        let cookie = Cookie::build((self.name(own), value))
            .path(path)
            .http_only(true)
            .secure(self.secure || cross_site)
            .same_site(if cross_site { SameSite::None } else { SameSite::Lax })
            .max_age(cookie::time::Duration::seconds(seconds))
            .build();
        let mut value = HeaderValue::from_str(&cookie.to_string())
            .expect("names and base64url values are header text");
        value.set_sensitive(true);
        value
    }
}

/// A pair of a `Cookie` field whose name is ours or pretends to be, without the white space around
/// it.
struct Hit {
    start: usize,
    /// Where the base of its name is.
    base: usize,
    end: usize,
}

impl From<Hit> for Only {
    fn from(hit: Hit) -> Self {
        Self { start: hit.start, end: hit.end }
    }
}

/// Tells whether no field comes twice, which costs less than to look one up.
fn is_unrepeated(headers: &HeaderMap) -> bool {
    headers.keys_len() == headers.len()
}

/// Notes a piece of a field, if anything is in it and there is room; says whether anything is.
fn keep<'a>(pieces: &mut [&'a [u8]], count: usize, piece: &'a [u8]) -> bool {
    let piece = trim_separators(piece);
    if let Some(slot) = pieces.get_mut(count) {
        *slot = piece;
    }
    !piece.is_empty()
}

/// Joins pieces of a field to a field.
fn joined<'a>(
    pieces: impl Iterator<Item = &'a [u8]> + Clone,
) -> Result<HeaderValue, InvalidHeaderValue> {
    // The exact size, so that the bytes become the value as they are.
    let size = pieces.clone().map(|piece| piece.len() + 2).sum::<usize>().saturating_sub(2);
    let mut field = Vec::with_capacity(size);
    for piece in pieces {
        if !field.is_empty() {
            field.extend_from_slice(b"; ");
        }
        field.extend_from_slice(piece);
    }
    HeaderValue::from_maybe_shared(Bytes::from(field))
}

/// Removes semicolons and white space from both ends.
fn trim_separators(mut piece: &[u8]) -> &[u8] {
    let separates = |b: &u8| *b == b';' || b.is_ascii_whitespace();
    while let [first, rest @ ..] = piece
        && separates(first)
    {
        piece = rest;
    }
    while let [rest @ .., last] = piece
        && separates(last)
    {
        piece = rest;
    }
    piece
}

fn split_pair(pair: &[u8]) -> Option<(&[u8], &[u8])> {
    let at = memchr::memchr(b'=', pair)?;
    Some((&pair[..at], &pair[at + 1..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cookies(secure: bool) -> Cookies {
        Cookies::new(&[0xab; 32], secure, false, "/auth/logout")
    }

    fn headers(fields: &[&[u8]]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for field in fields {
            headers.append(COOKIE, HeaderValue::from_bytes(field).unwrap());
        }
        headers
    }

    #[test]
    fn h11_h12_h13_names_are_read_exactly_over_all_fields() {
        let cookies = cookies(true);
        let headers = headers(&[
            b"a=b; __Host-auth_ababab-s=one",
            b"__host-auth_ababab-s=no; x__Host-auth_ababab-s=no;__Host-auth_ababab-s1=two ;c",
            b"auth_ababab-s=no; __Host-auth_ababab-s9=no; __Host-auth_ababab-s12=no",
            b"__Host-auth_ababab-p-0123456789abcdef=p; __Host-auth_ababab-p-0123=no",
            b"__Secure-auth_ababab-o=hint; __Host-auth_ababab-o=no; =; ;;; =x",
        ]);
        let read: Vec<_> = cookies.read(&headers).collect();
        assert_eq!(
            read,
            [
                (Own::Session(0), &b"one"[..]),
                (Own::Session(1), b"two"),
                (Own::Pending("0123456789abcdef"), b"p"),
                (Own::LogoutHint, b"hint"),
            ]
        );
    }

    #[test]
    fn a_cookie_whose_place_is_known_is_stripped_like_any_other() {
        let cookies = cookies(true);
        let requests: [&[&[u8]]; 6] = [
            &[b"__Host-auth_ababab-s=x"],
            &[b"a=b; __Host-auth_ababab-s=x"],
            &[b"a=b; __Host-auth_ababab-s=x ; c=d"],
            &[b"__Host-auth_ababab-s=xyz; auth_ababab-s=y"],
            &[b"a=b; __Host-auth_ababab-s=x; __Host-auth_ababab-s1=y; c=d"],
            &[b"a=b; __Host-auth_ababab-s=x", b"c=d"],
        ];
        for (index, fields) in requests.into_iter().enumerate() {
            let only = cookies.read_session(&headers(fields), |_, _| {});
            assert_eq!(only.is_some(), index < 3, "{index}");
            // A place that is out of date is not believed.
            for (other, fields) in requests.into_iter().enumerate().take(4) {
                let mut known = headers(fields);
                let mut searched = known.clone();
                cookies.strip(&mut known, only);
                cookies.strip(&mut searched, None);
                assert_eq!(known, searched, "the place of {index} in {other}");
            }
        }
    }

    #[test]
    fn h24_ours_are_stripped_and_the_others_stay() {
        let cookies = cookies(true);
        for (case, fields, left) in [
            ("none of ours", &[&b"a=b;c=\xff; d"[..]][..], &[&b"a=b;c=\xff; d"[..]][..]),
            ("only ours", &[b"__Host-auth_ababab-s=x"], &[]),
            ("mixed", &[b"a=b; __Host-auth_ababab-s=x; c=d"], &[b"a=b; c=d"]),
            ("bare name", &[b"auth_ababab-s=x; c=d"], &[b"c=d"]),
            (
                "odd prefixes",
                &[b"__host-auth_ababab-x=1; __Secure-auth_ababab-o=2; e=f"],
                &[b"e=f"],
            ),
            ("separators", &[b";; __Host-auth_ababab-s=x ;; c=d ;"], &[b"c=d"]),
            (
                "between others",
                &[b"a=1; __Host-auth_ababab-s=x; b=2;c=3; auth_ababab-n=1;__Host-auth_ababab-s1=y; d"],
                &[b"a=1; b=2;c=3; d"],
            ),
            (
                "in a value",
                &[b"x=__Host-auth_ababab-s=1; auth_ababab-s=2;y=auth_ababab-s"],
                &[b"x=__Host-auth_ababab-s=1; y=auth_ababab-s"],
            ),
            (
                "some fields",
                &[b"a=b;  c", b"auth_ababab-s=1; d", b"\t __Host-auth_ababab-n= \t"],
                &[b"a=b;  c", b"d"],
            ),
            ("two fields", &[b"__Host-auth_ababab-s=x", b"a=b"], &[b"a=b"]),
            ("no value", &[b"__Host-auth_ababab-s; a=b"], &[b"a=b"]),
            (
                "a neighbour",
                &[b"auth_ababac-s=x; auth_abababx=y"],
                &[b"auth_ababac-s=x; auth_abababx=y"],
            ),
        ] {
            let mut headers = headers(fields);
            cookies.strip(&mut headers, None);
            let kept: Vec<_> = headers.get_all(COOKIE).iter().map(HeaderValue::as_bytes).collect();
            assert_eq!(kept, left, "{case}");
        }
    }

    #[test]
    fn b13_h03_b20_removal_has_the_attributes_of_setting() {
        for (cookies, own, attributes) in [
            (cookies(true), Own::Session(0), "HttpOnly; SameSite=Lax; Secure; Path=/"),
            (cookies(false), Own::Notice, "HttpOnly; SameSite=Lax; Path=/"),
            (cookies(true), Own::LogoutHint, "HttpOnly; SameSite=Lax; Secure; Path=/auth/logout"),
            (
                Cookies::new(&[1; 32], false, true, "/x"),
                Own::Pending("0123456789abcdef"),
                "HttpOnly; SameSite=None; Secure; Path=/",
            ),
        ] {
            let name = cookies.name(own);
            let set = cookies.set(own, "v", Duration::from_secs(60));
            assert_eq!(set.to_str().unwrap(), format!("{name}=v; {attributes}; Max-Age=60"));
            assert_eq!(
                cookies.remove(own).to_str().unwrap(),
                format!("{name}=; {attributes}; Max-Age=0")
            );
        }
    }

    #[test]
    fn h25_the_inner_service_cannot_set_our_cookies() {
        let cookies = cookies(true);
        for (set, forged) in [
            ("__Host-auth_ababab-s=x; Path=/", true),
            ("auth_ababab-p-0=x", true),
            ("theme=dark; Path=/", false),
            ("x=__Host-auth_ababab-s=1", false),
            ("=auth_ababab-s=1; Path=/", true),
            ("auth_ababab-s", true),
            ("auth_ababab-s =1", true),
        ] {
            assert_eq!(cookies.is_forged(&HeaderValue::from_static(set)), forged, "{set}");
        }
    }
}
