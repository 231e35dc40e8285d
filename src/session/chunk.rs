//! Session cookies as text: one value, or several chunks that count only together.
//!
//! | value of `<name>-s` | meaning |
//! |---|---|
//! | `s<n>.<base64url>` | a sealed session in `n` chunks, the others in `-s1` … |
//! | `v1.<base64url>` | id (16) ‖ key (32) of a stored session, sealed: who made one up costs the store nothing |

use std::hash::{BuildHasher, Hasher};

use http::HeaderMap;

use crate::cookies::{Cookies, MAX_CHUNKS, Only};
use crate::secret::from_base64url;
use crate::store::TailHashes;

/// Bytes of base64url in one cookie.
const CHUNK: usize = 3_800;

/// The session cookies of a request, as they came; nothing is believed yet.
#[derive(Clone, Copy)]
pub(crate) struct Presented<'a> {
    first: &'a [u8],
    /// The chunks that go on with it.
    rest: &'a [&'a [u8]],
}

/// Of several cookies with one name each is a candidate of its own: whichever opens counts. There
/// are two at most.
pub(crate) struct Candidates<'a> {
    firsts: [Option<&'a [u8]>; 2],
    rest: [&'a [u8]; MAX_CHUNKS - 1],
}

/// What was seen of session cookies beside their values.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Seen {
    /// Whether there was any.
    pub(crate) any: bool,
    /// Where it is, if there was one and no other cookie of ours.
    pub(crate) only: Option<Only>,
}

/// What the browser holds of a session.
#[derive(Clone, Eq, PartialEq)]
pub(crate) enum Held {
    /// The sealed session itself.
    Sealed(Vec<u8>),
    /// The id and the key of a stored one, sealed.
    Stored(Vec<u8>),
}

impl std::fmt::Debug for Held {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Held(..)")
    }
}

impl<'a> Presented<'a> {
    /// Reads the session cookies of a request.
    pub(crate) fn read(cookies: &Cookies, headers: &'a HeaderMap) -> (Candidates<'a>, Seen) {
        let mut candidates = Candidates { firsts: [None; 2], rest: [&[]; MAX_CHUNKS - 1] };
        let mut any = false;
        let only = cookies.read_session(headers, |chunk, value| {
            any = true;
            match chunk.checked_sub(1) {
                None => {
                    if let Some(slot) = candidates.firsts.iter_mut().find(|slot| slot.is_none()) {
                        *slot = Some(value);
                    }
                }
                Some(chunk) => {
                    if candidates.rest[chunk].is_empty() {
                        candidates.rest[chunk] = value;
                    }
                }
            }
        });
        (candidates, Seen { any, only })
    }

    /// Presents the values of cookies as they will come back.
    pub(crate) fn of(values: &'a [&'a [u8]]) -> Option<Self> {
        let (first, rest) = values.split_first()?;
        Self::join(first, rest)
    }

    fn join(first: &'a [u8], rest: &'a [&'a [u8]]) -> Option<Self> {
        let count = match first {
            [b's', digit @ b'1'..=b'5', b'.', ..] => usize::from(digit - b'0'),
            [b'v', b'1', b'.', ..] => 1,
            _ => return None,
        };
        let rest = rest.get(..count - 1)?;
        // Every chunk but the last is full: one session has one text, so that nobody can fill the
        // cache with spellings of it.
        let whole = match rest.split_last() {
            None => first.len() <= CHUNK,
            Some((last, between)) => {
                first.len() == CHUNK
                    && between.iter().all(|chunk| chunk.len() == CHUNK)
                    && (1..=CHUNK).contains(&last.len())
            }
        };
        whole.then_some(Self { first, rest })
    }

    fn parts(&self) -> impl Iterator<Item = &'a [u8]> {
        std::iter::once(self.first).chain(self.rest.iter().copied())
    }

    /// Hashes the text under a random key of this process: the end of each chunk, which is random
    /// in all that opens.
    pub(crate) fn keyed_hash(&self, key: &TailHashes) -> u64 {
        let mut hasher = key.build_hasher();
        for part in self.parts() {
            hasher.write(part);
        }
        hasher.finish()
    }

    /// Compares the whole text with a copy made by [`Presented::copy`].
    pub(crate) fn equals(&self, copy: &[u8]) -> bool {
        let mut rest = copy;
        for part in self.parts() {
            match rest.split_at_checked(part.len()) {
                Some((head, tail)) if head == part => rest = tail,
                _ => return false,
            }
        }
        rest.is_empty()
    }

    pub(crate) fn copy(&self) -> Vec<u8> {
        let mut text = Vec::with_capacity(self.parts().map(<[u8]>::len).sum());
        self.parts().for_each(|part| text.extend_from_slice(part));
        text
    }

    /// Decodes the text; `None` if it is none of ours.
    pub(crate) fn decode(&self) -> Option<Held> {
        let text = self.copy();
        match text.split_at_checked(3)? {
            (b"v1.", encoded) => from_base64url(encoded).map(Held::Stored),
            (_, encoded) => from_base64url(encoded).map(Held::Sealed),
        }
    }
}

