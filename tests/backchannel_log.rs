//! Back-channel logout (J51): every outcome is in the log, and nothing else. It stands alone, because
//! what is logged anywhere in a process decides what a subscriber of one thread sees.

#[path = "support/log.rs"]
mod log;
#[path = "support/pods.rs"]
mod pods;
mod support;
#[path = "support/tokens.rs"]
mod tokens;

use log::Log;
use pods::Kept;
use support::World;
use tokens::{post, sign_in, token};
use tower_pkce_auth::StoreErrorKind;

#[tokio::test]
async fn j51_every_outcome_is_in_the_log_and_no_token_or_name() {
    let log = Log::default();
    let _guard = log.listen_to_crate();
    let world = World::new().await;
    let (app, store) = Kept::StoredShared.pod(&world, |builder| builder);
    let (_, sid_of_alice) = sign_in(&world, &app, "alice").await;
    let good = token(&world, Some("alice"), Some(&sid_of_alice));
    let forged = world.provider.logout_token(|token| {
        token.set("sub", "alice");
        token.corrupt(2);
    });
    let later = token(&world, Some("alice"), Some(&sid_of_alice));
    log.take();
    for (what, token, wanted) in [
        ("done", &good, "reason=\"done\""),
        ("replayed", &good, "reason=\"replayed\""),
        ("forged", &forged, "detail=\"signature\""),
        ("the store is away", &later, "reason=\"store_unavailable\""),
    ] {
        if what == "the store is away" {
            store.fail(StoreErrorKind::TimedOut);
        }
        post(&app, token).await;
        let text = log.take();
        let lines: Vec<_> =
            text.lines().filter(|line| line.contains("tower_pkce_auth::audit")).collect();
        assert_eq!(lines.len(), 1, "J51 {what}: {text}");
        assert!(lines[0].contains(wanted) && lines[0].contains("INFO"), "J51 {what}: {text}");
        if what == "done" {
            assert!(lines[0].contains("known=1"), "J51: {text}");
            assert!(lines[0].contains("sub=") && lines[0].contains("sid="), "J51: {text}");
        }
        let parts = token.split('.').chain([&*sid_of_alice, "alice"]);
        for secret in parts.filter(|part| !part.is_empty()) {
            assert!(!text.contains(secret), "J51 {what}: {secret} is in the log: {text}");
        }
    }
}
