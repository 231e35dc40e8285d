//! The checks of OpenID Connect Back-Channel Logout 1.0 section 2.6 on a logout token, in the order
//! of the text.
//!
//! Step 1 is decryption: encrypted tokens are not understood, and refused as malformed. Each
//! refusal has a detail code of its own.

use std::time::Duration;

use serde_json::Value;

use super::id_token::{MAX_SUB, audiences, time};
use super::jws::Verified;
use crate::clock::UnixTime;

/// What a logout token is held against.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Expected<'a> {
    pub(crate) issuer: &'a str,
    pub(crate) client_id: &'a str,
    /// Further audiences that may stand beside this client.
    pub(crate) trusted_audiences: &'a [String],
    pub(crate) now: UnixTime,
    pub(crate) leeway: Duration,
    /// Whether the header must say `logout+jwt`.
    pub(crate) type_required: bool,
    /// Whether `exp` may be absent; the age is bounded more strictly then.
    pub(crate) without_exp: bool,
}

/// Whom a logout token that passed every check ends.
#[derive(Clone, Eq, PartialEq)]
pub(crate) struct LogoutClaims {
    pub(crate) whom: Whom,
    /// Names the token, so that it acts once.
    pub(crate) jti: String,
    /// From then on it would be refused for its age.
    pub(crate) until: UnixTime,
}

impl std::fmt::Debug for LogoutClaims {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("LogoutClaims(..)")
    }
}

/// Whom a logout token speaks of.
#[derive(Clone, Eq, PartialEq)]
pub(crate) enum Whom {
    /// A person's session at the provider, if it is this person's.
    Both { sid: String, sub: String },
    /// A session at the provider.
    Sid(String),
    /// Every session of a person.
    Sub(String),
}

/// The member of `events` that makes a token a logout token.
const EVENT: &str = "http://schemas.openid.net/event/backchannel-logout";
/// A logout token is sent when it is made; an older one is a replay, or of no use any more.
const MAX_AGE: Duration = Duration::from_secs(300);
/// The same for a token without an expiry of its own.
const MAX_AGE_WITHOUT_EXP: Duration = Duration::from_secs(120);
/// No identifier of a provider is this long.
const MAX_ID: usize = 1024;

/// Holds verified claims against what is expected; the error is the detail code.
pub(crate) fn accept(
    token: Verified,
    expected: &Expected<'_>,
) -> Result<LogoutClaims, &'static str> {
    let claims = token.claims;
    // Steps 2 and 3, the signature and its algorithm, came before: `Verified` has passed them. What
    // the type may be was judged with the header; here, whether there must be one (section 2.4).
    if expected.type_required && !token.typed {
        return Err("typ");
    }
    // Step 4: issuer, audience and times, as in an ID token.
    if claims.get("iss").and_then(Value::as_str) != Some(expected.issuer) {
        return Err("iss");
    }
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
    if claims.get("azp").is_some_and(|azp| azp.as_str() != Some(expected.client_id)) {
        return Err("azp");
    }
    let (now, leeway) = (expected.now, expected.leeway);
    let iat = time(&claims, "iat").flatten().ok_or("iat")?;
    if iat > now + leeway {
        return Err("iat_future");
    }
    let exp = match time(&claims, "exp") {
        Some(exp) => Some(exp.ok_or("exp")?),
        None if expected.without_exp => None,
        None => return Err("exp"),
    };
    let oldest = if exp.is_some() { MAX_AGE } else { MAX_AGE_WITHOUT_EXP };
    if now > iat + oldest + leeway {
        return Err("iat_old");
    }
    if exp.is_some_and(|exp| now >= exp + leeway) {
        return Err("exp_past");
    }
    // RFC 7519 section 4.1.5.
    if let Some(nbf) = time(&claims, "nbf")
        && now + leeway < nbf.ok_or("nbf")?
    {
        return Err("nbf_future");
    }
    // Step 5: whom. A member that is there must be an identifier.
    let id = |name, longest: usize| match claims.get(name) {
        None => Ok(None),
        Some(Value::String(id)) if !id.is_empty() && id.chars().count() <= longest => {
            Ok(Some(id.clone()))
        }
        Some(_) => Err(name),
    };
    let whom = match (id("sub", MAX_SUB)?, id("sid", MAX_ID)?) {
        (None, None) => return Err("nobody"),
        (None, Some(sid)) => Whom::Sid(sid),
        (Some(sub), None) => Whom::Sub(sub),
        (Some(sub), Some(sid)) => Whom::Both { sid, sub },
    };
    // Step 6: it is an order to log out and nothing else.
    let event = claims.get("events").and_then(Value::as_object).and_then(|all| all.get(EVENT));
    if !event.is_some_and(Value::is_object) {
        return Err("events");
    }
    // Step 7: a nonce would make an ID token of it.
    if claims.contains_key("nonce") {
        return Err("nonce");
    }
    // Step 8, whether it was used before, needs the store; here, by what name.
    let jti = id("jti", MAX_ID)?.ok_or("jti")?;
    let aged = iat + oldest;
    let until = exp.map_or(aged, |exp| exp.min(aged)) + leeway;
    Ok(LogoutClaims { whom, jti, until })
}

#[cfg(test)]
mod tests {
    use serde_json::{Map, json};

    use super::*;
    use crate::oidc::keys::SigningAlgorithm;

    const NOW: u64 = 1_000_000;

