//! Signing keys of the test provider: making them, publishing them, signing with them.

use std::fmt;
use std::sync::Arc;
use std::sync::OnceLock;

use aws_lc_rs::digest;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::ECDSA_P256_SHA256_ASN1_SIGNING;
use aws_lc_rs::signature::ECDSA_P256_SHA256_FIXED_SIGNING;
use aws_lc_rs::signature::ECDSA_P384_SHA384_ASN1_SIGNING;
use aws_lc_rs::signature::ECDSA_P384_SHA384_FIXED_SIGNING;
use aws_lc_rs::signature::EcdsaKeyPair;
use aws_lc_rs::signature::Ed25519KeyPair;
use aws_lc_rs::signature::KeyPair;
use aws_lc_rs::signature::RSA_PKCS1_SHA256;
use aws_lc_rs::signature::RSA_PSS_SHA256;
use aws_lc_rs::signature::RsaKeyPair;
use serde_json::Map;
use serde_json::Value;
use serde_json::json;

use super::encoding;
use super::encoding::encode;

/// A signature algorithm of the test provider.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, PartialEq)]
#[non_exhaustive]
pub enum SigningAlg {
    /// `EdDSA` with Ed25519.
    EdDsa,
    /// ECDSA with P-256 and SHA-256.
    Es256,
    /// ECDSA with P-384 and SHA-384.
    Es384,
    /// RSASSA-PSS with SHA-256.
    Ps256,
    /// RSASSA-PKCS1-v1_5 with SHA-256.
    #[default]
    Rs256,
}

impl SigningAlg {
    /// Returns the JWA name, such as `RS256`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::EdDsa => "EdDSA",
            Self::Es256 => "ES256",
            Self::Es384 => "ES384",
            Self::Ps256 => "PS256",
            Self::Rs256 => "RS256",
        }
    }

    /// Returns the `at_hash` of `access_token` under this algorithm (OIDC Core 3.1.3.6).
    #[must_use]
    pub fn at_hash(self, access_token: &str) -> String {
        let algorithm = match self {
            Self::EdDsa => &digest::SHA512,
            Self::Es384 => &digest::SHA384,
            Self::Es256 | Self::Ps256 | Self::Rs256 => &digest::SHA256,
        };
        let hash = digest::digest(algorithm, access_token.as_bytes());
        let (left, _) = hash.as_ref().split_at(hash.as_ref().len() / 2);
        encode(left)
    }
}

impl fmt::Display for SigningAlg {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A private key with its `kid` and algorithm; cheap to clone.
///
/// # Examples
///
/// ```
/// use tower_pkce_auth::testing::provider::{SigningAlg, SigningKey};
///
/// let key = SigningKey::generate(SigningAlg::Es256);
/// assert_eq!(key.public_jwk()["crv"], "P-256");
/// assert!(key.with_alg(SigningAlg::Rs256).is_none());
/// ```
#[derive(Clone)]
pub struct SigningKey {
    kid: String,
    alg: SigningAlg,
    pair: Arc<Pair>,
}

impl SigningKey {
    /// Makes a fresh key with a random `kid`.
    ///
    /// # Panics
    ///
    /// If the machine has no randomness.
    #[must_use]
    pub fn generate(alg: SigningAlg) -> Self {
        let pair = match alg {
            SigningAlg::EdDsa => Pair::Ed(Ed25519KeyPair::generate().expect("randomness works")),
            SigningAlg::Es256 => Pair::ec(Curve::P256),
            SigningAlg::Es384 => Pair::ec(Curve::P384),
            SigningAlg::Ps256 | SigningAlg::Rs256 => {
                Pair::Rsa(RsaKeyPair::generate(KeySize::Rsa2048).expect("randomness works"))
            }
        };
        Self::new(alg, Arc::new(pair))
    }

    /// Makes a key for a new provider: RSA pairs are shared by the whole process, for speed, but
    /// still have a `kid` of their own.
    pub(super) fn shared(alg: SigningAlg) -> Self {
        static RS256: OnceLock<SigningKey> = OnceLock::new();
        static PS256: OnceLock<SigningKey> = OnceLock::new();
        let cell = match alg {
            SigningAlg::Ps256 => &PS256,
            SigningAlg::Rs256 => &RS256,
            SigningAlg::EdDsa | SigningAlg::Es256 | SigningAlg::Es384 => {
                return Self::generate(alg);
            }
        };
        let key = cell.get_or_init(|| Self::generate(alg));
        Self::new(alg, Arc::clone(&key.pair))
    }

