//! Listens to a connection for as long as it is used: whether the server still answers, whether it
//! is still the right one, and what of its settings endangers sessions.

use std::sync::Weak;
use std::time::Duration;

use ::redis::aio::MultiplexedConnection;
use ::redis::{ErrorKind, ServerErrorKind, Value, cmd};

use super::connect::is_master;
use super::is_link_lost;
use super::link::is_redirection;
use super::phase::{Connected, Shared, Trouble};
use crate::clock::{Clock as _, SystemClock};

/// The pause between two beats.
const INTERVAL: Duration = Duration::from_secs(1);
/// The same where sentinels may name another master: what the old one takes until that is noticed is
/// lost.
const WATCHED: Duration = Duration::from_millis(250);
/// The server's settings are looked at with every so manieth beat.
const LOOK: u32 = 30;

/// Beats until the connection is given up.
pub(super) async fn run(shared: Weak<Shared>, connected: Connected) {
    let Connected { generation, mut connection, master, .. } = connected;
    let (mut warned, mut was_master) = (false, false);
    for beat in 0_u32.. {
        let sent = SystemClock.monotonic();
        let role = cmd("ROLE").query_async::<Value>(&mut connection).await;
        let leads_elsewhere = probe(&shared, &mut connection).await;
        // Not held while this sleeps: a store that nobody has any more must end.
        let Some(shared) = shared.upgrade() else { return };
        let is_master = role.as_ref().is_ok_and(is_master);
        let trouble = match &role {
            Err(error) if error.is_timeout() => Some(Trouble::Silent),
            Err(error) if is_link_lost(error) => Some(Trouble::Lost),
            // Whoever was replaced hears of changes late, or never.
            Ok(_) if !is_master && (was_master || shared.address().has_others()) => {
                Some(Trouble::Lost)
            }
            Ok(_) | Err(_) => None,
        };
        if let Some(trouble) = trouble {
            return shared.give_up(generation, trouble);
        }
        was_master |= is_master;
        // Who may not ask is answered all the same. A replica, and a server that reads its data
        // from disk, do not tell of changes in time; one whose keys are elsewhere never does.
        let loading = ErrorKind::Server(ServerErrorKind::BusyLoading);
        let tells = !leads_elsewhere
            && match &role {
                Ok(_) => is_master,
                Err(error) => error.kind() != loading,
            };
        if !shared.heard(generation, sent, tells) {
            return;
        }
        if let Ok(role) = &role {
            shared.replicas().hear(role);
        }
        if beat % LOOK == 0 {
            warned = look(&shared, &mut connection, role.is_err(), warned).await;
        }
        if !shared.address().is_current(master.as_deref()).await {
            tracing::warn!(server = %shared.address().name(), "another server is master now");
            return shared.give_up(generation, Trouble::Lost);
        }
        let interval = if master.is_some() { WATCHED } else { INTERVAL };
        drop(shared);
        tokio::time::sleep(interval).await;
    }
}

/// Tells whether sign-outs that are believed absent here are written to another server of the
/// cluster by now. This one does not tell of it: it never had them.
async fn probe(shared: &Weak<Shared>, connection: &mut MultiplexedConnection) -> bool {
    let key = shared.upgrade().and_then(|shared| shared.probe().clone());
    let Some(key) = key else { return false };
    let answer = cmd("GET").arg(key.as_bytes()).query_async::<Value>(connection).await;
    let Err(error) = answer else { return false };
    if error.kind() == ErrorKind::Server(ServerErrorKind::Moved)
        && let Some(shared) = shared.upgrade()
    {
        // They are none of this server's business any more.
        *shared.probe() = None;
    }
    is_redirection(&error)
}

/// Looks at what the server says of itself, of its replicas too if it does not tell its role. Who may
/// not ask goes without.
async fn look(
    shared: &Shared,
    connection: &mut MultiplexedConnection,
    at_replicas: bool,
    warned: bool,
) -> bool {
    let Ok(info) = cmd("INFO").query_async::<String>(connection).await else { return warned };
    let fields = || info.lines().filter_map(|line| line.trim_end().split_once(':'));
    let field = |name: &str| fields().find(|(found, _)| *found == name).map(|(_, value)| value);
    if at_replicas && field("connected_slaves").is_some_and(|replicas| replicas != "0") {
        shared.replicas().are_there(INTERVAL * (2 * LOOK));
    }
    match field("maxmemory_policy") {
        Some(policy) if policy != "noeviction" => {
            if !warned {
                let server = shared.address().name();
                tracing::warn!(
                    %server,
                    policy,
                    "Redis may evict sessions and sign-outs when memory is short: set \
                     maxmemory-policy to noeviction"
                );
            }
            true
        }
        _ => warned,
    }
}
