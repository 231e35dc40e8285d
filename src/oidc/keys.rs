//! The provider's public keys: read one by one, and picked by what a token says and may say.

use openidconnect::JsonWebKey as _;
use openidconnect::core::{CoreJsonWebKey, CoreJwsSigningAlgorithm};
use serde_json::{Map, Value};

use super::json::{object, text};
use crate::secret::from_base64url;

/// A signature algorithm of ID tokens (RFC 7518 section 3.1, RFC 8037).
///
/// There is no `none` and nothing symmetric, by design.
///
/// # Examples
///
/// ```
/// use tower_pkce_auth::SigningAlgorithm;
///
/// assert_eq!(SigningAlgorithm::default(), SigningAlgorithm::Rs256);
/// assert_eq!(SigningAlgorithm::from_name("ES256"), Some(SigningAlgorithm::Es256));
/// assert_eq!(SigningAlgorithm::from_name("HS256"), None);
/// ```
#[derive(Clone, Copy, Debug, Default, Eq, Hash, PartialEq)]
#[non_exhaustive]
pub enum SigningAlgorithm {
    /// EdDSA with Ed25519.
    EdDsa,
    /// ECDSA with P-256 and SHA-256.
    Es256,
    /// ECDSA with P-384 and SHA-384.
    Es384,
    /// RSASSA-PSS with SHA-256.
    Ps256,
    /// RSASSA-PSS with SHA-384.
    Ps384,
    /// RSASSA-PSS with SHA-512.
    Ps512,
    /// RSASSA-PKCS1-v1_5 with SHA-256, what providers use unless told otherwise.
    #[default]
    Rs256,
    /// RSASSA-PKCS1-v1_5 with SHA-384.
    Rs384,
    /// RSASSA-PKCS1-v1_5 with SHA-512.
    Rs512,
}

impl SigningAlgorithm {
    /// Reads the registered name, which is case-sensitive.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|alg| alg.name() == name)
    }

    /// Returns the registered name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::EdDsa => "EdDSA",
            Self::Es256 => "ES256",
            Self::Es384 => "ES384",
            Self::Ps256 => "PS256",
            Self::Ps384 => "PS384",
            Self::Ps512 => "PS512",
            Self::Rs256 => "RS256",
            Self::Rs384 => "RS384",
            Self::Rs512 => "RS512",
        }
    }

    const ALL: [Self; 9] = [
        Self::EdDsa,
        Self::Es256,
        Self::Es384,
        Self::Ps256,
        Self::Ps384,
        Self::Ps512,
        Self::Rs256,
        Self::Rs384,
        Self::Rs512,
    ];

    /// Returns the bits of the hash that `at_hash` uses (OpenID Connect Core 1.0 section 3.1.3.6;
    /// Ed25519 hashes with SHA-512).
    pub(crate) const fn hash_bits(self) -> u16 {
        match self {
            Self::Es256 | Self::Ps256 | Self::Rs256 => 256,
            Self::Es384 | Self::Ps384 | Self::Rs384 => 384,
            Self::EdDsa | Self::Ps512 | Self::Rs512 => 512,
        }
    }

    const fn shape(self) -> Shape {
        match self {
            Self::EdDsa => Shape::Ed25519,
            Self::Es256 => Shape::P256,
            Self::Es384 => Shape::P384,
            _ => Shape::Rsa,
        }
    }

    const fn core(self) -> CoreJwsSigningAlgorithm {
        match self {
            Self::EdDsa => CoreJwsSigningAlgorithm::EdDsa,
            Self::Es256 => CoreJwsSigningAlgorithm::EcdsaP256Sha256,
            Self::Es384 => CoreJwsSigningAlgorithm::EcdsaP384Sha384,
            Self::Ps256 => CoreJwsSigningAlgorithm::RsaSsaPssSha256,
            Self::Ps384 => CoreJwsSigningAlgorithm::RsaSsaPssSha384,
            Self::Ps512 => CoreJwsSigningAlgorithm::RsaSsaPssSha512,
            Self::Rs256 => CoreJwsSigningAlgorithm::RsaSsaPkcs1V15Sha256,
            Self::Rs384 => CoreJwsSigningAlgorithm::RsaSsaPkcs1V15Sha384,
            Self::Rs512 => CoreJwsSigningAlgorithm::RsaSsaPkcs1V15Sha512,
        }
    }
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Shape {
    Ed25519,
    P256,
    P384,
    Rsa,
}

/// One public key that may verify signatures.
#[derive(Debug)]
struct Key {
    kid: Option<String>,
    alg: Option<String>,
    shape: Shape,
    key: CoreJsonWebKey,
}

/// The usable keys of a JWKS.
#[derive(Debug)]
pub(crate) struct Keys(Vec<Key>);

/// More usable keys than any provider publishes; the rest is not read.
const MAX_KEYS: usize = 64;
/// How many keys are tried for a token that names none.
const MAX_CANDIDATES: usize = 8;
/// Longer names are nobody's.
const MAX_KID: usize = 1024;

impl Keys {
    /// Reads a JWKS (RFC 7517 section 5), skipping keys that are unknown, malformed, too weak, or
    /// not for signatures; `None` if it is no JWKS or holds no usable key.
    pub(crate) fn parse(body: &[u8]) -> Option<Self> {
        let set = object(body)?;
        let entries = set.get("keys")?.as_array()?;
        let keys: Vec<Key> = entries
            .iter()
            .filter_map(|entry| Key::parse(entry.as_object()?))
            .take(MAX_KEYS)
            .collect();
        (!keys.is_empty()).then_some(Self(keys))
    }

