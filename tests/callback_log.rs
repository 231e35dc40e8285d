//! `REJ` (6) of the requirements: each refusal is in the log, once, with its reason and no secret.

#[path = "support/log.rs"]
mod log;
mod support;

use std::time::Duration;

use log::Log;
use support::{World, parameter, with_parameter};
use tower_pkce_auth::testing::provider::{Behaviour, Endpoint};

#[tokio::test]
async fn rej6_a09_c13_c32_every_refused_callback_is_logged_once_with_its_reason() {
    let log = Log::default();
    let _guard = log.listen_to_crate();
    let world = World::new().await;
    let app = world.app(&world.builder().build().unwrap());
    for (case, parameters, reason) in [
        ("no state", &[("state", None)][..], "state_malformed"),
        ("a foreign state", &[("state", Some("foreign"))], "state_malformed"),
        ("no code", &[("code", None)], "callback_malformed"),
        ("another issuer", &[("iss", Some("https://evil.example"))], "issuer_mismatch"),
        ("its error", &[("error", Some("access_denied"))], "access_denied"),
        ("an unknown code", &[("code", Some("unknown"))], "token_endpoint"),
        ("another issuer's error", &[("iss", Some("x")), ("error", Some("x"))], "issuer_mismatch"),
        ("a forged nonce", &[], "id_token"),
        ("no answer", &[], "provider_unavailable"),
        ("no cookie", &[], "login_expired"),
        ("too late", &[], "login_expired"),
    ] {
        let mut browser = world.browser(&app, "alice");
        let callback = browser.to_callback("/deep").await;
        let mut path = callback.clone();
        for (name, value) in parameters {
            path = with_parameter(&path, name, *value);
        }
        match case {
            "a forged nonce" => world.provider.on_id_token(|draft| draft.set("nonce", "forged")),
            "no answer" => world.provider.set_behaviour(Endpoint::Token, Behaviour::Refuse),
            "no cookie" => browser.jar.0.clear(),
            "too late" => world.clock.advance(Duration::from_secs(601)),
            _ => {}
        }
        log.take();
        let reply = browser.get(&path).await;
        world.provider.clear_faults();
        let text = log.text();
        let lines: Vec<_> = text.lines().filter(|line| line.contains(" reason=")).collect();
        assert_eq!(lines.len(), 1, "REJ(6) {case}: {text}");
        assert!(lines[0].contains(&format!("reason=\"{reason}\"")), "{case}: {text}");
        if let Some(error) = &reply.error {
            assert!(lines[0].contains(&error.reference()), "{case}: {text}");
            assert!(reply.body.contains(&error.reference()), "{case}");
        }
        let mut secrets: Vec<_> = browser.jar.0.values().cloned().collect();
        secrets.extend(["code", "state"].into_iter().filter_map(|name| parameter(&callback, name)));
        for request in world.provider.token_requests() {
            secrets.extend(request.form_value("code_verifier").map(str::to_owned));
        }
        for secret in secrets {
            assert!(!text.contains(&secret), "A09 P {case}: {text}");
        }
    }
}
