//! Sealing: what we hand to browsers and stores, so that nobody else can read, change or move it.
//!
//! A sealed value is `version (1) ‖ salt (16) ‖ ciphertext ‖ tag (16)`. The key and the nonce of
//! each seal are derived by HKDF-SHA-256 from a key of the ring and the random salt, so that no
//! counter has to be kept and no nonce can repeat under one key (AES-256-GCM, RFC 5116). The
//! associated data binds the purpose, the cookie name or store key, the format version and the
//! instance; the expiry lies inside. Beside the TLS client and the test kit this is the one file
//! that names `aws-lc-rs`.

use std::fmt;
use std::sync::Arc;

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use aws_lc_rs::{digest, hkdf};

use crate::clock::UnixTime;
use crate::names::InvalidName;
use crate::secret::{SecretBytes, base64, base64url, from_base64, random};

/// The ring of keys that seals cookies, login state and stored records.
///
/// The first key seals; all keys open. A new key is added last on every pod, then moved to the
/// front, then the old one is dropped: nobody is signed out (see [`manual::operation`]). All pods
/// need the same ring.
///
/// [`manual::operation`]: crate::manual::operation
///
/// # Security
///
/// Who holds a key can make sessions for anybody. Keep the file out of the repository.
///
/// # Examples
///
/// ```
/// use tower_pkce_auth::CookieKeys;
///
/// let line = CookieKeys::new_key_line();
/// let keys: CookieKeys = format!("# newest first\n{line}\n").parse()?;
/// assert_eq!(keys.len(), 1);
/// assert!("not a key".parse::<CookieKeys>().is_err());
/// # Ok::<_, tower_pkce_auth::InvalidName>(())
/// ```
#[derive(Clone)]
pub struct CookieKeys(Arc<[SecretBytes<32>]>);

impl CookieKeys {
    /// Makes a ring of one random key, good for this process only.
    #[must_use]
    pub fn random() -> Self {
        Self(Arc::new([SecretBytes::random()]))
    }

    /// Returns a fresh random key as a line of a key file: 32 bytes in base64.
    #[must_use]
    pub fn new_key_line() -> String {
        base64(random::<32>())
    }

    /// Returns the number of keys in the ring.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Returns `false`: a ring always holds a key.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl fmt::Debug for CookieKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CookieKeys({} keys)", self.0.len())
    }
}

impl std::str::FromStr for CookieKeys {
    type Err = InvalidName;

    /// Reads a key file: base64 of 32 bytes a line, newest first; `#` starts a comment.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut ring = Vec::new();
        for line in text.lines().map(str::trim) {
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            // The line is a secret: the error must not repeat it.
            let bad = || InvalidName::new("cookie key", "a line is base64 of 32 bytes", "(hidden)");
            let key = from_base64(line).ok_or_else(bad)?;
            ring.push(SecretBytes::new(<[u8; 32]>::try_from(key).map_err(|_| bad())?));
        }
        if ring.is_empty() {
            return Err(InvalidName::new("cookie keys", "at least one key is needed", ""));
        }
        Ok(Self(ring.into()))
    }
}

/// What a sealed value is for; a value sealed for one purpose never opens for another.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[repr(u8)]
pub(crate) enum Purpose {
    /// The cookie of one pending login.
    PendingCookie = 1,
    /// The record of a pending login in a store.
    PendingRecord = 2,
    /// A session in cookies.
    SessionCookie = 3,
    /// A session in a store.
    SessionRecord = 4,
    /// The ticket inside `state`.
    Ticket = 5,
    /// The cookie that keeps the ID token for the provider's logout.
    LogoutHint = 6,
    /// The id and the key of a stored session, in its cookie.
    StoredSession = 7,
    /// Which sessions a person has.
    Person = 8,
    /// Whose session the provider's `sid` is.
    Sid = 9,
}