    /// Verifies a signature with the keys that `kid` and `alg` allow; `None` if there is no such
    /// key, so that the caller may ask the provider for newer ones.
    pub(crate) fn verify(
        &self,
        alg: SigningAlgorithm,
        kid: Option<&str>,
        message: &[u8],
        signature: &[u8],
    ) -> Option<bool> {
        let mut candidates = self
            .0
            .iter()
            .filter(|key| key.shape == alg.shape())
            .filter(|key| key.alg.as_deref().is_none_or(|only| only == alg.name()))
            .filter(|key| kid.is_none() || key.kid.as_deref() == kid)
            .take(MAX_CANDIDATES)
            .peekable();
        candidates.peek()?;
        Some(
            candidates.any(|key| key.key.verify_signature(&alg.core(), message, signature).is_ok()),
        )
    }
}

impl Key {
    fn parse(entry: &Map<String, Value>) -> Option<Self> {
        // RFC 7517 sections 4.2 and 4.3: what is not for signatures is not used for them.
        if entry.get("use").is_some_and(|value| value != "sig") {
            return None;
        }
        let operations = entry.get("key_ops").map(Value::as_array);
        if let Some(operations) = operations {
            operations?.iter().find(|operation| *operation == "verify")?;
        }
        if entry.contains_key("d") {
            tracing::warn!("the provider publishes a private key; only its public part is read");
        }
        let kid = match entry.get("kid") {
            None => None,
            Some(Value::String(kid)) if kid.len() <= MAX_KID => Some(kid.clone()),
            Some(_) => return None,
        };
        let alg = match entry.get("alg") {
            None | Some(Value::Null) => None,
            Some(Value::String(alg)) => Some(alg.clone()),
            Some(_) => return None,
        };
        let (shape, members): (_, &[&str]) = match (text(entry, "kty")?, text(entry, "crv")) {
            ("RSA", _) => (Shape::Rsa, &["kty", "n", "e"]),
            ("EC", Some("P-256")) => (Shape::P256, &["kty", "crv", "x", "y"]),
            ("EC", Some("P-384")) => (Shape::P384, &["kty", "crv", "x", "y"]),
            ("OKP", Some("Ed25519")) => (Shape::Ed25519, &["kty", "crv", "x"]),
            _ => return None,
        };
        if shape == Shape::Rsa && !is_strong_rsa(entry) {
            return None;
        }
        if shape == Shape::Ed25519 && is_of_small_order(entry) {
            return None;
        }
        // Only the members that make the key reach the library; the rest has been judged here.
        let mut bare = Map::new();
        for &member in members {
            bare.insert(member.to_owned(), Value::String(text(entry, member)?.to_owned()));
        }
        let key = serde_json::from_value(Value::Object(bare)).ok()?;
        Some(Self { kid, alg, shape, key })
    }
}

/// Points of small order, by their encoding without the sign (RFC 8032 section 5.1.2): under such a
/// key a signature can be made for anything without knowing a secret.
const SMALL_ORDER: [[u8; 32]; 7] = [
    first_and_rest(0x00, 0x00, 0x00),
    first_and_rest(0x01, 0x00, 0x00),
    [
        0x26, 0xe8, 0x95, 0x8f, 0xc2, 0xb2, 0x27, 0xb0, 0x45, 0xc3, 0xf4, 0x89, 0xf2, 0xef, 0x98,
        0xf0, 0xd5, 0xdf, 0xac, 0x05, 0xd3, 0xc6, 0x33, 0x39, 0xb1, 0x38, 0x02, 0x88, 0x6d, 0x53,
        0xfc, 0x05,
    ],
    [
        0xc7, 0x17, 0x6a, 0x70, 0x3d, 0x4d, 0xd8, 0x4f, 0xba, 0x3c, 0x0b, 0x76, 0x0d, 0x10, 0x67,
        0x0f, 0x2a, 0x20, 0x53, 0xfa, 0x2c, 0x39, 0xcc, 0xc6, 0x4e, 0xc7, 0xfd, 0x77, 0x92, 0xac,
        0x03, 0x7a,
    ],
    first_and_rest(0xec, 0xff, 0x7f),
    first_and_rest(0xed, 0xff, 0x7f),
    first_and_rest(0xee, 0xff, 0x7f),
];

const fn first_and_rest(first: u8, middle: u8, last: u8) -> [u8; 32] {
    let mut point = [middle; 32];
    point[0] = first;
    point[31] = last;
    point
}

fn is_of_small_order(entry: &Map<String, Value>) -> bool {
    let point = text(entry, "x").and_then(from_base64url);
    let Some(Ok(mut point)) = point.map(<[u8; 32]>::try_from) else { return true };
    point[31] &= 0x7f;
    SMALL_ORDER.contains(&point)
}

/// RFC 8725 section 3.5: at least 2048 bits, an odd exponent above one, and nothing so large that
/// verifying becomes an attack.
fn is_strong_rsa(entry: &Map<String, Value>) -> bool {
    let number = |name| {
        let bytes = from_base64url(text(entry, name)?)?;
        let start = bytes.iter().position(|&b| b != 0)?;
        Some(bytes[start..].to_vec())
    };
    let (Some(n), Some(e)) = (number("n"), number("e")) else {
        return false;
    };
    let bits = n.len() * 8 - n.first().map_or(0, |byte| byte.leading_zeros() as usize);
    let odd = e.last().is_some_and(|byte| byte & 1 == 1);
    (2048..=8192).contains(&bits) && e.len() <= 4 && odd && e != [1]
}
