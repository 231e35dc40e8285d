//! What a spy at the server, or a thief of its disk, learns from logins and sessions: nothing that
//! is secret and nobody's name.

#[path = "redis/secrets.rs"]
mod secrets;
#[path = "real/servers.rs"]
mod servers;
mod support;
#[path = "support/tokens.rs"]
mod tokens;

use std::collections::BTreeSet;
use std::time::Duration;

use axum::http::StatusCode;
use secrets::{Secrets, arguments};
use servers::{Dump, Options, Redis};
use support::{Browser, World, parameter};
use tower_pkce_auth::testing::provider::{TestProvider, TestUser};
use tower_pkce_auth::{Pending, RedisStore, Sessions};

const SUBJECT: &str = "canary-subject";

/// A provider that says a lot about somebody.
async fn world(secrets: &Secrets) -> World {
    let provider =
        TestProvider::builder().refresh_tokens(true).expires_in(Duration::from_secs(300));
    let world = World::with_provider(provider).await;
    let user = TestUser::new(SUBJECT).name("Canary Person").email("canary@example.com", true);
    world.provider.add_user(user.group("canary-group"));
    for (name, text) in [
        ("subject", SUBJECT),
        ("name", "Canary Person"),
        ("e-mail", "canary@example.com"),
        ("group", "canary-group"),
    ] {
        secrets.add(name, text);
    }
    let sink = secrets.clone();
    world.provider.on_token_response(move |response| {
        for name in ["access_token", "refresh_token", "id_token"] {
            let token = response[name].as_str().unwrap();
            sink.add(name, token);
            // Any part of a token is enough to recognise it.
            token.split('.').for_each(|part| sink.add(name, part));
        }
    });
    world
}

/// Signs in, and writes down what passed through the browser. `during` happens while the browser is
/// at the provider.
async fn sign_in(browser: &mut Browser, secrets: &Secrets, during: impl FnOnce()) {
    let url = browser.to_provider("/canary-target").await;
    for name in ["state", "nonce", "code_challenge"] {
        secrets.add(name, &parameter(&url, name).unwrap());
    }
    add_cookies(browser, secrets);
    during();
    let location = browser.provider.authorize_as(&url, &browser.user).await.unwrap();
    secrets.add("code", &parameter(&location, "code").unwrap());
    let callback = browser.local(&location);
    let reply = browser.get(&callback).await;
    assert_eq!(browser.follow(reply).await.body, SUBJECT);
    add_cookies(browser, secrets);
}

fn add_cookies(browser: &Browser, secrets: &Secrets) {
    for ((name, _), value) in &browser.jar.0 {
        secrets.add(name, value);
        if let Some((_, sealed)) = value.split_once('.') {
            secrets.add(name, sealed);
        }
    }
}

/// Everything that lies in the server, and the file on its disk.
fn assert_shows_nothing(secrets: &Secrets, dump: &Dump) {
    secrets.assert_absent(&dump.file, "the dump");
    for (key, value) in &dump.entries {
        secrets.assert_absent(key.as_bytes(), "a key");
        secrets.assert_absent(value, key);
    }
}

/// What keys are made of, as the documentation of `Store` says.
fn documented() -> BTreeSet<String> {
    let documentation = include_str!("../src/store/mod.rs");
    let rows = documentation.lines().filter_map(|line| line.strip_prefix("/// | `<prefix>:"));
    rows.map(|row| row.split(':').next().unwrap().to_owned()).collect()
}

