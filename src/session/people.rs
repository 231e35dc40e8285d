//! The sessions of a person, so that somebody can look at them and end them.
//!
//! A note in the store names the newest sessions of a person. Each login writes itself into it, by
//! compare-and-swap; what has run out is dropped then. It is an index and no authority: a session
//! that it does not name works all the same, one that it names is judged like any other, and a mark
//! ends the unnamed ones too.

use std::time::Duration;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::Record;
use super::keeper::Keeper;
use super::revocation::{Baseline, Target};
use crate::clock::UnixTime;
use crate::seal::{Purpose, sha256_of};
use crate::secret::{base64url, random};
use crate::store::{Key, Store, StoreError, join};

/// A session as the index knows it: postcard, so the order of fields is the format.
#[derive(Clone, Deserialize, Serialize)]
pub(crate) struct Entry {
    pub(crate) id: [u8; 16],
    sid: Option<String>,
    pub(crate) created: UnixTime,
    pub(crate) ends: UnixTime,
    pub(crate) stored: bool,
    baseline: Baseline,
}

impl std::fmt::Debug for Entry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Who knows a `sid` can end its session by the front channel.
        f.write_str("Entry(..)")
    }
}

/// A live session of a person.
#[derive(Debug)]
pub(crate) struct Listed {
    pub(crate) entry: Entry,
    /// What it is called outside; no secret, and of no use as one.
    pub(crate) name: String,
    /// When its person was last there, as far as this process knows.
    pub(crate) last_seen: UnixTime,
}

/// So many sessions of one person are named; the oldest goes first.
const MAX_ENTRIES: usize = 100;
/// A session with a longer `sid` is not named: one person's note stays small.
const MAX_SID: usize = 256;
/// Attempts at a compare-and-swap.
pub(super) const ATTEMPTS: usize = 16;
/// A note outlives what it names by as much as clocks of pods may be apart.
pub(super) const MARGIN: Duration = Duration::from_secs(300);

impl Keeper {
    pub(super) fn people(&self) -> &dyn Store {
        self.revocation.store()
    }

    fn person_key(&self, subject: &str) -> Key {
        let of = [b"person", &self.sealer.instance()[..], self.issuer(), subject.as_bytes()];
        Key::of_hash(&self.settings.prefix, "person", &sha256_of(&of))
    }

    pub(super) fn issuer(&self) -> &[u8] {
        self.settings.issuer.as_bytes()
    }

    /// Loads the note about a person; with the marks of a login it costs no time of its own.
    pub(super) async fn load_person(&self, subject: &str) -> Option<Bytes> {
        // If it cannot be read the attempt to write it says so.
        self.people().load(&self.person_key(subject)).await.ok().flatten()
    }

    /// Writes a new session into the note about its person, which was `known` a moment ago. A login
    /// does not fail for it.
    pub(super) async fn note_session(&self, record: &Record, stored: bool, known: Option<Bytes>) {
        if record.sid.as_ref().is_some_and(|sid| sid.len() > MAX_SID) {
            return;
        }
        let entry = Entry {
            id: record.id,
            sid: record.sid.clone(),
            created: record.created,
            ends: record.absolute_end,
            stored,
            baseline: record.baseline,
        };
        let changed = self.change(&record.subject, Some(known), |entries| {
            entries.retain(|known| known.id != entry.id);
            entries.push(entry.clone());
            entries.sort_by_key(|entry| entry.created);
            entries.drain(..entries.len().saturating_sub(MAX_ENTRIES));
        });
        if let Err(error) = changed.await {
            tracing::warn!(%error, "a session is not in the list of its person's sessions");
        }
    }

    /// Drops sessions that have ended from the note about a person; if that fails they are judged
    /// each time it is read, and dropped when their time is over.
    pub(crate) async fn drop_sessions(&self, subject: &str, ended: &[[u8; 16]]) {
        let changed = self.change(subject, None, |entries| {
            entries.retain(|entry| !ended.contains(&entry.id));
        });
        if let Err(error) = changed.await {
            tracing::debug!(%error, "ended sessions stay in the list of their person's");
        }
    }

