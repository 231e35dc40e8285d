//! Making a session from a completed login.

use http::{HeaderMap, HeaderValue};

use super::keeper::{Keeper, unavailable};
use super::revocation::Counter;
use super::{Record, Refresh, Sessions, Tokens};
use crate::clock::UnixTime;
use crate::cookies::Own;
use crate::error::{AuthError, ErrorKind};
use crate::evolve::Later;
use crate::seal::Purpose;
use crate::secret::{SecretBytes, base64url, random};
use crate::store::{StoreErrorKind, join};

/// What a completed login says.
pub(crate) struct Login {
    pub(crate) subject: String,
    pub(crate) sid: Option<String>,
    pub(crate) acr: Option<String>,
    pub(crate) auth_time: Option<UnixTime>,
    pub(crate) claims: serde_json::Map<String, serde_json::Value>,
    /// When the provider wants the session to be over.
    pub(crate) session_expiry: Option<UnixTime>,
    /// The counter as noted when the login began.
    pub(crate) begun: Option<Counter>,
    pub(crate) id_token: String,
    pub(crate) nonce: String,
    pub(crate) refresh: Option<Refresh>,
}

/// A logout hint that is larger does not fit into a cookie beside its seal, nor into a URL.
pub(super) const MAX_HINT: usize = 3_500;

impl Keeper {
    /// Makes the session of a completed login, with a new id.
    ///
    /// # Errors
    ///
    /// `SignedOutMeanwhile` if a logout arrived while the login was under way,
    /// `SessionTooLarge`, or `StoreUnavailable`; no session exists then.
    pub(crate) async fn establish(
        &self,
        login: Login,
        headers: &HeaderMap,
    ) -> Result<Vec<HeaderValue>, AuthError> {
        let now = self.clock.now();
        let id: [u8; 16] = random();
        let issuer = self.settings.issuer.clone();
        if login.begun.is_none() {
            // The store had no room for the counter when the login began; it may have now. Without
            // one the session is of no incarnation, and ends when one appears.
            let _ = self.revocation.counter().await;
        }
        let keys = self.revocation.keys(&id, &issuer, &login.subject, login.sid.as_deref());
        let mut absolute_end = now + self.settings.lifetimes.absolute;
        if let Some(expiry) = login.session_expiry {
            absolute_end = absolute_end.min(expiry);
        }
        // All on their way at once. Whoever ends a `sid` that is recorded leaves a mark: it is among
        // those read here, or it is newer than they are.
        let (marks, (person, ())) = join(
            self.revocation.marks(&keys),
            join(
                self.load_person(&login.subject),
                self.record_sid(login.sid.as_deref(), &login.subject, absolute_end),
            ),
        )
        .await;
        let marks = marks.map_err(|error| unavailable(&error))?;
        if !marks.predate(login.begun) {
            self.revocation.adopt(&keys).await;
            return Err(AuthError::new(ErrorKind::SignedOutMeanwhile, "marked"));
        }
        if !marks.are_none() {
            self.revocation.keep(&keys).await;
        }
        let mut record = Record {
            id,
            issuer,
            subject: login.subject,
            sid: login.sid,
            acr: login.acr,
            auth_time: login.auth_time,
            claims: serde_json::Value::Object(login.claims).to_string(),
            created: now,
            absolute_end,
            last_seen: now,
            baseline: marks.baseline,
            tokens: None,
            later: Later::default(),
        };
        let lifetime = absolute_end.since(now);
        let stored = match (self.settings.kind, &self.store) {
            (Sessions::Stored, Some(store)) => {
                record.tokens = Some(Tokens {
                    id: Some(login.id_token.clone()),
                    nonce: Some(login.nonce),
                    refresh: login.refresh,
                });
                let seal = SecretBytes::<32>::random();
                let key = self.session_key(&id);
                let value = self.seal_record(&key, &seal, &record);
                let ttl = self.ttl(&record, now);
                // A note about a session that is not made after all does no harm.
                let (inserted, ()) = join(
                    store.insert(&key, value, ttl),
                    self.note_session(&record, true, person.clone()),
                )
                .await;
                match inserted {
                    Ok(true) => Some(self.seal_handle(&id, &seal, absolute_end)),
                    Ok(false) => {
                        return Err(AuthError::new(ErrorKind::StoreUnavailable, "id_taken"));
                    }
                    // The code is spent by now: whoever signed in is let in.
                    Err(error) if error.kind() == StoreErrorKind::Full => {
                        tracing::warn!("the store is full; this session is sealed in the browser");
                        record.tokens = None;
                        None
                    }
                    Err(error) => return Err(unavailable(&error)),
                }
            }
            _ => None,
        };
        let (mut set_cookies, hint) = match &stored {
            Some(handle) => {
                let cookie = self.cookies.set(Own::Session(0), &format!("v1.{handle}"), lifetime);
                (vec![cookie], None)
            }
            None => {
                let cookies = self.sealed_cookies(&record, now).ok_or_else(|| {
                    AuthError::new(ErrorKind::SessionTooLarge, "cookies")
                        .with_hint("keep sessions in a store, or allow fewer claims")
                })?;
                self.note_session(&record, false, person).await;
                (cookies, Some(self.hint_cookie(&id, &login.id_token, absolute_end, now)))
            }
        };
        // Chunks of an older, longer session would only be carried along.
        let written = set_cookies.len();
        for (own, _) in self.cookies.read(headers) {
            if let Own::Session(chunk) = own
                && chunk > 0
                && chunk >= written
            {
                set_cookies.push(self.cookies.remove(own));
            }
        }
        set_cookies.extend(hint);
        Ok(set_cookies)
    }

    fn hint_cookie(
        &self,
        id: &[u8; 16],
        id_token: &str,
        end: UnixTime,
        now: UnixTime,
    ) -> HeaderValue {
        let context = self.hint_context(id);
        let sealed = self.sealer.seal(Purpose::LogoutHint, &context, end, id_token.as_bytes());
        let text = base64url(sealed);
        let fits = id_token.len() <= MAX_HINT && text.len() <= 3_800;
        // An older hint must not stay behind: it would speak of another session.
        if fits {
            self.cookies.set(Own::LogoutHint, &text, end.since(now))
        } else {
            self.cookies.remove(Own::LogoutHint)
        }
    }
}