    fn new(alg: SigningAlg, pair: Arc<Pair>) -> Self {
        let kid = format!("{}-{}", alg.as_str().to_lowercase(), encoding::random_token(6));
        Self { kid, alg, pair }
    }

    /// Returns the key identifier.
    #[must_use]
    pub fn kid(&self) -> &str {
        &self.kid
    }

    /// Returns the algorithm this key signs with.
    #[must_use]
    pub const fn alg(&self) -> SigningAlg {
        self.alg
    }

    /// Returns the same key under another `kid`.
    #[must_use]
    pub fn with_kid(&self, kid: impl Into<String>) -> Self {
        Self { kid: kid.into(), ..self.clone() }
    }

    /// Returns the same key, signing with another algorithm of its kind: RS256 and PS256 share
    /// keys, the others stand alone.
    #[must_use]
    pub fn with_alg(&self, alg: SigningAlg) -> Option<Self> {
        let fits = match &*self.pair {
            Pair::Ec { curve, .. } => {
                *curve == Curve::P256 && alg == SigningAlg::Es256
                    || *curve == Curve::P384 && alg == SigningAlg::Es384
            }
            Pair::Ed(_) => alg == SigningAlg::EdDsa,
            Pair::Rsa(_) => matches!(alg, SigningAlg::Ps256 | SigningAlg::Rs256),
        };
        fits.then(|| Self { alg, ..self.clone() })
    }

    /// Returns the public key as a JWK with `kid`, `use` and `alg`.
    #[must_use]
    pub fn public_jwk(&self) -> Value {
        let mut jwk = match &*self.pair {
            Pair::Ec { fixed, curve, .. } => {
                // Uncompressed point: 0x04, then x and y of the field's length (RFC 7518 6.2.1).
                let point = fixed.public_key().as_ref().get(1..).unwrap_or_default();
                let (x, y) = point.split_at(point.len() / 2);
                json!({"kty": "EC", "crv": curve.name(), "x": encode(x), "y": encode(y)})
            }
            Pair::Ed(pair) => {
                json!({"kty": "OKP", "crv": "Ed25519", "x": encode(pair.public_key().as_ref())})
            }
            Pair::Rsa(pair) => {
                let (n, e) = encoding::rsa_components(pair.public_key().as_ref());
                json!({"kty": "RSA", "n": encode(n), "e": encode(e)})
            }
        };
        jwk["kid"] = json!(self.kid);
        jwk["use"] = json!("sig");
        jwk["alg"] = json!(self.alg.as_str());
        jwk
    }

    /// Returns the public key in every spelling that an algorithm-confusion attack might use as
    /// an HMAC key: name and bytes.
    #[must_use]
    pub fn public_key_spellings(&self) -> Vec<(&'static str, Vec<u8>)> {
        let jwk = self.public_jwk();
        let raw = match &*self.pair {
            Pair::Ec { fixed, .. } => fixed.public_key().as_ref().to_vec(),
            Pair::Ed(pair) => pair.public_key().as_ref().to_vec(),
            Pair::Rsa(pair) => encoding::rsa_components(pair.public_key().as_ref()).0.to_vec(),
        };
        let spki = self.public_der();
        let pem = encoding::pem(&spki);
        vec![
            ("SPKI DER", spki),
            ("SPKI PEM", pem.clone().into_bytes()),
            ("SPKI PEM, no last newline", pem.trim_end().as_bytes().to_vec()),
            ("JWK JSON", jwk.to_string().into_bytes()),
            ("modulus or point", raw.clone()),
            ("modulus or point, base64url", encode(&raw).into_bytes()),
        ]
    }

    /// Returns the public key as a DER `SubjectPublicKeyInfo`.
    #[must_use]
    pub fn public_der(&self) -> Vec<u8> {
        let (prefix, key): (&[u8], &[u8]) = match &*self.pair {
            Pair::Ec { fixed, curve, .. } => (curve.spki_prefix(), fixed.public_key().as_ref()),
            Pair::Ed(pair) => (encoding::SPKI_ED25519, pair.public_key().as_ref()),
            Pair::Rsa(pair) => return encoding::rsa_spki(pair.public_key().as_ref()),
        };
        [prefix, key].concat()
    }

