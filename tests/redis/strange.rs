//! Servers that are too old, other than they seem, or out of order.

use std::time::Duration;

use bytes::Bytes;
use tower_pkce_auth::{RedisStore, Store, StoreErrorKind};

use crate::fake::{Act, Fake, well};
use crate::tools::{LONG, bounded, key, shown, store};

#[tokio::test]
async fn a_server_that_is_too_old_is_named_at_the_first_connection() {
    let without_hello = |message: &'static str| {
        move |command: &[String]| match command[0].as_str() {
            "HELLO" => Act::Say(format!("-ERR {message}\r\n")),
            _ => Act::Say(well(command, "redis", "5.0.14")),
        }
    };
    let redis_5 = "unknown command `HELLO`, with args beginning with: `3`, ";
    for (case, fake, named) in [
        ("6.0", Fake::of_version("redis", "6.0.16").await, "6.0.16"),
        // What a provider of a service calls a late 6.0, with a `HELLO` that needs no protocol.
        ("6.1", Fake::of_version("redis", "6.1.240").await, "6.1.240"),
        ("5", Fake::start(without_hello(redis_5)).await, "older than 6.0"),
    ] {
        let store = store(&fake.url());
        for call in 0..2 {
            let error = bounded(case, store.load(&key())).await.unwrap_err();
            assert_eq!(error.kind(), StoreErrorKind::Unavailable, "{case}");
            let shown = shown(&error);
            assert!(shown.contains(named) && shown.contains("6.2"), "{case}, {call}: {shown}");
        }
        assert_eq!(fake.count("GET"), 0, "{case}: nothing was asked of it");
    }
}

#[tokio::test]
async fn servers_that_are_new_enough_are_accepted() {
    for (name, version) in [
        ("redis", "6.2.0"),
        ("redis", "6.10.1"),
        ("redis", "7.0.15"),
        ("redis", "8.2.1"),
        ("redis", "10.0.0"),
        ("redis", "255.255.255"),
        ("valkey", "8.1.3"),
        // Nobody knows how old this is: then it is asked.
        ("other", "unstable"),
        ("other", ""),
    ] {
        let fake = Fake::of_version(name, version).await;
        let answer = bounded(&format!("{name} {version}"), store(&fake.url()).load(&key())).await;
        assert_eq!(answer.unwrap(), None, "{name} {version}");
    }
}

#[tokio::test]
async fn a_server_that_is_none_is_an_error_in_time() {
    let say = |text: &'static str| move |_: &[String]| Act::Say(text.to_owned());
    for (case, fake) in [
        ("HTTP", Fake::start(say("HTTP/1.1 400 Bad Request\r\n\r\n")).await),
        ("binary", Fake::start(say("\0\u{1}\u{2}\u{3}\r\n")).await),
        ("an array without end", Fake::start(say("*99999999999999999999\r\n")).await),
        ("a string of exabytes", Fake::start(say("$9223372036854775807\r\n")).await),
        ("deeply nested", Fake::start(|_| Act::Say("*1\r\n".repeat(100_000))).await),
        ("closes at once", Fake::start(|_| Act::Close).await),
        ("never answers", Fake::start(|_| Act::Hang).await),
    ] {
        let patience = Duration::from_millis(200);
        let store = RedisStore::builder(&fake.url());
        let store = store.connect_timeout(patience).response_timeout(patience).build().unwrap();
        let (key, value) = (key(), Bytes::from_static(b"1"));
        for call in ["load", "insert", "swap", "take", "remove_if"] {
            let answer = async {
                match call {
                    "load" => store.load(&key).await.map(drop),
                    "insert" => store.insert(&key, value.clone(), LONG).await.map(drop),
                    "swap" => store.swap(&key, &value, value.clone(), LONG).await.map(drop),
                    "take" => store.take(&key).await.map(drop),
                    _ => store.remove_if(&key, &value).await.map(drop),
                }
            };
            let what = format!("{case}, {call}");
            let error = bounded(&what, answer).await.expect_err(&what);
            assert_ne!(error.kind(), StoreErrorKind::Full, "{what}");
            assert!(std::error::Error::source(&error).is_some(), "{what}: {error:?}");
        }
    }
}