/// Why a sealed value did not open; for logs and tests, never for the visitor.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum OpenError {
    /// It opened, and its time is over.
    Expired,
    /// No key of the ring opens it for this purpose, name and instance.
    Foreign,
    /// It is too short, or of a format this version does not know.
    Malformed,
}

const VERSION: u8 = 1;
const SALT: usize = 16;
const TAG: usize = 16;
const EXPIRY: usize = 8;

/// Seals and opens for one instance of the layer.
#[derive(Clone, Debug)]
pub(crate) struct Sealer {
    keys: CookieKeys,
    instance: [u8; 32],
}

impl Sealer {
    /// Makes a sealer; `instance` is what tells this application from another one that uses the
    /// same keys (client id, public origin, mount, prefix).
    pub(crate) fn new(keys: CookieKeys, instance: &[&str]) -> Self {
        let parts: Vec<&[u8]> = instance.iter().map(|part| part.as_bytes()).collect();
        Self { keys, instance: sha256_of(&parts) }
    }

    /// Returns the hash that names this instance.
    pub(crate) const fn instance(&self) -> &[u8; 32] {
        &self.instance
    }

    /// Seals `plain` under the newest key.
    pub(crate) fn seal(
        &self,
        purpose: Purpose,
        context: &[u8],
        expires: UnixTime,
        plain: &[u8],
    ) -> Vec<u8> {
        self.seal_under(&[], purpose, context, expires, plain)
    }

    /// Seals under the newest key and `extra`, a key somebody else keeps.
    pub(crate) fn seal_under(
        &self,
        extra: &[u8],
        purpose: Purpose,
        context: &[u8],
        expires: UnixTime,
        plain: &[u8],
    ) -> Vec<u8> {
        let salt: [u8; SALT] = random();
        let mut sealed = Vec::with_capacity(1 + SALT + EXPIRY + plain.len() + TAG);
        sealed.push(VERSION);
        sealed.extend_from_slice(&salt);
        let mut body = Vec::with_capacity(EXPIRY + plain.len() + TAG);
        body.extend_from_slice(&expires.as_millis().to_be_bytes());
        body.extend_from_slice(plain);
        let (key, nonce) = derive(&self.keys.0[0], extra, &salt);
        key.seal_in_place_append_tag(nonce, self.aad(purpose, context), &mut body)
            .expect("a value far below the limit of AES-GCM is sealed");
        sealed.append(&mut body);
        sealed
    }

    /// Opens what [`Sealer::seal`] made, if it is for this purpose and name and its time is not over.
    pub(crate) fn open(
        &self,
        purpose: Purpose,
        context: &[u8],
        now: UnixTime,
        sealed: &[u8],
    ) -> Result<Vec<u8>, OpenError> {
        self.open_under(&[], purpose, context, now, sealed)
    }

    /// Opens what [`Sealer::seal_under`] made.
    pub(crate) fn open_under(
        &self,
        extra: &[u8],
        purpose: Purpose,
        context: &[u8],
        now: UnixTime,
        sealed: &[u8],
    ) -> Result<Vec<u8>, OpenError> {
        if sealed.len() < 1 + SALT + EXPIRY + TAG || sealed[0] != VERSION {
            return Err(OpenError::Malformed);
        }
        let (salt, body) = sealed[1..].split_at(SALT);
        for ring_key in self.keys.0.iter() {
            let (key, nonce) = derive(ring_key, extra, salt);
            let mut buffer = body.to_vec();
            let Ok(plain) = key.open_in_place(nonce, self.aad(purpose, context), &mut buffer)
            else {
                continue;
            };
            let length = plain.len();
            let (expires, _) = plain.split_at(EXPIRY);
            let expires = expires.try_into().map_err(|_| OpenError::Malformed)?;
            if now >= UnixTime::from_millis(u64::from_be_bytes(expires)) {
                return Err(OpenError::Expired);
            }
            buffer.truncate(length);
            buffer.drain(..EXPIRY);
            return Ok(buffer);
        }
        Err(OpenError::Foreign)
    }

