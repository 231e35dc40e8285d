//! What is remembered for the reports of the provider: which of its sessions some login brought, and
//! which logout tokens have acted.

use std::time::Duration;

use bytes::Bytes;

use super::keeper::Keeper;
use super::people::{ATTEMPTS, MARGIN};
use crate::clock::UnixTime;
use crate::seal::{Purpose, sha256_of};
use crate::store::{Key, StoreError};

/// What a login recorded of the provider's session.
pub(crate) struct Recorded {
    pub(super) subject: String,
    value: Bytes,
}

impl Keeper {
    fn sid_key(&self, sid: &str) -> Key {
        let of = [b"sid", &self.sealer.instance()[..], self.issuer(), sid.as_bytes()];
        Key::of_hash(&self.settings.prefix, "sid", &sha256_of(&of))
    }

    /// Records that a login brought the provider's session `sid`: only such a one can be ended
    /// without a signature. A login does not fail for it.
    pub(super) async fn record_sid(&self, sid: Option<&str>, subject: &str, end: UnixTime) {
        let Some(sid) = sid.filter(|_| self.settings.record_sids) else { return };
        let key = self.sid_key(sid);
        let end = end + MARGIN;
        let ttl = end.since(self.clock.now());
        let value: Bytes =
            self.sealer.seal(Purpose::Sid, key.as_bytes(), end, subject.as_bytes()).into();
        for _ in 0..ATTEMPTS {
            let written = async {
                if self.people().insert(&key, value.clone(), ttl).await? {
                    return Ok(true);
                }
                // An older session of the same `sid` may end sooner.
                match self.people().load(&key).await? {
                    Some(old) => self.people().swap(&key, &old, value.clone(), ttl).await,
                    None => Ok(false),
                }
            };
            match written.await {
                Ok(true) => return,
                Ok(false) => {}
                Err(error) => {
                    let error: StoreError = error;
                    tracing::warn!(%error, "front-channel logout will not find a session");
                    return;
                }
            }
        }
    }

    /// Returns whose the provider's session `sid` is, if some login recorded it.
    pub(crate) async fn recorded(&self, sid: &str) -> Result<Option<Recorded>, StoreError> {
        let key = self.sid_key(sid);
        let value = self.people().load(&key).await?;
        Ok(value.and_then(|value| {
            let now = self.clock.now();
            let plain = self.sealer.open(Purpose::Sid, key.as_bytes(), now, &value).ok()?;
            Some(Recorded { subject: String::from_utf8(plain).ok()?, value })
        }))
    }

    /// Forgets a provider's session that was ended, so that ending it again costs nothing; not if a
    /// login has recorded it anew.
    pub(crate) async fn forget_sid(&self, sid: &str, known: &Recorded) -> Result<(), StoreError> {
        self.people().remove_if(&self.sid_key(sid), &known.value).await.map(drop)
    }
}

/// Which logout tokens have acted.
impl Keeper {
    fn jti_key(&self, jti: &str) -> Key {
        let of = [b"jti", &self.sealer.instance()[..], self.issuer(), jti.as_bytes()];
        Key::of_hash(&self.settings.prefix, "jti", &sha256_of(&of))
    }

    /// Tells whether a token has acted before.
    pub(crate) async fn was_used(&self, jti: &str) -> Result<bool, StoreError> {
        self.people().load(&self.jti_key(jti)).await.map(|known| known.is_some())
    }

    /// Notes that a token has acted; another pod may have noted it at the same time.
    pub(crate) async fn note_use(&self, jti: &str, ttl: Duration) -> Result<(), StoreError> {
        let used = Bytes::from_static(b"1");
        self.people().insert(&self.jti_key(jti), used, ttl).await.map(drop)
    }
}
