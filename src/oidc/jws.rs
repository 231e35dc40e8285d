//! Signed tokens in compact form, read strictly and verified (RFC 7515, RFC 8725).

use serde_json::{Map, Value};

use super::json::{object, text};
use super::keys::{Keys, SigningAlgorithm};
use crate::secret::from_base64url;

/// A token larger than this is not read at all.
const MAX_TOKEN: usize = 128 * 1024;

/// Why a token was refused before its claims were looked at, as a detail code.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum JwsError {
    /// The algorithm is not one this client asked for.
    Algorithm,
    /// The header demands extensions, or holds what changes the meaning of the rest.
    Critical,
    /// The keys could not be fetched, so that nobody can tell.
    KeysUnavailable,
    /// Not the compact form, or not strict JSON inside.
    Malformed,
    /// No published key fits; newer keys may.
    NoKey,
    /// The signature is not the provider's.
    Signature,
    /// The token is of another kind.
    Type,
}

impl JwsError {
    pub(crate) const fn detail(self) -> &'static str {
        match self {
            Self::Algorithm => "alg",
            Self::Critical => "crit",
            Self::KeysUnavailable => "keys_unavailable",
            Self::Malformed => "malformed",
            Self::NoKey => "kid",
            Self::Signature => "signature",
            Self::Type => "typ",
        }
    }
}

/// A token that was read but not verified: nothing in it may be believed yet.
pub(crate) struct Unverified<'a> {
    alg: SigningAlgorithm,
    kid: Option<String>,
    typed: bool,
    message: &'a [u8],
    payload: &'a str,
    signature: Vec<u8>,
}

/// The claims of a token whose signature is the provider's.
#[derive(Debug)]
pub(crate) struct Verified {
    pub(crate) alg: SigningAlgorithm,
    /// Whether its header says of what kind it is.
    pub(crate) typed: bool,
    pub(crate) claims: Map<String, Value>,
}

impl<'a> Unverified<'a> {
    /// Reads the compact form and judges its header, which only says what *this* side allows:
    /// the algorithm must be among `allowed`, the type among `types` (lower case, without
    /// `application/`) or absent; `jwk`, `jku`, `x5u` and `x5c` are never looked at.
    pub(crate) fn parse(
        token: &'a str,
        allowed: &[SigningAlgorithm],
        types: &[&str],
    ) -> Result<Self, JwsError> {
        if token.len() > MAX_TOKEN {
            return Err(JwsError::Malformed);
        }
        let mut segments = token.split('.');
        let (Some(header), Some(payload), Some(signature), None) =
            (segments.next(), segments.next(), segments.next(), segments.next())
        else {
            return Err(JwsError::Malformed);
        };
        let message = &token.as_bytes()[..header.len() + 1 + payload.len()];
        let header =
            from_base64url(header).and_then(|bytes| object(&bytes)).ok_or(JwsError::Malformed)?;
        // RFC 7515 section 4.1.11: no extension is understood here. RFC 7797 `b64` changes what is
        // signed; `cty` and `enc` speak of something nested or encrypted.
        if ["crit", "b64", "cty", "enc", "zip"].iter().any(|name| header.contains_key(*name)) {
            return Err(JwsError::Critical);
        }
        let alg = text(&header, "alg")
            .and_then(SigningAlgorithm::from_name)
            .filter(|alg| allowed.contains(alg))
            .ok_or(JwsError::Algorithm)?;
        // RFC 8725 section 3.11: a token made for another purpose is not taken for this one.
        match header.get("typ") {
            None => {}
            Some(Value::String(typ)) => {
                let typ = typ.to_ascii_lowercase();
                let typ = typ.strip_prefix("application/").unwrap_or(&typ);
                if !types.contains(&typ) {
                    return Err(JwsError::Type);
                }
            }
            Some(_) => return Err(JwsError::Malformed),
        }
        let kid = match header.get("kid") {
            None => None,
            Some(Value::String(kid)) => Some(kid.clone()),
            Some(_) => return Err(JwsError::Malformed),
        };
        let signature = from_base64url(signature).ok_or(JwsError::Malformed)?;
        let typed = header.contains_key("typ");
        Ok(Self { alg, kid, typed, message, payload, signature })
    }

    /// Verifies the signature and only then reads the claims.
    pub(crate) fn verify(&self, keys: &Keys) -> Result<Verified, JwsError> {
        match keys.verify(self.alg, self.kid.as_deref(), self.message, &self.signature) {
            None => Err(JwsError::NoKey),
            Some(false) => Err(JwsError::Signature),
            Some(true) => {
                let claims = from_base64url(self.payload)
                    .and_then(|bytes| object(&bytes))
                    .ok_or(JwsError::Malformed)?;
                Ok(Verified { alg: self.alg, typed: self.typed, claims })
            }
        }
    }
}
