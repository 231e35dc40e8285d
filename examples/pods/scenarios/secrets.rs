//! What somebody learns who reads all of Redis, and every byte that goes there and comes back.

use std::error::Error;
use std::sync::{Arc, Mutex, PoisonError};

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use memchr::memmem;
use tower_pkce_auth::testing::provider::Endpoint;

use crate::fleet::Fleet;
use crate::redis_tap::{Tap, dump};
use crate::table::Found;

/// A secret to look for.
struct Secret {
    name: &'static str,
    value: Vec<u8>,
}

/// Signs people in, and looks for their secrets in what was read while they did.
pub async fn in_redis(
    fleet: &Fleet,
    tap: &Tap,
    url: &str,
    logins: u32,
) -> Result<Found, Box<dyn Error>> {
    fleet.provider.reset_counts();
    let tokens = Arc::<Mutex<Vec<Secret>>>::default();
    let issued = tokens.clone();
    fleet.provider.on_token_response(move |response| {
        let mut tokens = issued.lock().unwrap_or_else(PoisonError::into_inner);
        for name in ["access_token", "refresh_token", "id_token"] {
            if let Some(token) = response.get(name).and_then(|token| token.as_str()) {
                tokens.push(Secret { name, value: token.into() });
            }
        }
    });
    let read = sign_in(fleet, url, logins).await;
    fleet.provider.clear_faults();
    let Read { mut places, keys: [while_waiting, afterwards], sessions } = read?;
    let relayed = tap.seen();
    let bytes: usize = relayed.iter().map(Vec::len).sum();
    places.extend(relayed);

    let mut secrets = std::mem::take(&mut *tokens.lock().unwrap_or_else(PoisonError::into_inner));
    secrets.extend(seen_by_the_provider(fleet));
    secrets.extend(sessions);
    let found: Vec<&str> =
        secrets.iter().filter(|secret| secret.lies_in(&places)).map(|secret| secret.name).collect();
    // Were nothing to be found for want of looking, this would show it.
    let kinds = ["code_verifier", "state", "nonce", "code", "session", "id_token"];
    let enough = usize::try_from(logins)?;
    let complete = kinds
        .iter()
        .all(|kind| secrets.iter().filter(|secret| secret.name == *kind).count() >= enough);
    let looked = Secret { name: "control", value: b"auth:".to_vec() };
    let sharp =
        while_waiting >= enough && afterwards >= enough && bytes > 0 && looked.lies_in(&places);

    let result = match found.first() {
        None => format!(
            "no: {} secrets of {logins} logins (verifier, nonce, state, code, tokens, session id \
             and key), none in {while_waiting} + {afterwards} keys and values nor in {} KiB on the line",
            secrets.len(),
            bytes / 1024,
        ),
        Some(first) => format!("{} of {} secrets, such as a {first}", found.len(), secrets.len()),
    };
    Ok(Found { good: found.is_empty() && complete && sharp, result })
}

/// What was read of Redis, and the sessions that were made meanwhile.
struct Read {
    places: Vec<Vec<u8>>,
    /// How many keys there were, while logins waited and afterwards.
    keys: [usize; 2],
    sessions: Vec<Secret>,
}

/// Reads all of Redis twice: while logins wait, and when they are done.
async fn sign_in(fleet: &Fleet, url: &str, logins: u32) -> Result<Read, Box<dyn Error>> {
    let mut waiting = Vec::new();
    for _ in 0..logins {
        let browser = fleet.browser("alice");
        let callback = browser.to_callback("/secret").await?;
        waiting.push((browser, callback));
    }
    let while_waiting = dump(url).await?;
    let mut sessions = Vec::new();
    for (browser, callback) in waiting {
        let reply = browser.arrive(&callback).await?;
        let shown = browser.follow(&callback, reply).await?;
        if !shown.is_for("alice", "/secret") {
            return Err(format!("no login: {}", shown.describe()).into());
        }
        let session = browser.session().ok_or("a login without a session")?;
        sessions.extend(parts("session", session.trim_start_matches("v1."), &[16, 48]));
    }
    let afterwards = dump(url).await?;
    let keys = [while_waiting.len(), afterwards.len()];
    let pairs = while_waiting.into_iter().chain(afterwards);
    let places = pairs.flat_map(|(key, value)| [key, value]).collect();
    Ok(Read { places, keys, sessions })
}

/// What the provider was told: in the authorization request, and at the token endpoint.
fn seen_by_the_provider(fleet: &Fleet) -> Vec<Secret> {
    let mut secrets = Vec::new();
    for request in fleet.provider.requests(Endpoint::Authorize) {
        if let Some(state) = request.query_value("state") {
            // Its first 16 bytes name the login; the rest is sealed.
            secrets.extend(parts("state", &state, &[16]));
        }
        if let Some(nonce) = request.query_value("nonce") {
            secrets.extend(parts("nonce", &nonce, &[32]));
        }
    }
    for request in fleet.provider.token_requests() {
        if let Some(verifier) = request.form_value("code_verifier") {
            secrets.extend(parts("code_verifier", verifier, &[32]));
        }
        if let Some(code) = request.form_value("code") {
            secrets.push(Secret { name: "code", value: code.into() });
        }
    }
    secrets
}

/// A secret as text, and the bytes it stands for, up to each of these ends.
fn parts(name: &'static str, text: &str, ends: &[usize]) -> Vec<Secret> {
    let mut secrets = vec![Secret { name, value: text.into() }];
    let bytes = BASE64_URL_SAFE_NO_PAD.decode(text).unwrap_or_default();
    let mut begin = 0;
    for end in ends {
        if let Some(part) = bytes.get(begin..*end) {
            secrets.push(Secret { name, value: part.to_vec() });
        }
        begin = *end;
    }
    secrets
}

impl Secret {
    fn lies_in(&self, places: &[Vec<u8>]) -> bool {
        let finder = memmem::Finder::new(&self.value);
        places.iter().any(|place| finder.find(place).is_some())
    }
}