impl<'a> IntoIterator for &'a Candidates<'a> {
    type Item = Option<Presented<'a>>;
    type IntoIter = Each<'a>;

    fn into_iter(self) -> Self::IntoIter {
        Each { firsts: self.firsts.iter(), rest: &self.rest }
    }
}

/// Puts the candidates together one after the other, as they are asked for.
pub(crate) struct Each<'a> {
    firsts: std::slice::Iter<'a, Option<&'a [u8]>>,
    rest: &'a [&'a [u8]],
}

impl<'a> Iterator for Each<'a> {
    type Item = Option<Presented<'a>>;

    fn next(&mut self) -> Option<Self::Item> {
        let first = self.firsts.next()?;
        Some(first.and_then(|first| Presented::join(first, self.rest)))
    }
}

/// Splits an encoded session into the values of its cookies; `None` if it needs too many.
pub(crate) fn split(encoded: &str, max_bytes: usize) -> Option<Vec<String>> {
    if encoded.len() + 3 > max_bytes {
        return None;
    }
    let first = encoded.len().min(CHUNK - 3);
    let (first, rest) = encoded.split_at(first);
    let count = 1 + rest.len().div_ceil(CHUNK);
    if count > MAX_CHUNKS {
        return None;
    }
    let mut values = vec![format!("s{count}.{first}")];
    let mut rest = rest;
    while !rest.is_empty() {
        let (chunk, tail) = rest.split_at(rest.len().min(CHUNK));
        values.push(chunk.to_owned());
        rest = tail;
    }
    Some(values)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::secret::base64url;
    use http::header::COOKIE;

    fn present(pairs: &[(&str, &str)], check: impl Fn(Option<Held>)) {
        let cookies = Cookies::new(&[0; 32], false, false, "/auth/logout");
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.append(COOKIE, format!("auth_000000{name}={value}").parse().unwrap());
        }
        let (candidates, _) = Presented::read(&cookies, &headers);
        let first = candidates.into_iter().next().flatten();
        check(first.and_then(|presented| presented.decode()));
    }

    #[test]
    fn h06_h08_chunks_count_only_together_and_in_order() {
        let bytes: Vec<u8> = (0..7_000u32).map(|n| (n % 251) as u8).collect();
        let values = split(&base64url(&bytes), 12_000).unwrap();
        assert_eq!(values.len(), 3);
        assert!(values.iter().all(|value| value.len() <= CHUNK));
        let [a, b, c] = [&values[0], &values[1], &values[2]];
        present(&[("-s", a), ("-s1", b), ("-s2", c)], |held| {
            assert_eq!(held, Some(Held::Sealed(bytes.clone())));
        });
        present(&[("-s", a), ("-s2", c), ("-s1", b), ("-s3", "stale")], |held| {
            assert_eq!(held, Some(Held::Sealed(bytes.clone())), "a stale chunk is not read");
        });
        present(&[("-s", a), ("-s1", b)], |held| assert_eq!(held, None, "one is lost"));
        present(&[("-s", a), ("-s1", c), ("-s2", b)], |held| {
            assert_ne!(held, Some(Held::Sealed(bytes.clone())), "they are swapped");
        });
    }

    #[test]
    fn a_session_that_is_too_large_is_refused_not_cut() {
        assert!(split(&"a".repeat(6_000), 6_144).is_some());
        assert!(split(&"a".repeat(6_142), 6_144).is_none());
        assert!(split(&"a".repeat(30_000), 100_000).is_none());
    }

    #[test]
    fn malformed_values_are_nobodys() {
        for value in [
            "",
            "s",
            "s0.x",
            "s9.x",
            "s99999999.x",
            "v2.x",
            "v1.",
            "v1.%%",
            "x1.AAAA",
            "s1.",
            "s1.%%",
        ] {
            present(&[("-s", value)], |held| {
                let nothing =
                    [None, Some(Held::Sealed(Vec::new())), Some(Held::Stored(Vec::new()))];
                assert!(nothing.contains(&held), "{value:?}");
            });
        }
    }
}