/// After its greeting the server answers everything by this.
async fn after_hello(act: impl Fn() -> Act + Send + Sync + 'static) -> Fake {
    Fake::start(move |command| match command[0].as_str() {
        "HELLO" | "CLIENT" | "INFO" | "ROLE" => Act::Say(well(command, "redis", "7.0.15")),
        _ => act(),
    })
    .await
}

#[tokio::test]
async fn an_answer_of_another_type_is_an_error_and_not_an_absent_value() {
    let mut accepted = Vec::new();
    for wrong in [
        "*1\r\n$1\r\na\r\n",
        "%1\r\n$1\r\na\r\n$1\r\nb\r\n",
        "-WRONGTYPE Operation against a key holding the wrong kind of value\r\n",
        "-ERR something\r\n",
        "-LOADING Redis is loading the dataset in memory\r\n",
        "-MASTERDOWN Link with MASTER is down\r\n",
    ] {
        let fake = after_hello(move || Act::Say(wrong.to_owned())).await;
        let store = store(&fake.url());
        let (key, value) = (key(), Bytes::from_static(b"1"));
        for (call, error) in [
            ("load", store.load(&key).await.err()),
            ("take", store.take(&key).await.err()),
            ("insert", store.insert(&key, value.clone(), LONG).await.err()),
            ("swap", store.swap(&key, &value, value.clone(), LONG).await.err()),
            ("remove_if", store.remove_if(&key, &value).await.err()),
        ] {
            let Some(error) = error else {
                accepted.push((call, wrong));
                continue;
            };
            assert_eq!(error.kind(), StoreErrorKind::Unavailable, "{call} {wrong:?}");
            assert!(std::error::Error::source(&error).is_some(), "{call} {wrong:?}");
        }
    }
    assert!(accepted.is_empty(), "{accepted:?}");
}

#[tokio::test]
async fn only_what_the_server_says_is_full() {
    for (text, kind) in [
        ("-OOM command not allowed when used memory > 'maxmemory'.\r\n", StoreErrorKind::Full),
        ("-ERR OOM\r\n", StoreErrorKind::Unavailable),
        ("-MISCONF Redis is configured to save RDB snapshots\r\n", StoreErrorKind::Unavailable),
        ("-NOREPLICAS Not enough good replicas to write.\r\n", StoreErrorKind::Unavailable),
    ] {
        let fake = after_hello(move || Act::Say(text.to_owned())).await;
        let error = store(&fake.url()).insert(&key(), Bytes::new(), LONG).await.unwrap_err();
        assert_eq!(error.kind(), kind, "{text}");
    }
}

#[tokio::test]
async fn a_link_that_swallows_commands_is_given_up_and_made_anew() {
    let fake = after_hello(|| Act::Hang).await;
    let store = RedisStore::builder(&fake.url()).response_timeout(Duration::from_millis(50));
    let store = store.build().unwrap();
    for round in 0..3 {
        // Two time-outs are enough; from then on nobody waits, and a probe makes another connection.
        let mut time_outs = 0;
        loop {
            let error = bounded("a swallowed command", store.load(&key())).await.unwrap_err();
            match error.kind() {
                StoreErrorKind::TimedOut => time_outs += 1,
                StoreErrorKind::Unavailable if time_outs == 2 => break,
                StoreErrorKind::Unavailable => {
                    // The probe is still under way.
                    assert_eq!(time_outs, 0, "{round}");
                    tokio::time::sleep(Duration::from_millis(10)).await;
                }
                other => panic!("{round}: {other:?}"),
            }
        }
        assert_eq!(fake.connections(), round + 1, "one connection at a time");
    }
}

#[tokio::test]
async fn what_was_sent_and_not_answered_is_sent_again_only_if_it_is_a_read() {
    let fake = after_hello(|| Act::Close).await;
    let store = store(&fake.url());
    let (key, value) = (key(), Bytes::from_static(b"1"));
    store.load(&key).await.unwrap_err();
    assert_eq!(fake.count("GET"), 2, "a read is repeated, once");
    store.insert(&key, value.clone(), LONG).await.unwrap_err();
    store.take(&key).await.unwrap_err();
    store.swap(&key, &value, value.clone(), LONG).await.unwrap_err();
    store.remove_if(&key, &value).await.unwrap_err();
    assert_eq!((fake.count("SET"), fake.count("GETDEL"), fake.count("EVALSHA")), (1, 1, 2));
}
