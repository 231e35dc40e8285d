//! Endings that reach beyond the request that asked for them: tried again while the store is away,
//! told to the provider, noted for those who look into it later.

use std::collections::HashSet;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::Core;
use crate::clock::UnixTime;
use crate::seal::sha256_of;
use crate::session::SessionRef;
use crate::session::revocation::Target;
use crate::store::StoreError;

/// Which sign-outs wait for the store, each once however often it was asked for.
#[derive(Default)]
pub(crate) struct Endings(Mutex<HashSet<[u8; 32]>>);

impl fmt::Debug for Endings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Endings(..)")
    }
}

impl Endings {
    fn waiting(&self) -> MutexGuard<'_, HashSet<[u8; 32]>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A place among those that wait; it is given back whatever happens.
struct Place {
    core: Arc<Core>,
    name: [u8; 32],
}

impl Drop for Place {
    fn drop(&mut self) {
        self.core.endings.waiting().remove(&self.name);
    }
}

/// Tries to end sessions until it is done or they are over by themselves; `false` if there are too
/// many to try them all.
pub(super) fn keep_trying(core: &Arc<Core>, endings: Vec<Ending>) -> bool {
    for ending in endings {
        let name = ending.name();
        {
            let mut waiting = core.endings.waiting();
            if waiting.contains(&name) {
                continue;
            }
            if waiting.len() >= MAX_ENDINGS {
                tracing::warn!(
                    "too many sign-outs wait for the store; this one ends by its lifetime"
                );
                return false;
            }
            waiting.insert(name);
        }
        let place = Place { core: core.clone(), name };
        tokio::spawn(async move {
            let core = &place.core;
            let mut pause = Duration::from_secs(1);
            while core.clock.now() < ending.until() {
                tokio::time::sleep(pause).await;
                if ending.carry_out(core).await.is_ok() {
                    break;
                }
                pause = (pause * 2).min(LONGEST_PAUSE);
            }
        });
    }
    true
}

/// What somebody who signed out asked for.
pub(super) enum Ending {
    /// Every session of a person; the time when all that were there are over.
    Person(String, UnixTime),
    /// One session.
    Session(SessionRef),
}

impl Ending {
    fn name(&self) -> [u8; 32] {
        match self {
            Self::Person(subject, _) => sha256_of(&[b"person", subject.as_bytes()]),
            Self::Session(session) => sha256_of(&[b"session", &session.id]),
        }
    }

    const fn until(&self) -> UnixTime {
        match self {
            Self::Person(_, until) => *until,
            Self::Session(session) => session.ends,
        }
    }

    /// Carries it out; all of it, if it is done again after an error.
    pub(super) async fn carry_out(&self, core: &Arc<Core>) -> Result<(), StoreError> {
        match self {
            Self::Person(subject, _) => {
                let issuer = core.provider.settings().issuer.as_str();
                let ended = core.keeper.end_all(Target::Subject { issuer, subject }).await?;
                audit_person(core, "sign_out_everywhere", subject, ended.known);
                revoke(core, ended.refresh_tokens);
                Ok(())
            }
            Self::Session(session) => core.keeper.end(session).await,
        }
    }
}

/// Notes for those who look into it later that somebody's sessions were ended.
pub(super) fn audit_person(core: &Core, how: &'static str, subject: &str, known: usize) {
    let sub = core.keeper.pseudonym(b"sub", subject);
    tracing::info!(target: AUDIT, how, sub, known, "sessions of a person were ended");
}

/// Revokes refresh tokens, as far as the provider can; nobody waits for it.
pub(super) fn revoke(core: &Arc<Core>, mut tokens: Vec<String>) {
    if tokens.is_empty() {
        return;
    }
    if tokens.len() > MAX_REVOKED {
        tracing::warn!("too many refresh tokens to revoke at once; some run out by themselves");
        tokens.truncate(MAX_REVOKED);
    }
    let core = core.clone();
    tokio::spawn(async move {
        let Ok(snapshot) = core.provider.snapshot().await else { return };
        let Some(endpoint) = &snapshot.metadata.revocation else { return };
        for token in tokens {
            core.provider.revoke(endpoint, &token, "refresh_token").await;
        }
    });
}

/// Where endings that reach beyond one browser are noted.
pub(super) const AUDIT: &str = "tower_pkce_auth::audit";
/// So many refresh tokens are revoked for one ending, one after the other.
const MAX_REVOKED: usize = 1_000;
/// A sign-out that the store did not hear of is tried again with growing pauses, up to this one.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);
/// So many sign-outs may wait for the store.
const MAX_ENDINGS: usize = 10_000;
