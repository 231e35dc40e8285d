//! The checks of OpenID Connect Core 1.0 section 3.1.3.7 on an ID token, in the order of the text.
//!
//! They include everything `openidconnect` checks, and what it leaves out: `azp`, `nbf`, the type
//! of the token, the age of `iat`, `at_hash`, and a leeway for clocks. Each refusal has a detail
//! code of its own; visitors see one message for all of them.

use std::time::Duration;

use serde_json::{Map, Value};

use super::jws::Verified;
use crate::clock::UnixTime;
use crate::seal::sha2;
use crate::secret::{base64url, same};

/// What an ID token is held against.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Expected<'a> {
    pub(crate) issuer: &'a str,
    pub(crate) client_id: &'a str,
    /// Further audiences that may stand beside this client.
    pub(crate) trusted_audiences: &'a [String],
    pub(crate) now: UnixTime,
    pub(crate) leeway: Duration,
    pub(crate) nonce: Nonce<'a>,
    /// The age of the authentication that was asked for.
    pub(crate) max_age: Option<Duration>,
    /// The authentication contexts of which one is demanded; empty for any.
    pub(crate) acr: &'a [String],
    pub(crate) access_token: Option<&'a str>,
}

/// How the `nonce` is judged.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Nonce<'a> {
    /// It must be there and be this one (a login).
    Required(&'a str),
    /// It may be absent, else it must be this one (a refresh; section 12.2).
    IfPresent(&'a str),
}

/// The claims of an ID token that passed every check.
#[derive(Clone, Debug)]
pub(crate) struct IdClaims {
    pub(crate) sub: String,
    pub(crate) sid: Option<String>,
    pub(crate) acr: Option<String>,
    pub(crate) auth_time: Option<UnixTime>,
    /// IPSIE: when the provider wants this session to be over.
    pub(crate) session_expiry: Option<UnixTime>,
    pub(crate) all: Map<String, Value>,
}

/// Nobody's clock is this far off, and no token is this old when it arrives.
const MAX_AGE: Duration = Duration::from_secs(600);
/// OpenID Connect Core 1.0 section 2: `sub` has at most 255 characters.
pub(super) const MAX_SUB: usize = 255;

/// Holds verified claims against what is expected; the error is the detail code.
pub(crate) fn accept(token: Verified, expected: &Expected<'_>) -> Result<IdClaims, &'static str> {
    let claims = token.claims;
    // A logout token is none of ours, whatever else it says (Back-Channel Logout 1.0 section 2.4).
    if claims.contains_key("events") {
        return Err("events");
    }
    // Step 2: the issuer, code point by code point.
    if claims.get("iss").and_then(Value::as_str) != Some(expected.issuer) {
        return Err("iss");
    }
    // Step 3: this client is among the audiences and every other one is trusted.
    let audiences = audiences(claims.get("aud")).ok_or("aud")?;
    if !audiences.contains(&expected.client_id) {
        return Err("aud");
    }
    let trusted = |aud: &&str| {
        *aud == expected.client_id || expected.trusted_audiences.iter().any(|known| known == aud)
    };
    if !audiences.iter().all(trusted) {
        return Err("aud_untrusted");
    }
    // Steps 4 and 5: the authorized party.
    match claims.get("azp") {
        None if audiences.len() > 1 => return Err("azp"),
        None => {}
        Some(azp) if azp.as_str() == Some(expected.client_id) => {}
        Some(_) => return Err("azp"),
    }
    // Steps 6 to 8, the signature and its algorithm, came before: `Verified` has passed them.
    // Step 9: the expiry, with leeway.
    let exp = time(&claims, "exp").flatten().ok_or("exp")?;
    if expected.now >= exp + expected.leeway {
        return Err("exp_past");
    }
    // RFC 7519 section 4.1.5.
    if let Some(nbf) = time(&claims, "nbf")
        && expected.now + expected.leeway < nbf.ok_or("nbf")?
    {
        return Err("nbf_future");
    }
    // Step 10: issued about now.
    let iat = time(&claims, "iat").flatten().ok_or("iat")?;
    if iat > expected.now + expected.leeway {
        return Err("iat_future");
    }
    if expected.now > iat + MAX_AGE + expected.leeway {
        return Err("iat_old");
    }
    // Step 11: the nonce of this very login.
    match (expected.nonce, claims.get("nonce")) {
        (Nonce::Required(sent) | Nonce::IfPresent(sent), Some(Value::String(nonce)))
            if same(nonce.as_bytes(), sent.as_bytes()) => {}
        (Nonce::IfPresent(_), None) => {}
        _ => return Err("nonce"),
    }
    // Step 12: the authentication context, where one was demanded.
    let acr = claims.get("acr").and_then(Value::as_str).map(str::to_owned);
    if !expected.acr.is_empty() && !acr.as_ref().is_some_and(|acr| expected.acr.contains(acr)) {
        return Err("acr");
    }
    // Step 13: the time of the authentication. Providers send 0 and fractions unasked; only what
    // was asked for is judged.
    let auth_time = match time(&claims, "auth_time") {
        Some(None) => return Err("auth_time"),
        auth_time => auth_time.flatten().filter(|time| time.as_secs() > 0),
    };
    if let Some(max_age) = expected.max_age {
        let at = auth_time.ok_or("auth_time")?;
        if at > expected.now + expected.leeway {
            return Err("auth_time_future");
        }
        if expected.now > at + max_age + expected.leeway {
            return Err("auth_time_old");
        }
    }
    // Section 2: who.
    let sub = claims.get("sub").and_then(Value::as_str).ok_or("sub")?;
    if sub.is_empty() || sub.chars().count() > MAX_SUB {
        return Err("sub");
    }
    // Section 3.1.3.8: the access token that came along, if the token speaks of one.
    if let Some(at_hash) = claims.get("at_hash") {
        let hash = expected.access_token.map(|access| {
            let digest = sha2(token.alg.hash_bits(), access.as_bytes());
            base64url(&digest[..digest.len() / 2])
        });
        let matches = at_hash.as_str().zip(hash.as_deref()).is_some_and(|(a, b)| a == b);
        if !matches {
            return Err("at_hash");
        }
    }
    let sid = claims.get("sid").and_then(Value::as_str).filter(|sid| !sid.is_empty());
    let session_expiry = time(&claims, "session_expiry").flatten();
    if session_expiry.is_some_and(|end| end <= expected.now) {
        return Err("session_expiry");
    }
    Ok(IdClaims {
        sub: sub.to_owned(),
        sid: sid.map(str::to_owned),
        acr,
        auth_time,
        session_expiry,
        all: claims,
    })
}

/// Reads `aud`: a string, or a list of nothing but strings; `None` for anything else.
pub(super) fn audiences(aud: Option<&Value>) -> Option<Vec<&str>> {
    match aud? {
        Value::String(one) if !one.is_empty() => Some(vec![one]),
        Value::Array(many) if !many.is_empty() => many.iter().map(Value::as_str).collect(),
        _ => None,
    }
}

/// Reads a NumericDate: `None` if absent, `Some(None)` if it is none.
#[allow(clippy::option_option, reason = "absent and malformed are told apart by one caller")]
pub(super) fn time(claims: &Map<String, Value>, name: &str) -> Option<Option<UnixTime>> {
    let value = claims.get(name)?;
    // Fractions are allowed (RFC 7519 section 2); beyond 2^53 nothing is a date.
    let seconds = value.as_f64().filter(|s| (0.0..9_007_199_254_740_992.0).contains(s));
    #[allow(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "the range is checked"
    )]
    Some(seconds.map(|s| UnixTime::from_secs(s as u64)))
}
