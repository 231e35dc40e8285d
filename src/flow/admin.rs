//! The sessions of people, for the application to list and to end.

use std::fmt;
use std::sync::Arc;

use super::endings::{AUDIT, audit_person, revoke};
use super::{Core, finish};
use crate::clock::UnixTime;
use crate::session::SessionRef;
use crate::session::Sessions;
use crate::session::end::refresh_tokens;
use crate::session::people::Listed;
use crate::session::revocation::Target;
use crate::store::{StoreError, StoreErrorKind};

/// Lists and ends the sessions of people; from [`PkceAuthLayer::sessions`].
///
/// With a shared store what it ends is over on every pod, stored or sealed, and running streams and
/// sockets of this pod hear of it at once, those of other pods within a second or two. Without one
/// it knows and reaches the sessions of this process only.
///
/// Whoever may call it may sign anybody out: put it behind an access rule of its own. It asks for
/// the *subject* of a person, as [`Identity::subject`](crate::Identity::subject) returns it.
///
/// [`PkceAuthLayer::sessions`]: crate::PkceAuthLayer::sessions
///
/// # Examples
///
/// ```
/// use tower_pkce_auth::testing::SignedIn;
/// use tower_pkce_auth::{ClientId, PkceAuthLayer};
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let layer = PkceAuthLayer::builder(
///     "http://localhost:1".parse()?,
///     ClientId::new("app"),
///     "http://localhost".parse()?,
/// )
/// .public_client()
/// .build()?;
/// SignedIn::new("alice").cookie(&layer).await;
/// SignedIn::new("alice").cookie(&layer).await;
///
/// let sessions = layer.sessions();
/// let open = sessions.of_person("alice").await?;
/// assert_eq!(open.len(), 2);
/// assert!(sessions.end("alice", open[0].id()).await?);
/// assert!(!sessions.end("bob", open[1].id()).await?, "it is not bob's");
/// sessions.end_person("alice").await?;
/// assert!(sessions.of_person("alice").await?.is_empty());
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct SessionAdmin {
    core: Arc<Core>,
}

impl SessionAdmin {
    pub(crate) const fn new(core: Arc<Core>) -> Self {
        Self { core }
    }

    /// Returns the live sessions of a person, the newest first; at most a hundred. One whose provider
    /// calls it by a `sid` of more than 256 bytes is not among them.
    ///
    /// # Errors
    ///
    /// [`StoreError`] if the store is away.
    pub async fn of_person(&self, subject: &str) -> Result<Vec<PersonSession>, StoreError> {
        let listed = self.core.keeper.sessions_of(subject).await?;
        Ok(listed.into_iter().map(PersonSession).collect())
    }

    /// Ends one session of a person, by its [`PersonSession::id`]; says whether it was there.
    ///
    /// # Errors
    ///
    /// [`StoreError`] if the store is away: it may go on then, and is to be ended again.
    pub async fn end(&self, subject: &str, session: &str) -> Result<bool, StoreError> {
        let (core, subject, name) = (self.core.clone(), subject.to_owned(), session.to_owned());
        own_task(async move {
            let listed = core.keeper.sessions_of(&subject).await?;
            let Some(Listed { entry, .. }) = listed.into_iter().find(|known| known.name == name)
            else {
                return Ok(false);
            };
            let tokens = refresh_tokens(&core.keeper.at_hand(Target::Session(&entry.id)));
            let session = SessionRef { id: entry.id, stored: entry.stored, ends: entry.ends };
            core.keeper.end(&session).await?;
            core.keeper.drop_sessions(&subject, &[entry.id]).await;
            audit_person(&core, "admin_one", &subject, 1);
            revoke(&core, tokens);
            Ok(true)
        })
        .await
    }

    /// Ends all sessions of a person, the ones that [`of_person`](Self::of_person) does not name too,
    /// and logins of theirs that are under way.
    ///
    /// # Errors
    ///
    /// [`StoreError`] if the store is away: some may go on then, and all are to be ended again.
    pub async fn end_person(&self, subject: &str) -> Result<(), StoreError> {
        let (core, subject) = (self.core.clone(), subject.to_owned());
        own_task(async move {
            let issuer = core.provider.settings().issuer.as_str();
            let target = Target::Subject { issuer, subject: &subject };
            let ended = core.keeper.end_all(target).await?;
            audit_person(&core, "admin_person", &subject, ended.known);
            revoke(&core, ended.refresh_tokens);
            Ok(())
        })
        .await
    }

    /// Ends every session of everybody, and logins that are under way: for the day on which a key
    /// or a laptop was lost.
    ///
    /// # Errors
    ///
    /// [`StoreError`] if the store is away: sessions may go on then, and are to be ended again.
    pub async fn end_everybody(&self) -> Result<(), StoreError> {
        let core = self.core.clone();
        own_task(async move {
            let ended = core.keeper.end_all(Target::Instance).await?;
            tracing::info!(target: AUDIT, "every session was ended");
            revoke(&core, ended.refresh_tokens);
            Ok(())
        })
        .await
    }
}

impl fmt::Debug for SessionAdmin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SessionAdmin(..)")
    }
}

/// Runs to its end even if the caller goes away.
async fn own_task<T: Send + 'static>(
    step: impl Future<Output = Result<T, StoreError>> + Send + 'static,
) -> Result<T, StoreError> {
    match finish(step).await {
        Ok(result) => result,
        Err(error) => Err(StoreError::new(StoreErrorKind::Unavailable).with_source(error)),
    }
}

/// A live session of a person, as [`SessionAdmin::of_person`] lists it.
#[derive(Debug)]
pub struct PersonSession(Listed);

impl PersonSession {
    /// Returns what it is called: a hash, good for naming it to [`SessionAdmin::end`] and for
    /// nothing else.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.0.name
    }

    /// Returns when the person signed in.
    #[must_use]
    pub const fn created(&self) -> UnixTime {
        self.0.entry.created
    }

    /// Returns when the person was last there, as far as this process knows; a session that only
    /// other pods have seen says when it was created.
    #[must_use]
    pub const fn last_seen(&self) -> UnixTime {
        self.0.last_seen
    }

    /// Returns when it ends at the latest. It ends earlier if it is not used.
    #[must_use]
    pub const fn ends(&self) -> UnixTime {
        self.0.entry.ends
    }

    /// Returns where it lives. A sealed one that has ended for want of use is listed until its time
    /// is over: only its browser knows.
    #[must_use]
    pub const fn kept(&self) -> Sessions {
        if self.0.entry.stored { Sessions::Stored } else { Sessions::Sealed }
    }
}