    /// Changes the note about a person, whoever else does so at the same time.
    async fn change(
        &self,
        subject: &str,
        mut known: Option<Option<Bytes>>,
        edit: impl Fn(&mut Vec<Entry>),
    ) -> Result<(), StoreError> {
        let key = self.person_key(subject);
        for attempt in 0..ATTEMPTS {
            if attempt > 1 {
                // Whoever waits a random moment, longer each time, meets fewer of the others.
                let jitter = u64::from(u16::from_be_bytes(random())) % (1 << attempt.min(8));
                tokio::time::sleep(Duration::from_millis(1 + jitter)).await;
            }
            let old = match known.take() {
                Some(known) => known,
                None => self.people().load(&key).await?,
            };
            let now = self.clock.now();
            let mut entries = self.read_person(&key, old.as_ref(), now);
            let before = entries.len();
            edit(&mut entries);
            let Some(last) = entries.iter().map(|entry| entry.ends).max() else {
                // Nobody is named any more. What others have written meanwhile stays.
                return match old {
                    Some(old) if before > 0 && !self.people().remove_if(&key, &old).await? => {
                        continue;
                    }
                    _ => Ok(()),
                };
            };
            let plain = postcard::to_allocvec(&entries).expect("plain fields are encodable");
            let end = last + MARGIN;
            let sealed = self.sealer.seal(Purpose::Person, key.as_bytes(), end, &plain);
            let ttl = end.since(now);
            let written = match &old {
                None => self.people().insert(&key, sealed.into(), ttl).await?,
                Some(old) => self.people().swap(&key, old, sealed.into(), ttl).await?,
            };
            if written {
                return Ok(());
            }
        }
        Err(super::revocation::unsettled())
    }

    /// Reads a note. One that does not open (of keys that were retired, of another format) names
    /// nobody, and is replaced.
    fn read_person(&self, key: &Key, value: Option<&Bytes>, now: UnixTime) -> Vec<Entry> {
        let entries = value.and_then(|value| {
            let plain = self.sealer.open(Purpose::Person, key.as_bytes(), now, value).ok()?;
            postcard::from_bytes::<Vec<Entry>>(&plain).ok()
        });
        let mut entries = entries.unwrap_or_default();
        entries.retain(|entry| entry.ends > now);
        entries
    }

    /// Returns the sessions that the note about a person names, ended or not.
    pub(super) async fn named(&self, subject: &str) -> Result<Vec<Entry>, StoreError> {
        let key = self.person_key(subject);
        let value = self.people().load(&key).await?;
        Ok(self.read_person(&key, value.as_ref(), self.clock.now()))
    }

    /// Returns the live sessions of a person, the newest first.
    pub(crate) async fn sessions_of(&self, subject: &str) -> Result<Vec<Listed>, StoreError> {
        let issuer = &self.settings.issuer;
        let at_hand = self.at_hand(Target::Subject { issuer, subject });
        let mut listed = Vec::new();
        for entry in self.named(subject).await?.into_iter().rev() {
            let keys = self.revocation.keys(&entry.id, issuer, subject, entry.sid.as_deref());
            let record = async {
                match (&self.store, entry.stored) {
                    (Some(store), true) => store.load(&self.session_key(&entry.id)).await,
                    _ => Ok(None),
                }
            };
            let (marks, record) = join(self.revocation.marks(&keys), record).await;
            if marks?.baseline != entry.baseline || (entry.stored && record?.is_none()) {
                continue;
            }
            let here = at_hand.iter().map(|opened| &opened.record);
            let seen = here.filter(|record| record.id == entry.id).map(|record| record.last_seen);
            let last_seen = seen.fold(entry.created, UnixTime::max);
            let name = self.session_name(&entry.id);
            listed.push(Listed { entry, name, last_seen });
        }
        Ok(listed)
    }

    /// Names a session outside: by a hash, so that not even its id is shown.
    fn session_name(&self, id: &[u8; 16]) -> String {
        base64url(&sha256_of(&[b"session-name", self.sealer.instance(), id])[..16])
    }
}

impl Entry {
    /// Tells whether a mark for `target` concerns this session of `subject`.
    pub(super) fn concerns(&self, target: Target<'_>) -> bool {
        match target {
            Target::Instance | Target::Subject { .. } => true,
            Target::Session(id) => self.id == *id,
            Target::Sid { sid, .. } | Target::SidAndSubject { sid, .. } => {
                self.sid.as_deref() == Some(sid)
            }
        }
    }
}
