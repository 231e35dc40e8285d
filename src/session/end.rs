//! Ending a session, here and wherever it can be presented.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use http::{HeaderMap, HeaderValue};

use super::cache::Opened;
use super::chunk::{Held, Presented};
use super::establish::MAX_HINT;
use super::keeper::Keeper;
use super::revocation::{MARK_TTL, Target};
use super::{SessionRef, Sessions};
use crate::cookies::{MAX_CHUNKS, Own};
use crate::seal::Purpose;
use crate::secret::from_base64url;
use crate::store::{StoreError, StoreErrorKind};

/// What is known of sessions that were ended.
pub(crate) struct Ended {
    /// How many are known to have been there.
    pub(crate) known: usize,
    /// The refresh tokens of those that this process had opened, to be revoked.
    pub(crate) refresh_tokens: Vec<String>,
}

/// A mark outlives its session by as much as clocks of pods may be apart.
const MARGIN: Duration = Duration::from_secs(300);

impl Keeper {
    /// Ends a session everywhere it can be presented: marked first, then a stored record is taken.
    /// The mark holds where a fail-over of the store loses the removal; with the record the tokens
    /// go, and a refresh that is under way finds that it came too late.
    ///
    /// After an error both are to be tried again.
    pub(crate) async fn end(&self, session: &SessionRef) -> Result<(), StoreError> {
        self.watches.end(&session.id);
        self.seen.forget(&session.id);
        let ttl = session.ends.since(self.clock.now()) + MARGIN;
        let marked = self.revocation.mark(Target::Session(&session.id), ttl).await;
        let (true, Some(store)) = (session.stored, &self.store) else {
            marked?;
            self.forget(&session.id);
            return Ok(());
        };
        match marked {
            // Nothing can be written, but removed: the session is over by that alone.
            Err(error) if error.kind() == StoreErrorKind::Full => {
                tracing::warn!("the store is full; a session is ended without a mark");
            }
            result => result?,
        }
        store.take(&self.session_key(&session.id)).await?;
        self.forget(&session.id);
        Ok(())
    }

    /// Forgets an opened session that has ended.
    fn forget(&self, id: &[u8; 16]) {
        self.cache.forget_all(|opened| opened.record.id == *id);
    }

    /// Ends every session that `target` names, known here or not: marked first, then the records
    /// that are known are taken. Returns what is known of the ended.
    ///
    /// After an error all of it is to be tried again.
    pub(crate) async fn end_all(&self, target: Target<'_>) -> Result<Ended, StoreError> {
        // Read before the mark is written: whoever is named here is ended by it. A login that
        // begins afterwards is not, and must not be touched.
        let at_hand = self.at_hand(target);
        let subject = match target {
            Target::Sid { sid, .. } if self.settings.record_sids => {
                self.recorded(sid).await?.map(|recorded| recorded.subject)
            }
            Target::SidAndSubject { subject, .. } | Target::Subject { subject, .. } => {
                Some(subject.to_owned())
            }
            Target::Instance | Target::Session(_) | Target::Sid { .. } => None,
        };
        let mut named = match &subject {
            Some(subject) => self.named(subject).await?,
            None => Vec::new(),
        };
        named.retain(|entry| entry.concerns(target));
        self.revocation.mark(target, MARK_TTL).await?;
        self.watches.look(target);
        let mut known: BTreeMap<_, _> =
            named.iter().map(|entry| (entry.id, entry.stored)).collect();
        known.extend(at_hand.iter().map(|opened| (opened.record.id, opened.stored.is_some())));
        // Of everybody's there may be very many; the marks do.
        if let (Some(store), false) = (&self.store, matches!(target, Target::Instance)) {
            for (id, _) in known.iter().filter(|(_, stored)| **stored) {
                store.take(&self.session_key(id)).await?;
            }
        }
        if let Some(subject) = subject.filter(|_| !named.is_empty()) {
            let ids: Vec<_> = named.iter().map(|entry| entry.id).collect();
            self.drop_sessions(&subject, &ids).await;
        }
        self.cache.forget_all(|opened| known.contains_key(&opened.record.id));
        Ok(Ended { known: known.len(), refresh_tokens: refresh_tokens(&at_hand) })
    }

    /// Tells whether a mark reaches every session there is: those that other processes may hold too.
    pub(crate) fn reaches_all(&self) -> bool {
        self.revocation.shared() || self.settings.kind == Sessions::Stored
    }

    /// Returns the sessions that a mark for `target` concerns and that this process has opened.
    pub(crate) fn at_hand(&self, target: Target<'_>) -> Vec<Arc<Opened>> {
        let mut opened = self.cache.all(|opened| target.concerns(&opened.record));
        opened.extend(self.watches.concerned(target));
        opened
    }

    /// Names a person or a provider's session in the log.
    pub(crate) fn pseudonym(&self, kind: &[u8], value: &str) -> String {
        self.sealer.pseudonym(kind, value)
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

/// Returns the refresh tokens of sessions, each once.
pub(crate) fn refresh_tokens(sessions: &[Arc<Opened>]) -> Vec<String> {
    let refresh = |opened: &Arc<Opened>| {
        let tokens = opened.record.tokens.as_ref()?;
        Some(tokens.refresh.as_ref()?.token.clone())
    };
    let mut tokens: Vec<_> = sessions.iter().filter_map(refresh).collect();
    tokens.sort_unstable();
    tokens.dedup();
    tokens
}
