//! How a session is written down: sealed for cookies, or under a key of its own for the store.

use std::sync::atomic::AtomicU64;
use std::time::Duration;

use bytes::Bytes;
use http::HeaderValue;

use super::Record;
use super::cache::{Opened, StoredAt};
use super::chunk::split;
use super::keeper::Keeper;
use crate::clock::UnixTime;
use crate::cookies::Own;
use crate::seal::Purpose;
use crate::secret::{SecretBytes, base64url};
use crate::store::Key;

impl Keeper {
    pub(super) fn open_sealed(&self, sealed: &[u8], now: UnixTime) -> Option<Record> {
        let name = self.cookies.name(Own::Session(0));
        let plain = self.sealer.open(Purpose::SessionCookie, name.as_bytes(), now, sealed).ok()?;
        Record::decode(&plain)
    }

    /// Seals the id and the key of a stored session for its cookie.
    pub(super) fn seal_handle(
        &self,
        id: &[u8; 16],
        seal: &SecretBytes<32>,
        end: UnixTime,
    ) -> String {
        let name = self.cookies.name(Own::Session(0));
        let plain = [&id[..], seal.expose()].concat();
        base64url(self.sealer.seal(Purpose::StoredSession, name.as_bytes(), end, &plain))
    }

    /// Opens what [`Keeper::seal_handle`] made.
    pub(super) fn open_handle(
        &self,
        sealed: &[u8],
        now: UnixTime,
    ) -> Option<([u8; 16], SecretBytes<32>)> {
        let name = self.cookies.name(Own::Session(0));
        let plain = self.sealer.open(Purpose::StoredSession, name.as_bytes(), now, sealed).ok()?;
        let (id, seal) = plain.split_at_checked(16)?;
        let seal = <[u8; 32]>::try_from(seal).ok()?;
        Some((id.try_into().ok()?, SecretBytes::new(seal)))
    }

    pub(super) fn open_stored(
        &self,
        key: Key,
        seal: SecretBytes<32>,
        value: Bytes,
        now: UnixTime,
    ) -> Option<Opened> {
        let plain = self
            .sealer
            .open_under(seal.expose(), Purpose::SessionRecord, key.as_bytes(), now, &value)
            .ok()?;
        let record = Record::decode(&plain)?;
        Some(self.opened(record, Some(StoredAt { key, seal, value })))
    }

    pub(super) fn opened(&self, record: Record, stored: Option<StoredAt>) -> Opened {
        let marks = self.revocation.keys(
            &record.id,
            &record.issuer,
            &record.subject,
            record.sid.as_deref(),
        );
        Opened {
            facts: record.facts(),
            keeper: self.me.clone(),
            record,
            marks,
            stored,
            seen_epoch: AtomicU64::new(0),
            seen_at: AtomicU64::new(0),
        }
    }

    pub(super) fn sealed_cookies(
        &self,
        record: &Record,
        now: UnixTime,
    ) -> Option<Vec<HeaderValue>> {
        let values = self.sealed_values(record)?;
        Some(self.chunk_cookies(&values, record.absolute_end, now))
    }

    pub(super) fn sealed_values(&self, record: &Record) -> Option<Vec<String>> {
        let name = self.cookies.name(Own::Session(0));
        let sealed = self.sealer.seal(
            Purpose::SessionCookie,
            name.as_bytes(),
            record.absolute_end,
            &record.encode(),
        );
        split(&base64url(sealed), self.settings.max_cookie_bytes)
    }

    pub(super) fn chunk_cookies(
        &self,
        values: &[String],
        end: UnixTime,
        now: UnixTime,
    ) -> Vec<HeaderValue> {
        let cookie = |(chunk, value): (usize, &String)| {
            self.cookies.set(Own::Session(chunk), value, end.since(now))
        };
        values.iter().enumerate().map(cookie).collect()
    }

    pub(super) fn seal_record(&self, key: &Key, seal: &SecretBytes<32>, record: &Record) -> Bytes {
        self.sealer
            .seal_under(
                seal.expose(),
                Purpose::SessionRecord,
                key.as_bytes(),
                record.absolute_end,
                &record.encode(),
            )
            .into()
    }

    pub(super) fn ttl(&self, record: &Record, now: UnixTime) -> Duration {
        let idle_end = record.idle_end(self.settings.lifetimes.idle);
        // A moment longer than it counts, so that "over" is judged here and not by the store.
        (idle_end.since(now) + Duration::from_secs(1)).min(self.settings.lifetimes.absolute)
    }

    pub(super) fn session_key(&self, id: &[u8; 16]) -> Key {
        Key::new(&self.settings.prefix, "session", id)
    }
}