    /// Signs `message` as JWS wants it: PKCS#1 v1.5 or PSS for RSA, r‖s of fixed length for ECDSA.
    #[must_use]
    pub fn sign(&self, message: &[u8]) -> Vec<u8> {
        let rng = SystemRandom::new();
        match &*self.pair {
            Pair::Ec { fixed, .. } => {
                let signature = fixed.sign(&rng, message);
                signature.expect("an own key signs").as_ref().to_vec()
            }
            Pair::Ed(pair) => pair.sign(message).as_ref().to_vec(),
            Pair::Rsa(pair) => {
                let padding: &'static dyn aws_lc_rs::signature::RsaEncoding = match self.alg {
                    SigningAlg::Ps256 => &RSA_PSS_SHA256,
                    _ => &RSA_PKCS1_SHA256,
                };
                let mut signature = vec![0; pair.public_modulus_len()];
                pair.sign(padding, &rng, message, &mut signature).expect("an own key signs");
                signature
            }
        }
    }

    /// Signs `message` with an ECDSA signature in DER, which JWS forbids; other kinds sign as
    /// [`sign`](Self::sign) does.
    #[must_use]
    pub fn sign_der(&self, message: &[u8]) -> Vec<u8> {
        match &*self.pair {
            Pair::Ec { der, .. } => {
                let signature = der.sign(&SystemRandom::new(), message);
                signature.expect("an own key signs").as_ref().to_vec()
            }
            Pair::Ed(_) | Pair::Rsa(_) => self.sign(message),
        }
    }

    /// Makes a compact JWS of `claims` with this key's `alg` and `kid` and the given `typ`.
    #[must_use]
    pub fn jwt(&self, typ: &str, claims: &Map<String, Value>) -> String {
        let header = json!({"alg": self.alg.as_str(), "kid": self.kid, "typ": typ});
        let input =
            encoding::signing_input(header.to_string().as_bytes(), &encoding::to_json(claims));
        let signature = self.sign(input.as_bytes());
        format!("{input}.{}", encode(&signature))
    }
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SigningKey")
            .field("kid", &self.kid)
            .field("alg", &self.alg)
            .finish_non_exhaustive()
    }
}

/// The keys a provider publishes, and which of them signs.
#[derive(Clone, Debug)]
pub(super) struct KeyRing {
    pub(super) keys: Vec<SigningKey>,
    alg: SigningAlg,
}

impl KeyRing {
    pub(super) fn new(alg: SigningAlg) -> Self {
        Self::made_by(SigningKey::shared, alg)
    }

    pub(super) fn fresh(alg: SigningAlg) -> Self {
        Self::made_by(SigningKey::generate, alg)
    }

    fn made_by(make: impl Fn(SigningAlg) -> SigningKey, alg: SigningAlg) -> Self {
        let always = [SigningAlg::Rs256, SigningAlg::Es256, SigningAlg::EdDsa];
        let mut keys: Vec<_> = always.into_iter().map(&make).collect();
        if !always.contains(&alg) {
            keys.push(make(alg));
        }
        Self { keys, alg }
    }

    pub(super) fn set_alg(&mut self, alg: SigningAlg) {
        if self.by_alg(alg).is_none() {
            self.keys.push(SigningKey::shared(alg));
        }
        self.alg = alg;
    }

    pub(super) fn by_alg(&self, alg: SigningAlg) -> Option<&SigningKey> {
        self.keys.iter().find(|key| key.alg == alg)
    }

    pub(super) fn current(&self) -> &SigningKey {
        self.by_alg(self.alg).expect("every constructor and `set_alg` put the key in")
    }
}

enum Pair {
    Ec { fixed: EcdsaKeyPair, der: EcdsaKeyPair, curve: Curve },
    Ed(Ed25519KeyPair),
    Rsa(RsaKeyPair),
}