    /// Names a value in the log: the same for all pods while the newest key is the same, and not
    /// to be guessed without it.
    pub(crate) fn pseudonym(&self, kind: &[u8], value: &str) -> String {
        let of = sha256_of(&[kind, &self.instance, value.as_bytes()]);
        let label = [b"tower-pkce-auth pseudonym", &of[..]].concat();
        base64url(&expand(self.keys.0[0].expose(), &label)[..9])
    }

    /// Every part is of fixed length or length-prefixed, so that no two inputs read alike.
    fn aad(&self, purpose: Purpose, context: &[u8]) -> Aad<Vec<u8>> {
        let mut aad = Vec::with_capacity(48 + context.len());
        aad.extend_from_slice(b"tower-pkce-auth");
        aad.push(VERSION);
        aad.push(purpose as u8);
        aad.extend_from_slice(&self.instance);
        aad.extend_from_slice(&(context.len() as u64).to_be_bytes());
        aad.extend_from_slice(context);
        Aad::from(aad)
    }
}

/// Returns SHA-256 of one byte string.
pub(crate) fn sha256(bytes: &[u8]) -> [u8; 32] {
    let mut hash = [0; 32];
    hash.copy_from_slice(digest::digest(&digest::SHA256, bytes).as_ref());
    hash
}

/// Returns SHA-256 of several byte strings, each length-prefixed.
pub(crate) fn sha256_of(parts: &[&[u8]]) -> [u8; 32] {
    let mut context = digest::Context::new(&digest::SHA256);
    for part in parts {
        context.update(&(part.len() as u64).to_be_bytes());
        context.update(part);
    }
    let mut hash = [0; 32];
    hash.copy_from_slice(context.finish().as_ref());
    hash
}

/// Returns the SHA-384 and SHA-512 digests that `at_hash` needs beside SHA-256.
pub(crate) fn sha2(bits: u16, bytes: &[u8]) -> Vec<u8> {
    let algorithm = match bits {
        384 => &digest::SHA384,
        512 => &digest::SHA512,
        _ => &digest::SHA256,
    };
    digest::digest(algorithm, bytes).as_ref().to_vec()
}

/// Derives 32 bytes for one use from a seed (HKDF-SHA-256, RFC 5869).
pub(crate) fn expand(seed: &[u8], label: &[u8]) -> [u8; 32] {
    let mut okm = [0; 32];
    fill(&hkdf::Salt::new(hkdf::HKDF_SHA256, b"tower-pkce-auth").extract(seed), label, &mut okm);
    okm
}

fn derive(ring_key: &SecretBytes<32>, extra: &[u8], salt: &[u8]) -> (LessSafeKey, Nonce) {
    let mut input = Vec::with_capacity(32 + extra.len());
    input.extend_from_slice(ring_key.expose());
    input.extend_from_slice(extra);
    let prk = hkdf::Salt::new(hkdf::HKDF_SHA256, salt).extract(&input);
    zeroize::Zeroize::zeroize(&mut input);
    let mut okm = [0; 44];
    fill(&prk, b"tower-pkce-auth seal v1", &mut okm);
    let key = UnboundKey::new(&AES_256_GCM, &okm[..32]).expect("the key has 32 bytes");
    let nonce = okm[32..].try_into().expect("twelve bytes are left");
    zeroize::Zeroize::zeroize(&mut okm);
    (LessSafeKey::new(key), Nonce::assume_unique_for_key(nonce))
}

