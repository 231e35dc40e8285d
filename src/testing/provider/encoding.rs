//! Bytes and text: base64url, DER, PEM, hashes, random names.

use aws_lc_rs::digest;
use aws_lc_rs::hmac;
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use serde_json::Map;
use serde_json::Value;

/// Encodes as unpadded base64url.
pub(super) fn encode(bytes: &[u8]) -> String {
    BASE64_URL_SAFE_NO_PAD.encode(bytes)
}

/// Joins the first two parts of a compact JWS.
pub(super) fn signing_input(header: &[u8], payload: &[u8]) -> String {
    format!("{}.{}", encode(header), encode(payload))
}

/// Serialises a JSON object.
pub(super) fn to_json(map: &Map<String, Value>) -> Vec<u8> {
    serde_json::to_vec(map).expect("a map with string keys serialises")
}

/// Computes HMAC-SHA-256, the signature of HS256; the key may be empty.
pub(super) fn hs256(key: &[u8], message: &[u8]) -> Vec<u8> {
    let key = hmac::Key::new(hmac::HMAC_SHA256, key);
    hmac::sign(&key, message).as_ref().to_vec()
}

/// Computes the S256 challenge of a PKCE verifier (RFC 7636 4.2).
pub(super) fn s256(verifier: &str) -> String {
    encode(digest::digest(&digest::SHA256, verifier.as_bytes()).as_ref())
}

/// Returns `bytes` random bytes, 32 at most, in base64url.
pub(super) fn random_token(bytes: usize) -> String {
    encode(&crate::secret::random::<32>()[..bytes.min(32)])
}

/// Splits a PKCS#1 `RSAPublicKey` into modulus and exponent, both without leading zeros.
pub(super) fn rsa_components(der: &[u8]) -> (&[u8], &[u8]) {
    let split = || {
        let (sequence, _) = der_value(der, 0x30)?;
        let (n, rest) = der_value(sequence, 0x02)?;
        let (e, _) = der_value(rest, 0x02)?;
        Some((n.strip_prefix(&[0]).unwrap_or(n), e.strip_prefix(&[0]).unwrap_or(e)))
    };
    split().expect("aws-lc writes RSAPublicKey in DER")
}

/// Reads one DER element of the given tag: its content, and what follows it.
fn der_value(input: &[u8], tag: u8) -> Option<(&[u8], &[u8])> {
    let (&found, rest) = input.split_first()?;
    let (&first, mut rest) = rest.split_first()?;
    let mut len = usize::from(first);
    if first & 0x80 != 0 {
        let (octets, after) = rest.split_at_checked(usize::from(first & 0x7f))?;
        len = octets.iter().fold(0, |len, octet| len << 8 | usize::from(*octet));
        rest = after;
    }
    (found == tag).then(|| rest.split_at_checked(len)).flatten()
}

/// Wraps a PKCS#1 `RSAPublicKey` of 2048 bits into a `SubjectPublicKeyInfo`.
pub(super) fn rsa_spki(pkcs1: &[u8]) -> Vec<u8> {
    let long = |tag: u8, len: usize| [tag, 0x82, (len >> 8) as u8, len as u8];
    let bits = pkcs1.len() + 1;
    let total = SPKI_RSA_ALGORITHM.len() + 4 + bits;
    let mut der = long(0x30, total).to_vec();
    der.extend_from_slice(SPKI_RSA_ALGORITHM);
    der.extend_from_slice(&long(0x03, bits));
    der.push(0);
    der.extend_from_slice(pkcs1);
    der
}

pub(super) fn pem(der: &[u8]) -> String {
    let text = BASE64_STANDARD.encode(der);
    let mut pem = "-----BEGIN PUBLIC KEY-----\n".to_owned();
    for (index, letter) in text.chars().enumerate() {
        if index > 0 && index % 64 == 0 {
            pem.push('\n');
        }
        pem.push(letter);
    }
    pem + "\n-----END PUBLIC KEY-----\n"
}

/// `SEQUENCE { OID rsaEncryption, NULL }` (RFC 3279 2.3.1).
const SPKI_RSA_ALGORITHM: &[u8] =
    &[0x30, 0x0d, 0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x01, 0x05, 0x00];
/// Everything of a P-256 `SubjectPublicKeyInfo` before the point (RFC 5480).
pub(super) const SPKI_P256: &[u8] = &[
    0x30, 0x59, 0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x08, 0x2a,
    0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07, 0x03, 0x42, 0x00,
];
/// The same for P-384.
pub(super) const SPKI_P384: &[u8] = &[
    0x30, 0x76, 0x30, 0x10, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x05, 0x2b,
    0x81, 0x04, 0x00, 0x22, 0x03, 0x62, 0x00,
];
/// The same for Ed25519 (RFC 8410).
pub(super) const SPKI_ED25519: &[u8] =
    &[0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hs256_takes_an_empty_key() {
        assert_eq!(hs256(b"", b"m").len(), 32);
    }

    #[test]
    fn s256_matches_the_example_of_rfc_7636_appendix_b() {
        let challenge = s256("dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk");
        assert_eq!(challenge, "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM");
    }
}
