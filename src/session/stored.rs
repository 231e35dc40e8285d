//! Changing a stored session: always against what was read, never over somebody else's change.

use std::time::Duration;

use bytes::Bytes;

use super::Record;
use super::cache::{Opened, StoredAt};
use super::keeper::Keeper;
use crate::clock::UnixTime;
use crate::store::{Key, StoreError};

impl Keeper {
    /// Replaces a stored record by a newer one, unless somebody else has changed it meanwhile.
    pub(crate) async fn replace(
        &self,
        at: &StoredAt,
        record: &Record,
        now: UnixTime,
    ) -> Result<Option<StoredAt>, StoreError> {
        let Some(store) = &self.store else {
            return Ok(None);
        };
        let value = self.seal_record(&at.key, &at.seal, record);
        let ttl = self.ttl(record, now);
        let swapped = store.swap(&at.key, &at.value, value.clone(), ttl).await?;
        Ok(swapped.then(|| StoredAt { value, ..at.clone() }))
    }

    /// Removes a stored session if it is still as it was read.
    pub(crate) async fn end_record(&self, at: &StoredAt) -> Result<bool, StoreError> {
        match &self.store {
            Some(store) => store.remove_if(&at.key, &at.value).await,
            None => Ok(true),
        }
    }

    /// Asks for the right to refresh a session.
    pub(crate) async fn take_lease(
        &self,
        lease: &Key,
        holder: Bytes,
        ttl: Duration,
    ) -> Result<bool, StoreError> {
        match &self.store {
            Some(store) => store.insert(lease, holder, ttl).await,
            None => Ok(false),
        }
    }

    /// Holds on to the right to refresh; `false` if it is lost.
    pub(crate) async fn renew_lease(
        &self,
        lease: &Key,
        holder: Bytes,
        ttl: Duration,
    ) -> Result<bool, StoreError> {
        match &self.store {
            Some(store) => store.swap(lease, &holder, holder.clone(), ttl).await,
            None => Ok(false),
        }
    }

    /// Gives the right to refresh back; if that fails it lapses by itself.
    pub(crate) async fn release_lease(&self, lease: &Key, holder: &Bytes) {
        if let Some(store) = &self.store {
            let _ = store.remove_if(lease, holder).await;
        }
    }

    pub(crate) fn lease_key(&self, id: &[u8; 16]) -> Key {
        Key::new(&self.settings.prefix, "lease", id)
    }

    /// Reads a stored session anew; `None` if it is gone.
    pub(crate) async fn reread(&self, at: &StoredAt) -> Result<Option<Opened>, StoreError> {
        let Some(store) = &self.store else {
            return Ok(None);
        };
        let value = store.load(&at.key).await?;
        let now = self.clock.now();
        Ok(value.and_then(|value| self.open_stored(at.key.clone(), at.seal.clone(), value, now)))
    }
}
