//! What a refresh brought: held against the session, put into it, or revoked.

use std::sync::Arc;

use serde_json::{Map, Value};
use url::Url;

use super::refresh::due;
use super::refresher::Refresher;
use super::{Record, Refresh};
use crate::clock::UnixTime;
use crate::error::{AuthError, ErrorKind};
use crate::identity::join_claims;
use crate::oidc::id_token::{Expected, IdClaims, Nonce};
use crate::oidc::json::object;
use crate::oidc::provider::Provider;
use crate::oidc::settings::Userinfo;
use crate::oidc::token::Tokens;
use crate::secret::from_base64url;

/// What a refresh brought.
pub(super) struct New {
    tokens: Tokens,
    claims: Option<IdClaims>,
    /// Whether the userinfo endpoint was asked.
    asked: bool,
    /// Its answer, if it gave one.
    userinfo: Option<Map<String, Value>>,
}

impl New {
    /// Holds what came back against the session, and says whether it fits (OpenID Connect Core 1.0
    /// section 12.2).
    pub(super) async fn judge(
        refresher: &Refresher,
        record: &Record,
        mut tokens: Tokens,
        userinfo: Option<&Url>,
    ) -> (Self, bool) {
        let claims = match accept(refresher, record, &tokens).await {
            Ok(claims) => claims,
            Err(error) if error.kind() == ErrorKind::ProviderUnavailable => {
                // Nobody can tell, and an ID token is not needed here: the session goes on with
                // the new tokens and what it knows.
                error.log();
                tokens.id = None;
                None
            }
            Err(error) => {
                error.log();
                return (Self { tokens, claims: None, asked: false, userinfo: None }, false);
            }
        };
        let provider = &refresher.provider;
        let asked = userinfo.is_some() && provider.settings().userinfo != Userinfo::Off;
        let mut more = None;
        if let (Some(endpoint), true) = (userinfo, asked) {
            match provider.userinfo(endpoint, tokens.access.expose(), &record.subject).await {
                Ok(fresh) => more = Some(fresh),
                Err(error) if error.detail() == "sub" => {
                    error.log();
                    return (Self { tokens, claims, asked, userinfo: None }, false);
                }
                // The tokens are new and must be kept; the claims stay as they were.
                Err(error) => error.log(),
            }
        }
        (Self { tokens, claims, asked, userinfo: more }, true)
    }

    /// Puts it into a session whose refresh token of that generation was spent. Lifetimes count from
    /// when the answer was received.
    pub(super) fn put_into(
        &self,
        mut record: Record,
        generation: u32,
        names: &[String],
        received: UnixTime,
    ) -> Record {
        // Rights change only where every source that gave them has spoken: what it leaves out now
        // was taken away.
        let base = match &self.claims {
            Some(claims) => Some(claims.all.clone()),
            // Without a new ID token the one that is kept, which was verified, says what it said.
            None => record
                .tokens
                .as_ref()
                .and_then(|tokens| tokens.id.as_deref())
                .and_then(|kept| object(&from_base64url(kept.split('.').nth(1)?)?)),
        };
        if let Some(kept) = record.tokens.as_mut() {
            let before = kept.refresh.take().map(|refresh| Refresh { generation, ..refresh });
            kept.refresh = due(&self.tokens, before.as_ref(), received);
            if let Some(id) = &self.tokens.id {
                kept.id = Some(id.expose().to_owned());
            }
        }
        let has_spoken = self.userinfo.is_some() || (self.claims.is_some() && !self.asked);
        if let (Some(base), true) = (base, has_spoken) {
            let userinfo = self.userinfo.clone().unwrap_or_default();
            record.claims = Value::Object(join_claims(base, userinfo, names)).to_string();
        }
        if let Some(claims) = &self.claims {
            record.acr = claims.acr.clone().or(record.acr);
            if let Some(expiry) = claims.session_expiry {
                record.absolute_end = record.absolute_end.min(expiry);
            }
        }
        record
    }

    /// Revokes it, if the provider can (RFC 7009).
    pub(super) async fn revoke(&self, provider: &Arc<Provider>) {
        let Ok(snapshot) = provider.snapshot().await else { return };
        let Some(endpoint) = &snapshot.metadata.revocation else { return };
        if let Some(refresh) = &self.tokens.refresh {
            provider.revoke(endpoint, refresh.expose(), "refresh_token").await;
        }
        provider.revoke(endpoint, self.tokens.access.expose(), "access_token").await;
    }
}

/// Checks the ID token of a refresh, if there is one: the same person, the same sign-in.
async fn accept(
    refresher: &Refresher,
    record: &Record,
    tokens: &Tokens,
) -> Result<Option<IdClaims>, AuthError> {
    let Some(id_token) = &tokens.id else { return Ok(None) };
    let settings = refresher.provider.settings();
    let nonce = record.tokens.as_ref().and_then(|tokens| tokens.nonce.as_deref());
    let expected = Expected {
        issuer: settings.issuer.as_str(),
        client_id: settings.client_id.as_str(),
        trusted_audiences: &settings.trusted_audiences,
        now: refresher.clock.now(),
        leeway: settings.leeway,
        nonce: Nonce::IfPresent(nonce.unwrap_or_default()),
        max_age: None,
        acr: &[],
        access_token: Some(tokens.access.expose()),
    };
    let fresh = refresher.provider.id_token(id_token.expose(), &expected).await?;
    if fresh.sub != record.subject {
        return Err(AuthError::new(ErrorKind::IdToken, "sub_changed"));
    }
    let unchanged = match (record.auth_time, fresh.auth_time) {
        (Some(before), Some(now)) => before == now,
        _ => true,
    };
    if !unchanged {
        return Err(AuthError::new(ErrorKind::IdToken, "auth_time_changed"));
    }
    Ok(Some(fresh))
}