    fn claims() -> Map<String, Value> {
        let claims = json!({
            "iss": "https://op", "aud": "app", "iat": NOW, "exp": NOW + 120, "jti": "1",
            "sub": "alice", "sid": "s1", "events": {EVENT: {}},
        });
        claims.as_object().cloned().unwrap()
    }

    fn judge(claims: Map<String, Value>, edit: impl Fn(&mut Expected<'_>)) -> String {
        let trusted = ["api".to_owned()];
        let mut expected = Expected {
            issuer: "https://op",
            client_id: "app",
            trusted_audiences: &trusted,
            now: UnixTime::from_secs(NOW),
            leeway: Duration::from_secs(60),
            type_required: false,
            without_exp: false,
        };
        edit(&mut expected);
        let token = Verified { alg: SigningAlgorithm::Rs256, typed: false, claims };
        match accept(token, &expected) {
            Err(detail) => detail.to_owned(),
            Ok(LogoutClaims { whom: Whom::Both { sid, sub }, .. }) => format!("{sub} {sid}"),
            Ok(LogoutClaims { whom: Whom::Sid(sid), .. }) => format!("- {sid}"),
            Ok(LogoutClaims { whom: Whom::Sub(sub), .. }) => format!("{sub} -"),
        }
    }

    #[test]
    fn j26_to_j34_each_rule_has_its_own_code() {
        let gone = Value::String("(gone)".to_owned());
        let event = |name: &str, value: Value| json!({name: value});
        let long = "x".repeat(1025);
        for (member, value, result) in [
            ("x", json!(1), "alice s1"),
            ("iss", json!("https://op/"), "iss"),
            ("iss", gone.clone(), "iss"),
            ("iss", json!(["https://op"]), "iss"),
            ("aud", gone.clone(), "aud"),
            ("aud", json!("app1"), "aud"),
            ("aud", json!(["app", 5]), "aud"),
            ("aud", json!(["app"]), "alice s1"),
            ("aud", json!(["app", "api"]), "alice s1"),
            ("aud", json!(["app", "other"]), "aud_untrusted"),
            ("azp", json!("other"), "azp"),
            ("azp", json!("app"), "alice s1"),
            ("iat", gone.clone(), "iat"),
            ("iat", json!("now"), "iat"),
            ("iat", json!(NOW + 60), "alice s1"),
            ("iat", json!(NOW + 61), "iat_future"),
            ("iat", json!(NOW - 360), "alice s1"),
            ("iat", json!(NOW - 361), "iat_old"),
            ("exp", gone.clone(), "exp"),
            ("exp", json!("soon"), "exp"),
            ("exp", json!(NOW - 59), "alice s1"),
            ("exp", json!(NOW - 60), "exp_past"),
            ("nbf", json!(NOW + 61), "nbf_future"),
            ("nbf", json!("x"), "nbf"),
            ("sub", gone.clone(), "- s1"),
            ("sub", json!(""), "sub"),
            ("sub", json!(5), "sub"),
            ("sub", json!(null), "sub"),
            ("sub", json!("x".repeat(256)), "sub"),
            ("sid", gone.clone(), "alice -"),
            ("sid", json!(5), "sid"),
            ("sid", json!(""), "sid"),
            ("sid", json!(long), "sid"),
            ("events", gone.clone(), "events"),
            ("events", json!(null), "events"),
            ("events", json!([EVENT]), "events"),
            ("events", json!(EVENT), "events"),
            ("events", json!({}), "events"),
            ("events", event("foobar", json!({})), "events"),
            ("events", event(&EVENT.replace("http:", "https:"), json!({})), "events"),
            ("events", event(&format!("{EVENT}/"), json!({})), "events"),
            ("events", event(EVENT, json!(true)), "events"),
            ("events", event(EVENT, json!("")), "events"),
            ("events", event(EVENT, json!([])), "events"),
            ("events", event(EVENT, json!(null)), "events"),
            ("events", json!({EVENT: {}, "foobar": 1}), "alice s1"),
            ("nonce", json!("x"), "nonce"),
            ("nonce", json!(""), "nonce"),
            ("nonce", json!(null), "nonce"),
            ("jti", gone.clone(), "jti"),
            ("jti", json!(7), "jti"),
            ("jti", json!(""), "jti"),
            ("jti", json!(long), "jti"),
        ] {
            let mut claims = claims();
            if value == gone {
                claims.remove(member);
            } else {
                claims.insert(member.to_owned(), value.clone());
            }
            assert_eq!(judge(claims, |_| {}), result, "{member} = {value:.60}");
        }
        let mut nobody = claims();
        nobody.remove("sub");
        nobody.remove("sid");
        assert_eq!(judge(nobody, |_| {}), "nobody");
    }

    #[test]
    fn j33_j35_the_switches_change_what_they_say() {
        assert_eq!(judge(claims(), |expected| expected.type_required = true), "typ");
        for (age, result) in [(0, "alice s1"), (180, "alice s1"), (181, "iat_old")] {
            let mut claims = claims();
            claims.remove("exp");
            claims.insert("iat".to_owned(), json!(NOW - age));
            assert_eq!(judge(claims, |expected| expected.without_exp = true), result, "{age}");
        }
        // An expiry that is there counts all the same.
        let mut claims = claims();
        claims.insert("exp".to_owned(), json!(NOW - 60));
        assert_eq!(judge(claims, |expected| expected.without_exp = true), "exp_past");
    }
}