/// The middle of a key; its end must be a hash.
fn purpose(key: &str) -> &str {
    let mut parts = key.split(':');
    let (prefix, purpose, hash) = (parts.next(), parts.next().unwrap(), parts.next().unwrap());
    assert_eq!((prefix, parts.next()), (Some("auth"), None), "{key}");
    assert!(hash.len() == 64 && hash.bytes().all(|b| b.is_ascii_hexdigit()), "{key}");
    purpose
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs redis-server; scripts/test runs it"]
async fn monitor_keys_values_and_dumps_show_no_secret_and_nobody() {
    let secrets = Secrets::default();
    let world = world(&secrets).await;
    let redis = Redis::start(Options::default());
    let monitor = redis.monitor();
    let mut dumps = Vec::new();
    for (pending, sessions) in [
        (Pending::Store, Sessions::Stored),
        (Pending::Sealed, Sessions::Stored),
        (Pending::Store, Sessions::Sealed),
    ] {
        let builder = world.builder().store(RedisStore::new(&redis.url()).unwrap());
        let builder = builder
            .pending(pending)
            .sessions(sessions)
            .frontchannel_logout(true)
            .scope("profile")
            .scope("email");
        let app = world.app(&builder.build().unwrap());
        let mut browser = world.browser(&app, SUBJECT);
        sign_in(&mut browser, &secrets, || dumps.push(redis.dump())).await;
        dumps.push(redis.dump());
        // Long enough for a refresh, where there is one; shorter than the session is idle.
        world.clock.advance(Duration::from_secs(271));
        assert_eq!(browser.who().await.as_deref(), Some(SUBJECT));
        add_cookies(&browser, &secrets);
        dumps.push(redis.dump());
        let id_token = world.provider.issued_id_tokens().pop().unwrap();
        let sid = tokens::sid(&id_token);
        let token = tokens::token(&world, Some(SUBJECT), Some(&sid));
        secrets.add("sid", &sid);
        secrets.add("logout_token", &token);
        tokens::log_out(&world, &app, (Some(SUBJECT), Some(&sid)), "a report").await;
        dumps.push(redis.dump());
        // The note of the first login, which browsers drop after a minute.
        browser.jar.0.retain(|(name, _), _| !name.ends_with("-n"));
        sign_in(&mut browser, &secrets, || dumps.push(redis.dump())).await;
        assert_eq!(browser.post("/auth/logout?everywhere=1").await.status, StatusCode::SEE_OTHER);
        dumps.push(redis.dump());
    }
    for request in world.provider.token_requests() {
        for name in ["code_verifier", "refresh_token"] {
            secrets.add(name, request.form_value(name).unwrap_or_default());
        }
    }
    for name in ["code_verifier", "refresh_token", "id_token", "state", "nonce", "code"] {
        assert!(secrets.count(name) >= 2, "{name}: nothing to look for");
    }

    let mut seen = BTreeSet::new();
    for dump in &dumps {
        assert_shows_nothing(&secrets, dump);
        assert!(!dump.entries.is_empty());
        seen.extend(dump.entries.keys().map(|key| purpose(key).to_owned()));
    }
    let lines = monitor.lines();
    for line in &lines {
        secrets.assert_absent(line.as_bytes(), "MONITOR");
        for argument in arguments(line) {
            secrets.assert_absent(&argument, line);
            if let Ok(key) = std::str::from_utf8(&argument)
                && key.starts_with("auth:")
            {
                seen.insert(purpose(key).to_owned());
            }
        }
    }
    println!("{} secrets in {} commands and {} dumps", secrets.len(), lines.len(), dumps.len());
    assert_eq!(seen, documented(), "the documented keys, and all of them");
}

/// The search finds what is there, in every spelling and every place.
#[tokio::test]
#[ignore = "needs redis-server; scripts/test runs it"]
async fn the_search_finds_a_planted_secret_in_every_spelling() {
    let redis = Redis::start(Options::default());
    let monitor = redis.monitor();
    let secrets = Secrets::default();
    secrets.add("planted", "canary~with/odd+letters");
    for spelling in secrets::spellings_of(b"\x01\xff--canary~with/odd+letters--") {
        redis.cli(&["FLUSHALL"]);
        // By a script, so that any byte can be written.
        let bytes: String = spelling.iter().map(|byte| format!("\\{byte:03}")).collect();
        redis.cli(&["EVAL", &format!("redis.call('SET', 'auth:planted', \"{bytes}\")"), "0"]);
        let dump = redis.dump();
        assert!(secrets.found(&dump.file).is_some(), "the dump: {spelling:?}");
        assert!(secrets.found(&dump.entries["auth:planted"]).is_some(), "a value: {spelling:?}");
        let lines = monitor.lines();
        let set = lines.iter().rfind(|line| line.contains("\"SET\"")).unwrap();
        assert!(arguments(set).iter().any(|part| secrets.found(part).is_some()), "{set}");
    }
    assert_eq!(secrets.found(b"canary~with/odd-letters"), None);
}
