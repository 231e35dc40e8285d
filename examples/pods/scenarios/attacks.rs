//! What must not sign anybody in.

use std::error::Error;

use tower_pkce_auth::testing::provider::{IdTokenDraft, TestProvider};

use crate::fleet::Fleet;
use crate::table::Found;

/// Login CSRF: a victim opens the callback of a login that an attacker began and has finished at
/// the provider. Half of the victims are in the middle of a login of their own.
pub async fn login_csrf(fleet: &Fleet, rounds: u32) -> Result<Found, Box<dyn Error>> {
    let (mut as_attacker, mut as_themselves) = (0, 0);
    for round in 0..rounds {
        let callback = fleet.browser("mallory").to_callback("/attack").await?;
        let victim = fleet.browser("alice");
        if round % 2 == 0 {
            victim.to_callback("/own").await?;
        }
        let reply = victim.arrive(&callback).await?;
        let made_at_once = reply.makes_session();
        // Whatever page that is, who is signed in shows at the next click.
        victim.follow(&callback, reply).await?;
        let shown = victim.travel("/account").await?;
        match shown.user() {
            Some("mallory") => as_attacker += 1,
            _ if made_at_once => as_attacker += 1,
            Some("alice") => as_themselves += 1,
            _ => {}
        }
    }
    let result =
        format!("{as_attacker}/{rounds} signed in as the attacker, {as_themselves} as themselves");
    Ok(Found { good: as_attacker == 0 && as_themselves == rounds, result })
}

/// ID tokens that are not for this login: each is refused, and an honest one is taken.
pub async fn forged_id_tokens(fleet: &Fleet) -> Result<Found, Box<dyn Error>> {
    let mut refused = Vec::new();
    let mut wrong = Vec::new();
    for Forgery { name, forge } in FORGERIES {
        fleet.provider.on_id_token(forge);
        let outcome = is_refused(fleet).await;
        fleet.provider.clear_faults();
        match outcome? {
            None => refused.push(name),
            Some(how) => wrong.push(format!("{name}: {how}")),
        }
    }
    let honest = fleet.browser("alice").travel("/honest").await?;
    if !honest.is_for("alice", "/honest") {
        wrong.push(format!("an honest one: {}", honest.describe()));
    }
    if wrong.is_empty() {
        let result = format!("yes: {} each refused; an honest one taken", refused.join(", "));
        return Ok(Found { good: true, result });
    }
    Ok(Found { good: false, result: wrong.join("; ") })
}

/// Returns what happened instead, if a login is not refused.
async fn is_refused(fleet: &Fleet) -> Result<Option<String>, Box<dyn Error>> {
    let browser = fleet.browser("alice");
    let callback = browser.to_callback("/forged").await?;
    let redeemed = redemptions(&fleet.provider);
    let reply = browser.arrive(&callback).await?;
    if redemptions(&fleet.provider) != redeemed + 1 {
        return Ok(Some("the ID token was not even fetched".to_owned()));
    }
    let signed_in = reply.makes_session() || browser.session().is_some();
    let refused = reply.status.as_u16() == 502 && reply.page() == Some("provider-error");
    let how = || format!("{} {:?}, signed in: {signed_in}", reply.status, reply.page());
    Ok((signed_in || !refused).then(how))
}

fn redemptions(provider: &TestProvider) -> u64 {
    provider.counts().token
}

/// A claim or a signature that belongs to something else.
struct Forgery {
    name: &'static str,
    forge: fn(&mut IdTokenDraft),
}

const FORGERIES: [Forgery; 4] = [
    Forgery { name: "signature", forge: |token| token.corrupt(2) },
    Forgery { name: "issuer", forge: |token| token.set("iss", "http://127.0.0.1:9/another") },
    Forgery { name: "audience", forge: |token| token.set("aud", "another-application") },
    Forgery { name: "nonce", forge: |token| token.set("nonce", "of another login") },
];
