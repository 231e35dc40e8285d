//! Ending a session, here and wherever it can be presented.

use std::time::Duration;

use http::{HeaderMap, HeaderValue};

use super::SessionRef;
use super::cache::Opened;
use super::chunk::{Held, Presented};
use super::establish::MAX_HINT;
use super::keeper::Keeper;
use super::revocation::Target;
use crate::cookies::{MAX_CHUNKS, Own};
use crate::seal::Purpose;
use crate::secret::from_base64url;
use crate::store::StoreError;

/// A mark outlives its session by as much as clocks of pods may be apart.
const MARGIN: Duration = Duration::from_secs(300);

impl Keeper {
    /// Ends a session everywhere it can be presented.
    pub(crate) async fn end(&self, session: &SessionRef) -> Result<(), StoreError> {
        self.watches.end(&session.id);
        if let (true, Some(store)) = (session.stored, &self.store) {
            store.take(&self.session_key(&session.id)).await?;
            return Ok(());
        }
        let ttl = session.ends.since(self.clock.now()) + MARGIN;
        self.revocation.mark(Target::Session(&session.id), ttl).await
    }

    /// Returns what a browser holds, without asking the store: enough to end it later.
    pub(crate) fn claimed(&self, headers: &HeaderMap) -> Vec<SessionRef> {
        let now = self.clock.now();
        let (candidates, _) = Presented::read(&self.cookies, headers);
        let held = candidates.into_iter().flatten().filter_map(|presented| presented.decode());
        held.filter_map(|held| match held {
            Held::Stored(sealed) => {
                let (id, _) = self.open_handle(&sealed, now)?;
                Some(SessionRef { id, stored: true, ends: now + self.settings.lifetimes.absolute })
            }
            Held::Sealed(sealed) => {
                let record = self.open_sealed(&sealed, now)?;
                Some(SessionRef { id: record.id, stored: false, ends: record.absolute_end })
            }
        })
        .collect()
    }

    /// Returns the `Set-Cookie` values that remove every session cookie of a request, and the note
    /// of a completed login with them.
    pub(crate) fn clear(&self, headers: &HeaderMap) -> Vec<HeaderValue> {
        let mut present = [false; MAX_CHUNKS];
        let mut notice = false;
        for (own, _) in self.cookies.read(headers) {
            match own {
                Own::Session(chunk) => present[chunk] = true,
                Own::Notice => notice = true,
                _ => {}
            }
        }
        let chunks = present.iter().enumerate().filter(|(_, present)| **present);
        let mut removals: Vec<_> =
            chunks.map(|(chunk, _)| self.cookies.remove(Own::Session(chunk))).collect();
        if notice {
            removals.push(self.cookies.remove(Own::Notice));
        }
        removals
    }

    /// Returns the ID token kept for the provider's logout, if this session has one.
    pub(crate) fn id_token(&self, opened: &Opened, headers: &HeaderMap) -> Option<String> {
        if let Some(tokens) = &opened.record.tokens {
            // A longer URL is refused by servers; the provider knows the client by its id then.
            return tokens.id.clone().filter(|id_token| id_token.len() <= MAX_HINT);
        }
        let now = self.clock.now();
        let context = self.hint_context(&opened.record.id);
        self.cookies.read(headers).find_map(|(own, value)| {
            if own != Own::LogoutHint {
                return None;
            }
            let sealed = from_base64url(value)?;
            let plain = self.sealer.open(Purpose::LogoutHint, &context, now, &sealed).ok()?;
            String::from_utf8(plain).ok()
        })
    }

    pub(super) fn hint_context(&self, id: &[u8; 16]) -> Vec<u8> {
        let name = self.cookies.name(Own::LogoutHint);
        [name.as_bytes(), b"\0", id].concat()
    }
}