fn fill(prk: &hkdf::Prk, label: &[u8], out: &mut [u8]) {
    struct Length(usize);
    impl hkdf::KeyType for Length {
        fn len(&self) -> usize {
            self.0
        }
    }
    prk.expand(&[label], Length(out.len()))
        .and_then(|okm| okm.fill(out))
        .expect("fewer than 255 blocks are asked for");
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: UnixTime = UnixTime::from_secs(1_000);
    const LATER: UnixTime = UnixTime::from_secs(2_000);

    fn sealer(keys: CookieKeys) -> Sealer {
        Sealer::new(keys, &["client", "https://a.example", "", "/auth"])
    }

    #[test]
    fn b10_h09_every_changed_bit_and_every_truncation_is_foreign() {
        let sealer = sealer(CookieKeys::random());
        let sealed = sealer.seal(Purpose::SessionCookie, b"name", LATER, b"plain");
        assert_eq!(sealer.open(Purpose::SessionCookie, b"name", NOW, &sealed).unwrap(), b"plain");
        for at in 0..sealed.len() {
            for bit in 0..8 {
                let mut changed = sealed.clone();
                changed[at] ^= 1 << bit;
                assert!(sealer.open(Purpose::SessionCookie, b"name", NOW, &changed).is_err());
            }
            assert!(sealer.open(Purpose::SessionCookie, b"name", NOW, &sealed[..at]).is_err());
        }
    }

    #[test]
    fn purpose_name_instance_and_extra_key_are_bound() {
        let keys = CookieKeys::random();
        let (ours, sealed) = {
            let sealer = sealer(keys.clone());
            let sealed = sealer.seal_under(b"x", Purpose::SessionCookie, b"name", LATER, b"plain");
            (sealer, sealed)
        };
        let other = Sealer::new(keys, &["client", "https://b.example", "", "/auth"]);
        let open = |sealer: &Sealer, extra: &[u8], purpose, name: &[u8]| {
            sealer.open_under(extra, purpose, name, NOW, &sealed)
        };
        assert!(open(&ours, b"x", Purpose::SessionCookie, b"name").is_ok());
        for (case, result) in [
            ("extra", open(&ours, b"y", Purpose::SessionCookie, b"name")),
            ("purpose", open(&ours, b"x", Purpose::PendingCookie, b"name")),
            ("name", open(&ours, b"x", Purpose::SessionCookie, b"name1")),
            ("h33 instance", open(&other, b"x", Purpose::SessionCookie, b"name")),
        ] {
            assert_eq!(result, Err(OpenError::Foreign), "{case}");
        }
    }

    #[test]
    fn h21_a_rotated_ring_opens_old_seals_and_a_retired_key_does_not() {
        let (old, new) = (CookieKeys::new_key_line(), CookieKeys::new_key_line());
        let sealed =
            sealer(old.parse().unwrap()).seal(Purpose::SessionCookie, b"n", LATER, b"plain");
        let both = sealer(format!("{new}\n{old}").parse().unwrap());
        let only_new = sealer(new.parse().unwrap());
        assert!(both.open(Purpose::SessionCookie, b"n", NOW, &sealed).is_ok());
        assert_eq!(
            only_new.open(Purpose::SessionCookie, b"n", NOW, &sealed),
            Err(OpenError::Foreign)
        );
    }

    #[test]
    fn the_expiry_inside_counts() {
        let sealer = sealer(CookieKeys::random());
        let sealed = sealer.seal(Purpose::Ticket, b"", LATER, b"");
        assert_eq!(sealer.open(Purpose::Ticket, b"", LATER, &sealed), Err(OpenError::Expired));
        assert!(sealer.open(Purpose::Ticket, b"", NOW, &sealed).is_ok());
    }

    #[test]
    fn two_seals_of_one_value_differ() {
        let sealer = sealer(CookieKeys::random());
        let seal = || sealer.seal(Purpose::Ticket, b"", LATER, b"same");
        assert_ne!(seal(), seal());
    }

    #[test]
    fn a_bad_key_line_is_not_repeated() {
        let error = "c2VjcmV0LWtleS1DQU5BUlk=".parse::<CookieKeys>().unwrap_err();
        assert!(!error.to_string().contains("c2Vjcm"), "{error}");
    }
}