impl Pair {
    fn ec(curve: Curve) -> Self {
        let (fixed, der) = match curve {
            Curve::P256 => (&ECDSA_P256_SHA256_FIXED_SIGNING, &ECDSA_P256_SHA256_ASN1_SIGNING),
            Curve::P384 => (&ECDSA_P384_SHA384_FIXED_SIGNING, &ECDSA_P384_SHA384_ASN1_SIGNING),
        };
        let pkcs8 =
            EcdsaKeyPair::generate_pkcs8(fixed, &SystemRandom::new()).expect("randomness works");
        Self::Ec {
            fixed: EcdsaKeyPair::from_pkcs8(fixed, pkcs8.as_ref()).expect("made just above"),
            der: EcdsaKeyPair::from_pkcs8(der, pkcs8.as_ref()).expect("made just above"),
            curve,
        }
    }
}

#[derive(Clone, Copy, Eq, PartialEq)]
enum Curve {
    P256,
    P384,
}

impl Curve {
    const fn name(self) -> &'static str {
        match self {
            Self::P256 => "P-256",
            Self::P384 => "P-384",
        }
    }

    const fn spki_prefix(self) -> &'static [u8] {
        match self {
            Self::P256 => encoding::SPKI_P256,
            Self::P384 => encoding::SPKI_P384,
        }
    }
}

#[cfg(test)]
mod tests {
    use aws_lc_rs::signature;
    use aws_lc_rs::signature::UnparsedPublicKey;
    use base64::Engine;
    use base64::prelude::BASE64_URL_SAFE_NO_PAD;

    use super::*;

    #[test]
    fn signatures_verify_with_the_published_key() {
        let table: [(SigningAlg, usize, &'static dyn signature::VerificationAlgorithm); 5] = [
            (SigningAlg::EdDsa, 64, &signature::ED25519),
            (SigningAlg::Es256, 64, &signature::ECDSA_P256_SHA256_FIXED),
            (SigningAlg::Es384, 96, &signature::ECDSA_P384_SHA384_FIXED),
            (SigningAlg::Ps256, 256, &signature::RSA_PSS_2048_8192_SHA256),
            (SigningAlg::Rs256, 256, &signature::RSA_PKCS1_2048_8192_SHA256),
        ];
        for (alg, len, verification) in table {
            let key = SigningKey::generate(alg);
            let signature = key.sign(b"message");
            assert_eq!(signature.len(), len, "{alg}");
            // `SubjectPublicKeyInfo` is accepted by aws-lc, so this also proves its encoding.
            let public = UnparsedPublicKey::new(verification, key.public_der());
            assert!(public.verify(b"message", &signature).is_ok(), "{alg}");
            assert!(public.verify(b"messagE", &signature).is_err(), "{alg}");
        }
    }

    #[test]
    fn jwk_members_rebuild_the_key() {
        let decode = |jwk: &Value, name: &str| {
            let text = jwk[name].as_str().expect("a string");
            BASE64_URL_SAFE_NO_PAD.decode(text).expect("base64url")
        };
        let rsa = SigningKey::generate(SigningAlg::Rs256);
        let jwk = rsa.public_jwk();
        let components =
            signature::RsaPublicKeyComponents { n: decode(&jwk, "n"), e: decode(&jwk, "e") };
        assert_eq!(components.n.len(), 256);
        assert_eq!(jwk["e"], "AQAB");
        let verified =
            components.verify(&signature::RSA_PKCS1_2048_8192_SHA256, b"m", &rsa.sign(b"m"));
        assert!(verified.is_ok());

        let ec = SigningKey::generate(SigningAlg::Es256);
        let jwk = ec.public_jwk();
        let point = [vec![4], decode(&jwk, "x"), decode(&jwk, "y")].concat();
        let fixed = UnparsedPublicKey::new(&signature::ECDSA_P256_SHA256_FIXED, &point);
        assert!(fixed.verify(b"m", &ec.sign(b"m")).is_ok());
        let der = UnparsedPublicKey::new(&signature::ECDSA_P256_SHA256_ASN1, &point);
        assert!(der.verify(b"m", &ec.sign_der(b"m")).is_ok());

        let ed = SigningKey::generate(SigningAlg::EdDsa);
        let public = UnparsedPublicKey::new(&signature::ED25519, decode(&ed.public_jwk(), "x"));
        assert!(public.verify(b"m", &ed.sign(b"m")).is_ok());
    }
}
